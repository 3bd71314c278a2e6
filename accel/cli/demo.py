"""accel demo: layers of real networks on the chip, to the bit and to the cycle, next to GPUs; ends with a report."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING

import click

from accel.cli.output import progress_line, write_json

if TYPE_CHECKING:
    from accel.report.showcase import Shown

__all__ = ["demo"]


@click.command()
@click.option("--chip", "chip_name", default="d1", show_default=True, help="Chip name or path to a chip TOML.")
@click.option("--network", default=None, help="Only the layers of this network.")
@click.option("--html", "html_path", default="accel-report.html", show_default=True, help="Where the report goes.")
@click.option("--json", "json_path", default=None, metavar="FILE|-", help="Also write the figures as JSON.")
def demo(chip_name: str, network: str | None, html_path: str, json_path: str | None) -> None:
    """Run, verify, check and time layers of real networks, next to GPU baselines."""
    began = time.perf_counter()
    from accel import __version__
    from accel.errors import InputError
    from accel.hardware import chip
    from accel.jit import compile_totals
    from accel.networks import LAYERS, layers
    from accel.report import page, showcase

    spec, chosen = chip(chip_name), layers(network)
    if not chosen:
        raise InputError(f"no network {network!r}; use one of {', '.join(dict.fromkeys(x.network for x in LAYERS))}")
    click.echo(f"{'layer':<34}{'cycles':>12}{'time':>10}{'of peak':>9}   bits against the oracle", err=json_path == "-")
    done: list[Shown] = []
    with progress_line(len(chosen)) as progress:
        for shown in showcase.show(spec, chosen, progress=progress.say):
            done.append(shown)
            progress.advance()
            click.echo(_line(shown), err=json_path == "-")
    wall, totals = time.perf_counter() - began, compile_totals()
    facts = [
        ("accel", f"{__version__}, Python {platform.python_version()}, {platform.machine()}"),
        ("chip", f"{spec.name}: {spec.description}"),
        ("this run", f"{wall:.0f} s, of which {totals.seconds:.0f} s compiling {totals.compiled} functions"),
    ]
    target = page.write(page.render(done, title=f"accel on {spec.name}", facts=facts), html_path)
    if json_path is not None:
        write_json([{**s.comparison.to_dict(), "verified": s.verified._asdict()} for s in done], json_path)
    click.echo(
        f"\n{wall:.0f} s in all, {totals.seconds:.0f} s of it compiling (once). Report: {target.resolve()}", err=True
    )
    if any(s.verified.wrong for s in done):
        raise SystemExit(1)


def _line(shown: Shown) -> str:
    chip = shown.comparison.chip
    beside = "".join(
        f"\n  {row.name:<32}{'':>12}{row.seconds * 1e6:>7.0f} us{row.utilization:>9.1%}   "
        f"{shown.comparison.speedup[row.name]:.2f}x the time, {row.source}"
        + ("" if row.error_pct is None else f" +-{row.error_pct:.0f} %")
        for row in shown.comparison.baselines
    )
    name = f"{shown.layer.network}: {shown.layer.name}"
    return (
        f"{name:<34}{chip.cycles:>12,}{chip.seconds * 1e6:>7.0f} us{chip.utilization:>9.1%}   {shown.verified}{beside}"
    )
