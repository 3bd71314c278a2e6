"""How a weight gradient is cut over a mesh: teams of nodes that share images, and the part of gw of each member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import ceil, prod

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_windows import Band, Homes, bands, frame_axes, homes, window
from accel.lang import SRAM_ALIGN
from accel.problem.convolution import Axis, Geometry

__all__ = ["Tiling", "choose", "pool_plan"]

GROUP = 8  # channels are dealt in groups of one step of the matrix unit
MOST_STAGES = 4


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
    def bands(self) -> list[Band]:
        """Return the bands of an image."""
        return bands(self.axes, self.frames, self.rows)

    @cached_property
    def window_shape(self) -> tuple[int, int, int]:
        """Return the most frames, rows and columns of x that a band reads, padding included."""
        t, h, w = self.axes
        return (
            max(window(t, *b.frames).extent for b in self.bands),
            max(window(h, *b.rows).extent for b in self.bands),
            window(w, 0, w.out).extent,
        )

    @cached_property
    def output_shape(self) -> tuple[int, int, int]:
        """Return the most frames, rows and columns of gy in a band."""
        frames, rows = zip(*(b.outputs() for b in self.bands), strict=True)
        return max(frames), max(rows), self.axes[2].out

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
    def pool(self) -> int:
        """Return how many tiles a member needs: pending sums of the tree over its images, and two being made."""
        return pool_plan(min(self.share, self.form.n))[0]

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
        if self.rest:
            beside = prod(self.output_shape) * self.rest
            sizes += [self.item * self.stages * beside, (4 * self.pool + self.out_item) * prod(self.corner)]
            if "gy" in self.resident:
                sizes.append(self.item * ceil(self.segments / (self.team_rows * self.k_parts)) * beside)
        if self.vector and self.item < 4:
            sizes += [4 * x, 4 * y]
        if self.teams > 1:
            sizes.append(4 * self.teams * prod(self.slice_shape))
        if self.out_item < 4 or "gw" in self.resident:
            sizes.append(self.out_item * prod(self.slice_shape))
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

    def products(self) -> Iterator[int]:
        """Yield the steps of every macro-operation that adds one band to one row of taps of one group."""
        merged = merges(self.axes)
        for band in self.bands:
            frames, rows = band.outputs()
            for _ in range(1 if merged else frames):
                yield (frames if merged else 1) * rows * self.axes[2].out

    def compute_cycles(self, chip: ChipSpec) -> float:
        """Return the cycles that the busiest member multiplies for one image, in closed form."""
        g, t, r, s, c, k = self.part
        if self.vector:
            lanes = chip.node.vector.bytes_per_cycle // 4
            outer, inner = sorted((g, k))
            row = c * t * (r * s * outer * ceil(inner / lanes) + chip.node.vector.fill_cycles + 3)
            return prod(axis.out for axis in self.axes) * row
        unit = chip.node.matrix
        tiles = ceil(s * c / unit.m) * ceil(k / unit.n)
        tiles += ceil(s * self.corner[1] / unit.m) * ceil(self.rest / unit.n)
        drain = 4 * tiles  # a tile of sums leaves in four accesses while the unit waits; with more bands one comes in
        extra = ceil(self.bias_width / unit.n) if self.bias else 0
        return sum(
            g * t * r * (tiles * ceil(steps / unit.k) + drain + unit.fill_cycles + 4)
            + extra * (ceil(steps / unit.k) + 4)
            for steps in self.products()
        )  # fmt: skip

    def cycles(self, chip: ChipSpec) -> float:
        """Return the estimated cycles on `chip`, for choosing among tilings: the busiest of units and ports."""
        node, images = chip.node, min(self.share, self.form.n)
        x = self.item * prod(self.window_shape) * self.x_channels * len(self.bands)
        y = self.item * prod(self.output_shape) * (self.y_channels + self.rest) * len(self.bands)
        kept = (
            3 * 4 * (prod(self.tile) + prod(self.corner)) / node.port_bytes / node.accesses_per_cycle
        )  # an addition of the tree
        busiest = max(images * self.compute_cycles(chip), images * (x + y) / node.mesh_bytes_per_cycle, images * kept)
        memory = 0.0
        parts = self.group_parts * self.c_parts
        if "x" not in self.resident:
            memory += self.form.n * x * parts
        if "gy" not in self.resident:
            memory += self.form.n * y * self.group_parts * self.k_parts
        rate = max(chip.memory_bytes_per_cycle, 1e-9)
        first = (x + y) / len(self.bands) * (1 / node.mesh_bytes_per_cycle + self.teams * self.team_rows / rate * 0.5)
        tile = 4 * prod(self.tile)
        last = 2 * tile / node.mesh_bytes_per_cycle + self.teams * 20 if self.teams > 1 else 0.0
        if "gw" not in self.resident:
            last += self.out_item * prod(self.form.w) / rate
        return float((busiest**3 + (memory / rate) ** 3) ** (1 / 3)) + first + last


def width(size: int, parts: int) -> int:
    """Return the most elements of one of `parts` parts of `size`: whole groups of 8 where there are several."""
    return size if parts == 1 else GROUP * ceil(ceil(size / GROUP) / parts)


def merges(axes: tuple[Axis, Axis, Axis]) -> bool:
    """Return whether frames follow each other in a window as rows do, so that a product may run over both."""
    return axes[1].taps == 1 and (axes[0].taps == 1 or axes[0].stride == 1)


def pool_plan(images: int) -> tuple[int, list[int], list[list[tuple[int, int]]]]:
    """Plan the tree over `images` partial tiles: (tiles needed, tile of each image, merges after each image).

    A merge (left, right) adds tile `right` to tile `left` and frees it; what is left at the end is in tile 0. The
    product of image i + 1 may be made while the merges of image i are.
    """
    free: list[int] = []
    made = 0
    pending: list[int] = []
    tiles: list[int] = []
    steps: list[list[tuple[int, int]]] = []

    def take() -> None:
        nonlocal made
        if not free:
            free.append(made)
            made += 1
        tiles.append(free.pop(0))

    take()
    for i in range(images):
        if i + 1 < images:
            take()
        done, current, order = [], tiles[i], i
        while pending and (order & 1 or i == images - 1):
            left = pending.pop()
            done.append((left, current))
            free.append(current)
            current, order = left, order >> 1
        pending.append(current)
        steps.append(done)
    return made, tiles, steps


def choose(
    chip: ChipSpec,
    form: Geometry,
    *,
    item: int,
    out_item: int,
    resident: frozenset[str],
    bias: bool,
    vector: Sequence[bool],
    **tiling: int,
) -> Tiling:
    """Return the tiling with the fewest estimated cycles that fits a node; ties go to the first in order.

    vector: which units may do it. item, out_item: bytes of an element of x and gy, and of gw. tiling: fields that are
    given (share, frames, rows); InputError for others, or outside their range.

    UnsupportedError where none fits, naming the smallest and what a node has.
    """
    base = Tiling(
        form, item, out_item, share=1, across=1, group_parts=1, c_parts=1, t_parts=1, r_parts=1, s_parts=1, k_parts=1,
        frames=1, rows=1, vector=vector[0], bias=bias, resident=resident,
    )  # fmt: skip
    given = _checked(form, tiling)
    best: tuple[float, Tiling] | None = None
    least: tuple[int, Tiling] | None = None
    for shape in (shape for unit in vector for shape in _shapes(replace(base, vector=unit), chip, given)):
        for candidate in _banded(shape, given):
            size = candidate.sram_bytes
            if least is None or size < least[0]:
                least = (size, candidate)
            if size > chip.node.sram_bytes:
                continue
            cost = candidate.cycles(chip)
            if best is None or cost < best[0]:
                best = (cost, candidate)
            break  # smaller bands only add to what is moved
    if least is None:
        raise InputError(
            f"tiling parameter share={given['share']} makes more teams than {chip.name} has room for; use more"
        )
    if best is None:
        kept = f" with {', '.join(sorted(resident))} resident" if resident else ""
        raise UnsupportedError(
            f"a weight gradient of {form.n} images of {'x'.join(map(str, form.x[1:]))} by "
            f"{'x'.join(map(str, form.w))}{kept} does not fit {chip.name}: the smallest tiling needs {least[0]} B of "
            f"SRAM, a node has {chip.node.sram_bytes}; keep fewer operands resident or use more or larger nodes"
        )
    found = best[1]
    while found.stages < min(MOST_STAGES, found.segments):  # more in flight hides more of what it takes to fetch one
        deeper = replace(found, stages=found.stages + 1)
        if deeper.sram_bytes > chip.node.sram_bytes:
            break
        found = deeper
    return found


def _shapes(base: Tiling, chip: ChipSpec, given: Mapping[str, int]) -> Iterator[Tiling]:
    """Yield every way to deal groups, channels, taps, filters and images over the mesh."""
    rows, cols, form = chip.mesh.rows, chip.mesh.cols, base.form
    t, r, s = (axis.taps for axis in base.axes)
    for group_parts in _parts(form.groups, rows, 1):
        whole = group_parts == form.groups  # a part of a group's channels is one run only where it is one group
        for c_parts, t_parts, r_parts, s_parts in product(
            _parts(base.c, rows, GROUP) if whole else [1], _parts(t, rows, 1), _parts(r, rows, 1),
            sorted({1, s}) if s <= rows else [1],
        ):  # fmt: skip
            high = group_parts * c_parts * t_parts * r_parts * s_parts
            if high > rows:
                continue
            yield from _uneven(base, chip, (c_parts, t_parts, r_parts, s_parts), given)
            for k_parts in _parts(base.k, cols, GROUP) if whole else [1]:
                most = (rows // high) * (cols // k_parts)
                share = given.get("share", 1)
                if "share" in given and ceil(form.n / share) > most:
                    continue
                while ceil(form.n / share) > most:
                    share *= 2
                while True:
                    yield replace(
                        base, share=share, across=cols // k_parts, group_parts=group_parts, c_parts=c_parts,
                        t_parts=t_parts, r_parts=r_parts, s_parts=s_parts, k_parts=k_parts,
                    )  # fmt: skip
                    if "share" in given or share >= form.n or share >= 4 * ceil(form.n / most):
                        break
                    share *= 2


def _uneven(base: Tiling, chip: ChipSpec, parts: tuple[int, ...], given: Mapping[str, int]) -> Iterator[Tiling]:
    """Yield one team over all columns of the mesh, if filters do not divide by them: the rest is dealt by channels."""
    form, cols = base.form, chip.mesh.cols
    each = base.k // GROUP // cols * GROUP
    share = 1 << (form.n - 1).bit_length()
    if form.groups > 1 or base.bias or base.vector or not each or base.k == each * cols or "share" in given:
        return
    c_parts, t_parts, r_parts, s_parts = parts
    yield replace(
        base, share=share, across=1, c_parts=c_parts, t_parts=t_parts, r_parts=r_parts, s_parts=s_parts, k_parts=cols,
        rest=base.k - each * cols,
    )  # fmt: skip


def _parts(size: int, most: int, granule: int) -> list[int]:
    """Return the part counts worth trying: for every size of a part, the fewest parts that reach it, none empty."""
    units = ceil(size / granule)
    return sorted({ceil(units / ceil(units / p)) for p in range(1, min(units, most) + 1)})


def _banded(shape: Tiling, given: Mapping[str, int]) -> Iterator[Tiling]:
    """Yield bands from whole images down to a row."""
    t, h, _ = shape.axes
    if "frames" in given or "rows" in given:
        yield replace(shape, frames=given.get("frames", 1), rows=given.get("rows", h.out))
        return
    for parts in _parts(t.out, t.out, 1)[:24]:
        yield replace(shape, frames=ceil(t.out / parts), rows=h.out)
    for parts in _parts(h.out, h.out, 1)[1:]:
        yield replace(shape, frames=1, rows=ceil(h.out / parts))


def _checked(form: Geometry, given: Mapping[str, int]) -> dict[str, int]:
    """Return tiling parameters by name; InputError names one that does not exist or its range."""
    t, h, _ = frame_axes(form)
    limits = {"share": 1 << (form.n - 1).bit_length(), "frames": t.out, "rows": h.out}
    for name, value in given.items():
        if name not in limits:
            raise InputError(f"a weight gradient has no tiling parameter {name!r}; use one of {', '.join(limits)}")
        if type(value) is not int or not 1 <= value <= limits[name]:
            raise InputError(f"tiling parameter {name} must be a whole number from 1 to {limits[name]}, got {value!r}")
    share = given.get("share", 1)
    if share & (share - 1):
        raise InputError(f"tiling parameter share={share} is no power of two; use {share & ~(share & (share - 1))}")
    return dict(given)
