"""Pulls, rings under copies, and probes: under every schedule, in both engines, and in slices."""

from __future__ import annotations

import numpy as np
import pytest
from format_oracle import philox, values
from programs import Asm

from accel.errors import DeadlockError, ProgramError
from accel.isa import layout as w
from accel.machine import execute, execute_sample, needed

SCHEDULES = [("jit", "natural"), ("plain", "natural"), ("plain", 2), *(("jit", seed) for seed in range(15))]


def pulling(rows: int, cols: int, *, done_at_reader: bool = True, spread: int = 0) -> Asm:
    """Every node loads its block, pulls that of its right neighbour twice over, and stores what it pulled.

    A node overwrites its block with negated numbers between the pulls, as soon as `sent` says that it may.
    """
    p = Asm(rows, cols, name="pulling")
    n = 24
    x, y = p.tensor("x", (rows * cols, n), "fp32"), p.tensor("y", (rows * cols, 2, n), "fp32", "out")
    mine, got = p.sram("mine", (n,), "fp32"), p.sram("got", (2, n), "fp32")
    here, ready, done, sent, put = (p.sem(s) for s in ("here", "ready", "done", "sent", "put"))
    index = p.param(np.arange(rows * cols))
    right = p.param((np.arange(rows * cols) % cols + 1) % cols)
    left = p.param((np.arange(rows * cols) % cols - 1) % cols)
    row, next_col, last_col = (p.expr(params=[(q, 1)]) for q in (0, right, left))
    neighbour = p.target(0, 0, 0, spread, (row, row, next_col, next_col))
    puller = p.target(0, 0, 0, 0, (row, row, last_col, last_col))
    with p.thread("all"):
        p.copy(p.at(mine), p.at(x, 0, expr=p.expr(params=[(index, n * 4)])), done=here)
        p.wait(here)
        for turn in range(2):
            if turn:
                p.wait(sent)  # my block was read
                p.emit("vec.neg", dst=p.at(mine), x=p.at(mine))
            p.inc(ready, at=puller)
            p.wait(ready)  # the neighbour's block is there
            p.emit("pull", dst=p.at(got, turn), src=p.at(mine), of=neighbour,
                   done=(done if done_at_reader else sent, 0), sent=(sent if done_at_reader else done, 0))  # fmt: skip
            p.wait(done)
        p.wait(sent)
        p.copy(p.at(y, 0, expr=p.expr(params=[(index, 2 * n * 4)])), p.at(got), sent=put)
        p.wait(put)
    return p


@pytest.mark.parametrize(("engine", "schedule"), SCHEDULES)
def test_pull_reads_another_node(engine, schedule):
    x = np.random.default_rng(1).standard_normal((6, 24)).astype(np.float32)
    y = execute(pulling(2, 3).program(), {"x": x}, engine=engine, schedule=schedule)["y"]
    neighbour = np.roll(x.reshape(2, 3, 24), -1, axis=1).reshape(6, 24)
    np.testing.assert_array_equal(y, np.stack([neighbour, -neighbour], axis=1))


@pytest.mark.parametrize("schedule", ["natural", 1])
def test_done_fires_at_the_issuer_and_sent_at_the_source(schedule):
    """One puller: with done and sent exchanged it would wait for a token that the other node got."""
    for exchanged in (False, True):
        p = Asm(1, 2)
        x, y = p.tensor("x", (2, 8), "int32"), p.tensor("y", (8,), "int32", "out")
        b, got = p.sram("b", (8,), "int32"), p.sram("got", (8,), "int32")
        here, done, sent, put = (p.sem(s) for s in ("here", "done", "sent", "put"))
        first = p.predicate((p.expr(params=[(1, 1)]), 0, w.REL_EQ))
        second = p.predicate((p.expr(params=[(1, 1)]), 0, w.REL_NE))
        with p.thread("all"):
            p.copy(p.at(b), p.at(x, 0, expr=p.expr(params=[(1, 32)])), done=here)
            p.wait(here)
            p.barrier()
            with p.when(first):
                p.emit("pull", dst=p.at(got), src=p.at(b), of=p.target(0, 0, 1, 1),
                       done=(sent if exchanged else done, 0), sent=(done if exchanged else sent, 0))  # fmt: skip
                p.wait(done)
                p.copy(p.at(y), p.at(got), sent=put)
                p.wait(put)
            with p.when(second):
                p.wait(sent)
        data = {"x": np.arange(16, dtype=np.int32).reshape(2, 8)}
        if exchanged:
            with pytest.raises(DeadlockError):
                execute(p.program(), data, schedule=schedule)
        else:
            np.testing.assert_array_equal(execute(p.program(), data, schedule=schedule)["y"], np.arange(8, 16))


@pytest.mark.parametrize(("engine", "schedule"), SCHEDULES[:5])
def test_a_pull_of_several_nodes_is_refused(engine, schedule):
    x = np.zeros((4, 24), np.float32)
    with pytest.raises(ProgramError, match="a pull one node"):
        execute(pulling(1, 4, spread=1).program(), {"x": x}, engine=engine, schedule=schedule)


def ring_copies(laps: int) -> Asm:
    """A ring of 7 rows of 4: rows come in 3 at a time, go on 3 at a time to the ring of every node, and out."""
    p = Asm(1, 3, name="rings")
    x, y = p.tensor("x", (3 * laps, 4), "bf16"), p.tensor("y", (3, 3 * laps, 4), "bf16", "out")
    a, b = p.sram("a", (9, 4), "bf16"), p.sram("b", (8, 4), "bf16")
    here, full, free, sent, put = (p.sem(s) for s in ("here", "full", "free", "sent", "put"))
    first = p.predicate((p.expr(params=[(1, 1)]), 0, w.REL_EQ))
    base_a, base_b = p.buffers[0].offset + 8, p.buffers[1].offset
    mine = p.param(np.arange(3) * 3 * laps * 8)
    with p.thread("all"), p.loop(laps) as depth:
        rows = p.expr(loops=[(depth, 24, 1, 0, 0)])
        in_a = p.view(a, (3, 4), (8, 2), 8, rows, ring=(base_a, 7 * 8))
        in_b = p.view(b, (3, 4), (8, 2), 16, rows, ring=(base_b, 5 * 8))
        with p.when(first):
            p.copy(in_a, p.at(x, slice(0, 3), expr=rows), done=here)
            p.wait(here)
            p.copy(in_b, in_a, to=w.TARGET_ALL, done=full, sent=sent)
            p.wait(sent)
        p.wait(full)
        p.copy(p.at(y, 0, slice(0, 3), expr=p.expr(params=[(mine, 1)], loops=[(depth, 24, 1, 0, 0)])), in_b, sent=put)
        p.wait(put)
        p.inc(free, at=p.target(0, 0, 0, 0))
        with p.when(first):
            p.wait(free, 3)
    return p


@pytest.mark.parametrize(("engine", "schedule"), SCHEDULES)
def test_copies_run_around_rings(engine, schedule):
    x = np.random.default_rng(2).integers(0, 1 << 16, (24, 4), dtype=np.uint16)
    y = execute(ring_copies(8).program(), {"x": x}, engine=engine, schedule=schedule)["y"]
    np.testing.assert_array_equal(y, np.broadcast_to(x, (3, 24, 4)))


@pytest.mark.parametrize("address", [-1, 3, 17])
def test_an_element_split_by_a_ring_address_is_an_error(address):
    p = Asm()
    y, b, put = p.tensor("y", (4,), "bf16", "out"), p.sram("b", (16,), "bf16"), p.sem("put")
    with p.thread("all"):
        p.emit("vec.fill", dst=p.view(b, (4,), (2,), address, ring=(0, 16)), imm=1.0)
        p.copy(p.at(y), p.at(b, slice(0, 4)), sent=put)
        p.wait(put)
    with pytest.raises(ProgramError, match="splits an element"):
        execute(p.program(), {})


def chosen() -> Asm:
    """Per node: index, mask and bias come from memory; y = select(mask, gather(table, index), cast of table) + adds."""
    p = Asm(1, 4, name="chosen")
    t, n, c = 6, 5, 8
    table = p.tensor("table", (4, t, c), "cfp8-143", bias=9)
    index, mask = p.tensor("index", (4, n), "int32"), p.tensor("mask", (4, n, c), "uint8")
    bias = p.tensor("bias", (4,), "uint8")
    y, z = p.tensor("y", (4, n, c), "fp32", "out"), p.tensor("z", (4, t, c), "fp32", "out")
    lt, li = p.sram("lt", (t, c), "cfp8-143"), p.sram("li", (n,), "int32")
    lm, lb = p.sram("lm", (n, c), "uint8"), p.sram("lb", (1,), "uint8")
    rows = p.sram("rows", (n, c), "cfp8-143")
    wide, noise, out, unused = (p.sram(name, (n, c), "fp32") for name in ("wide", "noise", "out", "unused"))
    sums = p.sram("sums", (t, c), "fp32")
    here, put = p.sem("here"), p.sem("put")
    at = p.buffers[3].offset + 1

    def mine(nbytes: int) -> int:
        return p.expr(params=[(1, nbytes)])

    with p.thread("all"):
        for local, tensor, nbytes in ((lt, table, t * c), (li, index, 4 * n), (lm, mask, n * c)):
            p.copy(p.at(local), p.at(tensor, 0, expr=mine(nbytes)), done=here)
        p.copy(p.at(lb), p.at(bias, slice(0, 1), expr=mine(1)), done=here)
        p.wait(here, 4)
        p.emit("vec.gather", dst=p.view(rows, (1, 1, n, c), (0, 0, c, 1)), x=p.view(lt, (1, 1, t, c), (0, 0, c, 1)),
               index=p.view(li, (1, 1, 1, n), (0, 0, 0, 4)))  # fmt: skip
        p.emit("vec.cast", dst=p.at(wide), x=p.view(rows, (n, c), (c, 1), scalar=at))
        p.emit("vec.random", dst=p.at(noise), stream=2, index=(0, p.expr(params=[(1, n * c)]), 0, 0, c, 1))
        p.emit("vec.select", dst=p.at(out), mask=p.at(lm), x=p.at(wide), y=p.at(noise))
        p.emit("vec.fill", dst=p.at(sums), imm=0.5)
        p.emit("vec.scatter_add", dst=p.view(sums, (1, 1, t, c), (0, 0, 4 * c, 4)),
               x=p.view(wide, (1, 1, n, c), (0, 0, 4 * c, 4)),
               index=p.view(li, (1, 1, 1, n), (0, 0, 0, 4)))  # fmt: skip
        p.emit("vec.fill", dst=p.at(unused), imm=1.0)
        p.copy(p.at(y, 0, expr=mine(4 * n * c)), p.at(out), sent=put)
        p.copy(p.at(z, 0, expr=mine(4 * t * c)), p.at(sums), sent=put)
        p.wait(put, 2)
    return p


def chosen_inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "table": rng.integers(0, 256, (4, 6, 8), dtype=np.uint8), "index": rng.integers(0, 6, (4, 5)).astype(np.int32),
        "mask": rng.choice([0, 1, 200], (4, 5, 8)).astype(np.uint8), "bias": np.array([3, 71, 40, 191], np.uint8),
    }  # fmt: skip


def chosen_oracle(data: dict[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    wide = np.stack([values("cfp8-143", data["table"][i][data["index"][i]].astype(np.int64), int(data["bias"][i]) & 63)
                     for i in range(4)])  # fmt: skip
    drawn = np.array([philox(i, 2, seed) for i in range(160)]).reshape(4, 5, 8)
    sums = np.full((4, 6, 8), np.float32(0.5))
    for node in range(4):
        for i, row in enumerate(data["index"][node]):
            sums[node, row] += wide[node, i]
    return np.where(data["mask"] != 0, wide, ((drawn >> 8) * 2.0**-24).astype(np.float32)), sums


@pytest.mark.parametrize(("engine", "schedule"), SCHEDULES[:8])
def test_index_mask_and_bias_from_memory(engine, schedule):
    data = chosen_inputs()
    got = execute(chosen().program(), data, engine=engine, schedule=schedule, random_seed=5)
    for name, want in zip("yz", chosen_oracle(data, 5), strict=True):
        np.testing.assert_array_equal(got[name], want)


@pytest.mark.parametrize("engine", ["jit", "plain"])
def test_a_slice_brings_what_a_result_depends_on(engine):
    """Index, mask, bias scalar and the table that scatter_add updates; but nothing of other nodes, nor of no use."""
    data, program = chosen_inputs(), chosen().program()
    for name, box, want in (("y", ((2, 3), (1, 2), (0, 8)), chosen_oracle(data, 5)[0]),
                            ("z", ((1, 2), (0, 6), (3, 4)), chosen_oracle(data, 5)[1])):  # fmt: skip
        what = needed(program, {name: [box]}, engine=engine)
        node = box[0][0]
        brought = {b.name for b, on in zip(program.buffers, what.buffers[node], strict=True) if on}
        both = {"lt", "li", "lb", "rows", "wide"}
        assert brought == both | ({"lm", "noise", "out"} if name == "y" else {"sums"})
        assert not what.buffers[[i for i in range(4) if i != node]].any()
        run = execute_sample(program, data, what, engine=engine, random_seed=5)
        mask = run.written[name]
        assert mask[tuple(slice(*b) for b in box)].all()
        np.testing.assert_array_equal(run.outputs[name][mask], want[mask])


@pytest.mark.parametrize("engine", ["jit", "plain"])
def test_a_slice_goes_through_pulls(engine):
    x = np.random.default_rng(1).standard_normal((6, 24)).astype(np.float32)
    program = pulling(2, 3).program()
    what = needed(program, {"y": [((3, 4), (1, 2), (0, 24))]}, engine=engine)
    assert np.flatnonzero(what.buffers.any(axis=1)).tolist() == [3, 4]
    run = execute_sample(program, {"x": x}, what, engine=engine)
    np.testing.assert_array_equal(run.outputs["y"][3], np.stack([x[4], -x[4]]))


@pytest.mark.parametrize(("engine", "schedule"), SCHEDULES[:6])
def test_probes_see_every_visit(engine, schedule, monkeypatch):
    """Counts in a ring that wraps, in a format of 1 byte; with a log of 5 rows, which is emptied many times."""
    from accel.machine import probes

    monkeypatch.setattr(probes, "LOG_ROWS", 5)
    p = Asm(2, 2)
    x, y = p.tensor("x", (4, 9), "uint8"), p.tensor("y", (4, 9), "uint8", "out")
    b, here, put = p.sram("b", (9,), "uint8"), p.sem("here"), p.sem("put")
    block = p.expr(params=[(0, 18), (1, 9)])
    with p.thread("all"):
        p.copy(p.at(b), p.at(x, 0, expr=block), done=here)
        p.wait(here)
        with p.loop(7) as depth:
            along = p.expr(loops=[(depth, 4, 1, 0, 0)])
            moving = p.view(b, (1, 2, 2), (0, 2, 1), 0, along, ring=(p.buffers[0].offset, 9))
            p.emit("probe", x=moving, name=1)
            p.emit("vec.addi", dst=moving, x=moving, imm=1.5e-45)  # the bits of the integer 1
            p.emit("probe", x=moving, name=0)
        p.copy(p.at(y, 0, expr=block), p.at(b), sent=put)
        p.wait(put)
    data = np.random.default_rng(4).integers(0, 256, (4, 9), dtype=np.uint8)
    seen: list = []
    program = p.program(marks=("after", "before"))
    y = execute(program, {"x": data}, engine=engine, schedule=schedule, record=seen.append)["y"]
    for node in range(4):
        state, records = data[node].copy(), iter([r for r in seen if r.node == node])
        for lap in range(7):
            places = (np.arange(4) + 4 * lap) % 9
            for name, add in ((1, 0), (0, 1)):
                state[places] += np.uint8(add)
                record = next(records)
                assert (record.name, record.dtype, record.codes.shape) == (name, "uint8", (1, 2, 2))
                np.testing.assert_array_equal(record.codes.ravel(), state[places])
        np.testing.assert_array_equal(y[node], state)
    assert len(seen) == 4 * 7 * 2


def test_a_probe_decodes_with_the_bias_that_is_in_force():
    p = Asm()
    x, y = p.tensor("x", (8,), "uint8"), p.tensor("y", (8,), "uint8", "out")
    b, here, put = p.sram("b", (8,), "uint8"), p.sem("here"), p.sem("put")
    with p.thread("all"):
        p.copy(p.at(b), p.at(x), done=here)
        p.wait(here)
        p.emit("probe", x=p.view(b, (7,), (1,), 1, dtype="cfp8-152", bias=w.BIAS_IEEE + 5, scalar=1), name=0)
        p.copy(p.at(y), p.at(b), sent=put)
        p.wait(put)
    codes = np.array([64 + 30, 0, 1, 3, 4, 127, 255, 130], np.uint8)
    seen: list = []
    execute(p.program(marks=("m",)), {"x": codes}, record=seen.append)
    np.testing.assert_array_equal(seen[0].values(), values("cfp8-152", codes[1:].astype(np.int64), 30, True))
