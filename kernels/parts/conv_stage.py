"""Which rows of x a node fetches from memory once, and which it takes from its neighbours, in a forward convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.lang import K

if TYPE_CHECKING:
    from accel.kernels.parts.conv_tiling import Tiling
    from accel.lang import View
    from accel.problem.convolution import Axis

__all__ = ["Pace", "Plan", "Stage", "plan_of"]

AHEAD = 2  # tiles whose rows are on their way while those of one are waited for
FAR = 3  # columns at the far end of a row that the others wait for
SLACK = 1  # tiles that a node may be ahead of the far end of its row, beside those on their way
MOST_BANDS = 1 << 18  # beyond it a plan would take seconds


@dataclass(frozen=True)
class Plan:
    """Units of x (`Tiling.block` pixels of a row) that pass between neighbours; the same numbers for all nodes.

    tail: of a node's last units, how many the next node reads; head: of its first, how many the node before reads.
    upto: how many of its own units a node needs by each tile; meets: the first tile that reads units of the next node.
    """

    tail: int
    head: int
    upto: tuple[int, ...]
    meets: int


def plan_of(T: Tiling) -> Plan | None:
    """Return the plan of a tiling whose nodes fetch every row once, None where halos lie beyond the next node."""
    s, total, nodes = T.shape, T.all_bands, T.members
    if T.parts > 1 or total > MOST_BANDS or s.w.size % T.block or T.units < nodes:
        return None
    down, across = T.blocks
    band = np.arange(total)
    row = band // across // down
    blocks = s.w.size // T.block
    time = _reach(s.t, row % s.t.out * s.t.stride, s.t.taps, s.t.dilation)
    top = band // across % down * (T.high * s.h.stride)
    y = _reach(s.h, top, s.h.taps, s.h.dilation) if T.high == 1 else _reach(s.h, top, T.rows, 1)
    column = _reach(s.w, band % across * (T.wide * s.w.stride), T.columns, 1)
    lands = (time[0] <= time[1]) & (y[0] <= y[1]) & (column[0] <= column[1])
    clip = row // s.t.out
    low, high = (
        ((clip * s.t.size + time[end]) * s.h.size + y[end]) * blocks + column[end] // T.block for end in (0, 1)
    )
    if not lands.any():
        return None

    firsts = -(-np.arange(nodes + 1) * T.units // nodes)
    starts = -(-np.arange(nodes + 1) * total // nodes)
    node = np.searchsorted(starts, band, side="right") - 1
    before, after = firsts[np.maximum(node - 1, 0)], firsts[np.minimum(node + 2, nodes)]
    if (lands & ((low < before) | (high >= after))).any():
        return None
    tile = np.searchsorted([low for low, _ in T.cuts()], band - starts[node], side="right") - 1
    upto = np.zeros(T.tiles, np.int64)
    np.maximum.at(upto, tile[lands], (high - firsts[node] + 1)[lands])
    head = max(0, int((high - firsts[node + 1] + 1)[lands].max()))
    upto[0] = max(upto[0], head)  # what the node before waits for comes first
    beyond = lands & (high >= firsts[node + 1])
    return Plan(
        tail=max(0, int((firsts[node] - low)[lands].max())),
        head=head,
        upto=tuple(np.maximum.accumulate(upto).tolist()),
        meets=int(tile[beyond].min()) if beyond.any() else T.tiles,
    )


def _reach(axis: Axis, start: Any, count: int, step: int) -> tuple[Any, Any]:
    """Return the first and last position inside the axis of `count` ones, `step` apart, from start - pad on."""
    start = start - axis.pad
    first = start + step * -(np.minimum(start, 0) // step)
    last = np.minimum(start + step * (count - 1), start + (axis.size - 1 - start) // step * step)
    return first, last


class Pace:
    """Memory serves nodes near it sooner; so that none starves, a row of the mesh keeps the pace of its far end.

    A node asks for the rows of a tile once the last columns have those of the tile `lag` before.
    """

    def __init__(self, k: K, tiling: Tiling, lag: int) -> None:
        self.k, self.tiling, self.lag, self.far = k, tiling, lag, min(FAR, tiling.grid_cols)
        self.tokens = k.sem(lag, "pace")
        least = tiling.all_bands // tiling.members
        self.tiles = max(0, sum(1 for low, _ in tiling.cuts() if low < least) - lag)

    def keep(self, tile: int) -> None:
        """Wait for the far end before asking for more."""
        if self.lag <= tile < self.tiles + self.lag:
            self.k.wait(self.tokens[tile % self.lag], self.far)

    def arrived(self, tile: int) -> None:
        """Tell the row that this node has the rows of a tile, if it is at the far end."""
        if tile < self.tiles:
            with self.k.when(self.k.col >= self.tiling.grid_cols - self.far):
                self.k.inc(
                    self.tokens[tile % self.lag], at=self.k.rect(self.k.row, self.k.row + 1, 0, self.tiling.grid_cols)
                )


class Stage:
    """A node's own rows on their way from memory, batch by batch ahead of the tiles, and the news to its neighbours."""

    def __init__(self, k: K, tiling: Tiling, plan: Plan, home: View, x: View) -> None:
        T = self.tiling = tiling
        self.k, self.plan = k, plan
        self.home, self.x = home.merge(0), x.merge(0)
        self.arrived, self.last = k.sem(AHEAD + 1, "rows_arrived"), k.sem(name="last_rows")
        self.above, self.below = k.sem(name="rows_above"), k.sem(name="rows_below")
        self.pace = Pace(k, T, SLACK)

    def place(self, member: Any, first: Any, count: int, tiles: int) -> None:
        """Say which units are this node's: `count` from `first` on, for so many tiles."""
        T, P = self.tiling, self.plan
        self.first, self.count, self.tiles = first, count, tiles
        self.before = (member - 1) // T.grid_cols, (member - 1) % T.grid_cols
        self.after = (member + 1) // T.grid_cols, (member + 1) % T.grid_cols
        self.has_before, self.has_after = bool(member > 0), bool(member < T.members - 1)
        self.tail = min(P.tail, count) if self.has_after else 0

    def fetch(self, tile: int) -> None:
        """Ask for the rows of tiles to come; return when those of `tile` can be read here and at the neighbours."""
        k, P = self.k, self.plan
        if tile == 0:
            if self.tail:
                self._copy(self.count - self.tail, self.count, self.last)
            for early in range(AHEAD):
                self._batch(early)
            if self.tail:
                k.wait(self.last)
                k.inc(self.above, at=self.after)
        self.pace.keep(tile)
        self._batch(tile + AHEAD)
        if self._span(tile):
            k.wait(self.arrived[tile % (AHEAD + 1)])
        self.pace.arrived(tile)
        if tile == 0:
            if self.has_before and P.head:
                k.inc(self.below, at=self.before)
            if self.has_before and P.tail:
                k.wait(self.above)
        if self.has_after and P.head and tile == min(P.meets, self.tiles - 1):
            k.wait(self.below)

    def _span(self, tile: int) -> tuple[int, int] | None:
        if tile >= self.tiles:
            return None
        end = self.count - self.tail
        low = min(self.plan.upto[tile - 1], end) if tile else 0
        high = min(self.plan.upto[tile], end)
        return (low, high) if low < high else None

    def _batch(self, tile: int) -> None:
        span = self._span(tile)
        if span:
            self._copy(*span, self.arrived[tile % (AHEAD + 1)])

    def _copy(self, low: int, high: int, done: Any) -> None:
        block = self.tiling.block
        start, size = (self.first + low) * block, (high - low) * block
        self.k.copy(self.home[low * block : high * block], self.x[start : start + size], done=done)
