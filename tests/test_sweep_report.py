"""Reports on sweeps without a browser: what the page holds, what is thinned, figures for papers, files, refusals."""

from __future__ import annotations

import io
import itertools
import json
import re
import tomllib
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_rows import SIX, SIZES, results

from accel.errors import AccelError, InputError
from accel.hardware import ChipSpec
from accel.report import sweep_chips, sweep_data, sweep_page, sweep_sheets
from accel.report.markup import LARGEST_PAGE
from accel.report.sweep_papers import pictures
from accel.report.sweep_results import Results, axis_text
from accel.report.sweep_views import best_rows, cells, choose, front, lines
from accel.report.sweeps import View, write_sweep
from accel.report.writing import plotly_source

HOSTILE = "</script><img src=x onerror=alert(1)><!--\n`${1}` %{x} $x$ \u2028"


class Tags(HTMLParser):
    """The tags of a page, and what its scripts hold by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self._of: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._of = dict(attrs).get("id")

    def handle_data(self, data: str) -> None:
        if self._of is not None:
            self.data[self._of] = data
            self._of = None


def data_of(page: str) -> Any:
    """Return what the page's scripts read."""
    tags = Tags(page)
    form = next(a["data-form"] for t, a in tags.tags if a.get("id") == "sweep-data")
    return sweep_data.unpacked(sweep_data.Packed(tags.data["sweep-data"], str(form), "", 0))


@pytest.fixture(scope="module")
def six() -> Results:
    return results(SIX)


@pytest.mark.parametrize(
    "axes",
    [
        {"node.sram_bytes": SIZES},
        {"node.sram_bytes": SIZES, "kernel.bk": (32, 64, 128)},
        SIX,
        {"kernel.bk": (64,)},
        {"kernel.bk": (2**20, 2**21)},
        {"chip.base": ("d1", "mini", "/a/chip.toml"), "problem.layer": ("a", "b"), "kernel.resident": (["w"], [])},
        {},
    ],
    ids=["one", "two", "six", "point", "none ok", "words", "no axis"],
)
def test_a_page_holds_every_row_to_the_bit(axes: dict[str, Any]) -> None:
    made = results(axes)
    page = sweep_page.render(made, script="/* plotly */")
    data = data_of(page)
    assert data["index"] == [row["index"] for row in made.rows]
    assert [data["statuses"][code] for code in data["status"]] == [row["status"] for row in made.rows]
    for axis in data["axes"]:
        own = [row[axis["name"]] for row in made.rows]
        given = [axis["values"][code] for code in axis["codes"]]
        assert given == [json.dumps(value) if isinstance(value, list) else value for value in own]
    held = {measure["name"]: measure["values"] for measure in data["measures"]}
    for name, values in held.items():
        column = values if isinstance(values, list) else [values["all"]] * len(made.rows)
        assert column == [row[name] for row in made.rows], name
    assert sum(int((made.status == name).sum()) for name in made.statuses) == len(made.rows)


def test_a_page_asks_for_nothing(six: Results) -> None:
    page = sweep_page.render(six, script="/* plotly */")
    tags = Tags(page)
    policy = next(a["content"] for t, a in tags.tags if t == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in str(policy)
    assert not [t for t, a in tags.tags if a.get("src") or (a.get("href") or "#")[0] != "#"]


def test_names_are_inert() -> None:
    made = results({HOSTILE: (1, 2), "problem.layer": (HOSTILE, "plain")}, title=HOSTILE)
    page = sweep_page.render(made, script="/* plotly */")
    assert "<img" not in page
    assert data_of(page)["title"] == HOSTILE.strip()
    found = write_text(made, "md")
    assert "<img" not in found


def write_text(made: Results, form: str) -> str:
    from accel.report.sweeps import _made

    return next(iter(_made(form, made, choose(made), made.title, None).values())).decode()


def test_without_plotly_the_tables_stand_alone(six: Results) -> None:
    page = sweep_page.render(six, script=None)
    assert "pip install" in page
    assert len(page) < 1_000_000
    best = sweep_sheets.best(six, choose(six).fixed)
    assert best is not None
    assert str(best.rows[0][1]) in page


def test_the_best_of_held_work_says_where_the_best_of_all_is(six: Results) -> None:
    best = sweep_sheets.best(six, choose(six).fixed)
    assert best is not None
    done = [row for row in six.rows if row["status"] == "ok"]
    least = min(done, key=lambda row: row["seconds"])
    assert best.rows[0][1] != str(least["index"])  # eight cameras are more work than one
    assert "frame.cameras" in best.note
    assert best.note.endswith(f"at point {least['index']}.")
    everything = sweep_sheets.best(six, {})
    assert everything is not None
    assert (everything.rows[0][1], everything.note) == (str(least["index"]), "")


def test_the_best_of_a_cell_is_what_trying_all_finds(six: Results) -> None:
    choice = choose(six)
    value = six.objective
    assert value is not None
    assert choice.fixed["frame.cameras"] == 3  # eight cameras are the hardest work
    made = cells(six, "node.sram_bytes", "kernel.bk", value, choice.fixed)
    held = {axis.name: axis.values[choice.fixed[axis.name]] for axis in six.axes if axis.name in choice.fixed}
    for i, bk in enumerate((32, 64, 128)):
        for j, sram in enumerate(SIZES):
            own = [
                row for row in six.rows
                if row["status"] == "ok" and row["kernel.bk"] == bk and row["node.sram_bytes"] == sram
                and all(row[name] == value for name, value in held.items())
            ]  # fmt: skip
            found = int(made.rows[i, j])
            if own:
                assert six.rows[found]["seconds"] == min(row["seconds"] for row in own)
                assert made.lost[i, j] == ""
            else:
                assert found == -1
                fates = [
                    row["status"] for row in six.rows
                    if row["status"] not in ("ok", "screened")
                    and (row["kernel.bk"], row["node.sram_bytes"]) == (bk, sram)
                    and all(row[name] == value for name, value in held.items())
                ]  # fmt: skip
                assert made.lost[i, j] == (fates[0] if fates else "")
    assert set(made.lost.ravel()) > {""}


def test_a_figure_for_papers_marks_cells_without_figures() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    axes: dict[str, tuple[Any, ...]] = {"node.sram_bytes": (16384, 65536, 262144), "kernel.bk": (32, 64)}
    fates = ("illegal", "timeout", "memory", "failed", "later")
    rows = [
        {"index": 0, "status": status, "seconds": {"ok": 1.0}.get(status), "node.sram_bytes": sram, "kernel.bk": bk}
        for status, (sram, bk) in zip(("ok", *fates), itertools.product(*axes.values()), strict=True)
    ]  # fmt: skip
    made = Results(rows, {"title": "t", "axes": axes, "objective": "seconds"})
    (svg,) = pictures(made, choose(made)._replace(fixed={}), "svg", ["heat"]).values()
    text = svg.decode()
    for told in ("illegal", "timed out", "out of memory", "failed", "later"):
        assert f"1 cells {told}" in text


def test_a_front_is_what_no_other_beats(six: Results) -> None:
    x, y = six.measure("chip_sram_bytes"), six.measure("utilization")
    assert x is not None
    assert y is not None
    made = front(six, x, y, {})
    points = [(row["chip_sram_bytes"], row["utilization"]) for row in six.rows]
    ok = [at for at, row in enumerate(six.rows) if row["status"] == "ok"]
    beaten = {
        at for at in ok
        if any(points[o][0] <= points[at][0] and points[o][1] >= points[at][1] and points[o] != points[at] for o in ok)
    }  # fmt: skip
    assert sorted(made.best.tolist()) == sorted(set(ok) - beaten)


def test_the_knee_is_where_the_work_fits(six: Results) -> None:
    value = six.objective
    assert value is not None
    narrow = {"ports.*.bytes_per_cycle": 0}  # bandwidth so low that what is spilled shows
    (line,) = lines(six, "node.sram_bytes", None, value, {**choose(six).fixed, **narrow})
    assert line.knee is not None
    fits = next(size for size in SIZES if size >= 70_000)
    assert line.knee.x == fits


def test_a_page_that_would_be_too_big_is_thinned_and_says_so() -> None:
    axes = {"node.sram_bytes": tuple(range(2**14, 2**14 + 64 * 25, 64)), "kernel.bk": tuple(range(32, 72)),
            "ports.*.bytes_per_cycle": tuple(float(x) for x in range(10, 15))}  # fmt: skip
    made = results(axes)
    choice = choose(made)
    packed = sweep_data.pack(made, choice, 250_000)
    assert len(packed.text) <= 250_000
    assert packed.rows < len(made.rows)
    assert f"{packed.rows:,} of {len(made.rows):,} points" in packed.said
    data = sweep_data.unpacked(packed)
    assert len(data["index"]) == packed.rows
    kept = set(data["index"])
    value = made.objective
    assert value is not None
    for pair in (("node.sram_bytes", "kernel.bk"), ("kernel.bk", "ports.*.bytes_per_cycle")):
        axes_of = [next(axis for axis in made.axes if axis.name == name) for name in pair]
        assert set(best_rows(made, {}, value, *axes_of).ravel().tolist()) - {-1} <= kept
    page = sweep_page.render(made, script=" " * (LARGEST_PAGE - 1_000_000))
    assert len(page.encode()) < LARGEST_PAGE


def test_chips_come_back_as_they_were(six: Results) -> None:
    indices = [row["index"] for row in six.rows]
    packed = sweep_chips.pack(indices, six.chip)
    assert len(json.dumps(packed)) < 60_000  # a chip is 3,000 characters, and there are 360 points
    for index, number in zip(indices, packed["of"], strict=True):
        row = six.rows[index]
        if number < 0:
            assert row["status"] == "illegal"
            continue
        text = sweep_chips.unpack(packed, number)
        assert text == six.chip(index)
        assert ChipSpec.from_toml(text).node.sram_bytes == row["node.sram_bytes"]


def test_sizes_are_told_in_whole_units() -> None:
    told = {2**18: "256 KiB", 3 << 19: "1.5 MiB", 1310720: "1.25 MiB", 1000: "1,000", 100_000: "100,000"}
    assert {value: axis_text("node.sram_bytes", value) for value in told} == told
    assert axis_text("kernel.bk", 65536) == "65,536"


def test_pictures_for_papers_are_the_same_each_time(six: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first = write_sweep(six, tmp_path / "a", formats=["svg", "png"])
    second = write_sweep(six, tmp_path / "b", formats=["svg", "png"])
    assert sorted(file.name for file in first) == sorted(
        f"{name}.{kind}" for name in ("heat", "lines", "ledger", "front") for kind in ("svg", "png")
    )
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        if one.suffix == ".svg":
            words = " ".join(ET.fromstring(one.read_text("utf-8")).itertext())
            assert "frame.cameras" in words


def test_a_picture_shows_what_is_asked_for(six: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    view = View("lines", x="node.sram_bytes", value="utilization", series="kernel.bk", fixed={"frame.cameras": "2"})
    (file,) = write_sweep(six, tmp_path / "knee.svg", view=view)
    words = " ".join(ET.fromstring(file.read_text("utf-8")).itertext())
    assert "node.sram_bytes" in words
    assert "kernel.bk = 128" in words
    assert "frame.cameras = 2" in words


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"path": "x.html", "view": View(value="secnds")},
            "value 'secnds' is no name of this sweep; did you mean 'seconds'",
        ),
        ({"path": "x.html", "view": View(fixed={"frame.cameras": "3"})}, "frame.cameras has no value '3'"),
        ({"path": "x.html", "view": View(fixed={"frame.camras": "3"})}, "no axis 'frame.camras' to fix; did you mean"),
        ({"path": "x.pdf"}, "use a name that ends in .html"),
        ({"path": "x.svg", "view": View("knee")}, "no figure 'knee'"),
        ({"path": "x.html", "formats": ["csv"]}, "use the name of a folder"),
        ({"path": "out", "formats": ["cvs"]}, "no such format; did you mean 'csv'"),
    ],
)
def test_bad_wishes_are_one_line(six: Results, arguments: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        write_sweep(six, tmp_path / arguments.pop("path"), **arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    none = results({"kernel.bk": (2**20, 2**21)})
    with pytest.raises(AccelError, match="no point has what it shows"):
        write_sweep(none, tmp_path / "x.svg")
    page = sweep_page.render(none, script=None)
    assert "No point has figures" in page
    with pytest.raises(InputError, match="without a single point"):
        write_sweep(_Empty(), tmp_path / "x.html")


class _Empty:
    path = Path("empty.db")

    def rows(self) -> list[dict[str, Any]]:
        return []

    def meta(self) -> dict[str, Any]:
        return {}


def test_tables_are_tidy(six: Results, tmp_path: Path) -> None:
    import csv

    files = {file.name: file for file in write_sweep(six, tmp_path / "t", formats=["csv", "md"])}
    points = list(csv.DictReader(io.StringIO(files["points.csv"].read_text("utf-8"))))
    assert len(points) == len(six.rows)
    best = next(p for p in points if p["status"] == "ok")
    assert float(best["seconds"]) == min(row["seconds"] for row in six.rows if row["status"] == "ok")
    counted = {
        row["status"]: int(row["points"]) for row in csv.DictReader(io.StringIO(files["counts.csv"].read_text()))
    }
    assert counted == {name: int(np.sum(six.status == name)) for name in six.statuses}
    lost = list(csv.DictReader(io.StringIO(files["reasons.csv"].read_text())))
    assert sum(int(row["points"]) for row in lost) == len(six.rows) - counted["ok"]
    assert "# Buffers for eight cameras" in files["report.md"].read_text("utf-8")


def test_of_equally_hard_work_the_last_is_shown() -> None:
    made = results({"node.sram_bytes": SIZES, "frame.height": (960, 1876, 2160)}, illegal=False)
    for row in made.rows:
        row["seconds"] = 1e-3 * row["node.sram_bytes"]  # type: ignore[index]  # whatever the height
    assert choose(made).fixed == {"frame.height": 2}


def test_an_axis_may_be_the_objective() -> None:
    made = results({"node.sram_bytes": SIZES, "kernel.bk": (64, 128)}, objective="node.sram_bytes")
    assert made.objective is not None
    assert choose(made).value == "node.sram_bytes"
    best = sweep_sheets.best(made, {})
    assert best is not None
    ok = [row["node.sram_bytes"] for row in made.rows if row["status"] == "ok"]
    assert ("node.sram_bytes", axis_text("node.sram_bytes", min(ok))) in best.rows
    assert data_of(sweep_page.render(made, script="//"))["objective"] == {"name": "node.sram_bytes", "more": False}


def test_an_objective_may_want_much() -> None:
    made = results({"node.sram_bytes": SIZES}, objective="-utilization")
    best = sweep_sheets.best(made, {})
    assert best is not None
    top = max(row["utilization"] for row in made.rows if row["status"] == "ok")
    index = next(row["index"] for row in made.rows if row["utilization"] == top)
    assert best.rows[0][1] == str(index)
    assert best.title == "The best point: most utilization"


def test_the_store_of_a_real_sweep_becomes_a_page(tmp_path: Path) -> None:
    import accel

    space = {
        "problem": {"kind": "matmul", "m": 64, "n": 64, "k": 64}, "chip": {"base": "mini"}, "fidelity": "bound",
        "axes": {"node.sram_bytes": [65536, 131072, 262144], "noc.link_bytes_per_cycle": [32, 64]},
    }  # fmt: skip
    store = tmp_path / "s.db"
    accel.sweep(space, store=store, workers=1)
    (page,) = accel.write_report(store, tmp_path / "s.html")
    data = data_of(page.read_text("utf-8"))
    assert data["index"] == list(range(6))
    assert page.stat().st_size < LARGEST_PAGE
    for at, number in enumerate(data["chips"]["of"]):
        chip = ChipSpec.from_toml(sweep_chips.unpack(data["chips"], number))
        sram, link = (next(a for a in data["axes"] if a["name"] == name) for name in space["axes"])
        assert chip.node.sram_bytes == sram["values"][sram["codes"][at]]
        assert chip.noc.link_bytes_per_cycle == link["values"][link["codes"][at]]
    with accel.sweep.Store.open(store) as kept:
        rows = kept.rows()
    seconds = next(m["values"] for m in data["measures"] if m["name"] == "seconds")
    assert (seconds if isinstance(seconds, list) else [seconds["all"]] * 6) == [row["seconds"] for row in rows]
    assert plotly_source() is None or "Plotly" in page.read_text("utf-8")
    assert tomllib.loads(sweep_chips.unpack(data["chips"], 0))["name"] == "mini"
