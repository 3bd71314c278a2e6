"""The page in a browser: every figure is drawn, whatever its names, and nothing complains."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from browser import Browser
from report_page import Page

import accel
from accel.problem import Matmul
from accel.report.subject import Subject, Verified, subjects_of
from accel.report.writing import plotly_source, write_page

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
HOSTILE = "</script><b onload=x>&amp; %{y} <br><a href='javascript:alert(1)'>long name" + 60 * "n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium to draw the page; install one to run this"),
]


@accel.kernel
def still(k: accel.K) -> None:
    """Fills a tile: nothing to see on most figures."""
    tile = k.sram((4, 16), "fp32", "tile")

    @k.thread
    def main() -> None:
        k.vec.fill(tile, 1.0)


@pytest.fixture(scope="module")
def subjects() -> tuple[Subject, ...]:
    compared = accel.bench(Matmul(96, 80, 64), "mini", ["v100-sxm2", "a100-sxm-80gb"])
    resident = accel.bench(Matmul(64, 64, 64), "mini", ["h100-sxm"], resident=("a", "b", "c"))
    named = dataclasses.replace(subjects_of(compared)[0], label=HOSTILE)
    return (named, *subjects_of([resident, still.build("mini", mesh=(1, 1))]))


def drawn(page: Path, tmp_path: Path, *flags: str) -> str:
    """Return the page as it stands once its script has run, after asserting that nothing was logged."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", *flags, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not re.findall(r"CONSOLE.*", done.stderr)
    return done.stdout


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, 2), slice(2, 3), slice(0, 3)])
def test_every_figure_is_drawn(which: slice, subjects: tuple[Subject, ...], tmp_path: Path) -> None:
    shown = subjects[which]
    page = write_page(shown, tmp_path / "p.html", title=shown[0].label, script=plotly_source())
    before = Page(page.read_text("utf-8"))
    dom = drawn(page, tmp_path, "--dump-dom")
    assert 'data-ready="yes"' in dom
    outside = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert not re.search(r"<b onload|<a [^>]*javascript:", outside)
    figures = re.findall(r'<figure [^>]*id="([^"]+)">(.*?)</figure>', dom, re.DOTALL)
    assert {name for name, _ in figures} == set(before.data["figures"])
    chosen = {name for name, _ in figures if name.startswith(("s0-", "all-"))}
    for name, inside in figures:
        assert ("main-svg" in inside) == (name in chosen), name  # others are drawn when they are chosen


def test_it_prints(subjects: tuple[Subject, ...], tmp_path: Path) -> None:
    page = write_page(subjects, tmp_path / "p.html", title="three", script=plotly_source())
    drawn(page, tmp_path, f"--print-to-pdf={tmp_path / 'p.pdf'}")
    printed = (tmp_path / "p.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(printed) > 30_000  # figures are in it


@pytest.mark.parametrize("width", [1200, 1000, 800])
def test_the_table_of_all_has_room_for_every_column(width: int, tmp_path: Path) -> None:
    gpus = ["v100-sxm2", "a100-sxm-80gb", "h100-sxm"]
    (one,) = subjects_of(accel.bench(Matmul(96, 80, 64), "mini", gpus))
    labels = ("gpt3-175b: attention projection", "cameras: 8 x 1280x960 stem 3x3/2")
    shown = [dataclasses.replace(one, label=label, verified=Verified(9, 9, 0), hazards=0) for label in labels]
    page = write_page(shown, tmp_path / "p.html", title="two", script=None)
    text = page.read_text("utf-8")
    assert f">{one.timing.cycles:,}</td>" in text
    page.write_text(text.replace(f">{one.timing.cycles:,}</td>", ">115,205,906</td>"), "utf-8")
    with Browser(tmp_path, width=width) as browser:
        browser.open(page)
        assert browser.js("document.querySelector('.sortable thead').textContent.includes('hazards')")
        own = "document.querySelector('.sortable').parentElement"
        assert browser.js(f"{own}.scrollWidth - {own}.clientWidth") == 0
        assert browser.js("document.documentElement.scrollWidth") == width
