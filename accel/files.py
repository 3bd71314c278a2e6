"""Files written whole or not at all, and read up to a limit; every mishap is one InputError; lines to quote."""

from __future__ import annotations

import linecache
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from accel.errors import InputError, Location, SpecError

__all__ = ["read_toml_text", "read_whole", "source_text", "write_folder", "write_whole"]

HOME = Path(__file__).resolve().parents[1]  # files of the library are named from here
LARGEST_TOML = 16 << 20  # bytes: a thousand times any chip or sweep
LARGEST_SOURCE = 1 << 20  # bytes of a Python file whose lines are quoted
QUOTED = 200  # characters of a line


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


def read_toml_text(path: str | os.PathLike[str], what: str) -> str:
    """Return the text of a TOML file; SpecError, naming `what` it is, where it cannot be read or is no text."""
    try:
        return read_whole(path, LARGEST_TOML, what).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"cannot read {what} {str(path)!r}: not UTF-8 text; give a TOML file") from None
    except InputError as error:
        raise SpecError(error.message) from None


def write_folder(path: str | os.PathLike[str], contents: Mapping[str, bytes], what: str = "files") -> tuple[Path, ...]:
    """Write files by name into a folder, made where it is missing, and return their paths.

    All are written whole beside their places before the first takes its place, so a full disk, an interrupt or a
    folder that may not be written changes nothing; other files of the folder stay. Raises InputError, naming `what`.
    """
    try:
        folder = Path(path)
    except TypeError:
        raise InputError(f"cannot write {what} to {path!r}; give the path of a folder") from None
    staged: str | None = None
    try:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(0, "Not a folder")
        staged = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")
        for name, content in contents.items():
            (Path(staged) / name).write_bytes(content)
        mask = os.umask(0)
        os.umask(mask)
        if not folder.exists():
            Path(staged).chmod(0o777 & ~mask)  # as `mkdir` would have made it: mkdtemp keeps others out
            Path(staged).replace(folder)
        else:
            for name in contents:
                (Path(staged) / name).replace(folder / name)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot write {what} to {str(folder)!r}: {reason}; give a folder in a place that you may write to"
        ) from None
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return tuple(folder / name for name in contents)


def source_text(line: Location) -> str:
    """Return the text of a source line, stripped; empty where no such Python file can be read. Nothing is executed.

    A program file from elsewhere may name any path, so only Python files of a size that people write are quoted, and
    cells of a notebook, which Python keeps in memory.
    """
    if line.file.startswith("<") and line.file in linecache.cache:
        return _printable(linecache.getline(line.file, line.line))
    for path in (Path(line.file), HOME / line.file):
        try:
            found = path.stat() if path.suffix == ".py" else None
        except (OSError, ValueError):  # ValueError: a null byte in the name
            continue
        if found is not None and stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST_SOURCE:
            linecache.checkcache(str(path))
            return _printable(linecache.getline(str(path), line.line))
    return ""


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:QUOTED]).strip()
