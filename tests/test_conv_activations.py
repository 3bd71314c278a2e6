"""Activations that follow a convolution: every one, next to float64, and with strips that cut rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import InputError
from accel.kernels.catalog import kernel_of
from accel.numerics import gamma
from accel.problem import Conv2d, Conv3d, ConvTranspose2d, StreamingConv
from accel.problem.convolution import ACTIVATIONS
from accel.testing import kernel_property

MINI = accel.chip("mini")
erf = np.vectorize(math.erf)
FLOAT64 = {
    "none": lambda s: s,
    "relu": lambda s: np.maximum(s, 0),
    "gelu": lambda s: s / 2 * (1 + erf(s / math.sqrt(2))),
    "gelu_tanh": lambda s: s / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (s + 0.044715 * s**3))),
    "silu": lambda s: s / (1 + np.exp(-s)),
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    "tanh": np.tanh,
}
STEEPEST = 1.2  # of all of these: gelu, near sqrt(2), has a slope of 1.13


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_float64(activation: str, bias: bool) -> None:
    """A sum of 37 terms errs by gamma_37 of their sizes; the activation passes it on, and adds some ulp of its own."""
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-32, 33, size).astype(np.float32) / 16 for size in ((2, 5, 6, 4), (3, 3, 4, 7)))
    given: dict[str, Any] = {"x": x, "w": w, **({"bias": rng.normal(size=7).astype(np.float32)} if bias else {})}
    problem = Conv2d(2, 5, 6, 4, 7, 3, 3, pad=1, out_dtype="fp32", bias=bias, activation=activation)
    got = kernel_of(problem).program(MINI, problem).run(given)["y"].astype(np.float64)
    sums, sizes = ((convolved(f(x), f(w)) + f(given.get("bias", np.zeros(7)))) for f in (np.float64, np.abs))
    want = FLOAT64[activation](sums)
    allowed = STEEPEST * float(gamma(37)) * sizes + 32 * 2.0**-24 * (np.abs(want) + np.abs(sums) * 2.0**-3 + 2.0**-20)
    assert (np.abs(got - want) <= allowed).all()
    assert allowed.max() < 1e-3 * np.abs(sums).max()


def convolved(x: Any, w: Any) -> Any:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("npqcrs,rsck->npqk", windows, w)


@pytest.mark.parametrize("activation", ["gelu", "silu"])
@pytest.mark.parametrize(
    "problem",
    [
        Conv2d(1, 2, 90, 3, 300, 1, 1),  # strips are shorter than rows
        Conv2d(1, 3, 3, 2, 2500, 1, 1),  # one pixel is more than a strip
        Conv3d(1, 3, 4, 5, 4, 9, 2, 3, 3, pad=(0, 1, 1)),
        ConvTranspose2d(1, 5, 6, 4, 9, 3, 3, stride=2, pad=1),
        ConvTranspose2d(1, 9, 9, 8, 300, 2, 2, stride=2),
        StreamingConv(4, 5, 6, 3, 8, 2, 3, 3, pad=1),
    ],
    ids=lambda p: p.label.replace(" ", "-"),
)
def test_every_convolution_takes_them_to_the_bit(problem: Any, activation: str) -> None:
    fields = {**problem.to_dict(), "activation": activation, "bias": True, "out_dtype": "fp32"}
    case = type(problem).from_dict(fields)
    held = kernel_property(problem.kind, cases=[case], schedules=1).property
    for stage in ("hazards", "reference", "variants"):
        held.stage(stage)


def test_only_forward_takes_them() -> None:
    with pytest.raises(InputError, match="activation='gelu' has no part in direction 'wgrad'"):
        Conv2d(1, 4, 4, 2, 2, 3, 3, direction="wgrad", activation="gelu")
    with pytest.raises(InputError, match="activation='swish'"):
        Conv2d(1, 4, 4, 2, 2, 3, 3, activation="swish")
