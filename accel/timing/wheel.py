"""Calendar wheel: one intrusive list a cycle, a heap for what lies beyond; events of a cycle run in serial order."""

from __future__ import annotations

from accel.timing.compiled import njit
from accel.timing.state import (
    EXHAUSTED,
    K_MOST,
    K_WHEEL,
    O_HEAP,
    O_SPARE,
    O_WHEEL,
    P_NEXT,
    S_FREE,
    S_FREE_COUNT,
    S_HEAP,
    S_NOW,
    S_SERIAL,
    S_STATUS,
    S_WHEEL,
    TOO_LONG,
    Words,
)

__all__ = ["allocate", "next_cycle", "push", "recycle"]


@njit
def allocate(m: Words, kind: int) -> int:
    """Take a record from the pool and name its kind; the main loop keeps enough of them free."""
    e = m[S_FREE]
    if e == 0:  # more than the margin of one event: stop before the header is taken for a record
        m[S_STATUS] = EXHAUSTED
        return m[O_SPARE]
    m[S_FREE] = m[e + P_NEXT]
    m[S_FREE_COUNT] -= 1
    m[e + 1] = kind
    return e


@njit
def recycle(m: Words, e: int) -> None:
    """Give a record back to the pool."""
    m[e + P_NEXT] = m[S_FREE]
    m[S_FREE] = e
    m[S_FREE_COUNT] += 1


@njit
def append(m: Words, t: int, e: int) -> None:
    """Put record e at the end of the list of cycle t, which lies inside the wheel."""
    slot = m[O_WHEEL] + 2 * (t & (m[K_WHEEL] - 1))
    m[e + P_NEXT] = 0
    if m[slot] == 0:
        m[slot] = e
    else:
        m[m[slot + 1] + P_NEXT] = e
    m[slot + 1] = e
    m[S_WHEEL] += 1


@njit
def push(m: Words, t: int, e: int) -> None:
    """Schedule record e for cycle t, not before now."""
    if t - m[S_NOW] < m[K_WHEEL]:
        append(m, t, e)
    else:
        push_heap(m, t, e)


@njit
def push_heap(m: Words, t: int, e: int) -> None:
    """Keep record e, with its time and a serial number, in the heap."""
    base = m[O_HEAP]
    i = m[S_HEAP]
    m[S_HEAP] = i + 1
    while i > 0:
        up = (i - 1) >> 1
        if m[base + 3 * up] <= t:  # an equal time has the smaller serial already
            break
        for j in range(3):
            m[base + 3 * i + j] = m[base + 3 * up + j]
        i = up
    m[base + 3 * i] = t
    m[base + 3 * i + 1] = m[S_SERIAL]
    m[base + 3 * i + 2] = e
    m[S_SERIAL] += 1


@njit
def pop_heap(m: Words) -> int:
    """Remove and return the record of the earliest (time, serial) of the heap."""
    base = m[O_HEAP]
    first = m[base + 2]
    n = m[S_HEAP] - 1
    m[S_HEAP] = n
    end = base + 3 * n
    t, serial, e = m[end], m[end + 1], m[end + 2]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        a, b = base + 3 * child, base + 3 * child + 3
        if child + 1 < n and (m[b] < m[a] or (m[b] == m[a] and m[b + 1] < m[a + 1])):
            child += 1
            a = b
        if t < m[a] or (t == m[a] and serial < m[a + 1]):
            break
        for j in range(3):
            m[base + 3 * i + j] = m[a + j]
        i = child
    m[base + 3 * i] = t
    m[base + 3 * i + 1] = serial
    m[base + 3 * i + 2] = e
    return first


@njit
def next_cycle(m: Words) -> bool:
    """Move now to the next cycle that has an event; False if there is none.

    Far events join the wheel before any event of the new cycle runs, so that a list is always in serial order.
    """
    now, size, base = m[S_NOW], m[K_WHEEL], m[O_WHEEL]
    if m[S_WHEEL] == 0:
        if m[S_HEAP] == 0:
            return False
        now = m[m[O_HEAP]]
    else:
        while m[base + 2 * (now & (size - 1))] == 0:
            now += 1
    m[S_NOW] = now
    if now > m[K_MOST]:  # the clocks of memory ports would not fit a word
        m[S_STATUS] = TOO_LONG
    while m[S_HEAP] > 0 and m[m[O_HEAP]] - now < size:
        t = m[m[O_HEAP]]
        append(m, t, pop_heap(m))
    return True
