"""How a forward convolution is cut over a mesh: the closed-form default tiling, and why it is legal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod
from typing import Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_estimate import cycles, least_cycles
from accel.kernels.parts.conv_shape import Shape
from accel.kernels.parts.conv_stage import plan_of
from accel.kernels.parts.epilogue import strip_of, work_of
from accel.lang import SRAM_ALIGN
from accel.numerics import fmt

__all__ = ["Chunk", "Tiling", "choose", "fill_in"]

GROUP = 8  # filters are dealt in groups of one matrix-unit step
PATIENT = 48  # pixels of the first tile from which on chunks after the first can wait until it begins
SHORTER = 1.005  # a tiling this much slower is as good if its program is shorter
MOST_RUNS = 64  # of a node's part of a resident tensor, each declared by itself
MOST_PIXELS = 1024  # of a tile: more brings nothing
Chunk = tuple[int, int, int, int, int, int]  # row taps [0:2], taps along the row [2:4], channels [4:6] of a piece of w


@dataclass(frozen=True)
class Tiling:
    """One legal way to run a forward convolution.

    The output is cut in bands of `high` rows x `wide` pixels, dealt to grid_rows / parts x grid_cols nodes; each of the
    `parts` such groups of mesh rows has its own filters. A node's bands go in tiles of `bands` (more than one only of
    single rows), through `slots` frame buffers; filters pass in chunks of `taps` filter rows or, where a row is too
    much, of `deep` channels of one tap, through `stages` buffers (kept if there are as many as chunks).
    staged: x comes from memory, every row once, to the node that keeps it, as if it were resident (`conv_stage.py`).
    rounding: whether the matrix unit can write y as it leaves, rounded.
    """

    shape: Shape
    parts: int
    grid_rows: int
    grid_cols: int
    high: int
    wide: int
    bands: int
    taps: int
    deep: int
    slots: int
    stages: int
    accumulators: int
    on_vector: bool
    dtype: str
    out_dtype: str
    bias: bool
    activation: str = "none"
    staged: bool = False
    rounding: bool = False

    def node(self, part: Any, member: Any) -> tuple[Any, Any]:
        """Return (row, column) of a member of a part of the mesh."""
        row, col = member // self.grid_cols, member % self.grid_cols
        return part * (self.grid_rows // self.parts) + row, self.turned(row, col)

    def turned(self, row: Any, col: Any) -> Any:
        """Return the column of the col-th member of a row, and the other way round."""
        return col + row % 2 * (self.grid_cols - 1 - 2 * col) if self.there_and_back else col

    @cached_property
    def there_and_back(self) -> bool:
        """Return whether every other row of members runs backwards.

        So it does where a node reads frames that some nodes before and after it keep: from one row to the next all of
        those at its end would otherwise fetch over the whole row. Frames of nodes farther away cross it anyway.
        """
        t = self.shape.t
        reach = (t.taps - 1) * t.dilation
        if self.staged or not 0 < reach >= t.stride:
            return False
        return 2 * reach * self.members <= self.grid_cols * self.shape.n * t.size

    @cached_property
    def members(self) -> int:
        """Return the nodes that share filters."""
        return self.grid_rows // self.parts * self.grid_cols

    @cached_property
    def blocks(self) -> tuple[int, int]:
        """Return how many bands cover the height and the width of an output."""
        return ceil(self.shape.h.out / self.high), ceil(self.shape.w.out / self.wide)

    @cached_property
    def all_bands(self) -> int:
        """Return the bands of all clips."""
        down, across = self.blocks
        return self.shape.n * self.shape.t.out * down * across

    @cached_property
    def most_bands(self) -> int:
        """Return the most bands of a node."""
        return ceil(self.all_bands / self.members)

    @property
    def tiles(self) -> int:
        """Return the tiles of a node."""
        return 1 + ceil((self.most_bands - self.lead) / self.bands)

    @property
    def lead(self) -> int:
        """Return the bands of the first tile: few, since nothing is multiplied while its rows are on their way."""
        return ceil(self.bands / 4) if self.most_bands > self.bands else self.most_bands

    def cuts(self) -> list[tuple[int, int]]:
        """Return (first band, past the last) of every tile of a node that has the most bands."""
        starts = [0, *range(self.lead, self.most_bands, self.bands)]
        return list(zip(starts, [*starts[1:], self.most_bands], strict=True))

    @property
    def rows(self) -> int:
        """Return the input rows of one band and one tap in time: those read, or where bands are high all between."""
        h = self.shape.h
        return h.taps if self.high == 1 else (self.high - 1) * h.stride + (h.taps - 1) * h.dilation + 1

    @property
    def columns(self) -> int:
        """Return the input pixels of a row of a band."""
        w = self.shape.w
        return (self.wide - 1) * w.stride + (w.taps - 1) * w.dilation + 1

    @cached_property
    def filters(self) -> int:
        """Return the most filters of a node."""
        unit = self.shape.group_k if self.shape.groups > 1 else GROUP
        return min(self.shape.k, unit * ceil(ceil(self.shape.k / unit) / self.parts))

    @property
    def fused(self) -> bool:
        """Return whether taps and channels of a filter row are one run of elements, so that rows join in one matmul."""
        return self.shape.groups == 1 and (self.shape.w.dilation == 1 or self.shape.w.taps == 1)

    @property
    def rounds(self) -> bool:
        """Return whether products write results: each chain is one of them, and the matrix unit rounds it."""
        one = self.chunk_count == 1 and not self.deep and (self.high == 1 or self.shape.t.taps == 1)
        return self.rounding and self.fused and one

    @cached_property
    def chunk_count(self) -> int:
        """Return the number of pieces of w."""
        s = self.shape
        return s.row_taps * s.w.taps * ceil(s.group_c / self.deep) if self.deep else ceil(s.row_taps / self.taps)

    @property
    def chunks(self) -> list[Chunk]:
        """Return the pieces of w in the order of the chain."""
        s = self.shape
        if not self.deep:
            return [
                (a, min(a + self.taps, s.row_taps), 0, s.w.taps, 0, s.group_c) for a in range(0, s.row_taps, self.taps)
            ]
        return [
            (a, a + 1, b, b + 1, low, min(low + self.deep, s.group_c))
            for a in range(s.row_taps)
            for b in range(s.w.taps)
            for low in range(0, s.group_c, self.deep)
        ]

    @property
    def chunk_depth(self) -> int:
        """Return the most rows of w, as a matrix, in a chunk."""
        return self.deep or self.taps * self.shape.w.taps * self.shape.group_c

    @property
    def kept(self) -> bool:
        """Return whether all filters of a node stay in its SRAM."""
        return self.stages >= self.chunk_count

    @property
    def patient(self) -> bool:
        """Return whether chunks after the first stay out of the way of the rows that the first tile waits for.

        A tile keeps a chunk busy for pixels / 8 times as long as the next takes to come: so they do where that is long.
        """
        return self.chunk_count > 1 and self.lead * self.high * self.wide >= PATIENT

    @cached_property
    def by_block(self) -> bool:
        """Return whether bands follow each other in time, block of pixels by block, instead of frame by frame.

        So they do where only time has taps: most of the frames that a node reads are then its own.
        """
        s, (_, across) = self.shape, self.blocks
        even = s.t.stride == 1 and s.t.size == s.t.out and s.w.size == s.w.out == across * self.wide
        plain = s.h.size == s.h.out == s.w.taps == s.w.stride == 1
        return s.t.taps > 1 < across and plain and even and not self.staged and self.most_bands <= MOST_RUNS

    @property
    def block(self) -> int:
        """Return the pixels of a row that lie together where x is resident: a whole row, or what a band steps over."""
        return self.shape.w.size if self.blocks[1] == 1 else self.wide * self.shape.w.stride

    @property
    def units(self) -> int:
        """Return the pieces of a resident x: `block` pixels of a row each."""
        return self.shape.rows_in * ceil(self.shape.w.size / self.block)

    @property
    def homes(self) -> int:
        """Return the most pieces of a resident x that a node keeps: those of a member, dealt over the parts."""
        return ceil(ceil(self.units / self.members) / self.parts)

    @property
    def piece(self) -> int:
        """Return the rows of w in a piece of a resident w."""
        return ceil(self.chunk_depth / min(self.members, 8))

    @property
    def sums(self) -> str:
        """Return the format of the accumulators."""
        return "int32" if fmt(self.dtype).kind == "int" else "fp32"

    @property
    def strip(self) -> tuple[int, int]:
        """Return (pixels, filters) that the activation works on at a time."""
        return strip_of(self.wide, self.filters)

    def sram_bytes(self, resident: frozenset[str]) -> int:
        """Return the SRAM of one node, in bytes."""
        s, item, out_item = self.shape, fmt(self.dtype).bytes, fmt(self.out_dtype).bytes
        frame = self.bands * s.t.taps * self.rows * self.columns * s.c
        chunk, pixels = self.chunk_depth * self.filters, self.bands * self.high * self.wide
        buffers = [item * self.slots * frame, item * self.stages * chunk]
        if not self.rounds:
            buffers.append(4 * self.accumulators * pixels * self.filters)
        if self.on_vector and item < 4:
            buffers += [4 * frame, 4 * chunk]
        if self.bias:
            buffers.append(4 * self.filters)
        buffers += [4 * prod(self.strip)] * len(work_of(self.activation))
        if "x" in resident or self.staged:
            buffers.append(item * self.homes * self.block * s.c)
        if "w" in resident:
            pieces = self.chunk_count * ceil(self.chunk_depth / self.piece)
            buffers.append(item * ceil(pieces / self.members) * self.piece * self.filters)
        if "y" in resident:
            buffers.append(out_item * self.most_bands * self.high * self.wide * self.filters)
        elif self.out_dtype != self.sums:
            buffers.append(2 * out_item * pixels * self.filters)
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in buffers)

    def copies(self, resident: frozenset[str]) -> int:
        """Return how many runs of pixels a node fetches."""
        rows = self.most_bands * self.shape.t.taps * self.rows
        across = ("x" in resident or self.staged) and self.blocks[1] > 1
        return rows * (1 + ceil((self.columns - 1) / self.block)) if across else rows

    def multiply_cycles(self, chip: ChipSpec) -> int:
        """Return the cycles that the busiest node multiplies."""
        sizes = [high - low for low, high in self.cuts()[-1:] + self.cuts()[:1]][: self.tiles]
        middle = max(0, self.tiles - 2) * self.tile_cycles(chip, self.bands)
        return middle + sum(self.tile_cycles(chip, bands) for bands in sizes)

    def tile_cycles(self, chip: ChipSpec, bands: int) -> int:
        """Return the cycles that a node multiplies for a tile of so many bands."""
        s, m, n = self.shape, bands * self.high * self.wide, self.filters
        if self.on_vector:
            lanes = chip.node.vector.bytes_per_cycle // 4
            groups = 1 if s.groups == 1 else n // s.group_k
            inner = max(groups, n // groups)
            # Three operands and a result: four accesses a pass, and as many cycles as the address units need for them.
            passes = m * (n // inner) * ceil(inner / lanes) * max(1, ceil(4 / chip.node.accesses_per_cycle))
            each = passes + chip.node.vector.fill_cycles + chip.node.issue_cycles
            return s.depth * each if groups < n // groups or s.groups == 1 else s.depth * s.group_k * each
        unit = chip.node.matrix
        operations = n // s.group_k if s.groups > 1 else 1
        width = s.group_k if s.groups > 1 else n
        groups = operations * ceil(m / unit.m) * ceil(width / unit.n)
        size = fmt(self.out_dtype).bytes if self.rounds else 4
        moved = unit.m * unit.n * size // chip.node.port_bytes  # cycles to store a group of accumulators
        corner = unit.accumulator_rows * unit.accumulator_cols * size // chip.node.port_bytes
        if self.deep:
            count, each = s.row_taps * s.w.taps * ceil(s.group_c / self.deep), ceil(s.depth / self.chunk_count / unit.k)
        elif self.fused:
            count = max(self.chunk_count, 1 if self.high == 1 else s.t.taps)
            each = ceil(s.depth / count / unit.k)
        else:
            count, each = s.row_taps, ceil(s.w.taps * s.group_c / unit.k)
        step = unit.step_cycles[self.dtype]
        alone = operations * (corner + unit.fill_cycles + chip.node.issue_cycles)
        return count * (groups * (each * step + moved) + alone)

    def cycles(self, chip: ChipSpec, resident: frozenset[str]) -> float:
        """Return the estimated cycles on `chip`; see `conv_estimate.py`."""
        return cycles(self, chip, resident)

    def collectable(self) -> bool:
        """Return whether the pixels of every band are one run in memory, and so are those of several."""
        s = self.shape
        down, across = self.blocks
        if across == 1:
            return down == 1 or s.h.out % self.high == 0
        return self.high == 1 and (s.w.out % self.wide == 0 or s.rows_out == 1)

    def preloadable(self) -> bool:
        """Return whether the blocks of a resident x are one run in memory each."""
        return self.shape.w.size % self.block == 0 or self.shape.rows_in == 1


def choose(
    chip: ChipSpec, shape: Shape, *, resident: frozenset[str], dtype: str, out_dtype: str, bias: bool,
    activation: str = "none",
) -> Tiling:  # fmt: skip
    """Return the tiling with about the fewest estimated cycles that fits a node's SRAM, of equals the fewest copies.

    CapacityError where none fits, naming the smallest and what a node has.
    """
    base = Tiling(
        shape, 1, chip.mesh.rows, chip.mesh.cols, 1, 1, 1, 1, 0, 1, 1, 1, dtype == "fp32", dtype, out_dtype, bias,
        activation,
    )  # fmt: skip
    plainly = not bias and activation == "none" and base.sums == "fp32" and not base.on_vector
    base = replace(base, rounding=plainly and out_dtype in chip.node.matrix.output_formats)
    if dtype != "fp32" and fmt(dtype).kind != "int":  # the vector unit has no fused multiply-add of integers
        probe = replace(base, wide=min(shape.w.out, 64), taps=shape.row_taps)
        if replace(probe, on_vector=True).tile_cycles(chip, 1) < probe.tile_cycles(chip, 1):
            base = replace(base, on_vector=True, rounding=False)
    plain = [cut for cut in _cuts(base) if _legal(cut, resident)]
    staged = []
    if "x" not in resident and shape.row_taps * shape.w.taps > 1:
        staged = [replace(cut, staged=True) for cut in plain if cut.parts == 1 and cut.preloadable()]
    for cuts in (plain + staged, plain):
        for candidate in _best(chip, cuts, resident):
            if not candidate.staged or plan_of(candidate):
                return candidate
    least = min((c.sram_bytes(resident) for cut in plain for c in _chunked(cut)), default=0)
    kept = f" with {', '.join(sorted(resident))} resident" if resident else ""
    raise CapacityError(
        f"the smallest tiling{kept} needs {least:,} B of SRAM a node; "
        + ("keep fewer operands resident, or spread them over more nodes" if kept else "cut the problem")
    )


def _best(chip: ChipSpec, cuts: list[Tiling], resident: frozenset[str]) -> list[Tiling]:
    """Return the tilings that are about as fast as the fastest that fits, those with the fewest copies first."""
    best, found = float("inf"), list[tuple[float, Tiling]]()
    # With all filters kept and nothing waited for, a cut is about as fast as it can be: the slower ones need no look.
    roughly = sorted(((least_cycles(cut, chip, resident), n) for n, cut in enumerate(cuts)), key=lambda pair: pair)
    for ideal, n in roughly:
        if best * SHORTER <= ideal:
            break
        for candidate in _chunked(cuts[n]):
            if candidate.sram_bytes(resident) <= chip.node.sram_bytes:
                found.append((candidate.cycles(chip, resident), candidate))
                best = min(best, found[-1][0])
    near = [
        (candidate.copies(resident), cost, n) for n, (cost, candidate) in enumerate(found) if cost <= best * SHORTER
    ]
    return [found[n][1] for _, _, n in sorted(near)]


def _legal(cut: Tiling, resident: frozenset[str]) -> bool:
    return ("y" not in resident or cut.collectable()) and ("x" not in resident or cut.preloadable())


def _cuts(base: Tiling) -> Iterator[Tiling]:
    """Yield the ways to cut outputs and filters: parts, bands and bands of a tile."""
    s, rows, cols = base.shape, base.grid_rows, base.grid_cols
    units = s.groups if s.groups > 1 else ceil(s.k / GROUP)
    for parts in sorted({p for p in range(1, rows + 1) if rows % p == 0 or p == rows // 2} & set(range(1, units + 1))):
        nodes = rows // parts * cols
        for high in _heights(s.h.out):
            for wide in _widths(s, nodes, high):
                cut = replace(base, parts=parts, high=high, wide=wide)
                total = cut.all_bands
                down = min(rows // parts, max(1, total // cols))
                cut = replace(cut, grid_rows=down * parts, grid_cols=min(cols, total))
                for bands in _bands(cut):
                    yield replace(cut, bands=bands)


def _heights(rows: int) -> list[int]:
    return sorted({1, *(h for h in (2, 4, 7, 8, 14, 16, 28) if h < rows), *((rows,) if rows <= 64 else ())})


def _widths(s: Shape, nodes: int, high: int) -> list[int]:
    q = s.w.out
    found = {ceil(q / j) for j in (1, 2, 3, 4, 8, 16, 32, 64) if j <= q}
    found |= {min(q, GROUP * ceil(ceil(q / j) / GROUP)) for j in (2, 4, 8, 16)}
    if s.rows_out == 1:
        found |= {min(q, GROUP * ceil(q / (nodes * j * GROUP))) for j in range(1, 65)}
    found |= {d for d in (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64) if q % d == 0}
    return sorted(x for x in found if x * high <= MOST_PIXELS or x == 1)


def _bands(cut: Tiling) -> list[int]:
    if cut.high > 1:
        return [1]
    most = cut.most_bands
    counts = {ceil(most / passes) for passes in (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 1 << 30)}
    counts |= {ceil(most / ceil(most / b)) for b in (2, 3, 4, 6, 8, 12, 16)}
    return sorted(b for b in counts if b * cut.wide <= MOST_PIXELS or b == 1)


def _chunked(cut: Tiling) -> Iterator[Tiling]:
    """Yield the ways to bring the filters: kept whole, or passing in chunks of rows or of channels."""
    s = cut.shape
    buffers = [(1, 1)] if cut.tiles == 1 else [(2, 2), (2, 1), (1, 1)]
    for slots, accumulators in buffers:
        shaped = replace(cut, slots=slots, accumulators=accumulators)
        for taps in sorted({s.row_taps, ceil(s.row_taps / 2), ceil(s.row_taps / 3), 1}, reverse=True):
            by_rows = replace(shaped, taps=taps)
            count = by_rows.chunk_count
            for stages in sorted({count, 2, 3}):
                if stages <= count:
                    yield replace(by_rows, stages=stages)
        for pieces in (1, 2, 4, 8, 16, 32, 64):
            if pieces > s.group_c or (pieces == 1 and s.w.taps == 1):
                continue
            for stages in (2, 3, 4):
                by_channels = replace(shaped, deep=ceil(s.group_c / pieces), stages=stages)
                yield replace(by_channels, stages=min(stages, s.row_taps * s.w.taps * pieces))


def fill_in(tiling: Tiling, chip: ChipSpec, resident: frozenset[str], **given: Any) -> Tiling:
    """Return `tiling` with the fields of `given` replaced and checked; InputError names the field and its range."""
    s = tiling.shape
    limits = {
        "high": s.h.out, "wide": s.w.out, "bands": tiling.all_bands, "taps": s.row_taps, "deep": s.group_c,
        "slots": 8, "stages": 1 << 16, "accumulators": 2, "staged": 1,
        "parts": min(chip.mesh.rows, s.groups if s.groups > 1 else ceil(s.k / GROUP)),
    }  # fmt: skip
    for name, value in given.items():
        if name not in limits:
            raise InputError(f"convolution has no tiling parameter {name!r}; use one of {', '.join(limits)}")
        low = 0 if name in ("deep", "staged") else 1
        if type(value) is not int or not low <= value <= limits[name]:
            raise InputError(
                f"convolution tiling parameter {name}={value!r} is outside {low}..{limits[name]}; give a whole number"
            )
    alone = {"bands": 1} if given.get("high", 1) > 1 else {}  # bands of several rows are tiles of their own
    new = replace(tiling, **alone | given)
    new = replace(new, stages=min(new.stages, len(new.chunks)))
    cols = min(chip.mesh.cols, new.all_bands)
    down = min(chip.mesh.rows // new.parts, max(1, new.all_bands // cols))
    new = replace(new, grid_rows=down * new.parts, grid_cols=cols)
    if new.high > 1 and new.bands > 1:
        raise InputError(f"convolution tiling has bands={new.bands} of high={new.high} rows; use bands=1 or high=1")
    if not _legal(new, resident):
        raise InputError(
            f"convolution tiling high={new.high}, wide={new.wide} cuts resident tensors in parts that are not one run "
            "of pixels; use sizes that divide the output, or operands in memory"
        )
    if new.staged and ("x" in resident or plan_of(new) is None):
        if given.get("staged"):
            raise InputError(
                f"convolution tiling staged=1 cannot fetch rows once with high={new.high}, wide={new.wide}: x is "
                "resident, or halos lie beyond the next node; use staged=0"
            )
        new = replace(new, staged=False)
    size = new.sram_bytes(resident)
    if size > chip.node.sram_bytes:
        raise InputError(
            f"convolution tiling needs {size} B of SRAM a node, {chip.name} has {chip.node.sram_bytes}; "
            "use smaller bands or chunks, or fewer stages"
        )
    return new
