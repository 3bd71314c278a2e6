"""Calendar wheel: one intrusive list a cycle, a heap for what lies beyond; events of a cycle run in serial order."""

from __future__ import annotations

from accel.jit import njit
from accel.timing.state import (
    P_NEXT,
    S_FREE,
    S_FREE_COUNT,
    S_HEAP,
    S_NOW,
    S_SERIAL,
    S_WHEEL,
    State,
)

__all__ = ["allocate", "next_cycle", "push", "recycle"]


@njit
def allocate(st: State) -> int:
    """Take a record from the pool; the main loop keeps enough of them free."""
    e = st.scalars[S_FREE]
    st.scalars[S_FREE] = st.pool[e, P_NEXT]
    st.scalars[S_FREE_COUNT] -= 1
    return e


@njit
def recycle(st: State, e: int) -> None:
    """Give a record back to the pool."""
    st.pool[e, P_NEXT] = st.scalars[S_FREE]
    st.scalars[S_FREE] = e
    st.scalars[S_FREE_COUNT] += 1


@njit
def append(st: State, t: int, e: int) -> None:
    """Put record e at the end of the list of cycle t, which lies inside the wheel."""
    slot = t & (st.wheel.shape[0] - 1)
    st.pool[e, P_NEXT] = -1
    if st.wheel[slot, 0] < 0:
        st.wheel[slot, 0] = e
    else:
        st.pool[st.wheel[slot, 1], P_NEXT] = e
    st.wheel[slot, 1] = e
    st.scalars[S_WHEEL] += 1


@njit
def push(st: State, t: int, e: int) -> None:
    """Schedule record e for cycle t, not before now."""
    if t - st.scalars[S_NOW] < st.wheel.shape[0]:
        append(st, t, e)
        return
    heap = st.heap
    serial = st.scalars[S_SERIAL]
    st.scalars[S_SERIAL] = serial + 1
    i = st.scalars[S_HEAP]
    st.scalars[S_HEAP] = i + 1
    while i > 0:
        up = (i - 1) >> 1
        if heap[up, 0] <= t:  # an equal time has the smaller serial already
            break
        heap[i, 0], heap[i, 1], heap[i, 2] = heap[up, 0], heap[up, 1], heap[up, 2]
        i = up
    heap[i, 0], heap[i, 1], heap[i, 2] = t, serial, e


@njit
def pop_heap(st: State) -> int:
    """Remove and return the record of the earliest (time, serial) of the heap."""
    heap = st.heap
    first = heap[0, 2]
    n = st.scalars[S_HEAP] - 1
    st.scalars[S_HEAP] = n
    t, serial, e = heap[n, 0], heap[n, 1], heap[n, 2]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and (
            heap[child + 1, 0] < heap[child, 0]
            or (heap[child + 1, 0] == heap[child, 0] and heap[child + 1, 1] < heap[child, 1])
        ):
            child += 1
        if t < heap[child, 0] or (t == heap[child, 0] and serial < heap[child, 1]):
            break
        heap[i, 0], heap[i, 1], heap[i, 2] = heap[child, 0], heap[child, 1], heap[child, 2]
        i = child
    heap[i, 0], heap[i, 1], heap[i, 2] = t, serial, e
    return first


@njit
def next_cycle(st: State) -> bool:
    """Move now to the next cycle that has an event; False if there is none.

    Far events join the wheel before any event of the new cycle runs, so that a list is always in serial order.
    """
    now = st.scalars[S_NOW]
    size = st.wheel.shape[0]
    if st.scalars[S_WHEEL] == 0:
        if st.scalars[S_HEAP] == 0:
            return False
        now = st.heap[0, 0]
    else:
        while st.wheel[now & (size - 1), 0] < 0:
            now += 1
    st.scalars[S_NOW] = now
    while st.scalars[S_HEAP] > 0 and st.heap[0, 0] - now < size:
        t = st.heap[0, 0]
        append(st, t, pop_heap(st))
    return True
