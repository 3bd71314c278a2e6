"""Decisions drawn from bytes: the same code is driven by Hypothesis, by a seeded generator and by atheris."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

# What tends to break readers: around 0, around powers of two, the ends of 8 to 64 bits.
WILD = (
    0, 1, -1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 63, 64, 65, 100, 127, 128, 255, 256, 257, 4095, 4096, 65535, 65536,
    -2, -8, -64, -128, -4096, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 39, 1 << 40,
    (1 << 40) + 1, -(1 << 31), -(1 << 40), (1 << 62), (1 << 63) - 1, -(1 << 63),
)  # fmt: skip


class Choices:
    """Draws decisions from bytes; when they are used up every draw is the first possibility."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def left(self) -> bool:
        """Return whether there are bytes left."""
        return self.at < len(self.data)

    def below(self, n: int) -> int:
        """Return a whole number from 0 to n - 1."""
        width = max(1, (n - 1).bit_length() + 7 >> 3) if n > 1 else 0
        part = self.data[self.at : self.at + width]
        self.at += width
        return int.from_bytes(part, "little") % max(n, 1)

    def pick(self, items: Sequence[T]) -> T:
        """Return one of some things."""
        return items[self.below(len(items))]

    def chance(self, percent: int) -> bool:
        """Return True in so many of 100 cases."""
        return self.below(256) * 100 < percent * 256

    def number(self, near: int = 0) -> int:
        """Return a number that tends to break readers, or one near another."""
        if self.chance(40):
            return near + self.pick((1, -1, 2, -2, 4, -4, 8, 16, 64, -64))
        return self.pick(WILD) if self.chance(80) else self.below(1 << 16) - 1000
