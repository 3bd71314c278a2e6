"""Tracing cost: microseconds an instruction of a SUMMA, and a kernel of border ifs on 90 x 95 nodes.

Targets on the reference machine: 5 us an instruction, 0.5 s for the border ifs. The ratio to a plain Python loop of a
million additions in the same run is printed, so that other machines can be compared.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import accel
from accel.isa.program import Program
from accel.lang import Kernel, tensor

STEPS, TILE = 2000, 64


def summa(k, a, b, c, *, steps, tile):
    (R, P), row, col = k.mesh, k.row, k.col
    A, B = k.sram((2, tile, tile), "bf16", "A"), k.sram((2, tile, tile), "bf16", "B")
    acc, out = k.sram((tile, tile), "fp32", "acc"), k.sram((tile, tile), "bf16", "out")
    A_full, B_full, A_free, B_free = (k.sem(2, n) for n in ("A_full", "B_full", "A_free", "B_free"))
    ready, stored = k.sem(name="ready"), k.sem(name="stored")

    @k.thread
    def load():
        for t in range(steps):
            s, depth = t % 2, slice(t * tile, (t + 1) * tile)
            with k.when(col == t % P):
                if t >= 2:
                    k.wait(A_free[s], P)
                k.copy(A[s], a[row * tile : (row + 1) * tile, depth], to=k.row_nodes(), done=A_full[s])
            with k.when(row == t % R):
                if t >= 2:
                    k.wait(B_free[s], R)
                k.copy(B[s], b[depth, col * tile : (col + 1) * tile], to=k.col_nodes(), done=B_full[s])

    @k.thread
    def compute():
        for t in range(steps):
            s = t % 2
            k.wait(A_full[s])
            k.wait(B_full[s])
            k.matmul(acc, A[s], B[s], accumulate=t > 0)
            if t + 2 < steps:
                k.inc(A_free[s], at=(row, (t + 2) % P))
                k.inc(B_free[s], at=((t + 2) % R, col))
        k.vec.cast(out, acc)
        k.inc(ready)

    @k.thread
    def store():
        k.wait(ready)
        k.copy(c[row * tile : (row + 1) * tile, col * tile : (col + 1) * tile], out, sent=stored)
        k.wait(stored)


def borders(k, x):
    (R, P), row, col = k.mesh, k.row, k.col
    halo, s = k.sram((5, 16), "bf16"), k.sem()

    @k.thread
    def exchange():
        k.copy(halo[4], x[row, col], done=s)
        k.wait(s)
        if row > 0:
            k.copy(halo[0], halo[4], to=(row - 1, col), done=s)
        if row < R - 1:
            k.copy(halo[1], halo[4], to=(row + 1, col), done=s)
        if col > 0:
            k.copy(halo[2], halo[4], to=(row, col - 1), done=s)
        if col < P - 1:
            k.copy(halo[3], halo[4], to=(row, col + 1), done=s)


def plain_loop() -> float:
    """Return the seconds of a million additions in plain Python."""
    begin, total = time.perf_counter(), 0
    for i in range(1_000_000):
        total += i
    return time.perf_counter() - begin


def trace(fn: Any, chip: accel.ChipSpec, tensors: dict[str, Any], params: dict[str, int]) -> Program:
    return Kernel(fn).trace(chip, tensors, params)


@pytest.mark.benchmark(group="lang")
def test_summa_per_instruction(benchmark: Any) -> None:
    chip = accel.chip("d1")
    rows, cols, depth = chip.mesh.rows * TILE, chip.mesh.cols * TILE, STEPS * TILE
    spec = {"a": tensor((rows, depth)), "b": tensor((depth, cols)), "c": tensor((rows, cols))}
    program = benchmark.pedantic(trace, (summa, chip, spec, {"steps": STEPS, "tile": TILE}), rounds=5, warmup_rounds=1)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info.update(
        us_per_instruction=seconds / program.instructions * 1e6, plain_loop_ratio=seconds / plain_loop()
    )
    print(f"\n{program.instructions} instructions, {seconds / program.instructions * 1e6:.2f} us each")


@pytest.mark.benchmark(group="lang")
def test_border_ifs_on_a_tile(benchmark: Any) -> None:
    d1 = accel.chip("d1")
    chip = d1.replace(mesh={"site_rows": 90, "site_cols": 95, "rows": 90, "cols": 95, "holes": ()})
    program = benchmark.pedantic(trace, (borders, chip, {"x": tensor((90, 95, 16))}, {}), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(roles=program.roles, plain_loop_ratio=benchmark.stats.stats.median / plain_loop())
    print(f"\n{program.roles} roles on 90 x 95 nodes in {benchmark.stats.stats.median * 1e3:.1f} ms")
