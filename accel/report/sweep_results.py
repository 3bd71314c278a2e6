"""A sweep's rows by column: axes as codes of their values, measures as numbers with a unit and a direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from accel.report.figure import CAUSES
from accel.report.quantities import bytes_text, energy, number, percent, rate, seconds, usd

__all__ = ["LOSS", "SHOWN_FIRST", "STATUSES", "WORDS", "Axis", "Measure", "Results", "axis_text", "measure_text"]

STATUSES = ("ok", "screened", "illegal", "timeout", "memory", "failed")
SHOWN_FIRST = ("ok", "screened")  # statuses with figures; the first that occurs is shown when a page opens
OWN = ("index", "key", "status", "reason", "fidelity")  # columns that say which point a row is and how it went
LOSS = "loss."
GEOMETRIC = 1e-6  # relative difference of steps up to which values count as a logarithmic range


class Measure(NamedTuple):
    """An outcome column: `unit` says how it is written, `more` whether larger is better (None: neither way is)."""

    name: str
    label: str
    unit: str = ""
    more: bool | None = False


WORDS = {"bound_cause": "bound by"}  # labels of columns that hold words
_KNOWN = {
    measure.name: measure
    for measure in (
        Measure("cycles", "cycles"),
        Measure("seconds", "time", "s"),
        Measure("utilization", "utilization", "share", more=True),
        Measure("tflops", "rate", "TFLOPS", more=True),
        Measure("energy_j", "energy", "J"),
        Measure("usd", "cost", "USD"),
        Measure("bound_seconds", "bound: time that no kernel beats", "s"),
        Measure("flops", "operations", "flop", more=None),
        Measure("memory_bytes", "memory traffic", "B"),
        Measure("mesh_bytes", "mesh traffic", "B"),
        Measure("sram_bytes_used", "SRAM used, most of any node", "B"),
        Measure("chip_sram_bytes", "SRAM of the chip", "B"),
        Measure("memory_bytes_per_s", "memory bandwidth", "B/s"),
        Measure("area_mm2", "area", "mm2"),
        Measure("events", "events of the simulation", more=None),
        Measure("build_s", "host: time to build", "s", more=None),
        Measure("time_s", "host: time to simulate", "s", more=None),
    )
}


class Axis(NamedTuple):
    """An axis: its values in order, their texts, and which of them every row has (-1: none that is known)."""

    name: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    codes: np.ndarray

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return bool(self.values) and all(_is_number(value) for value in self.values)

    @property
    def order(self) -> tuple[int, ...]:
        """The codes as a figure sets them out: numbers upward, anything else as the sweep lists it."""
        codes = range(len(self.values))
        return tuple(sorted(codes, key=lambda code: self.values[code]) if self.numeric else codes)

    @property
    def work(self) -> bool:
        """Whether the axis sets the work (what is to be computed) rather than the design that does it."""
        return self.name.startswith(("problem.", "frame."))

    @property
    def chip(self) -> bool:
        """Whether the axis sets the chip rather than the work or the kernel."""
        return not self.work and not self.name.startswith("kernel.")

    @property
    def logarithmic(self) -> bool:
        """Whether the values lie on a logarithmic range rather than on a straight one."""
        if not self.numeric or len(self.values) < 3 or min(self.values) <= 0:
            return False
        ordered = np.sort(np.array(self.values, dtype=np.float64))
        steps, ratios = np.diff(ordered), ordered[1:] / ordered[:-1]
        even = np.allclose(steps, steps[0], rtol=GEOMETRIC)
        return not even and bool(np.allclose(ratios, ratios[0], rtol=0.35) or ordered[-1] / ordered[0] >= 50)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def axis_text(name: str, value: Any) -> str:
    """Return the value of an axis as text: sizes in binary units where they are whole ones."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if name.endswith("_bytes") and _is_number(value) and value >= 1024 and value % 64 == 0:
        for scale, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if value >= scale and float(value / scale * 100).is_integer():
                return f"{value / scale:,.12g} {unit}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(axis_text("", part) for part in value)
    return " ".join(str(value).split())


_UNITS: dict[str, Callable[[float], str]] = {
    "s": seconds, "J": energy, "USD": usd, "share": percent, "B": bytes_text,
    "TFLOPS": lambda value: rate(value * 1e12), "B/s": lambda value: f"{number(value / 1e9)} GB/s",
}  # fmt: skip


def measure_text(measure: Measure, value: float | None) -> str:
    """Return the value of a measure with its unit; a dash for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if measure.unit in _UNITS:
        return _UNITS[measure.unit](value)
    shown = f"{value:,.0f}" if float(value).is_integer() else number(value, 4)
    return f"{shown} {measure.unit}".strip()


@dataclass(frozen=True)
class Results:
    """Rows and meta as `accel.sweep.Store` gives them; chip: the TOML of a point's chip by index, None where unknown.

    Raises nothing for rows without figures: a point that never ran is a row like any other.
    """

    rows: Sequence[Mapping[str, Any]]
    meta: Mapping[str, Any]
    chip: Callable[[int], str | None] = field(default=lambda _index: None, repr=False)

    @cached_property
    def title(self) -> str:
        """Title of the sweep, or what it varies."""
        given = str(self.meta.get("title") or "").strip()
        names = ", ".join(axis.name for axis in self.axes if len(axis.values) > 1)
        return given or (f"Sweep over {names}" if names else "Sweep of one point")

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """The axes in the order of the sweep, values in theirs; values of rows that meta does not list come last."""
        given = self.meta.get("axes") or {}
        named = dict(given) if isinstance(given, Mapping) else {axis["name"]: axis["values"] for axis in given}
        made = []
        for name, listed in named.items():
            places: dict[Any, int] = {}
            values: list[Any] = []
            for value in (*listed, *(row[name] for row in self.rows if row.get(name) is not None)):
                if _key(value) not in places:
                    places[_key(value)] = len(values)
                    values.append(value)
            codes = [places.get(_key(row.get(name)), -1) if row.get(name) is not None else -1 for row in self.rows]
            texts = [axis_text(name, value) for value in values]
            if len(set(texts)) < len(texts):  # values that differ beyond what is shown, or 1 and "1"
                texts = [repr(value) for value in values]
            made.append(Axis(name, tuple(values), tuple(texts), np.array(codes, dtype=np.int64)))
        return tuple(made)

    @cached_property
    def varied(self) -> tuple[Axis, ...]:
        """The axes with more than one value among the rows."""
        return tuple(axis for axis in self.axes if len(axis.values) > 1)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The outcome columns in the order of the rows, axes and what names a row left out."""
        axes = {axis.name for axis in self.axes}
        seen = dict.fromkeys(name for row in self.rows for name in row)
        return tuple(name for name in seen if name not in OWN and name not in axes)

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """The outcome columns that hold numbers, with at least one number in them."""
        found = []
        for name in self.columns:
            if name not in self.words and np.isfinite(self.numbers(name)).any():
                cause = name.removeprefix(LOSS)
                known = _KNOWN.get(name, Measure(name, name, more=None))
                if name.startswith(LOSS):
                    label = CAUSES[cause].label if cause in CAUSES else cause
                    known = Measure(name, f"loss: {label}", "share", more=cause == "useful")
                found.append(known)
        given = str(self.meta.get("objective") or "").removeprefix("-")
        if any(axis.name == given and axis.numeric for axis in self.axes):  # least SRAM that keeps the constraints
            found.append(Measure(given, given, "B" if given.endswith("_bytes") else ""))
        return tuple(found)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The outcome columns that hold words, such as the cause of the bound."""
        return tuple(name for name in self.columns if str in {type(row.get(name)) for row in self.rows})

    @cached_property
    def causes(self) -> tuple[str, ...]:
        """The causes of the loss ledger that the rows know, in its order."""
        there = {measure.name.removeprefix(LOSS) for measure in self.measures if measure.name.startswith(LOSS)}
        return (*(cause for cause in CAUSES if cause in there), *sorted(there - set(CAUSES)))

    def numbers(self, name: str) -> np.ndarray:
        """Return a column as float64, NaN where a row has no finite number."""
        held = self.__dict__.setdefault("_numbers", {})
        if name not in held:
            found = [row.get(name) for row in self.rows]
            if {type(value) for value in found} <= {int, float, type(None)}:  # the usual case, without a call a row
                made = np.array(found, dtype=np.float64)
                made[~np.isfinite(made)] = math.nan
            else:
                made = np.array([v if _is_number(v) else math.nan for v in found], dtype=np.float64)
            held[name] = made
        return cast("np.ndarray", held[name])

    def measure(self, name: str) -> Measure | None:
        """Return the measure of that name, None where no row has it."""
        return next((measure for measure in self.measures if measure.name == name), None)

    @cached_property
    def status(self) -> np.ndarray:
        """The status of every row."""
        return np.array([str(row.get("status", "ok")) for row in self.rows], dtype=object)

    @cached_property
    def statuses(self) -> tuple[str, ...]:
        """The statuses that occur, the known ones first and in their order."""
        there = dict.fromkeys(self.status)
        return (*(name for name in STATUSES if name in there), *(name for name in there if name not in STATUSES))

    @cached_property
    def shown_status(self) -> str | None:
        """The status whose rows the figures show at first: ok, else screened, else None."""
        return next((name for name in SHOWN_FIRST if name in self.statuses), None)

    @cached_property
    def eligible(self) -> np.ndarray:
        """Whether a row's figures are shown at first."""
        return np.asarray(self.status == self.shown_status, dtype=bool)

    @cached_property
    def objective(self) -> Measure | None:
        """What "best" means, with the direction that the sweep gave it; None where no row has a number for it."""
        given = str(self.meta.get("objective") or "seconds")
        found = self.measure(given.removeprefix("-"))
        if found is None:
            return self.measure("seconds") or self.measure("bound_seconds")
        return found._replace(more=given.startswith("-"))


def _key(value: Any) -> Any:
    """Return what tells values apart: 1, 1.0 and True are three; lists compare by content."""
    return (type(value).__name__, repr(value) if isinstance(value, list | tuple | dict) else value)
