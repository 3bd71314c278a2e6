"""When what a sweep has committed is on the disk itself: at once for a kill, soon for a power cut."""

from __future__ import annotations

import os
import time
from pathlib import Path

from accel.errors import InputError

__all__ = ["Journal"]

SYNC_S = 0.1  # rows wait so long for the disk...
SYNC_WAIT = 9  # ...or so many times as long as the disk took last, that it costs a tenth of the time at most


class Journal:
    """The -wal file of a store that SQLite commits to without waiting for the disk (synchronous = NORMAL).

    A commit is a write that the system has taken: it outlives the process, whatever ends that. A power cut takes what
    the system has not given to the disk yet; `sync` has it do so, for all commits since the last time together.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._fd: int | None = None
        self._behind = False
        self._synced, self._took_s = time.monotonic(), 0.0

    def wrote(self) -> None:
        """Note that something was committed."""
        self._behind = True

    def sync(self, *, now: bool = False) -> None:
        """Wait until the disk has all commits, where it is due or to be `now`; InputError where the disk refuses."""
        begun = time.monotonic()
        if not self._behind or (not now and begun - self._synced < max(SYNC_S, SYNC_WAIT * self._took_s)):
            return
        try:
            if self._fd is None:  # no lock of SQLite's is on this file, so that closing it again gives none away
                self._fd = os.open(self._store.with_name(self._store.name + "-wal"), os.O_RDWR | os.O_CLOEXEC)
            os.fsync(self._fd)
        except OSError as error:
            raise InputError(
                f"Cannot write sweep store {str(self._store)!r} because its journal does not reach the disk: "
                f"{error.strerror}; check the disk and its space and sweep again"
            ) from None
        self._behind, self._synced = False, time.monotonic()
        self._took_s = self._synced - begun

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
