"""Stochastic rounding, one number at a time: which of its two neighbours a number and a random number give.

Written as `scalar.py` is, for the same three worlds. One definition on fp64, which holds every fp32 and every int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.numerics.scalar import (
    BF16,
    BIAS_MASK,
    CFP8_143,
    CFP8_152,
    FP16,
    FP32,
    INT8,
    INT32,
    NAN32,
    NAN_BF16,
    NAN_FP16,
    UHP16,
    UINT8,
    ZERO,
    I,
    L,
    U,
    larger,
    select,
    smaller,
)

__all__ = ["round_bits64_sr", "round_bits_sr"]


def fraction_chance(rest: Any, drop: Any) -> Any:
    """Return ceil(rest 2^32 / 2^drop), the numbers out of 2^32 that round away; rest < 2^drop, drop 1..86."""
    more = U(larger(drop, L(32)) - L(32))
    fewer = U(L(32) - smaller(drop, L(32)))
    return ((rest << L(fewer)) + ((L(1) << L(more)) - L(1))) >> L(more)


def stochastic_size(size: Any, mantissa: Any, top: Any, bias: Any, ieee: Any, r32: Any) -> Any:
    """Return the code, without its sign, of fp64 magnitude bits (finite) rounded away iff r32 (hi-lo) < (x-lo) 2^32.

    bias: of the target's exponent (127 for bf16 and fp32). All arguments uint64.
    """
    first = (L(1024) - bias) << L(52)  # 2^(1-bias)
    exponent = larger(size >> L(52), L(1))
    significand = (size & L(0xFFFFFFFFFFFFF)) + select(size >= (L(1) << L(52)), L(1) << L(52), L(0))
    # Normal numbers.
    normal = larger(size, first)
    drop = L(52) - mantissa
    away = r32 < fraction_chance(normal & ((L(1) << drop) - L(1)), drop)
    above = (normal >> drop) - ((L(1023) - bias) << mantissa) + L(away)
    # Below them: quanta of 2^(-bias-mantissa), twice that under the IEEE rule.
    drop = L(1075) + ieee - bias - mantissa - smaller(exponent, L(1024) - bias)
    drop = smaller(drop, L(86))
    whole = significand >> smaller(drop, L(63))
    rest = significand - (whole << smaller(drop, L(63)))
    away = r32 < fraction_chance(rest, drop)
    below = whole + L(away)
    # The gap between the last denormal and the first normal number is one interval, 2^mantissa + 1 quanta wide.
    last = (L(1) << mantissa) - L(1)
    near = smaller(drop, L(53) - mantissa)
    beyond = larger(significand, last << near) - (last << near)
    more = larger(near, L(32)) - L(32)  # `near` is at least 42 in the formats that have a gap
    wide = r32 * (last + L(2)) < ((beyond + ((L(1) << more) - L(1))) >> more)
    below = select((ieee == L(0)) & (whole >= last), last + L(wide), below)
    return smaller(select(size >= first, above, below), top)


def stochastic_integer(bits64: Any, low: Any, high: Any, r32: Any) -> Any:
    """Return the integer (int64) below or above fp64 bits, kept in low..high; NaN gives 0."""
    size = L(bits64) & L(0x7FFFFFFFFFFFFFFF)
    exponent = larger(size >> L(52), L(1))
    significand = (size & L(0xFFFFFFFFFFFFF)) + select(size >= (L(1) << L(52)), L(1) << L(52), L(0))
    drop = smaller(L(1075) - smaller(exponent, L(1074)), L(86))
    whole = significand >> smaller(drop, L(63))
    rest = significand - (whole << smaller(drop, L(63)))
    count = I(whole) + I(L(r32) < fraction_chance(rest, drop))
    value = select(L(bits64) > L(0x7FFFFFFFFFFFFFFF), -count, count)
    return select(size > L(0x7FF0000000000000), I(0), smaller(larger(value, I(low)), I(high)))


def round_bits64_sr(bits64: Any, dtype: int, bias_word: Any, r32: Any) -> Any:
    """Return the code (uint32) of `dtype` for fp64 bits, rounded by the random number `r32` (0..2^32-1).

    By magnitude: away from zero iff r32 (hi - lo) < (|x| - |lo|) 2^32, exactly; exact values stay. The largest finite
    number's upper neighbour is 2^(emax+1), stored as Inf, in fp32, bf16 and fp16; other formats saturate. NaN, Inf and
    -0 as in nearest rounding. fp64 holds every fp32 and every int32, so this is the one definition for all three.
    """
    if dtype == INT8:
        return U(stochastic_integer(bits64, -128, 127, r32) & I(0xFF))
    if dtype == UINT8:
        return U(stochastic_integer(bits64, 0, 255, r32))
    if dtype == INT32:
        return U(stochastic_integer(bits64, -0x80000000, 0x7FFFFFFF, r32) & I(0xFFFFFFFF))
    mantissa, top, nan, sign_at = L(10), L(0x7FFF), U(0x7FFF), U(16)
    bias, ieee = L(bias_word) & L(BIAS_MASK), (L(bias_word) >> L(8)) & L(1)
    if dtype == FP32:
        mantissa, top, nan, sign_at, bias, ieee = L(23), L(0x7F800000), NAN32, U(0), L(127), L(1)
    elif dtype == BF16:
        mantissa, top, nan, bias, ieee = L(7), L(0x7F80), NAN_BF16, L(127), L(1)
    elif dtype == FP16:
        top, nan, bias, ieee = L(0x7C00), NAN_FP16, L(15), L(1)
    elif dtype == CFP8_143:
        mantissa, top, nan, sign_at = L(3), L(0x7F), U(0x7F), U(24)
    elif dtype == CFP8_152:
        mantissa, top, nan, sign_at = L(2), L(0x7F), U(0x7F), U(24)
    elif dtype == UHP16:
        top, nan = L(0xFFFF), U(0xFFFF)
    size = L(bits64) & L(0x7FFFFFFFFFFFFFFF)
    code = U(stochastic_size(size, mantissa, top, bias, ieee, L(r32)))
    negative = L(bits64) > L(0x7FFFFFFFFFFFFFFF)
    if dtype == UHP16:
        code = select(negative, ZERO, code)
    else:
        code = U(code | U(select(negative, U(0x80000000), ZERO) >> sign_at))
    return select(size > L(0x7FF0000000000000), nan, code)


def round_bits_sr(bits: Any, dtype: int, bias_word: Any, r32: Any) -> Any:
    """Return the code (uint32) of `dtype` for fp32 bits, rounded by the random number `r32`: see `round_bits64_sr`."""
    return round_bits64_sr(np.float64(U(bits).view(np.float32)).view(np.uint64), dtype, bias_word, r32)
