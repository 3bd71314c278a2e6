"""The units of a node: one leaf for each kind of matmul and vector row, called by address (`links`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InternalError
from accel.isa.layout import V_DTYPE, W_FIRST, W_OPCODE
from accel.isa.schema import Engine
from accel.isa.table import BY_MNEMONIC, BY_OPCODE, ROWS
from accel.jit import types
from accel.machine.bits import run_bits, run_gather, run_scatter_add, run_transpose
from accel.machine.casts import run_cast, run_cast_sr, run_generate
from accel.machine.codes import AT_LEAVES
from accel.machine.functions import FUNCTIONS, run_function
from accel.machine.integers import INTEGER, run_integer, run_integer_reduce
from accel.machine.links import link
from accel.machine.masks import run_compare, run_select
from accel.machine.matmul import run_integer_matmul, run_matmul
from accel.machine.panels import FAST, SCRATCH
from accel.machine.rings import ring_rows
from accel.machine.vector import ELEMENTWISE, REDUCTIONS, WORK, run_elementwise, run_reduce
from accel.numerics.formats import FORMATS

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["ARGUMENTS", "AT_RINGS", "LEAVES", "RINGS_ARGUMENTS", "VIEWS", "call_rings", "call_unit", "leaves_of",
           "unit_space", "uses_codes"]  # fmt: skip

LEAVES: tuple[Any, ...] = (
    run_matmul, run_elementwise, run_reduce, run_bits, run_integer, run_integer_reduce, run_cast, run_cast_sr,
    run_generate, run_compare, run_select, run_transpose, run_gather, run_scatter_add,
    run_integer_matmul, run_function,
)  # fmt: skip
_NAMED: dict[str, Callable[..., Any]] = {
    "vec.copy": run_bits, "vec.cast_sr": run_cast_sr, "vec.compare": run_compare, "vec.comparei": run_compare,
    "vec.select": run_select, "vec.transpose": run_transpose, "vec.iota": run_generate, "vec.random": run_generate,
    "vec.gather": run_gather, "vec.scatter_add": run_scatter_add,
}  # fmt: skip
_OPCODES = 1 + max(row.opcode for row in ROWS)
# _UNIT[opcode, k]: which leaf runs the row, -1 for control and copies; k = 1 where dst is an integer format.
# VIEWS[opcode]: how many views the row reads beside its first, which matmul and vector rows write.
_UNIT = np.full((_OPCODES, 2), -1, np.int64)
VIEWS = np.zeros(_OPCODES, np.int64)
for _row in ROWS:
    if _row.engine not in (Engine.MATRIX, Engine.VECTOR):
        continue
    _kinds: tuple[Any, Any]
    if _row.engine is Engine.MATRIX:
        _kinds = (run_matmul, run_integer_matmul)
    elif _row.mnemonic in _NAMED:
        _kinds = (_NAMED[_row.mnemonic],) * 2
    elif _row in REDUCTIONS:
        _kinds = (run_reduce, run_integer_reduce)
    elif _row in FUNCTIONS:
        _kinds = (run_function,) * 2
    elif _row in ELEMENTWISE:
        _kinds = (run_elementwise, run_integer if _row in INTEGER else run_elementwise)
    else:
        raise InternalError(f"no leaf of the executor runs {_row.mnemonic}")
    _UNIT[_row.opcode] = [LEAVES.index(leaf) for leaf in _kinds]
    VIEWS[_row.opcode] = len(_row.views) - 1

_WORD = types.int64
_LINE, _TABLE = types.Array(_WORD, 1, "C"), types.Array(_WORD, 2, "C")
_CODE = types.Array(_WORD, 2, "C", readonly=True)
_U8, _U16, _U32, _F32 = (types.Array(t, 1, "C") for t in (types.uint8, types.uint16, types.uint32, types.float32))
ARGUMENTS = (_CODE, _WORD, _LINE, _TABLE, _WORD, _U8, _U16, _U32, _F32, _F32, _U32, _TABLE, _LINE, _LINE, _LINE)
RINGS_ARGUMENTS = (_CODE, _WORD, _LINE, _TABLE, _WORD, _U8, _LINE, _WORD, _WORD)
AT_RINGS = AT_LEAVES + len(LEAVES)
_COMPUTE = [LEAVES.index(leaf) for leaf in LEAVES if leaf not in (run_bits, run_select, run_transpose, run_gather)]
_IS_INTEGER = np.zeros(1 + max(row.code for row in FORMATS.values()), bool)
_IS_INTEGER[[row.code for row in FORMATS.values() if row.kind == "int"]] = True


def leaves_of(program: Program) -> Any:
    """Return the leaf of every code row as an index of LEAVES, -1 for control and copies; (instructions,) int64."""
    code = program.code
    leaves = _UNIT[code[:, W_OPCODE], 0]
    rows = np.flatnonzero(leaves >= 0)
    integer = _IS_INTEGER[program.views[:, V_DTYPE]]
    whole = integer[code[rows, W_FIRST]]
    leaves[rows[whole]] = _UNIT[code[rows[whole], W_OPCODE], 1]
    cast = BY_MNEMONIC["vec.cast"]
    casts = rows[code[rows, W_OPCODE] == cast.opcode]
    mixed = integer[code[casts][:, [cast.word("dst"), cast.word("x")]]].any(axis=1)
    leaves[casts[mixed]] = LEAVES.index(run_cast)
    return leaves


def uses_codes(program: Program, leaves: Any) -> bool:
    """Return whether a row computes with numbers of a float format other than fp32 and bf16."""
    other = ~_IS_INTEGER
    other[[FORMATS[name].code for name in ("fp32", "bf16")]] = False
    other = other[program.views[:, V_DTYPE]]
    if not other.any():
        return False
    for number in np.unique(program.code[np.isin(leaves, _COMPUTE), W_OPCODE]).tolist():
        row = BY_OPCODE[number]
        rows = program.code[program.code[:, W_OPCODE] == number]
        if any(other[rows[:, row.word(o.name)]].any() for o in row.views):
            return True
    return False


def unit_space(fast: bool = False, sums: int = 0) -> tuple[Any, Any]:
    """Return the float32 work space of every leaf, 64-byte aligned, and its bits.

    fast: whether matmul may use the dot product of bf16 pairs where its guard allows (`fast.fast_path` says so).
    sums: words for fp32 sums on their way to a result of 16 bits (`narrow.sums_words`).
    """
    size = max(SCRATCH + sums, WORK)
    room = np.zeros(size + 16, np.float32)
    skip = (-room.ctypes.data % 64) // 4
    work = room[skip : skip + size]
    work.view(np.uint32)[FAST] = fast
    return work, work.view(np.uint32)


call_unit = link(LEAVES, ARGUMENTS)
call_rings = link((ring_rows,), RINGS_ARGUMENTS)
