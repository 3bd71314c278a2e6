"""How far a kernel may be from a float64 model of it: a-priori bounds in place of a customary tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.errors import InputError
from accel.numerics import UNIT_ROUNDOFF, fmt, gamma
from accel.testing.trials import Trial, wide

__all__ = ["SumOfProducts", "bounds_of", "sum_of_products"]

_UNDERFLOW = 2.0**-150  # largest rounding error of a subnormal fp32 step


@dataclass(frozen=True)
class SumOfProducts:
    """The bound of a kernel whose outputs are sums of products of its inputs, kept in fp32 and rounded once.

    terms: how many products (and summands) an output adds up, or a function of the inputs by name that says so.
    """

    terms: int | Callable[..., int]

    def largest(self, trial: Trial) -> dict[str, Any]:
        """Return the largest |kernel - model| of each output element."""
        arrays = {n: wide(a) for n, a in trial.inputs.items()}
        terms = self.terms(**arrays) if callable(self.terms) else self.terms
        mass = trial.subject.expected(trial.case, {n: np.abs(a) for n, a in arrays.items()}, trial.program, trial.seed)
        model = trial.subject.expected(trial.case, arrays, trial.program, trial.seed)
        found = {}
        for name, (_, dtype) in trial.program.outputs.items():
            form = fmt(dtype)
            if form.kind in {"cfp", "int"}:
                raise InputError(f"sum_of_products knows no bound for results in {dtype}; give bound= a function")
            own = gamma(terms + 2, UNIT_ROUNDOFF["fp64"])
            total = np.asarray(mass[name], np.float64) * (1 + 2 * own)
            chain = gamma(terms) * total + terms * _UNDERFLOW * (1 + gamma(terms)) + own * total
            size = np.abs(np.asarray(model[name], np.float64)) + chain
            last = UNIT_ROUNDOFF[form.name] * size + 2.0 ** (-(form.bias or 0) - form.mantissa)
            bound = chain if form.name == "fp32" else chain + last
            found[name] = np.where(total < 2.0**100, bound * (1 + 2.0**-48), np.inf)
        return found


def sum_of_products(terms: int | Callable[..., int]) -> SumOfProducts:
    """Return the bound gamma_K |A||B| + u |C| (Higham, section 3.1) for outputs that add up `terms` products in fp32.

    terms: a number, or a function of the input arrays by name. The reference must be such a sum too, since it is asked
    for the sum of absolute values by giving it absolute inputs: matmul, convolution in all directions, reductions. It
    gets float64 arrays.
    """
    if not callable(terms) and (type(terms) is not int or terms < 1):
        raise InputError(f"terms must be a whole number of at least 1 or a function of the inputs, got {terms!r}")
    return SumOfProducts(terms)


def bounds_of(bound: Any, trial: Trial, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the largest error by output that `bound` allows: a `SumOfProducts`, a number, or a user's function."""
    if isinstance(bound, SumOfProducts):
        return bound.largest(trial)
    if isinstance(bound, int | float):
        return {name: np.full(np.shape(values), float(bound)) for name, values in expected.items()}
    returned = bound(**{n: wide(a) for n, a in trial.inputs.items()})
    if isinstance(returned, Mapping):
        return {name: np.asarray(values, np.float64) for name, values in returned.items()}
    return dict.fromkeys(expected, np.asarray(returned, np.float64))
