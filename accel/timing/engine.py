"""The event loop: one compiled function that runs until the program ends, is stuck, or a store is full."""

from __future__ import annotations

from accel.timing.compiled import njit
from accel.timing.network import arrive
from accel.timing.ports import request, serve
from accel.timing.state import (
    C_DONE,
    C_FROM,
    C_LIVE,
    C_LOG,
    C_NEXT,
    C_NODE,
    C_SENT,
    DONE,
    EV_DONE,
    EV_PACKET,
    EV_REQUEST,
    EV_SENT,
    EV_THREAD,
    EV_TOKEN,
    FULL_MOVES,
    G_DONE,
    G_MID,
    GROW_BARRIERS,
    GROW_COPIES,
    GROW_HEAP,
    GROW_LOG,
    GROW_POOL,
    K_LINK_WORDS,
    K_MOVES,
    K_NODES,
    K_THREADS,
    K_WHEEL,
    N_COPIES,
    N_LAST,
    O_THREADS,
    O_WHEEL,
    P_COPY,
    P_FROM,
    P_KIND,
    P_N,
    P_NEXT,
    P_SEM,
    S_BARRIERS,
    S_BARRIERS_SIZE,
    S_BEGUN,
    S_COPY_COUNT,
    S_COPY_FREE,
    S_FREE_COUNT,
    S_HEAP,
    S_HEAP_SIZE,
    S_LIVE,
    S_LOG,
    S_MOVES,
    S_NOW,
    S_STATUS,
    S_WHEEL,
    STUCK,
    THREAD_WORDS,
    Log,
    Words,
)
from accel.timing.threads import advance, execute, finish, give, unstall
from accel.timing.wheel import next_cycle, recycle

__all__ = ["run"]


@njit
def part_over(m: Words, c: int) -> None:
    """One destination of a copy, or its sending, is over; the last part frees its record."""
    m[c + C_LIVE] -= 1
    if m[c + C_LIVE] == 0:
        m[c + C_NEXT] = m[S_COPY_FREE]
        m[S_COPY_FREE] = c
        m[S_COPY_COUNT] += 1


@njit
def sent(m: Words, g: Log, c: int) -> None:
    """A copy has left its source: its semaphore fires there, its place in the issuer's queue is free."""
    node, ref = m[c + C_NODE], m[c + C_LOG]
    g[ref, G_MID] = m[S_NOW]
    m[node + N_COPIES] -= 1
    if m[c + C_SENT] >= 0:
        give(m, g, m[c + C_FROM], m[c + C_SENT], 1, ref)
    unstall(m, g, node, ref)
    part_over(m, c)


@njit
def done(m: Words, g: Log, c: int, node: int) -> None:
    """A copy has arrived at a node whole (or, for a write, its acknowledgement has)."""
    m[node + N_LAST] = max(m[node + N_LAST], m[S_NOW])
    finish(m, m[S_NOW], -1, m[c + C_LOG])
    g[m[c + C_LOG], G_DONE] = m[S_NOW]
    if m[c + C_DONE] >= 0:
        give(m, g, node, m[c + C_DONE], 1, m[c + C_LOG])
    part_over(m, c)


@njit
def short(m: Words, g: Log) -> int:
    """Return what stops the run: an error, or a store with too little left for one more event; else DONE.

    One event takes at most a token for every node and a thread a node released by a barrier, a few copies, a barrier.
    """
    margin = 2 * m[K_NODES] + 8 * m[K_LINK_WORDS] + 1024
    if m[S_STATUS] != DONE:
        return m[S_STATUS]
    if m[S_FREE_COUNT] < margin:
        return GROW_POOL
    if m[S_HEAP_SIZE] - m[S_HEAP] < margin:
        return GROW_HEAP
    if m[S_COPY_COUNT] < 64:
        return GROW_COPIES
    if g.shape[0] - m[S_LOG] < margin:
        return GROW_LOG
    if m[S_MOVES] > m[K_MOVES]:
        return FULL_MOVES
    if m[S_BARRIERS_SIZE] - m[S_BARRIERS] < 2:
        return GROW_BARRIERS
    return DONE


@njit
def run(m: Words, g: Log) -> int:
    """Set every thread off in cycle 0, then run events until the program ends or a status stops it.

    After a GROW_ status the caller enlarges that store and calls again.
    """
    mask, base = m[K_WHEEL] - 1, m[O_WHEEL]
    if m[S_BEGUN] == 0:
        m[S_BEGUN] = 1
        for i in range(m[K_NODES] * m[K_THREADS]):
            advance(m, m[O_THREADS] + i * THREAD_WORDS, 0)
    while True:
        slot = base + 2 * (m[S_NOW] & mask)
        e = m[slot]
        if e == 0:
            if m[S_STATUS] != DONE:
                return m[S_STATUS]
            if not next_cycle(m):
                return DONE if m[S_LIVE] == 0 else STUCK
            continue
        status = short(m, g)
        if status != DONE:
            return status
        m[slot] = m[e + P_NEXT]
        m[S_WHEEL] -= 1
        kind = m[e + P_KIND]
        if kind == EV_PACKET:
            arrive(m, e)
            continue
        a, b, n, ref = m[e + P_COPY], m[e + P_SEM], m[e + P_N], m[e + P_FROM]
        recycle(m, e)
        if kind == EV_REQUEST:
            request(m, a)
        elif kind == EV_THREAD:
            execute(m, g, a)
        elif kind == EV_TOKEN:
            give(m, g, a, b, n, ref)
        elif kind == EV_SENT:
            sent(m, g, a)
        elif kind == EV_DONE:
            done(m, g, a, b)
        else:
            serve(m, a)
