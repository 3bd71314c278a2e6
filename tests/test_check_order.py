"""Happens-before by search against the closure of all that was told; meshes of thousands of nodes."""

from __future__ import annotations

import random
from typing import TypeAlias

import pytest
from programs import copy_program, summa_program
from test_check import MINI, without

from accel.check import inspect, order
from accel.check import layout as w
from accel.check.arena import first_state
from accel.check.prepare import tables_of

Event: TypeAlias = tuple[int, int, int]  # component, tick, serial: as in `order.py`


class Told:
    """Threads that act, tell and learn at random, with the set of events that each of them knows."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.state = first_state(tables_of(copy_program(1, 2), 16), 0, 0)
        self.threads = int(self.state.m[w.M_NODES] * self.state.m[w.M_THREADS])
        self.known: list[set[Event]] = [set() for _ in range(self.threads)]
        self.events: list[Event] = []
        self.told: list[tuple[int, int, int, int, set[Event]]] = []

    def step(self) -> None:
        m, i = self.state.m, self.rng.randrange(self.threads)
        tick = order.own_tick.plain(m, i)
        what = self.rng.choice(["act", "inc", "copy", "learn", "learn"])
        if what == "act":
            self.happened((i, tick, order.serial_of.plain(m)), self.known[i])
        elif what == "learn":
            for owner, then, base, copied, known in self.rng.sample(self.told[-6:], min(1, len(self.told))):
                if owner != i or copied:
                    order.learn.plain(self.state, i, owner, then, base, copied)
                self.known[i] |= known
        else:
            base, known, copied = order.tell.plain(m, i), set(self.known[i]), 0
            if what == "copy":
                copied = int(m[w.X_EVENTS])
                m[w.X_EVENTS] += 1
                self.happened((w.COPIED, copied, order.serial_of.plain(m)), known)
            self.told.append((i, tick, base, copied, known))

    def happened(self, event: Event, known: set[Event]) -> None:
        self.events.append(event)
        known.add(event)


@pytest.mark.parametrize("seed", range(12))
def test_answers_equal_the_closure_of_all_that_was_told(seed: int) -> None:
    told = Told(seed)
    yes = no = 0
    for step in range(240):
        told.step()
        if step % 20 == 0:  # asked again and again: remembered answers must not grow stale
            for event in told.events:
                for i, known in enumerate(told.known):
                    expected = event in known
                    assert order.knows.plain(told.state, i, *event) == expected, (step, event, i)
                    assert expected or not order.knows_at_once.plain(told.state, i, *event)
                    yes, no = yes + expected, no + (not expected)
    assert min(yes, no) > 200


def test_an_event_that_no_token_tells_of_is_never_known() -> None:
    state = first_state(tables_of(copy_program(), 16), 0, 0)
    assert not order.knows.plain(state, 0, w.NEVER, 1, 1)
    assert order.knows.plain(state, 0, w.BEFORE, 1, 1)


def test_thousands_of_nodes_are_checked() -> None:
    program = summa_program(30, 40, 4, 4, 4, 4)
    assert inspect(program, MINI, schedules=0) == ()
    found = inspect(without(program, 2), MINI, schedules=0)
    assert found
    assert max(len(f.nodes) for f in found) == 1200
