"""Energy of a run: counted work times the prior energies of the chip, nominal with low and high."""

from __future__ import annotations

from collections.abc import Mapping
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
    chip: ChipSpec, *, macs: Mapping[tuple[str, str], int], vector_flops: int, sram_bytes: int, byte_hops: int,
    memory_bytes: int, seconds: float,
) -> Energy:  # fmt: skip
    """Return the energy of counted work in `seconds`; low and high add the respective ends, as if all erred together.

    macs: multiply-adds by the formats of their operands. The energies per unit are literature figures (see
    `hardware.catalog`): a prior, not a calibration.
    """
    e = chip.energy
    work = [
        *(("matrix", e.mac(*formats), count * 1e-12) for formats, count in macs.items()),
        ("vector", e.vector_flop_pj, vector_flops * 1e-12),
        ("sram", e.sram_pj_per_byte, sram_bytes * 1e-12),
        ("mesh", e.link_pj_per_byte_hop, byte_hops * 1e-12),
        ("memory", e.memory_pj_per_byte, memory_bytes * 1e-12),
        ("idle", e.idle_w, seconds),
    ]
    nominal = sum(unit.nominal * amount for _, unit, amount in work)
    shares = dict.fromkeys(("matrix", *(name for name, _, _ in work)), 0.0)
    for name, unit, amount in work if nominal else ():
        shares[name] += unit.nominal * amount / nominal
    return Energy(
        nominal, sum(unit.low * amount for _, unit, amount in work),
        sum(unit.high * amount for _, unit, amount in work), shares,
    )  # fmt: skip
