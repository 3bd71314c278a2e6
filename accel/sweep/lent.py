"""A point timed in a worker of somebody else's executor, within a limit of memory that is this point's alone."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Mapping
from typing import Any

from accel.sweep.evaluate import evaluate
from accel.sweep.memory import can_limit, growth_limited

__all__ = ["REFUSED", "evaluate_within", "here"]

REFUSED = "refused"  # status of what is no outcome of a point: the worker cannot keep the limit
_at_work = threading.Lock()
_warm: list[bool] = []


def here() -> tuple[str, int]:
    """Return what tells this process from all others: machine and number."""
    return platform.node(), os.getpid()


def evaluate_within(job: Mapping[str, Any], memory_bytes: int, sweep: tuple[str, int]) -> dict[str, Any]:
    """Return `evaluate(job)` in at most so many bytes of address space more than this process has when it begins.

    The limit is one of the process, so the worker must have one to itself: in the process that sweeps, or while another
    thread of this one times a point, and on a system without such a limit, the status is `REFUSED`, with the reason.
    """
    if here() == sweep:
        return _refused("points are timed in the process that sweeps")
    if not can_limit():
        return _refused(f"{platform.system()} limits no address space")
    if not _at_work.acquire(blocking=False):
        return _refused("several points are timed in one process")
    try:
        if not _warm:
            from accel.sweep.serving import warm_up

            warm_up(())  # what every point needs is no point's growth
            _warm.append(True)
        with growth_limited(memory_bytes):
            return evaluate(job)
    finally:
        _at_work.release()


def _refused(why: str) -> dict[str, Any]:
    return {"status": REFUSED, "reason": why}
