"""Legal disorder: copies and tokens in flight, delivered at random times from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.machine.inner import inner
from accel.machine.words import (
    C_COPIES,
    C_EVENTS,
    C_HEAD,
    C_LATE,
    C_RANDOM,
    C_READY,
    COPY_WORDS,
    EV_A,
    EV_B,
    EV_C,
    EV_KIND,
    EVENT_WORDS,
    PART,
    READY,
    S_STATUS,
)

__all__ = ["MOST_COPIES", "below", "flight", "push_event", "ready", "take_event", "take_thread"]


MOST_COPIES = 256  # in flight at once


def flight(nodes: int, random: bool) -> tuple[Any, Any]:
    """Return (events, copies) in flight: room for the copies and for what one more instruction on all nodes may add."""
    if not random:
        return np.zeros((1, EVENT_WORDS), np.int64), np.zeros((1, COPY_WORDS), np.int64)
    # A copy is admitted only while `nodes + 4` events are free; every delivered part adds at most two tokens.
    return np.zeros((MOST_COPIES + 8 * nodes + 64, EVENT_WORDS), np.int64), np.zeros(
        (MOST_COPIES, COPY_WORDS), np.int64
    )


@inner
def below(rng: Any, bound: int) -> Any:
    """Return a number in [0, bound) from xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift
    generators", 2016); the bias of the multiply-shift is below bound / 2^32.
    """
    x = rng[0]
    x ^= x >> np.uint64(12)
    x ^= np.uint64(x << np.uint64(25))
    x ^= x >> np.uint64(27)
    rng[0] = x
    high = np.uint64(np.uint64(x * np.uint64(2685821657736338717)) >> np.uint64(32))
    return np.int64(np.uint64(high * np.uint64(bound)) >> np.uint64(32))


@inner
def ready(threads: Any, queue: Any, config: Any, thread: int) -> None:
    """Put a thread in the ring of threads that can run.

    It comes next, so that what it reads, written just now, is still near; under a random schedule, where any may come
    next, last.
    """
    threads[thread, S_STATUS] = READY
    if config[C_RANDOM] == 0:
        at = config[C_HEAD] - 1
        if at < 0:
            at += queue.shape[0]
        config[C_HEAD] = at
    else:
        at = config[C_HEAD] + config[C_READY]
        if at >= queue.shape[0]:
            at -= queue.shape[0]
    queue[at] = thread
    config[C_READY] += 1


@inner
def take_thread(queue: Any, config: Any, rng: Any, random: int) -> Any:
    """Take the thread at the head of the ring; under a random schedule any thread may come first."""
    size, head = queue.shape[0], config[C_HEAD]
    if random:
        other = (head + below(rng, config[C_READY])) % size
        queue[head], queue[other] = queue[other], queue[head]
    thread = queue[head]
    config[C_HEAD] = (head + 1) % size
    config[C_READY] -= 1
    return thread


@inner
def push_event(events: Any, config: Any, kind: int, a: int, b: int, c: int) -> None:
    """Add an event; the caller has made sure of room."""
    at = config[C_EVENTS]
    events[at, EV_KIND], events[at, EV_A], events[at, EV_B], events[at, EV_C] = kind, a, b, c
    config[C_EVENTS] = at + 1


@inner
def take_event(events: Any, config: Any, rng: Any) -> tuple[int, int, int, int]:
    """Take any event: (kind, a, b, c); config[C_LATE] draws more where a part would arrive, so that parts come late."""
    at = below(rng, config[C_EVENTS])
    for _ in range(config[C_LATE]):
        if events[at, EV_KIND] == PART:
            at = below(rng, config[C_EVENTS])
    kind, a, b, c = events[at, EV_KIND], events[at, EV_A], events[at, EV_B], events[at, EV_C]
    last = config[C_EVENTS] - 1
    for i in range(EVENT_WORDS):
        events[at, i] = events[last, i]
    config[C_EVENTS] = last
    return kind, a, b, c


@inner
def admit(events: Any, copies: Any, config: Any, nodes: int) -> Any:
    """Return whether one more instruction that adds up to `nodes` events may be issued."""
    # Parts in flight turn into at most two tokens each, one of them in the place the part leaves.
    return 2 * config[C_EVENTS] + 2 * nodes + 8 <= events.shape[0] and config[C_COPIES] < copies.shape[0]
