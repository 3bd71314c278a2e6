"""Results against an independent oracle, bit for bit: the library's NumPy references, or a function of the user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from math import isqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import AccelError, InputError

if TYPE_CHECKING:
    import numpy as np

    from accel.problem import Matmul
    from accel.program import Outputs, Program

__all__ = ["Verdict", "against", "differing", "verify_matmul"]

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


def verify_matmul(program: Program, problem: Matmul, inputs: Mapping[str, Any], outputs: Outputs, seed: int) -> Verdict:
    """Compare c with `accel.kernels.matmul.reference` over the full k: whole if small, else rows and columns at random.

    After a sampled run only the computed elements are looked at.
    """
    import numpy as np

    from accel.kernels import matmul

    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    a, b, c = inputs["a"], inputs["b"], outputs["c"]
    written = None if outputs.written is None else outputs.written["c"]
    parts = list(_rectangles(written)) if written is not None else [(np.arange(problem.m), np.arange(problem.n))]
    known = matmul.meaning(program)
    checked = wrong = 0
    first = None
    for all_rows, all_cols in parts:
        rows, cols = _within(rng, all_rows, all_cols, max(1, ORACLE_STEPS // (problem.k * len(parts))))
        expected = matmul.reference(
            a[:, rows] if problem.trans_a else a[rows], b[cols] if problem.trans_b else b[:, cols], **known
        )
        got = c[np.ix_(rows, cols)]
        unequal = np.argwhere(bits(got) != bits(expected))
        checked, wrong = checked + got.size, wrong + len(unequal)
        if len(unequal) and first is None:
            i, j = unequal[0]
            first = f"c[{rows[i]}, {cols[j]}] = {_shown(got[i, j])}, expected {_shown(expected[i, j])}"
    return Verdict("accel.kernels.matmul.reference", checked, problem.m * problem.n, wrong, first)


def _rectangles(written: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (rows, columns) of the blocks of a mask: rows with one and the same set of columns belong together."""
    import numpy as np

    groups: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(written.any(axis=1)):
        groups.setdefault(np.packbits(written[row]).tobytes(), []).append(int(row))
    for rows in groups.values():
        yield np.array(rows), np.flatnonzero(written[rows[0]])


def _within(rng: Any, rows: Any, cols: Any, budget: int) -> tuple[Any, Any]:
    """Return at most `budget` elements as rows and columns: both ends always, the rest at random, in order."""
    if len(rows) * len(cols) <= budget:
        return rows, cols
    height = min(len(rows), max(1, isqrt(budget), budget // len(cols)))
    width = min(len(cols), max(1, budget // height))
    return _drawn(rng, rows, height), _drawn(rng, cols, width)


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
