"""Drives the event engine to its end: enlarges the stores it runs out of, turns its refusals into errors."""

from __future__ import annotations

import numpy as np

from accel import jit
from accel.errors import AccelError, DeadlockError, Finding, InternalError, ProgramError
from accel.isa.program import Program
from accel.timing import engine
from accel.timing import state as s
from accel.timing.memory import Memory
from accel.timing.path import line_of

__all__ = ["drive", "require_done"]


def drive(program: Program, memory: Memory, plain: bool) -> None:
    """Run the engine from the state of `memory` to the end of the program, or raise what stops it."""
    run = jit.plain(engine.run) if plain else engine.run
    while (status := int(run(memory.m, memory.log))) != s.DONE:
        require_done(program, memory, status)
        memory.grow(status)


def require_done(program: Program, memory: Memory, status: int) -> None:
    """Raise the error that a status of the engine, or of the count before it, stands for, if it is one."""
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
