"""What a sweep would do, without doing it: its size, its first points, and how long it might take."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from accel.batch import worker_count
from accel.errors import AccelError
from accel.sweep.point import Limits
from accel.sweep.screening import kept
from accel.sweep.space import Space
from accel.sweep.workers import Workers

if TYPE_CHECKING:
    from accel.sweep.point import Point

__all__ = ["Plan", "plan"]

BUDGET_S = 10.0  # for timing samples
SAMPLES = 3
CHUNK = 65536
LONGEST_START_S = 60.0  # of a process on a busy machine
START_S = 2.0  # for processes to start and to load what is compiled


@dataclass(frozen=True)
class Plan:
    """What a sweep would do.

    points: of the space; illegal: those that break a constraint; by_constraint: how many each is the first to rule out,
    by name and text; to_time: those that go to workers (with a screening,
    those that it keeps). first: the first points in the order of the run, a dict each of index, the axes' values and
    `reason`, why the point is illegal (empty where it is not). sampled: seconds that single points took just now, by
    their numbers. estimate_s: of the whole, None where nothing could be timed; at_least: a sample had not ended in
    time, so it takes longer. note: why there is no estimate.
    """

    points: int
    illegal: int
    by_constraint: dict[str, int]
    to_time: int
    workers: int
    first: list[dict[str, Any]]
    sampled: dict[int, float]
    estimate_s: float | None
    at_least: bool
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def plan(space: Space, workers: int | None = None, *, shown: int = 8) -> Plan:
    """Return what a sweep of `space` would do on so many processes, after timing up to three points of it.

    shown: how many of the first points to list. InputError for a wrong number of workers.
    """
    count = worker_count(workers)
    order = space.order()
    legal, ruled_out = _legal(space, order)
    to_time = order[legal]
    first = []
    for index in order[:shown].tolist():
        reason = ""
        try:
            space.resolve(index)
        except AccelError as error:
            reason = error.message
        first.append({"index": index, **space.values(index), "reason": reason})
    timed = len(to_time) if space.screen is None else kept(space.keep, len(to_time))
    sampled, at_least, note = _samples(space, to_time)
    estimate = None
    if sampled:
        estimate = START_S + sum(sampled.values()) / len(sampled) * timed / min(count, max(1, timed))
    return Plan(len(space), int((~legal).sum()), ruled_out, timed, count, first, sampled, estimate, at_least, note)


def _legal(space: Space, order: Any) -> tuple[Any, dict[str, int]]:
    """Return which points keep all constraints, and how many points each constraint rules out."""
    import numpy as np

    found = np.zeros(len(order), np.bool_)
    counts = np.zeros(len(space.constraints), np.int64)
    for begin in range(0, len(order), CHUNK):
        legal, broken = space.legal(order[begin : begin + CHUNK])
        found[begin : begin + CHUNK] = legal
        counts += np.bincount(broken[~legal], minlength=len(counts))
    return found, {text: int(count) for text, count in zip(space.constraints, counts, strict=True) if count}


def _samples(space: Space, order: Any) -> tuple[dict[int, float], bool, str]:
    """Time points from the ends and the middle of the space, one after the other; (seconds, cut short, why none)."""
    from accel.machine import host

    if host.nothing_compiled():
        return {}, False, "nothing is compiled yet, so no point was timed; run accel warm first"
    points: list[Point] = []
    for place in sorted({0, len(order) // 2, len(order) - 1} if len(order) else set()):
        try:
            points.append(space.resolve(int(order[place])))
        except AccelError:
            continue  # illegal for its chip: no time either
    if not points:
        return {}, False, "no sample is legal, so nothing was timed"
    until = time.monotonic() + LONGEST_START_S
    sampled: dict[int, float] = {}
    crew = Workers(1, Limits(), [problem.kind for point in points for _, _, problem in point.problems])
    try:
        begun, waiting = 0.0, list(points[:SAMPLES])
        while (waiting or crew.busy) and time.monotonic() < until:
            if waiting and not crew.busy and crew.wants():
                point = waiting.pop(0)
                begun = time.monotonic()
                until = begun + BUDGET_S if not sampled else until  # the clock runs from the first point on
                crew.submit(point.index, point.job())
            for index, _outcome in crew.results(0.1):
                sampled[index] = time.monotonic() - begun
        if crew.busy:  # it has run out of time
            sampled[point.index] = time.monotonic() - begun
            return sampled, True, ""
    finally:
        crew.close()
    return sampled, False, "" if sampled else "no sample ended in time"
