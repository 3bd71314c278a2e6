"""The forward kernel of attention: buffers, semaphores, and what its three threads do in order."""

from __future__ import annotations

from math import ceil, frexp
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.kernels.parts.attention_plan import Plan
from accel.kernels.parts.attention_seat import Item, Seat, by_job, items_of, spread
from accel.kernels.parts.attention_strips import Stretch
from accel.lang import K
from accel.problem.attention import CAUSAL_GROUP, Attention

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Forward"]

STRIP = 16  # rows of a matmul: those of one block of accumulators
PARTS = 8  # in how many parts a node waits for its queries: the first are multiplied while the rest arrive


class Forward:
    """Buffers and semaphores of the forward kernel, and what each of its threads does in a stretch."""

    def __init__(self, k: K, problem: Attention, plan: Plan, tensors: dict[str, Any]) -> None:
        self.k, self.problem, self.plan = k, problem, plan
        P, d, chunk, dtype = problem, problem.d, plan.chunk, problem.dtype
        self.block, self.width = P.block, min(P.block, P.kv)
        self.q, self.y, self.lse = (by_job(tensors[name], P) for name in ("q", "y", "lse"))
        self.keys, self.values = (tensors[name].merge(0) for name in ("k", "v"))
        self.K = k.sram((plan.stages, self.width, d), dtype, "K")
        self.V = k.sram((plan.stages, self.width, d + 1), dtype, "V")  # the last column is 1: its sums are the weights
        self.Q = k.sram((2, plan.rows, d), dtype, "Q")
        self.O = k.sram((plan.rows, d + 1), "fp32", "O")
        self.M = k.sram((2, plan.rows, 1), "fp32", "M")
        self.S = k.sram((plan.ahead + 1, chunk, self.width), "fp32", "S")
        self.P = k.sram((plan.ahead + 1, chunk, self.width), dtype, "P")
        self.Y, self.L = k.sram((2, chunk, d), P.out_dtype, "Y"), k.sram((2, chunk, 1), "fp32", "L")
        self.new, self.alpha, self.offset = (k.sram((chunk, 1), "fp32", n) for n in ("new", "alpha", "offset"))
        self.one, self.factor, self.nothing = (k.sram((1, 1), "fp32", n) for n in ("one", "factor", "nothing"))
        self.mask = k.sram((CAUSAL_GROUP, CAUSAL_GROUP), "uint8", "mask") if P.causal else None
        self.K_full, self.V_full = k.sem(plan.stages, "K_full"), k.sem(plan.stages, "V_full")
        self.Q_full, self.Q_free = k.sem(2 * PARTS, "Q_full"), k.sem(2, "Q_free", 1)
        self.scored, self.weighed, self.summed = (k.sem(name=n) for n in ("scored", "weighed", "summed"))
        self.sent, self.begun = k.sem(2, "sent", 2), k.sem(len(plan.stretches), "begun")
        # Each stretch has its own owners, so tokens for one must never be taken for tokens of the next.
        self.K_free = [k.sem(plan.stages, f"K_free{n}") for n in range(len(plan.stretches))]
        self.V_free = [k.sem(plan.stages, f"V_free{n}") for n in range(len(plan.stretches))]
        self.seats = [Seat(k, P, stretch, chunk) for stretch in plan.stretches]
        self.items = [items_of(P, "q", seat.pieces, P.block, chunk) for seat in self.seats]
        self.c = float(np.float32(P.factor))

    def blocks(self, stretch: Stretch) -> int:
        """Return the blocks of keys that any row of the stretch sees."""
        P = self.problem
        if not P.causal:
            return ceil(P.kv / P.block)
        last = P.q if P.shared > 1 else stretch.high
        return ceil(min(P.kv, CAUSAL_GROUP * ceil(last / CAUSAL_GROUP)) / P.block)

    # --- loading ----------------------------------------------------------------------------------------------------
    def load(self) -> None:
        """Bring this node's queries; the first node of a group multicasts keys and values to all of it."""
        k = self.k
        for n, seat in enumerate(self.seats):
            if not seat.busy:
                continue
            blocks, stages = self.blocks(seat.stretch), self.plan.stages
            self._rows(seat, 0, range(len(seat.pieces)))
            for i in k.loop(seat.trips):
                for j, share in enumerate(spread(len(seat.pieces), blocks, stages)):
                    self._keys(n, seat, i, j, blocks)
                    if share:
                        if 0 in share:
                            with k.when((i == 0) & (i < seat.trips - 1)):
                                k.wait(self.begun[n])
                        with k.when(i < seat.trips - 1):
                            self._rows(seat, i + 1, share)
            with k.when(seat.owns):
                for g in range(stages):  # the last users of every slot have let go: nothing of this stretch is left
                    k.wait(self.K_free[n][g], seat.stretch.nodes)
                    k.wait(self.V_free[n][g], seat.stretch.nodes)

    def _rows(self, seat: Seat, i: Any, pieces: range) -> None:
        """Bring some of the pieces of this node's queries of trip i."""
        k, job = self.k, seat.job(i)
        if 0 in pieces:
            k.wait(self.Q_free[i % 2])
        for x in pieces:
            piece = seat.pieces[x]
            place, rows = slice(piece.place, piece.place + piece.rows), slice(piece.start, piece.start + piece.rows)
            k.copy(self.Q[i % 2, place], self.q[job, rows], done=self._arrived(seat, i, x))

    def _arrived(self, seat: Seat, i: Any, x: int) -> Any:
        """Return the semaphore that piece x of the queries of trip i fires."""
        return self.Q_full[i % 2 + 2 * (x * PARTS // len(seat.pieces))]

    def _await_queries(self, seat: Seat, item: Item, i: Any) -> None:
        """Wait for the parts of the queries that begin with the rows of this item."""
        parts = [x * PARTS // len(seat.pieces) for x in range(len(seat.pieces))]
        for piece in item.pieces:
            x = seat.pieces.index(piece)
            if x == 0 or parts[x - 1] < parts[x]:
                self.k.wait(self._arrived(seat, i, x), parts.count(parts[x]))

    def _keys(self, n: int, seat: Seat, i: Any, j: int, blocks: int) -> None:
        k, P, g, job = self.k, self.problem, (i * blocks + j) % self.plan.stages, seat.job(i)
        height = min(P.block, P.kv - j * P.block)
        rows = slice(j * P.block, j * P.block + height)
        with k.when(seat.owns):
            k.wait(self.K_free[n][g], seat.stretch.nodes)
            k.copy(self.K[g, :height], self.keys[job, rows], to=seat.nodes, done=self.K_full[g])
            k.wait(self.V_free[n][g], seat.stretch.nodes)
            k.copy(self.V[g, :height, : P.d], self.values[job, rows], to=seat.nodes, done=self.V_full[g])

    # --- the matrix unit --------------------------------------------------------------------------------------------
    def multiply(self) -> None:
        """Scores of item t + 1, then weighted values of item t: the softmax of t + 1 runs meanwhile."""
        k = self.k
        for n, (seat, items) in enumerate(zip(self.seats, self.items, strict=True)):
            if not seat.busy:
                continue
            self._open(n, seat, range(1), range(0))
            if not items:
                self._open(n, seat, range(1, self.plan.stages), range(self.plan.stages), last=True)
                for i in k.loop(seat.trips):
                    self._pass(n, seat, i, range(self.blocks(seat.stretch)))
                continue
            ahead = self._ahead(seat, items)
            for t in range(ahead):
                self._scores(n, seat, items, 0, t, before=ahead)
            unseen = range(items[-1].block + 1, self.blocks(seat.stretch))
            for i in k.loop(seat.trips):
                for t in range(len(items)):
                    if t + ahead < len(items):
                        self._scores(n, seat, items, i, t + ahead)
                    elif not unseen:
                        with k.when(i < seat.trips - 1):
                            self._scores(n, seat, items, i + 1, t + ahead - len(items))
                    self._values(n, seat, items, i, t)
                if unseen:  # the next keys come only after all of these, so nothing may be held while they go by
                    self._pass(n, seat, i, unseen)
                    with k.when(i < seat.trips - 1):
                        for t in range(ahead):
                            self._scores(n, seat, items, i + 1, t)

    def _open(self, n: int, seat: Seat, keys: range, values: range, *, last: bool = False) -> None:
        """Let keys and values of these slots come; with the last of them, the queries of the next trip."""
        k = self.k
        for free, slots in ((self.K_free[n], keys), (self.V_free[n], values)):
            for g in slots:
                k.inc(free[g], at=seat.owner)
        if last:
            with k.when(seat.trips > 1):
                k.inc(self.begun[n])

    def _open_more(self, n: int, seat: Seat, items: list[Item], t: int, before: int) -> None:
        """Once the keys of item t, one of the first, are here, let the next ones come; at item `before` - 1 all.

        All groups ask for their first keys at once; one that then asked for all it has room for would keep others
        waiting for what they need before.
        """
        stages, known = self.plan.stages, items[t - 1].block + 1 if t else 0  # known: blocks whose values may come
        if t == before - 1:
            self._open(n, seat, range(known + 1, stages), range(known, stages), last=True)
        elif items[t].block == known:
            self._open(n, seat, range(known + 1, min(known + 2, stages)), range(known, known + 1))

    def _ahead(self, seat: Seat, items: list[Item]) -> int:
        """Return how many items scores may be ahead of values without holding more keys than there are slots."""
        blocks, count = self.blocks(seat.stretch), len(items)
        places = [trip * blocks + item.block for trip in range(2) for item in items]
        for ahead in range(min(self.plan.ahead, count), 1, -1):
            if max(places[t + ahead] - places[t] for t in range(count)) < self.plan.stages:
                return ahead
        return 1

    def _pass(self, n: int, seat: Seat, i: Any, unseen: range) -> None:
        """Let blocks of keys go by that no row of this node sees."""
        blocks = self.blocks(seat.stretch)
        for j in unseen:
            g = (i * blocks + j) % self.plan.stages
            for full, free in ((self.K_full, self.K_free[n]), (self.V_full, self.V_free[n])):
                self.k.wait(full[g])
                self.k.inc(free[g], at=seat.owner)

    @staticmethod
    def _turns(items: list[Item], t: int) -> tuple[bool, bool]:
        """Return whether item t is the first and whether it is the last of its block."""
        now = items[t].block
        first, last = t == 0 or items[t - 1].block < now, t == len(items) - 1 or items[t + 1].block > now
        return first, last

    def _scores(self, n: int, seat: Seat, items: list[Item], i: Any, t: int, *, before: int = 0) -> None:
        k, item, blocks = self.k, items[t], self.blocks(seat.stretch)
        first, last = self._turns(items, t)
        g = (i * blocks + item.block) % self.plan.stages
        if item.block == 0:
            self._await_queries(seat, item, i)
        if first:
            k.wait(self.K_full[g])
        if before:
            self._open_more(n, seat, items, t, before)
        queries = self.Q[i % 2, item.place : item.place + item.rows]
        scores = self.S[(i * len(items) + t) % (self.plan.ahead + 1), : item.rows, : item.width]
        for part in self._parts(item.rows):
            k.matmul(scores[part], queries[part], self.K[g, : item.width], trans_b=True)
        k.inc(self.scored)
        if t == len(items) - 1:
            k.inc(self.Q_free[i % 2])
        if last:
            k.inc(self.K_free[n][g], at=seat.owner)

    def _values(self, n: int, seat: Seat, items: list[Item], i: Any, t: int) -> None:
        k, item, blocks = self.k, items[t], self.blocks(seat.stretch)
        first, last = self._turns(items, t)
        g = (i * blocks + item.block) % self.plan.stages
        if first:
            k.wait(self.V_full[g])
        k.wait(self.weighed)
        weights = self.P[(i * len(items) + t) % (self.plan.ahead + 1), : item.rows, : item.width]
        sums = self.O[item.place : item.place + item.rows]
        for part in self._parts(item.rows):
            k.matmul(sums[part], weights[part], self.V[g, : item.width], accumulate=item.block > 0)
        k.inc(self.summed)
        if last:
            k.inc(self.V_free[n][g], at=seat.owner)

    @staticmethod
    def _parts(rows: int) -> list[slice]:
        """Return the rows of an item in strips: short matmuls let the vector unit's accesses to SRAM in between."""
        return [slice(x, min(rows, x + STRIP)) for x in range(0, rows, STRIP)]

    # --- the vector unit --------------------------------------------------------------------------------------------
    def soften(self) -> None:
        """Turn the scores of every item into weights, rescale what was summed before, and finish rows at their end."""
        k, P = self.k, self.problem
        k.vec.fill(self.one, 1.0)
        k.vec.fill(self.factor, self.c)
        k.vec.fill(self.nothing, float("-inf"))
        k.vec.fill(self.V[:, :, P.d :], 1.0)
        if self.mask is not None:
            k.vec.fill(self.mask, 1)
            for r in range(CAUSAL_GROUP - 1):
                k.vec.fill(self.mask[r, r + 1 :], 0)
        for seat, items in zip(self.seats, self.items, strict=True):
            if not seat.busy or not items:
                continue
            summed = self._summed(items)  # how many items' values this thread has seen summed after each item
            for i in k.loop(seat.trips):
                for t, item in enumerate(items):
                    k.wait(self.scored)
                    slot = (i * len(items) + t) % (self.plan.ahead + 1)
                    scores, weights = (x[slot, : item.rows, : item.width] for x in (self.S, self.P))
                    self._weigh(item, self.M[i % 2, item.place : item.place + item.rows], scores, weights)
                    for u in range(summed[t - 1] if t else summed[-1] - len(items), summed[t]):
                        with k.when(i > 0 if u < 0 else True):
                            k.wait(self.summed)
                            self._finish(seat, items, i - 1 if u < 0 else i, u % len(items))
                    if item.block:
                        sums = self.O[item.place : item.place + item.rows]
                        k.vec.mul(sums, sums, self.alpha[: item.rows])
                    k.inc(self.weighed)
            for u in range(summed[-1], len(items)):
                with k.when(seat.trips > 1 if u < 0 else True):
                    k.wait(self.summed)
                    self._finish(seat, items, seat.trips - 2 if u < 0 else seat.trips - 1, u % len(items))

    def _summed(self, items: list[Item]) -> list[int]:
        """Return after which items' values (counted from the first of a trip) each item may rescale its own sums.

        All but the last few: those of the same rows must be done, and those that left the slot of the next weights.
        """
        before = [items[t - 1] for t in range(len(items))]
        apart = [
            b.place + b.rows <= item.place or item.place + item.rows <= b.place
            for b, item in zip(before, items, strict=True)
        ]
        return [t + 1 - (min(2, self.plan.ahead) if free else 1) for t, free in enumerate(apart)]

    def _weigh(self, item: Item, most: View, scores: View, weights: View) -> None:
        k, rows = self.k, item.rows
        new, alpha = self.new[:rows], self.alpha[:rows]
        if item.corner:
            edge = scores[:, item.width - item.corner :]
            assert self.mask is not None
            k.vec.select(edge, self.mask[:rows, : item.corner], edge, self.nothing)
        if item.block:
            k.vec.reduce_max(new, scores)
            k.vec.max(new, new, most)
            k.vec.sub(alpha, most, new)
            k.vec.mul(alpha, alpha, self.c)
            k.vec.exp(alpha, alpha)
            k.vec.copy(most, new)
        else:
            k.vec.reduce_max(most, scores)
        if frexp(self.c)[0] == 0.5:  # a power of two scales without rounding, so one fma has the bits of two steps
            offset = self.offset[:rows]
            k.vec.mul(offset, most, -self.c)
            k.vec.fma(scores, scores, self.factor, offset)
        else:
            k.vec.sub(scores, scores, most)
            k.vec.mul(scores, scores, self.c)
        k.vec.exp(weights, scores)

    def _finish(self, seat: Seat, items: list[Item], i: Any, t: int) -> None:
        """Divide the rows of item t, if it was their last, and send them out with the logarithm of their weights."""
        k, d = self.k, self.problem.d
        finished = [piece for item in items[:t] if item.last for piece in item.pieces]
        for x, piece in enumerate(items[t].pieces if items[t].last else ()):
            every = sum(len(item.pieces) for item in items if item.last)
            slot = (i * every + len(finished) + x) % 2
            job, rows = seat.job(i), slice(piece.start, piece.start + piece.rows)
            place = slice(piece.place, piece.place + piece.rows)
            weight, share = self.O[place, d:], self.new[: piece.rows]
            k.wait(self.sent[slot], 2)
            k.vec.div(share, self.one, weight)
            k.vec.mul(self.Y[slot, : piece.rows], self.O[place, :d], share)
            k.copy(self.y[job, rows], self.Y[slot, : piece.rows], sent=self.sent[slot])
            k.vec.log(share, weight)
            k.vec.fma(self.L[slot, : piece.rows], self.M[i % 2, place], self.factor, share)
            k.copy(self.lse[job, rows], self.L[slot, : piece.rows], sent=self.sent[slot])
