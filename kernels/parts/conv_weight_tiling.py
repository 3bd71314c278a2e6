"""How a weight gradient is cut over a mesh: teams of nodes that share images, and the part of gw of each member."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from math import ceil, prod
from typing import NamedTuple

from accel.hardware import ChipSpec
from accel.kernels.parts.conv_windows import Band, Homes, bands, chain_frames, frame_axes, homes, window
from accel.lang import SRAM_ALIGN
from accel.problem.convolution import Axis, Geometry

__all__ = ["GROUP", "Pool", "Tiling", "pool_plan", "width"]

GROUP = 8  # channels are dealt in groups of one step of the matrix unit
SEGMENT = 60  # cycles between two bands: semaphores, and what the first product of a band waits for


@dataclass(frozen=True)
class Tiling:
    """One legal way to compute gw, on matrix (`vector` false) or vector units.

    A team is a rectangle of nodes that works on `share` images, a power of two or all, so that its sum is a node of the
    balanced tree over images. Its rows deal groups, channels c and taps (kt, r, s), its columns filters k, in equal
    parts of which the last may be short; every member sees all images of the team, in bands of `frames` output frames
    or `rows` output rows. Teams lie `across` beside each other. Where k does not divide evenly by the columns, the last
    `rest` filters are dealt by channels instead: the columns share those of their row (a corner beside the tile).
    `stages` bands are in flight.
    """

    form: Geometry
    item: int
    out_item: int
    share: int
    across: int
    group_parts: int
    c_parts: int
    t_parts: int
    r_parts: int
    s_parts: int
    k_parts: int
    frames: int
    rows: int
    rest: int = 0
    stages: int = 2
    vector: bool = False
    bias: bool = False
    resident: frozenset[str] = frozenset()

    @cached_property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """Return time, height and width."""
        return frame_axes(self.form)

    @property
    def c(self) -> int:
        """Return the channels of a group."""
        return self.form.c // self.form.groups

    @property
    def k(self) -> int:
        """Return the filters of a group."""
        return self.form.k // self.form.groups

    @cached_property
    def chain(self) -> int:
        """Return how many output frames a chain runs over."""
        return chain_frames(self.form)

    @property
    def chains(self) -> int:
        """Return the chains of an image, the last of which may be short."""
        return ceil(self.axes[0].out / self.chain)

    @property
    def teams(self) -> int:
        """Return the number of teams."""
        return ceil(self.form.n / self.share)

    @property
    def tap_parts(self) -> int:
        """Return how many rows of a team share channels of x."""
        return self.t_parts * self.r_parts * self.s_parts

    @property
    def team_rows(self) -> int:
        """Return the rows of a team."""
        return self.group_parts * self.c_parts * self.tap_parts

    @cached_property
    def part(self) -> tuple[int, int, int, int, int, int]:
        """Return the most groups, taps (kt, r, s), channels and filters of one member."""
        taps = [axis.taps for axis in self.axes]
        t, r, s = (ceil(n / p) for n, p in zip(taps, (self.t_parts, self.r_parts, self.s_parts), strict=True))
        return (
            ceil(self.form.groups / self.group_parts), t, r, s, width(self.c, self.c_parts),
            width(self.k - self.rest, self.k_parts),
        )  # fmt: skip

    @property
    def x_channels(self) -> int:
        """Return the most channels of x that a member sees."""
        return self.part[0] * self.part[4]

    @property
    def y_channels(self) -> int:
        """Return the most filters of gy that a member sees."""
        return self.part[0] * self.part[5]

    @property
    def bias_width(self) -> int:
        """Return the most filters of a member whose bias gradient it computes: those of a team's column are dealt."""
        return width(self.y_channels, ceil(self.team_rows / self.group_parts)) if self.bias else 0

    @cached_property
    def banding(self) -> Banding:
        """Return the bands of an image and what they take."""
        return _banding(self.axes, self.frames, self.rows)

    @property
    def bands(self) -> list[Band]:
        """Return the bands of an image."""
        return self.banding.bands

    @property
    def window_shape(self) -> tuple[int, int, int]:
        """Return the most frames, rows and columns of x that a band reads, padding included."""
        return self.banding.window

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Return the most frames, rows and columns of gy in a band."""
        return self.banding.output

    @cached_property
    def band_grid(self) -> tuple[int, int]:
        """Return into how many parts the bands cut the output frames and rows of an image."""
        t, h, _ = self.axes
        return ceil(t.out / self.frames), ceil(h.out / self.rows)

    @cached_property
    def homes(self) -> tuple[Homes, Homes, Homes]:
        """Return how frames, rows and columns of a resident x are dealt, as many parts as there are bands."""
        t, h, w = self.axes
        frames, rows = self.band_grid
        return homes(t, frames), homes(h, rows), homes(w, 1)

    @property
    def segments(self) -> int:
        """Return how many bands a team works on."""
        return min(self.share, self.form.n) * len(self.bands)

    @property
    def x_owners(self) -> int:
        """Return how many nodes share the same channels of x."""
        return self.tap_parts * self.k_parts

    @property
    def y_owners(self) -> int:
        """Return how many nodes share the same filters of gy."""
        return self.c_parts * self.tap_parts

    @property
    def tile(self) -> tuple[int, int, int]:
        """Return (groups and taps, channels, filters) of a member's part of gw."""
        g, t, r, s, c, k = self.part
        return g * t * r * s, c, k

    @property
    def corner(self) -> tuple[int, int, int]:
        """Return (taps, channels, filters) of a member's part of the last `rest` filters."""
        return self.tile[0], width(self.part[4], self.k_parts), self.rest

    @property
    def plan(self) -> Pool:
        """Return the plan of the tree over the chains and images of a team, without a last short one."""
        return pool_plan(min(self.share, self.form.n), self.chains)

    @property
    def pool(self) -> int:
        """Return how many tiles a member needs: pending sums of the tree, and two being made."""
        return self.plan.made

    @property
    def slice_axis(self) -> int:
        """Return the dimension of a tile (1 channels, 2 filters) along which teams share the last sums."""
        return 1 if self.tile[1] >= self.tile[2] else 2

    @property
    def slice_shape(self) -> tuple[int, int, int]:
        """Return the part of a tile that one team sums and rounds."""
        shape = list(self.tile)
        shape[self.slice_axis] = ceil(shape[self.slice_axis] / self.teams)
        return shape[0], shape[1], shape[2]

    @property
    def sram_bytes(self) -> int:
        """Return the SRAM of a node in bytes."""
        x, y = prod(self.window_shape) * self.x_channels, prod(self.output_shape) * self.y_channels
        sizes = [self.item * self.stages * x, self.item * self.stages * y, 4 * self.pool * prod(self.tile)]
        rounded = self.out_item if self.out_item < 4 else 0  # sums of four bytes leave as they are
        if self.rest:
            beside = prod(self.output_shape) * self.rest
            sizes += [self.item * self.stages * beside, (4 * self.pool + rounded) * prod(self.corner)]
            if "gy" in self.resident:
                sizes.append(self.item * ceil(self.segments / (self.team_rows * self.k_parts)) * beside)
        if self.vector and self.item < 4:
            sizes += [4 * x, 4 * y]
        if self.teams > 1:
            sizes.append(4 * self.teams * prod(self.slice_shape))
        sizes.append(rounded * prod(self.slice_shape))
        if self.bias:
            sizes += [4 * self.pool * self.bias_width, 4 * self.teams * self.bias_width]
            sizes.append(self.item * prod(self.output_shape[1:]))
        if "x" in self.resident:
            sizes.append(
                self.item
                * ceil(self.segments / self.x_owners)
                * prod(axis.each for axis in self.homes)
                * self.x_channels
            )
        if "gy" in self.resident:
            sizes.append(self.item * ceil(self.segments / self.y_owners) * y)
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in sizes)

    @property
    def merges(self) -> bool:
        """Return whether frames follow each other in a window as rows do, so that a product may run over several."""
        t, h, _ = self.axes
        return h.taps == 1 and (t.taps == 1 or t.stride == 1)

    def runs(self, band: Band) -> list[tuple[int, int]]:
        """Return the frames of a band as half-open ranges, each of one chain."""
        start, stop = band.frames
        cuts = [start, *range(start // self.chain * self.chain + self.chain, stop, self.chain), stop]
        return list(pairwise(cuts))

    def products(self) -> dict[int, int]:
        """Return how many macro-operations add an image to one row of taps of one group, by their steps: one a frame of
        each band, or one a run of them where they merge.
        """
        found = dict[int, int]()
        for band in self.bands:
            for start, stop in self.runs(band):
                at_once = stop - start if self.merges else 1
                steps = at_once * band.outputs()[1] * self.axes[2].out
                found[steps] = found.get(steps, 0) + (stop - start) // at_once
        return found

    def compute_cycles(self, chip: ChipSpec) -> float:
        """Return the cycles that the busiest member multiplies for one image, in closed form."""
        g, t, r, s, c, k = self.part
        if self.vector:
            lanes = chip.node.vector.bytes_per_cycle // 4
            outer, inner = sorted((g, k))
            row = c * t * (r * s * outer * ceil(inner / lanes) + chip.node.vector.fill_cycles + 3)
            zeros = self.chains * ceil(prod(self.tile) / lanes)
            return prod(axis.out for axis in self.axes) * row + zeros
        unit = chip.node.matrix
        tiles = ceil(s * c / unit.m) * ceil(k / unit.n)
        tiles += ceil(s * self.corner[1] / unit.m) * ceil(self.rest / unit.n)
        drain = 4 * tiles  # a tile of sums leaves in four accesses while the unit waits; with more bands one comes in
        cycles = sum(
            count * g * t * r * (tiles * ceil(steps / unit.k) + drain + unit.fill_cycles + 4)
            for steps, count in self.products().items()
        )
        if self.bias:  # a product for each frame of each band
            outputs = [band.outputs() for band in self.bands]
            cycles += ceil(self.bias_width / unit.n) * sum(
                frames * (ceil(rows * self.axes[2].out / unit.k) + 4) for frames, rows in outputs
            )
        return cycles

    def port_cycles(self, chip: ChipSpec) -> float:
        """Return the cycles that the SRAM ports of the busiest member serve the matrix unit for one image: an access a
        step of a tile, four to store it.
        """
        tiles = (prod(self.tile) + prod(self.corner)) / (chip.node.matrix.m * chip.node.matrix.n)
        accesses = sum(count * (steps / chip.node.matrix.k + 4) for steps, count in self.products().items())
        return tiles * accesses / chip.node.accesses_per_cycle

    def cycles(self, chip: ChipSpec) -> float:
        """Return the estimated cycles on `chip`, for choosing among tilings: the busiest of unit, mesh port, memory."""
        node, images = chip.node, min(self.share, self.form.n)
        x = self.item * self.banding.elements * self.x_channels
        y = self.item * prod(axis.out for axis in self.axes) * (self.y_channels + self.rest)
        added = prod(self.tile) + prod(self.corner) + self.bias_width
        kept = 3 * 4 * added / node.port_bytes / node.accesses_per_cycle  # an addition of the tree
        multiply, add = images * self.compute_cycles(chip), (images * self.chains - 1) * kept
        busy = multiply + add if self.vector else max(multiply, add + images * self.port_cycles(chip))
        busy += self.segments * SEGMENT
        port = images * (x + y) / node.mesh_bytes_per_cycle
        memory = 0.0
        parts = self.group_parts * self.c_parts
        if "x" not in self.resident:
            memory += self.form.n * x * parts
        if "gy" not in self.resident:
            memory += self.form.n * y * self.group_parts * self.k_parts
        rate = max(chip.memory_bytes_per_cycle, 1e-9)
        first = (x + y) / len(self.bands) * (1 / node.mesh_bytes_per_cycle + self.teams * self.team_rows / rate * 0.5)
        # At the end the tree has branches of many heights to add, and a tile is rounded; teams exchange slices, all
        # with all, and wait for the last of them: five times the bytes through a port, as seen on `d1`.
        last = kept * (len(self.plan.steps[-1]) + 2)
        if self.teams > 1:
            last += 10 * 4 * prod(self.tile) / node.mesh_bytes_per_cycle + self.teams * 20
        if "gw" not in self.resident:
            last += self.out_item * prod(self.form.w) / rate
        # Where two are close neither hides the other quite: a node's own port less than the memory that all share.
        busy = (busy**8 + port**8) ** (1 / 8)
        return float((busy**3 + (memory / rate) ** 3) ** (1 / 3)) + first + last


class Banding(NamedTuple):
    """The bands of an image; the largest window and output of one; and the elements of x that all windows hold."""

    bands: list[Band]
    window: tuple[int, int, int]
    output: tuple[int, int, int]
    elements: int


@lru_cache(maxsize=4096)
def _banding(axes: tuple[Axis, Axis, Axis], frames: int, rows: int) -> Banding:
    parts = bands(axes, frames, rows)
    spans = [(window(axes[0], *b.frames), window(axes[1], *b.rows)) for b in parts]
    cols = window(axes[2], 0, axes[2].out)
    outputs = [b.outputs() for b in parts]
    return Banding(
        parts,
        (max(t.extent for t, _ in spans), max(h.extent for _, h in spans), cols.extent),
        (max(f for f, _ in outputs), max(r for _, r in outputs), axes[2].out),
        sum((t.high - t.low) * (h.high - h.low) for t, h in spans) * (cols.high - cols.low),
    )


def width(size: int, parts: int) -> int:
    """Return the most elements of one of `parts` parts of `size`: whole groups of 8 where there are several."""
    return size if parts == 1 else GROUP * ceil(ceil(size / GROUP) / parts)


class Pool(NamedTuple):
    """Tiles that the tree needs; the tile of each chain; and the merges after each chain, as (left, right) tiles."""

    made: int
    tiles: list[int]
    steps: list[list[tuple[int, int]]]


@lru_cache(maxsize=4096)
def pool_plan(images: int, chains: int) -> Pool:
    """Plan the tree over a tile for each of `chains` chains of `images` images: those of an image first, then images.

    A merge (left, right) adds tile `right` to tile `left` and frees it; what is left at the end is in tile 0. The
    products of chain i + 1 may be made while the merges of chain i are.
    """
    free: list[int] = []
    made = 0
    tiles: list[int] = []
    steps: list[list[tuple[int, int]]] = []

    def take() -> None:
        nonlocal made
        if not free:
            free.append(made)
            made += 1
        tiles.append(free.pop(0))

    def carry(pending: list[int], current: int, order: int, count: int) -> None:
        """Add the sum of the `order`-th of `count` parts to those pending on its level, like a carry."""
        last = order == count - 1
        while pending and (order & 1 or last):
            left = pending.pop()
            steps[-1].append((left, current))
            free.append(current)
            current, order = left, order >> 1
        pending.append(current)

    take()
    whole: list[int] = []
    for image in range(images):
        parts: list[int] = []
        for chain in range(chains):
            if len(tiles) < images * chains:
                take()
            steps.append([])
            carry(parts, tiles[image * chains + chain], chain, chains)
        carry(whole, parts.pop(), image, images)
    return Pool(made, tiles, steps)
