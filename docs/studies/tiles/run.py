"""Run the tile study again, check a sample of it, or define its sweeps.

python docs/studies/tiles/run.py              # every sweep, one process: rows.csv and the tables of index.md
python docs/studies/tiles/run.py --defaults   # only today's default of every shape; the points of the sweeps stay
python docs/studies/tiles/run.py --check      # a sample of the rows, computed again and compared exactly
python docs/studies/tiles/run.py --define     # draw the tilings anew, about today's defaults: sweeps/*.toml
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from pathlib import Path
from typing import Any

import accel
from accel.sweep import Space
from accel.sweep.evaluate import evaluate

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import shapes  # noqa: E402  - beside this file, which is not part of a package

SWEEPS, ROWS, PAGE = HERE / "sweeps", HERE / "rows.csv", HERE / "index.md"
COLUMNS = ("sweep", "point", "tiling", "status", "cycles")
SAMPLE = 24  # rows that --check computes again
WORTH = 0.03  # a gap that the page has to explain
Row = dict[str, str]


def text_of(tiling: dict[str, Any]) -> str:
    """Return a tiling as it stands in rows.csv."""
    return " ".join(f"{name}={value}" for name, value in tiling.items())


def space(name: str) -> Space:
    """Return a sweep of the study by its name."""
    return Space.load(SWEEPS / f"{name}.toml")


def tiling_of(values: dict[str, Any]) -> dict[str, int]:
    """Return the tiling of a point from the values of its axes."""
    return {axis.removeprefix("kernel."): value for axis, value in values.items()}


def default_row(name: str) -> Row:
    """Return the row of the default tiling, timed as the points of the sweep are but for what they set."""
    sweep = space(name)
    job = sweep.resolve(0).job()
    found = evaluate({**job, "kernel": {}})
    fields, resident = shapes.SHAPES[name]
    tiling, _ = shapes.tilings(shapes.made(fields), accel.chip("d1"), resident=resident)({})
    return _row(name, "default", tiling, found)


def point_row(name: str, index: int) -> Row:
    """Return the row of one point of a sweep, timed."""
    point = space(name).resolve(index)
    return _row(name, str(index), tiling_of(point.values), evaluate(point.job()))


def _row(name: str, point: str, tiling: dict[str, Any], found: dict[str, Any]) -> Row:
    cycles = str(found["cycles"]) if found["status"] == "ok" else ""
    return dict(zip(COLUMNS, (name, point, text_of(tiling), found["status"], cycles), strict=True))


def define(names: list[str]) -> None:
    """Write the sweeps: for every shape the default tiling of today and those drawn about it, as axes in step."""
    chip = accel.chip("d1")
    for name in names:
        fields, resident = shapes.SHAPES[name]
        work = shapes.made(fields)
        found = shapes.drawn(name, shapes.tilings(work, chip, resident=resident))
        lines = [f'title = "Tilings of {name}"', 'objective = "cycles"', "[problem]"]
        lines += [f"{field} = {_toml(value)}" for field, value in fields.items()]
        lines += ["[chip]", 'base = "d1"']
        if resident:
            lines += ["[kernel]", f"resident = {_toml(list(work.operands))}"]
        lines += ["[axes]"]
        lines += [f'"kernel.{field}" = {_toml([tiling[field] for tiling in found])}' for field in found[0]]
        lines += ["[zip]", f"tiling = {_toml([f'kernel.{field}' for field in found[0]])}"]
        (SWEEPS / f"{name}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(found)} tilings", flush=True)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def run(names: list[str]) -> list[Row]:
    """Return the rows of the sweeps, all timed now, those of the defaults first."""
    rows: list[Row] = []
    for name in names:
        begun = time.perf_counter()
        rows.append(default_row(name))
        for found in accel.sweep(space(name), workers=1).rows:
            tiling = tiling_of({axis: found[axis] for axis in found if axis.startswith("kernel.")})
            rows.append(_row(name, str(found["index"]), tiling, found))
        mine = [row for row in rows if row["sweep"] == name]
        print(f"{summary(mine)} {time.perf_counter() - begun:.0f} s", flush=True)
    return rows


def load() -> list[Row]:
    """Return the rows as they are kept."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(rows: list[Row]) -> None:
    """Keep the rows."""
    with ROWS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def gaps(rows: list[Row]) -> dict[str, float]:
    """Return by sweep what its default loses against the best tiling that was timed: 0.03 is 3 % more cycles."""
    return {name: _cycles(mine[0]) / _cycles(_best(mine)) - 1 for name, mine in by_sweep(rows).items()}


def by_sweep(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each sweep, its default first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["sweep"], []).append(row)
    return found


def _cycles(row: Row) -> int:
    return int(row["cycles"])


def _best(rows: list[Row]) -> Row:
    return min((row for row in rows if row["cycles"]), key=_cycles)


def summary(rows: list[Row]) -> str:
    """Return the line of a sweep in the page's table."""
    today, first, best = rows[0], rows[1], _best(rows)
    differs = [new for old, new in zip(today["tiling"].split(), best["tiling"].split(), strict=True) if old != new]
    gap = _cycles(today) / _cycles(best) - 1
    cells = (
        today["sweep"], f"{_cycles(first):,}", f"{_cycles(today):,}", f"{_cycles(best):,}", f"{100 * gap:.1f} %",
        ", ".join(differs) or "-",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def write_page(rows: list[Row]) -> None:
    """Put the rows into the table of the page, whose text stays."""
    before, rest = PAGE.read_text(encoding="utf-8").split("<!-- table -->\n", 1)
    after = rest.split("<!-- end of table -->\n", 1)[1]
    head = "| shape | first default | default | best swept | gap | the best differs in |\n|---|---|---|---|---|---|\n"
    table = head + "".join(f"{summary(mine)}\n" for mine in by_sweep(rows).values())
    PAGE.write_text(f"{before}<!-- table -->\n{table}<!-- end of table -->\n{after}", encoding="utf-8")


def again(row: Row) -> Row:
    """Return a row computed again."""
    name = row["sweep"]
    return default_row(name) if row["point"] == "default" else point_row(name, int(row["point"]))


def check(rows: list[Row]) -> int:
    """Compute a sample of the rows again; 1 where one differs."""
    wrong = 0
    for row in random.Random(shapes.SEED).sample(rows, SAMPLE):
        new = again(row)
        wrong += new != row
        print(f"{row['sweep']} {row['point']}: {'as kept' if new == row else f'{row} is now {new}'}", flush=True)
    print(f"{SAMPLE - wrong} of {SAMPLE} rows as kept")
    return int(wrong > 0)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="The tile study: run it, check it, or define it.")
    parser.add_argument("--check", action="store_true", help="compute a sample of the rows again and compare")
    parser.add_argument("--defaults", action="store_true", help="time the defaults alone; points of sweeps stay")
    parser.add_argument("--define", action="store_true", help="draw the tilings of the sweeps anew")
    parser.add_argument("--only", default="", help="shapes whose names begin with this; the other rows stay")
    options = parser.parse_args()
    names = [name for name in shapes.SHAPES if name.startswith(tuple(options.only.split(",")))]
    if options.check:
        return check(load())
    if options.define:
        define(names)
        return 0
    kept = by_sweep(load()) if ROWS.exists() else {}
    if options.defaults:
        kept |= {name: [default_row(name), *kept[name][1:]] for name in names}
    else:
        kept |= by_sweep(run(names))
    rows = [row for name in shapes.SHAPES for row in kept.get(name, [])]
    save(rows)
    write_page(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
