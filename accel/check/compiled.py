"""How the checker's core is compiled: inner functions get no Python entry and count no references."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from accel.jit import Jitted, njit

__all__ = ["entry", "inner"]

P = ParamSpec("P")
R = TypeVar("R")


def inner(fn: Callable[P, R]) -> Jitted[P, R]:
    """Compile a function that only jitted code calls and that makes no array; thirty arrays a call make this count."""
    return njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False, error_model="numpy")(fn)


def entry(fn: Callable[P, R]) -> Jitted[P, R]:
    """Compile a function that Python calls."""
    return njit(no_cfunc_wrapper=True, _nrt=False, error_model="numpy")(fn)
