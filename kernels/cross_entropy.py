"""Cross-entropy of logits and labels with its gradient, as a lesson: a softmax that is never written to memory.

loss[r] = lse[r] - x[r, label[r]] with lse = log of the sum of exp(x), and with label smoothing s
(1 - s) * (lse - x[label]) + s * (lse - mean x); mean is the sum of losses over the rows that count. Backward, from the
saved lse: gx = (exp(x - lse) - q) * scale, where q is the smoothed target, 1 - s + s / classes at the label and
s / classes elsewhere. scale is one number in memory (the gradient of `mean` over the number of rows that count, times a
loss scale), so that neither needs another program. A row whose label is `ignore_index` has loss 0 and scale 0, any
other label outside 0..classes - 1 makes both NaN: control flow follows no data, so what is wrong must show in numbers.

What the machine defines (and `reference` repeats in NumPy): every operation rounds to fp32 by itself, left to right as
written in `reference`; exp and log are the chip's; sums follow `parts/sum_orders.py`, along the classes as in softmax,
and over the rows, for the mean, in chains of 8 and a balanced tree across the mesh.

1. Softmax, then a gather of the labels' entries, would write and read a tensor of rows x classes. Fused, the logits are
   read once, and one number a row leaves.
2. Labels are data, and addresses are not: so no element is fetched by its label. A row of class numbers is compared
   with the label, and the sum over what is left of x, all zeros but one, is exact.
3. Rows are dealt in aligned runs of 8 * 2^k (`parts/column_sums.py`), and the mean goes up the tree of its own order.

The bound it approaches: compulsory bytes over memory bandwidth. Forward only reads: 1.7 cycles of a node of `d1` for a
bf16 logit, of which exponential, comparison and sums take 1.4; backward has twice the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.isa.functions import apply
from accel.kernels.library import LibraryKernel, builder, is_hard
from accel.kernels.parts.column_sums import ColumnSums, MeshTree, levels_of
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import in_strips, one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.row_streaming import (
    RowPlan,
    RowStream,
    RowTiling,
    choose_rows,
    choose_summed_rows,
    node_index,
)
from accel.kernels.parts.sum_orders import BLOCK, fold_rows, sum_columns, sum_rows
from accel.lang import K
from accel.numerics import fmt
from accel.problem import CrossEntropy
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "backward", "build", "forward", "reference"]

NAN = float("nan")


def reference(problem: CrossEntropy, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name, in fp32: the definition, one rounding an operation."""
    v, p, F = values_of(problem, inputs), problem, np.float32

    def rows(v: Mapping[str, Any]) -> dict[str, np.ndarray]:
        x, labels = v["x"], v["labels"]
        target = np.arange(p.classes) == labels[:, None]
        ignored, wrong = labels == p.ignore_index, (labels < 0) | (labels >= p.classes)
        with np.errstate(all="ignore"):
            if p.direction == "bwd":
                elsewhere = p.smoothing / p.classes
                at = 1 - p.smoothing + elsewhere
                scale = np.where(ignored, F(0), np.where(wrong, F(NAN), v["scale"]))
                q = np.where(target, F(at), F(elsewhere))
                return one_nan({"gx": (apply("exp", x - v["lse"][:, None]) - q) * scale[:, None]})
            peak = x.max(axis=1)
            lse = peak + apply("log", sum_rows(apply("exp", x - peak[:, None])))
            loss = lse - sum_rows(np.where(target, x, F(0)))
            if p.smoothing:
                uniform = lse - sum_rows(x) / F(p.classes)
                loss = loss * F(1 - p.smoothing) + uniform * F(p.smoothing)
            return one_nan({"loss": np.where(ignored, F(0), np.where(wrong, F(NAN), loss)), "lse": lse})

    along = {name: 0 for name in v if name != "scale"}
    if p.direction == "bwd":
        return in_strips(rows, v, along, {"gx": 0})
    out = in_strips(rows, v, along, {"loss": 0, "lse": 0})
    counted = np.where(v["labels"] == p.ignore_index, F(0), F(1))
    with np.errstate(all="ignore"):
        mean = sum_columns(out["loss"]) / sum_columns(counted)
    return out | one_nan({"mean": mean[None]})


@kernel
def forward(
    k: K, x: View, labels: View, loss: View, mean: View, lse: View, *, tiling: RowTiling, smoothing: float,
    ignore_index: int,
) -> None:  # fmt: skip
    """Return the loss of each row, the mean over rows that count, and the logarithm of the sum of exponentials."""
    rows, classes = x.shape
    stream = RowStream(k, rows, classes, tiling, (Sweep(("x",)), Sweep(("x",))))
    stream.unrolled = True  # the stack of sums over rows follows no loop index
    stream.rows_in(x=x)
    stream.row_in(labels=labels)
    stream.row_out(loss=loss, lse=lse)
    shape = (tiling.block, tiling.width)
    W, E = (k.sram(shape, "fp32", name) for name in ("wide", "picked"))
    picker = Labels(k, tiling)
    peaks = k.sram((tiling.block, stream.per_item), x.dtype, "peaks")
    terms = k.sram((3, tiling.block, stream.per_item), "fp32", "terms")
    columns = k.sram((3, tiling.block, 1), "fp32", "columns")
    count = k.sram((1,), "fp32", "count")
    unit = max(tiling.block, BLOCK)
    sums = ColumnSums(k, 2, 1, unit, levels_of(tiling.chunk, unit), 1)
    tree = MeshTree(k, 2, 1, -(-rows // tiling.chunk))
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        picker.begin()
        k.vec.fill(count, classes)
        done = 0
        for item in items:
            some = slice(0, item.height)
            peak, counted, other = (c[some] for c in columns)
            for piece in item.sweep(0):
                k.vec.reduce_max(peaks[some, piece.number : piece.number + 1], piece["x"])
            k.vec.reduce_max(peak, peaks[some])
            for piece in item.sweep(1):
                e, f = (b[some, : piece.width] for b in (W, E))
                here = slice(piece.number, piece.number + 1)
                k.vec.cast(e, piece["x"])
                mask = picker.mask(piece, item["labels"])
                k.vec.select(f, mask, e, picker.zero)
                k.vec.reduce_sum(terms[1, some, here], f)
                if smoothing:
                    k.vec.reduce_sum(terms[2, some, here], e)
                k.vec.sub(e, e, peak)
                k.vec.exp(e, e)
                k.vec.reduce_sum(terms[0, some, here], e)
            k.vec.log(other, fold_rows(k, terms[0, some]))
            k.vec.add(item["lse"], peak, other)
            k.vec.sub(other, item["lse"], fold_rows(k, terms[1, some]))
            if smoothing:
                uniform = fold_rows(k, terms[2, some])
                k.vec.div(uniform, uniform, count)
                k.vec.sub(uniform, item["lse"], uniform)
                k.vec.mul(uniform, uniform, smoothing)
                k.vec.mul(other, other, 1 - smoothing)
                k.vec.add(other, other, uniform)
            picker.settle(item["loss"], other, item["labels"], classes, ignore_index)
            k.vec.select(counted, picker.ignored[some], picker.zero, picker.one)
            for number, column in enumerate((item["loss"], counted)):
                sums.add(number, 0, column, done % BLOCK == 0)
            done += item.height
            if done % unit == 0 or done == stream.own:
                sums.close()
        total = sums.total() if stream.own else None
        if total is None:
            return
        tree.fold(total, node_index(k))
        with k.when((k.row == 0) & (k.col == 0)):
            k.vec.div(total[0], total[0], total[1])
            k.copy(mean, total[0], sent=stored)
            k.wait(stored)

    stream.start(compute)


@kernel
def backward(
    k: K, x: View, labels: View, lse: View, scale: View, gx: View, *, tiling: RowTiling, at: float, elsewhere: float,
    ignore_index: int,
) -> None:  # fmt: skip
    """Return the gradient of the logits; `at` and `elsewhere` are the target at the label and at other classes."""
    rows, classes = x.shape
    stream = RowStream(k, rows, classes, tiling, (Sweep(("x",), ("gx",)),))
    stream.rows_in(x=x)
    stream.row_in(labels=labels, lse=lse)
    stream.rows_out(gx=gx)
    factor = stream.constant("scale", scale)
    W, Q = (k.sram((tiling.block, tiling.width), "fp32", name) for name in ("wide", "target"))
    picker = Labels(k, tiling)
    targets = k.sram((2, 1), "fp32", "targets")
    factors = k.sram((tiling.block, 1), "fp32", "factors")

    def compute(items: Iterator[Piece]) -> None:
        picker.begin()
        k.vec.fill(targets[0], at)
        k.vec.fill(targets[1], elsewhere)
        for item in items:
            some = slice(0, item.height)
            picker.settle(factors[some], factor, item["labels"], classes, ignore_index)
            for piece in item.sweep(0):
                e, q = (b[some, : piece.width] for b in (W, Q))
                k.vec.cast(e, piece["x"])
                k.vec.sub(e, e, item["lse"])
                k.vec.exp(e, e)
                k.vec.select(q, picker.mask(piece, item["labels"]), targets[0], targets[1])
                k.vec.sub(e, e, q)
                k.vec.mul(piece["gx"], e, factors[some])

    stream.start(compute)


class Labels:
    """What labels decide, without an address: which element of a piece is meant, and which rows count."""

    def __init__(self, k: K, tiling: RowTiling) -> None:
        self.k = k
        self.numbers = k.sram((1, tiling.width), "int32", "class_numbers")
        self.masks = k.sram((tiling.block, tiling.width), "uint8", "masks")
        self.shifted = k.sram((tiling.block, 1), "int32", "shifted_labels")
        self.ignored = k.sram((tiling.block, 1), "uint8", "ignored")
        self.inside = k.sram((tiling.block, 1), "uint8", "inside")
        self.constants = k.sram((3, 1), "fp32", "zero_one_nan")
        self.zero, self.one, self.nan = self.constants[0], self.constants[1], self.constants[2]

    def begin(self) -> None:
        """Fill the constants."""
        self.k.vec.iota(self.numbers)
        for view, value in ((self.zero, 0.0), (self.one, 1.0), (self.nan, NAN)):
            self.k.vec.fill(view, value)

    def mask(self, piece: Piece, labels: View) -> View:
        """Return a mask (rows, width) of the piece, 1 where the class is the row's label."""
        mask, shifted = self.masks[: piece.height, : piece.width], self.shifted[: piece.height]
        self.k.vec.sub(shifted, labels, piece.left)
        self.k.vec.compare(mask, self.numbers[:, : piece.width], "==", shifted)
        return mask

    def settle(self, out: View, x: View, labels: View, classes: int, ignore_index: int) -> None:
        """out (rows, 1) = 0 for ignored rows, NaN for labels that are no class, otherwise x; fills `ignored`."""
        k, rows = self.k, out.shape[0]
        inside, ignored = self.inside[:rows], self.ignored[:rows]
        k.vec.compare(inside, labels, ">=", 0)
        k.vec.select(out, inside, x, self.nan)
        k.vec.compare(inside, labels, "<=", classes - 1)
        k.vec.select(out, inside, out, self.nan)
        k.vec.compare(ignored, labels, "==", ignore_index)
        k.vec.select(out, ignored, self.zero, out)


def _targets(problem: CrossEntropy) -> tuple[float, float]:
    """Return the smoothed target at the label and at every other class."""
    share = problem.smoothing / problem.classes
    return 1 - problem.smoothing + share, share


def build(
    chip: ChipSpec | str, *, rows: int, classes: int, dtype: str = "bf16", direction: str = "fwd",
    smoothing: float = 0.0, ignore_index: int = -100, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of the cross-entropy of x (rows, classes) and int32 labels (rows,) for `chip`.

    direction "fwd": x, labels -> loss, mean, lse; "bwd": x, labels, lse, scale -> gx; see `CrossEntropy`. tiling: block
    (rows, a power of two forward), depth (slots), held (0 reads rows again). Raises InputError, CapacityError where
    not even a piece of a row fits, UnsupportedError for resident operands.
    """
    problem = CrossEntropy(rows, classes, dtype, direction, smoothing, ignore_index)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(
    chip: ChipSpec, problem: CrossEntropy, *, resident: frozenset[str] = frozenset(), **tiling: int
) -> Program:
    only_in_memory(problem, resident)
    p, item = problem, fmt(problem.dtype).bytes
    if p.direction == "fwd":
        plan = RowPlan(reads=(item,), writes=(), work=4, row_vectors=14)
        chosen = choose_summed_rows(chip, p.rows, p.classes, plan, **tiling)
        return forward.build(
            chip, tiling=chosen, smoothing=p.smoothing, ignore_index=p.ignore_index,
            **tensors_of(p, "x labels loss mean lse"),
        )  # fmt: skip
    at, elsewhere = _targets(p)
    plan = RowPlan(reads=(item,), writes=(item,), work=4, row_vectors=14)
    chosen = choose_rows(chip, p.rows, p.classes, plan, **{"held": 0, **tiling})
    return backward.build(
        chip, tiling=chosen, at=at, elsewhere=elsewhere, ignore_index=p.ignore_index,
        **tensors_of(p, "x labels lse scale gx"),
    )  # fmt: skip


def _inputs(problem: CrossEntropy, seed: int) -> dict[str, Any]:
    """Return random inputs with labels that are classes, a tenth of them ignored; hard ones have one that is none."""
    rng = np.random.default_rng(seed)
    inputs = {name: o for name, o in problem.operands.items() if o.role == "in"}
    drawn: dict[str, Any] = {name: rng.normal(size=o.shape).astype(np.float32) for name, o in inputs.items()}
    labels = rng.integers(0, problem.classes, problem.rows)
    drawn["labels"] = np.where(rng.random(problem.rows) < 0.1, problem.ignore_index, labels).astype(np.int32)
    if is_hard(seed):
        drawn["labels"][rng.integers(problem.rows)] = rng.choice([-1, problem.classes])
    if "lse" in drawn:
        drawn["lse"] = (drawn["lse"] + np.log(problem.classes) + 0.5).astype(np.float32)
    return drawn


KERNEL = LibraryKernel(
    problem=CrossEntropy,
    program=_program,
    oracle=reference,
    inputs=_inputs,
    examples=(
        CrossEntropy(1, 1),
        CrossEntropy(37, 61),
        CrossEntropy(133, 10, dtype="fp32", smoothing=0.1),
        CrossEntropy(5, 4099, dtype="fp16", smoothing=0.25, ignore_index=0),
        CrossEntropy(37, 61, direction="bwd"),
        CrossEntropy(9, 2500, dtype="fp32", direction="bwd", smoothing=0.1),
    ),
)
