"""Tensors of one shape, flattened and dealt over the nodes: the skeleton of elementwise kernels and optimizers.

Every node takes one contiguous range of elements, in groups of `GROUP` so that ranges begin on whole lines, and walks
through it in blocks (see `flows.Stream` for loading ahead and storing behind). Nodes are numbered down the columns of
the mesh, so that short tensors still use every router of the memory's edge.

All nodes load in step: a barrier stands before every block. Without it the nodes near the memory, whose packets meet
fewer others, run ahead and are done early, and what is left for the far ones no longer keeps the memory busy (a gelu of
67 million elements on `d1`: 79 % of the memory's bandwidth instead of 99 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.column_sums import MeshTree
from accel.kernels.parts.flows import Piece, Stream, Sweep
from accel.kernels.parts.row_streaming import node_index
from accel.kernels.parts.sum_orders import PIECE, fold_rows
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["GROUP", "FlatStream", "FlatSums", "FlatTiling", "choose_flat", "choose_summed"]

GROUP = 64
"""Elements that stay together: 64 bytes of the narrowest format."""
BLOCK = 2048
"""Elements of a block that a tiling aims at: 128 passes over fp32 lanes an instruction, against 8 cycles of fill."""
BLOCKS = 6
"""Blocks of a node below which a block is made smaller, so that the first load and last store are a small part."""
OTHERS = 64
"""Semaphores left for outputs, constants and the tree over the mesh."""
SPARE = 4096
"""SRAM left for scalars, constants and alignment."""


@dataclass(frozen=True)
class FlatTiling:
    """How elements are cut: `block` elements a copy, `depth` slots of every tensor.

    chunk: elements of a node, 0 where they are dealt evenly; held: inputs stay in SRAM from the first sweep to the
    last.
    """

    block: int
    depth: int
    chunk: int = 0
    held: bool = False


def choose_flat(chip: ChipSpec, size: int, reads: int, writes: int, work: int, **given: int) -> FlatTiling:
    """Return the default tiling of `size` elements, with the fields in `given` instead where they are named.

    reads, writes: bytes an element of all tensors that are streamed in and out; work: bytes an element of what a block
    needs besides. InputError for a field that is no tiling or no size, CapacityError where no block fits.
    """
    _check(given, ("block", "depth"))
    depth = given.get("depth", 2)
    most = (chip.node.sram_bytes - SPARE) // (depth * (reads + writes) + work)
    block = given.get("block", 0)
    if not block:
        own = ceil(ceil(size / GROUP) / (chip.mesh.rows * chip.mesh.cols)) * GROUP
        block = min(BLOCK, max(GROUP, ceil(own / BLOCKS / GROUP) * GROUP), most // GROUP * GROUP)
    if not 0 < block <= most:
        raise _too_large((depth * (reads + writes) + work) * (block or GROUP), block or GROUP, depth)
    return FlatTiling(block, depth)


def choose_summed(
    chip: ChipSpec, size: int, reads: int, writes: int, work: int, *, tensors: int = 0, **given: int
) -> FlatTiling:
    """Return the tiling of a kernel that sums over all elements: nodes own 2^k pieces of PIECE elements each.

    reads, writes, work, errors: as for `choose_flat`. tensors: inputs that are needed again after the sums (0: none);
    they are held where SRAM has room for them and semaphores suffice, which larger blocks need fewer of.
    """
    _check(given, ("depth",))
    depth, chunk = given.get("depth", 2), PIECE
    while ceil(size / chunk) > chip.mesh.rows * chip.mesh.cols:
        chunk *= 2
    room = chip.node.sram_bytes - SPARE - 4 * 2 * (chunk // PIECE)
    block, own = PIECE, ceil(min(chunk, size) / PIECE) * PIECE
    while tensors and block <= own:
        slots = ceil(own / block) + depth - 1
        fits = block * (slots * reads + depth * writes + work) <= room
        if fits and 2 * tensors * slots <= chip.node.semaphores - OTHERS:
            return FlatTiling(block, depth, chunk, held=True)
        block *= 2
    if PIECE * (depth * (reads + writes) + work) > room:
        raise _too_large(PIECE * (depth * (reads + writes) + work) + chip.node.sram_bytes - SPARE - room, PIECE, depth)
    return FlatTiling(PIECE, depth, chunk)


def _check(given: Mapping[str, int], allowed: Sequence[str]) -> None:
    for name, value in given.items():
        if name not in allowed:
            raise InputError(f"flat tiling: unknown parameter {name!r}; use {' or '.join(allowed)}")
        if type(value) is not int or value < 1:
            raise InputError(f"flat tiling: {name}={value!r} is no size; use a whole number from 1")


def _too_large(needed: int, block: int, depth: int) -> CapacityError:
    return CapacityError(
        f"blocks of {block} elements in {depth} slots need {needed + SPARE:,} B of SRAM a node; "
        "use a smaller block or depth"
    )


class FlatStream(Stream):
    """This node's elements in blocks; tensors are (size,) and declared with `flat_in` and `flat_out`.

    The only item is all that the node owns; each sweep yields its blocks: `piece.left` is the place of a block's first
    element, `piece.width` its elements, `piece.number` its number on this node. Node 0 owns the first elements.
    """

    def __init__(self, k: K, size: int, tiling: FlatTiling, *sweeps: Sweep) -> None:
        self.tiling = tiling
        self.first, self.own = _share(node_index(k), size, k.nodes, tiling.chunk)
        super().__init__(k, sweeps, held=tiling.held, per_item=ceil(self.own / tiling.block))
        least = 0 if tiling.chunk else size // GROUP // k.nodes * GROUP  # what every node has: one is ragged
        self.together = least // tiling.block

    def flat_in(self, bias: View | None = None, **tensors: View) -> None:
        """Stream inputs, each under its name; bias: a uint8 in SRAM with the exponent bias that they are read with."""
        t = self.tiling
        for name, tensor in tensors.items():
            depth = ceil(min(t.chunk, tensor.shape[0]) / t.block) + t.depth - 1 if t.held else t.depth
            self.flow(name, tensor, (t.block,), depth, lambda piece: (piece.columns,), bias=bias)

    def flat_out(self, bias: View | None = None, **tensors: View) -> None:
        """Stream outputs; bias: a uint8 in SRAM with the exponent bias that they are written with."""
        t = self.tiling
        for name, tensor in tensors.items():
            self.flow(name, tensor, (t.block,), t.depth, lambda piece: (piece.columns,), out=True, bias=bias)

    def _load(self) -> None:
        """Load block after block, in step with all other nodes."""
        for item in self.items():
            for number, sweep in enumerate(self.sweeps):
                wanted = [name for name in sweep.reads if self.fresh(name, number)]
                for piece in self.pieces(item) if wanted else ():
                    if self.together > 1:
                        with self.k.when(piece.number < self.together):
                            self.k.barrier()
                    for name in wanted:
                        self.flows[name].load(self.place(name, number, item, piece), piece)

    def items(self) -> Iterator[Piece]:
        """Yield all that this node owns, if anything."""
        if self.own:
            yield Piece(self, 0, 0, 1, self.first, self.own)

    def pieces(self, item: Piece) -> Iterator[Piece]:
        """Yield this node's blocks: whole ones as a hardware loop, then the ragged one."""
        block = self.tiling.block
        whole, rest = divmod(self.own, block)
        if whole > 1:
            for i in self.k.loop(whole):
                yield Piece(self, i, 0, 1, item.left + i * block, block)
        elif whole:
            yield Piece(self, 0, 0, 1, item.left, block)
        if rest:
            yield Piece(self, whole, 0, 1, item.left + whole * block, rest)


class FlatSums:
    """`count` sums (or other folds) over all elements, in the order of `sum_orders.sum_rows`, on every mesh.

    A node owns 2^k pieces of that order; so what it folds is a term of the tree, and the mesh goes on.
    """

    def __init__(self, k: K, count: int, size: int, tiling: FlatTiling, join: Any = None) -> None:
        self.k, self.join, self.pieces = k, join, tiling.block // PIECE
        self.terms = k.sram((count, ceil(min(tiling.chunk, size) / PIECE)), "fp32", "terms")
        self.sums = k.sram((count, 1), "fp32", "sums")
        self.tree = MeshTree(k, count, 1, ceil(size / tiling.chunk), join)

    def add(self, number: int, block: Piece, x: View, fold: Any = None) -> None:
        """Fold a block (its width,) into the terms of sum `number`; fold: `k.vec.reduce_sum` or another of its kind."""
        first, (whole, rest) = block.number * self.pieces, divmod(block.width, PIECE)
        reduce = fold or self.k.vec.reduce_sum
        if whole:
            reduce(self.terms[number, first : first + whole], x[: whole * PIECE].split(0, PIECE))
        if rest:
            reduce(self.terms[number, first + whole : first + whole + 1], x[whole * PIECE :])

    def total(self, stream: FlatStream, *, everywhere: bool = False) -> View:
        """Fold all terms: on node 0, or `everywhere` that owns elements, the result as a view (count, 1)."""
        k = self.k
        if stream.own:
            k.vec.copy(self.sums, fold_rows(k, self.terms[:, : ceil(stream.own / PIECE)], self.join))
        self.tree.fold(self.sums, node_index(k))
        if everywhere:
            self.tree.spread(self.sums, node_index(k))
        return self.sums


def _share(index: Any, size: int, nodes: int, chunk: int) -> tuple[Any, int]:
    """Return (first element, elements) of node `index`: chunks, or whole groups as even as can be, the last ragged."""
    if chunk:
        full, rest = divmod(size, chunk)
        if index < full:
            return index * chunk, chunk
        return (index * chunk, rest) if index == full and rest else (0, 0)
    groups = ceil(size / GROUP)
    each, more = divmod(groups, nodes)
    last = nodes - 1 if each else more - 1
    first, own = (index * (each + 1), each + 1) if index < more else (index * each + more, each)
    if not own:
        return 0, 0
    short = groups * GROUP - size
    return first * GROUP, own * GROUP - (short if index == last else 0)
