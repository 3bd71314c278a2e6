"""Layer norm and RMS norm with their gradients, as a lesson: rows streamed through the mesh, statistics in two passes.

y = (x - mean) * rstd * gamma + beta over each row, rstd = 1 / sqrt(variance + epsilon); RMS norm (Zhang and Sennrich,
2019) leaves the mean and beta out. Backward, with h = (x - mean) * rstd and g = gy * gamma:
gx = (g - h * mean(g h) - mean(g)) * rstd, ggamma = sum of gy h and gbeta = sum of gy over all rows.

What the machine defines (and `reference` repeats in NumPy): every operation rounds to fp32 by itself, left to right as
written in `reference`, and results once more to their own format. The variance is the mean of the squares of the
*centred* row: two passes, since the mean of squares less the square of the mean loses all digits of a row with a large
mean. Sums follow `parts/sum_orders.py`: along a row pieces of 2048, down the rows chains of 8 and a balanced tree.

1. One row at a time on one node would read every row three times. A row stays in SRAM instead, as stored, and each of
   the three sweeps (sum, squares, result) widens it again: an extra pass of the vector unit against half the SRAM.
2. Rows are independent, so they are dealt over the mesh (`parts/row_streaming.py`); loads, arithmetic and stores of
   different blocks overlap. gamma and beta are fetched once and multicast.
3. Backward also sums over rows. Nodes own aligned runs of 8 * 2^k rows, add their own rows in the order of the tree,
   and the mesh does the upper levels (`parts/column_sums.py`): x and gy cross the memory's edge once. Where no node has
   room for sums as wide as a row, they are taken in a second reading, slice by slice, to the same bits.

The bound it approaches: compulsory bytes over memory bandwidth. On `d1` a node has 1.2 bytes of it a cycle, so a bf16
element in and out leaves 3.4 cycles, against about 0.7 of arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import CapacityError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.column_streaming import (
    ColumnPlan,
    ColumnStream,
    ColumnTiling,
    TeamSums,
    choose_columns,
)
from accel.kernels.parts.column_sums import STRIP, ColumnSums, MeshTree, chunk_of, levels_of
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, present, tensors_of, values_of
from accel.kernels.parts.row_streaming import (
    RowPlan,
    RowStream,
    RowTiling,
    choose_rows,
    choose_summed_rows,
    node_index,
)
from accel.kernels.parts.sum_orders import BLOCK, fold_rows, sum_columns, sum_rows
from accel.lang import K
from accel.numerics import fmt
from accel.problem.norms import LayerNorm
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "backward", "build", "forward", "reference"]


def reference(problem: LayerNorm, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name, in fp32: the definition, one rounding an operation."""
    x = values_of(problem, inputs)
    columns, layer = np.float32(problem.columns), problem.function == "layer"
    with np.errstate(all="ignore"):
        if problem.direction == "fwd":
            centred, out = x["x"], {}
            if layer:
                out["mean"] = sum_rows(x["x"]) / columns
                centred = x["x"] - out["mean"][:, None]
            variance = sum_rows(centred * centred) / columns
            out["rstd"] = np.float32(1) / np.sqrt(variance + np.float32(problem.epsilon))
            scaled = centred * out["rstd"][:, None] * x["gamma"]
            return one_nan({"y": scaled + x["beta"] if layer else scaled} | out)
        rstd = x["rstd"][:, None]
        h = (x["x"] - x["mean"][:, None]) * rstd if layer else x["x"] * rstd
        out = {"ggamma": sum_columns(x["gy"] * h)}
        g = x["gy"] * x["gamma"]
        gx = g - h * (sum_rows(g * h) / columns)[:, None]
        if layer:
            out["gbeta"] = sum_columns(x["gy"])
            gx = gx - (sum_rows(g) / columns)[:, None]
        return one_nan({"gx": gx * rstd} | out)


@kernel
def forward(
    k: K, x: View, gamma: View, beta: View | None, y: View, mean: View | None, rstd: View, *, tiling: RowTiling,
    epsilon: float,
) -> None:  # fmt: skip
    """Normalise rows; without `mean` and `beta` it is RMS norm."""
    rows, columns = x.shape
    parameters = ("gamma",) if beta is None else ("gamma", "beta")
    sums = (Sweep(("x",)),) if mean is None else (Sweep(("x",)), Sweep(("x",)))
    stream = RowStream(k, rows, columns, tiling, (*sums, Sweep(("x", *parameters), ("y",))))
    stream.rows_in(x=x)
    stream.column_in(**present(gamma=gamma, beta=beta))
    stream.rows_out(y=y)
    stream.row_out(**present(mean=mean, rstd=rstd))
    wide = k.sram((tiling.block, tiling.width), "fp32", "wide")
    terms = k.sram((tiling.block, stream.per_item), "fp32", "terms")
    numbers = k.sram((2,), "fp32", "numbers")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(numbers[0], columns)
        k.vec.fill(numbers[1], 1.0)
        for item in items:
            part = terms[: item.height]
            if mean is not None:
                for piece in item.sweep(0):
                    f = wide[: piece.height, : piece.width]
                    k.vec.cast(f, piece["x"])
                    k.vec.reduce_sum(part[:, piece.number : piece.number + 1], f)
                k.vec.div(item["mean"], fold_rows(k, part), numbers[0])
            for piece in item.sweep(len(sums) - 1):
                f = wide[: piece.height, : piece.width]
                _centred(k, f, piece, item)
                k.vec.mul(f, f, f)
                k.vec.reduce_sum(part[:, piece.number : piece.number + 1], f)
            scale = item["rstd"]
            k.vec.div(scale, fold_rows(k, part), numbers[0])
            k.vec.add(scale, scale, epsilon)
            k.vec.sqrt(scale, scale)
            k.vec.div(scale, numbers[1], scale)
            for piece in item.sweep(len(sums)):
                f = wide[: piece.height, : piece.width]
                _centred(k, f, piece, item)
                k.vec.mul(f, f, scale)
                if beta is None:
                    k.vec.mul(piece["y"], f, piece["gamma"])
                else:
                    k.vec.mul(f, f, piece["gamma"])
                    k.vec.add(piece["y"], f, piece["beta"])

    stream.start(compute)


@kernel
def backward(
    k: K, gy: View, x: View, gamma: View, mean: View | None, rstd: View, gx: View, ggamma: View, gbeta: View | None,
    *, tiling: RowTiling, apart: ColumnTiling | None,
) -> None:  # fmt: skip
    """Return the gradients of rows and parameters from gy, x and the saved statistics.

    apart: how to sum over rows in a second reading, channels by slices, where no node has room for whole sums.
    """
    rows, columns = x.shape
    sweep = ("gy", "x", "gamma")
    stream = RowStream(k, rows, columns, tiling, (Sweep(sweep), Sweep(sweep, ("gx",))))
    stream.rows_in(gy=gy, x=x)
    stream.column_in(gamma=gamma)
    stream.row_in(**present(mean=mean, rstd=rstd))
    stream.rows_out(gx=gx)
    G, H, T = (k.sram((tiling.block, tiling.width), "fp32", name) for name in ("g", "h", "t"))
    terms = k.sram((2, tiling.block, stream.per_item), "fp32", "terms")
    numbers = k.sram((1,), "fp32", "numbers")
    results = [out for out in (ggamma, gbeta) if out is not None]
    parameters = _OnTheWay(k, stream, results) if apart is None else None

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(numbers, columns)
        for item in items:
            for piece in item.sweep(0):
                g, h, t = (b[: piece.height, : piece.width] for b in (G, H, T))
                k.vec.cast(g, piece["gy"])
                _normalised(k, h, piece, item)
                if parameters is not None:
                    k.vec.mul(t, g, h)
                    parameters.add(piece, t, g)
                k.vec.mul(g, g, piece["gamma"])
                here = slice(piece.number, piece.number + 1)
                k.vec.mul(h, g, h)
                k.vec.reduce_sum(terms[0, : item.height, here], h)
                if gbeta is not None:
                    k.vec.reduce_sum(terms[1, : item.height, here], g)
            if parameters is not None:
                parameters.close(item)
            means = [fold_rows(k, terms[i, : item.height]) for i in range(len(results))]
            for term in means:
                k.vec.div(term, term, numbers)
            for piece in item.sweep(1):
                g, h = (b[: piece.height, : piece.width] for b in (G, H))
                k.vec.cast(g, piece["gy"])
                k.vec.mul(g, g, piece["gamma"])
                _normalised(k, h, piece, item)
                k.vec.mul(h, h, means[0])
                k.vec.sub(g, g, h)
                if gbeta is not None:
                    k.vec.sub(g, g, means[1])
                k.vec.mul(piece["gx"], g, item["rstd"])
        if parameters is not None:
            parameters.finish()

    again = None if apart is None else _again(k, apart, gy, x, present(mean=mean, rstd=rstd), results)
    stream.start(compute, then=again)


class _OnTheWay:
    """Sums over rows while rows pass: the stack of column sums of a node, and the tree over the mesh at the end."""

    def __init__(self, k: K, stream: RowStream, results: list[View]) -> None:
        t, columns = stream.tiling, stream.columns
        self.k, self.stream, self.results, self.done = k, stream, results, 0
        self.unit = max(t.block, BLOCK)
        stream.unrolled = True  # the stack follows no loop index
        self.sums = ColumnSums(k, len(results), columns, self.unit, levels_of(t.chunk, self.unit), t.width)
        self.tree = MeshTree(k, len(results), columns, -(-stream.rows // t.chunk))
        self.out, self.stored = k.sram((columns,), results[0].dtype, "out"), k.sem(name="stored")

    def add(self, piece: Piece, *terms: View) -> None:
        """Add a piece to each sum."""
        for number, term in enumerate(terms[: len(self.results)]):
            self.sums.add(number, piece.left, term, self.done % BLOCK == 0)

    def close(self, item: Piece) -> None:
        """End a block of rows."""
        self.done += item.height
        if self.done % self.unit == 0 or self.done == self.stream.own:
            self.sums.close()

    def finish(self) -> None:
        """Add up the nodes' sums; node (0, 0) stores them."""
        k, total = self.k, self.sums.total()
        self.tree.fold(total, node_index(k))
        with k.when((k.row == 0) & (k.col == 0)):
            for number, result in enumerate(self.results):
                k.vec.cast(self.out, total[number])
                k.copy(result, self.out, sent=self.stored)
                k.wait(self.stored)


def _again(
    k: K, tiling: ColumnTiling, gy: View, x: View, statistics: Mapping[str, View], results: list[View]
) -> tuple[ColumnStream, Callable[[Iterator[Piece]], None]]:
    """Return a second stream over gy and x, by slices of columns, and its arithmetic: the same sums, in slices."""
    stream = ColumnStream(k, (1, *x.shape), tiling, (Sweep(("gy", "x", *statistics)),))
    stream.prefix = "again_"
    stream.pixels_in(gy=gy.split(0, x.shape[0]), x=x.split(0, x.shape[0]))
    for name, tensor in statistics.items():
        stream.flow(name, tensor, (tiling.block, 1), tiling.slots, lambda piece: (piece.rows,))
    G, H = (k.sram((tiling.block, tiling.width), "fp32", name) for name in ("again_g", "again_h"))
    sums, out = TeamSums(stream, len(results)), k.sram((2, tiling.width), results[0].dtype, "again_out")
    stored = k.sem(name="again_stored")

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            here = slice(0, item.width)
            sums.begin(item)
            for piece in item.sweep(0):
                g, h = G[: piece.height, here], H[: piece.height, here]
                k.vec.cast(g, piece["gy"])
                _normalised(k, h, piece, piece)
                k.vec.mul(h, g, h)
                sums.add(piece, *(h, g)[: len(results)])
            total = sums.total(spread=False)
            with k.when(stream.member == 0):
                for number, result in enumerate(results):
                    k.vec.cast(out[number, here], total[number])
                    k.copy(result[item.columns], out[number, here], sent=stored)
                k.wait(stored, len(results))

    return stream, compute


def _centred(k: K, f: View, piece: Piece, item: Piece) -> None:
    """f = x in fp32, less the mean where there is one."""
    k.vec.cast(f, piece["x"])
    if "mean" in item.views:
        k.vec.sub(f, f, item["mean"])


def _normalised(k: K, f: View, piece: Piece, item: Piece) -> None:
    """f = (x - mean) * rstd."""
    _centred(k, f, piece, item)
    k.vec.mul(f, f, item["rstd"])


def build(
    chip: ChipSpec | str, *, rows: int, columns: int, function: str = "layer", dtype: str = "bf16",
    out_dtype: str = "", direction: str = "fwd", epsilon: float = 1e-5, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of a layer norm (function "layer") or RMS norm ("rms") of x (rows, columns) for `chip`.

    direction "fwd": x, gamma, beta -> y, mean, rstd; "bwd": gy, x, gamma, mean, rstd -> gx, ggamma, gbeta (in
    out_dtype); see `LayerNorm`. tiling: block (rows), depth (slots), held (0 reads rows again). Raises InputError,
    CapacityError where a row or the sums over rows do not fit, UnsupportedError for resident operands.
    """
    return _program(
        chip, LayerNorm(rows, columns, function, dtype, out_dtype, direction, epsilon),
        resident=resident, **tiling,
    )  # fmt: skip


@builder
def _program(chip: ChipSpec, problem: LayerNorm, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item = problem, fmt(problem.dtype).bytes
    if p.direction == "fwd":
        plan = RowPlan(reads=(item,), writes=(item,), work=1, constants=8)
        chosen = choose_rows(chip, p.rows, p.columns, plan, **tiling)
        return forward.build(chip, tiling=chosen, epsilon=p.epsilon, **tensors_of(p, "x gamma beta y mean rstd"))
    count, levels = 2 if p.function == "layer" else 1, levels_of(chunk_of(p.rows, chip.mesh_nodes), BLOCK)
    sums = 4 * count * (p.columns * levels + min(p.columns, STRIP)) + fmt(p.out_dtype).bytes * p.columns
    plan = RowPlan(reads=(item, item), writes=(item,), work=4, constants=4, row_vectors=4, fixed=sums)
    apart = None
    try:
        chosen = choose_summed_rows(chip, p.rows, p.columns, plan, **tiling)
    except CapacityError:  # no room for sums of whole rows: half of SRAM for rows, half for slices of sums
        half = chip.replace(**{"node.sram_bytes": chip.node.sram_bytes // 2})
        chosen = choose_rows(half, p.rows, p.columns, replace(plan, fixed=0), **tiling)
        slices = ColumnPlan(reads=(item, item, 8), writes=(), work=2, sums=count, vectors=4)
        apart = choose_columns(half, 1, p.rows, p.columns, slices, held=0)
    names = "gy x gamma mean rstd gx ggamma gbeta"
    return backward.build(chip, tiling=chosen, apart=apart, **tensors_of(p, names))


KERNEL = LibraryKernel(
    problem=LayerNorm,
    program=_program,
    oracle=reference,
    examples=(
        LayerNorm(1, 1),
        LayerNorm(37, 61),
        LayerNorm(5, 2049, dtype="fp16"),
        LayerNorm(33, 100, dtype="fp32", function="rms"),
        LayerNorm(37, 61, direction="bwd"),
        LayerNorm(131, 16, direction="bwd", out_dtype="fp32"),
        LayerNorm(
            56, 700, dtype="fp32", direction="bwd", out_dtype="fp32"
        ),  # seven runs on one node: three terms left to join
        LayerNorm(3, 4099, dtype="fp32", direction="bwd", function="rms"),
    ),
)
