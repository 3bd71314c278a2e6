"""Word positions of the checker's arena: one int64 array that holds program tables, state and pools.

`m[0:HEAD_WORDS]` is the header: sizes, counters and the first words of everything else (M_*, X_*). Tables are reached
as base + row * words; pool entries (tokens, records, barriers) by their own address, 0 is none. Growing appends to the
arena, so addresses stay good. One array and not thirty, because Numba passes each array of a call as ten values.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ints", "State", "Table"]

Table: TypeAlias = NDArray[np.int64]
Ints: TypeAlias = Any  # the arena in jitted code: a Table whose elements are ints


class State(NamedTuple):
    """Everything the core reads and changes."""

    m: Ints
    log: NDArray[np.int32]  # what threads have learned, L_WORDS an entry; entry 0 is none
    bits: NDArray[np.uint32]  # shadow: which bytes hold a value


# --- header: geometry ------------------------------------------------------------------------------------------------
(M_ROWS, M_COLS, M_NODES, M_THREADS, M_SEMS, M_GROUPS, M_SEM_MAX, M_NODE_BITS) = range(8)
# --- header: first words of tables -----------------------------------------------------------------------------------
(M_CODE, M_OPS, M_SITES, M_FOOT, M_GROUP, M_EXPRS, M_PREDS, M_TARGETS, M_PARAMS, M_ACTIVE, M_PARAM_COUNT, M_TH,
 M_QUEUES, M_WAITS, M_LISTS, M_MISSING, M_RUNNABLE, M_PENDING, M_HITS, M_HIT_SIZE, M_PENDING_SIZE, M_SEEN, M_ASKED,
 M_ANSWERS, M_ANSWERS_SIZE, M_MEETINGS) = range(8, 34)  # fmt: skip
# --- header: pools, each a free list and how many entries it has -----------------------------------------------------
(X_TOKEN_FREE, X_TOKENS, X_RECORD_FREE, X_RECORDS, X_MEETING_FREE, X_MEETINGS) = range(34, 40)
# --- header: progress ------------------------------------------------------------------------------------------------
(X_LOG, X_EVENTS, X_STAMP, X_ASKED_AT, X_QUEUE_AT, X_QUEUE_LEN, X_CURRENT, X_BURST, X_HITS, X_RANDOM, X_PENDING, X_MODE,
 X_STEPS, X_ERROR_ROW, X_ERROR_NODE, X_ERROR_WHAT, X_ERROR_VIEW, X_ERROR_VALUE) = range(40, 58)  # fmt: skip
X_PLACES = 58  # where the views of the instruction at hand lie, at most four
HEAD_WORDS = 64

# --- what an opcode is -----------------------------------------------------------------------------------------------
# O_VIEW + 3*j: word, direction, whether the codes of the view are read or made (so that its bias counts);
# O_KEEP: word of the accumulate flag; O_PLACE: dst may be exactly where an operand is
O_CLASS, O_VIEWS, O_VIEW, O_KEEP, O_PLACE = 0, 1, 2, 14, 15
C_NONE, C_WAIT, C_INC, C_BARRIER, C_LOOP, C_END, C_FREE, C_COPY, C_PULL, C_WORK = range(10)
O_WORDS = 16

# --- footprints: what bytes a view touches, relative to its lowest one -----------------------------------------------
# runs of F_RUN bytes at every sum of i[d] * stride[d]; absent dimensions have count 1 and stride 0; outermost first.
# Only bytes from F_LOW to F_HIGH count: the object, or the ring, of which a view that wraps has two pieces F_RING bytes
# apart. F_SCALAR: index of the footprint of the byte at F_SCALAR_AT that holds the bias, 0 for none. F_ITEM: log2 of
# the bytes of an element
(F_SPACE, F_GROUP, F_SHAPE, F_OFF, F_SPAN, F_RUN, F_DIMS, F_LOW, F_HIGH, F_RING, F_SCALAR, F_SCALAR_AT, F_ITEM,
 F_STRIDE) = range(14)  # fmt: skip
F_COUNT = F_STRIDE + 4
F_WORDS = 22

# --- groups: SRAM buffers that share bytes, then one per tensor ------------------------------------------------------
# first list of records, records kept (0 = never written, so nothing can race), lowest byte, bytes, log2 of the bytes a
# shadow bit stands for, first shadow word on a node (SRAM) or in all (memory), shadow kept, log2 of the bytes a list of
# records covers, number of lists, bytes of one leading index (0 = not told apart in messages)
R_LIST, R_KEPT, R_LOW, R_BYTES, R_GRAIN, R_WORD, R_SHADOW, R_SHIFT, R_LISTS, R_LEAD = range(10)
R_WORDS = 10

# --- threads ---------------------------------------------------------------------------------------------------------
# T_KEY: the queue it waits for, or the rectangle of its barrier; T_LOG: newest entry of its log; T_NEXT: the one before
# it at its barrier, plus 1; T_OPEN: a queue that it waited at and has done nothing since, plus 1
T_NODE, T_THREAD, T_PC, T_LAST, T_STATUS, T_DEPTH, T_KEY, T_NEED, T_ROW, T_TICK, T_LOG, T_NEXT, T_OPEN = range(13)
T_BEGIN, T_TRIP, T_TRIPS = 13, 17, 21  # four each: row of the loop, trip count, trips
T_WORDS = 25
READY, BLOCKED, GATHERED, OVER = range(4)

# --- what threads have learned: entries of the log, by `order.py` ----------------------------------------------------
L_PREVIOUS, L_OWNER, L_TICK, L_BASE, L_EVENT = range(5)  # the entry before it of the same thread, and what it tells
L_WORDS = 5
V_STAMP, V_TOP, V_DONE, V_UP = range(4)  # a search: of which one, entries to look at, those looked at, in the list
V_WORDS = 4
B_COMP, B_TICK, B_THREAD, B_YES, B_NO = range(5)  # answers: the event, who; entries at which it knew, and did not yet
B_WORDS = 5

# --- events: a thread (component) at a tick, or COPIED and the number of a copy's read or of one of its writes --------
BEFORE, NEVER, COPIED = -1, -2, -3  # before the start; what no token tells of; a copy's

# --- tokens: a firing of a semaphore, `count` times ------------------------------------------------------------------
(K_NEXT, K_BASE, K_OWNER, K_OWNER_TICK, K_COMP, K_TICK, K_SERIAL, K_ROW, K_COUNT, K_CHAIN, K_KEY, K_KIND) = range(12)
K_WORDS = 12
TOKEN_INC, TOKEN_DONE, TOKEN_SENT = range(3)

# --- queues, one per (node, semaphore), and the last waits of each thread on it --------------------------------------
# tick 0: no wait yet; Q_NOW...: waits whose thread has done nothing since, and the tokens that they took (0: none)
(Q_HEAD, Q_TAIL, Q_COUNT, Q_WAIT_COMP, Q_WAIT_TICK, Q_WAIT_SERIAL, Q_WAIT_ROW, Q_TAKEN, Q_NOW, Q_NOW_COMP, Q_NOW_TICK,
 Q_NOW_SERIAL, Q_NOW_ROW) = range(13)  # fmt: skip
Q_WORDS = 13
# last wait and the one before, each with its serial; the event whose counts the last one took
# Y_LISTED: 1 while the queue is in the list of its thread that begins at T_OPEN; Y_NEXT: the next of that list, plus 1
Y_LAST, Y_SERIAL, Y_BEFORE, Y_BEFORE_SERIAL, Y_COMP, Y_TICK, Y_LISTED, Y_NEXT = range(8)
Y_WORDS = 8

# --- access records; a copy's read is also over when all of its A_MANY writes are, events from A_FIRST on -------------
# A_KNOWN: bits of the node's own threads that know it is over, A_KNOWS: another thread that does, plus 1
(A_NEXT, A_COMP, A_TICK, A_SERIAL, A_LOW, A_FOOT, A_WRITE, A_ROW, A_FIRST, A_MANY, A_NODE, A_KNOWN,
 A_KNOWS) = range(13)  # fmt: skip
A_WORDS = 13

# --- barriers that threads have joined and not left, listed at the first node of their rectangle ----------------------
J_NEXT, J_KEY, J_MISSING, J_LAST = range(4)  # J_LAST: the thread that came last, plus 1
J_WORDS = 4

# --- hits ------------------------------------------------------------------------------------------------------------
H_KIND, H_OBJECT, H_FIRST, H_SECOND, H_NODE, H_WAY, H_WHERE, H_EXTRA, H_OTHER = range(9)
H_WORDS = 9
(HIT_NONE, HIT_RACE, HIT_UNINITIALISED, HIT_AMBIGUOUS, HIT_RIVALS, HIT_UNAWAITED, HIT_OVERFLOW, HIT_BARRIER) = range(8)

# Numba compiles a function anew for each literal argument; constants of a module are not literals to it.
NO_ROW, NOTHING, READ, WRITE = -1, 0, 0, 1
BURST, LANDING = 8, 4  # shuffled schedules: at most 8 instructions in a row; one time in 4 a copy lands first

# --- how a call of the core ends -------------------------------------------------------------------------------------
END, GROW_LOG, GROW_TOKENS, GROW_RECORDS, GROW_HITS, BROKEN, TOO_LONG, UNSET = range(8)
# ... what is broken
(WRONG_OPCODE, WRONG_ADDRESS, WRONG_ALIGNMENT, WRONG_SEM, WRONG_TARGET, WRONG_LOOP, WRONG_COUNT,
 WRONG_BARRIER) = range(1, 9)  # fmt: skip
# ... and how an instruction ends
GO_ON, STOP, FAIL = range(3)
