"""The matrix micro-kernel on pairs of bf16 codes, for processors that have a dot product of such pairs.

`VDPBF16PS` takes, per fp32 lane, a chain and two pairs of bf16 codes. Processors it is used on (`fast` tries them) run
it as two fused multiply-adds, the upper halves first, with subnormal operands and results taken for zero. So a panel
holds step k in the upper and step k + 1 in the lower half of a word, and the chain is the contract's as long as nothing
is subnormal: `guard` proves that for a block from the ranges of its operands, docs/decisions/0011 gives the proof.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS, "Operation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import host_cpu, intrinsic, ir
from accel.machine.microkernel import (
    BLOCK_DEPTH,
    COLUMNS,
    LANES,
    TARGET,
    Emitter,
    chains_at,
    emit_tile,
    lefts_at,
    tile_signature,
)

__all__ = ["DOT", "PAIR_PITCH", "tile_pairs"]

DOT = TARGET == "avx512" and "avx512bf16" in host_cpu().features
PAIR_PITCH = BLOCK_DEPTH // 2 + 16  # words of a row of the left panel; no power of two, as ROW_PITCH
SMALLEST_NORMAL = np.float32(2.0**-126)


def _flushed(numbers: Any) -> Any:
    return np.where(np.abs(numbers) < SMALLEST_NORMAL, np.copysign(np.float32(0), numbers), numbers)


def _tile_pairs_plain(rows: int, wide: int, a: Any, ia: int, b: Any, ib: int, c: Any, ic: int, t: Any, il: int,
                      it: int, runs: int, step: int, pairs: int, keep: int, below: int) -> None:  # fmt: skip
    """The instruction as it is on the processors it is used on, its flushes included: what the guard must exclude."""
    columns = COLUMNS if wide else LANES
    at = chains_at(ic, t, it, rows, columns)
    chains = c[at] if keep else np.zeros((rows, columns), np.float32)
    upper = np.uint32(0xFFFF0000)
    lefts = np.asarray(a[lefts_at(ia, t, il, rows, runs, step, pairs)])
    for k, left in enumerate(lefts.T[:, :, None]):
        right = b[ib + COLUMNS * k : ib + COLUMNS * k + columns]
        for x, y in ((left & upper, right & upper), (left << np.uint32(16), right << np.uint32(16))):
            product = _flushed(x.view(np.float32)).astype(np.float64) * _flushed(y.view(np.float32))
            chains = _flushed((_flushed(chains).astype(np.float64) + product).astype(np.float32))
    c[at] = chains


class _PairEmitter(Emitter):
    """Emits blocks whose panels hold words of two bf16 codes; a step is one dot product of pairs."""

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return c after both steps of the pairs a and b."""
        words = ir.VectorType(ir.IntType(32), LANES)
        if DOT:
            name = "llvm.x86.avx512bf16.dpbf16ps.512"
            kind = ir.FunctionType(self.vector, [self.vector, words, words])
            module = self.builder.module
            return self.builder.call(module.globals.get(name) or ir.Function(module, kind, name), [c, a, b])
        # `run_matmul` never comes here on such a processor; what it compiles must be right all the same.
        for shift in (False, True):
            c = super().multiply_add(self.half(a, shift), self.half(b, shift), c)
        return c

    def half(self, pair: Any, lower: bool) -> Any:
        """Return one half of a vector of pairs as fp32 numbers."""
        words = ir.VectorType(ir.IntType(32), LANES)
        change = self.builder.shl if lower else self.builder.and_
        constant = 16 if lower else 0xFFFF0000
        return self.builder.bitcast(change(pair, ir.Constant(words, [constant] * LANES)), self.vector)

    def canonical(self, chain: Any) -> Any:
        """Return the chain: the guard lets no NaN in and none arise."""
        return chain


@intrinsic(plain=_tile_pairs_plain)
def tile_pairs(typingctx: Any, rows: Any, wide: Any, a: Any, ia: Any, b: Any, ib: Any, c: Any, ic: Any, t: Any,
               il: Any, it: Any, runs: Any, step: Any, pairs: Any,
               keep: Any, below: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Advance a block of chains by 2 * runs * pairs steps: as `tile`, with a step that is a pair and uint32 a and b.

    A word holds the code of the first step of a pair in its upper half. Only where DOT holds, and only for blocks that
    `guard.fits`.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit_tile(context, builder, sig, args, _PairEmitter)

    return tile_signature(a, b, c, t), emit
