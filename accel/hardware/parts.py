"""The parts of a chip: mesh, node, network, memory ports, energy, cost, host; every field with its unit."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from accel.hardware.schema import Bytes, Count, Cycles, Natural, Positive, Range, Share, Spec
from accel.numerics.formats import FORMATS, fmt

__all__ = [
    "CostSpec",
    "EnergySpec",
    "HostSpec",
    "MatrixSpec",
    "MeshSpec",
    "NocSpec",
    "NodeSpec",
    "PortSpec",
    "Site",
    "VectorSpec",
]

Site = tuple[Natural, Natural]  # physical (row, col), row 0 north, col 0 west
Depth = Annotated[int, msgspec.Meta(ge=1, le=4096)]  # packets in a buffer, of which the cycle model notes each
Side = Annotated[int, msgspec.Meta(ge=1, le=1024)]  # sites or nodes along one side of the mesh
OUTPUT_BITS = 16  # of the formats in which a matrix unit may write beside that of its accumulators


class MeshSpec(Spec, frozen=True, kw_only=True):
    """The physical grid of sites, which of them are disabled, and the logical grid kernels see.

    A map sends a logical index to a physical one; empty means identity. Routing is physical.
    """

    at: ClassVar[str] = "mesh"
    site_rows: Side
    site_cols: Side
    holes: tuple[Site, ...] = ()  #: disabled sites: no node; their router still forwards
    rows: Side  #: logical mesh
    cols: Side
    row_map: tuple[Natural, ...] = ()
    column_map: tuple[Natural, ...] = ()

    def verify(self) -> None:
        """Holes on sites; logical grid injective and on enabled sites only."""
        for hole in self.holes:
            if hole[0] >= self.site_rows or hole[1] >= self.site_cols:
                where = f"{self.site_rows} x {self.site_cols} sites"
                raise self.refuse("holes", f"{hole} lies outside the {where}; use a site inside")
        if len(set(self.holes)) != len(self.holes):
            raise self.refuse("holes", "names a site twice; list every disabled site once")
        for name, size, sites, index in (
            ("row_map", self.rows, self.site_rows, self.row_map),
            ("column_map", self.cols, self.site_cols, self.column_map),
        ):
            if not index and size > sites:
                raise self.refuse(
                    "rows" if name == "row_map" else "cols", f"{size} logical on {sites} physical; use at most {sites}"
                )
            if index and (len(index) != size or len(set(index)) != size or max(index) >= sites):
                raise self.refuse(name, f"needs {size} different indices below {sites}, one for each logical index")
        dead = set(self.holes)
        for r in range(self.rows) if dead else ():
            for c in range(self.cols):
                if self.physical(r, c) in dead:
                    raise self.refuse(
                        "holes",
                        f"logical node ({r}, {c}) sits on the disabled site {self.physical(r, c)}; "
                        "shrink the logical mesh or map round the hole",
                    )

    def physical(self, row: int, col: int) -> tuple[int, int]:
        """Physical site of logical node (row, col); no bounds check beyond Python's."""
        return (self.row_map[row] if self.row_map else row, self.column_map[col] if self.column_map else col)


class MatrixSpec(Spec, frozen=True, kw_only=True):
    """The matrix unit: one m x n x k micro-step at a time into a register-held accumulator block."""

    at: ClassVar[str] = "node.matrix"
    m: Count = 8
    n: Count = 8
    k: Count = 4
    accumulator_rows: Count = 16  #: fp32 elements held in registers
    accumulator_cols: Count = 16
    fill_cycles: Cycles  #: pipeline depth: cycles from the first micro-step to its result
    step_cycles: dict[str, Count]  #: format -> cycles a micro-step; a format that is absent is not taken
    #: 16-bit float formats, beside that of the accumulators, in which it can write a finished result, rounded once
    output_formats: tuple[str, ...] = ()

    def verify(self) -> None:
        """Known formats, of 16 bits and named once where results leave; an accumulator block that micro-steps tile."""
        for name in self.output_formats:
            try:
                row = fmt(name)
            except ValueError as error:
                raise self.refuse("output_formats", str(error)) from None
            if row.kind == "int" or row.bits != OUTPUT_BITS:
                taken = ", ".join(f.name for f in FORMATS.values() if f.kind != "int" and f.bits == OUTPUT_BITS)
                raise self.refuse("output_formats", f"{name} is no float format of {OUTPUT_BITS} bits; use {taken}")
        if len(set(self.output_formats)) != len(self.output_formats):
            raise self.refuse("output_formats", "names a format twice; name each once")
        for name in self.step_cycles:
            try:
                fmt(name)
            except ValueError as error:
                raise self.refuse("step_cycles", str(error)) from None
        for field, block, step in (
            ("accumulator_rows", self.accumulator_rows, self.m),
            ("accumulator_cols", self.accumulator_cols, self.n),
        ):
            if block % step:
                raise self.refuse(field, f"{block} is not a multiple of the micro-step's {step}; use one that is")


class VectorSpec(Spec, frozen=True, kw_only=True):
    """The vector unit: `bytes_per_cycle` of one operand a pass; a simple operation is one pass."""

    at: ClassVar[str] = "node.vector"
    bytes_per_cycle: Count = 64
    fill_cycles: Cycles
    divide_passes: Count
    sqrt_passes: Count
    random_passes: Count = 1  #: random numbers
    stochastic_passes: Count = 1  #: rounding at random
    transpose_passes: Count = 2
    flops_per_lane: Count = 2  #: a lane is 4 bytes and does a fused multiply-add a cycle

    def verify(self) -> None:
        """Whole fp32 lanes."""
        if self.bytes_per_cycle % 4:
            raise self.refuse("bytes_per_cycle", f"{self.bytes_per_cycle} is no multiple of 4, a lane; use one that is")


class NodeSpec(Spec, frozen=True, kw_only=True):
    """One node: SRAM and its ports, threads, semaphores, copy engine, matrix and vector unit."""

    at: ClassVar[str] = "node"
    sram_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 32)]
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)]
    semaphores: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    semaphore_bits: Annotated[int, msgspec.Meta(ge=1, le=31)] = 16  #: counts up to 2^bits - 1; more is an error
    loop_depth: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4  #: nested hardware loops
    load_ports: Count = 2
    store_ports: Count = 1
    port_bytes: Count = 64  #: bytes of one SRAM access
    accesses_per_cycle: Count = 2  #: address units shared by all core ports
    mesh_bytes_per_cycle: Count = 64  #: the node's own mesh port, each way
    issue_cycles: Cycles = 1  #: a thread's time to issue any instruction
    copy_issue_cycles: Cycles  #: a thread's time to write a copy descriptor
    copy_queue_depth: Count  #: copies in flight a node; one more blocks the issuing thread
    matrix: MatrixSpec
    vector: VectorSpec


class NocSpec(Spec, frozen=True, kw_only=True):
    """The mesh network: XY routing on physical sites, packets with finite input buffers."""

    at: ClassVar[str] = "noc"
    link_bytes_per_cycle: Count = 64  #: each way
    hop_cycles: Cycles = 1
    packet_bytes: Count = 1024  #: largest packet
    header_bytes: Count = 16  #: of the request that a pull sends; the headers of data packets are not counted
    buffer_packets: Depth  #: input buffer of a link, in packets
    semaphore_cycles: Cycles  #: fixed cost of a remote inc beside its hops
    barrier_cycles: Cycles  #: cost of a barrier over the whole logical mesh once the last node has arrived

    def verify(self) -> None:
        """Packets made of whole link transfers."""
        if self.packet_bytes % self.link_bytes_per_cycle:
            raise self.refuse(
                "packet_bytes",
                f"{self.packet_bytes} is not a multiple of noc.link_bytes_per_cycle = "
                f"{self.link_bytes_per_cycle}; use one that is",
            )


class PortSpec(Spec, frozen=True, kw_only=True):
    """A memory port: one memory behind a set of routers."""

    at: ClassVar[str] = "ports"
    name: str
    routers: tuple[Site, ...]  #: physical sites where it enters the mesh
    link_bytes_per_cycle: Count  #: through one router, each way
    edge_bytes_per_cycle: Positive  #: through all its routers together, each way
    capacity_bytes: Bytes
    bytes_per_cycle: Positive  #: of the memory itself, reads and writes together
    latency_cycles: Cycles  #: request at the router to first byte at the router
    interleave_bytes: Annotated[int, msgspec.Meta(ge=64, le=1 << 30)] = 4096  #: address block that one router serves
    efficiency: Share = 1.0  #: sustained share of bytes_per_cycle

    def path(self, name: str) -> str:
        """Fields of a port are named by its name: `ports.west.latency_cycles`."""
        return f"ports.{self.name}.{name}"

    def verify(self) -> None:
        """A name, and at least one router, none twice."""
        if not self.name.strip():
            raise self.refuse("name", "is empty; give the port a name")
        if not self.routers or len(set(self.routers)) != len(self.routers):
            raise self.refuse("routers", "needs a router, and none twice; list its physical sites")


class EnergySpec(Spec, frozen=True, kw_only=True):
    """Energy of one unit of work in picojoules, and the power of a chip that does nothing, in watts."""

    at: ClassVar[str] = "energy"
    mac_pj: Range  #: one bf16 multiply with fp32 add, register traffic included
    mac_by_format: dict[str, Range] = msgspec.field(default_factory=dict)  #: of operands in other formats, where known
    vector_flop_pj: Range  #: one fp32 flop of the vector unit
    sram_pj_per_byte: Range  #: read or write of a node's SRAM
    link_pj_per_byte_hop: Range  #: one byte through one router and its link
    memory_pj_per_byte: Range  #: one byte of a memory port, device and interface
    idle_w: Range  #: clocks, leakage, interfaces

    def verify(self) -> None:
        """Known formats."""
        for name in self.mac_by_format:
            try:
                fmt(name)
            except ValueError as error:
                raise self.refuse("mac_by_format", str(error)) from None

    def mac(self, dtype: str, other: str | None = None) -> Range:
        """Return the picojoules of one multiply-add.

        dtype, other: formats of its operands (None: both in dtype), of which the dearer counts. A format that
        `mac_by_format` does not name costs `mac_pj`.
        """
        prices = [self.mac_by_format.get(name, self.mac_pj) for name in (dtype, other or dtype)]
        return max(prices, key=lambda price: (price.nominal, price.high))


class CostSpec(Spec, frozen=True, kw_only=True):
    """What the chip takes to make and to power."""

    at: ClassVar[str] = "cost"
    die_mm2: Positive
    die_usd: Range
    memory_usd: Range  #: all memory behind the ports
    power_w_tdp: Positive


class HostSpec(Spec, frozen=True, kw_only=True):
    """The host's side of a launch."""

    at: ClassVar[str] = "host"
    launch_s: Annotated[float, msgspec.Meta(ge=0.0, le=60.0)] = 0.0  #: added once to a program's seconds
