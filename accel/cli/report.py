"""`accel report`: a program timed and written as one HTML page, as Markdown, as tables, as figures for papers."""

from __future__ import annotations

from typing import Any

import click

from accel.cli.arguments import KernelOptions, kernel_options, parse_names
from accel.cli.output import deliver, json_option, say
from accel.cli.sweep_report import SweepView, is_sweep, report_sweep, sweep_options
from accel.errors import InputError

__all__ = ["report"]


@click.command(short_help="Write an HTML page, Markdown, tables or figures about a kernel.")
@kernel_options
@click.option("--vs", metavar="GPU,GPU", help="GPU ids to compare with (accel gpus lists them).")
@click.option("--baseline", metavar="ROWS.csv", help="Measured GPU rows that come before the packaged ones.")
@click.option(
    "--fidelity", type=click.Choice(["packet", "bound"]), default="packet", show_default=True,
    help="packet: the cycle model; bound: a closed form, without nodes, links and a critical path.",
)  # fmt: skip
@click.option("-o", "--output", "--out", metavar="FILE|FOLDER", help="FILE.html or FILE.md (of a sweep also FILE.svg "
              "or FILE.png), else a folder. [default: accel-report.html, accel-report.md or accel-report]")  # fmt: skip
@click.option("--format", "formats", metavar="html,md,csv,png,svg", help="What to write (default: by the name of -o).")
@click.option("--title", metavar="TEXT", help="Heading of the report (default: the kernel and the chip).")
@sweep_options
@json_option
def report(vs: str | None, baseline: str | None, fidelity: str, output: str | None, formats: str | None,
           title: str | None, json_to: str | None, figure: str | None, x: str | None, y: str | None,
           value: str | None, series: str | None, fix: tuple[str, ...], **options: Any) -> int:  # fmt: skip
    """Time KERNEL on a chip and write what there is to show about it, in files that need no network.

    html is one page with its figures inside (needs plotly); md has the tables; csv one tidy table a file; png and svg
    one figure a file (need matplotlib). More than one file goes into a folder.

    \b
    accel report matmul --shape 4096x4096x4096 --vs a100-sxm-80gb,h100-sxm -o matmul.html
    accel report matmul --shape 512x512x512 --chip mini --format md,csv,svg -o mini-report

    Of the store of a sweep it makes a page with heatmaps, lines with their knees, ledgers and fronts; --figure and
    what follows it say what they show first.

    \b
    accel report sweep.db -o sweep.html
    accel report sweep.db --figure lines --x node.sram_bytes --value utilization -o knee.svg
    """
    chosen = KernelOptions(**options)
    wanted = parse_names(formats) or None
    view = SweepView(figure, x, y, value, series, fix)
    if is_sweep(chosen.kernel):
        return report_sweep(chosen, view, output, wanted, title, json_to, vs=vs, baseline=baseline)
    view.refuse(chosen.kernel)
    path = output if output is not None else _default(wanted)
    from accel.report.writing import check_plan, write_report

    check_plan(path, wanted)  # before minutes of work
    from accel.cli.progress import compiling, writing
    from accel.report.subject import Subject
    from accel.report.text import records

    with compiling("timing"):
        subject: Subject = _subject(chosen, vs, baseline, fidelity)
    with writing("the report", 1):
        written = write_report(subject, path, formats=wanted, title=title)
    facts = {"files": [str(file.resolve()) for file in written], "tables": records(subject)}
    deliver(json_to, lambda: facts, lambda: _show(written))
    return 0


def _default(formats: tuple[str, ...] | None) -> str:
    if formats is None or formats == ("html",):
        return "accel-report.html"
    return "accel-report.md" if formats == ("md",) else "accel-report"


def _subject(chosen: KernelOptions, vs: str | None, baseline: str | None, fidelity: str) -> Any:
    from accel.cli.target import is_file, is_program, problem_of, resolve, tiling_of
    from accel.report.subject import subjects_of

    if is_file(chosen.kernel) or is_program(chosen.kernel):
        for name, value in (("--vs", vs), ("--baseline", baseline)):
            if value is not None:
                raise InputError(f"{name} is about problems of the library, which {chosen.kernel} is not; leave it out")
        return subjects_of(resolve(chosen).program, fidelity)[0]
    from accel.comparison import bench
    from accel.hardware import chip as find_chip

    compared = bench(
        problem_of(chosen), find_chip(chosen.chip), parse_names(vs), resident=parse_names(chosen.resident),
        data=baseline, fidelity=fidelity, **tiling_of(chosen),
    )  # fmt: skip
    return subjects_of(compared)[0]


def _show(written: tuple[Any, ...]) -> None:
    for file in written:
        say(f"{file.resolve()}  {file.stat().st_size / 1e6:.2f} MB")
