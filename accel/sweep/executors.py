"""A sweep's points on an executor that the caller brings: threads, processes, or a cluster behind the same protocol."""

from __future__ import annotations

import queue
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any

from accel.batch import worker_count
from accel.errors import InputError
from accel.sweep.evaluate import evaluate, one_line
from accel.sweep.lent import REFUSED, evaluate_within, here
from accel.sweep.point import Limits
from accel.sweep.rows import STATUSES
from accel.sweep.serving import facts
from accel.sweep.workers import Outcome

__all__ = ["Borrowed"]

AHEAD = 2  # jobs handed in for each of the executor's workers, so that none waits for the coordinator


class Borrowed:
    """A crew on any `concurrent.futures.Executor`, which stays open.

    Its workers are not ours to end. A point that took longer than the limit is "timeout" once its result is there;
    where it is known how many workers there are, a point that does not come back is "timeout" as well and its worker is
    counted as lost. The limit of memory is kept in the worker (`evaluate_within`); InputError where it cannot be.
    workers: how many the executor has, where it does not say.
    """

    def __init__(self, executor: Executor, limits: Limits, workers: int | None) -> None:
        self.facts: dict[str, Any] | None = None
        self.compiling = False
        self.notice = ""
        self._executor, self._limit_s, self._limit_bytes = executor, limits.timeout_s, limits.memory_bytes
        known = getattr(executor, "_max_workers", workers)
        self._size: int | None = known if isinstance(known, int) and known > 0 else None
        self._lost = 0
        self._given_up = ""  # why no more can be done; told once the results that the executor still had are out
        self._window = AHEAD * (self._size or worker_count(workers))
        if self._limit_s is not None and self._size is not None:
            self._window = self._size  # nobody waits in line, so the clock of a point runs from the start
        self._come: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._futures: dict[int, tuple[Future[dict[str, Any]], float]] = {}
        self._facts = self._start(facts)

    def _start(self, work: Any, *args: Any) -> Future[Any]:
        name = type(self._executor).__name__
        try:
            future = self._executor.submit(work, *args)
        except Exception as error:  # noqa: BLE001 - whatever keeps the caller's executor from taking a job
            raise InputError(f"Cannot time points on {name}: {one_line(error)}; give an open one") from None
        if not callable(getattr(future, "add_done_callback", None)):
            raise InputError(
                f"Cannot time points on {name}: its submit() gave {type(future).__name__}, no Future; "
                "give a concurrent.futures.Executor"
            )
        return future

    def wants(self) -> int:
        """Return how many jobs can be handed in now."""
        return 0 if self._given_up else max(0, self._window - self._lost - len(self._futures))

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return len(self._futures) + bool(self._given_up)

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Hand a job in."""
        if self._limit_bytes is None:
            future = self._start(evaluate, job)
        else:
            future = self._start(evaluate_within, job, self._limit_bytes, here())
        self._futures[ticket] = future, time.monotonic()
        future.add_done_callback(lambda _done, ticket=ticket: self._come.put(ticket))  # type: ignore[misc]

    def results(self, timeout: float) -> list[Outcome]:
        """Return what has come, waiting for the first at most `timeout` seconds."""
        if self.facts is None and self._facts.done() and not self._facts.cancelled():
            self.facts = None if self._facts.exception() is not None else _plain(self._facts.result())
        tickets = []
        try:
            tickets.append(self._come.get(timeout=timeout))
            while not self._come.empty():
                tickets.append(self._come.get())
        except queue.Empty:
            pass
        found = []
        for ticket in tickets:
            if ticket in self._futures:
                outcome = self._outcome(self._futures.pop(ticket)[0])
                if outcome is not None:
                    found.append((ticket, outcome))
        if self._given_up and not found:
            raise InputError(self._given_up)
        return found + self._overdue()

    def _outcome(self, future: Future[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the outcome of a future that is done, None where the executor lost it with itself."""
        try:
            given: object = future.result()
        except (BrokenExecutor, CancelledError) as error:
            self._given_up = (
                f"The executor has given up ({type(error).__name__}: {one_line(error)}); "
                "what was committed is kept: sweep again with a new one"
            )
            return None
        except Exception as error:  # noqa: BLE001 - whatever the executor makes of it is this point's outcome
            return {"status": "failed", "reason": f"{type(error).__name__}: {one_line(error)}"}
        outcome: dict[str, Any] = given if isinstance(given, dict) else {}
        if outcome.get("status") == REFUSED:
            self._given_up = (
                f"Cannot keep limits.memory_bytes on {type(self._executor).__name__} because {outcome.get('reason')}; "
                "use an executor whose workers are processes of one thread each, or leave the executor or the limit out"
            )
            return None
        if outcome.get("status") not in STATUSES:
            return {"status": "failed", "reason": f"the executor gave {type(given).__name__}, no outcome of a point"}
        took = outcome.get("build_s", 0.0) + outcome.get("time_s", 0.0)
        if self._limit_s is not None and took > self._limit_s:
            return {"status": "timeout", "reason": _late(self._limit_s)}
        return outcome

    def _overdue(self) -> list[Outcome]:
        limit, now = self._limit_s, time.monotonic()
        if limit is None or self._size is None:
            return []
        late = [t for t, (future, begun) in self._futures.items() if now - begun > limit and not future.done()]
        for ticket in late:
            self._futures.pop(ticket)[0].cancel()
        self._lost += len(late)
        if self._lost >= self._size:
            raise InputError(
                f"All {self._size} workers of the executor hang in points that take longer than {limit:g} s; "
                "what was committed is kept: leave the executor out, and such workers are ended and replaced"
            )
        return [(ticket, {"status": "timeout", "reason": _late(limit)}) for ticket in late]

    def close(self) -> None:
        """Abandon what has not begun; the executor is the caller's."""
        for future, _ in self._futures.values():
            future.cancel()
        self._facts.cancel()


def _plain(facts: object) -> dict[str, Any] | None:
    return facts if isinstance(facts, dict) else None


def _late(limit_s: float) -> str:
    return f"it took longer than {limit_s:g} s"
