"""Copies, tokens, loops, predicates, barriers and schedules; and every way a program can go wrong while it runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from programs import Asm, copy_program, matmul_program, summa_program
from test_machine_matmul import chain, random_bf16

from accel.errors import BoundsError, DeadlockError, InputError, ProgramError, UnsupportedError, UnwrittenError
from accel.isa import layout as w
from accel.isa.table import BY_MNEMONIC
from accel.machine import execute

ENGINES = ("jit", "plain")


def rounded(bits):
    """Return bf16 codes of finite fp32 bits, nearest even by float64 comparison of the two neighbours."""
    low = (bits >> 16).astype(np.int64)
    exact = bits.view(np.float32).astype(np.float64)
    near, far = ((c.astype(np.uint32) << 16).view(np.float32).astype(np.float64) for c in (low, low + 1))
    up = (np.abs(exact - far) < np.abs(exact - near)) | ((np.abs(exact - far) == np.abs(exact - near)) & (low % 2 == 1))
    return (low + up).astype(np.uint16)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("schedule", ["natural", 0, 1, 2, 3, 4])
def test_multicast_reaches_every_node(engine, schedule):
    x = np.arange(24, dtype=np.uint16).reshape(4, 6)
    y = execute(copy_program(3, 5), {"x": x}, schedule=schedule, engine=engine)["y"]
    np.testing.assert_array_equal(y.reshape(15, 4, 6), np.broadcast_to(x, (15, 4, 6)))


@pytest.fixture(scope="module")
def summa():
    rng = np.random.default_rng(9)
    program = summa_program(3, 4, 9, 11, 13, 7)
    inputs = {"a": random_bf16(rng, (27, 91)), "b": random_bf16(rng, (91, 44))}
    return program, inputs, rounded(chain(inputs["a"], inputs["b"]))


@pytest.mark.parametrize("schedule", ["natural", *range(40)])
def test_any_legal_order_gives_the_same_bits(summa, schedule):
    program, inputs, want = summa
    np.testing.assert_array_equal(execute(program, inputs, schedule=schedule)["c"], want)


@pytest.mark.parametrize("schedule", ["natural", 3])
def test_plain_engine_runs_a_mesh(summa, schedule):
    program, inputs, want = summa
    np.testing.assert_array_equal(execute(program, inputs, schedule=schedule, engine="plain")["c"], want)


def test_a_race_shows_under_some_order():
    """Without the wait for the multicast, what is stored depends on the order; poison makes it visible."""
    program = copy_program(2, 2)
    code = program.code.copy()
    code[1, BY_MNEMONIC["wait"].word("n")] = 0
    broken = dataclasses.replace(program, code=code)
    x = np.arange(24, dtype=np.uint16).reshape(4, 6)
    seen = {execute(broken, {"x": x}, schedule=s)["y"].tobytes() for s in range(10)}
    assert len(seen) > 1


def ring_program(size, laps):
    """Pass x along a row of nodes: neighbour pushes with a per-node target, `laps` times round by a hardware loop."""
    p = Asm(1, size, name="ring")
    x, y = p.tensor("x", (size, 8), "fp32"), p.tensor("y", (size, 8), "fp32", "out")
    mine, came = p.sram("mine", (8,), "fp32"), p.sram("came", (8,), "fp32")
    here, got, free, put = p.sem("here"), p.sem("got"), p.sem("free", init=1), p.sem("put")
    row = p.expr(params=[(1, 32)])
    after, before = p.param([(c + 1) % size for c in range(size)]), p.param([(c - 1) % size for c in range(size)])
    nxt, prv = (p.target(0, 0, 0, 0, (0, 0, p.expr(params=[(q, 1)]), p.expr(params=[(q, 1)]))) for q in (after, before))
    with p.thread("ring"):
        p.copy(p.at(mine), p.at(x, 0, expr=row), done=here)
        p.wait(here)
        with p.loop(laps):
            p.wait(free)
            p.copy(p.at(came), p.at(mine), to=nxt, done=got, sent=put)
            p.wait(put)
            p.wait(got)
            p.emit("vec.addi", dst=p.at(mine), x=p.at(came), imm=1.0)
            p.inc(free, at=prv)
        p.copy(p.at(y, 0, expr=row), p.at(mine), sent=put)
        p.wait(put)
    return p.program()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("schedule", ["natural", 0, 1, 2, 3, 4, 12345, -7])
def test_ring(engine, schedule):
    x = np.arange(40, dtype=np.float32).reshape(5, 8)
    y = execute(ring_program(5, 7), {"x": x}, schedule=schedule, engine=engine)["y"]
    np.testing.assert_array_equal(y, np.roll(x, 7, axis=0) + 7)


@pytest.mark.parametrize("engine", ENGINES)
def test_nested_loops_address_modulo(engine):
    """y[i, j] = x[(2 i + j + 1) mod 5], written element by element by two loops, 0 trips skipping a third."""
    p = Asm()
    x, y = p.tensor("x", (5,), "fp32"), p.tensor("y", (4, 3), "fp32", "out")
    b, r = p.sram("b", (5,), "fp32"), p.sram("r", (4, 3), "fp32")
    here, put = p.sem("here"), p.sem("put")
    with p.thread("t"):
        p.copy(p.at(b), p.at(x), done=here)
        p.wait(here)
        with p.loop(4), p.loop(3):
            to = p.expr(loops=[(0, 12, 1, 0, 0), (1, 4, 1, 0, 0)])
            of = p.expr(loops=[(1, 4, 1, 0, 0), (0, 4, 2, 0, 3)])
            p.emit("vec.copy", dst=p.view(r, (1,), (4,), expr=to), x=p.view(b, (1,), (4,), expr=of))
            with p.loop(0):
                p.emit("vec.fill", dst=p.at(r), imm=-1.0)
        p.copy(p.at(y), p.at(r), sent=put)
        p.wait(put)
    values = np.arange(5, dtype=np.float32) * 10
    got = execute(p.program(), {"x": values}, engine=engine)["y"]
    want = [[values[2 * i % 3 + j] for j in range(3)] for i in range(4)]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("engine", ENGINES)
def test_predicates_choose_nodes_and_skip_loops(engine):
    relations = {w.REL_EQ: np.equal, w.REL_NE: np.not_equal, w.REL_LT: np.less, w.REL_GE: np.greater_equal}
    p = Asm(1, 4)
    y = p.tensor("y", (4, 4), "fp32", "out")
    r, put, col = p.sram("r", (4,), "fp32"), p.sem("put"), p.expr(params=[(1, 1)])
    with p.thread("t"):
        p.emit("vec.fill", dst=p.at(r), imm=0.0)
        for i, relation in enumerate(relations):
            with p.when(p.predicate((col, -2, relation))), p.loop(2):
                p.emit("vec.addi", dst=p.at(r, slice(i, i + 1)), x=p.at(r, slice(i, i + 1)), imm=0.5)
        p.copy(p.at(y, 0, expr=p.expr(params=[(1, 16)])), p.at(r), sent=put)
        p.wait(put)
    want = np.array([[f(c, 2) for f in relations.values()] for c in range(4)], np.float32)
    np.testing.assert_array_equal(execute(p.program(), {}, engine=engine)["y"], want)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("schedule", ["natural", 0, 3, 4])
def test_barrier_orders_all_nodes(engine, schedule):
    """Each node writes its number into its neighbour; only after the barrier may the neighbour add one to it."""
    p = Asm(2, 3)
    y = p.tensor("y", (6, 4), "fp32", "out")
    r, t, sent, got = p.sram("r", (4,), "fp32"), p.sram("t", (4,), "fp32"), p.sem("sent"), p.sem("got")
    other = p.param([(n + 1) % 6 // 3 for n in range(6)]), p.param([(n + 1) % 6 % 3 for n in range(6)])
    er, ec = (p.expr(params=[(q, 1)]) for q in other)
    with p.thread("t"):
        p.emit("vec.fill", dst=p.at(t), imm=5.0)
        p.copy(p.at(r), p.at(t), to=p.target(0, 0, 0, 0, (er, er, ec, ec)), done=got)
        p.wait(got)
        p.barrier()
        p.emit("vec.addi", dst=p.at(r), x=p.at(r), imm=1.0)
        p.barrier()
        p.copy(p.at(y, 0, expr=p.expr(params=[(0, 48), (1, 16)])), p.at(r), sent=sent)
        p.wait(sent)
    np.testing.assert_array_equal(execute(p.program(), {}, schedule=schedule, engine=engine)["y"], np.full((6, 4), 6.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_shards_move_before_and_after(engine):
    p = Asm(1, 3)
    x, y = p.tensor("x", (3, 4), "fp32", resident=True), p.tensor("y", (3, 4), "fp32", "out", resident=True)
    b, mine = p.sram("b", (4,), "fp32"), p.expr(params=[(1, 16)])
    p.preload(p.at(b), p.at(x, 0, expr=mine))
    p.collect(p.at(y, 0, expr=mine), p.at(b))
    with p.thread("t"):
        p.emit("vec.addi", dst=p.at(b), x=p.at(b), imm=2.0)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(execute(p.program(), {"x": x}, engine=engine)["y"], x + 2)


# --- what goes wrong ----------------------------------------------------------------------------------------------
def tiny(body, *, sems=1):
    p = Asm(1, 2, name="tiny")
    y = p.tensor("y", (2, 4), "fp32", "out")
    r = p.sram("r", (4,), "fp32")
    s = [p.sem(f"s{i}") for i in range(sems)]
    with p.thread("main"):
        body(p, y, r, s)
    return p


def test_deadlock_names_thread_semaphore_and_count():
    p = tiny(lambda p, y, r, s: p.wait(s[0], 3))
    with pytest.raises(DeadlockError) as caught:
        execute(p.program(), {})
    assert str(caught.value) == (
        "hand.py:1: deadlock: thread 'main' at hand.py:1 waits for s0 >= 3, which is 0, on nodes (0, 0), (0, 1);"
        " give every wait a matching inc or copy"
    )
    (finding,) = caught.value.findings
    assert finding.kind == "deadlock"
    assert finding.nodes == ((0, 0), (0, 1))


def test_deadlock_at_a_barrier_that_one_node_skips():
    def body(p, y, r, s):
        with p.when(p.predicate((p.expr(params=[(1, 1)]), 0, w.REL_EQ))):
            p.barrier()

    with pytest.raises(DeadlockError, match=r"a barrier that 1 of 2 nodes have reached, on node \(0, 0\)"):
        execute(tiny(body).program(), {})


@pytest.mark.parametrize("schedule", ["natural", 1])
def test_unwritten_output(schedule):
    def body(p, y, r, s):
        p.emit("vec.fill", dst=p.at(r), imm=1.0)
        p.copy(p.at(y, 0, slice(0, 3), expr=p.expr(params=[(1, 16)])), p.at(r, slice(0, 3)), sent=s[0])
        p.wait(s[0])

    with pytest.raises(UnwrittenError, match=r"2 of 8 elements of output 'y' were never stored, the first at \[0, 3\]"):
        execute(tiny(body).program(), {}, schedule=schedule)


@pytest.mark.parametrize(("what", "start"), [
    ("src", -4), ("src", 4), ("src", 16), ("dst", -4), ("dst", 20), ("dst", 32),  # 16 bytes of 16 in SRAM, 32 in memory
    ("src", 1 << 20), ("dst", 1 << 20), ("src", -(1 << 40)), ("dst", -(1 << 40)), ("src", 1 << 62), ("dst", 1 << 62),
])  # fmt: skip
def test_no_address_leaves_its_object(what, start):
    def body(p, y, r, s):
        p.copy(p.at(y, 0), p.at(r), sent=s[0])

    p = tiny(body)
    p.code[0][BY_MNEMONIC["copy"].word(what) + 1] = start
    with pytest.raises(ProgramError if start > 1 << 40 else BoundsError):
        execute(p.program(), {})


def test_a_parameter_cannot_reach_the_host():
    """Coefficient and parameter may each be legal and their product anything, even one that wraps round."""

    def body(p, y, r, s):
        q = p.param([1 << 39, (1 << 39) + 8])
        for coefficient in (1 << 25, 1 << 30, -(1 << 24), 4):
            p.copy(p.at(y, 0), p.at(r, expr=p.expr(params=[(q, coefficient)])), sent=s[0])

    program = tiny(body).program()
    for row in range(4):
        spans = np.array([[[0, 1]] + [[1, 1]] * 3])
        alone = dataclasses.replace(program, code=program.code[row : row + 1], spans=spans)
        with pytest.raises((BoundsError, UnwrittenError)) as caught:
            execute(alone, {})
        # 2^39 x 2^25 is 0 modulo 2^64, so node (0, 0) stays inside; node (0, 1) must not
        assert row == 0 or isinstance(caught.value, BoundsError)


def test_views_of_split_elements_are_refused():
    def body(p, y, r, s):
        p.copy(p.at(y, 0), p.at(r), sent=s[0])

    p = tiny(body)
    p.code[0][BY_MNEMONIC["copy"].word("dst") + 1] = 2
    with pytest.raises(ProgramError, match="splits an element"):
        execute(p.program(), {})


def test_semaphore_overflow_and_range():
    with pytest.raises(ProgramError, match=r"raises s0 of node \(0, 0\) to 65536, more than its limit of 65535"):
        execute(tiny(lambda p, y, r, s: [p.inc(s[0], 65535), p.inc(s[0])]).program(), {})
    with pytest.raises(ProgramError, match="more than its limit of 15"):
        execute(tiny(lambda p, y, r, s: p.inc(s[0], 16)).program(), {}, semaphore_limit=15)
    with pytest.raises(ProgramError, match="names semaphore 7 of 1"):
        execute(tiny(lambda p, y, r, s: p.wait(7)).program(), {})
    with pytest.raises(ProgramError, match="names semaphore -1 of 1"):
        execute(tiny(lambda p, y, r, s: p.inc(-1)).program(), {})
    with pytest.raises(ProgramError, match="count of -1"):
        execute(tiny(lambda p, y, r, s: p.wait(s[0], -1)).program(), {})


def test_targets_outside_the_mesh():
    for rect in ((0, 0, 0, 2), (0, 1, 0, 0), (0, 0, 1, 0), (-1, 0, 0, 0)):
        with pytest.raises(ProgramError, match="outside the mesh"):
            execute(tiny(lambda p, y, r, s, rect=rect: p.inc(s[0], at=p.target(*rect))).program(), {})
    with pytest.raises(ProgramError, match="a store names its own node"):
        execute(tiny(lambda p, y, r, s: p.copy(p.at(y, 0), p.at(r), to=w.TARGET_ALL)).program(), {})


def broken(field, index, number):
    program = matmul_program(4, 4, 4)
    table = getattr(program, field).copy()
    table[index] = number
    return dataclasses.replace(program, **{field: table})


@pytest.mark.parametrize(
    ("field", "index", "number"),
    [
        ("code", (0, w.W_OPCODE), 99), ("code", (0, w.W_PRED), 5), ("code", (0, w.W_PRED), -1), ("code", (0, 3), 50),
        ("code", (0, 3), -1), ("code", (0, 5), 9), ("code", (0, 9), 77), ("spans", (0, 0, 1), 1000),
        ("spans", (0, 0, 0), -1), ("role_of", 0, 3), ("views", (0, w.V_DTYPE), 44), ("views", (0, w.V_OBJECT), 12),
        ("views", (0, w.V_SHAPE + 3), 0),
        ("views", (0, w.V_STRIDE + 3), 1), ("views", (0, w.V_SPACE), 2), ("views", (0, w.V_SHAPE + 2), 1 << 39),
        ("code", (3, 3), 0), ("targets", (1, 1), 40),
    ],
)  # fmt: skip
def test_broken_tables_are_refused(field, index, number):
    codes = np.zeros((4, 4), np.uint16)
    with pytest.raises((ProgramError, UnsupportedError)):
        execute(broken(field, index, number), {"a": codes, "b": codes})


def test_rings_without_a_buffer_are_refused():
    codes = np.zeros((4, 4), np.uint16)
    with pytest.raises(ProgramError, match="ring"):
        execute(broken("views", (0, w.V_RING_BYTES), 64), {"a": codes, "b": codes})


def test_loops_that_do_not_match_are_refused():
    def body(p, y, r, s):
        with p.loop(2):
            p.inc(s[0])

    for row, word, number in ((0, "end", 1), (0, "end", 9), (0, "end", 0), (2, "begin", 1), (2, "begin", 7)):
        p = tiny(body)
        p.code[row][BY_MNEMONIC["loop" if word == "end" else "end"].word(word)] = number
        with pytest.raises(ProgramError, match="is not there"):
            execute(p.program(), {})

    def deep(p, y, r, s, level=5):
        with p.loop(1):
            deep(p, y, r, s, level - 1) if level > 1 else p.inc(s[0])

    with pytest.raises(ProgramError, match="nest at most 4 deep"):
        execute(tiny(deep).program(), {})


def test_inputs_are_checked():
    program = matmul_program(4, 4, 4)
    good = np.zeros((4, 4), np.uint16)
    with pytest.raises(InputError, match="has no input 'aa'; did you mean 'a'"):
        execute(program, {"aa": good, "b": good})
    with pytest.raises(InputError, match="needs input 'b'"):
        execute(program, {"a": good})
    with pytest.raises(InputError, match=r"shape \(4, 5\)"):
        execute(program, {"a": np.zeros((4, 5), np.uint16), "b": good})
    with pytest.raises(InputError, match="of uint16"):
        execute(program, {"a": good.astype(np.float32), "b": good})
    with pytest.raises(InputError, match="no engine 'jot'; did you mean 'jit'"):
        execute(program, {"a": good, "b": good}, engine="jot")
    for schedule in ("random", 1.5, True, None):
        with pytest.raises(InputError, match="no schedule"):
            execute(program, {"a": good, "b": good}, schedule=schedule)


def test_read_only_strided_and_fortran_inputs():
    rng = np.random.default_rng(1)
    a, b = random_bf16(rng, (4, 4)), random_bf16(rng, (4, 4))
    frozen = a.copy()
    frozen.flags.writeable = False
    wide = np.zeros((8, 8), np.uint16)
    wide[::2, ::2] = b
    got = execute(matmul_program(4, 4, 4), {"a": np.asfortranarray(frozen), "b": wide[::2, ::2]})["c"]
    np.testing.assert_array_equal(got.view(np.uint32), chain(a, b))


def test_what_nobody_wrote_is_nan():
    def body(p, y, r, s):
        p.emit("vec.addi", dst=p.at(r), x=p.at(r), imm=1.0)
        p.copy(p.at(y, 0, expr=p.expr(params=[(1, 16)])), p.at(r), sent=s[0])
        p.wait(s[0])

    assert np.isnan(execute(tiny(body).program(), {})["y"]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_barrier_of_other_nodes_is_refused(engine):
    p = Asm(1, 3)
    with p.thread("t"):
        p.barrier(at=p.target(0, 0, 0, 1))
    with pytest.raises(ProgramError, match=r"node \(0, 2\) joins a barrier of nodes that it is not one of"):
        execute(p.program(), {}, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_nodes_without_a_role_take_no_part_in_a_barrier(engine):
    p = Asm(1, 3)
    y = p.tensor("y", (2, 4), "fp32", "out")
    r, put = p.sram("r", (4,), "fp32"), p.sem("put")
    with p.thread("t"):
        p.emit("vec.fill", dst=p.at(r), imm=2.0)
        p.barrier()
        p.copy(p.at(y, 0, expr=p.expr(params=[(1, 16)])), p.at(r), sent=put)
        p.wait(put)
    p.role_of[2] = -1
    np.testing.assert_array_equal(execute(p.program(), {}, engine=engine)["y"], np.full((2, 4), 2.0, np.float32))
