"""The matmul family: batches, split-K, epilogues and mixed formats against its definition, on every mesh."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.cli.inputs import random_inputs
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import matmul
from accel.numerics import as_storage, cast, chain_matmul, from_storage
from accel.problem import Matmul
from accel.problem.matmul import ACTIVATIONS
from accel.verification import verify

MESHES = ((4, 4), (1, 1), (2, 3), (4, 1))
SIZE = st.one_of(st.integers(1, 24), st.sampled_from([7, 8, 9, 31, 33, 40, 61]))


def chip(mesh: tuple[int, int]) -> accel.ChipSpec:
    return accel.chip("mini").replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})


@st.composite
def problems(draw: st.DrawFn) -> Matmul:
    m, n, k = draw(SIZE), draw(SIZE), draw(st.one_of(SIZE, st.integers(64, 200)))
    batch = draw(st.sampled_from([0, 0, 1, 2, 5, 19]))
    dtype = draw(st.sampled_from(["bf16", "fp16", "cfp8-143", "fp32", "int8"]))
    options: dict[str, Any] = {"trans_a": draw(st.booleans()), "trans_b": draw(st.booleans()), "batch": batch,
                               "broadcast_b": bool(batch) and draw(st.booleans()),
                               "split_k": draw(st.one_of(st.just(1), st.integers(1, min(k, 40))))}  # fmt: skip
    if dtype == "int8":
        return Matmul(m, n, k, dtype, draw(st.sampled_from(["", "int8", "fp32"])),
                      dtype_b=draw(st.sampled_from(["", "uint8"])), **options)  # fmt: skip
    out = draw(st.sampled_from(["", "fp32", "cfp8-152"]))
    other = draw(st.sampled_from(["", "cfp8-152"])) if dtype == "cfp8-143" else ""
    return Matmul(m, n, k, dtype, out, dtype_b=other, add_bias=draw(st.booleans()),
                  activation=draw(st.sampled_from(ACTIVATIONS)), residual=draw(st.booleans()),
                  scaled=out == "cfp8-152" and draw(st.booleans()), **options)  # fmt: skip


@settings(max_examples=40)
@given(problems(), st.sampled_from(MESHES), st.data())
def test_any_problem_is_bit_equal_and_free_of_hazards_on_any_mesh(
    problem: Matmul, mesh: tuple[int, int], data: st.DataObject
) -> None:
    resident = data.draw(st.sets(st.sampled_from(sorted(problem.operands))))
    program = matmul.KERNEL.program(chip(mesh), problem, resident=resident)
    seed = data.draw(st.integers(0, 1000))
    inputs = random_inputs(program, seed, hard=data.draw(st.booleans()))
    outputs = program.run(inputs)
    verdict = verify(problem, program, inputs, outputs)
    assert (verdict.checked, verdict.mismatches) == (outputs["c"].size, 0), verdict
    assert program.run(inputs, schedule=seed)["c"].tobytes() == outputs["c"].tobytes()
    program.check(1)
    assert program.isa.flops == 2 * problem.m * problem.n * problem.k * max(1, problem.batch)


@settings(max_examples=15)
@given(SIZE, SIZE, st.integers(1, 200), st.integers(0, 4), st.data())
def test_small_integers_are_exact_whatever_the_split(m: int, n: int, k: int, batch: int, data: st.DataObject) -> None:
    split = data.draw(st.integers(1, k))
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    lead = (batch,) if batch else ()
    a, b = rng.integers(-2, 3, (*lead, m, k)), rng.integers(-2, 3, (*lead, k, n))
    program = matmul.build("mini", m=m, n=n, k=k, batch=batch, split_k=split, out_dtype="fp32")
    assert (program.run(a=a, b=b)["c"].astype(np.int64) == a @ b).all()


def test_split_k_is_the_tree_of_its_chains_written_out() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 50), (50, 9)))
    a, b = (from_storage(as_storage(x, "bf16"), "bf16") for x in (a, b))
    c = [chain_matmul(a[:, x : x + 10], b[x : x + 10]) for x in range(0, 50, 10)]
    want = ((c[0] + c[1]) + (c[2] + c[3])) + c[4]
    got = matmul.build("mini", m=6, n=9, k=50, split_k=5, out_dtype="fp32").run(a=a, b=b)["c"]
    assert got.tobytes() == want.tobytes()
    assert got.tobytes() != chain_matmul(a, b).tobytes()  # another order: the split must be asked for


def test_split_k_spreads_small_results_over_the_mesh() -> None:
    alone = matmul.build("mini", m=16, n=16, k=4096, resident=("a", "b", "c"))
    split = matmul.build("mini", m=16, n=16, k=4096, resident=("a", "b", "c"), split_k=4)
    assert split.time().cycles < alone.time().cycles


def test_what_follows_the_sums_is_in_fp32_and_in_this_order() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.integers(-3, 4, (12, 20)), rng.integers(-3, 4, (20, 10))
    bias, residual = rng.normal(size=10).astype(np.float32), rng.normal(size=(12, 10)).astype(np.float32)
    program = matmul.build("mini", m=12, n=10, k=20, add_bias=True, activation="relu", residual=True)
    got = program.run(a=a, b=b, bias=bias, residual=residual)["c"]
    small = from_storage(as_storage(residual, "bf16"), "bf16")
    want = np.maximum((a @ b).astype(np.float32) + bias, 0) + small
    assert got.view(np.uint16).tobytes() == cast(want, "bf16").tobytes()


@pytest.mark.parametrize("exponent", [0, 9, 40, 63])
def test_a_new_bias_of_c_needs_no_new_program(exponent: int) -> None:
    rng = np.random.default_rng(exponent)
    a, b = rng.normal(size=(9, 16)), rng.normal(size=(16, 8))
    program = matmul.build("mini", m=9, n=8, k=16, out_dtype="cfp8-143", scaled=True, bias={"c": 20})
    got = program.run(a=a, b=b, c_bias=np.array([exponent], np.uint8))["c"]
    left, right = (from_storage(as_storage(x, "bf16"), "bf16") for x in (a, b))
    codes = cast(chain_matmul(left, right), "cfp8-143", bias=exponent)
    assert got.tobytes() == from_storage(codes, "cfp8-143", bias=20).tobytes()


@settings(max_examples=15)
@given(SIZE, SIZE, SIZE, st.integers(1, 6))
def test_gradients_are_adjoint(m: int, n: int, k: int, batch: int) -> None:
    rng = np.random.default_rng(m + 100 * n + 10000 * k)
    a, b, g = (rng.integers(-2, 3, (batch, *shape)) for shape in ((m, k), (k, n), (m, n)))
    options = {"batch": batch, "out_dtype": "fp32"}
    c = matmul.build("mini", m=m, n=n, k=k, **options).run(a=a, b=b)["c"]
    ga = matmul.build("mini", m=m, n=k, k=n, trans_b=True, **options).run(a=g, b=b)["c"]
    gb = matmul.build("mini", m=k, n=n, k=m, trans_a=True, **options).run(a=a, b=g)["c"]
    assert (c * g).sum(dtype=np.int64) == (a * ga).sum(dtype=np.int64) == (b * gb).sum(dtype=np.int64)


def test_a_batch_is_its_matrices_one_by_one() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(7, 18, 33)), rng.normal(size=(7, 33, 21))
    whole = matmul.build("mini", m=18, n=21, k=33, batch=7).run(a=a, b=b)["c"]
    one = matmul.build("mini", m=18, n=21, k=33)
    for x, y, z in zip(a, b, whole, strict=True):
        assert one.run(a=x, b=y)["c"].tobytes() == z.tobytes()
    shared = matmul.build("mini", m=18, n=21, k=33, batch=7, broadcast_b=True).run(a=a, b=b[2])["c"]
    assert shared[2].tobytes() == whole[2].tobytes()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "none"])
def test_an_activation_is_that_of_the_textbook(name: str) -> None:
    rng = np.random.default_rng(13)
    a, b = rng.integers(-8, 9, (20, 16)) / 8, rng.integers(-8, 9, (16, 12)) / 8  # sums are exact
    got = matmul.build("mini", m=20, n=12, k=16, out_dtype="fp32", activation=name).run(a=a, b=b)["c"]
    x = a @ b
    want = {
        "relu": np.maximum(x, 0),
        "gelu": x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
        "gelu_tanh": x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "silu": x / (1 + np.exp(-x)),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
    }[name]
    assert (np.abs(got - want) <= 2.0**-20 * (np.abs(x) + 1)).all()  # a dozen roundings of numbers of at most |x| + 1


def test_torch_agrees_within_the_bound() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: no outside truth for matmul here")
    rng = np.random.default_rng(11)
    a, b, bias = rng.normal(size=(3, 20, 64)), rng.normal(size=(3, 64, 24)), rng.normal(size=24)
    a, b = (from_storage(as_storage(x, "bf16"), "bf16").astype(np.float64) for x in (a, b))
    bias = bias.astype(np.float32).astype(np.float64)
    got = matmul.build("mini", m=20, n=24, k=64, batch=3, add_bias=True, activation="relu", split_k=4).run(
        a=a, b=b, bias=bias.astype(np.float32)
    )["c"]
    want = torch.relu(torch.from_numpy(a) @ torch.from_numpy(b) + torch.from_numpy(bias)).numpy()
    u = 2.0**-24
    steps = (64 + 3) * u / (1 - (64 + 3) * u)  # products, the tree of 4 and the bias, rounded one by one in fp32
    bound = steps * (np.abs(a) @ np.abs(b) + np.abs(bias)) + 2.0**-8 * np.abs(want)
    assert (np.abs(got.astype(np.float64) - want) <= bound).all()


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"batch": -1}, InputError, "batch=-1 is outside 0"),
        ({"broadcast_b": True}, InputError, "broadcast_b shares b within a batch"),
        ({"split_k": 0}, InputError, "split_k=0 is outside 1..64"),
        ({"split_k": 65}, InputError, "split_k=65 is outside 1..64"),
        ({"activation": "rely"}, InputError, "did you mean 'relu'?"),
        ({"dtype": "int8", "add_bias": True}, InputError, "sums of int8 are int32 and have no add_bias"),
        ({"out_dtype": "int8", "residual": True}, InputError, "residual goes with a float result, not int8"),
        ({"scaled": True}, InputError, "scaled=True quantises c, and bf16 has no exponent bias"),
        ({"dtype_b": "fp16"}, UnsupportedError, "does not multiply bf16 by fp16; use one format for both"),
        ({"dtype": "cfp8-143", "dtype_b": "shp16"}, UnsupportedError, "does not multiply cfp8-143 by shp16"),
        ({"resident": ("bias",)}, InputError, "no operand 'bias' to keep resident"),
        ({"version": "summa", "batch": 2}, UnsupportedError, "takes plain operands in memory"),
        ({"batch": 4000, "resident": ("a", "b", "c")}, CapacityError, "with a, b, c resident needs"),
    ],
)  # fmt: skip
def test_bad_requests_get_one_line(options: dict[str, object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        matmul.build("mini", **{"m": 64, "n": 64, "k": 64, **options})  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
