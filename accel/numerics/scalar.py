"""What rounding, widening and random numbers mean, one number at a time: the definition that every layer shares.

Plain functions of np.uint32 and np.uint64 scalars, written so that three worlds run this one text: Numba
(`accel.numerics.compiled` holds the jitted functions; jitted code imports them from there), plain Python (call them as
they are), and NumPy arrays (`accel.numerics.arrays`: `select`, `smaller` and `larger` become np.where, np.minimum and
np.maximum). So there is no branch on a value, only on what is one for a whole tensor (its format); no sum leaves its
type; and every step is cast, because Numba widens 32-bit sums and NumPy does not.

bias_word: for cfp8-143, cfp8-152, shp16 and uhp16 the exponent bias 0..63, plus 256 (`BIAS_IEEE`) where denormals
follow the IEEE rule 0.m x 2^(1-bias); without it they are 0.m x 2^-bias, as their maker prints. The others ignore it.
Sources: the formats as in `formats.py`; the gap and saturation rules are this project's (docs/numerics.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.numerics.formats import fmt

__all__ = [
    "BIAS_IEEE",
    "high",
    "int32_to_odd",
    "low",
    "philox",
    "philox_block",
    "random_unit",
    "round_bf16",
    "round_bits",
    "round_cfp8_143",
    "round_cfp8_152",
    "round_fp16",
    "round_fp32",
    "round_int8",
    "round_int32",
    "round_shp16",
    "round_uhp16",
    "round_uint8",
    "widen_bf16",
    "widen_cfp8_143",
    "widen_cfp8_152",
    "widen_code",
    "widen_fp16",
    "widen_int8",
    "widen_int32",
    "widen_shp16",
    "widen_uhp16",
    "widen_uint8",
]

U, L, I = np.uint32, np.uint64, np.int64
FP32, BF16, FP16 = fmt("fp32").code, fmt("bf16").code, fmt("fp16").code
CFP8_143, CFP8_152, SHP16, UHP16 = (fmt(name).code for name in ("cfp8-143", "cfp8-152", "shp16", "uhp16"))
INT8, UINT8, INT32 = fmt("int8").code, fmt("uint8").code, fmt("int32").code

BIAS_IEEE = 256  # bit of a bias word: denormals are 0.m x 2^(1-bias)
BIAS_MASK = 63
FP16_RULE = 15 | BIAS_IEEE  # what binary16 is in these terms
INFINITY, MAGNITUDE = U(0x7F800000), U(0x7FFFFFFF)
NAN32, NAN_BF16, NAN_FP16 = U(0x7FC00000), U(0x7FC0), U(0x7E00)
ZERO, ONE = U(0), U(1)
WORD = L(0xFFFFFFFF)


def select(condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` where the condition holds, else `no`."""
    return yes if condition else no


def smaller(x: Any, y: Any) -> Any:
    """Return the smaller of two integers of one type."""
    return x if x < y else y


def larger(x: Any, y: Any) -> Any:
    """Return the larger of two integers of one type."""
    return x if x > y else y


# ---------------------------------------------------------------------------------------------- nearest, ties to even


def round_fp32(bits: Any) -> Any:
    """Return fp32 bits with any NaN made the canonical 0x7FC00000."""
    return select(U(U(bits) & MAGNITUDE) > INFINITY, NAN32, U(bits))


def round_bf16(bits: Any) -> Any:
    """Return the bf16 code nearest to fp32 bits; overflow gives Inf, NaN gives 0x7FC0."""
    size = U(U(bits) & MAGNITUDE)
    # Just under half of the dropped part, plus the kept lowest bit, carries exactly when nearest-even rounds up; the
    # carry runs through the exponent and ends in infinity, as it should.
    even = U(U(size >> U(16)) & ONE)
    code = U(U(size + U(U(0x7FFF) + even)) >> U(16))
    sign = U(U(U(bits) >> U(16)) & U(0x8000))
    return select(size > INFINITY, NAN_BF16, U(code | sign))


def nearest_size(size: Any, mantissa: Any, top: Any, bias_word: Any) -> Any:
    """Return the code, without its sign, nearest to fp32 magnitude bits (at most Inf), no larger than `top`.

    mantissa: stored fraction bits, 2 to 10.
    """
    bias = U(U(bias_word) & U(BIAS_MASK))
    ieee = U(U(U(bias_word) >> U(8)) & ONE)
    mantissa = U(mantissa)
    first = U(U(U(128) - bias) << U(23))  # 2^(1-bias), where normal numbers begin
    # Normal numbers: the exponents line up, so that a rounding carry passes through as in `round_bf16`.
    drop = U(U(23) - mantissa)
    normal = larger(size, first)
    half = U(U(U(ONE << U(drop - ONE)) - ONE) + U(U(normal >> drop) & ONE))
    above = U(U(U(normal + half) >> drop) - U(U(U(127) - bias) << mantissa))
    # Below them: a whole number of quanta 2^(-bias-mantissa), twice that under the IEEE rule. Adding a power of two
    # whose last place is one quantum leaves that number, rounded by the fp32 addition, in the last places of the sum.
    units = U(ONE << mantissa)
    place = U(U(U(U(150) + ieee) - U(bias + mantissa)) << U(23))
    small = U(smaller(size, first))
    total = np.float32(small.view(np.float32) + place.view(np.float32))
    below = smaller(U(total.view(np.uint32) - place), U(U(units - ONE) + ieee))
    # From the midpoint of the gap on (its tie goes to the even code), the first normal number is nearer.
    middle = U(U(first - U(0x400000)) - U(U(0x400000) >> mantissa))
    below = select(size >= select(ieee == ONE, first, middle), units, below)
    return smaller(select(size >= first, above, below), U(top))


def round_fp16(bits: Any) -> Any:
    """Return the fp16 code nearest to fp32 bits; overflow gives Inf, NaN gives 0x7E00."""
    size = U(U(bits) & MAGNITUDE)
    code = nearest_size(size, U(10), U(0x7C00), U(FP16_RULE))
    sign = U(U(U(bits) >> U(16)) & U(0x8000))
    return select(size > INFINITY, NAN_FP16, U(code | sign))


def round_cfp8_143(bits: Any, bias_word: Any) -> Any:
    """Return the cfp8-143 code nearest to fp32 bits; saturates, NaN gives the largest number."""
    size = U(U(bits) & MAGNITUDE)
    code = nearest_size(size, U(3), U(0x7F), bias_word)
    sign = U(U(U(bits) >> U(24)) & U(0x80))
    return select(size > INFINITY, U(0x7F), U(code | sign))


def round_cfp8_152(bits: Any, bias_word: Any) -> Any:
    """Return the cfp8-152 code nearest to fp32 bits; saturates, NaN gives the largest number."""
    size = U(U(bits) & MAGNITUDE)
    code = nearest_size(size, U(2), U(0x7F), bias_word)
    sign = U(U(U(bits) >> U(24)) & U(0x80))
    return select(size > INFINITY, U(0x7F), U(code | sign))


def round_shp16(bits: Any, bias_word: Any) -> Any:
    """Return the shp16 code nearest to fp32 bits; saturates, NaN gives the largest number."""
    size = U(U(bits) & MAGNITUDE)
    code = nearest_size(size, U(10), U(0x7FFF), bias_word)
    sign = U(U(U(bits) >> U(16)) & U(0x8000))
    return select(size > INFINITY, U(0x7FFF), U(code | sign))


def round_uhp16(bits: Any, bias_word: Any) -> Any:
    """Return the uhp16 code nearest to fp32 bits; saturates, negatives and -0 give +0, NaN the largest number."""
    size = U(U(bits) & MAGNITUDE)
    code = nearest_size(size, U(10), U(0xFFFF), bias_word)
    code = select(U(bits) > MAGNITUDE, ZERO, code)
    return select(size > INFINITY, U(0xFFFF), code)


def nearest_integer(bits: Any, low: Any, high: Any) -> Any:
    """Return the integer (int64) nearest to fp32 bits, kept in low..high; NaN gives 0."""
    size = U(U(bits) & MAGNITUDE)
    exponent = I(larger(U(size >> U(23)), ONE))
    significand = I(U(size & U(0x7FFFFF))) + I(select(size >= U(0x800000), U(0x800000), ZERO))
    # One bit more than is dropped, so that nothing dropped is no special case; from 2^31 on all saturates alike.
    drop = smaller(larger(I(151) - exponent, I(1)), I(26))
    raised = larger(smaller(exponent - I(149), I(9)), I(1))
    twice = significand << raised
    whole = (twice + (I(1) << (drop - I(1))) - I(1) + ((twice >> drop) & I(1))) >> drop
    value = select(U(bits) > MAGNITUDE, -whole, whole)
    return select(size > INFINITY, I(0), smaller(larger(value, I(low)), I(high)))


def round_int8(bits: Any) -> Any:
    """Return the int8 nearest to fp32 bits, as 8 bits; saturates, NaN gives 0."""
    return U(nearest_integer(bits, -128, 127) & I(0xFF))


def round_uint8(bits: Any) -> Any:
    """Return the uint8 nearest to fp32 bits; saturates, NaN gives 0."""
    return U(nearest_integer(bits, 0, 255))


def round_int32(bits: Any) -> Any:
    """Return the int32 nearest to fp32 bits, as 32 bits; saturates, NaN gives 0."""
    return U(nearest_integer(bits, -0x80000000, 0x7FFFFFFF) & I(0xFFFFFFFF))


def round_bits(bits: Any, dtype: int, bias_word: Any) -> Any:
    """Return the code (uint32) of format number `dtype` nearest to fp32 bits, ties to even."""
    if dtype == FP32:
        return round_fp32(bits)
    if dtype == BF16:
        return round_bf16(bits)
    if dtype == FP16:
        return round_fp16(bits)
    if dtype == CFP8_143:
        return round_cfp8_143(bits, bias_word)
    if dtype == CFP8_152:
        return round_cfp8_152(bits, bias_word)
    if dtype == SHP16:
        return round_shp16(bits, bias_word)
    if dtype == UHP16:
        return round_uhp16(bits, bias_word)
    if dtype == INT8:
        return round_int8(bits)
    if dtype == UINT8:
        return round_uint8(bits)
    return round_int32(bits)


# ----------------------------------------------------------------------------------------------------- widening


def widen_bf16(code: Any) -> Any:
    """Return the fp32 bits of a bf16 code; exact, NaN payloads kept."""
    return U(U(code) << U(16))


def widen_size(size: Any, mantissa: Any, bias_word: Any) -> Any:
    """Return the fp32 bits of a code without its sign; exact (every such number is a normal fp32 or 0)."""
    bias = U(U(bias_word) & U(BIAS_MASK))
    ieee = U(U(U(bias_word) >> U(8)) & ONE)
    mantissa = U(mantissa)
    units = U(ONE << mantissa)
    normal = U(U(size << U(U(23) - mantissa)) + U(U(U(127) - bias) << U(23)))
    # The fraction under an exponent that makes its last place one quantum, less that exponent's hidden bit: exact.
    quantum = U(U(U(U(150) + ieee) - U(bias + mantissa)) << U(23))
    place = U(quantum | smaller(size, U(units - ONE)))
    low = np.float32(place.view(np.float32) - quantum.view(np.float32)).view(np.uint32)
    return select(size < units, low, normal)


def widen_fp16(code: Any) -> Any:
    """Return the fp32 bits of an fp16 code; exact, NaN payloads kept."""
    size = U(U(code) & U(0x7FFF))
    sign = U(U(U(code) & U(0x8000)) << U(16))
    special = U(INFINITY | U(U(size & U(0x3FF)) << U(13)))
    return U(select(size >= U(0x7C00), special, widen_size(size, U(10), U(FP16_RULE))) | sign)


def widen_cfp8_143(code: Any, bias_word: Any) -> Any:
    """Return the fp32 bits of a cfp8-143 code; exact."""
    return U(widen_size(U(U(code) & U(0x7F)), U(3), bias_word) | U(U(U(code) & U(0x80)) << U(24)))


def widen_cfp8_152(code: Any, bias_word: Any) -> Any:
    """Return the fp32 bits of a cfp8-152 code; exact."""
    return U(widen_size(U(U(code) & U(0x7F)), U(2), bias_word) | U(U(U(code) & U(0x80)) << U(24)))


def widen_shp16(code: Any, bias_word: Any) -> Any:
    """Return the fp32 bits of an shp16 code; exact."""
    return U(widen_size(U(U(code) & U(0x7FFF)), U(10), bias_word) | U(U(U(code) & U(0x8000)) << U(16)))


def widen_uhp16(code: Any, bias_word: Any) -> Any:
    """Return the fp32 bits of a uhp16 code; exact."""
    return widen_size(U(code), U(10), bias_word)


def widen_int8(code: Any) -> Any:
    """Return the fp32 bits of the low 8 bits read as int8; exact."""
    return np.float32((I(code) & I(0xFF) ^ I(0x80)) - I(0x80)).view(np.uint32)


def widen_uint8(code: Any) -> Any:
    """Return the fp32 bits of the low 8 bits read as uint8; exact."""
    return np.float32(I(code) & I(0xFF)).view(np.uint32)


def widen_int32(code: Any) -> Any:
    """Return the fp32 bits nearest to the low 32 bits read as int32: the one widening that rounds, ties to even."""
    return np.float32(((I(code) & I(0xFFFFFFFF)) ^ I(0x80000000)) - I(0x80000000)).view(np.uint32)


def int32_to_odd(code: Any) -> Any:
    """Return the fp32 bits of an int32 (as 32 bits) rounded to odd: exact, or the neighbour whose last bit is set.

    `round_bits` of that to a format of up to 22 significant bits equals rounding the integer once (Boldo and Melquiond,
    "Emulation of FMA and correctly rounded sums", IEEE TC 57(4), 2008).
    """
    value = ((I(code) & I(0xFFFFFFFF)) ^ I(0x80000000)) - I(0x80000000)
    # fp64 holds the integer. Its low 29 bits are what fp32 drops: cleared if zero, else one sticky bit in their place.
    wide = np.float64(value).view(np.uint64)
    sticky = select((wide & L(0x1FFFFFFF)) != L(0), L(0x20000000), L(0))
    odd = L((wide & L(0xFFFFFFFFE0000000)) | sticky)
    return np.float32(odd.view(np.float64)).view(np.uint32)


def widen_code(code: Any, dtype: int, bias_word: Any) -> Any:
    """Return the fp32 bits of a code of format number `dtype`; exact but for int32, which rounds to nearest even."""
    if dtype == FP32:
        return U(code)
    if dtype == BF16:
        return widen_bf16(code)
    if dtype == FP16:
        return widen_fp16(code)
    if dtype == CFP8_143:
        return widen_cfp8_143(code, bias_word)
    if dtype == CFP8_152:
        return widen_cfp8_152(code, bias_word)
    if dtype == SHP16:
        return widen_shp16(code, bias_word)
    if dtype == UHP16:
        return widen_uhp16(code, bias_word)
    if dtype == INT8:
        return widen_int8(code)
    if dtype == UINT8:
        return widen_uint8(code)
    return widen_int32(code)


# ----------------------------------------------------------------------------------------------- random numbers
# Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11,
# https://doi.org/10.1145/2063384.2063405; multipliers and key increments from its section 4.1 (Weyl constants: the
# golden ratio and sqrt(3) - 1 in 32 bits).


def philox_block(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of Philox4x32-10 for a counter and a key; all uint32."""
    for _ in range(10):
        p0 = L(L(c0) * L(0xD2511F53))
        p1 = L(L(c2) * L(0xCD9E8D57))
        c0, c2 = U(U(U(p1 >> L(32)) ^ c1) ^ k0), U(U(U(p0 >> L(32)) ^ c3) ^ k1)
        c1, c3 = U(p1), U(p0)
        k0 = U(L(k0) + L(0x9E3779B9))
        k1 = U(L(k1) + L(0xBB67AE85))
    return c0, c1, c2, c3


def philox(index: Any, stream: Any, seed: Any) -> Any:
    """Return the random number (uint32) of logical element `index` (uint64) in `stream` (uint32) under `seed` (uint64).

    Counter (index >> 2, stream, 0), low word first; key = seed, low word first; word index & 3 of the block.
    """
    block, key = L(L(index) >> L(2)), L(seed)
    w0, w1, w2, w3 = philox_block(low(block), high(block), U(stream), ZERO, low(key), high(key))
    odd = (L(index) & L(1)) == L(1)
    return select((L(index) & L(2)) == L(2), select(odd, w3, w2), select(odd, w1, w0))


def low(word: Any) -> Any:
    """Return the lower half of 64 bits."""
    return U(L(word) & WORD)


def high(word: Any) -> Any:
    """Return the upper half of 64 bits."""
    return U(L(word) >> L(32))


def random_unit(bits: Any) -> Any:
    """Return the fp32 bits of a random number's upper 24 bits times 2^-24: uniform on 0 <= u < 1, exact."""
    return np.float32(np.float32(U(U(bits) >> U(8))) * np.float32(2.0**-24)).view(np.uint32)
