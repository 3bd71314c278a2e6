"""Totals by source line: what the instructions of each line did, moved and waited for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from accel.errors import Location
from accel.hardware import ChipSpec
from accel.isa.layout import W_LINE
from accel.isa.program import Program, Table
from accel.timing import ledger
from accel.timing import state as s
from accel.timing.prepare import Prepared
from accel.timing.result import LineTotals, Segment
from accel.timing.waits import KINDS, WAITS

__all__ = ["line_totals"]

# The columns of LineTotals that are sums over executions, in the order in which they are computed below.
_COUNTED = (
    "instructions", "issue_cycles", "matrix_cycles", "vector_cycles", "sram_port_cycles", "memory_read_bytes",
    "memory_write_bytes", "mesh_bytes", "sram_bytes",
)  # fmt: skip


def line_totals(
    program: Program, chip: ChipSpec, prepared: Prepared, executed: Table, blocked: Table, path: Iterable[Segment],
    cycles: int,
) -> dict[Location, LineTotals]:  # fmt: skip
    """Return the totals of every line that an executed instruction came from, most critical and most stalled first.

    executed: executions of each code row; blocked: (code rows, kinds), as of `waits.blocked_cycles`.
    """
    rows, costs = prepared.rows, prepared.costs
    kind, copy = rows[:, s.R_CLASS], rows[:, s.R_CLASS] == s.CLASS_COPY
    issue = np.where(copy, chip.node.copy_issue_cycles, chip.node.issue_cycles)
    moved = np.where(copy, rows[:, s.R_BYTES], 0)
    way = rows[:, s.R_COPY]
    accesses = costs[:, ledger.COST_LOADS] + costs[:, ledger.COST_STORES]
    per_row = np.stack([
        np.ones(len(rows), np.int64), issue, np.where(kind == s.CLASS_MATRIX, rows[:, s.R_CYCLES], 0),
        np.where(kind == s.CLASS_VECTOR, rows[:, s.R_CYCLES], 0), rows[:, s.R_PORT],
        np.where(way == s.COPY_READ, moved, 0), np.where(way == s.COPY_WRITE, moved, 0),
        np.where((way == s.COPY_MESH) | (way == s.COPY_PULL), moved, 0), accesses * chip.node.port_bytes,
    ], axis=1) * executed[:, None]  # fmt: skip
    lines = len(program.lines)
    line = program.code[:, W_LINE]
    known = (line >= 0) & (line < lines)
    totals = _summed(line[known], per_row[known], lines)
    stalls = _summed(line[known], blocked[known], lines)
    on_path: dict[Location, int] = {}
    for segment in path:
        if segment.line is not None:
            on_path[segment.line] = on_path.get(segment.line, 0) + segment.end - segment.start
    found = {}
    for index in np.flatnonzero(totals[:, 0]):
        where = program.lines[index]
        waits = {name: int(stalls[index, KINDS.index(name)]) for name in WAITS if stalls[index, KINDS.index(name)]}
        spent = on_path.get(where, 0)
        share = spent / cycles if cycles else 0.0
        counted: Any = dict(zip(_COUNTED, (int(n) for n in totals[index]), strict=True))
        found[where] = LineTotals(**counted, stalls=waits, path_cycles=spent, path_share=share)
    return dict(sorted(found.items(), key=lambda item: (-item[1].path_cycles, -item[1].stalled, item[0])))


def _summed(line: Table, columns: Table, lines: int) -> Table:
    out = np.zeros((lines, columns.shape[1]), np.int64)
    np.add.at(out, line, columns)
    return out
