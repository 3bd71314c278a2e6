"""Measured GPU rows: the small cited tables of the package, and full sets with the same columns by path."""

from __future__ import annotations

import csv
import functools
import math
import os
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from accel.errors import InputError
from accel.files import read_whole
from accel.problem import Conv2d, Matmul, Problem

__all__ = ["CONV_COLUMNS", "GEMM_COLUMNS", "PRECISIONS", "MeasuredRow", "packaged_rows", "read_rows"]

_ROOF = (
    "tflops flops min_bytes peak_tflops hbm_gbps compute_roof_us memory_roof_us roofline_us bound time_over_roofline"
)
GEMM_COLUMNS = tuple(
    f"dataset device precision op batch m n k trans_a trans_b time_us {_ROOF} application kernel_name tile "
    "grid_x grid_y grid_z block_x source".split()
)
CONV_COLUMNS = tuple(
    "dataset device precision op batch in_ch in_h in_w out_ch kernel_h kernel_w pad_h pad_w stride_h stride_w "
    f"out_h out_w time_us {_ROOF} algo application kernel_name note source".split()
)

PRECISIONS = {"fp16_tc_fp32acc": "fp16", "fp16": "fp16", "bf16": "bf16", "fp8_e4m3": "fp8", "fp32_simt": "fp32"}
"""The column `precision` as one of the catalog's formats; `fp32_simt` is fp32 with TF32 off."""

_GEMM_OPS = ("gemm", "linear", "bmm")
_CONV_OPS = {"conv_fwd": "fwd", "conv_bwd_data": "dgrad", "conv_bwd_weight": "wgrad"}


class MeasuredRow(NamedTuple):
    """One timing: what ran, on which device string, in which format, how long, who measured it."""

    device: str
    dtype: str
    problem: Problem
    batch: int
    transposes_recorded: bool
    seconds: float
    dataset: str
    remark: str
    source: str


def packaged_rows(kind: str) -> tuple[MeasuredRow, ...]:
    """Return the cited rows that ship with the package, for problem kind "matmul" or "conv2d"."""
    return _packaged(kind)


@functools.cache
def _packaged(kind: str) -> tuple[MeasuredRow, ...]:
    name = {"matmul": "gpu_gemm.csv", "conv2d": "gpu_conv.csv"}[kind]
    text = files("accel.baselines").joinpath("data", name).read_text(encoding="utf-8")
    return _parse(text, name)


def read_rows(path: str | os.PathLike[str]) -> tuple[MeasuredRow, ...]:
    """Read a CSV with exactly `GEMM_COLUMNS` or `CONV_COLUMNS`; InputError names line and column of the first fault."""
    try:
        where = Path(path)
        stamp = where.stat()
        return _read(where, stamp.st_mtime_ns, stamp.st_size)
    except TypeError:
        raise InputError(f"cannot read rows {path!r}; give the path of a CSV file") from None
    except OSError as error:
        raise InputError(
            f"cannot read rows {os.fspath(path)!r}: {error.strerror or error}; give a CSV file that you may read"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"data {os.fspath(path)}: not UTF-8 text; give a CSV file") from None


@functools.lru_cache(maxsize=8)
def _read(path: Path, _modified: int, _size: int) -> tuple[MeasuredRow, ...]:
    return _parse(read_whole(path, LARGEST_CSV, "data").decode("utf-8-sig"), str(path))


LARGEST_CSV = 1 << 30  # bytes


class _Line:
    """One CSV line whose faults name file, line and column."""

    def __init__(self, origin: str, number: int, cells: dict[str, str]) -> None:
        self.origin, self.number, self.cells = origin, number, cells

    def fault(self, column: str, rule: str) -> InputError:
        return InputError(f"data {self.origin}, line {self.number}, column {column}: {self.cells[column]!r} {rule}")

    def count(self, column: str, low: int = 1) -> int:
        text = self.cells[column].strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) >= low):
            raise self.fault(column, f"is not a whole number from {low}; correct the cell")
        return int(text)

    def microseconds(self) -> float:
        try:
            value = float(self.cells["time_us"])
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise self.fault("time_us", "is not a positive time in microseconds; correct the cell")
        return value

    def choice(self, column: str, known: tuple[str, ...]) -> str:
        text = self.cells[column].strip()
        if text not in known:
            raise self.fault(column, f"is not one of {', '.join(repr(k) for k in known)}; correct the cell")
        return text


def _parse(text: str, origin: str) -> tuple[MeasuredRow, ...]:
    reader = csv.reader(text.splitlines())
    try:
        header = next(reader, [])
        columns = GEMM_COLUMNS if "m" in header else CONV_COLUMNS
        _check_header(origin, header, columns)
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"data {origin}, line {reader.line_num}: {len(cells)} cells for {len(header)} columns, the first "
                    f"without match near column {header[min(len(cells), len(header)) - 1]}; correct the line"
                )
            line = _Line(origin, reader.line_num, dict(zip(header, cells, strict=True)))
            rows.append(_gemm_row(line) if columns is GEMM_COLUMNS else _conv_row(line))
    except csv.Error as error:
        raise InputError(f"data {origin}, line {reader.line_num}: {error}; give a CSV file") from None
    return tuple(rows)


def _check_header(origin: str, header: list[str], columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in header]
    unknown = [name for name in header if name not in columns]
    if missing or unknown or len(set(header)) != len(header):
        twice = [name for name in header if header.count(name) > 1]
        if missing:
            fault = f"column {missing[0]} is missing"
        elif unknown:
            fault = f"column {unknown[0]!r} is not known"
        else:
            fault = f"column {twice[0]} is given twice"
        raise InputError(f"data {origin}, line 1: {fault}; give the columns {', '.join(columns)}")


def _problem(line: _Line, column: str, build: type[Problem], **fields: object) -> Problem:
    """Build a row's problem; what the problem refuses is a fault of this line."""
    try:
        return build(**fields)
    except InputError as error:
        raise line.fault(column, f"makes an impossible problem ({error.message})") from None


def _gemm_row(line: _Line) -> MeasuredRow:
    dtype = PRECISIONS[line.choice("precision", tuple(PRECISIONS))]
    line.choice("op", _GEMM_OPS)
    trans_a, trans_b = (line.choice(name, ("", "N", "T")) for name in ("trans_a", "trans_b"))
    m, n, k = (line.count(name) for name in ("m", "n", "k"))
    stored = "bf16" if dtype == "fp8" else dtype
    problem = _problem(
        line, "m", Matmul, m=m, n=n, k=k, dtype=stored, out_dtype=stored, trans_a=trans_a == "T", trans_b=trans_b == "T"
    )
    return MeasuredRow(
        line.cells["device"], dtype, problem, line.count("batch"), bool(trans_a and trans_b),
        line.microseconds() * 1e-6, line.cells["dataset"], line.cells["application"], line.cells["source"],
    )  # fmt: skip


def _conv_row(line: _Line) -> MeasuredRow:
    dtype = PRECISIONS[line.choice("precision", tuple(PRECISIONS))]
    direction = _CONV_OPS[line.choice("op", tuple(_CONV_OPS))]
    sizes = {name: line.count(column) for name, column in _CONV_SIZES.items()}
    stored = "bf16" if dtype == "fp8" else dtype
    problem = _problem(
        line, "kernel_h", Conv2d, **sizes,
        stride=(line.count("stride_h"), line.count("stride_w")), pad=(line.count("pad_h", 0), line.count("pad_w", 0)),
        dtype=stored, out_dtype=stored, direction=direction,
    )  # fmt: skip
    assert isinstance(problem, Conv2d)
    for column, size in (("out_h", problem.p), ("out_w", problem.q)):
        if line.count(column) != size:
            raise line.fault(column, f"is not the output size {size} of the other columns; correct the row")
    return MeasuredRow(
        line.cells["device"], dtype, problem, 1, True, line.microseconds() * 1e-6, line.cells["dataset"],
        line.cells["note"] or line.cells["application"], line.cells["source"],
    )  # fmt: skip


_CONV_SIZES = {
    "n": "batch",
    "h": "in_h",
    "w": "in_w",
    "c": "in_ch",
    "k": "out_ch",
    "r": "kernel_h",
    "s": "kernel_w",
}
