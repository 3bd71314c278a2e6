"""What every kernel of the library offers beside its lesson: problem, program, definition, examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.errors import InputError

if TYPE_CHECKING:
    from accel.problem import Problem
    from accel.program import Program

__all__ = ["LibraryKernel", "operand_names"]


@dataclass(frozen=True)
class LibraryKernel:
    """A library kernel: what the command line, `accel.bench`, the networks and the battery of tests know of it.

    problem: the class of its problems. program(chip, problem, *, resident, **tiling): builds it. oracle(problem,
    inputs): the definition to the bit in plain NumPy, outputs by name. oracle_at(problem, inputs, output, places): the
    same for the product set of `places`, one array of indices a dimension, where a whole output would take minutes.
    Both also get meaning=, bias and denormals by tensor name, where a tensor has a configurable format.
    inputs(problem, seed): legal random inputs where not any number will do. examples: small problems that span what it
    takes; each goes through the whole battery on the chip `mini`.
    """

    problem: type[Problem]
    program: Callable[..., Program]
    oracle: Callable[..., dict[str, Any]]
    examples: tuple[Problem, ...]
    inputs: Callable[[Any, int], dict[str, Any]] | None = None
    oracle_at: Callable[..., Any] | None = None


def operand_names(resident: object) -> frozenset[str]:
    """Return the names in `resident=`: one name, or an iterable of names; InputError for anything else."""
    names = (resident,) if isinstance(resident, str) else resident
    found = tuple(names) if isinstance(names, Iterable) else (names,)
    for name in found:
        if not isinstance(name, str):
            raise InputError(f"resident={resident!r} names no operand; give names of operands, or leave it out")
    return frozenset(found)
