"""The tile study: kept rows are what the sweeps give today, and no default loses more than the page says."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "studies" / "tiles"


def _study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tile_study_run", FOLDER / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


STUDY = _study()


def test_every_sweep_has_all_its_rows() -> None:
    kept = STUDY.by_sweep(STUDY.load())
    assert set(kept) == {path.stem for path in (FOLDER / "sweeps").glob("*.toml")} == set(STUDY.shapes.SHAPES)
    for name, rows in kept.items():
        sweep = STUDY.space(name)
        assert [row["point"] for row in rows] == ["default", *map(str, range(len(sweep)))]
        assert rows[1]["tiling"] == STUDY.text_of(STUDY.tiling_of(sweep.values(0)))
        assert rows[0]["status"] == rows[1]["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "point"), [("matmul-stem-k27", "default"), ("fwd-ragged", "0"), ("wgrad-stem-k27", "default")]
)
def test_kept_rows_are_those_of_today(name: str, point: str) -> None:
    row = next(row for row in STUDY.load() if (row["sweep"], row["point"]) == (name, point))
    assert STUDY.again(row) == row, "run  python docs/studies/tiles/run.py  and look at what has changed"


def test_every_default_that_loses_much_is_on_the_page() -> None:
    page = STUDY.PAGE.read_text(encoding="utf-8")
    listed = set(re.findall(r"^- `([^`]+)`", page.split("## What remains", 1)[1], re.MULTILINE))
    gaps = STUDY.gaps(STUDY.load())
    assert {name for name, gap in gaps.items() if gap > STUDY.WORTH} == listed
