"""Reports on a sweep: its store as one HTML page, as Markdown, as tables and as pictures for papers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from accel.errors import AccelError, InputError, UnsupportedError, nearest
from accel.files import write_folder, write_whole
from accel.report.sheet import Cell, Sheet, csv_text, markdown_text
from accel.report.sweep_results import Results
from accel.report.sweep_views import Choice, choose

__all__ = ["FIGURES", "FORMATS", "View", "records", "results_of", "write_sweep"]

FIGURES = ("heat", "lines", "ledger", "front")
ENDINGS = {"html": (".html", ".htm"), "md": (".md", ".markdown"), "png": (".png",), "svg": (".svg",)}
FORMATS = ("html", "md", "csv", "png", "svg")
NEEDS = {"png": "matplotlib", "svg": "matplotlib"}
MOST_CHIPS = 4_000
EXPRESSION = re.compile(r"""["']\s*=""")
INSTALL = "pip install 'accel-codesign[report]'"


class View(NamedTuple):
    """What the figures show first; None and empty: what `choose` finds.

    x, y: names of axes (of the front: of measures); value: a measure; series: the axis with a line a value; fixed: axis
    names to values, or to "best" to leave the axis free.
    """

    figure: str | None = None
    x: str | None = None
    y: str | None = None
    value: str | None = None
    series: str | None = None
    fixed: Mapping[str, Any] = {}


def results_of(what: Any) -> Results:
    """Return the rows of a store (its path, a Store, or what `accel.sweep` returns) with its chips.

    InputError for anything else, and for a store without a single row.
    """
    if isinstance(what, Results):
        return what
    if hasattr(what, "meta") and hasattr(what, "rows"):
        rows, meta, folder = what.rows(), what.meta(), Path(getattr(what, "path", ".")).parent
    else:
        from accel.sweep.store import Store

        path = getattr(what, "path", what)
        if path is None:
            raise InputError("Cannot report on a sweep that was not kept; give accel.sweep a store=FILE.db")
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"Cannot report on {type(what).__name__}; give the path of a sweep's store")
        if not os.path.exists(path):  # noqa: PTH110 - a text that no Path takes is no file either
            raise InputError(
                f"Cannot report on {str(path)!r}: there is no such file; give the store of a sweep, a Program or a "
                "Comparison"
            )
        with Store.open(path) as store:
            rows, meta, folder = store.rows(), store.meta(), Path(path).parent
    if not rows:
        raise InputError("Cannot report on a sweep without a single point; let accel sweep run first")
    return Results(rows, meta, _chips(meta, folder, rows))


def _chips(meta: Mapping[str, Any], folder: Path, rows: Iterable[Mapping[str, Any]]) -> Callable[[int], str | None]:
    """Return what gives the TOML of a point's chip by index; None where the space cannot build it here.

    Base chips are those that the store kept; where it kept none, they are looked for in `folder`.
    A chip is built once for all points that can only differ in kernel and problem: 4,000 different ones at most, which
    take seconds.
    """
    from accel.sweep.space import Space

    toml, kept = str(meta.get("toml") or ""), meta.get("bases")
    bases = {str(name): str(text) for name, text in kept.items()} if isinstance(kept, Mapping) else None
    known = {row["index"]: row for row in rows if row.get("status") != "illegal"}
    spaces: list[Space | None] = []
    made: dict[tuple[str, ...], str] = {}

    def chip(index: int) -> str | None:
        if not spaces:
            try:
                spaces.append(Space.from_toml(toml, folder=folder, bases=bases) if toml else None)
            except AccelError:  # a file that the sweep names is not here
                spaces.append(None)
        space = spaces[0]
        if space is None or index not in known:
            return None
        # An expression ("= frame.height") may carry any axis into the chip.
        free = () if EXPRESSION.search(toml) else ("kernel.", "problem.")
        key = tuple(repr(known[index].get(axis.name)) for axis in space.axes if not axis.name.startswith(free))
        if key not in made:
            if len(made) >= MOST_CHIPS:
                return None
            try:
                made[key] = space.resolve(index).chip.to_toml()
            except AccelError:
                return None
        return made[key]

    return chip


def write_sweep(
    what: Any, path: str | os.PathLike[str] = "accel-sweep.html", *, formats: Iterable[str] | None = None,
    title: str | None = None, view: View | None = None,
) -> tuple[Path, ...]:  # fmt: skip
    """Write a report on a sweep and return its files.

    what: the path of its store, an open Store, or what `accel.sweep` returns. path: FILE.html, FILE.md, FILE.svg or
    FILE.png (of one figure); with `formats` of more than one file a folder. formats: any of html (one page under 6 MB;
    tables alone without plotly), md, csv, png, svg; None takes it from the ending. view: what the figures show first.
    Files are written whole or not at all. InputError for bad arguments, UnsupportedError without matplotlib for png or
    svg.
    """
    wanted, single = _plan(path, formats)
    view = view or View()
    results = results_of(what)
    choice = _chosen(results, view)
    named = title or results.title
    contents: dict[str, bytes] = {}
    for form in wanted:
        contents |= _made(form, results, choice, named, view.figure or ("lines" if single else None))
    if not contents:
        raise InputError(
            "Cannot draw a figure because no point has what it shows; look at the page or the tables first"
        )
    if single:
        write_whole(path, next(iter(contents.values())), "report")
        return (Path(path),)
    return write_folder(path, contents, "report")


def _plan(path: str | os.PathLike[str], formats: Iterable[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return the formats and whether `path` is their one file."""
    ending = Path(path).suffix.lower()
    own = next((name for name, endings in ENDINGS.items() if ending in endings), None)
    if formats is None and own is None:
        raise InputError(
            f"Cannot tell the format of the report from {str(path)!r}; use a name that ends in .html, .md, .svg or "
            f".png, or name formats among {', '.join(FORMATS)}"
        )
    chosen = (
        (str(own),) if formats is None else tuple(dict.fromkeys((formats,) if isinstance(formats, str) else formats))
    )
    for name in chosen:
        if name not in FORMATS:
            hint = nearest(str(name), FORMATS) or f"; use {', '.join(FORMATS)}"
            raise InputError(f"Cannot write a report as {name!r}: no such format{hint}")
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            raise UnsupportedError(f"Cannot write {name} because {NEEDS[name]} is not installed; use {INSTALL}")
    if not chosen:
        raise InputError(f"Cannot write a report in no format; use {', '.join(FORMATS)}")
    if own is not None and chosen != (own,):
        raise InputError(
            f"Cannot write {', '.join(chosen)} to {str(path)!r} because that names one file of another kind; "
            "use the name of a folder"
        )
    return chosen, own is not None


def _chosen(results: Results, view: View) -> Choice:
    """Return what the figures show first: what was asked for, the rest as `choose` finds it."""
    axes = {axis.name: axis for axis in results.axes}
    measures = [measure.name for measure in results.measures]
    if view.figure is not None and view.figure not in FIGURES:
        hint = nearest(view.figure, FIGURES) or f"; use {', '.join(FIGURES)}"
        raise InputError(f"no figure {view.figure!r}{hint}")
    for option, name, known in (("x", view.x, (*axes, *measures)), ("y", view.y, (*axes, *measures)),
                                ("series", view.series, (*axes,)), ("value", view.value, measures)):  # fmt: skip
        if name is not None and name not in known:
            hint = nearest(name, known) or f"; use one of {', '.join(known) or 'none: no point has figures'}"
            raise InputError(f"{option} {name!r} is no name of this sweep{hint}")
    choice = choose(results)
    fixed = dict(choice.fixed)
    for name, value in view.fixed.items():
        if name not in axes:
            raise InputError(f"no axis {name!r} to fix{nearest(name, axes) or '; use one of ' + ', '.join(axes)}")
        fixed.pop(name, None)
        if value == "best":
            continue
        codes = {text: code for code, text in reversed(list(enumerate(axes[name].texts)))}
        codes |= {str(given): code for code, given in reversed(list(enumerate(axes[name].values)))}
        if str(value) not in codes:
            hint = nearest(str(value), codes) or f"; use one of {', '.join(axes[name].texts[:12])}"
            raise InputError(f"{name} has no value {str(value)!r}{hint}")
        fixed[name] = codes[str(value)]
    choice = choice._replace(fixed=fixed, value=view.value or choice.value)
    if view.series is not None:
        choice = choice._replace(series=view.series)
    if view.x in axes:
        choice = choice._replace(x=view.x, line_x=view.x, y=choice.x if choice.y == view.x else choice.y)
        if choice.series == view.x:
            choice = choice._replace(series=None)
    if view.y in axes:
        choice = choice._replace(y=view.y, x=choice.y if choice.x == view.y else choice.x)
    pair = choice.front or (None, None)
    across = view.x if view.x in measures else pair[0]
    up = view.y if view.y in measures else pair[1]
    return choice._replace(front=(across, up) if across and up else None)


def _made(form: str, results: Results, choice: Choice, title: str, figure: str | None) -> dict[str, bytes]:
    if form == "html":
        from accel.report import sweep_page
        from accel.report.writing import plotly_source

        return {"report.html": sweep_page.render(results, title=title, script=plotly_source(), choice=choice).encode()}
    if form in ("png", "svg"):
        from accel.report.sweep_papers import pictures

        drawn = pictures(results, choice, form, FIGURES if figure is None else (figure,))
        return {f"{name}.{form}": content for name, content in drawn.items()}
    sheets = _sheets(results, choice)
    if form == "csv":
        return {f"{sheet.name}.csv": csv_text([(title, sheet)], key="sweep").encode() for sheet in sheets}
    parts = [f"# {markdown_text(title)}", *(f"## {markdown_text(s.title)}\n\n{s.markdown()}" for s in sheets)]
    return {"report.md": ("\n\n".join(parts) + "\n").encode()}


def _sheets(results: Results, choice: Choice) -> tuple[Sheet, ...]:
    from accel.report import sweep_sheets as made

    found = (
        made.space(results), made.status_counts(results), made.best(results, choice.fixed),
        made.effects(results, choice.fixed), made.reasons(results), made.points(results), made.provenance(results),
    )  # fmt: skip
    return tuple(sheet for sheet in found if sheet is not None and sheet.rows)


def records(results: Results) -> dict[str, list[dict[str, Cell]]]:
    """Return every table as plain data by its name, for JSON."""
    return {sheet.name: sheet.records() for sheet in _sheets(results, choose(results))}
