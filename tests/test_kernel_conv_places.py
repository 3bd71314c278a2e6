"""Weight gradients whose frames stay where they lie: bits against the definition, choices, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import InputError
from accel.hardware import ChipSpec, chip
from accel.kernels.conv3d import KERNEL
from accel.kernels.parts import conv_windows
from accel.kernels.parts.conv_reference import oracle
from accel.kernels.parts.conv_weight_deal import Deal
from accel.kernels.parts.conv_weight_gradient import program
from accel.problem import Conv2d, Conv3d

MINI = chip("mini")
D1 = chip("d1")
ALL = frozenset({"x", "gy", "gw"})
ROWS: list[tuple[Any, dict[str, int]]] = [
    (Conv3d(3, 5, 6, 6, 8, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), {"run": 1}),
    (Conv3d(2, 6, 6, 6, 16, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), {"parts": 2}),  # two nodes read the same gy
    (Conv3d(2, 6, 6, 6, 20, 12, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), {"parts": 3}),  # a ragged last part
    (
        Conv3d(3, 7, 5, 7, 12, 16, 3, 1, 1, pad=(1, 0, 0), out_dtype="fp32", direction="wgrad"),
        {"run": 4},
    ),  # runs over clips
    (
        Conv3d(2, 7, 3, 5, 12, 12, 3, 1, 1, stride=(2, 1, 1), pad=(2, 0, 0), dilation=(2, 1, 1), direction="wgrad"),
        {"run": 2},
    ),
    (Conv3d(1, 6, 1, 1, 8, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), {"run": 6}),  # one node: nothing is fetched
    (Conv3d(1, 9, 1, 3, 3, 5, 4, 1, 1, direction="wgrad"), {"run": 1}),
    (Conv3d(5, 3, 4, 4, 8, 8, 1, 1, 1, direction="wgrad"), {"run": 1}),
    (
        Conv3d(1, 10, 4, 5, 16, 3, 7, 1, 1, pad=(3, 0, 0), direction="wgrad"),
        {"run": 2, "parts": 2},
    ),  # frames of two gangs on
    (Conv3d(2, 6, 3, 3, 8, 8, 3, 1, 1, dtype="int8", out_dtype="int32", direction="wgrad"), {"run": 1}),
    (Conv3d(3, 5, 6, 7, 8, 8, 1, 3, 3, pad=(0, 1, 1), direction="wgrad"), {"run": 1}),
    (Conv3d(2, 6, 5, 6, 12, 8, 2, 2, 2, pad=1, direction="wgrad"), {"run": 2, "parts": 2}),
    (Conv3d(2, 3, 9, 11, 3, 8, 3, 1, 4, stride=(1, 2, 2), pad=(1, 0, 3), direction="wgrad"), {"run": 1}),
    (
        Conv3d(2, 4, 9, 8, 8, 8, 2, 2, 1, stride=(2, 2, 3), pad=(1, 1, 1), dilation=(1, 3, 1), direction="wgrad"),
        {"run": 1},
    ),
    (Conv2d(9, 7, 6, 12, 9, 3, 3, pad=1, stride=2, direction="wgrad"), {"run": 1}),
    (Conv2d(5, 4, 3, 4, 5, 2, 3, pad=(4, 1), dilation=2, direction="wgrad"), {"run": 1}),
]
LARGE: list[tuple[Conv3d, dict[str, int]]] = [
    (Conv3d(2, 5, 23, 23, 3, 8, 3, 1, 1, pad=(1, 0, 0), out_dtype="fp32", direction="wgrad"), {"run": 1}),
    (Conv3d(1, 4, 19, 27, 12, 4, 2, 2, 1, pad=(1, 1, 0), direction="wgrad"), {"run": 2, "parts": 2}),
    (Conv3d(3, 3, 33, 32, 2, 5, 1, 1, 1, direction="wgrad"), {"run": 2}),
]


@pytest.fixture(autouse=True)
def a_frame_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames stay where each is a chain, so of more than 512 outputs: tests of small ones make chains short."""
    monkeypatch.setattr(conv_windows, "CHAIN", 1)


@pytest.fixture
def long_chains(a_frame_a_chain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains as they are defined."""
    monkeypatch.undo()


def _inputs(problem: Any, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {n: o.shape for n, o in problem.operands.items() if o.role == "in"}
    if problem.dtype == "int8":
        return {n: rng.integers(-128, 128, shape) for n, shape in shapes.items()}
    return {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}


def _same(got: Any, want: dict[str, Any]) -> None:
    for name, values in want.items():
        one, other = (np.asarray(x) if np.asarray(x).dtype == np.int32 else np.asarray(x).astype(np.float32)
                      for x in (got[name], values))  # fmt: skip
        assert np.array_equal(one.view(np.uint32), other.view(np.uint32)), name


@pytest.mark.parametrize(("problem", "tiling"), ROWS, ids=lambda value: getattr(value, "label", None))
@pytest.mark.parametrize("resident", [ALL, ALL - {"gw"}], ids=["resident", "to-memory"])
def test_bits_are_those_of_the_definition(problem: Any, tiling: dict[str, int], resident: frozenset[str]) -> None:
    built = program(MINI, problem, resident=resident, **tiling)
    inputs = _inputs(problem, 1)
    want = oracle(problem, inputs)
    for schedule in ("natural", 5):
        _same(built.run(inputs, schedule=schedule), want)
    built.check()


@pytest.mark.usefixtures("long_chains")
@pytest.mark.parametrize(("problem", "tiling"), LARGE, ids=lambda value: getattr(value, "label", None))
def test_bits_of_large_frames_are_those_of_the_definition(problem: Conv3d, tiling: dict[str, int]) -> None:
    inputs = _inputs(problem, 3)
    built = program(MINI, problem, resident=ALL, **tiling)
    assert built.name == "frame_gradient"
    _same(built.run(inputs, schedule=2), oracle(problem, inputs))
    built.check()


def test_what_padding_and_infinities_meet_is_not_a_number() -> None:
    """Padding takes part as +0, so an infinite gradient of the first or last frame makes NaN at the outer taps."""
    problem = Conv3d(2, 6, 3, 3, 8, 8, 3, 1, 1, pad=(1, 0, 0), out_dtype="fp32", direction="wgrad")
    inputs = _inputs(problem, 2)
    inputs["gy"][0, 0, 1, 1, 3] = inputs["gy"][1, 5, 2, 2, 4] = np.inf
    gw = program(MINI, problem, resident=ALL, run=1).run(inputs)["gw"]
    assert np.isnan(gw[0, 0, 0, :, 3]).all()
    assert np.isnan(gw[2, 0, 0, :, 4]).all()
    assert not np.isnan(gw[..., :3]).any()
    _same({"gw": gw}, oracle(problem, inputs))


def _mesh(rows: int, cols: int) -> ChipSpec:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


@st.composite
def clips(draw: st.DrawFn) -> Conv3d:
    """Small clips under any filter."""
    taps = [draw(st.integers(1, most)) for most in (4, 3, 3)]
    stride, pad, dilation = (tuple(draw(st.integers(low, 2)) for _ in "thw") for low in (1, 0, 1))
    sizes = [
        max(1, apart * (tap - 1) + 1 - 2 * beyond) + draw(st.integers(0, more))
        for tap, apart, beyond, more in zip(taps, dilation, pad, (7, 4, 4), strict=True)
    ]
    return Conv3d(
        draw(st.integers(1, 4)), *sizes, draw(st.integers(1, 10)), draw(st.integers(1, 10)), *taps, stride=stride,
        pad=pad, dilation=dilation, dtype=draw(st.sampled_from(["bf16", "fp16"])),
        out_dtype=draw(st.sampled_from(["bf16", "fp32"])), direction="wgrad",
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    problem=clips(), rows=st.integers(1, 4), cols=st.integers(1, 4), more=st.integers(0, 2), parts=st.integers(1, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_clip_on_any_mesh(problem: Conv3d, rows: int, cols: int, more: int, parts: int, seed: int) -> None:
    mesh = _mesh(rows, cols)
    run = -(-_deal(problem, mesh, 1, 1).frames // (rows * max(1, cols // parts))) + more
    room = _deal(problem, mesh, run, parts).fits(mesh)
    built = program(mesh, problem, resident=ALL, **({"run": run, "parts": parts} if room else {}))
    inputs = _inputs(problem, seed)
    _same(built.run(inputs, schedule=seed), oracle(problem, inputs))
    built.check()


def _deal(problem: Conv3d, mesh: ChipSpec, run: int, parts: int) -> Deal:
    return Deal(problem.geometry, (mesh.mesh.rows, mesh.mesh.cols), 2, 4, run, parts)


@given(clips(), st.integers(1, 5))
def test_every_product_is_made_once_from_the_frame_that_it_reads(problem: Conv3d, run: int) -> None:
    deal, time = _deal(problem, D1, run, 1), problem.geometry.axes[0]
    read = {
        frame
        for z in range(time.out)
        for tap in range(time.taps)
        if 0 <= (frame := z * time.stride + tap * time.dilation - time.pad) < time.size
    }
    assert sorted(frame for own in deal.owned for frame in own) == sorted(read)  # each lies in one place
    for gang in range(deal.gangs):
        images = range(gang * run, min(deal.frames, (gang + 1) * run))
        made = deal.products(tuple(deal.like(image % time.out) for image in images))
        assert sorted((one.image, one.tap) for one in made) == [
            (i, t) for i in range(len(images)) for t in range(time.taps)
        ]
        for one in made:
            clip, z = divmod(images[one.image], time.out)
            frame = z * time.stride + one.tap * time.dilation - time.pad
            if one.of is None:
                assert not 0 <= frame < time.size
                continue
            off, image, place = one.of
            of, at = divmod((gang + off) * run + image, time.out)
            assert of == clip
            assert deal.owned[at][place] == frame


def _fast(clips: int) -> Conv3d:
    """The fast pathway of SlowFast after its first stage: 3x1x1, 32 to 8 channels."""
    return Conv3d(clips, 32, 56, 56, 32, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad")


@pytest.mark.usefixtures("long_chains")
def test_frames_stay_by_default_where_that_is_faster() -> None:
    for clips in (8, 32):
        assert program(D1, _fast(clips), resident=ALL).name == "frame_gradient"
    assert program(D1, _fast(8)).name == "weight_gradient"  # frames that come from memory have no home
    wide = Conv3d(8, 16, 56, 56, 144, 64, 3, 1, 1, pad=(1, 0, 0), direction="wgrad")
    assert program(D1, wide, resident=ALL).name == "weight_gradient"


def test_products_hide_the_frames_of_others() -> None:
    """Eight clips of 32 frames: three products of 32 x 8 x 3136, and little else; frames come while they are made."""
    timing = program(D1, _fast(8), resident=ALL).time()
    products = 3 * (32 // 8) * (3136 // 4)
    assert products < timing.cycles < 1.06 * products
    assert timing.losses["wait_mesh"] < 0.001


@pytest.mark.parametrize(
    ("tiling", "text"),
    [
        ({"run": 0}, "tiling parameter run must be a whole number from 1 on, got 0"),
        ({"parts": True}, "parts must be a whole number from 1 on, got True"),
        (
            {"parts": 5},
            "tiling parameters parts ask for frames that stay where they lie, which needs x and gy resident",
        ),
        ({"run": 2, "rows": 3}, "asks for frames that stay where they lie, which takes no rows; leave one of them out"),
        ({"run": 2, "vector": True}, "takes no vector unit; leave one of them out"),
    ],
)
def test_bad_runs(tiling: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        program(MINI, ROWS[0][0], resident=ALL, **tiling)


@pytest.mark.usefixtures("long_chains")
def test_frames_do_not_stay_where_a_chain_has_several() -> None:
    small = Conv3d(2, 6, 16, 32, 8, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad")
    assert program(MINI, small, resident=ALL).name == "weight_gradient"
    with pytest.raises(InputError, match="a frame a chain"):
        program(MINI, small, resident=ALL, run=1)
    image = Conv2d(9, 7, 6, 12, 9, 3, 3, pad=1, stride=2, direction="wgrad")  # one frame, which is a chain
    assert program(MINI, image, resident=ALL, run=1).name == "frame_gradient"


@pytest.mark.parametrize(
    ("problem", "resident"),
    [
        (ROWS[0][0], frozenset({"x"})),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, bias=True, direction="wgrad"), ALL),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, groups=2, direction="wgrad"), ALL),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, dtype="fp32", direction="wgrad"), ALL),
        (Conv2d(17, 6, 6, 8, 8, 3, 1, direction="wgrad"), ALL),  # 17 images, 16 nodes
        (Conv3d(17, 6, 6, 6, 8, 8, 3, 1, 1, direction="wgrad"), ALL),  # 68 frames, 16 nodes
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_where_frames_do_not_stay(problem: Any, resident: frozenset[str]) -> None:
    with pytest.raises(InputError, match="ask for frames that stay where they lie, which needs"):
        program(MINI, problem, resident=resident & problem.operands.keys(), run=1)


@pytest.mark.usefixtures("long_chains")
def test_the_battery_of_the_kernel_meets_frames_that_stay() -> None:
    names = {program(MINI, p, resident=ALL).name for p in KERNEL.examples if p.direction == "wgrad" and not p.bias}
    assert "frame_gradient" in names
