"""Reading operands: sums of node values and loop indices, views, targets, semaphores, immediates."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

from accel.errors import nearest
from accel.isa import layout as w
from accel.isa.assembly_scan import FORMAT, NAME, WORD_LIMIT, Line
from accel.isa.pools import AssemblyPools, ExprKey, ViewKey
from accel.isa.program import Buffer, Semaphore, Tensor
from accel.numerics.formats import FORMATS, Format

__all__ = ["Names", "Reader", "Sum"]

ATOM = re.compile(r"row\b|col\b|p\d+\b|e\d+\b|\(|i[0-3]\b", re.ASCII)
LOOP_INDEX = re.compile(r"i[0-3]\b", re.ASCII)
INNER = re.compile(r"\(?(?:\d+\*)?i[0-3]\b", re.ASCII)
ENTRY = {kind: re.compile(rf"{kind}\d+\b", re.ASCII) for kind in "vect"}
REAL = re.compile(r"[+-]?(?:inf\b|nan\b|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)", re.ASCII)
RAW = re.compile(r"0[xX][0-9a-fA-F]+", re.ASCII)
RELATIONS = ("==", "!=", "<=", ">=", "<", ">")
COMPARISONS = {"eq": 1, "ne": 2, "lt": 3, "le": 4, "gt": 5, "ge": 6}  # the `relation` of vec.compare
LARGEST_TABLE_INDEX = 1 << 20
LARGEST_BIAS = 63
MARKED = ("phase", "name")  # immediates that number a mark
LIMITS = {"relation": (1, 6), "stream": (0, (1 << 32) - 1), "accumulate": (0, 1)}
BEYOND_WHOLE = re.compile(r"\.|[eE][+-]?\d|\d", re.ASCII)  # what makes the digits before it no whole number


class Sum(NamedTuple):
    """A constant plus an expression of the table."""

    constant: int
    expr: int


class Names:
    """What text refers to by name: buffers, tensors, semaphores."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.tensors: list[Tensor] = []
        self.semaphores: list[Semaphore] = []

    def find(self, line: Line) -> tuple[int, int]:
        """Return space and index of the object named here; `tensor:x` and `buffer:x` where both are there."""
        begin = line.skip()
        buffers = {b.name: i for i, b in reversed(list(enumerate(self.buffers)))}
        tensors = {t.name: i for i, t in reversed(list(enumerate(self.tensors)))}
        for prefix, space, known, count in (
            ("buffer:", w.SPACE_SRAM, buffers, len(self.buffers)),
            ("tensor:", w.SPACE_MEMORY, tensors, len(self.tensors)),
        ):
            if line.accept(prefix):
                index = line.number_here()
                if index is not None:
                    if index >= count:
                        raise line.error(f"Cannot use {prefix}{index} because there are {count}; number from 0", begin)
                    return space, index
                return space, known[self._name(line, known, prefix[:-1])]
        name = self._name(line, {**buffers, **tensors}, "buffer or tensor")
        if name in buffers and name in tensors:
            raise line.error(
                f"Cannot tell which {name!r} is meant because a buffer and a tensor have this name; "
                f"write buffer:{name} or tensor:{name}", begin,
            )  # fmt: skip
        return (w.SPACE_SRAM, buffers[name]) if name in buffers else (w.SPACE_MEMORY, tensors[name])

    @staticmethod
    def _name(line: Line, known: Mapping[str, int], what: str) -> str:
        begin = line.skip()
        name = line.take_name(f"the name of a {what}")
        if name not in known:
            hint = nearest(name, known) or (f"; use {', '.join(list(known)[:8])}" if known else "; declare it first")
            raise line.error(f"Cannot use {name!r} because no {what} has this name{hint}", begin)
        return name


class Reader:
    """Reads operands of a line into words, interning what the tables hold."""

    def __init__(self, pools: AssemblyPools, names: Names) -> None:
        self.pools, self.names = pools, names
        self.params_used: dict[int, tuple[Line, int]] = {}
        self._plain: dict[str, ViewKey] = {}

    # --- sums ---------------------------------------------------------------------------------------------------
    def expression(self, line: Line) -> tuple[int, ExprKey | int]:
        """Read a sum; return its constant, and its terms or the id of the table's entry that it names."""
        constant = 0
        params: list[tuple[int, int]] = []
        loops: list[tuple[int, int, int, int, int]] = []
        entry: int | None = None
        begin = line.skip()
        sign = -1 if line.accept("-") else 1
        line.accept("+")
        while True:
            place = line.skip()
            number = line.number_here()
            if number is not None and not line.accept("*"):
                constant += sign * number
            else:
                atom = line.match(ATOM)
                if atom is None:
                    raise line.error(
                        f"Cannot read {line.found()} as part of a sum; use numbers, row, col, p2, i0, (i0%2) and "
                        "multiples of them such as 64*row", line.skip(),
                    )  # fmt: skip
                coef = sign * (1 if number is None else number)
                if atom[0] == "e":
                    if number is not None or sign < 0 or entry is not None:
                        raise line.error("Cannot scale an entry of the table; write its terms instead", place)
                    entry = self._entry(
                        line, int(atom[1:]) if len(atom) < 9 else -1, len(self.pools.exprs.items), place
                    )
                elif atom in ("row", "col") or atom[0] == "p":
                    index = {"row": w.PARAM_ROW, "col": w.PARAM_COL}.get(atom)
                    if index is None:
                        index = int(atom[1:]) if len(atom) < 9 else LARGEST_TABLE_INDEX
                    if index > 1:
                        self.params_used.setdefault(index, (line, place))
                    params.append((index, coef))
                else:
                    loops.append(self._loop_term(line, atom, coef))
            if line.accept("+"):
                sign = 1
            elif line.accept("-"):
                sign = -1
            else:
                break
        if not -WORD_LIMIT <= constant < WORD_LIMIT:
            raise line.error("Cannot use this sum because a word has 64 bits with sign; use smaller numbers", begin)
        if entry is not None:
            if params or loops:
                raise line.error("Cannot add terms to an entry of the table; write all terms instead", begin)
            return constant, entry
        if len(params) > w.EXPR_PARAMS or len(loops) > w.EXPR_LOOPS:
            raise line.error(
                f"Cannot use this sum because it has {len(params)} node values and {len(loops)} loop terms, at most "
                f"{w.EXPR_PARAMS} and {w.EXPR_LOOPS} fit; put a node value of its own (.param) in their place", begin,
            )  # fmt: skip
        return constant, (tuple(params), tuple(loops))

    def _loop_term(self, line: Line, atom: str, coef: int) -> tuple[int, int, int, int, int]:
        """Read `i0`, or what follows the parenthesis of `(2*i0+1)`, `(i0%2)` or `((2*i0+1)%3)`."""
        if atom[0] == "i":
            return int(atom[1]), coef, 1, 0, 0
        nested = line.accept("(")
        sign = -1 if line.accept("-") else 1
        number = line.number_here()
        if number is not None:
            line.expect("*", "a number here multiplies a loop index")
        index = line.take_word(LOOP_INDEX, "a loop index", "i0")
        add = 0
        if line.accept("+"):
            add = line.take_number("what is added to the loop index")
        elif line.accept("-"):
            add = -line.take_number("what is taken from the loop index")
        if nested:
            line.expect(")", "a parenthesis is open")
        mod = line.take_number("a modulus", 1) if line.accept("%") else 0
        line.expect(")", "a parenthesis is open")
        return int(index[1]), coef, sign * (1 if number is None else number), add, mod

    @staticmethod
    def _entry(line: Line, index: int, count: int, place: int) -> int:
        if not 0 <= index < count:
            raise line.error(f"Cannot use entry {index} because the table has {count} so far; list it first", place)
        return index

    def sum(self, line: Line) -> Sum:
        """Read a sum and intern it."""
        constant, terms = self.expression(line)
        return Sum(constant, terms if isinstance(terms, int) else self.pools.exprs.id(terms))

    def entry(self, line: Line, kind: str, count: int) -> int | None:
        """Return the id of a table's entry named here by letter and number (`v0`), None where none is."""
        place = line.skip()
        word = line.match(ENTRY[kind])
        return None if word is None else self._entry(line, int(word[1:]) if len(word) < 9 else -1, count, place)

    # --- guards and targets -------------------------------------------------------------------------------------
    def predicate(self, line: Line) -> int:
        """Read what follows `@`: `(row == 0 & i0 < 3)`, `always`, or an entry `c1`; return its id."""
        entry = self.entry(line, "c", len(self.pools.preds.items))
        if entry is not None:
            return entry
        begin = line.skip()
        if line.accept("always"):
            return self.pools.preds.id(())
        line.expect("(", "a guard stands in parentheses, such as @(row == 0)")
        terms = []
        while True:
            left = self.sum(line)
            place = line.skip()
            relation = next((r for r in RELATIONS if line.accept(r)), None)
            if relation is None:
                raise line.error(f"Cannot read {line.found()} as a comparison; use == != < <= > >=", place)
            right = line.take_number("what is compared with")
            constant = left.constant - right - (relation in ("<=", ">"))
            code = {"==": w.REL_EQ, "!=": w.REL_NE, "<": w.REL_LT, "<=": w.REL_LT}.get(relation, w.REL_GE)
            if not -WORD_LIMIT <= constant < WORD_LIMIT:
                raise line.error("Cannot compare these numbers because a word has 64 bits; use smaller ones", place)
            terms.append((left.expr, constant, code))
            if not line.accept("&"):
                break
        line.expect(")", "the guard's parenthesis is open")
        if len(terms) > w.PRED_TERMS:
            raise line.error(f"Cannot use {len(terms)} conditions because {w.PRED_TERMS} fit; merge some", begin)
        return self.pools.preds.id(tuple(terms))

    def target(self, line: Line) -> int:
        """Read `self`, `all`, `(row, 0..3)` or an entry `t2`; return its id."""
        for name, index in (("self", w.TARGET_SELF), ("all", w.TARGET_ALL)):
            if line.match(re.compile(rf"{name}\b")) is not None:
                return index
        entry = self.entry(line, "t", len(self.pools.targets.items))
        if entry is not None:
            return entry
        line.expect("(", "a target is self, all, (row, col) or a rectangle such as (row, 0..3)")
        words: list[int] = []
        for close in ",)":
            first = self.sum(line)
            last = self.sum(line) if line.accept("..") else first
            words += (*first, *last)
            line.expect(close, "a target is (rows, columns)")
        return self.pools.targets.id(tuple(words))

    # --- views --------------------------------------------------------------------------------------------------
    def view(self, line: Line, pairs: bool) -> tuple[int, int, int]:
        """Read `A+64*row bf16[4,8:16,2] bias=3`; return view id, address and expression id."""
        space, index = self.names.find(line)
        place = line.skip()
        offset, terms = self.expression(line) if line.here("+") or line.here("-") else (0, ((), ()))
        key = self.entry(line, "v", len(self.pools.views.items)) if line.here("v") else None
        if key is None:
            key = self.pools.views.id(self.view_words(line, space, index, pairs))
        elif self.pools.views.items[key][w.V_SPACE] != space or self.pools.views.items[key][w.V_OBJECT] != index:
            raise line.error(f"Cannot use view v{key} here because it is of another object; name that one", place)
        address = self.base(space, index) + offset
        if not -WORD_LIMIT <= address < WORD_LIMIT:
            raise line.error("Cannot use this address because a word has 64 bits with sign; use a smaller one", place)
        return key, address, terms if isinstance(terms, int) else self.pools.exprs.id(terms)

    def base(self, space: int, index: int) -> int:
        """Return where a buffer or tensor begins, in bytes."""
        return self.names.buffers[index].offset if space == w.SPACE_SRAM else self.names.tensors[index].address

    def view_words(self, line: Line, space: int, index: int, pairs: bool) -> ViewKey:
        """Read format, shape, strides, ring and bias; what is left out follows from the buffer or tensor."""
        owner: Buffer | Tensor = self.names.buffers[index] if space == w.SPACE_SRAM else self.names.tensors[index]
        begin = line.skip()
        word = FORMAT.match(line.text, begin)
        row = FORMATS[owner.dtype]
        if word is not None and word.group() not in ("ieee", "gap") and line.text[word.end() : word.end() + 1] != "=":
            row = self._format(line)
        shape = list(owner.shape)
        if not 1 <= len(shape) <= w.DIMS:
            shape = [n for n in shape if n != 1] or [1]
        strides: list[int] | None = None
        if line.accept("["):
            shape = line.take_list("sizes", ":]")
            strides = line.take_list("strides", "]") if line.accept(":") else None
            line.expect("]", "a bracket is open")
        ndim = line.take_number("a number of dimensions", 0, w.DIMS) if line.accept("/") else None
        if len(shape) > w.DIMS or not shape or (strides is not None and len(strides) != len(shape)):
            raise line.error(
                f"Cannot use {len(shape)} sizes with {len(strides or shape)} strides because a view has 1 to {w.DIMS} "
                "dimensions with a stride each; write for example [4,8:16,2]", begin,
            )  # fmt: skip
        words = [0] * w.VIEW_WORDS
        steps = strides if strides is not None else row_major(shape, row.bytes)
        if pairs and len(shape) == 2 and ndim is None:
            shape, steps = [1, shape[0], 1, shape[1]], [0, steps[0], 0, steps[1]]
        lead = w.DIMS - len(shape)
        if max(abs(s) for s in steps) >= WORD_LIMIT:
            raise line.error("Cannot use these sizes because strides have 64 bits; use smaller ones", begin)
        words[w.V_SPACE], words[w.V_DTYPE], words[w.V_OBJECT] = space, row.code, index
        words[w.V_NDIM] = len(shape) if ndim is None else ndim
        words[w.V_SHAPE : w.V_SHAPE + w.DIMS] = [1] * lead + shape
        words[w.V_STRIDE : w.V_STRIDE + w.DIMS] = [0] * lead + steps
        self._attributes(line, words, owner, row)
        return tuple(words)

    def _attributes(self, line: Line, words: list[int], owner: Buffer | Tensor, row: Format) -> None:
        """Read `ring=base+bytes`, `bias=7`, `bias=S+4`, `ieee`; a tensor's own bias and rule where none is given."""
        bias = owner.bias if isinstance(owner, Tensor) and row.kind == "cfp" else 0
        ieee = isinstance(owner, Tensor) and row.kind == "cfp" and owner.denormals == "ieee"
        while True:
            begin = line.skip()
            if line.accept("ring="):
                words[w.V_RING_BASE] = line.take_number("where a ring begins", 0)
                line.expect("+", "a ring is ring=begin+bytes")
                words[w.V_RING_BYTES] = line.take_number("the bytes of a ring", 1)
                if words[w.V_SPACE] != w.SPACE_SRAM:
                    raise line.error("Cannot make a ring of a tensor because rings lie in SRAM; copy it first", begin)
            elif line.accept("bias="):
                if line.here("@"):
                    line.accept("@")
                    words[w.V_SCALAR] = 1 + self._scalar(line)
                else:
                    bias = line.take_number("an exponent bias", 0, LARGEST_BIAS)
            elif line.match(re.compile(r"ieee\b")) is not None:
                ieee = True
            elif line.match(re.compile(r"gap\b")) is not None:
                ieee = False
            else:
                break
            if row.kind != "cfp" and not line.text.startswith("ring=", begin):
                raise line.error(
                    f"Cannot give bias or denormals to {row.name} because it has none of its own; leave it out", begin
                )
        words[w.V_BIAS] = bias + (w.BIAS_IEEE if ieee else 0)

    def _scalar(self, line: Line) -> int:
        place = line.skip()
        number = line.number_here()
        if number is not None:
            return number
        space, index = self.names.find(line)
        if space != w.SPACE_SRAM:
            raise line.error("Cannot read a bias from a tensor because it must lie in SRAM; copy it to a buffer", place)
        offset = line.take_number("an offset") if line.accept("+") else 0
        return self.base(space, index) + offset

    @staticmethod
    def _format(line: Line) -> Format:
        return FORMATS[line.take_known(FORMATS, "number format", FORMAT)]

    # --- the rest -----------------------------------------------------------------------------------------------
    def semaphore(self, line: Line) -> tuple[int, int]:
        """Read `full`, `full[i0%2]`, `none` or `sem:5`; return index and expression id."""
        if line.accept("sem:"):
            return self.sum(line)
        begin = line.skip()
        known = {s.name: s for s in reversed(self.names.semaphores)}
        if "none" not in known and line.match(re.compile(r"none\b")) is not None:
            return Sum(-1, self.pools.exprs.id(((), ())))
        name = line.take_name("a semaphore")
        found = known.get(name)
        if found is None:
            hint = nearest(name, known) or (f"; use {', '.join(list(known)[:8])}" if known else "; declare it by .sem")
            raise line.error(f"Cannot use {name!r} because it is no semaphore{hint}", begin)
        if not line.accept("["):
            if found.count != 1:
                raise line.error(
                    f"Cannot tell which {name!r} is meant because there are {found.count}; index it, {name}[0]", begin
                )
            return Sum(found.index, self.pools.exprs.id(((), ())))
        place = line.skip()
        index = self.sum(line)
        line.expect("]", "a bracket is open")
        if self.pools.exprs.items[index.expr] == ((), ()) and not 0 <= index.constant < found.count:
            raise line.error(
                f"Cannot use {name}[{index.constant}] because there are {found.count}; number from 0", place
            )
        return Sum(found.index + index.constant, index.expr)

    def place(self, line: Line) -> list[int]:
        """Read the logical index of an element, `64*row [64,1]`: first element, then steps, right-aligned."""
        first = self.sum(line)
        begin = line.skip()
        steps: list[int] = []
        if line.accept("["):
            steps = line.take_list("steps", "]")
            line.expect("]", "a bracket is open")
        if len(steps) > w.DIMS:
            raise line.error(f"Cannot use {len(steps)} steps because a view has at most {w.DIMS} dimensions", begin)
        return [*first, *[0] * (w.DIMS - len(steps)), *steps]

    def immediate(self, line: Line, name: str) -> int:
        """Read a whole number, a text (a mark) or a relation by name."""
        if line.here('"'):
            return self.pools.marks.id(line.take_string("a mark"))
        if name in MARKED and NAME.match(line.text, line.skip()):
            raise line.error(f"Cannot read {line.found()} as operand {name} because it is a text; put it in quotes")
        if name == "relation" and NAME.match(line.text, line.skip()):
            return COMPARISONS[line.take_known(COMPARISONS, "relation")]
        return line.take_number(f"operand {name}", *LIMITS.get(name, (-WORD_LIMIT, WORD_LIMIT - 1)))

    def real(self, line: Line, integer: bool) -> int:
        """Read a number (in a row that computes in integers an int32), or raw bits as 0x; return its 32 bits."""
        begin = line.skip()
        raw = line.match(RAW)
        if raw is not None:
            bits = int(raw, 16) if len(raw) < 20 else 1 << 32
            if bits >> 32:
                raise line.error("Cannot use these bits because an immediate has 32; write at most 8 digits", begin)
            return bits
        if integer:
            value = line.take_number("an int32", -(1 << 31), (1 << 31) - 1)
            if BEYOND_WHOLE.match(line.text, line.place):
                raise line.error(
                    "Cannot use this number because all views of the row are in integer formats, so it is an int32; "
                    "write a whole number", begin,
                )  # fmt: skip
            return value & 0xFFFFFFFF
        number = line.match(REAL)
        if number is None:
            raise line.error(
                f"Cannot read {line.found()} as a number; write for example 0.5, -inf or 0x3f800000", begin
            )
        if "nan" in number:
            return 0x7FC00000
        try:
            return int(struct.unpack("<I", struct.pack("<f", float(number)))[0])
        except OverflowError:
            raise line.error(f"Cannot use {number} because fp32 ends at 3.4028235e38; write inf", begin) from None


def row_major(shape: list[int], item: int) -> list[int]:
    """Return byte strides without gaps; a dimension of one element has stride 0."""
    steps, step = [], item
    for n in reversed(shape):
        steps.append(0 if n == 1 else step)
        step *= n
    return steps[::-1]
