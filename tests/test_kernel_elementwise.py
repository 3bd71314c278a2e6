"""Elementwise kernels: bits of the definition for any size, mesh and tiling; gradients; dropout; bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh, random_inputs

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import bias_add, elementwise
from accel.problem import BiasAdd, Elementwise
from accel.problem.elementwise import FUNCTIONS

SIZES = st.one_of(st.integers(1, 300), st.sampled_from([63, 64, 65, 1023, 1025, 2048, 4099, 9000]))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
DIRECTIONS = st.sampled_from(["fwd", "bwd"])
NAMES = st.sampled_from(sorted(FUNCTIONS))


@pytest.mark.parametrize("problem", elementwise.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: Elementwise) -> None:
    agree(problem, schedules=2)


@pytest.mark.parametrize("problem", bias_add.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_bias_examples_have_the_bits_of_the_definition_under_every_schedule(problem: BiasAdd) -> None:
    agree(problem, schedules=3)


@settings(max_examples=40)
@given(SIZES, NAMES, FORMATS, FORMATS, DIRECTIONS, st.integers(0, 2**32 - 1))
def test_any_size(size: int, function: str, dtype: str, out: str, direction: str, seed: int) -> None:
    agree(Elementwise(size, function, dtype, out, direction, p=0.3, stream=9), seed=seed, schedules=1)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), SIZES, NAMES, DIRECTIONS, st.integers(1, 700), st.integers(1, 3))
def test_no_mesh_and_no_tiling_changes_bits(
    rows: int, cols: int, size: int, function: str, direction: str, block: int, depth: int
) -> None:
    problem = Elementwise(size, function, direction=direction)
    agree(problem, on_mesh(rows, cols), schedules=1, block=block, depth=depth)


@settings(max_examples=15)
@given(st.integers(1, 200), st.integers(1, 300), FORMATS, DIRECTIONS, st.integers(1, 4), st.integers(1, 4))
def test_bias_of_any_shape_on_any_mesh(
    rows: int, columns: int, dtype: str, direction: str, mesh_rows: int, mesh_cols: int
) -> None:
    agree(BiasAdd(rows, columns, dtype, direction=direction), on_mesh(mesh_rows, mesh_cols), schedules=1)


@pytest.mark.parametrize("mesh", [(4, 4), (2, 3), (1, 1)])
@pytest.mark.parametrize(
    "problem",
    [
        BiasAdd(131, 1500, direction="bwd"),
        BiasAdd(1000, 900, dtype="fp32", direction="bwd", out_dtype="fp32"),
        BiasAdd(7, 5000, dtype="fp16", direction="bwd"),
    ],
    ids=lambda p: p.label,
)
def test_a_bias_gradient_whose_sums_do_not_fit_a_node(problem: BiasAdd, mesh: tuple[int, int]) -> None:
    agree(problem, on_mesh(*mesh, **{"node.sram_bytes": 16_384}), schedules=1)


def test_bias_gradient_of_small_integers_is_exact() -> None:
    gy = np.random.default_rng(0).integers(-4, 5, (391, 70))
    out = agree(BiasAdd(391, 70, direction="bwd", out_dtype="fp32"), inputs={"gy": gy})
    assert (out["gbias"].astype(np.int64) == gy.sum(axis=0)).all()


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
@pytest.mark.parametrize("direction", ["fwd", "bwd"])
def test_special_values(function: str, direction: str) -> None:
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-40, -1e-45, 3.0e38, -3.0e38, 88.8, -104.0, 0.5]
    problem = Elementwise(len(special) ** 2, function, "fp32", direction=direction)
    pairs = np.stack(np.meshgrid(special, special), -1).reshape(-1, 2).astype(np.float32)
    names = [name for name, o in problem.operands.items() if o.role == "in" and name != "s"]
    columns = {name: pairs[:, i % 2] for i, name in enumerate(names)}
    agree(problem, inputs=columns | ({"s": np.float32([-0.5])} if "s" in problem.operands else {}))


def normal(x):
    return (1 + np.array([math.erf(v / math.sqrt(2)) for v in x])) / 2


def logistic(x):
    return 1 / (1 + np.exp(-x))


# What each function is, in float64, and its derivative.
TRUTH = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "gelu": (lambda x: x * normal(x), lambda x: normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    "silu": (lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * (1 - logistic(x)))),
    "sigmoid": (logistic, lambda x: logistic(x) * (1 - logistic(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "exp": (np.exp, np.exp),
}


@pytest.mark.parametrize("function", sorted(TRUTH))
def test_values_and_gradients_are_those_of_float64(function: str) -> None:
    """At most 12 roundings, each relative to a number of at most 2 (1 + |x|) times the largest term here."""
    rng = np.random.default_rng(2)
    x, gy = (rng.normal(size=2000) * 2).astype(np.float32), rng.normal(size=2000).astype(np.float32)
    f, slope = TRUTH[function]
    wide = x.astype(np.float64)
    y = agree(Elementwise(2000, function, "fp32"), inputs={"x": x})["y"]
    bound = 12 * 2.0**-24 * (1 + np.abs(wide)) * 2 * np.maximum(1, np.abs(f(wide)))
    assert (np.abs(y - f(wide)) <= bound).all()
    backward = Elementwise(2000, function, "fp32", direction="bwd")
    saved = {"x": x, "y": y}
    gx = agree(backward, inputs={"gy": gy} | {n: saved[n] for n in backward.operands if n in saved})["gx"]
    bound = 12 * 2.0**-24 * (1 + np.abs(wide)) ** 2 * 2 * np.maximum(1, np.abs(slope(wide))) * np.abs(gy)
    assert (np.abs(gx - gy * slope(wide)) <= bound).all()


@pytest.mark.parametrize("function", ["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp"])
def test_gradients_are_those_of_torch(function: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: gradients are not compared with autograd")
    inputs = random_inputs(Elementwise(999, function, "fp32"), 5)
    gy = np.random.default_rng(6).normal(size=999).astype(np.float32)
    x = torch.tensor(inputs["x"], dtype=torch.float64, requires_grad=True)
    of = {"gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"), "gelu": torch.nn.functional.gelu,
          "silu": torch.nn.functional.silu}  # fmt: skip
    y = of.get(function, getattr(torch, function, None))(x)
    y.backward(torch.tensor(gy, dtype=torch.float64))
    mine = agree(Elementwise(999, function, "fp32"), inputs=inputs)["y"]
    backward = Elementwise(999, function, "fp32", direction="bwd")
    saved = {"x": inputs["x"], "y": mine}
    gx = agree(backward, inputs={"gy": gy} | {n: saved[n] for n in backward.operands if n in saved})["gx"]
    # As above: at most 20 roundings relative to 2 (1 + |x|)^2 times the size of the result.
    size = 20 * 2.0**-24 * 2 * (1 + np.abs(inputs["x"].astype(np.float64))) ** 2
    assert (np.abs(mine - y.detach().numpy()) <= size * np.maximum(1, np.abs(mine))).all()
    assert (np.abs(gx - x.grad.numpy()) <= size * np.maximum(1, np.abs(mine)) * np.maximum(1e-3, np.abs(gy))).all()


def test_dropout_and_its_gradient_drop_the_same_elements_whatever_the_tiling() -> None:
    size, p = 20_000, 0.3
    ones = np.ones(size, np.float32)
    fields = {"function": "dropout", "dtype": "fp32", "p": p, "stream": 4}
    kept = [
        built(Elementwise(size, **fields), chip, **tiling).run(x=ones, seed=11)["y"]
        for chip, tiling in ((on_mesh(4, 4), {}), (on_mesh(1, 3), {"block": 777}), (on_mesh(2, 1), {"depth": 1}))
    ]
    kept.append(built(Elementwise(size, direction="bwd", **fields)).run(gy=ones, seed=11)["gx"])
    assert all((other == kept[0]).all() for other in kept)
    assert set(np.unique(kept[0])) == {np.float32(0), np.float32(1) / (np.float32(1) - np.float32(p))}
    share = (kept[0] != 0).mean()
    assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / size)  # five standard deviations
    again = built(Elementwise(size, **fields)).run(x=ones, seed=12)["y"]
    assert 0.3 < (again != kept[0]).mean() < 0.55  # 2 p (1 - p) = 0.42 of independent masks differ


def test_dropout_of_nothing_is_the_identity_and_dropped_infinities_are_zero() -> None:
    x = np.where(np.arange(500) % 7, np.arange(500), np.inf).astype(np.float32)
    assert (agree(Elementwise(500, "dropout", "fp32", p=0.0), inputs={"x": x})["y"] == x).all()
    y = agree(Elementwise(500, "dropout", "fp32", p=0.9), inputs={"x": x})["y"]
    assert np.isfinite(y).sum() > 500 - 500 // 7 - 1
    assert not np.isnan(y).any()


def test_the_reference_of_some_places_is_that_of_all() -> None:
    for problem in elementwise.KERNEL.examples[:8] + elementwise.KERNEL.examples[-2:]:
        inputs = random_inputs(problem, 1)
        index = np.unique(np.random.default_rng(0).integers(0, problem.size, 50))
        for name, whole in elementwise.reference(problem, inputs).items():
            part = elementwise.reference_at(problem, inputs, name, [index])
            np.testing.assert_array_equal(part, whole[index])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"size": 0}, InputError, "size=0 is outside"),
        ({"size": 2.5}, InputError, "is not an integer"),
        ({"function": "relo"}, InputError, "is not one of relu, gelu"),
        ({"dtype": "int8"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "dgrad"}, InputError, "is not one of fwd, bwd"),
        ({"function": "dropout", "p": 1.0}, InputError, "p=1.0 is outside"),
        ({"stream": -1}, InputError, "stream=-1 is outside"),
        ({"resident": ("x",)}, UnsupportedError, "leave resident=x out"),
        ({"blok": 3}, InputError, "unknown parameter 'blok'"),
        ({"block": 0}, InputError, "block=0 is no size"),
        ({"block": 1 << 20}, CapacityError, "use a smaller block or depth"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        elementwise.build(accel.chip("mini"), **{"size": 80} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
