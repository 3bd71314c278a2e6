"""Decoded program data as plain frozen values: all that the slow model ever sees of a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Address", "Block", "Guard", "Index", "Rectangle", "Shard", "SlowModelError", "SlowProgram", "Step", "Sum",
           "View"]  # fmt: skip


class SlowModelError(Exception):
    """What a legal program never does: a place outside its memory, a wait that nobody ends, formats that do not mix."""


@dataclass(frozen=True)
class Sum:
    """constant + sum of coef * parameter + sum of coef * ((mul * trip + add) mod m), m = 0 meaning no modulus.

    params: (parameter, coef) pairs; loops: (depth, coef, mul, add, m) with depth the nesting level of a loop.
    """

    constant: int
    params: tuple[tuple[int, int], ...] = ()
    loops: tuple[tuple[int, int, int, int, int], ...] = ()

    def value(self, params: Sequence[int], trips: Sequence[int]) -> int:
        """Return the sum for a node with these parameters, inside loops at these trips."""
        total = self.constant + sum(coef * int(params[p]) for p, coef in self.params)
        for depth, coef, mul, add, modulus in self.loops:
            term = mul * trips[depth] + add
            total += coef * (term % modulus if modulus else term)
        return total


@dataclass(frozen=True)
class View:
    """What an operand looks like: four right-aligned dimensions, strides in bytes, format, ring and bias.

    ring_bytes > 0: the element at byte a lies at ring_base + (a - ring_base) mod ring_bytes. scalar: SRAM offset of the
    byte whose low six bits replace `bias`, or None.
    """

    memory: bool
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    ring_base: int = 0
    ring_bytes: int = 0
    bias: int = 0
    ieee: bool = False
    scalar: int | None = None


@dataclass(frozen=True)
class Address:
    """A view operand: the view and the byte where its first element lies."""

    view: View
    at: Sum


@dataclass(frozen=True)
class Index:
    """Place in a logical tensor: the first element, and the step along each of the four dimensions."""

    first: Sum
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Rectangle:
    """Inclusive logical rows and columns; `itself` where the target is the issuing node."""

    row0: Sum
    row1: Sum
    col0: Sum
    col1: Sum
    itself: bool = False


@dataclass(frozen=True)
class Guard:
    """One term of a predicate: the sum stands in a relation ("==", "!=", "<", ">=") to 0."""

    term: Sum
    relation: str


@dataclass(frozen=True)
class Step:
    """One instruction; operands by name: Address, Sum, None (no semaphore), Rectangle, Index or an integer."""

    mnemonic: str
    guards: tuple[Guard, ...]
    operands: dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """An untimed move of a node of `role`: a preload before the start, a collect after the end."""

    role: int
    preload: bool
    dst: Address
    src: Address


@dataclass(frozen=True)
class Block:
    """A tensor of the memory: where it begins and what it is; storage is the NumPy type of its codes."""

    name: str
    storage: str
    shape: tuple[int, ...]
    address: int
    nbytes: int
    is_input: bool
    is_output: bool


@dataclass(frozen=True)
class SlowProgram:
    """A whole program: threads[role] is a tuple of instruction lists, roles[node] is -1 where a node takes no part."""

    rows: int
    cols: int
    roles: tuple[int, ...]
    threads: tuple[tuple[tuple[Step, ...], ...], ...]
    params: tuple[tuple[int, ...], ...]
    semaphores: tuple[int, ...]
    shards: tuple[Shard, ...]
    blocks: tuple[Block, ...]
    marks: tuple[str, ...]
    sram_bytes: int
    memory_bytes: int
