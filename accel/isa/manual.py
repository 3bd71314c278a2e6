"""The ISA manual as a datasheet, generated from the table: overview, opcode map, one section an instruction."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from accel.errors import InputError, nearest
from accel.isa.examples import example, formats, statement
from accel.isa.layout import CODE_WORDS, W_FIRST
from accel.isa.schema import WORDS_OF, Direction, Engine, Kind, Operand, Row
from accel.isa.semantics import __doc__ as semantics_text
from accel.isa.table import BY_MNEMONIC, BY_OPCODE, ROWS

__all__ = ["COST", "Prices", "entry", "manual", "rows_as_dicts"]

# Returns (chip, text) for each chip: what the worked example of a row costs there.
Prices = Callable[[Row], Iterable[tuple[str, str]]]

COST = {
    "issue": "issue cycles of the thread only",
    "matrix": "matrix unit: micro-steps, port accesses and accumulator moves of the nest",
    "vector": "vector unit: one pass per 64 bytes of the widest operand, times the micro-operations",
    "reduce": "vector unit: one pass per 64 bytes of x, then the fold of the lanes",
    "gather": "vector unit: one access an index and the accesses of every row moved",
    "transpose": "vector unit: passes over the elements, written by rows and read by columns",
    "dma": "copy engine: packets over mesh and memory port",
}
KINDS = {
    Kind.VIEW: "view", Kind.SEM: "semaphore", Kind.VALUE: "value", Kind.TARGET: "target", Kind.IMM: "immediate",
    Kind.FLOAT: "fp32 immediate", Kind.INDEX: "logical index",
}  # fmt: skip
PARTS = {
    Kind.VIEW: ("view", "address", "expr"), Kind.SEM: ("index", "expr"), Kind.VALUE: ("constant", "expr"),
    Kind.INDEX: ("first", "expr", "step 0", "step 1", "step 2", "step 3"),
}  # fmt: skip
SHAPES = {
    "issue": "any", "dma": "equal up to dimensions of one element", "matrix": "(m, n) = (m, k) x (k, n), each of m, n "
    "and k one or two dimensions", "vector": "all equal", "reduce": "dst as x, with 1 in place of the last dimension",
    "gather": "table (t, c), rows (n, c), index (n)", "transpose": "the last two dimensions of x exchanged",
}  # fmt: skip
HEAD = """# Instruction set

Generated from `accel/isa/table.py` by `accel isa --pages docs`; do not edit. Every row below is what the executor runs,
the cycle model prices, the checker watches and the disassembler prints.

## Words

An instruction is {words} words of 64 bits with sign: opcode, predicate, source line, then the operands from word
{first} on. What an operand does not use is 0.

| operand | words | meaning |
|---|---|---|
| view | view, address, expression | shape, strides and format by number; the byte where it begins, plus an expression |
| semaphore | index, expression | index + expression; -1: none |
| value | constant, expression | constant + expression |
| target | target | a rectangle of nodes by number; 0 is the issuing node, 1 every node |
| immediate | number | a whole number |
| fp32 immediate | bits | the bits of an fp32 number; of an int32 where the instruction computes in integers |
| logical index | first, expression, 4 steps | an element's place in a tensor: first + expression + steps x position |

An expression adds multiples of node values (`row`, `col`, `p2`, ...) and of loop indices (`i0` the outermost). A
predicate is up to four comparisons of such sums with constants; where one fails, the instruction has no effect.
The text of instructions, and the file that holds them, are in the [program format](program-format.md).

## Meaning

```text
{semantics}```
"""
MAP_COLUMNS = 8

CHAPTERS = {
    "control": "Control", "matrix": "Matrix unit", "vector-one": "Vector unit: one operand, or none",
    "vector-two": "Vector unit: two and three operands",
    "vector-more": "Vector unit: masks, reductions, random numbers, rows by index",
    "vector-functions": "Vector unit: functions", "dma": "Data movement",
}  # fmt: skip
PAGES = (("vector-functions", 88), ("vector-more", 68), ("vector-two", 56), ("vector-one", 0))  # and first opcodes


def manual(prices: Prices | None = None) -> str:
    """Return the manual as Markdown; with `prices`, every section says what its example costs on each chip."""
    parts = [HEAD.format(words=CODE_WORDS, first=W_FIRST, semantics=(semantics_text or "").lstrip("\n"))]
    parts += ["\n## Opcode map\n\n", _map(), "\n## Contents\n\n", _contents()]
    for engine in Engine:
        parts.append(f"\n## {engine.name.lower()}\n")
        parts += ["\n" + _section(row, prices) for row in ROWS if row.engine is engine]
    return "".join(parts)


def pages(prices: Prices | None = None) -> dict[str, str]:
    """Return the manual as pages by file name: `isa.md` with what all instructions share, and the chapters below it."""
    head = HEAD.format(words=CODE_WORDS, first=W_FIRST, semantics=(semantics_text or "").lstrip("\n"))
    tree = "\n```{toctree}\n:hidden:\n\n" + "".join(f"isa/{name}\n" for name in CHAPTERS) + "```\n"
    overview = head + "\n## Opcode map\n\n" + _map(paged=True) + "\n## Contents\n\n" + _contents(paged=True) + tree
    made = {"isa.md": overview}
    for name, title in CHAPTERS.items():
        rows = [row for row in ROWS if _chapter(row) == name]
        made[f"isa/{name}.md"] = f"# {title}\n\n## Instructions\n" + "".join(
            "\n" + _section(row, prices) for row in rows
        )
    return made


def entry(name: str, prices: Prices | None = None) -> str:
    """Return the section of one instruction as Markdown; InputError names the nearest mnemonic for an unknown one."""
    row = BY_MNEMONIC.get(name) or BY_MNEMONIC.get(f"vec.{name}")
    if row is None:
        raise InputError(f"no instruction {name!r}{nearest(name, BY_MNEMONIC) or '; `accel isa` lists them'}")
    return _section(row, prices)


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
            "syntax": _syntax(row),
            "words": {o.name: [row.word(o.name), WORDS_OF[o.kind]] for o in row.operands},
            "formats": _formats(row),
        }
        for row in ROWS
    ]


def _map(paged: bool = False) -> str:
    """Return the opcodes as a table of eight columns; an empty cell is free."""
    lines = ["| opcode | " + " | ".join(f"+{i}" for i in range(MAP_COLUMNS)) + " |", "|---" * (MAP_COLUMNS + 1) + "|"]
    for first in range(0, max(BY_OPCODE) + 1, MAP_COLUMNS):
        cells = [BY_OPCODE.get(first + i) for i in range(MAP_COLUMNS)]
        if any(cells):
            lines.append(f"| **{first}** | " + " | ".join(_link(row, paged) if row else "" for row in cells) + " |")
    return "\n".join(lines) + "\n"


def _chapter(row: Row) -> str:
    """Return the page of an instruction: its engine, and within the vector unit its opcode."""
    if row.engine is not Engine.VECTOR:
        return row.engine.name.lower()
    return next(page for page, first in PAGES if row.opcode >= first)


def _link(row: Row, paged: bool = False) -> str:
    page = f"isa/{_chapter(row)}.md" if paged else ""
    return f"[{row.mnemonic}]({page}#{row.mnemonic.replace('.', '')})"


def _contents(paged: bool = False) -> str:
    return "".join(
        f"- {engine.name.lower()}: " + ", ".join(_link(row, paged) for row in ROWS if row.engine is engine) + "\n"
        for engine in Engine
    )


def _syntax(row: Row) -> str:
    """Return the assembly of an instruction with its operands' names; brackets hold what may be left out."""
    parts = []
    for o in row.operands:
        if o.name in ("end", "begin"):
            continue
        text = o.name if o.kind is Kind.VIEW or o is row.operands[0] else f"{o.name}={o.name.upper()}"
        optional = o.kind in (Kind.SEM, Kind.TARGET) and o is not row.operands[0]
        parts.append(f"[{text}]" if optional else text)
    return f"{row.mnemonic} {', '.join(parts)}".rstrip()


def _diagram(row: Row) -> str:
    """Return the words of an instruction as a picture, at most eight a line."""
    cells = [str(row.opcode), "pred", "line"]
    for o in row.operands:
        cells += [f"{o.name}.{part}" for part in PARTS[o.kind]] if o.kind in PARTS else [o.name]
    cells += ["0"] * (CODE_WORDS - len(cells))
    lines = []
    for at in range(0, CODE_WORDS, 8):
        part = cells[at : at + 8]
        width = [max(len(text), 5) for text in part]
        lines.append("      " + " ".join(f"{at + i:^{n + 2}d}" for i, n in enumerate(width)))
        rule = "     +" + "+".join("-" * (n + 2) for n in width) + "+"
        lines += [rule, "     |" + "|".join(f" {text:^{n}s} " for text, n in zip(part, width, strict=True)) + "|", rule]
    return "\n".join(line.rstrip() for line in lines)


def _formats(row: Row) -> list[str]:
    """Return which formats a row's views may have: one line where all have the same, else one a first format."""
    legal = formats(row) if row.views else []
    if not legal:
        return []
    names = [o.name for o in row.views]
    lines: dict[str, list[str]] = {}
    for first in dict.fromkeys(taken[0] for taken in legal):
        others = [
            " ".join(dict.fromkeys(taken[i] for taken in legal if taken[0] == first)) for i in range(1, len(names))
        ]
        rest = "; ".join(f"{name} in {found}" for name, found in zip(names[1:], others, strict=True))
        lines.setdefault(rest, []).append(first)
    same = all(rest == "; ".join(f"{n} in {first}" for n in names[1:]) for rest, f in lines.items() for first in f)
    if same:
        return [f"{' '.join(f for found in lines.values() for f in found)}" + (", all alike" if len(names) > 1 else "")]
    return [f"{names[0]} in {' '.join(found)}" + (f" with {rest}" if rest else "") for rest, found in lines.items()]


def _section(row: Row, prices: Prices | None) -> str:
    lines = [
        f"### {row.mnemonic}\n",
        f"`{_syntax(row)}` (opcode {row.opcode})\n",
        f"{row.meaning}\n",
        f"```text\n{_diagram(row)}\n```\n",
    ]
    if row.operands:
        lines.append("| word | operand | kind | access | space |\n|---|---|---|---|---|")
        lines[-1] += "".join(f"\n{_operand(row, o)}" for o in row.operands) + "\n"
    if row.views:
        lines.append(f"Shapes: {SHAPES[row.cost] if len(row.views) > 1 else 'any'}.\n")
        lines.append("Formats:\n\n" + "\n".join(f"- {text}" for text in _formats(row)) + "\n")
    parts = row.passes if isinstance(row.passes, tuple) else (row.passes,)
    passes = f", {' + '.join(map(str, parts))} micro-operations" if row.passes != 1 else ""
    cost = COST[row.cost].replace("the widest operand", "fp32") if row.wide else COST[row.cost]
    lines.append(f"Cost: {cost}{passes}.\n")
    shown = "\n".join(line for line in example(row).splitlines() if not line.startswith(".program"))
    lines.append(f"```text\n{shown}\n```\n")
    priced = list(prices(row)) if prices is not None else []
    if priced:
        lines.append(f"`{statement(row)}` takes " + ", ".join(f"{text} on {chip}" for chip, text in priced) + ".\n")
    return "\n".join(lines)


def _operand(row: Row, o: Operand) -> str:
    at, width = row.word(o.name), WORDS_OF[o.kind]
    words = str(at) if width == 1 else f"{at}-{at + width - 1}"
    access = "" if o.direction is Direction.NONE else o.direction.name.lower()
    return f"| {words} | `{o.name}` | {KINDS[o.kind]} | {access} | {' or '.join(o.spaces)} |"
