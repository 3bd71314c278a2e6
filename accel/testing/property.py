"""kernel_property: one line gives a kernel the whole battery of tests."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.errors import AccelError, HazardError, InputError, nearest
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.lang import TensorSpec
from accel.program import Kernel
from accel.testing.error_bounds import SumOfProducts
from accel.testing.relations import Relation, relation_of
from accel.testing.reproduction import argument_text, chip_text, imported, property_lines, reproduction
from accel.testing.shrinking import shrunk
from accel.testing.stages import STAGES, Stage
from accel.testing.subjects import LibrarySubject, NotApplicable, OwnSubject, Subject, subject_of
from accel.testing.trials import Trial, build_trial, refused
from accel.testing.variants import library_variants

__all__ = ["KernelProperty", "Options", "PropertyError", "kernel_property"]

EXAMPLES = 20  # drawn from a strategy, where the number is not given
MESHES = ((1, 1), (2, 3))  # that kernels of the library are built for beside the chip's own


class PropertyError(AssertionError):
    """A kernel that breaks a property: `stage`, one line of `text`, and a `reproduction` in Python."""

    def __init__(self, name: str, stage: str, text: str, reproduction: str) -> None:
        super().__init__(f"{name}: {stage}: {text}\n\nTo see it:\n\n{reproduction}\n")
        self.stage, self.text, self.reproduction = stage, text, reproduction


@dataclass(frozen=True)
class Options:
    """How the stages look: see `kernel_property`."""

    domain: str
    schedules: int
    bound: Any
    meshes: tuple[tuple[int, int], ...]
    tilings: tuple[Mapping[str, Any], ...]

    def variants(self, trial: Trial) -> Iterator[tuple[str, ChipSpec, Any]]:
        """Yield (what is other, chip, case) of builds that must give the same bits."""
        chip = trial.chip
        for rows, cols in self.meshes:
            if rows <= chip.mesh.rows and cols <= chip.mesh.cols and (rows, cols) != (chip.mesh.rows, chip.mesh.cols):
                case = trial.case
                if isinstance(case, Mapping):
                    case = {n: v for n, v in case.items() if n != "mesh"}
                yield f"mesh {rows} x {cols}", chip.replace(**{"mesh.rows": rows, "mesh.cols": cols}), case
        if isinstance(trial.subject, LibrarySubject):
            yield from library_variants(trial)
        for tiling in self.tilings:
            text = ", ".join(f"{n}={v!r}" for n, v in tiling.items())
            if isinstance(trial.case, Mapping):
                yield text, chip, {**trial.case, **tiling}
            else:
                yield text, chip, type(trial.case)(trial.case.problem, tuple(tiling.items()), trial.case.resident)


class KernelProperty:
    """What `kernel_property` says of a kernel: its stages, asked one by one or all at once."""

    def __init__(self, subject: Subject, cases: Any, relations: Sequence[Relation], chips: Sequence[ChipSpec],
                 options: Options, seed: int, examples: int, imports: tuple[list[str], str]) -> None:  # fmt: skip
        self.subject, self.cases, self.chips, self.options = subject, cases, tuple(chips), options
        self.seed, self.examples, self._imports = seed, examples, imports
        self.relations = {relation.name: relation for relation in relations}
        self._trials: dict[Any, Trial] = {}
        self.skipped: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Return the name of the kernel."""
        return self.subject.name

    @property
    def stages(self) -> tuple[str, ...]:
        """Return the names of what is asked, in order: the stages that fit, then the relations."""
        library = isinstance(self.subject, LibrarySubject)
        known = library or (isinstance(self.subject, OwnSubject) and self.subject.reference is not None)
        left = set(STAGES)
        if not known:
            left -= {"exact", "reference"}
        elif not library:
            left -= {"exact"} if self.options.domain == "float" else {"reference"}
        if not (self.options.meshes or self.options.tilings):
            left -= {"variants"}
        return (*(name for name in STAGES if name in left), *self.relations)

    def __call__(self) -> None:
        """Ask everything; raises PropertyError with the first thing that is wrong."""
        for stage in self.stages:
            self.stage(stage)

    def stage(self, name: str) -> None:
        """Ask one stage or relation of every case; raises PropertyError, InputError for an unknown name.

        What makes no sense for any case is noted in `skipped` with its reason; a relation that was asked for and holds
        for none of the cases by having nothing to say is a failure.
        """
        if name not in self.stages:
            raise InputError(f"{self.name} has no stage {name!r}{nearest(name, self.stages)}; it has "
                             f"{', '.join(self.stages)}")  # fmt: skip
        stage = STAGES.get(name) or _stage_of(self.relations[name], self.options)
        asked, reason = 0, ""
        for number, case, chip in self._drawn(stage):
            for kind in stage.kinds:
                trial = self._trial(case, chip, kind, self.seed + number)
                try:
                    text = _ask(stage, trial, self.options)
                except NotApplicable as why:
                    reason = str(why)
                    continue
                asked += 1
                if text is not None:
                    self._fail(stage, trial)
        if not asked:
            self.skipped[name] = reason or "no case could be built"
            if name in self.relations:
                raise PropertyError(self.name, name, f"says nothing about any case: {reason}", "# leave it out")

    def first_trial(self) -> Trial:
        """Return the first case, built, with random inputs; of a strategy, one that it draws."""
        if hasattr(self.cases, "example"):
            number, case, chip = self._explored(STAGES["hazards"])[0]
            return self._trial(case, chip, "float", self.seed + number)
        return self._trial(self.cases[0], self.chips[0], "float", self.seed)

    def _drawn(self, stage: Stage) -> Iterator[tuple[int, Any, ChipSpec]]:
        """Yield (number, case, chip); of a strategy, only what Hypothesis has found to fail, then some that hold."""
        if not hasattr(self.cases, "example"):
            pairs = itertools.product(self.cases, self.chips)
            yield from ((number, case, chip) for number, (case, chip) in enumerate(pairs))
            return
        yield from self._explored(stage)

    def _explored(self, stage: Stage) -> list[tuple[int, Any, ChipSpec]]:
        """Let Hypothesis look for a failing case and shrink it; return it, else the last case that was built."""
        from hypothesis import HealthCheck, assume, given, settings

        held: list[tuple[int, Any, ChipSpec]] = []
        refusal: list[str] = []

        @settings(max_examples=self.examples, deadline=None, database=None, derandomize=True, print_blob=False,
                  report_multiple_bugs=False, suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(self.cases)
        def look(given_case: Any) -> None:
            case = self._own(given_case)
            for chip in self.chips:
                try:
                    trials = [build_trial(self.subject, case, chip, kind, self.seed) for kind in stage.kinds]
                except AccelError as error:
                    if not refused(error):
                        raise
                    refusal.append(str(error))
                    assume(False)
                    raise  # for the reader of types: assume does not return
                held[:] = [(0, case, chip)]
                for trial in trials:
                    try:
                        if _ask(stage, trial, self.options) is not None:
                            raise _Wrong(trial)
                    except NotApplicable:
                        continue

        try:
            look()
        except _Wrong as wrong:
            self._fail(stage, wrong.trial)
        except AccelError:
            raise
        except Exception as error:
            if type(error).__name__ not in ("Unsatisfiable", "Unsatisfied"):
                raise
            why = refusal[-1] if refusal else str(error)
            raise InputError(f"{self.name} takes none of the drawn cases: {why}; draw others") from None
        return held

    def _own(self, case: Any) -> Any:
        return self.subject.case(case) if isinstance(self.subject, LibrarySubject) else _checked(case, self.name)

    def _trial(self, case: Any, chip: ChipSpec, kind: str, seed: int) -> Trial:
        key = (repr(case), chip.to_json(), kind, seed)
        if key not in self._trials:
            if len(self._trials) > 64:
                self._trials.clear()
            self._trials[key] = build_trial(self.subject, case, chip, kind, seed)
        return self._trials[key]

    def _fail(self, stage: Stage, trial: Trial) -> None:
        """Raise PropertyError with the smallest trial that fails this stage."""
        trial, text = shrunk(trial, lambda other: _ask(stage, other, self.options))
        if stage.name in ("hazards", "schedules", "engines"):
            lines = reproduction(trial, stage.name, None, model=False)
        elif stage.name in ("exact", "reference", "special"):
            whole = self.options.domain == "int" and not isinstance(self.subject, LibrarySubject)
            model = whole and stage.name != "special"
            if stage.name == "reference" and self.options.bound is not None:
                lines = self._asked_again(stage, trial)
            else:
                lines = reproduction(trial, stage.name, trial.expected(model=model), model=model)
        else:
            lines = self._asked_again(stage, trial)
        raise PropertyError(self.name, stage.name, text, lines) from None

    def _asked_again(self, stage: Stage, trial: Trial) -> str:
        imports, call = self._imports
        if isinstance(trial.case, Mapping):
            case = f"dict({', '.join(f'{n}={argument_text(v)}' for n, v in trial.case.items())})"
        else:
            problem = trial.case.problem
            fields = ", ".join(f"{f}={getattr(problem, f)!r}" for f in problem.__struct_fields__)
            case = f"dict({fields})"
        more = f", cases=[{case}], chips=[{chip_text(trial.chip)}], seed={trial.seed}"
        return property_lines(trial, stage.name, f"{call}{more}).property", imports)


class _Wrong(Exception):  # noqa: N818 - carries a trial out of Hypothesis
    def __init__(self, trial: Trial) -> None:
        super().__init__("found")
        self.trial = trial


def _ask(stage: Stage, trial: Trial, options: Options) -> str | None:
    try:
        return stage.ask(trial, options)
    except HazardError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _stage_of(relation: Relation, options: Options) -> Stage:
    kind = "int" if options.domain == "int" else relation.kind
    return Stage(relation.name, (kind,), lambda trial, _: relation(trial, trial.run))


def _checked(case: Any, name: str) -> Any:
    if not isinstance(case, Mapping):
        raise InputError(f"a case of {name} is a dict of tensors and parameters by name, got {case!r}")
    return dict(case)


def kernel_property(
    fn: Any,
    reference: Callable[..., Any] | None = None,
    relations: Iterable[Any] = (),
    domain: str = "float",
    schedules: int = 4,
    *,
    cases: Any = None,
    strategy: Any = None,
    chips: Iterable[ChipSpec | str] = ("mini",),
    bound: Any = None,
    inputs: Callable[..., Mapping[str, Any]] | None = None,
    meshes: Iterable[tuple[int, int]] | None = None,
    tilings: Iterable[Mapping[str, Any]] = (),
    seed: int = 0,
    examples: int = EXAMPLES,
) -> Any:
    """Return a test of a kernel: pytest collects it as `test_mine = kernel_property(mine, ...)`, and it can be called.

    fn: a kernel, the name of a library kernel, or a function build(chip, **case) that returns a program.
    cases: dicts of what `build` takes by name (tensors and parameters), one or several, or a Hypothesis strategy that
    draws them (`strategy` is another name for that; `examples` of them are drawn); for a library kernel: problems, or
    dicts of a problem's fields (default: its examples). reference: NumPy function of the input arrays by name, and of
    parameters that it names, `seed` among them; it returns the output or a dict. domain: "float", where the reference
    gets arrays in the tensors' own formats and is compared to the bit, or, with a `bound` (`sum_of_products(terms)`, a
    number, or a function of the inputs), gets float64 and is compared within it; or "int", where inputs are small whole
    numbers, the reference computes in float64 and int64, and every bit must agree. relations: see
    `accel.testing.relations`, by name or as functions. schedules: adversarial orders. chips: where each case is built.
    meshes, tilings: what else it is built for (other arguments), with the same bits; kernels of the library also with
    little SRAM and with resident operands. inputs: a function of (rng, the drawn arrays by name) that returns those
    that may not be any numbers. seed: of all inputs.

    The function returned has `.property`, a `KernelProperty`: `.stages` and `.stage(name)` ask one by one. Raises
    InputError for arguments that do not fit; the test itself raises PropertyError.
    """
    if domain not in ("float", "int"):
        raise InputError(f"domain must be 'float' or 'int', got {domain!r}")
    if type(schedules) is not int or not 1 <= schedules <= 1000:
        raise InputError(f"schedules must be a whole number from 1 to 1000, got {schedules!r}")
    subject = subject_of(fn, reference, inputs)
    library = isinstance(subject, LibrarySubject)
    if cases is not None and strategy is not None:
        raise InputError("cases and strategy are two names of one thing; give one of them")
    specs = [
        find_chip(c) if isinstance(c, str) else c for c in ([chips] if isinstance(chips, str | ChipSpec) else chips)
    ]
    shapes = tuple(meshes) if meshes is not None else MESHES if library else ()
    given = [relations] if isinstance(relations, str | Relation) else list(relations)
    found = [relation_of(r) for r in given]
    made = KernelProperty(
        subject, _cases_of(cases if cases is not None else strategy, subject, fn), found, specs,
        Options(domain, schedules, bound, shapes, tuple(tilings)), seed, examples,
        _own_call(fn, reference, found, domain, bound),
    )  # fmt: skip

    def test() -> None:
        made()

    test.__name__ = test.__qualname__ = f"test_{subject.name}"
    test.__doc__ = f"The battery of {subject.name}: {', '.join(made.stages)}."
    test.property = made  # type: ignore[attr-defined]  # how the plugin and users reach the stages
    return test


def _cases_of(cases: Any, subject: Subject, fn: Any) -> Any:
    if hasattr(cases, "example"):
        return cases
    if isinstance(subject, LibrarySubject):
        given = subject.examples() if cases is None else cases
        several = given if isinstance(given, list | tuple) else [given]
        return [subject.case(case) for case in several]
    if cases is None:
        raise InputError(f"Cannot test {subject.name} without its shapes; write kernel_property({subject.name}, "
                         f"{_example_of(fn)}), a list of such dicts, or a Hypothesis strategy of them")  # fmt: skip
    several = [cases] if isinstance(cases, Mapping) else list(cases)
    if not several:
        raise InputError(f"Cannot test {subject.name} on no case; give at least one dict of tensors and parameters")
    return [_checked(case, subject.name) for case in several]


def _example_of(fn: Any) -> str:
    """Return `cases=` for the signature of a kernel: positional parameters are tensors, the others are not."""
    if not isinstance(fn, Kernel):
        return "cases=dict(n=8)"
    parts = []
    for p in list(fn.signature.parameters.values())[1:]:
        if p.kind is inspect.Parameter.KEYWORD_ONLY:
            parts.append(f"{p.name}={p.default!r}" if p.default is not p.empty else f"{p.name}=...")
        elif p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and (
            p.default is p.empty or isinstance(p.default, TensorSpec)
        ):
            parts.append(f"{p.name}=accel.tensor((8, 8))")
    return f"cases=dict({', '.join(parts)})"


def _own_call(fn: Any, reference: Any, relations: Sequence[Relation], domain: str, bound: Any) -> tuple[list[str], str]:
    """Return imports, and the start of a call of `kernel_property` that asks for the same."""
    lines: list[str] = []
    if relations:
        names = sorted(
            {r.__name__ for r in relations if r.__name__ in r.name and r.look.__module__ == relation_of.__module__}
        )
        lines += [f"from accel.testing.relations import {', '.join(names)}"] if names else []
    if isinstance(fn, str):
        who = repr(fn)
    else:
        more, who = imported(fn)
        lines += more
    call = f"kernel_property({who}"
    if reference is not None:
        more, called = imported(reference)
        lines += [line for line in more if line not in lines]
        call += f", reference={called}"
    if isinstance(bound, SumOfProducts):
        more, terms = imported(bound.terms) if callable(bound.terms) else ([], repr(bound.terms))
        lines += ["from accel.testing import sum_of_products", *more]
        call += f", bound=sum_of_products({terms})"
    elif bound is not None:
        more, text = imported(bound) if callable(bound) else ([], repr(bound))
        lines += [line for line in more if line not in lines]
        call += f", bound={text}"
    if relations:
        call += f", relations=[{', '.join(r.name for r in relations)}]"
    return lines, f"{call}, domain={domain!r}"
