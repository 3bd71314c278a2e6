"""Random numbers of the slow model: Philox4x32-10, written from the paper.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11: ten rounds of two 32 x 32 bit
multiplications on a counter of four words, the key raised by the Weyl constants in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["philox", "random_words"]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = np.uint64(0xFFFFFFFF)


def philox(counter: list[Any], key: tuple[int, int]) -> list[Any]:
    """Return the four output words for four counter words (uint64 arrays below 2^32) and a key of two words."""
    words = [np.asarray(c, np.uint64) for c in counter]
    for turn in range(10):
        first, second = words[0] * np.uint64(MULTIPLIERS[0]), words[2] * np.uint64(MULTIPLIERS[1])
        bumped = [np.uint64((key[i] + turn * WEYL[i]) & 0xFFFFFFFF) for i in (0, 1)]
        words = [
            (second >> np.uint64(32)) ^ words[1] ^ bumped[0],
            second & WORD,
            (first >> np.uint64(32)) ^ words[3] ^ bumped[1],
            first & WORD,
        ]
    return words


def random_words(index: Any, stream: int, seed: int) -> Any:
    """Return the 32-bit random number of each logical index (uint64 array) of a stream, as uint64."""
    index = np.asarray(index, np.uint64)
    block = index >> np.uint64(2)
    counter = [block & WORD, block >> np.uint64(32), np.full(index.shape, stream, np.uint64), np.zeros_like(block)]
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    return np.choose((index & np.uint64(3)).astype(np.int64), words)
