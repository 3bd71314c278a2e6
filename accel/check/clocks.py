"""Jitted vector clocks: what each agent knows, snapshots that tokens carry, and reusable agents for copies."""

from __future__ import annotations

from accel.check.layout import (
    BEFORE, K_BASE, K_COMP, K_NEXT, K_OWNER, K_OWNER_TICK, K_TICK, NEVER, X_COMPS, X_SNAP_FREE, X_SNAPS,
    X_TOKEN_FREE, X_TOKENS, State, Tables,
)  # fmt: skip
from accel.jit import njit

__all__ = ["drop_snapshot", "free_token", "join", "knows", "new_token", "slot_of", "take_snapshot", "token_knows"]


@njit
def knows(s: State, i: int, comp: int, tick: int) -> bool:
    """Say whether event (comp, tick) happened before thread i's present."""
    if comp < 0:
        return comp == BEFORE
    return bool(s.clocks[i, comp] >= tick)


@njit
def token_knows(s: State, k: int, comp: int, tick: int) -> bool:
    """Say whether event (comp, tick) happened before, or is, the firing of token k."""
    if comp == BEFORE:
        return True
    if comp == NEVER:
        return False
    if s.tokens[k, K_COMP] == comp:
        return bool(s.tokens[k, K_TICK] >= tick)
    base = s.tokens[k, K_BASE]
    return bool(base >= 0 and s.snaps[base, comp] >= tick)


@njit
def take_snapshot(s: State, i: int) -> int:
    """Return a snapshot of thread i's clock with no references yet; its own tick moves on."""
    n = s.top[X_SNAP_FREE]
    s.top[X_SNAP_FREE] = s.snap_info[n, 1]
    s.top[X_SNAPS] -= 1
    s.snap_info[n, 0] = 0
    for c in range(s.top[X_COMPS]):
        s.snaps[n, c] = s.clocks[i, c]
    s.clocks[i, i] += 1
    return int(n)


@njit
def drop_snapshot(s: State, n: int) -> None:
    """Give snapshot n back."""
    s.snap_info[n, 1] = s.top[X_SNAP_FREE]
    s.top[X_SNAP_FREE] = n
    s.top[X_SNAPS] += 1


@njit
def new_token(s: State, base: int) -> int:
    """Return a free token that holds a reference to snapshot `base`."""
    k = s.top[X_TOKEN_FREE]
    s.top[X_TOKEN_FREE] = s.tokens[k, K_NEXT]
    s.top[X_TOKENS] -= 1
    s.tokens[k, K_NEXT] = -1
    s.tokens[k, K_BASE] = base
    if base >= 0:
        s.snap_info[base, 0] += 1
    return int(k)


@njit
def free_token(s: State, k: int) -> None:
    """Give token k back, and its snapshot with the last token that carries it."""
    base = s.tokens[k, K_BASE]
    if base >= 0:
        s.snap_info[base, 0] -= 1
        if s.snap_info[base, 0] == 0:
            drop_snapshot(s, base)
    s.tokens[k, K_NEXT] = s.top[X_TOKEN_FREE]
    s.top[X_TOKEN_FREE] = k
    s.top[X_TOKENS] += 1


@njit
def join(s: State, i: int, k: int) -> None:
    """Let thread i learn all that token k tells."""
    base, owner = s.tokens[k, K_BASE], s.tokens[k, K_OWNER]
    if base >= 0 and s.clocks[i, owner] < s.tokens[k, K_OWNER_TICK]:
        for c in range(s.top[X_COMPS]):
            if s.snaps[base, c] > s.clocks[i, c]:
                s.clocks[i, c] = s.snaps[base, c]
    comp = s.tokens[k, K_COMP]
    if comp >= 0 and s.clocks[i, comp] < s.tokens[k, K_TICK]:
        s.clocks[i, comp] = s.tokens[k, K_TICK]


@njit
def slot_of(t: Tables, s: State, i: int, node: int) -> int:
    """Return an agent of `node` for a copy that thread i issues now; its tick has moved on.

    An agent is used again only where the issuer knows of its last event, so that whoever hears of the new event
    knows the old one too: the two are one after the other, as on a thread.
    """
    c = s.slot_head[node]
    while c >= 0:
        if s.clocks[i, c] >= s.slot_tick[c]:
            s.slot_tick[c] += 1
            return int(c)
        c = s.slot_next[c]
    c = s.top[X_COMPS]
    s.top[X_COMPS] += 1
    s.slot_next[c] = s.slot_head[node]
    s.slot_head[node] = c
    s.slot_tick[c] = 1
    return int(c)
