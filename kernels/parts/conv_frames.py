"""The input of a forward convolution on its way in: bands of rows with their halo in frame buffers padded by zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from accel.kernels.parts.conv_shape import rows_of
from accel.kernels.parts.conv_stage import Pace, Stage, plan_of
from accel.kernels.parts.conv_tiling import Tiling
from accel.kernels.parts.matmul_formats import buffer
from accel.lang import K, TensorRef
from accel.problem.convolution import Axis

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Band", "Frames", "dealt", "first_of"]


class Band(NamedTuple):
    """Where a band lies: clip, time, block of rows, block of pixels; each may differ from node to node."""

    n: Any
    t: Any
    down: Any
    across: Any


class Piece(NamedTuple):
    """A run of pixels of a row of a band: where it goes, and whence: block (relative to the band's), start, length."""

    at: int
    block: int
    start: int
    length: int


def first_of(owner: Any, items: int, owners: int) -> Any:
    """Return the first of `items` that `owner` holds, when they are dealt as evenly as can be, in order."""
    return (owner * items + owners - 1) // owners


def dealt(item: Any, items: int, owners: int) -> Any:
    """Return the owner of `item`."""
    return item * owners // items


class Frames:
    """The frame buffers, (slots, bands, time taps, rows, columns, channels), and how they are filled.

    Every input row that a band reads is a copy of its own: from memory, or pulled from the node that keeps it where x
    is resident or staged, so that rows at the border of two nodes are exchanged between them. Rows and pixels beyond
    the image are +0.
    """

    def __init__(self, k: K, x: TensorRef, tiling: Tiling) -> None:
        T, s = tiling, tiling.shape
        self.k, self.tiling, self.x = k, tiling, rows_of(x, s.w.size)
        self.buffer = buffer(k, (T.slots, T.bands, s.t.taps, T.rows, T.columns, s.c), x, "frames")
        self.inside: dict[tuple[int, int], list[Any]] = {}  # by slot and band: which of its frames are in the clip
        self.full, self.free = k.sem(T.slots, "frames_full"), k.sem(T.slots, "frames_free")
        # Where every tap lands on padding x is an input all the same, and is touched once.
        lands = x.resident or all(map(_meets, (s.t, s.h, s.w)))
        self.touched = None if lands else k.sem(name="touched")
        self.home, self.stage = None, None
        if x.resident or T.staged:
            self.home = buffer(k, (T.homes, T.block, s.c), x, "x_home")
        self.variants = _variants(T)
        # Neighbouring rows on different parts of the mesh, so that nodes that want the same rows ask many nodes.
        self.spread = T.parts > 1 and s.w.size % T.block == 0
        self.pieces = max([1, *(len(pieces) for _, _, pieces in self.variants)])
        self.blocks = 1 if self.home is None else -(-s.w.size // T.block)
        self.pace = None if self.home is not None else Pace(k, T, T.slots)
        if T.staged:
            plan = plan_of(T)
            assert plan is not None
            assert self.home is not None
            self.stage = Stage(k, T, plan, self.home, self.x)

    def place(self, part: Any, member: Any, tiles: int) -> None:
        """Say which part of x is kept here, about what this member reads, dealt over the parts; and its tiles."""
        T = self.tiling
        self.inside.clear()
        if self.home is None:
            return
        unit = first_of(member, T.units, T.members) + part * (1 if self.spread else T.homes)
        left = first_of(member + 1, T.units, T.members) - unit
        if self.stage is not None:
            self.stage.place(member, unit, int(left), tiles)
            return
        if left <= 0:
            return
        step = T.parts if self.spread else 1
        if T.by_block:
            for index in range(min(T.homes, int((left + step - 1) // step))):
                clip, block, time = self._in_time(unit + index * step)
                first = block * T.block
                self.k.preload(self.home[index], self.x[clip * T.shape.t.size + time, first : first + T.block])
            return
        if self.spread:
            count = int((left + T.parts - 1) // T.parts)
            source = self.x.merge(0).split(0, T.block)[unit : unit + (count - 1) * T.parts + 1 : T.parts]
            self.k.preload(self.home[:count], source)
            return
        count = T.homes if left >= T.homes else int(left)
        whole, pixels = self.x.merge(0), self.x.shape[0] * self.x.shape[1]
        start, run = unit * T.block, count * T.block
        if start + run > pixels:  # one long row, whose last block is short
            run = int(pixels - start)
        self.k.preload(self.home.merge(0)[:run], whole[start : start + run])

    def band(self, index: Any) -> Band:
        """Return where band `index` lies."""
        down, across = self.tiling.blocks
        if self.tiling.by_block:
            clip, at, time = self._in_time(index)
            return Band(clip, time, 0, at)
        rest = index // across if across > 1 else index
        row = rest // down if down > 1 else rest
        clip = row // self.tiling.shape.t.out if self.tiling.shape.t.out > 1 else row
        return Band(
            clip,
            row % self.tiling.shape.t.out if self.tiling.shape.t.out > 1 else 0,
            rest % down if down > 1 else 0,
            index % across if across > 1 else 0,
        )

    def _in_time(self, index: Any) -> tuple[Any, Any, Any]:
        """Return (clip, block, time) of a band or of a piece of x where they follow each other in time."""
        frames, across = self.tiling.shape.t.out, self.tiling.blocks[1]
        return index // (frames * across), index // frames % across, index % frames

    def clear(self) -> None:
        """Fill all slots with +0 once, where padding then stays untouched."""
        if self.touched is not None:
            self.k.copy(self.buffer[0, 0, 0, 0, 0], self.x[0, 0], done=self.touched)
            self.k.wait(self.touched)
        if len(self.variants) > 1:
            return
        rows: View = self.buffer
        while rows.ndim > 3:
            rows = rows.merge(0)
        at = 0
        for low, high in [(p.at, p.at + p.length) for p in self.variants[0][2]] + [(self.tiling.columns, 0)]:
            if at < low:
                self.k.vec.fill(rows[:, at:low], 0)
            at = high

    def load(self, tile: int, bands: list[Band]) -> None:
        """Fill the slot of tile number `tile` with these bands, and count the copies on its way."""
        k, T, s = self.k, self.tiling, self.tiling.shape
        slot = tile % T.slots
        if self.stage is not None:
            self.stage.fetch(tile)
        if self.pace is not None:
            self.pace.keep(tile)
        if tile >= T.slots:
            k.wait(self.free[slot])
        for b, band in enumerate(bands):
            before = self.inside.get((slot, b))
            times = [band.t * s.t.stride + (kt * s.t.dilation - s.t.pad) for kt in range(s.t.taps)]
            self.inside[slot, b] = [_within(time, s.t.size, s.t.pad) for time in times]
            for kt, time in enumerate(times):
                stays = before is not None and _neither(before[kt], self.inside[slot, b][kt])
                for i in range(T.rows):
                    offset = i * s.h.dilation if T.high == 1 else i
                    y = band.down * (T.high * s.h.stride) + (offset - s.h.pad)
                    self._row(self.buffer[slot, b, kt, i], band, time, y, self.full[slot], stays)

    def wait(self, tile: int, bands: int) -> None:
        """Wait until all rows of a tile are there."""
        T = self.tiling
        self.k.wait(self.full[tile % T.slots], bands * T.shape.t.taps * T.rows * self.pieces)
        if self.pace is not None:
            self.pace.arrived(tile)

    def done(self, tile: int, tiles: int) -> None:
        """Give the slot of a tile back, if one of this node's `tiles` comes into it."""
        if tile + self.tiling.slots < tiles:
            self.k.inc(self.free[tile % self.tiling.slots])

    def _row(self, frame: View, band: Band, time: Any, y: Any, full: Any, stays: Any) -> None:
        """Bring one row of a band, or zeros for a row of padding: `self.pieces` tokens on `full` in any case.

        stays: whether this row of the slot is of a frame beyond the clip, as it was when the slot was filled last.
        """
        k, s = self.k, self.tiling.shape
        inside = _within(time, s.t.size, s.t.pad) & _within(y, s.h.size, s.h.pad)
        row = (band.n * s.t.size + time) * s.h.size + y
        padded = inside is not True
        if padded:
            outside = ~inside if inside is not False else True
            if stays is False:
                with k.when(outside):
                    k.vec.fill(frame, 0)
                    k.inc(full, self.pieces)
            else:
                with k.when(outside & ~stays if stays is not True else False):
                    k.vec.fill(frame, 0)
                with k.when(outside):
                    k.inc(full, self.pieces)
        for low, high, pieces in self.variants:
            here = inside
            if len(self.variants) > 1:
                here = here & (band.across == low if high == low + 1 else (band.across >= low) & (band.across < high))
            if here is False:
                continue
            with k.when(here):
                if len(self.variants) > 1 and self._padded(pieces):
                    k.vec.fill(frame, 0)
                for piece in pieces:
                    self._bring(frame[piece.at : piece.at + piece.length], band, row, piece, full)
                if len(pieces) < self.pieces:
                    k.inc(full, self.pieces - len(pieces))

    def _bring(self, frame: View, band: Band, row: Any, piece: Piece, full: Any) -> None:
        block = band.across + piece.block
        if self.home is None:
            start = block * self.tiling.block + piece.start
            self.k.copy(frame, self.x[row, start : start + piece.length], done=full)
            return
        T = self.tiling
        unit = row * self.blocks + block
        if T.by_block:  # rows are frames; clips follow each other as before
            frames = T.shape.t.size
            unit = (band.n * self.blocks + block) * frames + (row - band.n * frames)
        owner = dealt(unit, T.units, T.members)
        place = unit - first_of(owner, T.units, T.members)
        part, slot = (place % T.parts, place // T.parts) if self.spread else (place // T.homes, place % T.homes)
        source = self.home[slot, piece.start : piece.start + piece.length]
        self.k.pull(frame, source, of=T.node(part, owner), done=full)

    def _padded(self, pieces: list[Piece]) -> bool:
        return sum(piece.length for piece in pieces) < self.tiling.columns


def _within(position: Any, size: int, pad: int) -> Any:
    """Return whether a position lies in the image; True at once where it always does."""
    if isinstance(position, int):
        return 0 <= position < size
    return (position >= 0) & (position < size)


def _neither(one: Any, other: Any) -> Any:
    """Return whether both do not hold; False at once where one always does."""
    if one is True or other is True:
        return False
    out = [~inside for inside in (one, other) if inside is not False]
    return out[0] & out[-1] if out else True


def _meets(axis: Axis) -> bool:
    """Return whether any tap of any output lands inside the axis."""
    starts = (tap * axis.dilation - axis.pad for tap in range(axis.taps))
    return any(0 <= o * axis.stride + start < axis.size for start in starts for o in range(axis.out))


def _variants(T: Tiling) -> list[tuple[int, int, list[Piece]]]:
    """Return (first, past the last block, pieces): which pixels the bands of each block of columns read.

    Where x is resident in blocks a band may take pixels of several; in memory a row is one run, in one piece.
    """
    found: list[tuple[int, int, list[Piece]]] = []
    w, across = T.shape.w, T.blocks[1]
    for q in range(across):
        start = q * T.wide * w.stride - w.pad
        low, high = max(0, start), min(w.size, start + T.columns)
        pieces = []
        if low < high:
            cuts = range(low // T.block, (high - 1) // T.block + 1) if across > 1 else range(1)
            for block in cuts:
                left = max(low, block * T.block)
                right = min(high, (block + 1) * T.block) if across > 1 else high
                pieces.append(Piece(left - start, block - q, left - block * T.block, right - left))
        if found and found[-1][2] == pieces:
            found[-1] = (found[-1][0], q + 1, pieces)
        else:
            found.append((q, q + 1, pieces))
    return found
