"""The matmul instruction: strided bf16 operands widened into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.isa.table import BY_MNEMONIC
from accel.machine.inner import entry, inner
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, HEIGHTS, LANES, ROW_PITCH, ROWS, tile
from accel.machine.operands import place
from accel.machine.raw import peek, poke, widen
from accel.machine.words import ONE, TWO, ZERO

__all__ = ["BLOCK_COLUMNS", "SCRATCH", "run_matmul"]

BLOCK_COLUMNS = 1024  # columns of the right operand packed at a time: 2 MiB of fp32
LEFT, RIGHT = ROWS * ROW_PITCH, BLOCK_DEPTH * BLOCK_COLUMNS
CORNER = LEFT + RIGHT  # one block of chains whose place in dst the micro-kernel cannot address
SCRATCH = CORNER + ROWS * COLUMNS
DST, A, B, ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))
DST_WORD, A_WORD, B_WORD = (BY_MNEMONIC["matmul"].word(name) for name in ("dst", "a", "b"))


@inner
def _offset(view: Any, d: int, index: int) -> Any:
    """Return the byte offset of an index that runs through the pair of dimensions d and d + 1."""
    inner = view[V_SHAPE + d + 1]
    if index < inner:  # one level, or the first run of two: spares the division
        return index * view[V_STRIDE + d + 1]
    return (index // inner) * view[V_STRIDE + d] + (index % inner) * view[V_STRIDE + d + 1]


@inner
def _widen(u16: Any, work32: Any, at: int, step: int, view: Any, d: int, start: int, first: int, count: int) -> None:
    """Write `count` elements from index `first` on along a pair of dimensions to work[at], work[at + step], ...

    start: byte address of index 0. A bf16 code is the upper half of its fp32 number.
    """
    inner, stride = view[V_SHAPE + d + 1], view[V_STRIDE + d + 1] >> 1
    done = 0
    while done < count:
        index = first + done
        run = min(count - done, inner - (index if index < inner else index % inner))
        source, to = (start + _offset(view, d, index)) >> 1, at + done * step
        if stride == 1 and step == 1:
            widen(u16, source, work32, to, run)
        else:
            for i in range(run):
                poke(work32, to + i * step, np.uint32(peek(u16, source + i * stride)) << np.uint32(16))
        done += run


@inner
def _pack_left(u16: Any, work32: Any, view: Any, base: int, row: int, rows: int, padded: int, first: int,
               depth: int) -> None:  # fmt: skip
    """Widen rows x depth of the left operand to fp32 rows of ROW_PITCH; rows up to `padded` become zero."""
    for r in range(rows):
        _widen(u16, work32, r * ROW_PITCH, ONE, view, TWO, base + _offset(view, ZERO, row + r), first, depth)
    for r in range(rows, padded):
        for i in range(depth):
            work32[r * ROW_PITCH + i] = np.uint32(0)


@inner
def _pack_right(u16: Any, work32: Any, view: Any, base: int, first: int, depth: int, column: int, columns: int) -> None:
    """Widen depth x columns of the right operand to panels of COLUMNS columns, the last one padded with zeros."""
    unit = view[V_STRIDE + 3] == 2 and column + columns <= view[V_SHAPE + 3]
    for panel in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - panel)
        at = LEFT + panel * depth
        if unit and width == COLUMNS:  # the common case: COLUMNS neighbours a step
            for k in range(depth):
                source = (base + _offset(view, ZERO, first + k) >> 1) + column + panel
                widen(u16, source, work32, at + k * COLUMNS, COLUMNS)
            continue
        if width < COLUMNS:
            for i in range(depth * COLUMNS):
                work32[at + i] = np.uint32(0)
        if view[V_STRIDE + 3] == 2:
            for k in range(depth):
                start = base + _offset(view, ZERO, first + k)
                _widen(u16, work32, at + k * COLUMNS, ONE, view, TWO, start, column + panel, width)
        else:  # columns are not neighbours, so steps may be: walk along them
            for n in range(width):
                start = base + _offset(view, TWO, column + panel + n)
                _widen(u16, work32, at + n, COLUMNS * ONE, view, ZERO, start, first, depth)


@inner
def _corner(f32: Any, work: Any, view: Any, base: int, row: int, rows: int, column: int, columns: int,
            back: int) -> None:  # fmt: skip
    """Bring a block of dst to the corner of the scratch, or back to its place; base in bytes."""
    unit = view[V_STRIDE + 3] == 4 and column + columns <= view[V_SHAPE + 3]
    for r in range(rows):
        start, corner = base + _offset(view, ZERO, row + r), CORNER + r * COLUMNS
        if unit:
            first = (start >> 2) + column
            if back:
                for c in range(columns):
                    poke(f32, first + c, peek(work, corner + c))
            else:
                for c in range(columns):
                    poke(work, corner + c, peek(f32, first + c))
        else:
            for c in range(columns):
                at = (start + _offset(view, TWO, column + c)) >> 2
                if back:
                    f32[at] = work[corner + c]
                else:
                    work[corner + c] = f32[at]


@entry
def run_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = chain over k of fma(a[m, k], b[k, n], .), from dst if `accumulate` and from +0 otherwise.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins. work and work32 are one
    scratch. u8, nest and what follows are unused: all leaves of `units` take the same arguments.
    """
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
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
                height = ROWS * ONE
                for lower in HEIGHTS:
                    if lower >= rows:
                        height = lower
                _pack_left(u16, work32, a, a_base, row, rows, height, first, depth)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = in_place and rows == height and width % LANES == 0
                    if direct:
                        chains, at, step = f32, (dst_base >> 2) + row * pitch + column + panel, pitch
                    else:
                        chains, at, step = work, CORNER, COLUMNS
                        if keep:
                            _corner(f32, work, dst, dst_base, row, rows, column + panel, width, ZERO)
                    tile(height, wide, work, 0, work, LEFT + panel * depth, chains, at, step, depth, keep)
                    if not direct:
                        _corner(f32, work, dst, dst_base, row, rows, column + panel, width, ONE)
