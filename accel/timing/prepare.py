"""Program and chip checked and priced: geometry, formats, views, one cost a code row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.isa.layout import SPACE_MEMORY, SPACE_SRAM, V_DTYPE, V_SHAPE, V_SPACE, W_OPCODE
from accel.isa.program import Program, Table
from accel.isa.table import BY_MNEMONIC, opcode
from accel.numerics.formats import by_code
from accel.timing import ledger
from accel.timing import state as s
from accel.timing.costs import Cost, row_cost

__all__ = ["Prepared", "prepare"]

_CLASS = {
    "wait": s.CLASS_WAIT, "inc": s.CLASS_INC, "barrier": s.CLASS_BARRIER, "loop": s.CLASS_LOOP, "end": s.CLASS_END,
    "mark": s.CLASS_MARK, "probe": s.CLASS_MARK, "copy": s.CLASS_COPY, "pull": s.CLASS_COPY,
}  # fmt: skip
_BY_OPCODE = {opcode(name): kind for name, kind in _CLASS.items()}
_COPY, _PULL = BY_MNEMONIC["copy"], opcode("pull")


class Prepared(NamedTuple):
    """What the engine needs of each code row, and what the ledger and the energy are counted with.

    rows: (code rows, ROW_WORDS); costs: (code rows, COST_WORDS); parts: parts of a cycle in which COST_USEFUL counts;
    engine: the log kind whose unit is accounted.
    """

    rows: Table
    costs: Table
    parts: int
    engine: int


def prepare(program: Program, chip: ChipSpec, pace: Mapping[str, float] | None = None) -> Prepared:
    """Return the priced rows of a program; errors name what the chip or this model does not take.

    pace: by unit ("matrix", "vector"), how many times as fast it computes; for cycles only, the ledger knows nothing of
    it.
    """
    program.require_sound()
    mesh = chip.mesh
    if program.rows > mesh.rows or program.cols > mesh.cols:
        raise InputError(
            f"Cannot time {program.name!r} on {chip.name!r}: it was built for {program.rows} x {program.cols} nodes "
            f"and the chip has {mesh.rows} x {mesh.cols}; build it for this chip"
        )
    if program.threads > chip.node.threads:
        raise InputError(
            f"Cannot time {program.name!r} on {chip.name!r}: it uses {program.threads} threads a node and the chip has "
            f"{chip.node.threads}; build it for this chip"
        )
    costs = [row_cost(chip, program.views, row) for row in program.code]
    if pace:
        costs = [cost and _paced(cost, pace.get("matrix" if cost.accumulator else "vector", 1.0)) for cost in costs]
    matrix = any(c is not None and c.accumulator for c in costs)
    parts = math.lcm(1, *(c.peak_numerator for c in costs if c is not None))
    rows = np.zeros((len(costs), s.ROW_WORDS), np.int64)
    table = np.zeros((len(costs), ledger.COST_WORDS), np.int64)
    for i, (row, cost) in enumerate(zip(program.code, costs, strict=True)):
        _fill_row(program, row, cost, rows[i], table[i], parts)
    return Prepared(rows, table, parts, s.LOG_MATRIX if matrix else s.LOG_VECTOR)


def _paced(cost: Cost, pace: float) -> Cost:
    compute = math.ceil(cost.compute / pace)
    return cost._replace(compute=compute, cycles=cost.cycles - cost.compute + compute)


def _fill_row(program: Program, row: Table, cost: Cost | None, out: Table, table: Table, parts: int) -> None:
    if cost is not None:
        out[s.R_CLASS] = s.CLASS_MATRIX if cost.accumulator else s.CLASS_VECTOR
        out[s.R_CYCLES], out[s.R_PORT] = cost.cycles, cost.port
        useful = cost.flops * parts * cost.peak_denominator // cost.peak_numerator
        table[:] = (
            cost.cycles, cost.compute, cost.accumulator, cost.fill, useful, cost.flops, cost.loads, cost.stores
        )  # fmt: skip
        return
    out[s.R_CLASS] = _BY_OPCODE[int(row[W_OPCODE])]
    if out[s.R_CLASS] == s.CLASS_COPY:
        dst, src = (program.views[int(row[_COPY.word(name)])] for name in ("dst", "src"))  # the same words in a pull
        ways = {(SPACE_SRAM, SPACE_MEMORY): s.COPY_READ, (SPACE_SRAM, SPACE_SRAM): s.COPY_MESH,
                (SPACE_MEMORY, SPACE_SRAM): s.COPY_WRITE}  # fmt: skip
        way = ways.get((int(dst[V_SPACE]), int(src[V_SPACE])))
        if way is None:
            raise UnsupportedError("Cannot time a copy from memory to memory; copy through SRAM")
        out[s.R_COPY] = s.COPY_PULL if int(row[W_OPCODE]) == _PULL else way
        out[s.R_BYTES] = math.prod(int(n) for n in src[V_SHAPE : V_SHAPE + 4]) * by_code(int(src[V_DTYPE])).bits // 8
