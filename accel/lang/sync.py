"""Semaphores and targets: the handles that synchronise threads and name the nodes an instruction reaches."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from accel.errors import BoundsError, TraceError
from accel.lang.expr import Expr, Int
from accel.lang.reach import check_guard, extremes, guard
from accel.lang.symbols import Sym, Term

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer

__all__ = ["Sem", "SemRef", "Target", "To", "one_node", "one_semaphore", "rectangle", "target_id", "token_count"]


class SemRef:
    """One counting semaphore: what `k.wait`, `k.inc`, `done=` and `sent=` take."""

    __slots__ = ("c", "s", "tracer")

    def __init__(self, tracer: Tracer | None, c: int, s: Sym) -> None:
        self.tracer, self.c, self.s = tracer, c, s


class GuardedRef(SemRef):
    """A semaphore whose index is in range only under a predicate; its `tracer` is None so that every use is checked."""

    __slots__ = ("guard", "name", "owner")

    def __init__(self, owner: Tracer, name: str, c: int, s: Sym) -> None:
        super().__init__(None, c, s)
        self.owner, self.name, self.guard = owner, name, guard(owner)


class Sem:
    """`n` counting semaphores on every node (`k.sem`); `sem[i]` is one of them, and a single one needs no index."""

    __slots__ = ("_refs", "base", "count", "name", "tracer")

    def __init__(self, tracer: Tracer, name: str, base: int, count: int) -> None:
        self.tracer, self.name, self.base, self.count = tracer, name, base, count
        self._refs = [SemRef(tracer, base + i, tracer.dom.zero) for i in range(count)]

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<semaphore {self.name!r}>" if self.count == 1 else f"<{self.count} semaphores {self.name!r}>"

    def __getitem__(self, index: Int) -> SemRef:
        """Return semaphore `index`: an int, a per-node expression, or affine in a loop index (`i % 2`)."""
        if isinstance(index, Expr):
            low, high = index.c + index.s.lo, index.c + index.s.hi
            if low < 0 or high >= self.count:
                low, high, where = extremes(self.tracer, index)
                if (low < 0 or high >= self.count) and not self.tracer.active.dead:
                    raise BoundsError(self._outside(f"{index}", low if low < 0 else high, where))
                if guard(self.tracer):
                    return GuardedRef(self.tracer, f"{self.name}[{index}]", self.base + index.c, index.s)
            return SemRef(self.tracer, self.base + index.c, index.s)
        number = operator.index(index)
        if 0 <= number < self.count:
            return self._refs[number]
        if self.tracer.active.dead:
            return self._refs[0]
        raise BoundsError(self._outside(str(number), number, ""))

    def _outside(self, text: str, worst: int, where: str) -> str:
        return (
            f"semaphore {self.name}[{text}] reaches index {worst}{where}, and there are {self.count}; "
            f"allocate more with k.sem(n) or take the index modulo {self.count}"
        )

    @property
    def single(self) -> SemRef:
        """Return the only one; TraceError if there are several."""
        if self.count != 1:
            raise TraceError(f"{self.name!r} is {self.count} semaphores; index it, {self.name}[i]")
        return self._refs[0]


class Target:
    """A rectangle of nodes, possibly different on each: `k.row_nodes()`, `k.col_nodes()`, `k.all_nodes()`, `k.rect`."""

    __slots__ = ("guard", "id", "text", "tracer")

    def __init__(self, tracer: Tracer, index: int, text: str, limits: tuple[Term, ...] = ()) -> None:
        self.tracer, self.id, self.text, self.guard = tracer, index, text, limits

    def __repr__(self) -> str:
        return self.text


To = Target | tuple[Int, Int]


def one_semaphore(t: Tracer, sem: object) -> SemRef:
    """Return the one semaphore that a handle means, of this trace."""
    if isinstance(sem, Sem):
        sem = sem.single
    if not isinstance(sem, SemRef):
        raise TraceError(f"a semaphore is wanted here, not {sem!r}; allocate one with k.sem()")
    if isinstance(sem, GuardedRef) and sem.owner is t:
        check_guard(t, f"semaphore {sem.name}", sem.guard)
    elif sem.tracer is not t:
        raise TraceError("this semaphore belongs to another kernel; allocate it with the k of this one")
    return sem


def token_count(t: Tracer, what: str, n: Int) -> tuple[int, int]:
    """Return constant and expression id of a token count, at least 1 and no more than a semaphore counts."""
    c = e = 0
    if isinstance(n, Expr):
        low, high, where = extremes(t, n, 1)
        c, e = n.c, t.eid(n.s)
    else:
        if not hasattr(n, "__index__"):
            raise TraceError(f"{what} of {n!r} tokens; a count is an int (and at= names the nodes)")
        c = low = high = operator.index(n)
        where = ""
    if (low < 1 or high > t.most_tokens) and not t.active.dead:
        raise TraceError(f"{what} of {low if low < 1 else high} tokens{where}; a count is from 1 to {t.most_tokens}")
    return c, e


def rectangle(t: Tracer, r0: Int, r1: Int, c0: Int, c1: Int) -> tuple[int, tuple[Term, ...]]:
    """Return the id of an inclusive rectangle, and the conditions under which it lies in the mesh."""
    rows, cols = t.mesh
    limits: tuple[Term, ...] = ()
    words: list[int] = []
    for edge, size, what in ((r0, rows, "row"), (r1, rows, "row"), (c0, cols, "column"), (c1, cols, "column")):
        if isinstance(edge, Expr):
            low, high, where = edge.c + edge.s.lo, edge.c + edge.s.hi, ""
            words += (edge.c, t.eid(edge.s))
            if low < 0 or high >= size:
                low, high, where = extremes(t, edge)
                limits = guard(t)
        else:
            low = high = operator.index(edge)
            where = ""
            words += (low, 0)
            if t.active.terms and not 0 <= low < size:  # where the predicate holds on none of these nodes all is well
                low, high, where = extremes(t, Expr(low, t.dom.zero))
                limits = guard(t)
        if (low < 0 or high >= size) and not t.active.dead:
            raise BoundsError(
                f"the target reaches {what} {low if low < 0 else high}{where}, and the mesh is {rows} x {cols}; "
                "take it modulo the mesh, or leave border nodes out with k.when or if"
            )
    for first, last in ((r0, r1), (c0, c1)):
        if first is not last and not t.active.dead:
            extent = last - first
            if (extremes(t, extent)[0] if isinstance(extent, Expr) else extent) < 0:
                raise TraceError(
                    f"the target holds no node: it runs from {first} to before {last + 1}; a target holds at least one"
                )
    return t.tables.targets.id(tuple(words)), limits


def target_id(t: Tracer, to: To) -> int:
    """Return the id of what `to=` or `at=` was given."""
    if isinstance(to, Target):
        if to.tracer is not t:
            raise TraceError(f"{to} belongs to another kernel; take targets from the k of this one")
        if to.guard:
            check_guard(t, str(to), to.guard)
        return to.id
    try:
        r, c = to
    except (TypeError, ValueError):
        raise TraceError(
            f"a target is (row, col), k.row_nodes(), k.col_nodes(), k.all_nodes() or k.rect(...), not {to!r}"
        ) from None
    key: tuple[object, ...] = (r.c, r.s) if isinstance(r, Expr) else (r, None)
    key += (c.c, c.s) if isinstance(c, Expr) else (c, None)
    found = t.targets.get(key)
    if found is None:
        found, limits = rectangle(t, r, r, c, c)
        looped = any(isinstance(edge, Expr) and edge.s.loops for edge in (r, c))
        if not (limits or looped or t.active.dead):
            t.targets[key] = found
    return found


def one_node(t: Tracer, what: str, of: To) -> int:
    """Return the id of a target that names exactly one node; TraceError for a rectangle of several."""
    index = target_id(t, of)
    r0, e0, r1, e1, c0, f0, c1, f1 = t.tables.targets.items[index]
    if (r0, e0, c0, f0) != (r1, e1, c1, f1) and not t.active.dead:
        raise TraceError(f"{what} takes one node as of=, not {of!r}; name it (row, col)")
    return index
