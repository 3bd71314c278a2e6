"""Where a benchmark's figures come from: processor, its fma peak, versions, BLAS kernel, commit, load."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["collect", "line"]

PACKAGES = ("numpy", "numba", "llvmlite", "accel-codesign")


@functools.cache
def collect() -> dict[str, Any]:
    """Return what a reader needs to set figures of two machines in relation; `load` is that before the run."""
    from accel.machine import host

    return {
        "processor": host.host_cpu().name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "vector_code": host.isa_target(),
        "fma_peak_gflops": round(host.fma_peak_gflops(), 1),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "openblas_core": _openblas_core(),
        "commit": _commit(),
        "smoke": os.environ.get("ACCEL_BENCH") == "smoke",
    }


def line(facts: dict[str, Any]) -> str:
    """Return the facts as one line of text."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, load {facts['load']:.1f}, {facts['vector_code']}, "
        f"fma peak {facts['fma_peak_gflops']:.0f} GFLOPS a core, OpenBLAS {facts['openblas_core']}; "
        f"Python {facts['python']}, {versions}; commit {facts['commit']}"
    )


def _openblas_core() -> str:
    """Return which kernels NumPy's OpenBLAS chose, "unknown" where threadpoolctl cannot say."""
    import numpy as np
    import threadpoolctl

    assert np.ones(2) @ np.ones(2) == 2.0
    cores = [pool.get("architecture") for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return str(cores[0]) if cores else "unknown"


def _commit() -> str:
    """Return the commit, with + where the tree has changes; "unknown" outside a clone."""
    root = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"
