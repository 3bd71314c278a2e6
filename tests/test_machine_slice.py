"""The causal slice: sampled outputs equal the full run, and no more is computed than they need."""

from __future__ import annotations

import numpy as np
import pytest
from programs import Asm, summa_program
from test_machine_control import ring_program
from test_machine_matmul import random_bf16

from accel.errors import InputError
from accel.machine import execute, execute_sample, needed


@pytest.fixture(scope="module")
def summa():
    rng = np.random.default_rng(9)
    program = summa_program(3, 4, 9, 11, 13, 7)
    inputs = {"a": random_bf16(rng, (27, 91)), "b": random_bf16(rng, (91, 44))}
    return program, inputs, execute(program, inputs)["c"]


BOXES = [[((0, 1), (0, 1))], [((5, 12), (20, 35))], [((26, 27), (43, 44)), ((0, 2), (0, 44))], [((0, 27), (0, 44))]]


@pytest.mark.parametrize("boxes", BOXES)
@pytest.mark.parametrize("schedule", ["natural", 1, 2])
def test_sample_equals_the_full_run(summa, boxes, schedule):
    program, inputs, want = summa
    part = execute_sample(program, inputs, needed(program, {"c": boxes}), schedule=schedule)
    sampled = np.zeros(want.shape, bool)
    for (r0, r1), (c0, c1) in boxes:
        sampled[r0:r1, c0:c1] = True
    assert part.written["c"][sampled].all()
    np.testing.assert_array_equal(part.outputs["c"][part.written["c"]], want[part.written["c"]])


def test_only_the_nodes_of_the_sample_matter(summa):
    program, _, want = summa
    what = needed(program, {"c": [((0, 1), (0, 1))]}).buffers
    assert what.any(axis=1).tolist() == [True] + [False] * 11  # panels come from memory, so one node is all
    assert what[0].all()
    part = execute_sample(program, summa[1], needed(program, {"c": [((9, 10), (11, 12))]}))
    mask = np.zeros(want.shape, bool)
    mask[9:18, 11:22] = True  # the block of node (1, 1)
    np.testing.assert_array_equal(part.written["c"], mask)


def test_plain_engine_finds_the_same_slice(summa):
    program, _, _ = summa
    boxes = {"c": BOXES[1]}
    np.testing.assert_array_equal(needed(program, boxes).buffers, needed(program, boxes, engine="plain").buffers)


@pytest.mark.parametrize(("laps", "nodes"), [(0, [2]), (1, [1, 2]), (3, [0, 1, 2, 4]), (7, [0, 1, 2, 3, 4])])
def test_pushes_pull_in_their_senders(laps, nodes):
    program = ring_program(5, laps)
    what = needed(program, {"y": [((2, 3), (0, 1))]})
    assert (
        np.flatnonzero(what.buffers.any(axis=1)).tolist() == nodes
        if laps == 0
        else set(nodes) <= set(np.flatnonzero(what.buffers.any(axis=1)).tolist())
    )
    x = np.arange(40, dtype=np.float32).reshape(5, 8)
    part = execute_sample(program, {"x": x}, what)
    np.testing.assert_array_equal(part.outputs["y"][2], (np.roll(x, laps, axis=0) + laps)[2])


def test_results_that_pass_through_memory():
    """Node 0 stores t, node 1 reads it back: sampling y must keep node 0 as well."""
    p = Asm(1, 2)
    t, y = p.tensor("t", (4,), "fp32", "out"), p.tensor("y", (4,), "fp32", "out")
    r, put, go = p.sram("r", (4,), "fp32"), p.sem("put"), p.sem("go")
    left, right = (p.predicate((p.expr(params=[(1, 1)]), -c, 1)) for c in (0, 1))
    with p.thread("t"):
        with p.when(left):
            p.emit("vec.fill", dst=p.at(r), imm=3.0)
            p.copy(p.at(t), p.at(r), done=put)
            p.wait(put)
            p.inc(go, at=p.target(0, 0, 1, 1))
        with p.when(right):
            p.wait(go)
            p.copy(p.at(r), p.at(t), done=put)
            p.wait(put)
            p.copy(p.at(y), p.at(r), sent=put)
            p.wait(put)
    program = p.program()
    part = execute_sample(program, {}, needed(program, {"y": [((1, 2),)]}))
    assert part.outputs["y"].tolist() == [3.0] * 4
    only_t = execute_sample(program, {}, needed(program, {"t": [((0, 1),)]}))
    assert only_t.written["t"].all()
    assert not only_t.written["y"].any()


@pytest.mark.parametrize("collected", [True, False])
def test_collected_shards(collected):
    p = Asm(1, 3)
    x, y = p.tensor("x", (3, 4), "fp32", resident=True), p.tensor("y", (3, 4), "fp32", "out", resident=True)
    b, mine = p.sram("b", (4,), "fp32"), p.expr(params=[(1, 16)])
    p.preload(p.at(b), p.at(x, 0, expr=mine))
    p.collect(p.at(y, 0, expr=mine), p.at(b))
    with p.thread("t"):
        p.emit("vec.addi", dst=p.at(b), x=p.at(b), imm=2.0)
    program = p.program()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    row = 1 if collected else 2
    part = execute_sample(program, {"x": x}, needed(program, {"y": [((row, row + 1), (3, 4))]}))
    assert part.written["y"].any(axis=1).tolist() == [i == row for i in range(3)]
    np.testing.assert_array_equal(part.outputs["y"][row], x[row] + 2)


def test_regions_are_checked(summa):
    program, _, _ = summa
    with pytest.raises(InputError, match="has no output 'd'"):
        needed(program, {"d": []})
    with pytest.raises(InputError, match="nothing is sampled"):
        needed(program, {"c": []})
    for box in (((0, 28), (0, 1)), ((3, 3), (0, 1)), ((0, 1),)):
        with pytest.raises(InputError, match="does not lie in output"):
            needed(program, {"c": [box]})
