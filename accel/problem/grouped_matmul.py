"""Grouped matrix multiplication as a problem: every run of rows has a matrix of its own, as in a mixture of experts."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_format,
    check_int,
    unless_given,
)
from accel.problem.movement import check_parts
from accel.problem.workload import Operand, Problem

__all__ = ["GroupedMatmul"]


class GroupedMatmul(Problem, frozen=True):
    """c (m, n): rows of group g of a (m, k) times b[g] of b (groups, k, n); m is the sum of the groups.

    groups: rows of each group in order, 0 or more, as a tuple or as text "16+0+32". dgrad takes gc (m, n) and b to ga
    (m, k); wgrad takes a and gc to gb (groups, k, n), +0 for a group without rows. dtype is the format of the inputs,
    out_dtype that of the result (empty: dtype, or bf16 for 8-bit floats). InputError for sizes out of range.
    """

    kind: ClassVar[str] = "grouped_matmul"

    n: int
    k: int
    groups: str | tuple[int, ...] = "1"
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in ("n", "k"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        force_setattr(self, "groups", check_parts(self.kind, "groups", self.groups, low=0))
        if not self.m:
            raise InputError("grouped_matmul: no group has a row; give at least one row")
        force_setattr(self, "dtype", check_format(self.kind, "dtype", self.dtype))
        default = "bf16" if self.dtype.startswith("cfp8") else self.dtype
        force_setattr(self, "out_dtype", check_format(self.kind, "out_dtype", unless_given(self.out_dtype, default)))
        check_choice(self.kind, "direction", self.direction, ("fwd", "dgrad", "wgrad"))
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each group."""
        return check_parts(self.kind, "groups", self.groups, low=0)

    @property
    def m(self) -> int:
        """Rows of all groups."""
        return sum(self.rows)

    @property
    def operands(self) -> dict[str, Operand]:
        """The two inputs and the output of the direction."""
        a, b, c = (self.m, self.k), (len(self.rows), self.k, self.n), (self.m, self.n)
        shapes: dict[str, tuple[int, ...]]
        out: tuple[str, tuple[int, ...]]
        if self.direction == "fwd":
            shapes, out = {"a": a, "b": b}, ("c", c)
        elif self.direction == "dgrad":
            shapes, out = {"gc": c, "b": b}, ("ga", a)
        else:
            shapes, out = {"a": a, "gc": c}, ("gb", b)
        found = {name: Operand(shape, self.dtype, "in") for name, shape in shapes.items()}
        return {**found, out[0]: Operand(out[1], self.out_dtype, "out")}

    @property
    def macs(self) -> int:
        """m n k."""
        return self.m * self.n * self.k

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name` that must be moved: of b only the matrices of groups that have rows."""
        if name == "b":
            return sum(1 for rows in self.rows if rows) * self.k * self.n
        return super().compulsory_elements(name)

    @property
    def label(self) -> str:
        """For example "grouped_matmul fwd 8 groups 4096x1024x512 bf16"."""
        formats = self.dtype if self.dtype == self.out_dtype else f"{self.dtype}>{self.out_dtype}"
        return f"grouped_matmul {self.direction} {len(self.rows)} groups {self.m}x{self.n}x{self.k} {formats}"
