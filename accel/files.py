"""Files written whole or not at all, and read up to a limit; every mishap is one InputError."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from accel.errors import InputError

__all__ = ["read_whole", "write_whole"]


def write_whole(path: str | os.PathLike[str], content: bytes, what: str = "file") -> None:
    """Write `content` to `path` by a rename; a device or a named pipe takes the bytes as they are.

    Raises InputError, naming `what` it is, where the path is no path or cannot be written; nothing is left behind then.
    """
    try:
        target = Path(path)
    except TypeError:
        raise InputError(f"cannot write {what} to {path!r}; give the path of a file") from None
    partial: str | None = None
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "Is a directory")
        if target.exists() and not target.is_file():  # a rename would put a plain file in the place of a device
            target.write_bytes(content)
            return
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        Path(partial).chmod(0o666 & ~mask)  # as `open` would have made it: mkstemp keeps others out
        Path(partial).replace(target)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot write {what} {str(target)!r}: {reason}; give a file in a folder that you may write to"
        ) from None
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)


def read_whole(path: str | os.PathLike[str], limit_bytes: int, what: str = "file") -> bytes:
    """Return the content of a file of at most `limit_bytes`; InputError, naming `what` it is, where that fails.

    A pipe is read like a file; never more than the limit is held, whatever the path leads to.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = b"" if size > limit_bytes else file.read(limit_bytes + 1)
    except TypeError:
        raise InputError(f"cannot read {what} {path!r}; give the path of a file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read {what} {str(path)!r}: {reason}; give a file that you may read") from None
    if max(size, len(content)) > limit_bytes:
        raise InputError(f"cannot read {what} {str(path)!r}: it is over {limit_bytes:,} bytes; give a smaller one")
    return content
