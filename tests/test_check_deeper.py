"""The checker where one look is not enough: queues with rivals behind, wide memory accesses, switched rows."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from programs import Asm

from accel.check import inspect
from accel.hardware.catalog import chip
from accel.isa import layout as w

MINI = chip("mini")


def test_a_rival_token_behind_an_ordered_one_is_found() -> None:
    a = Asm()
    s = a.sem("s")
    with a.thread("one"):
        a.inc(s)
        a.inc(s)
    with a.thread("two"):
        a.inc(s)
    with a.thread("use"):  # all three are there: takes the first of "one", whose second follows it; that of "two" not
        a.wait(s)
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
