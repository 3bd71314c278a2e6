"""Programs made by hand for tests: a small assembler of tables, used where the kernel language is not under test."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Ref:
    """A view operand: (view id, byte address, expression id)."""

    view: int
    address: int
    expr: int = 0

    def words(self) -> tuple[int, int, int]:
        return (self.view, self.address, self.expr)


@dataclass(frozen=True)
class Handle:
    """A buffer or tensor: how to address it row-major."""

    space: int
    index: int
    dtype: str
    shape: tuple[int, ...]
    address: int

    @property
    def strides(self) -> tuple[int, ...]:
        item = fmt(self.dtype).bytes
        return tuple(item * int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape)))


class Asm:
    """Builds one Program: threads of roles are filled with instructions, operands come from `at` and `pair`.

    a = Asm(2, 2); x = a.tensor("x", (4, 4), "bf16", "in"); b = a.sram("b", (4, 4), "bf16"); s = a.sem("s")
    with a.thread("load"): a.copy(a.at(b), a.at(x), done=s); a.wait(s)
    """

    def __init__(self, rows: int = 1, cols: int = 1, threads: int = 4, name: str = "hand") -> None:
        self.rows, self.cols, self.threads, self.name = rows, cols, threads, name
        self.code: list[list[int]] = []
        self.views: dict[tuple[int, ...], int] = {}
        self.exprs: dict[tuple[int, ...], int] = {(0,) * w.EXPR_WORDS: 0}
        self.preds: dict[tuple[int, ...], int] = {(0,) * w.PRED_WORDS: 0}
        self.targets: dict[tuple[int, ...], int] = {}
        self.target_rows: list[list[int]] = [[0] * w.TARGET_WORDS, [0, 0, rows - 1, 0, 0, 0, cols - 1, 0]]
        self.shards: list[list[int]] = []
        self.buffers: list[Buffer] = []
        self.sems: list[Semaphore] = []
        self.tensors: list[Tensor] = []
        self.spans: list[dict[int, tuple[int, int]]] = [{}]
        self.names: list[list[str]] = [[""] * threads]
        self.role_of = np.zeros(rows * cols, np.int64)
        self.lines: dict[Location, int] = {}
        self.sram_bytes, self.memory_bytes, self.role, self.pred = 0, 0, 0, 0
        nodes = np.arange(rows * cols)
        self.params = [nodes // cols, nodes % cols]
        self.loops = 0

    # --- objects ------------------------------------------------------------------------------------------------
    def tensor(self, name: str, shape: Sequence[int], dtype: str = "bf16", use: str = "in", **more: Any) -> Handle:
        nbytes = int(np.prod(shape)) * fmt(dtype).bytes
        self.tensors.append(
            Tensor(name, dtype, tuple(shape), self.memory_bytes, nbytes, "in" in use, "out" in use, **more)
        )
        address, self.memory_bytes = self.memory_bytes, -(-(self.memory_bytes + nbytes) // 64) * 64
        return Handle(w.SPACE_MEMORY, len(self.tensors) - 1, dtype, tuple(shape), address)

    def sram(self, name: str, shape: Sequence[int], dtype: str = "bf16") -> Handle:
        nbytes = int(np.prod(shape)) * fmt(dtype).bytes
        self.buffers.append(Buffer(name, dtype, tuple(shape), self.sram_bytes, nbytes))
        offset, self.sram_bytes = self.sram_bytes, -(-(self.sram_bytes + nbytes) // 64) * 64
        return Handle(w.SPACE_SRAM, len(self.buffers) - 1, dtype, tuple(shape), offset)

    def sem(self, name: str, count: int = 1, init: int = 0) -> int:
        index = sum(s.count for s in self.sems)
        self.sems.append(Semaphore(name, index, count, init))
        return index

    # --- tables ---------------------------------------------------------------------------------------------------
    def param(self, values: Sequence[int]) -> int:
        self.params.append(np.asarray(values, np.int64))
        return len(self.params) - 1

    def expr(self, params: Sequence[tuple[int, int]] = (), loops: Sequence[tuple[int, int, int, int, int]] = ()) -> int:
        """params: (parameter, coefficient); loops: (depth, coefficient, mul, add, mod)."""
        row = [0] * w.EXPR_WORDS
        row[w.E_NPARAMS], row[w.E_NLOOPS] = len(params), len(loops)
        for j, term in enumerate(params):
            row[w.E_PARAMS + 2 * j : w.E_PARAMS + 2 * j + 2] = term
        for j, loop in enumerate(loops):
            row[w.E_LOOPS + 5 * j : w.E_LOOPS + 5 * j + 5] = loop
        return self.exprs.setdefault(tuple(row), len(self.exprs))

    def predicate(self, *terms: tuple[int, int, int]) -> int:
        """terms: (expression, constant, relation of their sum to 0)."""
        row = [len(terms)] + [v for term in terms for v in term]
        return self.preds.setdefault(tuple(row + [0] * (w.PRED_WORDS - len(row))), len(self.preds))

    def target(self, row0: int, row1: int, col0: int, col1: int, exprs: Sequence[int] = (0, 0, 0, 0)) -> int:
        """An inclusive rectangle; `exprs` are added to the four constants."""
        row = [v for pair in zip((row0, row1, col0, col1), exprs, strict=True) for v in pair]
        if tuple(row) not in self.targets:
            self.targets[tuple(row)] = len(self.target_rows)
            self.target_rows.append(row)
        return self.targets[tuple(row)]

    def view(self, handle: Handle, shape: Sequence[int], strides: Sequence[int], offset: int = 0, expr: int = 0,
             dtype: str | None = None, bias: int = 0, scalar: int = 0,
             ring: tuple[int, int] = (0, 0)) -> Ref:  # fmt: skip
        """A view by shape and byte strides, `offset` bytes into the object; bias, scalar, ring: words of the layout."""
        n = len(shape)
        row = [0] * w.VIEW_WORDS
        row[w.V_SPACE], row[w.V_DTYPE], row[w.V_OBJECT] = handle.space, fmt(dtype or handle.dtype).code, handle.index
        row[w.V_NDIM] = n
        row[w.V_BIAS], row[w.V_SCALAR], (row[w.V_RING_BASE], row[w.V_RING_BYTES]) = bias, scalar, ring
        row[w.V_SHAPE : w.V_SHAPE + 4] = [1] * (4 - n) + list(shape)
        row[w.V_STRIDE : w.V_STRIDE + 4] = [0] * (4 - n) + list(strides)
        return Ref(self.views.setdefault(tuple(row), len(self.views)), handle.address + offset, expr)

    def at(self, handle: Handle, *index: slice | int, expr: int = 0, pairs: bool = False) -> Ref:
        """A row-major slice; `pairs` lays a matrix out as the two index pairs of a matmul operand."""
        shape, strides, offset = [], [], 0
        for d, stride in enumerate(handle.strides):
            key = index[d] if d < len(index) else slice(None)
            if isinstance(key, int):
                offset += key * stride
                continue
            first, last, step = key.indices(handle.shape[d])
            offset += first * stride
            shape.append(len(range(first, last, step)))
            strides.append(stride * step)
        if pairs:
            if len(shape) != 2:
                raise ValueError("a matrix has two dimensions")
            shape, strides = [1, shape[0], 1, shape[1]], [0, strides[0], 0, strides[1]]
        return self.view(handle, shape, strides, offset, expr)

    def mat(self, handle: Handle, *index: slice | int, expr: int = 0) -> Ref:
        """A matmul operand: `at` with index pairs."""
        return self.at(handle, *index, expr=expr, pairs=True)

    # --- instructions ---------------------------------------------------------------------------------------------
    @contextmanager
    def thread(self, name: str, slot: int | None = None) -> Any:
        first = len(self.code)
        yield
        taken = self.spans[self.role]
        place = len(taken) if slot is None else slot
        taken[place] = (first, len(self.code))
        self.names[self.role][place] = name

    @contextmanager
    def when(self, pred: int) -> Any:
        saved, self.pred = self.pred, pred
        yield
        self.pred = saved

    def next_role(self, nodes: Sequence[int]) -> None:
        """Further threads belong to a new role that `nodes` take."""
        self.role = len(self.spans)
        self.spans.append({})
        self.names.append([""] * self.threads)
        self.role_of[list(nodes)] = self.role

    def emit(self, mnemonic: str, **operands: Any) -> int:
        """Append one instruction whose author's line is its row number plus one; return the row."""
        where = Location("hand.py", len(self.code) + 1)
        line = self.lines.setdefault(where, len(self.lines))
        words = {}
        for o in BY_MNEMONIC[mnemonic].operands:
            value = operands[o.name]
            words[o.name] = value.words() if isinstance(value, Ref) else value
        self.code.append(encode(mnemonic, pred=self.pred, line=line, **words))
        return len(self.code) - 1

    def wait(self, sem: int, n: int = 1, expr: int = 0) -> int:
        return self.emit("wait", sem=(sem, expr), n=(n, 0))

    def inc(self, sem: int, n: int = 1, at: int = w.TARGET_SELF, expr: int = 0) -> int:
        return self.emit("inc", sem=(sem, expr), n=(n, 0), at=at)

    def barrier(self, at: int = w.TARGET_ALL) -> int:
        return self.emit("barrier", at=at)

    def copy(self, dst: Ref, src: Ref, to: int = w.TARGET_SELF, done: int = -1, sent: int = -1, done_expr: int = 0,
             sent_expr: int = 0) -> int:  # fmt: skip
        return self.emit("copy", dst=dst, src=src, to=to, done=(done, done_expr), sent=(sent, sent_expr))

    def matmul(self, dst: Ref, a: Ref, b: Ref, accumulate: bool = False) -> int:
        return self.emit("matmul", dst=dst, a=a, b=b, accumulate=int(accumulate))

    @contextmanager
    def loop(self, trips: int, expr: int = 0) -> Any:
        """A hardware loop; yields its depth, for `expr(loops=...)`."""
        begin = self.emit("loop", trips=(trips, expr), end=0)
        saved, self.pred = self.pred, 0
        self.loops += 1
        yield self.loops - 1
        self.loops -= 1
        end = self.emit("end", begin=len(self.code) - begin)
        self.pred = saved
        self.code[begin][BY_MNEMONIC["loop"].word("end")] = end - begin

    def preload(self, dst: Ref, src: Ref) -> None:
        self.shards.append([self.role, w.DIR_PRELOAD, *dst.words(), *src.words(), 0])

    def collect(self, dst: Ref, src: Ref) -> None:
        self.shards.append([self.role, w.DIR_COLLECT, *dst.words(), *src.words(), 0])

    def program(self, **more: Any) -> Program:
        """Return the program; keyword arguments replace its fields."""
        spans = np.zeros((len(self.spans), self.threads, 2), np.int64)
        for role, taken in enumerate(self.spans):
            for thread, span in taken.items():
                spans[role, thread] = span

        def table(rows: Any, words: int) -> Any:
            return np.array(list(rows), np.int64).reshape(-1, words)

        init = [s.init for s in self.sems for _ in range(s.count)]
        fields: dict[str, Any] = dict(  # noqa: C408 - reads as the constructor's call
            name=self.name, rows=self.rows, cols=self.cols, threads=self.threads,
            thread_names=tuple(map(tuple, self.names)), code=table(self.code, w.CODE_WORDS), spans=spans,
            role_of=self.role_of, params=np.stack(self.params, axis=1), views=table(self.views, w.VIEW_WORDS),
            exprs=table(self.exprs, w.EXPR_WORDS), preds=table(self.preds, w.PRED_WORDS),
            targets=table(self.target_rows, w.TARGET_WORDS), shards=table(self.shards, w.SHARD_WORDS),
            buffers=tuple(self.buffers), semaphores=tuple(self.sems), semaphore_init=np.array(init, np.int64),
            tensors=tuple(self.tensors), sram_bytes=self.sram_bytes, memory_bytes=self.memory_bytes,
            lines=tuple(self.lines),
        )  # fmt: skip
        return Program(**(fields | more))


def copy_program(rows: int = 1, cols: int = 1, shape: tuple[int, int] = (4, 6)) -> Program:
    """Node (0, 0) multicasts x to every node; each stores its own block of y."""
    a = Asm(rows, cols)
    m, n = shape
    x, y = a.tensor("x", shape), a.tensor("y", (rows * cols * m, n), use="out")
    b, got, put = a.sram("b", shape), a.sem("got"), a.sem("put")
    mine = a.expr(params=[(w.PARAM_ROW, cols * m * n * 2), (w.PARAM_COL, m * n * 2)])
    first = a.predicate((a.expr(params=[(0, cols), (1, 1)]), 0, w.REL_EQ))
    with a.thread("move"):
        with a.when(first):
            a.copy(a.at(b), a.at(x), to=w.TARGET_ALL, done=got)
        a.wait(got)
        a.copy(a.at(y, slice(0, m), expr=mine), a.at(b), sent=put)
        a.wait(put)
    return a.program()


def matmul_program(m: int, n: int, k: int, *, out: str = "fp32") -> Program:
    """One node: c = a @ b, whole."""
    p = Asm()
    a, b, c = p.tensor("a", (m, k)), p.tensor("b", (k, n)), p.tensor("c", (m, n), out, "out")
    la, lb, acc = p.sram("la", (m, k)), p.sram("lb", (k, n)), p.sram("acc", (m, n), "fp32")
    res = p.sram("res", (m, n), out)
    here, put = p.sem("here"), p.sem("put")
    with p.thread("all"):
        p.copy(p.at(la), p.at(a), done=here)
        p.copy(p.at(lb), p.at(b), done=here)
        p.wait(here, 2)
        p.matmul(p.mat(acc), p.mat(la), p.mat(lb))
        p.emit("vec.cast", dst=p.at(res), x=p.at(acc))
        p.copy(p.at(c), p.at(res), sent=put)
        p.wait(put)
    return p.program()


def summa_program(rows: int, cols: int, bm: int, bn: int, bk: int, steps: int) -> Program:
    """c = a @ b on a mesh: panels multicast from rotating owners, double-buffered, as in the design's example."""
    p = Asm(rows, cols, name="summa")
    m, n, kk = rows * bm, cols * bn, steps * bk
    a, b = p.tensor("a", (m, kk)), p.tensor("b", (kk, n))
    c = p.tensor("c", (m, n), "bf16", "out")
    la, lb = p.sram("A", (2, bm, bk)), p.sram("B", (2, bk, bn))
    acc, out = p.sram("acc", (bm, bn), "fp32"), p.sram("out", (bm, bn))
    a_full, b_full, a_free, b_free = (p.sem(s, 2) for s in ("A_full", "B_full", "A_free", "B_free"))
    ready, stored = p.sem("ready"), p.sem("stored")
    row, col = p.expr(params=[(0, 1)]), p.expr(params=[(1, 1)])
    my_row, my_col = p.target(0, 0, 0, cols - 1, (row, row, 0, 0)), p.target(0, rows - 1, 0, 0, (0, 0, col, col))
    with p.thread("load"):
        for t in range(steps):
            s = t % 2
            with p.when(p.predicate((col, -(t % cols), w.REL_EQ))):
                if t >= 2:
                    p.wait(a_free + s, cols)
                source = p.at(a, slice(0, bm), slice(t * bk, (t + 1) * bk), expr=p.expr(params=[(0, bm * kk * 2)]))
                p.copy(p.at(la, s), source, to=my_row, done=a_full + s)
            with p.when(p.predicate((row, -(t % rows), w.REL_EQ))):
                if t >= 2:
                    p.wait(b_free + s, rows)
                source = p.at(b, slice(t * bk, (t + 1) * bk), slice(0, bn), expr=p.expr(params=[(1, bn * 2)]))
                p.copy(p.at(lb, s), source, to=my_col, done=b_full + s)
    with p.thread("compute"):
        for t in range(steps):
            s = t % 2
            p.wait(a_full + s)
            p.wait(b_full + s)
            p.matmul(p.mat(acc), p.mat(la, s), p.mat(lb, s), accumulate=t > 0)
            if t + 2 < steps:
                p.inc(a_free + s, at=p.target(0, 0, (t + 2) % cols, (t + 2) % cols, (row, row, 0, 0)))
                p.inc(b_free + s, at=p.target((t + 2) % rows, (t + 2) % rows, 0, 0, (0, 0, col, col)))
        p.emit("vec.cast", dst=p.at(out), x=p.at(acc))
        p.inc(ready)
    with p.thread("store"):
        p.wait(ready)
        block = p.expr(params=[(0, bm * n * 2), (1, bn * 2)])
        p.copy(p.at(c, slice(0, bm), slice(0, bn), expr=block), p.at(out), sent=stored)
        p.wait(stored)
    return p.program(flops=2 * m * n * kk)
