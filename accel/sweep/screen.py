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
from accel.timing.rooflines import C_CLOCK, C_PEAK, CAUSES, UNSUPPORTED, best_seconds

__all__ = ["CAUSES", "CHUNK", "Screened", "screen"]

_OTHERS = ("problem", "kernel", "frame", "chip")  # what names that are no paths of a chip begin with
CHUNK = 1 << 16  # points whose columns are held at once


@dataclass(frozen=True)
class Screened:
    """The closed form of many points, an array entry each.

    indices: numbers of the points. seconds: the bound, that of `Problem.bound` on the point's chip, summed over the
    problems with their counts; NaN for an illegal point. cause: 0 compute, 1 memory, 2 cut (`CAUSES`), of most of these
    seconds; -1 for an illegal point. legal, reason: whether there is such a point, and else why not. cycles: seconds in
    cycles of the chip. utilization: useful flops over what the chip could do in these seconds.
    """

    indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    cause: NDArray[np.int8]
    legal: NDArray[np.bool_]
    reason: NDArray[np.object_]
    cycles: NDArray[np.float64]
    utilization: NDArray[np.float64]

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
    seconds, cause, legal, reason, cycles, utilization = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Screened(wanted, seconds, cause, legal, reason, cycles, utilization)


def _numbers(space: Space, indices: ArrayLike | None) -> Codes:
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
        """Return seconds, cause, legal, reason, cycles and utilization of some points."""
        count = len(indices)
        errors = np.zeros(count, np.int32)
        seconds, ideal, clock = (np.full(count, np.nan) for _ in range(3))
        cause = np.full(count, UNSUPPORTED, np.int8)
        held, broken = self._space.legal(indices)
        for number in np.unique(broken[~held]).tolist():
            errors[~held & (broken == number)] = self._number(self._broken(number))
        rows = np.flatnonzero(held)
        if len(rows):
            found = self._legal_chunk(indices[rows])
            seconds[rows], ideal[rows], clock[rows], cause[rows], errors[rows] = found
        legal = errors == 0
        seconds[~legal], cause[~legal] = np.nan, UNSUPPORTED
        reason = np.array(self._texts, object)[errors]
        with np.errstate(divide="ignore", invalid="ignore"):
            return seconds, cause, legal, reason, seconds * clock, ideal / seconds

    def _broken(self, number: int) -> str:
        """Say which constraint a point breaks, or which expression has no value there."""
        constraints = self._space.document.constraints
        if number < len(constraints):
            return f"{constraints[number][0]}: {constraints[number][1].text!r} does not hold"
        return f"{self._space.constraints[number]}: its expression has no value; resolve the point to see why"

    def _legal_chunk(self, indices: Codes) -> tuple[NDArray[Any], ...]:
        """Seconds, seconds at the peak, clock, cause and error of points that keep all constraints."""
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
        return seconds, ideal, chips[C_CLOCK], cause, errors

    def _unsupported(self, indices: Codes, rows: Codes, errors: NDArray[np.int32]) -> None:
        """Note why chips do not compute in the format of a problem, as the first of them says it."""
        if len(rows):
            point = self._space.resolve(int(indices[rows[0]]))
            try:
                for _, _, problem in point.problems:
                    problem.bound(point.chip, point.resident)
            except AccelError as error:
                errors[rows] = self._number(str(error))


_held: list[tuple[weakref.ref[Space], _Tables]] = []  # of the space that was screened last: it comes in chunks


def _tables_of(space: Space) -> _Tables:
    if not _held or _held[0][0]() is not space:
        _held[:] = [(weakref.ref(space), _Tables(space))]
    return _held[0][1]
