"""The rows of the study's tables: what was simulated next to what the closed form says."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path
from typing import Any

import closed_form as form
import search

from accel.hardware import ChipSpec

Rows = list[dict[str, Any]]


def results(chip: ChipSpec, share: Fraction, found: search.Found) -> Rows:
    """Return results.csv: every size that was simulated, curve by curve."""
    rows = []
    for curve, sizes in found.sizes.items():
        first: dict[Any, int] = {}
        for size in sorted(sizes):
            strips = form.cut(chip, curve, size)
            rows.append(outcome(chip, share, found, search.Program(curve, strips, size))
                        | {"same_as_kib": first.setdefault(strips, size) // 1024})  # fmt: skip
    return rows


def outcome(chip: ChipSpec, share: Fraction, found: search.Found, program: search.Program) -> dict[str, Any]:
    """Return one row: the closed form, what was simulated, and their difference."""
    curve, strips, size = program
    P, frame = curve.problem(1), curve.frame
    short, long = form.steady(strips)
    rows = found.timed[curve, strips]
    cycles = found.cycles(curve, strips)
    sent = Fraction(rows[1]["memory_bytes"] - rows[0]["memory_bytes"], long - short)
    flops = Fraction(rows[1]["flops"] - rows[0]["flops"], long - short)
    guess = form.predicted(chip, curve, strips)
    told = guess["fetched_bytes"] + guess["refetched_bytes"] + guess["stored_bytes"]
    tray = Fraction(form.predicted(form.on_a_tray(chip), curve, strips)["predicted_cycles"])
    return {
        "curve": curve.name, "sensor": curve.sensor, "layer": curve.layer, "label": curve.label,
        "cameras": P.cameras, "channels": P.c, "window": P.kt, "sram_kib": size // 1024,
        "packed_set_bytes": frame.frame_set_bytes, "held_set_bytes": P.operands["x"].bytes // P.frames,
        "kept": strips.kept, "slots": strips.slots, "rows": strips.high, "nodes": strips.nodes,
        "tile": f"{strips.tall}x{strips.wide}", "block": f"{strips.tall}x{strips.span}" if strips.older else "",
        "strip_bytes": strips.ring_bytes // strips.slots if strips.slots else 0, **guess,
        "memory_bytes": int(sent), "memory_bytes_off": int(sent) - told,
        "outputs_short": short, "outputs_long": long,
        "cycles_short": rows[0]["cycles"], "cycles_long": rows[1]["cycles"], "cycles": round(float(cycles), 1),
        "utilization": round(float(flops / cycles / chip.peak_flops_per_cycle("bf16")), 4),
        "sets_per_s": round(float(chip.clock_hz / cycles), 1),
        "missed": form.missed(cycles, chip.clock_hz, frame.fps),
        "missed_in_share": form.missed(cycles, chip.clock_hz, frame.fps, share),
        "tray_missed_in_share": form.missed(tray, chip.clock_hz, frame.fps, share),
    }  # fmt: skip


def knees(chip: ChipSpec, found: search.Found, rows: Rows) -> Rows:
    """Return knees.csv: of every curve the knee in closed form and as simulated, and what lies above and below it."""
    told = []
    for curve in found.sizes:
        mine = [row for row in rows if (row["curve"], row["label"]) == (curve.name, curve.label)]
        gap, guess = search.bracket(chip, found, curve), form.knee_bytes(chip, curve) // 1024
        fits = form.fits_bytes(chip, curve) // 1024
        low, top = mine[0], mine[-1]
        at = next((row for row in mine if gap is not None and row["sram_kib"] == gap.knee // 1024), top)
        best = min(row["cycles"] for row in mine)
        bent = gap is not None and gap.last == max(found.sizes[curve])  # the rest is within 3 % too
        less = next((row for row in mine if row["sram_kib"] == fits - form.MACRO // 1024), None)
        formula = next(row for row in mine if row["sram_kib"] >= guess)
        told.append({
            "curve": curve.name, "sensor": curve.sensor, "label": curve.label, "cameras": low["cameras"],
            "window": curve.window, "window_fits_kib": fits, "knee_predicted_kib": guess,
            "knee_simulated_kib": at["sram_kib"] if bent else "",
            "difference_kib": at["sram_kib"] - guess if gap else "",
            "best_from_kib": gap.knee // 1024 if gap else "", "best_to_kib": gap.last // 1024 if gap else "",
            "cycles_at_closed_form": round(formula["cycles"] / best, 3),
            "cycles_at_most": round(top["cycles"] / best, 3),
            "kept_at_knee": at["kept"] if gap else "", "utilization": at["utilization"] if gap else "",
            "utilization_window_less": less["utilization"] if less else "",
            "low_kib": low["sram_kib"], "utilization_low": low["utilization"],
            "traffic_ratio": round(low["memory_bytes"] / top["memory_bytes"], 2),
            "cycles_ratio": round(low["cycles"] / top["cycles"], 2),
            "halo_share": round(top["halo_bytes"] / top["fetched_bytes"], 3),
            "missed_in_share": top["missed_in_share"], "missed_in_share_low": low["missed_in_share"],
            "tray_missed_in_share": top["tray_missed_in_share"],
            "tray_missed_in_share_low": low["tray_missed_in_share"],
            "seconds_of_video": form.SECONDS,
        })  # fmt: skip
    return told


def sets(chip: ChipSpec, knees_: Rows) -> Rows:
    """Return sets.csv: SRAM that every camera set and window needs, and what it has on the chip as it is."""
    simulated = {row["label"]: row for row in knees_}
    found = []
    for curve in form.closed():
        P = curve.problem(1)
        known = simulated.get(curve.label)
        told = known and (
            known["knee_simulated_kib"] or (f"{known['best_from_kib']}*" if known["best_from_kib"] else "flat")
        )
        fits = form.fits_bytes(chip, curve)
        whole = form.cut(chip, curve, fits)
        row: dict[str, Any] = {
            "sensor": curve.sensor, "label": curve.label, "width": P.w, "height": P.h, "cameras": P.cameras,
            "window": P.kt, "window_fits_kib": fits // 1024 if whole and not whole.older else "",
            "knee_predicted_kib": form.knee_bytes(chip, curve) // 1024,
            "knee_simulated_kib": told or "",
            "difference_kib": known["difference_kib"] if known else "",
        }  # fmt: skip
        for name, size in (("", form.full_bytes(chip, curve)), ("_on_chip", chip.node.sram_bytes)):
            strips = form.cut(chip, curve, size)
            assert strips is not None
            row |= {f"kept{name}": strips.kept} | _closed(chip, curve, strips, name)
        found.append(row)
    return found


def guesses(chip: ChipSpec, curves: list[form.Curve]) -> Rows:
    """Return predicted.csv: the closed form of eight cameras, eight sizes of SRAM an octave, nothing simulated."""
    found = []
    for curve in (curve for curve in curves if curve.name in ("windows", "sensors")):
        for step in range(57):
            size = round(65536 * 2 ** (step / 8) / form.MACRO) * form.MACRO
            strips = form.cut(chip, curve, size)
            if strips is not None:
                found.append({
                    "sensor": curve.sensor, "label": curve.label, "window": curve.window, "sram_kib": size // 1024,
                    "kept": strips.kept, **_closed(chip, curve, strips, ""),
                })  # fmt: skip
    return found


def _closed(chip: ChipSpec, curve: form.Curve, strips: Any, name: str) -> dict[str, Any]:
    cycles = form.predicted(chip, curve, strips)["predicted_cycles"]
    used = curve.problem(1).flops / cycles / chip.peak_flops_per_cycle("bf16")
    moved = strips.fetched_bytes + strips.refetched_bytes + strips.stored_bytes
    return {f"memory_bytes{name}": moved, f"predicted_cycles{name}": cycles, f"utilization{name}": round(used, 4)}


def write(path: Path, rows: Rows) -> None:
    """Write rows as CSV, one column for each key of the first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compare(path: Path, rows: Rows) -> list[str]:
    """Return what differs between a CSV and new rows, a line for every row: row by row, and column by column."""
    old, new = read(path), [{name: str(value) for name, value in row.items()} for row in rows]
    told = [f"{path.name}: {len(old)} rows are kept, {len(new)} are new"] if len(old) != len(new) else []
    for number, (one, other) in enumerate(zip(old, new, strict=False), 2):
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        if names:
            what = ", ".join(f"{name} {one.get(name)} -> {other.get(name)}" for name in names)
            told.append(f"{path.name}, line {number} ({other.get('label') or other.get('layer')}): {what}")
    return told
