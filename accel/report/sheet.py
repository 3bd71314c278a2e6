"""A tidy table: one row an observation, named columns with units; as CSV, as Markdown, as plain data."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cell", "Column", "Sheet", "csv_text", "markdown_text", "plain", "shortened"]

Cell = str | int | float | bool | None


def plain(value: Cell) -> str:
    """Return a cell as text: whole numbers with thousands set apart, a dash for what there is not."""
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Column:
    """`name` heads the column in CSV and JSON and carries the unit, `head` on a page; `show` makes the page's text.

    page: whether it stands on a page at all; what does not is in CSV and JSON alone.
    """

    name: str
    head: str
    show: Callable[[Any], str] = plain
    text: bool = False  # words, set to the left and free to wrap
    page: bool = True


@dataclass(frozen=True)
class Sheet:
    """Rows under columns. `name` is the file it becomes, `title` and `note` stand with it on a page.

    listed: how many rows a page or Markdown shows (all in CSV); None for all of them.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    listed: int | None = field(default=None, kw_only=True)

    @classmethod
    def of_pairs(cls, name: str, title: str, pairs: Iterable[tuple[str, Cell]], note: str = "") -> Sheet:
        """Return a sheet of two columns: a fact and its value."""
        return cls(name, title, (Column("fact", "", text=True), Column("value", "", text=True)), tuple(pairs), note)

    @property
    def on_page(self) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
        """The columns and rows that a page shows."""
        places = [index for index, column in enumerate(self.columns) if column.page]
        rows = tuple(tuple(row[index] for index in places) for row in self.rows[: self.listed])
        return tuple(self.columns[index] for index in places), rows

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        """The text of every cell that a page shows."""
        columns, rows = self.on_page
        return tuple(
            tuple("-" if cell is None else column.show(cell) for column, cell in zip(columns, row, strict=True))
            for row in rows
        )

    @property
    def left_out(self) -> str:
        """What a page says about rows that it does not show; empty where it shows all."""
        hidden = len(self.rows) - len(self.rows[: self.listed])
        return f"{hidden:,} more in {self.name}.csv." if hidden else ""

    def records(self) -> list[dict[str, Cell]]:
        """Return the rows as plain data by column name."""
        return [dict(zip((c.name for c in self.columns), row, strict=True)) for row in self.rows]

    def markdown(self) -> str:
        """Return a Markdown table with aligned columns; names with marks of Markdown or HTML stay what they are."""
        columns, _ = self.on_page
        cells = [[c.head or c.name for c in columns], *self.shown]
        texts = [[markdown_text(cell) for cell in row] for row in cells]
        widths = [max(3, *(len(row[i]) for row in texts)) for i in range(len(columns))]
        rule = ["-" * w if c.text else "-" * (w - 1) + ":" for c, w in zip(columns, widths, strict=True)]
        lines = [texts[0], rule, *texts[1:]]
        body = "\n".join(
            "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in lines
        )
        return "\n\n".join(part for part in (body, markdown_text(f"{self.note} {self.left_out}".strip())) if part)


def csv_text(sheets: Sequence[tuple[str, Sheet]], key: str = "subject") -> str:
    """Return sheets of one kind as one tidy CSV whose first column, `key`, says which of them a row is of."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    for index, (label, sheet) in enumerate(sheets):
        if not index:
            writer.writerow([key, *(column.name for column in sheet.columns)])
        writer.writerows([label, *("" if cell is None else cell for cell in row)] for row in sheet.rows)
    return made.getvalue()


def shortened(text: str, most: int) -> str:
    """Return text of at most `most` characters, an ellipsis at the end where some are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def markdown_text(text: str) -> str:
    """Return text with everything escaped that Markdown or HTML inside it would read as a mark."""
    text = " ".join(text.split())
    for mark in "\\`*_[]|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("#", "\\#")
