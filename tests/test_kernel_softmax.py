"""Softmax: bits of the definition on any shape, mesh and tiling; what is true of every softmax; torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh, random_inputs

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.isa.transcendentals import ULP
from accel.kernels import softmax
from accel.numerics import fmt
from accel.problem import Softmax

U = 2.0**-24
ROWS = st.one_of(st.integers(1, 40), st.sampled_from([1, 16, 17, 129]))
COLUMNS = st.one_of(st.integers(1, 70), st.sampled_from([1, 15, 16, 17, 2047, 2048, 2049, 4100]))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
DIRECTIONS = st.sampled_from(["fwd", "bwd"])


@pytest.mark.parametrize("problem", softmax.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: Softmax) -> None:
    agree(problem, schedules=3)


@settings(max_examples=20)
@given(ROWS, COLUMNS, FORMATS, FORMATS, DIRECTIONS, st.integers(0, 2**32 - 1))
@example(129, 2049, "bf16", "fp32", "fwd", 0)
def test_any_shape(rows: int, columns: int, dtype: str, out_dtype: str, direction: str, seed: int) -> None:
    agree(Softmax(rows, columns, dtype, out_dtype, direction), seed=seed, schedules=1)


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 4), ROWS, st.integers(1, 300), DIRECTIONS, st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    mesh_rows: int, mesh_cols: int, rows: int, columns: int, direction: str, data: st.DataObject
) -> None:
    tiling = {
        "block": data.draw(st.integers(1, 20)),
        "held": data.draw(st.integers(0, 1)),
        "depth": data.draw(st.integers(1, 3)),
    }
    if direction == "fwd":
        tiling["keep"] = data.draw(st.integers(0, 1))
    agree(Softmax(rows, columns, direction=direction), on_mesh(mesh_rows, mesh_cols), schedules=1, **tiling)


@pytest.mark.parametrize("direction", ["fwd", "bwd"])
def test_a_vocabulary_in_fp32_is_read_again(direction: str) -> None:
    problem = Softmax(3, 50_257, dtype="fp32", direction=direction)
    agree(problem, on_mesh(2, 2))
    sweeps = {"fwd": 3, "bwd": 2 * 2}[direction]
    small = on_mesh(2, 2, **{"node.sram_bytes": 128 * 1024})
    assert built(problem, small).time().bytes["memory_read"] >= sweeps * 3 * 50_257 * 4


def test_rows_of_more_pieces_than_semaphores_are_read_again() -> None:
    problem, few = Softmax(2, 20_000, direction="bwd"), on_mesh(1, 2, **{"node.semaphores": 64})
    agree(problem, few)
    read = 2 * 2 * 20_000 * 2
    assert built(problem, few).time().bytes["memory_read"] > 1.9 * read
    assert built(problem).time().bytes["memory_read"] < 1.1 * read


def test_rows_are_independent_and_shifts_that_are_exact_change_nothing() -> None:
    problem = Softmax(23, 77, dtype="fp32")
    x = np.random.default_rng(3).integers(-40, 41, (23, 77)).astype(np.float32)
    y = agree(problem, inputs={"x": x})["y"]
    order = np.random.default_rng(1).permutation(23)
    assert (agree(problem, inputs={"x": x[order]})["y"] == y[order]).all()
    assert (agree(problem, inputs={"x": x + 1024})["y"] == y).all()
    x[5, 7], x[9, 1], x[11], x[13, 3] = np.nan, np.inf, -np.inf, -np.inf
    spoiled = agree(problem, inputs={"x": x})["y"]
    assert np.isnan(spoiled[[5, 9, 11]]).all()
    assert spoiled[13, 3] == 0
    assert np.isfinite(np.delete(spoiled, [5, 9, 11], axis=0)).all()
    assert (agree(Softmax(4, 32), inputs={"x": np.full((4, 32), 7.0)})["y"] == np.float32(1 / 32)).all()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("columns", [1, 3, 100, 5000])
def test_results_and_gradients_are_those_of_torch(dtype: str, columns: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: softmax is not compared with autograd")
    problem = Softmax(9, columns, dtype=dtype)
    inputs = random_inputs(problem, columns)
    values = inputs["x"] * 3
    values = torch.tensor(values).to({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    x = values.double().requires_grad_()
    y = torch.softmax(x, 1)
    out = agree(problem, inputs={"x": values.float().numpy()})["y"].astype(np.float64)
    # x - max rounds once, which moves its exponential by u |x - max|; exp errs by its ulps; a sum by its depth.
    y64, away = y.detach().numpy(), (x.detach().max(1, keepdim=True).values - x.detach()).numpy()
    each = U * (away + 2 * ULP["exp"])
    relative = each + (each * y64).sum(1, keepdims=True) + (128 + 4 + 2 + 4) * U
    form = fmt(dtype)
    last, least = 2.0 ** -(form.mantissa + 1), 2.0 ** (2 - 2 ** (form.exponent - 1) - form.mantissa)
    assert (np.abs(out - y64) <= y64 * (relative * 1.01 + last) + least).all()
    gy = torch.tensor(np.random.default_rng(2).normal(size=y64.shape).astype(np.float32)).double()
    saved = torch.softmax(x.detach(), 1).to(torch.float32)
    y.backward(gy)
    back = agree(Softmax(9, columns, "fp32", direction="bwd"), inputs={"gy": gy.float().numpy(), "y": saved.numpy()})[
        "gx"
    ]
    total = (np.abs(gy.numpy()) * y64).sum(1, keepdims=True)
    bound = y64 * (np.abs(gy.numpy()) + total) * (128 + 4 + 2 + 6) * U + 2.0**-140
    assert (np.abs(back - x.grad.numpy()) <= bound).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"columns": 0}, InputError, "columns=0 is outside"),
        ({"dtype": "uint8"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "dgrad"}, InputError, "is not one of fwd, bwd"),
        ({"resident": ("x", "y")}, UnsupportedError, "leave resident=x, y out"),
        ({"width": 100}, InputError, "leave width=100 out"),
        ({"depth": -1}, InputError, "depth=-1 is no size"),
        ({"rows": 3, "columns": 1 << 20, "held": 1}, CapacityError, "use fewer columns"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        softmax.build(accel.chip("mini"), **{"rows": 8, "columns": 8} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
