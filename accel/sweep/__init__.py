"""Sweeps: a space of design points as ten lines of TOML, and every point of it timed; `accel.sweep(...)` runs one."""

import sys
from types import ModuleType
from typing import Any

from accel.sweep.axes import Axis
from accel.sweep.point import Limits, Point
from accel.sweep.space import Space

__all__ = ["Axis", "Limits", "Point", "Progress", "Space", "Store", "SweepResult"]

_HOMES = {"Progress": "progress", "Store": "store", "SweepResult": "result"}


class _Callable(ModuleType):
    """This package is a verb as well: calling it runs a sweep."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run a sweep; see `accel.sweep.run.sweep`."""
        from accel.sweep.run import sweep

        return sweep(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'accel.sweep' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(f"accel.sweep.{_HOMES[name]}"), name)


sys.modules[__name__].__class__ = _Callable
