"""Three-dimensional convolution (time, height, width) as a problem, in its three training directions."""

from __future__ import annotations

from typing import ClassVar

from accel.problem.convolution import Convolution

__all__ = ["Conv3d"]


class Conv3d(Convolution, frozen=True):
    """Convolution of n clips t x h x w x c with k filters kt x r x s.

    x (N,T,H,W,C), w (KT,R,S,C/groups,K), y (N,Z,P,Q,K). `stride`, `pad` and `dilation` are one int or (time, height,
    width); kept as triples. Z = (t + 2 pad - dilation (kt - 1) - 1) // stride + 1, P and Q alike. `bias` and
    `activation` as in `Conv2d`. InputError for sizes out of range, groups that do not divide c and k, or an empty
    output.
    """

    kind: ClassVar[str] = "conv3d"
    AXES: ClassVar[tuple[str, ...]] = ("t", "h", "w")
    FILTER: ClassVar[tuple[str, ...]] = ("kt", "r", "s")
    AXIS_NAMES: ClassVar[tuple[str, ...]] = ("time", "height", "width")

    n: int
    t: int
    h: int
    w: int
    c: int
    k: int
    kt: int
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
    def z(self) -> int:
        """Output frames."""
        return self.geometry.axes[0].out

    @property
    def p(self) -> int:
        """Output height."""
        return self.geometry.axes[1].out

    @property
    def q(self) -> int:
        """Output width."""
        return self.geometry.axes[2].out
