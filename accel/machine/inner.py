"""`inner`: njit for functions that only jitted code calls; without entry points from Python and C they compile sooner."""

from __future__ import annotations

from accel.jit import njit

__all__ = ["inner"]

inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
