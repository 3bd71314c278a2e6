"""What the tests of the kernel language share: tracing without building, rows as names, small integers."""

from __future__ import annotations

from typing import Any

import numpy as np

import accel
from accel.hardware import ChipSpec
from accel.isa.codec import decode
from accel.isa.program import Program
from accel.lang import Kernel

MINI = accel.chip("mini")  # 4 x 4 nodes


def trace(fn: Any, chip: ChipSpec = MINI, mesh: tuple[int, int] | None = None, **arguments: Any) -> Program:
    tensors = {n: v for n, v in arguments.items() if isinstance(v, accel.lang.TensorSpec)}
    return Kernel(fn).trace(chip, tensors, {n: v for n, v in arguments.items() if n not in tensors}, mesh=mesh)


def names(program: Program) -> list[str]:
    return [decode(row.tolist()).mnemonic for row in program.code]


def rows_equal(p: Program, q: Program) -> bool:
    tables = ("code", "spans", "role_of", "params", "views", "exprs", "preds", "targets", "shards", "semaphore_init")
    return all(np.array_equal(getattr(p, t), getattr(q, t)) for t in tables) and p.lines == q.lines


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small integers: every sum below 2^8 is exact in bf16, so any order gives the same bits."""
    return rng.integers(-1, 2, shape).astype(np.float32)
