"""Jitted set arithmetic on footprints: do two strided boxes share a byte, is one inside another, which bytes are set."""

from __future__ import annotations

from numpy.typing import NDArray
import numpy as np

from accel.check.layout import F_COUNT, F_DIMS, F_RUN, F_SHAPE, F_SPAN, F_STRIDE, Ints
from accel.jit import njit

__all__ = ["all_set", "contains", "mark", "overlap"]


@njit
def _first(p: int, stride: int, width: int, low: int) -> int:
    """Return the first index whose sub-box [p + i*stride, + width) ends above `low`."""
    if stride == 0:
        return 0
    return max(0, (low - width - p) // stride + 1)


@njit
def _last(p: int, stride: int, count: int, high: int) -> int:
    """Return one past the last index whose sub-box starts below `high`."""
    if stride == 0:
        return 1
    return min(count, (high - 1 - p) // stride + 1)


@njit
def _touches(foot: Ints, v: int, at: int, low: int, high: int) -> bool:
    """Say whether footprint v at byte `at` has a byte in [low, high)."""
    f = foot[v]
    s0, s1, s2, s3 = f[F_STRIDE], f[F_STRIDE + 1], f[F_STRIDE + 2], f[F_STRIDE + 3]
    n0, n1, n2, n3 = f[F_COUNT], f[F_COUNT + 1], f[F_COUNT + 2], f[F_COUNT + 3]
    run = f[F_RUN]
    w3 = run + s3 * (n3 - 1)
    w2 = w3 + s2 * (n2 - 1)
    w1 = w2 + s1 * (n1 - 1)
    for i0 in range(_first(at, s0, w1, low), _last(at, s0, n0, high)):
        p0 = at + i0 * s0
        for i1 in range(_first(p0, s1, w2, low), _last(p0, s1, n1, high)):
            p1 = p0 + i1 * s1
            for i2 in range(_first(p1, s2, w3, low), _last(p1, s2, n2, high)):
                p2 = p1 + i2 * s2
                for i3 in range(_first(p2, s3, run, low), _last(p2, s3, n3, high)):
                    p3 = p2 + i3 * s3
                    if p3 < high and p3 + run > low:
                        return True
    return False


@njit
def overlap(foot: Ints, v: int, at: int, u: int, there: int) -> bool:
    """Say whether footprint v at byte `at` and footprint u at byte `there` share a byte; exact."""
    if at >= there + foot[u, F_SPAN] or there >= at + foot[v, F_SPAN]:
        return False
    if foot[v, F_DIMS] == 0:
        return _touches(foot, u, there, at, at + foot[v, F_SPAN])
    if foot[u, F_DIMS] == 0:
        return _touches(foot, v, at, there, there + foot[u, F_SPAN])
    runs_v = foot[v, F_COUNT] * foot[v, F_COUNT + 1] * foot[v, F_COUNT + 2] * foot[v, F_COUNT + 3]
    runs_u = foot[u, F_COUNT] * foot[u, F_COUNT + 1] * foot[u, F_COUNT + 2] * foot[u, F_COUNT + 3]
    if runs_v > runs_u:
        v, u, at, there = u, v, there, at
    low, high = there, there + foot[u, F_SPAN]
    f = foot[v]
    s0, s1, s2, s3 = f[F_STRIDE], f[F_STRIDE + 1], f[F_STRIDE + 2], f[F_STRIDE + 3]
    n0, n1, n2, n3 = f[F_COUNT], f[F_COUNT + 1], f[F_COUNT + 2], f[F_COUNT + 3]
    run = f[F_RUN]
    w3 = run + s3 * (n3 - 1)
    w2 = w3 + s2 * (n2 - 1)
    w1 = w2 + s1 * (n1 - 1)
    for i0 in range(_first(at, s0, w1, low), _last(at, s0, n0, high)):
        p0 = at + i0 * s0
        for i1 in range(_first(p0, s1, w2, low), _last(p0, s1, n1, high)):
            p1 = p0 + i1 * s1
            for i2 in range(_first(p1, s2, w3, low), _last(p1, s2, n2, high)):
                p2 = p1 + i2 * s2
                for i3 in range(_first(p2, s3, run, low), _last(p2, s3, n3, high)):
                    p3 = p2 + i3 * s3
                    if _touches(foot, u, there, p3, p3 + run):
                        return True
    return False


@njit
def contains(foot: Ints, v: int, at: int, u: int, there: int) -> bool:
    """Say whether v at `at` surely holds every byte of u at `there` (equal, or a solid box around it)."""
    if at == there and foot[v, F_SHAPE] == foot[u, F_SHAPE]:
        return True
    return bool(foot[v, F_DIMS] == 0 and at <= there and at + foot[v, F_SPAN] >= there + foot[u, F_SPAN])


@njit
def _set_range(bits: NDArray[np.uint32], word: int, first: int, last: int) -> int:
    """Set bits [first, last) counted from `word`; return how many were not set before."""
    fresh = 0
    i = first
    while i < last:
        here, at = word + (i >> 5), i & 31
        n = min(32 - at, last - i)
        old = int(bits[here])
        new = old | (((1 << n) - 1) << at)
        if new != old:
            d = new ^ old
            d = d - ((d >> 1) & 0x55555555)
            d = (d & 0x33333333) + ((d >> 2) & 0x33333333)
            fresh += ((((d + (d >> 4)) & 0x0F0F0F0F) * 0x01010101) >> 24) & 0xFF
            bits[here] = new
        i += n
    return fresh


@njit
def _is_set(bits: NDArray[np.uint32], word: int, first: int, last: int) -> bool:
    i = first
    while i < last:
        at = i & 31
        n = min(32 - at, last - i)
        mask = ((1 << n) - 1) << at
        if int(bits[word + (i >> 5)]) & mask != mask:
            return False
        i += n
    return True


@njit
def mark(bits: NDArray[np.uint32], word: int, grain: int, low: int, foot: Ints, v: int, at: int) -> int:
    """Set the shadow bits of footprint v at byte `at` of a group that starts at byte `low`; return the newly set."""
    f = foot[v]
    fresh = 0
    for i0 in range(f[F_COUNT]):
        for i1 in range(f[F_COUNT + 1]):
            for i2 in range(f[F_COUNT + 2]):
                for i3 in range(f[F_COUNT + 3]):
                    p = at - low + i0 * f[F_STRIDE] + i1 * f[F_STRIDE + 1] + i2 * f[F_STRIDE + 2] + i3 * f[F_STRIDE + 3]
                    fresh += _set_range(bits, word, p >> grain, (p + f[F_RUN] + (1 << grain) - 1) >> grain)
    return fresh


@njit
def all_set(bits: NDArray[np.uint32], word: int, grain: int, low: int, foot: Ints, v: int, at: int) -> bool:
    """Say whether every shadow bit of footprint v at byte `at` is set."""
    f = foot[v]
    for i0 in range(f[F_COUNT]):
        for i1 in range(f[F_COUNT + 1]):
            for i2 in range(f[F_COUNT + 2]):
                for i3 in range(f[F_COUNT + 3]):
                    p = at - low + i0 * f[F_STRIDE] + i1 * f[F_STRIDE + 1] + i2 * f[F_STRIDE + 2] + i3 * f[F_STRIDE + 3]
                    if not _is_set(bits, word, p >> grain, (p + f[F_RUN] + (1 << grain) - 1) >> grain):
                        return False
    return True
