"""The matrix micro-kernel on pairs of 16-bit integers: blocks of int32 chains modulo 2^32.

The panels are those of `dotkernel`, with the integers of two steps in the halves of a word. Sums modulo 2^32 do not
depend on their order, so any instruction that does not saturate will do: `VPDPWSSD` where the processor has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import host_cpu, intrinsic, ir
from accel.machine.microkernel import COLUMNS, LANES, TARGET, Emitter, chains_at, emit_tile, lefts_at, tile_signature

__all__ = ["tile_integers"]

DOT = TARGET == "avx512" and "avx512vnni" in host_cpu().features


def _halves(words: Any) -> tuple[Any, Any]:
    signed = words.view(np.int32)
    return signed >> 16, (signed << 16) >> 16


def _tile_integers_plain(rows: int, wide: int, a: Any, ia: int, b: Any, ib: int, c: Any, ic: int, t: Any, il: int,
                         it: int, runs: int, step: int, pairs: int, keep: int, below: int) -> None:  # fmt: skip
    columns = COLUMNS if wide else LANES
    at = chains_at(ic, t, it, rows, columns)
    left = a[lefts_at(ia, t, il, rows, runs, step, pairs)]
    right = b[ib + COLUMNS * np.arange(runs * pairs)[:, None] + np.arange(columns)]
    total = c[at].astype(np.int64) if keep else np.zeros((rows, columns), np.int64)
    for x, y in zip(_halves(left), _halves(right), strict=True):
        total = total + x.astype(np.int64) @ y.astype(np.int64)
    c[at] = total.astype(np.uint32)  # modulo 2^32


class _IntegerEmitter(Emitter):
    """Emits blocks of int32 chains over pairs of 16-bit integers."""

    def __init__(self, builder: Any, height: int, vectors: int) -> None:
        super().__init__(builder, height, vectors)
        self.vector = ir.VectorType(ir.IntType(32), LANES)
        self.zero = ir.Constant(self.vector, [0] * LANES)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return c after both steps of the pairs a and b."""
        if DOT:
            name, module = "llvm.x86.avx512.vpdpwssd.512", self.builder.module
            kind = ir.FunctionType(self.vector, [self.vector] * 3)
            return self.builder.call(module.globals.get(name) or ir.Function(module, kind, name), [c, a, b])
        sixteen = ir.Constant(self.vector, [16] * LANES)
        for lower in (False, True):
            x, y = (self.builder.ashr(self.builder.shl(v, sixteen) if lower else v, sixteen) for v in (a, b))
            c = self.builder.add(c, self.builder.mul(x, y))
        return c

    def canonical(self, chain: Any) -> Any:
        """Return the chain: integers have one code each."""
        return chain


@intrinsic(plain=_tile_integers_plain)
def tile_integers(typingctx: Any, rows: Any, wide: Any, a: Any, ia: Any, b: Any, ib: Any, c: Any, ic: Any, t: Any,
                  il: Any, it: Any, runs: Any, step: Any, pairs: Any,
                  keep: Any, below: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Advance a block of int32 chains c by 2 * runs * pairs steps: operands as those of `tile_pairs`, all uint32."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit_tile(context, builder, sig, args, _IntegerEmitter)

    return tile_signature(a, b, c, t), emit
