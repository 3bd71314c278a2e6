"""Vector instructions of the slow model, one entry a row, on whole arrays of numbers or of untouched codes.

Floats are computed by NumPy's float32 operations, which IEEE 754 defines to the bit; integers as int64 and reduced
modulo 2^32 at the end. Operands are read whole before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.testing.slow_data import SlowModelError
from accel.testing.slow_functions import FUNCTIONS, fused, nearest_fp32

__all__ = ["FLOAT_ROWS", "INTEGER_ROWS", "REDUCTIONS", "RELATIONS", "fused", "nearest_fp32", "reduce_last"]


def _extreme(x: Any, y: Any, largest: bool) -> Any:
    """NaN wins, then the larger or smaller number; of two zeros +0 is the larger."""
    first = (x > y) if largest else (x < y)
    zeros = (x == y) & (np.signbit(x) != largest)
    chosen = np.where(first | zeros, x, y)
    return np.where(np.isnan(x) | np.isnan(y), np.float32(np.nan), chosen)


def _largest(x: Any, y: Any) -> Any:
    return _extreme(x, y, True)


def _smallest(x: Any, y: Any) -> Any:
    return _extreme(x, y, False)


FLOAT_ROWS: dict[str, Callable[..., Any]] = {
    "vec.fill": lambda x: x,
    "vec.neg": lambda x: -x,
    "vec.abs": np.abs,
    "vec.relu": lambda x: np.where((x > 0) | np.isnan(x), x, np.float32(0)),
    "vec.sqrt": np.sqrt,
    "vec.add": lambda x, y: x + y,
    "vec.sub": lambda x, y: x - y,
    "vec.mul": lambda x, y: x * y,
    "vec.div": lambda x, y: x / y,
    "vec.max": _largest,
    "vec.min": _smallest,
    "vec.fma": fused,
    "vec.addi": lambda x, y: x + y,
    "vec.muli": lambda x, y: x * y,
    "vec.maxi": _largest,
    "vec.mini": _smallest,
    **FUNCTIONS,
}
INTEGER_ROWS: dict[str, Callable[..., Any]] = {
    "vec.fill": lambda x: x,
    "vec.neg": lambda x: -x,
    "vec.abs": np.abs,
    "vec.relu": lambda x: np.maximum(x, 0),
    "vec.add": lambda x, y: x + y,
    "vec.sub": lambda x, y: x - y,
    "vec.mul": lambda x, y: x * y,
    "vec.max": np.maximum,
    "vec.min": np.minimum,
    "vec.fma": lambda x, y, z: x * y + z,
    "vec.addi": lambda x, y: x + y,
    "vec.muli": lambda x, y: x * y,
    "vec.maxi": np.maximum,
    "vec.mini": np.minimum,
}
# How a reduction folds floats and integers, and what its sixteen chains start from.
REDUCTIONS: dict[str, tuple[Callable[..., Any], float, Callable[..., Any], int]] = {
    "vec.reduce_sum": (lambda x, y: x + y, 0.0, lambda x, y: x + y, 0),
    "vec.reduce_max": (_largest, -np.inf, np.maximum, -(1 << 31)),
    "vec.reduce_min": (_smallest, np.inf, np.minimum, (1 << 31) - 1),
}
RELATIONS: dict[int, Callable[..., Any]] = {
    1: lambda x, y: x == y,
    2: lambda x, y: x != y,
    3: lambda x, y: x < y,
    4: lambda x, y: x <= y,
    5: lambda x, y: x > y,
    6: lambda x, y: x >= y,
}


def reduce_last(mnemonic: str, x: Any) -> Any:
    """Return x folded over its last dimension, kept with size 1.

    Element i joins chain i mod 16 in ascending order; then neighbours fold: (0 1)(2 3)..., four levels.
    """
    float_fold, float_start, integer_fold, integer_start = REDUCTIONS[mnemonic]
    whole = x.dtype == np.int64
    fold = integer_fold if whole else float_fold
    start = integer_start if whole else float_start
    chains = [np.full(x.shape[:-1], start, x.dtype) for _ in range(16)]
    for i in range(x.shape[-1]):
        chains[i % 16] = fold(chains[i % 16], x[..., i])
    while len(chains) > 1:
        chains = [fold(chains[i], chains[i + 1]) for i in range(0, len(chains), 2)]
    return chains[0][..., None]


def same_kind(dtypes: list[str], integers: Any) -> bool:
    """Return whether a row computes in integers; SlowModelError where floats and integers are mixed."""
    kinds = {d in integers for d in dtypes}
    if len(kinds) != 1:
        raise SlowModelError(f"an instruction mixes floats and integers: {', '.join(dtypes)}")
    return kinds.pop()
