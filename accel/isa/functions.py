"""exp, log, tanh, sigmoid, erf and rsqrt of the chip over NumPy arrays: the text of the definitions, choosing by where.

References of kernels use them, so that what a kernel is held to has the same bits without a program being run.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from accel.errors import InputError, nearest
from accel.isa import transcendentals
from accel.isa.table import ROWS

__all__ = ["apply", "fma"]


def fma(x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z of fp32 arrays with one rounding: the float64 sum is rounded to odd first, as in `semantics`."""
    x, y, z = (np.asarray(v, np.float32) for v in (x, y, z))
    with np.errstate(all="ignore"):
        product, wide = x.astype(np.float64) * y, z.astype(np.float64)
        total = np.asarray(product + wide)
        part = total - product
        lost = (product - (total - part)) + (wide - part)
        step = np.isfinite(total) & (lost != 0.0) & ((total.view(np.int64) & 1) == 0)
        beside = np.nextafter(total, np.where(lost > 0.0, np.inf, -np.inf))
        return np.where(step, beside, total).astype(np.float32)


def _clamp(x: Any, low: Any, high: Any) -> Any:
    return np.where(x < low, low, np.where(x > high, high, x))


def _over_arrays() -> dict[str, Any]:
    scope: dict[str, Any] = dict(vars(transcendentals))
    for name, value in vars(transcendentals).items():
        if isinstance(value, FunctionType):
            scope[name] = FunctionType(value.__code__, scope, name)
    scope.update(fma=fma, clamp=_clamp, select=np.where)
    return scope


_SCOPE = _over_arrays()
_NAMES = tuple(
    row.semantics.__name__ for row in ROWS if row.semantics and row.semantics.__module__ == transcendentals.__name__
)


def apply(name: str, x: Any) -> Any:
    """Return a function of the chip ("exp", "log", "tanh", "sigmoid", "erf", "rsqrt") of numbers, in fp32.

    x: an array or a number, taken as fp32. The result is a float32 array of its shape with the bits that the
    instruction writes to an fp32 operand, but for the payload of NaN. Raises InputError for another name.
    """
    if name not in _NAMES:
        raise InputError(
            f"no function {name!r} on the vector unit{nearest(name, _NAMES)}; use one of {', '.join(_NAMES)}"
        )
    with np.errstate(all="ignore"):
        return np.asarray(_SCOPE[name](np.asarray(x, np.float32), None, None), np.float32)
