"""What a worker process of a sweep does: lines of JSON in, lines of JSON out, until its coordinator is gone."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import signal
import sys
import threading
from collections.abc import Iterable
from typing import Any

from accel.sweep.evaluate import evaluate
from accel.sweep.memory import limit_growth, rss_bytes

__all__ = ["facts", "serve", "warm_up"]


def serve() -> None:
    """Answer the lines of stdin: {"warm": kinds, "memory_bytes": n} first, then {"ticket": n, "job": ...} each.

    Says {"hello": nothing is compiled yet} at once, {"compiling": name} for every function that it compiles, and
    {"ready": facts} when it is warm. Ends at once when stdin does: whoever started it may have been killed.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not get between the results
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the coordinator decides
    _end_with_parent()
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inbox,), daemon=True, name="jobs").start()

    def tell(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    from accel.machine import host

    tell({"hello": host.nothing_compiled()})
    setting = inbox.get()
    host.watch_compilation(lambda name, loaded, _seconds: None if loaded else tell({"compiling": name}))
    warm_up(setting["warm"])
    if setting["memory_bytes"] is not None:
        limit_growth(setting["memory_bytes"])
    tell({"ready": facts(), "rss_bytes": rss_bytes(os.getpid())})
    while True:
        line = inbox.get()
        tell({"ticket": line["ticket"], "outcome": evaluate(line["job"])})


def warm_up(kinds: Iterable[str]) -> None:
    """Load, or compile, what times a program, and the kernels of these kinds of problem."""
    from accel.errors import AccelError
    from accel.kernels import matmul
    from accel.kernels.catalog import kernel_of
    from accel.problem.registry import kind

    matmul.build("mini", m=8, n=8, k=8).time("packet")
    for name in kinds:
        with contextlib.suppress(AccelError):  # the points themselves will say so
            kernel_of(kind(name))  # type: ignore[arg-type]  # only the kind is read


def facts() -> dict[str, Any]:
    """Return where figures come from: host, processor, its multiply-add rate, versions."""
    from importlib import metadata

    from accel.machine import host
    from accel.machine.parallel import available_cores

    versions = {}
    for name in ("numpy", "numba", "llvmlite"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": host.host_cpu().name,
        "cores": available_cores(),
        "vector_code": host.isa_target(),
        "fma_peak_gflops": round(host.fma_peak_gflops(), 1),
        "python": platform.python_version(),
        "versions": versions,
    }


def _listen(inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        inbox.put(json.loads(line))
    os._exit(1)


def _end_with_parent() -> None:
    """Have the system end this process with the one that started it, where it can: compiled code sees no signal."""
    if sys.platform == "linux":
        import ctypes

        parent = os.getppid()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
