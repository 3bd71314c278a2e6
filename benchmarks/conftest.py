"""What every benchmark file says about itself: the host, the versions, the BLAS kernel, the commit and the load."""

from __future__ import annotations

import os
import sys
from typing import Any

# NumPy reads both when it loads. OPENBLAS_CORETYPE can halve a baseline: kernels of another processor. And one thread:
# the executor has one, and on a machine that does other work OpenBLAS's threads wait for each other and lose tenfold.
if "numpy" in sys.modules:
    sys.exit("NumPy is loaded before the benchmarks could set up OpenBLAS; run them by themselves: pytest benchmarks")
os.environ.pop("OPENBLAS_CORETYPE", None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import provenance


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Put the provenance into the JSON, once for all benchmarks of a run."""
    machine_info["provenance"] = provenance.collect()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print it too: a time without its machine is no figure."""
    terminalreporter.write_line(provenance.line(provenance.collect()))
