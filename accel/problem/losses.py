"""Losses as problems: cross-entropy over classes, and L1, L2 and Huber between two tensors."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.problem.checks import check_choice, check_elements, check_float_format, check_int, check_number
from accel.problem.workload import Operand, Problem

__all__ = ["CrossEntropy", "ElementLoss"]


class CrossEntropy(Problem, frozen=True):
    """Cross-entropy of logits x (rows, classes) against int32 labels (rows,), softmax included.

    fwd: loss (rows,), their mean (1,) over the rows that count, and lse (rows,), log of the sum of exponentials, for
    bwd: gx = (softmax(x) - target) * scale, where scale (1,) is the gradient of the mean over the number of rows that
    count (times a loss scale, if any). smoothing mixes the target with the uniform one. A row whose label is
    `ignore_index` has loss and gradient 0 and does not count; any other label outside 0..classes-1 makes loss and
    gradient NaN. dtype (bf16, fp16, fp32) is that of x and gx; losses are fp32. InputError otherwise.
    """

    kind: ClassVar[str] = "cross_entropy"

    rows: int
    classes: int
    dtype: str = "bf16"
    direction: str = "fwd"
    smoothing: float = 0.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        for name in ("rows", "classes"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name), high=1 << 31))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        force_setattr(self, "smoothing", check_number(self.kind, "smoothing", self.smoothing, low=0.0, high=1.0))
        index = check_int(self.kind, "ignore_index", self.ignore_index, low=-(1 << 31), high=(1 << 31) - 1)
        force_setattr(self, "ignore_index", index)
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """fwd: x, labels -> loss, mean, lse. bwd: x, labels, lse, scale -> gx."""
        whole, column = (self.rows, self.classes), (self.rows,)
        inputs = {"x": Operand(whole, self.dtype, "in"), "labels": Operand(column, "int32", "in")}
        if self.direction == "fwd":
            return inputs | {
                "loss": Operand(column, "fp32", "out"),
                "mean": Operand((1,), "fp32", "out"),
                "lse": Operand(column, "fp32", "out"),
            }
        return inputs | {
            "lse": Operand(column, "fp32", "in"),
            "scale": Operand((1,), "fp32", "in"),
            "gx": Operand(whole, self.dtype, "out"),
        }

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "cross_entropy 2048x50257 bf16 fwd"."""
        return f"cross_entropy {self.rows}x{self.classes} {self.dtype} {self.direction}"


class ElementLoss(Problem, frozen=True):
    """Mean over all elements of |d| (l1), d * d (l2), or Huber's loss of d = x - target, with its gradient.

    huber: d * d / 2 where |d| <= delta, otherwise delta * (|d| - delta / 2). fwd: loss (1,) fp32. bwd: gx of the sum
    of the losses times scale (1,) fp32, the gradient of the mean over `elements` (times a loss scale, if any). dtype
    (bf16, fp16, fp32) is that of x, target and gx. InputError for another format, function or direction.
    """

    kind: ClassVar[str] = "element_loss"

    elements: int
    function: str = "l2"
    dtype: str = "bf16"
    direction: str = "fwd"
    delta: float = 1.0

    def __post_init__(self) -> None:
        force_setattr(self, "elements", check_int(self.kind, "elements", self.elements))
        check_choice(self.kind, "function", self.function, ("l1", "l2", "huber"))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        force_setattr(self, "delta", check_number(self.kind, "delta", self.delta, low=2.0**-100, high=2.0**100))

    @property
    def operands(self) -> dict[str, Operand]:
        """fwd: x, target -> loss (1,). bwd: x, target, scale (1,) -> gx."""
        whole = (self.elements,)
        inputs = {"x": Operand(whole, self.dtype, "in"), "target": Operand(whole, self.dtype, "in")}
        if self.direction == "fwd":
            return inputs | {"loss": Operand((1,), "fp32", "out")}
        return inputs | {"scale": Operand((1,), "fp32", "in"), "gx": Operand(whole, self.dtype, "out")}

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "huber loss 1048576 bf16 fwd"."""
        return f"{self.function} loss {self.elements} {self.dtype} {self.direction}"
