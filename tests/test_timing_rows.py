"""Masks, moves by index, generators, pulls, rings and biases: a microprogram a row, timed with a pencil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from programs import Asm, Ref

from accel.errors import ProgramError
from accel.hardware import chip
from accel.isa import layout as w
from accel.isa.schema import Engine
from accel.isa.table import ROWS
from accel.timing import prepare, simulate

MINI = chip("mini")
INDEX = (0, 0, 0, 0, 100, 1)  # logical index of a (4, 100) tensor


def tweaked(p: Asm, ref: Ref, **words: int) -> Ref:
    """The same operand through a view with other words, V_RING_BYTES=64 and the like."""
    row = list(list(p.views)[ref.view])
    for name, value in words.items():
        row[getattr(w, name)] = value
    return Ref(p.views.setdefault(tuple(row), len(p.views)), ref.address, ref.expr)


def rows(emit: Callable[[Asm], Any]) -> int:
    """Cycles of a one-thread program on one node, less the cycle in which its one instruction issues."""
    p = Asm()
    with p.thread("main"):
        emit(p)
    timing = simulate(p.program(marks=("here",)), MINI)
    assert simulate(p.program(marks=("here",)), MINI, fidelity="bound").cycles <= timing.cycles
    assert sum(timing.loss_parts.values()) == MINI.nodes * timing.cycles * timing.parts_per_cycle
    return timing.cycles - 1


def compare(p: Asm) -> None:
    x, y, mask = p.sram("x", (64, 16), "fp32"), p.sram("y", (64, 16), "fp32"), p.sram("mask", (64, 16), "uint8")
    p.emit("vec.compare", dst=p.at(mask), x=p.at(x), y=p.at(y), relation=3)


def comparei(p: Asm) -> None:
    x, mask = p.sram("x", (64, 16), "fp32"), p.sram("mask", (64, 16), "uint8")
    p.emit("vec.comparei", dst=p.at(mask), x=p.at(x), imm=0.0, relation=3)


def select(p: Asm) -> None:
    x, y, mask = p.sram("x", (4, 100)), p.sram("y", (4, 100)), p.sram("mask", (4, 100), "uint8")
    p.emit("vec.select", dst=p.at(x), mask=p.at(mask), x=p.at(x), y=p.at(y))


def transpose(p: Asm) -> None:
    x, y = p.sram("x", (40, 100)), p.sram("y", (100, 40))
    p.emit("vec.transpose", dst=p.at(y), x=p.at(x))


def iota(p: Asm) -> None:
    p.emit("vec.iota", dst=p.at(p.sram("x", (4, 100), "int32")), index=INDEX)


def random(p: Asm) -> None:
    p.emit("vec.random", dst=p.at(p.sram("x", (4, 100), "fp32")), stream=1, index=INDEX)


def cast_sr(p: Asm) -> None:
    x, y = p.sram("x", (4, 100), "fp32"), p.sram("y", (4, 100))
    p.emit("vec.cast_sr", dst=p.at(y), x=p.at(x), stream=1, index=INDEX)


def gather(p: Asm) -> None:
    x, y, at = p.sram("x", (50, 100), "fp32"), p.sram("y", (10, 100), "fp32"), p.sram("at", (10,), "int32")
    p.emit("vec.gather", dst=p.at(y), x=p.at(x), index=p.at(at))


def scatter_add(p: Asm) -> None:
    x, y, at = p.sram("x", (50, 100), "fp32"), p.sram("y", (10, 100), "fp32"), p.sram("at", (10,), "int32")
    p.emit("vec.scatter_add", dst=p.at(x), x=p.at(y), index=p.at(at))


def integer_add(p: Asm) -> None:
    x = p.sram("x", (4, 100), "int8")
    p.emit("vec.add", dst=p.at(x), x=p.at(x), y=p.at(x))


def integer_matmul(p: Asm) -> None:
    a, b, c = p.sram("a", (16, 16), "int8"), p.sram("b", (16, 16), "uint8"), p.sram("c", (16, 16), "int32")
    p.matmul(p.mat(c), p.mat(a), p.mat(b))


def probe(p: Asm) -> None:
    x = p.sram("x", (4, 100))
    p.emit("probe", x=p.at(x), name=0)
    p.emit("vec.fill", dst=p.at(x), imm=0.0)
    p.emit("probe", x=p.at(x), name=0)


def broadcast(p: Asm) -> None:
    x, y = p.sram("x", (64, 16), "fp32"), p.sram("y", (1,), "fp32")
    p.emit("vec.add", dst=p.at(x), x=p.at(x), y=p.view(y, (64, 16), (0, 0)))


def ring(p: Asm) -> None:
    x, y = p.sram("x", (8, 100)), p.sram("y", (4, 100))
    turn = tweaked(p, p.view(x, (4, 100), (200, 2), 1200), V_RING_BYTES=1600)  # its last two rows are the first of x
    p.emit("vec.copy", dst=p.at(y), x=turn)


def scaled(p: Asm) -> None:
    x, scale = p.sram("x", (64, 64), "cfp8-143"), p.sram("scale", (2,), "uint8")
    own = tweaked(p, p.at(x), V_SCALAR=1 + scale.address)
    p.emit("vec.add", dst=own, x=own, y=tweaked(p, p.at(x), V_SCALAR=2 + scale.address))


def scaled_move(p: Asm) -> None:
    x, scale = p.sram("x", (64, 64), "cfp8-143"), p.sram("scale", (2,), "uint8")
    own = tweaked(p, p.at(x), V_SCALAR=1 + scale.address)
    p.emit("vec.copy", dst=own, x=own)


# Of each: passes and 8 of fill, or the port work (two loads, one store, two accesses a cycle) where that is longer.
@pytest.mark.parametrize(
    ("emit", "cycles"),
    [
        (compare, 96),  # 64 rows of 64 B: 128 loads and 64 stores of 16 B
        (comparei, 64 + 8),  # 64 loads and 64 stores
        (select, 28),  # 4 x (2 of the mask + 4 + 4) loads, 16 stores; 4 x 4 passes and 8 are 24
        (transpose, 2 * 40 * 4 + 2 * 40 + 8),  # 100 rows of 80 B are 200 passes, more than 40 x 4; two times
        (iota, 4 * 7 + 8),
        (random, 4 * 7 + 8),
        (cast_sr, 4 * 7 + 8),  # of the wider side, 400 B a row
        (gather, 10 * 7 + 8),  # 10 + 70 loads, 70 stores: 75
        (scatter_add, (10 + 70 + 70 + 70) // 2),
        (integer_add, 4 * 2 + 8),  # rows of 100 B: 16 loads, 8 stores: 12
        (integer_matmul, 16 + 16 + 8),  # as in bf16: 16 micro-steps, 1,024 B of int32 out
        (probe, 4 * 4 + 8),  # that of the fill
        (broadcast, 64 + 8),  # 64 + 1 loads and 64 stores: 65
        (ring, 4 * 4 + 8),
        (scaled, (128 + 3 + 64 + 1) // 2),  # three views read a bias
        (scaled_move, 64 + 8),  # none does
    ],
)
def test_rows(emit: Callable[[Asm], None], cycles: int) -> None:
    assert rows(emit) == cycles


def test_passes_are_fields_of_the_chip() -> None:
    p = Asm()
    with p.thread("main"):
        random(p)
        cast_sr_of = p.sram("z", (4, 100), "fp32"), p.sram("y", (4, 100))
        p.emit("vec.cast_sr", dst=p.at(cast_sr_of[1]), x=p.at(cast_sr_of[0]), stream=1, index=INDEX)
        p.emit("vec.transpose", dst=p.at(p.sram("b", (100, 40))), x=p.at(p.sram("a", (40, 100))))
    fields = {"random_passes": 5, "stochastic_passes": 3, "transpose_passes": 1}
    slow = MINI.replace(**{f"node.vector.{name}": value for name, value in fields.items()})
    assert simulate(p.program(), slow).cycles == (1 + 5 * 28 + 8) + (1 + 3 * 28 + 8) + (1 + 200 + 8)


def pulls(count: int = 1, owner: int = 3, busy: bool = False) -> Asm:
    """Node 0 of a row of four pulls 1,024 B from `owner`, which pushes as much to node 2 where it is busy."""
    p = Asm(1, 4)
    x, y, done, sent = p.sram("x", (512,)), p.sram("y", (512,)), p.sem("done"), p.sem("sent")
    of = p.target(0, 0, owner, owner)
    with p.thread("main"):
        for _ in range(count):
            p.emit("pull", dst=p.at(y), src=p.at(x), of=of, done=(done, 0), sent=(sent, 0))
        p.wait(done, count)
    p.next_role([1, 2] if owner == 3 else [1, 2, 3])
    with p.thread("main"):
        pass
    if owner == 3:
        p.next_role([3])
        with p.thread("main"):
            if busy:
                p.copy(p.at(x), p.at(x), to=p.target(0, 0, 2, 2))
            p.wait(sent, count)
    return p


def copies_of(p: Asm, **fields: int) -> tuple[list[int], list[int]]:
    trace = simulate(p.program(), MINI.replace(**{name.replace("__", "."): n for name, n in fields.items()})).trace()
    own = trace.copies["node"] == 0
    assert set(trace.copies["source"][own].tolist()) <= {0, 3}
    return trace.copies["sent"][own].tolist(), trace.copies["done"][own].tolist()


def test_a_pull_asks_and_the_data_comes_back() -> None:
    # issued by 4; 3 hops and a cycle of header there: 8; 16 cycles through the owner's port; 3 hops back
    assert copies_of(pulls()) == ([24], [27])
    assert copies_of(pulls(owner=0)) == ([4 + 1 + 16], [4 + 1 + 16])
    # a header of 200 B takes 4 cycles
    assert copies_of(pulls(), noc__header_bytes=200) == ([27], [30])


def test_a_pull_queues_behind_what_its_owner_sends() -> None:
    # the owner's own packet holds its port from 4 to 20
    assert copies_of(pulls(busy=True)) == ([36], [39])


def test_pulls_take_places_in_the_queue_of_their_issuer() -> None:
    # the second could be issued at 8 and waits until the first is sent at 24: 24 + 4 there, 16, 3 back
    assert copies_of(pulls(2), node__copy_queue_depth=1) == ([24, 44], [27, 47])
    # with room for both, the second request is there at 12 and the port is free at 24
    assert copies_of(pulls(2)) == ([24, 40], [27, 43])


def test_the_owner_of_a_pull_hears_when_it_may_write_again() -> None:
    timing = simulate(pulls().program(), MINI)
    assert timing.cycles == 27
    assert [segment.cause for segment in timing.critical_path] == ["issue", "wait_mesh"]
    assert sorted(timing.stall_cycles.values()) == [27 - 5, 24 - 1]
    assert timing.bytes["mesh_byte_hops"] == 3 * 1024
    assert sorted(totals.mesh_bytes for totals in timing.lines.values()) == [0, 0, 1024]  # by the line of the pull


def refused(fill: Callable[[Asm], None], cols: int = 2) -> str:
    p = Asm(1, cols)
    with p.thread("main"):
        fill(p)
    with pytest.raises(ProgramError) as caught:
        simulate(p.program(), MINI)
    return str(caught.value)


def test_what_a_run_refuses_is_refused_in_its_words() -> None:
    def pull(p: Asm) -> None:
        x = p.sram("x", (8,))
        p.emit("pull", dst=p.at(x), src=p.at(x), of=w.TARGET_ALL, done=(-1, 0), sent=(-1, 0))

    def store(p: Asm) -> None:
        y, x = p.tensor("y", (8,), use="out"), p.sram("x", (8,))
        p.copy(p.at(y), p.at(x), to=p.target(0, 0, 1, 1))

    def wait(p: Asm) -> None:
        p.wait(p.sem("s"), -1)

    def inc(p: Asm) -> None:
        p.inc(p.sem("s"), -2)

    def loop(p: Asm) -> None:
        with p.loop(-3):
            p.barrier()

    def copy(p: Asm) -> None:
        x = p.sram("x", (8,))
        p.copy(p.at(x), p.at(x), done=p.sem("s") + 1)

    def barrier(p: Asm) -> None:
        p.barrier(p.target(0, 0, 1, 1))

    where = "hand.py:1: {} (row 0) on node (0, 0) "
    assert refused(pull) == where.format("pull") + "pulls from more than one node; name the one whose SRAM is read"
    outside = "names a target outside the mesh; a store names its own node, a pull one node"
    assert refused(store) == where.format("copy") + outside
    negative = "has a count of {}; counts and trips cannot be negative"
    assert refused(wait) == where.format("wait") + negative.format(-1)
    assert refused(inc) == where.format("inc") + negative.format(-2)
    assert refused(loop) == where.format("loop") + negative.format(-3)
    assert refused(copy) == where.format("copy") + "names semaphore 1 of 1; use one that the program has"
    assert refused(barrier) == where.format("barrier") + (
        "joins a barrier of nodes that it is not one of; correct its target"
    )


def test_every_row_of_the_table_is_priced_or_has_a_class() -> None:
    units = (Engine.MATRIX, Engine.VECTOR)
    assert {row.mnemonic for row in ROWS if row.engine not in units} == set(prepare._CLASS)
