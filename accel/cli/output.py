"""Where results go: lines on stdout, one JSON object on request, files written whole or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from accel.files import write_whole

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
        write_whole(json_to, f"{text}\n".encode(), "result file")
