"""Jitted shadow of SRAM and memory: live access records (races), bytes that hold a value, and the table of hits."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.footprint import all_set, contains, mark, overlap
from accel.check.layout import Ints, State
from accel.check.order import knows, knows_at_once, serial_of
from accel.isa.layout import SPACE_SRAM

__all__ = [
    "access",
    "check_read",
    "group_of",
    "hit",
    "mark_written",
    "own_overlap",
    "place_of",
    "site_of",
    "written",
]


OWN = 62  # threads of a node whose knowledge a record keeps


@inner
def hit(m: Ints, kind: int, obj: int, first: int, second: int, node: int, way: int, where: int, extra: int,
        other: int) -> None:  # fmt: skip
    """Note a finding once; `extra` and `other` are those of the first of its kind.

    A full table takes no more: by then it holds thousands, and the caller grows it between instructions.
    """
    size = m[w.M_HIT_SIZE]
    if m[w.X_HITS] * 4 >= size * 3:
        return
    h = kind * 31 + obj
    h = (h * 1009 + first) & 0xFFFFFFFF
    h = (h * 1013 + second) & 0xFFFFFFFF
    h = (h * 1019 + node * 8 + way) & 0xFFFFFFFF
    h = (h * 1021 + where) & 0xFFFFFFFF
    slot = (h ^ (h >> 15)) & (size - 1)
    at = m[w.M_HITS] + slot * w.H_WORDS
    while m[at + w.H_KIND] != w.HIT_NONE:
        if (
            m[at + w.H_KIND] == kind and m[at + w.H_OBJECT] == obj and m[at + w.H_FIRST] == first
            and m[at + w.H_SECOND] == second and m[at + w.H_NODE] == node and m[at + w.H_WAY] == way
            and m[at + w.H_WHERE] == where
        ):  # fmt: skip
            return
        slot = (slot + 1) & (size - 1)
        at = m[w.M_HITS] + slot * w.H_WORDS
    m[at + w.H_KIND], m[at + w.H_OBJECT], m[at + w.H_FIRST], m[at + w.H_SECOND] = kind, obj, first, second
    m[at + w.H_NODE], m[at + w.H_WAY], m[at + w.H_WHERE] = node, way, where
    m[at + w.H_EXTRA], m[at + w.H_OTHER] = extra, other
    m[w.X_HITS] += 1


@inner
def site_of(m: Ints, row: int) -> int:
    """Return the first row with the source line and mnemonic of `row`."""
    return int(m[m[w.M_SITES] + row])


@inner
def group_of(m: Ints, foot: int) -> int:
    """Return the address of the group that a footprint lies in."""
    return int(m[w.M_GROUP] + m[foot + w.F_GROUP] * w.R_WORDS)


@inner
def _leading(m: Ints, g: int, at: int) -> int:
    """Return the first index of byte `at` in a buffer of three or more dimensions, -1 for other groups."""
    lead = m[g + w.R_LEAD]
    return int((at - m[g + w.R_LOW]) // lead) if lead > 0 else -1


@inner
def _over(s: State, i: int, r: int) -> bool:
    """Say whether thread i knows that the access of record r is over.

    A copy has read its source when `sent` fired, or when it has written every destination.
    """
    m = s.m
    serial = m[r + w.A_SERIAL]
    if knows(s, i, m[r + w.A_COMP], m[r + w.A_TICK], serial):
        return True
    for event in range(m[r + w.A_FIRST], m[r + w.A_FIRST] + m[r + w.A_MANY]):
        if not knows(s, i, w.COPIED, event, serial):
            return False
    return bool(m[r + w.A_MANY] > 0)


@inner
def _surely_over(s: State, i: int, r: int, node: int) -> bool:
    """Like `_over`, and remember who knows: weights that are loaded once are asked for on every trip of a loop."""
    m = s.m
    threads = m[w.M_THREADS]
    own = i // threads == node and i % threads < OWN and m[m[r + w.A_FOOT] + w.F_SPACE] == SPACE_SRAM
    if own and (m[r + w.A_KNOWN] >> (i % threads)) & 1 != 0:
        return True
    if m[r + w.A_KNOWS] == i + 1:
        return True
    if not _over(s, i, r):
        return False
    if own:
        m[r + w.A_KNOWN] |= 1 << (i % threads)
    else:
        m[r + w.A_KNOWS] = i + 1
    return True


@inner
def _over_at_once(s: State, i: int, r: int) -> bool:
    m = s.m
    return knows_at_once(s, i, m[r + w.A_COMP], m[r + w.A_TICK], m[r + w.A_SERIAL]) or (
        m[r + w.A_MANY] == 1 and knows_at_once(s, i, w.COPIED, m[r + w.A_FIRST], m[r + w.A_SERIAL])
    )


@inner
def _visit(s: State, i: int, at: int, foot: int, low: int, node: int, comp: int, tick: int, write: int, row: int,
           first: int, many: int, own: int) -> None:  # fmt: skip
    """Check the list of records whose head is at `at` against a new access and add the access to it.

    own: the record of the instruction's own read, which only overlaps; with a minus sign where it is exactly in place.
    """
    m = s.m
    link = at
    r = m[at]
    while r != 0:
        old_write, old_foot, old_low = m[r + w.A_WRITE], m[r + w.A_FOOT], m[r + w.A_LOW]
        gone = False
        if write == 1 or old_write == 1:
            if r != -own and overlap(m, foot, low, old_foot, old_low):
                # who comes after the new access comes after this one, or has this race reported: once is enough
                gone = write == 1 and contains(m, foot, low, old_foot, old_low)
                if not _surely_over(s, i, r, node):
                    where = max(low, old_low)
                    whose = w.NO_ROW if r == own else m[r + w.A_NODE]
                    hit(m, w.HIT_RACE, m[foot + w.F_GROUP], site_of(m, m[r + w.A_ROW]), site_of(m, row), node,
                        2 * old_write + write, _leading(m, group_of(m, foot), where), where, whose)  # fmt: skip
        else:
            gone = contains(m, foot, low, old_foot, old_low) and _over_at_once(s, i, r)
        following = m[r + w.A_NEXT]
        if gone:
            m[link] = following
            m[r + w.A_NEXT] = m[w.X_RECORD_FREE]
            m[w.X_RECORD_FREE] = r
            m[w.X_RECORDS] += 1
        else:
            link = r + w.A_NEXT
        r = following
    r = m[w.X_RECORD_FREE]
    m[w.X_RECORD_FREE] = m[r + w.A_NEXT]
    m[w.X_RECORDS] -= 1
    m[r + w.A_NEXT], m[r + w.A_COMP], m[r + w.A_TICK], m[r + w.A_LOW], m[r + w.A_FOOT] = m[at], comp, tick, low, foot
    m[r + w.A_WRITE], m[r + w.A_ROW], m[r + w.A_FIRST], m[r + w.A_MANY], m[r + w.A_NODE] = write, row, first, many, node
    m[r + w.A_SERIAL], m[r + w.A_KNOWN], m[r + w.A_KNOWS] = serial_of(m), 0, 0
    m[at] = r


@inner
def place_of(m: Ints, foot: int, address: int) -> int:
    """Return the lowest byte of a view at `address`; in a ring, of the piece that does not begin before the ring."""
    low = address + m[foot + w.F_OFF]
    ring = m[foot + w.F_RING]
    return int(m[foot + w.F_LOW] + (low - m[foot + w.F_LOW]) % ring) if ring > 0 else int(low)


@inner
def wraps(m: Ints, foot: int, low: int) -> bool:
    """Say whether a view goes on at the begin of its ring; that piece has its lowest byte at `low` - F_RING."""
    return bool(m[foot + w.F_RING] > 0 and low + m[foot + w.F_SPAN] > m[foot + w.F_HIGH])


@inner
def access(s: State, i: int, foot: int, low: int, node: int, comp: int, tick: int, write: int, row: int,
           first: int = 0, many: int = 0, own: int = 0) -> int:  # fmt: skip
    """Record the access (comp, tick) of thread i or of a copy that it issues now, and report every race with it.

    `low` is from `place_of`; `node` is where the bytes lie (SRAM) or who accesses them (memory); `many` events from
    `first` on are the writes that also end a copy's read; `own` as in `_visit`. Return the record, 0 if none is kept.
    """
    m = s.m
    g = group_of(m, foot)
    if m[g + w.R_KEPT] == 0:
        return 0
    lists = m[w.M_LISTS] + m[g + w.R_LIST]
    begin = last = node
    if m[foot + w.F_SPACE] != SPACE_SRAM:
        begin = (low - m[g + w.R_LOW]) >> m[g + w.R_SHIFT]
        last = (low + m[foot + w.F_SPAN] - 1 - m[g + w.R_LOW]) >> m[g + w.R_SHIFT]
    for bucket in range(begin, last + 1):
        _visit(s, i, lists + bucket, foot, low, node, comp, tick, write, row, first, many, own)
    record = int(m[lists + last])
    if wraps(m, foot, low):
        low -= m[foot + w.F_RING]
        _visit(s, i, lists + node, foot, low, node, comp, tick, write, row, first, many, own)
    return record


@inner
def _share(m: Ints, foot: int, low: int, other: int, there: int) -> bool:
    """Say whether two views share a byte, the second in both its pieces if it wraps."""
    return overlap(m, foot, low, other, there) or (
        wraps(m, other, there) and overlap(m, foot, low, other, there - m[other + w.F_RING])
    )


@inner
def own_overlap(m: Ints, foot: int, low: int, other: int, there: int, node: int, row: int) -> None:
    """Report an instruction whose write overlaps its own read in part: no order of its elements is promised."""
    if m[foot + w.F_GROUP] == m[other + w.F_GROUP] and (
        _share(m, foot, low, other, there)
        or (wraps(m, foot, low) and _share(m, foot, low - m[foot + w.F_RING], other, there))
    ):
        where = max(low, there)
        hit(m, w.HIT_RACE, m[foot + w.F_GROUP], site_of(m, row), site_of(m, row), node, w.WRITE,
            _leading(m, group_of(m, foot), where), where, w.NO_ROW)  # fmt: skip


@inner
def _bits_of(m: Ints, foot: int, node: int) -> tuple[int, int]:
    """Return where the count of unset bits of the group is, and its first shadow word on a node."""
    group = m[foot + w.F_GROUP]
    nodes, groups, words = m[w.M_NODES], m[w.M_GROUPS], m[w.M_NODE_BITS]
    word = m[group_of(m, foot) + w.R_WORD]
    if m[foot + w.F_SPACE] == SPACE_SRAM:
        return int(m[w.M_MISSING] + node * groups + group), int(node * words + word)
    return int(m[w.M_MISSING] + nodes * groups + group - groups), int(nodes * words + word)


@inner
def written(s: State, foot: int, low: int, node: int) -> bool:
    """Say whether every byte of a view holds a value."""
    m = s.m
    g = group_of(m, foot)
    count, word = _bits_of(m, foot, node)
    if m[g + w.R_SHADOW] == 0 or m[count] == 0:
        return True
    grain, zero = m[g + w.R_GRAIN], m[g + w.R_LOW]
    return all_set(m, s.bits, word, grain, foot, low, zero) and (
        not wraps(m, foot, low) or all_set(m, s.bits, word, grain, foot, low - m[foot + w.F_RING], zero)
    )


@inner
def check_read(s: State, foot: int, low: int, node: int, row: int) -> None:
    """Report a read of bytes that nothing has written."""
    m = s.m
    if not written(s, foot, low, node):
        hit(m, w.HIT_UNINITIALISED, m[foot + w.F_GROUP], site_of(m, row), w.NO_ROW, node, w.NOTHING,
            _leading(m, group_of(m, foot), low), low, node)  # fmt: skip


@inner
def mark_written(s: State, foot: int, low: int, node: int) -> None:
    """Note that the bytes of a view hold a value."""
    m = s.m
    g = group_of(m, foot)
    count, word = _bits_of(m, foot, node)
    if m[g + w.R_SHADOW] != 0 and m[count] != 0:
        grain, zero = m[g + w.R_GRAIN], m[g + w.R_LOW]
        m[count] -= mark(m, s.bits, word, grain, foot, low, zero)
        if wraps(m, foot, low):
            m[count] -= mark(m, s.bits, word, grain, foot, low - m[foot + w.F_RING], zero)
