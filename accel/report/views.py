"""The figures of a report, made from what a Timing knows; each says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from accel.baselines import gpu
from accel.report import summaries
from accel.report.figure import (
    CAUSES,
    Figure,
    Grid,
    Links,
    Nodes,
    Point,
    Roof,
    Roofline,
    Span,
    Spans,
    Stack,
    View,
    listed,
)
from accel.report.quantities import number, percent, seconds
from accel.report.sheet import Column, Sheet
from accel.report.subject import Subject
from accel.report.timeline import timeline

if TYPE_CHECKING:
    from accel.timing import Timing

__all__ = ["critical_path", "figures", "ledger", "ledgers", "links", "nodes", "roofline", "rooflines"]

WAITS = ("wait_memory", "wait_mesh", "wait_peer")
MOST_SEGMENTS = 400  # spans of the critical path that are drawn one by one; above, slices of time
LITTLE = 0.01  # share of the time below which a brief report leaves a cause out
SLICES = 120  # of the time, in which a longer critical path is drawn cause by cause
DIRECTIONS = ("east", "west", "south", "north")
_BUSY = {"matrix": "matrix unit busy", "vector": "vector unit busy", "sram_port": "SRAM ports busy"}


def figures(subject: Subject, *, brief: bool = False) -> tuple[Figure, ...]:
    """Return every figure that the subject has something to show in; brief: with less detail, to share a page."""
    made = (
        ledger(subject), roofline(subject), nodes(subject, brief=brief), links(subject),
        timeline(subject, brief=brief), critical_path(subject),
    )  # fmt: skip
    return tuple(figure for figure in made if figure is not None)


def ledger(subject: Subject) -> Stack:
    """Return the loss ledger as one bar."""
    t = subject.timing
    lost = _largest({cause: share for cause, share in t.losses.items() if cause != "useful"})
    return Stack(
        name="ledger",
        title="Where the node-cycles went",
        alt=f"Of all cycles of all enabled nodes {percent(t.losses['useful'])} are useful; the rest goes to {lost}.",
        sheet=summaries.ledger(subject),
        labels=(subject.label,),
        shares=(tuple(t.losses.values()),),
        causes=tuple(t.losses),
    )


def ledgers(subjects: Sequence[Subject]) -> Stack:
    """Return the loss ledgers of several subjects under each other, longest time first."""
    ordered = sorted(subjects, key=lambda s: -s.timing.seconds)
    causes = tuple(ordered[0].timing.losses)
    rows = tuple((s.label, cause, s.timing.losses[cause]) for s in ordered for cause in causes)
    columns = (Column("subject", "what", text=True), Column("cause", "cause", lambda c: CAUSES[c].label, text=True),
               Column("share", "share", percent))  # fmt: skip
    best = max(subjects, key=lambda s: s.timing.utilization)
    worst = min(subjects, key=lambda s: s.timing.utilization)
    return Stack(
        name="ledgers",
        title="Where the node-cycles went, one by one",
        alt=f"Useful cycles range from {percent(worst.timing.utilization)} ({worst.label}) to "
        f"{percent(best.timing.utilization)} ({best.label}).",
        sheet=Sheet("ledgers", "Loss ledgers", columns, rows),
        labels=tuple(s.label for s in ordered),
        shares=tuple(tuple(s.timing.losses.values()) for s in ordered),
        causes=causes,
    )


def _largest(shares: dict[str, float], most: int = 3) -> str:
    found = sorted((c for c in shares if shares[c] >= 5e-4), key=lambda c: -shares[c])[:most]
    return listed([f"{CAUSES[c].label} ({percent(shares[c])})" for c in found])


def roofline(subject: Subject) -> Roofline | None:
    """Return the subject under the chip's roof with its bound and the GPUs; None where no work is counted."""
    return rooflines((subject,), bounds=True) if subject.peak_tflops else None


def rooflines(subjects: Sequence[Subject], *, bounds: bool = False) -> Roofline | None:
    """Return several subjects under their roofs; bounds: also the bound of each problem, and the GPUs."""
    roofs: dict[str, Roof] = {}
    points: list[Point] = []
    for s in subjects:
        peak, t, chip = s.peak_tflops, s.timing, s.program.chip
        if peak is None:
            continue
        name = chip.name
        if name in roofs and not math.isclose(roofs[name].peak_tflops, peak, rel_tol=1e-6):
            name = f"{chip.name}, {s.comparison.chip.dtype if s.comparison else s.label}"
        roofs.setdefault(name, Roof(name, peak, chip.memory_bytes_per_s / 1e9))
        reached = t.flops / s.memory_bytes if s.memory_bytes else None
        points.append(Point(s.label, name, reached, t.tflops, "program", f"{percent(t.utilization)} of peak"))
        if s.comparison is not None and bounds:
            points += _compared(s, name, roofs)
    if not points:
        return None
    first = points[0]
    at = None if first.intensity is None else f"at {number(first.intensity)} flop per byte of memory traffic"
    roof = roofs[first.of]
    alt = (
        f"{roof.name} has a peak of {number(roof.peak_tflops)} TFLOPS above a ridge of {number(roof.ridge)} flop/B; "
        f"{first.name} reaches {number(first.tflops)} TFLOPS {at or 'without memory traffic'}."
        if len(subjects) == 1
        else f"{len(points)} programs under the roof of {roof.name}: {number(roof.peak_tflops)} TFLOPS above a ridge "
        f"of {number(roof.ridge)} flop/B."
    )
    columns = (
        Column("name", "point", text=True), Column("of", "machine", text=True),
        Column("intensity_flop_per_byte", "flop/B", number), Column("tflops", "TFLOPS", number),
        Column("mark", "what it is", text=True), Column("peak_tflops", "peak TFLOPS", number),
        Column("memory_gbps", "memory GB/s", number), Column("ridge_flop_per_byte", "ridge flop/B", number),
    )  # fmt: skip
    rows = tuple((p.name, p.of, p.intensity, p.tflops, p.mark, roofs[p.of].peak_tflops, roofs[p.of].memory_gbps,
                  roofs[p.of].ridge) for p in points)  # fmt: skip
    return Roofline(name="roofline" if bounds else "rooflines", title="Roofline", alt=alt,
                    sheet=Sheet("roofline" if bounds else "rooflines", "Roofline", columns, rows),
                    roofs=tuple(roofs.values()), points=tuple(points))  # fmt: skip


def _compared(s: Subject, name: str, roofs: dict[str, Roof]) -> list[Point]:
    """Return the bound of a problem and its GPUs, all at the intensity of the compulsory traffic."""
    assert s.comparison is not None
    problem = s.comparison.problem
    held = {t.name for t in s.program.isa.tensors if t.resident}
    moved = sum(problem.compulsory_operand_bytes(x) for x in problem.operands if x not in held)
    intensity = problem.flops / moved if moved else None
    bound = s.comparison.chip.bound_seconds
    points = [Point("bound", name, intensity, problem.flops / bound / 1e12, "bound", f"at least {seconds(bound)}")]
    for row in s.comparison.baselines:
        roofs[row.name] = Roof(row.name, gpu(row.name).peak_tflops[row.dtype], gpu(row.name).memory_gbps)
        error = "" if row.error_pct is None else f", median error {row.error_pct:.0f} %"
        compulsory = problem.flops / problem.compulsory_bytes
        points.append(
            Point(row.name, row.name, compulsory, row.tflops, row.source, f"{row.dtype}, {row.source}{error}")
        )
    return points


def nodes(subject: Subject, *, brief: bool = False) -> Nodes | None:
    """Return busy and lost cycles of every node; None where the fidelity simulates no node.

    brief: without causes that take less than a hundredth of the time.
    """
    t = subject.timing
    if not t.node_parts.size or not t.cycles:
        return None
    rows, cols = t.node_parts.shape[:2]
    grids = [Grid(f"{name}_busy", _BUSY[name], _cells(grid)) for name, grid in t.busy.items()]
    by_cause = {c: t.node_parts[:, :, i] / t.parts_per_cycle for i, c in enumerate(t.losses)}
    waits = sum((by_cause[cause] for cause in WAITS), np.zeros((rows, cols)))
    grids.append(Grid("waits", "all waits: memory, mesh, peers", _cells(waits)))
    least = LITTLE * t.cycles * rows * cols if brief else 0.0
    grids += [Grid(c, f"ledger: {CAUSES[c].label}", _cells(grid)) for c, grid in by_cause.items() if grid.sum() > least]
    columns = (Column("node_row", "row", str), Column("node_col", "col", str),
               *(Column(f"{grid.name}_cycles", grid.label, lambda v: f"{v:,.0f}") for grid in grids))  # fmt: skip
    table = tuple((r, c, *(grid.values[r * cols + c] for grid in grids)) for r in range(rows) for c in range(cols))
    unit = "matrix" if t.busy["matrix"].any() else "vector"
    busy = t.busy[unit] / t.cycles
    low, high = (np.unravel_index(pick(busy), busy.shape) for pick in (np.argmin, np.argmax))
    least, most, mean = (percent(float(share)) for share in (busy.min(), busy.max(), busy.mean()))
    alt = (
        f"The {unit} unit is busy {least} of the time on node ({low[0]}, {low[1]}), the least, and {most} on node "
        f"({high[0]}, {high[1]}), the most; {mean} on average."
        if least != most
        else f"The {unit} unit is busy {most} of the time on every node."
    )
    return Nodes(name="nodes", title="What each node does", alt=alt,
                 sheet=Sheet("nodes", "Cycles by node", columns, table), rows=rows, cols=cols, cycles=t.cycles,
                 grids=tuple(grids))  # fmt: skip


def _cells(grid: np.ndarray) -> tuple[float, ...]:
    """Return a grid row by row; whole cycles as whole numbers, parts of a cycle to six digits at least."""
    digits = max(0, 6 - len(str(int(grid.max(initial=0)))))
    return tuple(round(float(v), digits) if digits and v % 1 else round(float(v)) for v in grid.reshape(-1))


def links(subject: Subject) -> Links | None:
    """Return the bytes of every mesh link; None for a mesh of one site, which has none."""
    t, chip = subject.timing, subject.program.chip
    rows, cols = t.link_bytes.shape[:2]
    if rows * cols == 1 or not t.cycles:
        return None
    capacity = t.cycles * chip.noc.link_bytes_per_cycle
    moved = [(r, c, d, int(t.link_bytes[r, c, d])) for r in range(rows) for c in range(cols) for d in range(4)
             if _neighbour(r, c, d, rows, cols)]  # fmt: skip
    columns = (Column("site_row", "row", str), Column("site_col", "col", str),
               Column("direction", "direction", text=True), Column("bytes", "bytes"),
               Column("utilization", "utilization", percent))  # fmt: skip
    table = tuple((r, c, DIRECTIONS[d], n, n / capacity) for r, c, d, n in moved)
    top = max(moved, key=lambda link: link[3])
    mean = sum(link[3] for link in moved) / len(moved) / capacity
    alt = (
        f"The busiest link leaves site ({top[0]}, {top[1]}) {DIRECTIONS[top[2]]}ward and carries "
        f"{percent(top[3] / capacity)} of what it could; the average over {len(moved):,} links is {percent(mean)}."
        if top[3]
        else f"No byte crosses any of the {len(moved):,} mesh links."
    )
    return Links(name="links", title="What each mesh link carries", alt=alt,
                 sheet=Sheet("links", "Bytes by link", columns, table), rows=rows, cols=cols, capacity=capacity,
                 values=tuple(int(n) for n in t.link_bytes.reshape(-1)), holes=tuple(chip.mesh.holes))  # fmt: skip


def _neighbour(row: int, col: int, direction: int, rows: int, cols: int) -> bool:
    return (col + 1 < cols, col > 0, row + 1 < rows, row > 0)[direction]


def critical_path(subject: Subject) -> Spans | None:
    """Return what the last event waited for, cause by cause over time; None where the fidelity knows no path."""
    t = subject.timing
    if not t.critical_path:
        return None
    shares: dict[str, float] = {}
    for s in t.critical_path:
        shares[s.cause] = shares.get(s.cause, 0.0) + (s.end - s.start) / t.cycles
    lanes = tuple(cause for cause in CAUSES if cause in shares)
    spans = _path_spans(t, lanes)
    sliced = (
        f" Drawn in {SLICES} slices of time, sorted by cause within each."
        if len(t.critical_path) > MOST_SEGMENTS
        else ""
    )
    return Spans(
        name="critical_path",
        title="Critical path",
        alt=f"The chain of events that sets the {t.cycles:,} cycles goes through {_largest(shares, 4)}.{sliced}",
        sheet=summaries.path(subject),
        views=(View("critical path", tuple(CAUSES[lane].label for lane in lanes), spans, (0, t.cycles)),),
    )


def _path_spans(t: Timing, lanes: tuple[str, ...]) -> tuple[Span, ...]:
    if len(t.critical_path) <= MOST_SEGMENTS:
        return tuple(
            Span(
                lanes.index(s.cause),
                s.start,
                s.end,
                s.cause,
                f"node {s.node}, thread {s.thread}, {s.line or 'no line'}",
            )
            for s in t.critical_path
        )
    spans: list[Span] = []
    path = iter(t.critical_path)  # its segments cover [0, cycles) in order
    segment = next(path)
    for index in range(SLICES):
        low, high = (t.cycles * (index + step) // SLICES for step in (0, 1))
        spent: dict[str, int] = {}
        while True:
            part = min(segment.end, high) - max(segment.start, low)
            spent[segment.cause] = spent.get(segment.cause, 0) + part
            if segment.end >= high:
                break
            segment = next(path)
        text = listed([f"{CAUSES[c].label} {n:,}" for c, n in sorted(spent.items(), key=lambda x: -x[1]) if n])
        at = low
        for cause in (cause for cause in lanes if spent.get(cause)):  # sorted within a slice: totals stay exact
            spans.append(Span(lanes.index(cause), at, at + spent[cause], cause, text, "of this slice"))
            at += spent[cause]
    return tuple(spans)
