"""Plain-Python twins of jitted functions: the same source with every jitted function and intrinsic in it plain too."""

from __future__ import annotations

import functools
import types as python_types
from collections.abc import Callable
from typing import Any

__all__ = ["is_dispatcher", "lazy_plain", "register_intrinsic", "twin"]

_PACKAGE = __name__.partition(".")[0]


def is_dispatcher(value: object) -> bool:
    """Return whether `value` is a function compiled by Numba (by its marker: this module does without Numba)."""
    return getattr(type(value), "__numba__", None) == "py_func"


def register_intrinsic(declared: Any, plain: Callable[..., Any]) -> None:
    """Make `plain` the twin of an intrinsic."""
    _plain_intrinsics[id(declared)] = (declared, plain)


_plain_intrinsics: dict[int, tuple[Any, Callable[..., Any]]] = {}
_twins: dict[int, tuple[Any, Callable[..., Any]]] = {}  # keyed by identity; the original is kept alive beside its twin
_twin_globals: dict[int, dict[str, Any]] = {}


def lazy_plain(dispatcher: Any) -> Callable[..., Any]:
    """Return a caller of the plain twin that looks it up on first use, when every module is imported."""

    @functools.wraps(dispatcher.py_func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return twin(dispatcher)(*args, **kwargs)

    return call


def twin(value: Any) -> Any:
    """Return the plain twin of a jitted function, intrinsic, tuple of them or module of this package; else `value`."""
    key = id(value)
    if key in _twins:
        return _twins[key][1]
    if key in _plain_intrinsics:
        return _plain_intrinsics[key][1]
    if is_dispatcher(value):
        return _twin_function(value, value.py_func)
    if type(value) is tuple:
        twins = tuple(map(twin, value))
        return twins if any(a is not b for a, b in zip(twins, value, strict=True)) else value
    if isinstance(value, python_types.ModuleType) and value.__name__.partition(".")[0] == _PACKAGE:
        return _PlainModule(value)
    return value


def _twin_function(original: Any, fn: Any) -> Callable[..., Any]:
    cells = fn.__closure__ and tuple(python_types.CellType(twin(cell.cell_contents)) for cell in fn.__closure__)
    scope = _twin_globals.get(id(fn.__globals__))
    fresh = scope is None
    if scope is None:
        scope = _twin_globals[id(fn.__globals__)] = dict(fn.__globals__)
    made = python_types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, cells)
    made.__kwdefaults__, made.__doc__, made.__qualname__ = fn.__kwdefaults__, fn.__doc__, fn.__qualname__
    _twins[id(original)] = (original, made)
    # After registering, so that functions which call each other find their twins; names defined since the scope was
    # made (an interactive session) come in with the next function that is asked for.
    for name, value in list(fn.__globals__.items()):
        if fresh or name not in scope:
            scope[name] = twin(value)
    return made


class _PlainModule:
    """A module of this package seen from plain code: attributes come as their plain twins."""

    def __init__(self, module: python_types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return twin(getattr(self._module, name))
