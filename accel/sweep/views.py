"""The names of a sweep over many points at once: the columns of axes, expressions and constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError, SpecError
from accel.sweep.arithmetic import Column, Faults, merged
from accel.sweep.axes import plain_value
from accel.sweep.expressions import Expression, evaluate
from accel.sweep.names import Alias, Along, Computed, Names

__all__ = ["View", "check_kinds", "plain_values"]


@dataclass
class View:
    """The columns of some points: `places` says for each axis which of its values each point has."""

    names: Names
    places: Mapping[str, NDArray[np.int64]]
    count: int
    faults: Faults = field(default_factory=Faults)
    _known: dict[str, Column] = field(default_factory=dict)

    def column(self, name: str, where: str = "sweep") -> Column:
        """Return the column of a name, one value a point or one for all; SpecError for an unknown name."""
        if name not in self._known:
            source = self.names.source(name, where)
            if isinstance(source, Computed | Alias):
                for one in self.names.order:  # what it needs stands before it
                    if one not in self._known:
                        self._known[one] = self._computed(one)
                    if one == name:
                        break
            else:
                self._known[name] = self._plain(source)
        return self._known[name]

    def _plain(self, source: Column | Along) -> Column:
        if isinstance(source, Column):
            return source
        return Column(source.values.kind, source.values.values[self.places[source.axis]])

    def _computed(self, name: str) -> Column:
        source = self.names.source(name, "sweep")
        if isinstance(source, Alias):
            return self.column(source.name)
        if not isinstance(source, Computed):
            return self._plain(source)
        if isinstance(source.made_of, Expression):
            return evaluate(source.made_of, self.column, self.faults)
        return self._by_combination(source.names, source.made_of)

    def _by_combination(self, names: Sequence[str], function: Callable[..., int]) -> Column:
        """Return a function of some columns, called once for each combination of their values."""
        columns = [self.column(name) for name in names]
        shape = np.broadcast_shapes(*(column.values.shape for column in columns))
        code = np.zeros(shape, np.int64)
        different: list[tuple[Any, ...]] = [()]
        for column in columns:  # combinations so far times the values of one more column, numbered anew
            values, at = np.unique(column.values, return_inverse=True)
            pairs, code = np.unique(code * max(1, len(values)) + at.reshape(column.values.shape), return_inverse=True)
            code = code.reshape(shape)
            different = [
                (*different[int(pair) // len(values)], values[int(pair) % len(values)].item()) for pair in pairs
            ]
        found, marks = np.zeros(len(different), np.int64), np.zeros(len(different), np.int32)
        for place, given in enumerate(different):
            try:
                found[place] = function(*(int(one) if float(one).is_integer() else one for one in given))
            except (AccelError, OverflowError) as error:
                self.faults.place = f"{self.names.document.source}: [frame] size_sram: "
                marks[place] = self.faults.number(str(error))
        if not different:
            return Column("int", np.zeros(shape, np.int64))
        return Column("int", found[code], merged(*(column.faults for column in columns), marks[code]))

    def holds(self, expression: Expression) -> Column:
        """Return whether a constraint holds at each point."""
        return evaluate(expression, lambda name: self.column(name, expression.where), self.faults, "true or false")

    def value(self, name: str) -> Any:
        """Return the value of a name at the only point of this view: plain, whole numbers of expressions as integers.

        SpecError with the fault where it has none.
        """
        column = self.column(name)
        if column.faults is not None and column.faults[0]:
            raise SpecError(self.faults.texts[int(column.faults[0])])
        value = column.values[0]
        value = value.item() if isinstance(value, np.generic) else value
        if name in self.names.formulas and isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
            return int(value)
        return value


def plain_values(view: View, names: Sequence[str]) -> dict[str, Any]:
    """Return the values of names at the only point of a view as JSON knows them."""
    return {name: plain_value(view.value(name)) for name in names}


def check_kinds(names: Names) -> None:
    """Refuse expressions whose kinds do not go together (SpecError), before any point is computed."""
    view = View(names, {axis.name: np.zeros(0, np.int64) for axis in names.document.axes}, 0)
    for name in tuple(names.order):
        view.column(name)
    for _, expression in names.document.constraints:
        view.holds(expression)
