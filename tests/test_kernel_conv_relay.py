"""Weight gradients whose sums travel: bits against the definition on any ring, what is chosen, and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import InputError
from accel.hardware import ChipSpec, chip
from accel.kernels.conv3d import KERNEL
from accel.kernels.parts.conv_reference import oracle
from accel.kernels.parts.conv_weight_gradient import program
from accel.kernels.parts.conv_weight_ring import Relay, relays
from accel.problem import Conv2d, Conv3d

MINI = chip("mini")
D1 = chip("d1")
ALL = frozenset({"x", "gy", "gw"})
ROWS: list[tuple[Conv3d, int]] = [
    (Conv3d(3, 6, 6, 6, 8, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), 2),
    (Conv3d(2, 6, 6, 6, 16, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), 2),  # two columns read the same gy
    (Conv3d(1, 9, 5, 7, 12, 16, 3, 1, 1, pad=(1, 0, 0), out_dtype="fp32", direction="wgrad"), 3),  # ragged block
    (Conv3d(2, 7, 3, 5, 12, 12, 3, 1, 1, stride=(2, 1, 1), pad=(2, 0, 0), dilation=(2, 1, 1), direction="wgrad"), 2),
    (Conv3d(1, 6, 1, 1, 8, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad"), 1),  # a ring of one: nothing travels
    (Conv3d(1, 9, 1, 3, 3, 5, 4, 1, 1, direction="wgrad"), 4),
    (Conv3d(5, 5, 4, 4, 8, 8, 1, 1, 1, direction="wgrad"), 2),
    (Conv3d(1, 1, 2, 2, 8, 8, 2, 1, 1, stride=(2, 1, 1), pad=(3, 0, 0), dilation=(2, 1, 1), direction="wgrad"), 2),
    (Conv3d(2, 6, 3, 3, 8, 8, 3, 1, 1, dtype="int8", out_dtype="int32", direction="wgrad"), 2),
]


def _inputs(problem: Conv3d, seed: int) -> dict[str, np.ndarray]:
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


@pytest.mark.parametrize(("problem", "ring"), ROWS, ids=lambda value: getattr(value, "label", None))
@pytest.mark.parametrize("resident", [ALL, ALL - {"gw"}], ids=["resident", "to-memory"])
def test_bits_are_those_of_the_definition(problem: Conv3d, ring: int, resident: frozenset[str]) -> None:
    built = program(MINI, problem, resident=resident, ring=ring)
    inputs = _inputs(problem, 1)
    want = oracle(problem, inputs)
    for schedule in ("natural", 5):
        _same(built.run(inputs, schedule=schedule), want)
    built.check()


def test_what_padding_and_infinities_meet_is_not_a_number() -> None:
    """Padding takes part as +0, so an infinite gradient of the first or last frame makes NaN at the outer taps."""
    problem = Conv3d(2, 6, 3, 3, 8, 8, 3, 1, 1, pad=(1, 0, 0), out_dtype="fp32", direction="wgrad")
    inputs = _inputs(problem, 2)
    inputs["gy"][0, 0, 1, 1, 3] = inputs["gy"][1, 5, 2, 2, 4] = np.inf
    gw = program(MINI, problem, resident=ALL, ring=2).run(inputs)["gw"]
    assert np.isnan(gw[0, 0, 0, :, 3]).all()
    assert np.isnan(gw[2, 0, 0, :, 4]).all()
    assert not np.isnan(gw[..., :3]).any()
    _same({"gw": gw}, oracle(problem, inputs))


def _mesh(rows: int, cols: int) -> ChipSpec:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


@st.composite
def temporal(draw: st.DrawFn) -> Conv3d:
    """Clips whose filters look along time alone, few enough for one on each rectangle of a small mesh."""
    taps, dilation, pad = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(0, 3))
    stride = draw(st.integers(1, 2))
    least = max(1, dilation * (taps - 1) + 1 - 2 * pad + stride)  # two outputs at least
    return Conv3d(
        draw(st.integers(1, 4)), draw(st.integers(least, least + 7)), draw(st.integers(1, 4)), draw(st.integers(1, 5)),
        draw(st.integers(1, 10)), draw(st.integers(1, 10)), taps, 1, 1, stride=(stride, 1, 1), pad=(pad, 0, 0),
        dilation=(dilation, 1, 1), dtype=draw(st.sampled_from(["bf16", "fp16"])),
        out_dtype=draw(st.sampled_from(["bf16", "fp32"])), direction="wgrad",
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    problem=temporal(), rows=st.integers(1, 4), cols=st.integers(1, 4), ring=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_any_clip_on_any_mesh_and_ring(problem: Conv3d, rows: int, cols: int, ring: int, seed: int) -> None:
    mesh = _mesh(rows, cols)
    room = Relay(problem.geometry, 2, ring, slots=1).fits(mesh, 4)
    built = program(mesh, problem, resident=ALL, **({"ring": ring} if room else {}))
    inputs = _inputs(problem, seed)
    _same(built.run(inputs, schedule=seed), oracle(problem, inputs))
    built.check()


@given(temporal(), st.integers(1, 5), st.integers(0, 1), st.integers(1, 4))
def test_every_step_has_its_operands_and_every_slot_its_turn(
    problem: Conv3d, ring: int, spare: int, slots: int
) -> None:
    relay, time = Relay(problem.geometry, 2, ring, spare, slots), problem.geometry.axes[0]
    seen = sorted(step for steps in relay.steps for step in steps)
    assert seen == [(z, tap) for z in range(time.out) for tap in range(time.taps)]
    for row, steps in enumerate(relay.steps):
        for z, tap in steps:
            frame = z * time.stride + tap * time.dilation - time.pad
            assert (frame in relay.kept[row]) == (0 <= frame < time.size)
            assert row in relay.readers[z]
    for z, rows in enumerate(relay.readers):
        for row in rows:
            before, after = relay.before(z, row), relay.after(z, row)
            assert before is None or relay.after(before, row) == z
            assert after is None or relay.before(after, row) == z
    assert len(set(relay.owners)) == time.out  # a place of its own for every frame of gy


def _fast(clips: int) -> Conv3d:
    """The fast pathway of SlowFast after its first stage: 3x1x1, 32 to 8 channels."""
    return Conv3d(clips, 32, 56, 56, 32, 8, 3, 1, 1, pad=(1, 0, 0), direction="wgrad")


def test_a_relay_is_the_default_where_chains_are_fewer_than_nodes() -> None:
    for clips, ring in ((8, 3), (32, 2)):
        assert program(D1, _fast(clips), resident=ALL).name == "relay_gradient"
        found = relays(D1, _fast(clips).geometry, "bf16", 2, ALL, bias=False)
        assert found is not None
        assert found[1].ring == ring
    assert program(D1, _fast(8)).name == "weight_gradient"  # frames that come from memory have no home
    wide = Conv3d(8, 16, 56, 56, 144, 64, 3, 1, 1, pad=(1, 0, 0), direction="wgrad")
    assert program(D1, wide, resident=ALL).name == "weight_gradient"


@pytest.mark.parametrize(
    ("tiling", "text"),
    [
        ({"ring": 0}, "tiling parameter ring must be a whole number from 1 on, got 0"),
        ({"ring": True}, "ring must be a whole number from 1 on, got True"),
        ({"ring": 5}, "tiling parameters ring ask for a relay, which needs x and gy resident"),
        ({"ring": 2, "rows": 3}, "asks for a relay of the matrix unit, which takes no rows; leave one of them out"),
        ({"ring": 2, "vector": True}, "takes no vector unit; leave one of them out"),
    ],
)
def test_bad_rings(tiling: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        program(MINI, ROWS[0][0], resident=ALL, **tiling)


@pytest.mark.parametrize(
    ("problem", "resident"),
    [
        (ROWS[0][0], frozenset({"x"})),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, bias=True, direction="wgrad"), ALL),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, groups=2, direction="wgrad"), ALL),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 3, direction="wgrad"), ALL),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, stride=(1, 2, 1), direction="wgrad"), ALL),
        (Conv3d(2, 6, 6, 6, 8, 8, 3, 1, 1, dtype="fp32", direction="wgrad"), ALL),
        (Conv2d(2, 6, 6, 8, 8, 3, 1, direction="wgrad"), ALL),
        (Conv3d(17, 6, 6, 6, 8, 8, 3, 1, 1, direction="wgrad"), ALL),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_what_no_relay_does(problem: Any, resident: frozenset[str]) -> None:
    with pytest.raises(InputError, match="ask for a relay, which needs"):
        program(MINI, problem, resident=resident & problem.operands.keys(), ring=1)


def test_the_battery_of_the_kernel_meets_a_relay() -> None:
    names = {program(MINI, p, resident=ALL).name for p in KERNEL.examples if p.direction == "wgrad" and not p.bias}
    assert "relay_gradient" in names
