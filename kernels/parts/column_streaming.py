"""Channels of images dealt over the nodes: the skeleton of every kernel that reduces over pixels, not along a row.

A tensor (images, pixels, channels) is cut in *tasks*, each a slice of the channels of one image; a *team* of nodes has
its pixels, each member an aligned run of 8 * 2^k of them, so that sums over the team follow the tree of
`sum_orders`. Where there are more tasks than nodes a team is one node; where there are fewer, teams grow, then slices
shrink. A member's pixels stay in SRAM between the sweeps of a task. So a team takes thinner slices, one after the
other, until SRAM holds two, of which one is summed while the other arrives or leaves, or at least one; where not even
the thinnest fits, its pixels are read again for each sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.column_sums import ColumnSums, MeshTree, chunk_of, levels_of
from accel.kernels.parts.flows import Piece, Stream, Sweep
from accel.kernels.parts.row_streaming import node_index, share
from accel.kernels.parts.sum_orders import BLOCK
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["ColumnPlan", "ColumnStream", "ColumnTiling", "TeamSums", "choose_columns"]

ELEMENTS = 8192
"""Elements of a piece that a tiling aims at: 512 passes of the vector unit in fp32."""
WIDTH = 1024
"""Channels of a slice at most, unless a group is wider."""
NARROW = 64
"""Channels below which slices do not shrink to keep more nodes busy: 128 bytes in bf16."""
BURST = 16
"""Channels below which slices do not shrink for SRAM to hold a task, or two: 32 bytes in bf16, a burst of a memory."""
SLOTS = 40
"""Slots of an input at most: two semaphores each, of 256 a node."""
OTHERS = 72
"""Semaphores left for outputs, statistics and two trees over the mesh, which ask with one a level."""
SPARE = 4096
"""SRAM left for what a plan does not count."""


@dataclass(frozen=True)
class ColumnTiling:
    """How (images, pixels, channels) are cut.

    groups teams of images (each `run` images in a row) times `lanes` teams of slices (each takes every lanes-th slice
    of `width` channels); `members` nodes a team with `chunk` pixels each, in pieces of `block` pixels. held: pixels
    stay in SRAM through all sweeps; ahead: slots of an input beyond what is held; depth: slots of anything else.
    """

    groups: int
    run: int
    lanes: int
    width: int
    members: int
    chunk: int
    block: int
    held: bool
    ahead: int = 1
    depth: int = 2

    @property
    def slots(self) -> int:
        """Slots of an input."""
        return ceil(self.chunk / self.block) + self.ahead if self.held else self.depth


@dataclass(frozen=True)
class ColumnPlan:
    """What a kernel keeps in SRAM: bytes an element of streamed inputs and outputs, fp32 buffers of a piece, numbers.

    sums: column sums that it takes at once; vectors: fp32 vectors of a slice; constants: bytes a channel of all;
    per_image: sums over images that it takes too.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    work: int
    sums: int
    vectors: int
    constants: int = 0
    per_image: int = 0

    def sram_bytes(self, channels: int, tiling: ColumnTiling) -> int:
        """Return the SRAM of a node in bytes, no less than what the kernel allocates."""
        t = tiling
        piece = t.block * t.width
        streams = piece * (
            t.slots * (1 if t.held else 2) * sum(self.reads) + t.depth * sum(self.writes) + 4 * self.work
        )
        unit = max(t.block, BLOCK)
        stack = self.sums * (levels_of(t.chunk, unit) + 1) + unit // BLOCK + self.per_image * (levels_of(t.run, 1) + 1)
        return streams + 4 * t.width * (stack + self.vectors) + channels * self.constants + SPARE


def choose_columns(
    chip: ChipSpec, images: int, pixels: int, channels: int, plan: ColumnPlan, *, granule: int = 1, **given: int
) -> ColumnTiling:
    """Return the default tiling, with block, held and depth as in `given`; slices are whole granules of channels.

    CapacityError where not even the smallest pieces fit; InputError for a field that is no tiling or no size.
    """
    for name, value in given.items():
        if name not in ("block", "held", "depth"):
            raise InputError(f"column tiling: unknown parameter {name!r}; use block, held or depth")
        low = 0 if name == "held" else 1
        if type(value) not in (int, bool) or value < low:
            raise InputError(f"column tiling: {name}={value!r} is no size; use a whole number from {low}")
    if given.get("block", BLOCK) & (given.get("block", BLOCK) - 1) or given.get("block", BLOCK) < BLOCK:
        raise InputError(
            f"column tiling: block={given['block']} does not fit sums of {BLOCK}; use {BLOCK} times a power of two"
        )
    widths = [most for most in (WIDTH >> i for i in range(WIDTH.bit_length())) if most >= granule] or [granule]
    wide = _cut(chip.mesh_nodes, images, pixels, channels, granule, widths[0] // granule * granule)
    slices = [_sliced(wide, channels, granule, 1 << i) for i in range(WIDTH.bit_length())]
    slices = [cut for i, cut in enumerate(slices) if i == 0 or slices[i - 1].width > cut.width >= BURST]
    narrower = (_cut(chip.mesh_nodes, images, pixels, channels, granule, most // granule * granule) for most in widths)
    for held, whole, cuts in ((True, True, slices), (True, False, slices), (False, False, narrower)):
        for cut in cuts:
            for tiling in _pieces(cut, channels, held, whole, given):
                enough = not held or OTHERS + 2 * tiling.slots * len(plan.reads) <= chip.node.semaphores
                if enough and plan.sram_bytes(channels, tiling) <= chip.node.sram_bytes:
                    return tiling
    cut = _cut(chip.mesh_nodes, images, pixels, channels, granule, granule)
    least = plan.sram_bytes(channels, replace(cut, block=1, held=False, depth=1))
    raise CapacityError(
        f"{channels} channels of {pixels} pixels need {least:,} B of SRAM a node; "
        "use fewer channels or a smaller format"
    )


def _pieces(
    cut: ColumnTiling, channels: int, held: bool, whole: bool, given: Mapping[str, int]
) -> Iterator[ColumnTiling]:
    """Yield ways to cut a member's pixels, the largest pieces first; `whole` has room for all of the next task too."""
    tasks = cut.run * ceil(channels / (cut.width * cut.lanes))
    if bool(given.get("held", held)) != held or (whole and tasks == 1):
        return
    ideal = given.get("block", 0) or BLOCK
    while "block" not in given and ideal * 2 <= cut.chunk and (
        (ideal * 2 * cut.width <= ELEMENTS and ideal * 8 <= cut.chunk)
        or (ceil(cut.chunk / ideal) > SLOTS // 2 and ideal * 2 * cut.width <= 4 * ELEMENTS)
    ):  # fmt: skip
        ideal *= 2
    depth, block = given.get("depth", 2), min(ideal, cut.chunk)
    while block:
        ahead = ceil(cut.chunk / block) if whole else depth - 1
        tiling = replace(cut, block=block, held=held, depth=depth, ahead=ahead)
        if not held or tiling.slots <= SLOTS:
            yield tiling
        block = 0 if "block" in given else block // 2


def _cut(nodes: int, images: int, pixels: int, channels: int, granule: int, most: int) -> ColumnTiling:
    """Return how nodes are dealt to images, slices of channels and pixels, for slices of at most `most` channels."""
    run = 1
    while ceil(images / run) > nodes:
        run *= 2
    groups = ceil(images / run)
    each = nodes // groups
    slices = ceil(channels / most)
    lanes = min(slices, each)
    chunk = chunk_of(pixels, max(1, each // lanes))
    members = ceil(pixels / chunk)
    finest = max(1, channels // max(granule, NARROW))
    if each // (lanes * members) > 1 and finest > slices:
        slices = lanes = min(finest, each // members)
    width = granule * ceil(ceil(channels / slices) / granule)
    lanes = min(lanes, ceil(channels / width))
    return ColumnTiling(groups, run, lanes, width, members, chunk, BLOCK, True)


def _sliced(cut: ColumnTiling, channels: int, granule: int, parts: int) -> ColumnTiling:
    """Return the cut with `parts` times as many slices, for each team to take one after the other."""
    return replace(cut, width=granule * ceil(ceil(channels / (ceil(channels / cut.width) * parts)) / granule))


class ColumnStream(Stream):
    """The tasks of this node's team (the items), each in pieces of its own pixels.

    Declare tensors with `pixels_in`, `pixels_out` (images, pixels, channels), `flow(per="item")` for statistics of a
    task and `constant` for parameters, then `start(compute)`.
    """

    def __init__(self, k: K, shape: tuple[int, ...], tiling: ColumnTiling, sweeps: Sequence[Sweep], late: int = 0
    ) -> None:  # fmt: skip
        t = self.tiling = tiling
        images, pixels, channels = shape
        self.channels = channels
        index = node_index(k)
        team = index // t.members
        self.member, self.base, self.group = index % t.members, team * t.members, team // t.lanes
        self.lane = team % t.lanes
        self.first_image, self.images = share(self.group, images, t.groups, t.run)
        self.first, self.own = share(self.member, pixels, t.members, t.chunk)
        slices = ceil(channels / t.width)
        self.slices = slices // t.lanes
        if slices % t.lanes:
            self.slices += 1 if self.lane < slices % t.lanes else 0
        super().__init__(k, sweeps, t.held, ceil(self.own / t.block), late)

    def pixels_in(self, **tensors: View) -> None:
        """Stream inputs (images, pixels, channels), each under its name in the sweeps."""
        t = self.tiling
        for name, tensor in tensors.items():
            self.flow(name, tensor, (t.block, t.width), t.slots, _window)

    def pixels_out(self, **tensors: View) -> None:
        """Stream outputs (images, pixels, channels)."""
        t = self.tiling
        for name, tensor in tensors.items():
            self.flow(name, tensor, (t.block, t.width), t.depth, _window, out=True)

    def items(self) -> Iterator[Piece]:
        """Yield the tasks of this team: for every slice of its channels the images, as a hardware loop."""
        t = self.tiling
        for s in range(self.slices):
            left, width = (self.lane + s * t.lanes) * t.width, t.width
            if left + width > self.channels:
                width = self.channels % t.width
            loop = range(self.images) if self.unrolled or self.images < 2 else self.k.loop(self.images)
            for i in loop:
                yield Piece(self, s * self.images + i, self.first, self.own, left, width, self.first_image + i)

    def pieces(self, item: Piece) -> Iterator[Piece]:
        """Yield the pieces of this member's pixels in order."""
        block = self.tiling.block
        for number, top in enumerate(range(0, self.own, block)):
            height = min(block, self.own - top)
            yield Piece(self, number, self.first + top, height, item.left, item.width, item.image)


class TeamSums:
    """Sums over the pixels of a task, on every member of its team: `count` at a time, in the order of `sum_orders`."""

    def __init__(
        self, stream: ColumnStream, count: int, join: Callable[[View, View, View], None] | None = None
    ) -> None:
        k, t = stream.k, stream.tiling
        self.stream, unit = stream, max(t.block, BLOCK)
        self.sums = ColumnSums(k, count, t.width, unit, levels_of(t.chunk, unit), t.width, join)
        self.tree = MeshTree(k, count, t.width, t.members, join) if t.members > 1 else None

    def begin(self, item: Piece) -> None:
        """Start the sums of a task."""
        self.sums.begin(item.width)

    def add(self, piece: Piece, *terms: View) -> None:
        """Add a piece to each sum: views (pixels, channels) in fp32. Pieces come in order, from the first on."""
        s, t = self.stream, self.stream.tiling
        before = piece.number * t.block
        for number, term in enumerate(terms):
            self.sums.add(number, 0, term, before % BLOCK == 0)
        after = before + piece.height
        if t.block >= BLOCK or after % BLOCK == 0 or after == s.own:
            self.sums.close()

    def add_all(self, item: Piece, name: str, wide: View) -> None:
        """Start the sum of a task and add the pieces of its input `name`, each as fp32 in `wide` (block, width)."""
        self.begin(item)
        for piece in item.sweep(0):
            f = wide[: piece.height, : item.width]
            self.stream.k.vec.cast(f, piece[name])
            self.add(piece, f)

    def total(self, *, spread: bool) -> View:
        """Return the sums (count, channels): on every member, or (spread=False) valid on member 0 alone."""
        s, total = self.stream, self.sums.total()
        if self.tree is not None:
            self.tree.fold(total, s.member, s.base)
            if spread:
                self.tree.spread(total, s.member, s.base)
        return total


def _window(piece: Piece) -> tuple[Any, slice, slice]:
    return piece.image, piece.rows, piece.columns
