"""The units of a node: one leaf each for matmul, elementwise rows and reductions, called by address (`links`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accel.isa.layout import W_FIRST, W_OPCODE
from accel.isa.schema import Engine
from accel.isa.table import ROWS, opcode
from accel.jit import types
from accel.machine.inner import inner
from accel.machine.links import link
from accel.machine.matmul import run_matmul
from accel.machine.moves import move
from accel.machine.panels import FAST, SCRATCH
from accel.machine.vector import REDUCTIONS, WORK, run_elementwise, run_reduce

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["ARGUMENTS", "LEAVES", "VIEWS", "call_unit", "leaves_of", "unit_space"]


@inner
def run_bits(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
             work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Move the bits of vec.copy; arguments as for the other leaves."""
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    move(u8, dst, base + value[0], x, base + value[1], nest)


LEAVES = (run_matmul, run_elementwise, run_reduce, run_bits)
# _UNIT[opcode]: which leaf runs the row, -1 for control and copies. VIEWS[opcode]: how many views it reads.
_UNIT = np.full(1 + max(row.opcode for row in ROWS), -1, np.int64)
VIEWS = np.zeros(len(_UNIT), np.int64)
for _row in ROWS:
    if _row.engine in (Engine.MATRIX, Engine.VECTOR):
        _leaf = run_matmul if _row.engine is Engine.MATRIX else run_reduce if _row in REDUCTIONS else run_elementwise
        _UNIT[_row.opcode] = LEAVES.index(_leaf)
        VIEWS[_row.opcode] = len(_row.views) - 1
_UNIT[opcode("vec.copy")] = LEAVES.index(run_bits)

_WORD = types.int64
_LINE, _TABLE = types.Array(_WORD, 1, "C"), types.Array(_WORD, 2, "C")
_CODE = types.Array(_WORD, 2, "C", readonly=True)
_U8, _U16, _U32, _F32 = (types.Array(t, 1, "C") for t in (types.uint8, types.uint16, types.uint32, types.float32))
ARGUMENTS = (_CODE, _WORD, _LINE, _TABLE, _WORD, _U8, _U16, _U32, _F32, _F32, _U32, _TABLE, _LINE, _LINE, _LINE)


def leaves_of(program: Program) -> Any:
    """Return the leaf of every code row as an index of LEAVES, -1 for control and copies; (instructions,) int64."""
    return _UNIT[program.code[:, W_OPCODE]]


def unit_space(fast: bool = False) -> tuple[Any, Any]:
    """Return the float32 work space of every leaf, 64-byte aligned, and its bits.

    fast: whether matmul may use the dot product of bf16 pairs where its guard allows (`fast.fast_path` says so).
    """
    size = max(SCRATCH, WORK)
    room = np.zeros(size + 16, np.float32)
    skip = (-room.ctypes.data % 64) // 4
    work = room[skip : skip + size]
    work.view(np.uint32)[FAST] = fast
    return work, work.view(np.uint32)


call_unit = link(LEAVES, ARGUMENTS)
