"""How far a value reaches over the nodes and trips where the active predicate holds, and what is too far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from accel.errors import BoundsError, TraceError
from accel.isa import layout as w
from accel.lang.expr import Expr
from accel.lang.pred import holds_each
from accel.lang.symbols import Term

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer
    from accel.lang.views import Layout

__all__ = ["check_bounds", "check_guard", "check_length", "extremes", "guard"]

GRID = 4_000_000  # most (node, trip) pairs that are enumerated; beyond it bounds are those of interval arithmetic


def extremes(t: Tracer, value: Expr, allowed: int = 0) -> tuple[int, int, str]:
    """Return least and greatest value where the active predicate holds, and where the worst of them is (as text).

    The worst is the least value where that is below `allowed`, else the greatest; (allowed, allowed, "") where the
    predicate holds nowhere.
    """
    terms: tuple[Term, ...] = ((value.c, value.s, 0), *t.active.terms)
    loops = list(dict.fromkeys(part[0] for _, s, _ in terms for part in s.loops))
    trips = [max(loop.most, 1) for loop in loops]
    if len(t.dom.nodes) * math.prod(trips) > GRID:
        return value.c + value.s.lo, value.c + value.s.hi, ""
    grids = []
    for c, s, _ in terms:
        grid = (c + s.values()).reshape((-1,) + (1,) * len(loops))
        for loop, coef, mul, add, mod in s.loops:
            at = loops.index(loop)
            trip = np.arange(trips[at]).reshape((-1,) + (1,) * (len(loops) - 1 - at))
            grid = grid + coef * ((mul * trip + add) % mod if mod else mul * trip + add)
        grids.append(grid)
    shape = (len(t.dom.nodes), *trips)
    mask = np.ones(shape, np.bool_)
    for grid, (_, _, relation) in zip(grids[1:], terms[1:], strict=True):
        mask &= holds_each(grid, relation)
    values = np.broadcast_to(grids[0], shape)
    if not mask.any():
        return allowed, allowed, ""
    least, most = int(values[mask].min()), int(values[mask].max())
    where = np.argwhere(mask & (values == (least if least < allowed else most)))[0]
    text = f" on node {t.dom.node(int(where[0]))}"
    for loop, trip in zip(loops, where[1:], strict=True):
        text += f" at {loop.name} = {trip}"
    return least, most, text


def guard(t: Tracer) -> tuple[Term, ...]:
    """Return the conditions under which something checked here may be used: those in force, or one that never holds."""
    return ((1, t.dom.zero, w.REL_EQ),) if t.active.dead else t.active.terms


def check_guard(t: Tracer, what: str, conditions: tuple[Term, ...]) -> None:
    """Raise TraceError if something that is in bounds only under `conditions` is used where they need not hold."""
    if not t.active.dead and not set(conditions) <= set(t.active.terms):
        raise TraceError(
            f"{what} was taken inside a k.when that keeps it in bounds, and is used outside; use it inside"
        )


def check_bounds(t: Tracer, lay: Layout, dim: int, start: int | Expr, length: int) -> tuple[Term, ...]:
    """Raise BoundsError if [start, start + length) leaves the dimension somewhere the active predicate holds.

    Returns the conditions under which it does not.
    """
    if t.active.dead:
        return guard(t)
    size = lay.shape[dim]
    low, high, where = extremes(t, start) if isinstance(start, Expr) else (start, start, "")
    if low < 0 or high + length > size:
        at = low if low < 0 else high
        raise BoundsError(
            f"{lay}: dimension {dim} is taken from {at} to {at + length}{where}, but it is {size} long; "
            "use a shorter view for the tail (min or if on k.row and k.col splits roles) or k.when round the access"
        )
    return guard(t)


def check_length(t: Tracer, lay: Layout, dim: int, item: slice, length: int) -> int:
    """Return the length of a slice; raise BoundsError for one of nothing (1 in a block that never takes effect)."""
    if length >= 1:
        return length
    if t.active.dead:
        return 1
    raise BoundsError(
        f"{lay}: the slice {item.start}:{item.stop} of dimension {dim} has {length} elements; "
        "a view holds at least one: leave the access out with `if`"
    )
