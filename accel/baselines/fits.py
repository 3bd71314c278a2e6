"""Fitted parameters of the GPU model with their held-out errors, and the rule that keeps the two sets of rows apart."""

from __future__ import annotations

import functools
import hashlib
import tomllib
from importlib.resources import files
from typing import NamedTuple

from accel.baselines.measured import MeasuredRow
from accel.baselines.model import Parameters
from accel.problem import Conv2d, Matmul, Problem

__all__ = ["Fit", "family", "fits", "is_scored"]


class Fit(NamedTuple):
    """One fitted family: a device, a number format and an operation.

    Errors are |modelled / measured - 1| in percent over `scored_rows`, none of which was fitted.
    """

    gpu: str
    dtype: str
    operation: str
    parameters: Parameters
    fitted_rows: int
    scored_rows: int
    median_error_pct: float
    mean_error_pct: float
    p90_error_pct: float
    provenance: str


def family(problem: Problem) -> str:
    """Return the operation that is fitted apart: "matmul", "conv2d-fwd", "conv2d-dgrad" or "conv2d-wgrad"."""
    return f"{problem.kind}-{problem.direction}" if isinstance(problem, Conv2d) else problem.kind


def is_scored(row: MeasuredRow) -> bool:
    """Say whether a row is held out for scoring: the lowest bit of SHA-256 of its shape.

    Transposes, convolution direction, format and device are left out of the key, so that no shape is fitted in one
    variant and scored in another.
    """
    problem = row.problem
    if isinstance(problem, Matmul):
        sizes: tuple[object, ...] = (row.batch, problem.m, problem.n, problem.k)
    elif isinstance(problem, Conv2d):
        sizes = (
            problem.n, problem.h, problem.w, problem.c, problem.k, problem.r, problem.s, problem.strides, problem.pads
        )  # fmt: skip
    else:
        raise TypeError(f"{type(problem).__name__} rows are not split; give matmul or conv2d rows")
    return bool(hashlib.sha256(f"{problem.kind} {sizes}".encode()).digest()[-1] & 1)


@functools.cache
def fits() -> dict[tuple[str, str, str], Fit]:
    """Return every fitted family by (gpu id, format, operation), from `data/gpu_fits.toml`.

    The file is written by `benchmarks/fit_baselines.py` and by nothing else.
    """
    data = tomllib.loads(files("accel.baselines").joinpath("data", "gpu_fits.toml").read_text(encoding="utf-8"))
    table = {}
    for entry in data["fit"]:
        fields = {**entry, "parameters": Parameters(**entry["parameters"])}
        row = Fit(**fields)
        table[row.gpu, row.dtype, row.operation] = row
    return table
