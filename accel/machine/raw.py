"""Element access without Numba's care for negative indices, so that loops vectorise; callers own the bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import cgutils, intrinsic, ir, types

__all__ = ["fetch", "peek", "poke", "widen"]

LANES = 16


def _data(context: Any, builder: Any, sig: Any, args: Any, i: int) -> Any:
    return context.make_array(sig.args[i])(context, builder, args[i]).data


def _peek_plain(array: Any, i: int) -> Any:
    return array.reshape(-1)[i]


@intrinsic(plain=_peek_plain)
def peek(typingctx: Any, array: Any, i: Any) -> tuple[Any, Callable[..., Any]]:
    """Return element i, counted row-major, of a C-ordered array; 0 <= i < array.size is not checked."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.gep(_data(context, builder, sig, args, 0), [args[1]]))

    return array.dtype(array, types.int64), emit


def _poke_plain(array: Any, i: int, value: Any) -> None:
    array.reshape(-1)[i] = value


@intrinsic(plain=_poke_plain)
def poke(typingctx: Any, array: Any, i: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Set element i, counted row-major, of a C-ordered array to a value of its own type; i is not checked."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(_data(context, builder, sig, args, 0), [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), emit


def _fetch_plain(array: Any, i: int) -> None:
    """Do nothing: where an element lies decides no bit."""


@intrinsic(plain=_fetch_plain)
def fetch(typingctx: Any, array: Any, i: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask the processor to bring the cache line of element i near; i may lie anywhere."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        name, module = "llvm.prefetch.p0", builder.module
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        call = module.globals.get(name) or ir.Function(module, kind, name)
        place = builder.bitcast(builder.gep(_data(context, builder, sig, args, 0), [args[1]]), byte)
        builder.call(call, [place, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), emit


def _widen_plain(u16: Any, source: int, u32: Any, to: int, count: int) -> None:
    u32[to : to + count] = u16[source : source + count].astype(np.uint32) << np.uint32(16)


@intrinsic(plain=_widen_plain)
def widen(typingctx: Any, u16: Any, source: Any, u32: Any, to: Any, count: Any) -> tuple[Any, Callable[..., Any]]:
    """u32[to + i] = u16[source + i] << 16 for i < count: bf16 codes to fp32 bits. The arrays must not overlap."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        half, single, word = ir.IntType(16), ir.IntType(32), ir.IntType(64)
        halves, singles = ir.VectorType(half, LANES), ir.VectorType(single, LANES)
        src = builder.gep(_data(context, builder, sig, args, 0), [args[1]])
        dst = builder.gep(_data(context, builder, sig, args, 2), [args[3]])
        sixteen = ir.Constant(singles, [16] * LANES)
        whole = builder.and_(args[4], word(-LANES))
        with cgutils.for_range_slice(builder, word(0), whole, word(LANES)) as (i, _):
            codes = builder.load(builder.bitcast(builder.gep(src, [i]), halves.as_pointer()), align=2)
            bits = builder.shl(builder.zext(codes, singles), sixteen)
            builder.store(bits, builder.bitcast(builder.gep(dst, [i]), singles.as_pointer()), align=4)
        with cgutils.for_range_slice(builder, whole, args[4], word(1)) as (i, _):
            bits = builder.shl(builder.zext(builder.load(builder.gep(src, [i])), single), single(16))
            builder.store(bits, builder.gep(dst, [i]))
        return context.get_dummy_value()

    word = types.int64
    return types.void(u16, word, u32, word, word), emit
