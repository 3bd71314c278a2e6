"""What is no mistake by construction is no mutant: data that nobody reads, the least and the largest of one number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import accel
from accel.testing import mutants

X, Y, PEAKS = (accel.tensor(shape, "fp32") for shape in ((2, 8), (8,), (2, 1)))


@accel.kernel
def half_used(k: accel.K, x: accel.TensorSpec, y: accel.TensorSpec) -> None:
    """y = the first row of x, though both rows come in."""
    rows, done = k.sram((2, 8), "fp32", "rows"), k.sem(name="done")
    k.copy(rows[0], x[0], done=done)
    k.copy(rows[1], x[1], done=done)  # for nobody
    k.wait(done, 2)
    k.copy(y, rows[0], sent=done)
    k.wait(done)


@accel.kernel
def peak(k: accel.K, x: accel.TensorSpec, y: accel.TensorSpec, *, columns: int) -> None:
    """y = the largest of the first columns of each row; a mask of bytes is on the way."""
    held, best = k.sram((2, 8), "fp32", "held"), k.sram((2, 1), "fp32", "best")
    mask, done = k.sram((2, 1), "uint8", "mask"), k.sem(name="done")
    k.copy(held, x, done=done)
    k.wait(done)
    k.vec.fill(mask, 0)
    k.vec.reduce_max(best, held[:, :columns])
    k.vec.select(best, mask, held[:, :1], best)
    k.copy(y, best, sent=done)
    k.wait(done)


def test_a_copy_that_nobody_reads_has_mistakes_only_where_it_goes_elsewhere() -> None:
    program = half_used.build("mini", mesh=(1, 1), x=X, y=Y)
    found = mutants(program, kinds=["swapped tile", "shifted halo"])
    unread = [m for m in found if m.lines[0].line == half_used_line("for nobody")]
    assert unread
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    for mutant in unread:
        assert "dst of the copy" in mutant.description
        assert (mutant.program.run(x=x)["y"] != x[0]).any() or mutant.program.findings()
    assert any("src of the copy" in m.description for m in found if m not in unread)


def half_used_line(mark: str) -> int:
    text = Path(__file__).read_text(encoding="utf-8")
    return next(n for n, line in enumerate(text.splitlines(), 1) if mark in line)


def test_one_number_has_no_least_beside_its_largest() -> None:
    def swaps(columns: int) -> int:
        program = peak.build("mini", mesh=(1, 1), x=X, y=PEAKS, columns=columns)
        return sum("reduce_min in place" in m.description for m in mutants(program, kinds="wrong operator"))

    assert swaps(1) == 0
    assert swaps(2) == 1


def test_numbers_of_integers_are_integers() -> None:
    program = peak.build("mini", mesh=(1, 1), x=X, y=PEAKS, columns=8)
    (mutant,) = mutants(program, kinds="wrong number")
    assert "1 in place of 0" in mutant.description
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    assert program.run(x=x)["y"].tolist() == [[7], [15]]
    assert mutant.program.run(x=x)["y"].tolist() == [[0], [8]]


@accel.kernel
def unless(k: accel.K, x: accel.TensorSpec, flag: accel.TensorSpec, y: accel.TensorSpec) -> None:
    """y = the first row of x, or zeros where the flag is set."""
    row, zeros = k.sram((8,), "fp32", "row"), k.sram((8,), "fp32", "zeros")
    wide, mask, done = k.sram((1,), "fp32", "wide"), k.sram((1,), "uint8", "mask"), k.sem(name="done")
    k.copy(row, x[0], done=done)
    k.copy(wide, flag, done=done)
    k.wait(done, 2)
    k.vec.fill(zeros, 0.0)
    k.vec.compare(mask, wide, "!=", 0.0)
    k.vec.select(row, mask, zeros, row)
    k.copy(y, row, sent=done)
    k.wait(done)


def test_inputs_tell_what_is_read() -> None:
    """Every drawn flag is set; only who gives one that is not sees that x is read."""
    program = unless.build("mini", mesh=(1, 1), x=X, flag=accel.tensor((1,), "fp32"), y=Y)
    x = np.arange(16, dtype=np.float32).reshape(2, 8)

    def sources(inputs: list[dict[str, object]]) -> int:
        found = mutants(program, kinds="shifted halo", inputs=inputs)
        return sum("src of the copy is" in m.description and m.description.endswith(" x") for m in found)

    assert sources([{"x": x, "flag": [1.0]}]) == 0
    assert sources([{"x": x, "flag": [0.0]}]) == 1
