"""Vector rows: pieces of each operand decoded to fp32, the row's own function applied, one rounding on the way out.

The dispatch is derived from the instruction table: `apply` is a switch with one loop a semantics function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.errors import InternalError
from accel.isa import semantics
from accel.isa.layout import DIMS, V_DTYPE, V_SHAPE, V_STRIDE
from accel.isa.schema import Engine, Kind
from accel.isa.table import ROWS, opcode
from accel.jit import intrinsic, ir, njit, types
from accel.numerics.formats import fmt

__all__ = ["PIECE", "elementwise", "info", "pieces", "reduce"]

FP32, BF16 = fmt("fp32").code, fmt("bf16").code
PIECE = 1024  # elements decoded at a time: four pieces of fp32 stay in a first-level cache
CHAINS = 16  # interleaved chains of a reduction (contract, section 3)
CANONICAL_NAN = np.uint32(0x7FC00000)
CANONICAL_NAN_BF16 = np.uint16(0x7FC0)

ELEMENTWISE = tuple(row for row in ROWS if row.cost == "vector")
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
    INFO[_row.opcode] = (FUNCTIONS.index(_row.semantics), len(_row.views) - 1, int(_imm), 0)  # type: ignore[arg-type]
for _row in REDUCTIONS:
    INFO[_row.opcode] = (FUNCTIONS.index(_FOLDS[_row.mnemonic][0]), 1, 0, 1)
    IDENTITY[_row.opcode] = _FOLDS[_row.mnemonic][1]
if any(row.engine is Engine.VECTOR and INFO[row.opcode, 0] < 0 for row in ROWS):
    raise InternalError("a vector row of the instruction table has no function")
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


@njit
def _fma(x: float, y: float, z: float) -> float:
    return fused(x, y, z)


# The definition of fma is written for reading and for machines without one; both are correctly rounded, so equal.
_COMPILED = tuple(_fma if f is semantics.fma else njit(error_model="numpy")(f) for f in FUNCTIONS)


def _loop(function: Callable[..., Any]) -> Callable[..., None]:
    def loop(work: Any, at: int, x: int, y: int, z: int, count: int) -> None:
        for i in range(count):
            work[at + i] = function(work[x + i], work[y + i], work[z + i])

    return loop


def _apply_plain(index: int, work: Any, at: int, x: int, y: int, z: int, count: int) -> None:
    _loop(FUNCTIONS[index])(work, at, x, y, z, count)


@intrinsic(plain=_apply_plain)
def apply(typingctx: Any, index: Any, work: Any, at: Any, x: Any, y: Any, z: Any,
          count: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """work[at + i] = FUNCTIONS[index](work[x + i], work[y + i], work[z + i]) for i < count."""
    word = types.int64
    signature = types.void(word, work, word, word, word, word, word)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        done = builder.append_basic_block("done")
        switch = builder.switch(args[0], done)
        for i, function in enumerate(_COMPILED):
            block = builder.append_basic_block(FUNCTIONS[i].__name__)
            switch.add_case(i, block)
            builder.position_at_end(block)
            context.compile_internal(builder, _loop(function), types.void(*sig.args[1:]), args[1:])
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


@njit
def info(code: int) -> tuple[int, int, int, int]:
    """Return (function index, views read, has an immediate, is a reduction) of a vector opcode."""
    return INFO[code, INFO_FUNCTION], INFO[code, INFO_READS], INFO[code, INFO_IMM], INFO[code, INFO_FOLDS]


def pieces() -> tuple[Any, Any]:
    """Return the work space of vector rows, as float32 and as its bits: dst, x, y, z and the chains of a reduction."""
    work = np.zeros(5 * PIECE, np.float32)
    return work, work.view(np.uint32)


@njit
def _decode(u16: Any, u32: Any, bits: Any, at: int, dtype: int, address: int, stride: int, count: int) -> None:
    """Write `count` elements from a byte address to work[at:] as fp32 bits."""
    if dtype == FP32:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                bits[at + i] = u32[first + i]
        else:
            for i in range(count):
                bits[at + i] = u32[first + i * step]
    else:
        first, step = address >> 1, stride >> 1
        if step == 1:
            for i in range(count):
                bits[at + i] = np.uint32(u16[first + i]) << np.uint32(16)
        else:
            for i in range(count):
                bits[at + i] = np.uint32(u16[first + i * step]) << np.uint32(16)


@njit
def _rounded(bits: Any) -> Any:
    """Return fp32 bits rounded to bf16, nearest even; any NaN becomes the canonical one."""
    if (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000):
        return CANONICAL_NAN_BF16
    half = np.uint32(np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return np.uint16(np.uint32(bits + half) >> np.uint32(16))


@njit
def _encode(u16: Any, u32: Any, bits: Any, at: int, dtype: int, address: int, stride: int, count: int) -> None:
    """Round work[at:] to the format of dst and store it."""
    if dtype == FP32:
        first, step = address >> 2, stride >> 2
        if step == 1:
            for i in range(count):
                value = bits[at + i]
                u32[first + i] = CANONICAL_NAN if (value & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else value
        else:
            for i in range(count):
                value = bits[at + i]
                u32[first + i * step] = CANONICAL_NAN if (value & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000) else value
    else:
        first, step = address >> 1, stride >> 1
        if step == 1:
            for i in range(count):
                u16[first + i] = _rounded(bits[at + i])
        else:
            for i in range(count):
                u16[first + i * step] = _rounded(bits[at + i])


@njit
def elementwise(u16: Any, u32: Any, work: Any, bits: Any, nest: Any, index: int, reads: int, dst: Any, dst_at: int,
                x: Any, x_at: int, y: Any, y_at: int, z: Any, z_at: int, imm: int, has_imm: int) -> None:  # fmt: skip
    """Run one elementwise row over views of one shape; `imm` (fp32 bits) takes the place of the first view not read.

    nest: at least (5, 8) int64 work space.
    """
    # Sizes, then strides of dst, x, y, z: ones dropped, neighbours that are one run in every operand merged.
    n = 0
    for d in range(DIMS):
        size = dst[V_SHAPE + d]
        if size == 1:
            continue
        s_dst = dst[V_STRIDE + d]
        s_x = x[V_STRIDE + d] if reads > 0 else 0
        s_y = y[V_STRIDE + d] if reads > 1 else 0
        s_z = z[V_STRIDE + d] if reads > 2 else 0
        run = n > 0 and nest[1, n - 1] == s_dst * size and nest[2, n - 1] == s_x * size
        if run and nest[3, n - 1] == s_y * size and nest[4, n - 1] == s_z * size:
            nest[0, n - 1] *= size
        else:
            nest[0, n] = size
            n += 1
        nest[1, n - 1], nest[2, n - 1], nest[3, n - 1], nest[4, n - 1] = s_dst, s_x, s_y, s_z
    if n == 0:
        nest[0, 0] = 1
        n = 1
    inner, s_dst, s_x, s_y, s_z = nest[0, n - 1], nest[1, n - 1], nest[2, n - 1], nest[3, n - 1], nest[4, n - 1]
    for d in range(n - 1, DIMS - 1):
        nest[0, d], nest[1, d], nest[2, d], nest[3, d], nest[4, d] = 1, 0, 0, 0, 0
    piece = np.int64(PIECE)
    if has_imm:
        at = (reads + 1) * PIECE
        for i in range(min(PIECE, inner)):
            bits[at + i] = np.uint32(imm)
    for i0 in range(nest[0, 0]):
        for i1 in range(nest[0, 1]):
            for i2 in range(nest[0, 2]):
                for first in range(0, inner, PIECE):
                    count = min(PIECE, inner - first)
                    if reads > 0:
                        of = x_at + i0 * nest[2, 0] + i1 * nest[2, 1] + i2 * nest[2, 2] + first * s_x
                        _decode(u16, u32, bits, piece, x[V_DTYPE], of, s_x, count)
                    if reads > 1:
                        of = y_at + i0 * nest[3, 0] + i1 * nest[3, 1] + i2 * nest[3, 2] + first * s_y
                        _decode(u16, u32, bits, 2 * piece, y[V_DTYPE], of, s_y, count)
                    if reads > 2:
                        of = z_at + i0 * nest[4, 0] + i1 * nest[4, 1] + i2 * nest[4, 2] + first * s_z
                        _decode(u16, u32, bits, 3 * piece, z[V_DTYPE], of, s_z, count)
                    apply(index, work, 0, PIECE, 2 * PIECE, 3 * PIECE, count)
                    to = dst_at + i0 * nest[1, 0] + i1 * nest[1, 1] + i2 * nest[1, 2] + first * s_dst
                    _encode(u16, u32, bits, 0 * piece, dst[V_DTYPE], to, s_dst, count)


@njit
def reduce(u16: Any, u32: Any, work: Any, bits: Any, code: int, dst: Any, dst_at: int, x: Any, x_at: int) -> None:
    """Fold the last dimension of x: element i joins chain i mod 16, then neighbouring chains fold as a tree."""
    index, identity = INFO[code, INFO_FUNCTION], IDENTITY[code]
    chains = 4 * PIECE
    length, piece = x[V_SHAPE + 3], np.int64(PIECE)  # typed: a literal would compile _decode once more
    for i0 in range(x[V_SHAPE]):
        for i1 in range(x[V_SHAPE + 1]):
            for i2 in range(x[V_SHAPE + 2]):
                of = x_at + i0 * x[V_STRIDE] + i1 * x[V_STRIDE + 1] + i2 * x[V_STRIDE + 2]
                for i in range(CHAINS):
                    work[chains + i] = identity
                for first in range(0, length, PIECE):
                    count = min(PIECE, length - first)
                    _decode(u16, u32, bits, piece, x[V_DTYPE], of + first * x[V_STRIDE + 3], x[V_STRIDE + 3], count)
                    for i in range(0, count, CHAINS):
                        apply(index, work, chains, chains, PIECE + i, 0, min(CHAINS, count - i))
                width = CHAINS
                while width > 1:
                    width //= 2
                    for i in range(width):
                        apply(index, work, chains + i, chains + 2 * i, chains + 2 * i + 1, 0, 1)
                to = dst_at + i0 * dst[V_STRIDE] + i1 * dst[V_STRIDE + 1] + i2 * dst[V_STRIDE + 2]
                _encode(u16, u32, bits, chains, dst[V_DTYPE], to, np.int64(4), np.int64(1))
