"""The library's own rounding, widening and random numbers against the slow model's, format by format, bias by bias."""

from __future__ import annotations

import numpy as np
import pytest

from accel.numerics import arrays
from accel.numerics.formats import FORMATS
from accel.testing.hard_values import hard_codes
from accel.testing.slow_formats import LAYOUTS, decode, encode, item_bytes, ladder
from accel.testing.slow_random import random_words

CONFIGURABLE = [name for name, form in FORMATS.items() if form.kind == "cfp"]
WORDS = [(name, bias + ieee) for name in CONFIGURABLE for bias in range(64) for ieee in (0, 256)]
WORDS += [(name, 0) for name in FORMATS if name not in CONFIGURABLE]


def numbers(dtype, word):
    """Return fp32 numbers where this format rounds: its own, their midpoints, the neighbours of both, and any bits."""
    parts = [hard_codes("fp32", (3000,), word, "mixed"), hard_codes("fp32", (3000,), word + 1, "bits")]
    if dtype in LAYOUTS and dtype != "fp32":
        steps = ladder(dtype, word % 256, word >= 256)
        picked = np.unique(np.concatenate([steps[:1200:11], steps[:40], steps[::131], steps[-9:], steps[1015:1035]]))
        with np.errstate(over="ignore"):
            grid = np.concatenate([picked, (picked[1:] + picked[:-1]) / 2]).astype(np.float32)
        parts += [grid, np.nextafter(grid, np.float32(np.inf)), np.nextafter(grid, np.float32(-np.inf)), -grid]
    else:
        grid = np.concatenate([np.arange(-600, 600) / 4, [2.0**31, -(2.0**31), 2.0**31 - 128, -129.0]])
        parts.append(grid.astype(np.float32))
    return np.concatenate(parts).astype(np.float32)


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_rounding_is_the_same_from_two_texts(dtype):
    code = FORMATS[dtype].code
    rng = np.random.default_rng(1)
    for _, word in [pair for pair in WORDS if pair[0] == dtype]:
        x = numbers(dtype, word)
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            near = arrays.round_bits(x.view(np.uint32), code, word).astype(np.uint32)
            drawn = rng.integers(0, 1 << 32, len(x), dtype=np.uint64)
            drawn[::7], drawn[1::7] = 0, 0xFFFFFFFF
            random = arrays.round_bits64_sr(wide.view(np.uint64), code, word, drawn).astype(np.uint32)
        bias, ieee = word % 256, word >= 256
        np.testing.assert_array_equal(near, encode(wide, dtype, bias, ieee).astype(np.uint32))
        np.testing.assert_array_equal(random, encode(wide, dtype, bias, ieee, drawn).astype(np.uint32))


@pytest.mark.parametrize("dtype", [name for name in LAYOUTS if name != "fp32"])
def test_every_code_widens_to_the_same_number(dtype):
    codes = np.arange(1 << 8 * item_bytes(dtype), dtype=np.uint32)
    for _, word in [pair for pair in WORDS if pair[0] == dtype]:
        if item_bytes(dtype) > 1 and word % 256 not in (0, 15, 31, 63):
            continue
        wide = np.asarray(arrays.widen_code(codes, FORMATS[dtype].code, word), np.uint32).view(np.float32)
        want = decode(codes, dtype, word % 256, word >= 256)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(wide.astype(np.float64), want)
        zeros = want == 0
        assert (np.signbit(wide[zeros]) == np.signbit(want[zeros])).all()


def test_random_numbers_are_the_same_from_two_texts():
    index = np.array([*range(100), 2**32 - 1, 2**34 + 5, 2**64 - 1], np.uint64)
    for stream, seed in ((0, 0), (7, 2**64 - 1), (2**32 - 1, 12345678901234567)):
        ours = arrays.philox(index, np.uint32(stream), np.uint64(seed))
        np.testing.assert_array_equal(np.asarray(ours, np.uint64), random_words(index, stream, seed))
