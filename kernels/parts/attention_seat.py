"""Where a node sits in an attention kernel: its group, its rows, and the items of work these make, in order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import index
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.attention_strips import Piece, Stretch, deal, streamed
from accel.lang import K
from accel.problem.attention import Attention

if TYPE_CHECKING:
    from accel.lang import View

Kind = tuple[int, int, int, bool, bool, int]  # what rows of one item have in common

__all__ = ["Item", "Seat", "by_job", "items_of", "spread"]


@dataclass(frozen=True)
class Item:
    """Rows of a node against one block that streams by: what one matmul and one pass of the vector unit take.

    block: its number; place, rows: in the node's buffers; at, width: of the block; corner: columns next to the edge of
    which each row sees one more (queries, at the end) or one less (keys, at the beginning) than the row before; first,
    last: no other item of these rows comes before, or after.
    """

    block: int
    place: int
    rows: int
    at: int
    width: int
    corner: int
    first: bool
    last: bool
    pieces: tuple[Piece, ...]


def items_of(problem: Attention, side: str, pieces: list[Piece], block: int, chunk: int) -> list[Item]:
    """Return the items of a job on a node: blocks ascending, neighbouring rows that see the same of one together."""
    items: list[Item] = []
    blocks = streamed(problem, side, block)
    for j, (start, length) in enumerate(blocks):
        low = start % problem.q if side == "k" else start

        def sees(p: Piece, low: int = low, length: int = length) -> tuple[int, int]:
            return (0, min(length, p.edge - low)) if side == "q" else (max(0, p.edge - low), length)

        def kind(p: Piece, j: int = j, head: int = start - low, low: int = low, length: int = length) -> Kind:
            at, end = sees(p)
            meets = low < p.edge <= low + length if side == "q" else low <= p.edge
            corner = p.corner if meets else 0
            first = j == 0 if side == "q" else head == 0 and (meets or j == 0)
            last = meets if side == "q" else j == len(blocks) - 1
            return at, end - at, corner, first, last, p.place if corner else -1

        active = [p for p in pieces if sees(p)[0] < sees(p)[1]]
        for (at, width, corner, first, last, _), group in groupby(active, key=kind):
            run: list[Piece] = []
            for piece in (*group, None):
                if run and (piece is None or sum(p.rows for p in run) + piece.rows > chunk):
                    rows = sum(p.rows for p in run)
                    items.append(Item(j, run[0].place, rows, at, width, corner, first, last, tuple(run)))
                    run = []
                if piece is not None:
                    run.append(piece)
    return items


class Seat:
    """Where this node sits in a stretch: its group, its number in it, its trips and its pieces of each job."""

    def __init__(self, k: K, problem: Attention, stretch: Stretch, chunk: int) -> None:
        S = self.stretch = stretch
        group_row, group_col = k.row // S.rows, k.col // S.cols
        self.busy = bool((k.row < S.down * S.rows) & (k.col < S.across * S.cols))
        self.trips: Any = 0
        self.pieces: list[Piece] = []
        if not self.busy:
            return
        self.group = group_row * S.across + group_col
        if S.groups < S.down * S.across and self.group >= S.groups:
            self.busy = False
            return
        self.trips = (S.jobs - 1 - self.group) // S.groups + 1
        self.owner = (group_row * S.rows, group_col * S.cols)
        self.nodes = k.rect(self.owner[0], self.owner[0] + S.rows, self.owner[1], self.owner[1] + S.cols)
        member = k.row % S.rows * S.cols + k.col % S.cols
        self.owns = member == 0
        self.pieces = deal(problem, S, index(member) if problem.causal else member, chunk)

    def job(self, trip: Any) -> Any:
        """Return the job of a trip."""
        return trip * self.stretch.groups + self.group + self.stretch.first


def by_job(tensor: Any, problem: Attention) -> View:
    """Return (b, h, q, ...) as (jobs, rows of a job, ...): heads that share their keys are one job."""
    view: View = tensor.merge(0).split(0, problem.shared).merge(1)
    return view


def spread(pieces: int, blocks: int, stages: int) -> list[range]:
    """Return which pieces of the next trip to bring after each block: evenly, once slots make blocks wait their turn.

    All at once would keep the blocks waiting that come after them; only at the end there may be no time left for them.
    """
    first = min(stages, blocks) - 1
    ends = [pieces * max(0, j - first + 1) // (blocks - first) for j in range(blocks)]
    return [range(low, high) for low, high in zip([0, *ends], ends, strict=False)]
