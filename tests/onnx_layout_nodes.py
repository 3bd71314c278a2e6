"""ONNX operators that pool or move data, as library kernels: the other half of `onnx_nodes`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx_nodes import Result, UnsupportedError, bound, pads_of, run, single

__all__ = ["ADAPTERS"]


def pooled(function: str) -> Callable[..., Result]:
    """Return the adapter of MaxPool or AveragePool of images with the same padding on both sides."""

    def adapter(attributes: dict[str, Any], x: Any) -> Result:
        x = single(x)
        taps = attributes["kernel_shape"]
        rank = len(taps)
        if rank == 3:
            raise UnsupportedError("three dimensions")
        if attributes.get("ceil_mode", 0):
            raise UnsupportedError("ceil_mode")
        strides, dilations = (attributes.get(key, [1] * rank) for key in ("strides", "dilations"))
        pads = pads_of(attributes, x.shape[2:], taps, strides, dilations)
        if any(low != high for low, high in pads):
            raise UnsupportedError("padding that differs from side to side")
        if any(2 * low > tap for (low, _), tap in zip(pads, taps, strict=True)):
            raise UnsupportedError("more padding than half a window")
        last = np.moveaxis(x, 1, -1)
        if rank == 1:
            last, taps, strides, dilations = last[:, None], [1, *taps], [1, *strides], [1, *dilations]
            pads = [(0, 0), *pads]
        own = {"count_include_pad": bool(attributes.get("count_include_pad", 0))} if function == "avg" else {}
        y = run("pool", [*last.shape, *taps], {"x": last}, function=function, stride=tuple(strides),
                pad=tuple(low for low, _ in pads), dilation=tuple(dilations), dtype="fp32", **own)["y"]  # fmt: skip
        y = np.moveaxis(y[:, 0] if rank == 1 else y, -1, 1)
        return [(y, 0.0 if function == "max" else bound(math.prod(taps) + 2, np.abs(x).max()))]

    return adapter


def everywhere(function: str) -> Callable[..., Result]:
    """Return the adapter of a pooling over whole images."""

    def adapter(attributes: dict[str, Any], x: Any) -> Result:
        return pooled(function)({"kernel_shape": list(np.shape(x)[2:])}, x)

    return adapter


def transpose(attributes: dict[str, Any], x: Any) -> Result:
    """Transpose of up to four axes."""
    x = single(x)
    order = attributes.get("perm", list(reversed(range(x.ndim))))
    more = 4 - x.ndim
    letters = "nhwc"
    target = letters[:more] + "".join(letters[more + axis] for axis in order)
    y = run("transpose", [1] * more + list(x.shape), {"x": x}, source=letters, target=target, dtype="fp32")["y"]
    return [(y.reshape([x.shape[axis] for axis in order]), 0.0)]


def concat(attributes: dict[str, Any], *parts: Any) -> Result:
    """Concat along an axis."""
    tensors = [single(x) for x in parts]
    first = tensors[0]
    axis = attributes["axis"] % first.ndim
    outer, inner = math.prod(first.shape[:axis]), math.prod(first.shape[axis + 1 :])
    inputs = {f"x{i}": x for i, x in enumerate(tensors)}
    sizes = tuple(x.shape[axis] for x in tensors)
    y = run("concat", (outer, inner), inputs, parts=sizes, dtype="fp32")["y"]
    return [(y.reshape(*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :]), 0.0)]


def sliced(attributes: dict[str, Any], x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Result:
    """Slice of up to four axes with positive steps."""
    x = single(x)
    chosen = list(range(len(starts))) if axes is None else [int(a) % x.ndim for a in axes]
    by = [1] * len(starts) if steps is None else [int(s) for s in steps]
    if any(s < 0 for s in by):
        raise UnsupportedError("negative steps")
    index = [":"] * x.ndim
    for axis, start, end, step in zip(chosen, starts, ends, by, strict=True):
        low, high, step = slice(int(start), int(end), step).indices(x.shape[axis])
        if low >= high:
            raise UnsupportedError("slices that take nothing")
        index[axis] = f"{low}:{high}:{step}"
    more = 4 - x.ndim
    y = run("slice", [1] * more + list(x.shape), {"x": x}, index=",".join([":"] * more + index), dtype="fp32")["y"]
    return [(y.reshape(y.shape[more:]), 0.0)]


def gather(attributes: dict[str, Any], x: Any, ids: Any) -> Result:
    """Gather of rows; another axis is moved to the front."""
    x = np.moveaxis(single(x), attributes.get("axis", 0), 0)
    ids = np.asarray(ids)
    width = math.prod(x.shape[1:])
    inputs = {"ids": (ids % len(x)).astype(np.int32).ravel(), "table": x.reshape(len(x), width)}
    y = run("embedding", (ids.size, len(x), width), inputs, dtype="fp32")["y"].reshape(*ids.shape, *x.shape[1:])
    axis = attributes.get("axis", 0)
    places = list(range(ids.ndim, ids.ndim + axis))  # the axes before the gathered one come first again
    rest = [a for a in range(y.ndim) if a not in places]
    return [(y.transpose(places + rest), 0.0)]


def dropout(attributes: dict[str, Any], x: Any, ratio: Any = None, training: Any = None) -> Result:
    """Dropout that drops nothing: of what it drops in training, no two implementations agree."""
    x = single(x)
    p = 0.5 if ratio is None else float(ratio)
    if training is not None and bool(training) and p > 0:
        raise UnsupportedError("random bits of its own")
    y = run("elementwise", (x.size,), {"x": x}, function="dropout", p=0.0, dtype="fp32")["y"].reshape(x.shape)
    return [(y, 0.0)]


ADAPTERS: dict[str, Callable[..., Result]] = {
    "MaxPool": pooled("max"), "AveragePool": pooled("avg"), "GlobalMaxPool": everywhere("max"),
    "GlobalAveragePool": everywhere("avg"), "Transpose": transpose, "Concat": concat, "Slice": sliced,
    "Gather": gather, "Dropout": dropout,
}  # fmt: skip
