"""The kernel language: roles, parameters, predicates, loops and the kernels of the language study."""

from __future__ import annotations

import numpy as np
from tracing import MINI, integers, names, rows_equal, trace

import accel
from accel.isa import layout as w
from accel.lang import tensor


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
