"""The event loop: one compiled function that runs until the program ends, is stuck, or an array is full."""

from __future__ import annotations

from accel.jit import njit
from accel.timing.network import arrive
from accel.timing.ports import request, serve
from accel.timing.state import (
    C_DONE,
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
    GROW_BARRIERS,
    GROW_COPIES,
    GROW_LOG,
    GROW_POOL,
    K_NODES,
    N_COPIES,
    N_LAST,
    P_FROM,
    P_KIND,
    P_N,
    P_NEXT,
    P_NODE,
    P_SEM,
    S_BARRIERS,
    S_COPY_COUNT,
    S_COPY_FREE,
    S_FREE_COUNT,
    S_LIVE,
    S_LOG,
    S_NOW,
    S_STATUS,
    S_WHEEL,
    STUCK,
    State,
    Tables,
)
from accel.timing.threads import advance, execute, finish, give, unstall
from accel.timing.wheel import next_cycle, recycle

__all__ = ["begin", "run"]


@njit
def begin(tab: Tables, st: State) -> None:
    """Set every thread off in cycle 0."""
    for th in range(st.threads.shape[0]):
        advance(tab, st, th, 0)


@njit
def part_of_copy_over(st: State, c: int) -> None:
    """One destination, or the sending, of a copy is over; the last part frees its record."""
    copy = st.copies[c]
    copy[C_LIVE] -= 1
    if copy[C_LIVE] == 0:
        copy[C_NEXT] = st.scalars[S_COPY_FREE]
        st.scalars[S_COPY_FREE] = c
        st.scalars[S_COPY_COUNT] += 1


@njit
def sent(tab: Tables, st: State, c: int) -> None:
    """A copy has left its source: its semaphore fires at the issuer, its place in the queue is free."""
    copy = st.copies[c]
    node, sem, ref = copy[C_NODE], copy[C_SENT], copy[C_LOG]
    st.nodes[node, N_COPIES] -= 1
    if sem >= 0:
        give(tab, st, node, sem, 1, ref)
    unstall(tab, st, node, ref)
    part_of_copy_over(st, c)


@njit
def done(tab: Tables, st: State, c: int, node: int) -> None:
    """A copy has arrived at a node whole (or, for a write, its acknowledgement has)."""
    now, copy = st.scalars[S_NOW], st.copies[c]
    st.nodes[node, N_LAST] = max(st.nodes[node, N_LAST], now)
    finish(st, now, -1, copy[C_LOG])
    if copy[C_DONE] >= 0:
        give(tab, st, node, copy[C_DONE], 1, copy[C_LOG])
    part_of_copy_over(st, c)


@njit
def run(tab: Tables, st: State) -> int:
    """Run events until a status other than going on; after a GROW_ status the caller enlarges that array and returns.

    The margins are what one event can take at most: a token for every node, a thread a node released by a barrier.
    """
    scalars, pool = st.scalars, st.pool
    margin = 2 * tab.config[K_NODES] + 1024
    size = st.wheel.shape[0]
    while True:
        slot = scalars[S_NOW] & (size - 1)
        e = st.wheel[slot, 0]
        if e < 0:
            if not next_cycle(st):
                return DONE if scalars[S_LIVE] == 0 else STUCK
            continue
        if scalars[S_FREE_COUNT] < margin:
            return GROW_POOL
        if scalars[S_COPY_COUNT] < 64:
            return GROW_COPIES
        if st.log.shape[0] - scalars[S_LOG] < margin:
            return GROW_LOG
        if st.barriers.shape[0] - scalars[S_BARRIERS] < 2:
            return GROW_BARRIERS
        st.wheel[slot, 0] = pool[e, P_NEXT]
        scalars[S_WHEEL] -= 1
        kind = pool[e, P_KIND]
        if kind == EV_PACKET:
            arrive(tab, st, e)
            continue
        a, b, n, ref = pool[e, P_NODE], pool[e, P_SEM], pool[e, P_N], pool[e, P_FROM]
        recycle(st, e)
        if kind == EV_THREAD:
            execute(tab, st, a)
        elif kind == EV_TOKEN:
            give(tab, st, a, b, n, ref)
        elif kind == EV_SENT:
            sent(tab, st, a)
        elif kind == EV_DONE:
            done(tab, st, a, b)
        elif kind == EV_REQUEST:
            request(tab, st, a)
        else:
            serve(tab, st, a)
        if scalars[S_STATUS] != DONE:
            return scalars[S_STATUS]
