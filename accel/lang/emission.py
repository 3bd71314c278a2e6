"""How a vector instruction is checked and emitted: spaces, formats, stretched shapes, numbers, logical indices."""

from __future__ import annotations

import math
import operator
import sys
from typing import TYPE_CHECKING, NamedTuple

from accel.errors import TraceError, UnsupportedError
from accel.isa import table
from accel.isa.codec import bits_of_float
from accel.isa.fitting import BYTES, FLOATS, INTEGERS, MOVES, ONE_FORMAT, TAKES
from accel.isa.layout import CODE_WORDS, SPACE_SRAM
from accel.lang.allocation import checked_shape
from accel.lang.expr import Expr, Int
from accel.lang.moves import own
from accel.lang.views import Layout, View

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer

__all__ = ["Element", "VectorUnit", "element", "said"]

OPCODES = {row.mnemonic: row.opcode for row in table.ROWS}
CONVERTS = frozenset({"vec.cast", "vec.cast_sr"})  # the only rows that take two formats
SAID = {"vec.addi": "vec.add", "vec.muli": "vec.mul", "vec.maxi": "vec.max", "vec.mini": "vec.min",
        "vec.comparei": "vec.compare", "vec.cast_sr": "vec.cast"}  # fmt: skip
LARGEST_STREAM = (1 << 32) - 1


class Element(NamedTuple):
    """The logical index of a view's first element in a whole tensor, and the step of each of its dimensions."""

    first: Int
    steps: tuple[int, ...]
    shape: tuple[int, ...] = ()  # of the whole tensor; empty where there is only a number


def element(shape: object, origin: tuple[Int, ...]) -> Element:
    """Return the logical index of element `origin` (missing ones are 0) of a tensor of this shape, row-major."""
    whole = checked_shape("the whole tensor of a k.element", shape)
    for at in origin:
        _index_like("k.element", at)
    if len(origin) > len(whole):
        raise TraceError(
            f"k.element of a tensor of shape {whole} takes at most {len(whole)} indices, got {len(origin)}"
        )
    steps = [1]
    for n in reversed(whole[1:]):
        steps.insert(0, steps[0] * n)
    first: Int = 0
    for at, step in zip(origin, steps, strict=False):
        first = at * step + first
    return Element(first, tuple(steps), whole)


def _index_like(what: str, given: object) -> None:
    if not isinstance(given, Expr) and not hasattr(given, "__index__"):
        raise TraceError(f"{what}: an index is an int, k.row, k.col, a loop index or a sum of them, not {given!r}")


def said(mnemonic: str) -> str:
    """Return what the author wrote to get this instruction."""
    return SAID.get(mnemonic, mnemonic)


def numpy_shape(mnemonic: str, dst: Layout, x: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return x's dimensions stretched to those of dst, size-1 dimensions by stride 0."""
    lead = len(dst.shape) - len(x.shape)
    shape, strides = (1,) * lead + x.shape, (0,) * lead + x.strides
    if lead < 0 or any(have not in (1, want) for have, want in zip(shape, dst.shape, strict=True)):
        raise TraceError(
            f"k.{said(mnemonic)}: {x} does not stretch to {dst}; dimensions are equal, 1, or missing in front"
        )
    return dst.shape, tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


class VectorUnit:
    """The workings behind `k.vec`: each distinct set of layouts is checked once, then remembered."""

    __slots__ = ("_known", "_t")

    def __init__(self, tracer: Tracer) -> None:
        self._t = tracer
        self._known: dict[tuple[object, ...], tuple[int, ...]] = {}

    def _emit(
        self, mnemonic: str, dst: View, operands: tuple[View, ...], number: float | None = None,
        tail: tuple[int, ...] = (), above: int = 2,
    ) -> None:  # fmt: skip
        """Emit a row: dst, operands, then the number (rounded to fp32, or an int32), then the words of `tail`.

        above: how many frames up the author's line is.
        """
        t = self._t
        try:
            key: tuple[object, ...] = (mnemonic, dst.lay, *[x.lay for x in operands])
        except AttributeError:
            everything: tuple[object, ...] = (dst, *operands)
            bad = next(x for x in everything if not isinstance(x, View))
            number_given = isinstance(bad, int | float) and isinstance(dst, View)
            way = "k.vec.fill a buffer with it, one element is enough" if number_given else "index a k.sram buffer"
            raise TraceError(f"k.{said(mnemonic)} takes views of SRAM buffers, not {bad!r}; {way}") from None
        ids = self._known.get(key)
        if ids is None:
            ids = self._check(mnemonic, dst.lay, [x.lay for x in operands])
            if not any(x.lay.guard for x in (dst, *operands)):  # a guarded view is checked at every use
                self._known[key] = ids
        words = [OPCODES[mnemonic], t.active.pid, t.line(sys._getframe(above)), ids[0], dst.c, t.eid(dst.s)]
        for index, x in zip(ids[1:], operands, strict=True):
            words += (index, x.c, t.eid(x.s))
        if number is not None:
            like = operands[0] if operands else dst
            words.append((_int_bits if like.lay.dtype in INTEGERS else _bits)(mnemonic, number))
            if not operands and dst.lay.dtype in BYTES:
                _one_byte(mnemonic, dst.lay, int(number))
        words += tail
        t.push((*words, *(0,) * (CODE_WORDS - len(words))))

    def _index(self, mnemonic: str, dst: View, index: Element | Int | None) -> tuple[int, ...]:
        """Return the six words of a logical index for a destination: first element, then the step of each dimension."""
        if not isinstance(dst, View):
            raise TraceError(f"k.{said(mnemonic)} takes views of SRAM buffers, not {dst!r}; index a k.sram buffer")
        if not isinstance(index, Element):
            if index is not None:
                _index_like(f"k.{said(mnemonic)}", index)
            index = Element(0 if index is None else index, element(dst.shape, ()).steps)
        if len(index.steps) < len(dst.shape):
            raise TraceError(
                f"k.{said(mnemonic)}: {dst.lay} has more dimensions than the tensor it is a part of; "
                "give k.element the whole shape"
            )
        if index.shape and any(n > m for n, m in zip(dst.shape[::-1], index.shape[::-1], strict=False)):
            raise TraceError(
                f"k.{said(mnemonic)}: {dst.lay} is larger than the tensor {index.shape} it is a part of, so that "
                "indices would run on into the next rows; give k.element the whole shape, or take a smaller view"
            )
        steps = index.steps[len(index.steps) - len(dst.shape) :]
        kept = [step for step, n in zip(steps, dst.shape, strict=True) if n != 1]
        first = index.first
        c, e = (first.c, self._t.eid(first.s)) if isinstance(first, Expr) else (operator.index(first), 0)
        return (c, e, *(0,) * (4 - len(kept)), *kept)

    def _stream(self, mnemonic: str, stream: object) -> int:
        if isinstance(stream, bool) or not isinstance(stream, int) or not 0 <= stream <= LARGEST_STREAM:
            raise TraceError(
                f"k.{said(mnemonic)}: stream={stream!r}; name the random stream by an int from 0 to {LARGEST_STREAM}"
            )
        return stream

    def _check(self, mnemonic: str, dst: Layout, operands: list[Layout]) -> tuple[int, ...]:
        """Return the descriptor ids of dst and operands; TraceError (UnsupportedError) where they do not fit."""
        names = [o.name for o in table.BY_MNEMONIC[mnemonic].views]
        for name, lay in zip(names, (dst, *operands), strict=True):
            own(self._t, lay)
            if lay.space != SPACE_SRAM:
                raise TraceError(
                    f"k.{said(mnemonic)} works on SRAM, and {lay.name!r} is a tensor in memory; k.copy it first"
                )
            taken = TAKES.get((mnemonic, name))
            if taken is not None and lay.dtype not in taken:
                raise UnsupportedError(
                    f"k.{said(mnemonic)}: {lay.name!r} is {lay.dtype}, and {name} is {' or '.join(sorted(taken))}; "
                    + ("write to a buffer of that" if name == "dst" else "k.vec.cast to that")
                )
        if mnemonic not in CONVERTS:
            rounds = (
                mnemonic not in MOVES
                and mnemonic not in ONE_FORMAT
                and {dst.dtype} | {lay.dtype for lay in operands} <= FLOATS
            )  # arithmetic rounds once to dst, whatever float format that is
            self._one_format(
                mnemonic,
                [
                    lay
                    for n, lay in zip(names, (dst, *operands), strict=True)
                    if ((mnemonic, n) not in TAKES or n in ONE_FORMAT.get(mnemonic, ())) and not (rounds and n == "dst")
                ],
            )
        if mnemonic in MOVES:
            self._one_bias(mnemonic, [lay for n, lay in zip(names, (dst, *operands), strict=True)
                                      if n in MOVES[mnemonic]])  # fmt: skip
        if mnemonic.startswith("vec.reduce"):
            return self._reduction(mnemonic, dst, operands[0])
        if mnemonic == "vec.transpose":
            return self._transposed(dst, operands[0])
        if mnemonic in ("vec.gather", "vec.scatter_add"):
            return self._rows(mnemonic, dst, *operands)
        kept = [i for i, n in enumerate(dst.shape) if n != 1]
        views = [dst.plain()]
        for x in operands:
            shape, strides = numpy_shape(mnemonic, dst, x)
            views.append(x.view_id(tuple(shape[i] for i in kept), tuple(strides[i] for i in kept)))
        return tuple(views)

    @staticmethod
    def _one_format(mnemonic: str, layouts: list[Layout]) -> None:
        formats = {lay.dtype for lay in layouts}
        if len(formats) > 1:
            shown = ", ".join(dict.fromkeys(f"{lay.name!r} is {lay.dtype}" for lay in layouts))
            raise TraceError(f"k.{said(mnemonic)} never converts: {shown}; k.vec.cast to one format first")
        row = table.BY_MNEMONIC[mnemonic]
        if formats and formats <= INTEGERS and row.cost == "vector" and row.semantics and row.integer is None:
            raise UnsupportedError(
                f"k.{said(mnemonic)} computes in floats, and {layouts[0].name!r} is {layouts[0].dtype}; "
                "k.vec.cast first"
            )

    @staticmethod
    def _one_bias(mnemonic: str, layouts: list[Layout]) -> None:
        """Raise TraceError where bits would move to another fixed bias; a bias in SRAM is the author's affair."""
        first = layouts[0]
        for lay in layouts[1:]:
            if lay.more[2] != first.more[2] and not (lay.more[3] or first.more[3]):
                raise TraceError(
                    f"k.{said(mnemonic)} moves bits: {first.name!r} and {lay.name!r} are {first.dtype} of different "
                    "bias or denormals; k.vec.cast to one of them first"
                )

    @staticmethod
    def _reduction(mnemonic: str, dst: Layout, x: Layout) -> tuple[int, ...]:
        if dst.shape == (*x.shape[:-1], 1):
            strides = dst.strides[:-1]
        elif dst.shape == x.shape[:-1]:
            strides = dst.strides
        else:
            raise TraceError(
                f"k.{mnemonic} of {x} gives {(*x.shape[:-1], 1)}, and {dst.name!r} is {dst.shape}; "
                "the last dimension becomes 1 or is left out"
            )
        return dst.view_id((*x.shape[:-1], 1), (*strides, 0)), x.view_id(x.shape, x.strides)

    @staticmethod
    def _transposed(dst: Layout, x: Layout) -> tuple[int, ...]:
        if len(x.shape) < 2 or dst.shape != (*x.shape[:-2], x.shape[-1], x.shape[-2]):
            raise TraceError(f"k.vec.transpose of {x} into {dst}; the last two dimensions change places")
        return dst.view_id(dst.shape, dst.strides), x.view_id(x.shape, x.strides)

    @staticmethod
    def _rows(mnemonic: str, dst: Layout, x: Layout, index: Layout) -> tuple[int, ...]:
        moved = dst if mnemonic == "vec.gather" else x
        if len(dst.shape) != 2 or len(x.shape) != 2 or dst.shape[1] != x.shape[1] or index.shape != moved.shape[:1]:
            raise TraceError(
                f"k.{mnemonic} of rows of {x} by {index} into {dst}; tables and rows are (rows, columns) with the same "
                "columns, indices one a row"
            )
        return tuple(lay.view_id(lay.shape, lay.strides) for lay in (dst, x, index))


def _bits(mnemonic: str, number: float) -> int:
    try:
        value = float(number)
    except (TypeError, ValueError):
        raise TraceError(f"k.{said(mnemonic)} takes a number or a view here, not {number!r}") from None
    bits = bits_of_float(value)
    if math.isfinite(value) and bits & 0x7FFFFFFF == 0x7F800000:
        raise TraceError(
            f"k.{said(mnemonic)}: {value!r} is beyond the range of fp32; use a smaller number or float('inf')"
        )
    return bits


def _int_bits(mnemonic: str, number: object) -> int:
    try:
        value = operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise TraceError(
            f"k.{said(mnemonic)} computes in integers here and takes an int, not {number!r}; k.vec.cast the operands "
            "to a float format first"
        ) from None
    if not -(1 << 31) <= value < 1 << 31:
        raise TraceError(f"k.{said(mnemonic)}: {value} is outside int32; keep it in -2^31 .. 2^31 - 1")
    return value & 0xFFFFFFFF


def _one_byte(mnemonic: str, dst: Layout, value: int) -> None:
    low, high = (-128, 127) if dst.dtype == "int8" else (0, 255)
    if not low <= value <= high:
        raise TraceError(f"k.{said(mnemonic)}: {value} is outside {dst.dtype}; keep it in {low} .. {high}")
