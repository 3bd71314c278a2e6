"""Drives the event engine to its end: enlarges the stores it runs out of, turns its refusals into errors."""

from __future__ import annotations

import numpy as np

from accel import jit
from accel.errors import AccelError, DeadlockError, Finding, InternalError, ProgramError, UnsupportedError
from accel.isa.layout import W_OPCODE
from accel.isa.program import Program
from accel.isa.table import BY_OPCODE
from accel.timing import engine
from accel.timing import state as s
from accel.timing.bins import fill_bins
from accel.timing.memory import Memory
from accel.timing.path import line_of

__all__ = ["drive", "require_done"]


def drive(program: Program, memory: Memory, plain: bool) -> None:
    """Run the engine from the state of `memory` to the end of the program, or raise what stops it."""
    run = jit.plain(engine.run) if plain else engine.run
    while (status := int(run(memory.m, memory.log))) != s.DONE:
        require_done(program, memory, status)
        if status == s.FULL_MOVES:
            count_moves(memory, plain)
        memory.grow(status)
    if memory.m[s.K_BIN]:
        count_moves(memory, plain)


def count_moves(memory: Memory, plain: bool) -> None:
    """Add what a recording run has noted of links to its time bins."""
    (jit.plain(fill_bins) if plain else fill_bins)(memory.m, memory.moves, int(memory.m[s.S_MOVES]))


def require_done(program: Program, memory: Memory, status: int) -> None:
    """Raise the error that a status of the engine, or of the count before it, stands for, if it is one."""
    error: AccelError | None = None
    if status == s.STUCK:
        error = _deadlock(program, memory)
    elif s.BAD_TARGET <= status <= s.BAD_OWNER:
        error = _refused(program, memory, status)
    elif status == s.TOO_LONG:
        error = UnsupportedError(
            f"Cannot time {program.name!r}: it runs for over {int(memory.m[s.K_MOST]):.1e} cycles; time a part of it"
        )
    elif status == s.EXHAUSTED:
        error = InternalError(f"one event of {program.name!r} took more records than the engine keeps free for it")
    if error is not None:
        raise error


def _refused(program: Program, memory: Memory, status: int) -> ProgramError:
    """Name what is wrong on the node that showed it first, in the words of the executor."""
    row, node, value = (int(memory.m[word]) for word in (s.S_ERROR, s.S_ERROR_NODE, s.S_ERROR_VALUE))
    what = {
        s.BAD_TARGET: "names a target outside the mesh; a store names its own node, a pull one node",
        s.BAD_SEMAPHORE: f"names semaphore {value} of {program.semaphore_init.size}; use one that the program has",
        s.BAD_COUNT: f"has a count of {value}; counts and trips cannot be negative",
        s.BAD_MEMBER: "joins a barrier of nodes that it is not one of; correct its target",
        s.BAD_OWNER: "pulls from more than one node; name the one whose SRAM is read",
    }[status]
    name = BY_OPCODE[int(program.code[row, W_OPCODE])].mnemonic
    return ProgramError(f"{name} (row {row}) on node {program.node(node)} {what}", at=line_of(program, row))


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
