"""From a kernel to bits and cycles, warm and in process: build, execution, timing, and the memory that they take.

Whole processes are timed in `bench_cli.py`. ACCEL_BENCH=smoke measures the same on small shapes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from accel.kernels import matmul
from accel.program import Program
from accel.report.showcase import hard_values

SMOKE = os.environ.get("ACCEL_BENCH") == "smoke"
SMALL, LARGE = (256, 1024) if SMOKE else (1024, 8192)
ROUNDS = 1 if SMOKE else 5
GOALS: dict[str, float] = {"bits_and_cycles_s": 0.5, "timing_s": 2.0, "packet_difference_pct": 1.0}

# Peak memory needs a process of its own: the high-water mark of a process never falls.
PEAKS = {
    "import": "import accel.program",
    "build": "matmul.build('d1', m={n}, n={n}, k={n})",
    "cycles": "matmul.build('d1', m={n}, n={n}, k={n}).time()",
    "bits": "matmul.build('d1', m={n}, n={n}, k={n}).run(a=hard_values(({n}, {n}), 0), b=hard_values(({n}, {n}), 1))",
}
PROLOGUE = "from accel.kernels import matmul; from accel.report.showcase import hard_values\n"
# VmHWM, not ru_maxrss: that one starts at the size of the parent, which it keeps through fork and exec.
EPILOGUE = "\nprint(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')))"


def build(n: int) -> Program:
    return matmul.build("d1", m=n, n=n, k=n)


def cycles(program: Program, packet_bytes: int | None = None) -> Any:
    """Return a fresh timing: `Program.time` would remember the last one."""
    from accel.timing import simulate

    return simulate(program.isa, program.chip, packet_bytes=packet_bytes)


def test_bits_and_cycles(benchmark: Any) -> None:
    a, b = hard_values((SMALL, SMALL), 0), hard_values((SMALL, SMALL), 1)

    def bits_and_cycles() -> tuple[Any, Any]:
        program = build(SMALL)
        return program.run(a=a, b=b)["c"], program.time()

    c, timing = benchmark.pedantic(bits_and_cycles, rounds=ROUNDS, warmup_rounds=1)
    program = build(SMALL)
    blocks = matmul.verify(program, a, b, blocks=2)
    assert blocks.wrong == 0
    assert c.shape == (SMALL, SMALL)
    benchmark.extra_info |= {
        "shape": [SMALL] * 3, "goal_s": GOALS["bits_and_cycles_s"], "cycles": timing.cycles,
        "executed_gflops": 2 * SMALL**3 / benchmark.stats.stats.median / 1e9,
    }  # fmt: skip


def test_timing(benchmark: Any) -> None:
    program = build(LARGE)
    timing = benchmark.pedantic(cycles, args=(program,), rounds=ROUNDS, warmup_rounds=1)
    fine = cycles(program, packet_bytes=256)
    benchmark.extra_info |= {
        "shape": [LARGE] * 3, "goal_s": GOALS["timing_s"], "cycles": timing.cycles, "utilization": timing.utilization,
        "events": timing.events, "events_per_s": timing.events / benchmark.stats.stats.median,
        "cycles_256_byte_packets": fine.cycles, "goal_difference_pct": GOALS["packet_difference_pct"],
        "difference_pct": 100 * abs(fine.cycles / timing.cycles - 1),
    }  # fmt: skip


def test_build(benchmark: Any) -> None:
    program = benchmark.pedantic(build, args=(LARGE,), rounds=ROUNDS, warmup_rounds=1)
    median = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "shape": [LARGE] * 3, "instructions": program.isa.instructions, "roles": program.isa.roles,
        "us_an_instruction": 1e6 * median / program.isa.instructions,
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory(benchmark: Any) -> None:
    def peaks() -> dict[str, float]:
        found = {}
        for name, code in PEAKS.items():
            for n in (SMALL,) if name == "import" else (SMALL, LARGE):
                if name == "bits" and n == LARGE:
                    continue  # half a gigabyte of operands and results by itself, and seconds of arithmetic
                done = subprocess.run(
                    [sys.executable, "-c", PROLOGUE + code.format(n=n) + EPILOGUE],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                found[name if name == "import" else f"{name} {n}"] = int(done.stdout) / 1024
        return found

    found = benchmark.pedantic(peaks, rounds=1)
    benchmark.extra_info["peak_mib"] = {name: round(size, 1) for name, size in found.items()}


def summary(path: str) -> None:
    """Print the medians and extra facts of a --benchmark-json file as a Markdown table."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - a script's argument
        data = json.load(file)
    for entry in data["benchmarks"]:
        print(f"| {entry['name']} | {entry['stats']['median']:.3f} s | {json.dumps(entry['extra_info'])} |")
    print(json.dumps(data["machine_info"].get("provenance")))


if __name__ == "__main__":
    summary(sys.argv[1])
