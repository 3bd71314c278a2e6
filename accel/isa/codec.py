"""Encoder and decoder of code rows, both derived from the instruction table."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from accel.errors import ProgramError, nearest
from accel.isa.layout import CODE_WORDS, W_FIRST, W_LINE, W_OPCODE, W_PRED
from accel.isa.schema import WORDS_OF, Kind
from accel.isa.table import BY_MNEMONIC, BY_OPCODE

__all__ = ["Bits", "Instruction", "Value", "bits_of_float", "decode", "encode", "float_of_bits"]

Value: TypeAlias = "int | float | tuple[int, ...]"


class Bits(int):
    """The raw 32 bits of an immediate, given to `encode` where a number would be rounded to fp32."""


class Instruction(NamedTuple):
    """One decoded row.

    A view is (view, address, expr), a sem (index, expr), a value (constant, expr), an index (constant, expr, 4 steps).
    """

    mnemonic: str
    pred: int
    line: int
    operands: dict[str, Value]


def bits_of_float(x: float) -> int:
    """Return the 32 bits of x rounded to fp32, as a non-negative integer."""
    try:
        return int(struct.unpack("<I", struct.pack("<f", x))[0])
    except OverflowError:
        return 0x7F800000 if x > 0 else 0xFF800000


def float_of_bits(bits: int) -> float:
    """Return the fp32 number with these 32 bits."""
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFFFFFF))[0])


def encode(mnemonic: str, *, pred: int = 0, line: int = 0, **operands: Value) -> list[int]:
    """Return the 16 words of one instruction; every operand of its row must be given, and no other.

    Raises ProgramError for an unknown mnemonic, operand or operand shape.
    """
    row = BY_MNEMONIC.get(mnemonic)
    if row is None:
        raise ProgramError(
            f"unknown instruction {mnemonic!r}; the table has no such row{nearest(mnemonic, BY_MNEMONIC)}"
        )
    words = [0] * CODE_WORDS
    words[W_OPCODE], words[W_PRED], words[W_LINE] = row.opcode, pred, line
    at = W_FIRST
    for operand in row.operands:
        if operand.name not in operands:
            raise ProgramError(f"{mnemonic} needs operand {operand.name!r}; give all of {_names(mnemonic)}")
        value = operands.pop(operand.name)
        width = WORDS_OF[operand.kind]
        if operand.kind is Kind.FLOAT:
            if isinstance(value, tuple):
                raise ProgramError(f"{mnemonic} operand {operand.name!r} takes one number, got {value!r}")
            parts: Sequence[float] = (int(value) if isinstance(value, Bits) else bits_of_float(float(value)),)
        else:
            parts = value if isinstance(value, tuple) else (value,)
        if len(parts) != width or not all(isinstance(p, int) for p in parts):
            raise ProgramError(f"{mnemonic} operand {operand.name!r} takes {width} integer word(s), got {value!r}")
        words[at : at + width] = [int(p) for p in parts]
        at += width
    if operands:
        extra = next(iter(operands))
        raise ProgramError(f"{mnemonic} has no operand {extra!r}; it takes {_names(mnemonic)}")
    return words


def decode(row: Sequence[int]) -> Instruction:
    """Return the instruction that 16 words hold; raises ProgramError for an unknown opcode."""
    entry = BY_OPCODE.get(int(row[W_OPCODE]))
    if entry is None:
        raise ProgramError(f"unknown opcode {int(row[W_OPCODE])}; the instruction table has no such row")
    operands: dict[str, Value] = {}
    at = W_FIRST
    for operand in entry.operands:
        width = WORDS_OF[operand.kind]
        if operand.kind is Kind.FLOAT:
            operands[operand.name] = float_of_bits(int(row[at]))
        elif width == 1:
            operands[operand.name] = int(row[at])
        else:
            operands[operand.name] = tuple(int(w) for w in row[at : at + width])
        at += width
    return Instruction(entry.mnemonic, int(row[W_PRED]), int(row[W_LINE]), operands)


def operand_words(mnemonic: str) -> Mapping[str, int]:
    """Return the first word of every operand of an instruction, by name."""
    row = BY_MNEMONIC[mnemonic]
    return {o.name: row.word(o.name) for o in row.operands}


def _names(mnemonic: str) -> str:
    return ", ".join(o.name for o in BY_MNEMONIC[mnemonic].operands) or "no operands"
