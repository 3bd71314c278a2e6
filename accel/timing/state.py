"""The arrays of the event engine and the names of their columns; every array is int64 and a row is a thing."""

from __future__ import annotations

from typing import NamedTuple

from accel.isa.program import Table

# --- Tables: constant during a run ------------------------------------------------------------------------------
# rows: one a code row; R_CLASS says what the engine does with it
R_CLASS, R_CYCLES, R_PORT, R_BYTES, R_COPY, ROW_WORDS = 0, 1, 2, 3, 4, 5
(CLASS_MARK, CLASS_WAIT, CLASS_INC, CLASS_BARRIER, CLASS_LOOP, CLASS_END, CLASS_COPY, CLASS_MATRIX,
 CLASS_VECTOR) = range(9)  # fmt: skip
COPY_READ, COPY_MESH, COPY_WRITE = 0, 1, 2  # memory to SRAM, SRAM to SRAM, SRAM to memory

# config: one number each
(K_ROWS, K_COLS, K_NODES, K_THREADS, K_SITE_ROWS, K_SITE_COLS, K_SITES, K_BUFFER, K_LINK_BYTES, K_MESH_BYTES, K_HOP,
 K_ISSUE, K_COPY_ISSUE, K_QUEUE, K_SEMAPHORE, K_BARRIER, K_PACKET, K_PORTS, K_ENTRIES, K_INJECT, K_ENTER, K_EJECT,
 K_LEAVE, K_WHEEL, K_SEMAPHORES, CONFIG_WORDS) = range(26)  # fmt: skip

# entries: one a router of a memory port
E_SITE, E_PORT, E_LINK_BYTES, ENTRY_WORDS = 0, 1, 2, 3


class Tables(NamedTuple):
    """The program and the chip as the engine reads them."""

    code: Table
    rows: Table
    exprs: Table
    preds: Table
    targets: Table
    params: Table
    config: Table
    entries: Table
    site_row: Table  # logical row of a physical row, -1 = none
    site_col: Table
    row_site: Table  # physical row of a logical row
    col_site: Table


# --- State: what changes ------------------------------------------------------------------------------------------
(S_NOW, S_FREE, S_FREE_COUNT, S_COPY_FREE, S_COPY_COUNT, S_LOG, S_HEAP, S_SERIAL, S_EVENTS, S_LAST, S_LAST_LOG,
 S_WHEEL, S_STACK, S_ERROR, S_BARRIERS, S_LAST_THREAD, S_LIVE, S_STATUS,
 SCALARS) = range(19)  # fmt: skip

# threads
(T_PC, T_END, T_STATE, T_SEM, T_COUNT, T_SERIAL, T_LOG, T_OPEN, T_TIME, T_DEPTH, T_TRIP, T_TRIPS, THREAD_WORDS) = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 18,
)  # fmt: skip
RUNNING, WAITING, STALLED, JOINING, ENDED = range(5)

# nodes: free times of units and ports, copy queue, totals
(N_MATRIX, N_VECTOR, N_PORT, N_COPIES, N_HEAD, N_TAIL, N_LAST, N_MATRIX_BUSY, N_VECTOR_BUSY, N_PORT_BUSY, N_ISSUED,
 NODE_WORDS) = range(12)  # fmt: skip

# links: a server with a free time, a ring of buffer slots at its far end, and who waits for a slot
X_FREE, X_SLOT, X_HEAD, X_TAIL, X_SITE, X_BYTES, X_RING = 0, 1, 2, 3, 4, 5, 6
EAST, WEST, SOUTH, NORTH = range(4)
UNKNOWN = -1  # a buffer slot whose packet has no departure time yet

# pool: packets, tokens and events share one record; P_NEXT links whatever list holds it
P_NEXT, P_KIND, P_COPY, P_SIZE, P_LINK, P_SLOT, P_PENDING, P_RELEASE, POOL_WORDS = 0, 1, 2, 3, 4, 5, 6, 7, 8
P_NODE, P_SEM, P_N, P_FROM = 2, 3, 4, 5  # the same words in a token
(EV_PACKET, EV_THREAD, EV_TOKEN, EV_SENT, EV_DONE, EV_REQUEST, EV_PORT) = range(7)
# P_SIZE = bytes << 24 | link cycles << 1 | last packet of its copy
SIZE_BYTES, SIZE_CYCLES, CYCLES_MASK = 24, 1, (1 << 23) - 1

# copies in flight
(C_NEXT, C_NODE, C_LOG, C_KIND, C_LEFT, C_ROW0, C_ROW1, C_COL0, C_COL1, C_SITE_ROW0, C_SITE_ROW1, C_SITE_COL0,
 C_SITE_COL1, C_DONE, C_SENT, C_LIVE, C_ENTRY, C_SERIAL, COPY_WORDS) = range(19)  # fmt: skip

# ports: the clock of port q counts 1 / Q_CLOCK of a cycle, so that any rational rate is exact
(Q_CLOCK, Q_COST, Q_EDGE_COST, Q_LATENCY, Q_FIRST, Q_COUNT, Q_FREE, Q_EDGE_IN, Q_EDGE_OUT, Q_WAKE, Q_READ, Q_WRITTEN,
 Q_INTERLEAVE, PORT_WORDS) = range(14)  # fmt: skip
# queues at a port router: read requests (copies) and write packets
U_READ, U_READ_TAIL, U_WRITE, U_WRITE_TAIL, U_FREE_OUT, QUEUE_WORDS = 0, 1, 2, 3, 4, 5

# log: one entry an instruction with an effect; ops and blocked waits have a length, incs and copies are points
G_KIND, G_THREAD, G_ROW, G_START, G_MID, G_END, G_PREV, G_REF, LOG_WORDS = 0, 1, 2, 3, 4, 5, 6, 7, 8
LOG_MATRIX, LOG_VECTOR, LOG_WAIT, LOG_STALL, LOG_BARRIER, LOG_INC, LOG_COPY_MEMORY, LOG_COPY_MESH = range(8)

# status of a run
DONE, GROW_POOL, GROW_COPIES, GROW_LOG, GROW_BARRIERS, STUCK, BAD_TARGET, BAD_SEMAPHORE = range(8)


class State(NamedTuple):
    """Everything the engine changes; Python may enlarge pool, heap, copies, log and barriers between two calls."""

    scalars: Table
    wheel: Table  # (cycles, 2): first and last record of the list of a cycle
    heap: Table  # (capacity, 3): time, serial, record of events beyond the wheel
    pool: Table
    links: Table
    copies: Table
    nodes: Table
    threads: Table
    counts: Table  # (nodes, semaphores)
    ports: Table
    queues: Table
    barriers: Table  # (capacity, 6 + nodes): row0, row1, col0, col1, arrived, size, then the thread of each node or -1
    log: Table
