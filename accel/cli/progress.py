"""What shows on stderr while one waits: one line that is redrawn on a terminal, single plain lines elsewhere."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

__all__ = ["StatusLine", "clock", "compiling", "progress_line", "writing"]

REDRAW_S = 0.25
BAR = 24
NOTICE = "accel: compiling the engines (once; kept for later runs)\n"


class StatusLine:
    """A line at the bottom of the terminal with a bar, the time spent and the time left; nothing without a terminal.

    `text` gives what to say, `share` what part of the work is done (0 to 1), `wanted` whether the line is to be seen
    at the moment. A thread redraws it, so that it lives while compiled code or the compiler runs.
    """

    def __init__(
        self, text: Callable[[], str], share: Callable[[], float], wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self.text, self.share, self.wanted = text, share, wanted
        self.live = sys.stderr is not None and sys.stderr.isatty()
        self.begun = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._hidden = False

    def __enter__(self) -> Self:
        if self.live:
            threading.Thread(target=self._redraw, daemon=True, name="status line").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.hide()

    def hide(self) -> None:
        """Take the line away until `show`, so that results can be printed in its place."""
        with self._lock:
            self._hidden = True
        self.clear()

    def clear(self) -> None:
        """Wipe the line; it comes back with the next redrawing if it is wanted then."""
        with self._lock:
            if self.live:
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()

    def show(self) -> None:
        """Draw the line again."""
        with self._lock:
            self._hidden = self._ended.is_set()
        self._draw()

    def _redraw(self) -> None:
        while not self._ended.wait(REDRAW_S):
            self._draw()

    def _draw(self) -> None:
        with self._lock:
            if self._hidden or not self.live or not self.wanted():
                return
            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[2K{self._line()[: width - 1]}")
            sys.stderr.flush()

    def _line(self) -> str:
        share = min(1.0, max(0.0, self.share()))
        spent = time.monotonic() - self.begun
        left = f", about {clock(spent / share - spent)} more" if share > 0 else ""
        done = round(BAR * share)
        return f"[{'#' * done}{'.' * (BAR - done)}] {clock(spent)}{left}  {self.text()}"


def clock(seconds: float) -> str:
    """Return a span of time in seconds or minutes, or in hours where they are many."""
    if seconds >= 6000:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


class _Compilations:
    """Counts compilations against all that the engines hold; says nothing until the first one that is not on disk.

    The line shows while something compiles and is gone when that ends, before anyone can print a result. A function
    weighs as much as its bytecode: compile time grows with it, and the sum is known before the start.
    """

    def __init__(self, weights: dict[str, int], busy: Callable[[], bool]) -> None:
        self.weights, self.busy = weights, busy
        self.total = max(1, sum(weights.values()))
        self.seen: set[str] = set()
        self.line: StatusLine | None = None

    def __call__(self, name: str, loaded: bool, _seconds: float) -> None:
        self.seen.add(name)
        self.settle()
        if loaded or self.line is not None:
            return
        self.line = StatusLine(lambda: "compiling the engines (once; kept for later runs)", self.share, self.busy)
        self.line.__enter__()
        if not self.line.live and sys.stderr is not None:
            sys.stderr.write(NOTICE)
            sys.stderr.flush()

    def settle(self) -> None:
        """Take the line away if nothing compiles any more."""
        if self.line is not None and not self.busy():
            self.line.clear()

    def share(self) -> float:
        """Return the part of the engines that is compiled, by weight."""
        return sum(self.weights.get(name, 0) for name in tuple(self.seen)) / self.total

    def end(self) -> None:
        """Take the line away."""
        if self.line is not None:
            self.line.__exit__(None, None, None)


@contextmanager
def compiling(*engines: str, ahead: bool = True) -> Iterator[None]:
    """Show on stderr that code is being compiled inside the block, if any is, with the time left on a terminal.

    engines: the packages ("machine", "timing", "check") that the block will use. ahead: on an empty cache, compile
    them before the block, several at once.
    """
    for engine in engines:
        package = importlib.import_module(f"accel.{engine}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)  # now rather than on first use, so that all functions are known
    from accel.cli.ahead import compile_ahead
    from accel.machine import host

    others = threading.Event()  # set while other processes compile for this one
    watch = _Compilations(host.compiled_functions(engines), lambda: others.is_set() or host.compiling_now())
    host.watch_compilation(watch)

    def at_work(busy: bool) -> None:
        (others.set if busy else others.clear)()
        watch.settle()

    try:
        if ahead:
            compile_ahead(engines, lambda name: watch(name, False, 0.0), at_work=at_work)
        yield
    finally:
        host.unwatch_compilation(watch)
        watch.end()


class Steps:
    """Progress over a known number of steps: `say` what is being worked on, `advance` when a step is done."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.doing, self.compiled = "", ""
        self.line = StatusLine(lambda: f"{self.done + 1}/{self.total} {self.doing}{self.compiled}", self.share)
        self._told = False

    def share(self) -> float:
        """Return the part of the steps that is done."""
        return self.done / max(1, self.total)

    def say(self, text: str) -> None:
        """Show what is being worked on; without a terminal, print it as a line."""
        self.doing, self.compiled = text, ""
        if self.line.live:
            self.line.show()
        elif sys.stderr is not None:
            sys.stderr.write(f"accel: {self.done + 1}/{self.total} {text}\n")
            sys.stderr.flush()

    def advance(self) -> None:
        """Count one step as done and make room for its result."""
        self.done += 1
        self.line.hide()

    def compilation(self, _name: str, loaded: bool, _seconds: float) -> None:
        """Take news of a compilation."""
        if loaded:
            return
        self.compiled = " - compiling the engines (once)"
        if not self._told and not self.line.live and sys.stderr is not None:
            sys.stderr.write(NOTICE)
        self._told = True


@contextmanager
def progress_line(total: int) -> Iterator[Steps]:
    """Show progress over `total` steps on stderr; the block calls `say` and `advance` on what it gets."""
    from accel.machine import host

    steps = Steps(total)
    host.watch_compilation(steps.compilation)
    try:
        with steps.line:
            yield steps
    finally:
        host.unwatch_compilation(steps.compilation)


@contextmanager
def writing(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show on a terminal that `what` is being written; the block calls what it gets after each of `total` parts."""
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1

    with StatusLine(lambda: f"writing {what}, {done} of {total} done", lambda: done / max(1, total)):
        yield advance
