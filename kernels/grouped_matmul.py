"""Grouped matmul as a lesson: runs of rows with a matrix each, as the experts of a mixture have them.

What the machine defines: every element is one chain of fp32 fused multiply-adds, k ascending (the weight gradient: over
the rows of its group, ascending), then one rounding: `_oracle`, by `chain_matmul`.

The parts are those of `matmul`: panels that are multicast along rows and columns, accumulators that stay put, results
that leave while the next tile is multiplied. The whole mesh takes one group after the other, and panels run on from one
group into the next, so that small groups, which memory bounds, follow each other without a gap.

- Forward and data gradient: a group of few rows does not reach all rows of nodes. Its panels of b pass by the others,
  and every group starts where the one before ended, so that several small groups are multiplied at the same time.
- Weight gradient: all nodes take part in every group; the rows of a group are the k of its sum.

The bound it approaches: max(multiply-adds / matrix units, bytes / memory bandwidth): each matrix of a group that has
rows is read once for every pass of the mesh over its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import ceil
from typing import Any

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.launch import only_in_memory
from accel.kernels.parts.matmul_chains import multiply_visit, skip_visit
from accel.kernels.parts.matmul_choice import choose
from accel.kernels.parts.matmul_formats import Formats
from accel.kernels.parts.matmul_panels import Chain, Panels, Visit, cuts, load
from accel.kernels.parts.matmul_results import Block, Place, Results
from accel.kernels.parts.matmul_teams import share
from accel.kernels.parts.matmul_tiling import GROUP, Tiling
from accel.lang import K, TensorSpec, tensor
from accel.numerics import as_storage, cast, chain_matmul, fmt, from_storage
from accel.problem import GroupedMatmul
from accel.program import Program, kernel

__all__ = ["KERNEL", "build", "by_groups", "weights"]

ROWS = 20  # rows of nodes at most: each may be a role of its own, three times for the columns, and 64 are allowed


class _GroupRows(Panels):
    """Panels of an operand whose rows belong to groups: each visit finds its rows in its own group."""

    def place_groups(
        self, k: K, *, groups: list[tuple[Any, list[int]]], here: Any, owner: Any, nodes: Any, depth: int
    ) -> None:
        """Say which rows of every group this node has: (first row, cuts)."""
        self.groups = groups
        self.place(k, start=0, extent=1, passes=1, here=here, owner=owner, nodes=nodes, matrices=[0],
                   chains=[Chain(0, depth)])  # fmt: skip

    def extent(self, visit: Visit) -> tuple[Any, int]:
        """Return (first, count) of the rows that a visit wants."""
        first, own = self.groups[visit.matrix]
        return first + own[visit.part], own[visit.part + 1] - own[visit.part]


@kernel
def by_groups(
    k: K, *, names: tuple[str, str, str], rows: tuple[int, ...], tiling: Tiling, turned: bool, **tensors: TensorSpec
) -> None:
    """c = a @ b[g] for the rows of every group g; turned: b[g] is stored (n, k). names: of a, b and c."""
    T, (a, b, c) = tiling, (tensors[name] for name in names)
    A = _GroupRows(k, "A", a, T, across=T.bm, share=T.rows, owners=T.grid_cols, deep_first=False)
    B = Panels(k, "B", b, T, across=T.bn, share=T.cols, owners=T.grid_rows, deep_first=not turned)
    results = Results(k, c, T, Formats(a.dtype, c.dtype), None, None, None)
    if k.row >= T.grid_rows or k.col >= T.grid_cols:
        return

    left, width = share(k.col, T.n, T.grid_cols)
    groups, start = [], 0
    for first, height in zip(accumulate(rows, initial=0), rows, strict=False):
        used = min(T.grid_rows, ceil(height / GROUP))  # rows of nodes that this group reaches
        place = (k.row - start) % T.grid_rows if T.grid_rows > 1 else 0
        start = (start + used) % T.grid_rows
        if place < used:
            top, count = share(place, height, used)
            groups.append((first + top, cuts(count, ceil(ceil(count / GROUP) * GROUP / T.bm))))
        else:
            groups.append((0, [0]))
    A.place_groups(
        k,
        groups=groups,
        here=k.col,
        owner=lambda x: (k.row, x),
        nodes=k.rect(k.row, k.row + 1, 0, T.grid_cols),
        depth=T.k,
    )
    B.place(
        k, start=left, extent=width, passes=T.passes_n, here=k.row, owner=lambda x: (x, k.col),
        nodes=k.rect(0, T.grid_rows, k.col, k.col + 1), matrices=list(range(len(rows))), chains=[Chain(0, T.k)],
    )  # fmt: skip
    results.place(k, Place(0, left, [0, 1], B.cuts, [0], 0, None, tuple(groups)))
    order: list[tuple[Block, bool]] = []  # blocks that pass this node, and whether it multiplies them
    for g, height in enumerate(rows):
        tallest = GROUP * ceil(ceil(height / GROUP) / T.grid_rows)  # a node's rows of this group
        passes = ceil(tallest / T.bm)
        order += [(Block(g, i, j), i + 1 < len(groups[g][1])) for i in range(passes) for j in range(T.passes_n)]
    own = [block for block, mine in order if mine]
    A.follow([Visit(block.matrix, 0, block.i) for block in own])
    B.follow([Visit(block.matrix, 0, block.j) for block, _ in order])

    @k.thread
    def load_a() -> None:
        load(k, A)

    @k.thread
    def load_b() -> None:
        load(k, B)

    @k.thread
    def compute() -> None:
        p = 0
        for number, (block, mine) in enumerate(order):
            if not mine:
                skip_visit(k, B, number)
                continue
            tile = results.tile(k, p, block)
            multiply_visit(k, A, p, B, number, tile, trans_a=False, trans_b=turned)
            results.finished(k, p)
            p += 1

    if own:

        @k.thread
        def drain() -> None:
            results.drain(k, own)


@kernel
def weights(k: K, a: TensorSpec, gc: TensorSpec, gb: TensorSpec, *, rows: tuple[int, ...], tiling: Tiling) -> None:
    """gb[g] = the transpose of a's rows of group g @ those of gc: one chain over the rows."""
    T = tiling
    A = Panels(k, "A", a, T, across=T.bm, share=T.rows, owners=T.grid_cols, deep_first=True)
    B = Panels(k, "B", gc, T, across=T.bn, share=T.cols, owners=T.grid_rows, deep_first=True)
    results = Results(k, gb, T, Formats(a.dtype, gb.dtype), None, None, None)
    if k.row >= T.grid_rows or k.col >= T.grid_cols:
        return

    top, height = share(k.row, T.m, T.grid_rows)
    left, width = share(k.col, T.n, T.grid_cols)
    chains = [Chain(first, depth) for first, depth in zip(accumulate(rows, initial=0), rows, strict=False)]
    A.place(
        k, start=top, extent=height, passes=T.passes_m, here=k.col, owner=lambda x: (k.row, x),
        nodes=k.rect(k.row, k.row + 1, 0, T.grid_cols), matrices=[0], chains=chains,
    )  # fmt: skip
    B.place(
        k, start=left, extent=width, passes=T.passes_n, here=k.row, owner=lambda x: (x, k.col),
        nodes=k.rect(0, T.grid_rows, k.col, k.col + 1), matrices=[0], chains=chains,
    )  # fmt: skip
    results.place(k, Place(top, left, A.cuts, B.cuts, list(range(len(rows))), 0, None))
    blocks = [Block(g, i, j) for g in range(len(rows)) for i in range(T.passes_m) for j in range(T.passes_n)]
    A.follow([Visit(0, block.matrix, block.i) for block in blocks])
    B.follow([Visit(0, block.matrix, block.j) for block in blocks])

    @k.thread
    def load_a() -> None:
        load(k, A)

    @k.thread
    def load_b() -> None:
        load(k, B)

    @k.thread
    def compute() -> None:
        for p, block in enumerate(blocks):
            tile = results.tile(k, p, block)
            if rows[block.matrix]:
                multiply_visit(k, A, p, B, p, tile, trans_a=True, trans_b=False)
            else:
                k.vec.fill(tile, 0.0)
            results.finished(k, p)

    @k.thread
    def drain() -> None:
        results.drain(k, blocks)


def build(
    chip: ChipSpec | str,
    *,
    n: int,
    k: int,
    groups: str | tuple[int, ...],
    dtype: str = "bf16",
    out_dtype: str = "",
    direction: str = "fwd",
    resident: Iterable[str] = (),
) -> Program:
    """Return the program of a grouped matmul or one of its gradients for `chip`; see `accel.problem.GroupedMatmul`.

    n, k: columns of c and of a; groups: rows of each group; dtype of the inputs, out_dtype of the result; direction:
    "fwd", "dgrad" or "wgrad"; resident: operands in SRAM, none yet.
    UnsupportedError for formats that the chip does not multiply and for resident operands.
    """
    return _program(chip, GroupedMatmul(n, k, groups, dtype, out_dtype, direction), resident=resident)


@builder
def _program(spec: ChipSpec, problem: GroupedMatmul, *, resident: frozenset[str] = frozenset()) -> Program:
    p = problem
    only_in_memory(problem, resident)
    taken = [name for name in (*spec.node.matrix.step_cycles, "fp32") if fmt(name).kind != "int"]
    if p.dtype not in taken:
        raise UnsupportedError(
            f"grouped_matmul on {spec.name} does not take {p.dtype}; use dtype={' or '.join(map(repr, taken))}"
        )
    if fmt(p.out_dtype).kind == "int":
        raise InputError(f"grouped_matmul: sums of {p.dtype} do not become {p.out_dtype}; use a float format")
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in p.operands.items()}
    formats, none, rows = Formats(p.dtype, p.out_dtype), frozenset[str](), p.rows
    if p.direction == "wgrad":
        tiling = choose(spec, p.k, p.n, max(rows), resident=none, formats=formats, batch=len(rows), alone=True)
        return weights.build(spec, flops=p.flops, rows=rows, tiling=tiling, **tensors)
    n, depth = (p.n, p.k) if p.direction == "fwd" else (p.k, p.n)
    least = spec.replace(**{"mesh.rows": min(ROWS, spec.mesh.rows)})
    tiling = choose(least, max(rows), n, depth, resident=none, formats=formats, batch=len(rows), alone=True)
    return by_groups.build(
        spec, flops=p.flops, names=tuple(p.operands), rows=rows, tiling=tiling, turned=p.direction == "dgrad", **tensors
    )


def _oracle(problem: GroupedMatmul, inputs: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Return the output, group by group."""
    ((name, operand),) = [(n, o) for n, o in problem.operands.items() if o.role == "out"]
    return {name: _oracle_at(problem, inputs, name, [np.arange(size) for size in operand.shape], **known)}


def _oracle_at(
    problem: GroupedMatmul, inputs: Mapping[str, Any], output: str, places: Sequence[Any], **known: Any
) -> np.ndarray:
    """Return the elements of the output at the product set of `places`."""
    p, own = problem, known.get("meaning", {})
    values = {
        name: from_storage(as_storage(x, p.dtype, **own.get(name, {})), p.dtype, as_="float32", **own.get(name, {}))
        for name, x in inputs.items()
    }
    first = [0, *accumulate(p.rows)]
    if p.direction == "wgrad":
        matrices, rows, cols = places
        found = np.zeros((len(matrices), len(rows), len(cols)), np.float32)
        for i, g in enumerate(matrices):
            if p.rows[g]:
                here = slice(first[g], first[g + 1])
                found[i] = chain_matmul(values["a"][here][:, rows].T, values["gc"][here][:, cols])
    else:
        rows, cols = places
        left, forth = values["a" if p.direction == "fwd" else "gc"], p.direction == "fwd"
        found = np.zeros((len(rows), len(cols)), np.float32)
        for g in range(len(p.rows)):
            here = (rows >= first[g]) & (rows < first[g + 1])
            if here.any():
                right = values["b"][g] if forth else values["b"][g].T
                found[here] = chain_matmul(left[rows[here]], right[:, cols])
    last = own.get(output, {})
    if p.out_dtype == "fp32":
        return found
    rounded: np.ndarray = from_storage(cast(found, p.out_dtype, **last), p.out_dtype, as_="ml_dtypes", **last)
    return rounded


KERNEL = LibraryKernel(
    problem=GroupedMatmul,
    program=_program,
    oracle=_oracle,
    oracle_at=_oracle_at,
    examples=(
        GroupedMatmul(24, 31, "16+0+33+1"),
        GroupedMatmul(24, 31, "16+0+33+1", direction="dgrad"),
        GroupedMatmul(24, 31, "16+0+33+1", direction="wgrad"),
        GroupedMatmul(1, 1, "1", "fp32"),
        GroupedMatmul(40, 20, "3+2+9+1+8+7", "cfp8-143", "fp32"),
        GroupedMatmul(9, 70, "50+60", "fp16", direction="wgrad"),
    ),
)
