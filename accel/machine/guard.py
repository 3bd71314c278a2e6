"""The guard of the bf16 dot product: which blocks of chains provably meet no subnormal, no overflow and no NaN."""

from __future__ import annotations

from accel.machine.inner import inner
from accel.machine.microkernel import BLOCK_DEPTH

__all__ = ["BF16_INFINITY", "LONGEST", "fits"]

# Biased exponents; docs/decisions/0011 derives each. A code's magnitude shifted by its fraction bits is its exponent.
LONGEST = 8192  # steps in a row that the bounds below are derived for
LEAST_SUM = 142  # least exponents of a and b together: every product is a multiple of 2^-126, the least normal number
GREATEST_SUM = 364  # greatest exponents together: LONGEST products stay below 2^125
LEAST_CHAIN = 24  # a chain from here on is a multiple of 2^-126
GREATEST_CHAIN = 252  # and up to here below 2^126
BF16_FRACTION, FP32_FRACTION = 7, 23
BF16_INFINITY = 0x7F80
if BLOCK_DEPTH > LONGEST:
    raise AssertionError("GREATEST_SUM is derived for LONGEST steps")


@inner
def fits(a_least: int, a_greatest: int, b_least: int, b_greatest: int, c_least: int, c_greatest: int) -> bool:
    """Return whether chains c advanced by products of a and b keep the contract's bits on the dot product.

    Each operand is given by `pairs.pair_range` or `pairs.chain_range`: its least nonzero magnitude - 1, its greatest.
    """
    a, b = (a_least + 1) >> BF16_FRACTION, (b_least + 1) >> BF16_FRACTION
    c = (c_least + 1) >> FP32_FRACTION
    normal = a >= 1 and b >= 1 and a + b >= LEAST_SUM and c >= LEAST_CHAIN
    numbers = a_greatest < BF16_INFINITY and b_greatest < BF16_INFINITY
    finite = numbers and (a_greatest >> BF16_FRACTION) + (b_greatest >> BF16_FRACTION) <= GREATEST_SUM
    return normal and finite and c_greatest >> FP32_FRACTION <= GREATEST_CHAIN
