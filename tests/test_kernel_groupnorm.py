"""Group norm: bits of the definition on any shape and mesh; exact sums; its special cases; torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh, random_inputs

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import groupnorm
from accel.problem import GroupNorm, LayerNorm

U = 2.0**-24
SIZE = st.one_of(st.integers(1, 9), st.sampled_from([1, 2, 16, 17]))
GROUPS = st.sampled_from([(1, 1), (6, 1), (6, 2), (6, 6), (12, 3), (64, 32), (70, 5), (96, 1), (130, 2)])
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
DIRECTIONS = st.sampled_from(["fwd", "bwd"])


@pytest.mark.parametrize("problem", groupnorm.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: GroupNorm) -> None:
    agree(problem, schedules=3)


@settings(max_examples=20)
@given(SIZE, SIZE, SIZE, GROUPS, FORMATS, DIRECTIONS, st.integers(0, 2**32 - 1))
@example(17, 9, 16, (130, 2), "bf16", "bwd", 0)
@example(1, 1, 1, (2100, 1), "bf16", "fwd", 0)
def test_any_shape(n: int, h: int, w: int, channels: tuple[int, int], dtype: str, direction: str, seed: int) -> None:
    c, groups = channels
    agree(GroupNorm(n, h, w, c, groups, dtype, direction=direction), seed=seed, schedules=1)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.integers(1, 200), GROUPS, DIRECTIONS, st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    rows: int, cols: int, n: int, pixels: int, channels: tuple[int, int], direction: str, data: st.DataObject
) -> None:
    tiling = {
        "block": data.draw(st.sampled_from([8, 16, 64])),
        "held": data.draw(st.integers(0, 1)),
        "depth": data.draw(st.integers(1, 3)),
    }
    agree(GroupNorm(n, 1, pixels, *channels, direction=direction), on_mesh(rows, cols), schedules=1, **tiling)


def test_pixels_that_do_not_fit_are_read_again() -> None:
    small, problem = on_mesh(1, 2, **{"node.sram_bytes": 64 * 1024}), GroupNorm(2, 64, 64, 32, 2)
    agree(problem, small)
    once = 2 * 64 * 64 * 32 * 2
    assert built(problem, small).time().bytes["memory_read"] >= 3 * once
    assert built(problem).time().bytes["memory_read"] < 1.1 * once


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(1, 60), GROUPS, st.integers(0, 2**32 - 1))
def test_sums_of_small_integers_are_exact(n: int, pixels: int, channels: tuple[int, int], seed: int) -> None:
    (c, groups), rng = channels, np.random.default_rng(seed)
    x, gy = rng.integers(-3, 4, (2, n, pixels, 1, c))
    plain = {"gamma": np.ones(c), "mean": np.zeros((n, groups)), "rstd": np.ones((n, groups))}
    problem = GroupNorm(n, pixels, 1, c, groups, out_dtype="fp32", direction="bwd")
    out = agree(problem, inputs={"x": x, "gy": gy} | plain)
    assert (out["gbeta"].astype(np.int64) == gy.sum(axis=(0, 1, 2))).all()
    assert (out["ggamma"].astype(np.int64) == (gy * x).sum(axis=(0, 1, 2))).all()


def test_one_pixel_and_one_group_is_layer_norm() -> None:
    """The same order of sums: along the channels alone."""
    inputs = random_inputs(LayerNorm(9, 70, dtype="fp32"), 1)
    rows = agree(LayerNorm(9, 70, dtype="fp32"), inputs=inputs)
    images = agree(GroupNorm(9, 1, 1, 70, dtype="fp32"), inputs=inputs | {"x": inputs["x"].reshape(9, 1, 1, 70)})
    assert all((images[name].ravel() == rows[name].ravel()).all() for name in rows)


def test_images_and_groups_are_independent() -> None:
    problem = GroupNorm(5, 3, 4, 12, 3, dtype="fp32")
    inputs = random_inputs(problem, 5)
    whole = agree(problem, inputs=inputs)
    order = np.random.default_rng(1).permutation(5)
    turned = agree(problem, inputs=inputs | {"x": inputs["x"][order]})
    assert all((turned[name] == whole[name][order]).all() for name in whole)
    inputs["x"][1, 2, 3, 7] = np.nan
    spoiled = agree(problem, inputs=inputs)["y"]
    hit = np.zeros((5, 3, 4, 12), bool)
    hit[1, :, :, 4:8] = True
    assert np.isnan(spoiled[hit]).all()
    assert (spoiled[~hit] == whole["y"][~hit]).all()


@pytest.mark.parametrize(("shape", "groups"), [((2, 1, 1, 6), 2), ((5, 4, 3, 24), 8), ((3, 12, 12, 8), 1)])
def test_results_and_gradients_are_those_of_torch(shape: tuple[int, int, int, int], groups: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: group norm is not compared with autograd")
    problem, (n, h, w, c) = GroupNorm(*shape, groups, dtype="fp32"), shape
    inputs = random_inputs(problem, 3)
    inputs["x"] += np.float32(2)
    wide = {name: torch.tensor(values, dtype=torch.float64) for name, values in inputs.items()}
    x, gamma, beta = (wide[name].requires_grad_() for name in ("x", "gamma", "beta"))
    y = torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), groups, gamma, beta, 1e-5).permute(0, 2, 3, 1)
    gy = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    y.backward(torch.tensor(gy, dtype=torch.float64))
    out = agree(problem, inputs=inputs)

    def mean(values: np.ndarray) -> np.ndarray:  # over each group, spread to its channels again
        means = values.reshape(n, h * w, groups, c // groups).mean((1, 3))
        return np.repeat(means, c // groups, axis=1)[:, None, None]

    # Depth: a chain of 8, a tree over blocks, a chain and a tree over channels, and the roundings of the formula.
    units = (8 + np.log2(max(2, h * w)) + c // groups // 16 + 5 + 12) * U
    x64 = inputs["x"].astype(np.float64)
    center = x64 - mean(x64)
    variance = mean(center**2)
    rstd, d_mean = 1 / np.sqrt(variance + 1e-5), units * mean(np.abs(x64))
    d_var = units * variance + 2 * d_mean * mean(np.abs(center)) + d_mean**2
    hat = np.abs(center) * rstd
    d_hat = rstd * d_mean + hat * (units + d_var * rstd**2)
    y64 = y.detach().numpy()
    assert (np.abs(out["y"] - y64) <= np.abs(inputs["gamma"]) * d_hat + 4 * U * np.abs(y64)).all()
    saved = {"gy": gy, "x": inputs["x"], "gamma": inputs["gamma"], "mean": out["mean"], "rstd": out["rstd"]}
    back = agree(GroupNorm(*shape, groups, "fp32", "fp32", "bwd"), inputs=saved)
    g = np.abs(gy * inputs["gamma"].astype(np.float64))
    size = g + mean(g) + hat * mean(g * hat)
    moved = d_hat * mean(g * hat) + hat * mean(g * d_hat) + size * (units + d_var * rstd**2)
    assert (np.abs(back["gx"] - x.grad.numpy()) <= rstd * (units * size + moved)).all()
    axes, more = (0, 1, 2), n * U
    assert (
        np.abs(back["ggamma"] - gamma.grad.numpy()) <= (np.abs(gy) * ((units + more) * hat + d_hat)).sum(axes)
    ).all()
    assert (np.abs(back["gbeta"] - beta.grad.numpy()) <= (units + more) * np.abs(gy).sum(axes)).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"groups": 3}, InputError, "groups=3 does not divide c=8; use a divisor"),
        ({"groups": 0}, InputError, "groups=0 is outside"),
        ({"dtype": "int32"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "inference"}, InputError, "is not one of fwd, bwd"),
        ({"resident": ("x",)}, UnsupportedError, "leave resident=x out"),
        ({"c": 1 << 18}, CapacityError, "use fewer channels"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        groupnorm.build(accel.chip("mini"), **{"n": 2, "h": 4, "w": 4, "c": 8} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
