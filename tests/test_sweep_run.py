"""A sweep run: the same rows on any workers, every kind of end of a point recorded, rows as tables."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sweep_cases import POINTS, SMALL, Instant, outcome_of

import accel
from accel import batch
from accel.comparison import build
from accel.errors import InputError, UnsupportedError
from accel.problem import Matmul
from accel.sweep import Space
from accel.sweep.evaluate import _chip, evaluate
from accel.sweep.planning import plan
from accel.sweep.rows import FIGURES, LOSSES, WALL_TIMES
from accel.sweep.screening import kept

CHILD = """
import sys; sys.path[:] = {{path!r}}
sys.path.insert(0, {tests!r})
from accel.sweep import evaluate, serving
from sweep_cases import misbehave
evaluate._figures, serving.warm_up, serving.facts = misbehave, lambda kinds: None, dict
serving.serve()
"""


def without_wall_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in WALL_TIMES} for row in rows]


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Any]]:
    """The rows of the small space, its points timed one by one here."""
    space = Space.from_toml(SMALL)
    rows = []
    for index in range(len(space)):
        point = space.resolve(index)
        rows.append({"index": index, "key": point.key(), "fidelity": "packet", **point.values, **evaluate(point.job())})
    return rows


@pytest.mark.parametrize("workers", [1, 2])
def test_rows_are_the_same_on_any_workers(workers: int, alone: list[dict[str, Any]]) -> None:
    seen: list[Any] = []
    result = accel.sweep(Space.from_toml(SMALL), workers=workers, progress=seen.append)
    assert without_wall_times(result.rows) == without_wall_times(alone)
    assert (result.path, result.counts, result.timed, result.how) == (None, {"ok": POINTS}, POINTS, "finished")
    assert result.best == min(result.rows, key=lambda row: (row["seconds"], row["index"]))
    assert (seen[0].done, seen[0].total, seen[-1].done, seen[-1].timed) == (0, POINTS, POINTS, POINTS)
    assert [state.done for state in seen] == sorted(state.done for state in seen)
    assert seen[-1].best["index"] == result.best["index"]


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_rows_are_the_same_on_any_executor(kind: Any, alone: list[dict[str, Any]]) -> None:
    options = {"mp_context": __import__("multiprocessing").get_context("spawn")} if kind is ProcessPoolExecutor else {}
    with kind(2, **options) as executor:
        result = accel.sweep(Space.from_toml(SMALL), executor=executor)
        assert executor.submit(int, 7).result() == 7  # it is still open
    assert without_wall_times(result.rows) == without_wall_times(alone)


def test_figures_are_those_of_the_program(alone: list[dict[str, Any]]) -> None:
    chip = accel.chip("mini").replace(**{"node.sram_bytes": 65536})
    row = next(row for row in alone if (row["problem.k"], row["node.sram_bytes"]) == (48, 65536))
    figure = accel.bench(Matmul(16, 16, 48), chip)
    expected = {
        "cycles": figure.chip.cycles, "seconds": figure.chip.seconds, "utilization": figure.chip.utilization,
        "tflops": figure.chip.tflops, "energy_j": figure.chip.energy_j, "usd": figure.chip.usd,
        "bound_seconds": figure.chip.bound_seconds, "flops": 2 * 16 * 16 * 48,
        "memory_bytes": figure.timing.bytes["memory_read"] + figure.timing.bytes["memory_write"],
        "mesh_bytes": figure.timing.bytes["mesh_byte_hops"], "events": figure.timing.events,
        "sram_bytes_used": figure.program.isa.sram_bytes, "chip_sram_bytes": 16 * 65536,
        "memory_bytes_per_s": chip.memory_bytes_per_s, "area_mm2": chip.cost.die_mm2, "bound_cause": "memory",
        **{f"loss.{cause}": share for cause, share in figure.chip.losses.items()},
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert sum(row[name] for name in LOSSES) == pytest.approx(1.0, abs=1e-12)


def test_problems_of_one_point_add_up() -> None:
    chip, problems = accel.chip("mini"), [(2, Matmul(16, 16, 16)), (3, Matmul(32, 16, 48))]
    timings = [build(problem, chip).time() for _, problem in problems]
    found = evaluate({
        "chip": chip.to_dict(), "problems": [[count, "layer", problem.to_dict()] for count, problem in problems],
        "kernel": {}, "resident": [], "fidelity": "packet",
    })  # fmt: skip
    cycles = 2 * timings[0].cycles + 3 * timings[1].cycles
    assert found["cycles"] == cycles
    assert found["seconds"] == pytest.approx(2 * timings[0].seconds + 3 * timings[1].seconds, rel=1e-15)
    assert found["flops"] == 2 * problems[0][1].flops + 3 * problems[1][1].flops
    assert found["tflops"] == pytest.approx(found["flops"] / found["seconds"] / 1e12, rel=1e-15)
    useful = 2 * timings[0].cycles * timings[0].utilization + 3 * timings[1].cycles * timings[1].utilization
    assert found["utilization"] == pytest.approx(useful / cycles, rel=1e-15)
    assert sum(found[name] for name in LOSSES) == pytest.approx(1.0, abs=1e-12)
    assert set(found) == {"status", "reason", *FIGURES}


def test_a_chip_is_the_same_whatever_came_before() -> None:
    text = SMALL.replace("[16384, 65536, 131072, 262144]", "[65536, 131072]\n'noc.hop_cycles' = [1, 2]")
    space = Space.from_toml(
        text.replace('[chip]\nbase = "mini"\n', "").replace("[16, 32, 48, 64]", "[16]\n'chip.base' = ['d1', 'mini']")
    )
    chips = [space.resolve(index).chip for index in range(len(space))]
    assert len(set(chips)) == 8
    assert [_chip(chip.to_dict()) for chip in (*chips, *reversed(chips))] == [*chips, *reversed(chips)]


def test_what_goes_wrong_in_a_point_is_its_outcome() -> None:
    job = Space.from_toml(SMALL).resolve(0).job()
    for change, status, said in (
        ({"kernel": {"bq": 3}}, "illegal", "no tiling parameter 'bq'"),
        ({"resident": ["z"]}, "illegal", "'z'"),
        ({"chip": {**job["chip"], "clock_hz": 0}}, "illegal", "clock_hz"),
        ({"problems": [[1, "x", {"kind": "matmul", "m": 16}]]}, "illegal", "missing n, k"),
        ({"problems": None}, "failed", "TypeError"),
    ):
        found = evaluate({**job, **change})  # type: ignore[dict-item]
        assert found["status"] == status
        assert said in found["reason"]
        assert "\n" not in found["reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux caps the address space and tells the memory in use")
def test_points_that_hang_die_or_swell_are_rows_and_the_sweep_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_CHILD", CHILD.format(tests=str(Path(__file__).parent)))
    text = SMALL.replace("[16384, 65536, 131072, 262144]", "[65536]")
    result = accel.sweep(Space.from_toml(text + "[limits]\ntimeout_s = 5.0\nmemory_bytes = 300_000_000\n"), workers=2)
    died = (
        "the process that timed it died twice, by signal SIGKILL: the last words; the system may have run out of memory"
    )
    assert {row["problem.k"]: (row["status"], row["reason"]) for row in result.rows} == {
        16: ("ok", ""),
        32: ("timeout", "it took longer than 5 s"),
        48: ("failed", died),
        64: ("memory", "it needs more memory than there is, or than limits.memory_bytes"),
    }


def test_workers_that_cannot_start_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_CHILD", "import sys; sys.exit('no room')  # {path} {module}")
    with pytest.raises(InputError, match=r"processes for it end at once \(exit code 1: no room\); try accel doctor"):
        accel.sweep(Space.from_toml(SMALL), workers=2)


def test_an_interrupt_keeps_what_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.sweep.run.TELL_S", 0.0)
    path, executor = tmp_path / "s.db", Instant()

    def progress(state: Any) -> None:
        if len(executor.asked) >= 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accel.sweep(Space.from_toml(SMALL), store=path, executor=executor, progress=progress)
    with accel.sweep.Store.open(path) as store:
        assert store.meta()["runs"][0]["how"] == "interrupted"
        assert store.meta()["finished"] is None
        kept_rows = len(store.rows())
    assert 0 < kept_rows <= len(executor.asked) < POINTS
    more = Instant()
    assert accel.sweep(Space.from_toml(SMALL), store=path, executor=more).counts == {"ok": POINTS}
    assert len(more.asked) == POINTS - kept_rows


def test_a_lost_future_is_a_failed_point_until_it_is_asked_for_again(tmp_path: Path) -> None:
    space, path, executor = Space.from_toml(SMALL), tmp_path / "s.db", Instant(fail=3)
    result = accel.sweep(space, store=path, executor=executor)
    assert result.counts == {"ok": POINTS - 1, "failed": 1}
    assert [row["reason"] for row in result.rows if row["status"] == "failed"] == ["RuntimeError: lost on the way"]
    assert accel.sweep(space, store=path, executor=executor).timed == 0
    assert accel.sweep(space, store=path, executor=executor, again=["timeout"]).timed == 0
    result = accel.sweep(space, store=path, executor=executor, again=["timeout", "failed"])
    assert (result.timed, result.counts) == (1, {"ok": POINTS})


class Broken(Executor):
    """Loses its processes at the third job."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **_kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.count += 1
        if self.count > 3:
            future.set_exception(BrokenProcessPool("a child was killed"))
        else:
            future.set_result(outcome_of(args[0]) if args else {})
        return future


def test_executors_that_cannot_go_on(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with pytest.raises(InputError, match=r"given up \(BrokenProcessPool: a child was killed\); what was committed is"):
        accel.sweep(Space.from_toml(SMALL), store=path, executor=Broken())
    with accel.sweep.Store.open(path) as store:
        assert store.counts() == {"ok": 2}
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(InputError, match=r"Cannot time points on ThreadPoolExecutor: .*; give an open one"):
        accel.sweep(Space.from_toml(SMALL), executor=closed)
    with pytest.raises(InputError, match=r"it has no submit\(\); give a concurrent.futures.Executor"):
        accel.sweep(Space.from_toml(SMALL), executor=3)


def test_time_outs_on_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    def slow(job: Any) -> dict[str, Any]:
        k = job["problems"][0][2]["k"]
        if k == 32:
            free.wait(60.0)
        return {**outcome_of(job), "time_s": 9.0 if k == 48 else 0.0}

    monkeypatch.setattr("accel.sweep.executors.evaluate", slow)
    space = Space.from_toml(SMALL + "[limits]\ntimeout_s = 0.3\n")
    try:
        with ThreadPoolExecutor(8) as executor:
            result = accel.sweep(space, executor=executor)
            assert {row["problem.k"] for row in result.rows if row["status"] == "timeout"} == {32, 48}
            assert result.counts == {"ok": 8, "timeout": 8}
            free.set()
        free.clear()
        with ThreadPoolExecutor(2) as executor:
            with pytest.raises(InputError, match=r"All 2 workers of the executor hang .*: leave the executor out"):
                accel.sweep(space, executor=executor)
            free.set()
    finally:
        free.set()


def test_points_that_only_building_refuses_are_illegal_rows() -> None:
    text = SMALL.replace("[16384, 65536, 131072, 262144]", "[16384, 100]")  # no node has 100 bytes
    executor = Instant()
    result = accel.sweep(Space.from_toml(text), executor=executor)
    assert result.counts == {"ok": 4, "illegal": 4}
    assert len(executor.asked) == 4
    assert all("node.sram_bytes" in row["reason"] for row in result.rows if row["status"] == "illegal")


def test_equal_points_are_timed_once() -> None:
    executor = Instant()  # bf16 is what no out_dtype means
    text = SMALL.replace("[16384, 65536, 131072, 262144]", "[65536]\n'problem.out_dtype' = ['', 'bf16']")
    result = accel.sweep(Space.from_toml(text), executor=executor)
    assert len(executor.asked) == 4
    assert result.counts == {"ok": 8}
    assert len({row["key"] for row in result.rows}) == 4


@pytest.mark.parametrize(
    ("keep", "legal", "count"), [(5, 10, 5), (50, 10, 10), (0.25, 10, 3), (0.001, 10, 1), (3, 0, 0)]
)
def test_how_many_a_screening_keeps(keep: Any, legal: int, count: int) -> None:
    assert kept(keep, legal) == count


def test_a_screening_stores_all_and_times_the_best(tmp_path: Path) -> None:
    text = 'screen = "bound"\nkeep = 5\n' + SMALL + '[constraints]\nsmall = "problem.k < 60"\n'
    space, executor, path = Space.from_toml(text), Instant(), tmp_path / "s.db"
    bounds = {}
    for index in range(POINTS):
        values = space.values(index)
        if values["problem.k"] < 60:
            bounds[index] = Matmul(16, 16, values["problem.k"]).bound(accel.chip("mini")).seconds
    result = accel.sweep(space, store=path, executor=executor)
    assert result.counts == {"ok": 5, "illegal": 4, "screened": 7}
    timed = [row["index"] for row in result.rows if row["status"] == "ok"]
    left = [row["index"] for row in result.rows if row["status"] == "screened"]
    assert max(bounds[i] for i in timed) <= min(bounds[i] for i in left)
    for row in result.rows:
        if row["status"] == "screened":
            assert row["bound_seconds"] == pytest.approx(bounds[row["index"]], rel=1e-12)
            assert (row["bound_cause"], row["fidelity"], row["seconds"]) == ("memory", "bound", None)
    assert accel.sweep(space, store=path, executor=executor).timed == 0
    more = accel.sweep(Space.from_toml(text.replace("keep = 5", "keep = 8")), store=path, executor=executor)
    assert (more.timed, more.counts) == (3, {"ok": 8, "illegal": 4, "screened": 4})


def test_csv_reads_back_to_the_bit(tmp_path: Path) -> None:
    result = accel.sweep(Space.from_toml(SMALL), executor=Instant())
    result.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [tuple(row) for row in read] == [result.columns] * POINTS
    for row, back in zip(result.rows, read, strict=True):
        assert float(back["seconds"]) == row["seconds"]
        assert int(back["cycles"]) == row["cycles"]
        assert back["status"] == "ok"
        assert back["energy_j"] == ""
    with pytest.raises(InputError, match=r"ends in no known format; use \.csv or \.parquet"):
        result.export(tmp_path / "rows.xls")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def test_tables_without_their_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pandas", "polars", "pyarrow")
    path = tmp_path / "s.db"
    result = accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant())
    assert accel.load_sweep(path) == result.rows
    with pytest.raises(UnsupportedError, match=r"neither is installed; install accel-codesign\[sweep\], or export"):
        result.to_parquet(tmp_path / "rows.parquet")
    assert not (tmp_path / "rows.parquet").exists()


@pytest.mark.parametrize(("name", "hidden"), [("pandas", ()), ("polars", ("pandas",))])
def test_a_frame_of_the_library_that_is_there(
    name: str, hidden: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    result = accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant())
    without(monkeypatch, *hidden)
    if importlib.util.find_spec(name) is None:  # a stand-in that says what it was given
        stand_in: Any = ModuleType(name)
        stand_in.DataFrame = lambda data, **options: (name, data, options)
        stand_in.__spec__ = importlib.util.spec_from_loader(name, None)
        monkeypatch.setitem(sys.modules, name, stand_in)
        found, data, _ = accel.load_sweep(path)
        assert found == name
        assert tuple(data) == result.columns
        assert data["seconds"] == [row["seconds"] for row in result.rows]
    else:
        frame = accel.load_sweep(path)
        assert type(frame).__module__.startswith(name)
        assert tuple(frame.columns) == result.columns
        assert list(frame["seconds"]) == [row["seconds"] for row in result.rows]


def test_parquet_reads_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    result = accel.sweep(Space.from_toml(SMALL), executor=Instant())
    result.to_parquet(tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist() == result.rows


@pytest.mark.parametrize(("name", "hidden"), [("pyarrow", ()), ("polars", ("pyarrow",))])
def test_parquet_keeps_kinds_and_gaps(
    name: str, hidden: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    polars = pytest.importorskip("polars", reason="polars, which reads the table back, is not installed")
    axes = {"problem.k": [16, 32], "kernel.resident": [[], ["b"]], "problem.trans_b": [True, False],
            "ports.*.bytes_per_cycle": [8, 16.5], "node.sram_bytes": [100, 65536]}  # fmt: skip
    space = Space.from_dict({"problem": {"kind": "matmul", "m": 16, "n": 16}, "chip": {"base": "mini"}, "axes": axes})
    result = accel.sweep(space, executor=Instant())
    assert set(result.counts) == {"ok", "illegal"}  # no node has 100 bytes
    without(monkeypatch, *hidden)
    result.to_parquet(tmp_path / "rows.parquet")
    frame = polars.read_parquet(tmp_path / "rows.parquet")
    assert tuple(frame.columns) == result.columns
    kinds = {"problem.k": polars.Int64, "problem.trans_b": polars.Boolean, "kernel.resident": polars.String,
             "ports.*.bytes_per_cycle": polars.Float64, "cycles": polars.Int64, "seconds": polars.Float64}  # fmt: skip
    assert {column: frame.schema[column] for column in kinds} == kinds
    for column in result.columns:
        given = [json.dumps(row[column]) if isinstance(row[column], list) else row[column] for row in result.rows]
        assert frame[column].to_list() == given


def test_a_plan_says_what_would_be_done() -> None:
    build(Matmul(8, 8, 8), "mini").time()  # on an empty cache there is no estimate
    found = plan(Space.from_toml(SMALL + '[constraints]\nsmall = "problem.k < 60"\n'), 2, shown=3)
    assert (found.points, found.illegal, found.to_time, found.workers) == (POINTS, 4, 12, 2)
    order = Space.from_toml(SMALL).order()
    assert [row["index"] for row in found.first] == order[:3].tolist()
    assert json.loads(json.dumps(found.to_dict()))["points"] == POINTS
    assert len(found.sampled) == 3
    assert found.estimate_s is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": 3}, "Cannot sweep 3; give a Space, the path"),
        ({"space": "nowhere.toml"}, "nowhere.toml"),
        ({"workers": 0}, "use an integer from 1 to"),
        ({"again": ["ok"]}, "Cannot time points of status 'ok' again; use timeout, memory, failed, or fresh for all"),
        ({"again": "failed"}, "again must be a list of statuses"),
        ({"limit": 0}, "limit must be a whole number of at least 1"),
        ({"store": 3}, "Cannot use 3 as a sweep store"),
    ],
)
def test_wrong_arguments_are_one_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        accel.sweep(**{"space": Space.from_toml(SMALL), **options})


def test_the_work_begins_with_the_ends_of_the_space() -> None:
    executor = Instant()
    accel.sweep(Space.from_toml(SMALL), executor=executor, limit=4)
    corners = {(job["problems"][0][2]["k"], job["chip"]["node"]["sram_bytes"]) for job in executor.asked}
    assert (16, 16384) in corners
    assert len(corners) == 4
