"""What an axis of a resized image reads: taps and weights of every position, gathered in runs with one pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import NamedTuple

from accel.kernels.parts.row_bands import Read, Stencil
from accel.lang import SRAM_ALIGN
from accel.problem.resize import Resize2d

__all__ = ["Axes", "Run", "all_weights", "axis_taps", "period_of", "runs_of", "stencil", "turned"]

Taps = tuple[tuple[int, float], ...]  # (position, weight) ascending; weights of 0 are left out


class Run(NamedTuple):
    """Results first, first + step, ... (count of them): number t reads taps (position + stride t, weight)."""

    first: int
    step: int
    many: int
    taps: Taps
    stride: int


class Axes(NamedTuple):
    """All that the arithmetic of a band depends on: the runs of its rows and of the columns, and its sizes.

    results, sources: rows and columns of the result and of what is read, in the band.
    """

    rows: tuple[Run, ...]
    columns: tuple[Run, ...]
    results: tuple[int, int]
    sources: tuple[int, int]


def axis_taps(size: int, out: int, mode: str, align_corners: bool) -> list[Taps]:
    """Return what each of `out` positions reads of `size`: weights are the exact fractions, rounded to fp32 at use.

    A fraction has a denominator below 2^16, so its double is never halfway between two fp32 numbers unless it is exact.
    """
    found: list[Taps] = []
    for i in range(out):
        if mode == "nearest":
            found.append(((i * size // out, 1.0),))
            continue
        if align_corners:
            above, below = i * (size - 1), max(1, out - 1)
        else:
            above, below = (2 * i + 1) * size - out, 2 * out
        above = min(max(above, 0), (size - 1) * below)
        whole, rest = divmod(above, below)
        pair = [(whole, (below - rest) / below)] + ([(whole + 1, rest / below)] if rest else [])
        found.append(tuple(pair))
    return found


def turned(taps: Sequence[Taps], size: int) -> list[Taps]:
    """Return the taps of the gradient: for each of `size` positions the results that read it, ascending."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(size)]
    for result, reads in enumerate(taps):
        for position, weight in reads:
            found[position].append((result, weight))
    return [tuple(one) for one in found]


def period_of(problem: Resize2d, axis: int) -> tuple[int, int]:
    """Return after how many results, and sources, the pattern of an axis comes again."""
    size, out = (problem.h, problem.p) if axis == 0 else (problem.w, problem.q)
    if problem.align_corners:
        size, out = max(1, size - 1), max(1, out - 1)
    common = gcd(size, out)
    found = out // common, size // common
    return found if problem.direction == "fwd" else (found[1], found[0])


def runs_of(taps: Sequence[Taps], period: tuple[int, int], origin: int) -> tuple[Run, ...]:
    """Return the runs of results 0, 1, ... whose taps are given; positions count from `origin`.

    Results one period apart with one pattern make a run; those at borders, where taps are cut off, stay by themselves.
    """
    step, stride = period
    found: list[Run] = []
    for start in range(min(step, len(taps))):
        last: Run | None = None
        for at in range(start, len(taps), step):
            here = tuple((position - origin, weight) for position, weight in taps[at])
            if last is not None and here == tuple((p + stride * last.many, weight) for p, weight in last.taps):
                last = found[-1] = last._replace(many=last.many + 1)
            else:
                last = Run(at, step, 1, here, stride)
                found.append(last)
    return tuple(found)


def stencil(problem: Resize2d) -> Stencil:
    """Return what a band of rows of the result reads, and what its arithmetic depends on."""
    forward = problem.direction == "fwd"
    rows, columns = (
        axis_taps(size, out, problem.mode, problem.align_corners)
        for size, out in ((problem.h, problem.p), (problem.w, problem.q))
    )
    if not forward:
        rows, columns = turned(rows, problem.h), turned(columns, problem.w)
    shape, source = ((problem.p, problem.q), problem.w) if forward else ((problem.h, problem.w), problem.q)
    across = runs_of(columns, period_of(problem, 1), 0)

    def span(low: int, high: int) -> tuple[int, int]:
        places = [position for taps in rows[low:high] for position, _ in taps]
        return (min(places), max(places) + 1) if places else (0, 0)

    def reach(low: int, high: int) -> Mapping[str, tuple[int, int]]:
        return {"x" if forward else "gy": span(low, high)}

    def kind(low: int, high: int) -> Axes:
        first, end = span(low, high)
        down = runs_of(rows[low:high], period_of(problem, 0), first)
        return Axes(down, across, (high - low, shape[1]), (end - first, source))

    def work(kind: Axes) -> dict[str, tuple[int, str]]:
        (tall, wide), (high, across) = kind.results, kind.sources
        middle = tall * across if forward else high * wide
        if forward and problem.mode == "nearest":
            return {"middle": (max(1, middle), problem.dtype)}
        found = {"middle": (max(1, middle), "fp32"), "sums": (tall * wide, "fp32")}
        if problem.dtype != "fp32":
            found["wide"] = (max(1, high * across), "fp32")
        return found

    reads = {"x" if forward else "gy": Read(source, problem.dtype)}
    weights = {weight for taps in (*rows, *columns) for _, weight in taps}
    return Stencil(
        problem.n, *shape, problem.c, problem.out_dtype, reads, reach, kind, work, grain=period_of(problem, 0)[0],
        constants=4 * len(weights) + SRAM_ALIGN,
    )  # fmt: skip


def all_weights(axes: Sequence[Axes]) -> list[float]:
    """Return every weight but 1, once."""
    runs = [run for one in axes for run in (*one.rows, *one.columns)]
    return sorted({weight for run in runs for _, weight in run.taps if weight != 1.0})
