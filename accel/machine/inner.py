"""`inner` and `entry`: njit for the functions of the executor, without what they never use.

Neither counts references: no function here makes or keeps an array, and the counting alone cost five times the work of
an instruction. `inner` is for functions that only jitted code calls: they get no entry points from Python and C.
"""

from __future__ import annotations

from accel.jit import njit

__all__ = ["entry", "inner"]

entry = njit(_nrt=False)
inner = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
