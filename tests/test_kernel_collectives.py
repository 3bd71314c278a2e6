"""Collectives against their definition: every operation, algorithm, mesh and format; what all members agree on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.cli.inputs import random_inputs
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import collectives, halo_exchange
from accel.problem import Collective, HaloExchange
from accel.problem.collective import ALGORITHMS
from accel.verification import verify

MINI = accel.chip("mini")
COLLECTIVE, HALO = collectives.KERNEL, halo_exchange.KERNEL


@st.composite
def problems(draw: st.DrawFn) -> Collective:
    op = draw(st.sampled_from(sorted(ALGORITHMS)))
    over = draw(st.sampled_from(["mesh", "rows", "cols"]))
    algorithm = draw(st.sampled_from([a for a in ALGORITHMS[op] if a != "grid" or over == "mesh"]))
    rows, cols = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    size = {"mesh": rows * cols, "rows": cols, "cols": rows}[over]
    return Collective(rows, cols, draw(st.integers(1, 70)), op, algorithm, over, draw(st.integers(0, size - 1)),
                      draw(st.sampled_from(["fp32", "bf16", "fp16", "int32"])))  # fmt: skip


@settings(max_examples=60)
@given(problems(), st.sets(st.sampled_from("xy")), st.integers(0, 9), st.integers(0, 1000), st.booleans())
def test_every_collective_is_bit_equal_and_free_of_hazards(
    problem: Collective, resident: set[str], width: int, seed: int, hard: bool
) -> None:
    program = COLLECTIVE.program(MINI, problem, resident=resident, width=0 if resident else width)
    inputs = random_inputs(program, seed, hard=hard)
    outputs = program.run(inputs)
    verdict = verify(problem, program, inputs, outputs)
    assert (verdict.checked, verdict.mismatches) == (outputs["y"].size, 0), verdict
    assert program.run(inputs, schedule=seed)["y"].tobytes() == outputs["y"].tobytes()
    program.check(1)


@settings(max_examples=30)
@given(problems().filter(lambda p: p.op != "broadcast"))
def test_whole_numbers_are_exact_whatever_the_algorithm(problem: Collective) -> None:
    rng = np.random.default_rng(problem.elements)
    program = COLLECTIVE.program(MINI, problem)
    x = rng.integers(-4, 5, program.inputs["x"][0]).astype(np.int32)
    y = np.asarray(program.run(x=x)["y"]).astype(np.int64)
    lines = x.reshape(problem.rows, problem.cols, -1).astype(np.int64)
    axis = {"mesh": (0, 1), "rows": 1, "cols": 0}[problem.over]
    if problem.op == "all_reduce":
        assert (y.reshape(lines.shape) == lines.sum(axis, keepdims=True)).all()
    elif problem.op == "reduce":
        assert (y == lines.sum(axis).reshape(y.shape)).all()
    elif problem.op in ("reduce_scatter", "all_gather", "all_to_all"):  # nothing is lost and nothing comes twice
        more = problem.size if problem.op == "all_gather" else 1
        assert y.sum() == more * lines.sum()


@settings(max_examples=15)
@given(problems().filter(lambda p: p.op == "all_reduce"), st.integers(1, 9))
def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather_and_everyone_agrees(problem: Collective, n: int) -> None:
    p = problem
    scatter = Collective(p.rows, p.cols, n, "reduce_scatter", p.algorithm, p.over, 0, p.dtype)
    gather = Collective(p.rows, p.cols, n, "all_gather", "", p.over, 0, p.dtype)
    both = Collective(p.rows, p.cols, n * p.size, "all_reduce", p.algorithm, p.over, 0, p.dtype)
    inputs = random_inputs(COLLECTIVE.program(MINI, both), n, hard=False)
    shares = COLLECTIVE.program(MINI, scatter).run(inputs)["y"]
    whole = COLLECTIVE.program(MINI, both).run(inputs)["y"]
    assert COLLECTIVE.program(MINI, gather).run(x=shares)["y"].tobytes() == whole.tobytes()
    grid = np.asarray(whole).reshape(p.rows, p.cols, -1)
    first = {"mesh": grid[:1, :1], "rows": grid[:, :1], "cols": grid[:1]}[p.over]
    assert (grid == first).all()


def test_sums_are_in_the_documented_orders() -> None:
    x = np.float32([2**24, 1, 1, -(2**24)])[:, None] * np.ones(4, np.float32)  # member i holds a row of one number
    f = np.float32
    order = {
        "ring": [f(f(x[1, 0] + x[2, 0]) + x[3, 0]) + x[0, 0], f(f(x[2, 0] + x[3, 0]) + x[0, 0]) + x[1, 0]],
        "recursive": [f(x[0, 0] + x[1, 0]) + f(x[2, 0] + x[3, 0])] * 2,
    }
    for algorithm, want in order.items():
        got = collectives.build("mini", rows=1, cols=4, elements=4, over="rows", algorithm=algorithm).run(x=x)["y"]
        assert got[0, :2].tolist() == want


def test_a_ring_comes_near_the_bandwidth_of_a_mesh_port() -> None:
    problem = Collective(4, 4, 8000, "all_gather", dtype="bf16")
    program = COLLECTIVE.program(MINI, Collective(4, 4, 1600, "all_gather"), resident=("x", "y"))
    seconds = Collective(4, 4, 1600, "all_gather").bound(MINI, ("x", "y")).seconds
    assert problem.port_bytes == 15 * 8000 * 2
    assert 1.0 <= program.time().seconds / seconds < 1.2


@settings(max_examples=25)
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7), st.integers(1, 5), st.data(),
    st.booleans(), st.sampled_from(["bf16", "fp32", "uint8"]), st.sets(st.sampled_from("xy")),
)  # fmt: skip
def test_halos_are_those_of_the_whole_image(
    rows: int, cols: int, h: int, w: int, c: int, data: st.DataObject, wrap: bool, dtype: str, resident: set[str]
) -> None:
    problem = HaloExchange(rows, cols, h, w, c, data.draw(st.integers(1, min(h, w))), wrap, dtype)
    program = HALO.program(MINI, problem, resident=resident)
    inputs = random_inputs(program, 1, hard=True)
    outputs = program.run(inputs)
    assert verify(problem, program, inputs, outputs).mismatches == 0
    assert program.run(inputs, schedule=3)["y"].tobytes() == outputs["y"].tobytes()
    program.check(1)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"rows": 0}, InputError, "rows=0 is outside 1..1024"),
        ({"op": "all_reduced"}, InputError, "did you mean 'all_reduce'?"),
        ({"algorithm": "tree"}, InputError, "'tree' is not one of ring, grid, recursive"),
        ({"over": "rows", "algorithm": "grid"}, InputError, "grid goes over a mesh"),
        ({"root": 16}, InputError, "root=16 is outside 0..15"),
        ({"dtype": "cfp8-143"}, InputError, "sums are not taken in cfp8-143"),
        ({"rows": 5}, UnsupportedError, "takes 5 x 4 nodes and mini has 4 x 4"),
        ({"elements": 100_000, "resident": "x"}, CapacityError, "does not fit mini: a node holds"),
        ({"width": -1}, InputError, "width=-1 does not go here"),
        ({"resident": "z"}, InputError, "no operand 'z' to keep resident"),
    ],
)
def test_bad_requests_get_one_line(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        collectives.build("mini", **{"rows": 4, "cols": 4, "elements": 10, **options})
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"halo": 3}, InputError, "halo=3 is outside 1..2"),
        ({"wrap": 1}, InputError, "wrap=1 is not a flag"),
        ({"cols": 9}, UnsupportedError, "takes 2 x 9 nodes and mini has 4 x 4"),
        ({"h": 1000, "w": 1000}, CapacityError, "SRAM overflow"),
    ],
)
def test_bad_halos_get_one_line(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        halo_exchange.build("mini", **{"rows": 2, "cols": 2, "h": 2, "w": 5, "c": 1, **options})
    assert text in str(caught.value)
