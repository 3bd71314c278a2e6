"""How attention is laid out on a mesh: which nodes share a head, which rows each takes, and what fits in their SRAM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.numerics import fmt
from accel.problem.attention import CAUSAL_GROUP, Attention

__all__ = ["ROLES", "ROWS", "Piece", "Plan", "Stretch", "cover", "deal", "fill_in"]

ROWS = 8  # rows of a micro-step of the matrix unit: shares of rows are whole groups of them
ROLES = 60  # most different node programs that a plan may need; the language allows 64
ENDS = 0.75  # of a round's traffic, what the first and the last round do not hide: measured on `d1`
# Slots of keys, rows of an item, items scored in advance, and the estimated cost of having less of them.
DEPTHS = ((8, 32, 4, 1.0), (6, 32, 4, 1.01), (4, 32, 3, 1.04), (3, 32, 2, 1.1), (2, 32, 1, 1.3), (2, 16, 1, 1.5),
          (1, 16, 1, 2.0))  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Rows of a job that lie side by side in memory and see the same keys, as far as whole groups of keys go.

    start: first row in the job; place: first row in the node's buffers; extent: keys that take part; corner: of them
    the last ones, of which row r sees the first r + 1 (0: every row sees all).
    """

    start: Any
    rows: int
    place: int
    extent: int
    corner: int = 0


@dataclass(frozen=True)
class Stretch:
    """Jobs `first` to `first + jobs` on groups of rows x cols nodes, `down` groups below each other, `across` beside.

    A job is the rows low to high of one head of the stationary side; each group takes every (down * across)-th job.
    """

    rows: int
    cols: int
    down: int
    across: int
    first: int
    jobs: int
    low: int
    high: int

    @property
    def groups(self) -> int:
        """Groups that have work."""
        return min(self.jobs, self.down * self.across)

    @property
    def nodes(self) -> int:
        """Nodes of a group."""
        return self.rows * self.cols


@dataclass(frozen=True)
class Plan:
    """What a program is built from: stretches in order, and most rows of a node.

    stages: slots of k and v; chunk: most rows of an item; ahead: items that the matrix unit scores in advance.
    """

    stretches: tuple[Stretch, ...]
    stages: int
    chunk: int
    ahead: int
    rows: int


def strips(problem: Attention, low: int, high: int) -> list[tuple[int, int, int, int]]:
    """Return (start, rows, extent, corner) of the causal row strips between rows low and high of a job, few keys first.

    A job has the rows of all heads that share its keys, one head after the other; strips never cross heads.
    """
    found = []
    for head in range(problem.shared):
        for at in range(0, problem.q, CAUSAL_GROUP):
            start = head * problem.q + at
            if low <= start < high:
                extent = min(problem.kv, at + CAUSAL_GROUP)
                corner = extent - at if extent - at > 1 else 0
                found.append((start, min(CAUSAL_GROUP, problem.q - at), extent, corner))
    return sorted(found, key=lambda strip: (strip[2], strip[0]))


def deal(problem: Attention, stretch: Stretch, member: Any, chunk: int) -> list[Piece]:
    """Return the pieces of rows that node `member` of a group takes in each of its jobs.

    Without a mask every node takes as many rows as the next. Causal strips are dealt back and forth in the order of
    their keys, so that all nodes have about as much to do with every block of keys. member: 0 to nodes - 1, an
    expression or an int; under a mask it must be an int.
    """
    pieces: list[Piece] = []
    place = 0
    if problem.causal:
        for n, (start, rows, extent, corner) in enumerate(strips(problem, stretch.low, stretch.high)):
            turn, seat = divmod(n, stretch.nodes)
            if member == (stretch.nodes - 1 - seat if turn % 2 else seat):
                pieces.append(Piece(start, rows, place, extent, corner))
                place += rows
        return pieces
    groups = ceil((stretch.high - stretch.low) / ROWS)
    first, last = member * groups // stretch.nodes, (member + 1) * groups // stretch.nodes
    rows = int(last - first) * ROWS
    if member == stretch.nodes - 1:
        rows -= groups * ROWS - (stretch.high - stretch.low)
    start = first * ROWS + stretch.low
    while place < rows:
        height = min(chunk, rows - place)
        pieces.append(Piece(start + place, height, place, problem.kv))
        place += height
    return pieces


@dataclass(frozen=True)
class _Load:
    """Of the busiest node of a group: rows, and score elements that it computes for one job."""

    rows: int
    elements: int
    items: int


@lru_cache(maxsize=4096)
def _load(problem: Attention, low: int, high: int, nodes: int, chunk: int) -> _Load:
    if not problem.causal:
        rows = min(high - low, ROWS * ceil(ceil((high - low) / ROWS) / nodes))
        return _Load(rows, rows * problem.kv, ceil(rows / chunk) * ceil(problem.kv / problem.block))
    rows_of, elements, items = [0] * nodes, [0] * nodes, [0] * nodes
    for n, (_, rows, extent, _) in enumerate(strips(problem, low, high)):
        turn, seat = divmod(n, nodes)
        member = nodes - 1 - seat if turn % 2 else seat
        rows_of[member] += rows
        elements[member] += rows * extent
        items[member] += 1 + extent // problem.block * CAUSAL_GROUP // chunk
    return _Load(max(rows_of), max(elements), max(items))


def cover(chip: ChipSpec, problem: Attention) -> Plan:
    """Return the plan with the fewest estimated cycles on `chip`, in closed form; UnsupportedError where none fits.

    Whole rounds of jobs get one form of group, what is left over a form of its own, larger, so that no node waits for
    a last round; the left-over jobs come first, since few heads bring their queries sooner.
    """
    jobs, rows = problem.b * problem.h // problem.shared, problem.shared * problem.q
    best: tuple[float, Plan] | None = None
    least = 1 << 62
    for sections in _sections(problem, rows):
        cuts = sorted({min(rows, x * (-(-rows // (sections * CAUSAL_GROUP)) * CAUSAL_GROUP)) for x in range(sections)})
        spans = list(zip(cuts, [*cuts[1:], rows], strict=True))
        for stages, chunk, ahead, loss in DEPTHS:
            budget = (chip.node.sram_bytes - sram_bytes(problem, stages, chunk, ahead, 0)) // max(1, row_bytes(problem))
            least = min(least, sram_bytes(problem, stages, chunk, ahead, min(ROWS if not problem.causal else 16, rows)))
            if budget < 1:
                continue
            found = [_stretches(chip, problem, jobs, span, chunk, budget) for span in spans]
            if any(part is None for part in found):
                continue
            parts = [part for part in found if part is not None]
            cost = loss * sum(part[0] for part in parts)
            if best is None or cost < best[0]:
                most = max(part[2] for part in parts)
                best = cost, Plan(tuple(s for part in parts for s in part[1]), stages, chunk, ahead, most)
        if best is not None and sections > 1:
            break
    if best is None:
        raise UnsupportedError(
            f"{problem.label} does not fit {chip.name}: a block of {min(problem.block, problem.kv)} keys and "
            f"{min(ROWS, rows)} rows need {least} B of SRAM, a node has {chip.node.sram_bytes}; use a smaller block"
        )
    return best[1]


def _sections(problem: Attention, rows: int) -> list[int]:
    """Return into how many parts the rows of a job may be cut, each of which goes through the keys again."""
    most = max(1, rows // CAUSAL_GROUP)
    return [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n <= most and (n == 1 or problem.shared == 1)]


def _stretches(
    chip: ChipSpec, problem: Attention, jobs: int, span: tuple[int, int], chunk: int, budget: int
) -> tuple[float, list[Stretch], int] | None:
    """Return (cycles, stretches, most rows of a node) for all jobs over one span of rows; None where none fits."""
    low, high = span
    forms: list[tuple[int, int, int, float, int]] = []  # rows, cols, groups, cycles a job, rows of a node
    strips_left = ceil((high - low) / (CAUSAL_GROUP if problem.causal else ROWS))
    for rows in range(1, chip.mesh.rows + 1):
        for cols in range(1, chip.mesh.cols + 1):
            if rows * cols > strips_left or (problem.causal and rows * cols > ROLES):
                continue
            load = _load(problem, low, high, rows * cols, chunk)
            if load.rows <= budget:
                groups = (chip.mesh.rows // rows) * (chip.mesh.cols // cols)
                forms.append((rows, cols, groups, _cycles(chip, problem, load), load.rows))
    best: tuple[float, list[tuple[int, int, int, int]], int] | None = None
    # Memory must keep up; and the more heads at once, the longer all wait for the first of them and after the last.
    moved = 2 * (high - low + problem.kv) * problem.d * fmt(problem.dtype).bytes
    job = moved / max(chip.memory_bytes_per_cycle, 1e-9)
    traffic, ends = jobs * job, ENDS * job
    for rows, cols, groups, cycles, height in forms:
        rounds, rest = divmod(jobs, groups)
        options: list[tuple[float, list[tuple[int, int, int, int]], int]] = []
        cost = max(ceil(jobs / groups) * cycles, traffic) + min(jobs, groups) * ends
        options.append((cost, [(rows, cols, 0, jobs)], height))
        if rounds and rest:
            for r, c, g, t, other in forms:
                if t < cycles and (not problem.causal or _joint_roles((rows, cols), (r, c)) <= ROLES):
                    cost = max(rounds * cycles + ceil(rest / g) * t, traffic) + (min(rest, g) + groups) / 2 * ends
                    options.append(
                        (cost + 1000, [(r, c, 0, rest), (rows, cols, rest, jobs - rest)], max(height, other))
                    )
        for option in options:
            if best is None or option[0] < best[0] - 1e-9:
                best = option
    if best is None:
        return None
    stretches = [
        Stretch(r, c, chip.mesh.rows // r, chip.mesh.cols // c, first, count, low, high)
        for r, c, first, count in best[1]
    ]
    return best[0], stretches, best[2]


def _joint_roles(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Return an upper bound on the different pairs of members that a node can be in two forms of groups."""
    rows = one[0] * other[0] if one[0] % other[0] and other[0] % one[0] else max(one[0], other[0])
    cols = one[1] * other[1] if one[1] % other[1] and other[1] % one[1] else max(one[1], other[1])
    return rows * cols


def _cycles(chip: ChipSpec, problem: Attention, load: _Load) -> float:
    """Return the estimated cycles of one job on its busiest node: the slower of its two units, and what starts it."""
    unit, vector, d = chip.node.matrix, chip.node.vector, problem.d
    width = min(problem.block, problem.kv)
    step = unit.step_cycles.get(problem.dtype, 1) / (unit.m * unit.n)  # cycles a row, column and k-step
    drain = unit.accumulator_rows * unit.accumulator_cols * 4 / chip.node.port_bytes
    block = unit.accumulator_rows * unit.accumulator_cols
    scores = ceil(d / unit.k) * step + drain / block
    columns = unit.n * ceil((d + 1) / unit.n) / unit.k * step
    values = columns + drain * ceil((d + 1) / unit.accumulator_cols) / (unit.accumulator_rows * width)
    lanes = vector.bytes_per_cycle // 4
    passes = 15 / lanes + 4 / width + ceil((d + 1) / lanes) / width
    slower = max((scores + values) * load.elements, passes * load.elements)
    return slower + load.items * 150 + load.rows * (2 * d / lanes) + 1500


def row_bytes(problem: Attention) -> int:
    """Return the SRAM of one row of a node: two queries, the sums with their weight, the maximum."""
    return 2 * problem.d * fmt(problem.dtype).bytes + 4 * (problem.d + 1) + 8


def sram_bytes(problem: Attention, stages: int, chunk: int, ahead: int, rows: int) -> int:
    """Return the SRAM that the forward kernel allocates on a node, in bytes, at most."""
    item, d, width = fmt(problem.dtype).bytes, problem.d, min(problem.block, problem.kv)
    keys = stages * width * item * (2 * d + 1)
    scores = (ahead + 1) * chunk * width * (4 + item)
    results = 2 * chunk * (d * fmt(problem.out_dtype).bytes + 4)
    small = 5 * 4 * chunk + CAUSAL_GROUP**2 + 3 * 64
    return keys + scores + results + small + rows * row_bytes(problem) + 12 * 64


def fill_in(plan: Plan, chip: ChipSpec, problem: Attention, **given: Any) -> Plan:
    """Return `plan` with stages, chunk or ahead as `given`; InputError names the field and its range."""
    limits = {"stages": 8, "chunk": 128, "ahead": 4}
    for name, value in given.items():
        if name not in limits:
            raise InputError(f"attention has no tiling parameter {name!r}; use one of {', '.join(limits)}")
        low = CAUSAL_GROUP if name == "chunk" else 1
        if type(value) is not int or not low <= value <= limits[name] or value % low:
            raise InputError(f"attention tiling parameter {name}={value!r}; use {low} to {limits[name]}, in {low}s")
    new = replace(plan, **given)
    size = sram_bytes(problem, new.stages, new.chunk, new.ahead, new.rows)
    if size > chip.node.sram_bytes:
        raise InputError(
            f"attention with stages={new.stages}, chunk={new.chunk}, ahead={new.ahead} needs {size} B of SRAM a node, "
            f"{chip.name} has {chip.node.sram_bytes}; use fewer"
        )
    return new
