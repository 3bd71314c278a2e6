"""Transposed convolution as a problem: the data gradient of a convolution, used forward, to make images larger."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import check_axes, check_choice, check_elements, check_flag, check_format, check_int
from accel.problem.conv import Conv2d
from accel.problem.convolution import ACTIVATIONS, DIRECTIONS, MAX_TAPS, check_sums
from accel.problem.workload import Operand, Problem

__all__ = ["ConvTranspose2d"]

ADJOINT = {"fwd": "dgrad", "dgrad": "fwd", "wgrad": "wgrad"}
NAMES = {
    "fwd": {"x": "gy", "w": "w", "y": "gx"},
    "dgrad": {"gy": "x", "w": "w", "gx": "y"},
    "wgrad": {"gy": "x", "x": "gy", "gw": "gw"},
}
"""For each direction: what the adjoint convolution calls an operand."""


class ConvTranspose2d(Problem, frozen=True):
    """Transposed convolution of n images h x w x c into k channels with filters r x s.

    x (N,H,W,C), w (R,S,K/groups,C), y (N,P,Q,K); P = (h - 1) stride - 2 pad + dilation (r - 1) + output_pad + 1, Q
    alike. It is the data gradient of the convolution from y's shape to x's with the same filter (`adjoint`), so its own
    data gradient is that convolution. `stride`, `pad`, `dilation`, `output_pad`: one int or (height, width);
    output_pad below the stride says which of the sizes that convolve to h it makes. `bias` (K,), fp32, and `activation`
    are for "fwd". InputError for sizes out of range, groups that do not divide c and k, or an empty output.
    """

    kind: ClassVar[str] = "conv_transpose"

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    stride: int | tuple[int, ...] = 1
    pad: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    output_pad: int | tuple[int, ...] = 0
    groups: int = 1
    dtype: str = "bf16"
    out_dtype: str = "bf16"
    direction: str = "fwd"
    bias: bool = False
    activation: str = "none"

    def __post_init__(self) -> None:
        kind = self.kind
        for name in ("n", "h", "w", "c", "k", "groups"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name)))
        for name in ("r", "s"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name), high=MAX_TAPS))
        for name, low in (("stride", 1), ("pad", 0), ("dilation", 1), ("output_pad", 0)):
            force_setattr(self, name, check_axes(kind, name, getattr(self, name), ("height", "width"), low=low))
        for name in ("dtype", "out_dtype"):
            force_setattr(self, name, check_format(kind, name, getattr(self, name)))
        check_choice(kind, "direction", self.direction, DIRECTIONS)
        check_choice(kind, "activation", self.activation, ACTIVATIONS)
        check_sums(kind, self.dtype, bias=self.bias, activation=self.activation)
        if self.direction != "fwd" and (check_flag(kind, "bias", self.bias) or self.activation != "none"):
            raise InputError(
                f"{kind}: bias and activation have no part in direction {self.direction!r}; leave them out"
            )
        check_flag(kind, "bias", self.bias)
        if self.c % self.groups or self.k % self.groups:
            raise InputError(
                f"{kind}: groups={self.groups} does not divide c={self.c} and k={self.k}; use a common divisor"
            )
        if any(more >= step for more, step in zip(self._two("output_pad"), self._two("stride"), strict=True)):
            raise InputError(
                f"{kind}: output_pad={self.output_pad} is not below stride={self.stride}; use less, or a larger stride"
            )
        if min(self.p, self.q) < 1:
            raise InputError(
                f"{kind}: pad={self.pad} leaves nothing of the output ({self.p} x {self.q}); use less padding"
            )
        for name, operand in self.operands.items():
            check_elements(kind, name, operand.shape, operand.role)

    def _two(self, name: str) -> tuple[int, ...]:
        return check_axes(self.kind, name, getattr(self, name), ("height", "width"), low=0)

    def _size(self, at: int) -> int:
        size, taps = ((self.h, self.r), (self.w, self.s))[at]
        stride, pad, dilation, more = (self._two(name)[at] for name in ("stride", "pad", "dilation", "output_pad"))
        return (size - 1) * stride - 2 * pad + dilation * (taps - 1) + more + 1

    @property
    def p(self) -> int:
        """Output height."""
        return self._size(0)

    @property
    def q(self) -> int:
        """Output width."""
        return self._size(1)

    @property
    def adjoint(self) -> Conv2d:
        """The convolution that takes the shape of y to that of x, in the direction that computes this problem."""
        return Conv2d(
            self.n, self.p, self.q, self.k, self.c, self.r, self.s, self.stride, self.pad, self.dilation, self.groups,
            self.dtype, self.out_dtype, ADJOINT[self.direction],
        )  # fmt: skip

    @property
    def names(self) -> dict[str, str]:
        """For each operand but the bias, what the adjoint convolution calls it."""
        return dict(NAMES[self.direction])

    @property
    def operands(self) -> dict[str, Operand]:
        """The inputs and the output of the direction, by the names of the kernel's parameters."""
        x, w = (self.n, self.h, self.w, self.c), (self.r, self.s, self.k // self.groups, self.c)
        shapes = {"x": x, "gx": x, "w": w, "gw": w}
        y = (self.n, self.p, self.q, self.k)
        *inputs, out = NAMES[self.direction]
        tensors = {name: Operand(shapes.get(name, y), self.dtype, "in") for name in inputs}
        if self.bias:
            tensors["bias"] = Operand((self.k,), "fp32", "in")
        return {**tensors, out: Operand(shapes.get(out, y), self.out_dtype, "out")}

    @property
    def macs(self) -> int:
        """n h w c (k / groups) r s in every direction: those of the adjoint convolution."""
        return self.adjoint.macs

    @property
    def touching_macs(self) -> int:
        """`macs` without the taps that land outside the output."""
        return self.adjoint.touching_macs

    @property
    def least_flops(self) -> int:
        """Those of the adjoint convolution: forward is a data gradient, whose taps may land outside."""
        return self.adjoint.least_flops

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name`: an output whole; an input less what meets nothing."""
        return (
            super().compulsory_elements(name) if name == "bias" else self.adjoint.compulsory_elements(self.names[name])
        )

    @property
    def taps(self) -> int:
        """r s."""
        return self.r * self.s

    @property
    def label(self) -> str:
        """For example "conv_transpose fwd 2x14x14x64 4x4x32 /2 bf16"."""
        stride, dtypes = self._two("stride"), (self.dtype, self.out_dtype)
        text = f"{self.kind} {self.direction} {self.n}x{self.h}x{self.w}x{self.c} {self.r}x{self.s}x{self.k} "
        text += f"/{stride[0] if stride[0] == stride[1] else f'{stride[0]},{stride[1]}'}"
        text += f" g{self.groups}" if self.groups > 1 else ""
        text += " bias" if self.bias else ""
        text += f" {self.activation}" if self.activation != "none" else ""
        return f"{text} {'>'.join(dict.fromkeys(dtypes))}"

    def renamed(self, values: Any) -> dict[str, Any]:
        """Return `values`, a dict by operand name, as one by the adjoint's names; the bias is left out."""
        return {ours: values[name] for name, ours in self.names.items() if name in values}
