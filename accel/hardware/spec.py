"""ChipSpec: one chip as data, with derived figures, dotted-path replace and lossless files."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import tomli_w

from accel.errors import SpecError, UnsupportedError, nearest
from accel.files import read_toml_text
from accel.hardware.frames import FrameFormat, sram_bytes_for
from accel.hardware.parts import CostSpec, EnergySpec, HostSpec, MeshSpec, NocSpec, NodeSpec, PortSpec
from accel.hardware.schema import Spec, field_types
from accel.numerics.formats import fmt

__all__ = ["ChipSpec", "paths_of"]

_PARTS = ("mesh", "node", "noc", "ports", "energy", "cost", "host")


class ChipSpec(Spec, frozen=True, kw_only=True):
    """A chip. Everything a sweep may vary is a field, addressed by dotted path (`node.sram_bytes`).

    `assumptions` maps the dotted path of every figure that is not public to the reason for its value.
    """

    name: str
    description: str = ""
    clock_hz: Annotated[int, msgspec.Meta(ge=1_000_000, le=20_000_000_000)]
    mesh: MeshSpec
    node: NodeSpec
    noc: NocSpec
    ports: tuple[PortSpec, ...]
    energy: EnergySpec
    cost: CostSpec
    host: HostSpec = HostSpec()
    assumptions: dict[str, str] = msgspec.field(default_factory=dict)

    def verify(self) -> None:
        """Ports on sites and named once; assumptions about fields that exist."""
        if not self.name.strip():
            raise self.refuse("name", "is empty; give the chip a name")
        if not self.ports:
            raise self.refuse("ports", "is empty; a chip needs at least one memory port")
        names = [port.name for port in self.ports]
        if len(set(names)) != len(names):
            raise self.refuse("ports", f"two ports share a name ({', '.join(names)}); name each once")
        for port in self.ports:
            for router in port.routers:
                if router[0] >= self.mesh.site_rows or router[1] >= self.mesh.site_cols:
                    raise SpecError(
                        f"ports.{port.name}.routers: {router} lies outside the "
                        f"{self.mesh.site_rows} x {self.mesh.site_cols} sites; use a site of the mesh"
                    )
        data = self.to_dict()
        for path in self.assumptions:
            _locate(data, path, f"assumptions names {path!r}: ")

    def __hash__(self) -> int:
        return hash(self.digest())

    @property
    def nodes(self) -> int:
        """Enabled nodes: sites less holes. Utilization is over these."""
        return self.mesh.site_rows * self.mesh.site_cols - len(self.mesh.holes)

    @property
    def mesh_nodes(self) -> int:
        """Nodes of the logical mesh, the ones kernels can use."""
        return self.mesh.rows * self.mesh.cols

    @property
    def memory_bytes_per_cycle(self) -> float:
        """Sustained bytes a cycle of all ports: the least of memory x efficiency, edge and links, port by port."""
        return sum(
            min(
                port.bytes_per_cycle * port.efficiency,
                port.edge_bytes_per_cycle,
                float(port.link_bytes_per_cycle * len(port.routers)),
            )
            for port in self.ports
        )

    @property
    def memory_bytes_per_s(self) -> float:
        """Sustained bytes a second of all ports."""
        return self.memory_bytes_per_cycle * self.clock_hz

    @property
    def memory_capacity_bytes(self) -> int:
        """Bytes behind all ports."""
        return sum(port.capacity_bytes for port in self.ports)

    @property
    def sram_total_bytes(self) -> int:
        """SRAM of all enabled nodes, in bytes."""
        return self.nodes * self.node.sram_bytes

    def peak_flops_per_cycle(self, dtype: str) -> float:
        """Peak flop a cycle of all enabled nodes in `dtype`, 2 per multiply-add.

        Matrix unit where it takes the format, else the vector unit for fp32; UnsupportedError otherwise.
        """
        name, matrix = fmt(dtype).name, self.node.matrix
        if name in matrix.step_cycles:
            return self.nodes * 2 * matrix.m * matrix.n * matrix.k / matrix.step_cycles[name]
        if name == "fp32":
            return float(self.nodes * self.node.vector.bytes_per_cycle // 4 * self.node.vector.flops_per_lane)
        raise UnsupportedError(
            f"chip {self.name!r} has no unit that computes in {name!r}; use {', '.join([*matrix.step_cycles, 'fp32'])}"
        )

    def peak_flops(self, dtype: str) -> float:
        """Peak flop a second of all enabled nodes in `dtype`."""
        return self.peak_flops_per_cycle(dtype) * self.clock_hz

    def physical(self, row: int, col: int) -> tuple[int, int]:
        """Physical site of logical node (row, col); SpecError outside the logical mesh."""
        if not (0 <= row < self.mesh.rows and 0 <= col < self.mesh.cols):
            raise SpecError(
                f"node ({row}, {col}) is not on the {self.mesh.rows} x {self.mesh.cols} logical mesh of {self.name!r}; "
                "count from (0, 0)"
            )
        return self.mesh.physical(row, col)

    def replace(self, **changes: Any) -> ChipSpec:
        """Return a chip with the given fields changed: `chip.replace(**{"node.sram_bytes": 2 << 20})`.

        A key is a dotted path; a dict merges into the table at that path; a port is named by its name or index
        (`ports.west.bytes_per_cycle`). A figure given here is no longer an assumption, so its entry goes.
        SpecError names the path and the nearest valid one.
        """
        data = self.to_dict()
        for path, value in changes.items():
            owner, key = _locate(data, path, "")
            value = _plain(value)
            old = owner[key] if isinstance(key, int) or key in owner else None
            owner[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
            if path.split(".")[0] != "assumptions":
                for known in [p for p in data["assumptions"] if p == path or p.startswith(path + ".")]:
                    del data["assumptions"][known]
        # Parts that stay are taken as they are, already checked: a sweep makes thousands of chips.
        changed = {path.split(".")[0] for path in changes}
        return ChipSpec.from_dict({**data, **{name: getattr(self, name) for name in _PARTS if name not in changed}})

    def sized_for(
        self, frame: FrameFormat, *, window: int = 1, halo_radius: int = 0, working_share: float = 0.5
    ) -> ChipSpec:
        """Return this chip with the smallest SRAM a node whose frame buffers hold `window` frame sets of `frame`.

        halo_radius: lines of each neighbour that a node keeps beside its own; working_share (0 <= share < 1): of the
        SRAM, left for weights, accumulators and output. Formula: `sram_bytes_for` over the nodes of the logical mesh.
        InputError for an argument out of range; SpecError if no node may have that much SRAM.
        """
        if not isinstance(frame, FrameFormat):
            raise SpecError(f"a chip cannot be sized for {frame!r}; give an accel.FrameFormat")
        size = sram_bytes_for(
            frame, self.mesh_nodes, window=window, halo_radius=halo_radius, working_share=working_share
        )
        try:
            return self.replace(**{"node.sram_bytes": size})
        except SpecError as error:
            raise SpecError(
                f"{window} frame sets of {frame.frame_set_bytes} B on {self.mesh_nodes} nodes: {error}; "
                "use a shorter window, a smaller share or more nodes"
            ) from None

    def to_json(self) -> str:
        """The whole chip as JSON text; `from_json` gives back an equal chip."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Chip from JSON text; SpecError on malformed text or content."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"chip JSON cannot be read: {error}; write it with to_json") from None
        return cls.from_dict(data)

    def to_toml(self) -> str:
        """The whole chip as TOML text; `from_toml` gives back an equal chip."""
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str, *, source: str = "chip TOML") -> Self:
        """Chip from TOML text; SpecError on malformed text or content, naming `source`."""
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python takes
            raise SpecError(f"{source} is not valid TOML: {error}; write one with to_toml") from None
        try:
            return cls.from_dict(data)
        except SpecError as error:
            raise SpecError(f"{source}: {error}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Chip from a TOML file; SpecError names the file, the dotted path and the rule."""
        return cls.from_toml(read_toml_text(path, "chip file"), source=str(path))

    def digest(self) -> str:
        """SHA-256 (hex) of everything that can change a result: all but description and assumptions."""
        data = self.to_dict()
        del data["description"], data["assumptions"]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Records inside a new value as plain data; anything else stays for the field's own check."""
    if isinstance(value, Spec):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return value


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """`old` overlaid with `new`, table by table."""
    merged = dict(old)
    for key, value in new.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def paths_of(data: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted path below a chip's plain data (`ChipSpec.to_dict`), ports by name, each behind `prefix`."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield f"{prefix}{key}"
            yield from paths_of(value, f"{prefix}{key}.")
    elif isinstance(data, list):
        for entry in data:
            if isinstance(entry, dict):
                yield from paths_of(entry, f"{prefix}{entry['name']}.")


def _locate(data: dict[str, Any], path: str, prefix: str) -> tuple[Any, str | int]:
    """The table and key that a dotted path names in plain chip data; SpecError names the nearest key."""
    owner: Any = data
    key: str | int = ""
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if depth:
            owner = owner[key]
        shown = ".".join(parts[: depth + 1])
        if isinstance(owner, list):
            names = [entry["name"] for entry in owner] if owner and isinstance(owner[0], dict) else []
            if part in names:
                key = names.index(part)
            elif part.isdigit() and int(part) < len(owner):
                key = int(part)
            else:
                hint = nearest(part, names) or f"; name an entry or give its index, 0 to {len(owner) - 1}"
                raise SpecError(f"{prefix}unknown key {shown!r}{hint}")
        elif isinstance(owner, dict):
            # Three tables have free keys; their own checks judge the content.
            free = parts[:depth] in (["assumptions"], ["node", "matrix", "step_cycles"], ["energy", "mac_by_format"])
            if part not in owner and not (free and depth == len(parts) - 1):
                elsewhere = [known for known in paths_of(data) if known.endswith(f".{part}")] if not depth else []
                hint = nearest(part, owner) or "; the keys here are " + ", ".join(owner)
                hint = f"; did you mean {elsewhere[0]!r}?" if elsewhere else hint
                raise SpecError(f"{prefix}unknown key {shown!r}{hint}")
            key = part
        else:
            shown = ".".join(parts[:depth])
            raise SpecError(f"{prefix}{shown!r} is a plain value and has no key {part!r}; stop the path there")
    return owner, key


field_types(ChipSpec)  # resolves every annotation at import, so that a bad one fails here
