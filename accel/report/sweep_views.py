"""What the figures of a sweep show: which axes first, the best point of every cell, lines with knees, the front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from accel.report.sweep_results import LOSS, SHOWN_FIRST, Axis, Measure, Results
from accel.sweep.fronts import Knee, knee, pareto

__all__ = ["KNEE", "Cells", "Choice", "Front", "Ledger", "Line", "cells", "choose", "front", "ledger", "lines"]

WITHIN = 0.03  # share of the best up to which a line counts as levelled off
KNEE = (
    f"The knee is the smallest x from which on the line stays within {100 * WITHIN:.0f} % of its best value. A line "
    "that is flat, or within that only at its last x, has none."
)
IDLE = math.log(1.01)  # spread of the objective along an axis below which it does not depend on it
MOST_LINES = 8  # lines that a figure tells apart by colour and mark
MOST_FIXED = 24  # values of an axis up to which a figure starts with one of them fixed
TRADES = ("chip_sram_bytes", "energy_j", "memory_bytes_per_s", "memory_bytes", "area_mm2", "sram_bytes_used",
          "utilization", "cycles")  # fmt: skip


class Choice(NamedTuple):
    """What the figures show at first, axes and measures by name; fixed: the code of every axis that is held."""

    value: str | None
    x: str | None
    y: str | None
    line_x: str | None
    series: str | None
    front: tuple[str, str] | None
    fixed: dict[str, int]


class Cells(NamedTuple):
    """A heatmap: rows[y][x] is the row of the best point of a cell in the order of the axes, -1 where there is none.

    lost: of a cell without one the status of its first point without figures (illegal, timeout...), else empty.
    """

    x: Axis
    y: Axis
    value: Measure
    rows: np.ndarray
    lost: np.ndarray


class Line(NamedTuple):
    """The best point at every x, x upward; `series` is the code of the line's axis, None for a single line."""

    series: int | None
    rows: tuple[int, ...]
    knee: Knee | None


class Ledger(NamedTuple):
    """The best point at every x of an axis with the share of each cause of the loss ledger: shares[x][cause]."""

    rows: tuple[int, ...]
    causes: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]


class Front(NamedTuple):
    """Points over two measures, by row, and which of them no other beats, x upward."""

    x: Measure
    y: Measure
    rows: np.ndarray
    best: np.ndarray


def choose(results: Results) -> Choice:
    """Return what the figures show at first.

    Axes of the chip come first, then those of the kernel, those that the objective depends on most before others and
    those that it does not depend on behind them; axes of the work come last and start at their hardest value, because
    the best over them would always be the easiest work.
    """
    objective = results.objective
    if objective is None or not results.eligible.any():
        first, second = itertools.islice((*(axis.name for axis in results.varied), None, None), 2)
        return Choice(None, first, second, None, None, None, {})
    fixed = _hardest(results, objective)
    spread = {axis.name: _spread(results, axis, fixed, objective) for axis in results.varied}

    def rank(axis: Axis) -> tuple[bool, bool, bool, float]:
        return (axis.work, spread[axis.name] < IDLE, not axis.chip, -spread[axis.name])

    ranked = sorted(results.varied, key=rank)
    names = [axis.name for axis in ranked]
    numeric = [axis.name for axis in ranked if axis.numeric and len(axis.values) > 2]
    line_x = next(iter((*numeric, *names, *(axis.name for axis in results.axes))), None)
    others = [axis for axis in ranked if axis.name != line_x and len(axis.values) <= MOST_LINES]
    series = next((axis.name for axis in (*(a for a in others if a.work), *others)), None)
    across = next((name for name in TRADES if name != objective.name and _varies(results, name)), None)
    first, second = itertools.islice((*names, None, None), 2)
    return Choice(objective.name, first, second, line_x, series, (across, objective.name) if across else None, fixed)


def _varies(results: Results, name: str) -> bool:
    if results.measure(name) is None:
        return False
    values = results.numbers(name)[results.eligible]
    values = values[~np.isnan(values)]
    return len(values) > 0 and bool(values.min() < values.max())


def _hardest(results: Results, objective: Measure) -> dict[str, int]:
    values = results.numbers(objective.name)
    left = results.eligible & ~np.isnan(values)
    fixed = {}
    for axis in results.varied:
        if not axis.work or len(axis.values) > MOST_FIXED:
            continue
        reached = {
            int(code): _best(values[left & (axis.codes == code)], objective) for code in np.unique(axis.codes[left])
        }
        worse = -1 if objective.more else 1  # of equals the last: sweeps list what they aim at last
        hardest = max(reached, key=lambda code: (worse * reached[code], code), default=None)
        if hardest is not None and (left & (axis.codes == hardest)).sum() > 1:
            left = left & (axis.codes == hardest)
            fixed[axis.name] = hardest
    return fixed


def _best(values: np.ndarray, measure: Measure) -> float:
    return float(values.max() if measure.more else values.min())


def _spread(results: Results, axis: Axis, fixed: Mapping[str, int], objective: Measure) -> float:
    """Return by how much the best objective differs along an axis, as the logarithm of a ratio."""
    held = {name: code for name, code in fixed.items() if name != axis.name}
    found = [row for row in best_rows(results, held, objective, axis) if row >= 0]
    reached = np.abs(results.numbers(objective.name)[found])
    if len(reached) < 2 or not reached.max() > 0:
        return 0.0
    return math.log(float(reached.max()) / max(float(reached.min()), 1e-300))


def inside(results: Results, fixed: Mapping[str, int]) -> np.ndarray:
    """Return which rows are shown at first and have the fixed codes."""
    kept = results.eligible.copy()
    for axis in results.axes:
        if axis.name in fixed:
            kept &= axis.codes == fixed[axis.name]
    return kept


def best_rows(results: Results, fixed: Mapping[str, int], measure: Measure, *axes: Axis) -> np.ndarray:
    """Return the row with the best measure for every code of `axes` (an array of as many dimensions), -1 for none.

    A measure without a direction is shown at the best objective.
    """
    shape = tuple(len(axis.values) for axis in axes)
    values = results.numbers(measure.name)
    kept = np.flatnonzero(
        np.all([inside(results, fixed), ~np.isnan(values), *(axis.codes >= 0 for axis in axes)], axis=0)
    )
    judge = results.objective if measure.more is None and results.objective is not None else measure
    worth = results.numbers(judge.name)[kept]
    kept, worth = kept[~np.isnan(worth)], worth[~np.isnan(worth)]
    signed = -worth if judge.more else worth
    place = np.ravel_multi_index([axis.codes[kept] for axis in axes], shape) if axes else np.zeros(len(kept), np.int64)
    order = np.lexsort((kept, signed, place))
    places, first = np.unique(place[order], return_index=True)
    made = np.full(int(np.prod(shape)), -1, dtype=np.int64)
    made[places] = kept[order[first]]
    return made.reshape(shape)


def best_row(results: Results, fixed: Mapping[str, int]) -> int | None:
    """Return the row with the best objective at the fixed codes, the first of equals; None where there is none."""
    found = None if results.objective is None else int(best_rows(results, fixed, results.objective)[()])
    return None if found is None or found < 0 else found


def _free(fixed: Mapping[str, int], names: Iterable[str | None]) -> dict[str, int]:
    shown = set(names)
    return {name: code for name, code in fixed.items() if name not in shown}


def axis_of(results: Results, name: str) -> Axis:
    """Return an axis by name."""
    return next(axis for axis in results.axes if axis.name == name)


def cells(results: Results, x: str, y: str, value: Measure, fixed: Mapping[str, int]) -> Cells:
    """Return the best point in `value` for every pair of values of two axes, the other axes fixed or best over them."""
    across, down = axis_of(results, x), axis_of(results, y)
    held = _free(fixed, (x, y))
    found = best_rows(results, held, value, down, across)
    lost = np.where(found >= 0, "", _fates(results, held, down, across))
    shown = np.ix_(down.order, across.order)
    return Cells(across, down, value, found[shown], lost[shown])


def _fates(results: Results, held: Mapping[str, int], down: Axis, across: Axis) -> np.ndarray:
    """Return the status of the first point without figures for every pair of codes of two axes, empty for none."""
    without = ~np.isin(results.status.astype(str), SHOWN_FIRST) & (down.codes >= 0) & (across.codes >= 0)
    for axis in results.axes:
        if axis.name in held:
            without &= axis.codes == held[axis.name]
    made = np.full((len(down.values), len(across.values)), "", dtype=object)
    for row in reversed(np.flatnonzero(without).tolist()):
        made[down.codes[row], across.codes[row]] = results.status[row]
    return made


def lines(results: Results, x: str, series: str | None, value: Measure, fixed: Mapping[str, int]) -> tuple[Line, ...]:
    """Return the best point in `value` at every x, a line for every value of `series`, each with its knee."""
    across = axis_of(results, x)
    along = np.array(across.order)
    held = _free(fixed, (x, series))
    if series is None:
        return (_line(results, across, value, None, best_rows(results, held, value, across)[along]),)
    of = axis_of(results, series)
    found = best_rows(results, held, value, of, across)
    return tuple(
        _line(results, across, value, code, found[code][along]) for code in of.order if (found[code] >= 0).any()
    )


def _line(results: Results, across: Axis, value: Measure, series: int | None, found: np.ndarray) -> Line:
    rows = tuple(int(row) for row in found if row >= 0)
    bend = None
    if across.numeric:
        x = np.array([across.values[across.codes[row]] for row in rows], dtype=np.float64)
        bend = knee(x, results.numbers(value.name)[list(rows)], maximise=bool(value.more), within=WITHIN)
    return Line(series, rows, bend)


def ledger(results: Results, x: str, value: Measure, fixed: Mapping[str, int]) -> Ledger:
    """Return the loss ledger of the best point in `value` at every x; points without a ledger are left out."""
    across = axis_of(results, x)
    found = best_rows(results, _free(fixed, (x,)), value, across)[list(across.order)]
    parts = {cause: results.numbers(LOSS + cause) for cause in results.causes}
    rows = tuple(int(row) for row in found if row >= 0 and any(np.isfinite(part[row]) for part in parts.values()))
    shares = tuple(tuple(float(np.nan_to_num(parts[cause][row])) for cause in results.causes) for row in rows)
    return Ledger(rows, results.causes, shares)


def front(results: Results, x: Measure, y: Measure, fixed: Mapping[str, int]) -> Front:
    """Return the points over two measures and the front that none of them beats, each in its own direction."""
    across, up = results.numbers(x.name), results.numbers(y.name)
    rows = np.flatnonzero(inside(results, fixed) & ~np.isnan(across) & ~np.isnan(up))
    if not len(rows):
        return Front(x, y, rows, rows)
    columns = {"x": across[rows], "y": up[rows]}
    more = {"x": bool(x.more), "y": bool(y.more)}
    kept = pareto(columns, minimise=[n for n in columns if not more[n]], maximise=[n for n in columns if more[n]])
    best = rows[kept]
    return Front(x, y, rows, best[np.lexsort((up[best], across[best]))])
