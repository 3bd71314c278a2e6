"""Damaged program files, assembly, chips and measurements: a clear error or a valid object, never anything else."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import accel
from accel.errors import InputError, InternalError
from tests.fuzz import seeds
from tests.fuzz.choices import Choices
from tests.fuzz.targets import TARGETS, Fault, exercise, outcome

NIGHTLY = {"program": 25_000, "assembly": 25_000, "toml": 25_000, "csv": 25_000}  # mutations; 100,000 in all
EXAMPLES = {"program": 150, "assembly": 250, "toml": 250, "csv": 500}
DAMAGE = st.binary(min_size=24, max_size=200)


@pytest.mark.parametrize("name", TARGETS)
def test_damage_ends_in_a_clear_error_or_in_something_valid(name: str) -> None:
    """Hypothesis chooses the bytes that decide the damage, and shrinks what it finds."""

    @settings(max_examples=EXAMPLES[name], deadline=None, suppress_health_check=list(HealthCheck))
    @given(DAMAGE)
    def damaged(data: bytes) -> None:
        TARGETS[name](data)

    damaged()


@pytest.mark.nightly
@pytest.mark.parametrize("name", TARGETS)
def test_a_hundred_thousand_mutations(name: str) -> None:
    """The same by a plain generator, far longer; both outcomes must be common, or nothing has been tested."""
    valid = 0
    for number in range(NIGHTLY[name]):
        data = np.random.default_rng([list(TARGETS).index(name), number]).bytes(160)
        try:
            valid += TARGETS[name](data)
        except Fault as fault:
            pytest.fail(f"mutation {number} of {name}: {fault}")
    assert NIGHTLY[name] // 50 < valid < NIGHTLY[name] * 49 // 50


def test_what_damage_starts_from_is_sound() -> None:
    """Everything is exercised: where the seeds themselves were refused, no damage would reach deep."""
    for program in seeds.programs():
        program.require_sound()
    mini = accel.chip("mini")
    assert exercise(accel.Program(seeds.programs()[0], mini))
    assert all(accel.assemble(text).isa.instructions > 0 for text in seeds.texts())


def test_the_judge_of_outcomes_sees_what_it_is_there_for() -> None:
    def raising(error: BaseException) -> object:
        def call() -> None:
            raise error

        return call

    assert outcome(lambda: 7) == 7
    assert outcome(raising(InputError("no x; use y"))) is None  # type: ignore[arg-type]
    for error in (
        InternalError("broken; report it"), ValueError("x; use y"), InputError("two\nlines; use one"),
        InputError("numpy.ndarray is bad; use y"), InputError("it is wrong"), MemoryError(),
    ):  # fmt: skip
        with pytest.raises(Fault):
            outcome(raising(error))  # type: ignore[arg-type]


def test_choices_read_all_bytes_and_then_the_first_possibility() -> None:
    c = Choices(bytes(range(1, 9)))
    drawn = [c.below(1000) for _ in range(4)]
    assert drawn == [(1 + 2 * 256) % 1000, (3 + 4 * 256) % 1000, (5 + 6 * 256) % 1000, (7 + 8 * 256) % 1000]
    assert not c.left
    assert c.below(5) == 0
    assert c.pick("ab") == "a"
    assert Choices(b"\x09").below(1) == 0


@pytest.mark.skipif(find_spec("atheris") is None, reason="no atheris: pip install atheris to fuzz by coverage")
@pytest.mark.parametrize("name", ["csv", "assembly"])
def test_coverage_guided_fuzzing_starts(name: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.atheris_run", name, "-runs=300", "-max_len=200"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 runs" in done.stderr


@pytest.mark.skipif(find_spec("atheris") is not None, reason="atheris is there; its absence cannot be shown")
def test_without_atheris_the_entry_point_says_so() -> None:
    command = [sys.executable, "-m", "tests.fuzz.atheris_run", "csv"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Cannot fuzz by coverage because atheris is not installed; pip install atheris\n"
