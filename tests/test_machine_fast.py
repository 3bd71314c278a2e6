"""The dot product of bf16 pairs: equal to the chain on both sides of its guard, and every fault of either is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_machine_matmul import SPECIAL, chain

from accel.errors import InputError
from accel.jit import njit
from accel.machine import matmul, products
from accel.machine.dotkernel import DOT
from accel.machine.fast import Trial, fast_path, trials, try_matmul
from accel.machine.guard import fits
from accel.machine.microkernel import chains_at, lefts_at
from accel.plain_twins import twin

needs_dot = pytest.mark.skipif(not DOT, reason="this processor has no bf16 dot product: its guard cannot be tried here")
NO_A, NO_C = (0xFFFF, 0), (0xFFFFFFFF, 0)  # ranges of operands that hold only zeros


def bf16(*rows):
    return (np.array(rows, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def ends(low, high, fraction):
    """Return the range of codes from biased exponent `low` to `high`, as the panels note it."""
    return (low << fraction) - 1, ((high + 1) << fraction) - 1


@needs_dot
def test_the_processor_passes():
    path = fast_path()
    assert path.passed, path.reason
    assert path.on == (os.environ.get("ACCEL_FAST") != "0")


@needs_dot
def test_every_trial_is_proven_and_equals_the_chain():
    for trial in trials():
        bits, proven = try_matmul(trial, fast=True)
        start = None if trial.c is None else np.array(trial.c, np.float32)
        np.testing.assert_array_equal(bits, chain(trial.a, trial.b, start), trial.name)
        m, n = bits.shape
        assert proven == -(-m // 14) * -(-n // 32), trial.name


exponents = st.sampled_from([0, 1, 2, 20, 60, 71, 72, 100, 120, 127, 134, 150, 182, 186, 200, 240, 254])


@st.composite
def near_the_guard(draw):
    m, n, k = draw(st.integers(1, 20)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def codes(shape, low, fraction, bits):
        spread = min(254 - low, draw(st.integers(0, 12)))
        made = rng.integers(low << fraction, (low + spread + 1) << fraction, shape)
        made[rng.random(shape) < draw(st.sampled_from([0.0, 0.3]))] = 0
        return made | (rng.integers(0, 2, shape) << (bits - 1))

    a = codes((m, k), draw(exponents), 7, 16).astype(np.uint16)
    # Half of the time the exponents add up to about one of the guard's bounds.
    bound = draw(st.sampled_from([140, 141, 142, 143, 363, 364, 365]))
    low = int((a & 0x7F80).min()) >> 7
    other = min(254, max(0, bound - low)) if draw(st.booleans()) else draw(exponents)
    b = codes((k, n), other, 7, 16).astype(np.uint16)
    c = codes((m, n), draw(st.sampled_from([0, 1, 22, 23, 24, 25, 60, 127, 251, 252, 253])), 23, 32)
    if draw(st.integers(0, 3)) == 0:
        a[rng.integers(0, m), rng.integers(0, k)] = rng.choice(SPECIAL)
        b[rng.integers(0, k), rng.integers(0, n)] = rng.choice(SPECIAL)
    if draw(st.booleans()):  # neighbours that cancel, to the last bit or all but
        a[:, 1::2] = a[:, : k - k % 2 : 2] ^ (0x8000 | draw(st.integers(0, 1)))
        b[1::2] = b[: k - k % 2 : 2] ^ draw(st.integers(0, 1))
    return a, b, draw(st.sampled_from([None, c.astype(np.uint32).view(np.float32)]))


@needs_dot
@settings(max_examples=400, deadline=None)
@given(near_the_guard())
def test_equals_the_chain_near_the_guard(operands):
    a, b, c = operands
    np.testing.assert_array_equal(try_matmul(Trial("", a, b, c), fast=True)[0], chain(a, b, c))


@needs_dot
def test_blocks_are_judged_one_by_one():
    rng = np.random.default_rng(0)
    a, b = ((rng.standard_normal(s).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            for s in ((40, 600), (600, 100)))  # fmt: skip
    a[20, 300], b[550, 40] = 0x0001, 0x7F80  # a subnormal in the second of three blocks of rows, Inf in the 2nd of 4
    bits, proven = try_matmul(Trial("", a, b, None), fast=True)
    np.testing.assert_array_equal(bits, chain(a, b))
    # 12 blocks twice: steps 0 to 511 lose the 4 of the row; the others the 3 of the column, and what they left is Inf.
    assert proven == (12 - 4) + (12 - 3)


@pytest.mark.parametrize(
    ("a", "b", "c", "answer"),
    [
        ((71, 130), (71, 130), None, True),
        ((71, 130), (70, 130), None, False),  # a product could be a multiple of 2^-127 only
        ((1, 1), (141, 200), None, True),
        ((0, 1), (200, 200), None, False),  # subnormal operands count as zero on the processor
        ((100, 182), (100, 182), None, True),
        ((100, 182), (100, 183), None, False),  # 8192 products could reach 2^126
        ((100, 254), (42, 110), None, True),
        ((100, 255), (42, 100), None, False),  # Inf or NaN
        ((42, 100), (100, 255), None, False),
        ((100, 130), (100, 130), (24, 252), True),
        ((100, 130), (100, 130), (23, 130), False),  # the chain could be a multiple of 2^-127 only
        ((100, 130), (100, 130), (0, 130), False),
        ((100, 130), (100, 130), (130, 253), False),
        (None, (100, 130), None, True),
        (None, None, None, True),
        (None, (0, 130), None, False),  # 0 times a subnormal would be 0, but this is not worth a case
        (None, (130, 255), None, False),  # 0 times Inf is NaN
        (None, None, (0, 1), False),  # a subnormal chain would be flushed
    ],
)
def test_the_guard_at_its_bounds(a, b, c, answer):
    given = [*(ends(*a, 7) if a else NO_A), *(ends(*b, 7) if b else NO_A), *(ends(*c, 23) if c else NO_C)]
    assert fits.plain(*given) == answer


# What the guard keeps off the dot product, each with other bits there: name, a, b, c.
HARMFUL = {
    "subnormal operand": (bf16([2.0**-130]), bf16([2.0**40]), None),
    "subnormal sum of normal products": (bf16([1 + 2**-7, 1 + 2**-6]),
                                         bf16([2**-120 * (1 + 2**-7)], [-(2**-120)]), None),
    "subnormal result": (bf16([2.0**-70]), bf16([2.0**-60]), None),
    "subnormal chain": (bf16([0.0]), bf16([1.0]), np.array([[2.0**-127]], np.float32)),
    "chain that cancels to a subnormal": (bf16([-1.0]), bf16([2.0**-110]),
                                          np.array([[2.0**-110 * (1 + 2**-23)]], np.float32)),
    "NaN": (bf16([0.0]), np.full((1, 1), 0xFFC1, np.uint16), None),
}  # fmt: skip


def always(*_):
    return True


@pytest.fixture
def plain_unit():
    """Return matmul in plain Python with its scope, where a test may put other parts in place."""
    unit = twin(matmul.run_matmul)
    return unit, unit.__globals__


def harm(unit):
    """Return which harmful operands come out wrong."""
    return {name for name, operands in HARMFUL.items() if wrong(Trial(name, *operands), unit)}


def wrong(trial, unit):
    """Return whether the bits of a matmul on the dot product differ from the chain's."""
    start = None if trial.c is None else np.array(trial.c, np.float32)
    return not np.array_equal(try_matmul(trial, fast=True, engine=unit)[0], chain(trial.a, trial.b, start))


@needs_dot
def test_without_its_guard_the_dot_product_is_wrong_in_plain_python(plain_unit, monkeypatch):
    unit, scope = plain_unit
    assert harm(unit) == set()
    monkeypatch.setitem(twin(scope["proven"]).__globals__, "fits", always)
    assert harm(unit) == set(HARMFUL)


@njit
def _let_all_through(work32, panel, a_least, a_greatest, chains, at, table, rows, wide, look):
    return a_least >= -1


def unguarded_harm():
    """Return what comes out wrong where the compiled matmul has no guard; for a process of its own.

    The twin has the symbol of the original, and what is linked later in the process may find either.
    """

    def again(function, **names):
        fn = function.py_func
        # Under another file name, so that it is neither taken from the compile cache nor kept there.
        code = fn.__code__.replace(co_filename=__file__)
        return njit(_nrt=False)(FunctionType(code, {**fn.__globals__, **names}, fn.__name__))

    advance = again(products._advance, proven=_let_all_through)
    blocks = again(products._blocks, _advance=advance)
    return harm(again(matmul.run_matmul, multiply_bf16=again(products.multiply_bf16, _blocks=blocks)))


@needs_dot
def test_without_its_guard_the_dot_product_is_wrong_on_the_processor():
    assert harm(matmul.run_matmul) == set()
    script = "import test_machine_fast as here; print(*sorted(here.unguarded_harm()), sep='\\n')"
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == set(HARMFUL)


def _dot(lefts, b, ib, c, at, keep, step):
    """Run `step(chains, (a, b) of the upper halves, (a, b) of the lower halves)` in float64 for every pair."""
    columns = at.shape[1]
    chains = c[at].astype(np.float64) if keep else np.zeros(at.shape)
    for k, left in enumerate(lefts.T[:, :, None]):
        right = b[ib + 32 * k : ib + 32 * k + columns]
        halves = [(x.view(np.float32).astype(np.float64), y.view(np.float32).astype(np.float64))
                  for x, y in ((left & np.uint32(0xFFFF0000), right & np.uint32(0xFFFF0000)),
                               (left << np.uint32(16), right << np.uint32(16)))]  # fmt: skip
        chains = step(chains, *halves)
    c[at] = chains.astype(np.float32)


def single(x):
    return x.astype(np.float32).astype(np.float64)


def toward_zero(x):
    near = x.astype(np.float32)
    return np.where(np.abs(near) > np.abs(x), np.nextafter(near, np.float32(0)), near).astype(np.float64)


def in_turn(rounded):
    """Return a step of two multiply-adds, the upper half first, each followed by `rounded`."""
    return lambda c, upper, lower: rounded(rounded(c + upper[0] * upper[1]) + lower[0] * lower[1])


def flush_least(x):
    return np.where(np.abs(single(x)) <= 2.0**-126, np.copysign(0, x), single(x))


PROCESSORS = {
    "right": in_turn(single),
    "lower half first": lambda c, upper, lower: in_turn(single)(c, lower, upper),
    "one rounding a pair": lambda c, upper, lower: single(c + (upper[0] * upper[1] + lower[0] * lower[1])),
    "products added first": lambda c, upper, lower: single(c + single(upper[0] * upper[1] + lower[0] * lower[1])),
    "rounds toward zero": in_turn(toward_zero),
    "loses the sign of zero": in_turn(lambda x: single(x) + 0.0),
    "flushes the least normal number": in_turn(flush_least),
}


@needs_dot
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_test_at_load_finds_other_processors(name, plain_unit, monkeypatch):
    unit, scope = plain_unit

    def tile_pairs(rows, wide, a, ia, b, ib, c, ic, t, il, it, runs, step, pairs, keep, below):
        lefts = a[lefts_at(ia, t, il, rows, runs, step, pairs)]
        _dot(lefts, b, ib, c, chains_at(ic, t, it, rows, 32 if wide else 16), keep, PROCESSORS[name])

    monkeypatch.setitem(twin(scope["multiply_bf16"]).__globals__, "tile_pairs", tile_pairs)
    found = [trial.name for trial in trials() if trial.a.shape[0] <= 14 and wrong(trial, unit)]
    assert bool(found) == (name != "right"), name


SCRIPT = "from accel.machine.fast import fast_path; p = fast_path(); print(p.available, p.passed, p.on)"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({"ACCEL_FAST": "0"}, f"{DOT} None False"), ({"ACCEL_TARGET": "portable"}, "False None False")],
    ids=str,
)
def test_it_can_be_switched_off(environment, shown):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == shown


def test_a_wrong_switch_is_refused(monkeypatch):
    monkeypatch.setenv("ACCEL_FAST", "maybe")
    with pytest.raises(InputError, match=r"^Cannot use ACCEL_FAST='maybe': it is a switch; use 0 for off, 1 "):
        fast_path.__wrapped__()
