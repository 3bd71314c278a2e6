"""The loops of an elementwise row: dimensions of its operands merged where they run together, and walked in pieces."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import DIMS, V_DTYPE, V_SHAPE, V_STRIDE, W_FIRST
from accel.machine.codes import bias_of
from accel.machine.inner import inner

__all__ = ["BIASES", "FORMATS", "PIECE", "SIZES", "STRIDES", "lay_out", "offset", "outer_runs"]

PIECE = 1024  # elements decoded at a time: four pieces of fp32 stay in a first-level cache
# Rows of the work space of `moves.nest_space`: sizes, strides of dst (STRIDES) and of what is read, formats, biases.
SIZES, STRIDES, FORMATS, BIASES = 0, 1, 6, 7


@inner
def lay_out(code: Any, pc: int, views: Any, base: int, u8: Any, reads: int, index: int, nest: Any) -> Any:
    """Write sizes, strides, formats and biases of dst and `reads` operands to `nest`; return how many loops are left.

    index: word of the first stride of an index operand, which counts as one operand more; 0 where the row has none.
    Ones are dropped, runs common to all operands merged; one loop at least is left.
    """
    n = 0
    for d in range(DIMS):
        size = views[code[pc, W_FIRST], V_SHAPE + d]
        if size == 1:
            continue
        run = n > 0
        for j in range(reads + 1):
            stride = views[code[pc, W_FIRST + 3 * j], V_STRIDE + d]
            run = run and nest[STRIDES + j, n - 1] == stride * size
        if index:
            run = run and nest[STRIDES + reads + 1, n - 1] == code[pc, index + d] * size
        if run:
            nest[SIZES, n - 1] *= size
        else:
            nest[SIZES, n] = size
            n += 1
        for j in range(reads + 1):
            nest[STRIDES + j, n - 1] = views[code[pc, W_FIRST + 3 * j], V_STRIDE + d]
        if index:
            nest[STRIDES + reads + 1, n - 1] = code[pc, index + d]
    if n == 0:
        nest[SIZES, 0] = 1
        for j in range(reads + 2):
            nest[STRIDES + j, 0] = 0
        n = 1
    for j in range(reads + 1):
        view = code[pc, W_FIRST + 3 * j]
        nest[FORMATS, j], nest[BIASES, j] = views[view, V_DTYPE], bias_of(views, view, base, u8)
    return n


@inner
def outer_runs(nest: Any, n: int) -> Any:
    """Return how often the innermost of n loops runs."""
    outer = 1
    for d in range(n - 1):
        outer *= nest[SIZES, d]
    return outer


@inner
def offset(nest: Any, n: int, operand: int, flat: int) -> Any:
    """Return how far from its first element an operand's run number `flat` of the innermost of n loops begins."""
    at, rest = 0, flat
    for d in range(n - 2, -1, -1):
        at += (rest % nest[SIZES, d]) * nest[STRIDES + operand, d]
        rest //= nest[SIZES, d]
    return at
