"""Draw the figures of the study from its tables: SVG, without a display or a clock, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import closed_form as form
import tables

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = "osD^vP*"
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "accel", "font.size": 9.0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "text.parse_math": False,
}  # fmt: skip
TICKS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
SENSORS = {"s1280": "1280x960", "s2896": "2896x1876", "s3840": "3840x2160"}
GROUPS = {"eight cameras": ("windows", "sensors", "colour"), "one to four": ("cameras",), "range image": ("lidar",),
          "other layers": ("stem", "stage")}  # fmt: skip

Rows = list[dict[str, str]]


def draw(folder: Path) -> None:
    """Write every figure of the study into `folder`, from the tables there."""
    import matplotlib as mpl

    data = {name: tables.read(folder / f"{name}.csv") for name in ("results", "predicted", "knees", "sets", "backbone")}
    pictures = {
        "windows": _windows, "sensors": _sensors, "cameras": _cameras, "knees": _knees, "layers": _layers,
        "missed": _missed,
    }  # fmt: skip
    with mpl.rc_context(SETTINGS):
        for name, one in pictures.items():
            canvas = one(data)
            meta = {"Date": None, "Title": name}
            canvas.savefig(folder / f"{name}.svg", format="svg", bbox_inches="tight", facecolor="w", metadata=meta)


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


def _by_window(rows: Rows, sensor: str) -> list[Rows]:
    mine = [one for one in _by_label(rows, "windows", "sensors") if one[0]["sensor"] == sensor]
    return sorted(mine, key=lambda one: int(one[0]["window"]))


def _marks_on_lines(axes: Any, rows: Rows, closed: Rows, value: Callable[..., float], n: int) -> None:
    """Draw what was simulated as marks, and the closed form of the same curve as a staircase."""
    line = [row for row in closed if row["label"] == rows[0]["label"]]
    xs = [int(row["sram_kib"]) for row in line]
    axes.plot(xs, [value(row) for row in line], "-", lw=1.1, color=COLOURS[n], alpha=0.7, drawstyle="steps-post")
    xs = [int(row["sram_kib"]) for row in rows]
    name = f"{rows[0]['window']} frame{'s' if n else ''}"
    axes.plot(xs, [value(row) for row in rows], MARKS[n], ms=4, color=COLOURS[n], label=name)


def _windows(data: dict[str, Rows]) -> Any:
    """Utilization, traffic and frames kept for eight small cameras, by window."""
    canvas, axes = _canvas(3)
    values = (_percent, _megabytes, lambda row: float(row["kept"]))
    for n, mine in enumerate(_by_window(data["results"], "s1280")):
        for one, value in zip(axes, values, strict=True):
            _marks_on_lines(one, mine, data["predicted"], value, n)
    names = ("utilization of the chip, %", "memory traffic a frame set, MB", "frames kept")
    for one, name in zip(axes, names, strict=True):
        one.set_ylabel(name)
        one.set_ylim(bottom=0)
    axes[0].set_title("marks: simulated; lines: closed form", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)
    return canvas


def _label_sensors(axes: Any, titles: str, top: float, at: float) -> None:
    """Say whose utilization each panel shows, up to `top` %, and mark the SRAM of the chip, by name at `at` %."""
    for one, size in zip(axes, SENSORS.values(), strict=True):
        one.set_title(titles.format(size), fontsize=9)
        one.set_ylabel("utilization of the chip, %")
        one.set_ylim(0, top)
        one.axvline(1280, color="0.6", lw=0.8, ls=":")
    axes[2].annotate("d1", (1280, at), xytext=(3, 0), textcoords="offset points", fontsize=8, color="0.4")


def _sensors(data: dict[str, Rows]) -> Any:
    """Utilization for eight cameras of each size, by window."""
    canvas, axes = _canvas(3)
    for one, sensor in zip(axes, SENSORS, strict=True):
        for n, mine in enumerate(_by_window(data["results"], sensor)):
            _marks_on_lines(one, mine, data["predicted"], _percent, n)
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    _label_sensors(axes, "8 x {}", 85, 80)
    return canvas


def _cameras(data: dict[str, Rows]) -> Any:
    """Utilization of one to eight cameras of each size, window of 4."""
    canvas, axes = _canvas(3)
    four = [row for row in data["results"] if row["window"] == "4"]
    for one, sensor in zip(axes, SENSORS, strict=True):
        sets = [mine for mine in _by_label(four, "windows", "cameras", "sensors") if mine[0]["sensor"] == sensor]
        for n, mine in enumerate(sorted(sets, key=lambda mine: int(mine[0]["cameras"]))):
            _line(one, mine, _percent, f"{mine[0]['cameras']} camera{'s' if n else ''}", n)
    axes[0].legend(frameon=False, fontsize=8, loc="lower right")
    _label_sensors(axes, "{}, window of 4", 32, 30)
    return canvas


def _knees(data: dict[str, Rows]) -> Any:
    """SRAM of the knee as simulated over its closed form, and how far they are apart."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(8.4, 3.3), layout="constrained")
    left, right = canvas.subplots(1, 2)
    mine = [row for row in data["knees"] if row["best_from_kib"]]
    ends = [min(int(row["knee_predicted_kib"]) for row in mine), max(int(row["knee_predicted_kib"]) for row in mine)]
    left.plot(ends, ends, "-", color="0.6", lw=0.8)
    for n, (name, curves) in enumerate(GROUPS.items()):
        group = [row for row in mine if row["curve"] in curves]
        xs = [int(row["knee_predicted_kib"]) for row in group]
        left.plot(xs, [int(row["best_from_kib"]) for row in group], MARKS[n], ms=4, color=COLOURS[n], label=name)
        right.plot(xs, [int(row["difference_kib"]) for row in group], MARKS[n], ms=4, color=COLOURS[n])
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(TICKS, labels=[str(tick) for tick in TICKS])
        axes.set_xlabel("knee in closed form, KiB a node")
    left.set_yscale("log", base=2)
    left.set_yticks(TICKS, labels=[str(tick) for tick in TICKS])
    left.set_ylabel("knee as simulated, KiB")
    left.legend(frameon=False, fontsize=8)
    right.axhspan(-4, 4, color="0.85", lw=0)
    right.set_ylabel("simulated less closed form, KiB")
    return canvas


def _layers(data: dict[str, Rows]) -> Any:
    """Utilization of other first layers, of a range image, and of the first convolutions of a backbone."""
    canvas, (left, middle, right) = _canvas(3)
    for axes, curves in ((left, ("stem", "stage")), (middle, ("lidar",))):
        for n, mine in enumerate(_by_label(data["results"], *curves)):
            _line(axes, mine, _percent, mine[0]["label"], n)
    names = list(dict.fromkeys(row["layer"] for row in data["backbone"]))
    for n, name in enumerate(names):
        _line(right, [row for row in data["backbone"] if row["layer"] == name], _percent, name, n)
    for axes, title in ((left, "stems, 3x3"), (middle, "range image"), (right, "RegNet, eight cameras")):
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("utilization of the chip, %")
        axes.set_ylim(0, 1.5 * axes.get_ylim()[1])
        axes.legend(frameon=False, fontsize=7, loc="upper left")
    return canvas


def _missed(data: dict[str, Rows]) -> Any:
    """Frame sets a second that miss where a layer may use its share of the period: all memory, and a tray's share."""
    canvas, axes = _canvas(3)
    for one, sensor in zip(axes, SENSORS, strict=True):
        for n, mine in enumerate(_by_window(data["results"], sensor)):
            xs = [int(row["sram_kib"]) for row in mine]
            for name, style in (("missed_in_share", "-"), ("tray_missed_in_share", "--")):
                ys = [int(row[name]) / form.SECONDS for row in mine]
                label = f"{mine[0]['window']} frame{'s' if n else ''}" if style == "-" else None
                one.plot(xs, ys, MARKS[n] + style, ms=3.5, lw=1.2, color=COLOURS[n], label=label)
        one.set_title(f"8 x {SENSORS[sensor]}", fontsize=9)
        one.set_ylabel("missed frame sets a second, of 36")
        one.set_ylim(-1, 36)
    axes[2].legend(frameon=False, fontsize=8, title="800 GB/s (dashed: 107)", title_fontsize=8, loc=(0.03, 0.36))
    return canvas
