"""Jitted shadow of SRAM and memory: live access records (races), bytes that hold a value, and the table of hits."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.clocks import knows
from accel.check.footprint import all_set, contains, mark, overlap
from accel.check.layout import State, Tables
from accel.jit import njit

__all__ = ["access", "add_epoch", "check_read", "drop_epochs", "hit", "kept", "leading", "mark_written", "written"]


@njit
def hit(s: State, kind: int, obj: int, first: int, second: int, node: int, way: int, where: int, extra: int,
        other: int) -> None:  # fmt: skip
    """Note a finding once; `extra` and `other` are those of the first of its kind.

    A full table takes no more: by then it holds thousands, and the caller grows it between instructions.
    """
    size = s.hits.shape[0]
    if s.top[w.X_HITS] * 4 >= size * 3:
        return
    h = kind * 31 + obj
    h = (h * 1009 + first) & 0xFFFFFFFF
    h = (h * 1013 + second) & 0xFFFFFFFF
    h = (h * 1019 + node * 8 + way) & 0xFFFFFFFF
    h = (h * 1021 + where) & 0xFFFFFFFF
    at = (h ^ (h >> 15)) & (size - 1)
    while s.hits[at, w.H_KIND] != w.HIT_NONE:
        row = s.hits[at]
        if (
            row[w.H_KIND] == kind and row[w.H_OBJECT] == obj and row[w.H_FIRST] == first and row[w.H_SECOND] == second
            and row[w.H_NODE] == node and row[w.H_WAY] == way and row[w.H_WHERE] == where
        ):  # fmt: skip
            return
        at = (at + 1) & (size - 1)
    s.hits[at, w.H_KIND], s.hits[at, w.H_OBJECT] = kind, obj
    s.hits[at, w.H_FIRST], s.hits[at, w.H_SECOND] = first, second
    s.hits[at, w.H_NODE], s.hits[at, w.H_WAY], s.hits[at, w.H_WHERE] = node, way, where
    s.hits[at, w.H_EXTRA], s.hits[at, w.H_OTHER] = extra, other
    s.top[w.X_HITS] += 1


@njit
def kept(t: Tables, view: int) -> bool:
    """Say whether accesses through this view need records at all (a tensor that no copy stores does not)."""
    return bool(t.groups[t.foot[view, w.F_GROUP], w.R_KEPT])


@njit
def leading(t: Tables, group: int, at: int) -> int:
    """Return the first index of byte `at` in a buffer of three or more dimensions, -1 for other groups."""
    lead = t.groups[group, w.R_LEAD]
    return int((at - t.groups[group, w.R_LOW]) // lead) if lead > 0 else -1


@njit
def add_epoch(s: State, head: int, comp: int, tick: int) -> int:
    """Put (comp, tick) before the list `head` of epochs and return the new head."""
    e = s.top[w.X_EPOCH_FREE]
    s.top[w.X_EPOCH_FREE] = s.epochs[e, w.E_NEXT]
    s.top[w.X_EPOCHS] -= 1
    s.epochs[e, w.E_NEXT], s.epochs[e, w.E_COMP], s.epochs[e, w.E_TICK] = head, comp, tick
    return int(e)


@njit
def drop_epochs(s: State, head: int) -> None:
    """Give a list of epochs back."""
    while head >= 0:
        following = s.epochs[head, w.E_NEXT]
        s.epochs[head, w.E_NEXT] = s.top[w.X_EPOCH_FREE]
        s.top[w.X_EPOCH_FREE] = head
        s.top[w.X_EPOCHS] += 1
        head = following


@njit
def _copy_epochs(s: State, head: int) -> int:
    new = -1
    while head >= 0:
        new = add_epoch(s, new, s.epochs[head, w.E_COMP], s.epochs[head, w.E_TICK])
        head = s.epochs[head, w.E_NEXT]
    return new


@njit
def _over(s: State, i: int, r: int) -> bool:
    """Say whether thread i knows that the access of record r is over.

    A copy has read its source when `sent` fired, or when it has written every destination.
    """
    if knows(s, i, s.records[r, w.A_COMP], s.records[r, w.A_TICK]):
        return True
    e = s.records[r, w.A_EPOCHS]
    if e < 0:
        return False
    while e >= 0:
        if not knows(s, i, s.epochs[e, w.E_COMP], s.epochs[e, w.E_TICK]):
            return False
        e = s.epochs[e, w.E_NEXT]
    return True


@njit
def _visit(t: Tables, s: State, i: int, at: int, view: int, low: int, node: int, comp: int, tick: int, write: int,
           row: int, epochs: int) -> None:  # fmt: skip
    """Check one list of records against a new access and add the access to it."""
    before = -1
    r = s.heads[at]
    while r >= 0:
        following = s.records[r, w.A_NEXT]
        old_write, old_view, old_low = s.records[r, w.A_WRITE], s.records[r, w.A_VIEW], s.records[r, w.A_LOW]
        gone = False
        if _over(s, i, r):
            # whoever comes after the new access comes after this one: it need not be kept
            gone = (write == 1 or old_write == 0) and contains(t.foot, view, low, old_view, old_low)
        elif (write == 1 or old_write == 1) and overlap(t.foot, view, low, old_view, old_low):
            group = t.foot[view, w.F_GROUP]
            way = 2 * old_write + write
            where = max(low, old_low)
            hit(s, w.HIT_RACE, group, t.sites[s.records[r, w.A_ROW]], t.sites[row], node, way,
                leading(t, group, where), where, s.records[r, w.A_NODE])  # fmt: skip
            gone = write == 1 and contains(t.foot, view, low, old_view, old_low)  # one report is enough
        if gone:
            if before < 0:
                s.heads[at] = following
            else:
                s.records[before, w.A_NEXT] = following
            drop_epochs(s, s.records[r, w.A_EPOCHS])
            s.records[r, w.A_NEXT] = s.top[w.X_RECORD_FREE]
            s.top[w.X_RECORD_FREE] = r
            s.top[w.X_RECORDS] += 1
        else:
            before = r
        r = following
    r = s.top[w.X_RECORD_FREE]
    s.top[w.X_RECORD_FREE] = s.records[r, w.A_NEXT]
    s.top[w.X_RECORDS] -= 1
    s.records[r, w.A_NEXT], s.records[r, w.A_COMP], s.records[r, w.A_TICK] = s.heads[at], comp, tick
    s.records[r, w.A_LOW], s.records[r, w.A_VIEW], s.records[r, w.A_WRITE] = low, view, write
    s.records[r, w.A_ROW], s.records[r, w.A_EPOCHS], s.records[r, w.A_NODE] = row, _copy_epochs(s, epochs), node
    s.heads[at] = r


@njit
def access(t: Tables, s: State, i: int, view: int, address: int, node: int, comp: int, tick: int, write: int,
           row: int, epochs: int) -> None:  # fmt: skip
    """Record the access (comp, tick) of thread i or of a copy that it issues now, and report every race with it.

    `node` is where the bytes lie (SRAM) or who accesses them (memory); `epochs` stays the caller's.
    """
    group = t.foot[view, w.F_GROUP]
    g = t.groups[group]
    if g[w.R_KEPT] == 0:
        return
    low = address + t.foot[view, w.F_OFF]
    if t.foot[view, w.F_SPACE] == 0:
        _visit(t, s, i, g[w.R_LIST] + node, view, low, node, comp, tick, write, row, epochs)
        return
    first = (low - g[w.R_LOW]) >> g[w.R_SHIFT]
    last = (low + t.foot[view, w.F_SPAN] - 1 - g[w.R_LOW]) >> g[w.R_SHIFT]
    for bucket in range(first, last + 1):
        _visit(t, s, i, g[w.R_LIST] + bucket, view, low, node, comp, tick, write, row, epochs)


@njit
def _place(t: Tables, view: int, node: int) -> tuple[int, int]:
    """Return the counter of unset bits and the first shadow word of the group of a view on a node."""
    group = t.foot[view, w.F_GROUP]
    nodes, groups, words = t.geom[w.G_NODES], t.geom[w.G_GROUPS], t.geom[w.G_WORDS_NODE]
    if t.foot[view, w.F_SPACE] == 0:
        return int(node * groups + group), int(node * words + t.groups[group, w.R_WORD])
    return int(nodes * groups + group - groups), int(nodes * words + t.groups[group, w.R_WORD])


@njit
def written(t: Tables, s: State, view: int, address: int, node: int) -> bool:
    """Say whether every byte of a view holds a value."""
    g = t.groups[t.foot[view, w.F_GROUP]]
    count, word = _place(t, view, node)
    if g[w.R_SHADOW] != 1 or s.missing[count] == 0:
        return True
    return all_set(s.bits, word, g[w.R_GRAIN], g[w.R_LOW], t.foot, view, address + t.foot[view, w.F_OFF])


@njit
def check_read(t: Tables, s: State, view: int, address: int, node: int, row: int) -> None:
    """Report a read of bytes that nothing has written."""
    if not written(t, s, view, address, node):
        group, low = t.foot[view, w.F_GROUP], address + t.foot[view, w.F_OFF]
        hit(s, w.HIT_UNINITIALISED, group, t.sites[row], -1, node, 0, leading(t, group, low), low, node)


@njit
def mark_written(t: Tables, s: State, view: int, address: int, node: int) -> None:
    """Note that the bytes of a view hold a value."""
    g = t.groups[t.foot[view, w.F_GROUP]]
    count, word = _place(t, view, node)
    if g[w.R_SHADOW] == 0 or s.missing[count] == 0:
        return
    low = address + t.foot[view, w.F_OFF]
    s.missing[count] -= mark(s.bits, word, g[w.R_GRAIN], g[w.R_LOW], t.foot, view, low)
