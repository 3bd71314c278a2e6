"""From the number of a point to the place of its value on every axis: all combinations, or a sample of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["METHODS", "Sampling", "places", "refinement"]

METHODS = ("product", "random", "latin_hypercube")


@dataclass(frozen=True)
class Sampling:
    """How points are taken from all combinations: the method, how many (None: all), and the seed."""

    method: str = "product"
    count: int | None = None
    seed: int = 0


def places(sampling: Sampling, sizes: Sequence[int], indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return for each dimension of the given sizes the places of the points `indices`; the last one varies fastest."""
    found: list[NDArray[np.int64]] = []
    rest = indices
    for size in reversed(sizes):
        found.append(rest % size)
        rest = rest // size
    return found[::-1]


def refinement(size: int) -> NDArray[np.uint8]:
    """Return for each place of an axis the pass in which it is due: 0 for ends and middle, then halves between."""
    import numpy as np

    due = np.full(size, 255, np.uint8)
    due[[0, size - 1, (size - 1) // 2]] = 0
    level = 0
    while (due == 255).any():
        level += 1
        known = np.flatnonzero(due < level)
        middle = (known[:-1] + known[1:]) // 2
        due[middle[due[middle] == 255]] = level
    return due
