"""Synchronisation mutants, plain and balanced: every one is reported; harmless rewrites are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from programs import copy_program, matmul_program, summa_program
from test_check import barriers, fifo, ring, without

import accel
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
PROGRAMS = {
    "copy": lambda: copy_program(2, 2),
    "matmul": lambda: matmul_program(3, 4, 5),
    "summa": lambda: summa_program(2, 3, 2, 2, 2, 5),
    "ring": lambda: ring(3, 4),
    "fifo": lambda: fifo(5, 2),
    "barriers": lambda: barriers(1, 2, 2),
}


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


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_missing_wait_inc_and_barrier_is_reported(name: str) -> None:
    program = PROGRAMS[name]()
    rows = rows_of(program, WAIT, INC, BARRIER)
    assert rows
    # the last frees of the fifo give what nobody waits for: two slots were free from the start
    harmless = [r for r in rows if program.code[r, 0] == INC][-2:] if name == "fifo" else []
    assert [r for r in rows if not kinds(without(program, r))] == harmless


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_missing_done_and_sent_is_reported(name: str) -> None:
    program = PROGRAMS[name]()
    for r in rows_of(program, COPY):
        for word in (DONE, SENT):
            if program.code[r, word] >= 0:
                code = program.code.copy()
                code[r, word : word + 2] = -1, 0
                assert kinds(with_code(program, code)), (r, word)


def pairs_of_summa(program: Program) -> Iterator[tuple[int, ...]]:
    """Matching (wait, inc) rows: the k-th wait for a free slot with the k-th inc that frees it."""
    for sem in range(4, 8):  # A_free[0], A_free[1], B_free[0], B_free[1]
        waits = [r for r in rows_of(program, WAIT) if program.code[r, SEM[WAIT]] == sem]
        incs = [r for r in rows_of(program, INC) if program.code[r, SEM[INC]] == sem]
        assert len(waits) == len(incs) > 0
        yield from zip(waits, incs, strict=True)
        yield (*waits, *incs)


def test_matching_pairs_that_are_missing_show_as_races() -> None:
    program = summa_program(2, 3, 2, 2, 2, 6)
    pairs = list(pairs_of_summa(program))
    assert len(pairs) == 12
    for rows in pairs:
        assert "race" in kinds(without(program, *rows)), rows


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wait_past_its_use_is_reported(name: str) -> None:
    program = PROGRAMS[name]()
    # of slots that nobody has read from yet; and of one that nobody fills again, awaited with the store at the end
    first_uses = {"ring": [3, 20], "fifo": [0, 2]}
    tried, clean = 0, []
    for r in rows_of(program, WAIT):
        after = r + 1
        while after < len(program.code) and program.code[after, 0] == WAIT:
            after += 1
        together = any(first <= r and after < last for first, last in program.spans[0].tolist())
        if (
            together
            and program.code[after, 0] not in (BARRIER, INC)
            and (program.code[[r, after], w.W_PRED] == 0).all()
        ):
            tried += 1
            if not kinds(moved(program, r, after)):
                clean.append(r)
    assert clean == first_uses.get(name, [])
    assert tried > 0


def test_an_inc_before_its_use_is_reported() -> None:
    program = summa_program(2, 3, 2, 2, 2, 5)
    tried = 0
    for r in rows_of(program, INC):
        before = r - 1
        while program.code[before, 0] == INC:
            before -= 1
        tried += 1
        assert kinds(moved(program, r, before)), r
    assert tried == 7


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


def test_the_wrong_peer_is_reported() -> None:
    program = summa_program(2, 3, 2, 2, 2, 5)
    incs = [r for r in rows_of(program, INC) if program.code[r, BY_MNEMONIC["inc"].word("at")] > w.TARGET_ALL]
    word = BY_MNEMONIC["inc"].word("at")
    targets = sorted(set(program.code[incs, word].tolist()))
    for r in incs:
        for target in targets:
            if target != program.code[r, word]:
                code = program.code.copy()
                code[r, word] = target
                assert kinds(with_code(program, code)), (r, target)


def test_harmless_rewrites_stay_clean() -> None:
    program = summa_program(2, 3, 2, 2, 2, 5)
    full = [r for r in rows_of(program, WAIT) if program.code[r, SEM[WAIT]] < 4]
    swapped = 0
    for first, second in zip(full[::2], full[1::2], strict=True):  # wait for B before A
        assert kinds(moved(program, first, second)) == set()
        swapped += 1
    assert swapped == 5


@pytest.mark.parametrize("shape", [(64, 48, 32), (37, 53, 71), (256, 256, 256)])
def test_library_matmul_is_clean_and_its_mutants_are_not(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    program = accel.kernels.matmul.build(MINI, m=m, n=n, k=k, dtype="bf16").isa
    assert inspect(program, MINI) == ()
    rows = rows_of(program, WAIT, INC)
    assert rows
    assert [r for r in rows[:: max(1, len(rows) // 40)] if not kinds(without(program, r))] == []
