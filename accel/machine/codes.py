"""Codes of every format in SRAM to numbers in the work space and back, a piece of a row at a time.

fp32 and bf16 are converted in line. The other formats go through `widen_codes` and `round_codes`, which are called by
address (`links`), so that programs without them do not compile them; what they mean is `accel.numerics.scalar`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import BIAS_IEEE, V_BIAS, V_SCALAR, VX_WORDS
from accel.jit import types
from accel.machine.inner import inner, spliced
from accel.machine.links import link
from accel.machine.raw import peek, poke, widen
from accel.numerics.compiled import (
    round_bf16,
    round_cfp8_143,
    round_cfp8_152,
    round_fp16,
    round_fp32,
    round_shp16,
    round_uhp16,
    widen_cfp8_143,
    widen_cfp8_152,
    widen_fp16,
    widen_shp16,
    widen_uhp16,
)
from accel.numerics.formats import fmt

__all__ = [
    "AT_CODES", "AT_LEAVES", "CODES", "CODES_ARGUMENTS", "FP32", "INT8", "INT32", "bias_of", "decode", "encode",
    "load_codes", "load_integers", "store_codes",
]  # fmt: skip

FP32, BF16, FP16 = fmt("fp32").code, fmt("bf16").code, fmt("fp16").code
CFP8_143, CFP8_152, SHP16 = fmt("cfp8-143").code, fmt("cfp8-152").code, fmt("shp16").code
INT8, INT32 = fmt("int8").code, fmt("int32").code  # int8 is the first of the integer formats
BIAS_BITS = 63  # what a bias scalar in SRAM says with its byte


@inner
def bias_of(views: Any, view: int, base: int, u8: Any) -> Any:
    """Return the bias word of a view now: its immediate, or with the bits of its scalar in the SRAM at byte `base`."""
    row = view * VX_WORDS
    bias, scalar = peek(views, row + V_BIAS), peek(views, row + V_SCALAR)
    if scalar != 0:
        bias = (bias & BIAS_IEEE) | (np.int64(peek(u8, base + scalar - 1)) & BIAS_BITS)
    return bias


@inner
def load_codes(u8: Any, u16: Any, u32: Any, bits: Any, at: int, item: int, address: int, stride: int,
               count: int) -> None:  # fmt: skip
    """Write `count` codes of `item` bytes from a byte address to bits[at:], zero-extended."""
    if item == 1:
        if stride == 1:
            for i in range(count):
                poke(bits, at + i, np.uint32(peek(u8, address + i)))
        else:
            for i in range(count):
                poke(bits, at + i, np.uint32(peek(u8, address + i * stride)))
    elif item == 2:
        first, step = address >> 1, stride >> 1
        if step == 1:
            for i in range(count):
                poke(bits, at + i, np.uint32(peek(u16, first + i)))
        else:
            for i in range(count):
                poke(bits, at + i, np.uint32(peek(u16, first + i * step)))
    else:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                poke(bits, at + i, peek(u32, first + i))
        else:
            for i in range(count):
                poke(bits, at + i, peek(u32, first + i * step))


@inner
def store_codes(u8: Any, u16: Any, u32: Any, bits: Any, at: int, item: int, address: int, stride: int,
                count: int) -> None:  # fmt: skip
    """Write the low `item` bytes of bits[at:] as `count` codes to a byte address."""
    if item == 1:
        if stride == 1:
            for i in range(count):
                poke(u8, address + i, np.uint8(peek(bits, at + i) & np.uint32(0xFF)))
        else:
            for i in range(count):
                poke(u8, address + i * stride, np.uint8(peek(bits, at + i) & np.uint32(0xFF)))
    elif item == 2:
        first, step = address >> 1, stride >> 1
        if step == 1:
            for i in range(count):
                poke(u16, first + i, np.uint16(peek(bits, at + i) & np.uint32(0xFFFF)))
        else:
            for i in range(count):
                poke(u16, first + i * step, np.uint16(peek(bits, at + i) & np.uint32(0xFFFF)))
    else:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                poke(u32, first + i, peek(bits, at + i))
        else:
            for i in range(count):
                poke(u32, first + i * step, peek(bits, at + i))


@inner
def load_integers(u8: Any, u16: Any, u32: Any, bits: Any, at: int, dtype: int, address: int, stride: int,
                  count: int) -> None:  # fmt: skip
    """Write `count` integers from a byte address to bits[at:] as int32, in the uint32 that holds its bits."""
    if dtype == INT32:
        load_codes(u8, u16, u32, bits, at, 4, address, stride, count)
        return
    load_codes(u8, u16, u32, bits, at, 1, address, stride, count)
    if dtype == INT8:
        for i in range(count):
            code = peek(bits, at + i)
            poke(bits, at + i, np.uint32(np.uint32(code ^ np.uint32(0x80)) - np.uint32(0x80)))


@inner
def widen_codes(u8: Any, u16: Any, u32: Any, bits: Any, at: int, dtype: int, bias: int, address: int, stride: int,
                count: int) -> None:  # fmt: skip
    """Write `count` elements of a float format other than fp32 and bf16 to bits[at:] as fp32 bits, exactly."""
    word = np.uint32(bias)
    item = 1 if dtype in (CFP8_143, CFP8_152) else 2
    load_codes(u8, u16, u32, bits, at, item, address, stride, count)
    if dtype == FP16:
        for i in range(count):
            poke(bits, at + i, widen_fp16(peek(bits, at + i)))
    elif dtype == CFP8_143:
        for i in range(count):
            poke(bits, at + i, widen_cfp8_143(peek(bits, at + i), word))
    elif dtype == CFP8_152:
        for i in range(count):
            poke(bits, at + i, widen_cfp8_152(peek(bits, at + i), word))
    elif dtype == SHP16:
        for i in range(count):
            poke(bits, at + i, widen_shp16(peek(bits, at + i), word))
    else:
        for i in range(count):
            poke(bits, at + i, widen_uhp16(peek(bits, at + i), word))


@inner
def round_codes(u8: Any, u16: Any, u32: Any, bits: Any, at: int, dtype: int, bias: int, address: int, stride: int,
                count: int) -> None:  # fmt: skip
    """Round fp32 bits[at:] to nearest even in a float format other than fp32 and bf16 and store `count` codes."""
    word = np.uint32(bias)
    item = 1 if dtype in (CFP8_143, CFP8_152) else 2
    if dtype == FP16:
        for i in range(count):
            poke(bits, at + i, round_fp16(peek(bits, at + i)))
    elif dtype == CFP8_143:
        for i in range(count):
            poke(bits, at + i, round_cfp8_143(peek(bits, at + i), word))
    elif dtype == CFP8_152:
        for i in range(count):
            poke(bits, at + i, round_cfp8_152(peek(bits, at + i), word))
    elif dtype == SHP16:
        for i in range(count):
            poke(bits, at + i, round_shp16(peek(bits, at + i), word))
    else:
        for i in range(count):
            poke(bits, at + i, round_uhp16(peek(bits, at + i), word))
    store_codes(u8, u16, u32, bits, at, item, address, stride, count)


# The table of addresses of a run begins with these two, then come the leaves of `units`.
CODES = (widen_codes, round_codes)
AT_CODES, AT_LEAVES = 0, len(CODES)
WIDEN: Any = np.int64(0)
ROUND: Any = np.int64(1)
_WORD = types.int64
_U8, _U16, _U32 = (types.Array(t, 1, "C") for t in (types.uint8, types.uint16, types.uint32))
CODES_ARGUMENTS = (_U8, _U16, _U32, _U32, _WORD, _WORD, _WORD, _WORD, _WORD, _WORD)
call_codes = link(CODES, CODES_ARGUMENTS)


@spliced
def decode(u8: Any, u16: Any, u32: Any, bits: Any, at: int, dtype: int, bias: int, address: int, stride: int,
           count: int, units: Any) -> None:  # fmt: skip
    """Write `count` elements of a float format from a byte address to bits[at:] as fp32 bits."""
    if dtype == FP32:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                poke(bits, at + i, peek(u32, first + i))
        else:
            for i in range(count):
                poke(bits, at + i, peek(u32, first + i * step))
    elif dtype != BF16:
        call_codes(units, AT_CODES, WIDEN, (u8, u16, u32, bits, at, dtype, bias, address, stride, count))
    elif stride == 2:
        widen(u16, address >> 1, bits, at, count)
    else:
        first, step = address >> 1, stride >> 1
        for i in range(count):
            poke(bits, at + i, np.uint32(np.uint32(peek(u16, first + i * step)) << np.uint32(16)))


@spliced
def encode(u8: Any, u16: Any, u32: Any, bits: Any, at: int, dtype: int, bias: int, address: int, stride: int,
           count: int, units: Any) -> None:  # fmt: skip
    """Round fp32 bits[at:] to nearest even in the format of dst and store `count` codes; bits[at:] may change."""
    if dtype == FP32:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                poke(u32, first + i, round_fp32(peek(bits, at + i)))
        else:
            for i in range(count):
                poke(u32, first + i * step, round_fp32(peek(bits, at + i)))
    elif dtype != BF16:
        call_codes(units, AT_CODES, ROUND, (u8, u16, u32, bits, at, dtype, bias, address, stride, count))
    else:
        first, step = address >> 1, stride >> 1
        if step == 1:
            for i in range(count):
                poke(u16, first + i, np.uint16(round_bf16(peek(bits, at + i))))
        else:
            for i in range(count):
                poke(u16, first + i * step, np.uint16(round_bf16(peek(bits, at + i))))
