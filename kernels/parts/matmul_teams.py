"""Which team of `matmul` a node belongs to: its place in the grid, its matrices of the batch, its chains of k."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from accel.kernels.parts.matmul_panels import Chain
from accel.kernels.parts.matmul_tiling import GROUP, Tiling
from accel.lang import K

__all__ = ["Team", "share"]


@dataclass(frozen=True)
class Team:
    """A node of a team: (row, col) in its grid, whose corner is (top, left); `lane` and `replica` number the team.

    Lanes deal the matrices of the batch; the replicas of a lane share each, some chains of k each.
    """

    tiling: Tiling
    row: Any
    col: Any
    top: Any
    left: Any
    lane: Any
    replica: Any

    @classmethod
    def of(cls, k: K, tiling: Tiling) -> Team | None:
        """Return this node's team, None for a node that has nothing to do (its role ends there)."""
        T = tiling
        if T.team_rows == T.team_cols == 1:
            if k.row >= T.grid_rows or k.col >= T.grid_cols:
                return None
            return cls(T, k.row, k.col, 0, 0, 0, 0)
        if k.row >= T.team_rows * T.grid_rows or k.col >= T.team_cols * T.grid_cols:
            return None
        row, col = k.row % T.grid_rows, k.col % T.grid_cols
        number = (k.row // T.grid_rows) * T.team_cols + k.col // T.grid_cols
        if number >= T.lanes * T.replicas:
            return None
        return cls(T, row, col, k.row - row, k.col - col, number // T.replicas, number % T.replicas)

    def peer(self, replica: int) -> tuple[Any, Any]:
        """Return the node at this place of another replica of the lane."""
        T = self.tiling
        number = self.lane * T.replicas + replica
        return (number // T.team_cols) * T.grid_rows + self.row, (number % T.team_cols) * T.grid_cols + self.col

    def matrices(self) -> list[Any]:
        """Return the matrices of the batch that this lane computes: every `lanes`-th."""
        T = self.tiling
        full, more = divmod(T.batch, T.lanes)
        count = full + 1 if more and self.lane < more else full
        return [self.lane + number * T.lanes for number in range(count)]

    def chains(self) -> list[Chain]:
        """Return the chains that this replica adds up: `span` neighbours, fewer in the last replica."""
        T = self.tiling
        first = self.replica * T.span
        count = T.span
        if T.chains % T.span and self.replica == T.replicas - 1:
            count = T.chains % T.span
        found = [Chain((first + x) * T.depth, T.depth) for x in range(count)]
        short = T.k - (T.chains - 1) * T.depth
        if short < T.depth and self.replica == T.replicas - 1:
            found[-1] = Chain(found[-1].first, short)
        return found


def share(index: Any, size: int, owners: int) -> tuple[Any, int]:
    """Return (first element, elements) of the node at `index`: whole groups of 8, differing by at most one group."""
    each, more = divmod(ceil(size / GROUP), owners)
    first, groups = (index * (each + 1), each + 1) if index < more else (index * each + more, each)
    if index == owners - 1:
        return first * GROUP, size - (ceil(size / GROUP) - groups) * GROUP
    return first * GROUP, groups * GROUP
