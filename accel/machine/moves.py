"""Moving bits: the nest of a strided copy, and the record of which output elements were stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.isa.layout import DIMS, V_SHAPE, V_STRIDE
from accel.jit import cgutils, intrinsic, ir, types
from accel.machine.inner import spliced
from accel.machine.words import X_ITEM

__all__ = ["WIDTH", "move", "move_bytes", "nest_space", "touch", "walk"]

WIDTH = 16  # of a row of the work space of `nest_space`: room for the words of a view, too
LINE, SHORT = 64, 1024  # bytes of a cache line; runs up to here are moved without a call


def _move_bytes_plain(u8: Any, dst: int, src: int, count: int) -> None:
    u8[dst : dst + count] = u8[src : src + count].copy()


@intrinsic(plain=_move_bytes_plain)
def move_bytes(typingctx: Any, u8: Any, dst: Any, src: Any, count: Any) -> tuple[Any, Callable[..., Any]]:
    """Move `count` bytes inside one array, as if through a buffer: move_bytes(u8, dst, src, count)."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        cgutils.raw_memmove(builder, builder.gep(data, [args[1]]), builder.gep(data, [args[2]]), args[3], 1)
        return context.get_dummy_value()

    return types.void(u8, types.int64, types.int64, types.int64), emit


def _mark_bytes_plain(u8: Any, at: int, count: int) -> None:
    u8[at : at + count] = 1


@intrinsic(plain=_mark_bytes_plain)
def mark_bytes(typingctx: Any, u8: Any, at: Any, count: Any) -> tuple[Any, Callable[..., Any]]:
    """Set `count` bytes to one: mark_bytes(u8, at, count)."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        cgutils.memset(builder, builder.gep(data, [args[1]]), args[2], ir.IntType(8)(1))
        return context.get_dummy_value()

    return types.void(u8, types.int64, types.int64), emit


@spliced
def _squeeze(view: Any, shape: Any, stride: Any) -> int:
    """Write the dimensions of a view that are not 1 to `shape` and `stride`; return how many."""
    n = 0
    for d in range(DIMS):
        if view[V_SHAPE + d] != 1:
            shape[n], stride[n] = view[V_SHAPE + d], view[V_STRIDE + d]
            n += 1
    return n


def _move_lines_plain(u8: Any, at: int, of: int, to: int, by: int, count: int, run: int) -> None:
    for i in range(count):
        u8[at + i * to : at + i * to + run] = u8[of + i * by : of + i * by + run]


@intrinsic(plain=_move_lines_plain)
def move_lines(typingctx: Any, u8: Any, at: Any, of: Any, to: Any, by: Any, count: Any,
               run: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Move `count` runs of `run` bytes, a multiple of 64, from `of` in steps `by` to `at` in steps `to`; no overlap."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        line, index = ir.VectorType(ir.IntType(8), LINE).as_pointer(), ir.IntType(64)
        with cgutils.for_range(builder, args[5]) as loop:
            put, get = (
                builder.gep(data, [builder.add(args[first], builder.mul(loop.index, args[step]))])
                for first, step in ((1, 3), (2, 4))
            )
            with cgutils.for_range_slice(builder, index(0), args[6], index(LINE)) as (i, _):
                held = builder.load(builder.bitcast(builder.gep(get, [i]), line), align=1)
                builder.store(held, builder.bitcast(builder.gep(put, [i]), line), align=1)
        return context.get_dummy_value()

    word = types.int64
    return types.void(u8, word, word, word, word, word, word), emit


@spliced
def _apart(at: int, of: int, to: int, by: int, count: int, run: int) -> Any:
    """Return whether `count` runs of `run` bytes at `at` in steps `to` lie beside those at `of` in steps `by`."""
    last, final = (count - 1) * to, (count - 1) * by
    return at + max(last, 0) + run <= of + min(final, 0) or of + max(final, 0) + run <= at + min(last, 0)


@spliced
def _innermost(u8: Any, at: int, of: int, to: int, by: int, count: int, run: int) -> None:
    """Move `count` runs of `run` bytes; single elements and short runs of lines in loops that need no call."""
    if run == 1:
        for i in range(count):
            move_bytes(u8, at + i * to, of + i * by, 1)
    elif run == 2:
        for i in range(count):
            move_bytes(u8, at + i * to, of + i * by, 2)
    elif run == 4:
        for i in range(count):
            move_bytes(u8, at + i * to, of + i * by, 4)
    elif run <= SHORT and run % LINE == 0 and _apart(at, of, to, by, count, run):
        move_lines(u8, at, of, to, by, count, run)
    else:
        for i in range(count):
            move_bytes(u8, at + i * to, of + i * by, run)


@spliced
def move(u8: Any, dst: Any, dst_at: int, src: Any, src_at: int, nest: Any) -> None:
    """Move the elements of view `src` at byte src_at to view `dst` at dst_at; equal shapes after dropping ones.

    nest: work space of `nest_space`. Elements move in row-major order, neighbours in one piece.
    """
    n = _squeeze(dst, nest[0], nest[1])
    _squeeze(src, nest[0], nest[2])
    walk(u8, dst_at, src_at, dst[X_ITEM], n, nest)


@spliced
def walk(u8: Any, dst_at: int, src_at: int, item: int, n: int, nest: Any) -> None:
    """Move elements of `item` bytes through n loops: nest[0] their sizes, nest[1] strides of dst, nest[2] of src."""
    shape, to, by = nest[0], nest[1], nest[2]
    run = item
    while n > 0 and to[n - 1] == run and by[n - 1] == run:
        run *= shape[n - 1]
        n -= 1
    # Dimensions that are left, right-aligned to four, as plain loops.
    s0, s1, s2, s3 = 1, 1, 1, 1
    d0, d1, d2, d3, e0, e1, e2, e3 = 0, 0, 0, 0, 0, 0, 0, 0
    if n > 0:
        s3, d3, e3 = shape[n - 1], to[n - 1], by[n - 1]
    if n > 1:
        s2, d2, e2 = shape[n - 2], to[n - 2], by[n - 2]
    if n > 2:
        s1, d1, e1 = shape[n - 3], to[n - 3], by[n - 3]
    if n > 3:
        s0, d0, e0 = shape[n - 4], to[n - 4], by[n - 4]
    for i0 in range(s0):
        for i1 in range(s1):
            for i2 in range(s2):
                at = dst_at + i0 * d0 + i1 * d1 + i2 * d2
                of = src_at + i0 * e0 + i1 * e1 + i2 * e2
                _innermost(u8, at, of, d3, e3, s3, run)


@spliced
def touch(shadow: Any, view: Any, at: int, nest: Any) -> None:
    """Set the shadow byte of every element of a view; `at` is the shadow index of the view's first element."""
    shape, stride = nest[0], nest[1]
    n = _squeeze(view, shape, stride)
    item, run = view[X_ITEM], 1
    while n > 0 and stride[n - 1] == run * item:
        run *= shape[n - 1]
        n -= 1
    total = 1
    for d in range(n):
        total *= shape[d]
    for flat in range(total):
        rest, place = flat, at
        for d in range(n - 1, -1, -1):
            place += (rest % shape[d]) * (stride[d] // item)
            rest //= shape[d]
        mark_bytes(shadow, place, run)


def nest_space() -> Any:
    """Return the work space that `move`, `touch` and elementwise rows take for the loops of a nest."""
    return np.zeros((8, WIDTH), np.int64)
