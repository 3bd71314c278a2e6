"""Tensors of one shape, flattened and dealt over the nodes: the skeleton of elementwise kernels and optimizers.

Every node takes one contiguous range of elements, in groups of `GROUP` so that ranges begin on whole lines, and walks
through it in blocks (see `flows.Stream` for loading ahead and storing behind). Nodes are numbered down the columns of
the mesh, so that short tensors still use every router of the memory's edge.

All nodes load in step: a barrier stands before every block. Without it the nodes near the memory, whose packets meet
fewer others, run ahead and are done early, and what is left for the far ones no longer keeps the memory busy (a gelu of
67 million elements on `d1`: 79 % of the memory's bandwidth instead of 99 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.flows import Piece, Stream, Sweep
from accel.kernels.parts.row_streaming import node_index
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["GROUP", "FlatStream", "FlatTiling", "choose_flat"]

GROUP = 64
"""Elements that stay together: 64 bytes of the narrowest format."""
BLOCK = 2048
"""Elements of a block that a tiling aims at: 128 passes over fp32 lanes an instruction, against 8 cycles of fill."""
BLOCKS = 6
"""Blocks of a node below which a block is made smaller, so that the first load and last store are a small part."""
SPARE = 4096
"""SRAM left for scalars, constants and alignment."""


@dataclass(frozen=True)
class FlatTiling:
    """How elements are cut: `block` elements a copy, `depth` slots of every tensor."""

    block: int
    depth: int


def choose_flat(chip: ChipSpec, size: int, streams: int, work: int, **given: int) -> FlatTiling:
    """Return the default tiling of `size` elements, with the fields in `given` instead where they are named.

    streams: bytes an element of all tensors that are streamed; work: bytes an element of what a block needs besides.
    InputError for a field that is no tiling or no size, CapacityError where not even a group fits.
    """
    for name, value in given.items():
        if name not in ("block", "depth"):
            raise InputError(f"elementwise tiling: unknown parameter {name!r}; use block or depth")
        if type(value) is not int or value < 1:
            raise InputError(f"elementwise tiling: {name}={value!r} is no size; use a whole number from 1")
    room = chip.node.sram_bytes - SPARE
    depth = given.get("depth", 2)
    most = room // (depth * streams + work)
    block = given.get("block", 0)
    if not block:
        own = ceil(ceil(size / GROUP) / (chip.mesh.rows * chip.mesh.cols)) * GROUP
        block = min(BLOCK, max(GROUP, ceil(own / BLOCKS / GROUP) * GROUP), most // GROUP * GROUP)
    if not 0 < block <= most:
        least = (depth * streams + work) * (block or GROUP) + SPARE
        raise CapacityError(
            f"blocks of {block or GROUP} elements in {depth} slots need {least} B of SRAM a node and {chip.name} has "
            f"{chip.node.sram_bytes}; use a smaller block or depth"
        )
    return FlatTiling(block, depth)


class FlatStream(Stream):
    """Blocks of this node's elements; tensors are (size,) and declared with `flat_in` and `flat_out`.

    `piece.left` is the place of a block's first element, `piece.width` its elements; node 0 owns the first ones.
    """

    def __init__(self, k: K, size: int, tiling: FlatTiling, reads: Sequence[str], writes: Sequence[str]) -> None:
        super().__init__(k, (Sweep(tuple(reads), tuple(writes)),), held=False, per_item=1)
        self.tiling = tiling
        self.first, self.own = _share(node_index(k), size, k.nodes)
        groups = size // GROUP  # what every node has: all have whole groups but one, whose last may be ragged
        self.together = groups // k.nodes * GROUP // tiling.block

    def flat_in(self, **tensors: View) -> None:
        """Stream inputs, each under its name."""
        for name, tensor in tensors.items():
            self.flow(name, tensor, (self.tiling.block,), self.tiling.depth, lambda piece: (piece.columns,))

    def flat_out(self, **tensors: View) -> None:
        """Stream outputs."""
        for name, tensor in tensors.items():
            self.flow(name, tensor, (self.tiling.block,), self.tiling.depth, lambda piece: (piece.columns,), out=True)

    def _load(self) -> None:
        """Load block after block, in step with all other nodes."""
        for item in self.items():
            if self.together > 1:
                with self.k.when(item.number < self.together):
                    self.k.barrier()
            for name in self.sweeps[0].reads:
                self.flows[name].load(item.number, item)

    def items(self) -> Iterator[Piece]:
        """Yield this node's blocks: whole ones as a hardware loop, then the ragged one."""
        block = self.tiling.block
        whole, rest = divmod(self.own, block)
        if whole > 1:
            for i in range(whole) if self.unrolled else self.k.loop(whole):
                yield Piece(self, i, 0, 1, self.first + i * block, block)
        elif whole:
            yield Piece(self, 0, 0, 1, self.first, block)
        if rest:
            yield Piece(self, whole, 0, 1, self.first + whole * block, rest)

    def pieces(self, item: Piece) -> Iterator[Piece]:
        """Yield the block itself."""
        yield Piece(self, 0, 0, 1, item.left, item.width)


def _share(index: Any, size: int, nodes: int) -> tuple[Any, int]:
    """Return (first element, elements) of node `index`: whole groups, as even as can be, the last of them ragged."""
    groups = ceil(size / GROUP)
    each, more = divmod(groups, nodes)
    last = nodes - 1 if each else more - 1
    first, own = (index * (each + 1), each + 1) if index < more else (index * each + more, each)
    if not own:
        return 0, 0
    short = groups * GROUP - size
    return first * GROUP, own * GROUP - (short if index == last else 0)
