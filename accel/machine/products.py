"""The product of bf16 operands: panels of pairs for the dot product, of fp32 without it; rows of zeros left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.machine.dotkernel import PAIR_PITCH, tile_pairs
from accel.machine.guard import BF16_INFINITY, LONGEST, fits
from accel.machine.held import forget_all, hold, is_held
from accel.machine.inner import inner, spliced
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, LANES, ROW_PITCH, ROWS, tile
from accel.machine.pairpanels import (
    fetch_left,
    pack_batch,
    pack_right_pairs,
    reach,
    right_range,
    right_span,
    unpack_right,
)
from accel.machine.pairrows import part_rows, zeros_matter
from accel.machine.pairs import chain_range
from accel.machine.panels import (
    BATCH,
    BLOCK_COLUMNS,
    CHAINS,
    CORNER,
    CORNERS,
    EXACT_BLOCKS,
    FAST_BLOCKS,
    FRAME,
    JUDGED,
    KEPT,
    LEFT,
    LEFTS,
    PAIR_LEFT,
    PAIR_RIGHT,
    PLACES,
    RIGHT,
    RIGHT_SIZE,
    SPANS,
    WIDE_LEFTS,
    block_height,
    lay_corner,
    lay_rows,
    offset,
    place_chains,
)
from accel.machine.raw import peek, poke
from accel.machine.windows import (
    block_range,
    cut_steps,
    keep_rows,
    lay_batch,
    note_spans,
    pack_exact,
    take_windows,
    widen_batch,
    window_rows,
)
from accel.machine.words import C_HELD_GREATEST, ONE, TWO, ZERO

__all__ = ["in_place", "multiply_bf16", "proven"]

NEAR = 1 << 17  # words of panels that stay in a second-level cache beside the left operand


@inner
def proven(work32: Any, panel: int, a_least: int, a_greatest: int, chains: Any, at: int, table: int, rows: int,
           wide: int, look: int) -> bool:  # fmt: skip
    """Return whether the guard lets a block be advanced by the dot product, and count it.

    look: whether its chains are looked at; they need not be where they start from +0, or did so a while ago (`guard`).
    """
    b_least, b_greatest = right_range(work32, panel)
    c_least, c_greatest = 0xFFFFFFFF, 0
    if look:
        c_least, c_greatest = chain_range(chains, at, work32, table, rows, COLUMNS if wide else LANES)
    answer = fits(a_least, a_greatest, b_least, b_greatest, c_least, c_greatest)
    counter = FAST_BLOCKS if answer else EXACT_BLOCKS
    poke(work32, counter, np.uint32(peek(work32, counter) + np.uint32(1)))
    return answer


@inner
def _judged(work32: Any, block: int) -> tuple[Any, Any]:
    """Return the range of a block that was looked at by itself."""
    note = JUDGED + 2 * (block // ROWS)
    return np.int64(work32[note]), np.int64(work32[note + 1])


@inner
def _span(work32: Any, block: int) -> tuple[Any, Any]:
    """Return which runs of a block are not zeros only: the first, and the end."""
    note = SPANS + 2 * (block // ROWS)
    return np.int64(work32[note]), np.int64(work32[note + 1])


@inner
def in_place(dst: Any) -> Any:
    """Return whether columns of dst are neighbours, so that blocks are advanced there."""
    unit_columns = dst[V_SHAPE + 2] == 1 or dst[V_STRIDE + 2] == dst[V_STRIDE + 3] * dst[V_SHAPE + 3]
    return unit_columns and dst[V_STRIDE + 3] == 4


@inner
def _leave_out(u32: Any, work32: Any, dst: Any, dst_base: int, row: int, rows: int, kept: int, column: int,
               columns: int, keep: int, sure: int) -> bool:  # fmt: skip
    """Finish the chains of the rows that do not take part; return whether that is possible.

    Finite numbers times zeros are zeros of either sign, and they leave every chain but -0 and NaN as it is, +0 too.
    sure: whether no chain can be one of these.
    """
    if keep and sure:
        return True
    at = 0
    for r in range(rows):
        if at < kept and np.int64(peek(work32, KEPT + at)) == r:
            at += 1
            continue
        start = dst_base + offset(dst, ZERO, row + r)
        if in_place(dst):
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
def _advance(fast: bool, height: int, rows: int, wide: int, work32: Any, work: Any, block: int, panel: int, deep: int,
             first: int, runs: int, step: int, depth: int, low: int, high: int, widened: bool, filled: int,
             chains: Any, at: int, table: int, keep: int, look: int, below: int, begin: int,
             end: int) -> tuple[bool, bool]:  # fmt: skip
    """Advance one block; return whether the guard let it through, and whether the left operand is in LEFT as well.

    Steps, their cut and `filled`, the words of PAIR_LEFT in use, are in pairs where `fast` and in codes elsewhere. Of
    `runs` those before `begin` need not be taken, and those from `end` on neither if the guard lets the block through.
    """
    if not fast:
        tile(height, wide, work, LEFT + begin * step, work, RIGHT + panel * deep + (first + begin * depth) * COLUMNS,
             chains, at, work32, LEFTS + block, table, runs - begin, step, depth, keep, below)  # fmt: skip
        return False, True
    pairs = (deep + 1) >> 1
    if proven(work32, panel, low, high, chains, at, table, rows, wide, look):
        tile_pairs(height, wide, work32, PAIR_LEFT + begin * step, work32,
                   PAIR_RIGHT + panel * pairs + (first + begin * depth) * COLUMNS, chains, at, work32, LEFTS + block,
                   table, end - begin, step, depth, keep, below)  # fmt: skip
        return True, widened
    if not widened:
        part_rows(work32, PAIR_LEFT, ZERO, LEFT, ZERO, ONE, filled)
    unpack_right(work32, panel, deep)
    tile(height, wide, work, LEFT + 2 * begin * step, work,
         RIGHT + panel * deep + 2 * (first + begin * depth) * COLUMNS, chains, at, work32, WIDE_LEFTS + block, table,
         runs - begin, 2 * step, min(2 * depth, deep), keep, below)  # fmt: skip
    return False, True


@spliced
def _next(panel: int, block: int, columns: int, kept: int, below: int) -> tuple[int, int]:
    """Return the panel and the block of rows that come next, down first if `below`; past the end after the last one."""
    if below:
        block += ROWS
        return (panel, block) if block < kept else (panel + COLUMNS, 0)
    panel += COLUMNS
    return (panel, block) if panel < columns else (0, block + ROWS)


@spliced
def _blocks(fast: bool, dst: Any, dst_base: int, row: int, kept: int, column: int, columns: int, deep: int, first: int,
            runs: int, step: int, depth: int, low: int, high: int, b_low: int, b_high: int, widened: bool,
            filled: int, keep: int, sure: int, drop: int, u32: Any, f32: Any, work: Any,
            work32: Any) -> tuple[int, bool]:  # fmt: skip
    """Advance all blocks of the rows that take part by one block of steps; return (`sure` after it, widened).

    drop: whether runs of zeros may be left out where rows pad a frame above and below. They may at the start of chains
    that start from +0, which then stay +0; and where the steps before were proven, so that no chain is -0 or NaN.
    """
    spans = drop and runs > 1 and keep == 0
    if spans:
        note_spans(fast, work32, kept, runs, step, depth)
    one_by_one = fast and not fits(low, high, b_low, b_high, 0xFFFFFFFF, 0)
    if one_by_one:  # what spoils a batch need not spoil a block
        for block in range(0, kept, ROWS):
            low, high = block_range(work32, block, min(ROWS, kept - block), runs, step, depth)
            note = JUDGED + 2 * (block // ROWS)
            work32[note], work32[note + 1] = np.uint32(low), np.uint32(high)
    direct_rows, look = in_place(dst), 1 if keep and not sure else 0
    # Panels that stay in a cache pass by one block after the other, so that dst is written row by row; others stay
    # while all blocks pass by.
    below = 1 if columns * depth * runs > NEAR else 0
    panel, block = ZERO, ZERO
    while panel < columns and block < kept:
        width, count = min(COLUMNS, columns - panel), min(ROWS, kept - block)
        wide, height = 1 if width > LANES else 0, block_height(count)
        direct = direct_rows and width % LANES == 0
        if one_by_one:
            low, high = _judged(work32, block)
        if direct:
            chains, at, table = f32, (dst_base >> 2) + column + panel, CHAINS + block
        else:
            chains, at, table = work, CORNER, CORNERS
            if keep:
                place_chains(u32, work32, dst, dst_base, row, block, count, column + panel, width, ZERO)
        begin, end = 0, runs
        if spans:
            begin, end = _span(work32, block)
        passed, widened = _advance(fast, height, count, wide, work32, work, block, panel, deep, first, runs, step,
                                   depth, low, high, widened, filled, chains, at, table, keep, look, below,
                                   begin, end)  # fmt: skip
        if not passed:
            sure = 0
        if not direct:
            place_chains(u32, work32, dst, dst_base, row, block, count, column + panel, width, ONE)
        panel, block = _next(panel, block, columns, kept, below)
    return sure, widened


@inner
def _bring_right(fast: bool, b: Any, base: int, begin: int, deep: int, column: int, columns: int, found: bool, u8: Any,
                 u16: Any, u32: Any, work32: Any, units: Any, config: Any) -> tuple[int, int]:  # fmt: skip
    """Bring a part of the right operand into panels unless they are held; return the range of its codes."""
    if fast:
        if not found:
            pack_right_pairs(u8, u16, work32, b, base, begin, deep, column, columns)
        return right_span(work32, columns)
    if found:
        return 0, config[C_HELD_GREATEST]
    return 0, pack_exact(u8, u16, u32, work32, b, base, begin, deep, column, columns, units)


@inner
def _bring_left(fast: bool, windows: int, a: Any, base: int, row: int, rows: int, begin: int, at: int, depth: int,
                drop: int, low: int, high: int, u8: Any, u16: Any, u32: Any, work32: Any,
                units: Any) -> tuple[int, int, int]:  # fmt: skip
    """Note the rows that take part in some steps, brought in before if they are windows; return (range, how many)."""
    if windows:
        shift = 1 if fast else 0
        return low, high, keep_rows(fast, work32, rows, at >> shift, depth >> shift, drop)
    if fast:
        return pack_batch(u8, u16, u32, work32, a, base, row, rows, begin, depth, drop)
    return 0, 0, widen_batch(u8, u16, u32, work32, a, base, row, rows, begin, depth, drop, units)


@spliced
def multiply_bf16(fast: bool, dst: Any, a: Any, b: Any, dst_base: int, a_base: int, b_base: int, top: int, end: int,
                  accumulate: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any, work32: Any, units: Any,
                  config: Any) -> None:  # fmt: skip
    """Multiply bf16 operands, on the dot product if `fast`. Chains of rows [top, end) as in `run_matmul`."""
    m_size, n_size = dst[V_SHAPE] * dst[V_SHAPE + 1], dst[V_SHAPE + 2] * dst[V_SHAPE + 3]
    k_size, shift = a[V_SHAPE + 2] * a[V_SHAPE + 3], 1 if fast else 0
    lay_corner(work32)
    windows = window_rows(a, a_base, m_size, k_size)
    batch, most, pitch = BATCH * ONE, BLOCK_DEPTH * ONE, (PAIR_PITCH if fast else ROW_PITCH) * ONE
    if windows:
        batch, most, pitch = windows, k_size, ZERO
    broadest = min(BLOCK_COLUMNS, RIGHT_SIZE // max(ONE, most) // COLUMNS * COLUMNS)
    single = k_size <= most and n_size <= broadest
    found = single and is_held(config, b, b_base, shift)
    if not found:
        forget_all(config)
    for column in range(0, n_size, broadest):
        columns = min(broadest, n_size - column)
        # Whether all chains started from +0 and took proven steps only, so that the guard need not look at them.
        sure = 1 if fast and accumulate == 0 and k_size <= LONGEST else 0
        for begin in range(0, k_size, most):
            deep = min(most, k_size - begin)
            if fast and not windows:
                fetch_left(u16, a, a_base, min(batch, end - top), begin, deep)
            b_low, b_high = _bring_right(fast, b, b_base, begin, deep, column, columns, found, u8, u16, u32, work32,
                                         units, config)  # fmt: skip
            if single and not found:
                start, words = reach(b, b_base, ZERO, k_size, ZERO, n_size)
                hold(config, b, b_base, shift, start, start + 4 * words, b_high)
            runs, further, size, some, piece = cut_steps(a, windows, deep)
            surely = sure
            for row in range(top, end, batch):
                rows = min(batch, end - row)
                low, high, still, widened, filled = 0, 0, sure, False, rows * PAIR_PITCH
                lay_rows(work32, PLACES, dst, row, rows, TWO)
                if windows:
                    low, high = take_windows(fast, u16, work32, a, a_base, row, rows, deep)
                    filled = FRAME >> 1
                for j in range(0, runs, some):
                    count = min(some, runs - j)
                    for i in range(0, size, piece):
                        first, depth = j * size + i, min(piece, size - i)
                        keep = 1 if accumulate != 0 or begin + first > 0 else 0
                        drop = 1 if b_high < BF16_INFINITY else 0
                        alone = drop if count == 1 else ZERO
                        low, high, kept = _bring_left(fast, windows, a, a_base, row, rows, begin, j * further + i,
                                                      depth, alone, low, high, u8, u16, u32, work32,
                                                      units)  # fmt: skip
                        if kept < rows and not _leave_out(u32, work32, dst, dst_base, row, rows, kept, column, columns,
                                                          keep, still):  # fmt: skip
                            low, high, kept = _bring_left(fast, windows, a, a_base, row, rows, begin, j * further + i,
                                                          depth, ZERO, low, high, u8, u16, u32, work32,
                                                          units)  # fmt: skip
                        if kept == 0:
                            continue
                        lay_batch(work32, kept, pitch)
                        still, widened = _blocks(fast, dst, dst_base, row, kept, column, columns, deep, first >> shift,
                                                 count, further >> shift, (depth + shift) >> shift, low, high, b_low,
                                                 b_high, widened, filled, keep, still, drop, u32, f32, work,
                                                 work32)  # fmt: skip
                surely = min(surely, still)
            sure = surely
