"""Images streamed through nodes in bands of rows: what each result row reads is fetched with it, halo included.

A kernel that reads a few rows around each row that it writes says which (`Stencil`), and what it does with a tile that
has them. Tiles are (image, band of result rows, block of channels), whole rows wide; they are dealt to the nodes in
turn, images fastest, so that most nodes are at the same band at a time: bands that differ in their place alone are one
role. Three threads: `load` fetches the rows of the next tile, `compute` works, `store` sends results away.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.lang import SRAM_ALIGN, K
from accel.numerics import fmt

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Band", "BandTiling", "Read", "Stencil", "Stretch", "choose_bands", "fill_in_bands", "run_bands"]

MOST_SEQUENCES = 24  # kinds of work that nodes may have: roles of a program, of which there are at most 64
MOST_TILES = 2048  # of a node, one after the other in an unrolled program
CHANNELS = 32  # blocks of channels are no narrower where there is a choice: 64 bytes of bf16 lie together in memory


class Read(NamedTuple):
    """A tensor (N, rows, width, C) that is read: its width and format."""

    width: int
    dtype: str


@dataclass(frozen=True)
class Stencil:
    """What a band of result rows needs.

    images, rows, width, channels, dtype: of the result (N, rows, width, C); reads: tensors by name; reach(low, high):
    rows [first, end) of each that rows [low, high) of the result need; kind(low, high): all that the arithmetic of a
    band depends on, so that bands of one kind are one role; work(kind): buffers by name, (elements a channel, format).
    grain: bands of a multiple of so many rows are alike; constants: bytes of SRAM that the kernel takes beside these.
    """

    images: int
    rows: int
    width: int
    channels: int
    dtype: str
    reads: Mapping[str, Read]
    reach: Callable[[int, int], Mapping[str, tuple[int, int]]]
    kind: Callable[[int, int], Hashable]
    work: Callable[[Any], Mapping[str, tuple[int, str]]]
    grain: int = 1
    constants: int = 0


class Band(NamedTuple):
    """Rows [low, high) of the result and what they read."""

    low: int
    high: int
    reach: Mapping[str, tuple[int, int]]
    kind: Any

    @property
    def alike(self) -> Hashable:
        """Return what bands have in common that differ in their place alone."""
        return self.high - self.low, tuple(end - first for first, end in self.reach.values()), self.kind


class Stretch(NamedTuple):
    """Bands [begin, end) that differ in their place alone: the first row of each tensor, and the step between bands."""

    begin: int
    end: int
    places: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class BandTiling:
    """How images are cut: bands of `band` result rows, blocks of `block` channels, `slots` of each tensor."""

    stencil: Stencil
    nodes: int
    band: int
    block: int
    slots: int

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """Return the bands of an image."""
        s, found = self.stencil, []
        for low in range(0, s.rows, self.band):
            high = min(s.rows, low + self.band)
            found.append(Band(low, high, s.reach(low, high), s.kind(low, high)))
        return tuple(found)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """Return the bands in stretches of bands that are alike and evenly spaced."""
        firsts = [{**{name: span[0] for name, span in b.reach.items()}, "result": b.low} for b in self.bands]
        found: list[Stretch] = []
        for index, band in enumerate(self.bands):
            if found and self.bands[found[-1].begin].alike == band.alike:
                begin, end, places = found[-1]
                steps = {name: firsts[index][name] - firsts[index - 1][name] for name in places}
                if end - begin == 1 or all(steps[name] == step for name, (_, step) in places.items()):
                    spaced = {name: (at, steps[name]) for name, (at, _) in places.items()}
                    found[-1] = Stretch(begin, index + 1, spaced)
                    continue
            found.append(Stretch(index, index + 1, {name: (at, 0) for name, at in firsts[index].items()}))
        return tuple(found)

    @property
    def blocks(self) -> int:
        """Return the blocks of channels."""
        return ceil(self.stencil.channels / self.block)

    @property
    def tiles(self) -> int:
        """Return the number of tiles."""
        return len(self.bands) * self.blocks * self.stencil.images

    @property
    def per(self) -> int:
        """Return the most tiles of a node."""
        return ceil(self.tiles / self.nodes)

    @cached_property
    def most(self) -> dict[str, int]:
        """Return the most rows of each tensor that a band reads."""
        return {name: max(1, *(b.reach[name][1] - b.reach[name][0] for b in self.bands)) for name in self.stencil.reads}

    def buffers(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and format of every buffer by name, in the order of allocation."""
        s = self.stencil
        found: dict[str, tuple[tuple[int, ...], str]] = {
            name: ((self.slots, self.most[name], read.width, self.block), read.dtype) for name, read in s.reads.items()
        }
        found["result"] = (self.slots, self.band, s.width, self.block), s.dtype
        sizes: dict[str, tuple[int, str]] = {}
        for one in {b.kind: b for b in self.bands}.values():
            for name, (size, dtype) in s.work(one.kind).items():
                sizes[name] = max(size, sizes.get(name, (0, dtype))[0]), dtype
        return found | {name: ((size * self.block,), dtype) for name, (size, dtype) in sizes.items()}

    @cached_property
    def sram_bytes(self) -> int:
        """Return the SRAM of a node, in bytes."""
        sizes = [prod(shape) * fmt(dtype).bytes for shape, dtype in self.buffers().values()]
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in (*sizes, self.stencil.constants))

    @cached_property
    def sequences(self) -> int:
        """Return in how many ways tiles follow each other on a node."""
        s, many = self.stencil, self.blocks * self.stencil.images
        ragged, found = s.channels % self.block != 0, set()
        kinds = [at for at, one in enumerate(self.stretches) for _ in range(one.begin, one.end)]
        for node in range(min(self.nodes, self.tiles)):
            tiles = range(node, self.tiles, self.nodes)
            found.add(tuple(
                (kinds[t // many], ragged and t % many // s.images == self.blocks - 1) for t in tiles
            ))  # fmt: skip
            if len(found) > MOST_SEQUENCES:
                break
        return len(found)

    def cycles(self, chip: ChipSpec) -> float:
        """Return the estimated cycles: memory traffic with halos, the busiest node's port, what nothing hides."""
        s, rate = self.stencil, max(chip.memory_bytes_per_cycle, 1e-9)
        many, item = s.images * s.channels, {name: fmt(read.dtype).bytes for name, read in s.reads.items()}
        read = sum(
            many * read.width * item[name] * sum(b.reach[name][1] - b.reach[name][0] for b in self.bands)
            for name, read in s.reads.items()
        )
        written = many * s.rows * s.width * fmt(s.dtype).bytes
        tile_in = sum(self.most[name] * r.width * self.block * item[name] for name, r in s.reads.items())
        tile_out = self.band * s.width * self.block * fmt(s.dtype).bytes
        port = self.per * (tile_in + tile_out) / chip.node.mesh_bytes_per_cycle
        busy = min(self.nodes, self.tiles)
        ends = busy * (tile_in + tile_out) / rate
        lost = port if self.slots == 1 else 0.0
        return max((read + written) / rate, port, self.per * (tile_in + tile_out) / 4) + ends + lost + 100 * self.per


def choose_bands(chip: ChipSpec, stencil: Stencil) -> BandTiling:
    """Return the default tiling: of those that fit SRAM the one with the least estimated cycles.

    CapacityError where not even one row of the result and what it reads fit, one channel at a time.
    """
    found: list[tuple[float, int, BandTiling]] = []
    blocks = dict.fromkeys(ceil(stencil.channels / n) for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128))
    wide = [b for b in blocks if b >= CHANNELS] or [stencil.channels]
    narrow = [b for b in (*blocks, 16, 8, 4, 2, 1) if b < min(CHANNELS, stencil.channels)]
    for candidates in (wide, narrow):
        for block in candidates:
            for band in _spread(stencil.rows, stencil.grain):
                for slots in (2, 1):
                    tiling = BandTiling(stencil, chip.mesh.rows * chip.mesh.cols, band, block, slots)
                    if tiling.sram_bytes <= chip.node.sram_bytes and tiling.per <= MOST_TILES:
                        found.append((tiling.cycles(chip), len(found), tiling))
                        break
        for _, _, tiling in sorted(found, key=lambda item: item[:2]):
            if tiling.sequences <= MOST_SEQUENCES:
                return tiling
    raise CapacityError(
        f"a row of {stencil.width} results and what it reads do not fit SRAM; use smaller images, or cut them"
    )


def _spread(size: int, grain: int) -> list[int]:
    """Return extents that cut `size` into 1, 2, 3, ... nearly equal parts, ever coarser; multiples of grain first."""
    found, parts = [size], 1
    while found[-1] > 1:
        parts = parts + 1 if parts < 8 else ceil(parts * 1.25)
        extent = ceil(size / parts)
        if extent > grain:
            extent = grain * ceil(extent / grain)
        if extent < found[-1]:
            found.append(extent)
    return found


def fill_in_bands(tiling: BandTiling, chip: ChipSpec, owner: str, **fields: int) -> BandTiling:
    """Return `tiling` with band, block or slots replaced; InputError for another name, or what does not fit."""
    values = {"band": tiling.band, "block": tiling.block, "slots": tiling.slots}
    most = {"band": tiling.stencil.rows, "block": tiling.stencil.channels, "slots": 8}
    for name, value in fields.items():
        given: object = value
        if name not in values:
            raise InputError(f"{owner} has no tiling parameter {name!r}; it has {', '.join(values)}")
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most[name]:
            raise InputError(f"{owner} tiling parameter {name}={value!r} is not in 1..{most[name]}; use one that is")
        values[name] = given
    new = BandTiling(tiling.stencil, tiling.nodes, values["band"], values["block"], values["slots"])
    if new.sram_bytes > chip.node.sram_bytes:
        raise InputError(
            f"{owner} tiling needs {new.sram_bytes} B of SRAM a node, {chip.name} has {chip.node.sram_bytes}; "
            "use smaller bands or blocks"
        )
    if new.sequences > MOST_SEQUENCES or new.per > MOST_TILES:
        raise InputError(f"{owner} tiling makes too many kinds of work, or too many tiles; use larger bands")
    return new


class _Tile(NamedTuple):
    """A tile of this node: its image, channels and rows may differ between the nodes of a role; sizes do not."""

    image: Any
    channel: Any
    channels: int
    moved: Any
    band: Band


def run_bands(
    k: K, tiling: BandTiling, inputs: Mapping[str, View], result: View,
    arithmetic: Callable[[K, Any, Mapping[str, View], View, Mapping[str, View]], None],
    prepare: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Emit the threads of a node. inputs: the tensors of `stencil.reads`; result: the tensor written.

    arithmetic(k, kind, rows, result, work) gets the rows of each input (rows, width, channels), the result's, and the
    work buffers by name, as long as its channels need; prepare: instructions before the first tile.
    """
    s = tiling.stencil
    held = {name: k.sram(shape, dtype, name) for name, (shape, dtype) in tiling.buffers().items()}
    names = (*s.reads, "result")
    full = {name: k.sem(tiling.slots, f"{name}_full") for name in names}
    free = {name: k.sem(tiling.slots, f"{name}_free", 1) for name in names}
    tiles = _tiles(k, tiling)
    if not tiles:
        return

    @k.thread
    def load() -> None:
        for number, tile in enumerate(tiles):
            slot = number % tiling.slots
            for name in s.reads:
                first, end = tile.band.reach[name]
                if end > first:
                    k.wait(free[name][slot])
                    source = inputs[name][
                        tile.image, tile.moved[name] : tile.moved[name] + end - first, :,
                        tile.channel : tile.channel + tile.channels,
                    ]  # fmt: skip
                    k.copy(held[name][slot, : end - first, :, : tile.channels], source, done=full[name][slot])

    @k.thread
    def compute() -> None:
        if prepare is not None:
            prepare()
        for number, tile in enumerate(tiles):
            slot, rows = number % tiling.slots, dict[str, Any]()
            for name in s.reads:
                first, end = tile.band.reach[name]
                if end > first:
                    k.wait(full[name][slot])
                    rows[name] = held[name][slot, : end - first, :, : tile.channels]
            k.wait(free["result"][slot])
            work = {
                name: held[name][: size * tile.channels].split(0, tile.channels)
                for name, (size, _) in s.work(tile.band.kind).items()
            }
            out = held["result"][slot, : tile.band.high - tile.band.low, :, : tile.channels]
            arithmetic(k, tile.band.kind, rows, out, work)
            for name in rows:
                k.inc(free[name][slot])
            k.inc(full["result"][slot])

    @k.thread
    def store() -> None:
        for number, tile in enumerate(tiles):
            slot, high = number % tiling.slots, tile.band.high - tile.band.low
            k.wait(full["result"][slot])
            target = result[
                tile.image, tile.moved["result"] : tile.moved["result"] + high, :,
                tile.channel : tile.channel + tile.channels,
            ]  # fmt: skip
            k.copy(target, held["result"][slot, :high, :, : tile.channels], sent=free["result"][slot])


def _tiles(k: K, tiling: BandTiling) -> list[_Tile]:
    """Return the tiles of this node in order; nodes split by what is in them."""
    s, found = tiling.stencil, []
    node = k.row * k.mesh[1] + k.col
    for turn in range(tiling.per):
        number = node + turn * tiling.nodes
        if (turn + 1) * tiling.nodes > tiling.tiles and number >= tiling.tiles:
            break
        image, rest = number % s.images, number // s.images
        block, index = rest % tiling.blocks, rest // tiling.blocks
        stretch = next(one for one in tiling.stretches if one.end == len(tiling.bands) or index < one.end)
        channels = tiling.block
        if s.channels % tiling.block and block == tiling.blocks - 1:
            channels = s.channels - (tiling.blocks - 1) * tiling.block
        moved = {name: at + (index - stretch.begin) * step for name, (at, step) in stretch.places.items()}
        found.append(_Tile(image, block * tiling.block, channels, moved, tiling.bands[stretch.begin]))
    return found
