"""Cycles of a few programs, kept exactly: a change of timing must be seen, reviewed and written down.

These numbers come from the model itself, so they show change and nothing else; what is right is the business of the
hand-computed microprograms and of the laws of the cycle model.
"""

from __future__ import annotations

import pytest
from golden_cases import PROGRAMS, README, TABLE_BEGIN, TABLE_END, golden, readme_table

REFRESH = "if the change is wanted, run  python tests/golden/update.py  and say why in the commit message"


@pytest.mark.parametrize("name", PROGRAMS)
def test_cycles_are_those_on_record(name: str) -> None:
    kept = golden()[name]
    now = PROGRAMS[name]().time().cycles
    assert now == kept, f"{name}: {kept} cycles on record, {now} now; {REFRESH}"


def test_no_record_without_a_program() -> None:
    assert golden().keys() == PROGRAMS.keys(), REFRESH


def test_the_table_of_the_readme_follows_from_the_record() -> None:
    text = README.read_text("utf-8")
    assert text.count(TABLE_BEGIN) == text.count(TABLE_END) == 1
    shown = text.partition(TABLE_BEGIN)[2].partition(TABLE_END)[0]
    assert shown == readme_table(golden()), REFRESH
