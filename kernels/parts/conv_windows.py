"""Windows of a convolution's input: which part of an image a band of outputs reads, and where padding lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from accel.problem.convolution import Axis, Geometry

__all__ = [
    "CHAIN",
    "POINT",
    "Band",
    "Homes",
    "Span",
    "bands",
    "chain_frames",
    "frame_axes",
    "homes",
    "overlaps",
    "padding",
    "window",
]

POINT = Axis(size=1, taps=1, stride=1, pad=0, dilation=1)
"""An axis of one element: a two-dimensional convolution is a clip of one frame."""

CHAIN = 1024
"""The most outputs of a chain of several frames of a weight or bias gradient: part of what they are defined to give.

Many enough that moving sums into accumulators and out, 16 cycles a tile, is little beside the 1024 / 4 x 4 cycles of
its steps; few enough that the frames of a clip are work for many nodes, and that rounding errors stay small.
"""


def frame_axes(form: Geometry) -> tuple[Axis, Axis, Axis]:
    """Return the axes as (time, height, width)."""
    t, h, w = (POINT,) * (3 - len(form.axes)) + form.axes
    return t, h, w


def chain_frames(form: Geometry) -> int:
    """Return how many neighbouring output frames one chain of a weight or bias gradient runs over: the largest power of
    two with at most `CHAIN` outputs, at least 1. The last chain of a clip may be shorter.
    """
    _, h, w = frame_axes(form)
    return 1 << max(1, CHAIN // (h.out * w.out)).bit_length() - 1


class Span(NamedTuple):
    """The window that outputs of one axis read: `extent` slots, of which [low, high) hold elements, the rest padding.

    Slot u holds element first + u * step. Where the filter has one tap only the elements that it reads are kept, so
    that outputs lie `stride` = 1 slot apart; otherwise as far as the axis says.
    """

    extent: int
    low: int
    high: int
    first: int
    step: int
    stride: int

    @property
    def source(self) -> slice:
        """The elements of the axis that the window holds."""
        start = self.first + self.low * self.step
        return slice(start, start + (self.high - self.low - 1) * self.step + 1, self.step)

    def element(self, slot: int) -> int:
        """Return which element of the axis lies in a slot."""
        return self.first + slot * self.step


def window(axis: Axis, start: int, stop: int) -> Span:
    """Return the window of outputs start..stop-1 of an axis, over all taps."""
    first, count = start * axis.stride - axis.pad, stop - start
    step, stride = (axis.stride, 1) if axis.taps == 1 else (1, axis.stride)
    extent = (count - 1) * stride + (axis.taps - 1) * axis.dilation + 1
    low = max(0, -(first // step)) if first < 0 else 0
    high = max(low, min(extent, (axis.size - 1 - first) // step + 1))
    return Span(extent, min(low, extent), high if low < extent else min(low, extent), first, step, stride)


class Band(NamedTuple):
    """A part of an image that is worked on at once: output frames and output rows, as half-open ranges."""

    frames: tuple[int, int]
    rows: tuple[int, int]

    def outputs(self) -> tuple[int, int]:
        """Return how many output frames and rows."""
        return self.frames[1] - self.frames[0], self.rows[1] - self.rows[0]


def bands(axes: tuple[Axis, Axis, Axis], frames: int, rows: int) -> list[Band]:
    """Return the bands of an image in order of its outputs: at most `frames` frames, and fewer than all rows of one.

    A band of several frames holds all their rows, so that frames are finished in order; of x, neighbours read the same.
    """
    t, h, _ = axes
    if rows < h.out:
        return [Band((z, z + 1), (p, min(h.out, p + rows))) for z in range(t.out) for p in range(0, h.out, rows)]
    return [Band((z, min(t.out, z + frames)), (0, h.out)) for z in range(0, t.out, frames)]


class Homes(NamedTuple):
    """Where the elements of an axis that windows read lie if the tensor is resident: equal parts, a last short one.

    Part i holds elements first + (i * each + j) * step for j below `each`, of `total` in all.
    """

    first: int
    step: int
    each: int
    total: int

    def part(self, index: int) -> range:
        """Return the elements of part `index`, none beyond the last."""
        low, high = (min(self.total, x * self.each) for x in (index, index + 1))
        return range(self.first + low * self.step, self.first + high * self.step, self.step)


def homes(axis: Axis, parts: int) -> Homes:
    """Cut the elements that the outputs of an axis read into at most `parts` equal parts."""
    span = window(axis, 0, axis.out)
    total = span.high - span.low
    return Homes(span.element(span.low), span.step, max(1, -(-total // parts)), total)


def overlaps(wanted: Span, kept: range) -> tuple[slice, slice] | None:
    """Return (slots of the window, positions in the home) of the elements that both have, or None."""
    if not kept or wanted.high == wanted.low:
        return None
    first = max(wanted.element(wanted.low), kept.start)
    last = min(wanted.element(wanted.high - 1), kept[-1])
    if last < first:
        return None
    first += -(first - kept.start) % wanted.step
    count = (last - first) // wanted.step + 1
    slot, position = (first - wanted.first) // wanted.step, (first - kept.start) // wanted.step
    return (slice(slot, slot + count), slice(position, position + count)) if count > 0 else None


def padding(spans: tuple[Span, Span, Span]) -> Iterator[tuple[slice, slice, slice]]:
    """Yield disjoint boxes that cover the slots of a window that hold padding."""
    whole = [slice(0, s.extent) for s in spans]
    inside = [slice(s.low, s.high) for s in spans]
    for at, span in enumerate(spans):
        for a, b in ((0, span.low), (span.high, span.extent)):
            if b > a:
                box = [*inside[:at], slice(a, b), *whole[at + 1 :]]
                if all(part.stop > part.start for part in box):
                    yield box[0], box[1], box[2]
