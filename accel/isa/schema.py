"""What one row of the instruction table is: operands, engine, cost class, semantics; rows check themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

from accel.errors import InternalError
from accel.isa.layout import CODE_WORDS, W_FIRST

__all__ = ["COSTS", "Direction", "Engine", "Kind", "Operand", "Passes", "Row", "Semantics"]


Semantics: TypeAlias = Callable[[Any, Any, Any], Any]
Passes: TypeAlias = int | str | tuple[int | str, ...]


class Engine(IntEnum):
    """The unit of a node that does the work."""

    CONTROL = 0
    MATRIX = 1
    VECTOR = 2
    DMA = 3


class Kind(IntEnum):
    """What an operand is, and so how many words it takes."""

    VIEW = 0
    SEM = 1
    VALUE = 2
    TARGET = 3
    IMM = 4
    FLOAT = 5  # an immediate that holds the bits of an fp32 number (of an int32 where the row computes in integers)
    INDEX = (
        6  # place in a logical tensor: first element (constant, expression), then a step for each of four dimensions
    )


WORDS_OF = {Kind.VIEW: 3, Kind.SEM: 2, Kind.VALUE: 2, Kind.TARGET: 1, Kind.IMM: 1, Kind.FLOAT: 1, Kind.INDEX: 6}
COSTS = ("issue", "matrix", "vector", "reduce", "gather", "transpose", "dma")


class Direction(IntEnum):
    """What the instruction does to a view or a semaphore; NONE for plain values."""

    NONE = 0
    READ = 1
    WRITE = 2
    UPDATE = 3  # read and written


@dataclass(frozen=True)
class Operand:
    """One operand: name, kind, direction and the memory spaces it may lie in."""

    name: str
    kind: Kind
    direction: Direction = Direction.NONE
    spaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One instruction: everything that encoder, decoder, executor, timing, checker and manual derive from.

    cost: one of COSTS - the rule in `accel.timing` that prices it;
    passes: micro-operations a vector pass costs, or the name of the `VectorSpec` field that says so, or a tuple of both
    kinds, to be added up;
    wide: whether the row works in fp32 lanes whatever the format of its operands;
    semantics: for elementwise rows the scalar function of (x, y, z) in fp32; None where the meaning is the nest
    itself (copy, matmul, control, gather), which `accel.isa.semantics` writes down in its module text;
    integer: the function that takes its place where all values are integers, None where the row takes floats only.
    """

    mnemonic: str
    opcode: int
    engine: Engine
    cost: str
    operands: tuple[Operand, ...]
    meaning: str
    semantics: Semantics | None = None
    passes: Passes = 1
    integer: Semantics | None = None
    wide: bool = False

    def __post_init__(self) -> None:
        last = W_FIRST + sum(WORDS_OF[o.kind] for o in self.operands)
        if last > CODE_WORDS:
            raise InternalError(f"instruction {self.mnemonic} needs {last} words, a row has {CODE_WORDS}")
        if not self.meaning.endswith("."):
            raise InternalError(f"instruction {self.mnemonic}: its meaning must be a sentence")
        if self.cost not in COSTS:
            raise InternalError(f"instruction {self.mnemonic}: no cost rule {self.cost!r}")
        generates = any(o.kind is Kind.INDEX for o in self.operands)
        if self.engine is Engine.VECTOR and self.cost == "vector" and self.semantics is None and not generates:
            raise InternalError(f"instruction {self.mnemonic}: a vector row needs a semantics function")
        for o in self.operands:
            if o.kind is Kind.VIEW and (o.direction is Direction.NONE or not o.spaces):
                raise InternalError(f"instruction {self.mnemonic}: operand {o.name} needs a direction and a space")

    def word(self, name: str) -> int:
        """Return the first word of operand `name` in a code row."""
        at = W_FIRST
        for o in self.operands:
            if o.name == name:
                return at
            at += WORDS_OF[o.kind]
        raise InternalError(f"instruction {self.mnemonic} has no operand {name!r}")

    @property
    def views(self) -> tuple[Operand, ...]:
        """Return the view operands in word order."""
        return tuple(o for o in self.operands if o.kind is Kind.VIEW)
