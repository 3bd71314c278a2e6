"""From hits to findings: grouped over nodes, repetitions and schedules, one line each with its way out."""

from __future__ import annotations

import numpy as np

from accel.check import layout as w
from accel.check.counterparts import Counterparts
from accel.check.deadlock import stuck_threads
from accel.check.layout import State
from accel.check.names import Names
from accel.check.pools import hits_of, queues_of
from accel.check.prepare import Tables
from accel.check.prose import Entry, told
from accel.errors import Finding, Location
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["Reporter"]

_COPY = BY_MNEMONIC["copy"]
_ORDER = ("deadlock", "race", "ambiguous", "uninitialised", "unawaited", "leftover", "overflow", "unwritten")


class Reporter:
    """Collects what the runs under all schedules show."""

    def __init__(self, tables: Tables, semaphore_bits: int) -> None:
        self.program, self.tables, self.groups, self.bits = tables.program, tables, tables.groups, semaphore_bits
        self.names, self.others = Names(self.program, self.groups), Counterparts(tables)
        self.entries: dict[tuple[object, ...], Entry] = {}
        self.walk = 0

    def add(self, state: State, shards: list[tuple[int, int, int]], stuck: bool) -> None:
        """Take in the end of one run; `shards` are (shard, group, node) of collects of unwritten bytes.

        What an earlier run has shown is not shown again.
        """
        self.walk += 1
        for row in sorted(hits_of(state).tolist()):
            self._hit(row)
        if stuck:
            for text, thing, why, first, second, nodes, sem in stuck_threads(self.tables, state, self.names):
                if second < 0:
                    second = self.others.giver(sem, first) if sem >= 0 else -1
                if second < 0:
                    second = self.others.end(first)
                entry = Entry("deadlock", first, second, (), text=text, why=why, thing=thing)
                self._note(("deadlock", first, thing), entry, nodes)
            return  # what is left over or unwritten now only follows from it
        for index, group, node in shards:
            entry = Entry("uninitialised", -1, -1, (group, index), at=self._shard_line(index))
            self._note(("collect", index), entry, {node})
        self._tokens(state)
        self._unwritten(state)

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings: deadlocks first, then by line."""
        none = Location("", 0)
        found = [told(e, self.names) for e in self.entries.values()]
        found.sort(key=lambda f: (_ORDER.index(f.kind), f.first or none, f.second or none, f.message))
        return tuple(found)

    # --- taking in ------------------------------------------------------------------------------------------------

    def _note(self, key: tuple[object, ...], entry: Entry, nodes: set[int], slot: int = -1) -> None:
        entry.walk = self.walk
        known = self.entries.setdefault(key, entry)
        if known.walk == self.walk:
            known.nodes |= nodes
            known.slots.add(slot)

    def _hit(self, row: list[int]) -> None:
        kind, obj, first, second, node, way, where, extra, other = row
        nodes = {node}
        if kind == w.HIT_RACE:
            sides = tuple(sorted(((first, way >> 1), (second, way & 1))))
            itself = other < 0
            if self.groups[obj].tensor >= 0:
                nodes.add(other)
            # the later access is the one that comes too early: it is named first
            across = self.groups[obj].tensor >= 0 and other != node  # memory that another node touches
            entry = Entry("race", second, first, (obj, way, extra, itself, across))
            self._note(("race", obj, sides, itself), entry, nodes, where)
        elif kind == w.HIT_UNINITIALISED:
            entry = Entry("uninitialised", first, -1, (obj, extra))
            self._note(("uninitialised", obj, first), entry, nodes, where)
        elif kind == w.HIT_AMBIGUOUS:
            pair = tuple(sorted((second, where)))  # in another schedule the other of the two comes first
            entry = Entry("ambiguous", first, second, (obj, where, extra, other))
            self._note(("ambiguous", self._family(obj), first, pair), entry, nodes, obj)
        elif kind == w.HIT_RIVALS:
            threads = self.program.threads
            a, b = (self.names.thread(node * threads + x) for x in sorted((extra, other)))
            self._note(("rivals", obj, a, b), Entry("rivals", first, -1, (obj, node, extra, other)), nodes)
        elif kind == w.HIT_BARRIER:
            self._note(("barrier", *sorted((first, second))), Entry("barrier", first, second, ()), nodes)
        elif kind == w.HIT_UNAWAITED:
            self._unawaited(first, node)
        elif kind == w.HIT_OVERFLOW:
            entry = Entry("overflow", first, -1, (obj, self.bits))
            self._note(("overflow", self._family(obj), first), entry, nodes, obj)

    def _family(self, sem: int) -> int:
        """Return the first index of the neighbours a semaphore was declared with."""
        for s in self.program.semaphores:
            if s.index <= sem < s.index + s.count:
                return s.index
        return sem

    def _tokens(self, state: State) -> None:
        """Tokens nobody took, and the copies that nobody awaited among their givers."""
        m, queues = state.m, queues_of(state)
        sems = int(m[w.M_SEMS])
        init = self.program.semaphore_init.reshape(-1)
        left: list[list[int]] = []
        for key in np.flatnonzero(queues[:, w.Q_HEAD]).tolist():
            over = int(queues[key, w.Q_COUNT] - init[key % sems])
            k = int(queues[key, w.Q_HEAD])
            while k:
                token = m[k : k + w.K_WORDS].tolist()
                if over > 0 and token[w.K_COMP] != w.BEFORE:
                    left.append(token)
                    sem, site = key % sems, int(self.tables.sites[token[w.K_ROW]])
                    key_of = ("leftover", self._family(sem), site)
                    second = self.others.taker(sem, site)
                    second = second if second >= 0 else self.others.end(site)
                    self._note(key_of, Entry("leftover", site, second, (sem, over)), {key // sems})
                k = token[w.K_NEXT]
        firings = {(t[w.K_OWNER], t[w.K_OWNER_TICK], t[w.K_KIND]) for t in left}
        for token in left:
            row, kind = token[w.K_ROW], token[w.K_KIND]
            if kind == w.TOKEN_INC:
                continue
            code = self.program.code[row]
            stores = self.tables.foot[code[_COPY.word("dst")], w.F_SPACE] == isa.SPACE_MEMORY
            if stores:  # either token of a store will do
                twin = w.TOKEN_SENT if kind == w.TOKEN_DONE else w.TOKEN_DONE
                given = code[_COPY.word("sent" if kind == w.TOKEN_DONE else "done")] >= 0
                lost = not given or (token[w.K_OWNER], token[w.K_OWNER_TICK], twin) in firings
            else:
                lost = kind == w.TOKEN_DONE
            if lost:
                site = int(self.tables.sites[row])
                self._unawaited(site, token[w.K_KEY] // sems)

    def _unawaited(self, site: int, node: int) -> None:
        self._note(("unawaited", site), Entry("unawaited", site, self.others.end(site), ()), {node})

    def _unwritten(self, state: State) -> None:
        nodes, groups = self.program.nodes, self.tables.sram_groups
        for index, tensor in enumerate(self.program.tensors):
            g = self.tables.group[groups + index]
            missing = int(state.m[state.m[w.M_MISSING] + nodes * groups + index])
            if not tensor.is_output or not g[w.R_SHADOW] or missing == 0:
                continue
            grain, total = int(g[w.R_GRAIN]), int(g[w.R_BYTES]) >> int(g[w.R_GRAIN])
            start = nodes * self.tables.sram_words + int(g[w.R_WORD])
            words = state.bits[start : start + -(-total // 32)]
            at = int(np.argmax(words != 0xFFFFFFFF))
            bit = next(b for b in range(32) if not int(words[at]) >> b & 1)
            element = self.names.element(index, (32 * at + bit) << grain)
            name = f"{tensor.name}[{element}]"
            text = (
                f"{missing} of {total} elements of output {tensor.name} are never stored, the first is {name}; "
                "store every element"
            )
            why = (f"no copy or collect writes {name}", "so the output holds what the memory held before")
            self._note(("unwritten", index), Entry("unwritten", -1, -1, (), text=text, why=why, thing=name), set())

    def _shard_line(self, shard: int) -> Location | None:
        line = int(self.program.shards[shard, isa.H_LINE])
        return self.program.lines[line] if 0 <= line < len(self.program.lines) else None
