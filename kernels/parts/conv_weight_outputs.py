"""What `conv_weight_gradient` makes: tiles of gw and slices of gb through the tree over chains and images, and out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.conv_weight_share import Share, left
from accel.kernels.parts.conv_weight_tiling import Tiling
from accel.lang import K, TensorSpec

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Outputs", "add_up"]

PIECE = 768  # elements of a tile added at once: a product waits for the ports behind all that was asked for before it


class Outputs:
    """Tiles of gw (and slices of gb) that are being made, wait in the tree, travel between teams, and leave."""

    def __init__(
        self, k: K, gw: TensorSpec, gb: Any, tiling: Tiling, sums: str, *, corner: bool = False
    ) -> None:  # fmt: skip
        T, self.tiling, self.gw, self.gb = tiling, tiling, gw, gb if tiling.bias else None
        name = "corner_" if corner else ""
        tile, kept = (T.corner, T.corner) if corner else (T.tile, T.slice_shape)
        self.tiles = k.sram((T.pool, *tile), sums, name + "tiles")
        self.full, self.free = k.sem(name=name + "tile_full"), k.sem(T.pool, name + "tile_free")
        self.arrived, self.stored = k.sem(2, name + "arrived"), k.sem(name=name + "stored")
        self.inbox = k.sram((T.teams, *T.slice_shape), sums, name + "inbox") if T.teams > 1 else None
        self.out = k.sram(kept, gw.dtype, name + "out") if gw.dtype != sums else None
        self.biases = k.sram((T.pool, T.bias_width), "fp32", name + "biases") if T.bias else None
        self.bias_inbox = (
            k.sram((T.teams, T.bias_width), "fp32", name + "bias_inbox") if T.bias and T.teams > 1 else None
        )

    def place(self, k: K, mine: Share) -> None:
        """Say which part of gw and gb this node makes, and which slice of it this team finishes."""
        T, self.mine = self.tiling, mine
        self.shape = (mine.taps, mine.count[4], mine.count[5])
        wide = mine.count[0] * mine.count[5]
        start = mine.local % T.y_owners * T.bias_width
        count = 0
        if self.biases is not None:
            count = T.bias_width if T.bias_width * T.y_owners == wide else int(left(T.bias_width, wide - start))
        self.bias_part = (start, count)
        axis = T.slice_axis
        each = T.slice_shape[axis]
        self.low = mine.team * each
        length = each if each * T.teams == self.shape[axis] else int(left(each, self.shape[axis] - self.low))
        self.length = length if T.teams > 1 else self.shape[axis]
        if self.gw.resident and self.length > 0:
            for target, part in self._runs(self._result()):
                k.collect(target, part)
        if self.gb is not None and self.gb.resident and self.bias_part[1] > 0 and mine.team == 0:
            k.collect(*self._bias_result())

    def tile(self, index: int) -> View:
        """Return tile `index` of the pool."""
        taps, c, n = self.shape
        view: View = self.tiles[index, :taps, :c, :n]
        return view

    def bias(self, index: int) -> View | None:
        """Return the bias gradient beside tile `index`, where this node makes a part of it."""
        return self.biases[index, : self.bias_part[1]] if self.biases is not None and self.bias_part[1] > 0 else None

    def take(self, k: K, tiles: list[int], at: int) -> None:
        """Wait until the tile of chain `at` of all is free."""
        if tiles[at] in tiles[:at]:
            k.wait(self.free[tiles[at]])

    def merge(self, k: K, low: int, high: int) -> None:
        """Add tile `high` of the pool to tile `low`."""
        mine, other = self._flat(self.tile(low)), self._flat(self.tile(high))
        whole = mine.shape[0] // PIECE if mine.ndim == 1 else 0
        if whole:
            for i in k.loop(whole):
                here = slice(i * PIECE, i * PIECE + PIECE)
                k.vec.add(mine[here], mine[here], other[here])
        rest = slice(whole * PIECE, mine.shape[0])
        if rest.stop > rest.start:
            k.vec.add(mine[rest], mine[rest], other[rest])
        bias, more = self.bias(low), self.bias(high)
        if bias is not None and more is not None:
            k.vec.add(bias, bias, more)

    def _flat(self, tile: View) -> View:
        """Return a tile as one run where it is one, or as runs: rows of 24 filters would waste half of a pass."""
        (taps, c, n), (_, most_c, most_n) = self.shape, self.tiles.shape[1:]
        if n < most_n:
            return tile
        runs = tile.merge(1)
        return runs.merge(0) if c == most_c or taps == 1 else runs

    def give_back(self, k: K, tile: int, later: list[int]) -> None:
        """Free a tile that was added to another, where a later chain takes it."""
        if tile in later:
            k.inc(self.free[tile])

    def finish(self, k: K) -> None:
        """Sum the slices of all teams, round and store them."""
        T, sums, biases = self.tiling, self.tile(0), self.bias(0)
        if self.inbox is not None:
            self._send(k, sums, biases)
            if self.length > 0:
                k.wait(self.arrived[0], T.teams)
                inbox = self.inbox[(slice(None), *self._cut(0, self.length))]
                add_up(k, inbox)
                sums = inbox[0]
            if biases is not None and self.mine.team == 0:
                assert self.bias_inbox is not None
                k.wait(self.arrived[1], T.teams)
                add_up(k, self.bias_inbox[:, : self.bias_part[1]])
        copies = 0
        if self.length > 0:
            result = self._result()
            if self.out is not None:
                k.vec.cast(result, sums)
            for target, part in [] if self.gw.resident else self._runs(result):
                k.copy(target, part, sent=self.stored)
                copies += 1
        if biases is not None and self.mine.team == 0:
            assert self.gb is not None
            target, part = self._bias_result()
            if not self.gb.resident:
                k.copy(target, part, sent=self.stored)
                copies += 1
        if copies:
            k.wait(self.stored, copies)

    def _cut(self, low: int, length: int) -> tuple[slice, slice, slice]:
        cut = [slice(0, size) for size in self.shape]
        cut[self.tiling.slice_axis] = slice(low, low + length)
        return cut[0], cut[1], cut[2]

    def _send(self, k: K, sums: View, biases: View | None) -> None:
        """Push the slice of every team to its member with the same part of gw."""
        T, inbox = self.tiling, self.inbox
        assert inbox is not None
        axis = T.slice_axis
        each, side = T.slice_shape[axis], k.col % T.k_parts
        for team in range(T.teams):
            length = min(each, self.shape[axis] - team * each)
            node = team // T.across * T.team_rows + self.mine.local, team % T.across * T.k_parts + side
            if length > 0:
                part = inbox[(self.mine.team, *self._cut(0, length))]
                k.copy(part, sums[self._cut(team * each, length)], to=node, done=self.arrived[0])
            if team == 0 and biases is not None:
                assert self.bias_inbox is not None
                k.copy(self.bias_inbox[self.mine.team, : self.bias_part[1]], biases, to=node, done=self.arrived[1])

    def _result(self) -> View:
        if self.out is not None:
            return self.out[self._cut(0, self.length)]
        view: View = self.tile(0) if self.inbox is None else self.inbox[(0, *self._cut(0, self.length))]
        return view

    def _bias_result(self) -> tuple[View, View]:
        """Return this node's part of gb and where its sum is."""
        T, (start, count) = self.tiling, self.bias_part
        assert self.gb is not None
        first = self.mine.start[0] * T.k + self.mine.start[5] + start
        sums = self.biases if self.bias_inbox is None else self.bias_inbox
        assert sums is not None
        return self.gb[first : first + count], sums[0, :count]

    def _runs(self, result: View) -> Iterator[tuple[View, View]]:
        """Yield (part of gw, part of the result) for every group and row of taps."""
        T, axis = self.tiling, self.tiling.slice_axis
        (g0, t0, r0, s0, c0, k0), (groups, nt, nr, ns, nc, nk) = self.mine.start, self.mine.count
        low = self.low if T.teams > 1 else 0
        c = slice(c0 + low, c0 + low + self.length) if axis == 1 else slice(c0, c0 + nc)
        at = 0
        for g in range(groups):
            first = (g0 + g) * T.k + k0
            f = slice(first + low, first + low + self.length) if axis == 2 else slice(first, first + nk)
            for t in range(nt):
                for r in range(nr):
                    taps = (t0 + t, r0 + r)[5 - len(self.gw.shape) :]
                    yield self.gw[(*taps, slice(s0, s0 + ns), c, f)], result[at : at + ns]
                    at += ns


def add_up(k: K, parts: View) -> None:
    """Add `parts` up along the first dimension, into its first element: neighbours level by level, an odd last one
    passes through.
    """
    step, count = 1, parts.shape[0]
    while step < count:
        pairs = (count - step - 1) // (2 * step) + 1
        reach = (pairs - 1) * 2 * step + 1
        left = parts[0 : reach : 2 * step]
        k.vec.add(left, left, parts[step : step + reach : 2 * step])
        step *= 2
