"""Semaphores and targets: the handles that synchronise threads and name the nodes an instruction reaches."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from accel.errors import BoundsError, TraceError
from accel.lang.expr import Expr, Int, Sym

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer

__all__ = ["Sem", "SemRef", "Target"]


class SemRef:
    """One counting semaphore: what `k.wait`, `k.inc`, `done=` and `sent=` take."""

    __slots__ = ("c", "s", "tracer")

    def __init__(self, tracer: Tracer, c: int, s: Sym) -> None:
        self.tracer, self.c, self.s = tracer, c, s


class Sem:
    """`n` counting semaphores on every node (`k.sem`); `sem[i]` is one of them, and a single one needs no index."""

    __slots__ = ("_refs", "base", "count", "name", "tracer")

    def __init__(self, tracer: Tracer, name: str, base: int, count: int) -> None:
        self.tracer, self.name, self.base, self.count = tracer, name, base, count
        self._refs = [SemRef(tracer, base + i, tracer.dom.zero) for i in range(count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Int) -> SemRef:
        """Return semaphore `index`: an int, a per-node expression, or affine in a loop index (`i % 2`)."""
        if isinstance(index, Expr):
            low, high = index.c + index.s.lo, index.c + index.s.hi
            if low < 0 or high >= self.count:
                low, high, where = self.tracer.extremes(index)
                if low < 0 or high >= self.count:
                    raise BoundsError(
                        f"semaphore {self.name}[{index}] reaches index {low if low < 0 else high}{where}, but there are "
                        f"{self.count}; allocate more with k.sem(n) or take the index modulo {self.count}"
                    )
            return SemRef(self.tracer, self.base + index.c, index.s)
        number = operator.index(index)
        if not 0 <= number < self.count:
            if self.tracer.active.dead:
                return self._refs[0]
            raise BoundsError(
                f"semaphore {self.name}[{number}] does not exist, there are {self.count}; "
                f"allocate more with k.sem(n) or take the index modulo {self.count}"
            )
        return self._refs[number]

    @property
    def single(self) -> SemRef:
        """Return the only one; TraceError if there are several."""
        if self.count != 1:
            raise TraceError(f"{self.name!r} is {self.count} semaphores; index it, {self.name}[i]")
        return self._refs[0]


class Target:
    """A rectangle of nodes, possibly different on each: `k.row_nodes()`, `k.col_nodes()`, `k.all_nodes()`, `k.rect`."""

    __slots__ = ("id", "text", "tracer")

    def __init__(self, tracer: Tracer, index: int, text: str) -> None:
        self.tracer, self.id, self.text = tracer, index, text

    def __repr__(self) -> str:
        return self.text
