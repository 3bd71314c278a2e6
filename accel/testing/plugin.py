"""The pytest plugin: every stage of a `kernel_property` is a test of its own, and a failure shows its few lines only.

It is loaded by every pytest where this package is installed, so it imports nothing of the library before a property is
there. Without it (`-p no:accel`) a property is one test that asks all its stages.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest

__all__ = ["pytest_pycollect_makeitem"]


class StageItem(pytest.Function):
    """One stage of a property: what failed is in the error's text, so no traceback of ours is shown."""

    def repr_failure(self, excinfo: Any) -> Any:  # type: ignore[override]  # as pytest's own Function has it
        """Return the text of a broken property, or what pytest shows of any other error."""
        if type(excinfo.value).__name__ == "PropertyError":
            return str(excinfo.value)
        return super().repr_failure(excinfo)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Any:
    """Return one test a stage for what `kernel_property` made; None leaves everything else to pytest."""
    held: Any = getattr(obj, "property", None) if isinstance(obj, FunctionType) else None
    if type(held).__name__ != "KernelProperty" or not collector.funcnamefilter(name):
        return None
    asked = {f"{name}[{stage}]": _asking(held, stage) for stage in held.stages}
    return [StageItem.from_parent(collector, name=n, callobj=ask, originalname=n) for n, ask in asked.items()]


def _asking(held: Any, stage: str) -> Callable[[], None]:
    def ask() -> None:
        held.stage(stage)
        if stage in held.skipped:
            pytest.skip(held.skipped[stage])

    return ask
