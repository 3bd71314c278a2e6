"""`accel warm` and `accel doctor`: compile everything once; say whether this machine is in order."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time
from pathlib import Path

import click

from accel.cli.output import deliver, json_option, say
from accel.errors import AccelError
from accel.report.quantities import bytes_text, number

__all__ = ["doctor", "warm"]

BASE = ("numpy", "numba", "llvmlite", "msgspec", "tomli-w", "ml_dtypes", "click", "rich")
EXTRAS = {  # extra -> a module that it brings
    "report": "matplotlib", "sweep": "optuna", "onnx": "onnx", "torch": "torch", "docs": "sphinx", "dev": "pytest",
}  # fmt: skip


@click.command(short_help="Compile every engine into the cache now.")
@json_option
def warm(json_to: str | None) -> int:
    """Compile every engine into the cache, so that later runs start at once."""
    from accel.cli.progress import compiling
    from accel.cli.warming import warm_up
    from accel.machine import host

    before, begun = host.compile_totals(), time.perf_counter()
    with compiling("machine", "timing", "check"):
        warm_up()
    after, info = host.compile_totals(), host.cache_info()
    data = {
        "compiled": after.compiled - before.compiled, "loaded": after.loaded - before.loaded,
        "seconds": time.perf_counter() - begun, "cache": {**info._asdict(), "folder": str(info.folder)},
    }  # fmt: skip

    def show() -> None:
        kept = f"{info.entries} functions, {bytes_text(info.size_bytes)} in {info.folder}"
        say(f"compiled {data['compiled']} functions, found {data['loaded']}, in {data['seconds']:.1f} s: {kept}")

    deliver(json_to, lambda: data, show)
    return 0


@click.command(short_help="What this installation has and whether it works.")
@json_option
def doctor(json_to: str | None) -> int:
    """Say what this installation has and whether it works; exit code 1 if something is broken."""
    broken: list[str] = []
    facts = {**_versions(broken), **_host(broken), **_surroundings(broken), **_works(broken)}
    data = {"facts": facts, "broken": broken}

    def show() -> None:
        from rich.text import Text

        from accel.report import tables

        verdict = [Text(f"broken: {fault}", style="red") for fault in broken] or [
            Text("everything works", style="green")
        ]
        tables.show(tables.pairs(facts), Text(), *verdict)

    deliver(json_to, lambda: data, show)
    return 1 if broken else 0


def _version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions(broken: list[str]) -> dict[str, str]:
    from accel import __version__

    facts = {"accel": __version__, "python": f"{platform.python_version()} ({platform.python_implementation()})"}
    for name in BASE:
        version = _version(name)
        if version is None:
            broken.append(f"{name} is missing; install it with pip install {name}")
        facts[name] = version or "missing"
    return facts


def _host(broken: list[str]) -> dict[str, str]:
    try:
        from accel.machine import host
    except Exception as error:  # noqa: BLE001 - whatever stops the engines from loading is the finding
        broken.append(f"the engines cannot be loaded: {type(error).__name__}: {error}")
        return {}
    from accel.machine.parallel import thread_count

    cpu, cores = host.host_cpu(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"processor": f"{cpu.name}, {cores} cores, {platform.system()} {platform.machine()}"}
    try:
        facts["vector code"] = f"{host.isa_target()} (ACCEL_TARGET overrides)"
        facts["threads of a run"] = f"{thread_count(None)} at most (ACCEL_THREADS overrides)"
        facts["bf16 dot product"] = _dot_product(broken)
        facts["multiply-add peak"] = f"{number(host.fma_peak_gflops())} GFLOPS fp32, one core, now"
        info = host.cache_info()
    except (AccelError, OSError) as error:
        broken.append(str(error))
        return facts
    facts["compile cache"] = f"{info.folder} ({info.entries} functions, {bytes_text(info.size_bytes)})"
    if not info.writable:
        broken.append(f"the compile cache {info.folder} is private to this process; set ACCEL_CACHE_DIR to a folder "
                      "that you may write to")  # fmt: skip
    return facts


def _dot_product(broken: list[str]) -> str:
    """Return whether matmul uses the processor's dot product of bf16 pairs."""
    from accel.machine.fast import fast_path

    path = fast_path()
    if path.passed is False:
        broken.append(f"the bf16 dot product of this processor is not used (results stay exact): {path.reason}")
    state = "not available" if not path.available else f"available, {'on' if path.on else 'off'}"
    tried = "" if path.passed is None else f", self-test {'passed' if path.passed else 'failed'} ({path.blocks} blocks)"
    return f"{state}{tried}: {path.reason} (ACCEL_FAST=0 switches it off)"


def _surroundings(broken: list[str]) -> dict[str, str]:
    extras = [name for name, module in EXTRAS.items() if importlib.util.find_spec(module) is not None]
    chosen = os.environ.get("ACCEL_REFERENCE")
    reference = "none (set ACCEL_REFERENCE to the folder of the reference sets)"
    if chosen:
        reference = chosen
        if not (Path(chosen) / "README.md").is_file():
            broken.append(f"ACCEL_REFERENCE={chosen} has no README.md; point it at the reference folder or unset it")
    return {"extras": ", ".join(extras) or "none", "reference data": reference,
            "terminal": "yes" if sys.stdout is not None and sys.stdout.isatty() else "no"}  # fmt: skip


def _works(broken: list[str]) -> dict[str, str]:
    """Run a matmul through every engine and compare it with the oracle."""
    from accel.cli.inputs import random_inputs
    from accel.cli.progress import compiling
    from accel.kernels import matmul
    from accel.problem import Matmul
    from accel.verification import verify

    try:
        with compiling("machine", "timing", "check"):
            program = matmul.build("mini", m=24, n=16, k=40)
            inputs = random_inputs(program, 0, hard=False)
            verdict = verify(Matmul(24, 16, 40), program, inputs, program.run(inputs))
            cycles, findings = program.time().cycles, program.findings(schedules=1)
    except Exception as error:  # noqa: BLE001 - whatever fails here is the finding
        broken.append(f"the self-test failed: {type(error).__name__}: {error}")
        return {"self-test": "failed"}
    if verdict.mismatches or findings:
        broken.append(f"the self-test is wrong: {verdict}; {len(findings)} findings")
    return {"self-test": f"{verdict}; {cycles:,} cycles; {len(findings)} findings"}
