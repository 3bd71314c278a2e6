"""Sensitivities: what a little more of each resource would change, by timing the same program again on that chip."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from accel.errors import InputError, nearest
from accel.hardware import ChipSpec
from accel.isa.program import Program

__all__ = ["RESOURCES", "Sensitivity", "sensitivities"]

# Name, fields (ports.* stands for every memory port) and whether more (1) or less (-1) of them is better. Fields of
# the units' rates do not exist as one number, so a pace stands for them: compute cycles over 1 + percent / 100.
RESOURCES: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("matrix rate", ("pace.matrix",), 1),
    ("vector rate", ("pace.vector",), 1),
    ("pipeline fill", ("node.matrix.fill_cycles", "node.vector.fill_cycles"), -1),
    ("SRAM ports", ("node.load_ports", "node.store_ports", "node.accesses_per_cycle"), 1),
    ("issue", ("node.issue_cycles",), -1),
    ("copy issue", ("node.copy_issue_cycles",), -1),
    ("copy queue depth", ("node.copy_queue_depth",), 1),
    ("mesh port", ("node.mesh_bytes_per_cycle",), 1),
    ("link bandwidth", ("noc.link_bytes_per_cycle",), 1),
    ("packet buffers", ("noc.buffer_packets",), 1),
    ("hop latency", ("noc.hop_cycles",), -1),
    ("semaphore latency", ("noc.semaphore_cycles",), -1),
    ("barrier latency", ("noc.barrier_cycles",), -1),
    ("memory bandwidth", ("ports.*.bytes_per_cycle",), 1),
    ("memory edge", ("ports.*.edge_bytes_per_cycle",), 1),
    ("memory links", ("ports.*.link_bytes_per_cycle",), 1),
    ("memory latency", ("ports.*.latency_cycles",), -1),
)
_LINK, _PACKET = "noc.link_bytes_per_cycle", "noc.packet_bytes"


class Sensitivity(NamedTuple):
    """One resource changed and the program timed again.

    change: the fields with old and new value; resource_percent: by how much the one of them that changed most did,
    which for whole numbers is the nearest step of at least one; cycles, cycles_percent: of the run, against the chip as
    it is.
    """

    name: str
    change: str
    resource_percent: float
    cycles: int
    cycles_percent: float

    def __str__(self) -> str:
        return f"{self.resource_percent:+.0f} % {self.name}: {self.cycles_percent:+.1f} % cycles"


class _Case(NamedTuple):
    name: str
    change: str
    resource_percent: float
    fields: dict[str, Any]
    pace: dict[str, float]


def sensitivities(
    program: Program, chip: ChipSpec, changes: Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None, *,
    percent: float = 10.0, workers: int | None = None,
) -> tuple[Sensitivity, ...]:  # fmt: skip
    """Return what each change does to the cycles of a program on a chip, the largest gain first; exact, not estimated.

    changes: names of `RESOURCES`, each of which gets better by `percent` (default: all); or a mapping of your own names
    to fields with new values, {"twice the links": {"noc.link_bytes_per_cycle": 128}}. A resource that cannot get better
    (a latency of 0) is left out. workers: runs at a time (default: one a core; a run holds no lock). A finite machine
    has anomalies: more of a resource can cost cycles, where a token or a packet comes in another order.
    InputError for unknown names, a percentage that is not above 0 and at most 1000, or fields that do not fit.
    """
    from accel.timing.model import cycles_of  # here, because it loads the compiler

    given: Any = percent
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1000:
        raise InputError(f"Cannot change a resource by {percent!r} percent; use a number above 0 and at most 1000")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise InputError(f"Cannot time on workers={workers!r}; use a whole number of at least 1")
    cases = _given(chip, changes) if isinstance(changes, Mapping) else _named(chip, changes, float(percent))
    base = cycles_of(program, chip, {})
    if not base:
        raise InputError(f"Cannot compare runs of {program.name!r}: it takes no cycle; give a program that does work")

    def time(case: _Case) -> int:
        return cycles_of(program, chip.replace(**case.fields) if case.fields else chip, case.pace)

    with ThreadPoolExecutor(min(workers or os.cpu_count() or 1, max(1, len(cases)))) as pool:
        found = list(pool.map(time, cases))
    rows = [Sensitivity(*case[:3], n, 100 * (n / base - 1)) for case, n in zip(cases, found, strict=True)]
    return tuple(sorted(rows, key=lambda row: row.cycles))


def _named(chip: ChipSpec, names: Iterable[str] | None, percent: float) -> list[_Case]:
    known = {name: (paths, sign) for name, paths, sign in RESOURCES}
    chosen = list(known) if names is None else [names] if isinstance(names, str) else list(names)
    cases = []
    for name in chosen:
        if name not in known:
            hint = nearest(str(name), known) or f"; use {', '.join(known)}"
            raise InputError(f"Cannot change {name!r}: it is no resource{hint}")
        case = _case(chip, name, *known[name], percent)
        if case is not None:
            cases.append(case)
    return cases


def _case(chip: ChipSpec, name: str, paths: tuple[str, ...], sign: int, percent: float) -> _Case | None:
    if paths[0].startswith("pace."):
        return _Case(name, f"{name} x {1 + percent / 100:g}", percent, {}, {paths[0][5:]: 1 + percent / 100})
    fields: dict[str, Any] = {}
    for path in paths:
        places = [path.replace("*", port.name) for port in chip.ports] if "*" in path else [path]
        for place in places:
            old = _value(chip, place)
            new = _better(old, sign, percent)
            if new != old:
                fields[place] = new
    if not fields:
        return None
    most = max((fields[path] / _value(chip, path) - 1 for path in fields), key=abs)
    return _Case(name, _told(chip, fields), 100 * most, _whole(chip, fields), {})


def _given(chip: ChipSpec, changes: Mapping[str, Mapping[str, Any]]) -> list[_Case]:
    cases = []
    for name, fields in changes.items():
        own: Any = fields
        if not isinstance(own, Mapping) or not own:
            raise InputError(f'Cannot change {name!r} to {fields!r}; give fields with values, {{"{_LINK}": 128}}')
        whole = _whole(chip, dict(own))
        chip.replace(**whole)  # refuses unknown fields before anything runs
        old, new = _value(chip, next(iter(fields))), next(iter(fields.values()))
        measured = isinstance(old, int | float) and isinstance(new, int | float) and old
        percent = 100 * (new / old - 1) if measured else math.nan
        cases.append(_Case(str(name), _told(chip, fields), percent, whole, {}))
    return cases


def _value(chip: ChipSpec, path: str) -> Any:
    """Return the value of a field by its dotted path; a port is named by its name."""
    owner: Any = chip
    for part in path.split("."):
        if isinstance(owner, tuple):
            owner = next((x for x in owner if getattr(x, "name", None) == part), None) or owner[int(part)]
        else:
            owner = owner[part] if isinstance(owner, dict) else getattr(owner, part)
    return owner


def _better(old: Any, sign: int, percent: float) -> Any:
    """Return a value better by a percentage: whole numbers by the nearest step of at least one, never below 0."""
    wanted = old * (1 + sign * percent / 100)
    if isinstance(old, float):
        return wanted
    step = max(1, round(abs(wanted - old)))
    return max(0, old + sign * step)


def _whole(chip: ChipSpec, fields: dict[str, Any]) -> dict[str, Any]:
    """Packets stay whole transfers of a link: as many bytes as before, to the nearest transfer."""
    if _LINK not in fields or _PACKET in fields or type(fields[_LINK]) is not int or fields[_LINK] < 1:
        return fields
    link = fields[_LINK]
    return {**fields, _PACKET: link * max(1, round(chip.noc.packet_bytes / link))}


def _told(chip: ChipSpec, fields: Mapping[str, Any]) -> str:
    own = {**fields, **_whole(chip, dict(fields))}
    parts = []
    for path, new in own.items():
        old = _value(chip, path)
        text = [f"{x:g}" if isinstance(x, float) else str(x) for x in (old, new)]
        parts.append(f"{path} {text[0]} -> {text[1]}")
    return ", ".join(parts)
