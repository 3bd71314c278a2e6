"""What shows on stderr while one waits: that code is being compiled, once, and how long that takes."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["compiling"]


class _Watch:
    """Counts compilations against all that the engines hold; shows nothing until the first one that is not on disk.

    A function weighs as much as its bytecode: compile time grows with it, and the sum is known before the start.
    """

    def __init__(self, weights: dict[str, int]) -> None:
        self.weights = weights
        self.seen: set[str] = set()
        self.begun = time.monotonic()
        self.bar: tuple[Progress, TaskID] | None = None
        self.told = False

    def __call__(self, name: str, loaded: bool, seconds: float) -> None:
        self.seen.add(name)
        if loaded and not self.told:
            return
        if not self.told:
            self.told = True
            self._begin()
        if self.bar is not None:
            progress, task = self.bar
            progress.update(task, completed=sum(self.weights.get(label, 0) for label in self.seen))

    def _begin(self) -> None:
        if sys.stderr is None:
            return
        if not sys.stderr.isatty():
            sys.stderr.write("accel: compiling the engines (once; kept for later runs)\n")
            sys.stderr.flush()
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("compiling (once)"), BarColumn(), TimeElapsedColumn(), TextColumn("of about"),
            TimeRemainingColumn(compact=True), TextColumn("more"),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        task = progress.add_task("", total=max(1, sum(self.weights.values())))
        progress.start()
        self.bar = progress, task

    def end(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar[0].stop()
            self.bar = None


@contextmanager
def compiling(*engines: str) -> Iterator[None]:
    """Show on stderr that code is being compiled inside the block, if any is: a bar with the time left on a terminal.

    engines: the packages ("machine", "timing", "check") that the block will use.
    """
    for engine in engines:
        importlib.import_module(f"accel.{engine}")
    from accel.machine import host

    watch = _Watch(host.compiled_functions(engines))
    host.watch_compilation(watch)
    try:
        yield
    finally:
        host.unwatch_compilation(watch)
        watch.end()
