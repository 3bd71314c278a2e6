"""Where a node sits in an attention kernel: its group, its rows, and the items of work these make, in order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from math import ceil
from operator import index
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.attention_plan import Piece, Stretch, deal
from accel.lang import K
from accel.problem.attention import Attention

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Item", "Seat", "by_job", "items_of"]


@dataclass(frozen=True)
class Item:
    """Rows of a node against one block of keys: what one matmul multiplies and one pass of the softmax sees.

    place, rows: in the node's buffers; width: keys; corner: of the last ones of which row r sees the first r + 1;
    last: no block of these rows follows.
    """

    block: int
    place: int
    rows: int
    width: int
    corner: int
    last: bool
    pieces: tuple[Piece, ...]


def items_of(pieces: list[Piece], block: int, chunk: int) -> list[Item]:
    """Return the items of a job on a node: blocks of keys ascending, neighbouring rows of one width together."""
    items = []
    for j in range(ceil(max((p.extent for p in pieces), default=0) / block)):
        open_ = [p for p in pieces if p.extent > j * block]

        def kind(p: Piece, j: int = j) -> tuple[int, bool, int]:
            width, last = min(block, p.extent - j * block), p.extent <= (j + 1) * block
            return width, last, p.place if last and p.corner else -1

        for (width, last, _), group in groupby(open_, key=kind):
            run: list[Piece] = []
            for piece in group:
                if run and sum(p.rows for p in run) + piece.rows > chunk:
                    items.append(_item(j, run, width, last))
                    run = []
                run.append(piece)
            items.append(_item(j, run, width, last))
    return items


def _item(block: int, run: list[Piece], width: int, last: bool) -> Item:
    rows = sum(p.rows for p in run)
    return Item(block, run[0].place, rows, width, run[0].corner if last else 0, last, tuple(run))


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
