"""Column names of the checker's tables; plain integers, so that jitted code takes them as constants."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ints", "State", "Tables"]

Ints = NDArray[np.int64]

# --- geometry of a program (Tables.geom) --------------------------------------------------------------------------
G_ROWS, G_COLS, G_NODES, G_THREADS, G_SEMS, G_GROUPS, G_LISTS, G_SEM_MAX, G_WORDS_NODE = 0, 1, 2, 3, 4, 5, 6, 7, 8
G_WORDS = 10

# --- what a row of code is (Tables.ops) ---------------------------------------------------------------------------
O_CLASS, O_VIEWS, O_VIEW, O_KEEP = 0, 1, 2, 14  # O_VIEW + 2*j: word, direction; O_KEEP: word of the accumulate flag
C_NONE, C_WAIT, C_INC, C_BARRIER, C_LOOP, C_END, C_FREE, C_COPY, C_WORK = 0, 1, 2, 3, 4, 5, 6, 7, 8
O_WORDS = 16

# --- footprints: what bytes a view touches, relative to its lowest one (Tables.foot) ------------------------------
# runs of F_RUN bytes at every sum of i[d] * stride[d]; absent dimensions have count 1 and stride 0; outermost first
F_SPACE, F_GROUP, F_SHAPE, F_OFF, F_SPAN, F_RUN, F_DIMS, F_LOW, F_HIGH, F_STRIDE, F_COUNT = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13
F_WORDS = 17

# --- groups: SRAM buffers that share bytes, then one per tensor (Tables.groups) -----------------------------------
# first list of records, records kept (0 = never written, so nothing can race), lowest byte, bytes, log2 of the bytes
# a shadow bit stands for, first shadow word on a node (SRAM) or in all (memory), shadow kept, byte shift and number of lists,
# bytes of one leading index (0 = not told apart in messages)
R_LIST, R_KEPT, R_LOW, R_BYTES, R_GRAIN, R_WORD, R_SHADOW, R_SHIFT, R_LISTS, R_LEAD = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
R_WORDS = 10

# --- threads (State.threads) --------------------------------------------------------------------------------------
T_NODE, T_THREAD, T_PC, T_LAST, T_STATUS, T_DEPTH, T_KEY, T_NEED, T_ROW = 0, 1, 2, 3, 4, 5, 6, 7, 8
T_BEGIN, T_TRIP, T_TRIPS = 9, 13, 17  # four each: row of the loop, trip count, trips
T_WORDS = 22
READY, BLOCKED, GATHERED, OVER = 0, 1, 2, 3

# --- tokens (State.tokens): a firing of a semaphore, `count` times --------------------------------------------------
K_NEXT, K_BASE, K_OWNER, K_OWNER_TICK, K_COMP, K_TICK, K_ROW, K_COUNT, K_CHAIN, K_KEY, K_KIND = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
K_WORDS = 12
TOKEN_INC, TOKEN_DONE, TOKEN_SENT = 0, 1, 2

# --- queues (State.queues), one per (node, semaphore) ---------------------------------------------------------------
Q_HEAD, Q_TAIL, Q_COUNT, Q_WAIT_COMP, Q_WAIT_TICK, Q_WAIT_ROW, Q_TAKEN = 0, 1, 2, 3, 4, 5, 6
Q_WORDS = 8

# --- access records (State.records) ---------------------------------------------------------------------------------
A_NEXT, A_COMP, A_TICK, A_LOW, A_VIEW, A_WRITE, A_ROW, A_EPOCHS, A_NODE = 0, 1, 2, 3, 4, 5, 6, 7, 8
A_WORDS = 10
E_NEXT, E_COMP, E_TICK = 0, 1, 2  # further epochs of a record, all of which together also end it
E_WORDS = 3

# Components that are no agent: what happened before the start, and what no token ever tells of.
BEFORE, NEVER = -1, -2

# --- hits (State.hits) ----------------------------------------------------------------------------------------------
H_KIND, H_OBJECT, H_FIRST, H_SECOND, H_NODE, H_WAY, H_WHERE, H_EXTRA, H_OTHER = 0, 1, 2, 3, 4, 5, 6, 7, 8
H_WORDS = 9
HIT_NONE, HIT_RACE, HIT_UNINITIALISED, HIT_AMBIGUOUS, HIT_RIVALS, HIT_UNAWAITED, HIT_OVERFLOW, HIT_BARRIER = 0, 1, 2, 3, 4, 5, 6, 7

# --- scalars of a run (State.top) -----------------------------------------------------------------------------------
(X_COMPS, X_SNAP_FREE, X_SNAPS, X_TOKEN_FREE, X_TOKENS, X_RECORD_FREE, X_RECORDS, X_EPOCH_FREE, X_EPOCHS,
 X_QUEUE_AT, X_QUEUE_LEN, X_CURRENT, X_BURST, X_HITS, X_RANDOM, X_PENDING, X_MODE, X_STEPS, X_ERROR_ROW,
 X_ERROR_NODE, X_ERROR_WHAT) = range(21)  # fmt: skip
X_WORDS = 24

# --- how a run of the core ends -------------------------------------------------------------------------------------
END, GROW_COMPS, GROW_SNAPS, GROW_TOKENS, GROW_RECORDS, GROW_EPOCHS, GROW_HITS, BROKEN, TOO_LONG, UNSET = range(10)
# ... and what is broken
WRONG_OPCODE, WRONG_ADDRESS, WRONG_SEM, WRONG_TARGET, WRONG_LOOP, WRONG_COUNT, WRONG_BARRIER = 1, 2, 3, 4, 5, 6, 7


class Tables(NamedTuple):
    """A program as the core reads it; nothing here changes during a run."""

    geom: Ints
    ops: Ints
    code: Ints
    sites: Ints  # for each row the first one with the same source line and mnemonic: findings are told apart by it
    foot: Ints
    groups: Ints
    exprs: Ints
    preds: Ints
    targets: Ints
    params: Ints
    active: Ints  # (nodes,): 1 where a node takes part


class State(NamedTuple):
    """Everything a run changes; pools are grown by the caller between two calls of the core."""

    top: Ints
    threads: Ints
    clocks: NDArray[np.int32]  # (threads, components)
    snaps: NDArray[np.int32]  # (snapshots, components)
    snap_info: Ints  # (snapshots, 2): references, next free
    slot_tick: Ints  # (components,): last tick of a copy slot
    slot_next: Ints
    slot_head: Ints  # (nodes,)
    tokens: Ints
    queues: Ints
    waits: Ints  # (queues, threads, 2): last and last but one wait of each thread
    records: Ints
    heads: Ints
    epochs: Ints
    bits: NDArray[np.uint32]
    missing: Ints  # shadow bits still unset: per (node, SRAM group), then per tensor
    runnable: Ints
    pending: Ints
    scratch: Ints
    hits: Ints
