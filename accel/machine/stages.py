"""Room for copies under way: under a random schedule a copy may read its source long before it delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accel.isa.layout import DIMS, V_RING_BYTES, V_SHAPE, V_STRIDE, W_OPCODE
from accel.isa.table import BY_MNEMONIC
from accel.machine.schedule import MOST_COPIES
from accel.machine.words import X_COUNT, X_ITEM

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["Stages", "stages_for"]

MOST_BYTES = 64 << 20  # larger copies than fit here deliver as they read, which is legal, too
LINE = 64


class Stages(NamedTuple):
    """`slots` stages of `nbytes` each, and the `own` views of the program followed by their dense twins, if any."""

    slots: int
    nbytes: int
    views: Any
    own: int


def stages_for(program: Program, views: Any, seed: int | None, *, probes: bool = False) -> Stages:
    """Return the stages of a run: none under the natural schedule, else as many as copies can be under way and fit.

    probes: whether they record, which takes the dense twins, too.
    """
    copies = [BY_MNEMONIC[name] for name in ("copy", "pull")]
    opcodes = program.code[:, W_OPCODE]
    sources = np.concatenate([program.code[opcodes == row.opcode, row.word("src")] for row in copies])
    if not probes and (seed is None or not len(sources)):
        return Stages(0, 0, views, len(views))
    slots, nbytes = 0, 0
    if seed is not None and len(sources):
        largest = int((views[sources, X_COUNT] * views[sources, X_ITEM]).max())
        nbytes = -(-largest // LINE) * LINE
        slots = min(MOST_COPIES, MOST_BYTES // nbytes)
    twins = views.copy()
    twins[:, V_RING_BYTES] = 0
    stride = twins[:, X_ITEM].copy()
    for d in range(DIMS - 1, -1, -1):
        twins[:, V_STRIDE + d] = stride
        stride *= twins[:, V_SHAPE + d]
    return Stages(slots, nbytes, np.ascontiguousarray(np.concatenate([views, twins])), len(views))
