"""Embedding as a lesson: rows of a table by index, and the gradient that adds rows up in a fixed order.

Nothing of a program's control depends on data, so no copy can fetch "row 4711": the whole table passes by the nodes.
Columns of the table are dealt over the columns of the mesh, so each part of it is read once.

- Forward: the tokens of a mesh column are dealt over its rows. Panels of the table come by multicast, two slots, sent
  by the nodes of the column in turn. Every node gathers its tokens' rows from each panel: an index is taken relative to
  the panel and clamped to it; where that changed it, the token's row is in another panel and the result stays.
- Backward: the rows of the table are dealt over the rows of the mesh, as fp32 sums that stay in SRAM while blocks of
  tokens pass, ascending, by multicast. An index outside this node's rows is clamped to a row above or below them that
  nobody reads. `vec.scatter_add` adds in the order of the tokens, so a sum is one chain, whatever the mesh.

Columns that do not fit SRAM are taken in passes. An id outside the table names no row: +0 forward, no term backward.

The bound it approaches: bytes of ids, table and rows over memory bandwidth; with few rows to a panel, the gathers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from accel.errors import CapacityError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.launch import only_in_memory
from accel.lang import K, TensorSpec, tensor
from accel.numerics import as_storage, cast, fmt, from_storage
from accel.problem import Embedding
from accel.program import Program, kernel

__all__ = ["KERNEL", "backward", "build", "forward"]

RUN = 128  # columns of a pass at most: 256-byte runs in bf16, and panels of many rows
BATCH = 512  # tokens that are gathered at a time
SPARE = 8 << 10


@dataclass(frozen=True)
class Tiling:
    """grid_rows x grid_cols nodes take part; `width` columns a pass; `panel` rows of the table (or of a node's sums).

    batch: tokens that are gathered or added at a time.
    """

    grid_rows: int
    grid_cols: int
    width: int
    panel: int
    batch: int


def _share(k: K, index: Any, size: int, owners: int) -> tuple[Any, int]:
    """Return (first, count) of the part of `size` that owner `index` has; parts differ by one at most."""
    each, more = divmod(size, owners)
    if more and index < more:
        return index * (each + 1), each + 1
    return index * each + more, each


def _local(k: K, local: Any, ids: Any, base: Any, first: Any) -> None:
    """local = ids - first, where `first` differs between nodes: it is made in SRAM."""
    k.vec.iota(base, first)
    k.vec.sub(local, ids, base)


@kernel
def forward(k: K, ids: TensorSpec, table: TensorSpec, y: TensorSpec, *, tiling: Tiling) -> None:
    """y[i] = table[ids[i]]: see the module text."""
    T, (tokens,), (vocab, columns) = tiling, ids.shape, table.shape
    most = ceil(tokens / T.grid_rows)
    index = k.sram((most,), "int32", "index")
    local, inside = k.sram((most,), "int32", "local"), k.sram((most,), "int32", "inside")
    found = k.sram((most,), "uint8", "found")
    panels = k.sram((2, T.panel, T.width), table.dtype, "panels")
    rows, result = (k.sram((n, T.width), table.dtype, name) for n, name in ((T.batch, "rows"), (most, "result")))
    here, stored = k.sem(1, "here"), k.sem(1, "stored")
    full, free = k.sem(2, "full"), k.sem(2, "free")
    if k.row >= T.grid_rows or k.col >= T.grid_cols:
        return
    first, mine = _share(k, k.row, tokens, T.grid_rows)
    left, width = _share(k, k.col, columns, T.grid_cols)
    nodes = k.rect(0, T.grid_rows, k.col, k.col + 1)
    passes = [(low, min(width, low + T.width)) for low in range(0, width, T.width)]
    cuts = [(low, min(vocab, low + T.panel)) for low in range(0, vocab, T.panel)]
    steps = [(x, cut) for x in passes for cut in cuts]

    @k.thread
    def load() -> None:
        for g, ((low, high), (top, bottom)) in enumerate(steps):
            with k.when(k.row == g % T.grid_rows):
                if g >= 2:
                    k.wait(free[g % 2], T.grid_rows)
                k.copy(panels[g % 2, : bottom - top, : high - low], table[top:bottom, left + low : left + high],
                       to=nodes, done=full[g % 2])  # fmt: skip

    @k.thread
    def work() -> None:
        k.copy(index[:mine], ids[first : first + mine], done=here)
        k.wait(here)
        for g, ((low, high), (top, bottom)) in enumerate(steps):
            slot, size, kept = g % 2, bottom - top, result[:mine, : high - low]
            if top == 0:
                if g:
                    k.wait(stored)
                k.vec.fill(kept, 0)
            k.vec.sub(local[:mine], index[:mine], top)
            k.vec.max(inside[:mine], local[:mine], 0)
            k.vec.min(inside[:mine], inside[:mine], size - 1)
            k.vec.compare(found[:mine], local[:mine], "==", inside[:mine])
            k.wait(full[slot])
            for begin in range(0, mine, T.batch):
                end = min(mine, begin + T.batch)
                some = rows[: end - begin, : high - low]
                k.vec.gather(some, panels[slot, :size, : high - low], inside[begin:end])
                k.vec.select(kept[begin:end], found[begin:end].split(0, 1), some, kept[begin:end])
            if g + 2 < len(steps):
                k.inc(free[slot], at=((g + 2) % T.grid_rows, k.col))
            if bottom == vocab:
                k.copy(y[first : first + mine, left + low : left + high], kept, sent=stored)
        k.wait(stored)


@kernel
def backward(k: K, ids: TensorSpec, gy: TensorSpec, gtable: TensorSpec, *, tiling: Tiling) -> None:
    """gtable[ids[i]] += gy[i], i ascending, in fp32 from +0: see the module text."""
    T, (tokens,), (vocab, columns) = tiling, ids.shape, gtable.shape
    index, local = k.sram((2, T.batch), "int32", "index"), k.sram((T.batch,), "int32", "local")
    base = k.sram((1,), "int32", "base")
    terms = k.sram((2, T.batch, T.width), gy.dtype, "terms")
    wide = k.sram((T.batch, T.width), "fp32", "wide") if gy.dtype != "fp32" else None
    sums = k.sram((T.panel + 2, T.width), "fp32", "sums")  # a row below and a row above for what is not ours
    out = k.sram((T.panel, T.width), gtable.dtype, "out") if gtable.dtype != "fp32" else None
    full, free, stored = k.sem(2, "full"), k.sem(2, "free"), k.sem(1, "stored")
    if k.row >= T.grid_rows or k.col >= T.grid_cols:
        return
    top, height = _share(k, k.row, vocab, T.grid_rows)
    left, width = _share(k, k.col, columns, T.grid_cols)
    nodes = k.rect(0, T.grid_rows, k.col, k.col + 1)
    passes = [(low, min(width, low + T.width)) for low in range(0, width, T.width)]
    parts = ceil(ceil(vocab / T.grid_rows) / T.panel)  # of the rows of a node; all nodes go through as many
    blocks = [(low, min(tokens, low + T.batch)) for low in range(0, tokens, T.batch)]
    rounds = [(x, part) for x in passes for part in range(parts)]
    steps = [(x, part, block) for x, part in rounds for block in blocks]

    @k.thread
    def load() -> None:
        for g, ((low, high), _, (begin, end)) in enumerate(steps):
            with k.when(k.row == g % T.grid_rows):
                if g >= 2:
                    k.wait(free[g % 2], T.grid_rows)
                k.copy(index[g % 2, : end - begin], ids[begin:end], to=nodes, done=full[g % 2])
                k.copy(terms[g % 2, : end - begin, : high - low], gy[begin:end, left + low : left + high], to=nodes,
                       done=full[g % 2])  # fmt: skip

    @k.thread
    def work() -> None:
        pending = False
        for g, ((low, high), part, (begin, end)) in enumerate(steps):
            slot, count, cols = g % 2, end - begin, high - low
            begins = part * height // parts
            size = (part + 1) * height // parts - begins
            if begin == 0:
                if pending:
                    k.wait(stored)
                k.vec.fill(sums[: size + 2, :cols], 0.0)
            k.wait(full[slot], 2)
            _local(k, local[:count], index[slot, :count], base, top + begins - 1)
            k.vec.max(local[:count], local[:count], 0)
            k.vec.min(local[:count], local[:count], size + 1)
            some = terms[slot, :count, :cols]
            if wide is not None:
                k.vec.cast(wide[:count, :cols], some)
                some = wide[:count, :cols]
            k.vec.scatter_add(sums[: size + 2, :cols], some, local[:count])
            if g + 2 < len(steps):
                k.inc(free[slot], at=((g + 2) % T.grid_rows, k.col))
            if end == tokens and size:
                kept = sums[1 : size + 1, :cols]
                if out is not None:
                    k.vec.cast(out[:size, :cols], kept)
                    kept = out[:size, :cols]
                k.copy(gtable[top + begins : top + begins + size, left + low : left + high], kept, sent=stored)
            pending = size > 0 if end == tokens else pending
        if pending:
            k.wait(stored)


def _tiling(chip: ChipSpec, problem: Embedding) -> Tiling:
    """Return how a problem is cut: as many rows to a panel as fit beside the rest, then fewer columns.

    CapacityError where not even one column fits.
    """
    p, item = problem, fmt(problem.dtype).bytes
    forth = p.direction == "fwd"
    grid_rows = min(chip.mesh.rows, p.tokens if forth else p.vocab)
    grid_cols = min(chip.mesh.cols, p.width)
    tokens, rows = ceil(p.tokens / grid_rows), ceil(p.vocab / grid_rows)
    width = min(RUN, ceil(p.width / grid_cols))
    batch = min(BATCH, tokens if forth else p.tokens)
    while True:
        if forth:
            fixed = 13 * tokens + width * item * (tokens + batch) + SPARE
            each, most = 2 * width * item, p.vocab
        else:
            wide = 0 if p.dtype == "fp32" else 4
            fixed = 12 * batch + batch * width * (2 * item + wide) + 8 * width + SPARE
            each, most = width * (4 + (0 if p.out_dtype == "fp32" else fmt(p.out_dtype).bytes)), rows
        panel = min(most, (chip.node.sram_bytes - fixed) // each)
        if panel >= min(most, 64) or (width == 1 and batch == 1 and panel >= 1):
            return Tiling(grid_rows, grid_cols, width, panel, batch)
        if width == 1 and batch == 1:
            raise CapacityError(f"{tokens:,} tokens a node leave no SRAM for the table; split the tokens")
        batch, width = (batch // 2, width) if batch > 16 or width == 1 else (batch, width // 2)


def build(
    chip: ChipSpec | str,
    *,
    tokens: int,
    vocab: int,
    width: int,
    dtype: str = "bf16",
    out_dtype: str = "",
    direction: str = "fwd",
    resident: Iterable[str] = (),
) -> Program:
    """Return the program that looks up rows of a table on `chip`, or adds up their gradients.

    tokens, vocab, width: ids, rows of the table, columns; dtype, out_dtype and direction as in
    `accel.problem.Embedding`; resident: operands in SRAM, none yet. InputError for what that refuses;
    CapacityError for resident operands, and where a node's share of the tokens does not fit its SRAM.
    """
    return _program(chip, Embedding(tokens, vocab, width, dtype, out_dtype, direction), resident=resident)


@builder
def _program(spec: ChipSpec, problem: Embedding, *, resident: frozenset[str] = frozenset()) -> Program:
    only_in_memory(problem, resident)
    tensors: dict[str, Any] = {n: tensor(o.shape, o.dtype) for n, o in problem.operands.items()}
    made = forward if problem.direction == "fwd" else backward
    return made.build(spec, tiling=_tiling(spec, problem), **tensors)


def _oracle(problem: Embedding, inputs: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Return y or gtable, token by token."""
    p, own = problem, known.get("meaning", {})
    ids = np.asarray(inputs["ids"])
    there = (ids >= 0) & (ids < p.vocab)
    if p.direction == "fwd":
        table = as_storage(inputs["table"], p.dtype, **own.get("table", {}))
        y = np.zeros((p.tokens, p.width), table.dtype)
        y[there] = table[ids[there]]
        return {"y": from_storage(y, p.dtype, as_="ml_dtypes", **own.get("y", {}))}
    gy = from_storage(as_storage(inputs["gy"], p.dtype), p.dtype, as_="float32")
    sums = np.zeros((p.vocab, p.width), np.float32)
    with np.errstate(all="ignore"):
        for i in np.flatnonzero(there):
            sums[ids[i]] += gy[i]
    sums = np.where(np.isnan(sums), np.uint32(0x7FC00000).view(np.float32), sums)
    if p.out_dtype == "fp32":
        return {"gtable": sums}
    return {"gtable": from_storage(cast(sums, p.out_dtype), p.out_dtype, as_="ml_dtypes")}


def _inputs(problem: Embedding, seed: int) -> dict[str, np.ndarray]:
    """Return ids of the table, some twice and a few of no row, below or above it, and numbers spread over binades."""
    rng = np.random.default_rng([seed, 81])
    ids = rng.integers(0, problem.vocab, problem.tokens).astype(np.int32)
    padding = rng.random(problem.tokens) < 1 / 16
    if problem.tokens > 2:
        padding[seed % problem.tokens] = True
    ids[padding] = rng.choice([-1, -(1 << 31), problem.vocab, (1 << 31) - 1], int(padding.sum()))
    found = {"ids": ids}
    for name, operand in problem.operands.items():
        if operand.role == "in" and name != "ids":
            numbers = rng.normal(size=operand.shape) * 2.0 ** rng.integers(-4, 4, operand.shape)
            if fmt(operand.dtype).kind == "int":
                found[name] = rng.integers(0, 100, operand.shape).astype(fmt(operand.dtype).storage)
            else:
                found[name] = numbers.astype(np.float32)  # rounded where the program takes them
    return found


KERNEL = LibraryKernel(
    problem=Embedding,
    program=_program,
    oracle=_oracle,
    inputs=_inputs,
    examples=(
        Embedding(13, 37, 29),
        Embedding(1, 1, 1, "fp32"),
        Embedding(50, 200, 7, "uint8"),
        Embedding(40, 21, 19, direction="bwd"),
        Embedding(33, 5, 70, "fp32", direction="bwd"),
        Embedding(3, 11, 2, "bf16", "fp32", "bwd"),
    ),
)
