"""Sums down columns, over all rows of a tensor: chains and tree on a node, then the same tree on across the mesh.

The order is that of `sum_orders`: chains of `BLOCK` rows, then a balanced tree over the blocks. Nodes own aligned runs
of 2^k blocks (`chunk_of`), so what a node holds at the end is one term of level k of that tree, and the mesh goes on
with the levels above: node i takes the sum of node i + 1, then of i + 2, i + 4 and so on. While blocks arrive, the
terms that are complete wait on a stack, one for every binary digit 1 of the number of blocks so far, as the carries of
a counter: 2^k blocks need k + 1 places.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.sum_orders import BLOCK, chain_blocks, fold_columns
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

    Join = Callable[[View, View, View], None]

__all__ = ["STRIP", "ColumnSums", "MeshTree", "chunk_of", "levels_of", "node_at"]

STRIP = 4096
"""Columns that one message between nodes carries: 16 KB in fp32, long against the latency of a message."""


def chunk_of(rows: int, nodes: int) -> int:
    """Return the rows of a node: the fewest of BLOCK * 2^k with which `nodes` nodes hold all rows."""
    chunk = BLOCK
    while ceil(rows / chunk) > nodes:
        chunk *= 2
    return chunk


def levels_of(chunk: int, unit: int) -> int:
    """Return the places of the stack for `chunk` rows that come in runs of `unit` rows (both BLOCK * 2^k)."""
    return (chunk // unit).bit_length()


def node_at(k: K, index: Any) -> tuple[Any, Any]:
    """Return the (row, column) of the node with this number, counted down the columns of the mesh."""
    return index % k.mesh[0], index // k.mesh[0]


class ColumnSums:
    """`count` sums of `columns` columns on their way: a stack of `levels` terms, and the chains of the run in hand.

    unit: rows of a run, BLOCK * 2^k; a kernel adds all rows of one run, in one or several pieces, then calls `close`.
    join: what joins two terms, `k.vec.add` or another instruction of its form. chained=False: all runs come whole, by
    `push`.
    """

    def __init__(
        self, k: K, count: int, columns: int, unit: int, levels: int, width: int, join: Join | None = None,
        name: str = "column_sums", chained: bool = True,
    ) -> None:  # fmt: skip
        self.k, self.join, self.runs, self.columns = k, join or k.vec.add, 0, columns
        self.stack = k.sram((levels, count, columns), "fp32", name)
        self.chains = k.sram((unit // BLOCK, width), "fp32", f"{name}_chains") if chained and unit > BLOCK else None

    def begin(self, columns: int) -> None:
        """Start over, for sums of `columns` columns."""
        self.runs, self.columns = 0, columns

    def push(self, x: View) -> None:
        """Take `x` (count, columns) as a whole run."""
        self.k.vec.copy(self._term(self._top), x)
        self.close()

    def add(self, number: int, left: int, x: View, first: bool) -> None:
        """Add the rows of `x` (rows, width), from column `left` on, to sum `number`; `first` rows of a run start it.

        A run of more than BLOCK rows comes in one piece; one of BLOCK rows may come in several.
        """
        k, width = self.k, x.shape[1]
        term = self.stack[self._top : self._top + 1, number, left : left + width]
        if self.chains is None:
            for i in range(x.shape[0]):
                if first and i == 0:
                    k.vec.copy(term, x[:1])
                else:
                    self.join(term, term, x[i : i + 1])
        else:
            chains = chain_blocks(k, self.chains[:, :width], x, self.join)
            k.vec.copy(term, fold_columns(k, chains, self.join))

    def close(self) -> None:
        """End a run: terms of equal size on top of the stack become one."""
        self.runs += 1
        carries = (self.runs & -self.runs).bit_length() - 1
        top = self.runs.bit_count() - 1 + carries
        for place in range(top, top - carries, -1):
            self.join(self._term(place - 1), self._term(place - 1), self._term(place))

    def total(self) -> View:
        """Fold what is on the stack, smallest term first; returns the sums of this node's rows (count, columns)."""
        for place in range(self._top - 1, 0, -1):
            self.join(self._term(place - 1), self._term(place - 1), self._term(place))
        return self._term(0)

    def _term(self, place: int) -> View:
        return self.stack[place, :, : self.columns]

    @property
    def _top(self) -> int:
        return self.runs.bit_count()


class MeshTree:
    """The levels of the tree above the nodes: members 0, 1, 2 .. of a team add up in place, member 0 ends with the sum.

    member: this node's place in its team; others(m): the number of the node that is member m. Every node keeps one
    buffer for what comes in and says when it is free, so that no message meets the one before.
    """

    def __init__(
        self, k: K, count: int, columns: int, members: int, join: Join | None = None, name: str = "tree"
    ) -> None:
        self.k, self.join, self.members = k, join or k.vec.add, members
        self.strip = min(columns, STRIP)
        self.inbox = k.sram((count, self.strip), "fp32", f"{name}_inbox")
        self.ready, self.arrived, self.gone = (
            k.sem(name=f"{name}_ready"),
            k.sem(name=f"{name}_in"),
            k.sem(name=f"{name}_out"),
        )
        # On the way down a node has children that ask in no order: a semaphore for each level.
        self.asked, self.came = k.sem(max(1, members.bit_length()), f"{name}_asked"), k.sem(name=f"{name}_down")

    def fold(self, sums: View, member: Any, base: Any = 0, apart: int = 1) -> None:
        """Add the `sums` (count, columns) of all members into those of member 0.

        Member m is node base + m * apart. Runs on all nodes; those whose `member` is `members` or more take no part.
        """
        k, members, step = self.k, self.members, 1
        while step < members:
            place = member % (2 * step)
            for left in range(0, sums.shape[1], self.strip):
                part = sums[:, left : min(left + self.strip, sums.shape[1])]
                inbox = self.inbox[:, : part.shape[1]]
                with k.when((place == step) & (member < members)):
                    k.wait(self.ready)
                    k.copy(
                        inbox, part, to=node_at(k, base + (member - step) * apart), done=self.arrived, sent=self.gone
                    )
                    k.wait(self.gone)
                with k.when((place == 0) & (member + step < members)):
                    k.inc(self.ready, at=node_at(k, base + (member + step) * apart))
                    k.wait(self.arrived)
                    self.join(part, part, inbox)
            step *= 2

    def spread(self, sums: View, member: Any, base: Any = 0) -> None:
        """Copy the `sums` of member 0 to all members, down the tree that `fold` came up."""
        k, members = self.k, self.members
        for level in reversed(range((members - 1).bit_length())):
            step = 1 << level
            place = member % (2 * step)
            with k.when((place == 0) & (member + step < members)):
                k.wait(self.asked[level])
                k.copy(sums, sums, to=node_at(k, base + member + step), done=self.came, sent=self.gone)
                k.wait(self.gone)
            with k.when((place == step) & (member < members)):
                k.inc(self.asked[level], at=node_at(k, base + member - step))
                k.wait(self.came)
