"""What convolutions over two and three spatial axes share: checks, output sizes, operands and counts."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.numerics import fmt
from accel.problem.checks import check_axes, check_choice, check_elements, check_flag, check_format, check_int
from accel.problem.matmul import ACTIVATIONS
from accel.problem.workload import Operand, Problem

__all__ = ["ACTIVATIONS", "DIRECTIONS", "Axis", "Convolution", "Geometry", "Touched", "inside", "touched"]

MAX_TAPS = 1 << 16
"""Largest filter extent: the taps of an axis are walked one by one to leave out padding."""

DIRECTIONS = ("fwd", "dgrad", "wgrad")
"""Forward (x, w -> y), data gradient (gy, w -> gx), weight gradient (x, gy -> gw)."""


class Axis(NamedTuple):
    """One spatial axis: elements, filter taps, and how taps walk over the elements."""

    size: int
    taps: int
    stride: int
    pad: int
    dilation: int

    @property
    def out(self) -> int:
        """Outputs along the axis: (size + 2 pad - dilation (taps - 1) - 1) // stride + 1."""
        return (self.size + 2 * self.pad - self.dilation * (self.taps - 1) - 1) // self.stride + 1


class Geometry(NamedTuple):
    """A convolution whatever its number of axes: what kernels read; axes outermost first."""

    n: int
    c: int
    k: int
    groups: int
    axes: tuple[Axis, ...]

    @property
    def x(self) -> tuple[int, ...]:
        """Shape of the input, (N, spatial, C)."""
        return (self.n, *(axis.size for axis in self.axes), self.c)

    @property
    def w(self) -> tuple[int, ...]:
        """Shape of the filter, (taps, C / groups, K)."""
        return (*(axis.taps for axis in self.axes), self.c // self.groups, self.k)

    @property
    def y(self) -> tuple[int, ...]:
        """Shape of the output, (N, spatial, K)."""
        return (self.n, *(axis.out for axis in self.axes), self.k)


class Convolution(Problem, frozen=True):
    """Base of `Conv2d` and `Conv3d`: subclasses declare the fields, and say which name an axis has.

    AXES: fields with the sizes of the axes, outermost first; FILTER: fields with the filter extents; AXIS_NAMES: the
    axes in words. Every subclass also has n, c, k, stride, pad, dilation (one int or one an axis, kept as tuples),
    groups, dtype, out_dtype, direction, bias and activation.
    """

    AXES: ClassVar[tuple[str, ...]] = ()
    FILTER: ClassVar[tuple[str, ...]] = ()
    AXIS_NAMES: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        kind, axes = self.kind, self.AXIS_NAMES
        for name in ("n", *self.AXES, "c", "k", "groups"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name)))
        for name in self.FILTER:
            force_setattr(self, name, check_int(kind, name, getattr(self, name), high=MAX_TAPS))
        for name, low in (("stride", 1), ("pad", 0), ("dilation", 1)):
            force_setattr(self, name, check_axes(kind, name, getattr(self, name), axes, low=low))
        for name in ("dtype", "out_dtype"):
            force_setattr(self, name, check_format(kind, name, getattr(self, name)))
        direction = check_choice(kind, "direction", self._get("direction"), DIRECTIONS)
        check_choice(kind, "activation", self._get("activation"), ACTIVATIONS)
        if check_flag(kind, "bias", self._get("bias")) and direction == "dgrad":
            raise InputError(f"{kind}: bias=True has no part in direction 'dgrad'; use bias=False")
        if self._get("activation") != "none" and direction != "fwd":
            raise InputError(
                f"{kind}: activation={self._get('activation')!r} has no part in direction {direction!r}; use 'none'"
            )
        check_sums(kind, self._get("dtype"), bias=self._get("bias"), activation=self._get("activation"))
        form = self.geometry
        if form.c % form.groups or form.k % form.groups:
            raise InputError(
                f"{kind}: groups={form.groups} does not divide c={form.c} and k={form.k}; use a common divisor"
            )
        if min(axis.out for axis in form.axes) < 1:
            taps, sizes = ("x".join(str(getattr(self, n)) for n in names) for names in (self.FILTER, self.AXES))
            raise InputError(
                f"{kind}: a {taps} filter with dilation {self._get('dilation')} does not fit {sizes} "
                f"padded by {self._get('pad')}; use a smaller filter or more padding"
            )
        for name, operand in self.operands.items():
            check_elements(kind, name, operand.shape, operand.role)

    def _get(self, name: str) -> Any:
        return getattr(self, name)

    @property
    def geometry(self) -> Geometry:
        """Sizes alone, in a form that does not depend on the number of axes."""
        steps = ("stride", "pad", "dilation")
        rows = zip(
            (getattr(self, n) for n in self.AXES), (getattr(self, n) for n in self.FILTER),
            *(getattr(self, n) for n in steps), strict=True,
        )  # fmt: skip
        n, c, k, groups = (int(self._get(name)) for name in ("n", "c", "k", "groups"))
        return Geometry(n, c, k, groups, tuple(Axis(*row) for row in rows))

    @property
    def operands(self) -> dict[str, Operand]:
        """The inputs and the output of the direction, by the names of the kernel's parameters.

        With `bias`, forward reads bias (K,) in fp32, and the weight gradient also returns gb (K,) in fp32.
        """
        form, direction, dtype = self.geometry, self._get("direction"), self._get("dtype")
        if direction == "fwd":
            named, out = {"x": form.x, "w": form.w}, ("y", form.y)
        elif direction == "dgrad":
            named, out = {"gy": form.y, "w": form.w}, ("gx", form.x)
        else:
            named, out = {"x": form.x, "gy": form.y}, ("gw", form.w)
        tensors = {name: Operand(shape, dtype, "in") for name, shape in named.items()}
        if self._get("bias") and direction == "fwd":
            tensors["bias"] = Operand((form.k,), "fp32", "in")
        tensors[out[0]] = Operand(out[1], self._get("out_dtype"), "out")
        if self._get("bias") and direction == "wgrad":
            tensors["gb"] = Operand((form.k,), "fp32", "out")
        return tensors

    @property
    def macs(self) -> int:
        """n, outputs, k, c / groups and taps multiplied, in every direction; padding taps count, as in the field."""
        return math.prod(self.geometry.y) * (self.geometry.c // self.geometry.groups) * self.taps

    @property
    def touching_macs(self) -> int:
        """`macs` without the taps that land on padding."""
        form = self.geometry
        return form.n * math.prod(map(inside, form.axes)) * form.k * (form.c // form.groups)

    @property
    def least_flops(self) -> int:
        """`flops`; of a data gradient without the taps that land outside, which take no part in its chains."""
        return 2 * self.touching_macs if self._get("direction") == "dgrad" else self.flops

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name`: an output whole; an input less what meets only padding or no stride."""
        form = self.geometry
        if self.operands[name].role == "out" or name == "bias":
            return super().compulsory_elements(name)
        found = [touched(axis) for axis in form.axes]
        if name == "x":
            return form.n * math.prod(t.inputs for t in found) * form.c
        if name == "w":
            return math.prod(t.taps for t in found) * (form.c // form.groups) * form.k
        return form.n * math.prod(t.outputs for t in found) * form.k

    @property
    def taps(self) -> int:
        """Filter positions."""
        return math.prod(axis.taps for axis in self.geometry.axes)

    @property
    def label(self) -> str:
        """For example "conv2d fwd 16x56x56x64 3x3x256 /1 bf16"."""
        form, dtype, out_dtype = self.geometry, self._get("dtype"), self._get("out_dtype")
        strides = [str(axis.stride) for axis in form.axes]
        text = f"{self.kind} {self._get('direction')} {'x'.join(map(str, form.x))} "
        text += f"{'x'.join(str(axis.taps) for axis in form.axes)}x{form.k} "
        text += f"/{strides[0] if len(set(strides)) == 1 else ','.join(strides)}"
        text += f" g{form.groups}" if form.groups > 1 else ""
        text += " bias" if self._get("bias") else ""
        text += f" {self._get('activation')}" if self._get("activation") != "none" else ""
        return f"{text} {dtype if dtype == out_dtype else f'{dtype}>{out_dtype}'}"


class Touched(NamedTuple):
    """How many positions of one axis take part in a product that is not on padding."""

    inputs: int
    outputs: int
    taps: int


def check_sums(kind: str, dtype: str, *, bias: bool, activation: str) -> None:
    """InputError for what follows sums of integers, which are int32."""
    follows = "bias" if bias else "activation" if activation != "none" else ""
    if follows and fmt(dtype).kind == "int":
        raise InputError(f"{kind}: sums of {dtype} are int32 and have no {follows}; leave it out")


def _spans(axis: Axis) -> list[tuple[int, int, int]]:
    """(offset, first output, last output) of every tap that meets [0, size) at position output * stride + offset."""
    found = []
    for tap in range(axis.taps):
        offset = tap * axis.dilation - axis.pad
        first = max(0, -(offset // axis.stride))
        last = min(axis.out - 1, (axis.size - 1 - offset) // axis.stride)
        if first <= last:
            found.append((offset, first, last))
    return found


def touched(axis: Axis) -> Touched:
    """Count touched inputs, outputs and taps of one axis; inputs fall into one row of positions for each residue."""
    spans = _spans(axis)
    by_residue: dict[int, list[tuple[int, int]]] = {}
    for offset, first, last in spans:
        shift, residue = divmod(offset, axis.stride)
        by_residue.setdefault(residue, []).append((first + shift, last + shift))
    inputs = sum(_union(ranges) for ranges in by_residue.values())
    return Touched(inputs, _union([(first, last) for _, first, last in spans]), len(spans))


def _union(ranges: list[tuple[int, int]]) -> int:
    """Count the integers in a union of closed ranges."""
    total, reached = 0, None
    for first, last in sorted(ranges):
        start = first if reached is None else max(first, reached + 1)
        if last >= start:
            total, reached = total + last - start + 1, last
    return total


def inside(axis: Axis) -> int:
    """Count pairs (output, tap) along one axis whose input position lies inside [0, size)."""
    return sum(last - first + 1 for _, first, last in _spans(axis))
