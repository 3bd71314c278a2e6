"""The exact matmul unit against NumPy's OpenBLAS on one thread, and both against the host's fused multiply-add peak."""

from __future__ import annotations

import os
import sys

# Some machines export a core type that halves OpenBLAS; it and the number of threads are read when NumPy loads.
if "numpy" in sys.modules and os.environ.get("OPENBLAS_CORETYPE"):
    raise RuntimeError("OPENBLAS_CORETYPE is set and NumPy is loaded: unset it, or the comparison is unfair")
os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from collections.abc import Callable

import numpy as np
import pytest

from accel.isa.layout import CODE_WORDS, V_DTYPE, V_SHAPE, V_STRIDE
from accel.machine.host import fma_peak_gflops
from accel.machine.matmul import A_WORD, B_WORD, DST, DST_WORD, A, B, run_matmul
from accel.machine.microkernel import TARGET
from accel.machine.moves import nest_space
from accel.machine.units import unit_space
from accel.machine.words import C_HELD_HIGH, CONFIG_WORDS, VX_WORDS, X_ITEM
from accel.numerics.formats import fmt

SHAPES = [(64, 64, 64), (57, 54, 64), (228, 216, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048)]


def matmul_call(
    m: int, n: int, k: int, *, fast: bool = False
) -> tuple[Callable[[], None], np.ndarray, np.ndarray, np.ndarray]:
    """Return (a call of the interpreter's matmul unit, its operands a and b widened to fp32, its work space)."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    codes = [(x.view(np.uint32) >> 16).astype(np.uint16) for x in (a, b)]
    a_at = -(-m * n * 4 // 64) * 64
    b_at = a_at + -(-m * k * 2 // 64) * 64
    arena = np.zeros(b_at + k * n * 2 + 64, np.uint8)
    u16 = arena[: len(arena) // 4 * 4].view(np.uint16)
    u16[a_at // 2 : a_at // 2 + m * k], u16[b_at // 2 : b_at // 2 + k * n] = codes[0].ravel(), codes[1].ravel()
    views = np.zeros((3, VX_WORDS), np.int64)
    for i, (rows, cols, dtype) in enumerate(((m, n, "fp32"), (m, k, "bf16"), (k, n, "bf16"))):
        item = fmt(dtype).bytes
        views[i, [V_DTYPE, X_ITEM]] = fmt(dtype).code, item
        views[i, V_SHAPE : V_SHAPE + 4] = 1, rows, 1, cols
        views[i, V_STRIDE : V_STRIDE + 4] = 0, cols * item, 0, item
    code, value = np.zeros((1, CODE_WORDS), np.int64), np.zeros(8, np.int64)
    code[0, [DST_WORD, A_WORD, B_WORD]] = 0, 1, 2
    value[[DST, A, B]] = 0, a_at, b_at
    code.flags.writeable = False
    work, work32 = unit_space(fast)
    spare, config = np.zeros(CONFIG_WORDS, np.int64), np.zeros(CONFIG_WORDS, np.int64)
    nest, u32, f32 = nest_space(), u16.view(np.uint32), u16.view(np.float32)

    def call() -> None:
        config[C_HELD_HIGH] = 0  # no panels of the call before
        run_matmul(code, 0, value, views, 0, arena, u16, u32, f32, work, work32, nest, spare, config, spare)

    wide = [(c.astype(np.uint32) << 16).view(np.float32) for c in codes]
    return call, wide[0], wide[1], work32


def best(call: Callable[[], object], seconds: float = 0.3) -> float:
    """Return the shortest of the runs that fit in `seconds`, at least three, after one to warm up."""
    call()
    shortest, begun, runs = float("inf"), time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        shortest, runs = min(shortest, time.perf_counter() - start), runs + 1
    return shortest


@pytest.mark.parametrize(("m", "n", "k"), SHAPES, ids=str)
def test_matmul_unit_against_openblas(benchmark, m, n, k):
    call, a, b, _ = matmul_call(m, n, k)
    out = np.empty((m, n), np.float32)
    ours, blas = best(call), best(lambda: np.matmul(a, b, out=out))
    gflop = 2e-9 * m * n * k
    peak = fma_peak_gflops()
    facts = {
        "target": TARGET, "gflops": gflop / ours, "openblas_gflops": gflop / blas, "host_fma_peak_gflops": peak,
        "ratio_to_openblas": blas / ours, "share_of_peak": gflop / ours / peak,
    }  # fmt: skip
    benchmark.extra_info.update(facts)
    shown = (f"{name} {fact:.3g}" if isinstance(fact, float) else f"{name} {fact}" for name, fact in facts.items())
    print(f"\n{m}x{n}x{k}:", ", ".join(shown))
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
