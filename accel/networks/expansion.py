"""What a layer of a network computes: the problems of its forward pass, of its gradients and of its parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from accel.errors import InputError
from accel.problem import (
    Attention,
    BatchNorm,
    BiasAdd,
    Concat,
    Conv2d,
    Conv3d,
    CrossEntropy,
    Elementwise,
    Embedding,
    GroupNorm,
    LayerNorm,
    Matmul,
    Pool2d,
    Problem,
    Resize2d,
)

__all__ = ["Work", "expand", "size"]

P = TypeVar("P", bound=Problem)
FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"


class Work(NamedTuple):
    """One problem of a layer: what it is called beside the layer's name, its phase, and the problem."""

    what: str
    phase: str
    problem: Problem


class Expanded(NamedTuple):
    """All problems of a layer, forward first, and how many parameters it has."""

    work: list[Work]
    parameters: int


def size(text: object, parameters: Mapping[str, int]) -> int:
    """Return the number that a size stands for: an int, or a product and exact quotient of ints and parameters.

    >>> size("batch*width/16", {"batch": 2, "width": 64})
    8
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    value = 1
    for sign, word in re.findall(r"([*/]?)([a-z_]+|\d+)", str(text)):
        number = int(word) if word.isdigit() else parameters[word]
        if sign != "/":
            value *= number
        elif value % number:
            raise InputError(f"network: {text} with {dict(parameters)} is no whole number; use sizes that divide")
        else:
            value //= number
    return value


def expand(row: Mapping[str, Any], parameters: Mapping[str, int], *, training: bool, dtype: str) -> Expanded:
    """Return the problems of one row of a layer table, with its gradients if `training`.

    The first layer of a network (`first`) has no data gradient: nobody needs it.
    """
    for kind, build in _KINDS.items():
        if kind in row:
            sizes = [size(one, parameters) for one in row[kind]]
            steps = {name: _steps(row[name], parameters) for name in ("stride", "pad") if name in row}
            return build(sizes, {**row, **steps, "training": training, "dtype": dtype})
    raise InputError(f"network: layer {row.get('name')!r} has no kind; use one of {', '.join(_KINDS)}")


def _steps(value: object, parameters: Mapping[str, int]) -> int | tuple[int, ...]:
    """Return a stride or padding: one number, or one an axis."""
    return tuple(size(one, parameters) for one in value) if isinstance(value, list) else size(value, parameters)


def _make(kind: type[P], sizes: Sequence[int], **options: object) -> P:
    """Return a problem of `kind` with its sizes in the order of the fields."""
    return kind.from_dict({**dict(zip(kind.__struct_fields__, sizes, strict=False)), **options})


def _phases(row: Mapping[str, Any], forward: list[Work], backward: list[Work], parameters: int) -> Expanded:
    return Expanded(forward + (backward if row["training"] else []), parameters)


def _convolution(kind: type[Conv2d | Conv3d]) -> Callable[[list[int], Mapping[str, Any]], Expanded]:
    def build(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
        axes = len(kind.AXES)
        options = {name: row[name] for name in ("stride", "pad") if name in row}
        options |= {"groups": row["group_count"], "dtype": row["dtype"], "out_dtype": row["dtype"]}
        bias = bool(row.get("bias"))
        problem = _make(kind, sizes, bias=bias, **options)
        form = problem.geometry
        forward: list[Work] = [Work("", FORWARD, problem)]
        backward: list[Work] = []
        after, before, norm_parameters = _after(row, form.y, axes)
        forward += after
        backward += before
        if not row.get("first"):
            backward.append(Work("data gradient", BACKWARD, _make(kind, sizes, direction="dgrad", **options)))
        backward.append(Work("weight gradient", BACKWARD, _make(kind, sizes, direction="wgrad", bias=bias, **options)))
        return _phases(row, forward, backward, math.prod(form.w) + bias * form.k + norm_parameters)

    return build


def _after(row: Mapping[str, Any], y: tuple[int, ...], axes: int) -> tuple[list[Work], list[Work], int]:
    """Return what follows a convolution with output `y`, its gradients (last first), and its parameters."""
    forward: list[Work] = []
    backward: list[Work] = []
    dtype, elements, parameters = row["dtype"], math.prod(y), 0
    norm = row.get("norm", "none")
    if norm != "none":
        n, k, (height, width) = y[0], y[-1], (math.prod(y[1:axes]), y[axes])
        parameters = 2 * k
        if norm == "batch":
            way = "fwd" if row["training"] else "inference"
            forward.append(Work("batch norm", FORWARD, BatchNorm(n, height, width, k, dtype=dtype, direction=way)))
            back: Problem = BatchNorm(n, height, width, k, dtype=dtype, direction="bwd")
        else:  # instance norm: every channel is a group
            forward.append(Work("instance norm", FORWARD, GroupNorm(n, height, width, k, groups=k, dtype=dtype)))
            back = GroupNorm(n, height, width, k, groups=k, dtype=dtype, direction="bwd")
        backward.append(Work(f"{norm} norm gradient", BACKWARD, back))
    if row.get("add"):  # the gradients of both branches meet where the input forked
        add = Elementwise(elements, "add", dtype=dtype)
        forward.append(Work("residual", FORWARD, add))
        backward.insert(0, Work("gradients of both branches", BACKWARD, add))
    if "act" in row:
        forward.append(Work(row["act"], FORWARD, Elementwise(elements, row["act"], dtype=dtype)))
        back = Elementwise(elements, row["act"], dtype=dtype, direction="bwd")
        backward.insert(0, Work(f"{row['act']} gradient", BACKWARD, back))
    return forward, backward, parameters


def _linear(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    (m, n, k), dtype = sizes, row["dtype"]
    forward = [Work("", FORWARD, Matmul(m, n, k, dtype=dtype, out_dtype=dtype, add_bias=True))]
    backward: list[Work] = []
    if "act" in row:
        forward.append(Work(row["act"], FORWARD, Elementwise(m * n, row["act"], dtype=dtype)))
        back = Elementwise(m * n, row["act"], dtype=dtype, direction="bwd")
        backward.append(Work(f"{row['act']} gradient", BACKWARD, back))
    backward += [
        Work("data gradient", BACKWARD, Matmul(m, k, n, dtype=dtype, out_dtype=dtype, trans_b=True)),
        Work("weight gradient", BACKWARD, Matmul(k, n, m, dtype=dtype, out_dtype=dtype, trans_a=True)),
        Work("bias gradient", BACKWARD, BiasAdd(m, n, dtype=dtype, direction="bwd")),
    ]
    return _phases(row, forward, backward, (0 if row.get("tied") else k * n) + n)


def _transposed(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    """n, t, h, w, c, k, taps: taps^3 filters with as much stride. Forward is the data gradient of a convolution."""
    n, t, h, w, c, k, taps = sizes
    whole = (n, t * taps, h * taps, w * taps, k, c, taps, taps, taps)
    roles = {"": "dgrad", "data gradient": "fwd", "weight gradient": "wgrad"}
    work = [
        Work(what, BACKWARD if what else FORWARD,
             _make(Conv3d, whole, stride=taps, direction=way, dtype=row["dtype"], out_dtype=row["dtype"]))
        for what, way in roles.items()
    ]  # fmt: skip
    return _phases(row, work[:1], work[1:], c * k * taps**3)


def _attention(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    return _plain(Attention, sizes, row, causal=bool(row.get("causal")))


def _layernorm(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    return _plain(LayerNorm, sizes, row, 2 * sizes[1])


def _elementwise(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    function = row["function"]
    forward = [Work("", FORWARD, Elementwise(sizes[0], function, dtype=row["dtype"]))]
    if function == "add":  # its gradients are gy itself; where the sum is a residual, those of both branches are added
        return _phases(row, forward, [Work("gradients of both branches", BACKWARD, forward[0].problem)], 0)
    back = Elementwise(sizes[0], function, dtype=row["dtype"], direction="bwd")
    return _phases(row, forward, [Work("gradient", BACKWARD, back)], 0)


def _cross_entropy(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    return _plain(CrossEntropy, sizes, row) if row["training"] else Expanded([], 0)


def _plain(
    kind: type[Problem], sizes: Sequence[int], row: Mapping[str, Any], parameters: int = 0, **options: object
) -> Expanded:
    """A layer whose gradient is one problem of the same kind."""
    forward, backward = (_make(kind, sizes, dtype=row["dtype"], direction=way, **options) for way in ("fwd", "bwd"))
    return _phases(row, [Work("", FORWARD, forward)], [Work("gradient", BACKWARD, backward)], parameters)


def _pool(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    """n, h, w, c and the window; `function` is max or avg."""
    return _plain(Pool2d, sizes, row, function=row["function"], stride=row.get("stride", 1), pad=row.get("pad", 0))


def _resize(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    """n, h, w, c and by what height and width are multiplied."""
    *image, factor = sizes
    return _plain(Resize2d, [*image, image[1] * factor, image[2] * factor], row, mode="nearest")


def _concat(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    """Pixels, then the channels of each part."""
    return _plain(Concat, [sizes[0], 1], row, parts="+".join(map(str, sizes[1:])))


def _embedding(sizes: list[int], row: Mapping[str, Any]) -> Expanded:
    """Tokens, rows of the table, width."""
    return _plain(Embedding, sizes, row, sizes[1] * sizes[2])


_KINDS: dict[str, Callable[[list[int], Mapping[str, Any]], Expanded]] = {
    "conv2d": _convolution(Conv2d), "conv3d": _convolution(Conv3d), "transposed3d": _transposed, "linear": _linear,
    "attention": _attention, "layernorm": _layernorm, "elementwise": _elementwise, "pool": _pool, "resize": _resize,
    "embedding": _embedding, "concat": _concat, "cross_entropy": _cross_entropy,
}  # fmt: skip
