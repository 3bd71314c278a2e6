"""Terms: what a program computes, without numbers; programs with the same terms have the same bits for all data."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from accel.errors import ProgramError
from accel.isa.program import Program
from accel.isa.schema import Direction
from accel.isa.table import BY_MNEMONIC
from accel.testing.slow_data import Address, Index, SlowModelError, Step, Sum
from accel.testing.slow_formats import item_bytes
from accel.testing.slow_model import SlowModel, Thread
from accel.testing.slow_node import element_places
from accel.testing.slow_run import decoded

__all__ = ["Terms"]

BYTES = 32  # a term is a number above so many bits, and the place of a byte in it below


class Terms:
    """Numbers for terms, the same for the same: those of one instance can be compared."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def of(self, program: Program) -> bytes:
        """Return the terms of all outputs and probes of a program in one of its orders.

        The term of a byte is the instruction that made it, with its numbers, shapes and formats, and the terms of all
        bytes that it read; copies and places leave no trace. A program without hazards orders every two accesses to one
        byte of which one is a write, so it has the same terms in all orders. ProgramError where it cannot run.
        """
        program.require_sound()
        model = _Model(program, self)
        try:
            return model.terms()
        except SlowModelError as error:
            raise ProgramError(f"Cannot follow {program.name!r}: {error}; correct the program") from None

    def number(self, *facts: Any) -> int:
        """Return the number of a term, shifted to where the place of a byte is added."""
        digest = hashlib.blake2b(digest_size=32)
        for fact in facts:
            part = np.ascontiguousarray(fact).tobytes() if isinstance(fact, np.ndarray) else repr(fact).encode()
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return self._known.setdefault(digest.digest(), len(self._known) + 1) << BYTES


class _Model(SlowModel):
    """The slow model with a term in place of every byte."""

    def __init__(self, program: Program, known: Terms) -> None:
        super().__init__(decoded(program))
        self.known = known
        self.memory, self.sram = self.memory.astype(np.int64), self.sram.astype(np.int64)
        self.seen: list[bytes] = []

    def terms(self) -> bytes:
        """Run and return the terms of outputs and probes."""
        for block in self.program.blocks:
            if block.is_input:
                place = slice(block.address, block.address + block.nbytes)
                self.memory[place] = self.known.number("input", block.name) + np.arange(block.nbytes)
        self.finish()
        outputs = [self.memory[b.address : b.address + b.nbytes].tobytes() for b in self.program.blocks if b.is_output]
        return b"".join([*outputs, *sorted(self.seen)])

    def compute(self, thread: Thread, step: Step) -> None:
        """Make new terms of those that an instruction reads."""
        sram, directions = self.sram[thread.node], {o.name: o.direction for o in BY_MNEMONIC[step.mnemonic].views}
        facts: list[Any] = [step.mnemonic]
        for name, operand in step.operands.items():
            if isinstance(operand, Address):
                view, direction = operand.view, directions[name]
                facts += [name, view.dtype, view.shape, view.bias, view.ieee]
                if view.scalar is not None:
                    facts.append(sram[view.scalar : view.scalar + 1])
                update = direction is Direction.UPDATE and step.operands.get("accumulate", 1)
                if direction is Direction.READ or update:
                    facts.append(self.load(sram, view, self.at(thread, operand)))
            elif isinstance(operand, Index):
                facts += [name, operand.first.value(self.params(thread), thread.trips), operand.steps]
            elif isinstance(operand, Sum):
                facts += [name, operand.value(self.params(thread), thread.trips)]
            else:
                facts += [name, operand]
        if step.mnemonic == "probe":
            self.seen.append(repr((thread.node, self.known.number(*facts))).encode())
        for name, direction in directions.items():
            if direction in (Direction.WRITE, Direction.UPDATE):
                view = step.operands[name].view
                size = int(np.prod(view.shape)) * item_bytes(view.dtype)
                made = self.known.number(*facts, "gives", name) + np.arange(size)
                self.store(sram, view, self.at(thread, step.operands[name]), made)

    @staticmethod
    def load(space: Any, view: Any, address: int) -> Any:
        """Return the terms of the bytes of a view."""
        return space[element_places(view, address, len(space))[..., None] + np.arange(item_bytes(view.dtype))]

    @staticmethod
    def store(space: Any, view: Any, address: int, codes: Any) -> None:
        """Put terms in the bytes of a view, in the order of its elements."""
        places = element_places(view, address, len(space))[..., None] + np.arange(item_bytes(view.dtype))
        space[places] = codes.reshape(places.shape)
