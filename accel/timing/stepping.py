"""Stepping through one node: its executed instructions in order of time, and why each took as long as it did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from accel.errors import Location
from accel.isa.layout import W_OPCODE
from accel.isa.table import BY_OPCODE
from accel.timing.trace import Trace
from accel.timing.waits import KINDS, WAITS

__all__ = ["Step", "steps"]


class Step(NamedTuple):
    """One executed instruction of a node.

    start: cycle in which its issue begins; end: one past the last cycle that its thread spends on it (a copy goes on by
    itself: see done); waited: cycles its thread stood still; why: the kind of wait and who ended it, "" for none;
    done: when a copy was complete everywhere, otherwise end. Rows that are switched off say so in their text.
    """

    start: int
    end: int
    thread: str
    row: int
    text: str
    line: Location | None
    waited: int
    why: str
    done: int

    def __str__(self) -> str:
        why = f"  {self.why}" if self.why else ""
        done = f"  done at {self.done:,}" if self.done != self.end else ""
        return f"{self.start:>9,} {self.end:>9,}  {self.thread:<12s} {self.text}{done}{why}  ; {self.line or self.row}"


def steps(trace: Trace) -> Iterator[Step]:
    """Return the steps of the one node of a trace in order of their start; marks and probes are steps of no cycles."""
    node, own = int(trace.nodes[0]), {name: column.tolist() for name, column in trace.slices.items()}
    copies = dict(zip(trace.copies["entry"].tolist(), trace.copies["done"].tolist(), strict=True))
    found: list[tuple[int, int, Step]] = []
    i, count = 0, len(own["node"])
    while i < count:
        last = i
        while last + 1 < count and own["entry"][i] >= 0 and own["entry"][last + 1] == own["entry"][i]:
            last += 1
        waited, why = 0, ""
        for j in range(i, last + 1):
            kind = KINDS[own["kind"][j]]
            if kind in WAITS:
                waited, why = own["end"][j] - own["start"][j], _why(trace, own, j)
        row, thread = own["row"][i], own["thread"][i]
        text = trace.text(row)
        off = " (switched off)" if KINDS[own["kind"][i]] == "off" else ""
        end = own["end"][last]
        done = copies.get(own["entry"][i], end)
        name = trace.thread_name(node, thread)
        step = Step(own["start"][i], end, name, row, text + off, trace.line(row), waited, why, done)
        found.append((step.start, thread, step))
        i = last + 1
    for thread, row, cycle in zip(*(trace.marks[c].tolist() for c in ("thread", "row", "cycle")), strict=True):
        name = trace.thread_name(node, thread)
        found.append((cycle, thread, Step(cycle, cycle, name, row, trace.text(row), trace.line(row), 0, "", cycle)))
    found.sort(key=lambda item: (item[0], item[1], item[2].end))
    return (step for _, _, step in found)


def _why(trace: Trace, own: dict[str, list[int]], j: int) -> str:
    cycles, kind = own["end"][j] - own["start"][j], KINDS[own["kind"][j]]
    text = f"waited {cycles:,} cycles: {kind}"
    row = own["by_row"][j]
    if row < 0:
        return text
    mnemonic = BY_OPCODE[int(trace.program.code[row, W_OPCODE])].mnemonic
    place = trace.line(row) or f"row {row}"
    return f"{text}, ended by the {mnemonic} at {place} of node {trace.node(own['by_node'][j])}"
