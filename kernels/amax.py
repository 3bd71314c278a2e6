"""Exponent bias of an 8-bit copy from a history of largest magnitudes, as a lesson: a table instead of a logarithm.

An 8-bit float covers few powers of two, so its exponent bias must follow the tensor. The largest magnitude of the last
steps tells how large the next numbers may be (delayed scaling: Micikevicius et al., "FP8 formats for deep learning",
2022); what they are written with lies in memory as one byte, which later casts read when they run.

What the machine defines (and `reference` repeats in NumPy): amax is exact in any order. A format whose largest number
with bias b is L 2^-b takes the largest b of 0 to 63 with L 2^-b >= 2^margin times the largest of the history.

1. Nodes fold their own elements as they stream in; the mesh folds the nodes (`parts/column_sums.py`, with max).
2. The bias would be floor(log2(L / amax)), but a logarithm rounds, and at a power of two one wrong bit is a factor of
   two. Node (0, 0) compares the amax with all 64 largest numbers instead and counts: exact, and 64 lanes wide.
3. A step whose numbers are not finite must not spoil the history: its entry repeats the one before.

The bound it approaches: the bytes of x over memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import frexp
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder, is_hard
from accel.kernels.parts.flat_streaming import FlatStream, FlatSums, FlatTiling, choose_summed
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, tensors_of, values_of
from accel.lang import K
from accel.numerics import fmt
from accel.problem.optimizer import Amax
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "amax", "build", "reference"]

F = np.float32
LARGEST = {"cfp8-143": 1.875 * 2.0**15, "cfp8-152": 1.75 * 2.0**31}  # with bias 0: all exponent fields are numbers
BIASES = 64


def reference(problem: Amax, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name: the definition."""
    p, v = problem, values_of(problem, inputs)
    size = np.max(np.abs(v["x"])).reshape(1)
    entry = np.where(size < np.inf, size, v["history"][:1])
    history = np.concatenate([entry, v["history"][:-1]])
    with np.errstate(all="ignore"):
        wanted = history.max() * F(2.0**p.margin)
    fits = F(LARGEST[p.target]) * np.exp2(-np.arange(BIASES)).astype(F) >= wanted
    bias = np.array([max(int(fits.sum()) - 1, 0)], np.uint8)
    return one_nan({"amax": size, "new_history": history}) | {"bias": bias}


@kernel
def amax(
    k: K, x: View, history: View, amax: View, new_history: View, bias: View, *, problem: Amax, tiling: FlatTiling
) -> None:
    """Fold |x| on all nodes, then choose on node (0, 0)."""
    p, v = problem, k.vec
    stream = FlatStream(k, p.size, tiling, Sweep(("x",)))
    stream.flat_in(x=x)
    old = stream.constant("history", history)
    work = k.sram((tiling.block,), x.dtype, "work")
    folds = FlatSums(k, 1, p.size, tiling, k.vec.max)
    new, wanted = k.sram((p.entries,), "fp32", "new"), k.sram((1,), "fp32", "wanted")
    table, fits = k.sram((BIASES,), "fp32", "table"), k.sram((BIASES,), "uint8", "fits")
    good, chosen = k.sram((1,), "uint8", "good"), k.sram((1,), "uint8", "chosen")
    stored = k.sem(name="stored")

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            for piece in item.sweep(0):
                t = work[: piece.width]
                v.abs(t, piece["x"])
                folds.add(0, piece, t, v.reduce_max)
        largest = folds.total(stream)[0]
        if k.row + k.col != 0:
            return
        v.compare(good, largest, "<", float("inf"))
        v.select(new[0:1], good, largest, old[0:1])
        if p.entries > 1:
            v.copy(new[1:], old[: p.entries - 1])
        v.reduce_max(wanted, new)
        v.mul(wanted, wanted, 2.0**p.margin)
        _largest_numbers(table)
        v.compare(fits, table, ">=", wanted)
        v.cast(table, fits)
        v.reduce_sum(wanted, table)
        v.sub(wanted, wanted, 1.0)
        v.cast(chosen, wanted)  # to uint8: -1 becomes 0
        for tensor, buffer in ((amax, largest), (new_history, new), (bias, chosen)):
            k.copy(tensor, buffer, sent=stored)
        k.wait(stored, 3)

    def _largest_numbers(table: View) -> None:
        """table[b] = the largest number of the format with bias b, by doubling the part that is there."""
        v.fill(table[0:1], LARGEST[p.target])
        for done in (1, 2, 4, 8, 16, 32):
            v.mul(table[done : 2 * done], table[:done], 2.0**-done)

    stream.start(compute)


def build(
    chip: ChipSpec | str, *, size: int, dtype: str = "bf16", target: str = "cfp8-143", entries: int = 16,
    margin: int = 0, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program that chooses an exponent bias from `size` numbers for `chip`; see `accel.problem.Amax`.

    tiling: depth (slots). Raises InputError, UnsupportedError for resident operands.
    """
    problem = Amax(size, dtype, target, entries, margin)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: Amax, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    item = fmt(problem.dtype).bytes
    chosen = choose_summed(chip, problem.size, item, 0, item, **tiling)
    names = "x history amax new_history bias"
    return amax.build(chip, problem=problem, tiling=chosen, **tensors_of(problem, names))


def random_inputs(problem: Amax, seed: int) -> dict[str, Any]:
    """Return legal inputs: magnitudes are not negative; hard ones have an infinity and a NaN.

    Of every second the largest number is, but for a power of two, the largest of the target: it just fits a bias.
    """
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=problem.size) * 2.0 ** rng.integers(-20, 12)).astype(np.float32)
    if seed % 2:
        x = np.clip(x, -4, 4)
        x[rng.integers(problem.size)] = 32 * frexp(LARGEST[problem.target])[0]
    if is_hard(seed):
        x[rng.integers(problem.size, size=2)] = np.inf, rng.choice([np.nan, -np.inf])
    return {"x": x, "history": np.abs(rng.normal(size=problem.entries)).astype(np.float32)}


KERNEL = LibraryKernel(
    problem=Amax,
    program=_program,
    oracle=reference,
    inputs=random_inputs,
    examples=(Amax(1, entries=1), Amax(5000), Amax(66_000, "fp32", "cfp8-152", margin=2), Amax(2049, "fp16")),
)
