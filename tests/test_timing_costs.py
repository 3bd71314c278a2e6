"""Cost rules: the closed form of the matrix nest against a loop that walks it, vector rows by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UnsupportedError
from accel.hardware import NodeSpec, chip
from accel.timing.costs import Cost, Side, gather_cost, matrix_cost, port_cycles, transpose_cost, vector_cost

MINI = chip("mini").node


def drained(node: NodeSpec, loads: int, stores: int) -> int:
    """Cycle by cycle: a store port's worth of stores first, then loads while address units and ports are left."""
    cycles = 0
    while loads or stores:
        units = node.accesses_per_cycle
        now = min(stores, node.store_ports, units)
        stores, units = stores - now, units - now
        loads -= min(loads, node.load_ports, units)
        cycles += 1
    return cycles


def walked(node: NodeSpec, m: int, n: int, k: int, step: int, element: int, accumulate: bool, result: int = 4) -> Cost:
    """The block loop of docs/cycle-model.md, walked block by block and micro-step by micro-step."""
    unit = node.matrix
    compute = accumulator = loads = stores = 0
    pending = 0  # stores of the block before

    def accesses(size: int) -> int:
        return -(-size // node.port_bytes)

    for m0 in range(0, m, unit.accumulator_rows):
        for n0 in range(0, n, unit.accumulator_cols):
            rows = range(m0, min(m0 + unit.accumulator_rows, m), unit.m)
            cols = range(n0, min(n0 + unit.accumulator_cols, n), unit.n)
            tile = len(rows) * len(cols) * accesses(unit.m * unit.n * result)
            first = tile if accumulate else 0
            accumulator += drained(node, first, pending)
            loads += first
            for _ in range(0, k, unit.k):
                loads += len(rows) * accesses(unit.m * unit.k * element) + len(cols) * accesses(
                    unit.k * unit.n * element
                )
                for _ in rows:
                    for _ in cols:
                        compute += step
            stores += tile
            pending = tile
    accumulator += drained(node, 0, pending)
    return Cost(
        compute + accumulator + unit.fill_cycles, port_cycles(node, loads, stores), loads, stores, 2 * m * n * k,
        2 * unit.m * unit.n * unit.k, step, compute, accumulator, unit.fill_cycles,
    )  # fmt: skip


@given(m=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 40), accumulate=st.booleans())
def test_matrix_closed_form_is_the_block_loop(m: int, n: int, k: int, accumulate: bool) -> None:
    assert matrix_cost(MINI, "bf16", m, n, k, accumulate) == walked(MINI, m, n, k, 1, 2, accumulate)


@given(
    m=st.integers(1, 40), n=st.integers(1, 40), k=st.integers(1, 9), accumulate=st.booleans(),
    block=st.tuples(st.integers(1, 3), st.integers(1, 3)), step=st.integers(1, 3),
    ports=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4)),
)  # fmt: skip
def test_matrix_closed_form_on_other_units(
    m: int, n: int, k: int, accumulate: bool, block: tuple[int, int], step: int, ports: tuple[int, int, int]
) -> None:
    node = chip("mini").replace(**{
        "node.matrix.accumulator_rows": 8 * block[0], "node.matrix.accumulator_cols": 8 * block[1],
        "node.matrix.step_cycles": {"fp16": step}, "node.load_ports": ports[0], "node.store_ports": ports[1],
        "node.accesses_per_cycle": ports[2],
    }).node  # fmt: skip
    assert matrix_cost(node, "fp16", m, n, k, accumulate) == walked(node, m, n, k, step, 2, accumulate)
    rounded = matrix_cost(node, "fp16", m, n, k, False, output="bf16")
    assert rounded == walked(node, m, n, k, step, 2, False, result=2)


def test_one_block_by_hand() -> None:
    # 16 x 16 x 16: 4 k-steps x 2 x 2 micro-steps; the block's 1,024 B leave in 16 stores; 4 operand tiles a k-step.
    cost = matrix_cost(MINI, "bf16", 16, 16, 16, False)
    assert (cost.compute, cost.accumulator, cost.fill, cost.cycles) == (16, 16, 8, 40)
    assert (cost.loads, cost.stores, cost.port) == (16, 16, 16)
    # With accumulate the block also comes in first: 16 loads at 2 a cycle.
    assert matrix_cost(MINI, "bf16", 16, 16, 16, True).accumulator == 24


def test_matrix_refuses_a_format_the_unit_lacks() -> None:
    with pytest.raises(UnsupportedError, match="fp32"):
        matrix_cost(MINI, "fp32", 16, 16, 16, False)


def test_vector_rows_by_hand() -> None:
    dense = Side(4, (1, 1, 64, 16), (0, 0, 64, 4))
    # fma over 64 rows of 16 fp32: a pass a row; 3 loads and a store a row on 2 address units.
    cost = vector_cost(MINI, (1, 1, 64, 16), [dense] * 3, dense, 1, 2)
    assert (cost.compute, cost.cycles, cost.loads, cost.stores, cost.port) == (64, 72, 192, 64, 128)
    assert cost.flops == 64 * 16 * 2
    # a row of 17 fp32 is 68 B: two passes; a divide runs eight times; a broadcast operand is one access a row
    ragged = Side(4, (1, 1, 3, 17), (0, 0, 68, 4))
    cost = vector_cost(MINI, (1, 1, 3, 17), [ragged, Side(4, (1, 1, 3, 17), (0, 0, 4, 0))], ragged, 8, 1)
    assert (cost.compute, cost.loads, cost.stores) == (3 * 2 * 8, 3 * 2 + 3, 6)
    # a reduce adds four fold cycles a row for 16 lanes and writes one element a row
    cost = vector_cost(MINI, (1, 1, 2, 64), [Side(4, (1, 1, 2, 64), (0, 0, 256, 4))], dense, 1, 1, tree=4)
    assert (cost.compute, cost.loads, cost.stores) == (2 * (4 + 4), 8, 2)
    # a single element that fills a whole operand is read once; a bias that lies in SRAM is one more
    cost = vector_cost(MINI, (1, 1, 64, 16), [dense, Side(4, (1, 1, 64, 16), (0, 0, 0, 0))], dense, 1, 1, scalars=2)
    assert (cost.loads, cost.stores, cost.port) == (64 + 1 + 2, 64, 66)


@pytest.mark.parametrize("element", [1, 2, 4])
@pytest.mark.parametrize("lane_flops", [1, 2, 4])
@pytest.mark.parametrize("flops", [0, 1, 2])
def test_no_vector_row_is_above_the_peak_of_its_format(element: int, lane_flops: int, flops: int) -> None:
    node = chip("mini").replace(**{"node.vector.flops_per_lane": lane_flops}).node
    for inner in (1, 17, 64):
        view = Side(element, (1, 1, 1, inner), (0, 0, 0, element))
        cost = vector_cost(node, (1, 1, 1, inner), [view] * 3, view, 1, flops)
        assert cost.flops * cost.peak_denominator <= cost.compute * cost.peak_numerator
    # 64 B of elements a pass, each with its lane's flops
    assert cost.peak_numerator == 64 // element * lane_flops


def test_moving_rows_by_hand() -> None:
    # 40 x 100 bf16: the side with 40 rows of 200 B takes 40 x 4 passes and accesses, the other 100 x 2 of 80 B
    tall, flat = Side(2, (1, 1, 40, 100), (0, 0, 200, 2)), Side(2, (1, 1, 100, 40), (0, 0, 80, 2))
    cost = transpose_cost(MINI, tall, flat, 2)
    assert (cost.compute, cost.loads, cost.stores, cost.flops) == (2 * 200, 160, 200, 0)
    assert (cost.cycles, cost.port) == (400 + 8, 200)
    assert transpose_cost(MINI, flat, tall, 2).compute == 2 * 200
    # ten rows of 100 fp32 are 7 passes and accesses each; every index is an access of its own
    rows = Side(4, (1, 1, 10, 100), (0, 0, 400, 4))
    cost = gather_cost(MINI, rows, update=False)
    assert (cost.compute, cost.loads, cost.stores, cost.flops, cost.port) == (70, 80, 70, 0, 75)
    cost = gather_cost(MINI, rows, update=True, scalars=1)
    assert (cost.compute, cost.loads, cost.stores, cost.flops, cost.port) == (70, 10 + 140 + 1, 70, 1000, 111)


def test_mixed_formats_and_a_bias_in_memory_of_a_matmul() -> None:
    node = chip("mini").replace(**{"node.matrix.step_cycles": {"cfp8-143": 1, "cfp8-152": 3}}).node
    slow = matrix_cost(node, "cfp8-152", 16, 16, 16, False)
    assert matrix_cost(node, "cfp8-143", 16, 16, 16, False, "cfp8-152") == slow
    assert matrix_cost(node, "cfp8-143", 16, 16, 16, False).compute == slow.compute // 3
    assert matrix_cost(node, "cfp8-143", 16, 16, 16, False, scalars=2).loads == slow.loads + 2
    # bytes: 8 x 4 tiles of a byte an element fit an access
    assert slow.loads == 4 * (2 + 2)
