"""Drawn legal programs through every layer: the cycle model's laws, program files, and the assembler's round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import accel
from accel.isa.container import from_bytes, to_bytes
from accel.program import Program
from accel.testing.choices import Choices
from accel.testing.legal_programs import legal_program
from accel.testing.strategies import chips, legal_programs

TABLES = ("code", "spans", "role_of", "params", "views", "exprs", "preds", "targets", "shards", "semaphore_init")


@pytest.fixture(scope="module")
def programs():
    mini = accel.chip("mini")
    return [Program(legal_program(Choices.seeded(seed), chip=mini.to_json()).program, mini) for seed in range(40)]


def test_the_bound_is_never_above_the_packet_model_and_the_ledger_has_no_residual(programs):
    for program in programs:
        packet, bound = program.time(), program.time(fidelity="bound")
        assert 0 < bound.cycles <= packet.cycles
        assert sum(packet.losses.values()) == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=legal_programs(), spec=chips())
def test_the_bound_holds_on_drawn_chips(case, spec):
    program = Program(case.program, spec)
    assert program.time(fidelity="bound").cycles <= program.time().cycles


def test_a_program_file_gives_every_program_back(programs):
    for program in programs:
        image = to_bytes(program.isa)
        again = from_bytes(image)
        assert to_bytes(again) == image
        for table in TABLES:
            np.testing.assert_array_equal(getattr(again, table), getattr(program.isa, table))


def test_assembling_a_listing_gives_the_program_back(programs):
    for program in programs:
        again = accel.assemble(program.asm())
        for table in TABLES:
            np.testing.assert_array_equal(getattr(again.isa, table), getattr(program.isa, table))
        assert again.asm() == program.asm()
