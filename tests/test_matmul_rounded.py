"""matmul into 16 bits: the fp32 chain rounded once on its way out, on every path of the executor, and its price."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

import accel
from accel.errors import ProgramError, TraceError, UnsupportedError
from accel.machine import fast
from accel.machine.microkernel import BLOCK_DEPTH
from accel.machine.narrow import STRIP
from accel.numerics import Codes, chain_matmul
from accel.program import Program
from accel.testing import mutants
from accel.testing.battery import difference
from accel.testing.choices import Choices
from accel.testing.legal_programs import instruction
from accel.testing.pool import Limits
from accel.testing.slow_run import slow_run
from accel.timing.costs import matrix_cost

MINI = accel.chip("mini")
TYPES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}
NAN = {"bf16": 0x7FC0, "fp16": 0x7E00}


def rounded(sums, dtype):
    """Return the codes of fp32 sums in a format, by a conversion that is not ours."""
    with np.errstate(all="ignore"):
        codes = sums.astype(TYPES[dtype]).view(np.uint16)
    return np.where(np.isnan(sums), NAN[dtype], codes)


@accel.kernel
def product(k, a, b, c, *, trans_c=False):
    """c = a @ b on one node; with trans_c the columns of the result lie a column apart in SRAM."""
    A, B = k.sram(a.shape, a.dtype, "A"), k.sram(b.shape, b.dtype, "B")
    C = k.sram(c.shape[::-1] if trans_c else c.shape, c.dtype, "C")
    C = C.T if trans_c else C
    here = k.sem(name="here")

    @k.thread
    def main():
        k.copy(A, a[:, :], done=here)
        k.copy(B, b[:, :], done=here)
        k.wait(here, 2)
        k.matmul(C, A, B)
        k.copy(c[:, :], C, sent=here)
        k.wait(here)


def program(m, n, depth, out, dtype="bf16", chip=MINI, **options):
    operands = {
        "a": accel.tensor((m, depth), dtype),
        "b": accel.tensor((depth, n), dtype),
        "c": accel.tensor((m, n), out),
    }
    return product.build(chip, mesh=(1, 1), **operands, **options)


def codes(array):
    return np.asarray(array).view(np.uint16)


@pytest.fixture(params=["fast", "exact"])
def path(request, monkeypatch):
    """Run with the dot product of pairs where the host has it, and without."""
    if request.param == "exact":
        monkeypatch.setattr(fast, "fast_path", lambda: fast.FastPath(False, None, False, 0, "switched off by a test"))
    return request.param


@pytest.mark.parametrize("out", TYPES)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (15, 33, 40), (17, 16, BLOCK_DEPTH + 1), (3, 1040, 5), (75, 7, 2 * BLOCK_DEPTH)]
)
def test_the_result_is_the_fp32_chain_rounded_once(path, shape, out):
    m, n, depth = shape
    rng = np.random.default_rng(m + n)
    a, b = (rng.standard_normal(size, np.float32).astype(ml_dtypes.bfloat16) for size in ((m, depth), (depth, n)))
    wide = chain_matmul(a.astype(np.float32), b.astype(np.float32))
    for options in ({}, {"trans_c": True}):
        got = program(m, n, depth, out, **options).run(a=a, b=b)["c"]
        np.testing.assert_array_equal(codes(got), rounded(wide, out))


@pytest.mark.parametrize("dtype", ["fp16", "cfp8-143"])
def test_operands_of_other_formats(path, dtype):
    rng = np.random.default_rng(7)
    a, b = (np.round(rng.standard_normal(size) * 4).astype(np.float32) / 4 for size in ((19, 600), (600, 35)))
    got = {out: program(19, 35, 600, out, dtype).run(a=a, b=b)["c"] for out in ("fp32", *TYPES)}
    for out in TYPES:
        np.testing.assert_array_equal(codes(got[out]), rounded(np.asarray(got["fp32"]), out))


@pytest.mark.parametrize("out", TYPES)
def test_every_number_times_what_makes_ties_overflows_and_subnormals(path, out):
    """One step of every bf16 number: 65,536 rows, several strips; half of the products lie between two results."""
    a = np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16)[:, None]
    b = np.array([[1, 1 + 2**-7, 1 + 2**-6, 1.5, -3, 2.0**100, 2.0**-100, 2.0**-130, 0, np.inf, 2.0**-20]])
    assert a.size * b.size > STRIP
    chip = MINI.replace(**{"node.sram_bytes": 1 << 22})
    got = program(*a.shape[:1], b.size, 1, out, chip=chip).run(
        a=Codes(a.view(np.uint16), "bf16"), b=b.astype(ml_dtypes.bfloat16)
    )["c"]
    with np.errstate(all="ignore"):
        exact = a.astype(np.float64) * b.astype(ml_dtypes.bfloat16).astype(np.float64)
        wide = (exact + 0.0).astype(np.float32)
    np.testing.assert_array_equal(codes(got), rounded(wide, out))


@pytest.mark.parametrize("out", TYPES)
def test_a_tie_goes_to_the_even_neighbour_and_what_is_beyond_it_does_not(path, out):
    """1 + ulp/2 + 2^-20 ...: the third step decides, which a rounding after each step would have lost."""
    half = 2.0 ** -(8 if out == "bf16" else 11)
    a = np.array([[1, half, 0], [1, half, 2.0**-20], [1, 3 * half, 0], [1, 3 * half, -(2.0**-20)]], np.float32)
    b = np.ones((3, 1), np.float32)
    ulp = 2 * half
    want = [1, 1 + ulp, 1 + 2 * ulp, 1 + ulp]
    got = program(4, 1, 3, out).run(a=a, b=b)["c"]
    assert np.asarray(got).astype(np.float64).ravel().tolist() == want


@pytest.mark.parametrize("out", TYPES)
def test_the_plain_engine_and_the_slow_model_agree(out):
    rng = np.random.default_rng(3)
    inputs = {"a": rng.standard_normal((5, 9), np.float32), "b": rng.standard_normal((9, 3), np.float32)}
    inputs["a"][2, 4] = np.inf
    built = program(5, 3, 9, out)
    stored = {name: codes(x.astype(ml_dtypes.bfloat16)) for name, x in inputs.items()}
    want = codes(built.run(inputs)["c"])
    np.testing.assert_array_equal(codes(built.run(inputs, engine="plain")["c"]), want)
    np.testing.assert_array_equal(codes(slow_run(built.isa, stored).outputs["c"]), want)


@pytest.mark.parametrize("seed", range(40))
def test_drawn_products_in_all_formats_of_results(seed):
    limits = Limits(results=("bf16", "fp16", "shp16", "uhp16"))
    assert difference(instruction(Choices.seeded(seed), "matmul", limits)) is None


def test_rings_two_levels_and_threads_of_the_host():
    """A result of (2, 8) x 24 in a ring that wraps inside it, on 16 nodes shared by three threads."""

    @accel.kernel
    def rings(k, a, b, c, *, narrow):
        A, B = k.sram((16, 20), "bf16", "A"), k.sram((20, 24), "bf16", "B")
        C = k.sram((3, 8, 24), "bf16", "C").ring()
        S = k.sram((2, 8, 24), "fp32", "S")
        here = k.sem(name="here")

        @k.thread
        def main():
            at = 16 * (4 * k.row + k.col)
            k.copy(A, a[at : at + 16, :], done=here)
            k.copy(B, b[:, :], done=here)
            k.wait(here, 2)
            for step in k.loop(3):
                window = C[step : step + 2]
                if narrow:
                    k.matmul(window, A.split(0, 8), B)
                else:
                    k.matmul(S, A.split(0, 8), B)
                    k.vec.cast(window, S)
            k.copy(c[at : at + 16, :], C[2:4].merge(0), sent=here)
            k.wait(here)

    rng = np.random.default_rng(5)
    inputs = {"a": rng.standard_normal((256, 20), np.float32), "b": rng.standard_normal((20, 24), np.float32)}
    tensors = {
        "a": accel.tensor((256, 20), "bf16"),
        "b": accel.tensor((20, 24), "bf16"),
        "c": accel.tensor((256, 24), "bf16"),
    }
    one, two = (rings.build(MINI, **tensors, narrow=narrow) for narrow in (True, False))
    want = codes(two.run(inputs, threads=1)["c"])
    for threads in (1, 3):
        np.testing.assert_array_equal(codes(one.run(inputs, threads=threads)["c"]), want)
    one.check()


def test_a_block_by_hand():
    """16x16x16 on mini: 4 k-steps of 4 micro-steps; 4 groups of 8 x 8 bf16 are 2 accesses of 64 B each; 8 of fill."""
    cost = matrix_cost(MINI.node, "bf16", 16, 16, 16, False, output="bf16")
    assert (cost.compute, cost.accumulator, cost.fill, cost.cycles) == (16, 8, 8, 32)
    assert cost.stores == 8
    assert cost.loads == 4 * (2 + 2)  # a and b: two tiles of 8 x 4 and of 4 x 8 a step, 64 B each
    two = matrix_cost(MINI.node, "bf16", 32, 16, 16, False, output="bf16")
    assert (two.compute, two.accumulator, two.stores) == (32, 16, 16)
    bf16, fp32 = (program(16, 16, 16, out).time() for out in ("bf16", "fp32"))
    assert bf16.loss_parts["accumulator"] == 8 * bf16.parts_per_cycle
    assert fp32.cycles - bf16.cycles == 8 + 8  # 8 of the block, and 512 B less over the mesh port at 64 B a cycle


def test_what_cannot_be_written_is_refused_at_the_line():
    @accel.kernel
    def adds(k, a):
        A, C = k.sram((8, 8), "bf16", "A"), k.sram((8, 8), "bf16", "C")

        @k.thread
        def main():
            k.matmul(C, A, A)
            k.matmul(C, A, A, accumulate=True)

    with pytest.raises(
        TraceError, match=r"cannot accumulate in 'C': its sums leave rounded to bf16; accumulate in an fp32 buffer"
    ) as error:
        adds.build(MINI, a=accel.tensor((8, 8), "bf16"))
    assert "test_matmul_rounded.py" in str(error.value)
    with pytest.raises(UnsupportedError, match=r"'d1' writes results in fp32 or bf16, and 'C' is fp16; k.vec.cast"):
        program(8, 8, 8, "fp16", chip=accel.chip("d1"))
    bare = MINI.replace(**{"node.matrix.output_formats": []})
    with pytest.raises(UnsupportedError, match=r"writes results in fp32, and 'C' is bf16"):
        program(8, 8, 8, "bf16", chip=bare)
    with pytest.raises(
        UnsupportedError, match=r"Cannot time a matmul into 'bf16': the matrix unit writes results in fp32"
    ):
        Program(program(8, 8, 8, "bf16").isa, bare).time()
    with pytest.raises(TraceError, match="accumulates int8 in int32, and 'C' is bf16"):
        program(8, 8, 8, "bf16", "int8")


TEXT = """.chip mini
.mesh 1 1
.buffer dst {dst}[8,8]
.buffer a bf16[8,8]
matmul dst, a, a, accumulate={accumulate}
"""


def test_text_and_files_hold_it_and_refuse_what_cannot_go_on():
    listing = accel.assemble(TEXT.format(dst="bf16", accumulate=0)).asm()
    assert accel.assemble(listing).asm() == listing
    built = program(16, 16, 16, "bf16")
    assert accel.assemble(built.asm()).asm() == built.asm()
    with pytest.raises(ProgramError, match=r"accumulates in dst, whose sums were rounded to bf16; accumulate in fp32"):
        accel.assemble(TEXT.format(dst="bf16", accumulate=1))
    with pytest.raises(ProgramError, match="leaves in fp32 or 16 bits, not in cfp8-143"):
        accel.assemble(TEXT.format(dst="cfp8-143", accumulate=0))
    code = built.isa.code.copy()
    row = int(np.flatnonzero(code[:, 0] == 32)[0])
    code[row, 12] = 1
    with pytest.raises(ProgramError, match=r"row \d+ \(matmul\): it accumulates in dst"):
        dataclasses.replace(built.isa, code=code).require_sound()


def test_no_mutant_adds_to_sums_that_were_rounded():
    for mutant in mutants(program(16, 16, 16, "bf16")):
        mutant.program.isa.require_sound()
        assert mutant.kind != "flipped accumulate"
