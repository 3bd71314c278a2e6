"""How matmul is cut over a mesh: the closed-form default tiling of `matmul.stationary`, and why it is legal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.parts.matmul_formats import Formats
from accel.lang import SRAM_ALIGN

__all__ = ["Tiling", "choose", "fill_in"]

GROUP = 8  # rows or columns are dealt in groups of one matrix-unit step, so only the last group can be ragged
MOST_PASSES = 4096
LEAST_DEPTH = 64  # columns of a step: 128-byte rows or longer, so that a panel is not a rain of small memory bursts
STRIP_BYTES = 16 << 10  # staging for results on their way out: large enough for long packets, small beside the rest


@dataclass(frozen=True)
class Tiling:
    """One legal way to run an (m, n, k) matmul.

    grid_rows x grid_cols nodes take part, each owning whole groups of 8 rows and columns. Its block is cut in
    passes_m x passes_n passes (one accumulator tile each); k goes in `steps` of bk = pieces * piece columns of a;
    a resident operand is dealt over the owners a piece at a time. `stages` panels and `accumulators` tiles in flight.
    """

    m: int
    n: int
    k: int
    grid_rows: int
    grid_cols: int
    passes_m: int
    passes_n: int
    piece: int
    pieces: int
    stages: int
    accumulators: int
    strip: int

    @property
    def bk(self) -> int:
        """Return the columns of a in one step."""
        return self.piece * self.pieces

    @property
    def steps(self) -> int:
        """Return the number of k steps of a pass."""
        return ceil(self.k / self.bk)

    @property
    def rows(self) -> int:
        """Return the most rows that a node owns."""
        return GROUP * ceil(ceil(self.m / GROUP) / self.grid_rows)

    @property
    def cols(self) -> int:
        """Return the most columns that a node owns."""
        return GROUP * ceil(ceil(self.n / GROUP) / self.grid_cols)

    @property
    def bm(self) -> int:
        """Return the most rows of a pass."""
        return GROUP * ceil(self.rows // GROUP / self.passes_m)

    @property
    def bn(self) -> int:
        """Return the most columns of a pass."""
        return GROUP * ceil(self.cols // GROUP / self.passes_n)

    def homes(self, owners: int) -> int:
        """Return how many pieces of a resident operand one of `owners` nodes keeps."""
        return ceil(ceil(self.k / self.piece) / owners)

    def sram_bytes(self, *, resident: frozenset[str], formats: Formats) -> int:
        """Return the SRAM of one node, in bytes: panels, accumulators, staging and resident homes."""
        item = formats.item
        buffers = [item * self.stages * self.bk * self.bm, item * self.stages * self.bk * self.bn]
        if "a" in resident:
            buffers.append(item * self.homes(self.grid_cols) * self.rows * self.piece)
        if "b" in resident:
            buffers.append(item * self.homes(self.grid_rows) * self.cols * self.piece)
        if "c" in resident:
            buffers.append(formats.out_item * self.rows * self.cols)
        elif formats.rounded:
            buffers.append(2 * formats.out_item * self.strip * self.bn)
        if "c" not in resident or formats.rounded:
            buffers.append(4 * self.accumulators * self.bm * self.bn)
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in buffers)

    def multiply_cycles(self, chip: ChipSpec, formats: Formats) -> float:
        """Return the cycles that the busiest node multiplies, accumulators moved in and out.

        Matrix unit: micro-steps, and 16 exposed accumulator cycles a 16x16 block and step. Vector unit (fp32): a pass
        of the whole tile for every column of a.
        """
        unit, node = chip.node.matrix, chip.node
        passes = self.passes_m * self.passes_n
        if formats.on_vector:
            lanes = node.vector.bytes_per_cycle // 4
            return self.k * passes * (self.bm * ceil(self.bn / lanes) + node.vector.fill_cycles)
        groups_m, groups_n = self.rows // GROUP, self.cols // GROUP
        block = unit.accumulator_rows * unit.accumulator_cols * 4 / node.port_bytes
        blocks = (
            self.passes_m
            * ceil(self.bm / unit.accumulator_rows)
            * self.passes_n
            * ceil(self.bn / unit.accumulator_cols)
        )
        full = groups_m * groups_n * ceil(self.k / unit.k) * unit.step_cycles[formats.dtype]
        return full + self.steps * (blocks * block + passes * (unit.fill_cycles + block))

    def cycles(self, chip: ChipSpec, *, resident: frozenset[str], formats: Formats) -> float:
        """Return the estimated cycles on `chip`: a closed form for choosing among tilings, not a prediction.

        Multiplying time of the busiest node against the memory traffic of all passes; plus the first step, which
        nothing hides, and the last store.
        """
        node, bandwidth, item = chip.node, max(chip.memory_bytes_per_cycle, 1e-9), formats.item
        matrix = self.multiply_cycles(chip, formats)
        a, b = item * self.m * self.k, item * self.k * self.n
        c = formats.out_item * self.m * self.n
        traffic = ("a" not in resident) * a * self.passes_n + ("b" not in resident) * b * self.passes_m
        tile = 4 * self.bm * self.bn / node.port_bytes
        drain = self.passes_m * self.passes_n * tile if self.accumulators == 1 else tile
        depth = min(self.bk, self.k)
        first_a, first_b = item * depth * self.bm, item * depth * self.bn
        first = (first_a + first_b) / node.mesh_bytes_per_cycle
        if "a" not in resident:
            first = max(first, first_a * self.grid_rows / bandwidth)
        if "b" not in resident:
            first += first_b * self.grid_cols / bandwidth
        last = 0.0
        loaded = traffic
        if "c" not in resident:
            traffic += c
            passes = self.passes_m * self.passes_n
            last = c / passes / bandwidth
            if self.accumulators == 1:
                drain += c * (passes - 1) / passes / bandwidth
        # A slot turns round in request, latency, transfer and use: what `stages` slots in flight cannot hide.
        rounds = ceil(self.passes_m * self.passes_n * self.steps / self.stages)
        latency = max((p.latency_cycles for p in chip.ports), default=0) + chip.mesh.rows + chip.mesh.cols
        loads = loaded / bandwidth / (self.passes_m * self.passes_n * self.steps)
        turn = rounds * (latency + loads + matrix / (self.passes_m * self.passes_n * self.steps))
        # Where both are close neither hides the other quite, and traffic costs energy: a cubic mean leaves slack.
        busy = float(((matrix + drain) ** 3 + (traffic / bandwidth) ** 3) ** (1 / 3))
        return max(busy, turn) + first + last


def choose(chip: ChipSpec, m: int, n: int, k: int, *, resident: frozenset[str], formats: Formats) -> Tiling:
    """Return the tiling with the fewest estimated cycles that fits a node's SRAM; ties go to the first in order.

    UnsupportedError where none fits, naming the smallest and what a node has.
    """
    rows, cols = chip.mesh.rows, chip.mesh.cols
    base = Tiling(
        m=m, n=n, k=k, grid_rows=min(rows, ceil(m / GROUP)), grid_cols=min(cols, ceil(n / GROUP)), passes_m=1,
        passes_n=1, piece=k, pieces=1, stages=2, accumulators=1, strip=16,
    )  # fmt: skip
    budget = chip.node.sram_bytes
    best: tuple[float, Tiling] | None = None
    least = (1 << 62, base)
    for candidate in _candidates(base, budget, resident, formats):
        size = candidate.sram_bytes(resident=resident, formats=formats)
        if size < least[0]:
            least = (size, candidate)
        if size <= budget:
            cost = candidate.cycles(chip, resident=resident, formats=formats)
            if best is None or cost < best[0]:
                best = (cost, candidate)
    if best is None:
        kept = f" with {', '.join(sorted(resident))} resident" if resident else ""
        raise UnsupportedError(
            f"matmul {m}x{n}x{k}{kept} does not fit {chip.name}: the smallest tiling needs {least[0]} B of SRAM, "
            f"a node has {budget}; keep fewer operands resident or use more or larger nodes"
        )
    return best[1]


def _candidates(base: Tiling, budget: int, resident: frozenset[str], formats: Formats) -> Iterator[Tiling]:
    """Yield tilings worth pricing: every pass count, and for each the deep and the shallow k steps that fit."""
    min_m = max(1, (-(-base.m // GROUP)) // base.grid_rows)
    min_n = max(1, (-(-base.n // GROUP)) // base.grid_cols)
    shared = max(base.grid_rows if "b" in resident else 1, base.grid_cols if "a" in resident else 1)
    for passes_m in _passes(base.rows // GROUP, min_m):
        for passes_n in _passes(base.cols // GROUP, min_n):
            for accumulators in (1, 2) if passes_m * passes_n > 1 and "c" not in resident else (1,):
                shape = replace(base, passes_m=passes_m, passes_n=passes_n, accumulators=accumulators)
                shape = replace(shape, strip=max(1, min(shape.bm, STRIP_BYTES // max(1, formats.out_item * shape.bn))))
                if resident & {"a", "b"}:
                    yield from _resident_steps(shape, shared)
                else:
                    yield from _streamed_steps(shape, budget, resident, formats)


def _passes(groups: int, least: int) -> list[int]:
    """Return the pass counts worth trying: for every size of the largest pass, the fewest passes that reach it.

    groups: the most groups of 8 that a node owns; least: the fewest, and so the most passes that are never empty.
    """
    limit = min(least, MOST_PASSES)
    sizes = {ceil(groups / p) for p in range(1, min(limit, 64) + 1)} | {max(1, groups >> x) for x in range(30)}
    return sorted({p for p in (ceil(groups / size) for size in sizes) if p <= limit})


def _streamed_steps(shape: Tiling, budget: int, resident: frozenset[str], formats: Formats) -> Iterator[Tiling]:
    for stages in (2, 3, 4, 6, 8):
        fixed = replace(shape, stages=stages, piece=1).sram_bytes(resident=resident, formats=formats)
        per_column = formats.item * stages * (shape.bm + shape.bn)
        most = (budget - fixed) // per_column + 1
        if most < 1:
            yield replace(shape, stages=stages, piece=min(shape.k, GROUP))
            continue
        fewest = ceil(shape.k / min(most, shape.k))
        for steps in sorted({fewest + 1, *(fewest * x for x in (1, 2, 4, 8, 16))}):
            depth = _rounded(ceil(shape.k / steps), shape.k)
            while depth > most and depth > 4:
                depth -= 4
            if depth <= most and (depth >= min(shape.k, LEAST_DEPTH) or steps == fewest):
                yield replace(shape, stages=stages, piece=depth)


def _resident_steps(shape: Tiling, owners: int) -> Iterator[Tiling]:
    # Pieces must be fine enough to be dealt evenly over the owners; a step gathers several of them.
    smallest = min(shape.grid_rows, shape.grid_cols)
    for rounds in (1, 2, 3, 4, 6, 8):
        piece = _rounded(ceil(shape.k / (owners * rounds)), shape.k)
        for pieces in range(1, max(1, min(smallest, ceil(shape.k / piece))) + 1):
            yield replace(shape, piece=piece, pieces=pieces)


def _rounded(depth: int, k: int) -> int:
    """Return depth rounded up to whole micro-steps of 4, but not beyond k."""
    return min(k, 4 * ceil(depth / 4))


def fill_in(tiling: Tiling, chip: ChipSpec, *, resident: frozenset[str], formats: Formats, **given: int) -> Tiling:
    """Return `tiling` with the fields of `given` replaced and checked; InputError names the field and its range."""
    known = ("passes_m", "passes_n", "piece", "pieces", "stages", "accumulators", "strip")
    for name, value in given.items():
        if name not in known:
            raise InputError(f"matmul has no tiling parameter {name!r}; use one of {', '.join(known)}")
        if type(value) is not int or value < 1:
            raise InputError(f"matmul tiling parameter {name} must be a whole number >= 1, got {value!r}")
    new = replace(tiling, **given)
    limits = {
        "passes_m": -(-new.m // GROUP) // new.grid_rows or 1, "passes_n": -(-new.n // GROUP) // new.grid_cols or 1,
        "piece": new.k, "accumulators": 2, "stages": 8,
        "pieces": min(new.grid_rows, new.grid_cols, -(-new.k // new.piece)) if resident & {"a", "b"} else 1,
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
