"""The one writer of a store: begins it or takes it up again, and commits rows as they come."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import __version__
from accel.errors import InputError
from accel.provenance import source_digest
from accel.sweep.database import connect, create, create_points, move_aside, quoted, require_place, told, transaction
from accel.sweep.journal import Journal
from accel.sweep.locking import WriterLock
from accel.sweep.rows import FIGURES
from accel.sweep.store import Store, decoded

if TYPE_CHECKING:
    from accel.sweep.space import Space

__all__ = ["Writer"]

_LARGEST = 1 << 63  # SQLite's whole numbers end below it
_REUSED = ("ok", "illegal")  # what has a fixed cause; points that ran out of time or memory are tried again
_DECIDE_THE_BEST = ("digest", "screen", "keep", "objective", "sources")  # which points a screening chooses
_MEMORY = Path(":memory:")


class Writer(Store):
    """A store that this process alone writes; `begin` makes or resumes one for a space."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: WriterLock | None) -> None:
        super().__init__(path, connection, write=True)
        self._lock = lock
        self._file = path.stat() if lock is not None else None
        with told(path, write=True):
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        self._journal = Journal(path) if mode == "wal" else None
        self._run: int | None = None
        self._names: tuple[str, ...] = ()
        self._json: set[str] = set()
        self.notice = ""  # one line about what became of the rows that were there

    @classmethod
    def existing(cls, path: Path) -> Writer:
        """Open a store that a sweep has begun; InputError where there is none."""
        if not path.exists():
            raise InputError(f"Cannot write sweep store {str(path)!r} because there is none; run accel sweep first")
        lock = WriterLock(path)
        try:
            writer = cls(path, connect(path, write=True, empty=False)[0], lock)
        except BaseException:
            lock.release()
            raise
        writer._learn()
        return writer

    @classmethod
    def begin(cls, path: Path | None, space: Space, *, fresh: bool = False) -> Writer:
        """Make the store of a space at `path` (None: in memory), or take up the one that is there.

        A store of the same space and the same sources goes on where it stopped. Where either has changed and the axes
        are the same ones, its rows become earlier rows: points with the same key take their figures from them, all
        others are timed. InputError where the axes are others. fresh: what is there is moved aside first.
        """
        if path is None:
            writer = cls(_MEMORY, sqlite3.connect(":memory:", isolation_level=None), None)
            writer._create(space)
            return writer
        require_place(path, write=True)
        lock = WriterLock(path)
        try:
            aside = move_aside(path) if fresh and path.exists() else None
            connection, empty = connect(path, write=True)
            writer = cls(path, connection, lock)
            try:
                if empty:
                    writer._create(space)
                else:
                    writer._take_up(space)
            except BaseException:
                writer._fold()
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        if aside is not None:
            writer.notice = f"what was in {path.name} is now in {aside.name}"
        return writer

    @property
    def in_memory(self) -> bool:
        """Whether no file keeps the rows."""
        return self._lock is None

    def close(self) -> None:
        """Fold the journal into the file, let go of it and let others write."""
        if not self._closed:
            if self._journal is not None:
                self._journal.close()
            self._fold()
            super().close()
            if self._lock is not None:
                self._lock.release()

    def _fold(self) -> None:
        """Make the file whole by itself: whoever reads a store that is in WAL mode leaves empty files beside it."""
        if self._lock is None or self._connection.in_transaction:
            return
        with suppress(sqlite3.Error):  # a full disk, or someone reads: the next one folds it
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE")

    def _create(self, space: Space) -> None:
        with told(self.path, write=True), transaction(self._connection):
            create(self._connection, [axis.name for axis in space.axes])
            self._describe(space)
        self._learn()

    def _describe(self, space: Space) -> None:
        facts: dict[str, Any] = {
            "title": space.title, "toml": space.text, "digest": space.digest(), "size": len(space),
            "objective": space.objective, "fidelity": space.fidelity, "screen": space.screen, "keep": space.keep,
            "limits": {"timeout_s": space.limits.timeout_s, "memory_bytes": space.limits.memory_bytes},
            "seed": space.sampling.seed, "axes": [_described(axis.name, axis.values) for axis in space.axes],
            "constraints": list(space.constraints), "bases": space.base_texts(),
            "package_version": __version__, "sources": source_digest(),
        }  # fmt: skip
        before = {name: decoded(value) for name, value in self._connection.execute("SELECT name, value FROM meta")}
        same = all(before.get(name) == facts[name] for name in _DECIDE_THE_BEST)
        facts["selected"] = before.get("selected") if same else None
        rows = [(name, json.dumps(value)) for name, value in facts.items()]
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def _learn(self) -> None:
        self._names = self.columns
        self._json = self._coded()

    def _take_up(self, space: Space) -> None:
        """Go on with what the store holds, or set it apart; InputError where it is a sweep over other axes."""
        self._learn()
        sources = self._meta("sources")
        if self._meta("digest") == space.digest() and sources == source_digest():
            with told(self.path, write=True), transaction(self._connection):
                self._describe(space)  # what orders and limits the points may have changed, which are the same ones
            return
        old, new = [axis["name"] for axis in self._axes()], [axis.name for axis in space.axes]
        if sorted(old) != sorted(new):
            raise InputError(
                f"Cannot sweep {space.source} into {str(self.path)!r} because that holds a sweep over "
                f"{', '.join(old) or 'no axis'} and this one is over {', '.join(new) or 'no axis'}; "
                "give another store, or fresh to move the old one aside"
            )
        figures = ", ".join(map(quoted, FIGURES))
        values = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', {quoted(name)}" for name in old)
        with told(self.path, write=True), transaction(self._connection):
            moved = self._connection.execute(
                f"INSERT OR REPLACE INTO earlier SELECT key, status, reason, fidelity, json_object({values}), "  # noqa: S608 - names are quoted
                f"{figures}, run FROM points WHERE key <> ''"
            ).rowcount
            self._connection.execute("DROP TABLE points")
            create_points(self._connection, new)
            self._describe(space)
        self._learn()
        if sources != source_digest():
            self.notice = (
                f"accel has changed since: {moved:,} rows are kept apart (table earlier), points are timed anew"
            )
        else:
            self.notice = f"the space has changed since: {moved:,} rows are kept, and used where points are the same"

    def start_run(self, facts: Mapping[str, Any]) -> None:
        """Note that a run begins, where and with what."""
        with told(self.path, write=True), transaction(self._connection):
            self._run = self._connection.execute(
                "INSERT INTO runs (started, facts) VALUES (?, ?)", (_now(), json.dumps(dict(facts)))
            ).lastrowid

    def note_facts(self, facts: Mapping[str, Any]) -> None:
        """Add to what is known of the run that has begun."""
        with told(self.path, write=True), transaction(self._connection):
            known = self._connection.execute("SELECT facts FROM runs WHERE run = ?", (self._run,)).fetchone()[0]
            text = json.dumps({**decoded(known), **facts})
            self._connection.execute("UPDATE runs SET facts = ? WHERE run = ?", (text, self._run))

    def end_run(self, how: str) -> None:
        """Note how the run ended: "finished", "interrupted", "limited" or "failed"."""
        with told(self.path, write=True), transaction(self._connection):
            self._connection.execute("UPDATE runs SET ended = ?, how = ? WHERE run = ?", (_now(), how, self._run))
        self._wrote()
        self.sync(now=True)

    def sync(self, *, now: bool = False) -> None:
        """Wait until what was committed also survives a power cut, where that is due or to be `now`."""
        if self._journal is not None:
            self._journal.sync(now=now)

    def _wrote(self) -> None:
        if self._journal is not None:
            self._journal.wrote()

    def put(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Commit rows, in place of those of the same points; missing columns are None. A kill cannot take them back."""
        names = [*self._names, "run"]
        held = [[self._stored(name, row.get(name)) for name in self._names] + [self._run] for row in rows]
        self._insert(names, held, "REPLACE")

    def put_columns(self, columns: Mapping[str, Iterable[Any]]) -> None:
        """Commit many rows at once, given as columns of equal length; points that have a row keep it."""
        names = list(columns)
        held = [
            [self._stored(name, value) for value in column] if name in self._json else column
            for name, column in columns.items()
        ]
        rows = [[*values, self._run] for values in zip(*held, strict=True)]
        self._insert([*names, "run"], rows, "IGNORE")

    def _insert(self, names: list[str], rows: list[list[Any]], other: str) -> None:
        if not rows:
            return
        listed, marks = ", ".join(map(quoted, names)), ", ".join("?" * len(names))
        self._require_place()
        with told(self.path, write=True), transaction(self._connection):
            self._connection.executemany(f"INSERT OR {other} INTO points ({listed}) VALUES ({marks})", rows)  # noqa: S608 - names are quoted
        self._wrote()

    def _stored(self, name: str, value: Any) -> Any:
        if value is None:
            return "" if name in ("key", "reason") else None
        if name in self._json:
            return json.dumps(value)
        return float(value) if isinstance(value, int) and abs(value) >= _LARGEST else value

    def _require_place(self) -> None:
        """Refuse to write on into a file that is no longer at its path."""
        if self._file is None:
            return
        try:
            there = os.path.samestat(self._file, self.path.stat())
        except OSError:
            there = False
        if not there:
            raise InputError(
                f"Cannot write sweep store {str(self.path)!r} because it was moved or deleted while the sweep ran; "
                "put it back and give the same command again"
            )

    def done(self, again: Iterable[str] = ()) -> list[int]:
        """Return the numbers of the points that need no more work; of those in status `again`, they do."""
        left = ("screened", *again)
        marks = ", ".join("?" * len(left))
        with told(self.path, write=False):
            found = self._connection.execute(f'SELECT "index" FROM points WHERE status NOT IN ({marks})', left)  # noqa: S608 - only marks
            return [index for (index,) in found]

    def find(self, key: str) -> dict[str, Any] | None:
        """Return what is known of another point with the same key, whichever sweep timed it here, or None."""
        names = ("status", "reason", *FIGURES)
        asked = ", ".join(map(quoted, names))
        with told(self.path, write=False):
            for table in ("points", "earlier"):
                found = self._connection.execute(
                    f"SELECT {asked} FROM {table} WHERE key = ? AND key <> '' AND status IN (?, ?) LIMIT 1",  # noqa: S608 - names are quoted
                    (key, *_REUSED),
                ).fetchone()
                if found is not None:
                    return dict(zip(names, found, strict=True))
        return None

    def selected(self) -> list[int] | None:
        """Return the points that the screening chose, best first, None where it has not ended."""
        found: list[int] | None = self._meta("selected")
        return found

    def select(self, indices: list[int]) -> None:
        """Note what the screening chose."""
        with told(self.path, write=True), transaction(self._connection):
            self._connection.execute("UPDATE meta SET value = ? WHERE name = 'selected'", (json.dumps(indices),))


def _described(name: str, values: Iterable[Any]) -> dict[str, Any]:
    listed = [_plain(value) for value in values]
    coded = any(type(value) not in (int, float, str) or (type(value) is int and abs(value) >= _LARGEST)
                for value in listed)  # fmt: skip
    return {"name": name, "values": listed, "json": coded}


def _plain(value: Any) -> Any:
    from accel.sweep.axes import plain_value

    return plain_value(value)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
