"""Compiling ahead: on an empty cache one process an engine, as many as there are cores; the results meet on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

__all__ = ["compile_ahead", "cores", "exercise", "serve"]

# The child takes this process's search path, so that it runs the same sources; it imports nothing of the user's.
_CHILD = "import sys; sys.path[:] = {path!r}; from accel.cli.ahead import serve; serve({engines!r})"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def exercise(engine: str) -> None:
    """Take a tiny matmul through an engine ("machine", "timing" or "check"), which compiles what it needs."""
    from accel.cli.inputs import random_inputs
    from accel.kernels import matmul

    program = matmul.build("mini", m=8, n=8, k=8)
    if engine == "machine":
        program.run(random_inputs(program, 0, hard=False))
    elif engine == "timing":
        program.time("packet")
    else:
        program.findings(schedules=1)


def compile_ahead(engines: Sequence[str], heard: Callable[[str], None], *, at_work: Callable[[bool], None]) -> None:
    """Compile `engines` if nothing is compiled yet: the first here, others in processes of their own.

    heard: called with the name of every function that another process has compiled, from a thread. at_work: told
    whether others are compiling. What a process that fails leaves undone is compiled here when it is first needed.
    """
    from accel.machine import host

    count = min(len(engines), cores())
    if count < 2 or not sys.executable or not host.nothing_compiled():
        return
    at_work(True)
    try:
        with _processes([engines[part::count] for part in range(1, count)], heard) as others:
            for engine in engines[::count]:
                exercise(engine)
            for other in others:
                other.wait()
    finally:
        at_work(False)


@contextmanager
def _processes(parts: Sequence[Sequence[str]], heard: Callable[[str], None]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start one process a part; none outlives the block, whatever ends it."""
    started: list[subprocess.Popen[str]] = []
    listeners = []
    try:
        for part in parts:
            command = [sys.executable, "-c", _CHILD.format(path=sys.path, engines=tuple(part))]
            try:
                process = subprocess.Popen(  # noqa: S603 - this interpreter, on this library
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            except OSError:
                break  # no process to be had (a limit, a sandbox): this one compiles everything
            started.append(process)
            listener = threading.Thread(target=_listen, args=(process, heard), daemon=True, name="compilations")
            listener.start()
            listeners.append(listener)
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
        for process, listener in zip(started, listeners, strict=True):
            listener.join()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _listen(process: subprocess.Popen[str], heard: Callable[[str], None]) -> None:
    for line in process.stdout or ():
        heard(line.strip())


def serve(engines: Sequence[str]) -> None:
    """Compile `engines` in a process made for it: print each function's name, and end when the parent does."""
    from accel.machine import host

    threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
    host.watch_compilation(_tell)
    for engine in engines:
        exercise(engine)


def _tell(name: str, _loaded: bool, _seconds: float) -> None:
    sys.stdout.write(f"{name}\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """Leave when the pipe from the parent closes: it may have been killed without a chance to end its children."""
    os.read(0, 1)
    os._exit(1)
