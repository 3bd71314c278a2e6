"""`accel sweep`: from a file to rows, stopped by signals and taken up again, one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest
from sweep_cases import POINTS, SMALL

from accel.cli import main
from accel.cli.sweeping import progress_text, watch
from accel.kernels import matmul
from accel.sweep import Progress, Space, Store

MANY = SMALL.replace("[16, 32, 48, 64]", "{from = 16, to = 16000, step = 16}")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_a_file_becomes_rows(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "small.toml", "--workers", "1", "--limit", "3"]) == 0
    out = capsys.readouterr().out
    assert "Small: 16 points: 3 ok" in out
    assert "points are left: the same command goes on with them" in out
    assert "rows: small.db" in out
    assert main(["sweep", "small.toml", "--workers", "2", "--export", "rows.csv", "--json"]) == 0
    seen = capsys.readouterr()
    data = json.loads(seen.out)
    assert (data["points"], data["counts"], data["timed"], data["ended"]) == (
        POINTS,
        {"ok": POINTS},
        POINTS - 3,
        "finished",
    )
    assert data["best"]["seconds"] > 0
    assert re.search(r"accel: 3/16 points, .*best .* at problem\.k=\d+, node\.sram_bytes=\d+, 0 s so far", seen.err)
    assert len((file.parent / "rows.csv").read_text().splitlines()) == POINTS + 1
    with Store.open("small.db") as store:
        assert store.counts() == {"ok": POINTS}


def test_a_dry_run_times_samples_and_writes_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matmul.build("mini", m=8, n=8, k=8).time()  # on an empty cache there is no estimate
    assert main(["sweep", "small.toml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "Small: 16 points over problem.k (4) x node.sram_bytes (4)" in out
    assert re.search(r"about .* workers: an estimate from 3 of the points, timed just now", out)
    assert main(["sweep", "small.toml", "--dry-run", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["points"], data["to_time"], len(data["first"]), len(data["sampled"])) == (POINTS, POINTS, 8, 3)
    assert [path.name for path in file.parent.iterdir()] == ["small.toml"]


MISTAKES = [
    (["nowhere.toml"], "cannot read sweep file 'nowhere.toml'"),
    (["small.toml", "--workers", "0"], "Cannot time on workers=0: use an integer from 1 to"),
    (["small.toml", "--limit", "-1"], "limit must be a whole number of at least 1"),
    (["small.toml", "--again", "late"], "Cannot time points of status 'late' again"),
    (["small.toml", "--export", "rows.xls"], "use .csv or .parquet"),
    (["small.toml", "--store", "."], "it is a folder; give a file in it"),
    (["small.toml", "--store", "there/is/none.db"], "there is no folder 'there/is'; make it first"),
    (["small.toml", "--store", "small.toml"], "it is damaged or no sweep store"),
    (["small.toml", "--dryrun"], "did you mean '--dry-run'?"),
    ([], "missing argument"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda value: value if isinstance(value, str) else None)
def test_a_mistake_is_one_line(words: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert message in seen.err
    assert len(seen.err.splitlines()) == 1
    assert file.read_text() == SMALL


def test_a_broken_point_is_said_by_the_exit_code(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from accel import batch

    child = (
        "import sys; sys.path[:] = {path!r}; from accel.sweep import evaluate, serving;"
        "evaluate._figures = lambda job: 1 / 0; serving.warm_up = lambda kinds: None; serving.serve()"
    )
    monkeypatch.setattr(batch, "_CHILD", child)
    assert main(["sweep", "small.toml", "--workers", "1"]) == 1
    assert "16 failed" in capsys.readouterr().out
    with Store.open("small.db") as store:
        assert {row["reason"] for row in store.rows("failed")} == {"ZeroDivisionError: division by zero"}


def rows_in(path: Path) -> int:
    try:
        with Store.open(path) as store:
            return sum(store.counts().values())
    except Exception:  # noqa: BLE001 - it has not begun
        return 0


def started(folder: Path, **options: Any) -> subprocess.Popen[str]:
    (folder / "many.toml").write_text(MANY)
    return subprocess.Popen(
        [sys.executable, "-m", "accel", "sweep", "many.toml", "--fresh", "--workers", "1"],
        cwd=folder, text=True, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def wait_for_rows(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120.0
    while rows_in(path) < 3:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_once_and_says_how_to_go_on(number: int, code: int, tmp_path: Path) -> None:
    process = started(tmp_path)
    wait_for_rows(tmp_path / "many.db", process)
    before = rows_in(tmp_path / "many.db")
    process.send_signal(number)
    _, error = process.communicate(timeout=60.0)
    assert process.returncode == code
    assert error.endswith(
        "accel: stopped; the rows so far are in many.db; go on with: accel sweep many.toml --workers 1\n"
    )
    assert "Traceback" not in error
    with Store.open(tmp_path / "many.db") as store:
        assert sum(store.counts().values()) >= before
        assert store.meta()["runs"][-1]["how"] == "interrupted"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="children of a process are looked up in /proc")  # noqa: PTH112 - a folder of the kernel
def test_a_kill_leaves_no_worker_behind(tmp_path: Path) -> None:
    process = started(tmp_path)
    wait_for_rows(tmp_path / "many.db", process)
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    assert len(children) == 1
    process.kill()
    process.communicate(timeout=60.0)
    until = time.monotonic() + 30.0
    while Path(f"/proc/{children[0]}").exists() and _state(children[0]) != "Z":
        assert time.monotonic() < until, "the worker outlives the sweep"
        time.sleep(0.05)


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_the_live_line_of_a_terminal(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
    (tmp_path / "small.toml").write_text(SMALL)
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "accel", "sweep", "small.toml"], cwd=tmp_path, stderr=follower, stdout=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "150"},
    )  # fmt: skip
    os.close(follower)
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        shown = _all_of(terminal)
    out, _ = process.communicate(timeout=120.0)
    assert process.returncode == 0
    assert re.search(r"\[[#.]{24}\] \d+/16 points", shown)
    assert shown.endswith("\x1b[2K")  # the line is gone before the result
    assert b"Small: 16 points: 16 ok" in out


def _all_of(terminal: IO[bytes]) -> str:
    parts = []
    while True:
        try:
            part = terminal.read(4096)
        except OSError:  # Linux says so that the other side is closed
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


def test_what_the_line_says(capsys: pytest.CaptureFixture[str]) -> None:
    space = Space.from_toml("objective = '-utilization'\n" + SMALL)
    best = {"utilization": 0.5, "problem.k": 16, "node.sram_bytes": 65536, "index": 1}
    state = Progress(4000, 1000, 600, 400, 20.0, "-utilization", best)
    assert progress_text(state, space) == (
        "1,000/4,000 points, 20 points/s, about 2.5 min more, "
        "best utilization 50.0 % at problem.k=16, node.sram_bytes=65536"
    )
    with watch(space) as progress:
        progress(state)
        progress(state)  # ten seconds have not gone by
        progress(Progress(4000, doing="compiling the engines (once)"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"accel: {progress_text(state, space)}, 0 s so far",
        "accel: compiling the engines (once; kept for later runs)",
    ]
