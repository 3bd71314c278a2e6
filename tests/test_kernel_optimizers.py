"""Optimizers, gradient norm and amax: bits of the definition, exact cases, torch and float64, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh

import accel
from accel.errors import AccelError, CapacityError, InputError, UnsupportedError
from accel.kernels import amax, casting, grad_norm, optimizers
from accel.numerics import decode, encode
from accel.problem import Amax, Cast, GradNorm, Optimizer
from accel.verification import verify

SIZES = st.one_of(st.integers(1, 300), st.sampled_from([63, 64, 65, 2047, 2048, 2049, 4097, 9000, 33_000]))
METHODS = st.sampled_from(["sgd", "adam", "adamw", "lamb"])
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
EIGHT = [p for p in optimizers.KERNEL.examples if p.copy.startswith("cfp8")]
PLAIN = [p for p in optimizers.KERNEL.examples if p not in EIGHT]
SUMMED = [*grad_norm.KERNEL.examples, *amax.KERNEL.examples]


@pytest.mark.parametrize("problem", [*PLAIN, *SUMMED], ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem) -> None:
    agree(problem, schedules=2)


@pytest.mark.parametrize("problem", EIGHT, ids=lambda p: p.label.replace(" ", "-"))
def test_an_8_bit_copy_is_written_with_the_bias_in_memory(problem: Optimizer) -> None:
    inputs = optimizers.random_inputs(problem, 3)
    program = built(problem)
    out = program.run(inputs)
    assert verify(problem, program, inputs, out).mismatches == 0
    program.check(2)
    read = next(t.bias for t in program.isa.tensors if t.name == "copy")  # the tensor's own, not that of its codes
    codes = encode(out["copy"], problem.copy, bias=read)
    real = decode(codes, problem.copy, bias=int(inputs["copy_bias"][0]))
    small = np.abs(out["new_w"]) < 1.0  # far inside the range of the biases drawn
    assert small.sum() > 500
    assert (np.abs(real - out["new_w"])[small] <= 0.25 * np.abs(out["new_w"])[small] + 2.0**-5).all()


@st.composite
def problems(draw: st.DrawFn) -> Optimizer:
    method, narrow = draw(METHODS), draw(st.booleans())
    copy = "" if narrow else draw(st.sampled_from(["none", "bf16", "fp16"]))
    rounding = "nearest" if copy == "none" else draw(st.sampled_from(["nearest", "stochastic"]))
    momentum = draw(st.sampled_from([0.0, 0.9]))
    nesterov = method == "sgd" and momentum > 0 and draw(st.booleans())
    return Optimizer(
        draw(SIZES), method, draw(FORMATS), "bf16" if narrow else "fp32", copy, rounding, draw(st.integers(0, 5)),
        momentum, nesterov, draw(st.sampled_from([0.0, 0.01])),
    )  # fmt: skip


@settings(max_examples=40)
@given(problems(), st.integers(0, 2**31))
def test_any_optimizer(problem: Optimizer, seed: int) -> None:
    agree(problem, inputs=optimizers.random_inputs(problem, seed), schedules=1)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 4), problems(), st.integers(1, 3))
def test_no_mesh_and_no_tiling_changes_bits(rows: int, cols: int, problem: Optimizer, depth: int) -> None:
    tiling = {"depth": depth} if problem.method == "lamb" else {"depth": depth, "block": 500}
    agree(problem, on_mesh(rows, cols), schedules=1, **tiling)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), SIZES, FORMATS, st.integers(0, 2**31))
def test_norm_and_amax_are_the_same_on_every_mesh(rows: int, cols: int, size: int, dtype: str, seed: int) -> None:
    chip = on_mesh(rows, cols)
    agree(GradNorm(size, dtype), chip, seed=seed, schedules=1)
    agree(Amax(size, dtype, entries=3), chip, seed=seed, schedules=1)


def test_lamb_that_does_not_fit_reads_its_inputs_again() -> None:
    problem = Optimizer(30_000, "lamb")
    small = on_mesh(1, 2, **{"node.sram_bytes": 192 * 1024})
    agree(problem, small, schedules=1)
    inputs = 30_000 * (4 + 2 + 4 + 4)
    assert built(problem, small).time().bytes["memory_read"] >= 2 * inputs
    assert built(problem).time().bytes["memory_read"] < 1.1 * inputs


@pytest.mark.parametrize("problem", PLAIN, ids=lambda p: p.label.replace(" ", "-"))
def test_a_step_with_overflow_changes_nothing(problem: Optimizer) -> None:
    inputs = optimizers.random_inputs(problem, 1)
    inputs["g"] = np.full(problem.size, np.nan, np.float32)
    out = agree(problem, inputs=inputs | {"overflow": np.uint8([1])})
    rounded = accel.numerics.round_to(inputs["w"], problem.weights)
    assert (out["new_w"] == rounded).all()
    assert all((out[f"new_{name}"] == inputs[name]).all() for name in problem.moments)


def test_stochastic_rounding_moves_weights_that_nearest_would_keep() -> None:
    """A step of an eighth of the last place of bf16 moves an eighth of the weights, and the mean is right."""
    size = 20_000
    problem = Optimizer(size, "sgd", "fp32", weights="bf16", rounding="stochastic", momentum=0.0)
    inputs = {"w": np.ones(size), "g": np.full(size, -(2.0**-10)), "lr": [1.0], "factor": [1.0]}
    given = {name: np.asarray(x, np.float32) for name, x in inputs.items()} | {"overflow": np.uint8([0])}
    new = agree(problem, inputs=given)["new_w"]
    moved = (new == 1.0 + 2.0**-7).mean()
    assert set(np.unique(new)) == {1.0, 1.0 + 2.0**-7}
    assert abs(moved - 1 / 8) < 5 * math.sqrt(1 / 8 * 7 / 8 / size)


def steps_of(problem: Optimizer, steps: int, size: int):
    """Run some steps on our programs; returns (gradients, weights after each step)."""
    rng = np.random.default_rng(4)
    program = built(problem)
    state = {name: np.zeros(size, np.float32) for name in problem.moments}
    w = rng.normal(size=size).astype(np.float32)
    gradients, weights = [], [w]
    for t in range(1, steps + 1):
        g = rng.normal(size=size).astype(np.float32)
        given = {"w": w, "g": g, "lr": np.float32([0.01]), "factor": np.float32([1]), "overflow": np.uint8([0])} | state
        if problem.method != "sgd":
            given["correction"] = np.float32([1 - problem.beta1**t, 1 - problem.beta2**t])
        out = program.run(given)
        w, state = out["new_w"], {name: out[f"new_{name}"] for name in problem.moments}
        gradients.append(g)
        weights.append(w)
    return gradients, weights


CASES = [
    (Optimizer(500, "sgd", "fp32", momentum=0.0, weight_decay=0.1), "SGD", {"weight_decay": 0.1}),
    (Optimizer(500, "sgd", "fp32"), "SGD", {"momentum": 0.9}),
    (Optimizer(500, "sgd", "fp32", nesterov=True, weight_decay=0.1), "SGD",
     {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (Optimizer(500, "adam", "fp32", weight_decay=0.1), "Adam", {"weight_decay": 0.1}),
    (Optimizer(500, "adamw", "fp32", weight_decay=0.1), "AdamW", {"weight_decay": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "name", "options"), CASES, ids=lambda x: x if isinstance(x, str) else None)
def test_steps_are_those_of_torch(problem: Optimizer, name: str, options: dict[str, float]) -> None:
    """A step of lr 0.01 moves a weight by at most about lr, so its roundings are 16 u (|w| + lr) at most, each step."""
    torch = pytest.importorskip("torch", reason="torch is not installed: steps are not compared with torch.optim")
    gradients, weights = steps_of(problem, 5, 500)
    w = torch.tensor(weights[0], dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.optim, name)([w], lr=float(np.float32(0.01)), **options)
    for t, (g, mine) in enumerate(zip(gradients, weights[1:], strict=True), 1):
        w.grad = torch.tensor(g, dtype=torch.float64)
        theirs.step()
        bound = t * 16 * 2.0**-24 * (np.abs(mine) + 0.1)
        assert (np.abs(mine - w.detach().numpy()) <= bound).all()


def test_lamb_is_its_formula_in_float64() -> None:
    problem = Optimizer(3000, "lamb", "fp32", weight_decay=0.05, copy="none")
    gradients, weights = steps_of(problem, 4, 3000)
    w, m, v = weights[0].astype(np.float64), np.zeros(3000), np.zeros(3000)
    for t, (g, mine) in enumerate(zip(gradients, weights[1:], strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(np.float64) ** 2
        r = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + 0.05 * w
        w = w - 0.01 * np.linalg.norm(w) / np.linalg.norm(r) * r
        # As for torch; the norms add sums of depth 128 + 4 + 1, which err by less than 140 u of the step each.
        assert (np.abs(mine - w) <= t * 2.0**-24 * (16 * (np.abs(w) + 0.1) + 300 * 0.01 * np.abs(r))).all()


def test_lamb_of_zeros_moves_by_the_direction_alone() -> None:
    problem = Optimizer(100, "lamb", "fp32", copy="none")
    inputs = optimizers.random_inputs(problem, 0) | {"w": np.zeros(100, np.float32)}
    out = agree(problem, inputs=inputs)
    assert (out["new_w"] != 0).all()
    still = agree(problem, inputs=inputs | {"g": np.zeros(100), "m": np.zeros(100), "w": np.ones(100)})
    assert (still["new_w"] == 1).all()


def scaled(g, scale=8.0, streak=5, **fields):
    problem = GradNorm(len(g), "fp32", **fields)
    out = agree(problem, inputs={"g": g, "scale": np.float32([scale]), "streak": np.int32([streak])})
    return {name: value.item() for name, value in out.items()}


def test_norm_of_whole_numbers_clipping_and_loss_scale() -> None:
    g = np.zeros(5000, np.float32)
    g[[3, 4999]] = 24.0, 32.0  # (3, 4) after 8 is divided out
    assert scaled(g, max_norm=10.0) == {"norm": 5.0, "factor": 0.125, "overflow": 0, "new_scale": 8.0, "new_streak": 6}
    clipped = scaled(g, max_norm=1.0, interval=6)
    assert clipped["factor"] == np.float32(0.125) * (np.float32(1) / np.float32(5.000001))
    assert (clipped["new_scale"], clipped["new_streak"]) == (16.0, 0)
    assert scaled(g, max_norm=0.0)["factor"] == 0.125
    for bad in (np.inf, np.nan, -np.inf):
        g[17] = bad
        found = scaled(g)
        assert (found["overflow"], found["new_scale"], found["new_streak"]) == (1, 4.0, 0)


def test_large_scaled_gradients_do_not_overflow_by_being_squared() -> None:
    g = np.full(10, 1e25, np.float32)
    assert scaled(g, scale=2.0**80)["overflow"] == 0


@pytest.mark.parametrize(("target", "largest"), [("cfp8-143", 1.875 * 2.0**15), ("cfp8-152", 1.75 * 2.0**31)])
def test_the_bias_is_the_largest_that_holds_the_amax(target: str, largest: float) -> None:
    for exponent in (-60, -31, -9, -1, 0, 1, 5, 14):
        for size in (0.75, 1.0, 1.75, 1.7500001, 1.875, 1.8750001):
            top = np.float32(size * 2.0**exponent)
            x = np.array([0.5 * top, -top, 0.0], np.float32)
            problem = Amax(3, "fp32", target, entries=2)
            bias = int(agree(problem, inputs={"x": x, "history": np.zeros(2)})["bias"][0])
            holding = [b for b in range(64) if largest * 2.0**-b >= top]
            assert bias == (holding[-1] if holding else 0)
            if holding:
                assert abs(decode(encode(x, target, bias=bias), target, bias=bias)[1]) >= 0.9 * float(top)


def test_history_keeps_the_largest_and_leaves_out_what_is_not_finite() -> None:
    problem = Amax(4, "fp32", entries=3, margin=1)
    out = agree(problem, inputs={"x": [1.0, -2.0, 0.5, 0.0], "history": [8.0, 1.0, 100.0]})
    assert out["new_history"].tolist() == [2.0, 8.0, 1.0]
    assert 1.875 * 2.0 ** (15 - int(out["bias"][0])) >= 16.0 > 1.875 * 2.0 ** (14 - int(out["bias"][0]))
    out = agree(problem, inputs={"x": [1.0, math.nan, 0.5, 0.0], "history": [8.0, 1.0, 100.0]})
    assert math.isnan(out["amax"][0])
    assert out["new_history"].tolist() == [8.0, 8.0, 1.0]


@pytest.mark.parametrize("problem", casting.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_casts_have_the_bits_of_the_definition(problem: Cast) -> None:
    inputs = casting.random_inputs(problem, 2)
    program = built(problem)
    assert verify(problem, program, inputs, program.run(inputs)).mismatches == 0
    program.check(2)
    other = built(problem, on_mesh(1, 3), block=100)
    assert (other.run(inputs, schedule=5)["y"] == program.run(inputs)["y"]).all()


@pytest.mark.parametrize("target", ["cfp8-143", "cfp8-152"])
@pytest.mark.parametrize("exponent", [-25, 0, 9])
def test_amax_and_casts_go_to_8_bits_and_back(target: str, exponent: int) -> None:
    """Whatever the size of the numbers, the largest keep their digits: half a last place, and nothing saturates."""
    x = (np.random.default_rng(1).normal(size=4000) * 2.0**exponent).astype(np.float32)
    bias = built(Amax(4000, "fp32", target)).run(x=x, history=np.zeros(16, np.float32))["bias"]
    there = built(Cast(4000, "fp32", target))
    codes = accel.numerics.Codes(
        encode(there.run(x=x, y_bias=bias)["y"], target, bias=default_bias(there, "y")),
        target,
        default_bias(there, "y"),
    )
    back = built(Cast(4000, target, "fp32")).run(x=codes, x_bias=bias)["y"]
    last = 2.0 ** -(3 if target == "cfp8-143" else 2)
    large = np.abs(x) > np.abs(x).max() / 16
    assert large.sum() > 2000
    assert (np.abs(back - x)[large] <= last / 2 * np.abs(x[large])).all()


def default_bias(program: accel.Program, name: str) -> int:
    return next(t.bias for t in program.isa.tensors if t.name == name)


@pytest.mark.parametrize(
    ("call", "words"), [({"out_dtype": "bf16"}, "to itself changes nothing"), ({"dtype": "int8"}, "is not one of fp32")]
)
def test_bad_casts_are_refused(call: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        casting.build("mini", **{"size": 80} | call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"size": 0}, InputError, "size=0 is outside"),
        ({"method": "adagrad"}, InputError, "is not one of sgd, adam, adamw, lamb"),
        ({"dtype": "cfp8-143"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"copy": "int8"}, InputError, "is not one of none, bf16"),
        ({"weights": "bf16", "copy": "bf16"}, InputError, "bf16 weights need no copy"),
        ({"copy": "none", "rounding": "stochastic"}, InputError, "nothing is rounded"),
        ({"nesterov": True}, InputError, "method='sgd' with momentum above 0"),
        ({"beta2": 1.0}, InputError, "beta2=1.0 is outside"),
        ({"epsilon": math.nan}, InputError, "epsilon=nan is outside"),
        ({"resident": ("w",)}, UnsupportedError, "leave resident=w out"),
        ({"method": "lamb", "block": 64}, InputError, "unknown parameter 'block'; use depth"),
        ({"block": 1 << 20}, CapacityError, "use a smaller block or depth"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[AccelError], words: str) -> None:
    with pytest.raises(error) as caught:
        optimizers.build(accel.chip("mini"), **{"size": 80} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"growth": 0.5}, "growth=0.5 is outside"),
        ({"interval": 0}, "interval=0 is outside"),
        ({"block": 4}, "use depth"),
    ],
)
def test_bad_norms_are_refused(call: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        grad_norm.build("mini", **{"size": 80} | call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"), [({"target": "bf16"}, "is not one of cfp8-143"), ({"entries": 0}, "entries=0 is outside")]
)
def test_bad_histories_are_refused(call: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        amax.build("mini", **{"size": 80} | call)  # type: ignore[arg-type]
