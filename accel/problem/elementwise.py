"""Elementwise problems: a function of one tensor or two, with its gradient, and a bias added to every row."""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar, Self

from msgspec.structs import force_setattr

from accel.problem.checks import (
    check_choice,
    check_elements,
    check_float_format,
    check_int,
    check_number,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["FUNCTIONS", "BiasAdd", "Elementwise"]

# Operands of each function: forward, and of its gradient beside gy; y stands for the saved result.
FUNCTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "relu": (("x",), ("x",)),
    "gelu": (("x",), ("x",)),
    "gelu_tanh": (("x",), ("x",)),
    "silu": (("x",), ("x",)),
    "sigmoid": (("x",), ("y",)),
    "tanh": (("x",), ("y",)),
    "exp": (("x",), ("y",)),
    "add": (("a", "b"), ()),
    "mul": (("a", "b"), ("a", "b")),
    "add_scalar": (("x", "s"), ()),
    "mul_scalar": (("x", "s"), ("s",)),
    "dropout": (("x",), ()),
}


class Elementwise(Problem, frozen=True):
    """y[i] = function of x[i], or of a[i] and b[i], over `size` elements: a tensor of any shape, flattened.

    function: relu; gelu (exact) and gelu_tanh; silu, x * sigmoid(x); sigmoid, tanh, exp; add, mul of two tensors;
    add_scalar, mul_scalar with s (1,) in fp32, read when the program runs; dropout: x / (1 - p) with probability 1 - p,
    otherwise +0. direction "bwd": the gradient from gy and what the function needs: x, or the saved y of sigmoid, tanh
    and exp, or a and b; it gives gx, or ga and gb. Dropout draws the random number of an element from the seed of the
    run, `stream` and the element's place i, so its gradient draws the mask again and nothing is stored.

    dtype: bf16, fp16 or fp32, of all inputs but s; out_dtype that of the results, `dtype` where left empty. InputError
    for anything else, for p outside [0, 1) or a stream outside 0..2^32 - 1.
    """

    kind: ClassVar[str] = "elementwise"

    size: int
    function: str = "relu"
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"
    p: float = 0.5
    stream: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_int(self.kind, "size", self.size))
        check_choice(self.kind, "function", self.function, tuple(FUNCTIONS))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        force_setattr(
            self, "out_dtype", check_float_format(self.kind, "out_dtype", unless_given(self.out_dtype, self.dtype))
        )
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        force_setattr(self, "p", check_number(self.kind, "p", self.p, low=0.0, high=1.0 - 2.0**-24))
        force_setattr(self, "stream", check_int(self.kind, "stream", self.stream, low=0, high=(1 << 32) - 1))

    @classmethod
    def parse(cls, text: object, **options: Any) -> Self:
        """Build from the number of elements, or from any shape that multiplies to it: "8,56,56,64"."""
        several = r"\s*[0-9]{1,15}(\s*[x,]\s*[0-9]{1,15})+\s*"
        if isinstance(text, str) and re.fullmatch(several, text.lower(), re.ASCII):
            text = str(math.prod(int(size) for size in re.findall("[0-9]+", text)))
        return super().parse(text, **options)

    @property
    def operands(self) -> dict[str, Operand]:
        """What the function reads, then what it writes."""
        forward, saved = FUNCTIONS[self.function]
        reads = forward if self.direction == "fwd" else ("gy", *saved)
        wrt = [name for name in forward if name != "s"]
        writes = ["y"] if self.direction == "fwd" else [f"g{name}" for name in wrt]
        whole = (self.size,)
        found = {
            name: Operand((1,), "fp32", "in") if name == "s" else Operand(whole, self.dtype, "in") for name in reads
        }
        return found | {name: Operand(whole, self.out_dtype, "out") for name in writes}

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "relu 67108864 bf16 fwd"."""
        formats = self.dtype if self.dtype == self.out_dtype else f"{self.dtype}>{self.out_dtype}"
        return f"{self.function} {self.size} {formats} {self.direction}"


class BiasAdd(Problem, frozen=True):
    """y[r, c] = x[r, c] + bias[c], bias in fp32; bwd: gbias[c] = sum of gy[r, c] over the rows (gx is gy itself).

    dtype: bf16, fp16 or fp32, of x, y and gy. out_dtype: of the result; left empty it is `dtype`, for gbias bf16.
    InputError for sizes below 1, above 2^40 or not whole, and for another format or direction.
    """

    kind: ClassVar[str] = "bias_add"

    rows: int
    columns: int
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        default = self.dtype if self.direction == "fwd" else "bf16"
        force_setattr(
            self, "out_dtype", check_float_format(self.kind, "out_dtype", unless_given(self.out_dtype, default))
        )
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """x, bias and y; bwd: gy and gbias."""
        whole, row = (self.rows, self.columns), (self.columns,)
        if self.direction == "bwd":
            return {"gy": Operand(whole, self.dtype, "in"), "gbias": Operand(row, self.out_dtype, "out")}
        return {
            "x": Operand(whole, self.dtype, "in"),
            "bias": Operand(row, "fp32", "in"),
            "y": Operand(whole, self.out_dtype, "out"),
        }

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "bias_add 2048x12288 bf16 fwd"."""
        return f"bias_add {self.rows}x{self.columns} {self.dtype} {self.direction}"
