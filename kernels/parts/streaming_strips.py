"""How frames are cut over the nodes for `streaming_conv`: strips of rows with their halo in the two neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.lang import SRAM_ALIGN
from accel.numerics import fmt
from accel.problem import StreamingConv
from accel.problem.convolution import Axis

__all__ = ["Strips", "choose"]


@dataclass(frozen=True)
class Strips:
    """How frames are cut over the nodes: `high` output rows each, in tiles of `wide` pixels, `slots` frames on chip."""

    problem: StreamingConv
    high: int
    wide: int
    slots: int

    @property
    def height(self) -> Axis:
        """Return the axis of rows."""
        return self.problem.conv3d.geometry.axes[1]

    @property
    def width(self) -> Axis:
        """Return the axis of pixels in a row."""
        return self.problem.conv3d.geometry.axes[2]

    @property
    def p(self) -> int:
        """Return the output rows of a frame."""
        return self.problem.operands["y"].shape[1]

    @property
    def q(self) -> int:
        """Return the output pixels of a row."""
        return self.problem.operands["y"].shape[2]

    @property
    def count(self) -> int:
        """Return the number of strips."""
        return ceil(self.p / self.high)

    @property
    def above(self) -> int:
        """Return the rows that a strip reads above its own."""
        return self.height.pad

    @property
    def below(self) -> int:
        """Return the rows that a strip reads below its own."""
        h = self.height
        return max(0, (h.taps - 1) * h.dilation + 1 - h.pad - h.stride)

    @property
    def own(self) -> int:
        """Return the rows of a frame that a node loads; the last one loads what is left."""
        h = self.height
        return self.high * h.stride

    @property
    def rows(self) -> int:
        """Return the rows of a frame that a node keeps."""
        h = self.height
        return max((self.high - 1) * h.stride + (h.taps - 1) * h.dilation + 1, h.pad + self.own)

    @property
    def columns(self) -> int:
        """Return the pixels of a row that a node keeps, padding included."""
        return self.problem.w + 2 * self.width.pad

    def legal(self) -> bool:
        """Return whether halos come from the neighbours alone, and every node has rows of its own."""
        reach = self.count == 1 or self.own >= max(self.above, self.below)
        return reach and (self.count - 1) * self.own < self.problem.h

    def sram_bytes(self) -> int:
        """Return the SRAM of a node, in bytes."""
        P, item, out = self.problem, fmt(self.problem.dtype).bytes, fmt(self.problem.out_dtype).bytes
        tile = self.high * self.wide * P.k
        buffers = [item * self.slots * self.rows * self.columns * P.c, item * P.kt * P.r * P.s * P.c * P.k]
        buffers += [2 * 4 * tile, 4 * P.k if P.bias else 0, 2 * out * tile if P.out_dtype != "fp32" else 0]
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in buffers)


def choose(chip: ChipSpec, problem: StreamingConv, **given: int) -> Strips:
    """Return the cut with the lowest strips that fits a node's SRAM: all nodes work, and frames come early.

    given: high, wide and slots where they are to be other than the default. InputError for values out of range,
    UnsupportedError where no cut fits.
    """
    p, q = problem.operands["y"].shape[1:3]
    limits = {"high": (1, p), "wide": (1, q), "slots": (problem.kt + 1, max(problem.kt + 1, problem.frames))}
    for name, value in given.items():
        if name not in limits:
            raise InputError(f"streaming_conv has no tiling parameter {name!r}; use one of {', '.join(limits)}")
        low, high = limits[name]
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"streaming_conv tiling parameter {name}={value!r} is outside {low}..{high}")
    nodes = chip.mesh.rows * chip.mesh.cols
    least = 1 << 62
    for tall in [given["high"]] if "high" in given else range(1, p + 1):
        for slots in (given["slots"],) if "slots" in given else (problem.kt + 2, problem.kt + 1):
            for wide in (given["wide"],) if "wide" in given else _widths(q, tall):
                strips = Strips(problem, tall, wide, slots)
                if strips.count > nodes or not strips.legal():
                    continue
                least = min(least, strips.sram_bytes())
                if strips.sram_bytes() <= chip.node.sram_bytes:
                    return strips
    needs = f"the smallest cut needs {least} B" if least < 1 << 62 else "no cut has its halos in neighbours alone"
    raise UnsupportedError(
        f"{problem.label} does not fit {chip.name}: {needs}, a node has {chip.node.sram_bytes} B of SRAM; use smaller "
        "frames, fewer filters or a chip with more or larger nodes"
    )


def _widths(q: int, high: int) -> list[int]:
    """Return tile widths from wide to narrow: about 256 pixels a tile or fewer."""
    return sorted({max(1, min(q, ceil(size / high))) for size in (256, 128, 64, 32, 16, 8)}, reverse=True)
