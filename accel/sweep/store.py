"""A sweep's rows on disk: an SQLite file that anyone can read while it grows; its schema is in docs/sweeps.md."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from accel.errors import InputError, nearest
from accel.sweep.database import connect, quoted, told
from accel.sweep.rows import STATUSES, best_first, columns

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Store", "decoded"]

CHUNK = 1024  # rows fetched at once


class Store:
    """The rows of a sweep. `Store.open(path)` reads one, also while a sweep writes it; close it, or use `with`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, write: bool = False) -> None:
        self.path = path
        self._connection = connection
        self._write = write
        self._closed = False

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r") -> Store:
        """Open the store at `path`; mode "r" to read, "rw" to be its one writer as well.

        InputError where there is none, where it is damaged, locked, of another schema or of something else, and with
        "rw" where another process writes it.
        """
        if mode not in ("r", "rw"):
            raise InputError(f"Cannot open a store in mode {mode!r}; use 'r' or 'rw'")
        place = path_of(path)
        if mode == "rw":
            from accel.sweep.writer import Writer

            return Writer.existing(place)
        return cls(place, connect(place, write=False)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if not self._closed:
            self._closed = True
            self._connection.close()

    def meta(self) -> dict[str, Any]:
        """Return what is known of the sweep as a whole.

        title, toml (the text of its file), digest, size, objective, fidelity, screen, keep, limits, seed, axes (dicts
        of name and values, in order), constraints, bases (the TOML of each base chip by its name in the sweep),
        package_version, sources; `runs`, one dict a run (started, ended,
        how, and the facts of where it ran); and of the last: host, processor, fma_peak_gflops, started, finished.
        """
        with told(self.path, write=False):
            found = {name: decoded(value) for name, value in self._connection.execute("SELECT name, value FROM meta")}
            asked = self._connection.execute("SELECT run, started, ended, how, facts FROM runs ORDER BY run")
            runs = [
                {"run": run, "started": started, "ended": ended, "how": how, **decoded(facts)}
                for run, started, ended, how, facts in asked
            ]
        last = runs[-1] if runs else {}
        for name in ("host", "processor", "fma_peak_gflops", "started"):
            found[name] = last.get(name)
        found["finished"] = last.get("ended") if last.get("how") == "finished" else None
        found["runs"] = runs
        found.pop("selected", None)
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's columns, in order."""
        return columns(axis["name"] for axis in self._axes())

    def _meta(self, name: str) -> Any:
        with told(self.path, write=False):
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise sqlite3.DatabaseError(f"its table meta lacks {name}")
            return decoded(row[0])

    def _axes(self) -> list[dict[str, Any]]:
        """The axes as meta has them: dicts of name, values, and whether the values lie in the table as JSON."""
        found = self._meta("axes")
        sound = isinstance(found, list) and all(
            isinstance(axis, dict) and isinstance(axis.get("name"), str) and {"values", "json"} <= axis.keys()
            for axis in found
        )
        with told(self.path, write=False):
            if not sound:
                raise sqlite3.DatabaseError("its table meta has no axes")
        return list(found)

    def rows(self, status: str | None = None) -> list[dict[str, Any]]:
        """Return the rows by the numbers of their points, all or those of one `status`; None for what is not known."""
        return list(self.each(status))

    def each(self, status: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield what `rows(status)` returns, one at a time."""
        if status is not None and status not in STATUSES:
            raise InputError(f"no status {status!r}{nearest(status, STATUSES)}; use one of {', '.join(STATUSES)}")
        names = self.columns
        coded = [i for i, name in enumerate(names) if name in self._coded()]
        asked = ", ".join(quoted(name) for name in names)
        where, values = ("WHERE status = ?", (status,)) if status else ("", ())
        with told(self.path, write=False):
            cursor = self._connection.execute(f'SELECT {asked} FROM points {where} ORDER BY "index"', values)  # noqa: S608 - names are quoted
            while found := cursor.fetchmany(CHUNK):
                for row in found:
                    if coded:
                        own = list(row)
                        for i in coded:
                            own[i] = None if own[i] is None else decoded(own[i])
                        yield dict(zip(names, own, strict=True))
                    else:
                        yield dict(zip(names, row, strict=True))

    def _coded(self) -> set[str]:
        """The axes whose values are no plain numbers or texts and lie in the table as JSON."""
        return {axis["name"] for axis in self._axes() if axis["json"]}

    def counts(self) -> dict[str, int]:
        """Return how many points have each status, for the statuses that occur."""
        with told(self.path, write=False):
            found = dict(self._connection.execute("SELECT status, count(*) FROM points GROUP BY status"))
        return {status: found[status] for status in STATUSES if status in found}

    def best(self, objective: str | None = None) -> dict[str, Any] | None:
        """Return the timed row that is best by `objective` (default: the sweep's own), None where none is timed."""
        column, less = best_first(self._meta("objective") if objective is None else objective)
        if column not in self.columns:
            raise InputError(f"no column {column!r}{nearest(column, self.columns)}; use one of the store's columns")
        with told(self.path, write=False):
            found = self._connection.execute(
                f"SELECT \"index\" FROM points WHERE status = 'ok' AND {quoted(column)} IS NOT NULL "  # noqa: S608 - names are quoted
                f'ORDER BY {quoted(column)} {"ASC" if less else "DESC"}, "index" LIMIT 1'
            ).fetchone()
        return None if found is None else self.row(found[0])

    def row(self, index: int) -> dict[str, Any]:
        """Return the row of the point with this index; InputError where the store has none."""
        names, coded = self.columns, self._coded()
        asked = ", ".join(quoted(name) for name in names)
        with told(self.path, write=False):
            found = self._connection.execute(f'SELECT {asked} FROM points WHERE "index" = ?', (int(index),)).fetchone()  # noqa: S608 - names are quoted
        if found is None:
            raise InputError(f"{str(self.path)!r} has no point {index}; it may not have been timed yet")
        row = dict(zip(names, found, strict=True))
        with told(self.path, write=False):
            return {name: decoded(v) if name in coded and v is not None else v for name, v in row.items()}


def decoded(text: Any) -> Any:
    """Return the value of JSON that the store holds; DatabaseError for what we never wrote."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise sqlite3.DatabaseError(f"no JSON where there must be some: {error}") from None


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return a path; InputError for what is none."""
    try:
        return Path(path)
    except TypeError:
        raise InputError(f"Cannot use {path!r} as a sweep store; give the path of a file") from None
