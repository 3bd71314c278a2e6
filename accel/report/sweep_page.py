"""The HTML page of a sweep: one self-contained file whose filters and choices act on every figure."""

from __future__ import annotations

from accel.report import sweep_data, sweep_sheets
from accel.report.markup import LARGEST_PAGE, asset, escaped, head, table_html
from accel.report.sheet import shortened
from accel.report.sweep_results import STATUSES, Results, measure_text
from accel.report.sweep_views import KNEE, Choice, best_row, choose

__all__ = ["render"]

LEDE = (
    "Every point was timed on a model of the chip that has never been compared with hardware; energy comes from "
    "literature figures. Click a point for its design and its chip; filters act on every figure and on the table."
)
SCRIPTS = ("sweep_data.js", "sweep_figures.js", "sweep.js")
SLACK = 4_000  # bytes kept for what joins the parts
LONGEST_TOML = 20_000  # characters of the sweep's own TOML that the page shows
FIGURES = {
    "heat": ("Over two axes", "A cell shows the best of its points: the other axes are held at a value or free."),
    "lines": ("Along one axis", KNEE),
    "ledger": ("Where the node-cycles go", "The loss ledger of one point at every value of an axis."),
    "front": ("What is worth building", "A point on the front is beaten by no other in both quantities."),
}  # fmt: skip


def render(results: Results, *, title: str | None = None, script: str | None, choice: Choice | None = None) -> str:
    """Return the page; script: the source of Plotly, None for a page of tables alone, which says so.

    choice: what the figures show first.

    Points that would take it over `LARGEST_PAGE` bytes are thinned, and the page says how.
    """
    named = title or results.title
    top = head(named, LEDE, drawn=script is not None, style=asset("sweep.css"))
    choice = choice or choose(results)
    body = (
        _summary(results, choice)
        + _filters()
        + "".join(_figure(name) for name in FIGURES)
        + _tables(results, choice)
        + _panel()
    )
    code = "".join(asset(name) for name in SCRIPTS)
    room = LARGEST_PAGE - SLACK - sum(len(part.encode()) for part in (top, body, code, script or ""))
    packed = sweep_data.pack(results, choice, room)
    said = f'<p class="note" id="thinned">{escaped(packed.said)}</p>\n' if packed.said else ""
    return "".join((
        top, said, body, "</main>\n",
        f'<script type="application/json" id="sweep-data" data-form="{packed.form}">{packed.text}</script>\n',
        f"<script>{script}</script>\n" if script else "", *(f"<script>{asset(name)}</script>\n" for name in SCRIPTS),
        "</body></html>\n",
    ))  # fmt: skip


def _summary(results: Results, choice: Choice) -> str:
    counts = dict(zip(*_counted(results), strict=True))
    total, varied = len(results.rows), len(results.varied)
    cards = [("Points", f"{total:,}", f"over {varied} axes" if varied != 1 else "over one axis")]
    cards += [(name, f"{count:,}", f"{100 * count / total:.1f} % of the points") for name, count in counts.items()]
    size = results.meta.get("size")
    if isinstance(size, int) and size > total:
        cards.append(("Not yet run", f"{size - total:,}", f"of {size:,} points of the sweep"))
    objective, at = results.objective, best_row(results, choice.fixed)
    if at is not None and objective is not None:
        value = float(results.numbers(objective.name)[at])
        index = results.rows[at].get("index", at)
        cards.append(
            (sweep_sheets.direction(objective).capitalize(), measure_text(objective, value), f"at point {index}")
        )
        for name in ("utilization", "seconds"):
            measure = results.measure(name)
            if measure is not None and name != objective.name:
                there = float(results.numbers(name)[at])
                cards.append((measure.label.capitalize(), measure_text(measure, there), f"at point {index}"))
    items = "".join(
        f"<div><dt>{escaped(shortened(str(name), 40))}</dt>"
        f"<dd>{escaped(value)}<small>{escaped(note)}</small></dd></div>"
        for name, value, note in cards
    )
    none = "" if at is not None else (
        '<p class="warn">No point has figures, so there is nothing to draw; the table of reasons says why.</p>\n'
    )  # fmt: skip
    best = sweep_sheets.best(results, choice.fixed)
    chosen = "" if best is None else f"<div><h3>{escaped(best.title)}</h3>\n{table_html(best)}</div>"
    space = sweep_sheets.space(results)
    ended = sweep_sheets.status_counts(results)
    return (
        f'<section id="summary"><dl class="cards">{items}</dl>\n{none}<div class="pair"><div><h3>{space.title}</h3>\n'
        f"{table_html(space)}<h3>{ended.title}</h3>\n{table_html(ended)}</div>{chosen}</div></section>\n"
    )


def _counted(results: Results) -> tuple[list[str], list[int]]:
    names = [name for name in (*STATUSES, *results.statuses) if name in results.statuses]
    names = list(dict.fromkeys(names))
    return names, [int((results.status == name).sum()) for name in names]


def _filters() -> str:
    return (
        '<p class="warn" id="unreadable" hidden>This browser cannot unpack the points of this page; the tables are all '
        "there is. Use one from 2023 or later.</p>\n"
        '<section class="filters" id="filters" aria-label="Filters" hidden><div class="row">'
        '<fieldset id="filter-status"></fieldset><span class="note" id="filter-said" role="status"></span>'
        '<button type="button" id="reset">Reset</button></div><div class="row" id="filter-axes"></div></section>\n'
    )


def _figure(name: str) -> str:
    title, note = FIGURES[name]
    legend = f'<ul class="key" id="{name}-key"></ul>' if name == "ledger" else ""
    return (
        f'<figure id="{name}" aria-labelledby="{name}-t"><figcaption><div class="figure-head">'
        f'<h2 id="{name}-t">{title}</h2>'
        f'<div class="files" id="{name}-files" role="group" aria-label="Files of this figure" hidden></div></div>'
        f'<p class="note">{escaped(note)}</p></figcaption>\n<div class="controls" id="{name}-controls" hidden></div>'
        f'<p class="alt" id="{name}-a" aria-live="polite"></p>{legend}'
        f'<div class="plot" id="{name}-plot" role="img" aria-labelledby="{name}-t" aria-describedby="{name}-a"></div>'
        f'<details id="{name}-numbers" hidden><summary>Numbers of this figure</summary>'
        '<div class="scroll"></div></details></figure>\n'
    )


def _tables(results: Results, choice: Choice) -> str:
    made = []
    lost = sweep_sheets.reasons(results)
    if lost.rows:
        made.append(f'<section id="reasons"><h2>{lost.title}</h2>\n{table_html(lost)}</section>\n')
    points = sweep_sheets.points(results, sweep_sheets.LISTED_POINTS)
    made.append(
        '<section id="points"><div class="figure-head"><h2>Points</h2><div class="files" id="points-files" '
        'role="group" aria-label="Files of the points that pass the filters" hidden></div></div>\n'
        f'<div id="points-static">{table_html(points)}</div>\n'
        '<div id="points-live" hidden><div class="scroll"><table class="sortable"><thead>'
        '<tr id="points-head"></tr></thead><tbody id="points-body"></tbody></table></div><div class="pager">'
        '<button type="button" id="points-first" aria-label="First page">&#8676;</button>'
        '<button type="button" id="points-back" aria-label="Page before">&#8592;</button>'
        '<span class="note" id="points-said" role="status"></span>'
        '<button type="button" id="points-on" aria-label="Next page">&#8594;</button>'
        '<button type="button" id="points-last" aria-label="Last page">&#8677;</button></div></div></section>\n'
    )
    reach = sweep_sheets.effects(results, choice.fixed)
    if reach is not None:
        made.append(
            f'<section id="effects"><h2>{reach.title}</h2>\n<details><summary>Every value of every axis</summary>'
            f"{table_html(reach)}</details></section>\n"
        )
    source = str(results.meta.get("toml") or "")
    if source:
        made.append(
            '<section id="toml"><h2>The sweep itself</h2>\n<details><summary>Its TOML, to run it again</summary>'
            f'<pre class="source" tabindex="0">{escaped(shortened(source, LONGEST_TOML))}</pre></details></section>\n'
        )
    by = sweep_sheets.provenance(results)
    if by.rows:
        made.append(f'<section id="provenance"><h2>{by.title}</h2>\n{table_html(by)}</section>\n')
    return "".join(made)


def _panel() -> str:
    return (
        '<aside class="design" id="design" tabindex="-1" role="dialog" aria-labelledby="design-title" hidden>'
        '<header><h2 id="design-title"></h2><button type="button" id="design-close" aria-label="Close">'
        '&#10005;</button></header><div id="design-body"></div></aside>\n'
    )
