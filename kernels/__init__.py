"""The kernel library: one kernel and one lesson a file, reached as `accel.kernels` and imported on first use."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

if __name__ == "kernels":
    raise ImportError("Cannot import 'kernels' because the kernel library is part of accel; use accel.kernels instead")

from accel.errors import nearest

_NO_LESSONS = ("catalog", "library")
__all__ = [m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name not in _NO_LESSONS]


def __getattr__(name: str) -> ModuleType:
    """Import the kernel `name` on first use; raises AttributeError naming the nearest kernel if there is none."""
    if name in __all__ or name in _NO_LESSONS:
        return importlib.import_module(f"{__name__}.{name}")
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"Cannot find kernel {name!r} in accel.kernels; use one of {', '.join(__all__)}{nearest(name, __all__)}"
    )


def __dir__() -> list[str]:
    """List the kernels without importing them."""
    return sorted(__all__)
