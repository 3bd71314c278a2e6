"""Where a sweep stands, as its caller is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """Where a sweep stands.

    done of total points have a row; begun: those that had one when this run began; timed: points that this run has
    timed, in `seconds`; best: the best row so far by `objective`, None before one is timed; doing: what else is going
    on, such as compiling; notice: what became of rows that were there before, or what the executor cannot do.
    """

    total: int
    done: int = 0
    begun: int = 0
    timed: int = 0
    seconds: float = 0.0
    objective: str = "seconds"
    best: Mapping[str, Any] | None = None
    doing: str = ""
    notice: str = ""

    @property
    def rate(self) -> float:
        """Points timed a second."""
        return self.timed / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the points without a row will take, None while nobody knows."""
        return (self.total - self.done) / self.rate if self.timed else None
