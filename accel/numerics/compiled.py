"""The functions of `scalar.py` and `stochastic.py` compiled, for jitted code. Importing this imports Numba."""

from __future__ import annotations

import types
from typing import Any

from accel.jit import njit
from accel.numerics import scalar, stochastic

__all__ = [
    "high",
    "int32_to_odd",
    "low",
    "philox",
    "philox_block",
    "random_unit",
    "round_bf16",
    "round_bits",
    "round_bits64_sr",
    "round_bits_sr",
    "round_cfp8_143",
    "round_cfp8_152",
    "round_fp16",
    "round_fp32",
    "round_int8",
    "round_int32",
    "round_shp16",
    "round_uhp16",
    "round_uint8",
    "widen_bf16",
    "widen_cfp8_143",
    "widen_cfp8_152",
    "widen_code",
    "widen_fp16",
    "widen_int8",
    "widen_int32",
    "widen_shp16",
    "widen_uhp16",
    "widen_uint8",
]


def _compiled() -> dict[str, Any]:
    """Return their functions, jitted and bound to a namespace in which they call each other's jitted forms."""
    scope: dict[str, Any] = {**vars(scalar), **vars(stochastic)}
    functions = {name: value for name, value in scope.items() if isinstance(value, types.FunctionType)}
    for name, function in functions.items():
        if function.__module__ in (scalar.__name__, stochastic.__name__):
            own = types.FunctionType(function.__code__, scope, name)
            own.__doc__ = function.__doc__
            # No reference counting: nothing here makes or keeps an array. No entry from C: see accel/jit.py.
            scope[name] = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(own)
    return scope


_FUNCTIONS = _compiled()
high = _FUNCTIONS["high"]
low = _FUNCTIONS["low"]
int32_to_odd = _FUNCTIONS["int32_to_odd"]
philox = _FUNCTIONS["philox"]
philox_block = _FUNCTIONS["philox_block"]
random_unit = _FUNCTIONS["random_unit"]
round_bf16 = _FUNCTIONS["round_bf16"]
round_bits = _FUNCTIONS["round_bits"]
round_bits64_sr = _FUNCTIONS["round_bits64_sr"]
round_bits_sr = _FUNCTIONS["round_bits_sr"]
round_cfp8_143 = _FUNCTIONS["round_cfp8_143"]
round_cfp8_152 = _FUNCTIONS["round_cfp8_152"]
round_fp16 = _FUNCTIONS["round_fp16"]
round_fp32 = _FUNCTIONS["round_fp32"]
round_int8 = _FUNCTIONS["round_int8"]
round_int32 = _FUNCTIONS["round_int32"]
round_shp16 = _FUNCTIONS["round_shp16"]
round_uhp16 = _FUNCTIONS["round_uhp16"]
round_uint8 = _FUNCTIONS["round_uint8"]
widen_bf16 = _FUNCTIONS["widen_bf16"]
widen_cfp8_143 = _FUNCTIONS["widen_cfp8_143"]
widen_cfp8_152 = _FUNCTIONS["widen_cfp8_152"]
widen_code = _FUNCTIONS["widen_code"]
widen_fp16 = _FUNCTIONS["widen_fp16"]
widen_int8 = _FUNCTIONS["widen_int8"]
widen_int32 = _FUNCTIONS["widen_int32"]
widen_shp16 = _FUNCTIONS["widen_shp16"]
widen_uhp16 = _FUNCTIONS["widen_uhp16"]
widen_uint8 = _FUNCTIONS["widen_uint8"]
