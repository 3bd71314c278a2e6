"""What the names of a sweep stand for: axes, fixed values, expressions, defaults, fields of the chip, derived figures.

Every name leads to a source, which gives its column over many points at once. Expressions are put in order once, so
that each is computed after what it needs; a circle is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.errors import SpecError, nearest
from accel.hardware import FrameFormat, paths_of
from accel.hardware.frames import sram_bytes_for
from accel.sweep.arithmetic import Column, Faults, constant
from accel.sweep.chips import ALL_PORTS, Chips, read
from accel.sweep.document import Document
from accel.sweep.expressions import Expression, evaluate, parse
from accel.sweep.problems import REQUIRED, Problems

__all__ = ["FRAME_FIELDS", "SIZING", "Alias", "Along", "Computed", "Names", "Source", "column_of"]

SIZING = {"window": 1, "halo_radius": 0, "working_share": 0.5}
"""Fields of [frame] that say how SRAM is sized for the video, with their defaults."""
FRAME_FIELDS = {
    "width": REQUIRED, "height": REQUIRED, "bits_per_pixel": REQUIRED, "channels": 1, "cameras": 1, "fps": REQUIRED,
    **SIZING,
}  # fmt: skip
DERIVED = {
    "frame.line_bytes": "-(-(frame.width * frame.channels * frame.bits_per_pixel) // 8)",
    "frame.frame_bytes": "-(-(frame.width * frame.height * frame.channels * frame.bits_per_pixel) // 8)",
    "frame.frame_set_bytes": "frame.frame_bytes * frame.cameras",
    "frame.bytes_per_second": "frame.frame_set_bytes * frame.fps",
    "chip.mesh_nodes": "mesh.rows * mesh.cols",
    "chip.nodes": "mesh.site_rows * mesh.site_cols - mesh.hole_count",
    "chip.sram_bytes": "chip.nodes * node.sram_bytes",
}
"""Figures that follow from others, as `FrameFormat` and `ChipSpec` define them."""
_SIZED = "node.sram_bytes"
_SIZED_FROM = tuple(f"frame.{name}" for name in FRAME_FIELDS if name != "fps")


@dataclass(frozen=True)
class Along:
    """A column along one dimension of the space: the values of an axis, or what they lead to."""

    axis: str
    values: Column


@dataclass(frozen=True)
class Alias:
    """Another name for the same."""

    name: str


@dataclass(frozen=True)
class Computed:
    """A column made of other ones: by an expression, or by a function of their values, once for each combination."""

    names: tuple[str, ...]
    made_of: Expression | Callable[..., int]


Source = Column | Along | Alias | Computed


def column_of(values: Sequence[Any]) -> Column:
    """Return values as a column: integers, floats, flags or texts, or where they are mixed or else, objects."""
    if all(isinstance(value, bool) for value in values):
        return Column("bool", np.array(values, np.bool_))
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return Column("int", np.array(values, np.int64))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Column("float", np.array(values, np.float64))
    held = np.empty(len(values), object)
    held[:] = [None] * len(values)
    for place, value in enumerate(values):
        held[place] = value
    return Column("text" if all(isinstance(value, str) for value in values) else "list", held)


class Names:
    """The sources of all names of a sweep, checked: nothing unknown, no circle, kinds that go together."""

    def __init__(self, document: Document, problems: Problems, chips: Chips) -> None:
        self.document, self.problems, self.chips = document, problems, chips
        self._axes = {axis.name: column_of(axis.values) for axis in document.axes}
        self._sources: dict[str, Source] = {}
        self.order: dict[str, None] = {}  # computed names, each after what it needs
        self.formulas = tuple(name for name, value in document.fixed.items() if isinstance(value, Expression))
        self._check_sections()
        for name in (*self._axes, *document.fixed):
            self._add(name, document.where(name))
        if document.size_sram:
            self._add(_SIZED, f"{document.source}: [frame] size_sram")
        for _, expression in document.constraints:
            for name in expression.names:
                self._add(name, expression.where)

    def _check_sections(self) -> None:
        """Refuse unknown names of [frame] and chip.*, a frame that lacks a field, and an SRAM that is set twice."""
        document, known = self.document, {**self.document.fixed, **self._axes}
        for name in known:
            section, _, key = name.partition(".")
            if section == "frame" and key not in FRAME_FIELDS:
                hint = nearest(key, FRAME_FIELDS) or f"; use {', '.join(FRAME_FIELDS)}"
                raise SpecError(f"{document.where(name)}: a frame has no {key!r}{hint}")
            if section == "chip" and key != "base":
                raise SpecError(f"{document.where(name)}: unknown name {name!r}; use chip.base, or a path of the chip")
            if section == "kernel" and not key:
                raise SpecError(f"{document.where(name)}: names no parameter; write kernel.bk")
        missing = [key for key, value in FRAME_FIELDS.items() if value is REQUIRED and f"frame.{key}" not in known]
        if document.framed and missing:
            raise SpecError(f"{document.source}: [frame] needs {', '.join(missing)}; give each, or an axis frame.*")
        if document.size_sram and not document.framed:
            raise SpecError(f"{document.source}: [frame] size_sram needs width, height, bits_per_pixel and fps")
        if document.size_sram and _SIZED in known:
            raise SpecError(f"{document.where(_SIZED)}: [frame] size_sram sets it already; leave one of them out")

    def _add(self, name: str, where: str) -> None:
        """Find the sources of a name and of all that it needs; computed ones are appended after what they need."""
        begun: dict[str, None] = {}  # and not finished, outermost first
        left: list[tuple[str, bool]] = [(name, False)]
        while left:
            one, finished = left.pop()
            if finished:
                del begun[one]
                self.order[one] = None
            elif one in begun:
                path = list(begun)
                circle = " -> ".join([*path[path.index(one) :], one])
                raise SpecError(f"{where}: {circle} is a circle; give one of them a value")
            elif one not in self._sources:
                self._sources[one] = self._found(one, where)
                needs = self._needs(one)
                if needs:
                    begun[one] = None
                    left.append((one, True))
                    left += [(other, False) for other in reversed(needs)]

    def _needs(self, name: str) -> tuple[str, ...]:
        source = self._sources[name]
        if isinstance(source, Alias):
            return (source.name,)
        return source.names if isinstance(source, Computed) else ()

    def _found(self, name: str, where: str) -> Source:
        """Return the source of a name; SpecError with the nearest where there is none."""
        document = self.document
        if name in self._axes:
            return Along(name, self._axes[name])
        wild = f"{ALL_PORTS}{name.split('.', 2)[2]}" if name.count(".") >= 2 and name.startswith("ports.") else ""
        if wild in self._axes:
            return Alias(wild)
        for own in (name, wild):
            if own in document.fixed:
                value = document.fixed[own]
                if own != name:
                    return Alias(own)
                if isinstance(value, Expression):
                    return Computed(value.names, value) if value.names else _folded(value)
                return constant(value)
        if name == _SIZED and document.size_sram:
            return Computed((*_SIZED_FROM, "chip.mesh_nodes"), _sized)
        if name in DERIVED and (document.framed or not name.startswith("frame.")):
            expression = parse(DERIVED[name], f"{where}: {name}")
            return Computed(expression.names, expression)
        return self._default(name, where)

    def _default(self, name: str, where: str) -> Source:
        """Return what a name has where the sweep does not set it: a default, or a field of the chip."""
        section, _, key = name.partition(".")
        problems, chips, document = self.problems, self.chips, self.document
        if section == "frame":
            if not document.framed:
                raise SpecError(f"{where}: {name} needs a [frame]; give width, height, bits_per_pixel and fps there")
            if key in FRAME_FIELDS:
                return constant(FRAME_FIELDS[key])
        elif section == "problem":
            if all(key in problems.fields(choice) for choice in problems.choices):
                other = problems.follows(problems.choices[0], key)
                if other is not None and f"problem.{other}" in {**document.fixed, **self._axes}:
                    return Alias(f"problem.{other}")
                return self._by_choice(problems.structure, [problems.fields(one)[key] for one in problems.choices])
        elif section == "kernel":
            raise SpecError(f"{where}: {name} is not set by this sweep; give it in [kernel], or make it an axis")
        elif section == "chip":
            if key == "base":
                return constant(chips.choices[0])
        elif name == "mesh.hole_count":
            return self._hole_count()
        else:
            whole = [one for one in (*self._axes, *self.formulas) if name.startswith(f"{one}.")]
            if whole:
                raise SpecError(f"{where}: {name} cannot be read, as {whole[0]} is set as a whole; set {name} instead")
            found = [read(chips.data[one], name) for one in chips.choices]
            if all(value is not None for value in found):
                return self._by_choice("chip.base", found)
        known = self._readable()
        hint = nearest(name, known) or "; names are those of axes, problem.*, kernel.*, frame.* and paths of the chip"
        ending = [one for one in known if one.endswith(f".{name}")]
        raise SpecError(f"{where}: unknown name {name!r}{f'; did you mean {ending[0]!r}?' if ending else hint}")

    def _by_choice(self, structure: str, values: list[Any]) -> Source:
        values = [tuple(value) if isinstance(value, list) else value for value in values]
        if structure not in self._axes:
            return constant(values[0])
        return Along(structure, column_of(values))

    def _hole_count(self) -> Source:
        """Return how many sites are disabled, from wherever the list of them comes."""
        holes = self._found("mesh.holes", self.document.source)
        if isinstance(holes, Along):
            return Along(holes.axis, column_of([len(one) for one in holes.values.values]))
        if not isinstance(holes, Column):
            raise SpecError(f"{self.document.where('mesh.holes')}: the list of disabled sites cannot be an expression")
        return constant(len(holes.values[0]))

    def _readable(self) -> list[str]:
        fields = [f"problem.{key}" for choice in self.problems.choices for key in self.problems.fields(choice)]
        own = [*self._axes, *self.document.fixed, *fields, *DERIVED]
        frame = [f"frame.{key}" for key in FRAME_FIELDS] if self.document.framed else []
        return [*own, *frame, *paths_of(self.chips.data[self.chips.choices[0]])]

    def source(self, name: str, where: str) -> Source:
        """Return the source of a name, found now if it is not known yet."""
        self._add(name, where)
        return self._sources[name]


def _folded(expression: Expression) -> Column:
    faults = Faults()
    found = evaluate(expression, constant, faults)
    if found.faults is not None:
        raise SpecError(faults.texts[int(found.faults[0])])
    return found


def _sized(width: int, height: int, bits: int, channels: int, cameras: int, window: int, halo: int, share: float,
           nodes: int) -> int:  # fmt: skip
    frame = FrameFormat(width=width, height=height, bits_per_pixel=bits, channels=channels, cameras=cameras, fps=1.0)
    return sram_bytes_for(frame, nodes, window=window, halo_radius=halo, working_share=share)
