"""Sweeps: what a point costs beside its simulation, and how busy two workers are kept.

The goals are 2 ms a point at most and an efficiency of 0.85 on two cores. The first is processor time of all processes
together, so that waiting does not count: that of a sweep whose points all have another chip and whose programs a worker
builds and times once and remembers, less that of a sweep of one point (starting, loading). Reading the job, building
chip and problem, the bound, the row, the key and the commit are all in it. The second is the share of two workers'
time, from the first point handed out to the last result, in which they had a point at work. Other processes on the
machine slow points and waiting alike and leave it nearly unchanged; `wall_1 / (2 wall_2)`, next to it, is only worth
something on two idle cores. ACCEL_BENCH=smoke measures the same on few points.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

import accel
from accel import batch
from accel.sweep import Space

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
GOAL_MS, GOAL_EFFICIENCY = 2.0, 0.85
TINY = """
[problem]
kind = "matmul"
m = 16
n = 16
k = 16
[chip]
base = "d1"
[axes]
"node.sram_bytes" = {sizes}
"""
LARGE = """
[problem]
kind = "matmul"
m = 1024
n = 1024
[chip]
base = "mini"
[axes]
"problem.k" = {{from = 1024, to = {last}, step = 16}}
"""


# A worker that builds and times the first program and takes it for all others.
CHILD = """
import sys; sys.path[:] = {path!r}
from accel import comparison
from accel.sweep import serving
real, known = comparison.build, []
def build(problem, chip, **options):
    if not known:
        known.append(real(problem, chip, **options))
    return known[0]
comparison.build = build
serving.serve()
"""


def processor_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def swept(text: str, path: Path, workers: int) -> tuple[Any, float, float]:
    """Return a finished sweep, its processor time, and the seconds in which workers could have had points."""
    states: list[Any] = []
    begun = processor_s()
    result = accel.sweep(Space.from_toml(text), store=path, workers=workers, fresh=True, progress=states.append)
    assert set(result.counts) == {"ok"}
    return result, processor_s() - begun, states[-1].seconds


def test_overhead(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 100 if SMOKE else 2000
    many, one = (TINY.format(sizes=[1048576 + 64 * i for i in range(size)]) for size in (count, 1))
    monkeypatch.setattr(batch, "_CHILD", CHILD)

    def run() -> float:
        _, start, _ = swept(one, tmp_path / "one.db", 1)
        _, whole, _ = swept(many, tmp_path / "many.db", 1)
        return (whole - start) / count * 1e3

    overhead = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info |= {"overhead_ms_a_point": round(overhead, 3), "goal": GOAL_MS, "points": count}


def test_efficiency(benchmark: Any, tmp_path: Path) -> None:
    count = 6 if SMOKE else 60
    text = LARGE.format(last=1024 + 16 * (count - 1))

    def run() -> tuple[float, float]:
        one, _, alone_s = swept(text, tmp_path / "one.db", 1)
        two, _, seconds = swept(text, tmp_path / "two.db", 2)
        assert [row["cycles"] for row in one.rows] == [row["cycles"] for row in two.rows]
        busy = sum(row["build_s"] + row["time_s"] for row in two.rows)
        return busy / (2.0 * seconds), alone_s / (2.0 * seconds)

    busy, wall = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info |= {"busy_share": round(busy, 3), "wall_1_over_2_wall_2": round(wall, 3),
                             "goal": GOAL_EFFICIENCY, "points": count}  # fmt: skip
