"""A program on a chip at a fidelity: prepares the memory, runs the event loop or only counts, hands over to `fold`."""

from __future__ import annotations

import numpy as np

from accel import jit
from accel.errors import AccelError, DeadlockError, Finding, InternalError, ProgramError
from accel.hardware import ChipSpec
from accel.isa.program import Program, Table
from accel.timing import engine
from accel.timing import state as s
from accel.timing.bound import resource_bounds
from accel.timing.count import count_work
from accel.timing.fold import Work, bound_timing, packet_timing
from accel.timing.memory import Memory
from accel.timing.path import line_of
from accel.timing.prepare import prepare
from accel.timing.result import Timing

__all__ = ["time_program"]


def time_program(program: Program, chip: ChipSpec, fidelity: str, packet_bytes: int, plain: bool) -> Timing:
    """Return the Timing of a program; plain=True interprets the same engine in plain Python.

    The work is counted first, for the bounds and for the totals that both fidelities share.
    """
    prepared = prepare(program, chip)
    memory = Memory(program, chip, prepared.rows, packet_bytes)
    executed: Table = np.zeros(len(program.code), np.int64)
    counted = memory.copy()
    (jit.plain(count_work) if plain else count_work)(counted.m, executed)
    _check(program, counted, int(counted.m[s.S_STATUS]))
    work = Work(program, chip, prepared, executed, resource_bounds(counted))
    if fidelity == "bound":
        return bound_timing(work, counted)
    run = jit.plain(engine.run) if plain else engine.run
    while (status := int(run(memory.m, memory.log))) != s.DONE:
        _check(program, memory, status)
        memory.grow(status)
    return packet_timing(work, memory, plain)


def _check(program: Program, memory: Memory, status: int) -> None:
    error: AccelError | None = None
    if status == s.STUCK:
        error = _deadlock(program, memory)
    elif status in (s.BAD_TARGET, s.BAD_SEMAPHORE):
        error = _refused(program, status, int(memory.m[s.S_ERROR]))
    elif status == s.EXHAUSTED:
        error = InternalError(f"one event of {program.name!r} took more records than the engine keeps free for it")
    if error is not None:
        raise error


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
