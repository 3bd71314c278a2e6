"""Rows of the left operand made pairs of bf16 at once, rows of zeros left out, and pairs parted to fp32 again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import cgutils, intrinsic, ir, types

__all__ = ["part_rows", "part_steps", "swap_rows", "widen_steps", "zeros_matter"]

LANES = 16
MAGNITUDE = 0x7FFF


def _swap_rows_plain(u16: Any, base: int, u32: Any, it: int, rows: int, segments: int, count: int, to: int, pitch: int,
                     drop: int, kept: int, look: int) -> tuple[int, int, int]:  # fmt: skip
    least, greatest, found = 0xFFFF, 0, 0
    starts = u32[it : it + rows].view(np.int32).tolist()
    pieces = u32[segments : segments + 2 * count].view(np.int32).reshape(count, 2).tolist()
    for r, start in enumerate(starts):
        codes = np.concatenate([u16[base + start + at :][: 2 * words] for at, words in pieces]).astype(np.uint32)
        u32[to + found * pitch : to + found * pitch + codes.size // 2] = (codes[::2] << np.uint32(16)) | codes[1::2]
        u32[kept + found] = r
        sizes = codes & np.uint32(MAGNITUDE)
        if look and sizes.any():
            least = min(least, int(sizes[sizes != 0].min()) - 1)
            greatest = max(greatest, int(sizes.max()))
        found += 1 if (look and sizes.any()) or not drop else 0
    return least, greatest, found


@intrinsic(plain=_swap_rows_plain)
def swap_rows(typingctx: Any, u16: Any, base: Any, u32: Any, it: Any, rows: Any, segments: Any, count: Any, to: Any,
              pitch: Any, drop: Any, kept: Any, look: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Pack rows of pairs and return (least nonzero magnitude - 1, greatest magnitude, rows packed).

    swap_rows(u16, base, u32, it, rows, segments, count, to, pitch, drop, kept, look): row r of `rows` begins at code
    u16[base + u32[it + r]] and has `count` runs, run j from u32[segments + 2 j] on of u32[segments + 2 j + 1] words (a
    multiple of 16); starts are read as signed. Word i of a packed row is code 2 i << 16 | code 2 i + 1; row number n
    that is packed goes to u32[to + n * pitch] and its r to u32[kept + n]. drop: rows of zeros only are left out. All
    zeros: (0xFFFF, 0, .). Up to one row more than is packed is written at both places. look: 0 to pass all for zeros,
    without `drop`, which is faster.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        single, index = ir.IntType(32), ir.IntType(64)
        words, codes = ir.VectorType(single, LANES), ir.VectorType(ir.IntType(16), 2 * LANES)
        module = builder.module

        def function(name: str, result: Any, arguments: list[Any]) -> Any:
            return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)

        def choose(name: str, place: Any, value: Any) -> None:
            called = function(f"llvm.{name}.v{2 * LANES}i16", codes, [codes, codes])
            builder.store(builder.call(called, [builder.load(place), value]), place)

        def signed(pointer: Any) -> Any:
            return builder.sext(builder.load(pointer), index)

        source = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        scratch = context.make_array(sig.args[2])(context, builder, args[2]).data
        starts, runs, put, numbers = (builder.gep(scratch, [args[i]]) for i in (3, 5, 7, 10))
        least = cgutils.alloca_once_value(builder, ir.Constant(codes, [-1] * 2 * LANES))
        greatest = cgutils.alloca_once_value(builder, ir.Constant(codes, [0] * 2 * LANES))
        row_greatest = cgutils.alloca_once(builder, codes)
        found, filled = cgutils.alloca_once_value(builder, index(0)), cgutils.alloca_once(builder, index)
        for place, value in ((least, -1), (greatest, 0)):
            builder.store(ir.Constant(codes, [value] * 2 * LANES), place)
        builder.store(index(0), found)

        def take(of: Any, to: Any, i: Any, looking: bool) -> None:
            held = builder.bitcast(builder.gep(of, [i]), words.as_pointer())
            pair = builder.load(held, align=2)
            turn = function(f"llvm.fshl.v{LANES}i32", words, [words] * 3)
            turned = builder.call(turn, [pair, pair, ir.Constant(words, [16] * LANES)])
            builder.store(turned, builder.bitcast(builder.gep(to, [i]), words.as_pointer()), align=4)
            if not looking:
                return
            size = builder.and_(builder.bitcast(pair, codes), ir.Constant(codes, [MAGNITUDE] * 2 * LANES))
            choose("umin", least, builder.sub(size, ir.Constant(codes, [1] * 2 * LANES)))
            choose("umax", row_greatest, size)

        with cgutils.for_range(builder, args[4]) as row:
            first = builder.gep(source, [signed(builder.gep(starts, [row.index]))])
            at = builder.gep(put, [builder.mul(builder.load(found), args[8])])
            builder.store(ir.Constant(codes, [0] * 2 * LANES), row_greatest)
            builder.store(index(0), filled)
            with cgutils.for_range(builder, args[6]) as run:
                piece = builder.gep(runs, [builder.mul(run.index, index(2))])
                of = builder.bitcast(builder.gep(first, [signed(piece)]), single.as_pointer())
                size = signed(builder.gep(piece, [index(1)]))
                to = builder.gep(at, [builder.load(filled)])
                even = builder.and_(size, index(-2 * LANES))
                with builder.if_else(builder.icmp_signed("!=", args[11], index(0))) as (looking, passing):
                    for branch, looks in ((looking, True), (passing, False)):
                        with branch:
                            with cgutils.for_range_slice(builder, index(0), even, index(2 * LANES)) as (i, _):
                                take(of, to, i, looks)
                                take(of, to, builder.add(i, index(LANES)), looks)
                            with builder.if_then(builder.icmp_signed("<", even, size)):
                                take(of, to, even, looks)
                builder.store(builder.add(builder.load(filled), size), filled)
            builder.store(builder.trunc(row.index, single), builder.gep(numbers, [builder.load(found)]))
            choose("umax", greatest, builder.load(row_greatest))
            any_bit = function(f"llvm.vector.reduce.or.v{LANES}i32", single, [words])
            seen = builder.call(any_bit, [builder.bitcast(builder.load(row_greatest), words)])
            keep = builder.or_(
                builder.icmp_unsigned("!=", seen, single(0)), builder.icmp_signed("==", args[9], index(0))
            )
            builder.store(builder.add(builder.load(found), builder.zext(keep, index)), found)
        ends = []
        for name, place in (("umin", least), ("umax", greatest)):
            fold = function(f"llvm.vector.reduce.{name}.v{2 * LANES}i16", ir.IntType(16), [codes])
            ends.append(builder.zext(builder.call(fold, [builder.load(place)]), index))
        return context.make_tuple(builder, sig.return_type, [*ends, builder.load(found)])

    word = types.int64
    return types.UniTuple(word, 3)(u16, word, u32, word, word, word, word, word, word, word, word, word), emit


def _part_rows_plain(u32: Any, at: int, pitch: int, to: int, to_pitch: int, rows: int, pairs: int) -> None:
    words = -(-pairs // LANES) * LANES
    for r in range(rows):
        held = u32[at + r * pitch : at + r * pitch + words].copy()
        u32[to + r * to_pitch : to + r * to_pitch + 2 * words : 2] = held & np.uint32(0xFFFF0000)
        u32[to + r * to_pitch + 1 : to + r * to_pitch + 2 * words : 2] = held << np.uint32(16)


def _halves(builder: Any, pointer: Any) -> tuple[Any, Any]:
    """Return the upper and the lower halves of LANES words as fp32 bits."""
    words = ir.VectorType(ir.IntType(32), LANES)
    held = builder.load(builder.bitcast(pointer, words.as_pointer()), align=4)
    upper = builder.and_(held, ir.Constant(words, [0xFFFF0000] * LANES))
    return upper, builder.shl(held, ir.Constant(words, [16] * LANES))


@intrinsic(plain=_part_rows_plain)
def part_rows(typingctx: Any, u32: Any, at: Any, pitch: Any, to: Any, to_pitch: Any, rows: Any,
              pairs: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Write the halves of u32[at + r pitch + i] as fp32, upper first, to u32[to + r to_pitch + 2 i] and the next word.

    For r < rows and i < pairs; `pairs` is rounded up to a multiple of 16. No overlap.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index, words = ir.IntType(64), ir.VectorType(ir.IntType(32), LANES)
        scratch = context.make_array(sig.args[0])(context, builder, args[0]).data
        with cgutils.for_range(builder, args[5]) as row:
            get = builder.gep(scratch, [builder.add(args[1], builder.mul(row.index, args[2]))])
            put = builder.gep(scratch, [builder.add(args[3], builder.mul(row.index, args[4]))])
            with cgutils.for_range_slice(builder, index(0), args[6], index(LANES)) as (i, _):
                upper, lower = _halves(builder, builder.gep(get, [i]))
                for half in (0, LANES // 2):
                    order = [lane + side for lane in range(half, half + LANES // 2) for side in (0, LANES)]
                    mixed = builder.shuffle_vector(upper, lower, ir.Constant(words, order))
                    place = builder.gep(put, [builder.add(builder.mul(i, index(2)), index(2 * half))])
                    builder.store(mixed, builder.bitcast(place, words.as_pointer()), align=4)
        return context.get_dummy_value()

    word = types.int64
    return types.void(u32, word, word, word, word, word, word), emit


def _part_steps_plain(u32: Any, at: int, to: int, pairs: int) -> None:
    held = u32[at : at + 2 * LANES * pairs].reshape(pairs, 1, 2 * LANES)
    both = np.concatenate([held & np.uint32(0xFFFF0000), held << np.uint32(16)], axis=1)
    u32[to : to + 4 * LANES * pairs] = both.ravel()


@intrinsic(plain=_part_steps_plain)
def part_steps(typingctx: Any, u32: Any, at: Any, to: Any, pairs: Any) -> tuple[Any, Callable[..., Any]]:
    """u32[to + 64 p + i], u32[to + 64 p + 32 + i] = halves of u32[at + 32 p + i] as fp32, upper first, for i < 32.

    For p < pairs: a panel of pairs of steps becomes one of steps. No overlap.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index, words = ir.IntType(64), ir.VectorType(ir.IntType(32), LANES)
        scratch = context.make_array(sig.args[0])(context, builder, args[0]).data
        get, put = (builder.gep(scratch, [args[i]]) for i in (1, 2))
        with cgutils.for_range(builder, args[3]) as loop:
            for half in (0, LANES):
                at = builder.add(builder.mul(loop.index, index(2 * LANES)), index(half))
                to = builder.add(builder.mul(loop.index, index(4 * LANES)), index(half))
                for further, bits in zip((0, 2 * LANES), _halves(builder, builder.gep(get, [at])), strict=True):
                    place = builder.gep(put, [builder.add(to, index(further))])
                    builder.store(bits, builder.bitcast(place, words.as_pointer()), align=4)
        return context.get_dummy_value()

    word = types.int64
    return types.void(u32, word, word, word), emit


def _widen_steps_plain(u16: Any, start: int, step: int, u32: Any, to: int, depth: int) -> int:
    codes = u16[start + step * np.arange(depth)[:, None] + np.arange(2 * LANES)]
    u32[to : to + codes.size] = codes.ravel().astype(np.uint32) << np.uint32(16)
    return int((codes & np.uint16(MAGNITUDE)).max(initial=0))


@intrinsic(plain=_widen_steps_plain)
def widen_steps(typingctx: Any, u16: Any, start: Any, step: Any, u32: Any, to: Any,
                depth: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """u32[to + 32 k + i] = u16[start + k step + i] << 16 for k < depth, i < 32; return the greatest magnitude."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index, words, half = ir.IntType(64), ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(16), LANES)
        source = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        put = builder.gep(context.make_array(sig.args[3])(context, builder, args[3]).data, [args[4]])
        nothing = ir.Constant(words, [0] * LANES)
        greatest = cgutils.alloca_once_value(builder, nothing)
        builder.store(nothing, greatest)

        def function(name: str, result: Any, arguments: list[Any]) -> Any:
            known = builder.module.globals.get(name)
            return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)

        highest = function(f"llvm.umax.v{LANES}i32", words, [words, words])
        with cgutils.for_range(builder, args[5]) as loop:
            row = builder.gep(source, [builder.mul(loop.index, args[2])])
            line = builder.gep(put, [builder.mul(loop.index, index(2 * LANES))])
            for part in (0, LANES):
                held = builder.load(builder.bitcast(builder.gep(row, [index(part)]), half.as_pointer()), align=2)
                bits = builder.shl(builder.zext(held, words), ir.Constant(words, [16] * LANES))
                builder.store(bits, builder.bitcast(builder.gep(line, [index(part)]), words.as_pointer()), align=4)
                size = builder.and_(bits, ir.Constant(words, [MAGNITUDE << 16] * LANES))
                builder.store(builder.call(highest, [builder.load(greatest), size]), greatest)
        fold = function(f"llvm.vector.reduce.umax.v{LANES}i32", ir.IntType(32), [words])
        found = builder.call(fold, [builder.load(greatest)])
        return builder.zext(builder.lshr(found, ir.IntType(32)(16)), index)

    word = types.int64
    return word(u16, word, word, u32, word, word), emit


def _zeros_matter_plain(u32: Any, at: int, count: int) -> bool:
    codes = u32[at : at + count]
    return bool(((codes == np.uint32(0x80000000)) | ((codes & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000))).any())


@intrinsic(plain=_zeros_matter_plain)
def zeros_matter(typingctx: Any, u32: Any, at: Any, count: Any) -> tuple[Any, Callable[..., Any]]:
    """Return whether adding a zero can change one of the fp32 numbers u32[at : at + count]: one is -0 or NaN."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        single, index = ir.IntType(32), ir.IntType(64)
        first = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        found = cgutils.alloca_once_value(builder, ir.IntType(16)(0))
        whole = builder.and_(args[2], index(-LANES))

        def look(i: Any, lanes: int) -> None:
            kind: Any = single if lanes == 1 else ir.VectorType(single, lanes)

            def constant(bits: int) -> Any:
                return kind(bits) if lanes == 1 else ir.Constant(kind, [bits] * lanes)

            code = builder.load(builder.bitcast(builder.gep(first, [i]), kind.as_pointer()), align=4)
            size = builder.and_(code, constant(0x7FFFFFFF))
            matters = builder.or_(
                builder.icmp_unsigned("==", code, constant(0x80000000)),
                builder.icmp_unsigned(">", size, constant(0x7F800000)),
            )
            bits = builder.zext(matters, ir.IntType(16)) if lanes == 1 else builder.bitcast(matters, ir.IntType(16))
            builder.store(builder.or_(builder.load(found), bits), found)

        with cgutils.for_range_slice(builder, index(0), whole, index(LANES)) as (i, _):
            look(i, LANES)
        with cgutils.for_range_slice(builder, whole, args[2], index(1)) as (i, _):
            look(i, 1)
        return builder.icmp_unsigned("!=", builder.load(found), ir.IntType(16)(0))

    return types.boolean(u32, types.int64, types.int64), emit
