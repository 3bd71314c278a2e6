"""What a careless or hostile user hands in: paths, arrays, arguments, constructor keywords; each one clear error."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accel
from accel.baselines.measured import read_rows
from accel.cli.app import main
from accel.errors import AccelError, InputError, SpecError, TraceError
from accel.files import read_whole, write_whole
from accel.hardware.parts import NocSpec
from accel.lang.views import View
from accel.numerics import as_storage


@accel.kernel
def twice(k: accel.K, x: View, y: View) -> None:
    b, here, gone = k.sram((4,), "bf16", "b"), k.sem(name="here"), k.sem(name="gone")
    seen.append(k)
    k.copy(b, x, done=here)
    k.wait(here)
    k.vec.add(b, b, b)
    k.copy(y, b, sent=gone)
    k.wait(gone)


seen: list[accel.K] = []


def build(**more: object) -> accel.Program:
    arguments: dict[str, object] = {"x": accel.tensor(4), "y": accel.tensor(4), "mesh": (1, 1)}
    return twice.build("mini", **(arguments | more))  # type: ignore[arg-type]


# --- files ---------------------------------------------------------------------------------------------------------


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_whole(target, b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_written_file_has_the_rights_that_open_gives(tmp_path: Path) -> None:
    write_whole(tmp_path / "ours", b"")
    (tmp_path / "theirs").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_a_pipe_takes_the_bytes_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("bad", [None, 5, "a\0b", "no/such/folder/file", "."])
def test_what_cannot_be_written_or_read_is_named(bad: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot write note "):
        write_whole(bad, b"x", "note")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot read note "):
        read_whole(bad, 10, "note")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SpecError, match="is over 16,777,216 bytes"):
        accel.chip(tmp_path / "huge.toml")
    with pytest.raises(InputError, match="is over 4,294,967,296 bytes"):
        accel.load(tmp_path / "huge.toml")
    with pytest.raises(InputError, match="is over 1,073,741,824 bytes"):
        read_rows(tmp_path / "huge.toml")


def test_an_endless_file_is_read_up_to_the_limit() -> None:
    with pytest.raises(InputError, match="is over 1,000 bytes"):
        read_whole("/dev/zero", 1000)


# --- arrays --------------------------------------------------------------------------------------------------------


def test_masked_elements_have_no_value() -> None:
    plain = np.arange(4.0)
    with pytest.raises(InputError, match="masked"):
        as_storage(np.ma.masked_greater(plain, 2), "fp32")
    assert (as_storage(np.ma.array(plain), "fp32") == plain).all()


def test_an_object_that_refuses_to_become_an_array() -> None:
    class Refuses:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise RuntimeError("no")

    with pytest.raises(InputError, match="cannot make an array"):
        as_storage(Refuses(), "fp32")


def test_an_array_that_does_not_fit_is_named() -> None:
    for array, match in (([1, 2, 3, "a"], "input 'x': array of dtype"), (np.ones(4) * 1j, "input 'x': array of dtype")):
        with pytest.raises(InputError, match=match):
            build().run(x=array)


def test_a_program_without_probes_says_how_to_get_one() -> None:
    with pytest.raises(InputError, match=r"no probe 'b'; twice has none; write k\.probe\(view, name\)"):
        build().run(x=np.ones(4), probes=["b"])


# --- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"resident": 5}, "resident is a list of tensor names, got 5"),
        ({"resident": [3]}, "resident names 3"),
        ({"flops": "x"}, "flops must be"),
        ({"flops": -1}, "flops must be"),
        ({"facts": 5}, "facts must be"),
        ({"facts": {"a": 5}}, "facts must be"),
        ({"mesh": "ab"}, "mesh is"),
    ],
)
def test_arguments_of_build(more: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        build(**more)


def test_a_chip_that_is_none() -> None:
    with pytest.raises(InputError, match="cannot be built for None"):
        twice.build(None, x=accel.tensor(4), y=accel.tensor(4))  # type: ignore[arg-type]


CALLS: dict[str, Callable[[accel.Program], object]] = {
    "no role 'x'": lambda p: p.asm("x"),  # type: ignore[arg-type]
    "no role True": lambda p: p.asm(True),
    "packet_bytes=\\[\\]": lambda p: p.time(packet_bytes=[]),  # type: ignore[arg-type]
    "fidelity \\[\\]": lambda p: p.time([]),  # type: ignore[arg-type]
    "inputs must be a dict": lambda p: p.run([1]),  # type: ignore[arg-type]
    "no input 5": lambda p: p.run({5: 1}),  # type: ignore[dict-item]
    "seed of a sample": lambda p: p.sample_outputs(1, seed=-1),
    "a sample takes 1 to 65,536 blocks": lambda p: p.sample_outputs(0),
    "cannot write program file to None": lambda p: p.save(None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("match", CALLS)
def test_arguments_of_a_program(match: str) -> None:
    with pytest.raises(InputError, match=match):
        CALLS[match](build())


def test_a_node_value_asked_after_the_kernel_is_traced() -> None:
    build(mesh=(2, 2))
    with pytest.raises(TraceError, match="already traced"):
        bool(seen[-1].row == 1)
    with pytest.raises(TraceError, match="already traced"):
        int(seen[-1].row)


def test_a_kernel_that_ends_the_process_does_not() -> None:
    @accel.kernel
    def leaves(k: accel.K, x: accel.K) -> None:
        raise SystemExit(3)

    with pytest.raises(TraceError, match="SystemExit while tracing: 3"):
        leaves.build("mini", x=accel.tensor(4))


def test_a_message_of_many_lines_becomes_one() -> None:
    @accel.kernel
    def complains(k: accel.K, x: accel.K) -> None:
        raise ValueError("one\n  two")

    with pytest.raises(TraceError) as caught:
        complains.build("mini", x=accel.tensor(4))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("ValueError while tracing: one two")


def test_a_kernel_without_arguments_is_found_by_its_line() -> None:
    with pytest.raises(AccelError) as caught:

        @accel.kernel
        def empty() -> None: ...

    assert caught.value.at is not None
    assert caught.value.at.file == __file__


# --- constructors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: NocSpec(foo=1), r"unknown key 'noc\.foo'"),  # type: ignore[call-arg]
        (lambda: NocSpec(hop_cycle=1), "did you mean 'hop_cycles'"),  # type: ignore[call-arg]
        (NocSpec, r"missing key 'noc\.buffer_packets'"),
        (lambda: NocSpec(1), "NocSpec takes its fields by name"),  # type: ignore[call-arg]
        (lambda: accel.chip("mini").sized_for(5), "cannot be sized for 5"),  # type: ignore[arg-type]
        (lambda: accel.FrameFormat(widht=3), "did you mean 'width'"),  # type: ignore[call-arg]
    ],
)
def test_constructors_say_what_a_file_would_be_told(make: Callable[[], object], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        make()


def test_a_number_longer_than_python_reads() -> None:
    with pytest.raises(SpecError, match="is not valid TOML"):
        accel.ChipSpec.from_toml(f"clock_hz = {'9' * 5000}")


# --- the command line ----------------------------------------------------------------------------------------------


def accel_check(folder: Path, body: str, **options: Any) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(f"import accel\n\n@accel.kernel\ndef f(k, x):\n    {body}\n")
    command = [sys.executable, "-m", "accel", "check", "mine.py:f", "--arg", "x=bf16[4]", "--chip", "mini"]
    return subprocess.run(command, cwd=folder, text=True, check=False, **options)


def test_a_full_sram_prints_its_map_below_the_error(tmp_path: Path) -> None:
    body = "k.sram((64, 64), 'bf16', 'A'); k.sram((1024, 1024), 'fp32', 'C')"
    done = accel_check(tmp_path, body, capture_output=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[0].startswith("accel: error: mine.py:5: SRAM overflow: 'C'")
    assert lines[1].split() == ["offset", "bytes", "buffer"]
    assert lines[2].split()[:3] == ["0", "8192", "A:"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is always full")
def test_the_exit_code_stands_when_stderr_is_full(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert accel_check(tmp_path, "k.nothing()", stdout=full, stderr=full).returncode == 2


@pytest.mark.parametrize("names", [",", "a100-sxm-80gb,,t4", ",t4"])
def test_a_list_with_an_empty_place(names: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "matmul", "--shape", "8x8x8", "--chip", "mini", "--vs", names]) == 2
    assert "has an empty place" in capsys.readouterr().err


def test_ctrl_c_that_a_library_turns_into_an_error_is_still_ctrl_c(tmp_path: Path) -> None:
    body = "import os, signal\n    try:\n        os.kill(os.getpid(), signal.SIGINT); signal.pause()\n"
    body += "    except KeyboardInterrupt:\n        raise accel.errors.InternalError('the compiler lost its thread')"
    done = accel_check(tmp_path, body, capture_output=True)
    assert (done.returncode, done.stderr) == (130, "")
