"""Counts and log of a run folded into a Timing: ledger, bytes, energy, stalls and critical path."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from accel import jit
from accel.errors import InternalError
from accel.hardware import ChipSpec
from accel.isa.layout import V_DTYPE
from accel.isa.program import Program, Table
from accel.isa.table import BY_MNEMONIC
from accel.numerics.formats import by_code
from accel.timing import ledger
from accel.timing import state as s
from accel.timing.energy import energy_of
from accel.timing.lines import line_totals
from accel.timing.memory import Memory
from accel.timing.path import critical_path
from accel.timing.prepare import Prepared
from accel.timing.result import Replay, Segment, Timing
from accel.timing.waits import KINDS, blocked_cycles

__all__ = ["Work", "bound_timing", "packet_timing"]

_MATMUL = BY_MNEMONIC["matmul"]
_BUSY = {"matrix": s.N_MATRIX_BUSY, "vector": s.N_VECTOR_BUSY, "sram_port": s.N_PORT_BUSY}
# What the rest of the time is called where only bounds are known: the cause whose resource binds.
_BINDING = {"matrix": "imbalance", "vector": "vector", "thread": "issue", "sram_port": "sram_port",
            "memory": "wait_memory", "edge": "wait_memory", "mesh_port": "wait_mesh"}  # fmt: skip


class Work(NamedTuple):
    """A program on a chip with what it does, whatever the time: executions of each code row, bounds by resource."""

    program: Program
    chip: ChipSpec
    prepared: Prepared
    executed: Table
    bounds: dict[str, int]

    def total(self, column: int, kind: int) -> int:
        """Sum a column of the cost table over all executed rows of a class."""
        rows = self.prepared.rows[:, s.R_CLASS] == kind
        return int((self.executed * self.prepared.costs[:, column])[rows].sum())

    def macs(self) -> dict[tuple[str, str], int]:
        """Return the multiply-adds of the matrix unit by the formats of their two operands."""
        own = np.flatnonzero((self.prepared.rows[:, s.R_CLASS] == s.CLASS_MATRIX) & (self.executed > 0))
        formats = self.program.views[self.program.code[own][:, [_MATMUL.word("a"), _MATMUL.word("b")]], V_DTYPE]
        flops = self.executed[own] * self.prepared.costs[own, ledger.COST_FLOPS]
        found: dict[tuple[str, str], int] = {}
        for pair in np.unique(formats, axis=0):
            names = by_code(int(pair[0])).name, by_code(int(pair[1])).name
            found[names] = int(flops[(formats == pair).all(axis=1)].sum()) // 2
        return found


def packet_timing(work: Work, memory: Memory, replay: Replay) -> Timing:
    """Return the Timing of a finished run of the event engine."""
    program, m, log = work.program, memory.m, memory.log
    account = jit.plain(ledger.account) if replay.plain else ledger.account
    cycles, count = int(m[s.S_LAST]), int(m[s.S_LOG])
    grid = np.zeros((program.nodes, len(ledger.CAUSES)), np.int64)
    account(
        log, count, work.prepared.engine, program.threads, work.prepared.costs, memory.node(s.N_LAST).reshape(-1),
        cycles, work.prepared.parts, grid,
    )  # fmt: skip
    loss = dict(zip(ledger.CAUSES, (int(n) for n in grid.sum(axis=0)), strict=True))
    loss["unused_nodes"] += (work.chip.nodes - program.nodes) * cycles * work.prepared.parts
    blocked = blocked_cycles(program, log[:count])
    path = critical_path(program, log, cycles, int(m[s.S_LAST_THREAD]), int(m[s.S_LAST_LOG]))
    by_node = grid.reshape(program.rows, program.cols, len(ledger.CAUSES))
    return _timing(work, memory, "packet", cycles, loss, path, blocked, by_node, replay)


def bound_timing(work: Work, counted: Memory) -> Timing:
    """Return the Timing that no schedule can beat: the largest bound, its resource as the cause of all idle time."""
    parts, costs, bounds = work.prepared.parts, ledger, work.bounds
    binding = max(bounds, key=lambda name: bounds[name])
    cycles = bounds[binding]
    kind = s.CLASS_MATRIX if work.prepared.engine == s.LOG_MATRIX else s.CLASS_VECTOR
    busy = counted.node(s.N_MATRIX_BUSY if kind == s.CLASS_MATRIX else s.N_VECTOR_BUSY)
    if not busy.any():  # nodes of a program that only copies work as long as their threads do
        busy = counted.thread(s.T_TIME).reshape(work.program.nodes, -1).max(axis=1)
    loss = dict.fromkeys(ledger.CAUSES, 0)
    loss["useful"] = work.total(costs.COST_USEFUL, kind)
    loss["tile_quantisation"] = work.total(costs.COST_COMPUTE, kind) * parts - loss["useful"]
    loss["accumulator"] = work.total(costs.COST_ACCUMULATOR, kind) * parts
    loss["issue"] = work.total(costs.COST_FILL, kind) * parts
    loss["unused_nodes"] = (work.chip.nodes - int(np.count_nonzero(busy))) * cycles * parts
    loss[_BINDING[binding]] += work.chip.nodes * cycles * parts - sum(loss.values())
    unblocked = np.zeros((len(work.program.code), len(KINDS)), np.int64)
    nowhere: Table = np.zeros((0, 0, len(ledger.CAUSES)), np.int64)
    return _timing(work, counted, "bound", cycles, loss, (), unblocked, nowhere)


def _timing(
    work: Work, memory: Memory, fidelity: str, cycles: int, loss: dict[str, int], path: tuple[Segment, ...],
    blocked: Table, by_node: Table, replay: Replay | None = None,
) -> Timing:  # fmt: skip
    program, chip, parts = work.program, work.chip, work.prepared.parts
    kind = s.CLASS_MATRIX if work.prepared.engine == s.LOG_MATRIX else s.CLASS_VECTOR
    own = work.total(ledger.COST_FLOPS, kind)
    flops = program.flops or own
    # The field counts taps on padding; a program that leaves them out has executed less, and its ledger says so.
    counted = loss["useful"] * flops // own if own else 0
    if counted < loss["useful"]:  # padding that the problem did not ask for
        loss["tile_quantisation"] += loss["useful"] - counted
        loss["useful"] = counted
    total = chip.nodes * cycles * parts
    if sum(loss.values()) != total:
        raise InternalError(f"the ledger of {program.name!r} has a residual of {total - sum(loss.values())} parts")
    losses = _shares(loss, total)
    lines = line_totals(program, chip, work.prepared, work.executed, blocked, path, cycles)
    stalled = sorted(((where, own.stalled) for where, own in lines.items() if own.stalled), key=lambda x: (-x[1], x[0]))
    seconds = cycles / chip.clock_hz + chip.host.launch_s
    links, injected, ejected = memory.link_bytes()
    accesses = sum(work.total(column, unit) for column in (ledger.COST_LOADS, ledger.COST_STORES)
                   for unit in (s.CLASS_MATRIX, s.CLASS_VECTOR))  # fmt: skip
    read, written = sum(memory.port(s.Q_READ)), sum(memory.port(s.Q_WRITTEN))
    sram = accesses * chip.node.port_bytes + int(injected.sum() + ejected.sum())
    energy = energy_of(
        chip, macs=work.macs(), vector_flops=work.total(ledger.COST_FLOPS, s.CLASS_VECTOR), sram_bytes=sram,
        byte_hops=int(links.sum()), memory_bytes=read + written, seconds=seconds,
    )  # fmt: skip
    return Timing(
        program=program.name, chip=chip.name, fidelity=fidelity, cycles=cycles, seconds=seconds, flops=flops,
        tflops=flops / seconds / 1e12 if seconds else 0.0, utilization=counted / total if total else 0.0,
        losses=losses, loss_parts=loss, parts_per_cycle=parts, node_parts=by_node,
        energy_j=energy.nominal, energy_low_j=energy.low, energy_high_j=energy.high,
        energy_shares=energy.shares, events=int(memory.m[s.S_EVENTS]),
        bytes={"memory_read": read, "memory_write": written, "mesh_byte_hops": int(links.sum()), "sram": sram},
        busy={name: memory.node(column) for name, column in _BUSY.items()},
        link_bytes=links.reshape(chip.mesh.site_rows, chip.mesh.site_cols, 4), stall_cycles=dict(stalled), lines=lines,
        critical_path=path, bound_cycles=max(work.bounds.values()), bounds=work.bounds, replay=replay,
    )  # fmt: skip


def _shares(parts: dict[str, int], total: int) -> dict[str, float]:
    """Return each part's share of their total to 2^-53, of which every sum up to 1 is a float: they add up to 1.0."""
    if not total:
        return dict.fromkeys(parts, 0.0)
    ends = [done * (1 << 53) // total for done in itertools.accumulate(parts.values())]
    return {name: (end - begin) / (1 << 53) for name, begin, end in zip(parts, [0, *ends], ends, strict=False)}
