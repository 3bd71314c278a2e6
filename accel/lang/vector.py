"""`k.vec`: elementwise instructions, masks, conversions, random numbers, reductions and rows by index."""

from __future__ import annotations

from typing import Any

from accel.errors import TraceError, nearest
from accel.isa import semantics
from accel.isa.fitting import INTEGERS
from accel.lang.emission import Element, VectorUnit
from accel.lang.expr import Int
from accel.lang.views import View

__all__ = ["Vec"]

IMMEDIATE = {
    "vec.add": "vec.addi",
    "vec.sub": "vec.addi",
    "vec.mul": "vec.muli",
    "vec.max": "vec.maxi",
    "vec.min": "vec.mini",
}
RELATIONS = {"==": semantics.EQ, "!=": semantics.NE, "<": semantics.LT, "<=": semantics.LE, ">": semantics.GT,
             ">=": semantics.GE}  # fmt: skip
# What other array languages call a row of ours.
ELSEWHERE = {"where": "select", "maximum": "max", "minimum": "min", "sum": "reduce_sum", "divide": "div",
             "multiply": "mul", "subtract": "sub", "arange": "iota", "rand": "random", "astype": "cast"}  # fmt: skip


class Vec(VectorUnit):
    """Vector instructions: `dst` first, then operands; computed in fp32, rounded once to the format of `dst`.

    All operands of one instruction have one format. Where it is a float format `dst` may be another one, since
    arithmetic rounds once on the way out; where it is an integer one `dst` has it too, and the instruction computes in
    int32 modulo 2^32. A dimension of 1 in an operand stretches to that of `dst`, so a scalar in
    SRAM is a view of one element. Where a number may stand for the second operand it is rounded to fp32 (in integer
    formats it is an int) and carried in the instruction. A view may be operand and destination at once; where a
    destination overlaps an operand in part the result is not defined, which `check` reports as a race.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = [n for n in vars(Vec) if not n.startswith("_")]
        hint = f"; use {ELSEWHERE[name]!r}" if name in ELSEWHERE else nearest(name, known)
        raise TraceError(f"k.vec has no {name!r}; it has {', '.join(known)}{hint}")

    # --- one operand ------------------------------------------------------------------------------------------------
    def copy(self, dst: View, x: View) -> None:
        """dst = x, bits untouched."""
        self._emit("vec.copy", dst, (x,))

    def cast(
        self, dst: View, x: View, rounding: str = "nearest", *, stream: int | None = None,
        index: Element | Int | None = None,
    ) -> None:  # fmt: skip
        """dst = x in the format of dst, rounded to nearest even: floats, integers or both.

        rounding="stochastic" rounds at random, up with the probability of the distance from below. Random numbers are
        keyed by the seed of the run, `stream` (an int that names this use of them) and the logical index of each
        element in its whole tensor, `index=k.element(shape, ...)`; without it elements count from 0 in dst.
        """
        if rounding == "nearest":
            if stream is not None or index is not None:
                raise TraceError('k.vec.cast to nearest draws no random numbers; give rounding="stochastic" too')
            self._emit("vec.cast", dst, (x,))
        elif rounding == "stochastic":
            name = "vec.cast_sr"
            tail = (self._stream(name, stream), *self._index(name, dst, index))
            self._emit(name, dst, (x,), None, tail)
        else:
            raise TraceError(f"k.vec.cast: rounding={rounding!r}; use 'nearest' or 'stochastic'")

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

    def exp(self, dst: View, x: View) -> None:
        """dst = e^x, within 1 ulp of fp32."""
        self._emit("vec.exp", dst, (x,))

    def log(self, dst: View, x: View) -> None:
        """dst = the natural logarithm of x, within 1 ulp of fp32; -Inf at zero, NaN below."""
        self._emit("vec.log", dst, (x,))

    def tanh(self, dst: View, x: View) -> None:
        """dst = the hyperbolic tangent of x, within 1.5 ulp of fp32."""
        self._emit("vec.tanh", dst, (x,))

    def sigmoid(self, dst: View, x: View) -> None:
        """dst = 1 / (1 + e^-x), within 1.5 ulp of fp32."""
        self._emit("vec.sigmoid", dst, (x,))

    def erf(self, dst: View, x: View) -> None:
        """dst = the error function of x, within 1.1 ulp of fp32."""
        self._emit("vec.erf", dst, (x,))

    def rsqrt(self, dst: View, x: View) -> None:
        """dst = 1 / the square root of x, within 1 ulp of fp32; infinite at zero, NaN below."""
        self._emit("vec.rsqrt", dst, (x,))

    def transpose(self, dst: View, x: View) -> None:
        """dst = x with its last two dimensions exchanged, bits untouched."""
        self._emit("vec.transpose", dst, (x,))

    # --- no operand -------------------------------------------------------------------------------------------------
    def fill(self, dst: View, value: float) -> None:
        """dst = value in every element."""
        self._emit("vec.fill", dst, (), value)

    def iota(self, dst: View, index: Element | Int | None = None) -> None:
        """dst = the logical index of each element: 0, 1, 2, ... row-major, or from `index` on, or of `k.element`."""
        self._emit("vec.iota", dst, (), None, self._index("vec.iota", dst, index))

    def random(self, dst: View, stream: int | None = None, index: Element | Int | None = None) -> None:
        """dst = random numbers: 32 bits in int32, uniform multiples of 2^-24 in [0, 1) in fp32.

        Keyed by the seed of the run, `stream` and the logical `index` of each element, as in `cast`.
        """
        name = "vec.random"
        tail = (self._stream(name, stream), *self._index(name, dst, index))
        self._emit(name, dst, (), None, tail)

    # --- two operands -----------------------------------------------------------------------------------------------
    def add(self, dst: View, x: View, y: View | float) -> None:
        """dst = x + y."""
        self._two("vec.add", dst, x, y)

    def sub(self, dst: View, x: View, y: View | float) -> None:
        """dst = x - y."""
        if isinstance(y, View):
            self._emit("vec.sub", dst, (x, y))
        elif y == -(1 << 31) and x.dtype in INTEGERS:
            self._emit("vec.addi", dst, (x,), y)  # modulo 2^32 it is its own opposite
        else:
            self._emit("vec.addi", dst, (x,), -y)

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

    def compare(self, dst: View, x: View, relation: str, y: View | float) -> None:
        """dst (uint8) = 1 where `x relation y` holds, otherwise 0; relation is == != < <= > >=. NaN is only !=."""
        if relation not in RELATIONS:
            raise TraceError(f"k.vec.compare: relation {relation!r}; use one of {' '.join(RELATIONS)}")
        tail = (RELATIONS[relation],)
        if isinstance(y, View):
            self._emit("vec.compare", dst, (x, y), None, tail)
        else:
            self._emit("vec.comparei", dst, (x,), y, tail)

    # --- three operands ---------------------------------------------------------------------------------------------
    def fma(self, dst: View, x: View, y: View, z: View) -> None:
        """dst = x * y + z with one rounding to fp32."""
        self._emit("vec.fma", dst, (x, y, z))

    def select(self, dst: View, mask: View, x: View, y: View) -> None:
        """dst = x where mask (uint8) is not 0, otherwise y; bits untouched."""
        self._emit("vec.select", dst, (mask, x, y))

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

    # --- rows by index ----------------------------------------------------------------------------------------------
    def gather(self, dst: View, table: View, index: View) -> None:
        """dst[i] = table[index[i]], bits untouched: dst (n, c), table (t, c), index (n,) int32 from 0 to t - 1."""
        self._emit("vec.gather", dst, (table, index))

    def scatter_add(self, table: View, x: View, index: View) -> None:
        """table[index[i]] += x[i] for i ascending, one rounding a step: table (t, c), x (n, c), index (n,) int32."""
        self._emit("vec.scatter_add", table, (x, index))

    def _two(self, mnemonic: str, dst: View, x: View, y: View | float) -> None:
        # Every method above calls `_emit` from its own frame or, here, from one below: the line is the caller's.
        if isinstance(y, View):
            self._emit(mnemonic, dst, (x, y), above=3)
        elif mnemonic in IMMEDIATE:
            self._emit(IMMEDIATE[mnemonic], dst, (x,), y, above=3)
        else:
            raise TraceError(f"k.{mnemonic} takes a view as second operand, not {y!r}; k.vec.fill a buffer with it")
