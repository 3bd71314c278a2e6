"""What the number formats mean, written from the contract's text: every value of a format, and rounding by search."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

FLOATS = {"fp32": (8, 23), "bf16": (8, 7), "fp16": (5, 10), "cfp8-143": (4, 3), "cfp8-152": (5, 2), "shp16": (5, 10),
          "uhp16": (6, 10)}  # fmt: skip
FIXED = {"fp32": 127, "bf16": 127, "fp16": 15}
CONFIGURABLE = ("cfp8-143", "cfp8-152", "shp16", "uhp16")
INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(2**31), 2**31 - 1)}
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "cfp8-143": 1, "cfp8-152": 1, "shp16": 2, "uhp16": 2, "int8": 1, "uint8": 1,
         "int32": 4}  # fmt: skip
NAN = {"fp32": 0x7FC00000, "bf16": 0x7FC0, "fp16": 0x7E00, "cfp8-143": 0x7F, "cfp8-152": 0x7F, "shp16": 0x7FFF,
       "uhp16": 0xFFFF}  # fmt: skip


def magnitude(dtype: str, code: int, bias: int = 0, ieee: bool = False) -> float:
    """Return the value of a code without its sign; exact, as every value fits a float64."""
    exponent_bits, mantissa_bits = FLOATS[dtype]
    bias, ieee = FIXED.get(dtype, bias), ieee or dtype in FIXED
    exponent, mantissa = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    if dtype in FIXED and exponent == (1 << exponent_bits) - 1:
        return float("nan") if mantissa else float("inf")
    fraction = Fraction(mantissa, 1 << mantissa_bits)
    if exponent == 0:
        return float(fraction * Fraction(2) ** ((1 if ieee else 0) - bias))
    return float((1 + fraction) * Fraction(2) ** (exponent - bias))


@cache
def magnitudes(dtype: str, bias: int, ieee: bool) -> np.ndarray:
    """Return the finite magnitudes of a format by code; fp16 and bf16 end with the power of two that overflows."""
    exponent_bits, mantissa_bits = FLOATS[dtype]
    count = 1 << (exponent_bits + mantissa_bits)
    if dtype in FIXED:
        count -= 1 << mantissa_bits
        top = 2.0 ** ((1 << exponent_bits) - 1 - FIXED[dtype])
        return np.array([magnitude(dtype, c) for c in range(count)] + [top])
    return np.array([magnitude(dtype, c, bias, ieee) for c in range(count)])


def values(dtype: str, codes: np.ndarray, bias: int = 0, ieee: bool = False) -> np.ndarray:
    """Return codes as float32, exactly (every format fits); integers as int64."""
    if dtype in INTEGERS:
        unsigned = codes.astype(np.int64)
        return unsigned - ((unsigned >> 8 * BYTES[dtype] - 1) << 8 * BYTES[dtype]) if dtype != "uint8" else unsigned
    if dtype == "fp32":
        return codes.astype(np.uint32).view(np.float32)
    bits = sum(FLOATS[dtype])
    sizes, index = magnitudes(dtype, bias, ieee), codes.astype(np.int64) & ((1 << bits) - 1)
    out = np.where(index < len(sizes), sizes[np.minimum(index, len(sizes) - 1)], np.nan)
    if dtype in FIXED:
        out[index == len(sizes) - 1] = np.inf
    return np.where(codes.astype(np.int64) >> bits & 1, -out, out).astype(np.float32)


def neighbours(dtype: str, size: float, bias: int, ieee: bool) -> tuple[int, float, float]:
    """Return (code, value) of the largest number not above a finite magnitude, and the value one code up (or inf)."""
    sizes = magnitudes(dtype, bias, ieee)
    low = int(np.searchsorted(sizes, size, "right")) - 1
    return low, float(sizes[low]), float(sizes[low + 1]) if low + 1 < len(sizes) else float("inf")


def nearest(dtype: str, x: np.ndarray, bias: int = 0, ieee: bool = False) -> np.ndarray:
    """Return the codes (int64) nearest to numbers that float64 holds, ties to even codes."""
    x = np.asarray(x, np.float64)
    if dtype in INTEGERS:
        low, high = INTEGERS[dtype]
        whole = np.clip(np.rint(np.where(np.isnan(x), 0, x)), low, high).astype(np.int64)
        return whole & ((1 << 8 * BYTES[dtype]) - 1)
    if dtype == "fp32":
        with np.errstate(all="ignore"):
            single = x.astype(np.float32)
        return np.where(np.isnan(single), NAN["fp32"], single.view(np.uint32)).astype(np.int64)
    sizes, size = magnitudes(dtype, bias, ieee), np.abs(np.where(np.isnan(x), 0, x))
    low = np.searchsorted(sizes, size, "right") - 1
    high = np.minimum(low + 1, len(sizes) - 1)
    # Exact in float64: neighbours have few bits, doubling is exact.
    with np.errstate(all="ignore"):
        middle = sizes[low] + sizes[high]
        up = (2 * size > middle) | ((2 * size == middle) & (low % 2 == 1))
    code = np.where(up, high, low)
    sign = np.signbit(x).astype(np.int64) << sum(FLOATS[dtype])
    code = np.where(np.signbit(x), 0, code) if dtype == "uhp16" else code | sign
    return np.where(np.isnan(x), NAN[dtype], code).astype(np.int64)


def stochastic(dtype: str, x: float, drawn: int, bias: int = 0, ieee: bool = False) -> int:
    """Return the code of a float32 number rounded by a 32-bit random number, in exact arithmetic."""
    if dtype in INTEGERS and np.isfinite(x):
        low = int(abs(x) // 1)
        away = drawn * 1 < (Fraction(abs(float(x))) - low) * 2**32
        bound = INTEGERS[dtype]
        return min(max((low + away) * (-1 if x < 0 else 1), bound[0]), bound[1]) & ((1 << 8 * BYTES[dtype]) - 1)
    if not np.isfinite(x) or dtype in INTEGERS or dtype == "fp32":  # a float32 is exact in fp32
        return int(nearest(dtype, np.array([x]), bias, ieee)[0])
    code, low, high = neighbours(dtype, abs(float(x)), bias, ieee)
    if high != float("inf"):
        code += drawn * (Fraction(high) - Fraction(low)) < (Fraction(abs(float(x))) - Fraction(low)) * 2**32
    if dtype == "uhp16":
        return 0 if np.signbit(x) else code
    return code | int(np.signbit(x)) << sum(FLOATS[dtype])


def philox(index: int, stream: int, seed: int) -> int:
    """Return output word index & 3 of Philox4x32-10, counter (index >> 2, stream, 0), key = seed (Salmon et al.)."""
    counter = [index >> 2 & 0xFFFFFFFF, index >> 34, stream, 0]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [second >> 32 ^ counter[1] ^ key[0], second & 0xFFFFFFFF, first >> 32 ^ counter[3] ^ key[1],
                   first & 0xFFFFFFFF]  # fmt: skip
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter[index & 3]
