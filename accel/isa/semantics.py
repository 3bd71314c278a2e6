"""This file defines what the chip computes, one scalar function a row; plain Python, compiled by `accel.machine`.

Every elementwise instruction decodes its operands to fp32, applies the function of its row once per element, rounds
once (nearest even) to the format of `dst` and writes any NaN as the canonical one (0x7FC00000 in fp32, 0x7FC0 in bf16).
`vec.copy` is the exception: it moves bits untouched. Subnormals are kept everywhere.

Where an instruction is more than one scalar function:

matmul   dst[m, n] = fma(a[m, k], b[k, n], dst[m, n]) for k ascending, one fp32 rounding a step, starting from dst
         (accumulate) or from +0. Operands decode to fp32 exactly; an fma is exact before its one rounding.
reduce   over the last dimension: element i joins lane i mod 16, each lane one ascending chain that starts from the
         identity (+0 for sum, -Inf for max, +Inf for min), then lanes fold as a balanced tree of neighbours:
         (0 1)(2 3)..., then pairs of those, four levels, the lower lane on the left.
copy     moves bits untouched.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "absolute", "add", "cast", "copy", "divide", "fill", "fma", "maximum", "minimum", "multiply", "negate", "relu",
    "square_root", "subtract",
]  # fmt: skip


def copy(x: Any, y: Any, z: Any) -> Any:
    """Return x (the executor moves the bits and skips rounding)."""
    return x


def cast(x: Any, y: Any, z: Any) -> Any:
    """Return x, to be rounded to the format of dst."""
    return x


def fill(x: Any, y: Any, z: Any) -> Any:
    """Return the immediate, passed as x."""
    return x


def negate(x: Any, y: Any, z: Any) -> Any:
    """Return -x; a NaN is canonical."""
    return -x


def absolute(x: Any, y: Any, z: Any) -> Any:
    """Return |x|; a NaN is canonical."""
    return abs(x)


def relu(x: Any, y: Any, z: Any) -> Any:
    """Return x where x > 0, NaN where x is NaN, otherwise +0 (so relu(-0) is +0)."""
    if x > np.float32(0.0) or x != x:
        return x
    return np.float32(0.0)


def add(x: Any, y: Any, z: Any) -> Any:
    """Return x + y."""
    return x + y


def subtract(x: Any, y: Any, z: Any) -> Any:
    """Return x - y."""
    return x - y


def multiply(x: Any, y: Any, z: Any) -> Any:
    """Return x * y."""
    return x * y


def divide(x: Any, y: Any, z: Any) -> Any:
    """Return x / y, correctly rounded; x/0 is a signed infinity, 0/0 is NaN."""
    if y == np.float32(0.0):
        if x == np.float32(0.0) or x != x:
            return np.float32(np.nan)
        return np.float32(math.copysign(1.0, x) * math.copysign(1.0, y) * np.inf)
    return x / y


def square_root(x: Any, y: Any, z: Any) -> Any:
    """Return the correctly rounded square root; NaN below zero, -0 at -0."""
    if x < np.float32(0.0):
        return np.float32(np.nan)
    return np.sqrt(x)


def maximum(x: Any, y: Any, z: Any) -> Any:
    """Return the larger; NaN if either is NaN; +0 is larger than -0."""
    if x != x or y != y:
        return np.float32(np.nan)
    if x == y:
        return y if math.copysign(1.0, x) < 0.0 else x
    return x if x > y else y


def minimum(x: Any, y: Any, z: Any) -> Any:
    """Return the smaller; NaN if either is NaN; -0 is smaller than +0."""
    if x != x or y != y:
        return np.float32(np.nan)
    if x == y:
        return x if math.copysign(1.0, x) < 0.0 else y
    return x if x < y else y


def fma(x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z with one rounding, by round-to-odd in float64 (exact for every fp32 operand).

    The product of two fp32 numbers is exact in float64. Its sum with z is not; TwoSum gives the error e, and where
    e is not 0 the sum is made odd toward e, so that the last cast to fp32 rounds once. Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE TC 2008.
    """
    p = np.float64(x) * np.float64(y)
    c = np.float64(z)
    s = p + c
    if not math.isfinite(s):
        return np.float32(s)
    b = s - p
    e = (p - (s - b)) + (c - b)
    if e != 0.0:
        low, _ = math.frexp(s)
        scaled = low * 9007199254740992.0  # 2**53: an integer whose parity is that of the significand of s
        if math.fmod(scaled, 2.0) == 0.0:
            # s is even, so the odd neighbour toward e is the nearer float64 on that side
            s = np.float64(np.nextafter(s, np.inf if e > 0.0 else -np.inf))
    return np.float32(s)
