"""Tiles of a tensor dealt over the nodes one by one, as they lie, for kernels that only move them.

Tiles are numbered in order and dealt round-robin; each trip of a node is one tile. What a node's tile is on a trip
depends on the node, so a ragged last tile along an axis is a variant under `k.when` and not a role of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any

from accel.kernels.parts.row_streaming import node_index
from accel.lang import K

__all__ = ["Tasks", "Tile", "cut", "thread"]


@dataclass(frozen=True)
class Tile:
    """One shape of a tile: `starts` may differ between nodes, `sizes` are ints; `when` is where it is this one."""

    when: Any
    starts: tuple[Any, ...]
    sizes: tuple[int, ...]

    def of(self, view: Any, steps: Sequence[int] | None = None, first: Sequence[int] | None = None) -> Any:
        """Return this tile of a tensor; element i of axis d lies at first[d] + steps[d] * i."""
        by, base = steps or [1] * len(self.sizes), first or [0] * len(self.sizes)
        return view[
            tuple(slice(b + s * x, b + s * x + (n - 1) * s + 1, s)
                  for x, n, s, b in zip(self.starts, self.sizes, by, base, strict=True))
        ]  # fmt: skip

    def at(self, slot: Any) -> Any:
        """Return the corner of a slot that this tile fills."""
        return slot[tuple(slice(0, size) for size in self.sizes)]


class Tasks:
    """The tiles of `sizes` cut in `blocks` that this node takes; `shift` turns round which node begins."""

    def __init__(self, k: K, sizes: Sequence[int], blocks: Sequence[int], shift: int = 0) -> None:
        self.k, self.sizes, self.blocks = k, tuple(sizes), tuple(blocks)
        self.counts = [ceil(size / block) for size, block in zip(sizes, blocks, strict=True)]
        self.total, nodes = prod(self.counts), k.nodes
        self.first = (node_index(k) + shift) % nodes if shift else node_index(k)
        self.trips = ceil(self.total / nodes)

    def __len__(self) -> int:
        """Return the trips of a node."""
        return self.trips

    def tiles(self, trip: int) -> Iterator[Tile]:
        """Yield the variants of this node's tile on a trip; at most one of them is."""
        number = self.first + trip * self.k.nodes
        left, places = number, []
        for count in reversed(self.counts):
            places.append(left % count if count > 1 else 0)
            left = left // count if count > 1 else left
        places.reverse()
        here = True if (trip + 1) * self.k.nodes <= self.total else number < self.total
        choices = []
        for place, count, size, block in zip(places, self.counts, self.sizes, self.blocks, strict=True):
            rest = size - (count - 1) * block
            if rest == block:
                choices.append([(True, block)])
            elif count == 1:
                choices.append([(True, rest)])
            else:
                choices.append([(place < count - 1, block), (place == count - 1, rest)])
        starts = tuple(place * block for place, block in zip(places, self.blocks, strict=True))
        for picked in product(*choices):
            when = here
            for condition, _ in picked:
                when = condition if when is True else when if condition is True else when & condition
            if when is not False:
                yield Tile(when, starts, tuple(size for _, size in picked))


def thread(k: K, name: str, tasks: Tasks, act: Callable[[int, Tile], None]) -> None:
    """Declare a thread that goes through the tiles of every node; `act(trip, tile)` says what it does with one."""

    def body() -> None:
        for trip in range(len(tasks)):
            for tile in tasks.tiles(trip):
                with k.when(tile.when):
                    act(trip, tile)

    body.__name__ = name
    k.thread(body)


def cut(sizes: Sequence[int], elements: int, tiles: int, least: Sequence[int]) -> tuple[int, ...]:
    """Return blocks of at most `elements` and, where that does not make them small, enough of them for `tiles` tiles.

    Outer axes are cut first; no axis below its `least`, which is what keeps runs of memory long.
    """
    blocks = list(sizes)
    for axis in range(len(blocks)):
        while blocks[axis] > max(1, least[axis]) and (
            prod(blocks) > elements or prod(ceil(s / b) for s, b in zip(sizes, blocks, strict=True)) < tiles
        ):
            blocks[axis] = max(1, least[axis], ceil(blocks[axis] / 2))
    for axis in range(len(blocks)):  # what must fit must fit, however short the runs
        while prod(blocks) > elements and blocks[axis] > 1:
            blocks[axis] = ceil(blocks[axis] / 2)
    return tuple(blocks)
