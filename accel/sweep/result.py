"""What a sweep returns, and a kept sweep loaded again: rows, the best of them, tables for other programs."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.sweep import export
from accel.sweep.store import Store

if TYPE_CHECKING:
    from accel.sweep.writer import Writer

__all__ = ["SweepResult", "load_sweep"]


@dataclass(frozen=True)
class SweepResult:
    """The rows of a sweep that has ended, those of earlier runs included.

    path: of the store, None where there is none. columns: of every row, in order. counts: points by status. best: the
    best timed row by the sweep's objective, None where none is timed. how: "finished", or "limited" where points are
    left. timed: points that this run timed, in `seconds` with all that goes with it. notice: one line about rows that
    were there before, or empty.
    """

    path: Path | None
    columns: tuple[str, ...]
    counts: dict[str, int]
    best: dict[str, Any] | None
    how: str
    timed: int
    seconds: float
    notice: str = ""
    _held: list[dict[str, Any]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, writer: Writer, how: str, timed: int, seconds: float) -> SweepResult:
        """Return the result of the run that `writer` has written."""
        path = None if writer.in_memory else writer.path
        held = writer.rows() if writer.in_memory else None
        return cls(path, writer.columns, writer.counts(), writer.best(), how, timed, seconds, writer.notice, held)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows by the numbers of their points; read from the store each time."""
        if self._held is not None:
            return [dict(row) for row in self._held]
        with Store.open(self.path or "") as store:
            return store.rows()

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV to `path`, whole or not at all; InputError where that fails."""
        self._export(lambda rows: export.to_csv(path, self.columns, rows))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as Parquet to `path`; UnsupportedError where neither pyarrow nor polars is installed."""
        self._export(lambda rows: export.to_parquet(path, self.columns, rows))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to `path` in the format that it ends in: .csv or .parquet, else InputError."""
        self._export(lambda rows: export.write(path, self.columns, rows))

    def _export(self, write: Callable[[Iterable[dict[str, Any]]], None]) -> None:
        if self._held is not None:
            write(self._held)
        else:
            with Store.open(self.path or "") as store:
                write(store.each())


def load_sweep(path: str | os.PathLike[str]) -> Any:
    """Return the rows of the sweep kept at `path`: a DataFrame of pandas, else of polars, else (with neither) dicts.

    Columns are those of the store, in order; None (NaN in pandas) where a point has no such figure. A sweep that is
    still running can be loaded. InputError where there is no readable store.
    """
    with Store.open(path) as store:
        for name in ("pandas", "polars"):
            if importlib.util.find_spec(name) is not None:
                frames = importlib.import_module(name)
                names = store.columns
                lists = export.in_columns(names, store.each())
                return frames.DataFrame(lists, **({"strict": False} if name == "polars" else {}))
        return store.rows()
