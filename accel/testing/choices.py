"""Where generated programs get their decisions from: a plain random generator, or Hypothesis, which can shrink them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["Choices"]

T = TypeVar("T")


class Choices:
    """A source of decisions: `integer(low, high)` returns a number of an inclusive range, everything else derives.

    Smaller numbers and earlier members should be the simpler ones: a shrinking source walks toward them.
    """

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.integer = integer

    @classmethod
    def seeded(cls, seed: int) -> Choices:
        """Return the choices that a plain random generator makes from a seed."""
        return cls(random.Random(seed).randint)

    def pick(self, members: Sequence[T]) -> T:
        """Return one member of a sequence that is not empty."""
        return members[self.integer(0, len(members) - 1)]

    def one_in(self, n: int) -> bool:
        """Return True once in n times; the simpler answer is False."""
        return self.integer(0, n - 1) == n - 1

    def order(self, count: int) -> list[int]:
        """Return a permutation of 0 to count - 1."""
        left = list(range(count))
        return [left.pop(self.integer(0, len(left) - 1)) for _ in range(count)]
