"""The HTML page: one self-contained file; figures drawn by Plotly, each with a text and a table beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from accel.report import summaries, views
from accel.report.figure import CAUSES, Figure, Links, Nodes
from accel.report.markup import LARGEST_PAGE, asset, escaped, head, json_text, table_html
from accel.report.quantities import energy, number, percent, ratio, seconds
from accel.report.subject import Subject

__all__ = ["LARGEST_PAGE", "render"]

LARGEST_MATRIX = 1024  # nodes that a page's fallback table lists one by one
LEDE = (
    "Cycles come from a model of the chip that has never been compared with hardware, energy from literature figures. "
    "Utilization is over all enabled nodes. What was timed is what was executed and checked: one program."
)
MATRICES = ("matrix_busy", "waits")  # quantities that the fallback of the node map lists node by node
SLACK = 40_000  # bytes of a page kept for what joins its parts: names of figures, commas, anchors
PAIRED = ("nodes", "links")  # figures that stand side by side


@dataclass(frozen=True)
class _Part:
    """A piece of the page: its HTML, and the figures that it shows by their place in the page's data."""

    html: str
    figures: dict[str, Figure]


def render(
    subjects: Sequence[Subject], *, title: str, facts: Sequence[tuple[str, str]] = (), script: str | None,
    advance: Callable[[], None] = lambda: None,
) -> str:  # fmt: skip
    """Return the page about `subjects`; several get a sorted table first and a selector.

    script: the source of Plotly; None for a page of tables alone, which says so. facts: more lines of provenance.
    advance is called after each subject. Subjects whose figures would take the page over `LARGEST_PAGE` bytes keep
    their tables and say so.
    """
    parts = [_overview(subjects)] if len(subjects) > 1 else []
    several = len(subjects) > 1
    bodies = []
    top = head(title, LEDE, drawn=script is not None)
    frame = "".join((top, _chooser(subjects), *_ends(subjects, facts), asset("page.js")))
    room = LARGEST_PAGE - SLACK - sum(len(x.encode()) for x in (frame, script or "")) - sum(map(_size, parts))
    bare = [_subject(subject, f"s{index}", several, bare=True) for index, subject in enumerate(subjects)]
    room -= sum(map(_size, bare))  # tables and pictures of all stay where figures have to go
    for index, (subject, tables) in enumerate(zip(subjects, bare, strict=True)):
        part = _subject(subject, f"s{index}", several)
        more = _size(part) - _size(tables)
        if more > room:
            part = tables
        else:
            room -= more
        bodies.append(part)
        advance()
    figures = {key: figure for part in (*parts, *bodies) for key, figure in part.figures.items()}
    data = {
        "causes": {name: swatch._asdict() for name, swatch in CAUSES.items()},
        "figures": {key: figure.spec() for key, figure in figures.items()},
    }
    return "".join((
        top, *(part.html for part in parts), _chooser(subjects) if several else "",
        *(part.html for part in bodies), *_ends(subjects, facts), "</main>\n",
        f'<script type="application/json" id="report-data">{json_text(data)}</script>\n',
        f"<script>{script}</script>\n" if script else "", f"<script>{asset('page.js')}</script>\n</body></html>\n",
    ))  # fmt: skip


def _size(part: _Part) -> int:
    return len(part.html.encode()) + sum(len(json_text(figure.spec())) for figure in part.figures.values())


def _overview(subjects: Sequence[Subject]) -> _Part:
    figures: dict[str, Figure] = {"all-ledgers": views.ledgers(subjects)}
    roofs = views.rooflines(subjects)
    if roofs is not None:
        figures["all-rooflines"] = roofs
    places = {subject.label: f"s{index}" for index, subject in enumerate(subjects)}
    table = table_html(summaries.overview(subjects), sortable=True, places=places)
    drawn = "".join(_figure(key, figure) for key, figure in figures.items())
    return _Part(f'<section id="overview"><h2>All of them</h2>\n{table}{drawn}</section>\n', figures)


def _chooser(subjects: Sequence[Subject]) -> str:
    options = "".join(f'<option value="s{index}">{escaped(s.label)}</option>' for index, s in enumerate(subjects))
    return (
        '<nav class="chooser" aria-label="Choose one" hidden><label for="pick">In detail</label>\n'
        f'<select id="pick">{options}</select>\n'
        '<button type="button" data-step="-1" aria-label="Previous">&#8592;</button>'
        '<button type="button" data-step="1" aria-label="Next">&#8594;</button></nav>\n'
    )


def _subject(subject: Subject, key: str, several: bool, *, bare: bool = False) -> _Part:
    made = () if bare else views.figures(subject, brief=several)
    figures = {f"{key}-{figure.name}": figure for figure in made}
    named = f'<h2 id="{key}-h">{escaped(subject.label)}</h2>'
    out = [f'<section class="subject" id="{key}" aria-labelledby="{key}-h">{named}\n']
    out += [_cards(subject), _pictures(subject), table_html(summaries.headline(subject, brief=True))]
    if bare:
        out.append(
            f'<p class="warn">Its figures are left out: the page would be over {LARGEST_PAGE // 1_000_000} MB. '
            "Report it on its own to see them.</p>\n"
        )
    gpus = summaries.gpus(subject)
    if gpus is not None:
        out.append(f"<h3>{gpus.title}</h3>\n{table_html(gpus)}")
    paired = [name for name in figures if figures[name].name in PAIRED]
    for name, figure in figures.items():
        if name in paired:
            if name == paired[0]:
                out += ['<div class="pair">', *(_figure(other, figures[other]) for other in paired), "</div>\n"]
        else:
            out.append(_figure(name, figure))
    for sheet in (summaries.lines(subject), summaries.traffic(subject)):
        if sheet.rows:
            out.append(f"<h3>{escaped(sheet.title)}</h3>\n{table_html(sheet)}")
    return _Part("".join((*out, "</section>\n")), figures)


def _cards(subject: Subject) -> str:
    t, chip = subject.timing, subject.program.chip
    cards = [
        ("Cycles", f"{t.cycles:,}", f"at {number(chip.clock_hz / 1e9)} GHz"),
        ("Time", seconds(t.seconds), f"on {chip.name}"),
        ("Rate", f"{number(t.tflops)}", "TFLOPS"),
        ("Utilization", percent(t.utilization), f"of all {chip.nodes:,} nodes"),
        ("Energy", energy(t.energy_j), f"{energy(t.energy_low_j)} to {energy(t.energy_high_j)}"),
    ]
    if subject.comparison is not None:
        for row in subject.comparison.baselines:
            mark = f"as long {summaries.SIGNS[row.source]} {row.source}"
            cards.append((f"{row.name} takes", ratio(subject.comparison.speedup[row.name]), mark))
    if subject.verified is not None:
        checked = f"{subject.verified.checked:,} of {subject.verified.total:,} outputs"
        cards.append(("Bits", f"{subject.verified.wrong:,} WRONG" if subject.verified.wrong else "equal", checked))
    if subject.hazards is not None:
        cards.append(
            ("Hazards", f"{subject.hazards:,}" if subject.hazards else "none", "races, deadlocks, stray tokens")
        )
    bad = {"Bits": bool(subject.verified and subject.verified.wrong), "Hazards": bool(subject.hazards)}
    items = "".join(
        f"<div><dt>{escaped(name)}</dt><dd{' class=bad' if bad.get(name) else ''}>{escaped(value)}"
        f"<small>{escaped(note)}</small></dd></div>"
        for name, value, note in cards
    )
    return f'<dl class="cards">{items}</dl>\n'


def _pictures(subject: Subject) -> str:
    shown = []
    for picture in subject.pictures:
        source = f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
        said = f'<figcaption><p class="alt">{escaped(picture.caption)}</p></figcaption>'
        shown.append(f'<figure><img alt="{escaped(picture.alt)}" src="{source}">{said}</figure>\n')
    return f'<div class="pictures">{"".join(shown)}</div>\n' if shown else ""


def _figure(key: str, figure: Figure) -> str:
    """Return a figure: heading, words, the place where it is drawn, and its numbers as a table."""
    legend = '<ul class="key"></ul>' if figure.kind in ("stack", "spans") else ""
    return (
        f'<figure aria-labelledby="{key}-t" id="{key}"><figcaption><h3 id="{key}-t">{escaped(figure.title)}</h3>'
        f'<p class="alt" id="{key}-a">{escaped(figure.alt)}</p></figcaption>{legend}'
        f'<div class="plot" data-figure="{key}" role="img" aria-labelledby="{key}-t" aria-describedby="{key}-a"></div>'
        f"<details><summary>Numbers of this figure</summary>{_numbers(figure)}</details></figure>\n"
    )


def _numbers(figure: Figure) -> str:
    """Return the table of a figure; for maps a matrix a quantity, of blocks of nodes where there are very many."""
    if isinstance(figure, Nodes):
        told = {grid.name: [100 * v / figure.cycles for v in grid.values] for grid in figure.grids}
        matrices = (_matrix(f"{grid.label}, % of all cycles", figure.rows, figure.cols, told[grid.name])
                    for grid in figure.grids if grid.name in MATRICES)  # fmt: skip
        return table_html(summaries.extremes(figure)) + "".join(matrices)
    if isinstance(figure, Links):
        ways = [[100 * v / figure.capacity for v in figure.values[index::4]] for index in range(4)]
        return "".join(
            _matrix(f"bytes that leave {way}ward, % of a link", figure.rows, figure.cols, values)
            for way, values in zip(views.DIRECTIONS, ways, strict=True)
            if any(values)
        )
    return table_html(figure.sheet)


def _matrix(caption: str, rows: int, cols: int, values: Sequence[float]) -> str:
    step = 1
    while -(-rows // step) * -(-cols // step) > LARGEST_MATRIX:
        step += 1
    blocks = "" if step == 1 else f"; means of blocks of {step} x {step}, all in the CSV"

    def cell(top: int, left: int) -> float:
        inside = [
            values[r * cols + c] for r in range(top, min(rows, top + step)) for c in range(left, min(cols, left + step))
        ]
        return sum(inside) / len(inside)

    head = "".join(f"<th>{c}" for c in range(0, cols, step))
    body = "".join(
        f"<tr><th>{r}" + "".join(f"<td>{cell(r, c):.1f}" for c in range(0, cols, step)) for r in range(0, rows, step)
    )
    return (
        f'<div class="scroll"><table class="matrix"><caption>{escaped(caption)}{blocks}</caption>'
        f"<thead><tr><td>{head}</thead><tbody>{body}</tbody></table></div>\n"
    )


def _ends(subjects: Sequence[Subject], facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    notes = summaries.notes(subjects)
    if notes is not None:
        yield f'<section id="notes"><h2>{notes.title}</h2>\n{table_html(notes)}</section>\n'
    yield '<section id="chips">'
    for chip in dict.fromkeys(s.program.chip for s in subjects):
        sheet = summaries.chip_facts(chip)
        yield f"<h2>{escaped(sheet.title)}</h2>\n<p>{escaped(chip.description)}</p>\n{table_html(sheet)}"
    made = summaries.provenance(subjects, facts)
    yield f'</section>\n<section id="provenance"><h2>{made.title}</h2>\n{table_html(made)}</section>\n'
