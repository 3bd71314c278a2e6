"""Weight and bias gradients of clips: a chain over frames of at most 1024 outputs, then trees, by plain loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.hardware import ChipSpec, chip
from accel.kernels.parts import conv_windows
from accel.kernels.parts.conv_reference import oracle
from accel.kernels.parts.conv_weight_choice import choose
from accel.kernels.parts.conv_weight_gradient import program
from accel.numerics import gamma, round_to
from accel.problem import Conv2d, Conv3d

MINI = chip("mini")
OPEN = {"direction": "wgrad", "out_dtype": "fp32"}
HELD = frozenset({"x", "gy", "gw", "gb"})
CLIPS: list[tuple[Conv3d, dict[str, int]]] = [
    (Conv3d(3, 1, 4, 5, 6, 9, 1, 3, 3, pad=(0, 1, 1), bias=True, **OPEN), {"share": 2}),
    (Conv3d(5, 2, 5, 4, 8, 8, 2, 2, 3, pad=(1, 0, 1), bias=True, **OPEN), {"share": 1}),
    (Conv3d(3, 3, 4, 4, 8, 16, 3, 3, 3, pad=1, **OPEN), {"share": 4, "frames": 2}),
    (Conv3d(2, 5, 6, 4, 8, 16, 3, 1, 1, pad=(1, 0, 0), bias=True, **OPEN), {"share": 2, "frames": 3}),
    (Conv3d(8, 3, 4, 4, 16, 8, 3, 1, 1, pad=(1, 0, 0), bias=True, **OPEN), {"share": 4, "frames": 3}),
    (Conv3d(1, 7, 3, 5, 5, 12, 3, 2, 2, pad=(1, 1, 0), bias=True, **OPEN), {"frames": 7}),
    (Conv3d(3, 7, 5, 4, 8, 8, 3, 3, 1, pad=(1, 1, 0), **OPEN), {"share": 4, "frames": 1, "rows": 2}),
    (Conv3d(2, 7, 4, 4, 8, 8, 3, 1, 1, stride=(2, 1, 1), pad=(2, 0, 0), dilation=(2, 1, 1), **OPEN), {"frames": 2}),
    (Conv3d(2, 9, 4, 5, 4, 8, 2, 3, 2, stride=(3, 2, 1), pad=(4, 1, 0), dilation=(2, 1, 2), **OPEN), {"share": 2}),
    (Conv3d(3, 7, 2, 3, 8, 8, 1, 1, 1, bias=True, **OPEN), {"share": 4, "frames": 7}),
    (Conv3d(2, 6, 3, 3, 8, 8, 1, 1, 1, stride=(2, 1, 1), **OPEN), {"share": 2, "frames": 3}),
    (Conv3d(2, 5, 4, 4, 12, 24, 3, 3, 3, pad=1, groups=3, bias=True, **OPEN), {"share": 2, "frames": 2}),
    (Conv3d(2, 3, 4, 4, 24, 100, 1, 3, 3, pad=(0, 1, 1), **OPEN), {"share": 2, "frames": 2}),
    (Conv3d(2, 3, 4, 3, 3, 20, 2, 3, 2, pad=(1, 1, 0), dtype="fp32", bias=True, **OPEN), {"share": 1, "frames": 2}),
    (Conv3d(3, 5, 3, 3, 6, 6, 3, 3, 3, pad=1, groups=6, dtype="fp32", bias=True, **OPEN), {"share": 4, "frames": 5}),
    (Conv3d(2, 5, 4, 4, 8, 8, 3, 3, 3, pad=1, dtype="fp16", **OPEN), {"frames": 1, "rows": 3}),
]
LARGE: list[tuple[Conv3d, dict[str, int]]] = [
    # four frames of 252 outputs a chain, then one; bands end inside a chain and begin in another
    (Conv3d(2, 5, 18, 14, 8, 8, 3, 1, 1, pad=(1, 0, 0), bias=True, **OPEN), {"frames": 3}),
    (Conv3d(1, 5, 18, 14, 4, 8, 2, 2, 1, pad=(1, 1, 0), dilation=(1, 2, 1), bias=True, **OPEN), {"frames": 2}),
    # two of 512, the most; a band of two chains
    (Conv3d(2, 5, 32, 16, 8, 8, 1, 1, 1, bias=True, **OPEN), {"frames": 4}),
    (Conv3d(3, 3, 21, 24, 4, 8, 1, 1, 2, pad=(0, 0, 1), stride=(1, 1, 2), **OPEN), {"share": 2, "frames": 3}),
    # three rows of frames at a time, and frames that do not follow each other
    (Conv3d(2, 3, 22, 22, 8, 8, 2, 1, 1, **OPEN), {"rows": 9}),
    (Conv3d(1, 7, 20, 20, 8, 8, 2, 1, 1, stride=(2, 1, 1), pad=(1, 0, 0), **OPEN), {"frames": 4}),
    # one frame of 513 or 1056
    (Conv3d(2, 3, 27, 19, 8, 8, 1, 1, 1, **OPEN), {"frames": 2}),
    (Conv3d(1, 2, 33, 32, 8, 8, 1, 1, 1, bias=True, **OPEN), {"frames": 2}),
    (Conv3d(1, 3, 16, 17, 2, 4, 1, 2, 2, groups=2, dtype="fp32", bias=True, **OPEN), {"frames": 3}),
]


def tree(terms: list[Any]) -> Any:
    """The sum of terms by the balanced tree: the first of two parts has the largest power of two below their number."""
    if len(terms) == 1:
        return terms[0]
    half = 1 << (len(terms) - 1).bit_length() - 1
    return tree(terms[:half]) + tree(terms[half:])


def read(problem: Conv3d, x: np.ndarray, n: int, output: tuple[int, ...], tap: tuple[int, ...]) -> np.ndarray:
    """The channels that a tap of an output reads, zeros in the padding."""
    stride, dilation, pad = (np.broadcast_to(value, 3) for value in (problem.stride, problem.dilation, problem.pad))
    places = [int(o * s + t * d - p) for o, s, t, d, p in zip(output, stride, tap, dilation, pad, strict=True)]
    inside = all(0 <= place < size for place, size in zip(places, x.shape[1:4], strict=True))
    return x[(n, *places)] if inside else np.zeros_like(x[0, 0, 0, 0])


def chains_of(frames: int, outputs: int, longest: int) -> list[range]:
    """The frames of each chain of a clip: 1, 2, 4, ... of so many outputs, as long as they are at most `longest`."""
    each = 1
    while 2 * each * outputs <= longest:
        each *= 2
    return [range(first, min(frames, first + each)) for first in range(0, frames, each)]


def defined(problem: Conv3d, x: np.ndarray, gy: np.ndarray, longest: int = 1024) -> dict[str, np.ndarray]:
    """gw and gb by their definition, loop by loop; x and gy have so few bits that a product and sum in float64 is exact
    before it is rounded.
    """
    groups, (c, k) = problem.groups, (problem.c // problem.groups, problem.k // problem.groups)
    _, z, p, q, _ = gy.shape
    gw = np.zeros(problem.operands["gw"].shape, np.float32)
    for *tap, g in itertools.product(range(problem.kt), range(problem.r), range(problem.s), range(groups)):
        clips = []
        for n in range(problem.n):
            chains = []
            for frames in chains_of(z, p * q, longest):
                chain = np.zeros((c, k), np.float32)
                for frame, row, column in itertools.product(frames, range(p), range(q)):
                    here = read(problem, x, n, (frame, row, column), tuple(tap))[g * c : (g + 1) * c].astype(np.float64)
                    with np.errstate(invalid="ignore"):
                        terms = here[:, None] * gy[n, frame, row, column, g * k : (g + 1) * k].astype(np.float64)
                        chain = (chain.astype(np.float64) + terms).astype(np.float32)
                chains.append(chain)
            clips.append(tree(chains))
        gw[(*tap, slice(None), slice(g * k, (g + 1) * k))] = tree(clips)
    found = {"gw": gw}
    if problem.bias:
        clips = []
        for n in range(problem.n):
            chains = []
            for frames in chains_of(z, p * q, longest):
                total = np.zeros(problem.k, np.float32)
                for frame, row, column in itertools.product(frames, range(p), range(q)):
                    total = total + gy[n, frame, row, column].astype(np.float32)
                chains.append(total)
            clips.append(tree(chains))
        found["gb"] = tree(clips)
    return found


def drawn(problem: Any, seed: int) -> dict[str, np.ndarray]:
    """Normal numbers of 8 bits, with which the order of a sum shows in its last bits."""
    rng = np.random.default_rng(seed)
    shapes = {name: o.shape for name, o in problem.operands.items() if o.role == "in"}
    return {n: np.asarray(round_to(rng.standard_normal(s).astype(np.float32), "bf16"), np.float32)
            for n, s in shapes.items()}  # fmt: skip


def assert_bits(got: Any, want: dict[str, np.ndarray]) -> None:
    for name, values in want.items():
        left, right = (np.asarray(v, np.float32) for v in (got[name], values))
        assert left.shape == right.shape
        quiet = np.isnan(right)
        assert np.array_equal(np.isnan(left), quiet), name
        assert np.array_equal(left[~quiet].view(np.uint32), right[~quiet].view(np.uint32)), name


def mesh(rows: int, cols: int) -> ChipSpec:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


@pytest.mark.parametrize("longest", [30, 1024])
@pytest.mark.parametrize(("problem", "tiling"), CLIPS, ids=lambda value: getattr(value, "label", ""))
def test_chains_of_frames_are_added_chain_by_chain_and_clip_by_clip(
    problem: Conv3d, tiling: dict[str, int], longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small frames, as they are and with chains so short that clips have several."""
    monkeypatch.setattr(conv_windows, "CHAIN", longest)
    inputs = drawn(problem, 0)
    want = defined(problem, **inputs, longest=longest)
    assert_bits(oracle(problem, inputs), want)
    for resident in (frozenset[str](), HELD & problem.operands.keys()):
        built = program(MINI, problem, resident=resident, **tiling)
        for schedule in ("natural", 3):
            assert_bits(built.run(inputs, schedule=schedule), want)
        built.check()
    assert_bits(program(mesh(2, 2), problem, resident=frozenset({"gw"})).run(inputs), want)


@pytest.mark.parametrize(("problem", "tiling"), LARGE, ids=lambda value: getattr(value, "label", ""))
def test_large_frames_are_added_chain_by_chain(problem: Conv3d, tiling: dict[str, int]) -> None:
    inputs = drawn(problem, 6)
    want = defined(problem, **inputs)
    assert_bits(oracle(problem, inputs), want)
    for resident in (frozenset[str](), HELD & problem.operands.keys()):
        built = program(MINI, problem, resident=resident, **tiling)
        assert_bits(built.run(inputs, schedule=4), want)
        built.check()


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_both_units_have_the_same_chains(dtype: str, vector: bool) -> None:
    problem = Conv3d(5, 5, 3, 4, 8, 12, 3, 2, 2, pad=(1, 1, 0), dtype=dtype, bias=True, **OPEN)
    inputs = drawn(problem, 1)
    want = defined(problem, **inputs)
    for share, frames in ((1, 2), (2, 5), (8, 1)):
        built = program(mesh(3, 4), problem, vector=vector, share=share, frames=frames)
        assert_bits(built.run(inputs, schedule=2), want)
        built.check()


@st.composite
def clips(draw: st.DrawFn) -> Conv3d:
    groups = draw(st.sampled_from([1, 1, 2]))
    c, k = (groups * draw(st.integers(1, 9)) for _ in "ck")
    taps = [draw(st.integers(1, most)) for most in (3, 2, 2)]
    stride, pad, dilation = (tuple(draw(st.integers(low, 2)) for _ in "thw") for low in (1, 0, 1))
    extra = (draw(st.integers(0, 6)), draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    sizes = [
        max(1, dil * (tap - 1) + 1 - 2 * p) + more for tap, dil, p, more in zip(taps, dilation, pad, extra, strict=True)
    ]
    dtype = draw(st.sampled_from(["bf16", "bf16", "fp32"]))
    return Conv3d(
        draw(st.integers(1, 5)), *sizes, c, k, *taps, stride, pad, dilation, groups, dtype, "fp32", "wgrad",
        draw(st.booleans()),
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    clips(), st.integers(0, 99), st.sampled_from([(1, 1), (2, 3), (4, 4)]), st.booleans(),
    st.sampled_from([1, 7, 20, 60, 1024]), st.data(),
)  # fmt: skip
def test_any_clips_on_any_mesh_in_any_bands(
    problem: Conv3d, seed: int, size: tuple[int, int], whole: bool, longest: int, data: st.DataObject
) -> None:
    z, p = problem.operands["gy"].shape[1:3]
    tiling = {"frames": data.draw(st.integers(1, z)), "rows": p if whole else data.draw(st.integers(1, p))}
    resident = frozenset(data.draw(st.sets(st.sampled_from(sorted(HELD & problem.operands.keys())))))
    inputs = drawn(problem, seed)
    want = defined(problem, **inputs, longest=longest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_windows, "CHAIN", longest)
        built = program(mesh(*size), problem, resident=resident, **tiling)
        assert_bits(oracle(problem, inputs), want)
    assert_bits(built.run(inputs, schedule=seed), want)
    built.check()


@pytest.mark.parametrize(
    ("size", "values", "total"),
    [
        # One chain over time loses every 1, one after the other: 2^24 has no neighbour 2^24 + 1.
        ((1, 1), [[2**24, 1, 1, 1]], 2**24),
        # Four frames of 256 outputs are a chain, the next four another: 2^24, and 1 + 1 + 1 + 1.
        ((16, 16), [[2**24, 1, 1, 1, 1, 1, 1, 1]], 2**24 + 4),
        # Chains of 4, of 2^24 and, of an odd last two frames, of 2: neighbours first.
        ((16, 16), [[1, 1, 1, 1, 2**24, 1, 1, 1, 1, 1]], 2**24 + 6),
        # Two frames of 512 outputs are one chain (a pair [a, b] is two outputs of a frame), those of 513 are two.
        ((16, 32), [[2**24, [1, 1]]], 2**24),
        ((27, 19), [[2**24, [1, 1]]], 2**24 + 2),
        ((32, 32), [[2**24, 1, 1, 1]], 2**24 + 2),
        # A tree over all six frames would add (2^24 + 1) + (1 + 0); clip by clip it is 2^24 + ((1 + 1) + 0).
        ((27, 19), [[0, 0, 2**24], [1, 1, 0]], 2**24 + 2),
        ((1, 1), [[0, 0, 2**24], [1, 1, 0]], 2**24 + 2),
        # An odd last frame is added after the others, an odd last clip likewise.
        ((27, 19), [[1, 1, 2**24]], 2**24 + 2),
        ((1, 1), [[1, 0], [1, 0], [2**24, 1]], 2**24 + 2),
    ],
)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_sums_that_tell_their_order(size: tuple[int, int], values: list[list[Any]], total: float, dtype: str) -> None:
    """Sums by hand, of a filter 1x1x1, whose axes could all be taken for one: the first outputs of each frame."""
    n, t = len(values), len(values[0])
    problem = Conv3d(n, t, *size, 1, 1, 1, 1, 1, dtype=dtype, bias=True, **OPEN)
    gy = np.zeros((n, t, *size, 1), np.float32)
    for clip, frame in np.ndindex(n, t):
        first = np.atleast_1d(values[clip][frame])
        gy[clip, frame, 0, : len(first), 0] = first
    inputs = {"x": np.ones((n, t, *size, 1), np.float32), "gy": gy}
    for frames in sorted({1, min(3, t), t}):
        got = program(MINI, problem, frames=frames).run(inputs)
        assert got["gw"].item() == got["gb"].item() == total
    by_definition = oracle(problem, inputs)
    assert by_definition["gw"].item() == by_definition["gb"].item() == total


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_padding_in_time_takes_part(dtype: str, frames: int) -> None:
    """Padding is +0, so an infinite gradient of the first or last frame makes NaN at the taps that look outside."""
    problem = Conv3d(2, 5, 3, 2, 8, 8, 3, 1, 1, pad=(1, 0, 0), dtype=dtype, **OPEN)
    inputs = drawn(problem, 2)
    inputs["gy"][0, 0, 1, 1, 3] = inputs["gy"][1, 4, 2, 0, 5] = np.inf
    gw = np.asarray(program(MINI, problem, share=2, frames=frames).run(inputs)["gw"])
    assert np.isnan(gw[0, 0, 0, :, 3]).all()
    assert np.isnan(gw[2, 0, 0, :, 5]).all()
    assert np.isinf(gw[1:, 0, 0, :, 3]).all()
    assert np.isinf(gw[:2, 0, 0, :, 5]).all()
    assert np.isfinite(np.delete(gw, [3, 5], -1)).all()
    assert_bits({"gw": gw}, defined(problem, **inputs))


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integers_are_those_of_int64(dtype: str, frames: int) -> None:
    problem = Conv3d(3, 7, 2, 3, 5, 6, 3, 2, 2, stride=(2, 1, 1), pad=(1, 1, 0), dtype=dtype, out_dtype="int32",
                     direction="wgrad")  # fmt: skip
    info, rng = np.iinfo(dtype), np.random.default_rng(3)
    x, gy = (rng.integers(info.min, info.max + 1, problem.operands[n].shape).astype(dtype) for n in ("x", "gy"))
    want = np.zeros(problem.operands["gw"].shape, np.int64)
    for n, *place in itertools.product(*(range(size) for size in gy.shape[:4])):
        for tap in itertools.product(range(3), range(2), range(2)):
            here = read(problem, x.astype(np.int64), n, tuple(place), tap)
            want[tap] += np.outer(here, gy[(n, *place)].astype(np.int64))
    built = program(MINI, problem, share=2, frames=frames)
    assert np.array_equal(built.run({"x": x, "gy": gy})["gw"], want.astype(np.int32))
    built.check()


def test_sums_of_frames_wrap_modulo_two_to_the_32() -> None:
    """A frame of 22,500 products 255 x 255 stays below 2^31, the sums of two and of three do not."""
    problem = Conv3d(2, 3, 150, 150, 1, 1, 1, 1, 1, dtype="uint8", out_dtype="int32", direction="wgrad")
    inputs = {name: np.full(problem.operands[name].shape, 255, np.uint8) for name in ("x", "gy")}
    got = program(MINI, problem, share=2, frames=1).run(inputs)["gw"]
    assert got.item() == (6 * 22_500 * 255 * 255 + 2**31) % 2**32 - 2**31


def test_errors_are_within_the_bound_of_a_chain_and_two_trees() -> None:
    """Fewer roundings than a chain over the clip, 8 x 192 of them: those of four frames and the levels of the trees."""
    problem = Conv3d(5, 8, 16, 12, 8, 8, 3, 3, 3, pad=1, bias=True, **OPEN)
    inputs = drawn(problem, 4)
    got = program(MINI, problem, share=2, frames=2).run(inputs)
    x, gy = (inputs[name].astype(np.float64) for name in ("x", "gy"))
    bound = gamma(4 * 16 * 12 + 1 + 3, 2.0**-24)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (1, 1), (0, 0)])
    for tap in itertools.product(range(3), range(3), range(3)):
        t, r, s = tap
        left = padded[:, t : t + 8, r : r + 16, s : s + 12]
        want, size = (np.einsum("nzpqc,nzpqk->ck", *pair) for pair in ((left, gy), (abs(left), abs(gy))))
        assert (abs(np.asarray(got["gw"][tap]) - want) <= bound * size).all()
    assert (abs(got["gb"] - gy.sum((0, 1, 2, 3))) <= bound * abs(gy).sum((0, 1, 2, 3))).all()


def test_frames_of_clips_and_images_give_the_same_where_the_trees_agree() -> None:
    """n clips of 2^m frames, each a chain, without taps in time, are n x 2^m images: to the bit those of a conv2d."""
    flat = Conv2d(12, 19, 27, 8, 16, 3, 3, pad=1, bias=True, **OPEN)
    deep = Conv3d(3, 4, 19, 27, 8, 16, 1, 3, 3, pad=(0, 1, 1), bias=True, **OPEN)
    inputs = drawn(flat, 5)
    wide = {name: value.reshape(3, 4, *value.shape[1:]) for name, value in inputs.items()}
    one, other = program(MINI, flat).run(inputs), program(MINI, deep).run(wide)
    assert_bits({"gw": np.asarray(other["gw"])[0], "gb": other["gb"]}, {n: np.asarray(one[n]) for n in ("gw", "gb")})


@pytest.mark.parametrize(("problem", "tiling"), CLIPS, ids=lambda value: getattr(value, "label", ""))
def test_a_tiling_knows_the_bytes_of_its_program(problem: Conv3d, tiling: dict[str, int]) -> None:
    for resident in (frozenset[str](), HELD & problem.operands.keys()):
        unit, item = problem.dtype == "fp32", 4 if problem.dtype == "fp32" else 2
        found = choose(
            MINI, problem.geometry, item=item, out_item=4, resident=resident, bias=problem.bias, vector=[unit], **tiling
        )
        built = program(MINI, problem, resident=resident, vector=unit, **tiling)
        assert built.isa.sram_bytes <= found.sram_bytes < 1.2 * built.isa.sram_bytes


def test_the_rows_above_meet_corners_several_teams_and_bands_of_several_frames() -> None:
    made = [choose(MINI, problem.geometry, item=2, out_item=4, resident=frozenset(), bias=problem.bias, vector=[False],
                   **tiling) for problem, tiling in CLIPS]  # fmt: skip
    assert any(tiling.rest for tiling in made)
    assert any(tiling.teams > 1 and tiling.share > 1 for tiling in made)
    assert any(1 < tiling.frames < tiling.axes[0].out for tiling in made)
