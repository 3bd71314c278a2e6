"""L1, L2 and Huber losses: bits of the definition on any size and mesh; exact sums; slopes; torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, on_mesh, random_inputs

import accel
from accel.errors import InputError, UnsupportedError
from accel.kernels import losses
from accel.problem import ElementLoss

U = 2.0**-24
SIZE = st.one_of(st.integers(1, 100), st.integers(1, 40_000), st.sampled_from([1, 2047, 2048, 2049, 32_768, 32_769]))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
FUNCTIONS = st.sampled_from(["l1", "l2", "huber"])
DIRECTIONS = st.sampled_from(["fwd", "bwd"])
HARD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.0e38, -3.0e38, 1.0], np.float32)


@pytest.mark.parametrize("problem", losses.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: ElementLoss) -> None:
    agree(problem, schedules=3)


@settings(max_examples=25)
@given(SIZE, FUNCTIONS, FORMATS, DIRECTIONS, st.floats(0.125, 4.0), st.integers(0, 2**32 - 1))
@example(32_769, "huber", "bf16", "fwd", 1.0, 0)
def test_any_size(elements: int, function: str, dtype: str, direction: str, delta: float, seed: int) -> None:
    agree(ElementLoss(elements, function, dtype, direction, delta), seed=seed, schedules=1)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), SIZE, FUNCTIONS, DIRECTIONS, st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    rows: int, cols: int, elements: int, function: str, direction: str, data: st.DataObject
) -> None:
    tiling = {"block": data.draw(st.sampled_from([1, 2, 4])), "depth": data.draw(st.integers(1, 3))}
    agree(ElementLoss(elements, function, direction=direction), on_mesh(rows, cols), schedules=1, **tiling)


@pytest.mark.parametrize("direction", ["fwd", "bwd"])
@pytest.mark.parametrize("rows", [1, 4])
def test_more_elements_than_the_largest_blocks_have_room_for(rows: int, direction: str) -> None:
    problem = ElementLoss(4500 * rows * rows, "huber", "fp32", direction)
    agree(problem, on_mesh(rows, rows))


@pytest.mark.parametrize("function", ["l1", "l2", "huber"])
def test_hard_values(function: str) -> None:
    x, target = (v.ravel() for v in np.meshgrid(HARD, HARD))
    inputs = {"x": x, "target": target, "scale": np.float32([0.5])}
    gx = agree(ElementLoss(x.size, function, "fp32", "bwd"), inputs=inputs)["gx"]
    with np.errstate(all="ignore"):
        d = x - target
    assert (np.isnan(gx) == np.isnan(d)).all()
    assert (gx[d == 0] == 0).all()
    assert (np.sign(gx) == np.sign(d))[~np.isnan(d) & (np.abs(d) > 1e-30)].all()
    if function == "l1":
        assert (np.abs(gx[~np.isnan(d) & (d != 0)]) == 0.5).all()
    assert np.isnan(agree(ElementLoss(x.size, function, "fp32"), inputs={"x": x, "target": target})["loss"]).all()


@settings(max_examples=10)
@given(SIZE, st.integers(0, 2**32 - 1))
def test_sums_of_small_integers_are_exact(elements: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, target = rng.integers(-2, 3, (2, elements))
    d = x - target
    exact = {
        "l1": np.abs(d).sum(),
        "l2": (d * d).sum(),
        "huber": np.where(abs(d) <= 2, d * d, 4 * abs(d) - 4).sum() / 2,
    }
    for function, total in exact.items():
        loss = agree(ElementLoss(elements, function, delta=2.0), inputs={"x": x, "target": target})["loss"]
        assert loss[0] == np.float32(total) / np.float32(elements)


@pytest.mark.parametrize("function", ["l1", "l2", "huber"])
@pytest.mark.parametrize("elements", [1, 999, 5000])
def test_losses_and_gradients_are_those_of_torch(function: str, elements: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: losses are not compared with autograd")
    inputs = random_inputs(ElementLoss(elements, function, "fp32"), elements)
    x = torch.tensor(inputs["x"], dtype=torch.float64, requires_grad=True)
    target = torch.tensor(inputs["target"], dtype=torch.float64)
    call = {
        "l1": torch.nn.functional.l1_loss,
        "l2": torch.nn.functional.mse_loss,
        "huber": lambda a, b: torch.nn.functional.huber_loss(a, b, delta=0.75),
    }[function]
    loss = call(x, target)
    loss.backward()
    out = agree(ElementLoss(elements, function, "fp32", delta=0.75), inputs=inputs)["loss"][0]
    # Every term errs by four roundings, the sum by its depth (a chain of 128, 16 chains, pieces) and the quotient once.
    assert abs(out - loss.item()) <= (4 + 128 + 4 + 2 + 1) * U * abs(loss.item())
    scale = np.float32([1 / elements])
    gx = agree(ElementLoss(elements, function, "fp32", "bwd", 0.75), inputs=inputs | {"scale": scale})["gx"]
    assert (np.abs(gx - x.grad.numpy()) <= 4 * U * np.abs(x.grad.numpy())).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"elements": 0}, InputError, "elements=0 is outside"),
        ({"function": "l3"}, InputError, "function='l3' is not one of l1, l2, huber"),
        ({"function": "huber", "delta": 0.0}, InputError, "delta=0.0 is outside"),
        ({"dtype": "int8"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "dgrad"}, InputError, "is not one of fwd, bwd"),
        ({"resident": ("x",)}, UnsupportedError, "leave resident=x out"),
        ({"held": 1}, InputError, "unknown parameter 'held'"),
        ({"block": 5}, InputError, "use block=1, 2 or 4"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        losses.build(accel.chip("mini"), **{"elements": 100} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
