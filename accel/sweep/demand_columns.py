"""What matrix products and convolutions demand of a chip, over columns of their sizes: closed forms without objects.

A form gives the element counts of every operand and the counts of multiply-adds as columns. Formats, names and roles
of operands come from a small problem of the same kind, so each of those is still said in one place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError
from accel.numerics import fmt
from accel.problem import Matmul, Problem
from accel.problem.checks import MAX_ELEMENTS, check_axes, check_int
from accel.problem.convolution import MAX_TAPS, Axis, inside, touched
from accel.sweep.factors import Factor, joined
from accel.timing.rooflines import DEMAND

__all__ = ["FORMS", "Rows", "demand_rows", "tiny"]

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Fields = Mapping[str, Factor]


@dataclass(frozen=True)
class Rows:
    """Demands (rows, len(DEMAND) columns) and whether each row is of a problem that exists. Formats are not filled in.

    format: the format whose peak counts, equal for all rows.
    """

    demands: Numbers
    exists: Flags
    format: str


@dataclass
class Counts:
    """Columns of a form: elements of every operand, how many of them must be moved, and multiply-adds."""

    elements: dict[str, Numbers]
    moved: dict[str, Numbers]
    macs: Numbers
    least_macs: Numbers
    touching: Numbers
    taps: Numbers
    exists: Flags


@dataclass(frozen=True)
class Form:
    """The closed form of a kind: its integer fields with the largest value, and the counts as a function of them.

    steps: fields that are one integer or one for each of `axes`, with the least value. count(sizes, steps, sample)
    gives the columns.
    """

    sizes: dict[str, tuple[int, int]]
    steps: dict[str, int]
    axes: tuple[str, ...]
    count: Callable[[dict[str, Numbers], dict[str, NDArray[np.int64]], Problem], Counts]


def tiny(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given`, fields of a problem of a kind in `FORMS`, with sizes and steps that go with any other field."""
    form = FORMS[kind]
    least = {name: max(low, 1) for name, (low, _) in form.sizes.items()} | dict(form.steps)
    if kind == "matmul":
        least["batch"] = int(given.get("broadcast_b") is True)
    return {name: least.get(name, value) for name, value in given.items()}


def demand_rows(sample: Problem, fields: Fields, resident: tuple[str, ...], rows: int) -> Rows:
    """Return the demands of `rows` problems that are `sample`, of a kind in `FORMS`, but for their sizes and steps.

    fields: columns of sizes and steps (of `rows` points, or the same for all); what is not there is as in `sample`.
    InputError where `resident` names no operand.
    """
    kind, form = sample.kind, FORMS[sample.kind]
    exists = np.ones(rows, dtype=bool)

    def column(name: str) -> Factor:
        return fields.get(name) or Factor([getattr(sample, name)])

    sizes = {name: _whole(column(name), kind, name, *limits, exists) for name, limits in form.sizes.items()}
    steps = {name: _each_axis(column(name), kind, name, low, form.axes, exists) for name, low in form.steps.items()}
    counts = form.count(sizes, steps, sample)
    exists &= counts.exists
    sample.demand(resident)  # refuses what is no operand
    kept = frozenset(resident)
    traffic = {"in": np.zeros(rows), "out": np.zeros(rows)}
    for name, operand in sample.operands.items():
        exists &= counts.elements[name] <= MAX_ELEMENTS
        if name not in kept:
            traffic[operand.role] += np.ceil(counts.moved[name] * fmt(operand.dtype).bits / 8)
    columns = {
        "flops": 2.0 * counts.least_macs,
        "useful_flops": 2.0 * counts.macs,
        "read_bytes": traffic["in"],
        "write_bytes": traffic["out"],
        "touching_macs": counts.touching,
        "taps": counts.taps,
        "bytes_product": math.prod(fmt(sample.operands[name].dtype).bits / 8 for name in sample.multiplied),
        "any_resident": float(bool(kept)),
        "count": 1.0,
    }
    demands = np.zeros((rows, len(DEMAND)))
    for name, values in columns.items():
        demands[:, DEMAND.index(name)] = values
    return Rows(demands, exists, sample.engine_dtype)


def _whole(field: Factor, kind: str, name: str, low: int, high: int, exists: Flags) -> Numbers:
    """The column of an integer field; rows with what is no integer in range do not exist, and count with `low`."""
    values, codes = field.used()
    good = np.ones(len(values), dtype=bool)
    found = np.full(len(values), max(low, 1), dtype=np.float64)
    for at, value in enumerate(values):
        try:
            found[at] = check_int(kind, name, value, low=low, high=high)
        except AccelError:
            good[at] = False
    exists &= good[codes]
    return found[codes]


def _each_axis(
    field: Factor, kind: str, name: str, low: int, axes: tuple[str, ...], exists: Flags
) -> NDArray[np.int64]:
    """The columns (rows or 1, axes) of a field that is one integer or one for each axis."""
    values, codes = field.used()
    good = np.ones(len(values), dtype=bool)
    found = np.full((len(values), len(axes)), max(low, 1), dtype=np.int64)
    for at, value in enumerate(values):
        try:
            found[at] = check_axes(kind, name, value, axes, low=low)
        except AccelError:
            good[at] = False
    exists &= good[codes]
    return found[codes]


def _matmul(sizes: dict[str, Numbers], steps: dict[str, NDArray[np.int64]], sample: Problem) -> Counts:
    """a (m, k), b (k, n), c (m, n), each once a matrix of the batch, but for b where the batch shares it."""
    m, n, k, batch = (sizes[name] for name in ("m", "n", "k", "batch"))
    many = np.maximum(batch, 1.0)
    shared = isinstance(sample, Matmul) and sample.broadcast_b
    one = np.ones_like(m)
    elements = {
        "a": many * (m * k), "b": (one if shared else many) * (k * n), "c": many * (m * n), "bias": n,
        "residual": many * (m * n), "c_bias": one,
    }  # fmt: skip
    macs = m * n * k * many
    exists = (sizes["split_k"] <= k) & ((batch > 0) | (not shared))
    return Counts(elements, elements, macs, macs, macs, one, exists)


class _Axes:
    """What `inside` and `touched` say of the axes of a convolution, each combination of extents once in a process."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], tuple[int, ...]] = {}

    def of(self, columns: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return outputs, touched inputs, touched outputs, touched taps and pairs, (5, rows); 0 outputs: too small."""
        first, codes = joined([Factor.of(column) for column in columns])
        found = np.empty((5, len(first)))
        for at, row in enumerate(np.stack([np.broadcast_to(c, codes.shape)[first] for c in columns], axis=1).tolist()):
            key = tuple(row)
            if key not in self.known:
                self.known[key] = _axis(Axis(*row))
            found[:, at] = self.known[key]
        return found[:, codes]


def _axis(axis: Axis) -> tuple[int, ...]:
    if axis.out < 1:
        return (0, 0, 0, 0, 0)
    meets = touched(axis)
    return (axis.out, meets.inputs, meets.outputs, meets.taps, inside(axis))


_axes = _Axes()


def _convolution(extents: tuple[str, ...], filters: tuple[str, ...]) -> Callable[..., Counts]:
    def count(sizes: dict[str, Numbers], steps: dict[str, NDArray[np.int64]], sample: Problem) -> Counts:
        """x (n, extents, c), w (taps, c / groups, k), y (n, outputs, k), whatever the direction."""
        c, k = sizes["c"], sizes["k"]
        n, groups = (sizes.get(name, np.ones(1)) for name in ("n", "groups"))
        exists = (np.mod(c, groups) == 0) & (np.mod(k, groups) == 0)
        size, taps, out, inputs, outputs, filters_met, pairs = (np.ones(1) for _ in range(7))
        for at, (extent, reach) in enumerate(zip(extents, filters, strict=True)):
            walk = [steps[name][:, at] if steps[name].shape[1] > at else steps[name][:, 0]
                    for name in ("stride", "pad", "dilation")]  # fmt: skip
            axis = _axes.of([sizes[extent].astype(np.int64), sizes[reach].astype(np.int64), *walk])
            exists = exists & (axis[0] >= 1)
            size, taps = size * sizes[extent], taps * sizes[reach]
            out, inputs, outputs = out * axis[0], inputs * axis[1], outputs * axis[2]
            filters_met, pairs = filters_met * axis[3], pairs * axis[4]
        group = np.floor(c / groups)
        x, w, y = n * size * c, taps * group * k, n * out * k
        named = {"x": x, "gx": x, "w": w, "gw": w, "y": y, "gy": y, "bias": k, "gb": k}
        met = {"x": n * inputs * c, "w": filters_met * group * k, "gy": n * outputs * k}
        moved = {
            name: met.get(name, named[name]) if operand.role == "in" else named[name]
            for name, operand in sample.operands.items()
        }
        macs, touching = y * group * taps, n * pairs * k * group
        least = touching if getattr(sample, "direction", "fwd") == "dgrad" else macs
        return Counts(named, moved, macs, least, touching, taps, exists)

    return count


_ANY, _TAPS = (1, MAX_ELEMENTS), (1, MAX_TAPS)
_STEPS = {"stride": 1, "pad": 0, "dilation": 1}
_CONV2D = _convolution(("h", "w"), ("r", "s"))
_CONV3D = _convolution(("t", "h", "w"), ("kt", "r", "s"))


def _streaming(sizes: dict[str, Numbers], steps: dict[str, NDArray[np.int64]], sample: Problem) -> Counts:
    """As a convolution of one clip that takes frames one by one; a pad reaches at most as far as the filter."""
    in_time = {name: np.full((len(rows), 1), own) for (name, rows), own in zip(steps.items(), (1, 0, 1), strict=True)}
    found = _CONV3D(
        {**sizes, "t": sizes["frames"]},
        {name: np.concatenate([in_time[name], rows], axis=1) for name, rows in steps.items()},
        sample,
    )
    for at, reach in enumerate(("r", "s")):
        found.exists &= steps["pad"][:, at] <= (sizes[reach] - 1) * steps["dilation"][:, at]
    return found


FORMS: dict[str, Form] = {
    "matmul": Form(
        {"m": _ANY, "n": _ANY, "k": _ANY, "batch": (0, MAX_ELEMENTS), "split_k": _ANY}, {}, (), _matmul
    ),
    "conv2d": Form(
        {"n": _ANY, "h": _ANY, "w": _ANY, "c": _ANY, "k": _ANY, "r": _TAPS, "s": _TAPS, "groups": _ANY}, _STEPS,
        ("height", "width"), _CONV2D,
    ),
    "conv3d": Form(
        {"n": _ANY, "t": _ANY, "h": _ANY, "w": _ANY, "c": _ANY, "k": _ANY, "kt": _TAPS, "r": _TAPS, "s": _TAPS,
         "groups": _ANY}, _STEPS, ("time", "height", "width"), _CONV3D,
    ),
    "streaming_conv": Form(
        {"frames": _ANY, "h": _ANY, "w": _ANY, "c": _ANY, "k": _ANY, "kt": _TAPS, "r": _TAPS, "s": _TAPS}, _STEPS,
        ("height", "width"), _streaming,
    ),
}  # fmt: skip
"""The kinds of problem with a closed form over columns; all others are built one by one."""
