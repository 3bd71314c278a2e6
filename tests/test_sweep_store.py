"""The store of a sweep: killed at any moment, taken up again, and refused with a reason where it cannot be used."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import POINTS, SMALL, Instant

import accel
from accel.errors import InputError
from accel.sweep import Space, Store, database
from accel.sweep.rows import FIGURES, LOSSES, columns
from accel.sweep.writer import Writer
from accel.timing.ledger import CAUSES


@pytest.fixture
def space() -> Space:
    return Space.from_toml(SMALL)


def swept(path: Path, space: Space | str | None = None, **options: Any) -> Any:
    executor = Instant()
    result = accel.sweep(space or Space.from_toml(SMALL), store=path, executor=executor, **options)
    return result, executor.asked


def test_the_losses_are_those_of_the_cycle_model() -> None:
    assert tuple(name.removeprefix("loss.") for name in LOSSES) == CAUSES


def test_rows_and_meta_are_what_the_sweep_was(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "s.db"
    swept(path)
    with Store.open(path) as store:
        rows, meta, counts = store.rows(), store.meta(), store.counts()
        assert store.rows("illegal") == []
        assert store.best() == min(rows, key=lambda row: row["seconds"])
        assert store.best("-utilization") == max(rows, key=lambda row: (row["utilization"], -row["index"]))
    assert counts == {"ok": POINTS}
    assert [row["index"] for row in rows] == list(range(POINTS))
    assert all(tuple(row) == columns(["problem.k", "node.sram_bytes"]) for row in rows)
    for row in rows:
        assert {name: row[name] for name in ("problem.k", "node.sram_bytes")} == space.values(row["index"])
        assert row["key"] == space.resolve(row["index"]).key()
        assert row["seconds"] == row["problem.k"] / 3 + row["node.sram_bytes"] / 7  # to the last bit
        assert type(row["cycles"]) is int
    assert meta["title"] == "Small"
    assert meta["toml"] == SMALL
    assert meta["digest"] == space.digest()
    assert [(axis["name"], axis["values"]) for axis in meta["axes"]] == [
        ("problem.k", [16, 32, 48, 64]), ("node.sram_bytes", [16384, 65536, 131072, 262144]),
    ]  # fmt: skip
    assert meta["package_version"] == accel.__version__
    assert meta["host"] == "here"
    assert meta["finished"] >= meta["started"]


def test_the_file_is_plain_sql(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    swept(path)
    with sqlite3.connect(path) as connection:
        asked = 'SELECT "problem.k", "node.sram_bytes", cycles FROM points WHERE "problem.k" = 48 ORDER BY "index"'
        assert connection.execute(asked).fetchall()[0] == (48, 16384, 48 * 1000 + 16384)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.db"]  # no journal and no lock is left


def test_values_of_every_kind_come_back(tmp_path: Path) -> None:
    text = SMALL.replace(
        '"problem.k" = [16, 32, 48, 64]', '"problem.trans_b" = [true, false]\n"kernel.resident" = [[], ["a"]]'
    )
    text = text.replace("n = 16", "n = 16\nk = 16")
    space = Space.from_toml(text)
    path = tmp_path / "s.db"
    swept(path, space)
    with Store.open(path) as store:
        for row in store.rows():
            values = space.values(row["index"])
            assert {name: row[name] for name in values} == values
            assert type(row["problem.trans_b"]) is bool


def test_nothing_is_timed_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    result, asked = swept(path, limit=5)
    assert (len(asked), result.how, result.timed) == (5, "limited", 5)
    result, more = swept(path)
    assert (len(more), result.how, result.counts) == (POINTS - 5, "finished", {"ok": POINTS})
    assert not [job for job in more if job in asked]
    assert swept(path)[1] == []
    with Store.open(path) as store:
        assert [run["how"] for run in store.meta()["runs"]] == ["limited", "finished", "finished"]


def test_a_second_sweep_on_one_store_is_refused(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "s.db"
    with Writer.begin(path, space):
        with pytest.raises(
            InputError, match=r"because this process is sweeping into it; wait for its end, stop it, or"
        ):
            swept(path)
        script = f"import accel; accel.sweep({SMALL!r} and __import__('tomllib').loads({SMALL!r}), store={str(path)!r})"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert f"because process {os.getpid()} on " in done.stderr
    assert swept(path)[0].how == "finished"


def test_the_lock_of_a_dead_process_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    script = (
        "import os, signal, sys; from pathlib import Path; from accel.sweep.locking import WriterLock;"
        f"WriterLock(Path({str(path)!r})); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "s.db.lock").read_text())["pid"] > 0
    assert swept(path)[0].how == "finished"


def test_a_reader_sees_a_sweep_that_runs(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "s.db"
    with Writer.begin(path, space) as writer:
        writer.start_run({})
        writer.put([{"index": 3, "status": "ok", "key": "k", **space.values(3), "cycles": 7}])
        with Store.open(path) as store:
            assert [row["cycles"] for row in store.rows()] == [7]
            writer.put([{"index": 4, "status": "ok", "key": "l", **space.values(4), "cycles": 8}])
            assert [row["cycles"] for row in store.rows()] == [7, 8]


def test_an_extended_space_takes_over_what_it_shares(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    swept(path)
    more = SMALL.replace("[16, 32, 48, 64]", "[8, 16, 32, 64]")
    result, asked = swept(path, Space.from_toml(more))
    assert [job["problems"][0][2]["k"] for job in asked] == [8] * 4
    assert result.notice == "the space has changed since: 16 rows are kept, and used where points are the same"
    assert result.counts == {"ok": 16}
    assert all(row["seconds"] == row["problem.k"] / 3 + row["node.sram_bytes"] / 7 for row in result.rows)
    back, asked = swept(path)
    assert asked == []  # the rows of the first space were kept
    assert back.counts == {"ok": 16}


def test_changed_sources_time_everything_anew_and_keep_the_old_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.db"
    swept(path)
    for module in ("accel.sweep.writer", "accel.sweep.point"):
        monkeypatch.setattr(f"{module}.source_digest", lambda: "other")
    result, asked = swept(path)
    assert len(asked) == POINTS
    assert result.notice.startswith("accel has changed since: 16 rows are kept apart")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM earlier").fetchone() == (16,)
        assert connection.execute("SELECT count(DISTINCT run) FROM points").fetchone() == (1,)
    connection.close()


def test_other_axes_are_refused_and_fresh_moves_the_old_ones_aside(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    swept(path)
    other = Space.from_toml(SMALL.replace('"problem.k"', '"problem.m"').replace("m = 16", "k = 16"))
    with pytest.raises(
        InputError, match=r"holds a sweep over problem\.k, node\.sram_bytes and this one is over problem\.m"
    ):
        swept(path, other)
    assert len(accel.load_sweep(path)) == POINTS
    assert [file.name for file in tmp_path.iterdir()] == ["s.db"]
    result, asked = swept(path, other, fresh=True)
    assert len(asked) == POINTS
    aside = next(p for p in tmp_path.iterdir() if p.name != "s.db")
    assert result.notice == f"what was in s.db is now in {aside.name}"
    with Store.open(aside) as store:
        assert store.counts() == {"ok": POINTS}


def make(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def damage(path: Path) -> None:
    swept(path)
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = bytes(len(content) - 4096)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    swept(path)
    path.write_bytes(path.read_bytes()[:6000])


def of_schema(number: int) -> Any:
    def change(path: Path) -> None:
        swept(path)
        make(path, f"PRAGMA user_version = {number}")

    return change


BAD = {
    "text": (lambda p: p.write_text("index,key\n0,1\n" * 100), "it is damaged or no sweep store"),
    "foreign": (lambda p: make(p, "CREATE TABLE t (a)"), "it is a database of something else; give another file"),
    "damaged": (damage, "it is damaged or no sweep store"),
    "truncated": (truncate, "it is damaged or no sweep store"),
    "newer": (of_schema(database.SCHEMA + 1), "was written by a newer accel .*upgrade accel"),
    "older": (of_schema(database.SCHEMA - 1), "was written by an older accel .*sweep into another file"),
    "no tables": (lambda p: (swept(p), make(p, "DROP TABLE points")), "it is damaged or no sweep store"),
    "folder": (lambda p: p.mkdir(), "it is a folder; give a file in it"),
}


def opened(path: Path, mode: str) -> list[dict[str, Any]]:
    with Store.open(path, mode) as store:
        return store.rows()


@pytest.mark.parametrize("mode", ["r", "rw", "sweep"])
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_store_gets_one_clear_answer_and_is_left_alone(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / "s.db"
    spoil, message = BAD[name]
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(InputError, match=message):
        swept(path) if mode == "sweep" else opened(path, mode)
    assert before == (path.read_bytes() if path.is_file() else b"")
    assert not (tmp_path / "s.db.lock").exists()


def test_no_store_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file; run accel sweep first"):
        Store.open(tmp_path / "s.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(InputError, match="no sweep has begun in it; run accel sweep first"):
        Store.open(tmp_path / "empty.db")
    with pytest.raises(InputError, match=r"there is no folder .*; make it first"):
        swept(tmp_path / "there" / "s.db")
    with pytest.raises(InputError, match="in mode 'w'; use 'r' or 'rw'"):
        Store.open(tmp_path / "empty.db", "w")
    assert swept(tmp_path / "empty.db")[0].how == "finished"  # as a kill right at the start leaves it


def test_a_store_that_another_program_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.db"
    swept(path, limit=3)
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(InputError, match=r"another program has kept it locked for .*; close that program"):
            swept(path)
    finally:
        other.close()
    assert swept(path)[0].counts == {"ok": POINTS}


def test_a_full_disk_keeps_what_was_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.db"
    big = Space.from_toml(SMALL.replace("[16, 32, 48, 64]", "{from = 16, to = 6400, step = 16}"))
    swept(path, big, limit=20)
    begin = Writer.begin.__func__  # type: ignore[attr-defined]

    def limited(cls: type[Writer], *args: Any, **options: Any) -> Writer:
        writer: Writer = begin(cls, *args, **options)
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count = {pages + 8}")
        return writer

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "begin", classmethod(limited))
        with pytest.raises(InputError, match="the disk is full; what was committed is kept: free some space"):
            swept(path, big)
    with Store.open(path) as store:
        kept = store.rows()
    assert 20 <= len(kept) < len(big)
    result, asked = swept(path, big)
    assert len(asked) == len(big) - len(kept)
    assert result.counts == {"ok": len(big)}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_store_that_may_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    swept(path, limit=3)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with Store.open(path) as store:  # reading needs no journal beside a finished store
            assert len(store.rows()) == 3
        with pytest.raises(InputError, match=r"use a folder that you may write to|may not be written"):
            swept(path)
    finally:
        tmp_path.chmod(0o755)


def test_a_store_that_vanishes_while_it_is_written(tmp_path: Path, space: Space) -> None:
    path = tmp_path / "s.db"
    with Writer.begin(path, space) as writer:
        writer.start_run({})
        path.rename(tmp_path / "moved.db")
        with pytest.raises(InputError, match="it was moved or deleted while the sweep ran; put it back"):
            writer.put([{"index": 3, "status": "ok", "key": "k", **space.values(3)}])


def test_a_hundred_thousand_illegal_points_are_stored_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("[16, 32, 48, 64]", "{from = 1, to = 25000, step = 1}")
    space = Space.from_toml(text + '[constraints]\nnever = "problem.k > 99999"\n')
    begun = time.process_time()
    result, asked = swept(tmp_path / "s.db", space)
    assert asked == []
    assert result.counts == {"illegal": 100_000}
    assert time.process_time() - begun < 60.0  # it takes two seconds; a point at a time takes minutes
    with Store.open(tmp_path / "s.db") as store:
        row = store.row(99_999)
    assert row["reason"] == "never: 'problem.k > 99999' does not hold"
    assert row["problem.k"] == 25000
    assert all(row[name] is None for name in FIGURES)
