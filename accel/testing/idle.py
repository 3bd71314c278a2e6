"""Rows of a program whose data reach no output: a mistake in them is none, so no mutant is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from accel.errors import AccelError
from accel.isa import Program as Data
from accel.isa import layout as w
from accel.isa.table import opcode
from accel.numerics.formats import by_code, fmt
from accel.program import Program
from accel.testing.drawing import draw_inputs
from accel.testing.edits import COPY, Editor

__all__ = ["IdleRows"]

FILL = opcode("vec.fill")
BESIDE = "poison"  # name of the tensor that a row under test reads in place of its own
DRAWN = ("float", "float", "int", "ones", "counting", "special")  # an overflow in one of them may hide all else
PAGE = 4096  # tensors begin at multiples of this


class IdleRows:
    """Tells of fills and of copies from memory whether any output depends on what they write.

    A fill is idle if NaN in place of its number (-7 among integers) changes no bit of any output; a copy is if NaN, and
    drawn numbers, in place of what it fetches change none. inputs: those that tell, several sets. Buffers hold more
    than is read: the node at the edge of an image is sent the taps of the filter that land outside, too. Other rows
    count as read.
    """

    def __init__(self, program: Program, editor: Editor, inputs: Iterable[Mapping[str, Any]] = ()) -> None:
        self.program, self.editor = program, editor
        self.known: dict[int, bool] = {}
        self.inputs = [dict(s) for s in inputs] or [draw_inputs(program, i, kind) for i, kind in enumerate(DRAWN)]

    @cached_property
    def outputs(self) -> list[dict[str, Any]] | None:
        """What the program makes of the inputs; None where not any number will do, and everything counts as read."""
        try:
            return [dict(self.program.run(s)) for s in self.inputs] if self.program.outputs else None
        except AccelError:
            return None

    def __contains__(self, row: int) -> bool:
        if row not in self.known:
            self.known[row] = self._is_idle(row)
        return self.known[row]

    def harmless(self, rows: tuple[int, ...], data: Data) -> bool:
        """Return whether an edit of idle rows alone leaves the outputs as they are: it writes nowhere else."""
        return bool(rows) and all(row in self for row in rows) and self._agrees(data)

    def _is_idle(self, row: int) -> bool:
        code = int(self.editor.code[row, w.W_OPCODE])
        if code == FILL:
            return self._fill_is_idle(row)
        if code == COPY and not self.editor.is_sram(row, self.editor.word(row, "src")):
            return self.editor.is_sram(row, self.editor.word(row, "dst")) and self._copy_is_idle(row)
        return False

    def _fill_is_idle(self, row: int) -> bool:
        e = self.editor
        view = e.program.views[e.code[row, e.word(row, "dst")]]
        whole = fmt(by_code(int(view[w.V_DTYPE])).name).kind == "int"
        poison = 0xFFFFFFF9 if whole else 0x7FC00000
        return self._agrees(e.changed((row, e.word(row, "imm"), poison)))

    def _copy_is_idle(self, row: int) -> bool:
        e, p = self.editor, self.editor.program
        word = e.word(row, "src")
        view = p.views[e.code[row, word]].copy()
        own = p.tensors[int(view[w.V_OBJECT])]
        address = -(-p.memory_bytes // PAGE) * PAGE
        beside = dataclasses.replace(own, name=BESIDE, address=address, is_input=True, is_output=False)
        view[w.V_OBJECT] = len(p.tensors)
        code = e.code.copy()
        code[row, word : word + 2] = len(p.views), code[row, word + 1] + address - own.address
        data = e.with_code(
            code, views=np.vstack([p.views, view]), tensors=(*p.tensors, beside), memory_bytes=address + own.nbytes
        )
        drawn = draw_inputs(Program(data, self.program.chip), 7, "float")[BESIDE]
        whole = fmt(own.dtype).kind == "int"
        nothing = np.full(own.shape, 249 if own.dtype == "uint8" else -7 if whole else np.nan)
        return self._agrees(data, {BESIDE: nothing}, {BESIDE: drawn})

    def _agrees(self, data: Data, *more: dict[str, Any]) -> bool:
        """Return whether a program gives the bits of the one under test, with each of `more` beside all inputs."""
        if self.outputs is None:
            return False
        other = Program(data, self.program.chip)
        for mine, inputs in zip(self.outputs, self.inputs, strict=True):
            for added in more or ({},):
                try:
                    theirs = other.run({**inputs, **added})
                except AccelError:
                    return False
                if any(mine[name].tobytes() != theirs[name].tobytes() for name in mine):
                    return False
        return True
