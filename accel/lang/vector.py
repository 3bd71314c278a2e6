"""`k.vec`: elementwise instructions and reductions of the vector unit."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from accel.errors import TraceError, UnsupportedError, nearest
from accel.isa import table
from accel.isa.codec import bits_of_float
from accel.isa.layout import SPACE_SRAM
from accel.lang.moves import own
from accel.lang.views import Layout, View

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer

__all__ = ["Vec"]

COMPUTES = ("fp32", "bf16")
IMMEDIATE = {
    "vec.add": "vec.addi",
    "vec.sub": "vec.addi",
    "vec.mul": "vec.muli",
    "vec.max": "vec.maxi",
    "vec.min": "vec.mini",
}
OPCODES = {row.mnemonic: row.opcode for row in table.ROWS}


def _numpy_shape(mnemonic: str, dst: Layout, x: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return x's dimensions stretched to those of dst, size-1 dimensions by stride 0."""
    lead = len(dst.shape) - len(x.shape)
    shape, strides = (1,) * lead + x.shape, (0,) * lead + x.strides
    if lead < 0 or any(have not in (1, want) for have, want in zip(shape, dst.shape, strict=True)):
        raise TraceError(f"k.{mnemonic}: {x} does not stretch to {dst}; dimensions are equal, 1, or missing in front")
    return dst.shape, tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


class Vec:
    """Vector instructions: `dst` first, then operands; computed in fp32, rounded once to the format of `dst`.

    All operands of one instruction have one format (fp32 or bf16); only `cast` changes it. A dimension of 1 in an
    operand stretches to that of `dst`. Where a number may stand for the second operand it is rounded to fp32 and
    carried in the instruction. A view may be operand and destination at once; where a destination overlaps an operand
    in part the result is not defined, which `check` reports as a race.
    """

    __slots__ = ("_known", "_t")

    def __init__(self, tracer: Tracer) -> None:
        self._t = tracer
        self._known: dict[tuple[object, ...], tuple[int, ...]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = [n for n in vars(Vec) if not n.startswith("_")]
        raise TraceError(f"k.vec has no {name!r}; it has {', '.join(known)}{nearest(name, known)}")

    # --- one operand ------------------------------------------------------------------------------------------------
    def copy(self, dst: View, x: View) -> None:
        """dst = x, bits untouched."""
        self._emit("vec.copy", dst, (x,))

    def cast(self, dst: View, x: View) -> None:
        """dst = x rounded to nearest even in the format of dst: the only instruction with two formats."""
        self._emit("vec.cast", dst, (x,))

    def neg(self, dst: View, x: View) -> None:
        """dst = -x."""
        self._emit("vec.neg", dst, (x,))

    def abs(self, dst: View, x: View) -> None:
        """dst = |x|."""
        self._emit("vec.abs", dst, (x,))

    def relu(self, dst: View, x: View) -> None:
        """dst = x where x > 0 or NaN, otherwise +0."""
        self._emit("vec.relu", dst, (x,))

    def sqrt(self, dst: View, x: View) -> None:
        """dst = the square root of x, correctly rounded."""
        self._emit("vec.sqrt", dst, (x,))

    def fill(self, dst: View, value: float) -> None:
        """dst = value in every element."""
        self._emit("vec.fill", dst, (), value)

    # --- two operands -----------------------------------------------------------------------------------------------
    def add(self, dst: View, x: View, y: View | float) -> None:
        """dst = x + y."""
        self._two("vec.add", dst, x, y)

    def sub(self, dst: View, x: View, y: View | float) -> None:
        """dst = x - y."""
        self._two("vec.sub", dst, x, y if isinstance(y, View) else -y)

    def mul(self, dst: View, x: View, y: View | float) -> None:
        """dst = x * y."""
        self._two("vec.mul", dst, x, y)

    def div(self, dst: View, x: View, y: View) -> None:
        """dst = x / y, correctly rounded; y is a view (for a constant, multiply, or fill a buffer)."""
        self._two("vec.div", dst, x, y)

    def max(self, dst: View, x: View, y: View | float) -> None:
        """dst = the larger of x and y; NaN wins."""
        self._two("vec.max", dst, x, y)

    def min(self, dst: View, x: View, y: View | float) -> None:
        """dst = the smaller of x and y; NaN wins."""
        self._two("vec.min", dst, x, y)

    # --- three operands ---------------------------------------------------------------------------------------------
    def fma(self, dst: View, x: View, y: View, z: View) -> None:
        """dst = x * y + z with one rounding to fp32."""
        self._emit("vec.fma", dst, (x, y, z))

    # --- over the last dimension ------------------------------------------------------------------------------------
    def reduce_sum(self, dst: View, x: View) -> None:
        """dst = the sum over the last dimension of x; dst has the shape of x with that dimension 1 or left out."""
        self._emit("vec.reduce_sum", dst, (x,))

    def reduce_max(self, dst: View, x: View) -> None:
        """dst = the largest over the last dimension of x; dst has the shape of x with that dimension 1 or left out."""
        self._emit("vec.reduce_max", dst, (x,))

    def reduce_min(self, dst: View, x: View) -> None:
        """dst = the smallest over the last dimension of x; dst has the shape of x with that dimension 1 or left out."""
        self._emit("vec.reduce_min", dst, (x,))

    # --- emission ---------------------------------------------------------------------------------------------------
    def _two(self, mnemonic: str, dst: View, x: View, y: View | float) -> None:
        if isinstance(y, View):
            self._emit(mnemonic, dst, (x, y))
        elif mnemonic in IMMEDIATE:
            self._emit(IMMEDIATE[mnemonic], dst, (x,), y)
        else:
            raise TraceError(f"k.{mnemonic} takes a view as second operand, not {y!r}; k.vec.fill a buffer with it")

    def _emit(self, mnemonic: str, dst: View, operands: tuple[View, ...], number: float | None = None) -> None:
        t = self._t
        try:
            key: tuple[object, ...] = (mnemonic, dst.lay, *[x.lay for x in operands])
        except AttributeError:
            everything: tuple[object, ...] = (dst, *operands)
            bad = next(x for x in everything if not isinstance(x, View))
            raise TraceError(f"k.{mnemonic} takes views of SRAM buffers, not {bad!r}; index a k.sram buffer") from None
        ids = self._known.get(key)
        if ids is None:
            ids = self._check(mnemonic, dst.lay, [x.lay for x in operands])
            if not any(x.lay.guard for x in (dst, *operands)):  # a guarded view is checked at every use
                self._known[key] = ids
        words = [OPCODES[mnemonic], t.active.pid, t.line(sys._getframe(2)), ids[0], dst.c, t.eid(dst.s)]
        for index, x in zip(ids[1:], operands, strict=True):
            words += (index, x.c, t.eid(x.s))
        if number is not None:
            words.append(_bits(mnemonic, number))
        t.push((*words, *(0,) * (16 - len(words))))

    def _check(self, mnemonic: str, dst: Layout, operands: list[Layout]) -> tuple[int, ...]:
        for lay in (dst, *operands):
            own(self._t, lay)
            if lay.space != SPACE_SRAM:
                raise TraceError(f"k.{mnemonic} works on SRAM, and {lay.name!r} is a tensor in memory; k.copy it first")
            if lay.dtype not in COMPUTES:
                raise UnsupportedError(
                    f"k.{mnemonic}: the vector unit takes fp32 and bf16, and {lay.name!r} is {lay.dtype}"
                )
        if mnemonic != "vec.cast" and len({lay.dtype for lay in (dst, *operands)}) > 1:
            shown = ", ".join(dict.fromkeys(f"{lay.name!r} is {lay.dtype}" for lay in (dst, *operands)))
            raise TraceError(f"k.{mnemonic} never converts: {shown}; k.vec.cast to one format first")
        if mnemonic.startswith("vec.reduce"):
            return self._reduction(mnemonic, dst, operands[0])
        kept = [i for i, n in enumerate(dst.shape) if n != 1]
        views = [dst.plain()]
        for x in operands:
            shape, strides = _numpy_shape(mnemonic, dst, x)
            views.append(x.view_id(tuple(shape[i] for i in kept), tuple(strides[i] for i in kept)))
        return tuple(views)

    def _reduction(self, mnemonic: str, dst: Layout, x: Layout) -> tuple[int, ...]:
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


def _bits(mnemonic: str, number: float) -> int:
    try:
        value = float(number)
    except (TypeError, ValueError):
        raise TraceError(f"k.{mnemonic} takes a number or a view here, not {number!r}") from None
    bits = bits_of_float(value)
    if math.isfinite(value) and bits & 0x7FFFFFFF == 0x7F800000:
        raise TraceError(f"k.{mnemonic}: {value!r} is beyond the range of fp32; use a smaller number or float('inf')")
    return bits
