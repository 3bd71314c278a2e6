"""Transfers of a recording run added to time bins, as many bytes as each moves in each bin."""

from __future__ import annotations

from accel.timing.compiled import njit
from accel.timing.state import (
    ENTRY_WORDS,
    K_BIN,
    K_BIN_FIRST,
    K_BIN_LAST,
    K_BINS,
    K_LANES,
    K_LINK_WORDS,
    K_WRITE_LANE,
    MOVE_BYTES,
    MOVE_CYCLES,
    MOVE_LANE,
    MOVE_START,
    MOVE_WORDS,
    O_BINS,
    O_ENTRIES,
    O_LINKS,
    SIZE_BYTES,
    Words,
)

__all__ = ["fill_bins"]


@njit
def fill_bins(m: Words, first: int, last: int) -> None:
    """Add the transfers noted in the words [first, last) of the memory to its bins.

    A link is known by its address, what a memory takes by that of its port router; these lanes lie behind the links.
    """
    width, origin, over, words = m[K_BIN], m[K_BIN_FIRST], m[K_BIN_LAST], m[K_LINK_WORDS]
    for at in range(first, last, MOVE_WORDS):
        place, start, cycles = m[at + MOVE_LANE], m[at + MOVE_START], m[at + MOVE_CYCLES]
        size = m[at + MOVE_BYTES] >> SIZE_BYTES
        lane = (place - m[O_LINKS]) // words
        if place >= m[O_ENTRIES]:
            lane = m[K_WRITE_LANE] + (place - m[O_ENTRIES]) // ENTRY_WORDS
        begin = max(0, (start - origin) // width)
        stop = min(start + cycles, over)  # the last bin may be shorter than the others
        if stop <= start:
            continue
        end = min(m[K_BINS], (stop - 1 - origin) // width + 1)
        for i in range(begin, end):
            a, b = max(start, origin + i * width) - start, min(stop, origin + (i + 1) * width) - start
            m[m[O_BINS] + i * m[K_LANES] + lane] += size * b // cycles - size * a // cycles
