"""What the problems of design points demand of their chips: by closed form where there is one, else each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError, InputError
from accel.kernels.catalog import CATALOG
from accel.problem import Problem
from accel.sweep.demand_columns import FORMS, demand_rows, tiny
from accel.sweep.factors import Codes, Factor, joined
from accel.timing.rooflines import DEMAND

__all__ = ["FEW", "MOST", "TOLD", "ProblemColumns", "Work"]

FEW = 4096  # combinations of a chunk that are built one by one although their kind has a closed form
TOLD = 20_000  # problems that do not exist and are built to see why, where a closed form has found that out: a second
MOST = 300_000  # problems that are built one by one in a screen: about a minute

Numbers = NDArray[np.float64]
Work = Sequence[tuple[int, str, Problem]]
_FORMAT = DEMAND.index("format")


class ProblemColumns:
    """Demands for `accel.timing.rooflines`; what was built once is remembered.

    build: gives the problems of values by dotted name (`problem.m`), or raises an AccelError. number_of: gives a
    number, from 1, to the text of an error. `formats` are those that have come up; `demands` numbers them.
    """

    def __init__(self, build: Callable[[Mapping[str, Any]], Work], number_of: Callable[[str], int]) -> None:
        self._build, self._number_of = build, number_of
        self.formats: list[str] = []
        self._known: dict[tuple[Any, ...], tuple[int, int, int]] = {}  # first demand, one past the last, error
        self._rows: list[tuple[float, ...]] = []
        self._demands: Numbers = np.empty((0, len(DEMAND)))
        self._told = 0

    def columns(
        self, settings: Mapping[str, Factor], resident: Factor, count: int
    ) -> tuple[Numbers, Codes, Codes, NDArray[np.int32]]:
        """Return demands, for each of `count` points its first and one past its last, and the number of its error or 0.

        settings: columns by dotted name; resident: of tuples of operands.
        """
        names = list(settings)
        members = [*settings.values(), resident]
        first, codes = joined(members)
        if len(first) > FEW and "problem.kind" in settings:
            demands, begin, end, errors = self._by_form(settings, resident, first)
        else:
            found = [
                self._one_by_one(dict(zip(names, values, strict=True)), kept)
                for *values, kept in zip(*(member.at(first).each(len(first)) for member in members), strict=True)
            ]
            begin, end, errors = np.array(found, np.int64).reshape(-1, 3).T
            demands = self._all_demands()
        codes = np.broadcast_to(codes, (count,))
        return demands, begin[codes], end[codes], errors.astype(np.int32)[codes]

    def _one_by_one(self, values: dict[str, Any], resident: tuple[str, ...]) -> tuple[int, int, int]:
        """The place of a combination's demands in the table of all that were built."""
        key = (*((name, type(value), value) for name, value in values.items()), resident)
        found = self._known.get(key)
        if found is None:
            begin = len(self._rows)
            error = 0
            try:
                for number, _, problem in self._build(values):
                    self._rows.append(self._row(problem, number, resident))
            except AccelError as refused:
                del self._rows[begin:]
                error = self._number_of(str(refused))
            found = (begin, len(self._rows), error)
            if len(self._known) < MOST:
                self._known[key] = found
            if len(self._rows) > MOST:
                raise InputError(
                    f"Cannot screen more than {MOST:,} different problems that have no closed form over columns (those "
                    f"with one are {', '.join(FORMS)}); use fewer values on the axes of the problem, or a sample"
                )
        return found

    def _row(self, problem: Problem, count: int, resident: tuple[str, ...]) -> tuple[float, ...]:
        asked = problem.demand(resident)
        values = {**asked._asdict(), "useful_flops": problem.flops, "count": count, "format": self._format(asked.dtype)}
        return tuple(float(values[name]) for name in DEMAND)

    def _format(self, name: str) -> int:
        if name not in self.formats:
            self.formats.append(name)
        return self.formats.index(name)

    def _all_demands(self) -> Numbers:
        held = len(self._demands)
        if held < len(self._rows):
            self._demands = np.concatenate([self._demands, np.array(self._rows[held:])])
        return self._demands

    def _by_form(
        self, settings: Mapping[str, Factor], resident: Factor, points: Codes
    ) -> tuple[Numbers, Codes, Codes, NDArray[np.int64]]:
        """The demands of combinations, one row each: those of a kind with a form at once for equal words."""
        count = len(points)
        formed = np.zeros((count, len(DEMAND)))
        begin, errors = np.arange(count), np.zeros(count, np.int64)
        end = begin + 1
        here = {name: factor.at(points) for name, factor in settings.items()}
        kept = resident.at(points)
        alone: list[int] = []  # rows that are built one by one
        for kind, rows in _by_kind(here["problem.kind"], count):
            if kind not in FORMS:
                alone += rows.tolist()
                continue
            columns = [f"problem.{name}" for name in (*FORMS[kind].sizes, *FORMS[kind].steps)]
            words = [factor.at(rows) for name, factor in here.items() if name not in columns]
            first, group = joined([*words, kept.at(rows)])
            group = np.broadcast_to(group, rows.shape)
            for number, point in enumerate(first.tolist()):
                mine = rows[group == number]
                given = {name.removeprefix("problem."): factor.at(rows).value(point) for name, factor in here.items()}
                try:
                    sample = self._build({f"problem.{name}": value for name, value in tiny(kind, given).items()})[0][2]
                    fields = {n.removeprefix("problem."): here[n].at(mine) for n in columns if n in here}
                    found = demand_rows(sample, fields, kept.at(rows).value(point), len(mine))
                except AccelError as error:
                    errors[mine] = self._number_of(str(error))
                    continue
                formed[mine] = found.demands
                formed[mine, _FORMAT] = self._format(found.format)
                missing = mine[~found.exists]
                told = max(0, TOLD - self._told)
                alone += missing[:told].tolist()
                errors[missing[told:]] = self._number_of(
                    f"{kind}: these sizes make no problem; resolve a point to see why"
                )
                self._told += len(missing)
        for row in alone:
            values = {name: factor.value(row) for name, factor in here.items()}
            begin[row], end[row], errors[row] = self._one_by_one(values, kept.value(row))
            begin[row] += count
            end[row] += count
        return np.concatenate([formed, self._all_demands()]), begin, end, errors


def _by_kind(kinds: Factor, count: int) -> Iterator[tuple[str, Codes]]:
    """Yield each kind of problem, by its own name, and the rows that are of it."""
    for code, name in enumerate(kinds.values):
        rows = np.arange(count) if kinds.codes is None else np.flatnonzero(kinds.codes == code)
        if len(rows):
            yield CATALOG[name].kind if name in CATALOG else name, rows
