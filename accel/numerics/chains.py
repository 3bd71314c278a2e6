"""What a matmul of the machine must give, to the bit: one chain of rounded steps an element, in NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import InputError

__all__ = ["chain_matmul"]

FP32_NAN = 0x7FC00000  # the one NaN that arithmetic writes
SHORT = 0x1FFF  # fraction bits of fp32 that are zero in a value of 11 significant bits


def chain_matmul(a: npt.NDArray[Any], b: npt.NDArray[Any], c0: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Return c0 + a @ b (a: m x k, b: k x n) as the machine defines it, to the bit.

    float32 operands: one chain of fused multiply-adds in fp32 per element, k ascending, from `c0` (m x n) or from +0;
    subnormals kept; NaN is 0x7FC00000. int8 and uint8 operands (they may mix): int32 modulo 2^32, from int32 `c0` or 0.
    InputError for other dtypes and shapes; codes go through `decode` first.
    """
    left, right = _operand(a, "a"), _operand(b, "b")
    if left.shape[1] != right.shape[0]:
        raise InputError(f"a is {left.shape} and b is {right.shape}; columns of a must equal rows of b")
    if (left.dtype.kind == "f") != (right.dtype.kind == "f"):
        raise InputError(f"a is {left.dtype} and b is {right.dtype}; give both as float32 or both as 8-bit integers")
    shape = (left.shape[0], right.shape[1])
    if left.dtype.kind != "f":
        return _integer_chain(left, right, _start(c0, shape, np.int32))
    start = _start(c0, shape, np.float32)
    acc = _short_chain(left, right, start) if _is_short(left) and _is_short(right) else _odd_chain(left, right, start)
    acc.view(np.uint32)[np.isnan(acc)] = FP32_NAN
    return acc


def _short_chain(left: npt.NDArray[Any], right: npt.NDArray[Any], acc: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The chain where every operand has at most 11 significant bits: one float64 sum a step, rounded to float32.

    A product has at most 22 bits and is exact. Where c + a b does not fit float64 the smaller term lies more than two
    bits below the float32 rounding point of the larger, so rounding to float64 first never creates a tie.
    """
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(all="ignore"):
        for k in range(left.shape[1]):
            acc = (acc.astype(np.float64) + wide_left[:, k, None] * wide_right[None, k, :]).astype(np.float32)
    return acc


def _odd_chain(left: npt.NDArray[Any], right: npt.NDArray[Any], acc: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The chain of any fp32 operands: each sum is rounded to odd in float64, so that its rounding to float32 is exact.

    The product of two fp32 numbers has 48 bits and is exact in float64; Knuth's TwoSum gives what the sum lost; 53 bits
    are more than 24 + 2 (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 57(4), 2008).
    """
    wide_left, wide_right = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(all="ignore"):
        for k in range(left.shape[1]):
            c, p = acc.astype(np.float64), wide_left[:, k, None] * wide_right[None, k, :]
            total = c + p
            part = total - c
            lost = (c - (total - part)) + (p - part)
            even = (total.view(np.int64) & 1) == 0
            step = np.isfinite(total) & (lost != 0) & even  # an odd last place is the one to keep already
            beside = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
            acc = np.where(step, beside, total).astype(np.float32)
    return acc


def _integer_chain(left: npt.NDArray[Any], right: npt.NDArray[Any], start: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """int32 modulo 2^32; int64 holds 2^47 products of bytes, more than any memory."""
    total = left.astype(np.int64) @ right.astype(np.int64) + start
    result: npt.NDArray[Any] = (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return result


def _is_short(values: npt.NDArray[Any]) -> bool:
    """Whether every float32 has at most 11 significant bits, as all values of bf16, fp16 and the cfp formats have."""
    return not np.any((values.view(np.uint32) & np.uint32(SHORT) != 0) & ~np.isnan(values))


def _start(c0: npt.NDArray[Any] | None, shape: tuple[int, int], dtype: Any) -> npt.NDArray[Any]:
    """The accumulator's first value; InputError unless it has the shape and the dtype."""
    if c0 is None:
        return np.zeros(shape, dtype)
    given = np.asarray(c0)
    if given.shape != shape or given.dtype != dtype:
        raise InputError(f"c0 is {given.dtype} {given.shape}; it must be {np.dtype(dtype)} {shape}")
    return given.copy()


def _operand(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """A chain operand; InputError unless it is a non-empty matrix of float32, int8 or uint8."""
    values = np.ascontiguousarray(array)
    if values.dtype not in (np.float32, np.int8, np.uint8) or values.ndim != 2 or values.size == 0:
        raise InputError(f"{name} is {values.dtype} {values.shape}; give a non-empty matrix of float32, int8 or uint8")
    return values
