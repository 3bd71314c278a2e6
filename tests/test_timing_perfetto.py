"""Perfetto: what Chrome's format demands, whole runs within a limit, the same bytes every time."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import Asm, summa_program

from accel.errors import InputError
from accel.hardware import chip
from accel.timing import Timing, simulate
from accel.timing.perfetto import COPY_TRACK, MATRIX_TRACK, chrome_trace

MINI = chip("mini")


@pytest.fixture(scope="module")
def timing() -> Timing:
    return simulate(summa_program(2, 3, 16, 16, 8, 6), MINI)


def slices_of(data: dict[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    tracks = defaultdict(list)
    for event in data["traceEvents"]:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append(event)
    return tracks


def arrows(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    begun = {e["id"]: e for e in data["traceEvents"] if e["ph"] == "s"}
    for end in (e for e in data["traceEvents"] if e["ph"] == "f"):
        yield begun[end["id"]], end


def inside(track: list[dict[str, Any]], ts: int) -> bool:
    return any(e["ts"] <= ts < e["ts"] + e["dur"] for e in track)


def test_what_the_format_demands(timing: Timing, tmp_path: Path) -> None:
    timing.perfetto(tmp_path / "trace.json.gz")
    data = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    tracks = slices_of(data)
    named = {(e["pid"], e["tid"]) for e in data["traceEvents"] if e["name"] == "thread_name"}
    assert set(tracks) <= named
    for track in tracks.values():
        track.sort(key=lambda e: e["ts"])
        for a, b in itertools.pairwise(track):
            assert a["ts"] + a["dur"] <= b["ts"]  # slices of a track never overlap
    assert max(e["ts"] + e["dur"] for track in tracks.values() for e in track) == timing.cycles
    count = 0
    for begin, end in arrows(data):
        count += 1
        assert inside(tracks[begin["pid"], begin["tid"]], begin["ts"])
        assert inside(tracks[end["pid"], end["tid"]], end["ts"])
        assert begin["ts"] <= end["ts"]
    assert count > 10
    assert data["otherData"]["cycles"] == timing.cycles
    assert data["otherData"]["left_out"] == []


def test_what_is_on_the_tracks(timing: Timing) -> None:
    trace = timing.trace()
    data = chrome_trace(trace, limit=10**6)
    tracks = slices_of(data)
    matmuls = [e for (_, tid), track in tracks.items() if tid == MATRIX_TRACK for e in track]
    assert len(matmuls) == 6 * 6  # six panels on each of six nodes
    assert all(e["args"]["line"].startswith("hand.py:") for e in matmuls)
    assert all(e["args"]["instruction"].startswith("matmul acc") for e in matmuls)
    copies = [e for (_, tid), track in tracks.items() if tid >= COPY_TRACK for e in track]
    assert sum(e["args"]["bytes"] for e in copies) == trace.copies["bytes"].sum()
    # a counter holds until its next event: its area is what its link carried
    for name, total in (
        ("memory port west", timing.bytes["memory_read"]),
        ("link (0, 0) east", int(timing.link_bytes[0, 0, 0])),
    ):
        events = [e for e in data["traceEvents"] if e["ph"] == "C" and e["name"] == name]
        key = next(iter(events[0]["args"]))
        area = sum(a["args"][key] * (b["ts"] - a["ts"]) for a, b in itertools.pairwise(events))
        assert area == pytest.approx(total, rel=1e-3)


@pytest.mark.parametrize("limit", [1, 7, 40, 100, 400])
def test_a_limit_is_kept_and_said(timing: Timing, limit: int) -> None:
    trace = timing.trace()
    whole, data = chrome_trace(trace, limit=10**6), chrome_trace(trace, limit=limit)

    def shown(d: dict[str, Any]) -> int:
        own = [t for (_, tid), t in slices_of(d).items() if tid < MATRIX_TRACK or tid >= COPY_TRACK]
        return sum(map(len, own))

    most = shown(whole)
    assert shown(data) <= max(limit, 4)  # the threads of a node that begin together stay together
    notes = data["otherData"]["left_out"]
    assert bool(notes) == (most > limit)
    assert all("limit" in note for note in notes)
    for begin, end in arrows(data):
        assert begin["pid"] in {pid for pid, _ in slices_of(data)}
        assert end["pid"] in {pid for pid, _ in slices_of(data)}


def test_the_same_run_gives_the_same_bytes(timing: Timing, tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz", "c.json"):
        timing.perfetto(tmp_path / name)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "c.json").read_bytes()


def test_nodes_and_windows_are_noted(timing: Timing, tmp_path: Path) -> None:
    timing.perfetto(tmp_path / "t.json", nodes=[(1, 2)], window=(20, 60))
    data = json.loads((tmp_path / "t.json").read_text())
    assert {e["pid"] for e in data["traceEvents"] if e["ph"] == "X"} == {1 + 1 * 3 + 2}
    notes = data["otherData"]["left_out"]
    assert f"window: cycles 20 to 60 of {timing.cycles} were asked for" in notes
    assert "asked for: 1 of 6 nodes" in notes


def test_marks_are_phases() -> None:
    p = Asm()
    v = p.sram("v", (256, 16), "fp32")
    with p.thread("main"):
        p.emit("mark", phase=0)
        p.emit("vec.fill", dst=p.at(v), imm=0.0)
        p.emit("mark", phase=1)
        p.emit("vec.fill", dst=p.at(v), imm=1.0)
    data = chrome_trace(simulate(p.program(marks=("load", "work")), MINI).trace(), limit=100)
    phases = [(e["name"], e["ts"], e["dur"]) for e in data["traceEvents"] if e.get("cat") == "phase"]
    # each fill: an issue, 256 passes, 8 of fill
    assert phases == [("load", 0, 265), ("work", 265, 265)]


def test_probes_are_instants_and_end_no_phase() -> None:
    p = Asm()
    v = p.sram("v", (256, 16), "fp32")
    with p.thread("main"):
        p.emit("mark", phase=0)
        p.emit("vec.fill", dst=p.at(v), imm=0.0)
        p.emit("probe", x=p.at(v), name=1)
        p.emit("vec.fill", dst=p.at(v), imm=1.0)
    trace = simulate(p.program(marks=("load", "zeros")), MINI).trace()
    events = chrome_trace(trace, limit=100)["traceEvents"]
    assert [(e["name"], e["ts"], e["dur"]) for e in events if e.get("cat") == "phase"] == [("load", 0, 530)]
    # the probe stands between the fills, an issue, 256 passes and 8 of fill each
    assert [(e["ph"], e["name"], e["pid"], e["tid"]) for e in events if e.get("cat") == "probe"] == [
        ("i", "zeros", 1, 0)
    ]
    assert [0 < e["ts"] <= 265 for e in events if e.get("cat") == "probe"] == [True]


def test_counters_keep_every_byte_of_a_long_run() -> None:
    p = Asm()
    x, b, s = p.tensor("x", (64_001,)), p.sram("b", (64_001,)), p.sem("s")
    with p.thread("main"), p.loop(23):
        p.copy(p.at(b), p.at(x), done=s)
        p.wait(s)
    trace = simulate(p.program(), MINI).trace(bins=11)  # of thousands of cycles, which no round number divides
    events = [e for e in chrome_trace(trace, limit=100)["traceEvents"] if e["ph"] == "C" and "memory" in e["name"]]
    assert trace.memory_read.sum() == 23 * 128_002
    for begin, end, moved in zip(trace.bin_edges, trace.bin_edges[1:], trace.memory_read[:, 0], strict=False):
        rate = [e["args"]["read"] for e in events if e["ts"] <= begin][-1]  # a counter holds until its next event
        assert round(rate * int(end - begin)) == moved


def test_what_cannot_be_written_leaves_nothing(timing: Timing, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write trace"):
        timing.perfetto(tmp_path / "no" / "t.json")
    with pytest.raises(InputError, match="limit=0"):
        timing.perfetto(tmp_path / "t.json", limit=0)
    with pytest.raises(InputError, match="trace"):
        timing.perfetto(None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
