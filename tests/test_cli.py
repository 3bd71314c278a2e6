"""The verbs of the command line: what they print, the JSON they give, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel.cli import main

KERNELS = '''
"""Kernels and oracles of a user."""
import numpy as np
import accel


@accel.kernel
def relu(k, x, y, *, bm):
    tile = k.sram((bm, 32), "bf16", "tile")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")
    if k.row + k.col != 0:
        return

    @k.thread
    def work():
        for i in range(0, x.shape[0], bm):
            k.copy(tile, x[i:i + bm], done=loaded)
            k.wait(loaded)
            k.vec.relu(tile, tile)
            k.copy(y[i:i + bm], tile, sent=stored)
            k.wait(stored)


@accel.kernel
def hasty(k, x, y):
    tile = k.sram(x.shape, "bf16", "tile")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")
    if k.row + k.col != 0:
        return

    @k.thread
    def work():
        k.copy(tile, x, done=loaded)
        k.vec.relu(tile, tile)
        k.wait(loaded)
        k.copy(y, tile, sent=stored)
        k.wait(stored)


@accel.kernel
def rows_of(k, table, ids, y):
    t, i, o = k.sram(table.shape, "bf16", "t"), k.sram(ids.shape, "int32", "i"), k.sram(y.shape, "bf16", "o")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")
    k.copy(t, table, done=loaded)
    k.copy(i, ids, done=loaded)
    k.wait(loaded, 2)
    k.vec.gather(o, t, i)
    k.copy(y, o, sent=stored)
    k.wait(stored)


def looked_up(table, ids):
    assert ids.min() >= 0
    assert ids.max() == len(table) - 1  # 40 draws of 3 rows
    return table[ids]


def oracle(x):
    values = x.astype(np.float32)
    return np.where((values > 0) | np.isnan(values), values, np.float32(0))  # -0 gives +0, as the manual says


def by_name(*, x):
    return {"y": oracle(x)}


def wrong(x):
    good = oracle(x)
    good[1, 2] += 1
    return good


def misshapen(x):
    return oracle(x)[1:]


def raises(x):
    raise ValueError("no idea")
'''
RELU = ["mine.py:relu", "--chip", "mini", "--arg", "x=bf16[64,32]", "--arg", "y=bf16[64,32]", "--param", "bm=16"]
HASTY = ["mine.py:hasty", "--chip", "mini", "--arg", "x=bf16[64,32]", "--arg", "y=bf16[64,32]"]
SMALL = ["matmul", "--shape", "64x48x32", "--chip", "mini"]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make lines long enough not to wrap, wherever the tests run (pytest-xdist sets 80 columns)."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(KERNELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> Any:
    """Run a command with --json - and return the object that it prints."""
    assert main([*command, "--json", "-"]) == code
    return json.loads(capsys.readouterr().out)


def process(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own, without a terminal."""
    env = {**os.environ, "COLUMNS": "", "PYTHONPATH": os.pathsep.join(sys.path)} | options.pop("env", {})
    line = [sys.executable, "-m", "accel", *command]
    return subprocess.run(line, text=True, capture_output=True, check=False, env=env, timeout=600, **options)


# ------------------------------------------------------------------------------------------------------ run


def test_run_verifies_every_output_of_a_small_matmul(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "verified 3,072 of 3,072 outputs, bit for bit, against the oracle of matmul" in out
    assert "cycles" in out
    assert "utilization" in out
    assert "simulated in" in out


def test_run_draws_indices_below_a_bound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["mine.py:rows_of", "--chip", "mini", "--mesh", "1x1", "--arg", "table=bf16[3,8]", "--arg", "y=bf16[40,8]"]
    bounded = ["--arg", "ids=int32[40] < 3", "--ref", "mine.py:looked_up"]
    assert answer(capsys, "run", *rows, *bounded)["verified"]["checked"] == 320
    assert answer(capsys, "run", *rows, *bounded, "--hard")["verified"]["mismatches"] == 0
    assert main(["run", *rows, "--arg", "ids=int32[40]"]) == 2
    assert "keep every index in 0 to 2" in capsys.readouterr().err


def test_run_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "run", *SMALL, "--schedules", "2", "--hard", "--seed", "3", "--out-dtype", "fp32")
    assert data["verified"] == {
        "oracle": "the oracle of matmul", "checked": 3072, "total": 3072, "mismatches": 0, "first": None,
    }  # fmt: skip
    assert data["problem"]["out_dtype"] == "fp32"
    assert data["schedules"] == {"run": 2, "different": []}
    assert data["cycles"] > 0
    assert data["seconds"] == data["cycles"] / 1e9  # mini runs at 1 GHz
    # 2 m n k flops on 16 nodes of 512 flop a cycle
    assert data["utilization"] == pytest.approx(2 * 64 * 48 * 32 / (16 * 512 * data["cycles"]))


def test_run_takes_transposes_variants_and_tilings(capsys: pytest.CaptureFixture[str]) -> None:
    turned = answer(capsys, "run", *SMALL, "--trans-a", "--trans-b", "--resident", "a,b")
    assert turned["verified"]["mismatches"] == 0
    lesson = answer(capsys, "run", *SMALL, "--variant", "one_node", "--param", "bk=16")
    assert lesson["verified"]["mismatches"] == 0
    assert lesson["cycles"] > turned["cycles"]  # one node of sixteen


def test_run_executes_a_slice_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "run", *SMALL, "--blocks", "1")
    assert data["blocks"] == 1
    assert 0 < data["verified"]["checked"] <= data["verified"]["total"] == 3072
    assert data["verified"]["mismatches"] == 0


def test_a_mismatch_is_counted_located_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from accel.kernels.parts import matmul_reference

    honest = matmul_reference.sums

    def lying(*args: Any) -> Any:
        result = honest(*args)
        result[5, 7] = 2 * result[5, 7] + 1
        return result

    monkeypatch.setattr(matmul_reference, "sums", lying)
    assert main(["run", *SMALL]) == 1
    assert "the oracle of matmul: 1 WRONG, first c[5, 7] = " in capsys.readouterr().out


def test_run_of_a_users_kernel_against_the_users_oracle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for oracle in ("oracle", "by_name"):
        data = answer(capsys, "run", *RELU, "--ref", f"mine.py:{oracle}", "--hard")
        assert data["verified"]["mismatches"] == 0
        assert data["verified"]["checked"] == 64 * 32
        assert data["problem"] is None


def test_run_of_a_users_kernel_without_an_oracle_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *RELU]) == 0
    assert "not verified: give an oracle with --ref file.py:fn" in capsys.readouterr().out


def test_a_wrong_oracle_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "run", *RELU, "--ref", "mine.py:wrong", code=1)
    assert data["verified"]["mismatches"] == 1
    assert data["verified"]["first"].startswith("y[1, 2] = ")


@pytest.mark.parametrize(
    ("oracle", "message"),
    [
        ("misshapen", "mine.py:misshapen returned shape (63, 32) for output 'y'; it must be (64, 32)"),
        ("raises", "mine.py:raises raised ValueError: no idea; it gets x"),
    ],
)
def test_an_oracle_that_fails(oracle: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *RELU, "--ref", f"mine.py:{oracle}"]) == 2
    assert capsys.readouterr().err == f"accel: error: {message}\n"


# ---------------------------------------------------------------------------------------------------- bench

ROW = {"name", "dtype", "seconds", "tflops", "utilization", "energy_j", "usd"}
CAUSES = [
    "useful", "tile_quantisation", "accumulator", "sram_port", "issue", "vector", "wait_memory", "wait_mesh",
    "wait_peer", "imbalance", "prologue", "epilogue", "unused_nodes",
]  # fmt: skip


def test_bench_prints_the_object_of_the_public_surface(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "bench", *SMALL, "--vs", "a100-sxm-80gb,h100-sxm")
    assert set(data) == {"problem", "chip", "baselines", "speedup"}
    assert set(data["chip"]) == ROW | {"cycles", "bound_seconds", "losses"}
    assert list(data["chip"]["losses"]) == CAUSES
    assert sum(data["chip"]["losses"].values()) == pytest.approx(1, abs=1e-12)
    assert [row["name"] for row in data["baselines"]] == ["a100-sxm-80gb", "h100-sxm"]
    for row in data["baselines"]:
        assert set(row) == ROW | {"source", "error_pct"}
        assert row["source"] in {"measured", "model", "uncalibrated"}
        assert (row["error_pct"] is not None) == (row["source"] == "model")
        assert data["speedup"][row["name"]] == row["seconds"] / data["chip"]["seconds"]
    assert data["problem"] == {
        "kind": "matmul", "m": 64, "n": 48, "k": 32, "dtype": "bf16", "out_dtype": "bf16", "trans_a": False,
        "trans_b": False, "batch": 0, "broadcast_b": False, "dtype_b": "", "split_k": 1, "add_bias": False,
        "activation": "none", "residual": False, "scaled": False,
    }  # fmt: skip


def test_bench_table_names_formats_sources_and_losses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *SMALL, "--vs", "v100-sxm2,t4"]) == 0
    out = capsys.readouterr().out
    assert "cycle model" in out
    assert "fp16 in place of bf16" in out
    assert "useful" in out
    assert "USD/kWh" in out
    assert "\x1b[" not in out


def test_bits_that_differ_under_a_schedule_exit_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *HASTY, "--schedules", "8"]) == 1
    assert "8 adversarial: DIFFERENT BITS under schedules" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- check


def test_check_of_a_library_kernel_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *SMALL, "--schedules", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("clean: ")
    assert "; 2 more schedules walked and run, bits equal under all\n" in out
    assert out.endswith("outputs, bit for bit, against the oracle of matmul\n")


def test_check_lists_findings_with_both_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "check", *HASTY, code=1)
    assert not data["clean"]
    race = next(finding for finding in data["findings"] if finding["kind"] == "race")
    # The copy into tile and the relu that does not wait for it.
    lines = KERNELS.splitlines()
    copy, use = (1 + next(i for i, text in enumerate(lines) if word in text and i > lines.index("def hasty(k, x, y):"))
                 for word in ("k.copy(tile, x, done", "k.vec.relu"))  # fmt: skip
    found = {race["first"].rpartition(":")[2], race["second"].rpartition(":")[2]}
    assert found == {str(copy), str(use)}
    assert race["nodes"] == [[0, 0]]
    assert main(["check", *HASTY]) == 1
    out = capsys.readouterr().out
    assert "1. race: two accesses to the same bytes" in out
    assert f"mine.py:{use}" in out
    assert f"| {lines[use - 1].strip()}" in out
    assert race["sides"][1]["text"] == lines[use - 1].strip()
    assert race["fix"].startswith("k.wait(")
    assert f"before line {use}" in race["fix"]
    assert race["fix"] in out
    assert len(race["why"]) == 2


# ------------------------------------------------------------------------------------- catalogs, warm, doctor


def test_chips(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "chips")
    d1 = next(row for row in data["chips"] if row["name"] == "d1")
    assert d1["nodes"] == 354
    assert d1["peak_flops"] == 354 * 512 * 2e9
    assert main(["chips", "d1"]) == 0
    out = capsys.readouterr().out
    assert "assumptions" in out
    assert "mesh.holes" in out


def test_a_chip_as_toml_comes_back_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chips", "mini", "--toml"]) == 0
    (folder / "mine.toml").write_text(capsys.readouterr().out)
    own = answer(capsys, "chips", "mine.toml")
    assert own == answer(capsys, "chips", "mini")


def test_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    data = answer(capsys, "gpus")
    assert [row["name"] for row in data["gpus"]] == [
        "v100-sxm2", "a100-sxm-40gb", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200", "t4", "mi210",
    ]  # fmt: skip
    assert main(["gpus", "NVIDIA H100 SXM"]) == 0
    assert "sources" in capsys.readouterr().out


def test_isa(capsys: pytest.CaptureFixture[str]) -> None:
    from accel.isa.table import ROWS
    from accel.report.datasheet import datasheet

    data = answer(capsys, "isa")
    assert [row["mnemonic"] for row in data["instructions"]] == [row.mnemonic for row in ROWS]
    assert main(["isa", "--markdown"]) == 0
    assert capsys.readouterr().out == datasheet().rstrip("\n") + "\n"
    assert main(["isa"]) == 0
    assert "matmul" in capsys.readouterr().out


def test_warm_fills_the_cache_so_that_nothing_is_left_to_compile(capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "warm")
    again = json.loads(process("warm", "--json", "-").stdout)
    assert again["compiled"] == 0
    assert again["cache"]["entries"] > 0


def test_doctor_passes_here_and_fails_where_something_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ACCEL_REFERENCE", raising=False)
    data = answer(capsys, "doctor")
    assert data["broken"] == []
    assert "verified 384 of 384" in data["facts"]["self-test"]
    assert {"accel", "python", "numpy", "numba", "vector code", "compile cache", "extras"} <= set(data["facts"])
    monkeypatch.setenv("ACCEL_REFERENCE", str(tmp_path))
    assert main(["doctor"]) == 1
    assert f"broken: ACCEL_REFERENCE={tmp_path} has no README.md" in " ".join(capsys.readouterr().out.split())


# -------------------------------------------------------------------------------------------- processes, pipes


def test_json_goes_to_a_file_whole_and_the_text_to_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "chips.json"
    target.write_text("old")
    assert main(["chips", "--json", "chips.json"]) == 0
    assert "d1" in capsys.readouterr().out
    assert {row["name"] for row in json.loads(target.read_text())["chips"]} >= {"mini", "d1"}
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_json_without_a_value_means_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instructions"]


def test_a_closed_pipe_is_quiet() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-m", "accel", "isa", "--markdown"], stdout=write_end, stderr=subprocess.PIPE, text=True,
            env=env, check=False, timeout=600,
        )  # fmt: skip
    finally:
        os.close(write_end)
    assert done.stderr == ""
    assert done.returncode == 141  # 128 + SIGPIPE, what a shell reports of cat


def test_a_closed_stdout_is_quiet() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["sh", "-c", 'exec "$0" -m accel chips >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=600)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "accel", "chips"], stdout=full, stderr=subprocess.PIPE, text=True, env=env,
            check=False, timeout=600,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("accel: error: cannot write the result: No space left on device; ")
    assert done.stderr.count("\n") == 1


def test_version_and_help_load_no_numpy() -> None:
    for option in ("--version", "--help"):
        check = (
            "import sys; from accel.cli import main; code = main(sys.argv[1:]); "
            "sys.stderr.write(' '.join(m for m in ('numpy', 'numba', 'rich') if m in sys.modules)); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", check, option], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
    assert process("--version").stdout.startswith("accel ")


def on_a_terminal(*command: str, **env: str) -> str:
    """Return what the command writes to a pseudo-terminal."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    full = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "PYTHONPATH": os.pathsep.join(sys.path)} | env
    full = {name: value for name, value in full.items() if value}
    child = subprocess.Popen([sys.executable, "-m", "accel", *command], stdout=follower, stderr=follower, env=full)
    os.close(follower)
    text = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    os.close(leader)
    assert child.wait() == 0
    return text.decode()


def test_colour_only_where_it_is_wanted() -> None:
    assert "\x1b[1m" in on_a_terminal("chips", NO_COLOR="")
    plain = on_a_terminal("bench", *SMALL, NO_COLOR="1")
    assert "\x1b[3" not in plain.replace("\x1b[2K", "")  # no colour codes; the status line may clear itself
    assert "\x1b[" not in process("chips").stdout


@pytest.mark.parametrize("words", [["gpus"], ["chips"], ["bench", *SMALL, "--vs", "a100-sxm-80gb,v100-sxm2"]])
def test_a_narrow_terminal_cuts_no_figure(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for columns in ("200", "40"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(words) == 0
        seen.append({word for word in capsys.readouterr().out.split() if word[0].isdigit()})
    assert seen[0] == seen[1]
