"""`inner`, `spliced` and `entry`: njit for the functions of the executor, without what they never use.

None counts references: no function here makes or keeps an array, and the counting alone cost five times the work of an
instruction. `inner` is for functions that only jitted code calls: they get no entry points from Python and C. `spliced`
is for those among them that become part of every caller: an array is seven words to pass, so many make a dear call.
"""

from __future__ import annotations

from accel.jit import njit

__all__ = ["entry", "inner", "spliced"]

entry = njit(_nrt=False)
inner = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
spliced = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)
