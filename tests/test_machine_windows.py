"""Matrix instructions on windows of a frame: every way in which two levels of steps are packed, against the chain."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.lang import K, TensorSpec


@accel.kernel
def one_row(k: K, x: TensorSpec, w: TensorSpec, y: TensorSpec, *, step: int, dilation: int) -> None:
    """y[p, q] = chain over taps and channels of x[p, q * step + tap * dilation] * w[tap]."""
    X, W, acc = k.sram(x.shape, "bf16", "X"), k.sram(w.shape, "bf16", "W"), k.sram(y.shape, "fp32", "acc")
    done = k.sem(name="done")
    k.copy(X, x, done=done)
    k.copy(W, w, done=done)
    k.wait(done, 2)
    k.matmul(acc, X.window(1, w.shape[0], step, dilation), W)
    k.copy(y, acc, sent=done)
    k.wait(done)


def chain(x: np.ndarray, w: np.ndarray, outputs: int, step: int, dilation: int) -> np.ndarray:
    """Return the chain in fp32, taps outer, channels inner; each step is exact in float64 before its one rounding."""
    rows, _, channels = x.shape
    sums = np.zeros((rows, outputs, w.shape[2]), np.float32)
    for tap in range(w.shape[0]):
        places = np.arange(outputs) * step + tap * dilation
        for c in range(channels):
            product = x[:, places, c].astype(np.float64)[..., None] * w[tap, c].astype(np.float64)
            sums = (sums + product).astype(np.float32)
    return sums


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5), outputs=st.integers(1, 19), taps=st.integers(1, 4),
    channels=st.sampled_from([1, 2, 3, 8, 17, 40]),
    columns=st.sampled_from([1, 5, 32, 37, 64]), step=st.integers(1, 3), dilation=st.integers(1, 3),
    scale=st.sampled_from([1.0, 2.0**-60]), seed=st.integers(0, 99),
)  # fmt: skip
def test_windows_equal_the_chain(rows: int, outputs: int, taps: int, channels: int, columns: int, step: int,
                                 dilation: int, scale: float, seed: int) -> None:  # fmt: skip
    width = (outputs - 1) * step + (taps - 1) * dilation + 1
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, width, channels)) * scale).astype(ml_dtypes.bfloat16)
    w = (rng.normal(size=(taps, channels, columns)) * scale).astype(ml_dtypes.bfloat16)  # squared: subnormal products
    program = one_row.build(
        "mini", mesh=(1, 1), x=accel.tensor(x.shape), w=accel.tensor(w.shape),
        y=accel.tensor((rows, outputs, columns), "fp32"), step=step, dilation=dilation,
    )  # fmt: skip
    want = chain(x, w, outputs, step, dilation)
    np.testing.assert_array_equal(program.run(x=x, w=w)["y"].view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize(("channels", "taps"), [(600, 3), (171, 3), (512, 2)])
def test_windows_deeper_than_a_panel_equal_the_chain(channels: int, taps: int) -> None:
    rng = np.random.default_rng(channels)
    x = rng.normal(size=(2, 4 + taps, channels)).astype(ml_dtypes.bfloat16)
    w = rng.normal(size=(taps, channels, 33)).astype(ml_dtypes.bfloat16)
    shapes = {"x": accel.tensor(x.shape), "w": accel.tensor(w.shape), "y": accel.tensor((2, 5, 33), "fp32")}
    program = one_row.build("mini", mesh=(1, 1), **shapes, step=1, dilation=1)
    want = chain(x, w, 5, 1, 1)
    np.testing.assert_array_equal(program.run(x=x, w=w)["y"].view(np.uint32), want.view(np.uint32))
