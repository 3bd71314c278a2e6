"""Wall times of the command line as whole processes: help, cold (an empty compile cache) and warm; medians.

`python benchmarks/bench_cli.py [--repeats N] [--json FILE]` prints them; under pytest it is one benchmark a command.
The fma peak of the host is printed beside the times, so that figures of two machines can be set in relation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

SMALL = ("run", "matmul", "--shape", "64x48x32", "--chip", "mini")
COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "chips": ("chips",),
    "run 64x48x32 on mini": SMALL,
    "check 64x48x32 on mini": ("check", *SMALL[1:]),
    "run 1024x1024x1024 on d1": ("run", "matmul", "--shape", "1024x1024x1024"),
    "bench 4096x4096x4096 on d1": ("bench", "matmul", "--shape", "4096x4096x4096", "--vs", "a100-sxm-80gb"),
}
GOALS_S = {"help": 0.15, "run 64x48x32 on mini": 1.2, "run 1024x1024x1024 on d1": 2.0, "cold": 15.0}


def seconds(command: tuple[str, ...], **env: str) -> float:
    """Return the wall time of one process; a failing command is an error."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "accel", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **env},
    )  # fmt: skip
    return time.perf_counter() - begun


def cold_seconds() -> float:
    """Return the wall time of the small run with nothing compiled yet."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(SMALL, ACCEL_CACHE_DIR=folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_warm(benchmark, name: str) -> None:  # type: ignore[no-untyped-def]
    seconds(COMMANDS[name])
    benchmark.extra_info["goal_s"] = GOALS_S.get(name)
    benchmark.pedantic(seconds, args=(COMMANDS[name],), rounds=1 if os.environ.get("ACCEL_BENCH") == "smoke" else 5)


@pytest.mark.slow
def test_cold(benchmark) -> None:  # type: ignore[no-untyped-def]
    benchmark.extra_info["goal_s"] = GOALS_S["cold"]
    benchmark.pedantic(cold_seconds, rounds=1)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    from accel.machine import host

    peak = host.fma_peak_gflops()
    print(f"host: {host.host_cpu().name}, fma peak {peak:.0f} GFLOPS a core")
    cold = cold_seconds()
    print(f"{'cold (nothing compiled)':<30} {cold:7.2f} s   goal {GOALS_S['cold']} s")
    medians = {}
    for name, command in COMMANDS.items():
        seconds(command)
        medians[name] = statistics.median(seconds(command) for _ in range(chosen.repeats))
        goal = f"   goal {GOALS_S[name]} s" if name in GOALS_S else ""
        print(f"{name:<30} {medians[name]:7.2f} s{goal}")
    if chosen.json is not None:
        record = {"fma_peak_gflops": peak, "cpu": host.host_cpu().name, "cold_s": cold, "warm_s": medians}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
