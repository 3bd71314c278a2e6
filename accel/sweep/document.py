"""The TOML of a sweep as checked data: sections, keys, axes, groups of axes, fixed values and constraints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.errors import SpecError, nearest
from accel.sweep.axes import LONGEST_TEXT, Axis, Value, axis_of, plain_value
from accel.sweep.expressions import Expression, parse
from accel.sweep.point import Limits
from accel.sweep.rows import LOSSES
from accel.sweep.sampling import METHODS, Sampling

__all__ = ["OUTCOMES", "Document", "read_document"]

Fixed = Value | Expression

OUTCOMES = (
    "cycles", "seconds", "utilization", "tflops", "energy_j", "usd", "bound_seconds", "flops", "memory_bytes",
    "mesh_bytes", "sram_bytes_used", "chip_sram_bytes", "memory_bytes_per_s", "area_mm2", "events", "build_s", "time_s",
)  # fmt: skip
"""Figures of a point by which points can be ranked; beside them there is a share of lost cycles by cause, loss.*."""

SECTIONS = ("problem", "chip", "kernel", "frame", "axes", "zip", "constraints", "sample", "limits")
KEYS = ("title", "fidelity", "objective", "screen", "keep")
FIDELITIES = ("packet", "bound")
_RANGE = {"from", "to"}
MOST_AXES = 64
MOST_CONSTRAINTS = 256
LONGEST_NAME = 100  # characters of an axis, a key, a constraint, as errors and tables can show them


@dataclass(frozen=True)
class Document:
    """What a sweep's TOML says. `groups` are the dimensions: places of the axes that advance together.

    fixed: values and expressions by dotted name (`problem.m`, `kernel.bk`, `frame.width`, `chip.base`, chip paths).
    """

    source: str
    title: str
    fidelity: str
    objective: str
    screen: str | None
    keep: int | float | None
    limits: Limits
    sampling: Sampling
    axes: tuple[Axis, ...]
    groups: tuple[tuple[int, ...], ...]
    fixed: dict[str, Fixed]
    constraints: tuple[tuple[str, Expression], ...]
    framed: bool
    size_sram: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that the sweep sets: fixed names, then axes."""
        return (*self.fixed, *(axis.name for axis in self.axes))

    def where(self, name: str) -> str:
        """Return how errors name what sets `name`."""
        if any(axis.name == name for axis in self.axes):
            return f"{self.source}: [axes] {name}"
        section, _, key = name.partition(".")
        if section not in ("problem", "kernel", "frame", "chip"):
            section, key = "chip", name
        return f"{self.source}: [{section}] {key}"


def read_document(data: Mapping[str, Any], source: str) -> Document:
    """Return the checked content of a sweep; SpecError says `source: [section] key`, the rule and the way out."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{source}: a sweep is a table of sections, not {type(data).__name__}")
    for key, value in data.items():
        _check_name(key, source)
        if key not in SECTIONS + KEYS:
            hint = nearest(str(key), SECTIONS + KEYS) or f"; use {', '.join(SECTIONS + KEYS)}"
            raise SpecError(f"{source}: unknown key {key!r}{hint}")
        if key in SECTIONS and not isinstance(value, Mapping):
            raise SpecError(f"{source}: {key} = {_short(value)} is no section; write [{key}]")
    axes = tuple(_axes(data.get("axes", {}), f"{source}: [axes]"))
    if len(axes) > MOST_AXES:
        raise SpecError(f"{source}: [axes] has {len(axes)} axes; use at most {MOST_AXES}")
    frame = dict(data.get("frame", {}))
    size_sram = frame.pop("size_sram", False)
    if not isinstance(size_sram, bool):
        raise SpecError(f"{source}: [frame] size_sram = {_short(size_sram)}; give true or false")
    fixed = dict(_fixed({**data, "frame": frame}, source))
    names = [axis.name for axis in axes]
    if "kernel.resident" in fixed:
        _check_resident(fixed["kernel.resident"], f"{source}: [kernel] resident")
    for name in names:
        if name == "frame.size_sram":
            raise SpecError(f"{source}: [axes] frame.size_sram cannot vary; set it in [frame], or make two sweeps")
        if name == "kernel.resident":
            for value in axes[names.index(name)].values:
                _check_resident(value, f"{source}: [axes] {name}")
        fixed.pop(name, None)  # the fixed value is that of the design from which the axis departs
    screen, keep = _screening(data, source)
    return Document(
        source=source,
        title=_text(data, "title", "", source),
        fidelity=_choice(data, "fidelity", FIDELITIES, source),
        objective=_objective(data, names, source),
        screen=screen,
        keep=keep,
        limits=_limits(data.get("limits", {}), f"{source}: [limits]"),
        sampling=_sampling(data.get("sample", {}), f"{source}: [sample]"),
        axes=axes,
        groups=_groups(data.get("zip", {}), axes, f"{source}: [zip]"),
        fixed=fixed,
        constraints=tuple(_constraints(data.get("constraints", {}), f"{source}: [constraints]")),
        framed="frame" in data or any(name.startswith("frame.") for name in names),
        size_sram=size_sram,
    )


def _axes(table: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[Axis]:
    """Yield the axes; a table that is no range nests, so that kernel.bk needs no quotes."""
    for key, given in table.items():
        name = f"{prefix}{key}"
        _check_name(name, where)
        if isinstance(given, Mapping) and not _RANGE & set(given):
            if not given or name.count(".") > 8:
                raise SpecError(f"{where} {name} is no axis; give a list of values, or {{from, to, step}}")
            yield from _axes(given, where, f"{name}.")
        else:
            yield axis_of(name, given, f"{where} {name}")


def _fixed(data: Mapping[str, Any], source: str) -> Iterator[tuple[str, Fixed]]:
    seen: set[str] = set()
    for section in ("problem", "kernel", "frame", "chip"):
        for key, value in _flat(data.get(section, {}), f"{source}: [{section}]"):
            name = f"{section}.{key}" if section != "chip" or key == "base" else key
            where = f"{source}: [{section}] {key}"
            if name in seen:
                raise SpecError(f"{where} is given twice; leave one out")
            seen.add(name)
            is_expression = isinstance(value, str) and value.lstrip(" ").startswith("=")
            yield name, parse(value, where) if is_expression else _plain(value, where)


def _check_resident(value: Fixed, where: str) -> None:
    named = isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(one, str) for one in value))
    if not named:
        told = value.text if isinstance(value, Expression) else plain_value(value)
        raise SpecError(f"{where} = {_short(told)}; give names of operands, such as ['w']")


def _flat(table: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        _check_name(f"{prefix}{key}", where)
        if isinstance(value, Mapping):
            if prefix.count(".") > 8:
                raise SpecError(f"{where} {prefix}{key} is nested too deeply; write dotted keys")
            if not value:
                raise SpecError(f"{where} {prefix}{key} is an empty table; give a value, or leave it out")
            yield from _flat(value, where, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: object, where: str, depth: int = 4) -> Value:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and depth:
        return tuple(_plain(one, where, depth - 1) for one in value)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise SpecError(f"{where} has {len(value):,} characters; give text of at most {LONGEST_TEXT:,}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where} = {value!r}; give a finite number")
    if isinstance(value, int) and abs(value) >= 1 << 62:
        raise SpecError(f"{where} is an integer of {value.bit_length()} bits; give one below 2^62")
    if not isinstance(value, bool | int | float | str):
        raise SpecError(f"{where} = {_short(value)}; give a number, text, true or false, or a list of them")
    return value


def _constraints(table: Mapping[str, Any], where: str) -> Iterator[tuple[str, Expression]]:
    if len(table) > MOST_CONSTRAINTS:
        raise SpecError(f"{where} has {len(table)} entries; use at most {MOST_CONSTRAINTS}")
    for name, text in table.items():
        _check_name(name, where)
        if not isinstance(text, str):
            raise SpecError(f"{where} {name} = {_short(text)} is no expression; give text such as 'kernel.bk <= 64'")
        yield name, parse(text, f"{where} {name}")


def _groups(table: Mapping[str, Any], axes: tuple[Axis, ...], where: str) -> tuple[tuple[int, ...], ...]:
    """Return the dimensions: axes of a group at the place of the first of them, all others alone."""
    known = [axis.name for axis in axes]
    group_of: dict[int, tuple[int, ...]] = {}
    for name, members in table.items():
        _check_name(name, where)
        if not isinstance(members, Sequence) or isinstance(members, str) or len(members) < 2:
            raise SpecError(f"{where} {name} = {_short(members)} is no group; list two axes or more")
        places = []
        for member in members:
            if member not in known:
                hint = nearest(str(member), known) or f"; the axes are {', '.join(known) or 'none'}"
                raise SpecError(f"{where} {name}: {_short(member)} is no axis{hint}")
            place = known.index(member)
            if place in group_of or place in places:
                raise SpecError(f"{where} {name}: {member!r} is in a group already; name each axis once")
            places.append(place)
        lengths = {len(axes[place].values) for place in places}
        if len(lengths) > 1:
            told = ", ".join(f"{known[place]} has {len(axes[place].values)}" for place in places)
            raise SpecError(f"{where} {name}: {told} values; axes that advance together have equally many")
        group_of |= dict.fromkeys(places, tuple(places))
    found = tuple(dict.fromkeys(group_of.get(place, (place,)) for place in range(len(axes))))
    for group in found:
        _check_repeats([axes[place] for place in group], where.replace("[zip]", "[axes]"))
    return found


def _check_repeats(group: Sequence[Axis], where: str) -> None:
    """Refuse a value that an axis has twice; of axes that advance together, a combination."""
    combinations = group[0].values if len(group) == 1 else tuple(zip(*(axis.values for axis in group), strict=True))
    if len(set(combinations)) < len(combinations):
        twice = next(value for value, count in Counter(combinations).items() if count > 1)
        names = " and ".join(axis.name for axis in group)
        raise SpecError(f"{where} {names} has the value {plain_value(twice)!r} twice; give each value once")


def _sampling(table: Mapping[str, Any], where: str) -> Sampling:
    _known(table, ("method", "count", "seed"), where)
    method = _choice(table, "method", METHODS, where)
    count, seed = table.get("count"), table.get("seed", 0)
    if method == "product" and ("count" in table or "seed" in table):
        raise SpecError(f"{where}: a product has all combinations, no count and no seed; use random or latin_hypercube")
    if method != "product" and (isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 10**9):
        raise SpecError(f"{where} count = {_short(count)}; {method} takes an integer from 1 to 1,000,000,000")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise SpecError(f"{where} seed = {_short(seed)}; give an integer from 0 to 2^63 - 1")
    return Sampling(method, count, seed)


def _limits(table: Mapping[str, Any], where: str) -> Limits:
    _known(table, ("timeout_s", "memory_bytes"), where)
    timeout, memory = table.get("timeout_s"), table.get("memory_bytes")
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e9
    ):
        raise SpecError(f"{where} timeout_s = {_short(timeout)}; give seconds above 0")
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or not 0 < memory < 1 << 62):
        raise SpecError(f"{where} memory_bytes = {_short(memory)}; give an integer of bytes above 0")
    return Limits(None if timeout is None else float(timeout), memory)


def _screening(data: Mapping[str, Any], source: str) -> tuple[str | None, int | float | None]:
    screen, keep = data.get("screen"), data.get("keep")
    if screen is None:
        if keep is not None:
            raise SpecError(f"{source}: keep goes with a screen; write screen = 'bound' too, or leave it out")
        return None, None
    if screen != "bound":
        raise SpecError(f"{source}: screen = {_short(screen)}; use 'bound'")
    if data.get("fidelity", "packet") == "bound":
        raise SpecError(f"{source}: screen goes before fidelity = 'packet'; leave screen and keep out")
    whole = isinstance(keep, int) and not isinstance(keep, bool) and keep >= 1
    if not whole and not (isinstance(keep, float) and 0 < keep < 1):
        raise SpecError(f"{source}: keep = {_short(keep)}; give how many points go on, or a share between 0 and 1")
    return screen, keep


def _objective(data: Mapping[str, Any], axes: list[str], source: str) -> str:
    given = _text(data, "objective", "seconds", source)
    name = given.removeprefix("-")
    if name not in (*OUTCOMES, *LOSSES, *axes):
        known = LOSSES if name.startswith("loss.") else (*OUTCOMES, *axes)
        told = LOSSES if name.startswith("loss.") else (*OUTCOMES, "loss.* or an axis")
        hint = nearest(name, known) or f"; use {', '.join(told)}"
        raise SpecError(f"{source}: objective = {_short(given)} is no figure of a point{hint}")
    return given


def _check_name(name: str, where: str) -> None:
    """Refuse a name that an error could not show as it is, or a table not hold in a heading."""
    if len(name) > LONGEST_NAME:
        raise SpecError(f"{where} has a name of {len(name):,} characters; give one of at most {LONGEST_NAME}")
    if not name.isprintable():
        raise SpecError(f"{where} has the name {name!a}, which cannot be printed; use letters, digits and dots")


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        _check_name(key, where)
        if key not in keys:
            hint = nearest(str(key), keys) or f"; use {', '.join(keys)}"
            raise SpecError(f"{where} has no key {key!r}{hint}")


def _choice(table: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str) -> str:
    value = table.get(key, choices[0])
    if not isinstance(value, str) or value not in choices:
        raise SpecError(
            f"{where} {key} = {_short(value)} is not one of {', '.join(choices)}{nearest(str(value), choices)}"
        )
    return value


def _text(data: Mapping[str, Any], key: str, default: str, source: str) -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or len(value) > 200:
        raise SpecError(f"{source}: {key} = {_short(value)}; give text of at most 200 characters")
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
