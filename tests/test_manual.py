"""docs/isa.md and docs/isa/ are what the instruction table generates: every instruction, its words, formats, price."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import accel
from accel.cli import main
from accel.errors import InputError, ProgramError
from accel.isa.assembly import assemble
from accel.isa.examples import example, formats, statement
from accel.isa.layout import CODE_WORDS
from accel.isa.manual import entry, manual, rows_as_dicts
from accel.isa.schema import Engine, Row
from accel.isa.table import BY_MNEMONIC, ROWS
from accel.report.datasheet import datasheet, datasheet_pages, example_cycles

DOCS = Path(__file__).resolve().parent.parent / "docs"
CHAPTERS = sorted((DOCS / "isa").glob("*.md"))
EACH = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mnemonic)


def test_the_pages_are_fresh_and_all_of_the_manual() -> None:
    kept = {page.relative_to(DOCS).as_posix(): page.read_text("utf-8") for page in (DOCS / "isa.md", *CHAPTERS)}
    assert kept == datasheet_pages(), "docs/isa.md is stale: run  accel isa --pages docs"
    assert sum(text.count("\n### ") for text in kept.values()) == datasheet().count("\n### ") == len(ROWS)
    assert max(text.count("\n") for text in kept.values()) < 500


def test_the_pages_are_written_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "--pages", str(tmp_path)]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(datasheet_pages())
    assert (tmp_path / "isa" / "dma.md").read_text("utf-8") == datasheet_pages()["isa/dma.md"]
    assert main(["isa", "matmul", "--pages", str(tmp_path)]) == 2


def _section(row: Row) -> str:
    """Return the text of an instruction's section, from its heading to the next one."""
    text = "".join(page.read_text("utf-8") + "\n##" for page in CHAPTERS)
    _, found, rest = text.partition(f"\n### {row.mnemonic}\n")
    assert found, f"docs/isa/ has no section {row.mnemonic}"
    return rest.partition("\n##")[0]


@EACH
def test_every_instruction_has_its_section(row: Row) -> None:
    text = _section(row)
    assert f"(opcode {row.opcode})" in text
    assert row.meaning in text
    assert "Cost: " in text
    for operand in row.operands:
        assert f"| `{operand.name}` |" in text
    assert text.startswith(entry(row.mnemonic).partition("\n")[2].partition("`\n```")[0][:40])


def test_engines_are_the_chapters_and_plain_data_says_the_same() -> None:
    chapters = [line[3:] for line in datasheet().splitlines() if line.startswith("## ")]
    assert chapters == ["Words", "Meaning", "Opcode map", "Contents", *(engine.name.lower() for engine in Engine)]
    assert [(d["mnemonic"], d["opcode"], d["engine"]) for d in rows_as_dicts()] == [
        (row.mnemonic, row.opcode, row.engine.name.lower()) for row in ROWS
    ]


@EACH
def test_the_picture_of_the_words_numbers_all_of_them_and_names_operands_in_their_place(row: Row) -> None:
    picture = _section(row).partition("```text\n")[2].partition("\n```")[0].splitlines()
    numbers = [int(word) for line in picture[0::4] for word in line.split()]
    cells = [cell.strip() for line in picture[2::4] for cell in line.strip().strip("|").split("|")]
    assert numbers == list(range(CODE_WORDS))
    assert cells[:3] == [str(row.opcode), "pred", "line"]
    for operand in row.operands:
        assert cells[row.word(operand.name)].split(".")[0] == operand.name


@EACH
def test_the_worked_example_assembles_to_its_instruction(row: Row) -> None:
    program = assemble(example(row))
    words = program.code[-1 if row.mnemonic == "end" else 0]
    assert words[0] == row.opcode
    assert statement(row).split(" ")[0] == row.mnemonic


@EACH
def test_the_formats_on_the_page_are_those_that_validation_takes(row: Row) -> None:
    """Every combination that the page allows assembles, and one that it does not is refused."""
    if not row.views:
        return
    legal = set(formats(row))
    base = example(row)
    names = [o.name for o in row.views]
    rng = np.random.default_rng(row.opcode)
    every = [tuple(str(f) for f in rng.choice(list(accel.numerics.FORMATS), len(names))) for _ in range(40)]
    for taken in [*every, *rng.permutation(sorted(legal))[:10].tolist()]:
        text = base
        for name, dtype in zip(names, taken, strict=True):
            text = re.sub(rf"^(\.\w+ {name}) [\w-]+\[", rf"\1 {dtype}[", text, flags=re.MULTILINE)
        if tuple(taken) in legal:
            assemble(text)
        else:
            with pytest.raises(ProgramError):
                assemble(text)


@pytest.mark.parametrize(
    ("name", "cycles"),
    [
        # 4 x 4 blocks of 16 x 16, each 16 steps of k for 4 parts of 8 x 8: 1,024 cycles of compute; between blocks
        # 4 parts of 8 x 8 fp32 (256 B, 4 accesses) are stored, 16 cycles at one store port, and so 16 times; fill 8.
        ("matmul", 1024 + 16 * 16 + 8),
        # 64 rows of 256 bytes are 256 passes of 64 bytes; fill 8. One load and one store a pass fit the ports.
        ("vec.neg", 256 + 8),
        # two loads and a store a pass: 768 accesses, two a cycle
        ("vec.add", 768 // 2),
        ("wait", 1),
    ],
)
def test_prices_by_hand_on_d1(name: str, cycles: int) -> None:
    assert example_cycles(BY_MNEMONIC[name], accel.chip("d1")) == cycles
    assert f"{cycles:,} cycle{'' if cycles == 1 else 's'} on d1" in _section(BY_MNEMONIC[name])


def test_the_command_line_prints_one_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "matmul"]) == 0
    assert capsys.readouterr().out.startswith("### matmul\n")
    assert main(["isa", "add"]) == 0
    assert "### vec.add" in capsys.readouterr().out
    assert main(["isa", "vec.ad"]) == 2
    assert "no instruction 'vec.ad'; did you mean 'vec.add'" in capsys.readouterr().err


def test_an_entry_needs_no_prices_and_an_unknown_one_is_named() -> None:
    assert "cycles on" not in entry("vec.add")
    assert manual().startswith("# Instruction set\n")
    with pytest.raises(InputError, match=r"no instruction 'vec\.foo'"):
        entry("vec.foo")
