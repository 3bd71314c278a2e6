"""Convolution over time, height and width: bits of its definition in all directions, adjoint relations, torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.errors import InputError, UnsupportedError
from accel.kernels import conv3d
from accel.numerics import as_storage
from accel.problem import Conv3d

MINI = accel.chip("mini")


def draw_inputs(problem: Any, seed: int = 0, integers: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {name: o.shape for name, o in problem.operands.items() if o.role == "in"}
    if integers:
        return {name: rng.integers(-2, 3, shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def assert_bits(problem: Any, program: Any, inputs: dict[str, Any], **options: Any) -> None:
    got, want = program.run(inputs, **options), conv3d.oracle(problem, inputs)
    for name, values in want.items():
        dtype = problem.operands[name].dtype
        left, right = as_storage(got[name], dtype), as_storage(values, dtype)
        np.testing.assert_array_equal(left.view(f"u{left.itemsize}"), right.view(f"u{right.itemsize}"))


@pytest.mark.parametrize("problem", conv3d.KERNEL.examples, ids=lambda p: p.label)
def test_examples(problem: Conv3d) -> None:
    program = conv3d.KERNEL.program(MINI, problem)
    assert_bits(problem, program, draw_inputs(problem))
    program.check()
    assert_bits(problem, program, draw_inputs(problem, seed=1), schedule=3)


@st.composite
def problems(draw: st.DrawFn) -> Conv3d:
    groups = draw(st.sampled_from([1, 1, 2]))
    c, k = (groups * draw(st.integers(1, 7)) for _ in "ck")
    taps = [draw(st.integers(1, 3)) for _ in "trs"]
    stride, pad, dilation = (tuple(draw(st.integers(low, 2)) for _ in "thw") for low in (1, 0, 1))
    sizes = [
        max(1, dil * (tap - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for tap, dil, p in zip(taps, dilation, pad, strict=True)
    ]
    out_dtype = draw(st.sampled_from(["bf16", "fp32"]))
    return Conv3d(draw(st.integers(1, 3)), *sizes, c, k, *taps, stride, pad, dilation, groups, "bf16", out_dtype)


@settings(max_examples=30, deadline=None)
@given(problems(), st.sampled_from([(1, 1), (2, 3), (4, 4)]), st.sets(st.sampled_from(["x", "w", "y"])))
def test_forward_is_its_definition(problem: Conv3d, mesh: tuple[int, int], resident: set[str]) -> None:
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    assert_bits(problem, conv3d.KERNEL.program(chip, problem, resident=tuple(resident)), draw_inputs(problem))


@pytest.mark.parametrize("mesh", [(1, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize("resident", [(), ("x",), ("y",), ("x", "w", "y")], ids=" ".join)
@pytest.mark.parametrize(
    ("problem", "tiling"),
    [
        (Conv3d(2, 5, 6, 4, 8, 12, 3, 1, 1, pad=(1, 0, 0)), {"wide": 8}),
        (Conv3d(3, 7, 4, 4, 5, 9, 5, 1, 1, pad=(4, 0, 0), dilation=(2, 1, 1), bias=True), {"wide": 4, "bands": 3}),
        (Conv3d(1, 9, 4, 6, 8, 8, 2, 1, 1, pad=(1, 0, 0), dilation=(2, 1, 1), groups=2), {"wide": 6, "bands": 2}),
    ],
)
def test_bands_that_follow_each_other_in_time(
    problem: Conv3d, tiling: dict[str, int], resident: tuple[str, ...], mesh: tuple[int, int]
) -> None:
    """Blocks of pixels that divide a frame are dealt through time: frames of other nodes come from where they lie."""
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    program = conv3d.KERNEL.program(chip, problem, resident=resident, parts=1, high=1, staged=0, **tiling)
    assert_bits(problem, program, draw_inputs(problem), schedule=2)
    program.check()


@pytest.mark.parametrize("mesh", [(2, 3), (4, 4)])
@pytest.mark.parametrize("resident", [("x",), ("x", "w", "y")], ids=" ".join)
def test_bands_in_time_with_filters_dealt_over_the_mesh(resident: tuple[str, ...], mesh: tuple[int, int]) -> None:
    """The pieces of x that nodes with other filters want as well are dealt over all of these."""
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    problem = Conv3d(2, 7, 6, 4, 8, 20, 3, 1, 1, pad=(1, 0, 0))
    program = conv3d.KERNEL.program(chip, problem, resident=resident, parts=2, high=1, wide=6, bands=2)
    assert_bits(problem, program, draw_inputs(problem), schedule=2)
    program.check()


@pytest.mark.parametrize("resident", [(), ("x",), ("x", "w", "y")], ids=["memory", "x", "all"])
def test_frames_beyond_a_clip_stay_blank_in_a_slot_that_many_bands_pass(resident: tuple[str, ...]) -> None:
    """Members run there and back; slots keep rows of padding until a band of another frame comes into them."""
    problem = Conv3d(4, 8, 6, 5, 3, 8, 5, 3, 3, stride=(1, 2, 1), pad=(2, 1, 1))
    program = conv3d.KERNEL.program(MINI, problem, resident=frozenset(resident), high=1, wide=5, bands=1, slots=2)
    inputs = draw_inputs(problem)
    inputs["w"][0, 0, 0, 0, 0] = np.inf  # inf x 0 is NaN: of a row that is not blank it would be inf
    for schedule in ("natural", 3):
        assert_bits(problem, program, inputs, schedule=schedule)
    program.check()


def test_the_clip_s_ends_do_not_hold_up_the_rest() -> None:
    """A stem over five frames: the ends of clips have rows of padding, which cost little beside products."""
    problem = Conv3d(8, 8, 56, 56, 3, 8, 5, 7, 7, stride=(1, 2, 2), pad=(2, 3, 3))
    losses = conv3d.KERNEL.program(MINI, problem, resident=frozenset(problem.operands)).time().losses
    assert losses["imbalance"] + losses["vector"] + losses["wait_mesh"] < 0.1


@pytest.mark.parametrize(
    ("problem", "mesh", "resident"),
    [
        (Conv3d(1, 2, 6, 1, 3, 2, 3, 3, 1, stride=(1, 2, 1), pad=(1, 1, 0), dilation=(1, 2, 1)), (4, 4), "xwy"),
        (Conv3d(1, 3, 1, 4, 5, 40, 4, 1, 1, (1, 2, 2), (2, 1, 4), (1, 3, 1), groups=5), (4, 4), "xwy"),
        (Conv3d(1, 4, 1, 2, 17, 16, 4, 4, 2, (1, 1, 2), (2, 2, 1), (1, 1, 2)), (3, 1), "x"),
        (Conv3d(1, 13, 5, 3, 31, 5, 5, 3, 3, (1, 1, 2), (2, 3, 1), (3, 1, 1), out_dtype="fp16"), (4, 1), "x"),
    ],
    ids=str,
)  # fmt: skip
def test_a_node_alone_whose_rows_are_all_padding(problem: Conv3d, mesh: tuple[int, int], resident: str) -> None:
    """Such a node has a program of its own, in which the owner of a row that it never asks for is one fixed number."""
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    program = conv3d.KERNEL.program(chip, problem, resident=frozenset(resident))
    assert_bits(problem, program, draw_inputs(problem), schedule=2)
    program.check()


def test_three_directions_are_adjoint_in_exact_integers() -> None:
    shape = {"n": 2, "t": 4, "h": 6, "w": 5, "c": 6, "k": 8, "kt": 3, "r": 3, "s": 2}
    options: dict[str, Any] = {"stride": (1, 2, 1), "pad": (1, 1, 0), "groups": 2, "out_dtype": "fp32"}
    y = Conv3d(**shape, **options).operands["y"].shape
    rng = np.random.default_rng(5)
    x, gy = (rng.integers(-2, 3, size).astype(np.float32) for size in ((2, 4, 6, 5, 6), y))
    w = rng.integers(-2, 3, (3, 3, 2, 3, 8)).astype(np.float32)
    forward = conv3d.build(MINI, **shape, **options).run(x=x, w=w)["y"]
    gx = conv3d.build(MINI, **shape, **options, direction="dgrad").run(gy=gy, w=w)["gx"]
    gw = conv3d.build(MINI, **shape, **options, direction="wgrad").run(x=x, gy=gy)["gw"]
    product = (forward.astype(np.int64) * gy.astype(np.int64)).sum()
    assert (
        product == (x.astype(np.int64) * gx.astype(np.int64)).sum() == (w.astype(np.int64) * gw.astype(np.int64)).sum()
    )


def test_against_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: conv3d is not compared with it here")
    problem = Conv3d(2, 5, 7, 6, 8, 12, 3, 3, 2, stride=(2, 1, 1), pad=1, dilation=(1, 2, 1), out_dtype="fp32")
    inputs = draw_inputs(problem)
    x, w = (torch.tensor(np.float32(accel.numerics.round_to(inputs[name], "bf16"))).double() for name in ("x", "w"))
    options = {"stride": (2, 1, 1), "padding": 1, "dilation": (1, 2, 1)}
    left, right = x.permute(0, 4, 1, 2, 3), w.permute(4, 3, 0, 1, 2)
    want, size = (torch.nn.functional.conv3d(a, b, **options) for a, b in ((left, right), (left.abs(), right.abs())))
    got = conv3d.KERNEL.program(MINI, problem).run(inputs)["y"]
    steps = 18 * 8
    bound = steps * 2.0**-24 / (1 - steps * 2.0**-24) * size.permute(0, 2, 3, 4, 1).numpy()
    assert (abs(got - want.permute(0, 2, 3, 4, 1).numpy()) <= bound).all()


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"stride": (1, 2)}, InputError, "stride"),
        ({"kt": 9}, InputError, "does not fit"),
        ({"dtype": "int32"}, UnsupportedError, "does not take dtype='int32'"),
        ({"resident": ("gw",)}, InputError, "no operand 'gw'"),
    ],
)
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    shape = {"n": 1, "t": 3, "h": 6, "w": 6, "c": 4, "k": 8, "kt": 3, "r": 3, "s": 3, "pad": 1}
    with pytest.raises(error, match=words):
        conv3d.build("mini", **{**shape, **fields})
