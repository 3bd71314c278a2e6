"""The matmul instruction: strided operands brought into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_DTYPE, V_SHAPE, V_STRIDE
from accel.isa.table import BY_MNEMONIC
from accel.machine.codes import bias_of
from accel.machine.dotkernel import DOT, tile_pairs
from accel.machine.guard import fits
from accel.machine.inner import entry, inner
from accel.machine.intkernel import tile_integers
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, LANES, ROWS, tile
from accel.machine.operands import place
from accel.machine.pairpanels import (
    fold_left,
    fold_right,
    pack_left_pairs,
    pack_right_pairs,
    right_range,
    unpack_left,
    unpack_right,
)
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
    block_height,
    pack_left,
    pack_right,
    place_chains,
)
from accel.machine.raw import peek, poke
from accel.machine.words import ONE, ZERO
from accel.numerics.formats import fmt

__all__ = ["run_integer_matmul", "run_matmul"]

DST, A, B, ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))
DST_WORD, A_WORD, B_WORD = (BY_MNEMONIC["matmul"].word(name) for name in ("dst", "a", "b"))
BF16, CFP8_143, CFP8_152 = (fmt(name).code for name in ("bf16", "cfp8-143", "cfp8-152"))


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


@inner
def _in_place(dst: Any) -> Any:
    """Return whether columns of dst are neighbours and its rows have one pitch, so that blocks are advanced there."""
    even_rows = dst[V_SHAPE] == 1 or dst[V_STRIDE] == dst[V_STRIDE + 1] * dst[V_SHAPE + 1]
    unit_columns = dst[V_SHAPE + 2] == 1 or dst[V_STRIDE + 2] == dst[V_STRIDE + 3] * dst[V_SHAPE + 3]
    return even_rows and unit_columns and dst[V_STRIDE + 3] == 4


@entry
def run_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = chain over k of fma(a[m, k], b[k, n], .), from dst if `accumulate` and from +0 otherwise.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins. work and work32 are one
    scratch. nest, config and error are unused: all leaves of `units` take the same arguments.
    """
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
    a_bias, b_bias = bias_of(views, code[pc, A_WORD], base, u8), bias_of(views, code[pc, B_WORD], base, u8)
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    in_place, pitch = _in_place(dst), dst[V_STRIDE + 1] >> 2
    fast = DOT and peek(work32, FAST) != 0
    paired = fast and a[V_DTYPE] == BF16
    folded = fast and (a[V_DTYPE] == CFP8_143 or a[V_DTYPE] == CFP8_152)  # its numbers are bf16 numbers
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0
            if paired:
                pack_right_pairs(u8, u16, work32, b, b_base, first, depth, column, columns)
            else:
                pack_right(u8, u16, u32, work32, b, b_bias, b_base, first, depth, column, columns, units)
                if folded:
                    fold_right(work32, depth, columns)
            for row in range(0, m_size, ROWS):
                rows = min(ROWS, m_size - row)
                height = block_height(rows)
                low, high, widened = 0, 0, not paired
                if paired:
                    low, high = pack_left_pairs(u8, u16, work32, a, a_base, row, rows, height, first, depth)
                else:
                    pack_left(u8, u16, u32, work32, a, a_bias, a_base, row, rows, height, first, depth, units)
                    if folded:
                        low, high = fold_left(work32, rows, height, depth)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = in_place and rows == height and width % LANES == 0
                    if direct:
                        chains, at, step = f32, (dst_base >> 2) + row * pitch + column + panel, pitch
                    else:
                        chains, at, step = work, CORNER, COLUMNS
                        if keep:
                            place_chains(u32, work32, dst, dst_base, row, rows, column + panel, width, ZERO)
                    proven = False
                    if paired or folded:
                        proven = _proven(work32, panel, low, high, chains, at, step, rows, wide, keep)
                    if proven:
                        pairs = (depth + 1) >> 1
                        tile_pairs(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                   step, pairs, keep)  # fmt: skip
                    else:
                        if not widened:
                            unpack_left(work32, height, depth)
                            widened = True
                        if paired:
                            unpack_right(work32, panel, depth)
                        tile(height, wide, work, LEFT, work, RIGHT + panel * depth, chains, at, step, depth, keep)
                    if not direct:
                        place_chains(u32, work32, dst, dst_base, row, rows, column + panel, width, ONE)


@entry
def run_integer_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                       work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = sum over k of a[m, k] * b[k, n] modulo 2^32, plus dst if `accumulate`; arguments as `run_matmul`."""
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    in_place, pitch = _in_place(dst), dst[V_STRIDE + 1] >> 2
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            pairs = (depth + 1) >> 1
            keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0
            pack_right_pairs(u8, u16, work32, b, b_base, first, depth, column, columns)
            for row in range(0, m_size, ROWS):
                rows = min(ROWS, m_size - row)
                height = block_height(rows)
                pack_left_pairs(u8, u16, work32, a, a_base, row, rows, height, first, depth)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = in_place and rows == height and width % LANES == 0
                    if direct:
                        chains, at, step = u32, (dst_base >> 2) + row * pitch + column + panel, pitch
                    else:
                        chains, at, step = work32, CORNER, COLUMNS
                        if keep:
                            place_chains(u32, work32, dst, dst_base, row, rows, column + panel, width, ZERO)
                    tile_integers(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                  step, pairs, keep)  # fmt: skip
                    if not direct:
                        place_chains(u32, work32, dst, dst_base, row, rows, column + panel, width, ONE)
