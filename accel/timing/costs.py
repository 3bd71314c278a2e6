"""Cycles of one macro-operation, counted in closed form from its nest: matrix blocks, vector passes, port accesses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from accel.errors import ProgramError, UnsupportedError
from accel.hardware import ChipSpec, NodeSpec
from accel.isa.layout import V_DTYPE, V_RING_BYTES, V_SHAPE, V_STRIDE, W_OPCODE
from accel.isa.program import Table
from accel.isa.schema import Engine, Kind, Row
from accel.isa.table import BY_OPCODE
from accel.numerics.formats import by_code, fmt

__all__ = ["Cost", "matrix_cost", "port_cycles", "row_cost", "vector_cost"]

ACCUMULATOR_BYTES = 4  # the accumulator holds fp32
# Rows that only move or convert bits, or touch the sign, do no arithmetic; an fma does two flops; any other row one.
FREE_OF_FLOPS = frozenset({"vec.fill", "vec.copy", "vec.cast", "vec.neg", "vec.abs"})


class Cost(NamedTuple):
    """What one macro-operation takes on an idle node.

    cycles: on its unit = compute + accumulator + fill; port: cycles of SRAM port work; loads, stores: port accesses;
    flops: 2 a multiply-add, or those of the vector row; peak: flop a cycle of the unit that does it.
    """

    cycles: int
    port: int
    loads: int
    stores: int
    flops: int
    peak_numerator: int
    peak_denominator: int
    compute: int
    accumulator: int
    fill: int


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up, for a >= 0 and b > 0."""
    return -(-a // b)


def port_cycles(node: NodeSpec, loads: int, stores: int) -> int:
    """Return the cycles the core ports need for so many accesses: ports of each kind, and shared address units."""
    return max(
        ceil_div(loads, node.load_ports),
        ceil_div(stores, node.store_ports),
        ceil_div(loads + stores, node.accesses_per_cycle),
    )


def matrix_cost(node: NodeSpec, dtype: str, m: int, n: int, k: int, accumulate: bool) -> Cost:
    """Return the cost of an m x n x k matmul macro-operation, the block loop of `docs/cycle-model.md` in closed form.

    Blocks of accumulator_rows x accumulator_cols run rows outermost. UnsupportedError if the unit lacks the format.
    """
    unit = node.matrix
    if dtype not in unit.step_cycles:
        raise UnsupportedError(
            f"Cannot time a matmul in {dtype!r}: the matrix unit takes {', '.join(unit.step_cycles)}; cast first"
        )
    step, width = unit.step_cycles[dtype], node.port_bytes
    element = fmt(dtype).bits // 8
    tile_a = ceil_div(unit.m * unit.k * element, width)
    tile_b = ceil_div(unit.k * unit.n * element, width)
    tile_c = ceil_div(unit.m * unit.n * ACCUMULATOR_BYTES, width)
    steps = ceil_div(k, unit.k)

    def groups(size: int, block: int, part: int) -> tuple[int, int, int]:
        """Full blocks, parts of a full block, parts of the ragged last one (0 = none)."""
        return size // block, block // part, ceil_div(size % block, part)

    full_m, parts_m, last_m = groups(m, unit.accumulator_rows, unit.m)
    full_n, parts_n, last_n = groups(n, unit.accumulator_cols, unit.n)
    rows = [(full_m, parts_m), (1, last_m)] if last_m else [(full_m, parts_m)]
    cols = [(full_n, parts_n), (1, last_n)] if last_n else [(full_n, parts_n)]
    rows = [r for r in rows if r[0]]
    cols = [c for c in cols if c[0]]
    compute = loads = stores = accumulator = 0

    def between(stored: int, loaded: int) -> int:
        """Cycles between two blocks: the store of one beside the load of the next."""
        return port_cycles(node, loaded * tile_c if accumulate else 0, stored * tile_c)

    for count_m, mh in rows:
        for count_n, nh in cols:
            count = count_m * count_n
            compute += count * steps * mh * nh * step
            loads += count * (steps * (mh * tile_a + nh * tile_b) + (mh * nh * tile_c if accumulate else 0))
            stores += count * mh * nh * tile_c
    first_n, end_n = cols[0][1], cols[-1][1]
    for count_m, mh in rows:  # transitions along one row of blocks
        inside = sum((count - 1) * between(mh * nh, mh * nh) for count, nh in cols)
        if len(cols) == 2:
            inside += between(mh * cols[0][1], mh * cols[1][1])
        accumulator += count_m * inside + (count_m - 1) * between(mh * end_n, mh * first_n)
    if len(rows) == 2:
        accumulator += between(rows[0][1] * end_n, rows[1][1] * first_n)
    accumulator += between(0, rows[0][1] * first_n) + between(rows[-1][1] * end_n, 0)
    peak = 2 * unit.m * unit.n * unit.k
    return Cost(
        compute + accumulator + unit.fill_cycles, port_cycles(node, loads, stores), loads, stores, 2 * m * n * k,
        peak, step, compute, accumulator, unit.fill_cycles,
    )  # fmt: skip


def vector_cost(
    node: NodeSpec,
    shape: Sequence[int],
    reads: Sequence[tuple[int, Sequence[int]]],
    write: tuple[int, Sequence[int]],
    passes: int,
    flops: int,
    tree: int = 0,
) -> Cost:
    """Return the cost of a vector row over `shape`.

    reads, write: (element bytes, byte strides) of each view; an operand whose innermost stride is 0 is one access a
    row. tree: extra cycles an innermost row of a reduce spends on folding its lanes; its write is one element a row.
    The peak is that of the row's format: a pass does flops_per_lane on each element that fits, so no row is above it.
    """
    unit, width = node.vector, node.port_bytes
    inner = shape[-1]
    outer = 1
    for size in shape[:-1]:
        outer *= size
    widest = max([size for size, _ in reads] + [write[0]])
    passes = max(passes, ceil_div(flops, unit.flops_per_lane))  # without fused lanes an fma is two passes
    compute = outer * (ceil_div(inner * widest, unit.bytes_per_cycle) * passes + tree)
    loads = sum(outer * (1 if strides[-1] == 0 else ceil_div(inner * size, width)) for size, strides in reads)
    stores = outer * (1 if tree else ceil_div(inner * write[0], width))
    lanes = unit.bytes_per_cycle // widest
    return Cost(
        compute + unit.fill_cycles, port_cycles(node, loads, stores), loads, stores, outer * inner * flops,
        lanes * unit.flops_per_lane, 1, compute, 0, unit.fill_cycles,
    )  # fmt: skip


def row_cost(chip: ChipSpec, views: Table, row: Table) -> Cost | None:
    """Return the cost of one code row that runs on the matrix or vector unit, None for any other."""
    kind = BY_OPCODE.get(int(row[W_OPCODE]))
    if kind is None:
        raise ProgramError(f"unknown opcode {int(row[W_OPCODE])}; build the program again with this version")
    operands = {o.name: views[int(row[kind.word(o.name)])] for o in kind.operands if o.kind is Kind.VIEW}
    for name, view in operands.items():
        if view[V_RING_BYTES]:
            raise UnsupportedError(f"Cannot time {kind.mnemonic}: its {name} is a ring view; use a plain buffer")
    if kind.engine is Engine.MATRIX:
        m, n = _flat(operands["dst"])
        k = _flat(operands["a"])[1]
        dtype = by_code(int(operands["a"][V_DTYPE])).name
        return matrix_cost(chip.node, dtype, m, n, k, bool(row[kind.word("accumulate")]))
    if kind.engine is Engine.VECTOR:
        return _vector_row(chip.node, kind, operands)
    return None


def _vector_row(node: NodeSpec, kind: Row, operands: dict[str, Table]) -> Cost:
    sides = {n: (by_code(int(v[V_DTYPE])).bits // 8, [int(s) for s in v[V_STRIDE : V_STRIDE + 4]])
             for n, v in operands.items()}  # fmt: skip
    shaped = operands["x" if kind.cost == "reduce" else "dst"]
    shape = [int(size) for size in shaped[V_SHAPE : V_SHAPE + 4]]
    passes = getattr(node.vector, kind.passes) if isinstance(kind.passes, str) else kind.passes
    flops = 0 if kind.mnemonic in FREE_OF_FLOPS else 2 if kind.mnemonic == "vec.fma" else 1
    lanes = node.vector.bytes_per_cycle // 4
    tree = (lanes - 1).bit_length() if kind.cost == "reduce" else 0  # one fold a level of the lane tree
    return vector_cost(node, shape, [sides[n] for n in sides if n != "dst"], sides["dst"], passes, flops, tree)


def _flat(view: Table) -> tuple[int, int]:
    """Rows and columns of a matmul view, both levels of each multiplied."""
    a, b, c, d = (int(size) for size in view[V_SHAPE : V_SHAPE + 4])
    return a * b, c * d
