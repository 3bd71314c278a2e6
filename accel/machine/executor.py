"""Runs a program to the bit: checks it, lays out its bytes, calls the interpreter, and turns failures into errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError, UnsupportedError, nearest
from accel.isa import layout as w
from accel.isa.table import opcode
from accel.machine import words as s
from accel.machine.arena import Arena
from accel.machine.formats import executable_views
from accel.machine.parallel import Team, thread_count
from accel.machine.report import failure
from accel.machine.stages import Stages, stages_for
from accel.numerics.formats import fmt

if TYPE_CHECKING:
    from accel.isa.program import Program
    from accel.machine.probes import Record

    Recorder = Callable[[Record], None]

__all__ = ["Box", "Execution", "Needed", "execute", "execute_sample", "needed"]

Box = tuple[tuple[int, int], ...]  # (first, one past last) element of every dimension
SEMAPHORE_LIMIT = (1 << 16) - 1  # the contract's least width; a chip's own width is passed in
ENGINES = ("jit", "plain")
MATMUL = opcode("matmul")
BARRIERS = 4096  # different barrier rectangles a program may use


@dataclass(frozen=True, eq=False)
class Needed:
    """buffers[node, buffer]: whether its contents decide a sampled element; memory traffic follows from that."""

    buffers: Any


@dataclass(frozen=True, eq=False)
class Execution:
    """outputs and written: a storage array and a mask by name of output; instructions: rows executed on all nodes."""

    outputs: dict[str, Any]
    written: dict[str, Any]
    instructions: int


def _functions(engine: str) -> tuple[Callable[..., int], Callable[..., int]]:
    if engine not in ENGINES:
        raise InputError(f"no engine {engine!r}{nearest(str(engine), ENGINES) or '; use jit or plain'}")
    from accel.machine.interpreter import interpret, run_shards  # imports Numba

    if engine == "jit":
        return interpret, run_shards
    return interpret.plain, run_shards.plain


class _Run:
    """The tables of one run and the calls that work on them."""

    def __init__(self, program: Program, arena: Arena, stages: Stages, buffers: Any, *, engine: str, seed: int | None,
                 limit: int, random_seed: int = 0, record: Recorder | None = None, threads: int = 1,
                 wanted: Any = None, kept: Any = None) -> None:  # fmt: skip
        from accel.machine.fast import fast_path
        from accel.machine.interpreter import addresses
        from accel.machine.moves import nest_space
        from accel.machine.narrow import sums_words
        from accel.machine.operands import MOST
        from accel.machine.probes import LOG_ROWS
        from accel.machine.rings import SLOTS, scratch_bytes
        from accel.machine.schedule import flight
        from accel.machine.units import leaves_of, unit_space, uses_codes

        self.program, self.arena, self.views, self.needed = program, arena, stages.views, buffers
        self.engine, self.limit = _functions(engine), limit
        nodes, per_node = program.nodes, program.threads
        self.threads = np.zeros((max(1, nodes * per_node), s.THREAD_WORDS), np.int64)
        self.queue = np.zeros(max(1, nodes * per_node) + 1, np.int64)
        config = self.config = np.zeros(s.CONFIG_WORDS, np.int64)
        config[s.C_ROWS], config[s.C_COLS], config[s.C_THREADS] = program.rows, program.cols, per_node
        config[s.C_MARK], config[s.C_RANDOM], config[s.C_LIMIT] = wanted is not None, seed is not None, limit
        count = 0
        for node in range(nodes):
            role = int(program.role_of[node])
            for thread in range(per_node) if role >= 0 else ():
                at = node * per_node + thread
                self.threads[at, [s.S_PC, s.S_LAST]] = program.spans[role, thread]
                self.threads[at, s.S_STATUS] = s.READY
                self.queue[count], count = at, count + 1
        config[s.C_READY] = count
        config[s.C_STAGE], config[s.C_STAGES], config[s.C_STAGE_BYTES] = arena.stage, stages.slots, stages.nbytes
        config[s.C_VIEWS], config[s.C_SEED] = stages.own, np.uint64(random_seed).astype(np.int64)
        config[s.C_RING], config[s.C_RING_BYTES] = arena.ring, scratch_bytes(stages.views)
        self.record = record
        config[s.C_PROBES] = record is not None
        config[s.C_LOG_BYTE], config[s.C_LOG_END] = arena.log, len(arena.u8)
        self.log = np.zeros((LOG_ROWS if record else 1, s.LOG_WORDS), np.int64)
        init = np.asarray(program.semaphore_init, np.int64).ravel()
        self.sems = np.tile(init, (nodes, 1)) if init.size else np.zeros((nodes, 0), np.int64)
        self.groups = np.zeros((BARRIERS, s.GROUP_WORDS), np.int64)
        self.events, self.copies = flight(nodes, seed is not None)
        self.copies[:, s.K_ROW] = -1
        self.rng = np.array([_scramble(seed or 0)], np.uint64)
        # How eager deliveries are is part of the seed: from "only when nothing else can run" to "at once".
        config[s.C_DELAY] = (0, 16, 96, 192, 256)[(seed or 0) % 5]
        config[s.C_LATE] = (8, 0, 2)[(seed or 0) % 3]
        self.wanted = np.zeros((0, 2), np.int64) if wanted is None else wanted
        self.kept = np.zeros((max(1, len(program.tensors)), 2), np.int64) if kept is None else kept
        self.leaves = leaves_of(program)
        jit = engine == "jit"
        fast = jit and wanted is None and MATMUL in program.code[:, w.W_OPCODE] and fast_path().on
        self.work, self.nest = unit_space(fast, sums_words(program)), nest_space()
        self.units = addresses(
            self.leaves[: None if jit else 0], codes=jit and uses_codes(program, self.leaves),
            rings=jit and config[s.C_RING_BYTES] > 0, random=jit and seed is not None,
            mark=jit and wanted is not None, probes=jit and record is not None,
        )  # fmt: skip
        alone = not jit or seed is not None or wanted is not None or record is not None
        self.team = Team(program, 1 if alone else threads, fast=fast, config=config,
                         ring_bytes=SLOTS * int(config[s.C_RING_BYTES]))  # fmt: skip
        self.rect, self.value = np.zeros(4, np.int64), np.zeros(MOST + 1, np.int64)  # its last word: see `rings`
        self.error = np.zeros(s.ERROR_WORDS, np.int64)

    def go(self) -> int:
        """Run preloads, threads and collects; raise what went wrong, return the number of rows executed."""
        with np.errstate(all="ignore"):
            self._shards(w.DIR_PRELOAD)
            p, a, u8 = self.program, self.arena, self.arena.u8
            code = s.FULL
            while code == s.FULL:
                code = self.engine[0](
                    p.code, self.views, p.exprs, p.preds, p.targets, p.params, p.role_of, self.threads, self.sems,
                    self.queue, self.groups, self.config, self.events, self.copies, self.rng, u8, u8.view(np.uint16),
                    u8.view(np.uint32), u8.view(np.float32), a.bases, self.needed, self.wanted, self.kept, a.shadow,
                    a.shadows, self.units, self.leaves, *self.work, self.nest, self.rect, self.value, self.log,
                    self.team.items, self.team.track, self.team.sets, self.error,
                )  # fmt: skip
                self._hand_over()
                failed = self.team.do((
                    p.code, self.views, u8, u8.view(np.uint16), u8.view(np.uint32), u8.view(np.float32), a.bases,
                    self.needed, a.shadow, a.shadows, self.units, self.leaves,
                ))  # fmt: skip
                if failed is not None:  # before what control flow ran into, which came later
                    self.error[:] = failed
                    raise failure(p, self.error, self.threads, self.sems, self.groups, limit=self.limit)
            if code:
                raise failure(p, self.error, self.threads, self.sems, self.groups, limit=self.limit)
            self._shards(w.DIR_COLLECT)
        return int(self.config[s.C_EXECUTED])

    def _hand_over(self) -> None:
        """Give what probes have recorded to the recorder and make room for more."""
        if self.record is None:
            return
        from accel.machine.probes import records

        config = self.config
        for found in records(self.program, self.log, int(config[s.C_LOG]), self.arena.u8):
            self.record(found)
        config[s.C_LOG], config[s.C_LOG_BYTE] = 0, self.arena.log

    def _shards(self, direction: int) -> None:
        p, a = self.program, self.arena
        if not len(p.shards):
            return  # nothing to do, and nothing to compile
        code = self.engine[1](
            p.shards, direction, self.views, p.exprs, p.params, p.role_of, self.threads, self.config, a.u8, a.bases,
            self.needed, self.wanted, self.kept, a.shadow, a.shadows, self.units, self.nest, self.rect, self.error,
        )  # fmt: skip
        if code:
            raise failure(p, self.error, self.threads, self.sems, self.groups, limit=self.limit, shard=True)


def _scramble(seed: int) -> int:
    """Return a nonzero 64-bit state from any integer (the finaliser of SplitMix64, Steele, Lea and Flood, 2014)."""
    x = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (x ^ (x >> 31)) or 1


def _seed(schedule: str | int) -> int | None:
    if schedule == "natural":
        return None
    if isinstance(schedule, bool) or not isinstance(schedule, (int, np.integer)):
        raise InputError(f'no schedule {schedule!r}; use "natural" or an integer seed')
    return int(schedule)


def _key(seed: object) -> int:
    """Return the seed of random numbers; InputError unless it is an integer of 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
        raise InputError(f"the seed of random numbers cannot be {seed!r}; use an integer from 0 to 2^64 - 1")
    return int(seed)


def _all_buffers(program: Program) -> Any:
    return np.ones((program.nodes, max(1, len(program.buffers))), np.uint8)


def _prepared(program: Program, allocated: Any, seed: int | None, record: Recorder | None, threads: int, *,
              engine: str, whole: bool) -> tuple[Arena, Stages]:  # fmt: skip
    """Return the arena of a run, with all the room it needs, and its stages; whole: as `Arena.build`."""
    from accel.machine.interpreter import interpret
    from accel.machine.probes import log_bytes
    from accel.machine.rings import SLOTS, scratch_bytes

    views = executable_views(program)
    log = log_bytes(program, views) if record else 0
    stages = stages_for(program, views, seed, probes=log > 0)
    rings = SLOTS * scratch_bytes(views) * threads
    return Arena.build(program, allocated, stages=stages.slots * stages.nbytes, rings=rings, log=log,
                       lend=engine == "jit" and hasattr(interpret, "overloads"), whole=whole), stages  # fmt: skip


def execute(program: Program, inputs: Mapping[str, Any], *, schedule: str | int = "natural", engine: str = "jit",
            semaphore_limit: int = SEMAPHORE_LIMIT, random_seed: int = 0, record: Recorder | None = None,
            threads: int | None = None) -> dict[str, Any]:  # fmt: skip
    """Run a program and return its outputs by name.

    inputs and outputs are arrays of storage codes (bf16 as uint16, fp32 as float32) in the shapes of the tensors.
    schedule: "natural", or an integer seed for a random legal order of threads, copies and tokens. engine: "jit", or
    "plain" for the same functions uncompiled. semaphore_limit: the largest count of a semaphore. random_seed: key of
    random numbers, 0 <= random_seed < 2^64. record: called with a `Record` for each visit of a probe, in the order of
    the run. threads: of the host, at most; None for ACCEL_THREADS or all processors. Bits and errors are the same for
    any number. Small runs, adversarial schedules, "plain" and runs that record probes take one.
    Raises InputError, ProgramError, BoundsError, DeadlockError, UnwrittenError.
    """
    seed = _seed(schedule)
    threads = min(thread_count(threads), max(1, program.nodes))
    arena, stages = _prepared(program, program.role_of >= -1, seed, record, threads, engine=engine, whole=True)
    arena.load(inputs)
    _Run(program, arena, stages, _all_buffers(program), engine=engine, seed=seed, limit=semaphore_limit,
         random_seed=_key(random_seed), record=record, threads=threads).go()  # fmt: skip
    arena.require_written()
    return arena.outputs()


def _intervals(program: Program, regions: Mapping[str, Sequence[Box]]) -> Any:
    """Return the sorted disjoint byte intervals of memory that sampled regions cover."""
    tensors = {t.name: t for t in program.tensors if t.is_output}
    spans = []
    for name, boxes in regions.items():
        tensor = tensors.get(name)
        if tensor is None:
            hint = nearest(name, tensors) or f"; its outputs are {', '.join(tensors) or 'none'}"
            raise InputError(f"program {program.name!r} has no output {name!r}{hint}")
        item = fmt(tensor.dtype).bytes
        for box in boxes:
            if len(box) != len(tensor.shape) or not all(
                0 <= lo < hi <= n for (lo, hi), n in zip(box, tensor.shape, strict=True)
            ):
                raise InputError(f"box {box} does not lie in output {name!r} of shape {tensor.shape}")
            index = np.zeros(1, np.int64)
            for (lo, hi), n in zip(box[:-1], tensor.shape[:-1], strict=True):
                index = (index[:, None] * n + np.arange(lo, hi)).ravel()
            lo, hi = box[-1] if box else (0, 1)
            first = tensor.address + item * (index * (tensor.shape[-1] if box else 1) + lo)
            spans.append(np.stack([first, first + item * (hi - lo)], axis=1))
    if not spans:
        raise InputError("nothing is sampled; name at least one box of an output")
    flat = np.concatenate(spans)
    flat = flat[np.argsort(flat[:, 0], kind="stable")]
    reach = np.maximum.accumulate(flat[:, 1])
    starts = np.concatenate([[True], flat[1:, 0] > reach[:-1]])
    ends = np.append(np.flatnonzero(starts)[1:] - 1, len(flat) - 1)
    return np.ascontiguousarray(np.stack([flat[starts, 0], reach[ends]], axis=1))


def needed(program: Program, regions: Mapping[str, Sequence[Box]], *, engine: str = "jit",
           semaphore_limit: int = SEMAPHORE_LIMIT) -> Needed:  # fmt: skip
    """Return which buffers of which nodes decide the sampled output regions.

    regions: by output name, boxes of (first, one past last) element ranges. Runs the program's whole control flow with
    no data, from the stores that meet a region backwards through copies and instructions, until nothing is added.
    """
    views = executable_views(program)
    wanted = _intervals(program, regions)
    buffers = np.zeros_like(_all_buffers(program))
    kept = np.zeros((max(1, len(program.tensors)), 2), np.int64)
    kept[: len(program.tensors), 0] = [t.is_output for t in program.tensors]
    empty = Arena(program, np.zeros(64, np.uint8), np.full(program.nodes, -1, np.int64), np.zeros(1, np.uint8),
                  np.full(2 * max(1, len(program.tensors)), -1, np.int64))  # fmt: skip
    while True:
        run = _Run(program, empty, Stages(0, 0, views, len(views)), buffers, engine=engine, seed=None,
                   limit=semaphore_limit, wanted=wanted, kept=kept)  # fmt: skip
        run.go()
        if not run.config[s.C_CHANGED]:
            return Needed(buffers)


def execute_sample(program: Program, inputs: Mapping[str, Any], what: Needed, *, schedule: str | int = "natural",
                   engine: str = "jit", semaphore_limit: int = SEMAPHORE_LIMIT, random_seed: int = 0,
                   record: Recorder | None = None) -> Execution:  # fmt: skip
    """Run the same program with data only where `what` says it matters; all control flow of all nodes still runs.

    Elements outside `written` hold no result; probes record only views of buffers that matter. Raises as `execute`
    does, except for outputs never written.
    """
    if what.buffers.shape != _all_buffers(program).shape:
        raise UnsupportedError("the needed map belongs to another program; call needed() with this one")
    seed = _seed(schedule)
    arena, stages = _prepared(program, what.buffers.any(axis=1), seed, record, 1, engine=engine, whole=False)
    arena.load(inputs)
    run = _Run(program, arena, stages, what.buffers, engine=engine, seed=seed, limit=semaphore_limit,
               random_seed=_key(random_seed), record=record)  # fmt: skip
    rows = run.go()
    written = {t.name: arena.written(i).copy() for i, t in enumerate(program.tensors) if t.is_output}
    return Execution(arena.outputs(), written, rows)
