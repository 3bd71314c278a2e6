"""Pooling with its gradients, as a lesson: windows as shifted views, and ties broken by the order of taps.

What the machine defines (`reference` repeats it in NumPy), for every image and channel by itself:

- maximum: the largest element of the window; NaN is larger than every number, +0 larger than -0. Padding takes no part.
- mean: one fp32 sum from +0 over the window, row by row; divided in fp32 by r s, or without count_include_pad by the
  number of elements inside the image; then one rounding to the result's format.
- gradient of the maximum: all of gy goes to the first element of the window, row by row, that is the maximum (the first
  NaN if there is one). It is found again from x, so forward saves nothing.
- gradient of the mean: gy divided in fp32 by the divisor of its window.
- where windows overlap, an element adds up what it gets in fp32 from +0, windows p and then q ascending; one rounding.

How it is done:

1. *Gather*: for every output fetch its window. Each element comes from memory r s / stride^2 times.
2. *Shifted views* (this version): a band of rows lies in SRAM once, with its halo. A tap of all windows of the band is
   one strided view of it, so the maximum is r s vector instructions over the whole band, channels innermost. Taps that
   fall on padding are left out by taking shorter views (`parts/pool_windows.py`): no image has to be padded.
3. *Gradient*: a second pass over the taps, in reverse, which is the order of ascending windows. For the maximum a first
   reverse pass writes each tap's number over the places where it is the maximum; the last writer is the first tap.

The bound: compulsory bytes / memory bandwidth. Blocks of channels come before bands, since bands fetch a halo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.pool_windows import Geometry, Tap, stencil
from accel.kernels.parts.row_bands import BandTiling, choose_bands, fill_in_bands, run_bands
from accel.lang import K
from accel.numerics import as_storage, from_storage
from accel.problem.pool import Pool2d
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "oracle", "pool", "pool_gradient", "reference"]

F = np.float32


# --- the definition -------------------------------------------------------------------------------------------------
def reference(problem: Pool2d, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the output of `problem` by name, in fp32 before the one rounding to its format: the definition."""
    values = values_of(problem, inputs)
    with np.errstate(all="ignore"):
        if problem.direction == "fwd":
            return one_nan({"y": _forward(problem, values["x"])})
        return one_nan({"gx": _backward(problem, values["gy"], values.get("x"))})


def oracle(problem: Pool2d, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output of `problem` by name, as values of its format."""
    return {
        name: from_storage(as_storage(values, problem.out_dtype), problem.out_dtype, as_="ml_dtypes")
        for name, values in reference(problem, inputs).items()
    }


def _windows(problem: Pool2d) -> Any:
    """Yield (p, q, rows, columns): the positions inside the image of every window, in order."""
    inside = [
        [[i for t in range(a.taps) if 0 <= (i := o * a.stride - a.pad + t * a.dilation) < a.size] for o in range(a.out)]
        for a in problem.axes
    ]
    for p, rows in enumerate(inside[0]):
        for q, columns in enumerate(inside[1]):
            yield p, q, rows, columns


def _larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The machine's max: NaN wins, +0 is larger than -0."""
    first = (a > b) | np.isnan(a) | ((a == b) & ~np.signbit(a))
    return np.where(first, a, b)


def _forward(problem: Pool2d, x: np.ndarray) -> np.ndarray:
    y = np.zeros((problem.n, problem.p, problem.q, problem.c), F)
    for p, q, rows, columns in _windows(problem):
        places = [x[:, i, j] for i in rows for j in columns]
        value = places[0] if problem.function == "max" else F(0) + places[0]
        for other in places[1:]:
            value = _larger(value, other) if problem.function == "max" else value + other
        count = problem.r * problem.s if problem.count_include_pad else len(places)
        y[:, p, q] = value if problem.function == "max" else value / F(count)
    return y


def _backward(problem: Pool2d, gy: np.ndarray, x: np.ndarray | None) -> np.ndarray:
    gx = np.zeros((problem.n, problem.h, problem.w, problem.c), F)
    for p, q, rows, columns in _windows(problem):
        places = [(i, j) for i in rows for j in columns]
        if x is None:
            count = problem.r * problem.s if problem.count_include_pad else len(places)
            for i, j in places:
                gx[:, i, j] += gy[:, p, q] / F(count)
            continue
        window = np.stack([x[:, i, j] for i, j in places])
        first = np.argmax(np.where(np.isnan(window), np.inf, window), axis=0)  # NumPy's argmax is the first one
        nan = np.isnan(window)
        first = np.where(nan.any(axis=0), np.argmax(nan, axis=0), first)
        for at, (i, j) in enumerate(places):
            gx[:, i, j] += np.where(first == at, gy[:, p, q], F(0))
    return gx


# --- the kernels ----------------------------------------------------------------------------------------------------
def _both(problem: Pool2d, view: View, where: tuple[Tap, Tap]) -> View:
    """Return what a tap of all windows reads: rows and columns by the strides of the windows."""
    index = [
        slice(tap.first, tap.first + (tap.high - tap.low - 1) * axis.stride + 1, axis.stride)
        for tap, axis in zip(where, problem.axes, strict=True)
    ]
    return view[index[0], index[1]]


def _pairs(shape: Geometry) -> list[tuple[int, tuple[Tap, Tap]]]:
    """Return (number, (row tap, column tap)) of the taps that land anywhere, in order."""
    taps = [(row, column) for row in shape.rows for column in shape.columns]
    return [(at, pair) for at, pair in enumerate(taps) if all(tap.low < tap.high for tap in pair)]


def _outputs(view: View, where: tuple[Tap, Tap]) -> View:
    rows, columns = where
    return view[rows.low : rows.high, columns.low : columns.high]


def _maximum(k: K, problem: Pool2d, shape: Geometry, x: View, best: View) -> None:
    k.vec.fill(best, float("-inf"))
    for _, where in _pairs(shape):
        into = _outputs(best, where)
        k.vec.max(into, into, _both(problem, x, where))


def _divide(k: K, shape: Geometry, target: View, x: View, divisors: Mapping[int, View]) -> None:
    """target = x / the elements of each window."""
    for top, below, tall in shape.counts[0]:
        for left, right, wide in shape.counts[1]:
            part = slice(top, below), slice(left, right)
            k.vec.div(target[part], x[part], divisors[tall * wide])


@kernel
def pool(k: K, x: View, y: View, *, problem: Pool2d, tiling: BandTiling) -> None:
    """y = the maximum or mean of the windows of x, band by band."""
    divisors, prepare = _divisors(k, tiling)

    def arithmetic(
        k: K, kind: tuple[Geometry, Geometry], rows: Mapping[str, View], result: View, work: Mapping[str, View]
    ) -> None:
        shape = kind[0]
        if problem.function == "max":
            best = _grid(work["best"], shape.outputs)
            _maximum(k, problem, shape, rows["x"], best)
            (k.vec.copy if best.dtype == result.dtype else k.vec.cast)(result, best)
            return
        wide = rows["x"]
        if wide.dtype != "fp32":
            wide = _grid(work["wide"], shape.inputs)
            k.vec.cast(wide, rows["x"])
        sums = _grid(work["terms"], shape.outputs)
        k.vec.fill(sums, 0.0)
        for _, where in _pairs(shape):
            into = _outputs(sums, where)
            k.vec.add(into, into, _both(problem, wide, where))
        _divide(k, shape, sums, sums, divisors)
        k.vec.cast(result, sums)

    run_bands(k, tiling, {"x": x}, y, arithmetic, prepare)


@kernel
def pool_gradient(k: K, gy: View, x: View | None, gx: View, *, problem: Pool2d, tiling: BandTiling) -> None:
    """gx from gy, and for a maximum from x, band by band of gx."""
    divisors, prepare = _divisors(k, tiling)
    numbers = k.sram((problem.r * problem.s,), "uint8" if problem.r * problem.s < 256 else "int32", "numbers")

    def constants() -> None:
        prepare()
        k.vec.iota(numbers) if numbers.dtype == "int32" else _count(k, numbers)

    def arithmetic(
        k: K, kind: tuple[Geometry, Geometry], rows: Mapping[str, View], result: View, work: Mapping[str, View]
    ) -> None:
        held, target = kind
        sums = _grid(work["sums"], target.inputs)
        k.vec.fill(sums, 0.0)
        if "gy" in rows:
            terms = rows["gy"]
            if terms.dtype != "fp32":
                terms = _grid(work["wide"], held.outputs)
                k.vec.cast(terms, rows["gy"])
            if problem.function == "avg":
                shares = _grid(work["terms"], held.outputs)
                _divide(k, held, shares, terms, divisors)
                terms = shares
            else:
                _find(k, problem, held, rows["x"], work, numbers)
            for number, where in reversed(_pairs(target)):
                part = _outputs(terms, where)
                if problem.function == "max":
                    mask, chosen = (_outputs(_grid(work[n], held.outputs), where) for n in ("mask", "part"))
                    k.vec.compare(mask, _outputs(_grid(work["which"], held.outputs), where), "==", number)
                    k.vec.select(chosen, mask, part, zero[:, :, :])
                    part = chosen
                into = _both(problem, sums, where)
                k.vec.add(into, into, part)
        k.vec.cast(result, sums)

    zero = k.sram((1, 1, 1), "fp32", "zero")
    inputs = {"gy": gy} if x is None else {"gy": gy, "x": x}

    def before() -> None:
        constants()
        k.vec.fill(zero, 0.0)

    run_bands(k, tiling, inputs, gx, arithmetic, before)


def _count(k: K, numbers: View) -> None:
    for number in range(numbers.shape[0]):
        k.vec.fill(numbers[number : number + 1], number)


def _find(k: K, problem: Pool2d, shape: Geometry, x: View, work: Mapping[str, View], numbers: View) -> None:
    """which = the number of the first tap that is the maximum of its window: taps in reverse, the last one stays."""
    best, mask, which = (_grid(work[name], shape.outputs) for name in ("best", "mask", "which"))
    _maximum(k, problem, shape, x, best)
    k.vec.fill(which, 0)
    for relation in ("==", "!="):  # then NaN, which is unlike itself
        for number, where in reversed(_pairs(shape)):
            taps, held, into = _both(problem, x, where), _outputs(mask, where), _outputs(which, where)
            k.vec.compare(held, taps, relation, _outputs(best, where) if relation == "==" else taps)
            k.vec.select(into, held, numbers[number], into)


def _grid(flat: View, shape: tuple[int, int]) -> View:
    """Return a buffer (rows * columns, channels) as (rows, columns, channels)."""
    return flat[: shape[0] * shape[1]].split(0, shape[1])


def _divisors(k: K, tiling: BandTiling) -> tuple[dict[int, View], Any]:
    """Return one element in SRAM for every divisor of a mean, and what fills them."""
    counts = sorted({
        tall * wide
        for band in tiling.bands
        for _, _, tall in band.kind[0].counts[0]
        for _, _, wide in band.kind[0].counts[1]
    })  # fmt: skip
    held = k.sram((max(1, len(counts)), 1, 1, 1), "fp32", "divisors")

    def prepare() -> None:
        for at, count in enumerate(counts):
            k.vec.fill(held[at], float(count))

    return {count: held[at] for at, count in enumerate(counts)}, prepare


def build(
    chip: ChipSpec | str,
    *,
    n: int,
    h: int,
    w: int,
    c: int,
    r: int,
    s: int,
    function: str = "max",
    stride: int | tuple[int, ...] | None = None,
    pad: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    count_include_pad: bool = True,
    dtype: str = "bf16",
    out_dtype: str = "",
    direction: str = "fwd",
    resident: Iterable[str] = (),
    **tiling: int,
) -> Program:
    """Return the program of pooling for `chip`; shapes and options as in `Pool2d`.

    direction: "fwd" (x -> y) or "bwd" (gy -> gx, of a maximum with x). tiling: band (rows of the result), block
    (channels), slots. Raises InputError and UnsupportedError.
    """
    problem = Pool2d(
        n, h, w, c, r, s, function, stride, pad, dilation, count_include_pad, dtype, out_dtype, direction
    )  # fmt: skip
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(spec: ChipSpec, problem: Pool2d, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    chosen = choose_bands(spec, stencil(problem))
    if tiling:
        chosen = fill_in_bands(chosen, spec, problem.kind, **tiling)
    if problem.direction == "fwd":
        return pool.build(spec, problem=problem, tiling=chosen, **tensors_of(problem, "x y"))
    return pool_gradient.build(spec, problem=problem, tiling=chosen, **tensors_of(problem, "gy x gx"))


def _some(problem: Pool2d, inputs: Mapping[str, Any], output: str, places: Sequence[Any]) -> Any:
    """Return elements of the output: of the images and channels asked for, since these are independent."""
    some = {name: np.asarray(value)[places[0]][..., places[3]] for name, value in inputs.items()}
    sizes = {"n": len(places[0]), "c": len(places[3])}
    part = Pool2d.from_dict({**problem.to_dict(), **sizes})
    return oracle(part, some)[output][:, places[1]][:, :, places[2]]


KERNEL = LibraryKernel(
    problem=Pool2d,
    program=_program,
    oracle=oracle,
    oracle_at=_some,
    examples=(
        Pool2d(1, 1, 1, 1, 1, 1),
        Pool2d(3, 9, 11, 5, 3, 3, stride=2, pad=1),
        Pool2d(2, 8, 7, 17, 2, 3, stride=(3, 1), dilation=(2, 1), out_dtype="fp32"),
        Pool2d(3, 9, 11, 5, 3, 3, stride=2, pad=1, direction="bwd"),
        Pool2d(2, 7, 6, 9, 2, 2, direction="bwd", dtype="fp32"),
        Pool2d(2, 7, 6, 5, 3, 3, stride=1, pad=1, direction="bwd", dtype="fp32", out_dtype="fp32"),
        Pool2d(2, 7, 9, 6, 3, 2, "avg", stride=(2, 1), pad=1),
        Pool2d(2, 7, 7, 33, 7, 7, "avg"),
        Pool2d(3, 6, 9, 4, 3, 3, "avg", stride=1, pad=1, count_include_pad=False, dtype="fp16"),
        Pool2d(2, 8, 9, 6, 3, 2, "avg", stride=2, pad=1, count_include_pad=False, direction="bwd"),
        Pool2d(2, 8, 9, 6, 4, 3, "avg", stride=1, pad=1, direction="bwd", out_dtype="fp32"),
    ),
)
