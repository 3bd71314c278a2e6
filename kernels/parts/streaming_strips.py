"""How frames are cut over the nodes for `streaming_conv`: strips of rows, their tiles, blocks that are refetched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, prod
from typing import NamedTuple

from accel.kernels.parts.epilogue import strip_of, work_of
from accel.lang import SRAM_ALIGN
from accel.numerics import fmt
from accel.problem import StreamingConv
from accel.problem.convolution import Axis

__all__ = ["Block", "Strips", "axes"]

TURNS = 12
"""Most turns of an output. Within an output a node multiplies in no turn before all have begun the turn before it; the
first turn waits for no turn, and the second only until all have begun the last one of the output before. (Where frames
are fetched again nodes ask for the blocks of a turn once all have asked for those of the turn before it.) Where memory
is what nodes wait for, routers on its way serve near ones first, and far ones would be left behind, too few to keep
memory busy alone."""

TILES_A_TURN = 3
"""Fewest tiles of a turn in a full strip, where there are several turns: joining costs a node what its tiles differ
from those of others."""


@lru_cache(maxsize=256)
def axes(problem: StreamingConv) -> tuple[Axis, Axis]:
    """Return the axes of rows and of pixels in a row."""
    _, height, width = problem.conv3d.geometry.axes
    return height, width


class Block(NamedTuple):
    """Output pixels of a strip that are computed from one block of refetched frames: rows and columns of the strip."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Strips:
    """How frames are cut over the nodes: `high` output rows each, and how much of the window stays on chip.

    The newest `kept` frames of the window stay, in a ring of `slots` frames (0 where nothing stays); the older ones
    come from memory again for every output, block by block: `tall` output rows, `span` output pixels of each. Tiles of
    `tall` x `wide` pixels are one accumulator each. Bytes are those of one output of every camera.
    """

    problem: StreamingConv
    high: int
    wide: int
    slots: int
    kept: int
    tall: int
    span: int

    @property
    def older(self) -> int:
        """Return the frames of a window that come from memory again for every output."""
        return self.problem.kt - self.kept

    @property
    def live(self) -> int:
        """Return the frames that pass through the ring: the first `older` are only ever refetched."""
        return self.problem.frames - self.older

    @property
    def height(self) -> Axis:
        """Return the axis of rows."""
        return axes(self.problem)[0]

    @property
    def width(self) -> Axis:
        """Return the axis of pixels in a row."""
        return axes(self.problem)[1]

    @property
    def p(self) -> int:
        """Return the output rows of a frame."""
        return self.height.out

    @property
    def q(self) -> int:
        """Return the output pixels of a row."""
        return self.width.out

    @property
    def count(self) -> int:
        """Return the number of strips of one camera."""
        return ceil(self.p / self.high)

    @property
    def nodes(self) -> int:
        """Return the number of nodes that work: one strip each."""
        return self.count * self.problem.cameras

    @property
    def above(self) -> int:
        """Return the rows that a strip reads above its own."""
        return self.height.pad

    @property
    def below(self) -> int:
        """Return the rows that a strip reads below its own."""
        h = self.height
        return max(0, _reach(h) - h.pad - h.stride)

    @property
    def own(self) -> int:
        """Return the rows of a frame that a node loads; the last one loads what is left."""
        return self.high * self.height.stride

    @property
    def needed(self) -> int:
        """Return the rows of a frame that any output reads."""
        h = self.height
        return min(self.problem.h, (self.p - 1) * h.stride - h.pad + _reach(h))

    @property
    def rows(self) -> int:
        """Return the rows of a frame that a node keeps."""
        h = self.height
        return max((self.high - 1) * h.stride + _reach(h), h.pad + self.own)

    @property
    def columns(self) -> int:
        """Return the pixels of a row that a node keeps, padding included."""
        return self.problem.w + 2 * self.width.pad

    @property
    def block_shape(self) -> tuple[int, int, int, int]:
        """Return the frames, rows, pixels and channels of a block of refetched frames."""
        h, w = self.height, self.width
        rows, pixels = (self.tall - 1) * h.stride + _reach(h), (self.span - 1) * w.stride + _reach(w)
        return self.older, rows, pixels, self.problem.c

    def blocks(self, high: int) -> list[Block]:
        """Return the blocks of a strip of `high` output rows, in order."""
        return [
            Block(top, left, min(self.tall, high - top), min(self.span, self.q - left))
            for top in range(0, high, self.tall)
            for left in range(0, self.q, self.span)
        ]

    def tiles(self, block: Block) -> list[Block]:
        """Return the tiles of a block, from left to right."""
        return [
            Block(block.top, block.left + left, block.rows, min(self.wide, block.columns - left))
            for left in range(0, block.columns, self.wide)
        ]

    @property
    def turns(self) -> int:
        """Return how often all nodes join in an output, also those with fewer rows or none.

        Once a block of a full strip where frames are refetched, else once in `TILES_A_TURN` of its tiles, but at least
        once and at most `TURNS` times.
        """
        count = len(range(0, self.high, self.tall)) * len(range(0, self.q, self.span))
        return max(1, min(TURNS, count if self.older else self.tile_count // TILES_A_TURN))

    @property
    def tile_count(self) -> int:
        """Return the tiles of a full strip."""
        spans = [min(self.span, self.q - left) for left in range(0, self.q, self.span)]
        return len(range(0, self.high, self.tall)) * sum(ceil(span / self.wide) for span in spans)

    def legal(self) -> bool:
        """Return whether halos come from the neighbours alone, and every node has rows of its own."""
        if not self.kept:
            return True
        reach = self.count == 1 or self.own >= max(self.above, self.below)
        return reach and (self.count - 1) * self.own < self.problem.h

    @property
    def ring_bytes(self) -> int:
        """Return the bytes of a node's strip of all frames that stay on chip."""
        return fmt(self.problem.dtype).bytes * self.slots * self.rows * self.columns * self.problem.c

    @property
    def sums(self) -> str:
        """The format of the accumulators."""
        return "int32" if fmt(self.problem.dtype).kind == "int" else "fp32"

    def sram_bytes(self) -> int:
        """Return the SRAM of a node, in bytes."""
        P, item, out = self.problem, fmt(self.problem.dtype).bytes, fmt(self.problem.out_dtype).bytes
        tile = self.tall * self.wide * P.k
        older, rows, pixels, channels = self.block_shape
        buffers = [self.ring_bytes, item * P.kt * P.r * P.s * P.c * P.k]
        buffers += [2 * 4 * tile, 4 * P.k if P.bias else 0, 2 * out * tile if P.out_dtype != self.sums else 0]
        buffers += [item * older * rows * pixels * channels] * 2
        buffers += [4 * prod(strip_of(self.wide, P.k))] * len(work_of(P.activation))
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in buffers)

    @property
    def fetched_bytes(self) -> int:
        """Return the bytes that memory sends once: the rows of the frame that enters the ring."""
        P = self.problem
        return P.cameras * self.needed * P.w * P.c * fmt(P.dtype).bytes if self.kept else 0

    @property
    def refetched_bytes(self) -> int:
        """Return the bytes that memory sends again: blocks of the older frames, with the halo of each block."""
        P = self.problem
        rows, pixels = _covered(self.height, self.high, self.tall), _covered(self.width, self.q, self.span)
        return P.cameras * self.older * rows * pixels * P.c * fmt(P.dtype).bytes

    @property
    def halo_bytes(self) -> int:
        """Return the bytes that nodes pull from their neighbours."""
        P = self.problem
        if not self.kept:
            return 0
        up = (self.count - 1) * self.above
        down = sum(min(self.below, P.h - strip * self.own) for strip in range(1, self.count))
        return P.cameras * (up + down) * P.w * P.c * fmt(P.dtype).bytes

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of results."""
        P = self.problem
        return P.cameras * self.p * self.q * P.k * fmt(P.out_dtype).bytes

    def cut(self, tall: int, wide: int, span: int) -> Strips:
        """Return the same strips in other tiles and blocks."""
        return replace(self, tall=tall, wide=wide, span=span)


def _reach(axis: Axis) -> int:
    """Return the elements from the first to the last tap."""
    return (axis.taps - 1) * axis.dilation + 1


@lru_cache(maxsize=4096)
def _covered(axis: Axis, part: int, step: int) -> int:
    """Return the elements that blocks of `step` outputs read, in parts of `part` outputs, padding left out."""
    total = 0
    for first in range(0, axis.out, part):
        last = min(axis.out, first + part)
        for start in range(first, last, step):
            low = start * axis.stride - axis.pad
            high = (min(start + step, last) - 1) * axis.stride - axis.pad + _reach(axis)
            total += min(axis.size, high) - max(0, low)
    return total
