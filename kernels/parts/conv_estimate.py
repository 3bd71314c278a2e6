"""How long a forward convolution takes with a tiling, in closed form: what its default is chosen by."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

from accel.hardware import ChipSpec
from accel.numerics import fmt

if TYPE_CHECKING:
    from accel.kernels.parts.conv_tiling import Tiling
    from accel.problem.convolution import Axis

__all__ = ["PASSED", "blocked", "cycles", "fetched_pixels", "held_up", "least_cycles"]

# What a closed form cannot know: shares, fitted to 300 tilings of seven shapes on `d1`, most of them in the tile study.
TOGETHER = 0.3  # of a tile's fetch, by which each tile in flight beyond two delays the first
ALONE = 0.4  # of a tile's fetch by all nodes that a node waits for whose buffer has no second
IDLE = 0.6  # of the time from the last rows asked for at once to the first results, in which memory has nothing to do
WHOLE = 1.0  # the same where products write results: none leave before the tile is done, and no cast spreads them
LEFT = 0.1  # of the last tile's products that stores of the others do not hide
STORED = 0.4  # of the last tile's results that leave memory's queue after its products
JAM = 0.7  # of what links cannot hold, by which filters on their way and rows that cross them delay each other
CROSS = (
    1.2  # more time on the middle links where rows come from so many parts that they block each other at the sources
)
PASSED = 0.6  # of the way of a chunk that passes again, for which the slowest of its nodes keeps the others waiting
WAY = 2  # ways across the mesh of a request: there and back
COPY = 16  # cycles that a node's thread takes for a row's copy: conditions and issue
FILL = 3.5  # of its bytes at a port, for a row of zeros: its stores queue behind the loads of the product in progress
SLACK = 16  # of the power mean: where two causes are close neither hides the other quite


def cycles(tiling: Tiling, chip: ChipSpec, resident: frozenset[str]) -> float:
    """Return the estimated cycles of `tiling` on `chip`: for choosing among tilings, not a prediction.

    The longest of three: the busiest node, which waits for its first rows and filters, multiplies, and stores its last
    tile; memory, which moves everything, each byte of a padded row only if it exists; and the node's mesh port, or the
    middle of a column where rows of all parts of the mesh cross.
    """
    return _cycles(tiling, chip, resident, least=False)


def least_cycles(tiling: Tiling, chip: ChipSpec, resident: frozenset[str]) -> float:
    """Return a bound below the estimates of `tiling` with whatever buffers and chunks of the filters."""
    whole = replace(tiling, taps=tiling.shape.row_taps, deep=0, stages=1, slots=2, accumulators=2)
    return _cycles(whole, chip, resident, least=True)


def blocked(parts: int) -> float:
    """Return by how much rows of `parts` parts of the mesh that cross each other in a column take longer than bytes.

    Those of two parts pass each other straight; where there are more, one that waits at its source holds up others.
    """
    return 1 + CROSS * (1 - 2 / parts)


def held_up(chip: ChipSpec, cycles: float) -> float:
    """Return by how much so many cycles of filters, multicast over several rows, and of rows that cross them are late.

    A multicast goes on where its slowest column does, once there is more than the buffers of a column hold.
    """
    noc = chip.noc
    return JAM * max(0.0, cycles - chip.mesh.rows * noc.buffer_packets * noc.packet_bytes / noc.link_bytes_per_cycle)


def fetched_pixels(tiling: Tiling) -> int:
    """Return the pixels of x that the nodes of one part fetch for all bands: rows and pixels of padding are none."""
    s, (down, across) = tiling.shape, tiling.blocks
    high, wide = tiling.high * s.h.stride, tiling.wide * s.w.stride
    times = _inside(s.t, s.t.stride, s.t.out, s.t.taps, s.t.dilation)
    gaps = s.h.dilation if tiling.high == 1 else 1
    rows = _inside(s.h, high, down, tiling.rows, gaps)
    return s.n * times * rows * _inside(s.w, wide, across, tiling.columns, 1)


@lru_cache(maxsize=1 << 14)
def _inside(axis: Axis, step: int, blocks: int, reads: int, apart: int) -> int:
    """Return how many positions inside the axis `blocks` blocks read, which begin `step` after each other.

    Each reads `reads` positions, `apart` from each other, and the first begins in the padding.
    """
    total = 0
    for at in range(-axis.pad, reads * apart - axis.pad, apart):
        first = max(0, -(at // step))  # the first block whose read is not before the axis, and the last not beyond it
        total += max(0, min(blocks - 1, (axis.size - 1 - at) // step) - first + 1)
    return total


def _cycles(T: Tiling, chip: ChipSpec, resident: frozenset[str], *, least: bool) -> float:
    s, node, item, out_item = T.shape, chip.node, fmt(T.dtype).bytes, fmt(T.out_dtype).bytes
    port, bandwidth = node.mesh_bytes_per_cycle, max(chip.memory_bytes_per_cycle, 1e-9)
    x_comes, w_comes, y_goes = (name not in resident for name in ("x", "w", "y"))
    latency = max((p.latency_cycles for p in chip.ports), default=0)
    way = WAY * (chip.mesh.rows + chip.mesh.cols)

    # Bytes: of a band's rows on average, of a chunk of the filters and of all that pass a node, of the results.
    x_once = item * s.c * fetched_pixels(T)
    band, nodes = x_once / T.all_bands, T.members * T.parts
    most = T.all_bands / T.members  # bands of a node
    lead, tile = band * min(T.lead, most), band * min(T.bands, most)
    x_all = item * s.c * s.rows_in * s.w.size if T.staged else x_once * T.parts
    count, chunk = T.chunk_count, item * T.chunk_depth * T.filters
    w_node = item * s.depth * T.filters * (1 if T.kept or least else T.tiles)
    out = out_item * s.rows_out * s.w.out * s.k

    busy = T.multiply_cycles(chip)
    pixels = min(T.bands, T.most_bands) * T.high * T.wide
    drain = (1 + T.bias + (T.out_dtype != T.sums)) * ceil(pixels * T.filters * 4 / node.port_bytes)
    if T.rounds:
        drain = 0  # products have written results
    last = drain + (STORED * out / T.tiles / bandwidth + latency if y_goes else 0.0)

    # Rows that nodes of all parts want come from all over a column: so many times a node's cross its middle, and those
    # of frames before and after come from so many nodes away.
    half = T.parts // 2
    crowd = 1.0
    if not x_comes:
        crowd = T.grid_rows * half * (T.parts - half) / T.parts**2
        if s.t.taps > 1 and not T.by_block:
            crowd += T.members / (s.n * s.t.size) * (s.t.taps - 1) / (2 * s.t.taps)
        crowd = max(1.0, crowd)
    tiles_ahead = 0 if least else min(T.slots, T.tiles) - 1
    at_once = 0 if least else 1 if T.patient else min(T.stages, count)
    first = ((lead + tiles_ahead * tile) * crowd + at_once * chunk) / port
    if crowd > 1 and T.grid_rows > T.parts and not least:
        # Chunks that follow when the first nodes begin meet the rows of those that have not.
        late = (min(T.stages, count) - at_once) * chunk / port
        first += held_up(chip, first + late)
    beside = 1 + TOGETHER * max(0, tiles_ahead - 1)
    served = x_comes * lead * nodes * beside + w_comes * at_once * chunk * T.parts
    first = max(first, served / bandwidth) + way + (latency if x_comes or w_comes else 0)

    stall = 0.0
    if not least:
        come = max(chunk / port, w_comes * chunk * T.parts / bandwidth)
        stall = max(0.0, (count - at_once) * (come - T.tile_cycles(chip, T.lead) / count))
        if T.slots == 1:
            alone = way + (latency + ALONE * tile * nodes / bandwidth if x_comes else tile * crowd / port)
            stall += (T.tiles - 1) * alone
        if T.accumulators == 1:
            stall += (T.tiles - 1) * drain
        if s.t.pad and not T.by_block:  # a node whose frames are at the ends of clips fills rows, tile after tile
            each, ends = busy / T.most_bands, min(T.most_bands, 2 * s.t.pad * T.blocks[0] * T.blocks[1])
            filled = FILL * item * s.t.pad * T.rows * T.columns * s.c / node.port_bytes
            stall += ends * max(0.0, filled + COPY * T.copies(resident) / T.most_bands - each)
        if not T.kept:  # a chunk's buffer turns round in waiting for all who share it, a request, its way and its use
            visits = T.tiles * count
            each = busy / visits
            turn = max(each, (way + w_comes * latency + come + each) / T.stages)
            stall = max(stall, max(0, visits - T.stages) * (turn - each))
            stall += PASSED * max(0, visits - T.stages) * (way + w_comes * latency + come)
    own = first + busy + stall + last

    moved = (x_comes * x_all + w_comes * w_node * T.parts + y_goes * out) / bandwidth
    if moved:
        early = x_comes * min(T.slots, T.tiles) * tile * nodes / bandwidth  # what memory sends before the first results
        idle = y_goes * max(0.0, first + busy / T.tiles + drain - latency - early)
        moved += latency * (1 + y_goes) + LEFT * busy / T.tiles + (WHOLE if T.rounds else IDLE) * idle
    rows = T.most_bands * band * crowd / port
    if half and not x_comes:
        rows *= blocked(T.parts)
    arrive = max(rows, COPY * T.copies(resident)) + w_node / port + drain + (busy / T.tiles if T.tiles > 1 else 0)
    if T.staged:
        arrive += x_all / T.members / port
    longest = max(own, moved, arrive)
    return float(longest * sum((time / longest) ** SLACK for time in (own, moved, arrive)) ** (1 / SLACK))
