"""What a source line costs, as text: its instructions, how often they ran, bytes, stalls, critical path."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from accel.errors import InputError, Location, nearest
from accel.isa.disassembly import row_text
from accel.isa.layout import W_LINE
from accel.isa.program import Program
from accel.timing.result import LineTotals, Timing

__all__ = ["explain_line", "explain_lines", "find_line"]

MOST_ROWS = 40  # instructions listed of one line; an unrolled loop makes thousands
FEW_ROWS = 3  # where all lines are listed
_BYTES = {"memory_read_bytes": "read from memory", "memory_write_bytes": "written to memory",
          "mesh_bytes": "between SRAMs", "sram_bytes": "SRAM accesses of operations"}  # fmt: skip
_BUSY = {"matrix_cycles": "matrix unit", "vector_cycles": "vector unit", "issue_cycles": "issue"}


def find_line(program: Program, where: str) -> Location:
    """Return the line of the program that "file.py:26" names, by the end of its path; InputError names near ones."""
    file, colon, number = str(where).rpartition(":")
    if not colon or not file or not number.isdigit():
        raise InputError(f'Cannot explain {where!r}: it names no line; give "file.py:26"')
    wanted, own = PurePath(file).parts, sorted(set(program.lines))
    same_file = [x for x in own if PurePath(x.file).parts[-len(wanted) :] == wanted]
    found = [x for x in same_file if x.line == int(number)]
    if len({x.file for x in found}) > 1:
        raise InputError(f"Cannot explain {where!r}: {found[0]} and {found[1]} both end so; give more of the path")
    if not found:
        if same_file:
            close = sorted(same_file, key=lambda x: (abs(x.line - int(number)), x.line))[:3]
            hint = "no instruction of it comes from there; the nearest lines are " + ", ".join(
                str(x.line) for x in sorted(close)
            )
        else:
            files = sorted({PurePath(x.file).name for x in own})
            hint = f"its instructions come from {', '.join(files) or 'no file'}{nearest(PurePath(file).name, files)}"
        raise InputError(f"Cannot explain {where!r} of {program.name!r}: {hint}; give one of those")
    return found[0]


def explain_line(program: Program, timing: Timing, where: Location) -> str:
    """Return what the instructions of a line are and did, as text of several lines."""
    return "\n".join(_explained(program, timing, where, MOST_ROWS))


def explain_lines(program: Program, timing: Timing) -> str:
    """Return a table of all lines, most critical first, then what each is, with its first instructions."""
    head = f"{'path':>6}  {'stalled':>12}  {'busy':>12}  {'bytes':>14}  {'runs':>9}  line"
    rows = [f"{program.name}: {timing.cycles:,} cycles on {timing.chip}", "", head]
    for where, own in timing.lines.items():
        moved = own.memory_read_bytes + own.memory_write_bytes + own.mesh_bytes
        busy = own.matrix_cycles + own.vector_cycles
        rows.append(
            f"{own.path_share:6.1%}  {own.stalled:12,}  {busy:12,}  {moved:14,}  {own.instructions:9,}  "
            f"{_short(where)}  {_source(where)}".rstrip()
        )
    parts = ["\n".join(_explained(program, timing, where, FEW_ROWS)) for where in timing.lines]
    return "\n".join(rows) + "\n\n" + "\n\n".join(parts)


def _explained(program: Program, timing: Timing, where: Location, most: int) -> Iterator[str]:
    source = _source(where)
    yield f"{where}" + (f"  {source}" if source else "")
    own = timing.lines.get(where)
    if own is None:
        yield "  never executed with an effect: loops, or rows that are switched off on every node"
    else:
        yield from _totals(own)
    rows = np.flatnonzero(program.code[:, W_LINE] == program.lines.index(where)).tolist()
    yield f"  {len(rows)} instruction{'s' if len(rows) != 1 else ''} of the program:"
    for row in rows[:most]:
        yield f"    {row:6d}  {_place(program, row):<24s}  {row_text(program, row)}"
    if len(rows) > most:
        yield f"    ... and {len(rows) - most} more" + (f'; explain("{_short(where)}")' if most < MOST_ROWS else "")


def _totals(own: LineTotals) -> Iterator[str]:
    busy = [f"{what} {getattr(own, name):,}" for name, what in _BUSY.items() if getattr(own, name)]
    yield f"  executed {own.instructions:,} times; cycles: {', '.join(busy) or 'none'}"
    moved = [f"{getattr(own, name):,} {what}" for name, what in _BYTES.items() if getattr(own, name)]
    if moved:
        yield f"  bytes: {', '.join(moved)}"
    if own.stalls:
        worst = sorted(own.stalls.items(), key=lambda item: -item[1])
        yield f"  stalled {own.stalled:,} thread-cycles: " + ", ".join(f"{name} {n:,}" for name, n in worst)
    else:
        yield "  never stalled"
    yield f"  critical path: {own.path_cycles:,} cycles, {own.path_share:.1%}"


def _place(program: Program, row: int) -> str:
    """Return the role and thread whose span holds a code row."""
    for role in range(program.roles):
        for thread in range(program.threads):
            first, last = (int(n) for n in program.spans[role, thread])
            if first <= row < last:
                names = program.thread_names[role]
                name = names[thread] if thread < len(names) and names[thread] else f"thread {thread}"
                return f"role {role} {name}"
    return "in no thread"


def _short(where: Location) -> str:
    return f"{PurePath(where.file).name}:{where.line}"


def _source(where: Location) -> str:
    """Return the author's line where its file is still there and readable, else nothing."""
    return linecache.getline(where.file, where.line).strip()
