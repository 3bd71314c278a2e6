"""accel demo: layers of real networks on the chip, to the bit and to the cycle, next to GPUs; ends with a report."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from accel.cli.output import json_option, say, write_json
from accel.cli.progress import compiling, writing

if TYPE_CHECKING:
    from accel.comparison import Comparison
    from accel.program import Verified
    from accel.report.showcase import Shown

__all__ = ["demo"]


@click.command(short_help="Layers of real networks next to GPUs, with an HTML report.")
@click.option(
    "--chip", "chip_name", default="d1", metavar="NAME|FILE.toml", show_default=True, help="Catalog chip or TOML file."
)
@click.option("--network", metavar="NAME", help="Only the layers of this network.")
@click.option(
    "--html", "html_to", default="accel-report.html", metavar="FILE", show_default=True, help="Where the report goes."
)
@json_option
def demo(chip_name: str, network: str | None, html_to: str, json_to: str | None) -> None:
    """Run, verify, check and time layers of real networks next to GPUs, and write a report.

    Each layer's program is executed bit-accurately and compared with a NumPy oracle (large ones by sampled outputs),
    checked for hazards, and timed from the same instructions.
    """
    began = time.perf_counter()
    from accel.errors import InputError
    from accel.hardware import chip
    from accel.machine.host import compile_totals
    from accel.report import photograph, showcase
    from accel.report.subject import Subject
    from accel.report.writing import INSTALL, plotly_source, require_folder, write_page

    spec, chosen = chip(chip_name), tuple(layer for layer in showcase.DEMO if network in (None, layer.network))
    if not chosen:
        raise InputError(
            f"no network {network!r}; use one of {', '.join(dict.fromkeys(x.network for x in showcase.DEMO))}"
        )
    require_folder(html_to)
    script = plotly_source()
    if script is None:
        _aside(f"accel: plotly is not installed: the report will have tables and no figures; {INSTALL} brings them")
    done: list[Shown] = []
    with compiling("machine", "timing", "check"):
        tell = say if json_to != "-" else _aside
        tell(str(showcase.prove_small()))
        tell(f"\n{'layer on ' + spec.name:<34}{'cycles':>12}{'time':>10}{'of peak':>9}   bits")
        for shown in showcase.show(spec, chosen):
            done.append(shown)
            label = f"{shown.layer.network}: {shown.layer.name}"
            tell(_line(label, shown.comparison, shown.verified, shown.hazards))
            _progress(len(done), len(chosen), began)
        picture = photograph.load() if network is None else None
        frames = []
        for subject in () if picture is None else photograph.shown(spec, picture, showcase.GPUS):
            frames.append(subject)
            if subject.comparison is not None and subject.verified is not None:
                tell(_line(subject.label, subject.comparison, subject.verified, subject.hazards or 0))
        if picture is None and network is None:
            _aside(f"accel: matplotlib is not installed: no photograph goes through the network; {INSTALL} brings it")
    wall, totals = time.perf_counter() - began, compile_totals()
    facts = [
        (
            "this run",
            f"{wall:.0f} s up to this page, {totals.seconds:.0f} s of them compiling {totals.compiled} functions",
        ),
        ("inputs", "both signs over 16 binades, keyed by the place of the layer in the table alone"),
    ]
    subjects = [
        Subject(label=f"{s.layer.network}: {s.layer.name}", program=s.comparison.program, timing=s.comparison.timing,
                comparison=s.comparison, origin=s.layer.source, verified=s.verified, hazards=s.hazards)
        for s in done
    ]  # fmt: skip
    subjects += frames
    title = f"Layers of real networks on {spec.name}"
    with writing("the report", len(subjects)) as advance:
        target = write_page(subjects, html_to, title=title, script=script, facts=facts, advance=advance)
    if json_to is not None:
        rows: list[dict[str, Any]] = [
            {**s.comparison.to_dict(), "label": s.label, "verified": s.verified._asdict(), "hazards": s.hazards}
            for s in subjects
            if s.comparison is not None and s.verified is not None
        ]
        write_json({"chip": spec.name, "layers": rows}, json_to)
    wall = time.perf_counter() - began
    tell(f"\n{wall:.0f} s in all, {totals.seconds:.0f} s of it compiling (once). Report: {target.resolve()}")
    wrong = [s.label for s in subjects if s.hazards or (s.verified is not None and s.verified.wrong)]
    if wrong:
        raise SystemExit(1)


def _aside(text: str) -> None:
    """Print to stderr where stdout carries JSON alone."""
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")


def _progress(done: int, total: int, began: float) -> None:
    """Show how far the demonstration is, on a terminal's stderr."""
    if sys.stderr is not None and sys.stderr.isatty() and done < total:
        left = (time.perf_counter() - began) / done * (total - done)
        sys.stderr.write(f"\r  {done} of {total} layers, about {left:.0f} s more \r")
        sys.stderr.flush()


def _line(label: str, compared: Comparison, verified: Verified, hazards: int) -> str:
    from accel.report.quantities import percent

    chip, lines = compared.chip, []
    for row in compared.baselines:
        error = "" if row.error_pct is None else f", {row.error_pct:.0f} % median error"
        lines.append(
            f"\n  {row.name + ' ' + row.dtype:<32}{'':>12}{row.seconds * 1e6:>7,.0f} us{percent(row.utilization):>9}   "
            f"{compared.speedup[row.name]:.2f}x the time of {chip.name} ({row.source}{error})"
        )
    found = f"{hazards} HAZARDS" if hazards else "no hazard"
    own = f"{label:<34}{chip.cycles:>12,}{chip.seconds * 1e6:>7,.0f} us{percent(chip.utilization):>9}   {verified}"
    return f"{own}, {found}" + "".join(lines)
