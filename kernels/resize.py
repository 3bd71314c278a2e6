"""Resizing images with its gradient, as a lesson: an irregular map made of a few regular runs.

What the machine defines (`reference` repeats it in NumPy), for every image and channel by itself:

- an axis of h elements is read at out positions: "nearest" reads floor(i h / p); "bilinear" reads the two elements
  around the exact position s, i0 = floor(s) with weight 1 - (s - i0) and i0 + 1 with weight s - i0, where
  s = (i + 1/2) h / p - 1/2 kept inside 0..h - 1, or i (h - 1) / (p - 1) with align_corners. The fractions are exact,
  rounded once to fp32 as weights. A weight of 0 takes no part (so it never meets infinity).
- rows first, then columns: t = x0 w0, then t = fma(x1, w1, t) along the height; y = the same along the width of t, in
  fp32; then one rounding to the result's format. "nearest" moves elements as they are.
- gradient, the transpose: columns first, u = chain of fma(gy, weight, u) from +0 over the results q that read the
  column, ascending; then gx = the chain of u over the rows p that read the row; one rounding.

How it is done:

1. *Gather*: per result four loads and three multiplications of scalars; the vector unit would sit idle.
2. *Runs* (this version): h and p have a common pattern. Enlarging 2 to 3, results 0, 3, 6, ... read elements 0, 2, 4,
   ... with one pair of weights: as many runs as the smallest period has results, plus the borders. A run is one strided
   view, so two vector instructions do it for all rows, columns and channels of a tile at once. The gradient has runs
   too: elements one period apart are read by results one period apart.

The bound: compulsory bytes / memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.isa.functions import fma
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.resize_taps import Axes, Run, all_weights, stencil
from accel.kernels.parts.row_bands import BandTiling, choose_bands, fill_in_bands, run_bands
from accel.lang import K
from accel.numerics import as_storage, from_storage
from accel.problem.resize import Resize2d
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "oracle", "reference", "resize", "resize_gradient"]

F = np.float32


# --- the definition -------------------------------------------------------------------------------------------------
def reference(problem: Resize2d, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the output of `problem` by name, in fp32 before the one rounding to its format: the definition."""
    values = values_of(problem, inputs)
    with np.errstate(all="ignore"):
        if problem.direction == "fwd":
            tall = _read(problem, values["x"], 1, problem.h, problem.p)
            return one_nan({"y": _read(problem, tall, 2, problem.w, problem.q)})
        narrow = _spread(problem, values["gy"], 2, problem.w, problem.q)
        return one_nan({"gx": _spread(problem, narrow, 1, problem.h, problem.p)})


def oracle(problem: Resize2d, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output of `problem` by name, as values of its format; elements that only move keep their bits."""
    if problem.mode == "nearest" and problem.direction == "fwd" and problem.dtype == problem.out_dtype:
        rows, columns = (
            [at * size // out for at in range(out)] for size, out in ((problem.h, problem.p), (problem.w, problem.q))
        )
        stored = as_storage(inputs["x"], problem.dtype)[:, rows][:, :, columns]
        return {"y": from_storage(stored, problem.dtype, as_="ml_dtypes")}
    return {
        name: from_storage(as_storage(values, problem.out_dtype), problem.out_dtype, as_="ml_dtypes")
        for name, values in reference(problem, inputs).items()
    }


def _reads(problem: Resize2d, size: int, out: int, at: int) -> list[tuple[int, np.float32]]:
    """Return (element, weight) of what position `at` of an axis reads."""
    if problem.mode == "nearest":
        return [(at * size // out, F(1))]
    exact = (at * (size - 1), max(1, out - 1)) if problem.align_corners else ((2 * at + 1) * size - out, 2 * out)
    above, below = min(max(exact[0], 0), (size - 1) * exact[1]), exact[1]
    first = above // below
    part = above - first * below
    pair = [(first, F((below - part) / below)), (first + 1, F(part / below))]
    return [one for one in pair if one[1] != 0]


def _read(problem: Resize2d, x: np.ndarray, axis: int, size: int, out: int) -> np.ndarray:
    made = []
    for at in range(out):
        (first, weight), *more = _reads(problem, size, out, at)
        total = np.take(x, first, axis) * weight if more else np.take(x, first, axis)
        for place, other in more:
            total = fma(np.take(x, place, axis), other, total)
        made.append(total)
    return np.stack(made, axis)


def _spread(problem: Resize2d, gy: np.ndarray, axis: int, size: int, out: int) -> np.ndarray:
    parts = [np.zeros_like(np.take(gy, 0, axis)) for _ in range(size)]
    for at in range(out):
        for place, weight in _reads(problem, size, out, at):
            parts[place] = fma(np.take(gy, at, axis), weight, parts[place])
    return np.stack(parts, axis)


# --- the kernels ----------------------------------------------------------------------------------------------------
class Axis:
    """Runs applied along the first or second dimension of (rows, columns, channels)."""

    def __init__(self, k: K, weights: Mapping[float, View], dimension: int) -> None:
        self.k, self.weights, self.dimension = k, weights, dimension

    def _at(self, view: View, first: int, step: int, many: int) -> View:
        part = slice(first, first + (many - 1) * step + 1, step)
        return view[part] if self.dimension == 0 else view[:, part]

    def read(self, target: View, source: View, runs: Sequence[Run]) -> None:
        """target = what each of its positions reads: at most two taps, weighted; a single one is moved."""
        for run in runs:
            into = self._at(target, run.first, run.step, run.many)
            taps = [(self._at(source, at, run.stride, run.many), weight) for at, weight in run.taps]
            if len(taps) == 1:
                self.k.vec.copy(into, taps[0][0])
            else:
                self.k.vec.mul(into, taps[0][0], taps[0][1])
                self.k.vec.fma(into, taps[1][0], self.weights[taps[1][1]], into)

    def add(self, target: View, source: View, runs: Sequence[Run]) -> None:
        """target += everything that reads it, weighted, in order."""
        for run in runs:
            into = self._at(target, run.first, run.step, run.many)
            for at, weight in run.taps:
                part = self._at(source, at, run.stride, run.many)
                if weight == 1.0:
                    self.k.vec.add(into, into, part)
                else:
                    self.k.vec.fma(into, part, self.weights[weight], into)


def _weights(k: K, tiling: BandTiling) -> tuple[dict[float, View], Any]:
    """Return one element in SRAM for every weight, and what fills them."""
    weights = all_weights([band.kind for band in tiling.bands])
    held = k.sram((max(1, len(weights)), 1, 1, 1), "fp32", "weights")

    def prepare() -> None:
        for at, weight in enumerate(weights):
            k.vec.fill(held[at], weight)

    return {weight: held[at] for at, weight in enumerate(weights)}, prepare


def _grid(flat: View, rows: int, columns: int) -> View:
    """Return a buffer (rows * columns, channels) as (rows, columns, channels)."""
    return flat[: rows * columns].split(0, columns)


def _widened(k: K, work: Mapping[str, View], x: View, kind: Axes) -> View:
    """Return what was read in fp32."""
    if x.dtype == "fp32":
        return x
    wide = _grid(work["wide"], *kind.sources)
    k.vec.cast(wide, x)
    return wide


@kernel
def resize(k: K, x: View, y: View, *, problem: Resize2d, tiling: BandTiling) -> None:
    """y = x at another size: rows, then columns."""
    weights, prepare = _weights(k, tiling)

    def arithmetic(k: K, kind: Axes, rows: Mapping[str, View], result: View, work: Mapping[str, View]) -> None:
        middle = _grid(work["middle"], kind.results[0], kind.sources[1])
        if problem.mode == "nearest":
            Axis(k, weights, 0).read(middle, rows["x"], kind.rows)
            if result.dtype == middle.dtype:
                Axis(k, weights, 1).read(result, middle, kind.columns)
                return
            for run in kind.columns:
                (at, _), step = run.taps[0], run.stride
                into = result[:, run.first : run.first + (run.many - 1) * run.step + 1 : run.step]
                k.vec.cast(into, middle[:, at : at + (run.many - 1) * step + 1 : step])
            return
        Axis(k, weights, 0).read(middle, _widened(k, work, rows["x"], kind), kind.rows)
        sums = _grid(work["sums"], *kind.results)
        Axis(k, weights, 1).read(sums, middle, kind.columns)
        k.vec.cast(result, sums)

    run_bands(k, tiling, {"x": x}, y, arithmetic, prepare)


@kernel
def resize_gradient(k: K, gy: View, gx: View, *, tiling: BandTiling) -> None:
    """gx = the transpose of resizing applied to gy: columns, then rows."""
    weights, prepare = _weights(k, tiling)

    def arithmetic(k: K, kind: Axes, rows: Mapping[str, View], result: View, work: Mapping[str, View]) -> None:
        sums = _grid(work["sums"], *kind.results)
        k.vec.fill(sums, 0.0)
        if "gy" in rows:
            middle = _grid(work["middle"], kind.sources[0], kind.results[1])
            k.vec.fill(middle, 0.0)
            Axis(k, weights, 1).add(middle, _widened(k, work, rows["gy"], kind), kind.columns)
            Axis(k, weights, 0).add(sums, middle, kind.rows)
        k.vec.cast(result, sums)

    run_bands(k, tiling, {"gy": gy}, gx, arithmetic, prepare)


def build(
    chip: ChipSpec | str,
    *,
    n: int,
    h: int,
    w: int,
    c: int,
    p: int,
    q: int,
    mode: str = "bilinear",
    align_corners: bool = False,
    dtype: str = "bf16",
    out_dtype: str = "",
    direction: str = "fwd",
    resident: Iterable[str] = (),
    **tiling: int,
) -> Program:
    """Return the program that resizes n images h x w x c to p x q on `chip`; options as in `Resize2d`.

    direction: "fwd" (x -> y) or "bwd" (gy -> gx). tiling: band (rows of the result), block (channels), slots. Raises
    InputError and UnsupportedError.
    """
    problem = Resize2d(n, h, w, c, p, q, mode, align_corners, dtype, out_dtype, direction)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(spec: ChipSpec, problem: Resize2d, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    chosen = choose_bands(spec, stencil(problem))
    if tiling:
        chosen = fill_in_bands(chosen, spec, problem.kind, **tiling)
    if problem.direction == "fwd":
        return resize.build(spec, problem=problem, tiling=chosen, **tensors_of(problem, "x y"))
    return resize_gradient.build(spec, tiling=chosen, **tensors_of(problem, "gy gx"))


def _some(problem: Resize2d, inputs: Mapping[str, Any], output: str, places: Sequence[Any]) -> Any:
    """Return elements of the output: of the images and channels asked for, since these are independent."""
    some = {name: np.asarray(value)[places[0]][..., places[3]] for name, value in inputs.items()}
    part = Resize2d.from_dict({**problem.to_dict(), "n": len(places[0]), "c": len(places[3])})
    return oracle(part, some)[output][:, places[1]][:, :, places[2]]


KERNEL = LibraryKernel(
    problem=Resize2d,
    program=_program,
    oracle=oracle,
    oracle_at=_some,
    examples=(
        Resize2d(1, 1, 1, 1, 1, 1),
        Resize2d(2, 4, 5, 7, 8, 10),
        Resize2d(3, 6, 7, 5, 9, 4, out_dtype="fp32"),
        Resize2d(2, 5, 4, 9, 11, 7, align_corners=True, dtype="fp32"),
        Resize2d(2, 5, 4, 9, 10, 12, mode="nearest"),
        Resize2d(2, 7, 9, 3, 3, 5, mode="nearest", out_dtype="fp32"),
        Resize2d(2, 4, 5, 7, 8, 10, direction="bwd"),
        Resize2d(2, 7, 6, 5, 4, 9, align_corners=True, dtype="fp16", direction="bwd"),
        Resize2d(3, 4, 5, 17, 8, 10, mode="nearest", direction="bwd"),
    ),
)
