"""What the bound reads of chips, over columns of chip fields: what goes together is judged once, and no chip is built.

| field                                                       | how it enters the bound                               |
|-------------------------------------------------------------|-------------------------------------------------------|
| clock_hz                                                    | every term                                            |
| mesh.site_rows, site_cols, holes                            | enabled nodes: peak, and the work of the busiest node |
| node.matrix.m, n, k, step_cycles.<format>                   | peak of the matrix unit                               |
| node.vector.bytes_per_cycle, flops_per_lane                 | peak in fp32, where the matrix unit does not take it  |
| node.sram_bytes                                             | with resident operands: bytes that are there already  |
| node.mesh_bytes_per_cycle                                   | cut at a node's mesh port                             |
| noc.link_bytes_per_cycle                                    | cut over the links (all_to_all)                       |
| ports.<name>.bytes_per_cycle, efficiency                    | memory                                                |
| ports.<name>.edge_bytes_per_cycle, link_bytes_per_cycle, routers | cut at the edge                                  |

No other field changes a bound, but every field decides whether there is such a chip. A rule of a chip looks at one
field, or at fields of one record, or at the mesh and the routers of ports; so fields fall into groups that are judged
each by itself on the base chip, once for each combination of the group's values: a chip exists where all groups do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from accel.errors import AccelError
from accel.hardware import ChipSpec
from accel.hardware.parts import NodeSpec, PortSpec
from accel.hardware.schema import Spec, field_types, fitted
from accel.sweep.factors import Factor, joined
from accel.timing.rooflines import C_CLOCK, C_EDGE, C_LINK, C_MEMORY, C_MESH, C_NODES, C_PEAK, C_SRAM

__all__ = ["ChipColumns", "named_ports"]

Numbers = NDArray[np.float64]
Figures = dict[str, float]

WHOLE = "chip"  # the group of what is judged with the mesh
_RECORDS = ("noc", "energy", "cost", "host", "node.matrix", "node.vector")  # groups with rules of their own
_OF_GROUP = {  # which figures a group decides; those of a single field are called as the field
    "noc": ("noc.link_bytes_per_cycle",),
    "node.matrix": ("matrix", "step."),
    "node.vector": ("vector",),
    WHOLE: ("nodes", "routers."),
}
_OTHER_RULES = (
    "lt",
    "multiple_of",
    "pattern",
    "min_length",
    "max_length",
)  # of a field: then it is asked value by value
_PORT_FIELDS = ("bytes_per_cycle", "efficiency", "edge_bytes_per_cycle", "link_bytes_per_cycle")


def named_ports(changes: Mapping[str, Any], chip: ChipSpec) -> dict[str, Any]:
    """Return `changes` with ports by name: `ports.*.x` stands for that field of every port, `ports.0.x` of the first.

    Where two name one field the later one holds.
    """
    names = [port.name for port in chip.ports]
    found: dict[str, Any] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        which, _, field = rest.partition(".")
        keys = [path]
        if head == "ports" and which == "*":
            keys = [f"ports.{name}.{field}" for name in names]
        elif head == "ports" and which not in names and which.isdigit() and int(which) < len(names):
            keys = [f"ports.{names[int(which)]}.{field}"]
        for key in keys:
            found.pop(key, None)
            found[key] = value
    return found


class ChipColumns:
    """Columns of chips for `accel.timing.rooflines`; what was judged once is remembered.

    number_of: gives a number, from 1, to the text of an error.
    """

    def __init__(self, number_of: Callable[[str], int]) -> None:
        self._number_of = number_of
        self._known: dict[tuple[Any, ...], int | Figures] = {}
        self._bases: dict[int, ChipSpec] = {}  # kept, so that no other chip gets the number of one in `_known`

    def columns(
        self, base: ChipSpec, changes: Mapping[str, Factor], formats: Sequence[str], count: int
    ) -> tuple[Numbers, NDArray[np.int32]]:
        """Return the columns of `count` chips, (C_PEAK + formats, count), and the number of each one's error or 0.

        changes: columns by dotted path as `ChipSpec.replace` takes them, with the names of ports (`named_ports`).
        """
        errors = np.zeros(count, np.int32)
        figures: dict[str, Any] = dict(_figures(base))
        groups = _groups(changes, base)
        if "everything" in groups:
            figures.clear()
        for group, paths in groups.items():
            if group in changes and _kind(group, base) is not None:
                figures[group], wrong = self._alone(base, group, changes[group])
                errors = np.where(errors == 0, wrong, errors)
                continue
            members = [changes[path] for path in paths]
            first, codes = joined(members)
            results = [
                self._judged(base, group, {p: f.value(point) for p, f in zip(paths, members, strict=True)})
                for point in first.tolist()
            ]
            wrong = np.array([result if isinstance(result, int) else 0 for result in results], np.int32)
            errors = np.where(errors == 0, wrong[codes], errors)
            good = [result for result in results if not isinstance(result, int)]
            for name in dict.fromkeys(name for result in good for name in result):
                column = [1.0 if isinstance(result, int) else result.get(name, 0.0) for result in results]
                figures[name] = np.array(column)[codes]
        if not figures:  # there is no such chip at all
            return np.ones((C_PEAK + len(formats), count)), errors
        return _composed(figures, formats, count), errors

    def _alone(self, base: ChipSpec, path: str, factor: Factor) -> tuple[Numbers, NDArray[np.int32]]:
        """The figures of a field that no rule ties to another one, and the numbers of errors."""
        values, codes = factor.values, np.zeros(1, np.int64) if factor.codes is None else factor.codes
        number, low, high, above = _range(_kind(path, base))
        held = {type(value) for value in values}
        if number is not None and held in ({int}, {number}):
            column = np.array(values, np.float64)
            inside = (column >= low) & (column <= high) & (column > above)
        else:
            column, inside = np.ones(len(values)), np.zeros(len(values), np.bool_)
        errors = np.zeros(len(values), np.int32)
        for at in np.flatnonzero(~inside).tolist():
            found = self._judged(base, path, {path: values[at]})
            if isinstance(found, int):
                errors[at], column[at] = found, 1.0
            else:
                column[at] = found[path]
        return column[codes], errors[codes]

    def _judged(self, base: ChipSpec, group: str, values: dict[str, Any]) -> int | Figures:
        """The figures that the values of a group decide, or the number of what is wrong with them."""
        key = (id(base), group, *((path, type(value), value) for path, value in values.items()))
        found = self._known.get(key)
        if found is None:
            try:
                found = _decided(base, group, values)
            except AccelError as error:
                found = self._number_of(str(error))
            self._known[key] = found
            self._bases[id(base)] = base
        return found


def _groups(changes: Mapping[str, Any], base: ChipSpec) -> dict[str, list[str]]:
    """The paths of each group; all in one where a whole port, node or list of ports is replaced, or a port renamed."""
    found: dict[str, list[str]] = {}
    for path in changes:
        parts = path.split(".")
        if parts[0] in ("ports", "node") and (len(parts) == 1 or (parts[0] == "ports" and parts[2:] in ([], ["name"]))):
            return {"everything": list(changes)}
        found.setdefault(_group(path, base), []).append(path)
    return found


def _group(path: str, base: ChipSpec) -> str:
    if _kind(path, base) is not None:
        return path
    return next((record for record in _RECORDS if path == record or path.startswith(f"{record}.")), WHOLE)


def _kind(path: str, base: ChipSpec) -> Any:
    """The type of a field that no rule ties to another one, None for any other path."""
    head, _, rest = path.partition(".")
    owner: type[Spec] = ChipSpec
    if path == "clock_hz":
        rest = path
    elif head == "node":
        owner = NodeSpec
    elif head == "ports":
        name, _, rest = rest.rpartition(".")
        if name not in [port.name for port in base.ports] or rest in ("routers", "name"):
            return None
        owner = PortSpec
    else:
        return None
    kind = field_types(owner).get(rest)
    return None if isinstance(kind, type) and issubclass(kind, Spec) else kind


def _range(kind: Any) -> tuple[Any, float, float, float]:
    """The type of a field's numbers, their least and largest, and what they are above; None for any other field."""
    number, *limits = get_args(kind) or (kind,)
    low, high, above = -math.inf, math.inf, -math.inf
    for limit in limits:
        if not isinstance(limit, msgspec.Meta) or any(getattr(limit, rule) is not None for rule in _OTHER_RULES):
            return None, low, high, above
        low, high, above = (
            old if new is None else new for old, new in ((low, limit.ge), (high, limit.le), (above, limit.gt))
        )
    return number if number in (int, float) else None, low, high, above


def _decided(base: ChipSpec, group: str, values: dict[str, Any]) -> Figures:
    kind = _kind(group, base)
    if kind is not None:
        return {group: float(fitted(values[group], kind, group))}
    figures = _figures(base.replace(**values))
    if group == "everything":
        return figures
    mine = _OF_GROUP.get(group, ())
    return {name: value for name, value in figures.items() if name.startswith(mine)} if mine else {}


def _figures(chip: ChipSpec) -> Figures:
    """All that the bound reads of a chip, by field or by a name of its own, a node's flop a cycle for instance."""
    matrix, vector = chip.node.matrix, chip.node.vector
    found = {
        "clock_hz": float(chip.clock_hz),
        "nodes": float(chip.nodes),
        "node.sram_bytes": float(chip.node.sram_bytes),
        "node.mesh_bytes_per_cycle": float(chip.node.mesh_bytes_per_cycle),
        "noc.link_bytes_per_cycle": float(chip.noc.link_bytes_per_cycle),
        "matrix": 2.0 * matrix.m * matrix.n * matrix.k,
        "vector": vector.bytes_per_cycle // 4 * float(vector.flops_per_lane),
    }
    found |= {f"step.{name}": float(cycles) for name, cycles in matrix.step_cycles.items()}
    for port in chip.ports:
        found[f"routers.{port.name}"] = float(len(port.routers))
        found |= {f"ports.{port.name}.{field}": float(getattr(port, field)) for field in _PORT_FIELDS}
    return found


def _composed(figures: Mapping[str, Any], formats: Sequence[str], count: int) -> Numbers:
    """Figures of every chip put together as `accel.problem.bound` and `ChipSpec.peak_flops_per_cycle` do."""
    found = np.zeros((C_PEAK + len(formats), count))
    nodes = figures["nodes"]
    found[C_CLOCK], found[C_NODES] = figures["clock_hz"], nodes
    found[C_SRAM], found[C_MESH] = figures["node.sram_bytes"], figures["node.mesh_bytes_per_cycle"]
    found[C_LINK] = figures["noc.link_bytes_per_cycle"]
    for name in [path.removeprefix("routers.") for path in figures if path.startswith("routers.")]:
        rate, share, edge, link = (figures[f"ports.{name}.{field}"] for field in _PORT_FIELDS)
        found[C_MEMORY] += rate * share
        found[C_EDGE] += np.minimum(edge, figures[f"routers.{name}"] * link)
    for at, name in enumerate(formats):
        step = figures.get(f"step.{name}", 0.0)
        with np.errstate(divide="ignore"):
            by_matrix = np.where(np.equal(step, 0.0), 0.0, np.divide(nodes * figures["matrix"], step))
        by_vector = nodes * figures["vector"] if name == "fp32" else 0.0
        found[C_PEAK + at] = np.where(np.equal(step, 0.0), by_vector, by_matrix)
    return found
