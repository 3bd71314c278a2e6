"""Timings of layers kept on disk, so that an interrupted run goes on where it stopped and a second one is quick."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from accel.compile_cache import default_base
from accel.hardware import ChipSpec
from accel.problem import Problem
from accel.provenance import source_digest

__all__ = ["Results"]

BUSY_S = 30.0  # how long one process waits for another one that writes


class Results:
    """A small database in the cache folder: one row for each problem, chip, fidelity and state of the sources.

    Every figure is committed as soon as it is known. Where the folder cannot be written, nothing is kept and nothing
    fails. Any change of a source file of the package makes new rows.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = default_base() / "layers.sqlite" if path is None else path
        self.connection: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.Error):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=BUSY_S)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS layers (key TEXT PRIMARY KEY, figure TEXT NOT NULL)")
            connection.commit()
            self.connection = connection

    def key(self, problem: Problem, chip: ChipSpec, fidelity: str) -> str:
        """Return the name under which the figure of a problem is kept."""
        text = json.dumps([problem.to_dict(), chip.digest(), fidelity, source_digest()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the figure under `key`, or None."""
        if self.connection is None:
            return None
        with contextlib.suppress(sqlite3.Error, ValueError):
            row = self.connection.execute("SELECT figure FROM layers WHERE key = ?", (key,)).fetchone()
            found = json.loads(row[0]) if row else None
            return found if isinstance(found, dict) else None
        return None

    def put(self, key: str, figure: dict[str, Any]) -> None:
        """Keep a figure."""
        if self.connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("INSERT OR REPLACE INTO layers VALUES (?, ?)", (key, json.dumps(figure)))
                self.connection.commit()

    def close(self) -> None:
        """Let go of the file."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
