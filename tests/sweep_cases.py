"""Small sweeps for the tests: a space of sixteen points in TOML, and outcomes that cost nothing."""

from __future__ import annotations

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
