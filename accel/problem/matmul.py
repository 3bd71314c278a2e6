"""Matrix multiplication as a problem: c = a @ b."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.numerics import fmt
from accel.problem.checks import check_elements, check_flag, check_format, check_int
from accel.problem.workload import Operand, Problem

__all__ = ["Matmul"]


class Matmul(Problem, frozen=True):
    """c (m, n) = a (m, k) @ b (k, n); `trans_a` stores a as (k, m), `trans_b` stores b as (n, k).

    `dtype` is the format of both inputs, `out_dtype` that of c; left empty it becomes int32 for integers, bf16 for
    8-bit floats and for uhp16, which has no signs, and otherwise `dtype`. InputError for sizes below 1, above 2^40 or
    not whole.
    """

    kind: ClassVar[str] = "matmul"

    m: int
    n: int
    k: int
    dtype: str = "bf16"
    out_dtype: str = ""
    trans_a: bool = False
    trans_b: bool = False

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            force_setattr(self, name, check_int("matmul", name, getattr(self, name)))
        force_setattr(self, "dtype", check_format("matmul", "dtype", self.dtype))
        out = _default_result(self.dtype) if self.out_dtype == "" else self.out_dtype
        force_setattr(self, "out_dtype", check_format("matmul", "out_dtype", out))
        for name in ("trans_a", "trans_b"):
            check_flag("matmul", name, getattr(self, name))
        for name, operand in self.operands.items():
            check_elements("matmul", name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """a and b as stored, and c."""
        a = (self.k, self.m) if self.trans_a else (self.m, self.k)
        b = (self.n, self.k) if self.trans_b else (self.k, self.n)
        return {
            "a": Operand(a, self.dtype, "in"),
            "b": Operand(b, self.dtype, "in"),
            "c": Operand((self.m, self.n), self.out_dtype, "out"),
        }

    @property
    def macs(self) -> int:
        """m n k."""
        return self.m * self.n * self.k

    @property
    def label(self) -> str:
        """For example "matmul 4096x4096x4096 bf16" or "matmul 64x48x32 bf16>fp32 TN"."""
        formats = self.dtype if self.dtype == self.out_dtype else f"{self.dtype}>{self.out_dtype}"
        flags = f" {'NT'[self.trans_a]}{'NT'[self.trans_b]}" if self.trans_a or self.trans_b else ""
        return f"matmul {self.m}x{self.n}x{self.k} {formats}{flags}"


def _default_result(dtype: str) -> str:
    """The format of c where none is given: one that holds sums of products of `dtype`."""
    form = fmt(dtype)
    if form.kind == "int":
        return "int32"
    return dtype if form.signed and form.bits > 8 else "bf16"
