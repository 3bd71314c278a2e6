"""Pooling as a problem: the maximum or the mean of windows of images, and their gradients."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_axes,
    check_choice,
    check_elements,
    check_flag,
    check_float_format,
    check_int,
    unless_given,
)
from accel.problem.convolution import Axis
from accel.problem.workload import Operand, Problem

__all__ = ["Pool2d"]

MAX_SIZE = 1 << 20
"""Largest height or width of an image: the elements that each window holds are found one by one."""
MAX_WINDOW = 1 << 10
"""Largest window height or width."""


class Pool2d(Problem, frozen=True):
    """Pooling of n images h x w x c over windows r x s; x (N,H,W,C), y (N,P,Q,C).

    function "max" or "avg". stride (default: the window), pad and dilation are one int or (height, width).
    P = (h + 2 pad - dilation (r - 1) - 1) // stride + 1, Q alike. Padding takes no part, but counts in the divisor of a
    mean with count_include_pad. direction "bwd": gx from gy, and for "max" from x. dtype bf16, fp16 or fp32; out_dtype
    of the result (empty: dtype). InputError for sizes out of range, more padding than half a window, or a window that
    holds no element.
    """

    kind: ClassVar[str] = "pool"

    n: int
    h: int
    w: int
    c: int
    r: int
    s: int
    function: str = "max"
    stride: int | tuple[int, ...] | None = None
    pad: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    count_include_pad: bool = True
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"

    def __post_init__(self) -> None:
        kind, pair = self.kind, ("height", "width")
        for name in ("n", "c"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name)))
        for name in ("h", "w"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name), high=MAX_SIZE))
        for name in ("r", "s"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name), high=MAX_WINDOW))
        check_choice(kind, "function", self.function, ("max", "avg"))
        stride = (self.r, self.s) if self.stride is None else self.stride
        force_setattr(self, "stride", check_axes(kind, "stride", stride, pair, low=1))
        for name, low in (("pad", 0), ("dilation", 1)):
            force_setattr(self, name, check_axes(kind, name, getattr(self, name), pair, low=low))
        check_flag(kind, "count_include_pad", self.count_include_pad)
        force_setattr(self, "dtype", check_float_format(kind, "dtype", self.dtype))
        force_setattr(
            self, "out_dtype", check_float_format(kind, "out_dtype", unless_given(self.out_dtype, self.dtype))
        )
        check_choice(kind, "direction", self.direction, ("fwd", "bwd"))
        for name, axis in zip(pair, self.axes, strict=True):
            if axis.pad > axis.taps // 2:
                raise InputError(
                    f"{kind}: pad={axis.pad} is more than half of a window of {axis.taps} in {name}; use less padding"
                )
            if axis.out < 1:
                raise InputError(
                    f"{kind}: a window of {axis.taps} with dilation {axis.dilation} does not fit {axis.size} padded by "
                    f"{axis.pad} in {name}; use a smaller window"
                )
            if any(not inside for inside in inside_taps(axis)):
                raise InputError(
                    f"{kind}: in {name} a window of {axis.taps} with dilation {axis.dilation} holds only padding; "
                    "use less dilation or padding"
                )
        for name, operand in self.operands.items():
            check_elements(kind, name, operand.shape, operand.role)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Height and width: size, window, stride, padding, dilation."""
        steps = [check_axes(self.kind, name, getattr(self, name), ("height", "width"), low=0)
                 for name in ("stride", "pad", "dilation")]  # fmt: skip
        rows, columns = zip(*steps, strict=True)
        return Axis(self.h, self.r, *rows), Axis(self.w, self.s, *columns)

    @property
    def p(self) -> int:
        """Output height."""
        return self.axes[0].out

    @property
    def q(self) -> int:
        """Output width."""
        return self.axes[1].out

    @property
    def operands(self) -> dict[str, Operand]:
        """What the direction reads, then what it writes."""
        x, y = (self.n, self.h, self.w, self.c), (self.n, self.p, self.q, self.c)
        if self.direction == "fwd":
            return {"x": Operand(x, self.dtype, "in"), "y": Operand(y, self.out_dtype, "out")}
        found = {"gy": Operand(y, self.dtype, "in")}
        if self.function == "max":
            found["x"] = Operand(x, self.dtype, "in")
        return {**found, "gx": Operand(x, self.out_dtype, "out")}

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name`; of x those that lie in a window."""
        if name != "x":
            return super().compulsory_elements(name)
        met = [len({place for inside in inside_taps(axis) for place in inside}) for axis in self.axes]
        return self.n * met[0] * met[1] * self.c

    @property
    def label(self) -> str:
        """For example "max pool fwd 32x112x112x64 3x3/2 bf16"."""
        (rows, columns), formats = self.axes, dict.fromkeys((self.dtype, self.out_dtype))
        stride = f"{rows.stride}" if rows.stride == columns.stride else f"{rows.stride},{columns.stride}"
        text = f"{self.function} pool {self.direction} {self.n}x{self.h}x{self.w}x{self.c} {self.r}x{self.s}/{stride}"
        return f"{text} {'>'.join(formats)}"


def inside_taps(axis: Axis) -> list[list[int]]:
    """Return for each output of an axis the positions of its window that lie inside [0, size)."""
    return [
        [i for t in range(axis.taps) if 0 <= (i := o * axis.stride - axis.pad + t * axis.dilation) < axis.size]
        for o in range(axis.out)
    ]
