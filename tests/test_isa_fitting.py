"""Hand-made rows and views that belong nowhere: each is refused, and its neighbour that is right is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from programs import Asm

from accel.errors import ProgramError
from accel.isa import layout as w
from accel.isa.program import Program


def single(emit: Callable[[Asm], object]) -> Program:
    a = Asm(1, 1, threads=1)
    with a.thread("main"):
        emit(a)
    return a.program()


def copied(shape: tuple[int, int]) -> Callable[[Asm], object]:
    def emit(a: Asm) -> object:
        return a.emit("vec.copy" if shape == (0, 0) else "copy", dst=a.at(a.sram("p", (2, 3))),
                      src=a.at(a.sram("q", shape)), to=w.TARGET_SELF, done=(-1, 0), sent=(-1, 0))  # fmt: skip

    return emit


def compared(relation: int) -> Callable[[Asm], object]:
    def emit(a: Asm) -> object:
        f, m = a.sram("f", (8,), "fp32"), a.sram("m", (8,), "uint8")
        return a.emit("vec.compare", dst=a.at(m), x=a.at(f), y=a.at(f), relation=relation)

    return emit


def gathered(columns: int, index: tuple[int, ...]) -> Callable[[Asm], object]:
    def emit(a: Asm) -> object:
        rows, table, at = a.sram("r", (4, 6)), a.sram("t", (9, columns)), a.sram("i", index, "int32")
        return a.emit("vec.gather", dst=a.at(rows), x=a.at(table), index=a.at(at))

    return emit


def ringed(base: int, size: int) -> Callable[[Asm], object]:
    def emit(a: Asm) -> object:
        a.sram("before", (16,), "fp32")
        b = a.sram("b", (4, 4), "fp32")  # bytes 64 to 128
        return a.emit("vec.neg", dst=a.at(a.sram("d", (2, 4), "fp32")), x=a.view(b, (2, 4), (16, 4), ring=(base, size)))

    return emit


def scaled(scalar: int) -> Callable[[Asm], object]:
    def emit(a: Asm) -> object:
        q, f = a.sram("q", (4,), "cfp8-143"), a.sram("f", (4,), "fp32")
        s = a.sram("s", (1,), "uint8")
        return a.emit("vec.cast", dst=a.at(f), x=a.view(q, (4,), (1,), scalar=1 + s.address + scalar))

    return emit


@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [
        (copied((2, 3)), copied((3, 2)), "do not fit"),
        (compared(1), compared(0), "relation 0"),
        (compared(6), compared(7), "relation 7"),
        (gathered(6, (4,)), gathered(5, (4,)), "do not fit"),
        (gathered(6, (4,)), gathered(6, (4, 1)), "do not fit"),
        (gathered(6, (4,)), gathered(6, (3,)), "do not fit"),
        (ringed(64, 64), ringed(60, 64), "no elements of its buffer"),
        (ringed(80, 48), ringed(80, 52), "no elements of its buffer"),
        (ringed(64, 32), ringed(64, 34), "no elements of its buffer"),
        (ringed(64, 32), ringed(64, 28), "in a ring of 28"),
        (scaled(0), scaled(1), "which is in no buffer"),
    ],
    ids=["copy", "relation-0", "relation-7", "columns", "index-shape", "index-rows", "ring-before", "ring-after",
         "ring-items", "ring-short", "scalar"],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(
    right: Callable[[Asm], object], wrong: Callable[[Asm], object], text: str
) -> None:
    single(right).require_sound()
    with pytest.raises(ProgramError, match=text):
        single(wrong).require_sound()


def test_words_that_no_loop_uses_are_zero() -> None:
    def emit(a: Asm) -> object:
        f = a.sram("f", (8,), "fp32")
        return a.emit("vec.neg", dst=a.at(f), x=a.at(f, expr=a.expr(params=[(0, 0)])))

    program = single(emit)
    program.require_sound()
    for word in (w.E_LOOPS + w.L_MUL, w.E_LOOPS + w.EXPR_LOOP_WORDS + w.L_ADD, w.E_PARAMS + 3):
        exprs = np.array(program.exprs)
        exprs[1, word] = 1
        with pytest.raises(ProgramError, match="exprs"):
            dataclasses.replace(program, exprs=exprs).require_sound()


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x1b", "\x85"])
def test_names_that_break_a_line_are_refused(mark: str) -> None:
    program = single(compared(1))
    with pytest.raises(ProgramError, match="control character"):
        dataclasses.replace(program, name=f"a{mark}b").require_sound()
