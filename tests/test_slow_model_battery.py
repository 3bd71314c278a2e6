"""The executor against the slow model, bit for bit: drawn instructions, whole programs, all 8- and 16-bit codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accel.isa.codec import Bits
from accel.isa.table import BY_MNEMONIC, ROWS
from accel.kernels import matmul
from accel.numerics.formats import fmt
from accel.testing.battery import difference
from accel.testing.choices import Choices
from accel.testing.drawn_rows import COMPUTE
from accel.testing.hard_values import hard_codes, special_codes
from accel.testing.legal_programs import Case, legal_program
from accel.testing.pool import Limits
from accel.testing.single_rows import Array, row_on_arrays
from accel.testing.strategies import instructions, legal_programs

LIMITS = Limits()  # all that the table allows
FLOATS, INTEGERS = LIMITS.floats, LIMITS.integers
SHORT = [f for f in FLOATS + INTEGERS if fmt(f).bytes < 4]
DRAWN = list(COMPUTE)
SLOW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def same(case: Case, **options) -> None:
    """Fail unless the executor's outputs and probes have the bits of the slow model's."""
    assert difference(case, **options) is None


@pytest.mark.parametrize("mnemonic", DRAWN)
@settings(max_examples=30, **SLOW)
@given(data=st.data())
def test_a_drawn_instruction_has_the_bits_of_the_slow_model(mnemonic, data):
    case = data.draw(instructions(mnemonic, LIMITS))
    same(case)


@pytest.mark.parametrize("mnemonic", DRAWN)
@settings(max_examples=6, **SLOW)
@given(data=st.data())
def test_a_drawn_instruction_in_the_plain_engine(mnemonic, data):
    same(data.draw(instructions(mnemonic, LIMITS)), engine="plain")


@settings(max_examples=60, **SLOW)
@given(case=legal_programs(LIMITS), schedule=st.sampled_from(["natural", 1, 2, 3]), threads=st.integers(1, 3))
def test_a_whole_legal_program_has_the_bits_of_the_slow_model(case, schedule, threads):
    same(case, schedule=schedule, threads=threads)


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


def results(row, x):
    """Return the formats that a unary row on format x is tried into: all for a cast, else itself and wide ones."""
    wide = FLOATS + INTEGERS if row.mnemonic.startswith("vec.cast") else {x, "fp32", "bf16", "int32", "uint8"}
    return [dst for dst in FLOATS + INTEGERS if dst in wide and takes(row, dst, x)]


FUNCTION_STEP = 128  # exp and its like take the slow model a tenth of a millisecond a step of the polynomial


@pytest.mark.parametrize(
    ("row", "x"),
    [(row, x) for row in UNARY for x in SHORT if results(row, x)],
    ids=lambda value: getattr(value, "mnemonic", value),
)
def test_every_unary_row_on_every_code(row, x):
    on_codes(row, x, FUNCTION_STEP if row.wide and fmt(x).bytes > 1 else 1)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("row", "x"), [(row, x) for row in UNARY if row.wide for x in ("bf16", "fp16")],
    ids=lambda value: getattr(value, "mnemonic", value),
)  # fmt: skip
def test_every_function_on_every_code(row, x):
    on_codes(row, x, 1)


def on_codes(row, x, step):
    """Compare a unary row with the slow model on every `step`-th code of x, other ones for each format of dst."""
    codes = np.arange(1 << 8 * fmt(x).bytes)
    names = {o.name for o in row.operands}
    tried = 0
    for dst in results(row, x):
        here, there = biases(x), biases(dst)
        for i in range(max(len(here), len(there))):
            more = {}
            if "imm" in names:
                more["imm"] = Bits(IMMEDIATES[tried % len(IMMEDIATES)])
            if "relation" in names:
                more["relation"] = 1 + tried % 6
            if "stream" in names:
                more |= {"stream": 3, "index": (5, 0, 0, 0, 0, 1)}
            array = Array(x, codes[tried * 37 % step :: step], here[i % len(here)])
            same(row_on_arrays(row.mnemonic, dst, {"x": array}, bias=there[i % len(there)], seed=11, **more))
            tried += 1


BINARY = [r for r in ROWS if r.mnemonic in DRAWN and [o.name for o in r.views] == ["dst", "x", "y"]]


@pytest.mark.parametrize(
    ("row", "dtype"),
    [(row, dtype) for row in BINARY for dtype in FLOATS + (INTEGERS if row.integer else ())],
    ids=lambda value: getattr(value, "mnemonic", value),
)
def test_binary_rows_on_all_pairs_of_special_codes(row, dtype):
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


def test_every_row_that_works_on_sram_is_in_the_battery():
    assert set(DRAWN) == {m for m, row in BY_MNEMONIC.items() if row.views and m not in ("copy", "pull")} | {"mark"}


def test_kernels_of_the_library_have_the_bits_of_the_slow_model():
    for m, n, k in ((64, 64, 64), (100, 36, 70)):
        program = matmul.build("mini", m=m, n=n, k=k, dtype="bf16").isa
        inputs = {t.name: hard_codes(t.dtype, t.shape, 3, "near_one") for t in program.tensors if t.is_input}
        for schedule in ("natural", 5):
            same(Case(program, inputs, 0, ("matmul",)), schedule=schedule)
