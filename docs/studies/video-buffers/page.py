"""Put the tables of the study into its page, between the marks `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from pathlib import Path

import closed_form as form
import figures
import tables

Row = dict[str, str]
Rows = list[Row]
STEP = form.MACRO // 1024


def fill(folder: Path) -> None:
    """Write the tables of index.md anew from the tables beside it."""
    data = {name: tables.read(folder / f"{name}.csv") for name in ("results", "predicted", "knees", "sets", "backbone")}
    written = {
        "answer": _answer(data), "sets": _sets(data["sets"]), "chip": _chip(data["sets"]), "kept": _kept(data),
        "halo": _halo(data["results"]), "knees": _knees(data), "others": _others(data), "backbone": _backbone(data),
    }  # fmt: skip
    page = folder / "index.md"
    text = page.read_text(encoding="utf-8")
    for name, table in written.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda found, t=table: found[1] + t + found[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"index.md has {count} places for the table {name!r}; give it one")
    page.write_text(text, encoding="utf-8")


def _table(names: list[str], lines: list[list[str]]) -> str:
    head = "| " + " | ".join(names) + " |\n|" + "---|" * len(names) + "\n"
    return head + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _of(rows: Rows, knee: Row) -> Rows:
    return [row for row in rows if (row["curve"], row["label"]) == (knee["curve"], knee["label"])]


def _percent(text: str) -> str:
    return f"{100 * float(text):.1f} %" if text else ""


def _simulated(row: Row) -> str:
    """Return the knee as simulated; * where some larger size is more than 3 % slower again."""
    return row["knee_simulated_kib"] or (f"{row['best_from_kib']}*" if row["best_from_kib"] else "flat")


def _difference(row: Row) -> str:
    return f"{int(row['difference_kib']):+d}" if row["difference_kib"] else ""


def _answer(data: dict[str, Rows]) -> str:
    lines = []
    for knee in (one for one in data["knees"] if one["curve"] == "windows"):
        mine = _of(data["results"], knee)
        low, top = mine[0], mine[-1]
        lines.append([
            knee["window"], knee["window_fits_kib"], f"**{knee['knee_predicted_kib']}**", _simulated(knee),
            _percent(knee["utilization"]),
            f"{_percent(knee['utilization_window_less'])} ({int(knee['window_fits_kib']) - STEP} KiB)",
            _percent(knee["utilization_low"]), f"{float(top['memory_bytes']) / 1e6:.0f}",
            f"{float(low['memory_bytes']) / 1e6:.0f}", f"{float(knee['traffic_ratio']):.1f} x",
        ])  # fmt: skip
    return _table(
        ["window, frames", "it stays from, KiB", "knee in closed form, KiB", "as simulated, KiB", "utilization there",
         "4 KiB before it stays", "at 64 KiB", "MB a frame set above", "at 64 KiB", "traffic"], lines,
    )  # fmt: skip


def _sets(sets: Rows) -> str:
    lines = []
    for sensor, cameras in dict.fromkeys((row["sensor"], row["cameras"]) for row in sets):
        mine = [row for row in sets if (row["sensor"], row["cameras"]) == (sensor, cameras)]
        cells = [" / ".join(filter(None, (row["knee_predicted_kib"], row["knee_simulated_kib"]))) for row in mine]
        lines.append([f"{cameras} x {figures.SENSORS[sensor]}", *cells])
    windows = list(dict.fromkeys(row["window"] for row in sets))
    return _table(["cameras", *(f"window {window}" for window in windows)], lines)


def _chip(sets: Rows) -> str:
    lines = [
        [f"8 x {figures.SENSORS[row['sensor']]}", row["window"], row["kept_on_chip"],
         f"{int(row['memory_bytes']) / 1e6:.0f}", f"{int(row['memory_bytes_on_chip']) / 1e6:.0f}",
         _percent(row["utilization"]), _percent(row["utilization_on_chip"])]
        for row in sets if row["cameras"] == "8" and row["kept_on_chip"] != row["window"]
    ]  # fmt: skip
    return _table(
        ["cameras", "window", "frames kept", "MB a frame set with the whole window", "on `d1`",
         "utilization with the whole window", "on `d1`"], lines,
    )  # fmt: skip


def _kept(data: dict[str, Rows]) -> str:
    cells = {(row["sensor"], int(row["window"]), int(row["sram_kib"])): row["kept"] for row in data["predicted"]}
    lines = [
        [f"8 x {name}", str(window), *(cells[sensor, window, size] for size in figures.TICKS)]
        for sensor, name in figures.SENSORS.items()
        for window in sorted({kt for one, kt, _ in cells if one == sensor})
    ]
    return _table(["cameras", "window", *(f"{size} KiB" for size in figures.TICKS)], lines)


def _knees(data: dict[str, Rows]) -> str:
    lines = [
        [knee["label"], knee["window_fits_kib"], knee["knee_predicted_kib"], _simulated(knee), _difference(knee),
         f"{100 * (float(knee['cycles_at_closed_form']) - 1):.1f} %", _why(knee, _of(data["results"], knee))]
        for knee in data["knees"]
    ]  # fmt: skip
    return _table(
        ["sensors, layer", "window stays from, KiB", "closed form, KiB", "simulated knee, KiB", "difference, KiB",
         "cycles at the closed form's, above the fewest", "why"], lines,
    )  # fmt: skip


def _why(knee: Row, mine: Rows) -> str:
    """Return why a simulated knee lies more than one step from its closed form, or is none for larger sizes."""
    if not knee["best_from_kib"]:
        return f"from {mine[0]['sram_kib']} KiB on within 3 % of the best"
    at = next(row for row in mine if row["sram_kib"] == knee["best_from_kib"])
    said = []
    if at["kept"] != at["window"]:
        said.append(f"{at['kept']} of {at['window']} frames are enough")
    elif int(knee["difference_kib"]) > STEP:
        told = next(row for row in mine if int(row["sram_kib"]) >= int(knee["knee_predicted_kib"]))
        less = f", {told['kept']} frames" if told["kept"] != told["window"] else ""
        over = 100 * (float(knee["cycles_at_closed_form"]) - 1)
        said.append(f"{over:.0f} % slower in tiles of {told['tile'].replace('x', ' x ')}{less}")
    elif int(knee["difference_kib"]) < -STEP:
        said.append(f"tiles of {at['tile'].replace('x', ' x ')} are enough")
    if not knee["knee_simulated_kib"]:
        said.append(f"{100 * (float(knee['cycles_at_most']) - 1):.0f} % slower with most SRAM")
    return "; ".join(said)


def _others(data: dict[str, Rows]) -> str:
    lines = []
    for knee in data["knees"]:
        low, top = (f"{int(knee[name]) / form.SECONDS:.1f}" for name in ("missed_in_share_low", "missed_in_share"))
        trays = [f"{int(knee[f'tray_missed_in_share{end}']) / form.SECONDS:.1f}" for end in ("", "_low")]
        lines.append([
            knee["label"], _percent(knee["utilization"]), _percent(knee["utilization_window_less"]),
            f"{_percent(knee['utilization_low'])} ({knee['low_kib']} KiB)", f"{float(knee['traffic_ratio']):.1f} x",
            top, low, *trays,
        ])  # fmt: skip
    return _table(
        ["sensors, layer", "utilization at the knee", "4 KiB before the window stays", "at the smallest size",
         "traffic there", "missed a second above", "at the smallest", "missed on a tray above", "at the smallest"],
        lines,
    )  # fmt: skip


def _halo(rows: Rows) -> str:
    lines = []
    for row in (one for one in rows if one["window"] == "4" and one["layer"] in ("fast", "scan")):
        mine = _of(rows, row)
        if row["sram_kib"] not in {mine[0]["sram_kib"], mine[-1]["sram_kib"]}:
            continue
        sent = int(row["refetched_bytes"])
        ideal = (int(row["window"]) - int(row["kept"])) * int(row["held_set_bytes"])
        lines.append([
            row["label"], row["sram_kib"], row["kept"], f"{int(row['halo_bytes']) / 1e6:.1f}",
            f"{100 * int(row['halo_bytes']) / int(row['held_set_bytes']):.0f} %",
            f"{(sent - ideal) / 1e6:.1f}", f"{100 * (sent - ideal) / ideal:.0f} %" if ideal else "",
        ])  # fmt: skip
    return _table(
        ["sensors, layer", "SRAM, KiB", "frames kept", "between nodes, MB", "of a frame set", "borders from memory, MB",
         "over the frames alone"], lines,
    )  # fmt: skip


def _layer_knee(row: Row, sizes: list[str]) -> str:
    if not row["best_from_kib"]:
        return "flat"
    if row["best_to_kib"] == sizes[-1]:
        return row["best_from_kib"]
    return f"none; best {row['best_from_kib']} to {row['best_to_kib']}"


def _backbone(data: dict[str, Rows]) -> str:
    sizes = [str(size) for size in form.settings()["backbone"]["sizes"]]
    lines = []
    for layer in dict.fromkeys(row["layer"] for row in data["backbone"]):
        mine = {row["sram_kib"]: row for row in data["backbone"] if row["layer"] == layer}
        one = mine[sizes[0]]
        lines.append([
            layer, one["label"], *(_percent(mine[size]["utilization"]) for size in sizes), _layer_knee(one, sizes),
            f"{_percent(one['bound_utilization'])} ({one['bound_cause']})",
            f"{int(mine[sizes[0]]['memory_bytes']) / 1e6:.0f}", f"{int(mine[sizes[-1]]['memory_bytes']) / 1e6:.0f}",
            f"{int(one['compulsory_bytes']) / 1e6:.0f}",
        ])  # fmt: skip
    return _table(
        ["layer", "images and filters", *(f"{size} KiB" for size in sizes), "simulated knee, KiB", "at most",
         f"MB at {sizes[0]} KiB", f"at {sizes[-1]} KiB", "each byte once"], lines,
    )  # fmt: skip
