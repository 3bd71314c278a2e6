"""Weight gradients of many frames with few channels, operands on the chip: every frame stays where it lies.

Where a frame has more than 512 outputs it is a chain of its own (`chain_frames`), so every output frame is work of its
own: a clip of 32 frames keeps 32 nodes busy, whatever its channels. What is left to choose is who reads whose frames.
Here

1. output frames are dealt in runs along a path through the mesh on which neighbours in time are neighbours on the chip
   (rows there and back). A node has its frames of gy and those of x that lie below the middle of the filter; these
   products need nothing from anywhere, and while they run, the frames before and after come from the nodes beside.
2. A product is a macro-operation for each row of taps: M = taps of the row and channels, N = filters, K = the pixels of
   the frame. With c channels it takes c k / 64 / 4 cycles a pixel and tap, and fetches 2 c bytes of it: from 8 filters
   on, one product hides the next one's frame.
3. Sums leave in slices for the nodes that add these slices up over all frames (first the frames of a clip, then clips,
   as balanced trees), 16 numbers where the mesh has nodes for it. They wait until their node has its frames: sums of
   all nodes meet at a few, and frames would queue behind them.
4. Where frames are fewer than nodes, or too large for one, `parts` nodes share the channels of a run; each frame of gy
   comes from one of them.

The bound: multiply-adds over the matrix units of all nodes; runs are whole frames, so that 256 frames on 342 nodes
leave a quarter of them without work.
"""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.conv_shape import flat
from accel.kernels.parts.conv_weight_deal import PIECES, Deal, Product
from accel.kernels.parts.conv_weight_outputs import add_up
from accel.kernels.parts.conv_windows import frame_axes
from accel.lang import K, TensorSpec
from accel.numerics import fmt
from accel.program import kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["frame_gradient"]


@kernel
def frame_gradient(k: K, x: TensorSpec, gy: TensorSpec, gw: TensorSpec, *, deal: Deal) -> None:
    """gw of x and gy, both resident; see the module text."""
    D, node = deal, Node(k, x, gy, gw, deal)
    back = k.row % 2  # rows there and back
    place = k.col // D.parts
    gang = k.row * D.across + place + back * (D.across - 1 - 2 * place)
    works = bool(k.col < D.across * D.parts) and bool(gang < D.gangs)
    number = k.row * k.mesh[1] + k.col
    nodes = k.mesh[0] * k.mesh[1]
    slice_of = -(-number * D.adders // nodes)
    adds = bool(slice_of < D.adders) and bool(slice_of * nodes // D.adders == number)
    if works:
        node.place(gang, k.col % D.parts)

        @k.thread
        def load() -> None:
            node.load()

        @k.thread
        def compute() -> None:
            node.compute()

        @k.thread
        def send() -> None:
            node.send()

    if adds:
        node.result_at(slice_of)

        @k.thread
        def add() -> None:
            node.add()


class Node:
    """One node: its buffers and semaphores, and what its threads do."""

    def __init__(self, k: K, x: Any, gy: Any, gw: Any, deal: Deal) -> None:
        D, self.k, self.deal = deal, k, deal
        self.x, self.gy, self.gw = x, gy, gw
        (owned, pulled, blank), sums = D.most, "int32" if fmt(x.dtype).kind == "int" else "fp32"
        frame, self.owned = (*(span.extent for span in D.spans), D.channels), owned
        self.home = k.sram((D.run * owned, *frame), x.dtype, "x_home")
        self.slots = k.sram((D.run, *D.output, D.form.k), gy.dtype, "gy")
        if pulled:
            self.near = k.sram((pulled, *frame), x.dtype, "x_near")
            self.come, self.here = k.sem(pulled, "come"), k.sem(pulled, "here")
            self.go, self.quiet = k.sem(name="go"), k.sem(name="quiet")
        if blank:
            self.zeros = k.sram((D.zeros,), x.dtype, "zeros")
        if blank or D.padded:
            self.blanked = k.sem(2, "blanked")
        self.sums = k.sram((D.run, prod(D.taps), D.block), sums, "sums")
        self.made = k.sem(name="made")
        self.inbox = k.sram((D.clips, D.time.out, D.slice), sums, "inbox")
        self.arrived = k.sem(name="arrived")
        if D.groups > 1:
            self.groups, self.gathered = k.sram((D.groups, D.slice), sums, "groups"), k.sem(name="gathered")
        self.out = k.sram((D.slice,), gw.dtype, "out") if gw.dtype != sums else None
        if D.parts > 1:
            self.first, self.full = k.sem(PIECES, "first"), k.sem(D.run, "gy_full")
        self.stored = k.sem(name="stored")

    def place(self, gang: Any, part: Any) -> None:
        """Say which frames and channels this node has, and what lies here before the start."""
        k, D = self.k, self.deal
        self.gang, self.part = gang, part
        left = D.form.c - part * D.channels
        self.width = D.channels if D.form.c % D.channels == 0 or left >= D.channels else D.form.c % D.channels
        first = gang * D.run
        count = D.run if D.frames % D.run == 0 or first + D.run <= D.frames else D.frames % D.run
        self.images = [divmod(first + image, D.time.out) for image in range(count)]
        stand = tuple(D.like(z) for _, z in self.images)
        self.products = D.products(stand)
        self.pulls = D.pulls(self.products)
        c = slice(part * D.channels, part * D.channels + self.width)
        for image, (clip, z) in enumerate(self.images):
            for at, off in enumerate(D.patterns[stand[image]][0]):
                frame = (clip, z * D.time.stride + off)[: self.x.ndim - 3]
                inside = self.x[(*frame, *(span.source for span in D.spans), c)]
                k.preload(self._inside(self.home, image * self.owned + at), inside)
        self.mine = [bool(part == self._owner(image)) for image in range(count)]
        for image, (clip, z) in enumerate(self.images):
            if self.mine[image]:
                k.preload(self.slots[image], self.gy[(clip, z)[: self.gy.ndim - 3]])

    @property
    def late(self) -> bool:
        """Return whether frames are fetched after the first product: those from behind, all where gy comes first."""
        return bool(self.pulls) and (self.pulls[0][0] > 0 or not (self.deal.parts == 1 or self.mine[0]))

    def _owner(self, image: int) -> int:
        """Return the part whose node keeps a frame of gy: the first or the last, so that one copy serves all."""
        return (self.deal.parts - 1) * (image % 2)

    def _pieces(self) -> list[slice]:
        piece, rows = self.deal.piece, self.deal.output[0]
        return [slice(low, min(rows, low + piece)) for low in range(0, rows, piece)]

    def _inside(self, frames: View, at: int) -> View:
        """Return a frame of x without its padding."""
        rows, cols = self.deal.spans
        view: View = frames[at, rows.low : rows.high, cols.low : cols.high, : self.width]
        return view

    def _blank(self, frames: View) -> None:
        """Write the padding round frames of x."""
        rows, cols = self.deal.spans
        for low, high in ((0, rows.low), (rows.high, rows.extent)):
            if high > low:
                self.k.vec.fill(frames[:, low:high], 0)
        for low, high in ((0, cols.low), (cols.high, cols.extent)):
            if high > low:
                self.k.vec.fill(frames[:, rows.low : rows.high, low:high], 0)

    # --- frames on their way ----------------------------------------------------------------------------------------
    def load(self) -> None:
        """Send frames of gy to the nodes of the gang, then fetch frames of x from other gangs, one after the other.

        All nodes fetch from before them first, then from behind, so that no port has two frames to pass at once: a
        node whose port is shared would hold up the one that sends, and that the next.
        """
        k, D = self.k, self.deal
        for image, mine in enumerate(self.mine if D.parts > 1 else []):
            if not mine:
                continue
            start = k.col - self._owner(image)
            low, high = (0, D.parts - 1) if self._owner(image) else (1, D.parts)
            nodes = k.rect(k.row, k.row + 1, start + low, start + high)
            for number, piece in enumerate(self._pieces() if image == 0 else [slice(0, D.output[0])]):
                done = self.first[number] if image == 0 else self.full[image]
                k.copy(self.slots[image, piece], self.slots[image, piece], to=nodes, done=done)
        if self.late:
            k.wait(self.go)
        for slot, (off, image, at) in enumerate(self.pulls):
            gang = self.gang + off
            row, place = gang // D.across, gang % D.across
            place = place + row % 2 * (D.across - 1 - 2 * place)
            there = self._inside(self.home, image * self.owned + at)
            of = (row, place * D.parts + self.part)
            k.pull(self._inside(self.near, slot), there, of=of, done=self.come[slot])
            k.wait(self.come[slot])
            k.inc(self.here[slot])
        if self.pulls:
            k.inc(self.quiet)

    # --- products ---------------------------------------------------------------------------------------------------
    def compute(self) -> None:
        """Do all products of this node, each as soon as what it reads is here."""
        k, D = self.k, self.deal
        ready = [mine or D.parts == 1 for mine in self.mine]
        came: set[int] = set()
        if self.blanks[0]:
            k.wait(self.blanked[0])
        for one in self.products:
            begins = one.image == 0 and not ready[0]
            if not ready[one.image] and not begins:
                k.wait(self.full[one.image])
            ready[one.image] = True
            slot = self.pulls.index(one.of) if one.of in self.pulls else None
            if slot is not None and slot not in came:
                if not came and self.blanks[1]:
                    k.wait(self.blanked[1])
                k.wait(self.here[slot])
                came.add(slot)
            for number, piece in enumerate(self._pieces() if begins else [slice(0, D.output[0])]):
                if begins:
                    k.wait(self.first[number])
                self._multiply(one, slot, piece, fresh=number == 0)
            if self.late and one is self.products[0]:
                k.inc(self.go)
            k.inc(self.made)

    def _multiply(self, one: Product, slot: int | None, piece: slice, *, fresh: bool) -> None:
        """Multiply rows `piece` of a frame of gy with what each row of taps reads."""
        D, right = self.deal, self.slots[one.image, piece]
        _, high, wide = D.taps
        for r in range(high):
            first = (one.tap * high + r) * wide
            sums = self.sums[one.image, first : first + wide, : self.width * D.form.k].split(1, D.form.k)
            left = self._left(one, slot, piece, r)
            self.k.matmul(sums if wide > 1 else sums[0], left, right, accumulate=not fresh, trans_a=True)

    def _left(self, one: Product, slot: int | None, piece: slice, r: int) -> View:
        """Return what a row of taps reads for some rows of outputs: (rows, columns, taps of the row, channels)."""
        D, (_, h, w) = self.deal, frame_axes(self.deal.form)
        (rows, cols), count = D.spans, piece.stop - piece.start
        view: View
        if one.of is None:  # all of it 0
            zeros = self.zeros[: count + w.out + w.taps + self.width - 3].window(0, self.width)
            view = (
                zeros.window(0, w.taps).window(0, w.out) if w.taps > 1 else zeros[: count + w.out - 1].window(0, w.out)
            )
            return view
        frames, at = (self.home, one.of[1] * self.owned + one.of[2]) if slot is None else (self.near, slot)
        top = piece.start * rows.stride + r * h.dilation
        view = frames[at, top : top + (count - 1) * rows.stride + 1 : rows.stride, :, : self.width]
        return view.window(1, w.taps, cols.stride, w.dilation) if w.taps > 1 else view[:, :: cols.stride]

    @property
    def blanks(self) -> tuple[bool, bool]:
        """Return whether padding is written before the first product, and before the first with a frame from others."""
        padded = self.deal.padded
        return padded or any(one.of is None for one in self.products), padded and bool(self.pulls)

    def send(self) -> None:
        """Send the sums of each product, slice by slice, to the nodes that add them up; at first, write padding.

        None leaves before this node has its frames, and so about all nodes have: sums of all nodes meet at a few, and
        frames would wait behind them.
        """
        k, D = self.k, self.deal
        if any(one.of is None for one in self.products):
            k.vec.fill(self.zeros, 0)
        for number, wanted in enumerate(self.blanks):
            if wanted and D.padded:
                self._blank(self.near if number else self.home)
            if wanted:
                k.inc(self.blanked[number])
        if self.pulls:
            k.wait(self.quiet)
        each = prod(D.taps[1:])
        for one in self.products:
            k.wait(self.made)
            for tap in range(one.tap * each, (one.tap + 1) * each):
                self._send(one.image, tap)

    def _send(self, image: int, tap: int) -> None:
        """Send the sums of a tap of an output frame to those who add up their slices."""
        D, (clip, z) = self.deal, self.images[image]
        size = self.width * D.form.k
        for turn in range(ceil(size / D.slice)):
            even = size == D.slices * D.slice
            number = (turn + self.gang) % D.slices if even else turn  # not all at the same node at once
            low, length = number * D.slice, D.slice if even else min(D.slice, size - turn * D.slice)
            at = (self.part * prod(D.taps) + tap) * D.slices + number
            part, to = self.sums[image, tap, low : low + length], self._adder(at, clip // D.clips)
            self.k.copy(self.inbox[clip % D.clips, z, :length], part, to=to, done=self.arrived)

    def _adder(self, number: Any, group: Any) -> tuple[Any, Any]:
        """Return the node that adds up a slice over a group of clips."""
        rows, cols = self.k.mesh
        at = (group * self.deal.blocks + number) * (rows * cols) // self.deal.adders
        return at // cols, at % cols

    # --- sums -------------------------------------------------------------------------------------------------------
    def result_at(self, number: Any) -> None:
        """Say which slice of gw this node adds up over which clips, and where it is in the end."""
        D, form = self.deal, self.deal.form
        self.number, self.group = number % D.blocks, number // D.blocks
        low, block = self.number % D.slices * D.slice, self.number // D.slices
        tap, part = block % prod(D.taps), block // prod(D.taps)
        width = D.channels if form.c % D.channels == 0 or part < D.parts - 1 else form.c % D.channels
        left = width * form.k - low
        self.size = D.slice if left >= D.slice else int(left) if left > 0 else 0
        last = form.n - self.group * D.clips
        self.count = D.clips if form.n % D.clips == 0 or last >= D.clips else form.n % D.clips
        self.final = D.groups == 1 or bool(self.group == 0)
        first = (tap * form.c + part * D.channels) * form.k + low
        self.target = flat(self.gw)[first : first + self.size] if self.size and self.final else None
        if self.gw.resident and self.target is not None:
            self.k.collect(self.target, self._result())

    def _result(self) -> View:
        """Return where the slice is in the end."""
        sums = self.inbox[0, 0] if self.deal.groups == 1 else self.groups[0]
        view: View = (sums if self.out is None else self.out)[: self.size]
        return view

    def add(self) -> None:
        """Add up the slice over frames of a clip, clips of a group, and groups; round and store it."""
        k, D = self.k, self.deal
        if not self.size:
            return
        k.wait(self.arrived, self.count * D.time.out)
        parts = self.inbox[: self.count, :, : self.size]
        add_up(k, parts.transpose(1, 0, 2))
        add_up(k, parts[:, 0])
        sums = parts[0, 0]
        if D.groups > 1:
            to = self._adder(self.number, 0)
            k.copy(self.groups[self.group, : self.size], sums, to=to, done=self.gathered)
        if self.target is None:
            return
        if D.groups > 1:
            k.wait(self.gathered, D.groups)
            add_up(k, self.groups[:, : self.size])
            sums = self.groups[0, : self.size]
        if self.out is not None:
            k.vec.cast(self._result(), sums)
        if not self.gw.resident:
            k.copy(self.target, self._result(), sent=self.stored)
            k.wait(self.stored)
