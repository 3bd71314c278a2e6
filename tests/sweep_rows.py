"""Rows of sweeps as a store gives them, made from a formula: no kernel is built, no clock is read."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import accel
from accel.report.sweep_results import Results

CAUSES = ("useful", "tile_quantisation", "accumulator", "sram_port", "issue", "vector", "wait_memory", "wait_mesh",
          "wait_peer", "imbalance", "prologue", "epilogue", "unused_nodes")  # fmt: skip
FIGURES = ("cycles", "seconds", "utilization", "tflops", "energy_j", "usd", "bound_seconds", "bound_cause", "flops",
           "memory_bytes", "mesh_bytes", "sram_bytes_used", "chip_sram_bytes", "memory_bytes_per_s", "area_mm2",
           *(f"loss.{cause}" for cause in CAUSES), "events", "build_s", "time_s")  # fmt: skip
SIZES = tuple(2**k for k in range(14, 19))
SIX: dict[str, Sequence[Any]] = {
    "node.sram_bytes": SIZES, "kernel.bk": (32, 64, 128), "ports.*.bytes_per_cycle": (50.0, 100.0, 200.0),
    "frame.cameras": (1, 2, 4, 8), "problem.layer": ("conv1 7x7", "conv2 3x3"), "noc.link_bytes_per_cycle": (64, 128),
}  # fmt: skip


def outcome(values: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return the figures of one point: time falls with SRAM up to where the work fits, with bandwidth and tiles."""
    sram, cameras = values.get("node.sram_bytes", 65536), values.get("frame.cameras", 8)
    width, tile = values.get("ports.*.bytes_per_cycle", 100.0), values.get("kernel.bk", 64)
    spilled = max(0.0, 1 - sram / 70_000)
    compute = cameras * 1e-3 * (1 + 8 / tile)
    memory = cameras * 0.05 / width * (1 + 6 * spilled)
    seconds = max(compute, memory) + 0.1 * min(compute, memory) + chance.random() * 1e-7
    useful = cameras * 1e-3 / seconds
    waits = max(0.0, seconds - compute) / seconds * (1 - useful)
    rest = (1 - useful - waits) / 4
    losses = dict.fromkeys(CAUSES, 0.0) | {
        "useful": useful, "wait_memory": waits, "tile_quantisation": rest, "accumulator": rest, "imbalance": rest,
        "epilogue": rest,
    }  # fmt: skip
    return {
        "cycles": int(seconds * 2e9), "seconds": seconds, "utilization": useful, "tflops": 300 * useful,
        "energy_j": cameras + memory * 40, "usd": seconds * 1e-6, "bound_seconds": max(compute, memory),
        "bound_cause": "memory" if memory > compute else "compute", "flops": cameras * 10**12,
        "memory_bytes": int(memory * width * 2e9), "mesh_bytes": 10**9, "sram_bytes_used": min(sram, 70_000),
        "chip_sram_bytes": sram * 16, "memory_bytes_per_s": width * 2e9, "area_mm2": 25.0,
        **{f"loss.{cause}": share for cause, share in losses.items()}, "events": chance.randrange(10**6),
        "build_s": 0.1, "time_s": chance.random(),
    }  # fmt: skip


def rows(axes: Mapping[str, Sequence[Any]], *, illegal: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Return the rows of every combination; illegal: large tiles in small memories are, and some points time out."""
    chance = random.Random(seed)
    made = []
    for index, point in enumerate(itertools.product(*axes.values())):
        values = dict(zip(axes, point, strict=True))
        row: dict[str, Any] = {
            "index": index,
            "key": f"{index:064x}",
            "status": "ok",
            "reason": "",
            "fidelity": "packet",
        }
        row |= values | dict.fromkeys(FIGURES)
        if illegal and values.get("kernel.bk", 0) * 256 > values.get("node.sram_bytes", 1 << 20):
            row |= {"status": "illegal", "reason": "fits: kernel.bk * 256 <= node.sram_bytes"}
        elif illegal and index % 41 == 40:
            row |= {"status": "timeout", "reason": "took longer than 60 s"}
        else:
            row |= outcome(values, chance)
        made.append(row)
    return made


def results(axes: Mapping[str, Sequence[Any]], **others: Any) -> Results:
    """Return results over `axes`; others: of `rows`, and more entries of meta. Chips are mini with the axes."""
    made = rows(axes, **{name: others.pop(name) for name in ("illegal", "seed") if name in others})
    meta = {
        "title": "Buffers for eight cameras", "toml": "[problem]\nkind = 'matmul'\n", "objective": "seconds",
        "axes": [{"name": name, "values": list(values), "json": False} for name, values in axes.items()],
        "size": len(made), "package_version": "0.1.0", "host": "here", **others,
    }  # fmt: skip
    base = accel.chip("mini")
    texts: dict[str, str] = {}

    def chip(index: int) -> str | None:
        if made[index]["status"] == "illegal":
            return None
        changes = {name: made[index][name] for name in axes if name.startswith(("node.", "noc."))}
        if str(changes) not in texts:
            texts[str(changes)] = base.replace(**changes).to_toml()
        return texts[str(changes)]

    return Results(made, meta, chip)
