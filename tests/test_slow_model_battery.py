"""The executor against the slow model, bit for bit: drawn instructions, whole programs, all 8- and 16-bit codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accel.isa.codec import Bits
from accel.isa.table import BY_MNEMONIC, ROWS
from accel.machine import execute
from accel.numerics.formats import fmt
from accel.testing.choices import Choices
from accel.testing.drawn_rows import COMPUTE
from accel.testing.hard_values import special_codes
from accel.testing.legal_programs import Case, legal_program
from accel.testing.pool import Limits
from accel.testing.single_rows import Array, row_on_arrays
from accel.testing.slow_run import slow_run
from accel.testing.strategies import instructions, legal_programs

# What the executor takes; a row or a format that it learns leaves these lists.
LIMITS = Limits()
FLOATS, INTEGERS = LIMITS.floats, LIMITS.integers
SHORT = [f for f in FLOATS + INTEGERS if fmt(f).bytes < 4]
DRAWN = [m for m in COMPUTE if m not in LIMITS.without]
SLOW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def same(case: Case, **options) -> None:
    """Fail unless the executor's outputs have the bits of the slow model's."""
    want = slow_run(case.program, case.inputs, seed=case.seed).outputs
    got = execute(case.program, case.inputs, random_seed=case.seed, **options)
    for name, codes in want.items():
        bits = f"u{codes.itemsize}"
        np.testing.assert_array_equal(got[name].view(bits), codes.view(bits), err_msg=f"{case.blocks} {name}")


@pytest.mark.parametrize("mnemonic", DRAWN)
@settings(max_examples=60, **SLOW)
@given(data=st.data())
def test_a_drawn_instruction_has_the_bits_of_the_slow_model(mnemonic, data):
    case = data.draw(instructions(mnemonic, LIMITS))
    same(case)


@pytest.mark.parametrize("mnemonic", DRAWN)
@settings(max_examples=6, **SLOW)
@given(data=st.data())
def test_a_drawn_instruction_in_the_plain_engine(mnemonic, data):
    same(data.draw(instructions(mnemonic, LIMITS)), engine="plain")


@settings(max_examples=80, **SLOW)
@given(case=legal_programs(LIMITS), schedule=st.sampled_from(["natural", 1, 2, 3]))
def test_a_whole_legal_program_has_the_bits_of_the_slow_model(case, schedule):
    same(case, schedule=schedule)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(0, 4000, 500))
def test_many_whole_programs(first):
    for seed in range(first, first + 500):
        same(legal_program(Choices.seeded(seed), LIMITS), schedule="natural" if seed % 2 else seed)


# --- every code of every short format ------------------------------------------------------------------------------
UNARY = [r for r in ROWS if r.mnemonic in DRAWN and [o.name for o in r.views] == ["dst", "x"] and r.cost == "vector"]
IMMEDIATES = (0x3F800000, 0x80000000, 0x7FC12345, 0x7F7FFFFF, 0xC0490FDB, 0x00000003)


def biases(dtype):
    """Return the bias words that a format is tried with."""
    return (0, 7, 40, 63, 256 + 15) if fmt(dtype).kind == "cfp" else (0,)


def takes(row, dst, x):
    """Return whether a unary row has this pair of formats."""
    if row.mnemonic == "vec.copy":
        return dst == x
    if row.mnemonic == "vec.comparei":
        return dst == "uint8"
    if row.mnemonic in ("vec.cast", "vec.cast_sr"):
        return x in FLOATS or row.mnemonic == "vec.cast"
    whole = {dst, x} <= set(INTEGERS)
    return (whole and row.integer is not None) or {dst, x} <= set(FLOATS)


@pytest.mark.parametrize("x", SHORT)
@pytest.mark.parametrize("row", UNARY, ids=lambda r: r.mnemonic)
def test_every_unary_row_on_every_code(row, x):
    if x in INTEGERS and row.integer is None and row.mnemonic != "vec.cast":
        pytest.skip("the row computes in floats only")
    codes = np.arange(1 << 8 * fmt(x).bytes)
    tried = 0
    for dst in FLOATS + INTEGERS:
        if not takes(row, dst, x):
            continue
        for word, other in zip(biases(x), biases(dst) * 5, strict=False):
            more = {}
            names = {o.name for o in row.operands}
            if "imm" in names:
                more["imm"] = Bits(IMMEDIATES[tried % len(IMMEDIATES)])
            if "relation" in names:
                more["relation"] = 1 + tried % 6
            if "stream" in names:
                more |= {"stream": 3, "index": (5, 0, 0, 0, 0, 1)}
            same(row_on_arrays(row.mnemonic, dst, {"x": Array(x, codes, word)}, bias=other, seed=11, **more))
            tried += 1
    assert tried


BINARY = [r for r in ROWS if r.mnemonic in DRAWN and [o.name for o in r.views] == ["dst", "x", "y"]]


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("row", BINARY, ids=lambda r: r.mnemonic)
def test_binary_rows_on_all_pairs_of_special_codes(row, dtype):
    if dtype in INTEGERS and row.integer is None:
        pytest.skip("the row computes in floats only")
    special = special_codes(dtype)
    x, y = (grid.ravel() for grid in np.meshgrid(special, special))
    dst = "uint8" if row.mnemonic == "vec.compare" else dtype
    for word in biases(dtype):
        for relation in range(1, 7) if dst != dtype or row.mnemonic == "vec.compare" else (0,):
            more = {"relation": relation} if relation else {}
            same(row_on_arrays(row.mnemonic, dst, {"x": Array(dtype, x, word), "y": Array(dtype, y, word)},
                               bias=0 if relation else word, **more))  # fmt: skip


@pytest.mark.parametrize("dst", FLOATS)
def test_fma_on_hard_triples(dst):
    rng = np.random.default_rng(5)
    special = special_codes("fp32")
    codes = [rng.choice(special, 4000) for _ in range(3)]
    near = [rng.standard_normal(2000).astype(np.float32).view(np.uint32) for _ in range(3)]
    product = near[0].view(np.float32) * near[1].view(np.float32)
    near[2] = (-product).view(np.uint32)  # cancels all but the part that rounding dropped
    x, y, z = (np.concatenate(pair) for pair in zip(codes, near, strict=True))
    same(row_on_arrays("vec.fma", dst, {n: Array("fp32", v) for n, v in zip("xyz", (x, y, z), strict=True)}))


def test_every_row_that_works_on_sram_is_in_the_battery_or_not_executed_yet():
    compute = {m for m, row in BY_MNEMONIC.items() if row.views and m not in ("copy", "pull")} | {"mark"}
    assert set(DRAWN) == compute - set(LIMITS.without)
