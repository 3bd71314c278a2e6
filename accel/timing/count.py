"""Work of a program, counted without time: every thread walked alone, as the basis of the lower bounds."""

from __future__ import annotations

from accel.timing.compiled import njit
from accel.timing.copies import copy_entry, target_of
from accel.timing.state import (
    CLASS_COPY,
    CLASS_MATRIX,
    CLASS_VECTOR,
    COPY_MESH,
    COPY_PULL,
    COPY_READ,
    COPY_WRITE,
    E_PORT,
    K_COLS,
    K_COPY_ISSUE,
    K_ISSUE,
    K_NODES,
    K_THREADS,
    N_INJECT,
    N_MATRIX_BUSY,
    N_PORT_BUSY,
    N_VECTOR_BUSY,
    NODE_WORDS,
    O_NODES,
    O_ROWS,
    O_THREADS,
    Q_READ,
    Q_WRITTEN,
    R_BYTES,
    R_CLASS,
    R_COPY,
    R_CYCLES,
    R_PORT,
    ROW_WORDS,
    T_END,
    T_NODE,
    T_PC,
    T_TIME,
    THREAD_WORDS,
    X_BYTES,
    X_EJECT,
    Words,
)
from accel.timing.threads import seek

__all__ = ["count_work"]


@njit
def count_work(m: Words, executed: Words) -> None:
    """Fill the totals of nodes, ports and mesh ports, T_TIME of each thread without any wait, executions a row."""
    for i in range(m[K_NODES] * m[K_THREADS]):
        th = m[O_THREADS] + i * THREAD_WORDS
        node = m[th + T_NODE]
        t = seek(m, th, 0)
        while m[th + T_PC] < m[th + T_END]:
            pc = m[th + T_PC]
            row = m[O_ROWS] + pc * ROW_WORDS
            kind = m[row + R_CLASS]
            executed[pc] += 1
            if kind == CLASS_COPY:
                t += m[K_COPY_ISSUE]
                count_copy(m, th, node, row)
            else:
                t += m[K_ISSUE]
                if kind == CLASS_MATRIX:
                    m[node + N_MATRIX_BUSY] += m[row + R_CYCLES]
                if kind == CLASS_VECTOR:
                    m[node + N_VECTOR_BUSY] += m[row + R_CYCLES]
                m[node + N_PORT_BUSY] += m[row + R_PORT]
                t += max(m[row + R_CYCLES], m[row + R_PORT])
            m[th + T_PC] = pc + 1
            t = seek(m, th, t)
        m[th + T_TIME] = t


@njit
def count_copy(m: Words, th: int, node: int, row: int) -> None:
    """Add the bytes of a copy to what its source, its destinations and its memory port move."""
    kind, size = m[row + R_COPY], m[row + R_BYTES]
    r0, r1, c0, c1 = target_of(m, th, kind)
    if r0 < 0:
        return
    if kind == COPY_PULL:  # whose target is the node it reads
        owner = m[O_NODES] + (r0 * m[K_COLS] + c0) * NODE_WORDS
        m[m[owner + N_INJECT] + X_BYTES] += size
        m[m[m[node + N_INJECT] + X_EJECT] + X_BYTES] += size
        return
    if kind != COPY_READ:
        m[m[node + N_INJECT] + X_BYTES] += size
    if kind != COPY_MESH:
        port = m[copy_entry(m, th, kind, -1, 0) + E_PORT]
        m[port + (Q_READ if kind == COPY_READ else Q_WRITTEN)] += size
    if kind != COPY_WRITE:
        for r in range(r0, r1 + 1):
            for c in range(c0, c1 + 1):
                other = m[O_NODES] + (r * m[K_COLS] + c) * NODE_WORDS
                m[m[m[other + N_INJECT] + X_EJECT] + X_BYTES] += size
