"""Draw the figures of the study from its tables: SVG, without a display or a clock, the same bytes every time."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = "osD^vP*"
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "accel", "font.size": 9.0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "text.parse_math": False,
}  # fmt: skip
TICKS = (64, 128, 256, 512, 1024, 2048, 4096)

Rows = list[dict[str, str]]


def draw(folder: Path) -> None:
    """Write every figure of the study into `folder`, from results.csv and predicted.csv there."""
    import matplotlib as mpl

    rows = [row for row in rows_of(folder / "results.csv") if row["status"] == "ok"]
    closed = rows_of(folder / "predicted.csv")
    with mpl.rc_context(SETTINGS):
        for name, one in (("windows", _windows), ("sensors", _sensors), ("layers", _layers), ("missed", _missed)):
            canvas = one(rows, closed)
            meta = {"Date": None, "Title": name}
            canvas.savefig(folder / f"{name}.svg", format="svg", bbox_inches="tight", facecolor="w", metadata=meta)


def rows_of(path: Path) -> Rows:
    """Return the rows of a CSV as text."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _canvas(panels: int, height: float = 3.1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(4.1 * panels, height), layout="constrained")
    axes = canvas.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.set_xscale("log", base=2)
        one.set_xticks(TICKS, labels=[str(tick) for tick in TICKS])
        one.set_xlabel("SRAM a node, KiB")
    return canvas, axes


def _line(axes: Any, rows: Rows, value: Callable[..., float], name: str, n: int) -> None:
    xs = [int(row["sram_kib"]) for row in rows]
    axes.plot(xs, [value(row) for row in rows], MARKS[n] + "-", ms=3.5, lw=1.3, color=COLOURS[n], label=name)


def _by_label(rows: Rows, *curves: str) -> list[Rows]:
    found: dict[tuple[str, str], Rows] = {}
    for row in rows:
        if row["curve"] in curves:
            found.setdefault((row["curve"], row["label"]), []).append(row)
    return list(found.values())


def _percent(row: dict[str, str]) -> float:
    return 100 * float(row["utilization"])


def _megabytes(row: dict[str, str]) -> float:
    return float(row["memory_bytes"]) / 1e6


def _windows(rows: Rows, closed: Rows) -> Any:
    """Utilization, traffic and frames kept for eight cameras, by window: simulated marks on lines in closed form."""
    canvas, axes = _canvas(3)
    values = (_percent, _megabytes, lambda row: float(row["kept"]))
    for n, mine in enumerate(sorted(_by_label(rows, "windows"), key=lambda mine: int(mine[0]["window"]))):
        line = [row for row in closed if row["label"] == mine[0]["label"]]
        for one, value in zip(axes, values, strict=True):
            xs = [int(row["sram_kib"]) for row in line]
            one.plot(xs, [value(row) for row in line], "-", lw=1.1, color=COLOURS[n], alpha=0.7, drawstyle="steps-post")
            xs = [int(row["sram_kib"]) for row in mine]
            name = f"{mine[0]['window']} frame{'s' if n else ''}"
            one.plot(xs, [value(row) for row in mine], MARKS[n], ms=4, color=COLOURS[n], label=name)
    names = ("utilization of the chip, %", "memory traffic a frame set, MB", "frames kept")
    for one, name in zip(axes, names, strict=True):
        one.set_ylabel(name)
        one.set_ylim(bottom=0)
    axes[0].set_title("marks: simulated; lines: closed form", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)
    return canvas


def _sensors(rows: Rows, closed: Rows) -> Any:
    """Utilization and traffic by camera set, window of 4, and the range image."""
    canvas, (left, right) = _canvas(2)
    four = [row for row in rows if row["window"] == "4"]
    for n, mine in enumerate(_by_label(four, "windows", "cameras", "sensors", "colour")):
        name = mine[0]["label"].split(",")[0]
        _line(left, mine, _percent, name, n)
        _line(right, mine, _megabytes, name, n)
    left.set_ylabel("utilization of the chip, %")
    left.set_ylim(0)
    right.set_ylabel("memory traffic a frame set, MB")
    right.set_yscale("log")
    right.set_yticks((10, 30, 100, 300, 1000), labels=["10", "30", "100", "300", "1000"])
    right.minorticks_off()
    right.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas


def _layers(rows: Rows, closed: Rows) -> Any:
    """Utilization of other first layers, and of a range image."""
    canvas, (left, right) = _canvas(2)
    for axes, curves in ((left, ("stem", "stage")), (right, ("lidar",))):
        for n, mine in enumerate(_by_label(rows, *curves)):
            _line(axes, mine, _percent, mine[0]["label"], n)
        axes.set_ylabel("utilization of the chip, %")
        axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
        axes.legend(frameon=False, fontsize=7, loc="upper left")
    return canvas


def _missed(rows: Rows, closed: Rows) -> Any:
    """Frame sets a second that miss where a layer may use its share of the period: all memory, and a tray's share."""
    canvas, (left, right) = _canvas(2)
    mine = _by_label(rows, "windows", "sensors", "colour")
    for axes, name, title in (
        (left, "missed_in_share", "800 GB/s, simulated"), (right, "tray_missed_in_share", "107 GB/s, closed form"),
    ):  # fmt: skip
        for n, line in enumerate(one for one in mine if any(int(row["tray_missed_in_share"]) for row in one)):
            _line(axes, line, lambda row, name=name: int(row[name]) / 10, line[0]["label"], n)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("missed frame sets a second, of 36")
        axes.set_ylim(-1, 36)
    right.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return canvas
