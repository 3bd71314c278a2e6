"""One writer a store: a lock that the system takes back when its process ends, whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from accel.errors import InputError

if sys.platform != "win32":  # no POSIX locks there: SQLite's own lock still keeps two writers apart, row by row
    import fcntl

__all__ = ["WriterLock"]

LONGEST_NOTE = 4096  # bytes read of a lock file
_held: set[tuple[int, int]] = set()  # lock files of this process, which the system would let it lock once more


class WriterLock:
    """The right to write a store, held until `release` or the end of the process.

    The lock lies on the file `STORE.lock`, which also says who holds it; left behind by a process that was killed, the
    file locks nobody out. Forked children do not hold it. InputError where this or another process holds it.
    """

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(store.name + ".lock")
        self._fd: int | None = None
        self._file = (0, 0)
        while sys.platform != "win32":
            self._refuse_twice(store)
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise InputError(
                    f"Cannot write sweep store {str(store)!r} because its lock file cannot be made: "
                    f"{error.strerror}; use a folder that you may write to"
                ) from None
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = _holder(fd)
                os.close(fd)
                raise _taken(store, holder) from None
            own = os.fstat(fd)
            try:
                # Whoever held it may have taken the file away between the open and the lock.
                if os.path.samestat(own, self.path.stat()):
                    break
            except FileNotFoundError:
                pass
            os.close(fd)
        else:
            return
        note = {"pid": os.getpid(), "host": os.uname().nodename, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(note).encode(), 0)
        except OSError:
            pass  # a full disk: the lock holds without a name on it
        self._fd, self._file = fd, (own.st_dev, own.st_ino)
        _held.add(self._file)

    def _refuse_twice(self, store: Path) -> None:
        with contextlib.suppress(OSError):
            there = self.path.stat()
            if (there.st_dev, there.st_ino) in _held:
                raise _taken(store, "this process")

    def release(self) -> None:
        """Let others write."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            _held.discard(self._file)
            os.close(self._fd)
            self._fd = None


def _taken(store: Path, holder: str) -> InputError:
    return InputError(
        f"Cannot sweep into {str(store)!r} because {holder} is sweeping into it; "
        "wait for its end, stop it, or use another store"
    )


def _holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, LONGEST_NOTE, 0))
        return f"process {int(note['pid'])} on {note['host']} (since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
