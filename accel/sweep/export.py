"""Rows of a sweep as CSV and Parquet."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accel.errors import InputError, UnsupportedError
from accel.files import write_whole

__all__ = ["FORMATS", "in_columns", "to_csv", "to_parquet", "write"]

FORMATS = (".csv", ".parquet")


def write(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows to a file in the format that its name ends in; InputError for an ending that is none."""
    check(path)
    (to_parquet if Path(path).suffix.lower() == ".parquet" else to_csv)(path, columns, rows)


def check(path: str | os.PathLike[str]) -> None:
    """Raise what `write` would raise about the path and about what is installed, before hours of work."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"Cannot export to {str(path)!r} because it ends in no known format; use .csv or .parquet")
    folder = Path(path).parent
    if not folder.is_dir():
        raise InputError(f"Cannot export to {str(path)!r} because there is no folder {str(folder)!r}; make it first")
    if not os.access(folder, os.W_OK) and (Path(path).is_file() or not Path(path).exists()):
        raise InputError(
            f"Cannot export to {str(path)!r} because folder {str(folder)!r} may not be written; use another"
        )
    if Path(path).is_dir():
        raise InputError(f"Cannot export to {str(path)!r} because it is a folder; give a file in it")
    if ending == ".parquet":
        _parquet()


def in_columns(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as one list a column; lists among the values become JSON text, as in CSV."""
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        for name in columns:
            found[name].append(_cell(row[name]))
    return found


def to_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV with a header, whole or not at all.

    Numbers in full (floats read back to the same bits), lists as JSON, empty where a point has no such figure.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    write_whole(path, text.getvalue().encode(), "table")


def to_parquet(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as Parquet, by pyarrow or polars; UnsupportedError where neither is installed."""
    name = _parquet()
    table = in_columns(columns, rows)
    sink = io.BytesIO()
    if name == "pyarrow":
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        parquet.write_table(arrow.table({key: arrow.array(_alike(values)) for key, values in table.items()}), sink)
    else:
        polars: Any = importlib.import_module("polars")
        polars.DataFrame(table, strict=False).write_parquet(sink)
    write_whole(path, sink.getvalue(), "table")


def _parquet() -> str:
    """Return the installed library that writes Parquet."""
    for name in ("pyarrow", "polars"):
        if importlib.util.find_spec(name) is not None:
            return name
    raise UnsupportedError(
        "Parquet needs pyarrow or polars, and neither is installed; install accel-codesign[sweep], or export .csv"
    )


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _alike(values: list[Any]) -> list[Any]:
    """Return values of one kind, as a typed column needs them: whole numbers among floats become floats."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [value if value is None else float(value) for value in values]
    if len(kinds) > 1:
        return [value if value is None else str(value) for value in values]
    return values
