"""`accel report SWEEP.db`: the store of a sweep as a page, as tables, as figures for papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from accel.cli.arguments import KernelOptions, with_options
from accel.cli.output import deliver, say
from accel.errors import InputError

__all__ = ["SweepView", "is_sweep", "report_sweep", "sweep_options"]

ENDINGS = (".db", ".sqlite", ".sqlite3")
SQLITE = b"SQLite format 3\x00"  # https://www.sqlite.org/fileformat.html, section 1.3: every database begins so
F = TypeVar("F", bound=Callable[..., Any])


class SweepView(NamedTuple):
    """The options that are about sweeps alone; None and empty where not given."""

    figure: str | None
    x: str | None
    y: str | None
    value: str | None
    series: str | None
    fix: tuple[str, ...]

    def refuse(self, kernel: str) -> None:
        """Raise InputError where one is given for something that is no sweep."""
        for name, given in zip(self._fields, self, strict=True):
            if given:
                raise InputError(f"--{name} is about the store of a sweep, which {kernel!r} is not; leave it out")

    @property
    def fixed(self) -> dict[str, str]:
        """The values that axes are held at, by name."""
        held = {}
        for text in self.fix:
            name, equals, value = text.rpartition("=")
            if not equals or not name.strip() or not value.strip():
                raise InputError(f"--fix {text!r} is not AXIS=VALUE; give for example --fix frame.cameras=8")
            held[name.strip()] = value.strip()
        return held


def sweep_options(command: F) -> F:
    """Add what says which figure of a sweep is drawn and what it shows first."""
    return with_options(command, (
        click.option("--figure", metavar="heat|lines|ledger|front", help="Sweeps: the one figure of a png or svg."),
        click.option("--x", metavar="NAME", help="Sweeps: axis across (of the front: quantity)."),
        click.option("--y", metavar="NAME", help="Sweeps: axis up (of the front: quantity)."),
        click.option("--value", metavar="NAME", help="Sweeps: what is shown (default: the objective)."),
        click.option("--series", metavar="NAME", help="Sweeps: the axis with a line for every value."),
        click.option("--fix", multiple=True, metavar="AXIS=VALUE|best", help="Sweeps: hold an axis, or free it."),
    ))  # fmt: skip


def is_sweep(name: str) -> bool:
    """Return whether a name is that of a sweep's store: by its ending, or by how the file begins.

    InputError for a TOML file: it describes a sweep, and what a report is made of is in the store.
    """
    path = Path(name)
    if path.suffix.lower() == ".toml":
        store = str(path.with_suffix(".db"))
        way = f"accel report {store}" if path.with_suffix(".db").exists() else f"accel sweep {name} first"
        raise InputError(f"{name!r} says what to sweep and holds no results; use {way}")
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except (OSError, ValueError):
        return False


def report_sweep(
    chosen: KernelOptions, view: SweepView, output: str | None, formats: tuple[str, ...] | None, title: str | None,
    json_to: str | None, **others: str | None,
) -> int:  # fmt: skip
    """Write the report on the store that `chosen.kernel` names; InputError for options that a sweep does not take."""
    given = [
        name for name, on in (*chosen.given().items(), *((f"--{k}", v is not None) for k, v in others.items())) if on
    ]
    if given:
        raise InputError(f"{given[0]} is about a kernel, which {chosen.kernel!r} is not; leave it out")
    if not Path(chosen.kernel).exists():
        raise InputError(f"no sweep store {chosen.kernel!r}; run accel sweep SPACE.toml first")
    path = output if output is not None else _default(chosen.kernel, formats)
    from accel.cli.progress import writing
    from accel.report.sweeps import View, results_of, write_sweep

    wanted = View(view.figure, view.x, view.y, view.value, view.series, view.fixed)
    with writing("the report", 1):
        results = results_of(chosen.kernel)
        written = write_sweep(results, path, formats=formats, title=title, view=wanted)

    def facts() -> dict[str, Any]:
        from accel.report.sweeps import records

        return {"files": [str(file.resolve()) for file in written], "tables": records(results)}

    def show() -> None:
        for file in written:
            say(f"{file.resolve()}  {file.stat().st_size / 1e6:.2f} MB")

    deliver(json_to, facts, show)
    return 0


def _default(store: str, formats: tuple[str, ...] | None) -> str:
    """Return where the report goes: beside the current folder's files, named after the store."""
    stem = Path(store).stem
    if formats is None or formats == ("html",):
        return f"{stem}.html"
    return f"{stem}.md" if formats == ("md",) else f"{stem}-report"
