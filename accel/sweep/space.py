"""The space of a sweep: what varies, what is fixed, and every point of it by its number."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from accel.errors import AccelError, InputError, SpecError
from accel.files import read_whole
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.problem import from_dict as problem_from_dict
from accel.sweep.axes import Axis, axis_of, plain_value
from accel.sweep.point import Limits, Point
from accel.sweep.sampling import Sampling, places, refinement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Space"]

LARGEST_TOML = 16 << 20  # bytes


@dataclass(frozen=True)
class Space:
    """A sweep as its TOML says it; `load`, `from_toml` and `from_dict` make one."""

    title: str
    fidelity: str
    objective: str
    screen: str | None
    keep: int | float | None
    limits: Limits
    axes: tuple[Axis, ...]
    sampling: Sampling
    text: str
    fixed: Mapping[str, Any]
    folder: Path | None = None
    source: str = "sweep"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the space of a TOML file; SpecError names the file, the section and the key."""
        try:
            text = read_whole(path, LARGEST_TOML, "sweep file").decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SpecError(f"cannot read sweep file {str(path)!r}: not UTF-8 text; give a TOML file") from None
        except InputError as error:
            raise SpecError(error.message) from None
        return cls.from_toml(text, source=str(path), folder=Path(path).parent)

    @classmethod
    def from_toml(cls, text: str, *, source: str = "sweep TOML", folder: Path | None = None) -> Self:
        """Return the space of TOML text; chip files are looked for in `folder`."""
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"{source} is not valid TOML: {error}") from None
        return cls._of(data, text, source, folder)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, folder: Path | None = None) -> Self:
        """Return the space of plain data as the TOML has it."""
        import tomli_w

        return cls._of(data, tomli_w.dumps(dict(data)), "sweep", folder)

    @classmethod
    def _of(cls, data: Mapping[str, Any], text: str, source: str, folder: Path | None) -> Self:
        axes = tuple(axis_of(name, given, f'{source}: [axes] "{name}"') for name, given in data.get("axes", {}).items())
        fixed = {f"problem.{k}": v for k, v in data.get("problem", {}).items()}
        fixed |= {f"kernel.{k}": v for k, v in data.get("kernel", {}).items()}
        fixed |= {("chip.base" if k == "base" else k): v for k, v in data.get("chip", {}).items()}
        sample = data.get("sample", {})
        limits = data.get("limits", {})
        return cls(
            data.get("title", ""), data.get("fidelity", "packet"), data.get("objective", "seconds"),
            data.get("screen"), data.get("keep"), Limits(limits.get("timeout_s"), limits.get("memory_bytes")), axes,
            Sampling(sample.get("method", "product"), sample.get("count"), sample.get("seed", 0)),
            text, fixed, folder, source,
        )  # fmt: skip

    @property
    def constraints(self) -> tuple[str, ...]:
        """The names of what makes a point illegal before it is built, by the numbers that `legal` returns."""
        return ()

    @property
    def _sizes(self) -> list[int]:
        return [len(axis.values) for axis in self.axes]

    def __len__(self) -> int:
        return math.prod(self._sizes)

    def digest(self) -> str:
        """Return 64 hex digits over the content of the space."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def order(self) -> NDArray[np.int64]:
        """Return the numbers of all points in the order of a run: ends and middles first, then what lies between."""
        import numpy as np

        due = np.zeros(1, np.uint8)
        for size in self._sizes:
            due = np.maximum.outer(due, refinement(size)).ravel()
        return np.argsort(due, kind="stable").astype(np.int64)

    def _places(self, indices: Any) -> list[NDArray[np.int64]]:
        import numpy as np

        return places(self.sampling, self._sizes, np.asarray(indices, np.int64))

    def values(self, index: int) -> dict[str, Any]:
        """Return the value of every axis at point `index`, plain data."""
        found = self._places([index])
        return {axis.name: plain_value(axis.values[int(at[0])]) for axis, at in zip(self.axes, found, strict=True)}

    def columns(self, indices: Any) -> dict[str, NDArray[Any]]:
        """Return the values of every axis at many points: int64, float64, bool, or objects that are shared."""
        found = self._places(indices)
        return {axis.name: column_of(axis)[at] for axis, at in zip(self.axes, found, strict=True)}

    def legal(self, indices: Any) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return for many points whether every constraint holds, and the number of the first that does not, or -1."""
        import numpy as np

        count = len(np.asarray(indices))
        return np.ones(count, np.bool_), np.full(count, -1, np.int64)

    def resolve(self, index: int) -> Point:
        """Return point `index` built; AccelError with the reason where it is illegal."""
        values = self.values(index)
        known = {**self.fixed, **values}
        changes = {k: v for k, v in known.items() if k.split(".")[0] not in ("problem", "kernel", "frame", "chip")}
        chip = _changed(find_chip(known.get("chip.base", "d1")), changes)
        fields = {k.removeprefix("problem."): v for k, v in known.items() if k.startswith("problem.")}
        problem = problem_from_dict(fields)
        kernel = {k.removeprefix("kernel."): v for k, v in known.items() if k.startswith("kernel.")}
        resident = tuple(kernel.pop("resident", ()))
        return Point(index, values, chip, ((1, problem.label, problem),), kernel, resident, None, self.fidelity)


def _changed(chip: ChipSpec, changes: Mapping[str, Any]) -> ChipSpec:
    spread: dict[str, Any] = {}
    for path, value in changes.items():
        if path.startswith("ports.*."):
            spread |= {path.replace("*", port.name, 1): value for port in chip.ports}
        else:
            spread[path] = value
    try:
        return chip.replace(**spread) if spread else chip
    except AccelError as error:
        raise SpecError(str(error)) from None


def column_of(axis: Axis) -> NDArray[Any]:
    """Return the values of an axis as an array: int64, float64, bool, or objects."""
    import numpy as np

    kind = type(axis.values[0])
    if kind in (int, float, bool):
        return np.array(axis.values, {int: np.int64, float: np.float64, bool: np.bool_}[kind])
    found = np.empty(len(axis.values), object)
    found[:] = [plain_value(value) for value in axis.values] if kind is str else axis.values
    return found
