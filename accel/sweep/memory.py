"""The memory of a process: how much it has in use, and a limit to how much more it may take."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform != "win32":
    import resource

__all__ = ["can_limit", "growth_limited", "limit_growth", "rss_bytes"]


def can_limit() -> bool:
    """Return whether the system keeps a limit of address space and tells what a process has of it: Linux."""
    return _pages(os.getpid(), 0) is not None and sys.platform == "linux"


def rss_bytes(pid: int) -> int | None:
    """Return the bytes of memory that a process has in use, None where the system does not say."""
    return _pages(pid, 1)


def limit_growth(memory_bytes: int) -> tuple[int, int] | None:
    """Let the address space of this process grow by so many bytes from here on, or by less where it is limited already.

    Returns the limits before, None where nothing was changed.
    """
    now = _pages(os.getpid(), 0)
    if sys.platform == "win32" or now is None:
        return None
    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = now + memory_bytes
    if any(bound != resource.RLIM_INFINITY and bound <= wanted for bound in before):
        return None
    resource.setrlimit(resource.RLIMIT_AS, (wanted, before[1]))
    return before


@contextmanager
def growth_limited(memory_bytes: int) -> Iterator[None]:
    """Let the address space of this process grow by so many bytes inside the block."""
    before = limit_growth(memory_bytes)
    try:
        yield
    finally:
        if sys.platform != "win32" and before is not None:
            resource.setrlimit(resource.RLIMIT_AS, before)


def _pages(pid: int, column: int) -> int | None:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - a line of the kernel's
            return int(file.read().split()[column]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError):
        return None
