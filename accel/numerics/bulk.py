"""Compiled loops over arrays of bits: one for each format, so that each is turned into vector instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import njit
from accel.numerics import compiled

__all__ = ["round_nearest", "round_stochastic", "widen"]


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


_ROUND: dict[str, Callable[..., None]] = {
    "fp32": _round_fp32, "bf16": _round_bf16, "fp16": _round_fp16, "cfp8-143": _round_cfp8_143,
    "cfp8-152": _round_cfp8_152, "shp16": _round_shp16, "uhp16": _round_uhp16, "int8": _round_int8,
    "uint8": _round_uint8, "int32": _round_int32,
}  # fmt: skip
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


@njit
def round_stochastic(bits: Any, codes: Any, dtype: int, bias_word: int, seed: Any, stream: Any) -> None:
    """Write to `codes` the codes of fp64 bits, rounded by the random numbers of their places; both flat, contiguous."""
    for i in range(bits.size):
        r32 = compiled.philox(np.uint64(i), stream, seed)
        codes[i] = compiled.round_bits64_sr(bits[i], dtype, bias_word, r32)
