"""What every HTML page shares: its policy, head, tables, and text that no name inside can end."""

from __future__ import annotations

import html
import json
from importlib import resources

from accel.report.sheet import Sheet

__all__ = ["LARGEST_PAGE", "asset", "escaped", "head", "json_text", "table_html"]

LARGEST_PAGE = 6_000_000  # bytes, so that a page goes by mail; Plotly takes 4.8 million of them
# No request leaves the page: what is not inside it does not load.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "connect-src 'none'; base-uri 'none'; form-action 'none'"
)
NO_PLOTLY = (
    "This page has tables and no figures because plotly is not installed; pip install 'accel-codesign[report]' and "
    "write it again."
)


def asset(name: str) -> str:
    """Return the text of a file of assets/."""
    return resources.files("accel.report").joinpath("assets", name).read_text("utf-8")


def json_text(data: object) -> str:
    """Return JSON that no name inside can end: "<" never stands for itself."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def escaped(value: object) -> str:
    """Return a value as text of an HTML page."""
    return html.escape(str(value))


def head(title: str, lede: str, *, drawn: bool, style: str = "") -> str:
    """Return the page up to its main part; drawn: whether Plotly is in it, else it says how to get it.

    style: more rules after those of every page.
    """
    bare = "" if drawn else f'<p class="warn">{escaped(NO_PLOTLY)}</p>\n'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<title>{escaped(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">\n'
        f"<style>{asset('page.css')}{style}</style>\n"
        f'</head><body>\n<a class="skip" href="#main">Skip to the results</a>\n<header><h1>{escaped(title)}</h1>\n'
        '<div class="tools" hidden><button type="button" id="theme">Theme: auto</button> '
        '<button type="button" id="print">Print</button></div></header>\n'
        f'<p class="note">{escaped(lede)}</p>\n{bare}'
        '<noscript><p class="warn">Figures need JavaScript; every number is in the tables.</p></noscript>\n'
        '<main id="main">\n'
    )


def table_html(sheet: Sheet, *, sortable: bool = False, places: dict[str, str] | None = None) -> str:
    """Return a sheet as an HTML table; places: anchors of the names in its first column."""
    heads = []
    columns, given = sheet.on_page
    for index, column in enumerate(columns):
        kind = ' class="text"' if column.text else ""
        label = f'<button type="button">{escaped(column.head)}</button>' if sortable else escaped(column.head)
        first = ' aria-sort="none"' if sortable else ""
        heads.append(f'<th scope="col"{kind}{first}>{label}</th>' if column.head or index else "<td></td>")
    rows = []
    for raw, shown in zip(given, sheet.shown, strict=True):
        cells = []
        for index, (column, value, text) in enumerate(zip(columns, raw, shown, strict=True)):
            tag = 'th scope="row"' if index == 0 else "td"
            kind = ' class="text"' if column.text else ""
            order = f' data-v="{value}"' if sortable and isinstance(value, int | float) else ""
            inner = (
                f"<code>{escaped(text)}</code>" if column.name == "source" and sheet.name == "lines" else escaped(text)
            )
            if index == 0 and places and text in places:
                inner = f'<a href="#{places[text]}">{inner}</a>'
            cells.append(f"<{tag}{kind}{order}>{inner}</{tag.split(maxsplit=1)[0]}>")
        rows.append("<tr>" + "".join(cells) + "</tr>\n")
    named = any(column.head for column in columns)
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if named else ""
    sort = ' class="sortable"' if sortable else ""
    said = " ".join(part for part in (sheet.note, sheet.left_out) if part)
    note = f'<p class="note">{escaped(said)}</p>\n' if said else ""
    return f'<div class="scroll"><table{sort}>{head}<tbody>\n{"".join(rows)}</tbody></table></div>\n{note}'
