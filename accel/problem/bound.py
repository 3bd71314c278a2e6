"""The least time of a problem on a chip: compute, memory and cuts, from problem and chip alone.

Contract section 4: max(flops / peak of enabled nodes, compulsory bytes / port bandwidth, cut traffic / cut bandwidth).

The cut term is the larger of two true lower bounds.

*Edge cut.* All bytes of a memory port pass its routers, in at most `min(edge, routers x link)` bytes a cycle each way;
multicast forks behind that cut, so every byte is counted once, and reads and writes are separate directions.

*Node cut.* Some node of P executes F >= MACs / P (pigeonhole), touching a, b, c distinct elements of the three
tensors. Loomis-Whitney: F^2 <= a b c. With T filter taps the inequality holds a tap at a time, and the sum over taps
(Cauchy-Schwarz; each weight belongs to one tap) gives F^2 <= T a b c; groups only tighten it. All those bytes pass the
node's mesh port, `w` bytes a cycle each way. Nothing resident: (a ea + b eb) enter and c ec leave, so
max(in, out) = t has t^3 >= 4 ea eb ec F^2 / T. With resident operands up to S bytes may be there at the start and S
stay at the end: the busier direction carries at least (3 (ea eb ec F^2 / T)^(1/3) - 2 S) / 2 (arithmetic mean >=
geometric mean).
Which of the three is the output does not matter: swapping roles moves two tensors out and one in, and the product with
the factor 4 is the same. Irony, Toledo, Tiskin 2004 is the same argument for matrices.

No bisection term: an all-in-one-half mapping crosses no bisection, so its lower bound over all mappings is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Bound", "Chip", "Demand", "bound_of"]


class _Port(Protocol):
    """A memory port: routers, and bytes a cycle of one router link, of the whole edge and of the memory behind."""

    @property
    def routers(self) -> Sequence[tuple[int, int]]: ...
    @property
    def link_bytes_per_cycle(self) -> int: ...
    @property
    def edge_bytes_per_cycle(self) -> float: ...
    @property
    def bytes_per_cycle(self) -> float: ...
    @property
    def efficiency(self) -> float: ...


class _Node(Protocol):
    """A node: SRAM, and the bytes a cycle of its mesh port each way."""

    @property
    def sram_bytes(self) -> int: ...
    @property
    def mesh_bytes_per_cycle(self) -> int: ...


class _Noc(Protocol):
    """The network: bytes a cycle of a link each way."""

    @property
    def link_bytes_per_cycle(self) -> int: ...


class Chip(Protocol):
    """What the bound reads of a chip; `accel.hardware.ChipSpec`, on a floor above, has this form."""

    @property
    def clock_hz(self) -> int:
        """Cycles a second."""

    @property
    def nodes(self) -> int:
        """Enabled nodes."""

    @property
    def node(self) -> _Node:
        """One node; all are alike."""

    @property
    def noc(self) -> _Noc:
        """The network between the nodes."""

    @property
    def ports(self) -> Sequence[_Port]:
        """Memory ports."""

    def peak_flops(self, dtype: str, /) -> float:
        """Peak flop a second of all enabled nodes in a number format."""


class Bound(NamedTuple):
    """Least seconds, the term that sets it ("compute", "memory" or "cut"), and all terms in seconds."""

    seconds: float
    cause: str
    terms: dict[str, float]


class Demand(NamedTuple):
    """What a problem asks of a chip; bytes are memory traffic, `bytes_product` the product of the element sizes.

    Messages between nodes: `message_bytes` that the busiest node must receive or send through its mesh port, and
    `crossing_bytes` over the busiest link.
    """

    flops: int
    dtype: str
    read_bytes: int
    write_bytes: int
    touching_macs: int
    taps: int
    bytes_product: float
    any_resident: bool
    message_bytes: int = 0
    crossing_bytes: int = 0


def bound_of(demand: Demand, chip: Chip) -> Bound:
    """Return the bound of `demand` on `chip`; ties go to the earlier of compute, memory, cut.

    `accel.timing.rooflines` is the same over arrays of design points.
    """
    memory_rate = sum(port.bytes_per_cycle * port.efficiency for port in chip.ports) * chip.clock_hz
    edge_rate = chip.clock_hz * sum(
        min(port.edge_bytes_per_cycle, len(port.routers) * port.link_bytes_per_cycle) for port in chip.ports
    )
    edge = max(demand.read_bytes, demand.write_bytes) / edge_rate
    node = _node_port_bytes(demand, chip) / (chip.node.mesh_bytes_per_cycle * chip.clock_hz)
    messages = max(
        demand.message_bytes / chip.node.mesh_bytes_per_cycle, demand.crossing_bytes / chip.noc.link_bytes_per_cycle
    )
    terms = {
        "compute": demand.flops / chip.peak_flops(demand.dtype) if demand.flops else 0.0,
        "memory": (demand.read_bytes + demand.write_bytes) / memory_rate,
        "cut": max(edge, node, messages / chip.clock_hz),
    }
    cause = max(terms, key=lambda name: terms[name])
    return Bound(terms[cause], cause, terms)


def _node_port_bytes(demand: Demand, chip: Chip) -> float:
    """Bytes that the busiest node must pass in its busier direction (module docstring, node cut)."""
    busiest = demand.touching_macs / chip.nodes
    cube = demand.bytes_product * busiest * busiest / demand.taps
    if demand.any_resident:
        return max(0.0, (3.0 * math.cbrt(cube) - 2.0 * chip.node.sram_bytes) / 2.0)
    return math.cbrt(4.0 * cube)
