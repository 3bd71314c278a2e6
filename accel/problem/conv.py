"""Two-dimensional convolution as a problem, in its three training directions."""

from __future__ import annotations

from typing import ClassVar

from accel.problem.checks import check_axes
from accel.problem.convolution import DIRECTIONS, Convolution

__all__ = ["DIRECTIONS", "Conv2d"]


class Conv2d(Convolution, frozen=True):
    """Convolution of n images h x w x c with k filters r x s; x (N,H,W,C), w (R,S,C/groups,K), y (N,P,Q,K).

    `stride`, `pad` and `dilation` are one int or (height, width); kept as pairs. `bias`: forward adds bias (K,), fp32,
    to the sums, and the weight gradient returns its gradient gb too. `activation`: what forward applies to the sums
    before rounding. P = (h + 2 pad - dilation (r - 1) - 1) // stride + 1, Q alike. InputError for sizes out of range,
    groups that do not divide c and k, or an empty output.
    """

    kind: ClassVar[str] = "conv2d"
    AXES: ClassVar[tuple[str, ...]] = ("h", "w")
    FILTER: ClassVar[tuple[str, ...]] = ("r", "s")
    AXIS_NAMES: ClassVar[tuple[str, ...]] = ("height", "width")

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
    groups: int = 1
    dtype: str = "bf16"
    out_dtype: str = "bf16"
    direction: str = "fwd"
    bias: bool = False
    activation: str = "none"

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride as (height, width)."""
        return check_axes(self.kind, "stride", self.stride, self.AXIS_NAMES, low=1)

    @property
    def pads(self) -> tuple[int, ...]:
        """Padding on each side as (height, width)."""
        return check_axes(self.kind, "pad", self.pad, self.AXIS_NAMES, low=0)

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation as (height, width)."""
        return check_axes(self.kind, "dilation", self.dilation, self.AXIS_NAMES, low=1)

    @property
    def p(self) -> int:
        """Output height."""
        return self.geometry.axes[0].out

    @property
    def q(self) -> int:
        """Output width."""
        return self.geometry.axes[1].out
