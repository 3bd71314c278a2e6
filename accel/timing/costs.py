"""Cycles of one macro-operation, counted in closed form from its nest: matrix blocks, vector passes, port accesses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from accel.errors import InternalError, ProgramError, UnsupportedError
from accel.hardware import ChipSpec, NodeSpec
from accel.isa.layout import V_DTYPE, V_SCALAR, V_SHAPE, V_STRIDE, W_OPCODE
from accel.isa.program import Table
from accel.isa.schema import Engine, Kind, Row
from accel.isa.table import BY_OPCODE
from accel.numerics.formats import by_code, fmt

__all__ = ["Cost", "Side", "gather_cost", "matrix_cost", "port_cycles", "row_cost", "transpose_cost", "vector_cost"]

ACCUMULATOR_BYTES = 4  # the accumulator holds fp32 or int32
# Rows that only move or convert bits, touch the sign or make numbers up do no arithmetic; an fma does two flops; any
# other row one.
FREE_OF_FLOPS = frozenset({
    "vec.fill", "vec.copy", "vec.cast", "vec.cast_sr", "vec.neg", "vec.abs", "vec.select", "vec.transpose", "vec.iota",
    "vec.random", "vec.gather",
})  # fmt: skip
# Rows that move bits without decoding them, and so read no bias.
MOVES = frozenset({"vec.copy", "vec.select", "vec.transpose", "vec.gather"})


class Side(NamedTuple):
    """One operand of a vector row as its ports see it: bytes an element, and the sizes and strides of its view."""

    item: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def accesses(self, width: int) -> int:
        """Return the port accesses of the whole view.

        One for each `width` bytes of each row; one a row where the row repeats a single element; one in all where the
        whole view does, which the unit then holds in a register.
        """
        *outer, inner = self.shape
        rows = math.prod(outer)
        if not any(stride for size, stride in zip(self.shape, self.stride, strict=True) if size > 1):
            return 1
        return rows if self.stride[-1] == 0 else rows * ceil_div(inner * self.item, width)

    def passes(self, width: int) -> int:
        """Return how many times `width` bytes it takes to go through all rows of the view."""
        *outer, inner = self.shape
        return math.prod(outer) * ceil_div(inner * self.item, width)


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


def matrix_cost(
    node: NodeSpec, dtype: str, m: int, n: int, k: int, accumulate: bool, dtype_b: str | None = None,
    scalars: int = 0, output: str = "fp32",
) -> Cost:  # fmt: skip
    """Return the cost of an m x n x k matmul macro-operation, the block loop of `docs/cycle-model.md` in closed form.

    Blocks of accumulator_rows x accumulator_cols run rows outermost. dtype, dtype_b: formats of a and b (one, unless
    given); the slower of them sets the pace. scalars: operands whose bias is read from SRAM, an access each. output:
    the format of the result, that of the accumulators or one of `output_formats`, whose blocks take fewer stores.
    UnsupportedError if the unit lacks a format.
    """
    unit, other = node.matrix, dtype if dtype_b is None else dtype_b
    for name in (dtype, other):
        if name not in unit.step_cycles:
            raise UnsupportedError(
                f"Cannot time a matmul in {name!r}: the matrix unit takes {', '.join(unit.step_cycles)}; cast first"
            )
    if fmt(output).bytes != ACCUMULATOR_BYTES and output not in unit.output_formats:
        written = " or ".join(["fp32", *unit.output_formats])
        raise UnsupportedError(
            f"Cannot time a matmul into {output!r}: the matrix unit writes results in {written}; cast an fp32 result"
        )
    step, width = max(unit.step_cycles[dtype], unit.step_cycles[other]), node.port_bytes
    tile_a = ceil_div(unit.m * unit.k * fmt(dtype).bytes, width)
    tile_b = ceil_div(unit.k * unit.n * fmt(other).bytes, width)
    tile_c = ceil_div(unit.m * unit.n * fmt(output).bytes, width)
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
    loads = scalars
    compute = stores = accumulator = 0

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
    node: NodeSpec, shape: Sequence[int], reads: Sequence[Side], write: Side, passes: int, flops: int, *,
    tree: int = 0, scalars: int = 0, lane: int = 1,
) -> Cost:  # fmt: skip
    """Return the cost of a vector row over `shape`.

    passes: micro-operations a pass; flops: of an element. tree: extra cycles a row of a reduce spends on folding its
    lanes; its write is one element a row. scalars: operands whose bias is read from SRAM, an access each.
    lane: bytes that an element takes in the unit where that is more than in its operands.
    The peak is that of the row's format: a pass does flops_per_lane on each element that fits, so no row is above it.
    """
    unit = node.vector
    *outer, inner = shape
    rows = math.prod(outer)
    widest = max([side.item for side in reads] + [write.item, lane])
    passes = max(passes, ceil_div(flops, unit.flops_per_lane))  # without fused lanes an fma is two passes
    compute = rows * (ceil_div(inner * widest, unit.bytes_per_cycle) * passes + tree)
    loads = sum(side.accesses(node.port_bytes) for side in reads) + scalars
    stores = rows if tree else rows * ceil_div(inner * write.item, node.port_bytes)
    return _cost(node, compute, loads, stores, rows * inner * flops, widest)


def transpose_cost(node: NodeSpec, x: Side, write: Side, passes: int) -> Cost:
    """Return the cost of a transpose: `passes` over its longer side, each accessed along its rows."""
    width = node.vector.bytes_per_cycle
    compute = passes * max(x.passes(width), write.passes(width))
    return _cost(node, compute, x.accesses(node.port_bytes), write.passes(node.port_bytes), 0, x.item)


def gather_cost(node: NodeSpec, moved: Side, *, update: bool, scalars: int = 0) -> Cost:
    """Return the cost of a gather, or of a scatter_add (update=True), of the rows `moved`, whatever their indices.

    An access for every index; then each row is read, and written; a scatter_add reads the row of the table as well.
    """
    *_, rows, inner = moved.shape
    row = ceil_div(inner * moved.item, node.port_bytes)
    compute = rows * ceil_div(inner * moved.item, node.vector.bytes_per_cycle)
    loads = rows * (1 + (2 if update else 1) * row) + scalars
    return _cost(node, compute, loads, rows * row, rows * inner if update else 0, moved.item)


def _cost(node: NodeSpec, compute: int, loads: int, stores: int, flops: int, widest: int) -> Cost:
    """A row of the vector unit, whose lanes take elements of `widest` bytes."""
    unit = node.vector
    return Cost(
        compute + unit.fill_cycles, port_cycles(node, loads, stores), loads, stores, flops,
        unit.bytes_per_cycle // widest * unit.flops_per_lane, 1, compute, 0, unit.fill_cycles,
    )  # fmt: skip


def row_cost(chip: ChipSpec, views: Table, row: Table) -> Cost | None:
    """Return the cost of one code row that runs on the matrix or vector unit, None for any other.

    A ring costs what a plain buffer does: an access wraps with its address.
    """
    kind = BY_OPCODE.get(int(row[W_OPCODE]))
    if kind is None:
        raise ProgramError(f"unknown opcode {int(row[W_OPCODE])}; build the program again with this version")
    if kind.engine not in (Engine.MATRIX, Engine.VECTOR):
        return None
    operands = {o.name: views[int(row[kind.word(o.name)])] for o in kind.operands if o.kind is Kind.VIEW}
    scalars = 0 if kind.mnemonic in MOVES else sum(1 for view in operands.values() if view[V_SCALAR])
    if kind.engine is Engine.MATRIX:
        (m, n), (_, k) = _flat(operands["dst"]), _flat(operands["a"])
        a, b = (by_code(int(operands[name][V_DTYPE])).name for name in "ab")
        output = by_code(int(operands["dst"][V_DTYPE])).name
        return matrix_cost(chip.node, a, m, n, k, bool(row[kind.word("accumulate")]), b, scalars, output)
    return _vector_row(chip.node, kind, operands, scalars)


def _side(view: Table) -> Side:
    shape, stride = (tuple(int(n) for n in view[at : at + 4]) for at in (V_SHAPE, V_STRIDE))
    return Side(by_code(int(view[V_DTYPE])).bytes, shape, stride)


def _vector_row(node: NodeSpec, kind: Row, operands: dict[str, Table], scalars: int) -> Cost:
    sides = {name: _side(view) for name, view in operands.items()}
    reads = [side for name, side in sides.items() if name != "dst"]
    parts = kind.passes if isinstance(kind.passes, tuple) else (kind.passes,)
    passes = sum(part if isinstance(part, int) else getattr(node.vector, part) for part in parts)
    if kind.cost == "gather":
        update = kind.mnemonic == "vec.scatter_add"
        return gather_cost(node, sides["x" if update else "dst"], update=update, scalars=scalars)
    if kind.cost == "transpose":
        return transpose_cost(node, sides["x"], sides["dst"], passes)
    if kind.cost not in ("vector", "reduce"):
        raise InternalError(f"instruction {kind.mnemonic} has no cost rule on the vector unit")
    flops = 0 if kind.mnemonic in FREE_OF_FLOPS else 2 if kind.mnemonic == "vec.fma" else 1
    lanes = node.vector.bytes_per_cycle // 4
    tree = (lanes - 1).bit_length() if kind.cost == "reduce" else 0  # one fold a level of the lane tree
    shape = sides["x" if tree else "dst"].shape
    return vector_cost(
        node, shape, reads, sides["dst"], passes, flops, tree=tree, scalars=scalars, lane=4 if kind.wide else 1
    )


def _flat(view: Table) -> tuple[int, int]:
    """Rows and columns of a matmul view, both levels of each multiplied."""
    a, b, c, d = (int(size) for size in view[V_SHAPE : V_SHAPE + 4])
    return a * b, c * d
