"""Small sweeps for the tests: a space of sixteen points in TOML, and outcomes that cost nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import Any

SMALL = """
title = "Small"
[problem]
kind = "matmul"
m = 16
n = 16
[chip]
base = "mini"
[axes]
"problem.k" = [16, 32, 48, 64]
"node.sram_bytes" = [16384, 65536, 131072, 262144]
"""
POINTS = 16


def outcome_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return an outcome that is a function of the job alone."""
    k, sram = job["problems"][0][2]["k"], job["chip"]["node"]["sram_bytes"]
    return {
        "status": "ok", "reason": "", "cycles": k * 1000 + sram, "seconds": k / 3 + sram / 7, "utilization": 1 / k,
        "build_s": 0.0, "time_s": 0.0,
    }  # fmt: skip


class Instant(Executor):
    """Does everything at once in the caller; what it is asked for stands in `asked`."""

    def __init__(self, fail: int = -1) -> None:
        self.asked: list[Any] = []
        self.fail = fail

    def submit(self, fn: Any, /, *args: Any, **_kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if not args:
            future.set_result({"host": "here"})
            return future
        self.asked.append(args[0])
        if len(self.asked) == self.fail:
            future.set_exception(RuntimeError("lost on the way"))
        else:
            future.set_result(outcome_of(args[0]))
        return future


def misbehave(job: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate a job of `SMALL` in a worker: k = 16 is well, 32 never ends, 48 dies, 64 takes all memory there is."""
    k = job["problems"][0][2]["k"]
    if k == 32:
        threading.Event().wait()
    if k == 48:
        sys.stderr.write("the last words\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if k == 64:
        held = []
        while True:
            held.append(bytearray(1 << 24))
    return outcome_of(job)
