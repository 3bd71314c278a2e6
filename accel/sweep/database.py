"""The file behind a sweep store: its schema, how it is opened, and one clear error for every way that it can fail."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accel.errors import InputError
from accel.sweep.rows import FIGURES, TEXTS

__all__ = [
    "APPLICATION",
    "SCHEMA",
    "connect",
    "create",
    "create_points",
    "move_aside",
    "quoted",
    "require_place",
    "told",
    "transaction",
]

APPLICATION = 0x61535750  # "aSWP": what PRAGMA application_id says of our files
SCHEMA = 1  # PRAGMA user_version; a change of any table makes it one more
BUSY_S = 10.0  # how long another program may keep the file from us
_TABLES = frozenset({"meta", "runs", "points", "earlier"})


def quoted(name: str) -> str:
    """Return a column's name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _typed(names: Iterable[str]) -> str:
    # Without a type a column keeps what it is given: whole numbers stay whole, floats stay floats.
    return ", ".join(quoted(name) + (" TEXT" if name in TEXTS else "") for name in names)


def create(connection: sqlite3.Connection, axes: Iterable[str]) -> None:
    """Make the tables of an empty store, inside the caller's transaction."""
    connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    connection.execute(
        "CREATE TABLE runs (run INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT, how TEXT, facts TEXT NOT NULL)"
    )
    create_points(connection, axes)
    connection.execute(
        "CREATE TABLE earlier (key TEXT PRIMARY KEY, status TEXT NOT NULL, reason TEXT NOT NULL, fidelity TEXT, "
        f"axes TEXT NOT NULL, {_typed(FIGURES)}, run INTEGER)"
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def create_points(connection: sqlite3.Connection, axes: Iterable[str]) -> None:
    """Make the table of points, one column an axis and a figure, inside the caller's transaction."""
    connection.execute(
        'CREATE TABLE points ("index" INTEGER PRIMARY KEY, key TEXT NOT NULL, status TEXT NOT NULL, '
        f"reason TEXT NOT NULL, fidelity TEXT, {_typed([*axes, *FIGURES])}, run INTEGER)"
    )
    connection.execute("CREATE INDEX points_by_key ON points (key) WHERE key <> ''")


def connect(path: Path, *, write: bool, empty: bool = True) -> tuple[sqlite3.Connection, bool]:
    """Open a store; return the connection and whether the file is still empty, which a reader never accepts.

    InputError for a path that is none, a file of something else, of another schema, damaged, locked or not writable.
    """
    require_place(path, write=write)
    connection: sqlite3.Connection | None = None
    try:
        with told(path, write=write):
            connection = _open(path, write=write)
            new = _recognise(connection, path, empty=empty and write)
            if write:
                trouble = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                _require(trouble == "ok", trouble)
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                # Where the system has no WAL, the older journal needs the disk's word for every commit.
                connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection, new


def _require(holds: bool, trouble: str) -> None:
    if not holds:
        raise sqlite3.DatabaseError(trouble)


def require_place(path: Path, *, write: bool) -> None:
    """Refuse what SQLite would only say "unable to open database file" about."""
    if "\0" in str(path):
        raise InputError(f"Cannot use {_short(path)} as a sweep store: a path has no NUL; give the path of a file")
    try:
        is_folder, there = path.is_dir(), path.exists()
        folder = path.parent.is_dir()
    except (OSError, ValueError) as error:
        rule = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot use {_short(path)} as a sweep store: {rule}; give the path of a file") from None
    if is_folder:
        raise InputError(f"Cannot use {str(path)!r} as a sweep store because it is a folder; give a file in it")
    if not there and not write:
        raise InputError(f"Cannot read sweep store {str(path)!r} because there is no such file; run accel sweep first")
    if not folder:
        raise InputError(
            f"Cannot make sweep store {str(path)!r} because there is no folder {str(path.parent)!r}; make it first"
        )


def _short(path: Path) -> str:
    text = str(path)
    return repr(text if len(text) <= 200 else text[:197] + "...")


def _open(path: Path, *, write: bool) -> sqlite3.Connection:
    if write:
        # Absolute, because SQLite takes ":memory:" and "file:..." for something else than names of files.
        return sqlite3.connect(path.absolute(), timeout=BUSY_S, isolation_level=None)
    address = path.absolute().as_uri()
    connection = sqlite3.connect(f"{address}?mode=ro", timeout=BUSY_S, isolation_level=None, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        # In a folder that may not be written the journal cannot be shared; a finished store does without it.
        journal = path.with_name(path.name + "-wal")
        if journal.exists() and journal.stat().st_size:
            raise
        return sqlite3.connect(f"{address}?mode=ro&immutable=1", isolation_level=None, uri=True)
    return connection


def _recognise(connection: sqlite3.Connection, path: Path, *, empty: bool) -> bool:
    """Return whether the file is empty; InputError unless it is, where that may be, or a store of this schema."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables and application in (0, APPLICATION):
        if not empty:
            raise InputError(f"Cannot use {str(path)!r} because no sweep has begun in it; run accel sweep first")
        return True
    if application != APPLICATION:
        raise InputError(
            f"Cannot use {str(path)!r} as a sweep store because it is a database of something else; give another file"
        )
    if version != SCHEMA:
        newer = version > SCHEMA
        raise InputError(
            f"Cannot use {str(path)!r} because it was written by {'a newer' if newer else 'an older'} accel "
            f"(schema {version}, this one has {SCHEMA}); "
            + ("upgrade accel" if newer else "read it with that version, or sweep into another file")
        )
    _require(tables >= _TABLES, f"tables {', '.join(sorted(_TABLES - tables))} are missing")
    return False


@contextmanager
def told(path: Path, *, write: bool) -> Iterator[None]:
    """Turn what SQLite raises inside the block into one InputError that says what is wrong and the way out."""
    try:
        yield
    except UnicodeDecodeError as error:  # of a damaged name or text, which the module of Python reads as UTF-8
        raise _damaged(path, "write" if write else "read", error) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        verb = "write" if write else "read"
        rule = _RULES.get(
            code, f"SQLite says: {_said(error)}; move the file away and sweep anew, or ask SQLite's .recover"
        )
        if (
            code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            or type(error) is sqlite3.DatabaseError
            or "UTF-8" in str(error)
        ):
            raise _damaged(path, verb, error) from None
        raise InputError(f"Cannot {verb} sweep store {str(path)!r} because {rule}") from None


def _said(error: Exception) -> str:
    """Return what SQLite says, which may quote a damaged file at length, as printable text of one line."""
    text = " ".join(ascii(str(error))[1:-1].replace("\\n", " ").split())
    return text if len(text) <= 120 else text[:117] + "..."


def _damaged(path: Path, verb: str, error: Exception) -> InputError:
    return InputError(
        f"Cannot {verb} sweep store {str(path)!r} because it is damaged or no sweep store ({_said(error)}); "
        f"move it away and sweep anew, or try to save it with: sqlite3 {path.name} .recover"
    )


_RULES = {
    sqlite3.SQLITE_FULL: "the disk is full; what was committed is kept: free some space and sweep again",
    sqlite3.SQLITE_IOERR: "the disk does not take or give it; what was committed is kept: check the disk and its space "
    "and sweep again",
    sqlite3.SQLITE_BUSY: f"another program has kept it locked for {BUSY_S:.0f} s; close that program and try again",
    sqlite3.SQLITE_LOCKED: f"another program has kept it locked for {BUSY_S:.0f} s; close that program and try again",
    sqlite3.SQLITE_READONLY: "it may not be written; change its permissions, or copy it to a folder of yours",
    sqlite3.SQLITE_PERM: "it may not be used; change its permissions, or copy it to a folder of yours",
    sqlite3.SQLITE_CANTOPEN: "it, or its journal beside it, cannot be opened; check permissions, "
    "or copy it with its -wal file to a folder of yours",
}


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block writes, or none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite has rolled back by itself, as it does on a full disk
            connection.execute("ROLLBACK")
        raise


def move_aside(path: Path) -> Path:
    """Rename a store with its journal out of the way, and return where it is now; its rows are never deleted."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.stem}.{stamp}{path.suffix}")
    for number in range(2, 1000):
        if not target.exists():
            break
        target = path.with_name(f"{path.stem}.{stamp}-{number}{path.suffix}")
    try:
        path.rename(target)
        for ending in ("-wal", "-shm"):
            journal = path.with_name(path.name + ending)
            if journal.exists():
                journal.rename(target.with_name(target.name + ending))
    except OSError as error:
        raise InputError(f"Cannot move {str(path)!r} aside: {error.strerror}; give another store") from None
    return target
