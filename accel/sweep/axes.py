"""Axes of a sweep: a name and its values, from a list, a range in steps, by a factor, or a count of values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from accel.errors import SpecError, nearest

__all__ = ["LONGEST_TEXT", "MOST_VALUES", "Axis", "Value", "axis_of", "plain_value"]

Value = int | float | bool | str | tuple[Any, ...]
MOST_VALUES = 1_000_000  # of one axis
LONGEST_TEXT = 1000  # characters of a value that is text
LARGEST = 1 << 62  # of an integer: expressions over it stay below 2^63
_KEYS = ("from", "to", "step", "factor", "count", "scale", "multiple")
_DIGITS = Context(prec=60)  # of a factor and of the million products after it, which lose at most ten of them...
_KEPT = Context(prec=30)  # ...of which so many are kept, so that 2^18 times 2 is 2^19 to the last one
Ratio = tuple[
    int, int
]  # an exact value: numerator and denominator, not reduced; a Fraction of it takes ten times as long


@dataclass(frozen=True)
class Axis:
    """What varies: the name as written (`node.sram_bytes`, `kernel.bk`, `problem.m`, ...) and its values in order."""

    name: str
    values: tuple[Value, ...]


def plain_value(value: Any) -> Any:
    """Return a value as JSON and TOML know it: tuples become lists."""
    return [plain_value(one) for one in value] if isinstance(value, tuple) else value


def axis_of(name: str, given: object, where: str) -> Axis:
    """Return the axis that a list or a range of the TOML says; SpecError, beginning with `where`, for any other.

    name: the dotted path. given: a list of values of one kind, or a table with `from`, `to` and one of
    `step`, `factor` and `count` (with `scale` and `multiple`).
    """
    if isinstance(given, Mapping):
        values = _range(given, where)
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        values = tuple(_frozen(value, where) for value in given)
    else:
        raise SpecError(f"{where} = {_short(given)} is no axis; give a list of values, or {{from, to, step}}")
    if not values:
        raise SpecError(f"{where} is an empty list; give at least one value, or leave the axis out")
    if len(values) > MOST_VALUES:
        raise SpecError(f"{where} has {len(values):,} values; give at most {MOST_VALUES:,}")
    return Axis(name, _of_one_kind(values, where))


def _frozen(value: object, where: str, depth: int = 4) -> Value:
    """Return a value of a list that can be an axis' value: a number, a flag, text, or a list of them."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and depth:
        return tuple(_frozen(one, where, depth - 1) for one in value)
    if not isinstance(value, bool | int | float | str):
        raise SpecError(f"{where} has the value {_short(value)}; give numbers, text, true or false, or lists of them")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise SpecError(f"{where} has text of {len(value):,} characters; give at most {LONGEST_TEXT:,}")
    if isinstance(value, str) and value.lstrip(" ").startswith("="):
        raise SpecError(
            f"{where} has the value {_short(value)}, an expression; an axis has plain values: "
            "put the expression into [problem], [kernel], [chip] or [frame]"
        )
    if not isinstance(value, str):
        _finite(value, where)
    return value


def _finite(value: float, where: str) -> None:
    if not isinstance(value, int) and not math.isfinite(value):
        raise SpecError(f"{where} has the value {value!r}; give finite numbers")
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise SpecError(f"{where} has a number of {value.bit_length()} bits; give integers below 2^62")


def _of_one_kind(values: tuple[Value, ...], where: str) -> tuple[Value, ...]:
    """Return the values as integers, floats, flags, texts or lists, of one kind; ints among floats become floats."""
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1:
        raise SpecError(f"{where} mixes {' and '.join(sorted(kinds))}; give values of one kind")
    if any(isinstance(value, float) for value in values):
        return tuple(float(value) for value in values if isinstance(value, int | float))
    return values


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "flags"
    if isinstance(value, int | float):
        return "numbers"
    return "text" if isinstance(value, str) else "lists"


def _range(given: Mapping[str, Any], where: str) -> tuple[Value, ...]:
    """Return the values of a table: exact in the decimals as written, rounded once to a float."""
    for key in given:
        if key not in _KEYS:
            hint = nearest(str(key), _KEYS) or f"; use {', '.join(_KEYS)}"
            raise SpecError(f"{where} has no key {key!r}{hint}")
    how = [key for key in ("step", "factor", "count") if key in given]
    if not {"from", "to"} <= set(given) or len(how) != 1:
        raise SpecError(f"{where} = {_short(dict(given))} is no range; give from, to and one of step, factor and count")
    numbers = {key: _number(given[key], key, where) for key in ("from", "to", how[0])}
    low, high = numbers["from"], numbers["to"]
    if not low < high:
        raise SpecError(f"{where} goes from {given['from']!r} to {given['to']!r}; give a `to` above `from`, or a list")
    scale = given.get("scale", "linear")
    if scale not in ("linear", "log"):
        raise SpecError(f"{where} has scale = {_short(scale)}; use 'linear' or 'log'")
    if "scale" in given and how[0] != "count":
        raise SpecError(f"{where} has a scale, which goes with count; leave it out beside {how[0]}")
    if (scale == "log" or how[0] == "factor") and low <= 0:
        raise SpecError(f"{where} grows by a factor from {given['from']!r}; give a `from` above 0")
    whole = all(isinstance(given[key], int) for key in ("from", "to", how[0]))
    multiple = given.get("multiple")
    if how[0] == "step":
        steps = _steps(low, high, numbers["step"], where)
        if whole and multiple is None:
            return tuple(range(given["from"], given["to"] + 1, given["step"]))
        exact = _evenly(low, numbers["step"], steps)
    elif how[0] == "factor":
        exact = [x.as_integer_ratio() for x in _factors(low, high, numbers["factor"], where)]
    else:
        exact = _counted(low, high, given["count"], scale, where)
    return _rounded(exact, multiple, whole, where)


def _number(value: object, key: str, where: str) -> Fraction:
    """Return a number as written: 0.1 is a tenth."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{where} has {key} = {_short(value)}; give a number")
    _finite(value, f"{where} {key}")
    return Fraction(repr(value))


def _steps(low: Fraction, high: Fraction, step: Fraction, where: str) -> int:
    """Return how many values there are in steps."""
    if step <= 0:
        raise SpecError(f"{where} has step = {float(step):g}; give a step above 0")
    count = (high - low) // step + 1
    if count > MOST_VALUES:
        told = f"{count:,}" if count < LARGEST else "more than 2^62"
        raise SpecError(f"{where} has {told} values; give at most {MOST_VALUES:,}")
    return count


def _evenly(low: Fraction, step: Fraction, count: int) -> list[Ratio]:
    """Return low, low + step, ... over one denominator."""
    below = low.denominator * step.denominator
    first, more = low.numerator * step.denominator, step.numerator * low.denominator
    return [(first + i * more, below) for i in range(count)]


def _factors(low: Fraction, high: Fraction, factor: Fraction, where: str) -> list[Fraction]:
    if factor <= 1:
        raise SpecError(f"{where} has factor = {float(factor):g}; give a factor above 1")
    found = [low]
    while found[-1] * factor <= high:
        if len(found) == 4096:  # the numerators grow with every step
            raise SpecError(f"{where} has more than 4,096 values; give a larger factor, or count with scale = 'log'")
        found.append(found[-1] * factor)
    return found


def _counted(low: Fraction, high: Fraction, count: object, scale: str, where: str) -> list[Ratio]:
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= MOST_VALUES:
        raise SpecError(f"{where} has count = {_short(count)}; give an integer from 2 to {MOST_VALUES:,}")
    if scale == "linear":
        return _evenly(low, (high - low) / (count - 1), count)
    # Decimal arithmetic is the same on every machine, which the pow of a C library is not.
    start, end = (_DIGITS.divide(Decimal(x.numerator), Decimal(x.denominator)) for x in (low, high))
    factor = _DIGITS.exp(_DIGITS.divide(_DIGITS.ln(_DIGITS.divide(end, start)), Decimal(count - 1)))
    found, last = [low.as_integer_ratio()], start
    for _ in range(count - 2):
        last = _DIGITS.multiply(last, factor)
        found.append(_KEPT.plus(last).as_integer_ratio())
    return [*found, high.as_integer_ratio()]


def _rounded(exact: Sequence[Ratio], multiple: object, whole: bool, where: str) -> tuple[Value, ...]:
    """Return exact values as multiples where asked, as integers where all that was written is, else as floats."""
    if multiple is not None:
        if isinstance(multiple, bool) or not isinstance(multiple, int) or not 1 <= multiple < LARGEST:
            raise SpecError(f"{where} has multiple = {_short(multiple)}; give an integer of at least 1")
        # to the nearest, x / multiple + 1/2 rounded down; a tie goes up
        return tuple((2 * over + multiple * under) // (2 * multiple * under) * multiple for over, under in exact)
    if not whole:
        return tuple(over / under for over, under in exact)  # of integers, and so rounded once
    for over, under in exact:
        if over % under:
            raise SpecError(
                f"{where} has a value of {over / under:g} between integers; give multiple = 1 to round, "
                "or write from with a point for fractions"
            )
    return tuple(over // under for over, under in exact)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
