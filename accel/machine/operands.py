"""Operands of a row, decoded as the instruction table says and checked: addresses, semaphores, counts, rectangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.layout import CODE_WORDS, T_COL0, T_COL1, T_ROW0, TARGET_ALL, TARGET_SELF, V_RING_BYTES, W_OPCODE
from accel.isa.schema import Kind
from accel.isa.table import BY_MNEMONIC, ROWS
from accel.machine import words as s
from accel.machine.addresses import evaluate
from accel.machine.inner import inner
from accel.machine.raw import peek, poke
from accel.machine.rings import around

__all__ = ["MOST", "decode", "outside", "place", "rectangle"]

VIEW, SEM, VALUE, PLACE = int(Kind.VIEW), int(Kind.SEM), int(Kind.VALUE), int(Kind.INDEX)
MOST = max(len(row.operands) for row in ROWS)
# PLAN_WORDS a row of the table: how many operands, then kind and first word of each.
PLAN_WORDS = 1 + 2 * MOST
_plan = np.zeros((1 + max(row.opcode for row in ROWS), PLAN_WORDS), np.int64)
for _row in ROWS:
    _plan[_row.opcode, 0] = len(_row.operands)
    for _j, _operand in enumerate(_row.operands):
        _plan[_row.opcode, 1 + 2 * _j : 3 + 2 * _j] = int(_operand.kind), _row.word(_operand.name)
PLAN = _plan.ravel()
# The only rows whose semaphores may be -1, none.
OP_COPY, OP_PULL = BY_MNEMONIC["copy"].opcode, BY_MNEMONIC["pull"].opcode


def place(mnemonic: str, operand: str) -> int:
    """Return which operand of an instruction, counted from 0, has this name."""
    return [o.name for o in BY_MNEMONIC[mnemonic].operands].index(operand)


@inner
def outside(views: Any, view: int, address: int, error: Any) -> bool:
    """Return whether a view at a byte address leaves the object it names, and note which rule it broke."""
    # Compared without adding to `address`, which may be any 64-bit number in a hand-made program.
    row = view * s.VX_WORDS
    first = peek(views, row + s.X_BEGIN) - peek(views, row + s.X_LOW)
    last = peek(views, row + s.X_END) - peek(views, row + s.X_HIGH)
    if address < first or address > last:
        error[0] = s.BOUNDS
    elif address & (peek(views, row + s.X_ITEM) - 1) != 0:  # sizes of elements are powers of two
        error[0] = s.ALIGNMENT
    else:
        return False
    error[s.F_A], error[s.F_B] = view, address
    return True


@inner
def decode(code: Any, pc: int, views: Any, exprs: Any, params: Any, node: int, threads: Any, thread: int, sems: int,
           value: Any, error: Any) -> bool:  # fmt: skip
    """Write the operands of a row to `value` and return True; False (and a note in `error`) where one breaks a rule.

    A view becomes its byte address (in a ring that of `rings.around`), a semaphore its index (-1 = none), a value its
    number, an index that of its first element, other words themselves.
    """
    row = pc * CODE_WORDS
    op = peek(code, row + W_OPCODE)
    plan = op * PLAN_WORDS
    for j in range(peek(PLAN, plan)):
        kind, at = peek(PLAN, plan + 1 + 2 * j), row + peek(PLAN, plan + 2 + 2 * j)
        if kind > VALUE and kind != PLACE:
            poke(value, j, peek(code, at))
            continue
        if kind == VIEW:
            at += 1  # the view itself comes first
        number = peek(code, at)
        if kind == SEM and number == -1 and op in (OP_COPY, OP_PULL):
            poke(value, j, number)
            continue
        expr = peek(code, at + 1)
        if expr != 0:
            number += evaluate(exprs, expr, params, node, threads, thread)
        poke(value, j, number)
        if kind == VIEW:
            view = peek(code, at - 1)
            if outside(views, view, number, error):
                if peek(views, view * s.VX_WORDS + V_RING_BYTES) == 0:
                    return False
                error[0] = s.OK
                poke(value, j, around(views, view, number, error))
                if error[0] != s.OK:
                    return False
        elif kind == SEM:
            if number < 0 or number >= sems:
                error[0], error[s.F_A] = s.SEMAPHORE, number
                return False
        elif kind == VALUE and number < 0:
            error[0], error[s.F_A] = s.COUNT, number
            return False
    return True


@inner
def rectangle(targets: Any, target: int, exprs: Any, params: Any, node: int, threads: Any, thread: int, config: Any,
              rect: Any, error: Any) -> bool:  # fmt: skip
    """Write a target's inclusive (row, row, column, column) to `rect`; False (and a note) where it leaves the mesh."""
    rows, cols = config[s.C_ROWS], config[s.C_COLS]
    if target == TARGET_SELF:
        rect[0] = rect[1] = node // cols
        rect[2] = rect[3] = node % cols
    elif target == TARGET_ALL:
        rect[0], rect[1], rect[2], rect[3] = 0, rows - 1, 0, cols - 1
    else:
        for i in range(4):  # T_ROW0, T_ROW1, T_COL0, T_COL1 follow each other in pairs
            at = T_ROW0 + 2 * i
            rect[i] = targets[target, at] + evaluate(exprs, targets[target, at + 1], params, node, threads, thread)
        if not (0 <= rect[0] <= rect[1] < rows and 0 <= rect[2] <= rect[3] < cols):
            error[0] = s.TARGET
            return False
    return True


if (T_ROW0, T_COL0, T_COL1) != (0, 4, 6):
    raise AssertionError("rectangle() reads the four words of a target in order")
