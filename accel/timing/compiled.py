"""njit for the engine: no guard on divisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from accel import jit

__all__ = ["njit"]

P = ParamSpec("P")
R = TypeVar("R")


def njit(fn: Callable[P, R]) -> jit.Jitted[P, R]:
    """Compile `fn` as `accel.jit.njit` does, without a guard on divisions: no divisor of this engine can be zero."""
    return jit.njit(error_model="numpy")(fn)
