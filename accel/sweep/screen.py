"""Screening: the bound of every design point from columns, before any kernel is built."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.errors import AccelError, InputError
from accel.sweep.chip_columns import ChipColumns, named_ports
from accel.sweep.factors import Codes, Factor
from accel.sweep.problem_columns import ProblemColumns, Work
from accel.sweep.space import Space
from accel.timing.rooflines import C_CLOCK, C_PEAK, CAUSES, DEMAND, UNSUPPORTED, best_seconds

__all__ = ["CAUSES", "CHUNK", "Screened", "screen"]

_OTHERS = ("problem", "kernel", "frame", "chip")  # what names that are no paths of a chip begin with
CHUNK = 1 << 16  # points whose columns are held at once
LARGEST = 50_000_000  # points of one screen: its arrays have some 60 bytes a point


@dataclass(frozen=True)
class Screened:
    """The closed form of many points, an array entry each.

    indices: numbers of the points. seconds: the bound, that of `Problem.bound` on the point's chip, summed over the
    problems with their counts; NaN for an illegal point. cause: 0 compute, 1 memory, 2 cut (`CAUSES`), of most of these
    seconds; -1 for an illegal point. legal, reason: whether there is such a point, and else why not. cycles: seconds in
    cycles of the chip. flops: useful ones. utilization: these over what the chip could do in the seconds, and tflops a
    second: no kernel reaches more.
    """

    indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    cause: NDArray[np.int8]
    legal: NDArray[np.bool_]
    reason: NDArray[np.object_]
    cycles: NDArray[np.float64]
    utilization: NDArray[np.float64]
    flops: NDArray[np.float64]

    @property
    def tflops(self) -> NDArray[np.float64]:
        """Useful flops a second in the least time, in 10^12."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.flops / self.seconds / 1e12

    def __len__(self) -> int:
        return len(self.indices)


def screen(space: Space, indices: ArrayLike | None = None) -> Screened:
    """Return the bound of the points `indices` of a space (all by default), by arrays: no kernel and no point is built.

    Kernel parameters do not enter a bound: points that differ in `kernel.*` alone (but for `kernel.resident`) are equal
    here, and only the constraints tell them apart. Problems without a closed form over columns are built once for each
    combination of their values; InputError where these are too many, or `indices` are no numbers of points.
    """
    wanted = _numbers(space, indices)
    tables = _tables_of(space)
    parts = [tables.chunk(wanted[at : at + CHUNK]) for at in range(0, len(wanted), CHUNK)] or [tables.chunk(wanted)]
    return Screened(wanted, *(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _numbers(space: Space, indices: ArrayLike | None) -> Codes:
    many = len(space) if indices is None else np.size(indices)
    if many > LARGEST:
        raise InputError(f"Cannot screen {many:,} points at once, at most {LARGEST:,}; give indices, some at a time")
    if indices is None:
        return np.arange(len(space), dtype=np.int64)
    given = np.asarray(indices)
    if given.ndim != 1 or (given.dtype.kind not in "iu" and given.size):
        raise InputError("Cannot screen these indices: they are no row of integers; give numbers of points")
    wanted = given.astype(np.int64)
    if given.size and not 0 <= int(given.min()) <= int(given.max()) < len(space):
        raise InputError(f"Cannot screen points {given.min()} to {given.max()}: the space has 0 to {len(space) - 1}")
    return wanted


class _Tables:
    """What is kept between chunks of one space."""

    def __init__(self, space: Space) -> None:
        self._space = weakref.proxy(space)
        self._texts: list[str] = [""]
        self._number_of_text: dict[str, int] = {}
        self._problems = ProblemColumns(self._built, self._number)
        self._chips = ChipColumns(self._number)

    def _built(self, known: Mapping[str, Any]) -> Work:
        work: Work = self._space.problems(known)
        return work

    def _number(self, text: str) -> int:
        """The number of the text of an error."""
        if text not in self._number_of_text:
            self._number_of_text[text] = len(self._texts)
            self._texts.append(text)
        return self._number_of_text[text]

    def chunk(self, indices: Codes) -> tuple[NDArray[Any], ...]:
        """Return the fields of `Screened` after the first, for some points."""
        count = len(indices)
        errors = np.zeros(count, np.int32)
        seconds, ideal, clock, flops = (np.full(count, np.nan) for _ in range(4))
        cause = np.full(count, UNSUPPORTED, np.int8)
        held, broken = self._space.legal(indices)
        for number in np.unique(broken[~held]).tolist():
            errors[~held & (broken == number)] = self._number(self._space.rule(number))
        rows = np.flatnonzero(held)
        if len(rows):
            found = self._legal_chunk(indices[rows])
            seconds[rows], ideal[rows], clock[rows], flops[rows], cause[rows], errors[rows] = found
        legal = errors == 0
        seconds[~legal], flops[~legal], cause[~legal] = np.nan, np.nan, UNSUPPORTED
        reason = np.array(self._texts, object)[errors]
        with np.errstate(divide="ignore", invalid="ignore"):
            return seconds, cause, legal, reason, seconds * clock, ideal / seconds, flops

    def _legal_chunk(self, indices: Codes) -> tuple[NDArray[Any], ...]:
        """Seconds, seconds at the peak, clock, flops, cause and error of points that keep all constraints."""
        count = len(indices)
        settings = {name: Factor.of(column) for name, column in self._space.settings(indices).items()}
        of_problem = {name: factor for name, factor in settings.items() if name.startswith("problem.")}
        resident = settings.get("kernel.resident", Factor([()]))
        demands, first, last, errors = self._problems.columns(of_problem, resident, count)
        chips = np.empty((C_PEAK + len(self._problems.formats), count))
        bases = settings.get("chip.base", Factor(["d1"]))
        paths = {name: f for name, f in settings.items() if name.partition(".")[0] not in _OTHERS}
        for code, name in enumerate(bases.values):
            rows = np.arange(count) if bases.codes is None else np.flatnonzero(bases.codes == code)
            if not len(rows):
                continue
            base = self._space.base(name)
            changes = {path: factor.at(rows) for path, factor in named_ports(paths, base).items()}
            chips[:, rows], wrong = self._chips.columns(base, changes, self._problems.formats, len(rows))
            errors[rows] = np.where(errors[rows] == 0, wrong, errors[rows])
        seconds, ideal, cause = np.empty(count), np.empty(count), np.empty(count, np.int8)
        good = errors == 0
        best_seconds(chips, np.where(good, first, 0), np.where(good, last, 0), demands, seconds, ideal, cause)
        self._unsupported(indices, np.flatnonzero(good & (cause == UNSUPPORTED)), errors)
        return seconds, ideal, chips[C_CLOCK], _flops(demands, first, last), cause, errors

    def _unsupported(self, indices: Codes, rows: Codes, errors: NDArray[np.int32]) -> None:
        """Note why chips do not compute in the format of a problem, as the first of them says it."""
        if len(rows):
            point = self._space.resolve(int(indices[rows[0]]))
            try:
                for _, _, problem in point.problems:
                    problem.bound(point.chip, point.resident)
            except AccelError as error:
                errors[rows] = self._number(str(error))


def _flops(demands: NDArray[np.float64], first: Codes, last: Codes) -> NDArray[np.float64]:
    """Useful flops of each point: those of its demands, as often as they occur."""
    each = np.append(demands[:, DEMAND.index("useful_flops")] * demands[:, DEMAND.index("count")], 0.0)
    if ((last - first) == 1).all():
        return each[first]
    ends = np.stack([first, last], axis=1).reshape(-1)
    return np.where(last > first, np.add.reduceat(each, ends)[::2], 0.0)


_held: list[tuple[weakref.ref[Space], _Tables]] = []  # of the space that was screened last: it comes in chunks


def _tables_of(space: Space) -> _Tables:
    if not _held or _held[0][0]() is not space:
        _held[:] = [(weakref.ref(space), _Tables(space))]
    return _held[0][1]
