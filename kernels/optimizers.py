"""SGD, Adam, AdamW and LAMB over fp32 master weights, as a lesson: the step that computes least and moves most.

What the machine defines (and `reference` repeats in NumPy): gradients widen to fp32 and are multiplied by `factor`;
every operation rounds to fp32 by itself in the order written in `reference`, where `fma` rounds once. With
c1 = 1 - beta1^t and c2 = 1 - beta2^t from the host, since 1 - beta^t computed in fp32 from a rounded beta loses digits:

  sgd    g += decay w; m = momentum m + g; w -= lr m  (nesterov: lr (g + momentum m))
  adam   g += decay w; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2; w -= lr/c1 m / (sqrt(v / c2) + epsilon)
  adamw  the same without the first, and w (1 - lr decay) instead of w (Loshchilov and Hutter, 2019)
  lamb   r = m/c1 / (sqrt(v / c2) + epsilon) + decay w; w -= lr |w| / |r| r, the quotient 1 where a norm is 0 (You et
         al., 2020)

1. Nothing is rebuilt from step to step: learning rate, loss scale, clipping and bias corrections are tensors of one
   element, fetched by node (0, 0) and multicast. A step with an overflow is skipped by a `select` with a mask of one
   element: programs have no branches on data, and so their cycles do not depend on it either.
2. Weights, moments and gradients stream through once (`parts/flat_streaming.py`): 28 bytes an element of AdamW with a
   bf16 copy, against 2 cycles of arithmetic.
3. Master weights stay in fp32; the copy for the next forward pass is rounded to nearest or at random, with the random
   number of the element's place, so that no tiling shows. An 8-bit copy has the exponent bias that `amax` chose.
4. LAMB needs two norms before it may write. Sums go up a tree over the mesh in one order (`parts/sum_orders.py`: pieces
   of 2048, then a balanced tree) and the result down to all; meanwhile inputs stay in SRAM where they fit and are read
   again where not.

The bound it approaches: compulsory bytes over memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.isa.functions import fma
from accel.kernels.library import LibraryKernel, builder, is_hard
from accel.kernels.parts.flat_streaming import FlatStream, FlatSums, FlatTiling, choose_flat, choose_summed
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, present, tensors_of, values_of
from accel.kernels.parts.optimizer_steps import Update
from accel.kernels.parts.sum_orders import sum_rows
from accel.lang import K
from accel.numerics import cast, fmt, from_storage
from accel.problem.optimizer import Optimizer
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "reference", "update"]

F = np.float32
STREAMED = ("w", "g", "m", "v", "new_w", "new_m", "new_v", "copy")


def reference(
    problem: Optimizer,
    inputs: Mapping[str, Any],
    *,
    seed: int = 0,
    meaning: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name: the definition, one rounding an operation."""
    p, v = problem, values_of(problem, inputs)
    w, g, m = v["w"], v["g"], v.get("m", F(0))
    new: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        g = g * v["factor"]
        if p.weight_decay and p.method in ("sgd", "adam"):
            g = fma(w, F(p.weight_decay), g)
        if p.method == "sgd":
            if p.momentum:
                new["m"] = fma(m, F(p.momentum), g)
                g = fma(new["m"], F(p.momentum), g) if p.nesterov else new["m"]
            new["w"] = fma(g, -v["lr"], w)
        else:
            c1, c2 = v["correction"][:1], v["correction"][1:]
            new["m"] = fma(g - m, F(1.0 - p.beta1), m)
            new["v"] = fma(v["v"], F(p.beta2), g * g * F(1.0 - p.beta2))
            size = np.sqrt(new["v"]) * (F(1) / np.sqrt(c2)) + F(p.epsilon)
            if p.method == "lamb":
                r = new["m"] * (F(1) / c1) / size
                r = fma(w, F(p.weight_decay), r) if p.weight_decay else r
                new["w"] = fma(r, -v["lr"] * _trust(w, r), w)
            else:
                kept = w * (-v["lr"] * F(p.weight_decay) + F(1)) if p.method == "adamw" and p.weight_decay else w
                new["w"] = fma(new["m"] / size, -(v["lr"] / c1), kept)
        skipped = np.asarray(inputs["overflow"]).astype(np.int64)[0] != 0
        out = one_nan({f"new_{name}": v[name] if skipped else value for name, value in new.items()})
    for name, dtype in (("new_w", p.weights), ("copy", p.copy)):
        if dtype not in ("fp32", "none"):
            own = (meaning or {}).get(name, {"bias": fmt(dtype).default_bias} if dtype.startswith("cfp8") else {})
            out[name] = _narrow(p, out["new_w"], dtype, inputs, seed, own)
    return out


def _trust(w: Any, r: Any) -> Any:
    """|w| / |r|, or 1 where one of them is 0."""
    norms = [np.sqrt(sum_rows(x * x)) for x in (w, r)]
    return norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else F(1)


def _narrow(p: Optimizer, w: Any, dtype: str, inputs: Mapping[str, Any], seed: int, own: Mapping[str, Any]) -> Any:
    """Round weights to `dtype`; codes of the bias in copy_bias are read with the bias of the tensor (`own`)."""
    how: dict[str, Any] = dict(own)
    if "copy_bias" in inputs:
        how["bias"] = int(np.asarray(inputs["copy_bias"]).ravel()[0]) & 63
    if p.rounding == "stochastic":
        how |= {"rounding": "stochastic", "seed": seed, "stream": p.stream}
    return from_storage(cast(w, dtype, **how), dtype, as_="float32", **own)


@kernel
def update(
    k: K, w: View, g: View, m: View | None, v: View | None, lr: View, factor: View, overflow: View,
    correction: View | None, copy_bias: View | None, new_w: View, new_m: View | None, new_v: View | None,
    copy: View | None, *, problem: Optimizer, tiling: FlatTiling,
) -> None:  # fmt: skip
    """Update block after block; LAMB goes through all of them for its norms first."""
    p, lamb = problem, problem.method == "lamb"
    reads, writes = present(w=w, g=g, m=m, v=v), present(new_w=new_w, new_m=new_m, new_v=new_v)
    last = Sweep(tuple(reads), tuple(writes) if copy is None else (*writes, "copy"))
    stream = FlatStream(k, p.size, tiling, *((Sweep(tuple(reads)), last) if lamb else (last,)))
    stream.flat_in(**reads)
    stream.flat_out(**writes)
    numbers = present(lr=lr, factor=factor, overflow=overflow, correction=correction, copy_bias=copy_bias)
    at = {name: stream.constant(name, tensor) for name, tensor in numbers.items()}
    if copy is not None:
        stream.flat_out(bias=at.get("copy_bias"), copy=copy)
    step = Update(k, p, tiling.block, at)
    sums = FlatSums(k, 2, p.size, tiling) if lamb else None

    def compute(items: Iterator[Piece]) -> None:
        step.prepare()
        for item in items:
            if sums is not None:
                for piece in item.sweep(0):
                    step.direction(piece)
                    for number, squares in enumerate(step.squares(piece)):
                        sums.add(number, piece, squares)
                step.trust(sums.total(stream, everywhere=True))
            for piece in item.sweep(1 if lamb else 0):
                step.direction(piece)
                step.write(piece)

    stream.start(compute)


def build(
    chip: ChipSpec | str, *, size: int, method: str = "adamw", dtype: str = "bf16", weights: str = "fp32",
    copy: str = "", rounding: str = "nearest", stream: int = 0, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
    resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of one optimizer step over `size` weights for `chip`; see `accel.problem.Optimizer`.

    tiling: block (elements; not for LAMB, whose sums fix it), depth (slots). Raises InputError, CapacityError where a
    block does not fit, UnsupportedError for resident operands.
    """
    problem = Optimizer(
        size, method, dtype, weights, copy, rounding, stream, momentum, nesterov, weight_decay, beta1, beta2, epsilon
    )
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: Optimizer, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p, lamb = problem, problem.method == "lamb"
    reads, writes = (
        sum(fmt(o.dtype).bytes for name, o in p.operands.items() if o.role == role and name in STREAMED)
        for role in ("in", "out")
    )
    if lamb:
        chosen = choose_summed(chip, p.size, reads, writes, 4 * Update.BUFFERS, tensors=2 + len(p.moments), **tiling)
    else:
        chosen = choose_flat(chip, p.size, reads, writes, 4 * Update.BUFFERS, **tiling)
    names = "w g m v lr factor overflow correction copy_bias new_w new_m new_v copy"
    return update.build(chip, problem=p, tiling=chosen, **tensors_of(p, names))


def random_inputs(problem: Optimizer, seed: int) -> dict[str, Any]:
    """Return legal inputs: second moments are not negative, corrections those of a step; an overflow where hard."""
    rng = np.random.default_rng(seed)
    inputs = {name: o for name, o in problem.operands.items() if o.role == "in"}
    found: dict[str, Any] = {name: rng.normal(size=o.shape).astype(F) for name, o in inputs.items()}
    t = int(rng.integers(1, 50))
    found |= {
        "lr": np.full(1, 0.01, F),
        "factor": np.full(1, 2.0**-4, F),
        "overflow": np.full(1, is_hard(seed), np.uint8),
    }
    if "v" in found:
        found["v"] **= 2
    if "correction" in found:
        found["correction"] = np.array([1 - problem.beta1**t, 1 - problem.beta2**t], F)
    if "copy_bias" in found:
        found["copy_bias"] = rng.integers(6, 12, 1).astype(np.uint8)
    return found


KERNEL = LibraryKernel(
    problem=Optimizer,
    program=_program,
    oracle=reference,
    inputs=random_inputs,
    examples=(
        Optimizer(1),
        Optimizer(1500, weight_decay=0.01),
        Optimizer(700, "adamw", "fp32", copy="none"),
        Optimizer(901, "adam", "fp16", weight_decay=0.1, copy="fp16", rounding="stochastic", stream=2),
        Optimizer(333, "sgd", momentum=0.0, weights="bf16"),
        Optimizer(2100, "sgd", weight_decay=0.05, copy="cfp8-143"),
        Optimizer(640, "sgd", nesterov=True, weights="bf16", rounding="stochastic"),
        Optimizer(1000, "lamb", weight_decay=0.01),
        Optimizer(40_000, "lamb", copy="cfp8-152", rounding="stochastic"),
    ),
)
