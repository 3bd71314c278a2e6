"""Values that differ from node to node or trip to trip: affine expressions, kept symbolic, and their comparisons."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from accel.errors import TraceError
from accel.isa import layout as w
from accel.lang.tables import ExprKey, Tables

if TYPE_CHECKING:
    from accel.lang.loop import HardwareLoop

__all__ = ["Domain", "Expr", "Int", "Pred", "Split", "Sym", "Term", "holds", "holds_each"]

Vector = NDArray[np.int64]
Mask = NDArray[np.bool_]
LoopTerm = tuple["HardwareLoop", int, int, int, int]  # loop, coef, mul, add, mod
Int = Union[int, "Expr"]
Term = tuple[int, "Sym", int]  # (constant, symbol, relation of their sum to 0)
RELATION = {w.REL_EQ: "==", w.REL_NE: "!=", w.REL_LT: "<", w.REL_GE: ">="}


class Split(BaseException):
    """The nodes disagree about an answer Python needs: trace each part on its own. A detour, not an error."""

    def __init__(self, parts: list[Vector]) -> None:
        super().__init__("the nodes of this role take different ways")
        self.parts = parts


class Domain:
    """The nodes of the role being traced, their parameter columns, and every symbol made over them."""

    def __init__(self, nodes: Vector, cols: int, tables: Tables) -> None:
        self.nodes = nodes
        self.cols = cols
        self.tables = tables
        self.columns: list[Vector] = [nodes // cols, nodes % cols]
        self._by_bytes = {column.tobytes(): i for i, column in reversed(list(enumerate(self.columns)))}
        self._syms: dict[tuple[tuple[tuple[int, int], ...], tuple[LoopTerm, ...]], Sym] = {}
        self.zero = self.sym((), ())
        self.row = Expr(0, self.sym(((w.PARAM_ROW, 1),), ()))
        self.col = Expr(0, self.sym(((w.PARAM_COL, 1),), ()))

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

    def column(self, values: Vector) -> Int:
        """Return a value per node as an expression; a plain int where all nodes agree."""
        first = int(values[0])
        if bool((values == first).all()):
            return first
        return Expr(0, self.sym(((self._column_index(values), 1),), ()))

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


def _affine(c: int, s: Sym) -> str:
    parts = [(coef, _name(p)) for p, coef in s.terms]
    for loop, coef, mul, add, mod in s.loops:
        inner = loop.name if mul == 1 else f"{mul}*{loop.name}"
        parts.append((coef, f"({inner}{f' + {add}' if add else ''}) % {mod}" if mod else inner))
    text = ""
    for coef, name in parts:
        piece = name if abs(coef) == 1 else f"{abs(coef)}*{f'({name})' if '%' in name else name}"
        text += (" - " if coef < 0 else " + ") + piece if text else ("-" if coef < 0 else "") + piece
    return text + (f" {'-' if c < 0 else '+'} {abs(c)}" if c else "")


class Expr:
    """An integer that may differ between nodes (`k.row`, `k.col`) or trips (the index of `k.loop`).

    `+ - *` with ints stay affine. `% // *` and comparisons of node values become a parameter per node. Asking for its
    truth value or int makes the tracer split the nodes into roles; with a loop index in it, that is an error.
    """

    __slots__ = ("c", "s")

    def __init__(self, c: int, s: Sym) -> None:
        self.c = c
        self.s = s

    # --- arithmetic ---------------------------------------------------------------------------------------------
    def __add__(self, other: Int) -> Int:
        if isinstance(other, int):
            return Expr(self.c + other, self.s)
        if isinstance(other, Expr):
            s = self.s.adds.get(other.s) or self.s.add(other.s)
            return Expr(self.c + other.c, s) if s.terms or s.loops else self.c + other.c
        number = _integer(other)
        return NotImplemented if number is None else Expr(self.c + number, self.s)

    __radd__ = __add__

    def __neg__(self) -> Expr:
        return Expr(-self.c, self.s.mul(-1))

    def __pos__(self) -> Expr:
        return self

    def __sub__(self, other: Int) -> Int:
        if isinstance(other, int):
            return Expr(self.c - other, self.s)
        if isinstance(other, Expr):
            return self + Expr(-other.c, other.s.mul(-1))
        number = _integer(other)
        return NotImplemented if number is None else Expr(self.c - number, self.s)

    def __rsub__(self, other: int) -> Int:
        number = _integer(other)
        return NotImplemented if number is None else Expr(number - self.c, self.s.mul(-1))

    def __mul__(self, other: Int) -> Int:
        if isinstance(other, Expr):
            return self._nodewise(other, operator.mul, "*")
        number = _integer(other)
        if number is None:
            return NotImplemented
        s = self.s.muls.get(number) or self.s.mul(number)
        return Expr(self.c * number, s) if number else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Int) -> Int:
        if not isinstance(other, Expr):
            n = _integer(other)
            if n is None:
                return NotImplemented
            if n and all(c % n == 0 for _, c in self.s.terms) and all(t[1] % n == 0 for t in self.s.loops):
                s = self.s.dom.sym(
                    tuple((p, c // n) for p, c in self.s.terms),
                    tuple((t[0], t[1] // n, t[2], t[3], t[4]) for t in self.s.loops),
                )
                return Expr(self.c // n, s)
            other = n
        return self._nodewise(other, operator.floordiv, "//")

    def __rfloordiv__(self, other: int) -> Int:
        return _lift(self, other)._nodewise(self, operator.floordiv, "//")

    def __mod__(self, other: Int) -> Int:
        if not isinstance(other, Expr):
            n = _integer(other)
            if n is None:
                return NotImplemented
            if n and all(c % n == 0 for _, c in self.s.terms) and all(t[1] % n == 0 for t in self.s.loops):
                return self.c % n
            if n > 0 and not self.s.terms and len(self.s.loops) == 1 and self.s.loops[0][4] == 0:
                loop, coef, mul, _, _ = self.s.loops[0]
                return Expr(0, self.s.dom.sym((), ((loop, 1, coef * mul % n, self.c % n, n),)))
            other = n
        return self._nodewise(other, operator.mod, "%")

    def __rmod__(self, other: int) -> Int:
        return _lift(self, other)._nodewise(self, operator.mod, "%")

    def __divmod__(self, other: Int) -> tuple[Int, Int]:
        return self // other, self % other

    def __truediv__(self, other: object) -> Int:
        raise TraceError(f"'/' of '{self}' would not be an integer; use '//'")

    def _nodewise(self, other: Int, op: Any, sign: str) -> Int:
        """Apply a non-affine operation node by node: the result is a parameter column."""
        right = other if isinstance(other, Expr) else _lift(self, other)
        for side in (self, right):
            if side.s.loops:
                raise TraceError(
                    f"'{self} {sign} {other}' is not affine in the loop index '{side.s.loops[0][0].name}'; an address "
                    "takes sums of multiples of it and `(a*i + b) % constant` only: use range(), or rewrite it so"
                )
        values = right.c + right.s.values()
        if sign in "//%" and bool((values == 0).any()):
            at = right.s.dom.node(int(np.argmax(values == 0)))
            raise ZeroDivisionError(f"'{self} {sign} {other}' divides by zero on node {at}")
        return self.s.dom.column(op(self.c + self.s.values(), values))

    # --- comparisons --------------------------------------------------------------------------------------------
    def _compare(self, other: object, relation: int, shift: int) -> Pred | bool:
        difference = self - (other if isinstance(other, Expr) else operator.index(other))  # type: ignore[call-overload]
        if isinstance(difference, int):
            return holds(difference + shift, relation)
        return Pred(((difference.c + shift, difference.s, relation),))

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Expr) and not hasattr(other, "__index__"):
            return NotImplemented
        return self._compare(other, w.REL_EQ, 0)

    def __ne__(self, other: object) -> Any:
        if not isinstance(other, Expr) and not hasattr(other, "__index__"):
            return NotImplemented
        return self._compare(other, w.REL_NE, 0)

    def __lt__(self, other: Int) -> Any:
        return self._compare(other, w.REL_LT, 0)

    def __le__(self, other: Int) -> Any:
        return self._compare(other, w.REL_LT, -1)

    def __gt__(self, other: Int) -> Any:
        return self._compare(other, w.REL_GE, -1)

    def __ge__(self, other: Int) -> Any:
        return self._compare(other, w.REL_GE, 0)

    def __hash__(self) -> int:
        return hash((self.c, self.s))

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __index__(self) -> int:
        return self.split()

    __int__ = __index__

    def split(self) -> int:
        """Return the value if all nodes of the role agree; otherwise split the role by value."""
        if self.s.loops:
            raise TraceError(
                f"'{self}' depends on a hardware loop and has no int while tracing; use range() for the loop, or keep it "
                "in addresses, semaphore indices and k.when(...)"
            )
        values = self.c + self.s.values()
        if self.s.lo == self.s.hi:
            return int(values[0])
        raise Split([self.s.dom.nodes[values == v] for v in np.unique(values)])

    def __repr__(self) -> str:
        return _affine(self.c, self.s)

    __str__ = __repr__


def _integer(value: object) -> int | None:
    """Return a plain int for anything that is one, None otherwise."""
    if isinstance(value, int):
        return int(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _lift(like: Expr, value: object) -> Expr:
    """Return an int as an expression over the same nodes."""
    return Expr(operator.index(value), like.s.dom.zero)  # type: ignore[arg-type]


def holds(value: int, relation: int) -> bool:
    """Return whether an integer stands in a relation to 0."""
    return (value == 0, value != 0, value < 0, value >= 0)[relation - w.REL_EQ]


def holds_each(values: Vector, relation: int) -> Mask:
    """Return where each of some integers stands in a relation to 0."""
    if relation in (w.REL_EQ, w.REL_NE):
        equal: Mask = values == 0
        return equal if relation == w.REL_EQ else ~equal
    below: Mask = values < 0
    return below if relation == w.REL_LT else ~below


class Pred:
    """A condition on node values and loop indices: the argument of `k.when`, or of `if`, which splits roles."""

    __slots__ = ("terms",)

    def __init__(self, terms: tuple[Term, ...]) -> None:
        self.terms = terms

    @property
    def domain(self) -> Domain:
        """Return the nodes it is about."""
        return self.terms[0][1].dom

    def mask(self) -> Mask:
        """Return for which nodes of the role it holds; only without loop terms."""
        dom = self.terms[0][1].dom
        out: Mask = np.ones(len(dom.nodes), np.bool_)
        for c, s, relation in self.terms:
            out &= holds_each(c + s.values(), relation)
        return out

    @property
    def loops(self) -> tuple[LoopTerm, ...]:
        """Return the loop terms in it."""
        return tuple(t for _, s, _ in self.terms for t in s.loops)

    def __bool__(self) -> bool:
        answer: bool | None
        if len(self.terms) == 1:
            c, s, relation = self.terms[0]
            answer = s.truth.get((c, relation))
            if answer is not None:
                return answer
        if self.loops:
            raise TraceError(
                f"'{self}' is a run-time value: a hardware loop is traced once for all trips; use range() for the loop, "
                "k.when(...) for the instructions, or peel the special trip"
            )
        mask = self.mask()
        answer = bool(mask[0])
        if bool((mask == answer).all()):
            if len(self.terms) == 1:
                self.terms[0][1].truth[self.terms[0][0], self.terms[0][2]] = answer
            return answer
        nodes = self.terms[0][1].dom.nodes
        raise Split([nodes[mask], nodes[~mask]])

    def __and__(self, other: Pred | bool) -> Pred | bool:
        if isinstance(other, bool | np.bool_):
            return self if other else False
        return Pred(self.terms + other.terms) if isinstance(other, Pred) else NotImplemented

    __rand__ = __and__

    def __invert__(self) -> Pred | bool:
        if len(self.terms) == 1:
            c, s, relation = self.terms[0]
            opposite = {w.REL_EQ: w.REL_NE, w.REL_NE: w.REL_EQ, w.REL_LT: w.REL_GE, w.REL_GE: w.REL_LT}[relation]
            return Pred(((c, s, opposite),))
        return self._of_mask(~self._node_mask("~"))

    def __or__(self, other: Pred | bool) -> Pred | bool:
        if isinstance(other, bool | np.bool_):
            return True if other else self
        if not isinstance(other, Pred):
            return NotImplemented
        return self._of_mask(self._node_mask("|") | other._node_mask("|"))

    __ror__ = __or__

    def _node_mask(self, sign: str) -> Mask:
        if self.loops:
            raise TraceError(
                f"'{sign}' of '{self}', which depends on a loop index, is not a predicate of the machine; "
                "use one k.when for each case"
            )
        return self.mask()

    def _of_mask(self, mask: Mask) -> Pred | bool:
        value = self.terms[0][1].dom.column(mask.astype(np.int64))
        if isinstance(value, int):
            return bool(value)
        return Pred(((value.c, value.s, w.REL_NE),))

    def __repr__(self) -> str:
        shown = []
        for c, s, relation in self.terms:
            if relation == w.REL_LT and c < 0:
                shown.append(f"{_affine(0, s)} < {-c}")
            else:
                shown.append(f"{_affine(0, s)} {RELATION[relation]} {-c}")
        return " & ".join(f"({t})" for t in shown) if len(shown) > 1 else shown[0]

    __str__ = __repr__
