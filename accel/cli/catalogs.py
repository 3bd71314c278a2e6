"""`accel chips`, `accel gpus`, `accel isa`: what the library knows, with sources and assumptions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.cli.output import deliver, json_option, say
from accel.errors import InputError
from accel.report.quantities import bytes_text, number, rate

if TYPE_CHECKING:
    from accel.baselines import Gpu
    from accel.hardware import ChipSpec

__all__ = ["chips", "gpus", "isa"]


@click.command(short_help="Chips, their figures and assumptions.")
@click.argument("name", required=False, metavar="[NAME|FILE.toml]")
@click.option("--toml", "as_toml", is_flag=True, help="Print the chip as TOML: the start of a chip of your own.")
@json_option
def chips(name: str | None, as_toml: bool, json_to: str | None) -> int:
    """List the chips, or show one with its assumptions."""
    from accel.hardware import chip, names

    if name is None:
        if as_toml:
            raise InputError(f"--toml prints one chip; name it, for example accel chips {names()[-1]} --toml")
        specs = [chip(known) for known in names()]
        deliver(json_to, lambda: {"chips": [_chip_row(spec) for spec in specs]}, lambda: _show_chips(specs))
        return 0
    spec = chip(name)
    if as_toml and json_to != "-":
        deliver(json_to, lambda: _chip_data(spec), lambda: say(spec.to_toml().rstrip("\n")))
    else:
        deliver(json_to, lambda: _chip_data(spec), lambda: _show_chip(spec))
    return 0


def _best_format(spec: ChipSpec) -> str:
    return next(iter(spec.node.matrix.step_cycles), "fp32")


def _chip_row(spec: ChipSpec) -> dict[str, Any]:
    dtype = _best_format(spec)
    return {
        "name": spec.name, "description": spec.description, "nodes": spec.nodes, "rows": spec.mesh.rows,
        "cols": spec.mesh.cols, "clock_hz": spec.clock_hz, "dtype": dtype, "peak_flops": spec.peak_flops(dtype),
        "sram_bytes": spec.sram_total_bytes, "memory_bytes": spec.memory_capacity_bytes,
        "memory_bytes_per_s": spec.memory_bytes_per_s,
    }  # fmt: skip


def _chip_data(spec: ChipSpec) -> dict[str, Any]:
    return {**_chip_row(spec), "spec": spec.to_dict()}


def _show_chips(specs: list[ChipSpec]) -> None:
    from accel.report import tables

    rows = [
        (s.name, f"{s.nodes}", f"{s.mesh.rows} x {s.mesh.cols}", f"{number(s.clock_hz / 1e9)} GHz",
         f"{rate(s.peak_flops(_best_format(s)))} {_best_format(s)}", bytes_text(s.sram_total_bytes),
         f"{number(s.memory_bytes_per_s / 1e9)} GB/s", s.description)
        for s in specs
    ]  # fmt: skip
    columns = ("chip", "nodes", "mesh", "clock", "peak", "SRAM", "memory", "what it is ")
    tables.show(tables.table(columns, rows))


def _show_chip(spec: ChipSpec) -> None:
    from rich.text import Text

    from accel.report import tables

    node, mesh = spec.node, spec.mesh
    facts = {
        "nodes": f"{spec.nodes} enabled of {mesh.site_rows} x {mesh.site_cols} sites; "
        f"kernels use {mesh.rows} x {mesh.cols}",
        "clock": f"{number(spec.clock_hz / 1e9)} GHz",
        "peak": ", ".join(f"{rate(spec.peak_flops(f))} {f}" for f in dict.fromkeys([*node.matrix.step_cycles, "fp32"])),
        "results": " or ".join(["fp32", *node.matrix.output_formats]) + " from the matrix unit",
        "SRAM": f"{bytes_text(node.sram_bytes)} a node, {bytes_text(spec.sram_total_bytes)} in all",
        "node": f"{node.threads} threads, {node.semaphores} semaphores, loops {node.loop_depth} deep, "
        f"matrix step {node.matrix.m}x{node.matrix.n}x{node.matrix.k}, vector {node.vector.bytes_per_cycle} B/cycle",
        "network": f"{spec.noc.link_bytes_per_cycle} B/cycle a link each way, "
        f"{spec.noc.hop_cycles} {'cycle' if spec.noc.hop_cycles == 1 else 'cycles'} a hop, "
        f"packets of {spec.noc.packet_bytes:,} B",
        **{
            f"port {port.name}": f"{number(port.capacity_bytes / 1e9)} GB, "
            f"{number(port.bytes_per_cycle)} B/cycle through {len(port.routers)} routers, "
            f"latency {port.latency_cycles} cycles"
            for port in spec.ports
        },
        "power": f"{number(spec.cost.power_w_tdp)} W at most",
        "cost": f"to make: die {number(spec.cost.die_usd.nominal)} USD, "
        f"memory {number(spec.cost.memory_usd.nominal)} USD",
    }
    parts: list[Any] = [tables.pairs(facts, title=f"{spec.name}: {spec.description}")]
    if spec.assumptions:
        parts += [Text(), tables.pairs(dict(spec.assumptions), title="assumptions: figures that are not public")]
    tables.show(*parts)


@click.command(short_help="GPUs, their figures and sources.")
@click.argument("name", required=False)
@json_option
def gpus(name: str | None, json_to: str | None) -> int:
    """List the GPUs that chips are compared with, or show one with the source of each figure."""
    from accel.baselines import gpu, names

    rows = [gpu(name)] if name is not None else [gpu(known) for known in names()]
    data = {"gpus": [{**row._asdict(), "aliases": list(row.aliases)} for row in rows]}
    deliver(json_to, lambda: data, lambda: _show_gpu(rows[0]) if name is not None else _show_gpus(rows))
    return 0


def _or_dash(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:,g}{unit}"


def _show_gpus(rows: list[Gpu]) -> None:
    from accel.report import tables

    cells = [
        (r.name, r.title, f"{r.sms}", _or_dash(r.peak_tflops.get("fp16")), _or_dash(r.peak_tflops.get("bf16")),
         _or_dash(r.peak_tflops.get("fp32")), f"{r.memory_gb:g}", f"{r.memory_gbps:,.0f}", f"{r.tdp_w:,g}",
         "-" if r.usd_per_hour is None else f"{r.usd_per_hour:.2f}")
        for r in rows
    ]  # fmt: skip
    columns = ("id", "name ", "SMs", "TFLOPS fp16", "bf16", "fp32", "GB", "GB/s", "W", "USD/h")
    tables.show(tables.table(columns, cells))


def _show_gpu(row: Gpu) -> None:
    from rich.text import Text

    from accel.report import tables

    price = [] if row.usd is None else [f"{row.usd:,.0f} USD to buy"]
    price += [] if row.usd_per_hour is None else [f"{row.usd_per_hour:.2f} USD/h to rent"]
    facts = {
        "peak": ", ".join(f"{value:,g} TFLOPS {dtype}" for dtype, value in row.peak_tflops.items()),
        "multiprocessors": f"{row.sms}" + (f" at {row.boost_mhz:,} MHz" if row.boost_mhz is not None else ""),
        "memory": f"{row.memory_gb:g} GB at {row.memory_gbps:,g} GB/s, L2 {row.l2_mb:g} MB",
        "power": f"{row.tdp_w:,g} W",
        "die": f"{_or_dash(row.die_mm2, ' mm2')}, {row.process}",
        "price": ", ".join(price) or "no source at hand",
        "also known as": ", ".join(row.aliases),
    }
    sources = {("everything else" if field == "*" else field): origin for field, origin in row.sources.items()}
    marks = "sources (P: primary, S: secondary, M: a primary one from memory, not read again)"
    tables.show(tables.pairs(facts, title=f"{row.name}: {row.title}"), Text(), tables.pairs(sources, title=marks))


@click.command(short_help="The instruction set, or one instruction.")
@click.argument("name", required=False, metavar="[INSTRUCTION]")
@click.option("--markdown", is_flag=True, help="Print the whole manual as Markdown.")
@click.option("--pages", metavar="FOLDER", help="Write the manual as Markdown pages into a folder: docs.")
@json_option
def isa(name: str | None, markdown: bool, pages: str | None, json_to: str | None) -> int:
    """List the instructions, or show one: its words, operands, formats, and what it costs on the catalog's chips."""
    from accel.isa import manual

    if pages is not None:
        if name is not None or markdown:
            raise InputError("--pages writes the whole manual; give it alone")
        from accel.files import write_whole
        from accel.report.datasheet import datasheet_pages

        written = datasheet_pages()
        (Path(pages) / "isa").mkdir(parents=True, exist_ok=True)
        for file, text in written.items():
            write_whole(Path(pages) / file, text.encode(), "manual page")
        deliver(json_to, lambda: {"pages": list(written)}, lambda: say("\n".join(written)))
        return 0
    if name is not None:
        if markdown:
            raise InputError(f"--markdown prints the whole manual; leave {name!r} or --markdown out")
        from accel.report.datasheet import datasheet_entry

        section = datasheet_entry(name)
        row = next(r for r in manual.rows_as_dicts() if section.startswith(f"### {r['mnemonic']}\n"))
        deliver(json_to, lambda: row, lambda: say(section.rstrip("\n")))
        return 0

    def show() -> None:
        if markdown:
            from accel.report.datasheet import datasheet

            say(datasheet().rstrip("\n"))
            return
        from accel.report import tables

        rows = [
            (str(row["mnemonic"]), str(row["engine"]), " ".join(map(str, row["operands"])), str(row["meaning"]))  # type: ignore[call-overload]
            for row in manual.rows_as_dicts()
        ]
        tables.show(tables.table(("instruction", "engine ", "operands ", "meaning "), rows))

    deliver(json_to, lambda: {"instructions": manual.rows_as_dicts()}, show)
    return 0
