"""A network timed layer by layer, as a table: every layer, the sums, and what is missing from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.report.quantities import percent, ratio, seconds
from accel.report.tables import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from accel.networks.timing import NetworkTiming, Row

__all__ = ["network_tables"]


def network_tables(title: str, source: str, timing: NetworkTiming) -> list[RenderableType]:
    """Return a table of all layers, a table of sums by phase, and lines that name what could not be timed."""
    from rich.text import Text

    columns = ("layer", "problem", "phase", "count", timing.chip, "all", "utilization", "of bound")
    layers = table(columns, [_layer(row) for row in timing.rows], left=3, title=f"{title} on {timing.chip}")
    sums = [
        (phase, seconds(value), percent(value / timing.seconds)) if value else (phase, "not timed", "")
        for phase, value in timing.phases().items()
    ]
    sums.append(("sum", seconds(timing.seconds), percent(1.0) if timing.seconds else ""))
    whole = (
        "all layers" if timing.complete else f"{len(timing.rows) - len(timing.missing)} of {len(timing.rows)} layers"
    )
    bound = timing.bound_seconds / timing.seconds if timing.seconds else 0.0
    first = f"{whole}, one after the other, operands in memory: {seconds(timing.seconds)}, utilization "
    first += f"{percent(timing.utilization)}; the sum of their bounds is {percent(bound)} of it"
    lines = [first]
    lines += [f"{name}: {ratio(value)} the time, for the same layers" for name, value in timing.speedup().items()]
    if not timing.complete:
        lines.append(f"NOT in the sum, {len(timing.missing)} layers:")
        reasons = dict.fromkeys(row.figure.reason for row in timing.missing)
        for reason in reasons:
            named = [row.layer.name for row in timing.missing if row.figure.reason == reason]
            lines.append(f"  {', '.join(named)}: {reason}")
    notes = Text("\n".join([*lines, f"source: {source}"]))
    return [layers, table(("phase", "time", "share"), sums), notes]


def _layer(row: Row) -> tuple[str, ...]:
    figure, layer = row.figure, row.layer
    named = (layer.name, layer.problem.label, layer.phase, str(layer.count))
    if figure.seconds is None or row.seconds is None:
        return (*named, figure.status, "", "", "")
    reached = "" if figure.bound_seconds is None else percent(figure.bound_seconds / figure.seconds)
    utilization = percent(figure.utilization) if figure.utilization is not None and layer.problem.macs else ""
    return (*named, seconds(figure.seconds), seconds(row.seconds), utilization, reached)
