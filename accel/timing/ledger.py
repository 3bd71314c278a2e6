"""Where every node-cycle went: busy time by its parts, gaps by the chain of events that ended them, no residual."""

from __future__ import annotations

import numpy as np

from accel.isa.program import Table
from accel.timing.compiled import njit
from accel.timing.state import (
    G_END,
    G_KIND,
    G_MID,
    G_PREV,
    G_REF,
    G_ROW,
    G_START,
    G_THREAD,
    LOG_COPY_MEMORY,
    LOG_COPY_MESH,
    LOG_INC,
    LOG_VECTOR,
)

__all__ = ["CAUSES", "account"]

CAUSES = (
    "useful", "tile_quantisation", "accumulator", "sram_port", "issue", "vector", "wait_memory", "wait_mesh",
    "wait_peer", "imbalance", "prologue", "epilogue", "unused_nodes",
)  # fmt: skip
(USEFUL, TILE, ACCUMULATOR, SRAM_PORT, ISSUE, VECTOR, WAIT_MEMORY, WAIT_MESH, WAIT_PEER, IMBALANCE, PROLOGUE, EPILOGUE,
 UNUSED) = range(len(CAUSES))  # fmt: skip

# Columns of the cost table, one row a code row; all in cycles but COST_USEFUL, which is in parts of a cycle.
COST_CYCLES, COST_COMPUTE, COST_ACCUMULATOR, COST_FILL, COST_USEFUL, COST_FLOPS, COST_LOADS, COST_STORES, COST_WORDS = (
    range(9)
)


@njit
def walk(log: Table, threads: int, node: int, g: int, low: int, high: int, out: Table) -> None:
    """Add the cycles [low, high) of a node to `out`, going back from log entry g (-1: none) through its thread.

    What no entry covers is issue. A wait ended by a local inc is explained by what the sending thread did: the walk
    goes on there. A barrier or an inc of another node is wait_peer, a copy its kind, a copy queue that was full the
    kind of the copy that made room.
    """
    cur = high
    while cur > low:
        if g < 0 or log[g, G_END] <= low:
            out[ISSUE] += cur - low
            return
        end = min(cur, log[g, G_END])
        out[ISSUE] += cur - end
        begin = min(end, max(low, log[g, G_START]))
        kind = log[g, G_KIND]
        ref = log[g, G_REF]
        if kind <= LOG_VECTOR:
            out[VECTOR] += end - begin
        elif ref >= 0:
            sender = log[ref, G_KIND]
            if sender == LOG_INC and log[ref, G_THREAD] // threads == node:
                if log[ref, G_THREAD] != log[g, G_THREAD]:
                    start = max(begin, min(end, log[ref, G_END]))
                    out[ISSUE] += end - start
                    cur = start
                    g = ref  # the sender explains the wait, and all before it
                    continue
                out[ISSUE] += end - begin
            elif sender == LOG_COPY_MEMORY:
                out[WAIT_MEMORY] += end - begin
            elif sender == LOG_COPY_MESH:
                out[WAIT_MESH] += end - begin
            else:
                out[WAIT_PEER] += end - begin
        cur = begin
        g = log[g, G_PREV]


@njit
def account(
    log: Table, count: int, engine: int, threads: int, costs: Table, last: Table, cycles: int, parts: int, out: Table
) -> int:
    """Fill `out` (nodes, causes) in parts of a cycle for the nodes of the mesh; returns the flops of the engine.

    engine: LOG_MATRIX or LOG_VECTOR, whose work is accounted; last: the cycle of each node's last event. A node
    without such work is unused; but where no node has any, each that does something is explained from its last
    instruction back to cycle 0.
    """
    nodes = out.shape[0]
    whole = out.copy()
    worked = False
    latest = np.full(nodes, -1, np.int64)  # the log entry of each node that ended last
    for node in range(nodes):
        whole[node, UNUSED] = -1  # until the node's first work: the end of its latest work
    flops = 0
    for g in range(count):
        node = log[g, G_THREAD] // threads
        if latest[node] < 0 or log[g, G_END] >= log[latest[node], G_END]:
            latest[node] = g
        if log[g, G_KIND] != engine:
            continue
        pc = log[g, G_ROW]
        free = whole[node, UNUSED]
        start = log[g, G_MID]
        if free < 0:
            whole[node, PROLOGUE] += start
        elif start > free:
            walk(log, threads, node, log[g, G_PREV], free, start, whole[node])
        whole[node, TILE] += costs[pc, COST_COMPUTE]
        whole[node, ACCUMULATOR] += costs[pc, COST_ACCUMULATOR]
        whole[node, ISSUE] += costs[pc, COST_FILL]
        whole[node, SRAM_PORT] += log[g, G_END] - start - costs[pc, COST_CYCLES]
        out[node, USEFUL] += costs[pc, COST_USEFUL]
        whole[node, UNUSED] = log[g, G_END]
        worked = True
        flops += costs[pc, COST_FLOPS]
    for node in range(nodes):
        free = whole[node, UNUSED]
        if free < 0 and (worked or latest[node] < 0):
            whole[node, UNUSED] = cycles
        else:
            if free < 0:
                free = log[latest[node], G_END]
                walk(log, threads, node, latest[node], 0, free, whole[node])
            whole[node, UNUSED] = 0
            ended = max(free, last[node])
            whole[node, EPILOGUE] += ended - free
            whole[node, IMBALANCE] += cycles - ended
        for cause in range(whole.shape[1]):
            out[node, cause] += whole[node, cause] * parts
        out[node, TILE] -= out[node, USEFUL]
    return flops
