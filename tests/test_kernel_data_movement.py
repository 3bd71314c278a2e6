"""Transpose, concat, slice and embedding against NumPy: bits untouched, gradients adjoint, sums in token order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.cli.inputs import random_inputs
from accel.errors import AccelError, InputError, UnsupportedError
from accel.kernels import data_movement, embedding
from accel.problem import Concat, Embedding, Problem, Slice, Transpose
from accel.verification import verify

TRANSPOSE, CONCAT, SLICE = data_movement.KERNELS
SIZE = st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 33, 70]))
SMALL = st.integers(1, 9)
AXES = st.permutations("nhwc").map("".join)
DTYPE = st.sampled_from(["bf16", "fp32", "uint8", "int32", "cfp8-143"])
WAY = st.sampled_from(["fwd", "bwd"])
MESHES = st.sampled_from([(4, 4), (1, 1), (2, 3)])


def chip(mesh: tuple[int, int]) -> accel.ChipSpec:
    return accel.chip("mini").replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})


def proven(kernel: Any, problem: Problem, mesh: tuple[int, int], inputs: dict[str, Any] | None = None) -> Any:
    """Run on a mesh, compare with the definition, under another schedule, and for hazards; return the outputs."""
    program = kernel.program(chip(mesh), problem)
    assert set(program.inputs) | set(program.outputs) == set(problem.operands)
    inputs = random_inputs(program, 3, hard=True) if inputs is None else inputs
    outputs = program.run(inputs)
    verdict = verify(problem, program, inputs, outputs)
    assert verdict.checked > 0
    assert verdict.mismatches == 0, verdict
    again = program.run(inputs, schedule=7)
    assert all(outputs[name].tobytes() == again[name].tobytes() for name in outputs)
    program.check(1)
    return outputs


@settings(max_examples=30)
@given(SMALL, SMALL, SMALL, SIZE, AXES, AXES, DTYPE, WAY, MESHES)
def test_any_order_of_axes(
    n: int, h: int, w: int, c: int, source: str, target: str, dtype: str, way: str, mesh: tuple[int, int]
) -> None:
    proven(TRANSPOSE, Transpose(n, h, w, c, source, target, dtype, way), mesh)


@settings(max_examples=20)
@given(SIZE, SIZE, st.lists(SIZE, min_size=1, max_size=5), DTYPE, WAY, MESHES)
def test_any_parts(outer: int, inner: int, parts: list[int], dtype: str, way: str, mesh: tuple[int, int]) -> None:
    proven(CONCAT, Concat(outer, inner, tuple(parts), dtype, way), mesh)


def ranges(size: int) -> st.SearchStrategy[str]:
    begin = st.integers(0, size - 1)
    return st.tuples(begin, st.integers(1, 4)).flatmap(
        lambda one: st.integers(one[0] + 1, size + 2).map(lambda stop: f"{one[0]}:{stop}:{one[1]}")
    )


@settings(max_examples=30)
@given(st.tuples(SMALL, SMALL, SMALL, SIZE), st.data(), DTYPE, WAY, MESHES)
def test_any_slice(
    shape: tuple[int, int, int, int], data: st.DataObject, dtype: str, way: str, mesh: tuple[int, int]
) -> None:
    index = ",".join(data.draw(ranges(size)) for size in shape)
    proven(SLICE, Slice(*shape, index, dtype, way), mesh)


def test_a_slice_is_what_numpy_takes_and_its_gradient_is_adjoint() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(-8, 9, (5, 6, 7, 20)).astype(np.float32)
    forth = data_movement.build_slice("mini", n=5, h=6, w=7, c=20, index="::2, 1:-1, :, 2::3", dtype="fp32")
    y = forth.run(x=x)["y"]
    assert (y == x[::2, 1:-1, :, 2::3]).all()
    gy = rng.integers(-8, 9, y.shape).astype(np.float32)
    back = data_movement.build_slice(
        "mini", n=5, h=6, w=7, c=20, index="::2, 1:-1, :, 2::3", dtype="fp32", direction="bwd"
    )
    gx = back.run(gy=gy)["gx"]
    assert (x * gx).sum() == (y * gy).sum()


def test_there_and_back_is_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 5, 6, 33)).astype(np.float32)
    options = {"n": 3, "h": 5, "w": 6, "c": 33, "dtype": "fp32"}
    y = data_movement.build_transpose("mini", **options).run(x=x)["y"]
    assert (y == x.transpose(0, 3, 1, 2)).all()
    assert (data_movement.build_transpose("mini", **options, direction="bwd").run(gy=y)["gx"] == x).all()


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 90), SIZE, DTYPE, MESHES, st.integers(0, 99))
def test_rows_are_looked_up(tokens: int, vocab: int, width: int, dtype: str, mesh: tuple[int, int], seed: int) -> None:
    problem = Embedding(tokens, vocab, width, dtype)
    proven(embedding.KERNEL, problem, mesh, embedding.KERNEL.inputs(problem, seed))


@settings(max_examples=25)
@given(
    st.integers(1, 60), st.integers(1, 90), SIZE, st.sampled_from(["bf16", "fp32", "fp16"]),
    st.sampled_from(["bf16", "fp32"]), MESHES, st.integers(0, 99),
)  # fmt: skip
def test_gradients_of_rows_are_added_in_the_order_of_the_tokens(
    tokens: int, vocab: int, width: int, dtype: str, out: str, mesh: tuple[int, int], seed: int
) -> None:
    problem = Embedding(tokens, vocab, width, dtype, out, "bwd")
    proven(embedding.KERNEL, problem, mesh, embedding.KERNEL.inputs(problem, seed))


def test_one_row_for_all_tokens_is_one_chain() -> None:
    gy = np.float32([[2**24], [1], [1], [-(2**24)], [3]])
    ids = np.int32([4, 4, 4, 4, 4])
    program = embedding.build("mini", tokens=5, vocab=9, width=1, dtype="fp32", direction="bwd")
    got = program.run(ids=ids, gy=gy)["gtable"]
    total = np.float32(0)
    for term in gy[:, 0]:
        total = np.float32(total + term)
    assert got[4, 0] == total == 3
    assert not got[[0, 1, 2, 3, 5, 6, 7, 8]].any()


def test_lookup_and_its_gradient_are_adjoint_and_padding_takes_no_part() -> None:
    rng = np.random.default_rng(3)
    ids = np.int32([3, 0, -1, 7, 3, 11, 6, 2**31 - 1, -(2**31)])
    table, gy = rng.integers(-4, 5, (8, 6)).astype(np.float32), rng.integers(-4, 5, (9, 6)).astype(np.float32)
    y = embedding.build("mini", tokens=9, vocab=8, width=6, dtype="fp32").run(ids=ids, table=table)["y"]
    assert not y[[2, 5, 7, 8]].any()
    back = embedding.build("mini", tokens=9, vocab=8, width=6, dtype="fp32", direction="bwd")
    assert (y * gy).sum() == (table * back.run(ids=ids, gy=gy)["gtable"]).sum()


def test_tables_that_do_not_fit_go_in_panels_and_passes() -> None:
    small = accel.chip("mini").replace(**{"node.sram_bytes": 24 << 10})
    for problem in (Embedding(300, 700, 530, "fp32"), Embedding(700, 300, 530, "bf16", "bf16", "bwd")):
        program = embedding.KERNEL.program(small, problem)
        inputs = embedding.KERNEL.inputs(problem, 5)
        assert verify(problem, program, inputs, program.run(inputs)).mismatches == 0


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (lambda: Transpose(1, 2, 3, 4, "nhwd"), "source='nhwd' does not order the axes n, h, w, c"),
        (lambda: Transpose(0, 2, 3, 4), "n=0 is outside"),
        (lambda: Concat(1, 2, "3+x"), "parts='3+x' is not whole numbers with + between"),
        (lambda: Concat(1, 2, (3, 0)), "parts[1]=0 is outside 1"),
        (lambda: Concat(1, 2, ()), "parts=() is no list of sizes"),
        (lambda: Slice(4, 4, 4, 4, "::-1"), "is not up to four of start:stop:step, positive steps"),
        (lambda: Slice(4, 4, 4, 4, "2:2"), "takes nothing of (4, 4, 4, 4)"),
        (lambda: Slice(4, 4, 4, 4, ":,:,:,:,:"), "is not up to four"),
        (lambda: Slice(4, 4, 4, 4, "::0"), "positive steps"),
        (lambda: Slice(4, 4, 4, 4, direction="dgrad"), "direction='dgrad' is not one of fwd, bwd"),
        (lambda: Embedding(4, 0, 4), "vocab=0 is outside 1"),
        (lambda: Embedding(4, 4, 4, "bf16", "fp32"), "forward moves bits of bf16; leave out_dtype='fp32' out"),
        (lambda: Embedding(4, 4, 4, "int8", direction="bwd"), "dtype='int8' is not one of fp32, bf16, fp16"),
    ],
)
def test_bad_problems_get_one_line(problem: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        problem()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kernel", "problem"),
    [(TRANSPOSE, Transpose(1, 1, 4, 4)), (CONCAT, Concat(1, 1)), (SLICE, Slice(1, 1, 1, 4)),
     (embedding.KERNEL, Embedding(2, 2, 2))],
)  # fmt: skip
def test_operands_come_from_memory(kernel: Any, problem: Problem) -> None:
    name = next(iter(problem.operands))
    with pytest.raises(UnsupportedError, match=f"keeps none resident; leave resident={name} out"):
        kernel.program("mini", problem, resident=(name,))


def test_tokens_that_leave_no_room_are_refused() -> None:
    with pytest.raises(
        AccelError, match=r"tokens a node leave no SRAM for the table; raise node\.sram_bytes .* or split the tokens"
    ):
        embedding.build("mini", tokens=1 << 20, vocab=10, width=4)
