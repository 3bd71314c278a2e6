"""Rings: an SRAM window whose first dimension is indexed modulo its length, for buffers of the newest frames."""

from __future__ import annotations

from typing import Any

from accel.errors import BoundsError, TraceError
from accel.isa.layout import SPACE_SRAM
from accel.lang.expr import Expr
from accel.lang.views import Index, View, plain_index, slice_length

__all__ = ["Ring"]


class Ring:
    """An SRAM window as a ring: `ring[n]` is slot n modulo `len(ring)`, `ring[n:n + 3]` three slots in turn.

    n is an int, a node value or a loop index and needs no bounds: addresses wrap in the machine. A slice states both
    ends and is at most as long as the ring. Made by `View.ring`; what indexing gives is a view like any other.
    """

    __slots__ = ("_view",)

    def __init__(self, view: View) -> None:
        lay = view.lay
        if lay.space != SPACE_SRAM or not lay.shape:
            raise TraceError(f"{lay} cannot be a ring: a ring is a k.sram buffer, or a part of one, with a dimension")
        if view.s is not lay.tracer.dom.zero or lay.more[1]:
            raise TraceError(f"{lay} cannot be a ring: it lies at another place on each node or trip, or in a ring")
        size = lay.shape[0] * lay.strides[0]
        inner = lay.esize + sum((n - 1) * s for n, s in zip(lay.shape[1:], lay.strides[1:], strict=True))
        if inner > lay.strides[0]:
            raise TraceError(f"{lay} cannot be a ring: its slots overlap; make the first dimension the outermost one")
        buffer = lay.tracer.trace.buffers[lay.obj]
        # The ring's last slot ends with the buffer where a window of columns would reach beyond it: bytes wrap alike.
        base = min(view.c, buffer.offset + buffer.nbytes - size)
        if base < buffer.offset or view.c - base + inner > lay.strides[0]:
            raise TraceError(
                f"{lay} cannot be a ring: {size} bytes, {lay.shape[0]} slots every {lay.strides[0]}, wrap outside its "
                "buffer; take its first dimension whole, or without a step"
            )
        more = (base, size, lay.more[2], lay.more[3])
        self._view = View(lay.tracer.layout(lay, lay.shape, lay.strides, more=more), view.c, view.s)

    def __len__(self) -> int:
        return self._view.lay.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the extents in elements; the first is the number of slots."""
        return self._view.lay.shape

    @property
    def dtype(self) -> str:
        """Return the name of the number format."""
        return self._view.lay.dtype

    def __repr__(self) -> str:
        return f"<ring of {self._view.lay.name!r}: {self.dtype} {self.shape}>"

    def __getitem__(self, key: Index | tuple[Any, ...]) -> View:
        items: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        view, slots = self._view, len(self)
        lay, first = view.lay, items[0]
        if isinstance(first, slice):
            if first.start is None or first.stop is None or first.step is not None:
                raise TraceError(f"a slice of the ring {lay.name!r} states where it starts and stops, and has no step")
            start, take = first.start, slice_length(lay, first.start, first.stop)
            if not 1 <= take <= slots:
                raise BoundsError(f"{take} slots of the ring {lay}: a slice takes 1 to {slots}")
        else:
            start, take = first, -1
        place: int | Expr = start if isinstance(start, Expr) else plain_index(lay, 0, start) % slots
        offset = place * lay.strides[0]
        at = View(
            lay.derive((take,)),
            view.c + (offset.c if isinstance(offset, Expr) else offset),
            offset.s if isinstance(offset, Expr) else view.s,
        )
        rest = items[1:]
        if not rest:
            return at
        return at[(slice(None), *rest)] if take >= 0 else at[rest]
