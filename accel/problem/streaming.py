"""A convolution over the newest frames of one camera or several, frame by frame, as a problem."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import check_axes, check_int
from accel.problem.conv3d import Conv3d
from accel.problem.workload import Operand, Problem

__all__ = ["StreamingConv"]


class StreamingConv(Problem, frozen=True):
    """Convolution of `frames` frames h x w x c that arrive one by one, with k filters kt x r x s.

    x (frames, h, w, c), w (kt, r, s, c, k), bias (k,) in fp32, y (frames - kt + 1, p, q, k): output z reads frames
    z to z + kt - 1 and is due when the last of them has arrived. The values are those of a `Conv3d` of one clip without
    padding in time. `stride`, `pad` and `dilation` are one int or (height, width); a pad reaches at most as far as the
    filter. `cameras` streams of one format share the filters; with more than one, x and y have one more dimension in
    front. InputError for sizes out of range or an empty output.
    """

    kind: ClassVar[str] = "streaming_conv"

    frames: int
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
    dtype: str = "bf16"
    out_dtype: str = "bf16"
    bias: bool = False
    activation: str = "none"
    cameras: int = 1

    def __post_init__(self) -> None:
        for name, low in (("stride", 1), ("pad", 0), ("dilation", 1)):
            pair = check_axes(self.kind, name, getattr(self, name), ("height", "width"), low=low)
            force_setattr(self, name, pair)
        for name in ("frames", "h", "w", "c", "k", "kt", "r", "s", "cameras"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        try:
            form = self.conv3d.geometry
        except InputError as error:
            raise InputError(str(error).replace("conv3d:", "streaming_conv:", 1)) from None
        for axis, name in zip(form.axes[1:], ("height", "width"), strict=True):
            if axis.pad > (axis.taps - 1) * axis.dilation:
                raise InputError(
                    f"streaming_conv: pad={axis.pad} in {name} reaches beyond {axis.taps} taps with dilation "
                    f"{axis.dilation}; use at most {(axis.taps - 1) * axis.dilation}"
                )

    @property
    def conv3d(self) -> Conv3d:
        """The same values as a convolution of whole clips, one a camera."""
        stride, pad, dilation = (_in_time(value, own) for value, own in zip(self._steps, (1, 0, 1), strict=True))
        return Conv3d(
            self.cameras, self.frames, self.h, self.w, self.c, self.k, self.kt, self.r, self.s, stride, pad, dilation,
            dtype=self.dtype, out_dtype=self.out_dtype, bias=self.bias, activation=self.activation,
        )  # fmt: skip

    @property
    def _steps(self) -> tuple[int | tuple[int, ...], ...]:
        return self.stride, self.pad, self.dilation

    @property
    def operands(self) -> dict[str, Operand]:
        """Frames, filters, bias if there is one, and outputs."""
        whole = self.conv3d.operands
        if self.cameras > 1:
            return whole
        return {
            name: Operand(o.shape[1:] if name in ("x", "y") else o.shape, o.dtype, o.role) for name, o in whole.items()
        }

    @property
    def macs(self) -> int:
        """Multiply-adds of all outputs, padding taps included."""
        return self.conv3d.macs

    @property
    def touching_macs(self) -> int:
        """`macs` without padding taps."""
        return self.conv3d.touching_macs

    @property
    def taps(self) -> int:
        """Filter positions."""
        return self.conv3d.taps

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name` that must be moved once."""
        return self.conv3d.compulsory_elements(name)

    @property
    def label(self) -> str:
        """For example "streaming_conv 16 frames 96x128x3 3x3x3x32 bf16"."""
        text = f"streaming_conv {self.frames} frames {self.h}x{self.w}x{self.c} {self.kt}x{self.r}x{self.s}x{self.k}"
        text = text if self.cameras == 1 else text.replace("frames", f"frames of {self.cameras} cameras")
        return f"{text} {self.dtype if self.dtype == self.out_dtype else f'{self.dtype}>{self.out_dtype}'}"


def _in_time(value: int | tuple[int, ...], own: int) -> tuple[int, ...]:
    """Return steps over (time, height, width): frames are taken one by one."""
    return (own, value, value) if isinstance(value, int) else (own, *value)
