"""The guarded dot product of bf16 pairs: against the exact kernel, NumPy's OpenBLAS and torch bf16, one thread each.

torch is no dependency: where it is not installed, ACCEL_TORCH_PYTHON may name an interpreter that has it, and its
figures are taken by that one in the same run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from bench_microkernel import best, matmul_call

from accel.machine.fast import fast_path
from accel.machine.panels import EXACT_BLOCKS, FAST_BLOCKS

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
SIZES = (256,) if SMOKE else (1024, 2048, 4096)
# Tiles of SUMMA on d1 for 4096^3 (228 x 216, panels of 64 and 256 steps), and whole products.
SHAPES = [(228, 216, 64), (228, 216, 256), *((n, n, n) for n in SIZES)]
TORCH = """
import sys, time, torch
torch.set_num_threads(1)
m, n, k = map(int, sys.argv[1:])
a, b = torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16()
out = torch.empty(m, n, dtype=torch.bfloat16)
shortest, begun, runs = 1e9, time.perf_counter(), 0
torch.mm(a, b, out=out)
while runs < 3 or time.perf_counter() - begun < 0.5:
    start = time.perf_counter()
    torch.mm(a, b, out=out)
    shortest, runs = min(shortest, time.perf_counter() - start), runs + 1
print(shortest)
"""


def torch_seconds(m: int, n: int, k: int) -> float | None:
    """Return torch's best time for a bf16 product, None where no interpreter with torch is known."""
    python = os.environ.get("ACCEL_TORCH_PYTHON") or (sys.executable if importlib.util.find_spec("torch") else None)
    if python is None:
        return None
    done = subprocess.run(
        [python, "-c", TORCH, *map(str, (m, n, k))], check=True, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return float(done.stdout)


@pytest.mark.parametrize(("m", "n", "k"), SHAPES, ids=str)
def test_fast_path(benchmark: Any, m: int, n: int, k: int) -> None:
    path = fast_path()
    if not path.on:
        pytest.skip(f"the bf16 dot product is not used here: {path.reason}")
    exact, a, b, _ = matmul_call(m, n, k)
    fast, _, _, counters = matmul_call(m, n, k, fast=True)
    out = np.empty((m, n), np.float32)
    seconds = {"exact": best(exact), "dot": best(fast), "openblas": best(lambda: np.matmul(a, b, out=out))}
    torch = torch_seconds(m, n, k)
    if torch is not None:
        seconds["torch_bf16"] = torch
    facts: dict[str, Any] = {f"{name}_gflops": round(2e-9 * m * n * k / s, 1) for name, s in seconds.items()}
    facts |= {f"ratio_to_{name}": round(s / seconds["dot"], 2) for name, s in seconds.items() if name != "dot"}
    blocks = int(counters[FAST_BLOCKS])
    facts["share_of_blocks_proven"] = blocks / (blocks + int(counters[EXACT_BLOCKS]))
    benchmark.extra_info.update(facts)
    print(f"\n{m}x{n}x{k}:", json.dumps(facts))
    benchmark.pedantic(fast, rounds=3, warmup_rounds=1)
