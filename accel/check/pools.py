"""The arena between two calls of the core: tables as views of it, and growth of a pool that ran short."""

from __future__ import annotations

import numpy as np

from accel.check import layout as w
from accel.check.arena import BYTES_LIMIT, chain
from accel.check.layout import State, Table
from accel.errors import UnsupportedError

__all__ = ["grown", "hits_of", "queues_of", "threads_of"]


def _table(m: Table, base: int, rows: int, words: int) -> Table:
    first = int(m[base])
    part: Table = m[first : first + rows * words]
    return part.reshape(rows, words)


def threads_of(state: State) -> Table:
    """Return the threads, one row of T_WORDS for each thread of each node."""
    return _table(state.m, w.M_TH, int(state.m[w.M_NODES] * state.m[w.M_THREADS]), w.T_WORDS)


def queues_of(state: State) -> Table:
    """Return the queues, one row of Q_WORDS for each semaphore of each node."""
    return _table(state.m, w.M_QUEUES, int(state.m[w.M_NODES] * state.m[w.M_SEMS]), w.Q_WORDS)


def hits_of(state: State) -> Table:
    """Return the hits, one row of H_WORDS each."""
    table = _table(state.m, w.M_HITS, int(state.m[w.M_HIT_SIZE]), w.H_WORDS)
    hits: Table = table[table[:, w.H_KIND] != w.HIT_NONE]
    return hits


def grown(state: State, which: int, name: str) -> State:
    """Return the state with the pool `which` (GROW_*) about twice as large; UnsupportedError beyond the limit."""
    m, nodes = state.m, int(state.m[w.M_NODES])
    if which == w.GROW_LOG:
        state = state._replace(log=np.concatenate((state.log, np.zeros_like(state.log))))
    elif which == w.GROW_TOKENS:
        size = int(m[w.M_PENDING_SIZE])
        pending = m[m[w.M_PENDING] : m[w.M_PENDING] + size]
        m = _longer(m, w.X_TOKEN_FREE, size, w.K_WORDS)
        m[w.M_PENDING], m[w.M_PENDING_SIZE] = m.size, 2 * size
        m = np.concatenate((m, pending, np.zeros(size, np.int64)))
    elif which == w.GROW_RECORDS:
        m = _longer(m, w.X_RECORD_FREE, 16 * nodes + 1024 + m.size // (4 * w.A_WORDS), w.A_WORDS)
    else:
        table = _rehashed(hits_of(state), int(m[w.M_HIT_SIZE]) * 4)
        m[w.M_HITS], m[w.M_HIT_SIZE] = m.size, len(table)
        m = np.concatenate((m, table.reshape(-1)))
    state = state._replace(m=m)
    if sum(a.nbytes for a in state) > BYTES_LIMIT:
        raise UnsupportedError(
            f"checking {name!r} needs more than {BYTES_LIMIT >> 30} GiB of records and joins; "
            "check the kernel on a smaller mesh or shape"
        )
    return state


def _longer(m: Table, free: int, rows: int, words: int) -> Table:
    """Return the arena with `rows` more free entries in the pool whose header word is `free`."""
    more = chain(rows, words, m.size, int(m[free]))
    m[free] = m.size
    m[free + 1] += rows
    return np.concatenate((m, more))


def _rehashed(hits: Table, size: int) -> Table:
    """Return a table of `size` with these hits; the hash is that of `shadow.hit`."""
    table = np.zeros((size, w.H_WORDS), np.int64)
    for row in hits:
        kind, obj, first, second, node, way, where = (int(x) for x in row[:7])
        h = kind * 31 + obj
        for term, factor in ((first, 1009), (second, 1013), (node * 8 + way, 1019), (where, 1021)):
            h = (h * factor + term) & 0xFFFFFFFF
        at = (h ^ (h >> 15)) & (size - 1)
        while table[at, w.H_KIND] != w.HIT_NONE:
            at = (at + 1) & (size - 1)
        table[at] = row
    return table
