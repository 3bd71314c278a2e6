"""Hand-computed microprograms on `mini`: each cause of the loss ledger, pinned to the cycle.

A 16 x 16 x 16 matmul takes 40 cycles: 16 compute, 16 to store its block, 8 fill; issue is 1, a copy's 4.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from programs import Asm

from accel.hardware import chip
from accel.isa import layout as w
from accel.timing import Timing, simulate

MINI = chip("mini")


class Micro(Asm):
    """One or two nodes with a 16-cube matmul and a vector row at hand."""

    def __init__(self, cols: int = 1) -> None:
        super().__init__(1, cols)
        self.a, self.b = self.sram("a", (16, 16)), self.sram("b", (16, 16))
        self.acc, self.v = self.sram("acc", (16, 16), "fp32"), self.sram("v", (256, 16), "fp32")

    def cube(self) -> None:
        self.matmul(self.mat(self.acc), self.mat(self.a), self.mat(self.b))

    def vector(self, rows: int) -> None:
        """rows + 8 cycles: a pass a row of 64 B and the fill."""
        self.emit("vec.addi", dst=self.at(self.v, slice(0, rows)), x=self.at(self.v, slice(0, rows)), imm=1.0)


def cycles_of(t: Timing) -> dict[str, float]:
    """Node-cycles by cause, without zeros and without the nodes that do nothing."""
    lost = {cause: n / t.parts_per_cycle for cause, n in t.loss_parts.items()}
    assert sum(lost.values()) == MINI.nodes * t.cycles
    return {cause: n for cause, n in lost.items() if n and cause != "unused_nodes"}


def test_useful_accumulator_fill_and_prologue() -> None:
    p = Micro()
    with p.thread("main"):
        p.cube()
    t = simulate(p.program(), MINI)
    assert t.cycles == 41
    assert cycles_of(t) == {"useful": 16, "accumulator": 16, "issue": 8, "prologue": 1}
    assert t.loss_parts["unused_nodes"] == 15 * 41 * t.parts_per_cycle
    assert t.flops == 2 * 16**3
    assert t.utilization == pytest.approx(2 * 16**3 / (16 * 512 * 41), rel=1e-15)


def test_tile_quantisation() -> None:
    p = Micro()
    with p.thread("main"):
        p.matmul(p.mat(p.acc, slice(0, 9)), p.mat(p.a, slice(0, 9), slice(0, 5)), p.mat(p.b, slice(0, 5)))
    t = simulate(p.program(), MINI)
    # 2 x 2 micro-steps, 2 k-steps: 8 cycles of which 9 * 16 * 5 / 256 are useful; a 16 x 16 block to store
    assert cycles_of(t) == {"useful": 2.8125, "tile_quantisation": 8 - 2.8125, "accumulator": 16, "issue": 8,
                            "prologue": 1}  # fmt: skip


def test_useful_flops_are_those_of_the_problem() -> None:
    p = Micro()
    with p.thread("main"):
        p.cube()
    t = simulate(p.program(flops=2 * 16**3 // 4), MINI)
    assert cycles_of(t) == {"useful": 4, "tile_quantisation": 12, "accumulator": 16, "issue": 8, "prologue": 1}


def test_vector_in_the_way_of_the_matrix_unit() -> None:
    p = Micro()
    with p.thread("main"):
        p.cube()
        p.vector(1)
        p.cube()
    t = simulate(p.program(), MINI)
    assert t.cycles == 41 + (1 + 9) + 41
    assert cycles_of(t) == {"useful": 32, "accumulator": 32, "issue": 16 + 2, "vector": 9, "prologue": 1}


def test_sram_port() -> None:
    p = Micro()
    view = p.at(p.v, slice(0, 64))
    with p.thread("main"):
        p.emit("vec.fma", dst=view, x=view, y=view, z=view)
    t = simulate(p.program(), MINI)
    # without a matmul the vector unit is accounted: 64 passes + 8 fill, but 4 x 64 accesses at 2 a cycle
    assert t.cycles == 1 + 128
    assert cycles_of(t) == {"useful": 64, "issue": 8, "sram_port": 56, "prologue": 1}


def test_half_as_wide_elements_are_twice_the_vector_peak() -> None:
    p = Micro()
    v = p.at(p.sram("h", (64, 32)))
    with p.thread("main"):
        p.emit("vec.fma", dst=v, x=v, y=v, z=v)
    t = simulate(p.program(), MINI)
    # 64 B are 32 bf16: a pass a row does 64 flops, all of them useful; ports as in fp32
    assert cycles_of(t) == {"useful": 64, "issue": 8, "sram_port": 56, "prologue": 1}
    assert t.flops == 64 * 32 * 2


def test_ports_are_shared_first_come_first_served() -> None:
    p = Micro()
    view = p.at(p.v, slice(0, 64))
    with p.thread("vector"):
        p.emit("vec.fma", dst=view, x=view, y=view, z=view)
    with p.thread("matrix"):
        p.cube()
    t = simulate(p.program(), MINI)
    # the fma's 128 cycles of port work come first; the matmul's 16 follow from cycle 129
    assert t.cycles == 1 + 128 + 16
    assert cycles_of(t) == {"useful": 16, "accumulator": 16, "issue": 8, "sram_port": 144 - 40, "prologue": 1}


def test_wait_memory() -> None:
    p = Micro()
    x, s = p.tensor("x", (16, 16)), p.sem("s")
    with p.thread("main"):
        p.cube()
        p.copy(p.at(p.b), p.at(x), done=s)
        p.wait(s)
        p.cube()
    t = simulate(p.program(), MINI)
    # copy issued by 45, latency 40, 512 B at 64 a cycle: in at 93; the wait blocks from 46
    assert t.cycles == 93 + 1 + 40
    assert cycles_of(t) == {"useful": 32, "accumulator": 32, "issue": 16 + 4 + 1 + 1, "wait_memory": 47, "prologue": 1}
    assert [(s.start, s.end, s.cause) for s in t.critical_path] == [
        (0, 1, "issue"), (1, 41, "matrix"), (41, 45, "issue"), (45, 93, "wait_memory"), (93, 94, "issue"),
        (94, 134, "matrix"),
    ]  # fmt: skip
    assert t.stall_cycles == {p.program().lines[2]: 47}


def test_wait_mesh() -> None:
    p = Micro(cols=2)
    big, s = p.sram("big", (64, 512)), p.sem("s")
    with p.thread("main"):
        p.cube()
        p.wait(s)
        p.cube()
    p.next_role([1])
    with p.thread("push"):
        p.copy(p.at(big), p.at(big), to=p.target(0, 0, 0, 0), done=s)
    t = simulate(p.program(), MINI)
    # 64 packets of 16 cycles from cycle 4 on, one hop: the last byte is in at 1029
    assert t.cycles == 1029 + 1 + 40
    assert cycles_of(t) == {"useful": 32, "accumulator": 32, "issue": 16 + 2, "wait_mesh": 1029 - 42, "prologue": 1}
    assert t.link_bytes.sum() == t.link_bytes[0, 1, 1] == 65536


def test_wait_peer() -> None:
    p = Micro(cols=2)
    s = p.sem("s")
    with p.thread("main"):
        p.cube()
        p.wait(s)
        p.cube()
    p.next_role([1])
    with p.thread("work"):
        p.vector(64)
        p.inc(s, at=p.target(0, 0, 0, 0))
    t = simulate(p.program(), MINI)
    # vector 1..73, inc issued at 74, one hop and 8 cycles: 83
    assert t.cycles == 83 + 1 + 40
    assert cycles_of(t) == {"useful": 32, "accumulator": 32, "issue": 16 + 2, "wait_peer": 83 - 42, "prologue": 1}


def test_a_local_token_is_explained_by_its_sender() -> None:
    p = Micro()
    s = p.sem("s")
    with p.thread("main"):
        p.cube()
        p.wait(s)
        p.cube()
    with p.thread("other"):
        p.vector(256)
        p.inc(s)
    t = simulate(p.program(), MINI)
    # the matmul's port work is 1..17, so the 512 accesses of the vector row run 17..273 and end it there;
    # inc issued at 274, token at 275; the gap of the matrix unit is [41, 276)
    assert t.cycles == 276 + 40
    assert cycles_of(t) == {"useful": 32, "accumulator": 32, "issue": 16 + 3, "vector": 273 - 41, "prologue": 1}


def test_imbalance() -> None:
    p = Micro(cols=2)
    with p.thread("main"):
        p.cube()
    p.next_role([1])
    with p.thread("main"):
        p.cube()
        p.cube()
    t = simulate(p.program(), MINI)
    assert t.cycles == 82
    assert cycles_of(t) == {"useful": 48, "accumulator": 48, "issue": 24 + 1, "prologue": 2, "imbalance": 41}
    # The same by node: the first waits 41 cycles for the second, which works to the end.
    by_node = [dict(zip(t.loss_parts, (int(n) for n in node), strict=True)) for node in t.node_parts.reshape(2, -1)]
    assert [node["imbalance"] for node in by_node] == [41 * t.parts_per_cycle, 0]
    assert [node["useful"] for node in by_node] == [16 * t.parts_per_cycle, 32 * t.parts_per_cycle]
    assert [sum(node.values()) for node in by_node] == [82 * t.parts_per_cycle] * 2


def test_epilogue() -> None:
    p = Micro()
    y, s = p.tensor("y", (16, 16), "fp32", "out"), p.sem("s")
    with p.thread("main"):
        p.cube()
        p.copy(p.at(y), p.at(p.acc), done=s)
        p.wait(s)
    t = simulate(p.program(), MINI)
    # copy issued by 45, 1,024 B at 64 a cycle taken by 61, acknowledged 40 cycles later
    assert t.cycles == 101
    assert cycles_of(t) == {"useful": 16, "accumulator": 16, "issue": 8, "prologue": 1, "epilogue": 60}


def test_predicates_and_loops_cost_their_issue() -> None:
    p = Micro()
    s = p.sem("s")
    trip = p.expr(loops=[(0, 1, 1, 0, 0)])
    with p.thread("main"):
        p.cube()
        with p.loop(3):
            p.inc(s)
            p.wait(s)
            with p.when(p.predicate((trip, -7, w.REL_EQ))):
                p.inc(s)
        p.cube()
    t = simulate(p.program(), MINI)
    # loop 1; three trips of inc, wait (its token is there a cycle later), an inc switched off, end
    assert t.cycles == 41 + 1 + 3 * 4 + 41
    assert cycles_of(t)["issue"] == 16 + 13 + 1
    assert t.events == 2 * (2 + 3 * 2)


def test_barrier() -> None:
    p = Micro(cols=2)
    with p.thread("main"):
        p.cube()
        p.barrier()
        p.cube()
    p.next_role([1])
    with p.thread("main"):
        p.vector(64)
        p.barrier()
    t = simulate(p.program(), MINI)
    # the last arrives at 74; a barrier costs 20
    assert t.cycles == 94 + 1 + 40
    assert cycles_of(t) == {"useful": 32, "accumulator": 32, "issue": 16 + 2, "wait_peer": 94 - 42, "prologue": 1}


def test_idealising_one_resource_removes_its_cause() -> None:
    p = Micro()
    x, s = p.tensor("x", (16, 16)), p.sem("s")
    with p.thread("main"):
        for _ in range(3):
            p.copy(p.at(p.b), p.at(x), done=s)
            p.wait(s)
            p.cube()
            p.vector(16)
    program = p.program()
    real = simulate(program, MINI)
    fast = {"bytes_per_cycle": 1e6, "edge_bytes_per_cycle": 1e6, "link_bytes_per_cycle": 1 << 16, "latency_cycles": 0}
    memory = simulate(program, MINI.replace(**{f"ports.west.{name}": value for name, value in fast.items()}))
    issue = simulate(program, MINI.replace(**{"node.issue_cycles": 0, "node.copy_issue_cycles": 0,
                                              "node.matrix.fill_cycles": 0}))  # fmt: skip
    assert real.losses["wait_memory"] > 0.0
    assert real.losses["issue"] > 0.0
    assert memory.loss_parts["wait_memory"] < real.loss_parts["wait_memory"] / 5
    assert issue.loss_parts["issue"] == 0
    assert memory.cycles < real.cycles
    assert issue.cycles < real.cycles


@pytest.mark.parametrize(("relation", "holds"), [
    (w.REL_EQ, operator.eq), (w.REL_NE, operator.ne), (w.REL_LT, operator.lt), (w.REL_GE, operator.ge),
])  # fmt: skip
def test_predicates_of_nodes_and_trips_switch_rows(relation: int, holds: Callable[[int, int], bool]) -> None:
    """A vector row under (2 i + 1) mod 3 + col - 2 in relation to 0 is busy on exactly the trips where that holds."""
    p = Asm(1, 4)
    v = p.sram("v", (16, 16), "fp32")
    turning = p.expr(params=[(w.PARAM_COL, 1)], loops=[(0, 1, 2, 1, 3)])
    with p.thread("main"), p.loop(5), p.when(p.predicate((turning, -2, relation))):
        p.emit("vec.fill", dst=p.at(v), imm=0.0)
    trips = [sum(holds((2 * i + 1) % 3 + col, 2) for i in range(5)) for col in range(4)]
    for fidelity in ("packet", "bound"):
        t = simulate(p.program(), MINI, fidelity=fidelity)
        busy = [int(n) for n in t.busy["vector"].ravel()]
        assert busy == [24 * n for n in trips]  # 16 passes of 64 B and a fill of 8


def test_the_edge_carries_reads_and_writes_side_by_side() -> None:
    p = Asm()
    x, y, b, s = p.tensor("x", (2048,)), p.tensor("y", (1024,), use="out"), p.sram("b", (2048,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(b), p.at(x), done=s)
        p.wait(s)
        p.copy(p.at(y), p.at(b, slice(0, 1024)), sent=s)
        p.wait(s)
    narrow = MINI.replace(**{"ports.west.edge_bytes_per_cycle": 4.0})
    assert simulate(p.program(), narrow).bounds["edge"] == 4096 // 4  # 2048 B go the other way meanwhile


def test_energy_by_hand() -> None:
    p = Micro(cols=2)
    done = p.sem("done")
    with p.thread("main"):
        p.cube()
        p.vector(16)
        p.copy(p.at(p.v, slice(0, 32)), p.at(p.v, slice(0, 32)), to=p.target(0, 0, 1, 1), done=done)
    p.next_role([1])
    with p.thread("main"):
        p.wait(done)
    t, e = simulate(p.program(), MINI), MINI.energy
    joules = {name: share * t.energy_j for name, share in t.energy_shares.items()}
    assert joules["matrix"] == pytest.approx(16**3 * e.mac_pj.nominal * 1e-12)
    assert joules["vector"] == pytest.approx(16 * 16 * e.vector_flop_pj.nominal * 1e-12)
    assert joules["mesh"] == pytest.approx(2048 * e.link_pj_per_byte_hop.nominal * 1e-12)  # one link
    assert joules["idle"] == pytest.approx(t.seconds * e.idle_w.nominal)
    assert joules["memory"] == 0.0
    # the cube: 2 x 2 groups of 8 x 8 results, 4 steps of k; a step reads 2 + 2 tiles, the block leaves once; a port is
    # 64 B wide, so tiles of 8 x 4 bf16 and groups of 8 x 8 fp32 take 1 and 4 accesses. Then 16 + 16 and the copy.
    accesses = 4 * (2 + 2) + 4 * 4 + 16 + 16
    assert joules["sram"] == pytest.approx((64 * accesses + 2048 + 2048) * e.sram_pj_per_byte.nominal * 1e-12)
    assert sum(joules.values()) == pytest.approx(t.energy_j)


@pytest.mark.parametrize(
    ("a", "b", "out", "picojoules"),
    [
        # 7 nm: int8 mul + int32 add; fp16 mul + fp32 add; of two formats the dearer
        ("int8", "uint8", "int32", 0.07 + 0.03),
        ("fp16", "fp16", "fp32", 0.34 + 0.38),
        ("bf16", "bf16", "fp32", 0.21 + 0.38),
        ("cfp8-143", "cfp8-152", "fp32", 2.0),
    ],
)
def test_a_multiply_add_costs_what_its_formats_do(a: str, b: str, out: str, picojoules: float) -> None:
    p = Asm()
    x, y, z = p.sram("x", (16, 24), a), p.sram("y", (24, 8), b), p.sram("z", (16, 8), out)
    with p.thread("main"), p.loop(3):
        p.matmul(p.mat(z), p.mat(x), p.mat(y))
    t = simulate(p.program(), MINI.replace(**{"energy.mac_by_format.cfp8-152": 2.0}))
    assert t.energy_shares["matrix"] * t.energy_j == pytest.approx(3 * 16 * 24 * 8 * picojoules * 1e-12)
    assert sum(t.energy_shares.values()) == pytest.approx(1.0)
    assert t.energy_low_j <= t.energy_j <= t.energy_high_j


def test_nodes_that_only_copy_are_not_unused() -> None:
    p = Micro(cols=2)
    x, b, s = p.tensor("x", (256,)), p.sram("b", (256,)), p.sem("s")
    with p.thread("main"):
        p.copy(p.at(b), p.at(x), done=s)
        p.wait(s)
        p.copy(p.at(b), p.at(b), to=p.target(0, 0, 1, 1))
    p.next_role([1])
    with p.thread("main"):
        pass
    t = simulate(p.program(), MINI)
    # issued by 4, latency 40, 512 B in 8 cycles: 52; an issue of 4; 8 cycles and a hop on the way to the other node
    assert t.cycles == 52 + 4 + 9
    # issues 4, 1 and 4, blocked from 5 to 52, then nothing of its own; the other node runs no instruction
    assert t.loss_parts["unused_nodes"] == 15 * 65 * t.parts_per_cycle
    assert cycles_of(t) == {"issue": 9, "wait_memory": 47, "imbalance": 9}
    bound = simulate(p.program(), MINI, fidelity="bound")
    assert bound.loss_parts["unused_nodes"] == 15 * bound.cycles * bound.parts_per_cycle
