"""The Pareto front of design points over any number of objectives, and the knee of a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, nearest

__all__ = ["Knee", "knee", "pareto"]

PAIRS = 1 << 14  # comparisons that are made at once rather than split further

Names = str | Iterable[str]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Knee:
    """Where a line bends: the index of a point among those given, and its x and y."""

    index: int
    x: float
    y: float


def pareto(rows_or_columns: Any, minimise: Names = (), maximise: Names = ()) -> Numbers:
    """Return the indices, ascending, of the points that no other point beats.

    rows_or_columns: a list of dicts, or columns by name (a dict of sequences, a dataframe). minimise, maximise: the
    names of the objectives, smaller or larger is better. A point beats another where it is no worse in every objective
    and better in one; so of points with equal objectives all are kept. A point without one of them (NaN, None, key
    absent) is on no front. Integers are compared exactly, not as floats.

    InputError for no objective, an unknown one, one given twice, columns of unequal lengths, and what is no number.

    Method: divide and conquer over the first objective (Kung, Luccio, Preparata, "On finding the maxima of a set of
    vectors", J. ACM 22, 1975): n log n comparisons for two objectives, n log(n)^(k - 2) for k.
    """
    smaller, larger = _names(minimise, "minimise"), _names(maximise, "maximise")
    wanted = [*smaller, *larger]
    if not wanted:
        raise InputError("Cannot draw a Pareto front over no objective; name some in minimise= or maximise=")
    twice = next((name for name in wanted if wanted.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Cannot use the objective {twice!r} twice; name it once, in minimise= or maximise=")
    columns = [_column(rows_or_columns, name) for name in wanted]
    lengths = {name: len(column) for name, column in zip(wanted, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(f"Cannot compare columns of unequal lengths: {shown}; give a value a point")
    there = np.flatnonzero(np.all([~_absent(column) for column in columns], axis=0))
    if not len(there):
        return there
    # Ranks hold the order of any kind of number exactly, and turn "larger is better" round without a sign.
    ranks = [np.unique(column[there], return_inverse=True)[1].reshape(-1) for column in columns]
    for at in range(len(smaller), len(wanted)):
        ranks[at] = ranks[at].max() - ranks[at]
    distinct, which = np.unique(np.stack(ranks, axis=1), axis=0, return_inverse=True)
    kept = np.zeros(len(distinct), dtype=bool)
    kept[_front(distinct, np.arange(len(distinct)))] = True
    return there[kept[which.reshape(-1)]]


def knee(
    x: Sequence[float] | NDArray[Any],
    y: Sequence[float] | NDArray[Any],
    *,
    maximise: bool = False,
    within: float = 0.03,
) -> Knee | None:
    """Return the knee of the line y(x): the smallest x from which on y stays within 3 % of its best.

    "From which on": at that x and at every larger one, abs(y - best) <= within x abs(best), where best is the least y
    (maximise: the largest). Where several points share an x, the best of them counts; points with a NaN are left out.
    index: of the point among those given, in whatever order. None where the line has no knee: it is flat (within
    3 % from its first x on), or has not levelled off (only its last x is within), or has fewer than three x.

    InputError for x and y of unequal lengths, what is no number, and `within` outside 0 to below 1.
    """
    given: object = within
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0.0 <= given < 1.0:
        raise InputError(f"Cannot use within={within!r}; give a share from 0 to below 1, such as 0.03")
    across, up = (_numbers(values, name).astype(np.float64) for values, name in ((x, "x"), (y, "y")))
    if len(across) != len(up):
        raise InputError(f"Cannot find a knee of {len(across)} x and {len(up)} y; give a y for every x")
    there = np.flatnonzero(~(np.isnan(across) | np.isnan(up)))
    worse = -up if maximise else up
    order = there[np.lexsort((worse[there], across[there]))]
    first = np.flatnonzero(np.diff(across[order], prepend=np.nan) != 0)
    line = order[first]  # the best point of each x, x ascending
    if len(line) < 3:
        return None
    best = worse[line].min()
    with np.errstate(invalid="ignore"):  # an endless best: nothing is within a share of it
        good = np.abs(worse[line] - best) <= within * abs(best)
    bad = np.flatnonzero(~good)
    start = int(bad[-1]) + 1 if len(bad) else 0
    if start == 0 or start >= len(line) - 1:
        return None
    at = int(line[start])
    return Knee(at, float(across[at]), float(up[at]))


def _names(given: Names, what: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"Cannot use {what}={given!r}: {name!r} is no name of a column; give names")
    return names


def _column(data: Any, name: str) -> NDArray[Any]:
    """The values of one objective, as numbers of one kind or as objects with None for absent ones."""
    if isinstance(data, Mapping) or hasattr(data, "columns"):
        known = list(data.columns if hasattr(data, "columns") else data)
        if name not in known:
            raise InputError(f"Cannot use the objective {name!r}: it is no column{nearest(name, known)}")
        return _numbers(data[name], name)
    rows = list(data)
    if not all(isinstance(row, Mapping) for row in rows):
        raise InputError("Cannot read the points: give a list of dicts, or a dict of columns")
    known = list(dict.fromkeys(key for row in rows for key in row))
    if rows and name not in known:
        raise InputError(f"Cannot use the objective {name!r}: no point has it{nearest(name, known)}")
    return _numbers([row.get(name) for row in rows], name)


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """`values` as an array of numbers; what NumPy holds only as objects (None, huge integers) stays so."""
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise InputError(f"Cannot use {name!r}: its values are no row of numbers") from None
    if array.ndim != 1:
        raise InputError(f"Cannot use {name!r}: its values have {array.ndim} dimensions; give one number a point")
    if array.dtype.kind in "iuf" or not len(array):
        return array
    if array.dtype.kind == "O":
        wrong = next(
            (v for v in array if v is not None and (isinstance(v, bool) or not isinstance(v, int | float | np.number))),
            None,
        )
        if wrong is None:
            return array
    else:
        wrong = array[0]
    wrong = wrong.item() if isinstance(wrong, np.generic) else wrong
    raise InputError(f"Cannot use {name!r}: {wrong!r} is no number; name a column of numbers")


def _absent(column: NDArray[Any]) -> NDArray[np.bool_]:
    if column.dtype.kind == "O":
        return np.array(
            [value is None or (isinstance(value, float) and math.isnan(value)) for value in column], dtype=bool
        )
    missing: NDArray[np.bool_] = np.isnan(column)
    return missing


def _front(rows: Numbers, at: Numbers) -> Numbers:
    """Indices from `at` of the rows that no other row there is <= to; rows are distinct and in lexicographic order."""
    if rows.shape[1] <= 2:
        if rows.shape[1] == 1:
            return at[:1]
        second = rows[at, 1]  # every earlier row is <= in the first column
        before = np.minimum.accumulate(second)
        return at[np.r_[True, second[1:] < before[:-1]]]
    if len(at) * len(at) <= PAIRS:
        some = rows[at]
        below = np.all(some[:, None, :] <= some[None, :, :], axis=2)
        alone: Numbers = at[below.sum(axis=0) == 1]  # only the row itself
        return alone
    half = len(at) // 2
    good, rest = _front(rows, at[:half]), _front(rows, at[half:])
    both: Numbers = np.r_[good, rest[~_covered(rows[good, 1:], rows[rest, 1:])]]
    return both


def _covered(some: Numbers, others: Numbers) -> NDArray[np.bool_]:
    """For each row of `others`: whether a row of `some` is <= to it in all columns."""
    result = np.zeros(len(others), dtype=bool)
    if not (len(some) and len(others)):
        return result
    if some.shape[1] == 1:
        over: NDArray[np.bool_] = others[:, 0] >= some[:, 0].min()
        return over
    if some.shape[1] == 2:
        order = np.argsort(some[:, 0], kind="stable")
        least = np.minimum.accumulate(some[order, 1])
        last = np.searchsorted(some[order, 0], others[:, 0], side="right") - 1
        return (last >= 0) & (least[last] <= others[:, 1])
    if len(some) * len(others) <= PAIRS:
        beaten: NDArray[np.bool_] = np.any(np.all(some[:, None, :] <= others[None, :, :], axis=2), axis=0)
        return beaten
    values = np.r_[some[:, 0], others[:, 0]]
    low, high = values.min(), values.max()
    if low == high:
        return _covered(some[:, 1:], others[:, 1:])
    middle = np.partition(values, len(values) // 2)[len(values) // 2]
    split = middle if middle < high else values[values < high].max()
    left, under = some[:, 0] <= split, others[:, 0] <= split
    result[under] = _covered(some[left], others[under])
    result[~under] = _covered(some[left, 1:], others[~under, 1:])
    open_ = np.flatnonzero(~under & ~result)
    result[open_] = _covered(some[~left], others[open_])
    return result
