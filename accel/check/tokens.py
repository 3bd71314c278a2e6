"""Jitted semaphores: tokens in order of arrival, waits that take them, and the rule against taking others'."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.layout import Ints, State
from accel.check.order import join, knows, own_tick, serial_of, token_knows, token_knows_at_once
from accel.check.shadow import hit, site_of

__all__ = ["deliver", "fire", "make_runnable", "queue_of", "settle", "take"]


@inner
def make_runnable(m: Ints, i: int) -> None:
    """Put thread i at the end of the queue."""
    m[m[w.M_TH] + i * w.T_WORDS + w.T_STATUS] = w.READY
    size = m[w.M_NODES] * m[w.M_THREADS]
    m[m[w.M_RUNNABLE] + (m[w.X_QUEUE_AT] + m[w.X_QUEUE_LEN]) % size] = i
    m[w.X_QUEUE_LEN] += 1


@inner
def queue_of(m: Ints, key: int) -> int:
    """Return the address of the queue of (node * semaphores + semaphore)."""
    return int(m[w.M_QUEUES] + key * w.Q_WORDS)


@inner
def _new_token(m: Ints) -> int:
    k = m[w.X_TOKEN_FREE]
    m[w.X_TOKEN_FREE] = m[k + w.K_NEXT]
    m[w.X_TOKENS] -= 1
    m[k + w.K_NEXT] = 0
    return int(k)


@inner
def _free_token(m: Ints, k: int) -> None:
    m[k + w.K_NEXT] = m[w.X_TOKEN_FREE]
    m[w.X_TOKEN_FREE] = k
    m[w.X_TOKENS] += 1


@inner
def fire(m: Ints, key: int, base: int, owner: int, owner_tick: int, comp: int, tick: int, row: int, count: int,
         kind: int) -> int:  # fmt: skip
    """Return a new token of semaphore `key`: event (comp, tick), after what `owner` knew at its log entry `base`."""
    k = _new_token(m)
    m[k + w.K_BASE], m[k + w.K_OWNER], m[k + w.K_OWNER_TICK], m[k + w.K_COMP] = base, owner, owner_tick, comp
    m[k + w.K_TICK], m[k + w.K_SERIAL] = tick, serial_of(m)
    m[k + w.K_ROW], m[k + w.K_COUNT], m[k + w.K_KEY], m[k + w.K_KIND] = row, count, key, kind
    return k


@inner
def _compare(s: State, k: int, q: int) -> None:
    """Report token k unless it fired after every token that the last wait at queue q took."""
    m = s.m
    a = m[q + w.Q_TAKEN]
    while a != 0:
        if not token_knows(s, k, m[a + w.K_COMP], m[a + w.K_TICK], m[a + w.K_SERIAL]):
            key, sems = m[k + w.K_KEY], m[w.M_SEMS]
            hit(m, w.HIT_AMBIGUOUS, key % sems, site_of(m, m[q + w.Q_WAIT_ROW]), site_of(m, m[k + w.K_ROW]),
                key // sems, w.NOTHING, site_of(m, m[a + w.K_ROW]), m[k + w.K_KIND], m[a + w.K_KIND])  # fmt: skip
            return
        a = m[a + w.K_NEXT]


@inner
def _follows_wait(s: State, k: int, q: int) -> bool:
    """Say whether token k fired after the last wait at queue q, or surely after every token that it took."""
    m = s.m
    comp, tick, serial = m[q + w.Q_WAIT_COMP], m[q + w.Q_WAIT_TICK], m[q + w.Q_WAIT_SERIAL]
    if token_knows_at_once(s, k, comp, tick, serial):
        return True
    a = m[q + w.Q_TAKEN]
    while a != 0 and token_knows_at_once(s, k, m[a + w.K_COMP], m[a + w.K_TICK], m[a + w.K_SERIAL]):
        a = m[a + w.K_NEXT]
    return a == 0 or token_knows(s, k, comp, tick, serial)


@inner
def deliver(s: State, k: int) -> None:
    """Let token k arrive at its semaphore, compare it with the last wait there, and wake who waits for it.

    A token that follows neither the last wait W nor every token that W took could have let W pass in place of one of
    them (W: the last wait after which its thread has acted, see `settle`). Earlier waits need no look: what follows W,
    or all that W took, was compared with them through those.
    """
    m = s.m
    key = m[k + w.K_KEY]
    q = queue_of(m, key)
    if m[q + w.Q_WAIT_TICK] > 0 and not _follows_wait(s, k, q):
        _compare(s, k, q)
    tail = m[q + w.Q_TAIL]
    m[k + w.K_NEXT] = 0
    if tail == 0:
        m[q + w.Q_HEAD], m[k + w.K_CHAIN] = k, 1
    else:
        m[tail + w.K_NEXT] = k
        after = token_knows_at_once(s, k, m[tail + w.K_COMP], m[tail + w.K_TICK], m[tail + w.K_SERIAL])
        m[k + w.K_CHAIN] = 1 if after else 0
    m[q + w.Q_TAIL] = k
    m[q + w.Q_COUNT] += m[k + w.K_COUNT]
    node = key // m[w.M_SEMS]
    if m[q + w.Q_COUNT] > m[w.M_SEM_MAX]:
        hit(m, w.HIT_OVERFLOW, key % m[w.M_SEMS], site_of(m, m[k + w.K_ROW]), w.NO_ROW, node, w.NOTHING, w.NOTHING,
            w.NOTHING, w.NOTHING)  # fmt: skip
    for i in range(node * m[w.M_THREADS], (node + 1) * m[w.M_THREADS]):
        th = m[w.M_TH] + i * w.T_WORDS
        if m[th + w.T_STATUS] == w.BLOCKED and m[th + w.T_KEY] == key and m[q + w.Q_COUNT] >= m[th + w.T_NEED]:
            make_runnable(m, i)


@inner
def _take_counts(m: Ints, q: int, n: int) -> None:
    """Move n counts from the queue to the list of the waits at hand; a token of several counts may be split."""
    m[q + w.Q_COUNT] -= n
    while n > 0:
        k = m[q + w.Q_HEAD]
        if m[k + w.K_COUNT] <= n:
            n -= m[k + w.K_COUNT]
            m[q + w.Q_HEAD] = m[k + w.K_NEXT]
            if m[q + w.Q_HEAD] == 0:
                m[q + w.Q_TAIL] = 0
        else:
            rest = k
            k = _new_token(m)
            for c in range(w.K_BASE, w.K_WORDS):
                m[k + c] = m[rest + c]
            m[k + w.K_COUNT] = n
            m[rest + w.K_COUNT] -= n
            n = 0
        m[k + w.K_NEXT] = m[q + w.Q_NOW]
        m[q + w.Q_NOW] = k


@inner
def _settle_queue(s: State, q: int) -> None:
    """The waits at hand at queue q become the last wait there: compare the tokens that are left with it."""
    m = s.m
    a = m[q + w.Q_TAKEN]
    while a != 0:
        following = m[a + w.K_NEXT]
        _free_token(m, a)
        a = following
    m[q + w.Q_TAKEN], m[q + w.Q_NOW] = m[q + w.Q_NOW], 0
    m[q + w.Q_WAIT_COMP], m[q + w.Q_WAIT_TICK] = m[q + w.Q_NOW_COMP], m[q + w.Q_NOW_TICK]
    m[q + w.Q_WAIT_SERIAL], m[q + w.Q_WAIT_ROW] = m[q + w.Q_NOW_SERIAL], m[q + w.Q_NOW_ROW]
    k = m[q + w.Q_HEAD]
    head = True
    while k != 0:
        # a token that follows the one before it in the queue follows all that that one follows
        if head or m[k + w.K_CHAIN] == 0:
            _compare(s, k, q)
        head = False
        k = m[k + w.K_NEXT]


@inner
def _waits_of(m: Ints, i: int, key: int) -> int:
    """Return the address of what is kept of the waits of thread i at queue `key`."""
    threads = m[w.M_THREADS]
    return int(m[w.M_WAITS] + (key * threads + i % threads) * w.Y_WORDS)


@inner
def settle(s: State, i: int) -> None:
    """Thread i is about to act: from here on it matters which tokens its waits took.

    Waits with nothing in between are one wait for the sum: however the tokens fall to them, what the thread knows
    afterwards is the same, and it has done nothing before. So tokens are compared with all of them at once, and not at
    all if the thread does nothing more.
    """
    m = s.m
    th = m[w.M_TH] + i * w.T_WORDS
    key = m[th + w.T_OPEN] - 1
    m[th + w.T_OPEN] = 0
    while key >= 0:
        q, y = queue_of(m, key), _waits_of(m, i, key)
        if m[q + w.Q_NOW] != 0 and m[q + w.Q_NOW_COMP] == i:
            _settle_queue(s, q)
        m[y + w.Y_LISTED] = 0
        key = m[y + w.Y_NEXT] - 1


@inner
def _rivals(s: State, i: int, key: int, row: int, comp: int, tick: int) -> None:
    """Report another thread of the node whose wait on `key` has no order with this one of thread i.

    Harmless is only that both took counts of one event (comp, tick): then it does not matter who took which.
    """
    m = s.m
    threads, sems = m[w.M_THREADS], m[w.M_SEMS]
    first = i - i % threads
    for other in range(first, first + threads):
        y = m[w.M_WAITS] + (key * threads + other - first) * w.Y_WORDS
        if other == i or m[y + w.Y_LAST] == 0 or knows(s, i, other, m[y + w.Y_LAST], m[y + w.Y_SERIAL]):
            continue
        same = comp != w.NEVER and m[y + w.Y_COMP] == comp and m[y + w.Y_TICK] == tick
        before = m[y + w.Y_BEFORE] == 0 or knows(s, i, other, m[y + w.Y_BEFORE], m[y + w.Y_BEFORE_SERIAL])
        if not (same and before):
            hit(m, w.HIT_RIVALS, key % sems, site_of(m, row), w.NO_ROW, key // sems, w.NOTHING, w.NOTHING,
                other - first, i - first)  # fmt: skip


@inner
def take(s: State, i: int, key: int, n: int, row: int) -> None:
    """Let thread i pass a wait for n counts that are there."""
    m = s.m
    q, y = queue_of(m, key), _waits_of(m, i, key)
    if m[q + w.Q_NOW] != 0 and m[q + w.Q_NOW_COMP] != i:
        _settle_queue(s, q)
    before = m[q + w.Q_NOW]
    _take_counts(m, q, n)
    a = m[q + w.Q_NOW]
    comp, tick = m[a + w.K_COMP], m[a + w.K_TICK]
    while a != before:
        if m[a + w.K_COMP] != comp or m[a + w.K_TICK] != tick:
            comp = w.NEVER
        a = m[a + w.K_NEXT]
    _rivals(s, i, key, row, comp, tick)
    a = m[q + w.Q_NOW]
    while a != before:
        join(s, i, a)
        a = m[a + w.K_NEXT]
    m[q + w.Q_NOW_COMP], m[q + w.Q_NOW_TICK] = i, own_tick(m, i)
    m[q + w.Q_NOW_SERIAL], m[q + w.Q_NOW_ROW] = serial_of(m), row
    m[y + w.Y_BEFORE], m[y + w.Y_BEFORE_SERIAL], m[y + w.Y_SERIAL] = m[y + w.Y_LAST], m[y + w.Y_SERIAL], serial_of(m)
    m[y + w.Y_LAST], m[y + w.Y_COMP], m[y + w.Y_TICK] = own_tick(m, i), comp, tick
    if m[y + w.Y_LISTED] == 0:
        th = m[w.M_TH] + i * w.T_WORDS
        m[y + w.Y_LISTED], m[y + w.Y_NEXT], m[th + w.T_OPEN] = 1, m[th + w.T_OPEN], key + 1
