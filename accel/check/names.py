"""Names for messages: instructions with their line, buffers with their slot, semaphores with their index, nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePath

from accel.check.prepare import Group
from accel.errors import Location
from accel.isa import layout as isa
from accel.isa.program import Program
from accel.isa.table import BY_OPCODE

__all__ = ["Names"]


class Names:
    """What the author calls the things of a program."""

    def __init__(self, program: Program, groups: list[Group]) -> None:
        self.program = program
        self.groups = groups
        self._sems: dict[int, str] = {}
        for sem in program.semaphores:
            for k in range(sem.count):
                self._sems[sem.index + k] = sem.name if sem.count == 1 else f"{sem.name}[{k}]"

    def line(self, row: int) -> Location | None:
        """Return the author's line of a code row."""
        if row < 0:
            return None
        line = int(self.program.code[row, isa.W_LINE])
        return self.program.lines[line] if 0 <= line < len(self.program.lines) else None

    def place(self, row: int) -> str:
        """Return `summa.py:18`, or `instruction 7` where the program has no lines."""
        at = self.line(row)
        return f"{PurePath(at.file).name}:{at.line}" if at else f"instruction {row}"

    def what(self, row: int) -> str:
        """Return the mnemonic of a code row."""
        return BY_OPCODE[int(self.program.code[row, isa.W_OPCODE])].mnemonic

    def site(self, row: int) -> str:
        """Return `the copy at summa.py:18`."""
        return f"the {self.what(row)} at {self.place(row)}"

    def sem(self, index: int) -> str:
        """Return the semaphore's name with its index among its neighbours."""
        return self._sems.get(index, f"semaphore {index}")

    def bytes_of(self, group: int, leading: Iterable[int], address: int) -> str:
        """Return the name of a group: `A[1]`, `A[0:2]`, `acc`, or the first element `c[0, 64]` of a tensor."""
        g = self.groups[group]
        if g.tensor >= 0:
            return f"{self.program.tensors[g.tensor].name}[{self.element(g.tensor, address - g.low)}]"
        buffers = [self.program.buffers[b] for b in g.buffers]
        inside = [b.name for b in buffers if b.offset <= address < b.offset + b.nbytes] or [b.name for b in buffers]
        slots = sorted(set(leading) - {-1})
        if len(buffers) == 1 and slots and len(slots) < buffers[0].shape[0]:
            if len(slots) > 1 and slots[-1] - slots[0] == len(slots) - 1:
                return f"{inside[0]}[{slots[0]}:{slots[-1] + 1}]"
            return ", ".join(f"{inside[0]}[{slot}]" for slot in slots)
        return "/".join(inside)

    def element(self, tensor: int, offset: int) -> str:
        """Return the index of the element of a tensor at a byte offset, as text."""
        t = self.program.tensors[tensor]
        size = 1
        for n in t.shape:
            size *= n
        flat = offset // max(1, t.nbytes // max(1, size))
        index: list[str] = []
        for n in reversed(t.shape):
            index.append(str(flat % n))
            flat //= n
        return ", ".join(reversed(index))

    def nodes(self, nodes: Collection[int]) -> str:
        """Return ` on node (0,0) and 341 more`."""
        row, col = self.program.node(min(nodes))
        more = len(nodes) - 1
        return f" on node ({row},{col})" + (f" and {more} more" if more else "")

    def thread(self, agent: int) -> str:
        """Return the author's name of a thread, given node * threads + thread."""
        node, thread = divmod(agent, self.program.threads)
        role = int(self.program.role_of[node])
        names = self.program.thread_names[role] if 0 <= role < len(self.program.thread_names) else ()
        return names[thread] if thread < len(names) else f"thread {thread}"
