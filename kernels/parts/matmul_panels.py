"""The panels of an operand of `matmul` on their way in: what fills them, in which order, and who sends it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.matmul_formats import buffer
from accel.kernels.parts.matmul_tiling import GROUP, Tiling
from accel.lang import K, TensorSpec

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Chain", "Panels", "Visit", "cuts", "load", "span"]


@dataclass(frozen=True)
class Chain:
    """k steps that add up to one sum: `depth` of them from `first`, which differs between teams."""

    first: Any
    depth: int


@dataclass(frozen=True)
class Visit:
    """One operand's share of a pass: cut `part` of matrix `matrix`, over the chain `chain` (numbers of this node's)."""

    matrix: int
    chain: int
    part: int


class Panels:
    """One operand: `stages` panels that a step fills, the semaphores around them, and where the data comes from.

    a runs along rows (its owners are the columns of the grid), b along columns. In memory, one node in turn issues
    the multicast of a whole step; a resident operand lies in pieces, dealt round-robin, and every owner of a
    piece of the step multicasts its own. deep_first: k is the first dimension as stored. Steps are counted (`g`) over
    all visits.
    """

    def __init__(
        self, k: K, name: str, source: TensorSpec, tiling: Tiling, *, across: int, share: int, owners: int,
        deep_first: bool, shared: bool = False,
    ) -> None:  # fmt: skip
        self.source, self.tiling, self.owners, self.deep_first = source, tiling, owners, deep_first
        self.shared = shared or len(source.shape) == 2
        self.looped = not source.resident  # which home a piece lies in is no affine function of the step
        self.buffer = buffer(k, (tiling.stages, *self._shape(across, tiling.bk)), source, name)
        home = (tiling.held(owners, shared=self.shared), *self._shape(share, tiling.piece))
        self.home = buffer(k, home, source, f"{name}_home") if source.resident else None
        self.full, self.free = k.sem(tiling.stages, f"{name}_full"), k.sem(tiling.stages, f"{name}_free")

    def _shape(self, across: int, deep: int) -> tuple[int, int]:
        return (deep, across) if self.deep_first else (across, deep)

    def _view(self, where: Any, across: slice, depth: slice) -> View:
        """Return the part of `where` that spans `across` and `depth`, in stored order."""
        view: View = where[depth, across] if self.deep_first else where[across, depth]
        return view

    def place(
        self, k: K, *, start: Any, extent: int, passes: int, here: Any, owner: Any, nodes: Any, matrices: list[Any],
        chains: list[Chain],
    ) -> None:  # fmt: skip
        """Say which part this node holds: `extent` rows (or columns) of c from `start`; declare resident pieces.

        here: this node's place among the owners; owner: place -> target of an `inc`; nodes: who shares a panel.
        matrices: of the batch, as this node's team takes them; chains: as it adds them up.
        """
        self.start, self.here, self.owner, self.nodes = start, here, owner, nodes
        self.matrices, self.chains, self.cuts = matrices, chains, cuts(extent, passes)
        if self.home is None:
            return
        for matrix in range(1 if self.shared else len(matrices)):
            for number, chain in enumerate(chains):
                self._preload(k, matrix, number, chain, slice(start, start + extent), extent)

    def _preload(self, k: K, matrix: int, number: int, chain: Chain, across: slice, extent: int) -> None:
        T = self.tiling
        assert self.home is not None
        for index in range(T.homes(self.owners)):
            piece = self.here + index * self.owners
            if piece * T.piece >= chain.depth:
                return
            deep = min(T.piece, chain.depth - piece * T.piece)
            depth = slice(chain.first + piece * T.piece, chain.first + piece * T.piece + deep)
            inner = self._view(self._home(matrix, number, index), slice(0, extent), slice(0, deep))
            k.preload(inner, self._view(self._matrix(matrix), across, depth))

    def _matrix(self, number: int) -> Any:
        return self.source if len(self.source.shape) == 2 else self.source[self.matrices[number]]

    def _home(self, matrix: int, chain: int, index: int) -> Any:
        assert self.home is not None
        place = (0 if self.shared else matrix) * len(self.chains) + chain
        return self.home[place * self.tiling.homes(self.owners) + index]

    def follow(self, visits: list[Visit]) -> None:
        """Say in which order the panels are wanted."""
        self.visits = visits
        self.firsts = list(accumulate((self.steps(visit) for visit in visits), initial=0))

    @property
    def total(self) -> int:
        """Return the steps of all visits."""
        return self.firsts[-1]

    def steps(self, visit: Visit) -> int:
        """Return the steps of a visit."""
        return ceil(self.chains[visit.chain].depth / self.tiling.bk)

    def deep(self, visit: Visit, t: Any) -> int:
        """Return the k columns of step t of a visit; only the last step, never inside a loop, can be shorter."""
        T = self.tiling
        return min(T.bk, self.chains[visit.chain].depth - t * T.bk) if isinstance(t, int) else T.bk

    def count(self, visit: Visit, t: Any) -> int:
        """Return how many copies fill the panel of step t."""
        return ceil(self.deep(visit, t) / self.tiling.piece) if self.home is not None else 1

    def panel(self, visit: Visit, g: Any, t: Any) -> View:
        """Return the panel of step t of a visit, step g of all."""
        across = slice(0, self.extent(visit)[1])
        return self._view(self.buffer[g % self.tiling.stages], across, slice(0, self.deep(visit, t)))

    def extent(self, visit: Visit) -> tuple[Any, int]:
        """Return (first, count) of the rows (or columns) of the whole that a visit wants."""
        low, high = self.cuts[visit.part], self.cuts[visit.part + 1]
        return self.start + low, high - low

    def owners_of(self, g: Any) -> list[Any]:
        """Return which row or column issues each copy of step g."""
        if self.home is None:
            return [g % self.owners]
        number = bisect_right(self.firsts, g) - 1
        t = g - self.firsts[number]
        return [(t * self.tiling.pieces + x) % self.owners for x in range(self.count(self.visits[number], t))]

    def pieces(self, visit: Visit, g: Any, t: Any) -> Iterator[tuple[Any, View, View]]:
        """Yield (owner, panel, source) of every copy of step t of a visit."""
        T, slot, chain = self.tiling, self.buffer[g % self.tiling.stages], self.chains[visit.chain]
        if self.home is None:
            depth = slice(chain.first + t * T.bk, chain.first + t * T.bk + self.deep(visit, t))
            begin, count = self.extent(visit)
            own = slice(begin, begin + count)
            yield g % self.owners, self.panel(visit, g, t), self._view(self._matrix(visit.matrix), own, depth)
            return
        low, high = self.cuts[visit.part], self.cuts[visit.part + 1]
        for x, owner in enumerate(self.owners_of(g)):
            first, index = x * T.piece, (t * T.pieces + x) // self.owners
            deep = min(T.piece, chain.depth - t * T.bk - first)
            panel = self._view(slot, slice(0, high - low), slice(first, first + deep))
            home = self._home(visit.matrix, visit.chain, index)
            yield owner, panel, self._view(home, slice(low, high), slice(0, deep))


def load(k: K, side: Panels) -> None:
    """Fill the panels of one operand, step after step; the regular middle of a visit is a hardware loop."""
    T = side.tiling
    for number, visit in enumerate(side.visits):
        first, steps = side.firsts[number], side.steps(visit)
        fresh = min(steps, max(0, T.stages - first))  # the first steps of all find their slots empty
        for t, wait in span(k, steps, side.looped, fresh, steps - 1, range(fresh, steps)):
            g = first + t
            for owner, panel, source in side.pieces(visit, g, t):
                with k.when(side.here == owner):
                    if wait:
                        k.wait(side.free[g % T.stages], side.owners)
                    k.copy(panel, source, to=side.nodes, done=side.full[g % T.stages])


def span(k: K, steps: int, looped: bool, low: int, high: int, flagged: range) -> Iterator[tuple[Any, bool]]:
    """Yield (step, step in flagged) over range(steps); those in [low, high) as a hardware loop if there are enough."""
    if not looped or high - low < 4:
        low = high = steps
    for t in range(low):
        yield t, t in flagged
    if high > low:
        for i in k.loop(high - low):
            yield i + low, low in flagged
    for t in range(high, steps):
        yield t, t in flagged


def cuts(extent: int, parts: int) -> list[int]:
    """Return the parts + 1 borders that cut `extent` elements in parts of whole groups, as equal as can be."""
    groups = ceil(extent / GROUP)
    return [min(extent, GROUP * (x * groups // parts)) for x in range(parts + 1)]
