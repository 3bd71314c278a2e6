"""A sweep on real executors: Dask, processes that are killed, and the limit of memory in workers that are not ours."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import POINTS, SMALL, Instant, outcome_of

import accel
from accel.errors import InputError
from accel.sweep import Space, lent, memory
from accel.sweep.lent import REFUSED, evaluate_within, here
from accel.sweep.point import Limits
from accel.sweep.rows import WALL_TIMES
from accel.sweep.workers import Workers

LIMITED = SMALL + "[limits]\nmemory_bytes = 3_000_000_000\n"
LARGE = LIMITED.replace("= 16\n", "= 2048\n").replace("[16384, 65536, ", "[").replace("3_000_000_000", "1_000")
linux = pytest.mark.skipif(not memory.can_limit(), reason="only Linux limits the address space")


def without_wall_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in WALL_TIMES} for row in rows]


@contextlib.contextmanager
def dask_cluster(threads: int) -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed (pip install 'dask[distributed]')")
    with (
        distributed.LocalCluster(2, threads_per_worker=threads, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@linux
@pytest.mark.parametrize("text", [SMALL, LIMITED])
def test_rows_of_a_dask_cluster_are_those_of_this_machine(text: str) -> None:
    own = accel.sweep(Space.from_toml(SMALL), workers=1)
    with dask_cluster(1) as executor:
        result = accel.sweep(Space.from_toml(text), executor=executor, workers=2)
    assert result.counts == {"ok": POINTS}
    assert result.notice == ""
    assert without_wall_times(result.rows) == without_wall_times(own.rows)


@linux
def test_a_dask_worker_of_many_threads_cannot_keep_the_limit_of_memory() -> None:
    with (
        dask_cluster(8) as executor,
        pytest.raises(InputError, match="on ClientExecutor because several points are timed in one process; use an"),
    ):
        accel.sweep(Space.from_toml(LIMITED), executor=executor, workers=16)


@linux
def test_processes_of_others_keep_the_limit_of_memory() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        result = accel.sweep(Space.from_toml(LARGE), executor=executor, limit=2)
        assert result.counts == {"memory": 2}
        again = accel.sweep(Space.from_toml(LARGE.replace("1_000", "3_000_000_000")), executor=executor, limit=2)
        assert again.counts == {"ok": 2}  # the limit went with the point


@linux
def test_a_limit_is_that_of_the_point_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    seen: list[Any] = []

    def evaluate(job: Any) -> dict[str, Any]:
        seen.append(resource.getrlimit(resource.RLIMIT_AS))
        return outcome_of(job)

    before = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setattr(lent, "evaluate", evaluate)
    monkeypatch.setattr(lent, "_warm", [True])
    job = Space.from_toml(SMALL).resolve(0).job()
    assert evaluate_within(job, 1 << 40, ("elsewhere", 1)) == outcome_of(job)
    assert seen[0][0] >= 1 << 40
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert evaluate_within(job, 1 << 40, here())["status"] == REFUSED
    with lent._at_work:
        assert evaluate_within(job, 1 << 40, ("elsewhere", 1))["reason"] == "several points are timed in one process"
    monkeypatch.setattr(lent, "can_limit", lambda: False)
    assert "limits no address space" in evaluate_within(job, 1 << 40, ("elsewhere", 1))["reason"]


@pytest.mark.parametrize("executor", [Instant(), ThreadPoolExecutor(2)], ids=["this thread", "threads"])
def test_the_limit_of_memory_is_refused_in_this_process_and_never_left_out(executor: Executor) -> None:
    class Really(Instant):
        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(fn(*args, **more))
            return future

    real = Really() if isinstance(executor, Instant) else executor
    with pytest.raises(InputError, match=r"Cannot keep limits\.memory_bytes on .* in the process that sweeps; use an"):
        accel.sweep(Space.from_toml(LIMITED), executor=real)
    executor.shutdown()


def test_our_own_processes_say_so_where_the_system_keeps_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.sweep.workers.can_limit", lambda: False)
    crew = Workers(1, Limits(memory_bytes=1 << 30))
    crew.close()
    assert crew.notice.startswith("limits.memory_bytes is not kept on ")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_pool_whose_processes_are_killed_is_one_line_and_what_came_is_kept(tmp_path: Path) -> None:
    space = Space.from_toml(SMALL.replace("[16, 32, 48, 64]", "{from = 16, to = 1600, step = 16}"))
    executor = ProcessPoolExecutor(2, mp_context=get_context("spawn"))

    def progress(state: Any) -> None:
        if state.timed >= 3:
            for pid in list(executor._processes):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    with pytest.raises(InputError, match=r"The executor has given up \(BrokenProcessPool: .*\); what was committed is"):
        accel.sweep(space, store=tmp_path / "s.db", executor=executor, progress=progress)
    executor.shutdown()
    kept = len(accel.load_sweep(tmp_path / "s.db"))
    assert 3 <= kept < len(space)
    more = Instant()
    accel.sweep(space, store=tmp_path / "s.db", executor=more)
    assert len(more.asked) == len(space) - kept


def test_an_executor_that_does_not_say_how_many_workers_it_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(Executor):
        def submit(self, fn: Any, /, *args: Any, **_more: Any) -> Future[Any]:
            future: Future[Any] = Future()
            if not args:
                future.set_result({})
            elif args[0]["problems"][0][2]["k"] != 32:
                future.set_result(outcome_of(args[0]))
            return future  # of k = 32 it never comes

    space = Space.from_toml(SMALL + "[limits]\ntimeout_s = 0.2\n")
    result = accel.sweep(space, executor=Mute(), workers=5)
    assert result.counts == {"ok": 12, "timeout": 4}
