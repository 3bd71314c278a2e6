"""The tables that all roles of a program share: interned views, expressions, predicates, targets and marks."""

from __future__ import annotations

import numpy as np

from accel.isa import layout as w
from accel.isa.pools import ExprKey, Pool, Pools
from accel.isa.program import Table
from accel.lang.source import Lines

__all__ = ["ExprKey", "Tables", "ViewKey"]

# (space, dtype, object, dims, shape of four, strides of four, (ring base, ring bytes, bias, scalar))
ViewKey = tuple[int, int, int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Tables(Pools):
    """What the code rows of all roles index; an abandoned trace is rolled back, so nothing unused stays."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__(rows, cols)
        self.views: Pool[ViewKey] = Pool()
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
