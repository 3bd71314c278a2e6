"""The loops of an elementwise row: dimensions of its operands merged where they run together, and walked in pieces."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import CODE_WORDS, DIMS, V_DTYPE, V_SHAPE, V_STRIDE, VX_WORDS, W_FIRST
from accel.machine.codes import bias_of
from accel.machine.inner import spliced
from accel.machine.moves import WIDTH
from accel.machine.raw import peek, poke
from accel.machine.words import ONE, ZERO

__all__ = ["BIASES", "FORMATS", "PIECE", "SIZES", "STRIDES", "lay_out", "offset", "outer_runs"]

PIECE = 1024  # elements decoded at a time: four pieces of fp32 stay in a first-level cache
# Rows of the work space of `moves.nest_space`: sizes, strides of dst (STRIDES) and of what is read, formats, biases.
SIZES, STRIDES, FORMATS, BIASES = 0, 1, 6, 7


@spliced
def lay_out(code: Any, pc: int, views: Any, base: int, u8: Any, reads: int, index: int, nest: Any) -> Any:
    """Write sizes, strides, formats and biases of dst and `reads` operands to `nest`; return how many loops are left.

    index: word of the first stride of an index operand, which counts as one operand more; 0 where the row has none.
    Ones are dropped, runs common to all operands merged; one loop at least is left.
    """
    row = pc * CODE_WORDS
    first = peek(code, row + W_FIRST) * VX_WORDS
    n = 0
    for d in range(DIMS):
        size = peek(views, first + V_SHAPE + d)
        if size == 1:
            continue
        run = n > 0
        for j in range(reads + 1):
            if not run:
                break
            stride = peek(views, peek(code, row + W_FIRST + 3 * j) * VX_WORDS + V_STRIDE + d)
            run = peek(nest, (STRIDES + j) * WIDTH + n - 1) == stride * size
        if run and index:
            run = peek(nest, (STRIDES + reads + 1) * WIDTH + n - 1) == peek(code, row + index + d) * size
        if run:
            poke(nest, n - 1, peek(nest, n - 1) * size)
        else:
            poke(nest, n, size)
            n += 1
        for j in range(reads + 1):
            stride = peek(views, peek(code, row + W_FIRST + 3 * j) * VX_WORDS + V_STRIDE + d)
            poke(nest, (STRIDES + j) * WIDTH + n - 1, stride)
        if index:
            poke(nest, (STRIDES + reads + 1) * WIDTH + n - 1, peek(code, row + index + d))
    if n == 0:
        poke(nest, 0, ONE)
        for j in range(reads + 2):
            poke(nest, (STRIDES + j) * WIDTH, ZERO)
        n = 1
    for j in range(reads + 1):
        view = peek(code, row + W_FIRST + 3 * j)
        poke(nest, FORMATS * WIDTH + j, peek(views, view * VX_WORDS + V_DTYPE))
        poke(nest, BIASES * WIDTH + j, bias_of(views, view, base, u8))
    return n


@spliced
def outer_runs(nest: Any, n: int) -> Any:
    """Return how often the innermost of n loops runs."""
    outer = 1
    for d in range(n - 1):
        outer *= peek(nest, d)
    return outer


@spliced
def offset(nest: Any, n: int, operand: int, flat: int) -> Any:
    """Return how far from its first element an operand's run number `flat` of the innermost of n loops begins."""
    at, rest = 0, flat
    for d in range(n - 2, -1, -1):
        size = peek(nest, d)
        at += (rest % size) * peek(nest, (STRIDES + operand) * WIDTH + d)
        rest //= size
    return at
