"""One node of a run as text: a row for each thread and engine, time from left to right."""

from __future__ import annotations

import numpy as np

from accel.errors import InputError
from accel.isa.program import Table
from accel.timing.trace import Trace
from accel.timing.waits import KINDS, MATRIX, VECTOR

__all__ = ["timeline_text"]

LEAST_WIDTH, MOST_WIDTH = 20, 1000
TICK = 20  # columns between two numbers of the ruler
_SIGNS = {
    "issue": ("i", "issues"), "control": ("i", "issues"), "off": ("i", "issues"), "matrix": ("M", "matrix unit"),
    "vector": ("V", "vector unit"), "unit_busy": ("u", "its unit is busy"), "wait_memory": ("m", "waits for memory"),
    "wait_mesh": ("x", "waits for the mesh"), "wait_peer": ("p", "waits for another node"),
    "wait_local": ("t", "waits for a thread of this node"), "queue_full": ("q", "copy queue full"),
    "barrier": ("b", "at a barrier"),
}  # fmt: skip


def timeline_text(trace: Trace, width: int) -> str:
    """Return the timeline of the one node of a trace, `width` columns wide; InputError for a width out of range.

    A column shows what took most of its cycles; "." is nothing. The row of copies shows how many were in flight at
    most, "+" for more than nine.
    """
    if type(width) is not int or not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise InputError(f"Cannot draw a timeline {width!r} columns wide; use {LEAST_WIDTH} to {MOST_WIDTH}")
    node, (start, end) = int(trace.nodes[0]), trace.window
    columns = min(width, end - start)
    edges = start + (end - start) * np.arange(columns + 1) // columns
    own, kinds = trace.slices, np.zeros((trace.program.threads, columns, len(KINDS)), np.int64)
    for thread in range(trace.program.threads):
        for kind in range(len(KINDS)):
            picked = (own["thread"] == thread) & (own["kind"] == kind)
            kinds[thread, :, kind] = _covered(own["start"][picked], own["end"][picked], edges)
    rows = [(f"thread {trace.thread_name(node, t)}", _drawn(kinds[t])) for t in range(len(kinds)) if kinds[t].any()]
    for name, kind in (("matrix unit", MATRIX), ("vector unit", VECTOR)):
        one = np.zeros((columns, len(KINDS)), np.int64)
        one[:, kind] = kinds[:, :, kind].sum(axis=0)
        rows.append((name, _drawn(one, width=np.diff(edges))))
    rows.append(("copies in flight", _flying(trace, edges)))
    margin = max(len(name) for name, _ in rows)
    used = "".join(text for _, text in rows[:-1])
    legend = dict.fromkeys(f"{sign} {what}" for sign, what in _SIGNS.values() if sign in used)
    head = f"node {trace.node(node)} of {trace.program.name}, cycles {start:,} to {end:,} of {trace.cycles:,}, "
    ruler = "".join(f"|{int(edges[i]):<{TICK - 1},}"[:TICK] for i in range(0, columns, TICK))[:columns]
    return "\n".join([
        head + f"{(end - start) / columns:,.1f} cycles a column", f"{'':{margin}}  {ruler}".rstrip(),
        *(f"{name:{margin}}  {text}".rstrip() for name, text in rows), ", ".join(legend),
    ])  # fmt: skip


def _covered(start: Table, end: Table, edges: Table) -> Table:
    """Return how many cycles of [start, end) intervals lie in each column."""

    def before(at: Table) -> Table:
        """Cycles of all intervals before each edge."""
        order_start, order_end = np.sort(start), np.sort(end)
        sums = [np.concatenate([[0], np.cumsum(order)]) for order in (order_start, order_end)]
        begun, over = np.searchsorted(order_start, at), np.searchsorted(order_end, at)
        total: Table = begun * at - sums[0][begun] - (over * at - sums[1][over])
        return total

    return np.diff(before(edges))


def _drawn(kinds: Table, width: Table | None = None) -> str:
    """One sign a column: the kind with most cycles; for an engine (width given) lower case if busy less than half."""
    best = kinds.argmax(axis=1)
    most = kinds.max(axis=1)
    text = []
    for column, kind in enumerate(best.tolist()):
        sign = _SIGNS[KINDS[kind]][0]
        if not most[column]:
            sign = "."
        elif width is not None and 2 * most[column] < width[column]:
            sign = sign.lower()
        text.append(sign)
    return "".join(text)


def _flying(trace: Trace, edges: Table) -> str:
    issued, over = trace.copies["issued"], np.maximum(trace.copies["sent"], trace.copies["done"])
    text = []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        moments = np.concatenate([[first], issued[(issued > first) & (issued < last)]])
        flying = max(int(((issued <= t) & (over > t)).sum()) for t in moments.tolist())
        text.append("." if not flying else str(flying) if flying < 10 else "+")
    return "".join(text)
