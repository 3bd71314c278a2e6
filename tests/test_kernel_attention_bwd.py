"""Gradients of attention: the definition to the bit on any shape, mesh and schedule; exact cases; the textbook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import accel
from accel.kernels import attention
from accel.kernels.parts.attention_plan import cover
from accel.kernels.parts.attention_reference import backward_at, backward_reference, forward_reference
from accel.numerics import gamma, round_to
from accel.problem import Attention

MINI = accel.chip("mini")
GRADIENTS = ("gq", "gk", "gv")


def mesh(rows: int, cols: int) -> Any:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


def numbers(problem: Attention, seed: int = 0, size: float = 1.0) -> dict[str, Any]:
    """Inputs of a backward problem: random q, k, v and gy, with the y and lse that belong to them."""
    rng = np.random.default_rng(seed)
    made = {
        name: round_to(size * rng.normal(size=problem.operands[name].shape).astype(np.float32), problem.dtype)
        for name in ("q", "k", "v", "gy")
    }
    forward = forward_reference(replace(problem, direction="fwd", out_dtype=problem.dtype), made)
    return made | forward


def run(problem: Attention, inputs: dict[str, Any], chip: Any = MINI, **options: Any) -> dict[str, Any]:
    got = attention.program(chip, problem).run(**inputs, **options)
    return {name: np.asarray(got[name], np.float32) for name in GRADIENTS}


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[n].view(np.uint32), other[n].view(np.uint32)) for n in GRADIENTS)


@st.composite
def problems(draw: Any) -> Attention:
    heads = draw(st.sampled_from([(1, 1), (3, 3), (4, 2), (4, 1)]))
    return Attention(
        draw(st.integers(1, 2)), heads[0], draw(st.integers(1, 75)), draw(st.integers(1, 110)),
        draw(st.sampled_from([1, 7, 16, 20, 40])), causal=draw(st.booleans()), kv_heads=heads[1], direction="bwd",
        out_dtype=draw(st.sampled_from(["bf16", "fp32"])), block=draw(st.sampled_from([16, 48, 128])),
        dtype=draw(st.sampled_from(["bf16", "fp16"])),
    )  # fmt: skip


# --- the definition ---------------------------------------------------------------------------------------------------
@given(problems(), st.integers(0, 99), st.sampled_from([0.3, 1.0, 4.0]), st.sampled_from([(1, 1), (1, 3), (4, 4)]))
@settings(max_examples=20, deadline=None)
def test_any_shape_gives_the_bits_of_the_definition(
    problem: Attention, seed: int, size: float, nodes: tuple[int, int]
) -> None:
    inputs = numbers(problem, seed, size)
    assert same_bits(run(problem, inputs, mesh(*nodes)), backward_reference(problem, inputs))


@pytest.mark.parametrize("causal", [False, True])
def test_mesh_tiling_and_schedule_change_no_bit(causal: bool) -> None:
    problem = Attention(1, 3, 70, 90, 24, causal=causal, block=32, direction="bwd")
    inputs = numbers(problem)
    want = backward_reference(problem, inputs)
    for rows, cols in ((1, 1), (2, 3), (4, 4)):
        program = attention.program(mesh(rows, cols), problem)
        program.check()
        for schedule in ("natural", 1):
            got = program.run(**inputs, schedule=schedule)
            assert same_bits({n: np.asarray(got[n], np.float32) for n in GRADIENTS}, want)
    for tiling in ({"stages": 1, "chunk": 16, "ahead": 1}, {"stages": 2, "chunk": 48, "ahead": 3}):
        program = attention.program(MINI, problem, **tiling)
        program.check()
        got = program.run(**inputs)
        assert same_bits({n: np.asarray(got[n], np.float32) for n in GRADIENTS}, want)


@pytest.mark.parametrize("causal", [False, True])
def test_a_node_too_small_for_all_rows_takes_them_in_parts(causal: bool) -> None:
    chip = mesh(1, 1).replace(**{"node.sram_bytes": 150 * 1024})
    for problem in (
        Attention(1, 2, 160, 64, 64, causal=causal, block=32, direction="bwd"),
        Attention(1, 4, 90, 20, 64, causal=causal, block=32, kv_heads=2, direction="bwd"),
    ):
        assert len({(s.side, s.low) for s in cover(chip, problem).stretches}) > 2
        inputs = numbers(problem)
        assert same_bits(run(problem, inputs, chip), backward_reference(problem, inputs))


def test_places_of_the_definition_are_those_of_the_whole() -> None:
    problem = Attention(2, 4, 50, 70, 12, causal=True, kv_heads=2, direction="bwd")
    inputs = numbers(problem)
    whole = backward_reference(problem, inputs)
    for name in GRADIENTS:
        heads = np.array([0, 3]) if name == "gq" else np.array([1])
        places = [np.array([1]), heads, np.array([0, 17, 40, 49]), np.array([2, 11])]
        assert np.array_equal(backward_at(problem, inputs, name, places), whole[name][np.ix_(*places)])
        assert np.array_equal(attention.oracle_at(problem, inputs, name, places), whole[name][np.ix_(*places)])


def test_block_is_no_part_of_the_gradients_definition() -> None:
    problem = Attention(1, 2, 60, 80, 16, causal=True, direction="bwd", block=128)
    inputs = numbers(problem)
    assert same_bits(run(problem, inputs), run(replace(problem, block=16), inputs))


# --- exact answers without the definition -----------------------------------------------------------------------------
@pytest.mark.parametrize("causal", [False, True])
def test_integers_come_out_exact(causal: bool) -> None:
    """Where q is 0 and lse is 0 every weight is 1, so that all sums are sums of small integers."""
    problem = Attention(1, 4, 20, 24, 16, causal=causal, kv_heads=2, out_dtype="fp32", direction="bwd")
    rng = np.random.default_rng(1)
    made = {n: rng.integers(-1, 2, problem.operands[n].shape) for n in ("k", "v", "y", "gy")}
    inputs = {n: x.astype(np.float32) for n, x in made.items()}
    inputs |= {"q": np.zeros((1, 4, 20, 16), np.float32), "lse": np.zeros((1, 4, 20), np.float32)}
    k, v = (np.repeat(made[n], 2, 1) for n in "kv")
    seen = np.arange(24) <= np.arange(20)[:, None] if causal else np.ones((20, 24), bool)
    scores = (made["gy"] @ v.swapaxes(2, 3) - (made["gy"] * made["y"]).sum(-1, keepdims=True)) * seen
    got = run(problem, inputs)
    assert np.array_equal(got["gq"] * 4, scores @ k)  # the scale is 1/4
    assert not got["gk"].any()
    values = (seen.T.astype(int) @ made["gy"]).reshape(1, 2, 2, 24, 16).sum(2)
    assert np.array_equal(got["gv"], values)


def test_keys_that_no_query_sees_have_no_gradient() -> None:
    problem = Attention(1, 2, 20, 200, 16, causal=True, direction="bwd")
    inputs = numbers(problem)
    got = run(problem, inputs)
    assert not got["gk"][:, :, 20:].any()
    assert not got["gv"][:, :, 20:].any()
    assert got["gv"][:, :, 19].all()


# --- relations --------------------------------------------------------------------------------------------------------
def test_gradients_are_linear_in_gy_and_images_do_not_touch() -> None:
    problem = Attention(2, 4, 33, 40, 16, direction="bwd")
    inputs = numbers(problem)
    first = run(problem, inputs)
    scaled = run(problem, inputs | {"gy": inputs["gy"] * -4})
    turned = run(problem, {n: x[::-1, [2, 0, 3, 1]] for n, x in inputs.items()})
    for name in GRADIENTS:
        assert np.array_equal(scaled[name], first[name] * -4)
        assert np.array_equal(turned[name], first[name][::-1, [2, 0, 3, 1]])


def test_queries_of_the_past_give_later_keys_nothing() -> None:
    problem = Attention(1, 2, 80, 80, 16, causal=True, direction="bwd", block=32)
    inputs = numbers(problem)
    first = run(problem, inputs)
    other = {n: x.copy() for n, x in inputs.items()}
    for name in ("q", "gy", "y"):
        other[name][:, :, :32] = np.nan
    got = run(problem, other)
    for name in ("gk", "gv"):
        assert np.array_equal(got[name][:, :, 32:], first[name][:, :, 32:])


@pytest.mark.parametrize("name", ["q", "k", "v", "gy", "y", "lse"])
@pytest.mark.parametrize("number", [np.inf, np.nan, 3.0e38, -0.0])
def test_numbers_at_the_edges_go_by_the_definition(name: str, number: float) -> None:
    problem = Attention(1, 1, 20, 40, 20, causal=name == "k", direction="bwd")
    inputs = numbers(problem)
    inputs[name] = inputs[name].copy()
    inputs[name][0, 0, ::5] = round_to(np.float32([number]), "bf16")[0]
    assert same_bits(run(problem, inputs), backward_reference(problem, inputs))


# --- the textbook -----------------------------------------------------------------------------------------------------
def textbook(problem: Attention, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return weights, their gradient's factor g - D and the three gradients in float64, heads of keys repeated."""
    q, k, v, gy = (inputs[n].astype(np.float64) for n in ("q", "k", "v", "gy"))
    k, v = (np.repeat(x, problem.shared, axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) * problem.factor
    if problem.causal:
        scores = np.where(np.arange(problem.kv) <= np.arange(problem.q)[:, None], scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    g = gy @ v.swapaxes(2, 3)
    less = g - (p * g).sum(-1, keepdims=True)
    grouped = (problem.b, problem.h // problem.shared, problem.shared, problem.kv, problem.d)
    return {
        "p": p, "less": less, "gq": problem.factor * (p * less) @ k,
        "gk": problem.factor * ((p * less).swapaxes(2, 3) @ q).reshape(grouped).sum(2),
        "gv": (p.swapaxes(2, 3) @ gy).reshape(grouped).sum(2),
    }  # fmt: skip


def test_the_textbook_is_the_derivative() -> None:
    problem = Attention(1, 2, 5, 7, 4, causal=True, direction="bwd")
    inputs = {n: x.astype(np.float64) for n, x in numbers(problem).items()}
    found, rng = textbook(problem, inputs), np.random.default_rng(8)

    def value(more: dict[str, Any], step: float) -> float:
        moved = inputs | {n: inputs[n] + step * x for n, x in more.items()}
        return float((textbook(problem, moved)["p"] @ moved["v"] * inputs["gy"]).sum())

    for name in "qkv":
        way = {name: rng.normal(size=inputs[name].shape)}
        slope = (value(way, 1e-5) - value(way, -1e-5)) / 2e-5
        assert abs(slope - (found[f"g{name}"] * way[name]).sum()) < 1e-7


def distances(problem: Attention, inputs: dict[str, Any]) -> dict[str, Any]:
    """The largest possible distance of each gradient from the textbook's, to first order and a tenth more.

    A weight's relative error: of its score, of lse (whose sum of weights was rounded to dtype), of its own rounding.
    g - D: of both chains, and of y, which was rounded when it was stored.
    """
    found, u, short = textbook(problem, inputs), 2.0**-24, 2.0**-8
    size = {n: np.abs(x).astype(np.float64) for n, x in inputs.items()}
    k, v = (np.repeat(size[n], problem.shared, 1) for n in "kv")
    score = (gamma(problem.d) + 4 * u) * 2 * (size["q"] @ k.swapaxes(2, 3) * problem.factor).max(-1, keepdims=True)
    weight = 3 * score + 2 * short + 8 * u * (1 + np.abs(inputs["lse"][..., None])) + gamma(problem.kv)
    g = gamma(problem.d) * (size["gy"] @ v.swapaxes(2, 3))
    mean = (size["gy"] * size["y"]).sum(-1, keepdims=True)
    # y as stored is off by its rounding and by its weights, relative to the mass of its values.
    mass = (size["gy"] * (found["p"] @ v)).sum(-1, keepdims=True)
    half = mean * gamma(problem.d) + mass * (short + 2 * weight)
    product = found["p"] * (weight * np.abs(found["less"]) + g + half + short * np.abs(found["less"]))
    factor, chain = problem.factor, gamma(problem.q * problem.shared + problem.kv)
    whole = product + chain * found["p"] * np.abs(found["less"])
    grouped = (problem.b, problem.h // problem.shared, problem.shared, problem.kv, problem.d)
    bounds = {
        "gq": factor * whole @ k, "gk": factor * (whole.swapaxes(2, 3) @ size["q"]).reshape(grouped).sum(2),
        "gv": ((found["p"] * (weight + chain)).swapaxes(2, 3) @ size["gy"]).reshape(grouped).sum(2),
    }  # fmt: skip
    return {n: 1.1 * (x + short * np.abs(found[n])) + 2.0**-126 for n, x in bounds.items()}


@pytest.mark.parametrize("problem", [
    Attention(1, 2, 60, 130, 32, direction="bwd"), Attention(2, 2, 70, 70, 64, causal=True, direction="bwd"),
    Attention(1, 4, 33, 50, 128, kv_heads=2, direction="bwd"),
], ids=lambda problem: problem.label)  # fmt: skip
def test_gradients_are_as_near_to_the_textbook_as_roundings_allow(problem: Attention) -> None:
    inputs = numbers(problem)
    got, want, bound = run(problem, inputs), textbook(problem, inputs), distances(problem, inputs)
    for name in GRADIENTS:
        assert (np.abs(got[name] - want[name]) <= bound[name]).all()
        assert np.median(bound[name]) < 0.2 * np.abs(want[name]).max()
        assert np.linalg.norm(got[name] - want[name]) < 2.0**-6 * np.linalg.norm(want[name])


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch", reason="torch is the outside truth of this test")
    problem = Attention(2, 3, 65, 65, 32, causal=True, direction="bwd")
    inputs = numbers(problem)
    q, k, v = (torch.from_numpy(inputs[n]).double().requires_grad_() for n in "qkv")
    torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).backward(
        torch.from_numpy(inputs["gy"]).double()
    )
    got, bound = run(problem, inputs), distances(problem, inputs)
    for name, x in zip(GRADIENTS, (q, k, v), strict=True):
        assert (np.abs(got[name] - x.grad.numpy()) <= bound[name]).all()


@pytest.mark.parametrize("mesh", [(4, 4), (2, 3), (4, 1)])
@pytest.mark.parametrize(
    "problem",
    [
        Attention(1, 6, 1, 77, 256, True, "bf16", "fp32", "bwd", 16, kv_heads=2),
        Attention(1, 6, 3, 77, 64, True, "bf16", "fp32", "bwd", 16, kv_heads=2),
        Attention(2, 5, 17, 130, 16, True, "bf16", "bf16", "bwd", 16),
    ],
    ids=lambda p: p.label,
)
def test_nodes_whose_keys_no_query_sees_let_all_go_by(problem: Attention, mesh: tuple[int, int]) -> None:
    chip = accel.chip("mini").replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    attention.program(chip, problem).check(3)
