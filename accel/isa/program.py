"""Program: immutable, data only; packed int64 tables, the maps that name them, and nothing of Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import Location, ProgramError
from accel.isa.validate import checked_views

__all__ = ["FORMAT_VERSION", "Buffer", "Program", "Semaphore", "Table", "Tensor"]

FORMAT_VERSION = 2  # 2: configurable formats state their bias, views may be rings
Table: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Buffer:
    """A static SRAM allocation, at the same byte offset on every node."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    line: Location | None = None


@dataclass(frozen=True)
class Semaphore:
    """`count` neighbouring counting semaphores from `index`, each starting at `init` on every node."""

    name: str
    index: int
    count: int
    init: int = 0
    line: Location | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor in the chip's memory at byte `address`, row-major.

    is_input: read before (or without) being stored; is_output: stored by some copy or collect.
    resident: it lives in SRAM shards and no copy may touch it. bias, denormals ("gap" or "ieee"): what the codes of a
    configurable format mean on the host; 0 and "gap" for all others.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    address: int
    nbytes: int
    is_input: bool
    is_output: bool
    resident: bool = False
    bias: int = 0
    denormals: str = "gap"


@dataclass(frozen=True, kw_only=True)
class Program:
    """One kernel for one chip geometry.

    rows, cols: logical mesh; node index = row * cols + col everywhere.
    code: (instructions, 16); spans[role, thread] = (first, one past last) row of code; roles have `threads` spans each
    (an absent thread is empty). role_of: (nodes,) role, -1 where a node takes no part.
    params: (nodes, P), column 0 the row and column 1 the column of the node. Tables: see `layout.py`.
    sram_bytes: high-water mark of a node; memory_bytes: extent of the tensors; flops: useful flops of the problem
    (0 = count the multiply-adds of the program itself). chip: JSON of the chip it was built for.
    """

    name: str
    rows: int
    cols: int
    threads: int
    thread_names: tuple[tuple[str, ...], ...]
    code: Table
    spans: Table
    role_of: Table
    params: Table
    views: Table
    exprs: Table
    preds: Table
    targets: Table
    shards: Table
    buffers: tuple[Buffer, ...]
    semaphores: tuple[Semaphore, ...]
    semaphore_init: Table
    tensors: tuple[Tensor, ...]
    sram_bytes: int
    memory_bytes: int
    lines: tuple[Location, ...]
    marks: tuple[str, ...] = ()
    chip: str = ""
    flops: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in ("code", "spans", "role_of", "params", "views", "exprs", "preds", "targets", "shards",
                     "semaphore_init"):  # fmt: skip
            try:
                table = np.ascontiguousarray(getattr(self, name), dtype=np.int64)
            except (TypeError, ValueError, OverflowError):
                raise ProgramError(f"table {name!r} of {self.name!r} is no array of int64; give one") from None
            if table.flags.writeable:
                table = table.copy()
                table.flags.writeable = False
            object.__setattr__(self, name, table)

    @property
    def nodes(self) -> int:
        """Return how many logical nodes the mesh of the program has."""
        return self.rows * self.cols

    @property
    def roles(self) -> int:
        """Return how many different instruction streams the nodes run."""
        return int(self.spans.shape[0])

    @property
    def instructions(self) -> int:
        """Return the number of code rows, summed over roles and threads."""
        return int(self.code.shape[0])

    @cached_property
    def extended_views(self) -> Table:
        """Return the views with their extents; ProgramError for a program that no engine may follow.

        Every engine asks for this first, or for `require_sound`, so that all refuse a broken program in the same words.
        """
        return checked_views(self)

    def require_sound(self) -> None:
        """Raise ProgramError (UnsupportedError for rings) unless every engine may follow this program; checked once."""
        _ = self.extended_views

    def node(self, index: int) -> tuple[int, int]:
        """Return (row, col) of a node index."""
        return divmod(index, self.cols)
