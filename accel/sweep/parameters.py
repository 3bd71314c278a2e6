"""Which parameters the kernels of a problem take, so that a misspelt axis is told before a point is built."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Sequence
from typing import Any

from accel.comparison import build
from accel.errors import AccelError, SpecError, nearest
from accel.hardware import ChipSpec
from accel.kernels.catalog import kernel_of
from accel.problem import Problem
from accel.sweep.document import Document
from accel.sweep.point import Point

__all__ = ["check_kernels", "parameters_of"]

_NOBODY = "not_a_parameter"
_LIST = re.compile(rf"parameter '{_NOBODY}'; (?:use one of|use|it has) (.+)$")


@functools.lru_cache(maxsize=256)
def parameters_of(problem: Problem, chip: ChipSpec, version: str | None = None) -> tuple[str, ...] | None:
    """Return the names of the parameters that the kernel of a problem takes on a chip, None where it does not say.

    Those of its signature, and of its tiling: a kernel refuses a name that it does not know before it does anything
    else, and lists the names that it does. version: of the kernel, where it has several.
    """
    try:
        signature = inspect.signature(kernel_of(problem).program).parameters.values()
    except AccelError:
        return None
    keywords = [p.name for p in signature if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "resident"]
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature):
        return tuple(keywords)
    given: dict[str, Any] = {_NOBODY: 1} if version is None else {_NOBODY: 1, "version": version}
    try:
        build(problem, chip, **given)
    except AccelError as error:
        listed = _LIST.search(error.message)
        if listed is None:
            return None
        tiling = [] if listed[1] == "none" else re.split(r", | or ", listed[1])
        return tuple(dict.fromkeys([*keywords, *tiling]))
    return None


def check_kernels(document: Document, point: Point) -> None:
    """Refuse parameters and resident operands that the kernels of a point do not know; SpecError with the nearest."""
    problems = [problem for _, _, problem in point.problems]
    _check_resident(document, problems)
    own = [name for name in document.names if name.startswith("kernel.") and name != "kernel.resident"]
    versions: list[str | None] = [str(one) for one in _values(document, "kernel.version")]
    different = {(problem.kind, getattr(problem, "direction", "")): problem for problem in problems}
    for problem in different.values() if own else ():
        known: list[str] = []
        for version in versions or [None]:
            found = parameters_of(problem, point.chip, version)
            if found is None:
                return  # the kernel itself will say
            known += found
        for name in own:
            if name.removeprefix("kernel.") not in known:
                key = name.removeprefix("kernel.")
                hint = nearest(key, known) or f"; it takes {', '.join(dict.fromkeys(known)) or 'none'}"
                raise SpecError(f"{document.where(name)}: the kernel of {problem.kind} has no parameter {key!r}{hint}")


def _values(document: Document, name: str) -> tuple[Any, ...]:
    """Return the values that a name takes in a sweep, none where it is not set."""
    for axis in document.axes:
        if axis.name == name:
            return axis.values
    return (document.fixed[name],) if name in document.fixed else ()


def _check_resident(document: Document, problems: Sequence[Problem]) -> None:
    for value in _values(document, "kernel.resident"):
        for operand in value if isinstance(value, tuple) else (value,):
            for problem in problems:
                if operand not in problem.operands:
                    hint = nearest(str(operand), problem.operands) or f"; it has {', '.join(problem.operands)}"
                    where = document.where("kernel.resident")
                    raise SpecError(f"{where}: {problem.label} has no operand {operand!r}{hint}")
