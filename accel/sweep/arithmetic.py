"""What an expression of a sweep computes, element by element over columns, the same on every machine.

Integers are exact and stay below 2^62; floats are IEEE doubles, one correctly rounded operation after the other (powers
by repeated multiplication). Between an integer and a float, the integer is rounded to a float first. Where a result
does not exist (a division by zero, a number that grows too large), the element gets 0 and a fault that says so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARITHMETIC", "FUNCTIONS", "LIMIT", "Column", "Faults", "Flags", "compare", "constant", "merged", "negative"]

LIMIT = 1 << 62  # of integers: a sum of two of them stays below 2^63
_LARGE = "an integer of 2^62 or more"
_DIGITS = Context(prec=50)  # of a logarithm before it is rounded to a float
_LN2 = _DIGITS.ln(Decimal(2))

Array = NDArray[Any]
Flags = NDArray[np.bool_]


@dataclass
class Faults:
    """The texts of faults by their number; 0 is none. `place` says where the operation at work stands."""

    texts: list[str] = field(default_factory=lambda: [""])
    place: str = ""

    def number(self, rule: str) -> int:
        """Return the number of a fault at the place of now, a new one where it is new."""
        text = self.place + rule
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)


@dataclass(frozen=True)
class Column:
    """Values of one kind, int, float, bool, text or list, one for each point, or a single one for all of them.

    faults: for each point the number of what went wrong, 0 for nothing; None where nothing did.
    """

    kind: str
    values: Array
    faults: NDArray[np.int32] | None = None

    @property
    def number(self) -> bool:
        """Whether the values are integers or floats."""
        return self.kind in ("int", "float")


def constant(value: Any) -> Column:
    """Return a column that has one value for all points."""
    if isinstance(value, bool):
        return Column("bool", np.array([value]))
    if isinstance(value, int):
        return Column("int", np.array([value], np.int64))
    if isinstance(value, float):
        return Column("float", np.array([value]))
    held = np.empty(1, object)
    held[0] = value
    return Column("text" if isinstance(value, str) else "list", held)


def merged(*faults: NDArray[np.int32] | None) -> NDArray[np.int32] | None:
    """Return for each point the first fault of several columns."""
    found: NDArray[np.int32] | None = None
    for one in faults:
        if one is not None and one.any():
            found = one if found is None else np.where(found != 0, found, one).astype(np.int32)
    return found


def _marked(bad: Flags, text: str, faults: Faults) -> NDArray[np.int32] | None:
    return np.where(bad, faults.number(text), 0).astype(np.int32) if bad.any() else None


def _floats(column: Column) -> Array:
    return column.values.astype(np.float64)


def _finished(kind: str, values: Array, bad: Flags, text: str, faults: Faults, *before: Column) -> Column:
    """Return a result with 0 where it is bad, and the faults of what it was made from."""
    own = _marked(bad, text, faults)
    if own is not None:
        values = np.where(bad, 0, values).astype(values.dtype)
    return Column(kind, values, merged(*(column.faults for column in before), own))


def _of_floats(values: Array, faults: Faults, *before: Column) -> Column:
    return _finished("float", values, ~np.isfinite(values), "a number beyond 1.8e308", faults, *before)


def _of_ints(values: Array, faults: Faults, *before: Column) -> Column:
    return _finished("int", values, np.abs(values) >= LIMIT, _LARGE, faults, *before)


def _largest(values: Array) -> int:
    return max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0


def _too_large(a: Array, b: Array) -> Flags:
    """Return where the product of two integers reaches 2^62."""
    if _largest(a) * _largest(b) < LIMIT:
        return np.zeros(1, np.bool_)
    found: Flags = (b != 0) & (np.abs(a) > (LIMIT - 1) // np.maximum(np.abs(b), 1))
    return found


def _add(a: Column, b: Column, faults: Faults) -> Column:
    if a.kind == b.kind == "int":
        return _of_ints(a.values + b.values, faults, a, b)
    return _of_floats(_floats(a) + _floats(b), faults, a, b)


def _subtract(a: Column, b: Column, faults: Faults) -> Column:
    return _add(a, negative(b), faults)


def negative(a: Column) -> Column:
    """Return -a."""
    return Column(a.kind, -a.values, a.faults)


def _multiply(a: Column, b: Column, faults: Faults) -> Column:
    if a.kind == b.kind == "int":
        bad = _too_large(a.values, b.values)
        product = np.where(bad, 0, a.values) * b.values
        return _finished("int", product, bad, _LARGE, faults, a, b)
    return _of_floats(_floats(a) * _floats(b), faults, a, b)


def _without_zero(b: Column, faults: Faults) -> tuple[Array, Column]:
    """Return the divisors with 1 in place of 0, and the column with a fault there."""
    zero = b.values == 0
    marked = Column(b.kind, b.values, merged(b.faults, _marked(zero, "a division by zero", faults)))
    return np.where(zero, 1, b.values).astype(b.values.dtype), marked


def _divide(a: Column, b: Column, faults: Faults) -> Column:
    divisor, marked = _without_zero(b, faults)
    return _of_floats(_floats(a) / divisor.astype(np.float64), faults, a, marked)


def _floor_divide(a: Column, b: Column, faults: Faults) -> Column:
    divisor, marked = _without_zero(b, faults)
    if a.kind == b.kind == "int":
        return Column("int", a.values // divisor, merged(a.faults, marked.faults))
    return _of_floats(np.floor_divide(_floats(a), divisor.astype(np.float64)), faults, a, marked)


def _modulo(a: Column, b: Column, faults: Faults) -> Column:
    divisor, marked = _without_zero(b, faults)
    if a.kind == b.kind == "int":
        return Column("int", a.values % divisor, merged(a.faults, marked.faults))
    return _of_floats(np.remainder(_floats(a), divisor.astype(np.float64)), faults, a, marked)


def _power(a: Column, b: Column, faults: Faults) -> Column:
    """Return a ** b for an integer b, by repeated squaring."""
    if a.kind == "int":
        return _integer_power(a, b, faults)
    size = np.abs(b.values)
    bad = size > 1024  # beyond the range of any double but 1
    left = np.where(bad, 0, size)
    base, power = _floats(a), np.ones(1)
    while left.any():
        power = np.where(left & 1, power * base, power)
        left >>= 1
        base = np.where(left > 0, base * base, base)
    inverse = b.values < 0
    zero = inverse & (power == 0)
    power = np.where(inverse, 1.0 / np.where(zero, 1.0, power), power)
    marks = merged(
        b.faults, _marked(bad, "an exponent beyond 1024", faults), _marked(zero, "a division by zero", faults)
    )
    return _of_floats(power, faults, a, Column(b.kind, b.values, marks))


def _integer_power(a: Column, b: Column, faults: Faults) -> Column:
    under = b.values < 0
    left = np.where(under, 0, b.values)
    left = np.where(left > 63, 62 + (left & 1), left)  # more is too large already, or 0, 1 or -1 and only parity counts
    base, power = a.values, np.ones(1, np.int64)
    bad = np.zeros(1, np.bool_)
    while left.any():
        odd = (left & 1) == 1
        over = odd & _too_large(power, base)
        power = np.where(odd & ~over, power * np.where(over, 0, base), power)
        left = left >> 1
        more = (left > 0) & _too_large(base, base)
        bad = bad | over | more
        left = np.where(bad, 0, left)
        base = np.where(left > 0, base, 0)
        base = base * base
    marks = merged(b.faults, _marked(under, "a negative exponent; write 1 / x ** n", faults))
    marked = Column(b.kind, b.values, marks)
    return _finished("int", power, bad & ~under, _LARGE, faults, a, marked)


ARITHMETIC: dict[str, Callable[[Column, Column, Faults], Column]] = {
    "+": _add, "-": _subtract, "*": _multiply, "/": _divide, "//": _floor_divide, "%": _modulo, "**": _power,
}  # fmt: skip


def compare(sign: str, a: Column, b: Column) -> Flags:
    """Return a < b and the like; between an integer and a float, of floats."""
    left, right = (a.values, b.values) if a.kind == b.kind else (_floats(a), _floats(b))
    found = {
        "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
    }[sign](left, right)  # fmt: skip
    return np.asarray(found, np.bool_)


def _rounding(round_float: Callable[[Array], Array], a: Column, faults: Faults) -> Column:
    if a.kind == "int":
        return a
    whole = round_float(a.values)
    bad = np.abs(whole) >= LIMIT
    return _finished("int", np.where(bad, 0.0, whole).astype(np.int64), bad, _LARGE, faults, a)


def _sqrt(a: Column, faults: Faults) -> Column:
    values = _floats(a)
    bad = values < 0
    return _finished("float", np.sqrt(np.where(bad, 0.0, values)), bad, "the root of a negative number", faults, a)


@functools.lru_cache(maxsize=1 << 16)
def _log2_of(x: float) -> float:
    share, exponent = math.frexp(x)
    if share == 0.5:
        return float(exponent - 1)
    return float(_DIGITS.divide(_DIGITS.ln(Decimal(x)), _LN2))


def _log2(a: Column, faults: Faults) -> Column:
    """Return log2, correctly rounded by decimal arithmetic: C libraries differ in the last bit."""
    values = _floats(a)
    bad = values <= 0
    different, at = np.unique(np.where(bad, 1.0, values), return_inverse=True)
    found = np.array([_log2_of(float(x)) for x in different])[at] if different.size else different
    return _finished("float", found.reshape(values.shape), bad, "the logarithm of 0 or less", faults, a)


def _extreme(choose: Callable[[Array, Array], Array], columns: tuple[Column, ...], faults: Faults) -> Column:
    kind = "int" if all(column.kind == "int" for column in columns) else "float"
    values = functools.reduce(choose, (c.values if kind == "int" else _floats(c) for c in columns))
    return Column(kind, values, merged(*(column.faults for column in columns)))


FUNCTIONS: dict[str, tuple[int, Callable[[tuple[Column, ...], Faults], Column]]] = {
    # name: most arguments, meaning; min and max take two or more
    "abs": (1, lambda given, _: Column(given[0].kind, np.abs(given[0].values), given[0].faults)),
    "ceil": (1, lambda given, faults: _rounding(np.ceil, given[0], faults)),
    "floor": (1, lambda given, faults: _rounding(np.floor, given[0], faults)),
    "log2": (1, lambda given, faults: _log2(given[0], faults)),
    "max": (64, lambda given, faults: _extreme(np.maximum, given, faults)),
    "min": (64, lambda given, faults: _extreme(np.minimum, given, faults)),
    "sqrt": (1, lambda given, faults: _sqrt(given[0], faults)),
}
