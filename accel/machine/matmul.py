"""The matmul instruction: strided bf16 operands widened into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.jit import njit
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, HEIGHTS, LANES, ROW_PITCH, ROWS, tile

__all__ = ["BLOCK_COLUMNS", "matmul", "scratch"]

BLOCK_COLUMNS = 1024  # columns of the right operand packed at a time: 2 MiB of fp32
LEFT, RIGHT = ROWS * ROW_PITCH, BLOCK_DEPTH * BLOCK_COLUMNS
SCRATCH = LEFT + RIGHT + ROWS * COLUMNS


def scratch() -> Any:
    """Return the float32 work space of `matmul`: left panel, right panels, one block of chains; 64-byte aligned."""
    room = np.zeros(SCRATCH + 16, np.float32)
    skip = (-room.ctypes.data % 64) // 4
    return room[skip : skip + SCRATCH]


@njit
def _pack_left(u16: Any, work32: Any, view: Any, base: int, row: int, rows: int, padded: int, first: int, depth: int) -> None:
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
def _place(view: Any, m: int, n: int) -> int:
    """Return the offset in fp32 elements of dst[m, n] from the address of dst."""
    rows, columns = view[V_SHAPE + 1], view[V_SHAPE + 3]
    offset = (m // rows) * view[V_STRIDE] + (m % rows) * view[V_STRIDE + 1]
    return (offset + (n // columns) * view[V_STRIDE + 2] + (n % columns) * view[V_STRIDE + 3]) >> 2


@njit
def _height(rows: int) -> int:
    best = ROWS
    for height in HEIGHTS:
        if height >= rows:
            best = height
    return best


@njit
def matmul(f32: Any, u16: Any, work: Any, work32: Any, dst: Any, dst_base: int, a: Any, a_base: int, b: Any, b_base: int,
           accumulate: int) -> None:  # fmt: skip
    """dst[m, n] = chain over k of fma(a[m, k], b[k, n], .), from dst if `accumulate` and from +0 otherwise.

    dst, a, b: view rows of two index pairs each; bases in elements of f32 and u16. work and work32 are one scratch.
    """
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    # A block of dst whose columns are neighbours and whose rows have one pitch is advanced in place.
    single_rows = dst[V_SHAPE] == 1 or dst[V_STRIDE] == dst[V_STRIDE + 1] * dst[V_SHAPE + 1]
    unit_columns = dst[V_STRIDE + 3] == 4 and (
        dst[V_SHAPE + 2] == 1 or dst[V_STRIDE + 2] == dst[V_STRIDE + 3] * dst[V_SHAPE + 3]
    )
    pitch = dst[V_STRIDE + 1] >> 2
    corner = LEFT + RIGHT
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if accumulate != 0 or first > 0 else 0
            _pack_right(u16, work32, b, b_base, first, depth, column, columns)
            for row in range(0, m_size, ROWS):
                rows = min(ROWS, m_size - row)
                height = _height(rows)
                _pack_left(u16, work32, a, a_base, row, rows, height, first, depth)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    right = LEFT + panel * depth
                    whole = width == COLUMNS or width == LANES
                    if single_rows and unit_columns and rows == height and whole:
                        at = dst_base + _place(dst, row, column + panel)
                        tile(height, wide, work, 0, work, right, f32, at, pitch, depth, keep)
                        continue
                    if keep:
                        for r in range(rows):
                            for n in range(width):
                                work[corner + r * COLUMNS + n] = f32[dst_base + _place(dst, row + r, column + panel + n)]
                    tile(height, wide, work, 0, work, right, work, corner, COLUMNS, depth, keep)
                    for r in range(rows):
                        for n in range(width):
                            f32[dst_base + _place(dst, row + r, column + panel + n)] = work[corner + r * COLUMNS + n]
