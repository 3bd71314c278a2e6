"""The library's convolutions on this host, against torch, one thread each and in one run.

    ACCEL_TORCH_PYTHON=python-with-torch python -m pytest benchmarks/bench_conv.py -s

A figure is multiply-adds a second of CPU time. `program` is the whole of `Program.run`: inputs taken, SRAM poisoned,
every copy made, outputs returned; torch does the bare convolution on tensors in its own layout.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel.machine.fast import fast_path
from accel.problem import Conv2d

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
BATCH = 2 if SMOKE else 32
SHAPES = [(56, 64, 64, 3), (28, 128, 128, 3), (14, 256, 256, 3), (7, 512, 512, 3), (56, 64, 256, 1)]


def least(work: Callable[[], Any], rounds: int) -> float:
    """Return the least CPU seconds of some runs."""
    spent = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return min(spent)


@pytest.mark.parametrize(("size", "c", "k", "taps"), SHAPES, ids=str)
def test_convolution(benchmark: Any, size: int, c: int, k: int, taps: int) -> None:
    problem = Conv2d(BATCH, size, size, c, k, taps, taps, pad=taps // 2)
    program = accel.kernels.conv2d.build("mini", n=BATCH, h=size, w=size, c=c, k=k, r=taps, s=taps, pad=taps // 2)
    rng = np.random.default_rng(0)
    import ml_dtypes

    x, w = (rng.normal(size=problem.operands[name].shape).astype(ml_dtypes.bfloat16) for name in "xw")

    def run() -> None:
        program.run(x=x, w=w, threads=1)

    run()
    rates = {"program": problem.macs / least(run, 1 if SMOKE else 5)}
    torch = pytest.importorskip("torch", reason="torch is what the convolution is compared with")
    torch.set_num_threads(1)
    for dtype in (torch.bfloat16, torch.float32):
        image = torch.randn(BATCH, c, size, size).to(dtype).to(memory_format=torch.channels_last)
        weights = torch.randn(k, c, taps, taps).to(dtype).to(memory_format=torch.channels_last)

        def convolve(image: Any = image, weights: Any = weights) -> None:
            with torch.no_grad():
                torch.nn.functional.conv2d(image, weights, padding=taps // 2)

        convolve()
        rates[str(dtype)] = problem.macs / least(convolve, 1 if SMOKE else 5)
    facts: dict[str, Any] = {f"{name}_gmacs": round(rate / 1e9, 1) for name, rate in rates.items()}
    facts |= {
        f"ratio_to_{name}": round(rates["program"] / rate, 2) for name, rate in rates.items() if name != "program"
    }
    facts["bf16_dot"] = fast_path().on
    benchmark.extra_info.update(facts)
    print(f"\n{problem.label}:", json.dumps(facts))
    benchmark.pedantic(run, rounds=1)
