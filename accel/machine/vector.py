"""Vector rows: pieces of each operand decoded to fp32, the row's own function applied, one rounding on the way out.

The dispatch is derived from the instruction table: `apply` is a switch with one loop a semantics function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.errors import InternalError
from accel.isa import semantics
from accel.isa.layout import DIMS, V_DTYPE, V_SHAPE, V_STRIDE, W_FIRST, W_OPCODE
from accel.isa.schema import Kind
from accel.isa.table import ROWS, opcode
from accel.jit import cgutils, intrinsic, ir, njit, types
from accel.machine.inner import inner
from accel.machine.raw import peek, poke, widen
from accel.numerics.formats import fmt

__all__ = ["INFO", "INFO_READS", "PIECE", "REDUCTIONS", "WORK", "run_elementwise", "run_reduce"]

FP32, BF16 = fmt("fp32").code, fmt("bf16").code
PIECE = 1024  # elements decoded at a time: four pieces of fp32 stay in a first-level cache
WORK = 5 * PIECE  # work space: dst, x, y, z, and the chains of a reduction
CHAINS = 16  # interleaved chains of a reduction (contract, section 3)
CANONICAL_NAN = np.uint32(0x7FC00000)
CANONICAL_NAN_BF16 = np.uint16(0x7FC0)

MASKS = ("vec.compare", "vec.comparei", "vec.select")
ELEMENTWISE = tuple(row for row in ROWS if row.cost == "vector" and row.semantics and row.mnemonic not in MASKS)
REDUCTIONS = tuple(row for row in ROWS if row.cost == "reduce")
FUNCTIONS: tuple[Callable[..., Any], ...] = tuple(dict.fromkeys(row.semantics for row in ELEMENTWISE if row.semantics))

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
OP_COPY = opcode("vec.copy")


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
def _decode(u16: Any, u32: Any, bits: Any, at: int, dtype: int, address: int, stride: int, count: int) -> None:
    """Write `count` elements from a byte address to work[at:] as fp32 bits."""
    if dtype == FP32:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                poke(bits, at + i, peek(u32, first + i))
        else:
            for i in range(count):
                poke(bits, at + i, peek(u32, first + i * step))
    elif stride == 2:
        widen(u16, address >> 1, bits, at, count)
    else:
        first, step = address >> 1, stride >> 1
        for i in range(count):
            poke(bits, at + i, np.uint32(np.uint32(peek(u16, first + i * step)) << np.uint32(16)))


@inner
def _canonical(bits: Any) -> Any:
    """Return fp32 bits with any NaN made the canonical one."""
    return CANONICAL_NAN if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else bits


@inner
def _rounded(bits: Any) -> Any:
    """Return fp32 bits rounded to bf16, nearest even; any NaN becomes the canonical one."""
    half = np.uint32(np.uint32(0x7FFF) + np.uint32((bits >> np.uint32(16)) & np.uint32(1)))
    code = np.uint16(np.uint32(bits + half) >> np.uint32(16))
    return CANONICAL_NAN_BF16 if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else code


@inner
def _encode(u16: Any, u32: Any, bits: Any, at: int, dtype: int, address: int, stride: int, count: int) -> None:
    """Round work[at:] to the format of dst and store it."""
    if dtype == FP32:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                poke(u32, first + i, _canonical(peek(bits, at + i)))
        else:
            for i in range(count):
                poke(u32, first + i * step, _canonical(peek(bits, at + i)))
    else:
        first, step = address >> 1, stride >> 1
        if step == 1:
            for i in range(count):
                poke(u16, first + i, _rounded(peek(bits, at + i)))
        else:
            for i in range(count):
                poke(u16, first + i * step, _rounded(peek(bits, at + i)))


@inner
def run_elementwise(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                    work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Run one elementwise row over views of one shape; an immediate takes the place of the first view not read.

    The row's operands are decoded in `value`; `base` is the byte where the node's SRAM begins. u8 and f32 are unused:
    all leaves of `units` take the same arguments.
    """
    op = code[pc, W_OPCODE]
    index, reads = INFO[op, INFO_FUNCTION], INFO[op, INFO_READS]
    # nest: sizes, then strides of dst and of what is read; ones dropped, runs common to all operands merged.
    n = 0
    for d in range(DIMS):
        size = views[code[pc, W_FIRST], V_SHAPE + d]
        if size == 1:
            continue
        run = n > 0
        for j in range(reads + 1):
            stride = views[code[pc, W_FIRST + 3 * j], V_STRIDE + d]
            run = run and nest[1 + j, n - 1] == stride * size
        if run:
            nest[0, n - 1] *= size
        else:
            nest[0, n] = size
            n += 1
        for j in range(reads + 1):
            nest[1 + j, n - 1] = views[code[pc, W_FIRST + 3 * j], V_STRIDE + d]
    while n < 1:
        nest[0, n], nest[1, n], nest[2, n], nest[3, n], nest[4, n] = 1, 0, 0, 0, 0
        n += 1
    inner, last = nest[0, n - 1], n - 1
    outer = 1
    for d in range(last):
        outer *= nest[0, d]
    if INFO[op, INFO_IMM]:
        at = (reads + 1) * PIECE
        for i in range(min(PIECE, inner)):
            work32[at + i] = np.uint32(value[reads + 1])
    for flat in range(outer):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            for j in range(reads, -1, -1):
                address = base + value[j] + first * nest[1 + j, last]
                rest = flat
                for d in range(last - 1, -1, -1):
                    address += (rest % nest[0, d]) * nest[1 + j, d]
                    rest //= nest[0, d]
                dtype = views[code[pc, W_FIRST + 3 * j], V_DTYPE]
                if j > 0:
                    _decode(u16, u32, work32, j * PIECE, dtype, address, nest[1 + j, last], count)
                else:
                    apply(index, work, 0, PIECE, 2 * PIECE, 3 * PIECE, count)
                    _encode(u16, u32, work32, j, dtype, address, nest[1, last], count)


@inner
def run_reduce(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
               work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Fold the last dimension of x: element i joins chain i mod 16, then neighbouring chains fold as a tree.

    Arguments as for `run_elementwise`.
    """
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
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
            _decode(u16, u32, work32, PIECE, x[V_DTYPE], of + first * x[V_STRIDE + 3], x[V_STRIDE + 3], count)
            for i in range(0, count, CHAINS):
                apply(index, work, chains, chains, PIECE + i, 0, min(CHAINS, count - i))
        width = CHAINS
        while width > 1:
            width //= 2
            for i in range(width):
                apply(index, work, chains + i, chains + 2 * i, chains + 2 * i + 1, 0, 1)
        _encode(u16, u32, work32, chains, dst[V_DTYPE], to, 4, 1)
