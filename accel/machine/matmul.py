"""The matmul instruction: strided bf16 operands brought into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.isa.table import BY_MNEMONIC
from accel.machine.dotkernel import DOT, tile_pairs
from accel.machine.guard import fits
from accel.machine.inner import entry, inner
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, HEIGHTS, LANES, ROWS, tile
from accel.machine.operands import place
from accel.machine.pairs import chain_range
from accel.machine.panels import (
    BLOCK_COLUMNS,
    CORNER,
    EXACT_BLOCKS,
    FAST,
    FAST_BLOCKS,
    LEFT,
    PAIR_LEFT,
    PAIR_RIGHT,
    RIGHT,
    offset,
    pack_left,
    pack_left_pairs,
    pack_right,
    pack_right_pairs,
    right_range,
    unpack_left,
    unpack_right,
)
from accel.machine.raw import peek, poke
from accel.machine.words import ONE, TWO, ZERO

__all__ = ["run_matmul"]

DST, A, B, ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))
DST_WORD, A_WORD, B_WORD = (BY_MNEMONIC["matmul"].word(name) for name in ("dst", "a", "b"))


@inner
def _corner(f32: Any, work: Any, view: Any, base: int, row: int, rows: int, column: int, columns: int,
            back: int) -> None:  # fmt: skip
    """Bring a block of dst to the corner of the scratch, or back to its place; base in bytes."""
    unit = view[V_STRIDE + 3] == 4 and column + columns <= view[V_SHAPE + 3]
    if not back:  # the guard looks at whole vectors
        for i in range(rows * COLUMNS):
            poke(work, CORNER + i, np.float32(0))
    for r in range(rows):
        start, corner = base + offset(view, ZERO, row + r), CORNER + r * COLUMNS
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
                at = (start + offset(view, TWO, column + c)) >> 2
                if back:
                    f32[at] = work[corner + c]
                else:
                    work[corner + c] = f32[at]


@inner
def _proven(work32: Any, panel: int, a_least: int, a_greatest: int, chains: Any, at: int, pitch: int, rows: int,
            wide: int, keep: int) -> bool:  # fmt: skip
    """Return whether the guard lets a block be advanced by the dot product, and count it."""
    b_least, b_greatest = right_range(work32, panel)
    c_least, c_greatest = 0xFFFFFFFF, 0
    if keep:
        c_least, c_greatest = chain_range(chains, at, pitch, rows, COLUMNS if wide else LANES)
    proven = fits(a_least, a_greatest, b_least, b_greatest, c_least, c_greatest)
    counter = FAST_BLOCKS if proven else EXACT_BLOCKS
    poke(work32, counter, np.uint32(peek(work32, counter) + np.uint32(1)))
    return proven


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
    fast = DOT and peek(work32, FAST) != 0
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0
            if fast:
                pack_right_pairs(u16, work32, b, b_base, first, depth, column, columns)
            else:
                pack_right(u16, work32, b, b_base, first, depth, column, columns)
            for row in range(0, m_size, ROWS):
                rows = min(ROWS, m_size - row)
                height = ROWS * ONE
                for lower in HEIGHTS:
                    if lower >= rows:
                        height = lower
                low, high, widened = 0, 0, not fast
                if fast:
                    low, high = pack_left_pairs(u16, work32, a, a_base, row, rows, height, first, depth)
                else:
                    pack_left(u16, work32, a, a_base, row, rows, height, first, depth)
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
                    exact = True
                    if fast:
                        exact = not _proven(work32, panel, low, high, chains, at, step, rows, wide, keep)
                    if exact:
                        if not widened:
                            unpack_left(work32, height, depth)
                            widened = True
                        if fast:
                            unpack_right(work32, panel, depth)
                        tile(height, wide, work, LEFT, work, RIGHT + panel * depth, chains, at, step, depth, keep)
                    else:
                        pairs = (depth + 1) >> 1
                        tile_pairs(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                   step, pairs, keep)  # fmt: skip
                    if not direct:
                        _corner(f32, work, dst, dst_base, row, rows, column + panel, width, ONE)
