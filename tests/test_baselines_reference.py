"""GPU baselines against the reference sets: catalog figures, packaged rows, and the claimed held-out errors."""

from __future__ import annotations

import csv
import math
import statistics
from pathlib import Path

import pytest

from accel.baselines.catalog import GPUS
from accel.baselines.fits import Fit, family, fits, is_scored
from accel.baselines.measured import MeasuredRow, packaged_rows, read_rows
from accel.baselines.model import as_tiled_work, roofline_seconds, tiled_seconds
from accel.problem import Conv2d


def _rows(folder: Path) -> list[MeasuredRow]:
    return [*read_rows(folder / "gpu_gemm.csv"), *read_rows(folder / "gpu_conv.csv")]


def _of(fit: Fit, rows: list[MeasuredRow]) -> list[MeasuredRow]:
    aliases = next({alias.lower() for alias in gpu.aliases} for gpu in GPUS if gpu.name == fit.gpu)
    return [
        row
        for row in rows
        if (row.device.lower() in aliases and row.batch == 1)
        and (row.dtype, family(row.problem)) == (fit.dtype, fit.operation)
    ]


def test_catalog_equals_the_datasheet_table(reference_dir: Path) -> None:
    with (reference_dir / "gpu_datasheet.csv").open(encoding="utf-8", newline="") as file:
        table = {row["device"]: row for row in csv.DictReader(file)}
    seen = 0
    for gpu in GPUS:
        for alias in gpu.aliases:
            if (sheet := table.get(alias)) is None:
                continue
            seen += 1
            assert gpu.sms == int(sheet["sm_or_cu_count"])
            assert gpu.memory_gbps == float(sheet["hbm_gbps"])
            assert gpu.tdp_w == float(sheet["tdp_w"])
            assert gpu.l2_mb == float(sheet["l2_mb"])
            for name in ("fp32", "bf16", "fp16", "fp8"):
                cell = sheet[f"{name}_tflops"]
                assert gpu.peak_tflops.get(name) == (float(cell) if cell else None), (gpu.name, name)
            assert gpu.peak_tflops["int8"] == float(sheet["int8_tops"])
    assert seen == 6


def test_catalog_equals_the_roofline_columns_of_the_measured_rows(reference_dir: Path) -> None:
    with (reference_dir / "gpu_gemm.csv").open(encoding="utf-8", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["precision"].startswith("fp16")]
    checked = set()
    for gpu in GPUS:
        for row in table:
            if row["device"] in gpu.aliases:
                assert gpu.peak_tflops["fp16"] == float(row["peak_tflops"])
                assert gpu.memory_gbps == float(row["hbm_gbps"])
                checked.add(gpu.name)
    assert checked == {"v100-sxm2", "t4", "a100-sxm-80gb", "mi210"}


def test_prices_equal_the_cost_table(reference_dir: Path) -> None:
    with (reference_dir / "cost_constants.csv").open(encoding="utf-8", newline="") as file:
        table = {row["constant"]: row for row in csv.DictReader(file)}
    prices = {gpu.name: (gpu.usd, gpu.usd_per_hour) for gpu in GPUS}

    def value(name: str) -> float:
        return float(table[name]["value"])

    assert prices["a100-sxm-80gb"] == (value("gpu_price_a100_80_used"), value("cloud_a100_80_per_gpu_h"))
    assert prices["h100-sxm"] == (value("gpu_price_h100"), value("cloud_h100_per_gpu_h"))
    assert prices["h200-sxm"] == (value("gpu_price_h200"), value("cloud_h200_per_gpu_h"))
    assert prices["b200"] == (value("gpu_price_b200"), None)


def test_packaged_rows_are_reference_rows(reference_dir: Path) -> None:
    known = set(map(str, _rows(reference_dir)))
    packaged = [*packaged_rows("matmul"), *packaged_rows("conv2d")]
    assert [row for row in packaged if str(row) not in known] == []


def test_flops_and_bytes_equal_the_reference_columns(reference_dir: Path) -> None:
    for name in ("gpu_gemm.csv", "gpu_conv.csv"):
        with (reference_dir / name).open(encoding="utf-8", newline="") as file:
            cells = list(csv.DictReader(file))
        for row, cell in zip(read_rows(reference_dir / name), cells, strict=True):
            assert row.batch * row.problem.flops == pytest.approx(float(cell["flops"]), rel=1e-8)
            if row.batch > 1 or row.dtype == "fp8":
                continue
            theirs, ours = int(float(cell["min_bytes"])), row.problem.compulsory_bytes
            if isinstance(row.problem, Conv2d) and row.problem.strides != (1, 1):
                # The column leaves out pixels between the strides of 1x1 filters only (of data gradients too, which
                # write them), and never the gradients that meet only padding.
                whole = sum(operand.bytes for operand in row.problem.operands.values())
                assert ours <= whole, cell["source"]
                if row.problem.direction != "dgrad":
                    assert ours <= theirs, cell["source"]
                    assert row.problem.pads != (0, 0) or ours >= 0.99 * theirs, cell["source"]
            else:
                assert ours == theirs, cell["source"]


@pytest.mark.parametrize("key", sorted(fits()), ids=" ".join)
def test_claimed_error_is_that_of_rows_not_fitted(key: tuple[str, str, str], reference_dir: Path) -> None:
    fit = fits()[key]
    gpu = next(gpu for gpu in GPUS if gpu.name == fit.gpu)
    rows = _of(fit, _rows(reference_dir))
    scored = [row for row in rows if is_scored(row)]
    fitted = [row for row in rows if not is_scored(row)]
    assert (len(fitted), len(scored)) == (fit.fitted_rows, fit.scored_rows)
    fitted_shapes = {_shape(row) for row in fitted}
    assert not fitted_shapes & {_shape(row) for row in scored}
    errors = []
    for row in scored:
        work = as_tiled_work(row.problem, row.dtype)
        seconds = tiled_seconds(work, gpu, row.dtype, fit.parameters)
        assert seconds >= roofline_seconds(work, gpu, row.dtype)
        errors.append(100 * abs(seconds - row.seconds) / row.seconds)
    errors.sort()
    assert statistics.median(errors) == pytest.approx(fit.median_error_pct, abs=0.051)
    assert statistics.fmean(errors) == pytest.approx(fit.mean_error_pct, abs=0.051)
    assert errors[math.ceil(0.9 * len(errors)) - 1] == pytest.approx(fit.p90_error_pct, abs=0.051)


def _shape(row: MeasuredRow) -> str:
    """The sizes of a row's problem without transposes, direction and formats."""
    dropped = ("trans_a", "trans_b", "direction", "dtype", "out_dtype")
    return str([value for name, value in row.problem.to_dict().items() if name not in dropped])
