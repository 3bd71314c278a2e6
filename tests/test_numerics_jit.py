"""The scalar functions mean the same compiled, over NumPy arrays and as plain Python: one text, three worlds."""

from __future__ import annotations

import numpy as np
import pytest

from accel.jit import njit
from accel.numerics import FORMATS, arrays, bulk, casts, compiled, scalar, stochastic

BIAS_WORDS = (0, 7, 15, 63, 256, 7 | 256, 63 | 256)
CASES = [(row.name, word) for row in FORMATS.values() for word in (BIAS_WORDS if row.kind == "cfp" else (0,))]
COUNT = 1 << 16


@njit
def round_all(bits, dtype, word, codes):
    for i in range(bits.size):
        codes[i] = compiled.round_bits(bits[i], dtype, word)


@njit
def round_all_sr(bits, dtype, word, numbers, codes):
    for i in range(bits.size):
        codes[i] = compiled.round_bits_sr(bits[i], dtype, word, numbers[i])


@njit
def widen_all(codes, dtype, word, bits):
    for i in range(codes.size):
        bits[i] = compiled.widen_code(codes[i], dtype, word)


@njit
def odd_all(codes, bits):
    for i in range(codes.size):
        bits[i] = compiled.int32_to_odd(codes[i])


@njit
def philox_all(first, stream, seed, numbers):
    for i in range(numbers.size):
        numbers[i] = compiled.philox(np.uint64(first + np.uint64(i)), stream, seed)


def patterns() -> np.ndarray:
    """fp32 bits: any at all, and as many of sizes that the short formats hold, with the specials in front."""
    rng = np.random.default_rng(3)
    anything = rng.integers(0, 1 << 32, size=COUNT // 2, dtype=np.uint64).astype(np.uint32)
    scales = rng.integers(-70, 70, COUNT // 2)
    sized = np.ldexp(rng.standard_normal(COUNT // 2), scales).astype(np.float32).view(np.uint32)
    sized[::3] &= np.uint32(0xFFF00000)  # few bits: exact values and ties
    bits = np.concatenate([anything, sized])
    bits[:8] = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0xFF7FFFFF]
    return bits


@pytest.mark.parametrize(("name", "word"), CASES)
def test_nearest_is_one_function_in_three_worlds(name, word):
    row, bits = FORMATS[name], patterns()
    over_arrays = arrays.round_bits(bits, row.code, word)
    jitted = np.zeros(COUNT, np.uint32)
    round_all(bits, row.code, word, jitted)
    assert np.array_equal(jitted, over_arrays)
    looped = np.zeros(COUNT, f"uint{row.bits}")
    bulk.round_nearest(name, bits, looped, word)
    assert np.array_equal(looped, over_arrays)
    some = np.r_[:8, 8:COUNT:257]
    assert [int(scalar.round_bits(bits[i], row.code, word)) for i in some] == over_arrays[some].tolist()


@pytest.mark.parametrize(("name", "word"), CASES)
def test_stochastic_is_one_function_in_three_worlds(name, word):
    row, bits = FORMATS[name], patterns()
    numbers = np.random.default_rng(4).integers(0, 1 << 32, size=COUNT, dtype=np.uint64).astype(np.uint32)
    with np.errstate(invalid="ignore"):
        wide = bits.view(np.float32).astype(np.float64).view(np.uint64)
    over_arrays = arrays.round_bits64_sr(wide, row.code, word, numbers)
    jitted = np.zeros(COUNT, np.uint32)
    round_all_sr(bits, row.code, word, numbers, jitted)
    assert np.array_equal(jitted, over_arrays)
    looped = np.zeros(COUNT, f"uint{row.bits}")
    drawn = arrays.round_bits64_sr(wide, row.code, word, casts.random_bits(COUNT, 77, 5))
    for source in (bits, wide):
        bulk.round_stochastic(name, source, looped, word, 77, 5)
        assert np.array_equal(looped, drawn)
    with np.errstate(invalid="ignore"):
        for i in np.r_[:8, 8:COUNT:1021]:
            assert stochastic.round_bits_sr(bits[i], row.code, word, numbers[i]) == over_arrays[i]


@pytest.mark.parametrize(("name", "word"), CASES)
def test_widening_is_one_function_in_three_worlds(name, word):
    row = FORMATS[name]
    codes = patterns() if row.bits == 32 else np.arange(1 << row.bits, dtype=np.uint32)
    over_arrays = arrays.widen_code(codes, row.code, word)
    jitted = np.zeros(codes.size, np.uint32)
    widen_all(codes, row.code, word, jitted)
    assert np.array_equal(jitted, over_arrays)
    looped = np.zeros(codes.size, np.uint32)
    bulk.widen(name, codes.astype(f"uint{row.bits}"), looped, word)
    assert np.array_equal(looped, over_arrays)
    some = np.arange(0, codes.size, 1 + codes.size // 997)
    assert [int(scalar.widen_code(codes[i], row.code, word)) for i in some] == over_arrays[some].tolist()


def test_random_numbers_and_odd_integers_are_one_function_in_two_worlds():
    seed, stream, first = (1 << 63) | 77, (1 << 32) - 3, (1 << 34) - 1000
    numbers = np.zeros(5000, np.uint32)
    philox_all(np.uint64(first), np.uint32(stream), np.uint64(seed), numbers)
    assert np.array_equal(numbers, casts.random_bits(5000, seed, stream, first))
    for i in (0, 1, 2, 3, 999, 1000, 1001):
        assert scalar.philox(np.uint64(first + i), np.uint32(stream), np.uint64(seed)) == numbers[i]
    odd = np.zeros(COUNT, np.uint32)
    odd_all(patterns(), odd)
    for i in range(0, COUNT, 997):
        assert scalar.int32_to_odd(patterns()[i]) == odd[i]


def test_the_size_of_an_array_does_not_show_in_its_codes():
    values = patterns().view(np.float32)[8:]
    values = np.where(np.isnan(values), np.float32(1), values)
    long = np.concatenate([values, values])
    assert values.size < casts.JIT_FROM <= long.size
    for name, word in CASES:
        row = FORMATS[name]
        short_codes = casts.round_array(values, row, word)
        assert np.array_equal(casts.round_array(long, row, word)[: values.size], short_codes)
        drawn = casts.round_array_stochastic(values, row, word, 3, 4)
        for kind in (np.float32, np.float64):
            again = casts.round_array_stochastic(long.astype(kind), row, word, 3, 4)
            assert np.array_equal(again[: values.size], drawn)
        widened = casts.widen_array(short_codes, row, word)
        assert np.array_equal(casts.widen_array(np.concatenate([short_codes] * 2), row, word)[: values.size], widened)
