"""The left operand of a bf16 product: brought into the scratch once for rows that overlap, row by row for others.

Rows of a convolution are windows of one frame: its codes are taken as they lie, and a row is a place among them. What
then advances blocks of rows needs a table of places only, so no code is brought in once a filter tap.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.machine.inner import inner
from accel.machine.microkernel import COLUMNS, ROW_PITCH, ROWS
from accel.machine.pairpanels import reach
from accel.machine.pairrows import widen_steps
from accel.machine.pairs import clear_range, pair_range, read_range, swap_pairs
from accel.machine.panels import (
    CHAINS,
    FRAME,
    KEPT,
    LEFT,
    LEFTS,
    MOST_ROWS,
    PAIR_LEFT,
    PLACES,
    RIGHT,
    RIGHT_SIZE,
    SEEN,
    SPANS,
    STARTS,
    WIDE_LEFTS,
    block_height,
    lay_rows,
    offset,
    pack_right,
    read_line,
    widen_runs,
)
from accel.machine.raw import peek, poke, widen
from accel.machine.words import ONE, TWO, ZERO

__all__ = ["block_range", "cut_steps", "keep_rows", "lay_batch", "note_spans", "pack_exact", "take_windows",
           "widen_batch", "window_rows"]  # fmt: skip

WHOLE = 1280  # steps that blocks of windows take at once, so that a panel of pairs is 80 KiB
ALONE = 256  # channels of a tap from which on it is a block of its own, so that rows that pad the frame are left out
SHORT = 256  # steps up to which rows that stand one after the other are taken so as well
UNKNOWN = 0x7F80  # in place of a greatest magnitude: there may be Inf and NaN


@inner
def window_rows(view: Any, base: int, rows: int, depth: int) -> int:
    """Return how many rows of a bf16 operand (rows x depth) to take at a time as windows of a frame, 0 for none.

    They are if their steps are pairs of neighbours and they overlap so much that the frame has fewer codes, or are
    short and fill it.
    """
    lines, pixels, inner = view[V_SHAPE], view[V_SHAPE + 1], view[V_SHAPE + 3]
    if view[V_STRIDE + 3] != 2 or inner % 2 != 0 or depth * COLUMNS > RIGHT_SIZE:
        return 0
    if view[V_STRIDE] % 4 != 0 or view[V_STRIDE + 1] % 4 != 0 or view[V_STRIDE + 2] % 4 != 0:
        return 0
    beside = view[V_STRIDE + 1] == 2 * depth and (lines == 1 or view[V_STRIDE] == pixels * view[V_STRIDE + 1])
    if rows < 2 or (depth == inner and view[V_STRIDE + 1] >= 2 * inner and not (beside and depth <= SHORT)):
        return 0
    count = min(rows, MOST_ROWS)
    if lines > 1 and pixels <= MOST_ROWS:
        most = min(lines, MOST_ROWS // pixels)
        while most > 1 and 2 * reach(view, base, ZERO, most * pixels, ZERO, depth)[1] > FRAME:
            most -= 1
        parts = (lines + most - 1) // most
        count = (lines + parts - 1) // parts * pixels
    # Where a line is longer than `count` rows, some of them may end one line and begin the next.
    words = reach(view, base, ZERO, pixels + 1 if lines > 1 and pixels > count else count, ZERO, depth)[1]
    while lines == 1 and count > ROWS and 2 * words > FRAME:
        count = (count >> 1) // ROWS * ROWS
        words = reach(view, base, ZERO, count, ZERO, depth)[1]
    if 2 * words > FRAME or (3 * words > count * depth and not (beside and depth <= SHORT)):
        return 0
    return count


@inner
def cut_steps(view: Any, windows: int, depth: int) -> tuple[int, int, int, int, int]:
    """Return how to cut the steps of a left operand: (runs, codes from one to the next, codes of one, runs, codes).

    The last two say how many are a block: some whole runs, or part of one. Where rows are no windows all is one block.
    """
    if windows == 0:
        return 1, 0, depth, 1, depth
    runs, step, size = view[V_SHAPE + 2], view[V_STRIDE + 2] >> 1, view[V_SHAPE + 3]
    if step == size:
        runs, step, size = 1, 0, runs * size
    tap = gcd(abs(view[V_STRIDE + 1]) >> 1, size)
    if ALONE <= tap <= WHOLE:
        return runs, step, size, 1, tap
    if size <= WHOLE:
        parts = (runs * size + WHOLE - 1) // WHOLE
        return runs, step, size, (runs + parts - 1) // parts, size
    parts = (size + WHOLE - 1) // WHOLE
    return runs, step, size, 1, ((size + parts - 1) // parts + 31) & -32


@inner
def take_windows(fast: bool, u16: Any, work32: Any, view: Any, base: int, row: int, rows: int,
                 depth: int) -> tuple[int, int]:  # fmt: skip
    """Bring the frame of some windows into the scratch, as pairs or fp32, and note in STARTS where each begins.

    Returns the range of its codes, gaps between windows included, of pairs only.
    """
    start, words = reach(view, base, row, rows, ZERO, depth)
    shift = TWO if fast else ONE
    lay_rows(work32, STARTS, view, row, rows, shift)
    back = np.uint32((base - start >> shift) & 0xFFFFFFFF)
    for r in range(rows):
        poke(work32, STARTS + r, np.uint32(peek(work32, STARTS + r) + back))
    if fast:
        clear_range(work32, SEEN)
        swap_pairs(u16, start >> 1, work32, PAIR_LEFT, words, SEEN)
        return read_range(work32, SEEN)
    widen(u16, start >> 1, work32, LEFT, 2 * words)
    return 0, 0


@inner
def _silent(words: Any, at: int, count: int, magnitude: Any) -> bool:
    """Return whether some words hold zeros only; most rows are found not to at once."""
    if peek(words, at) & magnitude:
        return False
    seen = peek(words, at)
    for i in range(count):
        seen |= peek(words, at + i)
    return not seen & magnitude


@inner
def keep_rows(fast: bool, work32: Any, rows: int, at: int, count: int, drop: int) -> int:
    """Note in KEPT and LEFTS which windows take part in steps from word `at` of each on; return how many.

    drop: whether those are left out that hold only zeros in `count` words.
    """
    region, magnitude = (PAIR_LEFT, np.uint32(0x7FFF7FFF)) if fast else (LEFT, np.uint32(0x7FFFFFFF))
    kept = 0
    for r in range(rows):
        start: Any = np.int64(peek(work32, STARTS + r)) + at
        if drop and _silent(work32, region + start, count, magnitude):
            continue
        poke(work32, KEPT + kept, np.uint32(r))
        poke(work32, LEFTS + kept, np.uint32(start))
        kept += 1
    return kept


@inner
def _silent_run(fast: bool, work32: Any, block: int, rows: int, at: int, count: int) -> bool:
    """Return whether a run of steps holds only zeros in all rows of a block."""
    region, magnitude = (PAIR_LEFT, np.uint32(0x7FFF7FFF)) if fast else (LEFT, np.uint32(0x7FFFFFFF))
    for r in range(rows):
        start: Any = region + np.int64(peek(work32, LEFTS + block + r)) + at
        if not _silent(work32, start, count, magnitude):
            return False
    return True


@inner
def note_spans(fast: bool, work32: Any, kept: int, runs: int, step: int, count: int) -> None:
    """Note in SPANS, for each block of rows, the first run that is not all zeros and the end of the last such run."""
    for block in range(0, kept, ROWS):
        rows, low, high = min(ROWS, kept - block), 0, runs
        while low < high and _silent_run(fast, work32, block, rows, low * step, count):
            low += 1
        while low < high and _silent_run(fast, work32, block, rows, (high - 1) * step, count):
            high -= 1
        note = SPANS + 2 * (block // ROWS)
        work32[note], work32[note + 1] = np.uint32(low), np.uint32(high)


@inner
def widen_batch(u8: Any, u16: Any, u32: Any, work32: Any, view: Any, base: int, row: int, rows: int, first: int,
                depth: int, drop: int, units: Any) -> int:  # fmt: skip
    """Bring rows of a bf16 operand into LEFT as fp32, note them in KEPT and return how many; drop as `keep_rows`."""
    inner = view[V_SHAPE + 3]
    unit = view[V_STRIDE + 3] == 2
    whole = unit and (first + depth <= inner or view[V_STRIDE + 2] == 2 * inner)
    kept = 0
    for r in range(rows):
        start, to = base + offset(view, ZERO, row + r), LEFT + kept * ROW_PITCH
        if drop and whole and _silent(u16, (start >> 1) + first, depth, np.uint16(0x7FFF)):
            continue
        if unit:
            widen_runs(u16, work32, to, view, start, first, depth)
        else:
            read_line(u8, u16, u32, work32, to, view, ZERO, TWO, start, first, depth, units)
        poke(work32, KEPT + kept, np.uint32(r))
        kept += 1
    return kept


@inner
def lay_batch(work32: Any, kept: int, pitch: int) -> None:
    """Note where the rows that take part, and their chains, are; repeat the last to fill a block.

    pitch: of rows that stand one after the other, 0 where `keep_rows` noted them.
    """
    for i in range(kept):
        if pitch:
            poke(work32, LEFTS + i, np.uint32(i * pitch))
        poke(work32, WIDE_LEFTS + i, np.uint32(2 * peek(work32, LEFTS + i)))
        number: Any = np.int64(peek(work32, KEPT + i))
        poke(work32, CHAINS + i, peek(work32, PLACES + number))
    for i in range(kept, (kept - 1) // ROWS * ROWS + block_height((kept - 1) % ROWS + 1)):
        for table in (LEFTS, WIDE_LEFTS, CHAINS):
            poke(work32, table + i, peek(work32, table + kept - 1))


@inner
def block_range(work32: Any, block: int, rows: int, runs: int, step: int, words: int) -> tuple[int, int]:
    """Return the range of the codes of one block of rows, of whole lines of words; places as `dotkernel.tile_pairs`."""
    least, greatest = 0xFFFF, 0
    for r in range(rows):
        start: Any = PAIR_LEFT + np.int64(peek(work32, LEFTS + block + r))
        low, high = pair_range(work32, start, step, runs, words + 15 & -16)
        least, greatest = min(least, low), max(greatest, high)
    return least, greatest


@inner
def pack_exact(u8: Any, u16: Any, u32: Any, work32: Any, view: Any, base: int, first: int, depth: int, column: int,
               columns: int, units: Any) -> int:  # fmt: skip
    """Widen depth x columns of a bf16 right operand to panels; return the greatest magnitude, or UNKNOWN."""
    inner, step = view[V_SHAPE + 1], view[V_STRIDE + 1] >> 1
    unit = view[V_STRIDE + 3] == 2 and column + columns <= view[V_SHAPE + 3] and step >= 0
    pitched = first + depth <= inner or view[V_STRIDE] == inner * view[V_STRIDE + 1]
    # What stands beside the operand may fill the last panel: results of these columns are dropped.
    filled = columns + COLUMNS - 1 & -COLUMNS
    end = (base + offset(view, ZERO, first) >> 1) + column + (depth - 1) * step + filled
    if not unit or not pitched or end > u16.shape[0]:
        pack_right(u8, u16, u32, work32, view, ZERO, base, first, depth, column, columns, units)
        return UNKNOWN
    greatest, source = 0, (base + offset(view, ZERO, first) >> 1) + column
    for panel in range(0, columns, COLUMNS):
        greatest = max(greatest, widen_steps(u16, source + panel, step, work32, RIGHT + panel * depth, depth))
    return greatest
