"""Evaluation of expressions, predicates and targets: the scalar side of an instruction."""

from __future__ import annotations

from typing import Any

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
)
from accel.machine.inner import inner
from accel.machine.words import S_TRIP

__all__ = ["evaluate", "holds"]


@inner
def evaluate(exprs: Any, expr: int, params: Any, node: int, trips: Any, thread: int) -> int:
    """Return the value of expression `expr` at a node, with the trip counts of a row of the thread table."""
    if expr == 0:
        return 0
    total = 0
    for j in range(exprs[expr, E_NPARAMS]):
        total += exprs[expr, E_PARAMS + 2 * j + 1] * params[node, exprs[expr, E_PARAMS + 2 * j]]
    for j in range(exprs[expr, E_NLOOPS]):
        at = E_LOOPS + EXPR_LOOP_WORDS * j
        term = exprs[expr, at + L_MUL] * trips[thread, S_TRIP + exprs[expr, at + L_DEPTH]] + exprs[expr, at + L_ADD]
        if exprs[expr, at + L_MOD] != 0:
            term %= exprs[expr, at + L_MOD]
        total += exprs[expr, at + L_COEF] * term
    return total


@inner
def holds(preds: Any, pred: int, exprs: Any, params: Any, node: int, trips: Any, thread: int) -> bool:
    """Return whether every term of a predicate holds."""
    for j in range(preds[pred, P_COUNT]):
        at = P_TERMS + 3 * j
        value = preds[pred, at + 1] + evaluate(exprs, preds[pred, at], params, node, trips, thread)
        relation = preds[pred, at + 2]
        if relation == REL_EQ:
            true = value == 0
        elif relation == REL_NE:
            true = value != 0
        elif relation == REL_LT:
            true = value < 0
        else:
            true = value >= 0
        if not true:
            return False
    return True
