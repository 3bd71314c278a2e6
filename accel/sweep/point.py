"""One design point: the chip, the problems, the kernel's parameters, and a key made of what decides its figures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.provenance import source_digest

if TYPE_CHECKING:
    from accel.hardware import ChipSpec, FrameFormat
    from accel.problem import Problem

__all__ = ["Limits", "Point"]


@dataclass(frozen=True)
class Limits:
    """What one point may take: seconds, and bytes by which a worker may grow; None: as much as there is."""

    timeout_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Point:
    """A legal design point. `values` are those of the axes; `problems` are (count, name, problem) in order.

    kernel: parameters that go to the kernels; resident: operands that lie in SRAM; frame: the video, None without.
    """

    index: int
    values: dict[str, Any]
    chip: ChipSpec
    problems: tuple[tuple[int, str, Problem], ...]
    kernel: dict[str, Any]
    resident: tuple[str, ...]
    frame: FrameFormat | None
    fidelity: str

    def job(self) -> dict[str, Any]:
        """Return all that decides the figures as plain data for JSON: chip, problems, kernel, resident, fidelity."""
        return {
            "chip": self.chip.to_dict(),
            "problems": [[count, name, problem.to_dict()] for count, name, problem in self.problems],
            "kernel": dict(self.kernel),
            "resident": list(self.resident),
            "fidelity": self.fidelity,
        }

    def key(self) -> str:
        """Return 64 hex digits over the chip, the problems, the parameters, the fidelity and the package's sources.

        Names of layers, the chip's description and the point's number take no part: equal work has an equal key.
        """
        from accel import __version__

        parts = [
            self.chip.digest(),
            [[count, problem.to_dict()] for count, _, problem in self.problems],
            self.kernel,
            sorted(self.resident),
            self.fidelity,
            __version__,
            source_digest(),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
