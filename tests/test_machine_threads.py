"""Threads of the host: the same bits and the same errors for any number of them, however they take turns."""

from __future__ import annotations

import itertools
import os
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Asm, summa_program
from test_machine_matmul import random_bf16

from accel.errors import BoundsError, InputError
from accel.isa import layout as w
from accel.machine import execute, parallel
from accel.machine import worklog as log
from accel.testing.pool import Limits
from accel.testing.strategies import legal_programs

ORDERS = tuple(itertools.permutations(range(3)))


class Turns:
    """Stands for `parallel.together`: threads take turns in one thread, the first of `order` whenever it can go on."""

    def __init__(self, order, spoil=None):
        self.order, self.spoil, self.shared = order, spoil, 0

    def __call__(self, threads, count, advance):
        self.shared += threads > 1
        at = [0] * threads
        order = [me for me in self.order if me < threads]
        while min(at) < count:
            before = list(at)
            for me in order:
                if at[me] < count:
                    at[me] = advance(me, at[me])
                    if at[me] != before[me]:
                        break
            assert at != before, "all threads wait for each other"


@pytest.fixture
def logged(monkeypatch):
    """Log from the first instruction on, in small logs, and share even the least work."""
    monkeypatch.setattr(parallel, "ALONE_LOADED", -1)
    monkeypatch.setattr(parallel, "ALONE_COLD", -1)
    monkeypatch.setattr(parallel, "WORTH_SHARING", 0)
    monkeypatch.setattr(parallel, "LOG_ITEMS", 40)
    return monkeypatch


def racy_program(rows, cols, steps):
    """Every node writes, pushes to its neighbour, pulls from another and stores, and nobody waits for anybody.

    Legal order is not given, so only an execution in the order of the natural schedule has defined bits.
    """
    p = Asm(rows, cols, name="racy")
    nodes = rows * cols
    x, y = p.tensor("x", (nodes, 64), "fp32"), p.tensor("y", (2 * nodes, 64), "fp32", "out")
    mine, other, sums = (p.sram(name, (1, 64), "fp32") for name in ("mine", "other", "sums"))
    here = p.sem("here")
    own = p.expr(((w.PARAM_ROW, 256 * cols), (w.PARAM_COL, 256)))
    right = p.param([r * cols + (c + 1) % cols for r in range(rows) for c in range(cols)])
    column = p.param([(c + 1) % cols for r in range(rows) for c in range(cols)])
    row = p.param([(r + 1) % rows for r in range(rows) for c in range(cols)])
    assert right
    this_row, this_col = p.expr(((w.PARAM_ROW, 1),)), p.expr(((w.PARAM_COL, 1),))
    next_row, next_col = p.expr(((row, 1),)), p.expr(((column, 1),))
    beside = p.target(0, 0, 0, 0, (this_row, this_row, next_col, next_col))
    below = p.target(0, 0, 0, 0, (next_row, next_row, this_col, this_col))
    with p.thread("all"):
        p.copy(p.at(mine), p.at(x, slice(0, 1), expr=own), done=here)
        p.copy(p.at(sums), p.at(x, slice(0, 1), expr=own), done=here)
        p.copy(p.at(other), p.at(x, slice(0, 1), expr=own), done=here)
        p.wait(here, 3)
        for step in range(steps):
            p.emit("vec.addi", dst=p.at(mine), x=p.at(mine), imm=float(step + 1))
            p.copy(p.at(other), p.at(mine), to=beside)
            p.emit("vec.add", dst=p.at(sums), x=p.at(sums), y=p.at(other))
            p.emit("pull", dst=p.at(other), src=p.at(sums), of=below, done=(-1, 0), sent=(-1, 0))
            p.emit("vec.muli", dst=p.at(sums), x=p.at(other), imm=0.5)
            p.copy(p.at(y, slice(0, 1)), p.at(sums))  # every node to the same rows
            p.copy(p.at(mine), p.at(y, slice(0, 1)))
            p.barrier() if step % 2 else None
        p.copy(p.at(y, slice(0, 1), expr=own), p.at(sums))
        p.copy(p.at(y, slice(nodes, nodes + 1), expr=own), p.at(mine))
    return p.program()


def racy_case():
    program = racy_program(3, 4, 5)
    x = np.random.default_rng(0).standard_normal((12, 64)).astype(np.float32)
    return program, {"x": x}, execute(program, {"x": x}, threads=1)["y"].view(np.uint32)


def test_racing_nodes_have_the_bits_of_the_natural_order(logged):
    program, inputs, expected = racy_case()
    for threads in (2, 3, 5, 12):
        for _ in range(5):
            np.testing.assert_array_equal(execute(program, inputs, threads=threads)["y"].view(np.uint32), expected)


@pytest.mark.parametrize("order", ORDERS)
def test_any_turn_of_the_threads_gives_the_same_bits(order, logged):
    program, inputs, expected = racy_case()
    turns = Turns(order)
    logged.setattr(parallel, "together", turns)
    np.testing.assert_array_equal(execute(program, inputs, threads=3)["y"].view(np.uint32), expected)
    assert turns.shared > 3


def handing_program(change):
    """Every node loads a row, hands it to its right neighbour and stores what it got; change: rewrites its own."""
    nodes = 3
    p = Asm(1, nodes, name="handing")
    x, y = p.tensor("x", (nodes, 64), "fp32"), p.tensor("y", (nodes, 64), "fp32", "out")
    mine, other = p.sram("mine", (1, 64), "fp32"), p.sram("other", (1, 64), "fp32")
    own = p.expr(((w.PARAM_COL, 256),))
    column = p.expr(((p.param([1, 2, 0]), 1),))
    with p.thread("all"):
        p.copy(p.at(other), p.at(x, slice(0, 1), expr=own))
        p.copy(p.at(mine), p.at(x, slice(0, 1), expr=own))
        p.barrier()
        p.emit("vec.addi", dst=p.at(mine), x=p.at(mine), imm=1.0)
        p.copy(p.at(other), p.at(mine), to=p.target(0, 0, 0, 0, (0, 0, column, column)))
        if change:
            p.emit("vec.muli", dst=p.at(mine), x=p.at(mine), imm=2.0)
        p.barrier()
        p.copy(p.at(y, slice(0, 1), expr=own), p.at(other))
    return p.program(), {"x": np.arange(nodes * 64, dtype=np.float32).reshape(nodes, 64)}


@pytest.mark.parametrize(
    ("word", "change"), [(log.SOURCE, False), (log.CLEAR, True)], ids=["reads wait for writes", "writes wait for reads"]
)
def test_without_its_waits_a_turn_gives_other_bits(word, change, logged):
    logged.setattr(parallel, "LOG_ITEMS", 400)
    program, inputs = handing_program(change)
    expected = np.roll(inputs["x"], 1, axis=0) + 1
    teams, shares = [], parallel.Team._shares
    logged.setattr(parallel.Team, "_shares", lambda team, costs: teams.append(team) or shares(team, costs))
    wrong = []
    for spoilt in (False, True):
        for order in ORDERS:

            def together(threads, count, advance, turns=Turns(order), spoilt=spoilt):  # noqa: B008
                if spoilt:
                    teams[-1].items[:count, word] = -1
                turns(threads, count, advance)

            logged.setattr(parallel, "together", together)
            wrong.append(not np.array_equal(execute(program, inputs, threads=3)["y"], expected))
    assert not any(wrong[: len(ORDERS)])
    assert any(wrong[len(ORDERS) :])


def test_it_is_compiled_ahead_for_the_types_that_runs_use(logged):
    parallel.compile_threads()
    program, inputs = handing_program(True)
    execute(program, inputs, threads=2)
    assert list(log.run_log.signatures) == [log.ARGUMENTS]


def test_a_summa_has_the_same_bits(logged):
    program = summa_program(2, 3, 20, 24, 16, 4)
    rng = np.random.default_rng(1)
    inputs = {t.name: random_bf16(rng, t.shape) for t in program.tensors if t.is_input}
    (name,) = (t.name for t in program.tensors if t.is_output)
    expected = execute(program, inputs, threads=1)[name]
    for threads in (2, 3, 6):
        np.testing.assert_array_equal(execute(program, inputs, threads=threads)[name], expected)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(legal_programs(limits=Limits()), st.integers(2, 5), st.permutations(range(5)))
def test_drawn_programs_have_the_same_bits(logged, case, threads, order):
    expected = execute(case.program, case.inputs, random_seed=case.seed, threads=1)
    logged.setattr(parallel, "together", Turns(order))
    got = execute(case.program, case.inputs, random_seed=case.seed, threads=threads)
    for name, codes in expected.items():
        assert got[name].tobytes() == codes.tobytes(), name


def gathering_program(nodes):
    """Every node gathers rows of a table by indices from memory, then waits for ever."""
    p = Asm(1, nodes, name="gathering")
    x, y = p.tensor("x", (nodes, 8), "int32"), p.tensor("y", (nodes, 32), "fp32", "out")
    index, table, out = p.sram("index", (8,), "int32"), p.sram("table", (4, 4), "fp32"), p.sram("out", (8, 4), "fp32")
    here = p.sem("here")
    into, store = p.expr(((w.PARAM_COL, 32),)), p.expr(((w.PARAM_COL, 128),))
    with p.thread("all"):
        p.copy(p.at(index), p.at(x, slice(0, 1), expr=into), done=here)
        p.emit("vec.fill", dst=p.at(table), imm=1.0)
        p.wait(here)
        p.emit("vec.gather", dst=p.view(out, (1, 1, 8, 4), (0, 0, 16, 4)), x=p.view(table, (1, 1, 4, 4), (0, 0, 16, 4)),
               index=p.view(index, (1, 1, 1, 8), (0, 0, 0, 4)))  # fmt: skip
        p.copy(p.at(y, slice(0, 1), expr=store), p.view(out, (32,), (4,)))
        p.wait(here, 5)  # never: what control flow runs into comes after the index
    return p.program()


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_error_of_the_natural_order_is_reported(order, logged):
    program, inputs = gathering_program(6), {"x": np.zeros((6, 8), np.int32)}
    inputs["x"][[2, 4, 5], 3] = 9, 11, 12
    with pytest.raises(BoundsError) as alone:
        execute(program, inputs, threads=1)
    logged.setattr(parallel, "together", Turns(order))
    with pytest.raises(BoundsError) as shared:
        execute(program, inputs, threads=3)
    assert str(shared.value) == str(alone.value)


def test_an_exception_in_a_thread_is_raised():
    def advance(me, at):
        if me == 1:
            raise MemoryError("no room")
        return at  # waits for ever, as one does whose partner is gone

    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"):
        parallel.together(3, 10, advance)
    assert threading.active_count() == before


def test_small_runs_take_one_thread(monkeypatch):
    program, inputs, expected = racy_case()
    turns = Turns(range(3))
    monkeypatch.setattr(parallel, "together", turns)
    np.testing.assert_array_equal(execute(program, inputs, threads=3)["y"].view(np.uint32), expected)
    assert turns.shared == 0


@pytest.mark.parametrize("threads", [0, -1, 1025, 2.0, "2", True])
def test_a_wrong_number_of_threads_is_refused(threads):
    with pytest.raises(InputError, match=r"^Cannot run on threads=.*: use an integer from 1 to 1024$"):
        parallel.thread_count(threads)


@pytest.mark.parametrize("text", ["0", "x", "-1", "1025", "99999999999999999999", "²"])
def test_a_wrong_variable_is_refused(text, monkeypatch):
    monkeypatch.setenv("ACCEL_THREADS", text)
    with pytest.raises(InputError, match=r"^Cannot use ACCEL_THREADS=.*: use a number of threads from 1 to 1024$"):
        parallel.thread_count(None)


def test_the_number_of_threads(monkeypatch):
    monkeypatch.delenv("ACCEL_THREADS", raising=False)
    assert parallel.thread_count(None) == len(os.sched_getaffinity(0))
    monkeypatch.setenv("ACCEL_THREADS", "3")
    assert parallel.thread_count(None) == 3
    assert parallel.thread_count(7) == 7
