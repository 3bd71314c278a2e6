"""Panels of bf16 pairs in the scratch, with the range of the codes that each holds; to fp32 panels and back.

Operands in bf16 are packed straight from their codes. Formats whose every number is a bf16 number are packed as fp32
first and folded. A block that needs the exact kernel gets its panels turned into fp32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_DTYPE, V_SHAPE, V_STRIDE
from accel.machine.dotkernel import PAIR_PITCH
from accel.machine.inner import inner
from accel.machine.microkernel import COLUMNS, ROW_PITCH
from accel.machine.pairrows import part_steps, swap_rows
from accel.machine.pairs import NO_STEP, clear_range, join_steps, pair_range, read_range, swap_pairs
from accel.machine.panels import (
    KEPT,
    LEFT,
    PAIR_LEFT,
    PAIR_RIGHT,
    RANGE_WORDS,
    RANGES,
    RIGHT,
    SEEN,
    SEGMENTS,
    STARTS,
    lay_rows,
    offset,
)
from accel.machine.raw import fetch, peek, poke
from accel.machine.words import ONE, TWO, X_ITEM, ZERO
from accel.numerics.formats import fmt

__all__ = [
    "fetch_left", "fold_left", "fold_right", "pack_batch", "pack_left_pairs", "pack_right_pairs",
    "reach", "right_range", "right_span", "unpack_right",
]  # fmt: skip

BF16, INT8 = fmt("bf16").code, fmt("int8").code
UPPER, HALF = np.uint32(0xFFFF0000), np.uint32(16)


@inner
def _note(work32: Any, panel: int, least: int, greatest: int, widened: int) -> None:
    """Note the range of the right panel that begins at column `panel`, and whether it stands in RIGHT as well."""
    note = RANGES + panel // COLUMNS * RANGE_WORDS
    work32[note], work32[note + 1], work32[note + 2] = np.uint32(least), np.uint32(greatest), np.uint32(widened)


@inner
def fold_left(work32: Any, rows: int, padded: int, depth: int) -> tuple[int, int]:
    """Turn fp32 rows that hold bf16 numbers into rows of pairs and return their range, as `pack_left_pairs` does."""
    pairs = (depth + 1) >> 1
    filled = (pairs + 15) // 16 * 16
    for r in range(padded):
        at, of = PAIR_LEFT + r * PAIR_PITCH, LEFT + r * ROW_PITCH
        for i in range(depth >> 1):
            lower = np.uint32(peek(work32, of + 2 * i + 1) >> HALF)
            poke(work32, at + i, np.uint32(np.uint32(peek(work32, of + 2 * i) & UPPER) | lower))
        for i in range(depth >> 1, filled):
            poke(work32, at + i, np.uint32(0))
        if depth & 1:
            poke(work32, at + pairs - 1, np.uint32(np.uint32(peek(work32, of + depth - 1) & UPPER) | NO_STEP))
    return pair_range(work32, PAIR_LEFT, PAIR_PITCH, rows, filled)


@inner
def fold_right(work32: Any, depth: int, columns: int) -> None:
    """Turn fp32 panels that hold bf16 numbers into panels of pairs and note the range of each."""
    pairs = (depth + 1) >> 1
    for panel in range(0, columns, COLUMNS):
        at, of = PAIR_RIGHT + panel * pairs, RIGHT + panel * depth
        for p in range(depth >> 1):
            for n in range(COLUMNS):
                upper = np.uint32(peek(work32, of + 2 * p * COLUMNS + n) & UPPER)
                lower = np.uint32(peek(work32, of + (2 * p + 1) * COLUMNS + n) >> HALF)
                poke(work32, at + p * COLUMNS + n, np.uint32(upper | lower))
        if depth & 1:
            for n in range(COLUMNS):
                poke(work32, at + (pairs - 1) * COLUMNS + n, np.uint32(peek(work32, of + (depth - 1) * COLUMNS + n)))
        low, high = pair_range(work32, at, pairs * COLUMNS, ONE, pairs * COLUMNS)
        _note(work32, panel, low, high, ONE)


@inner
def _code(u8: Any, u16: Any, dtype: int, address: int) -> Any:
    """Return the half of a pair that an element becomes: a bf16 code, or an integer of 8 bits as one of 16."""
    if dtype == BF16:
        return np.uint32(peek(u16, address >> 1))
    code = np.uint32(peek(u8, address))
    if dtype == INT8 and code & np.uint32(0x80):
        code = np.uint32(code | np.uint32(0xFF00))
    return code


@inner
def _place(u8: Any, u16: Any, work32: Any, at: int, pairs: int, step: int, lower: int, view: Any, d: int, start: int,
           first: int, count: int) -> None:  # fmt: skip
    """Put `count` codes from index `first` on along a pair of dimensions into halves of words.

    pairs 1: along the steps, so two neighbours share a word: element i goes to word i // 2 of those `step` apart.
    pairs 0: across them: element i goes to word i; `lower` says to which half. An upper half clears the lower one, to
    which the lower one is then added.
    """
    inner, stride, dtype = view[V_SHAPE + d + 1], view[V_STRIDE + d + 1], view[V_DTYPE]
    done = 0
    while done < count:
        index = first + done
        run = min(count - done, inner - (index if index < inner else index % inner))
        source = start + offset(view, d, index)
        for i in range(run):
            code = _code(u8, u16, dtype, source + i * stride)
            element = done + i
            to = at + (element >> 1 if pairs else element) * step
            if (element & 1 if pairs else lower) == 0:
                poke(work32, to, np.uint32(code << HALF))
            else:
                poke(work32, to, np.uint32(peek(work32, to) | code))
        done += run


@inner
def pack_left_pairs(u8: Any, u16: Any, work32: Any, view: Any, base: int, row: int, rows: int, padded: int, first: int,
                    depth: int) -> tuple[int, int]:  # fmt: skip
    """Put rows x depth of the left operand into rows of pairs and return their range (`pairs.read_range`).

    The step that an odd depth lacks is NO_STEP; rows up to `padded` repeat the last, what fills the last line becomes
    zero.
    """
    pairs = (depth + 1) >> 1
    filled = (pairs + 15) // 16 * 16
    inner, unit = view[V_SHAPE + 3], view[V_DTYPE] == BF16 and view[V_STRIDE + 3] == 2
    # Taps of a filter row that stand side by side are one run of steps; others are runs of whole pairs each.
    whole = unit and (first + depth <= inner or view[V_STRIDE + 2] == 2 * inner)
    runs = unit and inner % 2 == 0 and first % 2 == 0 and depth % 2 == 0
    clear_range(work32, SEEN)
    for r in range(rows):
        at, start = PAIR_LEFT + r * PAIR_PITCH, base + offset(view, ZERO, row + r)
        if whole:
            source = (start >> 1) + first
            swap_pairs(u16, source, work32, at, depth >> 1, SEEN)
            if depth & 1:
                for i in range(pairs, filled):
                    poke(work32, at + i, np.uint32(0))
                code = np.uint32(peek(u16, source + depth - 1))
                poke(work32, at + pairs - 1, np.uint32((code << HALF) | NO_STEP))
        elif runs:
            done = 0
            while done < pairs:
                index = first + 2 * done
                run = min(pairs - done, (inner - index % inner) >> 1)
                swap_pairs(u16, start + offset(view, TWO, index) >> 1, work32, at + done, run, SEEN)
                done += run
        else:
            for i in range(depth >> 1, filled):
                poke(work32, at + i, np.uint32(0))
            _place(u8, u16, work32, at, ONE, ONE, ZERO, view, TWO, start, first, depth)
            if depth & 1:
                poke(work32, at + pairs - 1, np.uint32(peek(work32, at + pairs - 1) | NO_STEP))
    for r in range(rows, padded):
        for i in range(filled):
            poke(work32, PAIR_LEFT + r * PAIR_PITCH + i, peek(work32, PAIR_LEFT + (rows - 1) * PAIR_PITCH + i))
    if runs or (whole and not depth & 1):
        return read_range(work32, SEEN)
    return pair_range(work32, PAIR_LEFT, PAIR_PITCH, rows, filled)


@inner
def _segments(work32: Any, view: Any, first: int, depth: int) -> int:
    """Note the runs of steps in a row of a bf16 operand; return how many, 0 unless all are multiples of 32 codes."""
    inner = view[V_SHAPE + 3]
    if view[V_DTYPE] != BF16 or view[V_STRIDE + 3] != 2 or depth % 32 != 0:
        return 0
    if first + depth <= inner or view[V_STRIDE + 2] == 2 * inner:
        poke(work32, SEGMENTS, np.uint32(first))
        poke(work32, SEGMENTS + 1, np.uint32(depth >> 1))
        return 1
    if inner % 32 != 0 or first % 32 != 0:
        return 0
    done, count = 0, 0
    while done < depth:
        index = first + done
        run = min(depth - done, inner - index % inner)
        poke(work32, SEGMENTS + 2 * count, np.uint32((offset(view, TWO, index) >> 1) & 0xFFFFFFFF))
        poke(work32, SEGMENTS + 2 * count + 1, np.uint32(run >> 1))
        done, count = done + run, count + 1
    return count


@inner
def reach(view: Any, base: int, row: int, rows: int, first: int, depth: int) -> tuple[int, int]:
    """Return the byte where the codes of some rows and steps begin, and the words from there."""
    low, high = base, base + 2
    for d, begin, end in ((ZERO, row, row + rows - 1), (TWO, first, first + depth - 1)):
        inner = view[V_SHAPE + d + 1]
        if end < inner:
            near, far = begin * view[V_STRIDE + d + 1], end * view[V_STRIDE + d + 1]
            low, high = low + min(near, far), high + max(near, far)
            continue
        outer, whole = view[V_STRIDE + d], (inner - 1) * view[V_STRIDE + d + 1]
        near, far = begin // inner * outer, end // inner * outer
        low, high = low + min(near, far) + min(whole, 0), high + max(near, far) + max(whole, 0)
    return low, high - low + 3 >> 2


@inner
def pack_batch(u8: Any, u16: Any, u32: Any, work32: Any, view: Any, base: int, row: int, rows: int, first: int,
               depth: int, drop: int) -> tuple[int, int, int]:  # fmt: skip
    """Put up to BATCH rows of the left operand into rows of pairs; return their range and how many were packed.

    drop: whether rows that hold only zeros may be left out. KEPT names the rows that are packed.
    """
    count = _segments(work32, view, first, depth)
    if count == 0:
        low, high = pack_left_pairs(u8, u16, work32, view, base, row, rows, rows, first, depth)
        for r in range(rows):
            poke(work32, KEPT + r, np.uint32(r))
        return low, high, rows
    lay_rows(work32, STARTS, view, row, rows, ONE)
    start, words, look = base, ZERO, ONE
    if count > 1:  # windows that overlap have fewer codes than rows: those are looked at once, gaps included
        start, words = reach(view, base, row, rows, first, depth)
        words = words + 15 & -16
        if 4 * words <= rows * depth and start & 3 == 0 and (start >> 2) + words <= u32.shape[0]:
            look = ZERO
    low, high, kept = swap_rows(u16, base >> 1, work32, STARTS, rows, SEGMENTS, count, PAIR_LEFT, PAIR_PITCH,
                                drop * look, KEPT, look)  # fmt: skip
    if not look:
        low, high = pair_range(u32, start >> 2, ZERO, ONE, words)
    return low, high, kept


@inner
def fetch_left(u16: Any, view: Any, base: int, rows: int, first: int, depth: int) -> None:
    """Ask for the first rows of a left operand early: where taps are instructions of their own, they lie far apart."""
    if view[V_STRIDE + 3] != 2 or first + depth > view[V_SHAPE + 3] or view[V_STRIDE + 1] <= 2 * depth:
        return
    inner, outer, index = view[V_SHAPE + 1], 0, 0
    for _ in range(rows):
        at = (base + outer * view[V_STRIDE] + index * view[V_STRIDE + 1] >> 1) + first
        for i in range(0, depth, 32):
            fetch(u16, at + i)
        index += 1
        if index == inner:
            index, outer = 0, outer + 1


@inner
def right_span(work32: Any, columns: int) -> tuple[int, int]:
    """Return the range of all panels of pairs of the right operand."""
    least, greatest = 0xFFFF, 0
    for panel in range(0, columns, COLUMNS):
        low, high = right_range(work32, panel)
        least, greatest = min(least, low), max(greatest, high)
    return least, greatest


@inner
def pack_right_pairs(u8: Any, u16: Any, work32: Any, view: Any, base: int, first: int, depth: int, column: int,
                     columns: int) -> None:  # fmt: skip
    """Put depth x columns of the right operand into panels of pairs and note the range of each in RANGES.

    Columns that fill the last panel, and the step that an odd depth lacks, are zero.
    """
    pairs, inner = (depth + 1) >> 1, view[V_SHAPE + 1]
    unit = view[V_DTYPE] == BF16 and view[V_STRIDE + 3] == 2 and column + columns <= view[V_SHAPE + 3]
    pitched = first + depth <= inner or view[V_STRIDE] == inner * view[V_STRIDE + 1]
    for panel in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - panel)
        at = PAIR_RIGHT + panel * pairs
        common = unit and pitched and width == COLUMNS  # COLUMNS neighbours a step, steps of one pitch
        joined = depth >> 1 if common else 0
        for i in range(joined * COLUMNS, pairs * COLUMNS):
            poke(work32, at + i, np.uint32(0))
        if common:
            clear_range(work32, SEEN)
            source = (base + offset(view, ZERO, first) >> 1) + column + panel
            join_steps(u16, source, view[V_STRIDE + 1] >> 1, work32, at, joined, SEEN)
            if not depth & 1:
                low, high = read_range(work32, SEEN)
                _note(work32, panel, low, high, ZERO)
                continue
        if view[V_STRIDE + 3] == view[X_ITEM]:
            for k in range(2 * joined, depth):
                start = base + offset(view, ZERO, first + k)
                _place(
                    u8, u16, work32, at + (k >> 1) * COLUMNS, ZERO, ONE, k & 1, view, TWO, start, column + panel, width
                )
        else:  # columns are not neighbours, so steps may be: walk along them
            for n in range(width):
                start = base + offset(view, TWO, column + panel + n)
                _place(u8, u16, work32, at + n, ONE, COLUMNS * ONE, ZERO, view, ZERO, start, first, depth)
        low, high = pair_range(work32, at, pairs * COLUMNS, ONE, pairs * COLUMNS)
        _note(work32, panel, low, high, ZERO)


@inner
def right_range(work32: Any, panel: int) -> tuple[Any, Any]:
    """Return the range of the panel of pairs that begins at column `panel` of the block."""
    note = RANGES + panel // COLUMNS * RANGE_WORDS
    return np.int64(work32[note]), np.int64(work32[note + 1])


@inner
def unpack_right(work32: Any, panel: int, depth: int) -> None:
    """Turn a panel of pairs into one of fp32, unless that was done before."""
    note = RANGES + panel // COLUMNS * RANGE_WORDS + 2
    if work32[note]:
        return
    work32[note] = np.uint32(1)
    pairs, to = PAIR_RIGHT + panel * ((depth + 1) >> 1), RIGHT + panel * depth
    part_steps(work32, pairs, to, depth >> 1)
    if depth & 1:
        for n in range(COLUMNS):
            pair = peek(work32, pairs + (depth >> 1) * COLUMNS + n)
            poke(work32, to + (depth - 1) * COLUMNS + n, np.uint32(pair & UPPER))
