"""Sweeps that screen first, next to timing every point: what is kept, what is said, fronts and knees of real rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
from sweep_cases import Instant

import accel
from accel.problem import Softmax
from accel.sweep import Space
from accel.sweep.evaluate import evaluate
from accel.sweep.fronts import Knee, knee, pareto
from accel.sweep.screen import CAUSES, screen
from accel.sweep.screening import notes

CHIPS = {
    "problem": {"kind": "matmul", "m": 64, "n": 64},
    "chip": {"base": "mini"},
    "axes": {"problem.k": [16, 64], "ports.*.bytes_per_cycle": [2.0, 8.0, 200.0], "clock_hz": [10**9, 2 * 10**9]},
}


def chosen(**keys: Any) -> list[int]:
    """Return the points that a screened sweep over `CHIPS` goes on with."""
    result = accel.sweep({**CHIPS, "screen": "bound", **keys}, executor=Instant())
    return [row["index"] for row in result.rows if row["status"] == "ok"]


@pytest.mark.parametrize(
    "objective", ["seconds", "cycles", "-utilization", "-tflops", "clock_hz", "-problem.k", "energy_j"]
)
def test_what_a_screening_keeps_is_best_by_the_objective(objective: str) -> None:
    space = Space.from_dict(CHIPS)
    found = screen(space)
    rank = []
    for index in range(len(space)):
        point = space.resolve(index)
        ((_, _, problem),) = point.problems
        bound = problem.bound(point.chip).seconds
        figures = {
            "seconds": bound, "cycles": bound * point.chip.clock_hz, "tflops": problem.flops / bound / 1e12,
            "utilization": problem.flops / bound / point.chip.peak_flops("bf16"), **space.values(index),
        }  # fmt: skip
        assert found.tflops[index] == pytest.approx(figures["tflops"], rel=1e-12)
        sign = -1 if objective.startswith("-") else 1
        rank.append(sign * figures.get(objective.removeprefix("-"), bound))
    order = space.order().tolist()
    expected = sorted(order, key=lambda index: (round(rank[index], 15), order.index(index)))[:4]
    assert chosen(objective=objective, keep=4) == sorted(expected)


def test_what_the_closed_form_does_not_see_is_said() -> None:
    assert notes(Space.from_dict({**CHIPS, "objective": "-utilization"})) == []
    axes = {"kernel.strip": [8, 16], "kernel.stages": [2, 3], "kernel.resident": [[], ["a"]], "clock_hz": [10**9]}
    text = {**CHIPS, "problem": {**CHIPS["problem"], "k": 8}, "axes": axes, "objective": "energy_j"}
    tiles, objective = notes(Space.from_dict(text))
    assert "does not know kernel.strip, kernel.stages: points that differ in nothing else are equal" in tiles
    assert "does not know energy_j: the points with the least seconds are kept" in objective
    result = accel.sweep({**text, "screen": "bound", "keep": 2}, executor=Instant())
    assert tiles in result.notice
    assert objective in result.notice


def test_real_rows_never_beat_the_screen_and_their_front_is_what_every_pair_says() -> None:
    space = Space.from_dict(CHIPS)
    rows = accel.sweep(space, workers=1).rows
    found = screen(space)
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        at = row["index"]
        assert (row["bound_seconds"], row["bound_cause"]) == (found.seconds[at], CAUSES[found.cause[at]])
        assert row["seconds"] >= found.seconds[at]
        assert row["utilization"] <= found.utilization[at] * (1 + 1e-12)
        assert row["flops"] == found.flops[at]
    names = ("seconds", "memory_bytes_per_s")
    keys = [(*(row[name] for name in names), -row["chip_sram_bytes"]) for row in rows]
    beaten = [any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in keys) for a in keys]
    front = pareto(rows, minimise=names, maximise="chip_sram_bytes").tolist()
    assert front == [i for i, one in enumerate(beaten) if not one]
    assert 0 < len(front) < len(rows)


def test_a_knee_over_rows_with_missing_figures() -> None:
    rows: list[dict[str, Any]] = [
        {"sram": 1, "cycles": None}, {"sram": 2, "cycles": 50}, {"sram": 4, "cycles": 20}, {"sram": 8, "cycles": 20},
    ]  # fmt: skip
    cycles = [math.nan if row["cycles"] is None else row["cycles"] for row in rows]
    assert knee([row["sram"] for row in rows], cycles) == Knee(2, 4.0, 20.0)
    assert knee([row["sram"] for row in rows], [row["cycles"] for row in rows]) == Knee(2, 4.0, 20.0)


def test_the_cause_of_several_problems_is_that_of_most_seconds() -> None:
    """Two problems bound by memory outweigh one bound by compute that takes longer than either."""
    fast = {"bytes_per_cycle": 1e5, "edge_bytes_per_cycle": 1e5, "link_bytes_per_cycle": 1 << 16}
    chip = accel.chip("mini").replace(**{"ports.west": fast})
    compute, memory = accel.problem.Matmul(64, 64, 512), Softmax(16, 32)
    bounds = [compute.bound(chip), memory.bound(chip)]
    assert [bound.cause for bound in bounds] == ["compute", "memory"]
    times = int(0.7 * bounds[0].seconds / bounds[1].seconds) + 1
    problems = [[1, "one", compute.to_dict()], [times, "two", memory.to_dict()], [times, "three", memory.to_dict()]]
    job = {"chip": chip.to_dict(), "problems": problems, "kernel": {}, "resident": [], "fidelity": "bound"}
    assert evaluate(job)["bound_cause"] == "memory"
