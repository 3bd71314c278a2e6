"""The data of a sweep's page: columns of plain numbers, compressed and thinned only where the page would be too big."""

from __future__ import annotations

import base64
import itertools
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from accel.report import sweep_chips
from accel.report.figure import CAUSES
from accel.report.sheet import Cell
from accel.report.sweep_results import LOSS, WORDS, Measure, Results
from accel.report.sweep_views import KNEE, WITHIN, Choice
from accel.sweep.fronts import pareto

__all__ = ["Packed", "pack", "unpacked"]

TRADED = ("seconds", "utilization", "energy_j", "chip_sram_bytes", "memory_bytes_per_s", "memory_bytes", "area_mm2")
DIGITS = 7  # significant digits of a number in a page that would be too big with all of them
MARGIN = 0.94  # of the rows that should fit, those that are tried
MOST_TRIED = 40_000  # rows that a page can hold at the very most: those of a screen, whose few figures pack well
SAMPLE = 2_000  # rows from which it is told how many fit
PLAIN = 300_000  # bytes up to which the data stands in the page as it is, for whoever reads the source


class Packed(NamedTuple):
    """The text of a page's data, how it is packed ("json" or "deflate"), and what was done to make it fit, in words."""

    text: str
    form: str
    said: str
    rows: int


def pack(results: Results, choice: Choice, room: int) -> Packed:
    """Return the data of the page in at most `room` bytes.

    Up to 300 kB it is JSON; beyond, deflated JSON in base64; then with 7 digits a number; then with fewer rows: those
    that the figures need for the best of every cell over any two axes and for the fronts come first, then the others
    evenly spaced.
    """
    total = len(results.rows)
    ranked = _ranked(results)
    chips = sweep_chips.pack([_index(results, int(row)) for row in ranked[:MOST_TRIED]], results.chip)
    every = np.arange(total)
    if total <= MOST_TRIED:
        text = _json(_data(results, choice, every, ranked, chips))
        if len(text) <= min(PLAIN, room):
            return Packed(text, "json", "", total)
        text = _deflated(text)
        if len(text) <= room:
            return Packed(text, "deflate", "", total)
    said = f"Numbers in this page have {DIGITS} significant digits; the store has all of them."
    count = min(total, MOST_TRIED)
    if count > SAMPLE:  # how many fit, from some of them
        some = np.sort(ranked[:count][:: count // SAMPLE])
        size = len(_deflated(_json(_data(results, choice, some, ranked, {**chips, "chips": []}, digits=DIGITS))))
        count = min(count, int(1.1 * len(some) * room / size))
    while True:
        kept = np.sort(ranked[:count])
        text = _deflated(_json(_data(results, choice, kept, ranked, chips, digits=DIGITS)))
        if len(text) <= room or count == 1:
            break
        count = min(count - 1, max(1, int(MARGIN * count * room / len(text))))
    if count == total:
        return Packed(text, "deflate", said, total)
    return Packed(
        text, "deflate",
        f"This page holds {count:,} of {total:,} points, because with all of them it would be too big: the best in "
        "the objective for any two axes, the fronts, and others evenly spaced. Counts by status are of all points. "
        f"{said}", count,
    )  # fmt: skip


def unpacked(packed: Packed) -> Any:
    """Return the data of a page again, as the page reads it."""
    text = packed.text if packed.form == "json" else zlib.decompress(base64.b64decode(packed.text)).decode()
    return json.loads(text)


def _deflated(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _json(data: object) -> str:
    """Return JSON that no name inside can end: "<" never stands for itself."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _coded(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return each text once, and for every text its place among them."""
    places: dict[str, int] = {}
    codes = [places.setdefault(text, len(places)) for text in texts]
    return list(places), codes


def _numbers(results: Results, measure: Measure, kept: np.ndarray, digits: int | None) -> Any:
    """Return a column of a measure as a list with null for none, or as the one value that all rows have."""

    def value(row: int) -> Cell:
        raw = results.rows[row].get(measure.name)
        if raw is None or isinstance(raw, bool) or not isinstance(raw, int | float) or not np.isfinite(raw):
            return None
        if isinstance(raw, float) and digits is not None:
            raw = float(f"{raw:.{digits}g}")
        return int(raw) if isinstance(raw, float) and raw.is_integer() and abs(raw) < 2**53 else raw

    found = [value(int(row)) for row in kept]
    return {"all": found[0]} if found and all(one == found[0] for one in found) else found


def _index(results: Results, row: int) -> int:
    """Return the number of a row's point in the space."""
    return int(results.rows[row].get("index", row))


def _data(
    results: Results, choice: Choice, kept: np.ndarray, ranked: np.ndarray, chips: dict[str, Any],
    digits: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the data with the rows `kept`; chips: packed, of the first of the rows in the order `ranked`."""
    of = dict(zip(ranked.tolist(), chips["of"], strict=False))
    rows = [results.rows[int(row)] for row in kept]
    reasons, reason = _coded(str(row.get("reason") or "") for row in rows)
    fidelities, fidelity = _coded(str(row.get("fidelity") or "") for row in rows)
    place = {name: code for code, name in enumerate(results.statuses)}
    words = []
    for name in results.words:
        texts, codes = _coded("" if row.get(name) is None else str(row[name]) for row in rows)
        words.append({"name": name, "label": WORDS.get(name, name), "texts": texts, "codes": codes})
    objective = results.objective
    return {
        "title": results.title, "total": len(results.rows), "choice": choice._asdict(),
        "objective": None if objective is None else {"name": objective.name, "more": bool(objective.more)},
        "knee": {"within": WITHIN, "said": KNEE},
        "axes": [
            {"name": axis.name, "values": [_cell(value) for value in axis.values], "texts": axis.texts,
             "order": axis.order, "numeric": axis.numeric, "log": axis.logarithmic,
             "unit": "B" if axis.name.endswith("_bytes") else "",
             "codes": [int(code) for code in axis.codes[kept]]}
            for axis in results.axes
        ],
        "measures": [{**m._asdict(), "values": _numbers(results, m, kept, digits)} for m in results.measures],
        "words": words, "index": [_index(results, int(row)) for row in kept], "statuses": results.statuses,
        "status": [place[results.status[int(row)]] for row in kept], "reasons": reasons, "reason": reason,
        "fidelities": fidelities, "fidelity": fidelity,
        "causes": [
            {"name": cause, "column": LOSS + cause, **_swatch(cause)._asdict()} for cause in results.causes
        ],
        "chips": {**chips, "of": [of.get(int(row), -1) for row in kept]},
    }  # fmt: skip


def _swatch(cause: str) -> Any:
    from accel.report.figure import Swatch

    return CAUSES.get(cause) or Swatch(cause, "#777777")


def _cell(value: Any) -> Cell:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, default=str)


def _ranked(results: Results) -> np.ndarray:
    """Return all rows, those first that the page needs most: winners of cells, fronts, then an even spread."""
    total = len(results.rows)
    tier = np.full(total, 2)
    objective = results.objective
    if objective is not None:
        signed = results.numbers(objective.name) * (-1 if objective.more else 1)
        usable = np.flatnonzero(results.eligible & ~np.isnan(signed))
        by_worth = usable[np.lexsort((usable, signed[usable]))]
        axes = results.varied
        work = [axis for axis in axes if axis.work]
        pairs = itertools.combinations(axes, 2) if len(axes) > 1 else iter([axes])
        groups = [work, *([*pair, *(axis for axis in work if all(axis is not one for one in pair))] for pair in pairs)]
        for group in groups:
            codes = (
                np.stack([axis.codes[by_worth] for axis in group], axis=1) if group else np.zeros((len(by_worth), 1))
            )
            _, first = np.unique(codes, axis=0, return_index=True)
            tier[by_worth[first]] = 0
        for rows in _fronts(results, usable):
            tier[rows] = np.minimum(tier[rows], 1)
    spread = np.empty(total)
    for level in range(3):
        rows = np.flatnonzero(tier == level)
        # The golden ratio spreads any leading part of a tier evenly over it.
        spread[rows] = (np.arange(len(rows)) * 0.6180339887498949) % 1.0
    return np.lexsort((spread, tier))


def _fronts(results: Results, usable: np.ndarray) -> Iterable[np.ndarray]:
    goal = results.objective.name if results.objective is not None else ""
    ways: Mapping[str, bool] = {
        m.name: bool(m.more) for m in results.measures if m.more is not None and m.name in {*TRADED, goal}
    }
    columns = {name: results.numbers(name)[usable] for name in ways}
    for pair in itertools.combinations(ways, 2):
        if all(np.nanmax(columns[name], initial=-np.inf) > np.nanmin(columns[name], initial=np.inf) for name in pair):
            kept = pareto(
                {name: columns[name] for name in pair},
                minimise=[n for n in pair if not ways[n]], maximise=[n for n in pair if ways[n]],
            )  # fmt: skip
            yield usable[kept]
