"""What a run returns: outputs by name, what probes saw, samples of outputs, and verdicts on bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accel.errors import InputError, nearest

if TYPE_CHECKING:
    from accel.machine import Needed

__all__ = ["Outputs", "Probe", "Sample", "Verified"]


class Probe(NamedTuple):
    """What a `k.probe` saw: on which (row, col) node, on its how manieth visit there (from 0), and the numbers."""

    node: tuple[int, int]
    visit: int
    array: np.ndarray


class Outputs(Mapping[str, np.ndarray]):
    """The output tensors of a run by name; bf16 comes as `ml_dtypes.bfloat16`, fp32 as float32.

    written: after a sampled run, a boolean mask per tensor of the elements that were computed (None after a full run,
    where every element is). probes: what the probes that were asked for saw, by name, in the order of the run.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        written: dict[str, np.ndarray] | None,
        probes: dict[str, list[Probe]] | None = None,
    ) -> None:
        self._arrays = arrays
        self.written = written
        self.probes = probes or {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise InputError(
                f"no output {name!r}; this program stores {', '.join(map(repr, self._arrays)) or 'nothing'}"
                f"{nearest(name, self._arrays)}"
            )
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


class Sample(NamedTuple):
    """Sampled output elements and what of the program decides them.

    regions: by output, boxes of (first, one past last) per dimension; needed: the buffers of the nodes in the slice.
    """

    regions: Mapping[str, tuple[tuple[tuple[int, int], ...], ...]]
    needed: Needed


class Verified(NamedTuple):
    """Bits of a run against an independent oracle: `checked` of `total` output elements, `wrong` of them differ."""

    checked: int
    total: int
    wrong: int

    def __str__(self) -> str:
        verdict = f"{self.wrong} WRONG" if self.wrong else "bit-equal"
        return f"verified {self.checked:,} of {self.total:,} outputs: {verdict}"
