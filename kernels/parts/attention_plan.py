"""How attention is laid out on a mesh: which nodes share a head, how deep they pipeline, what fits in their SRAM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.attention_strips import ROWS, Stretch, extent, load_of
from accel.numerics import fmt
from accel.problem.attention import CAUSAL_GROUP, Attention

__all__ = ["ROLES", "Plan", "cover", "fill_in", "outs"]

ROLES = 60  # most different node programs that a plan may need; the language allows 64
ENDS = 0.75  # of a round's traffic, what the first and the last round do not hide: measured on `d1`
# Slots of keys, rows of an item, items scored in advance, and the estimated cost of having less of them.
DEPTHS = ((8, 32, 4, 1.0), (6, 32, 4, 1.01), (4, 32, 3, 1.04), (3, 32, 2, 1.1), (2, 32, 1, 1.3), (2, 16, 1, 1.5),
          (1, 16, 1, 2.0))  # fmt: skip
# Without a mask, forward: tall items, since what a step costs beside its rows then falls on more of them.
TALL = ((3, 128, 2, 0.97), (3, 96, 2, 0.97), (3, 64, 2, 0.98))
Form = tuple[int, int, int, int]  # rows and cols of a group, first job, jobs


@dataclass(frozen=True)
class Plan:
    """What a program is built from: stretches in order, and most rows of a node.

    stages: slots of what streams by; chunk: most rows of an item; ahead: items that the matrix unit scores in advance.
    """

    stretches: tuple[Stretch, ...]
    stages: int
    chunk: int
    ahead: int
    rows: int


def cover(chip: ChipSpec, problem: Attention) -> Plan:
    """Return the plan with the fewest estimated cycles on `chip`, in closed form; CapacityError where none fits.

    Whole rounds of jobs get one form of group, what is left over a form of its own, larger, so that no node waits for
    a last round; the left-over jobs come first, since few heads bring their queries sooner. Backward, queries and keys
    take turns to stay, on the same groups.
    """
    sides = ("q",) if problem.direction == "fwd" else ("q", "k")
    best: tuple[float, Plan] | None = None
    room = chip.node.sram_bytes
    for sections in _sections(problem):
        cuts = {side: _spans(extent(problem, side), sections) for side in sides}
        spans = [[(side, *cuts[side][x]) for side in sides if len(set(cuts[side][x])) > 1] for x in range(sections)]
        tall = TALL if problem.direction == "fwd" and not problem.causal else ()
        for stages, chunk, ahead, loss in (*tall, *DEPTHS):
            budget = (room - sram_bytes(problem, stages, chunk, ahead, 0)) // row_bytes(problem)
            found = [_forms(chip, problem, parts, chunk, budget) for parts in spans] if budget > 0 else [None]
            if any(part is None for part in found):
                continue
            cost = loss * sum(part[0] for part in found if part is not None)
            if best is None or cost < best[0]:
                stretches = tuple(_stretches(chip, spans, [part[1] for part in found if part is not None]))
                rows = max(part[2] for part in found if part is not None)
                best = cost, Plan(stretches, stages, chunk, ahead, rows)
        if best is not None and sections > 1:
            break
    if best is None:
        rows = CAUSAL_GROUP if problem.causal else ROWS
        least = sram_bytes(problem, *DEPTHS[-1][:3], rows)
        raise CapacityError(
            f"a block of {_width(problem)} keys and {rows} rows need {least:,} B of SRAM a node; "
            "use a smaller block or head"
        )
    return best[1]


def _sections(problem: Attention) -> list[int]:
    """Return into how many parts the rows of a job may be cut, each of which sees the other side stream by again."""
    most = extent(problem, "q")
    if problem.direction == "bwd":
        most = max(most, problem.kv)
    most = max(1, most // CAUSAL_GROUP)
    return [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n <= most]


def _spans(rows: int, sections: int) -> list[tuple[int, int]]:
    """Cut rows in so many parts of whole causal groups; where there are fewer groups some are empty."""
    groups = ceil(rows / CAUSAL_GROUP)
    cuts = [min(rows, CAUSAL_GROUP * (x * groups // sections)) for x in range(sections + 1)]
    return list(pairwise(cuts))


def _stretches(chip: ChipSpec, spans: list[list[tuple[str, int, int]]], forms: list[list[Form]]) -> Iterator[Stretch]:
    for parts, chosen in zip(spans, forms, strict=True):
        for side, low, high in parts:
            for rows, cols, first, jobs in chosen:
                across = chip.mesh.cols // cols
                yield Stretch(rows, cols, chip.mesh.rows // rows, across, first, jobs, low, high, side)


def _forms(
    chip: ChipSpec, problem: Attention, parts: list[tuple[str, int, int]], chunk: int, budget: int
) -> tuple[float, list[Form], int] | None:
    """Return (cycles, forms, most rows of a node) for all jobs over one span of each side; None where none fits."""
    jobs = problem.b * problem.h // problem.shared
    unit = CAUSAL_GROUP if problem.causal else ROWS
    most = max(ceil((high - low) / unit) for _, low, high in parts)
    if problem.causal:
        most = min(most, ROLES)
    known: list[tuple[int, int, int, float, int]] = []  # rows, cols, groups, cycles a job, rows of a node
    for rows in range(1, chip.mesh.rows + 1):
        for cols in range(1, min(chip.mesh.cols, most // rows) + 1):
            loads = [load_of(problem, side, low, high, rows * cols, chunk) for side, low, high in parts]
            height = max(load.rows for load in loads)
            if height <= budget:
                cycles = sum(
                    _cycles(chip, problem, side, load.rows, load.elements, load.items)
                    for (side, _, _), load in zip(parts, loads, strict=True)
                )
                known.append((rows, cols, (chip.mesh.rows // rows) * (chip.mesh.cols // cols), cycles, height))
    # Memory must keep up; and the more heads at once, the longer all wait for the first of them and after the last.
    job = sum(_moved(problem, side, high - low) for side, low, high in parts) / max(chip.memory_bytes_per_cycle, 1e-9)
    traffic, ends = jobs * job, ENDS * job / len(parts)
    best: tuple[float, list[Form], int] | None = None
    for rows, cols, groups, cycles, height in known:
        rounds, rest = divmod(jobs, groups)
        cost = max(ceil(jobs / groups) * cycles, traffic) + min(jobs, groups) * ends
        options: list[tuple[float, list[Form], int]] = [(cost, [(rows, cols, 0, jobs)], height)]
        for r, c, g, t, other in known if rounds and rest else ():
            if t < cycles and (not problem.causal or _joint_roles((rows, cols), (r, c)) <= ROLES):
                cost = max(rounds * cycles + ceil(rest / g) * t, traffic) + (min(rest, g) + groups) / 2 * ends + 1000
                options.append((cost, [(r, c, 0, rest), (rows, cols, rest, jobs - rest)], max(height, other)))
        for option in options:
            if best is None or option[0] < best[0] - 1e-9:
                best = option
    return best


def _joint_roles(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Return an upper bound on the different pairs of members that a node can be in two forms of groups."""
    rows = one[0] * other[0] if one[0] % other[0] and other[0] % one[0] else max(one[0], other[0])
    cols = one[1] * other[1] if one[1] % other[1] and other[1] % one[1] else max(one[1], other[1])
    return rows * cols


def _moved(problem: Attention, side: str, rows: int) -> int:
    """Return the bytes of a job: its rows in and out, and what streams by."""
    own, others = {"fwd": ((2, 0), (2, 0)), "bwd": ((4, 4), (2, 3))}[problem.direction]
    index, length = ("q", "k").index(side), extent(problem, "k" if side == "q" else "q")
    return (own[index] * rows + others[index] * length) * problem.d * fmt(problem.dtype).bytes


def _cycles(chip: ChipSpec, problem: Attention, side: str, rows: int, elements: int, items: int) -> float:
    """Return the estimated cycles of one job on its busiest node: the slower of its two units, and what starts it."""
    unit, vector, d = chip.node.matrix, chip.node.vector, problem.d
    width, lanes = _width(problem), vector.bytes_per_cycle // 4
    step = unit.step_cycles.get(problem.dtype, 1) / (unit.m * unit.n)  # cycles a row, column and k-step
    drain = unit.accumulator_rows * unit.accumulator_cols * 4 / chip.node.port_bytes
    scores = ceil(d / unit.k) * step + drain / (unit.accumulator_rows * unit.accumulator_cols)
    columns = d + 1 if problem.direction == "fwd" else d
    values = unit.n * ceil(columns / unit.n) / unit.k * step
    values += drain * ceil(columns / unit.accumulator_cols) / (unit.accumulator_rows * width)
    if problem.direction == "fwd":
        matrix, passes = scores + values, 15 / lanes + 4 / width + ceil(columns / lanes) / width
    else:
        matrix, passes = 2 * scores + (values if side == "q" else 2 * values), (15 if side == "q" else 16) / lanes
    return max(matrix, passes) * elements + items * 150 + rows * (2 * d / lanes) + 1500


def _width(problem: Attention) -> int:
    """Return the most that streams by in a block."""
    return min(problem.block, problem.kv if problem.direction == "fwd" else max(problem.q, problem.kv))


def row_bytes(problem: Attention) -> int:
    """Return the SRAM of one row of a node.

    Forward two queries, the sums with their weight, two maxima; backward two of each of two operands, two sums, and
    what a query needs of its own row.
    """
    item, d = fmt(problem.dtype).bytes, problem.d
    return 2 * d * item + 4 * (d + 1) + 8 if problem.direction == "fwd" else 6 * d * item + 8 * d + 16


def sram_bytes(problem: Attention, stages: int, chunk: int, ahead: int, rows: int) -> int:
    """Return the SRAM that the kernel allocates on a node, in bytes, at most."""
    item, out, d, width = fmt(problem.dtype).bytes, fmt(problem.out_dtype).bytes, problem.d, _width(problem)
    if problem.direction == "fwd":
        streams = stages * width * item * (2 * d + 1)
        scores = (ahead + 1) * chunk * width * (4 + item)
        small = 2 * chunk * (d * out + 4) + 5 * 4 * chunk
    else:
        streams = stages * width * (item * 3 * d + 12)
        scores = (ahead + 1) * chunk * width * (8 + 2 * item)
        small = 2 * max(128 if ahead > 2 else 0, 2 * chunk) * d * out + 4 * CAUSAL_GROUP * d
    return streams + scores + small + CAUSAL_GROUP**2 + rows * row_bytes(problem) + 24 * 64


def outs(chunk: int, ahead: int, *, causal: bool) -> int:
    """Return the slots of results on their way out: of 128 rows in a deep pipeline, as many rows end at once."""
    return max(2, 128 // (CAUSAL_GROUP if causal else chunk)) if ahead > 2 else 2


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
