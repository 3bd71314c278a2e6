"""Input arrays for a program by name of tensor: small integers, random floats, hard values, and simple ones to read."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError
from accel.numerics import as_storage, fmt, from_storage
from accel.testing.hard_values import hard_codes

if TYPE_CHECKING:
    from accel.isa.program import Tensor
    from accel.program import Program

__all__ = ["INPUT_KINDS", "draw_inputs", "own_values"]

# In the order in which a failure is looked for with simpler numbers: what comes first is easier to read.
INPUT_KINDS = ("ones", "counting", "one_hot", "int", "ascending", "float", "spread", "cancel", "subnormal", "special")
_HARD = {"cancel": "cancel", "subnormal": "subnormal", "special": "mixed"}


def draw_inputs(program: Program, seed: int = 0, kind: str = "float") -> dict[str, Any]:
    """Return one array for every input tensor of `program`, the same for the same seed, name, shape and kind.

    kind: "int" (whole numbers from -2 to 2, 0 to 2 where there is no sign: sums of them are exact in any order),
    "float" (+-[2^-7, 4), every mantissa equally likely), "spread" (+-[2^-7, 2^8): a few are far above all others, so
    that what leaves out the largest of a row overflows), "cancel", "subnormal" and "special" (hard values; the last
    with infinities and NaN), "ascending" (from -10,000 to 10,000, steep at the ends: the largest of a row is its last),
    "one_hot" (zeros and a single 1 in each tensor), "ones", "counting" (1, 2, 3, ... modulo 8). Arrays hold values in
    the tensor's own format. InputError for another kind.
    """
    if kind not in INPUT_KINDS:
        raise InputError(f"Cannot draw inputs of kind {kind!r}; use {', '.join(INPUT_KINDS)}")
    return {t.name: _drawn(t, [seed, zlib.crc32(t.name.encode())], kind) for t in program.isa.tensors if t.is_input}


def own_values(values: Any, tensor: Tensor) -> Any:
    """Return numbers as those of the tensor's format, rounded to nearest even: what a run would make of them."""
    own: Any = {"bias": tensor.bias, "denormals": tensor.denormals} if fmt(tensor.dtype).kind == "cfp" else {}
    return from_storage(as_storage(values, tensor.dtype, **own), tensor.dtype, as_="ml_dtypes", **own)


def _drawn(tensor: Tensor, seed: list[int], kind: str) -> Any:
    rng, shape, form = np.random.default_rng(seed), tensor.shape, fmt(tensor.dtype)
    if kind in _HARD:
        own: Any = {"bias": tensor.bias, "denormals": tensor.denormals} if form.kind == "cfp" else {}
        codes = hard_codes(tensor.dtype, shape, int(rng.integers(1 << 30)), _HARD[kind], tensor.bias or 7)
        return from_storage(codes, tensor.dtype, as_="ml_dtypes", **own)
    size = int(np.prod(shape))
    if kind in ("float", "spread") and form.kind != "int":
        numbers = (1 + rng.random(size)) * 2.0 ** rng.integers(-7, 2 if kind == "float" else 8, size)
        numbers *= rng.choice([-1.0, 1.0], size) if form.signed else 1.0
        return own_values(numbers.reshape(shape), tensor)
    if kind in ("float", "spread"):  # of an integer format: all of it, as far as products of two still fit in 32 bits
        low, high = (0 if tensor.dtype == "uint8" else -128), (256 if tensor.dtype == "uint8" else 128)
        values = rng.integers(low, high, size)
    elif kind == "int":
        values = rng.integers(-2 if form.signed else 0, 3, size)
    elif kind == "ascending":
        steps: Any = np.linspace(-1 if form.signed else 0, 1, size)
        values = np.rint(3 * steps).astype(np.int64) if form.kind == "int" else 1e4 * steps**31
        return own_values(values.reshape(shape), tensor)
    elif kind == "one_hot":
        values = np.zeros(size, np.int64)
        values[int(rng.integers(size))] = 1
    else:
        values = np.ones(size, np.int64) if kind == "ones" else np.arange(1, size + 1) % 8
    return own_values(values.reshape(shape), tensor)
