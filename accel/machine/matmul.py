"""The matmul instruction: strided bf16 operands widened into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.isa.table import BY_MNEMONIC
from accel.jit import njit
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, HEIGHTS, LANES, ROW_PITCH, ROWS, tile
from accel.machine.operands import place

__all__ = ["BLOCK_COLUMNS", "SCRATCH", "run_matmul"]

BLOCK_COLUMNS = 1024  # columns of the right operand packed at a time: 2 MiB of fp32
LEFT, RIGHT = ROWS * ROW_PITCH, BLOCK_DEPTH * BLOCK_COLUMNS
CORNER = LEFT + RIGHT  # one block of chains whose place in dst the micro-kernel cannot address
SCRATCH = CORNER + ROWS * COLUMNS
DST, A, B, ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))
DST_WORD, A_WORD, B_WORD = (BY_MNEMONIC["matmul"].word(name) for name in ("dst", "a", "b"))


@njit
def _pack_left(u16: Any, work32: Any, view: Any, base: int, row: int, rows: int, padded: int, first: int,
               depth: int) -> None:  # fmt: skip
    """Widen rows x depth of the left operand to fp32 rows of ROW_PITCH; rows up to `padded` become zero."""
    inner_rows, inner = view[V_SHAPE + 1], view[V_SHAPE + 3]
    row_outer, row_inner = view[V_STRIDE] >> 1, view[V_STRIDE + 1] >> 1
    step_outer, step_inner = view[V_STRIDE + 2] >> 1, view[V_STRIDE + 3] >> 1
    for r in range(rows):
        m = row + r
        start = base + (m // inner_rows) * row_outer + (m % inner_rows) * row_inner
        at = r * ROW_PITCH
        k = 0
        while k < depth:
            outer, begin = (first + k) // inner, (first + k) % inner
            n = min(depth - k, inner - begin)
            source = start + outer * step_outer + begin * step_inner
            if step_inner == 1:
                for i in range(n):
                    work32[at + k + i] = np.uint32(u16[source + i]) << np.uint32(16)
            else:
                for i in range(n):
                    work32[at + k + i] = np.uint32(u16[source + i * step_inner]) << np.uint32(16)
            k += n
    for r in range(rows, padded):
        for i in range(depth):
            work32[r * ROW_PITCH + i] = np.uint32(0)


@njit
def _pack_right(u16: Any, work32: Any, view: Any, base: int, first: int, depth: int, column: int, columns: int) -> None:
    """Widen depth x columns of the right operand to panels of COLUMNS columns, the last one padded with zeros."""
    inner_steps, inner = view[V_SHAPE + 1], view[V_SHAPE + 3]
    step_outer, step_inner = view[V_STRIDE] >> 1, view[V_STRIDE + 1] >> 1
    column_outer, column_inner = view[V_STRIDE + 2] >> 1, view[V_STRIDE + 3] >> 1
    for panel in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - panel)
        for k in range(depth):
            step = first + k
            start = base + (step // inner_steps) * step_outer + (step % inner_steps) * step_inner
            at = LEFT + panel * depth + k * COLUMNS
            n = 0
            while n < width:
                outer, begin = (column + panel + n) // inner, (column + panel + n) % inner
                run = min(width - n, inner - begin)
                source = start + outer * column_outer + begin * column_inner
                if column_inner == 1 and run == COLUMNS:
                    for i in range(COLUMNS):
                        work32[at + i] = np.uint32(u16[source + i]) << np.uint32(16)
                elif column_inner == 1:
                    for i in range(run):
                        work32[at + n + i] = np.uint32(u16[source + i]) << np.uint32(16)
                else:
                    for i in range(run):
                        work32[at + n + i] = np.uint32(u16[source + i * column_inner]) << np.uint32(16)
                n += run
            for i in range(width, COLUMNS):
                work32[at + i] = np.uint32(0)


@njit
def _corner(f32: Any, work: Any, view: Any, base: int, row: int, rows: int, column: int, columns: int, back: int) -> None:
    """Bring a block of dst to the corner of the scratch, or back to its place."""
    inner_rows, inner = view[V_SHAPE + 1], view[V_SHAPE + 3]
    for r in range(rows):
        m = row + r
        start = base + ((m // inner_rows) * view[V_STRIDE] + (m % inner_rows) * view[V_STRIDE + 1] >> 2)
        for c in range(columns):
            n = column + c
            at = start + ((n // inner) * view[V_STRIDE + 2] + (n % inner) * view[V_STRIDE + 3] >> 2)
            if back:
                f32[at] = work[CORNER + r * COLUMNS + c]
            else:
                work[CORNER + r * COLUMNS + c] = f32[at]


@njit
def run_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any) -> None:  # fmt: skip
    """dst[m, n] = chain over k of fma(a[m, k], b[k, n], .), from dst if `accumulate` and from +0 otherwise.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins. work and work32 are one
    scratch. u8 and nest are unused: all leaves of `units` take the same arguments.
    """
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = (base + value[DST]) >> 2, (base + value[A]) >> 1, (base + value[B]) >> 1
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    # A block of dst whose columns are neighbours and whose rows have one pitch is advanced in place.
    even_rows = dst[V_SHAPE] == 1 or dst[V_STRIDE] == dst[V_STRIDE + 1] * dst[V_SHAPE + 1]
    unit_columns = dst[V_SHAPE + 2] == 1 or dst[V_STRIDE + 2] == dst[V_STRIDE + 3] * dst[V_SHAPE + 3]
    in_place = even_rows and unit_columns and dst[V_STRIDE + 3] == 4
    pitch = dst[V_STRIDE + 1] >> 2
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0
            _pack_right(u16, work32, b, b_base, first, depth, column, columns)
            for row in range(0, m_size, ROWS):
                rows = min(ROWS, m_size - row)
                height = np.int64(ROWS)
                for lower in HEIGHTS:
                    if lower >= rows:
                        height = lower
                _pack_left(u16, work32, a, a_base, row, rows, height, first, depth)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = in_place and rows == height and (width == COLUMNS or width == LANES)
                    if direct:
                        chains, at, step = f32, dst_base + (row * pitch) + column + panel, pitch
                    else:
                        chains, at, step = work, CORNER, COLUMNS
                        if keep:
                            _corner(f32, work, dst, dst_base, row, rows, column + panel, width, np.int64(0))
                    tile(height, wide, work, 0, work, LEFT + panel * depth, chains, at, step, depth, keep)
                    if not direct:
                        _corner(f32, work, dst, dst_base, row, rows, column + panel, width, np.int64(1))
