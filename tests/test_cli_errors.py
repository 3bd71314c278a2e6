"""Bad input on the command line: one line that names the object, the rule and the way out; exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.baselines import names as gpu_names
from accel.cli import main
from accel.cli.app import VERBS, _cli

USER = '''
import accel

@accel.kernel
def relu(k, x, y, *, bm):
    """y = max(x, 0) on node (0, 0)."""
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

def plain(a):
    return a

limit = 3
'''
ARGS = "--arg x=bf16[64,32] --arg y=bf16[64,32]"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(USER)
    (tmp_path / "fails.py").write_text("x = 1\n\nraise OSError('no luck')\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "typo.toml").write_text('nam = "x"\n')
    (tmp_path / "broken.toml").write_text("name = \n")
    (tmp_path / "notes.txt").write_text("nothing\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Command, and what follows "accel: error: " on the only line of stderr.
ERRORS = {
    "rnu": "unknown command 'rnu'; did you mean 'run'?",
    "frobnicate": "unknown command 'frobnicate'; use one of " + ", ".join(VERBS),
    "--colour": "accel has no option '--colour'; see accel --help",
    "run": "missing argument 'KERNEL'; see accel run --help",
    "run matmul extra --shape 8x8x8": "got unexpected extra argument (extra); see accel run --help",
    "chips --jsn": "accel chips has no option '--jsn'; did you mean '--json'?",
    "run matmul --shape": "option '--shape' requires an argument; see accel --help",
    "run matmul --engine fast --shape 8x8x8":
        "invalid value for '--engine': 'fast' is not one of 'jit', 'plain'; see accel run --help",
    "run matmul --shape 8x8x8 --seed -1":
        "invalid value for '--seed': -1 is not in the range 0<=x<=18446744073709551615; see accel run --help",
    # kernels and shapes
    "run matmull --shape 8x8x8": "unknown kernel 'matmull'; did you mean 'matmul'?",
    "run convd2 --shape 8x8x8": "unknown kernel 'convd2'; did you mean 'conv2d'?",
    "report six.toml": "'six.toml' says what to sweep and holds no results; use accel sweep six.toml first",
    "run zzyzx --shape 8x8x8": "unknown kernel 'zzyzx'; use one that accel kernels lists, "
        "file.py:fn, FILE.acc or FILE.asm",
    "run matmul": "matmul needs --shape m,n,k; give for example --shape 10,12,30",
    "run matmul --shape 8x8":
        "matmul: shape '8x8' is not m,n,k; give three whole numbers",
    "run matmul --shape 8x0x8": "matmul: n=0 is outside 1..2^40; give a size inside that range",
    "run matmul --shape 8x-8x8":
        "matmul: shape '8x-8x8' is not m,n,k; give three whole numbers",
    "run matmul --shape 2000000x2000000x8":
        "matmul: output c of shape (2000000, 2000000) has 4000000000000 elements, more than 2^40; "
        "split the problem into smaller ones",
    "run matmul --shape 8x8x8 --dtype bf61": "unknown number format 'bf61'; did you mean 'bf16'?",
    "run matmul --shape 8x8x8 --dtype int8 --chip d1":
        "matmul on d1 does not take int8; use dtype='bf16' or 'cfp8-143' or 'cfp8-152' or 'fp32'",
    "run matmul --shape 8x8x8 --stride 2": "--stride does not go with matmul: it has no stride",
    "run matmul --shape 8x8x8 --stride 2,x": "--stride '2,x' is no whole number and no list of them; "
        "give for example --stride 2,1",
    "run matmul --shape 8x8x8 --dtype bf16 --param dtype=fp32":
        "dtype is given by --dtype and by --param; give it once",
    "bench mine.py:relu": "bench compares problems of the library, and mine.py:relu names none; "
        "time it with accel run, look into it with accel report",
    "run matmul --shape 8x8x8 --arg a=bf16[8,8]":
        "--arg does not go with matmul: matmul is a library kernel; give --shape and --param",
    "run matmul --shape 8x8x8 --mesh 2x2":
        "--mesh does not go with matmul: matmul is a library kernel; give --shape and --param",
    "run matmul --shape 8x8x8 --resident d": "matmul has no operand 'd' to keep resident; use 'a' or 'b' or 'c'",
    "run matmul --shape 8x8x8 --variant best":
        "matmul has no version 'best'; use one of one_node, summa, stationary",
    "run matmul --shape 8x8x8 --param tile=8": "matmul has no tiling parameter 'tile'; "
        "use one of bm, bn, bk, passes_m, passes_n, piece, pieces, stages, accumulators, strip",
    "run barrier --shape 4,4,8 --chip mini --param nonsense=3": "collective has no parameter 'nonsense'; use width",
    # chips and GPUs
    "run matmul --shape 8x8x8 --chip d2": "unknown chip 'd2'; did you mean 'd1'?",
    "chips dojo-two": "unknown chip 'dojo-two'; use mini, d1 or a path ending in .toml",
    "chips none.toml": "cannot read chip file 'none.toml': No such file or directory; give a file that you may read",
    "chips typo.toml": "typo.toml: unknown key 'nam'; did you mean 'name'?",
    "chips broken.toml":
        "broken.toml is not valid TOML: Invalid value (at line 1, column 8); write one with to_toml",
    "chips --toml": "--toml prints one chip; name it, for example accel chips d1 --toml",
    "bench matmul --shape 8x8x8 --vs h10-sxm": "unknown gpu 'h10-sxm'; did you mean 'h100-sxm'?",
    "gpus gtx": "unknown gpu 'gtx'; use one of " + ", ".join(gpu_names()),
    "bench matmul --shape 8x8x8 --vs t4 --baseline none.csv":
        "cannot read rows 'none.csv': No such file or directory; give a CSV file that you may read",
    # kernels of the user's own
    "run mine.py --shape 8x8x8": "--shape does not go with mine.py: it is a kernel of your own; "
        "give its tensors by --arg and the rest by --param",
    "run mine.py": "kernel 'mine.py' names no function; give file.py:fn",
    "run none.py:f": "kernel file 'none.py' does not exist; give the path of a Python file",
    "run notes.txt:f": "kernel file 'notes.txt' is not a Python file; give one that ends in .py",
    "run mine.py:rely": "mine.py has no function 'rely'; did you mean 'relu'?",
    "run mine.py:limit": "mine.py has no function 'limit'; it has relu, plain",
    "run mine.py:plain": "mine.py:plain is not a kernel; decorate the function with @accel.kernel",
    "run fails.py:f": "fails.py:3: running the kernel file raised OSError: no luck; it must load without errors",
    "run leaves.py:f": "leaves.py:1: running the kernel file raised SystemExit: 3; it must load without errors",
    "run syntax.py:f": "syntax.py:2: running the kernel file raised SyntaxError: invalid syntax (syntax.py, line 2); "
        "it must load without errors",
    "run mine.py:relu --arg x=bf16":
        "--arg 'x=bf16' is not NAME=FORMAT[SHAPE]; give for example --arg 'a=bf16[512,512]'",
    "run mine.py:relu --arg x=bf16[64,32]<8":
        "--arg 'x=bf16[64,32]<8' bounds its inputs by 8; only integer formats take a bound",
    "run mine.py:relu --arg x=uint8[64,32]<257":
        "--arg 'x=uint8[64,32]<257' bounds its inputs by 257; a bound is 1 to 256 here",
    "run mine.py:relu --arg x=int32[8]<0":
        "--arg 'x=int32[8]<0' bounds its inputs by 0; a bound is 1 to 2,147,483,648 here",
    f"run mine.py:relu {ARGS} --arg x=bf16[8,8]": "--arg 'x' is given twice; give each tensor once",
    f"run mine.py:relu {ARGS} --param bm": "--param 'bm' is not NAME=VALUE; give for example --param bm=64",
    f"run mine.py:relu {ARGS} --param bm=8 --param bm=9": "--param 'bm' is given twice; give each parameter once",
    f"run mine.py:relu {ARGS} --param bm=[8]": "--param bm=[8] is no int, float, bool or text; give one of those",
    f"run mine.py:relu {ARGS} --param x=8": "'x' is given by --arg and by --param; give it once",
    f"run mine.py:relu {ARGS} --param flops=8":
        "'flops' is a word of Kernel.build and no kernel argument; rename it in the kernel",
    f"run mine.py:relu {ARGS} --param bm=8 --mesh 2by2":
        "--mesh '2by2' is not RxC; give rows and columns such as --mesh 2x4",
    f"run mine.py:relu {ARGS} --chip mini":
        "kernel relu needs argument 'bm'; pass bm=accel.tensor(...) or bm=value (on the command line "
        "--arg bm=DTYPE[SHAPE] or --param bm=VALUE)",
    f"run mine.py:relu {ARGS} --param bm=8 --ref mine.py:oracl":
        "mine.py has no function 'oracl'; it has relu, plain",
    f"run mine.py:relu {ARGS} --param bm=8 --ref mine.py:plain --blocks 2":
        "--ref compares whole outputs and --blocks computes parts; leave one of them out",
}  # fmt: skip


@pytest.mark.parametrize("command", ERRORS)
def test_bad_input_is_one_line(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(command.split(" "))
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("accel: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert err == f"accel: error: {ERRORS[command]}\n"


def test_json_to_a_folder_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chips", "--json", "no/where.json"]) == 2
    expected = (
        "cannot write result file 'no/where.json': No such file or directory; "
        "give a file in a folder that you may write to"
    )
    assert capsys.readouterr().err == f"accel: error: {expected}\n"


def test_an_unexpected_exception_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import accel.hardware

    def fail() -> tuple[str, ...]:
        raise RuntimeError("boom")

    monkeypatch.setattr(accel.hardware, "names", fail)
    assert main(["chips"]) == 70
    err = capsys.readouterr().err
    assert err.startswith("accel: error: internal error, please report it with this command: RuntimeError: boom (test_")
    assert err.endswith("; accel --debug chips shows the traceback\n")
    assert err.count("\n") == 1
    assert main(["--debug", "chips"]) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_debug_shows_the_traceback_of_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--debug", "chips", "d2"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("accel: error: unknown chip 'd2'; did you mean 'd1'?\n")


def test_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import accel.hardware

    def interrupt() -> tuple[str, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(accel.hardware, "names", interrupt)
    assert main(["chips"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = _cli.get_command(None, verb)  # type: ignore[arg-type]  # the context is not looked at
    assert command is not None
    assert command.help
    assert any("--json" in parameter.opts for parameter in command.params)
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: accel {verb}")
    assert err == ""
