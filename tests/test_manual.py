"""docs/isa.md is the manual that the instruction table generates, and has every instruction with all operands."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.isa.manual import manual, rows_as_dicts
from accel.isa.schema import Engine, Row
from accel.isa.table import ROWS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "isa.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == manual(), "docs/isa.md is stale: run  accel isa --markdown > docs/isa.md"


def _section(row: Row) -> str:
    """Return the text of an instruction's section, from its heading to the next one."""
    _, found, rest = PAGE.read_text("utf-8").partition(f"\n### {row.mnemonic}\n")
    assert found, f"docs/isa.md has no section {row.mnemonic}"
    return rest.partition("\n##")[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mnemonic)
def test_every_instruction_has_its_section(row: Row) -> None:
    text = _section(row)
    assert f"(opcode {row.opcode})" in text
    assert row.meaning in text
    assert "Cost: " in text
    for operand in row.operands:
        assert f"| `{operand.name}` |" in text


def test_engines_are_the_chapters_and_plain_data_says_the_same() -> None:
    chapters = [line[3:] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("## ")]
    assert chapters == [engine.name.lower() for engine in Engine]
    assert [(d["mnemonic"], d["opcode"], d["engine"]) for d in rows_as_dicts()] == [
        (row.mnemonic, row.opcode, row.engine.name.lower()) for row in ROWS
    ]
