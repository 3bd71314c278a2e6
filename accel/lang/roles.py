"""Tracing a kernel for all nodes: one trace a role, splitting where the nodes disagree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from accel.errors import AccelError, Location, TraceError
from accel.hardware import ChipSpec
from accel.isa.layout import BIAS_IEEE
from accel.isa.program import Buffer as BufferRow
from accel.lang.allocation import tensor_ref
from accel.lang.k import K
from accel.lang.source import author_of
from accel.lang.symbols import Domain, Split
from accel.lang.tables import Tables
from accel.lang.tracer import Trace, Tracer, refuse_generator

__all__ = ["ROLE_BUDGET", "Placed", "trace_roles"]

ROLE_BUDGET = 64


class Placed(NamedTuple):
    """A tensor argument at its byte address."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    resident: bool
    address: int
    bias: int = 0
    denormals: str = "gap"


def trace_roles(
    fn: Callable[..., object], bind: Callable[[K, dict[str, Any]], Any], chip: ChipSpec, mesh: tuple[int, int],
    tensors: Sequence[Placed], tables: Tables, row_budget: int, role_budget: int,
) -> list[Trace]:  # fmt: skip
    """Return one trace a role, in order of its first node; roles that turn out equal are one."""
    rows, cols = mesh
    waiting = [np.arange(rows * cols, dtype=np.int64)]
    done: list[Trace] = []
    while waiting:
        nodes = waiting.pop()
        sizes = tables.sizes()
        tracer = Tracer(chip, Domain(nodes, cols, tables), tables, mesh, [t.resident for t in tensors], row_budget)
        handles = {
            t.name: tensor_ref(
                tracer,
                i,
                t.name,
                t.shape,
                t.dtype,
                t.address,
                t.resident,
                t.bias + (BIAS_IEEE if t.denormals == "ieee" else 0),
            )
            for i, t in enumerate(tensors)
        }
        try:
            args, kwargs = bind(K(tracer), handles)
            refuse_generator("the kernel", fn(*args, **kwargs))
            done.append(tracer.finish())
        except Split as split:
            tables.rollback(sizes)
            parts = sorted(split.parts, key=lambda part: int(part[0]))
            if len(done) + len(waiting) + len(parts) > role_budget:
                total = len(done) + len(waiting) + len(parts)
                raise TraceError(
                    f"the nodes split into {len(parts)} parts here, {total} roles in all, at most {role_budget}; "
                    "use k.when(...) for conditions that rotate over nodes, and keep k.row and k.col in addresses "
                    "instead of asking for their int",
                    at=author_of(split.__traceback__),
                ) from None
            waiting += reversed(parts)
        except AccelError as error:
            if error.at is None:
                error.at = author_of(error.__traceback__)
            raise
        except RecursionError as error:
            raise TraceError(
                "the kernel calls itself without end; bound the recursion", at=author_of(error.__traceback__)
            ) from error
        except (Exception, SystemExit) as error:
            raise TraceError(
                f"{type(error).__name__} while tracing: {' '.join(str(error).split())}".rstrip(": "),
                at=author_of(error.__traceback__),
            ) from error
    done.sort(key=lambda trace: int(trace.domain.nodes[0]))
    _agree(done)
    return _merged(done)


def _agree(done: list[Trace]) -> None:
    """Refuse buffer or semaphore maps that differ between roles: SRAM offsets are the same on all nodes."""
    first = done[0]
    for other in done[1:]:
        for what, mine, theirs in (
            ("buffer", [_place(b) for b in first.buffers], [_place(b) for b in other.buffers]),
            ("semaphore", [(s.name, s.count, s.init) for s in first.semaphores],
             [(s.name, s.count, s.init) for s in other.semaphores]),
        ):  # fmt: skip
            if mine != theirs:
                i = next(
                    (i for i, (x, y) in enumerate(zip(mine, theirs, strict=False)) if x != y),
                    min(len(mine), len(theirs)),
                )
                longer = first if len(mine) >= len(theirs) else other
                entry: Any = (longer.buffers if what == "buffer" else longer.semaphores)[i]
                here, there = first.domain.node(0), other.domain.node(0)
                at: Location | None = entry.line
                raise TraceError(
                    f"{what} {entry.name!r} is not the same on nodes {here} and {there}, and every node has one map; "
                    "allocate before the branch, with sizes that do not depend on k.row or k.col",
                    at=at,
                )


def _place(b: BufferRow) -> tuple[str, str, tuple[int, ...], int]:
    return b.name, b.dtype, b.shape, b.offset


def _merged(done: list[Trace]) -> list[Trace]:
    """Join roles with equal rows: an `if` whose answer changed nothing costs no role."""
    out: dict[Any, Trace] = {}
    for trace in done:
        key = (
            tuple((name, tuple(rows)) for name, rows in trace.threads),
            tuple(trace.shards),
            len(trace.domain.columns),
        )
        same = out.get(key)
        if same is None:
            out[key] = trace
            continue
        columns = [np.concatenate(pair) for pair in zip(same.domain.columns, trace.domain.columns, strict=True)]
        same.domain.nodes = np.concatenate([same.domain.nodes, trace.domain.nodes])
        same.domain.columns = columns
    return list(out.values())
