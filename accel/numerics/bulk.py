"""Compiled loops over arrays of bits: one for each format, so that each is turned into vector instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import njit
from accel.numerics import compiled
from accel.numerics.formats import fmt
from accel.numerics.scalar import (
    BF16,
    CFP8_143,
    CFP8_152,
    FP16,
    FP32,
    INT8,
    INT32,
    SHP16,
    UHP16,
    UINT8,
    ZERO,
)

__all__ = ["fill_random", "round_nearest", "round_stochastic", "widen"]

PIECE = 1 << 14  # elements whose random numbers are drawn at a time; a multiple of four


@njit
def _round_fp32(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_fp32(bits[i])


@njit
def _round_bf16(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bf16(bits[i])


@njit
def _round_fp16(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_fp16(bits[i])


@njit
def _round_cfp8_143(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_cfp8_143(bits[i], bias_word)


@njit
def _round_cfp8_152(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_cfp8_152(bits[i], bias_word)


@njit
def _round_shp16(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_shp16(bits[i], bias_word)


@njit
def _round_uhp16(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_uhp16(bits[i], bias_word)


@njit
def _round_int8(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_int8(bits[i])


@njit
def _round_uint8(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_uint8(bits[i])


@njit
def _round_int32(bits: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_int32(bits[i])


@njit
def _widen_fp32(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = codes[i]


@njit
def _widen_bf16(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_bf16(codes[i])


@njit
def _widen_fp16(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_fp16(codes[i])


@njit
def _widen_cfp8_143(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_cfp8_143(codes[i], bias_word)


@njit
def _widen_cfp8_152(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_cfp8_152(codes[i], bias_word)


@njit
def _widen_shp16(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_shp16(codes[i], bias_word)


@njit
def _widen_uhp16(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_uhp16(codes[i], bias_word)


@njit
def _widen_int8(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_int8(codes[i])


@njit
def _widen_uint8(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_uint8(codes[i])


@njit
def _widen_int32(codes: Any, bits: Any, bias_word: int) -> None:
    for i in range(codes.size):
        bits[i] = compiled.widen_int32(codes[i])


@njit
def _draw_fp32(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], FP32, bias_word, numbers[i])


@njit
def _draw_bf16(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], BF16, bias_word, numbers[i])


@njit
def _draw_fp16(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], FP16, bias_word, numbers[i])


@njit
def _draw_cfp8_143(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], CFP8_143, bias_word, numbers[i])


@njit
def _draw_cfp8_152(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], CFP8_152, bias_word, numbers[i])


@njit
def _draw_shp16(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], SHP16, bias_word, numbers[i])


@njit
def _draw_uhp16(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], UHP16, bias_word, numbers[i])


@njit
def _draw_int8(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], INT8, bias_word, numbers[i])


@njit
def _draw_uint8(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], UINT8, bias_word, numbers[i])


@njit
def _draw_int32(bits: Any, numbers: Any, codes: Any, bias_word: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], INT32, bias_word, numbers[i])


@njit
def _draw_from_fp64(bits: Any, numbers: Any, codes: Any, bias_word: int, dtype: int) -> None:
    for i in range(bits.size):
        codes[i] = compiled.round_bits64_sr(bits[i], dtype, bias_word, numbers[i])


@njit
def _blocks(w0: Any, w1: Any, w2: Any, w3: Any, block: Any, stream: Any, k0: Any, k1: Any) -> None:
    for i in range(w0.size):
        at = np.uint64(block + np.uint64(i))
        words = compiled.philox_block(compiled.low(at), compiled.high(at), stream, ZERO, k0, k1)
        w0[i] = words[0]
        w1[i] = words[1]
        w2[i] = words[2]
        w3[i] = words[3]


@njit
def _interleave(planes: Any, numbers: Any) -> None:
    for i in range(numbers.size >> 2):
        numbers[4 * i] = planes[0, i]
        numbers[4 * i + 1] = planes[1, i]
        numbers[4 * i + 2] = planes[2, i]
        numbers[4 * i + 3] = planes[3, i]


def fill_random(numbers: Any, planes: Any, first: int, seed: int, stream: int) -> None:
    """Write the random numbers of elements first, first + 1, ... to `numbers` (a multiple of four, as `first` is).

    planes: work space of shape (4, numbers.size / 4): blocks become vector instructions word by word only.
    """
    words = np.uint32(stream), np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    _blocks(planes[0], planes[1], planes[2], planes[3], np.uint64(first >> 2), *words)
    _interleave(planes, numbers)


_ROUND: dict[str, Callable[..., None]] = {
    "fp32": _round_fp32, "bf16": _round_bf16, "fp16": _round_fp16, "cfp8-143": _round_cfp8_143,
    "cfp8-152": _round_cfp8_152, "shp16": _round_shp16, "uhp16": _round_uhp16, "int8": _round_int8,
    "uint8": _round_uint8, "int32": _round_int32,
}  # fmt: skip
_DRAW: dict[str, Callable[..., None]] = {
    "fp32": _draw_fp32,
    "bf16": _draw_bf16,
    "fp16": _draw_fp16,
    "cfp8-143": _draw_cfp8_143,
    "cfp8-152": _draw_cfp8_152,
    "shp16": _draw_shp16,
    "uhp16": _draw_uhp16,
    "int8": _draw_int8,
    "uint8": _draw_uint8,
    "int32": _draw_int32,
}
_WIDEN: dict[str, Callable[..., None]] = {
    "fp32": _widen_fp32, "bf16": _widen_bf16, "fp16": _widen_fp16, "cfp8-143": _widen_cfp8_143,
    "cfp8-152": _widen_cfp8_152, "shp16": _widen_shp16, "uhp16": _widen_uhp16, "int8": _widen_int8,
    "uint8": _widen_uint8, "int32": _widen_int32,
}  # fmt: skip


def round_nearest(name: str, bits: Any, codes: Any, bias_word: int) -> None:
    """Write to `codes` (unsigned, as wide as the format) the nearest-even codes of fp32 bits; both flat, contiguous."""
    _ROUND[name](bits, codes, bias_word)


def widen(name: str, codes: Any, bits: Any, bias_word: int) -> None:
    """Write to `bits` the fp32 bits of codes (unsigned, as wide as the format); both flat, contiguous."""
    _WIDEN[name](codes, bits, bias_word)


def round_stochastic(name: str, bits: Any, codes: Any, bias_word: int, seed: int, stream: int) -> None:
    """Write to `codes` codes of fp32 or fp64 bits, rounded by the random numbers of their places; flat, contiguous."""
    # Rows a power of two apart would all fall on the same lines of the cache, and cost twice the time.
    numbers, planes = np.empty(PIECE, np.uint32), np.empty((4, PIECE // 4 + 64), np.uint32)[:, : PIECE // 4]
    for at in range(0, bits.size, PIECE):
        fill_random(numbers, planes, at, seed, stream)
        piece = slice(at, min(at + PIECE, bits.size))
        if bits.dtype == np.uint32:
            _DRAW[name](bits[piece], numbers, codes[piece], bias_word)
        else:
            _draw_from_fp64(bits[piece], numbers, codes[piece], bias_word, fmt(name).code)
