"""Sensitivities: exact repetitions on the changed chip, by hand where a program has one way to go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from programs import Asm, copy_program, matmul_program, summa_program

from accel.cli.app import main
from accel.errors import InputError, SpecError
from accel.hardware import chip
from accel.isa.program import Program
from accel.timing import sensitivities, simulate
from accel.timing.sensitivity import RESOURCES

MINI = chip("mini")


def example() -> Program:
    """The worked example of the manual: multiply, fetch, multiply; 134 cycles."""
    p = Asm()
    x, here = p.tensor("x", (16, 16)), p.sem("here")
    a, b, acc = p.sram("a", (16, 16)), p.sram("b", (16, 16)), p.sram("acc", (16, 16), "fp32")
    with p.thread("main"):
        p.matmul(p.mat(acc), p.mat(a), p.mat(b))
        p.copy(p.at(b), p.at(x), done=here)
        p.wait(here)
        p.matmul(p.mat(acc), p.mat(a), p.mat(b))
    return p.program()


def test_each_resource_by_hand() -> None:
    found = {row.name: row for row in sensitivities(example(), MINI)}
    assert set(found) == {name for name, _, _ in RESOURCES}
    saved = {name: 134 - row.cycles for name, row in found.items() if row.cycles != 134}
    assert saved == {
        "matrix rate": 2,  # 16 compute cycles over 1.1 are 15, two times
        "pipeline fill": 2,  # 8 -> 7, two times
        "SRAM ports": 16,  # a second store port halves the 16 cycles of a block's way out, two times
        "issue": 2,  # 1 -> 0, of the two matmuls; the wait's is hidden
        "copy issue": 1,  # 4 -> 3
        "memory latency": 4,  # 40 -> 36; 512 B take 8 cycles at 64 B and at 70 B a cycle
    }
    latency = found["memory latency"]
    assert latency.change == "ports.west.latency_cycles 40 -> 36"
    assert latency.resource_percent == pytest.approx(-10)
    assert latency.cycles_percent == pytest.approx(-100 * 4 / 134)
    assert str(latency) == "-10 % memory latency: -3.0 % cycles"
    assert found["link bandwidth"].change == "noc.link_bytes_per_cycle 64 -> 70, noc.packet_bytes 1024 -> 1050"
    ports = "node.load_ports 2 -> 3, node.store_ports 1 -> 2, node.accesses_per_cycle 2 -> 3"
    assert (found["SRAM ports"].change, found["SRAM ports"].resource_percent) == (ports, pytest.approx(100))
    assert str(found["issue"]) == "-100 % issue: -1.5 % cycles"
    [links] = sensitivities(example(), MINI, ["link bandwidth"], percent=12)
    assert links.change.startswith("noc.link_bytes_per_cycle 64 -> 72,")  # 7.68 more, to the nearest whole number
    assert links.resource_percent == pytest.approx(12.5)


@pytest.mark.parametrize("program", [copy_program(2, 2), matmul_program(40, 24, 20), summa_program(2, 3, 16, 16, 8, 6)])
def test_a_change_is_the_run_on_that_chip(program: Program) -> None:
    changes = {
        "wide": {"noc.link_bytes_per_cycle": 128, "node.mesh_bytes_per_cycle": 128},
        "late": {"ports.west.latency_cycles": 99},
        "links": {"noc.link_bytes_per_cycle": 96},
    }
    found = sensitivities(program, MINI, changes)
    for row in found:
        fields: dict[str, Any] = dict(changes[row.name])
        if row.name == "links":
            fields["noc.packet_bytes"] = 96 * 11  # the multiple nearest to 1,024
        assert row.cycles == simulate(program, MINI.replace(**fields)).cycles
    assert [row.cycles for row in found] == sorted(row.cycles for row in found)
    assert {row.name: row.resource_percent for row in found} == pytest.approx({"wide": 100, "late": 147.5, "links": 50})


@pytest.mark.parametrize("program", [copy_program(2, 2), matmul_program(40, 24, 20), summa_program(2, 3, 16, 16, 8, 6)])
def test_no_bound_rises_with_a_better_resource(program: Program) -> None:
    # The bound is a maximum of sums that fall with every resource; a run itself may have anomalies and promises less.
    base = simulate(program, MINI, fidelity="bound").cycles
    better = {
        "node.matrix.fill_cycles": 7, "node.vector.fill_cycles": 7, "node.load_ports": 3, "node.store_ports": 2,
        "node.accesses_per_cycle": 3, "node.issue_cycles": 0, "node.copy_issue_cycles": 3, "node.copy_queue_depth": 18,
        "node.mesh_bytes_per_cycle": 70, "noc.buffer_packets": 5, "noc.hop_cycles": 0, "noc.semaphore_cycles": 7,
        "noc.barrier_cycles": 18, "ports.west.bytes_per_cycle": 70.4, "ports.west.edge_bytes_per_cycle": 300.0,
        "ports.west.link_bytes_per_cycle": 70, "ports.west.latency_cycles": 36,
    }  # fmt: skip
    for path, value in better.items():
        assert simulate(program, MINI.replace(**{path: value}), fidelity="bound").cycles <= base, path


def test_a_serial_program_only_gains() -> None:
    # One thread that waits for all it starts has no order to lose: its time is a sum that falls with each of these. Not
    # with links faster than the ports at their ends: a packet that must follow its head without a gap then leaves late.
    names = [name for name, _, _ in RESOURCES if name not in ("link bandwidth", "memory links")]
    for percent in (5, 50, 300):
        assert all(row.cycles <= 134 for row in sensitivities(example(), MINI, names, percent=percent))
    late = sensitivities(example(), MINI, ["memory links"], percent=50)
    # 512 B at 96 B a cycle take 6 cycles on the link and 8 into the node, and the memory needs 8 for them: 2 late
    assert [row.cycles for row in late] == [136]


def test_names_and_workers() -> None:
    program = summa_program(2, 3, 16, 16, 8, 6)
    two = sensitivities(program, MINI, ["memory latency", "matrix rate"])
    assert {row.name for row in two} == {"memory latency", "matrix rate"}
    assert sensitivities(program, MINI, "memory latency") == tuple(r for r in two if r.name == "memory latency")
    assert sensitivities(program, MINI, workers=1) == sensitivities(program, MINI, workers=3)
    nothing = MINI.replace(**{"noc.hop_cycles": 0})
    assert sensitivities(program, nothing, ["hop latency"]) == ()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"changes": ["link bandwith"]}, InputError, "it is no resource; did you mean 'link bandwidth'"),
        ({"percent": 0}, InputError, "by 0 percent; use a number above 0"),
        ({"percent": True}, InputError, "by True percent"),
        ({"workers": 0}, InputError, "workers=0"),
        ({"changes": {"x": {}}}, InputError, "Cannot change 'x' to {}; give fields with values"),
        ({"changes": {"x": {"noc.link_byte": 3}}}, SpecError, "noc.link_byte"),
    ],
)
def test_what_cannot_be_changed(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        sensitivities(example(), MINI, **arguments)
    assert message in str(caught.value)


def test_a_program_of_no_cycles_compares_to_nothing() -> None:
    p = Asm()
    with p.thread("main"):
        pass
    with pytest.raises(InputError, match="takes no cycle"):
        sensitivities(p.program(), MINI)


BENCH = ["bench", "matmul", "--shape", "64x48x32", "--chip", "mini"]


def test_bench_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BENCH, "--explain", "--json", "-"]) == 0
    own = json.loads(capsys.readouterr().out)["explain"]
    assert {row["name"] for row in own["sensitivities"]} == {name for name, _, _ in RESOURCES}
    assert sum(own["critical_path"].values()) == own["cycles"]
    assert sum(row["path_cycles"] for row in own["lines"]) == own["cycles"]
    assert main([*BENCH, "--explain"]) == 0
    text = capsys.readouterr().out
    for row in own["sensitivities"][:3]:
        assert f"{row['resource_percent']:+.0f} % {row['name']}" in text
    assert main([*BENCH, "--json", "-"]) == 0
    assert "explain" not in json.loads(capsys.readouterr().out)


def test_bench_explains_no_bound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BENCH, "--explain", "--fidelity", "bound"]) == 2
    assert "leave --fidelity bound out" in capsys.readouterr().err
