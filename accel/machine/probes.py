"""What probes record: the bits of a view each time control passes it, kept in a log that the executor empties."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.isa import layout as w
from accel.isa.table import opcode
from accel.machine import words as s
from accel.machine.codes import bias_of
from accel.machine.inner import inner
from accel.machine.moves import move
from accel.machine.rings import straight, wraps
from accel.numerics import from_storage
from accel.numerics.formats import by_code, fmt

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["LOG_ROWS", "Record", "log_bytes", "record", "records"]

OP_PROBE = opcode("probe")
LOG_ROWS = 4096
LEAST_BYTES = 4 << 20  # of the log, so that it is not emptied after every few records


class Record(NamedTuple):
    """One visit of a probe: node index, index of its name in `Program.marks`, codes, format, and bias word."""

    node: int
    name: int
    codes: Any
    dtype: str
    bias: int

    def values(self) -> Any:
        """Return the numbers, as `Program.run` returns outputs of this format."""
        configurable = fmt(self.dtype).kind == "cfp"
        more: Any = {"bias": self.bias & ~w.BIAS_IEEE} if configurable else {}
        if self.bias & w.BIAS_IEEE:
            more["denormals"] = "ieee"
        return from_storage(self.codes, self.dtype, as_="ml_dtypes", **more)


@inner
def record(code: Any, pc: int, value: Any, views: Any, base: int, node: int, u8: Any, config: Any, log: Any,
           nest: Any) -> None:  # fmt: skip
    """Copy the bits of a probe's view to the log; without room only say so in config[C_FULL]."""
    view = code[pc, w.W_FIRST]
    row, at = config[s.C_LOG], config[s.C_LOG_BYTE]
    size = views[view, s.X_COUNT] * views[view, s.X_ITEM]
    if row == log.shape[0] or at + size > config[s.C_LOG_END]:
        config[s.C_FULL] = 1
        return
    source = base + value[0]
    if wraps(views, view, value[0]):
        source = straight(views, view, value[0], base, u8, config, s.ZERO)
    move(u8, views[view + config[s.C_VIEWS]], at, views[view], source, nest)
    log[row, s.L_NODE], log[row, s.L_NAME], log[row, s.L_VIEW] = node, value[1], view
    log[row, s.L_BIAS], log[row, s.L_BYTE] = bias_of(views, view, base, u8), at
    config[s.C_LOG], config[s.C_LOG_BYTE] = row + 1, at + (size + 3) // 4 * 4


def log_bytes(program: Program, views: Any) -> int:
    """Return how many bytes the log needs so that every probe of a program fits; 0 where it has none."""
    rows = program.code[program.code[:, w.W_OPCODE] == OP_PROBE]
    if not len(rows):
        return 0
    probed = views[rows[:, w.W_FIRST]]
    return max(LEAST_BYTES, int((probed[:, s.X_COUNT] * probed[:, s.X_ITEM]).max()))


def records(program: Program, log: Any, count: int, u8: Any) -> list[Record]:
    """Return the first `count` rows of the log with copies of their codes, in the shapes of their views."""
    found = []
    for row in log[:count].tolist():
        view = program.views[row[s.L_VIEW]]
        form = by_code(int(view[w.V_DTYPE]))
        shape = [int(n) for n in view[w.V_SHAPE : w.V_SHAPE + w.DIMS]]
        first, size = row[s.L_BYTE], form.bytes * math.prod(shape)
        while shape and shape[0] == 1 and len(shape) > view[w.V_NDIM]:
            del shape[0]
        codes = u8[first : first + size].view(form.storage).reshape(shape).copy()
        found.append(Record(row[s.L_NODE], row[s.L_NAME], codes, form.name, row[s.L_BIAS]))
    return found
