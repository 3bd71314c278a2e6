"""Long rows dealt over teams of nodes in runs: the skeleton of sums over more elements than one node should read.

A tensor (rows, length) is cut in *tasks*, one a row; the nodes of a *team* share its elements, each member an aligned
run of PIECE * 2^k of them. A piece of a row is summed by `vec.reduce_sum`, and the sums of pieces fold as the balanced
tree of `sum_orders`: on the member first, then up the team. With as many rows as nodes a team is one node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING

from accel.errors import InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.column_streaming import ColumnStream, ColumnTiling
from accel.kernels.parts.column_sums import ColumnSums, MeshTree, levels_of
from accel.kernels.parts.flows import Sweep
from accel.kernels.parts.sum_orders import PIECE, fold_columns
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

    Unary = Callable[[View, View], None]
    Join = Callable[[View, View, View], None]

__all__ = ["RunStream", "RunSums", "choose_runs"]

SPARE = 4096
"""SRAM left for what is one number a piece, a level of the tree, or a node."""
BLOCK = 4
"""Pieces that a node works on at once: 512 passes of the vector unit in fp32; at most, and a power of two."""


def choose_runs(chip: ChipSpec, rows: int, length: int, *, streamed: int, work: int = 0, **given: int) -> ColumnTiling:
    """Return how (rows, length) is dealt; its `chunk` and `block` count elements. given: block (pieces), depth.

    streamed: bytes an element of all tensors that pass; work: bytes an element of what a block needs besides. The block
    is the largest that SRAM has room for. InputError for a field that is no tiling or no size.
    """
    for name, value in given.items():
        if name not in ("block", "depth"):
            raise InputError(f"run tiling: unknown parameter {name!r}; use block or depth")
        if type(value) is not int or value < 1 or (name == "block" and value not in (1, 2, BLOCK)):
            raise InputError(f"run tiling: {name}={value!r} is no size; use block=1, 2 or {BLOCK}, depth from 1")
    nodes, run = chip.mesh.rows * chip.mesh.cols, 1
    while ceil(rows / run) > nodes:
        run *= 2
    groups = ceil(rows / run)
    chunk = PIECE
    while ceil(length / chunk) > nodes // groups:
        chunk *= 2
    depth, pieces = given.get("depth", 2), given.get("block", 0)
    if not pieces:
        pieces, most = BLOCK, (chip.node.sram_bytes - SPARE) // (depth * streamed + work)
        while pieces > 1 and pieces * PIECE > most:
            pieces //= 2
    block = min(pieces * PIECE, chunk)
    return ColumnTiling(groups, run, 1, 1, ceil(length / chunk), chunk, block, False, 1, depth)


class RunStream(ColumnStream):
    """The rows of this node's team (the items), each in runs of this member's own elements.

    Declare tensors with `runs_in` and `runs_out` (rows, length) and `row_in` (rows,), then `start(compute)`.
    """

    def __init__(self, k: K, rows: int, length: int, tiling: ColumnTiling, sweeps: Sequence[Sweep]) -> None:
        super().__init__(k, (rows, length, 1), tiling, sweeps)

    def runs_in(self, **tensors: View) -> None:
        """Stream inputs (rows, length), each under its name in the sweeps."""
        for name, tensor in tensors.items():
            self.flow(name, tensor, (self.tiling.block,), self.tiling.depth, lambda piece: (piece.image, piece.rows))

    def runs_out(self, **tensors: View) -> None:
        """Stream outputs (rows, length)."""
        t = self.tiling
        for name, tensor in tensors.items():
            self.flow(name, tensor, (t.block,), t.depth, lambda piece: (piece.image, piece.rows), out=True)

    def row_in(self, **tensors: View) -> None:
        """Stream inputs with one number a row: `item["gy"]` is a view (1,)."""
        for name, tensor in tensors.items():
            self.flow(name, tensor, (1,), 2, lambda item: (slice(item.image, item.image + 1),), per="item")


class RunSums:
    """The sum of a row (or its maximum, by another `reduce` and `join`), valid on member 0 of the team."""

    def __init__(self, stream: RunStream, reduce: Unary | None = None, join: Join | None = None) -> None:
        k, t = stream.k, stream.tiling
        self.stream, self.reduce, self.join = stream, reduce or k.vec.reduce_sum, join
        self.terms = k.sram((t.block // PIECE, 1), "fp32", "run_terms")
        self.sums = ColumnSums(k, 1, 1, t.block, levels_of(t.chunk, t.block), 1, join, "run_sums", chained=False)
        self.tree = MeshTree(k, 1, 1, t.members, join) if t.members > 1 else None

    def begin(self) -> None:
        """Start a row."""
        self.sums.begin(1)

    def add(self, x: View) -> None:
        """Add a piece of the stream: fp32 (elements,)."""
        pieces, rest = divmod(x.shape[0], PIECE)
        if pieces:
            self.reduce(self.terms[:pieces], x[: pieces * PIECE].split(0, PIECE))
        if rest:
            self.reduce(self.terms[pieces : pieces + 1], x[pieces * PIECE :].split(0, rest))
        self.sums.push(fold_columns(self.stream.k, self.terms[: pieces + bool(rest)], self.join))

    def total(self) -> View:
        """Return the sum of the row as a view (1, 1)."""
        total = self.sums.total()
        if self.tree is not None:
            self.tree.fold(total, self.stream.member, self.stream.base)
        return total
