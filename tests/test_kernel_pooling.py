"""Pooling: bits of its definition over shapes, meshes and tilings; ties, NaN and padding; torch; bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, CapacityError, InputError, UnsupportedError
from accel.hardware import chip
from accel.kernels import pooling
from accel.problem import Pool2d

MINI = chip("mini")
HARD = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3.0, 3.0, 2.0**-140], np.float32)


def _inputs(problem: Pool2d, seed: int, *, kind: str = "float") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = {
        "float": rng.standard_normal,
        "int": lambda s: rng.integers(-4, 5, s),
        "hard": lambda s: rng.choice(HARD, s),
    }[kind]
    return {n: draw(o.shape).astype(np.float32) for n, o in problem.operands.items() if o.role == "in"}


def _bits(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32).view(np.uint32)


def _run(problem: Pool2d, inputs: dict[str, np.ndarray], mesh: tuple[int, int] = (4, 4), **tiling: int) -> np.ndarray:
    spec = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    (made,) = pooling.KERNEL.program(spec, problem, **tiling).run(inputs).values()
    return np.asarray(made)


@pytest.mark.parametrize("problem", pooling.KERNEL.examples, ids=lambda p: p.label)
@pytest.mark.parametrize("kind", ["float", "int", "hard"])
def test_bits_are_those_of_the_definition(problem: Pool2d, kind: str) -> None:
    program, inputs = pooling.KERNEL.program(MINI, problem), _inputs(problem, 1, kind=kind)
    for name, want in pooling.oracle(problem, inputs).items():
        for schedule in ("natural", 7):
            assert (_bits(program.run(inputs, schedule=schedule)[name]) == _bits(want)).all()
    program.check()


@st.composite
def problems(draw: st.DrawFn) -> Pool2d:
    axes = []
    for _ in "hw":
        taps, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2]))
        pad = draw(st.integers(0, taps // 2))
        reach = dilation * (taps - 1) + 1
        size = max(reach, dilation + 1, pad + 1) + draw(st.integers(0, 8))
        axes.append((size, taps, stride, pad if dilation == 1 else min(pad, 1), dilation))
    sizes, taps, stride, pad, dilation = zip(*axes, strict=True)
    return Pool2d(
        draw(st.integers(1, 4)), *sizes, draw(st.integers(1, 20)), *taps, draw(st.sampled_from(["max", "avg"])),
        stride, pad, dilation, draw(st.booleans()), draw(st.sampled_from(["bf16", "fp16", "fp32"])),
        draw(st.sampled_from(["", "fp32", "bf16"])), draw(st.sampled_from(["fwd", "bwd"])),
    )  # fmt: skip


@settings(max_examples=50)
@given(
    problems(),
    st.sampled_from([(1, 1), (2, 3), (4, 4)]),
    st.fixed_dictionaries({}, optional={"band": st.integers(1, 6), "block": st.integers(1, 9), "slots": st.just(1)}),
    st.sampled_from(["float", "int", "hard"]),
)
def test_any_shape_any_mesh_any_tiling(
    problem: Pool2d, mesh: tuple[int, int], tiling: dict[str, int], kind: str
) -> None:
    rows = problem.p if problem.direction == "fwd" else problem.h
    limits = {"band": rows, "block": problem.c, "slots": 1}
    tiling = {name: min(value, limits[name]) for name, value in tiling.items()}
    inputs = _inputs(problem, 3, kind=kind)
    (want,) = pooling.oracle(problem, inputs).values()
    assert (_bits(_run(problem, inputs, mesh, **tiling)) == _bits(want)).all()


@settings(max_examples=15)
@given(problems())
def test_gradients_are_adjoint_over_integers(problem: Pool2d) -> None:
    """<pool(x), gy> = <x, gradient(gy)>: a mean is linear, and a maximum is its own derivative times x."""
    divisor = problem.r * problem.s if problem.function == "avg" else 1
    fields = {**problem.to_dict(), "dtype": "fp32", "out_dtype": "fp32", "count_include_pad": True}
    forward, backward = (Pool2d.from_dict({**fields, "direction": name}) for name in ("fwd", "bwd"))
    x = _inputs(forward, 5, kind="int")["x"] * divisor
    gy = _inputs(backward, 6, kind="int")["gy"] * divisor
    y = _run(forward, {"x": x}).astype(np.int64)
    gx = _run(backward, {"gy": gy, "x": x} if problem.function == "max" else {"gy": gy}).astype(np.int64)
    assert (y * gy.astype(np.int64)).sum() == (x.astype(np.int64) * gx).sum()


def test_ties_go_to_the_first_element_and_overlaps_add_up() -> None:
    problem = Pool2d(1, 3, 3, 1, 2, 2, stride=1, dtype="fp32", direction="bwd")
    gy = np.array([1, 10, 100, 1000], np.float32).reshape(1, 2, 2, 1)
    flat = _run(problem, {"gy": gy, "x": np.zeros((1, 3, 3, 1), np.float32)})
    assert flat.reshape(3, 3).tolist() == [[1, 10, 0], [100, 1000, 0], [0, 0, 0]]
    peak = np.zeros((1, 3, 3, 1), np.float32)
    peak[0, 1, 1] = 1
    assert _run(problem, {"gy": gy, "x": peak}).reshape(3, 3)[1, 1] == 1111
    peak[0, 0, 2] = np.nan
    assert _run(problem, {"gy": gy, "x": peak}).reshape(3, 3).tolist() == [[0, 0, 10], [0, 1101, 0], [0, 0, 0]]


def test_padding_takes_no_part_and_counts_only_where_asked() -> None:
    x = -np.ones((1, 2, 2, 3), np.float32)
    assert (_run(Pool2d(1, 2, 2, 3, 3, 3, stride=1, pad=1), {"x": x}).astype(np.float32) == -1).all()
    for count, want in ((False, -1.0), (True, -4 / 9)):
        mean = Pool2d(1, 2, 2, 3, 3, 3, "avg", 1, 1, count_include_pad=count, out_dtype="fp32")
        assert (_run(mean, {"x": x}) == np.float32(want)).all()


@pytest.mark.parametrize("function", ["max", "avg"])
@pytest.mark.parametrize("include", [True, False])
def test_torch_agrees(function: str, include: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    fields: dict[str, Any] = {"count_include_pad": include, "dtype": "fp32"}
    problem = Pool2d(2, 9, 11, 7, 3, 2, function, (2, 1), 1, **fields)
    back = Pool2d(2, 9, 11, 7, 3, 2, function, (2, 1), 1, direction="bwd", **fields)
    x, gy = _inputs(problem, 1)["x"], _inputs(back, 2)["gy"]
    image = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"kernel_size": (3, 2), "stride": (2, 1), "padding": 1}
    if function == "avg":
        theirs = torch.nn.functional.avg_pool2d(image.permute(0, 3, 1, 2), count_include_pad=include, **options)
    else:
        theirs = torch.nn.functional.max_pool2d(image.permute(0, 3, 1, 2), **options)
    theirs.backward(torch.tensor(gy, dtype=torch.float64).permute(0, 3, 1, 2))
    y, gx = _run(problem, {"x": x}), _run(back, {"gy": gy, "x": x} if function == "max" else {"gy": gy})
    # 6 additions and a division: at most 7 roundings of 2^-24 of the sum of magnitudes, here below 32
    limit = 7 * 2.0**-24 * 32
    assert np.abs(y - theirs.detach().permute(0, 2, 3, 1).numpy()).max() <= limit
    assert np.abs(gx - image.grad.numpy()).max() <= limit


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"pad": 2}, InputError, "pad=2 is more than half of a window of 3 in height"),
        ({"r": 9}, InputError, "a window of 9 with dilation 1 does not fit 8"),
        ({"h": 2, "r": 2, "pad": 1, "dilation": 3}, InputError, "in height a window of 2 .* holds only padding"),
        ({"function": "min"}, InputError, "function='min' is not one of max, avg"),
        ({"stride": 0}, InputError, "stride=0 is outside"),
        ({"dtype": "int8"}, InputError, "int8"),
        ({"direction": "dgrad"}, InputError, "direction='dgrad' is not one of fwd, bwd"),
        ({"count_include_pad": 1}, InputError, "count_include_pad=1 is not a flag"),
        ({"band": 0}, InputError, "band=0 is not in 1..2"),
        ({"rows": 2}, InputError, "no tiling parameter 'rows'"),
        ({"resident": ("x",)}, UnsupportedError, "keeps none resident"),
        ({"w": 1 << 18, "s": 2}, CapacityError, "does not fit mini: a row of"),
    ],
)
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[AccelError], text: str) -> None:
    shape: dict[str, Any] = {"n": 1, "h": 8, "w": 8, "c": 8, "r": 3, "s": 3}
    with pytest.raises(error, match=text):
        pooling.build(MINI, **{**shape, **fields})
