"""Which programs the executor follows, and what it adds to their views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accel.isa import layout as w
from accel.machine.words import X_BEGIN, X_END, X_HOLDER

if TYPE_CHECKING:
    from accel.isa.program import Program, Table

__all__ = ["executable_views"]


def executable_views(program: Program) -> Table:
    """Return the extended view table of a program that the executor can follow, with X_HOLDER filled in.

    The bounds of a view of a ring become those of the ring: inside them it does not wrap. ProgramError for a program
    that breaks the machine's rules, UnsupportedError for what is not executed.
    """
    views = program.extended_views.copy()
    for view in np.flatnonzero(views[:, w.V_RING_BYTES]):
        views[view, X_BEGIN] = views[view, w.V_RING_BASE]
        views[view, X_END] = views[view, w.V_RING_BASE] + views[view, w.V_RING_BYTES]
    for view in np.flatnonzero(views[:, w.V_SCALAR]):
        at = int(views[view, w.V_SCALAR]) - 1
        holders = (i for i, b in enumerate(program.buffers) if b.offset <= at < b.offset + b.nbytes)
        views[view, X_HOLDER] = 1 + next(holders)
    return views
