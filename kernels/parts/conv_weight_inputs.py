"""How `conv_weight_gradient` gets its bands of x and gy: fetched once for all who need them, padded in SRAM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.conv_weight_share import Share, left
from accel.kernels.parts.conv_weight_tiling import Tiling
from accel.kernels.parts.conv_windows import Band, Span, overlaps, window
from accel.lang import K, TensorSpec

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Inputs", "Segments"]

Segments = list[tuple[int, Band]]
Piece = tuple[int, Any, Any]  # owner, part of the slot, source


class Side(ABC):
    """One operand: `stages` slots that a band fills, the semaphores around them, and who fetches each band.

    Members that need the same channels take turns (`owners` of them): the owner of segment g is g % owners; it fetches
    the band from memory, or from its own SRAM where the operand is resident, and multicasts it to all of them.
    """

    def __init__(self, k: K, tensor: Any, name: str, shape: tuple[int, ...], home: tuple[int, ...], owners: int,
                 tiling: Tiling) -> None:  # fmt: skip
        self.tensor, self.owners, self.stages = tensor, owners, tiling.stages
        self.slots = k.sram((self.stages, *shape), tensor.dtype, name)
        self.full, self.free = k.sem(self.stages, f"{name}_full"), k.sem(self.stages, f"{name}_free")
        rounds = -(-tiling.segments // owners)
        self.home = k.sram((rounds, *home), tensor.dtype, f"{name}_home") if tensor.resident else None
        self.here: Any = 0
        self.nodes: Any = None

    def join(self, k: K, here: Any, row: Any, rows: int, col: Any, cols: int) -> None:
        """Say which of the owners this node is, and which rectangle of nodes they are."""
        self.here, self.nodes = here, k.rect(row, row + rows, col, col + cols)
        self.corner, self.cols = (row, col), cols

    def node(self, owner: int) -> tuple[Any, Any]:
        """Return the node that owner number `owner` is."""
        return self.corner[0] + owner // self.cols, self.corner[1] + owner % self.cols

    @abstractmethod
    def pieces(self, g: int, segments: Segments) -> list[Piece]:
        """Return what makes up segment g."""

    def load(self, k: K, g: int, segments: Segments) -> None:
        """Fetch segment g where this node owns it, once all receivers have its slot free."""
        asked = set()
        for owner, part, source in self.pieces(g, segments):
            with k.when(self.here == owner):
                if owner not in asked:
                    k.wait(self.free[g % self.stages], self.owners)
                k.copy(part, source, to=self.nodes, done=self.full[g % self.stages])
            asked.add(owner)

    def wait(self, k: K, g: int, segments: Segments) -> None:
        """Wait until segment g is here."""
        k.wait(self.full[g % self.stages], max(1, len(self.pieces(g, segments))))

    def allow(self, k: K, g: int, segments: Segments) -> None:
        """Tell who fetches segment g that its slot is free here."""
        for owner in sorted({owner for owner, _, _ in self.pieces(g, segments)}):
            k.inc(self.free[g % self.stages], at=self.node(owner))


class X(Side):
    """The input: windows with their padding, which is written once and again only where another band left data."""

    def __init__(self, k: K, x: TensorSpec, tiling: Tiling) -> None:
        T, self.tiling = tiling, tiling
        shape, home = (*T.window_shape, T.x_channels), (*(axis.each for axis in T.homes), T.x_channels)
        super().__init__(k, x, "x", shape, home, T.x_owners, T)
        self.clean: list[tuple[Span, Span, Span] | None] = [None] * T.stages
        self.done = k.sem(T.stages, "x_done")

    def place(self, k: K, mine: Share) -> None:
        """Say which images and channels this node sees; declare what it keeps."""
        T = self.tiling
        (g0, _, _, _, c0, _), (groups, _, _, _, nc, _) = mine.start, mine.count
        self.first, self.channels = mine.team * T.share, slice(g0 * T.c + c0, g0 * T.c + c0 + groups * nc)
        self.width = groups * nc
        turn, side = mine.local % T.tap_parts, k.col % T.k_parts
        self.join(k, turn * T.k_parts + side, k.row - turn, T.tap_parts, k.col - side, T.k_parts)
        self.columns = window(T.axes[2], 0, T.axes[2].out)
        (frames, rows, cols), (_, across) = T.homes, T.band_grid
        self.unread = min(frames.total, rows.total, cols.total) < 1
        if self.home is None:
            return
        if self.unread:
            k.preload(self.home[0, 0, 0, 0, :1], self._one())
            return
        for index, image, at in _kept(self, mine.images, len(T.bands)):
            extent, source = [], []
            for axis, part in ((frames, at // across), (rows, at % across)):
                count = left(axis.each, axis.total - part * axis.each)
                start = axis.first + part * axis.each * axis.step
                extent.append(int(count))
                source.append(slice(start, start + (int(count) - 1) * axis.step + 1, axis.step))
            if min(extent) > 0:
                part = self.home[index, : extent[0], : extent[1], : cols.total, : self.width]
                k.preload(part, self._source(image, *source))

    def fetch(self, k: K, segments: Segments) -> None:
        """Write the padding of every segment as soon as its slot is free, and fetch those that this node owns."""
        self._touch(k)
        for g in range(len(segments)):
            if g >= self.stages:
                k.wait(self.done[g % self.stages])
            self.prepare(k, g, segments)
            self.allow(k, g, segments)
            self.load(k, g, segments)
            if not self.pieces(g, segments):  # nothing but padding comes
                k.inc(self.full[g % self.stages])

    def _touch(self, k: K) -> None:
        """Read one element of an x of which no tap meets anything: it is an operand of the problem all the same."""
        if self.unread and self.home is None:
            k.copy(self.slots[0, 0, 0, 0, :1], self._one(), done=self.done[0])
            k.wait(self.done[0])

    def _one(self) -> View:
        spatial = (0,) * (len(self.tensor.shape) - 2)
        view: View = self.tensor[(self.first, *spatial, slice(self.channels.start, self.channels.start + 1))]
        return view

    def _source(self, image: Any, frames: slice, rows: slice) -> View:
        at = (frames, rows, self.columns.source, self.channels)
        view: View = self.tensor[(self.first + image, *at[4 - len(self.tensor.shape) + 1 :])]
        return view

    def spans(self, band: Band) -> tuple[Span, Span, Span]:
        """Return the window that a band reads."""
        t, h, _ = self.tiling.axes
        return window(t, *band.frames), window(h, *band.rows), self.columns

    def pieces(self, g: int, segments: Segments) -> list[Piece]:
        """Return the copies of segment g: one from memory, or one for each home that has a part of the window."""
        image, band = segments[g]
        t, h, w = self.spans(band)
        if min(t.high - t.low, h.high - h.low, w.high - w.low) < 1:
            return []  # nothing but padding
        slot, columns = self.slots[g % self.stages], slice(w.low, w.high)
        if self.home is None:
            part = slot[t.low : t.high, h.low : h.high, columns, : self.width]
            return [(g % self.owners, part, self._source(image, t.source, h.source))]
        found: list[Piece] = []
        frames, rows, cols = self.tiling.homes
        for at, (i, j) in enumerate(product(*map(range, self.tiling.band_grid))):
            own, line = overlaps(t, frames.part(i)), overlaps(h, rows.part(j))
            if own and line:
                index, owner = divmod(image * len(self.tiling.bands) + at, self.owners)
                source = self.home[index, own[1], line[1], : cols.total, : self.width]
                found.append((owner, slot[own[0], line[0], columns, : self.width], source))
        return found

    def prepare(self, k: K, g: int, segments: Segments) -> None:
        """Write the padding of segment g into its slot, along the axes where data of segments before it lie there.

        A fill waits for the SRAM ports behind a product of the thread that multiplies, so that one that is not needed
        costs the time of that product. Whatever lies outside `clean`, along any axis, holds zeros in all of the slot.
        """
        spans, before, sizes = self.spans(segments[g][1]), self.clean[g % self.stages], self.tiling.window_shape
        inside: list[Span] = []
        for at, (new, size) in enumerate(zip(spans, sizes, strict=True)):
            old = None if before is None else before[at]
            if old is not None and new.low <= old.low and min(old.high, new.extent) <= new.high:
                inside.append(new._replace(low=min(old.low, new.low), high=max(old.high, new.high)))
                continue
            rest = [slice(0, n) for n in sizes[at + 1 :]]
            for low, high in ((0, new.low), (new.high, size)):
                box = [*(slice(s.low, s.high) for s in inside), slice(low, high), *rest]
                if all(part.stop > part.start for part in box):
                    k.vec.fill(self.slots[(g % self.stages, *box, slice(0, self.width))], 0)
            inside.append(new)
        t, h, w = inside
        self.clean[g % self.stages] = t, h, w


class Y(Side):
    """The output gradient: bands as they are; `rest`: of the filters that all nodes of the team see."""

    def __init__(self, k: K, gy: TensorSpec, tiling: Tiling, *, rest: bool = False) -> None:
        T, self.tiling, self.rest = tiling, tiling, rest
        shape = (*T.output_shape, T.rest if rest else T.y_channels)
        owners = T.team_rows * T.k_parts if rest else T.y_owners
        super().__init__(k, gy, "gy_rest" if rest else "gy", shape, shape, owners, T)

    def place(self, k: K, mine: Share) -> None:
        """Say which images and filters this node sees (of a corner, all of it); declare what it keeps."""
        T = self.tiling
        (g0, _, _, _, _, k0), (groups, _, _, _, _, nk) = mine.start, mine.count
        self.first, self.width = mine.team * T.share, groups * nk
        self.filters = slice(g0 * T.k + k0, g0 * T.k + k0 + groups * nk)
        if self.rest:
            side = k.col % T.k_parts
            self.join(k, mine.local * T.k_parts + side, k.row - mine.local, T.team_rows, k.col - side, T.k_parts)
        else:
            turn = mine.local % T.y_owners
            self.join(k, turn, k.row - turn, T.y_owners, k.col, 1)
        if self.home is None:
            return
        (t, h, _), across = T.axes, T.band_grid[1]
        for index, image, at in _kept(self, mine.images, len(T.bands)):
            frames, rows = (int(left(n, axis.out - i * n)) for n, axis, i in
                            ((T.frames, t, at // across), (T.rows, h, at % across)))  # fmt: skip
            z, p = at // across * T.frames, at % across * T.rows
            part = self.home[index, :frames, :rows, :, : self.width]
            k.preload(part, self._source(image, slice(z, z + frames), slice(p, p + rows)))

    def _source(self, image: Any, frames: slice, rows: slice) -> View:
        at = (frames, rows, slice(None), self.filters)
        view: View = self.tensor[(self.first + image, *at[4 - len(self.tensor.shape) + 1 :])]
        return view

    def pieces(self, g: int, segments: Segments) -> list[Piece]:
        """Return the one copy of segment g."""
        image, band = segments[g]
        frames, rows = band.outputs()
        part = self.slots[g % self.stages, :frames, :rows, :, : self.width]
        kept = None if self.home is None else self.home[g // self.owners, :frames, :rows, :, : self.width]
        return [
            (
                g % self.owners,
                part,
                self._source(image, slice(*band.frames), slice(*band.rows)) if kept is None else kept,
            )
        ]


class Inputs:
    """Both operands, and what the units need beside them: wide copies for the vector unit, ones for a bias."""

    def __init__(self, k: K, x: TensorSpec, gy: TensorSpec, tiling: Tiling) -> None:
        T, self.tiling = tiling, tiling
        self.x, self.gy = X(k, x, T), Y(k, gy, T)
        self.rest = Y(k, gy, T, rest=True) if T.rest else None
        self.sides: list[Side] = [self.x, self.gy] if self.rest is None else [self.x, self.gy, self.rest]
        cast = T.vector and x.dtype != "fp32"
        self.wide_x = k.sram((*T.window_shape, T.x_channels), "fp32", "x_wide") if cast else None
        self.wide_gy = k.sram((*T.output_shape, T.y_channels), "fp32", "gy_wide") if cast else None
        ones = T.bias and not T.vector
        self.ones = k.sram(T.output_shape[1:], x.dtype, "ones") if ones else None

    def place(self, k: K, mine: Share, corner: Share | None) -> None:
        """Say which part of both this node sees."""
        self.x.place(k, mine)
        self.gy.place(k, mine)
        if self.rest is not None and corner is not None:
            self.rest.place(k, corner)

    def open(self, k: K, segments: Segments) -> None:
        """Make the slots ready for the first segments."""
        if self.ones is not None:
            k.vec.fill(self.ones, 1.0)
        for g in range(min(self.tiling.stages, len(segments))):
            self._allow(k, g, segments)

    def wait(self, k: K, g: int, segments: Segments) -> None:
        """Wait until segment g of both is here."""
        for side in self.sides:
            side.wait(k, g, segments)

    def views(self, k: K, g: int, segments: Segments) -> list[View]:
        """Return segment g of all sides; of the vector unit in fp32."""
        x, gy, *rest = (side.slots[g % self.tiling.stages] for side in self.sides)
        if self.wide_x is None or self.wide_gy is None:
            return [x, gy, *rest]
        band = segments[g][1]
        (frames, rows), spans = band.outputs(), self.x.spans(band)
        window = (*(slice(0, span.extent) for span in spans), slice(0, self.x.width))
        k.vec.cast(self.wide_x[window], x[window])
        k.vec.cast(self.wide_gy[:frames, :rows, :, : self.gy.width], gy[:frames, :rows, :, : self.gy.width])
        return [self.wide_x, self.wide_gy]

    def release(self, k: K, g: int, segments: Segments) -> None:
        """Give the slots of segment g to the next one in them."""
        if g + self.tiling.stages < len(segments):
            k.inc(self.x.done[g % self.tiling.stages])
            self._allow(k, g + self.tiling.stages, segments)

    def _allow(self, k: K, g: int, segments: Segments) -> None:
        for side in self.sides[1:]:
            side.allow(k, g, segments)


def _kept(side: Side, images: int, bands: int) -> Iterator[tuple[int, Any, Any]]:
    """Yield (home, image, band) of what this node keeps of a resident operand: every `owners`-th band."""
    for index in range(-(-images * bands // side.owners)):
        g = side.here + index * side.owners
        if g < images * bands:
            yield index, g // bands, g % bands
