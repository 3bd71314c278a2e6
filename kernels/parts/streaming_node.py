"""What a node does in `streaming_conv`: its buffers, and the threads over its strip of the frames of one camera."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.epilogue import Activation, strip_of
from accel.kernels.parts.streaming_strips import Block, Strips
from accel.lang import K, TensorRef

if TYPE_CHECKING:
    from accel.lang import View
    from accel.lang.fifo import Fifo

__all__ = ["run"]

AHEAD = 2
"""Blocks of an output that are asked for before the next frame: as many as there are slots, so that nothing waits."""

PIECES = 32
"""Most copies of a strip. Memory serves the oldest request: one long copy a node would hold up everyone's results."""


def run(k: K, x: TensorRef, w: TensorRef, bias: TensorRef | None, y: TensorRef, S: Strips, activation: str) -> None:
    """Emit what every node does: y = activation(conv(newest frames of its camera, w) + bias) for its strip of rows."""
    stream = Stream(k, x, w, bias, y, S, activation)
    node = k.row * k.mesh[1] + k.col
    if k.row >= stream.mesh_rows:
        return  # fewer strips than nodes: these have nothing to do
    if node >= S.nodes:  # in a row of the mesh with nodes that work: it receives the filters all the same
        stream.wait_constants()
        stream.only_join()
        return
    stream.place(node)
    k.thread(stream.frames_in)
    if S.kept:
        k.thread(stream.halos_in)
    k.thread(stream.multiply)
    k.thread(stream.results_out)


class Stream:
    """Buffers of a node and its four threads (three where no frame stays); f counts frames of the ring, z outputs."""

    def __init__(
        self, k: K, x: TensorRef, w: TensorRef, bias: TensorRef | None, y: TensorRef, strips: Strips, activation: str
    ) -> None:
        S, P = strips, strips.problem
        self.k, self.strips = k, S
        self.x: View = x  # of this node's camera
        self.y: View = y
        self.mesh_rows = ceil(S.nodes / k.mesh[1])
        self.all_nodes = k.rect(0, self.mesh_rows, 0, k.mesh[1])
        if S.kept:
            self.frames = k.sram((S.slots, S.rows, S.columns, P.c), x.dtype, "frames")
            self.ring = self.frames.ring()
            names = ("arrived", "told", "halo", "ready", "free")
            self.arrived, self.told, self.halo, self.ready, self.free = (k.sem(S.slots, name) for name in names)
            self.cleared, self.paced = k.sem(name="cleared"), k.sem(2, "paced", 1)
            self.begun, self.joined = k.sem(name="begun"), k.sem(name="joined", init=1)
        self.filters = k.sram((P.kt, P.r, P.s, P.c, P.k), w.dtype, "filters")
        self.refetched: Fifo | None = k.fifo(S.block_shape, x.dtype, name="refetched") if S.older else None
        self.acc = k.fifo((S.tall, S.wide, P.k), S.sums, name="acc")
        self.out = None if y.dtype == S.sums else k.fifo((S.tall, S.wide, P.k), y.dtype, name="out")
        self.bias_row: View | None = None
        self.constants: list[tuple[View, View]] = [(self.filters, w)]
        if bias is not None:
            self.bias_row = k.sram((P.k,), "fp32", "bias_row")
            self.constants.append((self.bias_row, bias))
        self.activation = Activation(k, activation, strip_of(S.wide, P.k))
        self.known = k.sem(name="known")
        self.turns = S.turns
        self.outputs = P.frames - P.kt + 1
        self.reused = max(0, S.live - S.slots) if S.kept else 0  # frames that enter a slot which held another
        self.pixels = slice(S.width.pad, S.width.pad + P.w)

    def place(self, node: Any) -> None:
        """Say which strip of which camera this node works on, and which rows go between it and its neighbours."""
        S, P, h = self.strips, self.strips.problem, self.strips.height
        strip = node if P.cameras == 1 else node % S.count
        self.node, self.strip, self.first, self.top = node, strip, strip * S.high, strip * S.own
        if P.cameras > 1:
            camera = node // S.count
            self.x, self.y = self.x[camera], self.y[camera]
        self.high = S.high if self.first + S.high <= S.p else int(S.p - self.first)
        self.blocks = S.blocks(self.high)
        self.tiles = [tile for block in self.blocks for tile in S.tiles(block)]
        self.halos: list[tuple[Any, slice, slice]] = []  # (neighbour, where its rows go here, where they lie there)
        self.readers: list[Any] = []  # neighbours that pull from here
        if not S.kept:
            return
        last = bool(strip == S.count - 1)
        self.own = int(S.needed - self.top) if last else S.own
        count = min(PIECES, self.own, max(1, len(self.tiles)))
        cuts = [self.own * n // count for n in range(count + 1)]
        self.pieces = [slice(low, high) for low, high in pairwise(cuts)]
        if strip > 0:
            if S.above:
                self.halos.append((self._at(node - 1), slice(0, S.above), slice(S.own, S.own + S.above)))
            if S.below:
                self.readers.append(self._at(node - 1))
        if not last:
            left = P.h - self.top - S.own
            taken = S.below if left >= S.below else int(left)
            if taken > 0:
                end = h.pad + S.own
                self.halos.append((self._at(node + 1), slice(end, end + taken), slice(h.pad, h.pad + taken)))
            if S.above:
                self.readers.append(self._at(node + 1))

    def _at(self, node: Any) -> tuple[Any, Any]:
        return node // self.k.mesh[1], node % self.k.mesh[1]

    def wait_constants(self) -> None:
        """Wait for what is the same for all frames: filters and bias."""
        self.k.wait(self.known, len(self.constants))

    def only_join(self) -> None:
        """Join the others in every turn, without a strip."""
        times = self.turns * (self.outputs - 1 if self.strips.older else self.reused)
        for _ in self.k.loop(times) if times else ():
            self.k.barrier(self.all_nodes)

    def frames_in(self) -> None:
        """Fetch this node's rows of every frame into the slot of the oldest, and blocks of frames that did not stay."""
        k, S = self.k, self.strips
        if S.kept:
            k.vec.fill(_flat(self.frames), 0)  # padding stays untouched from here on
        with k.when(self.node == 0):  # one node asks memory for the filters, for all
            for buffer, source in self.constants:
                k.copy(_flat(buffer), _flat(source), to=self.all_nodes, done=self.known)
        if S.kept:
            k.inc(self.cleared)
        if self.refetched is None:
            for f, low in _stretches(k, S.slots, S.live):
                if low < S.slots:
                    self._first(f)
                else:
                    self._in_turns(f)
            return
        first = min(S.slots, S.live)
        for f in k.loop(first) if first else ():
            self._first(f)
        for z, low in _stretches(k, 1, 1 + self.reused, self.outputs):
            # output z > 0 makes room for frame z - 1 + slots
            self._older(z, low > 0, z + (S.slots - 1) if 0 < low <= self.reused else None)

    def _first(self, f: Any) -> None:
        """Fetch this node's own rows of frame f of the ring, one of the first, two pieces at a time."""
        for n, piece in enumerate(self.pieces):
            self.k.wait(self.paced[n % 2])
            self._piece(f, piece, sent=self.paced[n % 2])

    def _in_turns(self, f: Any) -> None:
        """Fetch this node's own rows of frame f of the ring, dealt over the turns of the output that is multiplied."""
        for turn in range(self.turns):
            if turn:
                self.k.wait(self.begun)
            else:
                self._make_room(f)
            self.k.barrier(self.all_nodes)
            if turn:
                self.k.inc(self.joined)
            for piece in _share(self.pieces, turn, self.turns):
                self._piece(f, piece)

    def _make_room(self, f: Any) -> None:
        self.k.wait(self.free[f % self.strips.slots], 1 + len(self.readers))

    def _piece(self, f: Any, piece: slice, **options: Any) -> None:
        S = self.strips
        mine = slice(S.height.pad + piece.start, S.height.pad + piece.stop)
        source = self.x[f + S.older, self.top + piece.start : self.top + piece.stop]
        self.k.copy(self.ring[f][mine, self.pixels], source, done=self.arrived[f % S.slots], **options)

    def _older(self, z: Any, joins: bool, newest: Any) -> None:
        """Fetch the older frames of output z, block by block, and pieces of frame `newest` in between."""
        blocks = len(self.blocks)
        ahead = min(AHEAD, blocks)
        for n, block in enumerate(self.blocks):
            self._refetch(z, n, block)
            if n + 1 == ahead and newest is not None:
                self._make_room(newest)
            starts = [ahead + (blocks - ahead) * turn // self.turns for turn in range(self.turns)]
            for _ in range(starts.count(n + 1) if joins else 0):
                self.k.barrier(self.all_nodes)
            if newest is None or n + 1 < ahead:
                continue
            for piece in _share(self.pieces, n + 1 - ahead, blocks - ahead + 1):
                self._piece(newest, piece)

    def _refetch(self, z: Any, n: int, block: Block) -> None:
        """Fetch one block of the older frames of output z; what lies beyond the frame is +0."""
        S, P, fifo = self.strips, self.strips.problem, self.refetched
        assert fifo is not None
        top = self.top + (block.top * S.height.stride - S.height.pad)
        rows = (block.rows - 1) * S.height.stride + (S.height.taps - 1) * S.height.dilation + 1
        up = int(-top) if top < 0 else 0
        down = int(top + (rows - P.h)) if top + rows > P.h else 0
        left = block.left * S.width.stride - S.width.pad
        pixels = (block.columns - 1) * S.width.stride + (S.width.taps - 1) * S.width.dilation + 1
        before, after = max(0, -left), max(0, left + pixels - P.w)
        with fifo.put(z * len(self.blocks) + n) as slot:
            inside = slot[:, up : rows - down]
            edges = [slot[:, a:b, :pixels] for a, b in ((0, up), (rows - down, rows)) if b > a]
            edges += [inside[:, :, a:b] for a, b in ((0, before), (pixels - after, pixels)) if b > a]
            for edge in edges:
                self.k.vec.fill(edge, 0)
            source = self.x[z : z + S.older, top + up : top + rows - down, left + before : left + pixels - after]
            self.k.copy(inside[:, :, before : pixels - after], source)

    def halos_in(self) -> None:
        """Tell the neighbours when a frame is here, and pull the rows at the borders from theirs."""
        k, S = self.k, self.strips
        k.wait(self.cleared)
        for f, low in _stretches(k, self.reused, S.live):
            s = f % S.slots
            k.wait(self.arrived[s], len(self.pieces))
            for reader in self.readers:
                k.inc(self.told[s], at=reader)
            if self.halos:
                k.wait(self.told[s], len(self.halos))
                for neighbour, here, there in self.halos:
                    source = self.ring[f][there, self.pixels]
                    k.pull(self.ring[f][here, self.pixels], source, of=neighbour, done=self.halo[s])
                k.wait(self.halo[s], len(self.halos))
                for neighbour, _, _ in self.halos:
                    if low < self.reused:
                        k.inc(self.free[s], at=neighbour)
            k.inc(self.ready[s])

    def multiply(self) -> None:
        """The chain of every output over the newest kt frames, tile by tile of pixels: refetched frames come first."""
        k, S = self.k, self.strips
        self.wait_constants()
        for f in range(S.kept - 1):
            k.wait(self.ready[f % S.slots])
        in_turns = (1, 1 + self.reused) if self.refetched is None else (0, 0)  # while frames come into used slots
        for z, low in _stretches(k, *in_turns, self.reused, self.outputs):
            turns = self.turns if in_turns[0] <= low < in_turns[1] else 1
            if S.kept:
                k.wait(self.ready[(z + (S.kept - 1)) % S.slots])
            number = 0
            for n, block in enumerate(self.blocks):
                tiles = S.tiles(block)
                if self.refetched is None:
                    self._block(z, number, block, tiles, None, turns)
                else:
                    with self.refetched.get(z * len(self.blocks) + n) as slot:
                        self._block(z, number, block, tiles, slot, turns)
                number += len(tiles)
            if low < self.reused:
                k.inc(self.free[z % S.slots])

    def _block(self, z: Any, number: int, block: Block, tiles: list[Block], slot: View | None, turns: int) -> None:
        S = self.strips
        starts = [len(self.tiles) * turn // turns for turn in range(1, turns)]
        for n, tile in enumerate(tiles):
            for _ in range(starts.count(number + n)):
                self.k.inc(self.begun)
                self.k.wait(self.joined)
            with self.acc.put(z * len(self.tiles) + number + n) as sums:
                for j in range(S.older):
                    assert slot is not None
                    self._tap(sums, slot[j], j, tile._replace(top=0, left=tile.left - block.left))
                for j in range(S.kept):
                    self._tap(sums, self.ring[z + j], S.older + j, tile)

    def _tap(self, sums: View, frame: View, t: int, tile: Block) -> None:
        """Multiply one frame of the window, whose rows and pixels are those of a strip or a block."""
        h, w = self.strips.height, self.strips.width
        rows = frame.window(0, h.taps, h.stride, h.dilation)[tile.top : tile.top + tile.rows]
        pixels = rows.window(2, w.taps, w.stride, w.dilation)[:, :, tile.left : tile.left + tile.columns]
        for r, a, b in _rows(pixels, self.filters[t], w.dilation == 1):
            self.k.matmul(sums[: tile.rows, : tile.columns], a, b, accumulate=(t, r) != (0, 0))

    def results_out(self) -> None:
        """Bias, activation, rounding and the way to memory."""
        k = self.k
        for z in k.loop(self.outputs):
            for n, tile in enumerate(self.tiles):
                number, rows, columns = z * len(self.tiles) + n, tile.rows, tile.columns
                top = self.first + tile.top
                target = self.y[z, top : top + rows, tile.left : tile.left + columns]
                with self.acc.get(number) as whole:
                    sums = whole[:rows, :columns]
                    if self.bias_row is not None:
                        k.vec.add(sums, sums, self.bias_row)
                    self.activation.apply(sums)
                    if self.out is None:
                        k.copy(target, sums)
                        continue
                    with self.out.put(number) as rounded:
                        k.vec.cast(rounded[:rows, :columns], sums)
                with self.out.get(number) as rounded:
                    k.copy(target, rounded[:rows, :columns])


def _rows(pixels: View, filters: View, one_run: bool) -> Iterator[tuple[int, View, View]]:
    """Yield (filter row, operand, filters): one matmul for all rows where taps and channels are one run."""
    if one_run:
        yield 0, pixels.merge(3).transpose(0, 2, 1, 3), filters.merge(1)
        return
    for r in range(pixels.shape[1]):
        yield r, pixels[:, r], filters[r]


def _share(pieces: Sequence[slice], turn: int, turns: int) -> Sequence[slice]:
    """Return the pieces of a turn: a single one comes first; more are dealt evenly, down to the last turn."""
    if len(pieces) == 1:  # the last turn, where the last of several comes, is late for a whole frame
        return pieces[turn:]
    low, high = (len(pieces) * n // turns for n in (turn, turn + 1))
    return pieces[low:high]


def _stretches(k: K, *ends: int) -> Iterator[tuple[Any, int]]:
    """Yield (index, first index of its stretch) over range(ends[-1]), as one hardware loop for each stretch."""
    for low, high in pairwise(sorted({0, *(min(end, ends[-1]) for end in ends)})):
        for i in k.loop(high - low):
            yield i + low, low


def _flat(view: View) -> View:
    while view.ndim > 1:
        view = view.merge(0)
    return view
