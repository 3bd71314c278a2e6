"""The default tiling of `matmul.stationary` in closed form: candidates, their prices, and what a caller may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.matmul_formats import Formats
from accel.kernels.parts.matmul_tiling import GROUP, Tiling

__all__ = ["TILE", "choose", "fill_in"]

TILE = ("bm", "bn", "bk")  # the tile of a step as users of any matmul know it

MOST_PASSES = 4096
LEAST_DEPTH = 64  # columns of a step: 128-byte rows or longer, so that a panel is not a rain of small memory bursts
LIKELY = 8  # ways to cut the mesh in teams that are worth pricing
STRIP_BYTES = 16 << 10  # staging for results on their way out: large enough for long packets, small beside the rest


def choose(
    chip: ChipSpec, m: int, n: int, k: int, *, resident: frozenset[str], formats: Formats, batch: int = 1,
    split_k: int = 1, alone: bool = False, tile: Mapping[str, int] | None = None,
) -> Tiling:  # fmt: skip
    """Return the tiling with the fewest estimated cycles that fits a node's SRAM; ties go to the first in order.

    alone: the whole mesh is one team, which computes a batch matrix by matrix. tile: some of `TILE`, to be kept: an
    accumulator tile has at most bm rows and bn columns, in whole groups of 8, and a step is bk deep, or the whole depth
    where that is less.
    CapacityError where none fits, naming the smallest; InputError for a tile out of range.
    """
    wanted = _tile(tile or {})
    rows, cols = chip.mesh.rows, chip.mesh.cols
    base = Tiling(
        m=m, n=n, k=k, grid_rows=min(rows, ceil(m / GROUP)), grid_cols=min(cols, ceil(n / GROUP)), passes_m=1,
        passes_n=1, piece=k, pieces=1, stages=2, accumulators=1, strip=16, batch=batch,
    )  # fmt: skip
    if split_k > 1:
        base = replace(base, chain=ceil(k / split_k), chains=ceil(k / ceil(k / split_k)), piece=ceil(k / split_k))
    budget = chip.node.sram_bytes
    best: tuple[float, Tiling] | None = None
    least = (1 << 62, base)
    teams = [base] if alone or (batch == 1 and base.chains == 1) else _teams(base, rows, cols)
    for candidate in (c for team in teams for c in _candidates(team, budget, resident, formats, wanted)):
        size = candidate.sram_bytes(resident=resident, formats=formats)
        if size < least[0]:
            least = (size, candidate)
        if size <= budget:
            cost = candidate.cycles(chip, resident=resident, formats=formats)
            if best is None or cost < best[0]:
                best = (cost, candidate)
    if best is None:
        kept = f" with {', '.join(sorted(resident))} resident" if resident else ""
        cut = f" in tiles of {', '.join(f'{x}={wanted[x]}' for x in TILE if x in wanted)}" if wanted else ""
        way = "keep fewer operands resident, or spread them over more nodes" if kept else "cut the problem"
        way = "use a smaller tile" if cut else way
        raise CapacityError(f"the smallest tiling{kept}{cut} needs {least[0]:,} B of SRAM a node; {way}")
    _require_kept(best[1], wanted)
    return best[1]


def _tile(tile: Mapping[str, int]) -> dict[str, int]:
    """Return the given sides of a tile as whole groups of 8, and its depth as it is; InputError for a wrong one."""
    for name, value in tile.items():
        if type(value) is not int or value < 1:
            raise InputError(f"matmul tiling parameter {name} must be a whole number >= 1, got {value!r}")
    return {name: value if name == "bk" else GROUP * ceil(value / GROUP) for name, value in tile.items()}


def _require_kept(found: Tiling, wanted: Mapping[str, int]) -> None:
    """Refuse a tile with fewer rows or columns than passes of which none is empty can have; InputError says which."""
    for name in ("bm", "bn"):
        if getattr(found, name) > wanted.get(name, getattr(found, name)):
            raise InputError(
                f"matmul tiling parameter {name}={wanted[name]} would leave nodes without work in some passes; use "
                f"{getattr(found, name)} or more"
            )


def _teams(base: Tiling, rows: int, cols: int) -> list[Tiling]:
    """Return the likeliest ways to cut the mesh in teams: those whose busiest node has the fewest groups x steps."""
    found: list[tuple[tuple[int, int, int], Tiling]] = []
    for grid_rows, team_rows in _grids(rows, base.grid_rows):
        for grid_cols, team_cols in _grids(cols, base.grid_cols):
            span = 1
            while ceil(base.chains / span) > team_rows * team_cols:
                span *= 2
            while True:
                made = replace(base, grid_rows=grid_rows, grid_cols=grid_cols, team_rows=team_rows,
                               team_cols=team_cols, span=span)  # fmt: skip
                work = made.rounds * min(span, made.chains) * made.rows * made.cols
                found.append(((work, made.replicas, team_rows * team_cols), made))
                if span >= base.chains:
                    break
                span *= 2
    found.sort(key=lambda one: one[0])
    least = found[0][0][0]
    return [made for (work, _, _), made in found[:LIKELY] if work <= 4 * least]


def _grids(nodes: int, most: int) -> list[tuple[int, int]]:
    """Return (nodes of a team, teams) along one side of the mesh, the largest team for each count."""
    return sorted({nodes // size: (size, nodes // size) for size in range(1, most + 1)}.values())


def _candidates(
    base: Tiling, budget: int, resident: frozenset[str], formats: Formats, wanted: Mapping[str, int]
) -> Iterator[Tiling]:
    """Yield tilings worth pricing: every pass count, and for each the deep and the shallow k steps that fit."""
    min_m = max(1, (-(-base.m // GROUP)) // base.grid_rows)
    min_n = max(1, (-(-base.n // GROUP)) // base.grid_cols)
    owners = max(base.grid_rows if "b" in resident else 1, base.grid_cols if "a" in resident else 1)
    for passes_m in _passes(base.rows // GROUP, min_m, wanted.get("bm")):
        for passes_n in _passes(base.cols // GROUP, min_n, wanted.get("bn")):
            several = passes_m * passes_n * base.rounds > 1 and not base.direct(resident, formats) and base.span == 1
            for accumulators in (1, 2) if several else (1,):
                shape = replace(base, passes_m=passes_m, passes_n=passes_n, accumulators=accumulators)
                shape = replace(shape, strip=max(1, min(shape.bm, STRIP_BYTES // max(1, formats.out_item * shape.bn))))
                if "bk" in wanted:
                    yield from _given_steps(shape, min(wanted["bk"], shape.depth), resident)
                elif resident & {"a", "b"}:
                    yield from _resident_steps(shape, owners)
                else:
                    yield from _streamed_steps(shape, budget, resident, formats)


def _passes(groups: int, least: int, side: int | None) -> list[int]:
    """Return the pass counts worth trying: for every size of the largest pass, the fewest passes that reach it.

    groups: the most groups of 8 that a node owns; least: the fewest, and so the most passes that are never empty; side:
    the rows or columns of a pass, where they are given.
    """
    limit = min(least, MOST_PASSES)
    if side is not None:
        return [min(limit, ceil(groups * GROUP / side))]
    sizes = {ceil(groups / p) for p in range(1, min(limit, 64) + 1)} | {max(1, groups >> x) for x in range(30)}
    return sorted({p for p in (ceil(groups / size) for size in sizes) if p <= limit})


def _streamed_steps(shape: Tiling, budget: int, resident: frozenset[str], formats: Formats) -> Iterator[Tiling]:
    for stages in (2, 3, 4, 6, 8):
        fixed = replace(shape, stages=stages, piece=1).sram_bytes(resident=resident, formats=formats)
        per_column = formats.item * stages * (shape.bm + shape.bn)
        most = (budget - fixed) // per_column + 1
        if most < 1:
            yield replace(shape, stages=stages, piece=min(shape.depth, GROUP))
            continue
        fewest = ceil(shape.depth / min(most, shape.depth))
        for steps in sorted({fewest + 1, *(fewest * x for x in (1, 2, 4, 8, 16))}):
            depth = _rounded(ceil(shape.depth / steps), shape.depth)
            while depth > most and depth > 4:
                depth -= 4
            if depth <= most and (depth >= min(shape.depth, LEAST_DEPTH) or steps == fewest):
                yield replace(shape, stages=stages, piece=depth)


def _given_steps(shape: Tiling, depth: int, resident: frozenset[str]) -> Iterator[Tiling]:
    if resident & {"a", "b"}:
        smallest = min(shape.grid_rows, shape.grid_cols)
        for pieces in (x for x in range(1, smallest + 1) if depth % x == 0):
            yield replace(shape, piece=depth // pieces, pieces=pieces)
        return
    for stages in (2, 3, 4, 6, 8):
        yield replace(shape, stages=stages, piece=depth)


def _resident_steps(shape: Tiling, owners: int) -> Iterator[Tiling]:
    # Pieces must be fine enough to be dealt evenly over the owners; a step gathers several of them.
    smallest = min(shape.grid_rows, shape.grid_cols)
    for rounds in (1, 2, 3, 4, 6, 8):
        piece = _rounded(ceil(shape.depth / (owners * rounds)), shape.depth)
        for pieces in range(1, max(1, min(smallest, ceil(shape.depth / piece))) + 1):
            yield replace(shape, piece=piece, pieces=pieces)


def _rounded(depth: int, k: int) -> int:
    """Return depth rounded up to whole micro-steps of 4, but not beyond k."""
    return min(k, 4 * ceil(depth / 4))


def fill_in(tiling: Tiling, chip: ChipSpec, *, resident: frozenset[str], formats: Formats, **given: int) -> Tiling:
    """Return `tiling` with the fields of `given` replaced and checked; InputError names the field and its range."""
    known = ("passes_m", "passes_n", "piece", "pieces", "stages", "accumulators", "strip")
    for name, value in given.items():
        if name not in known:
            raise InputError(f"matmul has no tiling parameter {name!r}; use one of {', '.join((*TILE, *known))}")
        if type(value) is not int or value < 1:
            raise InputError(f"matmul tiling parameter {name} must be a whole number >= 1, got {value!r}")
    new = replace(tiling, **given)
    limits = {
        "passes_m": -(-new.m // GROUP) // new.grid_rows or 1, "passes_n": -(-new.n // GROUP) // new.grid_cols or 1,
        "piece": new.depth, "accumulators": 2, "stages": 8,
        "pieces": min(new.grid_rows, new.grid_cols, -(-new.depth // new.piece)) if resident & {"a", "b"} else 1,
    }  # fmt: skip
    for name, most in limits.items():
        if getattr(new, name) > most:
            raise InputError(f"matmul tiling parameter {name}={getattr(new, name)} is too large here; use 1 to {most}")
    size = new.sram_bytes(resident=resident, formats=formats)
    if size > chip.node.sram_bytes:
        raise InputError(
            f"matmul tiling needs {size} B of SRAM a node, {chip.name} has {chip.node.sram_bytes}; "
            "use a smaller piece, fewer stages or more passes"
        )
    return new
