"""The timeline of chosen nodes: what threads, units and copies did when, from a recorded run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from accel.report.figure import CAUSES, Span, Spans, View
from accel.report.sheet import Column, Sheet
from accel.report.subject import Subject

if TYPE_CHECKING:
    from accel.timing.trace import Trace

__all__ = ["timeline"]

MOST_SPANS = 350  # spans of one view; a window is cut so that no more touch it
MOST_COPY_LANES = 6  # copies of a node in flight at once that get a lane of their own; more share the last
UNITS = ("matrix", "vector")
# Kinds of the trace that are drawn alike: what a thread issues, whether it has an effect or not.
_DRAWN = {"control": "issue", "off": "issue"}


class _Slice(NamedTuple):
    start: int
    end: int
    lane: str
    cause: str
    text: str
    more: int = 0  # instructions that follow and are drawn with it
    note: str = ""


def timeline(subject: Subject, *, brief: bool = False) -> Spans | None:
    """Return the timeline of the node most on the critical path and of the one that waits most; brief: of the first.

    Runs of few spans are drawn whole, others by their beginning, middle and end. None where the fidelity records no
    run.
    """
    t = subject.timing
    if not t.node_parts.size or not t.cycles:
        return None
    chosen = _telling_nodes(subject, 1 if brief else 2)
    trace = t.trace(list(chosen))
    views: list[View] = []
    for node, why in chosen.items():
        slices = _slices_of(trace, subject.program.isa.cols * node[0] + node[1])
        lanes = tuple(dict.fromkeys(sorted((s.lane for s in slices), key=_order)))
        for part, low, high in _windows(slices, trace.window):
            spans = tuple(
                Span(lanes.index(s.lane), s.start, s.end, s.cause, s.text, s.note or _more(s.more))
                for s in slices
                if s.end > low and s.start < high
            )
            label = f"node ({node[0]}, {node[1]}){f', {why}' if why else ''}{f': {part}' if part else ''}"
            views.append(View(label, lanes, spans, (low, high)))
    columns = (
        Column("view", "view", text=True), Column("lane", "lane", text=True), Column("start", "from cycle"),
        Column("end", "to cycle"), Column("what", "what", lambda c: CAUSES[c].label, text=True),
        Column("text", "instruction", text=True), Column("note", "note", text=True),
    )  # fmt: skip
    rows = tuple((v.label, v.lanes[s.lane], s.start, s.end, s.cause, s.text, s.note) for v in views for s in v.spans)
    where = " and ".join(f"({r}, {c})" for r, c in chosen)
    alt = (
        f"What the threads, units and copies of node{'s' if len(chosen) > 1 else ''} {where} did in "
        f"{len(views)} stretch{'es' if len(views) > 1 else ''} of the {t.cycles:,} cycles."
    )
    sheet = Sheet("timeline", "Timeline", columns, rows, listed=24)
    return Spans(name="timeline", title="Timeline of a node", alt=alt, sheet=sheet, views=tuple(views))


def _telling_nodes(subject: Subject, most: int) -> dict[tuple[int, int], str]:
    """Return the node that the critical path spends most cycles on, then the one that waits most, with why."""
    t = subject.timing
    spent: dict[tuple[int, int], int] = {}
    for segment in t.critical_path:
        spent[segment.node] = spent.get(segment.node, 0) + segment.end - segment.start
    found = {}
    if spent:
        found[max(spent, key=lambda node: (spent[node], node))] = "most of the critical path"
    waits = [index for index, cause in enumerate(t.losses) if cause.startswith("wait_")]
    waited = t.node_parts[:, :, waits].sum(axis=2)
    row, col = divmod(int(waited.argmax()), waited.shape[1])
    if waited.any():
        found.setdefault((row, col), "waits most")
    return dict(list(found.items())[:most]) or {(0, 0): ""}


def _slices_of(trace: Trace, node: int) -> list[_Slice]:
    """Return what a node did, by start: threads and units, then copies on as many lanes as were in flight."""
    from accel.timing.trace import KINDS  # here, because it loads the compiler

    found: list[_Slice] = []
    own = trace.slices["node"] == node
    columns = (trace.slices[name][own].tolist() for name in ("thread", "kind", "row", "start", "end"))
    for thread, kind, row, start, end in zip(*columns, strict=True):
        name = KINDS[kind]
        lane = f"thread {trace.thread_name(node, thread)}"
        cause, text = _DRAWN.get(name, name), _said(trace, row)
        last = found[-1] if found else None
        if last and cause == "issue" == last.cause and last.lane == lane and last.end == start:
            found[-1] = last._replace(end=end, more=last.more + 1)
        else:
            found.append(_Slice(start, end, lane, cause, text))
        if name in UNITS:
            found.append(_Slice(start, end, CAUSES[name].label, name, text))
            found[-1], found[-2] = found[-2], found[-1]  # the thread's slice stays last, for the next one to join
    found += _copies_of(trace, node)
    return sorted(found)


def _said(trace: Trace, row: int) -> str:
    line = trace.line(row)
    return f"{trace.text(row)}{f' ({line})' if line else ''}"


def _more(count: int) -> str:
    return f"and {count} more" if count else ""


def _copies_of(trace: Trace, node: int) -> Iterable[_Slice]:
    from accel.timing.trace import WAYS

    own = trace.copies["node"] == node
    columns = (trace.copies[name][own].tolist() for name in ("issued", "sent", "done", "way", "row", "bytes"))
    free: list[int] = []  # when the last copy of each lane is done
    for issued, sent, done, way, row, size in sorted(zip(*columns, strict=True)):
        end = max(sent, done, issued + 1)
        lane = next((index for index, until in enumerate(free) if until <= issued), len(free))
        if lane == len(free) < MOST_COPY_LANES:
            free.append(0)
        lane = min(lane, MOST_COPY_LANES - 1)
        free[lane] = max(free[lane], end)
        yield _Slice(issued, end, f"copies {lane + 1}", f"copy_{WAYS[way]}", _said(trace, row), note=f"{size:,} B")


def _order(lane: str) -> tuple[int, str]:
    """Units first, then threads, then copies."""
    return (2 if lane.startswith("copies ") else 1 if lane.startswith("thread ") else 0, lane)


def _windows(slices: list[_Slice], whole: tuple[int, int]) -> list[tuple[str, int, int]]:
    """Return (name, first cycle, one past the last) of what is drawn: all, or three parts of `MOST_SPANS` each."""
    count = len(slices)
    if count <= MOST_SPANS:
        return [("", *whole)]
    starts = [s.start for s in slices]
    middle = max(0, count // 2 - MOST_SPANS // 2)
    half = MOST_SPANS * 2 // 3  # the rest is for spans that reach into the window
    parts = (
        ("the beginning", whole[0], starts[half]),
        ("the middle", starts[middle], starts[min(count - 1, middle + half)]),
        ("the end", starts[count - half], whole[1]),
    )
    return [(name, low, high) for name, low, high in parts if high > low]
