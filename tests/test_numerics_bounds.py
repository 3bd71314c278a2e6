"""The chain oracle against rational arithmetic, and the error bound against measured and worst-case errors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import InputError
from accel.numerics import UNIT_ROUNDOFF, chain_matmul, decode, gamma, matmul_error_bound, round_to

LARGEST = Fraction(2) ** 128 - Fraction(2) ** 104


def to_fp32(value: Fraction) -> float:
    """A rational rounded once to binary32, nearest-even, subnormals kept: IEEE 754 written out."""
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(magnitude / quantum) * quantum  # Python rounds a Fraction half to even
    sign = -1.0 if value < 0 else 1.0
    return sign * (float("inf") if rounded > LARGEST else float(rounded))


def chain(a: np.ndarray, b: np.ndarray, start: float) -> float:
    """fma(a_k, b_k, c) for k ascending, each rounded once, in rationals."""
    c = start
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(c)
        c = to_fp32(exact)
        if np.isinf(c):
            return c
    return c


def bf16_values(code: int) -> float:
    return float(np.array([code << 16], dtype=np.uint32).view(np.float32)[0])


def fp32_values(bits: int) -> float:
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


FINITE = st.integers(0, 0xFFFF).filter(lambda c: (c & 0x7F80) != 0x7F80).map(bf16_values)
# Near neighbours in exponent cancel and tie; any code at all meets subnormals, underflow and 250 binades of distance.
NEAR = st.integers(0, 0x3FF).map(lambda c: bf16_values(0x3E80 + (c & 0x1FF) + ((c >> 9) << 15)))
TINY = st.integers(0, 0x1FF).map(lambda c: bf16_values(0x1F80 + (c & 0xFF) + ((c >> 8) << 15)))


# 22-bit products (fp16, shp16), and all of fp32, where only rounding to odd is exact: near in exponent or not.
HALF = st.integers(0, 0xFFFF).map(lambda c: float(decode(np.array([c], np.uint16), "shp16", bias=25)[0]))
SINGLE = st.integers(0, 0xFFFFFFFF).filter(lambda c: (c & 0x7F800000) != 0x7F800000).map(fp32_values)
SAME = st.integers(0, 0x3FFFFFF).map(lambda c: fp32_values(0x3F000000 + (c & 0x1FFFFFF) | ((c >> 25) << 31)))
# Few bits set far apart: products and sums that lie on or just beside a rounding point.
EDGE = st.tuples(st.integers(0, 23), st.integers(-70, 12), st.sampled_from([-1.0, 1.0])).map(
    lambda t: t[2] * (1.0 + 2.0 ** -t[0]) * 2.0 ** t[1]
)


@settings(max_examples=600)
@given(st.data(), st.sampled_from([FINITE, NEAR, TINY, HALF, SINGLE, SAME, EDGE]), st.integers(1, 8))
def test_chain_oracle_is_the_chain_in_rationals(data, values, depth):
    a = np.array([data.draw(st.lists(values, min_size=depth, max_size=depth)) for _ in range(2)], dtype=np.float32)
    b = np.array([data.draw(st.lists(values, min_size=depth, max_size=depth)) for _ in range(2)], dtype=np.float32).T
    start = np.array([[data.draw(values), 0.0], [0.0, 1.0]], dtype=np.float32)
    ours = chain_matmul(a, b, start)
    for i in range(2):
        for j in range(2):
            expected = chain(a[i], b[:, j], float(start[i, j]))
            if np.isinf(expected):
                assert np.isinf(ours[i, j]) or np.isnan(ours[i, j]), "later steps may add the opposite infinity"
            else:
                assert float(ours[i, j]) == expected


def test_chain_oracle_keeps_subnormals_and_ties_to_even_once():
    one = np.array([[1.0, 2.0**-12]], dtype=np.float32)
    # 1 + 2^-24 is a tie that goes to 1; a plain float64 sum rounded at the end would see 1 + 2^-24 + 2^-24 = 1 + 2^-23.
    b = np.array([[1.0], [2.0**-12]], dtype=np.float32)
    assert chain_matmul(one, b)[0, 0] == 1.0
    twice = np.array([[1.0, 2.0**-12, 2.0**-12]], dtype=np.float32)
    assert chain_matmul(twice, np.vstack([b, b[1:]]))[0, 0] == 1.0
    # The product 2^-149 is the smallest subnormal, 2^-150 ties to zero, 1.5 x 2^-149 ties to 2 x 2^-149.
    tiny = np.array([[2.0**-75], [2.0**-76], [1.5 * 2.0**-75]], dtype=np.float32)
    small = chain_matmul(tiny, np.array([[2.0**-74]], dtype=np.float32))[:, 0]
    assert small.view(np.uint32).tolist() == [1, 0, 2]


def test_chain_order_is_ascending():
    a = np.array([[2.0**24, 1.0, -(2.0**24)]], dtype=np.float32)
    ones = np.ones((3, 1), dtype=np.float32)
    assert chain_matmul(a, ones)[0, 0] == 0.0  # 2^24 + 1 ties back to 2^24
    assert chain_matmul(a[:, [0, 2, 1]], ones)[0, 0] == 1.0


def test_chain_writes_the_one_nan_and_follows_ieee_infinities():
    inf, nan = np.float32(np.inf), np.array([0xFFC10000], dtype=np.uint32).view(np.float32)[0]
    a = np.array([[inf, 0], [nan, 1], [inf, 1], [-inf, 1], [2.0**127, 2.0**127]], dtype=np.float32)
    b = np.array([[0.0, 1.0], [1.0, 1.0]], dtype=np.float32)
    bits = chain_matmul(a, b).view(np.uint32)
    quiet, plus, minus = 0x7FC00000, 0x7F800000, 0xFF800000
    assert bits[:, 0].tolist() == [quiet, quiet, quiet, quiet, 0x7F000000]
    assert bits[:, 1].tolist() == [plus, quiet, plus, minus, plus]


def test_chain_starts_from_plus_zero():
    minus = np.array([[-0.0]], dtype=np.float32)
    plus = np.ones((1, 1), dtype=np.float32)
    assert chain_matmul(minus, plus).view(np.uint32)[0, 0] == 0
    assert chain_matmul(minus, plus, minus).view(np.uint32)[0, 0] == 0x80000000


def test_chain_is_exact_on_small_integers():
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-100, 101, size=s) for s in ((9, 300), (300, 7)))
    assert np.array_equal(chain_matmul(a.astype(np.float32), b.astype(np.float32)), a @ b)


def test_chain_refuses_what_it_is_not_defined_for():
    good = np.ones((2, 2), dtype=np.float32)
    for bad, match in (
        (good.astype(np.float64), "float32"),
        (good.astype(np.int32), "int8"),
        (good.astype(np.int8), "both as"),
        (good[0], "float32"),
        (good[:0], "non-empty"),
        (np.ones((2, 3), np.float32), "columns of a"),
    ):
        with pytest.raises(InputError, match=match):
            chain_matmul(bad, good)
    for start in (np.ones((1, 2), np.float32), np.ones((2, 2))):
        with pytest.raises(InputError, match="c0"):
            chain_matmul(good, good, start)


def test_gamma_is_the_textbook_formula():
    assert Fraction(gamma(1)) - Fraction(1, 2**24 - 1) < Fraction(1, 2**76)
    assert gamma(0) == 0.0
    assert gamma(3, UNIT_ROUNDOFF["bf16"]) == 3 / 253
    for k, u in ((-1, 0.1), (10, 0.1), (1, 0.0), (1 << 24, UNIT_ROUNDOFF["fp32"])):
        with pytest.raises(InputError):
            gamma(k, u)


@pytest.mark.parametrize("out", ["fp32", "bf16"])
@pytest.mark.parametrize("scale", [1.0, 2.0**-70, 2.0**40])
def test_bound_holds_against_exact_rationals_and_is_not_idle(out, scale):
    rng = np.random.default_rng(7)
    a = round_to(rng.standard_normal((6, 64)) * scale, "bf16")
    b = round_to(rng.standard_normal((64, 5)) * scale, "bf16")
    c0 = round_to(rng.standard_normal((6, 5)) * scale * scale, "bf16")
    got = round_to(chain_matmul(a, b, c0), out)
    bound = matmul_error_bound(a, b, c0, out=out)
    worst = 0.0
    for i in range(6):
        for j in range(5):
            products = (Fraction(x) * Fraction(y) for x, y in zip(a[i].tolist(), b[:, j].tolist(), strict=True))
            error = abs(Fraction(float(got[i, j])) - Fraction(float(c0[i, j])) - sum(products))
            assert error <= Fraction(bound[i, j])
            worst = max(worst, float(error / Fraction(bound[i, j])))
    assert worst > 1e-3, "a bound a thousand times too wide would show nothing"


def test_bound_is_reached_within_a_factor_by_the_worst_case():
    # From 1, adding 2^-24 (1 + 2^-7) rounds up to a whole ulp each time: nearly k half-ulps of error, all of one sign.
    depth = 128
    a = np.full((1, depth), 2.0**-24, dtype=np.float32)
    a[0, 0] = 1.0
    b = np.full((depth, 1), 1.0 + 2.0**-7, dtype=np.float32)
    b[0, 0] = 1.0
    error = abs(float(chain_matmul(a, b)[0, 0]) - float((a.astype(float) @ b.astype(float))[0, 0]))
    bound = float(matmul_error_bound(a, b)[0, 0])
    assert 0.9 * bound < error <= bound


def test_bound_is_infinite_where_none_holds():
    big = np.full((1, 2), 2.0**127, dtype=np.float32)
    assert np.isinf(matmul_error_bound(big, np.ones((2, 1)))).all()
    assert np.isinf(matmul_error_bound(np.array([[np.nan]]), np.ones((1, 1)))).all()
    assert np.isinf(matmul_error_bound(np.array([[np.inf]]), np.zeros((1, 1)))).all()


def test_bound_refuses_other_shapes_and_formats():
    one = np.ones((2, 2))
    with pytest.raises(InputError, match="give m x k"):
        matmul_error_bound(one, np.ones((3, 2)))
    with pytest.raises(InputError, match="c0"):
        matmul_error_bound(one, one, np.ones((1, 1)))
    with pytest.raises(InputError, match="int8"):
        matmul_error_bound(one, one, out="int8")
    with pytest.raises(InputError, match="integers into int32"):
        matmul_error_bound(one, one, out="int32")
    with pytest.raises(InputError, match="give bias"):
        matmul_error_bound(one, one, out="cfp8-143")


def test_fp32_operands_need_the_rounding_to_odd():
    # 1 + 2^-24 - 2^-60: below the tie of 1 and 1 + 2^-23, but float64 rounds it to the tie. c = 1, a b = the rest.
    a = np.array([[np.float32(2.0**-12 * (1 - 2.0**-18))]])
    b = np.array([[np.float32(2.0**-12 * (1 + 2.0**-18))]])  # the product is 2^-24 (1 - 2^-36)
    odd = np.array([[1.0 + 2.0**-23]], np.float32)  # odd last place: the tie would go up
    assert float(np.float32(float(odd[0, 0]) + float(a[0, 0]) * float(b[0, 0]))) == 1.0 + 2.0**-22, "the trap"
    assert chain_matmul(a, b, odd)[0, 0] == np.float32(1.0 + 2.0**-23)


@pytest.mark.parametrize("left", [np.int8, np.uint8])
@pytest.mark.parametrize("right", [np.int8, np.uint8])
def test_integer_chain_is_the_sum_modulo_2_to_32(left, right):
    rng = np.random.default_rng(4)
    a = rng.integers(np.iinfo(left).min, np.iinfo(left).max + 1, (3, 70)).astype(left)
    b = rng.integers(np.iinfo(right).min, np.iinfo(right).max + 1, (70, 4)).astype(right)
    start = rng.integers(-(1 << 31), 1 << 31, (3, 4)).astype(np.int32)
    got = chain_matmul(a, b, start)
    assert got.dtype == np.int32
    for i in range(3):
        for j in range(4):
            total = int(start[i, j]) + sum(int(x) * int(y) for x, y in zip(a[i], b[:, j], strict=True))
            assert int(got[i, j]) == (total + (1 << 31)) % (1 << 32) - (1 << 31)


def test_integer_chain_wraps():
    top = np.full((1, 1), 127, np.int8)
    assert chain_matmul(top, top, np.array([[(1 << 31) - 1]], np.int32))[0, 0] == -(1 << 31) + 127 * 127 - 1


OUTPUTS = [("fp16", {}), ("cfp8-143", {"bias": 5}), ("cfp8-143", {"bias": 5, "denormals": "ieee"})]
OUTPUTS += [("cfp8-152", {"bias": 12}), ("shp16", {"bias": 18}), ("uhp16", {"bias": 20}), ("bf16", {}), ("fp32", {})]


@pytest.mark.parametrize(("out", "options"), OUTPUTS, ids=str)
@pytest.mark.parametrize("operand", ["bf16", "fp16", "cfp8-143", "fp32"])
def test_bound_holds_for_every_pair_of_formats(out, options, operand):
    rng = np.random.default_rng(9)
    own = {"bias": 9} if operand == "cfp8-143" else {}
    worst, finite = 0.0, 0
    for scale in (1.0, 2.0**-5, 2.0**-9):
        a = round_to(rng.standard_normal((8, 24)) * scale, operand, **own)
        b = round_to(rng.standard_normal((24, 8)), operand, **own)
        got = round_to(chain_matmul(a, b), out, **options)
        bound = matmul_error_bound(a, b, out=out, **options)
        for i in range(8):
            for j in range(8):
                exact = sum(Fraction(x) * Fraction(y) for x, y in zip(a[i].tolist(), b[:, j].tolist(), strict=True))
                if np.isfinite(bound[i, j]):
                    error = abs(Fraction(float(got[i, j])) - exact)
                    assert error <= Fraction(bound[i, j])
                    worst, finite = max(worst, float(error / Fraction(bound[i, j]))), finite + 1
    assert finite > 60
    assert worst > (0.001 if out == "fp32" else 0.1), "a bound far too wide would show nothing"


def test_bound_of_integers_is_zero_until_the_sum_may_wrap():
    byte = np.full((1, 1 << 17), 127, np.int8)
    assert matmul_error_bound(byte[:, :64], byte[:, :64].T, out="int32")[0, 0] == 0.0
    assert np.isinf(matmul_error_bound(byte, byte.T, np.array([[1 << 28]]), out="int32")[0, 0])


def test_bound_is_infinite_where_a_result_saturates():
    one = np.ones((1, 1), np.float32)
    assert np.isfinite(matmul_error_bound(one, one, out="cfp8-143", bias=14)).all()  # up to 3.75
    assert np.isinf(matmul_error_bound(one * 4, one, out="cfp8-143", bias=14)).all()
    assert np.isinf(matmul_error_bound(one * 65519, one, out="fp16")).all()
