"""Hostile surroundings: signals, closed streams, odd encodings, terminals and folders, a cache that others pull at."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from accel.compile_cache import Store
from accel.kernels import matmul

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, limits and terminals")
TINY = ["matmul", "--shape", "8x8x8", "--chip", "mini"]
WAY, ABSENT = "give a file in a folder that you may write to", "No such file or directory"
NOTICE = "accel: compiling the engines (once; kept for later runs)\n"


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "accel", *args]


def surroundings(**more: str | None) -> dict[str, str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path)), "COLUMNS": "200"} | more
    return {name: value for name, value in env.items() if value is not None}


def run(*args: str, env: dict[str, str | None] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args), env=surroundings(**(env or {})), capture_output=True, text=True, check=False, timeout=900,
        **options,
    )  # fmt: skip


def nobody_left(group: int) -> bool:
    """Return whether every process of a group has ended, after a moment for those that end with their parent."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


# --- signals -------------------------------------------------------------------------------------------------------

# The named engine works for ever from here on, and says on stderr that it has begun.
ENDLESS = """
import importlib, sys
name, attribute = sys.argv.pop(1).rsplit(".", 1)
module = importlib.import_module(name)
real = getattr(module, attribute)
def endless(*args, **options):
    real(*args, **options)
    print("begun", file=sys.stderr, flush=True)
    while True:
        real(*args, **options)
setattr(module, attribute, endless)
from accel.cli import main
sys.exit(main())
"""
LONG = ["matmul", "--shape", "128x128x128", "--chip", "mini"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("engine", "verb"),
    [("accel.machine.execute", "run"), ("accel.timing.simulate", "bench"), ("accel.check.inspect", "check"),
     ("accel.timing.simulate", "report")],
)  # fmt: skip
def test_a_signal_in_the_middle_ends_it(engine: str, verb: str, ending: signal.Signals, tmp_path: Path) -> None:
    line = [sys.executable, "-c", ENDLESS, engine, verb, *LONG]
    with subprocess.Popen(
        line, env=surroundings(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stdout is not None
        assert any(said == "begun\n" for said in process.stderr)
        process.send_signal(ending)
        assert process.wait(60) == 128 + ending
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
    assert nobody_left(process.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_compiles_ends_every_process(ending: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("warm"), env=surroundings(ACCEL_CACHE_DIR=str(tmp_path)), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline() == NOTICE
        process.send_signal(ending)
        assert process.wait(60) == 128 + ending
        assert "Traceback" not in process.stderr.read()
    assert nobody_left(process.pid)


@pytest.mark.slow
def test_a_killed_warm_and_two_at_once_leave_a_whole_cache(tmp_path: Path) -> None:
    env = surroundings(ACCEL_CACHE_DIR=str(tmp_path))
    with subprocess.Popen(command("warm"), env=env, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while not list(tmp_path.glob("*/*.bin")):
            assert process.poll() is None, "nothing was kept before the end"
            time.sleep(0.02)
        process.kill()
        process.wait()
    assert nobody_left(process.pid), "a process that compiles outlives its parent"
    kept = {path: path.read_bytes() for path in tmp_path.glob("*/*.bin")}
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *command("warm", "--json", "-")]  # with stdin closed, besides
    both = [subprocess.Popen(shell, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=1800)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(path.read_bytes() == content for path, content in kept.items()), "what was whole was made again"
    third = json.loads(run("warm", "--json", "-", env={"ACCEL_CACHE_DIR": str(tmp_path)}).stdout)
    assert third["compiled"] == 0
    assert third["loaded"] > 0
    assert third["cache"]["entries"] == len(list(tmp_path.glob("*/*.bin")))
    assert {answer["cache"]["folder"] for answer in said} == {third["cache"]["folder"]}


# --- full disks ----------------------------------------------------------------------------------------------------


def small_files(limit: int) -> Any:
    """Return what makes a child's files end at `limit` bytes: a write beyond fails, as on a full disk."""

    def restrict() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return restrict


@pytest.mark.parametrize(
    ("args", "what"),
    [(["asm", "p.asm", "-o", "out"], "program file"), (["disasm", "p.acc", "-o", "out"], "assembly file"),
     (["chips", "--json", "out"], "result file")],
)  # fmt: skip
def test_a_full_disk_leaves_the_file_that_was_there(args: list[str], what: str, tmp_path: Path) -> None:
    program = matmul.build("mini", m=8, n=8, k=8)
    program.save(tmp_path / "p.acc")
    (tmp_path / "p.asm").write_text(program.asm())
    (tmp_path / "out").write_text("before")
    done = run(*args, cwd=tmp_path, preexec_fn=small_files(64))
    assert done.returncode == 2
    assert done.stderr == f"accel: error: cannot write {what} 'out': File too large; {WAY}\n"
    assert (tmp_path / "out").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"p.acc", "p.asm", "out"}


def test_a_cache_on_a_full_disk_keeps_what_it_has_and_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path, "key")
    folder = store.folder
    store.write("whole", b"x" * 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
        store.write("cut", b"y" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "(File too large): compiling for this process only; set ACCEL_CACHE_DIR" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "whole.bin"]
    again = Store(tmp_path, "key")
    assert (again.read("whole"), again.read("cut")) == (b"x" * 100, None)


# --- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", [None, "/proc/no home"])
def test_without_a_home_what_needs_no_cache_works(home: str | None, tmp_path: Path) -> None:
    env = {"HOME": home, "ACCEL_CACHE_DIR": None, "XDG_CACHE_HOME": None}
    done = run("chips", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mini" in done.stdout


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root may not write to")
def test_a_home_that_cannot_be_written_gets_one_notice() -> None:
    script = "from accel.jit import cache_info; i = cache_info(); print(i.writable, i.folder)"
    env = surroundings(HOME="/proc/no home", ACCEL_CACHE_DIR=None, XDG_CACHE_HOME=None)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    writable, folder = done.stdout.split()
    assert writable == "False"
    assert not Path(folder).exists(), "the folder of one process ends with it"
    assert done.stderr.startswith("accel: cannot keep compiled code in /proc/no home/.cache/accel/jit-")
    assert done.stderr.endswith("set ACCEL_CACHE_DIR to a writable folder to keep it\n")
    assert done.stderr.count("\n") == 1


def test_a_cache_in_nobodys_home() -> None:
    done = run("run", *TINY, env={"ACCEL_CACHE_DIR": "~nobody-here/x"})
    rule = "nobody has that home; use a folder that you may write to"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"accel: error: Cannot use ACCEL_CACHE_DIR='~nobody-here/x': {rule}\n"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["chips"], 0, ""),
        (["asm", "x.asm"], 2, f"cannot read assembly file 'x.asm': {ABSENT}; give a file that you may read"),
        (["chips", "--json", "x.json"], 2, f"cannot write result file 'x.json': {ABSENT}; {WAY}"),
    ],
)  # fmt: skip
def test_a_current_folder_that_is_gone(args: list[str], code: int, says: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *command(*args)]
    done = subprocess.run(shell, cwd=gone, env=surroundings(), capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr == (f"accel: error: {says}\n" if says else "")


def test_what_asks_for_a_current_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import accel.hardware
    from accel.cli import main

    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(accel.hardware, "names", os.getcwd)
    assert main(["chips"]) == 2
    assert capsys.readouterr().err == "accel: error: the current folder is gone; change to one that is there\n"


def test_a_path_of_spaces_and_letters_from_everywhere(tmp_path: Path) -> None:
    folder = tmp_path / "Ärger mit 矩阵"
    folder.mkdir()
    program = matmul.build("mini", m=8, n=8, k=8)
    program.save(folder / "das Programm.acc")
    for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}):
        done = run("disasm", "das Programm.acc", "-o", "der Text.asm", cwd=folder, env=locale)
        assert (done.returncode, done.stderr) == (0, "")
        done = run("asm", str(folder / "der Text.asm"), "-o", str(folder / "noch eins.acc"), env=locale)
        assert (done.returncode, done.stderr) == (0, "")
        assert (folder / "noch eins.acc").read_bytes() == (folder / "das Programm.acc").read_bytes()


# --- streams -------------------------------------------------------------------------------------------------------

ASCII = [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]


@pytest.mark.parametrize("env", ASCII, ids=["C locale", "PYTHONIOENCODING"])
def test_an_encoding_without_our_characters(env: dict[str, str | None]) -> None:
    args = ["bench", *TINY, "--fidelity", "bound", "--vs", "t4"]
    plain, full = run(*args, env=env), run(*args, env={"PYTHONUTF8": "1"})
    assert plain.returncode == full.returncode == 0
    assert plain.stdout.isascii()
    assert not full.stdout.isascii()
    assert "####" in plain.stdout
    assert "\\u25" not in plain.stdout
    figures = [[word for word in text.split() if word[0].isdigit()] for text in (plain.stdout, full.stdout)]
    assert figures[0] == figures[1]
    wrong = run("chips", "矩阵", env=env)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("accel: error: unknown chip '")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    for args, code in ((("chips",), 0), (("chips", "d2"), 2)):
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(*args)]
        done = subprocess.run(shell, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def on_a_terminal(*args: str, **env: str | None) -> tuple[int, str]:
    """Return the exit code and what a command writes to a pseudo-terminal of 40 columns."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    line = ["sh", "-c", 'stty cols 40 rows 20; exec "$@"', "sh", *command(*args)]
    with subprocess.Popen(
        line, stdin=follower, stdout=follower, stderr=follower, env=surroundings(COLUMNS=None, **env)
    ) as child:
        os.close(follower)
        text = b""
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # Linux says so when the last writer has closed its side
                break
            if not chunk:
                break
            text += chunk
        os.close(leader)
    return child.returncode, text.decode()


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": "dumb", "NO_COLOR": "1"}], ids=str)
def test_a_terminal_that_knows_no_sequences_gets_none(env: dict[str, str | None]) -> None:
    code, text = on_a_terminal("gpus", **env)
    assert code == 0
    assert "\x1b" not in text
    assert "t4" in text


def test_a_terminal_of_40_columns_is_left_as_it_was() -> None:
    code, text = on_a_terminal("bench", *TINY, TERM="xterm-256color")
    assert code == 0
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor stays hidden"
    assert "utilization" in text
    assert text.endswith("\n")
