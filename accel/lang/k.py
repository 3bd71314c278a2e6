"""`k`: everything a kernel may say; each call checks its operands for all nodes of the role and emits one row."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from accel.errors import TraceError, nearest
from accel.isa import layout as w
from accel.isa import table
from accel.isa.fitting import NARROW
from accel.lang.allocation import allocate_buffer, allocate_semaphores, checked_shape
from accel.lang.emission import Element, element
from accel.lang.expr import Expr, Int
from accel.lang.fifo import Fifo, Slot
from accel.lang.loop import HardwareLoop, When
from accel.lang.matrix import matmul_views, rounded_sums
from accel.lang.moves import STORE, copy_views, own, pull_views, shard_views
from accel.lang.pred import Pred
from accel.lang.reach import extremes
from accel.lang.sync import (
    Sem,
    SemRef,
    Target,
    To,
    one_node,
    one_semaphore,
    rectangle,
    target_id,
    token_count,
)  # fmt: skip
from accel.lang.tracer import Tracer
from accel.lang.vector import Vec
from accel.lang.views import Buffer, Layout, View

__all__ = ["K"]

Fn = TypeVar("Fn", bound=Callable[[], object])
COPY, MATMUL, WAIT, INC = (table.opcode(name) for name in ("copy", "matmul", "wait", "inc"))
BARRIER, MARK, PROBE, PULL = (table.opcode(name) for name in ("barrier", "mark", "probe", "pull"))
SENT = table.BY_MNEMONIC["copy"].word("sent")
frame = sys._getframe  # inspect.stack reads source files and is a thousand times slower


class K:
    """The machine as a kernel sees it: one node's view of the mesh.

    `vec` holds the vector instructions. Every instruction takes its destination first and returns nothing. Words are
    emitted in the order of the instruction table, spelled out where a call is frequent; tests decode every one.
    """

    __slots__ = ("_col", "_copies", "_fixed", "_matmuls", "_row", "_slots", "_t", "vec")

    def __init__(self, tracer: Tracer) -> None:
        self._t = tracer
        self.vec = Vec(tracer)
        self._copies: dict[tuple[Layout, Layout], tuple[int, int, int]] = {}
        self._matmuls: dict[tuple[Layout, Layout, Layout, bool, bool], tuple[int, int, int]] = {}
        self._fixed: dict[str, Target] = {}
        self._slots: list[Slot] = []
        self._row, self._col = Expr(0, tracer.dom.row), Expr(0, tracer.dom.col)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = [n for n in vars(K) if not (n.startswith("_") or n in ("patch_sent", "track", "in_loop"))]
        hint = f"; use k.vec.{name}" if name in vars(Vec) else nearest(name, known)
        raise TraceError(f"k has no {name!r}; it has {', '.join(known)}{hint}")

    # --- where am I -------------------------------------------------------------------------------------------------
    @property
    def mesh(self) -> tuple[int, int]:
        """Return (rows, cols) of the mesh of nodes, as ints."""
        return self._t.mesh

    @property
    def nodes(self) -> int:
        """Return the number of nodes of the mesh."""
        return self._t.mesh[0] * self._t.mesh[1]

    @property
    def row(self) -> Expr:
        """Return this node's row, 0 at the north: an expression that differs between nodes."""
        return self._row

    @property
    def col(self) -> Expr:
        """Return this node's column, 0 at the west: an expression that differs between nodes."""
        return self._col

    # --- allocation -------------------------------------------------------------------------------------------------
    def sram(
        self, shape: int | tuple[int, ...], dtype: str, name: str | None = None, *, bias: int | View | None = None,
        denormals: str = "gap",
    ) -> Buffer:  # fmt: skip
        """Allocate SRAM at one place on every node, for the whole program; contents are undefined at the start.

        shape in elements, dtype a format name. bias and denormals as in `accel.tensor`; a bias may also be a
        one-element uint8 buffer, which is read whenever the codes are. CapacityError, with the allocation map, when it
        does not fit.
        """
        at = self._t.tables.lines.location(frame(1))
        return allocate_buffer(self._t, shape, dtype, name, at, bias, denormals)

    def sem(self, n: int = 1, name: str | None = None, init: int = 0) -> Sem:
        """Allocate `n` counting semaphores on every node, each starting at `init`; CapacityError beyond the node's.

        name: what findings and listings call them. With n above 1 they are `sem[0]` to `sem[n - 1]`.
        """
        return allocate_semaphores(self._t, n, name, init, self._t.tables.lines.location(frame(1)))

    def fifo(
        self, shape: int | tuple[int, ...], dtype: str, depth: int = 2, name: str = "fifo", tokens: int = 1
    ) -> Fifo:
        """Allocate a queue of `depth` slots between two threads of this node; see `Fifo`.

        shape: of one slot in elements, in format dtype; name: of its buffer and semaphores; tokens: how many copies
        fill a slot. CapacityError where SRAM or semaphores do not suffice.
        """
        slots = self.sram(
            (*checked_shape(f"fifo {name!r}", depth), *checked_shape(f"fifo {name!r}", shape)), dtype, name
        )
        return Fifo(self, slots, tokens)

    # --- structure --------------------------------------------------------------------------------------------------
    def thread(self, fn: Fn) -> Fn:
        """Decorate `fn`, without arguments: its instructions are a thread of every node. It is traced at once.

        A kernel that declares no thread runs as one, called "main".
        """
        self._t.run_thread(fn)
        return fn

    def when(self, pred: Pred | Expr | bool) -> When:
        """Return a context: instructions inside take effect only on the nodes (and trips) where `pred` holds.

        They cost their issue cycles everywhere; `if` instead makes separate programs (roles). A `pred` that is False
        on all nodes drops them. Conditions nest as "and"; on node values `&`, `|` and `~` combine them.
        """
        return When(self._t, pred)

    def loop(self, trips: Int) -> Iterator[Expr]:
        """Iterate a hardware loop: the body is emitted once; the index is for addresses, semaphores and `k.when`.

        trips may differ between nodes. The body is traced twice and compared; loops nest `node.loop_depth` deep.
        """
        t = self._t
        t.check_open()
        if isinstance(trips, Expr):
            low, most, where = extremes(t, trips)
        else:
            trips = low = most = operator.index(trips)
            where = ""
        if low < 0 and not t.active.dead:
            raise TraceError(f"k.loop({trips}) makes {low} trips{where}; the number of trips is at least 0")
        return HardwareLoop(t, trips, max(most, 0), t.tables.lines.location(frame(1)))

    def element(self, shape: tuple[int, ...], *origin: Int) -> Element:
        """Return the logical index of element `origin` of a whole tensor of this shape, for random numbers and iota.

        `index=k.element(c.shape, k.row * bm, k.col * bn)` counts the elements of a tile as the tensor counts them, so
        that results do not depend on the tiling.
        """
        return element(shape, origin)

    def probe(self, view: View, name: str) -> None:
        """Hand the contents of an SRAM view to `run(probes=...)` under a name; costs nothing and changes nothing."""
        t = self._t
        given: object = view
        if not isinstance(given, View) or view.lay.space != w.SPACE_SRAM:
            raise TraceError(f"k.probe looks at a view of a k.sram buffer, not {given!r}; write k.probe(view, name)")
        own(t, view.lay)
        mark = t.tables.marks.id(str(name))
        t.push((PROBE, t.active.pid, t.line(frame(1)), view.lay.plain(), view.c, t.eid(view.s), mark, *(0,) * 9))

    def mark(self, name: str) -> None:
        """Call the phase that follows `name`, for profiles; costs nothing."""
        t = self._t
        t.push((MARK, t.active.pid, t.line(frame(1)), t.tables.marks.id(str(name)), *(0,) * 12))

    # --- targets ----------------------------------------------------------------------------------------------------
    def row_nodes(self) -> Target:
        """Return all nodes of this node's row."""
        return self._fixed.get("row") or self._fix("row", self.row, self.row, 0, self._t.mesh[1] - 1)

    def col_nodes(self) -> Target:
        """Return all nodes of this node's column."""
        return self._fixed.get("col") or self._fix("col", 0, self._t.mesh[0] - 1, self.col, self.col)

    def all_nodes(self) -> Target:
        """Return all nodes of the mesh."""
        return self._fixed.get("all") or self._fix("all", 0, self._t.mesh[0] - 1, 0, self._t.mesh[1] - 1)

    def rect(self, r0: Int, r1: Int, c0: Int, c1: Int) -> Target:
        """Return the nodes of rows r0 <= row < r1 and columns c0 <= col < c1; each may differ between nodes."""
        index, limits = rectangle(self._t, r0, r1 - 1, c0, c1 - 1)
        return Target(self._t, index, f"k.rect({r0}, {r1}, {c0}, {c1})", limits)

    def _fix(self, name: str, r0: Int, r1: Int, c0: Int, c1: Int) -> Target:
        made = self._fixed[name] = Target(self._t, rectangle(self._t, r0, r1, c0, c1)[0], f"k.{name}_nodes()")
        return made

    # --- synchronisation --------------------------------------------------------------------------------------------
    def wait(self, sem: Sem | SemRef, n: Int = 1) -> None:
        """Block until `sem` of this node counts at least `n`, then take n (at least 1)."""
        t = self._t
        if not (isinstance(sem, SemRef) and sem.tracer is t):
            sem = one_semaphore(t, sem)
        c, e = (1, 0) if n.__class__ is int and n == 1 else token_count(t, "k.wait", n)
        s = sem.s
        t.push((
            WAIT, t.active.pid, t.line(frame(1)), sem.c, t.eid(s) if s.loops else s.eid, c, e,
            0, 0, 0, 0, 0, 0, 0, 0, 0,
        ))  # fmt: skip

    def inc(self, sem: Sem | SemRef, n: Int = 1, at: To | None = None) -> None:
        """Add `n` to `sem` of this node, or of every node of `at`; it may overtake a copy, done= may not."""
        t = self._t
        if not (isinstance(sem, SemRef) and sem.tracer is t):
            sem = one_semaphore(t, sem)
        c, e = (1, 0) if n.__class__ is int and n == 1 else token_count(t, "k.inc", n)
        s = sem.s
        t.push((
            INC, t.active.pid, t.line(frame(1)), sem.c, t.eid(s) if s.loops else s.eid, c, e,
            0 if at is None else target_id(t, at), 0, 0, 0, 0, 0, 0, 0, 0,
        ))  # fmt: skip

    def barrier(self, to: To | None = None) -> None:
        """Block until one thread of every node (of the mesh, or of the rectangle `to`) has arrived."""
        t = self._t
        target = w.TARGET_ALL if to is None else target_id(t, to)
        t.push((BARRIER, t.active.pid, t.line(frame(1)), target, *(0,) * 12))

    # --- data -------------------------------------------------------------------------------------------------------
    def copy(
        self, dst: View, src: View, to: To | None = None, done: Sem | SemRef | None = None,
        sent: Sem | SemRef | None = None,
    ) -> None:  # fmt: skip
        """Start an asynchronous copy: memory to SRAM, SRAM to SRAM, or SRAM to memory; formats and shapes are equal.

        dst, src: views of a buffer or a tensor, of equal format and, up to dimensions of 1, equal shape. to: the nodes
        whose SRAM receives it, each at the same address (default: this one). done fires at every destination once its
        bytes are visible (for memory: here, after the acknowledgement); sent fires here when the source may be
        overwritten. Nothing else orders a copy with anything.
        """
        t = self._t
        try:
            vd, vs, kind = self._copies[dst.lay, src.lay]
        except (KeyError, AttributeError):
            vd, vs, kind = self._first_copy(dst, src)
        if self._slots:
            for slot in self._slots:
                done, sent = slot.adopt(dst, src, done, sent)
        d, s = dst.s, src.s
        target, dc, de, sc, se = w.TARGET_SELF, -1, 0, -1, 0
        if to is not None:
            if kind == STORE:
                raise TraceError(f"a copy to the tensor {dst.lay.name!r} has no other node to go to; leave out to=")
            target = target_id(t, to)
        if done is not None:
            if not (isinstance(done, SemRef) and done.tracer is t):
                done = one_semaphore(t, done)
            dc, de = done.c, t.eid(done.s) if done.s.loops else done.s.eid
        if sent is not None:
            if not (isinstance(sent, SemRef) and sent.tracer is t):
                sent = one_semaphore(t, sent)
            sc, se = sent.c, t.eid(sent.s) if sent.s.loops else sent.s.eid
        t.push((
            COPY, t.active.pid, t.line(frame(1)), vd, dst.c, t.eid(d) if d.loops else d.eid,
            vs, src.c, t.eid(s) if s.loops else s.eid, target, dc, de, sc, se, 0, 0,
        ))  # fmt: skip

    def pull(
        self, dst: View, src: View, of: To, done: Sem | SemRef | None = None, sent: Sem | SemRef | None = None
    ) -> None:
        """Start an asynchronous copy from the SRAM of the node `of` to this one; formats and shapes are equal.

        done fires here once dst is visible, sent fires at the node `of` when it may overwrite src. Nothing else orders
        a pull with anything: what `of` writes to src must be known to be there.
        """
        t = self._t
        vd, vs = pull_views(t, dst, src)
        words = [PULL, t.active.pid, t.line(frame(1)), vd, dst.c, t.eid(dst.s), vs, src.c, t.eid(src.s)]
        words.append(one_node(t, "k.pull", of))
        for sem in (done, sent):
            one = None if sem is None else one_semaphore(t, sem)
            words += (-1, 0) if one is None else (one.c, t.eid(one.s))
        t.push((*words, *(0,) * (w.CODE_WORDS - len(words))))

    def _first_copy(self, dst: View, src: View) -> tuple[int, int, int]:
        found = copy_views(self._t, dst, src)
        # A dropped copy is no read or store of its tensor, and a guarded view is checked at every use.
        if not (self._t.active.dead or dst.lay.guard or src.lay.guard):
            self._copies[dst.lay, src.lay] = found
        return found

    def patch_sent(self, sem: SemRef) -> bool:
        """Let the last row, if it is a copy without `sent`, fire this semaphore; return whether it was one."""
        t = self._t
        if t.active.dead:
            return True
        row = t.rows[-1]
        if row[0] != COPY or row[SENT] != -1:
            return False
        t.rows[-1] = (*row[:SENT], sem.c, t.eid(sem.s), *row[SENT + 2 :])
        return True

    def track(self, slot: Slot, entered: bool) -> None:
        """Note that a block of a fifo begins or ends: copies inside it may need its semaphores."""
        (self._slots.append if entered else self._slots.remove)(slot)

    @property
    def in_loop(self) -> bool:
        """Return whether a hardware loop is open."""
        return bool(self._t.loops)

    def matmul(
        self, acc: View, a: View, b: View, accumulate: bool = False, trans_a: bool = False, trans_b: bool = False
    ) -> None:
        """acc = a @ b, or acc += a @ b: chains with k ascending; acc (m, n), a (m, k), b (k, n), all in SRAM.

        a and b in a format of the matrix unit, acc in fp32; int8 and uint8 into int32. accumulate: start from what acc
        holds instead of +0. Without it acc may be in a format of the chip's `node.matrix.output_formats`: the fp32
        sums are rounded once, to nearest even. TraceError for shapes and formats that do not fit, UnsupportedError for
        a format that the chip's matrix unit does not take, or does not write. trans_a, trans_b: the operand is stored
        (k, m), (n, k). Each of M, N, K may take two dimensions, outer first: acc (m1, m0, n), a (m1, m0, k), b (k, n) -
        which is told from the ranks.
        """
        t = self._t
        try:
            ids = self._matmuls[acc.lay, a.lay, b.lay, trans_a, trans_b]
        except (KeyError, AttributeError):
            ids = self._first_matmul(acc, a, b, trans_a, trans_b)
        if accumulate and acc.lay.dtype in NARROW:
            raise rounded_sums(acc.lay)
        d, x, y = acc.s, a.s, b.s
        t.push((
            MATMUL, t.active.pid, t.line(frame(1)), ids[0], acc.c, t.eid(d) if d.loops else d.eid,
            ids[1], a.c, t.eid(x) if x.loops else x.eid, ids[2], b.c, t.eid(y) if y.loops else y.eid,
            1 if accumulate else 0, 0, 0, 0,
        ))  # fmt: skip

    def _first_matmul(self, acc: View, a: View, b: View, trans_a: bool, trans_b: bool) -> tuple[int, int, int]:
        everything: tuple[object, ...] = (acc, a, b)
        for operand in everything:
            if not isinstance(operand, View):
                raise TraceError(f"k.matmul takes views of SRAM buffers, not {operand!r}; index a k.sram buffer")
            own(self._t, operand.lay)
        found = matmul_views(self._t.chip, acc.lay, a.lay, b.lay, bool(trans_a), bool(trans_b))
        if not (acc.lay.guard or a.lay.guard or b.lay.guard):
            self._matmuls[acc.lay, a.lay, b.lay, trans_a, trans_b] = found
        return found

    # --- resident tensors -------------------------------------------------------------------------------------------
    def preload(self, buffer: View, tensor: View) -> None:
        """Say that this part of a resident tensor already lies in `buffer` when the program starts; takes no time."""
        self._shard("k.preload", w.DIR_PRELOAD, buffer, tensor)

    def collect(self, tensor: View, buffer: View) -> None:
        """Say that this part of a resident tensor lies in `buffer` when the program has ended; takes no time."""
        self._shard("k.collect", w.DIR_COLLECT, tensor, buffer)

    def _shard(self, what: str, direction: int, dst: View, src: View) -> None:
        t = self._t
        t.check_open()
        if t.thread is not None or t.loops or t.active.terms or t.active.dead:
            raise TraceError(f"{what} is not an instruction; call it outside threads, k.loop and k.when")
        vd, vs = shard_views(t, what, direction, dst, src)
        line = t.line(frame(2))
        t.trace.shards.append((direction, vd, dst.c, t.eid(dst.s), vs, src.c, t.eid(src.s), line))
