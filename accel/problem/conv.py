"""Two-dimensional convolution as a problem, in its three training directions."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import check_choice, check_elements, check_format, check_int, check_pair
from accel.problem.workload import Operand, Problem

__all__ = ["DIRECTIONS", "Conv2d"]

MAX_TAPS = 1 << 16
"""Largest filter height or width: the taps of an axis are walked one by one to leave out padding."""

DIRECTIONS = ("fwd", "dgrad", "wgrad")
"""Forward (x, w -> y), data gradient (gy, w -> gx), weight gradient (x, gy -> gw)."""


class Conv2d(Problem, frozen=True):
    """Convolution of n images h x w x c with k filters r x s; x (N,H,W,C), w (R,S,C/groups,K), y (N,P,Q,K).

    `stride`, `pad` and `dilation` are one int or (height, width); kept as pairs.
    P = (h + 2 pad - dilation (r - 1) - 1) // stride + 1, Q alike. InputError for sizes out of range, groups that do not
    divide c and k, or an empty output.
    """

    kind: ClassVar[str] = "conv2d"

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    stride: int | tuple[int, int] = 1
    pad: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    dtype: str = "bf16"
    out_dtype: str = "bf16"
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in ("n", "h", "w", "c", "k", "groups"):
            force_setattr(self, name, check_int("conv2d", name, getattr(self, name)))
        for name in ("r", "s"):
            force_setattr(self, name, check_int("conv2d", name, getattr(self, name), high=MAX_TAPS))
        for name, low in (("stride", 1), ("pad", 0), ("dilation", 1)):
            force_setattr(self, name, check_pair("conv2d", name, getattr(self, name), low=low))
        for name in ("dtype", "out_dtype"):
            force_setattr(self, name, check_format("conv2d", name, getattr(self, name)))
        check_choice("conv2d", "direction", self.direction, DIRECTIONS)
        if self.c % self.groups or self.k % self.groups:
            raise InputError(
                f"conv2d: groups={self.groups} does not divide c={self.c} and k={self.k}; use a common divisor"
            )
        if self.p < 1 or self.q < 1:
            raise InputError(
                f"conv2d: a {self.r}x{self.s} filter with dilation {self.dilation} does not fit {self.h}x{self.w} "
                f"padded by {self.pad}; use a smaller filter or more padding"
            )
        for name, operand in self.operands.items():
            check_elements("conv2d", name, operand.shape, operand.role)

    @classmethod
    def parse(cls, text: object, **options: Any) -> Conv2d:
        """Build from "n,h,w,c,k,r,s" (x allowed for the comma) and the other fields by name; InputError otherwise."""
        parts = re.split(r"[x,]", text.strip().lower()) if isinstance(text, str) else []
        if len(parts) != 7 or not all(re.fullmatch(r"\s*[0-9]{1,15}\s*", part, re.ASCII) for part in parts):
            raise InputError(f"conv2d: shape {text!r} is not n,h,w,c,k,r,s; give seven whole numbers")
        n, h, w, c, k, r, s = (int(part) for part in parts)
        return cls.from_dict({"n": n, "h": h, "w": w, "c": c, "k": k, "r": r, "s": s, **options})

    @property
    def strides(self) -> tuple[int, int]:
        """Stride as (height, width)."""
        return check_pair("conv2d", "stride", self.stride, low=1)

    @property
    def pads(self) -> tuple[int, int]:
        """Padding on each side as (height, width)."""
        return check_pair("conv2d", "pad", self.pad, low=0)

    @property
    def dilations(self) -> tuple[int, int]:
        """Dilation as (height, width)."""
        return check_pair("conv2d", "dilation", self.dilation, low=1)

    @property
    def p(self) -> int:
        """Output height."""
        return (self.h + 2 * self.pads[0] - self.dilations[0] * (self.r - 1) - 1) // self.strides[0] + 1

    @property
    def q(self) -> int:
        """Output width."""
        return (self.w + 2 * self.pads[1] - self.dilations[1] * (self.s - 1) - 1) // self.strides[1] + 1

    @property
    def operands(self) -> dict[str, Operand]:
        """The two inputs and the output of the direction, by the names of the kernel's parameters."""
        x = (self.n, self.h, self.w, self.c)
        w = (self.r, self.s, self.c // self.groups, self.k)
        y = (self.n, self.p, self.q, self.k)
        if self.direction == "fwd":
            named, out = {"x": x, "w": w}, ("y", y)
        elif self.direction == "dgrad":
            named, out = {"gy": y, "w": w}, ("gx", x)
        else:
            named, out = {"x": x, "gy": y}, ("gw", w)
        tensors = {name: Operand(shape, self.dtype, "in") for name, shape in named.items()}
        return {**tensors, out[0]: Operand(out[1], self.out_dtype, "out")}

    @property
    def macs(self) -> int:
        """n p q k (c / groups) r s in every direction; padding taps are counted, as the field does."""
        return self.n * self.p * self.q * self.k * (self.c // self.groups) * self.r * self.s

    @property
    def touching_macs(self) -> int:
        """`macs` without the taps that land on padding."""
        rows = _inside(self.h, self.p, self.r, self.strides[0], self.pads[0], self.dilations[0])
        columns = _inside(self.w, self.q, self.s, self.strides[1], self.pads[1], self.dilations[1])
        return self.n * rows * columns * self.k * (self.c // self.groups)

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name`: an output whole; an input less what meets only padding or no stride."""
        operand = self.operands[name]
        if operand.role == "out":
            return super().compulsory_elements(name)
        rows = _touched(self.h, self.p, self.r, self.strides[0], self.pads[0], self.dilations[0])
        columns = _touched(self.w, self.q, self.s, self.strides[1], self.pads[1], self.dilations[1])
        if name == "x":
            return self.n * rows.inputs * columns.inputs * self.c
        if name == "w":
            return rows.taps * columns.taps * (self.c // self.groups) * self.k
        return self.n * rows.outputs * columns.outputs * self.k

    @property
    def taps(self) -> int:
        """r s."""
        return self.r * self.s

    @property
    def label(self) -> str:
        """For example "conv2d fwd 16x56x56x64 3x3x256 /1 bf16"."""
        text = f"conv2d {self.direction} {self.n}x{self.h}x{self.w}x{self.c} {self.r}x{self.s}x{self.k}"
        text += f" /{self.strides[0]}" + (f",{self.strides[1]}" if self.strides[0] != self.strides[1] else "")
        text += f" g{self.groups}" if self.groups > 1 else ""
        return f"{text} {self.dtype if self.dtype == self.out_dtype else f'{self.dtype}>{self.out_dtype}'}"


class _Touched(NamedTuple):
    """How many positions of one axis take part in a product that is not on padding."""

    inputs: int
    outputs: int
    taps: int


def _spans(size: int, outputs: int, taps: int, stride: int, pad: int, dilation: int) -> list[tuple[int, int, int]]:
    """(offset, first output, last output) of every tap that meets [0, size) at position output * stride + offset."""
    found = []
    for tap in range(taps):
        offset = tap * dilation - pad
        first = max(0, -(offset // stride))
        last = min(outputs - 1, (size - 1 - offset) // stride)
        if first <= last:
            found.append((offset, first, last))
    return found


def _touched(size: int, outputs: int, taps: int, stride: int, pad: int, dilation: int) -> _Touched:
    """Count touched inputs, outputs and taps of one axis; inputs fall into one row of positions for each residue."""
    spans = _spans(size, outputs, taps, stride, pad, dilation)
    by_residue: dict[int, list[tuple[int, int]]] = {}
    for offset, first, last in spans:
        shift, residue = divmod(offset, stride)
        by_residue.setdefault(residue, []).append((first + shift, last + shift))
    inputs = sum(_union(ranges) for ranges in by_residue.values())
    return _Touched(inputs, _union([(first, last) for _, first, last in spans]), len(spans))


def _union(ranges: list[tuple[int, int]]) -> int:
    """Count the integers in a union of closed ranges."""
    total, reached = 0, None
    for first, last in sorted(ranges):
        start = first if reached is None else max(first, reached + 1)
        if last >= start:
            total, reached = total + last - start + 1, last
    return total


def _inside(size: int, outputs: int, taps: int, stride: int, pad: int, dilation: int) -> int:
    """Count pairs (output, tap) along one axis whose input position lies inside [0, size)."""
    return sum(last - first + 1 for _, first, last in _spans(size, outputs, taps, stride, pad, dilation))
