"""Arrays of codes that are hard on arithmetic: specials, halfway cases, cancellation, mixed magnitudes, subnormals."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.errors import InputError
from accel.numerics.formats import fmt

__all__ = ["KINDS", "hard_codes", "special_codes"]

KINDS = ("mixed", "bits", "special", "near_one", "cancel", "subnormal", "halfway", "integers")


def special_codes(dtype: str) -> Any:
    """Return codes of a format that break careless code, as its unsigned type: zeros, ends of ranges, NaN payloads."""
    form = fmt(dtype)
    top, half = (1 << form.bits) - 1, 1 << (form.bits - 1)
    codes = {0, 1, 2, 3, half - 1, half - 2, half, half + 1, half + 2, top, top - 1}
    for exponent in range(1 << form.exponent) if form.exponent else ():
        if exponent < 3 or exponent + 3 >= 1 << form.exponent or exponent % 7 == 0:
            base = exponent << form.mantissa
            codes |= {base, base + 1, base + (1 << form.mantissa) - 1}
    if form.inf_nan:
        infinity = ((1 << form.exponent) - 1) << form.mantissa
        codes |= {infinity, infinity + 1, infinity + (1 << form.mantissa) // 2, infinity - 1}
    signs = {c | half for c in codes} if form.signed else set()
    return np.array(sorted(codes | signs), _unsigned(dtype))


def _unsigned(dtype: str) -> Any:
    return {8: np.uint8, 16: np.uint16, 32: np.uint32}[fmt(dtype).bits]


def _one(dtype: str, bias: int) -> int:
    """The code of 1.0, or of the number nearest to it that the exponent field reaches."""
    form = fmt(dtype)
    exponent = min(max(bias if form.bias is None else form.bias, 1), (1 << form.exponent) - 2)
    return exponent << form.mantissa


def hard_codes(dtype: str, shape: tuple[int, ...], seed: int, kind: str = "mixed", bias: int = 7) -> Any:
    """Return an array of codes of a format, as its storage type, filled from a seed.

    kind: "bits" (any), "special", "near_one" (sums and products round), "cancel" (neighbours of opposite sign),
    "subnormal", "halfway" (fp32 only: midpoints of shorter formats and their neighbours), "integers" (small ones,
    exact in every order of summation), or "mixed". bias: exponent bias of a configurable format, where "near_one" and
    "integers" lie. InputError for another kind.
    """
    if kind not in KINDS:
        raise InputError(f"Cannot make hard values of kind {kind!r}; use {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    parts = [_drawn(dtype, count, rng, k, bias) for k in (KINDS[1:] if kind == "mixed" else (kind,))]
    chosen = np.choose(rng.integers(0, len(parts), count), parts) if len(parts) > 1 else parts[0]
    codes = np.ascontiguousarray(chosen.astype(_unsigned(dtype))).reshape(shape)
    return codes.view(np.dtype(fmt(dtype).storage))


def _drawn(dtype: str, count: int, rng: Any, kind: str, bias: int) -> Any:
    form = fmt(dtype)
    bits = rng.integers(0, 1 << form.bits, count, dtype=np.uint64)
    if kind == "bits":
        return bits
    if kind == "special":
        return rng.choice(special_codes(dtype), count).astype(np.uint64)
    if form.kind == "int":
        small = rng.integers(-3, 4, count) if form.signed else rng.integers(0, 4, count)
        return (small & ((1 << form.bits) - 1)).astype(np.uint64)
    sign = (rng.integers(0, 2, count) << (form.bits - 1)).astype(np.uint64) if form.signed else np.uint64(0)
    one = _one(dtype, bias)
    if kind == "subnormal":
        return sign | rng.integers(0, 1 << (form.mantissa + 1), count, dtype=np.uint64)
    if kind == "cancel":
        return sign | (np.uint64(one) + rng.integers(0, 3, count, dtype=np.uint64))
    if kind == "halfway" and dtype == "fp32":
        dropped = rng.choice(np.array([13, 16, 20, 21]), count)  # fraction bits beyond fp16, bf16, cfp8-143, cfp8-152
        base = bits >> dropped.astype(np.uint64) << dropped.astype(np.uint64)
        return (base + (1 << (dropped - 1)) + rng.integers(-1, 2, count)).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    if kind == "integers":
        whole = rng.integers(0, 9, count)
        exponent = np.maximum(np.frexp(np.maximum(whole, 1).astype(float))[1] - 1, 0)
        room = min(3, form.mantissa)
        fraction = np.floor((whole / 2.0**exponent - 1) * (1 << room)).astype(np.int64) << (form.mantissa - room)
        code = np.where(whole == 0, 0, one + (exponent << form.mantissa) + fraction)
        return sign | np.minimum(code, _largest(dtype)).astype(np.uint64)
    spread = rng.integers(0, 4, count) << form.mantissa
    code = one + spread + (bits & np.uint64((1 << form.mantissa) - 1)).astype(np.int64) - (1 << form.mantissa)
    return sign | np.clip(code, 0, _largest(dtype)).astype(np.uint64)


def _largest(dtype: str) -> int:
    form = fmt(dtype)
    return ((1 << form.exponent) - (1 if form.inf_nan else 0) << form.mantissa) - 1
