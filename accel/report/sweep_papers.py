"""Figures of a sweep for papers: drawn by matplotlib as PNG or SVG, without a display and without a clock."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.report.figure import CAUSES, Swatch
from accel.report.papers import HATCHES, MACHINES, SETTINGS, WIDTH
from accel.report.sheet import shortened
from accel.report.sweep_results import Axis, Measure, Results, measure_text
from accel.report.sweep_sheets import direction
from accel.report.sweep_views import Cells, Choice, axis_of, cells, front, ledger, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["FIGURES", "pictures"]

LARGE = 40.0  # ratio of most to least above which a scale is logarithmic, as on the page
LABELLED = 120  # cells up to which each shows its value
MARKS = "os^Xp*v"
BEATEN = "#8a8f96"
LOST = "#5b6470"
# Marks of cells without figures, as on the page: by status, what the legend says and the mark.
FATES: dict[str, tuple[str, Any]] = {
    "illegal": ("illegal", "x"),
    "timeout": ("timed out", [(-1, -1), (1, -1), (-1, 1), (1, 1), (-1, -1)]),  # an hourglass
    "memory": ("out of memory", "s"),
    "failed": ("failed", (6, 2, 0)),  # an asterisk
}


def pictures(results: Results, choice: Choice, kind: str, names: Sequence[str]) -> dict[str, bytes]:
    """Return the named figures as the bytes of files of `kind` ("png" or "svg"), by name without the ending.

    A figure that the rows cannot fill (one axis for a heatmap, no point with figures) is left out.
    """
    import matplotlib as mpl

    made: dict[str, bytes] = {}
    with mpl.rc_context(SETTINGS):
        for name in names:
            drawn = _DRAW[name](results, choice)
            if drawn is not None:
                canvas, said = drawn
                made[name] = _saved(canvas, results.title, said, kind)
    return made


def _saved(canvas: Canvas, title: str, said: str, kind: str) -> bytes:
    out = io.BytesIO()
    words: dict[str, Any] = {"Title": _plain(title), "Description": _plain(said)}
    if kind == "svg":
        words["Date"] = None
    canvas.savefig(out, format=kind, bbox_inches="tight", pad_inches=0.06, metadata=words)
    return out.getvalue()


def _plain(text: str) -> str:
    """Return text that a file of XML or a PNG's comment can hold."""
    return "".join(char if char.isprintable() else " " for char in text).encode("latin-1", "replace").decode("latin-1")


def _canvas(height: float) -> tuple[Canvas, Axes]:
    from matplotlib.figure import Figure as NewCanvas

    canvas = NewCanvas(figsize=(WIDTH, height), layout="constrained")
    return canvas, canvas.subplots()


def _label(text: str, most: int = 60) -> str:
    return shortened(_plain(text), most)


def _legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Set a legend beside the axes; the names come last, because one may begin with an underscore."""
    legend = axes.legend(
        handles, [str(index) for index in range(len(names))], frameon=False, loc="upper left",
        bbox_to_anchor=(1.01, 1.0), fontsize=7,
    )  # fmt: skip
    for entry, name in zip(legend.get_texts(), names, strict=True):
        entry.set_text(_label(name, 34))


def _codes(axis: Any, of: Axis, most: int) -> None:
    """Name places by the values of an axis, every k-th where there is no room."""
    every = -(-len(of.order) // most)
    at = range(0, len(of.order), every)
    axis.set_ticks(list(at), labels=[_label(of.texts[of.order[place]], 22) for place in at])


def _numbers(axis: Any, measure: Measure, values: np.ndarray) -> None:
    """Write a scale in the unit of its measure."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low > 0 and high / low > LARGE:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log", base=2 if measure.unit == "B" else 10)
        axis.set_minor_formatter(NullFormatter())
    elif measure.unit == "B" and high >= 4096:
        scale = 1024.0 ** int(math.log(high, 1024))
        step = (high - low or high) / 5 / scale
        tens = 10.0 ** math.floor(math.log10(step))
        axis.set_major_locator(
            MultipleLocator(scale * next(tens * nice for nice in (1, 2, 5, 10) if tens * nice >= step))
        )
    axis.set_major_formatter(FuncFormatter(lambda value, _: measure_text(measure, value)))


def _held(results: Results, choice: Choice, shown: Sequence[str | None]) -> str:
    told = [f"{axis.name} = {axis.texts[choice.fixed[axis.name]]}" for axis in results.varied
            if axis.name in choice.fixed and axis.name not in shown]  # fmt: skip
    free = [axis.name for axis in results.varied if axis.name not in choice.fixed and axis.name not in shown]
    return "; ".join((*told, *([f"best over {', '.join(free)}"] if free else [])))


def _heat(results: Results, choice: Choice) -> tuple[Canvas, str] | None:
    value = results.measure(choice.value) if choice.value else None
    if value is None or choice.x is None or choice.y is None:
        return None
    made = cells(results, choice.x, choice.y, value, choice.fixed)
    if not (made.rows >= 0).any():
        return None
    shown = np.where(made.rows >= 0, results.numbers(value.name)[made.rows], np.nan)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    rows, cols = shown.shape
    canvas, axes = _canvas(max(1.6, min(8.0, 0.34 * rows + 1.0)))
    large = low > 0 and high / low > LARGE
    drawn = np.log10(shown) if large else shown
    image = axes.imshow(np.ma.masked_invalid(drawn), cmap="cividis" if value.more else "cividis_r", aspect="auto",
                        origin="lower", interpolation="nearest")  # fmt: skip
    _codes(axes.xaxis, made.x, 12)
    _codes(axes.yaxis, made.y, 24)
    if any(not axis.numeric for axis in (made.x,)):
        axes.tick_params(axis="x", rotation=30)
    if rows * cols <= LABELLED and cols <= 12:
        middle = (np.nanmin(drawn) + np.nanmax(drawn)) / 2
        for (row, col), number in np.ndenumerate(shown):
            if not math.isnan(number):
                dark = (drawn[row, col] < middle) == bool(value.more)
                axes.text(col, row, measure_text(value, float(number)), ha="center", va="center", fontsize=6.5,
                          color="w" if dark else "k")  # fmt: skip
    best = np.unravel_index(np.nanargmax(shown) if value.more else np.nanargmin(shown), shown.shape)
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((best[1] - 0.48, best[0] - 0.46), 0.96, 0.92, fill=False, edgecolor="#d55e00", linewidth=2)
    )
    marked = _mark_lost(canvas, axes, made)
    held = _held(results, choice, (choice.x, choice.y))
    axes.set(xlabel=_label(choice.x), ylabel=_label(choice.y))
    axes.set_title(_label(held, 110), fontsize=7)
    bar = canvas.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label(_label(value.label, 40))
    bar.ax.yaxis.set_major_formatter(lambda number, _: measure_text(value, 10**number if large else number))
    bar.ax.yaxis.set_major_locator(_few())
    bar.outline.set_visible(False)
    said = f"{value.label} over {choice.x} and {choice.y}, {held}; the best cell is outlined"
    return canvas, "; ".join((said, *(f"{count} cells {text}" for text, count in marked.items())))


def _mark_lost(canvas: Canvas, axes: Axes, made: Cells) -> dict[str, int]:
    """Mark the cells whose points have no figures by what became of them, and return how many cells have each mark."""
    marked: dict[str, int] = {}
    handles = []
    for status in (*FATES, *sorted(set(made.lost.ravel()) - {"", *FATES})):
        at_y, at_x = np.nonzero(made.lost == status)
        if len(at_x):
            text, mark = FATES.get(status, (_label(status, 20), "D"))
            handles += axes.plot(at_x, at_y, linestyle="none", marker=mark, markersize=5, markerfacecolor="none",
                                 markeredgecolor=LOST, markeredgewidth=1.0, clip_on=True)  # fmt: skip
            marked[text] = len(at_x)
    if handles:
        canvas.legend(handles, list(marked), loc="outside lower left", ncols=len(handles), frameon=False, fontsize=7)
    return marked


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6)


def _lines(results: Results, choice: Choice) -> tuple[Canvas, str] | None:
    value = results.measure(choice.value) if choice.value else None
    if value is None or choice.line_x is None:
        return None
    across = axis_of(results, choice.line_x)
    made = lines(results, choice.line_x, choice.series, value, choice.fixed)
    if not any(line.rows for line in made):
        return None
    canvas, axes = _canvas(2.9)
    handles, names, told, bend = [], [], [], None
    rank = {code: place for place, code in enumerate(across.order)}
    values = results.numbers(value.name)
    series = axis_of(results, choice.series) if choice.series else None
    for index, line in enumerate(made):
        x = [across.values[across.codes[row]] if across.numeric else rank[int(across.codes[row])] for row in line.rows]
        (handle,) = axes.plot(x, values[list(line.rows)], color=MACHINES[index % len(MACHINES)],
                              marker=MARKS[index % len(MARKS)], markersize=4, linewidth=1.2)  # fmt: skip
        name = value.label if series is None or line.series is None else f"{series.name} = {series.texts[line.series]}"
        handles.append(handle)
        names.append(name)
        if line.knee is not None:
            (mark,) = axes.plot([line.knee.x], [line.knee.y], "D", markersize=9, markerfacecolor="none", color="k",
                                linewidth=1.2)  # fmt: skip
            at = across.texts[across.codes[line.rows[line.knee.index]]]
            axes.annotate(f"knee {_label(at, 16)}", (line.knee.x, line.knee.y), xytext=(0, -13 if value.more else 8),
                          textcoords="offset points", ha="center", fontsize=6.5)  # fmt: skip
            told.append(f"{name}: knee at {at}")
            bend = mark
    if across.numeric:
        if across.logarithmic:
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
        ticks = [across.values[code] for code in across.order]
        every = -(-len(ticks) // 8)
        texts = [across.texts[code] for code in across.order]
        axes.set_xticks(ticks[::every], labels=[_label(text, 16) for text in texts[::every]])
    else:
        _codes(axes.xaxis, across, 10)
        axes.tick_params(axis="x", rotation=30)
    _numbers(axes.yaxis, value, values[[row for line in made for row in line.rows]])
    held = _held(results, choice, (choice.line_x, choice.series))
    axes.set(xlabel=_label(choice.line_x), ylabel=_label(value.label, 40))
    axes.set_title(_label(held, 100), fontsize=7)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#bbbbbb")
    if len(handles) > 1:
        _legend(axes, [*handles, *([bend] if bend else [])], [*names, *(["knee"] if bend else [])])
    return canvas, f"{value.label} along {choice.line_x}, {held}; {'; '.join(told) or 'no knee'}"


def _ledger(results: Results, choice: Choice) -> tuple[Canvas, str] | None:
    from matplotlib.patches import Patch

    value = results.measure(choice.value) if choice.value else None
    if value is None or choice.line_x is None or not results.causes:
        return None
    made = ledger(results, choice.line_x, value, choice.fixed)
    if not made.rows:
        return None
    across = axis_of(results, choice.line_x)
    rank = {code: place for place, code in enumerate(across.order)}
    at = [rank[int(across.codes[row])] for row in made.rows]
    shares = 100 * np.array(made.shares)
    canvas, axes = _canvas(2.9)
    base = np.zeros(len(at))
    handles, names = [], []
    for place, cause in enumerate(made.causes):
        if not (shares[:, place] > 0).any():
            continue
        swatch = CAUSES.get(cause, Swatch(cause, "#777777"))
        look: dict[str, Any] = {
            "facecolor": swatch.colour, "hatch": HATCHES[swatch.hatch],
            "edgecolor": "#00000066" if swatch.hatch else "w", "linewidth": 0.4,
        }  # fmt: skip
        axes.bar(at, shares[:, place], bottom=base, width=0.82, **look)
        base = base + shares[:, place]
        handles.append(Patch(**look))
        names.append(swatch.label)
    _codes(axes.xaxis, across, 10)
    if not across.numeric:
        axes.tick_params(axis="x", rotation=30)
    held = _held(results, choice, (choice.line_x,))
    axes.set(xlabel=_label(choice.line_x), ylabel="share of node-cycles, %", ylim=(0, 100))
    axes.set_title(_label(f"{direction(value)}; {held}" if held else direction(value), 100), fontsize=7)
    _legend(axes, handles, names)
    return canvas, f"where the node-cycles go along {choice.line_x}, {held}"


def _front(results: Results, choice: Choice) -> tuple[Canvas, str] | None:
    if choice.front is None:
        return None
    x, y = (results.objective if results.objective and results.objective.name == name else results.measure(name)
            for name in choice.front)  # fmt: skip
    if x is None or y is None:
        return None
    made = front(results, x, y, choice.fixed)
    if not len(made.rows):
        return None
    across, up = results.numbers(x.name), results.numbers(y.name)
    canvas, axes = _canvas(3.2)
    (beaten,) = axes.plot(
        across[made.rows], up[made.rows], ".", color=BEATEN, markersize=4, alpha=0.7, linestyle="none"
    )
    (best,) = axes.plot(across[made.best], up[made.best], "D-", color="#0072b2", markersize=5, linewidth=1.2,
                        drawstyle="steps-pre" if x.more else "steps-post")  # fmt: skip
    _numbers(axes.xaxis, x, across[made.rows])
    _numbers(axes.yaxis, y, up[made.rows])
    axes.set(xlabel=_label(f"{x.label} ({'more' if x.more else 'less'} is better)"),
             ylabel=_label(f"{y.label} ({'more' if y.more else 'less'} is better)", 50))  # fmt: skip
    told = ", ".join(f"{axis.name} = {axis.texts[choice.fixed[axis.name]]}" for axis in results.varied
                     if axis.name in choice.fixed)  # fmt: skip
    axes.set_title(_label(told, 100), fontsize=7)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#bbbbbb")
    _legend(axes, [best, beaten], ["front", "beaten points"])
    return canvas, f"the front of {direction(x)} and {direction(y)}: {len(made.best)} of {len(made.rows)} points"


_DRAW: dict[str, Callable[[Results, Choice], tuple[Canvas, str] | None]] = {
    "heat": _heat, "lines": _lines, "ledger": _ledger, "front": _front,
}  # fmt: skip
FIGURES = tuple(_DRAW)
