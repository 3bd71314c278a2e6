"""Word positions of the executor's own tables: views with extents, threads, copies in flight, errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import VX_WORDS, X_BEGIN, X_COUNT, X_END, X_HIGH, X_ITEM, X_LOW

# --- views: the program's words, then what a bounds check needs: see `accel.isa.layout` -------------------------------
__all__ = ["VX_WORDS", "X_BEGIN", "X_COUNT", "X_END", "X_HIGH", "X_ITEM", "X_LOW"]

X_HOLDER = 22  # 1 + the buffer that holds the view's bias scalar, 0 where it has none: see `formats`

# --- what probes record: node, name, view, bias word at that time, first byte in the arena ---------------------------
LOG_WORDS = 5
L_NODE, L_NAME, L_VIEW, L_BIAS, L_BYTE = 0, 1, 2, 3, 4

# --- threads: row node * threads + thread ---------------------------------------------------------------------------
THREAD_WORDS = 20
S_PC, S_LAST, S_STATUS, S_DEPTH, S_SEM, S_COUNT, S_GROUP, S_TRIP, S_LIMIT = 0, 1, 2, 3, 4, 5, 6, 8, 12
ENDED, READY, WAITING, JOINING = 0, 1, 2, 3  # JOINING: at a barrier

# --- config: scalars of a run, and the counters it leaves behind ----------------------------------------------------
CONFIG_WORDS = 48
C_ROWS, C_COLS, C_THREADS, C_MARK, C_RANDOM, C_LIMIT, C_HEAD, C_READY = 0, 1, 2, 3, 4, 5, 6, 7
C_EVENTS, C_COPIES, C_CHANGED, C_EXECUTED, C_GROUPS, C_LATE, C_DELAY, C_RESTRICTED = 8, 9, 10, 11, 12, 13, 14, 15
# Stages hold what copies have read but not yet delivered: first byte, how many, bytes of each; and how many views there
# are before their dense twins.
C_STAGE, C_STAGES, C_STAGE_BYTES, C_VIEWS = 16, 17, 18, 19
# The seed of random numbers (the bits of a uint64); scratches for operands that wrap: first byte, bytes of each (0 in a
# program without rings); whether probes record.
C_SEED, C_RING, C_RING_BYTES, C_PROBES = 20, 21, 22, 23
# What probes have recorded: rows of the log, the next byte of the arena, its end; whether one found no room.
C_LOG, C_LOG_BYTE, C_LOG_END, C_FULL = 24, 25, 26, 27
# The log of work for several threads: whether it may be kept, the items in it, and the work still to be done without.
C_LOGGING, C_ITEMS, C_ALONE = 28, 29, 30
# The bytes of the arena whose panels stand in the scratch as the right operand of the last bf16 product: first, end (0:
# none); its key (first element, 1 if pairs, shape and strides) and greatest magnitude. See `held`.
C_HELD_LOW, C_HELD_HIGH, C_HELD_KEY, C_HELD_GREATEST = 31, 32, 33, 43

# --- copies and tokens in flight under a random schedule ----------------------------------------------------------
EVENT_WORDS = 4
EV_KIND, EV_A, EV_B, EV_C = 0, 1, 2, 3  # a read: copy; a part: copy, destination node; a token: node, semaphore, count
COPY_WORDS = 12
K_ROW, K_ISSUER, K_DST_VIEW, K_DST, K_SRC_VIEW, K_SRC, K_LEFT, K_DONE, K_SENT, K_THREAD = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
K_STAGED, K_READ = 10, 11  # whether the copy has a stage of its own, and whether its source is in it
GROUP_WORDS = 6  # barriers: rectangle, nodes that arrived, nodes that must

# --- errors ---------------------------------------------------------------------------------------------------------
ERROR_WORDS = 8
F_NODE, F_THREAD, F_ROW, F_A, F_B, F_C = 1, 2, 3, 4, 5, 6
OK, DEADLOCK, BOUNDS, ALIGNMENT, SEMAPHORE, OVERFLOW, TARGET, COUNT, DEPTH, GROUPS, MEMBER, INDEX, FULL = range(13)
# FULL is no error: the log of probes, or of work, must be emptied before the run can go on.

# Arguments of jitted functions: Numba compiles a callee once more for every literal it is called with, not for these.
ZERO: Any = np.int64(0)
ONE: Any = np.int64(1)
TWO: Any = np.int64(2)
RANGE: Any = np.int64(256)  # of the random draw that C_DELAY is compared with
PART, TOKEN, READ = ZERO, ONE, TWO  # kinds of event
