"""What shows on stderr while a sweep runs: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from accel.cli.progress import BAR, NOTICE, StatusLine, clock

if TYPE_CHECKING:
    from accel.sweep import Space
    from accel.sweep.progress import Progress

__all__ = ["point_text", "progress_text", "value_text", "watch"]

PLAIN_S = 10.0  # between two lines where stderr is no terminal


class _Line(StatusLine):
    """A line of the sweep's own figures: the time left counts what this run has timed, not what was there before."""

    def _line(self) -> str:
        done = round(BAR * min(1.0, max(0.0, self.share())))
        return f"[{'#' * done}{'.' * (BAR - done)}] {self.text()}"


@contextmanager
def watch(space: Space) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a sweep; the block calls what it gets with each report."""
    seen: list[Progress] = []
    line = _Line(
        lambda: progress_text(seen[-1], space) if seen else "reading the space",
        lambda: seen[-1].done / max(1, seen[-1].total) if seen else 0.0,
    )
    begun = said = time.monotonic()
    compiling = False

    def progress(state: Progress) -> None:
        nonlocal said, compiling
        first = not seen
        if state.notice and state.notice != (seen[-1].notice if seen else "") and sys.stderr is not None:
            line.clear()
            sys.stderr.write(f"accel: {state.notice}\n")
        seen[:] = [state]
        if line.live or sys.stderr is None:
            return
        if state.doing.startswith("compiling") and not compiling:
            compiling = True
            sys.stderr.write(NOTICE)
        now = time.monotonic()
        if first or now - said >= PLAIN_S:
            said = now
            sys.stderr.write(f"accel: {progress_text(state, space)}, {clock(now - begun)} so far\n")
        sys.stderr.flush()

    with line:
        yield progress


def progress_text(state: Progress, space: Space) -> str:
    """Return a state as one line: done of total, points a second, the time left, the best so far."""
    parts = [f"{state.done:,}/{state.total:,} points"]
    if state.timed:
        parts.append(f"{state.rate:.3g} points/s")
    if state.left_s is not None and state.done < state.total:
        parts.append(f"about {clock(state.left_s)} more")
    if state.doing:
        parts.append(state.doing)
    if state.best is not None:
        parts.append(f"best {value_text(space.objective, state.best)} at {point_text(state.best, space)}")
    return ", ".join(parts)


def value_text(objective: str, row: Mapping[str, Any]) -> str:
    """Return the value that a row has of an objective, with its name and unit."""
    from accel.report import quantities

    name = objective.removeprefix("-")
    value = row[name]
    if name in ("seconds", "bound_seconds"):
        return quantities.seconds(value)
    if name == "utilization" or name.startswith("loss."):
        return f"{name} {quantities.percent(value)}"
    return f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"


def point_text(row: Mapping[str, Any], space: Space) -> str:
    """Return the values of a row's axes: "node.sram_bytes=262144, kernel.bk=64"."""
    return ", ".join(f"{axis.name}={row[axis.name]}" for axis in space.axes)
