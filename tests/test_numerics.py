"""bf16 to the bit against ml_dtypes, the array boundary, and the table of formats."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import InputError
from accel.numerics import (
    FORMATS,
    as_storage,
    by_code,
    decode,
    encode,
    fmt,
    from_storage,
    round_to,
)
from accel.numerics.scalar import round_bf16, widen_bf16

BF16_NAN = 0x7FC0

ALL_CODES = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)


def fp32(bits):
    return np.asarray(bits, dtype=np.uint32).view(np.float32)


def structured_patterns() -> np.ndarray:
    """Around every bf16 value: itself, its neighbours, the halfway pattern and its neighbours, the top of the gap."""
    low = np.array([0x0000, 0x0001, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF], dtype=np.uint32)
    return ((ALL_CODES.astype(np.uint32)[:, None] << 16) | low[None, :]).ravel()


def exact(bits: int) -> Fraction:
    """Value of finite fp32 bits as a rational, from the definition of binary32."""
    sign = -1 if bits >> 31 else 1
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    assert exponent != 0xFF
    scale = max(exponent, 1) - 127 - 23
    return sign * (fraction + (1 << 23 if exponent else 0)) * Fraction(2) ** scale


def nearest_even_code(value: Fraction, negative: bool) -> int:
    """bf16 code nearest to a rational, by searching the ordered list of magnitudes: the rule itself."""
    magnitude = abs(value)
    low, high = 0, 0x7F80  # 0x7F80 (infinity) stands for 2^128 when rounding
    size = lambda code: Fraction(2) ** 128 if code == 0x7F80 else exact(code << 16)  # noqa: E731
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= magnitude else (low, middle)
    below, above = magnitude - size(low), size(high) - magnitude
    code = low if below < above or (below == above and low % 2 == 0) else high
    return code | (0x8000 if negative else 0)


def test_every_bf16_code_decodes_as_ml_dtypes_does():
    ours = decode(ALL_CODES, "bf16")
    theirs = ALL_CODES.view(ml_dtypes.bfloat16).astype(np.float32)
    nan = np.isnan(theirs)
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32)[~nan], theirs.view(np.uint32)[~nan])
    assert np.array_equal(np.isnan(ours), nan)
    assert nan.sum() == 2 * 127


def test_every_bf16_code_survives_decode_and_encode():
    back = encode(decode(ALL_CODES, "bf16"), "bf16")
    nan = (ALL_CODES & 0x7FFF) > 0x7F80
    assert np.array_equal(back[~nan], ALL_CODES[~nan])
    assert (back[nan] == BF16_NAN).all()


@pytest.mark.parametrize("source", ["structured", "random"])
def test_encode_equals_ml_dtypes(source):
    if source == "structured":
        bits = structured_patterns()
    else:
        bits = np.random.default_rng(2024).integers(0, 1 << 32, size=1 << 22, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    nan = np.isnan(values)
    with np.errstate(invalid="ignore"):
        theirs = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    ours = encode(values, "bf16")
    assert ours.dtype == np.uint16
    assert np.array_equal(ours[~nan], theirs[~nan])
    assert nan.any()
    assert (ours[nan] == BF16_NAN).all()


def test_scalar_functions_equal_the_array_functions():
    bits = structured_patterns()[::37]
    assert [int(round_bf16(b)) for b in bits] == encode(bits.view(np.float32), "bf16").tolist()
    assert [int(widen_bf16(c)) for c in ALL_CODES] == decode(ALL_CODES, "bf16").view(np.uint32).tolist()


@given(st.integers(0, 0xFFFFFFFF).filter(lambda b: (b >> 23) & 0xFF != 0xFF))
def test_encode_is_nearest_even_by_definition(bits):
    assert int(round_bf16(bits)) == nearest_even_code(exact(bits), bool(bits >> 31))


@pytest.mark.parametrize(
    ("bits", "code"),
    [
        (0x3F808000, 0x3F80),  # 1 + half an ulp: tie to the even 1
        (0x3F818000, 0x3F82),  # odd + half an ulp: tie up to even
        (0x3F808001, 0x3F81),  # just above the tie
        (0x3F807FFF, 0x3F80),  # just below the tie
        (0x7F7F7FFF, 0x7F7F),  # last value that stays finite
        (0x7F7F8000, 0x7F80),  # first that rounds to infinity
        (0xFF7FFFFF, 0xFF80),  # -largest fp32 rounds to -infinity
        (0x7F800000, 0x7F80),  # infinity stays
        (0x80000000, 0x8000),  # -0 stays
        (0x00000001, 0x0000),  # smallest subnormal is below half of bf16's smallest
        (0x00008000, 0x0000),  # tie of 0 and the smallest bf16 subnormal
        (0x00008001, 0x0001),
        (0x80018000, 0x8002),  # subnormals round to even too, sign kept
        (0x007FFFFF, 0x0080),  # largest subnormal carries into the smallest normal
        (0x7F800001, 0x7FC0),  # a signalling NaN whose payload lies in the dropped half
        (0xFFC00000, 0x7FC0),  # NaN loses sign and payload
        (0x7FFFFFFF, 0x7FC0),
        (0xFFFFFFFF, 0x7FC0),
    ],
)
def test_encode_corner_cases(bits, code):
    assert int(round_bf16(bits)) == code
    assert encode(fp32([bits]), "bf16").tolist() == [code]


def test_float64_is_rounded_once_not_twice():
    # 1 + 2^-8 is a tie that goes to the even 1; the float64 bit far below makes it larger than the tie, and rounding
    # to fp32 first would drop that bit.
    values = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 2.0**-8 - 2.0**-40, -1 - 2.0**-8 - 2.0**-40])
    assert as_storage(values, "bf16").tolist() == [0x3F81, 0x3F80, 0x3F80, 0xBF81]
    assert np.float32(values[0]).astype(ml_dtypes.bfloat16).view(np.uint16) == 0x3F80, "the trap this test is about"


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_float64_to_bf16_is_nearest_even_by_definition(value):
    negative = bool(np.signbit(value))
    assert as_storage(np.array([value]), "bf16").tolist() == [nearest_even_code(Fraction(value), negative)]


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_large_integers_are_rounded_once(value):
    expected = nearest_even_code(Fraction(value), value < 0)
    assert as_storage(np.array([value], dtype=np.int64), "bf16").tolist() == [expected]
    if value >= 0:
        assert as_storage(np.array([value], dtype=np.uint64), "bf16").tolist() == [expected]


@given(st.integers((1 << 63), (1 << 64) - 1))
def test_large_unsigned_integers_are_rounded_once(value):
    expected = nearest_even_code(Fraction(value), negative=False)
    assert as_storage(np.array([value], dtype=np.uint64), "bf16").tolist() == [expected]


def test_large_integers_to_fp32_do_not_round_at_float64_first():
    value = (1 << 60) + (1 << 36) + 1  # just above the fp32 tie between 2^60 and 2^60 + 2^37
    assert float(np.float32(np.float64(value))) == 2.0**60, "the trap this test is about"
    assert as_storage(np.array([value]), "fp32").tolist() == [2.0**60 + 2.0**37]


def test_bits_that_are_already_in_the_format_are_not_touched():
    payloads = np.array([0x7F81, 0xFFC1, 0x7FC0], dtype=np.uint16)
    assert np.array_equal(as_storage(payloads.view(ml_dtypes.bfloat16), "bf16"), payloads)
    nan = fp32([0x7F800123, 0xFFC00001])
    assert np.array_equal(as_storage(nan, "fp32").view(np.uint32), nan.view(np.uint32))


def test_any_layout_gives_contiguous_storage_of_the_same_values():
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    frozen = base.copy()
    frozen.flags.writeable = False
    layouts = {
        "fortran": (np.asfortranarray(base), base),
        "strided": (base[::2, ::-3], base[::2, ::-3].copy()),
        "read-only": (frozen, base),
        "big-endian": (base.astype(">f4"), base),
        "float16": (base.astype(np.float16), base),
        "int8": (base.astype(np.int8), base),
        "ml_dtypes fortran": (np.asfortranarray(base).astype(ml_dtypes.bfloat16, order="K"), base),
        "list": (base.tolist(), base),
        "scalar": (3.0, np.float32(3.0)),
    }
    for name, (array, values) in layouts.items():
        for form in ("bf16", "fp32"):
            stored = as_storage(array, form)
            assert stored.flags.c_contiguous, name
            assert stored.dtype == np.dtype(FORMATS[form].storage), name
            assert np.array_equal(from_storage(stored, form), values), name
            assert stored.shape == np.shape(values), name


def test_from_storage_as_ml_dtypes_keeps_every_bit():
    out = from_storage(ALL_CODES.reshape(256, 256), "bf16", as_="ml_dtypes")
    assert out.dtype == ml_dtypes.bfloat16
    assert np.array_equal(out.view(np.uint16).ravel(), ALL_CODES)


def test_encode_and_decode_never_alias_their_input():
    for form in ("fp32", "int32"):
        source = np.ones(4, np.dtype(FORMATS[form].storage))
        assert not np.may_share_memory(encode(source, form), source)
        assert not np.may_share_memory(decode(source, form), source)
    brain = np.ones(4, ml_dtypes.bfloat16)
    assert not np.may_share_memory(encode(brain, "bf16"), brain)


def test_int32_storage_takes_integers_in_range_only():
    assert as_storage(np.array([-(1 << 31), (1 << 31) - 1]), "int32").tolist() == [-(1 << 31), (1 << 31) - 1]
    for bad in (np.array([1 << 31]), np.array([1 << 63], dtype=np.uint64), np.array([1.0])):
        with pytest.raises(InputError, match="int32"):
            as_storage(bad, "int32")


@pytest.mark.parametrize(
    "bad",
    [
        np.array([1, "x"], dtype=object),
        np.array([1j]),
        np.array(["a"]),
        np.array([True]),
        np.zeros((0, 3)),
        [[1, 2], [3]],
        np.zeros(2, dtype=[("f", "f4")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.zeros(2, np.longdouble),
        None,
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["bf16", "fp32", "int32"])
def test_what_is_no_tensor_is_refused_in_one_line(bad, form):
    with pytest.raises(InputError) as error:
        as_storage(bad, form)
    assert "\n" not in str(error.value)
    assert "; " in str(error.value)


def test_round_to_is_idempotent_and_exact_on_representable_values():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    once = round_to(values, "bf16")
    assert np.array_equal(round_to(once, "bf16"), once)
    assert np.array_equal(round_to(values, "fp32"), values)
    assert (once != values).any()


def test_from_storage_refuses_what_is_not_storage():
    for bad in (np.zeros(3, np.float32), np.zeros(3, np.int16), [1, 2]):
        with pytest.raises(InputError, match="stored as uint16"):
            from_storage(bad, "bf16")
    with pytest.raises(InputError, match="float32"):
        from_storage(np.zeros(3, np.uint16), "bf16", as_="float64")


def test_codes_are_the_ones_written_into_programs():
    expected = ["fp32", "bf16", "fp16", "cfp8-143", "cfp8-152", "shp16", "uhp16", "int8", "uint8", "int32"]
    assert [by_code(code).name for code in range(1, 11)] == expected
    assert list(FORMATS) == expected
    assert all(fmt(name).code == code for code, name in enumerate(expected, 1))


def test_rows_agree_with_the_formats_that_ml_dtypes_and_numpy_define():
    for name, info in (("bf16", ml_dtypes.finfo("bfloat16")), ("fp32", np.finfo("f4")), ("fp16", np.finfo("f2"))):
        row = fmt(name)
        assert (row.bits, row.exponent, row.mantissa) == (info.bits, info.iexp, info.nmant)
        assert 2.0 ** (1 - row.bias) == float(info.smallest_normal)
    for name in ("int8", "uint8", "int32"):
        assert fmt(name).bits == np.iinfo(name).bits
        assert fmt(name).signed == (np.iinfo(name).min < 0)
    for row in FORMATS.values():
        assert np.dtype(row.storage).itemsize == row.bytes


def test_unknown_formats_name_the_nearest():
    with pytest.raises(InputError, match="'bf61'; did you mean 'bf16'"):
        fmt("bf61")
    with pytest.raises(InputError, match="use fp32, bf16"):
        fmt("zzzzzz")
    for bad in (None, 3, np.float32):
        with pytest.raises(InputError, match="give its name"):
            fmt(bad)
    for code in (0, 11, -1):
        with pytest.raises(InputError, match="1 to 10"):
            by_code(code)
