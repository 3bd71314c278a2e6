"""Hand-made and damaged programs: every engine refuses them in the same words, and none crashes or hangs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import AccelError, InternalError, ProgramError
from accel.isa import container
from accel.isa import layout as w
from accel.isa.program import Program as Data
from tests.programs import Asm, copy_program

CHIP = accel.chip("mini")
TABLES = ("code", "spans", "role_of", "params", "views", "exprs", "preds", "targets", "semaphore_init")
WILD = (0, 1, -1, 2, 3, 7, 16, 255, 65536, 1 << 31, 1 << 40, (1 << 40) + 1, (1 << 63) - 1, -(1 << 63), -(1 << 40))


def sound() -> Data:
    return copy_program(2, 2)


def looped(trips: int = 3) -> Data:
    a = Asm()
    s = a.sem("s")
    with a.thread("go"), a.loop(trips):
        a.inc(s)
        a.wait(s)
    return a.program()


def edited(program: Data, table: str, at: tuple[int, ...], value: int) -> Data:
    words = getattr(program, table).copy()
    words[at] = value
    return dataclasses.replace(program, **{table: words})


def run(program: accel.Program) -> object:
    return program.run({name: np.zeros(shape) for name, (shape, _) in program.inputs.items()})


ENGINES: dict[str, Callable[[accel.Program], object]] = {
    "run": run,
    "time": lambda p: p.time(),
    "bound": lambda p: p.time("bound"),
    "check": lambda p: p.findings(schedules=1),
    "asm": lambda p: p.asm(),
    "sample": lambda p: p.sample_outputs(1),
}

BROKEN: dict[str, Callable[[], Data]] = {
    "opcode 99.*no such row": lambda: edited(sound(), "code", (0, w.W_OPCODE), 99),
    "names predicate 77": lambda: edited(sound(), "code", (0, w.W_PRED), 77),
    "names line 99": lambda: edited(sound(), "code", (0, w.W_LINE), 99),
    "names view -1": lambda: edited(sound(), "code", (0, w.W_FIRST), -1),
    "names expression 55": lambda: edited(sound(), "code", (0, w.W_FIRST + 2), 55),
    "names parameter 99": lambda: edited(sound(), "exprs", (0, w.E_PARAMS), 99),
    "names loop level 4": lambda: edited(sound(), "exprs", (0, w.E_LOOPS), 4),
    "names role 5": lambda: edited(sound(), "role_of", (0,), 5),
    "names relation 9": lambda: edited(sound(), "preds", (1, w.P_TERMS + 2), 9),
    "a thread has rows 0 to 999": lambda: edited(sound(), "spans", (0, 0, 1), 999),
    "beyond 2\\^40": lambda: edited(sound(), "params", (0, 2 if sound().params.shape[1] > 2 else 0), 1 << 50),
    "names object 9 of": lambda: edited(sound(), "views", (0, w.V_OBJECT), 9),
    "shape \\[.*-4": lambda: edited(sound(), "views", (0, w.V_SHAPE + 2), -4),
    "reaches further": lambda: edited(sound(), "views", (0, w.V_STRIDE + 2), 1 << 40),
    "format code 99": lambda: edited(sound(), "views", (0, w.V_DTYPE), 99),
    "counts of 0 or more": lambda: edited(sound(), "semaphore_init", (0,), -1),
    "its loop is not there": lambda: edited(looped(), "code", (3, w.W_FIRST), 2),
    "its end is not there": lambda: edited(looped(), "code", (0, w.W_FIRST + 2), 99),
    "more than 2\\^40; make fewer trips": lambda: looped(1 << 39),
    "sizes or flops": lambda: dataclasses.replace(sound(), memory_bytes=-1),
    "threads a node": lambda: dataclasses.replace(sound(), threads=0),
    "table 'params' has shape": lambda: dataclasses.replace(sound(), rows=7),
    "cannot take 5 bytes": lambda: dataclasses.replace(
        sound(), tensors=(dataclasses.replace(sound().tensors[0], nbytes=5), sound().tensors[1])
    ),
    "is there twice": lambda: dataclasses.replace(sound(), tensors=(sound().tensors[0],) * 2),
    "takes bytes 1152921504606846976 to": lambda: dataclasses.replace(
        sound(), buffers=(dataclasses.replace(sound().buffers[0], offset=1 << 60),)
    ),
}


@pytest.mark.parametrize("part", BROKEN)
def test_all_engines_refuse_a_broken_program_in_the_same_words(part: str) -> None:
    program = accel.Program(BROKEN[part](), CHIP)
    said = set()
    for call in ENGINES.values():
        with pytest.raises(ProgramError, match=part) as caught:
            call(program)
        said.add(str(caught.value))
    assert len(said) == 1
    assert "\n" not in said.pop()


@pytest.mark.parametrize("make", [sound, looped])
def test_the_programs_that_the_damage_starts_from_are_sound(make: Callable[[], Data]) -> None:
    program = accel.Program(make(), CHIP)
    assert run(program) is not None
    assert program.time().cycles > 0
    assert program.findings(schedules=1) == ()


@pytest.mark.parametrize("seed", range(12))
def test_wild_words_end_in_a_result_or_in_an_error_of_ours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(10):
        program = (sound, looped)[int(rng.integers(2))]()
        for _ in range(int(rng.integers(1, 4))):
            name = TABLES[int(rng.integers(len(TABLES)))]
            table = getattr(program, name)
            if table.size:
                at = tuple(int(rng.integers(n)) for n in table.shape)
                program = edited(program, name, at, WILD[int(rng.integers(len(WILD)))])
        image = container.to_bytes(program)
        assert container.to_bytes(container.from_bytes(image)) == image  # the file holds what it was given
        if program.threads and most_trips(program) > 1 << 20:
            continue  # legal, and long: what it would take is no concern of this test
        for call in ENGINES.values():
            outcome(call, accel.Program(program, CHIP))


def most_trips(program: Data) -> int:
    return int(np.abs(program.code[:, w.W_FIRST]).max(initial=0)) if len(program.code) == 4 else 0


def outcome(call: Callable[[accel.Program], Any], program: accel.Program) -> None:
    """Call it; a result is as good as an error that blames the program, and nothing else is."""
    try:
        call(program)
    except InternalError:
        raise
    except AccelError:
        return


def test_tables_that_are_no_numbers() -> None:
    with pytest.raises(ProgramError, match="table 'code' of 'hand' is no array of int64"):
        dataclasses.replace(sound(), code=[["x"]])  # type: ignore[arg-type]
