"""The chips that ship with the library, each figure public or named as an assumption."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from accel.errors import SpecError, nearest
from accel.hardware.parts import (
    CostSpec,
    EnergySpec,
    MatrixSpec,
    MeshSpec,
    NocSpec,
    NodeSpec,
    PortSpec,
    VectorSpec,
)
from accel.hardware.schema import Range
from accel.hardware.spec import ChipSpec

__all__ = ["chip", "names"]


# 7 nm energies: Jouppi et al., "Ten Lessons From Three Generations Shaped Google's TPUv4i", ISCA 2021, Table 2, quoted
# from memory and not re-read, so every figure here is a prior: for shares and orders of magnitude, not for calibration.
#   bf16 mul 0.21 pJ, bf16 add 0.11 pJ, fp32 mul 1.31 pJ, fp32 add 0.38 pJ, 64-bit access of a 1 MB SRAM 14 pJ and of a
#   32 KB SRAM 8.5 pJ, 64-bit access of HBM2 250-450 pJ; int8 mul 0.07 pJ, int8 add 0.007 pJ, int32 add 0.03 pJ, fp16
#   mul 0.34 pJ, fp16 add 0.16 pJ. Registers add up to 0.41 pJ to any multiply-add: the high end of each row.
_INT8 = Range(nominal=0.10, low=0.077, high=0.51)  # int8 mul + int32 add; low with int8 add
_FP16 = Range(nominal=0.72, low=0.50, high=1.13)  # fp16 mul + fp32 add; low with fp16 add
_CFP8 = Range(nominal=0.59, low=0.18, high=1.00)  # as bf16; low: int8 mul + bf16 add


def _energy_7nm(idle_w: Range) -> EnergySpec:
    return EnergySpec(
        mac_pj=Range(nominal=0.59, low=0.32, high=1.00),  # bf16 mul + fp32 add; low with bf16 add; high: registers
        mac_by_format={
            "int8": _INT8,
            "uint8": _INT8,
            "fp16": _FP16,
            "shp16": _FP16,
            "uhp16": _FP16,
            "cfp8-143": _CFP8,
            "cfp8-152": _CFP8,
        },
        vector_flop_pj=Range(nominal=0.845, low=0.38, high=1.31),  # half an fp32 multiply-add; add alone; mul alone
        sram_pj_per_byte=Range(nominal=1.75, low=1.0625, high=2.6),  # 14 pJ / 8 B; 32 KB banks; 1.5 x for wires
        link_pj_per_byte_hop=Range(nominal=1.0, low=0.5, high=2.0),  # 0.1 pJ/bit/mm x 1.3 mm a node; router guessed
        memory_pj_per_byte=Range(nominal=43.75, low=31.25, high=56.25),  # 350, 250, 450 pJ / 8 B
        idle_w=idle_w,
    )


_UNIT_ASSUMPTIONS = {
    "node.accesses_per_cycle": "2 address units; the published 400/270 GB/s a node counts the mesh ports too",
    "node.matrix.accumulator_rows": "16 x 16 fp32 accumulator block held in registers; its size is not public",
    "node.matrix.accumulator_cols": "16 x 16 fp32 accumulator block held in registers; its size is not public",
    "node.matrix.output_formats": "results leave in a 16-bit float format: US patent 11,556,615 B2 (Tesla), claims 7 "
    "and 8; which 16-bit format is an assumption",
    "node.matrix.fill_cycles": "8 stages from operand read to accumulator write, usual for a fused multiply-add array",
    "node.vector.fill_cycles": "8 stages, as the matrix unit",
    "node.vector.divide_passes": "8 passes: a reciprocal seed, three Newton steps of two, one correction",
    "node.vector.sqrt_passes": "10 passes: as a divide with a longer step",
    "node.vector.random_passes": "1 pass: a generator beside the lanes; the maker names hardware random numbers",
    "node.vector.stochastic_passes": "1 pass: stochastic rounding is a mode of the output stage, as the maker names it",
    "node.vector.transpose_passes": "2 passes: a block of lanes is written by rows and read by columns",
    "noc.header_bytes": "16 bytes: a source, a destination, a size and a tag of four bytes each",
    "node.semaphores": "256 counters a node, 16 bits each",
    "node.copy_issue_cycles": "4 cycles to write a descriptor of four 64-bit words",
    "node.copy_queue_depth": "16 copies in flight a node",
    "noc.packet_bytes": "1,024-byte packets: 16 transfers of a 64-byte link",
    "noc.buffer_packets": "4 packets of input buffer a link",
    "noc.semaphore_cycles": "8 cycles to inject and apply a remote increment",
    "energy.mac_by_format": "no table has configurable formats: 8 bits as bf16, whose rate they share, 16 bits as fp16",
    "energy.vector_flop_pj": "as in fp32 whatever the format, integers included: the lanes compute in fp32",
    "energy": "7 nm figures quoted from memory (ISCA 2021, TPUv4i, Table 2): a prior, not a calibration",
}


def _node(
    sram_bytes: int,
    formats: tuple[str, ...] = ("bf16", "cfp8-143", "cfp8-152"),
    output_formats: tuple[str, ...] = ("bf16",),
) -> NodeSpec:
    """The D1 node with a matrix unit for `formats`, which writes its results in fp32 or in one of `output_formats`.

    Public facts from the Hot Chips 34 microarchitecture talk unless listed as assumptions.
    """
    return NodeSpec(
        sram_bytes=sram_bytes,
        threads=4,
        semaphores=256,
        semaphore_bits=16,
        loop_depth=4,
        load_ports=2,
        store_ports=1,
        port_bytes=64,
        accesses_per_cycle=2,
        mesh_bytes_per_cycle=64,
        issue_cycles=1,
        copy_issue_cycles=4,
        copy_queue_depth=16,
        matrix=MatrixSpec(
            m=8,
            n=8,
            k=4,
            accumulator_rows=16,
            accumulator_cols=16,
            fill_cycles=8,
            step_cycles=dict.fromkeys(formats, 1),
            output_formats=output_formats,
        ),
        vector=VectorSpec(bytes_per_cycle=64, fill_cycles=8, divide_passes=8, sqrt_passes=10, flops_per_lane=2),
    )


def _noc(barrier_cycles: int) -> NocSpec:
    return NocSpec(
        link_bytes_per_cycle=64,
        hop_cycles=1,
        packet_bytes=1024,
        buffer_packets=4,
        semaphore_cycles=8,
        barrier_cycles=barrier_cycles,
    )


def _mini() -> ChipSpec:
    """Sixteen D1-like nodes for tests and lessons; at 1 GHz a cycle is a nanosecond."""
    return ChipSpec(
        name="mini",
        description="4 x 4 nodes with the D1 units, 256 KiB each: invented, for tests and lessons",
        clock_hz=1_000_000_000,
        mesh=MeshSpec(site_rows=4, site_cols=4, rows=4, cols=4),
        node=_node(
            256 * 1024,
            formats=("bf16", "fp16", "cfp8-143", "cfp8-152", "shp16", "uhp16", "int8", "uint8"),
            output_formats=("bf16", "fp16"),
        ),
        noc=_noc(barrier_cycles=20),
        ports=(
            PortSpec(
                name="west",
                routers=tuple((r, 0) for r in range(4)),
                link_bytes_per_cycle=64,
                edge_bytes_per_cycle=256.0,
                capacity_bytes=1_000_000_000,
                bytes_per_cycle=64.0,
                latency_cycles=40,
                interleave_bytes=4096,
            ),
        ),
        energy=_energy_7nm(Range(nominal=2.0, low=1.0, high=4.0)),
        cost=CostSpec(
            die_mm2=25.0,
            die_usd=Range(nominal=5.0, low=4.0, high=8.0),
            memory_usd=Range(nominal=7.0, low=7.0, high=16.5),
            power_w_tdp=12.0,
        ),
        assumptions=_UNIT_ASSUMPTIONS
        | {
            "name": "this chip does not exist: what is not a D1 node's is chosen to make small tests telling",
            "noc.barrier_cycles": "a corner gathers and releases: 2 x 6 hops + 8",
            "ports.west.latency_cycles": "40 cycles: short, so that lessons show bandwidth first",
        },
    )


def _d1() -> ChipSpec:
    """One D1 die with one interface processor. Sources: Hot Chips 34 (2022) Dojo microarchitecture and system talks."""
    return ChipSpec(
        name="d1",
        description="Tesla Dojo D1 die, 354 nodes at 2 GHz, one interface processor with 32 GB on the west edge",
        clock_hz=2_000_000_000,
        mesh=MeshSpec(
            site_rows=18,
            site_cols=20,
            holes=((2, 19), (5, 19), (8, 19), (11, 19), (14, 19), (17, 19)),
            rows=18,
            cols=19,
        ),
        node=_node(1_310_720),  # 1.25 MiB; 354 of them are 464 MB, published rounded as 440 MB
        noc=_noc(barrier_cycles=80),
        ports=(
            PortSpec(
                name="west",
                routers=tuple((r, 0) for r in range(18)),
                link_bytes_per_cycle=64,
                edge_bytes_per_cycle=1000.0,  # 2 TB/s an edge
                capacity_bytes=32_000_000_000,
                bytes_per_cycle=400.0,  # 800 GB/s
                latency_cycles=400,
                interleave_bytes=4096,
                efficiency=1.0,
            ),
        ),
        energy=_energy_7nm(Range(nominal=80.0, low=50.0, high=120.0)),
        cost=CostSpec(
            die_mm2=645.0,  # Hot Chips 34
            die_usd=Range(nominal=200.0, low=112.0, high=214.0),  # per perfect die; raw die; at a 10,000 USD wafer
            memory_usd=Range(nominal=224.0, low=224.0, high=528.0),  # 32 GB at 7 USD/GB (2023); 16.5 USD/GB (2026)
            power_w_tdp=400.0,  # Hot Chips 34
        ),
        assumptions=_UNIT_ASSUMPTIONS
        | {
            "mesh.holes": "354 of 360 sites are enabled; which is not public: six of the last column, rows 2 to 17",
            "noc.barrier_cycles": "a corner gathers and releases: 2 x 36 hops + 8",
            "ports.west.routers": "one interface processor, attached to all 18 routers of the west edge",
            "ports.west.bytes_per_cycle": "one interface processor's 800 GB/s for one die; a tray has 20 for 150 dies, "
            "107 GB/s a die",
            "ports.west.latency_cycles": "400 cycles = 200 ns to the first byte: an HBM read and its interface",
            "ports.west.interleave_bytes": "4 KiB blocks rotate over the routers",
            "ports.west.efficiency": "1.0: no refresh or turnaround loss is known",
            "energy.idle_w": "80 W of leakage, clocks and 576 serial links; the published limit is 400 W in all",
            "cost.die_usd": "N7 wafer 9,346 USD (CSET, 2020), 83 gross dies, Poisson yield 0.56 without spare nodes",
            "cost.memory_usd": "32 GB of HBM at 7 to 16.5 USD/GB",
        },
    )


_CATALOG: dict[str, Callable[[], ChipSpec]] = {"mini": _mini, "d1": _d1}


@functools.cache
def _built(name: str) -> ChipSpec:
    return _CATALOG[name]()


def names() -> tuple[str, ...]:
    """Names of the catalog chips."""
    return tuple(_CATALOG)


def chip(name_or_path: str | Path | ChipSpec) -> ChipSpec:
    """Return a catalog chip by name, or the chip in a file ending in .toml; a ChipSpec is returned as it is.

    name_or_path: `names()` has the names of the catalog. SpecError names the nearest catalog name, or the file and what
    is wrong in it.
    """
    if isinstance(name_or_path, ChipSpec):
        return name_or_path
    if isinstance(name_or_path, str) and name_or_path in _CATALOG:
        return _built(name_or_path)
    if not isinstance(name_or_path, str | Path):
        raise SpecError(f"a chip cannot be {name_or_path!r}; give a catalog name, a .toml path or a ChipSpec")
    if str(name_or_path).endswith(".toml"):
        return ChipSpec.load(name_or_path)
    hint = nearest(str(name_or_path), _CATALOG) or f"; use {', '.join(_CATALOG)} or a path ending in .toml"
    raise SpecError(f"unknown chip {str(name_or_path)!r}{hint}")
