"""Bad files, options and variables on the command line, verb by verb: the exact line, exit code 2, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli_errors import ARGS, USER

import accel
from accel.cli import main
from accel.kernels import matmul

VERSION_1 = Path(__file__).parent / "golden" / "version-1.acc"  # written by the last package of that version
TINY = "--shape 8x8x8 --chip mini"
RELU = f"mine.py:relu {ARGS} --chip mini"
SEEDS = "0<=x<=18446744073709551615"
PATHS = "give a file in a folder that you may write to"
DAMAGED = "is damaged: its checksum does not match; save the program again"
FOREIGN = "is not an accel program file; it must start with 'accelprg'"


@pytest.fixture(scope="module")
def program() -> accel.Program:
    return matmul.build("mini", m=8, n=8, k=8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: accel.Program) -> Path:
    monkeypatch.chdir(tmp_path)
    program.save("good.acc")
    image = Path("good.acc").read_bytes()
    middle = len(image) // 2
    files = {
        "empty.acc": b"",
        "cut.acc": image[:middle],
        "long.acc": image + b"\0",
        "flipped.acc": image[:middle] + bytes([image[middle] ^ 1]) + image[middle + 1 :],
        "magic.acc": b"PK" + image[2:],
        "version1.acc": VERSION_1.read_bytes(),
        "good.asm": program.asm().encode(),
        "empty.asm": b"",
        "bytes.asm": b"\xff\xfe",
        "mine.py": USER.encode(),
        "notes.txt": b"nothing\n",
        "bytes.toml": b"\xff\0",
        "negative.toml": accel.chip("mini").to_toml().replace("site_rows = 4", "site_rows = -4").encode(),
        "bytes.csv": b"\xff\xfe\n",
        "columns.csv": b"m,n,k\n1,2,3\n",
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
    return tmp_path


# Command, and what follows "accel: error: " on the only line of stderr.
ERRORS = {
    # program files, by every verb that reads them
    "run none.acc": "cannot read program file 'none.acc': No such file or directory; give a file that you may read",
    "run .acc": "cannot read program file '.acc': No such file or directory; give a file that you may read",
    "run empty.acc": f"empty.acc {FOREIGN}",
    "run magic.acc": f"magic.acc {FOREIGN}",
    "run cut.acc": f"cut.acc {DAMAGED}",
    "run long.acc": f"long.acc {DAMAGED}",
    "run flipped.acc": f"flipped.acc {DAMAGED}",
    "run version1.acc": "version1.acc has format version 1, this package reads 2; build it again",
    "check empty.acc": f"empty.acc {FOREIGN}",
    "check flipped.acc": f"flipped.acc {DAMAGED}",
    "check version1.acc": "version1.acc has format version 1, this package reads 2; build it again",
    "report magic.acc": f"magic.acc {FOREIGN}",
    "report cut.acc": f"cut.acc {DAMAGED}",
    "report version1.acc": "version1.acc has format version 1, this package reads 2; build it again",
    "disasm none.acc": "cannot read program file 'none.acc': No such file or directory; give a file that you may read",
    "disasm .": "cannot read program file '.': Is a directory; give a file that you may read",
    "disasm notes.txt": f"notes.txt {FOREIGN}",
    "disasm cut.acc": f"cut.acc {DAMAGED}",
    "disasm version1.acc": "version1.acc has format version 1, this package reads 2; build it again",
    "disasm good.acc --role 99": "no role 99; stationary has roles 0 to 1",
    "disasm good.acc --role -1": "invalid value for '--role': -1 is not in the range x>=0; see accel disasm --help",
    "disasm good.acc -o no/where.asm":
        f"cannot write assembly file 'no/where.asm': No such file or directory; {PATHS}",
    "disasm good.acc -o .": f"cannot write assembly file '.': Is a directory; {PATHS}",
    "disasm": "missing argument 'FILE.acc'; see accel disasm --help",
    "run good.acc --chip mini": "--chip does not go with good.acc: it is a program already; leave it out",
    "run good.acc --shape 8x8x8": "--shape does not go with good.acc: it is a program already; leave it out",
    "check good.asm --param bm=8": "--param does not go with good.asm: it is a program already; leave it out",
    "report good.acc --vs t4": "--vs is about problems of the library, which good.acc is not; leave it out",
    "bench good.acc": "bench compares problems of the library, and good.acc names none; time it with accel run, "
        "look into it with accel report",
    # assembly
    "asm": "missing argument 'FILE.asm'; see accel asm --help",
    "asm none.asm": "cannot read assembly file 'none.asm': No such file or directory; give a file that you may read",
    "asm empty.asm": "empty.asm names no chip; write for example .chip mini, or give chip=",
    "asm bytes.asm": "bytes.asm is no text in UTF-8 (byte 0); give assembly, or a .acc file",
    "asm good.asm -o good.asm": "'good.asm' would be overwritten; name the program file with -o",
    "asm good.asm -o no/where.acc": f"cannot write program file 'no/where.acc': No such file or directory; {PATHS}",
    "asm good.asm --chip d2": "unknown chip 'd2'; did you mean 'd1'?",
    # run, check and bench: options
    f"run matmul {TINY} --seed 18446744073709551616":
        f"invalid value for '--seed': 18446744073709551616 is not in the range {SEEDS}; see accel run --help",
    f"run matmul {TINY} --seed 1.5":
        "invalid value for '--seed': '1.5' is not a valid integer range; see accel run --help",
    f"run matmul {TINY} --seed True":
        "invalid value for '--seed': 'True' is not a valid integer range; see accel run --help",
    f"check matmul {TINY} --seed -1":
        f"invalid value for '--seed': -1 is not in the range {SEEDS}; see accel check --help",
    f"run matmul {TINY} --schedules 1001":
        "invalid value for '--schedules': 1001 is not in the range 0<=x<=1000; see accel run --help",
    f"run matmul {TINY} --blocks -1": "invalid value for '--blocks': -1 is not in the range x>=0; see accel run --help",
    f"run matmul {TINY} --out-dtype int7": "unknown number format 'int7'; did you mean 'int8'?",
    f"run matmul {TINY} --dtype cfp8-153": "unknown number format 'cfp8-153'; did you mean 'cfp8-152'?",
    f"run matmul {TINY} --param bias=99":
        "matmul of bf16 into bf16 has no operand with a bias; leave bias= and denormals= out",
    f"run matmul {TINY} --param denormals=maybe":
        "matmul of bf16 into bf16 has no operand with a bias; leave bias= and denormals= out",
    f"run matmul {TINY} --resident a,,b": "list 'a,,b' has an empty place; give names with one comma between them",
    "run matmul --shape 99999999999999999999x8x8":
        "matmul: shape '99999999999999999999x8x8' is not m,n,k; give three whole numbers",
    "run notes.txt": "unknown kernel 'notes.txt'; use one that accel kernels lists, file.py:fn, FILE.acc or FILE.asm",
    f"bench matmul {TINY} --explain --fidelity bound":
        "--explain times the program again event by event; leave --fidelity bound out",
    f"bench matmul {TINY} --fidelity flit":
        "invalid value for '--fidelity': 'flit' is not one of 'packet', 'bound'; see accel bench --help",
    f"bench matmul {TINY} --vs t4 --baseline bytes.csv": "data bytes.csv: not UTF-8 text; give a CSV file",
    f"{RELU.replace('mine', 'run mine')} --param bm=0":
        "mine.py:7: the shape of buffer 'tile' is (0, 32); every dimension is at least 1",
    f"{RELU.replace('mine', 'run mine')} --param bm=2.5":
        "mine.py:7: the shape of buffer 'tile' is (2.5, 32); give a tuple of ints",
    f"run {RELU} --param bm=16 --arg z=bf16[4]": "kernel relu has no argument 'z'; it takes x, y, bm",
    f"run {RELU} --param bm=16 --resident z": "resident names 'z', no tensor of relu; it has x, y",
    f"run {RELU} --param bm=16 --mesh 0x0":
        "mesh 0 x 0 does not lie in the 4 x 4 logical nodes of 'mini'; use a part of it",
    f"run {RELU} --param bm=16 --mesh 99x99":
        "mesh 99 x 99 does not lie in the 4 x 4 logical nodes of 'mini'; use a part of it",
    "run mine.py:relu --arg x=bf16[0,32] --arg y=bf16[64,32] --param bm=16":
        "a tensor of shape (0, 32) has no elements; every dimension is at least 1",
    "run mine.py:relu --arg x=bf61[64,32] --arg y=bf16[64,32] --param bm=16":
        "unknown number format 'bf61'; did you mean 'bf16'?",
    # report
    f"report matmul {TINY} --format pdf":
        "Cannot write a report as 'pdf': no such format; use html, md, csv, png, svg",
    f"report matmul {TINY} -o no/where.html":
        f"cannot write report to 'no/where.html': its folder does not exist; {PATHS}",
    f"report matmul {TINY} -o mine.py": "Cannot tell the format of the report from 'mine.py'; "
        "use a name that ends in .html or .md, or name formats among html, md, csv, png, svg",
    f"report matmul {TINY} -o notes.txt --format md,csv": "cannot write report to 'notes.txt': Not a folder; "
        "give a folder in a place that you may write to",
    # catalogs, warm, demo
    "chips .toml": "cannot read chip file '.toml': No such file or directory; give a file that you may read",
    "chips bytes.toml": "cannot read chip file 'bytes.toml': not UTF-8 text; give a TOML file",
    "chips negative.toml": "negative.toml: mesh.site_rows = -4 cannot be used; give an integer >= 1",
    "isa nope": "no instruction 'nope'; did you mean 'loop'?",
    "warm now": "got unexpected extra argument (now); see accel warm --help",
    "warm --fast": "accel warm has no option '--fast'; did you mean '--json'?",
    "demo please": "got unexpected extra argument (please); see accel demo --help",
}  # fmt: skip


@pytest.mark.parametrize("command", ERRORS)
def test_bad_input_is_one_line_and_writes_nothing(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(command.split(" ")) == 2
    assert capsys.readouterr() == ("", f"accel: error: {ERRORS[command]}\n")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_wrong_instruction_is_shown_with_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("word.asm").write_text(".chip mini\n.buffer b fp32[8]\n  vec.ad b, b, b\n")
    assert main(["asm", "word.asm"]) == 2
    first, *picture = capsys.readouterr().err.splitlines()
    assert first == (
        "accel: error: word.asm:3:3: Cannot use 'vec.ad' because the table has no such instruction; "
        "did you mean 'vec.add' or 'vec.addi'?"
    )
    assert [line.strip() for line in picture] == ["vec.ad b, b, b", "^"]
    assert not Path("word.acc").exists()


def test_a_report_of_a_program_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "good.acc", "--fidelity", "bound", "-o", "good.md"]) == 0
    assert "stationary on mini" in Path("good.md").read_text("utf-8")


SWITCH = "it is a switch; use 0 for off, 1 or nothing for on"
COUNT = "use a number of threads from 1 to 1024"
TARGET = "it is not a target; use one of avx512, avx2, portable"
VARIABLES = [
    ("ACCEL_TARGET", "foo", f"Cannot use ACCEL_TARGET='foo': {TARGET}"),
    ("ACCEL_TARGET", "AVX2", f"Cannot use ACCEL_TARGET='AVX2': {TARGET}"),
    ("ACCEL_THREADS", "-1", f"Cannot use ACCEL_THREADS='-1': {COUNT}"),
    ("ACCEL_THREADS", "abc", f"Cannot use ACCEL_THREADS='abc': {COUNT}"),
    ("ACCEL_THREADS", "1.5", f"Cannot use ACCEL_THREADS='1.5': {COUNT}"),
    ("ACCEL_FAST", "maybe", f"Cannot use ACCEL_FAST='maybe': {SWITCH}"),
]


@pytest.mark.parametrize(("name", "value", "says"), VARIABLES)
def test_a_variable_with_nonsense_is_one_line(name: str, value: str, says: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), name: value}
    line = [sys.executable, "-m", "accel", "run", "matmul", *TINY.split()]
    done = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == f"accel: error: {says}"
    assert set(done.stderr.splitlines()[:-1]) <= {"accel: compiling the engines (once; kept for later runs)"}
    assert list(tmp_path.iterdir()) == []
