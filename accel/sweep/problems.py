"""The problems of a sweep: one kind of the kernel library, or the layers of a named network."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from accel.errors import AccelError, InputError, SpecError, nearest
from accel.kernels.catalog import CATALOG
from accel.networks import Layer, network, parameters
from accel.networks import names as network_names
from accel.problem import Problem, kind, kinds
from accel.sweep.axes import Value
from accel.sweep.document import Document
from accel.sweep.expressions import Expression
from accel.sweep.grammar import shown

__all__ = ["REQUIRED", "Problems", "Work"]

REQUIRED = object()  # in place of the default of a field that has none
Work = tuple[tuple[int, str, Problem], ...]
_OF_NETWORKS = {"training": False, "dtype": "bf16"}  # what `network` takes beside parameters, with its defaults
_SELECTION = ("layer", "layers")


class _Kind(NamedTuple):
    """A kind of problem as a sweep names it: the class, fields that the name presets, fields with their defaults."""

    problem: type[Problem]
    preset: Mapping[str, Any]
    defaults: Mapping[str, Any]


class Problems:
    """What [problem] says, checked: which names it may set, their defaults, and the problems of a point.

    `structure` is the name on which the others depend, `problem.kind` or `problem.network`; `choices` its values.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        axes = {axis.name: axis.values for axis in document.axes}
        given = [name for name in ("problem.kind", "problem.network") if name in document.fixed or name in axes]
        if len(given) != 1:
            told = "both a kind and a network" if given else "no problem"
            raise SpecError(f"{document.source}: [problem] names {told}; give kind = 'matmul', or network = 'resnet50'")
        self.structure = given[0]
        held = axes.get(self.structure) or (document.fixed[self.structure],)
        if any(not isinstance(value, str) for value in held):
            raise SpecError(f"{document.where(self.structure)}: give names as plain text")
        self.choices = tuple(str(value) for value in held)
        self.of_network = self.structure == "problem.network"
        set_names = [
            name for name in (*document.fixed, *axes) if name.startswith("problem.") and name != self.structure
        ]
        for choice in self.choices:
            self._check(choice, set_names)
        self._check_selection(axes)

    def _check(self, choice: str, set_names: list[str]) -> None:
        """Refuse names that a choice does not have, and a choice that lacks one."""
        where = self._document.where
        known = self.fields(choice)
        preset: Mapping[str, Any] = {} if self.of_network else self._kind(choice).preset
        for name in set_names:
            field = name.removeprefix("problem.")
            if self.of_network and field in _SELECTION:
                continue
            if field in preset:
                raise SpecError(f"{where(name)}: {choice} has {field} = {preset[field]!r}, which cannot be set")
            if field not in known:
                hint = nearest(field, known) or f"; it has {', '.join(known) or 'nothing to set'}"
                raise SpecError(f"{where(name)}: {choice} has no {field!r}{hint}")
        missing = [field for field, value in known.items() if value is REQUIRED and f"problem.{field}" not in set_names]
        if missing:
            raise SpecError(
                f"{self._document.source}: [problem] {choice} needs {', '.join(missing)}; "
                "give each in [problem], or make it an axis problem.*"
            )

    def _check_selection(self, axes: Mapping[str, tuple[Value, ...]]) -> None:
        """Refuse patterns of layers that are no text, select nothing, or are given in two ways."""
        document = self._document
        given = [name for name in ("problem.layer", "problem.layers") if name in document.fixed or name in axes]
        if not given:
            return
        name = given[0]
        if len(given) > 1 or (name in document.fixed and name == "problem.layer"):
            raise SpecError(f"{document.where(name)}: give layers in [problem], or an axis problem.layer, not both")
        patterns = axes.get(name) or (document.fixed[name],)
        for value in patterns:
            held = value if isinstance(value, tuple) else (value,)
            if not held or any(not isinstance(one, str) for one in held):
                raise SpecError(f"{document.where(name)}: give names or patterns of layers, such as ['conv2*']")
            for one in held if self.of_network else ():
                self._check_pattern(str(one), document.where(name))

    def _check_pattern(self, pattern: str, where: str) -> None:
        """Refuse a pattern that no layer of any of the networks has, its training step included."""
        names = [layer.name for choice in self.choices for layer in _layers(choice, (("training", True),))]
        if not any(_matches(name, pattern) for name in names):
            hint = nearest(pattern, names) or f"; the first is {names[0]!r}"
            raise SpecError(f"{where}: {' and '.join(self.choices)} has no layer {pattern!r}{hint}")

    def _kind(self, name: str) -> _Kind:
        try:
            return _kind_of(name)
        except InputError as error:
            raise SpecError(f"{self._document.where(self.structure)}: {error}") from None

    def fields(self, choice: str) -> dict[str, Any]:
        """Return the names that may be set for a choice, with their defaults, `REQUIRED` where there is none."""
        if not self.of_network:
            return dict(self._kind(choice).defaults)
        try:
            return {**parameters(choice), **_OF_NETWORKS}
        except InputError as error:
            hint = f"; the networks are {', '.join(network_names())}" if "use one of" not in str(error) else ""
            raise SpecError(f"{self._document.where(self.structure)}: {error}{hint}") from None

    def follows(self, choice: str, field: str) -> str | None:
        """Return the field whose value an unset one takes, as on the command line: out_dtype that of dtype."""
        if self.of_network or field != "out_dtype":
            return None
        defaults = self._kind(choice).defaults
        return "dtype" if defaults.get("dtype") == defaults.get("out_dtype") is not None else None

    def build(self, known: Mapping[str, Any]) -> Work:
        """Return the problems of a point, (count, name, problem); AccelError where its values do not go together.

        known: the values of `problem.*` by dotted name.
        """
        fields = {name.removeprefix("problem."): value for name, value in known.items()}
        choice = str(fields.pop("network" if self.of_network else "kind"))
        if self.of_network:
            patterns = fields.pop("layers", None) or fields.pop("layer", None) or "*"
            held = tuple(patterns) if isinstance(patterns, list | tuple) else (patterns,)
            return _selected(choice, held, tuple(sorted(fields.items())))
        held_kind = self._kind(choice)
        if self.follows(choice, "out_dtype") and "dtype" in fields:
            fields.setdefault("out_dtype", fields["dtype"])
        try:
            problem = held_kind.problem.from_dict({**held_kind.preset, **fields})
        except AccelError as error:
            raise self._explained(error, fields) from None
        return ((1, problem.label, problem),)

    def _explained(self, error: AccelError, fields: Mapping[str, Any]) -> AccelError:
        """Return the error of a problem with the expressions of the fields that it names."""
        told = [
            f"{field} is {shown(expression.text)}"
            for field in fields
            if isinstance(expression := self._document.fixed.get(f"problem.{field}"), Expression)
            and f"{field}=" in error.message
        ]
        return InputError(f"{error.message} ({', '.join(told)})") if told else InputError(error.message)


@functools.cache
def _kind_of(name: str) -> _Kind:
    """Return what a name of the library, or else a kind of problem, stands for; InputError with the nearest name."""
    entry = CATALOG.get(name)
    if entry is None and name not in kinds():
        known = [*CATALOG, *kinds()]
        raise InputError(f"{name!r} is no problem of the library{nearest(name, known) or '; see accel kernels'}")
    problem = kind(entry.kind if entry else name)
    preset = entry.preset if entry else {}
    optional = zip(problem.__struct_fields__[len(problem.sizes()) :], problem.__struct_defaults__, strict=True)
    defaults = {**dict.fromkeys(problem.sizes(), REQUIRED), **dict(optional)}
    return _Kind(problem, preset, {field: value for field, value in defaults.items() if field not in preset})


@functools.lru_cache(maxsize=64)
def _layers(name: str, options: tuple[tuple[str, Any], ...]) -> tuple[Layer, ...]:
    given = dict(options)
    training, dtype = given.pop("training", False), given.pop("dtype", "bf16")
    if not isinstance(training, bool):
        raise InputError(f"network {name}: training={training!r} is not a flag; give true or false")
    return network(name, training=training, dtype=dtype, **given)


@functools.lru_cache(maxsize=256)
def _selected(name: str, patterns: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> Work:
    """Return the layers whose names one of the patterns matches, in the order of the network."""
    layers = _layers(name, options)
    names = [layer.name for layer in layers]
    for pattern in patterns:
        if not any(_matches(one, pattern) for one in names):
            raise InputError(
                f"network {name} has no layer {pattern!r}{nearest(pattern, names) or f'; its first is {names[0]!r}'}"
            )
    return tuple(
        (layer.count, layer.name, layer.problem)
        for layer in layers
        if any(_matches(layer.name, pattern) for pattern in patterns)
    )


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name.lower(), pattern.lower())
