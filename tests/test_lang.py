"""The kernel language: roles, parameters, predicates, loops and the kernels of the language study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel.hardware import ChipSpec
from accel.isa import layout as w
from accel.isa.codec import decode
from accel.isa.program import Program
from accel.lang import Kernel, tensor
from accel.numerics import as_storage, from_storage

MINI = accel.chip("mini")  # 4 x 4 nodes


def trace(fn: Any, chip: ChipSpec = MINI, mesh: tuple[int, int] | None = None, **arguments: Any) -> Program:
    tensors = {n: v for n, v in arguments.items() if isinstance(v, accel.lang.TensorSpec)}
    return Kernel(fn).trace(chip, tensors, {n: v for n, v in arguments.items() if n not in tensors}, mesh=mesh)


def names(program: Program) -> list[str]:
    return [decode(row.tolist()).mnemonic for row in program.code]


def rows_equal(p: Program, q: Program) -> bool:
    tables = ("code", "spans", "role_of", "params", "views", "exprs", "preds", "targets", "shards", "semaphore_init")
    return all(np.array_equal(getattr(p, t), getattr(q, t)) for t in tables) and p.lines == q.lines


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small integers: every sum below 2^8 is exact in bf16, so any order gives the same bits."""
    return rng.integers(-1, 2, shape).astype(np.float32)


# --- the three kernels of the study ----------------------------------------------------------------------------------
def summa(k, a, b, c, *, bm, bn, bk):
    (R, P), row, col = k.mesh, k.row, k.col
    A, B = k.sram((2, bm, bk), "bf16", "A"), k.sram((2, bk, bn), "bf16", "B")
    acc, out = k.sram((bm, bn), "fp32", "acc"), k.sram((bm, bn), "bf16", "out")
    A_full, B_full, A_free, B_free = (k.sem(2, n) for n in ("A_full", "B_full", "A_free", "B_free"))
    ready, stored = k.sem(name="ready"), k.sem(name="stored")
    steps = a.shape[1] // bk

    @k.thread
    def load():
        for t in range(steps):
            s = t % 2
            with k.when(col == t % P):
                if t >= 2:
                    k.wait(A_free[s], P)
                k.copy(A[s], a[row * bm : (row + 1) * bm, t * bk : (t + 1) * bk], to=k.row_nodes(), done=A_full[s])
            with k.when(row == t % R):
                if t >= 2:
                    k.wait(B_free[s], R)
                k.copy(B[s], b[t * bk : (t + 1) * bk, col * bn : (col + 1) * bn], to=k.col_nodes(), done=B_full[s])

    @k.thread
    def compute():
        for t in range(steps):
            s = t % 2
            k.wait(A_full[s])
            k.wait(B_full[s])
            k.matmul(acc, A[s], B[s], accumulate=t > 0)
            if t + 2 < steps:
                k.inc(A_free[s], at=(row, (t + 2) % P))
                k.inc(B_free[s], at=((t + 2) % R, col))
        k.vec.cast(out, acc)
        k.inc(ready)

    @k.thread
    def store():
        k.wait(ready)
        k.copy(c[row * bm : (row + 1) * bm, col * bn : (col + 1) * bn], out, sent=stored)
        k.wait(stored)


def conv2d(k, x, w, y, *, th):
    KH, KW, _, Co = w.shape
    OH, OW, _ = y.shape
    (R, P), r, c = k.mesh, k.row, k.col
    co, bands = Co // P, OH // (th * R)
    band = k.sram((2, th + KH - 1, OW + KW - 1, w.shape[2]), "bf16", "band")
    taps = k.sram((KH, KW, w.shape[2], co), "bf16", "taps")
    acc, out = k.sram((OW, co), "fp32", "acc"), k.sram((2, OW, co), "bf16", "out")
    cast = k.sram((OW, co), "bf16", "cast")
    wF = k.sem(name="wF")
    xF, xE, yF, yE = (k.sem(2, name=n) for n in ("xF", "xE", "yF", "yE"))

    def row0(n):
        return (r + n * R) * th

    @k.thread
    def load():
        k.copy(taps, w[:, :, :, c * co : (c + 1) * co], done=wF)
        for n in range(bands):
            if n >= 2:
                k.wait(xE[n % 2])
            k.copy(band[n % 2], x[row0(n) : row0(n) + th + KH - 1], done=xF[n % 2])

    @k.thread
    def mm():
        k.wait(wF)
        for n in range(bands):
            k.wait(xF[n % 2])
            for i in range(th):
                q = n * th + i
                for kh in range(KH):
                    for kw in range(KW):
                        k.matmul(acc, band[n % 2, i + kh, kw : kw + OW], taps[kh, kw], accumulate=(kh, kw) != (0, 0))
                if q >= 2:
                    k.wait(yE[q % 2])
                k.vec.cast(cast, acc)
                k.vec.relu(out[q % 2], cast)
                k.inc(yF[q % 2])
            if n + 2 < bands:
                k.inc(xE[n % 2])

    @k.thread
    def store():
        for q in range(bands * th):
            k.wait(yF[q % 2])
            k.copy(y[row0(q // th) + q % th, :, c * co : (c + 1) * co], out[q % 2], sent=yE[q % 2])
        k.wait(yE[0])
        k.wait(yE[1])


def allreduce(k, x, y, *, n):
    P, r, c = k.mesh[1], k.row, k.col
    nxt, prv, ch = (r, (c + 1) % P), (r, (c - 1) % P), n // P
    data, rx = k.sram((n,), "fp32", "data"), k.sram((2, ch), "fp32", "rx")

    def at(i):
        return slice(i * ch, i * ch + ch)

    got, free, io, d = k.sem(2, name="got"), k.sem(2, name="free"), k.sem(name="io"), k.sem(name="sent")

    @k.thread
    def ring():
        k.copy(data, x[r, c], done=io)
        k.wait(io)
        for t in range(2 * P - 2):
            s, snd, rcv = t % 2, (c - t) % P, (c - t - 1) % P
            if t >= 2:
                k.wait(free[s])
            k.copy(rx[s], data[at(snd)], to=nxt, done=got[s], sent=d)
            k.wait(got[s])
            if t < P - 1:
                k.vec.add(data[at(rcv)], data[at(rcv)], rx[s])
            else:
                k.vec.copy(data[at(rcv)], rx[s])
            if t + 2 < 2 * P - 2:
                k.inc(free[s], at=prv)
            k.wait(d)
        k.copy(y[r, c], data, sent=d)
        k.wait(d)


def test_summa_is_one_role_with_the_instructions_it_spells() -> None:
    steps, bm, bn, bk = 5, 8, 16, 8
    spec = {"a": tensor((4 * bm, steps * bk)), "b": tensor((steps * bk, 4 * bn)), "c": tensor((4 * bm, 4 * bn))}
    p = trace(summa, **spec, bm=bm, bn=bn, bk=bk)
    assert p.roles == 1
    assert p.thread_names == (("load", "compute", "store"),)
    later = steps - 2  # steps that wait for a slot, and as many that free one
    assert names(p).count("copy") == 2 * steps + 1
    assert names(p).count("matmul") == steps
    assert p.instructions == 2 * steps + 2 * later + 3 * steps + 2 * later + 2 + 3
    assert [(t.name, t.is_input, t.is_output) for t in p.tensors] == [
        ("a", True, False),
        ("b", True, False),
        ("c", False, True),
    ]


def test_summa_computes_the_product() -> None:
    rng, steps, bm, bn, bk = np.random.default_rng(1), 5, 8, 16, 8
    a, b = integers(rng, 4 * bm, steps * bk), integers(rng, steps * bk, 4 * bn)
    c = tensor((4 * bm, 4 * bn))
    p = accel.kernel(summa).build(MINI, a=tensor(a.shape), b=tensor(b.shape), c=c, bm=bm, bn=bn, bk=bk)
    assert np.array_equal(p.run(a=a, b=b)["c"].astype(np.int64), a.astype(np.int64) @ b.astype(np.int64))


def test_convolution_by_shifted_views() -> None:
    rng, oh, ow, ci, co = np.random.default_rng(2), 16, 8, 4, 8
    x, taps = integers(rng, oh + 2, ow + 2, ci), integers(rng, 3, 3, ci, co)
    kernel = accel.kernel(conv2d)
    p = kernel.build(MINI, x=tensor(x.shape), w=tensor(taps.shape), y=tensor((oh, ow, co)), th=2)
    assert p.isa.roles == 1
    assert names(p.isa).count("matmul") == 9 * oh // 4  # one a tap and output row; 4 rows of nodes share the rows
    want = sum(
        x[i : i + oh, j : j + ow].astype(np.int64) @ taps[i, j].astype(np.int64) for i in range(3) for j in range(3)
    )
    assert np.array_equal(p.run(x=x, w=taps)["y"].astype(np.int64), np.maximum(want, 0))


def test_ring_allreduce_keeps_per_node_addresses_in_one_role() -> None:
    x = np.random.default_rng(3).integers(-99, 99, (4, 4, 32)).astype(np.float32)
    p = accel.kernel(allreduce).build(MINI, x=tensor(x.shape, "fp32"), y=tensor(x.shape, "fp32"), n=32)
    assert p.isa.roles == 1
    assert p.isa.params.shape[1] > 2  # (c - t) % P is a parameter of each node
    want = np.broadcast_to(x.sum(axis=1, keepdims=True), x.shape)
    assert np.array_equal(p.run(x=x)["y"], want)


# --- roles ----------------------------------------------------------------------------------------------------------
def test_border_ifs_split_into_nine_roles() -> None:
    def borders(k, y):
        buf, done = k.sram((4,), "fp32"), k.sem()
        value = 0
        if k.row == 0:
            value += 1
        if k.row == k.mesh[0] - 1:
            value += 2
        if k.col == 0:
            value += 4
        if k.col == k.mesh[1] - 1:
            value += 8
        k.vec.fill(buf, float(value))
        k.copy(y[k.row, k.col], buf, done=done)
        k.wait(done)

    p = accel.kernel(borders).build(MINI, y=tensor((4, 4, 4), "fp32"))
    assert p.isa.roles == 9
    assert p.isa.thread_names == (("main",),) * 9
    rows, cols = np.indices((4, 4))
    want = (rows == 0) * 1 + (rows == 3) * 2 + (cols == 0) * 4 + (cols == 3) * 8
    assert np.array_equal(p.run()["y"], np.repeat(want[..., None], 4, axis=2))


def test_an_if_that_changes_nothing_makes_no_role() -> None:
    def idle(k):
        s = k.sem()
        if k.row == 0:
            pass
        k.inc(s)
        k.wait(s)

    assert trace(idle).roles == 1


def test_ragged_lengths_split_by_length() -> None:
    def ragged(k, x):
        buf, s = k.sram((4, 8), "bf16"), k.sem()
        top = k.row * 4
        high = min(4, x.shape[0] - top)
        k.copy(buf[:high], x[top : top + high], done=s)
        k.wait(s)

    p = trace(ragged, x=tensor((14, 8)))
    assert p.roles == 2
    assert [int((p.role_of == role).sum()) for role in range(2)] == [12, 4]


def test_int_of_a_node_value_splits_by_value() -> None:
    def triangle(k):
        s = k.sem()
        for _ in range(k.row):
            k.inc(s)

    p = trace(triangle)
    assert p.roles == 4
    assert [int(s[0, 1] - s[0, 0]) for s in p.spans] == [0, 1, 2, 3]


def test_retracing_gives_the_same_program() -> None:
    spec = {n: tensor((32, 32)) for n in "abc"}
    first, second = (trace(summa, **spec, bm=8, bn=8, bk=8) for _ in range(2))
    assert rows_equal(first, second)


def test_mesh_argument_restricts_the_program() -> None:
    def corner(k):
        k.barrier()

    p = trace(corner, mesh=(2, 3))
    assert (p.rows, p.cols, p.nodes) == (2, 3, 6)
    assert p.targets[w.TARGET_ALL].tolist() == [0, 0, 1, 0, 0, 0, 2, 0]


# --- predicates and loops -------------------------------------------------------------------------------------------
def test_predicates_narrow_bounds() -> None:
    def halo(k, x):
        buf, s = k.sram((8,), "bf16"), k.sem()
        with k.when(k.row > 0):
            k.copy(buf, x[k.row - 1], done=s)
            k.wait(s)

    p = trace(halo, x=tensor((3, 8)))  # row - 1 is -1 on row 0, which the predicate leaves out
    assert p.roles == 1
    assert set(p.code[:, w.W_PRED].tolist()) == {1}


def test_nested_predicates_are_a_conjunction_and_fold_beyond_four_terms() -> None:
    def deep(k, y):
        buf, s = k.sram((2,), "fp32"), k.sem()
        k.vec.fill(buf, 0.0)
        with k.when(k.row != 0), k.when(k.row != 3), k.when(k.col != 0), k.when((k.col != 3) & (k.row + k.col != 2)):
            k.vec.fill(buf, 1.0)
        with k.when((k.row == 0) | ~(k.col != 0)):
            k.vec.fill(buf, 2.0)
        k.copy(y[k.row, k.col], buf, done=s)
        k.wait(s)

    p = accel.kernel(deep).build(MINI, y=tensor((4, 4, 2), "fp32"))
    r, c = np.indices((4, 4))
    want = ((r % 3 != 0) & (c % 3 != 0) & (r + c != 2)) * 1 + ((r == 0) | (c == 0)) * 2
    assert np.array_equal(p.run()["y"][..., 0], want)


def test_a_condition_false_everywhere_emits_nothing() -> None:
    def never(k, x):
        s, buf = k.sem(), k.sram((8,), "bf16")
        with k.when(k.row > 99):
            k.copy(buf, x[k.row], done=s)
        with k.when(False):
            for i in k.loop(3):
                k.inc(s, i)
        k.inc(s)
        k.wait(s)

    p = trace(never, x=tensor((1, 8)))
    assert names(p) == ["inc", "wait"]
    assert not p.tensors[0].is_input


def test_hardware_loops_emit_their_body_once() -> None:
    def looped(k, x, y):
        buf, full, sent = k.sram((2, 8), "fp32"), k.sem(2), k.sem(2, init=1)
        for i in k.loop(x.shape[0]):
            k.wait(sent[i % 2])
            k.copy(buf[i % 2], x[i], done=full[i % 2])
            k.wait(full[i % 2])
            for _ in k.loop(2):
                k.vec.add(buf[i % 2], buf[i % 2], 1.0)
            with k.when(i == 3):
                k.vec.mul(buf[i % 2], buf[i % 2], -1.0)
            k.copy(y[x.shape[0] - 1 - i], buf[i % 2], sent=sent[i % 2])
        k.wait(sent[0])
        k.wait(sent[1])

    p = accel.kernel(looped).build(MINI, mesh=(1, 1), x=tensor((6, 8), "fp32"), y=tensor((6, 8), "fp32"))
    assert names(p.isa) == [
        "loop", "wait", "copy", "wait", "loop", "vec.addi", "end", "vec.muli", "copy", "end", "wait", "wait",
    ]  # fmt: skip
    x = np.arange(48, dtype=np.float32).reshape(6, 8)
    want = x + 2
    want[3] *= -1
    assert np.array_equal(p.run(x=x)["y"], want[::-1])


def test_a_loop_may_trip_differently_on_each_node() -> None:
    def trips(k, y):
        buf, s = k.sram((1,), "fp32"), k.sem()
        k.vec.fill(buf, 0.0)
        for _ in k.loop(k.row * 2):
            k.vec.add(buf, buf, 1.0)
        k.copy(y[k.row, k.col], buf, done=s)
        k.wait(s)

    p = accel.kernel(trips).build(MINI, y=tensor((4, 4, 1), "fp32"))
    assert p.isa.roles == 1
    assert np.array_equal(p.run()["y"][..., 0], 2 * np.indices((4, 4))[0])


def test_trips_may_depend_on_an_outer_loop() -> None:
    def lower(k, y):
        one, s = k.sram((1,), "fp32"), k.sem()
        k.vec.fill(one, 1.0)
        for i in k.loop(4):
            for j in k.loop(i + 1):
                k.copy(y[i, j : j + 1], one, done=s)
                k.wait(s)
        k.vec.fill(one, 0.0)
        for i in k.loop(3):
            for j in k.loop(3 - i):
                k.copy(y[i, i + 1 + j : i + 2 + j], one, done=s)  # in bounds because the inner trips shrink
                k.wait(s)

    p = accel.kernel(lower).build(MINI, mesh=(1, 1), y=tensor((4, 4), "fp32"))
    assert np.array_equal(p.run()["y"], np.tril(np.ones((4, 4))))


def test_numpy_integers_are_integers() -> None:
    def mixed(k, x):
        buf, s = k.sram((np.int64(8),), "bf16"), k.sem(np.int32(1))
        with k.when(np.int64(0) < k.row + np.int64(1)), k.when(np.bool_(True) & (np.int64(2) > k.col)):
            k.copy(buf, x[np.int64(1) * k.row + np.int64(0) - k.col + np.int64(3), np.int64(0) : np.int64(8)], done=s)
            k.wait(s, np.int64(1))

    assert trace(mixed, x=tensor((8, 8))).roles == 1


def test_a_kernel_without_instructions_is_a_program() -> None:
    p = trace(lambda k: None)
    assert (p.instructions, p.roles, p.role_of.tolist()) == (0, 1, [0] * 16)


# --- the fifo is nothing but its rows -------------------------------------------------------------------------------
def test_fifo_equals_the_rows_it_stands_for() -> None:
    def sugar(k, x, y):
        f = k.fifo((8,), "bf16", depth=2, name="q")

        @k.thread
        def load():
            for t in range(3):
                with f.put() as slot:
                    k.copy(slot, x[t])

        @k.thread
        def store():
            for t in range(3):
                with f.get() as slot:
                    k.copy(y[t], slot)

    def plain(k, x, y):
        q, full, free = k.sram((2, 8), "bf16", "q"), k.sem(2, "q_full"), k.sem(2, "q_free", 1)

        @k.thread
        def load():
            for t in range(3):
                k.wait(free[t % 2])
                k.copy(q[t % 2], x[t], done=full[t % 2])

        @k.thread
        def store():
            for t in range(3):
                k.wait(full[t % 2])
                k.copy(y[t], q[t % 2], sent=free[t % 2])

    spec = {n: tensor((3, 8)) for n in "xy"}
    p, q = trace(sugar, **spec), trace(plain, **spec)
    line = [i for i in range(w.CODE_WORDS) if i != w.W_LINE]
    assert np.array_equal(p.code[:, line], q.code[:, line])
    assert [(s.name, s.index, s.count, s.init) for s in p.semaphores] == [("q_full", 0, 2, 0), ("q_free", 2, 2, 1)]


def test_fifo_in_a_hardware_loop_runs() -> None:
    def doubled(k, x, y):
        f, g = k.fifo((8,), "fp32", name="f"), k.fifo((8,), "fp32", depth=3, name="g")

        @k.thread
        def load():
            for i in k.loop(7):
                with f.put(i) as slot:
                    k.copy(slot, x[i])

        @k.thread
        def work():
            for i in k.loop(7):
                with f.get(i) as source, g.put(i) as slot:
                    k.vec.add(slot, source, source)

        @k.thread
        def store():
            for i in k.loop(7):
                with g.get(i) as slot:
                    k.copy(y[i], slot)

    x = np.arange(56, dtype=np.float32).reshape(7, 8)
    p = accel.kernel(doubled).build(MINI, mesh=(1, 1), x=tensor((7, 8), "fp32"), y=tensor((7, 8), "fp32"))
    assert np.array_equal(p.run(x=x)["y"], 2 * x)
    assert np.array_equal(p.run(x=x, schedule=5)["y"], 2 * x)


def test_a_fifo_slot_of_two_copies_is_full_after_both() -> None:
    def joined(k, x, y):
        f = k.fifo((2, 8), "fp32", name="f", tokens=2)

        @k.thread
        def load():
            for i in k.loop(5):
                with f.put(i) as slot:
                    k.copy(slot[0:1], x[i : i + 1])
                    k.copy(slot[1:2], x[i + 1 : i + 2])

        @k.thread
        def store():
            for i in k.loop(5):
                with f.get(i) as slot:
                    k.copy(y[i], slot)

    x = np.arange(48, dtype=np.float32).reshape(6, 8)
    p = accel.kernel(joined).build(MINI, mesh=(1, 1), x=tensor((6, 8), "fp32"), y=tensor((5, 2, 8), "fp32"))
    assert p.findings() == ()  # a get that waits for one of the two copies only would be a race
    for schedule in ("natural", 1, 2, 3):
        assert np.array_equal(p.run(x=x, schedule=schedule)["y"], np.stack([x[:-1], x[1:]], axis=1))


# --- views and operands ---------------------------------------------------------------------------------------------
def test_two_level_matmul_dimensions_follow_from_ranks() -> None:
    def weights(k, x, gy, gw):
        """One tap of a weight gradient: K is (p, q), M the channels of x, N the channels of gy."""
        X, G = k.sram(x.shape, "bf16", "X"), k.sram(gy.shape, "bf16", "G")
        acc, s = k.sram(gw.shape, "fp32", "acc"), k.sem()
        k.copy(X, x, done=s)
        k.copy(G, gy, done=s)
        k.wait(s, 2)
        p, q = gy.shape[:2]
        k.matmul(acc, X[1 : 1 + p, 1 : 1 + q], G, trans_a=True)
        k.copy(gw, acc, done=s)
        k.wait(s)

    rng = np.random.default_rng(4)
    x, gy = integers(rng, 5, 7, 3), integers(rng, 4, 6, 2)
    spec = {"x": tensor(x.shape), "gy": tensor(gy.shape), "gw": tensor((3, 2), "fp32")}
    p = accel.kernel(weights).build(MINI, mesh=(1, 1), **spec)
    assert np.array_equal(p.run(x=x, gy=gy)["gw"], np.einsum("pqm,pqn->mn", x[1:5, 1:7], gy))


def test_vector_operands_stretch_and_reduce() -> None:
    def softless(k, x, bias, y):
        X, B = k.sram(x.shape, "fp32", "X"), k.sram(bias.shape, "fp32", "B")
        top, out, s = k.sram((x.shape[0],), "fp32", "top"), k.sram((x.shape[0], 1), "fp32", "out"), k.sem()
        k.copy(X, x, done=s)
        k.copy(B, bias, done=s)
        k.wait(s, 2)
        k.vec.add(X, X, B)
        k.vec.reduce_max(top, X)
        k.vec.sub(X, X, top.split(0, 1))
        k.vec.reduce_sum(out, X)
        k.vec.sub(out, out, 1.0)
        k.copy(y, out, done=s)
        k.wait(s)

    x, bias = np.arange(12, dtype=np.float32).reshape(3, 4) % 5, np.arange(4, dtype=np.float32)
    spec = {"x": tensor((3, 4), "fp32"), "bias": tensor((4,), "fp32"), "y": tensor((3, 1), "fp32")}
    p = accel.kernel(softless).build(MINI, mesh=(1, 1), **spec)
    z = x + bias
    assert np.array_equal(p.run(x=x, bias=bias)["y"][:, 0], (z - z.max(1, keepdims=True)).sum(1) - 1)


def test_transposed_and_strided_views_move_the_right_elements() -> None:
    def turn(k, x, y):
        X, s = k.sram(x.shape, "bf16"), k.sem()
        k.copy(X, x, done=s)
        k.wait(s)
        k.copy(y, X[1::2, :].T, done=s)
        k.wait(s)

    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    p = accel.kernel(turn).build(MINI, mesh=(1, 1), x=tensor((6, 4)), y=tensor((4, 3)))
    assert np.array_equal(p.run(x=x)["y"].astype(np.float32), x[1::2].T)


def test_resident_tensors_are_preloaded_and_collected() -> None:
    def scale(k, x, y):
        buf = k.sram((1, 8), "fp32")
        k.preload(buf, x[k.row : k.row + 1, k.col * 8 : k.col * 8 + 8])
        k.collect(y[k.row : k.row + 1, k.col * 8 : k.col * 8 + 8], buf)

        @k.thread
        def work():
            k.vec.mul(buf, buf, 3.0)

    x = np.arange(128, dtype=np.float32).reshape(4, 32)
    spec = {n: tensor(x.shape, "fp32") for n in "xy"}
    p = accel.kernel(scale).build(MINI, **spec, resident=("x", "y"))
    assert p.isa.shards.shape == (2, w.SHARD_WORDS)
    assert np.array_equal(p.run(x=x)["y"], 3 * x)


def test_every_emitted_row_decodes_to_its_operands() -> None:
    def all_rows(k, x):
        a, b, acc, s = k.sram((8, 8), "bf16", "a"), k.sram((8, 8), "bf16", "b"), k.sram((8, 8), "fp32", "acc"), k.sem(3)
        k.mark("start")
        k.copy(a, x, to=(1, k.col), done=s[1], sent=s[2])
        k.matmul(acc, a, b, accumulate=True)
        k.vec.fma(acc, acc, acc, acc)
        k.vec.fill(acc, 1.5)
        k.barrier(k.row_nodes())
        k.inc(s[0], 7, at=k.rect(0, 2, 1, 3))
        k.wait(s[1], 5)
        for _ in k.loop(9):
            k.barrier()

    p = trace(all_rows, x=tensor((8, 8)))
    got = [decode(row.tolist()) for row in p.code]
    at = {b.name: b.offset for b in p.buffers}
    assert [i.mnemonic for i in got] == [
        "mark", "copy", "matmul", "vec.fma", "vec.fill", "barrier", "inc", "wait", "loop", "barrier", "end",
    ]  # fmt: skip
    copy, matmul, fma, fill, barrier, inc, wait, loop = (i.operands for i in got[1:9])
    assert copy["dst"][1:] == (at["a"], 0)
    assert copy["src"][1:] == (0, 0)
    assert (copy["done"], copy["sent"]) == ((1, 0), (2, 0))
    assert p.targets[copy["to"]].tolist() == [1, 0, 1, 0, 0, 2, 0, 2]
    assert [matmul[n][1] for n in ("dst", "a", "b")] == [at["acc"], at["a"], at["b"]]
    assert matmul["accumulate"] == 1
    assert {fma[n] for n in ("dst", "x", "y", "z")} == {fma["dst"]}
    assert fill["imm"] == 1.5
    assert p.targets[barrier["at"]].tolist() == [0, 1, 0, 1, 0, 0, 3, 0]
    assert (inc["sem"], inc["n"]) == ((0, 0), (7, 0))
    assert p.targets[inc["at"]].tolist() == [0, 0, 1, 0, 1, 0, 2, 0]
    assert (wait["sem"], wait["n"]) == ((1, 0), (5, 0))
    assert (loop["trips"], loop["end"], got[10].operands["begin"]) == ((9, 0), 2, 2)
    assert p.marks == ("start",)


@pytest.mark.parametrize("seed", range(3))
def test_expressions_equal_their_values(seed: int) -> None:
    """Random arithmetic on k.row and k.col, stored through an address, against NumPy on the mesh."""
    rng = np.random.default_rng(seed)
    r, c = np.indices((4, 4))

    def scatter(k, y):
        buf, s = k.sram((1,), "fp32"), k.sem()
        k.vec.fill(buf, 1.0)
        row, col, value = k.row, k.col, r * 0
        symbolic: Any = 0
        for _ in range(6):
            n, m = (int(v) for v in rng.integers(1, 7, 2))
            op = int(rng.integers(5))
            symbolic, value = (
                (symbolic + n * row, value + n * r), (symbolic - m * col, value - m * c),
                ((symbolic + col) * n % 11, (value + c) * n % 11), ((symbolic + row) // m, (value + r) // m),
                (symbolic + row * col, value + r * c),
            )[op]  # fmt: skip
        values.append(value % 97)
        k.copy(y[row * 4 + col, symbolic % 97 : symbolic % 97 + 1], buf, done=s)
        k.wait(s)

    values: list[np.ndarray] = []
    p = accel.kernel(scatter).build(MINI, y=tensor((16, 97), "fp32"))
    sample = p.isa
    assert sample.roles == 1
    row = next(line for line in sample.code if line[w.W_OPCODE] == 16)
    address, expr = int(row[w.W_FIRST + 1]), sample.exprs[int(row[w.W_FIRST + 2])]
    terms = expr[w.E_PARAMS : w.E_PARAMS + 2 * int(expr[w.E_NPARAMS])].reshape(-1, 2)
    got = address + sum(int(coef) * sample.params[:, int(index)] for index, coef in terms)
    assert np.array_equal(got, ((np.arange(16) * 97 + values[0].ravel()) * 4))


def test_bf16_storage_round_trip_of_a_copy() -> None:
    def through(k, x, y):
        buf, s = k.sram((5,), "bf16"), k.sem()
        k.copy(buf, x, done=s)
        k.wait(s)
        k.copy(y, buf, done=s)
        k.wait(s)

    x = np.array([0.0, -0.0, np.inf, 1e-40, 3.14159], np.float32)
    p = accel.kernel(through).build(MINI, mesh=(1, 1), x=tensor((5,)), y=tensor((5,)))
    want = from_storage(as_storage(x, "bf16"), "bf16", as_="float32")
    assert np.array_equal(p.run(x=x)["y"].astype(np.float32).view(np.uint32), want.view(np.uint32))


def test_roles_that_differ_in_what_is_preloaded_only_stay_apart() -> None:
    def pick(k, x, y):
        buf = k.sram((1, 8), "fp32")
        if k.row == 0:
            k.preload(buf, x[0:1, :])
        else:
            k.preload(buf, x[1:2, :])
        k.collect(y[k.row * 4 + k.col : k.row * 4 + k.col + 1, :], buf)

        @k.thread
        def work():
            k.vec.mul(buf, buf, 3.0)

    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    tensors = {"x": tensor((2, 8), "fp32"), "y": tensor((16, 8), "fp32")}
    p = accel.kernel(pick).build(MINI, **tensors, resident=("x", "y"))
    assert np.array_equal(p.run(x=x)["y"], 3 * x[[0] * 4 + [1] * 12])


@pytest.mark.parametrize(("a", "b", "n"), [(1, 1, 3), (2, 1, 3), (5, 4, 7), (-1, 2, 4)])
def test_a_loop_index_modulo_keeps_its_offset(a: int, b: int, n: int) -> None:
    def turn(k, x, y):
        buf, here, put = k.sram((n, 1, 4), "fp32"), k.sem(), k.sem()

        @k.thread
        def work():
            for t in range(n):
                k.copy(buf[t], x[t : t + 1, :], done=here)
            k.wait(here, n)
            for i in k.loop(9):
                k.copy(y[i : i + 1, :], buf[(a * i + b) % n], sent=put)
                k.wait(put)

    x = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    p = accel.kernel(turn).build(MINI, mesh=(1, 1), x=tensor((n, 4), "fp32"), y=tensor((9, 4), "fp32"))
    assert np.array_equal(p.run(x=x)["y"], x[[(a * i + b) % n for i in range(9)]])
