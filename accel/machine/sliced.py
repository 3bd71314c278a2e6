"""The causal slice: which buffers of which nodes decide sampled output regions, found by running control flow only."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import SPACE_MEMORY, V_OBJECT, V_SHAPE, V_SPACE, V_STRIDE
from accel.machine.inner import inner
from accel.machine.words import C_CHANGED, X_ITEM

__all__ = ["KEPT", "STORED", "mark_copy"]

STORED, KEPT = 0, 1  # columns of `kept`, a row a tensor: some copy stores to it; all that is stored to it matters


@inner
def _meets(wanted: Any, low: int, high: int) -> Any:
    """Return whether bytes [low, high) of memory meet one of the sorted disjoint intervals `wanted`."""
    first, last = 0, wanted.shape[0]
    while first < last:
        middle = (first + last) // 2
        if wanted[middle, 1] <= low:
            first = middle + 1
        else:
            last = middle
    return first < wanted.shape[0] and wanted[first, 0] < high


@inner
def _stores_wanted(view: Any, address: int, wanted: Any) -> bool:
    """Return whether a view in memory meets a wanted byte; its rows count from their first to their last byte."""
    reach = (view[V_SHAPE + 3] - 1) * view[V_STRIDE + 3]
    for i0 in range(view[V_SHAPE]):
        for i1 in range(view[V_SHAPE + 1]):
            for i2 in range(view[V_SHAPE + 2]):
                at = address + i0 * view[V_STRIDE] + i1 * view[V_STRIDE + 1] + i2 * view[V_STRIDE + 2]
                if _meets(wanted, at + min(reach, 0), at + max(reach, 0) + view[X_ITEM]):
                    return True
    return False


@inner
def mark_copy(views: Any, dst_view: int, dst: int, src_view: int, node: int, rect: Any, cols: int, needed: Any,
              wanted: Any, kept: Any, config: Any) -> None:  # fmt: skip
    """Grow needed[node, buffer] by the source of a copy whose destination matters; config[C_CHANGED] tells of it."""
    source = views[src_view, V_OBJECT]
    from_memory = views[src_view, V_SPACE] == SPACE_MEMORY
    if from_memory:
        if kept[source, STORED] == 0 or kept[source, KEPT]:
            return
    elif needed[node, source]:
        return
    target = views[dst_view, V_OBJECT]
    matters = False
    if views[dst_view, V_SPACE] == SPACE_MEMORY:
        matters = kept[target, KEPT] != 0 or _stores_wanted(views[dst_view], dst, wanted)
    else:
        for r in range(rect[0], rect[1] + 1):
            for c in range(rect[2], rect[3] + 1):
                matters = matters or needed[r * cols + c, target] != 0
    if matters:
        config[C_CHANGED] = 1
        if from_memory:
            kept[source, KEPT] = 1
        else:
            needed[node, source] = 1
