"""The machine that simulates: its vector code, its compile cache, its multiply-add peak, and news of compilations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from accel import jit
from accel.jit import (
    CacheInfo,
    HostCpu,
    cache_info,
    compile_totals,
    host_cpu,
    intrinsic,
    ir,
    isa_target,
    njit,
    on_compile,
    types,
)

__all__ = [
    "CacheInfo", "HostCpu", "cache_info", "compile_totals", "compiled_functions", "compiling_now",
    "fma_peak_gflops", "host_cpu", "isa_target", "nothing_compiled", "unwatch_compilation", "watch_compilation",
]  # fmt: skip

CHAINS = 12  # enough independent chains to hide the latency of a fused multiply-add, few enough for 16 registers
WIDTHS = {"avx512": 16, "avx2": 8, "portable": 4}  # fp32 lanes of a vector register
ROUNDS = 1 << 20

_watchers: list[Callable[[str, bool, float], None]] = []


def watch_compilation(watcher: Callable[[str, bool, float], None]) -> None:
    """Call `watcher(function, loaded from disk, seconds)` after each compilation, until `unwatch_compilation`."""
    if _relay not in _registered:
        _registered.append(_relay)
        on_compile(_relay)
    _watchers.append(watcher)


def unwatch_compilation(watcher: Callable[[str, bool, float], None]) -> None:
    """Stop what `watch_compilation` began."""
    _watchers.remove(watcher)


def _relay(name: str, loaded: bool, seconds: float) -> None:
    for watcher in tuple(_watchers):
        watcher(name, loaded, seconds)


_registered: list[Callable[[str, bool, float], None]] = []


def compiling_now() -> bool:
    """Return whether a compilation is under way in this process (false again when watchers hear of the outermost)."""
    return bool(jit._started)


def nothing_compiled() -> bool:
    """Return whether this installation has yet to compile and can keep what it compiles for other processes."""
    info = cache_info()
    return hasattr(_run_chains, "py_func") and info.writable and info.entries == 0


def compiled_functions(packages: Iterable[str]) -> dict[str, int]:
    """Return the jitted functions of the imported engine packages: bytes of bytecode by the name watchers get."""
    prefixes = tuple(f"accel.{package}." for package in packages)
    found = {}
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(prefixes):
            for value in vars(module).values():
                function = getattr(value, "py_func", None)
                if function is not None and function.__module__ == module_name:
                    label = f"{module_name.removeprefix('accel.')}.{function.__qualname__}"
                    found[label] = len(function.__code__.co_code)
    return found


def _chains_plain(rounds: int, x: float) -> float:
    chains = [np.float32(index) for index in range(CHAINS)]
    for _ in range(max(1, rounds)):
        chains = [np.float32(np.float64(chain) * np.float64(x) + np.float64(x)) for chain in chains]
    total = chains[0]
    for chain in chains[1:]:
        total = np.float32(total + chain)
    return float(total)


@intrinsic(plain=_chains_plain)
def _chains(typingctx: Any, rounds: Any, x: Any) -> tuple[Any, Callable[..., Any]]:
    """Advance CHAINS independent vector chains by `rounds` fused multiply-adds; returns one lane, so that they stay."""
    lanes = WIDTHS[isa_target()]

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), lanes)
        name = f"llvm.fma.v{lanes}f32"
        fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )
        first = builder.insert_element(ir.Constant(vector, ir.Undefined), args[1], ir.IntType(32)(0))
        splat = builder.shuffle_vector(
            first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        )
        begin, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(word)
        count.add_incoming(word(0), begin)
        chains = [builder.phi(vector) for _ in range(CHAINS)]
        advanced = [builder.call(fma, [chain, splat, splat]) for chain in chains]
        for index, (chain, value) in enumerate(zip(chains, advanced, strict=True)):
            # Different starts, or the compiler would see that all chains are one.
            chain.add_incoming(ir.Constant(vector, [float(index)] * lanes), begin)
            chain.add_incoming(value, loop)
        following = builder.add(count, word(1))
        count.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, after)
        builder.position_at_end(after)
        total = advanced[0]
        for value in advanced[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.float32(types.int64, types.float32), emit


@njit
def _run_chains(rounds: int, x: Any) -> Any:
    return _chains(rounds, x)


def fma_peak_gflops(repeats: int = 5) -> float:
    """Return the fp32 fused multiply-add rate of one core in 1e9 flop/s: register-only vector chains, best of repeats.

    Without an fma unit this is the rate of its software form, orders of magnitude lower.
    """
    lanes, x = WIDTHS[isa_target()], np.float32(0.5)
    rounds = ROUNDS if {"fma"} <= host_cpu().features else ROUNDS >> 10
    _run_chains(16, x)
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        _run_chains(rounds, x)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * lanes * CHAINS * rounds / best / 1e9
