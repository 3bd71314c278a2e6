"""How far a computed matmul may be from the real one: the a-priori error bound, for results in every format."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import InputError
from accel.numerics.formats import FORMATS, Format, fmt
from accel.numerics.scalar import BIAS_IEEE, BIAS_MASK
from accel.numerics.storage import bias_word, decode

__all__ = ["UNIT_ROUNDOFF", "gamma", "matmul_error_bound"]

# Half an ulp of 1, 2^-p for p significant bits (Higham, "Accuracy and Stability of Numerical Algorithms", section 2.1).
UNIT_ROUNDOFF = {row.name: 2.0 ** -(row.mantissa + 1) for row in FORMATS.values() if row.kind != "int"}
UNIT_ROUNDOFF["fp64"] = 2.0**-53
_HALF_SMALLEST = 2.0**-150  # largest rounding error of a subnormal fp32 step


def gamma(k: int, u: float = UNIT_ROUNDOFF["fp32"]) -> float:
    """Return k u / (1 - k u), the relative error bound of k roundings (Higham, lemma 3.1); InputError if k u >= 1."""
    if k < 0 or not 0.0 < u < 1.0 or k * u >= 1.0:
        raise InputError(f"gamma({k}, {u}) has no meaning; it needs k >= 0 and k u < 1")
    return k * u / (1.0 - k * u)


def matmul_error_bound(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    c0: npt.NDArray[Any] | None = None,
    *,
    out: str | Format = "fp32",
    bias: int | None = None,
    denormals: str = "gap",
) -> npt.NDArray[np.float64]:
    """Return, per element (m x n), the largest possible |machine result - float64 reference| of c0 + a @ b.

    gamma_k (|c0| + |a||b|) + k 2^-150 for the fp32 chain (Higham, section 3.1, one rounding a fused step, plus the
    underflow of each step); for results stored in another format (out) one more rounding, u |c| plus its largest error
    near zero (`bias`, `denormals` as for `encode`); plus what the float64 reference and this evaluation may themselves
    be off. Operands are taken as they are (round them first). Infinite where the chain may overflow, where a stored
    value may overflow or saturate, or where an operand is not finite: no bound holds there. Integers of int8 and uint8
    into int32: 0 where the sum fits.
    """
    row = fmt(out)
    word = bias_word(row, bias, denormals)
    left, right = np.asarray(a), np.asarray(b)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0] or 0 in left.shape + right.shape:
        raise InputError(f"a is {left.shape} and b is {right.shape}; give m x k and k x n, none empty")
    if row.kind == "int" and not (row.name == "int32" and left.dtype.kind in "iu" and right.dtype.kind in "iu"):
        raise InputError(f"no error bound for results in {row.name} from {left.dtype}; use integers into int32")
    left, right = left.astype(np.float64), right.astype(np.float64)
    depth = left.shape[1]
    start = np.zeros((left.shape[0], right.shape[1])) if c0 is None else np.asarray(c0, np.float64)
    if start.shape != (left.shape[0], right.shape[1]):
        raise InputError(f"c0 is {start.shape}; it must be {(left.shape[0], right.shape[1])}")
    float64_error = gamma(depth + 2, UNIT_ROUNDOFF["fp64"])
    with np.errstate(all="ignore"):
        mass = (np.abs(left) @ np.abs(right) + np.abs(start)) * (1.0 + 2.0 * float64_error)
        if row.kind == "int":
            return np.where(mass < 2.0**31, 0.0, np.inf)
        chain = gamma(depth) * mass + depth * _HALF_SMALLEST * (1.0 + gamma(depth))
        bound = chain + float64_error * mass
        largest = mass + chain
        holds = largest < float(np.finfo(np.float32).max)
        if row.name != "fp32":
            value = left @ right + start
            size = np.abs(value) + bound
            holds &= size < _largest(row, word)
            rounding = UNIT_ROUNDOFF[row.name] * size + _error_near_zero(row, word)
            # Where the result may be negative, a format without signs may store +0 for it.
            bound = bound + (rounding if row.signed else np.where(value < bound, np.maximum(rounding, size), rounding))
    return np.asarray(np.where(holds, bound * (1.0 + 2.0**-48), np.inf), np.float64)


def _largest(row: Format, word: int) -> float:
    """The largest finite number of a float format."""
    code = ((1 << (row.exponent + row.mantissa)) - 1) - ((1 << row.mantissa) if row.inf_nan else 0)
    options = {"bias": word & BIAS_MASK, "denormals": "ieee" if word & BIAS_IEEE else "gap"} if row.bias is None else {}
    return float(decode(np.array([code], row.storage), row, **options)[0])  # type: ignore[arg-type]


def _error_near_zero(row: Format, word: int) -> float:
    """The largest rounding error below the first normal number: half a quantum, or half the gap where there is one."""
    if row.bias is not None:
        return 2.0 ** (-row.bias - row.mantissa)
    quantum = 2.0 ** (-(word & BIAS_MASK) - row.mantissa)
    return quantum if word & BIAS_IEEE else ((1 << row.mantissa) + 1) / 2 * quantum
