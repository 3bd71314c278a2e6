"""What a node does for a data gradient: the threads that fill its buffers, multiply, and empty them."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.conv_data_geometry import Hole, Product, schedule, turns
from accel.kernels.parts.conv_data_place import Channels, Place, Tile
from accel.kernels.parts.conv_data_tiling import Cut
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Work"]


class Work(Place):
    """The four threads of a node, and the semaphores between them."""

    def __init__(self, k: K, gy: Any, w: Any, gx: Any, cut: Cut, bias: Any = None) -> None:
        super().__init__(k, gy, w, gx, cut, bias)
        self.w_full, self.w_free = k.sem(cut.filters, "w_full"), k.sem(cut.filters, "w_free")
        self.y_full, self.y_free = k.sem(cut.windows, "y_full"), k.sem(cut.windows, "y_free")
        self.begun = k.sem(name="begun") if cut.gy_stays and cut.windows > 1 else None
        slots = cut.outs if cut.rounds else cut.sums
        self.full, self.free = k.sem(slots, "sums_full"), k.sem(slots, "sums_free")
        self.sent, self.b_full = k.sem(cut.outs, "sent"), k.sem(1, "bias_full")
        self.turns = turns(self.form.axes, cut.width)

    # --- the filter on its way in -----------------------------------------------------------------------------------
    @property
    def wide(self) -> bool:
        """Return whether a chunk of the filter goes to every node with these channels, not to those of a row only."""
        return not self.cut.near or self.cut.w_stays

    def _loads(self) -> list[tuple[int, int]]:
        """Return (pass, chunk) of every load; chunks are numbered by frame tap, row tap and columns."""
        cut = self.cut
        passes = [turn for turn in range(cut.passes) if self.channels(turn).across]
        if cut.kept:
            return [(turn, chunk) for turn in passes for chunk in range(cut.chunks)]
        each = [self.number(turn.chunk) for turn in self.turns]
        return [(turn, chunk) for turn in passes for _ in range(cut.per) for chunk in each]

    def number(self, chunk: tuple[int, int, int, int]) -> int:
        """Return the number of a chunk of the filter (frame tap, row tap, columns [low, high))."""
        t, r, low, _ = chunk
        across = -(-self.form.axes[2].taps // self.cut.width)
        return (t * self.form.axes[1].taps + r) * across + low // self.cut.width

    def _owner(self, load: tuple[int, int]) -> tuple[int, int, int]:
        """Return (band, column, home) of the node that sends a chunk; the band only counts where all get it."""
        number = load[0] * self.cut.chunks + load[1]
        cols, bands = self.cut.cols, self.cut.bands
        return (number // cols) % bands, number % cols, number // (cols * bands)

    def load_filter(self) -> None:
        """Send every chunk of the filter to the nodes that multiply with it, in the order in which they do."""
        k, cut = self.k, self.cut
        receivers = (cut.bands if self.wide else 1) * cut.cols
        across = -(-self.form.axes[2].taps // cut.width)
        if not self.turns and not cut.kept and not cut.w_stays:  # no tap lands; w is an input all the same
            k.copy(self.held["filters"][0, :1], self.w[(0,) * (self.w.ndim - 1)][:1], done=self.w_full[0])
            k.wait(self.w_full[0])
        for number, load in enumerate(self._loads()):
            channels = self.channels(load[0])
            band, col, home = self._owner(load)
            slot = number % cut.filters
            low = load[1] % across * cut.width
            high = min(low + cut.width, self.form.axes[2].taps)
            rest = load[1] // across
            rows = self.form.axes[1].taps
            mine = k.col == col
            if self.wide:
                mine = mine & (self.band == band)
            with k.when(mine):
                if number >= cut.filters:
                    k.wait(self.w_free[slot], receivers)
                target = self.filter(self.held["filters"][slot], channels, high - low)
                if cut.w_stays:
                    source = self.filter(self.held["w_home"][home], channels, high - low)
                else:
                    source = self.taps((rest // rows, rest % rows, low, high), channels)
                for nodes in self._receivers():
                    k.copy(target, source, to=nodes, done=self.w_full[slot])

    def _receivers(self) -> list[Any]:
        """Return the rectangles of nodes that have the same channels and get their filter from here."""
        k, cut = self.k, self.cut
        if not cut.near:
            top = self.member * cut.bands
            return [k.rect(top, top + cut.bands, 0, cut.cols)]
        if not self.wide:
            return [k.rect(k.row, k.row + 1, 0, cut.cols)]
        rows = [self.row_of(band, self.member) for band in range(cut.bands)]
        return [k.rect(row, row + 1, 0, cut.cols) for row in rows]

    def _use(self, number: int) -> None:
        """Wait for a load of the filter."""
        self.k.wait(self.w_full[number % self.cut.filters])

    def _done(self, number: int, loads: list[tuple[int, int]]) -> None:
        """Give the slot of a load back to whoever fills it next."""
        following = number + self.cut.filters
        if following < len(loads):
            band, col, _ = self._owner(loads[following])
            row = self.row_of(band, self.member) if self.wide else self.k.row
            self.k.inc(self.w_free[number % self.cut.filters], at=(row, col))

    # --- gradients on their way in ----------------------------------------------------------------------------------
    def _visits(self) -> list[Tile]:
        """Return the tiles that need a window, once for every pass that this node takes part in."""
        passes = [turn for turn in range(self.cut.passes) if self.multicast or self.channels(turn).across]
        return [tile for _ in passes for tile in self.tiles if tile.reads]

    @property
    def multicast(self) -> bool:
        """Return whether one node reads a window from memory for all that share its positions."""
        return not self.cut.gy_stays and self.cut.share > 1 and self.form.groups == 1

    def _pieces(self, tile: Tile) -> int:
        """Return how many copies fill the window of a tile."""
        if not self.cut.gy_stays:
            return 1
        holders = -(-self.form.k // self.cut.shard) if self.form.groups == 1 else 1
        return holders * prod(len(band.sources) for band in tile.bands)

    def load_windows(self) -> None:
        """Fill the window of one tile after the other: from memory, or by pulling from the nodes that hold it."""
        k, cut, number = self.k, self.cut, 0
        total = len(self._visits())
        if cut.blind and not cut.gy_stays:  # no tap lands anywhere; gy is an input all the same
            k.copy(self.held["windows"][0, :1], self.gy[(0,) * (self.gy.ndim - 1)][:1], done=self.y_full[0])
            k.wait(self.y_full[0])
        for turn in range(cut.passes):
            channels = self.channels(turn)
            for tile in self.tiles:
                if not tile.reads:
                    continue
                slot, late = number % cut.windows, cut.windows <= number < total
                number += 1
                if self.multicast:
                    with k.when(self.member == 0):
                        if late:
                            k.wait(self.y_free[slot], cut.share)
                        top = self.band * cut.share
                        self._read(slot, tile, channels, k.rect(top, top + cut.share, k.col, k.col + 1))
                    continue
                if channels.across == 0:
                    continue
                if late:
                    k.wait(self.y_free[slot])
                if cut.gy_stays:
                    if self.begun is not None and number == 2:  # out of the way of the window that all wait for
                        k.wait(self.begun)
                    self._pull(slot, tile, channels)
                else:
                    self._read(slot, tile, channels, None)

    def _read(self, slot: int, tile: Tile, channels: Channels, nodes: Any) -> None:
        t, r, c = (band.reads for band in tile.bands)
        window = self.window(slot, tile, channels).split(0, r)
        depth = slice(channels.low, channels.low + channels.depth)
        source = self.part_of(self.gy, tile, self.outputs(tile, (t, r, c), owned=False), depth)
        self.k.copy(self.in_order(window, tile), source, to=nodes, done=self.y_full[slot])

    def _pull(self, slot: int, tile: Tile, channels: Channels) -> None:
        """Pull the parts of a window from the homes of the bands that own them, and of all shards of the filters."""
        k, cut, form = self.k, self.cut, self.form
        window = self.window(slot, tile, channels).split(0, tile.bands[1].reads)
        holders = -(-form.k // cut.shard) if form.groups == 1 else 1
        for parts in product(*(band.sources for band in tile.bands)):
            away = 0
            for part, many in zip(parts, cut.grid[2:], strict=True):
                away = away * many + part.delta
            other = tile.number + away
            group, home = other // cut.per, self.home(other % cut.per)
            t, r, c = (slice(part.into, part.into + part.length) for part in parts)
            inside = window[t, r, c.start * tile.within : c.stop * tile.within]
            t, r, c = (slice(part.start, part.start + part.length) for part in parts)
            there = home[t, r, c.start * tile.within : c.stop * tile.within]
            for holder in range(holders):
                low, deep = holder * cut.shard, min(cut.shard, form.k - holder * cut.shard)
                member: Any = holder
                first: Any = 0
                if form.groups > 1:
                    low, deep, member, first = 0, channels.depth, self.member, channels.low - self.member * cut.shard
                of = (self.row_of(group // cut.cols, member), group % cut.cols)
                source = there[:, :, :, first : first + deep]
                k.pull(inside[:, :, :, low : low + deep], source, of=of, done=self.y_full[slot])

    # --- products ---------------------------------------------------------------------------------------------------
    def compute(self) -> None:
        """Multiply one tile after the other, and hand its sums, or results, to `drain`."""
        k, cut, loads = self.k, self.cut, self._loads()
        windows, leaving = len(self._visits()), dict[int, int]()
        seen = sums = 0
        for turn in range(cut.passes):
            channels = self.channels(turn)
            fresh = set(range(cut.chunks))  # not waited for yet
            base = turn * cut.chunks if cut.kept else turn * cut.per * len(self.turns)
            for place in range(cut.per):
                tile = self.tiles[place] if place < len(self.tiles) else None
                first = base if cut.kept else base + place * len(self.turns)
                slot, into = seen % cut.windows, sums % (cut.outs if cut.rounds else cut.sums)
                if tile is not None and channels.across:
                    if tile.reads and not cut.direct:
                        k.wait(self.y_full[slot], self._pieces(tile))
                        if self.begun is not None and seen == 0 and windows > 1:
                            k.inc(self.begun)
                    self._await_slot(tile, into, leaving)
                elif tile is not None and self.multicast and tile.reads:
                    k.wait(self.y_full[slot])
                made = self._results(turn, place, into) if cut.rounds else self.held["sums"][into]
                self._multiply(tile, place if cut.direct else slot, made, channels, first, fresh, loads)
                if tile is None:
                    continue
                used = tile.reads and not cut.direct and (channels.across or self.multicast)
                if used and seen + cut.windows < windows:
                    k.inc(self.y_free[slot], at=(self.band * cut.share, k.col) if self.multicast else None)
                if tile.reads:
                    seen += 1
                if channels.across:
                    if not (cut.rounds and cut.gx_stays):
                        k.inc(self.full[into])
                    sums += 1
            if cut.kept and channels.across:
                for chunk in range(cut.chunks):
                    if chunk in fresh:
                        self._use(base + chunk)
                    self._done(base + chunk, loads)

    def _await_slot(self, tile: Tile, into: int, leaving: dict[int, int]) -> None:
        """Wait until a slot of sums or results is free; `leaving`: copies of what was in each, now of this tile."""
        if into in leaving and not self.cut.rounds:
            self.k.wait(self.free[into])
        elif into in leaving and not self.cut.gx_stays:
            self.k.wait(self.sent[into], leaving[into])
        leaving[into] = len(self.classes(tile))

    def _multiply(
        self, tile: Tile | None, slot: Any, made: View, channels: Channels, first: int, fresh: set[int],
        loads: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Take all turns of one tile into `made`; a node without a tile only passes chunks of the filter on."""
        cut, form = self.cut, self.form
        if channels.across == 0:
            return
        plan = schedule(form.axes, tile.bands, cut.width) if tile is not None else None
        if tile is not None and plan is not None:
            self._clear(tile, made, channels, plan.holes)
            window = self.window(slot, tile, channels) if tile.reads else None
            if window is not None and "wide_window" in self.held:
                window = self._widen("wide_window", window)
        for number, turn in enumerate(self.turns):
            chunk = self.number(turn.chunk)
            load = first + (chunk if cut.kept else number)
            if plan is None and cut.kept:
                continue
            if not cut.kept or chunk in fresh:
                self._use(load)
                fresh.discard(chunk)
            if plan is not None and tile is not None and plan.turns[number]:
                wide = turn.chunk[3] - turn.chunk[2]
                taps = self.filter(self.held["filters"][load % cut.filters], channels, wide)
                if "wide_filter" in self.held:
                    taps = self._widen("wide_filter", taps)
                sums = self.residue(made, tile, turn.numbers, channels).merge(0)
                for one in plan.turns[number]:
                    self._product(sums, window, taps, one, turn.chunk[2], tile.within)
            if not cut.kept:
                self._done(load, loads)

    def _clear(self, tile: Tile, made: View, channels: Channels, holes: tuple[Hole, ...]) -> None:
        """Set to +0 what no product starts: all sums of the vector unit, and those that no tap reaches."""
        if self.form.on_vector:
            size = prod(band.size for band in tile.bands) * tile.within * channels.across
            self.k.vec.fill(made[:size], 0)
            return
        for hole in holes:
            sums = self.residue(made, tile, hole.numbers, channels).merge(0)
            part = sums[hole.row : hole.row + hole.rows, hole.low * tile.within : hole.high * tile.within]
            self.k.vec.fill(part, 0)

    def _widen(self, name: str, view: View) -> View:
        """Return a copy of `view` in fp32."""
        wide: View = self.held[name][: prod(view.shape)]
        for size in reversed(view.shape[1:]):
            wide = wide.split(0, size)
        self.k.vec.cast(wide, view)
        return wide

    def _product(self, sums: View, window: Any, taps: View, one: Product, column: int, count: int) -> None:
        """sums (+)= window x taps for one product, group by group."""
        form = self.form
        target = sums[one.row : one.row + one.rows, one.low * count : one.high * count]
        reach = (one.taps - 1) * one.fall
        last = one.at + one.high - one.low + reach
        source = window[one.read : one.read + one.rows, one.at * count : last * count]
        first = one.tap - column
        filters = taps[first : first + (one.taps - 1) * one.step + 1 : one.step]
        if form.on_vector:
            self._fused(target, source, filters, one, count)
            return
        if one.taps > 1:
            source = source.window(1, one.taps, 1, one.fall * count).flip(2)
            filters = filters.transpose(0, 2, 1)
        for group in range(sums.shape[2] // form.group_channels if form.groups > 1 else 1):
            left, right, into = source, filters, target
            if form.groups > 1:
                deep = slice(group * form.group_filters, (group + 1) * form.group_filters)
                left, right = left[..., deep], right[..., deep] if one.taps == 1 else right[:, deep]
                into = target[..., group * form.group_channels : (group + 1) * form.group_channels]
            if one.taps > 1:
                self.k.matmul(into, left, right, accumulate=not one.fresh)
            else:
                self.k.matmul(into, left, right[0], accumulate=not one.fresh, trans_b=True)

    def _fused(self, target: View, source: View, filters: View, one: Product, count: int) -> None:
        """The same on the vector unit: for every tap and filter a fused multiply-add with channels innermost."""
        k, form = self.k, self.form
        places = (one.high - one.low) * count
        for tap in range(one.taps):
            first = (one.taps - 1 - tap) * one.fall * count
            left, right = source[:, first : first + places], filters[tap]
            if form.groups == 1:
                for deep in k.loop(form.group_filters):
                    k.vec.fma(target, left[..., deep : deep + 1], right[:, deep], target)
                continue
            left, right = left.split(2, form.group_filters), right.split(1, form.group_filters)
            narrow = form.group_channels == 1
            into = target if narrow else target.split(2, form.group_channels)
            for deep in k.loop(form.group_filters):
                if narrow:
                    k.vec.fma(into, left[..., deep], right[0, :, deep], into)
                else:
                    k.vec.fma(into, left[..., deep : deep + 1], right[:, :, deep].T, into)

    # --- results on their way out -----------------------------------------------------------------------------------
    def _results(self, turn: int, place: int, slot: int) -> View:
        """Return where the results of a tile go: where they stay, or a slot from which they are stored."""
        cut, held = self.cut, self.held
        view: View = held["gx_home"][turn * cut.per + place] if cut.gx_stays else held["outs"][slot]
        return view

    def store(self) -> None:
        """Store the results of one tile after the other, which products have written as they leave."""
        k, cut, pending = self.k, self.cut, dict[int, int]()
        number = 0
        for turn in range(cut.passes):
            channels = self.channels(turn)
            for place, tile in enumerate(self.tiles if channels.across else []):
                slot = number % cut.outs
                k.wait(self.full[slot])
                pending[slot] = 0
                for numbers in self.classes(tile):
                    k.copy(
                        *self.result(self._results(turn, place, slot), tile, numbers, channels), sent=self.sent[slot]
                    )
                    pending[slot] += 1
                number += 1
        for slot, copies in pending.items():
            k.wait(self.sent[slot], copies)

    def drain(self) -> None:
        """Round the sums of one tile after the other, and store them or keep them."""
        k, cut = self.k, self.cut
        total = sum(len(self.tiles) for turn in range(cut.passes) if self.channels(turn).across)
        number, pending = 0, dict[int, int]()
        for turn in range(cut.passes):
            channels = self.channels(turn)
            if self.bias is not None and not self.bias.resident and channels.across:
                source = self.bias[channels.start : channels.start + channels.across]
                k.copy(self.added(turn), source, done=self.b_full)
                k.wait(self.b_full)
            for place, tile in enumerate(self.tiles if channels.across else []):
                into, slot = number % cut.sums, number % cut.outs
                k.wait(self.full[into])
                if not cut.gx_stays and pending.get(slot):
                    k.wait(self.sent[slot], pending[slot])
                kept = self._results(turn, place, slot)
                size = prod(band.size for band in tile.bands) * tile.within * channels.across
                sums = self.held["sums"][into, :size]
                if self.bias is not None:
                    rows = sums.split(0, channels.across)
                    k.vec.add(rows, rows, self.added(turn))
                self.activation.apply(sums)
                (k.vec.copy if kept.dtype == sums.dtype else k.vec.cast)(kept[:size], sums)
                if number + cut.sums < total:
                    k.inc(self.free[into])
                if not cut.gx_stays:
                    pending[slot] = 0
                    for numbers in self.classes(tile):
                        k.copy(*self.result(kept, tile, numbers, channels), sent=self.sent[slot])
                        pending[slot] += 1
                number += 1
        for slot, copies in pending.items():
            k.wait(self.sent[slot], copies)
