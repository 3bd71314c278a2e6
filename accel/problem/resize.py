"""Resizing images as a problem: nearest neighbour or bilinear, and its gradient."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_flag,
    check_float_format,
    check_int,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["Resize2d"]

MAX_SIZE = 1 << 14
"""Largest height or width of an image on either side: every position's neighbours are found one by one."""


class Resize2d(Problem, frozen=True):
    """n images h x w x c resized to p x q: x (N,H,W,C), y (N,P,Q,C).

    mode "nearest": element floor(i h / p) of each axis, in whole numbers. "bilinear": between the two nearest, at
    (i + 1/2) h / p - 1/2 kept inside 0..h - 1, or with align_corners at i (h - 1) / (p - 1). direction "bwd": gx from
    gy. dtype bf16, fp16 or fp32; out_dtype of the result (empty: dtype). InputError for sizes out of range, and for
    align_corners with "nearest".
    """

    kind: ClassVar[str] = "resize"

    n: int
    h: int
    w: int
    c: int
    p: int
    q: int
    mode: str = "bilinear"
    align_corners: bool = False
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"

    def __post_init__(self) -> None:
        kind = self.kind
        for name in ("n", "c"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name)))
        for name in ("h", "w", "p", "q"):
            force_setattr(self, name, check_int(kind, name, getattr(self, name), high=MAX_SIZE))
        check_choice(kind, "mode", self.mode, ("nearest", "bilinear"))
        if check_flag(kind, "align_corners", self.align_corners) and self.mode == "nearest":
            raise InputError(f"{kind}: align_corners=True has no meaning in mode 'nearest'; use mode='bilinear'")
        force_setattr(self, "dtype", check_float_format(kind, "dtype", self.dtype))
        force_setattr(
            self, "out_dtype", check_float_format(kind, "out_dtype", unless_given(self.out_dtype, self.dtype))
        )
        check_choice(kind, "direction", self.direction, ("fwd", "bwd"))
        for name, operand in self.operands.items():
            check_elements(kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """What the direction reads, then what it writes."""
        x, y = (self.n, self.h, self.w, self.c), (self.n, self.p, self.q, self.c)
        if self.direction == "fwd":
            return {"x": Operand(x, self.dtype, "in"), "y": Operand(y, self.out_dtype, "out")}
        return {"gy": Operand(y, self.dtype, "in"), "gx": Operand(x, self.out_dtype, "out")}

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name`; of x at most as many rows and columns as the outputs can read."""
        if name != "x":
            return super().compulsory_elements(name)
        if self.mode == "nearest":
            rows = len({i * self.h // self.p for i in range(self.p)})
            columns = len({j * self.w // self.q for j in range(self.q)})
            return self.n * rows * columns * self.c
        return self.n * min(self.h, self.p) * min(self.w, self.q) * self.c  # a bilinear output reads at least its own

    @property
    def label(self) -> str:
        """For example "bilinear resize fwd 2x20x30x64 to 40x60 bf16"."""
        corners, formats = " corners" if self.align_corners else "", dict.fromkeys((self.dtype, self.out_dtype))
        shape = f"{self.n}x{self.h}x{self.w}x{self.c} to {self.p}x{self.q}"
        return f"{self.mode}{corners} resize {self.direction} {shape} {'>'.join(formats)}"
