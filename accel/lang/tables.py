"""The tables that all roles of a program share: interned views, expressions, predicates, targets and marks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import numpy as np

from accel.isa import layout as w
from accel.isa.program import Table
from accel.lang.source import Lines

__all__ = ["ExprKey", "Pool", "PredKey", "Tables", "TargetKey", "ViewKey"]

Key = TypeVar("Key", bound=Hashable)
# (space, dtype, object, dims, shape of four, strides of four, (ring base, ring bytes, bias, scalar))
ViewKey = tuple[int, int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]
# pairs (param, coef), then loop terms (depth, coef, mul, add, mod)
ExprKey = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int, int, int, int], ...]]
PredKey = tuple[tuple[int, int, int], ...]  # (expression id, constant, relation) per term
TargetKey = tuple[int, ...]  # (constant, expression id) of first row, last row, first column, last column


class Pool(Generic[Key]):
    """Distinct keys in order of first use; the position is the id."""

    __slots__ = ("ids", "items")

    def __init__(self, *first: Key) -> None:
        self.ids: dict[Key, int] = {}
        self.items: list[Key] = []
        for key in first:
            self.id(key)

    def id(self, key: Key) -> int:
        """Return the id of a key, giving it one at first sight."""
        index = self.ids.get(key)
        if index is None:
            index = self.ids[key] = len(self.items)
            self.items.append(key)
        return index

    def rollback(self, size: int) -> None:
        """Forget every key past the first `size`."""
        for key in self.items[size:]:
            del self.ids[key]
        del self.items[size:]


class Tables:
    """What the code rows of all roles index; an abandoned trace is rolled back, so nothing unused stays."""

    def __init__(self, rows: int, cols: int) -> None:
        row_expr: ExprKey = (((w.PARAM_ROW, 1),), ())
        col_expr: ExprKey = (((w.PARAM_COL, 1),), ())
        self.views: Pool[ViewKey] = Pool()
        self.exprs: Pool[ExprKey] = Pool(((), ()), row_expr, col_expr)
        self.preds: Pool[PredKey] = Pool(())
        self.targets: Pool[TargetKey] = Pool((0, 1, 0, 1, 0, 2, 0, 2), (0, 0, rows - 1, 0, 0, 0, cols - 1, 0))
        self.marks: Pool[str] = Pool()
        self.lines = Lines()

    def sizes(self) -> tuple[int, ...]:
        """Return the number of keys in each pool, for `rollback`."""
        return tuple(len(p.items) for p in (self.views, self.exprs, self.preds, self.targets, self.marks))

    def rollback(self, sizes: tuple[int, ...]) -> None:
        """Forget what came after `sizes` was taken (the source map stays: it is compacted at the end)."""
        views, exprs, preds, targets, marks = sizes
        self.views.rollback(views)
        self.exprs.rollback(exprs)
        self.preds.rollback(preds)
        self.targets.rollback(targets)
        self.marks.rollback(marks)

    def view_table(self) -> Table:
        """Return the views as (views, VIEW_WORDS)."""
        out = np.zeros((len(self.views.items), w.VIEW_WORDS), np.int64)
        for row, (space, dtype, owner, dims, shape, strides, more) in zip(out, self.views.items, strict=True):
            row[w.V_SPACE], row[w.V_DTYPE], row[w.V_OBJECT], row[w.V_NDIM] = space, dtype, owner, dims
            row[w.V_SHAPE : w.V_SHAPE + w.DIMS] = shape
            row[w.V_STRIDE : w.V_STRIDE + w.DIMS] = strides
            row[w.V_RING_BASE], row[w.V_RING_BYTES], row[w.V_BIAS], row[w.V_SCALAR] = more
        return out

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
