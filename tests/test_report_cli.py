"""accel report from a shell: files, answers, refusals, and what is left when it is ended in the middle."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from accel.cli import main
from accel.errors import InputError
from accel.files import write_folder

MATMUL = ("report", "matmul", "--shape", "64x64x64", "--chip", "mini")
STILL = """
import accel

@accel.kernel
def still(k):
    tile = k.sram((4, 16), "fp32", "tile")

    @k.thread
    def main():
        k.vec.fill(tile, 1.0)
"""


def test_a_library_kernel_becomes_files_and_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "all"
    args = (*MATMUL, "--vs", "a100-sxm-80gb", "--format", "html,md,csv", "-o", str(folder), "--json", "-")
    assert main(args) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sorted(answer["files"]) == sorted(str(file.resolve()) for file in folder.iterdir())
    assert {"report.html", "report.md", "gpus.csv", "nodes.csv"} <= {file.name for file in folder.iterdir()}
    tables = answer["tables"]
    assert sum(row["share"] for row in tables["ledger"]) == pytest.approx(1.0)
    assert [row["machine"] for row in tables["gpus"]] == ["mini", "a100-sxm-80gb"]


def test_a_kernel_of_ones_own_becomes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STILL, "utf-8")
    assert main(("report", "mine.py:still", "--chip", "mini", "--mesh", "1x1", "--title", "Still <life>")) == 0
    said = capsys.readouterr().out
    assert said.startswith(str(tmp_path / "accel-report.html"))
    assert "<h1>Still &lt;life&gt;</h1>" in Path("accel-report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--format", "html,cvs"), "no such format; did you mean 'csv'?"),
        (("--format", "csv", "-o", "x.html"), "use the name of a folder"),
        (("-o", "x.pdf"), "use a name that ends in .html or .md, or name formats among html, md, csv, png, svg"),
        (("-o", "absent/x.html"), "cannot write report"),
        (("--vs", "h200-sx"), "h200-sxm"),
    ],
)
def test_bad_input_is_one_line(
    args: tuple[str, ...],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main((*MATMUL, *args)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


# Stops where a file is half written: the temporary file is there, its bytes are not.
HALT = """
import os, signal, sys
import accel.files as files
real, folder = os.fdopen, sys.argv.pop(1)
def halting(handle, mode):
    file = real(handle, mode)
    if not any(name.startswith(".r.html.") for name in os.listdir(folder)):
        return file  # some other file
    write = file.write
    class Halting:
        def __enter__(self): return self
        def __exit__(self, *end): file.close()
        def write(self, content):
            write(content[: len(content) // 2])
            file.flush()
            os.kill(os.getpid(), {signal})
            for _ in range(100): signal.sigtimedwait([], 0.05)
    return Halting()
files.os.fdopen = halting
from accel.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_end_in_the_middle_leaves_what_was_there(name: str, code: int, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    target.write_text("before", "utf-8")
    script = HALT.replace("{signal}", f"signal.{name}")
    command = [sys.executable, "-c", script, str(tmp_path), *MATMUL, "--format", "html", "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert target.read_text("utf-8") == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["r.html"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full: the write fails in the same place."""
    command = [sys.executable, "-m", "accel", *MATMUL, "-o", str(tmp_path / "r.html")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot write report" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    assert write_folder(folder, {"a": b"1", "b": b"2"}) == (folder / "a", folder / "b")
    (folder / "mine").write_bytes(b"kept")
    write_folder(folder, {"a": b"3"})
    real = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if content == b"5":
            raise OSError(28, "No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device; give a folder"):
        write_folder(folder, {"a": b"4", "b": b"5"})
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"a": b"3", "b": b"2", "mine": b"kept"}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    with pytest.raises(InputError, match="Not a folder"):
        write_folder(folder / "a", {"x": b""})
    assert (folder.stat().st_mode & 0o777) == (0o777 & ~_mask())


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
