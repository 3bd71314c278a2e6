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

__all__ = ["kept", "notes", "screen_all"]

CHUNK = 65536  # points at once
_DEFAULT_KEEP = 64
_BOUNDED = ("seconds", "cycles", "utilization", "tflops")  # of which there is a closed form

Bulk = Callable[[Any, str, list[str], Mapping[str, list[Any]]], None]


def screen_all(space: Space, order: Any, store: Bulk) -> list[int]:
    """Store every point of `order` as "illegal" or "screened", and return the numbers of the best, best first.

    Best is by the bound of the objective where that is seconds, cycles, utilization or tflops, by itself where it is an
    axis of numbers, else by the least bound in seconds; of equals the one that comes first in `order`. store(numbers,
    status, reasons, more columns) is called for many points at once.
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
        known = _known(space)
        figure = (
            getattr(found, column) if column in _BOUNDED else space.column(column, chunk) if known else found.seconds
        )
        rank[first : first + len(chunk)][legal] = figure[legal] if less or not known else -figure[legal]
    count = kept(space.keep, int(np.isfinite(rank).sum()))
    best = np.argsort(rank, kind="stable")[:count]
    chosen: list[int] = order[best].tolist()
    return chosen


def notes(space: Space) -> list[str]:
    """Return what a reader of a screening must know: which axes and which objective the closed form does not see."""
    found = []
    blind = [axis.name for axis in space.axes if axis.name.startswith("kernel.") and axis.name != "kernel.resident"]
    if blind:
        found.append(
            f"the closed form does not know {', '.join(blind)}: points that differ in nothing else are equal to it, "
            "and of equals the first of the run are kept"
        )
    if not _known(space):
        found.append(f"the closed form does not know {space.objective}: the points with the least seconds are kept")
    return found


def _known(space: Space) -> bool:
    """Whether points can be ranked by the objective without timing them."""
    column, _ = best_first(space.objective)
    numbers = [axis for axis in space.axes if axis.name == column and type(axis.values[0]) in (int, float)]
    return column in _BOUNDED or bool(numbers)


def kept(keep: object, legal: int) -> int:
    """Return how many of `legal` points a `keep` means: a number, or a share of them (at least one)."""
    if keep is None:
        keep = _DEFAULT_KEEP
    if isinstance(keep, float) and 0.0 < keep < 1.0:
        return min(legal, max(1, math.ceil(keep * legal)))
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1:
        return min(legal, keep)
    raise InputError(f"keep = {keep!r} is no number of points; give a whole number, or a share between 0 and 1")
