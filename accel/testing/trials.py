"""One built case with its inputs: what stages and relations look at, and how they run it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from accel.errors import AccelError, BoundsError, CapacityError, InputError, TraceError, UnsupportedError
from accel.hardware import ChipSpec
from accel.numerics import as_storage, fmt, from_storage
from accel.program import Program
from accel.testing.drawing import draw_inputs, own_values
from accel.testing.subjects import NotApplicable, Subject

__all__ = ["Check", "OtherShape", "Run", "Trial", "build_trial", "differing", "refused", "shown", "wide"]

REFUSALS = (InputError, UnsupportedError, CapacityError)
Run: TypeAlias = "Callable[..., dict[str, Any]]"
Check: TypeAlias = "Callable[[Trial, Run], str | None]"


class OtherShape(str):
    """What is wrong where outputs have other shapes than a reference: not the failure that wrong numbers are."""

    __slots__ = ()


def refused(error: AccelError) -> bool:
    """Return whether an error of a build says that the kernel does not take the case, and not that it is wrong."""
    return (isinstance(error, REFUSALS) and not isinstance(error, BoundsError)) or type(error) is TraceError


@dataclass(frozen=True)
class Trial:
    """One case of a kernel, built for a chip, with inputs.

    case: what the program was built from: a dict of tensors and parameters, or a `LibraryCase`. inputs: arrays of
    values by name, in each tensor's own format. kind, seed: how they were drawn (see `draw_inputs`).
    """

    subject: Subject
    case: Any
    chip: ChipSpec
    program: Program
    kind: str
    seed: int
    inputs: Mapping[str, Any]

    @property
    def rng(self) -> Any:
        """Return a random generator that is the same for the same trial."""
        return np.random.default_rng([self.seed, 1])

    def outputs(self) -> dict[str, Any]:
        """Return the arrays of outputs by name."""
        return self.run()

    def run(
        self, inputs: Mapping[str, Any] | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None, *,
        schedule: str | int = "natural", engine: str = "jit",
    ) -> dict[str, Any]:  # fmt: skip
        """Run the program and return its outputs by name.

        inputs: arrays that take the place of the trial's own. Where one has another shape, or `shapes` says so of an
        output, the kernel is built anew for them; NotApplicable where it does not take those. schedule, engine: as
        for `Program.run`.
        """
        arrays = {**self.inputs, **(inputs or {})}
        known = {**self.program.inputs, **self.program.outputs}
        wanted = {n: np.shape(a) for n, a in (inputs or {}).items()} | dict(shapes or {})
        changed = {n: tuple(s) for n, s in wanted.items() if tuple(s) != known[n][0]}
        program = self.program if not changed else self._rebuilt(changed)
        return dict(program.run(arrays, seed=self.seed, schedule=schedule, engine=engine))

    def _rebuilt(self, shapes: Mapping[str, tuple[int, ...]]) -> Program:
        case = self.subject.resized(self.case, shapes)
        try:
            return self.subject.build(self.chip, case)
        except AccelError as error:
            if refused(error):
                raise NotApplicable(f"the kernel does not take shapes {dict(shapes)}: {error}") from None
            raise

    def drawn(self, kind: str, seed: int | None = None) -> dict[str, Any]:
        """Return other inputs for the same program, of another `kind` or `seed` (default: the trial's)."""
        number = self.seed if seed is None else seed
        return self.subject.inputs(self.case, draw_inputs(self.program, number, kind), number, kind)

    def with_inputs(self, inputs: Mapping[str, Any]) -> Trial:
        """Return the same trial with other values as `inputs`, all of them, rounded to each tensor's format."""
        tensors = {t.name: t for t in self.program.isa.tensors}
        return replace(self, inputs={n: own_values(a, tensors[n]) for n, a in inputs.items()})

    def expected(self, *, model: bool = False) -> dict[str, Any]:
        """Return what the reference says, by output; `model`: it is given float64 or int64 in place of own formats."""
        arrays = {n: wide(a) for n, a in self.inputs.items()} if model else dict(self.inputs)
        with np.errstate(all="ignore"):
            return self.subject.expected(self.case, arrays, self.program, self.seed)


def build_trial(subject: Subject, case: Any, chip: ChipSpec, kind: str, seed: int) -> Trial:
    """Build a case and draw its inputs."""
    program = subject.build(chip, case)
    if not isinstance(program, Program):
        raise InputError(f"{subject.name} returned {type(program).__name__} and no program; return kernel.build(...)")
    drawn = subject.inputs(case, draw_inputs(program, seed, kind), seed, kind)
    return Trial(subject, case, chip, program, kind, seed, drawn)


def wide(array: Any) -> Any:
    """Return an array of values as float64, or as int64 where it holds integers."""
    values = np.asarray(array)
    return values.astype(np.int64 if values.dtype.kind in "iu" else np.float64)


def shown(value: Any) -> str:
    """Return a number, with its bits where that is more than a whole number says."""
    array = np.asarray(value).reshape(1)
    number = float(array[0])
    if number == int(number) if np.isfinite(number) else False:
        return f"{number:.17g}" if number or not np.signbit(number) else "-0"
    code = int(array.view(f"u{array.dtype.itemsize}")[0])
    return f"{number:.9g} (0x{code:0{2 * array.dtype.itemsize}X})"


def differing(program: Program, got: Mapping[str, Any], want: Mapping[str, Any], against: str, *,
              exact_bits: bool = True, zero_signs: bool = True) -> str | None:  # fmt: skip
    """Return what differs between outputs, None where nothing does; `against` names where `want` comes from.

    `want` may be of any dtype: it is rounded to the output's format, nearest even. exact_bits: NaN must have the same
    bits; otherwise any NaN is one. zero_signs: -0 and +0 differ.
    """
    for t in program.isa.tensors:
        if t.name not in got or t.name not in want or not t.is_output:
            continue
        own: Any = {"bias": t.bias, "denormals": t.denormals} if fmt(t.dtype).kind == "cfp" else {}
        other = np.asarray(want[t.name])
        if other.shape != np.shape(got[t.name]):
            return OtherShape(f"{against} has shape {other.shape} for {t.name}, the kernel {np.shape(got[t.name])}")
        mine = as_storage(got[t.name], t.dtype, **own)
        try:
            theirs = as_storage(other, t.dtype, **own)
        except AccelError as error:
            return f"{against} gives no numbers of {t.dtype} for {t.name}: {error}"
        values = (
            from_storage(mine, t.dtype, as_="ml_dtypes", **own),
            from_storage(theirs, t.dtype, as_="ml_dtypes", **own),
        )
        unequal = mine.view(f"u{mine.itemsize}") != theirs.view(f"u{theirs.itemsize}")
        if not zero_signs:
            unequal &= ~((values[0] == 0) & (values[1] == 0))
        if not exact_bits and fmt(t.dtype).kind != "int":
            with np.errstate(invalid="ignore"):  # comparing a signalling NaN says so
                unequal &= ~((values[0] != values[0]) & (values[1] != values[1]))
        places = np.argwhere(unequal)
        if len(places):
            at = tuple(int(i) for i in places[0])
            return (
                f"{t.name}{list(at)} is {shown(values[0][at])}, {against} says {shown(values[1][at])}; "
                f"{len(places)} of {unequal.size} elements differ"
            )
    return None
