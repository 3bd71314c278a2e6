"""The engine's memory: laid out for a program on a chip, enlarged when the engine says so, read back by name."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec
from accel.isa.program import Program, Table
from accel.timing import state as s

__all__ = ["Memory"]

WHEEL_CYCLES = 4096  # most events lie nearer than this; the rest wait in the heap
FASTEST = float(1 << 20)  # bytes a cycle: no port has links for more, and any faster memory counts as this
MOST_TICKS = 1 << 26  # of a port's clock in a cycle
MOVES_WORDS = 1 << 21  # transfers that a recording run notes between two looks at them: 16 MiB
LARGEST = 1 << 61  # no time in ticks comes near the end of int64
RATE_DENOMINATOR = 64  # a memory rate (below 1: its inverse) is taken as a fraction with at most this denominator


class Memory:
    """One run's arrays: `m` (all records, see `state`) and `log`, with where each region lies."""

    def __init__(self, program: Program, chip: ChipSpec, rows: Table, packet_bytes: int) -> None:
        self.m: Table = np.zeros(s.HEADER_WORDS, np.int64)
        self.log: Table = np.zeros((max(4096, 512 * program.nodes), s.LOG_WORDS), np.int64)
        self._parts: list[Table] = [self.m]
        self._words = s.HEADER_WORDS
        self.program, self.chip = program, chip
        self.sites = chip.mesh.site_rows * chip.mesh.site_cols
        self._numbers(packet_bytes)
        m = self.m
        for base, table in (
            (s.O_CODE, program.code), (s.O_ROWS, rows), (s.O_EXPRS, program.exprs), (s.O_PREDS, program.preds),
            (s.O_TARGETS, program.targets), (s.O_PARAMS, program.params),
        ):  # fmt: skip
            m[base] = self._add(table)
        self._place()
        m[s.O_WHEEL] = self._add(np.zeros(2 * WHEEL_CYCLES, np.int64))
        self._network()
        m[s.O_THREADS] = self._add(self._threads())
        self._link_nodes()
        self._pool(s.S_FREE, s.S_FREE_COUNT, max(4096, (64 + program.threads) * program.nodes), s.POOL_WORDS)
        self._pool(s.S_COPY_FREE, s.S_COPY_COUNT, max(256, 8 * program.nodes), s.COPY_WORDS)
        m[s.O_SPARE] = self._add(np.zeros(s.POOL_WORDS, np.int64))
        self._region(s.O_HEAP, s.S_HEAP_SIZE, max(8192, (16 + program.threads) * program.nodes), 3)
        self._region(s.O_BARRIERS, s.S_BARRIERS_SIZE, 8, s.B_NODES + program.nodes)
        self.m = np.concatenate(self._parts)
        self._parts = []

    def _add(self, table: Table) -> int:
        """Lay a table down behind the others and return its address."""
        at = self._words
        self._parts.append(np.ascontiguousarray(table).reshape(-1))
        self._words += table.size
        return at

    def _numbers(self, packet_bytes: int) -> None:
        program, node, noc = self.program, self.chip.node, self.chip.noc
        for key, number in {
            s.K_ROWS: program.rows, s.K_COLS: program.cols, s.K_NODES: program.nodes, s.K_THREADS: program.threads,
            s.K_SEMAPHORES: program.semaphore_init.size, s.K_HOP: noc.hop_cycles,
            s.K_HEADER: -(-noc.header_bytes // noc.link_bytes_per_cycle),
            s.K_ISSUE: node.issue_cycles, s.K_COPY_ISSUE: node.copy_issue_cycles, s.K_QUEUE: node.copy_queue_depth,
            s.K_SEMAPHORE: noc.semaphore_cycles, s.K_BARRIER: noc.barrier_cycles, s.K_PACKET: packet_bytes,
            s.K_LINK_BYTES: noc.link_bytes_per_cycle, s.K_MESH_BYTES: node.mesh_bytes_per_cycle,
            s.K_PORTS: len(self.chip.ports), s.K_INTERLEAVE: self.chip.ports[0].interleave_bytes,
            s.K_PARAMS: program.params.shape[1], s.K_WHEEL: WHEEL_CYCLES, s.K_LINK_WORDS: s.X_RING + noc.buffer_packets,
            s.S_LAST_THREAD: -1, s.S_LAST_LOG: -1, s.S_LIVE: program.nodes * program.threads,
        }.items():  # fmt: skip
            self.m[key] = number

    def _place(self) -> None:
        """Logical rows and columns on sites, and the node records."""
        program, mesh, m = self.program, self.chip.mesh, self.m
        self.row_site = np.array([mesh.physical(r, 0)[0] for r in range(program.rows)], np.int64)
        self.col_site = np.array([mesh.physical(0, c)[1] for c in range(program.cols)], np.int64)
        m[s.O_ROW_SITE], m[s.O_COL_SITE] = self._add(self.row_site), self._add(self.col_site)
        counts = np.zeros((program.nodes, int(m[s.K_SEMAPHORES])), np.int64)
        counts[:, : program.semaphore_init.size] = program.semaphore_init.reshape(-1)
        at_counts = self._add(counts)
        index = np.arange(program.nodes)
        nodes = self.nodes = np.zeros((program.nodes, s.NODE_WORDS), np.int64)
        nodes[:, s.N_ACTIVE] = program.role_of >= 0
        nodes[:, s.N_INDEX], nodes[:, s.N_ROW], nodes[:, s.N_COL] = index, index // program.cols, index % program.cols
        nodes[:, s.N_SITE_ROW], nodes[:, s.N_SITE_COL] = (
            self.row_site[nodes[:, s.N_ROW]],
            self.col_site[nodes[:, s.N_COL]],
        )
        nodes[:, s.N_COUNTS] = at_counts + index * counts.shape[1]
        nodes[:, s.N_PARAMS] = m[s.O_PARAMS] + index * m[s.K_PARAMS]
        m[s.O_NODES] = self._add(nodes)

    def _network(self) -> None:
        """Links, memory ports and their routers. Link order: four a site, injections, port entries, ejections."""
        mesh, m, sites = self.chip.mesh, self.m, self.sites
        ports = np.zeros((len(self.chip.ports), s.PORT_WORDS), np.int64)
        entries: list[tuple[int, int, int, int]] = []
        for q, port in enumerate(self.chip.ports):
            clock, cost, edge_cost = _clock(
                port.name, port.bytes_per_cycle * port.efficiency, port.edge_bytes_per_cycle, int(m[s.K_PACKET])
            )
            ports[q, : s.Q_COUNT + 1] = clock, cost, edge_cost, port.latency_cycles, len(entries), len(port.routers)
            ports[q, s.Q_WAKE], ports[q, s.Q_INTERLEAVE] = -1, port.interleave_bytes
            entries += [(row, col, q, port.link_bytes_per_cycle) for row, col in port.routers]
        words = int(m[s.K_LINK_WORDS])
        self.first_eject = 5 * sites + len(entries)
        links = np.zeros((self.first_eject + sites, words), np.int64)
        m[s.O_LINKS] = self._add(links)
        address = int(m[s.O_LINKS]) + words * np.arange(len(links))
        links[:, s.X_SLOT], links[:, s.X_RING_END], links[:, s.X_STACK] = address + s.X_RING, address + words, -1
        for site in range(sites):
            row, col = divmod(site, mesh.site_cols)
            for way, (dr, dc) in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0))):
                if 0 <= row + dr < mesh.site_rows and 0 <= col + dc < mesh.site_cols:
                    self._aim(links[4 * site + way], address, way, row + dr, col + dc)
            self._aim(links[4 * sites + site], address, s.INJECT, row, col)
            self._aim(links[self.first_eject + site], address, s.EJECT, row, col)
        m[s.K_MOST] = LARGEST // int(ports[:, s.Q_CLOCK].max())
        m[s.O_PORTS] = self._add(ports)
        table = np.zeros((len(entries), s.ENTRY_WORDS), np.int64)
        at_entries = m[s.O_ENTRIES] = self._add(table)
        m[s.K_WRITE_LANE], m[s.K_LANES] = len(links), len(links) + len(entries)
        ports[:, s.Q_FIRST] = at_entries + ports[:, s.Q_FIRST] * s.ENTRY_WORDS
        for i, (row, col, q, width) in enumerate(entries):
            table[i, : s.E_LINK + 1] = row, col, m[s.O_PORTS] + q * s.PORT_WORDS, width, address[5 * sites + i]
            self._aim(links[5 * sites + i], address, s.ENTER, row, col)
            links[5 * sites + i, s.X_ENTRY] = at_entries + i * s.ENTRY_WORDS
        self.nodes[:, s.N_INJECT] = address[
            4 * sites + self.nodes[:, s.N_SITE_ROW] * mesh.site_cols + self.nodes[:, s.N_SITE_COL]
        ]

    def _aim(self, link: Table, address: Table, way: int, row: int, col: int) -> None:
        """Say where a link leads."""
        site = row * self.chip.mesh.site_cols + col
        rows, cols = np.flatnonzero(self.row_site == row), np.flatnonzero(self.col_site == col)
        link[s.X_WAY], link[s.X_ROW], link[s.X_COL] = way, row, col
        link[s.X_NODE_ROW] = rows[0] if rows.size else -1
        link[s.X_NODE_COL] = cols[0] if cols.size else -1
        if rows.size and cols.size:
            link[s.X_NODE] = self.m[s.O_NODES] + (rows[0] * self.program.cols + cols[0]) * s.NODE_WORDS
        link[s.X_ROUTER], link[s.X_EJECT] = address[4 * site], address[self.first_eject + site]

    def _threads(self) -> Table:
        program = self.program
        threads = np.zeros((program.nodes * program.threads, s.THREAD_WORDS), np.int64)
        index = np.arange(len(threads))
        threads[:, s.T_INDEX], threads[:, s.T_LOG] = index, -1
        threads[:, s.T_NODE] = self.m[s.O_NODES] + index // program.threads * s.NODE_WORDS
        role = np.repeat(program.role_of, program.threads)
        spans = program.spans[role, index % program.threads] * (role >= 0)[:, None]
        threads[:, s.T_PC], threads[:, s.T_END] = spans[:, 0], spans[:, 1]
        return threads

    def _link_nodes(self) -> None:
        words = self.program.threads * s.THREAD_WORDS
        self.nodes[:, s.N_FIRST_THREAD] = self.m[s.O_THREADS] + np.arange(self.program.nodes) * words

    def _pool(self, first: int, count: int, records: int, words: int) -> None:
        """Add a chain of free records in front of a free list."""
        table = np.zeros((records, words), np.int64)
        at = self._add(table)
        table[:, 0] = at + words * np.arange(1, records + 1)
        table[-1, 0] = self.m[first]
        self.m[first] = at
        self.m[count] += records

    def _region(self, base: int, size: int, records: int, words: int) -> None:
        """Add a contiguous region and move what the previous one held into it."""
        table = np.zeros((records, words), np.int64)
        old, used = int(self.m[base]), int(self.m[size]) * words
        table.reshape(-1)[:used] = self.m[old : old + used]
        self.m[base], self.m[size] = self._add(table), records

    def grow(self, status: int) -> None:
        """Enlarge what the engine ran out of, twofold, or begin it anew; addresses stay valid."""
        m = self.m
        if status == s.FULL_MOVES:
            m[s.S_MOVES] = self.moves
            return
        if status == s.GROW_LOG:
            self.log = np.concatenate([self.log, np.zeros_like(self.log)])
            return
        self._parts, self._words = [m], m.size
        if status == s.GROW_POOL:
            self._pool(s.S_FREE, s.S_FREE_COUNT, m.size // s.POOL_WORDS, s.POOL_WORDS)
        elif status == s.GROW_COPIES:
            self._pool(s.S_COPY_FREE, s.S_COPY_COUNT, max(1024, 8 * self.program.nodes), s.COPY_WORDS)
        elif status == s.GROW_HEAP:
            self._region(s.O_HEAP, s.S_HEAP_SIZE, 2 * int(m[s.S_HEAP_SIZE]), 3)
        else:
            words = s.B_NODES + self.program.nodes
            self._region(s.O_BARRIERS, s.S_BARRIERS_SIZE, 2 * int(m[s.S_BARRIERS_SIZE]), words)
        self.m = np.concatenate(self._parts)
        self._parts = []

    def record(self, nodes: Table, seen: int, window: tuple[int, int], width: int, bins: int) -> None:
        """Have the run that follows note more than its log, which costs time and changes no cycle.

        nodes: indices of the nodes whose rows without a log entry are noted, `seen` at most; bins: time bins of `width`
        cycles that divide the window (first cycle, one past the last), in which the bytes of every link are counted.
        """
        self._parts, self._words = [self.m], self.m.size
        at = int(self.m[s.O_NODES]) + s.N_SEEN
        self.m[at + np.asarray(nodes, np.int64) * s.NODE_WORDS] = 1
        self.m[s.K_SEEN], self.m[s.K_BIN], self.m[s.K_BINS] = seen, width, bins
        self.m[s.K_BIN_FIRST], self.m[s.K_BIN_LAST] = window
        self.m[s.O_SEEN] = self._add(np.zeros(seen * s.SEEN_WORDS, np.int64))
        self.m[s.O_BINS] = self._add(np.zeros(bins * int(self.m[s.K_LANES]), np.int64))
        # one event starts no more transfers than there are buffer slots, of which each is taken once
        margin = s.MOVE_WORDS * int(self.m[s.K_LANES]) * (self.chip.noc.buffer_packets + 1)
        self.moves = self._add(np.zeros(MOVES_WORDS + margin, np.int64))
        self.m[s.S_MOVES], self.m[s.K_MOVES] = self.moves, self.moves + MOVES_WORDS
        self.m = np.concatenate(self._parts)
        self._parts = []

    def recorded(self) -> tuple[Table, Table]:
        """What `record` had noted: rows without a log entry (n, SEEN_WORDS), and bytes (bins, lanes).

        Lanes: the links in their order, then the writes of each port router.
        """
        m = self.m
        count, at, bins = min(int(m[s.S_SEEN]), int(m[s.K_SEEN])), int(m[s.O_SEEN]), int(m[s.O_BINS])
        size = int(m[s.K_BINS] * m[s.K_LANES])
        return (
            m[at : at + count * s.SEEN_WORDS].reshape(-1, s.SEEN_WORDS).copy(),
            m[bins : bins + size].reshape(-1, int(m[s.K_LANES])).copy(),
        )

    def copy(self) -> Memory:
        """A second run from the same state."""
        other = copy.copy(self)
        other.m = self.m.copy()
        return other

    def node(self, word: int) -> Table:
        """One word of every node, (rows, cols)."""
        at, words = int(self.m[s.O_NODES]), self.program.nodes * s.NODE_WORDS
        table = self.m[at : at + words].reshape(-1, s.NODE_WORDS)
        return table[:, word].reshape(self.program.rows, self.program.cols).copy()

    def thread(self, word: int) -> Table:
        """One word of every thread, in order of node and number."""
        at, words = int(self.m[s.O_THREADS]), self.program.nodes * self.program.threads * s.THREAD_WORDS
        return self.m[at : at + words].reshape(-1, s.THREAD_WORDS)[:, word].copy()

    def port(self, word: int) -> list[int]:
        """One word of every memory port."""
        at, words = int(self.m[s.O_PORTS]), len(self.chip.ports) * s.PORT_WORDS
        return [int(n) for n in self.m[at : at + words].reshape(-1, s.PORT_WORDS)[:, word]]

    def link_bytes(self) -> tuple[Table, Table, Table]:
        """Bytes of the mesh links (sites, 4), of the injections and of the ejections (sites each)."""
        at, words = int(self.m[s.O_LINKS]), int(self.m[s.K_LINK_WORDS])
        total = (self.first_eject + self.sites) * words
        moved = self.m[at : at + total].reshape(-1, words)[:, s.X_BYTES].copy()
        return moved[: 4 * self.sites].reshape(-1, 4), moved[4 * self.sites : 5 * self.sites], moved[self.first_eject :]


def _clock(port: str, memory: float, edge: float, packet_bytes: int) -> tuple[int, int, int]:
    """Return the ticks of a port's clock in a cycle, and those that a byte takes of its memory and of its edge.

    Both rates are exact where a clock of at most MOST_TICKS allows it; else the edge takes the next slower one. So a
    run of LARGEST / ticks cycles and a packet fit an int64. UnsupportedError for a port so slow that a packet does not.
    """
    rate, limit = _rate(memory), _rate(edge)
    clock = math.lcm(rate.numerator, limit.numerator)
    if clock > MOST_TICKS:
        clock = rate.numerator * max(1, MOST_TICKS // 4 // rate.numerator)
    cost = clock * rate.denominator // rate.numerator
    edge_cost = math.ceil(clock / limit)
    if packet_bytes * max(cost, edge_cost) > LARGEST:
        slow = f"{min(memory, edge):g} bytes a cycle"
        raise UnsupportedError(f"Cannot time a port as slow as {port!r}, {slow}; use a faster one or shorter packets")
    return clock, cost, edge_cost


def _rate(bytes_per_cycle: float) -> Fraction:
    """Return a rate as a small fraction, the nearest or, where that is faster, the next below: no chip gains by it."""
    exact = Fraction(min(bytes_per_cycle, FASTEST))
    if exact < 1:
        return 1 / _near(1 / exact, slower=1)
    return _near(exact, slower=-1)


def _near(exact: Fraction, slower: int) -> Fraction:
    near = exact.limit_denominator(RATE_DENOMINATOR)
    if slower * (near - exact) >= -exact / 10**12:  # 0.3 as a float is not 3/10
        return near
    steps = exact * RATE_DENOMINATOR
    return Fraction(math.ceil(steps) if slower > 0 else math.floor(steps), RATE_DENOMINATOR)
