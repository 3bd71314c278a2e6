"""The columns of a sweep's rows: what is known of every design point, in the order of tables and exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["FIGURES", "LOSSES", "STATUSES", "TEXTS", "WALL_TIMES", "best_first", "columns"]

# What became of a point, and what its row then holds.
STATUSES = {
    "ok": "timed: every figure",
    "illegal": "a constraint, the chip or the kernel refuses it: the reason",
    "timeout": "took longer than limits.timeout_s: the reason",
    "memory": "needed more than limits.memory_bytes: the reason",
    "failed": "broke on the way, twice where a process died: the reason",
    "screened": "seen by the closed form and not among the best: the bound, not confirmed",
}
# Where the cycles went, by cause; the causes of `accel.timing`, without loading the compiler that it needs.
LOSSES = tuple(
    f"loss.{cause}" for cause in (
        "useful", "tile_quantisation", "accumulator", "sram_port", "issue", "vector", "wait_memory", "wait_mesh",
        "wait_peer", "imbalance", "prologue", "epilogue", "unused_nodes",
    )
)  # fmt: skip
WALL_TIMES = ("build_s", "time_s")
FIGURES = (
    "cycles", "seconds", "utilization", "tflops", "energy_j", "usd", "bound_seconds", "bound_cause", "flops",
    "memory_bytes", "mesh_bytes", "sram_bytes_used", "chip_sram_bytes", "memory_bytes_per_s", "area_mm2", *LOSSES,
    "events", *WALL_TIMES,
)  # fmt: skip
TEXTS = frozenset({"key", "status", "reason", "fidelity", "bound_cause"})
BEFORE_AXES = ("index", "key", "status", "reason", "fidelity")


def columns(axes: Iterable[str]) -> tuple[str, ...]:
    """Return the names of all columns of a sweep over `axes`."""
    return (*BEFORE_AXES, *axes, *FIGURES)


def best_first(objective: str) -> tuple[str, bool]:
    """Return the column that an objective names and whether less is better: "-utilization" wants it large."""
    return (objective[1:], False) if objective.startswith("-") else (objective, True)


def better(row: Mapping[str, Any], other: Mapping[str, Any] | None, objective: str) -> bool:
    """Return whether a timed row is better than another by the objective; the lower number wins a tie."""
    column, less = best_first(objective)
    if row.get("status") != "ok" or row.get(column) is None:
        return False
    if other is None:
        return True
    mine, its = row[column], other[column]
    if mine == its:
        return bool(row["index"] < other["index"])
    return bool(mine < its) if less else bool(mine > its)
