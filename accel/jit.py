"""The only door to Numba: `njit`, `intrinsic`, their plain-Python twins, host facts and the compile cache.

Importing this module imports Numba (about 0.3 s), so only modules that hold jitted code import it at the top, and
their callers import those modules inside the function that needs them. Rules for jitted code (each one a trap met):

- Jitted functions and intrinsics live at module level. A closure is compiled but never kept on disk.
- A jitted function reaches others as plain globals, module-level tuples, or attributes of this library's modules.
- In 32-bit code cast at every step: Numba widens int32 + int32 to int64. Jitted integers wrap, plain ones grow.
- float16 and ml_dtypes arrays are refused by Numba: pass uint16 or uint8 views.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import platform
import time
import types as python_types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast, overload

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba import types
from numba.core import cgutils
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.extending import intrinsic as _numba_intrinsic

from accel.compile_cache import CacheInfo, Store, default_base, source_key
from accel.errors import InputError

__all__ = [
    "CacheInfo",
    "CompileTotals",
    "HostCpu",
    "Jitted",
    "cache_info",
    "cgutils",
    "compile_totals",
    "host_cpu",
    "intrinsic",
    "ir",
    "isa_target",
    "njit",
    "on_compile",
    "plain",
    "types",
]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).parent
_TARGETS = ("avx512", "avx2", "portable")


# ---------------------------------------------------------------------------------------------------- host


class HostCpu(NamedTuple):
    """The processor this process compiles for: LLVM's name for it and the features that it has."""

    name: str
    features: frozenset[str]


@functools.cache
def host_cpu() -> HostCpu:
    """Return LLVM's view of this machine's processor (features such as avx512f, avx2, fma, avx512bf16)."""
    return HostCpu(get_host_cpu_name(), frozenset(name for name, on in get_host_cpu_features().items() if on))


@functools.cache
def isa_target() -> str:
    """Return which vector code runs here: "avx512", "avx2" or "portable"; ACCEL_TARGET overrides it.

    Raises InputError if ACCEL_TARGET is not one of the three or asks for more than the processor has.
    """
    features = host_cpu().features
    able = ["portable"]
    if {"avx2", "fma"} <= features:
        able.append("avx2")
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"} <= features:
        able.append("avx512")
    wanted = os.environ.get("ACCEL_TARGET")
    if not wanted:
        return able[-1]
    if wanted not in _TARGETS:
        raise InputError(f"Cannot use ACCEL_TARGET={wanted!r}: it is not a target; use one of {', '.join(_TARGETS)}")
    if wanted not in able:
        raise InputError(f"Cannot use ACCEL_TARGET={wanted!r}: this processor lacks it; use one of {', '.join(able)}")
    return wanted


# --------------------------------------------------------------------------------------------------- cache


@functools.cache
def _store() -> Store:
    cpu = host_cpu()
    facts = (
        platform.python_implementation(), platform.python_version(), platform.machine(),
        numba.__version__, llvmlite.__version__, np.__version__,
        cpu.name, ",".join(sorted(cpu.features)), isa_target(),
        # Numba's own switches that change the code it makes.
        *(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_") and "CACHE" not in k),
    )  # fmt: skip
    return Store(default_base(), source_key(_ROOT, facts))


def cache_info() -> CacheInfo:
    """Return the folder, size in bytes, number of entries and writability of the compile cache."""
    return _store().info()


class CompileTotals(NamedTuple):
    """Compilations in this process: signatures compiled, signatures loaded from disk, seconds spent on both."""

    compiled: int
    loaded: int
    seconds: float


_totals = CompileTotals(0, 0, 0.0)
_listeners: list[Callable[[str, bool, float], None]] = []
_started: list[float] = []  # one entry per compilation under way: callees compile inside their callers


def compile_totals() -> CompileTotals:
    """Return what this process has compiled and loaded so far; nested compilations count their time once."""
    return _totals


def on_compile(listener: Callable[[str, bool, float], None]) -> None:
    """Call `listener(function name, loaded from disk, seconds)` after every compilation, for progress bars."""
    _listeners.append(listener)


def _account(name: str, loaded: bool, begun: float) -> None:
    global _totals
    seconds = time.perf_counter() - begun
    _totals = CompileTotals(
        _totals.compiled + (not loaded), _totals.loaded + loaded, _totals.seconds + (0.0 if _started else seconds)
    )
    for listener in _listeners:
        listener(name, loaded, seconds)


class _DiskCache(_Cache):  # type: ignore[misc]  # numba ships no types
    """Numba's cache interface over `Store`: one file per function and signature, no shared index to corrupt."""

    def __init__(self, fn: Callable[..., Any], module: str) -> None:
        code = fn.__code__
        self._fn = fn
        self._label = f"{module}.{fn.__qualname__}"
        self._identity = f"{self._label}:{code.co_firstlineno}:{hashlib.sha256(code.co_code).hexdigest()}"

    @property
    def cache_path(self) -> str:
        """The folder of the store."""
        return str(_store().folder)

    def _name(self, signature: Any, codegen: Any) -> tuple[str, str]:
        identity = f"{self._identity}:{signature!r}:{codegen.magic_tuple()!r}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
        return identity, f"{self._label}-{digest}".replace("<", "").replace(">", "")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kept compilation of `sig`, or None."""
        target_context.refresh()
        begun = time.perf_counter()
        identity, name = self._name(sig, target_context.codegen())
        blob = _store().read(name)
        if blob is None:
            _started.append(begun)
            return None
        kept_identity, payload = pickle.loads(blob)  # noqa: S301  # the store checked owner and checksum
        if kept_identity != identity:
            _started.append(begun)
            return None
        result = CompileResult._rebuild(target_context, *payload)
        _account(self._label, True, begun)
        return result

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a fresh compilation, unless its code holds addresses of this process."""
        begun = _started.pop() if _started else time.perf_counter()
        if not (data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted)):
            identity, name = self._name(sig, data.codegen)
            _store().write(name, dumps((identity, data._reduce())))
        _account(self._label, False, begun)

    def enable(self) -> None:
        """Nothing to do: `njit` decides which functions are kept."""

    def disable(self) -> None:
        """Nothing to do: `njit` decides which functions are kept."""

    def flush(self) -> None:
        """Nothing to do: a changed source has another key."""


def _is_dispatcher(value: object) -> bool:
    return isinstance(value, Dispatcher)


def _module_in_package(fn: Callable[..., Any]) -> str | None:
    """Return the dotted module of `fn` below the package root, or None if the package's key does not cover it."""
    try:
        relative = Path(fn.__code__.co_filename).relative_to(_ROOT)
    except ValueError:
        return None
    return ".".join(relative.with_suffix("").parts)


# ------------------------------------------------------------------------------------------------ functions


class Jitted(Protocol[P, R_co]):
    """A compiled function; `.plain` is the same function run wholly in plain Python."""

    plain: Callable[..., Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the compiled code, compiling it first for new argument types."""
        ...


@overload
def njit(fn: Callable[P, R], /) -> Jitted[P, R]: ...
@overload
def njit(**options: Any) -> Callable[[Callable[P, R]], Jitted[P, R]]: ...
def njit(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Compile `fn` on its first call (no Python objects, GIL released) and keep the result on disk.

    options: as for numba.njit (fastmath, inline, error_model, boundscheck, ...). Code is kept on disk only for
    module-level functions of this package, whose sources the cache key covers; others compile per process.
    """
    if fn is None:
        return lambda function: njit(function, **options)
    dispatcher: Any = numba.njit(nogil=True, **options)(fn)
    if _is_dispatcher(dispatcher):  # NUMBA_DISABLE_JIT=1 hands back `fn` itself
        module = _module_in_package(fn)
        if module is not None and fn.__closure__ is None:
            dispatcher._cache = _DiskCache(fn, module)
        dispatcher.plain = _lazy_plain(dispatcher)
    else:
        dispatcher.plain = dispatcher
    return dispatcher


def intrinsic(*, plain: Callable[P, R], prefer_literal: bool = False) -> Callable[[Callable[..., Any]], Callable[P, R]]:
    """Declare an LLVM intrinsic, callable from jitted code, with the Python function `plain` that gives the same bits.

    The decorated `f(typingctx, *types)` returns (signature, codegen) as for numba.extending.intrinsic.
    """

    def declare(build: Callable[..., Any]) -> Callable[P, R]:
        if numba.config.DISABLE_JIT:
            return plain
        declared = _numba_intrinsic(prefer_literal=prefer_literal)(build)
        _plain_intrinsics[id(declared)] = (declared, plain)
        return cast("Callable[P, R]", declared)

    return declare


# ------------------------------------------------------------------------------------------------ plain twins

_plain_intrinsics: dict[int, tuple[Any, Callable[..., Any]]] = {}
_twins: dict[int, tuple[Any, Callable[..., Any]]] = {}  # keyed by identity; the original is kept alive beside its twin
_twin_globals: dict[int, dict[str, Any]] = {}


def _lazy_plain(dispatcher: Any) -> Callable[..., Any]:
    """Return a caller of the plain twin that looks it up on first use, when every module is imported."""

    @functools.wraps(dispatcher.py_func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return plain(dispatcher)(*args, **kwargs)

    return call


def plain(fn: Callable[P, R] | Jitted[P, R]) -> Callable[P, R]:
    """Return `fn` as plain Python in which every jitted function and intrinsic is plain too.

    Call it when all modules are imported: the twin takes its module's globals as they are then.
    """
    return cast("Callable[P, R]", _twin_value(fn))


def _twin_value(value: Any) -> Any:
    """Return the plain twin of a jitted function, intrinsic, tuple of them or module of this package; else `value`."""
    key = id(value)
    if key in _twins:
        return _twins[key][1]
    if key in _plain_intrinsics:
        return _plain_intrinsics[key][1]
    if _is_dispatcher(value):
        return _twin_function(value, value.py_func)
    if type(value) is tuple:
        twins = tuple(map(_twin_value, value))
        return twins if any(a is not b for a, b in zip(twins, value, strict=True)) else value
    if isinstance(value, python_types.ModuleType) and value.__name__.partition(".")[0] == _PACKAGE:
        return _PlainModule(value)
    return value


def _twin_function(original: Any, fn: Any) -> Callable[..., Any]:
    cells = fn.__closure__ and tuple(python_types.CellType(_twin_value(cell.cell_contents)) for cell in fn.__closure__)
    scope = _twin_globals.get(id(fn.__globals__))
    fresh = scope is None
    if scope is None:
        scope = _twin_globals[id(fn.__globals__)] = dict(fn.__globals__)
    twin = python_types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, cells)
    twin.__kwdefaults__, twin.__doc__, twin.__qualname__ = fn.__kwdefaults__, fn.__doc__, fn.__qualname__
    _twins[id(original)] = (original, twin)
    # After registering, so that functions which call each other find their twins; names defined since the scope was
    # made (an interactive session) come in with the next function that is asked for.
    for name, value in list(fn.__globals__.items()):
        if fresh or name not in scope:
            scope[name] = _twin_value(value)
    return twin


class _PlainModule:
    """A module of this package seen from plain code: attributes come as their plain twins."""

    def __init__(self, module: python_types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return _twin_value(getattr(self._module, name))
