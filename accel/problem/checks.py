"""Checks that turn arguments of a problem into plain ints, pairs, flags and known format names."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, SupportsIndex

from accel.errors import InputError, nearest
from accel.numerics import fmt

__all__ = [
    "MAX_ELEMENTS",
    "check_axes",
    "check_choice",
    "check_elements",
    "check_flag",
    "check_float_format",
    "check_format",
    "check_int",
    "check_number",
    "shown",
    "unless_given",
]

LONGEST = 60
"""Characters of a value that an error shows."""
MAX_ELEMENTS = 1 << 40
"""Largest tensor of a problem, in elements: 2 TB in bf16, far above any chip or GPU of the catalogs."""


def check_int(owner: str, name: str, value: object, *, low: int = 1, high: int = MAX_ELEMENTS) -> int:
    """Return `value` as an int in [low, high]; InputError for bool, float, text, too small or too large."""
    number = None
    if isinstance(value, int | SupportsIndex) and not isinstance(value, bool):  # int first: a protocol takes long
        with suppress(TypeError):  # an array of several numbers has __index__, too
            number = operator.index(value)
    if number is None:
        raise InputError(f"{owner}: {name}={shown(value)} is not an integer; give a whole number, {low} or more")
    if not low <= number <= high:
        limit = "2^40" if high == MAX_ELEMENTS else str(high)
        raise InputError(f"{owner}: {name}={_short(number)} is outside {low}..{limit}; give a size inside that range")
    return number


def shown(value: object) -> str:
    """Return what somebody gave, as an error says it: its repr, cut where it gets long."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _short(value)
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - an object's own __repr__, or an int of 5,000 digits inside
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def unless_given(value: Any, default: Any) -> Any:
    """Return `default` where a field was left empty or is None, else `value`, whatever it is."""
    return default if value is None or (isinstance(value, str) and not value) else value


def _short(number: int) -> str:
    """Return an int as text that stays short: printing 10**5000 would itself be refused by Python."""
    return str(number) if abs(number) < 10**30 else f"{'-' if number < 0 else ''}2^{abs(number).bit_length() - 1}.."


def check_axes(owner: str, name: str, value: object, axes: Sequence[str], *, low: int) -> tuple[int, ...]:
    """Return `value`, an int or one int for each of `axes` (their names), as ints of at least `low`."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if len(value) != len(axes):
            count = {2: "two", 3: "three"}.get(len(axes), str(len(axes)))
            raise InputError(
                f"{owner}: {name} has {len(value)} entries; give one number or {count} ({', '.join(axes)})"
            )
        return tuple(check_int(owner, name, one, low=low) for one in value)
    return (check_int(owner, name, value, low=low),) * len(axes)


def check_flag(owner: str, name: str, value: object) -> bool:
    """Return `value` if it is True or False; InputError otherwise (1 and "yes" are not taken for True)."""
    if not isinstance(value, bool):
        raise InputError(f"{owner}: {name}={shown(value)} is not a flag; give True or False")
    return value


def check_choice(owner: str, name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`, else InputError with the nearest."""
    if not isinstance(value, str) or value not in choices:
        near = nearest(value, choices) if isinstance(value, str) else ""
        raise InputError(
            f"{owner}: {name}={shown(value)} is not one of {', '.join(choices)}{near or '; use one of these'}"
        )
    return value


def check_format(owner: str, name: str, value: object) -> str:
    """Return the number format `value` if `accel.numerics` knows it; InputError with the nearest otherwise."""
    if not isinstance(value, str):
        raise InputError(f"{owner}: {name}={shown(value)} is not the name of a number format; give for example 'bf16'")
    return fmt(value).name


def check_float_format(owner: str, name: str, value: object) -> str:
    """Return the format `value` if it is bf16, fp16 or fp32, in which activations are kept; InputError otherwise."""
    known = check_format(owner, name, value)
    if known not in ("bf16", "fp16", "fp32"):
        raise InputError(f"{owner} does not take {name}={value!r}; use 'bf16', 'fp16' or 'fp32'")
    return known


def check_number(owner: str, name: str, value: object, *, low: float, high: float = 3.0e38) -> float:
    """Return `value` as a float in [low, high]; InputError for text, bool, NaN, too small or too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{owner}: {name}={shown(value)} is not a number; give one from {low:g} to {high:g}")
    if not low <= value <= high:
        raise InputError(
            f"{owner}: {name}={shown(value)} is outside {low:g}..{high:g}; give a number inside that range"
        )
    return float(value)


def check_elements(owner: str, operand: str, shape: Sequence[int], role: Literal["in", "out"]) -> None:
    """Refuse an operand above `MAX_ELEMENTS` elements."""
    total = 1
    for size in shape:
        total *= size
    if total > MAX_ELEMENTS:
        what = "input" if role == "in" else "output"
        raise InputError(
            f"{owner}: {what} {operand} of shape {tuple(shape)} has {_short(total)} elements, more than 2^40; "
            "split the problem into smaller ones"
        )
