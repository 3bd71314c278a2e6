"""Predicates: conditions on node values and loop indices, for `k.when` and for `if`."""

from __future__ import annotations

import numpy as np

from accel.errors import TraceError
from accel.isa import layout as w
from accel.lang.symbols import Domain, LoopTerm, Mask, Term, Vector, affine

__all__ = ["Pred", "holds", "holds_each"]

RELATION = {w.REL_EQ: "==", w.REL_NE: "!=", w.REL_LT: "<", w.REL_GE: ">="}


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
    __array_ufunc__ = None  # NumPy booleans leave & and | with a Pred to the Pred

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
                f"'{self}' is a run-time value: a hardware loop is traced once for all trips; use range() for the "
                "loop, k.when(...) for the instructions, or peel the special trip"
            )
        mask = self.mask()
        answer = bool(mask[0])
        if bool((mask == answer).all()):
            if len(self.terms) == 1:
                self.terms[0][1].truth[self.terms[0][0], self.terms[0][2]] = answer
            return answer
        domain = self.terms[0][1].dom
        raise domain.split([domain.nodes[mask], domain.nodes[~mask]])

    def __and__(self, other: Pred | bool) -> Pred | bool:
        if isinstance(other, bool | np.bool_):
            return self if other else False
        return Pred(self.terms + other.terms)

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
        return bool(value) if isinstance(value, int) else Pred(((0, value, w.REL_NE),))

    def __repr__(self) -> str:
        shown = []
        for c, s, relation in self.terms:
            if relation == w.REL_LT and c < 0:
                shown.append(f"{affine(0, s)} < {-c}")
            else:
                shown.append(f"{affine(0, s)} {RELATION[relation]} {-c}")
        return " & ".join(f"({t})" for t in shown) if len(shown) > 1 else shown[0]

    __str__ = __repr__
