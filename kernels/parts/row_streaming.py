"""Rows of a matrix dealt over the nodes: the skeleton of every kernel that treats each row by itself.

Every node takes one contiguous range of rows, walks through it in blocks and through each block in pieces of at most
`PIECE` columns (see `flows.Stream` for loading ahead and storing behind). Nodes are numbered down the columns of the
mesh, so that few rows still use every row of the mesh, hence every router of the memory's edge. A block is large enough
that an instruction's fill does not count and small enough that a node has several, so that loads, arithmetic and stores
overlap. Rows that do not fit SRAM are read again for each sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.column_sums import chunk_of
from accel.kernels.parts.flows import Piece, Stream, Sweep
from accel.kernels.parts.sum_orders import BLOCK, PIECE
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["RowPlan", "RowStream", "RowTiling", "choose_rows", "choose_summed_rows", "node_index", "share"]

ELEMENTS = 4096
"""Elements of a piece that a tiling aims at: 256 passes of the vector unit in fp32, against 8 cycles of fill."""
BLOCKS = 4
"""Blocks of a node below which a block is made smaller, so that loading the first one is a small part of the time."""
OTHERS = 32
"""Semaphores left for what a plan does not count: the tree over the mesh asks with one a level."""
SPARE = 4096
"""SRAM left for what a plan does not count: partial sums, scalars, alignment."""


@dataclass(frozen=True)
class RowTiling:
    """How rows are cut: `chunk` rows a node at most (0: dealt evenly), `block` rows and `width` columns a piece.

    held: a row stays in SRAM through all sweeps; depth: slots of an input beyond what is held, and of an output.
    """

    block: int
    width: int
    held: bool
    depth: int = 2
    chunk: int = 0


@dataclass(frozen=True)
class RowPlan:
    """What a row kernel keeps in SRAM, from which a tiling follows.

    reads, writes: bytes of an element of each (rows, columns) input and output; work: fp32 buffers of a piece, or their
    equivalent; row_work: fp32 buffers of a whole block of rows; constants: bytes an element of column vectors;
    row_vectors: tensors with one fp32 number a row, and partial sums, one number a piece, kept by the kernel.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    work: int
    constants: int = 0
    row_vectors: int = 4
    fixed: int = 0
    row_work: int = 0

    def sram_bytes(self, columns: int, tiling: RowTiling) -> int:
        """Return the SRAM of a node in bytes, no less than what the kernel allocates."""
        t = tiling
        pieces = ceil(columns / t.width)
        piece, slots = t.block * t.width, self._slots(columns, t)
        streams = piece * (
            slots * sum(self.reads) + t.depth * sum(self.writes) + 4 * (self.work + pieces * self.row_work)
        )
        columns_kept = columns * self.constants if t.held else t.depth * t.width * self.constants
        vectors = self.row_vectors * 4 * t.block * (pieces + 2 * t.depth)
        return streams + columns_kept + vectors + self.fixed + SPARE

    def semaphores(self, columns: int, tiling: RowTiling) -> int:
        """Return the semaphores of a node: two a slot, and what trees, constants and statistics take."""
        t = tiling
        return 2 * (self._slots(columns, t) * len(self.reads) + t.depth * (len(self.writes) + 5)) + OTHERS

    def _slots(self, columns: int, tiling: RowTiling) -> int:
        """Slots of an input: a block's pieces, or a few."""
        return ceil(columns / tiling.width) + tiling.depth - 1 if tiling.held else tiling.depth


def node_index(k: K) -> Any:
    """Return the number of this node, counted down the columns of the mesh."""
    return k.col * k.mesh[0] + k.row


def choose_rows(chip: ChipSpec, rows: int, columns: int, plan: RowPlan, *, chunk: int = 0, **given: int) -> RowTiling:
    """Return the default tiling of `rows` x `columns`, with the fields in `given` instead where they are named.

    Preferred first: rows held with two slots, then smaller blocks, then rows read again. CapacityError where not even
    one row of a piece fits; InputError for a field that is no tiling or no size.
    """
    nodes = chip.mesh.rows * chip.mesh.cols
    own = chunk or ceil(rows / nodes)
    for name, value in given.items():
        if name not in ("block", "width", "held", "depth"):
            raise InputError(f"row tiling: unknown parameter {name!r}; use block, width, held or depth")
        low = 0 if name == "held" else 1
        if type(value) not in (int, bool) or value < low or (name == "width" and value > PIECE):
            raise InputError(
                f"row tiling: {name}={value!r} is no size; use a whole number from {low}, width to {PIECE}"
            )
    if given.get("width", PIECE) not in (PIECE, min(columns, PIECE)):
        raise InputError(f"row tiling: sums go in pieces of {PIECE} columns; leave width={given['width']} out")
    width = min(columns, PIECE)
    ideal = given.get("block") or max(1, min(ELEMENTS // width, ceil(own / BLOCKS)))
    ideal = min(ideal, own)
    tries = []
    for held in (True, False):
        block = ideal
        while block:
            tries.append(RowTiling(block, width, held, given.get("depth", 2), chunk))
            block = 0 if "block" in given else block // 2
        if "depth" not in given:
            tries.append(RowTiling(min(ideal, 1), width, held, 1, chunk))
    if "held" in given:
        tries = [t for t in tries if t.held == bool(given["held"])]
    for tiling in tries:
        enough = plan.semaphores(columns, tiling) <= chip.node.semaphores
        if enough and plan.sram_bytes(columns, tiling) <= chip.node.sram_bytes:
            return tiling
    least = plan.sram_bytes(columns, replace(tries[-1]))
    raise CapacityError(
        f"rows of {columns} columns need {least:,} B of SRAM a node; use fewer columns or a smaller format"
    )


def choose_summed_rows(chip: ChipSpec, rows: int, columns: int, plan: RowPlan, **given: int) -> RowTiling:
    """Return a tiling for a kernel that also sums over rows: aligned chunks a node, blocks that are powers of two.

    Arguments and errors as for `choose_rows`; InputError for another block.
    """
    chunk, block = chunk_of(rows, chip.mesh_nodes), given.get("block", 0)
    if type(block) is int and block & (block - 1):
        raise InputError(f"row tiling: block={block} does not divide the sums over rows; use a power of two")
    ideal = block or 1
    while not block and ideal * 2 <= min(ELEMENTS // min(columns, PIECE), max(BLOCK, chunk // BLOCKS), chunk):
        ideal *= 2
    if block:
        return choose_rows(chip, rows, columns, plan, chunk=chunk, **given)
    while True:
        try:
            return choose_rows(chip, rows, columns, plan, chunk=chunk, **{**given, "block": ideal})
        except CapacityError:
            if ideal == 1:
                raise
            ideal //= 2


class RowStream(Stream):
    """Blocks of this node's rows (the items), each in pieces of columns, with the tensors that go along.

    Declare tensors with `rows_in`, `rows_out` (rows, columns), `row_in`, `row_out` (rows,) and `column_in` (columns,),
    then `start(compute)`.
    """

    def __init__(self, k: K, rows: int, columns: int, tiling: RowTiling, sweeps: Sequence[Sweep]) -> None:
        self.rows, self.columns, self.tiling = rows, columns, tiling
        super().__init__(k, sweeps, tiling.held, ceil(columns / tiling.width))
        self.first, self.own = share(node_index(k), rows, k.nodes, tiling.chunk)

    # --- tensors ----------------------------------------------------------------------------------------------------
    def rows_in(self, **tensors: View) -> None:
        """Stream inputs (rows, columns), each under its name in the sweeps."""
        t = self.tiling
        depth = self.per_item + t.depth - 1 if t.held else t.depth
        for name, tensor in tensors.items():
            self.flow(name, tensor, (t.block, t.width), depth, lambda piece: (piece.rows, piece.columns))

    def rows_out(self, **tensors: View) -> None:
        """Stream outputs (rows, columns)."""
        t = self.tiling
        for name, tensor in tensors.items():
            self.flow(name, tensor, (t.block, t.width), t.depth, lambda piece: (piece.rows, piece.columns), out=True)

    def row_in(self, **tensors: View) -> None:
        """Stream inputs with one number a row: `item["mean"]` is a view (rows of the block, 1)."""
        for name, tensor in tensors.items():
            self.flow(name, tensor, (self.tiling.block, 1), self.tiling.depth, lambda item: (item.rows,), per="item")

    def row_out(self, **tensors: View) -> None:
        """Stream outputs with one number a row."""
        for name, tensor in tensors.items():
            self.flow(
                name, tensor, (self.tiling.block, 1), self.tiling.depth, lambda item: (item.rows,), per="item", out=True
            )

    def column_in(self, **tensors: View) -> None:
        """Keep inputs with one number a column on every node where rows are held, otherwise stream their pieces too."""
        for name, tensor in tensors.items():
            if self.tiling.held:
                self.constant(name, tensor)
            else:
                self.flow(name, tensor, (self.tiling.width,), self.tiling.depth, lambda piece: (piece.columns,))

    # --- structure --------------------------------------------------------------------------------------------------
    def items(self) -> Iterator[Piece]:
        """Yield this node's blocks of rows: whole ones as a hardware loop, then the ragged one."""
        block = self.tiling.block
        whole, rest = divmod(self.own, block)
        if whole > 1:
            for i in range(whole) if self.unrolled else self.k.loop(whole):
                yield Piece(self, i, self.first + i * block, block, 0, self.columns)
        elif whole:
            yield Piece(self, 0, self.first, block, 0, self.columns)
        if rest:
            yield Piece(self, whole, self.first + whole * block, rest, 0, self.columns)

    def pieces(self, item: Piece) -> Iterator[Piece]:
        """Yield the pieces of a block from left to right."""
        for number, left in enumerate(range(0, self.columns, self.tiling.width)):
            width = min(self.tiling.width, self.columns - left)
            yield Piece(self, number, item.top, item.height, left, width)


def share(index: Any, rows: int, nodes: int, chunk: int) -> tuple[Any, int]:
    """Return (first row, rows) of node `index`: as even as can be, or chunks of `chunk` until none are left."""
    if chunk:
        full, rest = divmod(rows, chunk)
        if index < full:
            return index * chunk, chunk
        return (index * chunk, rest) if index == full and rest else (0, 0)
    each, more = divmod(rows, nodes)
    if index < more:
        return index * (each + 1), each + 1
    return (index * each + more, each) if each else (0, 0)
