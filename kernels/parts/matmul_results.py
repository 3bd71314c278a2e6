"""The sums of `matmul` on their way out: added up over teams, touched, rounded, and stored or kept."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.epilogue import Activation
from accel.kernels.parts.matmul_formats import Formats, buffer
from accel.kernels.parts.matmul_tiling import Tiling
from accel.lang import K, TensorSpec

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Block", "Place", "Results"]


@dataclass(frozen=True)
class Block:
    """One accumulator tile: part (i, j) of matrix `matrix` (a number of this node's team)."""

    matrix: int
    i: int
    j: int


@dataclass(frozen=True)
class Place:
    """Where a node's part of c lies, and which teams share it.

    top, left: its first element; row_cuts, col_cuts: how passes cut it; matrices: of the batch. replica: this team's
    number among `Tiling.replicas`; peer: number -> the node at this place of that team. groups: where every matrix has
    rows of its own, (first row, cuts) of each in place of top and row_cuts.
    """

    top: Any
    left: Any
    row_cuts: list[int]
    col_cuts: list[int]
    matrices: list[Any]
    replica: Any
    peer: Any
    groups: tuple[tuple[Any, list[int]], ...] = ()

    def rows(self, block: Block) -> tuple[Any, list[int]]:
        """Return (first row, cuts) of the matrix of a block."""
        return self.groups[block.matrix] if self.groups else (self.top, self.row_cuts)


@dataclass(frozen=True)
class Strip:
    """Rows [low, high) of this node's share of block number `p`; `number` counts strips over all blocks."""

    p: int
    number: int
    low: int
    high: int


class Results:
    """The accumulators and the way out: a strip at a time is touched, rounded and stored, or kept where c is resident.

    direct: c is resident in the format of the accumulators, so they are the result and nothing is drained. Where
    teams share a matrix, each sends every other its share of the rows of the partial sums, adds up what it gets, in
    the order of the tree, and goes on with that share alone.
    """

    def __init__(
        self, k: K, c: TensorSpec, tiling: Tiling, formats: Formats, bias: TensorSpec | None,
        residual: TensorSpec | None, c_bias: TensorSpec | None,
    ) -> None:  # fmt: skip
        T, self.c, self.tiling, self.formats = tiling, c, tiling, formats
        self.bias, self.residual, self.c_bias = bias, residual, c_bias
        held = frozenset({"c"} if c.resident else ())
        self.direct = T.direct(held, formats)
        self.full, self.free = k.sem(T.accumulators, "acc_full"), k.sem(T.accumulators, "acc_free")
        self.sent = k.sem(2, "sent")
        self.scalar: Any = k.sram((1,), "uint8", "c_bias") if c_bias is not None else None
        home = (*(() if len(c.shape) == 2 else (T.rounds,)), T.rows, T.cols)
        self.home: Any = self._result(k, home, "c_home") if c.resident else None
        self.acc = None if self.direct else k.sram((T.tiles, T.bm, T.bn), formats.sums, "acc")
        staged = not c.resident and formats.rounded
        self.staging = self._result(k, (2, T.strip, T.bn), "out") if staged else None
        if T.replicas > 1:
            self.inbox = k.sram((T.replicas, T.share, T.bn), formats.sums, "inbox")
            self.inbox_full, self.inbox_free = k.sem(1, "inbox_full"), k.sem(2, "inbox_free")
            self.shared = k.sem(1, "shared")
        self.activation = Activation(k, formats.activation, (T.strip, T.bn))
        if bias is not None:
            self.bias_row = k.sram((1, T.cols), "fp32", "bias_row")
        if residual is not None:
            self.res_home = buffer(k, home, residual, "residual_home") if residual.resident else None
            self.res_slots = None if residual.resident else buffer(k, (2, T.strip, T.bn), residual, "residual")
            self.wide = k.sram((T.strip, T.bn), "fp32", "wide") if residual.dtype != "fp32" else None
            self.arrived = k.sem(2, "residual_arrived")
        if bias is not None or c_bias is not None:
            self.constants = k.sem(1, "constants")

    def _result(self, k: K, shape: tuple[int, ...], name: str) -> View:
        if self.scalar is None:
            return buffer(k, shape, self.c, name)
        return k.sram(shape, self.c.dtype, name, bias=self.scalar, denormals=self.c.denormals)

    def place(self, k: K, place: Place) -> None:
        """Say where in c this node's block lies; declare what is resident."""
        self.at = place
        height, width = place.row_cuts[-1], place.col_cuts[-1]
        columns = slice(place.left, place.left + width)
        if self.bias is not None and self.bias.resident:
            k.preload(self.bias_row[0, :width], self.bias[columns])
        if self.c_bias is not None and self.c_bias.resident:
            k.preload(self.scalar, self.c_bias[:])
        if self.tiling.replicas == 1:
            pieces: list[tuple[Any, int]] = [(0, height)]
        else:
            shares = [self._share(high - cut) for cut, high in zip(place.row_cuts, place.row_cuts[1:], strict=False)]
            pieces = [(place.row_cuts[i] + low, rows) for i, (low, rows) in enumerate(shares) if rows]
        for number in range(len(place.matrices)):
            for low, rows in pieces:
                inner = self._held(number, slice(low, low + rows), slice(0, width))
                outer = self._whole(number, slice(place.top + low, place.top + low + rows), columns)
                if self.home is not None:
                    k.collect(self.c[outer], self.home[inner])
                if self.residual is not None and self.res_home is not None:
                    k.preload(self.res_home[inner], self.residual[outer])

    def _held(self, number: int, rows: slice, columns: slice) -> tuple[Any, ...]:
        return (rows, columns) if len(self.c.shape) == 2 else (number, rows, columns)

    def _whole(self, number: int, rows: slice, columns: slice) -> tuple[Any, ...]:
        return (rows, columns) if len(self.c.shape) == 2 else (self.at.matrices[number], rows, columns)

    def _share(self, height: int) -> tuple[Any, int]:
        """Return (first row, rows) of this team's share of a tile of `height` rows."""
        if self.tiling.replicas == 1:
            return 0, height
        each = ceil(height / self.tiling.replicas)
        begin = self.at.replica * each
        if begin >= height:
            return 0, 0
        return begin, min(each, height - begin)

    def _size(self, block: Block) -> tuple[int, int]:
        (_, rows), cols = self.at.rows(block), self.at.col_cuts
        return rows[block.i + 1] - rows[block.i], cols[block.j + 1] - cols[block.j]

    def tile(self, k: K, p: int, block: Block, level: int = 0) -> View:
        """Return the accumulators of block p, once they are free; `level` of the tree of its chains."""
        height, width = self._size(block)
        if self.direct:
            rows, cols = self.at.row_cuts, self.at.col_cuts
            own = self._held(block.matrix, slice(rows[block.i], rows[block.i + 1]),
                             slice(cols[block.j], cols[block.j + 1]))  # fmt: skip
            view: View = self.home[own]
            return view
        assert self.acc is not None
        if self.tiling.span > 1:
            if p and not level:
                k.wait(self.free[0])
            return self.acc[level, :height, :width]
        if p >= self.tiling.accumulators:
            k.wait(self.free[p % self.tiling.accumulators])
        return self.acc[p % self.tiling.accumulators, :height, :width]

    def finished(self, k: K, p: int) -> None:
        """Hand the accumulators of block p to the drain."""
        if not self.direct:
            k.inc(self.full[self._slot(p)])

    def _slot(self, p: int) -> int:
        return 0 if self.tiling.span > 1 else p % self.tiling.accumulators

    # --- the drain, a thread of its own -----------------------------------------------------------------------------
    def drain(self, k: K, blocks: list[Block]) -> None:
        """Add up, touch, round and store (or keep) one block after the other, giving its accumulators back."""
        self._constants(k)
        self.blocks = blocks
        strips, ahead = 0, self._strips()
        self._prefetch(k, ahead, 0)
        for p, block in enumerate(blocks):
            slot = self._slot(p)
            k.wait(self.full[slot])
            sums = self._exchange(k, p, block, slot)
            for strip in ahead:
                if strip.p == p:
                    self._prefetch(k, ahead, strip.number + 1)
                    strips = self._finish(k, strip, sums, strips)
            if self.staging is None and self.home is None:  # sums that are the result must be out before they are freed
                self._settle(k, strips)
                strips = 0
            if self.tiling.replicas > 1:
                self._acknowledge(k, p)
            if p + (1 if self.tiling.span > 1 else self.tiling.accumulators) < len(blocks):
                k.inc(self.free[slot])
        self._settle(k, strips)

    def _constants(self, k: K) -> None:
        """Fetch what all blocks use: the row of biases and the exponent bias of c."""
        width, loads = self.at.col_cuts[-1], 0
        if self.bias is not None and not self.bias.resident:
            k.copy(self.bias_row[0, :width], self.bias[self.at.left : self.at.left + width], done=self.constants)
            loads += 1
        if self.c_bias is not None and not self.c_bias.resident:
            k.copy(self.scalar, self.c_bias[:], done=self.constants)
            loads += 1
        if loads:
            k.wait(self.constants, loads)

    def _strips(self) -> list[Strip]:
        """Return the strips of this node's shares, in order."""
        found: list[Strip] = []
        for p, block in enumerate(self.blocks):
            _, rows = self._share(self._size(block)[0])
            for low in range(0, rows, self.tiling.strip):
                found.append(Strip(p, len(found), low, min(rows, low + self.tiling.strip)))
        return found

    def _prefetch(self, k: K, ahead: list[Strip], number: int) -> None:
        """Send for the residual of strip `number`; its slot was read two strips ago, by this thread."""
        if self.residual is None or self.res_slots is None or number >= len(ahead):
            return
        slot = self._part(self.res_slots[number % 2], ahead[number])
        k.copy(slot, self.residual[self._outer(ahead[number])], done=self.arrived[number % 2])

    def _part(self, slot: View, strip: Strip) -> View:
        view: View = slot[: strip.high - strip.low, : self._size(self.blocks[strip.p])[1]]
        return view

    def _inner(self, strip: Strip) -> tuple[Any, ...]:
        """Return the place of a strip in this node's part of c."""
        block = self.blocks[strip.p]
        height, width = self._size(block)
        first = self.at.rows(block)[1][block.i] + self._share(height)[0]
        left = self.at.col_cuts[block.j]
        return self._held(block.matrix, slice(first + strip.low, first + strip.high), slice(left, left + width))

    def _outer(self, strip: Strip) -> tuple[Any, ...]:
        """Return the place of a strip in c."""
        *_, rows, columns = self._inner(strip)
        top, left = self.at.rows(self.blocks[strip.p])[0], self.at.left
        return self._whole(self.blocks[strip.p].matrix, slice(top + rows.start, top + rows.stop),
                           slice(left + columns.start, left + columns.stop))  # fmt: skip

    def _exchange(self, k: K, p: int, block: Block, slot: int) -> View:
        """Return the finished sums of this node's share of a block: its accumulators, or what the teams add up to."""
        height, width = self._size(block)
        assert self.acc is not None
        tile = self.acc[slot, :height, :width]
        T = self.tiling
        if T.replicas == 1:
            return tile
        begin, rows = self._share(height)
        each, teams = ceil(height / T.replicas), T.replicas
        busy = ceil(height / each)  # teams that have a share at all
        if p:
            k.wait(self.inbox_free[p % 2], teams - 1)
        for other in range(busy):
            low, high = other * each, min(height, (other + 1) * each)
            with k.when(self.at.replica != other):
                k.copy(self.inbox[self.at.replica, : high - low, :width], tile[low:high], to=self.at.peer(other),
                       done=self.inbox_full, sent=self.shared)  # fmt: skip
        if rows:
            k.vec.copy(self.inbox[self.at.replica, :rows, :width], tile[begin : begin + rows])
            k.wait(self.inbox_full, teams - 1)
            gap = 1
            while gap < teams:  # neighbours, level by level; a last odd one passes through
                for left in range(0, teams - gap, 2 * gap):
                    one, two = (self.inbox[x, :rows, :width] for x in (left, left + gap))
                    k.vec.add(one, one, two)
                gap *= 2
        sends = busy - 1 if rows else busy
        if sends:
            k.wait(self.shared, sends)
        view: View = self.inbox[0, : max(rows, 1), :width]
        return view

    def _acknowledge(self, k: K, p: int) -> None:
        """Tell the other teams that this inbox may be filled again.

        Even and odd blocks have a semaphore each, for a quick team may be one block ahead of a slow one.
        """
        if p + 1 < len(self.blocks):
            for other in range(self.tiling.replicas):
                with k.when(self.at.replica != other):
                    k.inc(self.inbox_free[(p + 1) % 2], at=self.at.peer(other))

    def _finish(self, k: K, strip: Strip, sums: View, strips: int) -> int:
        """Touch and round one strip of a share, and store or keep it; returns how many are on their way."""
        source = sums[strip.low : strip.high]
        self._touch(k, strip, source)
        if self.home is not None:
            (k.vec.cast if self.formats.rounded else k.vec.copy)(self.home[self._inner(strip)], source)
            return strips
        if strips >= 2:
            k.wait(self.sent[strips % 2])
        if self.staging is not None:
            rounded = self._part(self.staging[strips % 2], strip)
            k.vec.cast(rounded, source)
            source = rounded
        k.copy(self.c[self._outer(strip)], source, sent=self.sent[strips % 2])
        return strips + 1

    def _touch(self, k: K, strip: Strip, sums: View) -> None:
        """Add the bias, apply the activation, add the residual: in place, in fp32."""
        if self.bias is not None:
            *_, columns = self._inner(strip)
            k.vec.add(sums, sums, self.bias_row[:, columns])
        self.activation.apply(sums)
        if self.residual is None:
            return
        if self.res_slots is not None:
            k.wait(self.arrived[strip.number % 2])
            term = self._part(self.res_slots[strip.number % 2], strip)
        else:
            assert self.res_home is not None
            term = self.res_home[self._inner(strip)]
        if self.wide is not None:
            k.vec.cast(self._part(self.wide, strip), term)
            term = self._part(self.wide, strip)
        k.vec.add(sums, sums, term)

    def _settle(self, k: K, strips: int) -> None:
        for s in range(max(0, strips - 2), strips):
            k.wait(self.sent[s % 2])
