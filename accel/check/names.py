"""Names for messages: instructions with their line, buffers with their slot, semaphores with their index, nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import PurePath

from accel.check.prepare import Group
from accel.errors import Location, Side
from accel.files import source_text
from accel.isa import layout as isa
from accel.isa.program import Program
from accel.isa.table import BY_OPCODE

__all__ = ["Names"]

# What the author writes for an instruction of another name; where there are several, the line itself tells.
SPELLED = {
    "vec.addi": ("vec.add", "vec.sub"), "vec.muli": ("vec.mul",), "vec.maxi": ("vec.max",), "vec.mini": ("vec.min",),
    "vec.comparei": ("vec.compare",), "vec.cast_sr": ("vec.cast",),
}  # fmt: skip


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

    def mnemonic(self, row: int) -> str:
        """Return the mnemonic of a code row."""
        return BY_OPCODE[int(self.program.code[row, isa.W_OPCODE])].mnemonic

    def what(self, row: int) -> str:
        """Return what the author calls the instruction of a code row."""
        mnemonic = self.mnemonic(row)
        spellings = SPELLED.get(mnemonic, (mnemonic,))
        at = self.line(row) if len(spellings) > 1 else None
        text = source_text(at) if at else ""
        written = [spelling for spelling in spellings if f"{spelling}(" in text]
        return written[0] if len(written) == 1 else spellings[0]

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

    def runner(self, row: int) -> str:
        """Return the author's name of the thread that a code row belongs to; empty where it is in none or several."""
        found = set()
        for role, spans in enumerate(self.program.spans.tolist()):
            for thread, (first, last) in enumerate(spans):
                if first <= row < last:
                    names = self.program.thread_names[role]
                    found.add(names[thread] if thread < len(names) and names[thread] else f"thread {thread}")
        return found.pop() if len(found) == 1 else ""

    def side(self, does: str, row: int) -> Side:
        """Return the side of a hazard that a code row is."""
        return Side(does, self.line(row), self.runner(row))

    def brief(self, row: int, beside: int) -> str:
        """Return `line 12`, or the whole place where `beside` is in another file."""
        at, other = self.line(row), self.line(beside)
        return f"line {at.line}" if at and other and at.file == other.file else self.place(row)

    def semaphore(self, row: int, word: int) -> str:
        """Return the semaphore operand at `word` of a code row: `full`, `full[...]`, empty for none."""
        index, expr = (int(x) for x in self.program.code[row, word : word + 2])
        if index == -1:
            return ""
        if expr:
            return next((f"{s.name}[...]" for s in self.program.semaphores if s.index <= index < s.index + s.count), "")
        return self.sem(index)

    def thread(self, agent: int) -> str:
        """Return the author's name of a thread, given node * threads + thread."""
        node, thread = divmod(agent, self.program.threads)
        role = int(self.program.role_of[node])
        names = self.program.thread_names[role] if 0 <= role < len(self.program.thread_names) else ()
        return names[thread] if thread < len(names) else f"thread {thread}"
