"""Which formats the executor computes in: other programs are timed and checked, and refused here by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from accel.errors import UnsupportedError
from accel.isa import layout as w
from accel.isa.fitting import location
from accel.isa.table import BY_OPCODE
from accel.numerics.formats import by_code

if TYPE_CHECKING:
    from accel.isa.program import Program, Table

__all__ = ["executable_views"]

MOVES = ("copy", "vec.copy")  # bits move untouched in any format
ARITHMETIC = {"fp32", "bf16"}
NO_LEAF = frozenset({
    "pull", "probe", "vec.cast_sr", "vec.compare", "vec.comparei", "vec.select", "vec.transpose", "vec.iota",
    "vec.random", "vec.gather", "vec.scatter_add",
})  # fmt: skip


def executable_views(program: Program) -> Table:
    """Return the extended view table of a program that the executor can follow.

    ProgramError for one that breaks the machine's rules, UnsupportedError for formats that are not executed.
    """
    views = program.extended_views
    if program.views[:, w.V_RING_BYTES].any():
        raise UnsupportedError(f"Cannot run {program.name!r}: it uses a ring; use a plain buffer")
    formats = np.array([by_code(int(code)).name for code in program.views[:, w.V_DTYPE]], dtype=object)
    for number in np.unique(program.code[:, w.W_OPCODE]).tolist():
        row = BY_OPCODE[number]
        if row.mnemonic in NO_LEAF:
            raise UnsupportedError(f"Cannot run {program.name!r}: {row.mnemonic} is not executed; leave it out")
        if not row.views or row.mnemonic in MOVES:
            continue
        rows = np.flatnonzero(program.code[:, w.W_OPCODE] == number)
        words = np.array([row.word(o.name) for o in row.views])
        used = formats[program.code[rows[:, None], words]]
        if row.mnemonic == "matmul":
            wrong = (used != np.array(["fp32", "bf16", "bf16"])).any(axis=1)
        else:
            wrong = ~np.isin(used, list(ARITHMETIC)).all(axis=1)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            way = "bf16 into fp32" if row.mnemonic == "matmul" else "fp32 or bf16"
            raise UnsupportedError(
                f"{row.mnemonic} on {', '.join(used[first])} is not executed; use {way}",
                at=location(program, int(rows[first])),
            )
    return views
