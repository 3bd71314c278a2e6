"""What users hold: inputs and outputs by name, program files, listings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import accel
from accel.errors import InputError, ProgramError
from accel.isa import container
from accel.kernels import matmul
from accel.report.showcase import hard_values


@pytest.fixture(scope="module")
def program() -> accel.Program:
    return matmul.build("mini", m=40, n=24, k=48)


def test_a_saved_program_is_the_same_program(program: accel.Program, tmp_path: Path) -> None:
    path = tmp_path / "p.acc"
    program.save(path)
    loaded = accel.load(path)
    a, b = hard_values((40, 48), 1), hard_values((48, 24), 2)
    assert loaded.asm() == program.asm()
    assert (loaded.run(a=a, b=b)["c"] == program.run(a=a, b=b)["c"]).all()
    assert loaded.time().cycles == program.time().cycles
    assert loaded.findings() == ()
    assert container.to_bytes(loaded.isa) == container.to_bytes(program.isa) == path.read_bytes()
    assert loaded.chip == program.chip


@pytest.mark.parametrize("cut", [0, 7, 20, 100, -1, -33])
def test_a_cut_file_is_refused(program: accel.Program, cut: int) -> None:
    with pytest.raises(ProgramError):
        container.from_bytes(container.to_bytes(program.isa)[:cut])


def test_any_flipped_byte_is_refused(program: accel.Program) -> None:
    image = container.to_bytes(program.isa)
    for at in np.random.default_rng(0).integers(0, len(image), 200):
        damaged = bytearray(image)
        damaged[at] ^= 0x10
        with pytest.raises(ProgramError):
            container.from_bytes(bytes(damaged))


def test_files_that_are_not_there_or_cannot_be_written(program: accel.Program, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read program file"):
        accel.load(tmp_path / "absent.acc")
    with pytest.raises(InputError, match="cannot write program file"):
        program.save(tmp_path / "no" / "such" / "p.acc")


def test_a_program_is_immutable(program: accel.Program) -> None:
    with pytest.raises(ValueError, match="read-only"):
        program.isa.code[0, 0] = 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({"a": np.zeros((40, 48))}, "matmul needs input 'b' of shape (48, 24) in bf16; pass b=array"),
        ({"a": np.zeros((40, 48)), "b": np.zeros((48, 24)), "c": 1}, "has no input 'c'; it takes 'a', 'b'"),
        ({"a": np.zeros((48, 40)), "b": np.zeros((48, 24))}, "input 'a' has shape (48, 40), the program was built for"),
        ({"a": np.zeros((40, 48), object), "b": np.zeros((48, 24))}, "object"),
        ({"a": np.zeros((0, 48)), "b": np.zeros((48, 24))}, "(0, 48)"),
        (
            {"a": np.zeros((40, 48)), "b": np.zeros((48, 24)), "engine": "gpu"},
            "unknown engine 'gpu'; use 'jit' or 'plain'",
        ),
        ({"a": np.zeros((40, 48)), "b": np.zeros((48, 24)), "schedule": "late"}, "unknown schedule 'late'"),
        ({"a": np.zeros((40, 48)), "b": np.zeros((48, 24)), "seed": 1.5}, "seed must be an int"),
    ],
)
def test_bad_inputs_get_one_line(program: accel.Program, call: dict[str, object], text: str) -> None:
    with pytest.raises(InputError) as caught:
        program.run(**call)  # type: ignore[arg-type]
    assert text.removeprefix("matmul ") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_outputs_and_roles_are_named(program: accel.Program) -> None:
    out = program.run(a=np.zeros((40, 48)), b=np.zeros((48, 24)))
    assert list(out) == ["c"]
    with pytest.raises(InputError, match="no output 'd'; this program stores 'c'"):
        out["d"]
    with pytest.raises(InputError, match="no role 99"):
        program.asm(99)
    with pytest.raises(InputError, match="a sample takes 1 to 65,536 blocks"):
        program.sample_outputs(0)


def test_plain_and_compiled_engines_agree(program: accel.Program) -> None:
    a, b = hard_values((40, 48), 1), hard_values((48, 24), 2)
    assert (program.run(a=a, b=b, engine="plain")["c"] == program.run(a=a, b=b)["c"]).all()
    assert program.time(engine="plain").cycles == program.time().cycles


def test_the_listing_names_buffers_semaphores_and_lines(program: accel.Program) -> None:
    text = program.asm(0)
    assert "matmul acc fp32[" in text
    assert "A_full[" in text
    assert "kernels/parts/matmul_" in text


@accel.kernel
def sent_for_done(k, x, y):  # type: ignore[no-untyped-def]
    """Node (0, 0) tells node (0, 1) that data has come when it has only left: right by luck, and by most schedules."""
    source, target = k.sram((64,), "fp32", "source"), k.sram((64,), "fp32", "target")
    loaded, left, go, stored = (k.sem(name=name) for name in ("loaded", "left", "go", "stored"))

    @k.thread
    def work() -> None:
        with k.when((k.row == 0) & (k.col == 0)):
            k.copy(source, x, done=loaded)
            k.wait(loaded)
            k.copy(target, source, to=(0, 1), sent=left)
            k.wait(left)
            k.inc(go, at=(0, 1))
        with k.when((k.row == 0) & (k.col == 1)):
            k.wait(go)
            k.copy(y, target, sent=stored)
            k.wait(stored)


@pytest.mark.parametrize("engine", ["jit", "plain"])
def test_an_adversarial_schedule_lets_a_source_go_before_the_data_arrives(engine: str) -> None:
    vector = accel.tensor((64,), "fp32")
    hasty = sent_for_done.build("mini", x=vector, y=vector)
    x = np.arange(64, dtype=np.float32)
    assert (hasty.run(x=x, engine=engine)["y"] == x).all()
    wrong = [seed for seed in range(60) if not (hasty.run(x=x, schedule=seed, engine=engine)["y"] == x).all()]
    assert wrong
    assert "race" in {finding.kind for finding in hasty.findings()}


def test_a_run_larger_than_the_machine_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.machine import arena

    small = matmul.build("mini", m=8, n=8, k=8)
    a = b = np.ones((8, 8))
    assert (small.run(a=a, b=b)["c"] == 8).all()
    monkeypatch.setattr(arena, "host_bytes", lambda: 1000)
    with pytest.raises(accel.AccelError, match="more than this machine has; verify a sample"):
        small.run(a=a, b=b)


def test_bytes_after_the_last_table_are_refused(program: accel.Program) -> None:
    body = container.to_bytes(program.isa)[:-32] + bytes(8)
    with pytest.raises(ProgramError, match="8 bytes too many"):
        container.from_bytes(body + hashlib.sha256(body).digest())


@accel.kernel
def probed(k, x, y):
    """Every node adds its row of x up, step by step, and shows the sum after each step."""
    buf, total = k.sram((4, 8), "bf16", "buf"), k.sram((1, 8), "bf16", "total")
    here, put = k.sem(name="here"), k.sem(name="put")

    @k.thread
    def work():
        k.copy(buf, x[k.col], done=here)
        k.wait(here)
        k.vec.fill(total, 0.0)
        for i in range(4):
            k.vec.add(total, total, buf[i : i + 1])
            k.probe(total, "total")
        k.probe(buf, "whole")
        k.copy(y[k.col : k.col + 1], total, sent=put)
        k.wait(put)


def test_probes_by_name():
    program = probed.build("mini", mesh=(1, 3), x=accel.tensor((3, 4, 8), "bf16"), y=accel.tensor((3, 8), "bf16"))
    x = np.arange(96).reshape(3, 4, 8) % 16.0
    assert program.run(x=x).probes == {}
    out = program.run(x=x, probes=["total"])
    assert list(out.probes) == ["total"]
    for col in range(3):
        seen = [probe for probe in out.probes["total"] if probe.node == (0, col)]
        assert [probe.visit for probe in seen] == [0, 1, 2, 3]
        for probe in seen:
            np.testing.assert_array_equal(probe.array.ravel(), x[col, : probe.visit + 1].sum(axis=0))
            assert probe.array.dtype.name == "bfloat16"
    everything = program.run(x=x, probes=True, schedule=3).probes
    assert set(everything) == {"total", "whole"}
    assert sorted(probe.node for probe in everything["whole"]) == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(InputError, match=r"no probe 'totla'.*did you mean 'total'"):
        program.run(x=x, probes=["totla"])
    with pytest.raises(InputError, match="probes must be True, or names of probes, got 'total'"):
        program.run(x=x, probes="total")


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_seeds_have_64_bits(seed):
    program = probed.build("mini", mesh=(1, 3), x=accel.tensor((3, 4, 8), "bf16"), y=accel.tensor((3, 8), "bf16"))
    with pytest.raises(InputError, match=r"seed must be an int from 0 to 2\^64 - 1"):
        program.run(x=np.zeros((3, 4, 8)), seed=seed)
