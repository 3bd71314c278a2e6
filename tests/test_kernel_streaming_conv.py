"""Streaming convolution: bits of conv3d on the clip, every pixel fetched once, programs that do not grow, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.errors import InputError, UnsupportedError
from accel.kernels import streaming_conv
from accel.numerics import as_storage
from accel.problem import StreamingConv

MINI = accel.chip("mini")


def draw_inputs(problem: Any, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {name: o.shape for name, o in problem.operands.items() if o.role == "in"}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def assert_bits(problem: Any, program: Any, inputs: dict[str, Any], **options: Any) -> None:
    dtype = problem.operands["y"].dtype
    got, want = program.run(inputs, **options)["y"], streaming_conv.oracle(problem, inputs)["y"]
    left, right = as_storage(got, dtype), as_storage(want, dtype)
    np.testing.assert_array_equal(left.view(f"u{left.itemsize}"), right.view(f"u{right.itemsize}"))


@pytest.mark.parametrize("problem", streaming_conv.KERNEL.examples, ids=lambda p: p.label)
def test_examples(problem: StreamingConv) -> None:
    program = streaming_conv.KERNEL.program(MINI, problem)
    assert_bits(problem, program, draw_inputs(problem))
    program.check()
    assert_bits(problem, program, draw_inputs(problem, seed=1), schedule=3)


@st.composite
def problems(draw: st.DrawFn) -> StreamingConv:
    kt, taps = draw(st.integers(1, 4)), [draw(st.integers(1, 4)) for _ in "rs"]
    stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in "hw") for _ in range(2))
    pad = tuple(draw(st.integers(0, min(3, (tap - 1) * d))) for tap, d in zip(taps, dilation, strict=True))
    sizes = [
        max(1, d * (tap - 1) + 1 - 2 * p) + draw(st.integers(0, 12))
        for tap, d, p in zip(taps, dilation, pad, strict=True)
    ]
    frames = kt + draw(st.integers(0, 9))
    out_dtype = draw(st.sampled_from(["bf16", "fp32"]))
    c, k = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    return StreamingConv(frames, *sizes, c, k, kt, *taps, stride, pad, dilation, "bf16", out_dtype)


@settings(max_examples=40, deadline=None)
@given(problems(), st.sampled_from([(1, 1), (2, 3), (4, 4)]), st.integers(0, 99))
def test_bits_are_those_of_the_whole_clip(problem: StreamingConv, mesh: tuple[int, int], seed: int) -> None:
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    program = streaming_conv.KERNEL.program(chip, problem)
    assert_bits(problem, program, draw_inputs(problem, seed), schedule=seed if seed % 2 else "natural")


def test_memory_sends_every_pixel_once() -> None:
    problem = StreamingConv(10, 33, 20, 3, 8, 3, 3, 3, pad=1)
    timing = streaming_conv.KERNEL.program(MINI, problem).time()
    sizes = {name: operand.bytes for name, operand in problem.operands.items()}
    assert timing.bytes["memory_read"] == sizes["x"] + sizes["w"]
    assert timing.bytes["memory_write"] == sizes["y"]


def test_a_longer_video_is_the_same_program() -> None:
    short, long = (
        streaming_conv.build(MINI, frames=frames, h=16, w=12, c=3, k=8, kt=3, r=3, s=3, pad=1) for frames in (9, 900)
    )
    assert short.isa.instructions == long.isa.instructions


@pytest.mark.parametrize("slots", [4, 5, 7])
@pytest.mark.parametrize("wide", [3, 10])
def test_cuts_change_no_bit(slots: int, wide: int) -> None:
    problem = StreamingConv(8, 12, 10, 3, 8, 3, 3, 3, pad=1)
    program = streaming_conv.KERNEL.program(MINI, problem, slots=slots, wide=wide, high=2)
    program.check()
    assert_bits(problem, program, draw_inputs(problem))


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"kt": 9}, InputError, "streaming_conv: a 9x3x3 filter"),
        ({"pad": 3}, InputError, "reaches beyond 3 taps"),
        ({"stride": (1, 2, 3)}, InputError, "stride"),
        ({"dtype": "fp32"}, UnsupportedError, "or conv3d"),
        ({"resident": ("x",)}, UnsupportedError, "frames from memory"),
        ({"slots": 3}, InputError, "slots=3 is outside 4"),
        ({"high": 1, "r": 5, "pad": 2}, UnsupportedError, "halos in neighbours alone"),
        ({"w": 20000}, UnsupportedError, "does not fit mini"),
        ({"tall": 2}, InputError, "no tiling parameter 'tall'"),
    ],
)
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    shape = {"frames": 6, "h": 16, "w": 10, "c": 4, "k": 8, "kt": 3, "r": 3, "s": 3, "pad": 1}
    with pytest.raises(error, match=words):
        streaming_conv.build("mini", **{**shape, **fields})
