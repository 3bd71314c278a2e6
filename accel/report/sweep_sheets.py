"""The tables of a sweep: space, counts, best point, what each value can reach, reasons, points, provenance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from accel.report.sheet import Cell, Column, Sheet, shortened
from accel.report.sweep_results import LOSS, WORDS, Measure, Results, measure_text
from accel.report.sweep_views import best_row, best_rows, inside

__all__ = ["LISTED_POINTS", "best", "effects", "points", "provenance", "reasons", "space", "status_counts"]

LISTED_POINTS = 50  # rows of the table that stands in a page without JavaScript, and in Markdown
LISTED_VALUES = 12  # values of an axis that the summary writes out
LISTED_REASONS = 40
IN_TABLE = ("seconds", "utilization", "energy_j", "memory_bytes", "chip_sram_bytes", "memory_bytes_per_s")
MEANING = {
    "ok": "timed", "screened": "by the bound alone; not among the best that went on",
    "illegal": "refused, with the reason",
    "timeout": "took longer than the limit of a point", "memory": "needed more memory than the limit of a point",
    "failed": "ended in an error",
}  # fmt: skip


def space(results: Results) -> Sheet:
    """Return what the sweep varies: axis, how many values, which."""
    rows = []
    for axis in results.axes:
        texts = [axis.texts[code] for code in axis.order]
        if len(texts) > LISTED_VALUES:
            texts = [*texts[:3], "...", *texts[-2:]]
        rows.append((axis.name, len(axis.values), ", ".join(shortened(text, 60) for text in texts)))
    columns = (Column("axis", "axis", text=True), Column("values", "values"), Column("listed", "", text=True))
    return Sheet("space", "What varies", columns, tuple(rows))


def status_counts(results: Results) -> Sheet:
    """Return how many points ended how."""
    counts = Counter(results.status)
    columns = (Column("status", "status", text=True), Column("points", "points"), Column("meaning", "", text=True))
    rows = tuple((name, counts[name], MEANING.get(name, "")) for name in results.statuses)
    return Sheet("counts", "How the points ended", columns, rows)


def reasons(results: Results) -> Sheet:
    """Return the points without figures, by status and reason, the most frequent first."""
    counts = Counter(
        (str(row.get("status")), str(row.get("reason") or "")) for row in results.rows
        if row.get("status") not in ("ok", "screened")
    )  # fmt: skip
    columns = (Column("status", "status", text=True), Column("points", "points"), Column("reason", "reason", text=True))
    rows = tuple((status, count, reason or "-") for (status, reason), count in counts.most_common())
    return Sheet("reasons", "Points without figures", columns, rows, listed=LISTED_REASONS)


def best(results: Results, fixed: Mapping[str, int]) -> Sheet | None:
    """Return the best point at the fixed codes: its design, then its figures; None where no point has any."""
    at = best_row(results, fixed)
    if at is None or results.objective is None:
        return None
    pairs: list[tuple[str, Cell]] = [("point", str(results.rows[at].get("index", at)))]
    pairs += [(axis.name, axis.texts[axis.codes[at]] if axis.codes[at] >= 0 else None) for axis in results.axes]
    for measure in results.measures:
        value = results.numbers(measure.name)[at]
        if not np.isnan(value) and measure.more is not None and not measure.name.startswith(LOSS):
            pairs.append((measure.label, measure_text(measure, float(value))))
    pairs += [
        (WORDS.get(name, name), str(results.rows[at][name])) for name in results.words if results.rows[at].get(name)
    ]
    note = _held(results, fixed)
    if note:
        note += f" Other values are other work, and the easiest would win{_over_all(results, results.objective)}."
    return Sheet.of_pairs("best", f"The best point: {direction(results.objective)}", pairs, note)


def _held(results: Results, fixed: Mapping[str, int]) -> str:
    told = ", ".join(f"{axis.name} = {axis.texts[fixed[axis.name]]}" for axis in results.axes if axis.name in fixed)
    return f"Of the points with {shortened(told, 200)}." if told else ""


def _over_all(results: Results, objective: Measure) -> str:
    at = best_row(results, {})
    if at is None:
        return ""
    value = measure_text(objective, float(results.numbers(objective.name)[at]))
    return f": over all points that is {value}, at point {results.rows[at].get('index', at)}"


def direction(measure: Measure) -> str:
    """Return what is sought: least time."""
    return f"{'most' if measure.more else 'least'} {measure.label}"


def effects(results: Results, fixed: Mapping[str, int]) -> Sheet | None:
    """Return for every value of every axis how many points have figures and the best objective among them.

    The other axes are free but for those in `fixed`.
    """
    objective = results.objective
    if objective is None or not results.varied:
        return None
    rows: list[tuple[Cell, ...]] = []
    values = results.numbers(objective.name)
    for axis in results.varied:
        held = {name: code for name, code in fixed.items() if name != axis.name}
        found = best_rows(results, held, objective, axis)
        usable = inside(results, held) & ~np.isnan(values)
        for code in axis.order:
            row = int(found[code])
            count = int((usable & (axis.codes == code)).sum())
            if row >= 0:
                rows.append(
                    (axis.name, axis.texts[code], count, float(values[row]), int(results.rows[row].get("index", row)))
                )
            else:
                rows.append((axis.name, axis.texts[code], 0, None, None))
    columns = (
        Column("axis", "axis", text=True), Column("value", "value", text=True), Column("points", "points with figures"),
        Column(objective.name, direction(objective), lambda value: measure_text(objective, value)),
        Column("index", "at point", str),
    )  # fmt: skip
    return Sheet("effects", "What each value can reach", columns, tuple(rows), _held(results, fixed), listed=120)


def points(results: Results, most: int | None = None) -> Sheet:
    """Return all points (or the `most` best) with all columns, the best in the objective first, those without last."""
    objective = results.objective
    order = np.arange(len(results.rows))
    if objective is not None:
        signed = results.numbers(objective.name) * (-1 if objective.more else 1)
        signed = np.where(results.eligible, signed, np.nan)
        order = np.lexsort((order, signed))
    shown = {*IN_TABLE, *(objective.name,)} if objective is not None else set(IN_TABLE)
    columns = [Column("index", "point", str), Column("status", "status", text=True)]
    columns += [
        Column(axis.name, axis.name, _shower(results, axis.name), text=not axis.numeric) for axis in results.axes
    ]
    known = {measure.name: measure for measure in results.measures}
    for name in results.columns:
        if name in known:
            columns.append(Column(name, known[name].label, _measurer(known[name]), page=name in shown))
        else:
            columns.append(Column(name, name, str, text=True, page=False))
    columns.append(Column("reason", "reason", lambda text: shortened(str(text), 90), text=True))
    names = [column.name for column in columns]
    rows = tuple(tuple(_plain(results.rows[int(at)].get(name)) for name in names) for at in order[:most])
    return Sheet("points", "Points", tuple(columns), rows, listed=LISTED_POINTS)


def _plain(value: object) -> Cell:
    if value is None or isinstance(value, str | int | float | bool):
        return None if value == "" or (isinstance(value, float) and not np.isfinite(value)) else value
    return str(value)


def _shower(results: Results, name: str):  # type: ignore[no-untyped-def]
    texts = next(
        dict(zip(map(repr, axis.values), axis.texts, strict=True)) for axis in results.axes if axis.name == name
    )
    return lambda value: shortened(texts.get(repr(value), str(value)), 40)


def _measurer(measure: Measure):  # type: ignore[no-untyped-def]
    return lambda value: measure_text(measure, float(value))


def provenance(results: Results) -> Sheet:
    """Return who made the rows, with what and when: every plain entry of meta that is no part of the space."""
    left = ("title", "toml", "axes", "bases")
    pairs: list[tuple[str, Cell]] = []
    for name, value in results.meta.items():
        if name in left or value is None or value in ("", [], ()):
            continue
        if isinstance(value, Mapping):
            pairs += [
                (f"{name}: {key}", shortened(str(inner), 200)) for key, inner in value.items() if inner is not None
            ]
        elif name == "runs":
            pairs.append((name, len(value)))
        else:
            pairs.append((name.replace("_", " "), shortened(str(value), 200)))
    return Sheet.of_pairs("provenance", "Made by", pairs)
