"""What a report is about: a program with its timing, and, where there is one, its problem next to GPUs."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from accel.comparison import Comparison
from accel.errors import InputError
from accel.files import source_text
from accel.isa import container
from accel.program import Program, Verified

if TYPE_CHECKING:
    from accel.timing import Timing

__all__ = ["Picture", "Reportable", "Subject", "source_text", "subjects_of"]


class Picture(NamedTuple):
    """An image that a page shows inside itself: its bytes, media type ("image/jpeg"), what it shows, and a caption."""

    data: bytes
    media_type: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One program of a report. `origin` says where its shape comes from, `remarks` what else is known about it.

    pictures: what went in or came out, where that is an image.

    verified: what a run gave against an oracle; hazards: findings of the checker; None where nobody asked.
    """

    label: str
    program: Program
    timing: Timing
    comparison: Comparison | None = None
    origin: str = ""
    verified: Verified | None = None
    hazards: int | None = None
    remarks: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def peak_tflops(self) -> float | None:
        """Peak of all enabled nodes in the format that did the work; None where no work was counted."""
        t, chip = self.timing, self.program.chip
        if self.comparison is not None:
            return chip.peak_flops(self.comparison.chip.dtype) / 1e12
        if not t.flops or not t.utilization or not t.cycles:
            return None
        return t.flops / (t.utilization * t.cycles) * chip.clock_hz / 1e12

    @property
    def memory_bytes(self) -> int:
        """Bytes that the program reads from and writes to memory."""
        return self.timing.bytes["memory_read"] + self.timing.bytes["memory_write"]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the program file that `Program.save` would write."""
        return hashlib.sha256(container.to_bytes(self.program.isa)).hexdigest()


Reportable: TypeAlias = Program | Comparison | Subject


def subjects_of(what: Reportable | Iterable[Reportable], fidelity: str = "packet") -> tuple[Subject, ...]:
    """Return the subjects of a program, a comparison, or several of them; programs are timed at `fidelity`.

    InputError for anything else, and for none at all.
    """
    several = isinstance(what, Iterable) and not isinstance(what, Subject | str)
    things: tuple[object, ...] = tuple(what) if several else (what,)  # type: ignore[arg-type]
    if not things:
        raise InputError("Cannot report on nothing; give a Program or the Comparison that accel.bench returns")
    return tuple(_subject(thing, fidelity) for thing in things)


def _subject(thing: object, fidelity: str) -> Subject:
    if isinstance(thing, Subject):
        return thing
    if isinstance(thing, Comparison):
        return Subject(label=thing.problem.label, program=thing.program, timing=thing.timing, comparison=thing)
    if isinstance(thing, Program):
        return Subject(label=f"{thing.name} on {thing.chip.name}", program=thing, timing=thing.time(fidelity))
    shown = reprlib.repr(thing)  # of a Timing, all of it would be pages
    raise InputError(
        f"Cannot report on {type(thing).__name__} {shown}; give a Program or the Comparison that accel.bench returns"
    )
