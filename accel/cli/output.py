"""Where results go: lines on stdout, one JSON object on request, files written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from accel.errors import InputError

__all__ = ["deliver", "json_option", "say", "write_json"]

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Add `--json FILE|-` to a command; without a value it means stdout."""
    decorate = click.option(
        "--json", "json_to", metavar="FILE|-", is_flag=False, flag_value="-", default=None,
        help="Write one JSON object to FILE, or to stdout (-) in place of the text.",
    )  # fmt: skip
    return decorate(command)


def say(text: str = "") -> None:
    """Print a line of the result on stdout; nothing where stdout is closed."""
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")


def deliver(json_to: str | None, data: Callable[[], dict[str, Any]], show: Callable[[], None]) -> None:
    """Give the result: JSON alone on stdout for "-", else the text, and JSON in a file where one is named."""
    if json_to is not None:
        write_json(data(), json_to)
    if json_to != "-":
        show()


def write_json(data: Any, json_to: str) -> None:
    """Write plain data as JSON to stdout ("-"), or to a file whole or not at all (InputError where that fails)."""
    text = json.dumps(data, indent=2, allow_nan=False)
    if json_to == "-":
        say(text)
    else:
        _write_whole(Path(json_to), text + "\n")


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    if path.exists() and not path.is_file():  # a device or a named pipe takes bytes, not a rename
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _cannot_write(path, error) from None
        return
    partial: str | None = None
    try:
        fd, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(partial).chmod(0o666 & ~mask)
        Path(partial).replace(path)
    except OSError as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {str(path)!r}: {error.strerror}; give a file in a folder that you may write to")
