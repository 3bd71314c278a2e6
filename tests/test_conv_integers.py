"""Convolutions of int8 and uint8 in all directions: sums modulo 2^32, next to int64, on every number there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import InputError, UnsupportedError
from accel.kernels.catalog import kernel_of
from accel.problem import Conv2d, Conv3d, ConvTranspose2d
from accel.testing import kernel_property

MINI = accel.chip("mini")
SHAPES: tuple[dict[str, Any], ...] = (
    {"n": 2, "h": 7, "w": 6, "c": 5, "k": 9, "r": 3, "s": 3, "pad": 1},
    {"n": 3, "h": 9, "w": 8, "c": 6, "k": 10, "r": 3, "s": 2, "stride": (2, 3), "pad": (1, 0), "dilation": (2, 1)},
    {"n": 1, "h": 6, "w": 9, "c": 8, "k": 12, "r": 3, "s": 3, "pad": 1, "groups": 4},
    {"n": 2, "h": 5, "w": 5, "c": 6, "k": 6, "r": 3, "s": 3, "pad": 1, "groups": 6},
    {"n": 2, "h": 5, "w": 5, "c": 17, "k": 24, "r": 1, "s": 1},
)


def windows(problem: Any, x: np.ndarray) -> np.ndarray:
    """Return what each output reads, (n, p, q, r, s, c), in int64."""
    (sh, sw), (dh, dw), (ph, pw) = problem.strides, problem.dilations, problem.pads
    padded = np.pad(x.astype(np.int64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    rows = np.arange(problem.p)[:, None] * sh + np.arange(problem.r) * dh
    columns = np.arange(problem.q)[:, None] * sw + np.arange(problem.s) * dw
    return padded[:, rows[:, None, :, None], columns[None, :, None, :]]


def filters(problem: Any, w: np.ndarray) -> np.ndarray:
    """Return w with zeros for the channels of other groups, (r, s, c, k), in int64."""
    whole = np.zeros((problem.r, problem.s, problem.c, problem.k), np.int64)
    c, k = problem.c // problem.groups, problem.k // problem.groups
    for g in range(problem.groups):
        whole[:, :, g * c : (g + 1) * c, g * k : (g + 1) * k] = w[..., g * k : (g + 1) * k]
    return whole


def expected(problem: Any, given: dict[str, np.ndarray]) -> np.ndarray:
    """Return the int64 result of a direction; gradients as the adjoints of forward, from its windows."""
    if problem.direction == "fwd":
        return np.einsum("npqrsc,rsck->npqk", windows(problem, given["x"]), filters(problem, given["w"]))
    if problem.direction == "wgrad":
        whole = np.einsum("npqrsc,npqk->rsck", windows(problem, given["x"]), given["gy"].astype(np.int64))
        c, k = problem.c // problem.groups, problem.k // problem.groups
        parts = [whole[:, :, g * c : (g + 1) * c, g * k : (g + 1) * k] for g in range(problem.groups)]
        return np.concatenate(parts, 3)
    shape = (problem.n, problem.h, problem.w, problem.c)
    place = windows(problem, np.arange(1, 1 + np.prod(shape)).reshape(shape))  # which element each tap reads, 0: none
    terms = np.einsum("npqk,rsck->npqrsc", given["gy"].astype(np.int64), filters(problem, given["w"]))
    sums = np.zeros(1 + int(np.prod(shape)), np.int64)
    np.add.at(sums, place.ravel(), terms.ravel())
    return sums[1:].reshape(shape)


def drawn(problem: Any, seed: int) -> dict[str, np.ndarray]:
    info = np.iinfo(problem.dtype)
    rng = np.random.default_rng(seed)
    inputs = {name: o.shape for name, o in problem.operands.items() if o.role == "in"}
    return {name: rng.integers(info.min, info.max + 1, shape).astype(problem.dtype) for name, shape in inputs.items()}


@pytest.mark.parametrize("out", ["int32", "int8"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("direction", ["fwd", "dgrad", "wgrad"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s['r']}x{s['s']}g{s.get('groups', 1)}")
def test_all_directions_are_those_of_int64(shape: dict[str, Any], direction: str, dtype: str, out: str) -> None:
    problem = Conv2d(**shape, dtype=dtype, out_dtype=out, direction=direction)
    given = drawn(problem, 0)
    program = kernel_of(problem).program(MINI, problem)
    want = expected(problem, given)
    wanted = want.astype(np.int32) if out == "int32" else np.clip(want, -128, 127)
    (got,) = program.run(given).values()
    assert (got == wanted).all()
    assert not program.findings(schedules=1)


def test_sums_wrap_modulo_two_to_the_32() -> None:
    problem = Conv2d(1, 1, 1, 200_000, 1, 1, 1, dtype="uint8", out_dtype="int32")
    given = {name: np.full(o.shape, 255, np.uint8) for name, o in problem.operands.items() if o.role == "in"}
    (got,) = kernel_of(problem).program(MINI, problem).run(given).values()
    assert got.ravel()[0] == np.int64(255 * 255 * 200_000).astype(np.int32)


@pytest.mark.parametrize(
    "problem",
    [
        Conv2d(2, 7, 6, 5, 9, 3, 3, pad=1, dtype="int8", out_dtype="int32"),
        Conv2d(2, 7, 6, 5, 9, 3, 3, pad=1, dtype="int8", out_dtype="int32", direction="dgrad"),
        Conv2d(3, 7, 6, 5, 9, 3, 3, pad=1, dtype="int8", out_dtype="int8", direction="wgrad"),
        Conv3d(1, 3, 4, 5, 3, 6, 2, 3, 3, pad=(0, 1, 1), dtype="uint8", out_dtype="int32"),
        Conv3d(1, 3, 4, 5, 3, 6, 2, 3, 3, pad=(0, 1, 1), dtype="int8", out_dtype="int32", direction="wgrad"),
        ConvTranspose2d(1, 4, 5, 6, 9, 3, 3, stride=2, dtype="int8", out_dtype="int32"),
        ConvTranspose2d(1, 4, 5, 6, 9, 3, 3, stride=2, dtype="int8", out_dtype="int32", direction="wgrad"),
    ],
    ids=lambda p: p.label.replace(" ", "-"),
)
def test_integers_go_through_the_battery(problem: Any) -> None:
    kernel_property(problem.kind, cases=[problem], schedules=2)()


def test_what_integers_do_not_have_is_said() -> None:
    with pytest.raises(InputError, match="sums of int8 are int32 and have no bias; leave it out"):
        Conv2d(1, 4, 4, 2, 2, 3, 3, dtype="int8", out_dtype="int32", bias=True)
    with pytest.raises(InputError, match="sums of uint8 are int32 and have no activation; leave it out"):
        ConvTranspose2d(1, 4, 4, 2, 2, 3, 3, dtype="uint8", out_dtype="int32", activation="relu")
    with pytest.raises(UnsupportedError, match=r"d1 does not take dtype='int8'; use 'bf16'"):
        accel.kernels.conv2d.build("d1", n=1, h=4, w=4, c=2, k=2, r=3, s=3, dtype="int8", out_dtype="int32")
    with pytest.raises(UnsupportedError, match="d1 has no weight gradient of int8"):
        accel.kernels.conv2d.build(
            "d1", n=1, h=4, w=4, c=2, k=2, r=3, s=3, dtype="int8", out_dtype="int32", direction="wgrad"
        )
