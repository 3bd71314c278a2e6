"""accel: write a kernel for a tile-based training chip, run it to the bit, time it, check it, compare it with GPUs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel import baselines, hardware, kernels, numerics, problem
    from accel.batch import time_many
    from accel.comparison import Comparison, bench
    from accel.errors import AccelError, DeadlockError, Finding, HazardError
    from accel.hardware import ChipSpec, FrameFormat, chip
    from accel.lang import K, tensor
    from accel.program import Kernel, Program, assemble, kernel, load
    from accel.report.writing import write_report
    from accel.sweep.result import load_sweep
    from accel.sweep.run import sweep

__version__ = "0.1.0"

# What users hold, and the module each comes from. Nothing is imported before it is asked for, so `import accel`
# and `accel --help` cost no NumPy and no Numba.
_HOMES = {
    "AccelError": "accel.errors", "ChipSpec": "accel.hardware", "Comparison": "accel.comparison",
    "DeadlockError": "accel.errors", "Finding": "accel.errors", "FrameFormat": "accel.hardware",
    "HazardError": "accel.errors", "K": "accel.lang", "Kernel": "accel.program", "Program": "accel.program",
    "assemble": "accel.program", "bench": "accel.comparison", "chip": "accel.hardware", "kernel": "accel.program",
    "load": "accel.program", "load_sweep": "accel.sweep.result", "tensor": "accel.lang", "time_many": "accel.batch",
    "write_report": "accel.report.writing",
}  # fmt: skip
_PACKAGES = ("baselines", "hardware", "kernels", "numerics", "problem", "sweep")

__all__ = [
    "AccelError", "ChipSpec", "Comparison", "DeadlockError", "Finding", "FrameFormat", "HazardError", "K", "Kernel",
    "Program", "__version__", "assemble", "baselines", "bench", "chip", "hardware", "kernel", "kernels", "load",
    "load_sweep", "numerics", "problem", "sweep", "tensor", "time_many", "write_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"accel.{name}")
    else:
        raise AttributeError(f"module 'accel' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
