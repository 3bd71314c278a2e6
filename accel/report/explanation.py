"""What a run would gain and where it spends its time: sensitivities, critical path and lines, as tables and data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from accel.report.tables import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from accel.timing import Sensitivity, Timing

__all__ = ["explanation", "explanation_data", "path_by_cause"]

MOST_LINES = 8  # source lines shown; JSON has them all


def path_by_cause(timing: Timing) -> dict[str, int]:
    """Return the cycles of the critical path by cause, most first; they add up to the run's."""
    causes: dict[str, int] = {}
    for segment in timing.critical_path:
        causes[segment.cause] = causes.get(segment.cause, 0) + segment.end - segment.start
    return dict(sorted(causes.items(), key=lambda item: (-item[1], item[0])))


def explanation(timing: Timing, found: Sequence[Sensitivity]) -> list[RenderableType]:
    """Return the parts of an explanation: what each resource would change, the critical path, the lines that cost."""
    from rich.text import Text

    gains = [
        [f"{_percent(row.resource_percent)} {row.name}".strip(), f"{row.cycles_percent:+.1f} %", f"{row.cycles:,}",
         row.change.partition(", ")[0]]  # the first field; JSON has them all
        for row in found
    ]  # fmt: skip
    causes = [[cause, f"{n / max(1, timing.cycles):.1%}", f"{n:,}"] for cause, n in path_by_cause(timing).items()]
    lines = [
        [f"{PurePath(where.file).name}:{where.line}", f"{own.path_share:.1%}", f"{own.stalled:,}",
         f"{own.matrix_cycles + own.vector_cycles:,}",
         f"{own.memory_read_bytes + own.memory_write_bytes + own.mesh_bytes:,}"]
        for where, own in list(timing.lines.items())[:MOST_LINES]
    ]  # fmt: skip
    left = len(timing.lines) - MOST_LINES
    return [
        Text(),
        table(["change", "cycles", "to", "field"], gains, title=f"timed again, against {timing.cycles:,} cycles"),
        Text(), table(["critical path", "share", "cycles"], causes),
        Text(), table(["line", "path", "stalled", "units busy", "bytes copied"], lines,
                      title="the lines that cost most" + (f" ({left} more)" if left > 0 else "")),
    ]  # fmt: skip


def explanation_data(timing: Timing, found: Sequence[Sensitivity]) -> dict[str, Any]:
    """Return the same as plain data: sensitivities, critical_path by cause, lines with all their totals."""
    sensitivities = [row._asdict() for row in found]
    for row in sensitivities:
        if not math.isfinite(row["resource_percent"]):
            row["resource_percent"] = None
    return {
        "cycles": timing.cycles,
        "sensitivities": sensitivities,
        "critical_path": path_by_cause(timing),
        "lines": [
            {"line": str(where), **vars(own), "stalls": dict(own.stalls)} for where, own in timing.lines.items()
        ],
    }  # fmt: skip


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:+.0f} %"
