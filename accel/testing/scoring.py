"""mutation_score: which mutants the checker and the tests' inputs see, and what is proven of those that none sees."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from accel.errors import AccelError, Finding, InputError
from accel.isa import layout as w
from accel.isa.codec import encode
from accel.isa.table import BY_MNEMONIC, opcode
from accel.numerics.formats import by_code, fmt
from accel.program import Program
from accel.testing.drawing import draw_inputs
from accel.testing.edits import Editor
from accel.testing.mutation import Mutant, mutants_of
from accel.testing.needed import NeededOrder
from accel.testing.property import KernelProperty

__all__ = ["MutationScore", "Seen", "mutation_score"]

KINDS_DRAWN = ("float", "spread", "int", "special", "ascending")  # inputs that every mutant meets
ORDERS = 32  # adversarial schedules that show what a mutant without a finding does
RUNS = 4096  # of an exhaustive comparison
HIDES_NAN = {"vec.compare", "vec.comparei", "vec.select", "vec.gather", "vec.scatter_add", "vec.random", "vec.iota"}
VALUES = (0, 1, -1, 100)  # what every element of the inputs goes through


class Seen(NamedTuple):
    """A mutant, and what became of it: the findings of the checker, or one line on the bits."""

    mutant: Mutant
    findings: tuple[Finding, ...]
    text: str


@dataclass(frozen=True)
class MutationScore:
    """What became of the mutants of a program.

    flagged: the checker has findings. killed: outputs differ, or the run ends in an error. equivalent: mistakes of
    arithmetic with the same bits on every one of the inputs that `Seen.text` counts. survivors: no proof of either.
    harmless: edits of synchronisation that are no mutants, since they are proven to keep every order that the program
    needs (`Mutants.left_out`); they are listed and do not count.
    """

    program: Program
    flagged: tuple[Seen, ...]
    killed: tuple[Seen, ...]
    harmless: tuple[Seen, ...]
    equivalent: tuple[Seen, ...]
    survivors: tuple[Seen, ...]

    @property
    def total(self) -> int:
        """Return the number of mutants."""
        return sum(map(len, (self.flagged, self.killed, self.equivalent, self.survivors)))

    def share(self, synchronisation: bool) -> float:
        """Return the part of the mutants of `synchronisation`, or of arithmetic, that is seen or proven equivalent."""
        mine = [s for part in (self.flagged, self.killed, self.equivalent) for s in part]
        seen = sum(s.mutant.synchronisation == synchronisation for s in mine)
        left = sum(s.mutant.synchronisation == synchronisation for s in self.survivors)
        return seen / (seen + left) if seen + left else 1.0

    @property
    def equivalent_share(self) -> float:
        """Return the part of the arithmetic mutants that is equivalent."""
        all_of_them = [s for part in (self.flagged, self.killed, self.equivalent, self.survivors) for s in part]
        arithmetic = sum(not s.mutant.synchronisation for s in all_of_them)
        return len(self.equivalent) / arithmetic if arithmetic else 0.0

    def __str__(self) -> str:
        parts = (self.flagged, self.killed, self.equivalent, self.survivors)
        seen = f"{len(self.flagged)} flagged by the checker, {len(self.killed)} killed by values"
        rest = f"{len(self.equivalent)} equivalent, {len(self.survivors)} SURVIVE"
        lines = [f"{self.program.name}: {self.total} mutants: {seen}, {rest}"]
        lines += [f"  kinds: {_kinds(s for part in parts for s in part)}"]
        if self.harmless:
            lines += [f"  left out, {len(self.harmless)} that keep every needed order: {_kinds(self.harmless)}"]
        for name in ("harmless", "equivalent", "survivors"):
            lines += [f"  {name}: {s.mutant} ({s.text})" for s in getattr(self, name)]
        return "\n".join(lines)


def _kinds(seen: Iterable[Seen]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in Counter(s.mutant.kind for s in seen).most_common())


def mutation_score(
    program: Program | Any, inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None, *,
    kinds: Iterable[str] = (), most: int | None = None, seed: int = 0, schedules: int = 2,
) -> MutationScore:  # fmt: skip
    """Return what becomes of the mutants of a program, or of the first case of a `kernel_property`.

    inputs: arrays by name, one or several sets (default: those that the battery draws). A mutant of synchronisation
    must be flagged by the checker (`schedules` orders are walked beside its proof), else it survives, whatever its
    bits. A mutant of arithmetic must give other outputs for one of the inputs, an error, or a finding; otherwise every
    element of the inputs goes through a few values, all of their combinations where those are not too many, and equal
    bits on all of them make it equivalent. kinds, most, seed: as for `mutants`. The program itself must be free of
    hazards: InputError otherwise.
    """
    held, more = getattr(program, "property", program), None
    if isinstance(held, KernelProperty):
        trial = held.first_trial()
        program = trial.program
        inputs = inputs if inputs is not None else [trial.drawn(k, i) for i, k in enumerate(KINDS_DRAWN * 3, seed)]
        more = [trial.drawn(kind, i) for i, kind in enumerate(KINDS_DRAWN * 2, seed + 101)]
    if not isinstance(program, Program):
        raise InputError(f"a mutation score is of a program or a kernel_property, got {program!r}")
    found = program.findings(schedules=schedules)
    if found:
        raise InputError(f"{program.name} itself has hazards, so mutants say nothing: {found[0]}")
    order = NeededOrder(program, schedules)
    judge = _Judge(order, _sets(program, inputs, seed), more or _sets(program, None, seed + 101))
    parts: dict[str, list[Seen]] = {n: [] for n in ("flagged", "killed", "equivalent", "survivors")}
    made = mutants_of(order, kinds, most, seed, judge.sets)
    for mutant in made:
        name, seen = judge.of(mutant)
        parts[name].append(seen)
    parts["harmless"] = [Seen(m, (), "no finding, and every output has the same term") for m in made.left_out]
    return MutationScore(program, **{name: tuple(members) for name, members in parts.items()})


def _sets(program: Program, inputs: Any, seed: int) -> list[dict[str, Any]]:
    if inputs is None:
        return [draw_inputs(program, seed + i, kind) for i, kind in enumerate(KINDS_DRAWN)]
    sets = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if not sets or not all(isinstance(s, Mapping) for s in sets):
        raise InputError("inputs= are arrays by name, one dict or several")
    return [{n: np.asarray(a) for n, a in s.items()} for s in sets]


class _Judge:
    """Compares mutants with the program they come from."""

    def __init__(self, order: NeededOrder, sets: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
        self.program, self.order, self.sets, self.more = order.program, order, sets, more
        self.wanted = [self._bits(self.program, s) for s in sets]

    def of(self, mutant: Mutant) -> tuple[str, Seen]:
        """Return the part that a mutant belongs to, and what was seen of it."""
        if mutant.synchronisation:
            return self._synchronisation(mutant)
        text = self._different(mutant, self.sets, self.wanted)
        if text is not None:
            return "killed", Seen(mutant, (), text)
        findings = _findings(mutant.program, 1)
        if isinstance(findings, str):
            return "killed", Seen(mutant, (), findings)
        if findings:
            return "flagged", Seen(mutant, findings, "")
        proof, proven = self._proof(mutant)
        return ("equivalent" if proven else "survivors"), Seen(mutant, (), proof)

    def _synchronisation(self, mutant: Mutant) -> tuple[str, Seen]:
        findings = self.order.findings(mutant.program)
        if isinstance(findings, str):
            return "flagged", Seen(mutant, (), findings)
        if findings:
            return "flagged", Seen(mutant, findings, "")
        for order in ("natural", *range(1, ORDERS + 1)):
            for inputs, want in zip(self.sets[:1], self.wanted[:1], strict=True):
                try:
                    got = self._bits(mutant.program, inputs, order)
                except AccelError as error:
                    return "survivors", Seen(mutant, (), f"no finding, and under {order}: {_line(error)}")
                if got != want:
                    return "survivors", Seen(mutant, (), f"no finding, and other bits under {order}")
        return "survivors", Seen(mutant, (), f"no finding, the same bits under {ORDERS + 1} orders, and no proof")

    def _different(self, mutant: Mutant, sets: Iterable[Mapping[str, Any]], wanted: Iterable[bytes]) -> str | None:
        for inputs, want in zip(sets, wanted, strict=True):
            try:
                got = self._bits(mutant.program, inputs)
            except AccelError as error:
                return _line(error)
            if got != want:
                return "other bits"
        return None

    def _proof(self, mutant: Mutant) -> tuple[str, bool]:
        """Return a proof that a mutant of arithmetic is equivalent, or what is missing; and whether it is one."""
        for inputs in self._drawn():
            text = self._different(mutant, [inputs], [self._bits(self.program, inputs)])
            if text is not None:
                return f"random inputs kill it, the inputs that were given do not: {text}", False
        size = sum(np.size(a) for a in self.sets[0].values())
        if not self._goes_through(size):
            if _is_dead(self.program, mutant.program, self.sets, self._bits):
                return "NaN in place of what it computes changes no bit of any output", True
            return f"{size} places of inputs are too many to go through; use a smaller case", False
        for inputs, want in self.exhaustive:
            text = self._different(mutant, [inputs], [want])
            if text is not None:
                return f"single numbers kill it, the inputs that were given do not: {text}", False
        count, combined = len(self.exhaustive), len(VALUES) ** size <= RUNS
        return f"same bits on {count:,} inputs, {_coverage(self.sets[0], combined)}", True

    def _drawn(self) -> list[dict[str, Any]]:
        """Return inputs beside those given: nothing is equivalent because of inputs that hide everything."""
        found = []
        for inputs in self.more:
            try:
                self._bits(self.program, inputs)
            except AccelError:
                continue  # a kernel that does not take any number
            found.append(inputs)
        return found

    @staticmethod
    def _goes_through(size: int) -> bool:
        return len(VALUES) ** size <= RUNS or size * len(VALUES) <= RUNS

    @cached_property
    def exhaustive(self) -> list[tuple[dict[str, Any], bytes]]:
        """All combinations of `VALUES`, or each place through them, with what the program makes of each."""
        size, base = sum(np.size(a) for a in self.sets[0].values()), (self._drawn() or self.sets)[0]
        sets: Iterable[dict[str, Any]]
        if len(VALUES) ** size <= RUNS:
            sets = (_filled(base, values) for values in itertools.product(VALUES, repeat=size))
        else:
            sets = (_changed(base, at, v) for at in range(size) for v in VALUES)
        found = []
        for inputs in sets:
            try:
                found.append((inputs, self._bits(self.program, inputs)))
            except AccelError:
                continue  # inputs that the kernel does not take, such as an index that is out of range
        return found

    @staticmethod
    def _bits(program: Program, inputs: Mapping[str, Any], schedule: str | int = "natural") -> bytes:
        outputs = program.run(inputs, schedule=schedule)
        return b"".join(np.ascontiguousarray(outputs[name]).tobytes() for name in sorted(outputs))


def _coverage(inputs: Mapping[str, Any], combined: bool) -> str:
    size, shown = sum(np.size(a) for a in inputs.values()), ", ".join(map(str, VALUES))
    return f"all of {shown} in {size} places" if combined else f"each of {size} places through {shown}"


def _is_dead(program: Program, mutant: Program, sets: Iterable[Mapping[str, Any]], bits: Any) -> bool:
    """Return whether what the changed rows compute reaches no output: NaN in its place changes nothing.

    Only where NaN survives every instruction: no comparison, no selection, no format without NaN.
    """
    if any(not fmt(by_code(int(v)).name).inf_nan for v in program.isa.views[:, w.V_DTYPE]):
        return False
    if np.isin(program.isa.code[:, w.W_OPCODE], [opcode(m) for m in BY_MNEMONIC if m in HIDES_NAN]).any():
        return False
    if program.isa.code.shape != mutant.isa.code.shape:
        return False
    rows = np.flatnonzero((program.isa.code != mutant.isa.code).any(axis=1)).tolist()
    code, editor = program.isa.code.copy(), Editor(program.isa)
    for row in rows:
        if not editor.works(row):
            return False
        dst = editor.word(row, "dst")
        words: tuple[int, ...] = tuple(int(v) for v in code[row, dst : dst + 3])
        code[row] = encode("vec.fill", pred=int(code[row, w.W_PRED]), line=int(code[row, w.W_LINE]), dst=words,
                           imm=float("nan"))  # fmt: skip
    poisoned = Program(editor.with_code(code), program.chip)
    try:
        return all(bits(poisoned, s) == bits(program, s) for s in sets)
    except AccelError:
        return False


def _filled(base: Mapping[str, Any], values: tuple[int, ...]) -> dict[str, Any]:
    made, first = {}, 0
    for name, array in base.items():
        part = np.asarray(values[first : first + np.size(array)]).reshape(np.shape(array))
        made[name] = _like(part, array)
        first += np.size(array)
    return made


def _changed(base: Mapping[str, Any], at: int, value: int) -> dict[str, Any]:
    made = dict(base)
    for name, array in base.items():
        if at < np.size(array):
            changed = np.array(array)
            changed.reshape(-1)[at] = _like(np.asarray(value), array)
            made[name] = changed
            return made
        at -= np.size(array)
    return made


def _like(values: Any, array: Any) -> Any:
    dtype = np.asarray(array).dtype
    return (np.abs(values) if dtype.kind == "u" else values).astype(dtype)


def _findings(program: Program, schedules: int) -> tuple[Finding, ...] | str:
    try:
        return program.findings(schedules=schedules)
    except AccelError as error:
        return _line(error)


def _line(error: AccelError) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"
