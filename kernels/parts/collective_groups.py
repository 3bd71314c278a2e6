"""The members of a collective: their numbers, their nodes, the ring that goes through them, and whether they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.lang import K

__all__ = ["Group", "on_mesh"]


@dataclass(frozen=True)
class Group:
    """One group as a node sees it: `size` members, of which this is number `member`; `number` counts groups.

    over: "mesh" (members row by row), "rows" or "cols" (members along the line).
    """

    k: K
    over: str
    rows: int
    cols: int

    @property
    def size(self) -> int:
        """Return how many members there are."""
        return {"mesh": self.rows * self.cols, "rows": self.cols, "cols": self.rows}[self.over]

    @property
    def member(self) -> Any:
        """Return this node's number."""
        k = self.k
        return {"mesh": k.row * self.cols + k.col, "rows": k.col, "cols": k.row}[self.over]

    @property
    def number(self) -> Any:
        """Return the number of this group."""
        return {"mesh": 0, "rows": self.k.row, "cols": self.k.col}[self.over]

    @property
    def everyone(self) -> Any:
        """Return the target of all members."""
        k = self.k
        return {"mesh": k.all_nodes, "rows": k.row_nodes, "cols": k.col_nodes}[self.over]()

    def node(self, member: Any) -> tuple[Any, Any]:
        """Return (row, col) of a member of this node's group."""
        k = self.k
        if self.over == "mesh":
            return member // self.cols, member % self.cols
        return (k.row, member) if self.over == "rows" else (member, k.col)

    def at(self, place: Any) -> Any:
        """Return the member at a place of the ring (modulo its length): in order, every second row backwards."""
        place = place % self.size
        return self._mirrored(place)

    @property
    def place(self) -> Any:
        """Return this node's place on the ring."""
        return self._mirrored(self.member)

    def _mirrored(self, number: Any) -> Any:
        """Turn every second row of a mesh round; it is its own inverse."""
        if self.over != "mesh":
            return number
        row, col = number // self.cols, number % self.cols
        return row * self.cols + col + (row % 2) * (self.cols - 1 - 2 * col)


def on_mesh(spec: ChipSpec, problem: Any, held: frozenset[str]) -> tuple[ChipSpec, frozenset[str]]:
    """Return the chip and the resident operands; UnsupportedError for a small mesh, InputError for unknown names."""
    if problem.rows > spec.mesh.rows or problem.cols > spec.mesh.cols:
        raise UnsupportedError(
            f"{problem.label} takes {problem.rows} x {problem.cols} nodes and {spec.name} has {spec.mesh.rows} x "
            f"{spec.mesh.cols}; use a part of its mesh"
        )
    if not held <= {"x", "y"}:
        raise InputError(f"{problem.kind} has no operand {min(held - {'x', 'y'})!r} to keep resident; use 'x' or 'y'")
    return spec, held
