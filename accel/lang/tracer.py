"""The state of one trace: what is allocated, which rows are emitted, under which predicate and in which loops."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import NamedTuple, NoReturn

import numpy as np

from accel.errors import BoundsError, CapacityError, Location, TraceError
from accel.hardware import ChipSpec
from accel.isa import layout as w
from accel.isa import table
from accel.isa.program import Buffer as BufferRow
from accel.isa.program import Semaphore
from accel.lang.expr import Domain, Expr, Pred, Sym, holds, holds_each
from accel.lang.loop import HardwareLoop
from accel.lang.tables import Tables
from accel.lang.views import Layout
from accel.numerics import fmt

__all__ = ["ROW_BUDGET", "Active", "Row", "Trace", "Tracer"]

Row = tuple[int, ...]
Term = tuple[int, Sym, int]  # (constant, symbol, relation of their sum to 0)
ROW_BUDGET = 2_000_000
SRAM_ALIGN = 64  # bytes: one access of an SRAM port of the catalog chips
GRID = 4_000_000  # most (node, trip) pairs that an exact bound enumerates
LOOP = table.opcode("loop")


class Active(NamedTuple):
    """The predicate in force: its id, the terms that a row carries, all terms that narrow bounds, and if it never holds."""

    pid: int
    carried: tuple[Term, ...]
    terms: tuple[Term, ...]
    dead: bool


@dataclass
class Trace:
    """What one role traced: threads of code rows, shard moves, and the maps that must agree between roles."""

    domain: Domain
    threads: list[tuple[str, list[Row]]] = field(default_factory=list)
    shards: list[Row] = field(default_factory=list)
    buffers: list[BufferRow] = field(default_factory=list)
    semaphores: list[Semaphore] = field(default_factory=list)
    read: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    sram_bytes: int = 0


def _drop(row: Row) -> None:
    """Emit nothing: the block never takes effect."""


class Tracer:
    """Everything `k` knows and does not show."""

    def __init__(self, chip: ChipSpec, domain: Domain, tables: Tables, mesh: tuple[int, int], budget: int) -> None:
        self.chip, self.dom, self.tables, self.shape = chip, domain, tables, mesh
        self.trace = Trace(domain)
        self.budget = budget
        self.rows: list[Row] = []
        self.active = Active(0, (), (), False)
        self.loops: list[HardwareLoop] = []
        self.push: Callable[[Row], None] = self._push_main
        self._thread: str | None = None
        self._main: Callable[[Row], None] | None = None
        self._layouts: dict[tuple[int, int, tuple[int, ...], tuple[int, ...]], Layout] = {}
        self._codes: dict[str, int] = {}
        self._whens: dict[tuple[Active, tuple[Term, ...]], Active] = {}
        self._line_ids = tables.lines.ids
        self._targets: dict[tuple[object, ...], int] = {}

    # --- source lines ---------------------------------------------------------------------------------------------
    def line(self, frame: FrameType) -> int:
        """Return the line index of the author's frame at or above `frame`."""
        found = self._line_ids.get((id(frame.f_code), frame.f_lineno))
        return self.tables.lines.find(frame) if found is None else found

    def here(self) -> Location:
        """Return the author's line."""
        return self.tables.lines.location(sys._getframe(1))

    # --- emission ---------------------------------------------------------------------------------------------------
    def _pusher(self, rows: list[Row], name: str) -> Callable[[Row], None]:
        append, budget = rows.append, self.budget

        def push(row: Row) -> None:
            append(row)
            if len(rows) > budget:
                raise TraceError(
                    f"thread {name!r} has more than {budget:,} instructions and may never end; "
                    "use k.loop for long loops, or larger tiles"
                )

        return push

    def _push_main(self, row: Row) -> None:
        self.start_main()
        self.push(row)

    def start_main(self) -> None:
        """Open the thread of a kernel that declares none."""
        if self._thread is not None or self._main is not None:
            return
        if self.trace.threads:
            raise TraceError("an instruction stands outside the threads of this kernel; put it into a @k.thread function")
        self.rows = []
        self.trace.threads.append(("main", self.rows))
        self.push = self._main = self._pusher(self.rows, "main")

    def run_thread(self, fn: Callable[[], object]) -> None:
        """Trace a thread function now."""
        if self._thread is not None:
            raise TraceError(f"thread {fn.__name__!r} is declared inside thread {self._thread!r}; declare it beside it")
        if self.loops or self.active.terms or self.active.dead:
            raise TraceError(f"thread {fn.__name__!r} is declared inside a k.loop or k.when; put those inside the thread")
        if self._main is not None:
            raise TraceError(
                f"thread {fn.__name__!r} follows instructions outside any thread; put those into a @k.thread function too"
            )
        threads = self.trace.threads
        if len(threads) == self.chip.node.threads:
            raise CapacityError(
                f"thread {fn.__name__!r} is number {len(threads) + 1}, and a node of {self.chip.name!r} runs "
                f"{self.chip.node.threads}; merge two threads"
            )
        taken = {name for name, _ in threads}
        name, copy = fn.__name__, 2
        while name in taken:
            name, copy = f"{fn.__name__}_{copy}", copy + 1
        self.rows = []
        threads.append((name, self.rows))
        before, self._thread = self.push, name
        self.push = self._pusher(self.rows, name)
        fn()
        self.leave_to(None)
        self._thread, self.push, self.rows = None, before, []

    def finish(self) -> Trace:
        """Close the trace; `k` cannot be used after this."""
        self.leave_to(None)
        self.push = self._closed
        return self.trace

    def _closed(self, row: Row) -> None:
        raise TraceError("this k belongs to a kernel that is already traced; use the k of the kernel that is being built")

    # --- predicates and loops ---------------------------------------------------------------------------------------
    def enter_when(self, pred: Pred | Expr | bool | int) -> tuple[Active, Callable[[Row], None]]:
        """Narrow the active predicate; return what `exit_when` restores."""
        if self._thread is None:
            self.start_main()
        saved = self.active, self.push
        if isinstance(pred, Expr):
            pred = pred != 0
        if isinstance(pred, Pred):
            key = (self.active, pred.terms)
            found = self._whens.get(key)
            if found is None:
                found = self._whens[key] = self._narrow(pred)
            self.active = found
        elif isinstance(pred, bool | int | np.bool_):
            if not pred:
                self.active = self.active._replace(dead=True)
        else:
            raise TraceError(f"k.when takes a comparison of node values or loop indices, not {pred!r}")
        if self.active.dead:
            self.push = _drop
        return saved

    def exit_when(self, saved: tuple[Active, Callable[[Row], None]]) -> None:
        """Restore the predicate of the enclosing block."""
        self.active, self.push = saved

    def _narrow(self, pred: Pred) -> Active:
        carried, terms = list(self.active.carried), list(self.active.terms)
        for c, s, relation in pred.terms:
            verdict = self._decide(c, s, relation)
            if verdict is False:
                return self.active._replace(dead=True)
            if verdict is None and (c, s, relation) not in carried:
                carried.append((c, s, relation))
                terms.append((c, s, relation))
        if len(carried) > w.PRED_TERMS:
            carried = self._fold(carried)
        key = tuple((s.eid, c, relation) for c, s, relation in carried)
        pid = self.tables.preds.id(key)
        if pid >= 1 << 31:
            raise TraceError("too many predicates")
        return Active(pid, tuple(carried), tuple(terms), self.active.dead)

    def _decide(self, c: int, s: Sym, relation: int) -> bool | None:
        """Return the truth of a term where it is the same for all nodes and trips."""
        low, high = c + s.lo, c + s.hi
        if relation in (w.REL_EQ, w.REL_NE):
            if low > 0 or high < 0:
                return relation == w.REL_NE
            if low == high:
                return relation == w.REL_EQ
        elif high < 0 or low >= 0:
            return holds(low, relation)
        if not s.loops:
            mask = holds_each(c + s.values(), relation)
            if bool(mask.all()) or not bool(mask.any()):
                return bool(mask[0])
        return None

    def _fold(self, terms: list[Term]) -> list[Term]:
        """Merge the terms without loop index into one column of zeros and ones."""
        fixed = [t for t in terms if not t[1].loops]
        kept = [t for t in terms if t[1].loops]
        if len(kept) + bool(fixed) > w.PRED_TERMS:
            raise TraceError(
                f"{len(kept)} conditions on loop indices are in force here, a predicate holds {w.PRED_TERMS}; "
                "nest fewer k.when, or use range()"
            )
        value = self.dom.column(Pred(tuple(fixed)).mask().astype(np.int64))
        if isinstance(value, int):
            return kept if value else [*kept, (1, self.dom.zero, w.REL_EQ)]
        return [*kept, (value.c, value.s, w.REL_NE)]

    def enter_loop(self, loop: HardwareLoop) -> tuple[int | Expr, int, tuple[Active, Callable[[Row], None]]]:
        """Open a hardware loop: emit its first row; return index, position of the row and what to restore."""
        if self._thread is None:
            self.start_main()
        limit = min(self.chip.node.loop_depth, w.DEPTHS)
        if len(self.loops) >= limit:
            raise TraceError(f"this k.loop is nested {len(self.loops) + 1} deep, the machine nests {limit}; use range() inside")
        saved = self.active, self.push
        loop.depth, loop.open, loop.name = len(self.loops), True, "ijkl"[len(self.loops)]
        begin = len(self.rows)
        trips = loop.trips
        const, s = (trips.c, trips.s) if isinstance(trips, Expr) else (trips, self.dom.zero)
        self.push((LOOP, self.active.pid, self.line(sys._getframe(1)), const, self.eid(s), *(0,) * 11))
        index = Expr(0, self.dom.sym((), ((loop, 1, 1, 0, 0),)))
        terms = self.active.terms
        if isinstance(trips, Expr):
            left = index - trips
            if isinstance(left, Expr):
                terms = (*terms, (left.c, left.s, w.REL_LT))
        self.active = Active(0, (), terms, loop.dead)
        if loop.dead:
            self.push = _drop
        self.loops.append(loop)
        return index, begin, saved

    def exit_loop(self, loop: HardwareLoop, saved: tuple[Active, Callable[[Row], None]]) -> None:
        """Close the innermost loop."""
        self.loops.pop()
        loop.open = False
        self.active, self.push = saved
        if loop.dead and not self.active.dead and self.rows and self.rows[-1][0] == LOOP:
            self.rows.pop()

    def leave_to(self, loop: HardwareLoop | None) -> None:
        """Check that no loop inside `loop` was left by break, return or an unfinished iterator."""
        inner = self.loops[-1] if self.loops else None
        if inner is not loop:
            at = inner.at if inner is not None else None
            raise TraceError(
                "a k.loop is left before its end; the machine has no break: use range(), or a k.when inside", at=at
            )

    def eid(self, s: Sym) -> int:
        """Return the expression id of a symbol, checked to be of this trace and of loops that are open."""
        for term in s.loops:
            if not term[0].open:
                raise TraceError(f"the loop index '{term[0].name}' is used after its loop has ended; use it inside only")
        if s.dom is not self.dom:
            raise TraceError("a value of another kernel is used here; take it from the k of this kernel")
        return s.eid

    # --- bounds -------------------------------------------------------------------------------------------------------
    def extremes(self, value: Expr) -> tuple[int, int, str]:
        """Return least and greatest value where the active predicate holds, and where the worst of them is (as text)."""
        terms: tuple[Term, ...] = ((value.c, value.s, 0), *self.active.terms)
        loops = list(dict.fromkeys(t[0] for _, s, _ in terms for t in s.loops))
        size = len(self.dom.nodes) * math.prod(max(loop.most, 1) for loop in loops)
        if size > GRID:
            return value.c + value.s.lo, value.c + value.s.hi, ""
        grids = []
        for term in terms:
            grid = (term[0] + term[1].values()).reshape((-1,) + (1,) * len(loops))
            for loop, coef, mul, add, mod in term[1].loops:
                at = loops.index(loop)
                trip = np.arange(max(loop.most, 1)).reshape((-1,) + (1,) * (len(loops) - 1 - at))
                grid = grid + coef * ((mul * trip + add) % mod if mod else mul * trip + add)
            grids.append(grid)
        mask = np.ones(1, np.bool_)
        for grid, (_, _, relation) in zip(grids[1:], terms[1:], strict=True):
            mask = mask & holds_each(grid, relation)
        shape = (len(self.dom.nodes), *(max(loop.most, 1) for loop in loops))
        values, mask = np.broadcast_to(grids[0], shape), np.broadcast_to(mask, shape)
        if not bool(mask.any()):
            return 0, 0, ""
        least = int(values[mask].min())
        worst = int(values[mask].max())
        where = np.argwhere(mask & (values == (least if least < 0 else worst)))[0]
        text = f" on node {self.dom.node(int(where[0]))}"
        for loop, trip in zip(loops, where[1:], strict=True):
            text += f" at {loop.name} = {trip}"
        return least, worst, text

    def bounds(self, lay: Layout, dim: int, start: int | Expr, length: int, size: int) -> None:
        """Raise BoundsError if [start, start + length) leaves the dimension somewhere the predicate holds."""
        if self.active.dead:
            return
        low, high, where = self.extremes(start) if isinstance(start, Expr) else (start, start, "")
        if low < 0 or high + length > size:
            at = low if low < 0 else high
            raise BoundsError(
                f"{lay.name!r} {lay.shape}: dimension {dim} is taken from {at} to {at + length}{where}, but it is {size} long; "
                "use a shorter view for the tail (min or if on k.row and k.col splits roles) or k.when round the access"
            )

    def empty(self, lay: Layout, dim: int, item: slice, length: int) -> int:
        """Raise BoundsError for a slice of nothing; in a block that never takes effect return 1."""
        if self.active.dead:
            return 1
        raise BoundsError(
            f"{lay.name!r} {lay.shape}: the slice {item.start}:{item.stop} of dimension {dim} has {length} elements; "
            "a view holds at least one: leave the access out with `if`"
        )

    # --- layouts and allocation -------------------------------------------------------------------------------------
    def code_of(self, dtype: str) -> int:
        """Return the code of a number format."""
        found = self._codes.get(dtype)
        if found is None:
            found = self._codes[dtype] = fmt(dtype).code
        return found

    def layout(self, like: Layout, shape: tuple[int, ...], strides: tuple[int, ...]) -> Layout:
        """Return the layout of this shape over the same buffer or tensor, the same object every time."""
        key = (like.space, like.obj, shape, strides)
        found = self._layouts.get(key)
        if found is None:
            found = Layout(self, like.space, like.obj, like.name, like.dtype, like.esize, shape, strides)
            self._layouts[key] = found
        return found

    def allocation_map(self) -> str:
        """Return the SRAM allocations so far, one line each."""
        lines = [f"{'offset':>9} {'bytes':>9}  buffer"]
        for b in self.trace.buffers:
            lines.append(f"{b.offset:>9} {b.nbytes:>9}  {b.name}: {b.dtype} {b.shape}  {b.line or ''}".rstrip())
        lines.append(f"{self.trace.sram_bytes:>9} {self.chip.node.sram_bytes - self.trace.sram_bytes:>9}  (free)")
        return "\n".join(lines)

    def refuse(self, message: str) -> NoReturn:
        """Raise TraceError; the author's line is added where the kernel is called."""
        raise TraceError(message)


def checked_shape(what: str, shape: object) -> tuple[int, ...]:
    """Return a shape as ints of at least 1; TraceError names what has the bad one."""
    if isinstance(shape, Expr):
        shape = (shape.split(),)
    items = (shape,) if hasattr(shape, "__index__") else shape
    try:
        out = tuple(operator.index(n) for n in items)  # type: ignore[attr-defined]
    except TypeError:
        raise TraceError(f"the shape of {what} is {shape!r}; give a tuple of ints") from None
    if not out or min(out) < 1:
        raise TraceError(f"the shape of {what} is {out}; every dimension is at least 1")
    return out
