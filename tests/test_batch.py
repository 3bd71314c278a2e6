"""Timing on several processes: what timing one by one gives, whatever becomes of the processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import accel
from accel import batch
from accel.errors import InputError
from accel.kernels import matmul
from accel.program import Program

SIZES = ((32, 16, 16), (48, 32, 16), (16, 16, 64))


def fresh():
    return [matmul.build("mini", m=m, n=n, k=k) for m, n, k in SIZES]


def seen(timing):
    return timing.cycles, timing.losses, timing.critical_path, timing.events, timing.energy_j


@pytest.fixture
def alone():
    return [seen(program.time()) for program in fresh()]


def test_processes_give_the_same_timings(alone, monkeypatch):
    programs, served = fresh(), []
    remember = Program.remember
    monkeypatch.setattr(Program, "remember", lambda self, timing: served.append(self) or remember(self, timing))
    timings = accel.time_many(programs, workers=2)
    assert [seen(timing) for timing in timings] == alone
    assert len(served) >= len(programs) - 1  # where nothing is compiled yet, this process times the first itself
    for program, timing in zip(programs, timings, strict=True):
        assert program.time() is timing
        if timing.replay is not None:
            assert timing.replay.program is program.isa


def test_one_worker_starts_no_process(alone, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    assert [seen(timing) for timing in accel.time_many(fresh(), workers=1)] == alone


@pytest.mark.parametrize("child", ["raise SystemExit(1)", "import os; os.close(1); input()"])
def test_processes_that_die_leave_the_work_here(child, alone, monkeypatch):
    monkeypatch.setattr(batch, "_CHILD", child.replace("{", "{{"))
    assert [seen(timing) for timing in accel.time_many(fresh(), workers=3)] == alone


def test_no_process_to_be_had(alone, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert [seen(timing) for timing in accel.time_many(fresh(), workers=2)] == alone


def test_an_error_is_that_of_the_first_program_in_order():
    with pytest.raises(InputError, match="fidelity"):
        accel.time_many(fresh(), fidelity="exact", workers=2)


@pytest.mark.parametrize("workers", [0, -1, 257, 1.5, True])
def test_a_wrong_number_of_workers_is_refused(workers):
    with pytest.raises(InputError, match=r"^Cannot time on workers=.*: use an integer from 1 to 256$"):
        accel.time_many([], workers=workers)


def test_other_things_than_programs_are_refused():
    with pytest.raises(InputError, match=r"^time_many needs programs, got 3; build them first$"):
        accel.time_many([3])
    for single in (3, None, accel.assemble(".chip mini")):
        with pytest.raises(InputError, match=r"^time_many needs several programs, got .*; give a list of them$"):
            accel.time_many(single)
    assert accel.time_many([]) == []


SCRIPT = (
    "import accel; from accel.kernels import matmul\n"
    "print([t.cycles for t in accel.time_many([matmul.build('mini', m=16, n=16, k=x) for x in (16, 32)], workers=2)])"
)


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    expected = [matmul.build("mini", m=16, n=16, k=k).time().cycles for k in (16, 32)]
    assert done.stdout.strip() == str(expected)
