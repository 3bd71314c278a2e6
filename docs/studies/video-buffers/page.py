"""Put the tables of the study into its page, between the marks `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from pathlib import Path

import figures

Rows = list[dict[str, str]]


def fill(folder: Path) -> None:
    """Write the tables of index.md anew from the tables beside it."""
    rows = [row for row in figures.rows_of(folder / "results.csv") if row["status"] == "ok"]
    knees = figures.rows_of(folder / "knees.csv")
    tables = {
        "answer": _answer(rows, knees), "kept": _kept(figures.rows_of(folder / "predicted.csv")), "halo": _halo(rows),
        "others": _others(rows, knees),
    }  # fmt: skip
    page = folder / "index.md"
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda found, t=table: found[1] + t + found[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"index.md has {count} places for the table {name!r}; give it one")
    page.write_text(text, encoding="utf-8")


def _table(names: list[str], lines: list[list[str]]) -> str:
    head = "| " + " | ".join(names) + " |\n|" + "---|" * len(names) + "\n"
    return head + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _ends(rows: Rows, knee: dict[str, str]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return the rows of a curve with the least SRAM, just too little for the whole window, and the most."""
    mine = [row for row in rows if (row["curve"], row["label"]) == (knee["curve"], knee["label"])]
    whole = next(n for n, row in enumerate(mine) if row["kept"] == row["window"])
    return mine[0], mine[max(0, whole - 1)], mine[-1]


def _bend(knee: dict[str, str]) -> str:
    """Return between which sizes the simulated knee lies."""
    return f"{knee['still_below_kib']} to {knee['knee_simulated_kib']}" if knee["knee_simulated_kib"] else "flat"


def _percent(row: dict[str, str]) -> str:
    return f"{100 * float(row['utilization']):.1f} %"


def _answer(rows: Rows, knees: Rows) -> str:
    lines = []
    for knee in sorted((k for k in knees if k["curve"] == "windows"), key=lambda k: int(k["window"])):
        low, below, top = _ends(rows, knee)
        lines.append([
            knee["window"], f"**{knee['window_fits_kib']}**", knee["knee_predicted_kib"], _bend(knee),
            _percent(top), f"{_percent(below)} ({below['sram_kib']} KiB)", _percent(low),
            f"{float(top['memory_bytes']) / 1e6:.0f}", f"{float(low['memory_bytes']) / 1e6:.0f}",
            f"{float(knee['traffic_ratio']):.1f} x",
        ])  # fmt: skip
    return _table(
        ["window, frames", "SRAM from which it stays, KiB", "closed form, KiB", "simulated knee, KiB",
         "utilization above", "just below", "at 64 KiB", "MB a frame set above", "at 64 KiB", "traffic"], lines,
    )  # fmt: skip


def _kept(closed: Rows) -> str:
    windows = sorted({int(row["window"]) for row in closed})
    cells = {(int(row["window"]), int(row["sram_kib"])): row["kept"] for row in closed}
    lines = [[str(window), *(cells[window, size] for size in figures.TICKS)] for window in windows]
    return _table(["window", *(f"{size} KiB" for size in figures.TICKS)], lines)


def _others(rows: Rows, knees: Rows) -> str:
    lines = []
    for knee in knees:
        low, below, top = _ends(rows, knee)
        lines.append([
            knee["label"], knee["window_fits_kib"], knee["knee_predicted_kib"], _bend(knee),
            _percent(top), _percent(below), f"{_percent(low)} ({low['sram_kib']} KiB)",
            f"{float(knee['traffic_ratio']):.1f} x", f"{int(top['missed_in_share']) / 10:.1f}",
            f"{int(low['missed_in_share']) / 10:.1f}",
            f"{int(top['tray_missed_in_share']) / 10:.1f}", f"{int(low['tray_missed_in_share']) / 10:.1f}",
        ])  # fmt: skip
    return _table(
        ["sensors, layer", "window stays from, KiB", "closed form, KiB", "simulated knee, KiB", "utilization above",
         "just below", "at least SRAM", "traffic", "missed a second above", "at least SRAM",
         "missed on a tray above", "at least SRAM"], lines,
    )  # fmt: skip


def _halo(rows: Rows) -> str:
    lines = []
    for row in (r for r in rows if r["window"] == "4" and r["layer"] == "fast" and r["sram_kib"] in ("64", "4096")):
        sent = int(row["refetched_bytes"])
        ideal = (int(row["window"]) - int(row["kept"])) * int(row["held_set_bytes"])
        lines.append([
            row["label"], row["sram_kib"], row["kept"], f"{int(row['halo_bytes']) / 1e6:.1f}",
            f"{100 * int(row['halo_bytes']) / int(row['held_set_bytes']):.0f} %",
            f"{(sent - ideal) / 1e6:.1f}", f"{100 * (sent - ideal) / ideal:.0f} %" if ideal else "",
        ])  # fmt: skip
    return _table(
        ["sensors, layer", "SRAM, KiB", "frames kept", "between nodes, MB", "of a frame set", "again from memory, MB",
         "of what is refetched"], lines,
    )  # fmt: skip
