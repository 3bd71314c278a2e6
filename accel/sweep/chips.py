"""The chips of a sweep: base chips, changes by dotted path, and what a path reads on a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from accel.errors import AccelError, SpecError, nearest
from accel.hardware import ChipSpec, FrameFormat, paths_of
from accel.hardware import chip as find_chip
from accel.sweep.axes import plain_value
from accel.sweep.document import Document
from accel.sweep.expressions import Expression

__all__ = ["ALL_PORTS", "Chips", "read"]

ALL_PORTS = "ports.*."
KEPT = 4096  # chips of one sweep that are kept built
_MISSING = object()


class Chips:
    """What [chip] says, checked: the base chips with the fixed changes, and the chip of a point.

    folder: where chip files are looked for. texts: TOML of base chips by name, which takes the place of files and of
    the catalog; of those that are used, `texts` has it afterwards.
    """

    def __init__(self, document: Document, folder: Path | None, texts: Mapping[str, str] | None = None) -> None:
        self._document, self._folder = document, folder
        self._given = texts or {}
        self.texts: dict[str, str] = {}
        self._kept: dict[Any, ChipSpec] = {}
        axes = {axis.name: axis.values for axis in document.axes}
        held = axes.get("chip.base") or (document.fixed.get("chip.base", "d1"),)
        self.choices = tuple(str(value) for value in held)
        if any(not isinstance(value, str) for value in held):
            raise SpecError(f"{document.where('chip.base')}: give names of chips, or paths of .toml files")
        self._plain = {
            name: value
            for name, value in document.fixed.items()
            if _is_path(name) and not isinstance(value, Expression)
        }
        self._axes = [name for name in axes if _is_path(name)]
        self._formulas = [name for name in document.fixed if _is_path(name) and name not in self._plain]
        self.bases = {choice: self._base(choice) for choice in self.choices}
        self.data = {choice: base.to_dict() for choice, base in self.bases.items()}
        for name in (*self._axes, *self._formulas):
            for choice in self.choices:
                self._check_path(name, choice)

    def _base(self, choice: str) -> ChipSpec:
        """Return a base chip with the fixed changes; SpecError where there is no such chip or key."""
        document = self._document
        try:
            base = ChipSpec.from_toml(self._given[choice]) if choice in self._given else find_chip(self._place(choice))
        except SpecError as error:
            raise SpecError(f"{document.where('chip.base')}: {error}") from None
        self.texts[choice] = base.to_toml()
        changes: dict[str, Any] = {}
        for name in sorted(self._plain, key=_is_wild, reverse=True):
            for path in _spread(name, base):
                _known_path(path, name, base, document)
                changes[path] = plain_value(self._plain[name])
        try:
            return base.replace(**changes) if changes else base
        except AccelError as error:
            if self._axes or self._formulas:  # an axis may put right what does not fit the base
                return base
            raise SpecError(f"{document.source}: [chip] {error}") from None

    def _place(self, choice: str) -> str | Path:
        """Return the name or the file of a base chip; SpecError for what a later run could not read again, or hangs."""
        if not choice.endswith(".toml"):
            return choice
        place = Path(choice) if self._folder is None else self._folder / choice
        if "\0" not in choice and place.exists() and not place.is_file() and not place.is_dir():
            raise SpecError(f"{choice!r} is a pipe or a device; give a TOML file, which every run can read")
        return place

    def _check_path(self, name: str, choice: str) -> None:
        """Refuse a name that is no path of a chip, with the nearest of all names that a sweep may set."""
        base = self.bases[choice]
        for path in _spread(name, base):
            _known_path(path, name, base, self._document)

    def in_order(self, names: Sequence[str]) -> list[str]:
        """Return names with [chip] before axes and ports.* before single ports, so that the last of two holds."""
        return sorted(names, key=lambda name: (name in self._axes, not _is_wild(name)))

    def build(self, known: Mapping[str, Any], frame: FrameFormat | None, sizing: Mapping[str, Any]) -> ChipSpec:
        """Return the chip of a point; SpecError where its values do not go together.

        known: chip.base and chip paths by name; a path wins over ports.*, an axis over [chip]. frame, sizing: where the
        SRAM is sized for the video, else None and nothing.
        """
        choice = str(known.get("chip.base", self.choices[0]))
        base = self.bases[choice]
        changes: dict[str, Any] = {}
        for name in self.in_order([*self._plain, *self._formulas, *self._axes]):
            changes |= dict.fromkeys(_spread(name, base), known[name])
        key = (choice, tuple(changes.items()), frame, tuple(sizing.items()))
        if key not in self._kept:
            chip = base.replace(**{path: plain_value(value) for path, value in changes.items()}) if changes else base
            if frame is not None:
                chip = chip.sized_for(frame, **sizing)
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]  # the oldest
            self._kept[key] = chip
        return self._kept[key]


def _is_path(name: str) -> bool:
    return name.partition(".")[0] not in ("problem", "kernel", "frame", "chip")


def _is_wild(name: str) -> bool:
    return name.startswith(ALL_PORTS)


def _spread(name: str, base: ChipSpec) -> tuple[str, ...]:
    """Return the paths that a name stands for: one for each port, or itself."""
    if not _is_wild(name):
        return (name,)
    return tuple(f"ports.{port.name}.{name.removeprefix(ALL_PORTS)}" for port in base.ports)


def _known_path(path: str, name: str, base: ChipSpec, document: Document) -> None:
    data = base.to_dict()
    owner = path.rpartition(".")[0]
    free = owner in ("node.matrix.step_cycles", "energy.mac_by_format")
    if free or read(data, path) is not None:
        return
    section, _, rest = path.partition(".")
    meant = get_close_matches(section, ("kernel", "problem", "frame"), n=1, cutoff=0.6)
    known = [f"{meant[0]}.{rest}"] if meant and rest else [*paths_of(data), "chip.base"]
    hint = nearest(path, known) or f"; a chip has {', '.join(data)}"
    ending = [one for one in known if one.endswith(f".{path}") and one != path]
    hint = f"; did you mean {ending[0]!r}?" if ending else hint
    raise SpecError(f"{document.where(name)}: unknown name {name!r}{hint}")


def read(data: Any, path: str) -> Any:
    """Return what a dotted path leads to in a chip's plain data, ports by name or number; None for nothing."""
    for part in path.split("."):
        if isinstance(data, dict):
            data = data.get(part, _MISSING)
        elif isinstance(data, list):
            named = [entry for entry in data if isinstance(entry, dict) and entry.get("name") == part]
            plain = not named and all(not isinstance(entry, dict) for entry in data)  # ports have names, no numbers
            numbered = data[int(part)] if plain and part.isdecimal() and int(part) < len(data) else _MISSING
            data = named[0] if named else numbered
        if data is _MISSING or not isinstance(data, dict | list | int | float | str):
            return None
    return data
