"""From a Program to the tables the core reads: footprints in canonical form, groups of bytes, sites."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from accel.check import layout as w
from accel.check.layout import Table
from accel.errors import InternalError
from accel.isa import layout as isa
from accel.isa.fitting import MOVES as BIT_MOVES
from accel.isa.program import Program
from accel.isa.schema import Engine
from accel.isa.table import BY_MNEMONIC, BY_OPCODE
from accel.numerics.formats import by_code

__all__ = ["Group", "Tables", "canonical", "ops", "tables_of"]

BUCKETS = 64  # lists of access records a tensor is divided into
CONTROL = {
    "wait": w.C_WAIT, "inc": w.C_INC, "barrier": w.C_BARRIER, "loop": w.C_LOOP, "end": w.C_END, "mark": w.C_FREE,
}  # fmt: skip
MOVES = {"copy": w.C_COPY, "pull": w.C_PULL}
MOST_VIEWS = (w.O_KEEP - w.O_VIEW) // 3


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


def ops() -> Table:
    """Return what each opcode is to the checker, from the instruction table."""
    table = np.zeros((256, w.O_WORDS), np.int64)
    for code, row in BY_OPCODE.items():
        if row.engine is Engine.CONTROL and not row.views:
            if row.mnemonic not in CONTROL:
                raise InternalError(f"the checker has no rule for control instruction {row.mnemonic}; add one")
            table[code, w.O_CLASS] = CONTROL[row.mnemonic]
            continue
        table[code, w.O_CLASS] = MOVES.get(row.mnemonic, w.C_WORK)
        table[code, w.O_VIEWS] = len(row.views)
        table[code, w.O_PLACE] = row.cost == "vector"  # element by element
        if len(row.views) > MOST_VIEWS:
            raise InternalError(f"the checker takes {MOST_VIEWS} views of an instruction and {row.mnemonic} has more")
        for j, operand in enumerate(row.views):
            coded = row.mnemonic != "probe" and operand.name not in BIT_MOVES.get(row.mnemonic, ())
            table[code, w.O_VIEW + 3 * j : w.O_VIEW + 3 * j + 3] = row.word(operand.name), operand.direction, coded
        if any(o.name == "accumulate" for o in row.operands):
            table[code, w.O_KEEP] = row.word("accumulate")
    return table


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


def _feet(program: Program, groups: list[Group], of_buffer: list[int]) -> Table:
    """Return the footprints of all views, then those of the bytes that hold a bias."""
    biases = sorted({scalar - 1 for scalar in program.views[:, isa.V_SCALAR].tolist() if scalar})
    foot = np.zeros((len(program.views) + len(biases), w.F_WORDS), np.int64)
    shapes: dict[tuple[object, ...], int] = {}
    sram_groups = len(groups) - len(program.tensors)

    def fill(f: Table, item: int, offset: int, run: int, dims: list[tuple[int, int]], ring: tuple[int, int]) -> None:
        f[w.F_OFF], f[w.F_RUN], f[w.F_DIMS], f[w.F_ITEM] = offset, run, len(dims), item.bit_length() - 1
        f[w.F_SPAN] = run + sum(s * (n - 1) for s, n in dims)
        f[w.F_COUNT : w.F_COUNT + 4] = 1
        for d, (s, n) in enumerate(dims, 4 - len(dims)):
            f[w.F_STRIDE + d], f[w.F_COUNT + d] = s, n
        f[w.F_SHAPE] = shapes.setdefault((run, *dims, *ring), len(shapes))

    for v, row in enumerate(program.views.tolist()):
        f, index, item = foot[v], row[isa.V_OBJECT], by_code(row[isa.V_DTYPE]).bytes
        shape, stride = row[isa.V_SHAPE : isa.V_SHAPE + isa.DIMS], row[isa.V_STRIDE : isa.V_STRIDE + isa.DIMS]
        base, ring = row[isa.V_RING_BASE], row[isa.V_RING_BYTES]
        fill(f, item, *canonical(shape, stride, item), (base, ring) if ring else (0, 0))
        f[w.F_SPACE] = row[isa.V_SPACE]
        if row[isa.V_SPACE] == isa.SPACE_SRAM:
            b = program.buffers[index]
            f[w.F_GROUP], f[w.F_LOW], f[w.F_HIGH] = of_buffer[index], b.offset, b.offset + b.nbytes
        else:
            t = program.tensors[index]
            f[w.F_GROUP], f[w.F_LOW], f[w.F_HIGH] = sram_groups + index, t.address, t.address + t.nbytes
        if ring:
            f[w.F_LOW], f[w.F_HIGH], f[w.F_RING] = base, base + ring, ring
        if row[isa.V_SCALAR]:
            at = row[isa.V_SCALAR] - 1
            f[w.F_SCALAR], f[w.F_SCALAR_AT] = len(program.views) + biases.index(at), at
    for f, at in zip(foot[len(program.views) :], biases, strict=True):
        fill(f, 1, 0, 1, [], (0, 0))
        holder = next(i for i, b in enumerate(program.buffers) if b.offset <= at < b.offset + b.nbytes)
        b = program.buffers[holder]
        f[w.F_SPACE], f[w.F_GROUP] = isa.SPACE_SRAM, of_buffer[holder]
        f[w.F_LOW], f[w.F_HIGH] = b.offset, b.offset + b.nbytes
    return foot


def _group_table(program: Program, groups: list[Group], foot: Table) -> tuple[Table, int, int, int]:
    """Return the table, the lists of records, the shadow words of a node and those of the memory."""
    table = np.zeros((len(groups), w.R_WORDS), np.int64)
    grain = [8] * len(groups)
    for f in foot.tolist():
        grain[f[w.F_GROUP]] = min(grain[f[w.F_GROUP]], 1 << f[w.F_ITEM])
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


def _sites(program: Program) -> Table:
    seen: dict[tuple[int, int], int] = {}
    rows = program.code[:, [isa.W_OPCODE, isa.W_LINE]].tolist()
    # without lines a row is its own site
    keys = ((op, line) if program.lines else (i, -1) for i, (op, line) in enumerate(rows))
    return np.array([seen.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


class Tables(NamedTuple):
    """A program as the checker sees it; nothing here changes during a run."""

    program: Program
    groups: list[Group]
    foot: Table
    group: Table  # (groups, R_WORDS)
    sites: Table
    lists: int
    sram_groups: int
    sram_words: int
    memory_words: int
    sem_max: int


def tables_of(program: Program, semaphore_bits: int) -> Tables:
    """Return the tables of a program; ProgramError for one that breaks the format."""
    program.require_sound()
    groups, of_buffer = groups_of(program)
    foot = _feet(program, groups, of_buffer)
    group, lists, sram_words, memory_words = _group_table(program, groups, foot)
    return Tables(
        program=program,
        groups=groups,
        foot=foot,
        group=group,
        sites=_sites(program),
        lists=lists,
        sram_groups=len(groups) - len(program.tensors),
        sram_words=sram_words,
        memory_words=memory_words,
        sem_max=(1 << semaphore_bits) - 1,
    )
