"""One worked example an instruction, derived from its row: a program of assembly that the manual shows and prices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from accel.isa.fitting import misfit
from accel.isa.schema import Kind, Operand, Row
from accel.isa.table import BY_MNEMONIC
from accel.numerics.formats import FORMATS

__all__ = ["example", "formats", "statement"]

SIDE = 64  # rows and columns of the matrices of an example: 4,096 elements
TABLE_ROWS = 256
FIRST = ("fp32", "bf16", "uint8", "int32")  # formats of an example, the preferred one first
VALUES = {
    "sem": "sem", "n": "1", "trips": "10", "accumulate": "0", "phase": '"phase"', "name": '"name"', "stream": "7",
    "relation": "lt", "imm": "2", "to": "self", "of": "(row, col)", "at": "all", "index": f"0 [{SIDE},1]",
}  # fmt: skip


def formats(row: Row) -> list[tuple[str, ...]]:
    """Return every combination of formats that the views of a row may have, in word order."""
    names = [o.name for o in row.views]
    every = itertools.product(FORMATS, repeat=len(names))
    return [taken for taken in every if misfit(row, dict(zip(names, taken, strict=True))) is None]


def statement(row: Row) -> str:
    """Return the instruction of a row's example, as in `vec.add dst, x, y`."""
    parts = []
    for o in row.operands:
        if o.kind is Kind.VIEW:
            parts.append(o.name)
        elif o.kind is Kind.SEM and o is not row.operands[0]:
            parts += [f"{o.name}={o.name}"] if o.name == "done" else []
        elif o.name not in ("end", "begin"):
            parts.append(VALUES[o.name] if o is row.operands[0] else f"{o.name}={VALUES[o.name]}")
    return f"{row.mnemonic} {', '.join(parts)}".rstrip()


def example(row: Row) -> str:
    """Return a program of assembly, without a chip, that executes a row's example once."""
    lines = [".program example"]
    taken = _first_formats(row)
    for o, dtype in zip(row.views, taken, strict=True):
        what = ".tensor" if "memory" in o.spaces and o.name == "src" else ".buffer"
        lines.append(
            f"{what} {o.name} {dtype}[{','.join(map(str, _shape(row, o)))}]{' in' if what == '.tensor' else ''}"
        )
    lines += [f".sem {o.name}" for o in row.operands if o.kind is Kind.SEM]
    loop = row.mnemonic in ("loop", "end")
    body = [statement(BY_MNEMONIC["loop"]), "end"] if loop else [statement(row)]
    return "\n".join([*lines, *body, ""])


def _first_formats(row: Row) -> tuple[str, ...]:
    legal = set(formats(row))
    return next(t for t in _preferred(len(row.views)) if t in legal)


def _preferred(n: int) -> Iterator[tuple[str, ...]]:
    return itertools.product(FIRST, repeat=n)


def _shape(row: Row, operand: Operand) -> tuple[int, ...]:
    """Return sizes that fit the shape rule of a row's cost class."""
    if row.cost == "reduce" and operand.name == "dst":
        return (SIDE, 1)
    if row.cost == "gather" and operand.name == "index":
        return (SIDE,)
    if row.cost == "gather" and operand.name == ("dst" if operand.direction.name == "UPDATE" else "x"):
        holds_table = operand.name == "dst" or row.views[0].direction.name == "WRITE"
        return (TABLE_ROWS, SIDE) if holds_table else (SIDE, SIDE)
    return (SIDE, SIDE)
