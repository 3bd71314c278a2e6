"""Bad arguments of the Python interface: the exact words of the one InputError, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import InputError
from accel.kernels import matmul
from accel.numerics import Codes

REAL = "give float16, float32, float64, bfloat16 or integers"
SEED = "seed must be an int from 0 to 2^64 - 1, got"
ONE = np.ones((8, 8), np.float32)


@pytest.fixture(scope="module")
def bf16() -> accel.Program:
    return matmul.build("mini", m=8, n=8, k=8)


@pytest.fixture(scope="module")
def int8() -> accel.Program:
    return matmul.build("mini", m=8, n=8, k=8, dtype="int8")


RUN: list[tuple[dict[str, Any], str]] = [
    ({"seed": -1}, f"{SEED} -1"),
    ({"seed": 1 << 64}, f"{SEED} 18446744073709551616"),
    ({"seed": True}, f"{SEED} True"),
    ({"seed": 1.5}, f"{SEED} 1.5"),
    ({"schedule": "late"}, "unknown schedule 'late'; use 'natural' or an int seed"),
    ({"schedule": None}, "unknown schedule None; use 'natural' or an int seed"),
    ({"schedule": True}, "unknown schedule True; use 'natural' or an int seed"),
    ({"engine": "fast"}, "unknown engine 'fast'; use 'jit' or 'plain'"),
    ({"threads": 0}, "Cannot run on threads=0: use an integer from 1 to 1024"),
    ({"threads": True}, "Cannot run on threads=True: use an integer from 1 to 1024"),
    ({"probes": ["x"]}, "no probe 'x'; stationary has none; write k.probe(view, name) in the kernel"),
    ({"d": ONE}, "stationary has no input 'd'; it takes 'a', 'b'"),
    (
        {"a": ONE[1:]},
        "input 'a' has shape (7, 8), the program was built for (8, 8); reshape it or build for its shape",
    ),
    ({"a": ONE * 1j}, f"input 'a': array of dtype complex64 cannot be a tensor; {REAL}"),
    ({"a": ONE.astype(str)}, f"input 'a': array of dtype <U32 cannot be a tensor; {REAL}"),
    ({"a": np.full((8, 8), None)}, f"input 'a': array of dtype object cannot be a tensor; {REAL}"),
    ({"a": [[1], [1, 2]]}, "input 'a': cannot make an array of this input; give a rectangular array of numbers"),
    (
        {"a": Codes(np.zeros((8, 8), np.uint8), "cfp8-143", bias=7)},
        (
            "input 'a': codes of cfp8-143 with bias word 7 cannot be a tensor of bf16 with bias word 0; "
            "decode them, then give the values"
        ),
    ),
]


@pytest.mark.parametrize(("arguments", "says"), RUN, ids=[says[:40] for _, says in RUN])
def test_a_run(bf16: accel.Program, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        bf16.run(**({"a": ONE, "b": ONE} | arguments))
    assert str(caught.value) == says


def test_a_run_without_an_input(bf16: accel.Program) -> None:
    with pytest.raises(InputError) as caught:
        bf16.run(a=ONE)
    assert str(caught.value) == "stationary needs input 'b' of shape (8, 8) in bf16; pass b=array"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, 300.0])
def test_numbers_that_are_no_integers(int8: accel.Program, value: float) -> None:
    with pytest.raises(InputError) as caught:
        int8.run(a=ONE * np.float32(value), b=ONE)
    assert str(caught.value) == "input 'a': array of dtype float32 cannot become int8; round it to integers first"


BYTES = np.zeros((8, 8), np.uint8)
CALLS: list[tuple[Callable[[], object], str]] = [
    (lambda: Codes(ONE, "bf16"), "bf16 is stored as uint16, not float32; make storage with as_storage"),
    (lambda: Codes(BYTES, "bf61"), "unknown number format 'bf61'; did you mean 'bf16'?"),
    (
        lambda: Codes(BYTES, "cfp8-143", bias=99),
        "the bias of cfp8-143 cannot be 99; give an integer in 0..63",
    ),
    (
        lambda: Codes(BYTES, "cfp8-143", bias=7, denormals="maybe"),
        """denormals cannot be 'maybe'; use "gap" or "ieee\"""",
    ),
    (lambda: accel.tensor((4,), "bf61"), "unknown number format 'bf61'; did you mean 'bf16'?"),
    (lambda: accel.tensor((4, -1)), "a tensor of shape (4, -1) has no elements; every dimension is at least 1"),
    (lambda: accel.tensor((4.5,)), "a tensor's shape is a tuple of ints, got (4.5,)"),  # type: ignore[arg-type]
    (
        lambda: matmul.build("mini", m=8.0, n=8, k=8),  # type: ignore[arg-type]
        "matmul: m=8.0 is not an integer; give a whole number, 1 or more",
    ),
    (
        lambda: matmul.build("mini", m=8, n=8, k=8, dtype="cfp8-143", bias=99),
        "a tensor: bias=99; a bias is 0 to 63",
    ),
    (
        lambda: matmul.build("mini", m=8, n=8, k=8, dtype="cfp8-143", bias=7, denormals="maybe"),
        "a tensor: denormals='maybe'; use 'gap' or 'ieee'",
    ),
]


@pytest.mark.parametrize(("call", "says"), CALLS, ids=[says[:40] for _, says in CALLS])
def test_a_value(call: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == says


ASKED: list[tuple[Callable[[accel.Program], object], str]] = [
    (lambda p: p.time("flit"), "Cannot time at fidelity 'flit'; use 'packet' or 'bound'"),
    (lambda p: p.findings(schedules=-1), "Cannot check with schedules=-1; give a whole number from 0 to 1000"),
    (
        lambda p: p.timeline((9, 9)),
        "Cannot trace node (9, 9): 'stationary' runs on 4 x 4 nodes; count from (0, 0)",
    ),
    (
        lambda p: p.sample_outputs(1, seed=1.5),  # type: ignore[arg-type]
        "the seed of a sample is a whole number of at least 0, got 1.5",
    ),
    (lambda p: p.asm(2), "no role 2; stationary has roles 0 to 1"),
]


@pytest.mark.parametrize(("ask", "says"), ASKED, ids=[says[:40] for _, says in ASKED])
def test_a_question(bf16: accel.Program, ask: Callable[[accel.Program], object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(bf16)
    assert str(caught.value) == says
