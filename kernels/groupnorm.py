"""Group norm with its gradient, as a lesson: statistics of every image and group of channels.

Images (n, h, w, c) are normalised over h, w and the c / groups channels of a group (Wu and He, 2018):
y = (x - mean) * rstd * gamma + beta with mean and rstd of the image's group, gamma and beta of the channel. groups=1 is
layer norm over an image, groups=c instance norm. Backward, with h = (x - mean) * rstd and g = gy * gamma:
gx = (g - h * mean(g h) - mean(g)) * rstd, the means over the group; ggamma and gbeta sum gy h and gy over all images.

What the machine defines (and `reference` repeats in NumPy): every operation rounds to fp32 by itself, as written there.
A sum over a group goes down the pixels of each channel first (chains of 8 and a balanced tree), then along the channels
of the group in the order of `vec.reduce_sum`; sums over images are a balanced tree over the images
(`parts/sum_orders.py`).

1. A group is `c / groups` channels wide: 2 to 32 elements, of the 16 that the vector unit takes at once. Working on
   groups would waste most of it, so sums are taken and applied channel by channel, as for batch norm, and groups only
   appear between: c sums become `groups` statistics, which are spread to c channels again.
2. With as many images as nodes, every node normalises images of its own and no node waits for another. With fewer,
   `parts/column_streaming.py` gives each image a team, whose sums go up a tree and down again.
3. The gradients of gamma and beta are summed by every team over its images, then over the teams, up the same tree.

The bound it approaches: compulsory bytes over memory bandwidth; what a node has of an image stays in its SRAM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.column_streaming import ColumnPlan, ColumnStream, ColumnTiling, TeamSums, choose_columns
from accel.kernels.parts.column_sums import ColumnSums, MeshTree, levels_of
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.sum_orders import PIECE, fold_rows, sum_columns, sum_rows, tree
from accel.lang import K
from accel.numerics import fmt
from accel.problem import GroupNorm
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import Sem, View

__all__ = ["KERNEL", "backward", "build", "forward", "reference"]


def reference(problem: GroupNorm, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name, in fp32: the definition, one rounding an operation."""
    v, p = values_of(problem, inputs), problem
    each = p.c // p.groups
    count, one = np.float32(p.h * p.w * each), np.float32(1)
    x = v["x"].reshape(p.n, p.h * p.w, p.c)

    def of_group(terms: np.ndarray) -> np.ndarray:  # (n, pixels, c) -> means (n, groups)
        channels = sum_columns(np.moveaxis(terms, 1, 0))
        return mean_of(channels)

    def mean_of(channels: np.ndarray) -> np.ndarray:
        means: np.ndarray = sum_rows(channels.reshape(p.n, p.groups, each)) / count
        return means

    def spread(groups: np.ndarray) -> np.ndarray:  # (n, groups) -> (n, 1, c)
        return np.repeat(groups, each, axis=1)[:, None]

    with np.errstate(all="ignore"):
        if p.direction == "fwd":
            mean = of_group(x)
            centred = x - spread(mean)
            rstd = one / np.sqrt(of_group(centred * centred) + np.float32(p.epsilon))
            y = centred * spread(rstd) * v["gamma"] + v["beta"]
            return one_nan({"y": y.reshape(v["x"].shape), "mean": mean, "rstd": rstd})
        gy, rstd = v["gy"].reshape(x.shape), spread(v["rstd"])
        h = (x - spread(v["mean"])) * rstd
        sums = {"ggamma": sum_columns(np.moveaxis(gy * h, 1, 0)), "gbeta": sum_columns(np.moveaxis(gy, 1, 0))}
        m = {name: spread(mean_of(v["gamma"] * total)) for name, total in sums.items()}
        gx = (gy * v["gamma"] - h * m["ggamma"] - m["gbeta"]) * rstd
        return one_nan({"gx": gx.reshape(v["x"].shape)} | {name: tree(total) for name, total in sums.items()})


class Groups:
    """Sums over the channels of each group, and statistics of groups spread to their channels."""

    def __init__(self, k: K, width: int, each: int) -> None:
        self.k, self.each, self.terms = k, each, k.sram((width // each, ceil(each / PIECE)), "fp32", "group_terms")

    def total(self, channels: View) -> View:
        """Return the sums (groups, 1) of `channels` (1, channels)."""
        groups = channels[0].split(0, self.each)
        terms = self.terms[: groups.shape[0]]
        for number, left in enumerate(range(0, self.each, PIECE)):
            part = groups[:, left : min(left + PIECE, self.each)]
            self.k.vec.reduce_sum(terms[:, number : number + 1], part)
        return fold_rows(self.k, terms)

    def spread(self, channels: View, groups: View) -> None:
        """Fill `channels` (1, channels) with the values of their `groups` (groups, 1)."""
        self.k.vec.copy(channels[0].split(0, self.each), groups)

    def slice_of(self, item: Piece) -> slice:
        """Return the groups of an item's channels as a slice of all groups."""
        first = item.left // self.each
        return slice(first, first + item.width // self.each)


@kernel
def forward(
    k: K, x: View, gamma: View, beta: View, y: View, mean: View, rstd: View, *, tiling: ColumnTiling, epsilon: float
) -> None:
    """Normalise every image by groups of channels."""
    each = x.shape[3] // mean.shape[1]
    x, y = x.merge(1), y.merge(1)
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("x",)), Sweep(("x",)), Sweep(("x",), ("y",))), 2)
    stream.pixels_in(x=x)
    stream.pixels_out(y=y)
    stream.constant("gamma", gamma)
    stream.constant("beta", beta)
    wide, last = (k.sram((tiling.block, tiling.width), "fp32", name) for name in ("wide", "last"))
    statistics = k.fifo((2, 1, tiling.width), "fp32", name="statistics")
    results = k.sram((2, tiling.width // each, 1), "fp32", "results")
    numbers = k.sram((2,), "fp32", "numbers")
    sums, groups = TeamSums(stream, 1), Groups(k, tiling.width, each)
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(numbers[0], x.shape[1] * each)
        k.vec.fill(numbers[1], 1.0)
        for item in items:
            here, some = slice(0, item.width), slice(0, item.width // each)
            with statistics.put(item.number) as slot:
                center, scale = slot[0, :, here], slot[1, :, here]
                middle, root = results[0, some], results[1, some]
                sums.add_all(item, "x", wide)
                k.vec.div(middle, groups.total(sums.total(spread=True)), numbers[0])
                groups.spread(center, middle)
                sums.begin(item)
                for piece in item.sweep(1):
                    f = wide[: piece.height, here]
                    k.vec.cast(f, piece["x"])
                    k.vec.sub(f, f, center)
                    k.vec.mul(f, f, f)
                    sums.add(piece, f)
                k.vec.div(root, groups.total(sums.total(spread=True)), numbers[0])
                k.vec.add(root, root, epsilon)
                k.vec.sqrt(root, root)
                k.vec.div(root, numbers[1], root)
                groups.spread(scale, root)
            with k.when(stream.member == 0):
                k.copy(mean[item.image, groups.slice_of(item)], middle, sent=stored)
                k.copy(rstd[item.image, groups.slice_of(item)], root, sent=stored)
                k.wait(stored, 2)

    def finish(items: Iterator[Piece]) -> None:
        for item in items:
            here = slice(0, item.width)
            with statistics.get(item.number) as slot:
                for piece in item.sweep(2):
                    f = last[: piece.height, here]
                    k.vec.cast(f, piece["x"])
                    k.vec.sub(f, f, slot[0, :, here])
                    k.vec.mul(f, f, slot[1, :, here])
                    k.vec.mul(f, f, piece["gamma"])
                    k.vec.add(piece["y"], f, piece["beta"])

    stream.start(compute, finish)


@kernel
def backward(
    k: K, gy: View, x: View, gamma: View, mean: View, rstd: View, gx: View, ggamma: View, gbeta: View,
    *, tiling: ColumnTiling,
) -> None:  # fmt: skip
    """Return the gradients of x, gamma and beta from gy, x and the saved statistics."""
    each = x.shape[3] // mean.shape[1]
    gy, x, gx = gy.merge(1), x.merge(1), gx.merge(1)
    stream = ColumnStream(k, x.shape, tiling, (Sweep(("gy", "x")), Sweep(("gy", "x"), ("gx",))), 1)
    stream.unrolled = True  # the stack of sums over images follows no loop index
    stream.pixels_in(gy=gy, x=x)
    stream.pixels_out(gx=gx)
    stream.constant("gamma", gamma)
    G, H, last_g, last_h = (k.sram((tiling.block, tiling.width), "fp32", n) for n in ("g", "h", "last_g", "last_h"))
    vectors = k.fifo((4, 1, tiling.width), "fp32", name="vectors")  # mean, rstd, mean of g h, mean of g
    count, product = k.sram((1,), "fp32", "count"), k.sram((1, tiling.width), "fp32", "product")
    out = k.sram((2, tiling.width), ggamma.dtype, "out")
    sums, groups = TeamSums(stream, 2), Groups(k, tiling.width, each)
    over_images = ColumnSums(k, 2, tiling.width, 1, levels_of(tiling.run, 1), tiling.width, name="image_sums")
    over_teams = MeshTree(k, 2, tiling.width, tiling.groups, name="teams")
    stored = k.sem(name="stored")
    for name, tensor in (("mean", mean), ("rstd", rstd)):
        stream.flow(
            name, tensor, (tiling.width // each, 1), 2, lambda item: (item.image, groups.slice_of(item)), per="item"
        )

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(count, x.shape[1] * each)
        for number, item in enumerate(items):
            here = slice(0, item.width)
            with vectors.put() as slot:
                center, scale, *means = (slot[i, :, here] for i in range(4))
                groups.spread(center, item["mean"])
                groups.spread(scale, item["rstd"])
                sums.begin(item)
                for piece in item.sweep(0):
                    g, h = G[: piece.height, here], H[: piece.height, here]
                    _normalised(k, h, piece["x"], center, scale)
                    k.vec.cast(g, piece["gy"])
                    k.vec.mul(h, g, h)
                    sums.add(piece, h, g)
                total = sums.total(spread=True)
                for mean_of, channels in zip(means, total, strict=True):
                    term = product[:, here]
                    k.vec.mul(term, item["gamma"], channels)
                    group = groups.total(term)
                    k.vec.div(group, group, count)
                    groups.spread(mean_of, group)
            if number % stream.images == 0:
                over_images.begin(item.width)
            over_images.push(total)
            if (number + 1) % stream.images == 0:
                _parameters(stream, item, over_images.total(), over_teams, out[:, here], (ggamma, gbeta), stored)

    def finish(items: Iterator[Piece]) -> None:
        for item in items:
            here = slice(0, item.width)
            with vectors.get() as slot:
                center, scale, *means = (slot[i, :, here] for i in range(4))
                for piece in item.sweep(1):
                    g, h = last_g[: piece.height, here], last_h[: piece.height, here]
                    k.vec.cast(g, piece["gy"])
                    k.vec.mul(g, g, piece["gamma"])
                    _normalised(k, h, piece["x"], center, scale)
                    k.vec.mul(h, h, means[0])
                    k.vec.sub(g, g, h)
                    k.vec.sub(g, g, means[1])
                    k.vec.mul(piece["gx"], g, scale)

    stream.start(compute, finish)


def _normalised(k: K, h: View, x: View, center: View, scale: View) -> None:
    """h = (x - center) * scale."""
    k.vec.cast(h, x)
    k.vec.sub(h, h, center)
    k.vec.mul(h, h, scale)


def _parameters(
    stream: ColumnStream, item: Piece, total: View, over_teams: MeshTree, out: View, results: tuple[View, ...],
    stored: Sem,
) -> None:  # fmt: skip
    """Add up the teams' sums for the channels of `item`; the first of all stores them."""
    k, t = stream.k, stream.tiling
    first = stream.group + stream.member * t.groups  # of every team one member takes part: others are out of range
    over_teams.fold(total, first, stream.lane * t.members, t.lanes * t.members)
    with k.when(first == 0):
        k.vec.cast(out, total)
        for number, result in enumerate(results):
            k.copy(result[item.columns], out[number], sent=stored)
        k.wait(stored, len(results))


def build(
    chip: ChipSpec | str, *, n: int, h: int, w: int, c: int, groups: int = 1, dtype: str = "bf16",
    out_dtype: str = "", direction: str = "fwd", epsilon: float = 1e-5, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of a group norm of x (n, h, w, c) for `chip`.

    direction "fwd": x, gamma, beta -> y, mean, rstd (n, groups); "bwd": gy, x, gamma, mean, rstd -> gx, ggamma, gbeta
    (in out_dtype); see `GroupNorm`. tiling: block (pixels, 8 times a power of two), depth (slots), held (0 reads x
    again). Raises InputError, CapacityError where pieces do not fit, UnsupportedError for resident operands.
    """
    problem = GroupNorm(n, h, w, c, groups, dtype, out_dtype, direction, epsilon)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: GroupNorm, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, item = problem, fmt(problem.dtype).bytes
    if p.direction == "fwd":
        plan = ColumnPlan(reads=(item,), writes=(item,), work=2, sums=1, vectors=8, constants=8)
    else:
        plan = ColumnPlan(reads=(item, item), writes=(item,), work=4, sums=2, vectors=20, constants=4, per_image=2)
    chosen = choose_columns(chip, p.n, p.h * p.w, p.c, plan, granule=p.c // p.groups, **tiling)
    if p.direction == "fwd":
        return forward.build(chip, tiling=chosen, epsilon=p.epsilon, **tensors_of(p, "x gamma beta y mean rstd"))
    return backward.build(chip, tiling=chosen, **tensors_of(p, "gy x gamma mean rstd gx ggamma gbeta"))


KERNEL = LibraryKernel(
    problem=GroupNorm,
    program=_program,
    oracle=reference,
    examples=(
        GroupNorm(1, 1, 1, 1),
        GroupNorm(3, 5, 7, 12, groups=4),
        GroupNorm(17, 2, 3, 10, groups=10, dtype="fp32"),
        GroupNorm(2, 13, 11, 70, groups=7, dtype="fp16"),
        GroupNorm(1, 1, 2, 2100),
        GroupNorm(3, 5, 7, 12, groups=4, direction="bwd"),
        GroupNorm(37, 2, 2, 6, groups=2, dtype="fp32", direction="bwd"),
        GroupNorm(1, 9, 31, 64, groups=2, direction="bwd", out_dtype="fp32"),
    ),
)
