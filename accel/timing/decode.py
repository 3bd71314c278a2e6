"""Operands of a code row on one node: expressions of parameters and trip counts, predicates, target rectangles."""

from __future__ import annotations

from accel.isa.layout import (
    E_LOOPS,
    E_NLOOPS,
    E_NPARAMS,
    E_PARAMS,
    EXPR_LOOP_WORDS,
    L_ADD,
    L_COEF,
    L_DEPTH,
    L_MOD,
    L_MUL,
    P_COUNT,
    P_TERMS,
    REL_EQ,
    REL_LT,
    REL_NE,
    T_COL0,
    T_COL1,
    T_ROW0,
    T_ROW1,
    TARGET_ALL,
    TARGET_SELF,
    W_PRED,
)
from accel.jit import njit
from accel.timing.state import K_COLS, K_ROWS, T_TRIP, State, Tables

__all__ = ["evaluate", "holds", "rectangle"]


@njit
def evaluate(tab: Tables, st: State, x: int, node: int, th: int) -> int:
    """Return the value of expression x on a node, in the loops a thread is in."""
    if x == 0:
        return 0
    exprs = tab.exprs
    total = 0
    for j in range(exprs[x, E_NPARAMS]):
        at = E_PARAMS + 2 * j
        total += exprs[x, at + 1] * tab.params[node, exprs[x, at]]
    for j in range(exprs[x, E_NLOOPS]):
        at = E_LOOPS + EXPR_LOOP_WORDS * j
        term = exprs[x, at + L_MUL] * st.threads[th, T_TRIP + exprs[x, at + L_DEPTH]] + exprs[x, at + L_ADD]
        if exprs[x, at + L_MOD] != 0:
            term %= exprs[x, at + L_MOD]
        total += exprs[x, at + L_COEF] * term
    return total


@njit
def holds(tab: Tables, st: State, pc: int, node: int, th: int) -> bool:
    """Return whether the predicate of a code row holds."""
    p = tab.code[pc, W_PRED]
    if p == 0:
        return True
    for j in range(tab.preds[p, P_COUNT]):
        at = P_TERMS + 3 * j
        value = evaluate(tab, st, tab.preds[p, at], node, th) + tab.preds[p, at + 1]
        relation = tab.preds[p, at + 2]
        if relation == REL_EQ:
            ok = value == 0
        elif relation == REL_NE:
            ok = value != 0
        elif relation == REL_LT:
            ok = value < 0
        else:
            ok = value >= 0
        if not ok:
            return False
    return True


@njit
def rectangle(tab: Tables, st: State, target: int, node: int, th: int) -> tuple[int, int, int, int]:
    """Return (first row, last row, first col, last col) of a target; first row -1 if it leaves the mesh."""
    rows, cols = tab.config[K_ROWS], tab.config[K_COLS]
    if target == TARGET_SELF:
        row = node // cols
        return row, row, node - row * cols, node - row * cols
    if target == TARGET_ALL:
        return 0, rows - 1, 0, cols - 1
    t = tab.targets
    r0 = t[target, T_ROW0] + evaluate(tab, st, t[target, T_ROW0 + 1], node, th)
    r1 = t[target, T_ROW1] + evaluate(tab, st, t[target, T_ROW1 + 1], node, th)
    c0 = t[target, T_COL0] + evaluate(tab, st, t[target, T_COL0 + 1], node, th)
    c1 = t[target, T_COL1] + evaluate(tab, st, t[target, T_COL1 + 1], node, th)
    if r0 < 0 or c0 < 0 or r1 < r0 or c1 < c0 or r1 >= rows or c1 >= cols:
        return -1, -1, -1, -1
    return r0, r1, c0, c1
