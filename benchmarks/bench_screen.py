"""Screening: points a second in one process, and time and memory of a million points, against their budgets.

ACCEL_BENCH=smoke screens a tenth of the points: it shows that the benchmark runs, not how fast the library is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
POINTS_A_SECOND = 1e5  # at least, of one core
SECONDS, BYTES = 60.0, 4e9  # at most, for a million points, with the start of Python and of the compiled code

_SHARES = {"from": 50.0, "to": 800.0, "count": 10, "scale": "log"}
SPACES: dict[str, dict[str, Any]] = {
    "chip fields": {
        "problem": {"kind": "matmul", "m": 4096, "n": 4096, "k": 4096},
        "axes": {
            "clock_hz": {"from": 10**9, "to": 3 * 10**9, "count": 10, "multiple": 1},
            "mesh.site_rows": [18, 19, 20, 21, 22],
            "node.matrix.m": [4, 8, 16], "node.matrix.k": [4, 8], "noc.link_bytes_per_cycle": [32, 64],
            "node.sram_bytes": {"from": 1 << 16, "to": 1 << 22, "factor": 2},
            "node.mesh_bytes_per_cycle": [16, 32, 64, 128], "ports.*.bytes_per_cycle": _SHARES,
            "ports.*.efficiency": [0.7, 0.8, 0.9, 0.95, 1.0],
        },
        "kernel": {"resident": ["b"]},
        "constraints": {"wide": "node.mesh_bytes_per_cycle <= 2 * noc.link_bytes_per_cycle"},
    },
    "convolution sizes": {
        "problem": {"kind": "conv2d", "n": 8, "c": 64, "k": "= 64 * problem.groups", "s": 3},
        "axes": {
            "problem.h": {"from": 14, "to": 113, "step": 1}, "problem.w": {"from": 14, "to": 55, "step": 1},
            "problem.r": [1, 3, 5], "problem.stride": [1, 2], "problem.groups": [1, 2, 4, 8],
            "node.sram_bytes": {"from": 1 << 16, "to": 1 << 20, "factor": 2}, "ports.*.bytes_per_cycle": [100.0, 400.0],
        },
        "kernel": {"resident": ["w"]},
    },
    "a sample, all values different": {
        "problem": {"kind": "matmul"},
        "axes": {
            **{f"problem.{name}": {"from": 1, "to": 4096, "step": 1} for name in ("m", "n", "k")},
            "ports.*.bytes_per_cycle": {"from": 50.0, "to": 800.0, "count": 100_000},
            "clock_hz": {"from": 10**9, "to": 2 * 10**9, "step": 10_000},
        },
        "sample": {"method": "latin_hypercube", "count": 1_000_000, "seed": 1},
    },
    "layers of a network": {
        "problem": {"network": "resnet50", "training": True, "batch": 16},
        "axes": {
            "clock_hz": {"from": 10**9, "to": 3 * 10**9, "count": 100, "multiple": 1},
            "node.sram_bytes": {"from": 1 << 16, "to": 1 << 22, "factor": 2},
            "ports.*.bytes_per_cycle": {**_SHARES, "count": 200}, "node.mesh_bytes_per_cycle": [16, 32, 64, 128],
            "node.matrix.k": [4, 8],
        },
    },
}  # fmt: skip


def _screened(name: str, share: float) -> dict[str, Any]:
    """Screen a space in a fresh process and return its figures."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    done = subprocess.run(
        [sys.executable, __file__, name, str(share)], capture_output=True, text=True, check=True, env=env
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", SPACES)
def test_screen(benchmark: Any, name: str) -> None:
    """Processor seconds are of one core, so they hold on a machine that does other work; wall seconds do not."""
    found = benchmark.pedantic(_screened, args=(name, 0.1 if SMOKE else 1.0), rounds=1)
    benchmark.extra_info |= found
    rate, million = found["points"] / found["screen_s"], found["process_s"] * 1e6 / found["points"]
    print(
        f"{name}: {found['points']:,} points, {found['legal']:,} legal; {rate:,.0f} points a second of one core "
        f"(budget {POINTS_A_SECOND:,.0f}), {million:.1f} s for a million with start (budget {SECONDS:.0f}), "
        f"{found['peak_bytes'] / 1e9:.2f} GB (budget {BYTES / 1e9:.0f})"
    )


def main(name: str, share: float) -> None:
    """Screen a space, or the first `share` of its points in run order, and print the figures as JSON."""
    import resource
    import time

    from accel.sweep import Space
    from accel.sweep.screen import screen

    space = Space.from_dict(SPACES[name])
    order = space.order()
    screen(space, order[:1])  # compiles or loads the compiled code
    begun, wall = time.process_time(), time.perf_counter()
    found = screen(space, order[: int(len(order) * share)])
    used, passed = time.process_time() - begun, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        json.dumps(
            {"points": len(found), "legal": int(found.legal.sum()), "screen_s": used, "screen_wall_s": passed,
             "process_s": time.process_time(), "peak_bytes": peak}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
