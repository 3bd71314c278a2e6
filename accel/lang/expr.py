"""Values that differ from node to node or trip to trip: affine expressions, kept symbolic."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex, Union

import numpy as np

from accel.errors import TraceError
from accel.isa import layout as w
from accel.lang.pred import Pred, holds
from accel.lang.symbols import Sym, affine

__all__ = ["Expr", "Int"]

Int = Union[int, "Expr"]


class Expr:
    """An integer that may differ between nodes (`k.row`, `k.col`) or trips (the index of `k.loop`).

    `+ - *` with ints stay affine. `% // *` and comparisons of node values become a parameter per node. Asking for its
    truth value or int makes the tracer split the nodes into roles; with a loop index in it, that is an error.
    """

    __slots__ = ("c", "s")
    __array_ufunc__ = None  # NumPy integers leave arithmetic with an Expr to the Expr

    def __init__(self, c: int, s: Sym) -> None:
        self.c = c
        self.s = s

    # --- arithmetic ---------------------------------------------------------------------------------------------
    def __add__(self, other: Int | SupportsIndex) -> Int:
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

    def __sub__(self, other: Int | SupportsIndex) -> Int:
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

    def __and__(self, other: object) -> Any:
        raise TraceError(
            f"'{self}' is an integer, and & | combine conditions; & binds tighter than a comparison, so put each "
            "comparison in parentheses: (k.row == 0) & (k.col == 0)"
        )

    __rand__ = __or__ = __ror__ = __and__

    def _nodewise(self, other: Int, op: Any, sign: str) -> Int:
        """Apply a non-affine operation node by node: the result is a parameter column."""
        right = other if isinstance(other, Expr) else _lift(self, other)
        for side in (self, right):
            if side.s.loops:
                raise TraceError(
                    f"'{_group(self)} {sign} {_group(other)}' is not affine in the loop index "
                    f"'{side.s.loops[0][0].name}'; an address takes sums of multiples of it and "
                    "`(a*i + b) % constant` with ints a and b only: use range(), or rewrite it so (a slot of an SRAM "
                    "ring needs no %: view.ring()[n])"
                )
        values = right.c + right.s.values()
        if sign in "//%" and bool((values == 0).any()):
            at = right.s.dom.node(int(np.argmax(values == 0)))
            raise ZeroDivisionError(f"'{self} {sign} {other}' divides by zero on node {at}")
        out = self.s.dom.column(op(self.c + self.s.values(), values))
        return out if isinstance(out, int) else Expr(0, out)

    # --- comparisons --------------------------------------------------------------------------------------------
    def _compare(self, other: object, relation: int, shift: int) -> Pred | bool:
        if isinstance(other, float | np.floating):
            raise TraceError(
                f"'{self}' is an integer and is compared with {other!r}; use '//' where a quotient is meant"
            )
        difference = self - (other if isinstance(other, Expr) else operator.index(other))  # type: ignore[arg-type]
        if isinstance(difference, int):
            return holds(difference + shift, relation)
        return Pred(((difference.c + shift, difference.s, relation),))

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Expr | float) and not hasattr(other, "__index__"):
            return NotImplemented
        return self._compare(other, w.REL_EQ, 0)

    def __ne__(self, other: object) -> Any:
        if not isinstance(other, Expr | float) and not hasattr(other, "__index__"):
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
                f"'{self}' depends on a hardware loop and has no int while tracing; use range() for the loop, or keep "
                "it in addresses, semaphore indices and k.when(...)"
            )
        values = self.c + self.s.values()
        if self.s.lo == self.s.hi:
            return int(values[0])
        raise self.s.dom.split([self.s.dom.nodes[values == v] for v in np.unique(values)])

    def __repr__(self) -> str:
        return affine(self.c, self.s)

    __str__ = __repr__


def _integer(value: object) -> int | None:
    """Return a plain int for anything that is one, None otherwise."""
    if isinstance(value, int):
        return int(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _group(value: object) -> str:
    """Return the text of an operand, in parentheses if it is a sum or a product."""
    return f"({value})" if set(str(value)) & set(" *") else str(value)


def _lift(like: Expr, value: object) -> Expr:
    """Return an int as an expression over the same nodes."""
    return Expr(operator.index(value), like.s.dom.zero)  # type: ignore[arg-type]
