"""Trace: slices that tile every thread, bytes that add up, copies and waits of a program worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from programs import Asm, copy_program, matmul_program, summa_program
from test_timing import programs

from accel.errors import InputError
from accel.hardware import chip
from accel.isa.program import Program
from accel.timing import Timing, memory, simulate
from accel.timing.trace import KINDS, WAYS, Trace

MINI = chip("mini")


def pushed() -> Program:
    """Node (0, 0) pushes 1,024 B to (0, 1) twice; (0, 1) multiplies after the first and waits for the second."""
    p = Asm(1, 2)
    x, s = p.sram("x", (512,)), p.sem("s")
    a, acc = p.sram("a", (16, 16)), p.sram("acc", (16, 16), "fp32")
    with p.thread("push"):
        for _ in range(2):
            p.copy(p.at(x), p.at(x), to=p.target(0, 0, 1, 1), done=s)
    p.next_role([1])
    with p.thread("work"):
        p.wait(s)
        p.matmul(p.mat(acc), p.mat(a), p.mat(a))
        p.wait(s)
    return p.program()


def tiles(trace: Trace) -> None:
    """Slices of a thread follow each other without gap or overlap, from cycle 0 on."""
    own = trace.slices
    thread = own["node"] * trace.program.threads + own["thread"]
    same = thread[1:] == thread[:-1]
    assert np.array_equal(own["end"][:-1][same], own["start"][1:][same])
    assert not own["start"][np.concatenate([[True], ~same])[: len(thread)]].any()
    assert (own["end"] > own["start"]).all()


def busy(timing: Timing, trace: Trace, unit: str) -> None:
    """Operations last as long as the unit was busy, and longer only where their port work was not done."""
    own = trace.slices
    ops = own["kind"] == KINDS.index(unit)
    total = np.bincount(own["node"][ops], (own["end"] - own["start"])[ops], timing.busy[unit].size)
    assert (total >= timing.busy[unit].reshape(-1)).all()


PROGRAMS = [copy_program(3, 4), matmul_program(40, 24, 20), summa_program(2, 3, 16, 16, 8, 6)]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_a_trace_repeats_the_run(program: Program) -> None:
    repeats(program)


@settings(max_examples=25)
@given(program=programs())
def test_a_trace_repeats_random_programs(program: Program) -> None:
    repeats(program)


def repeats(program: Program) -> None:
    timing = simulate(program, MINI)
    trace = timing.trace()
    assert trace.cycles == timing.cycles
    assert trace.dropped == 0
    tiles(trace)
    busy(timing, trace, "matrix")
    busy(timing, trace, "vector")
    assert np.array_equal(trace.link_bytes.sum(axis=0), timing.link_bytes)
    assert trace.memory_read.sum() == timing.bytes["memory_read"]
    assert trace.memory_write.sum() == timing.bytes["memory_write"]
    copies = trace.copies
    nodes = (copies["row1"] - copies["row0"] + 1) * (copies["col1"] - copies["col0"] + 1)
    into_nodes = copies["way"] != WAYS.index("write")
    assert trace.received_bytes.sum() == (copies["bytes"] * nodes)[into_nodes].sum()
    sent = np.bincount(copies["source"][copies["source"] >= 0], copies["bytes"][copies["source"] >= 0], program.nodes)
    assert np.array_equal(trace.sent_bytes.sum(axis=0)[: program.rows, : program.cols].reshape(-1), sent)
    assert (copies["sent"] > copies["issued"]).all()
    assert (copies["done"] >= copies["sent"]).all()
    assert copies["done"].max(initial=0) <= timing.cycles


def test_both_engines_record_the_same() -> None:
    program = PROGRAMS[2]
    jitted, plain = simulate(program, MINI).trace(), simulate(program, MINI, engine="plain").trace()
    for name in ("slices", "copies", "marks"):
        a, b = getattr(jitted, name), getattr(plain, name)
        assert all(np.array_equal(a[column], b[column]) for column in a)
    for name in ("link_bytes", "sent_bytes", "received_bytes", "memory_read", "memory_write"):
        assert np.array_equal(getattr(jitted, name), getattr(plain, name))


def test_slices_and_copies_by_hand() -> None:
    timing = simulate(pushed(), MINI)
    trace = timing.trace()
    copies = trace.copies
    # issued at 4 and 8; 16 cycles through the port each, one after the other; a hop of 1 to the neighbour
    assert copies["issued"].tolist() == [4, 8]
    assert copies["sent"].tolist() == [20, 36]
    assert copies["done"].tolist() == [21, 37]
    assert [WAYS[w] for w in copies["way"]] == ["mesh", "mesh"]
    assert copies["bytes"].tolist() == [1024, 1024]
    assert copies["col0"].tolist() == copies["col1"].tolist() == [1, 1]
    own = trace.slices
    second = own["node"] == 1
    rows = list(zip(*(own[c][second].tolist() for c in ("kind", "start", "end", "by")), strict=True))
    first, last = copies["entry"].tolist()
    # the wait blocks from the end of its issue to the arrival; 16 x 16 x 16 takes 40 after an issue of 1; the second
    # copy has come meanwhile, so its wait only issues
    assert [(KINDS[kind], start, end, by) for kind, start, end, by in rows] == [
        ("issue", 0, 1, -1), ("wait_mesh", 1, 21, first), ("issue", 21, 22, -1), ("matrix", 22, 62, -1),
        ("issue", 62, 63, -1),
    ]  # fmt: skip
    assert last > first
    assert trace.thread_name(1, 0) == "work"
    assert trace.text(int(own["row"][second][3])).startswith("matmul")


def test_bytes_fall_into_the_bins_in_which_they_move() -> None:
    trace = simulate(pushed(), MINI).trace(bins=63)
    assert trace.bin_edges.tolist() == list(range(64))
    # link (0, 0) to (0, 1): 64 B a cycle from 4 to 20 and from 20 to 36
    east = trace.link_bytes[:, 0, 0, 0]
    assert east.tolist() == [0] * 4 + [64] * 32 + [0] * 27
    assert trace.received_bytes[:, 0, 1].tolist() == [0] * 5 + [64] * 32 + [0] * 26
    # three bins a packet: 64 B x 16 cycles over bins of 21 cycles, from 4 on
    coarse = simulate(pushed(), MINI).trace(bins=3).link_bytes[:, 0, 0, 0]
    assert coarse.tolist() == [17 * 64, 15 * 64, 0]


def test_a_short_last_bin_holds_no_later_byte() -> None:
    # 64 B a cycle over the whole window of 10 cycles, in bins of 3: the last one is a single cycle
    trace = simulate(pushed(), MINI).trace(window=(8, 18), bins=4)
    assert trace.bin_edges.tolist() == [8, 11, 14, 17, 18]
    assert trace.link_bytes[:, 0, 0, 0].tolist() == [192, 192, 192, 64]
    # a packet that begins after the window but within what would be its last bin's full width
    trace = simulate(pushed(), MINI).trace(window=(0, 4), bins=1)
    assert trace.link_bytes.sum() == 0
    assert simulate(pushed(), MINI).trace(window=(1, 4), bins=2).link_bytes.sum() == 0


def test_a_window_and_a_node() -> None:
    trace = simulate(pushed(), MINI).trace(nodes=[(0, 1)], window=(21, 40), bins=19)
    assert set(trace.slices["node"].tolist()) == {1}
    assert trace.slices["start"].tolist() == [21, 22]
    assert len(trace.copies["entry"]) == 0  # both are issued by the other node
    assert trace.link_bytes[:, 0, 0, 0].tolist() == [64] * 15 + [0] * 4  # links count for all nodes
    assert simulate(pushed(), MINI).trace(nodes=[(0, 0)], window=(21, 40)).copies["issued"].tolist() == [8]


def test_a_window_ends_with_the_run() -> None:
    trace = simulate(pushed(), MINI).trace(window=(21, 1000), bins=7)
    assert trace.window == (21, 63)
    assert trace.bin_edges.tolist() == list(range(21, 64, 6))


def test_a_full_queue_stalls_after_the_issue() -> None:
    trace = simulate(pushed(), MINI.replace(**{"node.copy_queue_depth": 1})).trace(nodes=[(0, 0)])
    tiles(trace)
    rows = zip(*(trace.slices[c].tolist() for c in ("kind", "start", "end")), strict=True)
    # the first copy is sent at 20, which lets the second go
    assert [(KINDS[kind], start, end) for kind, start, end in rows] == [
        ("issue", 0, 4), ("issue", 4, 8), ("queue_full", 8, 20),
    ]  # fmt: skip


def test_marks_loops_and_rows_switched_off() -> None:
    p = Asm(1, 1)
    never = p.predicate((0, 1, 1))  # 1 == 0
    with p.thread("main"):
        p.emit("mark", phase=0)
        with p.loop(2), p.when(never):
            p.barrier()
        p.emit("mark", phase=1)
    trace = simulate(p.program(marks=("one", "two")), MINI).trace()
    own = trace.slices
    # loop; two trips of a row that is switched off and an end: a cycle each
    assert [KINDS[k] for k in own["kind"]] == ["control", "off", "control", "off", "control"]
    assert own["end"].tolist() == [1, 2, 3, 4, 5]
    assert trace.marks["cycle"].tolist() == [0, 5]
    assert [trace.mark_name(row) for row in trace.marks["row"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": [(0, 9)]}, r"Cannot trace node \(0, 9\): 'hand' runs on 1 x 2 nodes; count from \(0, 0\)"),
        ({"nodes": 3}, r"Cannot trace nodes 3; give \(row, col\) pairs, or None for all of them"),
        ({"nodes": [3]}, r"Cannot trace node 3; give \(row, col\) pairs"),
        ({"nodes": []}, "Cannot trace no node at all"),
        ({"window": (5, 5)}, r"Cannot trace window \(5, 5\); give"),
        ({"window": 7}, "Cannot trace window 7; give"),
        ({"window": (63, 70)}, "Cannot trace from cycle 63 on: the run ends at 63; begin earlier"),
        ({"bins": 0}, "Cannot trace in 0 time bins; use 1 to 4096"),
    ],
)
def test_what_a_trace_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(pushed(), MINI).trace(**options)


def test_a_bound_has_no_trace() -> None:
    with pytest.raises(InputError, match="time it with fidelity='packet'"):
        simulate(pushed(), MINI, fidelity="bound").trace()


def test_a_full_note_of_transfers_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = simulate(PROGRAMS[2], MINI)
    whole = timing.trace()
    monkeypatch.setattr(memory, "MOVES_WORDS", 40)  # ten transfers at a time
    few = timing.trace()
    for name in ("link_bytes", "sent_bytes", "received_bytes", "memory_read", "memory_write"):
        assert np.array_equal(getattr(few, name), getattr(whole, name)), name
