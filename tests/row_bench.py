"""One instruction on a node's SRAM as raw bytes: every layout of its operands, every byte compared afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from format_oracle import BYTES
from programs import Asm

from accel.isa import layout as w
from accel.machine import execute

SRAM = 1 << 16


@dataclass(frozen=True)
class Operand:
    """A view of the SRAM: element at address + sum(i * stride), in a ring modulo its bytes."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int
    ring: tuple[int, int] = (0, 0)
    bias: int = 0
    ieee: bool = False
    scalar: int = 0

    @property
    def places(self) -> np.ndarray:
        """Byte of every element."""
        at = np.full(self.shape, self.address)
        for d, (n, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            at = at + (np.arange(n) * stride).reshape((-1,) + (1,) * (len(self.shape) - 1 - d))
        base, size = self.ring
        return base + (at - base) % size if size else at

    def read(self, memory: np.ndarray) -> np.ndarray:
        """Codes of every element, as int64."""
        places = self.places
        return sum(memory[places + b].astype(np.int64) << 8 * b for b in range(BYTES[self.dtype]))

    def write(self, memory: np.ndarray, codes: Any) -> None:
        """Store codes in row-major order."""
        codes = np.broadcast_to(np.asarray(codes, np.int64), self.shape)
        for place, code in zip(self.places.ravel(), codes.ravel(), strict=True):
            for b in range(BYTES[self.dtype]):
                memory[place + b] = int(code) >> 8 * b & 0xFF

    def biased(self, memory: np.ndarray) -> dict[str, Any]:
        """Bias and denormal rule in force."""
        return {"bias": int(memory[self.scalar - 1]) & 63 if self.scalar else self.bias, "ieee": self.ieee}


def dense(dtype: str, shape: tuple[int, ...], address: int, **more: Any) -> Operand:
    """A row-major operand."""
    item = BYTES[dtype]
    strides = tuple(item * int(np.prod(shape[d + 1 :])) for d in range(len(shape)))
    return Operand(dtype, shape, strides, address, **more)


def scattered(rng: np.random.Generator, operand: Operand, first: int, room: int, broadcast: bool) -> Operand:
    """A random layout of the same shape in bytes first .. first + room: gaps, reversed, permuted, repeated, a ring."""
    item, shape = BYTES[operand.dtype], operand.shape
    order, strides, step = rng.permutation(len(shape)), [0] * len(shape), item * int(rng.integers(1, 3))
    for d in order:
        if broadcast and rng.random() < 0.3:
            continue
        strides[d] = step * (1 if rng.random() < 0.7 else -1)
        step *= shape[d] + int(rng.integers(0, 2))
    reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + item
    assert high - low <= room
    if rng.random() < 0.5:
        slack = room - (high - low)
        return replace(
            operand, strides=tuple(strides), address=first - low + int(rng.integers(0, slack // item + 1)) * item
        )
    size = (high - low) + int(rng.integers(0, (room - (high - low)) // item + 1)) * item
    address = first + item * int(rng.integers(-3 * size // item, 3 * size // item))
    return replace(operand, strides=tuple(strides), address=address, ring=(first, size))


def program(mnemonic: str, operands: dict[str, Operand], **others: Any) -> Any:
    """Return the program that loads all of SRAM, runs one instruction, and stores all of SRAM."""
    p = Asm()
    x, y, m = p.tensor("x", (SRAM,), "uint8"), p.tensor("y", (SRAM,), "uint8", "out"), p.sram("m", (SRAM,), "uint8")
    here, put = p.sem("here"), p.sem("put")
    views = {
        name: p.view(m, o.shape, o.strides, o.address, dtype=o.dtype, ring=o.ring, scalar=o.scalar,
                     bias=o.bias + w.BIAS_IEEE * o.ieee)
        for name, o in operands.items()
    }  # fmt: skip
    with p.thread("all"):
        p.copy(p.at(m), p.at(x), done=here)
        p.wait(here)
        p.emit(mnemonic, **views, **others)
        p.copy(p.at(y), p.at(m), sent=put)
        p.wait(put)
    return p.program()


def run(mnemonic: str, memory: np.ndarray, operands: dict[str, Operand], *, engine: str = "jit", seed: int = 0,
        schedule: Any = "natural", **others: Any) -> np.ndarray:  # fmt: skip
    """Return all of SRAM after one instruction."""
    made = program(mnemonic, operands, **others)
    return execute(made, {"x": memory}, engine=engine, random_seed=seed, schedule=schedule)["y"]
