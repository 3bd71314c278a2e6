"""The slow model's exp, log, tanh, sigmoid, erf and rsqrt: one element at a time, each step exact, then rounded.

Written from the manual's text and not from the code that runs: steps are rational arithmetic and one rounding to fp32,
coefficients are whole numbers over powers of two, numbers are taken apart with frexp and not by their bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS", "fused", "nearest_fp32"]


def nearest_fp32(exact: Fraction) -> float:
    """Return the fp32 number nearest to a rational that is not 0, ties to the even one; overflow is infinite."""
    size = abs(exact)
    # The last bit of a normal number with exponent e weighs 2^(e - 23); below 2^-126 it stays 2^-149.
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - 23, -149)
    near = round(size / unit) * unit  # Python rounds a rational half to even
    value = float("inf") if near >= Fraction(2) ** 128 else float(near)
    return -value if exact < 0 else value


def fused(x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z of fp32 arrays with one rounding, through rationals where the sum is finite and not zero."""
    wide = x.astype(np.float64) * y.astype(np.float64)  # exact: two significands of 24 bits
    rough = wide + z.astype(np.float64)
    result = rough.astype(np.float32).ravel()
    for i, (p, c, s) in enumerate(zip(wide.flat, z.flat, rough.flat, strict=True)):
        if np.isfinite(s) and s != 0.0:
            result[i] = nearest_fp32(Fraction(float(p)) + Fraction(float(c)))
    return result.reshape(rough.shape)


def _numbers(*pairs: tuple[int, int]) -> list[Fraction]:
    """Return numerator / 2^bits of each pair."""
    return [Fraction(numerator, 1 << bits) for numerator, bits in pairs]


# Highest power first.
EXPONENTIAL = _numbers((2968037, 31), (140403, 24), (11185239, 28), (11184713, 26), (8388607, 24), (1, 0), (1, 0))
LOGARITHM = _numbers((-12109675, 28), (14051091, 27), (-4417063, 25), (9716237, 26), (-2792903, 24), (3353903, 24),
                     (-8388643, 25), (5592425, 24), (-1, 1))  # fmt: skip
TANGENT = _numbers((-13259927, 31), (11276095, 29), (-14451573, 28), (8947249, 26), (-2796201, 23))
ERROR_SMALL = _numbers((5364863, 36), (-13740207, 34), (5569673, 30), (-14416781, 29), (15144563, 27), (-12620703, 25),
                       (2153845, 24))  # fmt: skip
ERROR_LARGE = _numbers((15346759, 40), (-6022387, 34), (16137553, 32), (-6445071, 28), (14298287, 27), (332907, 19),
                       (4734087, 22))  # fmt: skip
LOG2E, LN2_HIGH, LN2_LOW = _numbers((12102203, 23), (22713, 15), (6283079, 42))


def _near(exact: Fraction) -> Fraction:
    """Return the nearest fp32 number of one that does not overflow."""
    return Fraction(nearest_fp32(exact)) if exact else exact


def _polynomial(coefficients: list[Fraction], x: Fraction) -> Fraction:
    total = coefficients[0]
    for c in coefficients[1:]:
        total = _near(total * x + c)
    return total


def _power(x: Fraction) -> float:
    """e^x by n = x / ln 2 to the nearest whole number, ties to even as fp32 rounds; a rest; a polynomial; 2^n."""
    n = _near(_near(x * LOG2E + 12582912) - 12582912)
    rest = _near(_near(x - n * LN2_HIGH) - n * LN2_LOW)
    return nearest_fp32(_polynomial(EXPONENTIAL, rest) * Fraction(2) ** int(n))


def _exp(x: float) -> float:
    if x != x or x == 0.0:
        return x if x != x else 1.0
    return _power(Fraction(min(max(x, -104.0), 89.0)))


def _log(x: float) -> float:
    if x == 0.0:
        return -math.inf
    if x < 0.0 or not math.isfinite(x):
        return math.inf if x > 0.0 else math.nan
    part, n = math.frexp(x)  # part in [1/2, 1); wanted in [3/4, 3/2)
    if part < 0.75:
        part, n = 2.0 * part, n - 1
    f = Fraction(part) - 1
    low = _near(_near(f * f) * _polynomial(LOGARITHM, f) + _near(n * LN2_LOW))
    return float(_near(n * LN2_HIGH + _near(low + f)))


def _tanh(x: float) -> float:
    if x == 0.0 or not math.isfinite(x):
        return math.copysign(1.0, x) if math.isinf(x) else x
    of, size = Fraction(x), abs(x)
    if size < 0.5625:
        square = _near(of * of)
        return float(_near(_near(_polynomial(TANGENT, square) * square) * of + of))
    e = Fraction(_power(Fraction(max(-2.0 * size, -104.0))))
    return math.copysign(float(_near(1 - 2 * _near(e / _near(1 + e)))), x)


def _sigmoid(x: float) -> float:
    if x != x:
        return x
    e = Fraction(_power(Fraction(max(-abs(x), -104.0))))
    total = _near(1 + e)
    lost = _near(_near(1 - total) + e)
    top = e if x < 0.0 else Fraction(1)
    q = _near(top / total)
    rest = _near(_near(top - q * total) - q * lost)
    return float(_near(q + rest * (_near(1 - q) if x < 0.0 else q)))


def _erf(x: float) -> float:
    if x != x or x == 0.0:
        return x
    if abs(x) < 1.0:
        of = Fraction(x)
        return float(_near(_polynomial(ERROR_SMALL, _near(of * of)) * of + of))
    size = Fraction(min(abs(x), 4.0))
    e = _power(_near(-size * _polynomial(ERROR_LARGE, size)))
    return math.copysign(float(_near(1 - Fraction(e))), x)


def _rsqrt(x: float) -> float:
    if x == 0.0:
        return math.copysign(math.inf, x)
    if x < 0.0 or not math.isfinite(x):
        return 0.0 if x > 0.0 else math.nan
    of = Fraction(x)
    q = _near(1 / Fraction(float(np.sqrt(np.float32(x)))))
    a = _near(of * q)
    low = _near(of * q - a)
    rest = _near(_near(1 - a * q) - low * q)
    return float(_near(_near(q / 2) * rest + q))


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """Return the function over an fp32 array."""

    def over(x: Any) -> Any:
        return np.array([function(v) for v in x.ravel().tolist()], np.float32).reshape(x.shape)

    return over


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "vec.exp": _each(_exp),
    "vec.log": _each(_log),
    "vec.tanh": _each(_tanh),
    "vec.sigmoid": _each(_sigmoid),
    "vec.erf": _each(_erf),
    "vec.rsqrt": _each(_rsqrt),
}
