"""From a Program to the tables the core reads: footprints in canonical form, groups of bytes, sites, first state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accel.check import layout as w
from accel.check.layout import Ints, State, Tables
from accel.errors import InternalError, ProgramError, UnsupportedError
from accel.isa import layout as isa
from accel.isa.program import Program
from accel.isa.schema import Direction, Engine
from accel.isa.table import BY_MNEMONIC, BY_OPCODE
from accel.numerics.formats import by_code

__all__ = ["BYTES_LIMIT", "Group", "first_state", "groups_of", "tables_of"]

BYTES_LIMIT = 3 << 30  # clocks and shadow together; a 342-node program needs 0.1-0.3 GB
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


def tables_of(program: Program, groups: list[Group], of_buffer: list[int], semaphore_bits: int) -> tuple[Tables, int, int]:
    """Return the tables and the shadow words of a node and of the memory; ProgramError for a broken program."""
    if len(program.code) and not ((program.code[:, 0] >= 0) & (program.code[:, 0] < 256)).all():
        raise ProgramError(f"{program.name!r} holds an opcode outside 0..255; rebuild the program")
    foot = _feet(program, groups, of_buffer)
    table, lists, sram_words, memory_words = _group_table(program, groups, foot)
    geom = np.zeros(w.G_WORDS, np.int64)
    geom[w.G_ROWS], geom[w.G_COLS], geom[w.G_NODES] = program.rows, program.cols, program.nodes
    geom[w.G_THREADS], geom[w.G_SEMS] = program.threads, len(program.semaphore_init)
    geom[w.G_GROUPS], geom[w.G_LISTS] = len(groups) - len(program.tensors), lists
    geom[w.G_SEM_MAX] = (1 << semaphore_bits) - 1
    geom[w.G_WORDS_NODE] = sram_words
    seen: dict[tuple[int, int], int] = {}
    sites = np.array(
        # without lines a row is its own site
        [seen.setdefault((int(c[0]), int(c[2])) if program.lines else (i, -1), i) for i, c in enumerate(program.code)],
        np.int64,
    ).reshape(-1)
    tables = Tables(
        geom, _ops(), program.code, sites, foot, table, program.exprs, program.preds, program.targets, program.params,
        (program.role_of >= 0).astype(np.int64),
    )  # fmt: skip
    return tables, sram_words, memory_words


def chain(rows: int, words: int, column: int) -> Ints:
    """Return a pool of `rows` free entries, each naming the next in `column`; -1 ends the list."""
    pool = np.zeros((rows, words), np.int64)
    pool[:, column] = np.arange(1, rows + 1)
    pool[-1, column] = -1
    return pool


def first_state(program: Program, tables: Tables, sram_words: int, memory_words: int, mode: int, seed: int) -> State:
    """Return the state before the first instruction; UnsupportedError where the mesh is too large to check."""
    nodes, threads = program.nodes, program.threads
    agents = nodes * threads
    comps = agents + 7 * nodes + 2
    need = 4 * (agents + 1 + 4 * nodes) * comps + 4 * (nodes * sram_words + memory_words)
    if need > BYTES_LIMIT:
        raise UnsupportedError(
            f"{program.name!r} on {program.rows} x {program.cols} nodes needs {need / 2**30:.1f} GiB to check, the limit is "
            f"{BYTES_LIMIT >> 30} GiB; check the kernel on a smaller mesh or shape"
        )
    sems = len(program.semaphore_init)
    snaps, tokens, records, epochs = 2 * nodes + 64, 8 * nodes + nodes * sems + 64, 16 * nodes + 1024, 70 * nodes + 256
    top = np.zeros(w.X_WORDS, np.int64)
    top[w.X_COMPS], top[w.X_CURRENT], top[w.X_MODE] = agents, -1, mode
    top[w.X_SNAPS], top[w.X_TOKENS], top[w.X_RECORDS], top[w.X_EPOCHS] = snaps, tokens, records, epochs
    top[w.X_RANDOM] = (seed * 2654435761 + 97 * mode + 12345) & 0x7FFFFFFF
    rows = np.zeros((agents, w.T_WORDS), np.int64)
    runnable = np.zeros(agents + 1, np.int64)
    for i in range(agents):
        node, thread = divmod(i, threads)
        role = int(program.role_of[node])
        first, last = program.spans[role, thread].tolist() if role >= 0 else (0, 0)
        rows[i, : w.T_STATUS + 1] = node, thread, first, last, w.READY if first < last else w.OVER
        if first < last:
            runnable[top[w.X_QUEUE_LEN]] = i
            top[w.X_QUEUE_LEN] += 1
    clocks = np.zeros((agents + 1, comps), np.int32)
    clocks[np.arange(agents), np.arange(agents)] = 1
    queues = np.zeros((nodes * sems, w.Q_WORDS), np.int64)
    queues[:, [w.Q_HEAD, w.Q_TAIL, w.Q_WAIT_COMP, w.Q_TAKEN]] = -1
    pool = chain(tokens, w.K_WORDS, w.K_NEXT)
    for sem, count in enumerate(program.semaphore_init.reshape(-1).tolist()):
        if count:
            for node in range(nodes):
                k, key = int(top[w.X_TOKEN_FREE]), node * sems + sem
                top[w.X_TOKEN_FREE] = pool[k, w.K_NEXT]
                top[w.X_TOKENS] -= 1
                pool[k] = 0
                pool[k, [w.K_NEXT, w.K_BASE, w.K_ROW]] = -1
                pool[k, [w.K_COMP, w.K_COUNT, w.K_CHAIN, w.K_KEY]] = w.BEFORE, count, 1, key
                queues[key, [w.Q_HEAD, w.Q_TAIL, w.Q_COUNT]] = k, k, count
    info = np.zeros((snaps, 2), np.int64)
    info[:, 1] = np.append(np.arange(1, snaps), -1)
    group_bits = -(-tables.groups[:, w.R_BYTES] >> tables.groups[:, w.R_GRAIN])
    sram_groups = int(tables.geom[w.G_GROUPS])
    missing = np.concatenate((np.tile(group_bits[:sram_groups], nodes), group_bits[sram_groups:]))
    return State(
        top=top, threads=rows, clocks=clocks, snaps=np.zeros((snaps, comps), np.int32), snap_info=info,
        slot_tick=np.zeros(comps, np.int64), slot_next=np.full(comps, -1), slot_head=np.full(nodes, -1),
        tokens=pool, queues=queues, waits=np.zeros((nodes * sems, threads, 4), np.int64),
        records=chain(records, w.A_WORDS, w.A_NEXT), heads=np.full(int(tables.geom[w.G_LISTS]), -1),
        epochs=chain(epochs, w.E_WORDS, w.E_NEXT), bits=np.zeros(nodes * sram_words + memory_words + 1, np.uint32),
        missing=missing, runnable=runnable, pending=np.zeros(tokens, np.int64),
        scratch=np.zeros((nodes + 1, 2), np.int64), hits=np.zeros((1 << 12, w.H_WORDS), np.int64),
    )  # fmt: skip
