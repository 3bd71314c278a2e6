"""inspect(): walk a program under several schedules and report every hazard in one list."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.check import layout as w
from accel.check.arena import first_state
from accel.check.layout import State
from accel.check.pools import grown, threads_of
from accel.check.prepare import Tables, tables_of
from accel.check.refusal import refusal
from accel.check.report import Reporter
from accel.errors import Finding, InputError, UnsupportedError
from accel.hardware.spec import ChipSpec
from accel.isa import layout as isa
from accel.isa.program import Program

__all__ = ["inspect"]

FURTHER = 4  # orders that are walked to find all sides of a hazard: a walk shows one race for each byte and time


def inspect(
    program: Program, chip: ChipSpec, *, schedules: int = 4, seed: int = 0, engine: str = "jit"
) -> tuple[Finding, ...]:
    """Return every hazard of `program` on `chip`, grouped over nodes and repetitions; empty = clean.

    One natural execution of the control flow, without data, decides by happens-before; `schedules` more orders of
    threads and copies (drawn from `seed`) must show nothing. Where the first shows a hazard, a fixed number of orders
    follows in their place, so that the list is the same whatever `schedules` and `seed` are. Of `chip` only
    `node.semaphore_bits` matters. engine: "jit", or "plain" for the same walk in plain Python. Never prints; never
    raises for a finding. Raises InputError for bad arguments, ProgramError or BoundsError for rows that break the
    machine, UnsupportedError for programs too large to check.
    """
    for name, value, most in (("schedules", schedules, 1000), ("seed", seed, 2**63)):
        if type(value) is not int or not 0 <= value <= most:
            raise InputError(f"Cannot check with {name}={value!r}; give a whole number from 0 to {most}")
    if engine not in ("jit", "plain"):
        raise InputError(f"Cannot check with engine={engine!r}; use 'jit' or 'plain'")
    tables = tables_of(program, chip.node.semaphore_bits)
    reporter = Reporter(tables, chip.node.semaphore_bits)
    _look(tables, reporter, 0, 0, engine)
    if reporter.entries:  # what is wrong with it is told in full, and the same whatever `schedules` and `seed` are
        schedules, seed = FURTHER, 0
    for mode in range(1, schedules + 1):
        _look(tables, reporter, mode, seed, engine)
    return reporter.findings()


def _look(tables: Tables, reporter: Reporter, mode: int, seed: int, engine: str) -> None:
    """Walk the program in one order and hand what it shows to the reporter."""
    state = first_state(tables, mode, seed)
    unset = _shards(tables, state, isa.DIR_PRELOAD, engine)
    state = _walk(tables.program, state, engine)
    stuck = bool((threads_of(state)[:, w.T_STATUS] != w.OVER).any())
    if not stuck:
        unset += _shards(tables, state, isa.DIR_COLLECT, engine)
    reporter.add(state, unset, stuck)


def _walk(program: Program, state: State, engine: str) -> State:
    from accel.check.walk import run

    core: Any = run if engine == "jit" else run.plain
    while True:
        result = core(state)
        if result == w.END:
            return state
        if result == w.BROKEN:
            raise refusal(program, state)
        if result == w.TOO_LONG:
            raise UnsupportedError(
                f"{program.name!r} runs more than 400 million instructions, too many to check; check a smaller shape"
            )
        state = grown(state, result, program.name)


def _shards(tables: Tables, state: State, direction: int, engine: str) -> list[tuple[int, int, int]]:
    """Apply the preloads or collects to the shadow; return (shard, group, node) of collects of unwritten bytes."""
    from accel.check.walk import shard

    program = tables.program
    core: Any = shard if engine == "jit" else shard.plain
    bad: list[tuple[int, int, int]] = []
    for index, row in enumerate(program.shards):
        if row[isa.H_DIRECTION] != direction:
            continue
        for node in np.flatnonzero(program.role_of == row[isa.H_ROLE]).tolist():
            result = core(state, row, node)
            if result == w.BROKEN:
                raise refusal(program, state, (index, node))
            if result == w.UNSET:
                bad.append((index, int(tables.foot[row[isa.H_SRC], w.F_GROUP]), node))
    return bad
