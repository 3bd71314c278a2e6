"""The folder where compiled code is kept: its key, its locks, its pruning, and what happens when it cannot be written.

One folder per key `jit-<hash>`, and the key covers every source the compiled code could depend on, so a change in any
callee or baked-in constant leads to a fresh folder (Numba's own cache misses that). A file holds one compiled
signature and is written whole by a rename, so any number of processes may read and write at once; a damaged file is
compiled anew.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from accel.errors import InputError

if sys.platform != "win32":  # no POSIX locks there: folders are then never pruned, which is safe
    import fcntl

__all__ = ["ABOVE_COMPILED_CODE", "KEPT_FOLDERS", "CacheInfo", "Store", "default_base", "source_key"]

KEPT_FOLDERS = 3
_PREFIX = "jit-"
_LOCK = ".lock"
_SUFFIX = ".bin"
# Parts of the package that no jitted module imports, however indirectly (tests/test_architecture.py proves it): editing
# them cannot change compiled code, so they stay out of the key and do not cost a recompilation.
ABOVE_COMPILED_CODE = frozenset(
    {"baselines", "batch.py", "cli", "comparison.py", "kernels", "lang", "networks", "problem", "program.py",
     "provenance.py", "report", "sweep", "testing", "validation", "verification.py"}
)  # fmt: skip


class CacheInfo(NamedTuple):
    """What is known of the compile cache: its folder, bytes and files in it, and whether it outlives the process."""

    folder: Path
    size_bytes: int
    entries: int
    writable: bool


def default_base() -> Path:
    """Return the folder that holds all caches: ACCEL_CACHE_DIR, or `accel` in the user's cache folder.

    InputError where ACCEL_CACHE_DIR starts with ~ and a name that no user has.
    """
    if chosen := os.environ.get("ACCEL_CACHE_DIR"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError:  # no such user
            raise InputError(
                f"Cannot use ACCEL_CACHE_DIR={chosen!r}: nobody has that home; use a folder that you may write to"
            ) from None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "accel" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "accel"
    home = Path(os.environ.get("HOME") or tempfile.gettempdir())
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "accel"


def _sources(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root, followlinks=True):
        top = Path(folder) == root
        names[:] = sorted(n for n in names if n != "__pycache__" and not (top and n in ABOVE_COMPILED_CODE))
        for name in sorted(files):
            if name.endswith(".py") and not (top and name in ABOVE_COMPILED_CODE):
                yield Path(folder) / name


def source_key(root: Path, facts: Iterable[str]) -> str:
    """Return 16 hex digits over the sources below `root` and `facts` (versions, processor, target)."""
    digest = hashlib.sha256("\0".join(facts).encode())
    for path in _sources(root):
        text = path.read_bytes()
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{len(text)}\0".encode())
        digest.update(text)
    return digest.hexdigest()[:16]


class Store:
    """Compiled signatures on disk under one key; falls back to a folder of this process with one line on stderr."""

    def __init__(self, base: Path, key: str) -> None:
        self.folder = base / (_PREFIX + key)
        self.shared = True
        self._lock_fd: int | None = None
        try:
            new = self._enter()
        except OSError as error:
            self._go_private(error)
        else:
            if new:
                _prune(base, self.folder)

    def _enter(self) -> bool:
        """Create the folder if needed, hold its shared lock, and return whether it is new."""
        new = not self.folder.is_dir()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform != "win32" and self.folder.stat().st_uid != os.getuid():
            # Compiled code is executed: a folder that someone else owns could hold anything.
            raise PermissionError("it belongs to another user")
        tempfile.TemporaryFile(dir=self.folder).close()  # raises where the folder cannot be written
        if sys.platform == "win32":
            return new
        while True:
            fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH)
            try:
                # A pruner may have removed the folder between the open and the lock.
                if os.path.samestat(os.fstat(fd), (self.folder / _LOCK).stat()):
                    break
            except FileNotFoundError:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(fd)
        self._lock_fd = fd  # held until the process ends
        os.utime(self.folder)
        return new

    def _go_private(self, error: OSError) -> None:
        wanted, reason = self.folder, error.strerror or str(error)
        self.folder = Path(tempfile.mkdtemp(prefix="accel-jit-"))
        self.shared = False
        owner = os.getpid()
        atexit.register(_remove_if_owner, self.folder, owner)
        sys.stderr.write(
            f"accel: cannot keep compiled code in {wanted} ({reason}): compiling for this process only; "
            "set ACCEL_CACHE_DIR to a writable folder to keep it\n"
        )

    def read(self, name: str) -> bytes | None:
        """Return the bytes kept under `name`, or None if they are absent or damaged."""
        try:
            blob = (self.folder / (name + _SUFFIX)).read_bytes()
        except OSError:
            return None
        digest, payload = blob[:32], blob[32:]
        return payload if hashlib.sha256(payload).digest() == digest else None

    def write(self, name: str, payload: bytes) -> None:
        """Keep `payload` under `name`, visible to other processes as a whole or not at all."""
        try:
            self._write(name, payload)
        except OSError as error:
            if not self.shared:
                return  # the private folder only spares recompiling within this process
            self._go_private(error)

    def _write(self, name: str, payload: bytes) -> None:
        partial = self.folder / f"{name}.{uuid.uuid4().hex}.part"
        try:
            with partial.open("wb") as file:
                file.write(hashlib.sha256(payload).digest())
                file.write(payload)
            partial.replace(self.folder / (name + _SUFFIX))
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def info(self) -> CacheInfo:
        """Return folder, size and number of entries."""
        sizes = [entry.stat().st_size for entry in os.scandir(self.folder) if entry.name.endswith(_SUFFIX)]
        return CacheInfo(self.folder, sum(sizes), len(sizes), self.shared)


def _remove_if_owner(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take the folder from its parent
        shutil.rmtree(folder, ignore_errors=True)


def _prune(base: Path, current: Path) -> None:
    """Remove the oldest folders beyond `KEPT_FOLDERS`, leaving `current` and any that a live process has locked."""
    if sys.platform == "win32":
        return
    folders = [
        (entry.stat().st_mtime, Path(entry.path))
        for entry in os.scandir(base)
        if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
    ]
    for _, folder in sorted(folders, reverse=True)[KEPT_FOLDERS:]:
        if folder == current:
            continue
        try:
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue  # not ours to remove
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)
