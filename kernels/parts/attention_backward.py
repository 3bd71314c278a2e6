"""The backward kernel of attention: one side of every pair stays on its nodes, the other streams by; then they swap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accel.kernels.parts.attention_plan import Plan, outs
from accel.kernels.parts.attention_seat import Seat, by_job
from accel.kernels.parts.attention_strips import Piece
from accel.kernels.parts.attention_task import Task
from accel.lang import K
from accel.problem.attention import CAUSAL_GROUP, Attention

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Backward"]

STRIP = 16  # rows of a matmul: those of one block of accumulators
PARTS = 8  # in how many parts a node waits for the rows that stay


class Backward:
    """Buffers and semaphores of the backward kernel, and what each of its threads does in every stretch."""

    def __init__(self, k: K, problem: Attention, plan: Plan, tensors: dict[str, Any]) -> None:
        self.k, self.problem, self.plan = k, problem, plan
        P, d, chunk, dtype, rows = problem, problem.d, plan.chunk, problem.dtype, plan.rows
        self.c, self.slots = float(np.float32(P.factor)), plan.ahead + 1
        self.width = min(P.block, max(P.q, P.kv))
        for name in ("q", "gy", "y", "lse", "gq"):
            tensors[name] = by_job(tensors[name], P)
        for name in ("k", "v", "gk", "gv"):
            tensors[name] = tensors[name].merge(0)
        self.tensors = tensors
        # What stays (q and gy, or k and v), what streams by (the other two), and what queries need of their own rows.
        self.A = [k.sram((2, rows, d), dtype, n) for n in ("A1", "A2")]
        self.B = [k.sram((plan.stages, self.width, d), dtype, n) for n in ("B1", "B2")]
        streams = plan.stages * self.width
        self.Y = k.sram((max(2 * rows, streams), d), dtype, "Y")
        self.R = k.sram((max(2 * rows, streams), 1), "fp32", "R")
        self.N, self.D = (k.sram((max(rows, streams), 1), "fp32", n) for n in ("N", "D"))
        self.O = [k.sram((rows, d), "fp32", n) for n in ("O1", "O2")]
        self.S, self.G = (k.sram((self.slots, chunk, self.width), "fp32", n) for n in ("S", "G"))
        self.P, self.W = (k.sram((self.slots, chunk, self.width), dtype, n) for n in ("P", "W"))
        self.T = k.sram((CAUSAL_GROUP, d), "fp32", "T")
        self.outs = outs(plan.chunk, plan.ahead, causal=P.causal)
        self.out = k.sram((self.outs, 2, CAUSAL_GROUP if P.causal else chunk, d), P.out_dtype, "out")
        self.factor, self.nothing = k.sram((1, 1), "fp32", "factor"), k.sram((1, 1), "fp32", "nothing")
        self.mask = k.sram((CAUSAL_GROUP, CAUSAL_GROUP), "uint8", "mask") if P.causal else None
        self.A_full, self.A_free = k.sem(2 * PARTS, "A_full"), k.sem(2, "A_free")
        self.R_full, self.B_full, self.Y_full = (
            k.sem(2, "R_full"), k.sem(plan.stages, "B_full"), k.sem(plan.stages, "Y_full"),
        )  # fmt: skip
        self.scored, self.weighed, self.summed = (k.sem(name=n) for n in ("scored", "weighed", "summed"))
        self.sent = {"q": k.sem(self.outs, "sent_q", 1), "k": k.sem(self.outs, "sent_k", 2)}
        # Each stretch has its own owners, so tokens for one must never be taken for tokens of the next.
        self.B_free = [k.sem(plan.stages, f"B_free{n}") for n in range(len(plan.stretches))]
        self.Y_free = [k.sem(plan.stages, f"Y_free{n}") for n in range(len(plan.stretches))]
        self.passed = k.sem(name="passed")
        self.tasks = [Task(k, P, stretch, plan) for stretch in plan.stretches]

    def slot(self, task: Task, i: Any, block: int) -> Any:
        """Return the slot of a block of trip i."""
        return (i * len(task.blocks) + block) % self.plan.stages

    # --- loading ----------------------------------------------------------------------------------------------------
    def load(self) -> None:
        """Stream the other side by: the first node of a group multicasts it."""
        k = self.k
        for n, task in enumerate(self.tasks):
            seat = task.seat
            if not seat.busy:
                continue
            for i in k.loop(seat.trips):
                for j in range(len(task.blocks)):
                    self._stream(n, task, i, j)
            with k.when(seat.owns):
                for g in range(self.plan.stages):  # the last users of every slot have let go
                    k.wait(self.B_free[n][g], seat.stretch.nodes)
                    if task.side == "k":
                        k.wait(self.Y_free[n][g], seat.stretch.nodes)

    def stay(self) -> None:
        """Bring the rows that stay on this node in each trip."""
        k = self.k
        for task in self.tasks:
            if task.items:
                for i in k.loop(task.seat.trips):
                    self._rows(task, i)

    def _rows(self, task: Task, i: Any) -> None:
        k, seat, job = self.k, task.seat, task.seat.job(i)
        k.wait(self.A_free[i % 2])
        for x, piece in enumerate(seat.pieces):
            place, rows = slice(piece.place, piece.place + piece.rows), slice(piece.start, piece.start + piece.rows)
            for buffer, name in zip(self.A, ("q", "gy") if task.side == "q" else ("k", "v"), strict=True):
                k.copy(buffer[i % 2, place], self.tensors[name][job, rows], done=self._arrived(seat, i, x))
            if task.side == "q":
                mine = self._mine(i, piece.place, piece.rows)
                k.copy(self.Y[mine], self.tensors["y"][job, rows], done=self.R_full[i % 2])
                k.copy(self.R[mine], self.tensors["lse"][job, rows], done=self.R_full[i % 2])

    def _mine(self, i: Any, place: int, rows: int) -> slice:
        """Return where y and lse of a node's own rows lie in trip i."""
        first = i % 2 * self.plan.rows + place
        return slice(first, first + rows)

    def _arrived(self, seat: Seat, i: Any, x: int) -> Any:
        """Return the semaphore that the two copies of piece x of trip i fire."""
        return self.A_full[i % 2 + 2 * (x * PARTS // len(seat.pieces))]

    def _stream(self, n: int, task: Task, i: Any, j: int) -> None:
        k, seat, g, (start, length) = self.k, task.seat, self.slot(task, i, j), task.blocks[j]
        job, rows = seat.job(i), slice(start, start + length)
        with k.when(seat.owns):
            k.wait(self.B_free[n][g], seat.stretch.nodes)
            for buffer, name in zip(self.B, ("k", "v") if task.side == "q" else ("q", "gy"), strict=True):
                k.copy(buffer[g, :length], self.tensors[name][job, rows], to=seat.nodes, done=self.B_full[g])
            if task.side == "k":
                k.wait(self.Y_free[n][g], seat.stretch.nodes)
                for buffer, name in ((self.Y, "y"), (self.R, "lse")):
                    mine = buffer[g * self.width : g * self.width + length]
                    k.copy(mine, self.tensors[name][job, rows], to=seat.nodes, done=self.Y_full[g])

    # --- the matrix unit --------------------------------------------------------------------------------------------
    def multiply(self) -> None:
        """Scores and their gradients before the weights some items ahead, then the sums of each item in turn."""
        k = self.k
        for n, task in enumerate(self.tasks):
            seat, count = task.seat, len(task.items)
            if not seat.busy:
                continue
            for g in range(self.plan.stages):
                k.inc(self.B_free[n][g], at=seat.owner)
            if not count:
                for i in k.loop(seat.trips):
                    self._pass(n, task, i, task.rest)
                if task.side == "k":
                    k.wait(self.passed)  # Y still fills, and a stretch that comes next loads its own rows there
                continue
            k.inc(self.A_free[0])
            for x in range(count - len([point for point in task.points if point >= 0])):
                self._score(n, task, 0, x, fresh=True)
            for i in k.loop(seat.trips):
                if task.late < 0:
                    self._next_rows(task, i)
                for t in range(count):
                    for x in task.due(t):
                        self._score(n, task, i, x)
                    for x in task.due(t - count):
                        with k.when(i < seat.trips - 1):
                            self._score(n, task, i + 1, x)
                    self._sum(n, task, i, t)
                    if t == task.late:
                        self._next_rows(task, i)
            self._pass(n, task, seat.trips - 1, task.rest)

    def _next_rows(self, task: Task, i: Any) -> None:
        """Let the rows of trip i + 1 come, into the slot of trip i - 1."""
        with self.k.when(i < task.seat.trips - 1):
            self.k.inc(self.A_free[(i + 1) % 2])

    def _pass(self, n: int, task: Task, i: Any, blocks: range) -> None:
        """Let blocks go by that no row of this node sees."""
        for j in blocks:
            g = self.slot(task, i, j)
            self.k.wait(self.B_full[g], 2)
            self.k.inc(self.B_free[n][g], at=task.seat.owner)

    def _score(self, n: int, task: Task, i: Any, x: int, fresh: bool = False) -> None:
        """Score item x of trip i; fresh: nothing was before it."""
        k, item, g = self.k, task.items[x], self.slot(task, i, task.items[x].block)
        if x == 0 and not fresh:
            with k.when(i > 0):
                self._pass(n, task, i - 1, task.rest)
        self._pass(n, task, i, task.skipped(x))
        if task.opens(x):
            k.wait(self.B_full[g], 2)
        self._await_rows(task, i, x)
        slot, columns = (i * len(task.items) + x) % self.slots, slice(item.at, item.at + item.width)
        for low in range(0, item.rows, STRIP):
            part = slice(low, min(item.rows, low + STRIP))
            rows = slice(item.place + part.start, item.place + part.stop)
            for a, b, scores in zip(self.A, self.B, (self.S, self.G), strict=True):
                k.matmul(scores[slot, part, : item.width], a[i % 2, rows], b[g, columns], trans_b=True)
        k.inc(self.scored)

    def _await_rows(self, task: Task, i: Any, x: int) -> None:
        """Wait for the parts of this trip's rows that begin with rows of item x and of no item before."""
        pieces = task.seat.pieces
        parts = [y * PARTS // len(pieces) for y in range(len(pieces))]
        before = {parts[pieces.index(p)] for item in task.items[:x] for p in item.pieces}
        for part in sorted({parts[pieces.index(p)] for p in task.items[x].pieces} - before):
            self.k.wait(self._arrived(task.seat, i, parts.index(part)), 2 * parts.count(part))

    def _sum(self, n: int, task: Task, i: Any, t: int) -> None:
        """Add what item t gives to the gradients of its rows."""
        k, item, g = self.k, task.items[t], self.slot(task, i, task.items[t].block)
        slot, columns = (i * len(task.items) + t) % self.slots, slice(item.at, item.at + item.width)
        k.wait(self.weighed)
        pairs = [(self.O[0], self.W, self.B[0])] + ([(self.O[1], self.P, self.B[1])] if task.side == "k" else [])
        for low in range(0, item.rows, STRIP):
            part = slice(low, min(item.rows, low + STRIP))
            rows = slice(item.place + part.start, item.place + part.stop)
            for sums, weights, b in pairs:
                k.matmul(sums[rows], weights[slot, part, : item.width], b[g, columns], accumulate=not item.first)
        k.inc(self.summed)
        if task.closes(t):
            k.inc(self.B_free[n][g], at=task.seat.owner)
        if t == len(task.items) - 1:
            self._unused_rows(task, i)

    def _unused_rows(self, task: Task, i: Any) -> None:
        """Wait for the parts of a trip's rows that no item has waited for."""
        pieces = task.seat.pieces
        parts = [y * PARTS // len(pieces) for y in range(len(pieces))]
        used = {parts[pieces.index(p)] for item in task.items for p in item.pieces}
        for part in sorted(set(parts) - used):
            self.k.wait(self._arrived(task.seat, i, parts.index(part)), 2 * parts.count(part))

    # --- the vector unit --------------------------------------------------------------------------------------------
    def weigh(self) -> None:
        """Turn scores into weights and their gradients, and finish rows at their end."""
        k = self.k
        k.vec.fill(self.factor, self.c)
        k.vec.fill(self.nothing, float("-inf"))
        if self.mask is not None:
            k.vec.fill(self.mask, 1)
            for r in range(CAUSAL_GROUP - 1):
                k.vec.fill(self.mask[r, r + 1 :], 0)
        for n, task in enumerate(self.tasks):
            if task.seat.busy:
                self._weigh_all(n, task)

    def _weigh_all(self, n: int, task: Task) -> None:
        k, seat, items, keys = self.k, task.seat, task.items, task.side == "k"
        for g in range(self.plan.stages if keys else 0):
            k.inc(self.Y_free[n][g], at=seat.owner)
        seen = self._seen(task)
        for i in k.loop(seat.trips):
            for t in range(len(items)):
                if keys and t == 0:
                    with k.when(i > 0):
                        self._pass_rows(n, task, i - 1, task.rest)
                if keys:  # before the wait: what is scored next streams by only after these
                    self._pass_rows(n, task, i, task.skipped(t))
                k.wait(self.scored)
                self._prepare(task, i, t)
                self._weights(task, i, t)
                for u in range(seen[t - 1] if t else seen[-1] - len(items), seen[t]):
                    with k.when(i > 0 if u < 0 else True):
                        k.wait(self.summed)
                        self._finish(task, i - 1 if u < 0 else i, u % len(items))
                k.inc(self.weighed)
                if keys and task.closes(t):
                    k.inc(self.Y_free[n][self.slot(task, i, items[t].block)], at=seat.owner)
            if not items:
                if keys:
                    self._pass_rows(n, task, i, task.rest)
                for x, piece in enumerate(task.unseen):
                    self._result(task, i, piece, (i * len(task.unseen) + x) % self.outs, seen=False)
        if keys and not items:
            k.inc(self.passed)
        for u in range(seen[-1], len(items)) if items else ():
            with k.when(seat.trips > 1 if u < 0 else True):
                k.wait(self.summed)
                self._finish(task, seat.trips - 2 if u < 0 else seat.trips - 1, u % len(items))
        if keys and items:
            self._pass_rows(n, task, seat.trips - 1, task.rest)
        tokens = 2 if keys else 1
        for slot in range(self.outs):  # all results are out before another stretch uses their places
            k.wait(self.sent[task.side][slot], tokens)
            k.inc(self.sent[task.side][slot], tokens)

    def _seen(self, task: Task) -> list[int]:
        """Return how many items' sums (counted from the first of a trip) are known to be done after each item.

        All but the last few: those of the same rows, and those that left the slots of the weights after next.
        """
        found = []
        for t, item in enumerate(task.items):
            before = task.items[t - 1]
            apart = before.place + before.rows <= item.place or item.place + item.rows <= before.place
            found.append(t + 1 - (min(2, self.plan.ahead) if apart else 1))
        return found

    def _pass_rows(self, n: int, task: Task, i: Any, blocks: range) -> None:
        for j in blocks:
            g = self.slot(task, i, j)
            self.k.wait(self.Y_full[g], 2)
            self.k.inc(self.Y_free[n][g], at=task.seat.owner)

    def _prepare(self, task: Task, i: Any, t: int) -> None:
        """Compute D = sum of gy y and N = -lse of the queries that item t is the first to use."""
        k, item = self.k, task.items[t]
        if task.side == "k":
            if task.opens(t):
                g = self.slot(task, i, item.block)
                k.wait(self.Y_full[g], 2)
                rows = slice(g * self.width, g * self.width + task.blocks[item.block][1])
                self._own(rows, self.B[1][g], self.Y[rows], self.R[rows])
            return
        if t == 0:
            k.wait(self.R_full[i % 2], 2 * len(task.seat.pieces))
        if item.first:
            rows, mine = slice(item.place, item.place + item.rows), self._mine(i, item.place, item.rows)
            self._own(rows, self.A[1][i % 2, rows], self.Y[mine], self.R[mine])

    def _own(self, rows: slice, gy: View, y: View, lse: View) -> None:
        k, mean, less = self.k, self.D[rows], self.N[rows]
        for low in range(0, y.shape[0], CAUSAL_GROUP):
            part = slice(low, min(y.shape[0], low + CAUSAL_GROUP))
            products = self.T[: part.stop - part.start]
            k.vec.mul(products, gy[part], y[part])
            k.vec.reduce_sum(mean[part], products)
        k.vec.neg(less, lse)

    def _weights(self, task: Task, i: Any, t: int) -> None:
        k, item = self.k, task.items[t]
        slot = (i * len(task.items) + t) % self.slots
        scores, gradient, weights, products = (
            x[slot, : item.rows, : item.width] for x in (self.S, self.G, self.P, self.W)
        )
        if task.side == "q":
            own = slice(item.place, item.place + item.rows)
            less, mean = self.N[own], self.D[own]
        else:
            first = self.slot(task, i, item.block) * self.width + item.at
            less, mean = (x[first : first + item.width].T for x in (self.N, self.D))
        if item.corner and self.mask is not None:
            if task.side == "q":
                edge, mask = scores[:, item.width - item.corner :], self.mask[: item.rows, : item.corner]
            else:
                edge, mask = scores[:, : item.corner], self.mask[: item.corner, : item.rows].T
            k.vec.select(edge, mask, edge, self.nothing)
        k.vec.fma(scores, scores, self.factor, less)
        k.vec.exp(scores, scores)
        if task.side == "k":
            k.vec.cast(weights, scores)
        k.vec.sub(gradient, gradient, mean)
        k.vec.mul(products, scores, gradient)

    def _finish(self, task: Task, i: Any, t: int) -> None:
        """Send out the gradients of the rows that end with item t."""
        last = len(task.items) - 1
        done = [(x, p) for x, item in enumerate(task.items) if item.last for p in item.pieces]
        done += [(last, p) for p in task.unseen]
        for y, (x, piece) in enumerate(done):
            if x == t:
                self._result(task, i, piece, (i * len(done) + y) % self.outs, seen=piece not in task.unseen)

    def _result(self, task: Task, i: Any, piece: Piece, slot: Any, *, seen: bool) -> None:
        k, job = self.k, task.seat.job(i)
        place, rows = slice(piece.place, piece.place + piece.rows), slice(piece.start, piece.start + piece.rows)
        names = ("gq",) if task.side == "q" else ("gk", "gv")
        k.wait(self.sent[task.side][slot], len(names))
        for x, name in enumerate(names):
            out = self.out[slot, x, : piece.rows]
            if not seen:
                k.vec.fill(out, 0.0)
            elif name != "gv":
                k.vec.mul(out, self.O[x][place], self.c)
            else:
                (k.vec.copy if out.dtype == "fp32" else k.vec.cast)(out, self.O[x][place])
            k.copy(self.tensors[name][job, rows], out, sent=self.sent[task.side][slot])
