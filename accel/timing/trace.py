"""Trace: what every thread, unit, copy and link of a run did when, as plain arrays; recorded by repeating the run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, InternalError, Location
from accel.hardware import ChipSpec
from accel.isa.disassembly import row_text
from accel.isa.program import Program, Table
from accel.isa.table import BY_OPCODE
from accel.timing import state as s
from accel.timing.drive import drive
from accel.timing.memory import Memory
from accel.timing.path import line_of
from accel.timing.prepare import Prepared, prepare
from accel.timing.result import Replay
from accel.timing.waits import CONTROL, ISSUE, KINDS, MATRIX, OFF, UNIT_BUSY, VECTOR, WAITS, causes

__all__ = ["KINDS", "WAITS", "WAYS", "Trace", "record_trace"]

WAYS = ("read", "mesh", "write", "pull")  # memory to SRAM, SRAM to SRAM, SRAM to memory, another SRAM to SRAM here

FIRST_SEEN = 1 << 18  # rows without a log entry for which the first repetition has room: 8 MiB
MOST_SEEN = 1 << 22  # and the most that are ever kept: 128 MiB; the rest is counted in Trace.dropped
MOST_BIN_WORDS = 1 << 23  # 64 MiB of link counters: larger chips get fewer bins

Mask: TypeAlias = NDArray[np.bool_]

_SLICES = ("node", "thread", "kind", "row", "start", "end", "entry", "by", "by_node", "by_row")
_COPIES = ("entry", "node", "thread", "row", "way", "source", "bytes", "issued", "sent", "done", "row0", "row1", "col0",
           "col1")  # fmt: skip
_MARKS = ("node", "thread", "row", "cycle")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """One run of a program in time; every column is an int64 array, cycles count from 0.

    cycles: length of the whole run; window: (start, end) in cycles; nodes: indices (row * cols + col) of the nodes that
    slices, copies and marks are of.
    slices: what the threads did, in order of node, thread and start: columns node, thread, kind (index in `KINDS`), row
    (of `Program.code`), start, end, entry (a number that names the instruction's execution, -1 for rows that leave no
    entry), by (the entry that ended a wait, -1 if none) with its by_node and by_row. The slices of a thread follow each
    other without gap or overlap from cycle 0 to its end; those that touch the window are here, whole. A matrix or
    vector slice occupies its unit, too.
    copies: those issued by the nodes and alive in the window: entry, node, thread, row, way (index in `WAYS`), source
    (the node whose SRAM is read, -1 for memory), bytes (to each destination), issued, sent (the source may be reused),
    done (the last destination has it), and the rectangle row0..row1, col0..col1 of logical destinations.
    marks: node, thread, row, cycle of every phase mark and probe in the window.
    bin_edges: (bins + 1) cycles; link_bytes: (bins, site rows, site cols, 4) bytes that left each router east, west,
    south, north in each bin; sent_bytes and received_bytes: (bins, site rows, site cols) through the mesh ports of the
    nodes; memory_read and memory_write: (bins, ports). Links count the whole chip, whatever the nodes.
    dropped: rows without an entry that were left out because there were more than can be kept.
    """

    program: Program
    chip: ChipSpec
    cycles: int
    window: tuple[int, int]
    nodes: Table
    slices: dict[str, Table]
    copies: dict[str, Table]
    marks: dict[str, Table]
    bin_edges: Table
    link_bytes: Table
    sent_bytes: Table
    received_bytes: Table
    memory_read: Table
    memory_write: Table
    dropped: int = 0
    _texts: dict[int, str] = field(default_factory=dict, repr=False)

    def node(self, index: int) -> tuple[int, int]:
        """Return the logical (row, col) of a node index."""
        return self.program.node(int(index))

    def text(self, row: int) -> str:
        """Return the instruction of a code row as text."""
        row = int(row)
        if row not in self._texts:
            self._texts[row] = row_text(self.program, row)
        return self._texts[row]

    def line(self, row: int) -> Location | None:
        """Return the author's line of a code row, None where the program names none."""
        return line_of(self.program, int(row))

    def thread_name(self, node: int, thread: int) -> str:
        """Return the name the author gave a thread of node (an index), or its number."""
        names = self.program.thread_names[max(0, int(self.program.role_of[node]))]
        return (names[thread] if thread < len(names) else "") or str(thread)

    def mark_name(self, row: int) -> str:
        """Return the phase that the mark of a code row begins, or the name under which a probe is seen."""
        words = self.program.code[int(row)]
        entry = BY_OPCODE[int(words[0])]
        index = int(words[entry.word("name" if entry.mnemonic == "probe" else "phase")])
        return self.program.marks[index] if 0 <= index < len(self.program.marks) else str(index)


def record_trace(
    replay: Replay, cycles: int, nodes: Iterable[tuple[int, int]] | None, window: tuple[int, int] | None, bins: int
) -> Trace:
    """Repeat a run with recording on and return its trace; InputError for nodes, a window or bins that do not fit.

    The memory it takes: 80 B an instruction with an effect and 32 B any other, of all nodes and the whole run while it
    is recorded, and afterwards what the nodes and the window leave of it.
    """
    program, chip = replay.program, replay.chip
    chosen = _nodes(program, nodes)
    start, end = _window(window, cycles)
    if type(bins) is not int or not 1 <= bins <= 4096:
        raise InputError(f"Cannot trace in {bins!r} time bins; use 1 to 4096")
    prepared = prepare(program, chip)
    room, count = FIRST_SEEN, 0
    while True:
        memory = Memory(program, chip, prepared.rows, replay.packet_bytes)
        count = max(1, min(bins, end - start, MOST_BIN_WORDS // int(memory.m[s.K_LANES])))
        width = math.ceil((end - start) / count)
        count = math.ceil((end - start) / width)
        memory.record(chosen, room, (start, end), width, count)
        drive(program, memory, replay.plain)
        noted = int(memory.m[s.S_SEEN])
        if noted <= room or room == MOST_SEEN:
            break
        room = min(noted, MOST_SEEN)
    if int(memory.m[s.S_LAST]) != cycles:
        raise InternalError(f"{program.name!r} took {cycles} cycles and {int(memory.m[s.S_LAST])} when it was recorded")
    seen, moved = memory.recorded()
    log = memory.log[: int(memory.m[s.S_LOG])]
    wanted = np.zeros(program.nodes, np.bool_)
    wanted[chosen] = True
    edges = np.minimum(start + width * np.arange(count + 1), end)
    return Trace(
        program=program, chip=chip, cycles=cycles, window=(start, end), nodes=chosen,
        slices=_slices(program, chip, log, seen, wanted, (start, end)),
        copies=_copies(program, prepared, log, wanted, (start, end)), marks=_marks(program, seen, (start, end), cycles),
        bin_edges=edges, dropped=noted - len(seen), **_traffic(memory, chip, moved),
    )  # fmt: skip


def _pair(given: Any) -> tuple[int, int] | None:
    """Return two whole numbers as ints, None for anything else."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        return None
    if not all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in given):
        return None
    return int(given[0]), int(given[1])


def _nodes(program: Program, nodes: Iterable[tuple[int, int]] | None) -> Table:
    if nodes is None:
        return np.arange(program.nodes)
    picked = []
    given: object = nodes
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"Cannot trace nodes {given!r}; give (row, col) pairs, or None for all of them")
    for node in nodes:
        pair = _pair(node)
        if pair is None:
            raise InputError(f"Cannot trace node {node!r}; give (row, col) pairs")
        if not (0 <= pair[0] < program.rows and 0 <= pair[1] < program.cols):
            raise InputError(
                f"Cannot trace node {pair}: {program.name!r} runs on {program.rows} x {program.cols} nodes; "
                "count from (0, 0)"
            )
        picked.append(pair[0] * program.cols + pair[1])
    if not picked:
        raise InputError("Cannot trace no node at all; give (row, col) pairs, or None for all of them")
    return np.unique(np.array(picked, np.int64))


def _window(window: tuple[int, int] | None, cycles: int) -> tuple[int, int]:
    if window is None:
        return 0, max(1, cycles)
    pair = _pair(window)
    if pair is None or not 0 <= pair[0] < pair[1]:
        raise InputError(f"Cannot trace window {window!r}; give (first cycle, one past the last)")
    if pair[0] >= cycles:
        raise InputError(f"Cannot trace from cycle {pair[0]} on: the run ends at {cycles}; begin earlier")
    return pair[0], min(pair[1], cycles)


def _slices(
    program: Program, chip: ChipSpec, log: Table, seen: Table, wanted: Mask, window: tuple[int, int]
) -> dict[str, Table]:
    index = np.flatnonzero(wanted[log[:, s.G_THREAD] // program.threads])
    own = log[index]
    kind, start, mid, end, row, thread = (
        own[:, c] for c in (s.G_KIND, s.G_START, s.G_MID, s.G_END, s.G_ROW, s.G_THREAD)
    )
    is_op, is_copy = kind <= s.LOG_VECTOR, kind >= s.LOG_COPY_MEMORY
    blocked = (kind > s.LOG_VECTOR) & (kind < s.LOG_INC)
    parts: list[tuple[Table, ...]] = []

    def add(where: Mask, kinds: Table | int, first: Table, last: Table, by: Table | int = -1) -> None:
        size = int(np.count_nonzero(where))
        parts.append((
            thread[where], np.broadcast_to(kinds, (size,)), row[where], first[where], last[where], index[where],
            np.broadcast_to(by, (size,)),
        ))  # fmt: skip

    # A copy that a full queue held up had its issue before the stall.
    prev = own[:, s.G_PREV]
    before = log[np.maximum(prev, 0)]
    late = is_copy & (prev >= 0) & (before[:, s.G_KIND] == s.LOG_STALL) & (before[:, s.G_END] == start)
    issue = np.where(is_copy | (kind == s.LOG_STALL), chip.node.copy_issue_cycles, chip.node.issue_cycles)
    add(~late, ISSUE, start - issue, start)
    add(is_op, UNIT_BUSY, start, mid)
    add(is_op, np.where(kind == s.LOG_MATRIX, MATRIX, VECTOR)[is_op], mid, end)
    add(blocked, causes(program, log, own[blocked]), start, end, own[blocked, s.G_REF])
    effect = seen[seen[:, s.SEEN_HOW] != s.SEEN_MARK]
    how = np.array([0, CONTROL, OFF, ISSUE])[effect[:, s.SEEN_HOW]]
    none = np.full(len(effect), -1)
    parts.append((
        effect[:, s.SEEN_THREAD], how, effect[:, s.SEEN_ROW], effect[:, s.SEEN_TIME] - chip.node.issue_cycles,
        effect[:, s.SEEN_TIME], none, none,
    ))  # fmt: skip
    threads, kinds, rows, first, last, entry, by = (np.concatenate(column) for column in zip(*parts, strict=True))
    keep = (last > first) & (last > window[0]) & (first < window[1])
    order = np.flatnonzero(keep)
    order = order[np.lexsort((first[order], threads[order]))]
    node, number = np.divmod(threads, program.threads)
    # by is -1 for none, which picks what is appended
    by_node = np.append(log[:, s.G_THREAD] // program.threads, -1)[by]
    columns = (node, number, kinds, rows, first, last, entry, by, by_node, np.append(log[:, s.G_ROW], -1)[by])
    return {name: np.ascontiguousarray(c[order], np.int64) for name, c in zip(_SLICES, columns, strict=True)}


def _copies(
    program: Program, prepared: Prepared, log: Table, wanted: Mask, window: tuple[int, int]
) -> dict[str, Table]:
    is_copy = (log[:, s.G_KIND] >= s.LOG_COPY_MEMORY) & wanted[log[:, s.G_THREAD] // program.threads]
    alive = np.maximum(log[:, s.G_MID], log[:, s.G_DONE])
    entry = np.flatnonzero(is_copy & (alive > window[0]) & (log[:, s.G_START] < window[1]))
    own = log[entry]
    node, thread = np.divmod(own[:, s.G_THREAD], program.threads)
    code, mask, side = -2 - own[:, s.G_REF], (1 << s.SIDE_BITS) - 1, s.SIDE_BITS
    row = own[:, s.G_ROW]
    way = prepared.rows[row, s.R_COPY]
    row0, row1, col0, col1 = (code >> n * side & mask for n in (3, 2, 1, 0))
    pulled = way == s.COPY_PULL  # whose target is where it reads
    source = np.where(pulled, row0 * program.cols + col0, np.where(way == s.COPY_READ, -1, node))
    own_row, own_col = np.divmod(node, program.cols)
    rectangle = [np.where(pulled, own_row, n) for n in (row0, row1)] + [
        np.where(pulled, own_col, n) for n in (col0, col1)
    ]
    columns = (
        entry, node, thread, row, way, source, prepared.rows[row, s.R_BYTES], own[:, s.G_START], own[:, s.G_MID],
        own[:, s.G_DONE], *rectangle,
    )  # fmt: skip
    return {name: np.ascontiguousarray(c, np.int64) for name, c in zip(_COPIES, columns, strict=True)}


def _marks(program: Program, seen: Table, window: tuple[int, int], cycles: int) -> dict[str, Table]:
    time = seen[:, s.SEEN_TIME]
    inside = (time >= window[0]) & ((time < window[1]) | (time == cycles))  # a mark may stand at the very end
    own = seen[(seen[:, s.SEEN_HOW] == s.SEEN_MARK) & inside]
    own = own[np.lexsort((own[:, s.SEEN_TIME], own[:, s.SEEN_THREAD]))]
    node, thread = np.divmod(own[:, s.SEEN_THREAD], program.threads)
    columns = (node, thread, own[:, s.SEEN_ROW], own[:, s.SEEN_TIME])
    return {name: np.ascontiguousarray(c) for name, c in zip(_MARKS, columns, strict=True)}


def _traffic(memory: Memory, chip: ChipSpec, moved: Table) -> dict[str, Any]:
    """Lanes in the order of `Memory`: four links a site, injections, port entries, ejections, port writes."""
    rows, cols = chip.mesh.site_rows, chip.mesh.site_cols
    sites, entries = memory.sites, memory.first_eject - 5 * memory.sites
    first = np.cumsum([0] + [len(port.routers) for port in chip.ports[:-1]])
    return {
        "link_bytes": moved[:, : 4 * sites].reshape(-1, rows, cols, 4),
        "sent_bytes": moved[:, 4 * sites : 5 * sites].reshape(-1, rows, cols),
        "memory_read": np.add.reduceat(moved[:, 5 * sites : 5 * sites + entries], first, axis=1),
        "received_bytes": moved[:, memory.first_eject : memory.first_eject + sites].reshape(-1, rows, cols),
        "memory_write": np.add.reduceat(moved[:, memory.first_eject + sites :], first, axis=1),
    }
