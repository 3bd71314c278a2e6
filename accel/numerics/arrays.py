"""The functions of `scalar.py` and `stochastic.py` over NumPy arrays: the same code, choosing by np.where and so on."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np

from accel.numerics import scalar, stochastic

__all__ = ["philox", "round_bits", "round_bits64_sr", "widen_code"]


def _over_arrays() -> dict[str, Callable[..., Any]]:
    """Return their functions bound to a namespace in which choosing between numbers means np.where and so on."""
    scope: dict[str, Any] = {**vars(scalar), **vars(stochastic)}
    functions = [name for name, value in scope.items() if isinstance(value, types.FunctionType)]
    for name in functions:
        scope[name] = types.FunctionType(scope[name].__code__, scope, name)
    scope.update(select=np.where, smaller=np.minimum, larger=np.maximum)
    return {name: scope[name] for name in functions}


_FUNCTIONS = _over_arrays()
round_bits = _FUNCTIONS["round_bits"]
round_bits64_sr = _FUNCTIONS["round_bits64_sr"]
widen_code = _FUNCTIONS["widen_code"]
philox = _FUNCTIONS["philox"]
