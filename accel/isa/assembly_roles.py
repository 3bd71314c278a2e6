"""Directives about roles: which nodes run what, their threads and their node values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from accel.isa import layout as w
from accel.isa.assembly_maps import Maps, take_values
from accel.isa.assembly_scan import Line
from accel.isa.program import Table
from accel.isa.validate import LARGEST, MOST_THREADS

__all__ = ["Roles"]

MOST_ROLES, MOST_VALUES = 1 << 16, 1 << 26
PARAM = re.compile(r"p\d{1,9}\b|row\b|col\b", re.ASCII)


class Roles:
    """The roles read so far. rows: how many rows of code there are, which whoever reads them counts."""

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.rows = 0
        self.threads: int | None = None
        self.thread_names: list[list[str]] = []
        self.spans: list[list[tuple[int, int]]] = []
        self.flat = False  # in a `.code` block, rows of which threads take parts
        self.opened = -1  # row where the open thread began; -1: none is open
        self.columns: dict[int, Table] = {}
        self.width: int | None = None
        self.nodes: list[Table] = []

    def directives(self) -> dict[str, Callable[[Line], None]]:
        """Return what reads each directive, by its word."""
        return {
            "threads": self._threads, "code": self._code, "role": self._role, "thread": self._thread,
            "params": self._params, "param": self._param,
        }  # fmt: skip

    def current(self) -> int:
        """Return the role that is being written; the first one, of all nodes, begins by itself."""
        if not self.nodes:
            self._begin_role(np.arange(self.maps.nodes, dtype=np.int64))
        return len(self.nodes) - 1

    def open_thread(self, line: Line) -> None:
        """Make sure that a row has a thread to go to; the first one of a role, `main`, begins by itself."""
        if self.flat or self.opened >= 0:
            return
        role = self.current()
        if self.spans[role]:
            raise line.error("Cannot put a row here because no thread is open; write .thread NAME before it")
        self.thread_names[role].append("main")
        self.opened = self.rows

    def close(self) -> None:
        """End the open thread or `.code` block."""
        if self.opened >= 0:
            self.spans[-1].append((self.opened, self.rows))
        self.opened, self.flat = -1, False

    def _threads(self, line: Line) -> None:
        self.threads = line.take_number("threads", 1, MOST_THREADS)

    def _role(self, line: Line) -> None:
        begin = line.skip()
        number = line.take_number("a role", 0, MOST_ROLES)
        if number != len(self.nodes):
            raise line.error(
                f"Cannot begin role {number} here because roles count up; this is {len(self.nodes)}", begin
            )
        line.expect("nodes", "a role names its nodes")
        picked = np.zeros(self.maps.mesh, np.bool_)
        taken = np.zeros(self.maps.nodes, np.bool_)
        for nodes in self.nodes:
            taken[nodes] = True
        if line.match(re.compile(r"all\b")) is not None:
            picked[:] = True
        elif line.match(re.compile(r"none\b")) is None:
            line.expect("(", "nodes are all, none, or rectangles such as (0, 0..3)")
            while True:
                r0, r1 = _range(line, self.maps.mesh[0], "a row of the mesh")
                line.expect(",", "a node is (row, column)")
                c0, c1 = _range(line, self.maps.mesh[1], "a column of the mesh")
                line.expect(")", "a parenthesis is open")
                picked[r0 : r1 + 1, c0 : c1 + 1] = True
                if not line.accept("("):
                    break
        nodes = np.flatnonzero(picked.reshape(-1))
        if taken[nodes].any():
            row_, col_ = divmod(int(nodes[taken[nodes]][0]), self.maps.mesh[1])
            raise line.error(f"Cannot put node ({row_}, {col_}) here because another role has it; leave it out", begin)
        self._begin_role(nodes)

    def _begin_role(self, nodes: Table) -> None:
        self.nodes.append(nodes)
        self.thread_names.append([])
        self.spans.append([])

    def _thread(self, line: Line) -> None:
        begin = line.skip()
        role = self.current()
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
            self.opened = self.rows

    def _code(self, _: Line) -> None:
        self.flat = True

    def _params(self, line: Line) -> None:
        begin = line.skip()
        self.width = line.take_number("node values", 2, MOST_VALUES)
        self._fits(line, self.width, begin)

    def _fits(self, line: Line, width: int, begin: int) -> None:
        if width * self.maps.nodes > MOST_VALUES:
            raise line.error(f"Cannot keep {width} values for every node; use fewer, they count up from p2", begin)

    def _param(self, line: Line) -> None:
        """Read `p2 = 3*row+1` or `p2 = 1 4:0 2` (four zeros), over the nodes of the role, or all before any role."""
        begin = line.skip()
        word = line.take_word(PARAM, "a node value", "p2")
        index = {"row": 0, "col": 1}.get(word)
        index = int(word[1:]) if index is None else index
        self._fits(line, max(index + 1, len(self.columns)), begin)
        line.expect("=", "a node value is p2 = values")
        everyone = np.arange(self.maps.nodes, dtype=np.int64)
        nodes = self.nodes[-1] if self.nodes else everyone
        if index not in self.columns:
            if sum(c.size for c in self.columns.values()) + everyone.size > MOST_VALUES:
                raise line.error("Cannot keep so many node values; use fewer", begin)
            self.columns[index] = np.zeros(everyone.size, np.int64)
        place = line.skip()
        if line.accept("["):
            values = take_values(line, max(1, len(nodes)), "a node value")
            line.expect("]", "a bracket is open")
            if len(values) != len(nodes):
                raise line.error(f"Cannot give {len(values)} values to {len(nodes)} nodes; give one a node", place)
            self.columns[index][nodes] = values
        else:
            constant, terms = self.maps.reader.expression(line)
            if isinstance(terms, int) or terms[1] or any(p > w.PARAM_COL for p, _ in terms[0]):
                raise line.error("Cannot use this as a node value; write a sum of row and col, or [values]", place)
            total = [constant] * len(nodes)
            where = np.divmod(nodes, self.maps.mesh[1])
            for p, coef in terms[0]:
                total = [v + coef * int(x) for v, x in zip(total, where[p], strict=True)]
            if total and max(abs(min(total)), abs(max(total))) > LARGEST:
                raise line.error("Cannot use node values beyond 2^40; use smaller ones", place)
            self.columns[index][nodes] = total

    # --- the end ----------------------------------------------------------------------------------------------------
    def fields(self, last: Line) -> dict[str, Any]:
        """Return the fields of the program that these directives decide; errors of the whole point at `last`."""
        self.close()
        self.current()
        threads = self.threads or max(1, *(len(s) for s in self.spans))
        for role, taken in enumerate(self.spans):
            if len(taken) > threads:
                raise last.error(
                    f"Cannot keep {len(taken)} threads of role {role} because .threads says {threads}; say more"
                )
        spans = np.zeros((len(self.spans), threads, 2), np.int64)
        end = 0
        for role, taken in enumerate(self.spans):
            for thread in range(threads):
                spans[role, thread] = taken[thread] if thread < len(taken) else (end, end)
                end = int(spans[role, thread, 1])
        role_of = np.full(self.maps.nodes, -1, np.int64)
        for role, picked in enumerate(self.nodes):
            role_of[picked] = role
        return {
            "threads": threads, "spans": spans, "thread_names": tuple(map(tuple, self.thread_names)),
            "role_of": role_of, "params": self._table(last),
        }  # fmt: skip

    def _table(self, last: Line) -> Table:
        """Return the node values, (nodes, columns)."""
        width = self.width or max([2, *(index + 1 for index in self.columns)])
        self._fits(last, width, 0)
        params = np.zeros((self.maps.nodes, width), np.int64)
        params[:, w.PARAM_ROW], params[:, w.PARAM_COL] = np.divmod(np.arange(self.maps.nodes), self.maps.mesh[1])
        for index, column in self.columns.items():
            if index >= width:
                raise last.error(f"Cannot keep p{index} because .params says {width} with row and col; say more")
            params[:, index] = column
        for index, (line, place) in self.maps.reader.params_used.items():
            if index >= width:
                raise line.error(f"Cannot use p{index} because no .param gives it values; add one", place)
        return params


def _range(line: Line, size: int, what: str) -> tuple[int, int]:
    first = line.take_number(what, 0, size - 1)
    return first, line.take_number(what, first, size - 1) if line.accept("..") else first
