"""Resizing: bits of its definition over shapes, meshes and tilings; exact cases; the adjoint; torch; bad input."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, CapacityError, InputError, UnsupportedError
from accel.hardware import chip
from accel.kernels import resize
from accel.kernels.parts.resize_taps import axis_taps, period_of, runs_of, turned
from accel.problem import Resize2d

MINI = chip("mini")


def _inputs(problem: Resize2d, seed: int, *, hard: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = (lambda s: rng.choice([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, -3.0], s)) if hard else rng.standard_normal
    return {n: draw(o.shape).astype(np.float32) for n, o in problem.operands.items() if o.role == "in"}


def _bits(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32).view(np.uint32)


def _run(problem: Resize2d, inputs: dict[str, np.ndarray], mesh: tuple[int, int] = (4, 4), **tiling: int) -> np.ndarray:
    spec = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    (made,) = resize.KERNEL.program(spec, problem, **tiling).run(inputs).values()
    return np.asarray(made)


@pytest.mark.parametrize("problem", resize.KERNEL.examples, ids=lambda p: p.label)
@pytest.mark.parametrize("hard", [False, True], ids=["normal", "hard"])
def test_bits_are_those_of_the_definition(problem: Resize2d, hard: bool) -> None:
    program, inputs = resize.KERNEL.program(MINI, problem), _inputs(problem, 1, hard=hard)
    for name, want in resize.oracle(problem, inputs).items():
        for schedule in ("natural", 7):
            assert (_bits(program.run(inputs, schedule=schedule)[name]) == _bits(want)).all()
    program.check()


@st.composite
def problems(draw: st.DrawFn) -> Resize2d:
    mode = draw(st.sampled_from(["nearest", "bilinear", "bilinear"]))
    sizes = [draw(st.integers(1, 12)) for _ in "hw"]
    out = [draw(st.one_of(st.integers(1, 24), st.just(2 * size))) for size in sizes]
    corners = mode == "bilinear" and draw(st.booleans())
    return Resize2d(
        draw(st.integers(1, 4)), *sizes, draw(st.integers(1, 20)), *out, mode, corners,
        draw(st.sampled_from(["bf16", "fp16", "fp32"])), draw(st.sampled_from(["", "fp32"])),
        draw(st.sampled_from(["fwd", "bwd"])),
    )  # fmt: skip


@settings(max_examples=40)
@given(
    problems(),
    st.sampled_from([(1, 1), (2, 3), (4, 4)]),
    st.fixed_dictionaries({}, optional={"band": st.integers(1, 6), "block": st.integers(1, 9), "slots": st.just(1)}),
)
def test_any_shape_any_mesh_any_tiling(problem: Resize2d, mesh: tuple[int, int], tiling: dict[str, int]) -> None:
    rows = problem.p if problem.direction == "fwd" else problem.h
    limits = {"band": rows, "block": problem.c, "slots": 1}
    inputs = _inputs(problem, 3)
    (want,) = resize.oracle(problem, inputs).values()
    got = _run(problem, inputs, mesh, **{name: min(value, limits[name]) for name, value in tiling.items()})
    assert (_bits(got) == _bits(want)).all()


@settings(max_examples=15)
@given(problems())
def test_the_gradient_is_the_adjoint(problem: Resize2d) -> None:
    """<resize(x), gy> = <x, gradient(gy)> up to the roundings of a few products: 2^-22 of the sum of magnitudes."""
    fields = {**problem.to_dict(), "dtype": "fp32", "out_dtype": "fp32"}
    forward, backward = (Resize2d.from_dict({**fields, "direction": name}) for name in ("fwd", "bwd"))
    x, gy = np.abs(_inputs(forward, 5)["x"]), np.abs(_inputs(backward, 6)["gy"])
    left = (_run(forward, {"x": x}).astype(np.float64) * gy).sum()
    right = (_run(backward, {"gy": gy}).astype(np.float64) * x).sum()
    many = 4 + 2 * max(problem.p // problem.h, problem.q // problem.w)
    assert abs(left - right) <= 2 * many * 2.0**-24 * left


def test_exact_cases() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    twice = _run(Resize2d(1, 2, 3, 1, 4, 6, "nearest", dtype="fp32"), {"x": x})
    assert (twice[0, :, :, 0] == np.repeat(np.repeat(x[0, :, :, 0], 2, 0), 2, 1)).all()
    between = _run(Resize2d(1, 2, 3, 1, 3, 5, align_corners=True, dtype="fp32"), {"x": x})
    assert (between[0, :, :, 0] == np.arange(0, 3, 0.5)[:5] + 1.5 * np.arange(3)[:, None]).all()
    same = Resize2d(1, 2, 3, 1, 2, 3, dtype="fp32")
    assert (_run(same, {"x": x}) == x).all()
    halved = _run(
        Resize2d(1, 2, 2, 1, 1, 1, dtype="fp32"), {"x": np.array([1, 2, 3, 6], np.float32).reshape(1, 2, 2, 1)}
    )
    assert halved.item() == 3.0


def test_a_weight_of_zero_never_meets_infinity() -> None:
    x = np.array([1.0, np.inf, 2.0], np.float32).reshape(1, 3, 1, 1)
    y = _run(Resize2d(1, 3, 1, 1, 5, 1, align_corners=True, dtype="fp32"), {"x": x})
    assert y[0, :, 0, 0].tolist() == [1.0, np.inf, np.inf, np.inf, 2.0]


@settings(max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([("nearest", False), ("bilinear", False), ("bilinear", True)]),
)
def test_runs_say_what_positions_read(size: int, out: int, mode: tuple[str, bool]) -> None:
    taps = axis_taps(size, out, *mode)
    for i, pairs in enumerate(taps):
        assert sum(Fraction(weight) for _, weight in pairs) - 1 < Fraction(1, 1 << 50)
        if mode[0] == "bilinear":
            exact = (
                Fraction(i * (size - 1), max(1, out - 1)) if mode[1] else Fraction((2 * i + 1) * size - out, 2 * out)
            )
            place = sum(Fraction(weight) * position for position, weight in pairs)
            assert abs(place - min(max(exact, 0), size - 1)) < Fraction(1, 1 << 45)
    for direction, reads in (("fwd", taps), ("bwd", turned(taps, size))):
        problem = Resize2d(1, size, 1, 1, out, 1, *mode, direction=direction)
        again: dict[int, Any] = {}
        for run in runs_of(reads, period_of(problem, 0), 0):
            for t in range(run.many):
                again[run.first + t * run.step] = tuple((at + t * run.stride, weight) for at, weight in run.taps)
        assert [again[i] for i in range(len(reads))] == list(reads)


def test_enlarging_twice_takes_two_runs_and_the_borders() -> None:
    problem = Resize2d(1, 64, 1, 1, 128, 1)
    assert len(runs_of(axis_taps(64, 128, "bilinear", False), period_of(problem, 0), 0)) == 4


@pytest.mark.parametrize("shape", [(5, 7, 10, 14), (9, 8, 4, 5), (5, 4, 13, 3)])
@pytest.mark.parametrize("corners", [False, True])
def test_torch_agrees(shape: tuple[int, int, int, int], corners: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    h, w, p, q = shape
    problem = Resize2d(2, h, w, 6, p, q, align_corners=corners, dtype="fp32")
    back = Resize2d(2, h, w, 6, p, q, align_corners=corners, dtype="fp32", direction="bwd")
    x, gy = _inputs(problem, 1)["x"], _inputs(back, 2)["gy"]
    image = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    theirs = torch.nn.functional.interpolate(image.permute(0, 3, 1, 2), (p, q), mode="bilinear", align_corners=corners)
    theirs.backward(torch.tensor(gy, dtype=torch.float64).permute(0, 3, 1, 2))
    # weights, products and sums: 4 roundings an axis and tap of 2^-24, of magnitudes below 8; a gradient adds up to 25
    assert np.abs(_run(problem, {"x": x}) - theirs.detach().permute(0, 2, 3, 1).numpy()).max() <= 8 * 8 * 2.0**-24
    assert np.abs(_run(back, {"gy": gy}) - image.grad.numpy()).max() <= 25 * 8 * 8 * 2.0**-24


@pytest.mark.parametrize("factor", [(2, 3), (1, 4)])
def test_torch_nearest_is_the_same_for_whole_factors(factor: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    problem = Resize2d(2, 4, 5, 6, 4 * factor[0], 5 * factor[1], "nearest", dtype="fp32")
    x = _inputs(problem, 1)["x"]
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x).permute(0, 3, 1, 2), (problem.p, problem.q), mode="nearest"
    )
    assert (_run(problem, {"x": x}) == theirs.permute(0, 2, 3, 1).numpy()).all()


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"p": 0}, InputError, "p=0 is outside"),
        ({"q": 1 << 15}, InputError, "q=32768 is outside"),
        ({"mode": "cubic"}, InputError, "mode='cubic' is not one of nearest, bilinear"),
        ({"mode": "nearest", "align_corners": True}, InputError, "has no meaning in mode 'nearest'"),
        ({"align_corners": 1}, InputError, "align_corners=1 is not a flag"),
        ({"dtype": "int8"}, InputError, "int8"),
        ({"direction": "wgrad"}, InputError, "direction='wgrad' is not one of fwd, bwd"),
        ({"tall": 2}, InputError, "no tiling parameter 'tall'"),
        ({"resident": ("y",)}, UnsupportedError, "keeps none resident"),
        ({"w": 1 << 14, "q": 1 << 14}, CapacityError, "does not fit mini: a row of 16384"),
    ],
)
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[AccelError], text: str) -> None:
    shape: dict[str, Any] = {"n": 1, "h": 4, "w": 4, "c": 8, "p": 8, "q": 8}
    with pytest.raises(error, match=text):
        resize.build(MINI, **{**shape, **fields})
