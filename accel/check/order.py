"""Jitted happens-before: what a thread has learned lies in a log of joins; a question is a search back through it.

Every thread keeps a log. An entry says: from here on I know what thread `owner` knew at its tick `tick` (its log up to
entry `base`), and that the copy event `event` has happened. Tokens carry the same four words, so giving and taking one
costs a few stores, whatever the size of the mesh - a vector clock costs one word for every agent of the program.

Entries are numbered in the order of the walk. An event has a serial, the number of the next entry when it happened:
no older entry can tell of it, which is what keeps a search short.
"""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.layout import Ints, State

__all__ = ["join", "knows", "knows_at_once", "learn", "own_tick", "serial_of", "tell", "token_knows",
           "token_knows_at_once"]  # fmt: skip

NEAR = 64  # entries that a question looks at whose answer only saves time


@inner
def own_tick(m: Ints, i: int) -> int:
    """Return the present tick of thread i."""
    return int(m[m[w.M_TH] + i * w.T_WORDS + w.T_TICK])


@inner
def serial_of(m: Ints) -> int:
    """Return the serial of an event that happens now."""
    return int(m[w.X_LOG])


@inner
def tell(m: Ints, i: int) -> int:
    """Return the newest entry of thread i's log for a token of its present tick, which then moves on."""
    th = m[w.M_TH] + i * w.T_WORDS
    m[th + w.T_TICK] += 1
    return int(m[th + w.T_LOG])


@inner
def learn(s: State, i: int, owner: int, tick: int, base: int, event: int) -> None:
    """Let thread i know what `owner` knew at `tick` with its log up to `base`, and of copy event `event` (0: none)."""
    m, log = s.m, s.log
    th = m[w.M_TH] + i * w.T_WORDS
    n = m[w.X_LOG]
    at = n * w.L_WORDS
    log[at + w.L_PREVIOUS], log[at + w.L_OWNER], log[at + w.L_TICK] = m[th + w.T_LOG], owner, tick
    log[at + w.L_BASE], log[at + w.L_EVENT] = base, event
    m[th + w.T_LOG] = n
    m[w.X_LOG] = n + 1


@inner
def join(s: State, i: int, k: int) -> None:
    """Let thread i learn all that token k tells."""
    m = s.m
    if m[k + w.K_COMP] == w.BEFORE:
        return
    event = m[k + w.K_TICK] if m[k + w.K_COMP] == w.COPIED else w.NOTHING
    if m[k + w.K_OWNER] != i or event != w.NOTHING:
        learn(s, i, m[k + w.K_OWNER], m[k + w.K_OWNER_TICK], m[k + w.K_BASE], event)


@inner
def _tells(s: State, entry: int, comp: int, tick: int) -> bool:
    """Say whether a log entry tells of event (comp, tick) itself."""
    at = entry * w.L_WORDS
    if comp == w.COPIED:
        return bool(s.log[at + w.L_EVENT] == tick)
    return bool(s.log[at + w.L_OWNER] == comp and s.log[at + w.L_TICK] >= tick)


@inner
def _ask(m: Ints, thread: int, base: int, waiting: int) -> int:
    """Put `thread` up for a look at its log from `base` back; return how many threads are up."""
    v = m[w.M_SEEN] + thread * w.V_WORDS
    if m[v + w.V_STAMP] != m[w.X_STAMP]:
        m[v + w.V_STAMP], m[v + w.V_TOP], m[v + w.V_DONE], m[v + w.V_UP] = m[w.X_STAMP], 0, 0, 0
    if base <= m[v + w.V_TOP]:
        return waiting
    m[v + w.V_TOP] = base
    if m[v + w.V_UP] != 0:
        return waiting
    m[v + w.V_UP] = 1
    size = m[w.M_NODES] * m[w.M_THREADS]
    m[m[w.M_ASKED] + (m[w.X_ASKED_AT] + waiting) % size] = thread
    return waiting + 1


@inner
def _search(s: State, j: int, base: int, known: int, comp: int, tick: int, serial: int) -> bool:
    """Search from entry `base` of thread j's log; entries of it up to `known` have been searched in vain before."""
    m, log = s.m, s.log
    size = m[w.M_NODES] * m[w.M_THREADS]
    m[w.X_STAMP] += 1
    m[w.X_ASKED_AT] = 0
    waiting = _ask(m, j, base, 0)
    m[m[w.M_SEEN] + j * w.V_WORDS + w.V_DONE] = known
    while waiting > 0:
        thread = m[m[w.M_ASKED] + m[w.X_ASKED_AT]]
        m[w.X_ASKED_AT] = (m[w.X_ASKED_AT] + 1) % size
        waiting -= 1
        v = m[w.M_SEEN] + thread * w.V_WORDS
        entry, oldest = m[v + w.V_TOP], max(m[v + w.V_DONE] + 1, serial)
        m[v + w.V_DONE], m[v + w.V_UP] = entry, 0
        while entry >= oldest:
            if _tells(s, entry, comp, tick):
                return True
            at = entry * w.L_WORDS
            owner, there = log[at + w.L_OWNER] + 0, log[at + w.L_BASE] + 0  # 64 bits to Numba: no second `_ask`
            # an earlier moment of the thread that acted cannot know of the event
            if there >= serial and owner != comp:
                waiting = _ask(m, owner, there, waiting)
            entry = log[at + w.L_PREVIOUS] + 0
    return False


@inner
def _knew(s: State, j: int, own: int, base: int, comp: int, tick: int, serial: int) -> bool:
    """Say whether thread j knew of event (comp, tick) at its own tick `own`, with its log up to `base`.

    Answers are remembered: what a thread knew at some entry it knows for ever, what it did not know it did not know
    before either.
    """
    m = s.m
    if comp < 0 and comp != w.COPIED:
        return comp == w.BEFORE
    if comp == j:
        return own >= tick
    if base < serial:
        return False
    h = ((comp * 31 + tick) * 1009 + j) & 0xFFFFFFFF
    h = (h ^ (h >> 15)) * 0x45D9F3B & 0xFFFFFFFF
    c = m[w.M_ANSWERS] + ((h ^ (h >> 13)) & (m[w.M_ANSWERS_SIZE] - 1)) * w.B_WORDS
    if m[c + w.B_COMP] != comp or m[c + w.B_TICK] != tick or m[c + w.B_THREAD] != j:
        m[c + w.B_COMP], m[c + w.B_TICK], m[c + w.B_THREAD], m[c + w.B_YES], m[c + w.B_NO] = comp, tick, j, 0, 0
    if 0 < m[c + w.B_YES] <= base:
        return True
    if base <= m[c + w.B_NO]:
        return False
    found = _search(s, j, base, m[c + w.B_NO], comp, tick, serial)
    m[c + (w.B_YES if found else w.B_NO)] = base
    return found


@inner
def knows(s: State, i: int, comp: int, tick: int, serial: int) -> bool:
    """Say whether event (comp, tick) happened before thread i's present."""
    th = s.m[w.M_TH] + i * w.T_WORDS
    return _knew(s, i, s.m[th + w.T_TICK], s.m[th + w.T_LOG], comp, tick, serial)


@inner
def token_knows(s: State, k: int, comp: int, tick: int, serial: int) -> bool:
    """Say whether event (comp, tick) happened before, or is, the firing of token k."""
    m = s.m
    if comp == w.COPIED and m[k + w.K_COMP] == w.COPIED and m[k + w.K_TICK] == tick:
        return True
    return _knew(s, m[k + w.K_OWNER], m[k + w.K_OWNER_TICK], m[k + w.K_BASE], comp, tick, serial)


@inner
def _knew_at_once(s: State, j: int, own: int, base: int, comp: int, tick: int, serial: int) -> bool:
    if comp < 0 and comp != w.COPIED:
        return comp == w.BEFORE
    if comp == j:
        return own >= tick
    for _ in range(NEAR):
        if base < serial:
            return False
        if _tells(s, base, comp, tick):
            return True
        base = s.log[base * w.L_WORDS + w.L_PREVIOUS] + 0
    return False


@inner
def knows_at_once(s: State, i: int, comp: int, tick: int, serial: int) -> bool:
    """Like `knows`, by a short look: True is sure, False may be wrong. For answers that only save time."""
    th = s.m[w.M_TH] + i * w.T_WORDS
    return _knew_at_once(s, i, s.m[th + w.T_TICK], s.m[th + w.T_LOG], comp, tick, serial)


@inner
def token_knows_at_once(s: State, k: int, comp: int, tick: int, serial: int) -> bool:
    """Like `token_knows`, by a short look: True is sure, False may be wrong."""
    m = s.m
    if comp == w.COPIED and m[k + w.K_COMP] == w.COPIED and m[k + w.K_TICK] == tick:
        return True
    return _knew_at_once(s, m[k + w.K_OWNER], m[k + w.K_OWNER_TICK], m[k + w.K_BASE], comp, tick, serial)
