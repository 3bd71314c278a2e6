"""The arena at the start of a run: program tables, empty pools, runnable threads, semaphores as they begin."""

from __future__ import annotations

import numpy as np

from accel.check import layout as w
from accel.check.layout import State, Table
from accel.check.prepare import Tables, ops
from accel.errors import UnsupportedError
from accel.isa.program import Program

__all__ = ["BYTES_LIMIT", "chain", "first_state"]

BYTES_LIMIT = 3 << 30  # shadow, records and log together
LOG = 1 << 12  # entries that the log has to spare at first
HITS = 1 << 12  # entries of the first table of hits


class Arena:
    """An int64 array in the making: tables one after the other, their first words in its header."""

    def __init__(self) -> None:
        self.head = np.zeros(w.HEAD_WORDS, np.int64)
        self.parts: list[Table] = [self.head]
        self.size = w.HEAD_WORDS

    def put(self, base: int, table: Table) -> int:
        """Append a table, note its first word in the header at `base` and return it."""
        first = self.head[base] = self.size
        self.parts.append(np.ascontiguousarray(table, np.int64).reshape(-1))
        self.size += table.size
        return int(first)

    def pool(self, free: int, rows: int, words: int) -> int:
        """Append a pool of free entries; header word `free` gets the first and the next one how many; return it."""
        first = self.size
        self.parts.append(chain(rows, words, first, 0))
        self.head[free], self.head[free + 1] = first, rows
        self.size += rows * words
        return first

    def whole(self) -> Table:
        """Return the array."""
        return np.concatenate(self.parts)


def chain(rows: int, words: int, first: int, after: int) -> Table:
    """Return a pool of free entries, each with the address of the next in its first word, the last one with `after`."""
    pool = np.zeros((rows, words), np.int64)
    pool[:, 0] = first + words * np.arange(1, rows + 1)
    pool[-1, 0] = after
    return pool.reshape(-1)


def first_state(t: Tables, mode: int, seed: int) -> State:
    """Return the state before the first instruction; UnsupportedError where the mesh is too large to check."""
    program = t.program
    nodes, threads, sems = program.nodes, program.threads, program.semaphore_init.size
    agents, tokens = nodes * threads, 8 * nodes + nodes * sems + 64
    answers = 1 << min(21, max(10, (16 * agents - 1).bit_length()))
    need = 4 * (nodes * t.sram_words + t.memory_words) + 8 * (
        tokens * w.K_WORDS + nodes * sems * (w.Q_WORDS + threads * w.Y_WORDS) + answers * w.B_WORDS + t.lists
    )
    if need > BYTES_LIMIT:
        raise UnsupportedError(
            f"{program.name!r} on {program.rows} x {program.cols} nodes needs {need / 2**30:.1f} GiB to check, the "
            f"limit is {BYTES_LIMIT >> 30} GiB; check the kernel on a smaller mesh or shape"
        )
    arena = Arena()
    head = arena.head
    head[[w.M_ROWS, w.M_COLS, w.M_NODES, w.M_THREADS, w.M_SEMS]] = program.rows, program.cols, nodes, threads, sems
    head[[w.M_GROUPS, w.M_SEM_MAX, w.M_NODE_BITS]] = t.sram_groups, t.sem_max, t.sram_words
    head[w.M_PARAM_COUNT] = program.params.shape[1]
    for base, table in (
        (w.M_CODE, program.code), (w.M_OPS, ops()), (w.M_SITES, t.sites), (w.M_FOOT, t.foot), (w.M_GROUP, t.group),
        (w.M_EXPRS, program.exprs), (w.M_PREDS, program.preds), (w.M_TARGETS, program.targets),
        (w.M_PARAMS, program.params), (w.M_ACTIVE, (program.role_of >= 0).astype(np.int64)),
    ):  # fmt: skip
        arena.put(base, table)
    for base, words in (
        (w.M_WAITS, nodes * sems * threads * w.Y_WORDS), (w.M_LISTS, t.lists), (w.M_PENDING, tokens),
        (w.M_HITS, HITS * w.H_WORDS), (w.M_SEEN, agents * w.V_WORDS), (w.M_ASKED, agents),
        (w.M_ANSWERS, answers * w.B_WORDS), (w.M_MEETINGS, nodes),
    ):  # fmt: skip
        arena.put(base, np.zeros(words, np.int64))
    group_bits = -(-t.group[:, w.R_BYTES] >> t.group[:, w.R_GRAIN])
    arena.put(w.M_MISSING, np.concatenate((np.tile(group_bits[: t.sram_groups], nodes), group_bits[t.sram_groups :])))
    head[[w.M_PENDING_SIZE, w.M_HIT_SIZE, w.M_ANSWERS_SIZE]] = tokens, HITS, answers
    arena.pool(w.X_RECORD_FREE, 16 * nodes + 1024, w.A_WORDS)
    arena.pool(w.X_MEETING_FREE, agents + 1, w.J_WORDS)  # a thread is at one barrier at most
    _threads(arena, program)
    _queues(arena, program, tokens)
    head[[w.X_LOG, w.X_EVENTS, w.X_CURRENT, w.X_MODE]] = 1, 1, -1, mode
    head[w.X_RANDOM] = (seed * 2654435761 + 97 * mode + 12345) & 0x7FFFFFFF
    log = np.zeros((2 * max(tokens, 2 * agents) + LOG) * w.L_WORDS, np.int32)
    return State(arena.whole(), log, np.zeros(nodes * t.sram_words + t.memory_words + 1, np.uint32))


def _threads(arena: Arena, program: Program) -> None:
    rows = np.zeros((program.nodes * program.threads, w.T_WORDS), np.int64)
    runnable = []
    for i, row in enumerate(rows):
        node, thread = divmod(i, program.threads)
        role = int(program.role_of[node])
        first, last = program.spans[role, thread].tolist() if role >= 0 else (0, 0)
        row[: w.T_STATUS + 1] = node, thread, first, last, w.READY if first < last else w.OVER
        row[w.T_TICK] = 1
        if first < last:
            runnable.append(i)
    arena.put(w.M_TH, rows)
    arena.put(w.M_RUNNABLE, np.array(runnable + [0] * (len(rows) - len(runnable)), np.int64))
    arena.head[w.X_QUEUE_LEN] = len(runnable)


def _queues(arena: Arena, program: Program, tokens: int) -> None:
    """Queues with the tokens that are there from the start, each one entry of `count`."""
    init = np.tile(program.semaphore_init.reshape(-1), program.nodes)
    first = arena.pool(w.X_TOKEN_FREE, tokens, w.K_WORDS)
    pool = arena.parts[-1].reshape(-1, w.K_WORDS)
    queues = np.zeros((init.size, w.Q_WORDS), np.int64)
    keys = np.flatnonzero(init)
    used = len(keys)
    at = first + w.K_WORDS * np.arange(used)
    queues[keys, w.Q_HEAD] = queues[keys, w.Q_TAIL] = at
    queues[keys, w.Q_COUNT] = init[keys]
    pool[:used, w.K_NEXT] = 0
    pool[:used, w.K_COMP], pool[:used, w.K_CHAIN] = w.BEFORE, 1
    pool[:used, w.K_COUNT], pool[:used, w.K_KEY] = init[keys], keys
    arena.head[w.X_TOKEN_FREE] += used * w.K_WORDS
    arena.head[w.X_TOKENS] -= used
    arena.put(w.M_QUEUES, queues)
