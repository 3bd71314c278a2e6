"""Digests of what the executor and the cycle model give for a set of programs; run as a script it prints them as JSON.

The set: drawn instructions of every row with strided, permuted, broadcast and moving views, whole drawn programs,
instructions longer than an engine's blocks, and library matmuls in every format. Arguments: numbers of threads.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

import accel
from accel.cli.inputs import random_inputs
from accel.jit import isa_target
from accel.kernels import matmul
from accel.machine import execute, parallel
from accel.machine.fast import fast_path
from accel.testing.battery import cases, large_cases

EACH, PROGRAMS = 3, 12
SHAPES = ((61, 47, 67), (32, 64, 96))


def digest(outputs: Any) -> str:
    """Return the SHA-256 of the bits of all outputs, by name in order."""
    whole = hashlib.sha256()
    for name in sorted(outputs):
        codes = np.ascontiguousarray(outputs[name])
        whole.update(f"{name} {codes.dtype} {codes.shape} ".encode())
        whole.update(codes.tobytes())
    return whole.hexdigest()


def programs() -> Iterator[tuple[str, accel.Program, Any]]:
    """Yield library matmuls with inputs: every format of the matrix unit and fp32, transposed or not."""
    for dtype in (*accel.chip("mini").node.matrix.step_cycles, "fp32"):
        for number, (m, n, k) in enumerate(SHAPES):
            program = matmul.build("mini", m=m, n=n, k=k, dtype=dtype, trans_a=number == 1, trans_b=number == 0)
            for hard in (False, True):
                yield f"matmul {dtype} {m}x{n}x{k} hard={hard}", program, random_inputs(program, 5, hard=hard)


def drawn() -> Iterator[tuple[str, Any]]:
    """Yield drawn cases by name."""
    for number, case in enumerate(chain(cases(EACH, PROGRAMS), large_cases())):
        yield f"{number} {', '.join(case.blocks)}", case


def digests(threads: Sequence[int], order: int = 1) -> dict[str, str]:
    """Return name -> digest for every program and number of threads; order -1 takes them from the last to the first."""
    # Small programs would be done alone: let them share.
    parallel.ALONE_LOADED = parallel.ALONE_COLD = -1
    parallel.WORTH_SHARING = 0
    found: dict[str, str] = {}
    for name, program, inputs in list(programs())[::order]:
        for count in threads:
            found[f"{name}, {count} threads"] = digest(program.run(inputs, seed=7, threads=count))
        found[f"{name}, cycles"] = str(program.time().cycles)
    for name, case in list(drawn())[::order]:
        for count in threads:
            out = execute(case.program, case.inputs, random_seed=case.seed, threads=count)
            found[f"{name}, {count} threads"] = digest(out)
    return found


if __name__ == "__main__":
    order, *counts = map(int, sys.argv[1:])
    path = fast_path()
    said = {"target": isa_target(), "available": path.available, "on": path.on, "digests": digests(counts, order)}
    sys.stdout.write(json.dumps(said))
