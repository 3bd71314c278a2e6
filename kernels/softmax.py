"""Softmax along rows with its gradient, as a lesson: how often a row has to be exponentiated.

y = exp(x - max x) / sum of exp(x - max x) over each row; subtracting the maximum changes nothing but the range, so that
no exponential overflows and the largest is 1. Backward, from gy and the saved y: gx = (gy - sum of gy y) * y.

What the machine defines (and `reference` repeats in NumPy): every operation rounds to fp32 by itself, left to right as
written in `reference`; exp is the chip's (`accel.isa.transcendentals`); the division is a product with the reciprocal,
which rounds once more but costs one division a row, not one an element. Sums follow `parts/sum_orders.py`.

1. Three sweeps over a row in memory (maximum, sum, result) would move it four times. A row stays in SRAM instead.
2. Two of the sweeps exponentiate, at 12 passes of the vector unit each. Where SRAM has room for a row in fp32 the
   exponentials of the second sweep are kept for the third; where it has not, they are computed again, to the same bits.
3. Rows are independent and dealt over the mesh; loads, arithmetic and stores of different blocks overlap
   (`parts/row_streaming.py`). A row that does not fit SRAM, such as a vocabulary in fp32, is read again for each sweep.

The bound it approaches: compulsory bytes over memory bandwidth on `d1`, where a bf16 element in and out leaves a node
3.4 cycles, of which its arithmetic takes 1.4; on chips with more bandwidth a node, the exponentials.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.isa.functions import apply
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import in_strips, one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.row_streaming import RowPlan, RowStream, RowTiling, choose_rows
from accel.kernels.parts.sum_orders import fold_rows, sum_rows
from accel.lang import K
from accel.numerics import fmt
from accel.problem import Softmax
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "backward", "build", "forward", "reference"]


def reference(problem: Softmax, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the output of `problem` by name, in fp32: the definition, one rounding an operation."""

    def rows(v: Mapping[str, Any]) -> dict[str, np.ndarray]:
        with np.errstate(all="ignore"):
            if problem.direction == "bwd":
                return one_nan({"gx": (v["gy"] - sum_rows(v["gy"] * v["y"])[:, None]) * v["y"]})
            e = apply("exp", v["x"] - v["x"].max(axis=1, keepdims=True))
            return one_nan({"y": e * (np.float32(1) / sum_rows(e))[:, None]})

    (result,) = (name for name, operand in problem.operands.items() if operand.role == "out")
    v = values_of(problem, inputs)
    return in_strips(rows, v, dict.fromkeys(v, 0), {result: 0})


@kernel
def forward(k: K, x: View, y: View, *, tiling: RowTiling, keep: bool) -> None:
    """Return the softmax of each row; `keep` holds its exponentials between the second and the third sweep."""
    sweeps = (Sweep(("x",)), Sweep(("x",)), Sweep(() if keep else ("x",), ("y",)))
    rows, columns = x.shape
    stream = RowStream(k, rows, columns, tiling, sweeps)
    stream.rows_in(x=x)
    stream.rows_out(y=y)
    pieces = stream.per_item
    powers = k.sram((pieces if keep else 1, tiling.block, tiling.width), "fp32", "powers")
    peaks = k.sram((tiling.block, pieces), x.dtype, "peaks")
    terms = k.sram((tiling.block, pieces), "fp32", "terms")
    most, one = k.sram((tiling.block, 1), "fp32", "most"), k.sram((1,), "fp32", "one")

    def exponential(piece: Piece, peak: View) -> View:
        e = powers[piece.number if keep else 0, : piece.height, : piece.width]
        k.vec.cast(e, piece["x"])
        k.vec.sub(e, e, peak)
        k.vec.exp(e, e)
        return e

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(one, 1.0)
        for item in items:
            some = slice(0, item.height)
            peak, total = most[some], terms[some]
            for piece in item.sweep(0):
                k.vec.reduce_max(peaks[some, piece.number : piece.number + 1], piece["x"])
            k.vec.reduce_max(peak, peaks[some])
            for piece in item.sweep(1):
                k.vec.reduce_sum(total[:, piece.number : piece.number + 1], exponential(piece, peak))
            scale = fold_rows(k, total)
            k.vec.div(scale, one, scale)
            for piece in item.sweep(2):
                e = powers[piece.number, some, : piece.width] if keep else exponential(piece, peak)
                k.vec.mul(piece["y"], e, scale)

    stream.start(compute)


@kernel
def backward(k: K, gy: View, y: View, gx: View, *, tiling: RowTiling) -> None:
    """Return the gradient of x from gy and the result y."""
    rows, columns = y.shape
    stream = RowStream(k, rows, columns, tiling, (Sweep(("gy", "y")), Sweep(("gy", "y"), ("gx",))))
    stream.rows_in(gy=gy, y=y)
    stream.rows_out(gx=gx)
    G, Y = (k.sram((tiling.block, tiling.width), "fp32", name) for name in ("g", "wide_y"))
    terms = k.sram((tiling.block, stream.per_item), "fp32", "terms")

    def widened(piece: Piece) -> tuple[View, View]:
        wide = [b[: piece.height, : piece.width] for b in (G, Y)]
        k.vec.cast(wide[0], piece["gy"])
        k.vec.cast(wide[1], piece["y"])
        return wide[0], wide[1]

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            total = terms[: item.height]
            for piece in item.sweep(0):
                g, r = widened(piece)
                k.vec.mul(g, g, r)
                k.vec.reduce_sum(total[:, piece.number : piece.number + 1], g)
            along = fold_rows(k, total)
            for piece in item.sweep(1):
                g, r = widened(piece)
                k.vec.sub(g, g, along)
                k.vec.mul(piece["gx"], g, r)

    stream.start(compute)


def build(
    chip: ChipSpec | str, *, rows: int, columns: int, dtype: str = "bf16", out_dtype: str = "", direction: str = "fwd",
    resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of a softmax along the rows of x (rows, columns) for `chip`.

    direction "fwd": x -> y; "bwd": gy, y -> gx; see `Softmax`. tiling: block (rows), depth (slots), held (0 reads rows
    again), keep (0 exponentiates again). Raises InputError, CapacityError where not even a piece of a row fits,
    UnsupportedError for resident operands.
    """
    problem = Softmax(rows, columns, dtype, out_dtype, direction)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: Softmax, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item, out = problem, fmt(problem.dtype).bytes, fmt(problem.out_dtype).bytes
    if p.direction == "bwd":
        plan = RowPlan(reads=(item, item), writes=(out,), work=2)
        return backward.build(
            chip, tiling=choose_rows(chip, p.rows, p.columns, plan, **tiling), **tensors_of(p, "gy y gx")
        )
    keep = tiling.pop("keep", 1)
    plan = RowPlan(reads=(item,), writes=(out,), work=1)
    chosen = choose_rows(chip, p.rows, p.columns, plan, **tiling)
    whole = replace(plan, work=0, row_work=1)
    keep = bool(keep and chosen.held and whole.sram_bytes(p.columns, chosen) <= chip.node.sram_bytes)
    return forward.build(chip, tiling=chosen, keep=keep, **tensors_of(p, "x y"))


KERNEL = LibraryKernel(
    problem=Softmax,
    program=_program,
    oracle=reference,
    examples=(
        Softmax(1, 1),
        Softmax(37, 61),
        Softmax(5, 2049, dtype="fp16", out_dtype="fp32"),
        Softmax(3, 4099, dtype="fp32"),
        Softmax(37, 61, direction="bwd"),
        Softmax(19, 2100, dtype="fp32", direction="bwd"),
    ),
)
