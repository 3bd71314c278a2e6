"""Casts of a million numbers against ml_dtypes' and NumPy's, format by format; stochastic rounding against nearest."""

from __future__ import annotations

import time
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from accel.numerics import decode, encode

COUNT = 1 << 20
# Ours, and the array type of others that has the same fields: its codes are equal but at the top of the range. NumPy
# and ml_dtypes convert bf16 at the speed of memory, so there no ratio can be large: `copies` says how far it is.
PAIRS = {
    "bf16": ({}, ml_dtypes.bfloat16),
    "fp16": ({}, np.float16),
    "cfp8-143": ({"bias": 7, "denormals": "ieee"}, ml_dtypes.float8_e4m3),
    "cfp8-152": ({"bias": 15, "denormals": "ieee"}, ml_dtypes.float8_e5m2),
    "shp16": ({"bias": 15, "denormals": "ieee"}, np.float16),
}


def best(call: Callable[[], object], seconds: float = 0.3) -> float:
    """Return the shortest of the runs that fit in `seconds`, at least three, after one to warm up."""
    call()
    shortest, begun, runs = float("inf"), time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        shortest, runs = min(shortest, time.perf_counter() - start), runs + 1
    return shortest


def report(benchmark, title: str, call: Callable[[], object], others: dict[str, float], ours: float) -> None:
    """Print our time in microseconds and each other time as a multiple of it, and keep them with the benchmark."""
    facts = {"ns_per_number": ours / COUNT * 1e9} | {name: seconds / ours for name, seconds in others.items()}
    benchmark.extra_info.update(facts)
    print(f"\n{title}: {ours * 1e6:.0f} us,", ", ".join(f"{name} {value:.3g}" for name, value in facts.items()))
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", PAIRS)
def test_rounding_against_ml_dtypes(benchmark, name):
    options, twin = PAIRS[name]
    values = np.random.default_rng(0).standard_normal(COUNT).astype(np.float32) * 4
    ours = best(lambda: encode(values, name, **options))
    theirs, copy = best(lambda: values.astype(twin)), best(values.copy)
    call = lambda: encode(values, name, **options)  # noqa: E731
    report(benchmark, f"fp32 to {name}", call, {"ratio_to_theirs": theirs, "copies": copy}, ours)


@pytest.mark.parametrize("name", PAIRS)
def test_widening_against_ml_dtypes(benchmark, name):
    options, twin = PAIRS[name]
    values = np.random.default_rng(0).standard_normal(COUNT).astype(np.float32) * 4
    codes, their_codes = encode(values, name, **options), values.astype(twin)
    ours = best(lambda: decode(codes, name, **options))
    theirs, copy = best(lambda: their_codes.astype(np.float32)), best(values.copy)
    call = lambda: decode(codes, name, **options)  # noqa: E731
    report(benchmark, f"{name} to fp32", call, {"ratio_to_theirs": theirs, "copies": copy}, ours)


@pytest.mark.parametrize("name", PAIRS)
def test_stochastic_rounding_against_nearest(benchmark, name):
    options, twin = PAIRS[name]
    values = np.random.default_rng(0).standard_normal(COUNT).astype(np.float32) * 4
    call = lambda: encode(values, name, rounding="stochastic", seed=1, **options)  # noqa: E731
    ours = best(call)
    nearest, theirs = best(lambda: encode(values, name, **options)), best(lambda: values.astype(twin))
    others = {"ratio_to_our_nearest": nearest, "ratio_to_their_nearest": theirs}
    report(benchmark, f"fp32 to {name}, stochastic", call, others, ours)
