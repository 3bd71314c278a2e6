"""Whether this host's bf16 dot product is used: the processor has it, it passes a test here, nobody switched it off.

The test runs the matmul unit itself, with and without the dot product, on operands that the guard lets through: random
ones, and directed ones for each property that docs/decisions/0011 relies on. One differing bit and the host does
without. A processor that rounds pairs differently, or takes the lower half first, so stays exact and just slower.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numpy as np

from accel.errors import InputError
from accel.isa.layout import CODE_WORDS, V_DTYPE, V_SHAPE, V_STRIDE
from accel.machine.dotkernel import DOT
from accel.machine.guard import GREATEST_CHAIN, GREATEST_SUM, LEAST_CHAIN, LEAST_SUM
from accel.machine.matmul import A_WORD, ACCUMULATE, B_WORD, DST, DST_WORD, A, B, run_matmul
from accel.machine.moves import nest_space
from accel.machine.panels import FAST_BLOCKS
from accel.machine.units import unit_space
from accel.machine.words import CONFIG_WORDS, VX_WORDS, X_ITEM
from accel.numerics.formats import fmt

__all__ = ["FastPath", "Trial", "fast_path", "trials", "try_matmul"]

SWITCH = "ACCEL_FAST"


class FastPath(NamedTuple):
    """available: the processor has the instruction; passed: the test's outcome, None if not run; on: it is used."""

    available: bool
    passed: bool | None
    on: bool
    blocks: int  # of the test that the guard let through
    reason: str


class Trial(NamedTuple):
    """One matmul of the test: bf16 codes a (m, k) and b (k, n), and the fp32 numbers in dst, None to start from +0."""

    name: str
    a: Any
    b: Any
    c: Any


@functools.cache
def fast_path() -> FastPath:
    """Return whether and why matmul uses the dot product in this process; tests it on the first call.

    Raises InputError if ACCEL_FAST is neither empty nor 0 nor 1.
    """
    wanted = os.environ.get(SWITCH, "")
    if wanted not in ("", "0", "1"):
        raise InputError(f"Cannot use {SWITCH}={wanted!r}: it is a switch; use 0 for off, 1 or nothing for on")
    if not DOT:
        return FastPath(False, None, False, 0, "this processor, or ACCEL_TARGET, has no bf16 dot product")
    if wanted == "0":
        return FastPath(True, None, False, 0, f"{SWITCH}=0 switches it off")
    if not hasattr(run_matmul, "overloads"):
        return FastPath(True, None, False, 0, "compilation is switched off")
    blocks = 0
    for trial in trials():
        exact, _ = try_matmul(trial, fast=False)
        got, proven = try_matmul(trial, fast=True)
        blocks += proven
        if not np.array_equal(exact, got):
            return FastPath(True, False, False, blocks, f"its bits differ from the contract's: {trial.name}")
    return FastPath(True, True, True, blocks, "its bits are the contract's wherever the guard lets it run")


def try_matmul(trial: Trial, *, fast: bool, engine: Any = run_matmul) -> tuple[Any, int]:
    """Return the bits of dst after one matmul, and how many blocks of it went through the dot product."""
    a, b = (np.ascontiguousarray(x, np.uint16) for x in (trial.a, trial.b))
    (m, k), n = a.shape, b.shape[1]
    places = np.cumsum([0, 4 * m * n, 2 * m * k + 62 & -64]) + 63 & -64
    arena = np.zeros(int(places[2]) + 2 * k * n + 64, np.uint8)
    u16 = arena[: len(arena) // 4 * 4].view(np.uint16)
    for place, codes in zip(places[1:], (a, b), strict=True):
        u16[place // 2 : place // 2 + codes.size] = codes.ravel()
    u32 = u16.view(np.uint32)
    if trial.c is not None:
        u32[: m * n] = np.ascontiguousarray(trial.c, np.float32).view(np.uint32).ravel()
    views = np.zeros((3, VX_WORDS), np.int64)
    for i, (rows, columns, dtype) in enumerate(((m, n, "fp32"), (m, k, "bf16"), (k, n, "bf16"))):
        item = fmt(dtype).bytes
        views[i, [V_DTYPE, X_ITEM]] = fmt(dtype).code, item
        views[i, V_SHAPE : V_SHAPE + 4] = 1, rows, 1, columns
        views[i, V_STRIDE : V_STRIDE + 4] = 0, columns * item, 0, item
    code, value = np.zeros((1, CODE_WORDS), np.int64), np.zeros(8, np.int64)
    code[0, [DST_WORD, A_WORD, B_WORD]] = 0, 1, 2
    code.flags.writeable = False
    value[[DST, A, B, ACCUMULATE]] = *places, trial.c is not None
    work, work32 = unit_space(fast)
    spare = np.zeros(CONFIG_WORDS, np.int64)  # units, config, error: not used by a matmul
    engine(code, 0, value, views, 0, arena, u16, u32, u32.view(np.float32), work, work32, nest_space(), spare, spare,
           spare)  # fmt: skip
    return u32[: m * n].reshape(m, n).copy(), int(work32[FAST_BLOCKS])


def _codes(rng: Any, shape: tuple[int, int], exponents: tuple[int, int], zeros: float) -> Any:
    """Return random bf16 codes of either sign with biased exponents from a closed range, and a share of zeros."""
    exponent = rng.integers(exponents[0], exponents[1] + 1, shape)
    codes = (rng.integers(0, 2, shape) << 15) | (exponent << 7) | rng.integers(0, 128, shape)
    codes[rng.random(shape) < zeros] &= 0x8000
    return codes.astype(np.uint16)


def _bf16(numbers: list[list[float]]) -> Any:
    return (np.array(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def trials() -> tuple[Trial, ...]:
    """Return the matmuls of the test, the same in every process; all of them pass the guard."""
    made = [
        Trial("a tie rounds to even, one by one", _bf16([[1, 1]]), _bf16([[2**-24, 1.5, 0], [2**-24, 2**-24, 2**-24]]),
              [[1, 1 + 2**-23, 1 - 2**-24]]),
        Trial("the upper half comes first", _bf16([[2**24, 1], [1, 2**24]]), _bf16([[1, -1], [1, -1]]),
              [[1, 3], [1, -3]]),
        Trial("a product is not rounded", _bf16([[1 + 2**-7, 1 + 2**-6]] * 2), _bf16([[1 + 2**-7, 2**-30], [-1, 1]]),
              [[0, 2**-24], [-1, 1]]),
        Trial("equal numbers cancel to +0", _bf16([[1.5, -1.5], [-1.5, 1.5]]), _bf16([[2, -2], [2, -2]]),
              [[0, -0.0], [0, -0.0]]),
        Trial("a chain of -0 stays", _bf16([[-0.0, 0, 1]] * 2), _bf16([[1, -1], [-1, 1], [-0.0, 0]]),
              [[-0.0, 0], [0, -0.0]]),
        Trial("a step that does not exist leaves -0", _bf16([[-0.0]]), _bf16([[1.0]]), [[-0.0]]),
        # (1 + 2^-7)^2 - (1 + 2^-6) = 2^-14, times 2^-112 the least normal number.
        Trial("the least sum is normal", _bf16([[2**-56 * (1 + 2**-7), 2**-56 * (1 + 2**-6)]]),
              _bf16([[2**-56 * (1 + 2**-7)], [-(2**-56)]]), None),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    low, high = LEAST_SUM, GREATEST_SUM
    windows = {
        "ordinary numbers": ((115, 131), (115, 131), (100, 140), 0.0),
        "wide numbers": ((100, 160), (95, 160), (90, 170), 0.1),
        "near the least": ((60, 75), (low - 60, low - 45), (LEAST_CHAIN, LEAST_CHAIN + 12), 0.2),
        "least chains": ((1, 8), (low - 1, low + 8), (LEAST_CHAIN, LEAST_CHAIN + 2), 0.0),
        "near the greatest": ((170, 190), (high - 210, high - 190), (230, GREATEST_CHAIN), 0.05),
        "equal exponents": ((127, 127), (127, 127), (127, 127), 0.3),
    }
    for name, (a, b, c, zeros) in windows.items():
        for m, n, k in ((14, 32, 64), (15, 50, 33)):
            chain = rng.integers(c[0] << 23, (c[1] + 1) << 23, (m, n)).astype(np.uint32)
            chain |= rng.integers(0, 2, (m, n)).astype(np.uint32) << np.uint32(31)
            left, right = _codes(rng, (m, k), a, zeros), _codes(rng, (k, n), b, zeros)
            made += [Trial(name, left, right, None), Trial(name, left, right, chain.view(np.float32))]
    return tuple(made)
