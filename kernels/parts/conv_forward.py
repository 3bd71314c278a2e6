"""Forward convolution over any number of axes: implicit GEMM on shifted views of frame buffers in SRAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_filters import Filters
from accel.kernels.parts.conv_frames import Band, Frames, first_of
from accel.kernels.parts.conv_shape import flat, rows_of, simplified
from accel.kernels.parts.conv_tiling import Chunk, Tiling, choose, fill_in
from accel.kernels.parts.epilogue import Activation
from accel.kernels.parts.matmul_formats import buffer
from accel.lang import K, TensorRef, tensor
from accel.numerics import FORMATS, fmt
from accel.problem.convolution import Convolution
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["build", "conv_forward"]

GROUP = 8  # filters are dealt in groups of one matrix-unit step


def build(
    chip: ChipSpec,
    problem: Convolution,
    *,
    resident: frozenset[str] = frozenset(),
    exponent_bias: int | Mapping[str, int] | None = None,
    denormals: str = "gap",
    **tiling: int,
) -> Program:
    """Return the program of `problem`, forward; see `conv2d.build`."""
    fields = problem.to_dict()
    dtype, out_dtype = fields["dtype"], fields["out_dtype"]
    taken = [*chip.node.matrix.step_cycles, "fp32"]
    results = [name for name, known in FORMATS.items() if known.kind != "int" or fmt(dtype).kind == "int"]
    for name, value, choices in (("dtype", dtype, taken), ("out_dtype", out_dtype, results)):
        if value not in choices:
            raise UnsupportedError(
                f"{problem.kind} on {chip.name} does not take {name}={value!r}; use {' or '.join(map(repr, choices))}"
            )
    for name in resident:
        if name not in problem.operands:
            raise InputError(
                f"{problem.kind} has no operand {name!r} to keep resident; use {', '.join(problem.operands)}"
            )
    shape = simplified(problem.geometry)
    chosen = choose(
        chip, shape, resident=resident, dtype=dtype, out_dtype=out_dtype, bias=fields["bias"],
        activation=fields["activation"],
    )  # fmt: skip
    if tiling:
        chosen = fill_in(chosen, chip, resident, **tiling)
    own = _meanings(problem, exponent_bias, denormals)
    tensors: dict[str, Any] = {n: tensor(o.shape, o.dtype, **own.get(n, {})) for n, o in problem.operands.items()}
    entry = conv_forward_bias if fields["bias"] else conv_forward
    return entry.build(chip, resident=resident, flops=problem.flops, tiling=chosen, **tensors)


def _meanings(
    problem: Convolution, exponent_bias: int | Mapping[str, int] | None, denormals: str
) -> dict[str, dict[str, Any]]:
    """Return the options of `accel.tensor` for operands in configurable formats; InputError for any other operand."""
    own = [name for name, operand in problem.operands.items() if fmt(operand.dtype).kind == "cfp"]
    alike = dict.fromkeys(own, exponent_bias)
    given: dict[str, Any] = dict(exponent_bias) if isinstance(exponent_bias, Mapping) else alike
    if (not own and (exponent_bias is not None or denormals != "gap")) or not set(given) <= set(own):
        raise InputError(
            f"{problem.label} has {' and '.join(own) or 'no operand'} in a format with a bias; give exponent_bias and "
            "denormals for such operands alone"
        )
    return {name: {"bias": given.get(name), "denormals": denormals} for name in own}


@kernel
def conv_forward(k: K, x: TensorRef, w: TensorRef, y: TensorRef, *, tiling: Tiling) -> None:
    """y = activation(conv(x, w)); see the lesson `conv2d`."""
    _forward(k, x, w, None, y, tiling)


@kernel
def conv_forward_bias(k: K, x: TensorRef, w: TensorRef, bias: TensorRef, y: TensorRef, *, tiling: Tiling) -> None:
    """y = activation(conv(x, w) + bias); see the lesson `conv2d`."""
    _forward(k, x, w, bias, y, tiling)


def _forward(k: K, x: TensorRef, w: TensorRef, bias: TensorRef | None, y: TensorRef, T: Tiling) -> None:
    frames, filters, results = Frames(k, x, T), Filters(k, w, T), Results(k, y, bias, T)
    product = Product(k, x.dtype, T)
    if k.row >= T.grid_rows or k.col >= T.grid_cols:
        return  # fewer bands than nodes: these have nothing to do

    rows = T.grid_rows // T.parts
    part, row = k.row // rows, k.row % rows
    member = row * T.grid_cols + T.turned(row, k.col)
    first, count = _share(part, T)
    begin = first_of(member, T.all_bands, T.members)
    mine = int(first_of(member + 1, T.all_bands, T.members) - begin)

    filters.place(first=first, count=count, part=part, member=member)
    results.place(begin, [frames.band(begin + b) for b in range(mine)], first, count)
    tiles = [range(low, min(mine, high)) for low, high in T.cuts() if low < mine]
    results.tiles = tiles
    frames.place(part, member, len(tiles))
    places = [[frames.band(begin + b) for b in tile] for tile in tiles]

    @k.thread
    def load_frames() -> None:
        frames.clear()
        for t, bands in enumerate(places):
            frames.load(t, bands)

    @k.thread
    def load_filters() -> None:
        filters.load(T.tiles)

    @k.thread
    def multiply() -> None:
        for t in range(T.tiles):  # one more than this node has where others have one: filters still pass
            mine = len(tiles[t]) if t < len(tiles) else 0
            if mine:
                frames.wait(t, mine)
            if t == 0:
                filters.begin()
            if mine:
                results.begin(t)
                product.take(frames.buffer[t % T.slots, :mine], first, count)
            for j, chunk in enumerate(filters.chunks):
                g = t * len(filters.chunks) + j
                filters.wait(g)
                if mine:
                    product.add(results.made(t, mine), filters.view(g), chunk)
                filters.done(g, T.tiles)
            if mine:
                frames.done(t, len(tiles))
                results.finished(t)

    if T.rounds and y.resident:
        return  # the products have written all there is

    @k.thread
    def store() -> None:
        for t, bands in enumerate(places):
            results.leave(t, bands)
        results.settle()


def _share(part: Any, T: Tiling) -> tuple[Any, int]:
    """Return (first filter, filters) of a part of the mesh: whole groups, dealt as evenly as can be."""
    unit = T.shape.group_k if T.shape.groups > 1 else GROUP
    units = -(-T.shape.k // unit)
    low, high = first_of(part, units, T.parts), first_of(part + 1, units, T.parts)
    first = low * unit
    return first, int(T.shape.k - first if high == units else (high - low) * unit)


class Product:
    """What multiplies a tile with a chunk of w: the matrix unit, or the vector unit with fused multiply-adds.

    Both continue the same chain: row taps, taps along the row, channels of the group.
    """

    def __init__(self, k: K, dtype: str, tiling: Tiling) -> None:
        T, s = tiling, tiling.shape
        self.k, self.tiling = k, T
        self.wide_frame = self.wide_filters = None
        if T.on_vector and dtype != "fp32":  # the vector unit multiplies and adds in one format
            self.wide_frame = k.sram((T.bands, s.t.taps, T.rows, T.columns, s.c), "fp32", "frame_fp32")
            self.wide_filters = k.sram((T.chunk_depth, T.filters), "fp32", "filters_fp32")

    def take(self, frame: View, first: Any, count: int) -> None:
        """Turn to another tile: its bands (bands, time taps, rows, columns, channels), for filters from `first` on."""
        s = self.tiling.shape
        if self.wide_frame is not None:
            whole = self.wide_frame[: frame.shape[0]]
            self.k.vec.cast(flat(whole), flat(frame))
            frame = whole
        self.frame, self.count = frame, count
        self.channel = first // s.group_k * s.group_c if s.groups > 1 else 0
        self.groups = count // s.group_k if s.groups > 1 else 1

    def add(self, acc: View, filters: View, chunk: Chunk) -> None:
        """acc (rows, pixels, filters) += the products of one chunk; the first of a chain starts from +0."""
        a, a1, b, b1, low, high = chunk
        T, s = self.tiling, self.tiling.shape
        fresh = (a, b, low) == (0, 0, 0)
        if T.on_vector:
            self._on_vector(acc, filters, chunk, fresh)
            return
        if T.fused and not T.deep:
            for taps, done in self._row_taps(a, a1):
                deep = taps.shape[1] * s.w.taps * s.c
                left = taps.window(2, s.w.taps, s.w.stride).merge(3).transpose(0, 2, 1, 3)
                right = filters[done : done + deep].split(0, s.w.taps * s.c)
                self.k.matmul(acc, left, right, accumulate=not fresh or done > 0)
            return
        for taps, done in self._row_taps(a, a1):
            for i in range(taps.shape[1]):
                pixels = taps[:, i].window(1, s.w.taps, s.w.stride, s.w.dilation)[:, :, b:b1]
                deep = (b1 - b) * (high - low)
                start = done + i * deep
                right = filters[start : start + deep].split(0, high - low)
                for g in range(self.groups):
                    channels = self.channel + (g * s.group_c + low)
                    width = s.group_k if s.groups > 1 else self.count
                    own = slice(g * width, (g + 1) * width)
                    left = pixels[..., channels : channels + (high - low)]
                    self.k.matmul(acc[:, :, own], left, right[:, :, own], accumulate=not (fresh and start == 0))

    def _row_taps(self, low: int, high: int) -> list[tuple[View, int]]:
        """Return views (rows of the tile, row taps, columns, channels) of row taps [low, high), and rows of w before.

        Bands of one row hold the rows of their taps alone, one after the other; in higher bands the taps in height are
        windows, and each tap in time is a view of its own.
        """
        T, s = self.tiling, self.tiling.shape
        row = s.w.taps * s.group_c
        if T.high == 1:
            return [(self.frame.merge(1)[:, low:high], 0)]
        found = []
        for kt in range(low // s.h.taps, (high - 1) // s.h.taps + 1):
            first, last = max(low, kt * s.h.taps), min(high, (kt + 1) * s.h.taps)
            windows = self.frame[0, kt].window(0, s.h.taps, s.h.stride, s.h.dilation)
            found.append((windows[:, first - kt * s.h.taps : last - kt * s.h.taps], (first - low) * row))
        return found

    def _on_vector(self, acc: View, filters: View, chunk: Chunk, fresh: bool) -> None:
        """One instruction a tap, channel of a group and, where groups are many and small, filter of a group."""
        k, s, (a, a1, b, b1, low, high) = self.k, self.tiling.shape, chunk
        if self.wide_filters is not None:
            wide = self.wide_filters[: filters.shape[0], : filters.shape[1]]
            k.vec.cast(wide, filters)
            filters = wide
        if fresh:
            k.vec.fill(acc, 0.0)
        deep, groups, group_k = high - low, self.groups, self.count // self.groups
        for taps, done in self._row_taps(a, a1):
            for i in range(taps.shape[1]):
                for tap in range(b, b1):
                    columns = taps[:, i].window(1, s.w.taps, s.w.stride, s.w.dilation)[:, :, tap]
                    start = done + (i * (b1 - b) + tap - b) * deep
                    for c in k.loop(deep) if deep > 1 else (0,):
                        weights = filters[start + c]
                        if groups == 1:
                            channel = self.channel + low + c
                            pixels = columns[:, :, channel : channel + 1]
                            k.vec.fma(acc, pixels, weights, acc)
                            continue
                        own = columns[:, :, self.channel : self.channel + groups * s.group_c]
                        pixels = own.split(2, s.group_c)[:, :, :, low + c]
                        each = acc.split(2, group_k)
                        if groups < group_k:
                            pixels = own.split(2, s.group_c)[:, :, :, low + c : low + c + 1]
                            k.vec.fma(each, pixels, weights.split(0, group_k), each)
                            continue
                        for f in range(group_k):
                            target = each[:, :, :, f]
                            k.vec.fma(target, pixels, weights.split(0, group_k)[:, f], target)


class Results:
    """The accumulators and the way out: bias, activation and rounding of a tile while the next one is multiplied."""

    def __init__(self, k: K, y: TensorRef, bias: TensorRef | None, tiling: Tiling) -> None:
        T, self.k, self.tiling, self.tiles = tiling, k, tiling, list[range]()
        pixels = T.bands * T.high
        self.y = rows_of(y, T.shape.w.out)
        slots = 2 if T.rounds else T.accumulators
        if not T.rounds:
            self.acc = k.sram((T.accumulators, pixels, T.wide, T.filters), T.sums, "acc")
        self.full, self.free = k.sem(slots, "acc_full"), k.sem(slots, "acc_free")
        self.sent, self.waiting = k.sem(2, "sent"), [0, 0]
        self.bias, self.loaded = bias, k.sem(name="bias_loaded")
        self.bias_row = k.sram((T.filters,), "fp32", "bias_row") if bias is not None else None
        self.activation = Activation(k, T.activation, T.strip)
        self.home = self.out = None
        if y.resident:
            self.home = buffer(k, (T.most_bands * T.high * T.wide, T.filters), y, "y_home")
        elif y.dtype != T.sums:
            self.out = buffer(k, (2, pixels, T.wide, T.filters), y, "out")

    def place(self, begin: Any, bands: list[Band], first: Any, count: int) -> None:
        """Say which bands and filters are this node's."""
        T, self.first, self.count = self.tiling, first, count
        self.waiting = [0, 0]
        if self.bias is not None and self.bias.resident:
            assert self.bias_row is not None
            self.k.preload(self.bias_row[:count], self.bias[first : first + count])
        if self.home is not None and T.by_block:
            for index, band in enumerate(bands):
                row, left = band.n * T.shape.t.out + band.t, band.across * T.wide
                part = self.y[row, left : left + T.wide, first : first + count]
                self.k.collect(part, self.home[index * T.wide : (index + 1) * T.wide, :count])
        elif self.home is not None:
            whole, size = self.y.merge(0), T.high * T.wide
            start, run = begin * size, len(bands) * size
            if start + run > whole.shape[0]:  # one long row, whose last band is short
                run = int(whole.shape[0] - start)
            self.k.collect(whole[start : start + run, first : first + count], self.home[:run, :count])

    def begin(self, t: int) -> None:
        """Wait until the accumulators of tile t are free, or the place of its results."""
        if self.tiling.rounds:
            if self.home is None and t >= 2:
                self.k.wait(self.sent[t % 2], len(self.tiles[t - 2]))
        elif t >= self.tiling.accumulators:
            self.k.wait(self.free[t % self.tiling.accumulators])

    def made(self, t: int, bands: int) -> View:
        """Return where products write tile t, (rows, pixels, filters): accumulators, or results where they round."""
        view: View
        if not self.tiling.rounds:
            return self.tile(t, bands)
        if self.home is None:
            assert self.out is not None
            view = self.out[t % 2, : bands * self.tiling.high, :, : self.count]
        else:
            view = self._kept(self.tiles[t])
        return view

    def _kept(self, numbers: range) -> View:
        """Return where bands of y stay: (rows, pixels, filters)."""
        assert self.home is not None
        size = self.tiling.high * self.tiling.wide
        view: View = self.home[numbers[0] * size : (numbers[-1] + 1) * size, : self.count].split(0, self.tiling.wide)
        return view

    def tile(self, t: int, bands: int) -> View:
        """Return the accumulators of tile t, (rows, pixels, filters)."""
        view: View = self.acc[t % self.tiling.accumulators, : bands * self.tiling.high, :, : self.count]
        return view

    def finished(self, t: int) -> None:
        """Hand tile t to the drain."""
        if not self.tiling.rounds:
            self.k.inc(self.full[t % self.tiling.accumulators])
        elif self.home is None:
            self.k.inc(self.full[t % 2])

    def leave(self, t: int, bands: list[Band]) -> None:
        """Finish and store a tile; where products have written results there is nothing to finish."""
        if not self.tiling.rounds:
            self.drain(t, bands, self.tiles[t], len(self.tiles))
            return
        self.k.wait(self.full[t % 2])
        source = self.made(t, len(bands))
        for b, band in enumerate(bands):
            self._store(source[b * self.tiling.high : (b + 1) * self.tiling.high], band, self.sent[t % 2])
        self.waiting[t % 2] = len(bands)  # of the tile before `begin` has waited

    def drain(self, t: int, bands: list[Band], numbers: range, tiles: int) -> None:
        """Finish a tile: bias, activation, rounding; then store it band by band, or keep it where y is resident."""
        k, T, slot = self.k, self.tiling, t % self.tiling.accumulators
        if self.bias is not None and t == 0 and not self.bias.resident:
            assert self.bias_row is not None
            k.copy(self.bias_row[: self.count], self.bias[self.first : self.first + self.count], done=self.loaded)
            k.wait(self.loaded)
        k.wait(self.full[slot])
        source = self.tile(t, len(bands))
        if self.bias_row is not None:
            k.vec.add(source, source, self.bias_row[: self.count])
        self.activation.apply(source)
        if self.home is not None:
            kept = self._kept(numbers)
            (k.vec.copy if kept.dtype == T.sums else k.vec.cast)(kept, source)
        else:
            if self.out is not None:
                self._settle(t % 2)
                rounded = self.out[t % 2, : source.shape[0], :, : self.count]
                k.vec.cast(rounded, source)
                source = rounded
            for b, band in enumerate(bands):
                self._store(source[b * T.high : (b + 1) * T.high], band, self.sent[t % 2])
            self.waiting[t % 2] = len(bands)
            if self.out is None:  # the accumulators are given back next, so all of them must be out
                self._settle(t % 2)
        if t + T.accumulators < tiles:
            k.inc(self.free[slot])

    def settle(self) -> None:
        """Wait for the last stores."""
        for s in (0, 1):
            self._settle(s)

    def _settle(self, s: int) -> None:
        if self.waiting[s]:
            self.k.wait(self.sent[s], self.waiting[s])
        self.waiting[s] = 0

    def _store(self, source: View, band: Band, sent: Any) -> None:
        """Send one band out; the ragged ones at the lower and right border are shorter."""
        T, s = self.tiling, self.tiling.shape
        row = (band.n * s.t.out + band.t) * s.h.out + band.down * T.high
        left = band.across * T.wide
        down, across = T.blocks
        for tall, is_tall in _sizes(T.high, s.h.out, band.down, down):
            for wide, is_wide in _sizes(T.wide, s.w.out, band.across, across):
                here = is_tall & is_wide
                if here is False:
                    continue
                with self.k.when(here):
                    target = self.y[row : row + tall, left : left + wide, self.first : self.first + self.count]
                    self.k.copy(target, source[:tall, :wide], sent=sent)


def _sizes(size: int, extent: int, index: Any, blocks: int) -> list[tuple[int, Any]]:
    """Return (size of a block, whether block `index` has it) for the sizes there are: full ones and a ragged last."""
    last = extent - (blocks - 1) * size
    if last == size:
        return [(size, True)]
    return [(size, index < blocks - 1), (last, index == blocks - 1)]
