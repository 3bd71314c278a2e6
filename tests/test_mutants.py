"""Mutants of programs by hand and of the library: the checker sees mistakes of order, values see the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from programs import copy_program, matmul_program, summa_program
from test_check import barriers, fifo, ring
from test_check_mutants_rows import pulls, streams

import accel
from accel.errors import InputError
from accel.isa.program import Program as Data
from accel.testing import MutationScore, draw_inputs, kernel_property, mutants, mutation_score
from accel.testing.mutation import KINDS

MINI = accel.chip("mini")
SYNCHRONISATION = [kind for kind, (of_order, _) in KINDS.items() if of_order]
ARITHMETIC = [kind for kind in KINDS if kind not in SYNCHRONISATION]
# Programs, and the edits of waits and tokens that are no mistakes in them, by kind. What they have in common: a token
# that nobody takes any more (the last credits), a wait for a slot that nobody has used yet (the first uses), or two
# slots whose waits stand back to back.
BY_HAND: dict[str, tuple[Any, dict[str, int]]] = {
    "copy": (lambda: copy_program(2, 2), {}),
    "matmul": (lambda: matmul_program(3, 4, 5), {}),
    "summa": (lambda: summa_program(2, 3, 2, 2, 2, 5), {"merged slots": 2}),
    "ring": (lambda: ring(3, 4), {"wrong peer": 2, "missing pair": 1, "wait past its use": 2, "inc before its use": 1,
                                  "merged slots": 1}),
    "fifo": (lambda: fifo(5, 2), {"missing inc": 2, "wait past its use": 2, "inc before its use": 2,
                                  "merged slots": 1}),
    "barriers": (lambda: barriers(1, 2, 2), {}),
    "pulls": (pulls, {"wrong peer": 2, "missing pair": 1, "wait past its use": 2, "inc before its use": 1,
                      "merged slots": 2}),
    "streams": (streams, {"missing pair": 9, "wait past its use": 2, "inc before its use": 2}),
}  # fmt: skip
# Small problems of the library: seconds each, with all that a kernel does.
LIBRARY: dict[str, tuple[str, dict[str, Any]]] = {
    "matmul": ("matmul", {"m": 13, "n": 9, "k": 40}),
    "conv2d": ("conv2d", {"n": 1, "h": 5, "w": 4, "c": 3, "k": 4, "r": 3, "s": 3, "pad": 1}),
    "softmax": ("softmax", {"rows": 5, "columns": 24}),
    "layernorm": ("layernorm", {"rows": 5, "columns": 24}),
    "all_reduce": ("all_reduce", {"rows": 3, "cols": 3, "elements": 24}),
    "weight gradient": (
        "conv2d",
        {"n": 2, "h": 5, "w": 4, "c": 3, "k": 4, "r": 3, "s": 3, "pad": 1, "direction": "wgrad"},
    ),
}
EXAMPLES = ("streaming_conv", "halo_exchange", "all_gather", "reduce_scatter")  # the first example of each
# Longer programs: here a sample of their mistakes of order, all others at night.
LONGER: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {"b": 1, "h": 1, "q": 11, "kv": 9, "d": 8, "causal": True}),
    "adamw": ("adamw", {"size": 90}),
    "data gradient": ("conv2d", {"n": 1, "h": 5, "w": 4, "c": 3, "k": 4, "r": 3, "s": 3, "pad": 1,
                                 "direction": "dgrad"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_mistakes_of_order_are_flagged(name: str) -> None:
    make, harmless = BY_HAND[name]
    score = mutation_score(program_of(make()), kinds=SYNCHRONISATION)
    assert score.total > 5
    all_flagged(score)
    assert Counter(s.mutant.kind for s in score.harmless) == harmless
    inputs = draw_inputs(score.program, 3)
    want = score.program.run(inputs)
    for seen in score.harmless:  # proven equal; and so it looks
        for order in ("natural", *range(1, 17)):
            got = seen.mutant.program.run(inputs, schedule=order)
            assert all(np.array_equal(want[n], got[n], equal_nan=True) for n in want), (str(seen.mutant), order)


@pytest.mark.parametrize("name", ["copy", "matmul", "summa", "ring", "pulls", "streams"])
def test_mistakes_of_arithmetic_are_killed(name: str) -> None:
    score = mutation_score(program_of(BY_HAND[name][0]()), kinds=ARITHMETIC)
    assert not score.survivors
    assert not score.equivalent
    assert score.total > 0


def property_of(name: str) -> Any:
    if name in EXAMPLES:
        return kernel_property(name)
    kernel, case = {**LIBRARY, **LONGER}[name]
    return kernel_property(kernel, cases=[case])


@pytest.mark.parametrize("name", [*LIBRARY, *LONGER, *EXAMPLES])
def test_mistakes_of_order_in_the_library(name: str) -> None:
    score = mutation_score(property_of(name), kinds=SYNCHRONISATION, most=60)
    assert score.total > 10
    all_flagged(score)


@pytest.mark.parametrize("name", [*LIBRARY, *LONGER])
def test_mistakes_of_arithmetic_in_the_library(name: str) -> None:
    """Every mistake is killed, or proven to be none; of those there are few: x - y and y - x have one square."""
    score = mutation_score(property_of(name), kinds=ARITHMETIC)
    assert score.total > 20
    assert not score.survivors, str(score)
    assert score.share(False) == 1
    assert score.equivalent_share <= 0.02, str(score)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*LIBRARY, *LONGER, *EXAMPLES])
def test_all_mistakes_of_order_in_the_library(name: str) -> None:
    all_flagged(mutation_score(property_of(name), kinds=SYNCHRONISATION))


def program_of(data: Data) -> accel.Program:
    return accel.Program(data, MINI)


def all_flagged(score: MutationScore) -> None:
    """All of them, balanced ones too, and each with a finding that names both of its lines."""
    assert len(score.flagged) == score.total > 0, str(score)
    assert score.share(True) == 1
    for seen in score.flagged:
        assert any(f.first is not None and f.second is not None for f in seen.findings), (str(seen.mutant), seen)


def test_every_kind_is_made_of_something() -> None:
    made = Counter(m.kind for make, _ in BY_HAND.values() for m in mutants(program_of(make())))
    made.update(m.kind for m in mutants(accel.kernels.matmul.build(MINI, m=13, n=9, k=40)))
    assert set(made) == set(KINDS)


def test_a_mutant_says_what_it_is() -> None:
    program = accel.kernels.matmul.build(MINI, m=8, n=8, k=8)
    found = mutants(program, kinds="missing wait")
    assert found
    for mutant in found:
        assert mutant.synchronisation
        assert mutant.lines
        assert str(mutant).startswith(str(mutant.lines[0]))
        assert "without the wait of" in str(mutant)
        assert mutant.program.isa.instructions == program.isa.instructions
    everything = mutants(program)
    assert len({m.program.isa.code.tobytes() + m.program.isa.views.tobytes() for m in everything}) == len(everything)
    few = mutants(program, most=20, seed=1)
    assert len(few) == 20
    assert len({m.kind for m in few}) > 10


def test_a_test_that_is_too_weak_leaves_survivors() -> None:
    """Zeros as inputs hide nearly every mistake of arithmetic: the score tells."""
    program = accel.kernels.matmul.build(MINI, m=3, n=2, k=2)
    zeros = {"a": [[0.0] * 2] * 3, "b": [[0.0] * 2] * 2}
    score = mutation_score(program, zeros, kinds=["dropped step", "swapped tile", "shifted halo"])
    assert score.survivors
    assert score.share(False) < 1
    assert "random inputs kill it, the inputs that were given do not" in str(score)


def test_a_score_of_what_has_hazards_is_refused() -> None:
    broken = mutants(accel.kernels.matmul.build(MINI, m=8, n=8, k=8), kinds="missing wait")[0].program
    with pytest.raises(InputError, match="itself has hazards, so mutants say nothing"):
        mutation_score(broken)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda p: mutants(3), "mutants are made of a program, got 3"),
        (lambda p: mutants(p, kinds=["missing weight"]), "no kind of mutant 'missing weight'; did you mean"),
        (lambda p: mutants(p, most=0), "most must be a whole number of at least 1, got 0"),
        (lambda p: mutation_score("matmul"), "a mutation score is of a program or a kernel_property, got 'matmul'"),
        (lambda p: mutation_score(p, [3]), "inputs= are arrays by name, one dict or several"),
    ],
)
def test_bad_arguments(call: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        call(accel.kernels.matmul.build(MINI, m=8, n=8, k=8))
    assert text in str(caught.value)
