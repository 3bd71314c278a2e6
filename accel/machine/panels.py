"""Panels of matmul operands in the scratch: strided codes brought together in the order in which the kernels read.

Two kinds of panel: fp32 numbers for `microkernel.tile`, and pairs of bf16 codes for `dotkernel.tile_pairs`. Pairs can
be turned into fp32 where a block turns out to need the exact kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_SHAPE, V_STRIDE
from accel.machine.dotkernel import PAIR_PITCH
from accel.machine.inner import inner
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, ROW_PITCH, ROWS
from accel.machine.pairs import NO_STEP, join_rows, pair_range, swap_pairs
from accel.machine.raw import peek, poke, widen
from accel.machine.words import ONE, TWO, ZERO

__all__ = [
    "BLOCK_COLUMNS", "CORNER", "EXACT_BLOCKS", "FAST", "FAST_BLOCKS", "LEFT", "PAIR_LEFT", "PAIR_RIGHT", "RIGHT",
    "SCRATCH", "offset", "pack_left", "pack_left_pairs", "pack_right", "pack_right_pairs", "right_range",
    "unpack_left", "unpack_right",
]  # fmt: skip

BLOCK_COLUMNS = 1024  # columns of the right operand packed at a time: 2 MiB of fp32, 1 MiB of pairs

# The scratch, in words. Regions begin at multiples of 16 words, a cache line.
LEFT = 0
RIGHT = LEFT + ROWS * ROW_PITCH
CORNER = RIGHT + BLOCK_DEPTH * BLOCK_COLUMNS  # one block of chains whose place in dst no kernel can address
PAIR_LEFT = CORNER + -(-ROWS * COLUMNS // 16) * 16
PAIR_RIGHT = PAIR_LEFT + ROWS * PAIR_PITCH
RANGES = PAIR_RIGHT + BLOCK_DEPTH // 2 * BLOCK_COLUMNS  # a panel: least, greatest, whether it is in RIGHT as fp32
RANGE_WORDS = 3
STATE = RANGES + -(-RANGE_WORDS * (BLOCK_COLUMNS // COLUMNS + 1) // 16) * 16
FAST, FAST_BLOCKS, EXACT_BLOCKS = STATE, STATE + 1, STATE + 2  # dot product on or off; blocks advanced either way
SCRATCH = STATE + 16


@inner
def offset(view: Any, d: int, index: int) -> Any:
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
        source, to = (start + offset(view, d, index)) >> 1, at + done * step
        if stride == 1 and step == 1:
            widen(u16, source, work32, to, run)
        else:
            for i in range(run):
                poke(work32, to + i * step, np.uint32(peek(u16, source + i * stride)) << np.uint32(16))
        done += run


@inner
def pack_left(u16: Any, work32: Any, view: Any, base: int, row: int, rows: int, padded: int, first: int,
              depth: int) -> None:  # fmt: skip
    """Widen rows x depth of the left operand to fp32 rows of ROW_PITCH; rows up to `padded` become zero."""
    for r in range(rows):
        _widen(u16, work32, LEFT + r * ROW_PITCH, ONE, view, TWO, base + offset(view, ZERO, row + r), first, depth)
    for r in range(rows, padded):
        for i in range(depth):
            work32[LEFT + r * ROW_PITCH + i] = np.uint32(0)


@inner
def pack_right(u16: Any, work32: Any, view: Any, base: int, first: int, depth: int, column: int, columns: int) -> None:
    """Widen depth x columns of the right operand to panels of COLUMNS columns, the last one padded with zeros."""
    unit = view[V_STRIDE + 3] == 2 and column + columns <= view[V_SHAPE + 3]
    for panel in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - panel)
        at = RIGHT + panel * depth
        if unit and width == COLUMNS:  # the common case: COLUMNS neighbours a step
            for k in range(depth):
                source = (base + offset(view, ZERO, first + k) >> 1) + column + panel
                widen(u16, source, work32, at + k * COLUMNS, COLUMNS)
            continue
        if width < COLUMNS:
            for i in range(depth * COLUMNS):
                work32[at + i] = np.uint32(0)
        if view[V_STRIDE + 3] == 2:
            for k in range(depth):
                start = base + offset(view, ZERO, first + k)
                _widen(u16, work32, at + k * COLUMNS, ONE, view, TWO, start, column + panel, width)
        else:  # columns are not neighbours, so steps may be: walk along them
            for n in range(width):
                start = base + offset(view, TWO, column + panel + n)
                _widen(u16, work32, at + n, COLUMNS * ONE, view, ZERO, start, first, depth)


@inner
def _place(u16: Any, work32: Any, at: int, pairs: int, step: int, lower: int, view: Any, d: int, start: int,
           first: int, count: int) -> None:  # fmt: skip
    """Put `count` codes from index `first` on along a pair of dimensions into halves of words, clearing the other half.

    pairs 1: along the steps, so two neighbours share a word: element i goes to word i // 2 of those `step` apart.
    pairs 0: across them: element i goes to word i; `lower` says to which half, and the lower one is added to the upper.
    """
    inner, stride = view[V_SHAPE + d + 1], view[V_STRIDE + d + 1] >> 1
    done = 0
    while done < count:
        index = first + done
        run = min(count - done, inner - (index if index < inner else index % inner))
        source = (start + offset(view, d, index)) >> 1
        for i in range(run):
            code = np.uint32(peek(u16, source + i * stride))
            element = done + i
            to = at + (element >> 1 if pairs else element) * step
            if (element & 1 if pairs else lower) == 0:
                poke(work32, to, np.uint32(code << np.uint32(16)))
            else:
                poke(work32, to, np.uint32(peek(work32, to) | code))
        done += run


@inner
def pack_left_pairs(u16: Any, work32: Any, view: Any, base: int, row: int, rows: int, padded: int, first: int,
                    depth: int) -> tuple[int, int]:  # fmt: skip
    """Put rows x depth of the left operand into rows of pairs and return their range (`pairs.pair_range`).

    The step that an odd depth lacks is NO_STEP; rows up to `padded` and what fills the last line become zero.
    """
    pairs = (depth + 1) >> 1
    filled = (pairs + 15) // 16 * 16
    unit = view[V_STRIDE + 3] == 2 and first + depth <= view[V_SHAPE + 3]
    least, greatest = 0xFFFF, 0
    for r in range(padded):
        at = PAIR_LEFT + r * PAIR_PITCH
        for i in range(depth >> 1 if r < rows else 0, filled):
            poke(work32, at + i, np.uint32(0))
        if r >= rows:
            continue
        start = base + offset(view, ZERO, row + r)
        if unit:
            source = (start >> 1) + first
            swap_pairs(u16, source, work32, at, depth >> 1)
            if depth & 1:
                code = np.uint32(peek(u16, source + depth - 1))
                poke(work32, at + pairs - 1, np.uint32((code << np.uint32(16)) | NO_STEP))
        else:
            _place(u16, work32, at, ONE, ONE, ZERO, view, TWO, start, first, depth)
            if depth & 1:
                poke(work32, at + pairs - 1, np.uint32(peek(work32, at + pairs - 1) | NO_STEP))
        low, high = pair_range(work32, at, filled)
        least, greatest = min(least, low), max(greatest, high)
    return least, greatest


@inner
def pack_right_pairs(u16: Any, work32: Any, view: Any, base: int, first: int, depth: int, column: int,
                     columns: int) -> None:  # fmt: skip
    """Put depth x columns of the right operand into panels of pairs and note the range of each in RANGES.

    Columns that fill the last panel, and the step that an odd depth lacks, are zero.
    """
    pairs = (depth + 1) >> 1
    unit = view[V_STRIDE + 3] == 2 and column + columns <= view[V_SHAPE + 3]
    for panel in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - panel)
        at = PAIR_RIGHT + panel * pairs
        whole = unit and width == COLUMNS
        for i in range(0 if not whole else (pairs - (depth & 1)) * COLUMNS, pairs * COLUMNS):
            poke(work32, at + i, np.uint32(0))
        if whole:  # the common case: COLUMNS neighbours a step
            for p in range(depth >> 1):
                upper = (base + offset(view, ZERO, first + 2 * p) >> 1) + column + panel
                lower = (base + offset(view, ZERO, first + 2 * p + 1) >> 1) + column + panel
                join_rows(u16, upper, lower, work32, at + p * COLUMNS, COLUMNS)
            if depth & 1:
                start = base + offset(view, ZERO, first + depth - 1)
                _place(u16, work32, at + (pairs - 1) * COLUMNS, ZERO, ONE, ZERO, view, TWO, start, column + panel,
                       width)  # fmt: skip
        elif view[V_STRIDE + 3] == 2:
            for k in range(depth):
                start = base + offset(view, ZERO, first + k)
                _place(u16, work32, at + (k >> 1) * COLUMNS, ZERO, ONE, k & 1, view, TWO, start, column + panel, width)
        else:  # columns are not neighbours, so steps may be: walk along them
            for n in range(width):
                start = base + offset(view, TWO, column + panel + n)
                _place(u16, work32, at + n, ONE, COLUMNS * ONE, ZERO, view, ZERO, start, first, depth)
        note = RANGES + panel // COLUMNS * RANGE_WORDS
        low, high = pair_range(work32, at, pairs * COLUMNS)
        work32[note], work32[note + 1], work32[note + 2] = np.uint32(low), np.uint32(high), np.uint32(0)


@inner
def right_range(work32: Any, panel: int) -> tuple[Any, Any]:
    """Return the range of the panel of pairs that begins at column `panel` of the block."""
    note = RANGES + panel // COLUMNS * RANGE_WORDS
    return np.int64(work32[note]), np.int64(work32[note + 1])


@inner
def unpack_left(work32: Any, rows: int, depth: int) -> None:
    """Turn the rows of pairs into rows of fp32."""
    for r in range(rows):
        for i in range(depth):
            pair = peek(work32, PAIR_LEFT + r * PAIR_PITCH + (i >> 1))
            code = np.uint32(pair << np.uint32(16)) if i & 1 else np.uint32(pair & np.uint32(0xFFFF0000))
            poke(work32, LEFT + r * ROW_PITCH + i, code)


@inner
def unpack_right(work32: Any, panel: int, depth: int) -> None:
    """Turn a panel of pairs into one of fp32, unless that was done before."""
    note = RANGES + panel // COLUMNS * RANGE_WORDS + 2
    if work32[note]:
        return
    work32[note] = np.uint32(1)
    pairs, to = PAIR_RIGHT + panel * ((depth + 1) >> 1), RIGHT + panel * depth
    for k in range(depth):
        for n in range(COLUMNS):
            pair = peek(work32, pairs + (k >> 1) * COLUMNS + n)
            code = np.uint32(pair << np.uint32(16)) if k & 1 else np.uint32(pair & np.uint32(0xFFFF0000))
            poke(work32, to + k * COLUMNS + n, code)
