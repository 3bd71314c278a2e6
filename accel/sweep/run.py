"""A sweep run to its end: which points are left, who times them, and what is committed when."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.batch import worker_count
from accel.errors import AccelError, InputError, nearest
from accel.sweep.evaluate import one_line
from accel.sweep.progress import Progress
from accel.sweep.result import SweepResult
from accel.sweep.rows import better
from accel.sweep.space import Space
from accel.sweep.store import path_of
from accel.sweep.workers import Crew, Workers
from accel.sweep.writer import Writer

if TYPE_CHECKING:
    from accel.sweep.point import Point

__all__ = ["sweep"]

CHUNK = 65536  # points whose constraints are looked at together
COMMIT_S = 0.1  # between two commits of points that were not timed; what was timed is committed at once
AGAIN = ("timeout", "memory", "failed")  # ends of a point that another try may change
TELL_S = 0.1  # between two reports of progress


def sweep(
    space: Space | str | os.PathLike[str] | Mapping[str, Any],
    *,
    store: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    fresh: bool = False,
    limit: int | None = None,
    again: Iterable[str] = (),
) -> SweepResult:
    """Time every point of a space and return the rows.

    space: a `Space`, the path of its TOML, or its content as a dict. store: the file that keeps the rows; where it
    holds some, the sweep goes on from there (default: rows are kept in memory only). workers: processes, one for each
    processor unless given. executor: any open `concurrent.futures.Executor` to time points on instead; `workers` then
    says how many it has, where it does not say so itself. progress: called now and then with a `Progress`, in the
    calling thread. fresh: begin anew; what the store holds is moved aside. limit: stop after so many points with a new
    row from a worker. again: statuses ("timeout", "memory", "failed") whose points are timed once more.

    A point that is illegal, takes too long, too much memory, or breaks has a row that says so. Whatever ends the sweep
    early (an exception of `progress`, Ctrl-C), rows that have come are committed. SpecError for a wrong space,
    InputError for a store that cannot be used and for wrong arguments.
    """
    chosen = _space(space)
    most: object = limit
    if progress is not None and not callable(progress):
        raise InputError(f"Cannot tell {progress!r} of progress; give a function of one Progress")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(f"Cannot sweep on {executor!r}: it has no submit(); give a concurrent.futures.Executor")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InputError(f"limit must be a whole number of at least 1, got {limit!r}")
    count = None if executor is not None and workers is None else worker_count(workers)
    writer = Writer.begin(None if store is None else path_of(store), chosen, fresh=fresh)
    try:
        run = _Run(chosen, writer, executor, count, progress or (lambda _progress: None), limit, _again(again))
        return run.to_end()
    finally:
        writer.close()


def _space(space: object) -> Space:
    if isinstance(space, Space):
        return space
    if isinstance(space, Mapping):
        return Space.from_dict(space)
    if isinstance(space, str | os.PathLike):
        return Space.load(Path(space))
    raise InputError(f"Cannot sweep {space!r}; give a Space, the path of a TOML file or its content as a dict")


def _again(statuses: object) -> tuple[str, ...]:
    if isinstance(statuses, str) or not isinstance(statuses, Iterable):
        raise InputError(f"again must be a list of statuses, got {statuses!r}; use {', '.join(AGAIN)}")
    found = tuple(statuses)
    for status in found:
        if status not in AGAIN:
            raise InputError(f"Cannot time points of status {status!r} again{nearest(str(status), AGAIN)}; "
                             f"use {', '.join(AGAIN)}, or fresh for all")  # fmt: skip
    return found


class _Run:
    """One run of a sweep: rows flow from the space, the store and the crew into the store."""

    def __init__(
        self, space: Space, writer: Writer, executor: Executor | None, count: int | None,
        progress: Callable[[Progress], None], limit: int | None, again: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.space, self.writer = space, writer
        self._executor, self._count = executor, count
        self._tell, self._limit, self._again = progress, limit, again
        self._pending: list[dict[str, Any]] = []
        self._committed = 0.0
        self._points: dict[int, tuple[Point, str]] = {}
        self._twins: dict[str, list[Point]] = {}  # by key of what is being timed: other points with that key
        self._told = 0.0
        self._handed: float | None = None  # when the first point began
        self._state = Progress(len(space), objective=space.objective, notice=writer.notice)

    def to_end(self) -> SweepResult:
        """Time what is left, and return everything; on the way out of any exception, commit what has come."""
        writer = self.writer
        begun = time.monotonic()
        writer.start_run({"pid": os.getpid(), "host": _host(), "workers": self._count})
        try:
            self._time(self._left())
            self._commit()
        except BaseException as error:
            with suppress(InputError):  # a store that takes nothing more has been told of already
                self._commit()
                writer.end_run("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        how = "limited" if self._state.done < self._state.total else "finished"
        writer.end_run(how)
        self._report(force=True)
        return SweepResult.of(writer, how, self._state.timed, time.monotonic() - begun)

    # ------------------------------------------------------------------------------------------ what is left

    def _left(self) -> Iterator[int]:
        """Store what is illegal or screened away, and return the numbers of the points to time, in their order."""
        import numpy as np

        done = np.zeros(len(self.space), np.bool_)
        done[self.writer.done(self._again)] = True
        before = int(done.sum())
        order = self.space.order()
        if self.space.screen is not None:
            order = self._screened(order, done)
        else:
            for first in range(0, len(order), CHUNK):
                chunk = order[first : first + CHUNK]
                chunk = chunk[~done[chunk]]
                legal, broken = self.space.legal(chunk)
                self._refuse(chunk[~legal], broken[~legal])
                done[chunk[~legal]] = True
        order = order[~done[order]]
        self._state = replace(
            self._state, begun=before, done=len(self.space) - len(order), best=self.writer.best(self.space.objective)
        )
        self._report(force=True)
        return _one_by_one(order)

    def _refuse(self, indices: Any, broken: Any) -> None:
        rules = {number: self.space.rule(number) for number in set(broken.tolist())}
        self._bulk(indices, "illegal", [rules[number] for number in broken.tolist()], {})

    def _bulk(self, indices: Any, status: str, reasons: list[str], more: Mapping[str, list[Any]]) -> None:
        if len(indices) == 0:
            return
        axes = {name: column.tolist() for name, column in self.space.columns(indices).items()}
        count, fidelity = len(indices), "bound" if status == "screened" else self.space.fidelity
        self.writer.put_columns({
            "index": indices.tolist(), "key": [""] * count, "status": [status] * count, "reason": reasons,
            "fidelity": [fidelity] * count, **axes, **more,
        })  # fmt: skip

    def _screened(self, order: Any, done: Any) -> Any:
        """Store the closed form's figures of all points, and return the best, best first; noted, so done only once."""
        import numpy as np

        chosen = self.writer.selected()
        if chosen is None:
            from accel.sweep.screening import notes, screen_all

            self.writer.notice = "; ".join(filter(None, (self.writer.notice, *notes(self.space))))
            self._state = replace(self._state, doing="screening by the closed form")
            self._report(force=True)
            chosen = screen_all(self.space, order, self._bulk)
            self.writer.select(chosen)
            self._state = replace(self._state, doing="")
        mask = np.ones(len(self.space), np.bool_)
        mask[chosen] = False
        done |= mask
        return np.array(chosen, np.int64)

    # ------------------------------------------------------------------------------------------ timing

    def _time(self, left: Iterator[int]) -> None:
        ahead: deque[Point] = deque()
        if not self._prepare(left, ahead, 1):
            return
        crew = self._crew(ahead[0])
        self.writer.notice = "; ".join(filter(None, (self.writer.notice, crew.notice)))
        self._state = replace(self._state, notice=self.writer.notice)
        try:
            noted = False
            while True:
                handed = 0
                while (wanted := crew.wants()) > 0 and self._prepare(left, ahead, 1) and self._may_begin(crew):
                    point = ahead.popleft()
                    crew.submit(point.index, point.job())
                    self._handed = self._handed or time.monotonic()
                    handed += 1
                    if handed >= wanted:
                        break
                if not crew.busy and not (ahead and self._may_begin(crew)):
                    return
                self._prepare(left, ahead, max(1, crew.wants()))
                self.writer.sync()  # here, where the workers have work
                for ticket, outcome in crew.results(TELL_S):
                    self._take(ticket, outcome)
                self._commit()
                if crew.facts is not None and not noted:
                    self.writer.note_facts(crew.facts)
                    noted = True
                self._state = replace(self._state, doing="compiling the engines (once)" if crew.compiling else "")
                self._report()
        finally:
            crew.close()

    def _crew(self, first: Point) -> Crew:
        kinds = {problem.kind for _, _, problem in first.problems}
        if self._executor is None:
            return Workers(self._count or 1, self.space.limits, kinds)
        from accel.sweep.executors import Borrowed

        return Borrowed(self._executor, self.space.limits, self._count)

    def _may_begin(self, crew: Crew) -> bool:
        return self._limit is None or self._state.timed + crew.busy < self._limit

    def _prepare(self, left: Iterator[int], ahead: deque[Point], count: int) -> bool:
        """Resolve points until `count` of them wait to be timed; return whether any does."""
        while len(ahead) < count:
            index = next(left, None)
            if index is None:
                break
            try:
                point = self.space.resolve(index)
                key = point.key()
            except AccelError as error:
                self._keep({"index": index, "key": "", "status": "illegal", "reason": one_line(error),
                            "fidelity": self.space.fidelity, **self.space.values(index)})  # fmt: skip
                continue
            known = self.writer.find(key)
            if known is not None:
                self._keep(self._row(point, key, known))
                continue
            if key in self._twins:  # its twin is being timed
                self._twins[key].append(point)
                continue
            self._points[index], self._twins[key] = (point, key), []
            ahead.append(point)
        return bool(ahead)

    def _row(self, point: Point, key: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
        return {"index": point.index, "key": key, "fidelity": point.fidelity, **point.values, **outcome}

    def _take(self, ticket: int, outcome: dict[str, Any]) -> None:
        point, key = self._points.pop(ticket)
        seconds = time.monotonic() - (self._handed or 0.0)
        self._state = replace(self._state, timed=self._state.timed + 1, seconds=seconds)
        for own in (point, *self._twins.pop(key)):
            self._keep(self._row(own, key, outcome))

    def _keep(self, row: dict[str, Any]) -> None:
        self._pending.append(row)
        best = row if better(row, self._state.best, self.space.objective) else self._state.best
        self._state = replace(self._state, done=self._state.done + 1, best=best)
        if time.monotonic() - self._committed >= COMMIT_S:
            self._commit()
        self._report()

    def _commit(self) -> None:
        if self._pending:
            self.writer.put(self._pending)
            self._pending = []  # only now: an interrupted commit is made again
            self._committed = time.monotonic()

    def _report(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._told >= TELL_S:
            self._told = now
            self._tell(self._state)


def _one_by_one(order: Any) -> Iterator[int]:
    for first in range(0, len(order), CHUNK):
        yield from order[first : first + CHUNK].tolist()


def _host() -> str:
    import platform

    return platform.node()
