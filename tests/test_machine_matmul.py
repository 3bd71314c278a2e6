"""The matmul instruction against NumPy, one float64 multiply-add and one fp32 rounding a step, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Asm, matmul_program

from accel.jit import isa_target
from accel.machine import execute

SPECIAL = np.array(
    [
        0x0000,
        0x8000,
        0x0001,
        0x8001,
        0x007F,
        0x0080,
        0x7F7F,
        0xFF7F,
        0x7F80,
        0xFF80,
        0x7FC0,
        0xFFC1,
        0x7F81,
        0x3F80,
        0x1F80,
    ],
    np.uint16,
)


def widen(codes):
    return (codes.astype(np.uint32) << 16).view(np.float32)


def random_bf16(rng, shape, spread=4.0):
    values = (rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))).astype(np.float32)
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def chain(a, b, start=None):
    """Return the bits of the chain of the contract: k ascending, exact product and sum in float64, rounded to fp32."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        a, b = widen(a).astype(np.float64), widen(b).astype(np.float64)
    c = np.zeros((a.shape[0], b.shape[1]), np.float32) if start is None else start.copy()
    with np.errstate(all="ignore"):
        for k in range(a.shape[1]):
            c = (c.astype(np.float64) + a[:, k : k + 1] * b[k]).astype(np.float32)
    bits = c.view(np.uint32).copy()
    bits[np.isnan(c)] = 0x7FC00000
    return bits


def run(m, n, k, a, b, engine="jit"):
    return execute(matmul_program(m, n, k), {"a": a, "b": b}, engine=engine)["c"].view(np.uint32)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 1), (1, 33, 7), (14, 32, 4), (15, 31, 513), (13, 17, 1), (97, 101, 103), (8, 16, 1030), (3, 1100, 5),
     (64, 48, 32)],
)  # fmt: skip
def test_equals_the_chain(m, n, k):
    rng = np.random.default_rng(m * n + k)
    a, b = random_bf16(rng, (m, k)), random_bf16(rng, (k, n))
    np.testing.assert_array_equal(run(m, n, k, a, b), chain(a, b))


@settings(max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32))
def test_equals_the_chain_on_any_codes(m, n, k, seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 1 << 16, (m, k), dtype=np.uint16)
    b = rng.integers(0, 1 << 16, (k, n), dtype=np.uint16)
    # Mostly finite, so that NaN does not drown everything; a few special codes stay.
    a[(a & 0x7F80) == 0x7F80] = 0x3F80
    b[(b & 0x7F80) == 0x7F80] = 0x0003
    spot = rng.integers(0, m), rng.integers(0, k)
    a[spot] = rng.choice(SPECIAL)
    np.testing.assert_array_equal(run(m, n, k, a, b), chain(a, b))


def test_special_values_meet_each_other():
    a, b = SPECIAL[:, None].repeat(2, 1), SPECIAL[None].repeat(2, 0)
    got = run(len(SPECIAL), len(SPECIAL), 2, a, b)
    np.testing.assert_array_equal(got, chain(a, b))
    one, nan = 13, 10
    assert got[nan, one] == 0x7FC00000  # canonical, whatever the payload
    assert got[0, 8] == 0x7FC00000  # 0 x Inf


def test_subnormal_sums_are_kept():
    a = np.full((1, 3), 0x2000, np.uint16)  # 2^-63
    b = np.full((3, 1), 0x1580, np.uint16)  # 2^-84: the product 2^-147 is an fp32 subnormal
    assert run(1, 1, 3, a, b)[0, 0] == 3 * 4  # 3 x 2^-147 in units of 2^-149


def test_accumulate_continues_the_chain():
    rng = np.random.default_rng(5)
    m, n, k = 19, 37, 24
    a, b = random_bf16(rng, (m, 2 * k)), random_bf16(rng, (2 * k, n))
    p = Asm()
    x, y, z = p.tensor("a", a.shape), p.tensor("b", b.shape), p.tensor("c", (m, n), "fp32", "out")
    la, lb, acc = p.sram("la", a.shape), p.sram("lb", b.shape), p.sram("acc", (m, n), "fp32")
    here, put = p.sem("here"), p.sem("put")
    with p.thread("all"):
        p.copy(p.at(la), p.at(x), done=here)
        p.copy(p.at(lb), p.at(y), done=here)
        p.wait(here, 2)
        p.matmul(p.mat(acc), p.mat(la, slice(None), slice(0, k)), p.mat(lb, slice(0, k)))
        p.matmul(p.mat(acc), p.mat(la, slice(None), slice(k, 2 * k)), p.mat(lb, slice(k, 2 * k)), accumulate=True)
        p.copy(p.at(z), p.at(acc), sent=put)
        p.wait(put)
    got = execute(p.program(), {"a": a, "b": b})["c"].view(np.uint32)
    np.testing.assert_array_equal(got, chain(a, b))


def layouts(p, handle, rows, cols, kind):
    """Return a matmul operand over a buffer, and the index that gives the same matrix in NumPy from its flat codes."""
    item = 4 if handle.dtype == "fp32" else 2
    if kind == "plain":
        return p.mat(handle, slice(0, rows)), np.arange(rows * cols).reshape(rows, cols)
    if kind == "transposed":
        view = p.view(handle, (1, rows, 1, cols), (0, item, 0, rows * item))
        return view, np.arange(rows * cols).reshape(cols, rows).T
    if kind == "gaps":  # every second row, every third column
        view = p.view(handle, (1, rows, 1, cols), (0, 2 * 3 * cols * item, 0, 3 * item))
        return view, np.arange(rows)[:, None] * 6 * cols + np.arange(cols) * 3
    # two levels in both: rows = (outer, inner) with the inner stride larger
    (r1, r0), (c1, c0) = (2, rows // 2), (2, cols // 2)
    strides = (item * cols * r0, item * cols, item * c0, item)
    index = np.arange(rows * cols).reshape(rows, cols)
    if kind == "swapped":  # the outer index is the fast one
        strides = (item * cols, item * cols * 2, item, item * 2)
        outer, inner = np.divmod(np.arange(rows), r0)
        left, right = np.divmod(np.arange(cols), c0)
        index = (outer + 2 * inner)[:, None] * cols + left + 2 * right
    return p.view(handle, (r1, r0, c1, c0), strides), index


KINDS = ("plain", "transposed", "gaps", "levels", "swapped")


@pytest.mark.parametrize("a_kind", KINDS)
@pytest.mark.parametrize("b_kind", KINDS)
@pytest.mark.parametrize("c_kind", ["plain", "transposed", "swapped"])
def test_strided_operands(a_kind, b_kind, c_kind):
    m, n, k = 22, 70, 34
    rng = np.random.default_rng(11)
    p = Asm()
    x, y, z = p.tensor("a", (6 * m * k,)), p.tensor("b", (6 * k * n,)), p.tensor("c", (m * n,), "fp32", "out")
    la, lb, acc = p.sram("la", (6 * m, k)), p.sram("lb", (6 * k, n)), p.sram("acc", (m, n), "fp32")
    here, put = p.sem("here"), p.sem("put")
    (a_view, a_at), (b_view, b_at), (c_view, c_at) = (
        layouts(p, h, r, c, kind) for h, r, c, kind in ((la, m, k, a_kind), (lb, k, n, b_kind), (acc, m, n, c_kind))
    )
    assert la.shape[0] * k == 6 * m * k
    with p.thread("all"):
        p.copy(p.view(la, (6 * m * k,), (2,)), p.at(x), done=here)
        p.copy(p.view(lb, (6 * k * n,), (2,)), p.at(y), done=here)
        p.wait(here, 2)
        p.matmul(c_view, a_view, b_view)
        p.copy(p.at(z), p.view(acc, (m * n,), (4,)), sent=put)
        p.wait(put)
    a, b = random_bf16(rng, 6 * m * k), random_bf16(rng, 6 * k * n)
    got = execute(p.program(), {"a": a, "b": b})["c"].view(np.uint32)
    np.testing.assert_array_equal(got[c_at], chain(a[a_at], b[b_at]))


def test_plain_engine_gives_the_same_bits():
    rng = np.random.default_rng(2)
    a, b = random_bf16(rng, (17, 40), 60), random_bf16(rng, (40, 35), 60)
    np.testing.assert_array_equal(run(17, 35, 40, a, b, "plain"), run(17, 35, 40, a, b))


SCRIPT = """
import hashlib, sys
import numpy as np
from test_machine_matmul import random_bf16, run
from accel.machine.microkernel import TARGET
rng = np.random.default_rng(3)
seen = hashlib.sha256()
for m, n, k in ((1, 1, 1), (29, 83, 600), (64, 64, 65)):
    a, b = random_bf16(rng, (m, k), 70), random_bf16(rng, (k, n), 70)
    a[0, 0], b[-1, -1] = 0x7F80, 0x0001
    seen.update(run(m, n, k, a, b).tobytes())
print(TARGET, seen.hexdigest())
"""


@pytest.mark.slow
def test_all_targets_give_the_same_bits():
    able = ("portable", "avx2", "avx512")
    able = able[: able.index(isa_target()) + 1]
    digests = set()
    for target in able:
        env = {**os.environ, "ACCEL_TARGET": target, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
        name, digest = done.stdout.split()
        assert name == target
        digests.add(digest)
    assert len(digests) == 1
