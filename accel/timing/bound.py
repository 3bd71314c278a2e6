"""Lower bounds from counted work: no schedule of the same program on the same chip is faster."""

from __future__ import annotations

from accel.hardware import ChipSpec
from accel.timing import state as s

__all__ = ["resource_bounds"]


def resource_bounds(chip: ChipSpec, state: s.State) -> dict[str, int]:
    """Return cycles by resource: the busiest unit or port of a node, the memory ports, the busiest link.

    Each holds because the resource serves one thing at a time at its rate: the totals are of this program, whatever
    the order.
    """
    nodes, ports, links = state.nodes, state.ports, state.links
    memory = edge = 0
    for port in ports:
        clock = int(port[s.Q_CLOCK])
        read, written = int(port[s.Q_READ]), int(port[s.Q_WRITTEN])
        memory = max(memory, (read + written) * int(port[s.Q_COST]) // clock)
        edge = max(edge, max(read, written) * int(port[s.Q_EDGE_COST]) // clock)
    sites = chip.mesh.site_rows * chip.mesh.site_cols
    busiest = int(links[: 4 * sites, s.X_BYTES].max(initial=0))
    inout = int(max(links[4 * sites : 5 * sites, s.X_BYTES].max(initial=0), links[-sites:, s.X_BYTES].max(initial=0)))
    return {
        "matrix": int(nodes[:, s.N_MATRIX_BUSY].max(initial=0)),
        "vector": int(nodes[:, s.N_VECTOR_BUSY].max(initial=0)),
        "sram_port": int(nodes[:, s.N_PORT_BUSY].max(initial=0)),
        "memory": memory,
        "edge": edge,
        "link": busiest // chip.noc.link_bytes_per_cycle,
        "mesh_port": inout // chip.node.mesh_bytes_per_cycle,
    }
