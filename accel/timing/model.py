"""A program on a chip at a fidelity: prepares the memory, runs the event loop or only counts, hands over to `fold`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accel import jit
from accel.hardware import ChipSpec
from accel.isa.program import Program, Table
from accel.timing import state as s
from accel.timing.bound import resource_bounds
from accel.timing.count import count_work
from accel.timing.drive import drive, require_done
from accel.timing.fold import Work, bound_timing, packet_timing
from accel.timing.memory import Memory
from accel.timing.prepare import prepare
from accel.timing.result import Replay, Timing

__all__ = ["cycles_of", "time_program"]


def time_program(program: Program, chip: ChipSpec, fidelity: str, packet_bytes: int, plain: bool) -> Timing:
    """Return the Timing of a program; plain=True interprets the same engine in plain Python.

    The work is counted first, for the bounds and for the totals that both fidelities share.
    """
    prepared = prepare(program, chip)
    memory = Memory(program, chip, prepared.rows, packet_bytes)
    executed: Table = np.zeros(len(program.code), np.int64)
    counted = memory.copy()
    (jit.plain(count_work) if plain else count_work)(counted.m, executed)
    require_done(program, counted, int(counted.m[s.S_STATUS]))
    work = Work(program, chip, prepared, executed, resource_bounds(counted))
    if fidelity == "bound":
        return bound_timing(work, counted)
    drive(program, memory, plain)
    return packet_timing(work, memory, Replay(program, chip, packet_bytes, plain))


def cycles_of(program: Program, chip: ChipSpec, pace: Mapping[str, float]) -> int:
    """Return just the cycles of a program at fidelity "packet".

    pace: by unit, "matrix" or "vector", how many times as fast it computes as the chip's.
    """
    memory = Memory(program, chip, prepare(program, chip, pace).rows, chip.noc.packet_bytes)
    drive(program, memory, plain=False)
    return int(memory.m[s.S_LAST])
