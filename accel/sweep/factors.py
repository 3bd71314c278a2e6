"""Columns of a sweep as distinct values and, for each point, which of them: what is the same is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Codes", "Factor", "joined"]

Codes = NDArray[np.int64]
LARGEST = 1 << 40  # of a code that stands for a combination, before it is numbered anew


@dataclass(frozen=True)
class Factor:
    """A column: `values` (plain Python values) and for each point the number of its own; None: the first, for all."""

    values: Sequence[Any]
    codes: Codes | None = None

    @classmethod
    def of(cls, column: NDArray[Any]) -> Factor:
        """Return the factor of a column of numbers, flags or objects; of one entry: the same value for all points."""
        if len(column) == 1:
            return cls([_plain(column[0])])
        if column.dtype.kind != "O":
            distinct, codes = np.unique(column, return_inverse=True)
            return cls(distinct.tolist(), codes.reshape(-1))
        numbers: dict[Any, int] = {}
        found = np.fromiter(
            (numbers.setdefault(_plain(value), len(numbers)) for value in column), np.int64, len(column)
        )
        return cls(list(numbers), found)

    def at(self, points: Codes) -> Factor:
        """Return the factor of some of the points."""
        return self if self.codes is None else Factor(self.values, self.codes[points])

    def value(self, point: int) -> Any:
        """Return the value of one point."""
        return self.values[0 if self.codes is None else self.codes[point]]

    def each(self, count: int) -> list[Any]:
        """Return the value of each of `count` points."""
        if self.codes is None:
            return [self.values[0]] * count
        return [self.values[code] for code in self.codes.tolist()]

    def used(self) -> tuple[list[Any], Codes]:
        """Return the values that some point has, and each point's number among them; one number if all are equal."""
        if self.codes is None:
            return [self.values[0]], np.zeros(1, np.int64)
        numbers, codes = np.unique(self.codes, return_inverse=True)
        return [self.values[i] for i in numbers.tolist()], codes.reshape(-1)


def _plain(value: Any) -> Any:
    """A value that can be a key: lists become tuples, numbers of NumPy those of Python."""
    if isinstance(value, list | tuple):
        return tuple(_plain(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value


def joined(factors: Sequence[Factor]) -> tuple[Codes, Codes]:
    """Return a point for each combination of values that occurs, and for each point the number of its combination.

    Where no factor varies there is one combination and one code, for all points.
    """
    mixed, size = np.zeros(1, np.int64), 1
    for factor in factors:
        if factor.codes is None:
            continue
        mixed = mixed * len(factor.values) + factor.codes
        size *= len(factor.values)
        if size > LARGEST:
            distinct, mixed = np.unique(mixed, return_inverse=True)
            mixed, size = mixed.reshape(-1), len(distinct)
    _, first, codes = np.unique(mixed, return_index=True, return_inverse=True)
    return first, codes.reshape(-1)
