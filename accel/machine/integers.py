"""Vector rows on integers: operands as int32, the row's integer function applied modulo 2^32, low bits stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.errors import InternalError
from accel.isa import semantics
from accel.isa.layout import DIMS, V_DTYPE, V_SHAPE, V_STRIDE, W_FIRST, W_OPCODE
from accel.isa.schema import Kind
from accel.isa.table import ROWS
from accel.jit import cgutils, intrinsic, njit, types
from accel.machine.codes import INT32, load_integers, store_codes
from accel.machine.inner import inner
from accel.machine.nests import FORMATS, PIECE, SIZES, STRIDES, lay_out, offset, outer_runs
from accel.machine.vector import CHAINS, ELEMENTWISE, INFO_IMM, INFO_READS, REDUCTIONS

__all__ = ["INTEGER", "run_integer", "run_integer_reduce"]

INTEGER = tuple(row for row in ELEMENTWISE if row.integer)
FUNCTIONS: tuple[Callable[..., Any], ...] = tuple(dict.fromkeys(row.integer for row in INTEGER if row.integer))

# What a reduction folds with, and the identity its chains start from (semantics.py, module text).
_FOLDS: dict[str, tuple[Callable[..., Any], int]] = {
    "vec.reduce_sum": (semantics.add, 0),
    "vec.reduce_max": (semantics.integer_maximum, -(1 << 31)),
    "vec.reduce_min": (semantics.integer_minimum, (1 << 31) - 1),
}
if {row.mnemonic for row in REDUCTIONS} != set(_FOLDS) or not {f for f, _ in _FOLDS.values()} <= set(FUNCTIONS):
    raise InternalError(f"reduction rows without a fold, or the reverse: {[row.mnemonic for row in REDUCTIONS]}")

# INFO[opcode]: as in `vector`: index of the function, number of views read, 1 if an immediate is the last operand.
INFO_FUNCTION = 0
INFO = np.full((1 + max(row.opcode for row in ROWS), 3), -1, np.int64)
IDENTITY = np.zeros(len(INFO), np.uint32)
for _row in INTEGER:
    _imm = any(o.kind is Kind.FLOAT for o in _row.operands)
    INFO[_row.opcode] = (FUNCTIONS.index(_row.integer), len(_row.views) - 1, int(_imm))
for _row in REDUCTIONS:
    INFO[_row.opcode] = (FUNCTIONS.index(_FOLDS[_row.mnemonic][0]), 1, 0)
    IDENTITY[_row.opcode] = _FOLDS[_row.mnemonic][1] & 0xFFFFFFFF

_COMPILED = tuple(njit(f) for f in FUNCTIONS)


def _signed(bits: Any) -> int:
    return (int(bits) ^ (1 << 31)) - (1 << 31)


def _apply_plain(index: int, work32: Any, at: int, x: int, y: int, z: int, count: int) -> None:
    function = FUNCTIONS[index]
    for i in range(count):
        result = function(*(_signed(work32[j + i]) for j in (x, y, z)))
        work32[at + i] = np.uint32(int(result) & 0xFFFFFFFF)


@intrinsic(plain=_apply_plain)
def apply(typingctx: Any, index: Any, work32: Any, at: Any, x: Any, y: Any, z: Any,
          count: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """work32[at + i] = FUNCTIONS[index](work32[x + i], work32[y + i], work32[z + i]) modulo 2^32, for i < count."""
    word, single = types.int64, types.int32
    signature = types.void(word, work32, word, word, word, word, word)

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
                result = context.cast(builder, result, scalar.return_type, single)
                builder.store(result, builder.gep(to, [loop.index]))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


@inner
def run_integer(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any, work: Any,
                work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Run one elementwise row on integers of one shape; arguments as for `vector.run_elementwise`."""
    op = code[pc, W_OPCODE]
    index, reads = INFO[op, INFO_FUNCTION], INFO[op, INFO_READS]
    n = lay_out(code, pc, views, base, u8, reads, 0, nest)
    inner, last = nest[SIZES, n - 1], n - 1
    if INFO[op, INFO_IMM]:
        at = (reads + 1) * PIECE
        for i in range(min(PIECE, inner)):
            work32[at + i] = np.uint32(value[reads + 1])
    item = 4 if nest[FORMATS, 0] == INT32 else 1
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            for j in range(reads, -1, -1):
                stride = nest[STRIDES + j, last]
                address = base + value[j] + first * stride + offset(nest, n, j, flat)
                if j > 0:
                    load_integers(u8, u16, u32, work32, j * PIECE, nest[FORMATS, j], address, stride, count)
                else:
                    apply(index, work32, 0, PIECE, 2 * PIECE, 3 * PIECE, count)
                    store_codes(u8, u16, u32, work32, j, item, address, stride, count)


@inner
def run_integer_reduce(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                       work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Fold the last dimension of integers in the order of `vector.run_reduce`."""
    dst, x = views[code[pc, W_FIRST]], views[code[pc, W_FIRST + 3]]
    index, identity = INFO[code[pc, W_OPCODE], INFO_FUNCTION], IDENTITY[code[pc, W_OPCODE]]
    chains = 4 * PIECE
    length, item = x[V_SHAPE + 3], 4 if dst[V_DTYPE] == INT32 else 1
    for flat in range(x[V_SHAPE] * x[V_SHAPE + 1] * x[V_SHAPE + 2]):
        rest, of, to = flat, base + value[1], base + value[0]
        for d in range(DIMS - 2, -1, -1):
            of += (rest % x[V_SHAPE + d]) * x[V_STRIDE + d]
            to += (rest % x[V_SHAPE + d]) * dst[V_STRIDE + d]
            rest //= x[V_SHAPE + d]
        for i in range(CHAINS):
            work32[chains + i] = identity
        for first in range(0, length, PIECE):
            count = min(PIECE, length - first)
            load_integers(u8, u16, u32, work32, PIECE, x[V_DTYPE], of + first * x[V_STRIDE + 3], x[V_STRIDE + 3],
                          count)  # fmt: skip
            for i in range(0, count, CHAINS):
                apply(index, work32, chains, chains, PIECE + i, 0, min(CHAINS, count - i))
        width = CHAINS
        while width > 1:
            width //= 2
            for i in range(width):
                apply(index, work32, chains + i, chains + 2 * i, chains + 2 * i + 1, 0, 1)
        store_codes(u8, u16, u32, work32, chains, item, to, 4, 1)
