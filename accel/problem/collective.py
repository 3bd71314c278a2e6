"""Collectives over a mesh of nodes as problems: who ends with what, by which order of sums, and the least bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.numerics import fmt
from accel.problem.bound import Demand
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_flag,
    check_format,
    check_int,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["ALGORITHMS", "Collective", "HaloExchange"]

SIDE = 1 << 10  # nodes along a side of a mesh
SUMS = ("fp32", "bf16", "fp16", "int32")

ALGORITHMS: dict[str, tuple[str, ...]] = {
    "broadcast": ("multicast",),
    "reduce": ("ring", "grid", "recursive"),
    "all_reduce": ("ring", "grid", "recursive"),
    "reduce_scatter": ("ring", "grid", "recursive"),
    "all_gather": ("ring", "multicast"),
    "all_to_all": ("direct",),
    "barrier": ("dissemination", "hardware"),
}
"""What each operation can be done by; for sums this names their order, so it is part of a problem."""


class Collective(Problem, frozen=True):
    """An operation among the members of a group: all nodes of rows x cols, or (`over`) those of each row or column.

    Nodes count row by row, members of a group likewise; a group has `size` of them. x holds a row of numbers for each
    node, y too (n = `elements`):

    broadcast       x (groups, n), of the member `root`      y (nodes, n)
    reduce          x (nodes, n)                             y (groups, n): the sum, at the member `root`
    all_reduce      x (nodes, n)                             y (nodes, n): the sum, everywhere
    reduce_scatter  x (nodes, size n)                        y (nodes, n): the sum of part j, at member j
    all_gather      x (nodes, n)                             y (nodes, size n): part j is x of member j
    all_to_all      x (nodes, size n)                        y (nodes, size n): part j is part i of x of member j
    barrier         x (nodes, n)                             y (nodes, n): x of the next member, read when all are there

    algorithm: of `ALGORITHMS`; empty for the first, but for grid in sums over a mesh that is no line. dtype: any
    format; for sums fp32, bf16, fp16 or int32, and every partial sum is rounded to it. InputError for sizes that
    are out of range and names that do not exist.
    """

    kind: ClassVar[str] = "collective"

    rows: int
    cols: int
    elements: int
    op: str = "all_reduce"
    algorithm: str = ""
    over: str = "mesh"
    root: int = 0
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        for name, high in (("rows", SIDE), ("cols", SIDE), ("elements", 1 << 40)):
            force_setattr(self, name, check_int("collective", name, getattr(self, name), high=high))
        check_choice("collective", "op", self.op, tuple(ALGORITHMS))
        check_choice("collective", "over", self.over, ("mesh", "rows", "cols"))
        known = ALGORITHMS[self.op]
        default = "grid" if "grid" in known and self.over == "mesh" and min(self.rows, self.cols) > 1 else known[0]
        force_setattr(self, "algorithm", unless_given(self.algorithm, default))
        check_choice(f"collective {self.op}", "algorithm", self.algorithm, known)
        if self.algorithm == "grid" and self.over != "mesh":
            raise InputError(f"collective {self.op}: grid goes over a mesh, and {self.over} are lines; use 'ring'")
        force_setattr(self, "root", check_int("collective", "root", self.root, low=0, high=self.size - 1))
        force_setattr(self, "dtype", check_format("collective", "dtype", self.dtype))
        if self.sums and self.dtype not in SUMS:
            raise InputError(f"collective {self.op}: sums are not taken in {self.dtype}; use {', '.join(SUMS)}")
        for name, operand in self.operands.items():
            check_elements("collective", name, operand.shape, operand.role)

    @property
    def nodes(self) -> int:
        """rows cols."""
        return self.rows * self.cols

    @property
    def size(self) -> int:
        """Members of a group."""
        return {"mesh": self.nodes, "rows": self.cols, "cols": self.rows}[self.over]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return self.nodes // self.size

    @property
    def sums(self) -> bool:
        """Whether numbers are added."""
        return self.op in ("reduce", "all_reduce", "reduce_scatter")

    @property
    def operands(self) -> dict[str, Operand]:
        """x and y, a row for each node (or group)."""
        many, whole = self.elements, self.size * self.elements
        x = (self.groups if self.op == "broadcast" else self.nodes,
             whole if self.op in ("reduce_scatter", "all_to_all") else many)  # fmt: skip
        y = (self.groups if self.op == "reduce" else self.nodes,
             whole if self.op in ("all_gather", "all_to_all") else many)  # fmt: skip
        return {"x": Operand(x, self.dtype, "in"), "y": Operand(y, self.dtype, "out")}

    @property
    def macs(self) -> int:
        """None: bytes set the time."""
        return 0

    @property
    def port_bytes(self) -> int:
        """Bytes that the busiest node must receive (or send, for a root) through its mesh port.

        The share of the others, (size - 1) / size, of what a node ends with; an all-reduce needs it twice, once to add
        and once to spread (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 69, 2009).
        """
        others = (self.size - 1) * self.elements * fmt(self.dtype).bytes
        if self.op in ("all_gather", "all_to_all", "reduce_scatter"):
            return others
        if self.op == "all_reduce":
            return 2 * (others // self.size)
        return self.elements * fmt(self.dtype).bytes if self.size > 1 else 0

    def demand(self, resident: Iterable[str] = ()) -> Demand:
        """Return what the operation asks of a chip: memory traffic, and `port_bytes` through the busiest mesh port.

        An all_to_all also has to cross the links in the middle of the mesh.
        """
        asked = super().demand(resident)
        return asked._replace(message_bytes=self.port_bytes, crossing_bytes=self._crossing_bytes)

    @property
    def _crossing_bytes(self) -> int:
        """Bytes over the busiest link of the cut that halves a line, or the longer side of a mesh (all_to_all)."""
        if self.op != "all_to_all":
            return 0
        long, links = max(self.rows, self.cols), min(self.rows, self.cols)
        if self.over != "mesh":
            long, links = self.size, 1
        pairs = (long // 2) * (long - long // 2) * links * links  # senders on one side times receivers on the other
        return pairs * self.elements * fmt(self.dtype).bytes // links

    @property
    def label(self) -> str:
        """For example "all_reduce ring over mesh 4x4 1000 fp32"."""
        return f"{self.op} {self.algorithm} over {self.over} {self.rows}x{self.cols} {self.elements} {self.dtype}"


class HaloExchange(Problem, frozen=True):
    """Tiles of an image on a mesh get the borders of their neighbours: x (rows cols, h, w, c), one tile a node.

    y (rows cols, h + 2 halo, w + 2 halo, c) has the tile in the middle, around it what the eight neighbours have there,
    and +0 beyond the image; with `wrap` the image goes on at its other side. halo is at most h and w.
    """

    kind: ClassVar[str] = "halo_exchange"

    rows: int
    cols: int
    h: int
    w: int
    c: int
    halo: int = 1
    wrap: bool = False
    dtype: str = "bf16"

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name), high=SIDE))
        for name in ("h", "w", "c"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        force_setattr(self, "halo", check_int(self.kind, "halo", self.halo, high=min(self.h, self.w)))
        check_flag(self.kind, "wrap", self.wrap)
        force_setattr(self, "dtype", check_format(self.kind, "dtype", self.dtype))
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """x and y."""
        nodes, more = self.rows * self.cols, 2 * self.halo
        x, y = (nodes, self.h, self.w, self.c), (nodes, self.h + more, self.w + more, self.c)
        return {"x": Operand(x, self.dtype, "in"), "y": Operand(y, self.dtype, "out")}

    @property
    def macs(self) -> int:
        """None: bytes set the time."""
        return 0

    @property
    def port_bytes(self) -> int:
        """Bytes that a node with the most neighbours must receive: its whole border, or the part that has any."""
        borders = [2 if self.wrap and size > 1 else min(2, size - 1) for size in (self.rows, self.cols)]
        sides = [self.halo * count for count in borders]
        cells = (self.h + sides[0]) * (self.w + sides[1]) - self.h * self.w
        return cells * self.c * fmt(self.dtype).bytes

    def demand(self, resident: Iterable[str] = ()) -> Demand:
        """Return what the exchange asks of a chip: memory traffic, and `port_bytes` through the busiest mesh port."""
        return super().demand(resident)._replace(message_bytes=self.port_bytes)

    @property
    def label(self) -> str:
        """For example "halo_exchange 4x4 of 16x16x8 by 1 bf16"."""
        wrap = " wrapped" if self.wrap else ""
        return f"halo_exchange {self.rows}x{self.cols} of {self.h}x{self.w}x{self.c} by {self.halo} {self.dtype}{wrap}"
