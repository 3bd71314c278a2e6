"""What `matmul.stationary` is made of: the panels of an operand on their way in, and the results on their way out."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.matmul_formats import Formats, buffer
from accel.kernels.parts.matmul_tiling import GROUP, Tiling
from accel.lang import K, TensorSpec

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Panels", "Results"]


class Panels:
    """One operand: `stages` panels that a step fills, the semaphores around them, and where the data comes from.

    a runs along rows (its owners are the columns of the grid), b along columns. In memory, one node in turn issues
    the multicast of a whole step; a resident operand lies in `home` pieces, dealt round-robin, and every owner of a
    piece of the step multicasts its own. deep_first: k is the first dimension as stored.
    """

    def __init__(
        self, k: K, name: str, source: TensorSpec, tiling: Tiling, *, across: int, share: int, owners: int,
        deep_first: bool,
    ) -> None:  # fmt: skip
        self.source, self.tiling, self.owners, self.deep_first = source, tiling, owners, deep_first
        self.looped = not source.resident  # which home a piece lies in is no affine function of the step
        bk, piece, homes = tiling.bk, tiling.piece, tiling.homes(owners)
        self.buffer = buffer(k, (tiling.stages, *self._shape(across, bk)), source, name)
        home = (homes, *self._shape(share, piece))
        self.home = buffer(k, home, source, f"{name}_home") if source.resident else None
        self.full, self.free = k.sem(tiling.stages, f"{name}_full"), k.sem(tiling.stages, f"{name}_free")

    def _shape(self, across: int, deep: int) -> tuple[int, int]:
        return (deep, across) if self.deep_first else (across, deep)

    def view(self, where: Any, across: slice, depth: slice) -> View:
        """Return the part of `where` that spans `across` and `depth`, in stored order."""
        view: View = where[depth, across] if self.deep_first else where[across, depth]
        return view

    def place(self, k: K, *, start: Any, extent: int, passes: int, here: Any, nodes: Any) -> None:
        """Say which part this node holds: `extent` rows (or columns) of c from `start`; declare resident pieces."""
        self.start, self.here, self.nodes, self.cuts = start, here, nodes, _cuts(extent, passes)
        T = self.tiling
        if self.home is None:
            return
        for index in range(T.homes(self.owners)):
            piece = here + index * self.owners
            if piece * T.piece >= T.k:
                return
            deep = min(T.piece, T.k - piece * T.piece)
            depth, across = slice(piece * T.piece, piece * T.piece + deep), slice(start, start + extent)
            inner = self.view(self.home[index], slice(0, extent), slice(0, deep))
            k.preload(inner, self.view(self.source, across, depth))

    def deep(self, t: Any) -> int:
        """Return the k columns of step t; only the last step, never inside a loop, can be shorter."""
        return min(self.tiling.bk, self.tiling.k - t * self.tiling.bk) if isinstance(t, int) else self.tiling.bk

    def count(self, t: Any) -> int:
        """Return how many copies fill the panel of step t."""
        return ceil(self.deep(t) / self.tiling.piece) if self.home is not None else 1

    def panel(self, g: Any, t: Any, part: int) -> View:
        """Return the panel of step t of pass part `part`; g counts steps over all passes."""
        across = slice(0, self.cuts[part + 1] - self.cuts[part])
        return self.view(self.buffer[g % self.tiling.stages], across, slice(0, self.deep(t)))

    def owners_of(self, g: Any) -> list[Any]:
        """Return which row or column issues each copy of step g."""
        if self.home is None:
            return [g % self.owners]
        t = g % self.tiling.steps
        return [(t * self.tiling.pieces + x) % self.owners for x in range(self.count(t))]

    def pieces(self, g: Any, t: Any, part: int) -> Iterator[tuple[Any, View, View]]:
        """Yield (owner, panel, source) of every copy of step t, for part `part` of this node's share."""
        T, low, high = self.tiling, self.cuts[part], self.cuts[part + 1]
        slot = self.buffer[g % T.stages]
        if self.home is None:
            depth = slice(t * T.bk, t * T.bk + self.deep(t))
            yield g % self.owners, self.panel(g, t, part), self.view(self.source, self._own(low, high), depth)
            return
        for x, owner in enumerate(self.owners_of(g)):
            first, index = x * T.piece, (t * T.pieces + x) // self.owners
            deep = min(T.piece, T.k - t * T.bk - first)
            panel = self.view(slot, slice(0, high - low), slice(first, first + deep))
            yield owner, panel, self.view(self.home[index], slice(low, high), slice(0, deep))

    def _own(self, low: int, high: int) -> slice:
        return slice(self.start + low, self.start + high)


class Results:
    """The accumulators and the way out: rounded strip by strip and stored, or kept where c is resident.

    direct: c is resident in the format of the accumulators, so they are the result and nothing is drained.
    """

    def __init__(self, k: K, c: TensorSpec, tiling: Tiling, formats: Formats) -> None:
        T, self.c, self.tiling = tiling, c, tiling
        self.direct = c.resident and not formats.rounded
        self.full, self.free = k.sem(T.accumulators, "acc_full"), k.sem(T.accumulators, "acc_free")
        self.sent = k.sem(2, "sent")
        self.home = buffer(k, (T.rows, T.cols), c, "c_home") if c.resident else None
        self.acc = None if self.direct else k.sram((T.accumulators, T.bm, T.bn), formats.sums, "acc")
        staged = not c.resident and formats.rounded
        self.staging = buffer(k, (2, T.strip, T.bn), c, "out") if staged else None

    def place(self, k: K, top: Any, left: Any, row_cuts: list[int], col_cuts: list[int]) -> None:
        """Say where in c this node's block lies and how the passes cut it."""
        self.top, self.left, self.row_cuts, self.col_cuts = top, left, row_cuts, col_cuts
        if self.home is not None:
            height, width = row_cuts[-1], col_cuts[-1]
            k.collect(self.c[top : top + height, left : left + width], self.home[:height, :width])

    def _block(self, where: Any, i: int, j: int) -> View:
        view: View = where[self.row_cuts[i] : self.row_cuts[i + 1], self.col_cuts[j] : self.col_cuts[j + 1]]
        return view

    def _part(self, slot: int, i: int, j: int, low: int = 0, high: int | None = None) -> View:
        rows, cols = self.row_cuts[i + 1] - self.row_cuts[i], self.col_cuts[j + 1] - self.col_cuts[j]
        assert self.acc is not None
        return self.acc[slot, low : rows if high is None else high, :cols]

    def tile(self, k: K, p: int, i: int, j: int) -> View:
        """Return the accumulators of pass p, once they are free."""
        if self.direct:
            return self._block(self.home, i, j)
        if p >= self.tiling.accumulators:
            k.wait(self.free[p % self.tiling.accumulators])
        return self._part(p % self.tiling.accumulators, i, j)

    def finished(self, k: K, p: int) -> None:
        """Hand the accumulators of pass p to the drain."""
        if not self.direct:
            k.inc(self.full[p % self.tiling.accumulators])

    def drain(self, k: K, passes: list[tuple[int, int]]) -> None:
        """Round and store (or keep) one pass after the other, giving its accumulators back."""
        strips = 0
        for p, (i, j) in enumerate(passes):
            slot = p % self.tiling.accumulators
            k.wait(self.full[slot])
            if self.home is not None:
                k.vec.cast(self._block(self.home, i, j), self._part(slot, i, j))
            else:
                strips = self._store(k, slot, i, j, strips)
            if p + self.tiling.accumulators < len(passes):
                k.inc(self.free[slot])
        self._settle(k, strips)

    def _store(self, k: K, slot: int, i: int, j: int, strips: int) -> int:
        """Send one block of c out in strips through two staging buffers; sums as they are leave the accumulators."""
        height, strip = self.row_cuts[i + 1] - self.row_cuts[i], self.tiling.strip
        y, x = self.top + self.row_cuts[i], self.left + self.col_cuts[j]
        width = self.col_cuts[j + 1] - self.col_cuts[j]
        for low in range(0, height, strip):
            high = min(height, low + strip)
            if strips >= 2:
                k.wait(self.sent[strips % 2])
            source = self._part(slot, i, j, low, high)
            if self.staging is not None:
                rounded = self.staging[strips % 2, : high - low, :width]
                k.vec.cast(rounded, source)
                source = rounded
            k.copy(self.c[y + low : y + high, x : x + width], source, sent=self.sent[strips % 2])
            strips += 1
        if self.staging is None:  # the accumulators are given back next, so all of them must be out
            self._settle(k, strips)
            return 0
        return strips

    def _settle(self, k: K, strips: int) -> None:
        for s in range(max(0, strips - 2), strips):
            k.wait(self.sent[s % 2])


def _cuts(extent: int, parts: int) -> list[int]:
    """Return the parts + 1 borders that cut `extent` elements in parts of whole groups, as equal as can be."""
    groups = ceil(extent / GROUP)
    return [min(extent, GROUP * (x * groups // parts)) for x in range(parts + 1)]
