"""Directives: what a program says about itself besides its rows - mesh, chip, tensors, buffers, roles, node values."""

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
from accel.isa.assembly_pools import Pools
from accel.isa.assembly_scan import NAME, Line
from accel.isa.program import Buffer, Semaphore, Table, Tensor
from accel.isa.validate import LARGEST, MOST_THREADS
from accel.numerics.formats import FORMATS

__all__ = ["SRAM_ALIGN", "TENSOR_ALIGN", "TEXT_VERSION", "Maps"]

TEXT_VERSION = 2  # of the grammar; goes up with the version of program files
SRAM_ALIGN, TENSOR_ALIGN = 64, 4096  # bytes: what the tracer uses, where a place is left out
MOST_NODES, MOST_ROLES, MOST_SEMAPHORES, MOST_VALUES = 1 << 20, 1 << 16, 1 << 16, 1 << 26
PARAM = re.compile(r"p\d{1,9}\b|row\b|col\b", re.ASCII)


class Maps:
    """What the directives read so far have said."""

    def __init__(self, chips: Callable[[str], str] | None) -> None:
        self.chips = chips
        self.names = Names()
        self.plain: dict[str, Any] = {"name": "program", "flops": 0, "chip": ""}
        self.facts: dict[str, str] = {}
        self.mesh = (1, 1)
        self.threads: int | None = None
        self.init: list[int] | None = None
        self.without_lines = False
        self.thread_names: list[list[str]] = []
        self.spans: list[list[tuple[int, int]]] = []
        self.flat = False  # in a `.code` block, rows of which threads take parts
        self.opened = -1  # row where the open thread began; -1: none is open
        self.columns: dict[int, Table] = {}
        self.width: int | None = None
        self.nodes: list[Table] = []
        self._pools: Pools | None = None
        self._reader: Reader | None = None
        self._used: dict[str, int] = {}

    # --- what statements ask for ------------------------------------------------------------------------------------
    @property
    def pools(self) -> Pools:
        """Return the tables; from now on the mesh is fixed."""
        if self._pools is None:
            self._pools = Pools(*self.mesh)
        return self._pools

    def reader(self, line: Line) -> Reader:
        """Return what reads operands."""
        if self._reader is None:
            self._reader = Reader(self.pools, self.names)
        return self._reader

    def current_role(self, line: Line) -> int:
        """Return the role that is being written; the first one, of all nodes, begins by itself."""
        if not self.nodes:
            self._begin_role(np.arange(self.mesh[0] * self.mesh[1], dtype=np.int64))
        return len(self.nodes) - 1

    def open_thread(self, line: Line, row: int) -> None:
        """Make sure that a row has a thread to go to; the first one of a role, `main`, begins by itself."""
        if self.flat or self.opened >= 0:
            return
        role = self.current_role(line)
        if self.spans[role]:
            raise line.error("Cannot put a row here because no thread is open; write .thread NAME before it")
        self.thread_names[role].append("main")
        self.opened = row

    def directive(self, line: Line, row: int) -> bool:
        """Read a directive; return whether it ends the thread before it."""
        begin = line.skip()
        line.accept(".")
        place = line.place
        known = [name[3:] for name in dir(self) if name.startswith("_d_")]
        if line.skip() != place or NAME.match(line.text, place) is None:
            raise line.error(f"Cannot read a directive here; write one of .{', .'.join(known)}", begin)
        word = line.take_known(known, "directive")
        ends = word in ("role", "thread", "code")
        if ends:
            self._close(row)
        if word in ("mesh", "chip", "program", "threads", "flops", "memory", "sram", "init", "params"):
            self._once(line, word, begin)
        getattr(self, f"_d_{word}")(line, row)
        return ends

    def _once(self, line: Line, word: str, begin: int) -> None:
        if word in self._used:
            raise line.error(f"Cannot give .{word} twice, it stands on line {self._used[word]}; remove one", begin)
        self._used[word] = line.number

    def _close(self, row: int) -> None:
        if self.opened >= 0:
            self.spans[-1].append((self.opened, row))
        self.opened, self.flat = -1, False

    # --- the program ------------------------------------------------------------------------------------------------
    def _d_accel(self, line: Line, row: int) -> None:
        version = line.take_number("a version of this text")
        if version != TEXT_VERSION:
            raise line.error(
                f"Cannot read assembly of version {version} because this package reads {TEXT_VERSION}; "
                "disassemble the program again"
            )

    def _d_program(self, line: Line, row: int) -> None:
        self.plain["name"] = line.take_name("the name of the program")

    def _d_chip(self, line: Line, row: int) -> None:
        begin = line.skip()
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

    def _d_mesh(self, line: Line, row: int) -> None:
        begin = line.skip()
        if self._pools is not None or self.nodes:
            raise line.error("Cannot change the mesh because rows or roles stand before it; put it first", begin)
        rows, cols = line.take_number("rows", 1, MOST_NODES), line.take_number("columns", 1, MOST_NODES)
        if rows * cols > MOST_NODES:
            raise line.error(f"Cannot use a mesh of {rows * cols} nodes; use at most {MOST_NODES}", begin)
        self.mesh = rows, cols

    def _d_threads(self, line: Line, row: int) -> None:
        self.threads = line.take_number("threads", 1, MOST_THREADS)

    def _d_flops(self, line: Line, row: int) -> None:
        self.plain["flops"] = line.take_number("flops", 0)

    def _d_fact(self, line: Line, row: int) -> None:
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
            raise line.error(f"Cannot use shape {tuple(shape)} because sizes are at least 1 and bytes below 2^40", begin)
        return dtype, tuple(shape), nbytes

    def _d_tensor(self, line: Line, row: int) -> None:
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

    def _d_memory(self, line: Line, row: int) -> None:
        self.plain["memory_bytes"] = line.take_number("bytes of memory", 0, LARGEST)

    def _d_buffer(self, line: Line, row: int) -> None:
        name = line.take_name("the name of a buffer")
        dtype, shape, nbytes = self._shape(line)
        end = max((b.offset + b.nbytes for b in self.names.buffers), default=0)
        offset = line.take_number("an offset", 0, LARGEST) if line.accept("@") else _aligned(end, SRAM_ALIGN)
        self.names.buffers.append(Buffer(name, dtype, shape, offset, nbytes, self._behind(line)))

    def _d_sram(self, line: Line, row: int) -> None:
        self.plain["sram_bytes"] = line.take_number("bytes of SRAM", 0, LARGEST)

    def _d_sem(self, line: Line, row: int) -> None:
        begin = line.skip()
        name = line.take_name("the name of a semaphore")
        count = 1
        if line.accept("["):
            count = line.take_number("a count", 1, MOST_SEMAPHORES)
            line.expect("]", "a bracket is open")
        index = max((s.index + s.count for s in self.names.semaphores), default=0)
        init = line.take_number("a first count", 0, LARGEST) if line.accept("=") else 0
        if line.accept("@"):
            index = line.take_number("an index", 0, MOST_SEMAPHORES)
        if index + count > MOST_SEMAPHORES:
            raise line.error(f"Cannot use {index + count} semaphores; use at most {MOST_SEMAPHORES}", begin)
        self.names.semaphores.append(Semaphore(name, index, count, init, self._behind(line)))

    def _d_init(self, line: Line, row: int) -> None:
        self.init = _values(line, MOST_SEMAPHORES, "a first count")

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

    def _d_expr(self, line: Line, row: int) -> None:
        pool = self.pools.exprs
        self._entry(line, "e", len(pool.items) if pool.listed else 0)
        begin = line.skip()
        constant, terms = self.reader(line).expression(line)
        if constant or isinstance(terms, int):
            raise line.error("Cannot list this because an entry holds terms; leave constants and entries out", begin)
        pool.list_next(terms)

    def _d_view(self, line: Line, row: int) -> None:
        pool = self.pools.views
        self._entry(line, "v", len(pool.items) if pool.listed else 0)
        space, index = self.names.find(line)
        pool.list_next(self.reader(line).view_words(line, space, index, pairs=False))

    def _d_pred(self, line: Line, row: int) -> None:
        self._listed(line, "c", self.pools.preds, self.reader(line).predicate)

    def _d_target(self, line: Line, row: int) -> None:
        self._listed(line, "t", self.pools.targets, self.reader(line).target)

    def _listed(self, line: Line, kind: str, pool: Any, read: Callable[[Line], int]) -> None:
        """Read an entry by the reader of operands, then list what it interned."""
        self._entry(line, kind, len(pool.items) if pool.listed else 0)
        before = len(pool.items)
        key = pool.items[read(line)]
        for extra in pool.items[before:]:
            del pool.ids[extra]
        del pool.items[before:]
        pool.list_next(key)

    def _d_line(self, line: Line, row: int) -> None:
        self.pools.lines.list_next(line.take_location())

    def _d_lines(self, line: Line, row: int) -> None:
        line.take_known(("none",), "map of lines")
        self.without_lines = True

    def _d_mark(self, line: Line, row: int) -> None:
        self.pools.marks.list_next(line.take_string("a mark"))

    # --- roles, threads, node values --------------------------------------------------------------------------------
    def _d_role(self, line: Line, row: int) -> None:
        begin = line.skip()
        number = line.take_number("a role", 0, MOST_ROLES)
        if number != len(self.nodes):
            raise line.error(f"Cannot begin role {number} here because roles count up; this is {len(self.nodes)}", begin)
        line.expect("nodes", "a role names its nodes")
        picked = np.zeros(self.mesh, np.bool_)
        taken = np.zeros(self.mesh[0] * self.mesh[1], np.bool_)
        for nodes in self.nodes:
            taken[nodes] = True
        if line.match(re.compile(r"all\b")) is not None:
            picked[:] = True
        elif line.match(re.compile(r"none\b")) is None:
            line.expect("(", "nodes are all, none, or rectangles such as (0, 0..3)")
            while True:
                r0, r1 = _range(line, self.mesh[0], "a row of the mesh")
                line.expect(",", "a node is (row, column)")
                c0, c1 = _range(line, self.mesh[1], "a column of the mesh")
                line.expect(")", "a parenthesis is open")
                picked[r0 : r1 + 1, c0 : c1 + 1] = True
                if not line.accept("("):
                    break
        nodes = np.flatnonzero(picked.reshape(-1))
        if taken[nodes].any():
            row_, col_ = divmod(int(nodes[taken[nodes]][0]), self.mesh[1])
            raise line.error(f"Cannot put node ({row_}, {col_}) here because another role has it; leave it out", begin)
        self._begin_role(nodes)

    def _begin_role(self, nodes: Table) -> None:
        self.nodes.append(nodes)
        self.thread_names.append([])
        self.spans.append([])

    def _d_thread(self, line: Line, row: int) -> None:
        begin = line.skip()
        role = self.current_role(line)
        named = len(self.spans[role]) == len(self.thread_names[role])
        if not line.ended() and not line.here("rows="):
            if not named:
                raise line.error("Cannot name this thread because the one before has no name; name that one", begin)
            self.thread_names[role].append(line.take_name("the name of a thread"))
        if len(self.spans[role]) >= MOST_THREADS:
            raise line.error(f"Cannot use more than {MOST_THREADS} threads a node; merge two", begin)
        if line.accept("rows="):
            first = line.take_number("a row of code", 0)
            line.expect(":", "rows are first:end")
            self.spans[role].append((first, line.take_number("a row of code", 0)))
        else:
            self.opened = row

    def _d_code(self, line: Line, row: int) -> None:
        self.flat = True

    def _d_params(self, line: Line, row: int) -> None:
        begin = line.skip()
        self.width = line.take_number("node values", 2, MOST_VALUES)
        self._fits(line, self.width, begin)

    def _fits(self, line: Line, width: int, begin: int) -> None:
        if width * self.mesh[0] * self.mesh[1] > MOST_VALUES:
            raise line.error(f"Cannot keep {width} values for every node; use fewer, they count up from p2", begin)

    def _d_param(self, line: Line, row: int) -> None:
        """Read `p2 = 3*row+1` or `p2 = 1 4:0 2` (four zeros), over the nodes of the role, or all before any role."""
        begin = line.skip()
        word = line.take_word(PARAM, "a node value", "p2")
        index = {"row": 0, "col": 1}.get(word)
        index = int(word[1:]) if index is None else index
        self._fits(line, max(index + 1, len(self.columns)), begin)
        line.expect("=", "a node value is p2 = values")
        everyone = np.arange(self.mesh[0] * self.mesh[1], dtype=np.int64)
        nodes = self.nodes[-1] if self.nodes else everyone
        if index not in self.columns:
            if sum(c.size for c in self.columns.values()) + everyone.size > MOST_VALUES:
                raise line.error("Cannot keep so many node values; use fewer", begin)
            self.columns[index] = np.zeros(everyone.size, np.int64)
        place = line.skip()
        if line.accept("["):
            values = _values(line, max(1, len(nodes)), "a node value")
            line.expect("]", "a bracket is open")
            if len(values) != len(nodes):
                raise line.error(f"Cannot give {len(values)} values to {len(nodes)} nodes; give one a node", place)
            self.columns[index][nodes] = values
        else:
            constant, terms = self.reader(line).expression(line)
            if isinstance(terms, int) or terms[1] or any(p > w.PARAM_COL for p, _ in terms[0]):
                raise line.error("Cannot use this as a node value; write a sum of row and col, or [values]", place)
            total = [constant] * len(nodes)
            where = np.divmod(nodes, self.mesh[1])
            for p, coef in terms[0]:
                total = [v + coef * int(x) for v, x in zip(total, where[p], strict=True)]
            if total and max(abs(min(total)), abs(max(total))) > LARGEST:
                raise line.error("Cannot use node values beyond 2^40; use smaller ones", place)
            self.columns[index][nodes] = total

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

    def fields(self, last: Line, rows: int) -> dict[str, Any]:
        """Return the fields of the program apart from rows, shards and lines."""
        self._close(rows)
        self.current_role(last)
        threads = self.threads or max(1, *(len(s) for s in self.spans))
        for role, spans in enumerate(self.spans):
            if len(spans) > threads:
                raise last.error(f"Cannot keep {len(spans)} threads of role {role} because .threads says {threads}")
        nodes = self.mesh[0] * self.mesh[1]
        spans = np.zeros((len(self.spans), threads, 2), np.int64)
        end = 0
        for role, taken in enumerate(self.spans):
            for thread in range(threads):
                spans[role, thread] = taken[thread] if thread < len(taken) else (end, end)
                end = int(spans[role, thread, 1])
        role_of = np.full(nodes, -1, np.int64)
        for role, picked in enumerate(self.nodes):
            role_of[picked] = role
        width = self.width or max(2, *self.columns, *(c + 1 for c in self.columns), 2)
        self._fits(last, width, 0)
        params = np.zeros((nodes, width), np.int64)
        params[:, w.PARAM_ROW], params[:, w.PARAM_COL] = np.divmod(np.arange(nodes), self.mesh[1])
        for index, column in self.columns.items():
            if index >= width:
                raise last.error(f"Cannot keep p{index} because .params says {width} with row and col; say more")
            params[:, index] = column
        if self._reader is not None:
            for index, (line, place) in self._reader.params_used.items():
                if index >= width:
                    raise line.error(f"Cannot use p{index} because no .param gives it values; add one", place)
        names = self.names
        init = self.init
        if init is None:
            init = [0] * max((s.index + s.count for s in names.semaphores), default=0)
            for s in names.semaphores:
                init[s.index : s.index + s.count] = [s.init] * s.count
        pools = self.pools
        return {
            "memory_bytes": max((t.address + t.nbytes for t in names.tensors), default=0),
            "sram_bytes": max((b.offset + b.nbytes for b in names.buffers), default=0),
            **self.plain, "rows": self.mesh[0], "cols": self.mesh[1], "threads": threads, "spans": spans,
            "thread_names": tuple(map(tuple, self.thread_names)), "role_of": role_of, "params": params,
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


def _range(line: Line, size: int, what: str) -> tuple[int, int]:
    first = line.take_number(what, 0, size - 1)
    return first, line.take_number(what, first, size - 1) if line.accept("..") else first


def _values(line: Line, most: int, what: str) -> list[int]:
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
