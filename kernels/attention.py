"""Attention: y = softmax(scale q k^T) v and its gradients, head by head, without ever storing the scores.

Shapes: q and y (b, h, q, d), k and v (b, kv_heads, kv, d), lse (b, h, q): b sequences, h heads, q queries, kv keys, d
numbers a head; h / kv_heads heads of queries share keys and values.

What the machine defines, to the bit (`parts/attention_reference.py` says it in NumPy). Keys are taken in blocks of
`block` (128), ascending; for each row of a block

    s = chain of fused multiply-adds of q k over d, fp32
    m' = max(m, largest s)                      m: the maximum so far, unscaled
    p = exp((s - m') c), rounded to dtype       c: the scale in fp32; two roundings before exp's own
    o = o exp((m - m') c)                       the sums so far come to the new maximum
    o = chain from o over the block's keys of p v, and of p 1 in one column more: the weight l

and at the end y = o (1 / l), rounded to out_dtype, and lse = m c + log l with one rounding. Sums of p, not of the
exponentials before they were rounded: the weights of y add up to 1. A causal row i sees keys 0 to i; keys come in
groups of 16, those of a row's own group that it does not see take part as p = +0, later groups do not. All of this
depends on the problem only: no node, tile or order of nodes shows in a result. Rescaling as blocks come is Milakov and
Gimelshein, "Online normalizer calculation for softmax" (2018); tiles of it, Dao et al., "FlashAttention" (2022).

`one_block` below is that on one node, for keys that are a single block and rows without a mask; all else is about time,
and is in `parts/`: `attention_plan`, `attention_forward`, then `attention_backward`.

How it runs. A group of nodes shares a head: keys and values are multicast to all of it, each node keeps its rows of q
and o. Three threads overlap: loads; the matrix unit, which scores items (16 rows and more against a block) some steps
ahead of the values it sums; the vector unit, which turns scores into weights. What made it fast, in this order:

1. The weights' sum is a column of ones beside v, so it costs the matrix unit 3 % instead of the vector unit 15 %.
2. Scores run up to four items ahead, and a rescaling waits only for sums of the same rows: without, each unit waited
   for the other at every item that differs from the one before.
3. Matmuls are 16 rows high. A long one queues all its accesses to SRAM before those of a short vector row.
4. Causal rows are dealt in strips of 16, back and forth: all nodes of a group have as much to do with each block.
5. Whole rounds of heads get one form of group, the rest a larger one (`parts/attention_plan.py`).
6. At the start all groups ask memory for their first keys at once, and none for what it needs later: what some have
   early, others lack. Without a mask items are as high as a node's rows, for what an item costs beside its rows.

Backward (`parts/attention_backward.py`) never stores the weights either: it computes them again from lse. Per pair

    p = exp(s c - lse), the product and difference with one rounding;  P = p rounded to dtype
    D = sum of gy y over d (`vec.reduce_sum`; the products are exact)
    g = chain of gy v over d, fp32;  W = p (g - D) rounded to dtype
    gv = chain of P gy, gk = c times the chain of W q: over queries ascending, heads that share keys one after another
    gq = c times the chain of W k: over keys ascending

over the same pairs as forward. Sums over queries belong to the node of the keys, sums over keys to that of the queries,
and the order of a chain must not depend on the mesh. So each side takes its turn: queries stay and keys stream by, for
gq; then keys stay and queries stream by, for gk and gv. Scores and g are computed twice, 7 matmuls instead of 5:
nothing is ever summed between nodes, and the matrix unit, not the vector unit, is the bound.

The bound it approaches: 4 d flops a visible pair forward, 10 d backward, over the matrix units. Forward a pair also
costs the vector unit 15 passes of 16 lanes, 12 of them exp: about a cycle, as much as the matrix unit takes for d =
128, and twice what it takes for d = 64, where the vector unit is the bound and utilization ends at 52 %. Backward the
second scores and g end it at 71 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.attention_backward import Backward
from accel.kernels.parts.attention_forward import Forward
from accel.kernels.parts.attention_plan import Plan, cover, fill_in
from accel.kernels.parts.attention_reference import (
    backward_at,
    backward_reference,
    forward_at,
    forward_reference,
)
from accel.kernels.parts.launch import values_of
from accel.lang import K, TensorSpec, tensor
from accel.problem import Attention
from accel.program import Program, kernel

__all__ = ["KERNEL", "backward", "build", "forward", "one_block"]

FORMATS = ("bf16", "fp16")  # of tensors that the matrix unit multiplies
RESULTS = ("bf16", "fp16", "fp32")


@kernel
def one_block(k: K, q: TensorSpec, keys: TensorSpec, v: TensorSpec, y: TensorSpec, lse: TensorSpec) -> None:
    """y and lse on node (0, 0), head by head, with all scores of a head in SRAM: at most `block` keys, no mask."""
    (b, h, rows, d), kv = q.shape, keys.shape[2]
    Q, KEYS = k.sram((rows, d), q.dtype, "Q"), k.sram((kv, d), q.dtype, "KEYS")
    V = k.sram((kv, d + 1), q.dtype, "V")  # v, and the column of ones that sums the weights
    S, P = k.sram((rows, kv), "fp32", "S"), k.sram((rows, kv), q.dtype, "P")
    M, sums = k.sram((rows, 1), "fp32", "M"), k.sram((rows, d + 1), "fp32", "sums")
    Y, LSE = k.sram((rows, d), y.dtype, "Y"), k.sram((rows, 1), "fp32", "LSE")
    one, scale = k.sram((1, 1), "fp32", "one"), k.sram((1, 1), "fp32", "scale")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")
    if k.row + k.col:
        return
    o, weight = sums[:, :d], sums[:, d:]
    k.vec.fill(one, 1.0)
    k.vec.fill(scale, 1.0 / math.sqrt(d))  # c
    k.vec.fill(V[:, d:], 1.0)
    for image in k.loop(b):
        for head in k.loop(h):
            for buffer, whole in ((Q, q), (KEYS, keys), (V[:, :d], v)):
                k.copy(buffer, whole[image, head], done=loaded)
            k.wait(loaded, 3)
            k.matmul(S, Q, KEYS, trans_b=True)  # s
            k.vec.reduce_max(M, S)  # m
            k.vec.sub(S, S, M)
            k.vec.mul(S, S, scale)
            k.vec.exp(S, S)
            k.vec.cast(P, S)  # p
            k.matmul(sums, P, V)  # o, and l behind it
            k.vec.log(LSE, weight)
            k.vec.fma(LSE, M, scale, LSE)  # m c + log l
            k.vec.div(weight, one, weight)
            k.vec.mul(o, o, weight)
            k.vec.cast(Y, o)
            k.copy(y[image, head], Y, sent=stored)
            k.copy(lse[image, head], LSE.merge(0), sent=stored)
            k.wait(stored, 2)


@kernel
def forward(
    machine: K, q: TensorSpec, k: TensorSpec, v: TensorSpec, y: TensorSpec, lse: TensorSpec, *, problem: Attention,
    plan: Plan,
) -> None:  # fmt: skip
    """y and lse of q, k, v: see the module text; `plan` says which node does what."""
    parts = Forward(machine, problem, plan, {"q": q, "k": k, "v": v, "y": y, "lse": lse})
    machine.thread(parts.load)
    machine.thread(parts.multiply)
    machine.thread(parts.soften)


@kernel
def backward(
    machine: K, q: TensorSpec, k: TensorSpec, v: TensorSpec, y: TensorSpec, gy: TensorSpec, lse: TensorSpec,
    gq: TensorSpec, gk: TensorSpec, gv: TensorSpec, *, problem: Attention, plan: Plan,
) -> None:  # fmt: skip
    """gq, gk and gv of q, k, v, y, gy and lse: see the module text; `plan` says which node does what."""
    tensors = {"q": q, "k": k, "v": v, "y": y, "gy": gy, "lse": lse, "gq": gq, "gk": gk, "gv": gv}
    parts = Backward(machine, problem, plan, tensors)
    machine.thread(parts.load)
    machine.thread(parts.stay)
    machine.thread(parts.multiply)
    machine.thread(parts.weigh)


def build(
    chip: ChipSpec | str,
    *,
    b: int,
    h: int,
    q: int,
    kv: int,
    d: int,
    causal: bool = False,
    dtype: str = "bf16",
    out_dtype: str = "",
    direction: str = "fwd",
    block: int = 128,
    scale: float | None = None,
    kv_heads: int | None = None,
    resident: Iterable[str] = (),
    **tiling: int,
) -> Program:
    """Return the program of attention for `chip`: q (b, h, q, d), k and v (b, kv_heads, kv, d), y (b, h, q, d).

    direction "fwd" gives y and lse (b, h, q), "bwd" takes them and gy and gives gq, gk and gv. The fields are those of
    `accel.problem.Attention`. dtype: bf16, or fp16 where the matrix unit takes it; out_dtype: bf16, fp16 or fp32.
    Tensors lie in memory (resident: none). tiling: stages (slots of what streams by), chunk (rows of an item), ahead
    (items scored in advance). Raises InputError and UnsupportedError.
    """
    problem = Attention(
        b, h, q, kv, d, causal=causal, dtype=dtype, out_dtype=out_dtype, direction=direction, block=block, scale=scale,
        kv_heads=kv_heads,
    )  # fmt: skip
    return program(chip, problem, resident=resident, **tiling)


@builder
def program(chip: ChipSpec, problem: Attention, *, resident: frozenset[str] = frozenset(), **tiling: Any) -> Program:
    """Return the program of `problem` for `chip`; see `build`."""
    _require_supported(chip, problem, resident)
    plan = cover(chip, problem)
    plan = fill_in(plan, chip, problem, **tiling) if tiling else plan
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    traced = forward if problem.direction == "fwd" else backward
    return traced.build(chip, flops=problem.flops, problem=problem, plan=plan, **tensors)


def _require_supported(chip: ChipSpec, problem: Attention, resident: frozenset[str]) -> None:
    """Raise InputError or UnsupportedError for operands that the kernel or the chip does not take."""
    for name in resident - set(problem.operands):
        raise InputError(f"attention has no operand {name!r} to keep resident; it has {', '.join(problem.operands)}")
    if resident:
        raise UnsupportedError(f"attention takes {min(resident)!r} in memory only; leave out resident")
    taken = [name for name in FORMATS if name in chip.node.matrix.step_cycles]
    if problem.dtype not in taken:
        raise UnsupportedError(
            f"attention in {problem.dtype} does not run on {chip.name}, whose matrix unit multiplies "
            f"{' and '.join(taken) or 'neither bf16 nor fp16'} of what it may be in; cast q, k and v"
        )
    if problem.out_dtype not in RESULTS:
        raise UnsupportedError(f"attention gives no {problem.out_dtype}; use out_dtype {', '.join(RESULTS)}")


def oracle(problem: Attention, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of `problem` as the machine defines them; inputs are rounded to their formats first."""
    reference = forward_reference if problem.direction == "fwd" else backward_reference
    return reference(problem, values_of(problem, inputs))


def oracle_at(problem: Attention, inputs: Mapping[str, Any], output: str, places: Sequence[Any]) -> Any:
    """Return an output at the product set of `places`."""
    inputs = values_of(problem, inputs)
    if problem.direction == "bwd":
        return backward_at(problem, inputs, output, places)
    if output == "y":
        return forward_at(problem, inputs, places)[0]
    return forward_at(problem, inputs, [*places, places[0][:1] * 0])[1]


EXAMPLES = (
    Attention(1, 2, 40, 150, 32),
    Attention(2, 3, 70, 70, 16, causal=True),
    Attention(1, 4, 37, 300, 20, kv_heads=2, out_dtype="fp32"),
    Attention(1, 4, 50, 23, 12, causal=True, kv_heads=1),
    Attention(1, 1, 90, 130, 48, causal=True, block=32, scale=0.3),
    Attention(1, 1, 1, 1, 1),
    Attention(1, 2, 20, 33, 64, dtype="fp16"),
    Attention(1, 1, 24, 40, 256),
    Attention(1, 2, 40, 150, 32, direction="bwd"),
    Attention(1, 4, 37, 60, 20, kv_heads=2, out_dtype="fp32", direction="bwd"),
    Attention(2, 3, 70, 70, 16, causal=True, direction="bwd"),
    Attention(1, 4, 23, 50, 12, causal=True, kv_heads=2, block=16, direction="bwd"),
    Attention(1, 1, 1, 1, 1, direction="bwd"),
)
KERNEL = LibraryKernel(Attention, program, oracle, EXAMPLES, oracle_at=oracle_at)
