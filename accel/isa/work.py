"""How many instructions a program can execute at most; one that would run for days is refused before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accel.isa import layout as w
from accel.isa.table import BY_MNEMONIC

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["MOST_INSTRUCTIONS", "most_instructions"]

MOST_INSTRUCTIONS = 1 << 40  # over all nodes: hours at the fastest rate of any engine
LOOP, END = BY_MNEMONIC["loop"].opcode, BY_MNEMONIC["end"].opcode
TRIPS = BY_MNEMONIC["loop"].word("trips")


def _most(program: Program, expr: int, trips: list[float]) -> float:
    """Return an upper bound of an expression over all nodes, inside loops of at most `trips` trips."""
    row, most = program.exprs[expr], 0.0
    for j in range(int(row[w.E_NPARAMS])):
        column, coef = (int(v) for v in row[w.E_PARAMS + 2 * j : w.E_PARAMS + 2 * j + 2])
        most += float((program.params[:, column].astype(float) * coef).max())
    for j in range(int(row[w.E_NLOOPS])):
        at = w.E_LOOPS + w.EXPR_LOOP_WORDS * j
        depth, coef, mul, add, mod = (int(v) for v in row[at : at + w.EXPR_LOOP_WORDS])
        last = (trips[depth] if depth < len(trips) else 1.0) - 1
        ends = (0.0, mod - 1.0) if mod else (float(add), mul * last + add)
        most += max(coef * end for end in ends)
    return most


def most_instructions(program: Program) -> tuple[float, int]:
    """Return an upper bound of the instructions that all nodes execute, and the loop row that causes most of them.

    The tables must be sound: loops nest, expressions exist. The row is -1 where there is no loop.
    """
    nodes = np.bincount(program.role_of[program.role_of >= 0], minlength=program.roles)
    total, worst, cause = 0.0, 0.0, -1
    for role in range(program.roles):
        for begin, end in program.spans[role].tolist():
            trips: list[float] = []
            opened: list[int] = []
            executed, weight, last = 0.0, float(nodes[role]), begin
            for at in (begin + np.flatnonzero(np.isin(program.code[begin:end, w.W_OPCODE], (LOOP, END)))).tolist():
                executed += weight * (at + 1 - last)
                last = at + 1
                if program.code[at, w.W_OPCODE] == LOOP:
                    row = program.code[at]
                    trips.append(max(0.0, int(row[TRIPS]) + _most(program, int(row[TRIPS + 1]), trips)))
                    opened.append(at)
                else:
                    trips.pop()
                    if weight > worst:
                        worst, cause = weight, opened[-1]
                    opened.pop()
                weight = float(nodes[role]) * float(np.prod(trips))
            total += executed + weight * (end - last)
    return total, cause
