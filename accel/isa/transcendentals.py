"""Defines exp, log, tanh, sigmoid, erf and rsqrt to the bit, in micro-operations that each round once.

Each function is straight-line code: an argument reduction, a polynomial in Horner form, and what puts the result
together. There is no other truth: the executor compiles this text, and a row costs the micro-operations that it counts
here. One micro-operation is one pass of the fp32 lanes, whatever the format of the operands:

  + - *         rounded once to nearest even; a negated operand is free, as is one taken without its sign (fma alike)
  fma clamp     three operands: x * y + z rounded once; the one in the middle of x and two bounds
  scale         x * 2^n with one rounding, also into subnormals (AVX-512 names it VSCALEF, SVE FSCALE)
  mantissa      x * 2^-n in [3/4, 3/2), exact; 1 for zero and infinity, NaN below zero (VGETMANT)
  exponent      that n; -Inf for zero, +Inf for infinity (VGETEXP)
  less select   a comparison to a mask; one of two numbers by a mask
  with_sign     the size of one number, the sign of another
  / square_root the unit's own, correctly rounded, at `divide_passes` and `sqrt_passes`

NaN in, NaN out, canonical when written. Coefficients are minimax fits of this project (Lawson iteration over 4,000
Chebyshev points in float64, then rounded to fp32 one after the other, lowest degree first, the rest fitted anew);
interval and largest error stand above each. Bounds in ulp of the fp32 result, found by going through *all* 2^32 inputs:
see `ULP`. Exact: exp(0) = 1, exp(-Inf) = +0; log(1) = +0, log of a zero -Inf, log below zero NaN; tanh and erf are odd,
1 at infinity; sigmoid(0) = 1/2; rsqrt(+-0) = +-Inf, rsqrt below zero NaN. Subnormal results are rounded, not flushed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.isa.semantics import fma

__all__ = ["MICRO", "ULP", "clamp", "erf", "exp", "exponent", "fma", "less", "log", "mantissa", "rsqrt", "scale",
           "select", "sigmoid", "square_root", "tanh", "with_sign"]  # fmt: skip

F = np.float32
ZERO, HALF, ONE, TWO, INFINITY, NAN = F(0.0), F(0.5), F(1.0), F(2.0), F(np.inf), F(np.nan)
LOG2E = F(1.4426950408889634)
# ln 2 in two parts: the first has 15 fraction bits, so that x - n * LN2_HIGH is exact for every |n| <= 151.
LN2_HIGH, LN2_LOW = F(0.693145751953125), F(1.4286068203094172e-06)
TO_INTEGER = F(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest whole number in the last bits
EXP_LOW, EXP_HIGH = F(-104.0), F(89.0)  # below half the least subnormal, above the largest number

# (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, error of e^r below 2^-28.2
E2, E3, E4, E5, E6 = (
    F(float.fromhex(c))
    for c in ("0x1.fffffcp-2", "0x1.555492p-3", "0x1.5558aep-5", "0x1.12398p-7", "0x1.6a4f28p-10")
)  # fmt: skip
# (tanh(x) / x - 1) / x^2 in x^2 on |x| <= 9/16, error of tanh below 2^-29.4
H0, H1, H2, H3, H4 = (
    F(float.fromhex(c))
    for c in ("-0x1.555548p-2", "0x1.110c62p-3", "-0x1.b906eap-5", "0x1.581e7ep-6", "-0x1.94a92ep-8")
)  # fmt: skip
# (ln(1 + f) - f) / f^2 on [-1/4, 1/2], error of ln(1 + f) below 2^-27.5
L2, L3, L4, L5, L6, L7, L8, L9, L10 = (
    F(float.fromhex(c))
    for c in (
        "-0x1p-1", "0x1.5555a4p-2", "-0x1.000046p-2", "0x1.996978p-3", "-0x1.54ee38p-3", "0x1.28841ap-3",
        "-0x1.0d989cp-3", "0x1.acce26p-4", "-0x1.718ed6p-5",
    )
)  # fmt: skip
# erf(x) / x - 1 in x^2 on |x| <= 1, error of erf below 2^-29.3
S0, S1, S2, S3, S4, S5, S6 = (
    F(float.fromhex(c))
    for c in (
        "0x1.06eba8p-3", "-0x1.81273ep-2", "0x1.ce2ce6p-4", "-0x1.b7f71ap-6", "0x1.53f224p-8", "-0x1.a3515ep-11",
        "0x1.4771fcp-14",
    )
)  # fmt: skip
# -ln(erfc(a)) / a on [1, 4], error of erf below 2^-31.2; from 3.92 on erf is 1 in fp32
G0, G1, G2, G3, G4, G5, G6 = (
    F(float.fromhex(c))
    for c in (
        "0x1.20f21cp+0", "0x1.451acp-1", "0x1.b4595ep-4", "-0x1.89603cp-6", "0x1.ec7aa2p-9", "-0x1.6f93ccp-12",
        "0x1.d4588ep-17",
    )
)  # fmt: skip
ERF_SMALL, ERF_HIGH, TANH_SMALL = F(1.0), F(4.0), F(0.5625)

FRACTION_64, BIAS_64 = np.int64(52), np.int64(1023)
HALF_64 = np.int64(1 << 51)  # half of a significand's range: it carries from 3/2 on
TO_INTEGER_64 = np.float64(6755399441055744.0 + 1023.0)  # 1.5 * 2^52, and the bias of a float64 exponent
SIGN, SIZE = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)


# --- micro-operations -------------------------------------------------------------------------------------------------
def clamp(x: Any, low: Any, high: Any) -> Any:
    """Return x, or the bound that it is beyond; NaN stays."""
    return low if x < low else (high if x > high else x)


def less(x: Any, y: Any) -> Any:
    """Return whether x < y."""
    return x < y


def select(mask: Any, x: Any, y: Any) -> Any:
    """Return x where the mask holds, otherwise y."""
    return x if mask else y


def scale(x: Any, n: Any) -> Any:
    """Return x * 2^n for a whole number n from -1022 to 1023 in fp32, rounded once: float64 holds the product."""
    biased = np.float64(np.float64(n) + TO_INTEGER_64).view(np.int64)  # n + 1023 in the last bits
    return np.float32(np.float64(x) * np.int64(biased << FRACTION_64).view(np.float64))


def exponent(x: Any) -> Any:
    """Return n, in fp32, such that x * 2^-n lies in [3/4, 3/2); -Inf for zero, +Inf for infinity."""
    n = np.float32(((np.float64(x).view(np.int64) + HALF_64) >> FRACTION_64) - BIAS_64)
    return select(x == ZERO, -INFINITY, select(x == INFINITY, INFINITY, n))


def mantissa(x: Any) -> Any:
    """Return x * 2^-exponent(x), in [3/4, 3/2); 1 for zero and infinity, NaN below zero and for NaN."""
    bits = np.float64(x).view(np.int64)
    n = ((bits + HALF_64) >> FRACTION_64) - BIAS_64
    m = np.float32(np.int64(bits - (n << FRACTION_64)).view(np.float64))
    m = select(x == ZERO, ONE, select(x == INFINITY, ONE, m))
    return select(x >= ZERO, m, NAN)


def with_sign(x: Any, y: Any) -> Any:
    """Return the size of x with the sign of y."""
    size = np.uint32(np.float32(x).view(np.uint32) & SIZE)
    return np.uint32(size | np.uint32(np.float32(y).view(np.uint32) & SIGN)).view(np.float32)


def square_root(x: Any) -> Any:
    """Return the correctly rounded square root; NaN below zero, -0 at -0."""
    return np.sqrt(x)


# Largest error of each in units of the last place of an fp32 result, over all 2^32 inputs.
ULP = {"exp": 0.90, "log": 0.92, "tanh": 1.50, "sigmoid": 1.49, "erf": 1.06, "rsqrt": 0.501}
MICRO = (fma, clamp, scale, exponent, mantissa, less, select, with_sign, square_root)


# --- functions --------------------------------------------------------------------------------------------------------
def power(x: Any) -> Any:
    """Return e^x for x from EXP_LOW to EXP_HIGH: x = n ln 2 + r, a polynomial of degree 6 in r, one scaling."""
    n = fma(x, LOG2E, TO_INTEGER) - TO_INTEGER
    r = fma(n, -LN2_HIGH, x)
    r = fma(n, -LN2_LOW, r)
    p = fma(E6, r, E5)
    p = fma(p, r, E4)
    p = fma(p, r, E3)
    p = fma(p, r, E2)
    p = fma(p, r, ONE)
    p = fma(p, r, ONE)
    return scale(p, n)


def exp(x: Any, y: Any, z: Any) -> Any:
    """Return e^x; `power` of x held to where results are neither zero nor infinite."""
    return power(clamp(x, EXP_LOW, EXP_HIGH))


def log(x: Any, y: Any, z: Any) -> Any:
    """Return the natural logarithm: x = 2^n (1 + f), f + f^2 times a polynomial of degree 8 in f, plus n ln 2."""
    f = mantissa(x) - ONE
    n = exponent(x)
    p = fma(L10, f, L9)
    p = fma(p, f, L8)
    p = fma(p, f, L7)
    p = fma(p, f, L6)
    p = fma(p, f, L5)
    p = fma(p, f, L4)
    p = fma(p, f, L3)
    p = fma(p, f, L2)
    s = f * f
    low = fma(s, p, n * LN2_LOW)
    return fma(n, LN2_HIGH, low + f)


def tanh(x: Any, y: Any, z: Any) -> Any:
    """Return the hyperbolic tangent: x + x^3 P(x^2) up to 9/16, above it 1 - 2 e / (1 + e) with e = e^(-2|x|)."""
    s = x * x
    p = fma(H4, s, H3)
    p = fma(p, s, H2)
    p = fma(p, s, H1)
    p = fma(p, s, H0)
    small = fma(p * s, x, x)
    e = power(clamp(-TWO * abs(x), EXP_LOW, ZERO))
    large = fma(-TWO, e / (ONE + e), ONE)
    return with_sign(select(less(abs(x), TANH_SMALL), small, large), x)  # x + 0 x^3 would lose the sign of -0


def sigmoid(x: Any, y: Any, z: Any) -> Any:
    """Return 1 / (1 + e^-x): with e = e^-|x|, 1 / (1 + e) from zero on, e / (1 + e) below, and one Newton step."""
    below = less(x, ZERO)
    e = power(clamp(-abs(x), EXP_LOW, ZERO))
    d = ONE + e
    low = (ONE - d) + e  # d + low = 1 + e exactly
    top = select(below, e, ONE)
    q = top / d
    r = fma(-q, d, top)
    r = fma(-q, low, r)
    return fma(r, select(below, ONE - q, q), q)  # 1 / d is 1 - q below zero


def erf(x: Any, y: Any, z: Any) -> Any:
    """Return the error function: x + x P(x^2) up to 1, above it 1 - e^-(a G(a)) with a = |x| and the sign of x."""
    s = x * x
    p = fma(S6, s, S5)
    p = fma(p, s, S4)
    p = fma(p, s, S3)
    p = fma(p, s, S2)
    p = fma(p, s, S1)
    p = fma(p, s, S0)
    small = fma(p, x, x)
    a = clamp(abs(x), ZERO, ERF_HIGH)
    g = fma(G6, a, G5)
    g = fma(g, a, G4)
    g = fma(g, a, G3)
    g = fma(g, a, G2)
    g = fma(g, a, G1)
    g = fma(g, a, G0)
    large = ONE - power(-a * g)
    return select(less(abs(x), ERF_SMALL), small, with_sign(large, x))


def rsqrt(x: Any, y: Any, z: Any) -> Any:
    """Return 1 / sqrt(x): root, division, and one Newton step on the residual 1 - x q^2."""
    q = ONE / square_root(x)
    a = x * q
    low = fma(x, q, -a)  # x q = a + low exactly
    e = fma(-a, q, ONE)
    e = fma(-low, q, e)
    better = fma(HALF * q, e, q)
    # At zero and infinity the residual is NaN, and q is exact.
    return select(less(abs(e), HALF), better, q)
