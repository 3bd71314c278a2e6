"""The only door to Numba: `njit`, `intrinsic`, their plain-Python twins, host facts and the compile cache.

Importing this module imports Numba (about 0.3 s), so only modules that hold jitted code import it at the top, and
their callers import those modules inside the function that needs them. Rules for jitted code (each one a trap met):

- Jitted functions and intrinsics live at module level. A closure is compiled but never kept on disk.
- A jitted function reaches others as plain globals, module-level tuples, or attributes of this library's modules.
- In 32-bit code cast at every step: Numba widens int32 + int32 to int64. Jitted integers wrap, plain ones grow.
- float16 and ml_dtypes arrays are refused by Numba: pass uint16 or uint8 views.

What makes compiling slow, and what is done about it (seconds of processor time, executor and cycle model: 37 before):

- Numba makes native code of every callee, and again of all its callees inside each caller. Here only entries become
  native code; what only jitted code calls stays LLVM text until an entry links it (22 s), and has no wrappers.
- A constant argument makes a compilation of its own: constants count as their types. So a jitted function cannot take
  a constant that must stay one, such as an index into a mixed tuple.
- Flags are compared in whole at each operation, and all hash alike, which grows with every function (20 s without).
- Names of functions that call each other contain the flags: caller and callee must lower with the same ones. Such code
  cannot be loaded from disk (it jumps through an address of the process that made it), so it is not kept.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast, overload

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import Linkage, get_host_cpu_features, get_host_cpu_name
from numba import types
from numba.core import cgutils
from numba.core.caching import _Cache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.environment import lookup_environment
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature
from numba.core.typed_passes import NativeLowering
from numba.extending import intrinsic as _numba_intrinsic

from accel.compile_cache import CacheInfo, Store, default_base, source_key
from accel.errors import InputError
from accel.plain_twins import lazy_plain, register_intrinsic, twin

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
        library = data.library
        # An inner function is kept inside the entries that call it.
        if isinstance(library, _EntryLibrary) and not (library.by_name or library.has_dynamic_globals or data.lifted):
            identity, name = self._name(sig, data.codegen)
            _store().write(name, dumps((identity, data._reduce())))
        _account(self._label, False, begun)

    def enable(self) -> None:
        """Nothing to do: `njit` decides which functions are kept."""

    def disable(self) -> None:
        """Nothing to do: `njit` decides which functions are kept."""

    def flush(self) -> None:
        """Nothing to do: a changed source has another key."""


# ------------------------------------------------------------------------------------------------ compilation
# Numba makes native code of every function it meets, callees first, each with the code of all its callees in it. Here
# a function that jitted code calls stays LLVM text until an entry (what Python or an address calls) links and compiles
# it once: half the time, and a file on disk for each entry only.


class _InnerLibrary(JITCodeLibrary):  # type: ignore[misc]  # numba ships no types
    """The code of a function that only jitted code has called so far; unoptimised, linked by entries."""

    _shared_module: Any

    def _ensure_finalized(self) -> None:
        """Nothing to do before an entry takes it in."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def _get_module_for_linking(self) -> Any:
        """Return the code with that of all its callees, for a library of Numba's own that calls it."""
        if self._shared_module is None:
            module = self._final_module.clone()
            _link_callees(module, self)
            for function in module.functions:
                if not function.is_declaration:
                    function.linkage = "linkonce_odr"
            self._shared_module = module
        return self._shared_module


class _EntryLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The code of a function that Python calls, with that of all its callees."""

    by_name: bool  # whether functions in it find each other by name: such code cannot be loaded from disk

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Link every callee once, optimise, and make native code."""
        self._raise_if_finalized()
        own = {function.name for function in self._final_module.functions if not function.is_declaration}
        _link_callees(self._final_module, self)
        # Functions that call each other are reached by name when the program runs.
        prefix = self._codegen._rtlinker.PREFIX
        by_name = {g.name[len(prefix) :] for g in self._final_module.global_variables if g.name.startswith(prefix)}
        self.by_name = bool(by_name)
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in own and function.linkage == Linkage.external:
                function.linkage = "weak_odr" if function.name in by_name else "linkonce_odr"
        self._optimize_final_module()
        self._final_module.verify()
        self._finalize_final_module()
        for variable in self._final_module.global_variables:
            environment = lookup_environment(variable.name)
            if environment is not None:
                self._codegen.set_env(variable.name, environment)


def _link_callees(module: Any, library: Any) -> None:
    """Link into `module` the code of all that `library` calls, directly or not: ours first, as it calls Numba's."""
    seen, pending = {library}, [library]
    others: dict[Any, None] = {}
    while pending:
        for callee in pending.pop()._linking_libraries:
            if callee in seen:
                continue
            seen.add(callee)
            _reloads(library).update(_reloads(callee))
            if isinstance(callee, _InnerLibrary):
                module.link_in(callee._final_module, preserve=True)
                pending.append(callee)
            else:
                others[callee] = None
    for callee in others:
        module.link_in(callee._get_module_for_linking(), preserve=True)


def _reloads(library: Any) -> set[Any]:
    """Return what `library` must call when it comes back from disk; Numba 0.61 has libraries without that."""
    found: set[Any] = getattr(library, "_reload_init", set())
    return found


class _Inner:
    """What stands for an inner function in Numba's tables, where it keeps the entry points of others."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    """Numba's lowering, which stops before native code for an inner function."""

    _name = "accel_lowering"

    def run_pass(self, state: Any) -> bool:
        """Lower the function of `state`."""
        inner, flags, context = _depth > 1, state.flags, state.targetctx
        wrapped = not (inner or flags.no_cpython_wrapper)
        library = state.library = (_InnerLibrary if inner else _EntryLibrary)(
            context.codegen(), state.func_id.func_qualname
        )
        library.enable_object_caching()
        # The same for both kinds: flags are part of the names by which functions that call each other are found.
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        if wrapped:
            context.create_cpython_wrapper(library, lowered.fndesc, lowered.env, lowered.call_helper, flags.release_gil)
        entry = _Inner() if inner else context.get_executable(library, lowered.fndesc, lowered.env)
        context.insert_user_function(entry, lowered.fndesc, [library])
        state.reload_init.extend(_reloads(library))
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _Compiler(CompilerBase):  # type: ignore[misc]
    """Numba's passes with our lowering."""

    def define_pipelines(self) -> list[Any]:
        """Return the only pipeline."""
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [
            (_Lowering, text) if kind is NativeLowering else (kind, text) for kind, text in manager.passes
        ]
        manager.finalize()
        return [manager]


class _Flags(Flags):  # type: ignore[misc]
    """Numba's flags with a key made once: it compares all thirty of them for every operation whose type it infers."""

    __slots__ = ("_made",)
    _made: str

    @property
    def key(self) -> str:
        """The options when they were first asked for; what lowering changes later decides nothing about types."""
        if not hasattr(self, "_made"):
            self._made = self.summary()
        return self._made

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return self is other or (self.key == other.key if isinstance(other, _Flags) else bool(super().__eq__(other)))


_depth = 0


class _Dispatcher(CPUDispatcher):  # type: ignore[misc]
    """Numba's dispatcher that knows inner functions from entries."""

    def __init__(self, fn: Callable[..., Any], options: dict[str, Any]) -> None:
        super().__init__(fn, targetoptions=options, pipeline_class=_Compiler)
        self._compiler._customize_flags = _Flags

    def compile(self, sig: Any) -> Any:
        """Return the entry point for `sig`; one that was an inner function becomes an entry when Python asks."""
        global _depth
        with global_compiler_lock:
            args = tuple(normalize_signature(sig)[0])
            known = self.overloads.get(args)
            if known is not None:
                if _depth or not isinstance(known.library, _InnerLibrary):
                    return known.entry_point
                del self.overloads[args]
            _depth += 1
            pending = len(_started)
            try:
                return super().compile(sig)
            finally:
                _depth -= 1
                del _started[pending:]

    def add_overload(self, cres: Any) -> None:
        """Take in a compilation; Python cannot call one of an inner function."""
        if isinstance(cres.library, _InnerLibrary):
            self.overloads[tuple(cres.signature.args)] = cres
        else:
            super().add_overload(cres)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return what type inference asks for: constants count as their types, or each would make a compilation."""
        plain_kws = {name: types.unliteral(kind) for name, kind in kws.items()}
        return super().get_call_template(tuple(map(types.unliteral, args)), plain_kws)


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
    dispatcher: Any = fn
    if not numba.config.DISABLE_JIT:
        dispatcher = _Dispatcher(fn, {"nopython": True, "nogil": True, "boundscheck": None, **options})
        module = _module_in_package(fn)
        if module is not None and fn.__closure__ is None:
            dispatcher._cache = _DiskCache(fn, module)
        dispatcher.plain = lazy_plain(dispatcher)
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
        register_intrinsic(declared, plain)
        return cast("Callable[P, R]", declared)

    return declare


def plain(fn: Callable[P, R] | Jitted[P, R]) -> Callable[P, R]:
    """Return `fn` as plain Python in which every jitted function and intrinsic is plain too.

    Call it when all modules are imported: the twin takes its module's globals as they are then.
    """
    return cast("Callable[P, R]", twin(fn))
