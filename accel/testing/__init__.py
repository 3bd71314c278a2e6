"""Tools for those who test kernels and engines: a kernel's battery, mutants, strategies, a slow model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accel.testing.drawing import draw_inputs
    from accel.testing.error_bounds import sum_of_products
    from accel.testing.mutation import Mutant, mutants
    from accel.testing.property import KernelProperty, PropertyError, kernel_property
    from accel.testing.scoring import MutationScore, mutation_score

# Nothing is imported before it is asked for: the pytest plugin lies in this package and is loaded by every pytest.
_HOMES = {
    "KernelProperty": "accel.testing.property", "Mutant": "accel.testing.mutation",
    "MutationScore": "accel.testing.scoring", "PropertyError": "accel.testing.property",
    "draw_inputs": "accel.testing.drawing", "kernel_property": "accel.testing.property",
    "mutants": "accel.testing.mutation", "mutation_score": "accel.testing.scoring",
    "sum_of_products": "accel.testing.error_bounds",
}  # fmt: skip

__all__ = [
    "KernelProperty", "Mutant", "MutationScore", "PropertyError", "draw_inputs", "kernel_property", "mutants",
    "mutation_score", "sum_of_products",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in ("relations", "strategies"):
        value = importlib.import_module(f"accel.testing.{name}")
    else:
        raise AttributeError(f"module 'accel.testing' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "relations", "strategies"])
