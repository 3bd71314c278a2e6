"""Hazard checker: its time next to the executor's on a SUMMA of 16 x 16 nodes, and on meshes of thousands of nodes.

The ratio is of one run on one machine: check(schedules=) of the finished program over run() of the same program with
data. The bound is 20; tiles of 16 are the hardest for the checker, which sees instructions and not multiply-adds.
ACCEL_BENCH=smoke measures the same on small shapes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
import numpy as np
import pytest

import accel
from accel.hardware import ChipSpec, chip
from accel.kernels import matmul

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
ROUNDS = 1 if SMOKE else 5
BOUND = 20
SHAPES = [(256, 256, 256, 16), (512, 512, 512, 32)] + [(512, 512, 8192, 32), (4096, 4096, 2048, 128)] * (not SMOKE)
MESHES = [(30, 40)] + [(90, 95)] * (not SMOKE)


def mesh(rows: int, cols: int) -> ChipSpec:
    """A chip of rows x cols of d1's nodes with one memory port along the west edge."""
    mini, d1 = chip("mini"), chip("d1")
    replace = msgspec.structs.replace
    routers = tuple((row, 0) for row in range(rows))
    port = replace(mini.ports[0], routers=routers, edge_bytes_per_cycle=64.0 * rows, bytes_per_cycle=400.0)
    sites = replace(mini.mesh, site_rows=rows, site_cols=cols, rows=rows, cols=cols)
    return replace(mini, name=f"mesh-{rows}x{cols}", mesh=sites, node=d1.node, ports=(port,), assumptions={})


def summa(spec: ChipSpec, m: int, n: int, k: int, bk: int) -> accel.Program:
    rows, cols = spec.mesh.rows, spec.mesh.cols
    tensors = {"a": accel.tensor((m, k), "bf16"), "b": accel.tensor((k, n), "bf16"), "c": accel.tensor((m, n), "bf16")}
    return matmul.summa.build(spec, **tensors, bm=m // rows, bn=n // cols, bk=bk)


@pytest.mark.parametrize("schedules", [0, 4])
@pytest.mark.parametrize(("m", "n", "k", "bk"), SHAPES)
def test_against_the_executor(benchmark: Any, m: int, n: int, k: int, bk: int, schedules: int) -> None:
    program = summa(mesh(16, 16), m, n, k, bk)
    inputs = {name: np.ones(shape, np.float32) for name, (shape, _) in program.inputs.items()}
    program.run(inputs)  # compiles
    runs = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        program.run(inputs)
        runs.append(time.perf_counter() - start)
    findings = benchmark.pedantic(program.findings, (schedules,), rounds=ROUNDS, warmup_rounds=1)
    assert findings == ()
    run_s = float(np.median(runs))
    ratio = benchmark.stats.stats.median / run_s
    print(f"check(schedules={schedules}) of {m} x {n} x {k} in {bk}: {ratio:.2f} x run ({run_s * 1e3:.1f} ms)")
    benchmark.extra_info |= {"run_s": run_s, "ratio": ratio, "bound": BOUND}


@pytest.mark.parametrize(("rows", "cols"), MESHES)
def test_meshes_of_thousands(benchmark: Any, rows: int, cols: int) -> None:
    program = summa(mesh(rows, cols), 16 * rows, 16 * cols, 256, 16)
    assert benchmark.pedantic(program.findings, (0,), rounds=1, warmup_rounds=1) == ()
    benchmark.extra_info["nodes"] = rows * cols
