"""Shared fixtures: the outside reference data, and the Hypothesis profiles."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# ci finds the same examples on every machine and prints how to replay a failure; nightly looks further.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", deadline=None, print_blob=True, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Return the folder of measured and published numbers; skips, saying how to get it, where there is none."""
    chosen = os.environ.get("ACCEL_REFERENCE")
    folder = Path(chosen) if chosen else ROOT.parent / "shared" / "reference"
    if not (folder / "README.md").is_file():
        if chosen:
            pytest.fail(f"ACCEL_REFERENCE={chosen} has no README.md: point it at the reference folder or unset it")
        pytest.skip("no reference data: set ACCEL_REFERENCE to the folder that holds gpu_gemm.csv and its README.md")
    return folder
