"""What a computed matmul must equal: the fp32 chain oracle to the bit, and the a-priori error bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import InputError

FP32_NAN = 0x7FC00000  # the one NaN that arithmetic writes

__all__ = ["UNIT_ROUNDOFF", "chain_matmul", "gamma", "matmul_error_bound"]

# Half an ulp of 1, 2^-p for p significant bits (Higham, "Accuracy and Stability of Numerical Algorithms", section 2.1).
UNIT_ROUNDOFF = {"fp32": 2.0**-24, "bf16": 2.0**-8, "fp64": 2.0**-53}
_HALF_SMALLEST = {"fp32": 2.0**-150, "bf16": 2.0**-134}  # largest rounding error of a subnormal result


def gamma(k: int, u: float = UNIT_ROUNDOFF["fp32"]) -> float:
    """Return k u / (1 - k u), the relative error bound of k roundings (Higham, lemma 3.1); InputError if k u >= 1."""
    if k < 0 or not 0.0 < u < 1.0 or k * u >= 1.0:
        raise InputError(f"gamma({k}, {u}) has no meaning; it needs k >= 0 and k u < 1")
    return k * u / (1.0 - k * u)


def chain_matmul(
    a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], c0: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Return c0 + a @ b (a: m x k, b: k x n, float32) as the machine defines it, to the bit.

    One chain of fused multiply-adds in fp32 per element, k ascending, from `c0` (m x n) or from +0; subnormals kept;
    NaN is 0x7FC00000. Exact **only for operands that are bf16 values** (anything else is an InputError): their product
    has 16 significant bits, so where c + a*b does not fit float64 the smaller term lies more than two bits below the
    float32 rounding point of the larger, and rounding to float64 first never creates a tie.
    """
    left, right = _operand(a, "a"), _operand(b, "b")
    if left.shape[1] != right.shape[0]:
        raise InputError(f"a is {left.shape} and b is {right.shape}; columns of a must equal rows of b")
    shape = (left.shape[0], right.shape[1])
    acc = np.zeros(shape, np.float32) if c0 is None else np.array(c0, dtype=np.float32)
    if acc.shape != shape:
        raise InputError(f"c0 is {acc.shape}; it must be {shape}")
    with np.errstate(all="ignore"):
        for k in range(left.shape[1]):
            acc = (acc.astype(np.float64) + left[:, k, None] * right[None, k, :]).astype(np.float32)
    acc.view(np.uint32)[np.isnan(acc)] = FP32_NAN
    return acc


def matmul_error_bound(
    a: npt.NDArray[Any], b: npt.NDArray[Any], c0: npt.NDArray[Any] | None = None, *, out: str = "fp32"
) -> npt.NDArray[np.float64]:
    """Return, per element (m x n), the largest possible |machine result - float64 reference| of c0 + a @ b.

    gamma_k (|c0| + |a||b|) + k 2^-150 for the fp32 chain (Higham, section 3.1, one rounding a fused step, plus the
    underflow of each step); for `out="bf16"` one more rounding u |c| + 2^-134 of the stored value; plus what the
    float64 reference and this evaluation may themselves be off. Operands are taken as they are (round them first).
    Infinite where the fp32 chain may overflow, or where an operand is not finite: no bound holds there.
    """
    if out not in ("fp32", "bf16"):
        raise InputError(f'no error bound for results in {out!r}; use "fp32" or "bf16"')
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0] or 0 in left.shape + right.shape:
        raise InputError(f"a is {left.shape} and b is {right.shape}; give m x k and k x n, none empty")
    depth = left.shape[1]
    start = np.zeros((left.shape[0], right.shape[1])) if c0 is None else np.asarray(c0, np.float64)
    if start.shape != (left.shape[0], right.shape[1]):
        raise InputError(f"c0 is {start.shape}; it must be {(left.shape[0], right.shape[1])}")
    float64_error = gamma(depth + 2, UNIT_ROUNDOFF["fp64"])
    with np.errstate(all="ignore"):
        mass = (np.abs(left) @ np.abs(right) + np.abs(start)) * (1.0 + 2.0 * float64_error)
        chain = gamma(depth) * mass + depth * _HALF_SMALLEST["fp32"] * (1.0 + gamma(depth))
        bound = chain + float64_error * mass
        largest = mass + chain
        if out == "bf16":
            value = np.abs(left @ right + start) + bound
            bound = bound + UNIT_ROUNDOFF["bf16"] * value + _HALF_SMALLEST["bf16"]
            largest = largest * (1.0 + UNIT_ROUNDOFF["bf16"])
        bound = np.where(largest < float(np.finfo(np.float32).max), bound, np.inf)
    return np.asarray(bound * (1.0 + 2.0**-48), np.float64)


def _operand(array: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float64]:
    """A chain operand in float64; InputError unless it is a non-empty float32 matrix of bf16 values."""
    values = np.ascontiguousarray(array)
    if values.dtype != np.float32 or values.ndim != 2 or values.size == 0:
        raise InputError(f"{name} is {values.dtype} {values.shape}; give a non-empty float32 matrix")
    if np.any((values.view(np.uint32) & np.uint32(0xFFFF) != 0) & ~np.isnan(values)):
        raise InputError(f"{name} holds values that are not bf16, where this oracle is not exact; round_to them first")
    return values.astype(np.float64)
