"""Processes of our own, which share the compile cache, and many programs timed at once on them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from accel.errors import AccelError, InputError, InternalError
from accel.program import Program

if TYPE_CHECKING:
    from accel.timing import Timing

__all__ = ["MOST_WORKERS", "end_processes", "serve", "start_process", "time_many", "worker_count"]

MOST_WORKERS = 256
# The child takes this process's search path, so that it runs the same sources; it imports nothing of the user's, so a
# script needs no `if __name__ == "__main__"`.
_CHILD = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve()"


def start_process(module: str, errors: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a process that runs `serve` of a module of this library, with pipes to its stdin and from its stdout.

    errors: where its stderr goes. OSError where no process is to be had (a limit, a sandbox).
    """
    command = [sys.executable, "-c", _CHILD.format(path=sys.path, module=module)]
    return subprocess.Popen(  # noqa: S603 - this interpreter, on this library
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
    )


def end_processes(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End processes at once, whatever they are at, and close their pipes."""
    held = list(processes)
    for process in held:
        process.kill()
    for process in held:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was still to be written has no reader
                    pipe.close()


def worker_count(wanted: object, most: int = MOST_WORKERS) -> int:
    """Return the number of processes: `wanted`, else one for each available processor; InputError outside 1..most."""
    if wanted is None:
        from accel.machine.parallel import available_cores

        return min(available_cores(), most)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 1 <= wanted <= most:
        raise InputError(f"Cannot time on workers={wanted!r}: use an integer from 1 to {most}")
    return wanted


def time_many(programs: Iterable[Program], *, fidelity: str = "packet", workers: int | None = None) -> list[Timing]:
    """Return `program.time(fidelity)` of every program, in their order, from several processes.

    workers: processes at most; default one for each processor this process may use. The result is that of timing them
    one by one, and each program remembers its own. The first in order that cannot be timed raises its error.
    InputError for anything but programs and for a wrong number of workers.
    """
    given: object = programs
    if isinstance(given, str | Program) or not isinstance(given, Iterable):
        raise InputError(f"time_many needs several programs, got {given!r}; give a list of them")
    held = list(programs)
    for program in held:
        if not isinstance(program, Program):
            raise InputError(f"time_many needs programs, got {program!r}; build them first")
    count = min(worker_count(workers), len(held))
    if count > 1:
        from accel.machine.host import nothing_compiled

        first = 1 if nothing_compiled() else 0  # then this process compiles for all
        for program in held[:first]:
            program.time(fidelity)
        _share(held[first:], fidelity, count)
    return [program.time(fidelity) for program in held]


def _share(programs: list[Program], fidelity: str, count: int) -> None:
    """Have `count` processes time the programs, each taking the next when it is free; programs remember the results.

    What a process that dies leaves undone, and what raises, is left to the caller: it times that again itself.
    """
    left = iter(programs)
    lock = threading.Lock()

    def feed(process: subprocess.Popen[bytes]) -> None:
        into, out = process.stdin, process.stdout
        if into is None or out is None:
            raise InternalError("a process was started without its pipes")
        while True:
            with lock:
                program = next(left, None)
            if program is None:
                into.close()
                return
            try:
                _send(into, (program.isa, program.chip, fidelity))
                timing = _receive(out)
            except (OSError, EOFError):
                return
            if timing is not None:
                if timing.replay is not None:  # what came back with it is a copy
                    replay = timing.replay._replace(program=program.isa, chip=program.chip)
                    timing = dataclasses.replace(timing, replay=replay)
                program.remember(timing)

    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            try:
                processes.append(start_process(__name__))
            except OSError:
                break  # no process to be had (a limit, a sandbox)
        feeders = [threading.Thread(target=feed, args=(process,), daemon=True) for process in processes]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            feeder.join()
    finally:
        end_processes(processes)


def _send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """Return the next value of a pipe from or to a process of our own; EOFError at its end."""
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(pipe.read(int.from_bytes(head, "little")))  # noqa: S301 - both ends are ours


def serve() -> None:
    """Time programs from stdin until it ends: what the processes of `time_many` do. None stands for one that failed."""
    into, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints must not get between the results
    while True:
        try:
            program, chip, fidelity = _receive(into)
        except EOFError:
            return
        try:
            timing: Timing | None = Program(program, chip).time(fidelity)
        except AccelError:
            timing = None
        _send(out, timing)
