"""The processes that build and time problems side by side, and the figure of one problem."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from accel.batch import end_processes, start_process
from accel.comparison import build
from accel.errors import AccelError, InternalError
from accel.hardware import ChipSpec
from accel.problem import Problem, from_dict

__all__ = ["Figure", "bound_of", "figure_of", "serve", "share"]


@dataclass(frozen=True)
class Figure:
    """What is known of one problem on the chip; seconds is None where it could not be timed, and `reason` says why.

    status: "timed"; "no kernel": the library has none for this kind of problem; "refused": its kernel does not take
    this shape or format on this chip. bound_seconds: the least any kernel could take, None where the chip has no
    engine for the format.
    """

    status: Literal["timed", "no kernel", "refused"]
    cycles: int | None = None
    seconds: float | None = None
    utilization: float | None = None
    energy_j: float | None = None
    bound_seconds: float | None = None
    bound_cause: str = ""
    reason: str = ""


def share(
    take: Callable[[], tuple[Problem, str] | None], give: Callable[[tuple[Problem, str], dict[str, Any]], None],
    chip: ChipSpec, fidelity: str, count: int, pause: Callable[[], None],
) -> None:  # fmt: skip
    """Have `count` processes work on what `take` hands out; `pause` is called while they do."""
    setting = _line({"chip": chip.to_json(), "fidelity": fidelity})

    def feed(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise InternalError("a process was started without its pipes")
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(setting)
            while (work := take()) is not None:
                process.stdin.write(_line(work[0].to_dict()))
                process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    return
                give(work, json.loads(answer))
            process.stdin.close()

    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):  # no process to be had: the caller does the work itself
                processes.append(start_process(__name__))
        feeders = [threading.Thread(target=feed, args=(process,), daemon=True) for process in processes]
        for feeder in feeders:
            feeder.start()
        while any(feeder.is_alive() for feeder in feeders):
            for feeder in feeders:
                feeder.join(timeout=0.2)
            pause()
        pause()
    finally:
        end_processes(processes)


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


def serve() -> None:
    """Build and time problems from stdin until it ends, a line of JSON each: what the processes of `time_layers` do."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not get between the results
    setting = json.loads(sys.stdin.readline() or "{}")
    if not setting:
        return
    chip = ChipSpec.from_json(setting["chip"])
    for line in sys.stdin:
        out.write(json.dumps(figure_of(from_dict(json.loads(line)), chip, setting["fidelity"])) + "\n")
        out.flush()


def figure_of(problem: Problem, chip: ChipSpec, fidelity: str) -> dict[str, Any]:
    """Build the kernel of a problem and time it; what it refuses is told with its reason."""
    try:
        timing = build(problem, chip).time(fidelity)
    except AccelError as error:
        return asdict(Figure("refused", reason=str(error), **bound_of(problem, chip)))
    return asdict(
        Figure("timed", timing.cycles, timing.seconds, timing.utilization, timing.energy_j, **bound_of(problem, chip))
    )


def bound_of(problem: Problem, chip: ChipSpec) -> dict[str, Any]:
    """Return the fields of a figure that say what no kernel can beat; none where the chip lacks the format."""
    try:
        bound = problem.bound(chip)
    except AccelError:
        return {}
    return {"bound_seconds": bound.seconds, "bound_cause": bound.cause}
