"""Panels of matmul operands in the scratch: strided codes of any float format brought together as fp32 numbers.

They stand in the order in which `microkernel.tile` reads them. `pairpanels` holds the other kind, pairs of bf16 codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import V_DTYPE, V_SHAPE, V_STRIDE
from accel.machine.codes import decode
from accel.machine.dotkernel import PAIR_PITCH
from accel.machine.inner import inner
from accel.machine.microkernel import BLOCK_DEPTH, COLUMNS, HEIGHTS, ROW_PITCH, ROWS
from accel.machine.pairs import RANGE
from accel.machine.raw import peek, poke, widen
from accel.machine.words import ONE, TWO, X_ITEM, ZERO
from accel.numerics.formats import fmt

__all__ = [
    "BATCH", "BLOCK_COLUMNS", "CHAINS", "CORNER", "CORNERS", "EXACT_BLOCKS", "FAST", "FAST_BLOCKS", "FRAME", "JUDGED",
    "KEPT", "LEFT", "LEFTS", "LINE", "MOST_ROWS", "PAIR_LEFT", "PAIR_PITCHES", "PAIR_RIGHT", "PITCHES", "PLACES",
    "RANGES", "RANGE_WORDS", "RIGHT", "RIGHT_SIZE", "SCRATCH", "SEEN", "SEGMENTS", "SPANS", "STARTS", "WIDE_LEFTS",
    "block_height", "lay_block", "lay_corner", "lay_rows", "offset", "pack_left", "pack_right", "place_chains",
    "read_line", "widen_runs",
]  # fmt: skip

BF16 = fmt("bf16").code
BATCH = 8 * ROWS  # rows of the left operand packed at a time, which stay in a second-level cache
MOST_ROWS = 72 * ROWS  # rows of overlapping windows taken at a time
BLOCK_COLUMNS = 1024  # columns of the right operand packed at a time
FRAME = 1 << 16  # codes that overlapping windows may reach at a time: 128 KiB of pairs, 256 KiB of fp32
RIGHT_SIZE = 1 << 22  # elements of the right operand packed at a time where windows take them all

# The scratch, in words. Regions begin at multiples of 16 words, a cache line; pages that no product needs are never
# touched, so what all need stands together. Word i of PAIR_LEFT is the pair of words 2 i and 2 i + 1 of LEFT.
LEFT = 0
PAIR_LEFT = LEFT + max(FRAME + 64, (BATCH + ROWS) * ROW_PITCH)
CORNER = PAIR_LEFT + (PAIR_LEFT - LEFT) // 2 // 16 * 16 + 16  # a block of chains whose place no kernel can address
RANGES = CORNER + -(-ROWS * COLUMNS // 16) * 16  # a panel: least, greatest, whether it is in RIGHT as fp32
RANGE_WORDS = 3
LINE = RANGES + -(-RANGE_WORDS * (BLOCK_COLUMNS // COLUMNS + 1) // 16) * 16  # elements on their way to a panel
STATE = LINE + BLOCK_DEPTH
FAST, FAST_BLOCKS, EXACT_BLOCKS = STATE, STATE + 1, STATE + 2  # dot product on or off; blocks advanced either way
SEEN = STATE + 16  # the running range of a panel that is being packed
# Tables of rows of the left operand: where they begin, which of them take part in a block of steps, where those begin
# in PAIR_LEFT (in LEFT where operands are never pairs) and in LEFT, and where their chains are.
TABLE = MOST_ROWS + 2 * ROWS
STARTS = SEEN + RANGE
KEPT = STARTS + TABLE
LEFTS = KEPT + TABLE
WIDE_LEFTS = LEFTS + TABLE
CHAINS = WIDE_LEFTS + TABLE
PLACES = CHAINS + TABLE  # where the chains of all rows are
JUDGED = PLACES + TABLE  # the ranges of blocks that are judged one by one
SPANS = JUDGED + 2 * (MOST_ROWS // ROWS + 1)  # the first run and the end of those that are not zeros in a block
CORNERS = SPANS + 2 * (MOST_ROWS // ROWS + 1)  # where chains of a block stand in the corner
PITCHES = CORNERS + ROWS  # where the rows of one block begin in LEFT; and in PAIR_LEFT, for integers
PAIR_PITCHES = PITCHES + ROWS
SEGMENTS = PAIR_PITCHES + ROWS  # runs of steps in a row of the left operand: their starts and sizes
PAIR_RIGHT = (SEGMENTS + 2 * (BLOCK_DEPTH // 32) + 15) // 16 * 16
RIGHT = PAIR_RIGHT + RIGHT_SIZE // 2
SCRATCH = RIGHT + RIGHT_SIZE
if BLOCK_DEPTH * BLOCK_COLUMNS > RIGHT_SIZE or ROW_PITCH != 2 * PAIR_PITCH:
    raise AssertionError("the regions of the scratch do not fit each other")


@inner
def offset(view: Any, d: int, index: int) -> Any:
    """Return the byte offset of an index that runs through the pair of dimensions d and d + 1."""
    inner = view[V_SHAPE + d + 1]
    if index < inner:  # one level, or the first run of two: spares the division
        return index * view[V_STRIDE + d + 1]
    return (index // inner) * view[V_STRIDE + d] + (index % inner) * view[V_STRIDE + d + 1]


@inner
def block_height(rows: int) -> Any:
    """Return the height of the lowest block of a micro-kernel that holds this many rows."""
    height = ROWS * ONE
    for lower in HEIGHTS:
        if lower >= rows:
            height = lower
    return height


@inner
def lay_rows(work32: Any, at: int, view: Any, row: int, rows: int, shift: int) -> None:
    """Write to work32[at:] where rows of a view begin, as signed words of 2^shift bytes from its first element."""
    inner = view[V_SHAPE + 1]
    outer = row // inner
    index = row - outer * inner
    for r in range(rows):
        place = outer * view[V_STRIDE] + index * view[V_STRIDE + 1]
        poke(work32, at + r, np.uint32((place >> shift) & 0xFFFFFFFF))
        index += 1
        if index == inner:
            index, outer = 0, outer + 1


@inner
def lay_block(work32: Any, dst: Any, row: int, rows: int, padded: int) -> None:
    """Note the rows of one block, all of them, and where their chains begin; rows up to `padded` repeat the last."""
    lay_rows(work32, CHAINS, dst, row, rows, TWO)
    for r in range(rows):
        poke(work32, KEPT + r, np.uint32(r))
    for r in range(rows, padded):
        poke(work32, CHAINS + r, peek(work32, CHAINS + rows - 1))


@inner
def lay_corner(work32: Any) -> None:
    """Note where the rows of a block stand in the corner of the scratch, and those of panels of one block."""
    for r in range(ROWS):
        poke(work32, CORNERS + r, np.uint32(r * COLUMNS))
        poke(work32, PITCHES + r, np.uint32(r * ROW_PITCH))
        poke(work32, PAIR_PITCHES + r, np.uint32(r * PAIR_PITCH))


@inner
def place_chains(u32: Any, work32: Any, view: Any, base: int, row: int, block: int, rows: int, column: int,
                 columns: int, back: int) -> None:  # fmt: skip
    """Bring the bits of a block of dst to the corner of the scratch, or back to their place; base in bytes.

    Its rows are those that KEPT names from `block` on, counted from `row`.
    """
    unit = view[V_STRIDE + 3] == 4 and column + columns <= view[V_SHAPE + 3]
    if not back:  # the guard looks at whole vectors
        for i in range(rows * COLUMNS):
            poke(work32, CORNER + i, np.uint32(0))
    for r in range(rows):
        number: Any = np.int64(peek(work32, KEPT + block + r))
        start, corner = base + offset(view, ZERO, row + number), CORNER + r * COLUMNS
        if unit:
            first = (start >> 2) + column
            if back:
                for c in range(columns):
                    poke(u32, first + c, peek(work32, corner + c))
            else:
                for c in range(columns):
                    poke(work32, corner + c, peek(u32, first + c))
        else:
            for c in range(columns):
                at = (start + offset(view, TWO, column + c)) >> 2
                if back:
                    u32[at] = work32[corner + c]
                else:
                    work32[corner + c] = u32[at]


@inner
def read_line(u8: Any, u16: Any, u32: Any, work32: Any, to: int, view: Any, bias: int, d: int, start: int, first: int,
              count: int, units: Any) -> None:  # fmt: skip
    """Write `count` elements from index `first` on along a pair of dimensions to work[to:] as fp32 bits.

    start: byte address of index 0; bias: the operand's bias word.
    """
    inner, stride, dtype = view[V_SHAPE + d + 1], view[V_STRIDE + d + 1], view[V_DTYPE]
    done = 0
    while done < count:
        index = first + done
        run = min(count - done, inner - (index if index < inner else index % inner))
        source = start + offset(view, d, index)
        decode(u8, u16, u32, work32, to + done, dtype, bias, source, stride, run, units)
        done += run


@inner
def widen_runs(u16: Any, work32: Any, to: int, view: Any, start: int, first: int, count: int) -> None:
    """Write `count` bf16 numbers from index `first` on along dimensions 2 and 3, neighbours in 3, to work[to:]."""
    inner = view[V_SHAPE + 3]
    if first + count <= inner or view[V_STRIDE + 2] == 2 * inner:  # one run, or runs that stand side by side
        widen(u16, (start >> 1) + first, work32, to, count)
        return
    done = 0
    while done < count:
        index = first + done
        run = min(count - done, inner - index % inner)
        widen(u16, start + offset(view, TWO, index) >> 1, work32, to + done, run)
        done += run


@inner
def pack_left(u8: Any, u16: Any, u32: Any, work32: Any, view: Any, bias: int, base: int, row: int, rows: int,
              padded: int, first: int, depth: int, units: Any) -> None:  # fmt: skip
    """Widen rows x depth of the left operand to fp32 rows of ROW_PITCH; rows up to `padded` repeat the last."""
    runs = view[V_DTYPE] == BF16 and view[V_STRIDE + 3] == 2
    for r in range(rows):
        start = base + offset(view, ZERO, row + r)
        if runs:
            widen_runs(u16, work32, LEFT + r * ROW_PITCH, view, start, first, depth)
        else:
            read_line(u8, u16, u32, work32, LEFT + r * ROW_PITCH, view, bias, TWO, start, first, depth, units)
    for r in range(rows, padded):
        for i in range(depth):
            poke(work32, LEFT + r * ROW_PITCH + i, peek(work32, LEFT + (rows - 1) * ROW_PITCH + i))


@inner
def pack_right(u8: Any, u16: Any, u32: Any, work32: Any, view: Any, bias: int, base: int, first: int, depth: int,
               column: int, columns: int, units: Any) -> None:  # fmt: skip
    """Widen depth x columns of the right operand to panels of COLUMNS columns, the last one padded with zeros."""
    runs = view[V_DTYPE] == BF16 and view[V_STRIDE + 3] == 2 and column + columns <= view[V_SHAPE + 3]
    inner, step = view[V_SHAPE + 1], view[V_STRIDE + 1] >> 1
    pitched = first + depth <= inner or view[V_STRIDE] == inner * view[V_STRIDE + 1]
    for panel in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - panel)
        at = RIGHT + panel * depth
        if width < COLUMNS:
            for i in range(depth * COLUMNS):
                poke(work32, at + i, np.uint32(0))
        if runs and pitched:  # the common case: neighbours in a step, steps of one pitch
            source = (base + offset(view, ZERO, first) >> 1) + column + panel
            for k in range(depth):
                widen(u16, source + k * step, work32, at + k * COLUMNS, width)
        elif view[V_STRIDE + 3] == view[X_ITEM]:
            for k in range(depth):
                start = base + offset(view, ZERO, first + k)
                read_line(u8, u16, u32, work32, at + k * COLUMNS, view, bias, TWO, start, column + panel, width, units)
        else:  # columns are not neighbours, so steps may be: walk along them
            for n in range(width):
                start = base + offset(view, TWO, column + panel + n)
                read_line(u8, u16, u32, work32, LINE, view, bias, ZERO, start, first, depth, units)
                for k in range(depth):
                    poke(work32, at + k * COLUMNS + n, peek(work32, LINE + k))
