"""Vector rows: pieces of each operand decoded to fp32, the row's own function applied, one rounding on the way out.

The dispatch is derived from the instruction table: `apply` is a switch with one loop a semantics function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.errors import InternalError
from accel.isa import semantics
from accel.isa.layout import CODE_WORDS, DIMS, V_DTYPE, V_SHAPE, V_STRIDE, W_FIRST, W_OPCODE
from accel.isa.schema import Kind
from accel.isa.table import ROWS
from accel.jit import cgutils, intrinsic, ir, njit, types
from accel.machine.codes import bias_of, decode, encode
from accel.machine.inner import inner
from accel.machine.moves import WIDTH
from accel.machine.nests import BIASES, FORMATS, PIECE, STRIDES, lay_out, offset, outer_runs
from accel.machine.raw import peek, poke
from accel.numerics.compiled import round_bf16
from accel.numerics.formats import fmt

__all__ = [
    "CHAINS",
    "ELEMENTWISE",
    "INFO",
    "INFO_READS",
    "REDUCTIONS",
    "WORK",
    "fused",
    "run_elementwise",
    "run_reduce",
]

WORK = 5 * PIECE  # work space: dst, x, y, z, and the chains of a reduction
CHAINS = 16  # interleaved chains of a reduction (contract, section 3)

MASKS = ("vec.compare", "vec.comparei", "vec.select")
# Functions on fp32 lanes have a leaf of their own, `functions`, so that other programs do not compile them.
ELEMENTWISE = tuple(
    row for row in ROWS if row.cost == "vector" and row.semantics and row.mnemonic not in MASKS and not row.wide
)
REDUCTIONS = tuple(row for row in ROWS if row.cost == "reduce")
FUNCTIONS: tuple[Callable[..., Any], ...] = tuple(dict.fromkeys(row.semantics for row in ELEMENTWISE if row.semantics))
FILL, CAST = FUNCTIONS.index(semantics.fill), FUNCTIONS.index(semantics.cast)
BF16, FP32 = fmt("bf16").code, fmt("fp32").code

# What a reduction folds with, and the identity its chains start from (semantics.py, module text).
_FOLDS: dict[str, tuple[Callable[..., Any], float]] = {
    "vec.reduce_sum": (semantics.add, 0.0),
    "vec.reduce_max": (semantics.maximum, -np.inf),
    "vec.reduce_min": (semantics.minimum, np.inf),
}
if {row.mnemonic for row in REDUCTIONS} != set(_FOLDS):
    raise InternalError(f"reduction rows without a fold, or the reverse: {[row.mnemonic for row in REDUCTIONS]}")

# INFO[opcode]: index of the function, number of views read, 1 if an immediate is the last operand, 1 for a reduction.
INFO_FUNCTION, INFO_READS, INFO_IMM, INFO_FOLDS = 0, 1, 2, 3
INFO = np.full((1 + max(row.opcode for row in ROWS), 4), -1, np.int64)
IDENTITY = np.zeros(len(INFO), np.float32)
for _row in ELEMENTWISE:
    _imm = any(o.kind is Kind.FLOAT for o in _row.operands)
    INFO[_row.opcode] = (FUNCTIONS.index(_row.semantics), len(_row.views) - 1, int(_imm), 0)
for _row in REDUCTIONS:
    INFO[_row.opcode] = (FUNCTIONS.index(_FOLDS[_row.mnemonic][0]), 1, 0, 1)
    IDENTITY[_row.opcode] = _FOLDS[_row.mnemonic][1]


@intrinsic(plain=semantics.fma)
def fused(typingctx: Any, x: Any, y: Any, z: Any) -> tuple[Any, Callable[..., Any]]:
    """Return x * y + z with one rounding: the processor's fma, or the C library's where it has none."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        single = ir.FloatType()
        name = "llvm.fma.f32"
        known = builder.module.globals.get(name)
        return builder.call(known or ir.Function(builder.module, ir.FunctionType(single, [single] * 3), name), args)

    return types.float32(types.float32, types.float32, types.float32), emit


@inner
def _fma(x: Any, y: Any, z: Any) -> Any:
    return fused(x, y, z)


# The definition of fma is written for reading and for machines without one; both are correctly rounded, so equal.
_COMPILED = tuple(_fma if f is semantics.fma else njit(error_model="numpy")(f) for f in FUNCTIONS)


def _apply_plain(index: int, work: Any, at: int, x: int, y: int, z: int, count: int) -> None:
    function = FUNCTIONS[index]
    for i in range(count):
        work[at + i] = function(work[x + i], work[y + i], work[z + i])


@intrinsic(plain=_apply_plain)
def apply(typingctx: Any, index: Any, work: Any, at: Any, x: Any, y: Any, z: Any,
          count: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """work[at + i] = FUNCTIONS[index](work[x + i], work[y + i], work[z + i]) for i < count."""
    word, single = types.int64, types.float32
    signature = types.void(word, work, word, word, word, word, word)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[1])(context, builder, args[1]).data
        to, x, y, z = (builder.gep(data, [offset]) for offset in args[2:6])
        done = builder.append_basic_block("done")
        switch = builder.switch(args[0], done)
        for i, function in enumerate(_COMPILED):
            block = builder.append_basic_block(FUNCTIONS[i].__name__)
            switch.add_case(i, block)
            builder.position_at_end(block)
            callee = types.Dispatcher(function)
            scalar = callee.get_call_type(context.typing_context, (single, single, single), {})
            with cgutils.for_range(builder, args[6]) as loop:
                elements = [builder.load(builder.gep(p, [loop.index])) for p in (x, y, z)]
                result = context.get_function(callee, scalar)(builder, elements)
                builder.store(result, builder.gep(to, [loop.index]))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


@inner
def _beside(nest: Any, n: int, value: Any) -> Any:
    """Return whether fp32 elements of x are neighbours in the innermost loop and no byte of x is one of a bf16 dst."""
    if peek(nest, (STRIDES + 1) * WIDTH + n - 1) != 4:
        return False
    low, high, first, end = peek(value, 0), peek(value, 0) + 2, peek(value, 1), peek(value, 1) + 4
    for d in range(n):
        reach = (peek(nest, d) - 1) * peek(nest, STRIDES * WIDTH + d)
        low, high = low + min(reach, 0), high + max(reach, 0)
        reach = (peek(nest, d) - 1) * peek(nest, (STRIDES + 1) * WIDTH + d)
        first, end = first + min(reach, 0), end + max(reach, 0)
    return high <= first or end <= low


@inner
def run_elementwise(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                    work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Run one elementwise row over views of one shape; an immediate takes the place of the first view not read.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins; config and error are
    unused: all leaves of `units` take the same arguments.
    """
    op = peek(code, pc * CODE_WORDS + W_OPCODE)
    index, reads = INFO[op, INFO_FUNCTION], INFO[op, INFO_READS]
    n = lay_out(code, pc, views, base, u8, reads, 0, nest)
    last = n - 1
    inner = peek(nest, last)
    if peek(nest, FORMATS * WIDTH) == BF16 and peek(nest, STRIDES * WIDTH + last) == 2:
        if index == FILL:
            filled = np.uint16(round_bf16(np.uint32(value[reads + 1])))
            for flat in range(outer_runs(nest, n)):
                first = base + peek(value, 0) + offset(nest, n, 0, flat) >> 1
                for i in range(inner):
                    poke(u16, first + i, filled)
            return
        if index == CAST and peek(nest, FORMATS * WIDTH + 1) == FP32 and _beside(nest, n, value):
            for flat in range(outer_runs(nest, n)):
                first = base + peek(value, 0) + offset(nest, n, 0, flat) >> 1
                start = base + peek(value, 1) + offset(nest, n, 1, flat) >> 2
                for i in range(inner):
                    poke(u16, first + i, np.uint16(round_bf16(peek(u32, start + i))))
            return
    if INFO[op, INFO_IMM]:
        at = (reads + 1) * PIECE
        for i in range(min(PIECE, inner)):
            poke(work32, at + i, np.uint32(value[reads + 1]))
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            for j in range(reads, -1, -1):
                stride = peek(nest, (STRIDES + j) * WIDTH + last)
                dtype, bias = peek(nest, FORMATS * WIDTH + j), peek(nest, BIASES * WIDTH + j)
                address = base + peek(value, j) + first * stride + offset(nest, n, j, flat)
                if j > 0:
                    decode(u8, u16, u32, work32, j * PIECE, dtype, bias, address, stride, count, units)
                else:
                    apply(index, work, 0, PIECE, 2 * PIECE, 3 * PIECE, count)
                    encode(u8, u16, u32, work32, j, dtype, bias, address, stride, count, units)


@inner
def run_reduce(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Fold the last dimension of x: element i joins chain i mod 16, then neighbouring chains fold as a tree.

    Arguments as for `run_elementwise`.
    """
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    to_bias = bias_of(views, code[pc, W_FIRST], base, u8)
    of_bias = bias_of(views, code[pc, W_FIRST + 3], base, u8)
    index, identity = INFO[code[pc, W_OPCODE], INFO_FUNCTION], IDENTITY[code[pc, W_OPCODE]]
    chains = 4 * PIECE
    length = x[V_SHAPE + 3]
    for flat in range(x[V_SHAPE] * x[V_SHAPE + 1] * x[V_SHAPE + 2]):
        rest, of, to = flat, base + value[1], base + value[0]
        for d in range(DIMS - 2, -1, -1):
            of += (rest % x[V_SHAPE + d]) * x[V_STRIDE + d]
            to += (rest % x[V_SHAPE + d]) * dst[V_STRIDE + d]
            rest //= x[V_SHAPE + d]
        for i in range(CHAINS):
            work[chains + i] = identity
        for first in range(0, length, PIECE):
            count = min(PIECE, length - first)
            decode(u8, u16, u32, work32, PIECE, x[V_DTYPE], of_bias, of + first * x[V_STRIDE + 3], x[V_STRIDE + 3],
                   count, units)  # fmt: skip
            for i in range(0, count, CHAINS):
                apply(index, work, chains, chains, PIECE + i, 0, min(CHAINS, count - i))
        width = CHAINS
        while width > 1:
            width //= 2
            for i in range(width):
                apply(index, work, chains + i, chains + 2 * i, chains + 2 * i + 1, 0, 1)
        encode(u8, u16, u32, work32, chains, dst[V_DTYPE], to_bias, to, 4, 1, units)
