"""What the builders of streamed kernels share: chips by name, tensors of a problem, and its inputs as fp32 values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.lang import tensor
from accel.numerics import as_storage, from_storage

if TYPE_CHECKING:
    from accel.problem import Problem

__all__ = ["chip_of", "in_strips", "one_nan", "only_in_memory", "present", "tensors_of", "values_of"]


def chip_of(chip: ChipSpec | str) -> ChipSpec:
    """Return the chip of a catalog name or TOML path; a chip is itself."""
    return find_chip(chip)


def only_in_memory(problem: Problem, resident: frozenset[str]) -> None:
    """UnsupportedError if operands are to be resident: the kernel streams them from memory and back."""
    if resident:
        names = ", ".join(sorted(resident))
        raise UnsupportedError(
            f"{problem.kind} streams its operands from memory and keeps none resident; leave resident={names} out"
        )


def tensors_of(problem: Problem, names: str) -> dict[str, Any]:
    """Return the tensors of the problem for a kernel's parameters `names`, None for those that it does not have."""
    operands = problem.operands
    return {n: tensor(operands[n].shape, operands[n].dtype) if n in operands else None for n in names.split()}


def present(**tensors: Any) -> dict[str, Any]:
    """Return the tensors that are there, of those that only some problems of a kernel have."""
    return {name: view for name, view in tensors.items() if view is not None}


def values_of(problem: Problem, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the inputs of the problem as stored in their formats: fp32 values, int32 as they are."""
    found = {}
    for name, operand in problem.operands.items():
        if operand.role == "in":
            stored = as_storage(inputs[name], operand.dtype)
            found[name] = stored if operand.dtype == "int32" else from_storage(stored, operand.dtype, as_="float32")
    return found


def in_strips(
    outputs_of: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], inputs: Mapping[str, np.ndarray],
    along: Mapping[str, int], joined: Mapping[str, int], elements: int = 1 << 20,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return `outputs_of(inputs)` computed part by part, so that large tensors need little room for what is in between.

    along: the axis of each input that is cut (inputs not named are passed whole); joined: that of each output. A part
    has about `elements` elements of the largest input. Results of a part must not depend on the other parts.
    """
    size = max(inputs[name].size // inputs[name].shape[axis] for name, axis in along.items())
    count = next(inputs[name].shape[axis] for name, axis in along.items())
    step, parts = max(1, elements // size), []
    for at in range(0, count, step):
        own = {name: inputs[name].take(range(at, min(at + step, count)), axis=axis) for name, axis in along.items()}
        parts.append(outputs_of({**inputs, **own}))
    return {name: np.concatenate([part[name] for part in parts], axis=axis) for name, axis in joined.items()}


def one_nan(outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs in fp32 with every NaN the one that the machine writes; NumPy's have either sign."""
    numbers = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    return {name: np.where(np.isnan(values), np.float32(np.nan), values) for name, values in numbers.items()}
