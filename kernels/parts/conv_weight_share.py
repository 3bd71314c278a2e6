"""Which part of a weight gradient a node works on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from accel.kernels.parts.conv_weight_tiling import Tiling
from accel.lang import K

__all__ = ["Share", "corner_of", "left", "share_of"]


@dataclass(frozen=True)
class Share:
    """What a node works on: its team, and where its part of groups, taps (kt, r, s), channels and filters starts.

    count: how many of each; images: of the team.
    """

    team: Any
    local: Any
    start: tuple[Any, Any, Any, Any, Any, Any]
    count: tuple[int, int, int, int, int, int]
    images: int

    @property
    def taps(self) -> int:
        """Return the groups and taps of the node, the first dimension of its tile."""
        g, t, r, s, _, _ = self.count
        return g * t * r * s


def share_of(k: K, tiling: Tiling) -> Share | None:
    """Return this node's share, or None where it has none."""
    T, high = tiling, tiling.team_rows
    stacked = k.mesh[0] // high
    if k.row >= stacked * high or k.col >= T.across * T.k_parts:
        return None
    team = k.row // high * T.across + k.col // T.k_parts
    if team >= T.teams:
        return None
    local, index = k.row % high, []
    rest = local
    for parts in (T.s_parts, T.r_parts, T.t_parts, T.c_parts, T.group_parts):
        index.append(rest % parts)
        rest = rest // parts
    s, r, t, c, g = index
    sizes = (T.form.groups, *(axis.taps for axis in T.axes), T.c, T.k - T.rest)
    start, count = [], []
    for i, size, each in zip((g, t, r, s, c, k.col % T.k_parts), sizes, T.part, strict=True):
        start.append(i * each)
        count.append(each if size % each == 0 else int(_least(each, size - i * each)))
    images = T.share if T.form.n % T.share == 0 else int(_least(T.share, T.form.n - team * T.share))
    return Share(team, local, tuple(start), tuple(count), images)  # type: ignore[arg-type]


def corner_of(k: K, tiling: Tiling, mine: Share) -> Share:
    """Return this node's share of the last `rest` filters: some channels of its row, none on the last columns."""
    T, each = tiling, tiling.corner[1]
    first = k.col % T.k_parts * each
    count = each if each * T.k_parts == mine.count[4] else int(left(each, mine.count[4] - first))
    return replace(
        mine, start=(*mine.start[:4], mine.start[4] + first, T.k - T.rest), count=(*mine.count[:4], count, T.rest)
    )


def _least(a: int, b: Any) -> Any:
    """Return the smaller of two; nodes that disagree become roles."""
    return b if b < a else a


def left(each: int, rest: Any) -> Any:
    """Return how many of `each` are left; nodes that disagree become roles."""
    return each if rest >= each else rest if rest > 0 else 0
