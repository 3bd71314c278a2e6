"""Run a library kernel and compare its outputs, bit for bit, with its definition; inputs for the tests of kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import accel
from accel.hardware import ChipSpec
from accel.kernels.catalog import kernel_of
from accel.numerics import as_storage
from accel.problem import Problem
from accel.program import Program


def random_inputs(problem: Problem, seed: int) -> dict[str, Any]:
    """Normal numbers for every input, or what the kernel says is legal."""
    kernel = kernel_of(problem)
    if kernel.inputs is not None:
        return kernel.inputs(problem, seed)
    rng = np.random.default_rng(seed)
    inputs = {name: o for name, o in problem.operands.items() if o.role == "in"}
    return {name: rng.normal(size=o.shape).astype(np.float32) for name, o in inputs.items()}


def on_mesh(rows: int, cols: int, **fields: Any) -> ChipSpec:
    """The chip `mini` with another mesh (at most 4 x 4) and other fields."""
    return accel.chip("mini").replace(**{"mesh.rows": rows, "mesh.cols": cols}, **fields)


def built(problem: Problem, chip: ChipSpec | str = "mini", **tiling: Any) -> Program:
    """The program of a problem."""
    spec = accel.chip(chip) if isinstance(chip, str) else chip
    return kernel_of(problem).program(spec, problem, resident=frozenset(), **tiling)


def bits(problem: Problem, name: str, values: Any) -> np.ndarray:
    """An output as codes of its format."""
    stored = as_storage(values, problem.operands[name].dtype)
    codes: np.ndarray = np.ascontiguousarray(stored).view(f"u{stored.itemsize}")
    return codes


def agree(
    problem: Problem, chip: ChipSpec | str = "mini", *, inputs: Mapping[str, Any] | None = None, seed: int = 0,
    schedules: int = 0, **tiling: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Run; every output has the bits of the definition, also under adversarial schedules; returns the outputs."""
    program = built(problem, chip, **tiling)
    given = random_inputs(problem, seed) if inputs is None else inputs
    out = program.run(dict(given))
    want = kernel_of(problem).oracle(problem, given)
    outputs = {name for name, operand in problem.operands.items() if operand.role == "out"}
    assert set(program.outputs) == outputs == set(want)
    for name in outputs:
        mine, theirs = bits(problem, name, out[name]), bits(problem, name, want[name])
        assert mine.shape == theirs.shape == problem.operands[name].shape
        assert (mine == theirs).all(), (name, problem)
    if schedules:
        program.check(schedules)
        for schedule in range(1, schedules + 1):
            again = program.run(dict(given), schedule=schedule)
            assert all(again[name].tobytes() == out[name].tobytes() for name in outputs)
    return {name: np.asarray(out[name]) for name in outputs}
