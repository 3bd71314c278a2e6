"""The generator of legal programs: every row of the table is drawn, no hazard is in any, and they shrink."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings

from accel.check import inspect
from accel.errors import ProgramError
from accel.hardware.catalog import chip
from accel.isa import layout as w
from accel.isa.table import BY_MNEMONIC, BY_OPCODE
from accel.numerics.formats import FORMATS
from accel.testing.choices import Choices
from accel.testing.drawn_rows import COMPUTE
from accel.testing.hard_values import KINDS, hard_codes, special_codes
from accel.testing.legal_programs import BLOCKS, legal_program
from accel.testing.maker import Maker
from accel.testing.pool import ALL_FLOATS, ALL_INTEGERS, Limits
from accel.testing.slow_run import slow_run
from accel.testing.strategies import chips, legal_programs

SEEDS = range(400)


@pytest.fixture(scope="module")
def cases():
    return [legal_program(Choices.seeded(seed)) for seed in SEEDS]


def test_every_row_of_the_table_is_drawn(cases):
    drawn = Counter(int(op) for case in cases for op in case.program.code[:, w.W_OPCODE])
    assert {BY_OPCODE[op].mnemonic for op in drawn} == set(BY_MNEMONIC)


def test_every_feature_of_the_tables_is_drawn(cases):
    assert {block for case in cases for block in case.blocks} == set(BLOCKS)
    views = np.concatenate([case.program.views for case in cases])
    assert {FORMATS[d].code for d in ALL_FLOATS + ALL_INTEGERS} == set(views[:, w.V_DTYPE].tolist())
    assert set(ALL_FLOATS + ALL_INTEGERS) == set(FORMATS)
    for column in (w.V_RING_BYTES, w.V_SCALAR, w.V_BIAS):
        assert np.count_nonzero(views[:, column]) > 20
    assert (views[:, w.V_BIAS] >= w.BIAS_IEEE).any()
    assert (views[:, w.V_STRIDE : w.V_STRIDE + 4] < 0).any()
    assert sum(case.program.roles > 1 for case in cases) > 20
    assert sum(len(case.program.shards) > 0 for case in cases) > 20
    assert sum(case.program.threads > 1 for case in cases) > 20
    assert any(len(case.program.preds) > 2 for case in cases)
    loops = np.concatenate([case.program.exprs[:, w.E_NLOOPS] for case in cases])
    assert (loops == 2).any()


def test_every_drawn_program_is_sound_and_runs_to_its_end_in_the_slow_model(cases):
    for case in cases[:150]:
        case.program.require_sound()
        outputs = slow_run(case.program, case.inputs, seed=case.seed).outputs
        assert set(outputs) == {t.name for t in case.program.tensors if t.is_output}


def test_no_drawn_program_has_a_hazard():
    for seed in range(120):
        case = legal_program(Choices.seeded(seed))
        findings = inspect(case.program, chip("mini"), schedules=1)
        assert findings == (), (case.blocks, findings[0].message)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=legal_programs())
def test_programs_of_the_strategy_are_sound(case):
    case.program.require_sound()


def test_a_failing_program_shrinks_to_one_block_and_few_rows():
    small = find(
        legal_programs(),
        lambda case: "push" in case.blocks,
        settings=settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)),
    )
    assert small.blocks == ("push",)
    assert small.program.nodes == 1
    assert small.program.instructions < 16


def test_limits_leave_out_what_they_name():
    limits = Limits(floats=("bf16",), integers=(), rings=False, rows=("vec.add",), mesh=(1, 1), threads=1,
                    without=tuple(b for b in BLOCKS if b != "compute"))  # fmt: skip
    for seed in range(20):
        program = legal_program(Choices.seeded(seed), limits).program
        used = {BY_OPCODE[int(op)].mnemonic for op in program.code[:, w.W_OPCODE]}
        assert used <= {"vec.add", "copy", "wait", "loop", "end"}
        assert not program.views[:, w.V_RING_BYTES].any()


@pytest.mark.parametrize("dtype", list(FORMATS))
def test_programs_of_one_format_draw_the_rows_that_it_has(dtype):
    one = (dtype,) if dtype in ALL_FLOATS else ()
    limits = Limits(floats=one, integers=() if one else (dtype,), longest=4)
    for seed in range(15):
        case = legal_program(Choices.seeded(seed), limits)
        case.program.require_sound()
        assert slow_run(case.program, case.inputs, seed=case.seed).outputs is not None


def test_every_compute_row_has_an_entry():
    control = {"wait", "inc", "barrier", "loop", "end", "copy", "pull"}
    assert set(COMPUTE) == set(BY_MNEMONIC) - control


@pytest.mark.parametrize("dtype", list(FORMATS))
@pytest.mark.parametrize("kind", KINDS)
def test_hard_codes_fill_any_shape_of_any_format(dtype, kind):
    codes = hard_codes(dtype, (3, 50), 1, kind)
    assert codes.shape == (3, 50)
    assert codes.dtype == FORMATS[dtype].storage
    assert codes.tobytes() == hard_codes(dtype, (3, 50), 1, kind).tobytes()
    assert len(np.unique(codes.view(f"u{codes.itemsize}"))) > 2


def test_special_codes_hold_what_breaks_careless_code():
    codes = special_codes("fp32").view(np.float32)
    assert np.isnan(codes).any()
    assert np.isinf(codes).any()
    assert {0x7F800001, 0x80000000, 0x00800000, 0x007FFFFF, 0x7F7FFFFF} <= set(special_codes("fp32").tolist())
    assert {0x7F, 0x80, 0xFF, 0x07, 0x08} <= set(special_codes("cfp8-143").tolist())
    assert {0x80000000, 0x7FFFFFFF, 0xFFFFFFFF} <= set(special_codes("int32").tolist())


@settings(max_examples=10, deadline=None)
@given(spec=chips())
def test_drawn_chips_are_small_and_valid(spec):
    assert spec.mesh.rows == spec.mesh.cols == 4


def test_the_slow_model_names_what_a_program_does_wrong():
    m = Maker(1, 1, 1)
    sem = m.semaphore()
    with m.thread(0, 0):
        m.wait(sem)
    with pytest.raises(ProgramError, match="1 threads wait for ever, the first at row 0; correct the program"):
        slow_run(m.program(), {})
