"""From a Program to the tables the core reads: footprints in canonical form, groups of bytes, sites, first state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accel.check import layout as w
from accel.check.layout import Ints, State
from accel.errors import InternalError, ProgramError, UnsupportedError
from accel.isa import layout as isa
from accel.isa.program import Program
from accel.isa.schema import Direction, Engine
from accel.isa.table import BY_MNEMONIC, BY_OPCODE
from accel.numerics.formats import by_code

__all__ = ["BYTES_LIMIT", "Group", "Tables", "chain", "first_state", "tables_of"]

BYTES_LIMIT = 3 << 30  # clocks and shadow together; a 342-node program needs 0.1-0.3 GB
HITS = 1 << 12  # entries of the first table of hits
BUCKETS = 64  # lists of access records a tensor is divided into
CONTROL = {
    "wait": w.C_WAIT, "inc": w.C_INC, "barrier": w.C_BARRIER, "loop": w.C_LOOP, "end": w.C_END, "mark": w.C_FREE,
}  # fmt: skip


class Group(NamedTuple):
    """Bytes that are told apart by address only: SRAM buffers that overlap, or one tensor."""

    buffers: tuple[int, ...]
    tensor: int
    low: int
    high: int


def groups_of(program: Program) -> tuple[list[Group], list[int]]:
    """Return the groups (SRAM first, then one per tensor) and the SRAM group of each buffer."""
    groups: list[Group] = []
    of_buffer = [0] * len(program.buffers)
    for index in sorted(range(len(program.buffers)), key=lambda b: program.buffers[b].offset):
        b = program.buffers[index]
        if groups and b.offset < groups[-1].high:
            last = groups.pop()
            groups.append(Group((*last.buffers, index), -1, last.low, max(last.high, b.offset + b.nbytes)))
        else:
            groups.append(Group((index,), -1, b.offset, b.offset + b.nbytes))
        of_buffer[index] = len(groups) - 1
    groups += [Group((), i, t.address, t.address + t.nbytes) for i, t in enumerate(program.tensors)]
    return groups, of_buffer


def _ops() -> Ints:
    ops = np.zeros((256, w.O_WORDS), np.int64)
    for code, row in BY_OPCODE.items():
        if row.engine is Engine.CONTROL:
            if row.mnemonic not in CONTROL:
                raise InternalError(f"the checker has no rule for control instruction {row.mnemonic}; add one")
            ops[code, w.O_CLASS] = CONTROL[row.mnemonic]
            continue
        ops[code, w.O_CLASS] = w.C_COPY if row.mnemonic == "copy" else w.C_WORK
        ops[code, w.O_VIEWS] = len(row.views)
        for j, operand in enumerate(row.views):
            ops[code, w.O_VIEW + 2 * j] = row.word(operand.name)
            ops[code, w.O_VIEW + 2 * j + 1] = int(operand.direction)
        if any(o.direction is Direction.UPDATE for o in row.views) and any(o.name == "accumulate" for o in row.operands):
            ops[code, w.O_KEEP] = row.word("accumulate")
    return ops


def canonical(shape: list[int], stride: list[int], size: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Return (offset of the lowest byte, run length, [(stride, count)] outermost first) of a strided box.

    Negative strides turn round, dimensions of one element or stride 0 go, neighbours that continue each other merge;
    two views that touch the same bytes in a different order of dimensions come out equal.
    """
    offset, dims = 0, []
    for n, s in zip(shape, stride, strict=True):
        if n > 1 and s != 0:
            offset += min(0, (n - 1) * s)
            dims.append((abs(s), n))
    run = size
    kept: list[tuple[int, int]] = []
    for s, n in sorted(dims):
        if not kept and s <= run:
            run += s * (n - 1)
        elif kept and s % kept[-1][0] == 0 and s <= kept[-1][0] * kept[-1][1]:
            inner, count = kept.pop()
            kept.append((inner, count + (n - 1) * (s // inner)))
        else:
            kept.append((s, n))
    return offset, run, kept[::-1]


def _feet(program: Program, groups: list[Group], of_buffer: list[int]) -> Ints:
    foot = np.zeros((len(program.views), w.F_WORDS), np.int64)
    shapes: dict[tuple[object, ...], int] = {}
    sram_groups = len(groups) - len(program.tensors)
    for v, row in enumerate(program.views.tolist()):
        if row[isa.V_RING_BYTES]:
            raise UnsupportedError(f"view {v} of {program.name!r} is a ring; the checker takes plain strided views only")
        space, item = row[isa.V_SPACE], row[isa.V_OBJECT]
        known = program.buffers if space == isa.SPACE_SRAM else program.tensors
        if space not in (isa.SPACE_SRAM, isa.SPACE_MEMORY) or not 0 <= item < len(known):
            raise ProgramError(f"view {v} of {program.name!r} names object {item}, which is not there; rebuild the program")
        offset, run, dims = canonical(
            row[isa.V_SHAPE : isa.V_SHAPE + 4], row[isa.V_STRIDE : isa.V_STRIDE + 4], by_code(row[isa.V_DTYPE]).bits // 8
        )
        f = foot[v]
        f[w.F_SPACE], f[w.F_OFF], f[w.F_RUN], f[w.F_DIMS] = space, offset, run, len(dims)
        f[w.F_SPAN] = run + sum(s * (n - 1) for s, n in dims)
        f[w.F_COUNT : w.F_COUNT + 4] = 1
        for d, (s, n) in enumerate(dims, 4 - len(dims)):
            f[w.F_STRIDE + d], f[w.F_COUNT + d] = s, n
        f[w.F_SHAPE] = shapes.setdefault((run, *dims), len(shapes))
        if space == isa.SPACE_SRAM:
            b = program.buffers[item]
            f[w.F_GROUP], f[w.F_LOW], f[w.F_HIGH] = of_buffer[item], b.offset, b.offset + b.nbytes
        else:
            t = program.tensors[item]
            f[w.F_GROUP], f[w.F_LOW], f[w.F_HIGH] = sram_groups + item, t.address, t.address + t.nbytes
    return foot


def _group_table(program: Program, groups: list[Group], foot: Ints) -> tuple[Ints, int, int, int]:
    """Return the table, the lists of records, the shadow words of a node and those of the memory."""
    table = np.zeros((len(groups), w.R_WORDS), np.int64)
    grain = [8] * len(groups)
    for f, row in zip(foot, program.views, strict=True):
        g = int(f[w.F_GROUP])
        grain[g] = min(grain[g], by_code(int(row[isa.V_DTYPE])).bits // 8)
    copy = BY_MNEMONIC["copy"]
    copies = program.code[program.code[:, isa.W_OPCODE] == copy.opcode]
    stored = {int(foot[v, w.F_GROUP]) for v in copies[:, copy.word("dst")].tolist() if 0 <= v < len(foot)}
    lists = sram_words = memory_words = 0
    for g, group in enumerate(groups):
        row = table[g]
        size = group.high - group.low
        row[w.R_LOW], row[w.R_BYTES], row[w.R_GRAIN] = group.low, size, grain[g].bit_length() - 1
        words = -(-size // (32 << int(row[w.R_GRAIN])))
        row[w.R_LIST] = lists
        if group.tensor < 0:
            row[w.R_KEPT], row[w.R_SHADOW], row[w.R_WORD], row[w.R_LISTS] = 1, 1, sram_words, 1
            buffer = program.buffers[group.buffers[0]]
            if len(group.buffers) == 1 and len(buffer.shape) > 2:  # (slots, rows, columns): name the slot
                row[w.R_LEAD] = buffer.nbytes // buffer.shape[0]
            lists += program.nodes
            sram_words += words
        else:
            tensor = program.tensors[group.tensor]
            row[w.R_KEPT] = g in stored
            row[w.R_SHADOW] = int(not tensor.is_input)  # an input that is stored to in part keeps the rest
            row[w.R_WORD] = memory_words
            row[w.R_SHIFT] = max(0, (size - 1).bit_length() - (BUCKETS.bit_length() - 1))
            row[w.R_LISTS] = BUCKETS
            lists += BUCKETS
            memory_words += words if row[w.R_SHADOW] else 0
    return table, lists, sram_words, memory_words


def _sites(program: Program) -> Ints:
    seen: dict[tuple[int, int], int] = {}
    rows = program.code[:, [isa.W_OPCODE, isa.W_LINE]].tolist()
    # without lines a row is its own site
    return np.array([seen.setdefault((op, line) if program.lines else (i, -1), i) for i, (op, line) in enumerate(rows)], np.int64)


class Arena:
    """An int64 array in the making: tables one after the other, their first words in its header."""

    def __init__(self) -> None:
        self.head = np.zeros(w.HEAD_WORDS, np.int64)
        self.parts: list[Ints] = [self.head]
        self.size = w.HEAD_WORDS

    def put(self, base: int, table: Ints) -> int:
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

    def whole(self) -> Ints:
        """Return the array."""
        return np.concatenate(self.parts)


def chain(rows: int, words: int, first: int, after: int) -> Ints:
    """Return a pool of free entries, each with the address of the next in its first word, the last one with `after`."""
    pool = np.zeros((rows, words), np.int64)
    pool[:, 0] = first + words * np.arange(1, rows + 1)
    pool[-1, 0] = after
    return pool.reshape(-1)


class Tables(NamedTuple):
    """A program as the checker sees it; nothing here changes during a run."""

    program: Program
    groups: list[Group]
    foot: Ints
    group: Ints  # (groups, R_WORDS)
    sites: Ints
    lists: int
    sram_groups: int
    sram_words: int
    memory_words: int
    sem_max: int


def tables_of(program: Program, semaphore_bits: int) -> Tables:
    """Return the tables of a program; ProgramError for one that breaks the format."""
    if len(program.code) and not ((program.code[:, 0] >= 0) & (program.code[:, 0] < 256)).all():
        raise ProgramError(f"{program.name!r} holds an opcode outside 0..255; rebuild the program")
    groups, of_buffer = groups_of(program)
    foot = _feet(program, groups, of_buffer)
    group, lists, sram_words, memory_words = _group_table(program, groups, foot)
    return Tables(
        program, groups, foot, group, _sites(program), lists, len(groups) - len(program.tensors), sram_words, memory_words,
        (1 << semaphore_bits) - 1,
    )  # fmt: skip


def first_state(t: Tables, mode: int, seed: int) -> State:
    """Return the state before the first instruction; UnsupportedError where the mesh is too large to check."""
    program = t.program
    nodes, threads, sems = program.nodes, program.threads, program.semaphore_init.size
    agents = nodes * threads
    comps, snaps = agents + 7 * nodes + 2, 2 * nodes + 64
    need = 4 * (agents + 1 + snaps) * comps + 4 * (nodes * t.sram_words + t.memory_words)
    if need > BYTES_LIMIT:
        raise UnsupportedError(
            f"{program.name!r} on {program.rows} x {program.cols} nodes needs {need / 2**30:.1f} GiB to check, the limit is "
            f"{BYTES_LIMIT >> 30} GiB; check the kernel on a smaller mesh or shape"
        )
    arena = Arena()
    head = arena.head
    head[[w.M_ROWS, w.M_COLS, w.M_NODES, w.M_THREADS, w.M_SEMS]] = program.rows, program.cols, nodes, threads, sems
    head[[w.M_GROUPS, w.M_SEM_MAX, w.M_NODE_BITS, w.M_PARAM_COUNT]] = t.sram_groups, t.sem_max, t.sram_words, program.params.shape[1]
    for base, table in (
        (w.M_CODE, program.code), (w.M_OPS, _ops()), (w.M_SITES, t.sites), (w.M_FOOT, t.foot), (w.M_GROUP, t.group),
        (w.M_EXPRS, program.exprs), (w.M_PREDS, program.preds), (w.M_TARGETS, program.targets), (w.M_PARAMS, program.params),
        (w.M_ACTIVE, (program.role_of >= 0).astype(np.int64)), (w.M_WAITS, np.zeros(nodes * sems * threads * w.Y_WORDS, np.int64)),
        (w.M_LISTS, np.zeros(t.lists, np.int64)), (w.M_SCRATCH, np.zeros(2 * nodes, np.int64)), (w.M_AGENTS, np.zeros(nodes, np.int64)),
    ):  # fmt: skip
        arena.put(base, table)
    group_bits = -(-t.group[:, w.R_BYTES] >> t.group[:, w.R_GRAIN])
    arena.put(w.M_MISSING, np.concatenate((np.tile(group_bits[: t.sram_groups], nodes), group_bits[t.sram_groups :])))
    tokens = 8 * nodes + nodes * sems + 64
    arena.put(w.M_PENDING, np.zeros(tokens, np.int64))
    head[w.M_PENDING_SIZE] = tokens
    arena.put(w.M_HITS, np.zeros(HITS * w.H_WORDS, np.int64))
    head[w.M_HIT_SIZE] = HITS
    arena.pool(w.X_RECORD_FREE, 16 * nodes + 1024, w.A_WORDS)
    arena.pool(w.X_EPOCH_FREE, 80 * nodes + 256, w.E_WORDS)
    arena.pool(w.X_AGENT_FREE, 7 * nodes + 2, w.G_WORDS)
    arena.pool(w.X_SNAP_FREE, snaps, w.S_WORDS)
    arena.parts[-1].reshape(-1, w.S_WORDS)[:, w.S_ROW] = np.arange(snaps)
    _threads(arena, program)
    _queues(arena, program, tokens)
    head[w.X_COMPS], head[w.X_CURRENT], head[w.X_MODE] = agents, -1, mode
    head[w.X_RANDOM] = (seed * 2654435761 + 97 * mode + 12345) & 0x7FFFFFFF
    clocks = np.zeros((agents + 1, comps), np.int32)
    clocks[np.arange(agents), np.arange(agents)] = 1
    bits = np.zeros(nodes * t.sram_words + t.memory_words + 1, np.uint32)
    return State(arena.whole(), clocks, np.zeros((snaps, comps), np.int32), bits)


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
