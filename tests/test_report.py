"""Reports: every figure shows the Timing's own numbers; pages are whole, small, safe and fetch nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from report_page import Page

import accel
from accel.comparison import Comparison
from accel.errors import AccelError, InputError, UnsupportedError
from accel.problem import Matmul
from accel.program import Program, Verified
from accel.report import page, summaries, text, views, writing
from accel.report.figure import CAUSES, Links, Roof
from accel.report.subject import subjects_of
from accel.report.views import figures
from accel.timing.ledger import CAUSES as LEDGER
from accel.timing.trace import KINDS, WAYS

HOSTILE = "</script><script>alert(1)</script> & <b onload=x>\"quoted\" 'name' | `md` $x^2$ %{y}"
GPUS = ("v100-sxm2", "a100-sxm-80gb", "h100-sxm")


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return accel.bench(Matmul(104, 80, 64), "mini", GPUS)


@pytest.fixture(scope="module")
def shown(compared: Comparison) -> Page:
    return Page(page.render(subjects_of(compared), title="one matmul", script="0;"))


@accel.kernel
def still(k: accel.K) -> None:
    """Fills a tile on one node: no memory traffic, no matrix work, no mesh, no wait, no flop."""
    tile = k.sram((4, 16), "fp32", "tile")

    @k.thread
    def main() -> None:
        k.vec.fill(tile, 1.0)


def rows_of(sheet: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(sheet)))


def test_the_ledger_is_that_of_the_timing(compared: Comparison, shown: Page) -> None:
    figure = shown.data["figures"]["s0-ledger"]
    assert tuple(figure["causes"]) == LEDGER
    assert dict(zip(figure["causes"], figure["shares"][0], strict=True)) == compared.timing.losses


def test_every_cause_has_a_colour_of_its_own() -> None:
    assert set(KINDS) - {"control", "off"} <= set(CAUSES)  # those two are drawn as issue
    assert {f"copy_{way}" for way in WAYS} <= set(CAUSES)
    drawn = [(CAUSES[cause].colour, CAUSES[cause].hatch) for cause in LEDGER]
    assert len(set(drawn)) == len(LEDGER)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour, _ in drawn)


def test_node_maps_are_those_of_the_timing(compared: Comparison, shown: Page) -> None:
    t, figure = compared.timing, shown.data["figures"]["s0-nodes"]
    grids = {grid["name"]: grid["values"] for grid in figure["grids"]}
    for unit, busy in t.busy.items():
        assert grids[f"{unit}_busy"] == busy.reshape(-1).tolist()
    for index, cause in enumerate(LEDGER):
        cycles = t.node_parts[:, :, index].reshape(-1) / t.parts_per_cycle
        assert grids.get(cause, [0] * cycles.size) == pytest.approx(cycles.tolist(), abs=5e-4)
    waits = sum(t.node_parts[:, :, LEDGER.index(c)] for c in ("wait_memory", "wait_mesh", "wait_peer"))
    assert grids["waits"] == pytest.approx((waits / t.parts_per_cycle).reshape(-1).tolist(), abs=5e-4)
    assert figure["cycles"] == t.cycles


def test_link_maps_are_those_of_the_timing(compared: Comparison, shown: Page) -> None:
    figure, chip = shown.data["figures"]["s0-links"], compared.program.chip
    assert figure["values"] == compared.timing.link_bytes.reshape(-1).tolist()
    assert figure["capacity"] == compared.timing.cycles * chip.noc.link_bytes_per_cycle
    assert (figure["rows"], figure["cols"]) == (chip.mesh.site_rows, chip.mesh.site_cols)


def test_a_site_sends_east_west_south_and_north_in_the_order_of_the_timing() -> None:
    words = dict.fromkeys(("name", "title", "alt", "sheet"), "not looked at")
    links = Links(rows=1, cols=2, capacity=10, values=tuple(range(8)), holes=(), **words)
    assert links.of(0, 1) == (4, 5, 6, 7)


def test_the_ridge_of_d1_is_its_peak_over_its_memory() -> None:
    # By hand: 362.496 TFLOPS over 800 GB/s.
    assert Roof("d1", 362.496, 800.0).ridge == pytest.approx(453.12)


def test_the_roofline_has_the_chip_its_bound_and_the_gpus(compared: Comparison, shown: Page) -> None:
    figure, chip, t = shown.data["figures"]["s0-roofline"], compared.program.chip, compared.timing
    roofs = {roof["name"]: roof for roof in figure["roofs"]}
    assert roofs["mini"]["peak_tflops"] == pytest.approx(chip.peak_flops("bf16") / 1e12)
    assert roofs["mini"]["memory_gbps"] == pytest.approx(chip.memory_bytes_per_s / 1e9)
    assert set(roofs) == {"mini", *GPUS}
    own, bound, *others = figure["points"]
    assert own["tflops"] == t.tflops
    assert own["intensity"] == t.flops / (t.bytes["memory_read"] + t.bytes["memory_write"])
    assert bound["tflops"] == pytest.approx(compared.problem.flops / compared.chip.bound_seconds / 1e12)
    # Points lie on or under their roofs: a bound, a GPU or a program above one would be an error of units.
    for point in figure["points"]:
        roof = roofs[point["of"]]
        limit = min(roof["peak_tflops"], point["intensity"] * roof["memory_gbps"] / 1e3)
        assert point["tflops"] <= limit * (1 + 1e-9), point["name"]
    assert [(p["name"], p["tflops"], p["mark"]) for p in others] == [
        (row.name, row.tflops, row.source) for row in compared.baselines
    ]


def test_the_critical_path_covers_every_cycle_once(compared: Comparison, shown: Page) -> None:
    figure = shown.data["figures"]["s0-critical_path"]
    (view,) = figure["views"]
    spans = sorted(zip(view["start"], view["end"], strict=True))
    assert spans[0][0] == 0
    assert spans[-1][1] == compared.timing.cycles
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    drawn = [(figure["causes"][c], s, e) for c, s, e in zip(view["cause"], view["start"], view["end"], strict=True)]
    assert drawn == [(s.cause, s.start, s.end) for s in compared.timing.critical_path]


def test_every_figure_has_words_and_a_table(shown: Page) -> None:
    plots = shown.all("div", role="img")
    assert {plot["data-figure"] for plot in plots} == set(shown.data["figures"])
    ids = {attributes.get("id") for _, attributes in shown.attributes}
    for plot in plots:
        assert {plot["aria-labelledby"], plot["aria-describedby"]} <= ids
    assert shown.tags.count("figure") == shown.tags.count("figcaption") == shown.tags.count("details") == len(plots)
    assert shown.tags.count("h1") == 1
    assert shown.all("html", lang="en")


def test_a_page_is_whole_small_and_fetches_nothing(compared: Comparison, tmp_path: Path) -> None:
    (written,) = accel.write_report(compared, tmp_path / "r.html")
    content = written.read_text("utf-8")
    assert len(content.encode()) < page.LARGEST_PAGE == 6_000_000
    parsed = Page(content)
    assert parsed.open == []
    assert parsed.addresses == ["#main"]
    assert parsed.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"].startswith(
        "default-src 'none'"
    )
    assert len(parsed.scripts) == 3  # the numbers, Plotly once, the page's own
    own = parsed.scripts[0] + parsed.scripts[2]
    assert "http" not in own.replace("http-equiv", "")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_names_are_text_wherever_they_stand(compared: Comparison, tmp_path: Path) -> None:
    subject = subjects_of(compared)[0]
    program = Program(compared.program.isa, compared.program.chip.replace(name=HOSTILE))
    hostile = [
        dataclasses.replace(subject, label=f"{HOSTILE} {n}", program=program, origin=HOSTILE,
                            verified=Verified(64, 64, 3), hazards=2)
        for n in range(2)
    ]  # fmt: skip
    parsed = Page(page.render(hostile, title=HOSTILE, script="0;", facts=[(HOSTILE, HOSTILE)]))
    assert parsed.open == []
    assert len(parsed.scripts) == 3
    assert not [a for t, a in parsed.attributes if t == "b" or "onload" in a]
    words = " ".join(HOSTILE.split())
    assert parsed.text.count(words) > 10
    assert parsed.all("dd", **{"class": "bad"})
    assert "3 WRONG" in parsed.text
    assert f"{HOSTILE} 0" in parsed.data["figures"]["all-ledgers"]["labels"]
    written = text.markdown(hostile, title=HOSTILE)
    assert "<script" not in written
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in written.split("### Next to GPUs")[1].splitlines()[2:6]}
    assert len(widths) == 1


def test_several_are_one_page_with_a_sorted_table_first(compared: Comparison) -> None:
    other = accel.bench(Matmul(160, 128, 96), "mini", GPUS[:1])
    parsed = Page(page.render(subjects_of([compared, other]), title="two", script="0;"))
    table = parsed.all("table", **{"class": "sortable"})
    assert len(table) == 1
    heads = [a for t, a in parsed.attributes if t == "th" and "aria-sort" in a]
    assert len(heads) >= 8
    assert [a["value"] for a in parsed.all("option")] == ["s0", "s1"]
    assert [a["id"] for a in parsed.all("section", **{"class": "subject"})] == ["s0", "s1"]
    labels = parsed.data["figures"]["all-ledgers"]["labels"]
    assert labels == [other.problem.label, compared.problem.label]  # longest first
    assert parsed.addresses == ["#main", "#s1", "#s0"]
    assert len(parsed.data["figures"]["all-rooflines"]["points"]) == 2


def test_a_page_without_plotly_has_every_number_and_says_so(compared: Comparison) -> None:
    parsed = Page(page.render(subjects_of(compared), title="t", script=None))
    assert len(parsed.scripts) == 2
    assert f"{compared.timing.cycles:,}" in parsed.text
    assert "pip install 'accel-codesign[report]'" in parsed.text


def test_what_goes_over_the_page_keeps_its_tables(compared: Comparison) -> None:
    heavy = "/" * (page.LARGEST_PAGE - 700_000)
    parsed = Page(page.render(subjects_of([compared] * 40), title="many", script=heavy))
    bare = parsed.text.count("Its figures are left out")
    assert 0 < bare < 40
    assert len([name for name in parsed.data["figures"] if name.endswith("-nodes")]) == 40 - bare


def test_tables_are_tidy_and_exact(compared: Comparison, tmp_path: Path) -> None:
    written = accel.write_report([compared, compared], tmp_path / "tables", formats=["csv", "md"])
    t = compared.timing
    by_name = {file.name: file.read_text("utf-8") for file in written}
    ledger = rows_of(by_name["ledger.csv"])
    assert [(row["cause"], float(row["share"])) for row in ledger] == 2 * list(t.losses.items())
    nodes = rows_of(by_name["nodes.csv"])
    assert len(nodes) == 2 * 16
    assert [int(row["matrix_busy_cycles"]) for row in nodes[:16]] == t.busy["matrix"].reshape(-1).tolist()
    links = rows_of(by_name["links.csv"])[:48]  # 4 x 3 links each way in both dimensions
    assert sum(int(row["bytes"]) for row in links) == int(t.link_bytes.sum())
    path = rows_of(by_name["critical_path.csv"])
    assert sum(int(row["cycles"]) for row in path) == 2 * t.cycles
    assert [float(row["seconds"]) for row in rows_of(by_name["overview.csv"])] == [t.seconds] * 2
    assert {row["field"] for row in rows_of(by_name["chip.csv"])} >= {"node.sram_bytes", "ports.west.latency_cycles"}
    assert by_name["report.md"].startswith("# 2 programs on mini\n")
    assert f"{t.cycles:,} at" in by_name["report.md"]


@pytest.mark.parametrize(
    ("path", "formats", "says"),
    [
        ("r.pdf", None, "Cannot tell the format of the report from"),
        ("r.html", ["csv"], "names one file of another kind; use the name of a folder"),
        ("r", ["htlm"], "did you mean 'html'?"),
        ("r", [], "in no format; use html, md"),
        ("absent/r.html", None, "cannot write report"),
        ("absent/r", ["csv"], "cannot write report to"),
        (7, None, "Cannot write a report to 7; give the path"),
    ],
)
def test_a_bad_place_or_format_is_an_input_error(
    compared: Comparison, tmp_path: Path, path: object, formats: list[str] | None, says: str
) -> None:
    place = tmp_path / path if isinstance(path, str) else path
    with pytest.raises(InputError, match=re.escape(says)):
        accel.write_report(compared, place, formats=formats)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", [3, [], [3], "matmul"])
def test_only_programs_and_comparisons_are_reported(what: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot report on"):
        accel.write_report(what, tmp_path / "r.html")  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_the_way_out(
    compared: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "find_spec", lambda name: None)
    with pytest.raises(
        UnsupportedError, match=re.escape("plotly is not installed; use pip install 'accel-codesign[report]'")
    ):
        accel.write_report(compared, tmp_path / "r.html")
    accel.write_report(compared, tmp_path / "r.md")
    assert issubclass(UnsupportedError, AccelError)


def test_a_program_that_does_next_to_nothing_is_reported() -> None:
    program = still.build("mini", mesh=(1, 1))
    parsed = Page(page.render(subjects_of(program), title="still", script="0;"))
    names = {name.removeprefix("s0-") for name in parsed.data["figures"]}
    assert names == {"ledger", "nodes", "links", "timeline", "critical_path"}  # no flop is counted: no roofline
    assert "No byte crosses any of the 48 mesh links." in parsed.text
    assert parsed.data["figures"]["s0-nodes"]["rows"] == 1
    busy = "The vector unit is busy 92.3 % of the time on every node."  # 4 passes and 8 of 13 cycles
    assert {figure.alt for figure in figures(subjects_of(program)[0]) if figure.name == "nodes"} == {busy}
    assert text.markdown(subjects_of(program), title="still").startswith("# still\n")


def test_a_field_shows_its_own_reason_before_that_of_its_table() -> None:
    chip = accel.chip("d1")
    shown = {row[0]: row[2] for row in summaries.chip_facts(chip).rows}
    assert shown["energy.idle_w.nominal"] == chip.assumptions["energy.idle_w"]
    assert shown["energy.sram_pj_per_byte.nominal"] == chip.assumptions["energy"]
    assert shown["clock_hz"] == ""


def test_the_bound_has_neither_nodes_nor_path(compared: Comparison) -> None:
    parsed = Page(page.render(subjects_of(compared.program, "bound"), title="t", script="0;"))
    assert {name.removeprefix("s0-") for name in parsed.data["figures"]} == {"ledger", "roofline", "links"}


def test_figures_for_papers_say_what_they_show(compared: Comparison, tmp_path: Path) -> None:
    subject = dataclasses.replace(subjects_of(compared)[0], label="_$x$ <b>&" + 60 * "n")
    written = accel.write_report(subject, tmp_path / "figures", formats=["svg", "png"])
    names = {file.name for file in written}
    stems = {"ledger", "roofline", "nodes", "links", "timeline", "timeline-2", "critical_path"}
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("svg", "png")}
    for figure in figures(subject):
        drawn = (tmp_path / "figures" / f"{figure.name}.svg").read_text("utf-8")
        root = ET.fromstring(drawn)
        words = " ".join(" ".join(root.itertext()).split())
        assert figure.alt in words
        assert not re.findall(r'(?:href|src)="(?!#|data:)', drawn)
        assert (tmp_path / "figures" / f"{figure.name}.png").read_bytes().startswith(b"\x89PNG")
    roofline = " ".join(ET.parse(tmp_path / "figures" / "roofline.svg").getroot().itertext())
    assert "_$x$ <b>&nnn" in roofline
    again = accel.write_report(subject, tmp_path / "again", formats=["svg"])
    assert all(file.read_bytes() == (tmp_path / "figures" / file.name).read_bytes() for file in again)


def test_the_timeline_is_that_of_the_trace(compared: Comparison, shown: Page) -> None:
    t = compared.timing
    views = shown.data["figures"]["s0-timeline"]["views"]
    assert len(views) == 2
    for view in views:
        row, col = map(int, re.findall(r"\d+", view["label"])[:2])
        at = {name: lane for lane, name in enumerate(view["lanes"])}
        drawn = list(zip(view["lane"], view["start"], view["end"], strict=True))
        busy = sum(end - start for lane, start, end in drawn if lane == at["matrix unit"])
        assert busy == t.busy["matrix"][row, col]
        # A thread does or waits for something at every cycle until it ends: no gap, no overlap.
        for name, lane in at.items():
            if name.startswith("thread "):
                spans = sorted((start, end) for own, start, end in drawn if own == lane)
                assert spans[0][0] == 0
                assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))


def test_source_lines_are_those_of_the_timing(compared: Comparison) -> None:
    sheet = next(sheet for sheet in text.sheets_of(subjects_of(compared)[0]) if sheet.name == "lines")
    records, totals = sheet.records(), list(compared.timing.lines.items())
    assert [(row["line"], row["critical_cycles"]) for row in records] == [(str(w), x.path_cycles) for w, x in totals]
    for row, (_, x) in zip(records, totals, strict=True):
        by_cause = {name: n for name, n in row.items() if re.fullmatch("stalled_.*_cycles", name) and n}
        assert by_cause.pop("stalled_thread_cycles", 0) == x.stalled == sum(by_cause.values())
        assert by_cause == {f"stalled_{kind}_cycles": n for kind, n in x.stalls.items() if n}
        assert (row["mesh_bytes"], row["matrix_cycles"]) == (x.mesh_bytes, x.matrix_cycles)
    assert "k.matmul(" in " ".join(str(row["source"]) for row in records)


def test_a_long_critical_path_keeps_its_totals(compared: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_SEGMENTS", 3)
    figure = views.critical_path(subjects_of(compared)[0])
    assert figure is not None
    drawn = sorted(figure.views[0].spans, key=lambda span: span.start)
    assert all(before.end == after.start for before, after in itertools.pairwise(drawn))
    for cause in {s.cause for s in compared.timing.critical_path}:
        total = sum(s.end - s.start for s in compared.timing.critical_path if s.cause == cause)
        assert sum(s.end - s.start for s in drawn if s.cause == cause) == total


def test_tables_of_all_have_their_room_before_figures_of_the_first(
    compared: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = [dataclasses.replace(subjects_of(compared)[0], label=f"copy {number}") for number in range(12)]
    whole = len(page.render(subjects, title="many", script="0;").encode())
    for limit in (whole // 2, 3 * whole // 4):
        monkeypatch.setattr(page, "LARGEST_PAGE", limit)
        text = page.render(subjects, title="many", script="0;")
        assert len(text.encode()) <= limit
        assert "Its figures are left out" in text
