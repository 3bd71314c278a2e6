"""Streaming convolution: bits of conv3d on the clip, what memory sends, programs that do not grow, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import streaming_conv
from accel.kernels.parts.streaming_choice import CLOSE, _cuts, _lowest, choose, cycles, memory_cycles
from accel.numerics import as_storage, fmt
from accel.problem import StreamingConv

MINI = accel.chip("mini")


def draw_inputs(problem: Any, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = {name: o.shape for name, o in problem.operands.items() if o.role == "in"}
    if fmt(problem.dtype).kind == "int":
        low, high = (0, 256) if problem.dtype == "uint8" else (-128, 128)
        return {name: rng.integers(low, high, shape).astype(problem.dtype) for name, shape in shapes.items()}
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


def test_frames_of_integers_are_summed_as_numpy_sums_them() -> None:
    problem = StreamingConv(5, 11, 9, 4, 6, 2, 3, 3, stride=2, pad=1, dtype="uint8", out_dtype="int32")
    inputs = draw_inputs(problem)
    x = np.pad(inputs["x"].astype(np.int64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3, 3), axis=(0, 1, 2))[:, ::2, ::2]
    want = np.einsum("zpqctrs,trsck->zpqk", windows, inputs["w"].astype(np.int64))
    got = streaming_conv.KERNEL.program(MINI, problem).run(inputs)["y"]
    assert (got.astype(np.int64) == want).all()


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
    cameras = draw(st.sampled_from([1, 1, 2, 3]))
    return StreamingConv(frames, *sizes, c, k, kt, *taps, stride, pad, dilation, "bf16", out_dtype, cameras=cameras)


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from([(1, 3), (2, 3), (4, 4)]), st.integers(0, 99), st.data())
def test_bits_are_those_of_the_whole_clip(
    problem: StreamingConv, mesh: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    chip = MINI.replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    p, q = problem.operands["y"].shape[-3:-1]
    drawn = {"kept": (0, problem.kt - 1), "tall": (1, p), "wide": (1, min(q, 8)), "span": (1, q)}
    tiling = {name: data.draw(st.integers(*limits), name) for name, limits in drawn.items()} if seed % 3 else {}
    program = streaming_conv.KERNEL.program(chip, problem, **tiling)
    program.check()
    assert_bits(problem, program, draw_inputs(problem, seed), schedule=seed if seed % 2 else "natural")


def test_memory_sends_every_pixel_once() -> None:
    problem = StreamingConv(10, 33, 20, 3, 8, 3, 3, 3, pad=1)
    timing = streaming_conv.KERNEL.program(MINI, problem).time()
    sizes = {name: operand.bytes for name, operand in problem.operands.items()}
    assert timing.bytes["memory_read"] == sizes["x"] + sizes["w"]
    assert timing.bytes["memory_write"] == sizes["y"]


@pytest.mark.parametrize("kept", [0, 1, 2, 4])
@pytest.mark.parametrize("cut", [{}, {"tall": 2, "wide": 3, "span": 7}])
def test_the_closed_form_of_bytes_is_exact(kept: int, cut: dict[str, int]) -> None:
    problem = StreamingConv(9, 34, 21, 3, 8, 4, 5, 3, stride=2, pad=(2, 1), cameras=2)
    strips = choose(MINI, problem, kept=kept, **cut)
    timing = streaming_conv.KERNEL.program(MINI, problem, kept=kept, **cut).time()
    outputs = problem.operands["y"].shape[1]
    sent = strips.fetched_bytes * strips.live + strips.refetched_bytes * outputs
    assert timing.bytes["memory_read"] == sent + problem.operands["w"].bytes
    assert timing.bytes["memory_write"] == strips.stored_bytes * outputs
    assert sum(line.mesh_bytes for line in timing.lines.values()) == strips.halo_bytes * strips.live


def test_a_block_reads_the_pixels_of_its_outputs() -> None:
    problem = StreamingConv(3, 23, 19, 2, 4, 2, 3, 4, stride=(2, 3), pad=(1, 2), dilation=(2, 1), cameras=2)
    strips = choose(MINI, problem, kept=0, high=4, tall=3, wide=2, span=4)
    rows, pixels = (
        sum(
            len({i for i in range(first * stride - pad, (last - 1) * stride - pad + reach) if 0 <= i < size})
            for strip in range(0, out, part)
            for first in range(strip, min(out, strip + part), step)
            for last in [min(first + step, strip + part, out)]
        )
        for size, out, stride, pad, reach, part, step in (
            (23, strips.p, 2, 1, 5, 4, 3), (19, strips.q, 3, 2, 4, strips.q, 4),
        )
    )  # fmt: skip
    assert strips.refetched_bytes == 2 * 2 * rows * pixels * 2 * 2


def test_smaller_nodes_keep_less_and_never_refuse() -> None:
    problem = StreamingConv(8, 64, 100, 4, 8, 4, 3, 3, pad=1, cameras=2)
    cuts = [choose(MINI.replace(**{"node.sram_bytes": kib << 10}), problem) for kib in (256, 64, 48, 32, 24, 16, 12, 8)]
    kept, bytes_ = [cut.kept for cut in cuts], [cut.fetched_bytes + cut.refetched_bytes for cut in cuts]
    assert kept == sorted(kept, reverse=True)
    assert bytes_ == sorted(bytes_)
    assert (kept[0], kept[-1]) == (4, 0)
    small = MINI.replace(**{"node.sram_bytes": 8 << 10})
    program = streaming_conv.KERNEL.program(small, problem)
    program.check()
    assert_bits(problem, program, draw_inputs(problem))


def test_larger_nodes_take_larger_tiles_and_no_spare_slot() -> None:
    problem = StreamingConv(8, 96, 800, 1, 8, 4, 7, 7, stride=2, pad=3, cameras=2)
    sizes = range(120 << 10, 220 << 10, 1 << 10)
    slow = MINI.replace(**{"ports.0.bytes_per_cycle": 16.0})  # memory hides what small tiles cost
    whole = [cut for size in sizes if (cut := choose(slow.replace(**{"node.sram_bytes": size}), problem)).kept == 4]
    pixels = [cut.tall * cut.wide for cut in whole]
    assert pixels == sorted(pixels)
    assert pixels[0] < pixels[-1]
    assert {cut.slots for cut in whole} == {5}


@pytest.mark.parametrize(
    ("kib", "rate", "stays"), [(142, 1600.0, False), (220, 1600.0, True), (142, 16.0, True)]
)  # fmt: skip
def test_a_frame_is_fetched_again_where_keeping_it_leaves_room_for_small_tiles_only(
    kib: int, rate: float, stays: bool
) -> None:
    problem = StreamingConv(8, 96, 800, 1, 8, 4, 7, 7, stride=2, pad=3, cameras=2)
    chip = MINI.replace(**{"node.sram_bytes": kib << 10, "ports.0.bytes_per_cycle": rate})
    taken, most, less = (
        streaming_conv.KERNEL.program(chip, problem, **kept).time().cycles for kept in ({}, {"kept": 4}, {"kept": 3})
    )
    assert taken <= min(most, less)
    assert (most < less) == stays  # as simulated: the window fits in all three, and pays in two
    assert (choose(chip, problem).kept == 4) == stays


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from([2, 4, 8, 16, 64]), st.sampled_from([1.0, 16.0, 400.0]))
def test_no_cut_is_passed_over_that_memory_and_matrix_unit_would_rather_have(
    problem: StreamingConv, kib: int, rate: float
) -> None:
    chip = MINI.replace(**{"node.sram_bytes": kib << 10, "ports.0.bytes_per_cycle": rate})
    every = [cut for strips in _lowest(problem, 16, {}) for cut in _cuts(strips, {})]
    fitting = [cut for cut in every if cut.sram_bytes() <= kib << 10]
    if not fitting:
        with pytest.raises(CapacityError, match=f"{min(cut.sram_bytes() for cut in every):,} B"):
            choose(chip, problem)
        return
    taken = choose(chip, problem)
    assert cycles(chip, taken) <= CLOSE * min(cycles(chip, cut) for cut in fitting)


def test_one_camera_has_no_dimension_of_its_own() -> None:
    one, two = (StreamingConv(4, 9, 8, 2, 3, 2, 3, 3, cameras=cameras) for cameras in (1, 2))
    assert [o.shape for o in one.operands.values()] == [(4, 9, 8, 2), (2, 3, 3, 2, 3), (3, 7, 6, 3)]
    assert [o.shape for o in two.operands.values()] == [(2, 4, 9, 8, 2), (2, 3, 3, 2, 3), (2, 3, 7, 6, 3)]
    assert two.macs == 2 * one.macs
    inputs = draw_inputs(two)
    both = streaming_conv.oracle(two, inputs)["y"]
    for camera in range(2):
        alone = streaming_conv.oracle(one, {"x": inputs["x"][camera], "w": inputs["w"]})["y"]
        np.testing.assert_array_equal(both[camera].view("u2"), alone.view("u2"))


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
    ("kept", "slots", "frames"), [(3, 4, 9), (3, 6, 9), (3, 5, 5), (3, 4, 3), (2, 3, 9), (0, 0, 7)]
)
@pytest.mark.parametrize("wide", [1, 2, 4])
def test_nodes_that_join_in_turns_change_no_bit(kept: int, slots: int, frames: int, wide: int) -> None:
    problem = StreamingConv(frames, 25, 37, 2, 4, 3, 3, 3, pad=1)  # 13 strips, the last of one row; 3 nodes only join
    cut = {"high": 2, "tall": 1, "wide": wide, "kept": kept} | ({"slots": slots} if kept else {})
    strips = choose(MINI, problem, **cut, **({} if kept == 3 else {"span": 8}))
    assert (strips.nodes, strips.turns) == (13, (12, 12, 6)[wide // 2] if kept == 3 else 10)
    program = streaming_conv.KERNEL.program(MINI, problem, **cut, **({} if kept == 3 else {"span": 8}))
    program.check()
    for schedule in range(2):
        assert_bits(problem, program, draw_inputs(problem, seed=schedule), schedule=schedule)


def turned(frames: int, h: int, w: int, stride: int = 1, cameras: int = 1, pad: int = 1) -> StreamingConv:
    return StreamingConv(frames, h, w, 2, 4, 3, 3, 2 * pad + 1, stride=stride, pad=(1, pad), cameras=cameras)


@pytest.mark.parametrize(
    ("problem", "cut", "turns", "tiles_of_the_last"),
    [
        (turned(9, 13, 1, pad=0), {"high": 12, "tall": 1, "wide": 1}, 4, 1),  # fewer tiles than turns
        (turned(4, 13, 1, pad=0), {"high": 12, "tall": 1, "wide": 1}, 4, 1),  # no frame enters a used slot
        (turned(5, 13, 1, pad=0), {"high": 12, "tall": 1, "wide": 1}, 4, 1),  # one does
        (turned(5, 25, 10), {"high": 8, "tall": 1, "wide": 2}, 12, 5),
        (turned(9, 25, 10, cameras=3), {"high": 8, "tall": 1, "wide": 2}, 12, 5),
        (turned(9, 50, 20, stride=2), {"high": 8, "tall": 1, "wide": 2}, 12, 5),
        (turned(9, 50, 20, stride=2, cameras=2), {"high": 6, "tall": 1, "wide": 3, "slots": 6}, 8, 4),
        (turned(9, 10, 20), {"high": 1, "tall": 1, "wide": 1}, 6, 20),  # one piece of a frame, fewer than turns
        (turned(9, 10, 20, stride=2), {"high": 1, "tall": 1, "wide": 1}, 3, 10),
        (turned(9, 25, 10), {"high": 8, "tall": 2, "wide": 2, "span": 4, "kept": 2, "slots": 4}, 12, 5),
        (turned(9, 25, 10, stride=2), {"high": 3, "tall": 2, "wide": 2, "span": 5, "kept": 1, "slots": 5}, 2, 3),
        (turned(9, 25, 10, cameras=2), {"high": 8, "tall": 8, "wide": 2, "span": 10, "kept": 2, "slots": 6}, 1, 5),
        (turned(9, 25, 10), {"high": 8, "tall": 8, "wide": 2, "span": 10, "kept": 1}, 1, 5),  # one block
        (turned(9, 25, 10), {"high": 8, "tall": 8, "wide": 2, "span": 6, "kept": 2}, 2, 5),  # two: as many as slots
        (turned(9, 25, 10), {"high": 12, "tall": 8, "wide": 2, "span": 6, "kept": 2}, 4, 5),  # the last strip has two
        (turned(6, 25, 10), {"high": 8, "tall": 8, "wide": 5, "span": 10, "kept": 0}, 1, 2),
    ],
)  # fmt: skip
def test_strips_that_are_not_alike_join_in_the_same_turns(
    problem: StreamingConv, cut: dict[str, int], turns: int, tiles_of_the_last: int
) -> None:
    strips = choose(MINI, problem, **cut)
    last = strips.blocks(strips.p - (strips.count - 1) * strips.high)
    assert (strips.turns, sum(len(strips.tiles(block)) for block in last)) == (turns, tiles_of_the_last)
    program = streaming_conv.KERNEL.program(MINI, problem, **cut)
    program.check()
    for schedule in range(2):
        assert_bits(problem, program, draw_inputs(problem, seed=schedule), schedule=schedule)


def test_memory_does_not_wait_for_far_nodes() -> None:
    """Without turns far nodes are behind, and near ones done: 5 % more cycles here than what memory needs."""
    chip = MINI.replace(**{"ports.0.bytes_per_cycle": 48.0, "node.sram_bytes": 1 << 20})
    short, long = (StreamingConv(frames, 240, 640, 1, 8, 4, 3, 3, pad=1, cameras=2) for frames in (8, 12))
    took = [streaming_conv.KERNEL.program(chip, problem).time().cycles for problem in (short, long)]
    assert took[1] - took[0] <= 1.01 * 4 * memory_cycles(chip, choose(chip, long))


def test_a_frame_of_one_piece_is_asked_for_early() -> None:
    """A row a node is one piece, in outputs of three turns: asked for in the last of them it is late, 11 % above."""
    problem = StreamingConv(20, 16, 640, 3, 8, 3, 3, 3, pad=1)
    strips = choose(MINI, problem)
    assert (strips.own, strips.turns) == (1, 3)
    outputs = problem.operands["y"].shape[0]
    assert streaming_conv.KERNEL.program(MINI, problem).time().cycles <= 1.08 * outputs * cycles(MINI, strips)


def test_a_tile_of_more_rows_than_the_largest_has_pixels_is_one_pixel_wide() -> None:
    problem = StreamingConv(4, 320, 4, 1, 1, 2, 1, 1)
    for kept in (0, 1, 2):
        strips = choose(MINI, problem, high=320, tall=320, kept=kept)
        assert (strips.tall, strips.wide) == (320, 1)
    program = streaming_conv.KERNEL.program(MINI, problem, high=320, tall=320, kept=0)
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
        ({"high": 1, "r": 5, "pad": 2, "kept": 3}, UnsupportedError, "halos in neighbours alone"),
        ({"k": 5000}, CapacityError, "does not fit mini"),
        ({"w": 20000, "kept": 3}, CapacityError, "does not fit mini"),
        ({"cameras": 0}, InputError, "cameras"),
        ({"cameras": 17}, UnsupportedError, "a strip of one camera"),
        ({"kept": 4}, InputError, "kept=4 is outside 0..3"),
        ({"kept": 0, "slots": 2}, InputError, "slots=2 is outside 0..0"),
        ({"deep": 2}, InputError, "no tiling parameter 'deep'"),
    ],
)
def test_bad_input_is_one_clear_error(fields: dict[str, Any], error: type[Exception], words: str) -> None:
    shape = {"frames": 6, "h": 16, "w": 10, "c": 4, "k": 8, "kt": 3, "r": 3, "s": 3, "pad": 1}
    with pytest.raises(error, match=words):
        streaming_conv.build("mini", **{**shape, **fields})
