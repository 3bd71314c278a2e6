"""The space of a sweep: what varies, what is fixed, and every point of it by its number."""

from __future__ import annotations

import hashlib
import json
import operator
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from accel.errors import AccelError, InputError, SpecError
from accel.files import read_toml_text
from accel.sweep.axes import Axis, plain_value
from accel.sweep.building import build_point
from accel.sweep.chips import Chips
from accel.sweep.document import Document, read_document
from accel.sweep.expressions import Expression
from accel.sweep.grammar import shown
from accel.sweep.names import Names
from accel.sweep.parameters import check_kernels
from accel.sweep.point import Limits, Point
from accel.sweep.problems import Problems, Work
from accel.sweep.sampling import Sampling, places, refinement
from accel.sweep.views import View, check_kinds
from accel.sweep.writing import in_toml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from accel.hardware import ChipSpec

__all__ = ["MOST_ORDERED", "Space"]

MOST_ORDERED = 100_000_000  # points of a product whose order is made: a byte and two integers of 8 bytes each


@dataclass(frozen=True, eq=False, repr=False)
class Space:
    """A sweep as its TOML says it, checked; `Space.load`, `Space.from_toml` and `Space.from_dict` make one.

    Points have numbers from 0 to `len(space) - 1`; a number means the same point wherever the file is read.
    """

    text: str
    document: Document
    names: Names
    size: int

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the space of the TOML file at `path`; SpecError names the file, the section, the key and the rule."""
        text = read_toml_text(path, "sweep file")
        return cls.from_toml(text, source=str(path), folder=Path(path).parent)

    @classmethod
    def from_toml(
        cls, text: str, *, source: str = "sweep TOML", folder: str | Path | None = None,
        bases: Mapping[str, str] | None = None,
    ) -> Self:  # fmt: skip
        """Return the space of TOML `text`; errors name `source`, and chip files are looked for in `folder`.

        bases: TOML of base chips by the name that [chip] has for them, as `base_texts` gives it; they are taken as
        written there, whatever has become of the files and of the catalog.
        """
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python takes
            raise SpecError(f"{source} is not valid TOML: {error}") from None
        return cls._of(data, text, source, folder, bases)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: str | Path | None = None) -> Self:
        """Return the space of plain `data`, as the TOML has it; chip files are looked for in `folder`."""
        try:
            text = in_toml(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise SpecError(f"sweep: {error}; give what TOML holds: tables, lists, numbers, text, flags") from None
        return cls._of(tomllib.loads(text), text, "sweep", folder)

    @classmethod
    def _of(
        cls, data: Mapping[str, Any], text: str, source: str, folder: str | Path | None,
        bases: Mapping[str, str] | None = None,
    ) -> Self:  # fmt: skip
        document = read_document(data, source)
        sizes = [len(document.axes[group[0]].values) for group in document.groups]
        size = document.sampling.size(sizes, f"{source}: [sample]")
        problems = Problems(document)
        names = Names(document, problems, Chips(document, None if folder is None else Path(folder), bases))
        check_kinds(names)
        space = cls(text, document, names, size)
        try:
            first = build_point(View(names, space._places([0]), 1), 0)
        except AccelError:
            return space  # the point will say why
        check_kernels(document, first)
        return space

    @property
    def source(self) -> str:
        """Where the TOML came from, as errors name it."""
        return self.document.source

    @property
    def title(self) -> str:
        """What the sweep is called; may be empty."""
        return self.document.title

    @property
    def fidelity(self) -> str:
        """At which fidelity points are timed: "packet" or "bound"."""
        return self.document.fidelity

    @property
    def objective(self) -> str:
        """The figure that the best point has least of; with a minus before it, most of."""
        return self.document.objective

    @property
    def screen(self) -> str | None:
        """The fidelity at which all points are seen first, None without a screen."""
        return self.document.screen

    @property
    def keep(self) -> int | float | None:
        """How many points, or which share of them, go on after the screen."""
        return self.document.keep

    @property
    def limits(self) -> Limits:
        """What one point may take."""
        return self.document.limits

    @property
    def axes(self) -> tuple[Axis, ...]:
        """What varies, in the order of the file."""
        return self.document.axes

    @property
    def sampling(self) -> Sampling:
        """How points are taken from all combinations."""
        return self.document.sampling

    @property
    def constraints(self) -> tuple[str, ...]:
        """What makes a point illegal before it is built, by the numbers of `legal`: name and text of each constraint.

        After them come the names with an expression, which may have no value (a division by zero).
        """
        own = (f"{name}: {expression.text}" for name, expression in self.document.constraints)
        return (*own, *(f"{name} has no value" for name in self._computed()))

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis.name}: {len(axis.values)}" for axis in self.axes)
        return f"Space({self.title!r}, {self.size:,} points, {axes})"

    def digest(self) -> str:
        """Return 64 hex digits over what decides the points: all but title, objective, screen, keep and limits.

        Comments and how a range is written do not count; the order of axes, which numbers the points, and the content
        of chip files do.
        """
        document = self.document
        parts = [
            [[axis.name, plain_value(axis.values)] for axis in self.axes],
            document.groups,
            {
                name: ["=", value.text] if isinstance(value, Expression) else plain_value(value)
                for name, value in document.fixed.items()
            },
            [[name, expression.text] for name, expression in document.constraints],
            [document.sampling.method, document.sampling.count, document.sampling.seed],
            [document.framed, document.size_sram, document.fidelity],
            {name: chip.digest() for name, chip in self.names.chips.bases.items()},
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def order(self) -> NDArray[np.int64]:
        """Return the numbers of all points in the order of a run.

        Of a product: first the ends and the middle of every axis, then what lies halfway between, and so on, so that a
        sweep that is cut short has seen the whole space, more coarsely; values without an order (text, flags, lists)
        are all due at once. Of a sample: as drawn. SpecError above `MOST_ORDERED` points.
        """
        import numpy as np

        if self.size > MOST_ORDERED:
            raise SpecError(
                f"{self.document.source}: {self.size:,} points cannot be put in order, {MOST_ORDERED:,} can; "
                "take a sample of them: [sample] method = 'random', count = 100000"
            )
        if self.sampling.method != "product":
            return np.arange(self.size, dtype=np.int64)
        due = np.zeros(1, np.uint8)
        for group in self.document.groups:
            values = [self.axes[place].values for place in group]
            ordered = any(isinstance(one[0], int | float) and not isinstance(one[0], bool) for one in values)
            due = np.maximum.outer(due, refinement(len(values[0]), ordered)).ravel()
        return np.argsort(due, kind="stable").astype(np.int64, copy=False)

    def _places(self, indices: Any) -> dict[str, NDArray[np.int64]]:
        """Return for every axis the places of its values at some points."""
        import numpy as np

        try:
            numbers = np.asarray(indices, np.int64).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"points {indices!r} are not numbers; give integers from 0 to {self.size - 1:,}") from None
        if numbers.size and not (int(numbers.min()) >= 0 and int(numbers.max()) < self.size):
            raise InputError(f"there are points 0 to {self.size - 1:,}, and one of those asked for is not among them")
        groups = self.document.groups
        found = places(self.sampling, [len(self.axes[group[0]].values) for group in groups], numbers)
        return {self.axes[at].name: one for group, one in zip(groups, found, strict=True) for at in group}

    def values(self, index: int) -> dict[str, Any]:
        """Return the value of every axis at point `index`, plain data."""
        found = self._places([operator.index(index)])
        return {axis.name: plain_value(axis.values[int(found[axis.name][0])]) for axis in self.axes}

    def columns(self, indices: Any) -> dict[str, NDArray[Any]]:
        """Return the values of every axis at the points `indices`: int64, float64, bool, or objects that are shared."""
        view = self._view(indices)
        return {axis.name: view.column(axis.name).values for axis in self.axes}

    def column(self, name: str, indices: Any) -> NDArray[Any]:
        """Return the values of one name at the points `indices`: an axis, a fixed value, an expression, a chip field...

        name: whatever an expression of this sweep may read. A point whose expression has no value, so that it is
        illegal, has 0. SpecError for an unknown name.
        """
        import numpy as np

        view = self._view(indices)
        return np.broadcast_to(view.column(name, self.document.source).values, (view.count,))

    def _view(self, indices: Any) -> View:
        found = self._places(indices)
        count = len(next(iter(found.values()))) if found else len(indices)
        return View(self.names, found, count)

    def settings(self, indices: Any) -> dict[str, NDArray[Any]]:
        """Return what the sweep sets at the points `indices`, by name: fixed values, expressions, and last the axes.

        A column has one entry where the value is the same for all points. Of two names of one field of the chip the
        later one holds. Lists are tuples; whole numbers of expressions are integers, as `resolve` has them.
        """
        import numpy as np

        view = self._view(indices)
        found: dict[str, NDArray[Any]] = {}
        for name in self.names.chips.in_order([*self.document.names, *self._computed()]):
            column = view.column(name)
            found[name] = column.values
            if column.kind == "float" and name in self.names.formulas:
                whole = (np.floor(column.values) == column.values) & (np.abs(column.values) < 1 << 53)
                if whole.all():
                    found[name] = column.values.astype(np.int64)
                elif whole.any():
                    found[name] = np.array([int(x) if x.is_integer() else x for x in column.values.tolist()], object)
        return found

    def base(self, name: str) -> ChipSpec:
        """Return the chip that `name`, a value of chip.base, stands for, with the fixed changes of [chip]."""
        return self.names.chips.bases[name]

    def base_texts(self) -> dict[str, str]:
        """Return the TOML of every base chip by its name in the sweep, before the changes of [chip]."""
        return dict(self.names.chips.texts)

    def problems(self, known: Mapping[str, Any]) -> Work:
        """Return the problems, (count, name, problem), of values by name; AccelError where they do not go together.

        known: of `settings` those that begin with problem.
        """
        return self.names.problems.build(known)

    def _computed(self) -> list[str]:
        """Return the names of what this sweep computes, each of which may have no value at a point."""
        sized = ["node.sram_bytes"] if self.document.size_sram else []
        return [*self.names.formulas, *sized]

    def legal(self, indices: Any) -> tuple[NDArray[np.bool_], NDArray[np.int16]]:
        """Return whether the points `indices` keep all constraints, and which of `constraints` breaks first.

        The number is -1 for a legal point. What only building shows (a chip or a problem whose fields do not go
        together) is not seen here: `resolve` refuses it with the reason.
        """
        import numpy as np

        view = self._view(indices)
        broken = np.full(view.count, -1, np.int16)
        constraints = [expression for _, expression in self.document.constraints]
        for number, name in reversed(list(enumerate(self._computed(), len(constraints)))):
            faults = view.column(name).faults
            if faults is not None:
                broken[np.broadcast_to(faults != 0, broken.shape)] = number
        for number, expression in reversed(list(enumerate(constraints))):
            found = view.holds(expression)
            wrong = ~found.values if found.faults is None else ~found.values | (found.faults != 0)
            broken[np.broadcast_to(wrong, broken.shape)] = number
        return broken < 0, broken

    def rule(self, number: int) -> str:
        """Return the reason that a point is illegal for which `legal` says this number."""
        rules = self.document.constraints
        if number < len(rules):
            return f"{rules[number][0]}: {shown(rules[number][1].text)} does not hold"
        return f"{self.constraints[number]}: its expression has no value at this point"

    def resolve(self, index: int) -> Point:
        """Return point `index` built; AccelError whose text is the reason where the point is illegal."""
        number = operator.index(index)
        view = View(self.names, self._places([number]), 1)
        for name, expression in self.document.constraints:
            found = view.holds(expression)
            if found.faults is not None and found.faults[0]:
                raise InputError(f"{name}: {view.faults.texts[int(found.faults[0])]}")
            if not found.values[0]:
                told = ", ".join(f"{one} = {view.value(one)!r}" for one in expression.names)
                raise InputError(f"{name}: {shown(expression.text)} does not hold{told and f' with {told}'}")
        return build_point(view, number)
