"""What a program file may hold besides sound tables: unused words are 0, names are one line, numbers fit 64 bits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from accel.errors import ProgramError
from accel.isa import layout as w
from accel.isa.schema import WORDS_OF
from accel.isa.table import BY_OPCODE

if TYPE_CHECKING:
    from accel.isa.program import Program, Table

__all__ = ["require_spellable"]

BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # what would break a line of a message, or drive a terminal
MOST = (1 << 63) - 1


def require_spellable(program: Program) -> None:
    """Raise ProgramError unless unused words are 0, row 0 of a table is what it stands for, and names fit threads.

    The tables must be sound otherwise: counts and indices in range.
    """
    for number in np.unique(program.code[:, w.W_OPCODE]).tolist():
        used = w.W_FIRST + sum(WORDS_OF[o.kind] for o in BY_OPCODE[number].operands)
        _zero(program, "code", program.code[program.code[:, w.W_OPCODE] == number][:, used:])
    exprs, preds = program.exprs, program.preds
    for j in range(w.EXPR_PARAMS):
        at = w.E_PARAMS + 2 * j
        _zero(program, "exprs", exprs[exprs[:, w.E_NPARAMS] <= j][:, at : at + 2])
    for j in range(w.EXPR_LOOPS):
        at = w.E_LOOPS + w.EXPR_LOOP_WORDS * j
        _zero(program, "exprs", exprs[exprs[:, w.E_NLOOPS] <= j][:, at : at + w.EXPR_LOOP_WORDS])
    for j in range(w.PRED_TERMS):
        at = w.P_TERMS + 3 * j
        _zero(program, "preds", preds[preds[:, w.P_COUNT] <= j][:, at : at + 3])
    _zero(program, "exprs", exprs[0])
    _zero(program, "preds", preds[0])
    ndim = program.views[:, w.V_NDIM]
    if ndim.size and not ((ndim >= 0) & (ndim <= w.DIMS)).all():
        raise ProgramError(f"Cannot use {program.name!r}: a view has no 0 to {w.DIMS} dimensions; rebuild the program")
    if any(len(names) > program.threads for names in program.thread_names):
        raise ProgramError(
            f"Cannot use {program.name!r}: a role names more than its {program.threads} threads; rebuild the program"
        )
    located = list(program.lines)
    located += [b.line for b in program.buffers if b.line is not None]
    located += [s.line for s in program.semaphores if s.line is not None]
    named = [program.name, *(b.name for b in program.buffers), *(t.name for t in program.tensors)]
    named += [
        *(s.name for s in program.semaphores),
        *program.marks,
        *(name for names in program.thread_names for name in names),
    ]
    named += [place.file for place in located]
    bad = next((name for name in named if BREAKS.search(name)), None)
    if bad is not None:
        raise ProgramError(
            f"Cannot use {program.name!r}: the name {bad!r} holds a control character; rename it and build again"
        )
    wrong = [number for _, number in located if not 0 <= number <= MOST]
    if wrong:
        raise ProgramError(
            f"Cannot use {program.name!r}: it names source line {wrong[0]}; lines are 0 to {MOST}, rebuild the program"
        )
    if program.flops > MOST or any(not 0 <= s.init <= MOST for s in program.semaphores):
        raise ProgramError(f"Cannot use {program.name!r}: its flops or first counts are out of range; rebuild it")
    last = max(1, len(program.lines))
    lines = program.shards[:, w.H_LINE]
    if lines.size and not ((lines >= 0) & (lines < last)).all():
        raise ProgramError(f"Cannot use {program.name!r}: a shard names a line beyond {last}; rebuild the program")


def _zero(program: Program, name: str, words: Table) -> None:
    if words.any():
        raise ProgramError(
            f"Cannot use {program.name!r}: table {name!r} holds {int(words[words != 0].flat[0])} in a word that must "
            "be 0; rebuild the program"
        )
