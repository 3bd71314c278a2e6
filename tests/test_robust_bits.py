"""The same bits and cycles whatever the vector code, the fast path, threads, hash seed, process, order and engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bit_digests import digest, digests, programs

import accel
from accel.jit import host_cpu, isa_target
from accel.machine.fast import fast_path

HERE = Path(__file__).parent
WIDTHS = {"avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}, "avx2": {"avx2", "fma"}, "portable": set()}
TARGETS = [name for name, needs in WIDTHS.items() if needs <= host_cpu().features]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bits")]


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    """What this process gives, one thread, in the order of the set."""
    return digests([1])


def there(*args: int, **env: str) -> dict[str, Any]:
    """What a process of its own gives."""
    full = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)} | env
    line = [sys.executable, str(HERE / "bit_digests.py"), *map(str, args)]
    done = subprocess.run(line, env=full, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def expected(here: dict[str, str], *threads: int) -> dict[str, str]:
    """What a process with so many threads must give."""
    wanted = {}
    for name, value in here.items():
        if name.endswith(" 1 threads"):
            wanted |= {f"{name.removesuffix('1 threads')}{count} threads": value for count in threads}
        else:
            wanted[name] = value
    return wanted


def test_the_set_tells_programs_apart(here: dict[str, str]) -> None:
    """A digest that saw nothing would be equal everywhere."""
    runs = [value for name, value in here.items() if name.endswith("threads")]
    assert len(runs) > 200
    assert len(set(runs)) > 0.9 * len(runs)
    assert digest({"y": np.zeros(3)}) != digest({"y": np.array([0.0, 0.0, -0.0])})


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_and_number_of_threads(target: str, here: dict[str, str]) -> None:
    said = there(1, 1, 2, 3, ACCEL_TARGET=target, PYTHONHASHSEED="1")
    assert said["target"] == target
    assert said["digests"] == expected(here, 1, 2, 3)


@pytest.mark.skipif(not fast_path().available, reason="this processor has no dot product of bf16 pairs")
def test_the_fast_path_off(here: dict[str, str]) -> None:
    """Backwards besides, so that nothing may depend on what ran before."""
    said = there(-1, 1, 2, ACCEL_FAST="0", PYTHONHASHSEED="2")
    assert (fast_path().on, said["on"]) == (True, False)
    assert said["digests"] == expected(here, 1, 2)


def test_one_process_after_another(here: dict[str, str]) -> None:
    said = there(-1, 1, PYTHONHASHSEED="random")
    assert said["target"] == isa_target()
    assert said["digests"] == here


def test_the_plain_engine(here: dict[str, str]) -> None:
    name, _, inputs = next(programs())
    assert name.startswith("matmul bf16")
    small = accel.kernels.matmul.build("mini", m=9, n=10, k=11)
    given = {"a": inputs["a"].ravel()[:99].reshape(9, 11), "b": inputs["b"].ravel()[:110].reshape(11, 10)}
    runs = [digest(small.run(given, seed=7, engine=engine, threads=n)) for engine, n in (("jit", 2), ("plain", 1))]
    assert runs[0] == runs[1]
    assert small.time(engine="plain").cycles == small.time(engine="jit").cycles
