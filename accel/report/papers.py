"""Figures for papers: the data of a report drawn by matplotlib as PNG or SVG, without a display and without a clock."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.report import views
from accel.report.figure import CAUSES, Figure, Links, Nodes, Roofline, Spans, Stack
from accel.report.sheet import shortened
from accel.report.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["pictures"]

WIDTH = 7.0  # inches: the text width of a page
DPI = 200  # of PNG
LEAST_RANGE = 0.2  # per cent of all cycles that a colour scale spans at least, as on the page
PANELS = ("matrix_busy", "vector_busy", "sram_port_busy", "waits")  # grids of the nodes that a paper shows
MACHINES = ("#d55e00", "#0072b2", "#cc79a7", "#009e73", "#e69f00", "#56b4e9", "#8e6bbf")
DASHES = ("--", ":", "-.", (0, (8, 3)), (0, (8, 2, 2, 2)))
MARKERS = {"program": "D", "bound": "D", "measured": "o", "model": "s", "uncalibrated": "o"}
HOLLOW = ("bound", "uncalibrated")
BOX = {"facecolor": "w", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}  # behind a number on a hatch
HATCHES = {"": "", "/": "////", "\\": "\\\\\\\\", "x": "xxxx", "-": "----", "|": "||||", ".": "...."}
# Text stays text in SVG; no date and no random identifiers, so that the same report gives the same bytes.
SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "accel", "font.size": 8.0, "hatch.linewidth": 0.4, "figure.dpi": DPI,
    "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False,  # a dollar sign is no formula
}  # fmt: skip


def pictures(subjects: Sequence[Subject], kind: str) -> dict[str, bytes]:
    """Return every figure as the bytes of a file of `kind` ("png" or "svg"), by file name.

    Several subjects are numbered; a figure with several views gives one file each.
    """
    import matplotlib as mpl

    made: dict[str, bytes] = {}
    with mpl.rc_context(SETTINGS):
        for name, figure in _named(subjects):
            for index, canvas in enumerate(_DRAW[figure.kind](figure)):
                made[f"{name}{f'-{index + 1}' if index else ''}.{kind}"] = _saved(canvas, figure, kind)
    return made


def _named(subjects: Sequence[Subject]) -> Iterator[tuple[str, Figure]]:
    if len(subjects) > 1:
        for figure in (views.ledgers(subjects), views.rooflines(subjects)):
            if figure is not None:
                yield figure.name, figure
    for index, subject in enumerate(subjects):
        for own in views.figures(subject):
            yield f"{index + 1:02d}-{own.name}" if len(subjects) > 1 else own.name, own


def _saved(canvas: Canvas, figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    words: dict[str, Any] = {"Title": figure.title, "Description": figure.alt}
    if kind == "svg":
        words["Date"] = None
    canvas.savefig(out, format=kind, bbox_inches="tight", pad_inches=0.06, metadata=words)
    return out.getvalue()


def _canvas(height: float, columns: int = 1, rows: int = 1) -> tuple[Canvas, list[Axes]]:
    from matplotlib.figure import Figure as NewCanvas

    canvas = NewCanvas(figsize=(WIDTH, height), layout="constrained")
    return canvas, list(np.atleast_1d(canvas.subplots(rows, columns)).reshape(-1))


def _labels(axis: Any, names: Sequence[str]) -> None:
    axis.set_ticks(range(len(names)), labels=[shortened(name, 34) for name in names])


def _legend(axes: Axes, handles: Sequence[Any], names: Sequence[str], **where: Any) -> None:
    """Set a legend under or beside the axes; the names come last, because one may begin with an underscore."""
    legend = axes.legend(handles, [str(index) for index in range(len(names))], frameon=False, **where)
    for entry, name in zip(legend.get_texts(), names, strict=True):
        entry.set_text(shortened(name, 40))


def _style(cause: str, *, edge: bool = False) -> dict[str, Any]:
    """Return how a patch is filled; edge: outlined in its own colour, so that one cycle among a million shows."""
    swatch = CAUSES[cause]
    if edge:
        return {"facecolor": swatch.colour, "edgecolor": swatch.colour}
    line = "#00000066" if swatch.hatch else "w"
    return {"facecolor": swatch.colour, "hatch": HATCHES[swatch.hatch], "edgecolor": line}


def _stack(figure: Stack) -> Iterator[Canvas]:
    from matplotlib.patches import Patch

    canvas, (axes,) = _canvas(1.1 + 0.26 * len(figure.labels))
    seen = [at for at in range(len(figure.causes)) if any(row[at] > 0 for row in figure.shares)]
    for row, shares in enumerate(figure.shares):
        left = 0.0
        for at in seen:
            axes.barh(row, 100 * shares[at], left=left, height=0.7, linewidth=0.4, **_style(figure.causes[at]))
            if shares[at] >= 0.05:
                axes.text(left + 50 * shares[at], row, f"{100 * shares[at]:.1f}", ha="center", va="center",
                          fontsize=6.5, bbox=BOX)  # fmt: skip
            left += 100 * shares[at]
    axes.set(xlim=(0, 100), xlabel="share of all node-cycles, %")
    _labels(axes.yaxis, figure.labels if len(figure.labels) > 1 else ("",))
    axes.invert_yaxis()
    handles = [Patch(**_style(figure.causes[at])) for at in seen]
    names = [CAUSES[figure.causes[at]].label for at in seen]
    _legend(axes, handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.42 / (0.4 + 0.26 * len(figure.labels))),
            ncols=5, handlelength=1.2)  # fmt: skip
    yield canvas


def _roofline(figure: Roofline) -> Iterator[Canvas]:
    from matplotlib.ticker import LogLocator, NullLocator

    canvas, (axes,) = _canvas(3.4)
    finite = [p.intensity for p in figure.points if p.intensity]
    low = min([*finite, *(roof.ridge for roof in figure.roofs)]) / 4
    high = max([*finite, *(roof.ridge for roof in figure.roofs)]) * 6
    owners = {p.of for p in figure.points if p.mark == "program"}
    handles, names, colours, others = [], [], {}, 0
    for roof in figure.roofs:
        own = roof.name in owners
        colours[roof.name] = "black" if own else MACHINES[others % len(MACHINES)]
        xs = np.array([low, roof.ridge, high])
        (line,) = axes.plot(xs, np.minimum(roof.peak_tflops, xs * roof.memory_gbps / 1e3), color=colours[roof.name],
                            linewidth=1.6 if own else 1.0,
                            linestyle="-" if own else DASHES[others % len(DASHES)])  # fmt: skip
        others += not own
        handles.append(line)
        names.append(f"roof of {roof.name}")
    many = sum(p.mark == "program" for p in figure.points) > 1
    for index, point in enumerate(figure.points):
        colour = colours[point.of]
        x = point.intensity or high / 1.5
        (spot,) = axes.plot([x], [point.tflops], MARKERS[point.mark], color=colour, markersize=6, linestyle="none",
                            markerfacecolor="w" if point.mark in HOLLOW else colour)  # fmt: skip
        if many:
            axes.annotate(str(index + 1), (x, point.tflops), xytext=(4, -8), textcoords="offset points", fontsize=6.5)
        handles.append(spot)
        said = "" if point.mark in ("program", "bound") else f" ({point.mark})"
        names.append(f"{f'{index + 1} ' if many else ''}{point.name}{said}")
    axes.set(xscale="log", yscale="log", xlim=(low, high), xlabel="flop per byte of memory traffic", ylabel="TFLOPS")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:,.12g}")
        axis.set_minor_locator(NullLocator())
    axes.grid(visible=True, which="major", linewidth=0.3, color="#bbbbbb")
    _legend(axes, handles, names, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=7)
    yield canvas


def _maps(axes: Axes, image: Any, figure: Nodes | Links, title: str) -> None:
    axes.set_title(title, fontsize=8)
    axes.set(xlabel="column", ylabel="row")
    for axis, count in ((axes.xaxis, figure.cols), (axes.yaxis, figure.rows)):
        axis.set_ticks(range(0, count, -(-count // 10)))
    axes.figure.colorbar(image, ax=axes, shrink=0.85, label="%")


def _nodes(figure: Nodes) -> Iterator[Canvas]:
    grids = [grid for grid in figure.grids if grid.name in PANELS]
    canvas, panels = _canvas(max(2.0, min(8.0, 6.0 * figure.rows / figure.cols)) + 0.6, 2, 2)
    for axes, grid in zip(panels, grids, strict=True):
        shares = 100 * np.array(grid.values).reshape(figure.rows, figure.cols) / figure.cycles
        low, high = float(shares.min()), float(shares.max())
        if high - low < LEAST_RANGE:  # equal values get a range of their own: a colour must not make much of nothing
            low, high = max(0.0, low - 1), high + 1
        image = axes.imshow(shares, cmap="cividis", interpolation="nearest", vmin=low, vmax=high)
        _maps(axes, image, figure, grid.label)
    yield canvas


def _links(figure: Links) -> Iterator[Canvas]:
    rows, cols = figure.rows, figure.cols
    moved = 100 * np.array(figure.values).reshape(rows, cols, 4) / figure.capacity
    busier = np.full((2 * rows - 1, 2 * cols - 1), np.nan)
    busier[::2, 1::2] = np.maximum(moved[:, :-1, 0], moved[:, 1:, 1])
    busier[1::2, ::2] = np.maximum(moved[:-1, :, 2], moved[1:, :, 3])
    x, y = (np.sort(np.concatenate([np.arange(n) - 0.15, np.arange(n) + 0.15])) for n in (cols, rows))
    canvas, (axes,) = _canvas(max(1.6, min(8.0, 5.6 * rows / cols)) + 0.4)
    image = axes.pcolormesh(x, y, np.ma.masked_invalid(busier), cmap="cividis")
    axes.invert_yaxis()
    axes.set_aspect("equal")
    _maps(axes, image, figure, "busier direction of every link, % of what it can carry")
    yield canvas


def _spans(figure: Spans) -> Iterator[Canvas]:
    from matplotlib.patches import Patch

    for view in figure.views:
        canvas, (axes,) = _canvas(1.0 + 0.24 * len(view.lanes))
        causes = list(dict.fromkeys(span.cause for span in view.spans))
        for cause in causes:
            for lane in range(len(view.lanes)):
                own = [(s.start, s.end - s.start) for s in view.spans if s.cause == cause and s.lane == lane]
                axes.broken_barh(own, (lane - 0.38, 0.76), linewidth=0.4, **_style(cause, edge=True))
        axes.set(xlim=view.window, xlabel="cycle", ylim=(len(view.lanes) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _labels(axes.yaxis, view.lanes)
        if len(figure.views) > 1:
            axes.set_title(shortened(view.label, 90), fontsize=8)
        _legend(axes, [Patch(**_style(c)) for c in causes], [CAUSES[c].label for c in causes], loc="upper center",
                bbox_to_anchor=(0.5, -0.5 / (0.3 + 0.24 * len(view.lanes))), ncols=4, handlelength=1.2)  # fmt: skip
        yield canvas


_DRAW: dict[str, Callable[[Any], Iterator[Canvas]]] = {
    Stack.kind: _stack, Roofline.kind: _roofline, Nodes.kind: _nodes, Links.kind: _links, Spans.kind: _spans,
}  # fmt: skip
