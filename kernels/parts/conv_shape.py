"""Convolutions with every number of axes as one form: rows of pixels, and filters of row taps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from accel.problem.convolution import Axis, Geometry

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Shape", "flat", "rows_of", "simplified"]

ONE = Axis(1, 1, 1, 0, 1)


@dataclass(frozen=True)
class Shape:
    """A convolution over (time, height, width): n clips of t x h rows of w pixels with c channels.

    Axes that no tap looks along are merged, so a 1x1 convolution is one long row and a temporal one has rows of whole
    frames. `row_taps` are the (time, height) positions of the filter in the order of the chain.
    """

    n: int
    c: int
    k: int
    groups: int
    t: Axis
    h: Axis
    w: Axis

    @property
    def row_taps(self) -> int:
        """Return how many input rows an output row reads."""
        return self.t.taps * self.h.taps

    @property
    def rows_in(self) -> int:
        """Return the input rows of all clips."""
        return self.n * self.t.size * self.h.size

    @property
    def rows_out(self) -> int:
        """Return the output rows of all clips."""
        return self.n * self.t.out * self.h.out

    @property
    def group_c(self) -> int:
        """Return the channels that a filter reads."""
        return self.c // self.groups

    @property
    def group_k(self) -> int:
        """Return the filters of a group."""
        return self.k // self.groups

    @property
    def depth(self) -> int:
        """Return the multiply-adds of an output: the rows of the filter as a matrix."""
        return self.row_taps * self.w.taps * self.group_c


def simplified(form: Geometry) -> Shape:
    """Return `form` over three axes, those without taps, strides and padding merged into the rows."""
    t, h, w = [ONE] * (3 - len(form.axes)) + list(form.axes)
    n = form.n
    if _plain(w) and _plain(h):
        w, h = Axis(h.size * w.size, 1, 1, 0, 1), ONE
        if _plain(t):
            w, t, n = Axis(n * t.size * w.size, 1, 1, 0, 1), ONE, 1
    return Shape(n, form.c, form.k, form.groups, t, h, w)


def _plain(axis: Axis) -> bool:
    return axis.taps == 1 and axis.stride == 1 and axis.pad == 0


def rows_of(tensor: View, pixels: int) -> View:
    """Return an activation tensor (N, ..., C) as (rows, pixels, C), rows of so many pixels."""
    flat = tensor
    while flat.ndim > 2:
        flat = flat.merge(0)
    return flat.split(0, pixels)


def flat(view: View) -> View:
    """Return a contiguous view as one dimension."""
    while view.ndim > 1:
        view = view.merge(0)
    return view
