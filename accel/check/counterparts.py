"""The other side of a hazard of tokens: who gives what a line waits for, who waits for what it gives, where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from accel.check.prepare import Tables
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["Counterparts"]

_WAIT, _INC, _COPY, _PULL, _MARK = (BY_MNEMONIC[name] for name in ("wait", "inc", "copy", "pull", "mark"))
_GIVES = {_INC.opcode: (_INC.word("sem"),), **{e.opcode: (e.word("done"), e.word("sent")) for e in (_COPY, _PULL)}}
_TAKES = {_WAIT.opcode: (_WAIT.word("sem"),)}


class Counterparts:
    """Finds rows of a program by what they do to a semaphore. A row of -1 is none."""

    def __init__(self, tables: Tables) -> None:
        self.program, self.sites = tables.program, tables.sites
        self.code: list[list[int]] = tables.program.code.tolist()

    def giver(self, sem: int, beside: int = -1) -> int:
        """Return a row at another line than row `beside` that gives tokens of `sem`, or of one declared with it."""
        return self._first(self._uses(sem, _GIVES), beside)

    def taker(self, sem: int, beside: int = -1) -> int:
        """Return a row at another line than row `beside` that waits for `sem`, or for one declared with it."""
        return self._first(self._uses(sem, _TAKES), beside)

    def end(self, row: int) -> int:
        """Return where the thread of a row ends: its last row at another line; if none, that of a thread beside it."""
        spans = self.program.spans.tolist()
        role = next((r for r, threads in enumerate(spans) if any(a <= row < b for a, b in threads)), -1)
        if role < 0:
            return -1
        own = [(a, b) for a, b in spans[role] if a <= row < b]
        others = [span for span in spans[role] if span not in own]
        return next((at for a, b in (*own, *others) if (at := self._first(range(b - 1, a - 1, -1), row)) >= 0), -1)

    def _uses(self, sem: int, words: Mapping[int, tuple[int, ...]]) -> Iterator[int]:
        """Yield rows that certainly use `sem`, then those that use a semaphore of its group that varies or another."""
        same = {sem}
        for s in self.program.semaphores:
            if s.index <= sem < s.index + s.count:
                same = set(range(s.index, s.index + s.count))
        sure: list[int] = []
        others: list[int] = []
        for row, code in enumerate(self.code):
            for word in words.get(code[isa.W_OPCODE], ()):
                if code[word] in same:
                    (sure if code[word] == sem and not code[word + 1] else others).append(row)
        yield from (*sure, *others)

    def _first(self, rows: Iterable[int], beside: int) -> int:
        """Return the first of `rows` that has a line and is at another one than `beside`."""
        lines = self.program.lines
        for row in rows:
            line = self.code[row][isa.W_LINE]
            other = beside < 0 or (self.sites[row] != self.sites[beside] and line != self.code[beside][isa.W_LINE])
            if 0 <= line < len(lines) and other:
                return row
        return -1
