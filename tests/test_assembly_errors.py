"""Assembly that is wrong: one error with line, column, the line itself, a caret under the place, and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

import accel
from accel.cli import main
from accel.errors import AssemblyError, CapacityError, InputError
from accel.isa import container
from accel.isa.assembly import assemble

HEAD = ".tensor x fp32[8] in\n.buffer b fp32[8]\n.sem s[2]\n.sem one\n"

# text below HEAD -> (what the caret points at, part of the message)
WRONG: dict[str, tuple[str, str]] = {
    "vec.ad b, b, b": ("vec.ad", "no such instruction; did you mean 'vec.add'"),
    ".bufer c fp32[8]": ("bufer", "no directive; did you mean 'buffer'"),
    ". x": (". x", "Cannot read a directive here; write one of .accel"),
    "copy bb, x": ("bb", "no buffer or tensor has this name; did you mean 'b'"),
    "copy b, x, don=one": ("don=", "it takes dst, src, to, done, sent; did you mean 'done'"),
    "copy b, x, done=won": ("won", "it is no semaphore; did you mean 'one'"),
    "copy b, x, done=s": ("s", "there are 2; index it, s[0]"),
    "copy b, x, done=s[2]": ("2]", "Cannot use s[2] because there are 2"),
    "copy b, x, done=one, done=one": ("done=one", "Cannot give done twice"),
    "copy b": ("copy", "Cannot use copy without src; it takes dst, src, to, done, sent"),
    "copy b x": ("x", "'x' because it is no number format"),
    "vec.neg b fp33[8], b": ("fp33", "no number format; did you mean 'fp32'"),
    "vec.neg b fp32[8, b": ("b", "Cannot read 'b' as one of sizes"),
    "vec.neg b fp32[1,2,2,2,2], b": ("fp32[1,2", "Cannot use 5 sizes with 5 strides"),
    "vec.neg b fp32[8:4,4], b": ("fp32[8:4", "Cannot use 1 sizes with 2 strides"),
    "vec.neg b, b, b": ("b", "Cannot read 'b' because it takes dst, x; remove it"),
    "vec.fill b, imm=nine": ("nine", "Cannot read 'nine' as a number"),
    "vec.fill b, 1e39": ("1e39", "fp32 ends at 3.4028235e38"),
    "vec.fill b, 0x1ffffffff": ("0x1", "an immediate has 32"),
    "wait one": ("wait", "Cannot use wait without n; it takes sem, n"),
    "wait one, 99999999999999999999": ("9", "a word has 64 bits with sign"),
    "wait one, p2": ("p2", "no .param gives it values; add one"),
    "wait one, row+col+row+col": ("row+col+row+col", "it has 4 node values and 0 loop terms, at most 3 and 4 fit"),
    "wait one, (i0%0)": ("0)", "Cannot use 0 as a modulus"),
    "wait one, 3*4": ("4", "Cannot read '4' as part of a sum"),
    "wait one, i7": ("i7", "as part of a sum"),
    "@(row = 1) wait one, 1": ("= 1", "as a comparison; use == != < <= > >="),
    "@row wait one, 1": ("row", "a guard stands in parentheses"),
    "inc one, 1, at=(0, 1": ("", "a target is (rows, columns); write ')' here"),
    "inc one, 1, at=north": ("north", "a target is self, all, (row, col)"),
    "end": ("end", "Cannot end a loop here because none is open"),
    "loop 2": ("loop", "Cannot leave this loop open because its thread ends"),
    "loop 2\nwait one, 1\n.thread second\nend": ("loop", "Cannot leave this loop open"),
    'mark "unfinished': ('"unfinished', "Cannot read '\"unfinished' as a mark"),
    "wait one, 1 | somewhere": ("somewhere", "as a source line; write file:line"),
    "wait one, 1 extra": ("extra", "operands have commas between them"),
    "matmul b, b, b, accumulate=yes": ("yes", "as operand accumulate; write a whole number"),
    "vec.compare b, b, b, relation=lte": ("lte", "no relation; did you mean 'lt'"),
    "wait one, 1\n.mesh 2 2": ("2 2", "Cannot change the mesh"),
    ".tensor x fp32[8]": ("x", "Cannot declare tensor 'x' twice"),
    ".tensor y fp32[0]": ("0]", "sizes are at least 1"),
    ".role 1 nodes all": ("1", "roles count up; this is 0"),
    ".role 0 nodes all\n.role 1 nodes (0, 0)": ("1", "another role has it"),
    ".role 0 nodes (0, 9)": ("9", "Cannot use 9 as a column of the mesh because it runs from 0 to 0"),
    ".param p2 = [1 2 3]": ("2", "1 fit here"),
    ".param p999999999 = 0": ("p999999999", "Cannot keep 1000000000 values for every node"),
    ".sem many[9999999]": ("9999999", "Cannot use 9999999 as a count"),
    ".chip d9": ("d9", "the catalog has no chip 'd9'"),
    ".chip mini sha256=0123456789abcdef": ("0123456789abcdef", "not the one that this text was made for"),
    ".chip {\n1": ("", "Cannot find where this chip ends"),
    ".accel 1": ("", "version 1 because this package reads 2; disassemble the program again"),
    "vec.copy b, b fp32[4]": ("vec.copy", "do not fit"),
    ".buffer i int32[8]\nvec.fill i, 1.5": ("1.5", "so it is an int32; write a whole number"),
    ".buffer i int32[8]\nvec.muli i, i, 1e3": ("1e3", "so it is an int32; write a whole number"),
    ".buffer q cfp8-143[8]\nvec.cast q bias=64, b": ("64", "as an exponent bias because it runs from 0 to 63"),
    "vec.cast b bias=3, b": ("bias=3", "Cannot give bias or denormals to fp32 because it has none of its own"),
    "copy b, x ring=0+32": ("ring=", "Cannot make a ring of a tensor because rings lie in SRAM"),
    "vec.copy b ring=0+0, b": ("0", "as the bytes of a ring because it runs from 1"),
    "copy b, x, done=one\nvec.copy b ring=0+16, b": ("vec.copy", "reaches 32 bytes in a ring of 16"),
    "copy b, x bf16[8]": ("copy", "reads tensor 'x' (fp32) in another format; cast in SRAM"),
    "vec.copy b, x": ("vec.copy", "operand x must lie in sram; correct the text"),
    "mark load": ("load", "because it is a text; put it in quotes"),
    "vec.random b, stream=-1, index=0 [1]": ("-1", "as operand stream because it runs from 0"),
    "vec.compare b, b, b, relation=7": ("7", "as operand relation because it runs from 1 to 6"),
}  # fmt: skip


def chips(name: str) -> str:
    if name != "mini":
        raise InputError(f"the catalog has no chip {name!r}")
    return accel.chip(name).to_json()


@pytest.mark.parametrize("text", WRONG)
def test_the_error_points_at_the_place(text: str) -> None:
    place, part = WRONG[text]
    with pytest.raises(AssemblyError) as caught:
        assemble(HEAD + text + "\n", "wrong.asm", chips).require_sound()
    error = caught.value
    assert part in error.message
    shown, caret = error.excerpt.splitlines()
    assert shown[caret.index("^") :].startswith(place)
    assert caret.strip() == "^"
    first = str(error).splitlines()[0]
    assert first == f"wrong.asm:{error.line}:{error.column}: {error.message}"
    assert (HEAD + text).splitlines()[error.line - 1 : error.line] in ([error.text], [])
    assert error.text[error.column - 1 :].startswith(place)


def test_a_long_line_is_shown_around_the_caret() -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble("mark " + '"' + "x" * 400 + '" oops')
    shown, caret = caught.value.excerpt.splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^") :].startswith("oops")


def test_text_that_is_no_text_and_a_program_without_a_chip() -> None:
    with pytest.raises(InputError, match="assembly is text, not bytes"):
        accel.assemble(b"end")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"names no chip; write for example \.chip mini"):
        accel.assemble("")
    with pytest.raises(InputError, match="cannot assemble for 3"):
        accel.assemble("", 3)  # type: ignore[arg-type]


GOOD = """.chip mini
.tensor x fp32[8] in
.tensor y fp32[8] out
.buffer b fp32[8]
.sem s
copy b, x, done=s
wait s, 1
copy y, b, sent=s
wait s, 1
"""


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (".mesh 1 5", "5 columns of nodes and the chip has 4"),
        (".threads 5", "5 threads a node and the chip has 4"),
        (".sem many[256]", "257 semaphores a node and the chip has 256"),
        (".sem full=65536", "65,536 tokens in a semaphore and the chip has 65,535"),
        (".buffer big int8[262112]", "262,176 bytes of SRAM a node and the chip has 262,144"),
        (".tensor big int8[1000000000] in", "1,000,000,064 bytes of memory for its tensors"),
    ],
)
def test_what_the_chip_has_no_room_for_is_refused(line: str, what: str, tmp_path: Path) -> None:
    """Limits of the catalog's chip `mini`, whose numbers `accel chips mini` lists; in GOOD b takes 64 aligned bytes."""
    text = GOOD.replace("mini\n", "mini\n" + line + "\n") if "mesh" in line else GOOD + line + "\n"
    with pytest.raises(CapacityError) as caught:
        accel.assemble(text, source="big.asm")
    assert f"Cannot use big.asm on 'mini' because it takes {what}" in str(caught.value)
    container.write(assemble(text, "big.asm", chips), tmp_path / "big.acc")
    with pytest.raises(CapacityError, match=r"big\.acc on 'mini'"):
        accel.load(tmp_path / "big.acc")


def test_a_sample_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"sample cannot be 3; draw one with sample_outputs\(blocks\)"):
        accel.assemble(GOOD).run(x=range(8), sample=3)  # type: ignore[arg-type]


def test_the_command_line_assembles_runs_checks_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, file, again = tmp_path / "copy.asm", tmp_path / "copy.acc", tmp_path / "again.acc"
    text.write_text(GOOD, "utf-8")
    assert main(["asm", str(text)]) == 0
    assert "4 instructions" in capsys.readouterr().out
    assert main(["disasm", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "copy b fp32[8], x fp32[8], done=s" in printed
    (tmp_path / "printed.asm").write_text(printed, "utf-8")
    assert main(["asm", str(tmp_path / "printed.asm"), "-o", str(again)]) == 0
    assert again.read_bytes() == file.read_bytes()
    capsys.readouterr()
    for verb in ("run", "check"):
        for target in (text, file):
            assert main([verb, str(target)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["disasm", str(file), "--role", "0"]) == 0
    assert "     0  copy b fp32[8]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["asm", "{bad}"], "bad.asm:2:1: Cannot use 'vec.ad' because the table has no such instruction"),
        (["asm", "{absent}"], "cannot read assembly file"),
        (["asm", "{binary}"], "is no text in UTF-8 (byte 0)"),
        (["asm", "{good}", "-o", "{good}"], "would be overwritten; name the program file with -o"),
        (["run", "{good}", "--mesh", "2x2"], "--mesh does not go with"),
        (["run", "{good}", "--chip", "d1"], "--chip does not go with"),
        (["bench", "{good}"], "bench compares problems of the library"),
        (["disasm", "{good}"], "is not an accel program file"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    args: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"{name}.asm" for name in ("bad", "good", "absent", "binary")}
    files["bad"].write_text(".chip mini\nvec.ad b\n", "utf-8")
    files["good"].write_text(GOOD, "utf-8")
    files["binary"].write_bytes(b"\xff\xfe")
    assert main([a.format(**files) for a in args]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert text in said.err
    assert said.err.startswith("accel: error: ")
    if args[1] == "{bad}":
        assert said.err.splitlines()[1:] == ["    vec.ad b", "    ^"]
    else:
        assert said.err.count("\n") == 1
