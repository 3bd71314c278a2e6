"""Sound things that fuzzing starts from: programs, their files and texts, chips, rows of measurements."""

from __future__ import annotations

import dataclasses
import functools
from importlib.resources import files

import accel
from accel.isa import container
from accel.isa.disassembly import disassemble
from accel.isa.program import Program as Data
from accel.kernels import matmul
from tests.programs import Asm, copy_program, matmul_program, summa_program
from tests.test_assembly import HAND, biased, every_kind, traced


def looped() -> Data:
    """Two threads that hand a token to and fro in nested loops."""
    a = Asm(2, 1)
    s, t = a.sem("s"), a.sem("t")
    with a.thread("one"), a.loop(2), a.loop(3):
        a.inc(s)
        a.wait(t)
    with a.thread("two"), a.loop(6):
        a.wait(s)
        a.inc(t)
    return a.program()


@functools.cache
def programs() -> tuple[Data, ...]:
    """Return the programs, every one with the chip `mini` in it."""
    mini = accel.chip("mini").to_json()
    made = (
        copy_program(2, 2), matmul_program(5, 6, 7), summa_program(2, 2, 4, 4, 4, 3), looped(), traced(), biased(),
        every_kind(), matmul.build("mini", m=20, n=12, k=24).isa,
        matmul.build("mini", m=16, n=16, k=16, resident=("a", "b", "c")).isa,
    )  # fmt: skip
    return tuple(dataclasses.replace(program, chip=mini) for program in made)


@functools.cache
def images() -> tuple[bytes, ...]:
    """Return the program files."""
    return tuple(container.to_bytes(program) for program in programs())


@functools.cache
def texts() -> tuple[str, ...]:
    """Return the assembly, chips by name, and one text typed by hand."""
    return (*(disassemble(program, chip_name="mini") for program in programs()), HAND)


@functools.cache
def toml() -> tuple[str, ...]:
    """Return chips as TOML."""
    return accel.chip("mini").to_toml(), accel.chip("d1").to_toml()


@functools.cache
def tables() -> tuple[str, ...]:
    """Return the first rows of the packaged measurements, as CSV."""
    folder = files("accel.baselines").joinpath("data")
    return tuple(
        "\n".join(folder.joinpath(name).read_text("utf-8").splitlines()[:8]) + "\n"
        for name in ("gpu_gemm.csv", "gpu_conv.csv")
    )
