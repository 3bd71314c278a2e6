"""The matmul instruction: strided operands brought into panels, chains advanced block by block, k ascending."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_DTYPE, V_SHAPE, V_STRIDE
from accel.isa.table import BY_MNEMONIC
from accel.machine.codes import bias_of
from accel.machine.dotkernel import DOT, PAIR_PITCH, tile_pairs
from accel.machine.guard import BF16_INFINITY, fits
from accel.machine.inner import entry, inner, spliced
from accel.machine.intkernel import tile_integers
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, LANES, ROW_PITCH, ROWS, tile
from accel.machine.operands import place
from accel.machine.pairpanels import (
    fetch_left,
    fold_left,
    fold_right,
    pack_batch,
    pack_left_pairs,
    pack_right_pairs,
    pad_batch,
    right_range,
    right_span,
    unpack_right,
)
from accel.machine.pairrows import part_rows, zeros_matter
from accel.machine.pairs import LANES as PAIR_LANES
from accel.machine.pairs import chain_range, pair_range
from accel.machine.panels import (
    BATCH,
    BLOCK_COLUMNS,
    CHAINS,
    CORNER,
    CORNERS,
    EXACT_BLOCKS,
    FAST,
    FAST_BLOCKS,
    KEPT,
    LEFT,
    PAIR_LEFT,
    PAIR_RIGHT,
    RIGHT,
    block_height,
    lay_block,
    lay_corner,
    offset,
    pack_left,
    pack_right,
    place_chains,
)
from accel.machine.raw import peek, poke
from accel.machine.words import ONE, TWO, ZERO
from accel.numerics.formats import fmt

__all__ = ["run_integer_matmul", "run_matmul"]

DST, A, B, ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))
DST_WORD, A_WORD, B_WORD = (BY_MNEMONIC["matmul"].word(name) for name in ("dst", "a", "b"))
PAIRED = COLUMNS == 2 * PAIR_LANES  # panels of pairs are made for the widest registers
BF16, CFP8_143, CFP8_152 = (fmt(name).code for name in ("bf16", "cfp8-143", "cfp8-152"))


@inner
def _proven(work32: Any, panel: int, a_least: int, a_greatest: int, chains: Any, at: int, table: int, rows: int,
            wide: int, keep: int) -> bool:  # fmt: skip
    """Return whether the guard lets a block be advanced by the dot product, and count it."""
    b_least, b_greatest = right_range(work32, panel)
    c_least, c_greatest = 0xFFFFFFFF, 0
    if keep:
        c_least, c_greatest = chain_range(chains, at, work32, table, rows, COLUMNS if wide else LANES)
    proven = fits(a_least, a_greatest, b_least, b_greatest, c_least, c_greatest)
    counter = FAST_BLOCKS if proven else EXACT_BLOCKS
    poke(work32, counter, np.uint32(peek(work32, counter) + np.uint32(1)))
    return proven


@inner
def _in_place(dst: Any) -> Any:
    """Return whether columns of dst are neighbours, so that blocks are advanced there."""
    unit_columns = dst[V_SHAPE + 2] == 1 or dst[V_STRIDE + 2] == dst[V_STRIDE + 3] * dst[V_SHAPE + 3]
    return unit_columns and dst[V_STRIDE + 3] == 4


@inner
def _leave_out(u32: Any, work32: Any, dst: Any, dst_base: int, row: int, rows: int, kept: int, column: int,
               columns: int, keep: int) -> bool:  # fmt: skip
    """Finish the chains of the rows that were not packed; return whether that is possible.

    Finite numbers times zeros are zeros of either sign, and they leave every chain but -0 and NaN as it is, +0 too.
    """
    at = 0
    for r in range(rows):
        if at < kept and np.int64(peek(work32, KEPT + at)) == r:
            at += 1
            continue
        start = dst_base + offset(dst, ZERO, row + r)
        if _in_place(dst):
            word = (start >> 2) + column
            if not keep:
                for n in range(columns):
                    poke(u32, word + n, np.uint32(0))
            elif zeros_matter(u32, word, columns):
                return False
            continue
        for n in range(columns):
            word = (start + offset(dst, TWO, column + n)) >> 2
            if not keep:
                poke(u32, word, np.uint32(0))
            elif zeros_matter(u32, word, ONE):
                return False
    return True


@spliced
def _advance(fast: bool, height: int, rows: int, wide: int, work32: Any, work: Any, block: int, panel: int, depth: int,
             low: int, high: int, widened: bool, chains: Any, at: int, table: int, keep: int) -> bool:  # fmt: skip
    """Advance one block whose panels hold pairs; return whether its left rows now stand as fp32 in LEFT as well."""
    pairs = (depth + 1) >> 1
    if fast and _proven(work32, panel, low, high, chains, at, table, rows, wide, keep):
        tile_pairs(height, wide, work32, PAIR_LEFT + block * PAIR_PITCH, work32, PAIR_RIGHT + panel * pairs, chains, at,
                   work32, table, pairs, keep)  # fmt: skip
        return widened
    if not widened:
        part_rows(work32, PAIR_LEFT + block * PAIR_PITCH, PAIR_PITCH, LEFT, ROW_PITCH, height, pairs)
    unpack_right(work32, panel, depth)
    tile(height, wide, work, LEFT, work, RIGHT + panel * depth, chains, at, work32, table, depth, keep)
    return True


@spliced
def _multiply_pairs(fast: bool, dst: Any, a: Any, b: Any, dst_base: int, a_base: int, b_base: int, accumulate: int,
                    u8: Any, u16: Any, u32: Any, f32: Any, work: Any, work32: Any) -> None:  # fmt: skip
    """Multiply bf16 operands: panels of pairs, rows of zeros left out. Chains as in `run_matmul`; fast: dot product."""
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size, in_place = a[V_SHAPE + 2] * a[V_SHAPE + 3], _in_place(dst)
    lay_corner(work32)
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if accumulate != 0 or first > 0 else 0
            fetch_left(u16, a, a_base, min(BATCH, m_size), first, depth)
            pack_right_pairs(u8, u16, work32, b, b_base, first, depth, column, columns)
            b_low, b_high = right_span(work32, columns)
            drop = 1 if b_high < BF16_INFINITY else 0
            for row in range(0, m_size, BATCH):
                rows = min(BATCH, m_size - row)
                low, high, kept = pack_batch(u8, u16, u32, work32, a, a_base, row, rows, first, depth, drop)
                if kept < rows and not _leave_out(u32, work32, dst, dst_base, row, rows, kept, column, columns, keep):
                    low, high, kept = pack_batch(u8, u16, u32, work32, a, a_base, row, rows, first, depth, ZERO)
                if kept == 0:
                    continue
                pad_batch(work32, dst, row, rows, kept, depth)
                one_by_one = fast and not fits(low, high, b_low, b_high, 0xFFFFFFFF, 0)
                for block in range(0, kept, ROWS):
                    count = min(ROWS, kept - block)
                    height = block_height(count)
                    widened = False
                    if one_by_one:  # what spoils a batch need not spoil a block
                        words = ((depth + 1) >> 1) + 15 & -16
                        low, high = pair_range(work32, PAIR_LEFT + block * PAIR_PITCH, PAIR_PITCH, count, words)
                    for panel in range(0, columns, COLUMNS):
                        width = min(COLUMNS, columns - panel)
                        wide = 1 if width > LANES else 0
                        direct = in_place and width % LANES == 0
                        if direct:
                            chains, at, table = f32, (dst_base >> 2) + column + panel, CHAINS + block
                        else:
                            chains, at, table = work, CORNER, CORNERS
                            if keep:
                                place_chains(u32, work32, dst, dst_base, row, block, count, column + panel, width, ZERO)
                        widened = _advance(fast, height, count, wide, work32, work, block, panel, depth, low, high,
                                           widened, chains, at, table, keep)  # fmt: skip
                        if not direct:
                            place_chains(u32, work32, dst, dst_base, row, block, count, column + panel, width, ONE)


@entry
def run_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = chain over k of fma(a[m, k], b[k, n], .), from dst if `accumulate` and from +0 otherwise.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins. work and work32 are one
    scratch. nest, config and error are unused: all leaves of `units` take the same arguments.
    """
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
    fast = DOT and peek(work32, FAST) != 0
    if PAIRED and a[V_DTYPE] == BF16:
        _multiply_pairs(fast, dst, a, b, dst_base, a_base, b_base, value[ACCUMULATE], u8, u16, u32, f32, work,
                        work32)  # fmt: skip
        return
    a_bias, b_bias = bias_of(views, code[pc, A_WORD], base, u8), bias_of(views, code[pc, B_WORD], base, u8)
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    in_place = _in_place(dst)
    lay_corner(work32)
    folded = fast and (a[V_DTYPE] == CFP8_143 or a[V_DTYPE] == CFP8_152)  # its numbers are bf16 numbers
    for column in range(0, n_size, BLOCK_COLUMNS):
        columns = min(BLOCK_COLUMNS, n_size - column)
        for first in range(0, k_size, BLOCK_DEPTH):
            depth = min(BLOCK_DEPTH, k_size - first)
            keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0
            pack_right(u8, u16, u32, work32, b, b_bias, b_base, first, depth, column, columns, units)
            if folded:
                fold_right(work32, depth, columns)
            for row in range(0, m_size, ROWS):
                rows = min(ROWS, m_size - row)
                height = block_height(rows)
                low, high = 0, 0
                pack_left(u8, u16, u32, work32, a, a_bias, a_base, row, rows, height, first, depth, units)
                if folded:
                    low, high = fold_left(work32, rows, height, depth)
                lay_block(work32, dst, row, rows, height)
                for panel in range(0, columns, COLUMNS):
                    width = min(COLUMNS, columns - panel)
                    wide = 1 if width > LANES else 0
                    direct = in_place and width % LANES == 0
                    if direct:
                        chains, at, table = f32, (dst_base >> 2) + column + panel, CHAINS
                    else:
                        chains, at, table = work, CORNER, CORNERS
                        if keep:
                            place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ZERO)
                    if folded and _proven(work32, panel, low, high, chains, at, table, rows, wide, keep):
                        pairs = (depth + 1) >> 1
                        tile_pairs(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                   work32, table, pairs, keep)  # fmt: skip
                    else:
                        tile(height, wide, work, LEFT, work, RIGHT + panel * depth, chains, at, work32, table, depth,
                             keep)  # fmt: skip
                    if not direct:
                        place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ONE)


@entry
def run_integer_matmul(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                       work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """dst[m, n] = sum over k of a[m, k] * b[k, n] modulo 2^32, plus dst if `accumulate`; arguments as `run_matmul`."""
    dst, a, b = views[code[pc, DST_WORD]], views[code[pc, A_WORD]], views[code[pc, B_WORD]]
    dst_base, a_base, b_base = base + value[DST], base + value[A], base + value[B]
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size = a[V_SHAPE + 2] * a[V_SHAPE + 3]
    in_place = _in_place(dst)
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
                    direct = in_place and width % LANES == 0
                    if direct:
                        chains, at, table = u32, (dst_base >> 2) + column + panel, CHAINS
                    else:
                        chains, at, table = work32, CORNER, CORNERS
                        if keep:
                            place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ZERO)
                    tile_integers(height, wide, work32, PAIR_LEFT, work32, PAIR_RIGHT + panel * pairs, chains, at,
                                  work32, table, pairs, keep)  # fmt: skip
                    if not direct:
                        place_chains(u32, work32, dst, dst_base, row, ZERO, rows, column + panel, width, ONE)
