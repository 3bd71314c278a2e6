"""accel.bench: the figures agree with the program, the problem and the baselines they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import accel
from accel import baselines, comparison
from accel import problem as registry
from accel.baselines.measured import GEMM_COLUMNS
from accel.errors import InputError, SpecError, UnsupportedError
from accel.problem import Matmul, Problem

PROBLEM = Matmul(96, 80, 64)


class Unknown(Problem, frozen=True):
    """A problem that no kernel of the library computes."""

    kind = "unknown"


@pytest.fixture(scope="module")
def compared() -> accel.Comparison:
    return accel.bench(PROBLEM, "mini", ["a100-sxm-80gb", "v100-sxm2"])


def test_the_chip_row_comes_from_the_program(compared: accel.Comparison) -> None:
    timing, spec = compared.program.time(), accel.chip("mini")
    chip = compared.chip
    assert (chip.name, chip.dtype) == ("mini", "bf16")
    assert chip.cycles == timing.cycles
    assert chip.seconds == pytest.approx(chip.cycles / spec.clock_hz + spec.host.launch_s)
    assert chip.tflops == pytest.approx(PROBLEM.flops / chip.seconds / 1e12)
    assert chip.utilization == pytest.approx(PROBLEM.flops / (spec.peak_flops("bf16") * chip.seconds))
    assert chip.bound_seconds == PROBLEM.bound(spec).seconds <= chip.seconds
    assert sum(chip.losses.values()) == pytest.approx(1, abs=1e-12)
    assert chip.losses["useful"] == pytest.approx(chip.utilization)


@pytest.mark.parametrize("direction", ["fwd", "dgrad", "wgrad"])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("conv2d", "2x9x7x16x24x3x3"), ("conv3d", "2x4x5x7x8x16x3x3x3"), ("conv_transpose", "2x5x6x16x8x3x3")],
)
def test_convolutions_count_taps_on_padding_in_every_direction(kind: str, shape: str, direction: str) -> None:
    """The field's convention; the ledger shows what was executed, which is no less than the taps that land."""
    problem, spec = registry.kind(kind).parse(shape, pad=1, direction=direction), accel.chip("mini")
    chip = accel.bench(problem, spec).chip
    peak = spec.peak_flops("bf16") / spec.clock_hz * chip.cycles
    assert chip.utilization == pytest.approx(problem.flops / peak, rel=1e-12)
    assert sum(chip.losses.values()) == pytest.approx(1, abs=1e-12)
    assert chip.losses["useful"] == pytest.approx(problem.least_flops / peak, rel=1e-12)


def test_baselines_and_speedup(compared: accel.Comparison) -> None:
    assert compared.baselines == tuple(baselines.estimate(PROBLEM, name) for name in ("a100-sxm-80gb", "v100-sxm2"))
    for row in compared.baselines:
        assert compared.speedup[row.name] == row.seconds / compared.chip.seconds
    with pytest.raises(TypeError):
        compared.speedup["v100-sxm2"] = 2.0  # type: ignore[index]  # it is read-only


def test_formats_are_never_compared_silently(compared: accel.Comparison) -> None:
    v100 = next(row for row in compared.baselines if row.name == "v100-sxm2")
    assert v100.dtype == "fp16"
    assert "fp16 in place of bf16" in compared.notes["v100-sxm2"]
    assert compared.notes["mini"].startswith("bf16 with fp32 accumulation")


def test_to_dict_is_plain_and_has_exactly_the_public_keys(compared: accel.Comparison) -> None:
    data = json.loads(json.dumps(compared.to_dict(), allow_nan=False))
    assert list(data) == ["problem", "chip", "baselines", "speedup"]
    assert list(data["chip"]) == [
        "name", "dtype", "cycles", "seconds", "tflops", "utilization", "energy_j", "usd", "bound_seconds", "losses",
    ]  # fmt: skip
    for row in data["baselines"]:
        assert list(row) == [
            "name", "dtype", "seconds", "tflops", "utilization", "energy_j", "usd", "source", "error_pct",
        ]  # fmt: skip
    assert accel.problem.from_dict(data["problem"]) == PROBLEM


def test_chip_usd_by_hand() -> None:
    """d1: 200 + 224 USD over 4 x 8766 h is 0.012092 USD/h; 3.6 MJ are a kWh of 0.08 USD, times PUE 1.2."""
    d1 = accel.chip("d1")
    assert comparison.chip_usd(d1, 3600.0, 0.0) == pytest.approx(424 / 35064)
    assert comparison.chip_usd(d1, 0.0, 3.6e6) == pytest.approx(0.096)
    dearer = d1.replace(**{"cost.die_usd": {"nominal": 214.0}})
    assert comparison.chip_usd(dearer, 3600.0, 0.0) == pytest.approx(438 / 35064)


def test_resident_operands_lower_bound_and_time(compared: accel.Comparison) -> None:
    held = accel.bench(PROBLEM, "mini", resident=("a", "b"))
    assert held.chip.bound_seconds <= compared.chip.bound_seconds
    assert held.chip.cycles < compared.chip.cycles
    assert held.baselines == ()
    assert held.to_dict()["speedup"] == {}


def test_aliases_and_repetitions_are_one_row() -> None:
    result = accel.bench(PROBLEM, "mini", ["h100-sxm", "NVIDIA H100 SXM", "h100-sxm"])
    assert [row.name for row in result.baselines] == ["h100-sxm"]


def test_a_users_measurement_comes_first(tmp_path: Path) -> None:
    row = dict.fromkeys(GEMM_COLUMNS, "")
    row |= {"dataset": "own", "device": "NVIDIA T4", "precision": "fp16_tc_fp32acc", "op": "gemm", "source": "lab"}
    row |= {"batch": "1", "m": "96", "n": "80", "k": "64", "trans_a": "N", "trans_b": "N", "time_us": "12.5"}
    table = tmp_path / "rows.csv"
    table.write_text(",".join(GEMM_COLUMNS) + "\n" + ",".join(row.values()) + "\n")
    result = accel.bench(PROBLEM, "mini", ["t4"], data=table)
    assert result.baselines[0].source == "measured"
    assert result.baselines[0].seconds == pytest.approx(12.5e-6)


def test_bad_requests() -> None:
    with pytest.raises(UnsupportedError, match="the library has no kernel for unknown; it has matmul"):
        accel.bench(Unknown(), "mini")
    with pytest.raises(SpecError, match="did you mean 'mini'"):
        accel.bench(PROBLEM, "mimi")
    with pytest.raises(InputError, match="did you mean 'h100-sxm'"):
        accel.bench(PROBLEM, "mini", ["h100-smx"])
    with pytest.raises(InputError, match="bench needs a problem, got 'matmul'; use"):
        accel.bench("matmul", "mini")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no tiling parameter 'tile'"):
        accel.bench(PROBLEM, "mini", tile=3)
    with pytest.raises(InputError, match="resident"):
        accel.bench(PROBLEM, "mini", resident="q")
