"""The chips of many design points as few texts and the lines by which each point's differs from one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["pack", "unpack"]

ALIKE = 0.25  # share of the lines up to which a chip is written as its differences from another
MOST_BASES = 40  # whole texts that a page carries


def pack(rows: Iterable[int], chip: Callable[[int], str | None]) -> dict[str, Any]:
    """Return plain data with the chip of every row: bases (texts), chips ([base, [[line, text], ...]]) and of.

    rows: the indices of the points; chip: the TOML of a point's chip, None where it is not known. of: for every row
    the number of its chip, -1 for none.
    """
    bases: list[list[str]] = []
    chips: list[list[Any]] = []
    seen: dict[str, int] = {}
    of = []
    for index in rows:
        text = chip(index)
        if text is None:
            of.append(-1)
            continue
        if text not in seen:
            seen[text] = -1
            packed = _against(bases, text.split("\n"))
            if packed is not None:
                seen[text] = len(chips)
                chips.append(packed)
        of.append(seen[text])
    return {"bases": ["\n".join(base) for base in bases], "chips": chips, "of": of}


def _against(bases: list[list[str]], lines: list[str]) -> list[Any] | None:
    """Return a chip as its differences from a base of as many lines, from a new base where none is alike."""
    for place, base in enumerate(bases):
        if len(base) != len(lines):
            continue
        changed = [[at, new] for at, (old, new) in enumerate(zip(base, lines, strict=True)) if old != new]
        if len(changed) <= ALIKE * len(lines):
            return [place, changed]
    if len(bases) == MOST_BASES:
        return None
    bases.append(lines)
    return [len(bases) - 1, []]


def unpack(packed: dict[str, Any], chip: int) -> str:
    """Return the TOML of chip number `chip`, as the page does."""
    base, changed = packed["chips"][chip]
    lines: Sequence[str] = packed["bases"][base].split("\n")
    new = dict(map(tuple, changed))
    return "\n".join(new.get(at, line) for at, line in enumerate(lines))
