"""Cycle model: simulate(program, chip) says how long it takes and where every lost cycle went."""

from __future__ import annotations

from accel.errors import InputError
from accel.hardware import ChipSpec
from accel.isa.program import Program
from accel.timing.result import LineTotals, Segment, Timing
from accel.timing.sensitivity import Sensitivity, sensitivities

__all__ = ["LineTotals", "Segment", "Sensitivity", "Timing", "sensitivities", "simulate"]


def simulate(
    program: Program,
    chip: ChipSpec,
    *,
    fidelity: str = "packet",
    packet_bytes: int | None = None,
    engine: str = "jit",
) -> Timing:
    """Return the `Timing` of a program on a chip; the rules are in `docs/cycle-model.md`.

    fidelity: "packet" runs the event engine, "bound" gives a closed-form lower bound of it. packet_bytes: largest
    packet (default: the chip's noc.packet_bytes), a multiple of the link's bytes a cycle. engine: "jit", or "plain"
    for the same engine in plain Python, slow and equal.
    Raises InputError for a program or option that does not fit, DeadlockError for a program that never ends.
    """
    if not isinstance(program, Program):
        raise InputError(f"Cannot time {type(program).__name__}: simulate takes an isa.Program; build the kernel first")
    if not isinstance(chip, ChipSpec):
        raise InputError(f"Cannot time on {chip!r}: simulate takes a ChipSpec; use accel.chip(name)")
    if fidelity not in ("packet", "bound"):
        raise InputError(f"Cannot time at fidelity {fidelity!r}; use 'packet' or 'bound'")
    if engine not in ("jit", "plain"):
        raise InputError(f"Cannot time with engine {engine!r}; use 'jit' or 'plain'")
    size = chip.noc.packet_bytes if packet_bytes is None else packet_bytes
    link = chip.noc.link_bytes_per_cycle
    if type(size) is not int or size < link or size % link or size >= 1 << 22:
        raise InputError(
            f"Cannot use packet_bytes={size!r}: it must be a multiple of the link's {link} bytes below 4 MiB"
        )
    from accel.timing.model import time_program  # here, because it loads the compiler

    return time_program(program, chip, fidelity, size, engine == "plain")
