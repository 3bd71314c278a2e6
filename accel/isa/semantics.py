"""This file defines what the chip computes, one scalar function a row; plain Python, compiled by `accel.machine`.

An arithmetic instruction on floats decodes its operands to fp32, applies the function of its row once per element,
rounds once (nearest even) to the format of `dst` and writes any NaN as the canonical one (0x7FC00000 in fp32, 0x7FC0 in
bf16, 0x7E00 in fp16; formats without NaN hold their largest number instead). Where all its values are integers it
computes in int32 modulo 2^32, and int8 or uint8 results keep their low eight bits. Nothing else mixes the two kinds,
except casts, masks, indices and comparisons. Subnormals are kept everywhere.

Where an instruction is more than one scalar function:

matmul   dst[m, n] = fma(a[m, k], b[k, n], dst[m, n]) for k ascending, one fp32 rounding a step, starting from dst
         (accumulate) or from +0. Operands decode to fp32 exactly; an fma is exact before its one rounding. A dst in
         bf16, fp16, shp16 or uhp16 gets what cast makes of the finished chain; a chain that left so cannot go on, so
         accumulate must be 0. Operands in int8 or uint8 make int32 chains modulo 2^32.
reduce   over the last dimension: element i joins lane i mod 16, each lane one ascending chain that starts from the
         identity (+0 for sum, -Inf for max, +Inf for min; 0, -2^31 and 2^31 - 1 in integers), then lanes fold as a
         balanced tree of neighbours: (0 1)(2 3)..., then pairs of those, four levels, the lower lane on the left.
cast     to an integer rounds to nearest even and saturates, NaN becomes 0; from an integer it rounds once. Formats
         without infinities saturate, NaN becomes their largest number; uhp16 has no sign: what is negative becomes +0.
cast_sr  lo and hi are the neighbours of |x| in the format of dst, toward and away from zero, r the random number of the
         element: hi if r * (hi - lo) < (|x| - lo) * 2^32 in exact arithmetic, otherwise lo, with the sign of x. Above
         the largest number of bf16 or fp16 hi is the next power of two, stored as infinity. What is exact, NaN and
         infinite goes as in cast.
random   Philox4x32-10 (Salmon et al., SC 2011): counter (low and high half of index >> 2, stream, 0), key the two
         halves of the run's seed; the number is output word index & 3. int32 takes its 32 bits, fp32 (bits >> 8) *
         2^-24.
index    of an element: first + sum over dimensions of step * position, modulo 2^64: its place in the whole logical
         tensor, so that no tiling, mesh or order changes a random number.
compare  relations 1 to 6: equal, not equal, less, less or equal, greater, greater or equal. With a NaN only "not equal"
         holds; -0 equals +0.
gather   moves rows, ascending; scatter_add adds rows, ascending, one rounding to the format of dst a step.
copy     moves bits untouched, as do pull, select, transpose and gather.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "EQ", "GE", "GT", "LE", "LT", "NE", "absolute", "add", "cast", "compare", "copy", "divide", "fill", "fma",
    "integer_fma", "integer_maximum", "integer_minimum", "integer_relu", "maximum", "minimum", "multiply", "negate",
    "relu", "select", "square_root", "subtract",
]  # fmt: skip

EQ, NE, LT, LE, GT, GE = 1, 2, 3, 4, 5, 6  # relations of `compare`


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


def compare(x: Any, y: Any, z: Any) -> Any:
    """Return 1 where x stands in relation z (EQ to GE) to y, otherwise 0; a NaN is unequal to everything."""
    if z == EQ:
        return x == y
    if z == NE:
        return x != y
    if z == LT:
        return x < y
    if z == LE:
        return x <= y
    if z == GT:
        return x > y
    return x >= y


def select(x: Any, y: Any, z: Any) -> Any:
    """Return y where the mask x is not 0, otherwise z (the executor moves the bits and skips rounding)."""
    return y if x != 0 else z


def integer_relu(x: Any, y: Any, z: Any) -> Any:
    """Return x where x > 0, otherwise 0."""
    return max(x, 0)


def integer_maximum(x: Any, y: Any, z: Any) -> Any:
    """Return the larger of two integers."""
    return max(x, y)


def integer_minimum(x: Any, y: Any, z: Any) -> Any:
    """Return the smaller of two integers."""
    return min(x, y)


def integer_fma(x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z; the caller reduces it modulo 2^32."""
    return x * y + z
