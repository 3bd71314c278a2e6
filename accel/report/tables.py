"""Tables and bars in the terminal; plain text where stdout is no terminal, no colour where NO_COLOR is set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from accel.report.quantities import energy, percent, rate, ratio, seconds, usd

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from accel.comparison import Comparison

__all__ = ["comparison", "ledger", "pairs", "show", "table"]

PIPE_WIDTH = 160  # characters a line where nobody can see a border, so that cells are not cut
BAR = 40  # characters of the longest bar


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(file=sys.stdout, highlight=False, width=width)


def show(*parts: RenderableType) -> None:
    """Print tables and lines on stdout."""
    if sys.stdout is None:
        return
    from rich.console import Group

    console = _console()
    with console.capture() as text:
        console.print(Group(*parts))
    # Trailing blanks of a padded table are noise in a pipe and wrap in a narrow terminal.
    sys.stdout.write("\n".join(line.rstrip() for line in text.get().splitlines()).strip("\n") + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, title: str = "") -> Table:
    """Return a table: the first `left` columns and any whose name ends in a blank are text, the others numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        words = index < left or column.endswith(" ")
        made.add_column(Text(column.strip()), justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def pairs(facts: Mapping[str, str], *, title: str = "") -> Table:
    """Return a two-column list of facts."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False, pad_edge=False, title=title or None, title_justify="left",
                 title_style="bold")  # fmt: skip
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in facts.items():
        made.add_row(Text(name), Text(value))
    return made


def ledger(losses: Mapping[str, float], *, title: str = "where the node-cycles went") -> Table:
    """Return the loss ledger as bars, causes in the contract's order; causes below 0.05 % in one closing row."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold")
    made.add_column(no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    made.add_column(no_wrap=True)
    shown = {cause: share for cause, share in losses.items() if abs(share) >= 5e-4}
    for cause, share in shown.items():
        style = "green" if cause == "useful" else "yellow"
        made.add_row(cause, percent(share), Text(_bar(share), style=style))
    if rest := [cause for cause in losses if cause not in shown]:
        made.add_row("other", percent(sum(losses[cause] for cause in rest)), Text(", ".join(rest), style="dim"))
    return made


def _bar(share: float) -> str:
    """Return a bar of `BAR` characters for the whole, to an eighth of one."""
    whole, eighths = divmod(max(1, round(8 * BAR * share)), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def comparison(result: Comparison) -> list[RenderableType]:
    """Return the parts of a comparison: the rows, the ledger, and the notes without which the rows mislead."""
    from rich.text import Text

    chip = result.chip
    columns = ("", "format ", "time", "rate", "utilization", "energy", "cost", f"time / {chip.name}", "source ")
    own = (chip.name, chip.dtype, seconds(chip.seconds), rate(chip.tflops * 1e12), percent(chip.utilization),
           energy(chip.energy_j), f"{usd(chip.usd)} to make", "", f"cycle model, {chip.cycles:,} cycles")  # fmt: skip
    rows = [own]
    for row in result.baselines:
        error = "" if row.error_pct is None else f", median error {row.error_pct:.0f} %"
        rent = usd(row.usd) if row.usd is None else f"{usd(row.usd)} to rent"
        rows.append(
            (row.name, row.dtype, seconds(row.seconds), rate(row.tflops * 1e12), percent(row.utilization),
             energy(row.energy_j), rent, ratio(result.speedup[row.name]), row.source + error)
        )  # fmt: skip
    reached = percent(chip.bound_seconds / chip.seconds)
    bound = f"bound {seconds(chip.bound_seconds)}: no kernel can be faster; this one reaches {reached} of that speed"
    notes = [Text(f"{name}: {note}", style="dim") for name, note in result.notes.items()]
    return [table(columns, rows, title=result.problem.label), Text(bound), Text(), ledger(chip.losses), Text(), *notes]
