"""What users hold: a kernel that builds, and a program that runs, is timed, checked, listed and saved."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel import isa
from accel.errors import CapacityError, DeadlockError, Finding, HazardError, InputError, nearest
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.hardware import names as chip_names
from accel.isa import assembly, container
from accel.isa.allocation import Allocation, allocation_of
from accel.isa.disassembly import disassemble
from accel.isa.layout import W_OPCODE
from accel.isa.table import BY_MNEMONIC
from accel.lang import Kernel as TracedKernel
from accel.lang import TensorSpec
from accel.numerics import as_storage, from_storage
from accel.results import Outputs, Probe, Sample, Verified

if TYPE_CHECKING:
    from accel.isa.program import Tensor
    from accel.machine.probes import Record
    from accel.timing import Timing
    from accel.timing.stepping import Step

__all__ = ["Kernel", "Outputs", "Probe", "Program", "Sample", "Verified", "assemble", "kernel", "load"]


MOST_BLOCKS = 1 << 16  # of a sample: 128 million output elements


class Program:
    """One kernel built for one chip; immutable. `isa` is the data that every engine below reads."""

    def __init__(self, program: isa.Program, chip: ChipSpec) -> None:
        self.isa = program
        self.chip = chip
        self._timings: dict[tuple[str, str], Timing] = {}

    def __repr__(self) -> str:
        p = self.isa
        return f"<accel.Program {p.name}: {p.rows} x {p.cols} nodes of {self.chip.name}, {p.instructions} instructions>"

    @property
    def name(self) -> str:
        """Return the name of the kernel."""
        return self.isa.name

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and format of every tensor that `run` takes."""
        return {t.name: (t.shape, t.dtype) for t in self.isa.tensors if t.is_input}

    @property
    def outputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and format of every tensor that `run` returns."""
        return {t.name: (t.shape, t.dtype) for t in self.isa.tensors if t.is_output}

    def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        schedule: str | int = "natural",
        engine: str = "jit",
        sample: Sample | None = None,
        probes: bool | Iterable[str] = False,
        threads: int | None = None,
        **arrays: Any,
    ) -> Outputs:
        """Execute the program bit-accurately on `inputs` (also given as keywords, one array a tensor).

        Arrays of any real dtype and memory order are taken; values that the tensor's format cannot hold are rounded
        to nearest even first, and raw codes come as `accel.numerics.Codes`. schedule: "natural", or an int that seeds
        an adversarial order of copies and threads; engine: "jit", or "plain" for the same functions uncompiled. seed:
        key of random numbers, 0 to 2^64 - 1. sample: compute only what the sampled output blocks need (see
        `sample_outputs`). probes: the names of probes to record, or True for all; what they saw is in `Outputs.probes`.
        threads: of this machine, at most (default: ACCEL_THREADS or one a processor); the bits are the same for any
        number.

        Raises InputError for missing, unknown or misshapen arrays, DeadlockError, UnwrittenError.
        """
        from accel.machine import execute, execute_sample
        from accel.machine.parallel import thread_count

        key: object = seed
        if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < 1 << 64:
            raise InputError(f"seed must be an int from 0 to 2^64 - 1, got {seed!r}")
        if engine not in ("jit", "plain"):
            raise InputError(f"unknown engine {engine!r}; use 'jit' or 'plain'")
        if isinstance(schedule, bool) or not (schedule == "natural" or isinstance(schedule, int)):
            raise InputError(f"unknown schedule {schedule!r}; use 'natural' or an int seed")
        given: Any = {} if inputs is None else inputs
        if not isinstance(given, Mapping):
            raise InputError(f"inputs must be a dict of arrays by name, got {type(given).__name__}; or pass name=array")
        storage = self._storage({**given, **arrays})
        limit = (1 << self.chip.node.semaphore_bits) - 1
        found, record = self._recorder(probes)
        options: Any = {"schedule": schedule, "engine": engine, "semaphore_limit": limit, "random_seed": seed}
        options["record"] = record if found else None
        threads = thread_count(threads)
        drawn: object = sample
        if drawn is not None and not isinstance(drawn, Sample):
            raise InputError(f"sample cannot be {drawn!r}; draw one with sample_outputs(blocks)")
        if sample is None:
            arrays, written = execute(self.isa, storage, threads=threads, **options), None
        else:
            execution = execute_sample(self.isa, storage, sample.needed, **options)
            arrays, written = execution.outputs, execution.written
        tensors = {t.name: t for t in self.isa.tensors}
        return Outputs({n: _values(a, tensors[n]) for n, a in arrays.items()}, written, found)

    def _recorder(self, probes: bool | Iterable[str]) -> tuple[dict[str, list[Probe]], Callable[[Record], None]]:
        """Return the lists that a run fills, by name of the probes asked for, and what fills them."""
        row = BY_MNEMONIC["probe"]
        rows = self.isa.code[self.isa.code[:, W_OPCODE] == row.opcode]
        known = [self.isa.marks[i] for i in np.unique(rows[:, row.word("name")]).tolist()]
        wanted: Any = known if probes is True else () if probes is False else probes
        if isinstance(wanted, str) or not isinstance(wanted, Iterable):
            raise InputError(
                f"probes must be True, or names of probes, got {probes!r}; {self.name} has {_listed(known)}"
            )
        found: dict[str, list[Probe]] = {}
        for name in wanted:
            if name not in known:
                have = _listed(known) if known else "none; write k.probe(view, name) in the kernel"
                raise InputError(f"no probe {name!r}; {self.name} has {have}{nearest(str(name), known)}")
            found[name] = []
        visits: dict[tuple[str, int], int] = {}

        def record(seen: Record) -> None:
            name = self.isa.marks[seen.name]
            if name in found:
                visit = visits[name, seen.node] = visits.get((name, seen.node), -1) + 1
                found[name].append(Probe(self.isa.node(seen.node), visit, seen.values()))

        return found, record

    def _storage(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        wanted = {t.name: t for t in self.isa.tensors if t.is_input}
        for name in given:
            if name not in wanted:
                raise InputError(
                    f"{self.name} has no input {name!r}; it takes {_listed(wanted)}{nearest(str(name), wanted)}"
                )
        storage = {}
        for name, tensor in wanted.items():
            if name not in given:
                raise InputError(
                    f"{self.name} needs input {name!r} of shape {tensor.shape} in {tensor.dtype}; pass {name}=array"
                )
            try:
                array = as_storage(given[name], tensor.dtype, bias=tensor.bias, denormals=tensor.denormals)
            except InputError as error:
                raise InputError(f"input {name!r}: {error.message}") from error.__cause__
            if array.shape != tensor.shape:
                raise InputError(
                    f"input {name!r} has shape {array.shape}, the program was built for {tensor.shape}; "
                    "reshape it or build for its shape"
                )
            storage[name] = array
        return storage

    def time(self, fidelity: str = "packet", *, packet_bytes: int | None = None, engine: str = "jit") -> Timing:
        """Return the cycles of the program and where they went; needs no data. Results are remembered.

        fidelity: "packet" (link occupancy, finite buffers, back-pressure) or "bound" (closed form, never above it).
        packet_bytes: largest packet, by default the chip's, a multiple of the link's bytes a cycle. engine: "jit", or
        "plain" for the same functions uncompiled. The rules are in docs/cycle-model.md. Raises InputError for an
        option that does not fit, DeadlockError for a program that never ends.
        """
        from accel.timing import simulate

        key = (str(fidelity), str(packet_bytes))  # text, so that whatever is given reaches the check in `simulate`
        if engine != "jit" or key not in self._timings:
            timing = simulate(self.isa, self.chip, fidelity=fidelity, packet_bytes=packet_bytes, engine=engine)
            if engine != "jit":
                return timing
            self._timings[key] = timing
        return self._timings[key]

    def remember(self, timing: Timing) -> None:
        """Let `time` return a timing of this program that another process made."""
        self._timings[timing.fidelity, str(None)] = timing

    def explain(self, where: str | None = None) -> str:
        """Return what a source line costs: its instructions, bytes, stalls, share of the critical path.

        where: "file.py:26", of which the end of the path is enough. Without a line, a table of all of them, most
        critical first, and each in turn. InputError for a line that no instruction comes from; it names the nearest
        that one does.
        """
        from accel.timing.explain import explain_line, explain_lines, find_line

        if where is None:
            return explain_lines(self.isa, self.time())
        return explain_line(self.isa, self.time(), find_line(self.isa, where))

    def timeline(
        self, node: tuple[int, int] = (0, 0), width: int = 100, *, window: tuple[int, int] | None = None
    ) -> str:
        """Return the run of one node (row, col) as text: threads and engines as rows, time across, a legend below.

        width: columns, 20 to 1000; window: cycles (first, one past the last), the whole run by default.
        """
        from accel.timing.timeline import timeline_text

        return timeline_text(self.time().trace([node], window, bins=1), width)

    def step(self, node: tuple[int, int] = (0, 0), *, window: tuple[int, int] | None = None) -> Iterator[Step]:
        """Return an iterator over the instructions that a node (row, col) executes, in order of time.

        The debugger's eye: each `Step` has its cycles, thread, text and source line, how long its thread stood still,
        and what ended the wait, on whatever node. window: cycles, the whole run by default.
        """
        from accel.timing.stepping import steps

        return steps(self.time().trace([node], window, bins=1))

    def allocation(self) -> Allocation:
        """Return the allocation map of a node's SRAM: data, and as text by `str`."""
        return allocation_of(self.isa, self.chip.name, self.chip.node.sram_bytes)

    def findings(self, schedules: int = 4) -> tuple[Finding, ...]:
        """Return every hazard of the program: races, deadlocks, ambiguous waits, ...; empty means clean.

        schedules: orders of threads and copies that are walked through as a cross-check, 0 to 1000; the verdict holds
        for all orders, data and timings. Raises InputError for a bad number, ProgramError or BoundsError for rows that
        break the machine's rules, UnsupportedError for a program that is too large to check.
        """
        from accel.check import inspect

        return inspect(self.isa, self.chip, schedules=schedules)

    def check(self, schedules: int = 4) -> None:
        """Prove the program free of hazards, or raise HazardError (DeadlockError) with all of them in `findings`.

        schedules: as in `findings`. The text of the error is the whole report, with what to write instead.
        """
        findings = self.findings(schedules)
        if findings:
            from accel.check import hazard_report

            kind = DeadlockError if any(f.kind == "deadlock" for f in findings) else HazardError
            raise kind(hazard_report(self.name, findings), findings)

    def sample_outputs(self, blocks: int, seed: int = 0) -> Sample:
        """Draw `blocks` boxes of output elements at random and return the causal slice that computes just them.

        Boxes span at most 16 rows of 128 elements and are drawn by `seed` from the finished program, so that the
        program cannot know what will be looked at. The slice is the same program: all control flow of all nodes runs,
        data moves only where a sampled element depends on it.
        """
        from accel.machine import needed

        if type(blocks) is not int or not 1 <= blocks <= MOST_BLOCKS:
            raise InputError(
                f"a sample takes 1 to {MOST_BLOCKS:,} blocks, got {blocks!r}; run the whole program for more"
            )
        if type(seed) is not int or seed < 0:
            raise InputError(f"the seed of a sample is a whole number of at least 0, got {seed!r}")
        self.isa.require_sound()
        if not self.outputs:
            raise InputError(f"{self.name} stores no tensor, so there is nothing to sample; run or check it as a whole")
        rng = np.random.default_rng(seed)
        regions: dict[str, list[tuple[tuple[int, int], ...]]] = {}
        outputs = sorted(self.outputs.items())
        for index in range(blocks):
            name, (shape, _) = outputs[index % len(outputs)]
            sizes = [min(n, most) for n, most in zip(shape, (*(1,) * len(shape), 16, 128)[-len(shape) :], strict=True)]
            firsts = [int(rng.integers(0, n - size + 1)) for n, size in zip(shape, sizes, strict=True)]
            regions.setdefault(name, []).append(tuple((f, f + n) for f, n in zip(firsts, sizes, strict=True)))
        limit = (1 << self.chip.node.semaphore_bits) - 1
        frozen = {name: tuple(boxes) for name, boxes in regions.items()}
        return Sample(frozen, needed(self.isa, frozen, semaphore_limit=limit))

    def asm(self, role: int | None = None) -> str:
        """Return the program as assembly that `accel.assemble` reads back bit for bit; with `role`, a listing of it."""
        if role is not None and (type(role) is not int or not 0 <= role < self.isa.roles):
            raise InputError(f"no role {role!r}; {self.name} has roles 0 to {self.isa.roles - 1}")
        self.isa.require_sound()
        return disassemble(self.isa, role, self._catalog_name())

    def _catalog_name(self) -> str:
        """Return the name of the catalog's chip where it is this one to the letter, otherwise an empty text."""
        name = self.chip.name
        return name if name in chip_names() and find_chip(name).to_json() == self.isa.chip else ""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program to the file `path` for `accel.load`; whole or not at all; InputError for a bad place."""
        container.write(self.isa, path)


def load(path: str | os.PathLike[str]) -> Program:
    """Read the program file at `path`, written by `Program.save`; it runs, checks and times like the original.

    Nothing of the file is executed. InputError for a file that cannot be read, ProgramError for one that is no sound
    program of this package's format version, CapacityError for one that needs more than its chip has.
    """
    program = container.read(path)
    spec = ChipSpec.from_json(program.chip)
    _require_room(program, spec, os.fspath(path))
    return Program(program, spec)


def assemble(text: str, chip: ChipSpec | str | None = None, *, source: str = "<text>") -> Program:
    """Return the program that assembly text spells (the grammar: `docs/program-format.md`).

    chip: for a text that names none, or in place of the one it names. source: the file name in errors. Raises
    AssemblyError, pointing at line and column, for text that is no program or that no engine may follow; CapacityError
    for one that needs more than the chip has.
    """
    spec = find_chip(chip) if isinstance(chip, str) else chip
    if spec is not None and not isinstance(spec, ChipSpec):
        raise InputError(f"cannot assemble for {chip!r}; give a catalog name or an accel.chip(...)")
    program = assembly.assemble(text, source, _chip_json)
    if spec is not None:
        program = dataclasses.replace(program, chip=spec.to_json())
    elif not program.chip:
        raise InputError(f"{source} names no chip; write for example .chip mini, or give chip=")
    made_for = ChipSpec.from_json(program.chip)
    _require_room(program, made_for, source)
    return Program(program, made_for)


def _require_room(program: isa.Program, chip: ChipSpec, source: str) -> None:
    """Raise CapacityError, naming `source`, for tables that ask more of a chip than a kernel could be built for."""
    node = chip.node
    in_memory = sum(t.nbytes for t in program.tensors if not t.resident)
    for what, wanted, there in (
        ("rows of nodes", program.rows, chip.mesh.rows),
        ("columns of nodes", program.cols, chip.mesh.cols),
        ("threads a node", program.threads, node.threads),
        ("semaphores a node", len(program.semaphore_init), node.semaphores),
        ("tokens in a semaphore", max(program.semaphore_init.tolist(), default=0), (1 << node.semaphore_bits) - 1),
        ("bytes of SRAM a node", program.sram_bytes, node.sram_bytes),
        ("bytes of memory for its tensors", in_memory, chip.memory_capacity_bytes),
    ):
        if wanted > there:
            raise CapacityError(
                f"Cannot use {source} on {chip.name!r} because it takes {wanted:,} {what} and the chip has {there:,}; "
                "make it smaller, or choose another chip"
            )


def _chip_json(name: str) -> str:
    """Return the JSON of a catalog chip; a text names no files, so that it means the same everywhere."""
    if name not in chip_names():
        raise InputError(f"the catalog has no chip {name!r}{nearest(name, chip_names()) or '; `accel chips` lists it'}")
    return find_chip(name).to_json()


class Kernel(TracedKernel):
    """A kernel function; `build` turns it into a program for a chip."""

    def build(
        self,
        chip: ChipSpec | str,
        *,
        mesh: tuple[int, int] | None = None,
        resident: Iterable[str] = (),
        flops: int = 0,
        facts: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Program:
        """Trace the kernel for `chip`: tensors (`accel.tensor(shape, dtype)`) and parameters by name.

        mesh restricts the program to the top-left rows x cols of the logical mesh; resident names the tensors that
        already lie in SRAM; flops is the useful work of the problem (0: what the instructions do), facts are notes kept
        with the program. Outputs are the tensors that the kernel stores to. Errors carry the author's file:line.
        """
        spec = find_chip(chip) if isinstance(chip, str) else chip
        if not isinstance(spec, ChipSpec):
            raise InputError(f"{self.name} cannot be built for {chip!r}; give a catalog name or an accel.chip(...)")
        if type(flops) is not int or flops < 0:
            raise InputError(f"flops must be a whole number of at least 0, got {flops!r}")
        notes: Any = {} if facts is None else facts
        if not isinstance(notes, Mapping) or not all(isinstance(x, str) for item in notes.items() for x in item):
            raise InputError(f"facts must be a dict of texts, got {facts!r}")
        tensors = {n: v for n, v in arguments.items() if isinstance(v, TensorSpec)}
        params = {n: v for n, v in arguments.items() if n not in tensors}
        traced = self.trace(spec, tensors, params, mesh=mesh, resident=resident)
        return Program(dataclasses.replace(traced, flops=flops, facts=dict(notes)), spec)


def kernel(fn: Callable[..., Any]) -> Kernel:
    """Make a kernel of a function `fn(k, *tensors, **parameters)`; see the language reference."""
    made = Kernel(fn)
    made.__doc__ = fn.__doc__
    return made


def _values(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Return the stored codes of a tensor as numbers."""
    return from_storage(array, tensor.dtype, as_="ml_dtypes", bias=tensor.bias, denormals=tensor.denormals)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
