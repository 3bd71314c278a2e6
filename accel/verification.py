"""Results against an independent oracle, bit for bit: the library's NumPy references, or a function of the user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import isqrt, prod
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import AccelError, InputError, InternalError
from accel.kernels.catalog import kernel_of

if TYPE_CHECKING:
    import numpy as np

    from accel.problem import Problem
    from accel.program import Outputs, Program, Sample

__all__ = ["ORACLE_STEPS", "Verdict", "against", "differing", "verify"]

ORACLE_STEPS = 1 << 26  # multiply-adds that the NumPy oracle is asked for: about a third of a second


class Verdict(NamedTuple):
    """`checked` of `total` output elements compared with `oracle`, `mismatches` differ; `first` describes one."""

    oracle: str
    checked: int
    total: int
    mismatches: int
    first: str | None

    def __str__(self) -> str:
        verified = f"verified {self.checked:,} of {self.total:,} outputs, bit for bit, against {self.oracle}"
        return f"{verified}: {self.mismatches:,} WRONG, first {self.first}" if self.mismatches else verified


def bits(array: Any) -> np.ndarray:
    """Return the bit patterns of an array of numbers."""
    import numpy as np

    codes = np.ascontiguousarray(array)
    viewed: np.ndarray = codes.view(f"uint{8 * codes.dtype.itemsize}")
    return viewed


def verify(problem: Problem, program: Program, inputs: Mapping[str, Any], outputs: Outputs, *,
           sample: Sample | None = None, seed: int = 0) -> Verdict:  # fmt: skip
    """Compare outputs with the oracle of the library kernel of `problem`, bit for bit.

    Whole tensors where the oracle needs at most `ORACLE_STEPS` multiply-adds; of larger ones, product sets of places at
    random with both ends of every dimension (`oracle_at`), where the kernel has that; after a sampled run, within the
    boxes that were asked for.
    """
    import numpy as np

    from accel.numerics import fmt

    kernel = kernel_of(problem)
    steps = max(1, problem.macs // max(1, sum(outputs[name].size for name in outputs)))
    own = {
        t.name: {"bias": t.bias, "denormals": t.denormals} for t in program.isa.tensors if fmt(t.dtype).kind == "cfp"
    }
    known: dict[str, Any] = {"meaning": own} if own else {}
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    whole: Mapping[str, Any] | None = None
    tally = _Tally(f"the oracle of {problem.kind}", program)
    boxes = [(name, box) for name, (shape, _) in program.outputs.items() for box in _boxes(name, shape, sample)]
    for name, box in boxes:
        places = [np.arange(first, last) for first, last in box]
        if kernel.oracle_at is not None:
            places = _within(rng, places, max(1, ORACLE_STEPS // (steps * len(boxes))))
            expected = kernel.oracle_at(problem, inputs, name, places, **known)
        else:
            whole = kernel.oracle(problem, inputs, **known) if whole is None else whole
            expected = np.asarray(whole[name])[np.ix_(*places)]
        tally.compare(name, places, outputs[name][np.ix_(*places)], expected)
    return tally.verdict(sum(outputs[name].size for name in outputs))


class _Tally:
    """Counts elements that were compared and that differ, and keeps the first of those in words."""

    def __init__(self, oracle: str, program: Program) -> None:
        self.oracle, self.checked, self.wrong = oracle, 0, 0
        self.first: str | None = None
        self.tensors = {t.name: t for t in program.isa.tensors}

    def compare(self, name: str, places: Sequence[Any], got: Any, expected: Any) -> None:
        """Compare two arrays over the product set of `places`, as bits of the format of the output `name`."""
        import numpy as np

        from accel.numerics import as_storage, from_storage

        t = self.tensors[name]
        own: Any = {"bias": t.bias, "denormals": t.denormals}
        theirs, ours = (as_storage(x, t.dtype, **own) for x in (expected, got))
        if theirs.shape != ours.shape:
            raise InternalError(f"the oracle of {name} has shape {theirs.shape}, not {ours.shape}")
        unequal = np.argwhere(bits(ours) != bits(theirs))
        self.checked, self.wrong = self.checked + ours.size, self.wrong + len(unequal)
        if len(unequal) and self.first is None:
            at = tuple(unequal[0])
            where = [int(index[i]) for index, i in zip(places, at, strict=True)]
            mine, other = (_shown(from_storage(x, t.dtype, as_="ml_dtypes", **own)[at]) for x in (ours, theirs))
            self.first = f"{name}{where} = {mine}, expected {other}"

    def verdict(self, total: int) -> Verdict:
        """Return what was found."""
        return Verdict(self.oracle, self.checked, total, self.wrong, self.first)


def _boxes(name: str, shape: tuple[int, ...], sample: Sample | None) -> list[tuple[tuple[int, int], ...]]:
    """Return the boxes of an output to look at: those of the sample, or the whole of it."""
    if sample is not None:
        return list(sample.regions.get(name, ()))
    return [tuple((0, size) for size in shape)]


def _within(rng: Any, places: Sequence[Any], budget: int) -> list[Any]:
    """Return places of at most `budget` elements: both ends of a dimension always, the rest at random, in order."""
    counts = [len(index) for index in places]
    while prod(counts) > budget and max(counts) > 1:
        longest = counts.index(max(counts))
        counts[longest] = max(1, min(counts[longest] - 1, budget * counts[longest] // prod(counts)),
                              isqrt(counts[longest]))  # fmt: skip
    return [_drawn(rng, index, count) for index, count in zip(places, counts, strict=True)]


def _drawn(rng: Any, pool: Any, count: int) -> Any:
    import numpy as np

    if count >= len(pool):
        return pool
    ends = [0, len(pool) - 1][:count]
    inner = rng.permutation(len(pool) - 2)[: count - len(ends)] + 1
    return pool[np.sort(np.concatenate([np.array(ends, np.int64), inner.astype(np.int64)]))]


def against(
    name: str, oracle: Callable[..., Any], program: Program, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> Verdict:
    """Compare all outputs with what `oracle` returns for the inputs.

    The oracle gets the input arrays by name if it has parameters of those names, else in the kernel's order. It returns
    the output, or a dict of outputs by name; numbers are rounded to the output's format, nearest-even, and then
    compared bit for bit. InputError for a wrong number, name or shape, or where the oracle itself raises.
    """
    import numpy as np

    from accel.numerics import as_storage

    expected = _outputs_of(name, _called(name, oracle, inputs), list(outputs))
    checked = wrong = 0
    first = None
    for output, (shape, dtype) in program.outputs.items():
        try:
            theirs = as_storage(expected[output], dtype)
        except AccelError as error:
            raise InputError(f"{name} returned no numbers for output {output!r}: {error}") from None
        if theirs.shape != shape:
            raise InputError(f"{name} returned shape {theirs.shape} for output {output!r}; it must be {shape}")
        got = outputs[output]
        unequal = np.argwhere(bits(got) != bits(theirs))
        checked, wrong = checked + got.size, wrong + len(unequal)
        if len(unequal) and first is None:
            at = tuple(int(i) for i in unequal[0])
            value = theirs.view(got.dtype)[at]
            first = f"{output}{list(at)} = {_shown(got[at])}, expected {_shown(value)}"
    return Verdict(name, checked, checked, wrong, first)


def _called(name: str, oracle: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    try:
        parameters = inspect.signature(oracle).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]  # a built-in without a signature takes its arguments in order
    kinds = {p.kind for p in parameters.values()}
    by_name = inspect.Parameter.VAR_KEYWORD in kinds or set(inputs) <= set(parameters)
    try:
        return oracle(**inputs) if by_name else oracle(*inputs.values())
    except Exception as error:
        raise InputError(f"{name} raised {type(error).__name__}: {error}; it gets {', '.join(inputs)}") from error


def _outputs_of(name: str, returned: Any, wanted: list[str]) -> Mapping[str, Any]:
    if isinstance(returned, Mapping):
        missing = [output for output in wanted if output not in returned]
        if missing:
            raise InputError(f"{name} returned no {missing[0]!r}; return a dict with {', '.join(wanted)}")
        return returned
    if len(wanted) != 1:
        raise InputError(f"{name} must return a dict with the outputs {', '.join(wanted)}")
    return {wanted[0]: returned}


def differing(one: Outputs, other: Outputs) -> int:
    """Return how many elements differ in bits between two runs (computed ones, after sampled runs)."""
    import numpy as np

    count = 0
    for name in one:
        unequal = bits(one[name]) != bits(other[name])
        if one.written is not None:
            unequal = unequal & one.written[name]
        count += int(np.count_nonzero(unequal))
    return count


def _shown(value: Any) -> str:
    """Return a number with its bit pattern: what one needs to see when bits differ."""
    import numpy as np

    code = int(bits(np.asarray(value).reshape(1))[0])
    return f"{float(value):.9g} (0x{code:0{2 * np.asarray(value).dtype.itemsize}X})"
