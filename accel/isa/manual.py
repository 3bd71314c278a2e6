"""The ISA manual, generated from the table: one section an instruction."""

from __future__ import annotations

from accel.isa.layout import CODE_WORDS, W_FIRST
from accel.isa.schema import WORDS_OF, Direction, Engine, Kind, Row
from accel.isa.semantics import __doc__ as semantics_text
from accel.isa.table import ROWS

__all__ = ["manual", "rows_as_dicts"]

COST = {
    "issue": "issue cycles of the thread only",
    "matrix": "matrix unit: micro-steps, port accesses and accumulator moves of the nest",
    "vector": "vector unit: one pass per 64 bytes of the widest operand, times the micro-operations",
    "reduce": "vector unit: one pass per 64 bytes of x, then the fold of the lanes",
    "gather": "vector unit: one access an index and the accesses of every row moved",
    "transpose": "vector unit: passes over the elements, written by rows and read by columns",
    "dma": "copy engine: packets over mesh and memory port",
}
HEAD = """# Instruction set

Generated from `accel/isa/table.py` by `accel isa --markdown`; do not edit. Every row below is what the executor runs,
the cycle model prices, the checker watches and the disassembler prints.

An instruction is {words} words of 64 bits: opcode, predicate, source line, then the operands from word {first} on.
A *view* operand takes three words (view, byte address, expression), a *semaphore* or *value* two (constant,
expression), a *target* or an *immediate* one. Expressions add per-node parameters and loop terms to the constant.

```text
{semantics}```
"""


def manual() -> str:
    """Return the manual as Markdown."""
    parts = [HEAD.format(words=CODE_WORDS, first=W_FIRST, semantics=(semantics_text or "").lstrip("\n"))]
    for engine in Engine:
        parts.append(f"\n## {engine.name.lower()}\n")
        parts += [_section(row) for row in ROWS if row.engine is engine]
    return "".join(parts)


def rows_as_dicts() -> list[dict[str, object]]:
    """Return the table as plain data for `accel isa --json`."""
    return [
        {
            "mnemonic": row.mnemonic,
            "opcode": row.opcode,
            "engine": row.engine.name.lower(),
            "operands": [o.name for o in row.operands],
            "cost": row.cost,
            "passes": row.passes,
            "meaning": row.meaning,
        }
        for row in ROWS
    ]


def _section(row: Row) -> str:
    names = ", ".join(o.name for o in row.operands)
    lines = [
        f"\n### {row.mnemonic}\n\n`{row.mnemonic} {names}`".rstrip() + f" (opcode {row.opcode})\n\n{row.meaning}\n"
    ]
    lines.append("\n| word | operand | kind | access | space |\n|---|---|---|---|---|\n")
    for o in row.operands:
        at, width = row.word(o.name), WORDS_OF[o.kind]
        words = str(at) if width == 1 else f"{at}-{at + width - 1}"
        access = "" if o.direction is Direction.NONE else o.direction.name.lower()
        kind = {Kind.SEM: "semaphore", Kind.IMM: "immediate", Kind.FLOAT: "fp32 immediate"}.get(
            o.kind, o.kind.name.lower()
        )
        lines.append(f"| {words} | `{o.name}` | {kind} | {access} | {' or '.join(o.spaces)} |\n")
    passes = f", {row.passes} micro-operations" if row.passes != 1 else ""
    lines.append(f"\nCost: {COST[row.cost]}{passes}.\n")
    return "".join(lines)
