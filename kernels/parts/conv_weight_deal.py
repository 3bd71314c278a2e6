"""Which node makes which frames of a weight gradient whose operands lie on the chip: places of frames, estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod
from typing import NamedTuple

from accel.errors import InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_weight_tiling import GROUP
from accel.kernels.parts.conv_windows import Span, chain_frames, frame_axes, window
from accel.lang import SRAM_ALIGN
from accel.numerics import fmt
from accel.problem.convolution import Axis, Geometry

__all__ = ["NAMES", "Deal", "Product", "deals"]

NAMES = ("run", "parts")
"""Tiling parameters: output frames of a gang, and the nodes of a gang, which share the channels of its frames."""

PIECES = 8  # of a frame of gy that all wait for
KINDS = 15  # different orders of products; each may be a node of a first or last part, with a slice of the sum or not
LANES = 16  # fp32 numbers that a vector unit adds at once: slices of the sum are whole passes
WAY = 60  # cycles from a request of a frame to its first bytes
STEP = 12  # cycles of a product beside its steps: a wait, the copies of its sums
TREE = 150  # cycles from the last product to the stored gradient, beside those of each frame's slice
FOLD = 3  # of a slice of a frame: two to arrive, one to be added


class Product(NamedTuple):
    """The chains of tap `tap` in time of output frame `image` of a run, from the frame of x in place `of`.

    of: None for padding; (gang, counted from the own one; frame of its run; place beside it).
    """

    image: int
    tap: int
    of: tuple[int, int, int] | None


@dataclass(frozen=True)
class Deal:
    """How output frames lie on a mesh (rows, columns): `run` after each other on every gang of `parts` nodes.

    A frame of x lies with the output frame that reads it nearest to the middle of the filter.
    """

    form: Geometry
    mesh: tuple[int, int]
    item: int
    out_item: int
    run: int
    parts: int

    @property
    def time(self) -> Axis:
        """Return the axis that taps look along."""
        return frame_axes(self.form)[0]

    @cached_property
    def spans(self) -> tuple[Span, Span]:
        """Return the rows and the columns of a frame of x in SRAM, padding included."""
        _, h, w = frame_axes(self.form)
        return window(h, 0, h.out), window(w, 0, w.out)

    @property
    def taps(self) -> tuple[int, int, int]:
        """Return the taps in time, height and width."""
        t, h, w = frame_axes(self.form)
        return t.taps, h.taps, w.taps

    @property
    def output(self) -> tuple[int, int]:
        """Return the rows and columns of a frame of gy."""
        _, h, w = frame_axes(self.form)
        return h.out, w.out

    @property
    def padded(self) -> bool:
        """Return whether frames of x have borders of padding."""
        return any(span.low > 0 or span.high < span.extent for span in self.spans)

    @property
    def piece(self) -> int:
        """Return the rows of a part of a frame of gy."""
        return ceil(self.output[0] / PIECES)

    @property
    def frames(self) -> int:
        """Return the output frames of all clips."""
        return self.form.n * self.time.out

    @property
    def across(self) -> int:
        """Return the gangs of a row of the mesh."""
        return self.mesh[1] // self.parts

    @property
    def gangs(self) -> int:
        """Return the gangs that have work."""
        return ceil(self.frames / self.run)

    @property
    def channels(self) -> int:
        """Return the most channels of a node."""
        return GROUP * ceil(ceil(self.form.c / GROUP) / self.parts)

    # --- frames of x and where they lie -----------------------------------------------------------------------------
    def frame(self, z: int, tap: int) -> int | None:
        """Return the frame of x that output frame z reads at a tap, None for padding."""
        at = z * self.time.stride + tap * self.time.dilation - self.time.pad
        return at if 0 <= at < self.time.size else None

    @cached_property
    def owned(self) -> list[list[int]]:
        """Return the frames of x that lie with each output frame of a clip."""
        best: dict[int, tuple[int, int]] = {}
        for z in range(self.time.out):
            for tap in range(self.time.taps):
                frame, off = self.frame(z, tap), abs(2 * tap - self.time.taps + 1)
                if frame is not None and (frame not in best or (off, z) < best[frame]):
                    best[frame] = off, z
        found: list[list[int]] = [[] for _ in range(self.time.out)]
        for frame in sorted(best):
            found[best[frame][1]].append(frame)
        return found

    @cached_property
    def patterns(self) -> list[tuple[tuple[int, ...], tuple[tuple[int, int] | None, ...]]]:
        """Return, for each output frame, which frames of x lie with it and where those are that it reads.

        Both relative to it: frames from z * stride on; (output frames further on, place) at each tap.
        """
        place = {frame: (z, at) for z, own in enumerate(self.owned) for at, frame in enumerate(own)}
        found = []
        for z, own in enumerate(self.owned):
            reads: list[tuple[int, int] | None] = []
            for tap in range(self.time.taps):
                frame = self.frame(z, tap)
                reads.append(None if frame is None else (place[frame][0] - z, place[frame][1]))
            found.append((tuple(frame - z * self.time.stride for frame in own), tuple(reads)))
        return found

    @cached_property
    def edges(self) -> tuple[int, int]:
        """Return the half-open range of output frames that have the pattern of the middle of a clip."""
        middle = self.time.out // 2
        low = high = middle
        while low and self.patterns[low - 1] == self.patterns[middle]:
            low -= 1
        while high < self.time.out and self.patterns[high] == self.patterns[middle]:
            high += 1
        return low, high

    def like(self, z: int) -> int:
        """Return the output frame that stands for z: itself at the ends of a clip, else the middle one.

        z may differ from node to node: nodes that disagree become roles.
        """
        low, high = self.edges
        return next((end for end in (*range(low), *range(high, self.time.out)) if z == end), self.time.out // 2)

    def products(self, stand: tuple[int, ...]) -> list[Product]:
        """Return the products of a gang whose output frames are like `stand`, those of frames at hand first."""
        found = []
        for image, z in enumerate(stand):
            for tap, read in enumerate(self.patterns[z][1]):
                of = None if read is None else (*divmod(image + read[0], self.run), read[1])
                found.append(Product(image, tap, of))
        return sorted(found, key=lambda p: (p.of is not None and p.of[0] != 0, p.of is None, p.of[0] if p.of else 0))

    @staticmethod
    def pulls(products: list[Product]) -> list[tuple[int, int, int]]:
        """Return the places on other gangs that products read, in the order in which they do."""
        return list(dict.fromkeys(p.of for p in products if p.of is not None and p.of[0] != 0))

    @cached_property
    def kinds(self) -> set[tuple[int, ...]]:
        """Return what stands for the output frames of the gangs."""
        found = set()
        for gang in range(self.gangs):
            images = range(gang * self.run, min(self.frames, (gang + 1) * self.run))
            found.add(tuple(self.like(image % self.time.out) for image in images))
        return found

    @cached_property
    def most(self) -> tuple[int, int, bool]:
        """Return the most frames of x that lie with an output frame, and that a node pulls; whether any is padding."""
        orders = [self.products(kind) for kind in self.kinds]
        blank = any(p.of is None for order in orders for p in order)
        return max(map(len, self.owned)), max(len(self.pulls(order)) for order in orders), blank

    # --- slices of the sum ------------------------------------------------------------------------------------------
    @cached_property
    def slice(self) -> int:
        """Return the weights that one node adds up: the fewest that leave no node with two slices, at most a block."""
        each, rows = LANES, self.parts * prod(self.taps)
        while each < self.block and rows * ceil(self.block / each) > self.mesh[0] * self.mesh[1]:
            each += LANES
        return each

    @property
    def block(self) -> int:
        """Return the weights of a tap on a node."""
        return self.channels * self.form.k

    @property
    def slices(self) -> int:
        """Return the slices of the block of a tap."""
        return ceil(self.block / self.slice)

    @property
    def blocks(self) -> int:
        """Return the slices of gw."""
        return self.parts * prod(self.taps) * self.slices

    @cached_property
    def clips(self) -> int:
        """Return the clips whose sums of a slice meet on one node first: a power of two, the fewest there is room for.

        Such a group is a node of the tree over clips.
        """
        each = 1
        while each < self.form.n and self.blocks * ceil(self.form.n / each) > self.mesh[0] * self.mesh[1]:
            each *= 2
        return each

    @property
    def groups(self) -> int:
        """Return the groups of clips."""
        return ceil(self.form.n / self.clips)

    @property
    def adders(self) -> int:
        """Return the nodes that add up slices: those of the first group of clips, then of the next."""
        return self.blocks * self.groups

    # --- what it takes ----------------------------------------------------------------------------------------------
    @property
    def sram_bytes(self) -> int:
        """Return what `frame_gradient` allocates on a node."""
        owned, pulled, blank = self.most
        x, gy = self._frame_bytes
        sizes = [self.run * owned * x, self.run * gy, pulled * x, 4 * self.run * prod(self.taps) * self.block]
        sizes += [4 * self.clips * self.time.out * self.slice, self.out_item * self.slice]
        if self.groups > 1:
            sizes.append(4 * self.groups * self.slice)
        if blank:
            sizes.append(self.item * self.zeros)
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in sizes)

    @property
    def zeros(self) -> int:
        """Return the elements of padding that, read over and over, are a frame of it."""
        return sum(self.output) + self.taps[2] + self.channels - 3

    @property
    def _frame_bytes(self) -> tuple[int, int]:
        """Return the bytes of a frame of x, padding included, and of gy on a node."""
        high, wide = (span.extent for span in self.spans)
        return self.item * high * wide * self.channels, self.item * prod(self.output) * self.form.k

    def fits(self, chip: ChipSpec) -> bool:
        """Return whether a chip has the nodes, SRAM and semaphores, and the language the roles."""
        if self.parts > self.mesh[1] or self.gangs > self.mesh[0] * self.across or not any(self.owned):
            return False
        if any(span.low >= span.high for span in self.spans):  # no tap meets anything
            return False
        if (self.parts - 1) * self.channels >= self.form.c or self.frames >= 1 << (chip.node.semaphore_bits - 1):
            return False
        if len(self.kinds) * min(self.parts, 3) > KINDS or self.blocks > self.mesh[0] * self.mesh[1]:
            return False
        sems = 2 * self.most[1] + PIECES + self.run + 8
        return sems <= chip.node.semaphores and self.sram_bytes <= chip.node.sram_bytes

    def border(self, chip: ChipSpec) -> int:
        """Return the cycles that padding round a frame of x takes to write."""
        if not self.padded:
            return 0
        rows, cols = self.spans
        row, inside = self.item * cols.extent * self.channels, rows.high - rows.low
        sides = sum(
            ceil(self.item * n * self.channels / chip.node.port_bytes) for n in (cols.low, cols.extent - cols.high)
        )
        return (
            (rows.extent - inside) * ceil(row / chip.node.port_bytes)
            + inside * sides
            + 4 * chip.node.vector.fill_cycles
        )

    def cycles(self, chip: ChipSpec, dtype: str) -> float:
        """Return the estimated cycles: products in order, frames through the mesh port, additions at the end."""
        unit, port = chip.node.matrix, chip.node.mesh_bytes_per_cycle
        _, high, wide = self.taps
        tiles = ceil(wide * self.channels / unit.m) * ceil(self.form.k / unit.n)
        steps = ceil(prod(self.output) / unit.k) * unit.step_cycles[dtype]
        product = high * (tiles * (steps + 4) + unit.fill_cycles + STEP)
        x, gy = (size / port for size in self._frame_bytes)
        worst = 0.0
        for kind in self.kinds:
            clock = 0.0
            if self.parts > 1:  # sums go out and in between parts of the first product
                clock = gy / PIECES + WAY + (PIECES - 1) * high * (8 * tiles + unit.fill_cycles + STEP)
            clock += self.run * self.border(chip)
            bring = gy * len(kind) + WAY if self.parts > 1 else WAY
            order, here = self.products(kind), set[tuple[int, int, int]]()
            for one in order:
                if self.parts > 1 and one.image:
                    clock = max(clock, (one.image + 1) * gy + WAY)
                if one.of is not None and one.of[0] != 0 and one.of not in here:
                    here.add(one.of)
                    bring += x
                    clock = max(clock, bring)
                clock += product
                if self.parts > 1 and one is order[0]:
                    clock = max(clock, gy + WAY + product / PIECES)
            worst = max(worst, clock)
        leave = high * wide * (4 * self.block / port + self.slices * chip.node.copy_issue_cycles)
        return worst + TREE + leave + (FOLD * self.clips * self.time.out + self.groups) * ceil(self.slice / LANES)


def deals(
    chip: ChipSpec, form: Geometry, dtype: str, out_item: int, resident: frozenset[str], *, bias: bool, **given: int
) -> tuple[float, Deal] | None:
    """Return (estimated cycles, deal) of the fastest deal that fits a chip; None where a gradient is not made so.

    given: `NAMES` that are prescribed. InputError where they do not fit the problem or the chip.
    """
    for name, value in given.items():
        if type(value) is not int or value < 1:
            raise InputError(f"tiling parameter {name} must be a whole number from 1 on, got {value!r}")
    best: tuple[float, Deal] | None = None
    alone = chain_frames(form) == 1 or frame_axes(form)[0].out == 1  # a frame is a chain
    if alone and form.groups == 1 and not bias and {"x", "gy"} <= resident and dtype in chip.node.matrix.step_cycles:
        base = Deal(form, (chip.mesh.rows, chip.mesh.cols), fmt(dtype).bytes, out_item, 1, 1)
        most = min(chip.mesh.cols, ceil(form.c / GROUP))
        for parts in [given["parts"]] if "parts" in given else range(1, most + 1):
            room = chip.mesh.rows * (chip.mesh.cols // parts)
            if not room:
                continue
            deal = replace(base, parts=parts, run=given.get("run", ceil(base.frames / room)))
            if not deal.fits(chip):
                continue
            cost = deal.cycles(chip, dtype)
            if best is None or cost < best[0]:
                best = cost, deal
    if given and best is None:
        raise InputError(
            f"tiling parameters {', '.join(given)} ask for frames that stay where they lie, which needs x and gy "
            f"resident, no groups, no bias, a frame a chain, and room on {chip.name} for all frames; leave them out"
        )
    return best
