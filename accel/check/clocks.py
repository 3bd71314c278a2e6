"""Jitted vector clocks: what each agent knows, snapshots that tokens carry, and reusable agents for copies."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.layout import Ints, State

__all__ = [
    "agent_of", "drop_snapshot", "free_token", "join", "knows", "new_token", "own_tick", "take_snapshot", "token_knows",
]  # fmt: skip


@inner
def own_tick(m: Ints, i: int) -> int:
    """Return the present tick of thread i."""
    return int(m[m[w.M_TH] + i * w.T_WORDS + w.T_TICK])


@inner
def knows(s: State, i: int, comp: int, tick: int) -> bool:
    """Say whether event (comp, tick) happened before thread i's present."""
    if comp < 0:
        return comp == w.BEFORE
    return bool(s.clocks[i, comp] >= tick)


@inner
def token_knows(s: State, k: int, comp: int, tick: int) -> bool:
    """Say whether event (comp, tick) happened before, or is, the firing of token k."""
    if comp < 0:
        return comp == w.BEFORE
    if s.m[k + w.K_COMP] == comp:
        return bool(s.m[k + w.K_TICK] >= tick)
    base = s.m[k + w.K_BASE]
    return bool(base != 0 and s.snaps[s.m[base + w.S_ROW], comp] >= tick)


@inner
def take_snapshot(s: State, i: int) -> int:
    """Return a snapshot of thread i's clock with no references yet; its own tick moves on."""
    m = s.m
    n = m[w.X_SNAP_FREE]
    m[w.X_SNAP_FREE] = m[n + w.S_NEXT]
    m[w.X_SNAPS] -= 1
    m[n + w.S_REFS] = 0
    row = m[n + w.S_ROW]
    for c in range(m[w.X_COMPS]):
        s.snaps[row, c] = s.clocks[i, c]
    at = m[w.M_TH] + i * w.T_WORDS + w.T_TICK
    m[at] += 1
    s.clocks[i, i] = m[at]
    return int(n)


@inner
def new_token(m: Ints, base: int) -> int:
    """Return a free token that holds a reference to snapshot `base`."""
    k = m[w.X_TOKEN_FREE]
    m[w.X_TOKEN_FREE] = m[k + w.K_NEXT]
    m[w.X_TOKENS] -= 1
    m[k + w.K_NEXT] = 0
    m[k + w.K_BASE] = base
    if base != 0:
        m[base + w.S_REFS] += 1
    return int(k)


@inner
def drop_snapshot(m: Ints, k: int) -> None:
    """Let token k tell no more than its own event; a snapshot goes back with the last token that carries it."""
    base = m[k + w.K_BASE]
    if base != 0:
        m[k + w.K_BASE] = 0
        m[base + w.S_REFS] -= 1
        if m[base + w.S_REFS] == 0:
            m[base + w.S_NEXT] = m[w.X_SNAP_FREE]
            m[w.X_SNAP_FREE] = base
            m[w.X_SNAPS] += 1


@inner
def free_token(m: Ints, k: int) -> None:
    """Give token k back."""
    drop_snapshot(m, k)
    m[k + w.K_NEXT] = m[w.X_TOKEN_FREE]
    m[w.X_TOKEN_FREE] = k
    m[w.X_TOKENS] += 1


@inner
def join(s: State, i: int, k: int) -> None:
    """Let thread i learn all that token k tells."""
    m = s.m
    base = m[k + w.K_BASE]
    if base != 0 and s.clocks[i, m[k + w.K_OWNER]] < m[k + w.K_OWNER_TICK]:
        row = m[base + w.S_ROW]
        for c in range(m[w.X_COMPS]):
            s.clocks[i, c] = max(s.clocks[i, c], s.snaps[row, c])
    comp = m[k + w.K_COMP]
    if comp >= 0 and s.clocks[i, comp] < m[k + w.K_TICK]:
        s.clocks[i, comp] = m[k + w.K_TICK]


@inner
def agent_of(s: State, i: int, node: int) -> int:
    """Return an agent of `node` for a copy that thread i issues now; its tick has moved on.

    An agent is used again only where the issuer knows of its last event, so that whoever hears of the new event
    knows the old one too: the two are one after the other, as on a thread.
    """
    m = s.m
    head = m[w.M_AGENTS] + node
    a = m[head]
    while a != 0:
        if s.clocks[i, m[a + w.G_COMP]] >= m[a + w.G_TICK]:
            m[a + w.G_TICK] += 1
            return int(a)
        a = m[a + w.G_NEXT]
    a = m[w.X_AGENT_FREE]
    m[w.X_AGENT_FREE] = m[a + w.G_NEXT]
    m[w.X_AGENTS] -= 1
    m[a + w.G_NEXT], m[a + w.G_COMP], m[a + w.G_TICK] = m[head], m[w.X_COMPS], 1
    m[w.X_COMPS] += 1
    m[head] = a
    return int(a)
