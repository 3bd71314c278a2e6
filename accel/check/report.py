"""From hits to findings: grouped over nodes, repetitions and schedules, one line each with its way out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from accel.check import layout as w
from accel.check.deadlock import stuck_threads
from accel.check.layout import State
from accel.check.names import Names
from accel.check.pools import hits_of, queues_of
from accel.check.prepare import Tables
from accel.errors import Finding, Location
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["Reporter"]

_COPY = BY_MNEMONIC["copy"]
_READ_WRITE, _WRITE_READ = 1, 2  # 2 * (the first access writes) + (the second writes)
_ORDER = ("deadlock", "race", "ambiguous", "uninitialised", "unawaited", "leftover", "overflow", "unwritten")


@dataclass
class _Entry:
    """One finding in the making; the message is written when all its nodes are known."""

    kind: str
    first: int
    second: int
    facts: tuple[int, ...]
    nodes: set[int] = field(default_factory=set)
    slots: set[int] = field(default_factory=set)
    text: str = ""


class Reporter:
    """Collects what the runs under all schedules show."""

    def __init__(self, tables: Tables, semaphore_bits: int) -> None:
        self.program, self.tables, self.groups, self.bits = tables.program, tables, tables.groups, semaphore_bits
        self.names = Names(self.program, self.groups)
        self.entries: dict[tuple[object, ...], _Entry] = {}

    def add(self, state: State, shards: list[tuple[int, int, int]], stuck: bool) -> None:
        """Take in the end of one run; `shards` are (shard, group, node) of collects of unwritten bytes."""
        for row in hits_of(state).tolist():
            self._hit(row)
        if stuck:
            for text, first, second, nodes in stuck_threads(self.tables, state, self.names):
                self._note(("deadlock", first, text), "deadlock", first, second, (), nodes, text=text)
            return  # what is left over or unwritten now only follows from it
        for index, group, node in shards:
            self._note(("collect", index), "uninitialised", -1, -1, (group, index), {node})
        self._tokens(state)
        self._unwritten(state)

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings: deadlocks first, then by line."""
        found = []
        for e in self.entries.values():
            text = e.text or getattr(self, f"_say_{e.kind}")(e)
            nodes = tuple(self.program.node(n) for n in sorted(e.nodes))
            first, second = self.names.line(e.first), self.names.line(e.second)
            if e.kind == "uninitialised" and e.first < 0:
                first = self._shard_line(e.facts[1])
            found.append(Finding(e.kind, text, first, second, nodes))
        none = Location("", 0)
        found.sort(key=lambda f: (_ORDER.index(f.kind), f.first or none, f.second or none, f.message))
        return tuple(found)

    # --- taking in ------------------------------------------------------------------------------------------------

    def _note(self, key: tuple[object, ...], kind: str, first: int, second: int, facts: tuple[int, ...],
              nodes: set[int], slot: int = -1, text: str = "") -> None:  # fmt: skip
        entry = self.entries.setdefault(key, _Entry(kind, first, second, facts, text=text))
        entry.nodes |= nodes
        entry.slots.add(slot)

    def _hit(self, row: list[int]) -> None:
        kind, obj, first, second, node, way, where, extra, other = row
        nodes = {node}
        if kind == w.HIT_RACE:
            sides = tuple(sorted(((first, way >> 1), (second, way & 1))))
            itself = other < 0
            if self.groups[obj].tensor >= 0:
                nodes.add(other)
            # the later access is the one that comes too early: it is named first
            self._note(("race", obj, sides, itself), "race", second, first, (obj, way, extra, itself), nodes, where)
        elif kind == w.HIT_UNINITIALISED:
            self._note(("uninitialised", obj, first), "uninitialised", first, -1, (obj, extra), nodes, where)
        elif kind == w.HIT_AMBIGUOUS:
            pair = tuple(sorted((second, where)))  # in another schedule the other of the two comes first
            self._note(("ambiguous", self._family(obj), first, pair), "ambiguous", first, second,
                       (obj, where, extra, other), nodes, obj)  # fmt: skip
        elif kind == w.HIT_RIVALS:
            threads = self.program.threads
            a, b = (self.names.thread(node * threads + x) for x in sorted((extra, other)))
            self._note(
                ("rivals", obj, a, b), "ambiguous", first, -1, (), nodes,
                text=f"threads {a!r} and {b!r} wait for {self.names.sem(obj)} in no order{self.names.nodes(nodes)}, so "
                f"either may take the other's token ({self.names.place(first)}); give each thread its own semaphore",
            )  # fmt: skip
        elif kind == w.HIT_BARRIER:
            self._note(
                ("barrier", *sorted((first, second))), "ambiguous", first, second, (), nodes,
                text=f"two threads of one node join the barrier at {self.names.place(first)} at once"
                f"{self.names.nodes(nodes)}; let one thread of each node join it",
            )  # fmt: skip
        elif kind == w.HIT_UNAWAITED:
            self._note(("unawaited", first), "unawaited", first, -1, (), nodes)
        elif kind == w.HIT_OVERFLOW:
            self._note(("overflow", self._family(obj), first), "overflow", first, -1, (obj,), nodes, obj)

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
                    self._note(key_of, "leftover", site, -1, (sem, over), {key // sems})
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
                self._note(("unawaited", site), "unawaited", site, -1, (), {token[w.K_KEY] // sems})

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
            self._note(
                ("unwritten", index), "unwritten", -1, -1, (), set(),
                text=f"{missing} of {total} elements of output {tensor.name} are never stored, the first is "
                f"{tensor.name}[{element}]; store every element",
            )  # fmt: skip

    def _shard_line(self, shard: int) -> Location | None:
        line = int(self.program.shards[shard, isa.H_LINE])
        return self.program.lines[line] if 0 <= line < len(self.program.lines) else None

    # --- putting into words ----------------------------------------------------------------------------------------

    def _say_race(self, e: _Entry) -> str:
        obj, way, address, itself = e.facts
        name, what = self.names.bytes_of(obj, e.slots, address), self.names
        if itself:
            return (
                f"{what.site(e.first)} reads and writes parts of {name} that overlap{what.nodes(e.nodes)}, and its "
                "elements come in no promised order; write to another buffer, or exactly in place"
            )
        late = "write" if way & 1 else "read"
        early = "write" if way >> 1 else "read"
        other = f"by {what.site(e.second)}" if e.first != e.second else "by another run of it"
        copy = what.what(e.second) == "copy"
        if way == _READ_WRITE:
            cure = "wait for the copy's sent before overwriting its source" if copy else (
                "wait for the reader's token before overwriting")  # fmt: skip
        elif way == _WRITE_READ:
            cure = "wait for the copy's done before reading" if copy else "wait for the writer's token before reading"
        else:
            cure = "wait for the first write's token before the second, or write to different places"
        return f"{late} of {name} by {what.site(e.first)} races with the {early} {other}{what.nodes(e.nodes)}; {cure}"

    def _say_uninitialised(self, e: _Entry) -> str:
        if e.first < 0:
            b, nodes = self.names.bytes_of(e.facts[0], (), self.groups[e.facts[0]].low), self.names.nodes(e.nodes)
            return f"the collect reads bytes of {b} that nothing has written{nodes}; write them before the end"
        obj, address = e.facts
        name = self.names.bytes_of(obj, e.slots, address)
        return (
            f"read of {name} by {self.names.site(e.first)} finds bytes that nothing has written"
            f"{self.names.nodes(e.nodes)}; copy, fill or preload them first"
        )

    def _say_ambiguous(self, e: _Entry) -> str:
        sem, taken, kind, taken_kind = e.facts
        n = self.names
        firing = {w.TOKEN_INC: "", w.TOKEN_DONE: "done of ", w.TOKEN_SENT: "sent of "}
        earlier = taken == e.second and kind == taken_kind
        other = "an earlier one of it" if earlier else firing[taken_kind] + n.site(taken)
        return (
            f"the wait for {n.sem(sem)} at {n.place(e.first)} may take a token of {firing[kind]}{n.site(e.second)} "
            f"instead of {other}{n.nodes(e.nodes)}, as nothing orders them; use a semaphore for each slot and giver, "
            "or wait for all at once"
        )

    def _say_unawaited(self, e: _Entry) -> str:
        n = self.names
        cure = "give it done= and wait for that before using its data"
        return f"nothing waits for {n.site(e.first)}{n.nodes(e.nodes)}; {cure}"

    def _say_leftover(self, e: _Entry) -> str:
        sem, over = e.facts
        n = self.names
        many = f"{over} token{'s' if over > 1 else ''}"
        return (
            f"{n.sem(sem)} still holds {many} of {n.site(e.first)} at the end{n.nodes(e.nodes)}; "
            "wait for each token or do not give it"
        )

    def _say_overflow(self, e: _Entry) -> str:
        n = self.names
        return (
            f"{n.site(e.first)} lifts {n.sem(e.facts[0])} above {(1 << self.bits) - 1}, the most {self.bits} bits hold"
            f"{n.nodes(e.nodes)}; wait for tokens in between"
        )
