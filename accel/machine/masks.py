"""Masks: rows that compare, and rows that choose by a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa import semantics
from accel.isa.layout import W_FIRST, W_OPCODE
from accel.isa.table import opcode
from accel.machine.codes import INT8, decode, load_codes, load_integers, store_codes
from accel.machine.inner import inner
from accel.machine.nests import BIASES, FORMATS, PIECE, SIZES, STRIDES, lay_out, offset, outer_runs
from accel.machine.operands import place
from accel.machine.raw import peek, poke
from accel.machine.words import X_ITEM

__all__ = ["run_compare", "run_select"]

OP_COMPARE_IMM = opcode("vec.comparei")
RELATION, RELATION_IMM, IMM = place("vec.compare", "relation"), place("vec.comparei", "relation"), 2
compare = inner(semantics.compare)


@inner
def run_compare(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
                work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst = 1 where x stands in the relation to y or the immediate, else 0; arguments as for `run_elementwise`."""
    immediate = code[pc, W_OPCODE] == OP_COMPARE_IMM
    reads = 1 if immediate else 2
    relation = value[RELATION_IMM] if immediate else value[RELATION]
    n = lay_out(code, pc, views, base, u8, reads, 0, nest)
    inner, last = nest[SIZES, n - 1], n - 1
    integers = nest[FORMATS, 1] >= INT8
    if immediate:
        for i in range(min(PIECE, inner)):
            work32[2 * PIECE + i] = np.uint32(value[IMM])
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            for j in range(1, reads + 1):
                stride = nest[STRIDES + j, last]
                address = base + value[j] + first * stride + offset(nest, n, j, flat)
                if integers:
                    load_integers(u8, u16, u32, work32, j * PIECE, nest[FORMATS, j], address, stride, count)
                else:
                    decode(u8, u16, u32, work32, j * PIECE, nest[FORMATS, j], nest[BIASES, j], address, stride, count,
                           units)  # fmt: skip
            if integers:
                for i in range(count):
                    x, y = np.int32(peek(work32, PIECE + i)), np.int32(peek(work32, 2 * PIECE + i))
                    poke(work32, i, np.uint32(compare(x, y, relation)))
            else:
                for i in range(count):
                    poke(work32, i, np.uint32(compare(peek(work, PIECE + i), peek(work, 2 * PIECE + i), relation)))
            stride = nest[STRIDES, last]
            address = base + value[0] + first * stride + offset(nest, n, 0, flat)
            store_codes(u8, u16, u32, work32, 0, 1, address, stride, count)


@inner
def run_select(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst = x where the mask is not 0, otherwise y, bits untouched; arguments as for `run_elementwise`."""
    n = lay_out(code, pc, views, base, u8, 3, 0, nest)
    inner, last = nest[SIZES, n - 1], n - 1
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            for j in range(3, -1, -1):
                stride, item = nest[STRIDES + j, last], views[code[pc, W_FIRST + 3 * j], X_ITEM]
                address = base + value[j] + first * stride + offset(nest, n, j, flat)
                if j > 0:
                    load_codes(u8, u16, u32, work32, j * PIECE, item, address, stride, count)
                    continue
                for i in range(count):
                    mask, x, y = peek(work32, PIECE + i), peek(work32, 2 * PIECE + i), peek(work32, 3 * PIECE + i)
                    poke(work32, i, x if mask != 0 else y)
                store_codes(u8, u16, u32, work32, 0, item, address, stride, count)
