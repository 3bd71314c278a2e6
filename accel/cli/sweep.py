"""`accel sweep`: every point of a design space timed, kept in a store that survives whatever ends the run."""

from __future__ import annotations

import math
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from accel.cli.arguments import parse_names
from accel.cli.output import deliver, json_option, say

if TYPE_CHECKING:
    from accel.sweep import Space
    from accel.sweep.result import SweepResult

__all__ = ["sweep"]

FAILED = 1
SHOWN = 8  # points that a dry run shows


@click.command(short_help="Time every point of a design space, in a store that can be resumed.")
@click.argument("file", metavar="FILE.toml")
@click.option("--store", metavar="FILE.db", help="Where the rows go; a sweep that is in it goes on. "
              "[default: FILE.db beside FILE.toml]")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show the size, the first points and an estimate of the time.")
@click.option("--workers", type=int, metavar="N", help="Processes (default: one for each processor).")
@click.option("--limit", type=int, metavar="N", help="Stop after timing N more points.")
@click.option("--fresh", is_flag=True, help="Begin anew; what the store holds is moved aside.")
@click.option("--again", metavar="STATUS,STATUS", help="Time points once more that ended as timeout, memory or failed.")
@click.option("--export", "exports", multiple=True, metavar="ROWS.csv|.parquet", help="Write all rows to a table too.")
@json_option
def sweep(
    file: str, store: str | None, dry_run: bool, workers: int | None, limit: int | None, fresh: bool,
    again: str | None, exports: tuple[str, ...], json_to: str | None,
) -> int:  # fmt: skip
    """Time every design point that FILE.toml describes, on all cores, and keep the rows in a store.

    Ctrl-C, a kill or a power cut ends it at no cost: the same command goes on with the points that have no row yet.
    A point that is illegal, takes too long, too much memory or breaks has a row that says so; exit code 1 where some
    broke. The file's keys and the store's tables are in docs/sweeps.md.

    \b
    accel sweep buffers.toml --dry-run
    accel sweep buffers.toml --store buffers.db --export buffers.csv
    """
    from accel.sweep import Space, export
    from accel.sweep.run import sweep as run

    for path in exports:
        export.check(path)
    space = Space.load(file)
    target = store if store is not None else _beside(file)
    if dry_run:
        return _dry_run(space, workers, json_to)
    from accel.cli.sweeping import watch

    try:
        with watch(space) as progress:
            result = run(
                space, store=target, workers=workers, progress=progress, fresh=fresh, limit=limit,
                again=parse_names(again),
            )  # fmt: skip
    except KeyboardInterrupt:
        _tell_how_to_go_on(target)
        raise
    for path in exports:
        result.export(path)
    deliver(json_to, lambda: _data(space, result), lambda: _show(space, result))
    return FAILED if result.counts.get("failed") else 0


def _beside(file: str) -> str:
    stem, dot, _ending = file.rpartition(".")
    return f"{stem if dot and '/' not in _ending else file}.db"


def _tell_how_to_go_on(target: str) -> None:
    """Say on stderr that nothing is lost; a second Ctrl-C from here on ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = shlex.join(word for word in sys.argv[1:] if word != "--fresh")
    sys.stderr.write(f"accel: stopped; the rows so far are in {target}; go on with: accel {command}\n")
    sys.stderr.flush()


def _data(space: Space, result: SweepResult) -> dict[str, Any]:
    best = result.best
    return {
        "title": space.title, "store": str(result.path), "ended": result.how, "points": len(space),
        "counts": result.counts, "timed": result.timed, "seconds": result.seconds, "objective": space.objective,
        "best": None if best is None else {name: _finite(value) for name, value in best.items()},
        "notice": result.notice,
    }  # fmt: skip


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(space: Space, result: SweepResult) -> None:
    from accel.cli.sweeping import point_text, value_text

    counted = ", ".join(f"{count:,} {status}" for status, count in result.counts.items())
    say(f"{space.title or space.source}: {len(space):,} points: {counted or 'none yet'}")
    if result.timed:
        say(f"timed {result.timed:,} points in {result.seconds:.1f} s")
    best = result.best
    if best is not None:
        say(f"best {value_text(space.objective, best)}: {point_text(best, space)} (point {best['index']})")
    if result.how == "limited":
        say("points are left: the same command goes on with them")
    say(f"rows: {result.path}")


def _dry_run(space: Space, workers: int | None, json_to: str | None) -> int:
    from accel.cli.progress import StatusLine, clock
    from accel.sweep.planning import plan

    with StatusLine(lambda: "timing a few points to estimate the whole", lambda: 0.0):
        found = plan(space, workers, shown=SHOWN)

    def show() -> None:
        from accel.report import tables

        axes = " x ".join(f"{axis.name} ({len(axis.values):,})" for axis in space.axes)
        say(f"{space.title or space.source}: {found.points:,} points over {axes or 'no axis'}")
        screened = ", of which the closed form keeps the best" if space.screen is not None else ""
        say(f"{found.illegal:,} break a constraint{screened}; {found.to_time:,} to be timed ({space.fidelity})")
        for text, count in found.by_constraint.items():
            say(f"  {count:,} by {text}")
        names = [axis.name for axis in space.axes]
        rows = [
            (str(row["index"]), *(str(row[name]) for name in names), row["reason"] or "legal") for row in found.first
        ]
        tables.show(tables.table(["point", *names, "first of the run "], rows))
        if found.estimate_s is None:
            say(f"no estimate of the time: {found.note}")
            return
        took = ", ".join(f"{seconds:.2g} s" for seconds in found.sampled.values())
        say(
            f"{'more than' if found.at_least else 'about'} {clock(found.estimate_s)} on {found.workers} workers: "
            f"an estimate from {len(found.sampled)} of the points, timed just now ({took})"
        )

    deliver(json_to, found.to_dict, show)
    return 0
