"""A failure as a few lines of Python that run as they are."""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import AccelError
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.hardware import names as chip_names
from accel.lang import TensorSpec
from accel.program import Kernel
from accel.testing.drawing import own_values
from accel.testing.subjects import LibraryCase, LibrarySubject, OwnSubject, tensor_text
from accel.testing.trials import Trial, wide

if TYPE_CHECKING:
    from accel.isa.program import Tensor

__all__ = ["reproduction"]

LITERAL = 64  # elements of all inputs and wanted outputs that are written out


def reproduction(trial: Trial, stage: str, expected: Mapping[str, Any] | None, *, model: bool) -> str:
    """Return Python that builds the program of a trial, gives it the inputs, and fails as the stage did.

    expected: what the outputs should have been, where that is known; model: the comparison was of numbers, not of bits.
    """
    lines = ["import numpy as np", "", "import accel"]
    made = _program_lines(trial)
    tensors = {t.name: t for t in trial.program.isa.tensors}
    wanted = {n: wide(a) if model else _as_output(a, tensors[n]) for n, a in (expected or {}).items()}
    if any(np.asarray(a).dtype.name == "bfloat16" for a in (*trial.inputs.values(), *wanted.values())):
        lines.insert(0, "import ml_dtypes")
    lines += made
    if stage == "hazards":
        return "\n".join([*lines, "program.check()"])
    small = sum(np.size(a) for a in trial.inputs.values()) <= LITERAL
    if small:
        body = ", ".join(f"{name}={_literal(a)}" for name, a in trial.inputs.items())
        lines.append(f"inputs = dict({body})")
    else:
        lines.insert(-len(made), "from accel.testing import draw_inputs")
        lines.append(f"inputs = draw_inputs(program, seed={trial.seed}, kind={trial.kind!r})")
    if stage == "schedules":
        lines += ["natural = program.run(inputs)", "for schedule in range(1, 9):"]
        lines += ["    other = program.run(inputs, schedule=schedule)"]
        lines += ["    assert all(other[name].tobytes() == natural[name].tobytes() for name in natural), schedule"]
        return "\n".join(lines)
    if stage == "engines":
        lines += ['fast, slow = program.run(inputs), program.run(inputs, engine="plain")',
                  "assert all(fast[name].tobytes() == slow[name].tobytes() for name in fast)"]  # fmt: skip
        return "\n".join(lines)
    lines.append(f"got = program.run(inputs, seed={trial.seed})" if trial.seed else "got = program.run(inputs)")
    for name, want in wanted.items():
        if np.size(want) > LITERAL:
            lines.append(f"print(got[{name!r}])")
            continue
        same = f"np.array_equal(got[{name!r}], {_literal(want)}, equal_nan=True)"
        lines += [f"assert {same}, got[{name!r}]"]
    return "\n".join(lines)


def _as_output(values: Any, tensor: Tensor) -> Any:
    """Return what a reference says as the output would hold it; as it is where it is no such tensor."""
    try:
        return own_values(values, tensor)
    except AccelError:
        return np.asarray(values)


def property_lines(trial: Trial, stage: str, call: str, imports: list[str]) -> str:
    """Return Python that asks the same question again through the property."""
    lines = ["import accel", "from accel.testing import kernel_property", *imports]
    return "\n".join([*lines, "", f"{call}.stage({stage!r})"])


def _program_lines(trial: Trial) -> list[str]:
    subject, chip = trial.subject, chip_text(trial.chip)
    if isinstance(subject, LibrarySubject):
        assert isinstance(trial.case, LibraryCase)
        problem, more = trial.case.problem, dict(trial.case.tiling)
        fields = ", ".join(f"{f}={getattr(problem, f)!r}" for f in problem.__struct_fields__)
        tiling = "".join(f", {n}={v!r}" for n, v in more.items())
        held = f", resident={sorted(trial.case.resident)}" if trial.case.resident else ""
        return [
            "from accel.comparison import build", "",
            f"problem = accel.problem.{type(problem).__name__}({fields})",
            f"program = build(problem, {chip}{held}{tiling})",
        ]  # fmt: skip
    assert isinstance(subject, OwnSubject)
    arguments = ", ".join(f"{name}={argument_text(value)}" for name, value in trial.case.items())
    found = imported(subject.source)
    build = f"{found[1]}.build" if isinstance(subject.source, Kernel) else found[1]
    return [*found[0], "", f"program = {build}({chip}, {arguments})"]


def argument_text(value: Any) -> str:
    """Return a build argument as Python."""
    return tensor_text(value) if isinstance(value, TensorSpec) else repr(value)


def chip_text(chip: ChipSpec) -> str:
    """Return the chip as Python: a catalog name, or what differs from the catalog's chip of that name."""
    if chip.name in chip_names():
        plain = find_chip(chip.name)
        if plain == chip:
            return repr(chip.name)
        changes = {}
        if (chip.mesh.rows, chip.mesh.cols) != (plain.mesh.rows, plain.mesh.cols):
            changes = {"mesh.rows": chip.mesh.rows, "mesh.cols": chip.mesh.cols}
        if chip.node.sram_bytes != plain.node.sram_bytes:
            changes["node.sram_bytes"] = chip.node.sram_bytes
        if changes and plain.replace(**changes) == chip:
            inner = ", ".join(f"{path!r}: {value}" for path, value in changes.items())
            return f"accel.chip({chip.name!r}).replace(**{{{inner}}})"
    return f"accel.hardware.ChipSpec.from_json({chip.to_json()!r})"


def imported(thing: Any) -> tuple[list[str], str]:
    """Return (lines that bring a kernel or function in, its name in them): an import, its source, or a remark."""
    function = getattr(thing, "fn", thing)
    name, module = getattr(thing, "name", getattr(function, "__name__", "kernel")), _module_of(function)
    if module is not None:
        held = [key for key, value in vars(module).items() if value is thing]
        if held:
            key = name if name in held else held[0]
            return [*_path_lines(module), f"from {_importable(module)} import {key}"], key
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        source = ""
    if source.startswith(("@", "def ")) and not getattr(function, "__code__", function).co_freevars:
        return ["", *source.rstrip().splitlines(), ""], getattr(function, "__name__", name)
    at = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    where = f" of {at}:{function.__code__.co_firstlineno}" if at else ""
    return [f"# {name}: the kernel{where}, which no import reaches"], name


def _module_of(function: Any) -> Any:
    name = getattr(function, "__module__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    return module if module is not None and name != "__main__" and getattr(module, "__file__", None) else None


def _importable(module: Any) -> str:
    own: str = module.__name__
    return Path(module.__file__).stem if own.startswith("_accel_user_") else own


def _path_lines(module: Any) -> list[str]:
    """Return what makes a module of the user importable: nothing where it is installed."""
    file = Path(module.__file__).resolve()
    depth = 0 if module.__name__.startswith("_accel_user_") else module.__name__.count(".")
    home = file.parents[depth + (file.name == "__init__.py")] if len(file.parents) > depth else file.parent
    installed = any(part in {"site-packages", "dist-packages"} for part in home.parts)
    if installed or home == Path(os.path.realpath(os.getcwd())):  # noqa: PTH109 - where the lines will be run
        return []
    return ["import sys", "", f"sys.path.insert(0, {str(home)!r})"]


def _literal(array: Any) -> str:
    """Return an array as Python that makes it."""
    values = np.asarray(array)
    dtype = "ml_dtypes.bfloat16" if values.dtype.name == "bfloat16" else repr(values.dtype.name)
    return f"np.array({_nested(values)}, {dtype})"


def _nested(values: Any) -> str:
    if values.ndim:
        return f"[{', '.join(_nested(part) for part in values)}]"
    if values.dtype.kind in "iu":
        return str(int(values))
    number = float(values)
    if np.isfinite(number):
        return (
            str(int(number)) if number == int(number) and abs(number) < 1e6 and not np.signbit(number) else repr(number)
        )
    return "np.nan" if np.isnan(number) else "np.inf" if number > 0 else "-np.inf"
