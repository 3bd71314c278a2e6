"""Batch norm: bits of the definition on any shape and mesh; exact sums; running statistics and gradients of torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh, random_inputs

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import batchnorm
from accel.problem import BatchNorm

U = 2.0**-24
SIZE = st.one_of(st.integers(1, 9), st.sampled_from([1, 2, 16, 17]))
CHANNELS = st.one_of(st.integers(1, 70), st.sampled_from([1, 16, 31, 64, 130]))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
DIRECTIONS = st.sampled_from(["fwd", "bwd", "inference"])


@pytest.mark.parametrize("problem", batchnorm.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: BatchNorm) -> None:
    agree(problem, schedules=3)


@settings(max_examples=20)
@given(SIZE, SIZE, SIZE, CHANNELS, FORMATS, DIRECTIONS, st.integers(0, 2**32 - 1))
@example(9, 17, 17, 130, "bf16", "bwd", 0)
def test_any_shape(n: int, h: int, w: int, c: int, dtype: str, direction: str, seed: int) -> None:
    if (n, h, w) == (1, 1, 1):
        n = 2  # training on one row is refused
    agree(BatchNorm(n, h, w, c, dtype, direction=direction), seed=seed, schedules=1)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 600), CHANNELS, DIRECTIONS, st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    rows: int, cols: int, pixels: int, c: int, direction: str, data: st.DataObject
) -> None:
    tiling = {
        "block": data.draw(st.sampled_from([8, 16, 64])),
        "held": data.draw(st.integers(0, 1)),
        "depth": data.draw(st.integers(1, 3)),
    }
    chip = on_mesh(rows, cols)
    try:
        agree(BatchNorm(pixels, 1, 1, c, direction=direction), chip, schedules=1, **tiling)
    except CapacityError:
        assert tiling["held"]  # more slots than semaphores
        agree(BatchNorm(pixels, 1, 1, c, direction=direction), chip, **(tiling | {"held": 0}))


def test_pixels_that_do_not_fit_are_read_again() -> None:
    small, problem = on_mesh(2, 2, **{"node.sram_bytes": 48 * 1024}), BatchNorm(6, 64, 64, 16)
    agree(problem, small)
    once = 6 * 64 * 64 * 16 * 2
    assert built(problem, small).time().bytes["memory_read"] >= 3 * once
    assert built(problem).time().bytes["memory_read"] < 1.1 * once


def test_pieces_are_no_more_than_semaphores() -> None:
    problem = BatchNorm(1, 40, 40, 16, direction="bwd")
    agree(problem, on_mesh(1, 1, **{"node.semaphores": 96}))


@settings(max_examples=15)
@given(st.integers(2, 700), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_sums_of_small_integers_are_exact(pixels: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, gy = rng.integers(-3, 4, (2, pixels, 1, 1, c))
    ones = {"gamma": np.ones(c), "mean": np.zeros(c), "rstd": np.ones(c)}
    problem = BatchNorm(pixels, 1, 1, c, out_dtype="fp32", direction="bwd")
    out = agree(problem, inputs={"x": x, "gy": gy} | ones)
    assert (out["gbeta"].astype(np.int64) == gy.sum(axis=(0, 1, 2))).all()
    assert (out["ggamma"].astype(np.int64) == (gy * x).sum(axis=(0, 1, 2))).all()


def test_channels_are_independent() -> None:
    problem = BatchNorm(3, 5, 7, 33, dtype="fp32")
    inputs = random_inputs(problem, 5)
    whole = agree(problem, inputs=inputs)
    order = np.random.default_rng(1).permutation(33)
    turned = agree(problem, inputs={name: values[..., order] for name, values in inputs.items()})
    assert all((turned[name] == whole[name][..., order]).all() for name in whole)
    inputs["x"][1, 2, 3, 7] = np.nan
    spoiled = agree(problem, inputs=inputs)
    assert np.isnan(spoiled["y"][..., 7]).all()
    others = np.arange(33) != 7
    assert (spoiled["y"][..., others] == whole["y"][..., others]).all()


def test_inference_of_the_batch_statistics_is_training() -> None:
    train = BatchNorm(4, 6, 6, 20, dtype="fp32", epsilon=0.0, momentum=1.0)
    inputs = random_inputs(train, 9)
    out = agree(train, inputs=inputs)
    count = train.rows
    running = {"running_mean": out["mean"], "running_var": out["new_var"] * np.float32((count - 1) / count)}
    y = agree(BatchNorm(4, 6, 6, 20, "fp32", "", "inference", 0.0), inputs=inputs | running)["y"]
    assert np.abs(y - out["y"]).max() <= 8 * U * np.abs(out["y"] - inputs["beta"]).max() + 4 * U * np.abs(y).max()


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (5, 4, 3, 17), (16, 12, 12, 8)])
def test_training_and_gradients_are_those_of_torch(shape: tuple[int, int, int, int]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: batch norm is not compared with autograd")
    problem = BatchNorm(*shape, dtype="fp32")
    inputs = random_inputs(problem, 3)
    inputs["x"] += np.float32(3)
    wide = {name: torch.tensor(values, dtype=torch.float64) for name, values in inputs.items()}
    x, gamma, beta = (wide[name].requires_grad_() for name in ("x", "gamma", "beta"))
    mean, var = wide["running_mean"], wide["running_var"]
    y = torch.nn.functional.batch_norm(x.permute(0, 3, 1, 2), mean, var, gamma, beta, True, 0.1, 1e-5)
    y = y.permute(0, 2, 3, 1)
    gy = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    y.backward(torch.tensor(gy, dtype=torch.float64))
    out = agree(problem, inputs=inputs)
    x64, axes = inputs["x"].astype(np.float64), (0, 1, 2)
    # Depth of a sum: a chain of 8, a tree over blocks, and a rounding for each operation of the formula, first order.
    units = (8 + np.log2(problem.rows) + 12) * U
    center = x64.mean(axes)
    variance = x64.var(axes)
    rstd = 1 / np.sqrt(variance + 1e-5)
    h, d_mean = np.abs(x64 - center) * rstd, units * np.abs(x64).mean(axes)
    # With tiny variances the error of the mean enters it squared and by 2 d_mean |x - mean|.
    d_var = units * variance + 2 * d_mean * np.abs(x64 - center).mean(axes) + d_mean**2
    d_h = rstd * d_mean + h * (units + d_var * rstd**2)
    assert (
        np.abs(out["y"] - y.detach().numpy()) <= np.abs(inputs["gamma"]) * d_h + 4 * U * np.abs(y.detach().numpy())
    ).all()
    assert (np.abs(out["new_mean"] - mean.numpy()) <= d_mean + 4 * U * (1 + np.abs(mean.numpy()))).all()
    spread = problem.rows / (problem.rows - 1)
    assert (np.abs(out["new_var"] - var.numpy()) <= d_var * spread + 4 * U * (1 + var.numpy())).all()
    saved = {"gy": gy, "x": inputs["x"], "gamma": inputs["gamma"], "mean": out["mean"], "rstd": out["rstd"]}
    back = agree(BatchNorm(*shape, dtype="fp32", out_dtype="fp32", direction="bwd"), inputs=saved)
    g = np.abs(gy * inputs["gamma"].astype(np.float64))
    size = g + g.mean(axes) + h * (g * h).mean(axes)
    moved = d_h * (g * h).mean(axes) + h * (g * d_h).mean(axes) + size * (units + d_var * rstd**2)
    assert (np.abs(back["gx"] - x.grad.numpy()) <= rstd * (units * size + moved)).all()
    assert (np.abs(back["ggamma"] - gamma.grad.numpy()) <= (np.abs(gy) * (units * h + d_h)).sum(axes)).all()
    assert (np.abs(back["gbeta"] - beta.grad.numpy()) <= units * np.abs(gy).sum(axes)).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"n": 1, "h": 1, "w": 1}, InputError, "one row has no unbiased variance"),
        ({"c": 0}, InputError, "c=0 is outside"),
        ({"dtype": "cfp8-143"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "train"}, InputError, "is not one of fwd, bwd, inference"),
        ({"momentum": 1.5}, InputError, "momentum=1.5 is outside 0..1"),
        ({"epsilon": -1.0}, InputError, "epsilon=-1.0 is outside"),
        ({"resident": ("y",)}, UnsupportedError, "leave resident=y out"),
        ({"block": 12}, InputError, "use 8 times a power of two"),
        ({"rows": 8}, InputError, "unknown parameter 'rows'"),
        ({"c": 1 << 18}, CapacityError, "use fewer channels"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        batchnorm.build(accel.chip("mini"), **{"n": 2, "h": 4, "w": 4, "c": 8} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
