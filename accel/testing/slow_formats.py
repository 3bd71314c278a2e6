"""Number formats of the slow model: what a code is worth, and which code a number rounds to, by looking at all of them.

Every 8- or 16-bit float format is the ascending list of the numbers its codes stand for (its ladder); rounding finds
the two neighbours of a number on it. Numbers travel as float64, which holds every fp32 and int32 number exactly, and
the distances that decide a rounding are exact too: a number and its neighbours are multiples of one unit and
differ by less than 2^53 of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from accel.testing.slow_data import SlowModelError

__all__ = ["INTEGERS", "LAYOUTS", "Layout", "code_type", "decode", "encode", "item_bytes", "ladder", "wrap"]


@dataclass(frozen=True)
class Layout:
    """Bits of sign, exponent and fraction; bias None where the view says it; specials: has infinities and NaN."""

    sign: int
    exponent: int
    fraction: int
    bias: int | None
    specials: bool


LAYOUTS = {
    "fp32": Layout(1, 8, 23, 127, True),
    "bf16": Layout(1, 8, 7, 127, True),
    "fp16": Layout(1, 5, 10, 15, True),
    "cfp8-143": Layout(1, 4, 3, None, False),
    "cfp8-152": Layout(1, 5, 2, None, False),
    "shp16": Layout(1, 5, 10, None, False),
    "uhp16": Layout(0, 6, 10, None, False),
}
INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(1 << 31), (1 << 31) - 1)}
_BYTES = {"fp32": 4, "int32": 4, "cfp8-143": 1, "cfp8-152": 1, "int8": 1, "uint8": 1}
_NAN = {"fp32": 0x7FC00000, "bf16": 0x7FC0, "fp16": 0x7E00}


def item_bytes(dtype: str) -> int:
    """Return the bytes of one element."""
    return _BYTES.get(dtype, 2)


def code_type(dtype: str) -> Any:
    """Return the unsigned NumPy type that holds a code."""
    return {1: np.uint8, 2: np.uint16, 4: np.uint32}[item_bytes(dtype)]


@lru_cache(maxsize=512)
def ladder(dtype: str, bias: int, ieee: bool) -> Any:
    """Return the numbers of the codes 0, 1, 2, ... without sign, ascending, as float64, infinities and NaN left out.

    Denormals are 0.f x 2^(1 - bias) where the IEEE rule holds and 0.f x 2^-bias where it does not. For formats with
    infinities the last step is the power of two that follows the largest number: what rounds to it is infinite.
    """
    layout = LAYOUTS[dtype]
    if layout.bias is not None:
        bias, ieee = layout.bias, True
    codes = np.arange(1 << (layout.exponent + layout.fraction), dtype=np.int64)
    exponent, fraction = codes >> layout.fraction, (codes % (1 << layout.fraction)) / float(1 << layout.fraction)
    normal = np.ldexp(1.0 + fraction, (exponent - bias).astype(np.int32))
    denormal = np.ldexp(fraction, (1 if ieee else 0) - bias)
    numbers = np.where(exponent == 0, denormal, normal)
    if layout.specials:  # the code after the largest number is that of infinity
        numbers = numbers[: ((1 << layout.exponent) - 1 << layout.fraction) + 1]
    numbers.flags.writeable = False
    return numbers


def decode(codes: Any, dtype: str, bias: int = 0, ieee: bool = False) -> Any:
    """Return the numbers of unsigned codes: float64 for floats (NaN for every NaN), int64 for integers."""
    if dtype in INTEGERS:
        signed = {"int8": np.int8, "uint8": np.uint8, "int32": np.int32}[dtype]
        return codes.astype(code_type(dtype)).view(signed).astype(np.int64)
    layout = LAYOUTS[dtype]
    width = layout.exponent + layout.fraction
    if dtype == "fp32":
        with np.errstate(invalid="ignore"):
            return codes.astype(np.uint32).view(np.float32).astype(np.float64)
    numbers = ladder(dtype, bias, ieee)
    size = codes.astype(np.int64) & ((1 << width) - 1)
    worth = numbers[np.minimum(size, len(numbers) - 1)]
    if layout.specials:
        infinity = len(numbers) - 1
        worth = np.where(size < infinity, worth, np.where(size == infinity, np.inf, np.nan))
    negative = codes.astype(np.int64) >> width != 0
    return np.where(negative, -worth, worth)


def wrap(numbers: Any, dtype: str) -> Any:
    """Return the codes of integers reduced modulo 2^32 (int32) or 2^8 (int8, uint8)."""
    bits = 8 * item_bytes(dtype)
    return (np.asarray(numbers, np.int64) & ((1 << bits) - 1)).astype(code_type(dtype))


def _to_integer(numbers: Any, dtype: str, random: Any) -> Any:
    low, high = INTEGERS[dtype]
    finite = np.clip(np.where(np.isnan(numbers), 0.0, numbers), -(2.0**40), 2.0**40)
    if random is None:
        whole = np.rint(finite)
    else:
        size = np.abs(finite)
        below = np.floor(size)
        whole = np.copysign(below + (random * 1.0 < (size - below) * 2.0**32), finite)
    return wrap(np.clip(whole, low, high).astype(np.int64), dtype)


def _to_fp32(numbers: Any) -> Any:
    near = numbers.astype(np.float32)
    codes = near.view(np.uint32).copy()
    codes[np.isnan(near)] = _NAN["fp32"]
    return codes


def encode(numbers: Any, dtype: str, bias: int = 0, ieee: bool = False, random: Any = None) -> Any:
    """Return the codes nearest to numbers (float64, or int64), ties to the even code.

    random: an array of 32-bit random numbers for stochastic rounding instead. Integers saturate and NaN becomes 0;
    formats without infinities saturate and NaN becomes their largest number; uhp16 makes +0 of everything negative.
    """
    with np.errstate(all="ignore"):
        numbers = np.asarray(numbers, np.float64)
        if dtype in INTEGERS:
            return _to_integer(numbers, dtype, random)
        if dtype == "fp32":
            return _to_fp32(numbers)  # stochastic rounding too: it starts from floats, which are all exact here
        if dtype not in LAYOUTS:
            raise SlowModelError(f"the slow model has no format {dtype!r}")
        layout, steps = LAYOUTS[dtype], ladder(dtype, bias, ieee)
        top = len(steps) - 1
        size = np.where(np.isnan(numbers), 0.0, np.abs(numbers))
        below = np.clip(np.searchsorted(steps, size, side="right") - 1, 0, top)
        low, high = steps[below], steps[np.minimum(below + 1, top)]
        if random is None:
            up = (size - low > high - size) | ((size - low == high - size) & (below % 2 == 1))
        else:
            up = random.astype(np.float64) * (high - low) < (size - low) * 2.0**32
        code = np.where(size >= steps[top], top, below + up)
        if layout.sign:
            code = code + (np.signbit(numbers).astype(np.int64) << (layout.exponent + layout.fraction))
        else:
            code = np.where(np.signbit(numbers), 0, code)
        code = np.where(np.isnan(numbers), _NAN.get(dtype, top), code)
        return code.astype(code_type(dtype))
