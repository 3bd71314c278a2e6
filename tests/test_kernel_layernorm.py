"""Layer norm and RMS norm: bits of the definition on any shape, mesh and tiling; exact sums; gradients of a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh, random_inputs

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import layernorm
from accel.problem import LayerNorm

U = 2.0**-24
ROWS = st.one_of(st.integers(1, 40), st.sampled_from([1, 7, 8, 9, 127, 128, 129, 257]))
COLUMNS = st.one_of(st.integers(1, 70), st.sampled_from([1, 15, 16, 17, 2047, 2048, 2049, 4100]))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
FUNCTIONS = st.sampled_from(["layer", "rms"])
DIRECTIONS = st.sampled_from(["fwd", "bwd"])


@pytest.mark.parametrize("problem", layernorm.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: LayerNorm) -> None:
    agree(problem, schedules=3)


@settings(max_examples=25)
@given(ROWS, COLUMNS, FUNCTIONS, FORMATS, DIRECTIONS, st.integers(0, 2**32 - 1))
@example(257, 2049, "layer", "bf16", "bwd", 0)
def test_any_shape(rows: int, columns: int, function: str, dtype: str, direction: str, seed: int) -> None:
    agree(LayerNorm(rows, columns, function, dtype, direction=direction), seed=seed, schedules=1)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), ROWS, st.integers(1, 300), DIRECTIONS, st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    mesh_rows: int, mesh_cols: int, rows: int, columns: int, direction: str, data: st.DataObject
) -> None:
    tiling = {
        "block": data.draw(st.sampled_from([1, 2, 4, 8, 16])),
        "held": data.draw(st.integers(0, 1)),
        "depth": data.draw(st.integers(1, 3)),
    }
    problem = LayerNorm(rows, columns, direction=direction)
    agree(problem, on_mesh(mesh_rows, mesh_cols), schedules=1, **tiling)


def test_rows_that_do_not_fit_are_read_again() -> None:
    small = on_mesh(2, 2, **{"node.sram_bytes": 64 * 1024})
    agree(LayerNorm(5, 20_000), small)
    assert built(LayerNorm(5, 20_000), small).time().bytes["memory_read"] >= 3 * 5 * 20_000 * 2


@pytest.mark.parametrize("function", ["layer", "rms"])
def test_sums_wider_than_a_node_are_taken_in_slices_to_the_same_bits(function: str) -> None:
    problem, small = LayerNorm(70, 6000, function, direction="bwd"), on_mesh(2, 3, **{"node.sram_bytes": 120 * 1024})
    inputs = random_inputs(problem, 0)
    apart, whole = agree(problem, small, inputs=inputs, schedules=2), agree(problem, inputs=inputs)
    assert all((apart[name] == whole[name]).all() for name in whole)
    read = 2 * 70 * 6000 * 2
    assert built(problem, small).time().bytes["memory_read"] > 1.9 * read
    assert built(problem).time().bytes["memory_read"] < 1.1 * read
    agree(LayerNorm(5, 40_000, function, direction="bwd"))


@settings(max_examples=15)
@given(ROWS, st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_sums_of_small_integers_are_exact(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, gy = rng.integers(-3, 4, (2, rows, columns))
    out = agree(
        LayerNorm(rows, columns, dtype="bf16", out_dtype="fp32", direction="bwd"),
        inputs={"x": x, "gy": gy, "gamma": np.ones(columns), "mean": np.zeros(rows), "rstd": np.ones(rows)},
    )
    assert (out["gbeta"].astype(np.int64) == gy.sum(axis=0)).all()
    assert (out["ggamma"].astype(np.int64) == (gy * x).sum(axis=0)).all()


def test_rows_are_independent_and_scale_by_powers_of_two() -> None:
    problem = LayerNorm(23, 77, dtype="fp32", epsilon=0.0)
    inputs = random_inputs(problem, 3)
    whole = agree(problem, inputs=inputs)
    order = np.random.default_rng(1).permutation(23)
    turned = agree(problem, inputs=inputs | {"x": inputs["x"][order]})
    assert all((turned[name] == whole[name][order]).all() for name in whole)
    scaled = agree(problem, inputs=inputs | {"x": inputs["x"] * 8})
    assert (scaled["y"] == whole["y"]).all()
    assert (scaled["mean"] == whole["mean"] * 8).all()


@pytest.mark.parametrize("function", ["layer", "rms"])
@pytest.mark.parametrize("columns", [1, 5, 100, 3000])
def test_forward_is_within_the_derived_bound_of_float64(function: str, columns: int) -> None:
    """Sums of depth d err by (d + 1) u of the sum of magnitudes; the rest is a rounding an operation."""
    problem = LayerNorm(9, columns, function, "fp32")
    inputs = random_inputs(problem, columns)
    x = (inputs["x"] * 2 + 5).astype(np.float32).astype(np.float64)
    out = agree(problem, inputs=inputs | {"x": x})
    mean = x.mean(1, keepdims=True) if function == "layer" else np.zeros((9, 1))
    h = x - mean
    variance = (h * h).mean(1, keepdims=True)
    rstd = 1 / np.sqrt(variance + problem.epsilon)
    y = h * rstd * inputs["gamma"] + (inputs["beta"] if function == "layer" else 0)
    depth = (128 + 4 + 2 + 1) * U
    d_mean = depth * np.abs(x).mean(1, keepdims=True) if function == "layer" else 0 * mean
    d_centred = d_mean + U * np.abs(h)
    d_variance = (2 * np.abs(h) * d_centred + d_centred**2).mean(1, keepdims=True) + (depth + 2 * U) * variance
    d_rstd = rstd * (d_variance / (2 * (variance + problem.epsilon)) * 1.01 + 4 * U)
    gamma = np.abs(inputs["gamma"])
    bound = gamma * (rstd * d_centred + np.abs(h) * d_rstd) + 4 * U * (np.abs(y) + gamma * np.abs(h) * rstd)
    assert (np.abs(out["y"] - y) <= bound * 1.01).all()
    assert (np.abs(out["rstd"] - rstd[:, 0]) <= d_rstd[:, 0]).all()


@pytest.mark.parametrize("function", ["layer", "rms"])
@pytest.mark.parametrize("columns", [2, 33, 2500])
def test_gradients_are_those_of_torch(function: str, columns: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: gradients are not compared with autograd")
    rows = 19
    inputs = random_inputs(LayerNorm(rows, columns, function, "fp32"), 7)
    x = torch.tensor(inputs["x"], dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor(inputs["gamma"], dtype=torch.float64, requires_grad=True)
    beta = torch.zeros(columns, dtype=torch.float64, requires_grad=True)
    gy = torch.tensor(np.random.default_rng(8).normal(size=(rows, columns)).astype(np.float32), dtype=torch.float64)
    if function == "layer":
        y = torch.nn.functional.layer_norm(x, (columns,), gamma, beta, eps=1e-5)
    else:
        y = torch.nn.functional.rms_norm(x, (columns,), gamma, eps=1e-5)
    y.backward(gy)
    saved = agree(LayerNorm(rows, columns, function, "fp32"), inputs=inputs)
    out = agree(
        LayerNorm(rows, columns, function, "fp32", "fp32", "bwd"),
        inputs={n: saved[n] for n in saved if n != "y"}
        | {"gy": gy.numpy(), "x": inputs["x"], "gamma": inputs["gamma"]},
    )
    # First order in u: every term of gx and of the sums errs by at most (depth of a sum + operations) u of its size,
    # and h by what the saved statistics err: the depth again, times |mean| rstd for the mean.
    gx, ggamma = x.grad.numpy(), gamma.grad.numpy()
    x64, gamma64, g64 = inputs["x"].astype(np.float64), np.abs(inputs["gamma"].astype(np.float64)), np.abs(gy.numpy())
    mean = x64.mean(1, keepdims=True) if function == "layer" else np.zeros((rows, 1))
    rstd = 1 / np.sqrt(((x64 - mean) ** 2).mean(1, keepdims=True) + 1e-5)
    h, units = np.abs(x64 - mean) * rstd, 3 * (128 + 4 + 2 + 20) * U
    d_h = units * (h + rstd * np.abs(x64).mean(1, keepdims=True))
    g = g64 * gamma64
    size = g + (g.mean(1, keepdims=True) if function == "layer" else 0) + h * (g * h).mean(1, keepdims=True)
    moved = d_h * (g * h).mean(1, keepdims=True) + h * (g * d_h).mean(1, keepdims=True)
    assert (np.abs(out["gx"] - gx) <= rstd * (units * size + moved)).all()
    assert (np.abs(out["ggamma"] - ggamma) <= (g64 * (units * h + d_h)).sum(0)).all()
    if function == "layer":
        assert (np.abs(out["gbeta"] - beta.grad.numpy()) <= units * g64.sum(0)).all()


def test_special_values_stay_in_their_row() -> None:
    problem = LayerNorm(6, 40, dtype="fp32")
    inputs = random_inputs(problem, 0)
    clean = agree(problem, inputs=inputs)["y"]
    inputs["x"][2, 3], inputs["x"][4, 39] = np.nan, np.inf
    y = agree(problem, inputs=inputs)["y"]
    assert np.isnan(y[[2, 4]]).all()
    others = [0, 1, 3, 5]
    assert (y[others] == clean[others]).all()
    inputs["x"][0] = 7.0  # no variance: h is 0 and y is beta
    assert (agree(problem, inputs=inputs)["y"][0] == inputs["beta"]).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"rows": 0}, InputError, "rows=0 is outside"),
        ({"dtype": "int8"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "wgrad"}, InputError, "direction='wgrad' is not one of fwd, bwd"),
        ({"function": "group"}, InputError, "function='group' is not one of layer, rms"),
        ({"epsilon": float("nan")}, InputError, "epsilon=nan is outside"),
        ({"epsilon": "small"}, InputError, "is not a number"),
        ({"resident": ("x",)}, UnsupportedError, "leave resident=x out"),
        ({"blok": 3}, InputError, "unknown parameter 'blok'"),
        ({"block": 0}, InputError, "block=0 is no size"),
        ({"direction": "bwd", "block": 3}, InputError, "power of two"),
        ({"direction": "bwd", "columns": 1 << 24}, CapacityError, "use fewer columns"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        layernorm.build(accel.chip("mini"), **{"rows": 8, "columns": 8} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
