"""Global norm of the gradients, clipping and dynamic loss scaling, as a lesson: decisions without a branch.

Mixed precision multiplies the loss by a scale, so that small gradients survive 16 bits (Micikevicius et al., 2018). The
optimizer must divide it out again, clip by the norm of all gradients (Pascanu et al., 2013), and leave a step out whose
gradients are not finite, after which the scale shrinks; after many good steps it grows.

What the machine defines (and `reference` repeats in NumPy): g / scale, as g times 1 / scale, is squared in fp32, and
the squares are summed in the order of `parts/sum_orders.py` over the whole flattened tensor: pieces of 2048, then a
balanced tree. Unscaling before squaring keeps the squares of scaled gradients from overflowing by themselves.

1. Every node sums 2^k pieces of its own while they stream in; the tree goes on over the mesh (`parts/column_sums.py`)
   and ends on node (0, 0): the same sum on every mesh.
2. What follows is arithmetic on single elements. "If the norm is finite" is a comparison to a mask and a `select`: the
   program is the same whether a step overflows or not, and the optimizer reads the outcome from memory.

The bound it approaches: the bytes of the gradients over memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder, is_hard
from accel.kernels.parts.flat_streaming import FlatStream, FlatSums, FlatTiling, choose_summed
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.kernels.parts.sum_orders import sum_rows
from accel.lang import K
from accel.numerics import fmt
from accel.problem.optimizer import GradNorm
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "grad_norm", "reference"]

F = np.float32
TINY = 1e-6  # added to the norm that max_norm is divided by, as torch.nn.utils.clip_grad_norm_ does


def reference(problem: GradNorm, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name: the definition, one rounding an operation."""
    p, v = problem, values_of(problem, inputs)
    with np.errstate(all="ignore"):
        factor = F(1) / v["scale"]
        unscaled = v["g"] * factor
        norm = np.sqrt(sum_rows(unscaled * unscaled)).reshape(1)
        bad = ~(norm < np.inf)
        if p.max_norm:
            factor = factor * np.minimum(F(p.max_norm) / (norm + F(TINY)), F(1))
        streak = np.where(bad, 0, v["streak"].astype(np.int64) + 1)
        grown = streak >= p.interval
        scale = np.where(bad, v["scale"] * F(p.backoff), np.where(grown, v["scale"] * F(p.growth), v["scale"]))
    floats = one_nan({"norm": norm, "factor": factor, "new_scale": scale})
    whole = {"overflow": bad.astype(np.uint8), "new_streak": np.where(grown, 0, streak).astype(np.int32)}
    return {name: floats[name] if name in floats else whole[name] for name in p.operands if name in floats | whole}


@kernel
def grad_norm(
    k: K, g: View, scale: View, streak: View, norm: View, factor: View, overflow: View, new_scale: View,
    new_streak: View, *, problem: GradNorm, tiling: FlatTiling,
) -> None:  # fmt: skip
    """Sum the squares on all nodes, then decide on node (0, 0)."""
    p = problem
    stream = FlatStream(k, p.size, tiling, Sweep(("g",)))
    stream.flat_in(g=g)
    old, steps = stream.constant("scale", scale), stream.constant("streak", streak)
    work = k.sram((tiling.block,), "fp32", "work")
    sums = FlatSums(k, 1, p.size, tiling)
    one, inverse, most, size, share, other = (
        k.sram((1,), "fp32", name) for name in ("one", "inverse", "most", "size", "share", "other")
    )
    good, bad, grown = (k.sram((1,), "uint8", name) for name in ("good", "bad", "grown"))
    zero = k.sram((1,), "int32", "zero")
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        v = k.vec
        v.fill(one, 1.0)
        v.div(inverse, one, old)
        for item in items:
            for piece in item.sweep(0):
                t = work[: piece.width]
                v.cast(t, piece["g"])
                v.mul(t, t, inverse)
                v.mul(t, t, t)
                sums.add(0, piece, t)
        total = sums.total(stream)[0]
        if k.row + k.col != 0:
            return
        v.sqrt(size, total)
        v.compare(good, size, "<", float("inf"))
        v.compare(bad, good, "==", 0)
        v.copy(share, inverse)
        if p.max_norm:
            v.fill(most, p.max_norm)
            v.add(share, size, TINY)
            v.div(share, most, share)
            v.min(share, share, 1.0)
            v.mul(share, inverse, share)
        v.fill(zero, 0)
        v.add(steps, steps, 1)
        v.select(steps, bad, zero, steps)
        v.compare(grown, steps, ">=", p.interval)
        v.select(steps, grown, zero, steps)
        v.mul(other, old, p.growth)
        v.select(other, grown, other, old)
        v.mul(old, old, p.backoff)
        v.select(old, bad, old, other)
        results = ((norm, size), (factor, share), (overflow, bad), (new_scale, old), (new_streak, steps))
        for tensor, buffer in results:
            k.copy(tensor, buffer, sent=stored)
        k.wait(stored, len(results))

    stream.start(compute)


def build(
    chip: ChipSpec | str, *, size: int, dtype: str = "bf16", max_norm: float = 1.0, growth: float = 2.0,
    backoff: float = 0.5, interval: int = 2000, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program that takes the norm of `size` gradients for `chip`; see `accel.problem.GradNorm`.

    tiling: depth (slots). Raises InputError, UnsupportedError for resident operands.
    """
    problem = GradNorm(size, dtype, max_norm, growth, backoff, interval)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: GradNorm, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    chosen = choose_summed(chip, problem.size, fmt(problem.dtype).bytes, 0, 4, **tiling)
    names = "g scale streak norm factor overflow new_scale new_streak"
    return grad_norm.build(chip, problem=problem, tiling=chosen, **tensors_of(problem, names))


def random_inputs(problem: GradNorm, seed: int) -> dict[str, Any]:
    """Return legal inputs: a loss scale that is a power of two, and a streak of steps; hard ones overflow.

    Every third streak is about to grow the scale; every third gradient is so large that its square overflows before
    the scale is divided out, but not after.
    """
    rng = np.random.default_rng(seed)
    g = rng.normal(size=problem.size).astype(np.float32)
    scale = np.exp2(rng.integers(0, 12, 1)).astype(F)
    streak = rng.integers(0, 2000, 1, np.int32)
    if seed % 3 == 1:
        streak[0] = max(0, problem.interval - 1)
    if seed % 3 == 2 and problem.dtype != "fp16":
        g, scale = g * F(2.0**64), np.array([2.0**24], F)
    if is_hard(seed):
        g[rng.integers(problem.size)] = rng.choice([np.inf, -np.inf, np.nan])
    return {"g": g, "scale": scale, "streak": streak}


KERNEL = LibraryKernel(
    problem=GradNorm,
    program=_program,
    oracle=reference,
    inputs=random_inputs,
    examples=(
        GradNorm(1),
        GradNorm(5000),
        GradNorm(70_001, "fp32", max_norm=0.0, interval=1),
        GradNorm(2049, "fp16", max_norm=1e6),
    ),
)
