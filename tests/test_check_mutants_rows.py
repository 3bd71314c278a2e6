"""Kernels with pulls and rings are clean; edits of them that `accel.testing.mutants` does not make are reported."""

from __future__ import annotations

import pytest
from test_check import without
from test_check_mutants import INC, MINI, SENT, WAIT, kinds, rows_of, with_code

import accel
from accel.check import inspect
from accel.isa.program import Program
from accel.isa.table import BY_MNEMONIC, opcode

PULL = opcode("pull")
SEM = {WAIT: BY_MNEMONIC["wait"].word("sem"), INC: BY_MNEMONIC["inc"].word("sem")}
FRAMES = 5


def pulling(k, x, y, *, rounds):
    """Every node pulls its left neighbour's block and pulls again, double-buffered, with credits for each slot."""
    _, cols = k.mesh
    left, right = (k.col + cols - 1) % cols, (k.col + 1) % cols
    buf = k.sram((2, 8), "fp32", "buf")
    here, put = k.sem(name="here"), k.sem(name="put")
    ready, got, gone = (k.sem(2, name) for name in ("ready", "got", "gone"))

    @k.thread
    def work():
        k.copy(buf[0], x[k.col], done=here)
        k.wait(here)
        k.inc(ready[0], at=(0, right))  # buf[0] may be pulled
        for r in range(rounds):
            s = r % 2
            if r:
                k.wait(gone[1 - s])  # the right neighbour has what is in the slot that comes next
            k.wait(ready[s])
            k.pull(buf[1 - s], buf[s], of=(0, left), done=got[1 - s], sent=gone[s])
            k.wait(got[1 - s])
            k.inc(ready[1 - s], at=(0, right))
        k.wait(gone[1 - rounds % 2])
        k.wait(ready[rounds % 2])
        k.copy(y[k.col], buf[rounds % 2], sent=put)
        k.wait(put)


def streaming(k, x, y, *, rows):
    """Rows stream through a ring; every result is a window of three of them, which wraps."""
    frames, window = k.sram((FRAMES, 8), "fp32", "frames"), k.sram((3, 8), "fp32", "window")
    full, free, made, stored = (k.sem(name=n) for n in ("full", "free", "made", "stored"))
    ring = frames.ring()

    @k.thread
    def load():
        for r in range(rows):
            if r >= FRAMES:
                k.wait(free)
            k.copy(ring[r : r + 1], x[r : r + 1], done=full)
            k.wait(full)
            k.inc(made)

    @k.thread
    def use():
        for r in range(rows - 2):
            k.wait(made, 1 if r else 3)
            k.vec.copy(window, ring[r : r + 3])
            if r < rows - FRAMES:
                k.inc(free)
            k.copy(y[r], window, sent=stored)
            k.wait(stored)


def pulls() -> Program:
    line = accel.tensor((3, 8), "fp32")
    return accel.kernel(pulling).build(MINI, mesh=(1, 3), x=line, y=line, rounds=4).isa


def streams() -> Program:
    x, y = accel.tensor((12, 8), "fp32"), accel.tensor((10, 3, 8), "fp32")
    return accel.kernel(streaming).build(MINI, mesh=(1, 1), x=x, y=y, rows=12).isa


PROGRAMS = {"pulls": pulls, "streams": streams}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernels_themselves_are_clean(name: str) -> None:
    assert inspect(PROGRAMS[name](), MINI, schedules=6) == ()


@pytest.mark.parametrize(("name", "sem"), [("pulls", "ready"), ("pulls", "gone"), ("streams", "free")])
def test_matching_pairs_that_are_missing_show_as_races(name: str, sem: str) -> None:
    """Without any wait for a credit and all that gives it, counts balance and slots are filled too early."""
    program = PROGRAMS[name]()
    held = next(s for s in program.semaphores if s.name == sem)
    mine = range(held.index, held.index + held.count)
    code = program.code.copy()
    for r in rows_of(program, PULL):
        if code[r, SENT] in mine:
            code[r, SENT : SENT + 2] = -1, 0
    gone = [r for op in (WAIT, INC) for r in rows_of(program, op) if code[r, SEM[op]] in mine]
    assert "race" in kinds(without(with_code(program, code), *gone))


def test_a_pull_from_the_wrong_neighbour_is_reported() -> None:
    program = pulls()
    word = BY_MNEMONIC["pull"].word("of")
    rights = program.code[rows_of(program, INC)[0], BY_MNEMONIC["inc"].word("at")]
    for r in rows_of(program, PULL):
        code = program.code.copy()
        code[r, word] = rights
        assert kinds(with_code(program, code)), r


@pytest.mark.parametrize("step", [-1, 1])
def test_a_window_one_slot_off_is_reported(step: int) -> None:
    program = streams()
    row = BY_MNEMONIC["vec.copy"]
    for first, r in enumerate(rows_of(program, row.opcode)):
        code = program.code.copy()
        code[r, row.word("x") + 1] += 32 * step
        # the slot before is filled again by row `first` + 4, the one behind by `first` + 3: where there is none the
        # values are wrong, but in order
        hazard = first + (4 if step < 0 else 3) < 12
        assert bool(kinds(with_code(program, code)) & {"race", "uninitialised"}) == hazard, first
