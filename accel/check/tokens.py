"""Jitted semaphores: tokens in order of arrival, waits that take them, and the rule for waits that could take others."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.clocks import free_token, join, new_token, token_knows
from accel.check.layout import State, Tables
from accel.check.shadow import hit
from accel.jit import njit

__all__ = ["deliver", "fire", "make_runnable", "take"]


@njit
def make_runnable(s: State, i: int) -> None:
    """Put thread i at the end of the queue."""
    s.threads[i, w.T_STATUS] = w.READY
    size = s.runnable.shape[0]
    s.runnable[(s.top[w.X_QUEUE_AT] + s.top[w.X_QUEUE_LEN]) % size] = i
    s.top[w.X_QUEUE_LEN] += 1


@njit
def fire(t: Tables, s: State, key: int, base: int, owner: int, owner_tick: int, comp: int, tick: int, row: int,
         count: int, kind: int) -> int:  # fmt: skip
    """Return a new token of semaphore `key`: the event (comp, tick) after what snapshot `base` of `owner` knows."""
    k = new_token(s, base)
    s.tokens[k, w.K_OWNER], s.tokens[k, w.K_OWNER_TICK] = owner, owner_tick
    s.tokens[k, w.K_COMP], s.tokens[k, w.K_TICK] = comp, tick
    s.tokens[k, w.K_ROW], s.tokens[k, w.K_COUNT], s.tokens[k, w.K_KEY] = row, count, key
    s.tokens[k, w.K_KIND] = kind
    return k


@njit
def _knows_taken(s: State, k: int, key: int) -> int:
    """Return -1 if token k fired after every token of the last wait on `key`, else the first one it did not."""
    a = s.queues[key, w.Q_TAKEN]
    while a >= 0:
        if not token_knows(s, k, s.tokens[a, w.K_COMP], s.tokens[a, w.K_TICK]):
            return int(a)
        a = s.tokens[a, w.K_NEXT]
    return -1


@njit
def _ambiguous(t: Tables, s: State, key: int, k: int, taken: int) -> None:
    sems = t.geom[w.G_SEMS]
    old = s.tokens[taken, w.K_ROW]
    hit(s, w.HIT_AMBIGUOUS, key % sems, t.sites[s.queues[key, w.Q_WAIT_ROW]], t.sites[s.tokens[k, w.K_ROW]],
        key // sems, 0, t.sites[old], s.tokens[k, w.K_KIND], s.tokens[taken, w.K_KIND])  # fmt: skip


@njit
def deliver(t: Tables, s: State, k: int) -> None:
    """Let token k arrive at its semaphore, compare it with the last wait there, and wake who waits for it.

    A token that neither follows the last wait W nor every token that W took could have let W pass in place of one of
    them. Earlier waits need no look: what follows W, or all that W took, was compared with them through those.
    """
    key = s.tokens[k, w.K_KEY]
    if s.queues[key, w.Q_WAIT_COMP] >= 0:
        if not token_knows(s, k, s.queues[key, w.Q_WAIT_COMP], s.queues[key, w.Q_WAIT_TICK]):
            taken = _knows_taken(s, k, key)
            if taken >= 0:
                _ambiguous(t, s, key, k, taken)
    tail = s.queues[key, w.Q_TAIL]
    s.tokens[k, w.K_NEXT] = -1
    if tail < 0:
        s.tokens[k, w.K_CHAIN] = 1
        s.queues[key, w.Q_HEAD] = k
    else:
        s.tokens[k, w.K_CHAIN] = 1 if token_knows(s, k, s.tokens[tail, w.K_COMP], s.tokens[tail, w.K_TICK]) else 0
        s.tokens[tail, w.K_NEXT] = k
    s.queues[key, w.Q_TAIL] = k
    s.queues[key, w.Q_COUNT] += s.tokens[k, w.K_COUNT]
    sems, threads = t.geom[w.G_SEMS], t.geom[w.G_THREADS]
    node = key // sems
    if s.queues[key, w.Q_COUNT] > t.geom[w.G_SEM_MAX]:
        hit(s, w.HIT_OVERFLOW, key % sems, t.sites[s.tokens[k, w.K_ROW]], -1, node, 0, 0, 0, 0)
    for i in range(node * threads, node * threads + threads):
        if s.threads[i, w.T_STATUS] == w.BLOCKED and s.threads[i, w.T_KEY] == key:
            if s.queues[key, w.Q_COUNT] >= s.threads[i, w.T_NEED]:
                make_runnable(s, i)


@njit
def _drop_taken(s: State, key: int) -> None:
    k = s.queues[key, w.Q_TAKEN]
    while k >= 0:
        following = s.tokens[k, w.K_NEXT]
        free_token(s, k)
        k = following
    s.queues[key, w.Q_TAKEN] = -1


@njit
def _pull(s: State, key: int, n: int) -> None:
    """Move n counts from the queue to the list of the last wait; a token of several counts may be split."""
    s.queues[key, w.Q_COUNT] -= n
    while n > 0:
        k = s.queues[key, w.Q_HEAD]
        if s.tokens[k, w.K_COUNT] <= n:
            n -= s.tokens[k, w.K_COUNT]
            s.queues[key, w.Q_HEAD] = s.tokens[k, w.K_NEXT]
            if s.queues[key, w.Q_HEAD] < 0:
                s.queues[key, w.Q_TAIL] = -1
        else:
            rest = k
            k = new_token(s, s.tokens[rest, w.K_BASE])
            for c in range(w.K_BASE, w.K_WORDS):
                s.tokens[k, c] = s.tokens[rest, c]
            s.tokens[k, w.K_COUNT] = n
            s.tokens[rest, w.K_COUNT] -= n
            n = 0
        s.tokens[k, w.K_NEXT] = s.queues[key, w.Q_TAKEN]
        s.queues[key, w.Q_TAKEN] = k


@njit
def _rivals(t: Tables, s: State, i: int, key: int, row: int, comp: int, tick: int) -> None:
    """Report another thread of the node whose wait on `key` has no order with this one of thread i.

    Harmless is only that both took counts of one event (comp, tick): then it does not matter who took which.
    """
    threads, sems = t.geom[w.G_THREADS], t.geom[w.G_SEMS]
    first = i - i % threads
    for other in range(first, first + threads):
        last = s.waits[key, other - first, 0]
        if other == i or last == 0 or s.clocks[i, other] >= last:
            continue
        same = comp != w.NEVER and s.waits[key, other - first, 2] == comp and s.waits[key, other - first, 3] == tick
        if not same or s.clocks[i, other] < s.waits[key, other - first, 1]:
            hit(s, w.HIT_RIVALS, key % sems, t.sites[row], -1, key // sems, 0, 0, other - first, i - first)


@njit
def take(t: Tables, s: State, i: int, key: int, n: int, row: int) -> None:
    """Let thread i pass a wait for n counts that are there."""
    _drop_taken(s, key)
    _pull(s, key, n)
    a = s.queues[key, w.Q_TAKEN]
    comp, tick = s.tokens[a, w.K_COMP], s.tokens[a, w.K_TICK]
    b = s.tokens[a, w.K_NEXT]
    while b >= 0:
        if s.tokens[b, w.K_COMP] != comp or s.tokens[b, w.K_TICK] != tick:
            comp = w.NEVER
        b = s.tokens[b, w.K_NEXT]
    _rivals(t, s, i, key, row, comp, tick)
    while a >= 0:
        join(s, i, a)
        a = s.tokens[a, w.K_NEXT]
    s.queues[key, w.Q_WAIT_COMP], s.queues[key, w.Q_WAIT_TICK] = i, s.clocks[i, i]
    s.queues[key, w.Q_WAIT_ROW] = row
    me = i % t.geom[w.G_THREADS]
    s.waits[key, me, 1] = s.waits[key, me, 0]
    s.waits[key, me, 0], s.waits[key, me, 2], s.waits[key, me, 3] = s.clocks[i, i], comp, tick
    k = s.queues[key, w.Q_HEAD]
    head = True
    while k >= 0:
        # a token that follows the one before it in the queue follows all that that one follows
        if head or s.tokens[k, w.K_CHAIN] == 0:
            taken = _knows_taken(s, k, key)
            if taken >= 0:
                _ambiguous(t, s, key, k, taken)
        head = False
        k = s.tokens[k, w.K_NEXT]
