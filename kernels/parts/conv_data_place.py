"""What a node has in a data gradient: its tiles and channels, its buffers, and where the tensors lie in them."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.kernels.parts.conv_data_geometry import Band, kinds, residues
from accel.kernels.parts.conv_data_tiling import Cut
from accel.kernels.parts.epilogue import Activation
from accel.kernels.parts.matmul_formats import buffer
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Channels", "Place", "Tile"]


class Tile(NamedTuple):
    """Where a tile lies, the same for all nodes of a role but for its place.

    number: among all tiles; outer, first: image (or clip) and first of `within` inner elements; at: its band of each
    axis; bands: what is in them.
    """

    number: Any
    outer: Any
    first: Any
    within: int
    at: tuple[Any, Any, Any]
    bands: tuple[Band, Band, Band]

    @property
    def reads(self) -> bool:
        """Return whether any tap of it lands."""
        return min(band.reads for band in self.bands) > 0


class Channels(NamedTuple):
    """Channels [start, start + across) of gx that a node computes in a pass, from filters [low, low + depth).

    inside: the first of them in its group, as the filter counts them.
    """

    start: Any
    across: int
    low: Any
    depth: int
    inside: Any


class Place:
    """One node's part of a data gradient: its tiles and channels, buffers, and views of them."""

    def __init__(self, k: K, gy: Any, w: Any, gx: Any, cut: Cut, bias: Any) -> None:
        self.k, self.cut, self.form, self.bias = k, cut, cut.form, bias
        if cut.form.case == "planes" and cut.form.rank == 5:  # clips whose frames do not meet are so many images
            gy, w, gx = gy.merge(0), w[0], gx.merge(0)
        if cut.form.case == "time":  # pixels of a frame follow each other
            gy, gx = gy.merge(2), gx.merge(2)
        self.gy, self.w, self.gx = gy, w, gx
        like = {"filters": w, "w_home": w, "windows": gy, "gy_home": gy, "gx_home": gx, "outs": gx}
        self.held = {
            name: buffer(k, shape, like[name], name) if name in like else k.sram(shape, dtype, name)
            for name, (shape, dtype) in cut.buffers().items() if name not in cut.formats.buffers
        }  # fmt: skip
        self.activation = Activation(k, cut.formats.activation, (cut.strip,))
        near = (k.row // cut.share, k.row % cut.share)
        self.band, self.member = near if cut.near else (k.row % cut.bands, k.row // cut.bands)

    def row_of(self, band: Any, member: Any) -> Any:
        """Return the row of the mesh of a member of a band; in another band of this member if `member` is its own."""
        return band * self.cut.share + member if self.cut.near else member * self.cut.bands + band

    # --- what this node has -----------------------------------------------------------------------------------------
    def place(self) -> None:
        """Find this node's tiles and say which parts of resident tensors it holds."""
        first = (self.band * self.cut.cols + self.k.col) * self.cut.per
        found = (self._tile(first + j) for j in range(self.cut.per))
        self.tiles = [tile for tile in found if tile is not None]
        if self.cut.gy_stays:
            self._preload_gradients()
        if self.cut.w_stays:
            self._preload_filter()
        if self.bias is not None and self.bias.resident:
            for turn in range(self.cut.passes):
                channels = self.channels(turn)
                if channels.across:
                    self.k.preload(self.added(turn), self.bias[channels.start : channels.start + channels.across])

    def added(self, turn: int) -> View:
        """Return where the bias of a pass lies."""
        view: View = self.held["bias"][turn, : self.channels(turn).across]
        return view

    def _tile(self, number: Any) -> Tile | None:
        """Return a tile by number, None beyond the last; nodes split by what they have to do."""
        cut, form = self.cut, self.form
        short = cut.tiles < cut.per * cut.bands * cut.cols
        if short and number >= cut.tiles:
            return None
        rest, at, bands = number, [], []
        for axis, extent, many in reversed(list(zip(form.axes, cut.extents, cut.grid[2:], strict=True))):
            index, rest = (rest % many, rest // many) if many > 1 else (0, rest)
            at.append(index)
            bands.append(next(band for _, end, band in kinds(axis, extent) if end == many or index < end))
        blocks = cut.grid[1]
        block, outer = (rest % blocks, rest // blocks) if blocks > 1 else (0, rest)
        count = cut.inner
        if form.inner % cut.inner and (blocks == 1 or block == blocks - 1):
            count = form.inner - (blocks - 1) * cut.inner
        return Tile(
            number, outer, block * cut.inner, count, (at[2], at[1], at[0]), (bands[2], bands[1], bands[0])
        )  # fmt: skip

    def channels(self, turn: Any) -> Channels:
        """Return the channels of pass `turn`; the last member of a band, and the last pass, may have fewer or none."""
        cut, form = self.cut, self.form
        units = cut.per_pass
        if cut.units % cut.per_pass and turn == cut.passes - 1:
            units = cut.units - (cut.passes - 1) * cut.per_pass
        ragged = form.units - (cut.share - 1) * cut.units
        if ragged < cut.units and self.member == cut.share - 1:
            units = min(
                units, max(0, ragged - turn * cut.per_pass) if isinstance(turn, int) else self._left(turn, ragged)
            )
        first = self.member * cut.units + turn * cut.per_pass
        count = units * form.unit
        if units and form.c % form.unit and first + units == form.units:
            count = form.c - (form.units - units) * form.unit
        if form.groups == 1:
            return Channels(first * form.unit, count, 0, form.k, first * form.unit)
        low, inside = (first, 0) if form.parts == 1 else (first // form.parts, first % form.parts * form.unit)
        return Channels(first * form.unit, count, low * form.group_filters, units * form.group_filters, inside)

    def _left(self, turn: Any, ragged: int) -> int:
        for known in range(self.cut.passes):
            if turn == known:
                return max(0, ragged - known * self.cut.per_pass)
        return 0

    def _shard(self) -> tuple[Any, int]:
        """Return (first, count) of the filters whose gradients this node keeps."""
        cut, form = self.cut, self.form
        if form.groups > 1:
            whole = cut.units * form.group_filters
            ragged = form.k - (cut.share - 1) * whole
            return self.member * whole, ragged if ragged < whole and self.member == cut.share - 1 else whole
        holders = -(-form.k // cut.shard)
        if self.member >= holders:
            return 0, 0
        ragged = form.k - (holders - 1) * cut.shard
        return self.member * cut.shard, ragged if ragged < cut.shard and self.member == holders - 1 else cut.shard

    # --- views ------------------------------------------------------------------------------------------------------
    def in_order(self, view: View, tile: Tile) -> View:
        """Return (frames, rows, columns * inner, channels) with dimensions in the order of the tensors."""
        if self.form.case == "full":
            return view
        if self.form.case == "time":
            return view[0, 0].split(0, tile.within)
        return view[0].split(1, tile.within).transpose(2, 0, 1, 3)

    def part_of(self, tensor: Any, tile: Tile, ranges: tuple[slice, slice, slice], channels: slice) -> View:
        """Return the part of gy or gx at these frames, rows and columns of a tile."""
        inner, (frames, rows, columns) = slice(tile.first, tile.first + tile.within), ranges
        index: tuple[Any, ...] = (tile.outer, frames, rows, columns, channels)
        if self.form.case == "planes":
            index = (inner, rows, columns, channels)
        elif self.form.case == "time":
            index = (tile.outer, columns, inner, channels)
        view: View = tensor[index]
        return view

    def outputs(self, tile: Tile, counts: tuple[int, int, int], *, owned: bool) -> tuple[slice, slice, slice]:
        """Return the outputs that a tile owns, or those in its window, along each axis."""
        found = []
        for axis, extent, at, band, n in zip(
            self.form.axes, self.cut.extents, tile.at, tile.bands, counts, strict=True
        ):
            first = at * (extent // axis.stride if extent < axis.size else 0) + (0 if owned else band.window[0])
            found.append(slice(first, first + n))
        return found[0], found[1], found[2]

    def home(self, slot: Any) -> View:
        """Return a home of gradients as (frames, rows, columns * inner, filters)."""
        t, r, c = self.owned
        flat: View = self.held["gy_home"][slot, : t * r * c * self.cut.inner * self.cut.shard]
        return flat.split(0, self.cut.shard).split(0, c * self.cut.inner).split(0, r)

    @cached_property
    def owned(self) -> tuple[int, int, int]:
        """Return the most outputs that a tile owns along each axis."""
        found = [
            max(1, *(b.owned for _, _, b in kinds(a, n))) for a, n in zip(self.form.axes, self.cut.extents, strict=True)
        ]
        return found[0], found[1], found[2]

    def window(self, slot: Any, tile: Tile, channels: Channels) -> View:
        """Return the window of a tile as (frames * rows, columns * inner, filters)."""
        t, r, c = (band.reads for band in tile.bands)
        if self.cut.direct:
            view = self.home(slot)[:t, :r, : c * tile.within]
            low = 0 if self.form.groups == 1 else channels.low - self.member * self.cut.shard
            view = view[:, :, :, low : low + channels.depth]
            return view.merge(0) if t > 1 else view[0]
        flat: View = self.held["windows"][slot, : t * r * c * tile.within * channels.depth]
        return flat.split(0, channels.depth).split(0, c * tile.within)

    def filter(self, where: View, channels: Channels, wide: int) -> View:
        """Return a chunk of the filter as (columns, channels of a group, filters)."""
        across = channels.across if self.form.groups == 1 else self.form.group_channels
        return where[: wide * across * channels.depth].split(0, channels.depth).split(0, across)

    def residue(self, where: View, tile: Tile, numbers: tuple[int, int, int], channels: Channels) -> View:
        """Return one residue class of sums or results as (frames, rows, columns * inner, channels)."""
        first = 0
        for other in product(*(range(len(band.counts)) for band in tile.bands)):
            t, r, c = (band.counts[n] for band, n in zip(tile.bands, other, strict=True))
            size = t * r * c * tile.within * channels.across
            if other == numbers:
                flat = where[first : first + size].split(0, channels.across)
                return flat.split(0, c * tile.within).split(0, r)
            first += size
        raise AssertionError(numbers)

    def classes(self, tile: Tile) -> list[tuple[int, int, int]]:
        """Return the residue classes that have positions in a tile."""
        found = product(*([n for n, count in enumerate(band.counts) if count] for band in tile.bands))
        return [(t, r, c) for t, r, c in found]

    # --- resident tensors -------------------------------------------------------------------------------------------
    def _preload_gradients(self) -> None:
        low, count = self._shard()
        for slot, tile in enumerate(self.tiles):
            t, r, c = (band.owned for band in tile.bands)
            if not (t and r and c and count):
                continue
            inside = self.home(slot)[:t, :r, : c * tile.within, :count]
            source = self.part_of(self.gy, tile, self.outputs(tile, (t, r, c), owned=True), slice(low, low + count))
            self.k.preload(self.in_order(inside, tile), source)

    def _preload_filter(self) -> None:
        cut = self.cut
        total, nodes = cut.chunks * cut.passes, cut.bands * cut.cols
        for home in range(-(-total // nodes)):
            number = self.band * cut.cols + self.k.col + home * nodes
            if (home + 1) * nodes > total and number >= total:
                return
            channels = self.channels(number // cut.chunks if cut.passes > 1 else 0)
            if channels.across == 0:
                continue
            across = -(-self.form.axes[2].taps // cut.width)
            rest, column = (number % cut.chunks) // across, (number % across if across > 1 else 0)
            wide = min(cut.width, self.form.axes[2].taps)
            low = column * cut.width
            if self.form.axes[2].taps % cut.width and (across == 1 or column == across - 1):
                wide = self.form.axes[2].taps - (across - 1) * cut.width
            rows = self.form.axes[1].taps
            source = self.taps((rest // rows, rest % rows, low, low + wide), channels)
            self.k.preload(self.filter(self.held["w_home"][home], channels, wide), source)

    def taps(self, chunk: tuple[Any, Any, Any, Any], channels: Channels) -> View:
        """Return a chunk of the filter in its tensor."""
        (t, r, low, high), form = chunk, self.form
        start, across = channels.inside, channels.across if form.groups == 1 else form.group_channels
        tail = (slice(start, start + across), slice(channels.low, channels.low + channels.depth))
        columns = slice(low, high)
        index: tuple[Any, ...] = (t, r, columns, *tail)
        if form.case == "planes":
            index = (r, columns, *tail)
        elif form.case == "time":
            index = (columns, 0, 0, *tail)
        view: View = self.w[index]
        return view

    def collect(self) -> None:
        """Say where the gradients of a resident gx lie after the end."""
        for turn in range(self.cut.passes):
            channels = self.channels(turn)
            for slot, tile in enumerate(self.tiles if channels.across else []):
                home = self.held["gx_home"][turn * self.cut.per + slot]
                for numbers in self.classes(tile):
                    self.k.collect(*self.result(home, tile, numbers, channels))

    def result(self, where: View, tile: Tile, numbers: tuple[int, int, int], channels: Channels) -> tuple[View, View]:
        """Return a residue class of gx in its tensor, and of the results `where`."""
        counts = [band.counts[n] for band, n in zip(tile.bands, numbers, strict=True)]
        ranges = []
        for axis, extent, at, n, count in zip(self.form.axes, self.cut.extents, tile.at, numbers, counts, strict=True):
            first = at * (extent if extent < axis.size else 0) + residues(axis)[n].first
            ranges.append(slice(first, first + (count - 1) * axis.stride + 1, axis.stride))
        target = self.part_of(
            self.gx, tile, (ranges[0], ranges[1], ranges[2]), slice(channels.start, channels.start + channels.across)
        )
        part = self.residue(where, tile, numbers, channels)
        return target, self.in_order(part, tile)
