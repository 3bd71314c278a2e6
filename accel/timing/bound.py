"""Lower bounds from counted work: no schedule of the same program on the same chip is faster."""

from __future__ import annotations

from accel.timing import state as s
from accel.timing.memory import Memory

__all__ = ["resource_bounds"]


def resource_bounds(memory: Memory) -> dict[str, int]:
    """Return cycles by resource from counted work: a thread without waits, units and ports of a node, memory ports.

    Each holds because the resource serves one thing at a time at its rate: the totals are of this program, whatever
    the order. A link between routers is left out: what it carries depends on routes, not on the program alone.
    """
    busy = edge = 0
    for clock, cost, edge_cost, read, written in zip(
        *(memory.port(word) for word in (s.Q_CLOCK, s.Q_COST, s.Q_EDGE_COST, s.Q_READ, s.Q_WRITTEN)), strict=True
    ):
        busy = max(busy, (read + written) * cost // clock)
        edge = max(edge, max(read, written) * edge_cost // clock)
    _, injected, ejected = memory.link_bytes()
    return {
        "thread": int(memory.thread(s.T_TIME).max()),
        "matrix": int(memory.node(s.N_MATRIX_BUSY).max()),
        "vector": int(memory.node(s.N_VECTOR_BUSY).max()),
        "sram_port": int(memory.node(s.N_PORT_BUSY).max()),
        "memory": busy,
        "edge": edge,
        "mesh_port": int(max(injected.max(), ejected.max())) // memory.chip.node.mesh_bytes_per_cycle,
    }
