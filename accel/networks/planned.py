"""A layer whose kernel is not in the library yet: its tensors, so that its bytes count and its name is told."""

from __future__ import annotations

from typing import ClassVar

from accel.problem import Operand, Problem

__all__ = ["Planned"]


class Planned(Problem, frozen=True):
    """Work that reads and writes tensors of so many elements in `dtype`; nothing computes it.

    what: the name of the kernel that is missing, with its parameters.
    """

    kind: ClassVar[str] = "planned"

    what: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    dtype: str = "bf16"

    @property
    def operands(self) -> dict[str, Operand]:
        """x0, x1, ... and y0, y1, ..., flat."""
        return {f"x{i}": Operand((n,), self.dtype, "in") for i, n in enumerate(self.reads)} | {
            f"y{i}": Operand((n,), self.dtype, "out") for i, n in enumerate(self.writes)
        }

    @property
    def macs(self) -> int:
        """0: the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "max_pool 3x3/2 of 802816x64"."""
        return self.what
