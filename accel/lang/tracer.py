"""The state of one trace: what is allocated, which rows are emitted, under which predicate and in which loops."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import NamedTuple

import numpy as np

from accel.errors import CapacityError, TraceError
from accel.hardware import ChipSpec
from accel.isa import layout as w
from accel.isa import table
from accel.isa.program import Buffer as BufferRow
from accel.isa.program import Semaphore
from accel.lang.expr import Expr
from accel.lang.loop import HardwareLoop
from accel.lang.pred import Pred, holds, holds_each
from accel.lang.symbols import Domain, Sym, Term
from accel.lang.tables import Tables
from accel.lang.views import Layout
from accel.numerics import fmt

__all__ = ["ROW_BUDGET", "SRAM_ALIGN", "Active", "Row", "Trace", "Tracer"]

Row = tuple[int, ...]
ROW_BUDGET = 2_000_000  # rows of one thread of a role before tracing is taken to be endless
SRAM_ALIGN = 64  # bytes: one access of an SRAM port of the catalog chips
LOOP = table.opcode("loop")


class Active(NamedTuple):
    """The predicate in force: its id, the terms a row carries, all terms that narrow bounds, and if it never holds."""

    pid: int
    carried: tuple[Term, ...]
    terms: tuple[Term, ...]
    dead: bool


Saved = tuple[Active, Callable[[Row], None]]


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


def refuse_generator(what: str, result: object) -> None:
    """Raise TraceError if a function that should have been traced has only made a generator or a coroutine."""
    if inspect.isgenerator(result) or inspect.iscoroutine(result) or inspect.isasyncgen(result):
        raise TraceError(f"{what} contains yield or async and did not run; write it as a plain function")


class Tracer:
    """The workings behind `k`.

    push: appends a code row to the current thread; exchanged for a stand-in where a row must not be appended, so that
    the common case pays for no test. resident: per tensor, whether it lies in SRAM.
    """

    def __init__(
        self, chip: ChipSpec, domain: Domain, tables: Tables, mesh: tuple[int, int], resident: list[bool], budget: int
    ) -> None:
        self.chip, self.dom, self.tables, self.mesh = chip, domain, tables, mesh
        self.resident, self.budget = resident, budget
        self.most_tokens = (1 << chip.node.semaphore_bits) - 1
        self.trace = Trace(domain)
        self.rows: list[Row] = []
        self.active = Active(0, (), (), False)
        self.loops: list[HardwareLoop] = []
        self.push: Callable[[Row], None] = self._push_main
        self.thread: str | None = None
        self.open = True
        self.targets: dict[tuple[object, ...], int] = {}
        self._main = False
        self._layouts: dict[tuple[object, ...], Layout] = {}
        self._codes: dict[str, int] = {}
        self._whens: dict[tuple[Active, tuple[Term, ...]], Active] = {}
        self._line_ids = tables.lines.ids

    def line(self, frame: FrameType) -> int:
        """Return the line index of the author's frame at or above `frame`."""
        found = self._line_ids.get((id(frame.f_code), frame.f_lineno))
        return self.tables.lines.find(frame) if found is None else found

    # --- threads ----------------------------------------------------------------------------------------------------
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
        """Open the thread of a kernel that declares none, unless a thread is open."""
        if self.thread is not None or self._main:
            return
        self.check_open()
        if self.trace.threads:
            raise TraceError(
                "an instruction stands outside the threads of this kernel; put it into a @k.thread function"
            )
        self.rows, self._main = [], True
        self.trace.threads.append(("main", self.rows))
        self.push = self._pusher(self.rows, "main")

    def run_thread(self, fn: Callable[[], object]) -> None:
        """Trace a thread function now."""
        name = getattr(fn, "__name__", "thread")
        self.check_open()
        if self.thread is not None:
            raise TraceError(f"thread {name!r} is declared inside thread {self.thread!r}; declare it beside it")
        if self.loops or self.active.terms or self.active.dead:
            raise TraceError(f"thread {name!r} is declared inside a k.loop or k.when; put those inside the thread")
        if self._main:
            raise TraceError(
                f"thread {name!r} follows instructions outside any thread; put those into a @k.thread function too"
            )
        threads = self.trace.threads
        if len(threads) == self.chip.node.threads:
            raise CapacityError(
                f"thread {name!r} is number {len(threads) + 1}, and a node of {self.chip.name!r} runs "
                f"{self.chip.node.threads}; merge two threads"
            )
        taken = {other for other, _ in threads}
        plain, copy = name, 2
        while name in taken:
            name, copy = f"{plain}_{copy}", copy + 1
        self.rows = []
        threads.append((name, self.rows))
        before, self.thread, self.push = self.push, name, self._pusher(self.rows, name)
        refuse_generator(f"thread {name!r}", fn())
        self.leave_to(None)
        self.thread, self.push, self.rows = None, before, []

    def finish(self) -> Trace:
        """Close the trace: after this `k` refuses every call."""
        self.leave_to(None)
        self.push, self.open, self.dom.open = self._closed, False, False
        return self.trace

    def check_open(self) -> None:
        """Raise TraceError if the kernel of this `k` is already traced."""
        if not self.open:
            self._closed(())

    def _closed(self, _row: Row) -> None:
        raise TraceError(
            "this k belongs to a kernel that is already traced; use the k of the kernel that is being built"
        )

    # --- predicates -------------------------------------------------------------------------------------------------
    def enter_when(self, pred: object) -> Saved:
        """Narrow the active predicate; return what `restore` takes."""
        self.start_main()
        saved = self.active, self.push
        if isinstance(pred, Expr):
            pred = pred != 0
        if isinstance(pred, Pred):
            if pred.domain is not self.dom:
                raise TraceError("this condition belongs to another kernel; take it from the k of this one")
            key = (self.active, pred.terms)
            found = self._whens.get(key)
            if found is None:
                found = self._whens[key] = self._narrow(pred)
            self.active = found
        elif isinstance(pred, bool | np.bool_):
            if not pred:
                self.active = self.active._replace(dead=True)
        else:
            raise TraceError(f"k.when takes a comparison of node values or loop indices, not {pred!r}")
        if self.active.dead:
            self.push = _drop
        return saved

    def restore(self, saved: Saved) -> None:
        """Restore the predicate of the enclosing block."""
        self.active, self.push = saved

    def _narrow(self, pred: Pred) -> Active:
        carried, terms = list(self.active.carried), list(self.active.terms)
        for term in pred.terms:
            verdict = self._decide(*term)
            if verdict is False:
                return self.active._replace(dead=True)
            if verdict is None and term not in carried:
                carried.append(term)
                terms.append(term)
        if len(carried) > w.PRED_TERMS:
            carried = self._fold(carried)
        pid = self.tables.preds.id(tuple((self.eid(s), c, relation) for c, s, relation in carried))
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
                f"{len(kept)} conditions on loop indices are in force here, and a predicate holds {w.PRED_TERMS}; "
                "nest fewer k.when, or use range()"
            )
        value = self.dom.column(Pred(tuple(fixed)).mask().astype(np.int64))
        if isinstance(value, int):
            return kept if value else [*kept, (1, self.dom.zero, w.REL_EQ)]
        return [*kept, (0, value, w.REL_NE)]

    # --- loops ------------------------------------------------------------------------------------------------------
    def enter_loop(self, loop: HardwareLoop) -> tuple[Expr, int, Saved]:
        """Open a hardware loop: emit its first row; return index, position of the row and what to restore."""
        self.start_main()
        limit = min(self.chip.node.loop_depth, w.DEPTHS)
        if len(self.loops) >= limit:
            raise TraceError(
                f"this k.loop is nested {len(self.loops) + 1} deep, and the machine nests {limit}; use range() inside"
            )
        saved = self.active, self.push
        loop.depth, loop.open, loop.name = len(self.loops), True, "ijkl"[len(self.loops)]
        begin, trips = len(self.rows), loop.trips
        c, s = (trips.c, trips.s) if isinstance(trips, Expr) else (trips, self.dom.zero)
        if not loop.dead:
            self.push((LOOP, self.active.pid, self.line(sys._getframe(1)), c, self.eid(s), *(0,) * 11))
        index = Expr(0, self.dom.sym((), ((loop, 1, 1, 0, 0),)))
        terms = self.active.terms
        if isinstance(trips, Expr):
            left = index - trips
            if isinstance(left, Expr):
                terms = (*terms, (left.c, left.s, w.REL_LT))
        # A loop whose predicate fails skips its body, so rows inside need not carry the predicate again.
        self.active = Active(0, (), terms, loop.dead)
        if loop.dead:
            self.push = _drop
        self.loops.append(loop)
        return index, begin, saved

    def exit_loop(self, loop: HardwareLoop, saved: Saved) -> None:
        """Close the innermost loop."""
        self.loops.pop()
        loop.open = False
        self.restore(saved)

    def leave_to(self, loop: HardwareLoop | None) -> None:
        """Check that no loop inside `loop` was left by break, return or an unfinished iterator."""
        inner = self.loops[-1] if self.loops else None
        if inner is not None and inner is not loop:
            raise TraceError(
                "a k.loop is left before its end, and the machine has no break; use range(), or a k.when inside",
                at=inner.at,
            )

    # --- interning ----------------------------------------------------------------------------------------------------
    def eid(self, s: Sym) -> int:
        """Return the expression id of a symbol, checked to be of this trace and of loops that are open."""
        for term in s.loops:
            if not term[0].open:
                raise TraceError(
                    f"the loop index '{term[0].name}' is used after its loop has ended; use it inside only"
                )
        if s.dom is not self.dom:
            raise TraceError("a value of another kernel is used here; take it from the k of this one")
        return s.eid

    def code_of(self, dtype: str) -> int:
        """Return the code of a number format."""
        found = self._codes.get(dtype)
        if found is None:
            found = self._codes[dtype] = fmt(dtype).code
        return found

    def layout(
        self, like: Layout, shape: tuple[int, ...], strides: tuple[int, ...], guard: tuple[Term, ...] = (),
        more: tuple[int, int, int, int] | None = None,
    ) -> Layout:  # fmt: skip
        """Return the layout of this shape over the same buffer or tensor, the same object every time."""
        guard = tuple(dict.fromkeys(like.guard + guard))
        more = like.more if more is None else more
        key = (like.space, like.obj, shape, strides, guard, more)
        found = self._layouts.get(key)
        if found is None:
            found = Layout(self, like.space, like.obj, like.name, like.dtype, like.esize, shape, strides, more)
            found.guard = guard
            self._layouts[key] = found
        return found
