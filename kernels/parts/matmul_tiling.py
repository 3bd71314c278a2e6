"""How matmul is cut over a mesh: a tiling of `matmul.stationary`, the SRAM it takes and its estimated cycles."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from accel.hardware import ChipSpec
from accel.kernels.parts.matmul_formats import Formats
from accel.lang import SRAM_ALIGN
from accel.numerics import fmt

__all__ = ["GROUP", "Tiling"]

TOGETHER = 0.5  # how far steps in flight hold each other up: fitted to sweeps of eight shapes on d1
GROUP = 8  # rows or columns are dealt in groups of one matrix-unit step, so only the last group can be ragged


@dataclass(frozen=True)
class Tiling:
    """One legal way to run an (m, n, k) matmul.

    grid_rows x grid_cols nodes take part, each owning whole groups of 8 rows and columns. Its block is cut in
    passes_m x passes_n passes (one accumulator tile each); k goes in `steps` of bk = pieces * piece columns of a;
    a resident operand is dealt over the owners a piece at a time. `stages` panels and `accumulators` tiles in flight.

    team_rows x team_cols such grids (teams) lie side by side on the mesh and deal the work: the matrices of a `batch`,
    and the `chains` of `chain` k steps that split_k makes of a sum, `span` (a power of two) neighbouring ones a team.
    `replicas` teams then share a matrix: each adds up the partial sums of an equal share of every tile's rows.
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
    batch: int = 1
    chains: int = 1
    chain: int = 0
    span: int = 1
    team_rows: int = 1
    team_cols: int = 1

    @property
    def depth(self) -> int:
        """Return the k steps of a whole chain."""
        return self.chain or self.k

    @property
    def replicas(self) -> int:
        """Return how many teams share a matrix."""
        return ceil(self.chains / self.span)

    @property
    def lanes(self) -> int:
        """Return how many matrices of the batch are computed at a time.

        Where several teams share a matrix it divides the batch, so that all have as many and roles stay few.
        """
        most = min(self.batch, max(1, self.team_rows * self.team_cols // self.replicas))
        if self.replicas > 1:
            return next(lanes for lanes in range(most, 0, -1) if self.batch % lanes == 0)
        return most

    @property
    def rounds(self) -> int:
        """Return the most matrices that a team computes one after the other."""
        return ceil(self.batch / self.lanes)

    @property
    def tiles(self) -> int:
        """Return the accumulator tiles of a node: those in flight, or a level of the tree each where it adds chains."""
        return self.accumulators if self.span == 1 else self.span.bit_length()

    @property
    def share(self) -> int:
        """Return the most rows of a tile whose partial sums a node adds up for its replicas."""
        return ceil(self.bm / self.replicas)

    @property
    def bk(self) -> int:
        """Return the columns of a in one step."""
        return self.piece * self.pieces

    @property
    def steps(self) -> int:
        """Return the number of steps of a chain."""
        return ceil(self.depth / self.bk)

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
        return ceil(ceil(self.depth / self.piece) / owners)

    def held(self, owners: int, *, shared: bool = False) -> int:
        """Return how many pieces of all its chains and matrices (`shared`: of one matrix) a node keeps."""
        return self.homes(owners) * min(self.span, self.chains) * (1 if shared else self.rounds)

    def sram_bytes(self, *, resident: frozenset[str], formats: Formats) -> int:
        """Return the SRAM of one node, in bytes: panels, accumulators, staging and resident homes."""
        item = formats.item
        buffers = [item * self.stages * self.bk * self.bm, item * self.stages * self.bk * self.bn]
        if "a" in resident:
            buffers.append(item * self.held(self.grid_cols) * self.rows * self.piece)
        if "b" in resident:
            buffers.append(item * self.held(self.grid_rows, shared=formats.shared_b) * self.cols * self.piece)
        if "c" in resident:
            buffers.append(formats.out_item * self.rounds * self.rows * self.cols)
        elif formats.rounded:
            buffers.append(2 * formats.out_item * self.strip * self.bn)
        if not self.direct(resident, formats):
            buffers.append(4 * self.tiles * self.bm * self.bn)
        if self.replicas > 1:
            buffers.append(4 * self.replicas * self.share * self.bn)
        if formats.add_bias:
            buffers.append(4 * self.cols)
        buffers += [4 * self.strip * self.bn for _ in formats.buffers]
        if formats.scaled:
            buffers.append(1)
        if formats.residual:
            width = fmt(formats.residual).bytes
            slots = self.rounds * self.rows * self.cols if "residual" in resident else 2 * self.strip * self.bn
            buffers += [width * slots, 4 * self.strip * self.bn if formats.residual != "fp32" else 0]
        return sum(SRAM_ALIGN * ceil(size / SRAM_ALIGN) for size in buffers)

    def direct(self, resident: frozenset[str], formats: Formats) -> bool:
        """Return whether the accumulators are the result: c stays on chip in their format, and nothing is added."""
        return "c" in resident and not (formats.rounded or formats.touched) and self.chains == 1

    def multiply_cycles(self, chip: ChipSpec, formats: Formats) -> float:
        """Return the cycles that the busiest node multiplies a chain of a matrix, accumulators moved in and out.

        Matrix unit: micro-steps, and 16 exposed accumulator cycles a 16x16 block and step. Vector unit (fp32): a pass
        of the whole tile for every column of a.
        """
        unit, node = chip.node.matrix, chip.node
        passes = self.passes_m * self.passes_n
        if formats.on_vector:
            lanes = node.vector.bytes_per_cycle // 4
            return self.depth * passes * (self.bm * ceil(self.bn / lanes) + node.vector.fill_cycles)
        groups_m, groups_n = self.rows // GROUP, self.cols // GROUP
        block = unit.accumulator_rows * unit.accumulator_cols * 4 / node.port_bytes
        blocks = (
            self.passes_m
            * ceil(self.bm / unit.accumulator_rows)
            * self.passes_n
            * ceil(self.bn / unit.accumulator_cols)
        )
        full = groups_m * groups_n * ceil(self.depth / unit.k) * unit.step_cycles[formats.dtype]
        return full + self.steps * (blocks * block + passes * (unit.fill_cycles + block))

    def cycles(self, chip: ChipSpec, *, resident: frozenset[str], formats: Formats) -> float:
        """Return the estimated cycles on `chip`: a closed form for choosing among tilings, not a prediction.

        The busiest node fetches a first step, multiplies and stores the last tile; or memory moves everything and the
        products of the last step follow. Memory serves the steps in flight side by side, so that the first of them
        comes late and several are left to multiply when the last bytes have come: many deep slots overlap little.
        """
        node, bandwidth, item = chip.node, max(chip.memory_bytes_per_cycle, 1e-9), formats.item
        turns = self.rounds * min(self.span, self.chains)
        matrix = turns * self.multiply_cycles(chip, formats)
        a, b = item * self.m * self.k * self.batch, item * self.k * self.n * self.batch
        c = formats.out_item * self.m * self.n * self.batch
        traffic = ("a" not in resident) * a * self.passes_n + ("b" not in resident) * b * self.passes_m
        passes = self.passes_m * self.passes_n
        tile = 4 * self.bm * self.bn / node.port_bytes
        drain = passes * self.rounds * tile if self.accumulators == 1 else tile
        if self.replicas > 1:  # partial sums cross the mesh and are added, a share of the rows on every team
            drain += passes * self.rounds * (tile * (2 - 2 / self.replicas) + self.replicas * node.copy_issue_cycles)
        depth = min(self.bk, self.depth)
        first_a, first_b = item * depth * self.bm, item * depth * self.bn
        first = (first_a + first_b) / node.mesh_bytes_per_cycle
        teams = self.lanes * self.replicas
        if "a" not in resident:
            first = max(first, first_a * self.grid_rows * teams / bandwidth)
        if "b" not in resident:
            first += first_b * self.grid_cols * teams / bandwidth
        last = 0.0
        loaded = traffic
        passes *= self.rounds
        if "c" not in resident:
            traffic += c
            last = c / passes / bandwidth
            if self.accumulators == 1:
                drain += c * (passes - 1) / passes / bandwidth
        busy, moved, turn = matrix + drain + first + last, traffic / bandwidth, 0.0
        if loaded:
            steps = passes * self.steps * min(self.span, self.chains)
            latency = max((p.latency_cycles for p in chip.ports), default=0) + chip.mesh.rows + chip.mesh.cols
            beside = TOGETHER * (min(self.stages, steps) - 1)
            busy += beside * first + latency
            moved += (1 + beside) * matrix / steps + latency
            # A slot turns round in waiting for all who share it, request, latency, transfer and use: what `stages`
            # slots in flight cannot hide.
            turn = ceil(steps / self.stages) * (2 * latency + traffic / bandwidth / steps + matrix / steps)
        # Where both are close neither hides the other quite, and traffic costs energy: a power mean leaves slack.
        overlapped = (busy**4 + moved**4) ** (1 / 4)
        return float((overlapped**8 + turn**8) ** (1 / 8))
