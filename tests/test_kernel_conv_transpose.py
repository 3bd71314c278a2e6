"""Transposed convolution: bits of its definition in all directions, the adjoint, sizes, torch, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, InputError, UnsupportedError
from accel.hardware import chip
from accel.kernels import conv_transpose
from accel.numerics import gamma
from accel.problem import ConvTranspose2d

MINI = chip("mini")


def _inputs(problem: ConvTranspose2d, seed: int, *, integers: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = (lambda s: rng.integers(-2, 3, s)) if integers else rng.standard_normal
    return {n: draw(o.shape).astype(np.float32) for n, o in problem.operands.items() if o.role == "in"}


def _bits(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32).view(np.uint32)


def _run(problem: ConvTranspose2d, inputs: dict[str, np.ndarray], **options: Any) -> np.ndarray:
    program = conv_transpose.KERNEL.program(MINI, problem, **options)
    (made,) = program.run(inputs).values()
    return np.asarray(made)


@pytest.mark.parametrize("problem", conv_transpose.KERNEL.examples, ids=lambda p: p.label)
@pytest.mark.parametrize("stay", [False, True], ids=["memory", "resident"])
def test_bits_are_those_of_the_definition(problem: ConvTranspose2d, stay: bool) -> None:
    program = conv_transpose.KERNEL.program(MINI, problem, resident=tuple(problem.operands) if stay else ())
    inputs = _inputs(problem, 1)
    for name, want in conv_transpose.oracle(problem, inputs).items():
        for schedule in ("natural", 3):
            assert (_bits(program.run(inputs, schedule=schedule)[name]) == _bits(want)).all()
    program.check()


@st.composite
def problems(draw: st.DrawFn) -> ConvTranspose2d:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    stride = tuple(draw(st.integers(1, 3)) for _ in "hw")
    dilation, taps = tuple(draw(st.integers(1, 2)) for _ in "hw"), [draw(st.integers(1, 4)) for _ in "rs"]
    more = tuple(draw(st.integers(0, step - 1)) for step in stride)
    sizes = [draw(st.integers(1, 6)) for _ in "hw"]
    full = [(n - 1) * a + d * (t - 1) + m for n, a, d, t, m in zip(sizes, stride, dilation, taps, more, strict=True)]
    pad = tuple(draw(st.integers(0, min(3, n // 2))) for n in full)
    return ConvTranspose2d(
        draw(st.integers(1, 3)), *sizes, groups * draw(st.integers(1, 6)), groups * draw(st.integers(1, 6)), *taps,
        stride, pad, dilation, more, groups, draw(st.sampled_from(["bf16", "fp32"])), "fp32",
    )  # fmt: skip


@settings(max_examples=25)
@given(problems(), st.integers(0, 9))
def test_any_shape(problem: ConvTranspose2d, seed: int) -> None:
    inputs = _inputs(problem, seed)
    assert (_bits(_run(problem, inputs)) == _bits(conv_transpose.oracle(problem, inputs)["y"])).all()


@settings(max_examples=8)
@given(problems())
def test_the_three_directions_are_adjoint_over_integers(problem: ConvTranspose2d) -> None:
    inputs = _inputs(problem, 2, integers=True)
    y = _run(problem, inputs).astype(np.float64)
    gy = np.random.default_rng(3).integers(-2, 3, y.shape).astype(np.float32)
    back, weights = (ConvTranspose2d.from_dict({**problem.to_dict(), "direction": name}) for name in ("dgrad", "wgrad"))
    gx, gw = _run(back, {"gy": gy, "w": inputs["w"]}), _run(weights, {"gy": gy, "x": inputs["x"]})
    assert (y * gy).sum() == (gx.astype(np.float64) * inputs["x"]).sum() == (gw.astype(np.float64) * inputs["w"]).sum()


@pytest.mark.parametrize("fields", [{}, {"stride": 2, "output_pad": 1, "pad": 1}, {"dilation": 2, "groups": 4}])
def test_torch_agrees_within_the_bound_of_the_sums(fields: dict[str, int]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    problem = ConvTranspose2d(2, 5, 6, 8, 12, 3, 4, out_dtype="fp32", bias=True, **fields)
    inputs = {name: np.asarray(torch.tensor(x).bfloat16().float()) for name, x in _inputs(problem, 4).items()}
    inputs["bias"] = np.asarray(inputs["bias"], np.float32)

    def theirs(x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
        image = torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2)
        weight = torch.tensor(w, dtype=torch.float64).permute(3, 2, 0, 1)  # (C, K / groups, R, S)
        options = {"stride": 1, "padding": fields.get("pad", 0), "output_padding": 0, "dilation": 1, "groups": 1}
        options |= {"output_padding" if n == "output_pad" else "padding" if n == "pad" else n: v
                    for n, v in fields.items()}  # fmt: skip
        made = torch.nn.functional.conv_transpose2d(image, weight, torch.tensor(bias, dtype=torch.float64), **options)
        return made.permute(0, 2, 3, 1).numpy()

    y, want = _run(problem, inputs), theirs(**inputs)
    assert y.shape == want.shape
    limit = gamma(3 * 4 * 8 + 1) * theirs(*(np.abs(inputs[n]) for n in ("x", "w", "bias")))
    assert (np.abs(y - want) <= limit).all()


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"output_pad": 1}, InputError, "output_pad=.1, 1. is not below stride"),
        ({"pad": 9}, InputError, "leaves nothing of the output"),
        ({"groups": 3}, InputError, "groups=3 does not divide c=8 and k=8"),
        ({"direction": "wgrad", "bias": True}, InputError, "have no part in direction 'wgrad'"),
        ({"direction": "back"}, InputError, "direction='back' is not one of"),
        ({"activation": "swish"}, InputError, "activation='swish' is not one of"),
        ({"dtype": "int32"}, UnsupportedError, "does not take int32"),
        ({"resident": "gy"}, InputError, "has no operand 'gy' to keep resident; use x, w, y"),
        ({"n": 0}, InputError, "n=0 is outside"),
    ],
)
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[AccelError], text: str) -> None:
    shape: dict[str, Any] = {"n": 1, "h": 4, "w": 4, "c": 8, "k": 8, "r": 3, "s": 3}
    with pytest.raises(error, match=text):
        conv_transpose.build(MINI, **{**shape, **fields})


def test_a_size_that_two_outputs_convolve_to() -> None:
    sizes = [ConvTranspose2d(1, 4, 4, 1, 1, 3, 3, stride=2, pad=1, output_pad=more) for more in (0, 1)]
    assert [(p.p, p.q) for p in sizes] == [(7, 7), (8, 8)]
    assert [(p.adjoint.p, p.adjoint.q) for p in sizes] == [(4, 4), (4, 4)]
