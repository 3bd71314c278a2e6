"""Rows that make or round numbers otherwise than a float row does: casts with integers or at random, iota, random."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import W_OPCODE
from accel.isa.table import BY_MNEMONIC, opcode
from accel.machine.codes import (
    FP32,
    INT8,
    INT32,
    decode,
    encode,
    load_integers,
    store_codes,
)
from accel.machine.inner import inner
from accel.machine.nests import BIASES, FORMATS, PIECE, SIZES, STRIDES, lay_out, offset, outer_runs
from accel.machine.operands import place
from accel.machine.raw import peek, poke
from accel.machine.words import C_SEED, X_ITEM
from accel.numerics.compiled import (
    int32_to_odd,
    philox,
    random_unit,
    round_bits64_sr,
    round_int8,
    round_int32,
    round_uint8,
    widen_int32,
)

__all__ = ["run_cast", "run_cast_sr", "run_generate"]

STREAM, INDEX = place("vec.cast_sr", "stream"), place("vec.cast_sr", "index")
RANDOM_STREAM, RANDOM_INDEX, IOTA_INDEX = place("vec.random", "stream"), place("vec.random", "index"), 1
# The strides of an index operand follow its constant and its expression.
SR_STEPS, RANDOM_STEPS, IOTA_STEPS = (
    BY_MNEMONIC[name].word("index") + 2 for name in ("vec.cast_sr", "vec.random", "vec.iota")
)
SR_DST = BY_MNEMONIC["vec.cast_sr"].word("dst")
OP_IOTA = opcode("vec.iota")


@inner
def _clamped(bits: Any, low: int, high: int) -> Any:
    """Return int32 bits kept in low..high, as 32 bits."""
    number = np.int64(np.int32(bits))
    return np.uint32(min(max(number, np.int64(low)), np.int64(high)) & np.int64(0xFFFFFFFF))


@inner
def _to_integers(work32: Any, at: int, of: int, dtype: int, whole: int, count: int) -> None:
    """Round fp32 bits work32[of:] (int32 where `whole`) to the nearest integers of a format, as codes; saturating."""
    if whole and dtype == INT32:
        for i in range(count):
            poke(work32, at + i, peek(work32, of + i))
    elif whole and dtype == INT8:
        for i in range(count):
            poke(work32, at + i, _clamped(peek(work32, of + i), -128, 127))
    elif whole:
        for i in range(count):
            poke(work32, at + i, _clamped(peek(work32, of + i), 0, 255))
    elif dtype == INT32:
        for i in range(count):
            poke(work32, at + i, round_int32(peek(work32, of + i)))
    elif dtype == INT8:
        for i in range(count):
            poke(work32, at + i, round_int8(peek(work32, of + i)))
    else:
        for i in range(count):
            poke(work32, at + i, round_uint8(peek(work32, of + i)))


@inner
def _to_floats(work32: Any, at: int, of: int, dtype: int, count: int) -> None:
    """Make fp32 bits of int32 work32[of:] such that rounding them on to `dtype` rounds the integer once."""
    if dtype == FP32:
        for i in range(count):
            poke(work32, at + i, widen_int32(peek(work32, of + i)))
    else:
        for i in range(count):
            poke(work32, at + i, int32_to_odd(peek(work32, of + i)))


@inner
def run_cast(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
             work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst = x rounded to nearest even, where one or both are integers; arguments as for `run_elementwise`."""
    n = lay_out(code, pc, views, base, u8, 1, 0, nest)
    inner, last = nest[SIZES, n - 1], n - 1
    to, of = nest[FORMATS, 0], nest[FORMATS, 1]
    item = 4 if to == INT32 else 1
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            stride = nest[STRIDES + 1, last]
            address = base + value[1] + first * stride + offset(nest, n, 1, flat)
            if of >= INT8:
                load_integers(u8, u16, u32, work32, PIECE, of, address, stride, count)
            else:
                decode(u8, u16, u32, work32, PIECE, of, nest[BIASES, 1], address, stride, count, units)
            stride = nest[STRIDES, last]
            address = base + value[0] + first * stride + offset(nest, n, 0, flat)
            if to >= INT8:
                _to_integers(work32, 0, PIECE, to, of >= INT8, count)
                store_codes(u8, u16, u32, work32, 0, item, address, stride, count)
            else:
                _to_floats(work32, 0, PIECE, to, count)
                encode(u8, u16, u32, work32, 0, to, nest[BIASES, 0], address, stride, count, units)


@inner
def run_cast_sr(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
                work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst = x rounded to a neighbour by the random number of its logical index; arguments as for `run_elementwise`."""
    n = lay_out(code, pc, views, base, u8, 1, SR_STEPS, nest)
    inner, last = nest[SIZES, n - 1], n - 1
    to, of, bias = nest[FORMATS, 0], nest[FORMATS, 1], np.uint32(nest[BIASES, 0])
    item = views[code[pc, SR_DST], X_ITEM]
    seed, stream, step = np.uint64(config[C_SEED]), np.uint32(value[STREAM]), np.uint64(nest[STRIDES + 2, last])
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            stride = nest[STRIDES + 1, last]
            address = base + value[1] + first * stride + offset(nest, n, 1, flat)
            decode(u8, u16, u32, work32, PIECE, of, nest[BIASES, 1], address, stride, count, units)
            index = np.uint64(value[INDEX] + offset(nest, n, 2, flat)) + np.uint64(first) * step
            for i in range(count):
                drawn = philox(index + np.uint64(i) * step, stream, seed)
                wide = np.float64(peek(work, PIECE + i)).view(np.uint64)
                poke(work32, i, round_bits64_sr(wide, to, bias, drawn))
            stride = nest[STRIDES, last]
            address = base + value[0] + first * stride + offset(nest, n, 0, flat)
            store_codes(u8, u16, u32, work32, 0, item, address, stride, count)


@inner
def run_generate(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                 work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst = the logical index of each element (iota) or its random number; arguments as for `run_elementwise`."""
    iota = code[pc, W_OPCODE] == OP_IOTA
    n = lay_out(code, pc, views, base, u8, 0, IOTA_STEPS if iota else RANDOM_STEPS, nest)
    inner, last = nest[SIZES, n - 1], n - 1
    to, step = nest[FORMATS, 0], np.uint64(nest[STRIDES + 1, last])
    origin = value[IOTA_INDEX] if iota else value[RANDOM_INDEX]
    seed, stream = np.uint64(config[C_SEED]), np.uint32(0 if iota else value[RANDOM_STREAM])
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            index = np.uint64(origin + offset(nest, n, 1, flat)) + np.uint64(first) * step
            at = PIECE if iota and to != INT32 else 0
            if iota:
                for i in range(count):
                    poke(work32, at + i, np.uint32((index + np.uint64(i) * step) & np.uint64(0xFFFFFFFF)))
            else:
                for i in range(count):
                    poke(work32, i, philox(index + np.uint64(i) * step, stream, seed))
                if to == FP32:
                    for i in range(count):
                        poke(work32, i, random_unit(peek(work32, i)))
            stride = nest[STRIDES, last]
            address = base + value[0] + first * stride + offset(nest, n, 0, flat)
            if at:
                _to_floats(work32, 0, at, to, count)
                encode(u8, u16, u32, work32, 0, to, nest[BIASES, 0], address, stride, count, units)
            else:
                store_codes(u8, u16, u32, work32, 0, 4, address, stride, count)
