"""Rows that move bits untouched: vec.copy, vec.transpose, vec.gather; and vec.scatter_add, which goes by rows, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import DIMS, V_DTYPE, V_SHAPE, V_STRIDE, W_FIRST
from accel.machine.codes import bias_of, decode, encode
from accel.machine.inner import inner
from accel.machine.moves import move, walk
from accel.machine.nests import PIECE
from accel.machine.words import F_A, F_B, F_C, INDEX, X_ITEM

__all__ = ["run_bits", "run_gather", "run_scatter_add", "run_transpose"]


@inner
def run_bits(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
             work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Move the bits of vec.copy; arguments as for the other leaves."""
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    move(u8, dst, base + value[0], x, base + value[1], nest)


@inner
def run_transpose(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                  work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Move bits with the last two dimensions of x exchanged; arguments as for the other leaves."""
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    n = 0
    for d in range(DIMS):
        if dst[V_SHAPE + d] == 1:
            continue
        of = d if d < DIMS - 2 else 2 * DIMS - 3 - d
        nest[0, n], nest[1, n], nest[2, n] = dst[V_SHAPE + d], dst[V_STRIDE + d], x[V_STRIDE + of]
        n += 1
    walk(u8, base + value[0], base + value[1], dst[X_ITEM], n, nest)


@inner
def _row(views: Any, code: Any, pc: int, base: int, value: Any, u32: Any, i: int, rows: int, error: Any) -> Any:
    """Return element i of an index operand; where it names none of `rows` rows, note that and return -1."""
    index = views[code[pc, W_FIRST + 6]]
    row = np.int64(np.int32(u32[(base + value[2] + i * index[V_STRIDE + 3]) >> 2]))
    if row < 0 or row >= rows:
        error[0], error[F_A], error[F_B], error[F_C] = INDEX, row, rows, i
        return -1
    return row


@inner
def run_gather(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Move row index[i] of x to row i of dst, i ascending; arguments as for the other leaves."""
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    item, columns = dst[X_ITEM], dst[V_SHAPE + 3]
    for i in range(dst[V_SHAPE + 2]):
        row = _row(views, code, pc, base, value, u32, i, x[V_SHAPE + 2], error)
        if row < 0:
            return
        nest[0, 0], nest[1, 0], nest[2, 0] = columns, dst[V_STRIDE + 3], x[V_STRIDE + 3]
        to, of = base + value[0] + i * dst[V_STRIDE + 2], base + value[1] + row * x[V_STRIDE + 2]
        walk(u8, to, of, item, 1, nest)


@inner
def run_scatter_add(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                    work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Add row i of x to row index[i] of dst, i ascending, one rounding a step; arguments as for the other leaves."""
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    dst_bias, x_bias = bias_of(views, code[pc, W_FIRST], base, u8), bias_of(views, code[pc, W_FIRST + 3], base, u8)
    columns, dtype = dst[V_SHAPE + 3], dst[V_DTYPE]
    for i in range(x[V_SHAPE + 2]):
        row = _row(views, code, pc, base, value, u32, i, dst[V_SHAPE + 2], error)
        if row < 0:
            return
        to, of = base + value[0] + row * dst[V_STRIDE + 2], base + value[1] + i * x[V_STRIDE + 2]
        for first in range(0, columns, PIECE):
            count = min(PIECE, columns - first)
            at, step = to + first * dst[V_STRIDE + 3], dst[V_STRIDE + 3]
            decode(u8, u16, u32, work32, PIECE, dtype, dst_bias, at, step, count, units)
            decode(u8, u16, u32, work32, 2 * PIECE, dtype, x_bias, of + first * x[V_STRIDE + 3], x[V_STRIDE + 3], count,
                   units)  # fmt: skip
            for j in range(count):
                work[j] = work[PIECE + j] + work[2 * PIECE + j]
            encode(u8, u16, u32, work32, 0, dtype, dst_bias, at, step, count, units)
