"""The bound of problems on chips (`accel.problem.bound`) over arrays of design points, in one compiled call.

The same terms in the same order of operations as `bound_of`, in float64 throughout, so the seconds are the same bits
wherever no integer of the exact form exceeds 2^53, and within a few roundings elsewhere.
"""

from __future__ import annotations

import numpy as np

from accel.jit import njit

__all__ = ["CAUSES", "CHIP", "DEMAND", "best_seconds"]

CAUSES = ("compute", "memory", "cut")  # codes 0, 1, 2 of a cause

# Columns of a demand: the fields of `accel.problem.bound.Demand`, the flops that count as useful, the number of the
# format among the columns of peaks, and how often the problem occurs in the point.
DEMAND = (
    "flops", "read_bytes", "write_bytes", "touching_macs", "taps", "bytes_product", "any_resident", "message_bytes",
    "crossing_bytes", "useful_flops", "format", "count",
)  # fmt: skip
(D_FLOPS, D_READ, D_WRITE, D_TOUCHING, D_TAPS, D_PRODUCT, D_RESIDENT, D_MESSAGE, D_CROSSING, D_USEFUL, D_FORMAT,
 D_COUNT) = range(len(DEMAND))  # fmt: skip

# Columns of a chip; from "peak" on, flop a cycle in each format, 0 where the chip does not compute in it.
CHIP = ("clock_hz", "nodes", "sram_bytes", "mesh_bytes", "link_bytes", "memory_bytes", "edge_bytes", "peak")
C_CLOCK, C_NODES, C_SRAM, C_MESH, C_LINK, C_MEMORY, C_EDGE, C_PEAK = range(8)

UNSUPPORTED = -1


@njit(error_model="numpy")
def best_seconds(
    chips: np.ndarray,  # float64 (C_PEAK + formats, points)
    first: np.ndarray,  # int64 (points,): the first demand of each point
    last: np.ndarray,  # int64 (points,): one past its last
    demands: np.ndarray,  # float64 (demands, len(DEMAND))
    seconds: np.ndarray,  # float64 (points,): out, the sum of the bounds; NaN where a format is not computed in
    ideal: np.ndarray,  # float64 (points,): out, seconds of the useful flops at the peak of their formats
    cause: np.ndarray,  # int8 (points,): out, code of the cause of most of these seconds; UNSUPPORTED
) -> None:
    """Write the least seconds and their cause for every point: problems one after the other, each `count` times."""
    for point in range(seconds.size):
        clock, nodes = chips[C_CLOCK, point], chips[C_NODES, point]
        memory_rate = chips[C_MEMORY, point] * clock
        edge_rate = clock * chips[C_EDGE, point]
        port_rate = chips[C_MESH, point] * clock
        total = at_peak = 0.0
        by_compute = by_memory = by_cut = 0.0
        able = True
        for at in range(first[point], last[point]):
            compute = 0.0
            count = demands[at, D_COUNT]
            flops, useful = demands[at, D_FLOPS], demands[at, D_USEFUL]
            if flops != 0.0 or useful != 0.0:
                peak = chips[C_PEAK + int(demands[at, D_FORMAT]), point] * clock
                if peak == 0.0:
                    able = False
                    break
                compute = flops / peak
                at_peak += count * (useful / peak)
            read, write = demands[at, D_READ], demands[at, D_WRITE]
            memory = (read + write) / memory_rate
            busiest = demands[at, D_TOUCHING] / nodes
            cube = demands[at, D_PRODUCT] * busiest * busiest / demands[at, D_TAPS]
            if demands[at, D_RESIDENT] != 0.0:
                node = max(0.0, (3.0 * np.cbrt(cube) - 2.0 * chips[C_SRAM, point]) / 2.0)
            else:
                node = np.cbrt(4.0 * cube)
            messages = max(
                demands[at, D_MESSAGE] / chips[C_MESH, point], demands[at, D_CROSSING] / chips[C_LINK, point]
            )
            cut = max(max(read, write) / edge_rate, node / port_rate, messages / clock)
            if compute >= memory and compute >= cut:
                by_compute += count * compute
                total += count * compute
            elif memory >= cut:
                by_memory += count * memory
                total += count * memory
            else:
                by_cut += count * cut
                total += count * cut
        if not able:
            seconds[point] = ideal[point] = np.nan
            cause[point] = UNSUPPORTED
            continue
        seconds[point], ideal[point] = total, at_peak
        cause[point] = 0
        if by_memory > by_compute:
            cause[point] = 1
        if by_cut > max(by_compute, by_memory):
            cause[point] = 2
