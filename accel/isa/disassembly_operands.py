"""Printing operands with names instead of indices, noting which table entries were mentioned in which order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from accel.isa import layout as w
from accel.isa.assembly_operands import COMPARISONS, row_major
from accel.isa.assembly_scan import NAME, PATH
from accel.isa.codec import bits_of_float, float_of_bits
from accel.isa.pools import expr_key, pred_key, target_key, view_key
from accel.isa.program import Program
from accel.isa.schema import WORDS_OF, Kind, Operand, Row
from accel.numerics.formats import by_code

__all__ = ["MARKED", "Entries", "Writer", "place_text", "quoted"]

Key = TypeVar("Key")
MARKED = ("phase", "name")  # immediates that number a mark
RELATION = {w.REL_EQ: "==", w.REL_NE: "!=", w.REL_LT: "<", w.REL_GE: ">="}
RELATION_NAME = {code: name for name, code in COMPARISONS.items()}
RESERVED_NAMES = frozenset({"none", "self", "all"})


def quoted(name: str) -> str:
    """Return a name as text: bare where it is a plain word, otherwise in double quotes."""
    return name if NAME.fullmatch(name) and name not in RESERVED_NAMES else json.dumps(name)


def place_text(file: str, line: int) -> str:
    """Return `file:line`, quoted where the file name holds blanks or marks of the grammar."""
    text = f"{file}:{line}"
    found = PATH.match(text)
    return text if found is not None and found.group() == file and "\\" not in file else f"{json.dumps(file)}:{line}"


class Entries:
    """One table: what its entries mean, the first of equal ones, and the order in which they were mentioned."""

    def __init__(self, keys: Sequence[Any]) -> None:
        self.keys = list(keys)
        self.first: dict[Any, int] = {}
        for index, key in enumerate(self.keys):
            self.first.setdefault(key, index)
        self.seen: dict[int, None] = {}

    def mention(self, index: int) -> bool:
        """Note that an entry is mentioned; return whether its content alone names it."""
        self.seen.setdefault(index)
        return self.first[self.keys[index]] == index

    def natural(self, start: Sequence[Any]) -> bool:
        """Return whether reading the text in order gives this table, which begins with `start`."""
        if self.keys[: len(start)] != list(start) or len(self.first) != len(self.keys):
            return False
        later = [index for index in self.seen if index >= len(start)]
        return later == list(range(len(start), len(self.keys)))


class Writer:
    """Prints operands of one program."""

    _last: ClassVar[Writer | None] = None

    @classmethod
    def of(cls, program: Program) -> Writer:
        """Return a writer for single rows; the one of last time where the program is the same object."""
        last = Writer._last
        if last is None or last.program is not program:
            last = Writer._last = Writer(program)
        return last

    def __init__(self, program: Program) -> None:
        self.program = program
        self.exprs = Entries([expr_key(row) for row in program.exprs.tolist()])
        self.preds = Entries([pred_key(row) for row in program.preds.tolist()])
        self.targets = Entries([target_key(row) for row in program.targets.tolist()])
        self.views = Entries([view_key(row) for row in program.views.tolist()])
        self.lines = Entries(program.lines)
        self.marks = Entries(program.marks)
        self.objects = _object_names(program)
        self.semaphores = _semaphore_places(program)
        self.reals = {"int": _integer_text, "float": _real_text}
        self._cache: dict[tuple[Any, ...], str] = {}

    def kept(self, key: tuple[Any, ...], make: Callable[[], str]) -> str:
        """Return the text of a key, made once; whatever making it mentions is mentioned by then."""
        text = self._cache.get(key)
        if text is None:
            text = self._cache[key] = make()
        return text

    # --- sums, guards, targets ----------------------------------------------------------------------------------
    def sum(self, constant: int, expr: int) -> str:
        """Return a constant plus an expression: `64*row+(i0%2)-1`."""
        return self.kept(("sum", constant, expr), lambda: self._sum(constant, expr))

    def _sum(self, constant: int, expr: int) -> str:
        if not self.exprs.mention(expr):
            return f"e{expr}" + (f"{constant:+d}" if constant else "")
        return terms_text(self.exprs.keys[expr], constant)

    def guard(self, pred: int) -> str:
        """Return `@(row == 0) ` or nothing for an instruction that always takes effect."""
        if pred == 0:
            return ""
        return self.kept(("guard", pred), lambda: f"@{self.condition(pred)} ")

    def condition(self, pred: int) -> str:
        """Return what a predicate says, or its number where another one says the same."""
        terms = [f"{self._left(e)} {RELATION[r]} {-c}" for e, c, r in self.preds.keys[pred]]
        if not self.preds.mention(pred):
            return f"c{pred}"
        return f"({' & '.join(terms)})" if terms else "always"

    def _left(self, expr: int) -> str:
        return self.sum(0, expr)

    def target(self, target: int) -> str:
        """Return `self`, `all`, `(row, 0..3)`, or its number where another one says the same."""
        if target in (w.TARGET_SELF, w.TARGET_ALL):
            return ("self", "all")[target]
        return self.kept(("target", target), lambda: self._target(target))

    def _target(self, target: int) -> str:
        text = self.rectangle(self.targets.keys[target])
        return text if self.targets.mention(target) else f"t{target}"

    def rectangle(self, words: Sequence[int]) -> str:
        """Return a rectangle by its words, whatever its number is."""
        sides = []
        for at in (w.T_ROW0, w.T_COL0):
            first = self.sum(words[at], words[at + 1])
            same = words[at : at + 2] == words[at + 2 : at + 4]
            sides.append(first if same else f"{first}..{self.sum(words[at + 2], words[at + 3])}")
        return f"({sides[0]}, {sides[1]})"

    # --- views and semaphores -----------------------------------------------------------------------------------
    def view(self, view: int, address: int, expr: int, pairs: bool) -> str:
        """Return `A+64*row bf16[4,8:16,2]`."""
        return self.kept(("view", view, address, expr, pairs), lambda: self._view(view, address, expr, pairs))

    def _view(self, view: int, address: int, expr: int, pairs: bool) -> str:
        words = self.views.keys[view]
        alone = self.views.mention(view)
        name, base = self.objects[words[w.V_SPACE]][words[w.V_OBJECT]]
        offset = self.sum(address - base, expr)
        offset = "" if offset == "0" else offset if offset[0] == "-" else f"+{offset}"
        return f"{name}{offset} {self.descriptor(words, pairs) if alone else f'v{view}'}"

    def descriptor(self, words: Sequence[int], pairs: bool) -> str:
        """Return format, shape, strides, ring and bias of a view."""
        row = by_code(words[w.V_DTYPE])
        ndim = words[w.V_NDIM]
        shape, steps = list(words[w.V_SHAPE : w.V_SHAPE + w.DIMS]), list(words[w.V_STRIDE : w.V_STRIDE + w.DIMS])
        lead = w.DIMS - ndim if 1 <= ndim <= w.DIMS else 0
        end = ""
        if pairs and ndim == w.DIMS and shape[::2] == [1, 1] and steps[::2] == [0, 0]:
            shape, steps = shape[1::2], steps[1::2]
        elif lead == w.DIMS - ndim and shape[:lead] == [1] * lead and steps[:lead] == [0] * lead:
            shape, steps = shape[lead:], steps[lead:]
            end = f"/{ndim}" if pairs and ndim == 2 else ""
        else:
            end = f"/{ndim}"
        strides = "" if steps == row_major(shape, row.bytes) else f":{','.join(map(str, steps))}"
        return f"{row.name}[{','.join(map(str, shape))}{strides}]{end}{self._attributes(words, row.kind)}"

    def _attributes(self, words: Sequence[int], kind: str) -> str:
        """Return ring and bias, where they are not what the tensor or buffer says anyway."""
        text = ""
        if words[w.V_RING_BASE] or words[w.V_RING_BYTES]:
            text += f" ring={words[w.V_RING_BASE]}+{words[w.V_RING_BYTES]}"
        own, rule = 0, 0
        if words[w.V_SPACE] == w.SPACE_MEMORY and kind == "cfp":
            tensor = self.program.tensors[words[w.V_OBJECT]]
            own, rule = tensor.bias, w.BIAS_IEEE if tensor.denormals == "ieee" else 0
        bias, ieee = words[w.V_BIAS] & ~w.BIAS_IEEE, words[w.V_BIAS] & w.BIAS_IEEE
        if bias != own:
            text += f" bias={bias}"
        if words[w.V_SCALAR]:
            text += f" bias=@{self._scalar(words[w.V_SCALAR] - 1)}"
        if ieee != rule:
            text += " ieee" if ieee else " gap"
        return text

    def _scalar(self, offset: int) -> str:
        for index, b in enumerate(self.program.buffers):
            if b.offset <= offset < b.offset + b.nbytes:
                name = self.objects[w.SPACE_SRAM][index][0]
                return name if offset == b.offset else f"{name}+{offset - b.offset}"
        return str(offset)

    def semaphore(self, index: int, expr: int) -> str:
        """Return `full`, `full[i0%2]`, `none`, or `sem:5` where no name covers it."""
        return self.kept(("sem", index, expr), lambda: self._semaphore(index, expr))

    def _semaphore(self, index: int, expr: int) -> str:
        text = self.sum(index, expr)
        if text == "-1":
            return "none" if all(s.name != "none" for s in self.program.semaphores) else "sem:-1"
        if index not in self.semaphores:
            return f"sem:{text}"
        name, first, count = self.semaphores[index]
        return name if count == 1 and text == str(first) else f"{name}[{self.sum(index - first, expr)}]"

    # --- instructions ---------------------------------------------------------------------------------------------
    def operand(self, row: Row, operand: Operand, words: Sequence[int], integer: bool) -> str:
        """Return the text of one operand by its words; empty where it is what leaving it out means."""
        match operand.kind:
            case Kind.VIEW:
                return self.view(words[0], words[1], words[2], row.cost == "matrix")
            case Kind.SEM:
                text = self.semaphore(words[0], words[1])
                return "" if operand is not row.operands[0] and text in ("none", "sem:-1") else text
            case Kind.VALUE:
                return self.sum(words[0], words[1])
            case Kind.TARGET:
                return "" if operand is not row.operands[0] and words[0] == w.TARGET_SELF else self.target(words[0])
            case Kind.IMM:
                return self._immediate(operand, words[0])
            case Kind.FLOAT:
                return self.reals["int" if integer else "float"](words[0])
            case _:
                steps = list(words[2:])
                while len(steps) > 1 and steps[0] == 0:
                    steps = steps[1:]
                return f"{self.sum(words[0], words[1])} [{','.join(map(str, steps))}]"

    def _immediate(self, operand: Operand, value: int) -> str:
        if operand.name in MARKED and 0 <= value < len(self.marks.keys) and self.marks.mention(value):
            return json.dumps(self.marks.keys[value])
        if operand.name == "relation" and value in RELATION_NAME:
            return RELATION_NAME[value]
        return str(value)

    def instruction(self, row: Row, code: Sequence[int], distances: bool) -> str:
        """Return one statement; `distances` spells what a loop and its end otherwise leave to the assembler."""
        guard = self.guard(code[w.W_PRED])
        parts = []
        at = w.W_FIRST
        integer = {by_code(self.views.keys[code[row.word(o.name)]][w.V_DTYPE]).kind for o in row.views} == {"int"}
        positional = True
        for operand in row.operands:
            width = WORDS_OF[operand.kind]
            fixed = operand.kind is Kind.IMM and operand.name in ("end", "begin")
            text = "" if fixed and not distances else self.operand(row, operand, code[at : at + width], integer)
            at += width
            plain = positional and (operand is row.operands[0] or operand.kind is Kind.VIEW)
            if text:
                parts.append(text if plain and not fixed else f"{operand.name}={text}")
            else:
                positional = False
        return f"{guard}{row.mnemonic} {', '.join(parts)}".rstrip()


def terms_text(key: tuple[Any, Any], constant: int) -> str:
    """Return the text of an expression's terms and a constant."""
    pieces: list[tuple[int, str]] = [(coef, ("row", "col")[p] if p < 2 else f"p{p}") for p, coef in key[0]]
    for depth, coef, mul, add, mod in key[1]:
        inner = f"i{depth}" if mul == 1 else f"{mul}*i{depth}"
        inner += f"{add:+d}" if add else ""
        if mod:
            inner = f"({inner})%{mod}" if add else f"{inner}%{mod}"
        pieces.append((coef, f"i{depth}" if inner == f"i{depth}" else f"({inner})"))
    text = ""
    for coef, name in pieces:
        sign = "-" if coef < 0 else "+" if text else ""
        text += f"{sign}{name}" if abs(coef) == 1 else f"{sign}{abs(coef)}*{name}"
    if not text:
        return str(constant)
    return f"{text}{constant:+d}" if constant else text


def _object_names(program: Program) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return name and first byte of every buffer and of every tensor, so that a name means one object."""
    buffers, tensors = [b.name for b in program.buffers], [t.name for t in program.tensors]

    def text(name: str, index: int, mine: list[str], others: list[str], what: str) -> str:
        if mine.count(name) > 1:
            return f"{what}:{index}"
        return f"{what}:{quoted(name)}" if name in others else quoted(name)

    return (
        [(text(b.name, i, buffers, tensors, "buffer"), b.offset) for i, b in enumerate(program.buffers)],
        [(text(t.name, i, tensors, buffers, "tensor"), t.address) for i, t in enumerate(program.tensors)],
    )


def _semaphore_places(program: Program) -> dict[int, tuple[str, int, int]]:
    """Return, for every semaphore that a name covers, the name, where its group begins and how many it has."""
    names = [s.name for s in program.semaphores]
    places: dict[int, tuple[str, int, int]] = {}
    for s in program.semaphores:
        if names.count(s.name) == 1:
            for index in range(s.index, s.index + s.count):
                places.setdefault(index, (quoted(s.name), s.index, s.count))
    return places


def _real_text(bits: int) -> str:
    """Return the shortest decimal that rounds to these bits; the bits themselves for a NaN of its own kind."""
    value = float_of_bits(bits)
    if value != value:
        return "nan" if bits == 0x7FC00000 else f"{bits:#010x}"
    if value in (float("inf"), float("-inf")):
        return str(value)
    return next(
        (text for text in (f"{value:.{digits}g}" for digits in range(1, 9)) if bits_of_float(float(text)) == bits),
        f"{value:.9g}",  # nine digits always tell two fp32 numbers apart
    )


def _integer_text(bits: int) -> str:
    return str(bits - (1 << 32) if bits >> 31 else bits)
