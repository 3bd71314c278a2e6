"""The worker processes of a sweep: each times one point after the other; one that hangs, swells or dies is replaced."""

from __future__ import annotations

import json
import platform
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import msgspec

from accel.batch import end_processes, start_process
from accel.errors import InputError
from accel.sweep.memory import can_limit, rss_bytes
from accel.sweep.point import Limits

__all__ = ["Crew", "Outcome", "Workers"]

Outcome = tuple[int, dict[str, Any]]

LOOK_S = 0.1  # between two looks at clocks and memory
STILLBORN = 3  # workers that end before they are ready, one after the other, until it is no accident
SHORT_S = 0.05  # points shorter than this are sent ahead, so that no worker waits for its coordinator
LONGEST_TAIL = 300  # characters of what a dead worker said last


class Crew(Protocol):
    """What times points for a sweep: its own processes, or the executor that it was given."""

    facts: dict[str, Any] | None  #: where figures come from, once known
    compiling: bool
    notice: str

    def wants(self) -> int:
        """Return how many jobs can be handed in now."""

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Hand a job in; its outcome comes back with the ticket."""

    @property
    def busy(self) -> int:
        """How many jobs are under way."""

    def results(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that have come, after at most so many seconds."""

    def close(self) -> None:
        """Abandon what is under way."""


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    jobs: deque[tuple[int, bytes, bool]] = field(default_factory=deque)  # ticket, line, tried before
    warming: bool = False
    ready: bool = False
    answered: int = 0
    since: float = 0.0  # when its first job began
    rss: int | None = None  # when it had no job yet

    def send(self, line: bytes) -> None:
        pipe = self.process.stdin
        if pipe is not None:
            try:
                pipe.write(line)
                pipe.flush()
            except OSError:
                return  # it is dead; its other pipe says so

    def last_words(self) -> str:
        """Return how the process ended and the last line that it left on stderr."""
        code = self.process.wait()
        try:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        except ValueError:
            how = f"signal {-code}"
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how}: {last[:LONGEST_TAIL]}" if last else how


class Workers:
    """`count` processes that time jobs. The first compiles, where nothing is compiled yet, before the others begin.

    limits: seconds and bytes that a point may take; more is its outcome, "timeout" or "memory". A process that dies
    takes its job along once: the job is tried again in a new one, and is "failed" when that dies too. kinds: the kinds
    of problem whose kernels are loaded before the clock of the first point runs.
    """

    def __init__(self, count: int, limits: Limits, kinds: Iterable[str] = ()) -> None:
        self.notice = ""
        if limits.memory_bytes is not None and not can_limit():
            self.notice = f"limits.memory_bytes is not kept on {platform.system()}"
        self.facts: dict[str, Any] | None = None
        self.compiling = False
        self._limits = limits
        self._setting = _line({"warm": sorted(set(kinds)), "memory_bytes": limits.memory_bytes})
        self._events: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        self._warm = False
        self._stillborn = 0
        self._looked = 0.0
        self._mean_s = 1.0
        self._found: list[Outcome] = []
        self._workers: list[_Worker] = []
        try:
            for _ in range(count):
                try:
                    self._start(())
                except OSError as error:
                    if not self._workers:
                        raise InputError(
                            f"Cannot start a process to time points in because {error.strerror}; "
                            "raise the limit of processes, or give an executor"
                        ) from None
                    break  # fewer then
        except BaseException:
            self.close()
            raise

    def _start(self, jobs: Iterable[tuple[int, bytes, bool]]) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        try:
            worker = _Worker(start_process("accel.sweep.serving", errors), errors, deque(jobs))
        except BaseException:
            errors.close()
            raise
        self._workers.append(worker)
        threading.Thread(target=self._hear, args=(worker,), daemon=True, name="worker").start()

    def _hear(self, worker: _Worker) -> None:
        pipe = worker.process.stdout
        try:
            for line in pipe or ():
                self._events.put((worker, json.loads(line)))
        except (OSError, ValueError):
            pass  # it was ended in the middle of a line
        self._events.put((worker, None))

    def wants(self) -> int:
        """Return how many jobs the workers can take now."""
        depth = 1 if self._mean_s > SHORT_S else 2
        return sum(max(0, depth - len(worker.jobs)) for worker in self._workers if worker.ready)

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Give a job to the worker that has the fewest."""
        worker = min((w for w in self._workers if w.ready), key=lambda w: len(w.jobs))
        self._give(worker, (ticket, _line({"ticket": ticket, "job": job}), False))

    def _give(self, worker: _Worker, job: tuple[int, bytes, bool]) -> None:
        if not worker.jobs:
            worker.since = time.monotonic()
        worker.jobs.append(job)
        worker.send(job[1])

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return sum(len(worker.jobs) for worker in self._workers)

    def results(self, timeout: float) -> list[Outcome]:
        """Return what has come, waiting for the first at most `timeout` seconds."""
        until = time.monotonic() + timeout
        while not self._found:
            left = until - time.monotonic()
            try:
                worker, message = self._events.get(timeout=max(0.0, min(left, LOOK_S)))
            except queue.Empty:
                worker, message = None, None
            if worker is not None:
                self._take(worker, message)
            if time.monotonic() - self._looked >= LOOK_S:
                self._look()
            if left <= 0:
                break
        while not self._events.empty():
            self._take(*self._events.get())
        found, self._found = self._found, []
        return found

    def _take(self, worker: _Worker, message: dict[str, Any] | None) -> None:
        if worker not in self._workers:
            return  # it has been replaced
        if message is None:
            self._bury(worker)
        elif "hello" in message:
            self._warm = self._warm or not message["hello"]
            first = not any(other.warming for other in self._workers)
            if self._warm or first:
                self._let_warm(self._workers if self._warm else [worker])
        elif "compiling" in message:
            self.compiling = True
        elif "ready" in message:
            self._welcome(worker, message)
        else:
            self._answer(worker, message["ticket"], message["outcome"])

    def _let_warm(self, workers: Iterable[_Worker]) -> None:
        for worker in workers:
            if not worker.warming:
                worker.warming = True
                worker.send(self._setting)

    def _welcome(self, worker: _Worker, message: dict[str, Any]) -> None:
        self.facts, self.compiling, self._stillborn, self._warm = message["ready"], False, 0, True
        worker.ready, worker.rss = True, message["rss_bytes"]
        self._let_warm(self._workers)
        waiting, worker.jobs = worker.jobs, deque()
        for job in waiting:
            self._give(worker, job)

    def _answer(self, worker: _Worker, ticket: int, outcome: dict[str, Any]) -> None:
        if outcome["status"] == "memory" and self._once_more(worker):
            return
        worker.jobs.popleft()
        now = time.monotonic()
        self._mean_s += 0.2 * (now - worker.since - self._mean_s)
        worker.since, worker.answered = now, worker.answered + 1
        self._found.append((ticket, outcome))

    def _once_more(self, worker: _Worker) -> bool:
        """Try the first job again in a new process, unless this one has had no other: what earlier ones left counts."""
        ticket, line, _ = worker.jobs[0]
        if not worker.answered:
            return False
        self._replace(worker, [(ticket, line, True), *list(worker.jobs)[1:]])
        return True

    def _bury(self, worker: _Worker) -> None:
        """Replace a worker that has died; its first job gets one more try."""
        words = worker.last_words()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                way_out = "try accel doctor"
                if self._limits.memory_bytes is not None:
                    way_out += ", or raise limits.memory_bytes"
                raise InputError(f"Cannot time points because the processes for it end at once ({words}); {way_out}")
            self._replace(worker, worker.jobs)
            return
        jobs = list(worker.jobs)
        if jobs and jobs[0][2]:
            reason = f"the process that timed it died twice, by {words}"
            if "SIGKILL" in words:
                reason += "; the system may have run out of memory"
            self._found.append((jobs[0][0], {"status": "failed", "reason": reason}))
            jobs = jobs[1:]
        elif jobs:
            jobs[0] = (*jobs[0][:2], True)
        self._replace(worker, jobs)

    def _replace(self, worker: _Worker, jobs: Iterable[tuple[int, bytes, bool]]) -> None:
        self._end(worker)
        try:
            self._start(jobs)
        except OSError as error:
            raise InputError(f"Cannot start another process to time points in because {error.strerror}") from None

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        end_processes([worker.process])
        worker.errors.close()

    def _look(self) -> None:
        """Replace workers whose point has taken longer, or more memory, than it may."""
        now = self._looked = time.monotonic()
        limit_s, limit_bytes = self._limits.timeout_s, self._limits.memory_bytes
        for worker in tuple(self._workers):
            if not (worker.ready and worker.jobs):
                continue
            if limit_s is not None and now - worker.since > limit_s:
                self._give_up(worker, "timeout", f"it took longer than {limit_s:g} s")
            elif limit_bytes is not None and worker.rss is not None:
                rss = rss_bytes(worker.process.pid)
                if rss is not None and rss - worker.rss > limit_bytes and not self._once_more(worker):
                    self._give_up(worker, "memory", f"it took more than {limit_bytes:,} bytes")

    def _give_up(self, worker: _Worker, status: str, reason: str) -> None:
        self._found.append((worker.jobs[0][0], {"status": status, "reason": reason}))
        self._replace(worker, list(worker.jobs)[1:])

    def close(self) -> None:
        """End all processes, whatever they are at."""
        end_processes(worker.process for worker in self._workers)
        for worker in self._workers:
            worker.errors.close()
        self._workers = []


def _line(data: dict[str, Any]) -> bytes:
    return msgspec.json.encode(data) + b"\n"  # a chip is some thousand characters: ten times faster than json
