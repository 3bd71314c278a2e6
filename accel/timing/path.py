"""Critical path: from the last event back to cycle 0 through whatever released each wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from accel.errors import Location
from accel.isa.layout import W_LINE
from accel.isa.program import Program, Table
from accel.timing import state as s
from accel.timing.result import Segment

__all__ = ["critical_path", "line_of"]

_Add: TypeAlias = Callable[[int, int, int, int, str], None]
_OP = {s.LOG_MATRIX: "matrix", s.LOG_VECTOR: "vector"}
_SENDER = {s.LOG_COPY_MEMORY: "wait_memory", s.LOG_COPY_MESH: "wait_mesh", s.LOG_BARRIER: "wait_peer"}


def line_of(program: Program, pc: int) -> Location | None:
    """Return the author's line of a code row, None where the program names none."""
    index = int(program.code[pc, W_LINE])
    return program.lines[index] if 0 <= index < len(program.lines) else None


def critical_path(program: Program, log: Table, cycles: int, thread: int, entry: int) -> tuple[Segment, ...]:
    """Return the segments that cover [0, cycles) without gap or overlap, first to last.

    thread, entry: the thread that ended last with its latest log entry, or -1 with the entry of the inc or copy whose
    arrival was the last event. Issue segments name the line of the instruction that came after them.
    """
    backwards: list[Segment] = []

    def add(start: int, end: int, th: int, pc: int, cause: str) -> None:
        if end > start:
            node, index = divmod(th, program.threads)
            backwards.append(Segment(start, end, program.node(node), index, line_of(program, pc), cause))

    cur, g, after = cycles, entry, -1
    if thread < 0 and entry >= 0:
        cur, g, after = _through(log, entry, cur, int(log[entry, s.G_THREAD]), program.threads, add)
        thread = int(log[entry, s.G_THREAD])
    while cur > 0:
        if g < 0:
            add(0, cur, thread, after if after >= 0 else _first_row(program, thread), "issue")
            break
        kind, th, pc, start, _, end, prev, ref = (int(n) for n in log[g, : s.G_DONE])
        add(end, cur, th, after if after >= 0 else pc, "issue")
        cur, thread, after = min(cur, end), th, pc
        if kind in _OP:
            add(start, cur, th, pc, _OP[kind])
            cur, g = min(cur, start), prev
        elif kind in (s.LOG_WAIT, s.LOG_STALL, s.LOG_BARRIER) and ref >= 0:
            if ref == g:  # this thread was the last to arrive at its barrier
                add(start, cur, th, pc, "wait_peer")
                cur, g = min(cur, start), prev
            else:
                cur, g, after = _through(log, ref, cur, th, program.threads, add)
                thread = int(log[ref, s.G_THREAD])
        else:
            g = prev
    return tuple(reversed(backwards))


def _through(log: Table, ref: int, cur: int, waiting: int, threads: int, add: _Add) -> tuple[int, int, int]:
    """Cross a token from its arrival at `cur` back to the instruction that sent it."""
    kind, th, pc, start = (int(n) for n in log[ref, : s.G_MID])
    local = th // threads == waiting // threads
    cause = _SENDER.get(kind, "issue" if local else "wait_peer")
    add(start, cur, th, pc, cause)
    return min(cur, start), int(log[ref, s.G_PREV]), pc


def _first_row(program: Program, thread: int) -> int:
    node, index = divmod(max(thread, 0), program.threads)
    return int(program.spans[max(int(program.role_of[node]), 0), index, 0])
