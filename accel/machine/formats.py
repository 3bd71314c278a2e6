"""Which programs the executor follows, and what it adds to their views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accel.errors import UnsupportedError
from accel.isa import layout as w
from accel.isa.fitting import location
from accel.isa.table import BY_MNEMONIC
from accel.machine.words import X_BEGIN, X_END, X_HOLDER
from accel.numerics.formats import by_code

if TYPE_CHECKING:
    from accel.isa.program import Program, Table

__all__ = ["executable_views"]


def executable_views(program: Program) -> Table:
    """Return the extended view table of a program that the executor can follow, with X_HOLDER filled in.

    The bounds of a view of a ring become those of the ring: inside them it does not wrap. ProgramError for a program
    that breaks the machine's rules, UnsupportedError for what is not executed.
    """
    views = program.extended_views.copy()
    _require_products(program)
    for view in np.flatnonzero(views[:, w.V_RING_BYTES]):
        views[view, X_BEGIN] = views[view, w.V_RING_BASE]
        views[view, X_END] = views[view, w.V_RING_BASE] + views[view, w.V_RING_BYTES]
    for view in np.flatnonzero(views[:, w.V_SCALAR]):
        at = int(views[view, w.V_SCALAR]) - 1
        holders = (i for i, b in enumerate(program.buffers) if b.offset <= at < b.offset + b.nbytes)
        views[view, X_HOLDER] = 1 + next(holders)
    return views


def _require_products(program: Program) -> None:
    """Raise UnsupportedError for a matmul in other formats than bf16 into fp32."""
    row = BY_MNEMONIC["matmul"]
    rows = np.flatnonzero(program.code[:, w.W_OPCODE] == row.opcode)
    if not len(rows):
        return
    formats = np.array([by_code(int(code)).name for code in program.views[:, w.V_DTYPE]], dtype=object)
    used = formats[program.code[rows[:, None], [row.word(o.name) for o in row.views]]]
    wrong = (used != np.array(["fp32", "bf16", "bf16"])).any(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise UnsupportedError(
            f"matmul on {', '.join(used[first])} is not executed; use bf16 into fp32",
            at=location(program, int(rows[first])),
        )
