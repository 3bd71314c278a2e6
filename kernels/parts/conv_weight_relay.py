"""Weight gradients of few channels whose taps look along time alone: frames of x stay, sums travel from node to node.

A chain of an image is one step after the other by definition, so that a node with one block of 8 channels x 8 filters
of one tap and image is busy for outputs / 4 cycles, and no order of work ends sooner: with fewer blocks than nodes the
teams of `conv_weight_gradient` leave the rest of the mesh idle, and with a few more, a few nodes have two. Here

1. the frames of x of a clip are dealt round a *ring* of nodes and never move. A step of a chain, one output frame z at
   one tap, is done where the frame of x lies that it reads: sums (256 B) go round the ring. So a node is not tied to
   whole chains: of three taps on two nodes, each has three steps for every two frames, and both are always busy.
2. A block takes 64 B of x and 64 B of gy a cycle, twice what the mesh port lets in. As x lies at hand, only frames of
   gy travel, multicast to the nodes of the ring that read them: one after the other, since two at once would each take
   twice as long, and the first in eighths, since all wait for it.
3. Sums queue behind a frame that their node sends. Where the mesh has a row to spare, its nodes send instead.

The cap. A chain takes the unit 4 steps a cycle, whatever the block (the vector unit one), so no program is faster than
outputs / 4 cycles, in which n clips of b blocks keep n * b nodes busy at most. SlowFast's 3x1x1 32-8 has b = 3 * 4 * 1
and 32 x 56 x 56 outputs: eight clips take 25,088 cycles or more, 96 / 354 = 27.1 % of `d1`; 32 clips have 384 blocks
for 342 nodes, and no such cap.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.conv_weight_outputs import add_up
from accel.kernels.parts.conv_weight_ring import Relay, Step
from accel.kernels.parts.conv_weight_tiling import GROUP
from accel.lang import K, TensorSpec
from accel.numerics import fmt
from accel.program import kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["relay_gradient"]


@kernel
def relay_gradient(k: K, x: TensorSpec, gy: TensorSpec, gw: TensorSpec, *, relay: Relay) -> None:
    """gw of x and gy, both resident; see the module text."""
    seat = Seat(k, x, gy, gw, relay)
    R, teams = relay, k.mesh[1] // relay.width
    if k.row >= k.mesh[0] // R.rows * R.rows or k.col >= teams * R.width:
        return
    clip = k.row // R.rows * teams + k.col // R.width
    if clip >= R.form.n:
        return
    seat.place(clip, index(k.row % R.rows), index(k.col % R.width))

    @k.thread
    def send() -> None:
        seat.send()

    @k.thread
    def compute() -> None:
        seat.compute()
        seat.finish()

    if R.pads(seat.row):

        @k.thread
        def blank() -> None:
            k.vec.fill(seat.zeros, 0)
            k.inc(seat.blanked)


class Seat:
    """One node of a ring: its buffers and semaphores, and what its threads do."""

    def __init__(self, k: K, x: TensorSpec, gy: TensorSpec, gw: TensorSpec, relay: Relay) -> None:
        R, self.k, self.relay = relay, k, relay
        self.x, self.gy, self.gw = x, gy, gw
        taps, frames, sums = R.time.taps, R.time.out, "int32" if fmt(x.dtype).kind == "int" else "fp32"
        frame, self.inboxes = (R.pixels, GROUP), -(-taps // R.form.n)
        self.kept = k.sram((max(1, *map(len, R.kept)), *frame), x.dtype, "x_kept")
        self.home = k.sram((1 + max(place for *_, place in R.owners), *frame), gy.dtype, "gy_home")
        self.slots = k.sram((R.slots, *frame), gy.dtype, "gy")
        self.zeros = k.sram((R.piece, GROUP), x.dtype, "zeros")
        self.sums = k.sram((taps, GROUP, GROUP), sums, "sums")
        self.inbox = k.sram((self.inboxes, R.form.n, GROUP, GROUP), sums, "inbox")
        self.out = k.sram((self.inboxes, GROUP, GROUP), gw.dtype, "out") if gw.dtype != sums else None
        self.first, self.full = k.sem(R.pieces, "first"), k.sem(frames, "gy_full")
        self.free, self.go = k.sem(frames, "gy_free"), k.sem(name="go")
        self.chain, self.arrived = k.sem(taps, "chain"), k.sem(self.inboxes, "arrived")
        self.blanked, self.stored, self.sent = k.sem(name="blanked"), k.sem(name="stored"), k.sem(name="sent")

    def place(self, clip: Any, row: int, col: int) -> None:
        """Say which clip, row and block of it this node has, and what lies here before the start and at the end."""
        k, R, form = self.k, self.relay, self.relay.form
        self.clip, self.row, self.teams = clip, row, k.mesh[1] // R.width
        self.part = col % R.c_parts
        self.corner = k.row - row, k.col - self.part  # of the nodes with the same filters
        c, f = self.part * GROUP, col // R.c_parts * GROUP
        self.c, self.f = slice(c, min(form.c, c + GROUP)), slice(f, min(form.k, f + GROUP))
        self.block = slice(0, self.c.stop - c), slice(0, self.f.stop - f)
        for at, number in enumerate(R.kept[row]):
            k.preload(self.kept[at, :, self.block[0]], self.x[clip, number, :, :, self.c].merge(0))
        if row == 0 and not any(R.kept):  # no tap meets anything; x is an operand all the same
            k.preload(self.kept[0, :, self.block[0]], self.x[clip, 0, :, :, self.c].merge(0))
        for z, (owner, part, at) in enumerate(R.owners):
            if (owner, part) == (row, self.part):
                k.preload(self.home[at, :, self.block[1]], self.gy[clip, z, :, :, self.f].merge(0))
        self.finals = [
            tap for tap in range(R.time.taps) if row == R.last_row(tap) and bool(clip == tap % form.n)
        ]  # fmt: skip
        if self.gw.resident:
            for tap in self.finals:
                k.collect(self.gw[tap, 0, 0, self.c, self.f], self._result(tap))

    def _result(self, tap: int) -> View:
        """Return where the gradient of a tap is in the end."""
        at = tap // self.relay.form.n
        return self.inbox[(at, 0, *self.block)] if self.out is None else self.out[(at, *self.block)]

    # --- gy on its way ----------------------------------------------------------------------------------------------
    def send(self) -> None:
        """Multicast the frames of gy that this node keeps, each once all its readers have its slot free."""
        k, R = self.k, self.relay
        for z, (row, part, at) in enumerate(R.owners):
            if (row, part) != (self.row, self.part):
                continue
            waiting = sum(R.before(z, reader) is not None for reader in R.readers[z])
            if waiting:
                k.wait(self.free[z], waiting * R.c_parts)
            if z:  # one after the other: two at once would each take twice the time, and the first is needed first
                k.wait(self.go)
            source, slot = self.home[at, :, self.block[1]], self.slots[z % R.slots, :, self.block[1]]
            rows = _runs(R.readers[z])[::-1]  # those at the end of the ring first
            pieces = self._pieces() if z == 0 else [slice(0, R.pixels)]
            more = z + 1 < R.time.out
            for x, piece in enumerate(pieces):
                for low, high in rows:
                    top, left = self.corner
                    nodes = k.rect(top + low, top + high, left, left + R.c_parts)
                    done = self.first[x] if z == 0 else self.full[z]
                    first = more and low == rows[0][0]
                    k.copy(slot[piece], source[piece], to=nodes, done=done, sent=self.sent if first else None)
            if more:
                k.wait(self.sent, len(pieces))
                k.inc(self.go, at=self._owner(z + 1))

    def _pieces(self) -> list[slice]:
        piece, pixels = self.relay.piece, self.relay.pixels
        return [slice(low, min(pixels, low + piece)) for low in range(0, pixels, piece)]

    def _owner(self, z: int) -> tuple[Any, Any]:
        """Return the node that keeps frame z of gy for the filters of this one."""
        row, part, _ = self.relay.owners[z]
        return self.corner[0] + row, self.corner[1] + part

    # --- chains -----------------------------------------------------------------------------------------------------
    def compute(self) -> None:
        """Do the steps of this row: take the sums of a chain, go on with them over a frame, pass them on."""
        k, R = self.k, self.relay
        here: set[int] = set()
        blank = False
        steps = R.steps[self.row]
        for number, (z, tap) in enumerate(steps):
            sums, slot = self.sums[(tap, *self.block)], self.slots[z % R.slots, :, self.block[1]]
            if z and R.row((z - 1, tap)) != self.row:
                k.wait(self.chain[tap])
            inside = R.frame((z, tap)) in R.kept[self.row]
            if not inside and not blank:
                k.wait(self.blanked)
                blank = True
            if z and z not in here:
                k.wait(self.full[z])
            for x, piece in enumerate([slice(0, R.pixels)] if z and inside else self._pieces()):
                if z == 0 and z not in here:
                    k.wait(self.first[x])
                if inside:
                    frame = self.kept[R.kept[self.row].index(R.frame((z, tap))), piece]
                else:
                    frame = self.zeros[: piece.stop - piece.start]
                k.matmul(sums, frame[:, self.block[0]], slot[piece], accumulate=z > 0 or x > 0, trans_a=True)
            here.add(z)
            self._pass_on((z, tap))
            last = number + 1 == len(steps) or steps[number + 1][0] != z
            after = R.after(z, self.row) if last else None
            if after is not None:
                k.inc(self.free[after], at=self._owner(after))

    def _pass_on(self, step: Step) -> None:
        """Send the sums of a chain to where its next step is done; from its last one to where clips are added."""
        k, R, (z, tap) = self.k, self.relay, step
        source = self.sums[(tap, *self.block)]
        if z + 1 == R.time.out:
            clip, at = tap % R.form.n, tap // R.form.n
            side = k.col % R.width
            node = clip // self.teams * R.rows + self.row, clip % self.teams * R.width + side
            k.copy(self.inbox[(at, self.clip, *self.block)], source, to=node, done=self.arrived[at])
        elif R.row((z + 1, tap)) != self.row:
            to = self.corner[0] + R.row((z + 1, tap)), k.col
            k.copy(source, source, to=to, done=self.chain[tap])

    def finish(self) -> None:
        """Add up the clips of the taps that end here, round the sum and store it."""
        k, n = self.k, self.relay.form.n
        for tap in self.finals:
            at = tap // n
            k.wait(self.arrived[at], n)
            parts = self.inbox[(at, slice(None), *self.block)]
            add_up(k, parts)
            result = self._result(tap)
            if self.out is not None:
                k.vec.cast(result, parts[0])
            if not self.gw.resident:
                k.copy(self.gw[tap, 0, 0, self.c, self.f], result, sent=self.stored)
        if self.finals and not self.gw.resident:
            k.wait(self.stored, len(self.finals))


def _runs(rows: list[int]) -> list[tuple[int, int]]:
    """Return ascending rows as half-open runs."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if found and found[-1][1] == row:
            found[-1] = found[-1][0], row + 1
        else:
            found.append((row, row + 1))
    return found
