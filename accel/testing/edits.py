"""Edits of a program's packed rows, one at a time: what mutants are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from accel.errors import Location
from accel.isa import layout as w
from accel.isa.program import Program
from accel.isa.schema import Direction, Engine, Kind, Operand, Row
from accel.isa.table import BY_OPCODE, opcode
from accel.numerics.formats import by_code

__all__ = ["BARRIER", "COPY", "INC", "LOOP", "MATMUL", "PULL", "WAIT", "Editor"]

WAIT, INC, BARRIER, LOOP, END, MARK, COPY, PULL, MATMUL = map(
    opcode, ("wait", "inc", "barrier", "loop", "end", "mark", "copy", "pull", "matmul")
)


class Editor:
    """A program whose rows are read by name and whose edited copies share everything else."""

    def __init__(self, program: Program) -> None:
        self.program, self.code = program, program.code
        program.require_sound()

    # --- reading -----------------------------------------------------------------------------------------------------
    def rows(self, *opcodes: int) -> list[int]:
        """Return the rows with one of these opcodes."""
        return [int(r) for r in np.flatnonzero(np.isin(self.code[:, w.W_OPCODE], opcodes))]

    def entry(self, row: int) -> Row:
        """Return the row of the instruction table."""
        return BY_OPCODE[int(self.code[row, w.W_OPCODE])]

    def word(self, row: int, name: str) -> int:
        """Return the first word of an operand."""
        return self.entry(row).word(name)

    def dtype(self, row: int, name: str) -> str:
        """Return the format of a view operand."""
        return by_code(int(self.program.views[self.code[row, self.word(row, name)], w.V_DTYPE])).name

    def line(self, row: int) -> Location | None:
        """Return the author's line of a row."""
        number = int(self.code[row, w.W_LINE])
        return self.program.lines[number] if 0 <= number < len(self.program.lines) else None

    def lines(self, rows: Sequence[int]) -> tuple[Location, ...]:
        """Return the lines of rows, each once."""
        return tuple(dict.fromkeys(at for at in map(self.line, rows) if at is not None))

    def views(self, row: int) -> Iterator[tuple[Operand, int]]:
        """Yield (operand, its first word) of every view of a row."""
        for operand in self.entry(row).views:
            yield operand, self.word(row, operand.name)

    def semaphores(self, row: int) -> Iterator[tuple[Operand, int]]:
        """Yield (operand, its first word) of every semaphore that a row uses."""
        for operand in self.entry(row).operands:
            if operand.kind is Kind.SEM and self.code[row, self.word(row, operand.name)] >= 0:
                yield operand, self.word(row, operand.name)

    def group(self, sem: int) -> tuple[str, int, int]:
        """Return (name, first index, count) of the semaphores that one was declared with."""
        for s in self.program.semaphores:
            if s.index <= sem < s.index + s.count:
                return s.name, s.index, s.count
        return f"semaphore {sem}", sem, 1

    def same_group(self, sem: int) -> range:
        """Return the semaphores that one was declared with."""
        _, first, count = self.group(sem)
        return range(first, first + count)

    def sem_name(self, sem: int) -> str:
        """Return the name of a semaphore as its author writes it."""
        name, first, count = self.group(sem)
        return f"{name}[{sem - first}]" if count > 1 else name

    def works(self, row: int) -> bool:
        """Return whether a row computes: matrix or vector unit."""
        return self.entry(row).engine in (Engine.MATRIX, Engine.VECTOR)

    def is_sram(self, row: int, word: int) -> bool:
        """Return whether a view operand lies in SRAM."""
        return int(self.program.views[self.code[row, word], w.V_SPACE]) == w.SPACE_SRAM

    def buffers(self, row: int) -> set[int]:
        """Return the SRAM buffers that a row reads or writes here."""
        return {
            int(self.program.views[self.code[row, word], w.V_OBJECT])
            for _, word in self.views(row)
            if self.is_sram(row, word)
        }

    def place(self, row: int, word: int) -> str:
        """Return the name of the buffer or tensor that a view lies in."""
        view = self.program.views[self.code[row, word]]
        held: Sequence[Any] = self.program.buffers if view[w.V_SPACE] == w.SPACE_SRAM else self.program.tensors
        return str(held[int(view[w.V_OBJECT])].name)

    @cached_property
    def segments(self) -> list[range]:
        """Return stretches of rows of one thread with no loop edge in them: rows may trade places inside one."""
        found = []
        for first, last in self.program.spans.reshape(-1, 2).tolist():
            begin = first
            for row in range(first, last + 1):
                if row == last or int(self.code[row, w.W_OPCODE]) in (LOOP, END):
                    if row > begin:
                        found.append(range(begin, row))
                    begin = row + 1
        return found

    def segment_of(self, row: int) -> range:
        """Return the stretch that a row lies in."""
        return next(s for s in self.segments if row in s)

    @cached_property
    def _needed(self) -> Any:
        from accel.machine import needed

        whole = {t.name: [tuple((0, n) for n in t.shape)] for t in self.program.tensors if t.is_output}
        if not whole:  # a program for its order alone: nothing is known, so everything counts
            return np.ones((self.program.nodes, len(self.program.buffers)), np.uint8)
        return needed(self.program, whole).buffers

    def live(self, row: int) -> bool:
        """Return whether an output may depend on what a row writes: on some node that runs it."""
        role = self.role_of(row)
        nodes = self.program.role_of == role
        for operand, word in self.views(row):
            if operand.direction is not Direction.READ and self.is_sram(row, word):
                held = int(self.program.views[self.code[row, word], w.V_OBJECT])
                if not self._needed[nodes, held].any():
                    return False
        return True

    def role_of(self, row: int) -> int:
        """Return the role that a row belongs to."""
        spans = self.program.spans
        return next(r for r in range(self.program.roles) if any(a <= row < b for a, b in spans[r].tolist()))

    def by_line(self, rows: Iterable[int], operand: str = "") -> list[tuple[int, ...]]:
        """Return rows in groups of one author's line and one mnemonic (and one value of `operand`), in order."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            value = int(self.code[row, self.word(row, operand)]) if operand else 0
            groups.setdefault((int(self.code[row, w.W_LINE]), int(self.code[row, w.W_OPCODE]), value), []).append(row)
        return [tuple(members) for members in groups.values()]

    # --- edited copies -----------------------------------------------------------------------------------------------
    def with_code(self, code: Any, **tables: Any) -> Program:
        """Return the program with other rows (and other tables)."""
        return dataclasses.replace(self.program, code=code, **tables)

    def without(self, *rows: int) -> Program:
        """Return the program with rows made marks: no effect, same lines."""
        code = self.code.copy()
        for row in rows:
            self.blank(code, row)
        return self.with_code(code)

    @staticmethod
    def blank(code: Any, row: int) -> None:
        """Make a row a mark."""
        code[row, [w.W_OPCODE, *range(w.W_FIRST, w.CODE_WORDS)]] = [MARK] + [0] * (w.CODE_WORDS - w.W_FIRST)

    def changed(self, *changes: tuple[int, int, int], **tables: Any) -> Program:
        """Return the program with single words changed: (row, word, value)."""
        code = self.code.copy()
        for row, word, value in changes:
            code[row, word] = value
        return self.with_code(code, **tables)

    def moved(self, row: int, to: int) -> Program:
        """Return the program with a row at another place of its stretch; what lies between moves by one."""
        order = list(range(len(self.code)))
        order.insert(to, order.pop(row))
        return self.with_code(self.code[order])

    def reshaped(self, row: int, cuts: Sequence[tuple[int, int]]) -> Program:
        """Return the program with one dimension of views of a row shorter by one: (first word, dimension)."""
        views, code = self.program.views.copy(), self.code.copy()
        for word, dim in cuts:
            view = self.program.views[self.code[row, word]].copy()
            view[w.V_SHAPE + dim] -= 1
            code[row, word] = len(views)
            views = np.vstack([views, view])
        return self.with_code(code, views=views)

    def fits(self, row: int, word: int, shift: int) -> bool:
        """Return whether a view moved by `shift` bytes stays in its object, as far as its constant part tells."""
        view = self.program.extended_views[self.code[row, word]]
        if view[w.V_RING_BYTES]:
            return True
        low, high = (int(self.code[row, word + 1] + shift + view[x]) for x in (w.X_LOW, w.X_HIGH))
        if int(self.code[row, word + 2]):
            return high - low < int(view[w.X_END] - view[w.X_BEGIN])
        return int(view[w.X_BEGIN]) <= low and high <= int(view[w.X_END])

    def next_slot(self, row: int, word: int) -> tuple[list[tuple[int, int, int]], dict[str, Any]] | None:
        """Return the changes that make a semaphore operand the next of its group; None for a group of one."""
        sem, expr = int(self.code[row, word]), int(self.code[row, word + 1])
        _, first, count = self.group(sem)
        if count < 2:
            return None
        if not expr:
            return [(row, word, first + (sem - first + 1) % count)], {}
        terms = self.program.exprs[expr]
        if terms[w.E_NPARAMS] or terms[w.E_NLOOPS] != 1 or terms[w.E_LOOPS + w.L_MOD] != count:
            return None
        other = terms.copy()
        other[w.E_LOOPS + w.L_ADD] = (other[w.E_LOOPS + w.L_ADD] + 1) % count
        return [(row, word + 1, len(self.program.exprs))], {"exprs": np.vstack([self.program.exprs, other])}

    def fixed_targets(self) -> list[int]:
        """Return the targets that do not move with a loop."""
        return [
            t for t in range(len(self.program.targets))
            if all(not self.program.exprs[int(self.program.targets[t, edge + 1]), w.E_NLOOPS]
                   for edge in (w.T_ROW0, w.T_ROW1, w.T_COL0, w.T_COL1))
        ]  # fmt: skip

    def same_nodes(self, row: int, one: int, other: int) -> bool:
        """Return whether two targets are the same nodes for every node that runs a row; False where loops move one."""
        if one == other:
            return True
        if not {one, other} <= set(self.fixed_targets()) | {w.TARGET_SELF, w.TARGET_ALL}:
            return False
        role = next(
            r for r in range(self.program.roles) if any(a <= row < b for a, b in self.program.spans[r].tolist())
        )
        nodes = np.flatnonzero(self.program.role_of == role).tolist()
        return all(self._rectangle(one, node) == self._rectangle(other, node) for node in nodes)

    def _rectangle(self, target: int, node: int) -> tuple[int, ...]:
        p = self.program
        if target == w.TARGET_ALL:
            return 0, p.rows - 1, 0, p.cols - 1
        row, col = p.node(node)
        if target == w.TARGET_SELF:
            return row, row, col, col
        edges = []
        for edge in (w.T_ROW0, w.T_ROW1, w.T_COL0, w.T_COL1):
            constant, expr = (int(v) for v in p.targets[target, edge : edge + 2])
            words = p.exprs[expr].tolist()
            for j in range(words[w.E_NPARAMS]):
                at = w.E_PARAMS + 2 * j
                constant += int(p.params[node, words[at]]) * words[at + 1]
            edges.append(constant)
        return tuple(edges)
