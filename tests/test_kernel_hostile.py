"""What hostile users found in the kernel library, kept from coming back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel.comparison import build
from accel.errors import InputError
from accel.kernels.catalog import kernel_of
from accel.kernels.library import operand_names
from accel.problem import Attention, ConvTranspose2d, Matmul, Problem, StreamingConv
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
