"""The unary functions of `accel.isa.transcendentals` compiled into one leaf, for programs that use one of them.

The text compiled is that of the definitions, bound to a namespace in which fma is the processor's own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from accel.errors import InternalError
from accel.isa import transcendentals
from accel.isa.layout import CODE_WORDS, W_OPCODE
from accel.isa.table import ROWS
from accel.jit import cgutils, intrinsic, njit, types
from accel.machine.codes import decode, encode
from accel.machine.inner import inner
from accel.machine.moves import WIDTH
from accel.machine.nests import BIASES, FORMATS, PIECE, STRIDES, lay_out, offset, outer_runs
from accel.machine.raw import peek
from accel.machine.vector import fused

__all__ = ["FUNCTIONS", "run_function"]

FUNCTIONS = tuple(row for row in ROWS if row.semantics and row.semantics.__module__ == transcendentals.__name__)
if any(len(row.views) != 2 or row.integer for row in FUNCTIONS):
    raise InternalError(f"functions of one float operand only: {[row.mnemonic for row in FUNCTIONS]}")
INDEX = np.full(1 + max(row.opcode for row in ROWS), -1, np.int64)
for _i, _row in enumerate(FUNCTIONS):
    INDEX[_row.opcode] = _i
_DEFINITIONS: tuple[Any, ...] = tuple(row.semantics for row in FUNCTIONS)


def _compiled() -> tuple[Any, ...]:
    """Return the definitions jitted, calling jitted micro-operations; error_model: a quotient by 0 is no error."""
    scope: dict[str, Any] = dict(vars(transcendentals))
    for name, value in vars(transcendentals).items():
        if isinstance(value, FunctionType):
            own = FunctionType(value.__code__, scope, name)
            scope[name] = fused if name == "fma" else njit(
                _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True, error_model="numpy"
            )(own)  # fmt: skip
    return tuple(scope[f.__name__] for f in _DEFINITIONS)


_COMPILED = _compiled()


def _apply_plain(index: int, work: Any, at: int, x: int, count: int) -> None:
    function, nothing = _DEFINITIONS[index], np.float32(0.0)
    for i in range(count):
        work[at + i] = function(work[x + i], nothing, nothing)


@intrinsic(plain=_apply_plain)
def apply(typingctx: Any, index: Any, work: Any, at: Any, x: Any, count: Any) -> tuple[Any, Callable[..., Any]]:
    """work[at + i] = FUNCTIONS[index](work[x + i]) for i < count."""
    word, single = types.int64, types.float32
    signature = types.void(word, work, word, word, word)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[1])(context, builder, args[1]).data
        to, of = builder.gep(data, [args[2]]), builder.gep(data, [args[3]])
        done = builder.append_basic_block("done")
        switch = builder.switch(args[0], done)
        for i, function in enumerate(_COMPILED):
            block = builder.append_basic_block(_DEFINITIONS[i].__name__)
            switch.add_case(i, block)
            builder.position_at_end(block)
            callee = types.Dispatcher(function)
            scalar = callee.get_call_type(context.typing_context, (single, single, single), {})
            with cgutils.for_range(builder, args[4]) as loop:
                element = builder.load(builder.gep(of, [loop.index]))
                result = context.get_function(callee, scalar)(builder, [element, element, element])
                builder.store(result, builder.gep(to, [loop.index]))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, emit


@inner
def run_function(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, u16: Any, u32: Any, f32: Any,
                 work: Any, work32: Any, nest: Any, units: Any, config: Any, error: Any) -> None:  # fmt: skip
    """Run one row of FUNCTIONS over two views of one shape; arguments as for `vector.run_elementwise`."""
    index = INDEX[peek(code, pc * CODE_WORDS + W_OPCODE)]
    n = lay_out(code, pc, views, base, u8, 1, 0, nest)
    last = n - 1
    inner = peek(nest, last)
    for flat in range(outer_runs(nest, n)):
        for first in range(0, inner, PIECE):
            count = min(PIECE, inner - first)
            for j in range(1, -1, -1):
                stride = peek(nest, (STRIDES + j) * WIDTH + last)
                dtype, bias = peek(nest, FORMATS * WIDTH + j), peek(nest, BIASES * WIDTH + j)
                address = base + peek(value, j) + first * stride + offset(nest, n, j, flat)
                if j > 0:
                    decode(u8, u16, u32, work32, PIECE, dtype, bias, address, stride, count, units)
                    apply(index, work, 0, PIECE, count)
                else:
                    encode(u8, u16, u32, work32, 0, dtype, bias, address, stride, count, units)
