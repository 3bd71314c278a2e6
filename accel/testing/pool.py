"""Buffers of one thread, and views into them: strided, permuted, broadcast, reversed, moving, ringed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from accel.isa import layout as w
from accel.numerics.formats import fmt
from accel.testing.choices import Choices
from accel.testing.maker import Maker, Place

__all__ = ["ALL_FLOATS", "ALL_INTEGERS", "Limits", "Operand", "Pool"]

ALL_FLOATS = ("fp32", "bf16", "fp16", "cfp8-143", "cfp8-152", "shp16", "uhp16")
ALL_INTEGERS = ("int32", "int8", "uint8")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What generated programs may use, and how large they get.

    rows: mnemonics of compute rows, empty for all; without: rows and blocks that are left out; products: formats that
    matmul multiplies, empty for all; results: 16-bit formats to which it may round sums of floats. rings, scalars:
    views may run modulo a ring, take their bias from SRAM. longest: largest size of a dimension; mesh, threads, blocks:
    most rows and columns, threads a node, blocks.
    """

    floats: tuple[str, ...] = ALL_FLOATS
    integers: tuple[str, ...] = ALL_INTEGERS
    rows: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    results: tuple[str, ...] = ("bf16", "fp16")
    rings: bool = True
    scalars: bool = True
    longest: int = 40
    mesh: tuple[int, int] = (2, 3)
    threads: int = 3
    blocks: int = 6


@dataclass(frozen=True)
class Operand:
    """A view operand and what it lies in."""

    words: tuple[int, int, int]
    place: int
    dtype: str
    shape: tuple[int, ...]


@dataclass
class Pool:
    """The buffers that one thread owns on every node, made as they are needed.

    buffers may be read and written; indices (with the bound of their contents) and scalars are only read. Whoever uses
    the pool loads them all before the first instruction. loops: trips of the hardware loops that are open.
    """

    maker: Maker
    choices: Choices
    limits: Limits
    name: str = "b"
    buffers: list[Place] = field(default_factory=list)
    indices: list[tuple[Place, int]] = field(default_factory=list)
    scalars: list[Place] = field(default_factory=list)
    loops: list[int] = field(default_factory=list)

    def products(self) -> tuple[list[str], list[str]]:
        """Return the float and the integer formats that matmul multiplies."""
        taken = self.limits.products or (*ALL_FLOATS, *ALL_INTEGERS)
        floats = [f for f in self.limits.floats if f != "fp32" and f in taken and "fp32" in self.limits.floats]
        integers = [f for f in self.limits.integers if f != "int32" and f in taken and "int32" in self.limits.integers]
        return floats, integers

    def shape(self, dims: int = 4) -> tuple[int, ...]:
        """Draw a shape of one to `dims` dimensions."""
        c = self.choices
        sizes = [c.integer(1, 4) for _ in range(c.integer(1, dims))]
        if c.one_in(4):
            sizes[-1] = c.integer(1, self.limits.longest)
        return tuple(sizes)

    def buffer(self, dtype: str, elements: int) -> Place:
        """Add a buffer."""
        place = self.maker.sram(f"{self.name}{len(self.maker.buffers)}", elements, dtype, self.choices.integer(0, 2))
        self.buffers.append(place)
        return place

    def _moves(self, item: int) -> tuple[int, int, int]:
        """Draw how an address moves with the node and the loops: (expression, lowest, highest) in bytes."""
        c, maker, low, high = self.choices, self.maker, 0, 0
        params, loops = [], []
        for p, size in ((w.PARAM_ROW, maker.rows), (w.PARAM_COL, maker.cols)):
            if size > 1 and c.one_in(4):
                params.append((p, coef := item * c.pick((1, 2, -1))))
                low, high = low + min(0, coef * (size - 1)), high + max(0, coef * (size - 1))
        for depth, trips in enumerate(self.loops):
            if c.one_in(2):
                coef, mul, add = item * c.pick((1, 2, -1)), c.pick((1, 1, 2, -1)), c.integer(0, 2)
                modulus = c.pick((0, 2, 3))
                loops.append((depth, coef, mul, add, modulus))
                terms = [(mul * i + add) % modulus if modulus else mul * i + add for i in range(trips)]
                low, high = low + min(coef * t for t in terms), high + max(coef * t for t in terms)
        return maker.expr(params, loops), low, high

    def operand(self, dtype: str, shape: Sequence[int], *, writes: bool = False, avoid: Sequence[int] = (),
                below: int = 0) -> Operand:  # fmt: skip
        """Draw a view of this format and shape.

        writes: every element has a byte of its own. avoid: indices of buffers that the view must not lie in.
        below: the contents are row numbers from 0 to below - 1, in a buffer that nobody writes.
        """
        c, item = self.choices, fmt(dtype).bytes
        strides, extent = [0] * len(shape), item
        for d in c.order(len(shape)) if c.one_in(3) else range(len(shape) - 1, -1, -1):
            if not writes and shape[d] > 1 and c.one_in(6):
                continue
            stride = extent * (2 if c.one_in(4) else 1)
            strides[d] = -stride if c.one_in(5) else stride
            extent += stride * (shape[d] - 1)
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        low, high = sum(min(0, r) for r in reach), sum(max(0, r) for r in reach) + item
        expr, down, up = self._moves(item)
        ring = (0, 0)
        if self.limits.rings and c.one_in(5):
            size = high - low + item * c.integer(0, 3)
            place = self._place(dtype, size, avoid, below)
            base = place.begin + item * c.integer(0, (place.nbytes - size) // item)
            ring, address = (base, size), base + item * c.integer(-2, size // item) + size * c.integer(0, 2)
        else:
            needed = high - low + up - down
            place = self._place(dtype, needed, avoid, below)
            address = place.begin - low - down + item * c.integer(0, (place.nbytes - needed) // item)
        bias = scalar = 0
        if fmt(dtype).kind == "cfp":
            bias = c.pick((7, 15, 0, 1, 31, 32, 63, c.integer(0, 63))) + (w.BIAS_IEEE if c.one_in(3) else 0)
            scalar = self._scalar() if self.limits.scalars and c.one_in(4) else 0
        words = self.maker.view(place, shape, strides, address, expr=expr, ring=ring, bias=bias, scalar=scalar)
        return Operand(words, place.index, dtype, tuple(shape))

    def _place(self, dtype: str, nbytes: int, avoid: Sequence[int], below: int) -> Place:
        c, elements = self.choices, -(-nbytes // fmt(dtype).bytes)
        known = [p for p, bound in self.indices if bound == below] if below else self.buffers
        fit = [p for p in known if p.dtype == dtype and p.nbytes >= nbytes and p.index not in avoid]
        if fit and not c.one_in(3):
            return c.pick(fit)
        place = self.buffer(dtype, elements + c.integer(0, 3))
        if below:
            self.buffers.remove(place)
            self.indices.append((place, below))
        return place

    def _scalar(self) -> int:
        """Return the view word of a bias in SRAM."""
        if not self.scalars or self.choices.one_in(3):
            place = self.buffer("uint8", self.choices.integer(1, 3))
            self.buffers.remove(place)
            self.scalars.append(place)
        place = self.choices.pick(self.scalars)
        return 1 + self.choices.integer(place.begin, place.end - 1)

    def pairs(self, rows: int, cols: int) -> tuple[int, int, int, int]:
        """Draw how a matmul operand splits its two indices into two levels each."""
        split = [self.choices.pick([d for d in range(1, n + 1) if n % d == 0]) for n in (rows, cols)]
        return split[0], rows // split[0], split[1], cols // split[1]


def volume(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape."""
    return math.prod(shape)
