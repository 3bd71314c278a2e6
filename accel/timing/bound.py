"""Lower bounds from counted work: no schedule of the same program on the same chip is faster."""

from __future__ import annotations

from accel.timing import state as s
from accel.timing.memory import Memory

__all__ = ["resource_bounds"]


def resource_bounds(memory: Memory) -> dict[str, int]:
    """Return cycles by resource: the busiest unit or port of a node, the memory ports, the busiest link.

    Each holds because the resource serves one thing at a time at its rate: the totals are of this program, whatever
    the order.
    """
    noc, node = memory.chip.noc, memory.chip.node
    busy = edge = 0
    for clock, cost, edge_cost, read, written in zip(
        *(memory.port(word) for word in (s.Q_CLOCK, s.Q_COST, s.Q_EDGE_COST, s.Q_READ, s.Q_WRITTEN)), strict=True
    ):
        busy = max(busy, (read + written) * cost // clock)
        edge = max(edge, max(read, written) * edge_cost // clock)
    links, injected, ejected = memory.link_bytes()
    return {
        "matrix": int(memory.node(s.N_MATRIX_BUSY).max()),
        "vector": int(memory.node(s.N_VECTOR_BUSY).max()),
        "sram_port": int(memory.node(s.N_PORT_BUSY).max()),
        "memory": busy,
        "edge": edge,
        "link": int(links.max()) // noc.link_bytes_per_cycle,
        "mesh_port": int(max(injected.max(), ejected.max())) // node.mesh_bytes_per_cycle,
    }
