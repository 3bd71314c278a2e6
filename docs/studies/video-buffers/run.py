"""Run the study of video buffers again: simulate its curves, write the tables and figures beside this file.

Without arguments everything is simulated and written; with `--check 6` six rows are simulated again and compared with
results.csv.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import closed_form as form
import figures
import page

import accel
from accel.hardware import ChipSpec
from accel.kernels.parts.streaming_strips import Strips

HERE = form.HERE
LEVEL = 0.1  # a knee: cycles stay within a tenth of the fewest; tiles and a slot more are worth less, a frame more
CHECKED = ("cycles_short", "cycles_long", "memory_bytes", "utilization", "predicted_cycles", "refetched_bytes")


class Point(NamedTuple):
    """A curve at one size of SRAM: how frames are cut (None: refused) and the first size with the same cut."""

    curve: form.Curve
    size: int
    strips: Strips | None
    first: int


def points(chip: ChipSpec, curves: Iterable[form.Curve]) -> list[Point]:
    """Return the points of curves; sizes that are cut in the same way run the same program and are simulated once."""
    found = []
    for curve in curves:
        seen: dict[Strips | None, int] = {}
        for size in form.sizes(chip, curve):
            strips = form.cut(chip, curve, size)
            found.append(Point(curve, size, strips, seen.setdefault(strips, size)))
    return found


def space(chip: ChipSpec, chosen: list[Point]) -> dict[str, Any]:
    """Return one sweep over all points as plain data: two lengths of video each, all axes advancing together."""
    axes: dict[str, list[Any]] = {}
    for point in chosen:
        assert point.strips is not None
        for outputs in form.steady(point.strips):
            problem = point.curve.problem(outputs).to_dict()
            problem |= {name: problem[name][0] for name in ("stride", "pad")}  # of height; width has the same
            for name in ("frames", "h", "w", "c", "k", "kt", "r", "s", "stride", "pad", "cameras"):
                axes.setdefault(f"problem.{name}", []).append(problem[name])
            axes.setdefault("node.sram_bytes", []).append(point.size)
    return {
        "title": "Buffers for video", "problem": {"kind": "streaming_conv"}, "chip": {"base": chip.name},
        "axes": axes, "zip": {"points": list(axes)},
    }  # fmt: skip


def simulate(chip: ChipSpec, chosen: list[Point], store: Path | None, workers: int | None) -> dict[Point, list[Any]]:
    """Return the two rows of every point, short video first; with a `store` a study that was stopped goes on."""
    result = accel.sweep(space(chip, chosen), store=store, workers=workers, progress=_teller())
    rows = sorted(result.rows, key=lambda row: row["index"])
    for row in rows:
        if row["status"] != "ok":
            raise SystemExit(f"point {row['index']}: {row['status']}: {row['reason']}")
    return {point: rows[2 * n : 2 * n + 2] for n, point in enumerate(chosen)}


def _teller() -> Callable[[Any], None]:
    """Return what prints progress, once for every point that is done."""
    last = -1

    def tell(progress: Any) -> None:
        nonlocal last
        if progress.done != last:
            last = progress.done
            print(f"{last} of {progress.total}", file=sys.stderr, flush=True)

    return tell


def outcome(chip: ChipSpec, share: Fraction, point: Point, rows: list[Any] | None) -> dict[str, Any]:
    """Return one line of results.csv: the closed form, what was simulated, and their difference."""
    curve, strips = point.curve, point.strips
    P, frame = curve.problem(1), curve.frame
    row: dict[str, Any] = {
        "curve": curve.name, "sensor": curve.sensor, "layer": curve.layer, "label": curve.label,
        "cameras": P.cameras, "channels": P.c, "window": P.kt, "sram_kib": point.size // 1024,
        "packed_set_bytes": frame.frame_set_bytes, "held_set_bytes": P.operands["x"].bytes // P.frames,
    }  # fmt: skip
    if strips is None or rows is None:
        return row | {"status": "refused"}
    short, long = form.steady(strips)
    guess = form.predicted(chip, curve, strips)
    cycles = Fraction(rows[1]["cycles"] - rows[0]["cycles"], long - short)
    sent = Fraction(rows[1]["memory_bytes"] - rows[0]["memory_bytes"], long - short)
    flops = Fraction(rows[1]["flops"] - rows[0]["flops"], long - short)
    told = guess["fetched_bytes"] + guess["refetched_bytes"] + guess["stored_bytes"]
    return row | {
        "status": "ok", "kept": strips.kept, "slots": strips.slots, "rows": strips.high, "nodes": strips.nodes,
        "tile": f"{strips.tall}x{strips.wide}", "block": f"{strips.tall}x{strips.span}" if strips.older else "",
        "strip_bytes": strips.ring_bytes // strips.slots if strips.slots else 0, **guess,
        "memory_bytes": int(sent), "memory_bytes_off": int(sent) - told,
        "outputs_short": short, "outputs_long": long,
        "cycles_short": rows[0]["cycles"], "cycles_long": rows[1]["cycles"], "cycles": round(float(cycles), 1),
        "utilization": round(float(flops / cycles / chip.peak_flops_per_cycle("bf16")), 4),
        "sets_per_s": round(float(chip.clock_hz / cycles), 1),
        "missed": form.missed(cycles, chip.clock_hz, frame.fps),
        "missed_in_share": form.missed(cycles, chip.clock_hz, frame.fps, share),
        "tray_missed_in_share": form.missed(
            Fraction(form.predicted(form.on_a_tray(chip), curve, strips)["predicted_cycles"]),
            chip.clock_hz, frame.fps, share,
        ),
        "same_as_kib": point.first // 1024,
    }  # fmt: skip


def knees(chip: ChipSpec, curves: list[form.Curve], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line of knees.csv a curve: SRAM of the knee as predicted and as simulated, and what lies below it."""
    found = []
    for curve in curves:
        mine = [r for r in rows if (r["curve"], r["label"]) == (curve.name, curve.label) and r["status"] == "ok"]
        low, top, guess = mine[0], mine[-1], form.knee_bytes(chip, curve) // 1024
        level = [n for n, r in enumerate(mine) if r["cycles"] > (1 + LEVEL) * min(o["cycles"] for o in mine)]
        bend = level[-1] + 1 if level and level[-1] + 1 < len(mine) else 0  # 0: it is flat
        below, reached = (mine[bend - 1], mine[bend]) if bend else (None, None)
        found.append({
            "curve": curve.name, "label": curve.label, "window": curve.window,
            "window_fits_kib": form.fits_bytes(chip, curve) // 1024,
            "knee_predicted_kib": guess, "knee_simulated_kib": reached["sram_kib"] if reached else "",
            "still_below_kib": below["sram_kib"] if below else "",
            "difference_kib": reached["sram_kib"] - guess if reached else "",
            "utilization": top["utilization"], "utilization_64_kib": low["utilization"],
            "utilization_below": below["utilization"] if below else "",
            "traffic_ratio": round(low["memory_bytes"] / top["memory_bytes"], 2),
            "cycles_ratio": round(low["cycles"] / top["cycles"], 2),
            "halo_share": round(top["halo_bytes"] / top["fetched_bytes"], 3),
            "missed_in_share": top["missed_in_share"], "missed_in_share_64_kib": low["missed_in_share"],
            "tray_missed_in_share": top["tray_missed_in_share"],
            "tray_missed_in_share_64_kib": low["tray_missed_in_share"],
            "seconds_of_video": form.SECONDS,
        })  # fmt: skip
    return found


def guesses(chip: ChipSpec, curves: list[form.Curve]) -> list[dict[str, Any]]:
    """Return predicted.csv: the closed form of the first curves, eight sizes of SRAM an octave, nothing simulated."""
    found = []
    for curve in (curve for curve in curves if curve.name == "windows"):
        flops = curve.problem(1).flops
        for step in range(49):
            size = round(65536 * 2 ** (step / 8) / form.MACRO) * form.MACRO
            strips = form.cut(chip, curve, size)
            if strips is not None:
                cycles = form.predicted(chip, curve, strips)["predicted_cycles"]
                used = flops / cycles / chip.peak_flops_per_cycle("bf16")
                moved = strips.fetched_bytes + strips.refetched_bytes + strips.stored_bytes
                found.append({
                    "label": curve.label, "window": curve.window, "sram_kib": size // 1024, "kept": strips.kept,
                    "memory_bytes": moved, "predicted_cycles": cycles, "utilization": round(used, 4),
                })  # fmt: skip
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, one column for each key of any of them."""
    names = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check(chip: ChipSpec, share: Fraction, everything: list[Point], count: int, seed: int) -> int:
    """Simulate some rows again and return how many of them differ from results.csv, to the cycle and byte."""
    known = {(row["curve"], row["label"], row["sram_kib"]): row for row in figures.rows_of(HERE / "results.csv")}
    once = [point for point in everything if point.strips is not None and point.size == point.first]
    chosen = random.Random(seed).sample(sorted(once, key=_cost)[: max(count, len(once) // 2)], count)
    wrong = 0
    for point, rows in simulate(chip, chosen, None, 1).items():
        new = outcome(chip, share, point, rows)
        old = known[new["curve"], new["label"], str(new["sram_kib"])]
        differ = [name for name in CHECKED if str(new[name]) != old[name]]
        wrong += bool(differ)
        print(f"{new['label']}, {new['sram_kib']} KiB: {'differs in ' + ', '.join(differ) if differ else 'equal'}")
    return wrong


def _cost(point: Point) -> tuple[int, int]:
    assert point.strips is not None
    return point.curve.problem(1).macs, -point.size


def main() -> int:
    """Run the study, or check it."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--check", type=int, nargs="?", const=4, metavar="ROWS", help="compare some rows, write nothing")
    asked.add_argument("--seed", type=int, default=0, help="which rows --check takes")
    asked.add_argument("--store", type=Path, help="file that keeps what is simulated, to go on when stopped")
    asked.add_argument("--workers", type=int, help="processes (default: one a processor)")
    given = asked.parse_args()
    chip, share, curves = form.study()
    everything = points(chip, curves)
    if given.check is not None:
        return min(1, check(chip, share, everything, given.check, given.seed))
    once = [point for point in everything if point.strips is not None and point.size == point.first]
    timed = simulate(chip, once, given.store, given.workers)
    rows = [outcome(chip, share, p, timed.get(p._replace(size=p.first))) for p in everything]
    write(HERE / "results.csv", rows)
    write(HERE / "knees.csv", knees(chip, curves, rows))
    write(HERE / "predicted.csv", guesses(chip, curves))
    figures.draw(HERE)
    page.fill(HERE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
