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
FREE_WIDTH = 10_000  # characters: more than any table needs
TEXT_WIDTH = 24  # characters that a column of text keeps in a narrow terminal
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
    from rich.measure import Measurement
    from rich.table import Table

    console = _console()
    # Figures are never cut: a terminal that is too narrow for a table breaks the lines itself.
    free = console.options.update(max_width=FREE_WIDTH)
    needed = [Measurement.get(console, free, part).minimum for part in parts if isinstance(part, Table)]
    console.width = max(console.width, *needed, 0)
    with console.capture() as text:
        console.print(Group(*parts))
    # Trailing blanks of a padded table are noise in a pipe and wrap in a narrow terminal.
    sys.stdout.write("\n".join(line.rstrip() for line in text.get().splitlines()).strip("\n") + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, title: str = "") -> Table:
    """Return a table: columns whose name ends in a blank are text that may wrap, the first `left` are names."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    cells = [tuple(row) for row in rows]
    for index, column in enumerate(columns):
        name, text = column.strip(), column.endswith(" ")
        longest = max(len(name), *(len(row[index]) for row in cells))
        made.add_column(
            Text(name), justify="left" if text or index < left else "right", no_wrap=not text, overflow="fold",
            min_width=min(longest, TEXT_WIDTH) if text else longest,
        )  # fmt: skip
    for row in cells:
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
    made.add_column(no_wrap=True, min_width=max(map(len, losses)))
    made.add_column(justify="right", no_wrap=True, min_width=len(percent(1.0)))
    made.add_column(overflow="fold", min_width=BAR)
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
    # A fact a line and a machine a column: what matters fits 80 characters with a chip and two GPUs.
    rows: list[list[str]] = [
        ["format", chip.dtype], ["time", seconds(chip.seconds)], [f"time / {chip.name}", ""],
        ["rate", rate(chip.tflops * 1e12)], ["utilization", percent(chip.utilization)],
        ["energy", energy(chip.energy_j)], ["cost", f"{usd(chip.usd)} to make"],
        ["source", "cycle model"], ["cycles", f"{chip.cycles:,}"], ["median error", ""],
    ]  # fmt: skip
    for row in result.baselines:
        cells = (
            row.dtype, seconds(row.seconds), ratio(result.speedup[row.name]), rate(row.tflops * 1e12),
            percent(row.utilization), energy(row.energy_j),
            usd(row.usd) if row.usd is None else f"{usd(row.usd)} to rent",
            row.source, "", "" if row.error_pct is None else f"{row.error_pct:.0f} %",
        )  # fmt: skip
        for line, cell in zip(rows, cells, strict=True):
            line.append(cell)
    rows = [line for line in rows if any(line[1:])]
    columns = ("", chip.name, *(row.name for row in result.baselines))
    reached = percent(chip.bound_seconds / chip.seconds)
    bound = f"bound {seconds(chip.bound_seconds)}: no kernel can be faster; this one reaches {reached} of that speed"
    notes = [Text(f"{name}: {note}", style="dim") for name, note in result.notes.items()]
    return [table(columns, rows, title=result.problem.label), Text(bound), Text(), ledger(chip.losses), Text(), *notes]
