"""GPU time of a problem: the slower of tiled compute with wave quantisation and memory, plus a launch floor."""

from __future__ import annotations

import math
from typing import NamedTuple

from accel.baselines.catalog import Gpu
from accel.numerics import fmt
from accel.problem import Conv2d, Matmul, Problem

__all__ = [
    "Parameters",
    "TiledWork",
    "as_tiled_work",
    "is_tiled",
    "roofline_seconds",
    "tiled_seconds",
    "untiled_seconds",
]

TILES = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32))
"""Output tiles (rows, columns) of one thread block: the shapes that cuBLAS, CUTLASS and rocBLAS kernels name."""

SPLITS = (1, 2, 4, 8, 16, 32, 64)
"""Ways to cut k over thread blocks; each cut writes and reads back one fp32 partial result."""

LEAST_DEPTH = 32
"""Multiply-adds a thread block walks at least in k where k is cut: one k step of those kernels."""

_PARTIAL_BYTES = 2 * 4  # an fp32 partial is written once and read once
_FORMAT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0}


class Parameters(NamedTuple):
    """What is fitted, per device, number format and operation.

    compute: share of the datasheet peak that a full tile reaches; memory: share of the datasheet bandwidth;
    launch_s: seconds of a launch with nothing to do, as the row's author measured it; sm_gbps: operand bytes one
    multiprocessor takes in, 1e9 B/s; tile_s: seconds to start and end one thread block; ramp_s: seconds lost before a
    transfer much larger than the L2 cache runs at full rate (less for smaller ones, which repeated runs find in L2).
    """

    compute: float
    memory: float
    launch_s: float
    sm_gbps: float
    tile_s: float
    ramp_s: float


class TiledWork(NamedTuple):
    """A problem as `batch` products m x n x k, with its useful flops and its memory traffic in bytes."""

    batch: int
    m: int
    n: int
    k: int
    flops: int
    bytes: float


def as_tiled_work(problem: Problem, dtype: str) -> TiledWork:
    """Return the problem as (implicit) matrix products whose operands are stored in format `dtype`.

    m x n x k are, for fwd, N P Q x K x C R S; for dgrad, N H W x C x K R S / strides (only taps that land on a
    gradient); for wgrad, C R S x K x N P Q; groups are a batch. Padding taps count as work: GPU
    libraries multiply them too.
    """
    size = _FORMAT_BYTES[dtype]
    traffic = sum(
        problem.compulsory_elements(name)
        * (size if operand.role == "in" else _output_bytes(problem, operand.dtype, size))
        for name, operand in problem.operands.items()
    )
    if isinstance(problem, Matmul):
        return TiledWork(max(1, problem.batch), problem.m, problem.n, problem.k, problem.flops, traffic)
    if not isinstance(problem, Conv2d):
        raise TypeError(f"{type(problem).__name__} has no tiled form; give a Matmul or a Conv2d")
    c, k, taps = problem.c // problem.groups, problem.k // problem.groups, problem.r * problem.s
    pixels = problem.n * problem.p * problem.q
    if problem.direction == "fwd":
        m, n, depth = pixels, k, c * taps
    elif problem.direction == "dgrad":
        m, n = problem.n * problem.h * problem.w, c
        depth = -(-k * taps // (problem.strides[0] * problem.strides[1]))
    else:
        m, n, depth = c * taps, k, pixels
    return TiledWork(problem.groups, m, n, depth, problem.flops, traffic)


def is_tiled(problem: Problem) -> bool:
    """Say whether a problem has the form of matrix products that `as_tiled_work` knows."""
    return isinstance(problem, Matmul | Conv2d)


def untiled_seconds(problem: Problem, gpu: Gpu, dtype: str, fitted: Parameters) -> float:
    """Return launch + the slower of flops at the share `compute` of the peak and bytes at `memory` of the bandwidth.

    For kinds of problem without rows to fit a form on: no waves, no tiles, every operand moved once.
    """
    size = _FORMAT_BYTES[dtype]
    traffic = sum(
        problem.compulsory_elements(name)
        * (size if operand.dtype == problem.engine_dtype else fmt(operand.dtype).bits / 8)
        for name, operand in problem.operands.items()
    )
    compute = problem.flops / (gpu.peak_tflops[dtype] * 1e12 * fitted.compute)
    return fitted.launch_s + max(compute, traffic / (gpu.memory_gbps * 1e9 * fitted.memory))


def _output_bytes(problem: Problem, out_dtype: str, input_bytes: float) -> float:
    """Bytes of an output element on the GPU: an output in the input's format follows its stand-in, others stay."""
    return input_bytes if out_dtype == problem.engine_dtype else fmt(out_dtype).bits / 8


def roofline_seconds(work: TiledWork, gpu: Gpu, dtype: str) -> float:
    """Return max(flops / datasheet peak, bytes / datasheet bandwidth): no GPU of that kind is faster."""
    return max(work.flops / (gpu.peak_tflops[dtype] * 1e12), work.bytes / (gpu.memory_gbps * 1e9))


def tiled_seconds(work: TiledWork, gpu: Gpu, dtype: str, fitted: Parameters) -> float:
    """Return modelled seconds: launch + the best of `TILES` x `SPLITS`, each max(compute, memory).

    A thread block takes the slower of its multiply-adds at `compute` of one multiprocessor's peak and of its operands
    at `sm_gbps`, plus `tile_s`; whole waves over the multiprocessors are paid. Grows with every size, because each
    candidate does, the candidates are the same for all sizes, and a minimum of growing functions grows; never below
    `roofline_seconds`.
    """
    flops_per_sm = gpu.peak_tflops[dtype] * 1e12 / gpu.sms * fitted.compute
    bytes_per_sm = fitted.sm_gbps * 1e9
    bandwidth = gpu.memory_gbps * 1e9 * fitted.memory
    size = _FORMAT_BYTES[dtype]
    best = math.inf
    for rows, columns in TILES:
        blocks = work.batch * -(-work.m // rows) * -(-work.n // columns)
        for split in SPLITS:
            depth = -(-work.k // split) if split == 1 else max(LEAST_DEPTH, -(-work.k // split))
            waves = -(-blocks * split // gpu.sms)
            block = max(2 * rows * columns * depth / flops_per_sm, (rows + columns) * depth * size / bytes_per_sm)
            partials = _PARTIAL_BYTES * split * work.batch * work.m * work.n if split > 1 else 0
            moved = work.bytes + partials
            memory = moved / bandwidth + fitted.ramp_s * moved / (moved + gpu.l2_mb * 1e6)
            best = min(best, max(waves * (block + fitted.tile_s), memory))
    return max(fitted.launch_s + best, roofline_seconds(work, gpu, dtype))
