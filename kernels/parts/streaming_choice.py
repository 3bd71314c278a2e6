"""Which cut `streaming_conv` takes on a chip, in closed form: the whole window where that pays, else fewest cycles."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, inf

from accel.errors import CapacityError, InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.parts.streaming_strips import Strips, axes
from accel.problem import StreamingConv

__all__ = ["choose", "cycles", "memory_cycles", "strip_cycles"]

TILES = (256, 128, 64, 32, 16, 8)
"""Output pixels of a tile, from the size that hides issue and drain of the matrix unit to the smallest one."""

ROOMY = 64
"""Output pixels of a tile down to which the whole window is kept, where its cycles allow."""

ENOUGH_TILES = 8
"""Tiles of a strip, for which a smaller tile is taken: memory then reads the next frame between results."""

CLOSE = 1.02
"""Cuts within 2 % of the fewest cycles count as equal: the largest tile is taken, for fewer instructions, and of those
cuts the one with the most turns, in which no node is far behind."""


def choose(chip: ChipSpec, problem: StreamingConv, **given: int) -> Strips:
    """Return the cut with the lowest strips, so that all nodes work and frames come early.

    The whole window stays on chip where that fits a node's SRAM in tiles of 64 pixels or more and takes at most 2 %
    more cycles in closed form (`cycles`) than any cut it compares; else of those the one with the fewest is taken, or
    one within 2 % of it in larger tiles. given: high, wide, slots, kept, tall, span where they are to be other than the
    default. InputError for values out of range, CapacityError where no cut fits, UnsupportedError where none has its
    halos in neighbours, or cameras are too many.
    """
    _check(problem, given)
    nodes, room = chip.mesh.rows * chip.mesh.cols, chip.node.sram_bytes
    if problem.cameras > nodes:
        raise UnsupportedError(
            f"{problem.label} does not fit {chip.name}: a node takes a strip of one camera, and there are {nodes} "
            "nodes; use fewer cameras at a time"
        )
    whole = next((strips for strips in _whole(problem, nodes, room, given) if strips.sram_bytes() <= room), None)
    times = _fitting(chip, problem, given)
    if whole is not None and cycles(chip, whole) <= CLOSE * min(times.values(), default=inf):
        return whole
    if times:
        close = [s for s, time in times.items() if time <= CLOSE * min(times.values())]
        return min(close, key=lambda s: (-s.tall * s.wide, -s.turns, times[s], _traffic(s), -s.kept, s.span))
    sizes = [cut.sram_bytes() for strips in _lowest(problem, nodes, given) for cut in _cuts(strips, given)]
    if not sizes:
        raise UnsupportedError(
            f"{problem.label} does not fit {chip.name}: no cut has its halos in neighbours alone; use higher strips"
        )
    raise CapacityError(
        f"the smallest cut needs {min(sizes):,} B of SRAM a node; use smaller frames, fewer filters or more nodes"
    )


def _fitting(chip: ChipSpec, problem: StreamingConv, given: dict[str, int]) -> dict[Strips, int]:
    """Return the cycles of the cuts that fit a node, without those that cannot be within 2 % of the fewest."""
    nodes, room = chip.mesh.rows * chip.mesh.cols, chip.node.sram_bytes
    times: dict[Strips, int] = {}
    fewest = inf
    for strips in _lowest(problem, nodes, given):
        if strips.ring_bytes > room or memory_cycles(chip, _leanest(strips)) > CLOSE * fewest:
            continue
        times |= {cut: cycles(chip, cut) for cut in _cuts(strips, given) if cut.sram_bytes() <= room}
        fewest = min(times.values(), default=inf)
    return times


def _leanest(strips: Strips) -> Strips:
    """Return the cut that refetches the fewest bytes: largest blocks, or single outputs where strides leave gaps."""
    tall, span = (
        size if (axis.taps - 1) * axis.dilation + 1 >= axis.stride else 1
        for axis, size in ((strips.height, strips.high), (strips.width, strips.q))
    )
    return strips.cut(tall, 1, span)


def cycles(chip: ChipSpec, strips: Strips) -> int:
    """Return the cycles of one output of every camera in closed form: the larger of memory's and a full strip's.

    Memory: bytes fetched, fetched again and stored over the rate of all ports. A strip: for every tile and frame of the
    window the steps of the matrix unit, the drain of its accumulator blocks, fill and issue (docs/cycle-model.md).
    """
    return max(memory_cycles(chip, strips), strip_cycles(chip, strips))


def memory_cycles(chip: ChipSpec, strips: Strips) -> int:
    """Return memory's part of `cycles`."""
    rate = sum(port.bytes_per_cycle * port.efficiency for port in chip.ports)
    return ceil((_traffic(strips) + strips.stored_bytes) / rate)


def strip_cycles(chip: ChipSpec, strips: Strips) -> int:
    """Return the full strip's part of `cycles`."""
    P, unit = strips.problem, chip.node.matrix
    runs = 1 if strips.width.dilation == 1 else P.r  # matmuls of a frame
    steps = ceil(P.r * P.s * P.c / runs / unit.k) * unit.step_cycles[P.dtype]
    columns = ceil(P.k / unit.n)
    drain = ceil(unit.m * unit.n * 4 / chip.node.port_bytes / chip.node.store_ports)
    fixed = unit.fill_cycles + chip.node.issue_cycles
    total = 0
    for rows, times in ((strips.tall, strips.high // strips.tall), (strips.high % strips.tall, 1)):
        for span, blocks in ((strips.span, strips.q // strips.span), (strips.q % strips.span, 1)):
            for wide, tiles in ((strips.wide, span // strips.wide), (span % strips.wide, 1)):
                if rows and span and wide:
                    total += times * blocks * tiles * (ceil(rows * wide / unit.m) * columns * (steps + drain) + fixed)
    return P.kt * runs * total


def _check(problem: StreamingConv, given: dict[str, int]) -> None:
    p, q = (axis.out for axis in axes(problem))
    ranges = {"high": (1, p), "wide": (1, q), "slots": (0, 0), "kept": (0, problem.kt), "tall": (1, p), "span": (1, q)}
    kept = given.get("kept", problem.kt)
    if kept:
        ranges["slots"] = (kept + 1, max(kept + 1, problem.frames))
    for name, value in given.items():
        if name not in ranges:
            raise InputError(f"streaming_conv has no tiling parameter {name!r}; use one of {', '.join(ranges)}")
        low, high = ranges[name]
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"streaming_conv tiling parameter {name}={value!r} is outside {low}..{high}")


def _heights(problem: StreamingConv, nodes: int, given: dict[str, int]) -> Iterator[int]:
    """Yield the heights of strips, from low to high, that need no more nodes than there are."""
    p = axes(problem)[0].out
    for high in [given["high"]] if "high" in given else range(1, p + 1):
        if ceil(p / high) * problem.cameras <= nodes:
            yield high


def _whole(problem: StreamingConv, nodes: int, room: int, given: dict[str, int]) -> Iterator[Strips]:
    """Yield cuts that keep the whole window, large tiles first.

    The ring has a slot for the frame that arrives and no spare one: a second changes cycles by 2 % at most, either way.
    """
    kt, q = problem.kt, axes(problem)[1].out
    if given.get("kept", kt) != kt:
        return
    for high in _heights(problem, nodes, given):
        tall = min(given.get("tall", high), high)
        strips = Strips(problem, high, 1, given.get("slots", kt + 1), kt, tall, given.get("span", q))
        if strips.ring_bytes > room:
            return  # higher strips need more
        if strips.legal():
            for wide in [given["wide"]] if "wide" in given else _widths(tall, q, high * q):
                yield strips.cut(tall, min(wide, strips.span), strips.span)


def _widths(tall: int, q: int, pixels: int) -> list[int]:
    """Return tile widths: the largest first that give a strip of so many pixels `ENOUGH_TILES`, then smaller ones."""
    sizes = [size for size in TILES if size >= ROOMY]
    enough = [size for size in sizes if pixels >= ENOUGH_TILES * size]
    return [_wide(size, tall, q) for size in (*enough, *sorted(set(sizes) - set(enough)))]


def _lowest(problem: StreamingConv, nodes: int, given: dict[str, int]) -> Iterator[Strips]:
    """Yield the lowest strips that can be for every number of frames that stay, most frames first."""
    only = given.get("kept", problem.kt if "slots" in given else None)
    for kept in range(problem.kt, -1, -1) if only is None else (only,):
        for high in _heights(problem, nodes, given):
            strips = Strips(problem, high, 1, given.get("slots", kept + 1 if kept else 0), kept, 1, 1)
            if strips.legal():
                yield strips
                break


def _cuts(strips: Strips, given: dict[str, int]) -> Iterator[Strips]:
    """Yield tiles and blocks of one cut in strips."""
    heights = {1 << i for i in range(strips.high.bit_length())} | {strips.high}
    q = strips.q
    for tall in {min(given["tall"], strips.high)} if "tall" in given else heights:
        widths = {given["wide"]} if "wide" in given else {_wide(size, tall, q) for size in TILES if size >= tall}
        for wide in widths or ({1} if "tall" in given else ()):  # one pixel wide where even that is over the largest
            spans = {min(q, wide * n) for n in _few(ceil(q / wide))} if strips.older else {q}
            for span in {given["span"]} if "span" in given else spans:
                yield strips.cut(tall, min(wide, span), span)


def _few(most: int) -> Iterator[int]:
    """Yield 1, 2, 3, 4, 6, 8, 12, 16 ... below `most`, and `most`."""
    yield from {m << i for i in range(most.bit_length()) for m in (1, 3) if m << i < most} | {most}


def _traffic(strips: Strips) -> int:
    return strips.fetched_bytes + strips.refetched_bytes


def _wide(size: int, tall: int, q: int) -> int:
    """Return the width of a tile of about `size` pixels in `tall` rows."""
    return max(1, min(q, ceil(size / tall)))
