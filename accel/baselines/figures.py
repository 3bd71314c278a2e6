"""One GPU figure for a problem: measured where a row exists, else modelled, and labelled which."""

from __future__ import annotations

import os
import statistics
from typing import Any, NamedTuple

from accel.baselines.catalog import Gpu, gpu
from accel.baselines.fits import Fit, family, fits
from accel.baselines.measured import MeasuredRow, packaged_rows, read_rows
from accel.baselines.model import Parameters, as_tiled_work, is_tiled, tiled_seconds, untiled_seconds
from accel.errors import UnsupportedError
from accel.problem import Conv2d, Matmul, Problem

__all__ = ["Baseline", "estimate"]

STAND_INS: dict[str, tuple[str, ...]] = {
    "bf16": ("bf16", "fp16"),
    "fp16": ("fp16", "bf16"),
    "fp32": ("fp32",),
    "cfp8-143": ("fp8", "bf16", "fp16"),
    "cfp8-152": ("fp8", "bf16", "fp16"),
    "shp16": ("fp16", "bf16"),
    "uhp16": ("fp16", "bf16"),
    "int8": ("int8",),
    "uint8": ("int8",),
}
"""GPU formats that may stand for a problem's format, best first; a stand-in shows in `dtype` and in `note`."""

_NEAREST_FIT = {"fp16": ("a100-sxm-80gb", "fp16"), "fp32": ("h100-sxm", "fp32")}
"""Family whose parameters an uncalibrated figure borrows: the newest device fitted on that kind of engine."""

FRAMEWORK_OVERHEAD_S = {"a100-sxm-80gb": 21e-6}
"""Seconds of PyTorch overhead inside each timing of a GPU's rows (LLMCompass artifact); not borrowed by other GPUs."""


class Baseline(NamedTuple):
    """A GPU's figure for a problem.

    `dtype` is the format the figure is for, which may differ from the problem's (then `note` says why); `source` is
    "measured", "model" or "uncalibrated"; `error_pct` is the median held-out error of the model's family, None for the
    others. `utilization` is of the datasheet peak in `dtype`; `energy_j` = TDP x seconds, an upper estimate; `usd` is
    cloud rent of the time, None where no price is at hand.
    """

    name: str
    dtype: str
    seconds: float
    tflops: float
    utilization: float
    energy_j: float
    usd: float | None
    source: str
    error_pct: float | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self._asdict()


def estimate(problem: Problem, gpu_id: str, data: str | os.PathLike[str] | None = None) -> Baseline:
    """Return the figure of one GPU for `problem`: a measured row of exactly this shape and format, else the model.

    gpu_id: an id or alias of the catalog, as for `gpu`. `data` adds the rows of a CSV (columns as
    `accel.baselines.measured`); they come before the packaged ones. InputError for an unknown GPU (nearest named) or a
    bad CSV; UnsupportedError for a format no engine of it takes.
    """
    row = gpu(gpu_id)
    formats = _formats(problem, row)
    given = read_rows(data) if data is not None else ()
    if not is_tiled(problem):
        return _uncalibrated(problem, row, formats[0])
    rows = (*given, *packaged_rows(problem.kind))
    for dtype in formats:
        hits = [hit for hit in rows if _matches(hit, problem, row, dtype)]
        if hits:
            return _measured(problem, row, dtype, hits)
        if fit := fits().get((row.name, dtype, family(problem))):
            return _modelled(problem, row, dtype, fit)
    return _uncalibrated(problem, row, formats[0])


def _formats(problem: Problem, row: Gpu) -> tuple[str, ...]:
    found = tuple(name for name in STAND_INS.get(problem.engine_dtype, ()) if name in row.peak_tflops)
    if not found:
        raise UnsupportedError(
            f"{row.name} has no engine for {problem.engine_dtype}; it takes {', '.join(row.engine_formats)}"
        )
    return found


def _matches(hit: MeasuredRow, problem: Problem, row: Gpu, dtype: str) -> bool:
    if hit.dtype != dtype or hit.batch != 1 or hit.device.strip().lower() not in _device_names(row):
        return False
    theirs = hit.problem
    if isinstance(problem, Matmul) and isinstance(theirs, Matmul):
        if problem.batch > 1 or problem.split_k > 1 or problem.follows:
            return False
        same = (problem.m, problem.n, problem.k, problem.trans_a, problem.trans_b)
        if same != (theirs.m, theirs.n, theirs.k, theirs.trans_a, theirs.trans_b):
            return False
    elif isinstance(problem, Conv2d) and isinstance(theirs, Conv2d):
        if _geometry(problem) != _geometry(theirs):
            return False
    else:
        return False
    # Rows in fp8 count two bytes a result (their min_bytes), as a matmul of 8-bit floats gives here by default.
    return problem.out_dtype == (theirs.out_dtype if dtype == "fp8" else problem.dtype)


def _device_names(row: Gpu) -> frozenset[str]:
    return frozenset(name.lower() for name in (row.name, row.title, *row.aliases))


def _geometry(conv: Conv2d) -> tuple[object, ...]:
    return (
        conv.n, conv.h, conv.w, conv.c, conv.k, conv.r, conv.s,
        conv.strides, conv.pads, conv.dilations, conv.groups, conv.direction,
    )  # fmt: skip


def _finish(problem: Problem, row: Gpu, dtype: str, seconds: float, source: str, error: float | None,
            remarks: list[str]) -> Baseline:  # fmt: skip
    if dtype != problem.engine_dtype:
        reason = (
            "same datasheet rate, and this GPU's rows are in it"
            if row.peak_tflops.get(problem.engine_dtype) == row.peak_tflops[dtype]
            else f"the GPU has no {problem.engine_dtype} engine"
        )
        remarks.insert(0, f"{dtype} in place of {problem.engine_dtype} ({reason})")
    if row.usd_per_hour is None:
        remarks.append("no cloud price at hand")
    else:
        remarks.append(f"{row.usd_per_hour} usd/h ({row.sources['usd_per_hour']})")
    remarks.append("energy = TDP x time, an upper estimate")
    return Baseline(
        name=row.name,
        dtype=dtype,
        seconds=seconds,
        tflops=problem.flops / seconds / 1e12,
        utilization=problem.flops / seconds / (row.peak_tflops[dtype] * 1e12),
        energy_j=row.tdp_w * seconds,
        usd=None if row.usd_per_hour is None else seconds * row.usd_per_hour / 3600,
        source=source,
        error_pct=error,
        note="; ".join(remarks),
    )


def _measured(problem: Problem, row: Gpu, dtype: str, hits: list[MeasuredRow]) -> Baseline:
    timings = {hit.source: hit for hit in reversed(hits)}  # one row given twice (packaged and by path) counts once
    first = hits[0]
    remarks = [f"{first.dataset}: {first.source}"]
    if first.remark:
        remarks.append(first.remark)
    if len(timings) > 1:
        remarks.append(f"median of {len(timings)} rows")
    if not first.transposes_recorded:
        remarks.append("row does not record transposes")
    seconds = statistics.median(hit.seconds for hit in timings.values())
    return _finish(problem, row, dtype, seconds, "measured", None, remarks)


def _modelled(problem: Problem, row: Gpu, dtype: str, fit: Fit) -> Baseline:
    seconds = tiled_seconds(as_tiled_work(problem, dtype), row, dtype, fit.parameters)
    remark = (
        f"fitted on {fit.fitted_rows} rows, scored on {fit.scored_rows} others: median {fit.median_error_pct:g} %, "
        f"mean {fit.mean_error_pct:g} %, p90 {fit.p90_error_pct:g} %"
    )
    remarks = [remark]
    if fit.operation == "matmul" and row.name in FRAMEWORK_OVERHEAD_S:
        remarks.append(f"rows include about {FRAMEWORK_OVERHEAD_S[row.name] * 1e6:.0f} us of framework overhead")
    return _finish(problem, row, dtype, seconds, "model", fit.median_error_pct, remarks)


def _uncalibrated(problem: Problem, row: Gpu, dtype: str) -> Baseline:
    """Borrow the shares of peak and bandwidth of another GPU; per-multiprocessor rates grow with that GPU's."""
    lender, lender_format = _NEAREST_FIT["fp32" if dtype == "fp32" else "fp16"]
    donor = gpu(lender)
    fit = fits()[lender, lender_format, "matmul"]
    scale = (row.peak_tflops[dtype] / row.sms) / (donor.peak_tflops[lender_format] / donor.sms)
    parameters: Parameters = fit.parameters._replace(
        sm_gbps=fit.parameters.sm_gbps * scale,
        launch_s=fit.parameters.launch_s - FRAMEWORK_OVERHEAD_S.get(lender, 0.0),
    )
    if is_tiled(problem):
        seconds = tiled_seconds(as_tiled_work(problem, dtype), row, dtype, parameters)
    else:
        seconds = untiled_seconds(problem, row, dtype, parameters)
    remark = f"no {dtype} {family(problem)} sweep of this GPU at hand; shares borrowed from {lender} {lender_format}"
    return _finish(problem, row, dtype, seconds, "uncalibrated", None, [remark])
