"""The first convolutions of a backbone over SRAM a node: images from memory, one layer after the other."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import closed_form as form
import search

import accel
from accel.hardware import ChipSpec
from accel.networks import network

PARTS = 4  # into which the sizes between knee and not yet knee are cut each time


def explore(chip: ChipSpec, store: Path | None, workers: int | None) -> dict[tuple[str, int], Any]:
    """Return the rows of all layers and sizes, with every knee to 4 KiB; `store`: as in `search`."""
    given = form.settings()["backbone"]
    points = [(layer, kib * 1024) for layer in given["layers"] for kib in given["sizes"]]
    found: dict[tuple[str, int], Any] = {}
    number = 0
    while points:
        at = None if store is None else store.with_name(f"{store.stem}-backbone{store.suffix}")
        told = search.teller(f"backbone, round {number + 1}")
        rows = accel.sweep(_space(chip, given, points), store=at, workers=workers, progress=told).rows
        for row in rows:
            if row["status"] != "ok":
                raise SystemExit(f"{row['problem.layer']}: {row['status']}: {row['reason']}")
            found[row["problem.layer"], row["node.sram_bytes"]] = row
        points = [(layer, size) for layer in given["layers"] for size in between(found, layer)]
        number += 1
    return found


def between(found: dict[tuple[str, int], Any], layer: str) -> list[int]:
    """Return sizes between the knee and the size before it that nobody has simulated."""
    gap = bracket(found, layer)
    if gap is None:
        return []
    low, high = gap.below // form.MACRO, gap.knee // form.MACRO
    return [size * form.MACRO for size in sorted({low + (high - low) * n // PARTS for n in range(1, PARTS)} - {low})]


def bracket(found: dict[tuple[str, int], Any], layer: str) -> search.Bracket | None:
    """Return where the knee of a layer lies, None where it is flat."""
    sizes = sorted(size for name, size in found if name == layer)
    return search.bend(sizes, [found[layer, size]["cycles"] for size in sizes])


def results(chip: ChipSpec, found: dict[tuple[str, int], Any]) -> list[dict[str, Any]]:
    """Return backbone.csv: a row for every layer and size."""
    rows = []
    for layer in form.settings()["backbone"]["layers"]:
        gap = bracket(found, layer)
        P, times = _problem(layer)
        least = P.bound(chip)
        most = P.flops / (least.seconds * chip.clock_hz) / chip.peak_flops_per_cycle(P.dtype)
        for size in sorted(size for name, size in found if name == layer):
            row = found[layer, size]
            rows.append({
                "layer": layer, "label": P.label, "sram_kib": size // 1024, "times": times,
                "cycles": row["cycles"] // times,
                "utilization": round(row["utilization"], 4),
                "bound_utilization": round(most, 4),
                "bound_cause": least.cause, "memory_bytes": row["memory_bytes"] // times,
                "compulsory_bytes": sum(operand.bytes for operand in P.operands.values()),
                "sram_used_kib": -(-row["sram_bytes_used"] // 1024),
                "best_from_kib": gap.knee // 1024 if gap else "", "best_to_kib": gap.last // 1024 if gap else "",
            })  # fmt: skip
    return rows


def _problem(name: str) -> tuple[Any, int]:
    """Return a layer of the backbone, and how often it occurs there, which the rows of a sweep count in."""
    given = form.settings()["backbone"]
    layers = [layer for layer in network(given["network"], **given["parameters"]) if fnmatchcase(layer.name, name)]
    if len(layers) != 1:
        raise SystemExit(f"{given['network']} has {len(layers)} layers named {name!r}; name one in curves.toml")
    return layers[0].problem, layers[0].count


def _space(chip: ChipSpec, given: dict[str, Any], points: list[tuple[str, int]]) -> dict[str, Any]:
    names, sizes = ([point[n] for point in points] for n in (0, 1))
    return {
        "title": "The first layers of a backbone", "chip": {"base": chip.name},
        "problem": {"network": given["network"], **given["parameters"]},
        "axes": {"problem.layer": names, "node.sram_bytes": sizes},
        "zip": {"points": ["problem.layer", "node.sram_bytes"]},
    }  # fmt: skip
