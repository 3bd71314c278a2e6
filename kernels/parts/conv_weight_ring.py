"""Where a relay of a weight gradient does each step of its chains: rings of nodes, frames they keep, estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import ceil

from accel.errors import InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_weight_tiling import GROUP
from accel.kernels.parts.conv_windows import frame_axes
from accel.lang import SRAM_ALIGN
from accel.numerics import fmt
from accel.problem.convolution import Axis, Geometry

__all__ = ["NAMES", "Relay", "relays"]

NAMES = ("ring",)
"""Tiling parameters that ask for a relay: the nodes that share the frames of a clip."""

PIECES = 8  # of a frame
ROLES = 60  # different node programs; the language allows 64
HANDOVER = 15  # cycles from the end of a product to the start of the next of its chain on another node
STEP = 10  # cycles of a step beside its product: waits, the copy of the sums
TREE = 100  # cycles from the end of a chain to the stored gradient, beside 8 for every clip
Step = tuple[int, int]  # output frame, tap


@dataclass(frozen=True)
class Relay:
    """How clips lie on the mesh: each on a rectangle of `ring` rows, and a column for every block of c and k.

    slots: of gy on a node. spare: 1 for one row more, of nodes that only send gy, so that sums never queue behind it.
    """

    form: Geometry
    item: int
    ring: int
    spare: int = 0
    slots: int = 2

    @property
    def time(self) -> Axis:
        """Return the axis that taps look along."""
        return frame_axes(self.form)[0]

    @property
    def pixels(self) -> int:
        """Return the outputs of a frame."""
        _, h, w = frame_axes(self.form)
        return h.out * w.out

    @property
    def c_parts(self) -> int:
        """Return the blocks of channels."""
        return ceil(self.form.c / GROUP)

    @property
    def rows(self) -> int:
        """Return the rows of a clip."""
        return self.ring + self.spare

    @property
    def width(self) -> int:
        """Return the columns of a clip: blocks of channels of the first block of filters, then of the next."""
        return self.c_parts * ceil(self.form.k / GROUP)

    @property
    def piece(self) -> int:
        """Return the outputs of a part of a frame: the first frame of gy travels in these, zeros are that long."""
        return ceil(self.pixels / PIECES)

    @property
    def pieces(self) -> int:
        """Return the parts of a frame."""
        return ceil(self.pixels / self.piece)

    def frame(self, step: Step) -> int:
        """Return the frame of x that a step reads; outside the clip it is padding."""
        z, tap = step
        return z * self.time.stride + tap * self.time.dilation - self.time.pad

    def row(self, step: Step) -> int:
        """Return the row of the ring where a step is done."""
        return (self.frame(step) + self.time.pad) % self.ring

    @cached_property
    def steps(self) -> list[list[Step]]:
        """Return the steps of each row, in the order in which chains get there."""
        found: list[list[Step]] = [[] for _ in range(self.rows)]
        for z in range(self.time.out):
            for tap in range(self.time.taps):
                found[self.row((z, tap))].append((z, tap))
        return found

    @cached_property
    def kept(self) -> list[list[int]]:
        """Return the frames of x that each row keeps."""
        inside = range(self.time.size)
        return [sorted({self.frame(step) for step in steps} & set(inside)) for steps in self.steps]

    def pads(self, row: int) -> bool:
        """Return whether some step of a row reads padding."""
        return any(not 0 <= self.frame(step) < self.time.size for step in self.steps[row])

    @cached_property
    def readers(self) -> list[list[int]]:
        """Return the rows that read each frame of gy."""
        return [
            sorted({self.row((z, tap)) for tap in range(self.time.taps)}) for z in range(self.time.out)
        ]  # fmt: skip

    @cached_property
    def owners(self) -> list[tuple[int, int, int]]:
        """Return (row, block of channels, place) of the node that keeps each frame of gy: of its readers in turn, or
        of the spare row.
        """
        load: dict[tuple[int, int], int] = {}
        found = []
        for rows in self.readers:
            seats = [self.ring] if self.spare else rows
            seat = min(((row, c) for row in seats for c in range(self.c_parts)), key=lambda at: (load.get(at, 0), at))
            found.append((*seat, load.get(seat, 0)))
            load[seat] = load.get(seat, 0) + 1
        return found

    def before(self, z: int, row: int) -> int | None:
        """Return the frame of gy that was in the slot of frame z on a row, None if there was none."""
        seen = [y for y in range(z % self.slots, z, self.slots) if row in self.readers[y]]
        return seen[-1] if seen else None

    def after(self, z: int, row: int) -> int | None:
        """Return the frame of gy that comes into the slot of frame z on a row, None if none does."""
        return next((y for y in range(z + self.slots, self.time.out, self.slots) if row in self.readers[y]), None)

    def last_row(self, tap: int) -> int:
        """Return the row where the chains of a tap end."""
        return self.row((self.time.out - 1, tap))

    def sram_bytes(self, out_item: int) -> int:
        """Return what `relay_gradient` allocates on a node."""
        frame = self.pixels * GROUP * self.item
        kept = max(1, *map(len, self.kept)), 1 + max(place for *_, place in self.owners), self.slots
        block, inboxes = GROUP * GROUP, ceil(self.time.taps / self.form.n)
        sizes = [
            *(n * frame for n in kept),
            self.piece * GROUP * self.item,
            4 * block * self.time.taps,
            4 * block * self.form.n * inboxes,
        ]
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in [*sizes, inboxes * block * out_item])

    def fits(self, chip: ChipSpec, out_item: int) -> bool:
        """Return whether a chip has the nodes, SRAM and semaphores, and the language the roles."""
        mesh, taps, frames = chip.mesh, self.time.taps, self.time.out
        if self.rows > mesh.rows or self.width > mesh.cols:
            return False
        sems = 2 * frames + self.pieces + taps + ceil(taps / self.form.n) + 4
        return (
            (mesh.rows // self.rows) * (mesh.cols // self.width) >= self.form.n
            and (self.rows + taps) * self.width + 1 <= ROLES
            and sems <= chip.node.semaphores
            and self.sram_bytes(out_item) <= chip.node.sram_bytes
        )

    def cycles(self, chip: ChipSpec, dtype: str) -> float:
        """Return the estimated cycles: steps in order on every node, chains from node to node, gy through the ports."""
        unit, node = chip.node.matrix, chip.node
        product = ceil(self.pixels / unit.k) * unit.step_cycles[dtype] + 2 * unit.fill_cycles + STEP
        bring = self.pixels * GROUP * self.item / node.mesh_bytes_per_cycle
        free, port = [0.0] * self.ring, [0.0] * self.ring
        freed: dict[tuple[int, int], float] = {}
        chain, sent = [0.0] * self.time.taps, 0.0
        for z, rows in enumerate(self.readers):
            begun = max([sent, *(port[row] for row in rows)])
            begun = max([begun, *(freed.get((row, z % self.slots), 0.0) for row in rows)])
            here = begun + (bring if z else bring / self.pieces)
            sent = begun + bring + HANDOVER
            for row in rows:
                port[row] = begun + bring
            for tap in range(self.time.taps):
                row = self.row((z, tap))
                moved = HANDOVER if z and self.row((z - 1, tap)) != row else 0
                end = max(free[row], chain[tap] + moved, here) + product
                free[row] = chain[tap] = freed[row, z % self.slots] = end
        return max(chain) + TREE + 8 * self.form.n + (0 if self.spare else 2 * bring)


def relays(
    chip: ChipSpec, form: Geometry, dtype: str, out_item: int, resident: frozenset[str], *, bias: bool, **given: int
) -> tuple[float, Relay] | None:
    """Return (estimated cycles, relay) of the fastest relay that fits a chip; None where a gradient is not made so.

    given: `NAMES` that are prescribed. InputError where they do not fit the problem or the chip.
    """
    for name, value in given.items():
        if type(value) is not int or value < 1:
            raise InputError(f"tiling parameter {name} must be a whole number from 1 on, got {value!r}")
    t, h, w = frame_axes(form)
    plain = all(axis.taps == axis.stride == 1 and axis.pad == 0 for axis in (h, w))
    best: tuple[float, Relay] | None = None
    if plain and t.out > 1 and form.groups == 1 and not bias and {"x", "gy"} <= resident and _takes(chip, dtype):
        base = Relay(form, fmt(dtype).bytes, 1)
        for ring in [given["ring"]] if "ring" in given else range(1, chip.mesh.rows + 1):
            for spare, slots in product((1, 0), (4, 3, 2, 1)):
                relay = replace(base, ring=ring, spare=spare, slots=slots)
                if not relay.fits(chip, out_item):
                    continue
                cost = relay.cycles(chip, dtype)
                if best is None or cost < best[0]:
                    best = cost, relay
    if given and best is None:
        raise InputError(
            f"tiling parameters {', '.join(given)} ask for a relay, which needs x and gy resident, taps along time "
            f"alone, no groups, no bias, and a rectangle of {chip.name}'s mesh for every clip; leave them out"
        )
    return best


def _takes(chip: ChipSpec, dtype: str) -> bool:
    unit = chip.node.matrix
    return dtype in unit.step_cycles and unit.m == unit.n == GROUP
