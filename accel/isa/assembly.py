"""The assembler: text to Program, derived from the instruction table; `docs/program-format.md` has the grammar."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from accel.errors import InputError, Location, ProgramError, nearest
from accel.isa import layout as w
from accel.isa.assembly_maps import Maps
from accel.isa.assembly_roles import Roles
from accel.isa.assembly_scan import MNEMONIC, NAME, WORD_LIMIT, Line
from accel.isa.program import Program
from accel.isa.schema import Kind, Operand, Row
from accel.isa.table import BY_MNEMONIC, BY_OPCODE
from accel.numerics.formats import by_code

__all__ = ["assemble"]

KEYWORD = re.compile(r"([A-Za-z_]\w*)[ \t]*=(?!=)", re.ASCII)
LINE_ENTRY = re.compile(r"l\d+(?=[ \t]*(?:;|$))", re.ASCII)
# Operands that a block's other half fixes: a loop and its end may leave their distance to the assembler.
LOOP, END = BY_MNEMONIC["loop"], BY_MNEMONIC["end"]
DISTANCE = {LOOP.mnemonic: "end", END.mnemonic: "begin"}
BLOCKS = ("role", "thread", "code")  # directives that end a thread
ONCE = ("accel", "program", "chip", "mesh", "threads", "flops", "memory", "sram", "init", "params", "lines")
VIEW = re.compile(r": view (\d+)\b")  # what errors about a view begin with
SHARDS = {"preload": w.DIR_PRELOAD, "collect": w.DIR_COLLECT}


def assemble(text: str, source: str = "<text>", chips: Callable[[str], str] | None = None) -> Program:
    """Return the program that `text` spells; `source` is the file name in errors.

    chips: returns the JSON of a chip by name, for `.chip d1`; without it only `.chip {...}` is understood. The text of
    `disassemble` gives back the same program, table for table. Raises AssemblyError, pointing at line and column, for
    text that is no program and for programs that no engine may follow.
    """
    given: object = text
    if not isinstance(given, str):
        raise InputError(f"assembly is text, not {type(given).__name__}; read the file as text first")
    return _Assembler(source, chips).assemble(text)


class _Assembler:
    def __init__(self, source: str, chips: Callable[[str], str] | None) -> None:
        self.maps = Maps(chips)
        self.roles = Roles(self.maps)
        self.directives = {**self.maps.directives(), **self.roles.directives()}
        self.said: dict[str, int] = {}  # directives that may stand once, and their lines
        self.source = source
        self.code: list[list[int]] = []
        self.origin: list[tuple[Line, int]] = []  # of every row, for errors
        self.shards: list[list[int]] = []
        self.open_loops: list[int] = []

    def assemble(self, text: str) -> Program:
        """Read all lines, then join what they said."""
        line = Line("", 1, self.source)
        for number, content in enumerate(text.split("\n"), 1):
            line = Line(content, number, self.source)
            if self.maps.continues(content) or line.ended():
                continue
            if line.here("."):
                self._directive(line)
            elif line.match(re.compile(r"(?:preload|collect)\b")) is not None:
                self._shard(line)
            else:
                self._instruction(line)
            line.finish()
        self._check_closed()
        return self._program(line)

    # --- statements -------------------------------------------------------------------------------------------------
    def _directive(self, line: Line) -> None:
        begin = line.skip()
        line.accept(".")
        if NAME.match(line.text, line.place) is None:
            raise line.error(f"Cannot read a directive here; write one of .{', .'.join(self.directives)}", begin)
        word = line.take_known(self.directives, "directive")
        if word in BLOCKS:
            self._check_closed()
            self.roles.close()
        if word in ONCE and self.said.setdefault(word, line.number) != line.number:
            raise line.error(f"Cannot give .{word} twice because line {self.said[word]} has it; remove one", begin)
        self.directives[word](line)

    def _shard(self, line: Line) -> None:
        """Read `preload A bf16[4,4], a bf16[4,4]` or `collect`; `role=2` where it stands outside that role."""
        kind = line.text[: line.place].split()[-1]
        reader = self.maps.reader
        dst = reader.view(line, pairs=False)
        line.expect(",", f"{kind} takes where to, then from where")
        src = reader.view(line, pairs=False)
        role = line.take_number("a role", 0, 1 << 20) if line.accept("role=") else self.roles.current()
        self.shards.append([role, SHARDS[kind], *dst, *src, self._line_of(line)])

    def _line_of(self, line: Line) -> int:
        """Return the id of the source line behind `|`; the line of the text itself where there is none."""
        lines = self.maps.pools.lines
        if not line.accept("|"):
            return 0 if self.maps.without_lines else lines.id(line.location)
        if line.skip() < len(line.text) and LINE_ENTRY.match(line.text, line.place):
            entry = int(line.match(LINE_ENTRY)[1:9])  # type: ignore[index]
            if entry >= len(lines.items):
                raise line.error(f"Cannot use line {entry} because {len(lines.items)} are listed; list it by .line")
            return entry
        return lines.id(line.take_location())

    def _instruction(self, line: Line) -> None:
        reader = self.maps.reader
        pred = reader.predicate(line) if line.accept("@") else 0
        begin = line.skip()
        mnemonic = line.take_word(MNEMONIC, "an instruction", "copy, wait or vec.add")
        row = BY_MNEMONIC.get(mnemonic)
        if row is None:
            raise line.error(
                f"Cannot use {mnemonic!r} because the table has no such instruction"
                f"{nearest(mnemonic, BY_MNEMONIC) or '; `accel isa` lists them'}", begin,
            )  # fmt: skip
        self.roles.open_thread(line)
        given = self._operands(line, row)
        words = [row.opcode, pred, self._line_of(line)]
        distances = [0]
        if row in (LOOP, END):
            distances = self._distance(line, row, begin, given.get(DISTANCE[row.mnemonic]))
        for operand in row.operands:
            part = given.get(operand.name)
            if operand.name == DISTANCE.get(row.mnemonic):
                part = distances
            elif part is None:
                part = self._omitted(line, row, operand, begin)
            words += part
        if not all(-WORD_LIMIT <= word < WORD_LIMIT for word in words):
            raise line.error("Cannot use these operands because a word has 64 bits; use smaller numbers", begin)
        self.code.append(words + [0] * (w.CODE_WORDS - len(words)))
        self.origin.append((line, begin))
        self.roles.rows += 1

    def _operands(self, line: Line, row: Row) -> dict[str, list[int]]:
        """Read operands in word order or by name."""
        given: dict[str, list[int]] = {}
        reals: list[tuple[str, int]] = []
        waiting = list(row.operands)
        while not line.ended() and not line.here("|"):
            if given:
                line.expect(",", "operands have commas between them")
            place = line.skip()
            keyword = KEYWORD.match(line.text, place)
            if keyword is not None:
                operand = _named(line, row, keyword.group(1), place)
                line.place = keyword.end()
            elif waiting:
                operand = waiting[0]
            else:
                raise line.error(f"Cannot read {line.found()} because {_takes(row)}; remove it")
            if operand not in waiting:
                raise line.error(f"Cannot give {operand.name} twice; leave one out", place)
            waiting.remove(operand)
            if operand.kind is Kind.FLOAT:
                reals.append((operand.name, line.skip()))
            given[operand.name] = self._operand(line, row, operand)
        end = line.place
        for name, place in reals:  # what a number means depends on the formats of the views
            line.place = place
            given[name] = [self.maps.reader.real(line, self._integer(row, given))]
        line.place = end
        return given

    def _operand(self, line: Line, row: Row, operand: Operand) -> list[int]:
        reader = self.maps.reader
        match operand.kind:
            case Kind.VIEW:
                return list(reader.view(line, pairs=row.cost == "matrix"))
            case Kind.SEM:
                return list(reader.semaphore(line))
            case Kind.VALUE:
                return list(reader.sum(line))
            case Kind.TARGET:
                return [reader.target(line)]
            case Kind.IMM:
                return [reader.immediate(line, operand.name)]
            case Kind.FLOAT:
                return [reader.real(line, integer=False)]
            case _:
                return reader.place(line)

    def _integer(self, row: Row, given: dict[str, list[int]]) -> bool:
        """Return whether a row computes in integers: all its views are in integer formats."""
        items = self.maps.pools.views.items
        kinds = {by_code(items[given[o.name][0]][w.V_DTYPE]).kind for o in row.views if o.name in given}
        return kinds == {"int"}

    def _omitted(self, line: Line, row: Row, operand: Operand, begin: int) -> list[int]:
        """Return the words of an operand that was left out: no semaphore, the issuing node."""
        if operand.kind is Kind.SEM and operand is not row.operands[0]:
            return [-1, self.maps.pools.exprs.id(((), ()))]
        if operand.kind is Kind.TARGET and operand is not row.operands[0]:
            return [w.TARGET_SELF]
        raise line.error(f"Cannot use {row.mnemonic} without {operand.name}; {_takes(row)}", begin)

    def _distance(self, line: Line, row: Row, begin: int, given: list[int] | None) -> list[int]:
        """Return the distance between a loop and its end, which is `given` only where rows are no blocks."""
        if given is not None:
            return given
        at = len(self.code)
        if row is LOOP:
            self.open_loops.append(at)
            return [0]
        if not self.open_loops:
            raise line.error("Cannot end a loop here because none is open in this thread; remove it", begin)
        opened = self.open_loops.pop()
        self.code[opened][LOOP.word("end")] = at - opened
        return [at - opened]

    def _check_closed(self) -> None:
        if self.open_loops:
            line, begin = self.origin[self.open_loops[-1]]
            raise line.error("Cannot leave this loop open because its thread ends; write end after its body", begin)

    # --- the program ------------------------------------------------------------------------------------------------
    def _program(self, last: Line) -> Program:
        for row in (self.code, self.shards):
            for words in row:
                if len(words) and not all(-WORD_LIMIT <= v < WORD_LIMIT for v in words):
                    raise last.error("Cannot use this program because a word has 64 bits; use smaller numbers")
        code = np.array(self.code, np.int64).reshape(-1, w.CODE_WORDS)
        shards = np.array(self.shards, np.int64).reshape(-1, w.SHARD_WORDS)
        lines = self.maps.source_map(code, shards)
        try:
            fields = {**self.maps.fields(), **self.roles.fields(last)}
            program = Program(code=code, shards=shards, lines=lines, **fields)
        except OverflowError:
            raise last.error("Cannot use this program because a word has 64 bits; use smaller numbers") from None
        try:
            program.require_sound()
        except ProgramError as error:
            raise self._located(program, error, last) from None
        return program

    def _located(self, program: Program, error: ProgramError, last: Line) -> ProgramError:
        """Return the error at the line of text whose row it is about; at the end of the text for anything else."""
        origin = [Location(self.source, row) for row in range(len(program.code))]
        code = program.code.copy()
        code[:, w.W_LINE] = np.arange(len(code))
        fields = {name: getattr(program, name) for name in program.__dataclass_fields__}
        twin = Program(**{**fields, "code": code, "lines": tuple(origin)})
        try:
            twin.require_sound()
        except ProgramError as again:
            if again.at is not None and again.at in origin:
                line, begin = self.origin[again.at.line]
                return line.error(_in_text(again.message), begin)
        view = VIEW.search(error.message)
        if view is not None:
            for words, (line, begin) in zip(self.code, self.origin, strict=True):
                if any(words[row_word] == int(view[1]) for row_word in _view_words(words[w.W_OPCODE])):
                    return line.error(_in_text(error.message), begin)
        return last.error(_in_text(error.message))


def _in_text(message: str) -> str:
    """Return a message about tables with the way out of someone who types text."""
    return message.replace("; rebuild the program", "; correct the text").replace("; rebuild it", "; correct the text")


def _view_words(opcode: int) -> list[int]:
    """Return the words of an instruction that number a view."""
    row = BY_OPCODE[opcode]
    return [row.word(operand.name) for operand in row.views]


def _named(line: Line, row: Row, name: str, place: int) -> Operand:
    for operand in row.operands:
        if operand.name == name:
            return operand
    names = [o.name for o in row.operands]
    raise line.error(
        f"Cannot give {name!r} to {row.mnemonic} because {_takes(row)}{nearest(name, names) or '; use one of them'}",
        place,
    )


def _takes(row: Row) -> str:
    return f"it takes {', '.join(o.name for o in row.operands) or 'no operands'}"
