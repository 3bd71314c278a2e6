"""Energy of a run: counted work times the prior energies of the chip, nominal with low and high."""

from __future__ import annotations

from typing import NamedTuple

from accel.hardware import ChipSpec

__all__ = ["Energy", "energy_of"]


class Energy(NamedTuple):
    """Joules with their uncertainty, and the share of each consumer in the nominal figure."""

    nominal: float
    low: float
    high: float
    shares: dict[str, float]


def energy_of(
    chip: ChipSpec, *, macs: int, vector_flops: int, sram_bytes: int, byte_hops: int, memory_bytes: int, seconds: float
) -> Energy:
    """Return the energy of counted work in `seconds`; low and high add the respective ends, as if all erred together.

    The energies per unit are literature figures (see `hardware.catalog`): a prior, not a calibration.
    """
    e = chip.energy
    work = {
        "matrix": (e.mac_pj, macs * 1e-12),
        "vector": (e.vector_flop_pj, vector_flops * 1e-12),
        "sram": (e.sram_pj_per_byte, sram_bytes * 1e-12),
        "mesh": (e.link_pj_per_byte_hop, byte_hops * 1e-12),
        "memory": (e.memory_pj_per_byte, memory_bytes * 1e-12),
        "idle": (e.idle_w, seconds),
    }
    nominal = sum(unit.nominal * amount for unit, amount in work.values())
    shares = {name: unit.nominal * amount / nominal if nominal else 0.0 for name, (unit, amount) in work.items()}
    return Energy(
        nominal, sum(unit.low * amount for unit, amount in work.values()),
        sum(unit.high * amount for unit, amount in work.values()), shares,
    )  # fmt: skip
