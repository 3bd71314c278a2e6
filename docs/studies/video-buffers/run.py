"""Run the study of video buffers again: simulate its curves, write the tables and figures beside this file.

python docs/studies/video-buffers/run.py               # everything, simulated and written
python docs/studies/video-buffers/run.py --check       # everything simulated anew, every row of every table compared
python docs/studies/video-buffers/run.py --check 6     # six rows simulated anew and compared
python docs/studies/video-buffers/run.py --draw        # figures and page from the tables as they are
"""

from __future__ import annotations

import argparse
import random
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import backbone
import closed_form as form
import figures
import page
import search
import tables

from accel.hardware import ChipSpec

HERE = form.HERE


def study(chip: ChipSpec, store: Path | None, workers: int | None) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of the study by the name of their file, all simulated now."""
    _, share, curves = form.study()
    layers = backbone.results(chip, backbone.explore(chip, store, workers))
    found = search.explore(chip, curves, store, workers)
    rows = tables.results(chip, share, found)
    knees = tables.knees(chip, found, rows)
    return {
        "results.csv": rows, "knees.csv": knees, "sets.csv": tables.sets(chip, knees),
        "predicted.csv": tables.guesses(chip, curves), "backbone.csv": layers,
    }  # fmt: skip


def check(chip: ChipSpec, store: Path | None, workers: int | None) -> int:
    """Simulate everything again, print every row that differs from the tables as they are kept, and return how many."""
    wrong = 0
    for name, rows in study(chip, store, workers).items():
        told = tables.compare(HERE / name, rows)
        print("\n".join([*told, f"{name}: {len(rows)} rows, {len(told)} differ"]), flush=True)
        wrong += len(told)
    return wrong


def check_some(chip: ChipSpec, share: Fraction, curves: list[form.Curve], count: int, seed: int, workers: int) -> int:
    """Simulate some of the cheaper rows of results.csv again and return how many of them differ."""
    named = {(curve.name, curve.label): curve for curve in curves}
    kept = [row for row in tables.read(HERE / "results.csv") if row["sram_kib"] == row["same_as_kib"]]
    kept = sorted(kept, key=lambda row: int(row["cycles_long"]))[: max(count, len(kept) // 2)]
    wrong = 0
    for old in random.Random(seed).sample(kept, min(count, len(kept))):
        curve, size = named[old["curve"], old["label"]], int(old["sram_kib"]) * 1024
        strips = form.cut(chip, curve, size)
        if strips is None:
            raise SystemExit(f"{old['label']} no longer fits {old['sram_kib']} KiB")
        program = search.Program(curve, strips, size)
        found = search.Found({}, search.simulate(chip, [program], None, workers, old["label"]))
        new = tables.outcome(chip, share, found, program)
        names = [name for name in new if str(new[name]) != old[name]]
        wrong += bool(names)
        what = ", ".join(f"{name} {old[name]} -> {new[name]}" for name in names)
        print(f"{old['label']}, {old['sram_kib']} KiB: {what or 'equal'}", flush=True)
    return wrong


def main() -> int:
    """Run the study, or check it."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--check", type=int, nargs="?", const=0, metavar="ROWS", help="compare, write nothing; all rows")
    asked.add_argument("--seed", type=int, default=0, help="which rows --check ROWS takes")
    asked.add_argument("--store", type=Path, help="file that keeps what is simulated, to go on when stopped")
    asked.add_argument("--workers", type=int, help="processes (default: one a processor)")
    asked.add_argument("--draw", action="store_true", help="only figures and page, from the tables as they are")
    given = asked.parse_args()
    chip, share, curves = form.study()
    if given.check:
        return min(1, check_some(chip, share, curves, given.check, given.seed, given.workers or 1))
    if given.check is not None:
        return min(1, check(chip, given.store, given.workers))
    if not given.draw:
        for name, rows in study(chip, given.store, given.workers).items():
            tables.write(HERE / name, rows)
    figures.draw(HERE)
    page.fill(HERE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
