"""Program and chip as the arrays of the engine, checked: geometry, formats, views, one cost a code row."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.isa.layout import CODE_WORDS, SPACE_MEMORY, SPACE_SRAM, V_DTYPE, V_RING_BYTES, V_SHAPE, V_SPACE, W_OPCODE
from accel.isa.program import Program, Table
from accel.isa.table import BY_MNEMONIC, opcode
from accel.numerics.formats import by_code
from accel.timing import ledger
from accel.timing import state as s
from accel.timing.costs import Cost, row_cost

__all__ = ["Prepared", "prepare"]

WHEEL_CYCLES = 4096  # most events lie nearer than this; the rest wait in the heap
RATE_DENOMINATOR = 64  # a memory rate is taken as the nearest fraction with at most this denominator
_CLASS = {
    "wait": s.CLASS_WAIT, "inc": s.CLASS_INC, "barrier": s.CLASS_BARRIER, "loop": s.CLASS_LOOP, "end": s.CLASS_END,
    "mark": s.CLASS_MARK, "copy": s.CLASS_COPY,
}  # fmt: skip
_BY_OPCODE = {opcode(name): kind for name, kind in _CLASS.items()}
_COPY = BY_MNEMONIC["copy"]


class Prepared(NamedTuple):
    """Engine arrays, and the costs that the ledger and the energy are counted with.

    costs: (code rows, COST_WORDS); parts: parts of a cycle in which COST_USEFUL counts; engine: the log kind accounted.
    """

    tables: s.Tables
    state: s.State
    costs: Table
    parts: int
    engine: int


def prepare(program: Program, chip: ChipSpec, packet_bytes: int) -> Prepared:
    """Return everything a run needs; errors name what the chip or this model does not take."""
    mesh = chip.mesh
    if program.rows > mesh.rows or program.cols > mesh.cols:
        raise InputError(
            f"Cannot time {program.name!r} on {chip.name!r}: it was built for {program.rows} x {program.cols} nodes and "
            f"the chip has {mesh.rows} x {mesh.cols}; build it for this chip"
        )
    if program.threads > chip.node.threads:
        raise InputError(
            f"Cannot time {program.name!r} on {chip.name!r}: it uses {program.threads} threads a node and the chip has "
            f"{chip.node.threads}; build it for this chip"
        )
    costs = [row_cost(chip, program.views, row) for row in program.code]
    matrix = any(c is not None and c.accumulator for c in costs)
    parts = math.lcm(1, *(c.peak_numerator for c in costs if c is not None))
    rows = np.zeros((len(costs), s.ROW_WORDS), np.int64)
    table = np.zeros((len(costs), ledger.COST_WORDS), np.int64)
    for i, (row, cost) in enumerate(zip(program.code, costs, strict=True)):
        _fill_row(program, row, cost, rows[i], table[i], parts)
    tables, state = _arrays(program, chip, rows, packet_bytes)
    return Prepared(tables, state, table, parts, s.LOG_MATRIX if matrix else s.LOG_VECTOR)


def _fill_row(program: Program, row: Table, cost: Cost | None, out: Table, table: Table, parts: int) -> None:
    if cost is not None:
        out[s.R_CLASS] = s.CLASS_MATRIX if cost.accumulator else s.CLASS_VECTOR
        out[s.R_CYCLES], out[s.R_PORT] = cost.cycles, cost.port
        useful = cost.flops * parts * cost.peak_denominator // cost.peak_numerator
        table[:] = (
            cost.cycles, cost.compute, cost.accumulator, cost.fill, useful, cost.flops, cost.loads, cost.stores
        )  # fmt: skip
        return
    out[s.R_CLASS] = _BY_OPCODE[int(row[W_OPCODE])]
    if out[s.R_CLASS] == s.CLASS_COPY:
        dst, src = (program.views[int(row[_COPY.word(name)])] for name in ("dst", "src"))
        ways = {(SPACE_SRAM, SPACE_MEMORY): s.COPY_READ, (SPACE_SRAM, SPACE_SRAM): s.COPY_MESH,
                (SPACE_MEMORY, SPACE_SRAM): s.COPY_WRITE}  # fmt: skip
        way = ways.get((int(dst[V_SPACE]), int(src[V_SPACE])))
        if way is None:
            raise UnsupportedError("Cannot time a copy from memory to memory; copy through SRAM")
        if dst[V_RING_BYTES] or src[V_RING_BYTES]:
            raise UnsupportedError("Cannot time a copy of a ring view; use a plain buffer")
        out[s.R_COPY] = way
        out[s.R_BYTES] = math.prod(int(n) for n in src[V_SHAPE : V_SHAPE + 4]) * by_code(int(src[V_DTYPE])).bits // 8


def _rate(bytes_per_cycle: float) -> Fraction:
    return max(Fraction(bytes_per_cycle).limit_denominator(RATE_DENOMINATOR), Fraction(1, RATE_DENOMINATOR))


def _arrays(program: Program, chip: ChipSpec, rows: Table, packet_bytes: int) -> tuple[s.Tables, s.State]:
    mesh, node, noc = chip.mesh, chip.node, chip.noc
    sites = mesh.site_rows * mesh.site_cols
    entries, ports = [], []
    for q, port in enumerate(chip.ports):
        rate, edge = _rate(port.bytes_per_cycle * port.efficiency), _rate(port.edge_bytes_per_cycle)
        clock = math.lcm(rate.numerator, edge.numerator)
        ports.append((clock, clock * rate.denominator // rate.numerator, clock * edge.denominator // edge.numerator,
                      port.latency_cycles, len(entries), len(port.routers), 0, 0, 0, -1, 0, 0,
                      port.interleave_bytes))  # fmt: skip
        entries += [(r * mesh.site_cols + c, q, port.link_bytes_per_cycle) for r, c in port.routers]
    row_site = np.array([mesh.physical(r, 0)[0] for r in range(mesh.rows)], np.int64)
    col_site = np.array([mesh.physical(0, c)[1] for c in range(mesh.cols)], np.int64)
    site_row, site_col = np.full(mesh.site_rows, -1, np.int64), np.full(mesh.site_cols, -1, np.int64)
    site_row[row_site[: program.rows]] = np.arange(program.rows)
    site_col[col_site[: program.cols]] = np.arange(program.cols)
    inject, enter = 4 * sites, 5 * sites
    eject = enter + len(entries)
    semaphores = int(program.semaphore_init.shape[-1]) if program.semaphore_init.size else 0
    config = np.zeros(s.CONFIG_WORDS, np.int64)
    for key, value in {
        s.K_ROWS: program.rows, s.K_COLS: program.cols, s.K_NODES: program.nodes, s.K_THREADS: program.threads,
        s.K_SITE_ROWS: mesh.site_rows, s.K_SITE_COLS: mesh.site_cols, s.K_SITES: sites, s.K_BUFFER: noc.buffer_packets,
        s.K_LINK_BYTES: noc.link_bytes_per_cycle, s.K_MESH_BYTES: node.mesh_bytes_per_cycle, s.K_HOP: noc.hop_cycles,
        s.K_ISSUE: node.issue_cycles, s.K_COPY_ISSUE: node.copy_issue_cycles, s.K_QUEUE: node.copy_queue_depth,
        s.K_SEMAPHORE: noc.semaphore_cycles, s.K_BARRIER: noc.barrier_cycles, s.K_PACKET: packet_bytes,
        s.K_PORTS: len(ports), s.K_ENTRIES: len(entries), s.K_INJECT: inject, s.K_ENTER: enter, s.K_EJECT: eject,
        s.K_SEMAPHORES: max(semaphores, node.semaphores),
    }.items():  # fmt: skip
        config[key] = value
    tables = s.Tables(
        np.ascontiguousarray(program.code.reshape(-1, CODE_WORDS)), rows, program.exprs, program.preds, program.targets,
        program.params, config, np.array(entries, np.int64), site_row, site_col, row_site, col_site,
    )  # fmt: skip
    links = np.zeros((eject + sites, s.X_RING + noc.buffer_packets), np.int64)
    links[:, s.X_HEAD] = links[:, s.X_TAIL] = -1
    for site in range(sites):
        row, col = divmod(site, mesh.site_cols)
        for way, (dr, dc) in ((s.EAST, (0, 1)), (s.WEST, (0, -1)), (s.SOUTH, (1, 0)), (s.NORTH, (-1, 0))):
            links[4 * site + way, s.X_SITE] = (row + dr) * mesh.site_cols + col + dc
        links[inject + site, s.X_SITE] = links[eject + site, s.X_SITE] = site
    for i, entry in enumerate(entries):
        links[enter + i, s.X_SITE] = entry[0]
    return tables, _state(program, config, links, np.array(ports, np.int64), len(entries))


def _state(program: Program, config: Table, links: Table, ports: Table, entries: int) -> s.State:
    nodes = program.nodes
    pool = chain(np.zeros((max(4096, 64 * nodes), s.POOL_WORDS), np.int64), 0)
    copies = chain(np.zeros((max(256, 8 * nodes), s.COPY_WORDS), np.int64), 0)
    threads = np.zeros((nodes * program.threads, s.THREAD_WORDS), np.int64)
    threads[:, s.T_LOG] = -1
    for node in range(nodes):
        role = int(program.role_of[node])
        for t in range(program.threads if role >= 0 else 0):
            threads[node * program.threads + t, s.T_PC : s.T_END + 1] = program.spans[role, t]
    state_nodes = np.zeros((nodes, s.NODE_WORDS), np.int64)
    state_nodes[:, s.N_HEAD] = state_nodes[:, s.N_TAIL] = -1
    queues = np.zeros((entries, s.QUEUE_WORDS), np.int64)
    queues[:, : s.U_FREE_OUT] = -1
    counts = np.zeros((nodes, int(config[s.K_SEMAPHORES])), np.int64)
    if program.semaphore_init.size:
        counts[:, : program.semaphore_init.shape[-1]] = program.semaphore_init
    scalars = np.zeros(s.SCALARS, np.int64)
    scalars[s.S_FREE_COUNT], scalars[s.S_COPY_COUNT] = len(pool), len(copies)
    scalars[s.S_STACK] = scalars[s.S_LAST_THREAD] = scalars[s.S_LAST_LOG] = -1
    scalars[s.S_LIVE] = len(threads)
    return s.State(
        scalars=scalars, wheel=np.full((WHEEL_CYCLES, 2), -1, np.int64), heap=np.zeros((len(pool), 3), np.int64),
        pool=pool, links=links, copies=copies, nodes=state_nodes, threads=threads, counts=counts, ports=ports,
        queues=queues, barriers=np.zeros((8, 6 + nodes), np.int64),
        log=np.zeros((max(4096, 512 * nodes), s.LOG_WORDS), np.int64),
    )  # fmt: skip


def chain(table: Table, first: int) -> Table:
    """Link the rows from `first` on into a free list through column 0, the last one ending it."""
    table[first:, 0] = np.arange(first + 1, len(table) + 1)
    table[-1, 0] = -1
    return table
