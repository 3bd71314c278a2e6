"""The stages that every kernel goes through: hazards, schedules, engines, reference, special values, variants, laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accel.errors import AccelError
from accel.program import assemble
from accel.testing.error_bounds import bounds_of
from accel.testing.subjects import LibraryCase, LibrarySubject, NotApplicable
from accel.testing.trials import OtherShape, Trial, differing, refused, wide

if TYPE_CHECKING:
    from accel.testing.property import Options

__all__ = ["STAGES", "Stage"]

TO_THE_BIT = "(compared to the bit; a float64 model needs bound=)"
PLAIN_WORK = 1 << 20  # lane cycles of all nodes that the plain engine is asked for: about a second


class Stage(NamedTuple):
    """One question about a kernel: the kinds of inputs it is asked with, and the question itself.

    ask(trial, options) returns what is wrong in one line, None where nothing is, and raises NotApplicable where the
    question makes no sense.
    """

    name: str
    kinds: tuple[str, ...]
    ask: Callable[[Trial, Options], str | None]


def hazards(trial: Trial, options: Options) -> str | None:
    """No race, deadlock, ambiguous wait or any other finding of the checker."""
    found = trial.program.findings(schedules=options.schedules)
    if not found:
        return None
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0].kind}: {found[0]}{more}"


def schedules(trial: Trial, options: Options) -> str | None:
    """The same bits under adversarial orders of copies and threads."""
    natural = trial.run()
    for number in range(1, options.schedules + 1):
        text = differing(trial.program, trial.run(schedule=number), natural, "the natural order")
        if text is not None:
            return f"under schedule {number}: {text}"
    return None


def engines(trial: Trial, options: Options) -> str | None:
    """Compiled and plain engine agree, on bits and on cycles."""
    timing, program = trial.program.time(), trial.program
    if timing.cycles * program.isa.nodes * 16 > PLAIN_WORK:
        raise NotApplicable(f"{timing.cycles} cycles of {program.isa.nodes} nodes are too many for the plain engine")
    text = differing(program, trial.run(engine="plain"), trial.run(), "the compiled engine")
    if text is not None:
        return f"plain engine: {text}"
    slow = program.time(engine="plain")
    same = (slow.cycles, slow.losses) == (timing.cycles, timing.losses)
    return None if same else f"the plain cycle model counts {slow.cycles} cycles, the compiled one {timing.cycles}"


def reference(trial: Trial, options: Options) -> str | None:
    """The reference: equal in whole numbers, equal to the bit, or within the error bound."""
    library = isinstance(trial.subject, LibrarySubject)
    whole = options.domain == "int" and not library
    if options.bound is not None and not whole:
        return _within(trial, options)
    want = trial.expected(model=whole)
    text = differing(trial.program, trial.run(), want, "the reference", exact_bits=library, zero_signs=not whole)
    if text is None or whole or library or isinstance(text, OtherShape):
        return text
    return f"{text} {TO_THE_BIT}"


def _within(trial: Trial, options: Options) -> str | None:
    want = {n: wide(a) for n, a in trial.expected(model=True).items()}
    allowed, got = bounds_of(options.bound, trial, want), trial.run()
    for name, model in want.items():
        if model.shape != np.shape(got[name]):
            return OtherShape(f"the reference has shape {model.shape} for {name}, the kernel {np.shape(got[name])}")
        off = np.abs(wide(got[name]) - model)
        outside = np.argwhere(~(off <= allowed[name]) & np.isfinite(np.broadcast_to(allowed[name], off.shape)))
        if len(outside):
            at = tuple(int(i) for i in outside[0])
            limit = np.broadcast_to(allowed[name], off.shape)[at]
            return (
                f"{name}{list(at)} is {float(got[name][at]):.9g}, the reference says {model[at]:.9g}: off by "
                f"{off[at]:.3g}, the bound is {limit:.3g}; {len(outside)} of {off.size} elements are outside"
            )
    return None


def special(trial: Trial, options: Options) -> str | None:
    """Infinities, NaN, -0, subnormals: it ends, alike under another schedule, as the reference where that is exact."""
    got = trial.run()
    text = differing(trial.program, trial.run(schedule=1), got, "the natural order")
    if text is not None:
        return f"under schedule 1: {text}"
    library = isinstance(trial.subject, LibrarySubject)
    if options.bound is not None or (options.domain == "int" and not library):
        return None
    try:
        want = trial.expected()
    except NotApplicable:
        return None
    text = differing(trial.program, got, want, "the reference", exact_bits=library)
    return text if text is None or library or isinstance(text, OtherShape) else f"{text} {TO_THE_BIT}"


def variants(trial: Trial, options: Options) -> str | None:
    """The same bits on other meshes and with other tilings."""
    got, tried = trial.run(), 0
    for text, chip, case in options.variants(trial):
        try:
            program = trial.subject.build(chip, case)
        except AccelError as error:
            if refused(error):
                continue
            raise
        tried += 1
        other = dict(program.run(trial.inputs, seed=trial.seed))
        different = differing(trial.program, other, got, "the first one")
        if different is not None:
            return f"with {text}: {different}"
        found = program.findings(schedules=1)
        if found:
            return f"with {text}: {found[0].kind}: {found[0]}"
    if not tried:
        raise NotApplicable("no other mesh or tiling is given that it takes")
    return None


def laws(trial: Trial, options: Options) -> str | None:
    """The cycle model: the same cycles every time, never below the bound, a ledger without residual, text and back."""
    program, timing = trial.program, trial.program.time()
    if timing.cycles < (least := program.time("bound").cycles):
        return f"{timing.cycles} cycles are fewer than the bound's {least}"
    if isinstance(trial.case, LibraryCase):
        any_kernel = trial.case.problem.bound(trial.chip, trial.case.resident)
        if timing.seconds < any_kernel.seconds * (1 - 1e-9):
            return f"{timing.seconds:.4g} s are less than {any_kernel.seconds:.4g} s, the {any_kernel.cause} bound"
    if abs(sum(timing.losses.values()) - 1) > 1e-9:
        return f"the ledger sums to {sum(timing.losses.values())!r}"
    again = trial.subject.build(trial.chip, trial.case)
    if again.time().cycles != timing.cycles:
        return f"built again it takes {again.time().cycles} cycles in place of {timing.cycles}"
    typed = assemble(program.asm(), program.chip)
    if typed.time().cycles != timing.cycles:
        return f"assembled from its own text it takes {typed.time().cycles} cycles in place of {timing.cycles}"
    return differing(program, dict(typed.run(trial.inputs, seed=trial.seed)), trial.run(), "the program")


STAGES: dict[str, Stage] = {
    "hazards": Stage("hazards", ("int",), hazards),
    "schedules": Stage("schedules", ("float",), schedules),
    "engines": Stage("engines", ("float", "special"), engines),
    "exact": Stage("exact", ("one_hot", "int"), reference),
    "reference": Stage("reference", ("float", "spread", "cancel", "ascending"), reference),
    "special": Stage("special", ("special", "subnormal"), special),
    "variants": Stage("variants", ("float",), variants),
    "laws": Stage("laws", ("float",), laws),
}
