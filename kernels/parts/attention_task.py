"""One stretch of the backward kernel on one node: its items, and in which order the matrix unit takes them."""

from __future__ import annotations

from typing import Any

from accel.kernels.parts.attention_plan import Plan
from accel.kernels.parts.attention_seat import Seat, items_of
from accel.kernels.parts.attention_strips import streamed
from accel.lang import K
from accel.problem.attention import Attention

__all__ = ["Task"]


class Task:
    """One stretch on this node: its seat, its items, what streams by, and when the matrix unit scores which item."""

    def __init__(self, k: K, problem: Attention, stretch: Any, plan: Plan) -> None:
        self.side, self.seat = stretch.side, Seat(k, problem, stretch, plan.chunk)
        self.blocks = streamed(problem, self.side, problem.block)
        self.items = items_of(problem, self.side, self.seat.pieces, problem.block, plan.chunk)
        self.unseen = [p for p in self.seat.pieces if self.side == "k" and p.edge >= problem.q]
        self.points = [self._point(x, plan) for x in range(len(self.items))]

    def due(self, t: int) -> list[int]:
        """Return the items that are scored just before the sums of item t (below 0: of one of the trip before)."""
        return [x for x, point in enumerate(self.points) if point == t]

    @property
    def late(self) -> int:
        """Item after whose sums the rows of the next trip may come: when memory has least else to do."""
        when = len(self.blocks) // (4 if self.side == "q" else 2)
        found = next((t for t, item in enumerate(self.items) if item.block >= when), len(self.items) - 1)
        return min(found, len(self.items) + self.points[0] - 1)  # and before the next trip asks for them

    def place(self, x: int) -> int:
        """Return how many blocks have streamed by before that of item x of this trip (below 0: of the one before)."""
        return x // len(self.items) * len(self.blocks) + self.items[x % len(self.items)].block

    def _point(self, x: int, plan: Plan) -> int:
        """Return before which item's sums item x is scored: some ahead, but never so far that no slot is left."""
        early = x - min(plan.ahead, len(self.items))
        return next(y for y in range(early, x + 1) if self.place(x) - self.place(y) < plan.stages)

    def skipped(self, x: int) -> range:
        """Return the blocks of this trip before that of item x, and after the item before, that this node lets go."""
        return range(self.items[x - 1].block + 1 if x else 0, self.items[x].block)

    @property
    def rest(self) -> range:
        """Blocks of a trip after the last item."""
        return range(self.items[-1].block + 1 if self.items else 0, len(self.blocks))

    def opens(self, t: int) -> bool:
        """Whether item t is the first of its block on this node."""
        return t == 0 or self.items[t - 1].block < self.items[t].block

    def closes(self, t: int) -> bool:
        """Whether item t is the last of its block on this node."""
        return t == len(self.items) - 1 or self.items[t + 1].block > self.items[t].block
