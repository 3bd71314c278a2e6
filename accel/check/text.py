"""The report of all findings as text for people and as plain data; quotes the author's lines, executes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accel.errors import Finding, Location
from accel.files import source_text

__all__ = ["TITLES", "as_data", "hazard_report", "nodes_text"]

NODES_SHOWN = 4
TITLES = {
    "deadlock": "threads that wait for ever",
    "race": "two accesses to the same bytes, one of them a write, in no order",
    "ambiguous": "a wait that the wrong token can satisfy",
    "uninitialised": "a read of bytes that nothing has written",
    "unawaited": "a copy whose end nobody awaits",
    "leftover": "a token that nobody takes",
    "overflow": "more tokens than a semaphore can count",
    "unwritten": "an element of an output that nothing stores",
}


def nodes_text(nodes: Sequence[tuple[int, int]]) -> str:
    """Return `(0,0), (0,1), (0,2), (0,3) and 252 more`; empty for none."""
    shown = ", ".join(f"({row},{col})" for row, col in nodes[:NODES_SHOWN])
    more = len(nodes) - NODES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def hazard_report(name: str, findings: Sequence[Finding]) -> str:
    """Return the report of all findings of program `name`: what, where, why it is a hazard, and the way out."""
    kinds = dict.fromkeys(f.kind for f in findings)
    counts = ", ".join(f"{sum(f.kind == kind for f in findings)} {kind}" for kind in kinds)
    head = f"{name} has {len(findings)} hazard{'' if len(findings) == 1 else 's'}: {counts}"
    return "\n\n".join([head, *(_one(number, f) for number, f in enumerate(findings, 1))])


def _one(number: int, f: Finding) -> str:
    lines = [f"{number}. {f.kind}: {TITLES[f.kind]}", f"   {f.message}"]
    rows = [(side.does, str(side.at or ""), f"[{side.thread}]" if side.thread else "") for side in f.sides]
    widths = [max((len(row[c]) for row in rows), default=0) for c in range(3)]
    for side, row in zip(f.sides, rows, strict=True):
        padded = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        lines.append(f"     {padded}  {_quote(side.at)}".rstrip())
    for label, texts in (
        ("on", [nodes_text(f.nodes)] * bool(f.nodes)), ("why", f.why), ("fix", [f.fix] * bool(f.fix)),
    ):  # fmt: skip
        lines += [f"   {'' if k else label:<5}{text}" for k, text in enumerate(texts)]
    return "\n".join(lines)


def _quote(at: Location | None) -> str:
    text = source_text(at) if at else ""
    return f"| {text}" if text else ""


def as_data(f: Finding) -> dict[str, Any]:
    """Return a finding as plain data: what the report says, with every node."""
    return {
        "kind": f.kind,
        "title": TITLES[f.kind],
        "message": f.message,
        "thing": f.thing,
        "first": str(f.first) if f.first else None,
        "second": str(f.second) if f.second else None,
        "sides": [
            {
                "does": side.does,
                "file": side.at.file if side.at else None,
                "line": side.at.line if side.at else None,
                "text": source_text(side.at) if side.at else "",
                "thread": side.thread,
            }
            for side in f.sides
        ],
        "why": list(f.why),
        "fix": f.fix,
        "nodes": [list(node) for node in f.nodes],
    }
