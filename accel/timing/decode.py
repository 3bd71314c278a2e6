"""Operands of a code row on one node: expressions of parameters and trip counts, predicates, target rectangles."""

from __future__ import annotations

from accel.isa.layout import (
    CODE_WORDS,
    E_LOOPS,
    E_NLOOPS,
    E_NPARAMS,
    E_PARAMS,
    EXPR_LOOP_WORDS,
    EXPR_WORDS,
    L_ADD,
    L_COEF,
    L_DEPTH,
    L_MOD,
    L_MUL,
    P_COUNT,
    P_TERMS,
    PRED_WORDS,
    REL_EQ,
    REL_LT,
    REL_NE,
    T_COL0,
    T_COL1,
    T_ROW0,
    T_ROW1,
    TARGET_ALL,
    TARGET_SELF,
    TARGET_WORDS,
    W_PRED,
)
from accel.timing.compiled import njit
from accel.timing.state import (
    DONE,
    K_COLS,
    K_ROWS,
    N_COL,
    N_INDEX,
    N_PARAMS,
    N_ROW,
    O_CODE,
    O_EXPRS,
    O_PREDS,
    O_TARGETS,
    S_ERROR,
    S_ERROR_NODE,
    S_ERROR_VALUE,
    S_STATUS,
    T_NODE,
    T_PC,
    T_TRIP,
    Words,
)

__all__ = ["fail", "holds", "operand", "rectangle"]


@njit
def fail(m: Words, status: int, th: int, value: int) -> None:
    """Stop the run at a thread's present row with an error; the first one counts."""
    if m[S_STATUS] == DONE:
        m[S_STATUS] = status
        m[S_ERROR] = m[th + T_PC]
        m[S_ERROR_NODE] = m[m[th + T_NODE] + N_INDEX]
        m[S_ERROR_VALUE] = value


@njit
def evaluate(m: Words, x: int, th: int) -> int:
    """Return the value of expression x for a thread: its node's parameters, the loops it is in."""
    if x == 0:
        return 0
    at = m[O_EXPRS] + x * EXPR_WORDS
    params = m[m[th + T_NODE] + N_PARAMS]
    total = 0
    for j in range(m[at + E_NPARAMS]):
        total += m[at + E_PARAMS + 2 * j + 1] * m[params + m[at + E_PARAMS + 2 * j]]
    for j in range(m[at + E_NLOOPS]):
        y = at + E_LOOPS + EXPR_LOOP_WORDS * j
        term = m[y + L_MUL] * m[th + T_TRIP + m[y + L_DEPTH]] + m[y + L_ADD]
        if m[y + L_MOD] != 0:
            term %= m[y + L_MOD]
        total += m[y + L_COEF] * term
    return total


@njit
def operand(m: Words, at: int, th: int) -> int:
    """Return the value of the (constant, expression) pair at address `at`."""
    return m[at] + evaluate(m, m[at + 1], th)


@njit
def holds(m: Words, pc: int, th: int) -> bool:
    """Return whether the predicate of a code row holds."""
    p = m[m[O_CODE] + pc * CODE_WORDS + W_PRED]
    if p == 0:
        return True
    at = m[O_PREDS] + p * PRED_WORDS
    for j in range(m[at + P_COUNT]):
        term = at + P_TERMS + 3 * j
        x = evaluate(m, m[term], th) + m[term + 1]
        relation = m[term + 2]
        if relation == REL_EQ:
            ok = x == 0
        elif relation == REL_NE:
            ok = x != 0
        elif relation == REL_LT:
            ok = x < 0
        else:
            ok = x >= 0
        if not ok:
            return False
    return True


@njit
def rectangle(m: Words, target: int, th: int) -> tuple[int, int, int, int]:
    """Return (first row, last row, first col, last col) of a target; first row -1 if it leaves the mesh."""
    node = m[th + T_NODE]
    if target == TARGET_SELF:
        return m[node + N_ROW], m[node + N_ROW], m[node + N_COL], m[node + N_COL]
    if target == TARGET_ALL:
        return 0, m[K_ROWS] - 1, 0, m[K_COLS] - 1
    at = m[O_TARGETS] + target * TARGET_WORDS
    r0, r1 = operand(m, at + T_ROW0, th), operand(m, at + T_ROW1, th)
    c0, c1 = operand(m, at + T_COL0, th), operand(m, at + T_COL1, th)
    if r0 < 0 or c0 < 0 or r1 < r0 or c1 < c0 or r1 >= m[K_ROWS] or c1 >= m[K_COLS]:
        return -1, -1, -1, -1
    return r0, r1, c0, c1
