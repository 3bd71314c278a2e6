"""What convolutions give, to the bit: the chains of all three directions over any number of axes, in NumPy alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.kernels.parts.conv_windows import chain_frames
from accel.kernels.parts.matmul_reference import activated
from accel.numerics import as_storage, cast, fmt, from_storage
from accel.problem.convolution import Axis, Convolution, Geometry

__all__ = ["oracle", "oracle_at", "tree_sum"]

Array = npt.NDArray[Any]
Step = Callable[[Array, Array, Array], Array]
Meaning = Mapping[str, Mapping[str, Any]]
FP32_NAN = 0x7FC00000  # the one NaN that arithmetic writes


def oracle(problem: Convolution, inputs: Mapping[str, Any], *, meaning: Meaning | None = None) -> dict[str, Array]:
    """Return every output of `problem`, by name, as values of its format: the definition of the kernel.

    inputs: arrays by operand name, rounded to the operand's format first. Chains (contract, section 3): forward over
    filter taps in order and then the channels of the group, padding taking part as +0; data gradient over the taps
    that land on an output gradient and then the filters of the group; weight gradient over the outputs of one image or
    of `chain_frames` neighbouring frames (z, p, q) of a clip, then the chains of a clip and then images or clips by a
    balanced tree (`tree_sum`). A bias is added to the fp32 sum, then the activation, then one rounding. Integers: in 64
    bits, then modulo 2^32, then saturated to the result's format.
    meaning: bias and denormals by operand name, of operands in a configurable format.
    """
    return {
        name: oracle_at(problem, inputs, name, [np.arange(size) for size in operand.shape], meaning=meaning)
        for name, operand in problem.operands.items()
        if operand.role == "out"
    }


def oracle_at(
    problem: Convolution, inputs: Mapping[str, Any], output: str, index: Sequence[Array], *,
    meaning: Meaning | None = None,
) -> Array:  # fmt: skip
    """Return the elements `np.ix_(*index)` of one output, where the whole would take too long."""
    known = {} if meaning is None else meaning
    values = {
        name: from_storage(
            as_storage(inputs[name], operand.dtype, **known.get(name, {})),
            operand.dtype,
            as_="float32",
            **known.get(name, {}),
        )
        for name, operand in problem.operands.items()
        if operand.role == "in"
    }
    form, options = problem.geometry, problem.to_dict()
    whole = fmt(options["dtype"]).kind == "int"
    step = _fused if options["dtype"] == "fp32" else _integer if whole else _short
    if whole:
        values = {name: array.astype(np.int64) for name, array in values.items()}
    at = [np.asarray(i) for i in index]
    with np.errstate(all="ignore"):
        if output == "y":
            sums = _forward(form, values["x"], values["w"], at, step)
            if options["bias"]:
                sums = sums + values["bias"][at[-1]]
            if options["activation"] != "none":
                sums = activated(options["activation"], sums)
        elif output == "gx":
            sums = _data_gradient(form, values["gy"], values["w"], at, step)
        elif output == "gw":
            sums = tree_sum(tree_sum(_weight_gradient(form, values["x"], values["gy"], at, step)))
        else:
            sums = tree_sum(tree_sum(_bias_gradient(form, values["gy"], at[0])))
    if whole:
        sums = sums.astype(np.int32)  # modulo 2^32
    else:
        sums = np.ascontiguousarray(sums)
        sums.view(np.uint32)[np.isnan(sums)] = FP32_NAN
    dtype, own = problem.operands[output].dtype, known.get(output, {})
    if dtype == ("int32" if whole else "fp32"):
        return sums
    return from_storage(cast(sums, dtype, **own), dtype, as_="ml_dtypes", **own)


def tree_sum(parts: Array) -> Array:
    """Return the sum over the first dimension by the balanced tree: neighbours (2i, 2i+1) level by level.

    Each addition is rounded to fp32, the lower index on the left; an odd last one passes to the next level.
    """
    while len(parts) > 1:
        pairs = len(parts) // 2
        summed = parts[0 : 2 * pairs : 2] + parts[1 : 2 * pairs : 2]
        parts = np.concatenate([summed, parts[2 * pairs :]])
    result: Array = parts[0]
    return result


def _short(c: Array, a: Array, b: Array) -> Array:
    """c + a b with one rounding to fp32, where a and b have at most 11 significant bits: exact in float64."""
    return (c.astype(np.float64) + a.astype(np.float64) * b.astype(np.float64)).astype(np.float32)


def _integer(c: Array, a: Array, b: Array) -> Array:
    """c + a b of integers in 64 bits."""
    total: Array = c + a * b
    return total


def _fused(c: Array, a: Array, b: Array) -> Array:
    """c + a b of any fp32 numbers with one rounding: the sum is rounded to odd in float64 (Boldo, Melquiond 2008)."""
    wide, product = c.astype(np.float64), a.astype(np.float64) * b.astype(np.float64)
    total = np.asarray(wide + product)
    part = total - wide
    lost = (wide - (total - part)) + (product - part)
    toward = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
    inexact = np.isfinite(total) & (lost != 0) & (total.view(np.int64) % 2 == 0)
    return np.where(inexact, toward, total).astype(np.float32)


def _pad(form: Geometry, x: Array) -> Array:
    """x with its padding, as +0."""
    return np.pad(x, [(0, 0), *((axis.pad, axis.pad) for axis in form.axes), (0, 0)])


def _taps(form: Geometry) -> Any:
    return itertools.product(*(range(axis.taps) for axis in form.axes))


def _forward(form: Geometry, x: Array, w: Array, at: Sequence[Array], step: Step) -> Array:
    """y at images, output positions and filters `at`."""
    filters, per_group = at[-1], form.c // form.groups
    first = filters // (form.k // form.groups) * per_group  # first channel of each filter's group
    padded, acc = _pad(form, x), np.zeros([len(i) for i in at], x.dtype)
    for taps in _taps(form):
        rows = [o * a.stride + t * a.dilation for o, a, t in zip(at[1:-1], form.axes, taps, strict=True)]
        for c in range(per_group):
            acc = step(acc, padded[np.ix_(at[0], *rows, first + c)], w[(*taps, c, filters)])
    return acc


def _landing(axis: Axis, positions: Array, tap: int) -> tuple[Array, Array]:
    """Return the output that `tap` reads each input position for (0 where there is none), and whether there is one."""
    shifted = positions + axis.pad - tap * axis.dilation
    output = shifted // axis.stride
    lands = (shifted % axis.stride == 0) & (output >= 0) & (output < axis.out)
    return np.where(lands, output, 0), lands


def _data_gradient(form: Geometry, gy: Array, w: Array, at: Sequence[Array], step: Step) -> Array:
    """gx at images, input positions and channels `at`."""
    channels, per_group = at[-1], form.k // form.groups
    first = channels // (form.c // form.groups) * per_group  # first filter of each channel's group
    own = channels % (form.c // form.groups)
    acc = np.zeros([len(i) for i in at], gy.dtype)
    for taps in _taps(form):
        found = [_landing(a, i, t) for a, i, t in zip(form.axes, at[1:-1], taps, strict=True)]
        lands = np.ones((1,) * len(at), bool)
        for d, (_, mask) in enumerate(found):
            lands = lands & mask.reshape([-1 if e == d + 1 else 1 for e in range(len(at))])
        for k in range(per_group):
            term = step(acc, gy[np.ix_(at[0], *(o for o, _ in found), first + k)], w[(*taps, own, first + k)])
            acc = np.where(lands, term, acc)
    return acc


def _weight_gradient(form: Geometry, x: Array, gy: Array, at: Sequence[Array], step: Step) -> Array:
    """One gw at taps, channels and filters `at` for every chain of every image: (chains, n, ...)."""
    channels, filters = at[-2], at[-1]
    first = filters // (form.k // form.groups) * (form.c // form.groups)
    place = channels[:, None] + first[None, :]  # the channel of x for each channel and filter of gw
    length, total = _chain(form), math.prod(axis.out for axis in form.axes)
    padded, acc = _pad(form, x), np.zeros([math.ceil(total / length), form.n, *(len(i) for i in at)], x.dtype)
    flat = gy.reshape(form.n, -1, form.k)[:, :, filters]
    for number, outputs in enumerate(itertools.product(*(range(axis.out) for axis in form.axes))):
        rows = [o * a.stride + t * a.dilation for o, a, t in zip(outputs, form.axes, at, strict=False)]
        patch = padded[np.ix_(np.arange(form.n), *rows)][..., place]
        own = acc[number // length]
        own[...] = step(own, patch, flat[:, number].reshape(form.n, *(1,) * (len(at) - 1), -1))
    return acc


def _bias_gradient(form: Geometry, gy: Array, filters: Array) -> Array:
    """One gb for every chain of every image: (chains, n, filters)."""
    length, values = _chain(form), gy.reshape(form.n, -1, form.k)[..., filters]
    acc = np.zeros((math.ceil(values.shape[1] / length), form.n, len(filters)), np.float32)
    for number in range(values.shape[1]):
        acc[number // length] += values[:, number]
    return acc


def _chain(form: Geometry) -> int:
    """Return the outputs of an image that one chain of a weight or bias gradient runs over, those of the last aside."""
    return chain_frames(form) * math.prod(axis.out for axis in form.axes[-2:])
