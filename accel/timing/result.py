"""Timing: what one simulated run of a program took, and where every lost cycle went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from accel.errors import InputError, Location
from accel.hardware import ChipSpec
from accel.isa.program import Program, Table

if TYPE_CHECKING:
    from accel.timing.trace import Trace

__all__ = ["Replay", "Segment", "Timing"]


class Segment(NamedTuple):
    """A stretch of the critical path: in cycles [start, end) this (node, thread) did or waited for `cause`."""

    start: int
    end: int
    node: tuple[int, int]
    thread: int
    line: Location | None
    cause: str


class Replay(NamedTuple):
    """What it takes to repeat a run, event by event."""

    program: Program
    chip: ChipSpec
    packet_bytes: int
    plain: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """The outcome of `simulate`; cycles are whole cycles of the chip's clock, bytes are bytes.

    utilization: useful flops over peak of all enabled nodes; losses: share of all node-cycles by cause, in the fixed
    order of `ledger.CAUSES`, rounded to 2^-53 and so adding up to 1.0 exactly (all 0.0 for a program that takes no
    cycle), from `loss_parts`, whole parts of a node-cycle of which
    `parts_per_cycle` make one. node_parts: (rows, cols, causes), the same parts by node of the program's mesh, each
    node adding up to cycles x parts_per_cycle; padding that the problem did not ask for is still `useful` there, nodes
    outside the mesh have no place, and fidelity "bound" has none: (0, 0, causes). busy: per unit the busy cycles of
    each node (rows, cols). link_bytes: (site rows, site cols, 4), bytes that left each router east, west, south,
    north. stall_cycles: blocked thread-cycles of each source line. energy_j with energy_low_j and energy_high_j,
    energy_shares by consumer of the nominal. events: packets leaving routers plus instruction starts and ends (0 for
    fidelity "bound", which simulates none). replay: how to repeat the run, None where none was simulated.
    """

    program: str
    chip: str
    fidelity: str
    cycles: int
    seconds: float
    flops: int
    tflops: float
    utilization: float
    losses: dict[str, float]
    loss_parts: dict[str, int]
    parts_per_cycle: int
    node_parts: Table
    energy_j: float
    energy_low_j: float
    energy_high_j: float
    energy_shares: dict[str, float]
    events: int
    bytes: dict[str, int]
    busy: dict[str, Table]
    link_bytes: Table
    stall_cycles: dict[Location, int]
    critical_path: tuple[Segment, ...]
    bound_cycles: int
    bounds: dict[str, int] = field(default_factory=dict)
    replay: Replay | None = field(default=None, repr=False)

    def trace(
        self, nodes: Iterable[tuple[int, int]] | None = None, window: tuple[int, int] | None = None, *, bins: int = 256
    ) -> Trace:
        """Return what threads, units, copies and links did when, as arrays; see `accel.timing.trace.Trace`.

        The log of a run is not kept, so the run is repeated, exactly and at the same speed. nodes: logical (row, col)
        pairs (default: all); window: cycles (first, one past the last); bins: time bins of the traffic on links.
        InputError for a Timing of fidelity "bound", which runs no event, and for nodes or windows that do not fit.
        """
        if self.replay is None:
            raise InputError(
                f"Cannot trace {self.program!r} at fidelity {self.fidelity!r}, which runs no events; "
                "time it with fidelity='packet'"
            )
        from accel.timing.trace import record_trace  # here, because it loads the compiler

        return record_trace(self.replay, self.cycles, nodes, window, bins)

    def __str__(self) -> str:
        worst = sorted(self.losses.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.1%}" for name, share in worst[:4] if share)
        return (
            f"{self.program} on {self.chip}: {self.cycles:,} cycles, {self.seconds * 1e6:.3f} us, "
            f"{self.tflops:.2f} TFLOPS, utilization {self.utilization:.1%} ({shares})"
        )
