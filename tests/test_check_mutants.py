"""Edits of hand-made programs that `accel.testing.mutants` does not make, and rewrites that do no harm."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from programs import summa_program
from test_check import fifo

from accel.check import inspect
from accel.hardware.catalog import chip
from accel.isa import layout as w
from accel.isa.program import Program
from accel.isa.table import BY_MNEMONIC, opcode
from accel.machine import execute

MINI = chip("mini")
WAIT, INC, COPY, MATMUL, BARRIER = map(opcode, ("wait", "inc", "copy", "matmul", "barrier"))
SEM = {WAIT: BY_MNEMONIC["wait"].word("sem"), INC: BY_MNEMONIC["inc"].word("sem")}
DONE, SENT = BY_MNEMONIC["copy"].word("done"), BY_MNEMONIC["copy"].word("sent")


def rows_of(program: Program, *opcodes: int) -> list[int]:
    return [r for r in range(len(program.code)) if program.code[r, 0] in opcodes]


def with_code(program: Program, code: Any) -> Program:
    return dataclasses.replace(program, code=code)


def moved(program: Program, row: int, to: int) -> Program:
    """The program with one row moved to another place; what lies between moves up or down by one."""
    order = list(range(len(program.code)))
    order.insert(to, order.pop(row))
    return with_code(program, program.code[order])


def kinds(program: Program, schedules: int = 1) -> set[str]:
    return {f.kind for f in inspect(program, MINI, schedules=schedules)}


def merged(program: Program, first: int, second: int) -> Program:
    """The program with two semaphores of copies in one."""
    code = program.code.copy()
    for r in rows_of(program, WAIT, COPY):
        word = SEM[WAIT] if code[r, 0] == WAIT else DONE
        if code[r, word] == second:
            code[r, word] = first
    return with_code(program, code)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (2, 3), (0, 3), (1, 2)])
def test_two_semaphores_merged_are_reported(first: int, second: int) -> None:
    assert "ambiguous" in kinds(merged(summa_program(2, 3, 2, 2, 2, 5), first, second))


@pytest.mark.parametrize(("first", "second"), [(0, 2), (1, 3)])
def test_two_semaphores_that_are_awaited_together_may_be_one(first: int, second: int) -> None:
    program = merged(
        summa_program(2, 3, 2, 2, 2, 5), first, second
    )  # A and B of one slot: a wait for each, back to back
    assert kinds(program, schedules=3) == set()
    rng = np.random.default_rng(1)
    arrays = {t.name: rng.integers(0, 1 << 14, t.shape).astype(np.uint16) for t in program.tensors if t.is_input}
    natural = execute(program, arrays)["c"]
    assert all(np.array_equal(execute(program, arrays, schedule=seed)["c"], natural) for seed in range(12))


def test_the_other_slot_is_reported() -> None:
    program = summa_program(2, 3, 2, 2, 2, 5)
    slot = 2 * 2 * 2
    last = rows_of(program, MATMUL)[-1]  # it would read the panel before its own: wrong values, but no hazard
    for mnemonic, operand in (("copy", "dst"), ("matmul", "a"), ("matmul", "b")):
        word = BY_MNEMONIC[mnemonic].word(operand) + 1
        for r in rows_of(program, opcode(mnemonic)):
            code = program.code.copy()
            if program.views[code[r, word - 1], w.V_SPACE] != w.SPACE_SRAM:
                continue
            buffer = next(b for b in program.buffers if b.offset <= code[r, word] < b.offset + b.nbytes)
            if buffer.name in ("A", "B") and r != last:
                code[r, word] = buffer.offset + slot * (code[r, word] == buffer.offset)
                assert kinds(with_code(program, code)) & {"race", "uninitialised"}, (mnemonic, r)
    assert kinds(fifo(6, 2)) == set()
    assert kinds(fifo(6, 2, slots=1)) & {"race", "uninitialised"}


def test_harmless_rewrites_stay_clean() -> None:
    program = summa_program(2, 3, 2, 2, 2, 5)
    full = [r for r in rows_of(program, WAIT) if program.code[r, SEM[WAIT]] < 4]
    swapped = 0
    for first, second in zip(full[::2], full[1::2], strict=True):  # wait for B before A
        assert kinds(moved(program, first, second)) == set()
        swapped += 1
    assert swapped == 5
