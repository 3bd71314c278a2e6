"""A program on a chip at packet fidelity: prepares the arrays, runs the event loop, folds the log into a Timing."""

from __future__ import annotations

import numpy as np

from accel import jit
from accel.errors import DeadlockError, Finding, InternalError, Location, ProgramError
from accel.hardware import ChipSpec
from accel.isa.program import Program, Table
from accel.timing import engine, ledger
from accel.timing import state as s
from accel.timing.bound import resource_bounds
from accel.timing.energy import energy_of
from accel.timing.memory import Memory
from accel.timing.path import critical_path, line_of
from accel.timing.prepare import Prepared, prepare
from accel.timing.result import Timing

__all__ = ["time_packets"]

_BUSY = {"matrix": s.N_MATRIX_BUSY, "vector": s.N_VECTOR_BUSY, "sram_port": s.N_PORT_BUSY}


def time_packets(program: Program, chip: ChipSpec, packet_bytes: int, plain: bool) -> Timing:
    """Return the Timing of a run at packet fidelity; plain=True interprets the same engine in plain Python."""
    prepared = prepare(program, chip)
    memory = Memory(program, chip, prepared.rows, packet_bytes)
    begin, run = (jit.plain(engine.begin), jit.plain(engine.run)) if plain else (engine.begin, engine.run)
    begin(memory.m)
    while (status := int(run(memory.m, memory.log))) != s.DONE:
        if status == s.STUCK:
            raise _deadlock(program, memory)
        if status in (s.BAD_TARGET, s.BAD_SEMAPHORE):
            raise _refused(program, status, int(memory.m[s.S_ERROR]))
        memory.grow(status)
    return _fold(program, chip, prepared, memory, plain)


def _refused(program: Program, status: int, pc: int) -> ProgramError:
    what = "target leaves the mesh" if status == s.BAD_TARGET else "semaphore index is out of range"
    return ProgramError(
        f"row {pc} of {program.name!r}: its {what} on some node; correct the kernel", at=line_of(program, pc)
    )


def _deadlock(program: Program, memory: Memory) -> DeadlockError:
    """Who waits for what, grouped by code row."""
    groups: dict[int, list[int]] = {}
    states, counters = memory.thread(s.T_STATE), memory.thread(s.T_PC)
    wanted, sems = memory.thread(s.T_COUNT), memory.thread(s.T_SEM)
    for th in np.flatnonzero(states != s.ENDED):
        groups.setdefault(int(counters[th]), []).append(int(th))
    findings = []
    for pc, stuck in groups.items():
        what = f"waits for {int(wanted[stuck[0]])} on semaphore {int(sems[stuck[0]])}"
        if states[stuck[0]] == s.JOINING:
            what = "waits at a barrier"
        elif states[stuck[0]] == s.STALLED:
            what = "waits for a place in the copy queue"
        nodes = tuple(dict.fromkeys(program.node(th // program.threads) for th in stuck))
        message = f"thread {stuck[0] % program.threads} of node {nodes[0]} {what} for ever ({len(stuck)} thread(s))"
        findings.append(Finding("deadlock", message, line_of(program, pc), None, nodes))
    first = findings[0]
    return DeadlockError(
        f"Cannot time {program.name!r}: it deadlocks after {int(memory.m[s.S_NOW])} cycles, {first.message}; "
        "run check() for the whole list", findings, at=first.first,
    )  # fmt: skip


def _fold(program: Program, chip: ChipSpec, prepared: Prepared, memory: Memory, plain: bool) -> Timing:
    account = jit.plain(ledger.account) if plain else ledger.account
    m, log = memory.m, memory.log
    cycles, count = int(m[s.S_LAST]), int(m[s.S_LOG])
    parts = prepared.parts
    grid = np.zeros((program.nodes, len(ledger.CAUSES)), np.int64)
    own = int(account(log, count, prepared.engine, program.threads, prepared.costs, memory.node(s.N_LAST).reshape(-1), cycles,
                      parts, grid))  # fmt: skip
    loss = dict(zip(ledger.CAUSES, (int(n) for n in grid.sum(axis=0)), strict=True))
    loss["unused_nodes"] += (chip.nodes - program.nodes) * cycles * parts
    flops = min(own, program.flops) if program.flops > 0 else own
    if own > flops:  # padding that the problem did not ask for
        useful = loss["useful"] * flops // own
        loss["tile_quantisation"] += loss["useful"] - useful
        loss["useful"] = useful
    total = chip.nodes * cycles * parts
    if sum(loss.values()) != total:
        raise InternalError(f"the ledger of {program.name!r} has a residual of {total - sum(loss.values())} parts")
    losses = {cause: n / total if total else 0.0 for cause, n in loss.items()}
    seconds = cycles / chip.clock_hz + chip.host.launch_s
    links, injected, ejected = memory.link_bytes()
    executed = np.bincount(log[:count, s.G_ROW], minlength=len(prepared.costs))
    costs, kinds = prepared.costs, prepared.rows[:, s.R_CLASS]
    accesses = int(executed @ (costs[:, ledger.COST_LOADS] + costs[:, ledger.COST_STORES]))
    byte_counts = {
        "memory_read": sum(memory.port(s.Q_READ)),
        "memory_write": sum(memory.port(s.Q_WRITTEN)),
        "mesh_byte_hops": int(links.sum()),
        "sram": accesses * chip.node.port_bytes + int(injected.sum() + ejected.sum()),
    }
    energy = energy_of(
        chip,
        macs=int((executed * costs[:, ledger.COST_FLOPS])[kinds == s.CLASS_MATRIX].sum()) // 2,
        vector_flops=int((executed * costs[:, ledger.COST_FLOPS])[kinds == s.CLASS_VECTOR].sum()),
        sram_bytes=byte_counts["sram"], byte_hops=byte_counts["mesh_byte_hops"],
        memory_bytes=byte_counts["memory_read"] + byte_counts["memory_write"], seconds=seconds,
    )  # fmt: skip
    bounds = resource_bounds(memory)
    path = critical_path(program, log, cycles, int(m[s.S_LAST_THREAD]), int(m[s.S_LAST_LOG]))
    return Timing(
        program=program.name, chip=chip.name, fidelity="packet", cycles=cycles, seconds=seconds, flops=flops,
        tflops=flops / seconds / 1e12 if seconds else 0.0, utilization=losses["useful"], losses=losses, loss_parts=loss,
        parts_per_cycle=parts, energy_j=energy.nominal, energy_low_j=energy.low, energy_high_j=energy.high,
        energy_shares=energy.shares, events=int(m[s.S_EVENTS]), bytes=byte_counts,
        busy={name: memory.node(column) for name, column in _BUSY.items()},
        link_bytes=links.reshape(chip.mesh.site_rows, chip.mesh.site_cols, 4),
        stall_cycles=_stalls(program, log, count, plain), critical_path=path,
        bound_cycles=max(bounds.values()), bounds=bounds,
    )  # fmt: skip


def _stalls(program: Program, log: Table, count: int, plain: bool) -> dict[Location, int]:
    """Blocked thread-cycles by source line, worst first; lines that never block are absent."""
    rows = np.zeros(len(program.code), np.int64)
    (jit.plain(ledger.stalls) if plain else ledger.stalls)(log, count, rows)
    lines: dict[Location, int] = {}
    for pc in np.flatnonzero(rows):
        line = line_of(program, int(pc))
        if line is not None:
            lines[line] = lines.get(line, 0) + int(rows[pc])
    return dict(sorted(lines.items(), key=lambda item: (-item[1], item[0])))
