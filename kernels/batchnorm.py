"""Batch norm with its gradient and its inference form, as a lesson: statistics of a batch that lies on 342 nodes.

Every channel of (n, h, w, c) is normalised over the n * h * w rows (Ioffe and Szegedy, 2015): mean, biased variance,
y = (x - mean) * rstd * gamma + beta. Training also moves the running statistics, with the unbiased variance, and
returns mean and rstd for the gradient, where with h = (x - mean) * rstd and g = gy * gamma:
gx = (g - h * mean(g h) - mean(g)) * rstd, ggamma = sum of gy h, gbeta = sum of gy. Inference knows the statistics.

What the machine defines (and `reference` repeats in NumPy): every operation rounds to fp32 by itself, as written there;
the variance is the mean of squares of *centred* values, so there are two sums one after the other; sums over rows are
chains of 8 and a balanced tree (`parts/sum_orders.py`), whatever the mesh.

1. Each channel on a node of its own would leave most of a mesh idle at 64 channels, and read pieces of 2 bytes. Rows
   are dealt instead (`parts/column_streaming.py`), whole channels wide, and node sums go up a tree and down again.
2. Three sweeps (sum, squares, result) over an x that came from memory each time would move it four times. Every node
   keeps its rows, as stored, from the first sweep to the last: 103 MB of the first ResNet-50 layer at batch 256 lie in
   196 nodes, and cross the memory's edge once in, once out.
3. The first sum runs while rows arrive, but squares have to wait for the mean, results for both, and meanwhile nothing
   would cross the memory's edge. Channels know nothing of each other, so they go in slices, and results are a thread
   of their own: while one slice is summed another arrives or leaves. Thinner slices are also how rows that do not fit
   are kept after all; where not even 16 channels do, they are read again for each sweep.

The bound it approaches: compulsory bytes over memory bandwidth, which counts x once in and y once out, hence assumes
that x stays on the chip in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.column_streaming import ColumnPlan, ColumnStream, ColumnTiling, TeamSums, choose_columns
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import in_strips, one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.sum_orders import sum_columns
from accel.lang import K
from accel.numerics import fmt
from accel.problem import BatchNorm
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import Sem, View

__all__ = ["KERNEL", "backward", "build", "forward", "inference", "reference"]


def reference(problem: BatchNorm, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name, in fp32: the definition, one rounding an operation."""
    v = values_of(problem, inputs)
    names = [name for name, operand in problem.operands.items() if operand.role == "out"]
    axes = {name: len(problem.operands[name].shape) - 1 for name in (*v, *names)}
    return in_strips(lambda part: _channels(problem, part), v, {n: axes[n] for n in v}, {n: axes[n] for n in names})


def _channels(p: BatchNorm, v: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs for some of the channels: they do not depend on the others."""
    count, one, epsilon = np.float32(p.rows), np.float32(1), np.float32(p.epsilon)
    x = v["x"].reshape(p.rows, -1)
    with np.errstate(all="ignore"):
        if p.direction == "bwd":
            gy, h = v["gy"].reshape(x.shape), (x - v["mean"]) * v["rstd"]
            ggamma, gbeta = sum_columns(gy * h), sum_columns(gy)
            means = [v["gamma"] * total / count for total in (ggamma, gbeta)]
            gx = (gy * v["gamma"] - h * means[0] - means[1]) * v["rstd"]
            return one_nan({"gx": gx.reshape(v["x"].shape), "ggamma": ggamma, "gbeta": gbeta})
        if p.direction == "inference":
            mean, rstd, out = v["running_mean"], one / np.sqrt(v["running_var"] + epsilon), {}
        else:
            mean = sum_columns(x) / count
            squares = sum_columns((x - mean) * (x - mean))
            rstd = one / np.sqrt(squares / count + epsilon)
            new = {"new_mean": (v["running_mean"], mean), "new_var": (v["running_var"], squares / (count - one))}
            moved = {name: old + np.float32(p.momentum) * (now - old) for name, (old, now) in new.items()}
            out = {"mean": mean, "rstd": rstd} | moved
        y = (x - mean) * rstd * v["gamma"] + v["beta"]
        return one_nan({"y": y.reshape(v["x"].shape)} | out)


@kernel
def forward(
    k: K, x: View, gamma: View, beta: View, running_mean: View, running_var: View, y: View, mean: View, rstd: View,
    new_mean: View, new_var: View, *, tiling: ColumnTiling, epsilon: float, momentum: float,
) -> None:  # fmt: skip
    """Normalise with the statistics of this batch."""
    x, y = _rows(x), _rows(y)
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("x",)), Sweep(("x",)), Sweep(("x",), ("y",))), 2)
    stream.pixels_in(x=x)
    stream.pixels_out(y=y)
    _constants(stream, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    wide, last = (k.sram((tiling.block, tiling.width), "fp32", name) for name in ("wide", "last"))
    moved = k.sram((1, tiling.width), "fp32", "moved")
    statistics = k.fifo((2, 1, tiling.width), "fp32", name="statistics")
    numbers = k.sram((3,), "fp32", "numbers")
    sums = TeamSums(stream, 1)
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        for number, value in enumerate((x.shape[1], x.shape[1] - 1, 1.0)):
            k.vec.fill(numbers[number], value)
        for item in items:
            here = slice(0, item.width)
            with statistics.put(item.number) as slot:
                center, scale = slot[0, :, here], slot[1, :, here]
                sums.add_all(item, "x", wide)
                k.vec.div(center, sums.total(spread=True), numbers[0])
                sums.begin(item)
                for piece in item.sweep(1):
                    f = wide[: piece.height, here]
                    k.vec.cast(f, piece["x"])
                    k.vec.sub(f, f, center)
                    k.vec.mul(f, f, f)
                    sums.add(piece, f)
                squares = sums.total(spread=True)
                k.vec.div(scale, squares, numbers[0])
                k.vec.add(scale, scale, epsilon)
                _reciprocal_root(k, scale, numbers[2])
            _keep(stream, item, stored, mean, center)
            _keep(stream, item, stored, rstd, scale)
            now = moved[:, here]
            for old, new in (("running_mean", new_mean), ("running_var", new_var)):
                if new is new_mean:
                    k.vec.sub(now, center, item[old])
                else:
                    k.vec.div(now, squares, numbers[1])
                    k.vec.sub(now, now, item[old])
                k.vec.mul(now, now, momentum)
                k.vec.add(now, now, item[old])
                _keep(stream, item, stored, new, now)

    def finish(items: Iterator[Piece]) -> None:
        for item in items:
            here = slice(0, item.width)
            with statistics.get(item.number) as slot:
                for piece in item.sweep(2):
                    _result(k, last[: piece.height, here], piece, slot[0, :, here], slot[1, :, here])

    stream.start(compute, finish)


@kernel
def inference(
    k: K, x: View, gamma: View, beta: View, running_mean: View, running_var: View, y: View, *, tiling: ColumnTiling,
    epsilon: float,
) -> None:  # fmt: skip
    """Normalise with the running statistics: one sweep, no sums."""
    x, y = _rows(x), _rows(y)
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("x",), ("y",)),))
    stream.pixels_in(x=x)
    stream.pixels_out(y=y)
    _constants(stream, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var)
    wide = k.sram((tiling.block, tiling.width), "fp32", "wide")
    roots, one = k.sram((1, tiling.width), "fp32", "roots"), k.sram((1,), "fp32", "one")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(one, 1.0)
        for item in items:
            scale = roots[:, : item.width]
            k.vec.add(scale, item["running_var"], epsilon)
            _reciprocal_root(k, scale, one)
            for piece in item.sweep(0):
                _result(k, wide[: piece.height, : item.width], piece, item["running_mean"], scale)

    stream.start(compute)


@kernel
def backward(
    k: K, gy: View, x: View, gamma: View, mean: View, rstd: View, gx: View, ggamma: View, gbeta: View,
    *, tiling: ColumnTiling,
) -> None:  # fmt: skip
    """Return the gradients of x, gamma and beta from gy, x and the saved statistics."""
    gy, x, gx = _rows(gy), _rows(x), _rows(gx)
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("gy", "x")), Sweep(("gy", "x"), ("gx",))), 1)
    stream.pixels_in(gy=gy, x=x)
    stream.pixels_out(gx=gx)
    _constants(stream, gamma=gamma, mean=mean, rstd=rstd)
    G, H, last_g, last_h = (k.sram((tiling.block, tiling.width), "fp32", n) for n in ("g", "h", "last_g", "last_h"))
    means = k.fifo((2, 1, tiling.width), "fp32", name="means")
    count, out = k.sram((1,), "fp32", "count"), k.sram((2, tiling.width), ggamma.dtype, "out")
    sums = TeamSums(stream, 2)
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, x.shape[1])
        for item in items:
            here = slice(0, item.width)
            sums.begin(item)
            for piece in item.sweep(0):
                g, h = G[: piece.height, here], H[: piece.height, here]
                _normalised(k, h, piece)
                k.vec.cast(g, piece["gy"])
                k.vec.mul(h, g, h)
                sums.add(piece, h, g)
            total = sums.total(spread=True)
            with means.put(item.number) as slot:
                for number in (0, 1):
                    mean_of = slot[number, :, here]
                    k.vec.mul(mean_of, item["gamma"], total[number])
                    k.vec.div(mean_of, mean_of, count)
            k.vec.cast(out[:, here], total)
            for number, tensor in enumerate((ggamma, gbeta)):
                _keep(stream, item, stored, tensor, out[number, here])

    def finish(items: Iterator[Piece]) -> None:
        for item in items:
            here = slice(0, item.width)
            with means.get(item.number) as slot:
                for piece in item.sweep(1):
                    g, h = last_g[: piece.height, here], last_h[: piece.height, here]
                    k.vec.cast(g, piece["gy"])
                    k.vec.mul(g, g, piece["gamma"])
                    _normalised(k, h, piece)
                    k.vec.mul(h, h, slot[0, :, here])
                    k.vec.sub(g, g, h)
                    k.vec.sub(g, g, slot[1, :, here])
                    k.vec.mul(piece["gx"], g, piece["rstd"])

    stream.start(compute, finish)


def _keep(stream: ColumnStream, item: Piece, stored: Sem, tensor: View, vector: View) -> None:
    """Send a vector of the item's channels to memory, from the first member of the team."""
    with stream.k.when(stream.member == 0):
        stream.k.copy(tensor[item.columns], vector, sent=stored)
        stream.k.wait(stored)


def _rows(tensor: View) -> View:
    """View (n, h, w, c) as one image of n h w pixels."""
    rows = tensor.merge(0).merge(0)
    return rows.split(0, rows.shape[0])


def _constants(stream: ColumnStream, **vectors: View) -> None:
    for name, vector in vectors.items():
        stream.constant(name, vector)


def _reciprocal_root(k: K, x: View, one: View) -> None:
    """x = 1 / sqrt(x), both correctly rounded."""
    k.vec.sqrt(x, x)
    k.vec.div(x, one, x)


def _normalised(k: K, h: View, piece: Piece) -> None:
    """h = (x - mean) * rstd of the piece."""
    k.vec.cast(h, piece["x"])
    k.vec.sub(h, h, piece["mean"])
    k.vec.mul(h, h, piece["rstd"])


def _result(k: K, f: View, piece: Piece, center: View, scale: View) -> None:
    """y = (x - center) * scale * gamma + beta."""
    k.vec.cast(f, piece["x"])
    k.vec.sub(f, f, center)
    k.vec.mul(f, f, scale)
    k.vec.mul(f, f, piece["gamma"])
    k.vec.add(piece["y"], f, piece["beta"])


def build(
    chip: ChipSpec | str, *, n: int, h: int, w: int, c: int, dtype: str = "bf16", out_dtype: str = "",
    direction: str = "fwd", epsilon: float = 1e-5, momentum: float = 0.1, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of a batch norm of x (n, h, w, c) for `chip`.

    direction "fwd": x, gamma, beta, running_mean, running_var -> y, mean, rstd, new_mean, new_var; "inference": the
    same -> y; "bwd": gy, x, gamma, mean, rstd -> gx, ggamma, gbeta (in out_dtype); see `BatchNorm`. tiling: block
    (pixels, 8 times a power of two), depth (slots), held (0 reads x again). Raises InputError, CapacityError where
    pieces do not fit, UnsupportedError for resident operands.
    """
    problem = BatchNorm(n, h, w, c, dtype, out_dtype, direction, epsilon, momentum)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: BatchNorm, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item = problem, fmt(problem.dtype).bytes
    plan = {
        "fwd": ColumnPlan(reads=(item,), writes=(item,), work=2, sums=1, vectors=7, constants=16),
        "inference": ColumnPlan(reads=(item,), writes=(item,), work=1, sums=0, vectors=2, constants=16),
        "bwd": ColumnPlan(reads=(item, item), writes=(item,), work=4, sums=2, vectors=7, constants=12),
    }[p.direction]
    chosen = choose_columns(chip, 1, p.rows, p.c, plan, **tiling)
    if p.direction == "bwd":
        return backward.build(chip, tiling=chosen, **tensors_of(p, "gy x gamma mean rstd gx ggamma gbeta"))
    names = "x gamma beta running_mean running_var y"
    if p.direction == "inference":
        return inference.build(chip, tiling=chosen, epsilon=p.epsilon, **tensors_of(p, names))
    return forward.build(
        chip, tiling=chosen, epsilon=p.epsilon, momentum=p.momentum,
        **tensors_of(p, f"{names} mean rstd new_mean new_var"),
    )  # fmt: skip


def _inputs(problem: BatchNorm, seed: int) -> dict[str, Any]:
    """Return random inputs; variances are positive."""
    rng = np.random.default_rng(seed)
    inputs = {name: o for name, o in problem.operands.items() if o.role == "in"}
    drawn = {name: rng.normal(size=o.shape).astype(np.float32) for name, o in inputs.items()}
    return {name: abs(v) if name in ("running_var", "rstd") else v for name, v in drawn.items()}


KERNEL = LibraryKernel(
    problem=BatchNorm,
    program=_program,
    oracle=reference,
    inputs=_inputs,
    examples=(
        BatchNorm(2, 1, 1, 1),
        BatchNorm(3, 7, 5, 13),
        BatchNorm(1, 31, 37, 70, dtype="fp32"),
        BatchNorm(5, 3, 3, 67, dtype="fp16", direction="inference"),
        BatchNorm(3, 7, 5, 13, direction="bwd"),
        BatchNorm(1, 1, 1, 130, dtype="fp32", direction="bwd", out_dtype="fp32"),
        BatchNorm(2, 33, 9, 24, direction="bwd"),
    ),
)
