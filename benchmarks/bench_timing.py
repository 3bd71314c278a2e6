"""Cycle model: events a second in process, on a full matmul, on a mesh under all-to-all load, and its cold compile.

The floor is 10 million events a second, the goal 20 million, on the two-core reference machine.
ACCEL_BENCH=smoke measures the same on small shapes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

import pytest

import accel
from accel.hardware import ChipSpec, chip
from accel.isa import Program
from accel.kernels import matmul
from accel.timing import Timing, simulate

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
ROUNDS = 1 if SMOKE else 5
FLOOR, GOAL = 10e6, 20e6
COLD = (
    "import time; from accel.hardware import chip; from accel.kernels import matmul; from accel.timing import simulate;"
    "p = matmul.build('mini', m=64, n=48, k=32).isa; t = time.perf_counter(); simulate(p, chip('mini'));"
    "print(time.perf_counter() - t)"
)


@accel.kernel
def all_to_all(k, x, *, rounds):  # type: ignore[no-untyped-def]
    """Every node sends a block to every row and column of the mesh, again and again: links are the limit."""
    (rows, cols), block = k.mesh, k.sram((1024,), "bf16", "block")
    done = k.sem(name="done")

    @k.thread
    def move() -> None:
        k.copy(block, x[0:1024], done=done)
        k.wait(done)
        for _ in k.loop(rounds):
            k.copy(block, block, to=k.row_nodes(), done=done)
            k.copy(block, block, to=k.col_nodes(), done=done)
            k.wait(done, rows + cols)


def load_program(spec: ChipSpec) -> Program:
    return all_to_all.build(spec, x=accel.tensor((1024,), "bf16"), rounds=4 if SMOKE else 100).isa


def matmul_program(spec: ChipSpec) -> Program:
    n = 1024 if SMOKE else 8192
    return matmul.build(spec, m=n, n=n, k=n).isa


@pytest.mark.parametrize("make", [matmul_program, load_program])
@pytest.mark.parametrize("packet_bytes", [1024, 256])
def test_events(benchmark: Any, make: Any, packet_bytes: int) -> None:
    spec = chip("d1")
    program = make(spec)

    def run() -> Timing:
        return simulate(program, spec, packet_bytes=packet_bytes)

    timing = benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info |= {
        "events": timing.events, "cycles": timing.cycles, "events_per_s": timing.events / benchmark.stats.stats.median,
        "floor": FLOOR, "goal": GOAL,
    }  # fmt: skip


@pytest.mark.slow
def test_cold_compile(benchmark: Any) -> None:
    def cold() -> float:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", COLD], check=True, capture_output=True, text=True,
                env={**os.environ, "ACCEL_CACHE_DIR": folder},
            )  # fmt: skip
        return float(done.stdout)

    benchmark.extra_info["compile_s"] = benchmark.pedantic(cold, rounds=1)
