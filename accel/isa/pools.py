"""The tables that neither a kernel nor assembly text numbers: views, expressions, predicates, targets, marks, interned.

Their order is that of first use, by the tracer or by reading. A program whose tables have another order, unused entries
or twins lists the table in its text by directives (`.expr e0 = ...`) before its code; then the table starts from that
list.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np

from accel.errors import Location
from accel.isa import layout as w
from accel.isa.program import Table

__all__ = [
    "AssemblyPools",
    "ExprKey",
    "Pool",
    "Pools",
    "PredKey",
    "TargetKey",
    "ViewKey",
    "expr_key",
    "pred_key",
    "target_key",
    "view_key",
]

Key = TypeVar("Key", bound=Hashable)
# pairs (param, coef), then loop terms (depth, coef, mul, add, mod)
ExprKey = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int, int, int, int], ...]]
PredKey = tuple[tuple[int, int, int], ...]  # (expression id, constant, relation) per term
TargetKey = tuple[int, ...]  # (constant, expression id) of first row, last row, first column, last column
ViewKey = tuple[int, ...]  # the words of the view table

ZERO: ExprKey = ((), ())
ROW: ExprKey = (((w.PARAM_ROW, 1),), ())
COL: ExprKey = (((w.PARAM_COL, 1),), ())


def expr_key(words: list[int]) -> ExprKey:
    """Return what a row of the expression table means."""
    params = tuple((words[at], words[at + 1]) for at in range(w.E_PARAMS, w.E_PARAMS + 2 * words[w.E_NPARAMS], 2))
    loops = []
    for j in range(words[w.E_NLOOPS]):
        at = w.E_LOOPS + w.EXPR_LOOP_WORDS * j
        depth, coef, mul, add, mod = words[at : at + w.EXPR_LOOP_WORDS]
        loops.append((depth, coef, mul, add, mod))
    return params, tuple(loops)


def pred_key(words: list[int]) -> PredKey:
    """Return what a row of the predicate table means."""
    return tuple(
        (words[at], words[at + 1], words[at + 2]) for at in range(w.P_TERMS, w.P_TERMS + 3 * words[w.P_COUNT], 3)
    )


def target_key(words: list[int]) -> TargetKey:
    """Return what a row of the target table means."""
    return tuple(words)


def view_key(words: list[int]) -> ViewKey:
    """Return what a row of the view table means."""
    return tuple(words)


class Pool(Generic[Key]):
    """Entries in order; `ids` finds the first of equal ones. listed: the order comes from directives."""

    __slots__ = ("ids", "items", "listed")

    def __init__(self, *first: Key) -> None:
        self.ids: dict[Key, int] = {}
        self.items: list[Key] = []
        self.listed = False
        for key in first:
            self.append(key)

    def append(self, key: Key) -> int:
        """Add an entry, equal to another or not; return its id."""
        self.items.append(key)
        index = len(self.items) - 1
        self.ids.setdefault(key, index)
        return index

    def id(self, key: Key) -> int:
        """Return the id of an entry, adding it at first sight."""
        index = self.ids.get(key)
        return self.append(key) if index is None else index

    def rollback(self, size: int) -> None:
        """Forget every entry past the first `size`; entries must have come through `id`."""
        for key in self.items[size:]:
            del self.ids[key]
        del self.items[size:]

    def list_next(self, key: Key) -> int:
        """Add an entry of a listed table; the first one takes the place of what the table starts with."""
        if not self.listed:
            self.listed = True
            self.ids.clear()
            self.items.clear()
        return self.append(key)


class Pools:
    """What the code rows of one program index, but for its views and lines."""

    def __init__(self, rows: int, cols: int) -> None:
        self.exprs: Pool[ExprKey] = Pool(ZERO, ROW, COL)
        self.preds: Pool[PredKey] = Pool(())
        self.targets: Pool[TargetKey] = Pool((0, 1, 0, 1, 0, 2, 0, 2), (0, 0, rows - 1, 0, 0, 0, cols - 1, 0))
        self.marks: Pool[str] = Pool()

    def expr_table(self) -> Table:
        """Return the expressions as (expressions, EXPR_WORDS)."""
        out = np.zeros((len(self.exprs.items), w.EXPR_WORDS), np.int64)
        for row, (terms, loops) in zip(out, self.exprs.items, strict=True):
            row[w.E_NPARAMS], row[w.E_NLOOPS] = len(terms), len(loops)
            for j, term in enumerate(terms):
                row[w.E_PARAMS + 2 * j : w.E_PARAMS + 2 * j + 2] = term
            for j, loop in enumerate(loops):
                at = w.E_LOOPS + w.EXPR_LOOP_WORDS * j
                row[at : at + w.EXPR_LOOP_WORDS] = loop
        return out

    def pred_table(self) -> Table:
        """Return the predicates as (predicates, PRED_WORDS)."""
        out = np.zeros((len(self.preds.items), w.PRED_WORDS), np.int64)
        for row, terms in zip(out, self.preds.items, strict=True):
            row[w.P_COUNT] = len(terms)
            for j, term in enumerate(terms):
                row[w.P_TERMS + 3 * j : w.P_TERMS + 3 * j + 3] = term
        return out

    def target_table(self) -> Table:
        """Return the targets as (targets, TARGET_WORDS)."""
        return np.array(self.targets.items, np.int64).reshape(-1, w.TARGET_WORDS)


class AssemblyPools(Pools):
    """The pools of a program that is read from text."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__(rows, cols)
        self.views: Pool[ViewKey] = Pool()
        self.lines: Pool[Location] = Pool()

    def view_table(self) -> Table:
        """Return the views as (views, VIEW_WORDS)."""
        return np.array(self.views.items, np.int64).reshape(-1, w.VIEW_WORDS)
