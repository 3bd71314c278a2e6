"""Whole arrays rounded to codes and widened back: NumPy below `JIT_FROM` elements, compiled loops from there on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.numerics import arrays
from accel.numerics.formats import Format

__all__ = ["JIT_FROM", "float32_to_odd", "random_bits", "round_array", "round_array_stochastic", "widen_array"]

AnyArray = npt.NDArray[Any]

# Loading the compiled loops costs about half a second once, NumPy's passes about 20 ns an element more than they do.
# Both run the text of `scalar.py`, so the bits are the same.
JIT_FROM = 1 << 16
PIECE = 1 << 14  # elements that NumPy's passes take at a time, to stay in the cache


def round_array(values: npt.NDArray[np.float32], row: Format, bias_word: int) -> AnyArray:
    """Return the codes of float32 values in `row`'s storage dtype, nearest-even; any shape, C-contiguous."""
    bits = np.ascontiguousarray(values).view(np.uint32).ravel()
    codes = np.empty(bits.size, f"uint{row.bits}")
    if bits.size >= JIT_FROM:
        from accel.numerics import bulk

        bulk.round_nearest(row.name, bits, codes, bias_word)
    else:
        for at in range(0, bits.size, PIECE):
            codes[at : at + PIECE] = arrays.round_bits(bits[at : at + PIECE], row.code, bias_word)
    return codes.view(row.storage).reshape(values.shape)


def round_array_stochastic(values: npt.NDArray[Any], row: Format, bias_word: int, seed: int, stream: int) -> AnyArray:
    """Return the codes of float32 or float64 values in `row`'s storage dtype, each rounded by its own random number.

    That is the number of the element's place in row-major order.
    """
    flat = np.ascontiguousarray(values).ravel()
    codes = np.empty(flat.size, f"uint{row.bits}")
    if flat.size >= JIT_FROM:
        from accel.numerics import bulk

        bulk.round_stochastic(row.name, flat.view(f"uint{8 * flat.itemsize}"), codes, bias_word, seed, stream)
    else:
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            bits = flat.astype(np.float64).view(np.uint64)
        codes[:] = arrays.round_bits64_sr(bits, row.code, bias_word, random_bits(flat.size, seed, stream))
    return codes.view(row.storage).reshape(values.shape)


def widen_array(codes: AnyArray, row: Format, bias_word: int) -> npt.NDArray[np.float32]:
    """Return the float32 values of stored codes of any shape; exact (int32: nearest-even)."""
    flat = np.ascontiguousarray(codes).view(f"uint{row.bits}").ravel()
    bits = np.empty(flat.size, np.uint32)
    if flat.size >= JIT_FROM:
        from accel.numerics import bulk

        bulk.widen(row.name, flat, bits, bias_word)
    else:
        for at in range(0, flat.size, PIECE):
            bits[at : at + PIECE] = arrays.widen_code(flat[at : at + PIECE], row.code, bias_word)
    result: npt.NDArray[np.float32] = bits.view(np.float32).reshape(codes.shape)
    return result


def random_bits(count: int, seed: int, stream: int, first: int = 0) -> npt.NDArray[np.uint32]:
    """Return the random numbers of elements first .. first + count - 1: see `accel.numerics.scalar.philox`."""
    index = np.arange(count, dtype=np.uint64) + np.uint64(first)
    numbers: npt.NDArray[np.uint32] = arrays.philox(index, np.uint32(stream), np.uint64(seed))
    return numbers


def float32_to_odd(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return float64 values in float32 rounded to odd: exact, or the neighbour whose last bit is set.

    Rounding that result again to a format of up to 22 significant bits equals rounding the float64 value once (Boldo
    and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 57(4), 2008).
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
