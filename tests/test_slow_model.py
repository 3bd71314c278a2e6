"""The slow model by itself: what it imports, and its numbers against rationals, ml_dtypes and published vectors."""

from __future__ import annotations

import ast
from bisect import bisect_left
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import accel.testing
from accel.testing.slow_data import SlowModelError, View
from accel.testing.slow_formats import INTEGERS, LAYOUTS, decode, encode, item_bytes
from accel.testing.slow_node import element_places
from accel.testing.slow_random import philox, random_words
from accel.testing.slow_vector import fused, nearest_fp32, reduce_last

FOLDER = Path(accel.testing.__file__).parent
CONFIGURABLE = [name for name, layout in LAYOUTS.items() if layout.bias is None]
SHORT = [name for name in LAYOUTS if name != "fp32"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("slow_*.py")), ids=lambda p: p.stem)
def test_the_slow_model_sees_decoded_data_only(path):
    taken = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            taken |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            taken.add(node.module)
    if path.stem == "slow_run":  # the door: it decodes, and imports no engine either
        allowed = ("accel.errors", "accel.isa", "accel.numerics.formats", "accel.testing.slow_")
        assert all(not name.startswith("accel") or name.startswith(allowed) for name in taken), taken
        assert not any("semantics" in name for name in taken)
    else:
        free = {"numpy", "__future__", "collections.abc", "dataclasses", "fractions", "functools", "math", "typing"}
        assert {name for name in taken if name not in free and not name.startswith("accel.testing.slow_")} == set()


def exact(dtype, code, bias, ieee):
    """Return what a finite code of a configurable format is worth, straight from the sentence of the contract."""
    layout = LAYOUTS[dtype]
    width = layout.exponent + layout.fraction
    sign = -1 if code >> width else 1
    exponent, fraction = code >> layout.fraction & ((1 << layout.exponent) - 1), code % (1 << layout.fraction)
    share = Fraction(fraction, 1 << layout.fraction)
    if exponent == 0:
        return sign * share * Fraction(2) ** ((1 if ieee else 0) - bias)
    return sign * (1 + share) * Fraction(2) ** (exponent - bias)


@pytest.mark.parametrize("dtype", CONFIGURABLE)
@pytest.mark.parametrize("ieee", [False, True])
def test_every_code_of_a_configurable_format_is_worth_what_the_contract_says(dtype, ieee):
    codes = np.arange(1 << 8 * item_bytes(dtype))
    for bias in (0, 1, 7, 15, 31, 32, 63):
        got = decode(codes, dtype, bias, ieee)
        step = 1 if item_bytes(dtype) == 1 else 997
        for code in range(0, len(codes), step):
            assert Fraction(float(got[code])) == exact(dtype, code, bias, ieee)
        assert (np.signbit(got) == (codes >> LAYOUTS[dtype].exponent + LAYOUTS[dtype].fraction > 0)).all()


@pytest.mark.parametrize(
    ("dtype", "other", "bias"),
    [
        ("bf16", ml_dtypes.bfloat16, 127),
        ("fp16", np.float16, 15),
        ("cfp8-152", ml_dtypes.float8_e5m2, 15),
        ("cfp8-143", ml_dtypes.float8_e4m3fn, 7),
        ("cfp8-143", ml_dtypes.float8_e4m3b11fnuz, 11),
    ],
)
def test_codes_of_other_libraries_mean_the_same_where_formats_coincide(dtype, other, bias):
    size = item_bytes(dtype)
    codes = np.arange(1 << 8 * size).astype({1: np.uint8, 2: np.uint16}[size])
    with np.errstate(invalid="ignore"):
        theirs = codes.view(other).astype(np.float64)
    finite = np.isfinite(theirs)
    ours = decode(codes, dtype, bias, True)
    np.testing.assert_array_equal(ours[finite], theirs[finite])
    if LAYOUTS[dtype].specials:
        np.testing.assert_array_equal(ours, theirs)
    # and back, over every code, every midpoint and the fp32 neighbours of both
    grid = np.unique(theirs[finite])
    near = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2]).astype(np.float32)
    values = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    if not LAYOUTS[dtype].specials:
        values = values[np.abs(values) <= grid[-1]]
    mine, want = encode(values, dtype, bias, True), values.astype(other).view(codes.dtype)
    same_zero = (values != 0) | (other is not ml_dtypes.float8_e4m3b11fnuz)  # that one has no -0
    rounded = decode(mine, dtype, bias, True) != 0
    keep = same_zero & (rounded | (other is not ml_dtypes.float8_e4m3b11fnuz))
    np.testing.assert_array_equal(mine[keep], want[keep])


def nearest(worth, value):
    """Return the code of the member of an ascending list of rationals that is nearest to |value|."""
    size = abs(value)
    at = bisect_left(worth, size)
    sides = [code for code in (at - 1, at) if 0 <= code < len(worth)]
    best = min(sides, key=lambda code: (abs(worth[code] - size), code & 1))
    return best | (len(worth) if value < 0 else 0)


@pytest.mark.parametrize("dtype", ["cfp8-143", "cfp8-152"])
@pytest.mark.parametrize("ieee", [False, True])
def test_rounding_finds_the_nearest_code_and_the_even_one_of_two(dtype, ieee):
    for bias in (0, 7, 31, 63):
        width = LAYOUTS[dtype].exponent + LAYOUTS[dtype].fraction
        worth = [exact(dtype, code, bias, ieee) for code in range(1 << width)]
        halves = [(a + b) / 2 for a, b in pairwise(worth)]
        values = np.array([float(v) for v in worth + halves], np.float32)
        values = np.concatenate([values, np.nextafter(values, np.float32(0)), np.nextafter(values, np.float32(np.inf))])
        values = np.concatenate([values, -values, [np.float32(3e38), np.float32(-3e38), np.float32(1e-45)]])
        want = [nearest(worth, Fraction(float(v))) for v in values]
        got = encode(values, dtype, bias, ieee)
        np.testing.assert_array_equal(np.where(values == 0, got & 0x7F, got), want)
        assert (got[values == 0] >> 7 == np.signbit(values[values == 0])).all()


def test_the_gap_above_the_denormals_rounds_at_its_midpoint_to_the_even_code():
    # cfp8-143 with bias 0 as printed: 0.875, then 2; the midpoint 1.4375 goes to the even code of 2
    values = np.array([1.4375, np.nextafter(np.float32(1.4375), np.float32(0)), 1.5, 0.875], np.float32)
    assert encode(values, "cfp8-143", 0, False).tolist() == [8, 7, 8, 7]


def test_what_has_no_number_saturates():
    values = np.array([np.nan, np.inf, -np.inf, -0.0, -1.0, 1e30])
    assert encode(values, "cfp8-143", 7, True).tolist() == [0x7F, 0x7F, 0xFF, 0x80, 0xB8, 0x7F]
    assert encode(values, "uhp16", 31).tolist() == [0xFFFF, 0xFFFF, 0, 0, 0, 0xFFFF]
    assert encode(values, "fp16").tolist() == [0x7E00, 0x7C00, 0xFC00, 0x8000, 0xBC00, 0x7C00]
    assert encode(values, "fp32").tolist()[:4] == [0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000]
    assert encode(values, "int8").tolist() == [0, 127, 128, 0, 255, 127]
    assert encode(np.array([0.5, 1.5, 2.5, -0.5, 254.5, 255.5, -7.0]), "uint8").tolist() == [0, 2, 2, 0, 254, 255, 0]
    assert encode(np.array([2.0**31, -(2.0**31), 2**31 - 0.5]), "int32").tolist() == [0x7FFFFFFF, 1 << 31, 0x7FFFFFFF]


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("ieee", [False, True])
def test_stochastic_rounding_goes_away_for_exactly_its_share_of_the_random_numbers(dtype, ieee):
    rng = np.random.default_rng(3)
    bias = 15
    x = (rng.standard_normal(400) * 2.0 ** rng.integers(-20, 15, 400)).astype(np.float32)
    if LAYOUTS[dtype].sign == 0:
        x = np.abs(x)
    below = encode(x, dtype, bias, ieee, np.full(x.shape, 0xFFFFFFFF, np.uint64))  # away only at a share of almost one
    above = encode(x, dtype, bias, ieee, np.zeros(x.shape, np.uint64))
    low, high = (np.abs(decode(c, dtype, bias, ieee)) for c in (below, above))
    for v, lo, hi in zip(x.tolist(), low.tolist(), high.tolist(), strict=True):
        if np.isinf(hi) or lo == hi:
            continue
        share = (Fraction(abs(v)) - Fraction(lo)) / (Fraction(hi) - Fraction(lo)) * 2**32
        first = -(-share.numerator // share.denominator)  # the smallest r that stays
        around = np.array([max(first - 1, 0), min(first, 0xFFFFFFFF)], np.uint64)
        got = np.abs(decode(encode(np.array([v, v], np.float32), dtype, bias, ieee, around), dtype, bias, ieee))
        want = [hi if r < share else lo for r in around.tolist()]
        assert got.tolist() == want


def test_stochastic_rounding_above_the_largest_number_of_a_format_with_infinities():
    x, r = np.array([65519.999, 65535.0, 65536.0]), np.array([0, 0xFFFFFFFF, 5], np.uint64)
    assert encode(x, "fp16", random=r).tolist() == [0x7C00, 0x7BFF, 0x7C00]  # 65504, then 65536 stored as infinity
    assert encode(x, "cfp8-152", 15, True, r).tolist() == [0x7C, 0x7B, 0x7C]  # 65536 is a number there


# Published with the paper: https://github.com/DEShawResearch/random123, tests/kat_vectors, philox4x32 10.
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
         [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ],
)  # fmt: skip
def test_philox_gives_the_published_words(counter, key, words):
    assert [int(word) for word in philox(counter, key)] == words


def test_random_words_take_counter_and_key_from_index_stream_and_seed():
    index = np.array([0, 3, (5 << 34) + 6], np.uint64)
    got = random_words(index, 9, 7 + (8 << 32)).tolist()
    want = [philox([0, 0, 9, 0], (7, 8))[0], philox([0, 0, 9, 0], (7, 8))[3], philox([1, 5, 9, 0], (7, 8))[2]]
    assert got == [int(word) for word in want]


def test_fused_rounds_once_and_the_chain_of_doubles_would_not():
    x, y = np.float32(1 + 2**-12), np.float32(1 + 2**-12)
    z = np.float32(2.0**-60)
    assert fused(*(np.array([v]) for v in (x, y, z)))[0] == np.float32(nearest_fp32(
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))))  # fmt: skip
    # 1 + 2^-23 + 2^-24 is a tie of fp32, which the last part of 2^-80 decides and float64 cannot hold
    tie = Fraction(1) + Fraction(1, 1 << 24) + Fraction(1, 1 << 80)
    assert nearest_fp32(tie) == 1 + 2.0**-23
    assert nearest_fp32(Fraction(1) + Fraction(1, 1 << 24)) == 1.0
    assert nearest_fp32(Fraction(2) ** 128) == np.inf
    assert nearest_fp32(-(Fraction(2) ** -150)) == 0.0
    assert nearest_fp32(Fraction(3, 1 << 150)) == 2 * 2.0**-149


def test_reductions_fold_sixteen_chains_and_then_neighbours():
    row = np.arange(35, dtype=np.int64)
    assert reduce_last("vec.reduce_sum", row)[0] == 35 * 34 // 2
    # 2^24 in chain 0 swallows the ones that join it later, and none of the others
    x = np.ones(33, np.float32)
    x[0] = 2.0**24
    assert reduce_last("vec.reduce_sum", x)[0] == np.float32(2.0**24 + 30)
    assert reduce_last("vec.reduce_max", np.array([-0.0, 0.0], np.float32)).view(np.uint32)[0] == 0
    assert np.isnan(reduce_last("vec.reduce_min", np.array([1.0, np.nan], np.float32))[0])


def test_places_of_strided_and_ring_views():
    view = View(False, "bf16", (1, 1, 2, 3), (0, 0, -6, 2))
    assert element_places(view, 10, 100).ravel().tolist() == [10, 12, 14, 4, 6, 8]
    ring = View(False, "bf16", (1, 1, 1, 4), (0, 0, 0, 2), ring_base=20, ring_bytes=8)
    assert element_places(ring, 24, 100).ravel().tolist() == [24, 26, 20, 22]
    assert element_places(ring, 2, 100).ravel().tolist() == [26, 20, 22, 24]
    with pytest.raises(SlowModelError, match="leaves its memory of 14 bytes"):
        element_places(view, 10, 14)
    with pytest.raises(SlowModelError, match="leaves its memory"):
        element_places(view, 4, 100)


def test_integers_are_the_three_of_the_contract():
    assert {name: (low, high) for name, (low, high) in INTEGERS.items()} == {
        "int8": (-128, 127), "uint8": (0, 255), "int32": (-(2**31), 2**31 - 1),
    }  # fmt: skip
    assert decode(np.array([0xFF, 0x80], np.uint8), "int8").tolist() == [-1, -128]
