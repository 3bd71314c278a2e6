"""The demonstration: layers of real networks built, run to the bit, checked, timed and set next to GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from accel import comparison
from accel.hardware import ChipSpec
from accel.kernels import matmul
from accel.networks import LAYERS, Layer
from accel.problem import Matmul
from accel.program import Verified

__all__ = ["GPUS", "WHOLE_BELOW", "Shown", "hard_values", "show"]

GPUS = ("v100-sxm2", "a100-sxm-80gb", "h100-sxm")
WHOLE_BELOW = 2**31  # multiply-adds up to which a layer is verified whole; larger ones by sampled stores
SAMPLED_STORES = 4


class Shown(NamedTuple):
    """One layer of the demonstration; seconds_* are host times of this process."""

    layer: Layer
    comparison: comparison.Comparison
    verified: Verified
    seconds_time: float
    seconds_run: float


def hard_values(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return bf16 values (as `ml_dtypes.bfloat16`) of both signs spread over 16 binades, from `seed` alone.

    Neither all positive nor all of one size, so that a wrong order of accumulation shows in the bits.
    """
    import ml_dtypes

    codes = np.random.default_rng(seed).integers(0, 2**16, shape, dtype=np.uint16)
    exponent = (codes >> np.uint16(7)) & np.uint16(0x0F)
    codes &= np.uint16(0x807F)
    codes |= (exponent + np.uint16(119)) << np.uint16(7)
    return codes.view(ml_dtypes.bfloat16)


def show(chip: ChipSpec, layers: tuple[Layer, ...] = LAYERS, *, progress: Callable[[str], None]) -> Iterator[Shown]:
    """Yield every layer as it is done; `progress` is told what is being worked on."""
    for seed, layer in enumerate(layers):
        problem = layer.problem
        progress(f"{layer.network} {layer.name}: timing {problem.label}")
        began = time.perf_counter()
        compared = comparison.bench(problem, chip, GPUS)
        timed = time.perf_counter()
        progress(f"{layer.network} {layer.name}: running {problem.label} bit by bit")
        a, b = _operands(problem, 2 * seed)
        ran = time.perf_counter()
        whole = problem.m * problem.n * problem.k <= WHOLE_BELOW
        verified = matmul.verify(compared.program, a, b, blocks=None if whole else SAMPLED_STORES, seed=seed)
        yield Shown(layer, compared, verified, timed - began, time.perf_counter() - ran)


def _operands(problem: Matmul, seed: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = (problem.operands[name].shape for name in "ab")
    return hard_values((a[0], a[1]), seed), hard_values((b[0], b[1]), seed + 1)
