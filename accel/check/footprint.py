"""Jitted set arithmetic on footprints: do two strided boxes share a byte, is one inside another, which bytes are set.

A footprint is the address of its row in the arena; its place is the address of its lowest byte. Bytes outside of its
window (F_LOW to F_HIGH) do not count: so a view that wraps in a ring is two places of one footprint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.layout import F_COUNT, F_DIMS, F_HIGH, F_LOW, F_RUN, F_SHAPE, F_SPAN, F_STRIDE, Ints

__all__ = ["all_set", "contains", "mark", "overlap"]


@inner
def _first(p: int, stride: int, width: int, low: int) -> int:
    """Return the first index whose sub-box [p + i*stride, + width) ends above `low`."""
    if stride == 0:
        return 0
    return max(0, (low - width - p) // stride + 1)


@inner
def _last(p: int, stride: int, count: int, high: int) -> int:
    """Return one past the last index whose sub-box starts below `high`."""
    if stride == 0:
        return 1
    return min(count, (high - 1 - p) // stride + 1)


@inner
def _touches(m: Ints, f: int, at: int, low: int, high: int) -> bool:
    """Say whether footprint f at byte `at` has a byte in [low, high)."""
    run, s3, s2, s1 = m[f + F_RUN], m[f + F_STRIDE + 3], m[f + F_STRIDE + 2], m[f + F_STRIDE + 1]
    w3 = run + s3 * (m[f + F_COUNT + 3] - 1)
    w2 = w3 + s2 * (m[f + F_COUNT + 2] - 1)
    w1 = w2 + s1 * (m[f + F_COUNT + 1] - 1)
    for i0 in range(_first(at, m[f + F_STRIDE], w1, low), _last(at, m[f + F_STRIDE], m[f + F_COUNT], high)):
        p0 = at + i0 * m[f + F_STRIDE]
        for i1 in range(_first(p0, s1, w2, low), _last(p0, s1, m[f + F_COUNT + 1], high)):
            p1 = p0 + i1 * s1
            for i2 in range(_first(p1, s2, w3, low), _last(p1, s2, m[f + F_COUNT + 2], high)):
                p2 = p1 + i2 * s2
                for i3 in range(_first(p2, s3, run, low), _last(p2, s3, m[f + F_COUNT + 3], high)):
                    p3 = p2 + i3 * s3
                    if p3 < high and p3 + run > low:
                        return True
    return False


@inner
def _runs(m: Ints, f: int) -> int:
    return int(m[f + F_COUNT] * m[f + F_COUNT + 1] * m[f + F_COUNT + 2] * m[f + F_COUNT + 3])


@inner
def overlap(m: Ints, f: int, at: int, g: int, there: int) -> bool:
    """Say whether footprint f at byte `at` and footprint g at byte `there` share a byte; exact."""
    least, most = max(m[f + F_LOW], m[g + F_LOW], there), min(m[f + F_HIGH], m[g + F_HIGH], there + m[g + F_SPAN])
    if at >= most or least >= at + m[f + F_SPAN] or least >= most:
        return False
    if _runs(m, f) > _runs(m, g):
        f, g, at, there = g, f, there, at
    run, s3, s2, s1 = m[f + F_RUN], m[f + F_STRIDE + 3], m[f + F_STRIDE + 2], m[f + F_STRIDE + 1]
    w3 = run + s3 * (m[f + F_COUNT + 3] - 1)
    w2 = w3 + s2 * (m[f + F_COUNT + 2] - 1)
    w1 = w2 + s1 * (m[f + F_COUNT + 1] - 1)
    for i0 in range(_first(at, m[f + F_STRIDE], w1, least), _last(at, m[f + F_STRIDE], m[f + F_COUNT], most)):
        p0 = at + i0 * m[f + F_STRIDE]
        for i1 in range(_first(p0, s1, w2, least), _last(p0, s1, m[f + F_COUNT + 1], most)):
            p1 = p0 + i1 * s1
            for i2 in range(_first(p1, s2, w3, least), _last(p1, s2, m[f + F_COUNT + 2], most)):
                p2 = p1 + i2 * s2
                for i3 in range(_first(p2, s3, run, least), _last(p2, s3, m[f + F_COUNT + 3], most)):
                    p3 = p2 + i3 * s3
                    if _touches(m, g, there, max(p3, least), min(p3 + run, most)):
                        return True
    return False


@inner
def contains(m: Ints, f: int, at: int, g: int, there: int) -> bool:
    """Say whether f at `at` surely holds every byte of g at `there` (equal, or a solid box around it)."""
    if at == there and m[f + F_SHAPE] == m[g + F_SHAPE]:
        return True
    least, most = max(at, m[f + F_LOW]), min(at + m[f + F_SPAN], m[f + F_HIGH])
    low, high = max(there, m[g + F_LOW]), min(there + m[g + F_SPAN], m[g + F_HIGH])
    return bool(m[f + F_DIMS] == 0 and least <= low and most >= high)


@inner
def _range(bits: NDArray[np.uint32], word: int, first: int, last: int, write: int) -> int:
    """Return how many of the bits [first, last) counted from `word` are not set; set them if `write`."""
    fresh = 0
    i = first
    while i < last:
        here, at = word + (i >> 5), i & 31
        n = min(32 - at, last - i)
        old = int(bits[here])
        d = (((1 << n) - 1) << at) & ~old
        if d != 0:
            if write == 0:
                return 1
            bits[here] = old | d
            d = d - ((d >> 1) & 0x55555555)  # bits set in 32, by halves
            d = (d & 0x33333333) + ((d >> 2) & 0x33333333)
            fresh += ((((d + (d >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24) & 0xFF
        i += n
    return fresh


@inner
def _walk(m: Ints, bits: NDArray[np.uint32], word: int, grain: int, f: int, at: int, zero: int, write: int) -> int:
    fresh = 0
    run, up = m[f + F_RUN], (1 << grain) - 1
    for i0 in range(m[f + F_COUNT]):
        for i1 in range(m[f + F_COUNT + 1]):
            for i2 in range(m[f + F_COUNT + 2]):
                p = at + i0 * m[f + F_STRIDE] + i1 * m[f + F_STRIDE + 1] + i2 * m[f + F_STRIDE + 2]
                for _ in range(m[f + F_COUNT + 3]):
                    low, high = max(p, m[f + F_LOW]) - zero, min(p + run, m[f + F_HIGH]) - zero
                    fresh += _range(bits, word, low >> grain, (high + up) >> grain, write)
                    if write == 0 and fresh > 0:
                        return fresh
                    p += m[f + F_STRIDE + 3]
    return fresh


@inner
def mark(m: Ints, bits: NDArray[np.uint32], word: int, grain: int, f: int, at: int, zero: int) -> int:
    """Set the shadow bits of footprint f at byte `at`, of a group from byte `zero` on; return how many were not set."""
    return _walk(m, bits, word, grain, f, at, zero, w.WRITE)


@inner
def all_set(m: Ints, bits: NDArray[np.uint32], word: int, grain: int, f: int, at: int, zero: int) -> bool:
    """Say whether every shadow bit of footprint f at byte `at`, of a group from byte `zero` on, is set."""
    return _walk(m, bits, word, grain, f, at, zero, w.READ) == 0
