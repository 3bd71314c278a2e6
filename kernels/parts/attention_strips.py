"""Which rows of a head each node of a group takes, and which part of the other side these see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from accel.problem.attention import CAUSAL_GROUP, Attention

__all__ = ["ROWS", "Load", "Piece", "Stretch", "deal", "extent", "load_of", "streamed"]

ROWS = 8  # rows of a micro-step of the matrix unit: shares of rows are whole groups of them


@dataclass(frozen=True)
class Piece:
    """Rows of a job that lie side by side in memory and see the same of the other side, in whole groups of 16.

    start: first row in the job; place: first row in the node's buffers; edge: queries see the keys before it, keys the
    queries of each head from it on; corner: next to the edge, what only some rows see (0: every row sees all).
    """

    start: Any
    rows: int
    place: int
    edge: int
    corner: int = 0


@dataclass(frozen=True)
class Stretch:
    """Jobs `first` to `first + jobs` on groups of rows x cols nodes, `down` groups below each other, `across` beside.

    A job is the rows low to high of one head on one side: "q", queries that stay while keys stream by, or "k", keys
    that stay while queries do. Each group takes every (down * across)-th job.
    """

    rows: int
    cols: int
    down: int
    across: int
    first: int
    jobs: int
    low: int
    high: int
    side: str = "q"

    @property
    def groups(self) -> int:
        """Groups that have work."""
        return min(self.jobs, self.down * self.across)

    @property
    def nodes(self) -> int:
        """Nodes of a group."""
        return self.rows * self.cols


def extent(problem: Attention, side: str) -> int:
    """Return the rows of a job: the queries of all heads that share their keys, or the keys."""
    return problem.shared * problem.q if side == "q" else problem.kv


def streamed(problem: Attention, side: str, block: int) -> list[tuple[int, int]]:
    """Return (start, length) of the blocks that stream by the rows of a side, none of which crosses heads."""
    heads, length = (1, problem.kv) if side == "q" else (problem.shared, problem.q)
    return [(head * length + at, min(block, length - at)) for head in range(heads) for at in range(0, length, block)]


def strips(problem: Attention, side: str, low: int, high: int) -> list[tuple[int, int, int, int]]:
    """Return (start, rows, edge, corner) of the causal strips between rows low and high of a job, in order of edges."""
    found = []
    heads, length = (problem.shared, problem.q) if side == "q" else (1, problem.kv)
    for head in range(heads):
        for at in range(0, length, CAUSAL_GROUP):
            start, rows = head * length + at, min(CAUSAL_GROUP, length - at)
            if not low <= start < high:
                continue
            if side == "q":
                edge = min(problem.kv, at + CAUSAL_GROUP)
                found.append((start, rows, edge, edge - at if edge - at > 1 else 0))
            else:
                near = min(CAUSAL_GROUP, problem.q - at)
                found.append((start, rows, at, near if near > 0 and rows > 1 else 0))
    return sorted(found, key=lambda strip: (strip[2], strip[0]))


def _dealt(problem: Attention, side: str, low: int, high: int, nodes: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return (member, strip) of all causal strips: dealt back and forth, so that all have as much of every block."""
    turns = [(divmod(n, nodes), strip) for n, strip in enumerate(strips(problem, side, low, high))]
    return [(nodes - 1 - seat if turn % 2 else seat, strip) for (turn, seat), strip in turns]


def deal(problem: Attention, stretch: Stretch, member: Any, chunk: int) -> list[Piece]:
    """Return the pieces of rows that node `member` of a group takes in each of its jobs, at most chunk rows high.

    Without a mask every node takes as many neighbouring rows as the next; causal strips are dealt back and forth.
    member: 0 to nodes - 1, an expression or an int; under a mask it must be an int.
    """
    S, pieces, place = stretch, list[Piece](), 0
    if problem.causal:
        for to, (start, rows, edge, corner) in _dealt(problem, S.side, S.low, S.high, S.nodes):
            if to == member:
                pieces.append(Piece(start, rows, place, edge, corner))
                place += rows
        return pieces
    groups = ceil((S.high - S.low) / ROWS)
    first, last = member * groups // S.nodes, (member + 1) * groups // S.nodes
    rows = int(last - first) * ROWS
    if member == S.nodes - 1:
        rows -= groups * ROWS - (S.high - S.low)
    start = first * ROWS + S.low
    while place < rows:
        height = min(chunk, rows - place)
        pieces.append(Piece(start + place, height, place, problem.kv if S.side == "q" else 0))
        place += height
    return pieces


@dataclass(frozen=True)
class Load:
    """Of the busiest node of a group: rows, and score elements and items that it computes for one job."""

    rows: int
    elements: int
    items: int


@lru_cache(maxsize=4096)
def load_of(problem: Attention, side: str, low: int, high: int, nodes: int, chunk: int) -> Load:
    """Return what the busiest of so many nodes has to do for the rows low to high of a job."""
    seen = problem.kv if side == "q" else problem.shared * problem.q
    if not problem.causal:
        rows = min(high - low, ROWS * ceil(ceil((high - low) / ROWS) / nodes))
        return Load(rows, rows * seen, ceil(rows / chunk) * ceil(seen / problem.block))
    rows_of, elements, items = [0] * nodes, [0] * nodes, [0] * nodes
    for member, (_, rows, edge, _) in _dealt(problem, side, low, high, nodes):
        width = edge if side == "q" else problem.shared * max(0, problem.q - edge)
        rows_of[member] += rows
        elements[member] += rows * width
        items[member] += 1 + width // problem.block * CAUSAL_GROUP // chunk
    return Load(max(rows_of), max(elements), max(items))
