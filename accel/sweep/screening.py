"""The first pass of a sweep with `screen = "bound"`: every point by the closed form, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError
from accel.sweep.rows import best_first

if TYPE_CHECKING:
    from accel.sweep.space import Space

__all__ = ["kept", "screen_all"]

CHUNK = 65536  # points at once
_DEFAULT_KEEP = 64
_BOUNDED = ("seconds", "cycles", "utilization")  # of which there is a closed form

Bulk = Callable[[Any, str, list[str], Mapping[str, list[Any]]], None]


def screen_all(space: Space, order: Any, store: Bulk) -> list[int]:
    """Store every point of `order` as "illegal" or "screened", and return the numbers of the best, best first.

    Best is by the bound of the objective where that is seconds, cycles or utilization, else the least bound in seconds;
    of equals the one that comes first in `order`. store(numbers, status, reasons,
    more columns) is called for many points at once.
    """
    from accel.sweep.screen import CAUSES, screen  # here, because it loads the compiler

    names = np.array(CAUSES, object)
    column, less = best_first(space.objective)
    rank = np.full(len(order), np.inf)
    for first in range(0, len(order), CHUNK):
        chunk = order[first : first + CHUNK]
        found = screen(space, chunk)
        legal = np.asarray(found.legal, np.bool_)
        store(chunk[~legal], "illegal", [str(reason) for reason in np.asarray(found.reason, object)[~legal]], {})
        bounds = np.asarray(found.seconds)[legal]
        more = {"bound_seconds": bounds.tolist(), "bound_cause": names[np.asarray(found.cause)[legal]].tolist()}
        store(chunk[legal], "screened", [""] * len(bounds), more)
        figure = np.asarray(getattr(found, column) if column in _BOUNDED else found.seconds)[legal]
        rank[first : first + len(chunk)][legal] = figure if less or column not in _BOUNDED else -figure
    count = kept(space.keep, int(np.isfinite(rank).sum()))
    best = np.argsort(rank, kind="stable")[:count]
    chosen: list[int] = order[best].tolist()
    return chosen


def kept(keep: object, legal: int) -> int:
    """Return how many of `legal` points a `keep` means: a number, or a share of them (at least one)."""
    if keep is None:
        keep = _DEFAULT_KEEP
    if isinstance(keep, float) and 0.0 < keep < 1.0:
        return min(legal, max(1, math.ceil(keep * legal)))
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
        return min(legal, keep)
    raise InputError(f"keep = {keep!r} is no number of points; give a whole number, or a share between 0 and 1")
