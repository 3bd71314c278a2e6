"""Convolutions on this host against torch, one thread each, in one run and in turns.

    ACCEL_BENCH_SECONDS=20 python-with-torch -m pytest benchmarks/bench_conv.py -s

A figure is multiply-adds a second of CPU time, padding counted as if it were multiplied, the best of many turns. What
is measured on our side:

- *matrix unit*: the instruction alone, as `bench_fast_path.py` does for products. Frames with their padding and
  filters lie in one SRAM; one matmul an image, its left operand the shifted view of the frame that the kernel takes,
  and nothing is prepared beforehand: packing, guard and chains are part of it, and a pass over the batch begins with no
  panels held. A 1x1 convolution is one matmul over the pixels of all images.
- *Program.run*: the library's kernel on sixteen nodes of 256 KiB, or on one node that holds all: inputs taken, SRAM
  poisoned, every copy made, outputs rounded and returned.

torch does the bare convolution on tensors in its own layout (channels last), its result in the operands' format.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel.isa.layout import CODE_WORDS, V_DTYPE, V_SHAPE, V_STRIDE
from accel.machine.fast import fast_path
from accel.machine.matmul import A_WORD, B_WORD, DST, DST_WORD, A, B, run_matmul
from accel.machine.moves import nest_space
from accel.machine.units import unit_space
from accel.machine.words import C_HELD_HIGH, CONFIG_WORDS, VX_WORDS, X_ITEM
from accel.numerics.formats import fmt
from accel.problem import Conv2d

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
SECONDS = 0.0 if SMOKE else float(os.environ.get("ACCEL_BENCH_SECONDS", "6"))
BATCH = 2 if SMOKE else 32
SHAPES = [(56, 64, 64, 3), (28, 128, 128, 3), (14, 256, 256, 3), (7, 512, 512, 3), (56, 64, 256, 1)]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is what the convolutions are compared with"
)


def rates(calls: dict[str, Callable[[], Any]], macs: int, seconds: float = SECONDS) -> dict[str, float]:
    """Return the best multiply-adds a second of CPU time (10^9) of each call, made in turns for some seconds."""
    for call in calls.values():
        call()
    shortest, begun = dict.fromkeys(calls, float("inf")), time.perf_counter()
    while True:
        for name, call in calls.items():
            start = time.process_time()
            call()
            shortest[name] = min(shortest[name], time.process_time() - start)
        if time.perf_counter() - begun >= seconds:
            return {name: 1e-9 * macs / spent for name, spent in shortest.items()}


def torch_calls(size: int, c: int, k: int, taps: int) -> dict[str, Callable[[], Any]]:
    """Return torch's convolution in bf16 and fp32."""
    import torch

    torch.set_num_threads(1)
    calls: dict[str, Callable[[], Any]] = {}
    for dtype in (torch.bfloat16, torch.float32):
        image = torch.randn(BATCH, c, size, size).to(dtype).to(memory_format=torch.channels_last)
        weights = torch.randn(k, c, taps, taps).to(dtype).to(memory_format=torch.channels_last)

        def convolve(image: Any = image, weights: Any = weights) -> None:
            with torch.no_grad():
                torch.nn.functional.conv2d(image, weights, padding=taps // 2)

        calls[str(dtype)] = convolve
    return calls


def unit_call(
    size: int, c: int, k: int, taps: int, *, fast: bool, batch: int = BATCH
) -> tuple[Callable[[], None], Callable[[], Any]]:
    """Return what convolves a batch on the matrix unit alone, and what returns the result, (batch, size, size, k)."""
    rng, side = np.random.default_rng(0), size + taps - 1
    pad, pixels = taps // 2, size * size
    frames, filters = np.zeros((batch, side, side, c), np.float32), rng.standard_normal((taps * taps * c, k))
    frames[:, pad : pad + size, pad : pad + size] = rng.standard_normal((batch, size, size, c))
    codes = [(x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for x in (frames, filters)]
    places = np.cumsum([0, *(-(-size // 64) * 64 for size in (4 * batch * pixels * k, *(x.nbytes for x in codes)))])
    arena = np.zeros(int(places[-1]) + 64, np.uint8)
    u16, u32 = arena.view(np.uint16), arena.view(np.uint32)
    for place, x in zip(places[1:], codes, strict=False):
        u16[place // 2 :][: x.size] = x.ravel()
    rows, line = pixels if taps > 1 else batch * pixels, 2 * side * c
    windows = (
        ((size, size, taps, taps * c), (line, 2 * c, line, 2)) if taps > 1 else ((1, rows, 1, c), (0, 2 * c, 0, 2))
    )
    forms = (
        ((1, rows, 1, k), (0, 4 * k, 0, 4), "fp32"), (*windows, "bf16"),
        ((1, len(filters), 1, k), (0, 2 * k, 0, 2), "bf16"),
    )  # fmt: skip
    views = np.zeros((3, VX_WORDS), np.int64)
    for i, (shape, strides, dtype) in enumerate(forms):
        views[i, [V_DTYPE, X_ITEM]] = fmt(dtype).code, fmt(dtype).bytes
        views[i, V_SHAPE : V_SHAPE + 4], views[i, V_STRIDE : V_STRIDE + 4] = shape, strides
    code = np.zeros((1, CODE_WORDS), np.int64)
    code[0, [DST_WORD, A_WORD, B_WORD]] = 0, 1, 2
    code.flags.writeable = False
    values = []
    for i in range(batch if taps > 1 else 1):
        value = np.zeros(8, np.int64)
        value[[DST, A, B]] = 4 * i * pixels * k, places[1] + i * side * line, places[2]
        values.append(value)
    (work, work32), nest, config = unit_space(fast), nest_space(), np.zeros(CONFIG_WORDS, np.int64)
    spare, f32 = np.zeros(CONFIG_WORDS, np.int64), u32.view(np.float32)

    def call() -> None:
        config[C_HELD_HIGH] = 0
        for value in values:
            run_matmul(code, 0, value, views, 0, arena, u16, u32, f32, work, work32, nest, spare, config, spare)

    return call, lambda: u32[: batch * pixels * k].reshape(batch, size, size, k).copy()


def report(benchmark: Any, label: str, measured: dict[str, float], ours: tuple[str, ...]) -> None:
    """Print and keep rates and the ratio of each of ours to torch."""
    facts: dict[str, Any] = {f"{name}_gmacs": round(rate, 1) for name, rate in measured.items()}
    for name in ours:
        facts |= {f"{name}_to_{other}": round(measured[name] / rate, 2)
                  for other, rate in measured.items() if other not in ours}  # fmt: skip
    facts |= {"bf16_dot": fast_path().on, "load": round(os.getloadavg()[0], 1)}
    benchmark.extra_info.update(facts)
    print(f"\n{label}:", json.dumps(facts))


@pytest.mark.parametrize(("size", "c", "k", "taps"), SHAPES, ids=str)
def test_matrix_unit(benchmark: Any, size: int, c: int, k: int, taps: int) -> None:
    names, ways = {"exact": False, "dot": True}, {}
    results = []
    for name, fast in names.items():
        if fast and not fast_path().on:
            continue
        call, result = unit_call(size, c, k, taps, fast=fast)
        call()
        results.append(result())
        ways[name] = call
    assert all(np.array_equal(results[0], other) for other in results)
    macs = BATCH * size * size * taps * taps * c * k
    measured = rates({**ways, **torch_calls(size, c, k, taps)}, macs)
    report(benchmark, f"matrix unit, {taps}x{taps} of {size}x{size}, {c} to {k}", measured, tuple(ways))
    benchmark.pedantic(ways["exact"], rounds=1)


@pytest.mark.parametrize(("size", "c", "k", "taps"), SHAPES, ids=str)
def test_program_run(benchmark: Any, size: int, c: int, k: int, taps: int) -> None:
    import ml_dtypes

    problem = Conv2d(BATCH, size, size, c, k, taps, taps, pad=taps // 2)
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=problem.operands[name].shape).astype(ml_dtypes.bfloat16) for name in "xw")
    one = accel.chip("mini").replace(**{"mesh.rows": 1, "mesh.cols": 1, "node.sram_bytes": 1 << 28})
    ways = {}
    for name, chip in {"mini": "mini", "one_node": one}.items():
        program = accel.kernels.conv2d.build(chip, n=BATCH, h=size, w=size, c=c, k=k, r=taps, s=taps, pad=taps // 2)
        ways[name] = lambda program=program: program.run(x=x, w=w, threads=1)
    measured = rates({**ways, **torch_calls(size, c, k, taps)}, problem.macs)
    report(benchmark, f"Program.run, {problem.label}", measured, tuple(ways))
    benchmark.pedantic(ways["mini"], rounds=1)
