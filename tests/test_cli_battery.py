"""`accel check` on a kernel of the user's own file: the battery, its options, its report and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel.cli import main

HERE = Path(__file__).resolve().parent
TENSORS = ("--arg", "x=fp32[3,7]", "--arg", "y=fp32[3,7]", "--chip", "mini")

MORE = """

def twice(x):
    return 2 * x


def rude(x):
    raise KeyError(3)


def half(x):
    return 0.5


@accel.kernel
def taken(k, table, index, y):
    T, I, Y = k.sram(table.shape, "fp32", "T"), k.sram(index.shape, "int32", "I"), k.sram(y.shape, "fp32", "Y")
    done = k.sem(name="done")
    if k.row + k.col:
        return
    k.copy(T, table, done=done)
    k.copy(I, index, done=done)
    k.wait(done, 2)
    k.vec.gather(Y, T, I)
    k.copy(y, Y, sent=done)
    k.wait(done)
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = (HERE / "property_kernels.py").read_text()
    Path("mine.py").write_text(own + MORE)


def answer(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    assert main(["check", *args, "--json", "-"]) == code
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_a_right_kernel_passes_every_question(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--param", "factor=2", "--ref", "mine.py:twice", "--relations", "permute, scale_pow2(exponent=2)")
    data = answer(capsys, "mine.py:scaled", *TENSORS, *options)
    stages = {a["stage"]: a["state"] for a in data["battery"]}
    names = ["schedules", "engines", "reference", "special", "laws", "permute", "scale_pow2(exponent=2)"]
    assert stages == dict.fromkeys(names, "ok")
    assert data["clean"]


def test_a_wrong_kernel_is_shown_with_python_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "mine.py:loses_a_column", *TENSORS, "--ref", "mine.py:twice", "--domain", "int", code=1)
    assert not data["clean"]
    (wrong,) = [a for a in data["battery"] if a["state"] == "failed"]
    assert wrong["stage"] == "exact"
    assert wrong["text"].startswith("y[0, 5] is 1, the reference says 2")
    done = subprocess.run([sys.executable, "-c", wrong["reproduction"]], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("AssertionError")
    assert main(["check", "mine.py:loses_a_column", *TENSORS, "--ref", "mine.py:twice", "--domain", "int"]) == 1
    out = capsys.readouterr().out
    assert "battery of mine.py:loses_a_column: 1 of 5 FAILED" in out
    assert "  exact      FAILED: y[0, 5] is 1" in out
    assert "To see exact:" in out
    assert "    from mine import loses_a_column" in out


@pytest.mark.parametrize("bound", ["0.5", "mine.py:half", "sum_of_products(1)"])
def test_a_bound_is_kept_and_stands_in_the_python_that_fails(bound: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = (*TENSORS, "--ref", "mine.py:twice", "--bound", bound)
    right = answer(capsys, "mine.py:scaled", *options, "--param", "factor=2.0")
    assert "failed" not in [a["state"] for a in right["battery"]]
    data = answer(capsys, "mine.py:loses_a_column", *options, code=1)
    (wrong,) = [a for a in data["battery"] if a["state"] == "failed"]
    assert (wrong["stage"], "the bound is" in wrong["text"]) == ("reference", True)
    assert f"bound={bound.removeprefix('mine.py:')}" in wrong["reproduction"]
    done = subprocess.run([sys.executable, "-c", wrong["reproduction"]], capture_output=True, text=True, check=False)
    assert "PropertyError: loses_a_column: reference: " in done.stderr


def test_an_index_that_is_drawn_too_large_says_how_to_bound_it(capsys: pytest.CaptureFixture[str]) -> None:
    tensors = ("--arg", "table=fp32[5,8]", "--arg", "y=fp32[4,8]", "--chip", "mini")
    assert main(["check", "mine.py:taken", *tensors, "--arg", "index=int32[4]"]) == 2
    assert "; inputs are drawn, and --arg 'index=int32[4]<N' draws them from 0 to N - 1" in capsys.readouterr().err
    assert main(["check", "mine.py:taken", *tensors, "--arg", "index=int32[4]<5"]) == 0


def test_hazards_come_first_and_the_battery_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "mine.py:hasty", *TENSORS, code=1)["battery"] == []
    assert answer(capsys, "mine.py:loses_a_column", *TENSORS, "--no-battery")["battery"] == []


def test_without_an_oracle_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine.py:shifted", *TENSORS]) == 0
    assert "no reference: give an oracle with --ref file.py:fn" in capsys.readouterr().out


def test_a_library_kernel_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "matmul", "--shape", "9x7x5", "--chip", "mini")
    assert (data["verified"]["checked"], data["verified"]["mismatches"]) == (63, 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--ref", "mine.py:twice", "--bound", "near"), "is no bound; give a number, sum_of_products(N) or file.py:fn"),
        (("--ref", "mine.py:twice", "--bound", "-1"), "is no distance; give a number from 0 on"),
        (("--ref", "mine.py:twice", "--bound", "mine.py:no"), "has no function 'no'"),
        (("--ref", "mine.py:twice", "--bound", "1", "--domain", "int"), "--domain int compares every bit"),
        (("--bound", "1"), "there is no oracle; give --ref too"),
        (("--relations", "permut"), "no relation 'permut'; did you mean 'permute'?"),
        (("--relations", "permute("), "is no list of names; give for example"),
        (("--relations", "3"), "is no list of names; give for example"),
        (("--relations", "scale_pow2(x)"), "options are names, numbers and texts in quotes"),
        (("--relations", "scale_pow2('z')"), "no input 'z'; it has x"),
        (("--ref", "mine.py:rude"), "rude raised KeyError: 3; it gets x, in scaled"),
        (("--ref", "mine.py:twice", "--no-battery"), "--ref is for the battery, and the battery is switched off"),
    ],
)
def test_bad_options(options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine.py:scaled", *TENSORS, "--param", "factor=2", *options]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1


def test_options_of_the_battery_do_not_go_with_a_library_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "matmul", "--shape", "9x7x5", "--chip", "mini", "--relations", "permute"]) == 2
    assert "is no kernel of your own file; leave it out" in capsys.readouterr().err
