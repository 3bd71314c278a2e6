"""Reductions: bits of the definition on every shape of the axis and every way over the mesh; exact sums; adjoints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, bits, built, on_mesh

import accel
from accel.errors import InputError, UnsupportedError
from accel.kernels import reductions
from accel.problem import Reduce

U = 2.0**-24
OUTER = st.one_of(st.integers(1, 20), st.sampled_from([1, 15, 16, 17, 40]))
LENGTH = st.one_of(st.integers(1, 70), st.sampled_from([1, 7, 8, 9, 2047, 2048, 2049, 9001]))
INNER = st.one_of(st.just(1), st.integers(1, 40))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
FUNCTIONS = st.sampled_from(["sum", "mean", "max", "min"])
HARD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 65504.0, -1.0, 3.0e38], np.float32)


@pytest.mark.parametrize("problem", reductions.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: Reduce) -> None:
    agree(problem, schedules=3)


@settings(max_examples=30)
@given(OUTER, LENGTH, INNER, FUNCTIONS, FORMATS, FORMATS, st.booleans(), st.integers(0, 2**32 - 1))
@example(1, 9001, 1, "max", "fp32", "fp32", False, 0)
@example(17, 9001, 40, "mean", "bf16", "fp32", True, 0)
def test_any_shape(
    outer: int, length: int, inner: int, function: str, dtype: str, out_dtype: str, keep: bool, seed: int
) -> None:
    agree(Reduce(outer, length, inner, function, dtype, out_dtype, keep=keep), seed=seed, schedules=1)
    if function in ("sum", "mean"):
        agree(Reduce(outer, length, inner, function, dtype, out_dtype, "bwd", keep), seed=seed, schedules=1)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), OUTER, LENGTH, st.sampled_from([1, 3, 70]), st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    rows: int, cols: int, outer: int, length: int, inner: int, data: st.DataObject
) -> None:
    tiling = {"depth": data.draw(st.integers(1, 3))}
    if inner > 1:
        tiling["block"] = data.draw(st.sampled_from([8, 16, 32]))
    direction = data.draw(st.sampled_from(["fwd", "bwd"]))
    agree(Reduce(outer, length, inner, direction=direction), on_mesh(rows, cols), schedules=1, **tiling)


@settings(max_examples=20)
@given(OUTER, LENGTH, INNER, st.sampled_from(["max", "min"]), st.integers(0, 2**32 - 1))
def test_maximum_and_minimum_of_hard_values(outer: int, length: int, inner: int, function: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = HARD[rng.choice(len(HARD), (outer, length, inner), p=[0.2, 0.2, *[0.6 / 8] * 8])]
    problem = Reduce(outer, length, inner, function, "fp32")
    y = agree(problem, inputs={"x": x})["y"]
    # Python's own: NaN if any, else by (value, sign), so that +0 is above -0.
    pick = max if function == "max" else min
    for o, i in np.ndindex(outer, inner):
        column = x[o, :, i]
        best = np.nan if np.isnan(column).any() else pick(column.tolist(), key=lambda v: (v, np.copysign(1, v)))
        assert bits(problem, "y", y)[o, i] == bits(problem, "y", np.float32(best))


@settings(max_examples=20)
@given(OUTER, LENGTH, INNER, st.integers(0, 2**32 - 1))
def test_sums_of_small_integers_are_exact_and_adjoint_to_their_gradient(
    outer: int, length: int, inner: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, gy = rng.integers(-3, 4, (outer, length, inner)), rng.integers(-3, 4, (outer, inner))
    y = agree(Reduce(outer, length, inner, out_dtype="fp32"), inputs={"x": x})["y"].astype(np.int64)
    assert (y == x.sum(axis=1)).all()
    gx = agree(Reduce(outer, length, inner, direction="bwd"), inputs={"gy": gy})["gx"].astype(np.int64)
    assert (gx * x).sum() == (gy * y).sum()


@pytest.mark.parametrize("shape", [(3, 5000, 1), (40, 700, 1), (2, 999, 9)])
def test_sums_are_within_the_derived_bound_of_float64(shape: tuple[int, int, int]) -> None:
    """A sum of depth d errs by at most d u of the sum of sizes, first order: depth of a piece, and of the tree."""
    x = (np.random.default_rng(0).normal(size=shape) * 100).astype(np.float32)
    depth = (8 if shape[2] > 1 else 128 + 4) + np.ceil(np.log2(shape[1])) + 2
    for function, of in (("sum", np.sum), ("mean", np.mean)):
        y = agree(Reduce(*shape, function, "fp32"), inputs={"x": x})["y"]
        exact, size = of(x.astype(np.float64), axis=1), of(np.abs(x.astype(np.float64)), axis=1)
        assert (np.abs(y - exact) <= depth * U * size).all()


def test_one_long_row_is_shared_by_the_mesh() -> None:
    timing = built(Reduce(1, 1 << 20, 1)).time()
    assert (timing.busy["vector"] > 0).sum() == 16


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"length": 0}, InputError, "length=0 is outside"),
        ({"function": "prod"}, InputError, "function='prod' is not one of sum, max, min, mean"),
        ({"function": "max", "direction": "bwd"}, InputError, "direction of a max='bwd' is not one of fwd"),
        ({"dtype": "uint8"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"keep": 1}, InputError, "keep=1 is not a flag"),
        ({"resident": ("x",)}, UnsupportedError, "leave resident=x out"),
        ({"width": 3}, InputError, "unknown parameter 'width'"),
        ({"outer": 1, "length": 10_000, "inner": 1, "block": 3}, InputError, "use block=1, 2 or 4"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        reductions.build(accel.chip("mini"), **{"outer": 2, "length": 9, "inner": 4} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
