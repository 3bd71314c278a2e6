"""Edits of waits and tokens that are no mistakes are left out by proof, and only by proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import summa_program
from test_check import ring

import accel
from accel.errors import ProgramError
from accel.isa import layout as w
from accel.isa.table import BY_MNEMONIC, opcode
from accel.testing import draw_inputs, mutants
from accel.testing.edits import Editor
from accel.testing.needed import NeededOrder
from accel.testing.terms import Terms

MINI = accel.chip("mini")
ROW, TWO = accel.tensor((1, 8), "fp32"), accel.tensor((2, 8), "fp32")


@accel.kernel
def twice(k: accel.K, x: accel.TensorSpec, y: accel.TensorSpec, *, spare: bool, swapped: bool = False) -> None:
    """y = x - 2 x, from rows that come one by one; `spare` adds a wait and inc that the others imply."""
    rows, out, told = k.sram((2, 8), "fp32", "rows"), k.sram((1, 8), "fp32", "out"), k.sem(name="told")
    full, done = k.sem(2, "full"), k.sem(name="done")

    @k.thread
    def load() -> None:
        for i in (1, 0) if swapped else (0, 1):
            k.copy(rows[i : i + 1], x[i : i + 1], done=full[i])
        if spare:
            k.inc(told)

    @k.thread
    def work() -> None:
        for i in range(2):
            k.wait(full[i])
        if spare:
            k.wait(told)
        k.vec.sub(out, rows[0:1], rows[1:2])
        k.copy(y, out, sent=done)
        k.wait(done)


def built(**how: bool) -> accel.Program:
    return twice.build("mini", mesh=(1, 1), x=TWO, y=ROW, **how)


def test_a_spare_pair_is_left_out_and_no_other_is() -> None:
    kinds = ["missing pair", "missing wait", "missing inc"]
    assert not mutants(built(spare=False), kinds=kinds).left_out
    found = mutants(built(spare=True), kinds=kinds)
    assert {m.description for m in found.left_out} == {"without a matching wait and inc of told"}
    assert all(m.program.findings() for m in found)
    assert repr(found) == f"<{len(found)} mutants; 1 edits left out that keep every needed order>"


def test_terms_are_of_data_and_not_of_places_or_order() -> None:
    terms = Terms()
    assert terms.of(built(spare=True).isa) == terms.of(built(spare=False).isa)
    assert terms.of(built(spare=False, swapped=True).isa) == terms.of(built(spare=False).isa)


@pytest.mark.parametrize("make", [lambda: summa_program(2, 3, 2, 2, 2, 5), lambda: ring(3, 4)])
def test_terms_differ_where_bits_do(make: Callable[[], Any]) -> None:
    """Every mutant of arithmetic that changes a bit of some run changes a term: terms see what numbers see."""
    program = accel.Program(make(), MINI)
    terms, inputs = Terms(), draw_inputs(program, 5)
    own, want, changed = terms.of(program.isa), program.run(inputs), 0
    for mutant in mutants(program, kinds=["wrong node", "swapped tile", "shifted halo", "flipped accumulate"], most=40):
        try:
            got, other = mutant.program.run(inputs), terms.of(mutant.program.isa)
        except accel.AccelError:
            continue
        if mutant.program.findings(schedules=0):
            continue  # each engine follows an order of its own
        differ = any(got[n].tobytes() != want[n].tobytes() for n in want)
        changed += differ
        assert other != own or not differ, str(mutant)
    assert changed


def edited(program: accel.Program, code: Any) -> accel.Program:
    return accel.Program(Editor(program.isa).with_code(code), MINI)


def test_other_operators_are_other_terms() -> None:
    program = built(spare=False)
    terms, code = Terms(), program.isa.code.copy()
    code[code[:, w.W_OPCODE] == opcode("vec.sub"), w.W_OPCODE] = opcode("vec.add")
    assert terms.of(edited(program, code).isa) != terms.of(program.isa)


def test_what_is_free_of_hazards_but_computes_something_else_is_a_mutant() -> None:
    """The views of the two rows exchanged: no race, and another difference."""
    program = built(spare=False)
    order, code = NeededOrder(program), program.isa.code.copy()
    (row,) = np.flatnonzero(code[:, w.W_OPCODE] == opcode("vec.sub"))
    x, y = (BY_MNEMONIC["vec.sub"].word(name) for name in ("x", "y"))
    code[row, [*range(x, x + 3), *range(y, y + 3)]] = code[row, [*range(y, y + 3), *range(x, x + 3)]]
    exchanged = edited(program, code)
    assert not order.findings(exchanged)
    assert not order.kept(exchanged)
    assert order.kept(edited(program, program.isa.code.copy()))


def test_terms_of_what_waits_for_ever() -> None:
    broken = mutants(built(spare=False), kinds="missing done")[0].program
    with pytest.raises(ProgramError, match="threads wait for ever"):
        Terms().of(broken.isa)
