"""Which taps land where in a data gradient: residue classes of an axis, its bands, and the products of a tile."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, product
from math import ceil, gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.problem.convolution import Axis

__all__ = [
    "TRIVIAL",
    "Band",
    "Hole",
    "Product",
    "Residue",
    "Schedule",
    "Source",
    "Turn",
    "band",
    "kinds",
    "residues",
    "schedule",
    "turns",
]

TRIVIAL = Axis(size=1, taps=1, stride=1, pad=0, dilation=1)


class Residue(NamedTuple):
    """The positions first, first + stride, ... of an axis: all of them read the same taps, each at one distance.

    taps ascend; position number i reads output i + offset at each tap, and offsets fall by `fall` from tap to tap,
    which are `step` apart.
    """

    first: int
    taps: tuple[int, ...]
    offsets: tuple[int, ...]
    step: int
    fall: int


def residues(axis: Axis) -> tuple[Residue, ...]:
    """Return the residue classes of the positions of an axis, modulo its stride."""
    common = gcd(axis.stride, axis.dilation)
    found = []
    for first in range(min(axis.stride, axis.size)):
        taps = [t for t in range(axis.taps) if (first + axis.pad - t * axis.dilation) % axis.stride == 0]
        offsets = tuple((first + axis.pad - t * axis.dilation) // axis.stride for t in taps)
        found.append(Residue(first, tuple(taps), offsets, axis.stride // common, axis.dilation // common))
    return tuple(found)


class Run(NamedTuple):
    """Positions low..high - 1 of a residue class for which the same taps land: `many` of them, from number first.

    at: where the window holds what the last of these taps reads for position 0.
    """

    low: int
    high: int
    first: int
    many: int
    at: int


class Source(NamedTuple):
    """A part of a window that one band owns: `delta` bands from this one, `length` outputs from `start` of its own."""

    delta: int
    into: int
    start: int
    length: int


class Band(NamedTuple):
    """A stretch of an axis, told so that bands which differ in their place alone are equal.

    size: positions; counts: of each residue class; window: the outputs [start, stop) that it reads, from the output
    at the band's own place on; lands: for each residue class and tap, the positions [low, high) where it lands;
    sources: who owns the window; owned: the outputs that belong to this band where gradients stay on the chip.
    """

    size: int
    counts: tuple[int, ...]
    window: tuple[int, int]
    lands: tuple[tuple[tuple[int, int], ...], ...]
    sources: tuple[Source, ...]
    owned: int

    @property
    def reads(self) -> int:
        """Return the outputs in the window."""
        return self.window[1] - self.window[0]

    @property
    def local(self) -> bool:
        """Return whether the window is exactly what the band owns."""
        return self.sources == (Source(0, 0, 0, self.owned),)


@lru_cache(maxsize=4096)
def band(axis: Axis, extent: int, index: int) -> Band:
    """Return band `index` of an axis cut in bands of `extent` positions, a multiple of the stride."""
    low = index * extent
    size = min(extent, axis.size - low)
    origin, counts, lands = low // axis.stride, [], []
    least, most = axis.out, 0
    for part in residues(axis):
        count = max(0, ceil((size - part.first) / axis.stride))
        counts.append(count)
        spans = []
        for offset in part.offsets:
            first = min(count, max(0, -offset - origin))
            last = max(first, min(count, axis.out - offset - origin))
            spans.append((first, last))
            if last > first:
                least, most = min(least, first + origin + offset), max(most, last + origin + offset)
        lands.append(tuple(spans))
    least = min(least, most)
    sources = []
    step, final = max(1, extent // axis.stride), ceil(axis.size / extent) - 1
    for other in range(min(final, least // step), min(final, max(most - 1, 0) // step) + 1):
        begin, end = _owned(axis, extent, other)
        first, last = max(least, begin), min(most, end)
        if first < last:
            sources.append(Source(other - index, first - least, first - begin, last - first))
    begin, end = _owned(axis, extent, index)
    window = (least - origin, most - origin) if most > least else (0, 0)
    return Band(size, tuple(counts), window, tuple(lands), tuple(sources), end - begin)


def _owned(axis: Axis, extent: int, index: int) -> tuple[int, int]:
    """Return the outputs [begin, end) that belong to a band: those at its own place; the last one has the rest."""
    step, last = extent // axis.stride, ceil(axis.size / extent) - 1
    begin = min(axis.out, index * step)
    return begin, axis.out if index == last else min(axis.out, begin + step)


@lru_cache(maxsize=1024)
def kinds(axis: Axis, extent: int) -> tuple[tuple[int, int, Band], ...]:
    """Return (first, end, band) of the stretches of bands that differ in their place alone."""
    found: list[tuple[int, int, Band]] = []
    for index in range(ceil(axis.size / extent)):
        one = band(axis, extent, index)
        if found and found[-1][2] == one:
            found[-1] = (found[-1][0], index + 1, one)
        else:
            found.append((index, index + 1, one))
    return tuple(found)


def runs(axis: Axis, stretch: Band, number: int, low: int, high: int) -> Iterator[Run]:
    """Yield the runs of residue class `number` over taps [low, high) of the filter: each position in one run at most.

    For any position the taps that land follow each other, because outputs fall as taps rise.
    """
    part, spans = residues(axis)[number], stretch.lands[number]
    inside = [t for t, tap in enumerate(part.taps) if low <= tap < high and spans[t][0] < spans[t][1]]
    cuts = sorted({edge for t in inside for edge in spans[t]})
    for first, last in pairwise(cuts):
        here = [t for t in inside if spans[t][0] <= first and last <= spans[t][1]]
        if here:
            at = part.offsets[here[-1]] - stretch.window[0]
            yield Run(first, last, here[0], len(here), at)


class Product(NamedTuple):
    """One product of a tile: accumulators [row, row + rows) x [low, high) of a class, += window rows x filter taps.

    read: the row of the window for `row`; at: the column of the window that the last tap reads for column `low`; tap,
    step, taps: columns of the filter; fall: how far apart they read; fresh: the accumulators hold nothing yet.
    """

    row: int
    rows: int
    low: int
    high: int
    read: int
    at: int
    tap: int
    step: int
    taps: int
    fall: int
    fresh: bool


class Turn(NamedTuple):
    """What is multiplied with one chunk of the filter for one residue class of positions (frames, rows, columns).

    chunk: frame tap, row tap and columns [low, high) of the filter.
    """

    numbers: tuple[int, int, int]
    chunk: tuple[int, int, int, int]


class Hole(NamedTuple):
    """Accumulators [row, row + rows) x [low, high) of a class that no tap reaches: gradients of +0."""

    numbers: tuple[int, int, int]
    row: int
    rows: int
    low: int
    high: int


class Schedule(NamedTuple):
    """The products of a tile for each turn, and the accumulators that no turn reaches."""

    turns: tuple[tuple[Product, ...], ...]
    holes: tuple[Hole, ...]


def turns(axes: tuple[Axis, Axis, Axis], width: int) -> tuple[Turn, ...]:
    """Return all turns of a tile in an order that keeps every chain; chunks hold `width` columns of the filter."""
    found = []
    parts = [residues(axis) for axis in axes]
    cuts = [(low, min(low + width, axes[2].taps)) for low in range(0, axes[2].taps, width)]
    for numbers in product(*(range(len(part)) for part in parts)):
        frames, rows, columns = (part[number] for part, number in zip(parts, numbers, strict=True))
        for t, r, (low, high) in product(frames.taps, rows.taps, cuts):
            if any(low <= tap < high for tap in columns.taps):
                found.append(Turn((numbers[0], numbers[1], numbers[2]), (t, r, low, high)))
    return tuple(found)


@lru_cache(maxsize=4096)
def schedule(axes: tuple[Axis, Axis, Axis], bands: tuple[Band, Band, Band], width: int) -> Schedule:
    """Return the products of a tile whose frames, rows and columns are `bands`, for every turn of `turns`.

    Where a tap lands on some positions of a class only, the accumulators are taken in rectangles: those of the tap,
    less those that already hold a sum (which go on) or do not (which start from +0).
    """
    seen: dict[tuple[int, int, int], NDArray[np.bool_]] = {}
    for numbers in product(*(range(len(part.counts)) for part in bands)):
        frames, rows, columns = (part.counts[number] for part, number in zip(bands, numbers, strict=True))
        seen[numbers[0], numbers[1], numbers[2]] = np.zeros((frames * rows, columns), np.bool_)
    done = tuple(
        tuple(sorted(_products(axes, bands, turn, seen[turn.numbers]), key=_size, reverse=True))
        for turn in turns(axes, width)
    )  # fmt: skip
    holes = [Hole(at, *box) for at, where in seen.items() for box, held in _boxes(where, 0, *where.shape) if not held]
    return Schedule(done, tuple(holes))


def _size(one: Product) -> int:
    """Return the accumulators of a product: small ones come last, which would wait for the accesses of a rounding."""
    return one.rows * (one.high - one.low)


def _products(
    axes: tuple[Axis, Axis, Axis], bands: tuple[Band, Band, Band], turn: Turn, seen: NDArray[np.bool_]
) -> Iterator[Product]:
    """Yield the products of one turn; `seen` says which accumulators (row, column) hold a sum, and is brought on."""
    numbers, (tap_t, tap_r, low, high) = turn
    frames, rows, columns = (residues(axis)[number] for axis, number in zip(axes, numbers, strict=True))
    t, r = frames.taps.index(tap_t), rows.taps.index(tap_r)
    (t0, t1), (r0, r1) = bands[0].lands[numbers[0]][t], bands[1].lands[numbers[1]][r]
    height, deep = bands[1].counts[numbers[1]], bands[1].reads
    if t0 >= t1 or r0 >= r1:
        return
    for run in runs(axes[2], bands[2], numbers[2], low, high):
        for frame in range(t0, t1):
            read = (frame + frames.offsets[t] - bands[0].window[0]) * deep + rows.offsets[r] - bands[1].window[0]
            base = frame * height
            window = seen[base + r0 : base + r1, run.low : run.high]
            for (top, tall, left, right), held in _boxes(window, base + r0, *window.shape):
                yield Product(
                    top, tall, run.low + left, run.low + right, read + top - base, run.at + run.low + left,
                    columns.taps[run.first], columns.step, run.many, columns.fall, not held,
                )  # fmt: skip
            window[:] = True


def _boxes(
    where: NDArray[np.bool_], base: int, rows: int, columns: int
) -> Iterator[tuple[tuple[int, int, int, int], bool]]:
    """Yield ((row + base, rows, low, high), value): rectangles of one value that cover `where`, few of them."""
    if not rows or not columns:
        return
    tops = [0, *(int(i) + 1 for i in np.flatnonzero((where[1:] != where[:-1]).any(axis=1))), rows]
    for top, below in pairwise(tops):
        line = where[top]
        edges = [0, *(int(j) + 1 for j in np.flatnonzero(line[1:] != line[:-1])), columns]
        for left, right in pairwise(edges):
            yield (base + top, below - top, left, right), bool(line[left])
