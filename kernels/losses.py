"""L1, L2 and Huber losses between two tensors with their gradients, as a lesson: one number from a whole chip.

loss = mean over all elements of |d|, of d * d, or of Huber's loss of d = x - target (d * d / 2 up to |d| = delta, and
delta * (|d| - delta / 2) beyond). Backward: gx = scale times sign(d), 2 d, or d held to -delta..delta. scale is one
number in memory: the gradient of the loss over the number of elements, times a loss scale if there is one, so that
neither needs another program.

What the machine defines (and `reference` repeats in NumPy): every operation rounds to fp32 by itself, left to right as
written in `reference`; the sum over all elements takes pieces of 2048 in the order of `vec.reduce_sum` and folds them
as a balanced tree (`parts/sum_orders.py`).

1. One node that adds a tensor reads 64 bytes a cycle of a memory that gives 400. So every node takes an aligned run of
   2^k pieces and ends with one term of the tree; ten levels of messages of 4 bytes do the rest
   (`parts/run_streaming.py`).
2. The sign of d takes no comparison: d * 2^127 * 2^127 held to -1..1 is -1, 1, or the zero or NaN that d is.

The bound it approaches: compulsory bytes over memory bandwidth; a node's arithmetic is half its time at the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.column_streaming import ColumnTiling
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.run_streaming import RunStream, RunSums, choose_runs
from accel.kernels.parts.sum_orders import sum_rows
from accel.lang import K
from accel.numerics import fmt
from accel.problem import ElementLoss
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "backward", "build", "forward", "reference"]

WORK = 4 + 4 + 1
"""Bytes an element of a block that is worked on: d, room of its size, and the mask of Huber's loss."""
HUGE = 2.0**127
"""Twice this takes the smallest number of fp32, 2^-149, beyond 1."""


def reference(problem: ElementLoss, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the output of `problem` by name, in fp32: the definition, one rounding an operation."""
    v, p, F = values_of(problem, inputs), problem, np.float32
    delta, half = F(p.delta), F(0.5)
    with np.errstate(all="ignore"):
        d = v["x"] - v["target"]
        if p.direction == "fwd":
            size = np.abs(d)
            terms = {
                "l1": size,
                "l2": d * d,
                "huber": np.where(size <= delta, d * d * half, (size - F(p.delta / 2)) * delta),
            }
            return one_nan({"loss": sum_rows(terms[p.function])[None] / F(p.elements)})
        slope = {"l1": np.where(d == 0, d, np.sign(d)), "l2": d * F(2), "huber": np.clip(d, -delta, delta)}
        return one_nan({"gx": slope[p.function] * v["scale"]})


@kernel
def forward(k: K, x: View, target: View, loss: View, *, tiling: ColumnTiling, function: str, delta: float) -> None:
    """Return the mean loss."""
    x, target = (tensor.split(0, tensor.shape[0]) for tensor in (x, target))
    stream = RunStream(k, *_shape(x), tiling, (Sweep(("x", "target")),))
    stream.runs_in(x=x, target=target)
    sums = RunSums(stream)
    D, S = (k.sram((tiling.block,), "fp32", name) for name in ("d", "s"))
    M = k.sram((tiling.block,), "uint8", "mask") if function == "huber" else None
    count, stored = k.sram((1,), "fp32", "count"), k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, x.shape[1])
        for item in items:
            sums.begin()
            for piece in item.sweep(0):
                d, s = D[: piece.height], S[: piece.height]
                _difference(k, d, s, piece)
                if function == "l1":
                    k.vec.abs(d, d)
                elif function == "l2":
                    k.vec.mul(d, d, d)
                elif M is not None:
                    mask = M[: piece.height]
                    k.vec.abs(s, d)
                    k.vec.mul(d, d, d)
                    k.vec.mul(d, d, 0.5)
                    k.vec.compare(mask, s, "<=", delta)
                    k.vec.sub(s, s, delta / 2)
                    k.vec.mul(s, s, delta)
                    k.vec.select(d, mask, d, s)
                sums.add(d)
            total = sums.total()[0]
            with k.when(stream.member == 0):
                k.vec.div(total, total, count)
                k.copy(loss, total, sent=stored)
                k.wait(stored)

    stream.start(compute)


@kernel
def backward(
    k: K, x: View, target: View, scale: View, gx: View, *, tiling: ColumnTiling, function: str, delta: float
) -> None:
    """Return the gradient of x."""
    x, target, gx = (tensor.split(0, tensor.shape[0]) for tensor in (x, target, gx))
    stream = RunStream(k, *_shape(x), tiling, (Sweep(("x", "target"), ("gx",)),))
    stream.runs_in(x=x, target=target)
    stream.runs_out(gx=gx)
    factor = stream.constant("scale", scale)
    D, S = (k.sram((tiling.block,), "fp32", name) for name in ("d", "s"))

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            for piece in item.sweep(0):
                d = D[: piece.height]
                _difference(k, d, S[: piece.height], piece)
                if function == "l2":
                    k.vec.mul(d, d, 2.0)
                else:
                    limit = delta
                    if function == "l1":
                        limit = 1.0
                        k.vec.mul(d, d, HUGE)
                        k.vec.mul(d, d, HUGE)
                    k.vec.max(d, d, -limit)
                    k.vec.min(d, d, limit)
                k.vec.mul(piece["gx"], d, factor)

    stream.start(compute)


def _shape(x: View) -> tuple[int, int]:
    rows, length = x.shape
    return rows, length


def _difference(k: K, d: View, s: View, piece: Piece) -> None:
    """d = x - target in fp32; s is room."""
    k.vec.cast(d, piece["x"])
    k.vec.cast(s, piece["target"])
    k.vec.sub(d, d, s)


def build(
    chip: ChipSpec | str, *, elements: int, function: str = "l2", dtype: str = "bf16", direction: str = "fwd",
    delta: float = 1.0, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of a loss "l1", "l2" or "huber" between x and target, both (elements,), for `chip`.

    direction "fwd": x, target -> loss (1,), the mean; "bwd": x, target, scale (1,) -> gx; see `ElementLoss`. tiling:
    block (1, 2 or 4 pieces of 2048), depth (slots). Raises InputError, UnsupportedError for resident operands.
    """
    problem = ElementLoss(elements, function, dtype, direction, delta)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: ElementLoss, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item = problem, fmt(problem.dtype).bytes
    streamed = item * (2 if p.direction == "fwd" else 3)
    chosen = choose_runs(chip, 1, p.elements, streamed=streamed, work=WORK, **tiling)
    given: dict[str, Any] = {"tiling": chosen, "function": p.function, "delta": p.delta}
    if p.direction == "fwd":
        return forward.build(chip, **given, **tensors_of(p, "x target loss"))
    return backward.build(chip, **given, **tensors_of(p, "x target scale gx"))


KERNEL = LibraryKernel(
    problem=ElementLoss,
    program=_program,
    oracle=reference,
    examples=(
        ElementLoss(1),
        ElementLoss(5000, "l1"),
        ElementLoss(2049, "l2", dtype="fp32"),
        ElementLoss(70_001, "huber", delta=0.75),
        ElementLoss(3001, "l1", dtype="fp16", direction="bwd"),
        ElementLoss(700, "l1", dtype="fp32", direction="bwd"),
        ElementLoss(2048, "l2", direction="bwd"),
        ElementLoss(40_000, "huber", dtype="fp32", direction="bwd"),
    ),
)
