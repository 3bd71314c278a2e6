"""Directives about the whole program: its name, chip and mesh, tensors, buffers, semaphores, and listed tables."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from accel.errors import AccelError, AssemblyError, Location
from accel.isa import layout as w
from accel.isa.assembly_operands import Names, Reader
from accel.isa.assembly_scan import Line
from accel.isa.pools import AssemblyPools
from accel.isa.program import Buffer, Semaphore, Table, Tensor
from accel.isa.validate import LARGEST
from accel.numerics.formats import FORMATS

__all__ = ["TEXT_VERSION", "Maps", "chip_digest", "take_values"]

TEXT_VERSION = 2  # of the grammar; goes up with the version of program files
SRAM_ALIGN, TENSOR_ALIGN = 64, 4096  # bytes: what the tracer uses, where a place is left out
MOST_NODES, MOST_SEMAPHORES = 1 << 20, 1 << 16


class Maps:
    """What the directives read so far have said."""

    def __init__(self, chips: Callable[[str], str] | None) -> None:
        self.chips = chips
        self.names = Names()
        self.plain: dict[str, Any] = {"name": "program", "flops": 0, "chip": ""}
        self.facts: dict[str, str] = {}
        self.block: list[str] | None = None  # lines of a chip's JSON
        self.block_line: Line | None = None  # where it began
        self.mesh = (1, 1)
        self.init: list[int] | None = None
        self.without_lines = False
        self._pools: AssemblyPools | None = None
        self._reader: Reader | None = None

    # --- what statements ask for ------------------------------------------------------------------------------------
    @property
    def pools(self) -> AssemblyPools:
        """Return the tables; from now on the mesh is fixed."""
        if self._pools is None:
            self._pools = AssemblyPools(*self.mesh)
        return self._pools

    @property
    def nodes(self) -> int:
        """Return how many nodes the mesh has."""
        return self.mesh[0] * self.mesh[1]

    @property
    def reader(self) -> Reader:
        """Return what reads operands."""
        if self._reader is None:
            self._reader = Reader(self.pools, self.names)
        return self._reader

    def directives(self) -> dict[str, Callable[[Line], None]]:
        """Return what reads each directive, by its word."""
        return {
            "accel": self._accel, "program": self._program, "chip": self._chip, "mesh": self._mesh,
            "flops": self._flops, "fact": self._fact, "tensor": self._tensor, "memory": self._memory,
            "buffer": self._buffer, "sram": self._sram, "sem": self._sem, "init": self._init, "expr": self._expr,
            "view": self._view, "pred": self._pred, "target": self._target, "line": self._line,
            "lines": self._lines, "mark": self._mark,
        }  # fmt: skip

    # --- the program ------------------------------------------------------------------------------------------------
    def _accel(self, line: Line) -> None:
        version = line.take_number("a version of this text")
        if version != TEXT_VERSION:
            raise line.error(
                f"Cannot read assembly of version {version} because this package reads {TEXT_VERSION}; "
                "disassemble the program again"
            )

    def _program(self, line: Line) -> None:
        self.plain["name"] = line.take_name("the name of the program")

    def _chip(self, line: Line) -> None:
        begin = line.skip()
        if line.text[begin:].strip() == "{":
            self.block, self.block_line = ["{"], line
            line.place = len(line.text)
            return
        if line.here("{"):
            self.plain["chip"] = line.text[begin:].rstrip("\r")
            line.place = len(line.text)
            return
        if line.accept("text="):
            self.plain["chip"] = line.take_string("the JSON of a chip")
            return
        name = line.take_string("a chip") if line.here('"') else line.match(re.compile(r"[\w.-]+", re.ASCII))
        if name is None or self.chips is None:
            raise line.error("Cannot use this chip; give its JSON, .chip {...}", begin)
        try:
            found = self.chips(name)
        except AssemblyError:
            raise
        except AccelError as error:
            raise line.error(f"Cannot use this chip: {error}", begin) from None
        if line.accept("sha256="):
            place = line.skip()
            digest = line.take_word(re.compile(r"[0-9a-f]{16}\b"), "16 hexadecimal digits", "0123456789abcdef")
            if digest != chip_digest(found):
                raise line.error(
                    f"Cannot use chip {name!r} because it is not the one that this text was made for; "
                    "remove sha256= to assemble for the one of today", place,
                )  # fmt: skip
        self.plain["chip"] = found

    def continues(self, text: str) -> bool:
        """Take a line of a block of JSON that `.chip {` opened; return False where none is open."""
        if self.block is None:
            return False
        self.block.append(text)
        if text == "}":
            self.plain["chip"], self.block = "\n".join(self.block), None
        return True

    def _mesh(self, line: Line) -> None:
        begin = line.skip()
        if self._pools is not None:
            raise line.error("Cannot change the mesh because rows or roles stand before it; put it first", begin)
        rows, cols = line.take_number("rows", 1, MOST_NODES), line.take_number("columns", 1, MOST_NODES)
        if rows * cols > MOST_NODES:
            raise line.error(f"Cannot use a mesh of {rows * cols} nodes; use at most {MOST_NODES}", begin)
        self.mesh = rows, cols

    def _flops(self, line: Line) -> None:
        self.plain["flops"] = line.take_number("flops", 0)

    def _fact(self, line: Line) -> None:
        begin = line.skip()
        key = line.take_name("the name of a fact")
        if key in self.facts:
            raise line.error(f"Cannot state fact {key!r} twice; remove one", begin)
        self.facts[key] = line.take_string("a fact")

    # --- objects ----------------------------------------------------------------------------------------------------
    def _shape(self, line: Line) -> tuple[str, tuple[int, ...], int]:
        """Read `bf16[4,8]`; return format, shape and bytes."""
        dtype = line.take_known(FORMATS, "number format", re.compile(r"[a-z][a-z0-9]*(?:-\d+)?"))
        line.expect("[", "a shape stands in brackets")
        begin = line.skip()
        shape = line.take_list("sizes", "]")
        line.expect("]", "a bracket is open")
        nbytes = FORMATS[dtype].bytes * math.prod(shape)
        if len(shape) > 64 or not all(n >= 1 for n in shape) or nbytes > LARGEST:
            raise line.error(
                f"Cannot use shape {tuple(shape)} because sizes are at least 1 and bytes below 2^40", begin
            )
        return dtype, tuple(shape), nbytes

    def _tensor(self, line: Line) -> None:
        begin = line.skip()
        name = line.take_name("the name of a tensor")
        if any(t.name == name for t in self.names.tensors):
            raise line.error(f"Cannot declare tensor {name!r} twice; choose another name", begin)
        dtype, shape, nbytes = self._shape(line)
        end = max((t.address + t.nbytes for t in self.names.tensors), default=0)
        address = line.take_number("an address", 0, LARGEST) if line.accept("@") else _aligned(end, TENSOR_ALIGN)
        flags, bias, denormals = set[str](), 0, "gap"
        while not line.ended():
            if line.accept("bias="):
                bias = line.take_number("an exponent bias", 0, 63)
                continue
            word = line.take_known(("in", "out", "resident", "ieee"), "property of a tensor")
            flags.add(word)
            denormals = "ieee" if word == "ieee" else denormals
        self.names.tensors.append(
            Tensor(name, dtype, shape, address, nbytes, "in" in flags, "out" in flags, "resident" in flags, bias,
                   denormals)
        )  # fmt: skip

    def _memory(self, line: Line) -> None:
        self.plain["memory_bytes"] = line.take_number("bytes of memory", 0, LARGEST)

    def _buffer(self, line: Line) -> None:
        name = line.take_name("the name of a buffer")
        dtype, shape, nbytes = self._shape(line)
        end = max((b.offset + b.nbytes for b in self.names.buffers), default=0)
        offset = line.take_number("an offset", 0, LARGEST) if line.accept("@") else _aligned(end, SRAM_ALIGN)
        self.names.buffers.append(Buffer(name, dtype, shape, offset, nbytes, self._behind(line)))

    def _sram(self, line: Line) -> None:
        self.plain["sram_bytes"] = line.take_number("bytes of SRAM", 0, LARGEST)

    def _sem(self, line: Line) -> None:
        begin = line.skip()
        name = line.take_name("the name of a semaphore")
        count = 1
        if line.accept("["):
            count = line.take_number("a count", 1, MOST_SEMAPHORES)
            line.expect("]", "a bracket is open")
        index = max((s.index + s.count for s in self.names.semaphores), default=0)
        init = line.take_number("a first count", 0) if line.accept("=") else 0
        if line.accept("@"):
            index = line.take_number("an index", 0, MOST_SEMAPHORES)
        if index + count > MOST_SEMAPHORES:
            raise line.error(f"Cannot use {index + count} semaphores; use at most {MOST_SEMAPHORES}", begin)
        self.names.semaphores.append(Semaphore(name, index, count, init, self._behind(line)))

    def _init(self, line: Line) -> None:
        self.init = take_values(line, MOST_SEMAPHORES, "a first count")

    def _behind(self, line: Line) -> Location | None:
        """Return the source line behind `|`, None where there is none."""
        return line.take_location() if line.accept("|") else None

    # --- listed tables ----------------------------------------------------------------------------------------------
    def _entry(self, line: Line, kind: str, count: int) -> None:
        begin = line.skip()
        word = line.match(re.compile(rf"{kind}\d{{1,9}}\b"))
        if word is None or int(word[1:]) != count:
            raise line.error(f"Cannot list this entry because entries count up; this one is {kind}{count}", begin)
        line.expect("=", "an entry is listed as name = content")

    def _expr(self, line: Line) -> None:
        pool = self.pools.exprs
        self._entry(line, "e", len(pool.items) if pool.listed else 0)
        begin = line.skip()
        constant, terms = self.reader.expression(line)
        if constant or isinstance(terms, int):
            raise line.error("Cannot list this because an entry holds terms; leave constants and entries out", begin)
        pool.list_next(terms)

    def _view(self, line: Line) -> None:
        pool = self.pools.views
        self._entry(line, "v", len(pool.items) if pool.listed else 0)
        space, index = self.names.find(line)
        pool.list_next(self.reader.view_words(line, space, index, pairs=False))

    def _pred(self, line: Line) -> None:
        self._listed(line, "c", self.pools.preds, self.reader.predicate)

    def _target(self, line: Line) -> None:
        self._listed(line, "t", self.pools.targets, self.reader.target)

    def _listed(self, line: Line, kind: str, pool: Any, read: Callable[[Line], int]) -> None:
        """Read an entry by the reader of operands, then list what it interned."""
        self._entry(line, kind, len(pool.items) if pool.listed else 0)
        before = len(pool.items)
        key = pool.items[read(line)]
        for extra in pool.items[before:]:
            del pool.ids[extra]
        del pool.items[before:]
        pool.list_next(key)

    def _line(self, line: Line) -> None:
        self.pools.lines.list_next(line.take_location())

    def _lines(self, line: Line) -> None:
        line.take_known(("none",), "map of lines")
        self.without_lines = True

    def _mark(self, line: Line) -> None:
        self.pools.marks.list_next(line.take_string("a mark"))

    # --- the end ----------------------------------------------------------------------------------------------------
    def source_map(self, code: Table, shards: Table) -> tuple[Location, ...]:
        """Return the source map; unless it was listed it is sorted, and the rows are renumbered in place."""
        items = self.pools.lines.items
        if self.pools.lines.listed or self.without_lines:
            return tuple(items)
        order = sorted(range(len(items)), key=lambda i: items[i])
        place = np.zeros(max(1, len(items)), np.int64)
        place[order] = np.arange(len(items))
        code[:, w.W_LINE] = place[code[:, w.W_LINE]]
        shards[:, w.H_LINE] = place[shards[:, w.H_LINE]]
        return tuple(items[i] for i in order)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the program that these directives decide."""
        if self.block is not None and self.block_line is not None:
            raise self.block_line.error("Cannot find where this chip ends; close it by a line that is just }", 0)
        names, pools, init = self.names, self.pools, self.init
        if init is None:
            init = [0] * max((s.index + s.count for s in names.semaphores), default=0)
            for s in names.semaphores:
                init[s.index : s.index + s.count] = [s.init] * s.count
        return {
            "memory_bytes": max((t.address + t.nbytes for t in names.tensors), default=0),
            "sram_bytes": max((b.offset + b.nbytes for b in names.buffers), default=0),
            **self.plain, "rows": self.mesh[0], "cols": self.mesh[1],
            "views": pools.view_table(), "exprs": pools.expr_table(), "preds": pools.pred_table(),
            "targets": pools.target_table(), "buffers": tuple(names.buffers), "semaphores": tuple(names.semaphores),
            "semaphore_init": np.array(init, np.int64), "tensors": tuple(names.tensors),
            "marks": tuple(pools.marks.items), "facts": self.facts,
        }  # fmt: skip


def chip_digest(chip: str) -> str:
    """Return 16 hexadecimal digits that tell two chip descriptions apart."""
    return hashlib.sha256(chip.encode()).hexdigest()[:16]


def _aligned(n: int, to: int) -> int:
    return -(-n // to) * to


def take_values(line: Line, most: int, what: str) -> list[int]:
    """Read numbers up to a bracket or the end; `4:0` is four zeros."""
    values: list[int] = []
    while not line.ended() and not line.here("]"):
        begin = line.skip()
        value, count = line.take_number(what), 1
        if line.accept(":"):
            value, count = line.take_number(what), value
        if count < 1 or len(values) + count > most:
            raise line.error(f"Cannot use so many values; {most} fit here", begin)
        values += [value] * count
    return values
