"""Attention: the definition to the bit on any shape, mesh and schedule; what holds of it whatever the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import attention
from accel.kernels.parts.attention_plan import cover
from accel.kernels.parts.attention_reference import forward_at, forward_reference
from accel.kernels.parts.attention_strips import deal
from accel.numerics import gamma, round_to
from accel.problem import Attention

MINI = accel.chip("mini")


def mesh(rows: int, cols: int) -> Any:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


def numbers(problem: Attention, seed: int = 0, size: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        name: round_to(size * rng.normal(size=operand.shape).astype(np.float32), operand.dtype)
        for name, operand in problem.operands.items()
        if operand.role == "in"
    }


def outputs(problem: Attention, inputs: dict[str, Any], chip: Any = MINI, **options: Any) -> dict[str, Any]:
    got = attention.program(chip, problem).run(**inputs, **options)
    return {name: np.asarray(got[name], np.float32) for name in problem.operands if name in got}


def same_bits(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[n].view(np.uint32), other[n].view(np.uint32)) for n in one)


def softmax64(problem: Attention, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Scores (-inf where masked), weights and result in float64: the textbook's formula."""
    q, k, v = (inputs[n].astype(np.float64) for n in "qkv")
    k, v = (np.repeat(x, problem.shared, axis=1) for x in (k, v))
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) * problem.factor
    if problem.causal:
        scores = np.where(np.arange(problem.kv) <= np.arange(problem.q)[:, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return scores, weights, weights @ v


# --- the definition ---------------------------------------------------------------------------------------------------
@st.composite
def problems(draw: Any) -> Attention:
    heads = draw(st.sampled_from([(1, 1), (3, 3), (4, 2), (4, 1)]))
    return Attention(
        draw(st.integers(1, 2)), heads[0], draw(st.integers(1, 75)), draw(st.integers(1, 150)),
        draw(st.sampled_from([1, 7, 16, 20, 40])), causal=draw(st.booleans()), kv_heads=heads[1],
        out_dtype=draw(st.sampled_from(["bf16", "fp32"])), block=draw(st.sampled_from([16, 48, 128])),
        dtype=draw(st.sampled_from(["bf16", "fp16"])),
    )  # fmt: skip


@given(problems(), st.integers(0, 99), st.sampled_from([0.3, 1.0, 8.0]), st.sampled_from([(1, 1), (1, 3), (4, 4)]))
@settings(max_examples=25, deadline=None)
def test_any_shape_gives_the_bits_of_the_definition(
    problem: Attention, seed: int, size: float, nodes: tuple[int, int]
) -> None:
    inputs = numbers(problem, seed, size)
    assert same_bits(outputs(problem, inputs, mesh(*nodes)), forward_reference(problem, inputs))


@given(problems(), st.sampled_from([(1, 1), (2, 2), (3, 1)]), st.integers(1, 3), st.sampled_from([16, 48]),
       st.integers(1, 4), st.sampled_from(["fwd", "bwd"]))  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_no_pipeline_races_or_waits_for_ever(
    problem: Attention, nodes: tuple[int, int], stages: int, chunk: int, ahead: int, direction: str
) -> None:
    """Several jobs a node, with fewer slots and items in advance, or more, than the plan would choose."""
    problem = replace(problem, direction=direction, h=problem.h * 2, kv_heads=problem.h * 2 // problem.shared)
    roomy = mesh(*nodes).replace(**{"node.sram_bytes": 1 << 20})
    attention.program(roomy, problem, stages=stages, chunk=chunk, ahead=ahead).check()


@pytest.mark.parametrize("causal", [False, True])
def test_mesh_tiling_and_schedule_change_no_bit(causal: bool) -> None:
    problem = Attention(1, 3, 70, 90, 24, causal=causal, block=32)
    inputs = numbers(problem)
    want = forward_reference(problem, inputs)
    for rows, cols in ((1, 1), (2, 3), (3, 1), (4, 4)):
        program = attention.program(mesh(rows, cols), problem)
        program.check()
        for schedule in ("natural", 1, 2):
            got = program.run(**inputs, schedule=schedule)
            assert same_bits({n: np.asarray(got[n], np.float32) for n in want}, want)
    for tiling in ({"stages": 1, "chunk": 16, "ahead": 1}, {"stages": 3, "chunk": 48, "ahead": 3}, {"chunk": 64}):
        program = attention.build(MINI, b=1, h=3, q=70, kv=90, d=24, causal=causal, block=32, **tiling)
        program.check()
        got = program.run(**inputs)
        assert same_bits({n: np.asarray(got[n], np.float32) for n in want}, want)


def test_places_of_the_definition_are_those_of_the_whole() -> None:
    problem = Attention(2, 4, 50, 70, 12, causal=True, kv_heads=2)
    inputs = numbers(problem)
    places = [np.array([1]), np.array([0, 3]), np.array([0, 17, 40, 49]), np.array([2, 11])]
    whole = forward_reference(problem, inputs)
    y, lse = forward_at(problem, inputs, places)
    assert np.array_equal(y, whole["y"][np.ix_(*places)])
    assert np.array_equal(lse, whole["lse"][np.ix_(*places[:3])])
    assert np.array_equal(attention.oracle_at(problem, inputs, "lse", places[:3]), lse)


@pytest.mark.parametrize("causal", [False, True])
def test_a_node_too_small_for_all_queries_goes_through_the_keys_again(causal: bool) -> None:
    chip = mesh(1, 1).replace(**{"node.sram_bytes": 96 * 1024})
    for kv_heads in (1, 2):
        problem = Attention(1, 2, 160 * kv_heads, 64, 64, causal=causal, block=32, kv_heads=kv_heads)
        assert len({s.low for s in cover(chip, problem).stretches}) > 1
        inputs = numbers(problem)
        assert same_bits(outputs(problem, inputs, chip), forward_reference(problem, inputs))


@given(problems(), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_every_row_of_every_job_is_dealt_once(problem: Attention, rows: int, cols: int) -> None:
    plan = cover(mesh(rows, cols), problem)
    jobs = problem.b * problem.h // problem.shared
    seen = np.zeros((jobs, problem.shared * problem.q), int)
    for stretch in plan.stretches:
        assert stretch.down * stretch.rows <= rows
        assert stretch.across * stretch.cols <= cols
        for member in range(stretch.nodes):
            pieces = deal(problem, stretch, member, plan.chunk)
            assert sum(p.rows for p in pieces) <= plan.rows
            for p in pieces:
                seen[stretch.first : stretch.first + stretch.jobs, p.start : p.start + p.rows] += 1
    assert (seen == 1).all()


# --- exact answers without the definition -----------------------------------------------------------------------------
def test_equal_scores_give_the_exact_mean_of_integers() -> None:
    problem = Attention(2, 3, 21, 64, 24, out_dtype="fp32", block=32)
    rng = np.random.default_rng(3)
    values = rng.integers(-100, 101, (2, 3, 64, 24))
    inputs = {"q": np.zeros((2, 3, 21, 24), np.float32), "v": values.astype(np.float32)}
    inputs["k"] = rng.integers(-4, 5, (2, 3, 64, 24)).astype(np.float32)
    got = outputs(problem, inputs)
    assert np.array_equal(got["y"] * 64, np.broadcast_to(values.sum(2, keepdims=True), got["y"].shape))


def test_a_causal_row_of_equal_scores_is_the_mean_of_what_it_sees() -> None:
    problem = Attention(1, 2, 48, 48, 8, causal=True, out_dtype="fp32", block=16)
    values = np.random.default_rng(4).integers(-9, 10, (1, 2, 48, 8))
    zero = np.zeros((1, 2, 48, 8), np.float32)
    got = outputs(problem, {"q": zero, "k": zero, "v": values.astype(np.float32)})
    count = np.arange(1, 49, dtype=np.float32)[:, None]
    want = np.cumsum(values, 2).astype(np.float32) * (np.float32(1) / count)
    assert np.array_equal(got["y"], want)


@pytest.mark.parametrize("size", [2.0**6, 2.0**40, 2.0**60])
def test_huge_scores_pick_one_value(size: float) -> None:
    problem = Attention(1, 1, 32, 32, 32, block=16)
    order = np.random.default_rng(5).permutation(32)
    values = round_to(np.random.default_rng(6).normal(size=(1, 1, 32, 32)).astype(np.float32), "bf16")
    eye = (np.eye(32, dtype=np.float32) * np.float32(size))[None, None]
    got = outputs(problem, {"q": eye, "k": eye[:, :, order], "v": values})
    assert np.array_equal(got["y"], values[:, :, np.argsort(order)])


# --- relations --------------------------------------------------------------------------------------------------------
def test_keys_of_the_future_change_nothing_whatever_they_are() -> None:
    problem = Attention(1, 2, 80, 80, 16, causal=True, block=32)
    inputs = numbers(problem)
    first = outputs(problem, inputs)
    for number in (1000.0, np.inf, np.nan):
        other = {n: x.copy() for n, x in inputs.items()}
        other["k"][:, :, 64:] = other["v"][:, :, 64:] = number
        got = outputs(problem, other)
        assert np.array_equal(got["y"][:, :, :64], first["y"][:, :, :64])
        assert np.array_equal(got["lse"][:, :, :64], first["lse"][:, :, :64])


def test_values_scale_heads_permute_and_images_do_not_touch() -> None:
    problem = Attention(2, 4, 33, 40, 16)
    inputs = numbers(problem)
    first = outputs(problem, inputs)
    scaled = outputs(problem, inputs | {"v": inputs["v"] * 8})
    assert np.array_equal(scaled["y"], first["y"] * 8)
    order = [2, 0, 3, 1]
    turned = outputs(problem, {n: x[::-1, order] for n, x in inputs.items()})
    assert np.array_equal(turned["y"], first["y"][::-1, order])
    queries = outputs(problem, inputs | {"q": inputs["q"][:, :, ::-1]})
    assert np.array_equal(queries["lse"], first["lse"][:, :, ::-1])


def test_shared_heads_of_keys_equal_their_copies() -> None:
    problem = Attention(1, 6, 30, 50, 16, causal=True, kv_heads=2)
    inputs = numbers(problem)
    copied = {"q": inputs["q"], "k": np.repeat(inputs["k"], 3, 1), "v": np.repeat(inputs["v"], 3, 1)}
    assert same_bits(outputs(problem, inputs), outputs(Attention(1, 6, 30, 50, 16, causal=True), copied))


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 3.0e38, 1.0e-39, -0.0])
@pytest.mark.parametrize("d", [16, 20])  # a scale that is a power of two, and one that is not
def test_numbers_at_the_edges_go_by_the_definition(name: str, number: float, d: int) -> None:
    problem = Attention(1, 1, 20, 40, d, block=16, causal=name == "k")
    inputs = numbers(problem)
    inputs[name][0, 0, ::5, ::3] = round_to(np.float32([number]), "bf16")[0]
    assert same_bits(outputs(problem, inputs), forward_reference(problem, inputs))


# --- the textbook -----------------------------------------------------------------------------------------------------
def distance(problem: Attention, inputs: dict[str, Any]) -> Any:
    """The largest possible |y - softmax attention|, to first order and a tenth more.

    A weight's relative error: of its score (chain of d, scale, maximum, exp: 2 ulp), of its rounding to dtype, of the
    rescalings since; the sum of weights has no more, nor has the sum of weighted values beyond its own chain.
    """
    u, scores = 2.0**-24, softmax64(problem, inputs)[0]
    size = np.abs(inputs["q"]).astype(np.float64) @ np.repeat(np.abs(inputs["k"]), problem.shared, 1).swapaxes(2, 3)
    seen = np.where(np.isfinite(scores), size * problem.factor, 0).max(-1, keepdims=True)
    blocks = -(-problem.kv // problem.block)
    score = (gamma(problem.d) + 4 * u) * 2 * seen
    weight = score * (blocks + 1) + 2 * u * (blocks + 1) + 2.0**-8 + gamma(problem.kv + blocks)
    _, weights, y = softmax64(problem, inputs)
    mass = weights @ np.repeat(np.abs(inputs["v"]), problem.shared, 1)
    out = {"bf16": 2.0**-8, "fp32": u}[problem.out_dtype]
    return 1.1 * (2 * weight * mass + (out + 3 * u) * np.abs(y)) + 2.0**-126


@pytest.mark.parametrize("problem", [
    Attention(1, 2, 60, 260, 32), Attention(2, 2, 90, 90, 64, causal=True, out_dtype="fp32"),
    Attention(1, 4, 33, 50, 128, kv_heads=2),
], ids=lambda problem: problem.label)  # fmt: skip
def test_results_are_as_near_to_the_textbook_as_roundings_allow(problem: Attention) -> None:
    inputs = numbers(problem)
    got, bound = outputs(problem, inputs), distance(problem, inputs)
    scores, _, y = softmax64(problem, inputs)
    assert (np.abs(got["y"] - y) <= bound).all()
    assert np.median(bound / np.abs(inputs["v"]).mean()) < 0.03
    top = scores.max(-1)
    lse = top + np.log(np.exp(scores - top[..., None]).sum(-1))
    assert np.abs(got["lse"] - lse).max() < 2.0**-7


def test_torch_agrees() -> None:
    torch = pytest.importorskip("torch", reason="torch is the outside truth of this test")
    for problem in (Attention(2, 3, 65, 65, 32, causal=True), Attention(1, 2, 40, 200, 64)):
        inputs = numbers(problem)
        q, k, v = (torch.from_numpy(inputs[n]).double() for n in "qkv")
        want = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=problem.causal).numpy()
        assert (np.abs(outputs(problem, inputs)["y"] - want) <= distance(problem, inputs)).all()


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("fields", "message"), [
    ({"q": 0}, "q=0 is outside"), ({"kv_heads": 3}, "kv_heads=3 does not divide h=4"),
    ({"block": 100}, "block=100 is no multiple of 16"), ({"scale": -1.0}, "scale=-1.0 is no normal positive number"),
    ({"scale": float("nan")}, "is no normal positive number"), ({"scale": True}, "is no normal positive number"),
    ({"direction": "up"}, "direction='up' is not one of fwd, bwd"), ({"causal": 1}, "causal=1 is not a flag"),
    ({"resident": "w"}, "no operand 'w' to keep resident"), ({"depth": 2}, "no tiling parameter 'depth'"),
    ({"chunk": 12}, "chunk=12; use 16 to 128, in 16s"), ({"stages": 0}, "stages=0; use 1 to"),
])  # fmt: skip
def test_bad_input_is_one_line(fields: dict[str, Any], message: str) -> None:
    given = {"b": 1, "h": 4, "q": 16, "kv": 16, "d": 8} | fields
    with pytest.raises(InputError) as error:
        attention.build("mini", **given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("chip", "fields", "message"), [
    ("d1", {"dtype": "fp16"}, "in fp16 does not run on d1"), ("mini", {"dtype": "fp32"}, "in fp32 does not run"),
    ("mini", {"out_dtype": "int8"}, "gives no int8"), ("mini", {"resident": "q"}, "takes 'q' in memory only"),
])  # fmt: skip
def test_what_a_chip_cannot_do_is_said(chip: str, fields: dict[str, Any], message: str) -> None:
    given = {"b": 1, "h": 4, "q": 16, "kv": 16, "d": 8} | fields
    with pytest.raises(UnsupportedError) as error:
        attention.build(chip, **given)
    assert message in str(error.value)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(CapacityError, match=r"does not fit mini: a block of 128 keys and 8 rows need [\d,]+ B of SRAM"):
        attention.build("mini", b=1, h=4, q=16, kv=128, d=2000)


# --- what is counted --------------------------------------------------------------------------------------------------
@given(problems())
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_that_the_mask_leaves(problem: Attention) -> None:
    seen = (
        np.arange(problem.kv) <= np.arange(problem.q)[:, None] if problem.causal else np.ones((problem.q, problem.kv))
    )
    assert problem.pairs == problem.b * problem.h * int(seen.sum())
    assert problem.flops == 4 * problem.pairs * problem.d
    assert replace(problem, direction="bwd").flops == 10 * problem.pairs * problem.d


@pytest.mark.parametrize(("q", "kv"), [(17, 257), (257, 17), (33, 33)])
@pytest.mark.parametrize("direction", ["fwd", "bwd"])
def test_only_keys_that_a_query_sees_must_be_moved(q: int, kv: int, direction: str) -> None:
    problem = Attention(2, 6, q, kv, 40, causal=True, direction=direction, kv_heads=3)
    seen = {key for query in range(q) for key in range(kv) if key <= query}
    for name in ("k", "v"):
        assert problem.compulsory_elements(name) == 2 * 3 * len(seen) * 40
    whole = replace(problem, causal=False)
    assert whole.compulsory_elements("k") == 2 * 3 * kv * 40
    assert attention.program(MINI, problem).time().seconds >= problem.bound(MINI).seconds


@pytest.mark.parametrize(
    "problem", [Attention(2, 3, 37, 70, 24), Attention(1, 1, 1, 1, 1), Attention(1, 2, 9, 128, 32)]
)
def test_the_kernel_that_the_lesson_begins_with_has_the_same_bits(problem: Attention) -> None:
    tensors = {"keys" if n == "k" else n: accel.tensor(o.shape, o.dtype) for n, o in problem.operands.items()}
    program = attention.one_block.build("mini", **tensors)
    program.check()
    inputs = numbers(problem)
    got = program.run({"keys" if n == "k" else n: array for n, array in inputs.items()})
    assert same_bits({n: np.asarray(got[n], np.float32) for n in ("y", "lse")}, outputs(problem, inputs))
