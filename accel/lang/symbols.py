"""Symbols: the varying part of an expression, interned over the nodes of a role, with bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accel.errors import TraceError
from accel.isa import layout as w
from accel.lang.tables import ExprKey, Tables

if TYPE_CHECKING:
    from accel.lang.loop import HardwareLoop

__all__ = ["Domain", "LoopTerm", "Mask", "Split", "Sym", "Term", "Vector", "affine"]

Vector = NDArray[np.int64]
Mask = NDArray[np.bool_]
LoopTerm = tuple["HardwareLoop", int, int, int, int]  # loop, coef, mul, add, mod
Term = tuple[int, "Sym", int]  # (constant, symbol, relation of their sum to 0)


class Split(BaseException):
    """The nodes disagree about an answer Python needs: trace each part on its own. A detour, not an error."""

    def __init__(self, parts: list[Vector]) -> None:
        super().__init__("the nodes of this role take different ways")
        self.parts = parts


class Domain:
    """The nodes of the role being traced, their parameter columns, and every symbol made over them."""

    def split(self, parts: list[Vector]) -> BaseException:
        """Return the Split to raise; a TraceError where the kernel is already traced and nobody could act on it."""
        if not self.open:
            return TraceError("this value differs between nodes, and its kernel is already traced; ask inside it")
        return Split(parts)

    def __init__(self, nodes: Vector, cols: int, tables: Tables) -> None:
        self.nodes = nodes
        self.open = True  # the kernel is still being traced, so that a Split finds someone who takes it
        self.cols = cols
        self.tables = tables
        self.columns: list[Vector] = [nodes // cols, nodes % cols]
        self._by_bytes = {column.tobytes(): i for i, column in reversed(list(enumerate(self.columns)))}
        self._syms: dict[tuple[tuple[tuple[int, int], ...], tuple[LoopTerm, ...]], Sym] = {}
        self.zero = self.sym((), ())
        self.row = self.sym(((w.PARAM_ROW, 1),), ())
        self.col = self.sym(((w.PARAM_COL, 1),), ())

    def sym(self, terms: tuple[tuple[int, int], ...], loops: tuple[LoopTerm, ...]) -> Sym:
        """Return the symbol of these terms, the same object every time."""
        key = (terms, loops)
        found = self._syms.get(key)
        if found is None:
            if len(terms) > w.EXPR_PARAMS:
                values = np.zeros(len(self.nodes), np.int64)
                for p, coef in terms:
                    values = values + coef * self.columns[p]
                found = self.sym(((self._column_index(values), 1),), loops)
            elif len(loops) > w.EXPR_LOOPS:
                raise TraceError(
                    f"an address takes at most {w.EXPR_LOOPS} loop terms, this expression has {len(loops)}; "
                    "use fewer different `%` of the loop index"
                )
            else:
                found = Sym(self, terms, loops)
            self._syms[key] = found
        return found

    def _column_index(self, values: Vector) -> int:
        data = values.tobytes()
        index = self._by_bytes.get(data)
        if index is None:
            index = self._by_bytes[data] = len(self.columns)
            self.columns.append(values)
        return index

    def column(self, values: Vector) -> int | Sym:
        """Return a value per node as a symbol; a plain int where all nodes agree."""
        first = int(values[0])
        if bool((values == first).all()):
            return first
        return self.sym(((self._column_index(values), 1),), ())

    def node(self, position: int) -> tuple[int, int]:
        """Return (row, col) of the node at a position of this role."""
        row, col = divmod(int(self.nodes[position]), self.cols)
        return row, col


def _loop_range(term: LoopTerm) -> tuple[int, int]:
    """Return the least and greatest value of a loop term over all trips."""
    loop, coef, mul, add, mod = term
    trips = max(loop.most, 1)
    if mod == 0:
        ends = (0, coef * mul * (trips - 1))
        return min(ends), max(ends)
    if min(trips, mod) <= 4096:
        values = [(mul * i + add) % mod for i in range(min(trips, mod))]
        ends = (coef * min(values), coef * max(values))
    else:
        ends = (0, coef * (mod - 1))
    return min(ends), max(ends)


class Sym:
    """The part of an expression that varies: node terms and loop terms, interned, with bounds over the role."""

    __slots__ = ("_eid", "_values", "adds", "dom", "hi", "lo", "loops", "muls", "terms", "truth")

    def __init__(self, dom: Domain, terms: tuple[tuple[int, int], ...], loops: tuple[LoopTerm, ...]) -> None:
        self.dom, self.terms, self.loops = dom, terms, loops
        self.muls: dict[int, Sym] = {}
        self.adds: dict[Sym, Sym] = {}
        self.truth: dict[tuple[int, int], bool | None] = {}
        self._eid = -1
        values: Vector | None = None
        for p, coef in terms:
            part = dom.columns[p] if coef == 1 else coef * dom.columns[p]
            values = part if values is None else values + part
        self._values = values
        self.lo = self.hi = 0
        if values is not None:
            self.lo, self.hi = int(values.min()), int(values.max())
        for term in loops:
            low, high = _loop_range(term)
            self.lo += low
            self.hi += high

    def values(self) -> Vector:
        """Return the node part, one value per node of the role."""
        return np.zeros(len(self.dom.nodes), np.int64) if self._values is None else self._values

    @property
    def eid(self) -> int:
        """Return the id in the expression table."""
        if self._eid < 0:
            key: ExprKey = (self.terms, tuple((t[0].depth, *t[1:]) for t in self.loops))
            self._eid = self.dom.tables.exprs.id(key)
        return self._eid

    def mul(self, n: int) -> Sym:
        """Return n times this symbol."""
        found = self.muls.get(n)
        if found is None:
            if n == 0:
                found = self.dom.zero
            else:
                terms = tuple((p, c * n) for p, c in self.terms)
                loops = tuple((t[0], t[1] * n, t[2], t[3], t[4]) for t in self.loops)
                found = self.dom.sym(terms, loops)
            self.muls[n] = found
        return found

    def add(self, other: Sym) -> Sym:
        """Return the sum of two symbols of one trace."""
        found = self.adds.get(other)
        if found is None:
            if other.dom is not self.dom:
                raise TraceError(
                    "a value of another trace is used here; take k.row, k.col and loop indices from this k"
                )
            terms = dict(self.terms)
            for p, c in other.terms:
                terms[p] = terms.get(p, 0) + c
            loops = {(t[0], t[2], t[3], t[4]): t[1] for t in self.loops}
            for t in other.loops:
                key = (t[0], t[2], t[3], t[4])
                loops[key] = loops.get(key, 0) + t[1]
            ordered = sorted(((k[0], c, *k[1:]) for k, c in loops.items() if c), key=lambda t: (t[0].depth, t[2:]))
            found = self.dom.sym(tuple(sorted((p, c) for p, c in terms.items() if c)), tuple(ordered))
            self.adds[other] = found
        return found


def _name(p: int) -> str:
    return ("row", "col")[p] if p < 2 else f"node[{p}]"


def affine(c: int, s: Sym) -> str:
    """Return the text of c plus a symbol."""
    parts = [(coef, _name(p)) for p, coef in s.terms]
    for loop, coef, mul, add, mod in s.loops:
        inner = loop.name if mul == 1 else f"{mul}*{loop.name}"
        parts.append((coef, f"({inner}{f' + {add}' if add else ''}) % {mod}" if mod else inner))
    text = ""
    for coef, name in parts:
        piece = name if abs(coef) == 1 else f"{abs(coef)}*{f'({name})' if '%' in name else name}"
        text += (" - " if coef < 0 else " + ") + piece if text else ("-" if coef < 0 else "") + piece
    if not text:
        return str(c)
    return text + (f" {'-' if c < 0 else '+'} {abs(c)}" if c else "")
