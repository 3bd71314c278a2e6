"""Timing: what one simulated run of a program took, and where every lost cycle went."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from accel.errors import InputError, Location
from accel.files import write_whole
from accel.hardware import ChipSpec
from accel.isa.program import Program, Table

if TYPE_CHECKING:
    from accel.timing.trace import Trace

__all__ = ["LineTotals", "Replay", "Segment", "Timing"]


class Segment(NamedTuple):
    """A stretch of the critical path: in cycles [start, end) this (node, thread) did or waited for `cause`."""

    start: int
    end: int
    node: tuple[int, int]
    thread: int
    line: Location | None
    cause: str


@dataclass(frozen=True)
class LineTotals:
    """What the instructions of one source line did in a run, summed over all nodes, threads and repetitions.

    instructions: executions with an effect (not of loops and of rows that are switched off); issue_cycles: thread
    cycles spent on issuing them; matrix_cycles, vector_cycles, sram_port_cycles: busy cycles of the units;
    memory_read_bytes, memory_write_bytes, mesh_bytes: bytes of copies, counted once where they leave; sram_bytes: port
    accesses of operations; stalls: thread cycles that stood still, by kind (`trace.WAITS`); path_cycles and
    path_share: of the critical path.
    """

    instructions: int
    issue_cycles: int
    matrix_cycles: int
    vector_cycles: int
    sram_port_cycles: int
    memory_read_bytes: int
    memory_write_bytes: int
    mesh_bytes: int
    sram_bytes: int
    stalls: dict[str, int]
    path_cycles: int
    path_share: float

    @property
    def stalled(self) -> int:
        """Return the thread cycles that stood still, whatever the reason."""
        return sum(self.stalls.values())


class Replay(NamedTuple):
    """What it takes to repeat a run, event by event."""

    program: Program
    chip: ChipSpec
    packet_bytes: int
    plain: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """The outcome of `simulate`; cycles are whole cycles of the chip's clock, bytes are bytes.

    flops: those of the problem where the program names them (`Program.flops`), else those executed; utilization: flops
    over the peak of all enabled nodes, which is losses["useful"] unless the problem counts taps on padding that the
    program leaves out, as the data gradient of a convolution does; losses: share of all node-cycles by cause, in the
    fixed order of `ledger.CAUSES`, rounded to 2^-53 and so adding up to 1.0 exactly (all 0.0 for a program that takes
    no cycle), from `loss_parts`, whole parts of a node-cycle of which `parts_per_cycle` make one. node_parts: (rows,
    cols, causes), the same parts by node of the program's mesh, each node adding up to cycles x parts_per_cycle;
    padding that the problem did not ask for is still `useful` there, nodes outside the mesh have no place, and fidelity
    "bound" has none: (0, 0, causes). busy: per unit the busy cycles of each node (rows, cols). link_bytes: (site rows,
    site cols, 4), bytes that left each router east, west, south, north. stall_cycles: blocked thread-cycles of each
    source line; lines: the totals of each, most critical first (no stalls at fidelity "bound"). energy_j with
    energy_low_j and energy_high_j, energy_shares by consumer of the nominal. events: packets leaving routers plus
    instruction starts and ends (0 for fidelity "bound", which simulates none). replay: how to repeat the run, None
    where none was simulated.
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
    lines: dict[Location, LineTotals]
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

    def perfetto(
        self, path: str | os.PathLike[str], *, nodes: Iterable[tuple[int, int]] | None = None,
        window: tuple[int, int] | None = None, limit: int = 200_000,
    ) -> None:  # fmt: skip
        """Write the run to `path` as a trace that ui.perfetto.dev and Chrome open; gzip where it ends in .gz.

        Nodes are processes; threads, units, copies in flight and phases their tracks; links and memory ports are
        counters; arrows lead from what ended a wait to the wait; a microsecond there is a cycle here. nodes, window:
        as in `trace`. limit: slices and copies at most; where there are more, nodes evenly spaced are kept, then early
        cycles, and the trace's metadata (otherData.left_out) says what is missing. Written whole or not at all.
        """
        from accel.timing.perfetto import chrome_trace, encoded  # here, because it loads the compiler

        data = chrome_trace(self.trace(nodes, window), limit=limit)
        write_whole(path, encoded(data, str(path).endswith(".gz")), "trace")

    def __str__(self) -> str:
        worst = sorted(self.losses.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.1%}" for name, share in worst[:4] if share)
        return (
            f"{self.program} on {self.chip}: {self.cycles:,} cycles, {self.seconds * 1e6:.3f} us, "
            f"{self.tflops:.2f} TFLOPS, utilization {self.utilization:.1%} ({shares})"
        )
