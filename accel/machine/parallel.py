"""Threads of the host for one run: how many, what each owns, and the doing of a log of work by all of them."""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError
from accel.isa import layout as w
from accel.isa.table import BY_MNEMONIC
from accel.machine import words as s

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["Team", "available_cores", "compile_threads", "thread_count", "together"]

VARIABLE = "ACCEL_THREADS"
MOST_THREADS = 1024
LOG_ITEMS = 1 << 15  # and room for one more copy to all nodes
# Work, in cycles of the host as `worklog` counts them, that a run does alone before it keeps a log for its threads. The
# greater is where `run_log` has yet to be loaded or compiled.
ALONE_LOADED, ALONE_COLD = 3_000_000, 150_000_000
# Logs with less than this are done by one thread: starting others takes longer.
WORTH_SHARING = 1_000_000


def available_cores() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # a system that does not say
        return os.cpu_count() or 1


def thread_count(wanted: object) -> int:
    """Return the number of threads of a run: `wanted`, else ACCEL_THREADS, else one for each available processor.

    Raises InputError unless it is an integer from 1 to 1024.
    """
    if wanted is None:
        given = os.environ.get(VARIABLE, "")
        if not given:
            return min(available_cores(), MOST_THREADS)
        if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= MOST_THREADS:
            raise InputError(f"Cannot use {VARIABLE}={given!r}: use a number of threads from 1 to {MOST_THREADS}")
        return int(given)
    if isinstance(wanted, bool) or not isinstance(wanted, (int, np.integer)) or not 1 <= wanted <= MOST_THREADS:
        raise InputError(f"Cannot run on threads={wanted!r}: use an integer from 1 to {MOST_THREADS}")
    return int(wanted)


def _sharing(spans: list[tuple[int, int]]) -> list[int]:
    """Return for every span of bytes the first of those that it shares bytes with, directly or through others."""
    firsts, order = list(range(len(spans))), sorted(range(len(spans)), key=lambda i: spans[i])
    end, first = -1, 0
    for i in order:
        if spans[i][0] < end:
            firsts[i] = first
        else:
            first = i
        end = max(end, spans[i][1])
    return firsts


def _sets(program: Program) -> Any:
    """Return the groups of the buffers, then the objects of the tensors: -1 for one that no copy writes."""
    groups = _sharing([(b.offset, b.offset + b.nbytes) for b in program.buffers])
    if not groups:
        groups = [0]  # as many as `needed` has columns
    tensors = _sharing([(t.address, t.address + t.nbytes) for t in program.tensors])
    written = set()
    for mnemonic in ("copy", "pull"):
        row = BY_MNEMONIC[mnemonic]
        views = program.views[program.code[program.code[:, w.W_OPCODE] == row.opcode, row.word("dst")]]
        stores = views[views[:, w.V_SPACE] == w.SPACE_MEMORY, w.V_OBJECT]
        written |= {tensors[i] for i in stores.tolist()}
    return np.array(groups + [program.nodes + t if t in written else -1 for t in tensors], np.int64)


def together(threads: int, count: int, advance: Callable[[int, int], int]) -> None:
    """Take every thread `me` from item 0 to `count` by at = advance(me, at), which returns early where it must wait.

    An exception in one stops all and is raised here.
    """
    raised: list[BaseException] = []

    def work(me: int) -> None:
        at = 0
        try:
            while at < count and not raised:
                at = advance(me, at)
                if at < count:
                    time.sleep(0)  # another thread is behind: let it have the processor
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that called
            raised.append(error)

    others = [threading.Thread(target=work, args=(me,), daemon=True) for me in range(1, threads)]
    for other in others:
        other.start()
    work(0)
    for other in others:
        other.join()
    if raised:
        raise raised[0]


def compile_threads() -> None:
    """Compile, or load, what does a log of work; a run does so by itself when it first has enough to share."""
    from accel.machine.links import address
    from accel.machine.worklog import ARGUMENTS, run_log

    address(run_log, ARGUMENTS)


class Team:
    """The threads of one run, the log that the interpreter fills for them, and what that needs to know of objects."""

    def __init__(self, program: Program, threads: int, *, fast: bool, config: Any, ring_bytes: int) -> None:
        from accel.machine.moves import nest_space
        from accel.machine.narrow import sums_words
        from accel.machine.operands import MOST
        from accel.machine.units import unit_space
        from accel.machine.worklog import FIELDS, ITEM_WORDS, LINE, run_log

        self.threads = threads
        on = threads > 1
        objects = program.nodes + len(program.tensors)
        self.groups = max(1, len(program.buffers))
        self.items = np.zeros((LOG_ITEMS + program.nodes if on else 1, ITEM_WORDS), np.int64)
        self.track = np.zeros((objects if on else 1, FIELDS + 2 * self.groups), np.int64)
        self.sets = _sets(program) if on else np.zeros(1, np.int64)
        loaded = bool(getattr(run_log, "signatures", None))
        config[s.C_LOGGING], config[s.C_ALONE] = on, ALONE_LOADED if loaded else ALONE_COLD
        self._fast, self._ring_bytes, self._words, self._sums = fast, ring_bytes, MOST + 1, sums_words(program)
        self._spaces: list[tuple[Any, ...]] = []
        self._config, self._make = config, (unit_space, nest_space, run_log)
        self._done = np.zeros(objects * LINE if on else 1, np.int64)
        self._reads = np.zeros(objects * self.groups * LINE if on else 1, np.int64)

    def do(self, tables: tuple[Any, ...]) -> Any | None:
        """Do what the log holds and empty it; return the error of the first item that failed, if any.

        tables: what `run_log` takes between its counters and its own work space.
        """
        from accel.machine.worklog import COST

        count = int(self._config[s.C_ITEMS])
        if count == 0:
            return None
        costs = self.track[:, COST]
        team, threads = self._shares(costs)
        self._done[:], self._reads[:] = 0, 0
        while len(self._spaces) < threads:
            self._spaces.append(self._space(len(self._spaces)))
        failed = [np.zeros(s.ERROR_WORDS + 1, np.int64) for _ in range(threads)]
        run_log: Any = self._make[2]

        def advance(me: int, at: int) -> int:
            return int(run_log(self.items, at, count, me, team, self._done, self._reads, *tables, *self._spaces[me],
                               failed[me]))  # fmt: skip

        together(threads, count, advance)
        self._config[s.C_ITEMS] = 0
        self.track[:] = 0
        errors = [found for found in failed if found[0]]
        return min(errors, key=lambda found: int(found[-1]))[: s.ERROR_WORDS] if errors else None

    def _shares(self, costs: Any) -> tuple[Any, int]:
        """Return the thread of every object and how many take part: dearest objects first, each to the idlest."""
        team = np.zeros(len(costs), np.int64)
        busy = np.flatnonzero(costs)
        threads = 1 if costs.sum() < WORTH_SHARING else min(self.threads, len(busy))
        if threads > 1:
            loads = [(0, me) for me in range(threads)]
            for owner in busy[np.argsort(-costs[busy], kind="stable")].tolist():
                load, me = loads[0]
                team[owner] = me
                heapq.heapreplace(loads, (load + int(costs[owner]), me))
        return team, max(1, threads)

    def _space(self, me: int) -> tuple[Any, ...]:
        """Return the work space, nest, operands, config and error of one thread."""
        unit_space, nest_space, _ = self._make
        config = self._config.copy()
        config[s.C_RING] += me * self._ring_bytes
        return (*unit_space(self._fast, self._sums), nest_space(), np.zeros(self._words, np.int64), config,
                np.zeros(s.ERROR_WORDS, np.int64))  # fmt: skip
