"""How a data gradient is cut over a mesh: what is a tile, who owns it, what lies in SRAM, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.parts.conv_data_geometry import TRIVIAL, Band, Product, kinds, schedule, turns
from accel.kernels.parts.conv_estimate import PASSED, blocked, held_up
from accel.kernels.parts.epilogue import STRIP
from accel.kernels.parts.matmul_formats import Formats
from accel.lang import SRAM_ALIGN
from accel.problem.convolution import Axis, Geometry

__all__ = ["MOST_SEQUENCES", "Cut", "Form", "form_of"]

GROUP = 8  # channels are dealt in groups of one matrix-unit step
LANES = 16  # or of the fp32 lanes of the vector unit
LATENCY = 100  # cycles from a request of a chunk to its use, beside its bytes: hops, a semaphore, a descriptor
VISIT = 60  # cycles between two tiles: waits, a copy's descriptor, the first block's accumulators
OVERLAP = 0.1  # of the lesser times that does not hide behind the greatest, as seen on `d1`
MOST_SEQUENCES = 24  # kinds of work that nodes may have: roles of a program, of which there are at most 64


@dataclass(frozen=True)
class Form:
    """A data gradient as the kernel sees it: up to three axes with taps, and images that lie innermost in a tile.

    case "planes": rows and columns have taps; images (or the frames of all clips, where time has none) lie inside a
    column, so that a product takes them together. "time": only time has taps; it becomes the columns, and the pixels
    of a frame lie inside. "full": all three have taps; frames are walked one by one. outer: what is left outside.
    rank: dimensions of the tensors. rounding: whether the matrix unit can write gx as it leaves, rounded. thin:
    channels are dealt one by one, where SRAM has no room for more; parts: into which a group of channels is cut for the
    same reason.
    """

    case: str
    axes: tuple[Axis, Axis, Axis]
    outer: int
    inner: int
    rank: int
    c: int
    k: int
    groups: int
    on_vector: bool
    rounding: bool = False
    thin: bool = False
    parts: int = 1

    @property
    def group_channels(self) -> int:
        """Return the channels of gx in a group, or in the part of one that a node takes."""
        return self.c // self.groups // self.parts

    @property
    def group_filters(self) -> int:
        """Return the filters, channels of gy, in a group."""
        return self.k // self.groups

    @property
    def unit(self) -> int:
        """Return the channels that are dealt together: one convolution group where there are several."""
        if self.thin and self.groups == 1:
            return 1
        return self.group_channels if self.groups > 1 else LANES if self.on_vector else GROUP

    @property
    def units(self) -> int:
        """Return how many units there are."""
        return ceil(self.c / self.unit)


def form_of(shape: Geometry, chip: ChipSpec, formats: Formats) -> Form:
    """Return the form of a convolution's data gradient, and choose the unit of the chip that multiplies.

    The vector unit works on fp32, and where groups are so narrow that it is faster than the matrix unit: its lanes
    take the channels of a group, the matrix unit blocks of 8 of them and 4 filters, plus its accumulators.
    """
    axes, images = shape.axes, shape.n
    plain = [axis.taps == 1 and axis.stride == 1 and axis.pad == 0 for axis in axes]
    pixels = prod(axis.size for axis in axes[1:])
    on_vector = formats.dtype not in chip.node.matrix.step_cycles or (
        formats.sums == "fp32"
        and shape.groups > 1
        and _vector_pays(shape.c // shape.groups, shape.k // shape.groups, chip)
    )
    plainly = formats.sums == "fp32" and not formats.touched and not on_vector
    rounding = plainly and formats.out_dtype in chip.node.matrix.output_formats
    rest = (shape.c, shape.k, shape.groups, on_vector, rounding)
    if len(axes) == 2:
        return Form("planes", (TRIVIAL, axes[0], axes[1]), 1, images, 4, *rest)
    if plain[0]:
        return Form("planes", (TRIVIAL, axes[1], axes[2]), 1, images * axes[0].size, 5, *rest)
    if plain[1] and plain[2]:
        return Form("time", (TRIVIAL, TRIVIAL, axes[0]), images, pixels, 5, *rest)
    return Form("full", (axes[0], axes[1], axes[2]), images, 1, 5, *rest)


def _vector_pays(channels: int, filters: int, chip: ChipSpec) -> bool:
    """Return whether the vector unit is faster for one tap of one group: cycles for 16 positions."""
    lanes = chip.node.vector.bytes_per_cycle // 4
    wide = 1.0 / lanes if channels == 1 else ceil(channels / lanes)
    matrix = 2 * ceil(channels / 8) * ceil(filters / 4) + 8 * ceil(channels / 8)
    return 16 * wide * filters < matrix


@dataclass(frozen=True)
class Cut:
    """One legal way to run a data gradient.

    The rows of the mesh are dealt in `bands` of `share` rows: the nodes of one column in a band have the same
    positions and each `units` units of channels, taken `per_pass` at a time. Positions are cut in tiles of frames x
    rows x columns x inner, `per` to each such group of nodes. `width` columns of the filter come in a chunk;
    `filters`, `windows`, `sums` and `outs` are the slots of chunks, windows of gy, accumulators and rounded results;
    where products write results (`rounds`) there are no accumulators.
    """

    form: Form
    formats: Formats
    share: int
    bands: int
    cols: int
    units: int
    per_pass: int
    frames: int
    rows: int
    columns: int
    inner: int
    width: int
    filters: int
    windows: int
    sums: int
    outs: int
    gy_stays: bool
    w_stays: bool
    gx_stays: bool

    @property
    def extents(self) -> tuple[int, int, int]:
        """Return frames, rows and columns of a tile."""
        return self.frames, self.rows, self.columns

    @cached_property
    def grid(self) -> tuple[int, int, int, int, int]:
        """Return how many tiles lie along outer, inner, frames, rows and columns."""
        along = [ceil(axis.size / extent) for axis, extent in zip(self.form.axes, self.extents, strict=True)]
        return self.form.outer, ceil(self.form.inner / self.inner), along[0], along[1], along[2]

    @cached_property
    def tiles(self) -> int:
        """Return the number of tiles."""
        return prod(self.grid)

    @cached_property
    def per(self) -> int:
        """Return the most tiles of a group of nodes."""
        return ceil(self.tiles / (self.bands * self.cols))

    @property
    def passes(self) -> int:
        """Return the passes over the channels of a node."""
        return ceil(self.units / self.per_pass)

    @property
    def channels(self) -> int:
        """Return the most channels of a pass."""
        return min(self.form.c, self.per_pass * self.form.unit)

    @property
    def depth(self) -> int:
        """Return the filters whose gradients a window holds."""
        return self.form.k if self.form.groups == 1 else self.per_pass * self.form.group_filters

    @property
    def shard(self) -> int:
        """Return the filters whose gradients one node of a group keeps."""
        return ceil(self.form.k / self.share) if self.form.groups == 1 else self.units * self.form.group_filters

    @property
    def _cuts(self) -> list[tuple[Axis, int]]:
        return list(zip(self.form.axes, self.extents, strict=True))

    @cached_property
    def positions(self) -> int:
        """Return the positions of a tile."""
        return prod(min(n, axis.size) for axis, n in self._cuts) * self.inner

    @cached_property
    def window(self) -> int:
        """Return the most gradients (of one filter) that a tile reads."""
        return prod(max(1, *(b.reads for _, _, b in kinds(axis, n))) for axis, n in self._cuts) * self.inner

    @cached_property
    def owned(self) -> int:
        """Return the most gradients (of one filter) that belong to a tile."""
        return prod(max(1, *(b.owned for _, _, b in kinds(axis, n))) for axis, n in self._cuts) * self.inner

    @cached_property
    def direct(self) -> bool:
        """Return whether windows are read where they lie: resident, unshared, and each tile has what it needs."""
        local = all(b.local for axis, n in self._cuts for _, _, b in kinds(axis, n))
        even = self.frames == 1 or self.rows >= self.form.axes[1].size  # frames of a window follow each other
        return self.gy_stays and local and even and (self.share == 1 or self.form.groups > 1)

    @cached_property
    def rounds(self) -> bool:
        """Return whether products write results: each chain is one of them, and the matrix unit rounds it."""
        if not self.form.rounding:
            return False
        every = product(*({band: None for _, _, band in kinds(axis, n)} for axis, n in self._cuts))
        return all(
            one.fresh
            for t, r, c in every
            for turn in schedule(self.form.axes, (t, r, c), self.width).turns
            for one in turn
        )

    @cached_property
    def blind(self) -> bool:
        """Return whether no tap of the filter lands on any gradient: gx is +0."""
        return any(all(not b.reads for _, _, b in kinds(axis, n)) for axis, n in self._cuts)

    @property
    def near(self) -> bool:
        """Return whether the nodes that share positions follow each other along a column.

        Then memory sends them one window together; otherwise those that share channels get their filter together.
        """
        return self.share > 1 and not self.gy_stays and self.form.groups == 1

    @cached_property
    def chunks(self) -> int:
        """Return the chunks of the filter in a pass."""
        axes = self.form.axes
        return axes[0].taps * axes[1].taps * ceil(axes[2].taps / self.width)

    @property
    def kept(self) -> bool:
        """Return whether the whole filter of a pass stays in SRAM."""
        return self.filters >= self.chunks

    @cached_property
    def loads(self) -> int:
        """Return how many chunks are loaded in all."""
        each = self.chunks if self.kept else self.per * len(turns(self.form.axes, self.width))
        return each * self.passes

    @property
    def chunk(self) -> int:
        """Return the elements of a chunk."""
        wide = self.channels if self.form.groups == 1 else self.form.group_channels
        return min(self.width, self.form.axes[2].taps) * self.depth * wide

    @property
    def strip(self) -> int:
        """Return the sums that an activation works on at a time."""
        return min(STRIP, self.positions * self.channels)

    def buffers(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and format of every buffer by name: what the kernel allocates, and in what order."""
        f, found = self.formats, dict[str, tuple[tuple[int, ...], str]]()
        found["filters"] = (self.filters, self.chunk), f.dtype
        if not self.direct:
            found["windows"] = (self.windows, self.window * self.depth), f.dtype
        if self.gy_stays:
            found["gy_home"] = (self.per, self.owned * self.shard), f.dtype
        if self.w_stays:
            homes = ceil(self.chunks * self.passes / (self.cols * self.bands))
            found["w_home"] = (homes, self.chunk), f.dtype
        if not self.rounds:
            found["sums"] = (self.sums, self.positions * self.channels), f.sums
        if self.gx_stays:
            found["gx_home"] = (self.per * self.passes, self.positions * self.channels), f.out_dtype
        else:
            found["outs"] = (self.outs, self.positions * self.channels), f.out_dtype
        if f.add_bias:
            found["bias"] = (self.passes, self.channels), "fp32"
        for name in f.buffers:
            found[name] = (self.strip,), "fp32"
        if self.form.on_vector and f.dtype != "fp32":
            found["wide_window"] = (self.window * self.depth,), "fp32"
            found["wide_filter"] = (self.chunk,), "fp32"
        return found

    def sram_bytes(self) -> int:
        """Return the SRAM of one node, in bytes."""
        item = {self.formats.dtype: self.formats.item, self.formats.out_dtype: self.formats.out_item, "fp32": 4}
        item["int32"] = 4
        sizes = [prod(shape) * item[dtype] for shape, dtype in self.buffers().values()]
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in sizes)

    def tile_cycles(self, chip: ChipSpec) -> float:
        """Return the cycles that the busiest node computes on one tile of a pass, on average.

        Tiles of a node follow each other in an image and go on in the next; those at borders, and ragged ones, differ.
        """
        found = [kinds(axis, n) for axis, n in self._cuts]
        each = np.array(
            [[[self._kind_cycles(chip, (t[2], r[2], c[2])) for c in found[2]] for r in found[1]] for t in found[0]]
        )
        order = [np.repeat(np.arange(len(axis)), [end - first for first, end, _ in axis]) for axis in found]
        image = each[np.ix_(*order)].ravel()
        until = np.concatenate(([0.0], np.cumsum(np.tile(image, 2))))
        images, rest = divmod(self.per, image.size)
        first = np.arange(min(self.bands * self.cols, -(-self.tiles // self.per))) * self.per % image.size
        return (images * float(image.sum()) + float((until[first + rest] - until[first]).max())) / self.per

    def _kind_cycles(self, chip: ChipSpec, bands: tuple[Band, Band, Band]) -> float:
        form, total = self.form, 0.0
        for turn in schedule(form.axes, bands, self.width).turns:
            total += sum(self._product_cycles(chip, one) for one in turn)
        return total + (ceil(self.positions * self.channels * 4 / 64) if form.on_vector else 0)

    def _product_cycles(self, chip: ChipSpec, one: Product) -> float:
        form, m = self.form, one.rows * (one.high - one.low) * self.inner
        if form.on_vector:
            node, wide = chip.node, form.group_channels if form.groups > 1 else self.channels
            lanes = node.vector.bytes_per_cycle // 4
            row = (
                ceil(self.per_pass / lanes)
                if form.groups > 1 and wide == 1
                else ceil(wide / lanes) * (self.per_pass if form.groups > 1 else 1)
            )
            return one.taps * form.group_filters * (1.5 * m * row + node.vector.fill_cycles + 2)
        unit, groups = chip.node.matrix, self.per_pass if form.groups > 1 else 1
        n = form.group_channels if form.groups > 1 else self.channels
        blocks = ceil(m / unit.m) * ceil(n / unit.n)
        step = unit.step_cycles[self.formats.dtype]
        compute = blocks * ceil(one.taps * form.group_filters / unit.k) * step
        item = self.formats.out_item if self.rounds else 4
        return groups * (compute + blocks * unit.m * unit.n * item / chip.node.port_bytes + unit.fill_cycles + 18)

    def cycles(self, chip: ChipSpec) -> float:
        """Return the estimated cycles on `chip`: a closed form for choosing among cuts, not a prediction.

        Computing of the busiest node against the traffic of memory and of the mesh (its port, or the middle of a
        column along which windows are pulled, where half of what the nodes of one half need comes from the other),
        plus what nothing hides: the first window, the first chunk of the filter and the last result.
        """
        node, f, form = chip.node, self.formats, self.form
        bandwidth, port = max(chip.memory_bytes_per_cycle, 1e-9), node.mesh_bytes_per_cycle
        window = self.window * self.depth * f.item * (not self.direct)
        chunk, result = self.chunk * f.item, self.positions * self.channels * f.out_item
        visits, tile = self.per * self.passes, self.tile_cycles(chip)
        cast = 0.0 if self.rounds else self.positions * self.channels * 4 / node.vector.bytes_per_cycle
        emptied = cast if self.sums == 1 else 0.0  # what a tile waits for the only slot of sums, or of results
        if self.rounds:
            emptied = result / port if self.outs == 1 and not self.gx_stays else 0.0
        memory = 0.0 if self.w_stays else float(self.loads * chunk * self.share * (self.bands if self.near else 1))
        pulled = self.gy_stays and self.share > 1 and form.groups == 1
        spread = max(1.0, chip.mesh.rows / 4) * blocked(self.share) if pulled else 1.0
        come = chunk / port + LATENCY  # a chunk on its way; where its owner sends it row by row, so many times
        if self.w_stays:
            come *= self.bands if self.near else 1
        else:
            come = max(come, chunk * self.share * (self.bands if self.near else 1) / bandwidth)
        busy = visits * (tile + emptied + (window * spread / port if self.windows == 1 else 0.0))
        if self.kept:
            busy += self.passes * (come + max(0.0, (self.chunks - 1) * come - tile))
        elif self.filters == 1:
            busy += self.loads * come
        else:
            busy = max(busy, self.loads * come / (1 if self.filters == 2 else 2)) + come
        if pulled and self.bands > 1:
            busy += PASSED * max(0, self.loads - self.filters) * come
        first, last, fetched = window * spread / port, cast, visits * window
        if pulled and self.bands > 1:  # chunks of the filter cross the windows
            first += held_up(chip, first + min(self.filters, self.chunks) * chunk / port)
        if not self.gy_stays:
            apart = self.share if form.groups > 1 else 1
            memory += self.tiles * self.passes * apart * window
            first = max(first, self.bands * self.cols * apart * window / bandwidth)
        if not self.gx_stays:
            memory += form.outer * form.inner * prod(axis.size for axis in form.axes) * form.c * f.out_item
            last += self.bands * self.cols * self.share * result / bandwidth
        mesh = (self.loads * chunk + fetched * spread) / port
        times = (busy + visits * VISIT, memory / bandwidth, mesh)
        return max(times) + OVERLAP * (sum(times) - max(times)) + first + last

    def sequences(self) -> int:
        """Return in how many ways the tiles of a group follow each other: what its nodes have in common is a role."""
        marks = []
        for axis, n in self._cuts:
            marks.append([at for at, (low, high, _) in enumerate(kinds(axis, n)) for _ in range(low, high)])
        inner = [0] * (self.grid[1] - 1) + [self.form.inner % self.inner]
        flat = [(i, t, r, c) for i in inner for t in marks[0] for r in marks[1] for c in marks[2]]
        if len(set(flat)) == 1:
            return 2
        found = set()
        for first in range(0, self.tiles, self.per):
            found.add(tuple(flat[at % len(flat)] for at in range(first, min(self.tiles, first + self.per))))
            if len(found) > MOST_SEQUENCES:
                break
        return len(found)
