"""What every kernel of the library offers beside its lesson: problem, program, definition, examples."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError, nearest
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.problem.checks import MAX_ELEMENTS

if TYPE_CHECKING:
    from accel.problem import Problem
    from accel.program import Program

__all__ = ["HARD", "LibraryKernel", "builder", "is_hard", "operand_names"]

HARD = 1 << 40
"""Seeds from here on ask `LibraryKernel.inputs` for hard inputs."""


@dataclass(frozen=True)
class LibraryKernel:
    """A library kernel: what the command line, `accel.bench`, the networks and the battery of tests know of it.

    problem: the class of its problems. program(chip, problem, *, resident, **tiling): builds it. oracle(problem,
    inputs): the definition to the bit in plain NumPy, outputs by name. oracle_at(problem, inputs, output, places): the
    same for the product set of `places`, one array of indices a dimension, where a whole output would take minutes.
    Both also get meaning=, bias and denormals by tensor name, where a tensor has a configurable format.
    inputs(problem, seed): legal random inputs where not any number will do; for a seed that `is_hard`, with what a user
    should not give and the definition answers (a label that is no class, a step with an overflow). examples: small
    problems that span what it takes; each goes through the whole battery on the chip `mini`. tilings: other cuts than
    the default one, by field, with which the battery builds each example that takes them: the bits are the same.
    """

    problem: type[Problem]
    program: Callable[..., Program]
    oracle: Callable[..., dict[str, Any]]
    examples: tuple[Problem, ...]
    inputs: Callable[[Any, int], dict[str, Any]] | None = None
    oracle_at: Callable[..., Any] | None = None
    tilings: tuple[Mapping[str, Any], ...] = ()


def is_hard(seed: int) -> bool:
    """Return whether the inputs of a seed are to be hard ones: only tests draw seeds from `HARD` on."""
    return seed >= HARD


def operand_names(resident: object) -> frozenset[str]:
    """Return the names in `resident=`: one name, or an iterable of names; InputError for anything else."""
    names = (resident,) if isinstance(resident, str) else resident
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"resident={resident!r} names no operand; give names of operands, or leave it out")
    return frozenset(found)


def builder(build: Callable[..., Program]) -> Callable[..., Program]:
    """Make `build(chip, problem, *, resident, **tiling)` a library kernel's own.

    The chip may be a name of the catalog, `resident` one name or several. What does not fit is a CapacityError that
    names the problem, the chip and the field of the chip that would have to be larger.
    """
    taken = inspect.signature(build).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in taken.values())

    @functools.wraps(build)
    def built(chip: ChipSpec | str, problem: Any, *, resident: Iterable[str] = (), **tiling: Any) -> Program:
        spec = find_chip(chip)
        for name in () if free else tiling:
            if name not in taken:
                known = [n for n in list(taken)[2:] if n != "resident"]
                raise InputError(
                    f"{problem.kind} has no parameter {name!r}{nearest(name, known)}; "
                    f"use {' or '.join(known) if known else 'none'}"
                )
        for name, value in tiling.items():
            if isinstance(value, int) and not -MAX_ELEMENTS <= value <= MAX_ELEMENTS:
                raise InputError(f"{problem.kind}: {name} is far beyond any size; give a number below 2^40")
        held = operand_names(resident)
        try:
            _require_memory(spec, problem, held)
            return build(spec, problem, resident=held, **tiling)
        except CapacityError as error:
            text = _too_much(spec, problem, tiling, error.message)  # without the line, which is one of the library's
            raise CapacityError(text, allocation_map=error.allocation_map) from error

    return built


def _require_memory(chip: ChipSpec, problem: Problem, resident: frozenset[str]) -> None:
    """Raise CapacityError for operands that memory cannot hold, before a tiling of them is looked for."""
    needed = sum(operand.bytes for name, operand in problem.operands.items() if name not in resident)
    if needed > chip.memory_capacity_bytes:
        raise CapacityError(
            f"the tensors of {problem.kind} take {needed:,} B, and {chip.name!r} holds {chip.memory_capacity_bytes:,}; "
            "use smaller tensors or a chip with more memory"
        )


_FIELDS = {"semaphore ": "node.semaphores", "thread ": "node.threads", "the tensors ": "memory"}
"""How messages of `accel.lang` about other things than SRAM begin, and the field of the chip that they are about."""


def _too_much(chip: ChipSpec, problem: Any, tiling: Iterable[str], message: str) -> str:
    why, _, way = message.partition("; ")
    field = next((name for start, name in _FIELDS.items() if message.startswith(start)), "node.sram_bytes")
    if field == "node.sram_bytes":
        field += f" ({chip.node.sram_bytes:,})"
        if why.startswith("SRAM overflow"):  # its own advice is for authors of kernels
            way = f"lower {' or '.join(tiling)}" if tiling else "cut the problem"
    return f"{problem.label} does not fit {chip.name}: {why}; raise {field} of the chip, or {way}"
