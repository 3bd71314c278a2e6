"""Refuses code rows whose operands do not belong together: indices, spaces, shapes and formats, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import Location, ProgramError
from accel.isa import layout as w
from accel.isa.schema import WORDS_OF, Kind, Row
from accel.isa.table import BY_OPCODE
from accel.numerics.formats import by_code, fmt

if TYPE_CHECKING:
    from accel.isa.program import Program, Table

__all__ = ["FLOATS", "INTEGERS", "NARROW", "check_operands", "location", "misfit", "refuse", "within"]

FLOATS = frozenset({"fp32", "bf16", "fp16", "cfp8-143", "cfp8-152", "shp16", "uhp16"})
INTEGERS = frozenset({"int8", "uint8", "int32"})
CFP8 = frozenset({"cfp8-143", "cfp8-152"})
BYTES = frozenset({"int8", "uint8"})
NARROW = frozenset({"bf16", "fp16", "shp16", "uhp16"})  # formats that a matmul may round a finished result to
COPIES = frozenset({"copy", "pull"})
# Rows that move bits untouched, and the operands that must have one format.
MOVES = {"copy": ("dst", "src"), "pull": ("dst", "src"), "vec.copy": ("dst", "x"), "vec.transpose": ("dst", "x"),
         "vec.select": ("dst", "x", "y"), "vec.gather": ("dst", "x")}  # fmt: skip
ONE_FORMAT = {"vec.compare": ("x", "y"), "vec.scatter_add": ("dst", "x")}
# Operands of a fixed set of formats.
TAKES = {
    ("vec.compare", "dst"): {"uint8"}, ("vec.comparei", "dst"): {"uint8"}, ("vec.select", "mask"): {"uint8"},
    ("vec.gather", "index"): {"int32"}, ("vec.scatter_add", "index"): {"int32"}, ("vec.cast_sr", "x"): FLOATS,
    ("vec.scatter_add", "x"): FLOATS,
    ("vec.iota", "dst"): {"int32", "fp32", "bf16", "fp16"}, ("vec.random", "dst"): {"int32", "fp32"},
}  # fmt: skip
MIXES = frozenset({"vec.cast", "vec.cast_sr", "vec.compare", "vec.comparei", "probe", "vec.iota", "vec.random",
                   *MOVES, *ONE_FORMAT})  # fmt: skip
LARGEST_STREAM = 1 << 32


def location(program: Program, row: int) -> Location | None:
    """Return the author's line of a code row, or None where the program has none."""
    line = int(program.code[row, w.W_LINE])
    return program.lines[line] if 0 <= line < len(program.lines) else None


def refuse(program: Program, row: int, text: str) -> ProgramError:
    """Return the error that says what is wrong with a code row, at the author's line."""
    code = int(program.code[row, w.W_OPCODE])
    name = BY_OPCODE[code].mnemonic if code in BY_OPCODE else f"opcode {code}"
    return ProgramError(f"Cannot use row {row} ({name}): {text}; rebuild the program", at=location(program, row))


def within(program: Program, name: str, column: Any, low: int, high: int, what: str) -> None:
    """Raise ProgramError unless every number of a table's column lies in low <= number < high."""
    column = np.asarray(column)
    if column.size and (int(column.min()) < low or int(column.max()) >= high):
        bad = int(column[(column < low) | (column >= high)].flat[0])
        raise ProgramError(
            f"Cannot use {program.name!r}: table {name!r} names {what} {bad}, but there are {high}; rebuild the program"
        )


def check_operands(program: Program, views: Table) -> None:
    """Raise ProgramError unless all operands of all code rows exist and belong together; `views` are extended."""
    code = program.code
    for number in np.unique(code[:, w.W_OPCODE]).tolist():
        rows = np.flatnonzero(code[:, w.W_OPCODE] == number)
        row = BY_OPCODE.get(number)
        if row is None:
            raise refuse(program, int(rows[0]), "the instruction table has no such row")
        picked = code[rows]
        at = w.W_FIRST
        for operand in row.operands:
            if operand.kind is Kind.VIEW:
                within(program, "code", picked[:, at], 0, len(program.views), "view")
                spaces = [w.SPACE_SRAM if s == "sram" else w.SPACE_MEMORY for s in operand.spaces]
                wrong = ~np.isin(views[picked[:, at], w.V_SPACE], spaces)
                if wrong.any():
                    raise refuse(
                        program, int(rows[wrong][0]), f"operand {operand.name} must lie in {operand.spaces[0]}"
                    )
                within(program, "code", picked[:, at + 2], 0, len(program.exprs), "expression")
            elif operand.kind in (Kind.SEM, Kind.VALUE, Kind.INDEX):
                within(program, "code", picked[:, at + 1], 0, len(program.exprs), "expression")
            elif operand.kind is Kind.TARGET:
                within(program, "code", picked[:, at], 0, len(program.targets), "target")
            elif operand.kind is Kind.FLOAT:
                within(program, "code", picked[:, at], 0, 1 << 32, "the bits of a number")
            elif operand.name == "relation":
                within(program, "code", picked[:, at], 1, 7, "relation")
            elif operand.name == "stream":
                within(program, "code", picked[:, at], 0, LARGEST_STREAM, "random stream")
            elif operand.name in ("phase", "name"):
                within(program, "code", picked[:, at], 0, max(1, len(program.marks)), "mark")
            at += WORDS_OF[operand.kind]
        _sets(program, views, row, rows, picked)
        if row.mnemonic == "matmul":
            _rounded_sums(program, views, row, rows, picked)


def _rounded_sums(program: Program, views: Table, row: Row, rows: Table, picked: Table) -> None:
    """Refuse a matmul that adds to sums which were rounded on their way out."""
    formats = views[picked[:, row.word("dst")], w.V_DTYPE]
    narrow = np.isin(formats, [fmt(name).code for name in NARROW])
    wrong = np.flatnonzero(narrow & (picked[:, row.word("accumulate")] != 0))
    if wrong.size:
        name = by_code(int(formats[wrong[0]])).name
        text = f"it accumulates in dst, whose sums were rounded to {name}; accumulate in fp32, or write {name} once"
        raise refuse(program, int(rows[wrong[0]]), text)


def _sets(program: Program, views: Table, row: Row, rows: Table, picked: Table) -> None:
    """Check shapes and formats, once a distinct set of views."""
    if not row.views:
        return
    columns = [row.word(o.name) for o in row.views]
    names = [o.name for o in row.views]
    sets, first = np.unique(picked[:, columns], axis=0, return_index=True)
    for ids, at in zip(sets.tolist(), first.tolist(), strict=True):
        shapes = dict(zip(names, (tuple(views[i, w.V_SHAPE : w.V_SHAPE + w.DIMS].tolist()) for i in ids), strict=True))
        formats = dict(zip(names, (by_code(int(views[i, w.V_DTYPE])).name for i in ids), strict=True))
        text = misfit(row, formats)
        if text is None and row.mnemonic == "copy" and (views[ids, w.V_SPACE] == w.SPACE_MEMORY).all():
            text = "memory cannot be copied to memory"
        if text is None and not _fits(row, shapes):
            text = f"operands of shapes {', '.join(map(str, shapes.values()))} do not fit"
        if text is not None:
            raise refuse(program, int(rows[at]), text)


def misfit(row: Row, formats: dict[str, str]) -> str | None:
    """Return what is wrong with the formats of a row's views, None if nothing is."""
    name = row.mnemonic
    for names, verb in ((MOVES.get(name, ()), "move to"), (ONE_FORMAT.get(name, ()), "go with")):
        for other in names[1:]:
            if formats[other] != formats[names[0]]:
                return f"{formats[other]} cannot {verb} {formats[names[0]]}"
    for operand, form in formats.items():
        taken = TAKES.get((name, operand))
        if taken is not None and form not in taken:
            return f"operand {operand} is {form} and must be {' or '.join(sorted(taken))}"
    if name == "matmul":
        return _matmul(formats["dst"], formats["a"], formats["b"])
    if name in MIXES:
        return None
    used = set(formats.values())
    if not (used <= FLOATS or used <= INTEGERS):
        return f"{' and '.join(sorted(used))} do not mix; cast first"
    if used <= INTEGERS and row.integer is None and row.cost == "vector":
        return f"it computes in floats only, not in {', '.join(sorted(used))}; cast first"
    return None


def _matmul(dst: str, a: str, b: str) -> str | None:
    if {a, b} <= BYTES:
        return None if dst == "int32" else f"{a} times {b} accumulates in int32, not in {dst}"
    if (a != b and not {a, b} <= CFP8) or a not in FLOATS or a == "fp32":
        return f"the matrix unit does not multiply {a} by {b}"
    if dst == "fp32" or dst in NARROW:
        return None
    return f"{a} times {b} accumulates in fp32 and leaves in fp32 or 16 bits, not in {dst}"


def _fits(row: Row, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Return whether the shapes of a row's views, right-aligned to four dimensions, belong together."""
    name, sides = row.mnemonic, list(shapes.values())
    if name in COPIES:
        return [n for n in sides[0] if n != 1] == [n for n in sides[1] if n != 1]
    if name == "matmul":
        # Only the sizes count: an index runs row-major through its pair, however each operand splits it.
        (m, n), (m_a, k_a), (k_b, n_b) = ((s[0] * s[1], s[2] * s[3]) for s in sides)
        return m == m_a and n == n_b and k_a == k_b
    if name == "vec.transpose":
        return sides[0] == (*sides[1][:2], sides[1][3], sides[1][2])
    if row.cost == "gather":
        table, moved = (shapes["x"], shapes["dst"]) if name == "vec.gather" else (shapes["dst"], shapes["x"])
        flat = table[:2] == moved[:2] == (1, 1) and table[3] == moved[3]
        return flat and shapes["index"] == (1, 1, 1, moved[2])
    if row.cost == "reduce":
        return sides[0] == (*sides[1][:3], 1)
    return all(shape == sides[0] for shape in sides)
