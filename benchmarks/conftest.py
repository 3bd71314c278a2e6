"""What every benchmark file says about itself: the host, the versions, the BLAS kernel, the commit and the load."""

from __future__ import annotations

import os
import sys
from typing import Any

# OPENBLAS_CORETYPE makes NumPy use another processor's kernels, which can halve a baseline: gone before NumPy loads.
if os.environ.pop("OPENBLAS_CORETYPE", None) is not None and "numpy" in sys.modules:
    sys.exit("NumPy was loaded with OPENBLAS_CORETYPE set, so its times mean nothing; unset it and run again")

import provenance


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    """Put the provenance into the JSON, once for all benchmarks of a run."""
    machine_info["provenance"] = provenance.collect()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print it too: a time without its machine is no figure."""
    terminalreporter.write_line(provenance.line(provenance.collect()))
