"""What a sweep starts from: base chips that are files, kept in the store; a dict whose axes keep their order."""

from __future__ import annotations

import json
import os
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import SMALL, Instant

import accel
from accel.errors import SpecError
from accel.report.sweeps import results_of
from accel.sweep import Space, Store

OWN = SMALL.replace('base = "mini"', 'base = "own.toml"')


def chip_file(path: Path, hop_cycles: int) -> Path:
    path.write_text(accel.chip("mini").replace(**{"noc.hop_cycles": hop_cycles}).to_toml())
    return path


def test_a_store_that_was_moved_away_from_its_chip_still_knows_it(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(OWN)
    chip_file(tmp_path / "own.toml", 7)
    accel.sweep(tmp_path / "s.toml", store=tmp_path / "s.db", executor=Instant())
    chip_file(tmp_path / "own.toml", 9)  # what is there now is another chip
    (tmp_path / "far").mkdir()
    (tmp_path / "s.db").rename(tmp_path / "far" / "s.db")
    found = results_of(tmp_path / "far" / "s.db")
    chips = [accel.ChipSpec.from_toml(found.chip(row["index"]) or "") for row in found.rows]
    assert {chip.noc.hop_cycles for chip in chips} == {7}
    assert [chip.node.sram_bytes for chip in chips] == [row["node.sram_bytes"] for row in found.rows]
    with Store.open(tmp_path / "far" / "s.db") as store:
        assert accel.ChipSpec.from_toml(store.meta()["bases"]["own.toml"]).noc.hop_cycles == 7


def test_a_store_without_kept_chips_looks_for_them_beside_it(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(OWN)
    chip_file(tmp_path / "own.toml", 7)
    accel.sweep(tmp_path / "s.toml", store=tmp_path / "s.db", executor=Instant())
    for damage in (None, [], {"own.toml": 3}, {"other": "x"}):
        with sqlite3.connect(tmp_path / "s.db") as connection:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'bases'", (json.dumps(damage),))
        connection.close()
        found = results_of(tmp_path / "s.db").chip(0)
        if damage == {"own.toml": 3}:
            assert found is None  # no chip, and no traceback either
        else:
            assert accel.ChipSpec.from_toml(found or "").noc.hop_cycles == 7


def test_bases_are_taken_as_written_and_changed_by_the_sweep(tmp_path: Path) -> None:
    text = OWN.replace('base = "own.toml"', 'base = "own.toml"\nclock_hz = 1500000000')
    chip_file(tmp_path / "own.toml", 7)
    space = Space.from_toml(text, folder=tmp_path)
    again = Space.from_toml(text, bases=space.base_texts())
    assert again.digest() == space.digest()
    assert [again.resolve(i).chip for i in range(16)] == [space.resolve(i).chip for i in range(16)]
    assert accel.ChipSpec.from_toml(space.base_texts()["own.toml"]).clock_hz == accel.chip("mini").clock_hz


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_chip_that_is_a_pipe_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.toml")
    with pytest.raises(SpecError, match=r"\[chip\] base: 'own\.toml' is a pipe or a device; give a TOML file"):
        Space.from_toml(OWN, folder=tmp_path)
    with pytest.raises(SpecError, match=r"\[axes\] chip\.base: 'own\.toml' is a pipe or a device"):
        Space.from_dict(
            {**tomllib.loads(SMALL), "axes": {"problem.k": [16], "chip.base": ["mini", "own.toml"]}}, folder=tmp_path
        )


def test_axes_of_a_dict_keep_their_order() -> None:
    axes: dict[str, Any] = {
        "node.sram_bytes": {"from": 65536, "to": 262144, "factor": 2},
        "problem.k": [16, 32],
        "kernel": {"bm": {"from": 16, "to": 64, "factor": 2}, "bk": [16, 32]},
        "noc.hop_cycles": {"from": 1, "to": 3, "step": 1},
        "kernel.resident": [[], ["b"]],
    }
    data = {**tomllib.loads(SMALL), "axes": axes, "zip": {"z": ["node.sram_bytes", "noc.hop_cycles"]}, "title": "a\nb"}
    space = Space.from_dict(data)
    names = ["node.sram_bytes", "problem.k", "kernel.bm", "kernel.bk", "noc.hop_cycles", "kernel.resident"]
    assert [axis.name for axis in space.axes] == names
    assert tomllib.loads(space.text) == data
    assert Space.from_toml(space.text).digest() == space.digest()
    turned = Space.from_dict({**data, "axes": dict(reversed(axes.items()))})
    assert [axis.name for axis in turned.axes] == [
        *reversed(names[-2:]),
        "kernel.bm",
        "kernel.bk",
        *reversed(names[:2]),
    ]


@pytest.mark.parametrize("axes", [{"a.b": {"from": object()}}, {3: [1]}, {"a.b": {4: 1, "from": 2}}, {"a.b": None}])
def test_axes_that_toml_does_not_hold_are_one_error(axes: Any) -> None:
    with pytest.raises(SpecError, match="give what TOML holds"):
        Space.from_dict({**tomllib.loads(SMALL), "axes": axes})


def test_an_axis_nested_without_end_is_one_error() -> None:
    deep: dict[str, Any] = {}
    deep["kernel"] = deep
    with pytest.raises(SpecError, match="sweep: "):
        Space.from_dict({**tomllib.loads(SMALL), "axes": deep})
