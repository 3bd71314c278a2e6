"""Problems over the rows of a matrix, or along one axis: softmax and reductions."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.problem.checks import (
    check_choice,
    check_elements,
    check_flag,
    check_float_format,
    check_int,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["Reduce", "Softmax"]


class Softmax(Problem, frozen=True):
    """y[r] = exp(x[r] - max x[r]) / sum of these, over the columns of each row; bwd: gx from gy and the saved y.

    `dtype` (bf16, fp16 or fp32) is the format of x, y, gy and gx; `out_dtype` of the result, `dtype` where left empty.
    InputError for sizes below 1, above 2^40 or not whole, and for another format or direction.
    """

    kind: ClassVar[str] = "softmax"

    rows: int
    columns: int
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        force_setattr(
            self, "out_dtype", check_float_format(self.kind, "out_dtype", unless_given(self.out_dtype, self.dtype))
        )
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """x and y; bwd: gy, the saved y, and gx. All (rows, columns)."""
        shape = (self.rows, self.columns)
        if self.direction == "fwd":
            return {"x": Operand(shape, self.dtype, "in"), "y": Operand(shape, self.out_dtype, "out")}
        return {
            "gy": Operand(shape, self.dtype, "in"),
            "y": Operand(shape, self.dtype, "in"),
            "gx": Operand(shape, self.out_dtype, "out"),
        }

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "softmax 2048x50257 bf16 fwd"."""
        return f"softmax {self.rows}x{self.columns} {self.dtype} {self.direction}"


class Reduce(Problem, frozen=True):
    """y[o, i] = sum, max, min or mean over a of x[o, a, i]: a reduction over the middle one of (outer, length, inner).

    Any axis of any tensor is this: outer = product of the sizes before it, inner = product of those after it. bwd (sum
    and mean): gx[o, a, i] = gy[o, i], for the mean divided by length. `out_dtype` is `dtype` where left empty. keep:
    outputs keep the reduced axis with size 1. InputError as in `Softmax`, and for the gradient of a max or min.
    """

    kind: ClassVar[str] = "reduce"

    outer: int
    length: int
    inner: int
    function: str = "sum"
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"
    keep: bool = False

    def __post_init__(self) -> None:
        for name in ("outer", "length", "inner"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        check_choice(self.kind, "function", self.function, ("sum", "max", "min", "mean"))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        force_setattr(
            self, "out_dtype", check_float_format(self.kind, "out_dtype", unless_given(self.out_dtype, self.dtype))
        )
        directions = ("fwd", "bwd") if self.function in ("sum", "mean") else ("fwd",)
        check_choice(self.kind, f"direction of a {self.function}", self.direction, directions)
        check_flag(self.kind, "keep", self.keep)
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """x (outer, length, inner) and y (outer, inner); bwd: gy and gx."""
        whole = (self.outer, self.length, self.inner)
        less = (self.outer, 1, self.inner) if self.keep else (self.outer, self.inner)
        if self.direction == "fwd":
            return {"x": Operand(whole, self.dtype, "in"), "y": Operand(less, self.out_dtype, "out")}
        return {"gy": Operand(less, self.dtype, "in"), "gx": Operand(whole, self.out_dtype, "out")}

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "reduce sum 8x4096x64 bf16 fwd"."""
        return f"reduce {self.function} {self.outer}x{self.length}x{self.inner} {self.dtype} {self.direction}"
