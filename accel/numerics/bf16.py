"""bf16 to the bit: scalar conversions that `accel.jit` compiles, and their NumPy array twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BF16_NAN", "FP32_NAN", "decode_array", "decode_bits", "encode_array", "encode_bits"]

BF16_NAN = 0x7FC0  # the one NaN that arithmetic writes
FP32_NAN = 0x7FC00000

# Integers only and no NumPy call, so that plain Python and compiled code share this definition. `int()` first: it
# widens to 64 bits in both worlds, where 32-bit operands would wrap in one and not in the other.


def encode_bits(bits: int) -> int:
    """Return the bf16 code (0..0xFFFF) nearest to the fp32 value with these bits, ties to even; NaN gives 0x7FC0."""
    wide = int(bits) & 0xFFFFFFFF
    if (wide & 0x7FFFFFFF) > 0x7F800000:
        return BF16_NAN
    # Adding just under half of the dropped part, plus the kept lowest bit, carries exactly when nearest-even rounds up;
    # the carry runs through the exponent and ends in infinity, as it should.
    return (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16


def decode_bits(code: int) -> int:
    """Return the fp32 bits of a bf16 code; exact, NaN payloads kept."""
    return (int(code) & 0xFFFF) << 16


def encode_array(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return bf16 codes of a float32 array of any shape, element by element as `encode_bits`."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    codes = bits >> np.uint32(16)
    codes &= np.uint32(1)
    codes += np.uint32(0x7FFF)
    codes += bits  # wraps for NaN bits only, which are replaced below
    codes >>= np.uint32(16)
    codes[(bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)] = BF16_NAN
    return codes.astype(np.uint16).reshape(values.shape)


def decode_array(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the float32 values of a bf16 code array of any shape; exact."""
    wide = np.ascontiguousarray(codes).astype(np.uint32)
    wide <<= np.uint32(16)
    result: npt.NDArray[np.float32] = wide.view(np.float32).reshape(codes.shape)
    return result


def float32_to_odd(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return float64 values in float32 rounded to odd: exact, or the neighbour whose last bit is set.

    Rounding that result again to bf16 equals rounding the float64 value once, because float32 keeps more than two bits
    beyond bf16 (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 57(4), 2008).
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        near = np.atleast_1d(values.astype(np.float32))
        exact = near.astype(np.float64)
        bits: npt.NDArray[Any] = near.view(np.uint32).copy()
        inexact = (exact != values) & ~np.isnan(exact)
        bits -= (inexact & (np.abs(exact) > np.abs(values))).astype(np.uint32)  # one step toward zero: truncation
        bits |= inexact.astype(np.uint32)
    result: npt.NDArray[np.float32] = bits.view(np.float32).reshape(values.shape)
    return result
