"""What a sweep has committed stays: after a kill at once, after a power cut once it is synced."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import POINTS, SMALL, Instant, outcome_of

import accel
from accel.errors import InputError
from accel.sweep import Space, Store, journal
from accel.sweep.journal import Journal
from accel.sweep.writer import Writer

KILLED = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {tests!r})
import accel
from accel.sweep import executors
from sweep_cases import outcome_of
log = open({log!r}, "a", buffering=1)

def evaluate(job):
    log.write(f"{{job['problems'][0][2]['k']}} {{job['chip']['node']['sram_bytes']}}\\n")
    time.sleep(0.004)
    return outcome_of(job)

executors.evaluate = evaluate
print("begun", flush=True)
with ThreadPoolExecutor(2) as pool:
    accel.sweep({toml!r}, store={store!r}, executor=pool)
"""


def test_killed_again_and_again_no_committed_point_is_lost_or_timed_again(tmp_path: Path) -> None:
    toml, store, log = tmp_path / "s.toml", tmp_path / "s.db", tmp_path / "log"
    toml.write_text(SMALL.replace("[16, 32, 48, 64]", "{from = 16, to = 1600, step = 16}"))
    size, draw = 400, random.Random(3)
    script = KILLED.format(tests=str(Path(__file__).parent), log=str(log), toml=str(toml), store=str(store))
    committed: dict[int, dict[str, Any]] = {}
    seen: Counter[str] = Counter()
    kills = interrupted = 0
    while len(committed) < size:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(draw.uniform(0.0, 0.5) if kills < 10 else 60.0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        process.stdout.close()
        lines = log.read_text().splitlines() if log.exists() else []
        again = Counter(lines) - seen
        for row in committed.values():
            assert f"{row['problem.k']} {row['node.sram_bytes']}" not in again
        seen = Counter(lines)
        try:
            with Store.open(store) as held:
                rows = {row["index"]: row for row in held.rows()}
        except InputError:  # killed before the store was begun
            rows = {}
        assert committed.items() <= rows.items()
        interrupted += len(committed) < len(rows) < size
        committed = rows
    assert kills >= 5
    assert interrupted >= 2
    # What is done again was handed out and had not come back: two at work and two in line at most.
    assert sum(seen.values()) <= size + 4 * kills
    assert {row["status"] for row in committed.values()} == {"ok"}


class Looks(ThreadPoolExecutor):
    """Times two points at once, and notes how many rows are in the store when another one is asked for."""

    def __init__(self, store: Path) -> None:
        super().__init__(2)
        self._store = store
        self.handed: list[tuple[int, int]] = []
        self._given = 0

    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        if not args:
            return super().submit(fn, *args, **more)
        with Store.open(self._store) as store:
            self.handed.append((self._given, sum(store.counts().values())))
        self._given += 1
        return super().submit(outcome_of, args[0])


def test_a_point_that_came_back_is_in_the_store_before_another_begins(tmp_path: Path) -> None:
    with Looks(tmp_path / "s.db") as executor:
        result = accel.sweep(Space.from_toml(SMALL), store=tmp_path / "s.db", executor=executor)
    assert result.counts == {"ok": POINTS}
    assert len(executor.handed) == POINTS
    assert all(given - rows <= 4 for given, rows in executor.handed)  # two at work, two in line


class Disk:
    """A disk that has what was synced and nothing else, as a power cut leaves it: zeros in place of the rest."""

    def __init__(self, store: Path, kept: Path) -> None:
        self._store, self._kept = store, kept
        self.synced: list[int] = []  # rows that a reader saw at each time

    def fsync(self, _fd: int) -> None:
        with Store.open(self._store) as store:
            self.synced.append(sum(store.counts().values()))
        shutil.rmtree(self._kept, ignore_errors=True)
        self._kept.mkdir()
        for ending in ("", "-wal"):
            name = self._store.name + ending
            shutil.copy(self._store.with_name(name), self._kept / name)
        with (self._kept / (self._store.name + "-wal")).open("ab") as file:
            file.write(bytes(4096 * 5))  # what the file system had grown the file by


def test_a_power_cut_leaves_what_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, kept = tmp_path / "s.db", tmp_path / "kept"
    disk = Disk(path, kept)

    def progress(_state: Any) -> None:
        if len(disk.synced) == 3:
            raise SystemExit("the lights go out")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "SYNC_S", 0.0)
        patch.setattr(journal, "SYNC_WAIT", 0)
        patch.setattr("accel.sweep.run.TELL_S", 0.0)
        patch.setattr(Writer, "end_run", lambda *_rest: None)
        patch.setattr("accel.sweep.journal.os.fsync", disk.fsync)
        with pytest.raises(SystemExit):
            accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant(), progress=progress)
    assert 0 < disk.synced[-1] < POINTS
    with Store.open(kept / "s.db") as store:
        assert len(store.rows()) == disk.synced[-1]
    executor = Instant()
    assert accel.sweep(Space.from_toml(SMALL), store=kept / "s.db", executor=executor).counts == {"ok": POINTS}
    assert len(executor.asked) == POINTS - disk.synced[-1]


def test_the_end_of_a_run_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "s.db", tmp_path / "kept")
    monkeypatch.setattr(journal, "SYNC_S", 1e9)  # never due in between
    monkeypatch.setattr("accel.sweep.journal.os.fsync", disk.fsync)
    accel.sweep(Space.from_toml(SMALL), store=tmp_path / "s.db", executor=Instant())
    assert disk.synced == [POINTS]
    with Store.open(tmp_path / "kept" / "s.db") as store:
        assert store.meta()["runs"][-1]["how"] == "finished"


def test_a_disk_that_is_slow_to_sync_costs_a_tenth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, synced = [0.0], []

    def fsync(_fd: int) -> None:
        synced.append(clock[0])
        clock[0] += 1.0

    monkeypatch.setattr("accel.sweep.journal.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("accel.sweep.journal.os.fsync", fsync)
    (tmp_path / "s.db-wal").touch()
    held = Journal(tmp_path / "s.db")
    for _ in range(4000):
        held.wrote()
        held.sync()
        clock[0] += 0.01
    held.close()
    waits = [after - before for before, after in itertools.pairwise(synced)]
    assert len(waits) >= 3
    assert waits == pytest.approx([10.0] * len(waits), abs=0.1)
    assert synced[0] == pytest.approx(0.1, abs=0.02)


def test_a_disk_that_takes_nothing_more_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_fd: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("accel.sweep.journal.os.fsync", fsync)
    with pytest.raises(InputError, match=r"its journal does not reach the disk: Input/output error; check the disk"):
        accel.sweep(Space.from_toml(SMALL), store=tmp_path / "s.db", executor=Instant())
    with Store.open(tmp_path / "s.db") as store:
        assert store.counts() == {"ok": POINTS}


def test_a_clock_that_is_set_back_changes_stamps_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = iter(f"2026-01-{day:02d}T00:00:00.000+00:00" for day in range(28, 0, -1))
    monkeypatch.setattr("accel.sweep.writer._now", lambda: next(stamps))
    path, asked = tmp_path / "s.db", []
    for limit in (5, None):
        executor = Instant()
        result = accel.sweep(Space.from_toml(SMALL), store=path, executor=executor, limit=limit)
        assert result.seconds >= 0.0
        asked.append(len(executor.asked))
    assert asked == [5, POINTS - 5]
    with Store.open(path) as store:
        meta = store.meta()
    assert [run["how"] for run in meta["runs"]] == ["limited", "finished"]
    assert meta["finished"] == meta["runs"][-1]["ended"] < meta["started"] < meta["runs"][0]["started"]
    accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant(), fresh=True)
    accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant(), fresh=True)  # perhaps in the same second
    assert len(list(tmp_path.iterdir())) == 3


def test_reading_a_finished_store_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant(), limit=3)
    before = path.read_bytes()
    accel.load_sweep(path)
    with Store.open(path) as store:
        rows = store.each()
        next(rows)
        again = accel.sweep(Space.from_toml(SMALL), store=tmp_path / "t.db", executor=Instant())
        assert again.counts == {"ok": POINTS}
        rows.close()  # type: ignore[attr-defined]  # a generator
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.db", "t.db"]
    assert path.read_bytes() == before


def test_a_sweep_that_ends_while_someone_reads_is_whole(tmp_path: Path) -> None:
    path, held = tmp_path / "s.db", []

    def progress(_state: Any) -> None:
        if not held:
            held.append(Store.open(path))
            held[0].counts()

    accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant(), progress=progress)
    assert held[0].counts() == {"ok": POINTS}
    held[0].close()
    assert accel.sweep(Space.from_toml(SMALL), store=path, executor=Instant()).timed == 0
