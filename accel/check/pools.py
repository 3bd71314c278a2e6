"""Growth of the pools of a run between two calls of the core, which stops before an instruction that lacks room."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.check import layout as w
from accel.check.layout import Ints, State
from accel.check.prepare import BYTES_LIMIT, chain
from accel.errors import UnsupportedError

__all__ = ["grown"]


def grown(state: State, which: int, name: str) -> State:
    """Return the state with the pool `which` (GROW_*) about twice as large; UnsupportedError beyond the limit."""
    if which == w.GROW_COMPS:
        more = max(state.slot_head.size * 2 + 2, state.slot_tick.size // 4)
        state = state._replace(
            clocks=_wider(state.clocks, more), snaps=_wider(state.snaps, more),
            slot_tick=np.append(state.slot_tick, np.zeros(more, np.int64)),
            slot_next=np.append(state.slot_next, np.full(more, -1)),
        )  # fmt: skip
    elif which == w.GROW_SNAPS:
        n = len(state.snap_info)
        info = chain(n, 2, 1)
        info[:-1, 1] += n
        info[-1, 1] = state.top[w.X_SNAP_FREE]
        _join(state.top, w.X_SNAP_FREE, w.X_SNAPS, n)
        state = state._replace(
            snaps=np.concatenate((state.snaps, np.zeros_like(state.snaps))), snap_info=np.concatenate((state.snap_info, info))
        )
    elif which == w.GROW_TOKENS:
        tokens = _longer(state.tokens, w.K_NEXT, state.top, w.X_TOKEN_FREE, w.X_TOKENS)
        state = state._replace(tokens=tokens, pending=np.append(state.pending, np.zeros_like(state.pending)))
    elif which == w.GROW_RECORDS:
        state = state._replace(records=_longer(state.records, w.A_NEXT, state.top, w.X_RECORD_FREE, w.X_RECORDS))
    elif which == w.GROW_EPOCHS:
        state = state._replace(epochs=_longer(state.epochs, w.E_NEXT, state.top, w.X_EPOCH_FREE, w.X_EPOCHS))
    else:
        state = state._replace(hits=_rehashed(state.hits))
    size = sum(a.nbytes for a in state)
    if size > BYTES_LIMIT:
        raise UnsupportedError(
            f"checking {name!r} needs more than {BYTES_LIMIT >> 30} GiB of clocks and records; "
            "check the kernel on a smaller mesh or shape"
        )
    return state


def _wider(table: Any, more: int) -> Any:
    wide = np.zeros((table.shape[0], table.shape[1] + more), table.dtype)
    wide[:, : table.shape[1]] = table
    return wide


def _join(top: Ints, head: int, count: int, n: int) -> None:
    """Let the n new entries, which start at index n, come before the free ones that are left."""
    top[head] = n
    top[count] += n


def _longer(pool: Ints, column: int, top: Ints, head: int, count: int) -> Ints:
    n = len(pool)
    fresh = chain(n, pool.shape[1], column)
    fresh[:-1, column] += n
    fresh[-1, column] = top[head]
    _join(top, head, count, n)
    return np.concatenate((pool, fresh))


def _rehashed(hits: Ints) -> Ints:
    """Return a table four times as large with the same hits; the hash is that of `shadow.hit`."""
    table = np.zeros((len(hits) * 4, w.H_WORDS), np.int64)
    mask = len(table) - 1
    for row in hits[hits[:, w.H_KIND] != w.HIT_NONE]:
        kind, obj, first, second, node, way, where = (int(x) for x in row[:7])
        h = kind * 31 + obj
        for term, factor in ((first, 1009), (second, 1013), (node * 8 + way, 1019), (where, 1021)):
            h = (h * factor + term) & 0xFFFFFFFF
        at = (h ^ (h >> 15)) & mask
        while table[at, w.H_KIND] != w.HIT_NONE:
            at = (at + 1) & mask
        table[at] = row
    return table
