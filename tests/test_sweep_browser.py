"""The page of a sweep in a browser, used with mouse and keys: filters, clicks, chips, knees, files, hostile names."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import BROWSER, Browser
from sweep_rows import SIX, SIZES, results

from accel.hardware import ChipSpec
from accel.hardware import chip as load_chip
from accel.report import sweep_page
from accel.report.sweep_views import choose, front, lines
from accel.report.writing import plotly_source
from accel.sweep.fronts import knee, pareto

HOSTILE = "</script><img src=x onerror=\"document.title='pwned'\"><b>%{x}</b> `${1}`"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium to use the page; install one to run this"),
    pytest.mark.skipif(plotly_source() is None, reason="no plotly for the page; pip install 'accel-codesign[report]'"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def six(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The page of six axes, freshly opened; whatever it complains of fails the test."""
    opened(browser, tmp_path, sweep_page.render(results(SIX), script=plotly_source()))
    yield browser
    assert browser.complaints == []
    assert [address for address in browser.asked if not address.startswith(("file:", "data:", "blob:"))] == []


def opened(browser: Browser, folder: Path, page: str) -> None:
    browser.complaints.clear()
    browser.asked.clear()
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    browser.open(file)


def shown(browser: Browser, name: str) -> list[dict[str, object]]:
    """Return the numbers of a figure as its CSV button saves them."""
    place = browser.folder / "downloads" / f"{name}.csv"
    place.unlink(missing_ok=True)
    browser.click(f"#{name}-files button:nth-child(1)")
    return list(csv.DictReader(io.StringIO(browser.downloaded(f"{name}.csv").decode())))


def test_a_filter_acts_on_every_figure_and_on_the_table(six: Browser) -> None:
    made = results(SIX)
    before = {row["node.sram_bytes"] for row in shown(six, "heat")}
    assert len(before) == len(SIZES)
    six.click(".drop[data-axis='kernel.bk'] summary")
    six.click(".drop[data-axis='kernel.bk'] .tick:nth-of-type(3) input")  # 128 goes
    kept = [row for row in made.rows if row["kernel.bk"] != 128 and row["status"] == "ok"]
    assert six.js("document.getElementById('filter-said').textContent") == f"{len(kept)} of {len(made.rows)} points"
    for name in ("heat", "lines", "ledger", "front"):
        own = {row["kernel.bk"] for row in shown(six, name) if row.get("index") and "kernel.bk" in row}
        assert own <= {"32", "64"}, name
        indices = {int(str(row["index"])) for row in shown(six, name) if row["index"]}
        assert indices <= {row["index"] for row in kept}, name
    best = min(row["seconds"] for row in kept)
    first = six.js("document.querySelector('#points-body tr').textContent")
    assert str(next(row["index"] for row in kept if row["seconds"] == best)) in first
    six.click("#filter-status .tick:nth-of-type(1) input")  # ok goes as well: nothing is left
    assert six.js("document.getElementById('points-said').textContent") == "no point passes the filters"
    assert six.js("document.getElementById('lines-plot').hidden")
    six.click("#reset")
    assert six.js("accelSweep.passing") == sum(row["status"] == "ok" for row in made.rows)


def test_a_click_shows_the_point_and_its_chip(six: Browser, tmp_path: Path) -> None:
    made = results(SIX)
    six.js("document.getElementById('heat').scrollIntoView()")
    six.click("#heat-plot .nsewdrag", 0.5 / 3, 0.5 / len(SIZES))  # the upper left cell
    six.until("!document.getElementById('design').hidden")
    across, up = six.js("[accelSweep.data.choice.x, accelSweep.data.choice.y]")
    index = int(six.js("document.getElementById('design-title').textContent").removeprefix("Point "))
    row = made.rows[index]
    held = {
        axis.name: axis.values[code]
        for axis in made.axes
        for name, code in choose(made).fixed.items()
        if axis.name == name
    }
    corner = held | {across: min(SIX[across]), up: max(SIX[up])}
    assert {name: row[name] for name in corner} == corner
    assert row["seconds"] == min(
        other["seconds"] for other in made.rows
        if other["status"] == "ok" and all(other[name] == value for name, value in corner.items())
    )  # fmt: skip
    six.click("#copy")
    six.until("document.querySelector('#design .note[role=status]').textContent === 'copied'")
    text = six.js("navigator.clipboard.readText()")
    (tmp_path / "chip.toml").write_text(text, "utf-8")
    expected = load_chip("mini").replace(
        **{name: value for name, value in row.items() if name.startswith(("node.", "noc."))}
    )
    assert load_chip(tmp_path / "chip.toml") == expected
    six.click("#save")
    assert ChipSpec.from_toml(six.downloaded(f"point-{index}.toml").decode()) == expected
    six.press("Escape")
    assert six.js("document.getElementById('design').hidden")


def test_keys_are_enough(six: Browser) -> None:
    six.js("document.querySelector('#points-body button').focus()")
    six.press("Enter")
    six.until("!document.getElementById('design').hidden")
    assert six.js("document.activeElement.id") == "design"
    six.press("Escape")
    assert six.js("document.activeElement.getAttribute('aria-label')").startswith("Show point ")
    six.js("document.querySelector('#points-head button').focus()")
    six.press("Enter")
    assert six.js("document.querySelector('#points-head th').getAttribute('aria-sort')") == "ascending"
    assert six.js("[...document.querySelectorAll('[onclick], div[tabindex], span[tabindex]')].length") == 0


def test_python_and_the_page_agree(six: Browser) -> None:
    made, choice = results(SIX), choose(results(SIX))
    value = made.objective
    assert value is not None
    assert choice.line_x is not None
    state = "{...accelSweep.data.choice, x: accelSweep.data.choice.line_x, by: '', scale: 'auto'}"
    knees = six.js(f"accelSweep.draw.lines({state}, 900).knees")
    for line, told in zip(lines(made, choice.line_x, choice.series, value, choice.fixed), knees, strict=True):
        assert ("none" in told) == (line.knee is None)
    x, y = (made.measure(name) for name in choice.front or ())
    assert x is not None
    assert y is not None
    drawn = {int(str(row["index"])) for row in shown(six, "front") if row["on_front"] == "true"}
    assert drawn == set(front(made, x, y, choice.fixed).best.tolist())


def test_knees_and_fronts_are_those_of_python(six: Browser) -> None:
    chance = random.Random(1)
    cases = []
    for _ in range(300):
        count = chance.randrange(1, 12)
        x = [float(chance.randrange(8)) for _ in range(count)]
        y = [chance.choice([1.0, 1.02, 1.03, 1.5, 3.0, -1.0, 0.0, chance.random()]) for _ in range(count)]
        cases.append((x, y, chance.random() < 0.5, chance.random() < 0.5))
    page = six.js(
        f"{json.dumps(cases)}.map(([x, y, a, b]) => [accelSweep.knee(x, y, a), accelSweep.pareto(x, y, a, b)])"
    )
    for (x, y, a, b), (bend, on) in zip(cases, page, strict=True):
        expected = knee(x, y, maximise=a)
        assert bend == (-1 if expected is None else expected.index), (x, y, a)
        more = [name for name, up in (("x", a), ("y", b)) if up]
        kept = pareto({"x": x, "y": y}, [name for name in ("x", "y") if name not in more], more)
        assert sorted(on) == kept.tolist(), (x, y, a, b)


def test_figures_are_files(six: Browser) -> None:
    for name in ("heat", "lines", "ledger", "front"):
        six.click(f"#{name}-files button:nth-child(3)")
        drawn = ET.fromstring(six.downloaded(f"{name}.svg").decode())
        assert drawn.tag.endswith("svg")
        six.click(f"#{name}-files button:nth-child(4)")
        assert six.downloaded(f"{name}.png").startswith(b"\x89PNG")
        six.click(f"#{name}-files button:nth-child(2)")
        assert len(json.loads(six.downloaded(f"{name}.json"))) > 3
    six.click("#points-files button:nth-child(1)")
    points = list(csv.DictReader(io.StringIO(six.downloaded("points.csv").decode())))
    ok = [row for row in results(SIX).rows if row["status"] == "ok"]
    assert sorted(int(point["index"]) for point in points) == [row["index"] for row in ok]
    by_index = {row["index"]: row for row in ok}
    assert all(float(point["seconds"]) == by_index[int(point["index"])]["seconds"] for point in points)


def test_names_are_only_text(browser: Browser, tmp_path: Path) -> None:
    made = results({"problem.layer": (HOSTILE, "plain"), HOSTILE: (1, 2, 3), "node.sram_bytes": SIZES}, title=HOSTILE)
    opened(browser, tmp_path, sweep_page.render(made, script=plotly_source()))
    browser.click("#points-body button")
    browser.click(".drop summary")
    browser.click("#heat-plot .nsewdrag", 0.1, 0.9)
    assert browser.js("document.querySelectorAll('img, #design b, figcaption b').length") == 0
    assert browser.js("document.title") == HOSTILE
    assert browser.complaints == []


@pytest.mark.parametrize(
    "axes",
    [
        {}, {"kernel.bk": (64,)}, {"node.sram_bytes": SIZES}, {"kernel.bk": (2**20, 2**21)},
        {"chip.base": ("d1", "mini"), "problem.layer": ("a", "b" * 80)},
        {"node.sram_bytes": tuple(range(2**14, 2**16, 512)), "kernel.bk": tuple(range(32, 64))},
    ],
    ids=["no axis", "point", "one", "none ok", "words", "many"],
)  # fmt: skip
def test_whatever_varies_the_page_works(axes: dict[str, tuple[object, ...]], browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, sweep_page.render(results(axes), script=plotly_source()))
    for name in ("heat", "lines", "ledger", "front"):
        assert browser.js(f"document.getElementById('{name}-a').textContent")
        drawn = browser.js(f"document.querySelectorAll('#{name}-plot .main-svg').length")
        assert (drawn > 0) == (not browser.js(f"document.getElementById('{name}-plot').hidden"))
    browser.click("#points-body button")
    assert browser.js("document.getElementById('design-title').textContent").startswith("Point ")
    assert browser.js("document.body.scrollWidth <= window.innerWidth")
    assert browser.complaints == []


def test_without_plotly_filters_and_tables_work(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, sweep_page.render(results(SIX), script=None))
    assert browser.js("document.querySelectorAll('.main-svg').length") == 0
    assert browser.js("document.querySelectorAll('#heat-numbers tbody tr').length") > 3
    before = browser.js("accelSweep.passing")
    browser.click("#filter-status .tick:nth-of-type(2) input")
    assert browser.js("accelSweep.passing") > before
    assert browser.complaints == []


def test_a_number_that_is_none_stays_none(browser: Browser, tmp_path: Path) -> None:
    made = results({"node.sram_bytes": SIZES})
    made.rows[1]["energy_j"] = math.nan  # type: ignore[index]
    opened(browser, tmp_path, sweep_page.render(made, script=plotly_source()))
    column = browser.js("accelSweep.measures.get('energy_j').values")
    assert column[1] is None
    assert np.isfinite([value for at, value in enumerate(column) if at != 1]).all()
