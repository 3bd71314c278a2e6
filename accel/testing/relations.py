"""Bitwise relations between runs of one kernel, which need no reference: scale, permute, pad, block, adjoint, ...

Each is used as it stands or with options that say which tensors and axes it is about: `relations=[scale_pow2,
permute(x=0, y=0)]`. A relation of your own is a function (trial, run) that returns what is wrong in one line, or None:
`trial.inputs` are the arrays, `run(inputs, shapes)` gives the outputs for others (see `Trial.run`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from accel.errors import InputError, nearest
from accel.lang import tensor
from accel.testing.subjects import LibraryCase, LibrarySubject, NotApplicable, subject_of
from accel.testing.trials import Run, Trial, build_trial, differing, wide

__all__ = [
    "RELATIONS", "Relation", "adjoint", "batch_independent", "block", "identity", "linear", "negate", "one_hot", "pad",
    "permute", "relation_of", "scale_pow2", "transpose",
]  # fmt: skip


class Relation:
    """A named relation: called with options it is one about those, called with (trial, run) it looks."""

    def __init__(self, look: Callable[..., str | None], options: Mapping[str, Any], text: str, kind: str) -> None:
        functools.update_wrapper(self, look)
        self.look, self.options, self.name, self.kind = look, dict(options), text, kind
        self.__name__: str = getattr(look, "__name__", text)

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Return this relation with options, or what is wrong with a trial (one line, None where it holds)."""
        if args and isinstance(args[0], Trial):
            return self.look(*args, **self.options)
        shown = [repr(a) if isinstance(a, str | int | float) else getattr(a, "name", repr(a)) for a in args]
        shown += [f"{name}={getattr(value, 'name', None) or repr(value)}" for name, value in options.items()]
        takes = inspect.signature(self.look).parameters
        known = list(takes)[2:]
        if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            for name in options:
                if name not in known:
                    what = ", ".join(known) or "none"
                    raise InputError(f"{self.__name__} has no option {name!r}{nearest(name, known)}; it has {what}")
        chosen = {**self.options, **_named(self.look, args), **options}
        return Relation(self.look, chosen, f"{self.__name__}({', '.join(shown)})", self.kind)


def _named(look: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, Any]:
    """Return positional options by the names of the parameters that follow (trial, run)."""
    names = list(inspect.signature(look).parameters)[2:]
    if len(args) > len(names):
        raise InputError(f"{look.__name__} takes the options {', '.join(names)}; got {args!r}")
    return dict(zip(names, args, strict=False))


def _relation(kind: str) -> Callable[[Callable[..., str | None]], Relation]:
    return lambda look: Relation(look, {}, look.__name__, kind)


# --- which tensors and axes ------------------------------------------------------------------------------------------
def _floats(trial: Trial) -> list[str]:
    return [n for n, a in trial.inputs.items() if np.asarray(a).dtype.kind not in "iu"]


def _input(trial: Trial, name: str | None) -> str:
    if name is None:
        found = _floats(trial)
        if not found:
            raise NotApplicable("no input holds floats")
        return found[0]
    if name not in trial.inputs:
        raise InputError(f"no input {name!r}; it has {', '.join(trial.inputs)}{nearest(name, trial.inputs)}")
    return name


def _output(trial: Trial, name: str | None) -> str:
    known = trial.program.outputs
    if name is None:
        return next(iter(known))
    if name not in known:
        raise InputError(f"no output {name!r}; it has {', '.join(known)}{nearest(name, known)}")
    return name


def _axes(trial: Trial, axes: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return (inputs, outputs) with the axis that is meant in each; by default the first of the first and of all."""
    known = {**trial.program.inputs, **trial.program.outputs}
    if not axes:
        first = next(iter(trial.inputs))
        size = known[first][0][0]
        outs = {n: 0 for n, (shape, _) in trial.program.outputs.items() if shape[0] == size}
        axes = {first: 0, **outs}
        if not outs:
            raise NotApplicable(f"no output has the {size} rows of {first}; name axes, as in permute(x=0, y=1)")
    for name, axis in axes.items():
        if name not in known:
            raise InputError(f"no tensor {name!r}; it has {', '.join(known)}{nearest(name, known)}")
        if type(axis) is not int or not -len(known[name][0]) <= axis < len(known[name][0]):
            raise InputError(f"{name} has {len(known[name][0])} axes, got axis {axis!r}")
    sizes = {known[n][0][a] for n, a in axes.items()}
    if len(sizes) != 1:
        raise InputError(f"the axes {dict(axes)} have different sizes {sorted(sizes)}; name axes that run together")
    ins = {n: a for n, a in axes.items() if n in trial.inputs}
    if not ins:
        raise InputError(f"none of {', '.join(axes)} is an input; it has {', '.join(trial.inputs)}")
    return ins, {n: a for n, a in axes.items() if n in trial.program.outputs}


def _same(
    trial: Trial, got: Mapping[str, Any], want: Mapping[str, Any], who: str, *, signs: bool = False
) -> str | None:
    return differing(trial.program, got, want, who, exact_bits=False, zero_signs=signs)


def _negated(array: Any, trial: Trial, name: str) -> Any:
    dtype = trial.program.inputs[name][1]
    if dtype in ("uint8", "uhp16"):
        raise NotApplicable(f"{name} is {dtype}, which has no signs")
    return -np.asarray(array)


# --- relations on random floats ---------------------------------------------------------------------------------------
@_relation("float")
def scale_pow2(trial: Trial, run: Run, operand: str | None = None, exponent: int = 3, degree: int = 1) -> str | None:
    """2^exponent times `operand` gives 2^(degree exponent) times every output, to the bit.

    Holds for whatever is homogeneous of that degree in the operand, away from the ends of the formats' ranges.
    """
    name = _input(trial, operand)
    scaled = np.asarray(trial.inputs[name]) * np.asarray(2.0**exponent, np.asarray(trial.inputs[name]).dtype)
    want = {n: wide(a) * 2.0 ** (degree * exponent) for n, a in run().items()}
    return _same(trial, run({name: scaled}), want, f"2^{degree * exponent} times the output before {name} was scaled")


@_relation("float")
def negate(trial: Trial, run: Run, operand: str | None = None) -> str | None:
    """The negative of `operand` gives the negative of every output (zeros of either sign are equal)."""
    name = _input(trial, operand)
    want = {n: -wide(a) for n, a in run().items()}
    return _same(trial, run({name: _negated(trial.inputs[name], trial, name)}), want, f"minus the output for {name}")


@_relation("float")
def permute(trial: Trial, run: Run, **axes: int) -> str | None:
    """Permuting the named axes of inputs permutes the named axes of outputs, and changes no other output.

    permute(a=0, c=0) is about the rows of a matmul; permute(a=1, b=0), without an output, says that the order of a sum
    does not matter, which holds in whole numbers only. By default: the first axis of the first input and of outputs.
    """
    ins, outs = _axes(trial, axes)
    name, axis = next(iter(ins.items()))
    before, size = run(), trial.inputs[name].shape[axis]
    for order in (np.arange(size)[::-1], trial.rng.permutation(size)):
        moved = {n: np.take(trial.inputs[n], order, a) for n, a in ins.items()}
        want = {n: np.take(array, order, outs[n]) if n in outs else array for n, array in before.items()}
        text = _same(trial, run(moved), want, f"the output before axis {axis} of {name} was permuted")
        if text is not None:
            return text
    return None


@_relation("float")
def batch_independent(trial: Trial, run: Run, **axes: int) -> str | None:
    """One slice along the named axes depends on no other slice: whatever stands there, its outputs keep their bits."""
    ins, outs = _axes(trial, axes)
    name, axis = next(iter(ins.items()))
    size = trial.inputs[name].shape[axis]
    if size < 2 or not outs:
        raise NotApplicable(f"axis {axis} of {name} has one slice")
    other, before = trial.drawn(trial.kind, trial.seed + 1), run()
    for kept in sorted({0, int(trial.rng.integers(size)), size - 1}):
        mixed = {n: np.array(other[n]) for n in ins}
        for n, a in ins.items():
            np.moveaxis(mixed[n], a, 0)[kept] = np.moveaxis(np.asarray(trial.inputs[n]), a, 0)[kept]
        after = run(mixed)
        want, got = ({n: np.take(made[n], [kept], a) for n, a in outs.items()} for made in (before, after))
        text = _same(trial, got, want, f"slice {kept} while the others were other numbers", signs=True)
        if text is not None:
            return text
    return None


@_relation("float")
def block(trial: Trial, run: Run, **axes: int) -> str | None:
    """The kernel built for a part of the named axes gives that part of the outputs, to the bit."""
    ins, outs = _axes(trial, axes)
    name, axis = next(iter(ins.items()))
    size = trial.inputs[name].shape[axis]
    if size < 2:
        raise NotApplicable(f"axis {axis} of {name} has one slice")
    first = int(trial.rng.integers(0, size - 1))
    part = range(first, int(trial.rng.integers(first + 1, size + (first > 0))))
    inputs = {n: np.take(trial.inputs[n], part, a) for n, a in ins.items()}
    want = {n: np.take(array, part, outs[n]) for n, array in run().items() if n in outs}
    return _same(trial, run(inputs, {n: a.shape for n, a in want.items()}), want,
                 f"places {part.start} to {part.stop - 1} of the whole")  # fmt: skip


@_relation("float")
def pad(trial: Trial, run: Run, extra: int = 3, **axes: int) -> str | None:
    """Zeros after the end of the named axes leave what was there: new places of outputs aside, nothing changes.

    pad(a=0, c=0) adds rows to a matmul; pad(a=1, b=0), without an output, adds steps of 0 to its sums.
    """
    ins, outs = _axes(trial, axes)
    before = run()
    inputs = {n: _with_zeros(trial.inputs[n], a, extra) for n, a in ins.items()}
    shapes = {n: _with_zeros(before[n], a, extra).shape for n, a in outs.items()}
    after = run(inputs, shapes)
    got = {n: np.take(a, range(before[n].shape[outs[n]]), outs[n]) if n in outs else a for n, a in after.items()}
    return _same(trial, got, before, f"the output before {extra} zeros were added")


def _with_zeros(array: Any, axis: int, extra: int) -> Any:
    widths = [(0, extra if d == axis % np.ndim(array) else 0) for d in range(np.ndim(array))]
    return np.pad(np.asarray(array), widths)


@_relation("float")
def transpose(trial: Trial, run: Run, **exchanged: str) -> str | None:
    """The kernel of transposed inputs gives the transposed outputs, to the bit.

    transpose(a="b", b="a") exchanges operands too: c = a b becomes c^T = b^T a^T. Only the last two axes change places.
    """
    source = {n: exchanged.get(n, n) for n in trial.inputs}
    if set(source.values()) != set(trial.inputs):
        raise InputError(f"transpose({exchanged}) must exchange inputs among {', '.join(trial.inputs)}")
    inputs = {n: _flipped(trial.inputs[source[n]], source[n]) for n in trial.inputs}
    want = {n: _flipped(a, n) for n, a in run().items()}
    return _same(trial, run(inputs, {n: a.shape for n, a in want.items()}), want, "the transposed output")


def _flipped(array: Any, name: str) -> Any:
    if np.ndim(array) < 2:
        raise NotApplicable(f"{name} has one axis")
    return np.swapaxes(np.asarray(array), -1, -2)


@_relation("float")
def identity(trial: Trial, run: Run, operand: str = "b", source: str = "a", output: str | None = None) -> str | None:
    """With ones on the diagonal of `operand` the output is `source`, cut or filled with zeros to its shape."""
    which, taken, made = _input(trial, operand), _input(trial, source), _output(trial, output)
    shape = trial.program.inputs[which][0]
    if len(shape) != 2:
        raise NotApplicable(f"{which} has {len(shape)} axes and no diagonal")
    eye = np.eye(*shape).astype(np.asarray(trial.inputs[which]).dtype)
    want = np.zeros(trial.program.outputs[made][0])
    given = wide(trial.inputs[taken])
    if given.ndim != want.ndim:
        raise NotApplicable(f"{taken} and {made} have different ranks")
    common = tuple(slice(0, min(m, n)) for m, n in zip(given.shape, want.shape, strict=True))
    want[common] = given[common]
    return _same(trial, {made: run({which: eye})[made]}, {made: want}, f"{taken}, as {which} is the identity")


# --- relations on whole numbers ---------------------------------------------------------------------------------------
@_relation("int")
def linear(trial: Trial, run: Run, operand: str | None = None, factors: tuple[int, int] = (2, -3)) -> str | None:
    """f(a x + b z) = a f(x) + b f(z) in whole numbers, with (a, b) = `factors`, in one operand."""
    name = _input(trial, operand)
    other = trial.drawn("int", trial.seed + 1)[name]
    a, b = factors
    mixed = (a * wide(trial.inputs[name]) + b * wide(other)).astype(np.asarray(trial.inputs[name]).dtype)
    one, two = run(), run({name: other})
    want = {n: a * wide(one[n]) + b * wide(two[n]) for n in one}
    return _same(trial, run({name: mixed}), want, f"{a} f(x) + {b} f(z) of the sum in {name}")


@_relation("int")
def one_hot(trial: Trial, run: Run, operand: str | None = None, probes: int = 4) -> str | None:
    """A single 1 in `operand`, zeros elsewhere, gives what the reference says of it; at `probes` places."""
    name = _input(trial, operand)
    like = np.asarray(trial.inputs[name])
    for place in trial.rng.permutation(like.size)[:probes]:
        probe = np.zeros_like(like)
        probe.reshape(-1)[place] = 1
        there = trial.with_inputs({**trial.inputs, name: probe})
        text = _same(trial, run({name: probe}), there.expected(model=True), "the reference")
        if text is not None:
            return f"with a 1 at {name}{[int(i) for i in np.unravel_index(place, like.shape)]}: {text}"
    return None


@_relation("int")
def adjoint(
    trial: Trial, run: Run, backward: Any = None, of: str | None = None, output: str | None = None,
    gets: str | None = None, gives: str | None = None, **case: Any,
) -> str | None:  # fmt: skip
    """<f(x), gy> = <x, g(gy)> in whole numbers: `backward` computes the gradient of the operand `of`.

    backward: a kernel, a library kernel's name, or a function build(chip, **case). It takes the gradient of `output`
    (as `gets`, by default g<output>) beside inputs of the forward kernel, and returns that of `of` (as `gives`, by
    default g<of>). `case`: arguments of its build; the others are the forward kernel's, with the gradients' tensors
    beside them. Ties forward, data gradient and weight gradient together without any reference.
    """
    if backward is None:
        raise InputError("adjoint needs the kernel of the gradient; write adjoint(backward, of='x')")
    name, made = _input(trial, of), _output(trial, output)
    gy, gx = gets or f"g{made}", gives or f"g{name}"
    other = subject_of(backward, None, None)
    known = {**trial.program.inputs, **trial.program.outputs}
    theirs = _backward_case(trial, other, {gy: known[made], gx: known[name]}, made, case)
    there = build_trial(other, theirs, trial.chip, "int", trial.seed + 1)
    absent = [n for n in there.inputs if n != gy and n not in trial.inputs]
    if gy not in there.inputs or absent or gx not in there.program.outputs:
        raise InputError(
            f"{other.name} takes {', '.join(there.inputs)} and gives {', '.join(there.program.outputs)}; adjoint needs "
            f"{gy} beside inputs of the forward kernel, and {gx}; say gets= and gives= where they have other names"
        )
    given = {n: there.inputs[gy] if n == gy else trial.inputs[n] for n in there.inputs}
    forward, gradient = run()[made], there.run(given)[gx]
    left, right = _inner(forward, given[gy]), _inner(trial.inputs[name], gradient)
    if left == right:
        return None
    return f"<{made}, {gy}> is {left} and <{name}, {gx}> is {right}: {other.name} is not the adjoint in {name}"


def _backward_case(
    trial: Trial, other: Any, gradients: Mapping[str, Any], made: str, more: Mapping[str, Any]
) -> Any:  # fmt: skip
    if isinstance(other, LibrarySubject):
        mine = trial.case.problem if isinstance(trial.case, LibraryCase) else None
        fields = {} if mine is None else {f: getattr(mine, f) for f in mine.__struct_fields__}
        taken = other.kernel.problem.__struct_fields__
        return other.case({**{n: v for n, v in fields.items() if n in taken and n not in other.preset}, **more})
    own = {n: v for n, v in trial.case.items() if n != made} if isinstance(trial.case, Mapping) else {}
    wanted = {**own, **{n: tensor(*shape) for n, shape in gradients.items()}, **more}
    signature = getattr(other.source, "signature", None) or inspect.signature(other.source)
    takes = signature.parameters
    if any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        return wanted
    return {n: v for n, v in wanted.items() if n in takes or n in ("mesh", "resident")}


def _inner(left: Any, right: Any) -> int | Fraction:
    """Return the inner product of two arrays without rounding."""
    x, y = (np.asarray(a, np.float64).ravel() for a in (left, right))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NotApplicable("a result is not finite")
    if all((a == np.rint(a)).all() and np.abs(a).max(initial=0) < 2**31 for a in (x, y)):
        return sum(int(a) * int(b) for a, b in zip(x, y, strict=True))
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)), Fraction(0))


RELATIONS: dict[str, Relation] = {
    r.name: r
    for r in (scale_pow2, negate, permute, batch_independent, block, pad, transpose, identity, linear, one_hot, adjoint)
}


def relation_of(given: Any) -> Relation:
    """Return a relation: one of these, the name of one, or a user's function (trial, run); InputError otherwise."""
    if isinstance(given, Relation):
        return given
    if isinstance(given, str):
        if given not in RELATIONS:
            raise InputError(f"no relation {given!r}{nearest(given, RELATIONS)}; use {', '.join(RELATIONS)}")
        return RELATIONS[given]
    if callable(given):
        return Relation(given, {}, getattr(given, "__name__", type(given).__name__), "float")
    raise InputError(f"a relation is a function (trial, run) or one of {', '.join(RELATIONS)}, got {given!r}")
