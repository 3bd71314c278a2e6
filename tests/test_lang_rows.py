"""The kernel language: fifos, operands, expressions and the rows that they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracing import MINI, integers, trace

import accel
from accel.isa import layout as w
from accel.isa.codec import decode
from accel.lang import tensor
from accel.numerics import as_storage, from_storage


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


def test_arithmetic_rounds_once_to_the_float_format_of_its_destination() -> None:
    def halved(k, x, y):
        f, b = k.sram((2, 24), "fp32", "f"), k.sram((2, 24), "bf16", "b")
        loaded = k.sem(name="loaded")
        k.copy(f, x.merge(0), done=loaded)
        k.wait(loaded)
        k.vec.mul(b, f, 0.3)
        k.copy(y.merge(0), b, sent=loaded)
        k.wait(loaded)

    numbers = np.random.default_rng(0).normal(size=(1, 2, 24)).astype(np.float32)
    program = accel.kernel(halved).build(MINI, mesh=(1, 1), x=tensor(numbers.shape, "fp32"), y=tensor(numbers.shape))
    got = as_storage(program.run(x=numbers)["y"], "bf16")
    assert np.array_equal(got, as_storage(numbers * np.float32(0.3), "bf16"))
