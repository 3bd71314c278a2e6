"""The matrix micro-kernel: a block of fp32 chains held in vector registers, written as LLVM vector code.

`tile(rows, wide, ...)` advances rows x columns chains by `depth` steps. One step of one chain is a fused multiply-add
with a single rounding, k ascending, so every target gives the same bits: AVX-512 and AVX2 use `llvm.fma`; the portable
form adds an exact float64 product to the float64 value of the chain and rounds to fp32. For bf16 operands that is the
fused result: a product has 16 significant bits, so a float64 sum that is inexact lies far from any fp32 midpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.jit import intrinsic, ir, isa_target, types

__all__ = ["BLOCK_DEPTH", "COLUMNS", "HEIGHTS", "LANES", "ROWS", "ROW_PITCH", "TARGET", "Emitter", "chains_at",
           "emit_tile", "lefts_at", "tile", "tile_signature"]  # fmt: skip

TARGET = isa_target()
# rows x (2 x lanes) accumulators: 28 of 32 zmm, 12 of 16 ymm; the portable form needs registers for float64 halves.
ROWS, LANES = {"avx512": (14, 16), "avx2": (6, 8), "portable": (4, 8)}[TARGET]
COLUMNS = 2 * LANES
BLOCK_DEPTH = 512  # steps a packed panel holds: 14 rows of fp32 stay in a 32 KiB first-level cache
ROW_PITCH = BLOCK_DEPTH + 32  # a row's pitch that is no power of two, so that rows fall into different cache sets
HEIGHTS = tuple(sorted({ROWS, min(8, ROWS), min(4, ROWS), 1}, reverse=True))
UNROLL = 4
CANONICAL_NAN = 0x7FC00000


def chains_at(ic: int, t: Any, it: int, rows: int, columns: int) -> Any:
    """Return where the chains of a block stand, for the plain twins of what advances them; (rows, columns) int64."""
    return ic + t[it : it + rows].view(np.int32).astype(np.int64)[:, None] + np.arange(columns)


def lefts_at(ia: int, t: Any, il: int, rows: int, runs: int, step: int, depth: int) -> Any:
    """Return where the left operand's steps stand, likewise; (rows, runs * depth) int64."""
    steps = (step * np.arange(runs)[:, None] + np.arange(depth)).ravel()
    return ia + t[il : il + rows].view(np.int32).astype(np.int64)[:, None] + steps


def _tile_plain(rows: int, wide: int, a: Any, ia: int, b: Any, ib: int, c: Any, ic: int, t: Any, il: int, it: int,
                runs: int, step: int, depth: int, keep: int, below: int) -> None:  # fmt: skip
    columns = COLUMNS if wide else LANES
    at = chains_at(ic, t, it, rows, columns)
    chains = c[at] if keep else np.zeros((rows, columns), np.float32)
    lefts = np.asarray(a[lefts_at(ia, t, il, rows, runs, step, depth)], np.float64)
    for k, left in enumerate(lefts.T):
        right = b[ib + COLUMNS * k : ib + COLUMNS * k + columns].astype(np.float64)
        chains = (chains.astype(np.float64) + left[:, None] * right).astype(np.float32)
    chains.view(np.uint32)[np.isnan(chains)] = CANONICAL_NAN
    c[at] = chains


class Emitter:
    """Emits one fully unrolled block of `height` rows by `vectors` registers of LANES lanes."""

    def __init__(self, builder: Any, height: int, vectors: int) -> None:
        self.builder, self.height, self.vectors = builder, height, vectors
        self.single, self.double = ir.FloatType(), ir.DoubleType()
        self.vector = ir.VectorType(self.single, LANES)
        self.wide = ir.VectorType(self.double, LANES)
        self.index = ir.IntType(64)
        self.zero = ir.Constant(self.vector, [0.0] * LANES)
        name = f"llvm.fma.v{LANES}f32"
        module = builder.module
        fma = module.globals.get(name)
        self.fma = fma or ir.Function(module, ir.FunctionType(self.vector, [self.vector] * 3), name)

    def at(self, pointer: Any, offset: Any) -> Any:
        """Return a pointer moved by a number of elements."""
        return self.builder.gep(pointer, [offset])

    def load(self, pointer: Any) -> Any:
        """Return LANES elements."""
        of = ir.VectorType(pointer.type.pointee, LANES)
        loaded = self.builder.load(self.builder.bitcast(pointer, of.as_pointer()))
        loaded.align = 4
        return loaded

    def prefetch(self, pointer: Any) -> None:
        """Ask for a line of the block that comes next: chains come from far away once dst outgrows the caches."""
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        name = "llvm.prefetch.p0"
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        module = self.builder.module
        call = module.globals.get(name) or ir.Function(module, kind, name)
        self.builder.call(call, [self.builder.bitcast(pointer, byte), i32(1), i32(3), i32(1)])

    def splat(self, scalar: Any) -> Any:
        """Return a vector with the same element in all lanes."""
        i32 = ir.IntType(32)
        nothing = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
        one = self.builder.insert_element(nothing, scalar, ir.Constant(i32, 0))
        return self.builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """Return c + a * b with one rounding."""
        if TARGET != "portable":
            return self.builder.call(self.fma, [a, b, c])
        a, b, c = (self.builder.fpext(v, self.wide) for v in (a, b, c))
        return self.builder.fptrunc(self.builder.fadd(c, self.builder.fmul(a, b)), self.vector)

    def step(self, a: list[Any], b: Any, chains: list[Any], unrolled: int) -> list[Any]:
        """Return the chains after `unrolled` steps from places a of the left rows and b of the right panel."""
        for u in range(unrolled):
            right = [self.load(self.at(b, self.index(u * COLUMNS + v * LANES))) for v in range(self.vectors)]
            for r in range(self.height):
                left = self.splat(self.builder.load(self.at(a[r], self.index(u))))
                for v in range(self.vectors):
                    i = r * self.vectors + v
                    chains[i] = self.multiply_add(left, right[v], chains[i])
        return chains

    def loop(
        self, begin: Any, end: Any, by: int, chains: list[Any], body: Callable[[Any, list[Any]], list[Any]]
    ) -> list[Any]:
        """Emit `for i in range(begin, end, by): chains = body(i, chains)` and return the chains after it."""
        builder = self.builder
        before = builder.block
        head = builder.append_basic_block("head")
        inside = builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        builder.branch(head)
        builder.position_at_end(head)
        i = builder.phi(self.index)
        phis = [builder.phi(self.vector) for _ in chains]
        i.add_incoming(begin, before)
        for phi, chain in zip(phis, chains, strict=True):
            phi.add_incoming(chain, before)
        builder.cbranch(builder.icmp_signed("<", i, end), inside, after)
        builder.position_at_end(inside)
        advanced = body(i, list(phis))
        i.add_incoming(builder.add(i, self.index(by)), builder.block)
        for phi, chain in zip(phis, advanced, strict=True):
            phi.add_incoming(chain, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return phis

    def run(self, a: list[Any], b: Any, depth: Any, chains: list[Any]) -> list[Any]:
        """Return the chains after `depth` steps that follow each other in every left row and in the right panel."""
        builder = self.builder

        def advance(unrolled: int) -> Callable[[Any, list[Any]], list[Any]]:
            return lambda k, held: self.step(
                [self.at(row, k) for row in a], self.at(b, builder.mul(k, self.index(COLUMNS))), held, unrolled
            )

        whole = builder.and_(depth, self.index(-UNROLL))
        chains = self.loop(self.index(0), whole, UNROLL, chains, advance(UNROLL))
        return self.loop(whole, depth, 1, chains, advance(1))

    def block(
        self, a: Any, lefts: Any, b: Any, c: Any, rows: Any, runs: Any, step: Any, depth: Any, keep: Any,
        below: Any,
    ) -> None:  # fmt: skip
        """Emit: load or clear the chains, `runs` runs of `depth` steps, store them with NaN made canonical."""
        builder = self.builder
        begins = [builder.sext(builder.load(self.at(rows, self.index(r))), self.index) for r in range(self.height)]
        places = [self.at(c, builder.add(at, self.index(v * LANES))) for at in begins for v in range(self.vectors)]
        starts = [
            self.at(a, builder.sext(builder.load(self.at(lefts, self.index(r))), self.index))
            for r in range(self.height)
        ]
        others = self.at(rows, builder.mul(below, self.index(self.height)))
        beside = self.at(c, builder.mul(builder.sub(self.index(1), below), self.index(COLUMNS)))
        for r in range(self.height):
            at = builder.sext(builder.load(self.at(others, self.index(r))), self.index)
            for v in range(self.vectors):
                self.prefetch(self.at(beside, builder.add(at, self.index(v * LANES))))
        start = builder.block
        reload = builder.append_basic_block("reload")
        ready = builder.append_basic_block("ready")
        builder.cbranch(builder.icmp_signed("!=", keep, self.index(0)), reload, ready)
        builder.position_at_end(reload)
        kept = [self.load(place) for place in places]
        builder.branch(ready)
        builder.position_at_end(ready)
        chains = []
        for value in kept:
            phi = builder.phi(self.vector)
            phi.add_incoming(self.zero, start)
            phi.add_incoming(value, reload)
            chains.append(phi)

        def one_run(j: Any, held: list[Any]) -> list[Any]:
            further = builder.mul(j, step)
            panel = self.at(b, builder.mul(builder.mul(j, depth), self.index(COLUMNS)))
            return self.run([self.at(row, further) for row in starts], panel, depth, held)

        chains = self.loop(self.index(0), runs, 1, chains, one_run)
        for place, chain in zip(places, chains, strict=True):
            value = self.canonical(chain)
            builder.store(value, builder.bitcast(place, self.vector.as_pointer()), align=4)

    def canonical(self, chain: Any) -> Any:
        """Return the chain with every NaN made the canonical one."""
        nan = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [CANONICAL_NAN] * LANES)
        is_nan = self.builder.fcmp_unordered("uno", chain, chain)
        return self.builder.select(is_nan, self.builder.bitcast(nan, self.vector), chain)


def emit_tile(context: Any, builder: Any, sig: Any, args: Any, emitter: type[Emitter]) -> Any:
    """Emit the choice of a block by height and width, and every block; operands as those of `tile`."""

    def data(i: int) -> Any:
        return context.make_array(sig.args[i])(context, builder, args[i]).data

    left, right, chain, lefts, rows = (
        builder.gep(data(i), [args[at]]) for i, at in ((2, 3), (4, 5), (6, 7), (8, 9), (8, 10))
    )
    last = builder.append_basic_block("tiled")
    for height in HEIGHTS:
        for vectors in (2, 1):
            here = builder.append_basic_block(f"tile{height}x{vectors}")
            other = builder.append_basic_block("other")
            chosen = builder.and_(
                builder.icmp_signed("==", args[0], ir.IntType(64)(height)),
                builder.icmp_signed("==", args[1], ir.IntType(64)(vectors - 1)),
            )
            builder.cbranch(chosen, here, other)
            builder.position_at_end(here)
            emitter(builder, height, vectors).block(left, lefts, right, chain, rows, *args[11:16])
            builder.branch(last)
            builder.position_at_end(other)
    builder.branch(last)
    builder.position_at_end(last)
    return context.get_dummy_value()


def tile_signature(a: Any, b: Any, c: Any, t: Any) -> Any:
    """Return the signature of `tile` and its like for these arrays."""
    word = types.int64
    return types.void(word, word, a, word, b, word, c, word, t, word, word, word, word, word, word, word)


@intrinsic(plain=_tile_plain)
def tile(typingctx: Any, rows: Any, wide: Any, a: Any, ia: Any, b: Any, ib: Any, c: Any, ic: Any, t: Any, il: Any,
         it: Any, runs: Any, step: Any, depth: Any, keep: Any,
         below: Any) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Advance a block of chains by runs * depth steps.

    tile(rows, wide, a, ia, b, ib, c, ic, t, il, it, runs, step, depth, keep, below): rows: one of HEIGHTS; wide: 1 for
    COLUMNS columns, 0 for LANES; a, b, c: float32 arrays; t: uint32, read as signed. Step k of run j is step
    j * depth + k of the chains: a[ia + t[il + r] + j * step + k] is the left operand, b[ib + (j * depth + k) * COLUMNS
    + n] the right one, c[ic + t[it + r] + n] the chain, which starts from +0 unless `keep`. Rows that have the same
    place must have the same left operand: all chains are loaded before one is stored. below: whether the next block is
    the one that t goes on with, not the one to the right. Elements are not bounds checked: the caller owns the panels.
    """

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit_tile(context, builder, sig, args, Emitter)

    return tile_signature(a, b, c, t), emit
