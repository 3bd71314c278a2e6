"""Which edits of waits and tokens are mistakes: those that break an order that the program needs."""

from __future__ import annotations

from functools import cached_property

from accel.errors import AccelError, Finding
from accel.program import Program
from accel.testing.terms import Terms

__all__ = ["NeededOrder"]

LARGEST = 1 << 28  # bytes of memory and SRAM up to which terms are followed


class NeededOrder:
    """Tells an edit that leaves every needed order of a program as it is from a mistake; it is proven, not sampled.

    An edit is none if the checker has no finding in the edited program - every two accesses to one byte, one of them a
    write, are ordered by its happens-before relation, no wait is ambiguous, nothing is lost or left - and every output
    has the term that it had (`Terms`): what is read from whom is then the same in every order, so all bits are, for all
    data. schedules: orders that the checker walks beside its proof.
    """

    def __init__(self, program: Program, schedules: int = 2) -> None:
        self.program, self.schedules = program, schedules
        self._terms = Terms()
        self._findings: dict[int, tuple[Program, tuple[Finding, ...] | str]] = {}

    @cached_property
    def _own(self) -> bytes | None:
        """The terms of the program; None where it has hazards itself or is too large, and every edit is a mistake."""
        isa = self.program.isa
        if isa.memory_bytes + isa.nodes * isa.sram_bytes > LARGEST or self.findings(self.program):
            return None
        return self._terms.of(isa)

    def findings(self, edited: Program) -> tuple[Finding, ...] | str:
        """Return what the checker finds, or the error with which it refuses, in one line."""
        if id(edited) not in self._findings:
            try:
                found: tuple[Finding, ...] | str = edited.findings(schedules=self.schedules)
            except AccelError as error:
                found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            self._findings[id(edited)] = edited, found  # keeps the program, and so its id
        return self._findings[id(edited)][1]

    def kept(self, edited: Program) -> bool:
        """Return whether the edited program is proven to do what the program does, in every order."""
        if self.findings(edited) or self._own is None:
            return False
        try:
            return self._terms.of(edited.isa) == self._own
        except AccelError:
            return False
