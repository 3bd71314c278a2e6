"""What a thread does with its cycles, by name, and why each blocked instruction stood still."""

from __future__ import annotations

import numpy as np

from accel.isa.program import Program, Table
from accel.timing import state as s

__all__ = [
    "BARRIER", "CONTROL", "ISSUE", "KINDS", "MATRIX", "OFF", "QUEUE_FULL", "UNIT_BUSY", "VECTOR", "WAITS", "WAIT_LOCAL",
    "WAIT_MEMORY", "WAIT_MESH", "WAIT_PEER", "blocked_cycles", "causes",
]  # fmt: skip

KINDS = (
    "issue", "control", "off", "matrix", "vector", "unit_busy", "wait_memory", "wait_mesh", "wait_peer", "wait_local",
    "queue_full", "barrier",
)  # fmt: skip
(ISSUE, CONTROL, OFF, MATRIX, VECTOR, UNIT_BUSY, WAIT_MEMORY, WAIT_MESH, WAIT_PEER, WAIT_LOCAL, QUEUE_FULL,
 BARRIER) = range(len(KINDS))  # fmt: skip
WAITS = KINDS[UNIT_BUSY:]  # the kinds in which a thread stands still


def causes(program: Program, log: Table, blocked: Table) -> Table:
    """Return the kind of each blocked log entry (wait, full queue, barrier), by what ended it."""
    sender = log[np.maximum(blocked[:, s.G_REF], 0)]
    local = sender[:, s.G_THREAD] // program.threads == blocked[:, s.G_THREAD] // program.threads
    by_kind = np.full(s.LOG_COPY_MESH + 1, WAIT_PEER)
    by_kind[s.LOG_COPY_MEMORY], by_kind[s.LOG_COPY_MESH] = WAIT_MEMORY, WAIT_MESH
    cause: Table = by_kind[sender[:, s.G_KIND]]
    cause = np.where(local & (sender[:, s.G_KIND] == s.LOG_INC), WAIT_LOCAL, cause)
    cause = np.where(blocked[:, s.G_KIND] == s.LOG_STALL, QUEUE_FULL, cause)
    return np.where(blocked[:, s.G_KIND] == s.LOG_BARRIER, BARRIER, cause)


def blocked_cycles(program: Program, log: Table) -> Table:
    """Return the cycles for which threads stood still, (code rows, kinds); only kinds of `WAITS` are not zero."""
    kind = log[:, s.G_KIND]
    ops = log[kind <= s.LOG_VECTOR]
    waits = log[(kind > s.LOG_VECTOR) & (kind < s.LOG_INC)]
    size = len(program.code) * len(KINDS)
    out = np.zeros(size, np.int64)
    for rows, cause, cycles in (
        (ops[:, s.G_ROW], UNIT_BUSY, ops[:, s.G_MID] - ops[:, s.G_START]),
        (waits[:, s.G_ROW], causes(program, log, waits), waits[:, s.G_END] - waits[:, s.G_START]),
    ):
        # bincount adds up in float64, which is exact below 2^53 cycles
        out += np.bincount(rows * len(KINDS) + cause, cycles, size).astype(np.int64)
    return out.reshape(-1, len(KINDS))
