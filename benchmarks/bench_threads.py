"""How runs scale over threads and timings over processes: the same work with one and with all processors."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import ml_dtypes
import pytest

import accel
from accel.kernels import matmul
from accel.machine.parallel import available_cores
from accel.report.showcase import hard_values

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
SIZE = 1024 if SMOKE else 4096
DEPTHS = (1024, 1024) if SMOKE else (4096, 3072, 5120, 4608, 3584, 4096, 6144, 2048)
LAYERS = [(SIZE, SIZE, k) for k in DEPTHS]
GOAL_ON_TWO = 1.7


def once(call: Any) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def report(benchmark: Any, facts: dict[str, Any]) -> None:
    """Put the facts into the record and show them."""
    benchmark.extra_info.update(facts)
    print("\n" + json.dumps(facts))


def test_run_on_threads(benchmark: Any) -> None:
    cores = available_cores()
    if cores < 2:
        pytest.skip("one processor: nothing can scale")
    program = matmul.build("d1", m=SIZE, n=SIZE, k=SIZE)
    # In the format of the program: converting the operands is no part of the run.
    a, b = (hard_values((SIZE, SIZE), seed).astype(ml_dtypes.bfloat16) for seed in (0, 1))
    seconds: dict[int, list[float]] = {1: [], cores: []}
    results = {}
    program.run(a=a, b=b, threads=cores)
    for _ in range(1 if SMOKE else 3):  # in turn, so that both see the same host
        for threads, times in seconds.items():
            times.append(once(lambda t=threads: results.__setitem__(t, program.run(a=a, b=b, threads=t)["c"])))
    assert (results[1].view("u2") == results[cores].view("u2")).all()
    best = {threads: min(times) for threads, times in seconds.items()}
    facts = {"shape": [SIZE] * 3, "threads": cores, "goal_on_two": GOAL_ON_TWO, "seconds": best,
             "gflops": {t: 2e-9 * SIZE**3 / x for t, x in best.items()}, "scaling": best[1] / best[cores]}  # fmt: skip
    report(benchmark, facts)
    benchmark.pedantic(lambda: program.run(a=a, b=b, threads=cores), rounds=1)


def test_time_many(benchmark: Any) -> None:
    cores = available_cores()
    if cores < 2:
        pytest.skip("one processor: nothing can scale")
    programs = [matmul.build("d1", m=m, n=n, k=k) for m, n, k in LAYERS]

    def fresh() -> list[Any]:
        return [accel.Program(p.isa, p.chip) for p in programs]  # a program remembers its timings

    seconds, cycles = {}, {}
    accel.time_many(fresh()[:cores], workers=cores)
    for workers in (1, cores):
        seconds[workers] = min(
            once(lambda n=workers: cycles.__setitem__(n, [t.cycles for t in accel.time_many(fresh(), workers=n)]))
            for _ in range(1 if SMOKE else 2)
        )
    assert cycles[1] == cycles[cores]
    report(benchmark, {"programs": len(programs), "workers": cores, "seconds": seconds, "goal_on_two": GOAL_ON_TWO,
                       "scaling": seconds[1] / seconds[cores]})  # fmt: skip
    benchmark.pedantic(lambda: accel.time_many(fresh(), workers=cores), rounds=1)
