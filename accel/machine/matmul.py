"""The matmul instruction: strided operands brought into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import V_DTYPE, V_SHAPE
from accel.isa.table import BY_MNEMONIC
from accel.machine.codes import FP32, bias_of
from accel.machine.dotkernel import DOT, tile_pairs
from accel.machine.held import forget_all
from accel.machine.inner import entry, spliced
from accel.machine.intkernel import tile_integers
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, LANES, ROWS, tile
from accel.machine.narrow import SUMS, lay_sums, round_sums
from accel.machine.operands import place
from accel.machine.pairpanels import fold_left, fold_right, pack_left_pairs, pack_right_pairs
from accel.machine.pairs import LANES as PAIR_LANES
from accel.machine.panels import (
    BLOCK_COLUMNS,
    CHAINS,
    CORNER,
    CORNERS,
    FAST,
    LEFT,
    PAIR_LEFT,
    PAIR_PITCHES,
    PAIR_RIGHT,
    PITCHES,
    RIGHT,
    block_height,
    lay_block,
    lay_corner,
    pack_left,
    pack_right,
    place_chains,
)
from accel.machine.products import in_place, multiply_bf16, proven
from accel.machine.raw import peek
from accel.machine.words import ONE, ZERO
from accel.numerics.formats import fmt

__all__ = ["run_integer_matmul", "run_matmul"]

DST, A, B, ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))
DST_WORD, A_WORD, B_WORD = (BY_MNEMONIC["matmul"].word(name) for name in ("dst", "a", "b"))
PAIRED = COLUMNS == 2 * PAIR_LANES  # panels of pairs are made for the widest registers
BF16, CFP8_143, CFP8_152 = (fmt(name).code for name in ("bf16", "cfp8-143", "cfp8-152"))


@entry
def run_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = chain over k of fma(a[m, k], b[k, n], .), from dst if `accumulate` and from +0 otherwise.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins. work and work32 are one
    scratch; config says whose panels stand in it (`held`). nest keeps the view of sums that are rounded on their way
    out (`narrow`); error is unused: all leaves of `units` take the same arguments.
    """
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
    fast = DOT and peek(work32, FAST) != 0
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    narrow = dst[V_DTYPE] != FP32
    sums, bits, numbers, begin, strip, bias = dst, u32, f32, dst_base, m_size, ZERO
    if narrow:
        strip, bias = lay_sums(nest, m_size, n_size), bias_of(views, code[pc, DST_WORD], base, u8)
        sums, bits, numbers = nest[0], work32, work
    for top in range(0, m_size, strip):
        end = min(m_size, top + strip)
        if narrow:
            begin = 4 * (SUMS - top * n_size)
        if PAIRED and a[V_DTYPE] == BF16:
            multiply_bf16(fast, sums, a, b, begin, a_base, b_base, top, end, value[ACCUMULATE], u8, u16, bits, numbers,
                          work, work32, units, config)  # fmt: skip
        else:
            forget_all(config)
            a_bias, b_bias = bias_of(views, code[pc, A_WORD], base, u8), bias_of(views, code[pc, B_WORD], base, u8)
            _multiply(fast, sums, a, b, begin, a_base, b_base, a_bias, b_bias, top, end, value[ACCUMULATE], u8, u16,
                      bits, numbers, work, work32, units)  # fmt: skip
        if narrow:
            round_sums(u8, u16, u32, work32, dst, bias, dst_base, top, end, units)


@spliced
def _multiply(fast: bool, dst: Any, a: Any, b: Any, dst_base: int, a_base: int, b_base: int, a_bias: int, b_bias: int,
              top: int, end: int, accumulate: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any, work32: Any,
              units: Any) -> None:  # fmt: skip
    """Advance the chains of rows [top, end) in any format; those of bf16 where there are no panels of pairs for it."""
    n_size, k_size = dst[V_SHAPE + 2] * dst[V_SHAPE + 3], a[V_SHAPE + 2] * a[V_SHAPE + 3]
    direct_rows = in_place(dst)
    lay_corner(work32)
    folded = fast and (a[V_DTYPE] == CFP8_143 or a[V_DTYPE] == CFP8_152)  # its numbers are bf16 numbers
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if accumulate != 0 or first > 0 else 0
            pack_right(u8, u16, u32, work32, b, b_bias, b_base, first, depth, column, columns, units)
            if folded:
                fold_right(work32, depth, columns)
            for row in range(top, end, ROWS):
                rows = min(ROWS, end - row)
                height = block_height(rows)
                low, high = 0, 0
                pack_left(u8, u16, u32, work32, a, a_bias, a_base, row, rows, height, first, depth, units)
                if folded:
                    low, high = fold_left(work32, rows, height, depth)
                lay_block(work32, dst, row, rows, height)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = direct_rows and width % LANES == 0
                    if direct:
                        chains, at, table = f32, (dst_base >> 2) + column + panel, CHAINS
                    else:
                        chains, at, table = work, CORNER, CORNERS
                        if keep:
                            place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ZERO)
                    if folded and proven(work32, panel, low, high, chains, at, table, rows, wide, keep):
                        pairs = (depth + 1) >> 1
                        tile_pairs(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                   work32, PAIR_PITCHES, table, ONE, ZERO, pairs, keep, ZERO)  # fmt: skip
                    else:
                        tile(height, wide, work, LEFT, work, RIGHT + panel * depth, chains, at, work32, PITCHES, table,
                             ONE, ZERO, depth, keep, ZERO)  # fmt: skip
                    if not direct:
                        place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ONE)


@entry
def run_integer_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                       work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = sum over k of a[m, k] * b[k, n] modulo 2^32, plus dst if `accumulate`; arguments as `run_matmul`."""
    forget_all(config)
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    direct_rows = in_place(dst)
    lay_corner(work32)
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
                lay_block(work32, dst, row, rows, height)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = direct_rows and width % LANES == 0
                    if direct:
                        chains, at, table = u32, (dst_base >> 2) + column + panel, CHAINS
                    else:
                        chains, at, table = work32, CORNER, CORNERS
                        if keep:
                            place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ZERO)
                    tile_integers(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                  work32, PAIR_PITCHES, table, ONE, ZERO, pairs, keep, ZERO)  # fmt: skip
                    if not direct:
                        place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ONE)
