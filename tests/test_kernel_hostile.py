"""What hostile users found in the kernel library, kept from coming back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel.comparison import build
from accel.errors import CapacityError, InputError
from accel.kernels.catalog import kernel_of
from accel.kernels.library import operand_names
from accel.problem import Attention, Collective, ConvTranspose2d, Matmul, Pool2d, Problem, StreamingConv
from accel.verification import verify


@pytest.mark.parametrize(
    "problem",
    [
        ConvTranspose2d(1, 8, 9, 16, 2, 3, 1, pad=(0, 3), dilation=3, out_dtype="cfp8-143"),
        ConvTranspose2d(1, 13, 33, 1, 13, 2, 4, pad=1, dilation=3, dtype="fp16", direction="wgrad"),
        Attention(1, 1, 3, 3, 1),
        Attention(1, 2, 7, 5, 3, causal=True, direction="bwd"),
    ],
    ids=lambda p: p.label,
)
def test_inputs_that_are_not_yet_rounded_and_formats_with_a_bias(problem: Problem) -> None:
    rng = np.random.default_rng(3)
    inputs = {
        name: rng.normal(size=operand.shape).astype(np.float32)
        for name, operand in problem.operands.items()
        if operand.role == "in"
    }
    program = build(problem, "mini")
    verdict = verify(problem, program, inputs, program.run(inputs))
    assert verdict.mismatches == 0, verdict
    assert verdict.checked > 0


@pytest.mark.parametrize("resident", [3, None, [None], {1}, 2.5])
def test_operands_to_keep_are_names(resident: Any) -> None:
    with pytest.raises(InputError, match="names no operand; give names of operands"):
        build(Matmul(8, 8, 8), "mini", resident=resident)
    with pytest.raises(InputError, match="names no operand; give names of operands"):
        accel.kernels.softmax.build("mini", rows=3, columns=5, resident=resident)


def test_one_name_is_a_name() -> None:
    assert operand_names("gamma") == {"gamma"}
    assert operand_names(["x", "w"]) == {"x", "w"}
    assert operand_names(()) == frozenset()


def test_no_sample_is_larger_than_what_is_there_to_see() -> None:
    program = build(Matmul(8, 8, 8), "mini")
    with pytest.raises(InputError, match="a sample takes 1 to 65,536 blocks"):
        program.sample_outputs(10**22)


def test_sizes_of_other_integer_types_become_ints() -> None:
    given = [np.int64(4), np.int32(6), np.array(5), 3, 2, 2, 3, 3]
    problem = StreamingConv(*given)  # type: ignore[arg-type]
    assert [type(getattr(problem, name)) for name in problem.sizes()] == [int] * 8
    assert kernel_of(problem).problem is StreamingConv


SEVERAL: Any = np.array([1, 2])
IMAGE = {"n": 1, "h": 4, "w": 4, "c": 2, "k": 2, "r": 1, "s": 1}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Matmul(SEVERAL, 2, 3), "m=array([1, 2]) is not an integer; give a whole number"),
        (lambda: Attention(1, 1, 8, 8, 4, out_dtype=SEVERAL), "out_dtype=array([1, 2]) is not the name of a number"),
        (lambda: Attention(1, 1, 8, 8, 4, out_dtype=0), "out_dtype=0 is not the name of a number format"),
        (lambda: Collective(2, 2, 5, algorithm=SEVERAL), "algorithm=array([1, 2]) is not one of ring, grid, recursive"),
        (lambda: Collective(2, 2, 5, over=10**6000), "over=2^19931.. is not one of mesh, rows, cols; use one of these"),
        (lambda: Matmul(2, 2, 2, dtype_b=SEVERAL), "dtype_b=array([1, 2]) is not the name of a number format"),
        (lambda: Matmul(2, 2, 2, activation="x" * 9999), f"activation='{'x' * 56}... is not one of none, relu"),
        (lambda: Matmul(2, 2, 2, activation=[10**6000]), "activation=a list is not one of none, relu"),
        (lambda: Pool2d(1, 1 << 31, 9, 4, 3, 3), "h=2147483648 is outside 1..1048576"),
        (lambda: accel.kernels.conv2d.build("mini", **IMAGE, activation=SEVERAL), "activation=array([1, 2]) is"),
        (lambda: accel.kernels.softmax.build("mini", rows=3, columns=5, depth=10**6000), "depth is far beyond any"),
        (lambda: build(Matmul(2, 2, 2), None), "a chip cannot be None; give a catalog name"),
        (lambda: accel.kernels.losses.build(3, elements=5), "a chip cannot be 3; give a catalog name"),
    ],
)  # fmt: skip
def test_what_no_size_and_no_name_can_be(make: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_memory_cannot_hold_is_refused_before_it_is_cut_in_tiles() -> None:
    with pytest.raises(CapacityError, match=r"does not fit mini: the tensors of attention take [0-9,]+ B, and 'mini' "):
        accel.kernels.attention.build("mini", b=2, h=3, q=70, kv=1 << 32, d=16, causal=True, direction="bwd")
