"""Cycle model: packets by hand, laws on random programs, both engines, errors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Asm, copy_program, matmul_program, summa_program

from accel.errors import DeadlockError, InputError, ProgramError, UnsupportedError
from accel.hardware import ChipSpec, chip
from accel.isa import layout as w
from accel.isa.program import Program
from accel.kernels import matmul
from accel.timing import Timing, simulate
from accel.timing.ledger import CAUSES

MINI = chip("mini")


def push_program(nbytes: int, source: int, target: tuple[int, int, int, int], copies: int = 1) -> Program:
    """Node `source` of a 4 x 4 mesh pushes a buffer to a rectangle; nobody waits."""
    a = Asm(4, 4)
    buffer = a.sram("buffer", (nbytes // 2,))
    a.role_of[:] = -1
    a.role_of[source] = 0
    with a.thread("push"):
        for _ in range(copies):
            a.copy(a.at(buffer), a.at(buffer), to=a.target(*target))
    return a.program()


def lawful(t: Timing, program: Program, spec: ChipSpec) -> None:
    """What holds for every run."""
    assert tuple(t.losses) == CAUSES
    assert sum(t.losses.values()) == sum(reversed(t.losses.values())) == (1.0 if t.cycles else 0.0)
    assert t.losses == pytest.approx({c: n / max(1, sum(t.loss_parts.values())) for c, n in t.loss_parts.items()})
    assert sum(t.loss_parts.values()) == spec.nodes * t.cycles * t.parts_per_cycle
    assert min(t.loss_parts.values()) >= 0
    assert t.bound_cycles <= t.cycles
    bound = simulate(program, spec, fidelity="bound")
    assert bound.cycles == t.bound_cycles
    assert bound.flops == t.flops
    assert sum(bound.loss_parts.values()) == spec.nodes * bound.cycles * bound.parts_per_cycle
    assert min(bound.loss_parts.values()) >= 0
    for level in ("memory_read", "memory_write", "sram"):
        assert bound.bytes[level] == t.bytes[level]
    ends = [0] + [s.end for s in t.critical_path]
    assert [s.start for s in t.critical_path] == ends[:-1]
    assert ends[-1] == t.cycles
    assert t.energy_low_j <= t.energy_j <= t.energy_high_j
    assert sum(t.energy_shares.values()) == pytest.approx(1.0)


def same(a: Timing, b: Timing) -> None:
    for name in ("cycles", "loss_parts", "events", "bytes", "critical_path", "stall_cycles", "bounds", "energy_j"):
        assert getattr(a, name) == getattr(b, name), name
    assert np.array_equal(a.link_bytes, b.link_bytes)
    assert all(np.array_equal(a.busy[unit], b.busy[unit]) for unit in a.busy)


# --- packets by hand on mini: 64 B a cycle, 1 cycle a hop, packets of 1,024 B; a copy is issued by cycle 4 ---------


@pytest.mark.parametrize(("col", "nbytes"), [(1, 64), (2, 512), (3, 1024), (3, 1030), (2, 4096)])
def test_push_takes_hops_plus_serialisation(col: int, nbytes: int) -> None:
    t = simulate(push_program(nbytes, 0, (0, 0, col, col)), MINI)
    full, rest = divmod(nbytes, 1024)
    assert t.cycles == 4 + col + 16 * full + -(-rest // 64)
    assert t.bytes["mesh_byte_hops"] == col * nbytes


def test_push_to_the_own_node() -> None:
    t = simulate(push_program(4096, 5, (1, 1, 1, 1)), MINI)
    assert t.cycles == 4 + 64
    assert t.bytes["mesh_byte_hops"] == 0


def test_multicast_carries_a_packet_once_a_link() -> None:
    # from (1, 1) to all 16: 3 links along the row, 3 in each of 4 columns; the farthest node is 2 + 2 hops away
    t = simulate(push_program(1024, 5, (0, 3, 0, 3)), MINI)
    assert t.cycles == 4 + 4 + 16
    assert np.count_nonzero(t.link_bytes) == 15
    assert set(np.unique(t.link_bytes)) == {0, 1024}
    assert t.events == 15 + 16 + 2  # every link, every ejection, one instruction


def test_two_streams_share_a_link() -> None:
    a = Asm(1, 3)
    buffer = a.sram("buffer", (512,))
    a.role_of[:] = [-1, 0, 0]
    with a.thread("push"):
        a.copy(a.at(buffer), a.at(buffer), to=a.target(0, 0, 0, 0))
    t = simulate(a.program(), MINI)
    # (0, 1) starts at 4; the packet of (0, 2) reaches (0, 1) at 5, waits for the link until 20, and ends 1 + 16 later
    assert t.cycles == 20 + 1 + 16


def test_one_packet_of_buffer_slows_a_stream() -> None:
    # A slot is free again when the tail has left the next router, a cycle after it left this one: 17 cycles a packet.
    program = push_program(65536, 1, (0, 0, 0, 0))
    slow = simulate(program, MINI.replace(**{"noc.buffer_packets": 1}))
    assert slow.cycles == 4 + 63 * 17 + 1 + 16
    assert simulate(program, MINI).cycles == 4 + 1 + 64 * 16


def test_a_full_copy_queue_blocks_the_thread() -> None:
    program = push_program(1024, 1, (0, 0, 0, 0), copies=2)
    t = simulate(program, MINI.replace(**{"node.copy_queue_depth": 1}))
    # the second copy could be issued at 8, the first is sent at 20
    assert list(t.stall_cycles.values()) == [12]
    assert t.cycles == 20 + 1 + 16


def test_memory_read_and_its_row() -> None:
    a = Asm(4, 4)
    x, b = a.tensor("x", (2048,)), a.sram("b", (2048,))
    a.role_of[:] = -1
    a.role_of[2 * 4 + 3] = 0
    with a.thread("load"):
        a.copy(a.at(b), a.at(x), to=a.target(2, 2, 0, 3))
    t = simulate(a.program(), MINI)
    # request 3 hops west, latency 40, then 4 packets of 16 cycles, 3 hops east to the last node of the row
    assert t.cycles == 4 + 3 + 40 + 64 + 3
    assert t.bytes["memory_read"] == 4096
    assert t.link_bytes[2, :3, 0].tolist() == [4096] * 3
    assert t.link_bytes.sum() == 3 * 4096


@pytest.mark.parametrize("block", [0, 1, 2, 3])
def test_a_column_multicast_enters_by_address_block_and_column(block: int) -> None:
    a = Asm(4, 4)
    x, b = a.tensor("x", (4 * 2048,)), a.sram("b", (512,))
    a.role_of[:] = -1
    a.role_of[0] = 0
    with a.thread("load"):
        a.copy(a.at(b), a.at(x, slice(2048 * block, 2048 * block + 512)), to=a.target(0, 3, 2, 2))
    t = simulate(a.program(), MINI)
    entry = (block + 2) % 4  # block of the address plus column 2, over four routers
    assert t.link_bytes[entry, :2, 0].tolist() == [1024] * 2
    # request down to the entry router and data back along it; the farthest row of the column
    assert t.cycles == 4 + entry + 40 + 2 + max(entry, 3 - entry) + 16


def test_memory_bandwidth_is_an_exact_fraction() -> None:
    spec = MINI.replace(**{"ports.west.bytes_per_cycle": 400.0, "ports.west.edge_bytes_per_cycle": 1000.0,
                           "ports.west.routers": [[0, 0], [1, 0], [2, 0], [3, 0]],
                           "ports.west.link_bytes_per_cycle": 1024, "noc.link_bytes_per_cycle": 1024,
                           "node.mesh_bytes_per_cycle": 1024})  # fmt: skip
    a = Asm(1, 1)
    x, b = a.tensor("x", (50, 1024)), a.sram("b", (50, 1024))
    with a.thread("load"):
        a.copy(a.at(b), a.at(x))
    # 100 packets of 1,024 B at 400 B a cycle are 256 cycles, not 100 x 3
    assert simulate(a.program(), spec).cycles == 44 + 256


def test_store_shares_the_port_and_is_acknowledged() -> None:
    a = Asm(1, 1)
    x, b, s = a.tensor("x", (512,), use="out"), a.sram("b", (512,)), a.sem("s")
    with a.thread("store"):
        a.copy(a.at(x), a.at(b), sent=s)
        a.wait(s)
    t = simulate(a.program(), MINI)
    assert t.bytes == {"memory_read": 0, "memory_write": 1024, "mesh_byte_hops": 0, "sram": 1024}
    assert t.cycles == 4 + 16 + 40


# --- laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: copy_program(2, 3), lambda: matmul_program(17, 9, 21), lambda: summa_program(2, 3, 16, 24, 8, 5),
    lambda: push_program(5000, 6, (0, 3, 1, 2), copies=3),
])  # fmt: skip
def test_plain_engine_equals_the_compiled_one(make: object) -> None:
    program = make()  # type: ignore[operator]
    t = simulate(program, MINI)
    same(t, simulate(program, MINI, engine="plain"))
    same(t, simulate(program, MINI))
    lawful(t, program, MINI)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Legal programs without deadlock: each node works, moves data to others and collects what it was sent."""
    rows, cols = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    a = Asm(rows, cols)
    x, y = a.tensor("x", (64, 64)), a.tensor("y", (64, 64), use="out")
    big, f, arrived, local = a.sram("big", (64, 64)), a.sram("f", (64, 64), "fp32"), a.sem("arrived"), a.sem("local")
    sends = draw(st.integers(0, 4))
    with a.thread("move"):
        for _ in range(sends):
            n = draw(st.integers(1, 64))
            src = draw(st.sampled_from([big, x]))
            a.copy(a.at(big, slice(0, n)), a.at(src, slice(0, n)), to=w.TARGET_ALL, done=arrived)
            if draw(st.booleans()):
                a.copy(a.at(y, slice(0, n)), a.at(big, slice(0, n)), sent=local)
                a.wait(local)
        a.wait(arrived, sends * rows * cols)
    if draw(st.booleans()):
        owner = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
        with a.thread("pull"):
            of, n = a.target(owner[0], owner[0], owner[1], owner[1]), draw(st.integers(1, 64))
            pulled, sent = a.sem("pulled"), a.sem("sent")
            a.emit(
                "pull", dst=a.at(big, slice(0, n)), src=a.at(big, slice(0, n)), of=of, done=(pulled, 0), sent=(sent, 0)
            )
            a.wait(pulled)
            with a.when(a.predicate(*((a.expr(params=[(p, 1)]), -x, w.REL_EQ) for p, x in enumerate(owner)))):
                a.wait(sent, rows * cols)  # every node pulls from it
    with a.thread("work"), a.loop(draw(st.integers(0, 5))):
        m, n, k = (draw(st.integers(1, 64)) for _ in range(3))
        a.matmul(a.mat(f, slice(0, m), slice(0, n)), a.mat(big, slice(0, m), slice(0, k)),
                 a.mat(big, slice(0, k), slice(0, n)), draw(st.booleans()))  # fmt: skip
        if draw(st.booleans()):
            a.emit("vec.muli", dst=a.at(f, slice(0, n)), x=a.at(f, slice(0, n)), imm=2.0)
        if draw(st.booleans()):
            a.barrier()
    return a.program()


@settings(max_examples=40)
@given(program=programs(), buffers=st.integers(1, 4), depth=st.integers(1, 3), packet=st.sampled_from([64, 192, 1024]))
def test_laws_on_random_programs(program: Program, buffers: int, depth: int, packet: int) -> None:
    spec = MINI.replace(**{"noc.buffer_packets": buffers, "node.copy_queue_depth": depth, "noc.packet_bytes": packet})
    lawful(simulate(program, spec), program, spec)


@settings(max_examples=15)
@given(program=programs(), share=st.sampled_from([0.25, 0.5, 0.9]))
def test_slower_memory_is_never_faster_than_its_bound(program: Program, share: float) -> None:
    spec = MINI.replace(**{"ports.west.efficiency": share})
    t = simulate(program, spec)
    moved = t.bytes["memory_read"] + t.bytes["memory_write"]
    assert t.cycles * 64 * Fraction(share) >= moved


@pytest.mark.parametrize(("name", "n"), [("mini", 512), ("d1", 1024)])
def test_short_packets_change_the_cycles_of_a_product_by_less_than_a_percent(name: str, n: int) -> None:
    # What is not packet size is counted exactly, so a large effect of it would be a fault of the network model.
    program = matmul.build(chip(name), m=n, n=n, k=n)
    whole, quarter = program.time(packet_bytes=1024), program.time(packet_bytes=256)
    assert abs(quarter.cycles / whole.cycles - 1) < 0.01
    assert quarter.bytes == whole.bytes


@pytest.mark.parametrize("packet", [64, 128, 256, 512])
def test_packet_size_conserves_bytes(packet: int) -> None:
    program = summa_program(3, 4, 16, 16, 32, 6)
    a, b = simulate(program, MINI), simulate(program, MINI, packet_bytes=packet)
    assert a.bytes == b.bytes
    assert np.array_equal(a.link_bytes, b.link_bytes)


def test_logical_columns_follow_the_map() -> None:
    # Logical columns 0..2 on physical 3, 1, 0: a row multicast from logical 0 crosses every link westward once.
    spec = MINI.replace(**{"mesh.cols": 3, "mesh.column_map": [3, 1, 0]})
    a = Asm(4, 3)
    buffer = a.sram("buffer", (512,))
    a.role_of[:] = -1
    a.role_of[0] = 0
    with a.thread("push"):
        a.copy(a.at(buffer), a.at(buffer), to=a.target(0, 0, 0, 2))
    t = simulate(a.program(), spec)
    assert t.link_bytes[0, :, 1].tolist() == [0, 1024, 1024, 1024]
    assert t.link_bytes.sum() == 3 * 1024
    assert t.cycles == 4 + 3 + 16
    assert t.bytes["sram"] == 4 * 1024  # one read, three nodes written: not the unmapped column between


def test_memory_grows_with_the_program() -> None:
    # More tokens, copies and log entries than the first allocation holds.
    a = Asm(4, 4)
    s, buffer = a.sem("s"), a.sram("buffer", (32,))
    with a.thread("storm"), a.loop(600):
        a.inc(s, at=w.TARGET_ALL)
        a.copy(a.at(buffer), a.at(buffer), to=w.TARGET_ALL)
    program = a.program()
    spec = MINI.replace(**{"node.issue_cycles": 0, "node.copy_issue_cycles": 0, "node.copy_queue_depth": 1000})
    t = simulate(program, spec)
    lawful(t, program, spec)
    assert t.bytes["mesh_byte_hops"] == 16 * 600 * 15 * 64


# --- refusals --------------------------------------------------------------------------------------------------------


def test_deadlock_names_line_and_nodes() -> None:
    a = Asm(1, 2)
    s = a.sem("s")
    with a.thread("main"):
        a.wait(s, 3)
    with pytest.raises(DeadlockError, match=r"hand\.py:1: .*waits for 3 on semaphore 0") as caught:
        simulate(a.program(), MINI)
    assert caught.value.findings[0].nodes == ((0, 0), (0, 1))


@pytest.mark.parametrize(("options", "message"), [
    ({"fidelity": "exact"}, "fidelity 'exact'"), ({"engine": "fast"}, "engine 'fast'"),
    ({"packet_bytes": 100}, "packet_bytes=100"), ({"packet_bytes": 0}, "packet_bytes=0"),
    ({"packet_bytes": True}, "packet_bytes=True"),
])  # fmt: skip
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(copy_program(), MINI, **options)  # type: ignore[arg-type]


def test_bad_subjects() -> None:
    with pytest.raises(InputError, match=r"isa\.Program"):
        simulate("program", MINI)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="ChipSpec"):
        simulate(copy_program(), "mini")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="5 x 1 nodes"):
        simulate(copy_program(5, 1), MINI)
    with pytest.raises(InputError, match="4 threads"):
        simulate(copy_program(), MINI.replace(**{"node.threads": 2}))


def test_rows_the_model_refuses() -> None:
    a = Asm(1, 1)
    f, h = a.sram("f", (8, 8), "fp32"), a.sram("h", (8, 8), "fp16")
    with a.thread("main"):
        a.matmul(a.mat(f), a.mat(h), a.mat(h))
    with pytest.raises(UnsupportedError, match="matmul in 'fp16'"):
        simulate(a.program(), chip("d1"))
    a = Asm(1, 1)
    with a.thread("main"):
        a.inc(0, at=a.target(0, 0, 0, 1))
    with pytest.raises(ProgramError, match=r"hand\.py:1: inc \(row 0\) .*target outside the mesh"):
        simulate(a.program(), MINI)
    a = Asm(1, 1)
    with a.thread("main"):
        a.inc(9999)
    with pytest.raises(ProgramError, match="semaphore"):
        simulate(a.program(), MINI)
