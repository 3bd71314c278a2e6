"""The memory of the event engine: one int64 array of records; a record is known by its address, 0 is none.

One array instead of many keeps every compiled function at two arguments (memory and log), which halves the compile time
and more. Constants name the words of a record: `m[link + X_FREE]`. The header, words 0 to HEADER_WORDS, holds what
there is once: numbers of the chip and the program (K_), addresses of tables (O_) and the scalars of the run (S_).
"""

from __future__ import annotations

from typing import Protocol


class Words(Protocol):
    """An int64 array as compiled code sees it; int elements keep the type checker's eyes open."""

    def __getitem__(self, at: int, /) -> int: ...
    def __setitem__(self, at: int, value: int, /) -> None: ...


class Log(Protocol):
    """The log, (capacity, LOG_WORDS)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Capacity and LOG_WORDS."""

    def __getitem__(self, at: tuple[int, int], /) -> int: ...
    def __setitem__(self, at: tuple[int, int], value: int, /) -> None: ...


# --- header -------------------------------------------------------------------------------------------------------
(_NULL,
 K_ROWS, K_COLS, K_NODES, K_THREADS, K_SEMAPHORES, K_HOP, K_ISSUE, K_COPY_ISSUE, K_QUEUE, K_SEMAPHORE, K_BARRIER,
 K_PACKET, K_LINK_BYTES, K_MESH_BYTES, K_PORTS, K_INTERLEAVE, K_PARAMS, K_WHEEL, K_LINK_WORDS, K_SEEN, K_BIN,
 K_BIN_FIRST, K_BIN_LAST, K_BINS, K_LANES, K_WRITE_LANE, K_HEADER,
 K_MOST, K_MOVES,
 O_CODE, O_ROWS, O_EXPRS, O_PREDS, O_TARGETS, O_PARAMS, O_ROW_SITE, O_COL_SITE, O_NODES, O_THREADS, O_PORTS, O_LINKS,
 O_WHEEL, O_HEAP, O_BARRIERS, O_SPARE, O_SEEN, O_BINS, O_ENTRIES,
 S_NOW, S_FREE, S_FREE_COUNT, S_COPY_FREE, S_COPY_COUNT, S_LOG, S_HEAP, S_HEAP_SIZE, S_SERIAL, S_EVENTS, S_LAST,
 S_LAST_THREAD, S_LAST_LOG, S_WHEEL, S_STACK, S_ERROR, S_BARRIERS, S_BARRIERS_SIZE, S_LIVE, S_STATUS, S_BEGUN, S_SEEN,
 S_ERROR_NODE, S_ERROR_VALUE, S_MOVES, HEADER_WORDS) = range(75)  # fmt: skip

# rows: one a code row, beside the code; R_CLASS says what the engine does with it
R_CLASS, R_CYCLES, R_PORT, R_BYTES, R_COPY, ROW_WORDS = range(6)
(CLASS_MARK, CLASS_WAIT, CLASS_INC, CLASS_BARRIER, CLASS_LOOP, CLASS_END, CLASS_COPY, CLASS_MATRIX,
 CLASS_VECTOR) = range(9)  # fmt: skip
# memory to SRAM, SRAM to SRAM, SRAM to memory, SRAM of another node to SRAM here
COPY_READ, COPY_MESH, COPY_WRITE, COPY_PULL = range(4)

# threads of a node lie side by side, and nodes in order, so the index of a thread is node * threads + number
(T_INDEX, T_NODE, T_PC, T_END, T_STATE, T_SEM, T_COUNT, T_SERIAL, T_LOG, T_OPEN, T_TIME, T_DEPTH) = range(12)
T_TRIP, T_TRIPS, THREAD_WORDS = 12, 16, 20  # trip counter and trip count of each nesting level
RUNNING, WAITING, STALLED, JOINING, ENDED = range(5)

# nodes: place, free times of units and ports, copy queue, totals
(N_INDEX, N_ROW, N_COL, N_SITE_ROW, N_SITE_COL, N_INJECT, N_COUNTS, N_FIRST_THREAD, N_PARAMS, N_MATRIX, N_VECTOR,
 N_PORT, N_COPIES, N_HEAD, N_TAIL, N_LAST, N_MATRIX_BUSY, N_VECTOR_BUSY, N_PORT_BUSY, N_ACTIVE, N_SEEN,
 NODE_WORDS) = range(22)  # fmt: skip

# links: a server with a free time, a ring of buffer slots at its far end, and who waits for a slot. The router at
# the far end is at site (X_ROW, X_COL), logical (X_NODE_ROW, X_NODE_COL) or -1; its own four links begin at X_ROUTER.
(X_FREE, X_SLOT, X_HEAD, X_TAIL, X_BYTES, X_STACK, X_WAY, X_ROW, X_COL, X_NODE_ROW, X_NODE_COL, X_NODE, X_ROUTER,
 X_EJECT, X_ENTRY, X_RING_END, X_RING) = range(17)  # fmt: skip
EAST, WEST, SOUTH, NORTH, INJECT, ENTER, EJECT = range(7)
UNKNOWN = -1  # a buffer slot whose packet has no departure time yet

# pool: packets, tokens and events share one record; P_NEXT links whatever list holds it
P_NEXT, P_KIND, P_COPY, P_SIZE, P_LINK, P_SLOT, P_PENDING, P_RELEASE, POOL_WORDS = range(9)
P_NODE, P_SEM, P_N, P_FROM = 2, 3, 4, 5  # the same words in a token
P_PARENT = P_SLOT  # while the packet waits for a link
EV_PACKET, EV_THREAD, EV_TOKEN, EV_SENT, EV_DONE, EV_REQUEST, EV_PORT = range(7)
# P_SIZE = bytes << 24 | link cycles << 1 | last packet of its copy
SIZE_BYTES, SIZE_CYCLES, CYCLES_MASK = 24, 1, (1 << 23) - 1

# copies in flight; C_FROM is the node whose SRAM is read (the issuer where memory is)
(C_NEXT, C_NODE, C_LOG, C_KIND, C_LEFT, C_ROW0, C_ROW1, C_COL0, C_COL1, C_SITE_ROW0, C_SITE_ROW1, C_SITE_COL0,
 C_SITE_COL1, C_DONE, C_SENT, C_LIVE, C_ENTRY, C_SERIAL, C_FROM, COPY_WORDS) = range(20)  # fmt: skip

# memory ports: a clock that counts 1 / Q_CLOCK of a cycle, so that any rational rate is exact; Q_COST a byte
(Q_CLOCK, Q_COST, Q_EDGE_COST, Q_LATENCY, Q_FIRST, Q_COUNT, Q_FREE, Q_EDGE_IN, Q_EDGE_OUT, Q_WAKE, Q_READ, Q_WRITTEN,
 Q_INTERLEAVE, PORT_WORDS) = range(14)  # fmt: skip
# port routers: their site, and the queues of read requests (copies) and write packets
(E_ROW, E_COL, E_PORT, E_LINK_BYTES, E_LINK, E_READ, E_READ_TAIL, E_WRITE, E_WRITE_TAIL, E_FREE_OUT,
 ENTRY_WORDS) = range(11)  # fmt: skip

# open barriers: rectangle, arrivals, size, then the thread record of each node that has arrived
B_ROW0, B_ROW1, B_COL0, B_COL1, B_ARRIVED, B_SIZE, B_NODES = range(7)

# log: one entry an instruction with an effect; ops and blocked waits have a length, incs and copies are points. Of an
# op, G_MID is when its unit took it; of a copy, G_MID is when it was sent, G_DONE when its last destination had it,
# and G_REF is -2 less the code of its target, four numbers of SIDE_BITS: first and last row, first and last column.
G_KIND, G_THREAD, G_ROW, G_START, G_MID, G_END, G_PREV, G_REF, G_DONE, LOG_WORDS = range(10)
LOG_MATRIX, LOG_VECTOR, LOG_WAIT, LOG_STALL, LOG_BARRIER, LOG_INC, LOG_COPY_MEMORY, LOG_COPY_MESH = range(8)

# What a recording run notes beside the log, for the nodes whose N_SEEN is set: rows without a log entry
(SEEN_THREAD, SEEN_ROW, SEEN_TIME, SEEN_HOW, SEEN_WORDS) = range(5)
(SEEN_MARK, SEEN_LOOP, SEEN_OFF, SEEN_PASSED) = range(4)  # passed: a wait that did not block
# and every transfer over a link, from S_MOVES on; beyond K_MOVES they are added to the time bins and begun anew
(MOVE_LANE, MOVE_START, MOVE_CYCLES, MOVE_BYTES, MOVE_WORDS) = range(5)
SIDE_BITS = 15  # of a row or column in the code of a rectangle

# status of a run
(DONE, GROW_POOL, GROW_COPIES, GROW_LOG, GROW_HEAP, GROW_BARRIERS, STUCK, BAD_TARGET, BAD_SEMAPHORE,
 BAD_COUNT, BAD_MEMBER, BAD_OWNER, EXHAUSTED, TOO_LONG, FULL_MOVES) = range(15)  # fmt: skip
