"""A hand-made Program touches nothing outside the executor's arrays: forged ones run where every index is guarded."""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter

import numpy as np
import pytest

from accel.errors import AccelError, BoundsError
from accel.isa import layout as w
from accel.isa.table import BY_OPCODE
from accel.isa.work import most_instructions
from accel.machine import execute, executor
from accel.machine.words import X_BEGIN, X_COUNT, X_END
from accel.testing.choices import Choices
from accel.testing.legal_programs import legal_program

TABLES = ("code", "views", "exprs", "preds", "targets", "params", "shards", "spans", "role_of", "semaphore_init")
HUGE = (1 << 40, -(1 << 40), 1 << 31, -(1 << 31), 1 << 20, 1 << 16)


class EscapeError(Exception):
    """An index that NumPy would take from the other end, cut off, or refuse."""


class Guarded(np.ndarray):
    """An array whose every index must lie inside it; compiled code would read or write whatever is there."""

    def _check(self, key):
        parts = key if isinstance(key, tuple) else (key,)
        for axis, part in enumerate(part for part in parts if part is not None):
            size = self.shape[axis]
            if isinstance(part, slice):
                first, last = (0 if part.start is None else part.start), (size if part.stop is None else part.stop)
                if part.step is not None or not 0 <= first <= last <= size:
                    raise EscapeError(f"{part} of {size}")
            elif isinstance(part, np.ndarray) and part.size:
                if part.min() < 0 or part.max() >= size:
                    raise EscapeError(f"{part.min()} to {part.max()} of {size}")
            elif part is not Ellipsis and not 0 <= operator.index(part) < size:
                raise EscapeError(f"{part} of {size}")

    def __getitem__(self, key):
        """Check, then index."""
        self._check(key)
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        """Check, then assign."""
        self._check(key)
        super().__setitem__(key, value)


@pytest.fixture
def guarded(monkeypatch):
    """Let the plain engine run on guarded arrays; return how often it was called."""
    functions, calls = executor._functions, Counter()

    def wrapped(engine):
        def on_guarded(function):
            def call(*args):
                calls[engine] += 1
                return function(*(a.view(Guarded) if isinstance(a, np.ndarray) else a for a in args))

            return call

        return tuple(map(on_guarded, functions(engine)))

    monkeypatch.setattr(executor, "_functions", wrapped)
    return calls


def test_the_guard_sees_what_numpy_forgives():
    a = np.arange(6).view(Guarded)
    assert (a[5], a[2:4].sum()) == (5, 5)
    for key in (-1, 6, slice(-2, 3), slice(4, 9), slice(3, 2), np.array([0, 6]), np.array([-1, 2])):
        with pytest.raises(EscapeError):
            a[key]
        with pytest.raises(EscapeError):
            a[key] = 0
    with pytest.raises(EscapeError):
        a.reshape(2, 3)[1, 3]


def run_plain(case, program):
    return execute(program, case.inputs, engine="plain", random_seed=case.seed, schedule=case.seed % 3 or "natural")


def test_sound_programs_stay_inside(guarded):
    for seed in range(60):
        case = legal_program(Choices.seeded(seed))
        run_plain(case, case.program)
    assert guarded["plain"] >= 60


def test_without_the_bounds_the_guard_catches_an_escape(guarded, monkeypatch):
    """The same programs, with views believed to reach anywhere and their first byte moved: not one may go unnoticed."""
    sound = executor.executable_views

    def unbounded(program):
        views = sound(program)
        views[:, X_BEGIN], views[:, X_END] = -(1 << 40), 1 << 40
        return views

    case = legal_program(Choices.seeded(3))
    code = case.program.code.copy()
    copies = code[:, w.W_OPCODE] == 16
    code[copies, w.W_FIRST + 1] += 1 << 30
    forged = dataclasses.replace(case.program, code=code)
    with pytest.raises(BoundsError):
        run_plain(case, forged)
    monkeypatch.setattr(executor, "executable_views", unbounded)
    with pytest.raises(EscapeError):
        run_plain(case, forged)


def forge(rng, program):
    """Change one or two words of a program's tables, most often an address."""
    changed = {}
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(TABLES, p=[0.5, 0.15, 0.1, 0.05, 0.04, 0.08, 0.02, 0.02, 0.02, 0.02]))
        table = changed.get(name, getattr(program, name)).copy()
        if not table.size:
            continue
        used = np.flatnonzero(table)
        at = int(rng.choice(used)) if used.size and rng.random() < 0.8 else int(rng.integers(table.size))
        if name == "code" and rng.random() < 0.7:  # where an operand starts
            row = at // w.CODE_WORDS
            starts = [BY_OPCODE[int(program.code[row, w.W_OPCODE])].word(o.name) + 1
                      for o in BY_OPCODE[int(program.code[row, w.W_OPCODE])].views]  # fmt: skip
            at = row * w.CODE_WORDS + int(rng.choice(starts or [w.W_FIRST]))
        old, kind = int(table.flat[at]), int(rng.integers(4))
        table.flat[at] = (
            old + int(rng.choice([-64, -8, -4, -2, -1, 1, 2, 4, 8, 64])) if kind < 2
            else int(rng.integers(-4, 70)) if kind == 2 else int(rng.choice(HUGE))
        )  # fmt: skip
        changed[name] = table
    return dataclasses.replace(program, **changed)


def forged_outcomes(first, count):
    """Run forged programs; return how they ended. Any exception but AccelError fails the test that calls."""
    ended = Counter()
    for seed in range(first, first + count):
        rng = np.random.default_rng([seed, 99])
        case = legal_program(Choices.seeded(seed % 40))
        program = forge(rng, case.program)
        try:
            views = program.extended_views
        except AccelError:
            ended["refused"] += 1
            continue
        if views[:, X_COUNT].max() > 1 << 14 or most_instructions(program)[0] > 1 << 14:
            ended["too long"] += 1  # legal, and minutes of plain Python
            continue
        try:
            run_plain(case, program)
            ended["ran"] += 1
        except AccelError as error:
            ended[type(error).__name__] += 1
    return ended


def test_forged_programs_never_leave_the_arrays(guarded):
    ended = forged_outcomes(0, 300)
    assert min(ended["refused"], ended["ran"], ended["BoundsError"]) > 10, ended  # every way that there is


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(1000, 9000, 1000))
def test_many_forged_programs_never_leave_the_arrays(guarded, first):
    assert forged_outcomes(first, 1000)["ran"] > 50
