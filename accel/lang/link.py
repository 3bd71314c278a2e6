"""Linking: the traces of all roles become one immutable Program."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from accel.errors import Location
from accel.hardware import ChipSpec
from accel.isa import layout as w
from accel.isa.program import Program, Table, Tensor
from accel.lang.roles import Placed
from accel.lang.tables import Tables
from accel.lang.tracer import Trace
from accel.numerics import fmt

__all__ = ["link"]


def link(
    name: str, chip: ChipSpec, mesh: tuple[int, int], tensors: Sequence[Placed], tables: Tables, roles: list[Trace],
    flops: int, facts: dict[str, str],
) -> Program:  # fmt: skip
    """Return the Program of the traced roles."""
    nodes, threads = mesh[0] * mesh[1], max(1, *(len(t.threads) for t in roles))
    spans = np.zeros((len(roles), threads, 2), np.int64)
    role_of = np.full(nodes, -1, np.int64)
    params = np.zeros((nodes, max(len(t.domain.columns) for t in roles)), np.int64)
    params[:, w.PARAM_ROW], params[:, w.PARAM_COL] = np.divmod(np.arange(nodes), mesh[1])
    parts, shards, first = [], [], 0
    for role, trace in enumerate(roles):
        role_of[trace.domain.nodes] = role
        for p, column in enumerate(trace.domain.columns):
            params[trace.domain.nodes, p] = column
        for thread in range(threads):
            rows = trace.threads[thread][1] if thread < len(trace.threads) else []
            spans[role, thread] = first, first + len(rows)
            first += len(rows)
            parts.append(
                np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * w.CODE_WORDS).reshape(-1, w.CODE_WORDS)
            )
        shards += [(role, *row) for row in trace.shards]
    code = np.concatenate(parts)
    shard_table = np.array(shards, np.int64).reshape(-1, w.SHARD_WORDS)
    lines = _compact(code, shard_table, tables.lines.items)
    read = set[int]().union(*(t.read for t in roles))
    written = set[int]().union(*(t.written for t in roles))
    extent = 0
    rows_of_tensors = []
    for i, t in enumerate(tensors):
        nbytes = int(np.prod([int(n) for n in t.shape], dtype=object)) * fmt(t.dtype).bits // 8
        extent = max(extent, t.address + nbytes)
        use = (i in read, i in written, t.resident, t.bias, t.denormals)
        rows_of_tensors.append(Tensor(t.name, t.dtype, t.shape, t.address, nbytes, *use))
    init = [s.init for s in roles[0].semaphores for _ in range(s.count)]
    return Program(
        name=name, rows=mesh[0], cols=mesh[1], threads=threads,
        thread_names=tuple(tuple(n for n, _ in t.threads) for t in roles),
        code=code, spans=spans, role_of=role_of, params=params, views=tables.view_table(), exprs=tables.expr_table(),
        preds=tables.pred_table(), targets=tables.target_table(), shards=shard_table,
        buffers=tuple(roles[0].buffers), semaphores=tuple(roles[0].semaphores), semaphore_init=np.array(init, np.int64),
        tensors=tuple(rows_of_tensors), sram_bytes=roles[0].sram_bytes, memory_bytes=extent, lines=lines,
        marks=tuple(tables.marks.items), chip=chip.to_json(), flops=flops, facts=facts,
    )  # fmt: skip


def _compact(code: Table, shards: Table, items: list[Location]) -> tuple[Location, ...]:
    """Renumber the source map in place to the lines that are used, in order of file and line."""
    used = np.union1d(code[:, w.W_LINE], shards[:, w.H_LINE])
    order = sorted(used.tolist(), key=lambda i: items[i])
    place = np.zeros(len(items), np.int64)
    for new, old in enumerate(order):
        place[old] = new
    if len(items):
        code[:, w.W_LINE] = place[code[:, w.W_LINE]]
        shards[:, w.H_LINE] = place[shards[:, w.H_LINE]]
    return tuple(items[i] for i in order)
