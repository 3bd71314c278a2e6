"""Power of a fully loaded chip by part: a prior from literature, not a measurement."""

from __future__ import annotations

from typing import NamedTuple

from accel.hardware.schema import Range
from accel.hardware.spec import ChipSpec

__all__ = ["OPERAND_BYTES_PER_STEP", "FullLoad", "full_load_power"]

# A bf16 micro-step inside a 16 x 16 output block reads one 8 x 4 operand tile (64 B) from SRAM; the other is still in a
# register.
OPERAND_BYTES_PER_STEP = 64
# A blocked matmul with panels of a few hundred rows brings about this many bytes a cycle into each node over the mesh.
MESH_BYTES_PER_NODE_CYCLE = 16


class FullLoad(NamedTuple):
    """Watts by part (nominal), their sum with its uncertainty, and what the figure is worth."""

    watts: dict[str, float]
    total_w: Range
    label: str

    def shares(self) -> dict[str, float]:
        """Each part's share of the nominal total; they sum to 1."""
        total = sum(self.watts.values())
        return {name: watts / total for name, watts in self.watts.items()}


def full_load_power(chip: ChipSpec) -> FullLoad:
    """Return the power of `chip` with every enabled matrix unit at its peak and memory at its bandwidth.

    Per cycle: nodes x m n k multiply-adds in the fastest format (of several the dearest), 64 B of SRAM operands a node
    and micro-step, 16 B a node over one mesh hop, memory at its sustained rate; times the energies of `chip.energy`,
    plus idle power. Low and high add the respective ends, as if all were wrong together.
    """
    matrix, energy, clock = chip.node.matrix, chip.energy, chip.clock_hz
    fastest = [name for name, n in matrix.step_cycles.items() if n == min(matrix.step_cycles.values())]
    mac = max((energy.mac(name) for name in fastest), key=lambda price: price.nominal, default=energy.mac_pj)
    steps_per_cycle = chip.nodes / min(matrix.step_cycles.values()) if matrix.step_cycles else 0.0
    per_second = {
        "matrix": (mac, steps_per_cycle * matrix.m * matrix.n * matrix.k * clock),
        "sram": (energy.sram_pj_per_byte, steps_per_cycle * OPERAND_BYTES_PER_STEP * clock),
        "mesh": (energy.link_pj_per_byte_hop, chip.nodes * MESH_BYTES_PER_NODE_CYCLE * clock),
        "memory": (energy.memory_pj_per_byte, chip.memory_bytes_per_s),
    }
    watts = {name: pj.nominal * rate * 1e-12 for name, (pj, rate) in per_second.items()}
    watts["idle"] = energy.idle_w.nominal
    total = Range(
        nominal=sum(watts.values()),
        low=energy.idle_w.low + sum(pj.low * rate * 1e-12 for pj, rate in per_second.values()),
        high=energy.idle_w.high + sum(pj.high * rate * 1e-12 for pj, rate in per_second.values()),
    )
    return FullLoad(watts, total, "prior: 7 nm literature figures, not validated against this chip")
