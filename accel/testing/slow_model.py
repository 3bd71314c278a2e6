"""The slow model: a second executor of programs, written from the contract's text, clear instead of fast.

It sees plain decoded data only (`slow_data`) and imports nothing of the engines it checks. Threads run in turn until
they block; a copy happens whole when it is issued, which is one of the legal orders, and a program free of hazards has
one result in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accel.testing.slow_data import Address, Guard, Rectangle, SlowModelError, SlowProgram, Step
from accel.testing.slow_node import ROWS, Context, load, store

__all__ = ["CONTROL", "Record", "SlowModel", "Thread"]

POISON = 0x5A  # of memory that nobody wrote; another pattern than the executor's, so that bits that depend on it differ
DEPTHS = 4
CONTROL = ("wait", "inc", "barrier", "loop", "end", "mark", "probe", "copy", "pull")


@dataclass(frozen=True)
class Record:
    """What a probe saw: its name, the node, and the codes of its view."""

    name: str
    node: int
    codes: Any


@dataclass
class Thread:
    """A thread of a node: where it is, the trips of its open loops, and the barrier rectangle it waits at."""

    node: int
    steps: tuple[Step, ...]
    at: int = 0
    depth: int = 0
    trips: list[int] = field(default_factory=lambda: [0] * DEPTHS)
    limits: list[int] = field(default_factory=lambda: [0] * DEPTHS)
    joined: tuple[int, int, int, int] | None = None


class SlowModel:
    """Runs one program once: `run(inputs)` returns the outputs, `records` is what the probes saw."""

    def __init__(self, program: SlowProgram, seed: int = 0) -> None:
        self.program, self.seed = program, seed
        nodes = program.rows * program.cols
        self.memory = np.full(max(1, program.memory_bytes), POISON, np.uint8)
        self.sram = np.full((nodes, max(1, program.sram_bytes)), POISON, np.uint8)
        self.counts = [list(program.semaphores) for _ in range(nodes)]
        self.threads = [
            Thread(node, steps)
            for node, role in enumerate(program.roles)
            if role >= 0
            for steps in program.threads[role]
        ]
        self.records: list[Record] = []

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs as arrays of storage codes; inputs are the same, by name of tensor."""
        for block in self.program.blocks:
            if block.is_input:
                raw = np.ascontiguousarray(inputs[block.name], np.dtype(block.storage)).reshape(-1).view(np.uint8)
                self.memory[block.address : block.address + block.nbytes] = raw
        self.finish()
        return {
            b.name: self.memory[b.address : b.address + b.nbytes].view(np.dtype(b.storage)).reshape(b.shape).copy()
            for b in self.program.blocks
            if b.is_output
        }

    def finish(self) -> None:
        """Run to the end what lies in memory by now."""
        with np.errstate(all="ignore"):
            self._shards(preload=True)
            while self._turn():
                pass
            stuck = [t for t in self.threads if t.at < len(t.steps)]
            if stuck:
                raise SlowModelError(f"{len(stuck)} threads wait for ever, the first at row {stuck[0].at}")
            self._shards(preload=False)

    # --- control ----------------------------------------------------------------------------------------------------
    def _turn(self) -> bool:
        """Let every thread run until it blocks; return whether any of them got on."""
        moved = False
        for thread in self.threads:
            while thread.at < len(thread.steps) and self._step(thread):
                moved = True
        return moved

    def _step(self, thread: Thread) -> bool:
        """Execute the next instruction of a thread; False where it has to wait."""
        step = thread.steps[thread.at]
        if not all(self._holds(guard, thread) for guard in step.guards):
            thread.at += step.operands["end"] + 1 if step.mnemonic == "loop" else 1
            return True
        if step.mnemonic in ROWS or step.mnemonic == "probe":
            self.compute(thread, step)
        elif step.mnemonic in ("loop", "end"):
            self._loop(thread, step)
            return True
        elif step.mnemonic == "wait":
            sem, count = self._sem(thread, step, "sem"), step.operands["n"].value(self.params(thread), thread.trips)
            if self.counts[thread.node][sem] < count:
                return False
            self.counts[thread.node][sem] -= count
        elif step.mnemonic == "barrier":
            return self._join(thread, step)
        elif step.mnemonic == "inc":
            count = step.operands["n"].value(self.params(thread), thread.trips)
            for node in self._nodes(thread, step.operands["at"]):
                self.counts[node][self._sem(thread, step, "sem")] += count
        elif step.mnemonic in ("copy", "pull"):
            self._move(thread, step)
        elif step.mnemonic != "mark":
            raise SlowModelError(f"the slow model has no instruction {step.mnemonic!r}")
        thread.at += 1
        return True

    def params(self, thread: Thread) -> tuple[int, ...]:
        """Return the parameters of the node of a thread."""
        return self.program.params[thread.node]

    def at(self, thread: Thread, operand: Address) -> int:
        """Return the byte of the first element of a view operand."""
        return operand.at.value(self.params(thread), thread.trips)

    def _holds(self, guard: Guard, thread: Thread) -> bool:
        value = guard.term.value(self.params(thread), thread.trips)
        return {"==": value == 0, "!=": value != 0, "<": value < 0, ">=": value >= 0}[guard.relation]

    def _sem(self, thread: Thread, step: Step, name: str) -> int:
        return int(step.operands[name].value(self.params(thread), thread.trips))

    def _loop(self, thread: Thread, step: Step) -> None:
        if step.mnemonic == "loop":
            trips = step.operands["trips"].value(self.params(thread), thread.trips)
            if trips == 0:
                thread.at += step.operands["end"] + 1
                return
            thread.trips[thread.depth], thread.limits[thread.depth] = 0, trips
            thread.depth += 1
            thread.at += 1
            return
        level = thread.depth - 1
        thread.trips[level] += 1
        if thread.trips[level] < thread.limits[level]:
            thread.at -= step.operands["begin"] - 1
        else:
            thread.trips[level] = 0
            thread.depth = level
            thread.at += 1

    def _rectangle(self, thread: Thread, target: Rectangle) -> tuple[int, int, int, int]:
        if target.itself:
            row, col = divmod(thread.node, self.program.cols)
            return row, row, col, col
        corners = (target.row0, target.row1, target.col0, target.col1)
        r0, r1, c0, c1 = (corner.value(self.params(thread), thread.trips) for corner in corners)
        if not (0 <= r0 <= r1 < self.program.rows and 0 <= c0 <= c1 < self.program.cols):
            raise SlowModelError(f"target rows {r0} to {r1}, columns {c0} to {c1} leave the mesh")
        return r0, r1, c0, c1

    def _nodes(self, thread: Thread, target: Rectangle) -> list[int]:
        r0, r1, c0, c1 = self._rectangle(thread, target)
        return [r * self.program.cols + c for r in range(r0, r1 + 1) for c in range(c0, c1 + 1)]

    def _join(self, thread: Thread, step: Step) -> bool:
        """Arrive at a barrier; once every node with a role is there, one thread of each goes on."""
        first = thread.joined is None
        thread.joined = self._rectangle(thread, step.operands["at"])
        members = [n for n in self._nodes(thread, step.operands["at"]) if self.program.roles[n] >= 0]
        if thread.node not in members:
            raise SlowModelError("a node joins a barrier of other nodes")
        waiting = [t for t in self.threads if t.joined == thread.joined]
        if {t.node for t in waiting} != set(members):
            return False
        for node in members:
            passing = next(t for t in waiting if t.node == node)
            passing.joined = None
            passing.at += 1
        return first or thread.joined is None

    # --- data -------------------------------------------------------------------------------------------------------
    load, store = staticmethod(load), staticmethod(store)

    def compute(self, thread: Thread, step: Step) -> None:
        """Execute a matrix or vector instruction, or note what a probe sees."""
        sram = self.sram[thread.node]
        if step.mnemonic == "probe":
            codes = self.load(sram, step.operands["x"].view, self.at(thread, step.operands["x"]))
            self.records.append(Record(self.program.marks[step.operands["name"]], thread.node, codes))
        else:
            ROWS[step.mnemonic](Context(step, sram, self.params(thread), thread.trips, self.seed))

    def _space(self, memory: bool, node: int) -> Any:
        return self.memory if memory else self.sram[node]

    def _move(self, thread: Thread, step: Step) -> None:
        """Move bits to every destination of a copy, or from the one source node of a pull, and give the tokens."""
        dst, src = step.operands["dst"], step.operands["src"]
        pull = step.mnemonic == "pull"
        others = self._nodes(thread, step.operands["of" if pull else "to"])
        if pull and len(others) != 1:
            raise SlowModelError(f"a pull of {len(others)} nodes; it takes exactly one")
        codes = self.load(
            self._space(src.view.memory, others[0] if pull else thread.node), src.view, self.at(thread, src)
        )
        for node in [thread.node] if pull or dst.view.memory else others:
            self.store(self._space(dst.view.memory, node), dst.view, self.at(thread, dst), codes)
            if step.operands["done"] is not None:
                self.counts[node][self._sem(thread, step, "done")] += 1
        if step.operands["sent"] is not None:
            self.counts[others[0] if pull else thread.node][self._sem(thread, step, "sent")] += 1

    def _shards(self, preload: bool) -> None:
        trips = [0] * DEPTHS
        for shard in self.program.shards:
            for node, role in enumerate(self.program.roles):
                if role == shard.role and shard.preload == preload:
                    params = self.program.params[node]
                    src, dst = shard.src, shard.dst
                    codes = self.load(self._space(src.view.memory, node), src.view, src.at.value(params, trips))
                    self.store(self._space(dst.view.memory, node), dst.view, dst.at.value(params, trips), codes)
