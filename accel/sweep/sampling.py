"""From the number of a point to the place of its value in every dimension: all combinations, or a sample of them.

Numbers are drawn by Philox4x32-10 (Salmon and others, SC 2011), the generator of the machine, from a counter and a key:
point i of a sample is the same whatever was drawn before it, in which order, on which machine and by which NumPy.

A permutation of 0..n-1 is a Feistel network of `ROUNDS` rounds over the least even number of bits that holds n - 1,
whose round function is one Philox block with counter (half, stream, round) and the seed as key, repeated until the
result is below n (cycle walking: Black and Rogaway, CT-RSA 2002).

random: point i is combination p(i) of the product, p a permutation of all combinations (stream 0): every combination at
most once. latin_hypercube of n points: dimension d has s values and its own permutation p (stream d + 1); point i lies
in the p(i)-th of n equal slices of the dimension. Where n >= s the slice gives the value under its middle, so that each
value comes floor(n / s) or ceil(n / s) times; where n < s one of the values under the slice is drawn, so that no value
comes twice and every n-th part of the values gives one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import SpecError
from accel.numerics.scalar import philox_block

__all__ = ["LARGEST", "METHODS", "Sampling", "permuted", "places", "refinement"]

METHODS = ("product", "random", "latin_hypercube")
LARGEST = 1 << 62  # combinations whose numbers fit 64 bits
ROUNDS = 6
_WORD = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """How points are taken from all combinations: the method, how many (None: all), and the seed."""

    method: str = "product"
    count: int | None = None
    seed: int = 0

    def size(self, sizes: Sequence[int], where: str) -> int:
        """Return how many points there are; SpecError where there are not as many combinations, or too many.

        sizes: values of each dimension.
        """
        every = math.prod(sizes)
        if self.count is None:
            if every >= LARGEST:
                raise SpecError(f"{where}: there are 2^{every.bit_length() - 1} combinations; take a latin_hypercube")
            return every
        if self.count > every:
            raise SpecError(f"{where} count = {self.count:,}, and there are {every:,} combinations; take fewer, or all")
        if self.method == "random" and every >= LARGEST:
            raise SpecError(f"{where}: random numbers 2^{every.bit_length() - 1} combinations; take a latin_hypercube")
        return self.count


def places(sampling: Sampling, sizes: Sequence[int], indices: Places) -> list[Places]:
    """Return for each dimension of the given sizes the places of the points `indices`; the last one varies fastest."""
    if sampling.method == "latin_hypercube" and sampling.count is not None:
        return [_stratum(sampling.count, size, indices, sampling.seed, at + 1) for at, size in enumerate(sizes)]
    rest = indices
    if sampling.method == "random":
        rest = permuted(indices, math.prod(sizes), sampling.seed, 0)
    found: list[Places] = []
    for size in reversed(sizes):
        found.append(rest % size)
        rest = rest // size
    return found[::-1]


def _stratum(count: int, size: int, indices: Places, seed: int, stream: int) -> Places:
    """Return the places of points in one dimension of a Latin hypercube; below 2^50, so that nothing overflows."""
    slices = permuted(indices, count, seed, stream)
    if count >= size:
        return (2 * slices + 1) * size // (2 * count)
    first = -(-slices * size // count)  # the places whose left end lies in the slice
    many = -(-(slices + 1) * size // count) - first
    drawn = _words(indices.astype(np.uint64), stream, ROUNDS, seed)
    return first + (drawn % many.astype(np.uint64)).astype(np.int64)


def _words(numbers: NDArray[np.uint64], stream: int, turn: int, seed: int) -> NDArray[np.uint64]:
    """Return 64 random bits for each number."""
    zero = np.zeros(numbers.shape, np.uint64)
    block: Any = philox_block(
        numbers & _WORD, numbers >> _HIGH, zero + np.uint64(stream), zero + np.uint64(turn),
        np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32),
    )  # fmt: skip
    found: NDArray[np.uint64] = np.asarray(block[0], np.uint64) | (np.asarray(block[1], np.uint64) << _HIGH)
    return found


def permuted(indices: Places, size: int, seed: int, stream: int) -> Places:
    """Return where a permutation of 0..size-1 sends the given numbers; size below 2^62.

    seed, stream: which of the permutations.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    found = indices.astype(np.uint64)
    walking = np.arange(len(found))
    while walking.size:
        left, right = found[walking] >> half, found[walking] & mask
        for turn in range(ROUNDS):
            left, right = right, left ^ (_words(right, stream, turn, seed) & mask)
        found[walking] = (left << half) | right
        walking = walking[found[walking] >= np.uint64(size)]
    return found.astype(np.int64)


def refinement(size: int, ordered: bool = True) -> NDArray[np.uint8]:
    """Return for each place of a dimension the pass in which it is due: 0 for ends and middle, then halves between.

    size: of the dimension. ordered: False for values that have no order, all of which are due at once.
    """
    due = np.full(size, 255, np.uint8)
    due[[0, (size - 1) // 2, size - 1]] = 0
    if not ordered:
        due[:] = 0
    level = 0
    while (due == 255).any():
        level += 1
        known = np.flatnonzero(due < level)
        middle = (known[:-1] + known[1:]) // 2
        due[middle[due[middle] == 255]] = level
    return due
