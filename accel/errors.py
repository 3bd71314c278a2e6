"""Every error the library raises: one line each, naming the object, the rule and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "AccelError",
    "AssemblyError",
    "BoundsError",
    "CapacityError",
    "DeadlockError",
    "Finding",
    "HazardError",
    "InputError",
    "InternalError",
    "Location",
    "ProgramError",
    "Side",
    "SpecError",
    "TraceError",
    "UnsupportedError",
    "UnwrittenError",
    "nearest",
]


EXCERPT = 100  # characters of a line that a message shows


class Location(NamedTuple):
    """A place in the author's source."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class AccelError(Exception):
    """Base of every error this library raises; `str()` is one line that ends on the way out.

    `at` is the author's own line where one is known, never a line of this library.
    """

    def __init__(self, message: str, *, at: Location | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.at = at

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" if self.at else self.message


class InputError(AccelError, ValueError):
    """An argument (shape, array, option, name) that the called function cannot take."""


class SpecError(InputError):
    """A chip, frame or sweep description with a wrong, missing or unknown key."""


class UnsupportedError(AccelError):
    """A legal request that this chip, format or kernel does not do."""


class TraceError(AccelError):
    """A kernel that cannot be turned into a program; `at` is the author's line."""


class BoundsError(TraceError):
    """A view, slice or index that leaves its buffer, tensor or mesh."""


class CapacityError(TraceError):
    """A kernel that needs more of a node's SRAM, semaphores or threads than the chip has.

    `allocation_map` is a multi-line listing of what is allocated so far (empty if not about SRAM).
    """

    def __init__(self, message: str, *, at: Location | None = None, allocation_map: str = "") -> None:
        super().__init__(message, at=at)
        self.allocation_map = allocation_map


class ProgramError(AccelError):
    """Program data (a file, a row, a descriptor) that breaks the format or the machine's limits."""


class AssemblyError(ProgramError):
    """Assembly text that cannot become a program; `line` and `column` count from 1.

    `excerpt` is the line of text with a caret below the place; `str()` ends with it.
    """

    def __init__(self, message: str, *, at: Location, column: int, text: str) -> None:
        super().__init__(message, at=at)
        self.line, self.column, self.text = at.line, column, text
        first = max(0, column - 1 - EXCERPT // 2)
        shown = "".join(c if c.isprintable() else " " for c in text[first : first + EXCERPT])
        self.excerpt = f"    {shown}\n    {' ' * (column - 1 - first)}^"

    def __str__(self) -> str:
        return f"{self.at}:{self.column}: {self.message}\n{self.excerpt}"


class Side(NamedTuple):
    """What one line of the author does in a hazard: "write of A by the copy"; the hardware thread it runs on."""

    does: str
    at: Location | None
    thread: str = ""


class Finding(NamedTuple):
    """One hazard, grouped over the nodes that show it.

    kind: race | uninitialised | ambiguous | deadlock | leftover | unawaited | overflow | unwritten
    message: one line; first and second: the author's lines of both sides (second may be None).
    nodes: logical (row, col) of every node that shows it. thing: the buffer, tensor or semaphore it is about.
    sides: every line that takes part; why: an order of events, a line each, that goes wrong; fix: the way out.
    """

    kind: str
    message: str
    first: Location | None
    second: Location | None
    nodes: tuple[tuple[int, int], ...]
    thing: str = ""
    sides: tuple[Side, ...] = ()
    why: tuple[str, ...] = ()
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.first}: {self.message}" if self.first else self.message


class HazardError(AccelError):
    """A program whose result depends on timing, or that reads what nobody wrote; see `findings`."""

    def __init__(self, message: str, findings: Sequence[Finding] = (), *, at: Location | None = None) -> None:
        super().__init__(message, at=at)
        self.findings = tuple(findings)


class DeadlockError(HazardError):
    """No thread can go on and nothing is in flight; `findings` says who waits for what."""


class UnwrittenError(HazardError):
    """An output element that no instruction stored."""


class InternalError(AccelError):
    """A broken promise inside this library: please report it with the program that shows it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the known name closest to `name`, or an empty string.

    A name that begins some of the known ones means those: 'a100' means both of the A100's ids.
    """
    known = list(known)
    begun = [other for other in known if len(name) > 2 and other.lower().startswith(name.lower())]
    if begun:
        return f"; did you mean {' or '.join(map(repr, begun[:3]))}?"
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    close.sort(key=lambda other: sorted(other) != sorted(name.lower()))  # two letters that changed places
    return f"; did you mean {close[0]!r}?" if close else ""
