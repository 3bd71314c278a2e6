"""Whole legal programs: nodes, threads, loops, predicates, copies and semaphores, free of hazards by construction.

A program is a list of blocks that all threads go through in the same order. A block is a pattern of communication with
semaphores of its own, each of whose waits needs only what comes earlier in the same block or in blocks before it, so
nothing can wait for ever; who gives a buffer away to a copy does not touch it before the token that returns it. Each
thread owns its buffers (at the same place on every node), all are loaded before the first block and stored after the
last, so that every byte that was computed is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.isa import layout as w
from accel.isa.program import Program
from accel.numerics.formats import fmt
from accel.testing.choices import Choices
from accel.testing.drawn_rows import compute_rows, draw_compute
from accel.testing.hard_values import KINDS, hard_codes
from accel.testing.maker import Maker, Place
from accel.testing.pool import Limits, Operand, Pool

__all__ = ["BLOCKS", "Case", "instruction", "legal_program"]

RELATIONS = (w.REL_EQ, w.REL_NE, w.REL_LT, w.REL_GE)


@dataclass(frozen=True)
class Case:
    """A program, its inputs as storage codes by name of tensor, the seed of its random instructions, and its blocks."""

    program: Program
    inputs: dict[str, Any]
    seed: int
    blocks: tuple[str, ...] = ()


class _Build:
    """One program under construction: a pool of buffers for every thread slot, and the roles that run them."""

    def __init__(self, choices: Choices, limits: Limits, rows: int, cols: int, threads: int, roles: int) -> None:
        self.c, self.limits = choices, limits
        self.maker = Maker(rows, cols, threads)
        self.pools = [Pool(self.maker, choices, limits, name=f"t{slot}_") for slot in range(threads)]
        self.roles = roles
        self.inputs: dict[str, Any] = {}
        self.scratch = 0

    @contextmanager
    def on(self, slot: int) -> Iterator[None]:
        """Repeat the instructions emitted inside for every role: they are what communicates."""
        with self.maker.thread(0, slot) as body:
            first = len(body)
            yield
            rows = body[first:]
        for role in range(1, self.roles):
            self.maker.code.setdefault((role, slot), []).extend(list(r) for r in rows)

    def node_target(self, down: int, right: int) -> int:
        """Return the node so many rows and columns away, around the edges of the mesh."""
        m = self.maker
        row = self._rotated(w.PARAM_ROW, down, m.rows)
        col = self._rotated(w.PARAM_COL, right, m.cols)
        return m.target((0, 0, 0, 0), (row, row, col, col))

    def _rotated(self, param: int, by: int, size: int) -> int:
        return self.maker.expr([(self.maker.rotation(param, by, size), 1)])

    def rectangle(self, r0: int, r1: int, c0: int, c1: int) -> int:
        """Return a fixed target."""
        return self.maker.target((r0, r1, c0, c1))

    def inside(self, r0: int, r1: int, c0: int, c1: int) -> int:
        """Return the predicate of the nodes of a rectangle."""
        row, col = self.maker.node_expr(1, 0), self.maker.node_expr(0, 1)
        terms = [(row, -r0, w.REL_GE), (row, -r1 - 1, w.REL_LT), (col, -c0, w.REL_GE), (col, -c1 - 1, w.REL_LT)]
        return self.maker.predicate(*terms)

    def corner(self) -> tuple[int, int, int, int]:
        """Draw a rectangle of the mesh."""
        c, m = self.c, self.maker
        r0, c0 = c.integer(0, m.rows - 1), c.integer(0, m.cols - 1)
        return r0, c.integer(r0, m.rows - 1), c0, c.integer(c0, m.cols - 1)

    def ends(self, slot: int) -> tuple[Operand, Operand]:
        """Draw where a copy of this thread comes from and goes to: two buffers, one format, one shape but for ones."""
        pool = self.pools[slot]
        dtype, shape = self.c.pick(self.limits.floats + self.limits.integers), pool.shape()
        dst = pool.operand(dtype, shape, writes=True)
        other = (1, *shape) if len(shape) < 4 and self.c.one_in(4) else shape
        return dst, pool.operand(dtype, other, avoid=[dst.place])


# --- blocks: each takes the build and a thread slot ------------------------------------------------------------------
def _compute(b: _Build, slot: int) -> None:
    """A few instructions, other ones for every role, perhaps in loops and under a predicate."""
    c, pool = b.c, b.pools[slot]
    for role in range(b.roles):
        with b.maker.thread(role, slot), ExitStack() as stack:
            if c.one_in(4):
                stack.enter_context(b.maker.when(_predicate(b, pool)))
            for _ in range(c.pick((0, 1, 1, 2))):
                trips = c.pick((2, 3, 1, 0))
                # As many trips as the node's column says, more or less: loops need not agree between nodes.
                expr = b.maker.node_expr(0, 1) if c.one_in(3) else 0
                stack.enter_context(b.maker.loop(trips, expr))
                pool.loops.append(max(1, trips + (b.maker.cols - 1 if expr else 0)))
                stack.callback(pool.loops.pop)
            for _ in range(c.integer(1, 3)):
                if c.one_in(6):
                    with b.maker.when(_predicate(b, pool)):
                        draw_compute(pool)
                else:
                    draw_compute(pool)


def _predicate(b: _Build, pool: Pool) -> int:
    """Draw a predicate over the node and the open loops."""
    terms = []
    for _ in range(b.c.integer(1, 2)):
        loops = [(d, b.c.pick((1, -1)), 1, 0, b.c.pick((0, 2))) for d in range(len(pool.loops)) if b.c.one_in(2)]
        expr = b.maker.expr([(b.c.integer(0, 1), b.c.pick((1, -1, 2)))], loops)
        terms.append((expr, b.c.integer(-2, 1), b.c.pick(RELATIONS)))
    return b.maker.predicate(*terms)


def _local_copy(b: _Build, slot: int) -> None:
    """A copy on the node itself, awaited by `done`, by `sent`, or by both."""
    m, (dst, src) = b.maker, b.ends(slot)
    done, sent = m.semaphore("done"), m.semaphore("sent")
    with b.on(slot):
        m.copy(dst.words, src.words, done=done, sent=sent)
        m.wait(sent)
        m.wait(done)


def _push(b: _Build, slot: int) -> None:
    """Every node writes to its neighbour, once the neighbour has given the buffer away."""
    m, (dst, src) = b.maker, b.ends(slot)
    down, right = b.c.integer(0, m.rows - 1), b.c.integer(0, m.cols - 1)
    free, full, sent = m.semaphore("free"), m.semaphore("full"), m.semaphore("sent")
    with b.on(slot), _repeated(b, slot):
        m.inc(free, at=b.node_target(-down, -right))
        m.wait(free)
        m.copy(dst.words, src.words, to=b.node_target(down, right), done=full, sent=sent)
        m.wait(full)
        m.wait(sent)


def _pull(b: _Build, slot: int) -> None:
    """Every node reads its neighbour, once the neighbour says that its buffer is ready."""
    m, (dst, src) = b.maker, b.ends(slot)
    down, right = b.c.integer(0, m.rows - 1), b.c.integer(0, m.cols - 1)
    ready, done, sent = m.semaphore("ready"), m.semaphore("done"), m.semaphore("sent")
    with b.on(slot), _repeated(b, slot):
        m.inc(ready, at=b.node_target(-down, -right))
        m.wait(ready)
        m.emit("pull", dst=dst.words, src=src.words, of=b.node_target(down, right), done=(done, 0), sent=(sent, 0))
        m.wait(done)
        m.wait(sent)


def _multicast(b: _Build, slot: int) -> None:
    """One node writes to a rectangle of nodes, from its SRAM or from memory, after a credit from each or a barrier."""
    c, m, (dst, src) = b.c, b.maker, b.ends(slot)
    r0, r1, c0, c1 = b.corner()
    row, col = c.integer(0, m.rows - 1), c.integer(0, m.cols - 1)
    issuer, members = b.inside(row, row, col, col), b.inside(r0, r1, c0, c1)
    free, full, sent = m.semaphore("free"), m.semaphore("full"), m.semaphore("sent")
    barrier = slot == 0 and c.one_in(3)  # one thread a node, so that barriers of two threads never meet
    words = src.words
    if c.one_in(3):
        elements = int(np.prod(src.shape))
        tensor = b.maker.tensor(f"m{len(m.tensors)}", (elements,), src.dtype, inputs=True, outputs=False)
        b.inputs[f"m{tensor.index}"] = hard_codes(src.dtype, (elements,), c.integer(0, 1 << 30), c.pick(KINDS))
        words = m.whole(tensor, src.shape)
    with b.on(slot), _repeated(b, slot):
        if barrier:
            m.emit("barrier", at=w.TARGET_ALL)
        else:
            with m.when(members):
                m.inc(free, at=b.rectangle(row, row, col, col))
        with m.when(issuer):
            if not barrier:
                m.wait(free, (r1 - r0 + 1) * (c1 - c0 + 1))
            m.copy(dst.words, words, to=b.rectangle(r0, r1, c0, c1), done=full, sent=sent)
        with m.when(members):
            m.wait(full)
        with m.when(issuer):
            m.wait(sent)


def _handover(b: _Build, slot: int) -> None:
    """One thread reads what another thread of the same node owns, between two tokens; n of them at a time."""
    c, m = b.c, b.maker
    other = c.integer(0, m.threads - 1)
    if other == slot:
        return _barrier(b, slot)
    dtype, shape = c.pick(b.limits.floats + b.limits.integers), b.pools[slot].shape()
    src = b.pools[slot].operand(dtype, shape)
    dst = b.pools[other].operand(dtype, shape, writes=True)
    go, back, n = m.semaphore("go"), m.semaphore("back"), c.integer(1, 3)
    with b.on(slot):
        m.inc(go, n)
    with b.on(other):
        m.wait(go, n)
        m.emit("vec.copy", dst=dst.words, x=src.words)
        m.inc(back)
    with b.on(slot):
        m.wait(back)
    return None


def _barrier(b: _Build, slot: int) -> None:
    """A barrier of the mesh, of each row of nodes, or of a rectangle; always of thread 0."""
    m, which = b.maker, b.c.integer(0, 2)
    with b.on(0):
        if which == 0:
            m.emit("barrier", at=w.TARGET_ALL)
        elif which == 1:
            row = m.node_expr(1, 0)
            m.emit("barrier", at=m.target((0, 0, 0, m.cols - 1), (row, row, 0, 0)))
        else:
            corners = b.corner()
            with m.when(b.inside(*corners)):
                m.emit("barrier", at=b.rectangle(*corners))


def _memory(b: _Build, slot: int) -> None:
    """Every node stores to its place in memory; its neighbour loads from there, told by a token."""
    m, (dst, src) = b.maker, b.ends(slot)
    down, right = b.c.integer(0, m.rows - 1), b.c.integer(0, m.cols - 1)
    nodes, elements, item = m.rows * m.cols, int(np.prod(src.shape)), fmt(src.dtype).bytes
    tensor = m.tensor(f"k{len(m.tensors)}", (nodes, elements), src.dtype, inputs=False, outputs=True)
    done, told, here = m.semaphore("done"), m.semaphore("told"), m.semaphore("here")
    size = elements * item
    row, col = m.rotation(w.PARAM_ROW, down, m.rows), m.rotation(w.PARAM_COL, right, m.cols)
    near = m.expr([(row, m.cols * size), (col, size)])
    with b.on(slot):
        m.copy(m.whole(tensor, src.shape, m.node_expr(m.cols * size, size)), src.words, done=done)
        m.wait(done)
        m.inc(told, at=b.node_target(-down, -right))
        m.wait(told)
        m.copy(dst.words, m.whole(tensor, src.shape, near), done=here)
        m.wait(here)


def _credit(b: _Build, slot: int) -> None:
    """A semaphore that starts above zero, taken in one wait."""
    count = b.c.integer(1, 4)
    sem = b.maker.semaphore("credit", count)
    with b.on(slot):
        b.maker.wait(sem, count)


BLOCKS: dict[str, Callable[[_Build, int], None]] = {
    "compute": _compute, "local_copy": _local_copy, "push": _push, "pull": _pull, "multicast": _multicast,
    "handover": _handover, "barrier": _barrier, "memory": _memory, "credit": _credit,
}  # fmt: skip


@contextmanager
def _repeated(b: _Build, slot: int) -> Iterator[None]:
    """Perhaps a hardware loop around a block: the same number of trips on all nodes."""
    if b.c.one_in(3):
        with b.maker.loop(b.c.integer(1, 3)):
            yield
    else:
        yield


# --- whole programs ------------------------------------------------------------------------------------------------
def legal_program(choices: Choices, limits: Limits | None = None, chip: str = "") -> Case:
    """Draw a whole program with inputs by `choices`; chip: JSON of the chip it says it is for; limits: its means."""
    limits = limits or Limits()
    c = choices
    rows, cols = c.integer(1, limits.mesh[0]), c.integer(1, limits.mesh[1])
    roles = 2 if rows * cols > 1 and c.one_in(3) else 1
    b = _Build(c, limits, rows, cols, c.integer(1, limits.threads), roles)
    if roles > 1:
        b.maker.role_of[1::2] = 1
    kinds = [k for k in ("compute", "compute", *BLOCKS) if k not in limits.without]
    done = []
    for _ in range(c.integer(1, limits.blocks)):
        done.append(c.pick(kinds))
        BLOCKS[done[-1]](b, c.integer(0, b.maker.threads - 1))
    return _finished(b, tuple(done), chip)


def instruction(choices: Choices, mnemonic: str = "", limits: Limits | None = None) -> Case:
    """Draw one compute instruction on one node, perhaps in a loop, with its buffers loaded before and stored after."""
    b = _Build(choices, limits or Limits(), 1, 1, 1, 1)
    pool = b.pools[0]
    with b.maker.thread(0, 0), ExitStack() as stack:
        if choices.one_in(4):
            pool.loops.append(choices.integer(2, 4))
            stack.enter_context(b.maker.loop(pool.loops[0]))
        drawn = draw_compute(pool, mnemonic)
    return _finished(b, (drawn,), "")


def _finished(b: _Build, blocks: tuple[str, ...], chip: str) -> Case:
    """Load every buffer before what is there, store every buffer after it."""
    m, c = b.maker, b.c
    bodies = {key: list(rows) for key, rows in m.code.items()}
    for slot, pool in enumerate(b.pools):
        for key in [(role, slot) for role in range(b.roles)]:
            m.code[key] = []
        here, stored = m.semaphore("here"), m.semaphore("stored")
        places = [(p, 0) for p in pool.buffers] + [(p, 0) for p in pool.scalars] + pool.indices
        with b.on(slot):
            loads = sum(_load(b, place, below, here) for place, below in places)
            if loads:
                m.wait(here, loads)
        for role in range(b.roles):
            m.code[role, slot] += bodies.get((role, slot), [])
        with b.on(slot):
            for place in pool.buffers:
                _store(b, place, stored)
            if pool.buffers:
                m.wait(stored, len(pool.buffers))
    return Case(m.program(chip), b.inputs, c.pick((0, 1, (1 << 64) - 1, c.integer(0, 1 << 63))), blocks)


def _load(b: _Build, place: Place, below: int, here: int) -> int:
    """Fill a buffer from an input tensor, by a copy or a preload, each node from its own part or all from one."""
    m, c = b.maker, b.c
    item = fmt(place.dtype).bytes
    elements, own = place.nbytes // item, c.one_in(2)
    shape = (m.rows * m.cols if own else 1, elements)
    tensor = m.tensor(f"x{len(m.tensors)}", shape, place.dtype, inputs=True, outputs=False)
    seed, kind = c.integer(0, 1 << 30), c.pick(KINDS)
    codes = hard_codes(place.dtype, shape, seed, kind)
    b.inputs[f"x{tensor.index}"] = codes if not below else np.abs(codes.astype(np.int64) % below).astype(np.int32)
    expr = m.node_expr(m.cols * place.nbytes, place.nbytes) if own else 0
    src = m.whole(tensor, (elements,), expr)
    if c.one_in(4):
        for role in range(b.roles):
            m.shard(role, w.DIR_PRELOAD, m.whole(place), src)
        return 0
    m.copy(m.whole(place), src, done=here)
    return 1


def _store(b: _Build, place: Place, stored: int) -> None:
    m = b.maker
    elements = place.nbytes // fmt(place.dtype).bytes
    tensor = m.tensor(f"y{len(m.tensors)}", (m.rows * m.cols, elements), place.dtype, inputs=False, outputs=True)
    expr = m.node_expr(m.cols * place.nbytes, place.nbytes)
    m.copy(m.whole(tensor, (elements,), expr), m.whole(place), sent=stored)


def rows_left(limits: Limits) -> list[str]:
    """Return the compute rows that the limits leave."""
    return compute_rows(Pool(Maker(1, 1, 1), Choices.seeded(0), limits))
