"""Copies, tokens and ragged blocks computed with a pencil from docs/cycle-model.md, and simulated to the same cycle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from programs import Asm

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec, chip
from accel.isa import layout as w
from accel.timing import Timing, simulate

MINI, D1 = chip("mini"), chip("d1")


def timed(p: Asm, spec: ChipSpec = MINI) -> Timing:
    """Time a program; whatever it does, its bound is below and its ledger has no residual and no negative part."""
    t = simulate(p.program(), spec)
    assert simulate(p.program(), spec, fidelity="bound").cycles <= t.cycles
    assert sum(t.loss_parts.values()) == spec.nodes * t.cycles * t.parts_per_cycle
    assert min(t.loss_parts.values()) >= 0
    return t


def only(p: Asm, node: int) -> None:
    """What follows is for one node; the others of the mesh do nothing."""
    with p.thread("main"):
        pass
    p.next_role([node])


@pytest.mark.parametrize(
    ("m", "n", "k", "accumulate", "cycles"),
    [
        # groups of 8: rows 2 + 1, columns 2 + 1, 3 k-steps: 3 (4 + 2 + 2 + 1) = 27; blocks leave in 16, 8, 8, 4; fill 8
        (17, 23, 10, False, 27 + 36 + 8),
        # in: 16, 8, 8, 4 at two a cycle; pairs (0, 16) 8, (16, 8) 16, (8, 8) 8, (8, 4) 8, (4, 0) 4
        (17, 23, 10, True, 27 + 44 + 8),
        # one k-step of 2, 2, 1 groups; (0, 8) 4, (8, 8) 8, (8, 4) 8, (4, 0) 4; 48 accesses are 24 cycles: hidden
        (40, 8, 1, True, 5 + 24 + 8),
    ],
)
def test_ragged_matmul(m: int, n: int, k: int, accumulate: bool, cycles: int) -> None:
    p = Asm()
    a, b, c = p.sram("a", (m, k)), p.sram("b", (k, n)), p.sram("c", (m, n), "fp32")
    with p.thread("main"):
        p.matmul(p.mat(c), p.mat(a), p.mat(b), accumulate=accumulate)
    assert timed(p).cycles == 1 + cycles


@pytest.mark.parametrize(
    ("node", "to", "nbytes", "cycles"),
    [
        ((5, 7), (5, 5, 7, 7), 3000, 7 + 400 + (16 + 16 + 15) + 7),  # 7 hops there, latency, 3 packets, 7 hops back
        ((3, 2), (9, 9, 0, 18), 2048, (6 + 2) + 400 + 32 + 18),  # enters in row 9; its far end is 18 hops away
        ((0, 0), (0, 17, 5, 5), 2048, 5 + 400 + 32 + 5 + 12),  # a column: address 0 + column 5, so row 5; 12 rows down
        ((3, 3), (2, 4, 3, 6), 1000, 3 + 400 + 16 + 6 + 1),  # a rectangle enters in row 0 + 3
    ],
)
def test_reads_on_d1(node: tuple[int, int], to: Sequence[int], nbytes: int, cycles: int) -> None:
    p = Asm(18, 19)
    x, b, s = p.tensor("x", (nbytes // 2,)), p.sram("b", (nbytes // 2,)), p.sem("s")
    only(p, node[0] * 19 + node[1])
    with p.thread("main"):
        p.copy(p.at(b), p.at(x), to=p.target(*to), done=s)
    assert timed(p, D1).cycles == 4 + cycles


def test_two_flows_take_turns_on_a_link() -> None:
    p = Asm(1, 4)
    b, c, s = p.sram("b", (2048,)), p.sram("c", (2048,)), p.sem("s")
    far = p.target(0, 0, 3, 3)
    with p.thread("main"):
        p.copy(p.at(b), p.at(b), to=far, done=s)
    p.next_role([1])
    with p.thread("main"):
        p.copy(p.at(c), p.at(c), to=far, done=s)
    p.next_role([2, 3])
    with p.thread("main"):
        pass
    # link 1-2 carries 8 packets of 16 cycles in turns from cycle 4 on, without a gap; two hops on
    t = timed(p)
    assert t.cycles == 4 + 8 * 16 + 2
    assert t.link_bytes[0, :3, 0].tolist() == [4096, 8192, 8192]


def test_full_copy_queue() -> None:
    p = Asm(1, 2)
    b, s = p.sram("b", (512,)), p.sem("s")
    with p.thread("main"):
        for _ in range(24):
            p.copy(p.at(b), p.at(b), to=p.target(0, 0, 1, 1), sent=s)
    p.next_role([1])
    with p.thread("main"):
        pass
    # copy i is issued by 4 (i + 1), and copy j has left at 20 + 16 j: number 21 finds 16 in the queue at 88 and waits
    # until 100; the next two are ready at 104 and 120 and wait until 116 and 132
    t = timed(p)
    assert list(t.stall_cycles.values()) == [12, 12, 12]
    assert t.cycles == 4 + 24 * 16 + 1


def test_one_packet_slot_a_link_costs_a_cycle_a_packet() -> None:
    p = Asm(1, 4)
    b, s = p.sram("b", (1536,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(b), p.at(b), to=p.target(0, 0, 3, 3), done=s)
    p.next_role([1, 2, 3])
    with p.thread("main"):
        pass
    assert timed(p).cycles == 4 + 3 * 16 + 3
    # a slot is free again when its packet has left by the next link, a cycle after it came: packets follow 17 apart
    assert timed(p, MINI.replace(**{"noc.buffer_packets": 1})).cycles == 4 + 2 * 17 + 16 + 3


def test_slow_mesh_ports_hold_the_head_back() -> None:
    p = Asm(1, 4)
    b, s = p.sram("b", (1536,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(b), p.at(b), to=p.target(0, 0, 3, 3), done=s)
    p.next_role([1, 2, 3])
    with p.thread("main"):
        pass
    # 64 cycles a packet in and out; the first head leaves 48 late, so that its 16 cycles of link end with the port's
    assert timed(p, MINI.replace(**{"node.mesh_bytes_per_cycle": 16})).cycles == 4 + 48 + 3 + 3 * 64


@pytest.mark.parametrize("rate", [0.005, 0.3, 1.0, 30.01, 100 / 3, 63.999])
def test_memory_is_as_slow_as_its_field_says(rate: float) -> None:
    p = Asm()
    size = 1000 if rate < 1 else 240_000
    x, b, s = p.tensor("x", (size // 2,)), p.sram("b", (size // 2,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(b), p.at(x), done=s)
    cycles = timed(p, MINI.replace(**{"ports.west.bytes_per_cycle": rate})).cycles
    # never faster, and slower by no more than a 64th of a byte a cycle and the last cycle's end
    assert size / rate <= cycles - 44 <= size / rate * (1 + 1 / (64 * max(rate, 1 / rate))) + 2


@pytest.mark.parametrize(("memory", "edge"), [(1e12, 1e12), (99_999.9, 77_777.7), (1e5 / 3, 64.0), (64.0, 1e9)])
def test_rates_that_no_clock_holds_together_are_as_fast_as_they_say(memory: float, edge: float) -> None:
    p = Asm()
    x, b, s = p.tensor("x", (32_000,)), p.sram("b", (32_000,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(b), p.at(x), done=s)
    rates = {"ports.west.bytes_per_cycle": memory, "ports.west.edge_bytes_per_cycle": edge}
    # the node's own port takes 64 B a cycle, which is what binds
    assert timed(p, MINI.replace(**rates)).cycles == 44 + 1000


def test_ports_that_are_too_slow_to_count() -> None:
    p = Asm()
    x, b = p.tensor("x", (512,)), p.sram("b", (512,))
    with p.thread("main"):
        p.copy(p.at(b), p.at(x))
    with pytest.raises(UnsupportedError, match="Cannot time a port as slow as 'west', 1e-16 bytes a cycle"):
        simulate(p.program(), MINI.replace(**{"ports.west.bytes_per_cycle": 1e-16}))


def test_write_and_acknowledgement() -> None:
    p = Asm(4, 4)
    y, b, s = p.tensor("y", (1250,), use="out"), p.sram("b", (1250,)), p.sem("s")
    only(p, 2 * 4 + 3)
    with p.thread("main"):
        p.copy(p.at(y), p.at(b), done=s)
    # three hops west, 2,500 B at 64 a cycle are 40, latency 40, three hops back
    assert timed(p).cycles == 4 + 3 + 40 + 40 + 3


def test_a_write_ends_no_sooner_than_its_tail_arrives() -> None:
    fast = {"link_bytes_per_cycle": 128, "edge_bytes_per_cycle": 1e4, "bytes_per_cycle": 1e4}
    p = Asm()
    y, b, s = p.tensor("y", (512,), use="out"), p.sram("b", (512,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(y), p.at(b), done=s)
    # the node sends 64 B a cycle whatever the port could take
    spec = MINI.replace(**{f"ports.west.{name}": value for name, value in fast.items()})
    assert timed(p, spec).cycles == 4 + 16 + 40


def test_blocks_of_each_of_two_ports_rotate_over_its_routers() -> None:
    west = MINI.ports[0].to_dict()
    east = {**west, "name": "east", "routers": [[0, 3], [1, 3]]}
    p = Asm(2, 4)
    x, b, s = p.tensor("x", (4, 2048)), p.sram("b", (2048,)), p.sem("s")
    only(p, 0)
    with p.thread("main"):
        for block in range(4):
            p.copy(p.at(b), p.at(x, block), to=p.target(0, 1, 0, 0), done=s)
    t = timed(p, MINI.replace(ports=[{**west, "routers": [[0, 0], [1, 0]]}, east]))
    # column 0: blocks 0 and 2 enter west in rows 0 and 1, blocks 1 and 3 east in rows 0 and 1 and travel west
    assert t.link_bytes[0, 3, 1] == t.link_bytes[1, 3, 1] == 4096
    assert t.link_bytes[0, 0, 2] == t.link_bytes[1, 0, 3] == 2 * 4096


def test_remote_token() -> None:
    p = Asm(3, 4)
    s = p.sem("s")
    with p.thread("main"):
        p.inc(s, at=p.target(2, 2, 3, 3))
    p.next_role([11])
    with p.thread("main"):
        p.wait(s)
    p.next_role([n for n in range(12) if n not in (0, 11)])
    with p.thread("main"):
        pass
    assert timed(p).cycles == 1 + 5 + 8


def test_reduce_folds_its_lanes() -> None:
    p = Asm()
    x, y = p.sram("x", (4, 100), "fp32"), p.sram("y", (4, 1), "fp32")
    with p.thread("main"):
        p.emit("vec.reduce_sum", dst=p.at(y), x=p.at(x))
    # a row of 400 B is 7 passes and 4 levels of the tree
    assert timed(p).cycles == 1 + 4 * (7 + 4) + 8


def test_oldest_read_first_among_free_links() -> None:
    p = Asm(18, 19)
    x, b, s = p.tensor("x", (18, 5120)), p.sram("b", (5120,)), p.sem("s")
    row, west = p.expr(params=[(w.PARAM_ROW, 1)]), p.predicate((p.expr(params=[(w.PARAM_COL, 1)]), 0, w.REL_EQ))
    with p.thread("main"), p.when(west):
        source = p.at(x, 0, expr=p.expr(params=[(w.PARAM_ROW, 10240)]))
        p.copy(p.at(b), source, to=p.target(0, 0, 0, 18, (row, row, 0, 0)), done=s)
    # the rule of the manual taken literally, in hundredths of a cycle: 2.56 a packet of memory, 16 of link
    memory, links, left = 40400, [404] * 18, [10] * 18
    while any(left):
        now = memory // 100
        ready = [r for r in range(18) if left[r] and links[r] <= -(-memory // 100)]
        if not ready:
            memory = 100 * min(links[r] for r in range(18) if left[r] and links[r] > now)
            continue
        links[ready[0]] = -(-memory // 100) + 16
        left[ready[0]] -= 1
        memory += 256
    assert timed(p, D1).cycles == max(links) + 18


def test_nodes_without_a_role_take_no_part_in_a_barrier() -> None:
    p = Asm(1, 3)
    with p.thread("main"):
        p.barrier()
    p.role_of[2] = -1
    assert simulate(p.program(), MINI).cycles == 1 + MINI.noc.barrier_cycles  # its issue, then the barrier's cost


def test_tokens_go_to_the_thread_that_has_waited_longest() -> None:
    p = Asm(1, 1)
    s, first = p.sem("s"), p.sem("first")
    v = p.sram("v", (256, 16), "fp32")
    with p.thread("late"):  # begins to wait when its first token has come: at cycle 2 + 1
        p.wait(first)
        p.wait(s)
        p.emit("vec.fill", dst=p.at(v, slice(0, 100)), imm=0.0)
    with p.thread("early"):  # waits from cycle 1 on, in the thread of the greater number
        p.wait(s)
    with p.thread("give"):
        p.inc(first)
        p.emit("vec.fill", dst=p.at(v, slice(0, 20)), imm=0.0)
        p.inc(s)
        p.emit("vec.fill", dst=p.at(v, slice(0, 20)), imm=0.0)
        p.inc(s)
    t = simulate(p.program(), MINI)
    # issue 1 + 1, then 28 cycles of a 20-row fill, an issue: 31. The early thread takes that token and ends. Issue 32,
    # a fill to 60, an issue and a cycle on the way: 62. The late one: issue 63 and 108 cycles of its fill.
    assert t.cycles == 171


def test_a_busy_mesh_port_pushes_back_to_its_senders() -> None:
    p = Asm(1, 3)
    b, c, s = p.sram("b", (3072,)), p.sram("c", (3072,)), p.sem("s", 2)
    v = p.sram("v", (256, 16), "fp32")
    for node in (0, 2):
        if node:
            p.next_role([node])
        with p.thread("main"):
            for _ in range(node * 5 // 2):
                p.inc(s + 1)  # a cycle each, so that the second flow starts 5 later
            p.copy(p.at(c if node else b), p.at(b), to=p.target(0, 0, 1, 1), sent=s)
            p.wait(s)
            p.emit("vec.fill", dst=p.at(v, slice(0, 200)), imm=0.0)  # 208 cycles: longer than what is on its way
    p.next_role([1])
    with p.thread("main"):
        pass
    # the rule of the manual taken literally, one slot a buffer: a packet holds it until its tail has left
    port, issued, inject, link, near, far, sent = 0, [4, 9], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]
    left = [6, 6]
    while any(left):
        enters = [max(issued[f], inject[f], near[f]) for f in (0, 1)]
        leaves = [max(enters[f], link[f], far[f]) for f in (0, 1)]
        f = min((f for f in (0, 1) if left[f]), key=lambda f: leaves[f])
        left[f] -= 1
        inject[f] = sent[f] = enters[f] + 16
        near[f] = link[f] = leaves[f] + 16
        far[f] = port = max(port, leaves[f] + 1) + 16
    assert timed(p, MINI.replace(**{"noc.buffer_packets": 1})).cycles == max(sent) + 1 + 208
