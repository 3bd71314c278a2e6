"""Figures as data: what each shows in numbers and in words, apart from how a page or a paper draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from accel.report.sheet import Sheet

__all__ = [
    "CAUSES",
    "Figure",
    "Grid",
    "Links",
    "Nodes",
    "Point",
    "Roof",
    "Roofline",
    "Span",
    "Spans",
    "Stack",
    "Swatch",
    "View",
]


class Swatch(NamedTuple):
    """How a cause is drawn: a colour of Okabe and Ito's palette or a grey, and a hatch that tells it in print."""

    label: str
    colour: str
    hatch: str = ""


# One entry a cause of the ledger, in its order, then the kinds of work that a timeline shows beside them.
CAUSES: dict[str, Swatch] = {
    "useful": Swatch("useful", "#009e73"),
    "tile_quantisation": Swatch("tile quantisation", "#f0e442"),
    "accumulator": Swatch("accumulator", "#e69f00"),
    "sram_port": Swatch("SRAM port", "#d55e00"),
    "issue": Swatch("issue", "#cc79a7"),
    "vector": Swatch("vector", "#8e6bbf", "/"),
    "wait_memory": Swatch("wait for memory", "#0072b2"),
    "wait_mesh": Swatch("wait for the mesh", "#56b4e9", "\\"),
    "wait_peer": Swatch("wait for a peer", "#a6cee3", "x"),
    "imbalance": Swatch("imbalance", "#6e6e6e"),
    "prologue": Swatch("prologue", "#9a9a9a", "-"),
    "epilogue": Swatch("epilogue", "#bdbdbd", "|"),
    "unused_nodes": Swatch("unused nodes", "#dcdcdc", "."),
    "matrix": Swatch("matrix unit", "#009e73"),
    "unit_busy": Swatch("wait for a unit", "#f0e442", "/"),
    "wait_local": Swatch("wait for a thread of the node", "#b2df8a", "\\"),
    "queue_full": Swatch("copy queue full", "#d55e00", "x"),
    "barrier": Swatch("barrier", "#6e6e6e", "x"),
    "copy_read": Swatch("copy from memory", "#0072b2"),
    "copy_mesh": Swatch("copy over the mesh", "#56b4e9"),
    "copy_write": Swatch("copy to memory", "#e69f00"),
    "copy_pull": Swatch("pull from another node", "#8e6bbf"),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure: `alt` says in words what it shows, `sheet` holds the same numbers as a table."""

    kind: ClassVar[str]
    name: str
    title: str
    alt: str
    sheet: Sheet

    def spec(self) -> dict[str, Any]:
        """Return plain data from which a page draws the figure."""
        raise TypeError(f"{type(self).__name__} has no picture of its own; use one of its subclasses")


@dataclass(frozen=True, kw_only=True)
class Stack(Figure):
    """Bars that add up to 1: shares[row][cause] for every label, causes in the ledger's order."""

    kind: ClassVar[str] = "stack"
    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    causes: tuple[str, ...]

    def spec(self) -> dict[str, Any]:
        """Return plain data: labels, causes and shares."""
        return {"kind": self.kind, "labels": self.labels, "causes": self.causes, "shares": self.shares}


class Roof(NamedTuple):
    """A machine's limits: peak in TFLOPS and memory bandwidth in GB/s (1e9 B/s)."""

    name: str
    peak_tflops: float
    memory_gbps: float

    @property
    def ridge(self) -> float:
        """Intensity in flop/B above which the peak is the limit."""
        return self.peak_tflops * 1e3 / self.memory_gbps


class Point(NamedTuple):
    """Work on a roofline: intensity in flop/B (None: no memory traffic), the rate reached, and of whom the point is.

    mark: "program" | "bound" | "measured" | "model" | "uncalibrated".
    """

    name: str
    of: str
    intensity: float | None
    tflops: float
    mark: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Roofline(Figure):
    """Rates over intensity, both logarithmic, under the roofs of the machines."""

    kind: ClassVar[str] = "roofline"
    roofs: tuple[Roof, ...]
    points: tuple[Point, ...]

    def spec(self) -> dict[str, Any]:
        """Return plain data: roofs and points by field name."""
        roofs = [roof._asdict() for roof in self.roofs]
        return {"kind": self.kind, "roofs": roofs, "points": [point._asdict() for point in self.points]}


class Grid(NamedTuple):
    """One quantity over all nodes: cycles, row by row."""

    name: str
    label: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Nodes(Figure):
    """Cycles that each node of the logical mesh spends, one grid a quantity; a whole run is `cycles`."""

    kind: ClassVar[str] = "nodes"
    rows: int
    cols: int
    cycles: int
    grids: tuple[Grid, ...]

    def spec(self) -> dict[str, Any]:
        """Return plain data: the grids, values row by row."""
        grids = [grid._asdict() for grid in self.grids]
        return {"kind": self.kind, "rows": self.rows, "cols": self.cols, "cycles": self.cycles, "grids": grids}


@dataclass(frozen=True, kw_only=True)
class Links(Figure):
    """Bytes that left every router east, west, south, north, by physical site; `capacity` is what one link can carry.

    values: site rows x site cols x 4, in that order; holes: sites without a node.
    """

    kind: ClassVar[str] = "links"
    rows: int
    cols: int
    capacity: int
    values: tuple[int, ...]
    holes: tuple[tuple[int, int], ...]

    def of(self, row: int, col: int) -> tuple[int, int, int, int]:
        """Return the bytes that left a site east, west, south and north."""
        at = 4 * (row * self.cols + col)
        east, west, south, north = self.values[at : at + 4]
        return east, west, south, north

    def spec(self) -> dict[str, Any]:
        """Return plain data: bytes site by site."""
        return {
            "kind": self.kind, "rows": self.rows, "cols": self.cols, "capacity": self.capacity, "values": self.values,
            "holes": self.holes,
        }  # fmt: skip


class Span(NamedTuple):
    """A stretch [start, end) in cycles on a lane, of a kind in `CAUSES`, with words for it and a note on them."""

    lane: int
    start: int
    end: int
    cause: str
    text: str
    note: str = ""


class View(NamedTuple):
    """Spans on lanes, seen through a window [start, end) of cycles."""

    label: str
    lanes: tuple[str, ...]
    spans: tuple[Span, ...]
    window: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Spans(Figure):
    """What happened when, lane by lane; one view or several to choose from."""

    kind: ClassVar[str] = "spans"
    views: tuple[View, ...]

    def spec(self) -> dict[str, Any]:
        """Return plain data: spans column by column, their words each once."""
        every = [span for view in self.views for span in view.spans]
        words = {word: at for at, word in enumerate(dict.fromkeys(w for s in every for w in (s.text, s.note)))}
        causes = {cause: at for at, cause in enumerate(dict.fromkeys(span.cause for span in every))}
        views = [
            {
                "label": view.label, "window": view.window, "lanes": view.lanes,
                "lane": [span.lane for span in view.spans], "start": [span.start for span in view.spans],
                "end": [span.end for span in view.spans], "cause": [causes[span.cause] for span in view.spans],
                "text": [words[span.text] for span in view.spans], "note": [words[span.note] for span in view.spans],
            }
            for view in self.views
        ]  # fmt: skip
        return {"kind": self.kind, "causes": list(causes), "words": list(words), "views": views}


def listed(words: Sequence[str]) -> str:
    """Return words as running text: a, b and c."""
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else "nothing"
