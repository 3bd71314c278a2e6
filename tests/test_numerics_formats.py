"""Every code of every configurable format against exact values, and rounding at every midpoint between neighbours."""

from __future__ import annotations

from fractions import Fraction

import format_oracle as oracle
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import InputError
from accel.numerics import FORMATS, Codes, as_storage, cast, decode, encode, from_storage, round_to
from accel.numerics.arrays import round_bits, widen_code
from accel.numerics.scalar import BIAS_IEEE, int32_to_odd

LAYOUT = {"cfp8-143": (4, 3), "cfp8-152": (5, 2), "shp16": (5, 10), "uhp16": (6, 10)}  # exponent, mantissa bits
BYTES, HALVES = ("cfp8-143", "cfp8-152"), ("shp16", "uhp16")
RULES = ("gap", "ieee")
SPREAD = (0, 1, 7, 15, 31, 32, 62, 63)
CASES = [(f, b, d) for f in BYTES for b in range(64) for d in RULES]
CASES += [(f, b, d) for f in HALVES for b in SPREAD for d in RULES]


def exact(name: str, code: int, bias: int, denormals: str) -> Fraction:
    """Value of a code without its sign, as the contract prints it."""
    _, mantissa = LAYOUT[name]
    exponent, fraction = code >> mantissa, Fraction(code & ((1 << mantissa) - 1), 1 << mantissa)
    if exponent == 0:
        return fraction * Fraction(2) ** ((1 if denormals == "ieee" else 0) - bias)
    return (1 + fraction) * Fraction(2) ** (exponent - bias)


def magnitudes(name: str, bias: int, denormals: str) -> np.ndarray:
    """Values of all codes without signs, ascending, in float64: integers times powers of two, so exact."""
    exponent, mantissa = LAYOUT[name]
    codes = np.arange(1 << (exponent + mantissa))
    fields = codes >> mantissa
    significand = (codes & ((1 << mantissa) - 1)) + np.where(fields > 0, 1 << mantissa, 0)
    power = np.where(fields > 0, fields, 1 if denormals == "ieee" else 0) - bias - mantissa
    return np.ldexp(significand.astype(np.float64), power)


def to_bits(values) -> np.ndarray:
    short = np.asarray(values, np.float64).astype(np.float32)
    assert np.array_equal(short.astype(np.float64), values), "a test value that fp32 does not hold"
    return short.view(np.uint32)


@pytest.mark.parametrize("name", LAYOUT)
def test_the_table_of_values_is_the_text_of_the_contract(name):
    for denormals in RULES:
        for bias in range(64) if name in BYTES else (0, 21, 63):
            table = magnitudes(name, bias, denormals)
            step = 1 if name in BYTES else 61
            for code in [*range(0, len(table), step), *range(2050), len(table) - 1]:
                if code < len(table):
                    assert Fraction(float(table[code])) == exact(name, code, bias, denormals)
            assert (np.diff(table) > 0).all()


@pytest.mark.parametrize(("name", "bias", "denormals"), CASES)
def test_every_code_decodes_to_its_value_and_encodes_to_itself(name, bias, denormals):
    row, table = FORMATS[name], magnitudes(name, bias, denormals)
    codes = np.arange(len(table)).astype(row.storage)
    values = decode(codes, name, bias=bias, denormals=denormals)
    assert values.dtype == np.float32
    assert np.array_equal(values, table)
    assert np.array_equal(encode(values, name, bias=bias, denormals=denormals), codes)
    assert np.array_equal(encode(table, name, bias=bias, denormals=denormals), codes)
    if row.signed:
        negative = (codes | (1 << (row.bits - 1))).astype(row.storage)
        below = decode(negative, name, bias=bias, denormals=denormals)
        assert np.array_equal(below, -values)
        assert np.signbit(below).all(), "-0 is a value of its own"
        assert np.array_equal(encode(below, name, bias=bias, denormals=denormals), negative)
    else:
        assert not encode(-values, name, bias=bias, denormals=denormals).any()


@pytest.mark.parametrize(("name", "bias", "denormals"), CASES)
def test_rounding_turns_at_every_midpoint_and_ties_to_the_even_code(name, bias, denormals):
    row, table = FORMATS[name], magnitudes(name, bias, denormals)
    word = bias | (BIAS_IEEE if denormals == "ieee" else 0)
    low = np.arange(len(table) - 1)
    middle = to_bits((table[:-1] + table[1:]) / 2)
    expected = {0: low + (low & 1), -1: low, +1: low + 1}
    for step, codes in expected.items():
        bits = (middle.astype(np.int64) + step).astype(np.uint32)
        assert np.array_equal(round_bits(bits, row.code, word), codes)
        if row.signed:
            negative = codes | (1 << (row.bits - 1))
            assert np.array_equal(round_bits(bits | np.uint32(0x80000000), row.code, word), negative)
    for step in (-1, 1):  # the fp32 neighbours of each value round back to it
        bits = (to_bits(table[1:]).astype(np.int64) + step).astype(np.uint32)
        assert np.array_equal(round_bits(bits, row.code, word), low + 1)
    # In float64 too, where a value just beside a midpoint would become the midpoint in fp32.
    between = (table[:-1] + table[1:]) / 2
    for side, codes in ((-np.inf, low), (np.inf, low + 1)):
        assert np.array_equal(encode(np.nextafter(between, side), name, bias=bias, denormals=denormals), codes)


@pytest.mark.parametrize("name", LAYOUT)
@pytest.mark.parametrize("denormals", RULES)
def test_specials_saturate_and_nan_is_the_largest_number(name, denormals):
    specials = np.array([np.nan, np.inf, 3e38, 0.0, -0.0, -np.inf, -3e38, 1e-45, -1e-45], np.float32)
    specials = np.append(specials, np.array([0xFFC00001, 0x7F800001], np.uint32).view(np.float32))
    row = FORMATS[name]
    top = (1 << (row.bits - row.signed)) - 1
    sign = 1 << (row.bits - 1) if row.signed else 0
    low = top | sign if row.signed else 0
    expected = [top, top, top, 0, sign, low, low, 0, sign, top, top]
    for bias in (0, 7, 63):
        assert encode(specials, name, bias=bias, denormals=denormals).tolist() == expected
        with np.errstate(invalid="ignore"):
            wide = specials.astype(np.float64)
        assert encode(wide, name, bias=bias, denormals=denormals).tolist() == expected


def test_the_gap_of_the_makers_denormals_is_one_interval():
    # cfp8-143, bias 0: the last denormal is 0.875, the first normal number 2; between them nearest, tie to code 8.
    values = [0.875, 1.0, 1.4374999, 1.4375, 1.4375001, 2.0]
    assert encode(values, "cfp8-143", bias=0).tolist() == [7, 7, 7, 8, 8, 8]
    # cfp8-152: 0.75 and 2, midpoint 1.375.
    assert encode([0.75, 1.3749999, 1.375, 2.0], "cfp8-152", bias=0).tolist() == [3, 3, 4, 4]
    # The other rule has no gap: 1.75 and 2 are neighbours.
    assert encode([1.75, 1.8749999, 1.875, 2.0], "cfp8-143", bias=0, denormals="ieee").tolist() == [7, 7, 8, 8]


@pytest.mark.parametrize(
    ("name", "bias", "twin"),
    [
        ("cfp8-143", 7, ml_dtypes.float8_e4m3),
        ("cfp8-152", 15, ml_dtypes.float8_e5m2),
        ("cfp8-143", 7, ml_dtypes.float8_e4m3fn),
        ("shp16", 15, np.float16),
    ],
    ids=str,
)
def test_ieee_denormals_equal_ml_dtypes_below_its_special_codes(name, bias, twin):
    row = FORMATS[name]
    codes = np.arange(1 << row.bits, dtype=np.uint32).astype(row.storage)
    theirs = codes.view(twin).astype(np.float32)
    finite = np.isfinite(theirs)
    ours = decode(codes, name, bias=bias, denormals="ieee")
    assert np.array_equal(ours.view(np.uint32)[finite], theirs.view(np.uint32)[finite])
    assert finite.sum() >= len(codes) - 2 * (1 << row.mantissa)
    largest = float(np.max(np.abs(theirs[finite])))
    rng = np.random.default_rng(8)
    values = np.ldexp(rng.standard_normal(1 << 18), rng.integers(-40, 20, 1 << 18)).astype(np.float32)
    values = np.concatenate([values[np.abs(values) <= largest], ours[finite]])
    expected = values.astype(twin).view(row.storage)
    assert np.array_equal(encode(values, name, bias=bias, denormals="ieee"), expected)


def test_every_fp16_code_and_rounding_to_fp16_equal_numpy():
    codes = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    theirs = codes.view(np.float16).astype(np.float32)
    nan = np.isnan(theirs)
    ours = decode(codes, "fp16")
    assert np.array_equal(ours.view(np.uint32)[~nan], theirs.view(np.uint32)[~nan])
    assert np.isnan(ours[nan]).all()
    back = encode(ours, "fp16")
    assert np.array_equal(back[~nan], codes[~nan])
    assert (back[nan] == 0x7E00).all()
    # Around every value and every midpoint: the fp32 patterns at and next to both.
    finite = np.sort(theirs[np.isfinite(theirs)])
    edges = np.concatenate([finite, (finite[:-1] + finite[1:]) / 2, [65519.996, 65520, 65536, 1e9, np.inf]])
    bits = np.asarray(edges, np.float32).view(np.uint32).astype(np.int64)
    for step in (-1, 0, 1):
        values = np.clip(bits + step, 0, 0xFF800000).astype(np.uint32).view(np.float32)
        values = values[~np.isnan(values)]
        with np.errstate(over="ignore"):
            expected = values.astype(np.float16).view(np.uint16)
        assert np.array_equal(encode(values, "fp16"), expected)


@given(st.floats(allow_nan=False, width=64))
def test_float64_to_fp16_is_rounded_once_as_numpy_does(value):
    with np.errstate(over="ignore"):
        assert encode([value], "fp16").view(np.float16)[0] == np.float64(value).astype(np.float16)


@given(st.sampled_from(sorted(LAYOUT)), st.integers(0, 63), st.sampled_from(RULES), st.data())
def test_random_values_round_to_the_nearest_by_exact_rationals(name, bias, denormals, data):
    row = FORMATS[name]
    scale = data.draw(st.integers(-75, 66))
    significand = data.draw(st.integers(1, (1 << 24) - 1))
    value = np.ldexp(float(significand), scale - 24)
    code = int(encode([value], name, bias=bias, denormals=denormals)[0])
    top = (1 << (row.bits - row.signed)) - 1
    size = lambda c: exact(name, c, bias, denormals)  # noqa: E731
    wanted = Fraction(value)
    if wanted >= size(top):
        assert code == top
        return
    error = abs(size(code) - wanted)
    for neighbour in (code - 1, code + 1):
        if 0 <= neighbour <= top:
            other = abs(size(neighbour) - wanted)
            assert error < other or (error == other and code % 2 == 0)


@pytest.mark.parametrize("name", ["int8", "uint8", "int32"])
def test_casts_to_integers_round_to_even_and_saturate(name):
    info = np.iinfo(name)
    rng = np.random.default_rng(5)
    values = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, -0.49999997, 1e-45, -0.0, 126.5, 127.5, 255.5, -128.5]
    values += [254.5, 256.0, 300.0, -129.0, 2.0**31, 2.0**31 - 128, -(2.0**31), -(2.0**32), 3e38, -3e38]
    values += [2.0**23 + 1, 2.0**24 + 2, 8388607.5, 4194303.25, np.inf, -np.inf]
    values = np.array([*values, *rng.standard_normal(1000) * 200, *(rng.standard_normal(1000) * 2.0**30)], np.float32)
    expected = [int(np.clip(np.rint(np.float64(v)), info.min, info.max)) for v in values]
    assert cast(values, name).tolist() == expected
    assert cast(values.astype(np.float64), name).tolist() == expected
    assert cast(np.array([np.nan, -np.nan], np.float32), name).tolist() == [0, 0]
    assert cast(np.array([np.nan]), name).tolist() == [0]
    assert cast(np.array([-(1 << 40), -1, 5, 1 << 40]), name).tolist() == [info.min, max(-1, info.min), 5, info.max]
    assert cast(np.array([5, 1 << 63], np.uint64), name).tolist() == [5, info.max]


def test_integer_codes_widen_to_their_values():
    every = np.arange(256, dtype=np.uint32)
    assert np.array_equal(widen_code(every, FORMATS["uint8"].code, 0).view(np.float32), every)
    signed = every.astype(np.uint8).view(np.int8)
    assert np.array_equal(widen_code(every, FORMATS["int8"].code, 0).view(np.float32), signed)


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_int32_widens_nearest_even_and_reaches_short_formats_with_one_rounding(value):
    # Python divides integers with one rounding, and NumPy's own path from float64 rounds once: both independent.
    word = np.array([value & 0xFFFFFFFF], np.uint32)
    assert widen_code(word, FORMATS["int32"].code, 0).view(np.float32)[0] == np.float32(float(value))
    odd = np.array([int32_to_odd(word[0])], np.uint32)
    with np.errstate(over="ignore"):
        assert round_bits(odd, FORMATS["fp16"].code, 0)[0] == np.float64(value).astype(np.float16).view(np.uint16)
    table = magnitudes("cfp8-143", 0, "gap")
    nearest = int(np.argmin(np.abs(table - abs(value))))  # the smaller of two equally near
    if nearest + 1 < len(table) and abs(value) - table[nearest] == table[nearest + 1] - abs(value):
        nearest += nearest % 2
    assert round_bits(odd, FORMATS["cfp8-143"].code, 0)[0] == nearest | (0x80 if value < 0 else 0)


@pytest.mark.parametrize("name", ["bf16", "fp16", "cfp8-143", "cfp8-152", "shp16"])
def test_int32_beside_every_midpoint_rounds_once(name):
    """One more or less than a midpoint of the target: fp32 may drop that very bit, and must not forget it."""
    fraction = FORMATS[name].mantissa
    sizes = [(1 << e) + odd * (1 << (e - fraction - 1)) + one
             for e in range(fraction + 1, 31) for odd in (1, 3) for one in (-1, 0, 1)]  # fmt: skip
    numbers = np.array([*sizes, *(-n for n in sizes)], np.int64)
    odd = np.array([int32_to_odd(np.uint32(n & 0xFFFFFFFF)) for n in numbers.tolist()], np.uint32)
    expected = oracle.nearest(name, numbers.astype(np.float64))  # float64 holds every int32
    assert round_bits(odd, FORMATS[name].code, 0).tolist() == expected.tolist()


def test_integer_formats_keep_their_dtype_and_refuse_what_is_not_in_them():
    assert as_storage(np.array([-128, 127]), "int8").dtype == np.int8
    assert round_to(np.array([0, 255]), "uint8").tolist() == [0, 255]
    for bad, name in (([128], "int8"), ([-129], "int8"), ([-1], "uint8"), ([256], "uint8")):
        with pytest.raises(InputError, match=f"outside {name}"):
            as_storage(np.array(bad), name)
    with pytest.raises(InputError, match="round it to integers"):
        as_storage(np.array([1.0]), "int8")


def test_short_float_arrays_of_ml_dtypes_are_values():
    for kind in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16, np.float16):
        values = np.array([0.5, -1.5, 2.0], np.float32).astype(kind)
        assert decode(encode(values, "cfp8-152", bias=15), "cfp8-152", bias=15).tolist() == [0.5, -1.5, 2.0]
    halves = np.array([0x7C01, 0x3C00], np.uint16).view(np.float16)
    assert as_storage(halves, "fp16").tolist() == [0x7C01, 0x3C00], "bits of the format itself stay"
    back = from_storage(as_storage(halves, "fp16"), "fp16", as_="ml_dtypes")
    assert back.dtype == np.float16
    assert back.view(np.uint16).tolist() == [0x7C01, 0x3C00]


def test_codes_pass_bit_by_bit_and_only_where_they_belong():
    raw = np.array([[0x00, 0x80], [0x7F, 0x08]], np.uint8)
    codes = Codes(raw, "cfp8-143", bias=5)
    assert np.array_equal(as_storage(codes, "cfp8-143", bias=5), raw)
    assert as_storage(np.uint8([8]), "cfp8-143", bias=1).tolist() == [0x20], "a bare uint8 array holds values"
    assert not np.may_share_memory(encode(codes, "cfp8-143", bias=5), raw)
    for other in ({"bias": 6}, {"bias": 5, "denormals": "ieee"}):
        with pytest.raises(InputError, match="decode them"):
            as_storage(codes, "cfp8-143", **other)
    with pytest.raises(InputError, match="decode them"):
        as_storage(codes, "fp32")
    assert np.array_equal(as_storage(codes[:1], "cfp8-143", bias=5), raw[:1])
    with pytest.raises(InputError, match="take a slice"):
        codes[0, 0]
    with pytest.raises(InputError, match="stored as uint8"):
        Codes(raw.astype(np.uint16), "cfp8-143", bias=5)
    with pytest.raises(InputError, match="bias"):
        Codes(raw, "cfp8-143", bias=64)


@pytest.mark.parametrize("bad", [None, -1, 64, 1.5, "7", True])
def test_a_bias_is_an_integer_that_fits_six_bits(bad):
    for call in (lambda: encode([1.0], "cfp8-143", bias=bad), lambda: decode(np.uint8([0]), "cfp8-143", bias=bad)):
        with pytest.raises(InputError, match=r"bias.*; give|give bias"):
            call()


def test_options_that_mean_nothing_are_refused():
    for options in ({"bias": 3}, {"denormals": "ieee"}):
        with pytest.raises(InputError, match="fixed exponent bias"):
            encode([1.0], "bf16", **options)
    assert encode([1.0], "bf16", bias=0).tolist() == [0x3F80], "0 is what other formats carry in programs"
    with pytest.raises(InputError, match='use "gap" or "ieee"'):
        encode([1.0], "cfp8-143", bias=3, denormals="flush")
    with pytest.raises(InputError, match='use "nearest" or "stochastic"'):
        encode([1.0], "bf16", rounding="up")
