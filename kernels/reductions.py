"""Sum, mean, maximum and minimum over one axis, with the gradients of sum and mean, as a lesson: who adds what.

Any axis of any tensor is the middle one of (outer, length, inner). Three shapes of it want three ways over the mesh:

1. `rows` - many rows, inner = 1: each node reduces rows of its own, 16 lanes wide along the row
   (`parts/row_streaming.py`).
2. `runs` - few long rows: a team of nodes shares a row, and its sums go up a tree (`parts/run_streaming.py`).
3. `columns` - inner > 1: lanes lie across the inner axis, which stays, so rows are added as vectors; nodes share what
   is added where outer and inner are small (`parts/column_streaming.py`).

What the machine defines (and `reference` repeats in NumPy): sums are taken in fp32 in the order of
`parts/sum_orders.py`, along a row where inner is 1, down columns otherwise, and never depend on which way was taken;
a mean is the sum divided by the length; then one rounding to the result. Maximum and minimum take any order: NaN wins,
and +0 is larger than -0. The gradient of a sum is gy everywhere, that of a mean gy / length.

The bound it approaches: compulsory bytes over memory bandwidth. An element is read once, and two passes of the vector
unit (widen, add) are less than its time at the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.column_streaming import ColumnPlan, ColumnStream, ColumnTiling, TeamSums, choose_columns
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.row_streaming import RowPlan, RowStream, RowTiling, choose_rows
from accel.kernels.parts.run_streaming import RunStream, RunSums, choose_runs
from accel.kernels.parts.sum_orders import PIECE, fold_rows, sum_columns, sum_rows
from accel.lang import K
from accel.numerics import fmt
from accel.problem import Reduce
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "columns", "reference", "rows", "runs", "spread_columns", "spread_rows", "spread_runs"]


def reference(problem: Reduce, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the output of `problem` by name, in fp32: the definition."""
    v, p = values_of(problem, inputs), problem
    length, shapes = np.float32(p.length), {name: operand.shape for name, operand in p.operands.items()}
    with np.errstate(all="ignore"):
        if p.direction == "bwd":
            each = v["gy"].reshape(p.outer, 1, p.inner)
            each = each / length if p.function == "mean" else each
            return one_nan({"gx": np.broadcast_to(each, shapes["gx"])})
        x = v["x"]
        if p.function in ("max", "min"):
            # The bits of floats, read as signed integers with the negative ones turned round, are in order, zeros too.
            order = x.view(np.int32) ^ ((x.view(np.int32) >> 31) & 0x7FFFFFFF)
            best = order.max(axis=1) if p.function == "max" else order.min(axis=1)
            y = (best ^ ((best >> 31) & 0x7FFFFFFF)).view(np.float32)
            y = np.where(np.isnan(x).any(axis=1), np.float32(np.nan), y)
        else:
            y = sum_rows(x[..., 0])[:, None] if p.inner == 1 else sum_columns(np.moveaxis(x, 1, 0))
            y = y / length if p.function == "mean" else y
        return one_nan({"y": y.reshape(shapes["y"])})


@kernel
def rows(k: K, x: View, y: View, *, tiling: RowTiling, function: str) -> None:
    """Reduce every row of (outer, length, 1), each on one node."""
    x, y = x.merge(1), _flat(y)
    outer, length = x.shape
    stream = RowStream(k, outer, length, tiling, (Sweep(("x",)),))
    stream.rows_in(x=x)
    stream.row_out(y=y)
    reduce, _ = _instructions(k, function)
    summed = function in ("sum", "mean")
    terms = k.sram((tiling.block, stream.per_item), "fp32" if summed else x.dtype, "terms")
    wide = k.sram((tiling.block, tiling.width), "fp32", "wide") if summed else None
    count = k.sram((1,), "fp32", "count")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, length)
        for item in items:
            part = terms[: item.height]
            for piece in item.sweep(0):
                view = piece["x"]
                if wide is not None:
                    view = wide[: piece.height, : piece.width]
                    k.vec.cast(view, piece["x"])
                reduce(part[:, piece.number : piece.number + 1], view)
            if function == "mean":
                k.vec.div(item["y"], fold_rows(k, part), count)
            elif summed:
                k.vec.cast(item["y"], fold_rows(k, part))
            else:
                reduce(item["y"], part)

    stream.start(compute)


@kernel
def runs(k: K, x: View, y: View, *, tiling: ColumnTiling, function: str) -> None:
    """Reduce every row of (outer, length, 1), each on a team of nodes."""
    x, y = x.merge(1), _flat(y)
    outer, length = x.shape
    stream = RunStream(k, outer, length, tiling, (Sweep(("x",)),))
    stream.runs_in(x=x)
    sums = RunSums(stream, *_instructions(k, function))
    wide, out = k.sram((tiling.block,), "fp32", "wide"), k.sram((1,), y.dtype, "out")
    count, stored = k.sram((1,), "fp32", "count"), k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, length)
        for item in items:
            sums.begin()
            for piece in item.sweep(0):
                f = wide[: piece.height]
                k.vec.cast(f, piece["x"])
                sums.add(f)
            total = sums.total()[0]
            with k.when(stream.member == 0):
                _result(k, out, total, count, function)
                k.copy(y[item.image : item.image + 1], out, sent=stored)
                k.wait(stored)

    stream.start(compute)


@kernel
def columns(k: K, x: View, y: View, *, tiling: ColumnTiling, function: str) -> None:
    """Reduce the middle axis of (outer, length, inner)."""
    y = y.merge(0) if len(y.shape) == 3 else y
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("x",)),))
    stream.pixels_in(x=x)
    sums = TeamSums(stream, 1, _instructions(k, function)[1])
    wide, out = k.sram((tiling.block, tiling.width), "fp32", "wide"), k.sram((1, tiling.width), y.dtype, "out")
    count, stored = k.sram((1,), "fp32", "count"), k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, x.shape[1])
        for item in items:
            sums.add_all(item, "x", wide)
            total = sums.total(spread=False)
            with k.when(stream.member == 0):
                _result(k, out[:, : item.width], total, count, function)
                k.copy(y[item.image, item.columns], out[:, : item.width], sent=stored)
                k.wait(stored)

    stream.start(compute)


@kernel
def spread_rows(k: K, gy: View, gx: View, *, tiling: RowTiling, function: str) -> None:
    """Fill every row of gx (outer, length, 1) with its gy, or a share of it."""
    gy, gx = _flat(gy), gx.merge(1)
    outer, length = gx.shape
    stream = RowStream(k, outer, length, tiling, (Sweep((), ("gx",)),))
    stream.row_in(gy=gy)
    stream.rows_out(gx=gx)
    each, count = k.sram((tiling.block, 1), "fp32", "each"), k.sram((1,), "fp32", "count")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, length)
        for item in items:
            share = _share(k, each[: item.height], item["gy"], count, function)
            for piece in item.sweep(0):
                k.vec.cast(piece["gx"], share)

    stream.start(compute)


@kernel
def spread_runs(k: K, gy: View, gx: View, *, tiling: ColumnTiling, function: str) -> None:
    """Fill every row of gx (outer, length, 1) with its gy, or a share of it, each row on a team of nodes."""
    gy, gx = _flat(gy), gx.merge(1)
    outer, length = gx.shape
    stream = RunStream(k, outer, length, tiling, (Sweep((), ("gx",)),))
    stream.row_in(gy=gy)
    stream.runs_out(gx=gx)
    each, count = k.sram((1,), "fp32", "each"), k.sram((1,), "fp32", "count")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, length)
        for item in items:
            share = _share(k, each, item["gy"], count, function)
            for piece in item.sweep(0):
                k.vec.cast(piece["gx"], share)

    stream.start(compute)


@kernel
def spread_columns(k: K, gy: View, gx: View, *, tiling: ColumnTiling, function: str) -> None:
    """Fill gx[o, :, i] with gy[o, i], or a share of it."""
    gy = gy.merge(0) if len(gy.shape) == 3 else gy
    stream = ColumnStream(k, gx.shape, tiling, (Sweep((), ("gx",)),))
    stream.flow(
        "gy", gy, (1, tiling.width), 2, lambda item: (slice(item.image, item.image + 1), item.columns), per="item"
    )
    stream.pixels_out(gx=gx)
    each, count = k.sram((1, tiling.width), "fp32", "each"), k.sram((1,), "fp32", "count")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, gx.shape[1])
        for item in items:
            share = _share(k, each[:, : item.width], item["gy"], count, function)
            for piece in item.sweep(0):
                k.vec.cast(piece["gx"], share)

    stream.start(compute)


def _flat(y: View) -> View:
    """View (outer, 1) or (outer, 1, 1) as (outer,)."""
    while len(y.shape) > 1:
        y = y.merge(len(y.shape) - 2)
    return y


def _instructions(k: K, function: str) -> tuple[Any, Any]:
    """Return the instruction that reduces a row, and the one that joins two numbers."""
    return {"max": (k.vec.reduce_max, k.vec.max), "min": (k.vec.reduce_min, k.vec.min)}.get(
        function, (k.vec.reduce_sum, k.vec.add)
    )


def _result(k: K, out: View, total: View, count: View, function: str) -> None:
    """Round the total, or for a mean the quotient, to the format of the result."""
    if function == "mean":
        k.vec.div(out, total, count)
    else:
        k.vec.cast(out, total)


def _share(k: K, each: View, gy: View, count: View, function: str) -> View:
    """Return gy in fp32, for a mean divided by the length."""
    k.vec.cast(each, gy)
    if function == "mean":
        k.vec.div(each, each, count)
    return each


def build(
    chip: ChipSpec | str, *, outer: int, length: int, inner: int, function: str = "sum", dtype: str = "bf16",
    out_dtype: str = "", direction: str = "fwd", keep: bool = False, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program that reduces x (outer, length, inner) over length by sum, mean, max or min, for `chip`.

    direction "fwd": x -> y (outer, inner), or (outer, 1, inner) with keep; "bwd", of sum and mean: gy -> gx; see
    `Reduce`. tiling: block, depth, held, as the way over the mesh takes them. Raises InputError, CapacityError where
    pieces do not fit, UnsupportedError for resident operands.
    """
    problem = Reduce(outer, length, inner, function, dtype, out_dtype, direction, keep)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: Reduce, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item, out = problem, fmt(problem.dtype).bytes, fmt(problem.out_dtype).bytes
    forward, names = p.direction == "fwd", "x y" if p.direction == "fwd" else "gy gx"
    given: dict[str, Any] = {"function": p.function, **tensors_of(p, names)}
    if p.inner > 1:
        plan = ColumnPlan((item,), (), 1, 1, 2) if forward else ColumnPlan((), (out,), 0, 0, 4)
        chosen = choose_columns(chip, p.outer, p.length, p.inner, plan, **{"held": 0, **tiling})
        return (columns if forward else spread_columns).build(chip, tiling=chosen, **given)
    if p.length > PIECE and p.outer < chip.mesh.rows * chip.mesh.cols:
        streamed, work = (item, 4) if forward else (out, 0)
        shared = choose_runs(chip, p.outer, p.length, streamed=streamed, work=work, **tiling)
        return (runs if forward else spread_runs).build(chip, tiling=shared, **given)
    lines = RowPlan((item,), (), 1) if forward else RowPlan((), (out,), 0)
    own = choose_rows(chip, p.outer, p.length, lines, **{"held": 0, **tiling})
    return (rows if forward else spread_rows).build(chip, tiling=own, **given)


KERNEL = LibraryKernel(
    problem=Reduce,
    program=_program,
    oracle=reference,
    examples=(
        Reduce(1, 1, 1),
        Reduce(37, 61, 1),
        Reduce(19, 2100, 1, function="mean", dtype="fp32"),
        Reduce(2, 9000, 1, function="max", dtype="fp16", out_dtype="fp32"),
        Reduce(1, 12_345, 1, out_dtype="fp32", keep=True),
        Reduce(3, 47, 13, function="mean", keep=True),
        Reduce(1, 301, 70, function="min", dtype="fp32"),
        Reduce(23, 3, 7, out_dtype="fp32"),
        Reduce(37, 61, 1, direction="bwd"),
        Reduce(2, 5000, 1, function="mean", direction="bwd"),
        Reduce(3, 47, 13, function="mean", dtype="fp32", direction="bwd", keep=True),
    ),
)
