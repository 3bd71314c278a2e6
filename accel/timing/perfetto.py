"""Perfetto: a trace as Chrome's JSON, nodes as processes, threads and engines as tracks, links as counters."""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from accel.errors import InputError
from accel.isa.layout import W_OPCODE
from accel.isa.program import Table
from accel.isa.table import BY_OPCODE, opcode
from accel.timing.trace import WAYS, Trace
from accel.timing.waits import KINDS, MATRIX, VECTOR, WAITS

__all__ = ["chrome_trace", "encoded", "thinned"]

# Tracks of a node's process, by thread id; threads come first, copies in flight take as many tracks as overlap.
MATRIX_TRACK, VECTOR_TRACK, PHASE_TRACK, COPY_TRACK = 100, 101, 200, 300
COUNTERS = 0  # the process of links and memory ports
WAYS_OUT = ("east", "west", "south", "north")
PROBE = opcode("probe")
MOST_LINKS = 64  # counters of the links that carried most
# The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format)

Event = dict[str, Any]


def thinned(trace: Trace, limit: int) -> tuple[list[int], tuple[int, int], list[str]]:
    """Return the nodes and the window of a trace that keep it to `limit` slices, and notes of what is left out.

    Nodes are kept evenly spaced, as many as fit on average; of a node that is alone too much, the first cycles.
    """
    nodes = [int(n) for n in trace.nodes]
    count = np.bincount(trace.slices["node"], minlength=trace.program.nodes)
    count = count + np.bincount(trace.copies["node"], minlength=trace.program.nodes)
    keep, notes, window = len(nodes), [], trace.window
    chosen = nodes
    while keep > 1 and int(count[chosen].sum()) > limit:
        keep = min(keep - 1, max(1, keep * limit // int(count[chosen].sum())))
        chosen = [nodes[i * len(nodes) // keep] for i in range(keep)]
    if keep < len(nodes):
        notes.append(f"nodes: {keep} of {len(nodes)}, evenly spaced, for the limit of {limit} slices")
    if int(count[chosen].sum()) > limit:
        starts = [table[column][table["node"] == chosen[0]] for table, column in
                  ((trace.slices, "start"), (trace.copies, "issued"))]  # fmt: skip
        end = max(window[0] + 1, int(np.sort(np.concatenate(starts))[limit]))
        notes.append(f"time: cycles {window[0]} to {end} of {window[0]} to {window[1]}, for the same limit")
        window = (window[0], end)
    return chosen, window, notes


def chrome_trace(trace: Trace, *, limit: int) -> Event:
    """Return a trace as the object that Chrome's tracing and Perfetto read: a microsecond there is a cycle here.

    limit: slices and copies at most; where that is too few, whole nodes and then late cycles are left out, and
    otherData.left_out says which. Links count for the whole chip; counters are in bytes a cycle.
    """
    if type(limit) is not int or limit < 1:
        raise InputError(f"Cannot keep a trace to limit={limit!r} slices; use a whole number of at least 1")
    nodes, window, notes = thinned(trace, limit)
    events = [*_names(trace, nodes)]
    own = np.isin(trace.slices["node"], nodes) & (trace.slices["start"] < window[1])
    slices = {name: column[own] for name, column in trace.slices.items()}
    own = np.isin(trace.copies["node"], nodes) & (trace.copies["issued"] < window[1])
    copies = {name: column[own] for name, column in trace.copies.items()}
    lanes = _lanes(copies)
    events += _threads(trace, slices)
    events += _copies(trace, copies, lanes)
    events += _phases(trace, nodes, window)
    events += _arrows(slices, copies, lanes)
    counters, dropped = _counters(trace)
    events += counters
    if dropped:
        notes.append(f"links: the {MOST_LINKS} that carried most of {MOST_LINKS + dropped} with traffic")
    if trace.dropped:
        notes.append(f"rows: {trace.dropped} loop ends, passed waits and rows switched off")
    if trace.window != (0, max(1, trace.cycles)):
        notes.append(f"window: cycles {trace.window[0]} to {trace.window[1]} of {trace.cycles} were asked for")
    if len(trace.nodes) < trace.program.nodes:
        notes.append(f"asked for: {len(trace.nodes)} of {trace.program.nodes} nodes")
    return {
        "displayTimeUnit": "ns",
        "otherData": {
            "program": trace.program.name, "chip": trace.chip.name, "cycles": trace.cycles,
            "clock_hz": trace.chip.clock_hz, "time": "1 us shown is 1 cycle", "left_out": notes,
        },
        "traceEvents": events,
    }  # fmt: skip


def encoded(data: Event, compress: bool) -> bytes:
    """Return the trace as bytes, gzip where asked; the same trace always gives the same bytes."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    return gzip.compress(text, 6, mtime=0) if compress else text


def _names(trace: Trace, nodes: Iterable[int]) -> Iterator[Event]:
    def named(what: str, pid: int, tid: int, name: str) -> Event:
        return {"ph": "M", "name": f"{what}_name", "pid": pid, "tid": tid, "args": {"name": name}}

    yield named("process", COUNTERS, 0, "links and memory ports")
    for order, node in enumerate(nodes, 1):
        pid = node + 1
        yield named("process", pid, 0, f"node {trace.node(node)}")
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": order}}
        role = int(trace.program.role_of[node])
        for thread in range(trace.program.threads):
            if role >= 0 and trace.program.spans[role, thread, 0] < trace.program.spans[role, thread, 1]:
                yield named("thread", pid, thread, f"thread {trace.thread_name(node, thread)}")
        yield named("thread", pid, MATRIX_TRACK, "matrix unit")
        yield named("thread", pid, VECTOR_TRACK, "vector unit")


def _mnemonic(trace: Trace, row: int) -> str:
    return BY_OPCODE[int(trace.program.code[row, W_OPCODE])].mnemonic


def _args(trace: Trace, row: int) -> Event:
    line = trace.line(row)
    return {"instruction": trace.text(row), "line": "" if line is None else str(line), "row": row}


def _threads(trace: Trace, slices: dict[str, Table]) -> Iterator[Event]:
    columns = (slices[name].tolist() for name in ("node", "thread", "kind", "row", "start", "end"))
    for node, thread, kind, row, start, end in zip(*columns, strict=True):
        mnemonic = _mnemonic(trace, row)
        waits = KINDS[kind] in WAITS
        event = {
            "ph": "X", "name": KINDS[kind] if waits else mnemonic, "cat": KINDS[kind], "pid": node + 1, "tid": thread,
            "ts": start, "dur": end - start, "args": _args(trace, row),
        }  # fmt: skip
        yield event
        if kind in (MATRIX, VECTOR):
            yield {**event, "tid": MATRIX_TRACK if kind == MATRIX else VECTOR_TRACK}


def _lanes(copies: dict[str, Table]) -> Table:
    """Give each copy the first track of its node on which no earlier copy is still in flight."""
    out = np.zeros(len(copies["node"]), np.int64)
    busy: dict[int, list[tuple[int, int]]] = {}  # by node: (end, lane) of copies in flight
    free: dict[int, list[int]] = {}
    ends = np.maximum(copies["sent"], copies["done"]).tolist()
    for i in np.lexsort((copies["entry"], copies["issued"])).tolist():
        node, issued = int(copies["node"][i]), int(copies["issued"][i])
        flying, idle = busy.setdefault(node, []), free.setdefault(node, [])
        while flying and flying[0][0] <= issued:
            heapq.heappush(idle, heapq.heappop(flying)[1])
        lane = heapq.heappop(idle) if idle else len(flying)
        out[i] = lane
        heapq.heappush(flying, (max(ends[i], issued + 1), lane))
    return out


def _copies(trace: Trace, copies: dict[str, Table], lanes: Table) -> Iterator[Event]:
    seen: set[tuple[int, int]] = set()
    columns = (copies[name].tolist() for name in ("node", "row", "way", "source", "bytes", "issued", "sent", "done",
                                                  "row0", "row1", "col0", "col1"))  # fmt: skip
    for lane, (node, row, way, source, size, issued, sent, done, r0, r1, c0, c1) in zip(
        lanes.tolist(), zip(*columns, strict=True), strict=True
    ):
        if (node, lane) not in seen:
            seen.add((node, lane))
            yield {"ph": "M", "name": "thread_name", "pid": node + 1, "tid": COPY_TRACK + lane,
                   "args": {"name": f"copy engine {lane}"}}  # fmt: skip
        where = {"from": "memory" if source < 0 else str(trace.node(source))}
        if WAYS[way] != "write":
            where["to"] = str((r0, c0)) if (r0, c0) == (r1, c1) else f"rows {r0} to {r1}, columns {c0} to {c1}"
        else:
            where["to"] = "memory"
        yield {
            "ph": "X", "name": f"{WAYS[way]} {size:,} B", "cat": "copy", "pid": node + 1, "tid": COPY_TRACK + lane,
            "ts": issued, "dur": max(1, max(sent, done) - issued),
            "args": {**_args(trace, row), "bytes": size, "sent": sent, "done": done, **where},
        }  # fmt: skip


def _phases(trace: Trace, nodes: Iterable[int], window: tuple[int, int]) -> Iterator[Event]:
    """A phase lasts from its mark to the thread's next one, or to the end of what is shown; a probe is an instant."""
    probes = trace.program.code[trace.marks["row"], W_OPCODE] == PROBE
    kept, named = set(nodes), set()
    for node, thread, row, cycle in zip(*(column[probes].tolist() for column in trace.marks.values()), strict=True):
        if node in kept and cycle < window[1]:
            yield {"ph": "i", "s": "t", "name": trace.mark_name(row), "cat": "probe", "pid": node + 1, "tid": thread,
                   "ts": cycle, "args": _args(trace, row)}  # fmt: skip
    marks = {name: column[~probes].tolist() for name, column in trace.marks.items()}
    for i, (node, thread, row, cycle) in enumerate(zip(*marks.values(), strict=True)):
        if node not in kept or cycle >= window[1]:
            continue
        last = i + 1 == len(marks["node"]) or (marks["node"][i + 1], marks["thread"][i + 1]) != (node, thread)
        end = window[1] if last else min(window[1], marks["cycle"][i + 1])
        if (node, thread) not in named:
            named.add((node, thread))
            yield {"ph": "M", "name": "thread_name", "pid": node + 1, "tid": PHASE_TRACK + thread,
                   "args": {"name": f"phases of {trace.thread_name(node, thread)}"}}  # fmt: skip
        if end > cycle:
            yield {"ph": "X", "name": trace.mark_name(row), "cat": "phase", "pid": node + 1,
                   "tid": PHASE_TRACK + thread, "ts": cycle, "dur": end - cycle, "args": _args(trace, row)}  # fmt: skip


def _arrows(slices: dict[str, Table], copies: dict[str, Table], lanes: Table) -> Iterator[Event]:
    """From each instruction or copy to the waits that it ended, where both are shown."""
    origin: dict[int, tuple[int, int, int]] = {}
    senders = (slices[c].tolist() for c in ("entry", "node", "thread", "start"))
    for entry, node, thread, start in zip(*senders, strict=True):
        if entry >= 0:
            origin.setdefault(entry, (node + 1, thread, start))
    for entry, node, issued, lane in zip(
        *(copies[c].tolist() for c in ("entry", "node", "issued")), lanes.tolist(), strict=True
    ):
        origin[entry] = (node + 1, COPY_TRACK + lane, issued)
    number = 0
    columns = (slices[c].tolist() for c in ("node", "thread", "end", "by", "entry"))
    for node, thread, end, by, entry in zip(*columns, strict=True):
        if by < 0 or by == entry or by not in origin:
            continue
        number += 1
        pid, tid, start = origin[by]
        common = {"name": "ends", "cat": "token", "id": number}
        yield {"ph": "s", **common, "pid": pid, "tid": tid, "ts": start}
        yield {"ph": "f", "bp": "e", **common, "pid": node + 1, "tid": thread, "ts": end - 1}


def _counters(trace: Trace) -> tuple[list[Event], int]:
    """Bytes a cycle of the busiest links and of every memory port; and how many links with traffic are left out."""
    edges = trace.bin_edges
    width = np.maximum(1, np.diff(edges))
    digits = max(3, len(str(int(width.max()))))  # so many that value x width gives back whole bytes
    events: list[Event] = []

    def count(name: str, series: dict[str, Table]) -> None:
        """One event where a value changes, and a zero at the end."""
        values = np.stack(list(series.values()), axis=1) / width[:, None]
        change = np.flatnonzero(np.concatenate([[True], (values[1:] != values[:-1]).any(axis=1)]))
        for i in change.tolist():
            args = {key: round(float(v), digits) for key, v in zip(series, values[i], strict=True)}
            events.append({"ph": "C", "name": name, "pid": COUNTERS, "tid": 0, "ts": int(edges[i]), "args": args})
        args = dict.fromkeys(series, 0.0)
        events.append({"ph": "C", "name": name, "pid": COUNTERS, "tid": 0, "ts": int(edges[-1]), "args": args})

    for q, port in enumerate(trace.chip.ports):
        count(f"memory port {port.name}", {"read": trace.memory_read[:, q], "write": trace.memory_write[:, q]})
    total = trace.link_bytes.sum(axis=0)
    flat = total.reshape(-1)
    order = np.lexsort((np.arange(flat.size), -flat))
    order = order[flat[order] > 0]
    for index in order[:MOST_LINKS].tolist():
        row, col, way = np.unravel_index(index, total.shape)
        count(f"link ({row}, {col}) {WAYS_OUT[way]}", {"bytes a cycle": trace.link_bytes[:, row, col, way]})
    return events, max(0, len(order) - MOST_LINKS)
