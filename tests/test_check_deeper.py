"""The checker where one look is not enough: queues with rivals behind, wide memory accesses, switched rows."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from programs import Asm

import accel
from accel.check import inspect
from accel.hardware.catalog import chip
from accel.isa import layout as w

MINI = chip("mini")
LINES = accel.tensor((4, 64), "fp32")


def test_a_rival_token_behind_an_ordered_one_is_found() -> None:
    a = Asm()
    s, x = a.sem("s"), a.sram("x", (4,), "fp32")
    with a.thread("one"):
        a.inc(s)
        a.inc(s)
    with a.thread("two"):
        a.inc(s)
    with a.thread("use"):  # all three are there: takes the first of "one", whose second follows it; that of "two" not
        a.wait(s)
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.wait(s, 2)
    found = [f for f in inspect(a.program(), MINI, schedules=0) if f.kind == "ambiguous"]
    assert any("may take a token of the inc at hand.py:3" in f.message for f in found)


@pytest.mark.parametrize("row", [0, 20, 63])
def test_a_store_of_all_races_with_a_store_of_any_row(row: int) -> None:
    a = Asm(1, 2)
    x, y = a.sram("x", (64, 64), "fp32"), a.tensor("y", (64, 64), "fp32", "out")
    put, col = a.sem("put"), a.expr([(w.PARAM_COL, 1)])
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        with a.when(a.predicate((col, 0, w.REL_EQ))):
            a.copy(a.at(y), a.at(x), done=put)
        with a.when(a.predicate((col, 0, w.REL_NE))):
            a.copy(a.at(y, slice(row, row + 1)), a.at(x, slice(row, row + 1)), done=put)
        a.wait(put)
    [f] = [f for f in inspect(a.program(), MINI) if f.kind == "race"]
    assert "write of y" in f.message


@pytest.mark.parametrize(("relation", "holds"), [
    (w.REL_EQ, operator.eq), (w.REL_NE, operator.ne), (w.REL_LT, operator.lt), (w.REL_GE, operator.ge),
])  # fmt: skip
def test_predicates_decide_where_a_value_is_missing(relation: int, holds: Callable[[int, int], bool]) -> None:
    a = Asm(1, 4)
    x, y = a.sram("x", (4,), "fp32"), a.sram("y", (4,), "fp32")
    turning = a.expr(params=[(w.PARAM_COL, 1)], loops=[(0, 2, 2, 1, 3)])  # trips 0 and 1: 2, 0
    with a.thread("t"):
        with a.loop(2), a.when(a.predicate((turning, -3, relation))):
            a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.emit("vec.neg", dst=a.at(y), x=a.at(x))
    missing = [(0, c) for c in range(4) if not any(holds(2 * ((2 * i + 1) % 3) + c, 3) for i in range(2))]
    found = [f for f in inspect(a.program(), MINI) if f.kind == "uninitialised"]
    assert sorted(node for f in found for node in f.nodes) == missing


def test_nodes_without_a_role_are_not_waited_for_at_a_barrier() -> None:
    a = Asm(1, 3)
    with a.thread("t"):
        a.barrier()
    a.role_of[2] = -1
    assert inspect(a.program(), MINI) == ()


def test_counts_of_one_event_are_rivals_where_an_earlier_wait_is_in_no_order() -> None:
    a = Asm()
    s = a.sem("s")
    with a.thread("give"):
        a.inc(s)
        a.inc(s, 2)
    with a.thread("one"):
        a.wait(s)
        a.wait(s)
    with a.thread("two"):  # takes a count of the event that "one" took last, and might have taken the first
        a.wait(s)
    found = inspect(a.program(), MINI, schedules=0)
    assert [f.kind for f in found] == ["ambiguous"]
    assert "threads 'one' and 'two' wait for s in no order" in found[0].message


def drained(k, x, *, order):
    """Four rows are loaded on one semaphore, and taken one by one before or after their use."""
    A, B, full = k.sram((4, 64), "fp32", "A"), k.sram((4, 64), "fp32", "B"), k.sem(name="full")
    for i in range(4):
        k.copy(A[i], x[i], done=full)
    if order == "one by one":
        for i in range(4):
            k.wait(full)
            k.vec.neg(B[i], A[i])
        return
    for _ in range(3 if order == "too few" else 4):
        k.wait(full)
    k.vec.neg(B[: 3 if order == "too few" else 4], A[: 3 if order == "too few" else 4])
    if order == "too few":
        k.wait(full)


@pytest.mark.parametrize(("order", "harmless"), [("all first", True), ("one by one", False), ("too few", False)])
def test_waits_with_nothing_in_between_are_one(order: str, harmless: bool) -> None:
    kinds = {f.kind for f in accel.kernel(drained).build("mini", x=LINES, order=order).findings()}
    assert kinds == set() if harmless else "ambiguous" in kinds


def test_a_drain_at_the_end_takes_tokens_in_any_order() -> None:
    def kernel(k, x, y):
        A, put, full = k.sram((4, 64), "fp32", "A"), k.sem(name="put"), k.sem(name="full")
        with k.when(k.row + k.col == 0):
            k.copy(A, x, done=full)
            k.wait(full)
            for i in range(4):
                k.copy(y[i], A[i], sent=put)
            for _ in k.loop(4):
                k.wait(put)

    assert accel.kernel(kernel).build("mini", x=LINES, y=LINES).findings() == ()


def test_a_token_that_comes_after_a_drain_is_compared_with_the_wait_before_it() -> None:
    a = Asm(1, 2)
    x, s, t = a.sram("x", (4,), "fp32"), a.sem("s"), a.sem("t")
    with a.thread("one"):
        a.wait(s)  # meant for the first of "two"
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.wait(s)
        a.wait(t)
    with a.thread("two"):
        a.inc(s)
        a.inc(t)
    with a.thread("three"):  # nothing orders this one with the first wait
        a.inc(s)
    assert {f.kind for f in inspect(a.program(), MINI)} == {"ambiguous"}


def test_deadlock_tells_of_a_token_that_lies_on_another_node() -> None:
    def kernel(k):
        A, B, gone = k.sram((8,), "fp32", "A"), k.sram((8,), "fp32", "B"), k.sem(2, name="gone")
        k.vec.fill(A, 1.0)
        k.barrier()
        with k.when(k.col == 0):
            k.pull(B, A, of=(0, 1), sent=gone[1])
            k.wait(gone[1])  # sent fires on (0,1)

    stuck = [f for f in accel.kernel(kernel).build("mini", mesh=(1, 2)).findings() if f.kind == "deadlock"]
    assert len(stuck) == 1
    assert "which has 0 on node (0,0): nothing left to run gives it" in stuck[0].message
    assert "while gone[1] of (0,1) holds 1 for nobody; give the token to the node that waits" in stuck[0].message


def test_deadlock_speaks_of_no_token_that_another_thread_waits_for() -> None:
    def kernel(k):
        turn = k.sem(name="turn")
        with k.when(k.col == 1):
            k.inc(turn)
        k.wait(turn, 2)

    stuck = [f for f in accel.kernel(kernel).build("mini", mesh=(1, 2)).findings() if f.kind == "deadlock"]
    assert stuck
    assert not any("for nobody" in f.message for f in stuck)
