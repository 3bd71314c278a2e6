"""What is under test: a kernel of the user, a function that builds programs, or a kernel of the library by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from accel.errors import AccelError, InputError
from accel.lang import TensorSpec, tensor
from accel.numerics import fmt
from accel.problem import Problem
from accel.program import Kernel, Program
from accel.testing.drawing import INPUT_KINDS

if TYPE_CHECKING:
    from accel.hardware import ChipSpec

__all__ = ["LibraryCase", "LibrarySubject", "NotApplicable", "OwnSubject", "Subject", "subject_of"]


class NotApplicable(Exception):  # noqa: N818 - not an error: a property that says nothing about this case
    """A property says nothing about a case; `str()` says why."""


class Subject(Protocol):
    """What every thing under test offers: a name, programs of its cases, a reference, and cases near a case."""

    @property
    def name(self) -> str:
        """Return the name of the kernel."""

    def build(self, chip: ChipSpec, case: Any) -> Program:
        """Return the program of a case on a chip."""

    def expected(self, case: Any, inputs: Mapping[str, Any], program: Program, seed: int = 0) -> dict[str, Any]:
        """Return what the reference says of a run with a seed, by output; NotApplicable where there is none."""

    def inputs(self, case: Any, drawn: dict[str, Any], seed: int, kind: str) -> dict[str, Any]:
        """Return legal inputs: `drawn` with what the kernel's own inputs replace."""

    def resized(self, case: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """Return the case whose tensors have these shapes; NotApplicable where there is none."""

    def smaller(self, case: Any) -> Iterator[Any]:
        """Yield cases that are simpler than this one, the simplest first."""


@dataclass(frozen=True)
class OwnSubject:
    """A kernel of the user, or a function build(chip, **case) that returns a program; a case is a dict of arguments."""

    name: str
    make: Callable[..., Program]
    source: Any
    reference: Callable[..., Any] | None = None
    own_inputs: Callable[..., Mapping[str, Any]] | None = None

    def build(self, chip: ChipSpec, case: Any) -> Program:
        """Return the program of a dict of tensors and parameters."""
        return self.make(chip, **case)

    def expected(self, case: Any, inputs: Mapping[str, Any], program: Program, seed: int = 0) -> dict[str, Any]:
        """Return what the reference makes of inputs: called with them, parameters of the case and the seed, by name."""
        if self.reference is None:
            raise NotApplicable("there is no reference")
        try:
            returned = _called(self.reference, case, inputs, {} if "seed" in case else {"seed": seed})
        except (AccelError, AssertionError):
            raise
        except Exception as error:
            name = getattr(self.reference, "__name__", "the reference")
            raise InputError(
                f"{name} raised {type(error).__name__}: {error}; it gets {', '.join(inputs)}, in {self.name}"
            ) from error
        if isinstance(returned, Mapping):
            missing = [name for name in program.outputs if name not in returned]
            if missing:
                raise InputError(f"the reference returned no {missing[0]!r}; return {', '.join(program.outputs)}")
            return dict(returned)
        if len(program.outputs) != 1:
            raise InputError(f"the reference must return a dict of the outputs {', '.join(program.outputs)}")
        return {next(iter(program.outputs)): returned}

    def inputs(self, case: Any, drawn: dict[str, Any], seed: int, kind: str) -> dict[str, Any]:
        """Return the drawn inputs, less those that the user's function makes of (rng, **case)."""
        if self.own_inputs is None:
            return drawn
        made = _called(self.own_inputs, case, {"rng": np.random.default_rng(seed), **drawn}, {"kind": kind})
        if not isinstance(made, Mapping):
            raise InputError(f"inputs= returned {type(made).__name__}; return a dict of arrays by name")
        return {**drawn, **{name: np.asarray(array) for name, array in made.items()}}

    def resized(self, case: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """Return the case with tensors of other shapes, everything else as it is."""
        absent = [name for name in shapes if not isinstance(case.get(name), TensorSpec)]
        if absent:
            raise NotApplicable(f"{absent[0]} is no tensor of the case")
        return {**case, **{name: replace(case[name], shape=tuple(shape)) for name, shape in shapes.items()}}

    def smaller(self, case: Any) -> Iterator[Any]:
        """Yield the case with one size made smaller, wherever it stands: in tensors and in whole parameters."""
        sizes = {n for v in case.values() if isinstance(v, TensorSpec) for n in v.shape}
        sizes |= {v for v in case.values() if type(v) is int and v > 1}
        for size in sorted(sizes, reverse=True):
            for less in sorted({1, 2, 3, size // 2, size - 1}):
                if 0 < less < size:
                    yield {name: _with_size(value, size, less) for name, value in case.items()}


def _with_size(value: Any, size: int, less: int) -> Any:
    if isinstance(value, TensorSpec):
        return replace(value, shape=tuple(less if n == size else n for n in value.shape))
    return less if type(value) is int and value == size else value


def _called(function: Callable[..., Any], case: Mapping[str, Any], arrays: Mapping[str, Any],
            more: Mapping[str, Any] | None = None) -> Any:  # fmt: skip
    """Call a user's function with the arrays, by name where it has those names, and what else of the case it names."""
    given = {**{n: v for n, v in case.items() if n not in arrays}, **(more or {})}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return function(*arrays.values())  # a built-in takes its arguments in order
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    extra = {n: v for n, v in given.items() if n in parameters}
    if free or set(arrays) <= set(parameters):
        return function(**arrays, **extra)
    named = {n: v for n, v in arrays.items() if n in parameters}
    required = [
        p.name for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]  # fmt: skip
    if named and set(required) <= set(named) | set(extra):
        return function(**named, **extra)
    return function(*arrays.values(), **extra)


@dataclass(frozen=True)
class LibraryCase:
    """A problem, how it is tiled, and what is resident."""

    problem: Problem
    tiling: tuple[tuple[str, Any], ...] = ()
    resident: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LibrarySubject:
    """A kernel of the library: its definition is its reference, its cases are problems."""

    name: str
    kernel: Any
    preset: Mapping[str, Any]

    def examples(self) -> list[Problem]:
        """Return the kernel's own examples that this name stands for."""
        return [e for e in self.kernel.examples if all(getattr(e, f) == v for f, v in self.preset.items())]

    def case(self, given: Any) -> LibraryCase:
        """Return the case that a problem, a case, or a dict of fields of the problem and of the tiling says."""
        if isinstance(given, LibraryCase):
            return given
        if isinstance(given, Problem):
            return LibraryCase(given)
        if not isinstance(given, Mapping):
            raise InputError(f"a case of {self.name} is a problem or a dict of its fields, got {given!r}")
        fields = self.kernel.problem.__struct_fields__
        problem = self.kernel.problem(**{**self.preset, **{n: v for n, v in given.items() if n in fields}})
        held = given.get("resident", ())
        tiling = tuple((n, v) for n, v in given.items() if n not in fields and n != "resident")
        return LibraryCase(problem, tiling, frozenset((held,) if isinstance(held, str) else held))

    def build(self, chip: ChipSpec, case: Any) -> Program:
        """Return the program of a case."""
        built: Program = self.kernel.program(chip, case.problem, resident=case.resident, **dict(case.tiling))
        return built

    def expected(self, case: Any, inputs: Mapping[str, Any], program: Program, seed: int = 0) -> dict[str, Any]:
        """Return what the definition of the kernel says; of random numbers, for the seed."""
        cfp = [t for t in program.isa.tensors if fmt(t.dtype).kind == "cfp"]
        own: dict[str, Any] = {}
        if cfp:
            own["meaning"] = {t.name: {"bias": t.bias, "denormals": t.denormals} for t in cfp}
        if "seed" in inspect.signature(self.kernel.oracle).parameters:
            own["seed"] = seed
        return dict(self.kernel.oracle(case.problem, inputs, **own))

    def inputs(
        self, case: Any, drawn: dict[str, Any], seed: int, kind: str
    ) -> dict[str, Any]:  # fmt: skip
        """Return the kernel's own legal inputs, others for every kind, where not any number will do, else those drawn.

        Of the kinds "cancel" and "special" they are hard: see `LibraryKernel`.
        """
        if self.kernel.inputs is None:
            return drawn
        from accel.kernels.library import HARD

        number = seed * len(INPUT_KINDS) + INPUT_KINDS.index(kind)
        return dict(self.kernel.inputs(case.problem, number + HARD if kind in ("cancel", "special") else number))

    def resized(self, case: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """Return the problem with operands of these shapes: one or two of its sizes changed."""
        problem = case.problem
        changes = {
            (was, now)
            for name, shape in shapes.items()
            for was, now in zip(problem.operands[name].shape, shape, strict=True)
            if was != now
        }
        if not changes:
            return case
        fields = [f for f in problem.__struct_fields__ if type(getattr(problem, f)) is int]
        options = [(f, now) for was, now in sorted(changes) for f in fields if getattr(problem, f) == was]
        for wanted in [[o] for o in options] + [[o, p] for o in options for p in options if o[0] < p[0]]:
            try:
                other = _problem(problem, dict(wanted))
            except InputError:
                continue
            if all(other.operands[name].shape == tuple(shape) for name, shape in shapes.items()):
                return replace(case, problem=other)
        raise NotApplicable(f"no {self.name} has operands of shapes {dict(shapes)}")

    def smaller(self, case: Any) -> Iterator[Any]:
        """Yield the case with one of its problem's sizes made smaller; tilings are dropped first."""
        if case.tiling:
            yield replace(case, tiling=())
        if case.resident:
            yield replace(case, resident=frozenset())
        problem = case.problem
        fields = [f for f in problem.__struct_fields__ if type(getattr(problem, f)) is int]
        for field in sorted(fields, key=lambda f: -getattr(problem, f)):
            size = getattr(problem, field)
            for less in sorted({1, 2, 3, size // 2, size - 1}):
                if 0 < less < size:
                    try:
                        yield replace(case, problem=_problem(problem, {field: less}))
                    except InputError:
                        continue


def _problem(problem: Problem, changes: Mapping[str, Any]) -> Problem:
    fields = {name: getattr(problem, name) for name in problem.__struct_fields__}
    return type(problem)(**{**fields, **changes})


def subject_of(
    fn: Any, reference: Callable[..., Any] | None, inputs: Callable[..., Mapping[str, Any]] | None
) -> Subject:
    """Return what `fn` names: a kernel, the name of a library kernel, or a function that builds programs."""
    if isinstance(fn, Kernel):
        return OwnSubject(fn.name, fn.build, fn, reference, inputs)
    if isinstance(fn, str):
        from accel.kernels.catalog import CATALOG, library_kernel

        kernel = library_kernel(fn)
        if reference is not None or inputs is not None:
            raise InputError(
                f"{fn} is a kernel of the library with its own definition; leave reference= and inputs= out"
            )
        return LibrarySubject(fn, kernel, dict(CATALOG[fn].preset))
    if callable(fn):
        return OwnSubject(getattr(fn, "__name__", type(fn).__name__), fn, fn, reference, inputs)
    raise InputError(
        f"Cannot test {fn!r} because it is no kernel; give a function under @accel.kernel, the name of a library "
        "kernel, or a function build(chip, **case)"
    )


def tensor_text(spec: TensorSpec) -> str:
    """Return the call that makes a tensor argument."""
    more = f", {spec.dtype!r}" if spec.dtype != "bf16" else ""
    if spec != tensor(spec.shape, spec.dtype):
        more = f", {spec.dtype!r}"
        more += ", resident=True" if spec.resident else ""
        more += f", bias={spec.bias}" if spec.bias else ""
        more += f", denormals={spec.denormals!r}" if spec.denormals != "gap" else ""
    return f"accel.tensor({spec.shape}{more})"
