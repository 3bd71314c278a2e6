"""Convolution forward: bits of its definition over shapes, meshes, tilings and formats; torch; bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import conv2d
from accel.numerics import as_storage, fmt, round_to
from accel.problem import Conv2d

MINI = accel.chip("mini")


def draw_inputs(problem: Any, seed: int = 0, integers: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {name: o.shape for name, o in problem.operands.items() if o.role == "in"}
    if integers:
        return {name: rng.integers(-2, 3, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def assert_bits(problem: Any, program: Any, inputs: dict[str, Any], **options: Any) -> None:
    own = {
        t.name: {"bias": t.bias, "denormals": t.denormals} for t in program.isa.tensors if fmt(t.dtype).kind == "cfp"
    }
    got, want = program.run(inputs, **options), conv2d.oracle(problem, inputs, meaning=own)
    for name, values in want.items():
        dtype = problem.operands[name].dtype
        left, right = (as_storage(x, dtype, **own.get(name, {})) for x in (got[name], values))
        np.testing.assert_array_equal(left.view(f"u{left.itemsize}"), right.view(f"u{right.itemsize}"))


@pytest.mark.parametrize("problem", [p for p in conv2d.KERNEL.examples if p.direction == "fwd"], ids=lambda p: p.label)
@pytest.mark.parametrize("resident", [(), ("x", "w", "y")], ids=["memory", "resident"])
def test_forward_examples(problem: Conv2d, resident: tuple[str, ...]) -> None:
    program = conv2d.KERNEL.program(MINI, problem, resident=resident)
    assert_bits(problem, program, draw_inputs(problem))
    program.check()
    assert_bits(problem, program, draw_inputs(problem, seed=1), schedule=3)


@st.composite
def problems(draw: st.DrawFn) -> Conv2d:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    c, k = (groups * draw(st.integers(1, 9)) for _ in "ck")
    taps = [draw(st.integers(1, 4)) for _ in "rs"]
    stride, pad, dilation = (tuple(draw(st.integers(low, 3)) for _ in "hw") for low in (1, 0, 1))
    sizes = [
        max(1, dil * (tap - 1) + 1 - 2 * p) + draw(st.integers(0, 9))
        for tap, dil, p in zip(taps, dilation, pad, strict=True)
    ]
    dtype = draw(st.sampled_from(["bf16", "bf16", "fp16", "fp32"]))
    return Conv2d(
        draw(st.integers(1, 5)), *sizes, c, k, *taps, stride, pad, dilation, groups, dtype,
        draw(st.sampled_from(["bf16", "fp32"])), "fwd", draw(st.booleans()), draw(st.sampled_from(["none", "relu"])),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    problems(), st.sampled_from([(1, 1), (2, 3), (4, 4)]), st.sets(st.sampled_from(["x", "w", "y"])), st.integers(0, 99)
)
def test_forward_is_its_definition_whatever_shape_and_mesh(
    problem: Conv2d, mesh: tuple[int, int], resident: set[str], seed: int
) -> None:
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    program = conv2d.KERNEL.program(chip, problem, resident=tuple(resident))
    assert_bits(problem, program, draw_inputs(problem, seed), schedule=seed if seed % 2 else "natural")


@pytest.mark.parametrize(
    "tiling",
    [
        {"high": 1, "wide": 9, "bands": 2, "stages": 2, "taps": 1},
        {"high": 1, "wide": 4, "bands": 3, "deep": 3, "stages": 2},
        {"high": 1, "wide": 3, "bands": 1, "stages": 1, "taps": 3, "slots": 1, "staged": 0},
        {"high": 4, "wide": 4, "stages": 1, "taps": 3, "staged": 0},
        {"high": 2, "wide": 9, "bands": 1, "taps": 2},
        {"high": 1, "wide": 9, "bands": 1, "staged": 1},
        {"high": 1, "wide": 3, "bands": 2, "staged": 1, "slots": 1},
        {"high": 1, "wide": 9, "bands": 1, "parts": 3, "stages": 1, "taps": 2},
        {"high": 4, "wide": 5, "bands": 1, "deep": 5, "stages": 3, "slots": 1, "accumulators": 1},
    ],
    ids=str,
)  # fmt: skip
def test_tilings_change_no_bit(tiling: dict[str, int]) -> None:
    problem = Conv2d(2, 11, 9, 8, 24, 3, 3, pad=1)
    program = conv2d.KERNEL.program(MINI, problem, **tiling)
    program.check()
    assert_bits(problem, program, draw_inputs(problem))


@pytest.mark.parametrize("resident", [(), ("x", "w"), ("x", "w", "y")], ids=["memory", "inputs", "all"])
@pytest.mark.parametrize(("dtype", "out_dtype"), [("bf16", "bf16"), ("fp16", "fp16"), ("cfp8-143", "bf16")])
def test_results_that_the_matrix_unit_rounds_have_the_bits_of_a_cast(
    dtype: str, out_dtype: str, resident: tuple[str, ...]
) -> None:
    """One product a chain: written as it leaves; sums that have a bias to come, and other units, are cast as before."""
    plain = MINI.replace(**{"node.matrix.output_formats": []})
    problem = Conv2d(3, 9, 16, 6, 20, 3, 3, pad=1, dtype=dtype, out_dtype=out_dtype)
    programs = [conv2d.KERNEL.program(chip, problem, resident=frozenset(resident)) for chip in (MINI, plain)]
    inputs = draw_inputs(problem)
    for program in programs:
        assert_bits(problem, program, inputs)
        assert_bits(problem, program, inputs, schedule=4)
        program.check()
    assert ["vec.cast" in program.asm() for program in programs] == [False, True]
    assert programs[0].time().losses["accumulator"] < programs[1].time().losses["accumulator"]


def test_staged_rows_are_fetched_once() -> None:
    problem = Conv2d(4, 20, 12, 8, 16, 3, 3, pad=1)
    once, often = (conv2d.KERNEL.program(MINI, problem, high=1, wide=12, bands=2, staged=flag) for flag in (1, 0))
    sizes = {name: operand.bytes for name, operand in problem.operands.items()}
    assert once.time().bytes["memory_read"] == sizes["x"] + sizes["w"]
    assert often.time().bytes["memory_read"] > 2 * sizes["x"]
    once.check()
    for program in (once, often):
        assert_bits(problem, program, draw_inputs(problem))


@pytest.mark.parametrize("groups", [1, 8])
def test_configurable_formats_with_a_bias_each(groups: int) -> None:
    shape: dict[str, Any] = {"n": 2, "h": 7, "w": 6, "c": 8, "k": 16, "r": 3, "s": 3, "pad": 1, "groups": groups}
    formats = {"dtype": "cfp8-143", "out_dtype": "cfp8-152"}
    given = {"exponent_bias": {"x": 8, "w": 9, "y": 12}, "denormals": "ieee"}
    program = conv2d.build(MINI, **shape, **formats, **given, bias=True, activation="relu")
    problem = Conv2d(**shape, **formats, bias=True, activation="relu")
    assert_bits(problem, program, draw_inputs(problem))


def test_the_pace_of_a_row_is_kept_without_hazards() -> None:
    chip = MINI.replace(**{"mesh.rows": 1, "mesh.cols": 4})
    for problem in (Conv2d(9, 1, 4, 2, 20, 1, 1, (3, 4), (5, 2), (3, 2)), Conv2d(1, 24, 9, 8, 8, 3, 3, pad=1)):
        program = conv2d.KERNEL.program(chip, problem, bands=1, high=1, wide=1)
        program.check()
        assert_bits(problem, program, draw_inputs(problem), schedule=5)


def test_fewer_rows_than_nodes() -> None:
    problem = Conv2d(5, 1, 14, 1, 20, 1, 7, (1, 4), (5, 1), (1, 2), dtype="fp32", out_dtype="fp16")
    assert_bits(problem, conv2d.KERNEL.program(MINI, problem), draw_inputs(problem))


def test_exact_integers_match_int64() -> None:
    problem = Conv2d(3, 10, 8, 6, 10, 3, 3, stride=2, pad=1, out_dtype="fp32")
    inputs = draw_inputs(problem, integers=True)
    x = np.pad(inputs["x"].astype(np.int64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    want = sum(
        np.einsum("nhwc,ck->nhwk", x[:, r : r + 9 : 2, s : s + 7 : 2], inputs["w"][r, s].astype(np.int64))
        for r in range(3)
        for s in range(3)
    )
    got = conv2d.KERNEL.program(MINI, problem).run(inputs)["y"]
    np.testing.assert_array_equal(got, want)


def test_zero_padding_takes_part_and_special_values_survive() -> None:
    problem = Conv2d(1, 4, 4, 8, 8, 3, 3, pad=1, out_dtype="fp32")
    inputs = draw_inputs(problem)
    inputs["w"][0, 0, 0, 0] = np.inf  # meets padding at the upper and left border: 0 x inf is NaN
    program = conv2d.KERNEL.program(MINI, problem)
    assert_bits(problem, program, inputs)
    assert np.isnan(program.run(inputs)["y"][0, 0, :, 0]).all()


def test_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: forward is not compared with it here")
    problem = Conv2d(2, 14, 12, 16, 24, 3, 3, stride=2, pad=1, groups=2, bias=True, out_dtype="fp32")
    inputs = {name: np.asarray(a, np.float32) for name, a in draw_inputs(problem).items()}
    x, w = (np.float32(accel.numerics.round_to(inputs[name], "bf16")) for name in ("x", "w"))
    y = torch.nn.functional.conv2d(
        torch.tensor(x).double().permute(0, 3, 1, 2), torch.tensor(w).double().permute(3, 2, 0, 1),
        torch.tensor(inputs["bias"]).double(), stride=2, padding=1, groups=2,
    )  # fmt: skip
    magnitude = torch.nn.functional.conv2d(
        torch.tensor(abs(x)).permute(0, 3, 1, 2), torch.tensor(abs(w)).permute(3, 2, 0, 1),
        torch.tensor(abs(inputs["bias"])), stride=2, padding=1, groups=2,
    )  # fmt: skip
    got = conv2d.KERNEL.program(MINI, problem).run(inputs)["y"]
    error = abs(got - y.permute(0, 2, 3, 1).numpy())
    steps = 9 * 8 + 1
    bound = steps * 2.0**-24 / (1 - steps * 2.0**-24) * magnitude.permute(0, 2, 3, 1).numpy()
    assert (error <= bound).all()


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"stride": 0}, InputError, "stride"),
        ({"groups": 3}, InputError, "does not divide"),
        ({"r": 9}, InputError, "does not fit"),
        ({"dtype": "int32"}, UnsupportedError, "does not take dtype='int32'"),
        ({"out_dtype": "int8"}, UnsupportedError, "does not take out_dtype='int8'"),
        ({"exponent_bias": 7}, InputError, "no operand in a format with a bias"),
        ({"resident": ("gx",)}, InputError, "no operand 'gx'"),
        ({"wides": 3}, InputError, "no tiling parameter 'wides'"),
        ({"wide": 0}, InputError, "outside 1..6"),
        ({"staged": 1, "high": 6, "resident": ("x",)}, InputError, "x is resident"),
        ({"high": 2, "bands": 2}, InputError, "bands=1 or high=1"),
        ({"c": 200000, "groups": 1}, CapacityError, "does not fit mini"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    shape = {"n": 1, "h": 6, "w": 6, "c": 4, "k": 8, "r": 3, "s": 3, "pad": 1}
    with pytest.raises(error, match=words.replace("(", r"\(")):
        conv2d.build("mini", **{**shape, **fields})


@pytest.mark.parametrize(
    "problem",
    [
        Conv2d(2, 9, 7, 5, 6, 3, 2, stride=(2, 1), pad=(1, 0), dilation=(1, 2), out_dtype="fp32"),
        Conv2d(3, 8, 6, 3, 4, 3, 3, pad=1, dtype="fp16"),
        Conv2d(1, 5, 5, 1, 1, 5, 5),
    ],
    ids=lambda p: p.label,
)
def test_the_kernel_that_the_lesson_begins_with_has_the_same_bits(problem: Conv2d) -> None:
    tensors = {name: accel.tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    walk: Any = {"stride": problem.strides, "pad": problem.pads, "dilation": problem.dilations}
    program = conv2d.shifted_views.build("mini", **tensors, **walk)
    program.check()
    inputs = draw_inputs(problem)
    assert_bits(problem, program, inputs)
    rounded = (round_to(inputs[name], problem.dtype) for name in "xw")
    sums, want = conv2d.reference(*rounded, **walk), conv2d.oracle(problem, inputs)["y"]
    assert (as_storage(sums, problem.out_dtype) == as_storage(want, problem.out_dtype)).all()
