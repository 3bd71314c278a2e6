"""A bias added to every row, and its gradient, the sum over rows: a lesson in why the gradient is the harder half.

What the machine defines (and `reference` repeats in NumPy): y = x + bias in fp32, rounded once to the format of y.
gbias is the sum down each column in the order of `parts/sum_orders.py`: chains of 8 rows, then a balanced tree.

Forward, rows are dealt over the mesh and stream through (`parts/row_streaming.py`); the bias is fetched once and
multicast. Backward, nodes own aligned runs of 8 * 2^k rows, add their own rows in the order of the tree, and the mesh
does the upper levels (`parts/column_sums.py`). gx needs no kernel: it is gy. Where SRAM has no room for the sums of
whole rows that wait for each other, one a level, teams of nodes take slices of columns (`parts/column_streaming.py`):
less of memory's lines at once, the same order, the same bits.

The bound it approaches: compulsory bytes over memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.column_streaming import (
    ColumnPlan,
    ColumnStream,
    ColumnTiling,
    TeamSums,
    choose_columns,
)
from accel.kernels.parts.column_sums import ColumnSums, MeshTree, chunk_of, levels_of
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.row_streaming import RowPlan, RowStream, RowTiling, choose_rows, node_index
from accel.kernels.parts.sum_orders import BLOCK, PIECE, sum_columns
from accel.lang import K
from accel.numerics import fmt
from accel.problem.elementwise import BiasAdd
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "backward", "build", "forward", "reference", "sliced"]


def reference(problem: BiasAdd, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the output of `problem` by name, in fp32: the definition."""
    v = values_of(problem, inputs)
    with np.errstate(all="ignore"):
        return one_nan({"y": v["x"] + v["bias"]} if problem.direction == "fwd" else {"gbias": sum_columns(v["gy"])})


@kernel
def forward(k: K, x: View, bias: View, y: View, *, tiling: RowTiling) -> None:
    """y = x + bias, block of rows after block."""
    rows, columns = x.shape
    stream = RowStream(k, rows, columns, tiling, (Sweep(("x", "bias"), ("y",)),))
    stream.rows_in(x=x)
    stream.column_in(bias=bias)
    stream.rows_out(y=y)
    wide = k.sram((tiling.block, tiling.width), "fp32", "wide")

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            for piece in item.sweep(0):
                f = piece["x"]
                if f.dtype != "fp32":  # operands of one instruction have one format
                    f = wide[: piece.height, : piece.width]
                    k.vec.cast(f, piece["x"])
                k.vec.add(piece["y"], f, piece["bias"])

    stream.start(compute)


@kernel
def backward(k: K, gy: View, gbias: View, *, tiling: RowTiling) -> None:
    """gbias = the sum of the rows of gy."""
    rows, columns = gy.shape
    stream = RowStream(k, rows, columns, tiling, (Sweep(("gy",)),))
    stream.rows_in(gy=gy)
    wide = k.sram((tiling.block, tiling.width), "fp32", "wide")
    unit = max(tiling.block, BLOCK)
    sums = ColumnSums(k, 1, columns, unit, levels_of(tiling.chunk, unit), tiling.width)
    tree = MeshTree(k, 1, columns, -(-rows // tiling.chunk))
    out = k.sram((columns,), gbias.dtype, "out")
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        done = 0
        for item in items:
            for piece in item.sweep(0):
                f = wide[: piece.height, : piece.width]
                k.vec.cast(f, piece["gy"])
                sums.add(0, piece.left, f, done % BLOCK == 0)
            done += item.height
            if done % unit == 0 or done == stream.own:
                sums.close()
        total = sums.total()
        tree.fold(total, node_index(k))
        with k.when((k.row == 0) & (k.col == 0)):
            k.vec.cast(out, total[0])
            k.copy(gbias, out, sent=stored)
            k.wait(stored)

    stream.unrolled = True  # the stack of column sums follows no loop index
    stream.start(compute)


@kernel
def sliced(k: K, gy: View, gbias: View, *, tiling: ColumnTiling) -> None:
    """gbias = the sum of the rows of gy, slice of columns after slice."""
    x = gy.split(0, gy.shape[0])
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("gy",)),))
    stream.pixels_in(gy=x)
    sums = TeamSums(stream, 1)
    wide = k.sram((tiling.block, tiling.width), "fp32", "wide")
    out, stored = k.sram((tiling.width,), gbias.dtype, "out"), k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            sums.add_all(item, "gy", wide)
            total = sums.total(spread=False)
            with k.when(stream.member == 0):
                k.vec.cast(out[: item.width], total[0])
                k.copy(gbias[item.columns], out[: item.width], sent=stored)
                k.wait(stored)

    stream.start(compute)


def build(
    chip: ChipSpec | str, *, rows: int, columns: int, dtype: str = "bf16", out_dtype: str = "", direction: str = "fwd",
    resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of y = x + bias over x (rows, columns) for `chip`, or of gbias; see `BiasAdd`.

    tiling: block (rows), depth (slots). Raises InputError, CapacityError where sums do not fit,
    UnsupportedError for resident operands.
    """
    problem = BiasAdd(rows, columns, dtype, out_dtype, direction)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: BiasAdd, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item = problem, fmt(problem.dtype).bytes
    if p.direction == "fwd":
        plan = RowPlan(reads=(item,), writes=(fmt(p.out_dtype).bytes,), work=1, constants=4)
        return forward.build(
            chip, tiling=choose_rows(chip, p.rows, p.columns, plan, **tiling), **tensors_of(p, "x bias y")
        )
    chunk = chunk_of(p.rows, chip.mesh.rows * chip.mesh.cols)
    block = tiling.get("block", 0)
    if type(block) is int and block & (block - 1):
        raise InputError(f"bias_add backward: block={block} does not divide the sums over rows; use a power of two")
    levels = levels_of(chunk, BLOCK)
    fixed = 4 * p.columns * levels + 4 * min(p.columns, 4096) + fmt(p.out_dtype).bytes * p.columns
    plan = RowPlan(reads=(item,), writes=(), work=2, row_vectors=0, fixed=fixed)
    ideal = block or 1
    while not block and ideal * 2 <= min(4096 // min(p.columns, PIECE), max(BLOCK, chunk // 4), chunk):
        ideal *= 2
    try:
        chosen = choose_rows(chip, p.rows, p.columns, plan, chunk=chunk, **{**tiling, "block": ideal})
    except CapacityError:
        if tiling:
            raise
        slices = choose_columns(chip, 1, p.rows, p.columns, ColumnPlan((item,), (), 1, 1, 2), held=0)
        return sliced.build(chip, tiling=slices, **tensors_of(p, "gy gbias"))
    return backward.build(chip, tiling=chosen, **tensors_of(p, "gy gbias"))


KERNEL = LibraryKernel(
    problem=BiasAdd,
    program=_program,
    oracle=reference,
    examples=(
        BiasAdd(1, 1),
        BiasAdd(37, 61),
        BiasAdd(5, 2049, dtype="fp16", out_dtype="fp32"),
        BiasAdd(33, 100, dtype="fp32"),
        BiasAdd(37, 61, direction="bwd"),
        BiasAdd(131, 16, dtype="fp32", direction="bwd", out_dtype="fp32"),
        BiasAdd(3, 4099, direction="bwd"),
    ),
)
