"""Panels of bf16 pairs, word by word: rows joined, steps of a row exchanged, and the range of what a panel holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import cgutils, intrinsic, ir, types
from accel.machine.microkernel import chains_at

__all__ = ["NO_STEP", "RANGE", "chain_range", "clear_range", "join_steps", "pair_range", "read_range", "swap_pairs"]

LANES = 16
# What stands in the left panel for a step that does not exist: -0. Times the +0 of the right panel it adds -0, which
# leaves every chain as it is, -0 included.
NO_STEP = np.uint32(0x8000)
RANGE = 2 * LANES  # words of a running range: a vector of least magnitudes - 1, one of greatest magnitudes


def _pointer(context: Any, builder: Any, sig: Any, args: Any, i: int, at: Any) -> Any:
    return builder.gep(context.make_array(sig.args[i])(context, builder, args[i]).data, [at])


def _load(builder: Any, pointer: Any, lanes: int, align: int) -> Any:
    kind = ir.VectorType(pointer.type.pointee, lanes).as_pointer()
    return builder.load(builder.bitcast(pointer, kind), align=align)


def _function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


class _Range:
    """Emits a running range: taken from its note into registers, widened word by word, put back."""

    def __init__(self, builder: Any, note: Any) -> None:
        self.builder, self.kind = builder, ir.VectorType(ir.IntType(16), 2 * LANES)
        self.noted = [
            builder.bitcast(builder.gep(note, [ir.IntType(64)(at)]), self.kind.as_pointer()) for at in (0, LANES)
        ]
        self.held = [cgutils.alloca_once_value(builder, builder.load(place, align=4)) for place in self.noted]

    def widen(self, words: Any) -> None:
        """Take in the codes of a vector of words."""
        builder = self.builder
        size = builder.and_(builder.bitcast(words, self.kind), ir.Constant(self.kind, [0x7FFF] * 2 * LANES))
        less = builder.sub(size, ir.Constant(self.kind, [1] * 2 * LANES))
        for name, place, value in (("umin", self.held[0], less), ("umax", self.held[1], size)):
            choose = _function(builder, f"llvm.{name}.v{2 * LANES}i16", self.kind, [self.kind, self.kind])
            builder.store(builder.call(choose, [builder.load(place), value]), place)

    def put_back(self) -> None:
        """Write the range to its note."""
        for place, held in zip(self.noted, self.held, strict=True):
            self.builder.store(self.builder.load(held), place, align=4)


def _widen_range(u32: Any, note: int, words: Any) -> None:
    size = words.view(np.uint16) & np.uint16(0x7FFF)
    held = u32[note : note + RANGE].view(np.uint16)
    for codes in (size[i : i + 2 * LANES] for i in range(0, size.size, 2 * LANES)):
        held[: codes.size] = np.minimum(held[: codes.size], codes - np.uint16(1))
        held[2 * LANES : 2 * LANES + codes.size] = np.maximum(held[2 * LANES : 2 * LANES + codes.size], codes)


def _clear_range_plain(u32: Any, note: int) -> None:
    u32[note : note + LANES], u32[note + LANES : note + RANGE] = 0xFFFFFFFF, 0


@intrinsic(plain=_clear_range_plain)
def clear_range(typingctx: Any, u32: Any, note: Any) -> tuple[Any, Callable[..., Any]]:
    """Make u32[note : note + RANGE] the range of no codes."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        words = ir.VectorType(ir.IntType(32), LANES)
        first = _pointer(context, builder, sig, args, 0, args[1])
        for at, value in ((0, -1), (LANES, 0)):
            place = builder.bitcast(builder.gep(first, [ir.IntType(64)(at)]), words.as_pointer())
            builder.store(ir.Constant(words, [value] * LANES), place, align=4)
        return context.get_dummy_value()

    return types.void(u32, types.int64), emit


def _read_range_plain(u32: Any, note: int) -> tuple[int, int]:
    held = u32[note : note + RANGE].view(np.uint16)
    return int(held[: 2 * LANES].min()), int(held[2 * LANES :].max())


@intrinsic(plain=_read_range_plain)
def read_range(typingctx: Any, u32: Any, note: Any) -> tuple[Any, Callable[..., Any]]:
    """Return (least nonzero magnitude - 1, greatest magnitude) of the bf16 codes noted at u32[note] since it was clear.

    Magnitudes are codes without their sign; where all are zero, (0xFFFF, 0).
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, index = ir.VectorType(ir.IntType(16), 2 * LANES), ir.IntType(64)
        first, ends = _pointer(context, builder, sig, args, 0, args[1]), []
        for name, at in (("umin", 0), ("umax", LANES)):
            fold = _function(builder, f"llvm.vector.reduce.{name}.v{2 * LANES}i16", ir.IntType(16), [kind])
            place = builder.bitcast(builder.gep(first, [index(at)]), kind.as_pointer())
            ends.append(builder.zext(builder.call(fold, [builder.load(place, align=4)]), index))
        return context.make_tuple(builder, sig.return_type, ends)

    return types.UniTuple(types.int64, 2)(u32, types.int64), emit


def _join_steps_plain(u16: Any, start: int, step: int, u32: Any, to: int, pairs: int, note: int) -> None:
    columns = np.arange(2 * LANES)
    for p in range(pairs):
        upper, lower = (u16[start + (2 * p + i) * step + columns].astype(np.uint32) for i in (0, 1))
        words = (upper << np.uint32(16)) | lower
        u32[to + 2 * LANES * p : to + 2 * LANES * (p + 1)] = words
        _widen_range(u32, note, words)


@intrinsic(plain=_join_steps_plain)
def join_steps(typingctx: Any, u16: Any, start: Any, step: Any, u32: Any, to: Any, pairs: Any,
               note: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """u32[to + 32 p + i] = u16[start + 2 p step + i] << 16 | u16[start + (2 p + 1) step + i], p < pairs, i < 32.

    Widens the running range at u32[note]. No overlap.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        words, index = ir.VectorType(ir.IntType(32), LANES), ir.IntType(64)
        source = _pointer(context, builder, sig, args, 0, args[1])
        put, note = (_pointer(context, builder, sig, args, 3, args[i]) for i in (4, 6))
        seen = _Range(builder, note)
        with cgutils.for_range(builder, args[5]) as loop:
            upper = builder.gep(source, [builder.mul(loop.index, builder.mul(args[2], index(2)))])
            lower = builder.gep(upper, [args[2]])
            row = builder.gep(put, [builder.mul(loop.index, index(2 * LANES))])
            high, low = (_load(builder, p, 2 * LANES, 2) for p in (upper, lower))
            for half in (0, LANES):  # words of a lower and an upper half in turn
                order = [i + side for i in range(half, half + LANES) for side in (0, 2 * LANES)]
                lanes = ir.Constant(ir.VectorType(ir.IntType(32), 2 * LANES), order)
                joined = builder.bitcast(builder.shuffle_vector(low, high, lanes), words)
                builder.store(joined, builder.bitcast(builder.gep(row, [index(half)]), words.as_pointer()), align=4)
            seen.widen(high)
            seen.widen(low)
        seen.put_back()
        return context.get_dummy_value()

    word = types.int64
    return types.void(u16, word, word, u32, word, word, word), emit


def _swap_pairs_plain(u16: Any, source: int, u32: Any, to: int, pairs: int, note: int) -> None:
    codes = u16[source : source + 2 * pairs].astype(np.uint32)
    u32[to + pairs : to + -(-pairs // LANES) * LANES] = 0
    u32[to : to + pairs] = words = (codes[::2] << np.uint32(16)) | codes[1::2]
    _widen_range(u32, note, words)


@intrinsic(plain=_swap_pairs_plain)
def swap_pairs(typingctx: Any, u16: Any, source: Any, u32: Any, to: Any, pairs: Any,
               note: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """u32[to + i] = u16[source + 2 i] << 16 | u16[source + 2 i + 1] for i < pairs, and up to 15 words beyond are 0.

    Widens the running range at u32[note]. No overlap.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        single, index = ir.IntType(32), ir.IntType(64)
        words = ir.VectorType(single, LANES)
        get = _pointer(context, builder, sig, args, 0, args[1])
        put, note = (_pointer(context, builder, sig, args, 2, args[i]) for i in (3, 5))
        get = builder.bitcast(get, single.as_pointer())
        sixteen, whole = ir.Constant(words, [16] * LANES), builder.and_(args[4], index(-LANES))
        seen = _Range(builder, note)
        with cgutils.for_range_slice(builder, index(0), whole, index(LANES)) as (i, _):
            held = _load(builder, builder.gep(get, [i]), LANES, 2)
            turned = builder.or_(builder.shl(held, sixteen), builder.lshr(held, sixteen))
            builder.store(turned, builder.bitcast(builder.gep(put, [i]), words.as_pointer()), align=4)
            seen.widen(turned)
        with builder.if_then(builder.icmp_signed("<", whole, args[4])):
            tail = builder.bitcast(builder.gep(put, [whole]), words.as_pointer())
            builder.store(ir.Constant(words, [0] * LANES), tail, align=4)
            with cgutils.for_range_slice(builder, whole, args[4], index(1)) as (i, _):
                held = builder.load(builder.gep(get, [i]), align=2)
                turned = builder.or_(builder.shl(held, single(16)), builder.lshr(held, single(16)))
                builder.store(turned, builder.gep(put, [i]))
            seen.widen(builder.load(tail, align=4))
        seen.put_back()
        return context.get_dummy_value()

    word = types.int64
    return types.void(u16, word, u32, word, word, word), emit


def _emit_range(builder: Any, place: Callable[[Any], Any], rows: Any, count: Any, bits: int) -> tuple[Any, Any]:
    """Return (least, greatest) over rows x count codes of `bits` bits: magnitude - 1 modulo 2^bits, and magnitude.

    A zero counts as the greatest number for the least, so it changes neither. place(r): pointer to row r. count: a
    multiple of 16 words.
    """
    code, index = ir.IntType(bits), ir.IntType(64)
    lanes = LANES * 32 // bits
    kind = ir.VectorType(code, lanes)
    magnitude = ir.Constant(kind, [(1 << (bits - 1)) - 1] * lanes)
    one = ir.Constant(kind, [1] * lanes)
    small = cgutils.alloca_once_value(builder, ir.Constant(kind, [-1] * lanes))
    large = cgutils.alloca_once_value(builder, ir.Constant(kind, [0] * lanes))
    for name, held in (("umin", small), ("umax", large)):
        _function(builder, f"llvm.{name}.v{lanes}i{bits}", kind, [kind, kind])
        builder.store(ir.Constant(kind, [-1 if name == "umin" else 0] * lanes), held)
    with cgutils.for_range_slice(builder, index(0), rows, index(1)) as (r, _):
        row = place(r)
        with cgutils.for_range_slice(builder, index(0), count, index(LANES)) as (i, _):
            words = _load(builder, builder.gep(row, [i]), LANES, 4)
            size = builder.and_(builder.bitcast(words, kind), magnitude)
            for name, held, value in (("umin", small, builder.sub(size, one)), ("umax", large, size)):
                choose = _function(builder, f"llvm.{name}.v{lanes}i{bits}", kind, [kind, kind])
                builder.store(builder.call(choose, [builder.load(held), value]), held)
    ends = []
    for name, held in (("umin", small), ("umax", large)):
        fold = _function(builder, f"llvm.vector.reduce.{name}.v{lanes}i{bits}", code, [kind])
        ends.append(builder.zext(builder.call(fold, [builder.load(held)]), index))
    return ends[0], ends[1]


def _range_plain(magnitudes: Any, none: int) -> tuple[int, int]:
    nonzero = magnitudes[magnitudes != 0]
    return (int(nonzero.min()) - 1, int(nonzero.max())) if nonzero.size else (none, 0)


def _pair_range_plain(u32: Any, at: int, pitch: int, rows: int, count: int) -> tuple[int, int]:
    words = u32[at + pitch * np.arange(rows)[:, None] + np.arange(count)]
    return _range_plain(words.view(np.uint16) & np.uint16(0x7FFF), 0xFFFF)


@intrinsic(plain=_pair_range_plain)
def pair_range(typingctx: Any, u32: Any, at: Any, pitch: Any, rows: Any,
               count: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Return (least nonzero magnitude - 1, greatest magnitude) of the bf16 codes in words u32[at + r * pitch + i].

    For rows x count words, count a multiple of 16. Magnitudes are codes without their sign; where all are zero,
    (0xFFFF, 0).
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = _pointer(context, builder, sig, args, 0, args[1])
        ends = _emit_range(builder, lambda r: builder.gep(first, [builder.mul(r, args[2])]), args[3], args[4], 16)
        return context.make_tuple(builder, sig.return_type, ends)

    word = types.int64
    return types.UniTuple(word, 2)(u32, word, word, word, word), emit


def _chain_range_plain(f32: Any, at: int, t: Any, it: int, rows: int, columns: int) -> tuple[int, int]:
    bits = f32.view(np.uint32)[chains_at(at, t, it, rows, columns)]
    return _range_plain(bits & np.uint32(0x7FFFFFFF), 0xFFFFFFFF)


@intrinsic(plain=_chain_range_plain)
def chain_range(typingctx: Any, f32: Any, at: Any, t: Any, it: Any, rows: Any,
                columns: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Return (least nonzero magnitude - 1, greatest magnitude) of the bits of f32[at + t[it + r] + n].

    As `pair_range`, for rows x columns fp32 numbers; where all are zero, (0xFFFFFFFF, 0). columns: a multiple of 16;
    t: uint32, read as signed.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = _pointer(context, builder, sig, args, 0, args[1])
        first = builder.bitcast(first, ir.IntType(32).as_pointer())
        table = _pointer(context, builder, sig, args, 2, args[3])

        def place(r: Any) -> Any:
            return builder.gep(first, [builder.sext(builder.load(builder.gep(table, [r])), ir.IntType(64))])

        ends = _emit_range(builder, place, args[4], args[5], 32)
        return context.make_tuple(builder, sig.return_type, ends)

    word = types.int64
    return types.UniTuple(word, 2)(f32, word, t, word, word, word), emit
