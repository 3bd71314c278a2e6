"""`k`: everything a kernel may say; each call checks its operands for all nodes of the role and emits one row."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

from accel.errors import BoundsError, CapacityError, TraceError
from accel.hardware import ChipSpec
from accel.isa import layout as w
from accel.isa import table
from accel.isa.program import Buffer as BufferRow
from accel.isa.program import Semaphore
from accel.lang.expr import Domain, Expr, Int, Pred
from accel.lang.fifo import Fifo, Slot
from accel.lang.loop import HardwareLoop, When
from accel.lang.matrix import matmul_views
from accel.lang.moves import copy_views, shard_views
from accel.lang.sync import Sem, SemRef, Target
from accel.lang.tables import Tables
from accel.lang.tracer import SRAM_ALIGN, Tracer, checked_shape
from accel.lang.vector import Vec
from accel.lang.views import Buffer, Layout, TensorRef, View
from accel.numerics import fmt, require

__all__ = ["K"]

Fn = TypeVar("Fn", bound=Callable[[], object])
To = Target | tuple[Int, Int]
COPY, MATMUL, WAIT, INC = (table.opcode(name) for name in ("copy", "matmul", "wait", "inc"))
BARRIER, MARK = table.opcode("barrier"), table.opcode("mark")
_getframe = sys._getframe


class K(Tracer):
    """The machine as a kernel sees it: one node's view of the mesh.

    mesh: (rows, cols) of the program. row, col: this node's place, an expression that differs between nodes.
    vec: the vector instructions. Every instruction method takes its destination first and returns nothing.
    """

    def __init__(self, chip: ChipSpec, domain: Domain, tables: Tables, mesh: tuple[int, int], budget: int) -> None:
        super().__init__(chip, domain, tables, mesh, budget)
        self.vec = Vec(self)
        self._copies: dict[tuple[Layout, Layout], tuple[int, int, int]] = {}
        self._matmuls: dict[tuple[Layout, Layout, Layout, bool, bool], tuple[int, int, int]] = {}
        self._known: dict[str, Target] = {}
        self.slots: list[Slot] = []
        self.resident: list[bool] = []

    # --- where am I ---------------------------------------------------------------------------------------------------
    @property
    def mesh(self) -> tuple[int, int]:
        """Return (rows, cols) of the mesh of nodes, as ints."""
        return self.shape

    @property
    def row(self) -> Expr:
        """Return this node's row, 0 at the north."""
        return self.dom.row

    @property
    def col(self) -> Expr:
        """Return this node's column, 0 at the west."""
        return self.dom.col

    @property
    def nodes(self) -> int:
        """Return the number of nodes of the mesh."""
        return self.shape[0] * self.shape[1]

    # --- allocation ---------------------------------------------------------------------------------------------------
    def sram(self, shape: int | tuple[int, ...], dtype: str, name: str | None = None) -> Buffer:
        """Allocate SRAM at one place on every node, for the whole program; contents are undefined at the start.

        shape in elements, dtype a format name. Raises CapacityError with the allocation map when it does not fit.
        """
        name = f"buffer{len(self.trace.buffers)}" if name is None else name
        self._allocating(f"buffer {name!r}")
        dims = checked_shape(f"buffer {name!r}", shape)
        item = require(dtype).bits // 8
        strides = [item]
        for n in reversed(dims):
            strides.append(strides[-1] * n)
        size, offset = strides.pop(), -(-self.trace.sram_bytes // SRAM_ALIGN) * SRAM_ALIGN
        free = self.chip.node.sram_bytes - offset
        if size > free:
            raise CapacityError(
                f"SRAM overflow: {name!r} {dims} in {dtype} needs {size:,} B, {max(free, 0):,} B are free of "
                f"{self.chip.node.sram_bytes:,}; use smaller tiles or fewer slots",
                allocation_map=self.allocation_map(),
            )
        if any(b.name == name for b in self.trace.buffers):
            raise TraceError(f"two buffers are named {name!r}; give each its own name")
        obj = len(self.trace.buffers)
        at = self.tables.lines.location(_getframe(1))
        self.trace.buffers.append(BufferRow(name, fmt(dtype).name, dims, offset, size, at))
        self.trace.sram_bytes = offset + size
        lay = Layout(self, w.SPACE_SRAM, obj, name, fmt(dtype).name, item, dims, tuple(reversed(strides)))
        return Buffer(lay, offset, self.dom.zero)

    def sem(self, n: int = 1, name: str | None = None, init: int = 0) -> Sem:
        """Allocate `n` counting semaphores on every node, each starting at `init`; CapacityError if there are too few."""
        if isinstance(n, str):
            raise TraceError(f"k.sem({n!r}): the first argument is how many; write k.sem(name={n!r})")
        index = sum(s.count for s in self.trace.semaphores)
        name = f"sem{len(self.trace.semaphores)}" if name is None else name
        self._allocating(f"semaphore {name!r}")
        n, init = operator.index(n), operator.index(init)
        top = (1 << self.chip.node.semaphore_bits) - 1
        if n < 1 or not 0 <= init <= top:
            raise TraceError(f"semaphore {name!r}: n = {n}, init = {init}; n is at least 1 and init from 0 to {top}")
        if index + n > self.chip.node.semaphores:
            raise CapacityError(
                f"semaphore {name!r} needs {n}, {self.chip.node.semaphores - index} are free of {self.chip.node.semaphores} "
                f"on a node of {self.chip.name!r}; share one where waits are ordered anyway"
            )
        if any(s.name == name for s in self.trace.semaphores):
            raise TraceError(f"two semaphores are named {name!r}; give each its own name")
        at = self.tables.lines.location(_getframe(1))
        self.trace.semaphores.append(Semaphore(name, index, n, init, at))
        return Sem(self, name, index, n)

    def fifo(self, shape: int | tuple[int, ...], dtype: str, depth: int = 2, name: str = "fifo", tokens: int = 1) -> Fifo:
        """Allocate a queue of `depth` slots between two threads of this node; see `Fifo`."""
        return Fifo(self, self.sram((depth, *checked_shape(f"fifo {name!r}", shape)), dtype, name), depth, tokens)

    def _allocating(self, what: str) -> None:
        if self.loops:
            raise TraceError(f"{what} is allocated inside a k.loop; allocate before the loop")
        self._open()

    def _open(self) -> None:
        if self.push == self._closed:
            self._closed(())

    # --- structure ------------------------------------------------------------------------------------------------
    def thread(self, fn: Fn) -> Fn:
        """Decorate a function without arguments: its instructions become a thread of every node; it is traced now."""
        self._open()
        self.run_thread(fn)
        return fn

    def when(self, pred: Pred | Expr | bool) -> When:
        """Return a context: instructions inside take effect only on nodes (and trips) where `pred` holds.

        The instructions still cost their issue cycles everywhere; `if` instead makes separate programs (roles).
        """
        return When(self, pred)

    def loop(self, trips: Int) -> Iterator[int | Expr]:
        """Iterate a hardware loop: the body is emitted once, the index is an expression for addresses and predicates.

        trips may differ between nodes. The body is traced twice and compared; at most `node.loop_depth` deep.
        """
        at = self.tables.lines.location(_getframe(1))
        if isinstance(trips, Expr):
            low, most, where = self.extremes(trips)
        else:
            trips = low = most = operator.index(trips)
            where = ""
        if low < 0:
            raise TraceError(f"k.loop({trips}) makes {low} trips{where}; the number of trips is at least 0")
        return cast("Iterator[int | Expr]", HardwareLoop(self, trips, most, at))

    def mark(self, name: str) -> None:
        """Name the phase that follows, for profiles; costs nothing."""
        self.push((MARK, self.active.pid, self.line(_getframe(1)), self.tables.marks.id(str(name)), *(0,) * 12))

    # --- targets --------------------------------------------------------------------------------------------------
    def row_nodes(self) -> Target:
        """Return all nodes of this node's row."""
        return self._known.get("row") or self._keep("row", self.dom.row, self.dom.row, 0, self.shape[1] - 1)

    def col_nodes(self) -> Target:
        """Return all nodes of this node's column."""
        return self._known.get("col") or self._keep("col", 0, self.shape[0] - 1, self.dom.col, self.dom.col)

    def all_nodes(self) -> Target:
        """Return all nodes of the mesh."""
        return self._known.get("all") or self._keep("all", 0, self.shape[0] - 1, 0, self.shape[1] - 1)

    def rect(self, r0: Int, r1: Int, c0: Int, c1: Int) -> Target:
        """Return the nodes of rows r0 <= row < r1 and columns c0 <= col < c1; each may be a per-node expression."""
        return Target(self, self._rectangle(r0, r1 - 1, c0, c1 - 1), f"k.rect({r0}, {r1}, {c0}, {c1})")

    def _keep(self, name: str, r0: Int, r1: Int, c0: Int, c1: Int) -> Target:
        made = self._known[name] = Target(self, self._rectangle(r0, r1, c0, c1), f"k.{name}_nodes()")
        return made

    def _rectangle(self, *edges: Int) -> int:
        """Return the id of an inclusive rectangle, checked to lie in the mesh on every node it is used on."""
        words: list[int] = []
        for edge, size, what in zip(edges, (*[self.shape[0]] * 2, *[self.shape[1]] * 2), ("row",) * 2 + ("column",) * 2, strict=True):
            if isinstance(edge, Expr):
                low, high = edge.c + edge.s.lo, edge.c + edge.s.hi
                words += (edge.c, self.eid(edge.s))
            else:
                low = high = operator.index(edge)
                words += (low, 0)
            if (low < 0 or high >= size) and not self.active.dead:
                low, high, where = self.extremes(edge) if isinstance(edge, Expr) else (low, high, "")
                if low < 0 or high >= size:
                    raise BoundsError(
                        f"the target reaches {what} {low if low < 0 else high}{where}, and the mesh is {self.shape[0]} x "
                        f"{self.shape[1]}; take it modulo the mesh, or leave border nodes out with k.when or if"
                    )
        for first, last in (edges[:2], edges[2:]):
            if first is not last:
                size = last - first
                if (self.extremes(size)[0] if isinstance(size, Expr) else size) < 0 and not self.active.dead:
                    raise TraceError(f"the target holds no node: it runs from {first} to before {last + 1}; a target holds at least one")
        return self.tables.targets.id(tuple(words))

    def target(self, to: To) -> int:
        """Return the id of what `to=` or `at=` was given."""
        if isinstance(to, Target):
            if to.tracer is not self:
                raise TraceError(f"{to} belongs to another kernel; take targets from the k of this one")
            return to.id
        if not isinstance(to, tuple) or len(to) != 2:
            raise TraceError(f"a target is (row, col), k.row_nodes(), k.col_nodes(), k.all_nodes() or k.rect(...), not {to!r}")
        r, c = to
        key = (r.c, r.s, 0) if isinstance(r, Expr) else (r,)
        key += (c.c, c.s) if isinstance(c, Expr) else (c,)  # type: ignore[assignment]
        found = self._targets.get(key)
        if found is None:
            found = self._rectangle(r, r, c, c)
            if not self.active.terms and not self.active.dead:
                self._targets[key] = found
        return found

    # --- synchronisation ------------------------------------------------------------------------------------------
    def semaphore(self, sem: Sem | SemRef) -> SemRef:
        """Return the one semaphore meant."""
        if isinstance(sem, Sem):
            sem = sem.single
        if not isinstance(sem, SemRef):
            raise TraceError(f"a semaphore is wanted here, not {sem!r}; allocate one with k.sem()")
        if sem.tracer is not self:
            raise TraceError("this semaphore belongs to another kernel; allocate it with the k of this one")
        return sem

    def _count(self, what: str, n: Int) -> tuple[int, int]:
        """Return constant and expression id of a token count, at least 1 and no more than a semaphore counts."""
        top = (1 << self.chip.node.semaphore_bits) - 1
        if isinstance(n, Expr):
            low, high, where = self.extremes(n)
        else:
            low = high = operator.index(n)
            where = ""
        if (low < 1 or high > top) and not self.active.dead:
            raise TraceError(f"{what} of {low if low < 1 else high} tokens{where}; a count is from 1 to {top}")
        return (n.c, self.eid(n.s)) if isinstance(n, Expr) else (low, 0)

    def wait(self, sem: Sem | SemRef, n: Int = 1) -> None:
        """Block until the semaphore counts at least `n`, then take n."""
        if sem.__class__ is not SemRef or sem.tracer is not self:
            sem = self.semaphore(sem)
        c, e = (1, 0) if n.__class__ is int and n == 1 else self._count("k.wait", n)
        s = sem.s  # type: ignore[union-attr]
        self.push((
            WAIT, self.active.pid, self.line(_getframe(1)), sem.c, self.eid(s) if s.loops else s.eid, c, e,  # type: ignore[union-attr]
            0, 0, 0, 0, 0, 0, 0, 0, 0,
        ))  # fmt: skip

    def inc(self, sem: Sem | SemRef, n: Int = 1, at: To | None = None) -> None:
        """Add `n` to the semaphore of this node, or of every node of `at`. It may overtake a copy: use done= for data."""
        if sem.__class__ is not SemRef or sem.tracer is not self:
            sem = self.semaphore(sem)
        c, e = (1, 0) if n.__class__ is int and n == 1 else self._count("k.inc", n)
        s = sem.s  # type: ignore[union-attr]
        self.push((
            INC, self.active.pid, self.line(_getframe(1)), sem.c, self.eid(s) if s.loops else s.eid, c, e,  # type: ignore[union-attr]
            0 if at is None else self.target(at), 0, 0, 0, 0, 0, 0, 0, 0,
        ))  # fmt: skip

    def barrier(self, to: To | None = None) -> None:
        """Block until one thread of every node (of the mesh, or of the rectangle `to`) has arrived."""
        target = w.TARGET_ALL if to is None else self.target(to)
        self.push((BARRIER, self.active.pid, self.line(_getframe(1)), target, *(0,) * 12))

    # --- data -----------------------------------------------------------------------------------------------------
    def copy(self, dst: View, src: View, to: To | None = None, done: Sem | SemRef | None = None,
             sent: Sem | SemRef | None = None) -> None:  # fmt: skip
        """Start an asynchronous copy: memory to SRAM, SRAM to SRAM, or SRAM to memory; formats and shapes are equal.

        to: the nodes whose SRAM receives it, each at the same address (default: this one). done fires at every
        destination once its bytes are visible (for memory: here, after the acknowledgement); sent fires here when
        the source may be overwritten. Nothing else orders a copy with anything.
        """
        try:
            vd, vs, kind = self._copies[dst.lay, src.lay]
        except (KeyError, AttributeError):
            vd, vs, kind = self._first_copy(dst, src)
        if self.slots:
            done, sent = self._slot(dst, src, done, sent)
        d, s = dst.s, src.s
        target, dc, de, sc, se = 0, -1, 0, -1, 0
        if to is not None:
            if kind == 2:
                raise TraceError(f"a copy to the tensor {dst.lay.name!r} has no other node to go to; leave out to=")
            target = self.target(to)
        if done is not None:
            if done.__class__ is not SemRef or done.tracer is not self:
                done = self.semaphore(done)
            dc, de = done.c, self.eid(done.s) if done.s.loops else done.s.eid  # type: ignore[union-attr]
        if sent is not None:
            if sent.__class__ is not SemRef or sent.tracer is not self:
                sent = self.semaphore(sent)
            sc, se = sent.c, self.eid(sent.s) if sent.s.loops else sent.s.eid  # type: ignore[union-attr]
        self.push((
            COPY, self.active.pid, self.line(_getframe(1)), vd, dst.c, self.eid(d) if d.loops else d.eid,
            vs, src.c, self.eid(s) if s.loops else s.eid, target, dc, de, sc, se, 0, 0,
        ))  # fmt: skip

    def _first_copy(self, dst: View, src: View) -> tuple[int, int, int]:
        found = copy_views(self, dst, src)
        if not self.active.dead:  # a dropped copy does not count as a read or a store of its tensor
            self._copies[dst.lay, src.lay] = found
        return found

    def _slot(self, dst: View, src: View, done: Sem | SemRef | None, sent: Sem | SemRef | None) -> tuple[
        Sem | SemRef | None, Sem | SemRef | None
    ]:
        for slot in self.slots:
            done, sent = slot.adopt(dst, src, done, sent)
        return done, sent

    def matmul(self, acc: View, a: View, b: View, accumulate: bool = False, trans_a: bool = False, trans_b: bool = False) -> None:
        """acc = a @ b, or acc += a @ b: fp32 chains with k ascending; acc (m, n) fp32, a (m, k), b (k, n) in SRAM.

        trans_a, trans_b: the operand is stored (k, m), (n, k). Each of M, N, K may take two dimensions, outer first:
        acc (m1, m0, n), a (m1, m0, k), b (k, n) - which is told from the ranks.
        """
        try:
            key = (acc.lay, a.lay, b.lay, trans_a, trans_b)
        except AttributeError:
            bad = next(x for x in (acc, a, b) if not isinstance(x, View))
            raise TraceError(f"k.matmul takes views of SRAM buffers, not {bad!r}; index a k.sram buffer") from None
        ids = self._matmuls.get(key)
        if ids is None:
            for lay in key[:3]:
                self.own(lay)
            ids = self._matmuls[key] = matmul_views(self.chip, acc.lay, a.lay, b.lay, bool(trans_a), bool(trans_b))
        d, x, y = acc.s, a.s, b.s
        if accumulate.__class__ is not bool:
            accumulate = bool(accumulate)
        self.push((
            MATMUL, self.active.pid, self.line(_getframe(1)), ids[0], acc.c, self.eid(d) if d.loops else d.eid,
            ids[1], a.c, self.eid(x) if x.loops else x.eid, ids[2], b.c, self.eid(y) if y.loops else y.eid,
            1 if accumulate else 0, 0, 0, 0,
        ))  # fmt: skip

    def patch_sent(self, sem: SemRef) -> bool:
        """Give the last row, if it is a copy without `sent`, this semaphore to fire; return whether it was."""
        if self.active.dead:
            return True
        row = self.rows[-1]
        if row[0] != COPY or row[12] != -1:
            return False
        self.rows[-1] = (*row[:12], sem.c, self.eid(sem.s), *row[14:])
        return True

    def own(self, lay: Layout) -> None:
        """Check that a view is of this kernel."""
        if lay.tracer is not self:
            raise TraceError(f"{lay.name!r} belongs to another kernel; use the buffers and tensors of this one")

    # --- resident tensors -----------------------------------------------------------------------------------------
    def preload(self, buffer: View, tensor: View) -> None:
        """Say that this part of a resident tensor already lies in `buffer` when the program starts; takes no time."""
        self._shard(w.DIR_PRELOAD, buffer, tensor)

    def collect(self, tensor: View, buffer: View) -> None:
        """Say that this part of a resident tensor lies in `buffer` when the program has ended; takes no time."""
        self._shard(w.DIR_COLLECT, tensor, buffer)

    def _shard(self, direction: int, dst: View, src: View) -> None:
        self._open()
        what = "k.preload" if direction == w.DIR_PRELOAD else "k.collect"
        if self._thread is not None or self.loops or self.active.terms or self.active.dead:
            raise TraceError(f"{what} is not an instruction; call it outside threads, k.loop and k.when")
        vd, vs = shard_views(self, what, direction, dst, src)
        line = self.line(_getframe(2))
        self.trace.shards.append((direction, vd, dst.c, self.eid(dst.s), vs, src.c, self.eid(src.s), line))


def tensor_ref(k: K, index: int, name: str, shape: tuple[int, ...], dtype: str, address: int, resident: bool) -> TensorRef:
    """Return the handle of a tensor argument at a byte address of the chip's memory."""
    item = fmt(dtype).bits // 8
    strides = [item]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * n)
    lay = Layout(k, w.SPACE_MEMORY, index, name, dtype, item, shape, tuple(reversed(strides)))
    return TensorRef(lay, address, k.dom.zero, resident)
