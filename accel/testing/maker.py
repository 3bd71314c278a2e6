"""Makes programs of table rows by hand, without the kernel language: objects, views, expressions, targets, threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.errors import Location
from accel.isa import layout as w
from accel.isa.codec import encode
from accel.isa.program import Buffer, Program, Semaphore, Tensor
from accel.isa.table import BY_MNEMONIC
from accel.numerics.formats import fmt

__all__ = ["Maker", "Place"]

LOOP, END = BY_MNEMONIC["loop"], BY_MNEMONIC["end"]


@dataclass(frozen=True)
class Place:
    """A buffer or a tensor: space, index, format, first byte and bytes."""

    memory: bool
    index: int
    dtype: str
    begin: int
    nbytes: int

    @property
    def end(self) -> int:
        """Return the byte after the last one."""
        return self.begin + self.nbytes


class Maker:
    """Collects the tables of one program; code is appended to the thread that `thread(role, slot)` opens."""

    def __init__(self, rows: int, cols: int, threads: int, name: str = "made") -> None:
        self.rows, self.cols, self.threads, self.name = rows, cols, threads, name
        self.code: dict[tuple[int, int], list[list[int]]] = {}
        self.views: dict[tuple[int, ...], int] = {}
        self.exprs: dict[tuple[int, ...], int] = {(0,) * w.EXPR_WORDS: 0}
        self.preds: dict[tuple[int, ...], int] = {(0,) * w.PRED_WORDS: 0}
        self.targets: list[list[int]] = [[0] * w.TARGET_WORDS, [0, 0, rows - 1, 0, 0, 0, cols - 1, 0]]
        self.shards: list[list[int]] = []
        self.buffers: list[Buffer] = []
        self.semaphores: list[Semaphore] = []
        self.tensors: list[Tensor] = []
        nodes = np.arange(rows * cols)
        self.params = [nodes // cols, nodes % cols]  # by PARAM_ROW, PARAM_COL, then what is added
        self.role_of = np.zeros(rows * cols, np.int64)
        self.marks: list[str] = []
        self.lines: list[Location] = []
        self.sram_bytes = self.memory_bytes = 0
        self.pred = 0
        self.open = (0, 0)

    # --- objects --------------------------------------------------------------------------------------------------
    def tensor(self, name: str, shape: tuple[int, ...], dtype: str, *, inputs: bool, outputs: bool) -> Place:
        """Add a tensor to the memory, on a 64-byte boundary."""
        begin = -(-self.memory_bytes // 64) * 64
        nbytes = int(np.prod(shape)) * fmt(dtype).bytes
        self.tensors.append(Tensor(name, dtype, shape, begin, nbytes, inputs, outputs))
        self.memory_bytes = begin + nbytes
        return Place(True, len(self.tensors) - 1, dtype, begin, nbytes)

    def sram(self, name: str, elements: int, dtype: str, gap: int = 0) -> Place:
        """Add a buffer of a number of elements, `gap` elements behind the last one."""
        item = fmt(dtype).bytes
        begin = -(-self.sram_bytes // item) * item + gap * item
        self.buffers.append(Buffer(name, dtype, (elements,), begin, elements * item))
        self.sram_bytes = begin + elements * item
        return Place(False, len(self.buffers) - 1, dtype, begin, elements * item)

    def semaphore(self, name: str = "s", init: int = 0) -> int:
        """Add a semaphore and return its index."""
        index = len(self.semaphores)
        self.semaphores.append(Semaphore(f"{name}{index}", index, 1, init))
        return index

    # --- tables ---------------------------------------------------------------------------------------------------
    def expr(self, params: Sequence[tuple[int, int]] = (), loops: Sequence[tuple[int, int, int, int, int]] = ()) -> int:
        """Return the expression of (parameter, coef) and (depth, coef, mul, add, mod) terms."""
        row = [0] * w.EXPR_WORDS
        row[w.E_NPARAMS], row[w.E_NLOOPS] = len(params), len(loops)
        for j, term in enumerate(params):
            row[w.E_PARAMS + 2 * j : w.E_PARAMS + 2 * j + 2] = term
        for j, loop in enumerate(loops):
            row[w.E_LOOPS + w.EXPR_LOOP_WORDS * j : w.E_LOOPS + w.EXPR_LOOP_WORDS * (j + 1)] = loop
        return self.exprs.setdefault(tuple(row), len(self.exprs))

    def node_expr(self, row: int, col: int) -> int:
        """Return the expression row * (logical row) + col * (logical column)."""
        return self.expr([(p, c) for p, c in ((w.PARAM_ROW, row), (w.PARAM_COL, col)) if c])

    def rotation(self, param: int, by: int, size: int) -> int:
        """Return the parameter that holds (row or column of the node + by) mod size."""
        base = np.arange(self.rows * self.cols)
        values = ((base // self.cols if param == w.PARAM_ROW else base % self.cols) + by) % size
        for at, known in enumerate(self.params):
            if (known == values).all():
                return at
        self.params.append(values)
        return len(self.params) - 1

    def predicate(self, *terms: tuple[int, int, int]) -> int:
        """Return the predicate of (expression, constant, relation to 0) terms."""
        row = [len(terms)] + [v for term in terms for v in term]
        return self.preds.setdefault(tuple(row + [0] * (w.PRED_WORDS - len(row))), len(self.preds))

    def target(self, corners: Sequence[int], exprs: Sequence[int] = (0, 0, 0, 0)) -> int:
        """Return the target of inclusive (row, row, column, column), each plus an expression."""
        row = [v for pair in zip(corners, exprs, strict=True) for v in pair]
        if row not in self.targets[2:]:
            self.targets.append(row)
        return self.targets.index(row, 2)

    def view(self, place: Place, shape: Sequence[int], strides: Sequence[int], address: int, *, expr: int = 0,
             ring: tuple[int, int] = (0, 0), bias: int = 0, scalar: int = 0) -> tuple[int, int, int]:  # fmt: skip
        """Return a view operand: right-aligned dimensions, strides in bytes, the byte of the first element."""
        n = len(shape)
        row = [0] * w.VIEW_WORDS
        row[w.V_SPACE] = w.SPACE_MEMORY if place.memory else w.SPACE_SRAM
        row[w.V_DTYPE], row[w.V_OBJECT], row[w.V_NDIM] = fmt(place.dtype).code, place.index, n
        row[w.V_SHAPE : w.V_SHAPE + w.DIMS] = [1] * (w.DIMS - n) + list(shape)
        row[w.V_STRIDE : w.V_STRIDE + w.DIMS] = [0] * (w.DIMS - n) + list(strides)
        row[w.V_RING_BASE], row[w.V_RING_BYTES], row[w.V_BIAS], row[w.V_SCALAR] = *ring, bias, scalar
        return self.views.setdefault(tuple(row), len(self.views)), address, expr

    def whole(self, place: Place, shape: Sequence[int] = (), expr: int = 0) -> tuple[int, int, int]:
        """Return a row-major view from the first byte of an object on: all of it, or this shape."""
        item = fmt(place.dtype).bytes
        shape = shape or (place.nbytes // item,)
        strides = [item * int(np.prod(shape[d + 1 :])) for d in range(len(shape))]
        return self.view(place, shape, strides, place.begin, expr=expr)

    # --- code -----------------------------------------------------------------------------------------------------
    @contextmanager
    def thread(self, role: int, slot: int) -> Iterator[list[list[int]]]:
        """Append what is emitted inside to a thread."""
        saved, self.open = self.open, (role, slot)
        yield self.code.setdefault(self.open, [])
        self.open = saved

    @contextmanager
    def when(self, pred: int) -> Iterator[None]:
        """Guard what is emitted inside by a predicate."""
        saved, self.pred = self.pred, pred
        yield
        self.pred = saved

    def emit(self, mnemonic: str, **operands: Any) -> None:
        """Append an instruction; each has an author's line of its own."""
        self.lines.append(Location("made.py", len(self.lines) + 1))
        row = encode(mnemonic, pred=self.pred, line=len(self.lines) - 1, **operands)
        self.code.setdefault(self.open, []).append(row)

    def wait(self, sem: int, n: int = 1) -> None:
        """Append a wait."""
        self.emit("wait", sem=(sem, 0), n=(n, 0))

    def inc(self, sem: int, n: int = 1, at: int = w.TARGET_SELF) -> None:
        """Append an inc."""
        self.emit("inc", sem=(sem, 0), n=(n, 0), at=at)

    def copy(self, dst: tuple[int, int, int], src: tuple[int, int, int], to: int = w.TARGET_SELF, done: int = -1,
             sent: int = -1) -> None:  # fmt: skip
        """Append a copy."""
        self.emit("copy", dst=dst, src=src, to=to, done=(done, 0), sent=(sent, 0))

    @contextmanager
    def loop(self, trips: int, expr: int = 0) -> Iterator[None]:
        """Append a hardware loop around what is emitted inside."""
        body = self.code.setdefault(self.open, [])
        begin = len(body)
        self.emit("loop", trips=(trips, expr), end=0)
        saved, self.pred = self.pred, 0
        yield
        self.emit("end", begin=len(body) - begin)
        self.pred = saved
        body[begin][LOOP.word("end")] = len(body) - 1 - begin

    def shard(self, role: int, direction: int, dst: tuple[int, int, int], src: tuple[int, int, int]) -> None:
        """Add a preload or a collect for the nodes of a role."""
        self.shards.append([role, direction, *dst, *src, 0])

    def program(self, chip: str = "") -> Program:
        """Return the program; `chip` is the JSON of the chip it is for."""
        roles = int(self.role_of.max()) + 1
        spans = np.zeros((roles, self.threads, 2), np.int64)
        rows: list[list[int]] = []
        for role in range(roles):
            for slot in range(self.threads):
                body = self.code.get((role, slot), [])
                spans[role, slot] = len(rows), len(rows) + len(body)
                rows += body

        def table(values: Any, words: int) -> Any:
            return np.array(list(values), np.int64).reshape(-1, words)

        return Program(
            name=self.name, rows=self.rows, cols=self.cols, threads=self.threads,
            thread_names=tuple(tuple(f"t{slot}" for slot in range(self.threads)) for _ in range(roles)),
            code=table(rows, w.CODE_WORDS), spans=spans, role_of=self.role_of,
            params=np.stack(self.params, axis=1), views=table(self.views, w.VIEW_WORDS),
            exprs=table(self.exprs, w.EXPR_WORDS), preds=table(self.preds, w.PRED_WORDS),
            targets=table(self.targets, w.TARGET_WORDS), shards=table(self.shards, w.SHARD_WORDS),
            buffers=tuple(self.buffers), semaphores=tuple(self.semaphores),
            semaphore_init=np.array([s.init for s in self.semaphores], np.int64), tensors=tuple(self.tensors),
            sram_bytes=self.sram_bytes, memory_bytes=self.memory_bytes, lines=tuple(self.lines),
            marks=tuple(self.marks), chip=chip,
        )  # fmt: skip
